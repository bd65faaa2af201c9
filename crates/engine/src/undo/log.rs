//! What a copy's target was before each write, kept in the ledger.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use whimbrel_model::{Body, Fingerprint, Key, Write, WriteOutcome};

use crate::error::EngineError;
use crate::job::ChunkContext;
use crate::ledger::{Ledger, PreimageEntry};
use crate::options::Place;

/// The version of a copied document in the log. Versions mean nothing there, but for these three.
const THERE: u32 = 1;
/// As the version from which, or to which: there is no document.
const ABSENT: u32 = 0;
/// As the version to which: the write that was recorded for the key before this did not happen.
const STRUCK: u32 = u32::MAX;

/// The subject under which the log of a collection lies. No upgrade's: those are called like the place.
pub(super) fn log_subject(place: &Place) -> String {
    format!("copied {place}")
}

/// The hash of a body's meaning; of its bytes where it has none.
pub(super) fn print_of(body: &Body) -> Fingerprint {
    body.fingerprint()
        .unwrap_or_else(|_| Fingerprint(xxhash_rust::xxh3::xxh3_128(&body.json())))
}

/// One recorded write, or that it did not happen.
#[derive(Clone, Debug)]
pub(super) enum Recorded {
    Written {
        /// `None`: there was no document.
        before: Option<Bytes>,
        /// `None`: the document was removed.
        after: Option<Fingerprint>,
    },
    Struck,
}

impl From<PreimageEntry> for Recorded {
    fn from(entry: PreimageEntry) -> Self {
        if entry.to == STRUCK {
            return Self::Struck;
        }
        Self::Written {
            before: (entry.from != ABSENT).then_some(entry.before),
            after: (entry.to != ABSENT).then_some(entry.after),
        }
    }
}

fn recorded(key: Key, before: Option<Body>, after: Option<Body>) -> PreimageEntry {
    let there = |body: &Option<Body>| if body.is_some() { THERE } else { ABSENT };
    PreimageEntry {
        key,
        from: there(&before),
        to: there(&after),
        before: before.map(Body::into_json).unwrap_or_default(),
        after: after.as_ref().map_or(Fingerprint(0), print_of),
    }
}

fn struck(key: Key) -> PreimageEntry {
    PreimageEntry {
        key,
        from: ABSENT,
        to: STRUCK,
        before: Bytes::new(),
        after: Fingerprint(0),
    }
}

/// Records a copy's writes.
pub(crate) struct UndoLog {
    pub ledger: Arc<Ledger>,
    pub target: Place,
}

impl UndoLog {
    /// Durable when it returns: only then may the writes be made. `before` is what each write replaces.
    pub(crate) async fn record(
        &self,
        cx: &ChunkContext,
        writes: &[Write],
        before: Vec<Option<Body>>,
    ) -> Result<(), EngineError> {
        let mut by_collection: BTreeMap<&str, Vec<(&Write, Option<Body>)>> = BTreeMap::new();
        for (write, before) in writes.iter().zip(before) {
            by_collection
                .entry(&write.collection)
                .or_default()
                .push((write, before));
        }
        for (collection, writes) in by_collection {
            // What the collection will give back is what the undo will find there.
            let written = writes
                .iter()
                .filter_map(|(w, _)| Some((&w.key, w.to.as_ref()?)));
            let (keys, bodies): (Vec<Key>, Vec<Body>) = written
                .map(|(key, body)| (key.clone(), body.clone()))
                .unzip();
            let store = &self.target.store;
            let mut held = store.held(collection, &keys, bodies).await?.into_iter();
            let changes: Vec<_> = writes
                .into_iter()
                .map(|(write, before)| {
                    let after = write.to.as_ref().and_then(|_| held.next());
                    (write.key.clone(), before, after)
                })
                .collect();
            // Hashing is computing: it must not hold up the runtime.
            let entries = tokio::task::spawn_blocking(move || {
                let one = |(key, before, after)| recorded(key, before, after);
                changes.into_iter().map(one).collect()
            })
            .await
            .map_err(|e| EngineError::Counts(format!("a comparison ended abnormally ({e})")))?;
            self.put(cx, collection, entries).await?;
        }
        Ok(())
    }

    /// Takes back the record of writes that did not happen, so that what somebody else wrote in their
    /// stead is never taken for the copy's, even where it is the same.
    pub(crate) async fn strike(
        &self,
        cx: &ChunkContext,
        writes: &[Write],
        outcomes: &[WriteOutcome],
    ) -> Result<(), EngineError> {
        let mut by_collection: BTreeMap<&str, Vec<PreimageEntry>> = BTreeMap::new();
        for (write, outcome) in writes.iter().zip(outcomes) {
            if *outcome != WriteOutcome::Applied {
                by_collection
                    .entry(&write.collection)
                    .or_default()
                    .push(struck(write.key.clone()));
            }
        }
        for (collection, entries) in by_collection {
            self.put(cx, collection, entries).await?;
        }
        Ok(())
    }

    async fn put(
        &self,
        cx: &ChunkContext,
        collection: &str,
        entries: Vec<PreimageEntry>,
    ) -> Result<(), EngineError> {
        let place = Place {
            collection: collection.to_owned(),
            ..self.target.clone()
        };
        let subject = log_subject(&place);
        self.ledger
            .put_preimages(cx.fence, &cx.run, &subject, entries)
            .await?;
        Ok(())
    }
}
