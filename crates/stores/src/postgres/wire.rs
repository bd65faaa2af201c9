//! PostgreSQL's binary encodings, as far as a store needs them: raw columns, arrays of a batch's keys and
//! documents, and COPY in both formats.

use bytes::{BufMut, Bytes, BytesMut};
use std::error::Error;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Row, types};

/// A column's bytes as they came, whatever its type. `None` inside is SQL's NULL.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw<'a>(pub Option<&'a [u8]>);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Raw(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Raw(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// # Errors
/// The row has no such column (the statement and its reader disagree).
pub(crate) fn raw(row: &Row, at: usize) -> Result<Option<&[u8]>, tokio_postgres::Error> {
    row.try_get::<_, Raw<'_>>(at).map(|raw| raw.0)
}

/// The types that parameters are sent as. Every placeholder is cast to one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Int4,
    Int8,
    Uuid,
    Text,
    Json,
    Jsonb,
    Xid,
}

impl Wire {
    pub fn sql(self) -> &'static str {
        match self {
            Wire::Int4 => "int4",
            Wire::Int8 => "int8",
            Wire::Uuid => "uuid",
            Wire::Text => "text",
            Wire::Json => "json",
            Wire::Jsonb => "jsonb",
            Wire::Xid => "xid",
        }
    }

    fn oid(self) -> u32 {
        match self {
            Wire::Int4 => Type::INT4.oid(),
            Wire::Int8 => Type::INT8.oid(),
            Wire::Uuid => Type::UUID.oid(),
            Wire::Text => Type::TEXT.oid(),
            Wire::Json => Type::JSON.oid(),
            Wire::Jsonb => Type::JSONB.oid(),
            Wire::Xid => Type::XID.oid(),
        }
    }
}

/// One value that encodes itself; it must match the [`Wire`] type it is sent as.
pub(crate) trait Encode: Sync {
    /// Appends the value's bytes; `false` means NULL (and nothing was appended).
    fn encode(&self, out: &mut BytesMut) -> bool;
}

/// One parameter.
#[derive(Debug)]
pub(crate) struct Single<T>(pub T);

/// A parameter of an array type: one element a write.
pub(crate) struct Many<'a, T> {
    pub wire: Wire,
    pub items: Vec<&'a T>,
}

impl<T> std::fmt::Debug for Many<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]", self.wire.sql(), self.items.len())
    }
}

impl<T: Encode + std::fmt::Debug> ToSql for Single<T> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        Ok(if self.0.encode(out) {
            IsNull::No
        } else {
            IsNull::Yes
        })
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<T: Encode> ToSql for Many<'_, T> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i32(1); // dimensions
        out.put_i32(1); // may hold NULLs
        out.put_u32(self.wire.oid());
        out.put_i32(i32::try_from(self.items.len())?);
        out.put_i32(1); // lower bound
        for item in &self.items {
            let at = out.len();
            out.put_i32(-1);
            if item.encode(out) {
                let length = i32::try_from(out.len() - at - 4)?;
                out[at..at + 4].copy_from_slice(&length.to_be_bytes());
            }
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl Encode for String {
    fn encode(&self, out: &mut BytesMut) -> bool {
        out.put_slice(self.as_bytes());
        true
    }
}

impl Encode for i64 {
    fn encode(&self, out: &mut BytesMut) -> bool {
        out.put_i64(*self);
        true
    }
}

impl Encode for i32 {
    fn encode(&self, out: &mut BytesMut) -> bool {
        out.put_i32(*self);
        true
    }
}

impl Encode for [u8; 4] {
    fn encode(&self, out: &mut BytesMut) -> bool {
        out.put_slice(self);
        true
    }
}

/// Collects rows for COPY and hands them out in pieces of about this size.
const PIECE_BYTES: usize = 128 * 1024;

/// COPY's binary format.
pub(crate) struct BinaryCopy {
    out: BytesMut,
}

impl BinaryCopy {
    pub fn begin() -> Self {
        let mut out = BytesMut::with_capacity(PIECE_BYTES + PIECE_BYTES / 4);
        out.put_slice(b"PGCOPY\n\xff\r\n\0");
        out.put_i32(0); // flags
        out.put_i32(0); // length of the header's extension
        Self { out }
    }

    pub fn row(&mut self, fields: i16) {
        self.out.put_i16(fields);
    }

    /// A field whose bytes are `prefix` and then `value`; `None` is NULL.
    pub fn field(&mut self, prefix: &[u8], value: Option<&[u8]>) {
        let Some(value) = value else {
            self.out.put_i32(-1);
            return;
        };
        // A batch's limits keep every field far below 2 GiB; the server would refuse a wrong length.
        let length = i32::try_from(prefix.len() + value.len()).unwrap_or(i32::MAX);
        self.out.put_i32(length);
        self.out.put_slice(prefix);
        self.out.put_slice(value);
    }

    /// The rows so far, where they are worth sending.
    pub fn piece(&mut self) -> Option<Bytes> {
        take_piece(&mut self.out)
    }

    pub fn end(mut self) -> Bytes {
        self.out.put_i16(-1);
        self.out.freeze()
    }
}

/// COPY's text format, for columns of every type.
pub(crate) struct TextCopy {
    out: BytesMut,
    fields: usize,
}

impl TextCopy {
    pub fn begin() -> Self {
        Self {
            out: BytesMut::with_capacity(PIECE_BYTES + PIECE_BYTES / 4),
            fields: 0,
        }
    }

    pub fn field(&mut self, value: Option<&[u8]>) {
        if self.fields > 0 {
            self.out.put_u8(b'\t');
        }
        self.fields += 1;
        let Some(value) = value else {
            self.out.put_slice(b"\\N");
            return;
        };
        let mut rest = value;
        while let Some(at) = rest
            .iter()
            .position(|b| matches!(b, b'\\' | b'\n' | b'\r' | b'\t'))
        {
            self.out.put_slice(&rest[..at]);
            self.out.put_slice(match rest[at] {
                b'\\' => b"\\\\",
                b'\n' => b"\\n",
                b'\r' => b"\\r",
                _ => b"\\t",
            });
            rest = &rest[at + 1..];
        }
        self.out.put_slice(rest);
    }

    pub fn end_row(&mut self) {
        self.out.put_u8(b'\n');
        self.fields = 0;
    }

    pub fn piece(&mut self) -> Option<Bytes> {
        take_piece(&mut self.out)
    }

    pub fn end(self) -> Bytes {
        self.out.freeze()
    }
}

fn take_piece(out: &mut BytesMut) -> Option<Bytes> {
    (out.len() >= PIECE_BYTES).then(|| {
        let piece = out.split().freeze();
        out.reserve(PIECE_BYTES + PIECE_BYTES / 4);
        piece
    })
}

/// Parameters by reference, as the driver wants them.
pub(crate) type Params<'a> = Vec<&'a (dyn types::ToSql + Sync)>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_text_escapes_what_would_end_a_field() {
        let mut copy = TextCopy::begin();
        copy.field(Some(b"a\tb\\N\r\n"));
        copy.field(None);
        copy.field(Some(b""));
        copy.end_row();
        assert_eq!(&copy.end()[..], b"a\\tb\\\\N\\r\\n\t\\N\t\n");
    }

    #[test]
    fn an_array_is_header_and_elements() {
        let (a, b) = (7i32, 8i32);
        let many = Many {
            wire: Wire::Int4,
            items: vec![&a, &b],
        };
        let mut out = BytesMut::new();
        many.to_sql(&Type::INT4_ARRAY, &mut out).unwrap();
        let words: Vec<u32> = out
            .chunks(4)
            .map(|c| u32::from_be_bytes(c.try_into().unwrap()))
            .collect();
        assert_eq!(words, [1, 1, 23, 2, 1, 4, 7, 4, 8]);
    }
}
