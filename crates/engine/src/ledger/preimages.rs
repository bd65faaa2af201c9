//! Putting pre-images into the ledger, and finding them again.

use super::Ledger;
use super::block::{self, Decoded};
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use whimbrel_model::ledger::{PreimageBlock, PreimageHit, RunId};
use whimbrel_model::{Fingerprint, JournalError, Key};

/// Documents are gathered to about this many bytes a block: few enough that looking up one document
/// stays cheap, enough to compress well and to wait for the disk seldom.
const BLOCK_BYTES: usize = 2 << 20;

/// Keys a lookup. Keys in order share blocks; keys in no order each bring one into memory.
const LOOKUP_KEYS: usize = 64;

const CACHE_BYTES: usize = 32 << 20;

/// What one document was before an upgrade wrote it. A copy that can be taken back keeps the same of its
/// target's documents; there the versions say whether there was, and is, a document (see `undo/log.rs`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreimageEntry {
    pub key: Key,
    /// The document, as the JSON that its store kept.
    pub before: Bytes,
    /// The version it had, and the one it was brought to.
    pub from: u32,
    pub to: u32,
    /// Of the document that the upgrade meant to write: it tells later whether the write happened, and
    /// whether anybody wrote since.
    pub after: Fingerprint,
}

/// A pre-image as found in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPreimage {
    pub run: RunId,
    /// Grows with every block written: of two pre-images the one with the greater block is newer.
    pub block: u64,
    pub entry: PreimageEntry,
}

impl Ledger {
    /// Stores pre-images durably; to be called before the documents are written.
    ///
    /// # Errors
    /// The lease is lost, or the ledger cannot be written, or a document is too large for it: then the
    /// documents must not be written.
    pub async fn put_preimages(
        &self,
        fence: u64,
        run: &str,
        subject: &str,
        entries: Vec<PreimageEntry>,
    ) -> Result<(), JournalError> {
        for entries in cut(entries) {
            self.check_lease(fence)?;
            let keys = entries.iter().map(|e| e.key.clone()).collect();
            let encoded = tokio::task::spawn_blocking(move || block::encode(&entries)).await;
            let data = encoded
                .unwrap_or(Err("the program is ending".to_owned()))
                .map_err(|message| self.failed(message))?;
            let block = PreimageBlock {
                run: run.to_owned(),
                subject: subject.to_owned(),
                keys,
                data,
            };
            let put = self.journal().put_preimages(fence, &block).await;
            if let Err(JournalError::Fenced { holder }) = &put {
                self.lose(fence, holder);
            }
            put?;
        }
        Ok(())
    }

    /// Every pre-image of each key, newest first, in the order of the keys.
    ///
    /// # Errors
    /// The ledger cannot be read, or what it holds is damaged.
    pub async fn preimages(
        &self,
        subject: &str,
        keys: &[Key],
    ) -> Result<Vec<Vec<StoredPreimage>>, JournalError> {
        let mut answers = Vec::with_capacity(keys.len());
        for keys in keys.chunks(LOOKUP_KEYS) {
            let hits = self.journal().preimages(subject, keys).await?;
            let blocks = self.decoded(&hits).await?;
            for (key, hits) in keys.iter().zip(&hits) {
                let stored = hits.iter().map(|hit| self.stored(key, hit, &blocks));
                answers.push(stored.collect::<Result<_, _>>()?);
            }
        }
        Ok(answers)
    }

    /// The blocks that the hits lie in, each decoded once.
    async fn decoded(
        &self,
        hits: &[Vec<PreimageHit>],
    ) -> Result<HashMap<u64, Arc<Decoded>>, JournalError> {
        let mut blocks = HashMap::new();
        let mut missing = HashMap::new();
        for hit in hits.iter().flatten() {
            if blocks.contains_key(&hit.block) || missing.contains_key(&hit.block) {
                continue;
            }
            match self.blocks.get(hit.block) {
                Some(decoded) => drop(blocks.insert(hit.block, decoded)),
                None => drop(missing.insert(hit.block, hit.data.clone())),
            }
        }
        if missing.is_empty() {
            return Ok(blocks);
        }
        let work = move || -> Result<Vec<(u64, Decoded)>, String> {
            let decode = |(id, data): (u64, Arc<Vec<u8>>)| {
                let decoded = block::decode(&data);
                decoded
                    .map(|d| (id, d))
                    .map_err(|what| format!("pre-image block {id}: {what}"))
            };
            missing.into_iter().map(decode).collect()
        };
        let decoded = tokio::task::spawn_blocking(work)
            .await
            .unwrap_or(Err("the program is ending".to_owned()))
            .map_err(|message| self.failed(message))?;
        for (id, decoded) in decoded {
            blocks.insert(id, self.blocks.put(id, decoded));
        }
        Ok(blocks)
    }

    fn stored(
        &self,
        key: &Key,
        hit: &PreimageHit,
        blocks: &HashMap<u64, Arc<Decoded>>,
    ) -> Result<StoredPreimage, JournalError> {
        let image = blocks
            .get(&hit.block)
            .and_then(|block| block.image(hit.index))
            .ok_or_else(|| {
                let (block, index) = (hit.block, hit.index);
                self.failed(format!("pre-image block {block} has no document {index}"))
            })?;
        Ok(StoredPreimage {
            run: hit.run.clone(),
            block: hit.block,
            entry: PreimageEntry {
                key: key.clone(),
                // A copy: a slice would keep the whole block in memory as long as the document.
                before: Bytes::copy_from_slice(image.before),
                from: image.from,
                to: image.to,
                after: image.after,
            },
        })
    }

    fn failed(&self, message: String) -> JournalError {
        JournalError::Failed {
            ledger: self.journal().name().to_owned(),
            message,
        }
    }
}

fn cut(entries: Vec<PreimageEntry>) -> Vec<Vec<PreimageEntry>> {
    let mut blocks: Vec<Vec<PreimageEntry>> = Vec::new();
    let mut bytes = BLOCK_BYTES;
    for entry in entries {
        if bytes >= BLOCK_BYTES {
            blocks.push(Vec::new());
            bytes = 0;
        }
        bytes += entry.before.len() + 32;
        if let Some(block) = blocks.last_mut() {
            block.push(entry);
        }
    }
    blocks
}

/// The blocks decoded last, least recently used first.
#[derive(Default)]
pub(super) struct DecodedBlocks {
    blocks: Mutex<VecDeque<(u64, Arc<Decoded>)>>,
}

impl DecodedBlocks {
    fn get(&self, id: u64) -> Option<Arc<Decoded>> {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let at = blocks.iter().position(|(block, _)| *block == id)?;
        let hit = blocks.remove(at)?;
        let decoded = hit.1.clone();
        blocks.push_back(hit);
        Some(decoded)
    }

    fn put(&self, id: u64, decoded: Decoded) -> Arc<Decoded> {
        let decoded = Arc::new(decoded);
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.push_back((id, decoded.clone()));
        let mut bytes: usize = blocks.iter().map(|(_, d)| d.size()).sum();
        while bytes > CACHE_BYTES && blocks.len() > 1 {
            bytes -= blocks.pop_front().map_or(0, |(_, d)| d.size());
        }
        decoded
    }
}
