//! Keys, and ranges of them.

use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

/// What identifies a document in its collection.
///
/// `Ord` is: integers by value, UUIDs and texts by bytes, tuples column by column. A store may walk its
/// keys in another order (a PostgreSQL collation); [`crate::Limits::key_order`] says whether it does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Key {
    Int(i64),
    Uuid(UuidKey),
    Text(String),
    /// A primary key of several columns, in the table's order.
    Tuple(Vec<Key>),
}

/// Keeps a UUID apart from a text in JSON: `{"uuid":"…"}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UuidKey {
    uuid: Uuid,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    Int,
    Uuid,
    Text,
    Tuple(Vec<KeyKind>),
}

impl Key {
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Key::Text(text.into())
    }

    #[must_use]
    pub fn uuid(uuid: Uuid) -> Self {
        Key::Uuid(UuidKey { uuid })
    }

    #[must_use]
    pub fn kind(&self) -> KeyKind {
        match self {
            Key::Int(_) => KeyKind::Int,
            Key::Uuid(_) => KeyKind::Uuid,
            Key::Text(_) => KeyKind::Text,
            Key::Tuple(parts) => KeyKind::Tuple(parts.iter().map(Key::kind).collect()),
        }
    }

    /// Reads what [`Key`]'s `Display` wrote, given the collection's kind of key. `None` when the text
    /// is no key of that kind.
    #[must_use]
    pub fn parse(text: &str, kind: &KeyKind) -> Option<Self> {
        match kind {
            KeyKind::Int => text.parse().ok().map(Key::Int),
            KeyKind::Uuid => Uuid::try_parse(text).ok().map(Key::uuid),
            KeyKind::Text => Some(Key::text(text)),
            KeyKind::Tuple(kinds) => {
                let parts: Vec<serde_json::Value> = serde_json::from_str(text).ok()?;
                if parts.len() != kinds.len() {
                    return None;
                }
                parts
                    .iter()
                    .zip(kinds)
                    .map(|(part, kind)| match part {
                        serde_json::Value::String(s) => Key::parse(s, kind),
                        serde_json::Value::Number(n) => Key::parse(&n.to_string(), kind),
                        _ => None,
                    })
                    .collect::<Option<_>>()
                    .map(Key::Tuple)
            }
        }
    }

    /// About how many bytes the key takes.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Key::Int(_) => 8,
            Key::Uuid(_) => 16,
            Key::Text(text) => text.len(),
            Key::Tuple(parts) => parts.iter().map(Key::size).sum(),
        }
    }
}

impl UuidKey {
    #[must_use]
    pub fn get(self) -> Uuid {
        self.uuid
    }
}

impl fmt::Display for Key {
    /// A text key prints as it is, a tuple as a JSON array of its parts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Int(n) => write!(f, "{n}"),
            Key::Uuid(u) => write!(f, "{}", u.uuid),
            Key::Text(text) => f.write_str(text),
            Key::Tuple(parts) => {
                f.write_str("[")?;
                for (i, part) in parts.iter().enumerate() {
                    if i > 0 {
                        f.write_str(",")?;
                    }
                    match part {
                        Key::Int(n) => write!(f, "{n}")?,
                        other => {
                            let text = serde_json::Value::String(other.to_string());
                            write!(f, "{text}")?;
                        }
                    }
                }
                f.write_str("]")
            }
        }
    }
}

impl From<i64> for Key {
    fn from(n: i64) -> Self {
        Key::Int(n)
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Key::text(text)
    }
}

/// The keys after `after` (exclusive) up to `through` (inclusive), in the store's order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRange {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Key>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<Key>,
}

impl KeyRange {
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// The same range, begun again behind `key`.
    #[must_use]
    pub fn resumed_after(&self, key: Option<&Key>) -> Self {
        Self {
            after: key.or(self.after.as_ref()).cloned(),
            through: self.through.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_text_and_json() {
        let keys = [
            Key::Int(-5),
            Key::text("a\"b/ü"),
            Key::text("12"),
            Key::uuid(Uuid::from_u128(7)),
            Key::Tuple(vec![Key::Int(1), Key::text("x,\"y]")]),
        ];
        for key in keys {
            assert_eq!(
                Key::parse(&key.to_string(), &key.kind()).as_ref(),
                Some(&key)
            );
            let json = serde_json::to_string(&key).unwrap();
            assert_eq!(serde_json::from_str::<Key>(&json).unwrap(), key, "{json}");
        }
    }
}
