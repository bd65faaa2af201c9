//! Firestore as either end of every job: upgrades in place, copies there and back, comparisons, backups.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::scene::{DOCUMENTS, chat, narrow, split};
use common::{Stage, dump, engine, fill, options, place, sqlite, store, upgrade};
use tempfile::TempDir;
use whimbrel_archive::Vault;
use whimbrel_engine::{
    BackupJob, CompareJob, CopyJob, Engine, PROVENANCE, RestoreJob, RestorePart, Threshold,
};
use whimbrel_model::finding::Comparison;
use whimbrel_model::rule::CopyRule;
use whimbrel_model::{
    Body, GeoPoint, Guard, Key, KeyKind, KeyRange, Map, Store, Timestamp, Value, Write,
    WriteOutcome,
};
use whimbrel_testkit::servers::firestore;

struct World {
    dir: TempDir,
    engine: Engine,
    /// A Firestore of the test's own.
    app: Arc<dyn Store>,
}

impl World {
    /// `None` where there is no emulator.
    async fn new() -> Option<Self> {
        let app = store(&firestore()?).await;
        let dir = tempfile::tempdir().unwrap();
        Some(Self {
            engine: engine(dir.path()).await,
            dir,
            app,
        })
    }

    async fn another(&self) -> Arc<dyn Store> {
        store(&firestore().unwrap()).await
    }

    async fn copy(&self, from: &Arc<dyn Store>, to: &Arc<dyn Store>, collection: &str) -> u64 {
        let report = self.engine.copy(job(from, to, collection)).await.unwrap();
        assert!(report.counts.balanced());
        assert_eq!(report.counts.quarantined, 0);
        report.counts.written
    }

    async fn compare(
        &self,
        from: &Arc<dyn Store>,
        to: &Arc<dyn Store>,
        collection: &str,
    ) -> Comparison {
        // Their keys stand in different orders.
        let compare = CompareJob::of(CopyJob {
            scratch: Some(store("memory:").await),
            ..job(from, to, collection)
        });
        self.engine.compare(compare).await.unwrap()
    }
}

fn job(from: &Arc<dyn Store>, to: &Arc<dyn Store>, collection: &str) -> CopyJob {
    CopyJob {
        // Runs are told apart by their stores' names.
        source: place(from, from.name(), collection),
        target: place(to, to.name(), collection),
        rule: plain(),
        schema: None,
        scratch: None,
        options: options(),
    }
}

fn plain() -> CopyRule {
    CopyRule::plain("copy")
}

/// Every document, by its key, as values.
async fn contents(store: &Arc<dyn Store>, collection: &str) -> BTreeMap<String, Map> {
    let all = dump(store, collection).await.into_iter();
    all.map(|(key, json)| {
        let body = Body::from_json(json.into_bytes());
        (key, body.map().unwrap().into_owned())
    })
    .collect()
}

async fn put(store: &Arc<dyn Store>, collection: &str, documents: Vec<(String, Map)>) {
    store.ensure(collection, &KeyKind::Text).await.unwrap();
    let write = |(key, map)| Write {
        collection: collection.to_owned(),
        key: Key::text(key),
        to: Some(Body::Map(map)),
        guard: Guard::Absent,
    };
    let writes: Vec<Write> = documents.into_iter().map(write).collect();
    for outcome in store.write(&writes).await.unwrap() {
        assert_eq!(outcome, WriteOutcome::Applied);
    }
}

/// Every type and its extremes, as far as Firestore has them.
fn extremes() -> Vec<(String, Map)> {
    let time = |seconds, nanos| Value::Timestamp(Timestamp::new(seconds, nanos).unwrap());
    let text = |s: &str| Value::String(s.to_owned());
    let map = |fields: Vec<(&str, Value)>| -> Map {
        let own = fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        own.collect()
    };
    let values = vec![
        ("null", Value::Null),
        ("true", Value::Bool(true)),
        ("least", Value::Int(i64::MIN)),
        ("greatest", Value::Int(i64::MAX)),
        ("beyond doubles", Value::Int((1 << 53) + 1)),
        ("one", Value::Int(1)),
        ("one point zero", Value::Double(1.0)),
        ("minus zero", Value::Double(-0.0)),
        ("not a number", Value::Double(f64::NAN)),
        ("infinity", Value::Double(f64::INFINITY)),
        ("minus infinity", Value::Double(f64::NEG_INFINITY)),
        ("tiny", Value::Double(5e-324)),
        ("huge", Value::Double(-f64::MAX)),
        ("first instant", time(-62_135_596_800, 0)),
        ("last instant", time(253_402_300_799, 999_999_000)),
        ("before 1970", time(-1, 999_999_000)),
        ("empty", text("")),
        ("texts", text("a\u{10ffff}\u{feff}\n\"\\e\u{301}")),
        ("time as text", text("2026-01-31T08:00:00Z")),
        ("bytes", Value::Bytes((0..=255).collect())),
        ("no bytes", Value::Bytes(Vec::new())),
        (
            "reference",
            Value::Reference("users/a b/posts/ü".to_owned()),
        ),
        (
            "elsewhere",
            Value::Reference("projects/q/databases/d/documents/a/1".to_owned()),
        ),
        (
            "point",
            Value::GeoPoint(GeoPoint {
                latitude: -90.0,
                longitude: 180.0,
            }),
        ),
        ("vector", Value::Vector(vec![-0.0, 1e300, 5e-324])),
        (
            "array",
            Value::Array(vec![Value::Null, Value::Map(Map::new()), text("x")]),
        ),
        ("no array", Value::Array(Vec::new())),
        (
            "map",
            Value::Map(map(vec![
                ("a.b", Value::Int(1)),
                ("`", Value::Map(Map::new())),
                ("$timestamp", text("no tag")),
                ("ü\n", Value::Array(vec![Value::Int(1)])),
            ])),
        ),
    ];
    let deep = (1..20).fold(Map::new(), |inner, _| map(vec![("d", Value::Map(inner))]));
    let mut all: Vec<(String, Map)> = values
        .into_iter()
        .map(|(name, value)| {
            let within = Value::Map(map(vec![("v", value.clone())]));
            let fields = vec![("v", value), ("in", Value::Array(vec![within]))];
            (name.to_owned(), map(fields))
        })
        .collect();
    all.push(("deep".to_owned(), deep));
    all.push(("nothing".to_owned(), Map::new()));
    let long = Value::String("x".repeat(1_048_000));
    all.push(("long".to_owned(), map(vec![("v", long)])));
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_in_place_goes_up_and_comes_down() {
    let Some(world) = World::new().await else {
        return;
    };
    let conversation = |i: usize| {
        let json = format!(
            r#"{{"title": "chat {i}", "n": {i}, "at": {{"$timestamp": "2026-01-31T08:00:00.5Z"}}}}"#
        );
        (Key::text(format!("c{i:05}")), json)
    };
    fill(&world.app, "chats", (0..100).map(conversation)).await;
    let before = contents(&world.app, "chats").await;
    let chats = place(&world.app, "app", "chats");
    let up = world.engine.upgrade(upgrade(&chats, 3)).await.unwrap();
    assert_eq!((up.counts.enumerated, up.counts.written), (100, 100));
    for (key, map) in contents(&world.app, "chats").await {
        assert_eq!(map.get("_schemaVersion"), Some(&Value::Int(3)), "{key}");
        assert!(map.contains_key("name") && !map.contains_key("n"), "{key}");
    }
    // What the app writes meanwhile stays.
    let written = r#"{"name":"by the app","meta":{},"_schemaVersion":3}"#;
    fill(
        &world.app,
        "chats",
        [(Key::text("c00001"), written.to_owned())],
    )
    .await;
    let down = world.engine.upgrade(upgrade(&chats, 1)).await.unwrap();
    assert_eq!(down.counts.written, 100);
    let mut expect = before;
    let own = r#"{"title":"by the app","n":1}"#.as_bytes().to_vec();
    let own = Body::from_json(own).map().unwrap().into_owned();
    expect.insert("c00001".to_owned(), own);
    assert_eq!(contents(&world.app, "chats").await, expect);
}

/// Also what lies below documents, and what points from one document to another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_go_there_and_back_unchanged() {
    let Some(world) = World::new().await else {
        return;
    };
    let stage = Stage::new("fs_copy").unwrap();
    let nested: Vec<(String, Map)> = extremes()
        .into_iter()
        .enumerate()
        .map(|(i, (key, map))| (format!("u{}/{key}", i % 3), map))
        .collect();
    put(&world.app, "all", extremes()).await;
    put(&world.app, "users/posts", nested).await;
    let database = world.app.name().trim_start_matches("firestore://");
    let (project, _) = database.split_once('/').unwrap();
    let own = format!("projects/{project}/databases/(default)/documents/users/alice");
    let pointing = Map::from_iter([("v".to_owned(), Value::Reference(own))]);
    put(&world.app, "pointers", vec![("one".to_owned(), pointing)]).await;

    let file = sqlite(world.dir.path(), "file.db").await;
    let postgres = stage.store(&["all", "users/posts", "pointers"]).await;
    let back = world.another().await;
    for collection in ["all", "users/posts", "pointers"] {
        let expect = contents(&world.app, collection).await;
        let count = expect.len() as u64;
        let way = [&world.app, &file, &postgres, &back];
        for pair in way.windows(2) {
            let (from, to) = (pair[0], pair[1]);
            let what = format!("{collection}: {} to {}", from.name(), to.name());
            assert_eq!(world.copy(from, to, collection).await, count, "{what}");
            assert_eq!(contents(to, collection).await, expect, "{what}");
            for (a, b) in [(from, to), (to, from)] {
                let found = world.compare(a, b, collection).await;
                assert_eq!(
                    (found.equal, found.source_documents),
                    (count, count),
                    "{what}"
                );
                assert_eq!(found.missing + found.extra + found.differing, 0, "{what}");
            }
            // Again: nothing to do.
            let again = world.engine.copy(job(from, to, collection)).await.unwrap();
            assert_eq!(
                (again.counts.written, again.counts.unchanged),
                (0, count),
                "{what}"
            );
        }
    }
    let pointer = Map::from_iter([("v".to_owned(), Value::Reference("users/alice".into()))]);
    assert_eq!(contents(&file, "pointers").await["one"], pointer);
    assert_eq!(
        back.collections().await.unwrap(),
        ["all", "pointers", "users/posts"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comparison_finds_what_differs() {
    let Some(world) = World::new().await else {
        return;
    };
    let file = sqlite(world.dir.path(), "file.db").await;
    put(&world.app, "all", extremes()).await;
    world.copy(&world.app, &file, "all").await;
    let write = |key: &str, to: Option<&str>| Write {
        collection: "all".to_owned(),
        key: Key::text(key),
        to: to.map(|json| Body::from_json(json.as_bytes().to_vec())),
        guard: Guard::Any,
    };
    let changes = [
        write("one", Some(r#"{"v":1.0}"#)),
        write("null", None),
        write("new", Some("{}")),
    ];
    world.app.write(&changes).await.unwrap();
    let found = world.compare(&world.app, &file, "all").await;
    assert_eq!((found.missing, found.extra, found.differing), (1, 1, 1));
    let found = world.compare(&file, &world.app, "all").await;
    assert_eq!((found.missing, found.extra, found.differing), (1, 1, 1));
}

/// With the record of which came from which; ids hold no slashes, whatever the record is called.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_becomes_several_and_a_second_copy_knows_them() {
    let Some(world) = World::new().await else {
        return;
    };
    let file = sqlite(world.dir.path(), "file.db").await;
    fill(&file, "chats", (0..DOCUMENTS).map(chat)).await;
    let job = || CopyJob {
        source: place(&file, "file", "chats"),
        target: place(&world.app, "app", "messages"),
        rule: split(),
        schema: None,
        scratch: None,
        options: narrow(),
    };
    let first = world.engine.copy(job()).await.unwrap().counts;
    assert_eq!((first.written, first.quarantined), (39, 1));
    assert_eq!(dump(&world.app, "messages").await.len(), 39 * 3);
    assert_eq!(dump(&world.app, PROVENANCE).await.len(), 39);
    let shorter = r#"{"title": "chat 3", "n": 3, "messages": ["a3", "new"]}"#;
    fill(&file, "chats", [(Key::text("c00003"), shorter.to_owned())]).await;
    let again = world.engine.copy(job()).await.unwrap().counts;
    assert_eq!((again.written, again.unchanged), (1, 38));
    let messages = dump(&world.app, "messages").await;
    assert_eq!(messages.len(), 39 * 3 - 1);
    let changed = ("c00003:1".to_owned(), r#"{"text":"new"}"#.to_owned());
    assert!(messages.contains(&changed));
    let found = world.engine.compare(CompareJob::of(job())).await.unwrap();
    assert_eq!(
        (found.equal, found.missing, found.extra, found.differing),
        (116, 0, 0, 0)
    );
}

/// One source document whose target documents are together more than a commit may hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_larger_than_a_commit_is_written_in_parts() {
    let Some(world) = World::new().await else {
        return;
    };
    let file = sqlite(world.dir.path(), "file.db").await;
    let text = "x".repeat(900_000);
    let messages = vec![text.as_str(); 12];
    let chat = serde_json::json!({ "title": "long", "messages": messages });
    fill(&file, "chats", [(Key::text("long"), chat.to_string())]).await;
    let job = || CopyJob {
        target: place(&world.app, "app", "messages"),
        rule: split(),
        ..job(&file, &world.app, "chats")
    };
    let first = world.engine.copy(job()).await.unwrap().counts;
    assert_eq!((first.written, first.quarantined), (1, 0));
    assert_eq!(dump(&world.app, "messages").await.len(), 12);
    let again = world.engine.copy(job()).await.unwrap().counts;
    assert_eq!((again.written, again.unchanged), (0, 1));
}

/// Numbers become ids as texts, and are found again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbered_documents_are_copied_and_found_again() {
    let Some(world) = World::new().await else {
        return;
    };
    let file = sqlite(world.dir.path(), "file.db").await;
    file.ensure("items", &KeyKind::Int).await.unwrap();
    let write = |n| Write {
        collection: "items".to_owned(),
        key: Key::Int(n),
        to: Some(Body::from_json(format!(r#"{{"n":{n}}}"#).into_bytes())),
        guard: Guard::Absent,
    };
    let writes: Vec<Write> = (-20..20).map(write).collect();
    file.write(&writes).await.unwrap();
    assert_eq!(world.copy(&file, &world.app, "items").await, 40);
    assert_eq!(contents(&world.app, "items").await.len(), 40);
    let again = world
        .engine
        .copy(job(&file, &world.app, "items"))
        .await
        .unwrap();
    assert_eq!((again.counts.written, again.counts.unchanged), (0, 40));
    let found = world.compare(&file, &world.app, "items").await;
    assert_eq!((found.equal, found.missing, found.extra), (40, 0, 0));
}

/// What Firestore cannot hold waits in quarantine with its reason, and the others are written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_held_is_quarantined() {
    let Some(world) = World::new().await else {
        return;
    };
    let file = sqlite(world.dir.path(), "file.db").await;
    let documents = [
        ("good", r#"{"a":1}"#.to_owned()),
        ("decimal", r#"{"a":12345678901234567890}"#.to_owned()),
        ("nested", r#"{"a":[[1]]}"#.to_owned()),
        (
            "fine",
            r#"{"a":{"$timestamp":"2026-01-31T08:00:00.1234567Z"}}"#.to_owned(),
        ),
        ("reserved", r#"{"__a__":1}"#.to_owned()),
        ("large", format!(r#"{{"a":"{}"}}"#, "x".repeat(1 << 20))),
        ("..", "{}".to_owned()),
        ("a/b", "{}".to_owned()),
    ];
    let documents = documents.map(|(key, json)| (Key::text(key), json));
    fill(&file, "all", documents).await;
    let mut copy = job(&file, &world.app, "all");
    copy.options.max_failed = Threshold::Share(1.0);
    let report = world.engine.copy(copy).await.unwrap();
    assert!(report.counts.balanced());
    assert_eq!((report.counts.written, report.counts.quarantined), (1, 7));
    assert_eq!(dump(&world.app, "all").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_comes_back_into_another_database() {
    let Some(world) = World::new().await else {
        return;
    };
    put(&world.app, "all", extremes()).await;
    let nested = extremes()
        .into_iter()
        .map(|(key, map)| (format!("u1/{key}"), map));
    put(&world.app, "users/posts", nested.collect()).await;
    let vault = Vault::open("vault", world.dir.path(), true).unwrap();
    let collections = ["all", "users/posts"];
    let report = world
        .engine
        .backup(BackupJob {
            collections: collections
                .iter()
                .map(|name| place(&world.app, "app", name).into())
                .collect(),
            vault,
            name: None,
            recipients: None,
            key: None,
            fresh: false,
            options: options(),
        })
        .await
        .unwrap();
    let proof = world.engine.prove(&report.archive).await.unwrap();
    assert_eq!(proof.documents, 2 * extremes().len() as u64);
    let file = sqlite(world.dir.path(), "file.db").await;
    for target in [world.another().await, file] {
        let parts = report.archive.manifest().collections.iter();
        let restore = RestoreJob {
            archive: report.archive.clone(),
            parts: parts
                .map(|part| RestorePart {
                    store: part.store.clone(),
                    collection: part.collection.clone(),
                    target: place(&target, target.name(), &part.collection),
                    keys: None,
                })
                .collect(),
            beside: None,
            overwrite: false,
            options: options(),
        };
        let restored = world.engine.restore(restore).await.unwrap();
        for (name, report) in collections.iter().zip(&restored.reports) {
            assert_eq!(report.counts.written, extremes().len() as u64, "{name}");
            let (there, back) = (
                contents(&world.app, name).await,
                contents(&target, name).await,
            );
            assert_eq!(there, back, "{name}");
        }
    }
    let count = world.app.count("users/posts", &KeyRange::all()).await;
    assert_eq!(count.unwrap(), extremes().len() as u64);
}
