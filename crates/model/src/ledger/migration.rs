//! A migration's life in the ledger: a pure fold in which an illegal transition is an error.

use super::{Counts, RunId};
use crate::Code;
use crate::migration::Phase;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One application of a migration. Applied again after it was undone, it gets the next number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StepRef {
    pub migration: String,
    pub application: u32,
    /// From 0.
    pub step: u32,
}

/// What one step did, as it stands in the ledger. Never a document's value or a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepReport {
    /// The runs it made, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<RunId>,
    pub counts: Counts,
    pub elapsed_ms: u64,
    /// What a person wants to know: `3 collections, 1,204 documents, 312 kB in backups/0001-1-save`.
    pub summary: String,
    /// What the step's undo, or the steps behind it, need to know: an archive's place, a former phase.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
}

/// Why a migration is at rest before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rest {
    /// Stopped on request, or by an error after which nothing is undone (a lost lease, a full disk).
    Stopped,
    /// `whimbrel pause`.
    Paused,
    /// An `approve` step has no answer yet.
    Waiting,
    /// What became of a step is unknown, and only a person can tell.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MigrationStatus {
    /// At work going up, or killed while it was.
    Running,
    /// At rest on its way up.
    Resting(Rest),
    Applied,
    /// Taking itself back, or killed while it did.
    Undoing,
    /// At rest on its way down.
    UndoResting(Rest),
    /// Every step is taken back, but for those that were announced to have no way back.
    Undone,
    /// The undo came to its end, and some steps' undo failed.
    UndoFailed,
    /// Left out by the user's word.
    Skipped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    Pending,
    Running,
    Done,
    /// Tried and given up; nothing more is known to come of it.
    Failed,
    /// It may have happened.
    Unknown,
    Undoing,
    Undone,
    UndoFailed,
    UndoUnknown,
    /// It has no way back and was left as it is.
    Kept,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepState {
    pub name: String,
    pub kind: String,
    /// Whether it can be taken back, as was announced.
    pub reversible: bool,
    pub status: StepStatus,
    /// Tries of the direction that it is in.
    pub attempts: u32,
    pub started_at: Option<String>,
    pub ended_at: Option<String>,
    pub report: Option<StepReport>,
    pub undo_report: Option<StepReport>,
    /// Why it failed going up.
    pub error: Option<(Code, String)>,
    /// Why its undo failed.
    pub undo_error: Option<(Code, String)>,
    /// Who gave the go-ahead.
    pub approved_by: Option<String>,
}

/// A step as a migration announces it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepPlan {
    pub name: String,
    pub kind: String,
    /// Whether it can be taken back.
    pub reversible: bool,
}

/// What is known of one migration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MigrationState {
    pub id: String,
    /// From 1.
    pub application: u32,
    pub description: String,
    pub checksum: String,
    pub meaning: serde_json::Value,
    pub status: MigrationStatus,
    pub steps: Vec<StepState>,
    /// Why it failed, is taken back, or rests.
    pub cause: Option<(Code, String)>,
    /// Who began it, and who takes it back.
    pub by: String,
    pub undone_by: Option<String>,
    pub started_at: String,
    pub updated_at: String,
    pub ended_at: Option<String>,
    /// Times that it was begun or gone on with.
    pub attempts: u32,
    /// Microseconds that a single read took before the start (the 95th percentile), by place.
    pub baseline: BTreeMap<String, u64>,
}

/// One thing that happened to a migration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum MigrationEntry {
    Started {
        application: u32,
        description: String,
        checksum: String,
        meaning: serde_json::Value,
        steps: Vec<StepPlan>,
        by: String,
        tool: String,
    },
    /// Microseconds of a single read, by place.
    Baseline {
        latency: BTreeMap<String, u64>,
    },
    /// A killed or resting one goes on, in the direction that it was going.
    Resumed {
        by: String,
        tool: String,
    },
    Rested {
        rest: Rest,
        code: Code,
        message: String,
    },
    StepStarted {
        step: u32,
    },
    StepDone {
        step: u32,
        report: StepReport,
    },
    /// `unknown`: it may have happened.
    StepFailed {
        step: u32,
        code: Code,
        message: String,
        unknown: bool,
    },
    /// Somebody looked, and says that it did happen (`done`) or did not.
    StepSettled {
        step: u32,
        done: bool,
        by: String,
    },
    Approved {
        step: u32,
        by: String,
    },
    /// An abort rule tripped.
    Tripped {
        rule: String,
        value: String,
        threshold: String,
    },
    Applied,
    UndoStarted {
        by: String,
        /// Why, where it is not simply asked for.
        cause: Option<(Code, String)>,
    },
    StepUndoStarted {
        step: u32,
    },
    StepUndone {
        step: u32,
        report: StepReport,
    },
    StepUndoFailed {
        step: u32,
        code: Code,
        message: String,
        unknown: bool,
    },
    /// It has no way back.
    StepKept {
        step: u32,
    },
    /// The undo came to its end.
    Undone,
    Skipped {
        description: String,
        checksum: String,
        meaning: serde_json::Value,
        by: String,
    },
}

/// Where a collection's cutover stands, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseState {
    pub phase: Phase,
    /// The phase before.
    pub from: Phase,
    /// Grows with every change.
    pub epoch: u64,
    pub at: String,
    pub by: String,
}

impl MigrationState {
    /// Whether it is on its way, up or down: nothing else may begin before it has ended.
    #[must_use]
    pub fn open(&self) -> bool {
        use MigrationStatus as S;
        matches!(
            self.status,
            S::Running | S::Resting(_) | S::Undoing | S::UndoResting(_) | S::UndoFailed
        )
    }

    /// Whether it is at work, if its process lives.
    #[must_use]
    pub fn at_work(&self) -> bool {
        matches!(
            self.status,
            MigrationStatus::Running | MigrationStatus::Undoing
        )
    }

    /// The step that a resumed migration goes on with, going up.
    #[must_use]
    pub fn next_step(&self) -> Option<usize> {
        self.steps.iter().position(|s| s.status != StepStatus::Done)
    }
}
