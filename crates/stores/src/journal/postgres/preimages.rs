//! Blocks of pre-images, and the index that finds a key's.

use super::trouble::Trouble;
use super::{PostgresJournal, begin, commit};
use crate::journal::cache::Block;
use crate::journal::key::key_bytes;
use crate::journal::{failed, keylist, signed, unsigned};
use deadpool_postgres::Transaction;
use std::collections::HashMap;
use std::sync::Arc;
use tokio_postgres::Row;
use whimbrel_model::ledger::{PreimageBlock, PreimageHit};
use whimbrel_model::{JournalError, Key};

impl PostgresJournal {
    pub(super) async fn put_block(&self, fence: u64, block: &PreimageBlock) -> Result<(), Trouble> {
        let list = keylist::pack(&self.name, &block.keys)?;
        let mut client = self.client().await?;
        let tx = begin(&mut client).await?;
        self.lease_row(&tx, false).await?.check(fence)?;
        let run = self.name_id(&tx, &block.run).await?;
        let subject = self.name_id(&tx, &block.subject).await?;
        let insert =
            "INSERT INTO @.preimage_block (run, subject, data, keys) VALUES ($1, $2, $3, $4)
             RETURNING id";
        let rows = self
            .run(&tx, insert, &[&run, &subject, &block.data, &list])
            .await?;
        let id: i64 = first(&self.name, &rows)?.try_get(0)?;
        let keys: Vec<Vec<u8>> = block.keys.iter().map(key_bytes).collect();
        self.run(
            &tx,
            "INSERT INTO @.preimage_key (subject, key, block, idx)
             SELECT $1, key, $2, n - 1 FROM unnest($3::bytea[]) WITH ORDINALITY AS k(key, n)",
            &[&subject, &id, &keys],
        )
        .await?;
        commit(tx).await
    }

    /// The number that stands for a run or a subject.
    async fn name_id(&self, tx: &Transaction<'_>, name: &str) -> Result<i64, Trouble> {
        let find = "SELECT id FROM @.preimage_name WHERE name = $1";
        if let Some(row) = self.run(tx, find, &[&name]).await?.first() {
            return Ok(row.try_get(0)?);
        }
        let insert = "INSERT INTO @.preimage_name (name) VALUES ($1) ON CONFLICT DO NOTHING";
        self.run(tx, insert, &[&name]).await?;
        let rows = self.run(tx, find, &[&name]).await?;
        Ok(first(&self.name, &rows)?.try_get(0)?)
    }

    pub(super) async fn find_hits(
        &self,
        subject: &str,
        keys: &[Key],
    ) -> Result<Vec<Vec<PreimageHit>>, Trouble> {
        let wanted: Vec<Vec<u8>> = keys.iter().map(key_bytes).collect();
        let rows = self
            .rows(
                "SELECT q.n, k.block, k.idx FROM unnest($2::bytea[]) WITH ORDINALITY AS q(key, n)
                 JOIN @.preimage_key k ON k.key = q.key
                 AND k.subject = (SELECT id FROM @.preimage_name WHERE name = $1)
                 ORDER BY q.n, k.block DESC, k.idx DESC",
                &[&subject, &wanted],
            )
            .await?;
        let mut places = Vec::with_capacity(rows.len());
        for row in rows {
            let (n, block, idx): (i64, i64, i32) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let place = usize::try_from(n - 1).unwrap_or(usize::MAX);
            places.push((place, unsigned(&self.name, block)?, idx.cast_unsigned()));
        }
        let blocks = self.load(places.iter().map(|(_, block, _)| *block)).await?;
        let mut answers: Vec<Vec<PreimageHit>> = keys.iter().map(|_| Vec::new()).collect();
        for (place, id, idx) in places {
            let block = blocks
                .get(&id)
                .ok_or_else(|| failed(&self.name, format!("pre-image block {id} is missing")))?;
            if let Some(answer) = answers.get_mut(place) {
                answer.push(block.hit(id, idx));
            }
        }
        Ok(answers)
    }

    pub(super) async fn find_blocks(
        &self,
        run: &str,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, PreimageBlock)>, Trouble> {
        let before = before.map_or(Ok(i64::MAX), |id| signed(&self.name, id))?;
        let sql = "SELECT b.id, n.name, b.keys, b.data FROM @.preimage_block b
                   JOIN @.preimage_name n ON n.id = b.subject
                   WHERE b.run = (SELECT id FROM @.preimage_name WHERE name = $1) AND b.id < $2
                   ORDER BY b.id DESC LIMIT $3";
        let rows = self.rows(sql, &[&run, &before, &i64::from(limit)]).await?;
        let mut blocks = Vec::with_capacity(rows.len());
        for row in rows {
            let id = unsigned(&self.name, row.try_get(0)?)?;
            let block = PreimageBlock {
                run: run.to_owned(),
                subject: row.try_get(1)?,
                keys: keylist::unpack(&self.name, id, row.try_get(2)?)?,
                data: row.try_get(3)?,
            };
            blocks.push((id, block));
        }
        Ok(blocks)
    }

    async fn load(
        &self,
        ids: impl Iterator<Item = u64>,
    ) -> Result<HashMap<u64, Arc<Block>>, Trouble> {
        let mut blocks = HashMap::new();
        let mut missing = Vec::new();
        for id in ids {
            if blocks.contains_key(&id) {
                continue;
            }
            match self.blocks.get(id) {
                Some(block) => drop(blocks.insert(id, block)),
                None => missing.push(signed(&self.name, id)?),
            }
        }
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() {
            return Ok(blocks);
        }
        let sql = "SELECT b.id, n.name, b.data FROM @.preimage_block b
                   JOIN @.preimage_name n ON n.id = b.run WHERE b.id = ANY($1)";
        for row in self.rows(sql, &[&missing]).await? {
            let id = unsigned(&self.name, row.try_get(0)?)?;
            let block = Block::new(row.try_get(1)?, row.try_get(2)?);
            blocks.insert(id, self.blocks.put(id, block));
        }
        Ok(blocks)
    }
}

fn first<'a>(ledger: &str, rows: &'a [Row]) -> Result<&'a Row, JournalError> {
    rows.first()
        .ok_or_else(|| failed(ledger, "a row just written is missing".to_owned()))
}
