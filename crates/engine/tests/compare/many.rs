//! Where one document becomes several, or several one: keys do not tell what belongs together.

use std::sync::Arc;

use whimbrel_engine::{CompareJob, CopyJob, Engine, NativeTransform};
use whimbrel_model::rule::{CopyRule, FieldPath, Grouping};
use whimbrel_model::{Body, Emit, Key, Map, Store, TransformInput, Value};

use super::common::{engine, fill, sqlite, store};
use super::{agrees, copy_job, json, plain, put, split, told};

const CHATS: usize = 50;

struct World {
    dir: tempfile::TempDir,
    source: Arc<dyn Store>,
    target: Arc<dyn Store>,
    engine: Engine,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let source = sqlite(dir.path(), "a.db").await;
        let chat = |i: usize| {
            let json = format!(
                r#"{{"user": "u{}", "n": {i}, "messages": ["a{i}", "b{i}"]}}"#,
                i % 7
            );
            (Key::text(format!("c{i:03}")), json)
        };
        fill(&source, "docs", (0..CHATS).map(chat)).await;
        Self {
            source,
            target: sqlite(dir.path(), "b.db").await,
            engine: engine(dir.path()).await,
            dir,
        }
    }

    async fn job(&self, rule: CopyRule, scratch: bool) -> CopyJob {
        let mut job = copy_job(&self.source, &self.target, rule, None);
        if scratch {
            job.scratch = Some(store("memory:").await);
        }
        job
    }

    async fn compare(&self, rule: CopyRule, scratch: bool) -> whimbrel_model::finding::Comparison {
        let job = self.job(rule, scratch).await;
        let found = self.engine.compare(CompareJob::of(job)).await.unwrap();
        agrees(&found);
        found
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_document_that_became_several() {
    let world = World::new().await;
    world
        .engine
        .copy(world.job(split(), true).await)
        .await
        .unwrap();
    let found = world.compare(split(), true).await;
    assert!(found.equal(), "{:?}", found.differences);
    assert_eq!((found.source_documents, found.equal), (50, 100));
    put(&world.target, "c003:1", None).await;
    put(&world.target, "c004:0", json(r#"{"text":"other"}"#)).await;
    put(&world.target, "c900:0", json(r#"{"text":"a"}"#)).await;
    // The source has one message less than it had when it was copied.
    put(&world.source, "c005", json(r#"{"messages":["a5"]}"#)).await;
    put(&world.source, "c006", json(r#"{"messages":6}"#)).await;
    let found = world.compare(split(), true).await;
    let expect = [
        "differing c004:0",
        "extra c005:1",
        "extra c900:0",
        "missing c003:1",
        "unreadable c006",
    ];
    assert_eq!(told(&found.differences), expect);
    let differing = found
        .differences
        .iter()
        .find(|d| d.key == Key::text("c004:0"));
    let differing = differing.unwrap();
    assert_eq!(differing.sources, [Key::text("c004")]);
    assert_eq!(differing.paths, ["text"]);
    // By looking up, all but what no source leads to.
    let found = world.compare(split(), false).await;
    let expect = [
        "differing c004:0",
        "extra c005:1",
        "missing c003:1",
        "unreadable c006",
    ];
    assert_eq!(told(&found.differences), expect);
}

/// What another rule put into the same collection is not left over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_rules_into_one_collection() {
    let world = World::new().await;
    let transform = NativeTransform::new("heads", |input, _| {
        let TransformInput::One { key, .. } = input else {
            unreachable!()
        };
        Ok(vec![Emit {
            collection: None,
            key: Some(Key::text(format!("head-{key}"))),
            body: Body::Map(Map::new()),
        }])
    });
    let heads = CopyRule {
        name: "heads".into(),
        transform: Some(Arc::new(transform)),
        checksum: "heads".into(),
        ..plain()
    };
    world
        .engine
        .copy(world.job(split(), false).await)
        .await
        .unwrap();
    world
        .engine
        .copy(world.job(heads.clone(), false).await)
        .await
        .unwrap();
    for rule in [split(), heads.clone()] {
        let found = world.compare(rule, true).await;
        assert!(found.equal(), "{:?}", found.differences);
    }
    put(&world.target, "head-c001", None).await;
    assert!(world.compare(split(), true).await.equal());
    assert_eq!(
        told(&world.compare(heads, true).await.differences),
        ["missing head-c001"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_documents_that_became_one() {
    let transform = NativeTransform::new("users", |input, _| {
        let TransformInput::Group { value, docs } = input else {
            unreachable!()
        };
        let Value::String(user) = value else {
            unreachable!()
        };
        let count = Value::Int(i64::try_from(docs.len()).unwrap());
        Ok(vec![Emit {
            collection: None,
            key: Some(Key::text(user)),
            body: Body::Map(Map::from_iter([("chats".to_owned(), count)])),
        }])
    });
    let users = || CopyRule {
        name: "users".into(),
        transform: Some(Arc::new(transform)),
        group: Some(Grouping {
            by: FieldPath::parse("user").unwrap(),
            order_by: Vec::new(),
        }),
        checksum: "users".into(),
        ..plain()
    };
    let users = users();
    let world = World::new().await;
    world
        .engine
        .copy(world.job(users.clone(), true).await)
        .await
        .unwrap();
    let found = world.compare(users.clone(), true).await;
    assert!(found.equal(), "{:?}", found.differences);
    assert_eq!((found.source_documents, found.equal), (50, 7));
    put(&world.target, "u3", json(r#"{"chats":99}"#)).await;
    put(&world.target, "u9", json(r#"{"chats":1}"#)).await;
    put(&world.source, "c900", json(r#"{"user":"u4"}"#)).await;
    let found = world.compare(users.clone(), true).await;
    let expect = ["differing u3", "differing u4", "extra u9"];
    assert_eq!(told(&found.differences), expect);
    let job = CompareJob::of(world.job(users, false).await);
    let error = world.engine.compare(job).await.unwrap_err();
    assert!(error.to_string().contains("scratch"), "{error}");
    drop(world.dir);
}
