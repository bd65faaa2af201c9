//! Tables too large to look at as a whole: sampled partitions, bounded pages, plans by the key's index.

use super::stage::{Stage, put};
use whimbrel_model::{Guard, Key, KeyRange, Write, WriteOutcome};

#[tokio::test(flavor = "multi_thread")]
async fn partitions_of_a_large_table_are_even() {
    let sql = "CREATE TABLE docs (id text COLLATE \"C\" PRIMARY KEY, data jsonb NOT NULL); \
        INSERT INTO docs SELECT md5(g::text), jsonb_build_object('pad', repeat('x', 1000)) \
        FROM generate_series(1, 40000) g";
    let Some(stage) = Stage::new(sql).await else {
        return;
    };
    let store = stage.store().await;
    assert!(
        stage.number("SELECT pg_relation_size('docs') / 8192").await > 5000,
        "sampled, not read"
    );
    for range in [
        KeyRange::all(),
        KeyRange {
            after: Some(Key::text("4")),
            through: Some(Key::text("c")),
        },
        KeyRange {
            after: Some(Key::text("4")),
            through: Some(Key::text("41")),
        },
    ] {
        let all = store.count("docs", &range).await.unwrap();
        let parts = store.partitions("docs", &range, 8).await.unwrap();
        assert_eq!(parts.len(), 8, "{range:?}");
        let (mut after, mut sum) = (range.after.clone(), 0);
        for part in &parts {
            assert_eq!(part.after, after, "no gap");
            after = part.through.clone();
            let count = store.count("docs", part).await.unwrap();
            assert!(count <= all / 4, "{count} of {all}");
            sum += count;
        }
        assert_eq!(sum, all);
    }
    let described = store.describe("docs").await.unwrap().unwrap();
    assert!(described.bytes.unwrap() > 40_000_000);
    stage.app.batch_execute("ANALYZE docs").await.unwrap();
    let documents = store
        .describe("docs")
        .await
        .unwrap()
        .unwrap()
        .documents
        .unwrap();
    assert!((39_000..41_000).contains(&documents), "{documents}");
}

/// Every statement on a table without statistics goes by the key's index, and none through the table.
#[tokio::test(flavor = "multi_thread")]
async fn no_statement_walks_the_table() {
    let sql = "CREATE TABLE docs (a int, b text, data jsonb NOT NULL, PRIMARY KEY (a, b)); \
        INSERT INTO docs SELECT hashint4(g), g::text, '{\"n\":1}' FROM generate_series(1, 20000) g";
    let Some(stage) = Stage::new(sql).await else {
        return;
    };
    let store = stage.store().await;
    let mut range = KeyRange::all();
    let mut keys = Vec::new();
    for _ in 0..8 {
        let page = store.scan("docs", &range, 500, 1 << 20).await.unwrap();
        range = range.resumed_after(page.last.as_ref());
        keys.extend(page.documents.into_iter().map(|d| d.key));
        let documents = store.get("docs", &keys).await.unwrap();
        let update = |d: whimbrel_model::Document| {
            put("docs", d.key, "{\"n\":2}", Guard::Unchanged(d.revision))
        };
        let updates: Vec<Write> = documents.into_iter().flatten().map(update).collect();
        assert_eq!(
            store.write(&updates).await.unwrap(),
            vec![WriteOutcome::Applied; keys.len()]
        );
        let deletes: Vec<Write> = keys
            .drain(..10)
            .map(|key| Write {
                to: None,
                ..put("docs", key, "", Guard::Any)
            })
            .collect();
        store.write(&deletes).await.unwrap();
        let upserts: Vec<Write> = keys
            .iter()
            .map(|key| put("docs", key.clone(), "{}", Guard::Any))
            .collect();
        store.write(&upserts).await.unwrap();
    }
    drop(store);
    // Sessions report what they did when they end.
    let ended = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'whimbrel' \
        AND query LIKE '%docs%' AND datname = current_database()";
    for _ in 0..50 {
        if stage.number(ended).await == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let walked = "SELECT seq_scan FROM pg_stat_user_tables WHERE relid = 'docs'::regclass";
    let index =
        "SELECT sum(idx_scan)::int8 FROM pg_stat_user_indexes WHERE relid = 'docs'::regclass";
    let mut used = 0;
    for _ in 0..50 {
        used = stage.number(index).await;
        if used > 8 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(used > 8, "{used}");
    // Making the primary key's index counts as one.
    let walks = stage.number(walked).await;
    assert!(walks <= 1, "{walks}");
}

/// A page of large documents ends near its bytes, also the first one, of which nothing is known.
#[tokio::test(flavor = "multi_thread")]
async fn large_documents_make_short_pages() {
    let sql = "CREATE TABLE docs (id int PRIMARY KEY, data jsonb NOT NULL); \
        INSERT INTO docs SELECT g, jsonb_build_object('t', repeat('x', 500000)) FROM generate_series(1, 100) g";
    let Some(stage) = Stage::new(sql).await else {
        return;
    };
    let store = stage.store().await;
    let mut range = KeyRange::all();
    let mut seen = 0;
    loop {
        let page = store.scan("docs", &range, 10_000, 2 << 20).await.unwrap();
        if page.documents.is_empty() {
            break;
        }
        assert!(page.documents.len() <= 5, "{}", page.documents.len());
        seen += page.documents.len();
        range = range.resumed_after(page.last.as_ref());
    }
    assert_eq!(seen, 100);
}

/// A fresh copy that meets rows: exactly those are lost, the others go in.
#[tokio::test(flavor = "multi_thread")]
async fn copying_onto_what_is_there() {
    let sql = "CREATE TABLE docs (id int PRIMARY KEY, data jsonb NOT NULL); \
        INSERT INTO docs SELECT g * 10, '{\"old\":true}' FROM generate_series(1, 50) g";
    let Some(stage) = Stage::new(sql).await else {
        return;
    };
    let store = stage.store().await;
    let writes: Vec<Write> = (0..1000)
        .map(|id| put("docs", id, "{}", Guard::Absent))
        .collect();
    let outcomes = store.write(&writes).await.unwrap();
    for (id, outcome) in outcomes.iter().enumerate() {
        let there = id % 10 == 0 && (10..=500).contains(&id);
        assert_eq!(*outcome == WriteOutcome::Lost, there, "{id} {outcome:?}");
    }
    assert_eq!(stage.number("SELECT count(*) FROM docs").await, 1000);
    assert_eq!(
        stage
            .number("SELECT count(*) FROM docs WHERE data ? 'old'")
            .await,
        50
    );
}
