//! Abort rules and thresholds: what goes wrong in the middle takes everything back, with its cause.

use std::sync::Arc;
use std::time::Duration;

use whimbrel_engine::migrate::MigrationJob;
use whimbrel_engine::{Event, JobOptions, Threshold};
use whimbrel_model::ledger::{MigrationEntry, MigrationStatus, Rest, RunStatus, StepStatus};
use whimbrel_model::migration::{AbortRule, AbortWhen};
use whimbrel_model::{Code, Entry, Key};
use whimbrel_testkit::crashing::Moment;

use crate::common::{fill, journal, ledger};
use crate::trouble::{Blow, Call};
use crate::world::{ID, Session, Tools, World, job, rule, statuses, with_rules};

/// More than a verdict needs.
const MANY: usize = 300;

/// Every third document cannot be upgraded.
async fn poisoned() -> World {
    let world = World::new().await;
    let document = |i: usize| {
        let title = if i.is_multiple_of(3) {
            "null"
        } else {
            r#""t""#
        };
        let json = format!(r#"{{"title": {title}, "n": {i}}}"#);
        (Key::text(format!("p{i:05}")), json)
    };
    fill(&world.app, "first", (0..MANY).map(document)).await;
    world
}

/// The upgrade itself does not mind how many fail.
fn two_steps(world: &World, session: &Session, every: Duration) -> MigrationJob {
    let tools = Tools {
        pace: JobOptions {
            batch: Some(30),
            max_failed: Threshold::Share(1.0),
            ..session.tools.pace.clone()
        },
        ..session.tools.clone()
    };
    let parts = [
        tools.copy("copy", "chats", "messages", rule("all")),
        tools.upgrade("upgrade", "first", 1, 2),
    ];
    let failing = AbortRule {
        name: "failing".to_owned(),
        when: AbortWhen::FailedDocuments { above: 0.1 },
        every,
    };
    with_rules(job(ID, &parts, world.path()), vec![failing])
}

async fn check_tripped(world: &World, what: &str) {
    let state = world.state().await;
    assert_eq!(state.status, MigrationStatus::Undone, "{what}: {state:?}");
    assert_eq!(statuses(&state), [StepStatus::Undone; 2], "{what}");
    let (code, message) = state.cause.unwrap();
    assert_eq!(code, Code::MigrationAborted, "{what}");
    assert!(message.starts_with("abort rule failing: 3"), "{message}");
    assert!(message.contains("threshold more than 10"), "{message}");
    let records = journal(world.path()).await.read(0, 1000).await.unwrap();
    let tripped = |entry: &Entry| {
        matches!(entry, Entry::Migration { change: MigrationEntry::Tripped { rule, .. }, .. }
            if rule == "failing")
    };
    let times = records.iter().filter(|r| tripped(&r.entry)).count();
    assert_eq!(times, 1, "{what}");
    world.check_ledger(what).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_failures_in_the_middle_take_everything_back() {
    let world = poisoned().await;
    let before = world.picture().await;
    let session = world.session().await;
    let job = two_steps(&world, &session, Duration::from_millis(10));
    // Four writes of the copy, with what it remembers; most of the upgrade's are still to come then.
    session
        .trouble
        .arm(Blow::Stall, Call::Write, Moment::Before, 4 + 9);
    let mut events = session.engine.subscribe();
    let engine = Arc::clone(&session.engine);
    let at_work = tokio::spawn(async move { engine.apply(job).await });
    session.trouble.arrived().await;
    loop {
        let event = tokio::time::timeout(Duration::from_secs(20), events.recv()).await;
        let event = event.expect("no rule trips").expect("the engine lives");
        if matches!(event, Event::Rule { tripped: true, .. }) {
            break;
        }
    }
    session.trouble.release();
    at_work.await.unwrap().unwrap();
    check_tripped(&world, "in the middle").await;
    assert_eq!(world.picture().await, before);
    let state = ledger(world.path()).await.state();
    let cut = |r: &&whimbrel_model::ledger::RunState| r.status == RunStatus::Aborted;
    let cut = state.runs.values().find(cut).expect("it was cut short");
    assert!(cut.counts.enumerated < MANY as u64, "{:?}", cut.counts);
}

/// No look came between the last step's failures and the end.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_look_sees_what_no_look_saw() {
    let world = poisoned().await;
    let before = world.picture().await;
    let session = world.session().await;
    let job = two_steps(&world, &session, Duration::from_secs(3600));
    session.engine.apply(job).await.unwrap();
    check_tripped(&world, "at the end").await;
    assert_eq!(world.picture().await, before);
}

/// Whoever asked to be left where something fails is left there.
#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_trips_while_steps_are_kept() {
    let world = poisoned().await;
    let session = world.session().await;
    let mut job = two_steps(&world, &session, Duration::from_secs(3600));
    job.options.keep = true;
    let state = session.engine.apply(job.clone()).await.unwrap();
    assert_eq!(state.status, MigrationStatus::Resting(Rest::Stopped));
    assert_eq!(state.cause.unwrap().0, Code::MigrationAborted);
    let state = session.engine.revert(job, None).await.unwrap();
    assert_eq!(state.status, MigrationStatus::Undone, "{state:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_over_its_own_threshold_takes_everything_back() {
    let world = poisoned().await;
    let before = world.picture().await;
    let session = world.session().await;
    let tools = Tools {
        pace: JobOptions {
            max_failed: Threshold::Count(3),
            ..session.tools.pace.clone()
        },
        ..session.tools.clone()
    };
    let parts = [
        tools.copy("copy", "chats", "messages", rule("all")),
        tools.upgrade("upgrade", "first", 1, 2),
    ];
    let job = job(ID, &parts, world.path());
    let state = session.engine.apply(job).await.unwrap();
    assert_eq!(state.status, MigrationStatus::Undone, "{state:?}");
    assert_eq!(state.cause.unwrap().0, Code::RunThreshold);
    assert_eq!(world.picture().await, before);
    world.check_ledger("threshold").await;
    let waiting = session.engine.quarantined(None, None, 9).await.unwrap();
    assert_eq!(waiting.len(), 0, "{waiting:?}");
}
