//! `kill -9` at every ledger write and every store commit of upgrade and copy, then resume: nothing lost,
//! nothing twice, every document counted once.
//!
//! A child process (this test binary again) does the job and kills itself at one point; the parent then
//! resumes the job and looks at everything. The points are counted up until a child gets through.

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::scene::{Task, bare, copy_folder, look, narrow, perform, prepare};
use common::{engine, engine_on, journal, ledger};
use whimbrel_model::Store;
use whimbrel_model::ledger::{Counts, RunStatus};
use whimbrel_testkit::crashing::{CrashingJournal, kill_self};
use whimbrel_testkit::faulty::FaultyStore;

/// The environment of a child: the folder it works in, what it does, and at which write it dies.
const FOLDER: &str = "WHIMBREL_CRASH_FOLDER";
const TASK: &str = "WHIMBREL_CRASH_TASK";
const POINT: &str = "WHIMBREL_CRASH_POINT";

/// Does the task, and dies at the `point`th moment before or after a write of ledger or store.
async fn work_until(dir: &Path, task: Task, point: u64) {
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
    perform(dir, &engine, task, &watched, narrow())
        .await
        .unwrap();
}

#[test]
#[ignore = "run by the other tests of this file, as a process that is killed"]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else {
        return;
    };
    let task = Task::named(&std::env::var(TASK).unwrap());
    let point = std::env::var(POINT).unwrap().parse().unwrap();
    runtime().block_on(work_until(Path::new(&folder), task, point));
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
        .args(["--exact", "child", "--ignored", "--test-threads=1"])
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

/// The dead process still holds the lease: its successor takes it away. The counts are of the whole run,
/// which the child may have completed just before it died.
async fn resume(dir: &Path, task: Task, what: &str) -> Counts {
    let ledger = ledger(dir).await;
    ledger.break_lease("the test").await.unwrap();
    let before = ledger.state();
    let report = perform(dir, &engine(dir).await, task, &bare, narrow())
        .await
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    let of_child = before.order.last().map(|run| &before.runs[run]);
    match of_child.filter(|run| run.status == RunStatus::Completed && run.job.title == report.title)
    {
        Some(run) => {
            assert_eq!(report.counts.written, 0, "{what}: the run was complete");
            run.counts
        }
        None => report.counts,
    }
}

fn crash_everywhere(task: Task) {
    let runtime = runtime();
    let pristine = tempfile::tempdir().unwrap();
    runtime.block_on(prepare(pristine.path(), task));
    let mut point = 1;
    loop {
        let dir = copy_folder(pristine.path());
        if run_child(dir.path(), task, point) {
            break;
        }
        let what = format!("{task:?} killed at write {point}");
        let counts = runtime.block_on(resume(dir.path(), task, &what));
        runtime.block_on(look(dir.path(), task, counts, &what));
        point += 1;
    }
    println!("{task:?}: killed at each of {} moments", point - 1);
    assert!(
        point > 40,
        "{task:?} has only {point} moments: the test does not reach what it is for"
    );
}

#[test]
fn an_upgrade_survives_a_kill_at_every_write() {
    crash_everywhere(Task::Up);
}

#[test]
fn a_downgrade_survives_a_kill_at_every_write() {
    crash_everywhere(Task::Down);
}

#[test]
fn a_copy_survives_a_kill_at_every_write() {
    crash_everywhere(Task::Copy);
}
