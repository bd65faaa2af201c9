//! Stores that fail, that answer late or not at all, or that are full; ledgers that cannot be written.
//! The run goes on, now or later, and ends as if nothing had happened.

mod common;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::scene::{DOCUMENTS, Task, bare, copy_folder, look, narrow, perform, prepare};
use common::{dump, engine, engine_on, fill, journal, ledger, options, place, sqlite};
use whimbrel_engine::{EngineError, Event, JobOptions, Report};
use whimbrel_model::ledger::RunStatus;
use whimbrel_model::{Code, JournalError, Store, StoreError, StoreErrorKind};
use whimbrel_testkit::crashing::{CrashingJournal, JournalCall, Moment, Point};
use whimbrel_testkit::faulty::{Faults, FaultyStore};

fn fault(kind: StoreErrorKind, code: Code) -> StoreError {
    StoreError::new(kind, code, "test", "a fault of the test")
}

fn unknown() -> StoreError {
    fault(StoreErrorKind::Unknown, Code::StoreUnknown)
}

fn transient() -> StoreError {
    fault(StoreErrorKind::Transient, Code::StoreUnavailable)
}

type Hook = Arc<dyn Fn(u64, Moment) -> Result<(), StoreError> + Send + Sync>;

async fn perform_with(
    dir: &Path,
    task: Task,
    options: JobOptions,
    hook: impl Fn(u64, Moment) -> Result<(), StoreError> + Send + Sync + 'static,
) -> Result<Report, EngineError> {
    let hook: Hook = Arc::new(hook);
    let wrap = |store: Arc<dyn Store>| -> Arc<dyn Store> {
        let hook = Arc::clone(&hook);
        Arc::new(FaultyStore::new(store).on_write(move |n, moment| hook(n, moment)))
    };
    perform(dir, &engine(dir).await, task, &wrap, options).await
}

/// Goes on without faults, and looks at everything.
async fn resume(dir: &Path, task: Task, what: &str) {
    let report = perform(dir, &engine(dir).await, task, &bare, narrow())
        .await
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(report.resumed, "{what}");
    look(dir, task, report.counts, what).await;
}

async fn pristine(task: Task) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path(), task).await;
    dir
}

/// The run stopped in the middle and says so; what it counted is done.
async fn check_interrupted(dir: &Path, task: Task, error: &EngineError, code: Code, what: &str) {
    assert_eq!(error.code(), code, "{what}: {error}");
    assert!(error.resumable(), "{what}: {error}");
    let state = ledger(dir).await.state();
    let run = &state.runs[state.order.last().unwrap()];
    assert!(
        matches!(run.status, RunStatus::Interrupted | RunStatus::Running),
        "{what}: {run:?}"
    );
    assert!(run.counts.balanced(), "{what}: {run:?}");
    let done = match task {
        Task::Up => versions_3(dir).await,
        Task::Down => DOCUMENTS - versions_3(dir).await,
        Task::Copy => dump(&sqlite(dir, "other.db").await, "messages").await.len() / 3,
    };
    let counted = run.counts.written + run.counts.unchanged;
    assert!(
        done as u64 >= counted,
        "{what}: {done} done, {counted} counted"
    );
}

async fn versions_3(dir: &Path) -> usize {
    let chats = dump(&sqlite(dir, "app.db").await, "chats").await;
    let is_3 = |json: &str| json.contains("\"_schemaVersion\":3");
    chats.iter().filter(|(_, json)| is_3(json)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn random_faults_lose_and_double_nothing() {
    let first = match std::env::var("WHIMBREL_TEST_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => 1,
    };
    for task in Task::ALL {
        let pristine = pristine(task).await;
        let stories = (first..first + 6).map(|seed| one_story(pristine.path(), task, seed));
        let failed: u64 = futures::future::join_all(stories).await.iter().sum();
        println!("{task:?}: {failed} calls failed");
        assert!(failed > 30, "{task:?}: only {failed} calls failed");
    }
}

/// Returns how many calls failed.
async fn one_story(pristine: &Path, task: Task, seed: u64) -> u64 {
    let what = format!("{task:?} with WHIMBREL_TEST_SEED={seed}");
    let dir = copy_folder(pristine);
    let stores: std::sync::Mutex<Vec<Arc<FaultyStore>>> = std::sync::Mutex::default();
    let wrap = |store: Arc<dyn Store>| -> Arc<dyn Store> {
        let faults = Faults {
            seed,
            transient: 0.12,
            unknown: 0.2,
        };
        let faulty = Arc::new(FaultyStore::new(store).with_faults(faults));
        stores.lock().unwrap().push(Arc::clone(&faulty));
        faulty
    };
    let engine = engine(dir.path()).await;
    let options = JobOptions {
        batch: Some(5),
        ..options()
    };
    let report = perform(dir.path(), &engine, task, &wrap, options)
        .await
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    look(dir.path(), task, report.counts, &what).await;
    stores.lock().unwrap().iter().map(|s| s.failed()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_at_every_write_is_looked_at_and_never_repeated_blindly() {
    for task in Task::ALL {
        let pristine = pristine(task).await;
        for moment in [Moment::Before, Moment::After] {
            for nth in 1.. {
                let what = format!("{task:?}: unknown {moment:?} write {nth}");
                let dir = copy_folder(pristine.path());
                let reached = Arc::new(AtomicBool::new(false));
                let seen = Arc::clone(&reached);
                let report = perform_with(dir.path(), task, narrow(), move |n, at| {
                    if (n, at) != (nth, moment) {
                        return Ok(());
                    }
                    seen.store(true, Ordering::SeqCst);
                    Err(unknown())
                });
                let report = report.await.unwrap_or_else(|e| panic!("{what}: {e}"));
                look(dir.path(), task, report.counts, &what).await;
                if !reached.load(Ordering::SeqCst) {
                    assert!(nth > 6, "{what}: there are only so few writes");
                    break;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_stays_away_interrupts_the_run() {
    for task in Task::ALL {
        let what = format!("{task:?} without a store");
        let dir = pristine(task).await;
        let impatient = JobOptions {
            patience: Duration::from_millis(200),
            ..narrow()
        };
        let error = perform_with(dir.path(), task, impatient.clone(), |n, _| {
            if n < 4 { Ok(()) } else { Err(transient()) }
        });
        let error = error.await.unwrap_err();
        check_interrupted(dir.path(), task, &error, Code::StoreUnavailable, &what).await;
        assert!(error.hint().unwrap().contains("same command again"));

        // Still away, for reading too: another attempt changes nothing.
        let before = ledger(dir.path()).await.state();
        let away = |store: Arc<dyn Store>| -> Arc<dyn Store> {
            let faults = Faults {
                transient: 1.0,
                ..Faults::default()
            };
            Arc::new(FaultyStore::new(store).with_faults(faults))
        };
        let engine = engine(dir.path()).await;
        let error = perform(dir.path(), &engine, task, &away, impatient)
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::StoreUnavailable, "{what}");
        assert!(error.resumable(), "{what}");
        assert_eq!(ledger(dir.path()).await.state().seq, before.seq, "{what}");

        resume(dir.path(), task, &what).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_the_run_at_once() {
    for task in Task::ALL {
        let what = format!("{task:?} on a full disk");
        let dir = pristine(task).await;
        let writes = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&writes);
        let error = perform_with(dir.path(), task, narrow(), move |n, _| {
            count.fetch_max(n, Ordering::SeqCst);
            if n < 4 {
                return Ok(());
            }
            Err(fault(StoreErrorKind::Terminal, Code::StoreFull))
        });
        let error = error.await.unwrap_err();
        check_interrupted(dir.path(), task, &error, Code::StoreFull, &what).await;
        assert!(error.hint().unwrap().contains("make room"), "{what}");
        assert_eq!(writes.load(Ordering::SeqCst), 4, "{what}: it is tried once");
        resume(dir.path(), task, &what).await;
    }
}

/// The environment of a child that copies until the disk is full.
const FULL: &str = "WHIMBREL_FAULTS_FULL";
const LARGE: usize = 400;

/// `LARGE` documents of 10 KB, which no compression makes small.
fn large() -> impl Iterator<Item = (whimbrel_model::Key, String)> {
    (0..LARGE).map(|i| {
        let (key, json) = common::conversation(i);
        let noise: String = (0..160)
            .map(|part| {
                let hash = xxhash_rust::xxh3::xxh3_128(format!("{i} {part}").as_bytes());
                format!("{hash:032x}{:032x}", !hash)
            })
            .collect();
        (
            key,
            json.replace("\"text\"", &format!("\"noise\": \"{noise}\", \"text\"")),
        )
    })
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the test of a really full disk, in a process with a small disk of its own"]
async fn child_with_a_small_disk() {
    let Ok(dir) = std::env::var(FULL) else { return };
    let dir = Path::new(&dir);
    let (app, disk) = (
        sqlite(dir, "app.db").await,
        sqlite(dir, "disk/other.db").await,
    );
    let job = whimbrel_engine::CopyJob {
        source: place(&app, "app", "chats"),
        target: place(&disk, "disk", "copies"),
        rule: whimbrel_model::rule::CopyRule {
            transform: None,
            name: "all".into(),
            checksum: "all".into(),
            ..common::scene::split()
        },
        schema: None,
        scratch: None,
        options: JobOptions {
            batch: Some(20),
            ..options()
        },
    };
    match engine(dir).await.copy(job).await {
        Ok(report) => {
            let (copies, originals) = (dump(&disk, "copies").await, dump(&app, "chats").await);
            assert!(copies == originals, "the copies differ");
            let c = report.counts;
            println!(
                "done: {} of {}, {}",
                c.written, c.enumerated, report.resumed
            );
        }
        Err(error) => println!("stopped: {} {}", error.code(), error.resumable()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_really_full_disk_stops_the_run_and_room_lets_it_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let app = sqlite(dir.path(), "app.db").await;
    fill(&app, "chats", large()).await;
    drop(app);
    std::fs::create_dir(dir.path().join("disk")).unwrap();
    // A mount namespace of its own needs no rights where the system lets users have one.
    let script = r#"
        mount -t tmpfs -o size=2m whimbrel "$WHIMBREL_FAULTS_FULL/disk" || exit 77
        child() { "$0" --exact child_with_a_small_disk --ignored --nocapture; }
        child && child && mount -o remount,size=64m "$WHIMBREL_FAULTS_FULL/disk" && child
    "#;
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .env(FULL, dir.path())
        .output();
    let output = match output {
        Ok(output) if output.status.code() != Some(77) && !output.stdout.is_empty() => output,
        other => {
            println!("SKIPPED a really full disk: this system lets no test mount one: {other:?}");
            return;
        }
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = said
        .lines()
        .filter(|l| l.starts_with("done") || l.starts_with("stopped"))
        .collect();
    let full = "stopped: WB-S04 true";
    let done = format!("done: {LARGE} of {LARGE}, true");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(lines, [full, full, done.as_str()], "{said}{errors}");
}

fn unwritable(at: Point) -> JournalError {
    JournalError::Failed {
        ledger: "test".to_owned(),
        message: format!("no room for {:?} {}", at.call, at.n),
    }
}

/// Fails every write of the ledger from the `nth` of a kind on.
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_cannot_be_written_stops_the_run() {
    for task in Task::ALL {
        let pristine = pristine(task).await;
        for call in [JournalCall::Append, JournalCall::PutPreimages] {
            for nth in 1.. {
                let what = format!("{task:?}: no {call:?} from {nth} on");
                let dir = copy_folder(pristine.path());
                let broken = Arc::new(AtomicBool::new(false));
                let fails = Arc::clone(&broken);
                let journal = CrashingJournal::new(journal(dir.path()).await, move |at| {
                    if at.call == call && at.n >= nth {
                        fails.store(true, Ordering::SeqCst);
                    }
                    if fails.load(Ordering::SeqCst) && at.moment == Moment::Before {
                        return Err(unwritable(at));
                    }
                    Ok(())
                });
                let engine = engine_on(Arc::new(journal)).await;
                let result = perform(dir.path(), &engine, task, &bare, narrow()).await;
                if !broken.load(Ordering::SeqCst) {
                    let needed = task != Task::Copy || call == JournalCall::Append;
                    assert!(nth > 6 || !needed, "{what}: there are only so few writes");
                    look(dir.path(), task, result.unwrap().counts, &what).await;
                    break;
                }
                let error = result.unwrap_err();
                assert_eq!(error.code(), Code::LedgerFailed, "{what}: {error}");
                if (call, nth) == (JournalCall::Append, 1) {
                    // Not even started, so nothing was touched.
                    let engine = self::engine(dir.path()).await;
                    let report = perform(dir.path(), &engine, task, &bare, narrow());
                    look(dir.path(), task, report.await.unwrap().counts, &what).await;
                } else {
                    check_interrupted(dir.path(), task, &error, Code::LedgerFailed, &what).await;
                    resume(dir.path(), task, &what).await;
                }
            }
        }
    }
}

/// The ledger has it, but the answer was lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_whose_answer_is_lost_is_asked_again() {
    for task in Task::ALL {
        let pristine = pristine(task).await;
        for nth in 1.. {
            let what = format!("{task:?}: the answer of append {nth} is lost");
            let dir = copy_folder(pristine.path());
            let reached = Arc::new(AtomicBool::new(false));
            let seen = Arc::clone(&reached);
            let journal = CrashingJournal::new(journal(dir.path()).await, move |at| {
                if (at.call, at.n, at.moment) == (JournalCall::Append, nth, Moment::After) {
                    seen.store(true, Ordering::SeqCst);
                    return Err(unwritable(at));
                }
                Ok(())
            });
            let engine = engine_on(Arc::new(journal)).await;
            let report = perform(dir.path(), &engine, task, &bare, narrow()).await;
            let report = report.unwrap_or_else(|e| panic!("{what}: {e}"));
            look(dir.path(), task, report.counts, &what).await;
            if !reached.load(Ordering::SeqCst) {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_asked_to_stop_goes_on_later() {
    for task in Task::ALL {
        let what = format!("{task:?} stopped");
        let dir = pristine(task).await;
        let engine = Arc::new(engine(dir.path()).await);
        let mut events = engine.subscribe();
        let stopper = Arc::clone(&engine);
        let stopping = tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if matches!(event, Event::BatchComplete { .. }) {
                    stopper.stop();
                    return;
                }
            }
        });
        // Slow enough for the word to come in time.
        let slow = |store: Arc<dyn Store>| -> Arc<dyn Store> {
            Arc::new(FaultyStore::new(store).with_latency(Duration::from_millis(20)))
        };
        let error = perform(dir.path(), &engine, task, &slow, narrow())
            .await
            .unwrap_err();
        stopping.await.unwrap();
        check_interrupted(dir.path(), task, &error, Code::RunInterrupted, &what).await;
        resume(dir.path(), task, &what).await;
    }
}
