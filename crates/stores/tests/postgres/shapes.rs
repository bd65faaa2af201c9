//! Which tables can serve as collections, under which names.

use super::stage::{Stage, get, one, put};
use whimbrel_model::store::Layout;
use whimbrel_model::{Code, Guard, Key, KeyKind, KeyRange, WriteOutcome};
use whimbrel_stores::{CollectionConfig, LayoutChoice, OpenOptions};

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_cannot_serve_are_told() {
    let sql = "CREATE TABLE keyless (a int); CREATE UNIQUE INDEX ON keyless (a); \
        CREATE TABLE late (id int PRIMARY KEY DEFERRABLE, data jsonb); \
        CREATE TABLE partial (id int NOT NULL, data jsonb); CREATE UNIQUE INDEX ON partial (id) WHERE id > 0; \
        CREATE TABLE fine (id int PRIMARY KEY, other int NOT NULL UNIQUE, open int UNIQUE, data bytea); \
        CREATE VIEW look AS SELECT * FROM fine";
    let Some(stage) = Stage::new(sql).await else {
        return;
    };
    let store = stage.store().await;
    for (collection, why) in [
        ("keyless", "key = "),
        ("late", "deferrable"),
        ("partial", "key = "),
        ("look", "view"),
    ] {
        let error = store
            .scan(collection, &KeyRange::all(), 1, 1)
            .await
            .unwrap_err();
        assert_eq!(error.code, Code::StoreShape, "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    let keyed = |key: &str, layout| CollectionConfig {
        table: Some("fine".into()),
        key: vec![key.into()],
        layout,
        ..CollectionConfig::default()
    };
    for (config, why) in [
        (keyed("open", LayoutChoice::Auto), Some("NOT NULL")),
        (keyed("data", LayoutChoice::Auto), Some("unique index")),
        (keyed("none", LayoutChoice::Auto), Some("no column")),
        (keyed("other", LayoutChoice::Json), Some("bytea")),
        (keyed("other", LayoutChoice::Columns), None),
    ] {
        let mut options = OpenOptions::default();
        options.collections.insert("c".into(), config);
        match (stage.open(&options).await, why) {
            (Ok(store), None) => {
                assert_eq!(
                    store.describe("c").await.unwrap().unwrap().key,
                    KeyKind::Int
                );
            }
            (Err(error), Some(why)) => assert!(error.to_string().contains(why), "{error}"),
            (got, _) => panic!("{why:?}: {got:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_only_names() {
    let Some(stage) =
        Stage::new("CREATE TABLE \"with.dot\" (id int PRIMARY KEY, data jsonb)").await
    else {
        return;
    };
    let schema = stage.text("SELECT current_schema()::text").await;
    let mut options = OpenOptions::default();
    let config = CollectionConfig {
        table: Some(format!("{schema}.\"; DROP TABLE x; --")),
        key: vec!["the \"key\"".into()],
        data: Some("select".into()),
        ..CollectionConfig::default()
    };
    options.collections.insert("odd".into(), config);
    let store = stage.open(&options).await.unwrap();
    let qualified = format!("{schema}.plain");
    for collection in [
        "odd",
        "users/messages",
        "Ünï %s $1",
        "with.dot",
        &qualified,
        "a\\b'c",
    ] {
        store.ensure(collection, &KeyKind::Int).await.unwrap();
        let write = |n: i64, guard| put(collection, 7, &format!("{{\"n\":{n}}}"), guard);
        assert_eq!(
            one(&*store, write(1, Guard::Absent)).await,
            WriteOutcome::Applied,
            "{collection}"
        );
        let revision = get(&*store, collection, 7).await.revision;
        assert_eq!(
            one(&*store, write(2, Guard::Unchanged(revision))).await,
            WriteOutcome::Applied
        );
        let parts = store
            .partitions(collection, &KeyRange::all(), 2)
            .await
            .unwrap();
        assert_eq!(parts.last().unwrap().through, Some(Key::Int(7)));
        assert_eq!(store.count(collection, &KeyRange::all()).await.unwrap(), 1);
        let description = store.describe(collection).await.unwrap().unwrap();
        assert_eq!(
            (description.layout, description.key),
            (Layout::Json, KeyKind::Int)
        );
    }
    assert!(
        store
            .collections()
            .await
            .unwrap()
            .contains(&"odd".to_owned())
    );
    let long = "x".repeat(64);
    assert_eq!(
        store.ensure(&long, &KeyKind::Int).await.unwrap_err().code,
        Code::StoreShape
    );
    assert!(store.describe(&long).await.unwrap().is_none());
}

/// Texts in a language's order are walked in it; the limits say that the order is not the keys' own.
#[tokio::test(flavor = "multi_thread")]
async fn order_is_said() {
    let sql = "CREATE TABLE own (id text COLLATE \"C\" PRIMARY KEY, data jsonb); \
        CREATE TABLE others (id text COLLATE \"en-x-icu\" PRIMARY KEY, data jsonb)";
    let Some(stage) = Stage::new(sql).await else {
        return;
    };
    assert!(
        !stage.store().await.limits().key_order,
        "any table may be asked for"
    );
    let mut options = OpenOptions::default();
    options
        .collections
        .insert("own".into(), CollectionConfig::default());
    let store = stage.open(&options).await.unwrap();
    assert!(store.limits().key_order);
    store.describe("others").await.unwrap();
    assert!(!store.limits().key_order);
    let keys = ["a", "B", "c", "É", "z"];
    for key in keys {
        one(&*store, put("others", key, "{}", Guard::Absent)).await;
    }
    let page = store
        .scan("others", &KeyRange::all(), 10, 999)
        .await
        .unwrap();
    let found: Vec<String> = page.documents.iter().map(|d| d.key.to_string()).collect();
    assert_eq!(found, ["a", "B", "c", "É", "z"]);
}

/// Partitions of PostgreSQL's own are one collection.
#[tokio::test(flavor = "multi_thread")]
async fn a_partitioned_table() {
    let sql = "CREATE TABLE whole (id int PRIMARY KEY, data jsonb) PARTITION BY RANGE (id); \
        CREATE TABLE low PARTITION OF whole FOR VALUES FROM (0) TO (100); \
        CREATE TABLE high PARTITION OF whole FOR VALUES FROM (100) TO (200)";
    let Some(stage) = Stage::new(sql).await else {
        return;
    };
    let store = stage.store().await;
    assert_eq!(store.collections().await.unwrap(), ["whole"]);
    let writes: Vec<_> = (0..250)
        .map(|id| put("whole", id, "{}", Guard::Absent))
        .collect();
    for (id, outcome) in store.write(&writes).await.unwrap().iter().enumerate() {
        assert_eq!(
            *outcome == WriteOutcome::Applied,
            id < 200,
            "{id} {outcome:?}"
        );
    }
    let found = super::stage::scan_all(&*store, "whole", 33).await;
    assert_eq!(
        found.iter().map(|d| d.key.clone()).collect::<Vec<_>>(),
        (0..200).map(Key::Int).collect::<Vec<_>>()
    );
    let updates: Vec<_> = found
        .into_iter()
        .map(|d| put("whole", d.key, "{\"a\":1}", Guard::Unchanged(d.revision)))
        .collect();
    assert_eq!(
        store.write(&updates).await.unwrap(),
        vec![WriteOutcome::Applied; 200]
    );
    assert!(
        store
            .describe("whole")
            .await
            .unwrap()
            .unwrap()
            .bytes
            .unwrap()
            > 0
    );
}

/// A row without a document is a reject, and does not hide the rows behind it.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_no_documents() {
    let sql = "CREATE TABLE docs (id int PRIMARY KEY, data jsonb); \
        INSERT INTO docs VALUES (1, '{}'), (2, NULL), (3, '{}'), (4, NULL)";
    let Some(stage) = Stage::new(sql).await else {
        return;
    };
    let store = stage.store().await;
    let page = store
        .scan("docs", &KeyRange::all(), 10, 9999)
        .await
        .unwrap();
    let keys: Vec<_> = page
        .rejects
        .iter()
        .map(|r| r.key.clone().unwrap())
        .collect();
    assert_eq!(
        (page.documents.len(), keys),
        (2, vec![Key::Int(2), Key::Int(4)])
    );
    assert_eq!(page.last, Some(Key::Int(4)));
    let hollow = get(&*store, "docs", 2).await;
    assert!(hollow.body.map().is_err());
    let repaired = put("docs", 2, "{\"n\":1}", Guard::Unchanged(hollow.revision));
    assert_eq!(one(&*store, repaired).await, WriteOutcome::Applied);
}
