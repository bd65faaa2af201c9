//! Keys as bytes that sort as [`Key`]s do, so that a run in key order only ever appends to an index.

use whimbrel_model::Key;

/// PostgreSQL's B-tree takes about 2,700 bytes an entry, so a longer key is cut here and told apart by
/// its hash.
const LONGEST: usize = 1024;
const KEPT: usize = 512;

const INT: u8 = 1;
const UUID: u8 = 2;
const TEXT: u8 = 3;
const TUPLE: u8 = 4;
const END: u8 = 0;

pub(super) fn key_bytes(key: &Key) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.size() + 8);
    encode(key, &mut out);
    shortened(out)
}

/// A label (any text, also one with U+0000, which a PostgreSQL text cannot hold).
#[cfg(feature = "postgres")]
pub(super) fn label_bytes(label: &str) -> Vec<u8> {
    shortened(label.as_bytes().to_vec())
}

fn shortened(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() > LONGEST {
        let hash = blake3::hash(&bytes);
        bytes.truncate(KEPT);
        bytes.extend_from_slice(hash.as_bytes());
        // Neither a whole key nor a label ever ends in this byte.
        bytes.push(0xFF);
    }
    bytes
}

fn encode(key: &Key, out: &mut Vec<u8>) {
    match key {
        Key::Int(n) => {
            out.push(INT);
            // With the sign bit turned over, negative numbers sort before positive ones.
            out.extend_from_slice(&(n.cast_unsigned() ^ (1 << 63)).to_be_bytes());
        }
        Key::Uuid(uuid) => {
            out.push(UUID);
            out.extend_from_slice(uuid.get().as_bytes());
        }
        Key::Text(text) => {
            out.push(TEXT);
            // U+0000 becomes 00 FF, so that 00 00 can end a text inside a tuple.
            for &byte in text.as_bytes() {
                out.push(byte);
                if byte == 0 {
                    out.push(0xFF);
                }
            }
            out.extend_from_slice(&[0, 0]);
        }
        Key::Tuple(parts) => {
            out.push(TUPLE);
            for part in parts {
                encode(part, out);
            }
            out.push(END);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn key() -> impl Strategy<Value = Key> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Key::Int),
            any::<u128>().prop_map(|n| Key::uuid(Uuid::from_u128(n))),
            "[a\0\u{1}é]{0,4}".prop_map(Key::text),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| {
            prop::collection::vec(inner, 0..3).prop_map(Key::Tuple)
        })
    }

    proptest! {
        #[test]
        fn bytes_sort_as_keys_do(a in key(), b in key()) {
            prop_assert_eq!(key_bytes(&a).cmp(&key_bytes(&b)), a.cmp(&b));
        }
    }

    #[test]
    fn long_keys_are_cut_but_stay_apart() {
        let long = |end: char| Key::text(format!("{}{end}", "x".repeat(5000)));
        let (a, b) = (key_bytes(&long('a')), key_bytes(&long('b')));
        assert!(a.len() <= LONGEST);
        assert_ne!(a, b);
    }
}
