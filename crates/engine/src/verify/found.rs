//! What a comparison has found so far: in memory, and in the notes of the ledger's checkpoints.

use std::collections::HashMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use whimbrel_model::finding::{Comparison, Difference, Mismatch};
use whimbrel_model::ledger::RunId;
use whimbrel_model::{Entry, Revision};

use crate::error::EngineError;
use crate::job::Handled;
use crate::ledger::Ledger;
use crate::provenance::Spot;

/// Records a read.
const RECORDS: u32 = 1000;

/// What one chunk came to. `open` are differences that are still to be looked at again; everything else is
/// final.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Found {
    #[serde(skip_serializing_if = "is_zero")]
    pub source_documents: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub target_documents: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub by_digest: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub equal: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub missing: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub extra: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub differing: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub unreadable: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub skipped: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub settled: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<Difference>,
    /// Differences that no second look would change, counted above.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certain: Vec<Difference>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Found {
    pub fn add(&mut self, other: Found) {
        self.source_documents += other.source_documents;
        self.target_documents += other.target_documents;
        self.by_digest += other.by_digest;
        self.equal += other.equal;
        self.missing += other.missing;
        self.extra += other.extra;
        self.differing += other.differing;
        self.unreadable += other.unreadable;
        self.skipped += other.skipped;
        self.settled += other.settled;
        self.open.extend(other.open);
        self.certain.extend(other.certain);
    }

    pub fn count(&mut self, what: Mismatch) {
        match what {
            Mismatch::Missing => self.missing += 1,
            Mismatch::Extra => self.extra += 1,
            Mismatch::Differing => self.differing += 1,
            Mismatch::Unreadable => self.unreadable += 1,
        }
    }

    pub fn uncount(&mut self, what: Mismatch) {
        match what {
            Mismatch::Missing => self.missing -= 1,
            Mismatch::Extra => self.extra -= 1,
            Mismatch::Differing => self.differing -= 1,
            Mismatch::Unreadable => self.unreadable -= 1,
        }
    }

    pub fn bad(&self) -> u64 {
        self.missing + self.extra + self.differing + self.unreadable
    }

    /// As the loop and the ledger want it. `passed_over` are documents that were read and not looked at.
    pub fn handled(self, passed_over: u64) -> Result<Handled, EngineError> {
        let mut handled = Handled::default();
        let open = self
            .open
            .iter()
            .filter(|d| d.what != Mismatch::Extra)
            .count() as u64;
        let counts = &mut handled.counts;
        counts.unchanged = self.equal + self.settled;
        counts.skipped = self.skipped + passed_over;
        counts.quarantined = self.missing + self.differing + self.unreadable + open;
        counts.enumerated = counts.unchanged + counts.skipped + counts.quarantined;
        let note = serde_json::to_value(&self)
            .map_err(|e| EngineError::Counts(format!("a finding cannot be written down ({e})")))?;
        handled.note = Some(Box::new(note));
        Ok(handled)
    }

    pub fn into_comparison(self, mut differences: Vec<Difference>) -> Comparison {
        differences.sort_by(|a, b| (&a.collection, &a.key).cmp(&(&b.collection, &b.key)));
        Comparison {
            source_documents: self.source_documents,
            target_documents: self.target_documents,
            by_digest: self.by_digest,
            equal: self.equal,
            missing: self.missing,
            extra: self.extra,
            differing: self.differing,
            unreadable: self.unreadable,
            skipped: self.skipped,
            settled: self.settled,
            differences,
            ..Comparison::default()
        }
    }
}

/// Reads back what all attempts of a run found. `after`: the ledger's length before the run could begin.
pub(super) async fn read_back(
    ledger: &Ledger,
    run: &RunId,
    mut after: u64,
) -> Result<Found, EngineError> {
    let mut found = Found::default();
    loop {
        let records = ledger.journal().read(after, RECORDS).await?;
        let Some(last) = records.last() else {
            return Ok(found);
        };
        after = last.seq;
        for record in records {
            if let Entry::ChunkDone {
                run: of,
                note: Some(note),
                ..
            } = record.entry
                && of == *run
            {
                let one = serde_json::from_value(*note).map_err(|e| {
                    EngineError::Counts(format!("a finding in the ledger cannot be read ({e})"))
                })?;
                found.add(one);
            }
        }
    }
}

/// What both ends had of an open difference, and since when.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    pub revisions: Revisions,
    pub since: Instant,
}

/// Of every source document, in order, and of the target's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Revisions {
    pub sources: Vec<Option<Revision>>,
    pub target: Option<Revision>,
}

/// Open differences by their place in the target.
pub(super) type Sights = HashMap<Spot, Sight>;
