//! What a run tells while it works: one stream for the terminal, machines and the ledger's readers.

use crate::ledger::{Counts, RunId};
use crate::{Code, Key};
use serde::Serialize;

/// One thing that a run did. Never holds a value of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Start {
        run: RunId,
        title: String,
        /// Whether an interrupted run goes on; `done` is what it had handled before.
        resumed: bool,
        done: Counts,
        /// Documents expected, where known.
        expected: Option<u64>,
        partitions: u32,
        dry_run: bool,
    },
    BatchComplete {
        run: RunId,
        partition: u32,
        counts: Counts,
        totals: Counts,
        elapsed_ms: u64,
    },
    DocumentError {
        run: RunId,
        key: String,
        code: Code,
        message: String,
        path: Option<String>,
        stage: Option<String>,
    },
    /// A migration moved on.
    Migration {
        migration: String,
        moment: Moment,
        /// The step it is about, from 1, and its name.
        #[serde(skip_serializing_if = "Option::is_none")]
        step: Option<(u32, String)>,
        /// What happened, in a sentence.
        message: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<Code>,
    },
    /// An abort rule was looked at.
    Rule {
        migration: String,
        rule: String,
        value: String,
        threshold: String,
        tripped: bool,
    },
    /// Something a person should know that stops nothing (a slow store, a retry).
    Notice { run: RunId, message: String },
    Complete {
        run: RunId,
        totals: Counts,
        elapsed_ms: u64,
        dry_run: bool,
    },
    /// The run stopped before its end. `resumable` says whether the same command goes on from here.
    Error {
        run: RunId,
        code: Code,
        message: String,
        resumable: bool,
        totals: Counts,
    },
}

/// Where in its life a migration is. Hooks name these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    Started,
    Resumed,
    StepStarted,
    StepDone,
    /// A try failed; another follows.
    StepRetried,
    StepFailed,
    /// The way back begins.
    Undoing,
    StepUndone,
    StepUndoFailed,
    StepKept,
    /// It rests: paused, waiting, stopped, or something is unknown.
    Rested,
    /// Every step is done and validated.
    Completed,
    /// Every step is taken back.
    RolledBack,
    /// The way back came to its end with something left.
    RollBackFailed,
}

/// What a dry run found that a document would become.
#[derive(Clone, Debug)]
pub struct Preview {
    pub key: Key,
    pub from: u32,
    pub to: u32,
    pub before: crate::Body,
    pub after: crate::Body,
}
