//! Digests of rows, computed beside the file: rows are hashed where SQLite shows them, and no document is made
//! of them.

use super::error::store_error;
use super::row;
use super::scan::Bounds;
use super::table::{Payload, Table};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params_from_iter};
use std::collections::{BTreeMap, HashSet};
use std::hash::{Hash, Hasher};
use whimbrel_model::{Cell, Cells, Digest, DigestLine, Digests, Key, StoreError};
use xxhash_rust::xxh3::Xxh3;

/// See [`whimbrel_model::Store::digests`].
pub(super) fn digests(
    connection: &Connection,
    store: &str,
    table: &Table,
    cells: &Cells,
) -> Result<Option<Digests>, StoreError> {
    let mut found: BTreeMap<Cell, Digest> = BTreeMap::new();
    let whole = each(connection, store, table, cells, |line| {
        let digest = found.entry(line.cell).or_default();
        digest.documents += 1;
        digest.unreadable += u64::from(line.hash.is_none());
        digest.hash = digest.hash.wrapping_add(line.hash.unwrap_or(0));
    })?;
    Ok(whole.then(|| Digests {
        kind: kind(table),
        cells: found,
    }))
}

/// See [`whimbrel_model::Store::digest_lines`].
pub(super) fn lines(
    connection: &Connection,
    store: &str,
    table: &Table,
    cells: &Cells,
    wanted: &[Cell],
) -> Result<Option<Vec<DigestLine>>, StoreError> {
    let wanted: HashSet<&Cell> = wanted.iter().collect();
    let mut lines = Vec::new();
    let whole = each(connection, store, table, cells, |line| {
        if wanted.contains(&line.cell) {
            lines.push(line);
        }
    })?;
    Ok(whole.then_some(lines))
}

/// Shows every row's line. `false`: the table has keys that are none, or in an order of its own.
fn each(
    connection: &Connection,
    store: &str,
    table: &Table,
    cells: &Cells,
    mut show: impl FnMut(DigestLine),
) -> Result<bool, StoreError> {
    // Under a collation of its own the same bounds may mean other keys than elsewhere.
    if !table.keys.iter().all(|key| key.binary || key.rowid) {
        return Ok(false);
    }
    let bounds = Bounds::of(store, table, &cells.range)?;
    walk(connection, table, &bounds, cells, &mut show).map_err(|e| {
        let doing = format!("compute digests of table {:?}", table.name);
        store_error(store, &doing, e)
    })
}

fn walk(
    connection: &Connection,
    table: &Table,
    bounds: &Bounds<'_>,
    cells: &Cells,
    show: &mut dyn FnMut(DigestLine),
) -> rusqlite::Result<bool> {
    let (after, through) = bounds.has();
    let mut statement = connection.prepare_cached(&table.sql.scan(after, through))?;
    let mut rows = statement.query(params_from_iter(bounds.parts()))?;
    let beyond = table.payload_at() + table.payload_columns();
    let json = matches!(table.payload, Payload::Json { .. });
    let mut part = 0;
    while let Some(row) = rows.next()? {
        // A key that is NULL is beyond nothing.
        if row.get::<_, Option<bool>>(beyond)? == Some(true) {
            break;
        }
        let Ok(key) = row::key_of(table, row)? else {
            return Ok(false);
        };
        // Rows come in the order of their keys.
        while cells.cuts.get(part).is_some_and(|cut| key > *cut) {
            part += 1;
        }
        let payload = row.get_ref(table.payload_at())?;
        let readable = !json || matches!(payload, ValueRef::Text(_) | ValueRef::Blob(_));
        show(DigestLine {
            cell: (
                u32::try_from(part).unwrap_or(u32::MAX),
                cell(&key) & cells.each.saturating_sub(1),
            ),
            hash: match readable {
                true => Some(row_hash(table, row, json)?),
                false => None,
            },
            key,
        });
    }
    Ok(true)
}

fn cell(key: &Key) -> u32 {
    let mut hasher = Xxh3::new();
    key.hash(&mut hasher);
    // The lower half is as good as the whole.
    u32::try_from(hasher.finish() & u64::from(u32::MAX)).unwrap_or(0)
}

fn row_hash(table: &Table, row: &Row<'_>, json: bool) -> rusqlite::Result<u64> {
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
    Ok(hasher.digest())
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
