//! The engine's view of the ledger, on a real one: folding, leases, pre-images, and being killed.

mod appending;
mod crashes;
mod leases;
mod preimages;

use std::sync::Arc;
use tempfile::TempDir;
use whimbrel_engine::{Ledger, SystemClock};
use whimbrel_model::ledger::{Counts, JobKind, JobSpec, QuarantineItem};
use whimbrel_model::{Code, DocError, Entry, Journal, Key, KeyRange, ScanOrder};
use whimbrel_stores::journal;

const RUN: &str = "20261122-190455-7f3a";
const SUBJECT: &str = "upgrade app/conversations";

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

async fn journal_in(folder: &TempDir) -> Arc<dyn Journal> {
    let url = format!("sqlite:{}/ledger.db", folder.path().display());
    journal::open(&url).await.unwrap()
}

async fn ledger_of(journal: Arc<dyn Journal>) -> Ledger {
    Ledger::open(journal, Arc::new(SystemClock)).await.unwrap()
}

async fn ledger_in(folder: &TempDir) -> Ledger {
    ledger_of(journal_in(folder).await).await
}

fn started(run: &str) -> Entry {
    Entry::RunStarted {
        run: run.to_owned(),
        job: JobSpec {
            kind: JobKind::Upgrade,
            title: "upgrade app/conversations to v3".to_owned(),
            subject: SUBJECT.to_owned(),
            parameters: serde_json::json!({"to": 3}),
        },
        now: "2026-11-22T19:04:55Z".to_owned(),
        partitions: vec![KeyRange::all()],
        scan: ScanOrder::Keys,
        tool: "0.1.0".to_owned(),
        step: None,
    }
}

/// A chunk of one document written and one quarantined.
fn chunk(n: i64, last: bool) -> Entry {
    Entry::ChunkDone {
        run: RUN.to_owned(),
        partition: 0,
        through: Some(Key::Int(n)),
        counts: counts(1),
        last,
        note: None,
    }
}

fn counts(chunks: u64) -> Counts {
    Counts {
        enumerated: 2 * chunks,
        written: chunks,
        quarantined: chunks,
        ..Counts::default()
    }
}

fn item(n: i64) -> QuarantineItem {
    QuarantineItem {
        subject: SUBJECT.to_owned(),
        run: RUN.to_owned(),
        label: format!("bad {n}"),
        key: Some(Key::Int(n)),
        version: Some(1),
        error: DocError::new(Code::DocTransform, "it failed"),
        at: "2026-11-22T19:04:55Z".to_owned(),
        attempts: 1,
    }
}
