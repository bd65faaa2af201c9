//! What every database must offer.

use crate::{Body, Code, Document, Key, KeyKind, KeyRange, Write, WriteOutcome};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A database that keeps collections of documents. Plain data in and out: a driver's own types never
/// leave its module, and a store knows nothing of migrations.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// What messages call it: the URL without any secret.
    fn name(&self) -> &str;

    fn limits(&self) -> Limits;

    /// The collections that exist or are configured, by name, without the store's own side tables.
    async fn collections(&self) -> Result<Vec<String>, StoreError>;

    /// `None` when the collection does not exist.
    async fn describe(&self, collection: &str) -> Result<Option<Description>, StoreError>;

    /// Creates the collection where it is missing (one JSON column, keys of `key` kind).
    async fn ensure(&self, collection: &str, key: &KeyKind) -> Result<(), StoreError>;

    async fn count(&self, collection: &str, range: &KeyRange) -> Result<u64, StoreError>;

    /// Cuts a range into at most `parts` ranges of about as many documents each (quantiles of sampled
    /// keys). Together they cover every key now in `range`; the last one ends at the greatest key
    /// there is now, so that documents added behind it later are not waited for. Empty when no
    /// document is there.
    async fn partitions(
        &self,
        collection: &str,
        range: &KeyRange,
        parts: u32,
    ) -> Result<Vec<KeyRange>, StoreError>;

    /// The next documents of `range` in the store's key order, at most `limit` of them and about
    /// `bytes` bytes (but at least one, if there is one). An empty page is the end of the range.
    async fn scan(
        &self,
        collection: &str,
        range: &KeyRange,
        limit: u32,
        bytes: usize,
    ) -> Result<Page, StoreError>;

    /// Cuts the whole collection, or what lies behind the position `after`, into at most `parts` ranges of
    /// positions: the order in which the documents lie in the store, each of which places a walk of it touches
    /// once. `None` where the order of keys is no worse, or positions do not last.
    ///
    /// A position is a key by its form only: it means something to this store alone, and may be kept. A document
    /// stays where it is unless others write it (some replace the row), and is then behind the last range's end;
    /// `after` that end finds it.
    ///
    /// # Errors
    /// `Code::StoreMoved`: `after` is of before the documents were laid out anew.
    async fn position_ranges(
        &self,
        _collection: &str,
        _after: Option<&Key>,
        _parts: u32,
    ) -> Result<Option<Vec<KeyRange>>, StoreError> {
        Ok(None)
    }

    /// [`Store::scan`] of a range of positions, in their order; [`Page::last`] is one.
    ///
    /// # Errors
    /// `Code::StoreMoved`: the documents were laid out anew since the range was cut; nothing was read, and no
    /// position from before leads anywhere.
    async fn scan_positions(
        &self,
        collection: &str,
        _range: &KeyRange,
        _limit: u32,
        _bytes: usize,
    ) -> Result<Page, StoreError> {
        Err(StoreError::new(
            StoreErrorKind::Terminal,
            Code::StoreMoved,
            self.name(),
            format!("{collection:?} has no positions; nothing was read"),
        ))
    }

    /// One answer a key, in the order asked.
    async fn get(
        &self,
        collection: &str,
        keys: &[Key],
    ) -> Result<Vec<Option<Document>>, StoreError>;

    /// The bodies as the collection would give them back after a write. Typed columns have their own forms
    /// (an instant's text, a number's digits), so a target is compared with these. A body that cannot be
    /// held comes back as it is: writing it will say why.
    /// `keys` are the documents' keys, in the same order.
    async fn held(
        &self,
        _collection: &str,
        _keys: &[Key],
        bodies: Vec<Body>,
    ) -> Result<Vec<Body>, StoreError> {
        Ok(bodies)
    }

    /// The key as the collection would give it back (a number may come back as its digits); `None` where no
    /// document of the collection can have it.
    fn held_key(&self, _collection: &str, key: &Key) -> Option<Key> {
        Some(key.clone())
    }

    /// What the store keeps of documents besides their keys and fields, which no copy and no backup carries, and
    /// which it sets itself where it is the target: a clause for people.
    fn not_carried(&self) -> Option<&'static str> {
        None
    }

    /// Applies the writes in one transaction and says what became of each, in order. A lost guard or a
    /// refused document leaves the others applied. On `Err` of kind `Transient` or `Terminal` nothing
    /// was written; of kind `Unknown` all or nothing was. No key comes twice in a batch.
    async fn write(&self, writes: &[Write]) -> Result<Vec<WriteOutcome>, StoreError>;

    /// The same store as of one instant, for reading only: every scan, get and count of it sees the same
    /// data, also from several tasks at once. `None` where the store cannot give that. It is let go when
    /// the last handle is dropped.
    async fn snapshot(&self) -> Result<Option<std::sync::Arc<dyn Store>>, StoreError> {
        Ok(None)
    }

    /// Digests of every document of a range, cell by cell, computed where the documents lie, in one pass. `None`
    /// where the store cannot do that.
    async fn digests(
        &self,
        _collection: &str,
        _cells: &Cells,
    ) -> Result<Option<Digests>, StoreError> {
        Ok(None)
    }

    /// The documents of some cells, each with its own hash, which a cell's digest is the sum of. In no order.
    async fn digest_lines(
        &self,
        _collection: &str,
        _cells: &Cells,
        _wanted: &[Cell],
    ) -> Result<Option<Vec<DigestLine>>, StoreError> {
        Ok(None)
    }

    /// Runs statements in the store's own language, in one transaction. Returns how many rows the last
    /// one gave back or changed.
    ///
    /// # Errors
    /// Nothing was changed, unless the kind is `Unknown`. Terminal where the store has no such language.
    async fn statement(&self, text: &str) -> Result<StatementOutcome, StoreError> {
        let _ = text;
        Err(StoreError::new(
            StoreErrorKind::Terminal,
            Code::StoreFailed,
            self.name(),
            "this store has no statements; nothing was done",
        ))
    }
}

/// In which order a collection is walked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScanOrder {
    #[default]
    Keys,
    /// As the documents lie in the store ([`Store::position_ranges`]).
    Positions,
}

impl ScanOrder {
    pub(crate) fn is_by_keys(&self) -> bool {
        *self == Self::Keys
    }
}

/// How the documents of a range are put into cells.
#[derive(Clone, Debug)]
pub struct Cells {
    pub range: KeyRange,
    /// Where the range is cut into parts, in the store's order of keys. A part ends with its cut; the last part
    /// is what lies behind the last cut.
    pub cuts: Vec<Key>,
    /// How many cells each part has, by a hash of the documents' keys. A power of two.
    pub each: u32,
}

/// The number of a part, and of a cell in it.
pub type Cell = (u32, u32);

/// What cells hold, in a few bytes each. Where two digests are of the same `kind`, equal cells mean equal keys and
/// bodies; cells that differ mean nothing yet (the same number may be written in two ways).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digests {
    /// Everything that decides the hashes besides the documents: how they are computed, over which columns, and
    /// in which order the keys stand, so that the same bounds mean the same keys.
    /// Digests of different kinds cannot be compared.
    pub kind: String,
    /// Cells without documents are left out.
    pub cells: BTreeMap<Cell, Digest>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    pub documents: u64,
    /// Rows among them that are no documents: the digest says nothing of them.
    pub unreadable: u64,
    /// A sum over the documents' hashes: their order does not count.
    pub hash: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestLine {
    pub cell: Cell,
    pub key: Key,
    /// `None` where the row is no document.
    pub hash: Option<u64>,
}

/// What statements did. Never a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatementOutcome {
    /// Rows that the last statement gave back.
    pub rows: u64,
    /// Rows that the statements changed.
    pub changed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Writes a batch.
    pub batch_writes: u32,
    /// Bytes a batch.
    pub batch_bytes: usize,
    /// Bytes a document.
    pub document_bytes: usize,
    /// Whether scans follow `Key`'s own `Ord`.
    pub key_order: bool,
    /// How many partitions may usefully be worked on at once.
    pub parallel: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    pub layout: Layout,
    pub key: KeyKind,
    /// Roughly how many documents there are, where the store knows it at once.
    pub documents: Option<u64>,
    pub bytes: Option<u64>,
}

/// How a collection's documents lie in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Key columns and one column of JSON.
    Json,
    /// Columns are fields.
    Columns(Vec<Column>),
    /// The store keeps documents as such.
    Native,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// The store's own name of the type.
    pub kind: String,
    pub nullable: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Page {
    pub documents: Vec<Document>,
    /// Rows that are there but cannot be read as documents. They count as enumerated.
    pub rejects: Vec<Reject>,
    /// The last key (or position) of the page, documents and rejects alike: where the next page begins.
    pub last: Option<Key>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// `None` when the row's key itself is no [`Key`]; `label` then says where it stands.
    pub key: Option<Key>,
    pub label: String,
    /// Never a value.
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// Nothing was written; the same call may succeed later (busy, serialization, lost connection
    /// before a commit was sent).
    Transient,
    /// Nothing was written and nothing will be: retrying is useless.
    Terminal,
    /// The write may have landed. Re-read, then decide; never retry blindly.
    Unknown,
}

/// What went wrong in a store. `message` never holds a document's value or a secret.
#[derive(Debug, thiserror::Error)]
#[error("{store}: {message}")]
pub struct StoreError {
    pub kind: StoreErrorKind,
    pub code: Code,
    pub store: String,
    pub message: String,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StoreError {
    #[must_use]
    pub fn new(kind: StoreErrorKind, code: Code, store: &str, message: impl Into<String>) -> Self {
        Self {
            kind,
            code,
            store: store.to_owned(),
            message: message.into(),
            source: None,
        }
    }

    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }
}
