//! `kill -9` at some ledger writes and store commits of a copy into PostgreSQL, with the ledger in a file or
//! on the server, then resume: nothing lost, nothing twice, every document counted once.
//!
//! As in `crash.rs`, a child process kills itself at one point, and the parent resumes.

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::scene::{DOCUMENTS, chat, narrow, split};
use common::{Stage, dump, engine_on, fill, journal, ledger_on, place, sqlite};
use whimbrel_engine::{CopyJob, Engine, Report};
use whimbrel_model::ledger::RunStatus;
use whimbrel_model::{Journal, Store};
use whimbrel_stores::open_journal;
use whimbrel_testkit::crashing::{CrashingJournal, kill_self};
use whimbrel_testkit::faulty::FaultyStore;

const FOLDER: &str = "WHIMBREL_CRASH_FOLDER";
const SCHEMA: &str = "WHIMBREL_CRASH_SCHEMA";
const POINT: &str = "WHIMBREL_CRASH_POINT";
const ON_SERVER: &str = "WHIMBREL_CRASH_LEDGER_ON_SERVER";

/// Moments to die at: the first ones, and some in the middle of the work and near its end.
const POINTS: [u64; 8] = [1, 2, 3, 6, 9, 14, 21, 29];

/// The stage's ledger: in the folder, or in a schema of its own.
async fn ledger_of(dir: &Path, stage: &Stage, on_server: bool) -> Arc<dyn Journal> {
    if !on_server {
        return journal(dir).await;
    }
    let mark = if stage.url.contains('?') { '&' } else { '?' };
    let url = format!("{}{mark}schema={}_ledger", stage.url, stage.schema);
    open_journal(&url).await.unwrap()
}

async fn copy(dir: &Path, engine: &Engine, target: Arc<dyn Store>) -> Report {
    let app = sqlite(dir, "app.db").await;
    let job = CopyJob {
        source: place(&app, "app", "chats"),
        target: place(&target, "pg", "messages"),
        rule: split(),
        schema: None,
        scratch: None,
        options: narrow(),
    };
    engine.copy(job).await.unwrap()
}

#[test]
#[ignore = "run by the other tests of this file, as a process that is killed"]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else {
        return;
    };
    let point: u64 = std::env::var(POINT).unwrap().parse().unwrap();
    let on_server = std::env::var(ON_SERVER).is_ok();
    // Nothing of the stage may go when this process ends in order.
    let stage = std::mem::ManuallyDrop::new(Stage {
        url: common::postgres().unwrap(),
        schema: std::env::var(SCHEMA).unwrap(),
    });
    runtime().block_on(async {
        let dir = Path::new(&folder);
        let count = Arc::new(AtomicU64::new(0));
        let step = move || {
            if count.fetch_add(1, Ordering::SeqCst) + 1 == point {
                kill_self();
            }
        };
        let of_ledger = step.clone();
        let inner = ledger_of(dir, &stage, on_server).await;
        let journal = CrashingJournal::new(inner, move |_| {
            of_ledger();
            Ok(())
        });
        let target = FaultyStore::new(stage.store(&["messages"]).await).on_write(move |_, _| {
            step();
            Ok(())
        });
        copy(dir, &engine_on(Arc::new(journal)).await, Arc::new(target)).await;
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn killed(dir: &Path, stage: &Stage, point: u64, on_server: bool) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "child", "--ignored", "--test-threads=1"])
        .env(FOLDER, dir)
        .env(SCHEMA, &stage.schema)
        .env(POINT, point.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if on_server {
        child.env(ON_SERVER, "1");
    }
    let status = child.status().unwrap();
    assert_eq!(
        status.code(),
        None,
        "the child ends at write {point}, and not by the signal"
    );
}

fn crash(name: &str, on_server: bool) {
    for point in POINTS {
        let what = format!("{name} killed at write {point}");
        let Some(stage) = Stage::new(&format!("{name}_{point}")) else {
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let runtime = runtime();
        runtime.block_on(async {
            let app = sqlite(dir.path(), "app.db").await;
            fill(&app, "chats", (0..DOCUMENTS).map(chat)).await;
        });
        killed(dir.path(), &stage, point, on_server);
        runtime.block_on(resume(dir.path(), &stage, on_server, &what));
        stage.sql(&format!(
            "DROP SCHEMA IF EXISTS {}_ledger CASCADE",
            stage.schema
        ));
    }
}

async fn resume(dir: &Path, stage: &Stage, on_server: bool, what: &str) {
    let ledger = ledger_on(ledger_of(dir, stage, on_server).await).await;
    ledger.break_lease("the test").await.unwrap();
    let target = stage.store(&["messages"]).await;
    let engine = engine_on(ledger_of(dir, stage, on_server).await).await;
    let written = DOCUMENTS as u64 - 1;
    copy(dir, &engine, target.clone()).await;
    // Whichever attempt completed the first run, it counts every document once.
    let state = ledger.refresh().await.unwrap();
    let first = &state.runs[&state.order[0]];
    assert_eq!(first.status, RunStatus::Completed, "{what}");
    let counts = first.counts;
    assert_eq!(
        (counts.enumerated, counts.written, counts.quarantined),
        (written + 1, written, 1),
        "{what}: {counts:?}"
    );
    ledger.verify().await.unwrap();
    let messages = dump(&target, "messages").await;
    assert_eq!(messages.len() as u64, 3 * written, "{what}");
    for (key, json) in &messages {
        let (chat, at) = key.split_once(':').unwrap();
        let number: usize = chat[1..].parse().unwrap();
        let letter = ["a", "b", "c"][at.parse::<usize>().unwrap()];
        assert_eq!(
            *json,
            format!(r#"{{"text": "{letter}{number}"}}"#),
            "{what}"
        );
    }
    let again = copy(dir, &engine, target).await.counts;
    assert_eq!((again.written, again.unchanged), (0, written), "{what}");
}

#[test]
fn a_copy_into_postgres_survives_kills() {
    crash("crash_target", false);
}

#[test]
fn a_ledger_on_postgres_survives_kills() {
    crash("crash_ledger", true);
}
