//! The newest blocks' keys, which the index does not hold yet.
//!
//! Put into the index block by block, keys in no order would touch one page of it each: for a large collection that
//! is more to write than the documents. So a block only brings its list of keys, and the index takes in many lists
//! at once, sorted, when somebody looks for keys. What it does not hold yet is kept in memory by who looks.

use super::trouble::Trouble;
use crate::journal::key::key_bytes;
use crate::journal::{keylist, unsigned};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::collections::HashMap;

/// Keys that a reader keeps in memory at most, and that the index takes in at a time: some megabytes.
const KEYS: i64 = 50_000;

pub(super) const TABLE: &str = "
-- Up to which block the index holds the keys, and how many it does not hold yet.
CREATE TABLE preimage_index (
  id INTEGER PRIMARY KEY CHECK (id = 1), through INTEGER NOT NULL, waiting INTEGER NOT NULL);
INSERT INTO preimage_index SELECT 1, COALESCE(MAX(id), 0), 0 FROM preimage_block;
";

/// A ledger of before has everything in its index.
pub(super) fn has_table(connection: &Connection) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'preimage_index')",
        )?
        .query_row([], |row| row.get(0))
}

pub(super) fn wait(tx: &Transaction<'_>, keys: usize) -> Result<(), Trouble> {
    tx.prepare_cached("UPDATE preimage_index SET waiting = waiting + ?1")?
        .execute([i64::try_from(keys).unwrap_or(i64::MAX)])?;
    Ok(())
}

/// Whether more wait than a reader should keep in memory.
pub(super) fn are_many(connection: &Connection) -> Result<bool, Trouble> {
    let waiting: Option<i64> = connection
        .prepare_cached("SELECT waiting FROM preimage_index")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(waiting.is_some_and(|waiting| waiting > KEYS))
}

/// The block that the index ends with.
fn indexed(connection: &Connection) -> Result<i64, Trouble> {
    if !has_table(connection)? {
        return Ok(i64::MAX);
    }
    Ok(connection
        .prepare_cached("SELECT through FROM preimage_index")?
        .query_row([], |row| row.get(0))?)
}

/// Calls `each` with the blocks behind `after`, oldest first, until it has had enough.
fn lists(
    connection: &Connection,
    name: &str,
    after: i64,
    mut each: impl FnMut(i64, i64, Vec<Vec<u8>>) -> bool,
) -> Result<(), Trouble> {
    let mut select = connection
        .prepare_cached("SELECT id, subject, keys FROM preimage_block WHERE id > ?1 ORDER BY id")?;
    let mut rows = select.query([after])?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let list: Option<Vec<u8>> = row.get(2)?;
        let keys = keylist::unpack(name, unsigned(name, id)?, list.as_deref())?;
        if !each(id, row.get(1)?, keys.iter().map(key_bytes).collect()) {
            break;
        }
    }
    Ok(())
}

/// Takes some of what waits into the index.
pub(super) fn index_some(tx: &Transaction<'_>, name: &str) -> Result<(), Trouble> {
    let (mut through, mut rows) = (indexed(tx)?, Vec::new());
    lists(tx, name, through, |block, subject, keys| {
        through = block;
        let numbered = (0_u32..).zip(keys);
        rows.extend(numbered.map(|(idx, key)| (subject, key, block, idx)));
        i64::try_from(rows.len()).is_ok_and(|n| n < KEYS)
    })?;
    rows.sort_unstable();
    let mut insert = tx.prepare_cached(
        "INSERT OR IGNORE INTO preimage_key (subject, key, block, idx) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for (subject, key, block, idx) in &rows {
        insert.execute(params![subject, key, block, idx])?;
    }
    let taken = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    tx.prepare_cached(
        "UPDATE preimage_index SET through = ?1, waiting = CASE WHEN EXISTS
           (SELECT 1 FROM preimage_block WHERE id > ?1) THEN max(waiting - ?2, 0) ELSE 0 END",
    )?
    .execute(params![through, taken])?;
    Ok(())
}

/// A subject's number, and a key's bytes.
type Name = (i64, Vec<u8>);

/// A block, and where in it.
type Spot = (i64, u32);

/// What waits, as far as it was read.
#[derive(Default)]
pub(super) struct Recent {
    /// The block that the index ended with then.
    indexed: i64,
    /// The newest block that was read.
    through: i64,
    /// Oldest first.
    places: HashMap<Name, Vec<Spot>>,
}

impl Recent {
    /// Reads what came since.
    pub(super) fn refresh(&mut self, connection: &Connection, name: &str) -> Result<(), Trouble> {
        let indexed = indexed(connection)?;
        // A ledger of before may have no lists at all.
        if indexed == i64::MAX {
            return Ok(());
        }
        if indexed != self.indexed {
            *self = Self {
                indexed,
                through: indexed,
                places: HashMap::new(),
            };
        }
        let Self {
            through, places, ..
        } = self;
        lists(connection, name, *through, |block, subject, keys| {
            for (idx, key) in (0_u32..).zip(keys) {
                places.entry((subject, key)).or_default().push((block, idx));
            }
            *through = block;
            true
        })
    }

    /// Newest first.
    pub(super) fn places(&self, subject: i64, key: &[u8]) -> impl Iterator<Item = Spot> {
        let places = self.places.get(&(subject, key.to_vec()));
        places.into_iter().flatten().rev().copied()
    }
}
