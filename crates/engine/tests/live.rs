//! An app that writes all the while, and a server whose connections die: nothing acknowledged is lost, and
//! nothing that was deleted comes back.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::{Stage, conversation, dump, engine, fill, options, place, sqlite, upgrade};
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{RngExt, SeedableRng};
use whimbrel_engine::{CopyJob, Engine, JobOptions, Report};
use whimbrel_model::{Body, Document, Guard, Key, Store, Value, Write, WriteOutcome};

const DOCUMENTS: usize = 300;

/// An app that edits, replaces, inserts and deletes, and remembers what was acknowledged: each document's
/// `hits`.
struct App {
    store: Arc<dyn Store>,
    random: StdRng,
    acknowledged: BTreeMap<String, i64>,
    /// Edits that lost against the upgrade.
    lost: u32,
    step: i64,
}

impl App {
    fn new(store: Arc<dyn Store>, seed: u64) -> Self {
        let acknowledged = (0..DOCUMENTS)
            .map(|i| (conversation(i).0.to_string(), 0))
            .collect();
        Self {
            store,
            random: StdRng::seed_from_u64(seed),
            acknowledged,
            lost: 0,
            step: 0,
        }
    }

    async fn write(&self, key: &str, to: Option<Body>, guard: Guard) -> bool {
        let write = Write {
            collection: "chats".into(),
            key: Key::text(key),
            to,
            guard,
        };
        match self.store.write(&[write]).await.unwrap().as_slice() {
            [WriteOutcome::Applied] => true,
            [WriteOutcome::Lost] => false,
            other => panic!("{other:?}"),
        }
    }

    /// A new document, as the app's oldest version writes it.
    fn fresh(&self) -> Body {
        Body::from_json(format!(
            r#"{{"title": "new", "n": 1, "hits": {}}}"#,
            self.step
        ))
    }

    async fn act(&mut self) {
        self.step += 1;
        let key = self
            .acknowledged
            .keys()
            .choose(&mut self.random)
            .unwrap()
            .clone();
        match self.random.random_range(0..20) {
            0 => {
                let key = format!("new {:05}", self.step);
                assert!(self.write(&key, Some(self.fresh()), Guard::Absent).await);
                self.acknowledged.insert(key, self.step);
            }
            1 => {
                assert!(self.write(&key, None, Guard::Any).await);
                self.acknowledged.remove(&key);
            }
            2 => {
                assert!(self.write(&key, Some(self.fresh()), Guard::Any).await);
                self.acknowledged.insert(key, self.step);
            }
            _ => {
                let doc = self.read(&key).await;
                let mut map = doc.body.map().unwrap().into_owned();
                map.insert("hits".to_owned(), Value::Int(self.step));
                let guard = Guard::Unchanged(doc.revision);
                if self.write(&key, Some(Body::Map(map)), guard).await {
                    self.acknowledged.insert(key, self.step);
                } else {
                    self.lost += 1;
                }
            }
        }
    }

    async fn read(&self, key: &str) -> Document {
        let found = self.store.get("chats", &[Key::text(key)]).await.unwrap();
        let Some(doc) = found.into_iter().flatten().next() else {
            panic!("{key} is gone")
        };
        doc
    }
}

async fn live(store: &Arc<dyn Store>, of_app: Arc<dyn Store>, engine: &Engine, seed: u64) {
    fill(store, "chats", (0..DOCUMENTS).map(conversation)).await;
    let chats = place(store, "app", "chats");
    let over = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&over);
    let mut app = App::new(of_app, seed);
    let app = tokio::spawn(async move {
        while !stop.load(Ordering::SeqCst) {
            app.act().await;
        }
        app
    });
    let mut conflicts = 0;
    for to in [3, 1, 2, 3, 2, 1, 3] {
        let report = engine.upgrade(upgrade(&chats, to)).await.unwrap();
        assert!(report.counts.balanced(), "seed {seed}: {:?}", report.counts);
        assert_eq!(report.counts.quarantined, 0, "seed {seed}");
        conflicts += report.counts.conflicts;
    }
    over.store(true, Ordering::SeqCst);
    let app = app.await.unwrap();
    println!(
        "{}: {} writes of the app, {} lost to the upgrade, {conflicts} the other way round",
        store.name(),
        app.step,
        app.lost
    );
    assert!(app.step > 100, "the app wrote only {} times", app.step);
    engine.upgrade(upgrade(&chats, 3)).await.unwrap();
    let mut found = BTreeMap::new();
    for (key, json) in dump(store, "chats").await {
        let body = Body::from_json(json.into_bytes());
        let map = body.map().unwrap();
        assert_eq!(map.get("_schemaVersion"), Some(&Value::Int(3)), "{key}");
        let hits = match map.get("hits") {
            Some(Value::Int(hits)) => *hits,
            _ => 0,
        };
        found.insert(key, hits);
    }
    assert_eq!(found, app.acknowledged, "seed {seed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_on_sqlite_loses_nothing_and_nothing_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = sqlite(dir.path(), "app.db").await;
    let of_app = sqlite(dir.path(), "app.db").await;
    live(&store, of_app, &engine(dir.path()).await, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_on_postgres_loses_nothing_and_nothing_comes_back() {
    let Some(stage) = Stage::new("live") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (store, of_app) = (stage.store(&["chats"]).await, stage.store(&["chats"]).await);
    live(&store, of_app, &engine(dir.path()).await, 2).await;
}

/// Ends every connection of the test's stores, over and over, until it is dropped.
struct Killer {
    thread: Option<std::thread::JoinHandle<()>>,
    over: Arc<AtomicBool>,
    killed: Arc<AtomicU64>,
}

impl Killer {
    fn set_on(stage: &Stage, most: u64) -> Self {
        let (over, killed) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stop, count, url) = (Arc::clone(&over), Arc::clone(&killed), stage.url.clone());
        let sql = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE application_name = '{}'",
            stage.schema
        );
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) && count.load(Ordering::SeqCst) < most {
                let killed: u64 = common::psql(&url, &sql).parse().unwrap();
                count.fetch_add(killed, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let thread = Some(thread);
        Self {
            thread,
            over,
            killed,
        }
    }

    fn killed(&self) -> u64 {
        self.killed.load(Ordering::SeqCst)
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Its last blow must not hit what comes after.
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// Gives the same command again until it is done. Whatever stops it must be resumable.
async fn until_done<F>(mut command: impl FnMut() -> F) -> Report
where
    F: Future<Output = Result<Report, whimbrel_engine::EngineError>>,
{
    for _ in 0..50 {
        match command().await {
            Ok(report) => return report,
            Err(error) => {
                println!("stopped: {error}");
                assert!(error.resumable(), "{error}");
            }
        }
    }
    panic!("50 attempts were not enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_die_lose_and_double_nothing() {
    let Some(stage) = Stage::new("killed") else {
        return;
    };
    const MANY: usize = 3000;
    let dir = tempfile::tempdir().unwrap();
    let app = sqlite(dir.path(), "app.db").await;
    fill(&app, "chats", (0..MANY).map(conversation)).await;
    let server = stage.store(&["chats"]).await;
    let engine = engine(dir.path()).await;
    let options = || JobOptions {
        batch: Some(40),
        patience: Duration::from_secs(2),
        ..options()
    };
    let check = |what: &str, report: &Report, killer: &Killer| {
        let c = report.counts;
        println!("{what}: {} connections killed, {c:?}", killer.killed());
        assert!(killer.killed() > 3, "{what}: {}", killer.killed());
        assert_eq!(
            (c.enumerated, c.written),
            (MANY as u64, MANY as u64),
            "{what}: {c:?}"
        );
    };

    let killer = Killer::set_on(&stage, 60);
    let copied = until_done(|| {
        engine.copy(CopyJob {
            source: place(&app, "app", "chats"),
            target: place(&server, "pg", "chats"),
            rule: whimbrel_model::rule::CopyRule {
                name: "all".into(),
                checksum: "all".into(),
                transform: None,
                ..common::scene::split()
            },
            schema: None,
            scratch: None,
            options: options(),
        })
    })
    .await;
    check("copy", &copied, &killer);
    drop(killer);
    let values = |dumped: Vec<(String, String)>| -> Vec<(String, Value)> {
        let value = |json: String| whimbrel_model::json::parse(json.as_bytes()).unwrap();
        dumped
            .into_iter()
            .map(|(key, json)| (key, value(json)))
            .collect()
    };
    let before = dump(&server, "chats").await;
    assert_eq!(values(before.clone()), values(dump(&app, "chats").await));

    for to in [3, 1] {
        let killer = Killer::set_on(&stage, 60);
        let report = until_done(|| {
            let mut job = upgrade(&place(&server, "pg", "chats"), to);
            job.options = options();
            engine.upgrade(job)
        })
        .await;
        check(&format!("to v{to}"), &report, &killer);
    }
    assert_eq!(dump(&server, "chats").await, before);
}
