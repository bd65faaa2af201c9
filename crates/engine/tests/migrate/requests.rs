//! Words from other terminals: pause, abort, approve.

use std::sync::Arc;
use std::time::Duration;

use whimbrel_engine::EngineError;
use whimbrel_engine::migrate::MigrationJob;
use whimbrel_model::Code;
use whimbrel_model::ledger::{MigrationState, MigrationStatus, Request, Rest, StepStatus};
use whimbrel_testkit::crashing::Moment;

use crate::common::ledger;
use crate::trouble::{Blow, Call, Mode};
use crate::world::{ID, Part, Session, World, job, map_of, rule, statuses};

fn parts(session: &Session) -> Vec<Part> {
    let tools = &session.tools;
    vec![
        tools.upgrade("upgrade", "first", 1, 2),
        tools.copy("copy", "first", "firsts", rule("all")),
    ]
}

fn two_steps(world: &World, session: &Session) -> MigrationJob {
    job(ID, &parts(session), world.path())
}

/// From another terminal.
async fn ask(world: &World, what: &str, migration: &str, detail: &str, by: &str) {
    let other = world.session().await;
    other.engine.ask(what, migration, detail, by).await.unwrap();
}

async fn left(world: &World) -> Vec<Request> {
    let journal = crate::common::journal(world.path()).await;
    journal.requests().await.unwrap()
}

/// Until the process at work took them in.
async fn taken(world: &World, left_over: usize) {
    for _ in 0..2000 {
        if left(world).await.len() == left_over {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody heeds {:?}", left(world).await);
}

/// Asks in the middle of a write of a process that is at work.
async fn amid(
    world: &World,
    session: &Session,
    job: MigrationJob,
    undoing: bool,
    asked: &[(&str, &str)],
    left_over: usize,
) -> Result<MigrationState, EngineError> {
    session
        .trouble
        .arm(Blow::Stall, Call::Write, Moment::Before, 2);
    let engine = Arc::clone(&session.engine);
    let at_work = tokio::spawn(async move {
        if undoing {
            engine.revert(job, None).await
        } else {
            engine.apply(job).await
        }
    });
    session.trouble.arrived().await;
    for (what, migration) in asked {
        ask(world, what, migration, "it is late", "bea@there").await;
    }
    taken(world, left_over).await;
    session.trouble.release();
    at_work.await.unwrap()
}

async fn at_version_2(world: &World) -> usize {
    let now = world.picture().await;
    let is_2 = |json: &&String| map_of(json).contains_key("_schemaVersion");
    now.of("first").values().filter(is_2).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_in_the_middle_rests_and_goes_on_from_the_checkpoint() {
    let world = World::new().await;
    let session = world.session().await;
    let job = two_steps(&world, &session);
    let state = amid(&world, &session, job.clone(), false, &[("pause", ID)], 0).await;
    let state = state.unwrap();
    assert_eq!(state.status, MigrationStatus::Resting(Rest::Paused));
    let why = (Code::MigrationPaused, "paused by bea@there".to_owned());
    assert_eq!(state.cause, Some(why));
    let done = at_version_2(&world).await;
    assert!((1..20).contains(&done), "{done}");
    let counted = |state: &whimbrel_model::ledger::State| {
        let run = &state.runs[&state.order[0]];
        (run.counts.written as usize, run.attempts)
    };
    let before = ledger(world.path()).await.state();
    assert_eq!(counted(&before), (done, 1));

    let state = session.engine.apply(job.clone()).await.unwrap();
    assert_eq!(
        (state.status, state.attempts),
        (MigrationStatus::Applied, 2)
    );
    assert_eq!(state.cause, None);
    // The same run, each document once.
    assert_eq!(counted(&ledger(world.path()).await.state()), (20, 2));
    world.check_ledger("paused").await;

    // The same on the way down.
    let state = amid(&world, &session, job.clone(), true, &[("pause", ID)], 0).await;
    let state = state.unwrap();
    assert_eq!(state.status, MigrationStatus::UndoResting(Rest::Paused));
    let state = session.engine.apply(job).await.unwrap();
    assert_eq!(state.status, MigrationStatus::Undone);
    world.check_ledger("paused going down").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_in_the_middle_takes_everything_back() {
    for (keep, asked) in [
        (false, vec![("abort", ID)]),
        // Whoever aborts wants it back, whatever the process was told beforehand.
        (true, vec![("abort", ID)]),
        // Of two words the graver counts.
        (false, vec![("pause", ID), ("abort", ID)]),
        (false, vec![("abort", ID), ("pause", ID)]),
    ] {
        let what = format!("{asked:?}, keep: {keep}");
        let world = World::new().await;
        let before = world.picture().await;
        let session = world.session().await;
        let mut job = two_steps(&world, &session);
        job.options.keep = keep;
        let state = amid(&world, &session, job, false, &asked, 0).await.unwrap();
        assert_eq!(state.status, MigrationStatus::Undone, "{what}: {state:?}");
        let why = "aborted by bea@there: it is late".to_owned();
        assert_eq!(state.cause, Some((Code::MigrationAborted, why)), "{what}");
        let expected = [StepStatus::Undone, StepStatus::Pending];
        assert_eq!(statuses(&state), expected, "{what}");
        assert_eq!(world.picture().await, before, "{what}");
        world.check_ledger(&what).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_for_another_migration_is_left_alone() {
    let world = World::new().await;
    let session = world.session().await;
    let job = two_steps(&world, &session);
    let asked = [("abort", "0002_other"), ("dance", ID)];
    let state = amid(&world, &session, job, false, &asked, 1).await.unwrap();
    assert_eq!(state.status, MigrationStatus::Applied, "{state:?}");
    assert_eq!(left(&world).await[0].subject, "0002_other");
}

/// What was left while nobody was at work.
#[tokio::test(flavor = "multi_thread")]
async fn an_abort_waits_for_the_next_process_and_a_pause_does_not() {
    for (asked, expected) in [
        (vec!["abort"], MigrationStatus::Undone),
        (vec!["pause"], MigrationStatus::Applied),
        (vec!["pause", "abort", "pause"], MigrationStatus::Undone),
    ] {
        let what = format!("{asked:?}");
        let world = World::new().await;
        let before = world.picture().await;
        let session = world.session().await;
        let dead = Blow::Mode(Mode::Dead);
        session.trouble.arm(dead, Call::Append, Moment::After, 5);
        let died = session.engine.apply(two_steps(&world, &session)).await;
        assert!(died.is_err(), "{what}");
        for what in &asked {
            ask(&world, what, ID, "", "bea@there").await;
        }
        let next = world.session().await;
        let job = two_steps(&world, &next);
        let state = next.engine.apply(job.clone()).await.unwrap();
        assert_eq!(state.status, expected, "{what}: {state:?}");
        assert_eq!(left(&world).await, [], "{what}");
        if expected == MigrationStatus::Undone {
            assert_eq!(world.picture().await, before, "{what}");
            // One that came too late is not meant for the next application.
            ask(&world, "abort", ID, "", "bea@there").await;
            let state = next.engine.apply(job).await.unwrap();
            assert_eq!(state.status, MigrationStatus::Applied, "{what}: {state:?}");
            assert_eq!(left(&world).await, [], "{what}");
        }
        world.check_ledger(&what).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_go_ahead_while_a_process_waits_for_it() {
    let world = World::new().await;
    let session = world.session().await;
    let mut all = parts(&session);
    all.insert(1, session.tools.approve("go", &["bea"]));
    let mut job = job(ID, &all, world.path());
    job.options.wait = true;
    let engine = Arc::clone(&session.engine);
    let waiting = tokio::spawn(async move { engine.apply(job).await });
    for _ in 0..2000 {
        let known = ledger(world.path()).await.state();
        let step = known.migrations.get(ID).map(|m| m.steps[1].status);
        if step == Some(StepStatus::Running) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for (step, by) in [("go", "carl"), ("upgrade", "bea"), ("nothing", "bea")] {
        ask(&world, "approve", ID, step, by).await;
    }
    taken(&world, 0).await;
    let state = world.state().await;
    assert_eq!(state.steps[1].status, StepStatus::Running);
    assert_eq!(state.steps[1].approved_by, None);
    ask(&world, "approve", ID, "go", "bea@there").await;
    let state = waiting.await.unwrap().unwrap();
    assert_eq!(state.status, MigrationStatus::Applied, "{state:?}");
    assert_eq!(state.steps[1].approved_by.as_deref(), Some("bea@there"));
    world.check_ledger("waited").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_go_ahead_while_it_rests() {
    let world = World::new().await;
    let session = world.session().await;
    let mut all = parts(&session);
    all.insert(1, session.tools.approve("go", &["bea"]));
    let (job, engine) = (job(ID, &all, world.path()), &session.engine);
    let refused = engine.approve(&job.migration, "go", "bea", "bea").await;
    assert_eq!(refused.unwrap_err().code(), Code::MigrationOpen);
    for _ in 0..2 {
        let state = engine.apply(job.clone()).await.unwrap();
        assert_eq!(state.status, MigrationStatus::Resting(Rest::Waiting));
        assert_eq!(state.cause.unwrap().0, Code::ApprovalNeeded);
    }
    for (step, by, code) in [
        ("go", "carl@there", Code::ApprovalNeeded),
        ("upgrade", "bea", Code::MigrationInvalid),
    ] {
        let refused = engine.approve(&job.migration, step, by, by).await;
        assert_eq!(refused.unwrap_err().code(), code, "{step} by {by}");
    }
    let word = engine.approve(&job.migration, "go", "bea@there", "bea");
    word.await.unwrap();
    let state = engine.apply(job.clone()).await.unwrap();
    assert_eq!(state.status, MigrationStatus::Applied, "{state:?}");
    let late = engine.approve(&job.migration, "go", "bea", "bea").await;
    assert_eq!(late.unwrap_err().code(), Code::MigrationOpen);
    // Taken back and begun again, it needs another word.
    engine.revert(job.clone(), None).await.unwrap();
    let state = engine.apply(job).await.unwrap();
    assert_eq!(state.status, MigrationStatus::Resting(Rest::Waiting));
}
