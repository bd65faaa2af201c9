//! How documents stand in a chunk, before it is compressed: for each the key, then the body, each behind
//! its length.
//!
//! ```text
//! entry = key-length:u32 key body-length:u32 body          (numbers little-endian)
//! key   = 1 i64 | 2 uuid(16 bytes) | 3 text(UTF-8, to its end) | 4 part…
//! part  = length:u32 key
//! body  = tagged JSON, the very bytes that the store gave
//! ```

use crate::error::ArchiveError;
use bytes::Bytes;
use uuid::Uuid;
use whimbrel_model::Key;

const INT: u8 = 1;
const UUID: u8 = 2;
const TEXT: u8 = 3;
const TUPLE: u8 = 4;

/// Keys of keys: a primary key has no more levels than this.
const DEEPEST: u32 = 8;

/// Appends a key behind its length.
pub(crate) fn write_key(key: &Key, out: &mut Vec<u8>) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    match key {
        Key::Int(n) => {
            out.push(INT);
            out.extend_from_slice(&n.to_le_bytes());
        }
        Key::Uuid(uuid) => {
            out.push(UUID);
            out.extend_from_slice(uuid.get().as_bytes());
        }
        Key::Text(text) => {
            out.push(TEXT);
            out.extend_from_slice(text.as_bytes());
        }
        Key::Tuple(parts) => {
            out.push(TUPLE);
            for part in parts {
                write_key(part, out);
            }
        }
    }
    let length = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

/// Takes entries off the front of a chunk's bytes, without copying bodies.
pub(crate) struct Entries {
    rest: Bytes,
}

impl Entries {
    pub(crate) fn new(raw: Bytes) -> Self {
        Self { rest: raw }
    }

    /// `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(Key, Bytes)>, ArchiveError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = take(&mut self.rest)?;
        let key = read_key(&key, DEEPEST)?;
        let body = take(&mut self.rest)?;
        Ok(Some((key, body)))
    }
}

fn cut() -> ArchiveError {
    ArchiveError::invalid("a document is cut short")
}

fn take(rest: &mut Bytes) -> Result<Bytes, ArchiveError> {
    let head = rest.first_chunk::<4>().ok_or_else(cut)?;
    let length = u32::from_le_bytes(*head) as usize;
    if rest.len() - 4 < length {
        return Err(cut());
    }
    let part = rest.slice(4..4 + length);
    let _ = rest.split_to(4 + length);
    Ok(part)
}

fn read_key(bytes: &Bytes, deepest: u32) -> Result<Key, ArchiveError> {
    let wrong = || ArchiveError::invalid("a document's key is damaged");
    let (kind, rest) = bytes.split_first().ok_or_else(wrong)?;
    Ok(match *kind {
        INT => Key::Int(i64::from_le_bytes(rest.try_into().map_err(|_| wrong())?)),
        UUID => Key::uuid(Uuid::from_bytes(rest.try_into().map_err(|_| wrong())?)),
        TEXT => Key::text(std::str::from_utf8(rest).map_err(|_| wrong())?),
        TUPLE => {
            let deeper = deepest.checked_sub(1).ok_or_else(wrong)?;
            let mut rest = bytes.slice(1..);
            let mut parts = Vec::new();
            while !rest.is_empty() {
                parts.push(read_key(&take(&mut rest)?, deeper)?);
            }
            Key::Tuple(parts)
        }
        _ => return Err(wrong()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(key: &Key) -> Key {
        let mut out = Vec::new();
        write_key(key, &mut out);
        out.extend_from_slice(&2_u32.to_le_bytes());
        out.extend_from_slice(b"{}");
        let mut entries = Entries::new(out.into());
        let (back, body) = entries.next().unwrap().unwrap();
        assert_eq!(&body[..], b"{}");
        assert_eq!(entries.next(), Ok(None));
        back
    }

    fn keys() -> impl Strategy<Value = Key> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Key::Int),
            any::<u128>().prop_map(|n| Key::uuid(Uuid::from_u128(n))),
            any::<String>().prop_map(Key::Text),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| {
            prop::collection::vec(inner, 0..3).prop_map(Key::Tuple)
        })
    }

    proptest! {
        #[test]
        fn every_key_comes_back(key in keys()) {
            prop_assert_eq!(round_trip(&key), key);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut entries = Entries::new(bytes.into());
            while let Ok(Some(_)) = entries.next() {}
        }
    }

    #[test]
    fn keys_of_keys_of_keys_end_somewhere() {
        let mut key = Key::Int(1);
        for _ in 0..20 {
            key = Key::Tuple(vec![key]);
        }
        let mut out = Vec::new();
        write_key(&key, &mut out);
        out.extend_from_slice(&0_u32.to_le_bytes());
        assert!(Entries::new(out.into()).next().is_err());
    }
}
