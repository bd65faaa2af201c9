//! Walking a table as its rows lie: by row id.
//!
//! Rows whose key is not the row id stand in the file in the order in which they came, so that neighbours by key
//! lie pages apart: a walk by key reads, journals and writes most pages once for each of their rows.
//!
//! Two things part a row from its id. `INSERT OR REPLACE` gives it a new one, greater than all: it is then found
//! behind the end. `VACUUM` may number all rows anew, and is told by the schema's version, which it counts up: no
//! position of before holds then.

use super::error::{store_error, terminal};
use super::partitions::{Edges, by_density};
use super::shared::schema_version;
use super::table::Table;
use super::{key, row, scan};
use rusqlite::{Connection, OptionalExtension, params_from_iter};
use whimbrel_model::{Code, Key, KeyRange, Page, Reject, StoreError};

/// How many of the newest rows are looked at again where the newest of all is gone. While it stood, there or
/// replaced behind the end, every new row got a greater id; since then a new row may have got a deleted one's.
const LOOK_BACK: i64 = 1000;

/// A row id, the version of the schema that it is good for, and, at the end of all, the row's key.
struct Position {
    version: i64,
    row: i64,
    holder: Option<Key>,
}

impl Position {
    fn key(&self) -> Key {
        let numbers = [Key::Int(self.version), Key::Int(self.row)];
        Key::Tuple(numbers.into_iter().chain(self.holder.clone()).collect())
    }

    fn of(key: &Key) -> Option<Self> {
        let Key::Tuple(parts) = key else { return None };
        let (version, row, holder) = match parts.as_slice() {
            [Key::Int(version), Key::Int(row)] => (version, row, None),
            [Key::Int(version), Key::Int(row), holder] => (version, row, Some(holder)),
            _ => return None,
        };
        Some(Self {
            version: *version,
            row: *row,
            holder: holder.cloned(),
        })
    }
}

/// A table at one instant: a transaction is open.
pub(super) struct Rows<'c> {
    pub(super) connection: &'c Connection,
    pub(super) store: &'c str,
    pub(super) table: &'c Table,
}

impl Rows<'_> {
    fn failed(&self, error: rusqlite::Error) -> StoreError {
        let doing = format!("walk table {:?}", self.table.name);
        store_error(self.store, &doing, error)
    }

    fn moved(&self) -> StoreError {
        let table = &self.table.name;
        terminal(
            self.store,
            Code::StoreMoved,
            format!(
                "the file was rebuilt or its tables were changed, so rows of {table:?} may have other row ids; \
                 nothing was read by the old ones"
            ),
        )
    }

    fn version(&self) -> Result<i64, StoreError> {
        schema_version(self.connection).map_err(|e| self.failed(e))
    }

    /// The row id of a position, if it still means the row that it meant.
    fn resolve(&self, key: &Key) -> Result<Position, StoreError> {
        match Position::of(key) {
            Some(position) if position.version == self.version()? => Ok(position),
            _ => Err(self.moved()),
        }
    }

    /// Where no row id is left above the greatest, new rows get ids among the others.
    pub(super) fn ranges(
        &self,
        after: Option<&Key>,
        parts: u32,
    ) -> Result<Option<Vec<KeyRange>>, StoreError> {
        if self.table.key_is_rowid || self.table.rowid.is_none() {
            return Ok(None);
        }
        let low = match after {
            None => i64::MIN,
            Some(after) => match self.behind(&self.resolve(after)?)? {
                Some(low) => low,
                None => return Ok(Some(Vec::new())),
            },
        };
        let whole = Edges::new(self.table).span(self.connection, low, i64::MAX);
        let Some(last) = whole.map_err(|e| self.failed(e))?.map(|span| span.last) else {
            return Ok(Some(Vec::new()));
        };
        if last == i64::MAX {
            return Ok(None);
        }
        let parts = usize::try_from(parts.max(1)).unwrap_or(1);
        let cuts = by_density(self.connection, self.table, (low, last), parts);
        let mut cuts = cuts.map_err(|e| self.failed(e))?;
        cuts.retain(|cut| *cut < last);
        let version = self.version()?;
        let position = |row| Position {
            version,
            row,
            holder: None,
        };
        let end = Position {
            holder: self.holder(last)?,
            ..position(last)
        };
        let ends = cuts.iter().map(|row| position(*row)).chain([end]);
        let mut after = (low > i64::MIN).then(|| position(low - 1).key());
        let ranges = ends.map(|end| {
            let through = Some(end.key());
            let after = std::mem::replace(&mut after, through.clone());
            KeyRange { after, through }
        });
        Ok(Some(ranges.collect()))
    }

    /// The least row id that a row may have got since `end` was the last; `None` where there is none left.
    fn behind(&self, end: &Position) -> Result<Option<i64>, StoreError> {
        let stands = match &end.holder {
            Some(key) => self.row_of(key)?.is_some_and(|row| row >= end.row),
            None => true,
        };
        if stands {
            return Ok(end.row.checked_add(1));
        }
        let newest = self.table.sql.rowids_between(true);
        let back = format!("{newest} LIMIT 1 OFFSET {LOOK_BACK}");
        let found: Option<i64> = self
            .connection
            .prepare_cached(&back)
            .and_then(|mut s| s.query_row([i64::MIN, end.row], |r| r.get(0)).optional())
            .map_err(|e| self.failed(e))?;
        Ok(Some(found.unwrap_or(i64::MIN)))
    }

    /// The key of the row that has this id; `None` where it is unusable.
    fn holder(&self, rowid: i64) -> Result<Option<Key>, StoreError> {
        let read = || {
            let mut statement = self
                .connection
                .prepare_cached(&self.table.sql.scan_rowids())?;
            let mut rows = statement.query([rowid, rowid])?;
            Ok(match rows.next()? {
                Some(found) => row::key_of(self.table, found)?.ok(),
                None => None,
            })
        };
        read().map_err(|e| self.failed(e))
    }

    /// The id of the row that has this key.
    fn row_of(&self, key: &Key) -> Result<Option<i64>, StoreError> {
        let Some(parts) = key::parts(&self.table.keys, key) else {
            return Ok(None);
        };
        self.connection
            .prepare_cached(&self.table.sql.get)
            .and_then(|mut statement| {
                let at = self.table.keys.len();
                let found = statement.query_row(params_from_iter(&parts), |row| row.get(at));
                found.optional()
            })
            .map_err(|e| self.failed(e))
    }

    pub(super) fn scan(
        &self,
        range: &KeyRange,
        limit: u32,
        bytes: usize,
    ) -> Result<Page, StoreError> {
        let bound = |key: &Option<Key>| key.as_ref().map(|key| self.resolve(key)).transpose();
        let low = bound(&range.after)?.map_or(i64::MIN, |after| after.row.saturating_add(1));
        let high = bound(&range.through)?.map_or(i64::MAX, |through| through.row);
        let version = self.version()?;
        let read = || {
            let mut page = Page::default();
            let mut statement = self
                .connection
                .prepare_cached(&self.table.sql.scan_rowids())?;
            let mut rows = statement.query([low, high])?;
            let (mut taken, mut size, mut last) = (0_u32, 0_usize, None);
            while let Some(found) = rows.next()? {
                last = Some(found.get(self.table.keys.len())?);
                match row::key_of(self.table, found)? {
                    Err((label, reason)) => page.rejects.push(Reject {
                        key: None,
                        label,
                        reason,
                    }),
                    Ok(key) => {
                        size += row::size(self.table, found)?;
                        scan::take(&mut page, self.table, key, found)?;
                    }
                }
                taken += 1;
                if taken >= limit || size >= bytes {
                    break;
                }
            }
            page.last = last.map(|row| {
                let holder = None;
                Position {
                    version,
                    row,
                    holder,
                }
                .key()
            });
            Ok(page)
        };
        read().map_err(|e| self.failed(e))
    }
}
