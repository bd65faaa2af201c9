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

/// What a dry run found that a document would become.
#[derive(Clone, Debug)]
pub struct Preview {
    pub key: Key,
    pub from: u32,
    pub to: u32,
    pub before: crate::Body,
    pub after: crate::Body,
}
