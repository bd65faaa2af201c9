//! `kill -9` at every ledger write and every store commit of upgrade and copy, then resume: nothing lost,
//! nothing twice, every document counted once.
//!
//! A child process (this test binary again) does the job and kills itself at one point; the parent then
//! resumes the job and looks at everything. The points are counted up until a child gets through.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{dump, fill, ledger, options, place, schema, sqlite, upgrade};
use whimbrel_engine::{
    Clock, CopyJob, Engine, JobOptions, Ledger, NativeTransform, Report, SystemClock,
};
use whimbrel_model::ledger::{Counts, JobKind, RunStatus};
use whimbrel_model::rule::{CopyRule, OnError};
use whimbrel_model::{Body, DocError, Emit, Key, Map, Store, TransformInput, Value};
use whimbrel_stores::open_journal;
use whimbrel_testkit::crashing::{CrashingJournal, Moment, kill_self};
use whimbrel_testkit::faulty::FaultyStore;

const DOCUMENTS: usize = 40;

/// The environment of a child: the folder it works in, what it does, and at which write it dies.
const FOLDER: &str = "WHIMBREL_CRASH_FOLDER";
const JOB: &str = "WHIMBREL_CRASH_JOB";
const POINT: &str = "WHIMBREL_CRASH_POINT";

fn narrow() -> JobOptions {
    JobOptions {
        batch: Some(6),
        parallel: Some(1),
        ..options()
    }
}

fn chat(i: usize) -> (Key, String) {
    let json = match i {
        11 => r#"{"title": null, "n": 11, "messages": 5}"#.to_owned(),
        _ => format!(r#"{{"title": "chat {i}", "n": {i}, "messages": ["a{i}", "b{i}", "c{i}"]}}"#),
    };
    (Key::text(format!("c{i:05}")), json)
}

/// Counts every write of journal and target together, and dies before or after the chosen one.
fn deadly(point: u64) -> Arc<dyn Fn(bool) + Send + Sync> {
    let count = AtomicU64::new(0);
    Arc::new(move |_before| {
        if count.fetch_add(1, Ordering::SeqCst) + 1 == point {
            kill_self();
        }
    })
}

async fn engine_with(dir: &Path, hook: Arc<dyn Fn(bool) + Send + Sync>) -> Engine {
    let journal = open_journal(&format!("sqlite:{}", dir.join("ledger.db").display()))
        .await
        .unwrap();
    let journal = CrashingJournal::new(journal, move |at| {
        hook(at.moment == Moment::Before);
        Ok(())
    });
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Engine::new(
        Arc::new(
            Ledger::open(Arc::new(journal), Arc::clone(&clock))
                .await
                .unwrap(),
        ),
        clock,
    )
}

fn split() -> CopyRule {
    let transform = NativeTransform::new("split", |input, _| {
        let TransformInput::One { key, mut doc } = input else {
            unreachable!()
        };
        let Some(Value::Array(messages)) = doc.take("messages").map_err(DocError::from)? else {
            return Err(DocError::new(
                whimbrel_model::Code::DocType,
                "messages is no array",
            ));
        };
        let emit = |(i, text): (usize, Value)| Emit {
            collection: None,
            key: Some(Key::text(format!("{key}:{i}"))),
            body: Body::Map(Map::from_iter([("text".to_owned(), text)])),
        };
        Ok(messages.into_iter().enumerate().map(emit).collect())
    });
    CopyRule {
        name: "split".into(),
        collection: None,
        read_as: None,
        into: None,
        filter: None,
        transform: Some(Arc::new(transform)),
        group: None,
        validate: None,
        on_error: OnError::Quarantine,
        migrated_at: None,
        source_id: None,
        checksum: "split".into(),
    }
}

/// Does the job in `dir`; `hook` sees every write of the ledger and of the store that is written.
async fn work(dir: &Path, job: &str, hook: Arc<dyn Fn(bool) + Send + Sync>) -> Report {
    let engine = engine_with(dir, Arc::clone(&hook)).await;
    let app = sqlite(dir, "app.db").await;
    let watched = |store: Arc<dyn Store>| -> Arc<dyn Store> {
        Arc::new(FaultyStore::new(store).on_write(move |_, moment| {
            hook(moment == Moment::Before);
            Ok(())
        }))
    };
    match job {
        "up" | "down" => {
            let app = watched(app);
            let mut job = upgrade(
                &place(&app, "app", "chats"),
                if job == "up" { 3 } else { 1 },
            );
            job.options = narrow();
            engine.upgrade(job).await.unwrap()
        }
        _ => {
            let other = watched(sqlite(dir, "other.db").await);
            let job = CopyJob {
                source: place(&app, "app", "chats"),
                target: place(&other, "other", "messages"),
                rule: split(),
                schema: None,
                scratch: None,
                options: narrow(),
            };
            engine.copy(job).await.unwrap()
        }
    }
}

#[test]
#[ignore = "run by the other tests of this file, as a process that is killed"]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else {
        return;
    };
    let job = std::env::var(JOB).unwrap();
    let point = std::env::var(POINT).unwrap().parse().unwrap();
    runtime().block_on(work(Path::new(&folder), &job, deadly(point)));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Whether the child got through.
fn run_child(dir: &Path, job: &str, point: u64) -> bool {
    let status = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "child",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(FOLDER, dir)
        .env(JOB, job)
        .env(POINT, point.to_string())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    status.success()
}

async fn prepare(dir: &Path, job: &str) {
    let app = sqlite(dir, "app.db").await;
    fill(&app, "chats", (0..DOCUMENTS).map(chat)).await;
    if job == "down" {
        work(dir, "up", Arc::new(|_| ())).await;
    }
}

/// The dead process still holds the lease: its successor takes it away. The counts are of the whole run,
/// which the child may have completed just before it died.
async fn resume(dir: &Path, job: &str, what: &str) -> Counts {
    let ledger = ledger(dir).await;
    ledger.break_lease("the test").await.unwrap();
    let before = ledger.state();
    let report = work(dir, job, Arc::new(|_| ())).await;
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

async fn look(dir: &Path, job: &str, c: Counts, what: &str) {
    let n = DOCUMENTS as u64;
    // I7, and nothing twice: the sums are over all attempts of the run.
    assert!(c.balanced(), "{what}: {c:?}");
    let expected = if job == "down" {
        (n, n - 1, 0, 1)
    } else {
        (n, n - 1, 1, 0)
    };
    assert_eq!(
        (c.enumerated, c.written, c.quarantined, c.unchanged),
        expected,
        "{what}: {c:?}"
    );
    let ledger = ledger(dir).await;
    ledger
        .verify()
        .await
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    let waiting = ledger.journal().quarantined(None, None, 9).await.unwrap();
    assert_eq!(
        waiting.len(),
        usize::from(job != "down"),
        "{what}: {waiting:?}"
    );
    for run in ledger.state().runs.values() {
        assert_eq!(run.status, RunStatus::Completed, "{what}");
        assert!(matches!(run.job.kind, JobKind::Upgrade | JobKind::Copy));
    }
    let app = sqlite(dir, "app.db").await;
    let originals: Vec<(String, String)> = (0..DOCUMENTS)
        .map(chat)
        .map(|(k, json)| (k.to_string(), json))
        .collect();
    match job {
        "up" => {
            let now = dump(&app, "chats").await;
            assert_eq!(now.len(), DOCUMENTS, "{what}");
            for (i, (key, json)) in now.iter().enumerate().filter(|(i, _)| *i != 11) {
                assert!(
                    json.contains(&format!("\"name\":\"chat {i}\""))
                        || json.contains(&format!("\"name\": \"chat {i}\"")),
                    "{what}: {key} {json}"
                );
                assert!(
                    json.contains("\"_schemaVersion\":3"),
                    "{what}: {key} {json}"
                );
            }
            // The way back is whole, whichever attempt wrote a document.
            let report = work(dir, "down", Arc::new(|_| ())).await;
            assert_eq!(report.counts.written, n - 1, "{what}");
            assert_eq!(dump(&app, "chats").await, originals, "{what}");
        }
        "down" => assert_eq!(dump(&app, "chats").await, originals, "{what}"),
        _ => {
            assert_eq!(dump(&app, "chats").await, originals, "{what}");
            let messages = dump(&sqlite(dir, "other.db").await, "messages").await;
            assert_eq!(messages.len(), (DOCUMENTS - 1) * 3, "{what}");
            let again = work(dir, job, Arc::new(|_| ())).await;
            assert_eq!(
                (again.counts.written, again.counts.unchanged),
                (0, n - 1),
                "{what}"
            );
        }
    }
}

fn crash_everywhere(job: &str) {
    let runtime = runtime();
    let pristine = tempfile::tempdir().unwrap();
    runtime.block_on(prepare(pristine.path(), job));
    let mut point = 0;
    loop {
        point += 1;
        let dir = tempfile::tempdir().unwrap();
        copy_folder(pristine.path(), dir.path());
        let through = run_child(dir.path(), job, point);
        if through {
            break;
        }
        let what = format!("{job} killed at write {point}");
        let counts = runtime.block_on(resume(dir.path(), job, &what));
        runtime.block_on(look(dir.path(), job, counts, &what));
    }
    println!("{job}: killed at each of {} writes", point - 1);
    assert!(
        point > 40,
        "{job} has only {point} writes: the test does not reach what it is for"
    );
    assert_eq!(schema("chats").newest(), 3);
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn an_upgrade_survives_a_kill_at_every_write() {
    crash_everywhere("up");
}

#[test]
fn a_downgrade_survives_a_kill_at_every_write() {
    crash_everywhere("down");
}

#[test]
fn a_copy_survives_a_kill_at_every_write() {
    crash_everywhere("copy");
}
