//! A digest of a range of rows, computed beside the file: rows are hashed where SQLite shows them, and no
//! document is made of them.

use super::error::store_error;
use super::row;
use super::scan::Bounds;
use super::table::{Payload, Table};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params_from_iter};
use whimbrel_model::{Digest, KeyRange, StoreError};
use xxhash_rust::xxh3::Xxh3;

/// See [`whimbrel_model::Store::digest`].
pub(super) fn digest(
    connection: &Connection,
    store: &str,
    table: &Table,
    range: &KeyRange,
) -> Result<Option<Digest>, StoreError> {
    // Under a collation of its own the same bounds may mean other keys than elsewhere.
    if !table.keys.iter().all(|key| key.binary || key.rowid) {
        return Ok(None);
    }
    let bounds = Bounds::of(store, table, range)?;
    sum(connection, table, &bounds).map_err(|e| {
        store_error(
            store,
            &format!("compute a digest of table {:?}", table.name),
            e,
        )
    })
}

fn sum(
    connection: &Connection,
    table: &Table,
    bounds: &Bounds<'_>,
) -> rusqlite::Result<Option<Digest>> {
    let (after, through) = bounds.has();
    let mut statement = connection.prepare_cached(&table.sql.scan(after, through))?;
    let mut rows = statement.query(params_from_iter(bounds.parts()))?;
    let beyond = table.payload_at() + table.payload_columns();
    let json = matches!(table.payload, Payload::Json { .. });
    let (mut documents, mut hash) = (0_u64, 0_u128);
    while let Some(row) = rows.next()? {
        // A key that is NULL is beyond nothing.
        if row.get::<_, Option<bool>>(beyond)? == Some(true) {
            break;
        }
        if row::key_of(table, row)?.is_err() {
            return Ok(None);
        }
        let payload = row.get_ref(table.payload_at())?;
        if json && !matches!(payload, ValueRef::Text(_) | ValueRef::Blob(_)) {
            return Ok(None);
        }
        documents += 1;
        hash = hash.wrapping_add(row_hash(table, row, json)?);
    }
    Ok(Some(Digest {
        kind: kind(table),
        documents,
        hash,
    }))
}

fn row_hash(table: &Table, row: &Row<'_>, json: bool) -> rusqlite::Result<u128> {
    let mut hasher = Xxh3::new();
    let payload = table.payload_at()..table.payload_at() + table.payload_columns();
    for at in (0..table.keys.len()).chain(payload.clone()) {
        let number;
        let (tag, bytes): (u8, &[u8]) = match row.get_ref(at)? {
            ValueRef::Null => (0, &[]),
            ValueRef::Integer(n) => {
                number = n.to_le_bytes();
                (1, &number)
            }
            ValueRef::Real(x) => {
                number = x.to_bits().to_le_bytes();
                (2, &number)
            }
            ValueRef::Text(bytes) => (3, bytes),
            // JSON is the same document as a blob and as a text.
            ValueRef::Blob(bytes) if json && payload.contains(&at) => (3, bytes),
            ValueRef::Blob(bytes) => (4, bytes),
        };
        hasher.update(&[tag]);
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    }
    Ok(hasher.digest128())
}

fn kind(table: &Table) -> String {
    let keys = table.kind();
    match &table.payload {
        Payload::Json { .. } => format!("sqlite xxh3 json {keys:?}"),
        Payload::Columns { fields, rest } => {
            let columns: Vec<(&str, &str)> = fields
                .iter()
                .map(|f| (f.name.as_str(), f.declared.as_str()))
                .collect();
            let rest = rest.as_ref().map(|r| r.name.as_str());
            format!("sqlite xxh3 {columns:?} {rest:?} {keys:?}")
        }
    }
}
