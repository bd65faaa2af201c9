//! The durable record: entries chained by hash, folded into state, guarded by a lease.

use crate::{Code, DocError, Key, KeyRange, Timestamp};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The newest ledger format this code reads and writes. A ledger with a greater one is refused.
pub const FORMAT: u32 = 1;

/// Names one run: `20261122-190455-7f3a`.
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

/// One thing that happened. The first field set of each run is immutable once written; readers ignore
/// fields they do not know, and an unknown entry is an error (a newer binary wrote it).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Entry {
    RunStarted {
        run: RunId,
        job: JobSpec,
        /// The instant that transforms see as now, in every attempt.
        now: String,
        partitions: Vec<KeyRange>,
        tool: String,
    },
    /// An interrupted run goes on.
    RunResumed {
        run: RunId,
        tool: String,
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
    },
    /// Waiting documents were handled by `run`: they leave quarantine.
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
}

/// An entry as it stands in the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Started, and neither ended nor known to have stopped: at work, or killed.
    Running,
    Interrupted,
    Completed,
    Aborted,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    pub range: KeyRange,
    pub through: Option<Key>,
    pub done: bool,
}

/// One run as folded from its entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunState {
    pub run: RunId,
    pub job: JobSpec,
    pub now: String,
    pub tool: String,
    pub status: RunStatus,
    pub started_at: String,
    pub updated_at: String,
    pub attempts: u32,
    pub partitions: Vec<PartitionState>,
    pub counts: Counts,
    /// Why it stopped, where it did.
    pub error: Option<(Code, String)>,
    pub resolved: u64,
}

/// The ledger's state: a pure fold over its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub seq: u64,
    pub hash: String,
    pub runs: BTreeMap<RunId, RunState>,
    /// Runs in the order they started.
    pub order: Vec<RunId>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            seq: 0,
            hash: NO_HASH.to_owned(),
            runs: BTreeMap::new(),
            order: Vec::new(),
        }
    }
}

/// Why a record does not follow from the state before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    #[error(
        "ledger record {seq}: the hash chain is broken ({what}); the ledger was altered or damaged"
    )]
    Chain { seq: u64, what: &'static str },
    #[error("ledger record {seq}: {what}")]
    Illegal { seq: u64, what: String },
    #[error(
        "ledger record {seq} was written by a newer program ({what}); nothing was written; use that program"
    )]
    Newer { seq: u64, what: String },
}

impl State {
    /// Takes one more record in.
    ///
    /// # Errors
    /// The chain does not hold, or the entry is no legal next step.
    pub fn apply(&mut self, record: &Record) -> Result<(), FoldError> {
        let seq = record.seq;
        let broken = |what| Err(FoldError::Chain { seq, what });
        if seq != self.seq + 1 {
            return broken("a record is missing");
        }
        if record.previous != self.hash {
            return broken("it does not follow the record before");
        }
        if record.hash != record.expected_hash() {
            return broken(ALTERED);
        }
        self.step(record)
            .map_err(|what| FoldError::Illegal { seq, what })?;
        self.seq = seq;
        self.hash.clone_from(&record.hash);
        Ok(())
    }

    fn step(&mut self, record: &Record) -> Result<(), String> {
        match &record.entry {
            Entry::RunStarted {
                run,
                job,
                now,
                partitions,
                tool,
            } => {
                if self.runs.contains_key(run) {
                    return Err(format!("run {run} starts twice"));
                }
                let state = RunState {
                    run: run.clone(),
                    job: job.clone(),
                    now: now.clone(),
                    tool: tool.clone(),
                    status: RunStatus::Running,
                    started_at: record.at.clone(),
                    updated_at: record.at.clone(),
                    attempts: 1,
                    partitions: partitions
                        .iter()
                        .map(|range| PartitionState {
                            range: range.clone(),
                            ..Default::default()
                        })
                        .collect(),
                    counts: Counts::default(),
                    error: None,
                    resolved: 0,
                };
                self.runs.insert(run.clone(), state);
                self.order.push(run.clone());
            }
            Entry::RunResumed { run, .. } => {
                let state = self.unended(run, record)?;
                state.status = RunStatus::Running;
                state.attempts += 1;
                state.error = None;
            }
            Entry::ChunkDone {
                run,
                partition,
                through,
                counts,
                last,
            } => {
                let state = self.running(run, record)?;
                let part = state
                    .partitions
                    .get_mut(*partition as usize)
                    .ok_or_else(|| format!("run {run} has no partition {partition}"))?;
                if part.done {
                    return Err(format!(
                        "partition {partition} of run {run} was already finished"
                    ));
                }
                if through.is_some() {
                    part.through.clone_from(through);
                }
                part.done = *last;
                state.counts.add(counts);
            }
            Entry::QuarantineResolved { run, count, .. } => {
                self.running(run, record)?.resolved += count;
            }
            Entry::RunCompleted { run, counts } => {
                let state = self.running(run, record)?;
                if let Some(open) = state.partitions.iter().position(|p| !p.done) {
                    return Err(format!(
                        "run {run} completes with partition {open} unfinished"
                    ));
                }
                if *counts != state.counts || !counts.balanced() {
                    return Err(format!(
                        "run {run} completes with counts that do not add up"
                    ));
                }
                state.status = RunStatus::Completed;
            }
            Entry::RunInterrupted { run, code, message } => {
                let state = self.running(run, record)?;
                state.status = RunStatus::Interrupted;
                state.error = Some((*code, message.clone()));
            }
            Entry::RunAborted { run, code, message } => {
                let state = self.unended(run, record)?;
                state.status = RunStatus::Aborted;
                state.error = Some((*code, message.clone()));
            }
            Entry::LeaseBroken { .. } => {}
        }
        Ok(())
    }

    fn unended(&mut self, run: &str, record: &Record) -> Result<&mut RunState, String> {
        let state = self
            .runs
            .get_mut(run)
            .ok_or_else(|| format!("run {run} was never started"))?;
        if matches!(state.status, RunStatus::Completed | RunStatus::Aborted) {
            return Err(format!("run {run} has already ended"));
        }
        state.updated_at.clone_from(&record.at);
        Ok(state)
    }

    fn running(&mut self, run: &str, record: &Record) -> Result<&mut RunState, String> {
        let state = self.unended(run, record)?;
        if state.status == RunStatus::Interrupted {
            return Err(format!("run {run} is not running"));
        }
        Ok(state)
    }

    /// The unended run of a subject, if there is one: it must be resumed or aborted before another.
    #[must_use]
    pub fn pending(&self, subject: &str) -> Option<&RunState> {
        self.runs.values().find(|r| {
            r.job.subject == subject
                && matches!(r.status, RunStatus::Running | RunStatus::Interrupted)
        })
    }
}

/// Who may write the ledger now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Grows with every acquisition and never comes back.
    pub fence: u64,
    /// `user@host pid 123: upgrade app/conversations to v3`
    pub holder: String,
    pub acquired_at: String,
    /// Renewed while the holder lives; past it anybody may take the lease.
    pub expires_at: String,
    /// Whether it has passed by the ledger's own clock.
    pub expired: bool,
}

/// Documents as they were before a chunk of an upgrade wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreimageBlock {
    pub run: RunId,
    /// `store/collection`
    pub subject: String,
    /// The documents' keys, in the order they stand in `data`.
    pub keys: Vec<Key>,
    /// The engine's own encoding, compressed.
    pub data: Vec<u8>,
}

/// Where one key's pre-image lies.
#[derive(Clone, Debug)]
pub struct PreimageHit {
    /// Grows with every block written.
    pub block: u64,
    pub run: RunId,
    pub index: u32,
    pub data: std::sync::Arc<Vec<u8>>,
}

/// A document that waits, with its error. The document itself stays in its store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineItem {
    /// `upgrade app/conversations`: the job's subject.
    pub subject: String,
    pub run: RunId,
    /// The key as text, or where the row stands.
    pub label: String,
    /// `None` where the row's key is unreadable.
    pub key: Option<Key>,
    /// The schema version the document had, where it could be read.
    pub version: Option<u32>,
    pub error: DocError,
    pub at: String,
    pub attempts: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another writer appended first: re-read and decide anew.
    #[error("the ledger moved on to record {head} meanwhile")]
    Moved { head: u64 },
    /// The lease is another's now: this process may write nothing more.
    #[error("the ledger's lease was lost; it is held by {holder}")]
    Fenced { holder: String },
    #[error("the lease is held by {} since {} (until {})", .0.holder, .0.acquired_at, .0.expires_at)]
    Held(Box<Lease>),
    #[error(
        "the ledger {ledger} has format {found}, newer than this program's {FORMAT}; use the newer program"
    )]
    NewerFormat { ledger: String, found: u32 },
    #[error(transparent)]
    Fold(#[from] FoldError),
    #[error("the ledger {ledger} cannot be used: {message}")]
    Failed { ledger: String, message: String },
}

impl JournalError {
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Moved { .. } => Code::LedgerMoved,
            Self::Fenced { .. } => Code::LeaseLost,
            Self::Held(_) => Code::LeaseHeld,
            Self::NewerFormat { .. } | Self::Fold(FoldError::Newer { .. }) => Code::LedgerNewer,
            Self::Fold(_) => Code::LedgerBroken,
            Self::Failed { .. } => Code::LedgerFailed,
        }
    }
}

/// Where the ledger lives. Every writing call carries the fencing token of the caller's lease and is
/// refused ([`JournalError::Fenced`]) in the same transaction when the lease is another's now.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Without any secret.
    fn name(&self) -> &str;

    /// Records after `after`, oldest first, at most `limit`.
    async fn read(&self, after: u64, limit: u32) -> Result<Vec<Record>, JournalError>;

    /// Appends records and files the quarantined documents that they count, durably, all or nothing.
    /// An item replaces a waiting one of the same subject and label; its `attempts` then goes on.
    async fn append(
        &self,
        fence: u64,
        records: &[Record],
        quarantine: &[QuarantineItem],
    ) -> Result<(), JournalError>;

    /// Stores a block durably, before the write that it makes undoable. All blocks are kept, also several
    /// of one key in one run (a lost guard, a chunk done again): the reader tells by the fingerprint of
    /// the document which of them a write was made from.
    async fn put_preimages(&self, fence: u64, block: &PreimageBlock) -> Result<(), JournalError>;

    /// Every pre-image of each key, newest first.
    async fn preimages(
        &self,
        subject: &str,
        keys: &[Key],
    ) -> Result<Vec<Vec<PreimageHit>>, JournalError>;

    /// Waiting documents of a subject (all subjects where `None`) in filing order, after the label
    /// `after` of that subject.
    async fn quarantined(
        &self,
        subject: Option<&str>,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, QuarantineItem)>, JournalError>;

    /// Takes documents out of quarantine. Returns how many were in it.
    async fn release(
        &self,
        fence: u64,
        subject: &str,
        labels: &[String],
    ) -> Result<u64, JournalError>;

    /// Takes the lease, if nobody has it or its time is over.
    async fn acquire(&self, holder: &str, ttl_ms: u64) -> Result<Lease, JournalError>;

    async fn renew(&self, fence: u64, ttl_ms: u64) -> Result<(), JournalError>;

    async fn give_up(&self, fence: u64) -> Result<(), JournalError>;

    async fn lease(&self) -> Result<Option<Lease>, JournalError>;

    /// Takes the lease from whoever has it; the old holder can write nothing more.
    async fn break_lease(&self, by: &str, ttl_ms: u64) -> Result<Lease, JournalError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(state: &State, entry: Entry) -> Record {
        Record::following(
            (state.seq, &state.hash),
            Timestamp::from_micros(1),
            1,
            entry,
        )
    }

    fn started() -> Entry {
        Entry::RunStarted {
            run: "r".into(),
            job: JobSpec {
                kind: JobKind::Upgrade,
                title: "t".into(),
                subject: "s".into(),
                parameters: serde_json::json!({}),
            },
            now: Timestamp::from_micros(0).to_string(),
            partitions: vec![KeyRange::all()],
            tool: "0".into(),
        }
    }

    fn chunk(last: bool) -> Entry {
        let counts = Counts {
            enumerated: 2,
            written: 2,
            ..Counts::default()
        };
        Entry::ChunkDone {
            run: "r".into(),
            partition: 0,
            through: Some(Key::Int(3)),
            counts,
            last,
        }
    }

    #[test]
    fn entries_fold_and_illegal_steps_are_errors() {
        let mut state = State::default();
        let completed = |n| Entry::RunCompleted {
            run: "r".into(),
            counts: Counts {
                enumerated: n,
                written: n,
                ..Counts::default()
            },
        };
        for (entry, legal) in [
            (chunk(false), false),
            (started(), true),
            (started(), false),
            (chunk(false), true),
            (completed(2), false),
            (chunk(true), true),
            (chunk(true), false),
            (completed(3), false),
            (completed(4), true),
            (
                Entry::RunResumed {
                    run: "r".into(),
                    tool: String::new(),
                },
                false,
            ),
        ] {
            let before = state.clone();
            let result = state.apply(&record(&before, entry.clone()));
            assert_eq!(result.is_ok(), legal, "{entry:?}: {result:?}");
            if !legal {
                assert_eq!(state.seq, before.seq);
            }
        }
        assert_eq!(state.runs["r"].status, RunStatus::Completed);
    }

    #[test]
    fn an_altered_record_breaks_the_chain() {
        let mut state = State::default();
        let mut first = record(&state, started());
        first.at = Timestamp::from_micros(2).to_string();
        assert!(matches!(state.apply(&first), Err(FoldError::Chain { .. })));
    }
}
