//! `kill -9` at every write of ledger and store, of a backup and of a restore; then the same again.
//!
//! A child process (this test binary again) does the job and kills itself at one point; the parent then
//! resumes it and looks at everything. The points are counted up until a child gets through.

use super::{backup_job, chat, restore_job};
use crate::common::scene::narrow;
use crate::common::{dump, engine, engine_on, fill, journal, ledger, sqlite, store};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use whimbrel_archive::{Archive, Vault};
use whimbrel_engine::{Engine, EngineError};
use whimbrel_model::Store;
use whimbrel_model::ledger::RunStatus;
use whimbrel_testkit::crashing::{CrashingJournal, kill_self};
use whimbrel_testkit::faulty::FaultyStore;

const FOLDER: &str = "WHIMBREL_CRASH_FOLDER";
const TASK: &str = "WHIMBREL_CRASH_TASK";
const POINT: &str = "WHIMBREL_CRASH_POINT";

const DOCUMENTS: usize = 40;
const COLLECTIONS: [&str; 2] = ["chats", "users"];

fn vault(dir: &Path) -> Vault {
    Vault::open("vault", dir, true).unwrap()
}

async fn prepare(dir: &Path, restore: bool) {
    let app = sqlite(dir, "app.db").await;
    for collection in COLLECTIONS {
        fill(&app, collection, (0..DOCUMENTS).map(chat)).await;
    }
    if restore {
        backup(dir, &engine(dir).await, &app).await.unwrap();
    }
}

async fn backup(dir: &Path, engine: &Engine, app: &Arc<dyn Store>) -> Result<Archive, EngineError> {
    let mut job = backup_job(app, vault(dir), &COLLECTIONS);
    job.name = Some("one".to_owned());
    job.options = narrow();
    Ok(engine.backup(job).await?.archive)
}

async fn perform(
    dir: &Path,
    engine: &Engine,
    restore: bool,
    watched: &(dyn Fn(Arc<dyn Store>) -> Arc<dyn Store> + Sync),
) -> Result<(), EngineError> {
    if !restore {
        let app = watched(sqlite(dir, "app.db").await);
        return backup(dir, engine, &app).await.map(drop);
    }
    let archive = Archive::open(vault(dir), "one", None, &[]).await?;
    let back = watched(sqlite(dir, "back.db").await);
    let mut job = restore_job(&archive, &back);
    job.options = narrow();
    engine.restore(job).await.map(drop)
}

async fn work_until(dir: &Path, restore: bool, point: u64) {
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
    perform(dir, &engine, restore, &watched).await.unwrap();
}

#[test]
#[ignore = "run by the other tests of this file, as a process that is killed"]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else {
        return;
    };
    let restore = std::env::var(TASK).unwrap() == "true";
    let point = std::env::var(POINT).unwrap().parse().unwrap();
    runtime().block_on(work_until(Path::new(&folder), restore, point));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn run_child(dir: &Path, restore: bool, point: u64) -> bool {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crashes::child", "--ignored", "--test-threads=1"])
        .env(FOLDER, dir)
        .env(TASK, restore.to_string())
        .env(POINT, point.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    // Any other end than by the signal is a failure of the child, not a crash.
    assert_ne!(status.code(), Some(101), "it fails at write {point}");
    status.success()
}

/// The dead process still holds the lease: its successor takes it away, and does the same again.
async fn resume(dir: &Path, restore: bool, what: &str) {
    ledger(dir).await.break_lease("the test").await.unwrap();
    let engine = engine(dir).await;
    let again = perform(dir, &engine, restore, &|store| store).await;
    again.unwrap_or_else(|e| panic!("{what}: {e}"));
    let archive = Archive::open(vault(dir), "one", None, &[]).await.unwrap();
    let proof = engine.prove(&archive).await.unwrap();
    assert_eq!(proof.documents, 2 * DOCUMENTS as u64, "{what}");
    let named: usize = archive
        .manifest()
        .collections
        .iter()
        .map(|c| c.chunks.len())
        .sum();
    let files = std::fs::read_dir(dir.join("vault/one/chunks"))
        .unwrap()
        .count();
    assert_eq!(files, named, "{what}: chunks that nobody names");
    let back = match restore {
        true => sqlite(dir, "back.db").await,
        false => {
            let back = store("memory:").await;
            engine.restore(restore_job(&archive, &back)).await.unwrap();
            back
        }
    };
    let app = sqlite(dir, "app.db").await;
    for collection in COLLECTIONS {
        assert_eq!(
            dump(&back, collection).await,
            dump(&app, collection).await,
            "{what}"
        );
    }
    let state = ledger(dir).await.state();
    for run in state.runs.values() {
        assert_eq!(
            run.status,
            RunStatus::Completed,
            "{what}: {}",
            run.job.title
        );
        assert_eq!(
            run.counts.enumerated, DOCUMENTS as u64,
            "{what}: {}",
            run.job.title
        );
        assert!(run.counts.balanced(), "{what}: {:?}", run.counts);
    }
}

/// The same folder again, with what lies in its folders.
fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copy = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy_all(&path, &copy),
            false => drop(std::fs::copy(&path, copy).unwrap()),
        }
    }
}

fn crash_everywhere(restore: bool) {
    let runtime = runtime();
    let pristine = tempfile::tempdir().unwrap();
    runtime.block_on(prepare(pristine.path(), restore));
    let mut point = 1;
    loop {
        let dir = tempfile::tempdir().unwrap();
        copy_all(pristine.path(), dir.path());
        if run_child(dir.path(), restore, point) {
            break;
        }
        runtime.block_on(resume(
            dir.path(),
            restore,
            &format!("killed at write {point}"),
        ));
        point += 1;
    }
    println!("killed at each of {} moments", point - 1);
    assert!(
        point > 30,
        "only {point} moments: the test does not reach what it is for"
    );
}

#[test]
fn a_backup_survives_a_kill_at_every_write() {
    crash_everywhere(false);
}

#[test]
fn a_restore_survives_a_kill_at_every_write() {
    crash_everywhere(true);
}

/// An attempt that goes on reads from a later snapshot, and does not hide that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resumed_backup_says_that_it_is_of_two_instants() {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path(), false).await;
    let app = sqlite(dir.path(), "app.db").await;
    let failing = CrashingJournal::new(journal(dir.path()).await, |point| {
        // The fifth write of the ledger or so: some chunks are in, more are to come.
        let failed = whimbrel_model::JournalError::Failed {
            ledger: "test".to_owned(),
            message: "it went away".to_owned(),
        };
        match point.n {
            5.. => Err(failed),
            _ => Ok(()),
        }
    });
    let engine_1 = engine_on(Arc::new(failing)).await;
    backup(dir.path(), &engine_1, &app).await.unwrap_err();
    drop(engine_1);
    ledger(dir.path())
        .await
        .break_lease("the test")
        .await
        .unwrap();
    let archive = backup(dir.path(), &engine(dir.path()).await, &app)
        .await
        .unwrap();
    let manifest = archive.manifest();
    assert!(!manifest.consistent);
    assert_eq!(manifest.collections[0].as_of.len(), 2);
    assert_eq!(manifest.collections[1].as_of.len(), 1);
}
