//! What a store must offer so that Firestore's protocol can be served from it.
//!
//! A backend knows nothing of the protocol's rules: preconditions, transforms, queries and listeners are the
//! gateway's. It keeps documents with their times and, for an hour, what they were before; walks them in
//! orders that the gateway chose (an index is a list of bytes, each beside its document's place); writes
//! all of a batch or nothing; and says what *others* wrote to the same tables, in SQL, meanwhile.

use crate::{Fields, Micros, Place};
use async_trait::async_trait;
use std::collections::HashMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;
use whimbrel_model::StoreError;

/// A document as it is held.
#[derive(Clone, Debug)]
pub struct Stored {
    pub fields: Arc<Fields>,
    pub created: Micros,
    pub updated: Micros,
}

/// One document's step from one state to the next. `None` is absence.
#[derive(Clone, Debug)]
pub struct Change {
    pub place: Place,
    /// When it was committed. Commits of the gateway have times of their own, each greater than any before.
    pub at: Micros,
    pub before: Option<Stored>,
    pub after: Option<Stored>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IndexId(pub u32);

/// A line of an index: `key` orders it, and is the line's own (it ends in the document's name).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexLine {
    pub index: IndexId,
    pub key: Vec<u8>,
    pub place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexState {
    pub id: IndexId,
    /// What the gateway calls it: says which documents have lines in it and which.
    pub definition: String,
    /// Whether every document has its lines: until then it cannot be walked.
    pub ready: bool,
}

/// What stands at a place that a commit touches.
#[derive(Clone, Debug)]
pub enum There {
    Document(Stored),
    /// Something that is no document: others can write what they like to a table. Says why; names, never values.
    Unreadable(String),
}

impl There {
    #[must_use]
    pub fn document(&self) -> Option<&Stored> {
        match self {
            Self::Document(stored) => Some(stored),
            Self::Unreadable(_) => None,
        }
    }
}

/// What stands at the places that a commit touches, at this moment; nobody can change it until the commit is over.
/// A place that is not in it is empty.
pub type Found = HashMap<Place, There>;

/// What a commit does.
#[derive(Debug, Default)]
pub struct Batch {
    /// The time of the commit: greater than that of any before.
    pub at: Micros,
    /// Only of places that were named to [`Backend::commit`], each once. What stands there is written over, also
    /// where it is no document.
    pub documents: Vec<Put>,
    /// Lines to take out of indexes; those that are not there do no harm.
    pub unindex: Vec<IndexLine>,
    /// Lines to put in; those that are there already do no harm.
    pub index: Vec<IndexLine>,
    /// Changes of others ([`Backend::foreign`]) up to this mark are reflected in the indexes now.
    pub settled: Option<u64>,
}

/// A document as it shall be.
#[derive(Clone, Debug)]
pub struct Put {
    pub place: Place,
    /// When it was written: not after the batch's own time (a batch holds the writes of several requests, each with
    /// its own). What the document was before, it was until then.
    pub at: Micros,
    /// `None` deletes.
    pub stored: Option<Stored>,
}

/// Decides what is written, given what is there. It runs inside the store's transaction and must be quick;
/// it is called again, with what is there then, where the store has to begin anew, and what it
/// decided last is what counts.
pub type Decide = Box<dyn FnMut(&Found) -> Batch + Send>;

/// What others (programs that write SQL to the same tables) changed.
#[derive(Debug, Default)]
pub struct Foreign {
    /// Oldest first. `before` is what the document was; `after` is what it was made, or what it is now.
    pub changes: Vec<Change>,
    /// What to say in [`Batch::settled`] when the indexes reflect these changes; also where they concern no document, so
    /// that they are not looked at again. `None` where nothing happened.
    pub mark: Option<u64>,
    /// Whether there are more.
    pub more: bool,
}

/// What is walked: an index, or a collection's documents by the bytes of their keys.
#[derive(Clone, Debug)]
pub enum Along {
    Index(IndexId),
    Collection(Arc<str>),
}

/// A part of an order of documents.
#[derive(Clone, Debug)]
pub struct Walk {
    pub along: Along,
    /// Bounds of index keys, or of the bytes of document keys.
    pub from: Bound<Vec<u8>>,
    pub to: Bound<Vec<u8>>,
    pub descending: bool,
    /// At most so many lines (of `Walk` as of `page`), after which the next walk begins behind the last one's key.
    pub limit: u32,
    /// Whether the documents are wanted, or only where they are.
    pub documents: bool,
}

#[derive(Clone, Debug)]
pub struct Line {
    /// The index's key, or the document key's bytes.
    pub key: Vec<u8>,
    pub place: Place,
    /// `None` where documents were not asked for, or where an index's line has lost its document.
    pub stored: Option<Stored>,
}

/// A store that the gateway serves.
#[async_trait]
pub trait Backend: Send + Sync + fmt::Debug {
    /// What messages call it: the URL without any secret.
    fn name(&self) -> &str;

    /// The documents as they are now: one answer a place, in the order asked. The quick way for single reads.
    async fn get(&self, places: &[Place]) -> Result<Vec<Option<Stored>>, StoreError>;

    /// The whole store as of this moment, for as long as the view is kept.
    async fn view(&self) -> Result<Box<dyn View>, StoreError>;

    /// Writes what `decide` makes of the documents at `touch`, all of it or (on an error, or a crash) nothing.
    /// Where it returns, what was written survives a crash. A collection that does not exist is made.
    /// Only one commit runs at a time: the gateway groups them.
    ///
    /// # Errors
    /// Nothing was written, except with kind `Unknown`.
    async fn commit(&self, touch: &[Place], decide: Decide) -> Result<(), StoreError>;

    /// Why this store cannot hold such a document, if it cannot (PostgreSQL's texts hold no U+0000; a table has no
    /// column for a field). Asked before anything is written, so that only the request fails that wants it.
    /// Says names and limits, never values. Quick: it may be called inside of [`Decide`].
    fn refuse(&self, place: &Place, fields: &Fields) -> Option<String> {
        let _ = (place, fields);
        None
    }

    /// The time of the last commit, the gateway's own or another's; 0 before the first.
    async fn last_commit(&self) -> Result<Micros, StoreError>;

    /// Changes that others made and that no [`Batch::settled`] covered yet; at most `limit`.
    async fn foreign(&self, limit: u32) -> Result<Foreign, StoreError>;

    /// Every index there is.
    async fn indexes(&self) -> Result<Vec<IndexState>, StoreError>;

    /// Makes an index without lines (not ready), or finds the one that is there by its definition.
    async fn create_index(&self, definition: &str) -> Result<IndexState, StoreError>;

    async fn index_ready(&self, index: IndexId) -> Result<(), StoreError>;

    /// Forgets what documents were before `horizon`. Reads as of earlier times are refused by the gateway.
    async fn forget(&self, horizon: Micros) -> Result<(), StoreError>;
}

/// A store as of one moment.
#[async_trait]
pub trait View: Send + Sync {
    /// The time of the last commit that the view shows.
    fn at(&self) -> Micros;

    /// The documents as of the view, or as of an earlier time (not before the horizon).
    async fn get(
        &self,
        places: &[Place],
        at: Option<Micros>,
    ) -> Result<Vec<Option<Stored>>, StoreError>;

    /// The next lines, in order. Fewer than `limit` means that there are no more.
    async fn walk(&self, walk: &Walk) -> Result<Vec<Line>, StoreError>;

    /// How many lines there are between the bounds (`limit` counts, too).
    async fn count(&self, walk: &Walk) -> Result<u64, StoreError>;

    /// The names of the collections that hold documents (as of the view), in order.
    async fn collections(&self) -> Result<Vec<Arc<str>>, StoreError>;

    /// What changed after `since` and not after `until`, each place once, by place: `before` is the document as of
    /// `since`, `after` as of `until`; both may be `None` (made and deleted between) or the same.
    /// At most `limit` places after `after_place`.
    async fn changed(
        &self,
        since: Micros,
        until: Option<Micros>,
        after_place: Option<&Place>,
        limit: u32,
    ) -> Result<Vec<Change>, StoreError>;
}
