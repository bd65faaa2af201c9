//! The durable record: entries chained by hash, folded into state, guarded by a lease.

mod journal;
mod migration;
mod migration_fold;
mod state;
mod verified;

pub use journal::{
    Filed, Journal, JournalError, Lease, PreimageBlock, PreimageHit, QuarantineItem, Request,
};
pub use migration::{
    MigrationEntry, MigrationState, MigrationStatus, PhaseState, Rest, StepPlan, StepRef,
    StepReport, StepState, StepStatus,
};
pub use state::{FoldError, PartitionState, RunState, RunStatus, State, VerificationState};
pub use verified::{Compared, FailedCheck, VERIFICATION_OLD_SECONDS, Verified};

use crate::migration::Phase;
use crate::store::ScanOrder;
use crate::{Code, Key, KeyRange, Timestamp};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The newest ledger format this code reads and writes. A ledger with a greater one is refused.
pub const FORMAT: u32 = 1;

/// Names one run: `20261122-190455-7f3a2c`.
pub type RunId = String;

/// What became of the documents that a run looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Documents seen in the source.
    pub enumerated: u64,
    /// Upgraded, or copied by writing at least one target document.
    pub written: u64,
    /// Nothing to write: already at the version, or the target already equal.
    pub unchanged: u64,
    /// Left out because the user said so (`--skip-existing`, `on_error = "skip"`, a rule's `where`).
    pub skipped: u64,
    /// Newer than the newest known version: left untouched.
    pub newer: u64,
    pub quarantined: u64,
    /// Gone from the source before they could be handled.
    pub deleted: u64,
    /// Target documents written (a copy that splits writes more than it enumerates).
    pub derived: u64,
    /// Target documents removed because their source no longer yields them.
    pub removed: u64,
    /// Guards lost to other writers; each was read again and decided anew.
    pub conflicts: u64,
}

impl Counts {
    /// I7: every document seen has exactly one fate.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.enumerated
            == self.written
                + self.unchanged
                + self.skipped
                + self.newer
                + self.quarantined
                + self.deleted
    }

    pub fn add(&mut self, other: &Counts) {
        self.enumerated += other.enumerated;
        self.written += other.written;
        self.unchanged += other.unchanged;
        self.skipped += other.skipped;
        self.newer += other.newer;
        self.quarantined += other.quarantined;
        self.deleted += other.deleted;
        self.derived += other.derived;
        self.removed += other.removed;
        self.conflicts += other.conflicts;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    Upgrade,
    Copy,
    Retry,
    /// Takes back what runs wrote.
    Undo,
    Backup,
    Restore,
    Verify,
}

/// What a run is to do: enough to find it again and to know that it still means the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    pub kind: JobKind,
    /// What the user would call it: `upgrade app/conversations to v3`.
    pub title: String,
    /// Two runs with the same subject exclude each other's resumption (`upgrade app/conversations`).
    pub subject: String,
    /// Everything that decides the result, checksums included. Never a secret.
    pub parameters: serde_json::Value,
}

impl JobSpec {
    /// Whether it brings documents on: an upgrade or a copy, whole or of what waited.
    #[must_use]
    pub fn is_forward(&self) -> bool {
        matches!(self.kind, JobKind::Upgrade | JobKind::Copy)
    }
}

/// One thing that happened. The first field set of each run is immutable once written; readers ignore
/// fields they do not know, and an unknown entry is an error (a newer binary wrote it).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Entry {
    RunStarted {
        run: RunId,
        job: JobSpec,
        /// The instant that transforms see as now, in every attempt.
        now: String,
        partitions: Vec<KeyRange>,
        /// What the partitions are ranges of.
        #[serde(default, skip_serializing_if = "ScanOrder::is_by_keys")]
        scan: ScanOrder,
        tool: String,
        /// The migration's step that it works for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<StepRef>,
    },
    /// An interrupted run goes on.
    RunResumed {
        run: RunId,
        tool: String,
    },
    /// The run goes on with these partitions instead of those that it had. Some of their documents it may have
    /// handled before.
    RunRecut {
        run: RunId,
        partitions: Vec<KeyRange>,
        #[serde(default, skip_serializing_if = "ScanOrder::is_by_keys")]
        scan: ScanOrder,
        /// Whether they are the whole collection once more, so that the counts begin at nothing. Otherwise they
        /// are what came to lie behind partitions that are all done.
        anew: bool,
    },
    /// Written after the store's commit it speaks of.
    ChunkDone {
        run: RunId,
        partition: u32,
        /// The last key handled; the next attempt begins behind it. `None` in a partition that had none.
        through: Option<Key>,
        counts: Counts,
        /// Whether the partition is finished.
        last: bool,
        /// What the job must remember of the chunk beyond its counts (an archive's chunk: its name and
        /// hash). Not folded into the state: it is read back from the records.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<Box<serde_json::Value>>,
    },
    /// Waiting documents were handled by `run`, or are gone: they leave quarantine in the transaction that
    /// writes this. `count` is of those that were waiting right before; nobody else releases any under the
    /// run's lease.
    QuarantineResolved {
        run: RunId,
        subject: String,
        count: u64,
    },
    RunCompleted {
        run: RunId,
        counts: Counts,
    },
    /// The run stopped and can be resumed.
    RunInterrupted {
        run: RunId,
        code: Code,
        message: String,
    },
    /// The run gave up by its own rules (threshold) or by the user's word; it is not resumed.
    RunAborted {
        run: RunId,
        code: Code,
        message: String,
    },
    LeaseBroken {
        by: String,
        holder: String,
        fence: u64,
    },
    Migration {
        migration: String,
        #[serde(flatten)]
        change: MigrationEntry,
    },
    PhaseChanged {
        /// `store/collection`
        collection: String,
        from: Phase,
        to: Phase,
        epoch: u64,
        by: String,
    },
    /// A verification came to its end.
    Verified(Box<Verified>),
}

/// An entry as it stands in the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// From 1, without gaps.
    pub seq: u64,
    pub at: String,
    /// The fencing token of the lease it was written under.
    pub fence: u64,
    /// The hash of the record before; zeros for the first.
    pub previous: String,
    /// Over everything above and the entry.
    pub hash: String,
    pub entry: Entry,
    /// The entry's JSON as it was hashed. Another version of this program may know more fields than
    /// this one, or fewer, so the text is kept and never written anew from `entry`.
    #[serde(skip)]
    text: String,
}

pub const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

impl Record {
    /// The record that follows `previous` (its seq and hash; `(0, NO_HASH)` at the start).
    #[must_use]
    pub fn following(previous: (u64, &str), at: Timestamp, fence: u64, entry: Entry) -> Self {
        let mut record = Self {
            seq: previous.0 + 1,
            at: at.to_string(),
            fence,
            previous: previous.1.to_owned(),
            hash: String::new(),
            text: serde_json::to_string(&entry).unwrap_or_default(),
            entry,
        };
        record.hash = record.expected_hash();
        record
    }

    /// A record as a ledger stored it, `text` being the entry's JSON.
    ///
    /// # Errors
    /// The columns do not match their hash, or they do and the entry is of a kind that only a newer
    /// program knows.
    pub fn stored(
        seq: u64,
        at: String,
        fence: u64,
        previous: String,
        hash: String,
        text: String,
    ) -> Result<Self, FoldError> {
        if hash != hash_of(&previous, seq, &at, fence, &text) {
            return Err(FoldError::Chain { seq, what: ALTERED });
        }
        // The hash vouches for the text, so what cannot be read was written by a program that knows more.
        let entry = serde_json::from_str(&text).map_err(|e| FoldError::Newer {
            seq,
            what: e.to_string(),
        })?;
        Ok(Self {
            seq,
            at,
            fence,
            previous,
            hash,
            entry,
            text,
        })
    }

    /// The entry's JSON, exactly as it is hashed and must be stored.
    #[must_use]
    pub fn entry_text(&self) -> Cow<'_, str> {
        if self.text.is_empty() {
            // Read from JSON of a whole record, which does not carry the text.
            Cow::Owned(serde_json::to_string(&self.entry).unwrap_or_default())
        } else {
            Cow::Borrowed(&self.text)
        }
    }

    /// What `hash` must be.
    #[must_use]
    pub fn expected_hash(&self) -> String {
        hash_of(
            &self.previous,
            self.seq,
            &self.at,
            self.fence,
            &self.entry_text(),
        )
    }
}

const ALTERED: &str = "its content does not match its hash";

fn hash_of(previous: &str, seq: u64, at: &str, fence: u64, entry: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [previous, &seq.to_string(), at, &fence.to_string(), entry] {
        // Lengths keep two neighbouring parts from being cut differently.
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}
