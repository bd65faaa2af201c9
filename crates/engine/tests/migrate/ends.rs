//! Ends that are not simply done or failed: unknown, kept, timed out, edited, overtaken, left for good.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use whimbrel_engine::Engine;
use whimbrel_engine::migrate::{Fault, MigrationJob, StepError};
use whimbrel_model::Code;
use whimbrel_model::ledger::{MigrationStatus, Rest, StepStatus};
use whimbrel_model::migration::{Action, Phase, RunStep};
use whimbrel_testkit::crashing::Moment;

use crate::common::ledger;
use crate::spoilt::{Work, spoilt};
use crate::trouble::{Blow, Call, Mode};
use crate::world::{ID, Part, Picture, Tools, World, job, rule, statuses};

use MigrationStatus as M;
use StepStatus as S;

fn with_step(tools: &Tools, part: Part, world: &World) -> MigrationJob {
    let parts = [
        tools.upgrade("before", "first", 1, 2),
        part,
        tools.copy("behind", "first", "firsts", rule("all")),
    ];
    job(ID, &parts, world.path())
}

fn edit(
    mut job: MigrationJob,
    change: impl FnOnce(&mut whimbrel_model::migration::Migration),
) -> MigrationJob {
    change(Arc::make_mut(&mut job.migration));
    job
}

fn blind(step: RunStep) -> RunStep {
    RunStep {
        validate: None,
        ..step
    }
}

fn idempotent(notes: &str, step: RunStep) -> RunStep {
    let statement = format!("INSERT OR IGNORE INTO {notes} (id, data) VALUES ('flag', '{{}}')");
    RunStep {
        forward: Action::Sql {
            store: "app".to_owned(),
            statement,
        },
        idempotent: true,
        ..step
    }
}

/// The store goes away when the statement has landed.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_may_have_landed() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Step {
        Judged,
        Blind,
        Idempotent,
    }
    for kind in [Step::Judged, Step::Blind, Step::Idempotent] {
        let what = format!("{kind:?}");
        let world = World::new().await;
        let before = world.picture().await;
        let session = world.session().await;
        let step = match kind {
            Step::Judged => session.tools.sql(),
            Step::Blind => blind(session.tools.sql()),
            Step::Idempotent => idempotent(&world.notes, session.tools.sql()),
        };
        let part = session.tools.run("sql", step);
        let (job, engine) = (with_step(&session.tools, part, &world), &session.engine);
        let gone = Blow::Mode(Mode::Gone);
        session.trouble.arm(gone, Call::Statement, Moment::After, 1);
        let state = engine.apply(job.clone()).await.unwrap();
        let rests = match kind {
            // Trying again is no harm, so it is only the store that is missing.
            Step::Idempotent => (M::Resting(Rest::Stopped), S::Failed),
            _ => (M::Resting(Rest::Unknown), S::Unknown),
        };
        assert_eq!((state.status, state.steps[1].status), rests, "{what}");
        session.trouble.heal();
        if kind == Step::Blind {
            // No program can tell.
            let again = engine.apply(job.clone()).await.unwrap();
            assert_eq!((again.status, again.steps[1].status), rests, "{what}");
            let settled = engine.settle_step(ID, "sql", true, "ada@here", "ada");
            settled.await.unwrap();
        }
        let state = engine.apply(job.clone()).await.unwrap();
        assert_eq!(state.status, M::Applied, "{what}: {state:?}");
        assert_eq!(world.picture().await.of("notes").len(), 1, "{what}");
        let state = engine.revert(job, None).await.unwrap();
        assert_eq!(state.status, M::Undone, "{what}: {state:?}");
        assert_eq!(world.picture().await, before, "{what}");
        world.check_ledger(&what).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_says_that_it_did_not_happen() {
    let world = World::new().await;
    let session = world.session().await;
    let part = session.tools.run("sql", blind(session.tools.sql()));
    let (job, engine) = (with_step(&session.tools, part, &world), &session.engine);
    let dead = Blow::Mode(Mode::Dead);
    session
        .trouble
        .arm(dead, Call::Statement, Moment::Before, 1);
    assert!(engine.apply(job.clone()).await.is_err());
    session.trouble.heal();
    let next = world.session().await;
    let part = next.tools.run("sql", blind(next.tools.sql()));
    let (job, engine) = (with_step(&next.tools, part, &world), &next.engine);
    let state = engine.apply(job.clone()).await.unwrap();
    assert_eq!(state.status, M::Resting(Rest::Unknown), "{state:?}");
    for (step, right) in [("none", false), ("before", false), ("sql", true)] {
        let settled = engine.settle_step(ID, step, false, "ada@here", "ada").await;
        assert_eq!(settled.is_ok(), right, "{step}: {settled:?}");
    }
    let state = engine.apply(job).await.unwrap();
    assert_eq!(state.status, M::Applied, "{state:?}");
    assert_eq!(world.picture().await.of("notes").len(), 1);
}

/// A look that fails for the moment is taken again; the step itself is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_look_does_not_repeat_the_step() {
    for (fails, expected) in [(1, M::Applied), (9, M::Resting(Rest::Unknown))] {
        let world = World::new().await;
        let session = world.session().await;
        let (runs, looks) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (ran, looked) = (Arc::clone(&runs), Arc::clone(&looks));
        let part = session.tools.run("sql", session.tools.sql());
        let part = spoilt(&part, move |work, moment| {
            let (ran, looked) = (Arc::clone(&ran), Arc::clone(&looked));
            Box::pin(async move {
                match (work, moment) {
                    (Work::Forward, Moment::Before) => {
                        ran.fetch_add(1, Ordering::SeqCst);
                    }
                    (Work::Validate, Moment::Before)
                        if looked.fetch_add(1, Ordering::SeqCst) < fails =>
                    {
                        let code = Code::StoreUnavailable;
                        return Err(StepError::new(Fault::Transient, code, "away"));
                    }
                    _ => {}
                }
                Ok(())
            })
        });
        let job = with_step(&session.tools, part, &world);
        let state = session.engine.apply(job).await.unwrap();
        assert_eq!(state.status, expected, "{state:?}");
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert_eq!(world.picture().await.of("notes").len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_where_it_failed_and_gone_on_with() {
    let world = World::new().await;
    let session = world.session().await;
    let fails = Arc::new(AtomicU32::new(1));
    let left = Arc::clone(&fails);
    let part = session.tools.upgrade("upgrade", "chats", 1, 3);
    let part = spoilt(&part, move |work, moment| {
        let left = Arc::clone(&left);
        Box::pin(async move {
            let now = (work, moment) == (Work::Forward, Moment::After);
            if now && left.swap(0, Ordering::SeqCst) > 0 {
                return Err(StepError::terminal(Code::StepFailed, "not yet"));
            }
            Ok(())
        })
    });
    let mut job = with_step(&session.tools, part, &world);
    job.options.keep = true;
    let state = session.engine.apply(job.clone()).await.unwrap();
    assert_eq!(state.status, M::Resting(Rest::Stopped));
    assert_eq!(statuses(&state), [S::Done, S::Failed, S::Pending]);
    assert_eq!(state.cause.unwrap().0, Code::StepFailed);
    let state = session.engine.apply(job).await.unwrap();
    assert_eq!(state.status, M::Applied);
    world.check_ledger("kept").await;
}

/// A point of no return stays, and everything else goes back.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_way_back_is_kept() {
    let world = World::new().await;
    let before = world.picture().await;
    let session = world.session().await;
    let tools = &session.tools;
    let step = RunStep {
        backward: None,
        ..tools.sql()
    };
    let failing = RunStep {
        validate: Some(Action::Command {
            command: vec!["false".into()],
            folder: None,
            env: Default::default(),
        }),
        ..tools.command()
    };
    let parts = [
        tools.upgrade("upgrade", "first", 1, 2),
        tools.run("for good", step),
        tools.copy("copy", "first", "firsts", rule("all")),
        tools.run("fails", failing),
    ];
    let state = session
        .engine
        .apply(job(ID, &parts, world.path()))
        .await
        .unwrap();
    assert_eq!(state.status, M::Undone, "{state:?}");
    assert_eq!(statuses(&state), [S::Undone, S::Kept, S::Undone, S::Undone]);
    let mut now = world.picture().await;
    assert_eq!(now.of("notes").len(), 1);
    now.collections
        .insert("notes".into(), before.of("notes").clone());
    assert_eq!(now, before);
    world.check_ledger("for good").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_takes_too_long() {
    for (idempotent, expected) in [(true, M::Undone), (false, M::Resting(Rest::Unknown))] {
        let world = World::new().await;
        let session = world.session().await;
        let step = RunStep {
            forward: Action::Command {
                command: vec!["sleep".into(), "30".into()],
                folder: None,
                env: Default::default(),
            },
            backward: Some(Action::Command {
                command: vec!["true".into()],
                folder: None,
                env: Default::default(),
            }),
            validate: None,
            idempotent,
        };
        let part = session.tools.run("slow", step);
        let job = edit(with_step(&session.tools, part, &world), |m| {
            m.steps[1].timeout = Some(Duration::from_millis(50));
        });
        let state = session.engine.apply(job).await.unwrap();
        assert_eq!(state.status, expected, "{state:?}");
        let error = state.steps[1].error.clone().unwrap();
        let code = if idempotent {
            Code::StepTimeout
        } else {
            Code::StepUnknown
        };
        assert_eq!(error.0, code);
    }
}

/// The undo of a step may fail for ever; then somebody mends by hand and says so.
#[tokio::test(flavor = "multi_thread")]
async fn an_undo_that_never_works_is_settled_by_hand() {
    let world = World::new().await;
    let before = world.picture().await;
    let session = world.session().await;
    let tools = &session.tools;
    let step = RunStep {
        backward: Some(Action::Sql {
            store: "app".to_owned(),
            statement: "DELETE FROM nothing".to_owned(),
        }),
        ..tools.sql()
    };
    let job = with_step(tools, tools.run("sql", step), &world);
    let engine = &session.engine;
    engine.apply(job.clone()).await.unwrap();
    for _ in 0..2 {
        let state = engine.revert(job.clone(), None).await.unwrap();
        assert_eq!(state.status, M::UndoFailed);
        assert_eq!(statuses(&state), [S::Undone, S::UndoFailed, S::Undone]);
        assert!(state.steps[1].undo_error.is_some());
    }
    // Nothing else may begin meanwhile.
    let other = crate::world::job(
        "0002_next",
        &[tools.phase("phase", Phase::Dualwrite)],
        world.path(),
    );
    let refused = engine.apply(other.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::MigrationOpen);
    world.put("notes", "flag", None).await;
    let settled = engine.settle_step(ID, "sql", true, "ada@here", "ada");
    settled.await.unwrap();
    let state = engine.revert(job, None).await.unwrap();
    assert_eq!(state.status, M::Undone, "{state:?}");
    assert_eq!(world.picture().await, before);
    engine.apply(other).await.unwrap();
    world.check_ledger("by hand").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_file_is_not_gone_on_with() {
    let world = World::new().await;
    let session = world.session().await;
    let part = session.tools.verify_upgraded("verify", "first", 2);
    let (job, engine) = (with_step(&session.tools, part, &world), &session.engine);
    let edited = edit(job.clone(), |m| m.checksum = "other".to_owned());
    let longer = edit(job.clone(), |m| m.checksum = "longer".to_owned());
    let longer = MigrationJob {
        actions: longer.actions[..2].to_vec(),
        ..longer
    };
    let full = Blow::Mode(Mode::Full);
    session.trouble.arm(full, Call::Write, Moment::Before, 2);
    let state = engine.apply(job).await.unwrap();
    assert_eq!(state.status, M::Resting(Rest::Stopped));
    session.trouble.heal();
    for refused in [
        engine.apply(edited.clone()).await,
        engine.revert(edited.clone(), None).await,
    ] {
        assert_eq!(refused.unwrap_err().code(), Code::MigrationDrift);
    }
    let anyway = |mut job: MigrationJob| {
        job.options.drifted = true;
        job
    };
    // Where the steps are others, no word helps.
    let refused = engine.apply(anyway(longer)).await.unwrap_err();
    assert_eq!(refused.code(), Code::MigrationDrift);
    let state = engine.apply(anyway(edited.clone())).await.unwrap();
    assert_eq!(state.status, M::Applied, "{state:?}");
    let refused = engine.revert(edited, None).await.unwrap_err();
    assert_eq!(refused.code(), Code::MigrationDrift);
}

/// What an earlier step reached is not judged by what a later one made of it.
#[tokio::test(flavor = "multi_thread")]
async fn two_upgrades_of_one_collection() {
    let world = World::new().await;
    let before = world.picture().await;
    let session = world.session().await;
    let tools = &session.tools;
    let parts = [
        tools.upgrade("to 2", "first", 1, 2),
        tools.verify_upgraded("at 2", "first", 2),
        tools.copy("copy", "first", "firsts", rule("all")),
        tools.verify_copied("copied", "first", "firsts", rule("all")),
        tools.upgrade("to 3", "first", 2, 3),
        tools.verify_upgraded("at 3", "first", 3),
    ];
    let job = job(ID, &parts, world.path());
    let state = session.engine.apply(job.clone()).await.unwrap();
    assert_eq!(state.status, M::Applied, "{state:?}");
    let counts = |i: usize| state.steps[i].report.as_ref().unwrap().counts;
    for step in [0, 2, 4] {
        let c = counts(step);
        assert_eq!((c.enumerated, c.written), (20, 20), "step {step}: {c:?}");
    }
    world
        .put(
            "first",
            "f00003",
            Some(r#"{"name":"new","meta":{},"_schemaVersion":3}"#),
        )
        .await;
    let state = session.engine.revert(job, None).await.unwrap();
    assert_eq!(state.status, M::Undone, "{state:?}");
    let mut now = world.picture().await;
    let kept = now.collections.get_mut("first").unwrap();
    let edited = kept.insert("f00003".into(), before.of("first")["f00003"].clone());
    assert!(edited.unwrap().contains(r#""title":"new""#));
    assert_eq!(now, before);
}

/// The lease is free again as soon as a migration's end is known.
#[tokio::test(flavor = "multi_thread")]
async fn one_migration_right_behind_the_other() {
    let world = World::new().await;
    let session = world.session().await;
    let (tools, engine) = (&session.tools, &session.engine);
    let phases = [
        "dualwrite",
        "shadow",
        "dualwrite",
        "shadow",
        "live",
        "rampdown",
        "live",
    ];
    let jobs: Vec<MigrationJob> = (1..)
        .zip(phases)
        .map(|(i, phase)| {
            let part = tools.phase("phase", phase.parse().unwrap());
            job(&format!("{i:04}_phase"), &[part], world.path())
        })
        .collect();
    for job in &jobs {
        let state = engine.apply(job.clone()).await.unwrap();
        assert_eq!(state.status, M::Applied);
    }
    let ids: Vec<String> = jobs.iter().map(|j| j.migration.id.clone()).collect();
    assert_eq!(ledger(world.path()).await.state().applied, ids);
    for job in jobs.iter().rev() {
        let state = engine.revert(job.clone(), None).await.unwrap();
        assert_eq!(state.status, M::Undone, "{state:?}");
    }
    assert_eq!(
        ledger(world.path()).await.state().applied,
        Vec::<String>::new()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_is_on_its_way() {
    let world = World::new().await;
    let session = world.session().await;
    let (tools, engine) = (&session.tools, &session.engine);
    let first = job(
        "0001_first",
        &[tools.phase("phase", Phase::Dualwrite)],
        world.path(),
    );
    let second = job("0002_second", &[tools.approve("go", &[])], world.path());
    engine.apply(first.clone()).await.unwrap();
    let state = engine.apply(second.clone()).await.unwrap();
    assert_eq!(state.status, M::Resting(Rest::Waiting));
    for refused in [
        engine.revert(first.clone(), None).await,
        engine
            .apply(job(
                "0003_third",
                &[tools.phase("phase", Phase::Off)],
                world.path(),
            ))
            .await,
    ] {
        assert_eq!(refused.unwrap_err().code(), Code::MigrationOpen);
    }
    // One that is applied has nothing left to do.
    let never = engine.revert(
        job(
            "0004_never",
            &[tools.phase("phase", Phase::Off)],
            world.path(),
        ),
        None,
    );
    assert_eq!(never.await.unwrap_err().code(), Code::MigrationOpen);
    engine.revert(second, None).await.unwrap();
    engine.revert(first, None).await.unwrap();
    assert_eq!(world.picture().await.phases, Default::default());
}

/// Every application has a number of its own, whatever was in between: steps find their runs by it.
#[tokio::test(flavor = "multi_thread")]
async fn left_out_and_taken_up_again() {
    let world = World::new().await;
    let before = world.picture().await;
    let session = world.session().await;
    let (tools, engine) = (&session.tools, &session.engine);
    let job = job(ID, &[tools.upgrade("upgrade", "first", 1, 2)], world.path());
    let skip = || engine.skip_migration(&job.migration, "ada@here", "ada");
    skip().await.unwrap();
    assert_eq!(world.state().await.status, M::Skipped);
    for application in 1..=3 {
        let state = engine.apply(job.clone()).await.unwrap();
        assert_eq!((state.status, state.application), (M::Applied, application));
        assert_eq!(state.steps[0].report.as_ref().unwrap().counts.written, 20);
        assert!(skip().await.is_err());
        // The app's own old shape, so that the next one differs.
        engine.revert(job.clone(), None).await.unwrap();
        check_same(&world, &before).await;
        skip().await.unwrap();
        skip().await.unwrap();
    }
    world.check_ledger("skipped").await;
}

async fn check_same(world: &World, before: &Picture) {
    assert_eq!(world.picture().await, *before);
}

/// An abort rule, or a person, may want back what nobody knows the end of.
#[tokio::test(flavor = "multi_thread")]
async fn an_abort_while_a_command_runs() {
    let world = World::new().await;
    let before = world.picture().await;
    let session = world.session().await;
    let shell = |script: &str| Action::Command {
        command: vec!["sh".into(), "-c".into(), script.into()],
        folder: None,
        env: Default::default(),
    };
    let step = RunStep {
        forward: shell("echo on > flag; sleep 30"),
        backward: Some(shell("rm flag")),
        validate: Some(shell("false")),
        idempotent: false,
    };
    let part = session.tools.run("slow", step);
    let job = with_step(&session.tools, part, &world);
    let engine: Arc<Engine> = Arc::clone(&session.engine);
    let at_work = tokio::spawn(async move { engine.apply(job).await });
    for _ in 0..2000 {
        if world.path().join("flag").exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let other = world.session().await;
    other.engine.ask("abort", ID, "", "bea").await.unwrap();
    let state = at_work.await.unwrap().unwrap();
    assert_eq!(state.status, M::Undone, "{state:?}");
    assert_eq!(state.cause.unwrap().0, Code::MigrationAborted);
    assert_eq!(world.picture().await, before);
    world.check_ledger("aborted command").await;
}
