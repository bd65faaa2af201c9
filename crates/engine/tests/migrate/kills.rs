//! The process dies before and after each of its entries in the ledger, going up and coming down. Whoever
//! goes on ends as if nothing had happened.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use whimbrel_engine::Engine;
use whimbrel_engine::migrate::MigrationJob;
use whimbrel_model::Code;
use whimbrel_model::ledger::{MigrationState, MigrationStatus, StepStatus};
use whimbrel_model::migration::Phase;
use whimbrel_testkit::crashing::{CrashingJournal, JournalCall, Moment, kill_self};

use crate::common::{engine_on, journal, ledger};
use crate::trouble::{Blow, Call, Mode};
use crate::world::{ID, Picture, Tools, World, job, rule};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// Six documents are enough for several chunks.
const FEW: usize = 6;

fn six_steps(tools: &Tools, project: &Path) -> MigrationJob {
    let parts = [
        tools.upgrade("upgrade", "first", 1, 2),
        tools.phase("dualwrite", Phase::Dualwrite),
        tools.run("sql", tools.sql()),
        tools.copy("copy", "first", "firsts", rule("all")),
        tools.verify_copied("verify", "first", "firsts", rule("all")),
        tools.run("command", tools.command()),
    ];
    job(ID, &parts, project)
}

/// The world before (`Way::Up`), or with the migration applied.
async fn prepared(way: Way) -> (World, Picture, Picture) {
    let world = World::new().await;
    for i in FEW..crate::world::DOCUMENTS {
        let (key, _) = crate::world::first(i);
        world.put("first", &key.to_string(), None).await;
    }
    let before = world.picture().await;
    let session = world.session().await;
    let job = six_steps(&session.tools, world.path());
    let state = session.engine.apply(job.clone()).await.unwrap();
    assert_eq!(state.status, MigrationStatus::Applied, "{state:?}");
    let after = world.picture().await;
    if way == Way::Up {
        let state = session.engine.revert(job, None).await.unwrap();
        assert_eq!(state.status, MigrationStatus::Undone, "{state:?}");
        assert_eq!(world.picture().await, before);
    }
    (world, before, after)
}

async fn go(
    engine: &Engine,
    way: Way,
    job: MigrationJob,
) -> Result<MigrationState, whimbrel_engine::EngineError> {
    match way {
        Way::Up => engine.apply(job).await,
        Way::Down => engine.revert(job, None).await,
    }
}

/// Goes on to the end of `way`, and answers what only a person can tell.
async fn go_on(world: &World, way: Way, what: &str) -> MigrationState {
    let session = world.session().await;
    let job = six_steps(&session.tools, world.path());
    for _ in 0..4 {
        let state = go(&session.engine, way, job.clone())
            .await
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        let unknown = |s: StepStatus| matches!(s, StepStatus::Unknown | StepStatus::UndoUnknown);
        let Some(step) = state.steps.iter().find(|s| unknown(s.status)) else {
            return state;
        };
        // A person looks.
        let now = world.picture().await;
        let there = match step.name.as_str() {
            "sql" => !now.of("notes").is_empty(),
            "command" => now.flag,
            other => panic!("{what}: {other} is {:?}", step.status),
        };
        let done = there == (step.status == StepStatus::Unknown);
        let settled = session
            .engine
            .settle_step(ID, &step.name, done, "ada@here", "ada");
        settled.await.unwrap_or_else(|e| panic!("{what}: {e}"));
    }
    panic!("{what}: it does not come to its end");
}

/// One death. `None`: the process got through before that.
async fn die(from: &Path, way: Way, nth: u64, moment: Moment) -> Option<World> {
    let world = World::copied(from).await;
    let session = world.session().await;
    session
        .trouble
        .arm(Blow::Mode(Mode::Dead), Call::Append, moment, nth);
    let job = six_steps(&session.tools, world.path());
    let result = go(&session.engine, way, job).await;
    match result {
        Ok(_) if !session.trouble.struck() => return None,
        // It died right behind its last entry.
        Ok(state) => assert!(!state.at_work(), "{way:?}, {nth}: {state:?}"),
        Err(error) => assert_eq!(error.code(), Code::LedgerFailed, "{way:?}, {nth}: {error}"),
    }
    Some(world)
}

async fn check(world: World, way: Way, ends: (&Picture, &Picture), what: &str) {
    world.check_ledger(what).await;
    let (before, after) = ends;
    let state = go_on(&world, way, what).await;
    let (status, expected) = match way {
        Way::Up => (MigrationStatus::Applied, after),
        Way::Down => (MigrationStatus::Undone, before),
    };
    assert_eq!(state.status, status, "{what}: {state:?}");
    assert_eq!(world.picture().await, *expected, "{what}");
    world.check_ledger(what).await;
    // And all of it can be taken back.
    if way == Way::Up {
        let state = go_on(&world, Way::Down, what).await;
        assert_eq!(state.status, MigrationStatus::Undone, "{what}: {state:?}");
        assert_eq!(world.picture().await, *before, "{what}");
    }
}

async fn die_everywhere(way: Way) {
    let (pristine, before, after) = prepared(way).await;
    let mut nth = 1;
    loop {
        let some = (nth..nth + 4).flat_map(|nth| {
            let (path, before, after) = (pristine.path(), &before, &after);
            [Moment::Before, Moment::After].map(move |moment| async move {
                let what = format!("{way:?}, dead {moment:?} entry {nth}");
                let Some(world) = die(path, way, nth, moment).await else {
                    return false;
                };
                check(world, way, (before, after), &what).await;
                true
            })
        });
        let died = futures::future::join_all(some).await;
        nth += 4;
        if died.contains(&false) {
            break;
        }
    }
    println!("{way:?}: died around each of about {nth} entries");
    assert!(nth > 30, "{way:?} makes only {nth} entries");
}

#[tokio::test(flavor = "multi_thread")]
async fn at_every_entry_going_up() {
    die_everywhere(Way::Up).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_every_entry_coming_down() {
    die_everywhere(Way::Down).await;
}

/// A process that was killed while it went up may be taken back instead.
#[tokio::test(flavor = "multi_thread")]
async fn killed_going_up_and_then_taken_back() {
    let (pristine, before, _) = prepared(Way::Up).await;
    let some = (2..40).step_by(3).map(|nth| {
        let (path, before) = (pristine.path(), &before);
        async move {
            let what = format!("dead after entry {nth}, then taken back");
            let Some(world) = die(path, Way::Up, nth, Moment::After).await else {
                panic!("{what}: it got through");
            };
            // What is to be taken back may never have happened; this undo does not mind.
            let state = go_on(&world, Way::Down, &what).await;
            let failed = state
                .steps
                .iter()
                .find(|s| s.status == StepStatus::UndoFailed);
            if let Some(step) = failed {
                assert_eq!(step.name, "command", "{what}: {state:?}");
                let session = world.session().await;
                let settled = session
                    .engine
                    .settle_step(ID, "command", true, "ada@here", "ada");
                settled.await.unwrap();
                let state = go_on(&world, Way::Down, &what).await;
                assert_eq!(state.status, MigrationStatus::Undone, "{what}: {state:?}");
            }
            assert_eq!(world.picture().await, *before, "{what}");
            world.check_ledger(&what).await;
        }
    });
    futures::future::join_all(some).await;
}

/// The environment of a child: its folder, where it goes, and at which entry it dies.
const FOLDER: &str = "WHIMBREL_MIGRATE_FOLDER";
const WAY: &str = "WHIMBREL_MIGRATE_WAY";
const ENTRY: &str = "WHIMBREL_MIGRATE_ENTRY";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the other tests of this file, as a process that is killed"]
async fn child() {
    let Ok(folder) = std::env::var(FOLDER) else {
        return;
    };
    let folder = PathBuf::from(folder);
    let way = if std::env::var(WAY).unwrap() == "Up" {
        Way::Up
    } else {
        Way::Down
    };
    let entry: u64 = std::env::var(ENTRY).unwrap().parse().unwrap();
    let deadly = CrashingJournal::new(journal(&folder).await, move |point| {
        if (point.call, point.moment, point.n) == (JournalCall::Append, Moment::After, entry) {
            kill_self();
        }
        Ok(())
    });
    let tools = Tools {
        app: crate::common::sqlite(&folder, "app.db").await,
        other: crate::common::sqlite(&folder, "other.db").await,
        notes: "notes".to_owned(),
        project: folder.clone(),
        pace: crate::world::pace(),
    };
    let engine = engine_on(Arc::new(deadly)).await;
    let _ = go(&engine, way, six_steps(&tools, &folder)).await;
    // It must not come this far.
    std::process::exit(7);
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9() {
    for way in [Way::Up, Way::Down] {
        let (pristine, before, after) = prepared(way).await;
        for entry in [2, 9, 17, 25] {
            let what = format!("{way:?}, kill -9 at entry {entry}");
            let world = World::copied(pristine.path()).await;
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "kills::child", "--ignored", "--test-threads=1"])
                .env(FOLDER, world.path())
                .env(WAY, format!("{way:?}"))
                .env(ENTRY, entry.to_string())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap();
            assert_eq!(status.code(), None, "{what}: {status}");
            // The dead process still holds the lease.
            ledger(world.path()).await.break_lease("ada").await.unwrap();
            check(world, way, (&before, &after), &what).await;
        }
    }
}
