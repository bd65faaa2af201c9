//! Copies: as they are, split, grouped, run again.

mod common;

use std::sync::Arc;

use common::{conversation, dump, engine, fill, options, place, sqlite, store};
use whimbrel_engine::{CopyJob, NativeTransform, PROVENANCE, Place};
use whimbrel_model::rule::{CopyRule, FieldPath, Grouping};
use whimbrel_model::{Body, Code, DocError, Emit, Key, Map, Store, TransformInput, Value};
use whimbrel_stores::{CollectionConfig, LayoutChoice, OpenOptions, open};

fn rule(name: &str) -> CopyRule {
    CopyRule::plain(name)
}

fn job(source: &Place, target: &Place, rule: CopyRule) -> CopyJob {
    CopyJob {
        source: source.clone(),
        target: target.clone(),
        rule,
        schema: None,
        scratch: None,
        options: options(),
    }
}

/// One document a message, keyed `<chat>:<index>`.
fn split() -> CopyRule {
    let transform = NativeTransform::new("split", |input, _| {
        let TransformInput::One { key, mut doc } = input else {
            unreachable!()
        };
        let Some(Value::Array(messages)) = doc.take("messages").map_err(DocError::from)? else {
            return Err(DocError::new(Code::DocType, "messages is no array").at("messages"));
        };
        let emit = |(i, message): (usize, Value)| Emit {
            collection: None,
            key: Some(Key::text(format!("{key}:{i}"))),
            body: Body::Map(Map::from_iter([
                ("chat".to_owned(), Value::String(key.to_string())),
                ("seq".to_owned(), Value::Int(i64::try_from(i).unwrap())),
                ("text".to_owned(), message),
            ])),
        };
        Ok(messages.into_iter().enumerate().map(emit).collect())
    });
    CopyRule {
        transform: Some(Arc::new(transform)),
        ..rule("split")
    }
}

fn chat(id: &str, messages: &[&str]) -> (Key, String) {
    (
        Key::text(id),
        serde_json::json!({ "messages": messages }).to_string(),
    )
}

async fn places(dir: &std::path::Path) -> (Arc<dyn Store>, Arc<dyn Store>, Place, Place) {
    let (app, other) = (sqlite(dir, "app.db").await, sqlite(dir, "other.db").await);
    let (source, target) = (
        place(&app, "app", "chats"),
        place(&other, "other", "copies"),
    );
    (app, other, source, target)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_copy_carries_bytes_and_runs_again_without_writing() {
    let dir = tempfile::tempdir().unwrap();
    let (app, other, source, target) = places(dir.path()).await;
    fill(&app, "chats", (0..100).map(conversation)).await;
    let engine = engine(dir.path()).await;
    let first = engine
        .copy(job(&source, &target, rule("all")))
        .await
        .unwrap();
    assert_eq!(
        (
            first.counts.enumerated,
            first.counts.written,
            first.counts.derived
        ),
        (100, 100, 100)
    );
    assert_eq!(dump(&app, "chats").await, dump(&other, "copies").await);

    fill(
        &app,
        "chats",
        [(conversation(7).0, "{\"changed\":true}".to_owned())],
    )
    .await;
    let second = engine
        .copy(job(&source, &target, rule("all")))
        .await
        .unwrap();
    assert_eq!((second.counts.written, second.counts.unchanged), (1, 99));
    assert_eq!(dump(&app, "chats").await, dump(&other, "copies").await);
}

/// Documents without the field of their key come back with it from a target that keeps it there.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_copy_into_a_target_that_adds_the_key_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let app = sqlite(dir.path(), "app.db").await;
    fill(&app, "chats", (0..50).map(conversation)).await;
    let source = place(&app, "app", "chats");
    let columns = rusqlite::Connection::open(dir.path().join("columns.db")).unwrap();
    columns
        .execute_batch("CREATE TABLE copies (id TEXT PRIMARY KEY, n INTEGER, rest JSON)")
        .unwrap();
    let config = CollectionConfig {
        layout: LayoutChoice::Columns,
        rest: Some("rest".to_owned()),
        ..CollectionConfig::default()
    };
    let options = OpenOptions {
        collections: [("copies".to_owned(), config)].into(),
        ..OpenOptions::default()
    };
    let url = format!("sqlite:{}", dir.path().join("columns.db").display());
    let columns = open(&url, &options).await.unwrap();
    let files = store(&format!("jsonl:{}", dir.path().join("files").display())).await;
    for (name, target) in [("columns", columns), ("files", files)] {
        let target = place(&target, name, "copies");
        let engine = engine(dir.path()).await;
        let copy = || engine.copy(job(&source, &target, rule("all")));
        assert_eq!(copy().await.unwrap().counts.written, 50, "{name}");
        let second = copy().await.unwrap().counts;
        assert_eq!((second.written, second.unchanged), (0, 50), "{name}");
        let copies = dump(&target.store, "copies").await;
        assert!(copies[0].1.contains("\"id\":\"c00000\""), "{}", copies[0].1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn skip_existing_leaves_the_target_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (app, other, source, target) = places(dir.path()).await;
    fill(&app, "chats", (0..10).map(conversation)).await;
    fill(
        &other,
        "copies",
        [(conversation(3).0, "{\"mine\":1}".to_owned())],
    )
    .await;
    let engine = engine(dir.path()).await;
    let mut skipping = job(&source, &target, rule("all"));
    skipping.options.skip_existing = true;
    let report = engine.copy(skipping).await.unwrap();
    assert_eq!((report.counts.written, report.counts.skipped), (9, 1));
    let copies = dump(&other, "copies").await;
    assert_eq!(copies[3].1, "{\"mine\":1}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_replaces_exactly_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (app, other, source, target) = places(dir.path()).await;
    fill(
        &app,
        "chats",
        [
            chat("a", &["1", "2", "3"]),
            chat("b", &["x"]),
            chat("empty", &[]),
        ],
    )
    .await;
    fill(
        &app,
        "chats",
        [(Key::text("bad"), "{\"messages\":5}".to_owned())],
    )
    .await;
    fill(&other, "copies", [(Key::text("mine"), "{}".to_owned())]).await;
    let engine = engine(dir.path()).await;
    let first = engine.copy(job(&source, &target, split())).await.unwrap();
    let c = first.counts;
    assert_eq!(
        (c.enumerated, c.written, c.quarantined, c.skipped, c.derived),
        (4, 2, 1, 1, 4)
    );

    fill(&app, "chats", [chat("a", &["1", "changed"])]).await;
    let second = engine.copy(job(&source, &target, split())).await.unwrap();
    assert_eq!(
        (
            second.counts.written,
            second.counts.removed,
            second.counts.derived
        ),
        (1, 1, 1)
    );
    let keys: Vec<String> = dump(&other, "copies")
        .await
        .into_iter()
        .map(|(k, _)| k)
        .collect();
    assert_eq!(keys, ["a:0", "a:1", "b:0", "mine"]);
    assert_eq!(dump(&other, PROVENANCE).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_target_document_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let (app, other, source, target) = places(dir.path()).await;
    fill(&app, "chats", [chat("a", &["1", "2"])]).await;
    fill(
        &other,
        "copies",
        [(Key::text("a:1"), "{\"mine\":1}".to_owned())],
    )
    .await;
    let engine = engine(dir.path()).await;
    let mut job = job(&source, &target, split());
    job.options.max_failed = whimbrel_engine::Threshold::Count(5);
    let report = engine.copy(job).await.unwrap();
    assert_eq!(report.counts.quarantined, 1);
    assert_eq!(
        dump(&other, "copies").await,
        [("a:1".to_owned(), "{\"mine\":1}".to_owned())]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_become_one_document_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (app, other, source, target) = places(dir.path()).await;
    let message = |i: i64| {
        let doc = serde_json::json!({ "chat": format!("chat{}", i % 7), "at": 1000 - i });
        (Key::text(format!("m{i:03}")), doc.to_string())
    };
    fill(&app, "chats", (0..210).map(message)).await;
    fill(&app, "chats", [(Key::text("stray"), "{}".to_owned())]).await;
    let merge = NativeTransform::new("merge", |input, _| {
        let TransformInput::Group { value, docs } = input else {
            unreachable!()
        };
        let Value::String(chat) = value else {
            unreachable!()
        };
        let keys = docs
            .iter()
            .map(|(k, _)| Value::String(k.to_string()))
            .collect();
        let body = Body::Map(Map::from_iter([(
            "messages".to_owned(),
            Value::Array(keys),
        )]));
        Ok(vec![Emit {
            collection: None,
            key: Some(Key::text(chat)),
            body,
        }])
    });
    let rule = CopyRule {
        transform: Some(Arc::new(merge)),
        group: Some(Grouping {
            by: FieldPath::parse("chat").unwrap(),
            order_by: vec![FieldPath::parse("at").unwrap()],
        }),
        ..rule("merge")
    };
    let engine = engine(dir.path()).await;
    let mut job = job(&source, &target, rule);
    job.scratch = Some(sqlite(dir.path(), "scratch.db").await);
    let report = engine.copy(job).await.unwrap();
    let c = report.counts;
    assert_eq!(
        (c.enumerated, c.written, c.quarantined, c.derived),
        (211, 210, 1, 7)
    );
    let merged = dump(&other, "copies").await;
    assert_eq!(merged.len(), 7);
    // `at` falls as the key grows, so the greatest key comes first.
    assert!(
        merged[0].1.starts_with(r#"{"messages":["m203","m196""#),
        "{}",
        merged[0].1
    );
    assert!(
        merged
            .iter()
            .all(|(_, json)| json.matches("\"m").count() == 31)
    );
}
