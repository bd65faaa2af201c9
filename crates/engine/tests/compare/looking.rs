//! What is looked at, how, and what survives an interruption.

use std::sync::Arc;

use whimbrel_engine::{CompareJob, Engine, EngineError, SystemClock};
use whimbrel_model::finding::Comparison;
use whimbrel_model::ledger::{JobKind, RunStatus};
use whimbrel_model::rule::{FieldPath, Filter, Test};
use whimbrel_model::{Event, KeyKind, Store, Timestamp, Value};

use super::common::{Stage, engine, fill, ledger, sqlite, store};
use super::{agrees, copy_job, job, json, plain, put, told};

const DOCUMENTS: usize = 400;

fn key(i: usize) -> String {
    format!("d{i:05}")
}

fn body(i: usize) -> String {
    let hour = i % 24;
    format!(
        r#"{{"n": {i}, "x": {i}.25, "changed": {{"$timestamp":"2026-02-01T{hour:02}:00:00Z"}}}}"#
    )
}

async fn filled(store: &Arc<dyn Store>, collection: &str, documents: usize) {
    let all = (0..documents).map(|i| (key(i).as_str().into(), body(i)));
    fill(store, collection, all).await;
}

async fn two(documents: usize) -> (Arc<dyn Store>, Arc<dyn Store>) {
    let (source, target) = (store("memory:").await, store("memory:").await);
    filled(&source, "docs", documents).await;
    filled(&target, "copies", documents).await;
    (source, target)
}

fn without_ledger() -> Engine {
    Engine::without_ledger(Arc::new(SystemClock))
}

async fn compared(job: CompareJob) -> Comparison {
    let found = without_ledger().compare(job).await.unwrap();
    agrees(&found);
    found
}

fn path(text: &str) -> FieldPath {
    FieldPath::parse(text).unwrap()
}

#[tokio::test]
async fn fields_that_do_not_count_and_numbers_that_are_near() {
    let (source, target) = two(30).await;
    put(&target, &key(3), json(r#"{"n":3,"x":3.5,"changed":1}"#)).await;
    put(&target, &key(4), json(r#"{"n":5,"x":4.25,"changed":1}"#)).await;
    let mut job = job(&source, &target);
    job.ignore = vec![path("changed")];
    let found = compared(job.clone()).await;
    assert_eq!(
        told(&found.differences),
        ["differing d00003", "differing d00004"]
    );
    assert_eq!(found.differences[0].paths, ["x"]);
    assert_eq!(found.differences[1].paths, ["n"]);
    job.tolerance = vec![(path("x"), 0.5)];
    let found = compared(job).await;
    assert_eq!(told(&found.differences), ["differing d00004"]);
}

#[tokio::test]
async fn a_sample_is_the_same_each_time_and_says_what_it_is_worth() {
    let (source, target) = two(4_000).await;
    for i in (0..4_000).step_by(20) {
        put(&target, &key(i), None).await;
    }
    let mut job = job(&source, &target);
    job.sample = Some((0.25, 11));
    let one = compared(job.clone()).await;
    let same = compared(job.clone()).await;
    assert_eq!(one.differences, same.differences);
    assert!(
        (800..1200).contains(&one.source_documents),
        "{}",
        one.source_documents
    );
    assert!((25..80).contains(&one.missing), "{}", one.missing);
    let sample = one.sample.unwrap();
    assert!((sample.confidence - 0.95).abs() < 1e-9);
    // 5 % are missing.
    assert!(
        sample.at_most > 0.05 && sample.at_most < 0.09,
        "{}",
        sample.at_most
    );
    job.sample = Some((0.25, 12));
    assert_ne!(compared(job.clone()).await.differences, one.differences);
    job.sample = Some((0.0, 1));
    let error = without_ledger().compare(job).await.unwrap_err();
    assert!(error.to_string().contains("no share"), "{error}");
}

#[tokio::test]
async fn only_what_was_changed_since() {
    let (source, target) = two(48).await;
    // Hour 2 and hour 20; and one that only the target has changed.
    for i in [2, 20] {
        put(&target, &key(i), None).await;
    }
    put(
        &target,
        &key(3),
        json(r#"{"changed":"2026-02-01T23:30:00Z"}"#),
    )
    .await;
    let mut job = job(&source, &target);
    let noon = Timestamp::parse("2026-02-01T12:00:00Z").unwrap();
    job.since = Some((path("changed"), noon));
    let found = compared(job).await;
    assert_eq!(
        told(&found.differences),
        ["differing d00003", "missing d00020"]
    );
    assert_eq!(found.source_documents, 25);
}

#[tokio::test]
async fn what_a_filter_leaves_out_is_not_wanted_in_the_target() {
    let (source, target) = two(20).await;
    let mut rule = plain();
    rule.filter = Some(Filter::Field(path("n"), Test::Below(Value::Int(15))));
    let job = CompareJob::of(copy_job(&source, &target, rule, None));
    let found = compared(job).await;
    assert_eq!((found.skipped, found.extra, found.equal), (5, 5, 15));
}

#[tokio::test]
async fn a_target_that_was_never_made_lacks_everything() {
    let (source, target) = (store("memory:").await, store("memory:").await);
    filled(&source, "docs", 10).await;
    let found = compared(job(&source, &target)).await;
    assert_eq!((found.missing, found.source_documents), (10, 10));
    target.ensure("copies", &KeyKind::Text).await.unwrap();
    let found = compared(job(&source, &target)).await;
    assert_eq!(found.missing, 10);
    // The other way round: an empty source.
    let mut back = job(&target, &source);
    back.copy.source.collection = "copies".to_owned();
    back.copy.target.collection = "docs".to_owned();
    let found = compared(back).await;
    assert_eq!((found.extra, found.target_documents), (10, 10));
}

#[tokio::test]
async fn rows_that_cannot_be_read_are_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let sql = |file: &str, sql: &str| {
        let app = rusqlite::Connection::open(dir.path().join(file)).unwrap();
        app.execute_batch(sql).unwrap();
    };
    // Columns without a type hold anything.
    sql(
        "a.db",
        "CREATE TABLE docs (id TEXT PRIMARY KEY NOT NULL, data)",
    );
    sql(
        "b.db",
        "CREATE TABLE copies (id TEXT PRIMARY KEY NOT NULL, data)",
    );
    let source = sqlite(dir.path(), "a.db").await;
    filled(&source, "docs", 10).await;
    let target = sqlite(dir.path(), "b.db").await;
    filled(&target, "copies", 10).await;
    sql("a.db", "UPDATE docs SET data = 7 WHERE id = 'd00003'");
    let two = "UPDATE copies SET data = 7 WHERE id IN ('d00003', 'd00004')";
    sql("b.db", two);
    sql("b.db", "UPDATE copies SET data = '{' WHERE id = 'd00005'");
    let found = compared(job(&source, &target)).await;
    let expect = [
        "unreadable d00003",
        "unreadable d00004",
        "unreadable d00005",
    ];
    assert_eq!(told(&found.differences), expect);
    assert_eq!(found.equal, 7);
}

/// Stops after some chunks, goes on in a new process, as it were, and knows all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_comparison_forgets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (sqlite(dir.path(), "a.db").await, store("memory:").await);
    filled(&source, "docs", DOCUMENTS).await;
    filled(&target, "copies", DOCUMENTS).await;
    let mut expect = Vec::new();
    for i in (0..DOCUMENTS).step_by(40) {
        put(&target, &key(i), None).await;
        expect.push(format!("missing {}", key(i)));
    }
    put(&target, "e", json("{}")).await;
    expect.insert(0, "extra e".to_owned());
    let mut job = job(&source, &target);
    job.options.parallel = Some(1);
    job.options.batch = Some(9);
    let mut attempts = 0;
    let found = loop {
        attempts += 1;
        let engine = Arc::new(engine(dir.path()).await);
        let mut events = engine.subscribe();
        let stopped = Arc::clone(&engine);
        let watcher = tokio::spawn(async move {
            let mut chunks = 0;
            while let Some(event) = events.recv().await {
                chunks += u32::from(matches!(event, Event::BatchComplete { .. }));
                if chunks == 12 {
                    stopped.stop();
                    break;
                }
            }
        });
        let result = engine.compare(job.clone()).await;
        watcher.abort();
        match result {
            Ok(found) => break found,
            Err(EngineError::Interrupted) => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert!(attempts > 2, "it was never stopped");
    agrees(&found);
    assert_eq!(told(&found.differences), expect);
    assert_eq!(found.source_documents, DOCUMENTS as u64);
    assert_eq!(found.equal + found.missing, DOCUMENTS as u64);
    let ledger = ledger(dir.path()).await;
    let state = ledger.state();
    let runs: Vec<_> = state.runs.values().collect();
    assert_eq!(runs.len(), 1);
    assert_eq!(
        (runs[0].job.kind, runs[0].status),
        (JobKind::Verify, RunStatus::Completed)
    );
    assert_eq!(runs[0].attempts, attempts);
    ledger.verify().await.unwrap();
}

/// Equal ranges are never read, and differing ones are cut down to little.
async fn by_digest(source: Arc<dyn Store>, target: Arc<dyn Store>, documents: usize) {
    filled(&source, "docs", documents).await;
    filled(&target, "copies", documents).await;
    let found = compared(job(&source, &target)).await;
    assert!(found.equal());
    assert_eq!(found.by_digest, documents as u64);
    put(&target, &key(17), None).await;
    put(&target, &key(documents / 2), json("{}")).await;
    put(&target, "zzz", json("{}")).await;
    let found = compared(job(&source, &target)).await;
    agrees(&found);
    let differing = format!("differing {}", key(documents / 2));
    assert_eq!(
        told(&found.differences),
        [&differing, "extra zzz", "missing d00017"]
    );
    assert_eq!(found.equal, documents as u64 - 2);
    assert!(
        found.by_digest > documents as u64 / 3,
        "{} by digest",
        found.by_digest
    );
    assert!(found.by_digest < documents as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_tells_by_digest() {
    let dir = tempfile::tempdir().unwrap();
    by_digest(
        sqlite(dir.path(), "a.db").await,
        sqlite(dir.path(), "b.db").await,
        30_000,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_tells_by_digest() {
    let (Some(one), Some(other)) = (Stage::new("digest_a"), Stage::new("digest_b")) else {
        return;
    };
    let (source, target) = (one.store(&["docs"]).await, other.store(&["copies"]).await);
    by_digest(source, target, 30_000).await;
}

/// A digest of one kind says nothing about one of another, and what is the same in other bytes is the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digests_of_different_kinds_are_not_compared() {
    let Some(stage) = Stage::new("digest_kinds") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (
        sqlite(dir.path(), "a.db").await,
        stage.store(&["copies"]).await,
    );
    filled(&source, "docs", 3_000).await;
    filled(&target, "copies", 3_000).await;
    let found = compared(job(&source, &target)).await;
    assert!(found.equal());
    assert_eq!((found.by_digest, found.equal), (0, 3_000));
}
