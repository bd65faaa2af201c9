//! Entries become records, and records state, whatever happens on the way.

use crate::{RUN, chunk, counts, folder, item, journal_in, ledger_in, ledger_of, started};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use whimbrel_model::ledger::{FoldError, RunStatus};
use whimbrel_model::{Code, Entry, Guard, JournalError, Key, Write, WriteOutcome};
use whimbrel_stores::OpenOptions;
use whimbrel_testkit::crashing::{CrashingJournal, JournalCall, Moment};

fn completed(chunks: u64) -> Entry {
    Entry::RunCompleted {
        run: RUN.to_owned(),
        counts: counts(chunks),
    }
}

#[tokio::test]
async fn entries_fold_to_state_and_a_second_process_sees_the_same() {
    let folder = folder();
    let ledger = ledger_in(&folder).await;
    let before = ledger.state();
    let lease = ledger.lock("test").await.unwrap();
    let batch = vec![started(RUN), chunk(1, false), chunk(2, true)];
    let records = ledger
        .append(lease.fence(), batch, &[item(1), item(2)])
        .await
        .unwrap();
    assert_eq!(records.iter().map(|r| r.seq).collect::<Vec<_>>(), [1, 2, 3]);
    ledger
        .append(lease.fence(), vec![completed(2)], &[])
        .await
        .unwrap();
    assert_eq!(before.seq, 0, "a snapshot stays as it was");
    let state = ledger.state();
    assert_eq!(state.runs[RUN].status, RunStatus::Completed);
    assert_eq!(state.order, [RUN]);

    let reader = ledger_in(&folder).await;
    assert_eq!(reader.state(), state);
    ledger
        .append(lease.fence(), vec![started("another")], &[])
        .await
        .unwrap();
    assert_eq!(reader.state().seq, 4);
    assert_eq!(reader.refresh().await.unwrap().seq, 5);
    let verified = reader.verify().await.unwrap();
    assert_eq!(
        (verified.records, verified.hash),
        (5, ledger.state().hash.clone())
    );
    lease.release().await.unwrap();
}

#[tokio::test]
async fn an_illegal_entry_is_refused_before_anything_is_written() {
    let folder = folder();
    let ledger = ledger_in(&folder).await;
    let lease = ledger.lock("test").await.unwrap();
    ledger
        .append(lease.fence(), vec![started(RUN)], &[])
        .await
        .unwrap();
    for illegal in [
        vec![started(RUN)],
        vec![completed(0)],
        vec![chunk(1, true), chunk(2, true)],
        vec![chunk(1, true), completed(7)],
        vec![Entry::RunResumed {
            run: "unknown".to_owned(),
            tool: String::new(),
        }],
    ] {
        let error = ledger
            .append(lease.fence(), illegal.clone(), &[item(1)])
            .await
            .unwrap_err();
        assert!(
            matches!(error, JournalError::Fold(FoldError::Illegal { .. })),
            "{illegal:?}: {error}"
        );
        assert_eq!(ledger.state().seq, 1);
        assert_eq!(ledger.verify().await.unwrap().records, 1);
        assert!(
            ledger
                .journal()
                .quarantined(None, None, 9)
                .await
                .unwrap()
                .is_empty()
        );
    }
    ledger
        .append(lease.fence(), vec![chunk(1, true), completed(1)], &[])
        .await
        .unwrap();
}

#[tokio::test]
async fn many_tasks_append_in_turn() {
    let folder = folder();
    let ledger = Arc::new(ledger_in(&folder).await);
    let lease = ledger.lock("test").await.unwrap();
    ledger
        .append(lease.fence(), vec![started(RUN)], &[])
        .await
        .unwrap();
    let appending: Vec<_> = (0..50)
        .map(|n| {
            let (ledger, fence) = (ledger.clone(), lease.fence());
            tokio::spawn(async move {
                ledger
                    .append(fence, vec![chunk(n, false)], &[item(n)])
                    .await
            })
        })
        .collect();
    for one in appending {
        one.await.unwrap().unwrap();
    }
    assert_eq!(ledger.state().runs[RUN].counts, counts(50));
    assert_eq!(ledger.verify().await.unwrap().records, 51);
}

#[tokio::test]
async fn a_writer_that_comes_too_late_learns_what_the_other_wrote() {
    let folder = folder();
    let (ledger, other) = (ledger_in(&folder).await, ledger_in(&folder).await);
    let lease = ledger.lock("test").await.unwrap();
    ledger
        .append(lease.fence(), vec![started(RUN)], &[])
        .await
        .unwrap();
    // The same lease in two hands is what fencing cannot tell apart; the sequence number does.
    let late = other
        .append(lease.fence(), vec![started(RUN)], &[])
        .await
        .unwrap_err();
    assert_eq!(late.code(), Code::LedgerMoved);
    assert_eq!(other.state(), ledger.state());
    let illegal = other
        .append(lease.fence(), vec![started(RUN)], &[])
        .await
        .unwrap_err();
    assert_eq!(illegal.code(), Code::LedgerBroken);
    other
        .append(lease.fence(), vec![chunk(1, false)], &[])
        .await
        .unwrap();
}

fn lost() -> JournalError {
    JournalError::Failed {
        ledger: "test".to_owned(),
        message: "the connection was lost".to_owned(),
    }
}

#[tokio::test]
async fn an_append_of_unknown_outcome_is_looked_up() {
    for (moment, landed) in [(Moment::Before, false), (Moment::After, true)] {
        let folder = folder();
        let failing = CrashingJournal::new(journal_in(&folder).await, move |point| {
            let fails = point.call == JournalCall::Append && point.n == 2 && point.moment == moment;
            if fails { Err(lost()) } else { Ok(()) }
        });
        let ledger = ledger_of(Arc::new(failing)).await;
        let lease = ledger.lock("test").await.unwrap();
        ledger
            .append(lease.fence(), vec![started(RUN)], &[])
            .await
            .unwrap();
        let second = ledger
            .append(lease.fence(), vec![chunk(1, false)], &[item(1)])
            .await;
        assert_eq!(second.is_ok(), landed, "{second:?}");
        let done = if landed { 2 } else { 1 };
        assert_eq!(ledger.state().seq, done);
        ledger
            .append(lease.fence(), vec![chunk(2, false)], &[item(2)])
            .await
            .unwrap();
        assert_eq!(ledger.verify().await.unwrap().records, done + 1);
        assert_eq!(ledger.state().runs[RUN].counts, counts(done));
        let waiting = ledger.journal().quarantined(None, None, 9).await.unwrap();
        assert_eq!(waiting.len() as u64, done);
    }
}

#[tokio::test]
async fn an_abandoned_append_leaves_the_ledger_usable() {
    let folder = folder();
    let ledger = ledger_in(&folder).await;
    let lease = ledger.lock("test").await.unwrap();
    ledger
        .append(lease.fence(), vec![started(RUN)], &[])
        .await
        .unwrap();
    for n in 0..20 {
        // Dropped at its first wait: the write goes on in its thread, and lands or not before the next.
        let append = ledger.append(lease.fence(), vec![chunk(n, false)], &[]);
        tokio::select! {
            biased;
            result = append => drop(result.unwrap()),
            () = std::future::ready(()) => {}
        }
    }
    loop {
        match ledger
            .append(lease.fence(), vec![chunk(99, true)], &[])
            .await
        {
            Ok(_) => break,
            Err(JournalError::Moved { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let verified = ledger.verify().await.unwrap();
    assert_eq!(verified.records, ledger.state().seq);
    assert_eq!(
        ledger.state().runs[RUN].counts,
        counts(verified.records - 1)
    );
}

#[tokio::test]
async fn a_ledger_cut_short_behind_its_back_is_noticed() {
    let folder = folder();
    let ledger = ledger_in(&folder).await;
    let lease = ledger.lock("test").await.unwrap();
    ledger
        .append(lease.fence(), vec![started(RUN), chunk(1, false)], &[])
        .await
        .unwrap();
    let (seq, hash) = (ledger.state().seq, ledger.state().hash.clone());
    // The ledger's file is a database like any other; so is its table a collection.
    let url = format!("sqlite:{}/ledger.db", folder.path().display());
    let store = whimbrel_stores::open(&url, &OpenOptions::default())
        .await
        .unwrap();
    let delete = Write {
        collection: "record".to_owned(),
        key: Key::Int(2),
        to: None,
        guard: Guard::Any,
    };
    assert_eq!(
        store.write(&[delete]).await.unwrap(),
        [WriteOutcome::Applied]
    );
    let error = ledger.verify().await.unwrap_err();
    assert_eq!(error.code(), Code::LedgerBroken);
    assert!(error.to_string().contains("missing"), "{error}");
    assert_eq!((ledger.state().seq, &ledger.state().hash), (seq, &hash));
}

#[tokio::test]
async fn a_lost_append_does_not_hide_a_fencing() {
    let folder = folder();
    let broken = Arc::new(AtomicBool::new(false));
    let seen = broken.clone();
    let inner = journal_in(&folder).await;
    let hooked = CrashingJournal::new(inner.clone(), move |point| {
        if point.call == JournalCall::Append && point.moment == Moment::Before {
            seen.store(true, Ordering::SeqCst);
        }
        Ok(())
    });
    let ledger = ledger_of(Arc::new(hooked)).await;
    let lease = ledger.lock("test").await.unwrap();
    inner.break_lease("operator", 60_000).await.unwrap();
    let error = ledger
        .append(lease.fence(), vec![started(RUN)], &[])
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::LeaseLost);
    assert!(
        broken.swap(false, Ordering::SeqCst),
        "the journal itself refused it"
    );
    // From now on this process knows, and does not even ask.
    let error = ledger
        .append(lease.fence(), vec![started(RUN)], &[])
        .await
        .unwrap_err();
    assert!(error.to_string().contains("operator"), "{error}");
    assert!(!broken.load(Ordering::SeqCst));
    assert!(lease.is_lost());
}
