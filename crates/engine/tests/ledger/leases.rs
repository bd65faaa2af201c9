//! The guard that keeps a lease, and knows when it has none.

use crate::{RUN, chunk, folder, journal_in, ledger_in, ledger_of, started};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use whimbrel_model::ledger::RunStatus;
use whimbrel_model::{Code, Entry, JournalError};
use whimbrel_testkit::crashing::{CrashingJournal, JournalCall, Moment};

const TTL: Duration = Duration::from_millis(600);

#[tokio::test]
async fn a_held_lease_is_renewed_as_long_as_it_is_held() {
    let folder = folder();
    let (ledger, other) = (ledger_in(&folder).await, ledger_in(&folder).await);
    let lease = ledger.lock_for("ann", TTL).await.unwrap();
    let until = Instant::now() + 3 * TTL;
    while Instant::now() < until {
        match other.lock("bob").await {
            Err(JournalError::Held(held)) => assert_eq!(held.holder, "ann"),
            other => panic!("{other:?}"),
        }
        sleep(TTL / 10).await;
    }
    lease.check().unwrap();
    ledger
        .append(lease.fence(), vec![started(RUN)], &[])
        .await
        .unwrap();
    lease.release().await.unwrap();
    let next = other.lock("bob").await.unwrap();
    assert_eq!(
        other.state().seq,
        1,
        "locking takes in what the last holder wrote"
    );
    drop(next);
    // A dropped guard gives up soon, though nobody waits for it.
    let third = timeout(TTL, async {
        loop {
            if let Ok(lease) = ledger.lock("carl").await {
                return lease;
            }
            sleep(Duration::from_millis(5)).await;
        }
    });
    assert_eq!(third.await.unwrap().lease().holder, "carl");
}

#[tokio::test]
async fn a_broken_lease_is_noticed_within_a_renewal() {
    let folder = folder();
    let (ledger, operator) = (ledger_in(&folder).await, ledger_in(&folder).await);
    assert_eq!(operator.break_lease("operator").await.unwrap(), None);
    let lease = ledger.lock_for("ann", TTL).await.unwrap();
    ledger
        .append(lease.fence(), vec![started(RUN)], &[])
        .await
        .unwrap();
    let broken = operator.break_lease("operator").await.unwrap().unwrap();
    assert_eq!(
        (broken.holder.as_str(), broken.fence),
        ("ann", lease.fence())
    );
    let error = timeout(TTL, lease.lost()).await.unwrap();
    assert_eq!(error.code(), Code::LeaseLost);
    let error = ledger
        .append(lease.fence(), vec![chunk(1, false)], &[])
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::LeaseLost);
    lease.release().await.unwrap();

    let record = operator.journal().read(1, 9).await.unwrap().remove(0);
    let entry = Entry::LeaseBroken {
        by: "operator".to_owned(),
        holder: "ann".to_owned(),
        fence: broken.fence,
    };
    assert_eq!(record.entry, entry);
    assert!(record.fence > broken.fence);
    // The lease is free, and the run is there to be resumed.
    let lease = ledger.lock("ann again").await.unwrap();
    assert_eq!(ledger.state().runs[RUN].status, RunStatus::Running);
    let resumed = Entry::RunResumed {
        run: RUN.to_owned(),
        tool: "0".to_owned(),
    };
    ledger
        .append(lease.fence(), vec![resumed], &[])
        .await
        .unwrap();
}

#[tokio::test]
async fn a_lease_that_cannot_be_renewed_is_lost_when_its_time_is_over() {
    let folder = folder();
    let tries = Arc::new(AtomicU32::new(0));
    let counted = tries.clone();
    let deaf = CrashingJournal::new(journal_in(&folder).await, move |point| {
        if point.call != JournalCall::Renew || point.moment == Moment::After {
            return Ok(());
        }
        counted.fetch_add(1, Ordering::SeqCst);
        Err(JournalError::Failed {
            ledger: "test".to_owned(),
            message: "the server is away".to_owned(),
        })
    });
    let ledger = ledger_of(Arc::new(deaf)).await;
    let begun = Instant::now();
    let lease = ledger.lock_for("ann", TTL).await.unwrap();
    ledger
        .append(lease.fence(), vec![started(RUN)], &[])
        .await
        .unwrap();
    let error = timeout(4 * TTL, lease.lost()).await.unwrap();
    assert!(begun.elapsed() >= TTL);
    assert!(error.to_string().contains("did not renew"), "{error}");
    assert!(
        tries.load(Ordering::SeqCst) > 2,
        "it is tried again before it is given up"
    );
    let error = ledger
        .append(lease.fence(), vec![chunk(1, false)], &[])
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::LeaseLost);
}

#[tokio::test]
async fn a_short_disturbance_does_not_lose_the_lease() {
    let folder = folder();
    let away = Arc::new(AtomicBool::new(true));
    let switch = away.clone();
    let flaky = CrashingJournal::new(journal_in(&folder).await, move |point| {
        let fails = point.call == JournalCall::Renew && switch.load(Ordering::SeqCst);
        if fails {
            return Err(JournalError::Failed {
                ledger: "test".to_owned(),
                message: "the server is away".to_owned(),
            });
        }
        Ok(())
    });
    let ledger = ledger_of(Arc::new(flaky)).await;
    let lease = ledger.lock_for("ann", TTL).await.unwrap();
    sleep(TTL / 2).await;
    away.store(false, Ordering::SeqCst);
    sleep(2 * TTL).await;
    lease.check().unwrap();
}

/// As after `kill -STOP` and `-CONT`: nothing of the process ran, its renewing neither.
#[tokio::test]
async fn a_process_suspended_past_its_lease_writes_nothing() {
    let folder = folder();
    let ledger = ledger_in(&folder).await;
    let lease = ledger.lock_for("ann", TTL).await.unwrap();
    // Blocks the only thread of this test's runtime.
    std::thread::sleep(TTL + TTL / 4);
    let error = ledger
        .append(lease.fence(), vec![started(RUN)], &[])
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::LeaseLost);
    assert!(
        ledger
            .put_preimages(lease.fence(), RUN, "app/a", vec![])
            .await
            .is_ok(),
        "nothing to put"
    );
    assert_eq!(ledger.verify().await.unwrap().records, 0);
}
