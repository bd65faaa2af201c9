//! One process at a time: one that lost its lease writes nothing that counts, and of two exactly one
//! proceeds.

use std::sync::Arc;

use whimbrel_engine::EngineError;
use whimbrel_engine::migrate::MigrationJob;
use whimbrel_model::ledger::{MigrationStatus, StepStatus};
use whimbrel_model::{Code, Entry, JournalError};
use whimbrel_testkit::crashing::Moment;

use crate::common::journal;
use crate::trouble::{Blow, Call};
use crate::world::{ID, Session, World, job, rule, statuses};

fn two_steps(world: &World, session: &Session) -> MigrationJob {
    let tools = &session.tools;
    let parts = [
        tools.upgrade("upgrade", "first", 1, 2),
        tools.copy("copy", "first", "firsts", rule("all")),
    ];
    job(ID, &parts, world.path())
}

/// The old process stands right before a write to the store, behind its last look at the lease, while an
/// operator takes the lease and goes on to the end. `write`: of the upgrade, of the copy, or of their undos.
async fn check_fenced(undoing: bool, write: u64) {
    let what = format!("undoing: {undoing}, write {write}");
    let world = World::new().await;
    let old = world.session().await;
    let old_job = two_steps(&world, &old);
    if undoing {
        old.engine.apply(old_job.clone()).await.unwrap();
    }
    old.trouble
        .arm(Blow::Stall, Call::Write, Moment::Before, write);
    let engine = Arc::clone(&old.engine);
    let stalled = tokio::spawn(async move {
        if undoing {
            engine.revert(old_job, None).await
        } else {
            engine.apply(old_job).await
        }
    });
    old.trouble.arrived().await;

    let operator = crate::common::ledger(world.path()).await;
    let broken = operator.break_lease("bea").await.unwrap().unwrap();
    let new = world.session().await;
    // Going on means going on in the same direction.
    let state = new.engine.apply(two_steps(&world, &new)).await.unwrap();
    let (status, steps) = if undoing {
        (MigrationStatus::Undone, [StepStatus::Undone; 2])
    } else {
        (MigrationStatus::Applied, [StepStatus::Done; 2])
    };
    assert_eq!(state.status, status, "{what}");
    assert_eq!(statuses(&state), steps, "{what}");
    let finished = world.picture().await;

    old.trouble.release();
    let error = stalled.await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::LeaseLost, "{what}: {error}");
    assert_eq!(world.picture().await, finished, "{what}");
    let records = journal(world.path()).await.read(0, 1000).await.unwrap();
    let taken = |r: &whimbrel_model::ledger::Record| matches!(r.entry, Entry::LeaseBroken { .. });
    let taken = records.iter().position(taken).unwrap();
    let behind = &records[taken..];
    assert!(behind.iter().all(|r| r.fence > broken.fence), "{what}");
    world.check_ledger(&what).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_past_its_lease_writes_nothing_more() {
    // The upgrade makes four writes, or five, and the copy as many.
    let places = [(false, 2), (false, 6), (true, 1), (true, 6)];
    let all = places.map(|(undoing, write)| check_fenced(undoing, write));
    futures::future::join_all(all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_operators_one_proceeds_and_the_other_is_told() {
    let world = World::new().await;
    let (ada, bea) = (world.session().await, world.session().await);
    ada.trouble.arm(Blow::Stall, Call::Write, Moment::Before, 2);
    let (engine, first) = (Arc::clone(&ada.engine), two_steps(&world, &ada));
    let at_work = tokio::spawn(async move { engine.apply(first).await });
    ada.trouble.arrived().await;

    let mut second = two_steps(&world, &bea);
    second.options.holder = "bea@there pid 2".to_owned();
    for undoing in [false, true] {
        let refused = if undoing {
            bea.engine.revert(second.clone(), None).await
        } else {
            bea.engine.apply(second.clone()).await
        };
        let Err(EngineError::Journal(JournalError::Held(lease))) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(lease.holder, format!("ada@here pid 1: migration {ID}"));
        assert!(lease.acquired_at.starts_with("20"), "{lease:?}");
    }
    let word = bea.engine.settle_step(ID, "copy", true, "bea", "bea").await;
    assert_eq!(word.unwrap_err().code(), Code::LeaseHeld);

    ada.trouble.release();
    let state = at_work.await.unwrap().unwrap();
    assert_eq!(state.status, MigrationStatus::Applied);
    // It let go of the lease before it came back, and there is nothing left to do.
    let state = bea.engine.apply(second).await.unwrap();
    assert_eq!(
        (state.status, state.attempts),
        (MigrationStatus::Applied, 1)
    );
    world.check_ledger("two operators").await;
}
