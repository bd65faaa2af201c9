//! How a collection is cut into an archive's chunks.

use async_trait::async_trait;
use whimbrel_model::store::Description;
use whimbrel_model::{KeyRange, Page, StoreError};

use crate::options::Place;
use crate::pages::{Pages, WholeCollection};

/// What a chunk holds at most, before compression, unless one document is larger.
const CHUNK_BYTES: usize = 4 << 20;
/// Its documents: tiny ones would otherwise take more memory around them than in them.
pub(super) const CHUNK_DOCUMENTS: u32 = 40_000;
/// Documents that are worth a partition, where only their number is known.
const PARTITION_DOCUMENTS: u64 = 2_000;

/// A whole collection, in partitions that are worth a chunk each: an archive of many small collections
/// shall not become one of many small files.
pub(super) struct Chunks {
    whole: WholeCollection,
    /// The most partitions that there is something for.
    most: u32,
}

impl Chunks {
    pub(super) fn new(place: Place, description: &Description) -> Self {
        let by_bytes = description.bytes.map(|n| n / CHUNK_BYTES as u64);
        let by_documents = description.documents.map(|n| n / PARTITION_DOCUMENTS);
        // Few large documents are as good a reason for several partitions as many small ones.
        let most = by_bytes.max(by_documents).unwrap_or(u64::MAX);
        Self {
            whole: WholeCollection {
                place,
                bytes: CHUNK_BYTES,
            },
            most: u32::try_from(most).unwrap_or(u32::MAX).max(1),
        }
    }
}

#[async_trait]
impl Pages for Chunks {
    async fn partitions(&self, parts: u32) -> Result<Vec<KeyRange>, StoreError> {
        self.whole.partitions(parts.min(self.most)).await
    }

    async fn next(&self, range: &KeyRange, limit: u32) -> Result<Page, StoreError> {
        self.whole.next(range, limit).await
    }
}
