//! `kill -9` before and after every write of a run: what was acknowledged is there, nothing is half there,
//! and the run goes on to its end.

use crate::{RUN, chunk, counts, item, journal_in, ledger_of, started};
use bytes::Bytes;
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;
use whimbrel_engine::Ledger;
use whimbrel_engine::ledger::PreimageEntry;
use whimbrel_model::ledger::RunStatus;
use whimbrel_model::{Entry, Fingerprint, Key};
use whimbrel_testkit::crashing::{CrashingJournal, JournalCall, Moment, kill_self};

const CHUNKS: i64 = 4;
const FOLDER: &str = "WHIMBREL_TEST_CRASH_FOLDER";
const AT: &str = "WHIMBREL_TEST_CRASH_AT";

/// A run as jobs do it: pre-images, (the store's write,) the checkpoint; resumed where it stopped.
async fn work(ledger: &Ledger) {
    // The killed process still has the lease.
    ledger.break_lease("test").await.unwrap();
    let lease = ledger.lock("test").await.unwrap();
    let fence = lease.fence();
    let state = ledger.state();
    let entry = match state.runs.get(RUN) {
        None => started(RUN),
        Some(run) if run.status == RunStatus::Completed => return,
        Some(_) => Entry::RunResumed {
            run: RUN.to_owned(),
            tool: "0".to_owned(),
        },
    };
    ledger.append(fence, vec![entry], &[]).await.unwrap();
    let state = ledger.state();
    let partition = &state.runs[RUN].partitions[0];
    let first = match &partition.through {
        Some(Key::Int(n)) => n + 1,
        _ => 1,
    };
    for n in first..=CHUNKS {
        let image = PreimageEntry {
            key: Key::Int(n),
            before: Bytes::from(format!("{{\"n\":{n}}}")),
            from: 1,
            to: 2,
            after: Fingerprint(7),
        };
        ledger
            .put_preimages(fence, RUN, "app/a", vec![image])
            .await
            .unwrap();
        ledger
            .append(fence, vec![chunk(n, n == CHUNKS)], &[item(n)])
            .await
            .unwrap();
    }
    let counts = ledger.state().runs[RUN].counts;
    let completed = Entry::RunCompleted {
        run: RUN.to_owned(),
        counts,
    };
    ledger.append(fence, vec![completed], &[]).await.unwrap();
    lease.release().await.unwrap();
}

/// The child: works until the call that it is to die at. Run by itself it has nothing to do.
#[tokio::test]
async fn child_works_until_it_is_killed() {
    let (Ok(folder), Ok(at)) = (std::env::var(FOLDER), std::env::var(AT)) else {
        return;
    };
    let url = format!("sqlite:{folder}/ledger.db");
    let journal = whimbrel_stores::journal::open(&url).await.unwrap();
    let crashing = CrashingJournal::new(journal, move |point| {
        if format!("{:?} {} {:?}", point.call, point.n, point.moment) == at {
            kill_self();
        }
        Ok(())
    });
    work(&ledger_of(Arc::new(crashing)).await).await;
}

fn run_child(folder: &TempDir, at: &str) -> bool {
    let status = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "crashes::child_works_until_it_is_killed",
            "--quiet",
        ])
        .env(FOLDER, folder.path())
        .env(AT, at)
        .output()
        .unwrap()
        .status;
    status.success()
}

#[tokio::test]
async fn a_run_killed_at_any_write_goes_on_and_counts_nothing_twice() {
    let (chunks, appends) = (CHUNKS as u64, CHUNKS as u64 + 2);
    let points = (1..=appends)
        .map(|n| (JournalCall::Append, n))
        .chain((1..=chunks).map(|n| (JournalCall::PutPreimages, n)));
    for (call, n) in points {
        for moment in [Moment::Before, Moment::After] {
            let at = format!("{call:?} {n} {moment:?}");
            let folder = crate::folder();
            assert!(!run_child(&folder, &at), "{at}: the child was to be killed");
            // Before the nth pre-image there were as many appends: the start and n - 1 checkpoints.
            let before = call == JournalCall::Append && moment == Moment::Before;
            let acknowledged = if before { n - 1 } else { n };
            let ledger = ledger_of(journal_in(&folder).await).await;
            assert_eq!(ledger.verify().await.unwrap().records, acknowledged, "{at}");
            let waiting = ledger.journal().quarantined(None, None, 99).await.unwrap();
            assert_eq!(
                waiting.len() as u64,
                acknowledged.saturating_sub(1).min(chunks),
                "{at}"
            );

            work(&ledger).await;
            let state = ledger_of(journal_in(&folder).await).await.state();
            let run = &state.runs[RUN];
            assert_eq!(
                (run.status, run.counts),
                (RunStatus::Completed, counts(chunks)),
                "{at}"
            );
            let waiting = ledger.journal().quarantined(None, None, 99).await.unwrap();
            assert!(waiting.iter().all(|(_, item)| item.attempts == 1), "{at}");
            assert_eq!(waiting.len() as u64, chunks, "{at}");
            let keys: Vec<Key> = (1..=CHUNKS).map(Key::Int).collect();
            let images = ledger.preimages("app/a", &keys).await.unwrap();
            assert!(images.iter().all(|hits| !hits.is_empty()), "{at}");
        }
    }
}
