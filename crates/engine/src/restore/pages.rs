//! Where a restore's documents come from: an archive's chunks.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use whimbrel_archive::{Archive, ArchiveError, ChunkNote, CollectionPart};
use whimbrel_model::{Body, Document, Key, KeyRange, Page, Revision, StoreError, StoreErrorKind};

use super::{NAMED, may_hold, named};
use crate::backup::store_error;
use crate::error::EngineError;
use crate::pages::Pages;

/// A collection's chunks, one a page. A range ends with the last key of a chunk: by that the next one is
/// found, and the ledger tells how far a restore is in keys that people know.
pub(super) struct ArchivePages {
    archive: Archive,
    collection: usize,
    /// Each chunk by its last key.
    ends: HashMap<Key, usize>,
}

impl ArchivePages {
    pub(super) fn new(archive: Archive, collection: usize) -> Self {
        let part = &archive.manifest().collections[collection];
        let ends = (0..).zip(&part.chunks).map(|(at, c)| (c.last.clone(), at));
        Self {
            ends: ends.collect(),
            archive,
            collection,
        }
    }

    fn part(&self) -> &CollectionPart {
        &self.archive.manifest().collections[self.collection]
    }

    /// The chunk that begins behind a key.
    fn behind(&self, key: Option<&Key>) -> Result<usize, StoreError> {
        let Some(key) = key else { return Ok(0) };
        self.ends.get(key).map(|at| at + 1).ok_or_else(|| {
            StoreError::new(
                StoreErrorKind::Terminal,
                whimbrel_model::Code::ArchiveInvalid,
                self.archive.name(),
                format!("no chunk ends with the key {key}, where an earlier attempt stopped"),
            )
        })
    }
}

#[async_trait]
impl Pages for ArchivePages {
    async fn partitions(&self, parts: u32) -> Result<Vec<KeyRange>, StoreError> {
        let chunks = &self.part().chunks;
        let all: u64 = chunks.iter().map(|c| c.raw_bytes).sum();
        let share = (all / u64::from(parts.max(1))).max(1);
        let mut ranges: Vec<KeyRange> = Vec::new();
        let (mut after, mut size) = (None, 0);
        for (at, chunk) in chunks.iter().enumerate() {
            size += chunk.raw_bytes;
            if size >= share || at + 1 == chunks.len() {
                let through = Some(chunk.last.clone());
                ranges.push(KeyRange {
                    after: after.take(),
                    through: through.clone(),
                });
                (after, size) = (through, 0);
            }
        }
        Ok(ranges)
    }

    async fn next(&self, range: &KeyRange, _limit: u32) -> Result<Page, StoreError> {
        let at = self.behind(range.after.as_ref())?;
        let end = match &range.through {
            Some(key) => self.behind(Some(key))?,
            None => self.part().chunks.len(),
        };
        if at >= end {
            return Ok(Page::default());
        }
        let note = self.part().chunks[at].clone();
        let documents = read(&self.archive, note).await.map_err(store_error)?;
        let documents: Vec<_> = documents.into_iter().map(document).collect();
        Ok(Page {
            last: documents.last().map(|d| d.key.clone()),
            documents,
            rejects: Vec::new(),
        })
    }
}

/// A chunk's documents, verified again: what was proved may have changed since.
async fn read(archive: &Archive, note: ChunkNote) -> Result<Vec<(Key, Bytes)>, ArchiveError> {
    let stored = archive.fetch(&note).await?;
    let archive = archive.clone();
    let read = tokio::task::spawn_blocking(move || archive.documents(&stored, &note)).await;
    // It panicked, which is a defect of this program; the same again would only panic again.
    read.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// Archives have no revisions: nothing compares these.
fn document((key, body): (Key, Bytes)) -> Document {
    Document {
        key,
        body: Body::Json(body),
        revision: Revision(Vec::new()),
    }
}

/// Chosen documents, which were looked up beforehand.
pub(super) struct GivenDocuments {
    documents: Arc<Vec<Document>>,
}

impl GivenDocuments {
    /// Reads the chunks that may hold the keys.
    ///
    /// # Errors
    /// One of them is not in the archive, or a chunk is not what the manifest says.
    pub(super) async fn find(
        archive: &Archive,
        part: &CollectionPart,
        keys: &[Key],
    ) -> Result<Self, EngineError> {
        let mut open: HashSet<&Key> = keys.iter().collect();
        let mut documents = Vec::with_capacity(open.len());
        for (at, note) in part.chunks.iter().enumerate() {
            if !open.iter().any(|key| may_hold(part, at, key)) {
                continue;
            }
            for (key, body) in read(archive, note.clone()).await? {
                if open.remove(&key) {
                    // A copy: one document must not hold its whole chunk.
                    documents.push(document((key, Bytes::copy_from_slice(&body))));
                }
            }
        }
        if open.is_empty() {
            return Ok(Self {
                documents: Arc::new(documents),
            });
        }
        let mut missing: Vec<String> = open.iter().map(ToString::to_string).collect();
        missing.sort();
        let all = missing.len() as u64;
        missing.truncate(NAMED);
        Err(EngineError::NoDocument {
            key: named(&missing, all),
            place: format!("{}/{} of {}", part.store, part.collection, archive.shown()),
        })
    }
}

#[async_trait]
impl Pages for GivenDocuments {
    async fn partitions(&self, _parts: u32) -> Result<Vec<KeyRange>, StoreError> {
        Ok(vec![KeyRange::all()])
    }

    async fn next(&self, range: &KeyRange, limit: u32) -> Result<Page, StoreError> {
        let begin = range.after.as_ref().map_or(0, |after| {
            let at = self.documents.iter().position(|d| d.key == *after);
            at.map_or(self.documents.len(), |at| at + 1)
        });
        let end = self
            .documents
            .len()
            .min(begin.saturating_add(limit as usize));
        let documents = self.documents[begin..end].to_vec();
        Ok(Page {
            last: documents.last().map(|d| d.key.clone()),
            documents,
            rejects: Vec::new(),
        })
    }
}
