//! What the ledger remembers of the runs becomes the manifest's parts.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use whimbrel_archive::{AsOf, CollectionPart};
use whimbrel_model::Entry;
use whimbrel_model::ledger::RunId;
use whimbrel_model::store::Description;

use super::work::SavedChunk;
use crate::error::EngineError;
use crate::ledger::Ledger;
use crate::options::Place;

/// Records a read.
const RECORDS: u32 = 1000;

/// A collection whose run is complete.
pub(super) struct Part {
    pub place: Place,
    pub version_field: String,
    pub description: Description,
    pub run: RunId,
    /// What this attempt saw; `None` where an earlier one did all of it.
    pub as_of: Option<AsOf>,
}

/// The chunks that the runs wrote, in the order of their keys, from the ledger alone: it knows all attempts.
pub(super) async fn parts(
    ledger: &Ledger,
    parts: Vec<Part>,
) -> Result<Vec<CollectionPart>, EngineError> {
    let mut chunks = chunks_of(ledger, parts.iter().map(|p| p.run.clone())).await?;
    let state = ledger.state();
    let mut collections = Vec::with_capacity(parts.len());
    for part in parts {
        let mut saved = chunks.remove(&part.run).unwrap_or_default();
        // Partitions follow each other, and so do the chunks in each.
        saved.sort_by_key(|(partition, _)| *partition);
        let run = state.runs.get(&part.run);
        let counts = run.map(|r| r.counts).unwrap_or_default();
        let mut as_of: BTreeSet<AsOf> = saved.iter().map(|(_, s)| s.as_of.clone()).collect();
        if as_of.is_empty() {
            // Nothing was there to save, and that is as of an instant, too.
            let then = || run.map(|r| r.now.clone()).unwrap_or_default();
            as_of.insert(part.as_of.clone().unwrap_or_else(|| AsOf {
                at: then(),
                live: true,
            }));
        }
        let mut whole = CollectionPart {
            store: part.place.store_name.clone(),
            origin: part.place.store.name().to_owned(),
            collection: part.place.collection.clone(),
            key: part.description.key.clone(),
            key_order: part.place.store.limits().key_order,
            layout: (&part.description).into(),
            documents: 0,
            unreadable: counts.quarantined,
            raw_bytes: 0,
            stored_bytes: 0,
            version_field: part.version_field,
            versions: BTreeMap::new(),
            as_of: as_of.into_iter().collect(),
            chunks: Vec::with_capacity(saved.len()),
        };
        for (
            _,
            SavedChunk {
                chunk, versions, ..
            },
        ) in saved
        {
            whole.documents += chunk.documents;
            whole.raw_bytes += chunk.raw_bytes;
            whole.stored_bytes += chunk.stored_bytes;
            for (version, count) in versions {
                *whole.versions.entry(version).or_default() += count;
            }
            whole.chunks.push(chunk);
        }
        if whole.documents != counts.written {
            return Err(EngineError::Counts(format!(
                "{}: {} documents were counted and {} are in the chunks",
                part.place, counts.written, whole.documents
            )));
        }
        collections.push(whole);
    }
    Ok(collections)
}

async fn chunks_of(
    ledger: &Ledger,
    runs: impl Iterator<Item = RunId>,
) -> Result<HashMap<RunId, Vec<(u32, SavedChunk)>>, EngineError> {
    let mut found: HashMap<RunId, Vec<(u32, SavedChunk)>> = runs.map(|r| (r, Vec::new())).collect();
    let mut after = 0;
    loop {
        let records = ledger.journal().read(after, RECORDS).await?;
        let Some(last) = records.last() else {
            return Ok(found);
        };
        after = last.seq;
        for record in records {
            if let Entry::ChunkDone {
                run,
                partition,
                note: Some(note),
                ..
            } = record.entry
                && let Some(chunks) = found.get_mut(&run)
            {
                let saved = serde_json::from_value(*note).map_err(|e| {
                    EngineError::Counts(format!("a chunk in the ledger cannot be read ({e})"))
                })?;
                chunks.push((partition, saved));
            }
        }
    }
}

/// Whether the collections of each store are all from one snapshot.
pub(super) fn consistent(collections: &[CollectionPart]) -> bool {
    let mut instants: BTreeMap<&str, BTreeSet<&AsOf>> = BTreeMap::new();
    for part in collections {
        instants.entry(&part.store).or_default().extend(&part.as_of);
    }
    instants
        .values()
        .all(|of| of.len() == 1 && of.iter().all(|as_of| !as_of.live))
}
