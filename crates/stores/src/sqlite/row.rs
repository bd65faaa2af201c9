//! Rows as documents.

use super::field::Field;
use super::key;
use super::table::{Payload, Rest, Table};
use bytes::Bytes;
use rusqlite::Row;
use rusqlite::types::ValueRef;
use whimbrel_model::{Body, Document, Key, Map, Revision, Value, json};
use xxhash_rust::xxh3::{Xxh3, xxh3_128_with_seed};

/// Documents above this are rejected or refused: one takes several times that of memory while it moves.
pub(crate) const DOCUMENT_BYTES: usize = 32 << 20;

/// The hash of the row's content.
///
/// It tells contents apart, but not that a row was written and changed back meanwhile (A → B → A). That is
/// enough for an upgrade in place, whose result depends on the content alone, and for a copy whose target
/// nobody else writes.
pub(super) fn revision(table: &Table, row: &Row<'_>) -> rusqlite::Result<Revision> {
    let at = table.payload_at();
    let hash = match &table.payload {
        Payload::Json { .. } => {
            let (tag, bytes, _) = content(row.get_ref(at)?);
            match bytes {
                Ok(bytes) => xxh3_128_with_seed(bytes, u64::from(tag)),
                Err(number) => xxh3_128_with_seed(&number, u64::from(tag)),
            }
        }
        Payload::Columns { .. } => {
            let mut hasher = Xxh3::new();
            for i in 0..table.payload_columns() {
                let (tag, bytes, length) = content(row.get_ref(at + i)?);
                hasher.update(&[tag]);
                hasher.update(&length.to_le_bytes());
                match bytes {
                    Ok(bytes) => hasher.update(bytes),
                    Err(number) => hasher.update(&number),
                }
            }
            hasher.digest128()
        }
    };
    Ok(Revision(hash.to_le_bytes().to_vec()))
}

type Content<'r> = (u8, Result<&'r [u8], [u8; 8]>, u64);

fn content(value: ValueRef<'_>) -> Content<'_> {
    match value {
        ValueRef::Null => (0, Ok(&[]), 0),
        ValueRef::Integer(n) => (1, Err(n.to_le_bytes()), 8),
        ValueRef::Real(x) => (2, Err(x.to_bits().to_le_bytes()), 8),
        ValueRef::Text(bytes) => (3, Ok(bytes), bytes.len() as u64),
        ValueRef::Blob(bytes) => (4, Ok(bytes), bytes.len() as u64),
    }
}

/// About how many bytes the row's payload takes.
pub(super) fn size(table: &Table, row: &Row<'_>) -> rusqlite::Result<usize> {
    let at = table.payload_at();
    (at..at + table.payload_columns()).try_fold(0, |sum, i| {
        Ok(sum
            + match row.get_ref(i)? {
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
                _ => 8,
            })
    })
}

/// The row's fields, or why it is no document.
pub(super) fn body(table: &Table, row: &Row<'_>) -> rusqlite::Result<Result<Body, String>> {
    if size(table, row)? > DOCUMENT_BYTES {
        return Ok(Err(format!(
            "the document is larger than {} MiB",
            DOCUMENT_BYTES >> 20
        )));
    }
    match &table.payload {
        Payload::Json { .. } => Ok(match row.get_ref(table.payload_at())? {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
                Ok(Body::Json(Bytes::copy_from_slice(bytes)))
            }
            ValueRef::Null => Err("the JSON column is NULL".to_owned()),
            ValueRef::Integer(_) | ValueRef::Real(_) => {
                Err("the JSON column holds a number".to_owned())
            }
        }),
        Payload::Columns { .. } => Ok(fields(table, row)?.map(Body::Map)),
    }
}

/// Layout `columns`: the row's fields and those of the rest column, or why they are none.
pub(super) fn fields(table: &Table, row: &Row<'_>) -> rusqlite::Result<Result<Map, String>> {
    let Payload::Columns { fields, rest } = &table.payload else {
        return Ok(Err("the layout has no columns".to_owned()));
    };
    fields_at(fields, rest.as_ref(), row, table.payload_at())
}

/// The same of a row whose payload begins at column `at`.
pub(super) fn fields_at(
    fields: &[Field],
    rest: Option<&Rest>,
    row: &Row<'_>,
    at: usize,
) -> rusqlite::Result<Result<Map, String>> {
    let mut map = Map::with_capacity(fields.len());
    for (i, field) in fields.iter().enumerate() {
        match field.decode(row.get_ref(at + i)?) {
            Ok(value) => map.insert(field.name.clone(), value),
            Err(why) => return Ok(Err(why)),
        };
    }
    let Some(rest) = rest else {
        return Ok(Ok(map));
    };
    let others = match row.get_ref(at + fields.len())? {
        ValueRef::Null => return Ok(Ok(map)),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => json::parse(bytes),
        _ => return Ok(Err(format!("column {:?} holds no JSON object", rest.name))),
    };
    let others = match others {
        Ok(Value::Map(others)) => others,
        Ok(_) => return Ok(Err(format!("column {:?} holds no JSON object", rest.name))),
        Err(error) => return Ok(Err(format!("column {:?}: {error}", rest.name))),
    };
    for (name, value) in others {
        if map.contains_key(&name) {
            return Ok(Err(format!(
                "field {name:?} has a column and stands in {:?} too",
                rest.name
            )));
        }
        map.insert(name, value);
    }
    Ok(Ok(map))
}

/// The row under the key that was asked for. A row that is no document gets a body that no reader takes
/// for one, so that it fails as that document and not as the whole batch.
pub(super) fn document(table: &Table, key: &Key, row: &Row<'_>) -> rusqlite::Result<Document> {
    Ok(Document {
        key: key.clone(),
        body: body(table, row)?.unwrap_or(Body::Json(Bytes::new())),
        revision: revision(table, row)?,
    })
}

/// The row's key, or how to call the row and why it has none.
pub(super) fn key_of(
    table: &Table,
    row: &Row<'_>,
) -> rusqlite::Result<Result<Key, (String, String)>> {
    Ok(match key::read(&table.keys, row)? {
        Ok(key) => Ok(key),
        Err(why) => Err((key::label(&table.keys, row)?, why)),
    })
}
