//! Keys as table columns.

use super::table::quoted;
use super::wire::{Encode, Single, Wire, raw};
use bytes::{BufMut, BytesMut};
use tokio_postgres::Row;
use uuid::Uuid;
use whimbrel_model::{Key, KeyKind};

#[derive(Clone, Debug)]
pub(crate) struct KeyColumn {
    pub name: String,
    pub part: Part,
}

/// How one key column is sent and read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// `int2`, `int4`, `int8` by their bytes.
    Int(u8),
    Uuid,
    /// `text` and `varchar`, which share their bytes.
    Text,
    /// Any other ordered type, as the text that its own output function writes. The name is the type's,
    /// quoted.
    Cast(String),
}

impl Part {
    pub fn kind(&self) -> KeyKind {
        match self {
            Part::Int(_) => KeyKind::Int,
            Part::Uuid => KeyKind::Uuid,
            Part::Text | Part::Cast(_) => KeyKind::Text,
        }
    }

    pub fn wire(&self) -> Wire {
        match self {
            Part::Int(_) => Wire::Int8,
            Part::Uuid => Wire::Uuid,
            Part::Text | Part::Cast(_) => Wire::Text,
        }
    }

    /// `expression` is of the wire's type; the answer compares with the column.
    pub fn cast(&self, expression: &str) -> String {
        match self {
            Part::Cast(kind) => format!("{expression}::{kind}"),
            _ => expression.to_owned(),
        }
    }

    fn takes(&self, key: &Key) -> Result<(), String> {
        let fits = match (self, key) {
            (Part::Int(bytes), Key::Int(n)) => {
                let fits = match bytes {
                    2 => i16::try_from(*n).is_ok(),
                    4 => i32::try_from(*n).is_ok(),
                    _ => true,
                };
                if !fits {
                    return Err(format!("the key is out of the range of int{bytes}"));
                }
                true
            }
            (Part::Uuid, Key::Uuid(_)) => true,
            (Part::Text | Part::Cast(_), Key::Text(text)) => {
                if text.contains('\0') {
                    return Err("the key holds U+0000, which PostgreSQL's text cannot".to_owned());
                }
                true
            }
            _ => false,
        };
        if fits {
            Ok(())
        } else {
            Err(format!(
                "the key is of kind {}, the table's of kind {}",
                kind_name(&key.kind()),
                kind_name(&self.kind())
            ))
        }
    }
}

fn kind_name(kind: &KeyKind) -> &'static str {
    match kind {
        KeyKind::Int => "int",
        KeyKind::Uuid => "uuid",
        KeyKind::Text => "text",
        KeyKind::Tuple(_) => "tuple",
    }
}

/// The table's key as the model sees it.
pub(crate) fn kind(columns: &[KeyColumn]) -> KeyKind {
    match columns {
        [one] => one.part.kind(),
        many => KeyKind::Tuple(many.iter().map(|c| c.part.kind()).collect()),
    }
}

/// Whether the table can have a row of this key; the error says why not.
pub(crate) fn fits(columns: &[KeyColumn], key: &Key) -> Result<(), String> {
    match (columns, key) {
        ([one], key) => one.part.takes(key),
        (many, Key::Tuple(parts)) if many.len() == parts.len() => many
            .iter()
            .zip(parts)
            .try_for_each(|(column, part)| column.part.takes(part)),
        (many, _) => Err(format!("the table's key has {} columns", many.len())),
    }
}

/// The part of a key that goes into column `at`. The key fits.
pub(crate) fn part(key: &Key, at: usize) -> &Key {
    match key {
        Key::Tuple(parts) => parts.get(at).unwrap_or(key),
        single => single,
    }
}

impl Encode for Key {
    fn encode(&self, out: &mut BytesMut) -> bool {
        match self {
            Key::Int(n) => out.put_i64(*n),
            Key::Uuid(uuid) => out.put_slice(uuid.get().as_bytes()),
            Key::Text(text) => out.put_slice(text.as_bytes()),
            Key::Tuple(_) => return false,
        }
        true
    }
}

/// One key as one parameter a column.
pub(crate) fn params(columns: &[KeyColumn], key: &Key) -> Vec<Single<Key>> {
    (0..columns.len())
        .map(|at| Single(part(key, at).clone()))
        .collect()
}

/// The columns as they are read by [`decode`], of a table called `t`.
pub(crate) fn select_list(columns: &[KeyColumn]) -> String {
    let names: Vec<String> = columns
        .iter()
        .map(|column| match column.part {
            Part::Cast(_) => format!("t.{}::text", quoted(&column.name)),
            _ => format!("t.{}", quoted(&column.name)),
        })
        .collect();
    names.join(", ")
}

/// Reads a key from a row's first columns. The error names the column.
pub(crate) fn decode(columns: &[KeyColumn], row: &Row) -> Result<Key, String> {
    if let [one] = columns {
        return decode_part(one, row, 0);
    }
    columns
        .iter()
        .enumerate()
        .map(|(at, column)| decode_part(column, row, at))
        .collect::<Result<_, _>>()
        .map(Key::Tuple)
}

fn decode_part(column: &KeyColumn, row: &Row, at: usize) -> Result<Key, String> {
    let bytes = raw(row, at).ok().flatten();
    let key = bytes.and_then(|bytes| match column.part {
        Part::Int(_) => int(bytes).map(Key::Int),
        Part::Uuid => Uuid::from_slice(bytes).ok().map(Key::uuid),
        Part::Text | Part::Cast(_) => std::str::from_utf8(bytes).ok().map(Key::text),
    });
    key.ok_or_else(|| format!("key column {} cannot be read", column.name))
}

fn int(bytes: &[u8]) -> Option<i64> {
    Some(match bytes.len() {
        2 => i16::from_be_bytes(bytes.try_into().ok()?).into(),
        4 => i32::from_be_bytes(bytes.try_into().ok()?).into(),
        8 => i64::from_be_bytes(bytes.try_into().ok()?),
        _ => return None,
    })
}

/// A part in the binary form of its own column, for COPY. `None` for a type that only text can give.
pub(crate) fn copy_bytes(part: &Part, key: &Key, out: &mut Vec<u8>) -> Option<()> {
    out.clear();
    match (part, key) {
        (Part::Int(2), Key::Int(n)) => out.extend(i16::try_from(*n).ok()?.to_be_bytes()),
        (Part::Int(4), Key::Int(n)) => out.extend(i32::try_from(*n).ok()?.to_be_bytes()),
        (Part::Int(_), Key::Int(n)) => out.extend(n.to_be_bytes()),
        (Part::Uuid, Key::Uuid(uuid)) => out.extend(uuid.get().as_bytes()),
        (Part::Text, Key::Text(text)) => out.extend(text.as_bytes()),
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_no_row_can_have_is_told() {
        let column = |part| {
            vec![KeyColumn {
                name: "id".to_owned(),
                part,
            }]
        };
        let check = |part: Part, key: Key, fits_it: bool| {
            assert_eq!(fits(&column(part), &key).is_ok(), fits_it, "{key:?}");
        };
        check(Part::Int(2), Key::Int(32_767), true);
        check(Part::Int(2), Key::Int(32_768), false);
        check(Part::Int(4), Key::Int(i64::from(i32::MIN)), true);
        check(Part::Int(4), Key::Int(i64::MAX), false);
        check(Part::Int(8), Key::Int(i64::MAX), true);
        check(Part::Int(8), Key::text("1"), false);
        check(Part::Text, Key::text("a"), true);
        check(Part::Text, Key::text("a\0"), false);
        check(Part::Text, Key::Tuple(vec![Key::Int(1)]), false);
        check(Part::Uuid, Key::text("x"), false);
        let two = [column(Part::Int(4)), column(Part::Text)].concat();
        assert!(fits(&two, &Key::Tuple(vec![Key::Int(1), Key::text("x")])).is_ok());
        assert!(fits(&two, &Key::Tuple(vec![Key::Int(1)])).is_err());
        assert!(fits(&two, &Key::Int(1)).is_err());
    }
}
