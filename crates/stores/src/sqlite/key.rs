//! Keys as SQLite keeps them.

use super::field::{Affinity, looks_numeric};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Row, ToSql};
use uuid::Uuid;
use whimbrel_model::{Key, KeyKind};

#[derive(Clone, Debug)]
pub(crate) struct KeyColumn {
    pub(crate) name: String,
    pub(crate) kind: KeyKind,
    pub(super) affinity: Affinity,
    /// The column is another name of the row id and holds integers only.
    pub(super) rowid: bool,
    /// The index compares texts byte by byte (in UTF-8).
    pub(crate) binary: bool,
    pub(super) nullable: bool,
}

impl KeyColumn {
    /// `None` for a column that holds floating-point numbers.
    pub(super) fn kind_of(declared: &str, affinity: Affinity) -> Option<KeyKind> {
        let upper = declared.to_ascii_uppercase();
        if upper.starts_with("UUID") || upper.starts_with("GUID") {
            return Some(KeyKind::Uuid);
        }
        match affinity {
            Affinity::Integer => Some(KeyKind::Int),
            Affinity::Real => None,
            Affinity::Numeric if !upper.contains("DATE") && !upper.contains("TIME") => {
                Some(KeyKind::Int)
            }
            Affinity::Text | Affinity::Blob | Affinity::Numeric => Some(KeyKind::Text),
        }
    }

    /// Whether SQLite keeps this part as it is, and does not turn it into a part of another kind.
    fn fits(&self, part: &Key) -> bool {
        match part {
            Key::Int(_) => self.affinity != Affinity::Text,
            Key::Text(text) => match self.affinity {
                Affinity::Text | Affinity::Blob => true,
                _ => !self.rowid && !looks_numeric(text),
            },
            Key::Uuid(_) => !self.rowid,
            Key::Tuple(_) => false,
        }
    }
}

/// The parts of a key, one a column; `None` when no row of the table can have this key.
pub(super) fn parts<'k>(columns: &[KeyColumn], key: &'k Key) -> Option<Vec<Part<'k>>> {
    let keys: &[Key] = match key {
        Key::Tuple(parts) => parts,
        one => std::slice::from_ref(one),
    };
    let tuple = matches!(key, Key::Tuple(_));
    if keys.len() != columns.len() || tuple != (columns.len() > 1) {
        return None;
    }
    let fits = columns
        .iter()
        .zip(keys)
        .all(|(column, part)| column.fits(part));
    fits.then(|| keys.iter().map(Part::of).collect())
}

/// One bound column of a key.
#[derive(Clone, Debug)]
pub(super) enum Part<'k> {
    Int(i64),
    Text(&'k str),
    Owned(String),
}

impl<'k> Part<'k> {
    fn of(key: &'k Key) -> Self {
        match key {
            Key::Int(n) => Self::Int(*n),
            Key::Text(text) => Self::Text(text),
            other => Self::Owned(other.to_string()),
        }
    }
}

impl ToSql for Part<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Int(n) => ValueRef::Integer(*n),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Owned(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

/// The key in the row's first columns, or why it is none.
pub(super) fn read(columns: &[KeyColumn], row: &Row<'_>) -> rusqlite::Result<Result<Key, String>> {
    let mut parts = Vec::new();
    for (i, column) in columns.iter().enumerate() {
        let part = match row.get_ref(i)? {
            ValueRef::Integer(n) => Ok(Key::Int(n)),
            ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(text_key(text, &column.kind)),
                Err(_) => Err("is not valid UTF-8"),
            },
            ValueRef::Null => Err("is NULL"),
            ValueRef::Real(_) => Err("is a floating-point number"),
            ValueRef::Blob(_) => Err("is a blob"),
        };
        match part {
            Ok(part) if columns.len() == 1 => return Ok(Ok(part)),
            Ok(part) => parts.push(part),
            Err(why) => return Ok(Err(format!("key column {:?} {why}", column.name))),
        }
    }
    Ok(Ok(Key::Tuple(parts)))
}

/// A UUID is one only in its canonical form: the key must find the row again.
fn text_key(text: &str, kind: &KeyKind) -> Key {
    if *kind == KeyKind::Uuid
        && let Ok(uuid) = Uuid::try_parse(text)
        && uuid.to_string() == text
    {
        return Key::uuid(uuid);
    }
    Key::text(text)
}

/// What a reject is called whose key is none.
pub(super) fn label(columns: &[KeyColumn], row: &Row<'_>) -> rusqlite::Result<String> {
    Ok(match row.get_ref(columns.len())? {
        ValueRef::Integer(rowid) => format!("rowid {rowid}"),
        _ => "a row without row id".to_owned(),
    })
}
