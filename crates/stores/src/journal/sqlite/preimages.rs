//! Blocks of pre-images, and the index that finds a key's.

use super::recent::{self, Recent};
use super::trouble::Trouble;
use crate::journal::cache::{Block, BlockCache};
use crate::journal::{keylist, signed, unsigned};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Transaction, params};
use std::collections::HashMap;
use std::sync::Arc;
use whimbrel_model::ledger::{PreimageBlock, PreimageHit, RunId};

/// The number that stands for a run or a subject.
fn name_id(tx: &Transaction<'_>, name: &str) -> Result<i64, Trouble> {
    if let Some(id) = known_name(tx, name)? {
        return Ok(id);
    }
    tx.execute("INSERT INTO preimage_name (name) VALUES (?1)", [name])?;
    Ok(tx.last_insert_rowid())
}

fn known_name(connection: &Connection, name: &str) -> Result<Option<i64>, Trouble> {
    Ok(connection
        .prepare_cached("SELECT id FROM preimage_name WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?)
}

pub(super) struct BlockRow {
    pub run: RunId,
    pub subject: String,
    /// How many keys it has.
    pub keys: usize,
    /// The keys, packed.
    pub list: Vec<u8>,
    pub data: Vec<u8>,
}

pub(super) fn insert_block(tx: &Transaction<'_>, block: &BlockRow) -> Result<(), Trouble> {
    let run = name_id(tx, &block.run)?;
    let subject = name_id(tx, &block.subject)?;
    tx.prepare_cached(
        "INSERT INTO preimage_block (run, subject, data, keys) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute(params![run, subject, block.data, block.list])?;
    recent::wait(tx, block.keys)
}

pub(super) fn find_hits(
    connection: &Connection,
    name: &str,
    (blocks, recent): (&BlockCache, &mut Recent),
    subject: &str,
    keys: &[Vec<u8>],
) -> Result<Vec<Vec<PreimageHit>>, Trouble> {
    let Some(subject) = known_name(connection, subject)? else {
        return Ok(keys.iter().map(|_| Vec::new()).collect());
    };
    recent.refresh(connection, name)?;
    let mut find = connection.prepare_cached(
        "SELECT block, idx FROM preimage_key
         WHERE subject = ?1 AND key = ?2 ORDER BY block DESC, idx DESC",
    )?;
    let mut load = connection.prepare_cached(
        "SELECT n.name, b.data FROM preimage_block b JOIN preimage_name n ON n.id = b.run
         WHERE b.id = ?1",
    )?;
    // One answer shares a block among all its hits, whatever the cache has room for.
    let mut seen: HashMap<u64, Arc<Block>> = HashMap::new();
    let mut answers = Vec::with_capacity(keys.len());
    for key in keys {
        let mut places: Vec<(i64, u32)> = recent.places(subject, key).collect();
        let indexed =
            find.query_map(params![subject, key], |row| Ok((row.get(0)?, row.get(1)?)))?;
        for place in indexed {
            places.push(place?);
        }
        let mut hits = Vec::with_capacity(places.len());
        for (id, index) in places {
            let id = unsigned(name, id)?;
            let block = match seen.get(&id) {
                Some(block) => block.clone(),
                None => load_block(&mut load, blocks, name, id)?,
            };
            hits.push(block.hit(id, index));
            seen.insert(id, block);
        }
        answers.push(hits);
    }
    Ok(answers)
}

pub(super) fn blocks_of(
    connection: &Connection,
    name: &str,
    run: &str,
    before: Option<u64>,
    limit: u32,
) -> Result<Vec<(u64, PreimageBlock)>, Trouble> {
    let Some(number) = known_name(connection, run)? else {
        return Ok(Vec::new());
    };
    let before = before.map_or(Ok(i64::MAX), |id| signed(name, id))?;
    let mut select = connection.prepare_cached(
        "SELECT b.id, n.name, b.keys, b.data FROM preimage_block b
         JOIN preimage_name n ON n.id = b.subject
         WHERE b.run = ?1 AND b.id < ?2 ORDER BY b.id DESC LIMIT ?3",
    )?;
    let mut rows = select.query(params![number, before, limit])?;
    let mut blocks = Vec::new();
    while let Some(row) = rows.next()? {
        let id = unsigned(name, row.get(0)?)?;
        let list: Option<Vec<u8>> = row.get(2)?;
        let block = PreimageBlock {
            run: run.to_owned(),
            subject: row.get(1)?,
            keys: keylist::unpack(name, id, list.as_deref())?,
            data: row.get(3)?,
        };
        blocks.push((id, block));
    }
    Ok(blocks)
}

fn load_block(
    load: &mut CachedStatement<'_>,
    blocks: &BlockCache,
    name: &str,
    id: u64,
) -> Result<Arc<Block>, Trouble> {
    if let Some(block) = blocks.get(id) {
        return Ok(block);
    }
    let (run, data) = load.query_row([signed(name, id)?], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(blocks.put(id, Block::new(run, data)))
}
