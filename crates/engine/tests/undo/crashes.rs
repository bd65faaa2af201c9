//! `kill -9` at every ledger write and every store commit of both undos, then resumed: all is as if nothing
//! had happened.
//!
//! A child process (this test binary again) does the undo and kills itself at one point; the parent then
//! resumes it and looks at everything. The points are counted up until a child gets through.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::scene::{Wrap, bare, chat, copy_folder, narrow, split};
use crate::common::{dump, engine, engine_on, fill, journal, ledger, place, sqlite, upgrade};
use crate::text;
use whimbrel_engine::{CopyJob, Engine, JobOptions, PROVENANCE, Report};
use whimbrel_model::Store;
use whimbrel_model::ledger::{Counts, JobKind, RunId, RunStatus, State};
use whimbrel_testkit::crashing::{CrashingJournal, kill_self};
use whimbrel_testkit::faulty::{Faults, FaultyStore};

/// The environment of a child: the folder it works in, what it undoes, and at which write it dies.
const FOLDER: &str = "WHIMBREL_UNDO_FOLDER";
const TASK: &str = "WHIMBREL_UNDO_TASK";
const POINT: &str = "WHIMBREL_UNDO_POINT";

const DOCUMENTS: usize = 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Upgrade,
    Copy,
}

/// Every document of the folder's databases.
type Everything = Vec<Vec<(String, String)>>;

async fn everything(dir: &Path) -> Everything {
    let (app, other) = (sqlite(dir, "app.db").await, sqlite(dir, "other.db").await);
    vec![
        dump(&app, "chats").await,
        dump(&other, "messages").await,
        dump(&other, PROVENANCE).await,
    ]
}

async fn copy_of(dir: &Path, wrap: Wrap<'_>) -> CopyJob {
    let (app, other) = (
        wrap(sqlite(dir, "app.db").await),
        wrap(sqlite(dir, "other.db").await),
    );
    CopyJob {
        source: place(&app, "app", "chats"),
        target: place(&other, "other", "messages"),
        rule: split(),
        schema: None,
        scratch: None,
        options: JobOptions {
            undoable: true,
            ..narrow()
        },
    }
}

/// A folder in which something is to be undone, and how it must look afterwards.
async fn prepare(dir: &Path, task: Task) -> Everything {
    let (app, other) = (sqlite(dir, "app.db").await, sqlite(dir, "other.db").await);
    fill(&app, "chats", (0..DOCUMENTS).map(chat)).await;
    let at_2 = |i: usize| {
        let (key, _) = chat(i);
        let json = format!(r#"{{"name": "two {i}",  "_schemaVersion":2, "messages": ["x{i}"]}}"#);
        (key, json)
    };
    fill(&app, "chats", (20..DOCUMENTS).map(at_2)).await;
    fill(&other, "messages", [text("own", "{}")]).await;
    fill(&other, PROVENANCE, []).await;
    let engine = engine(dir).await;
    let first = engine.copy(copy_of(dir, &bare).await).await.unwrap();
    assert!(first.run.is_some());
    let mut end = everything(dir).await;
    match task {
        Task::Upgrade => {
            let chats = place(&app, "app", "chats");
            engine.upgrade(upgrade(&chats, 3)).await.unwrap();
            let edit = r#"{"name":"edited","extra":1,"_schemaVersion":3}"#;
            fill(&app, "chats", [text("c00003", edit)]).await;
            let found = end[0].iter_mut().find(|(k, _)| k == "c00003").unwrap();
            found.1 = r#"{"title":"edited","extra":1,"n":3}"#.to_owned();
        }
        Task::Copy => {
            // A second copy that changes, adds and removes.
            let json = r#"{"messages":["only"]}"#;
            fill(&app, "chats", (5..15).map(|i| (chat(i).0, json.to_owned()))).await;
            end[0] = dump(&app, "chats").await;
            engine.copy(copy_of(dir, &bare).await).await.unwrap();
            let edit = r#"{"edited":true}"#;
            fill(&other, "messages", [text("c00006:0", edit)]).await;
            let found = end[1].iter_mut().find(|(k, _)| k == "c00006:0").unwrap();
            found.1 = edit.to_owned();
        }
    }
    end
}

/// The run that is to be undone: the newest of its kind.
fn victim(state: &State, task: Task) -> RunId {
    let kind = match task {
        Task::Upgrade => JobKind::Upgrade,
        Task::Copy => JobKind::Copy,
    };
    let of_kind = |run: &&RunId| state.runs[*run].job.kind == kind;
    state.order.iter().rev().find(of_kind).unwrap().clone()
}

async fn undo(dir: &Path, engine: &Engine, task: Task, wrap: Wrap<'_>) -> Report {
    let runs = [victim(&ledger(dir).await.state(), task)];
    match task {
        Task::Upgrade => {
            let app = wrap(sqlite(dir, "app.db").await);
            let mut job = upgrade(&place(&app, "app", "chats"), 1);
            job.options = narrow();
            engine.undo_upgrade(job, &runs).await.unwrap()
        }
        Task::Copy => engine
            .uncopy(copy_of(dir, wrap).await, &runs)
            .await
            .unwrap(),
    }
}

/// Undoes, and dies at the `point`th moment before or after a write of ledger or store.
async fn undo_until(dir: &Path, task: Task, point: u64) {
    let count = Arc::new(AtomicU64::new(0));
    let step = move || {
        if count.fetch_add(1, Ordering::SeqCst) + 1 == point {
            kill_self();
        }
    };
    let of_ledger = step.clone();
    let journal = CrashingJournal::new(journal(dir).await, move |_| {
        of_ledger();
        Ok(())
    });
    let watched = |store: Arc<dyn Store>| -> Arc<dyn Store> {
        let step = step.clone();
        Arc::new(FaultyStore::new(store).on_write(move |_, _| {
            step();
            Ok(())
        }))
    };
    let engine = engine_on(Arc::new(journal)).await;
    undo(dir, &engine, task, &watched).await;
}

#[test]
#[ignore = "run by the other tests of this file, as a process that is killed"]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else {
        return;
    };
    let task = match std::env::var(TASK).unwrap().as_str() {
        "Upgrade" => Task::Upgrade,
        _ => Task::Copy,
    };
    let point = std::env::var(POINT).unwrap().parse().unwrap();
    runtime().block_on(undo_until(Path::new(&folder), task, point));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Whether the child got through.
fn run_child(dir: &Path, task: Task, point: u64) -> bool {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crashes::child", "--ignored", "--test-threads=1"])
        .env(FOLDER, dir)
        .env(TASK, format!("{task:?}"))
        .env(POINT, point.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    // Any other end than by the signal is a failure of the child, not a crash.
    assert_ne!(status.code(), Some(101), "{task:?} fails at write {point}");
    status.success()
}

/// The dead process still holds the lease: its successor takes it away.
async fn resume(dir: &Path, task: Task, end: &Everything, what: &str) {
    let broken = ledger(dir).await;
    broken.break_lease("the test").await.unwrap();
    let newest = |state: &State| {
        let run = state.order.last().unwrap().clone();
        (state.runs[&run].job.kind == JobKind::Undo).then_some(run)
    };
    let before = newest(&broken.state());
    let report = undo(dir, &engine(dir).await, task, &bare).await;
    let after = ledger(dir).await;
    after.verify().await.unwrap();
    let state = after.state();
    let completed = before
        .as_ref()
        .filter(|run| broken.state().runs[*run].status == RunStatus::Completed);
    match (completed, &before) {
        (Some(_), _) => assert_eq!(report.counts.written, 0, "{what}: it was complete"),
        (None, Some(run)) => assert_eq!(report.run.as_ref(), Some(run), "{what}: it is resumed"),
        (None, None) => assert!(!report.resumed, "{what}"),
    }
    let run = completed.or(report.run.as_ref()).unwrap();
    check_counts(task, state.runs[run].counts, what);
    assert!(
        state
            .runs
            .values()
            .all(|r| r.status == RunStatus::Completed),
        "{what}"
    );
    assert_eq!(&everything(dir).await, end, "{what}");
}

/// I7, whichever attempt did it.
fn check_counts(task: Task, c: Counts, what: &str) {
    assert!(c.balanced(), "{what}: {c:?}");
    let counted = (c.enumerated, c.written, c.unchanged, c.skipped);
    let expected = match task {
        // One document could not be upgraded, so it is as it was.
        Task::Upgrade => (30, 29, 1, 0),
        // Nine chats of three messages, and one that had none (it could not be copied), were of one; the app
        // wrote one of these. A chunk done again takes what is already back for its own.
        Task::Copy => (38, 37, 0, 1),
    };
    assert_eq!(counted, expected, "{what}: {c:?}");
}

fn crash_everywhere(task: Task, least: u64) {
    let runtime = runtime();
    let pristine = tempfile::tempdir().unwrap();
    let end = runtime.block_on(prepare(pristine.path(), task));
    let mut point = 1;
    loop {
        let dir = copy_folder(pristine.path());
        if run_child(dir.path(), task, point) {
            assert_eq!(runtime.block_on(everything(dir.path())), end);
            break;
        }
        let what = format!("the undo of {task:?} killed at write {point}");
        runtime.block_on(resume(dir.path(), task, &end, &what));
        point += 1;
    }
    println!("{task:?}: killed at each of {} moments", point - 1);
    assert!(
        point > least,
        "{task:?} has only {point} moments: the test does not reach what it is for"
    );
}

/// Stores that are away now and then, and writes of which nobody learns whether they happened.
async fn through_faults(task: Task) {
    let pristine = tempfile::tempdir().unwrap();
    let end = prepare(pristine.path(), task).await;
    for seed in 0..12 {
        let dir = copy_folder(pristine.path());
        let faults = Faults {
            seed,
            transient: 0.05,
            unknown: 0.15,
        };
        let faulty = |store: Arc<dyn Store>| -> Arc<dyn Store> {
            Arc::new(FaultyStore::new(store).with_faults(faults))
        };
        let report = undo(dir.path(), &engine(dir.path()).await, task, &faulty).await;
        let what = format!("the undo of {task:?}, seed {seed}");
        assert!(report.counts.balanced(), "{what}: {:?}", report.counts);
        assert_eq!(everything(dir.path()).await, end, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn undos_get_through_faults() {
    futures::join!(through_faults(Task::Upgrade), through_faults(Task::Copy));
}

#[test]
fn the_undo_of_an_upgrade_survives_a_kill_at_every_write() {
    crash_everywhere(Task::Upgrade, 30);
}

#[test]
fn the_undo_of_a_copy_survives_a_kill_at_every_write() {
    crash_everywhere(Task::Copy, 25);
}
