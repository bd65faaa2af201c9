//! The record of copy runs as pages: each recorded write is a document of the undo.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use whimbrel_model::ledger::{PreimageBlock, RunId};
use whimbrel_model::{
    Body, Code, Document, JournalError, Key, KeyRange, Map, Page, Revision, StoreError,
    StoreErrorKind, Value,
};

use crate::ledger::Ledger;
use crate::options::Place;
use crate::pages::Pages;

use super::log::log_subject;

const COLLECTION: &str = "collection";

/// The runs' recorded writes, newest first. A place among them is `[run, block, entry]`, each a number.
pub(super) struct LogEntries {
    ledger: Arc<Ledger>,
    /// What the subject of the target's collections begins with.
    prefix: String,
    /// Newest first.
    runs: Vec<RunId>,
    /// The block read last: pages are smaller than blocks.
    last: Mutex<Option<(usize, u64, Arc<PreimageBlock>)>>,
}

/// The next entry to be read.
#[derive(Clone, Copy)]
struct Spot {
    run: usize,
    /// `None`: the run's newest block.
    block: Option<u64>,
    entry: usize,
}

impl LogEntries {
    /// `runs` must be in the ledger.
    pub(super) fn new(ledger: Arc<Ledger>, target: &Place, runs: &[RunId]) -> Self {
        let any = Place {
            collection: String::new(),
            ..target.clone()
        };
        let order = &ledger.state().order;
        let newest_first = order.iter().rev().filter(|run| runs.contains(run));
        Self {
            prefix: log_subject(&any),
            runs: newest_first.cloned().collect(),
            last: Mutex::new(None),
            ledger,
        }
    }

    /// The block at or behind the spot that has an entry left, and which.
    async fn find(
        &self,
        mut spot: Spot,
    ) -> Result<Option<(Spot, u64, Arc<PreimageBlock>)>, JournalError> {
        while let Some(run) = self.runs.get(spot.run) {
            let Some((id, block)) = self.block(spot.run, run, spot.block).await? else {
                spot = Spot {
                    run: spot.run + 1,
                    block: None,
                    entry: 0,
                };
                continue;
            };
            if Some(id) != spot.block {
                spot.entry = 0;
            }
            spot.block = Some(id);
            // Only this target's collections, in case that a ledger's run means more one day.
            if spot.entry < block.keys.len() && block.subject.starts_with(&self.prefix) {
                return Ok(Some((spot, id, block)));
            }
            spot.block = Some(id - 1);
            spot.entry = 0;
        }
        Ok(None)
    }

    /// The run's newest block up to `at`.
    async fn block(
        &self,
        index: usize,
        run: &str,
        at: Option<u64>,
    ) -> Result<Option<(u64, Arc<PreimageBlock>)>, JournalError> {
        let last = self.last.lock().ok().and_then(|last| last.clone());
        if let Some((of, id, block)) = last
            && of == index
            && Some(id) == at
        {
            return Ok(Some((id, block)));
        }
        let before = at.map(|id| id.saturating_add(1));
        let mut found = self.ledger.journal().blocks_of(run, before, 1).await?;
        let Some((id, mut block)) = found.pop() else {
            return Ok(None);
        };
        // The documents are looked up by key.
        block.data = Vec::new();
        let block = Arc::new(block);
        if let Ok(mut last) = self.last.lock() {
            *last = Some((index, id, Arc::clone(&block)));
        }
        Ok(Some((id, block)))
    }

    fn failed(&self, error: JournalError) -> StoreError {
        let (ledger, code) = (self.ledger.journal().name(), error.code());
        let message = "the record of what was written cannot be read";
        StoreError::new(StoreErrorKind::Terminal, code, ledger, message).with_source(error)
    }

    fn spot_behind(&self, place: Option<&Key>) -> Result<Spot, StoreError> {
        let number = |key: &Key| match key {
            Key::Int(n) => u64::try_from(*n).ok(),
            _ => None,
        };
        let numbers = match place {
            None => Some([0, 0, 0]),
            Some(Key::Tuple(parts)) => parts
                .iter()
                .map(number)
                .collect::<Option<Vec<u64>>>()
                .and_then(|parts| parts.try_into().ok()),
            Some(_) => None,
        };
        let [run, block, entry] = numbers.ok_or_else(|| {
            let (ledger, message) = (self.ledger.journal().name(), "a checkpoint names no place");
            StoreError::new(
                StoreErrorKind::Terminal,
                Code::LedgerBroken,
                ledger,
                message,
            )
        })?;
        Ok(Spot {
            run: usize::try_from(run).unwrap_or(usize::MAX),
            block: place.map(|_| block),
            entry: place.map_or(0, |_| usize::try_from(entry).unwrap_or(usize::MAX - 1) + 1),
        })
    }
}

#[async_trait]
impl Pages for LogEntries {
    async fn partitions(&self, _parts: u32) -> Result<Vec<KeyRange>, StoreError> {
        Ok(vec![KeyRange::all()])
    }

    async fn next(&self, range: &KeyRange, limit: u32) -> Result<Page, StoreError> {
        let spot = self.spot_behind(range.after.as_ref())?;
        let found = self.find(spot).await.map_err(|e| self.failed(e))?;
        let Some((spot, id, block)) = found else {
            return Ok(Page::default());
        };
        let collection = &block.subject[self.prefix.len()..];
        let end = block
            .keys
            .len()
            .min(spot.entry.saturating_add(limit.max(1) as usize));
        let documents = block.keys[spot.entry..end]
            .iter()
            .map(|key| entry(collection, key, id))
            .collect();
        let number = |n: usize| Key::Int(i64::try_from(n).unwrap_or(i64::MAX));
        let block = Key::Int(i64::try_from(id).unwrap_or(i64::MAX));
        Ok(Page {
            documents,
            rejects: Vec::new(),
            last: Some(Key::Tuple(vec![number(spot.run), block, number(end - 1)])),
        })
    }
}

/// A recorded write as a page carries it: the target document's key, its collection as the body, the
/// block as the revision.
fn entry(collection: &str, key: &Key, block: u64) -> Document {
    let name = Value::String(collection.to_owned());
    Document {
        key: key.clone(),
        body: Body::Map(Map::from_iter([(COLLECTION.to_owned(), name)])),
        revision: Revision(block.to_be_bytes().to_vec()),
    }
}

/// The target collection and the block of a recorded write that a page carried.
pub(super) fn place_of(document: &Document) -> Option<(String, u64)> {
    let Body::Map(map) = &document.body else {
        return None;
    };
    let Some(Value::String(collection)) = map.get(COLLECTION) else {
        return None;
    };
    let block = document.revision.0.as_slice().try_into().ok()?;
    Some((collection.clone(), u64::from_be_bytes(block)))
}
