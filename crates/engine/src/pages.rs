//! Where a job's documents come from, and how they are cut.

use async_trait::async_trait;
use whimbrel_model::{Body, Key, KeyRange, Page, Store, StoreError, Write};

use crate::options::{JobOptions, Place};

/// Where a job's documents come from.
#[async_trait]
pub(crate) trait Pages: Send + Sync + 'static {
    /// The ranges that a new run is cut into; they stay the run's ranges in every attempt.
    async fn partitions(&self, parts: u32) -> Result<Vec<KeyRange>, StoreError>;
    /// The next documents of a range. An empty page ends it.
    async fn next(&self, range: &KeyRange, limit: u32) -> Result<Page, StoreError>;
}

/// All documents of a collection that are there at the start.
pub(crate) struct WholeCollection {
    pub place: Place,
    /// The most that a page reads.
    pub bytes: usize,
}

#[async_trait]
impl Pages for WholeCollection {
    async fn partitions(&self, parts: u32) -> Result<Vec<KeyRange>, StoreError> {
        self.place
            .store
            .partitions(&self.place.collection, &KeyRange::all(), parts)
            .await
    }

    async fn next(&self, range: &KeyRange, limit: u32) -> Result<Page, StoreError> {
        self.place
            .store
            .scan(&self.place.collection, range, limit, self.bytes)
            .await
    }
}

/// All documents of a collection, as they lie in their store.
pub(crate) struct ByPosition {
    pub place: Place,
    /// The most that a page reads.
    pub bytes: usize,
}

impl ByPosition {
    /// See [`Store::position_ranges`].
    pub(crate) async fn ranges(
        &self,
        after: Option<&Key>,
        parts: u32,
    ) -> Result<Option<Vec<KeyRange>>, StoreError> {
        self.place
            .store
            .position_ranges(&self.place.collection, after, parts)
            .await
    }
}

#[async_trait]
impl Pages for ByPosition {
    async fn partitions(&self, parts: u32) -> Result<Vec<KeyRange>, StoreError> {
        Ok(self.ranges(None, parts).await?.unwrap_or_default())
    }

    async fn next(&self, range: &KeyRange, limit: u32) -> Result<Page, StoreError> {
        self.place
            .store
            .scan_positions(&self.place.collection, range, limit, self.bytes)
            .await
    }
}

/// Chosen documents. One that does not exist is passed over.
pub(crate) struct ChosenKeys {
    pub place: Place,
    pub keys: Vec<Key>,
}

#[async_trait]
impl Pages for ChosenKeys {
    async fn partitions(&self, _parts: u32) -> Result<Vec<KeyRange>, StoreError> {
        Ok(vec![KeyRange::all()])
    }

    async fn next(&self, range: &KeyRange, limit: u32) -> Result<Page, StoreError> {
        let begin = match &range.after {
            Some(after) => self
                .keys
                .iter()
                .position(|k| k == after)
                .map_or(self.keys.len(), |i| i + 1),
            None => 0,
        };
        let end = self.keys.len().min(begin.saturating_add(limit as usize));
        let keys = &self.keys[begin..end];
        if keys.is_empty() {
            return Ok(Page::default());
        }
        let documents = self.place.store.get(&self.place.collection, keys).await?;
        Ok(Page {
            documents: documents.into_iter().flatten().collect(),
            rejects: Vec::new(),
            last: keys.last().cloned(),
        })
    }
}

/// How many partitions to work on at once, and how large a chunk may be. The store that gains most from
/// company decides: a worker that waits for the other store costs little.
pub(crate) fn width(options: &JobOptions, stores: &[&dyn Store]) -> (u32, u32) {
    let parallel = stores
        .iter()
        .map(|s| s.limits().parallel)
        .max()
        .unwrap_or(1);
    let most = stores
        .iter()
        .map(|s| s.limits().batch_writes)
        .min()
        .unwrap_or(1);
    (options.parallel.unwrap_or(parallel).max(1), most.max(1))
}

/// Cuts what is to be written into batches that the store takes.
pub(crate) fn batches<T>(
    items: Vec<T>,
    store: &dyn Store,
    size: impl Fn(&T) -> (u32, usize),
) -> Vec<Vec<T>> {
    let limits = store.limits();
    let mut batches: Vec<Vec<T>> = Vec::new();
    let (mut writes, mut bytes) = (0, 0);
    for item in items {
        let (w, b) = size(&item);
        let full = writes + w > limits.batch_writes || bytes + b > limits.batch_bytes;
        match batches.last_mut() {
            Some(batch) if !full => {
                batch.push(item);
                writes += w;
                bytes += b;
            }
            _ => {
                batches.push(vec![item]);
                (writes, bytes) = (w, b);
            }
        }
    }
    batches
}

/// What a write counts as in [`batches`].
pub(crate) fn size_of(write: &Write) -> (u32, usize) {
    let body = write.to.as_ref().map_or(0, Body::size);
    (1, write.key.size() + body)
}
