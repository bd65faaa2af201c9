//! One run at a time: a run that lost its lease writes nothing that counts, and of two runs at once exactly
//! one proceeds.

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::scene::{DOCUMENTS, Task, bare, chat, look, narrow, perform, prepare};
use common::{Stage, dump, engine, fill, journal, ledger, place, sqlite, upgrade};
use whimbrel_model::{Code, Entry, Store};
use whimbrel_testkit::crashing::Moment;
use whimbrel_testkit::faulty::FaultyStore;

/// Holds a store's third write until it is told to go on.
struct Stall {
    reached: SyncSender<()>,
    go_on: Mutex<Receiver<()>>,
}

impl Stall {
    fn new() -> (Arc<Self>, Receiver<()>, SyncSender<()>) {
        let (reached, arrivals) = sync_channel(1);
        let (release, go_on) = sync_channel(1);
        let go_on = Mutex::new(go_on);
        (Arc::new(Self { reached, go_on }), arrivals, release)
    }

    fn around(self: &Arc<Self>, store: Arc<dyn Store>) -> Arc<dyn Store> {
        let me = Arc::clone(self);
        Arc::new(FaultyStore::new(store).on_write(move |n, moment| {
            if (n, moment) == (3, Moment::Before) {
                me.reached.send(()).unwrap();
                me.go_on.lock().unwrap().recv().unwrap();
            }
            Ok(())
        }))
    }
}

async fn arrival(arrivals: Receiver<()>) {
    tokio::task::spawn_blocking(move || arrivals.recv_timeout(Duration::from_secs(30)).unwrap())
        .await
        .unwrap();
}

type Dumps = Vec<Vec<(String, String)>>;

async fn everything(dir: &Path, task: Task) -> Dumps {
    let mut all = vec![dump(&sqlite(dir, "app.db").await, "chats").await];
    if task == Task::Copy {
        let other = sqlite(dir, "other.db").await;
        all.push(dump(&other, "messages").await);
        all.push(dump(&other, whimbrel_engine::PROVENANCE).await);
    }
    all
}

/// The old run stands right before a write of the store, behind its last look at the lease, while another
/// takes the lease, finishes the work and goes home.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_run_that_lost_its_lease_writes_nothing_more() {
    for task in Task::ALL {
        let what = format!("{task:?}");
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path(), task).await;
        let (stall, arrivals, release) = Stall::new();
        let path = dir.path().to_owned();
        let old = tokio::spawn(async move {
            let wrap = |store: Arc<dyn Store>| stall.around(store);
            perform(&path, &engine(&path).await, task, &wrap, narrow()).await
        });
        arrival(arrivals).await;

        let operator = ledger(dir.path()).await;
        let broken = operator.break_lease("operator").await.unwrap().unwrap();
        let new = engine(dir.path()).await;
        let report = perform(dir.path(), &new, task, &bare, narrow())
            .await
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(report.resumed, "{what}");
        let finished = everything(dir.path(), task).await;

        release.send(()).unwrap();
        let error = old.await.unwrap().unwrap_err();
        assert_eq!(error.code(), Code::LeaseLost, "{what}: {error}");
        assert_eq!(everything(dir.path(), task).await, finished, "{what}");
        let records = journal(dir.path()).await.read(0, 1000).await.unwrap();
        let taken = records
            .iter()
            .position(|r| matches!(r.entry, Entry::LeaseBroken { .. }))
            .unwrap();
        assert!(
            records[taken..].iter().all(|r| r.fence > broken.fence),
            "{what}: the old run wrote the ledger"
        );
        look(dir.path(), task, report.counts, &what).await;
    }
}

/// On PostgreSQL a revision never comes back: a write that stalled while others went up *and down again*
/// does not land, although the document looks as it did.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stalled_write_does_not_land_on_a_document_that_came_back() {
    let Some(stage) = Stage::new("fencing") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let server = stage.store(&["chats"]).await;
    let docs = (0..DOCUMENTS).filter(|i| *i != 11).map(chat);
    fill(&server, "chats", docs).await;
    let before = dump(&server, "chats").await;
    let (stall, arrivals, release) = Stall::new();
    let stalled = stall.around(Arc::clone(&server));
    let to = |store: &Arc<dyn Store>, to| {
        let mut job = upgrade(&place(store, "pg", "chats"), to);
        job.options = narrow();
        job
    };
    let old = engine(dir.path()).await;
    let job = to(&stalled, 3);
    let old = tokio::spawn(async move { old.upgrade(job).await });
    arrival(arrivals).await;

    ledger(dir.path())
        .await
        .break_lease("operator")
        .await
        .unwrap();
    let new = engine(dir.path()).await;
    assert!(new.upgrade(to(&server, 3)).await.unwrap().resumed);
    new.upgrade(to(&server, 1)).await.unwrap();
    assert_eq!(dump(&server, "chats").await, before);

    release.send(()).unwrap();
    let error = old.await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::LeaseLost, "{error}");
    assert_eq!(dump(&server, "chats").await, before);
}

const FOLDER: &str = "WHIMBREL_FENCING_FOLDER";

/// Says that it is ready, waits for the word, and upgrades slowly.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the test of two processes"]
async fn child() {
    let Ok(dir) = std::env::var(FOLDER) else {
        return;
    };
    let dir = Path::new(&dir);
    let engine = engine(dir).await;
    let slow = |store: Arc<dyn Store>| -> Arc<dyn Store> {
        Arc::new(FaultyStore::new(store).with_latency(Duration::from_millis(60)))
    };
    std::fs::write(dir.join(format!("ready {}", std::process::id())), "").unwrap();
    while !dir.join("go").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    match perform(dir, &engine, Task::Up, &slow, narrow()).await {
        Ok(report) => println!("\ndone {}", report.counts.written),
        Err(error) => println!("\nstopped {}", error.code()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_exactly_one_proceeds() {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path(), Task::Up).await;
    // The ledger is there already: who makes it is another question.
    drop(ledger(dir.path()).await);
    let spawn = || -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(FOLDER, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let children = [spawn(), spawn()];
    let ready = || {
        std::fs::read_dir(dir.path())
            .unwrap()
            .filter(|e| {
                e.as_ref()
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .starts_with("ready")
            })
            .count()
    };
    while ready() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    std::fs::write(dir.path().join("go"), "").unwrap();
    let mut said: Vec<String> = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let line = text
                .lines()
                .find(|l| l.starts_with("done") || l.starts_with("stopped"));
            line.unwrap_or_else(|| panic!("{text}")).to_owned()
        })
        .collect();
    said.sort();
    let done = format!("done {}", DOCUMENTS - 1);
    assert_eq!(said, [done.as_str(), "stopped WB-L01"]);
    let state = ledger(dir.path()).await.state();
    assert_eq!(state.runs.len(), 1);
    let counts = state.runs.values().next().unwrap().counts;
    look(dir.path(), Task::Up, counts, "two processes").await;
}
