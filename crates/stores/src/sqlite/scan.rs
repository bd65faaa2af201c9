//! Reading documents: pages, single ones, counts.
//!
//! A row whose key is no [`Key`] (NULL, a blob, a fraction, text that is not UTF-8) has no place in a
//! range, yet must be told exactly once: with the first usable key behind it, or, where there is none, at
//! the beginning of the whole collection (a range without `after`).

use super::error::{store_error, terminal};
use super::key::{self, Part};
use super::row;
use super::table::Table;
use rusqlite::{Connection, params_from_iter};
use whimbrel_model::{Code, Document, Key, KeyRange, Page, Reject, StoreError};

/// Rows without a usable key in one place. More of them mean that the column is no key.
const UNUSABLE: usize = 10_000;

/// The bounds of a range, as bound parameters.
pub(super) struct Bounds<'k> {
    pub(super) after: Option<Vec<Part<'k>>>,
    pub(super) through: Option<Vec<Part<'k>>>,
}

impl<'k> Bounds<'k> {
    pub(super) fn of(store: &str, table: &Table, range: &'k KeyRange) -> Result<Self, StoreError> {
        Ok(Self {
            after: bound(store, table, range.after.as_ref())?,
            through: bound(store, table, range.through.as_ref())?,
        })
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = &Part<'k>> {
        self.after.iter().chain(&self.through).flatten()
    }

    pub(super) fn has(&self) -> (bool, bool) {
        (self.after.is_some(), self.through.is_some())
    }
}

fn bound<'k>(
    store: &str,
    table: &Table,
    key: Option<&'k Key>,
) -> Result<Option<Vec<Part<'k>>>, StoreError> {
    let Some(key) = key else { return Ok(None) };
    key::parts(&table.keys, key).map(Some).ok_or_else(|| {
        terminal(
            store,
            Code::StoreFailed,
            format!("a range's end is no key of table {:?}", table.name),
        )
    })
}

pub(super) fn scan(
    connection: &Connection,
    store: &str,
    table: &Table,
    range: &KeyRange,
    limit: u32,
    bytes: usize,
) -> Result<Page, StoreError> {
    let failed = |e| store_error(store, &format!("read table {:?}", table.name), e);
    let bounds = Bounds::of(store, table, range)?;
    let (after, through) = bounds.has();
    let mut page = Page::default();
    if !after {
        page.rejects = Tail::of(connection, store, table)?.rejects;
    }
    let mut statement = connection
        .prepare_cached(&table.sql.scan(after, through))
        .map_err(failed)?;
    let mut rows = statement
        .query(params_from_iter(bounds.parts()))
        .map_err(failed)?;
    let beyond = table.payload_at() + table.payload_columns();
    let mut waiting = Vec::new();
    let (mut taken, mut size) = (0_u32, 0_usize);
    let mut ended = true;
    while let Some(row) = rows.next().map_err(failed)? {
        if row.get::<_, Option<bool>>(beyond).map_err(failed)? == Some(true) {
            break;
        }
        match row::key_of(table, row).map_err(failed)? {
            Err(unusable) => wait(store, table, &mut waiting, unusable)?,
            Ok(key) => {
                page.rejects.append(&mut waiting);
                size += row::size(table, row).map_err(failed)?;
                take(&mut page, table, key, row).map_err(failed)?;
                taken += 1;
            }
        }
        if waiting.is_empty() && (taken >= limit || size >= bytes) {
            ended = false;
            break;
        }
    }
    drop(rows);
    if ended && taken == 0 && !waiting.is_empty() && range.through.is_some() {
        // What stands between the last usable key and the range's end, unless nothing usable follows.
        let tail = Tail::of(connection, store, table)?.rejects;
        waiting.retain(|reject| !tail.contains(reject));
        if !waiting.is_empty() {
            page.rejects.append(&mut waiting);
            page.last.clone_from(&range.through);
        }
    }
    Ok(page)
}

/// Puts a row with a usable key on the page.
pub(super) fn take(
    page: &mut Page,
    table: &Table,
    key: Key,
    row: &rusqlite::Row<'_>,
) -> rusqlite::Result<()> {
    match row::body(table, row)? {
        Ok(body) => page.documents.push(Document {
            key: key.clone(),
            body,
            revision: row::revision(table, row)?,
        }),
        Err(reason) => page.rejects.push(Reject {
            key: Some(key.clone()),
            label: key.to_string(),
            reason,
        }),
    }
    page.last = Some(key);
    Ok(())
}

fn wait(
    store: &str,
    table: &Table,
    waiting: &mut Vec<Reject>,
    (label, reason): (String, String),
) -> Result<(), StoreError> {
    if waiting.len() >= UNUSABLE {
        return Err(terminal(
            store,
            Code::StoreShape,
            format!(
                "table {:?} has more than {UNUSABLE} rows without a usable key ({reason})",
                table.name
            ),
        ));
    }
    waiting.push(Reject {
        key: None,
        label,
        reason,
    });
    Ok(())
}

/// The greatest usable key, and the rows behind it that have none.
pub(super) struct Tail {
    pub(super) last: Option<Key>,
    pub(super) rejects: Vec<Reject>,
}

impl Tail {
    pub(super) fn of(
        connection: &Connection,
        store: &str,
        table: &Table,
    ) -> Result<Self, StoreError> {
        Self::within(connection, store, table, &KeyRange::all())
    }

    pub(super) fn within(
        connection: &Connection,
        store: &str,
        table: &Table,
        range: &KeyRange,
    ) -> Result<Self, StoreError> {
        let failed = |e| store_error(store, &format!("read table {:?}", table.name), e);
        let bounds = Bounds::of(store, table, range)?;
        let (after, through) = bounds.has();
        let mut tail = Self {
            last: None,
            rejects: Vec::new(),
        };
        let mut statement = connection
            .prepare_cached(&table.sql.walk(after, through, true))
            .map_err(failed)?;
        let mut rows = statement
            .query(params_from_iter(bounds.parts()))
            .map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            match row::key_of(table, row).map_err(failed)? {
                Ok(key) => {
                    tail.last = Some(key);
                    break;
                }
                Err(unusable) => wait(store, table, &mut tail.rejects, unusable)?,
            }
        }
        Ok(tail)
    }
}

/// Counts what scans of the range tell, rejects too.
pub(super) fn count(
    connection: &Connection,
    store: &str,
    table: &Table,
    range: &KeyRange,
) -> Result<u64, StoreError> {
    let failed = |e| store_error(store, &format!("count table {:?}", table.name), e);
    let tail = Tail::of(connection, store, table)?;
    let (range, extra) = match &tail.last {
        _ if tail.rejects.is_empty() => (range.clone(), 0),
        // Only unusable rows: they all belong to the beginning.
        None if range.after.is_none() => return Ok(tail.rejects.len() as u64),
        None => return Ok(0),
        Some(last) => {
            let extra = if range.after.is_none() {
                tail.rejects.len() as u64
            } else {
                0
            };
            let through = match &range.through {
                Some(through) if through < last => through,
                _ => last,
            };
            let range = KeyRange {
                after: range.after.clone(),
                through: Some(through.clone()),
            };
            (range, extra)
        }
    };
    let bounds = Bounds::of(store, table, &range)?;
    let (after, through) = bounds.has();
    let counted: i64 = connection
        .prepare_cached(&table.sql.count(after, through))
        .and_then(|mut s| s.query_row(params_from_iter(bounds.parts()), |r| r.get(0)))
        .map_err(failed)?;
    Ok(counted.unsigned_abs() + extra)
}

pub(super) fn get(
    connection: &mut Connection,
    store: &str,
    table: &Table,
    keys: &[Key],
) -> Result<Vec<Option<Document>>, StoreError> {
    let mut read = || -> rusqlite::Result<_> {
        // One transaction: one snapshot, and one lock instead of one a key. A savepoint is one where none
        // is open yet.
        let transaction = connection.savepoint()?;
        let documents = {
            let mut statement = transaction.prepare_cached(&table.sql.get)?;
            keys.iter()
                .map(|key| {
                    let Some(parts) = key::parts(&table.keys, key) else {
                        return Ok(None);
                    };
                    let mut rows = statement.query(params_from_iter(&parts))?;
                    rows.next()?
                        .map(|row| row::document(table, key, row))
                        .transpose()
                })
                .collect::<rusqlite::Result<Vec<_>>>()?
        };
        transaction.commit()?;
        Ok(documents)
    };
    read().map_err(|e| store_error(store, &format!("read table {:?}", table.name), e))
}
