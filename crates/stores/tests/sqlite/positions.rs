//! Walks by position: as an app's rows lie, whatever the app does meanwhile.

use super::*;
use std::collections::BTreeMap;

/// Every page of the ranges; keys and what stands in place of unreadable ones, in the order of the walk.
async fn walk(store: &Arc<dyn Store>, ranges: &[KeyRange], limit: u32) -> Vec<String> {
    let mut met = Vec::new();
    for range in ranges {
        let mut range = range.clone();
        loop {
            let page = store
                .scan_positions("c", &range, limit, 1 << 20)
                .await
                .unwrap();
            assert!(page.documents.len() + page.rejects.len() <= limit as usize);
            met.extend(page.documents.iter().map(|d| d.key.to_string()));
            met.extend(page.rejects.iter().map(|r| r.label.clone()));
            let Some(last) = page.last else { break };
            range.after = Some(last);
        }
    }
    met
}

async fn ranges(store: &Arc<dyn Store>, after: Option<&Key>, parts: u32) -> Vec<KeyRange> {
    store
        .position_ranges("c", after, parts)
        .await
        .unwrap()
        .unwrap()
}

fn end(ranges: &[KeyRange]) -> &Key {
    ranges.last().unwrap().through.as_ref().unwrap()
}

fn texts(rows: i64) -> App {
    app(&format!(
        "CREATE TABLE c (id TEXT PRIMARY KEY, data TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
         INSERT INTO c SELECT printf('k%05d', (i * 7919) % 100003), '{{\"n\": ' || i || '}}' FROM n;"
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_meets_every_row_once_as_they_lie() {
    let app = texts(5000);
    app.connection
        .execute_batch(
            "DELETE FROM c WHERE rowid % 10 = 3 OR rowid BETWEEN 1000 AND 2500;
             INSERT INTO c VALUES (NULL, '{}'), (x'00', '{}');",
        )
        .unwrap();
    let store = app.open().await;
    let mut query = app
        .connection
        .prepare("SELECT CASE typeof(id) WHEN 'text' THEN id ELSE 'rowid ' || rowid END FROM c ORDER BY rowid")
        .unwrap();
    let expected: Vec<String> = query
        .query_map([], |r| r.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    for (parts, limit) in [(1, 5000), (1, 7), (8, 100), (64, 1000)] {
        let ranges = ranges(&store, None, parts).await;
        assert!(ranges.len() <= parts as usize, "{} parts", ranges.len());
        assert!(parts == 1 || ranges.len() > 1);
        assert_eq!(
            walk(&store, &ranges, limit).await,
            expected,
            "{parts} parts"
        );
    }
    // Two parts of about the same size, although a stretch is empty.
    let halves = ranges(&store, None, 2).await;
    let first = walk(&store, &halves[..1], 1000).await.len();
    assert!(
        first * 5 > expected.len() * 2 && first * 5 < expected.len() * 3,
        "{first}"
    );
    assert_eq!(ranges(&store, Some(end(&halves)), 4).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_app_replaces_is_found_behind_the_end() {
    let app = texts(3000);
    let store = app.open().await;
    let cut = ranges(&store, None, 4).await;
    let replace = |key: &str| {
        let sql = "INSERT OR REPLACE INTO c VALUES (?1, '{\"n\": 0}')";
        app.connection.execute(sql, [key]).unwrap();
    };
    let key_at = |rowid: i64| app.text(&format!("SELECT id FROM c WHERE rowid = {rowid}"));
    let (early, late) = (key_at(10), key_at(2900));
    replace(&early);
    replace(&late);
    app.connection
        .execute("INSERT INTO c VALUES ('new', '{}')", [])
        .unwrap();
    let met = walk(&store, &cut, 500).await;
    assert_eq!(met.len(), 2998);
    let behind = ranges(&store, Some(end(&cut)), 1).await;
    assert_eq!(
        walk(&store, &behind, 500).await,
        [early, late, "new".to_owned()]
    );
    assert_eq!(ranges(&store, Some(end(&behind)), 1).await, []);

    // The newest row goes, and its row id is given to another: the last thousand are looked at again.
    let newest = app.number("SELECT max(rowid) FROM c");
    app.connection
        .execute("DELETE FROM c WHERE rowid = ?1", [newest])
        .unwrap();
    let moved = key_at(20);
    replace(&moved);
    assert_eq!(app.number("SELECT max(rowid) FROM c"), newest);
    let again = ranges(&store, Some(end(&behind)), 1).await;
    let met = walk(&store, &again, 5000).await;
    assert!((900..=1001).contains(&met.len()), "{}", met.len());
    assert_eq!(met.last(), Some(&moved));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_from_before_a_vacuum_lead_nowhere() {
    for rebuild in ["VACUUM", "CREATE TABLE other (x)"] {
        let app = texts(500);
        let store = app.open().await;
        let cut = ranges(&store, None, 4).await;
        walk(&store, &cut[..1], 50).await;
        app.connection.execute_batch(rebuild).unwrap();
        let scanned = store.scan_positions("c", &cut[1], 50, 1 << 20).await;
        let behind = store.position_ranges("c", Some(end(&cut)), 1).await;
        for error in [scanned.unwrap_err(), behind.unwrap_err()] {
            let kind = (error.code, error.kind);
            assert_eq!(
                kind,
                (Code::StoreMoved, StoreErrorKind::Terminal),
                "{rebuild}"
            );
        }
        let fresh = ranges(&store, None, 4).await;
        assert_eq!(walk(&store, &fresh, 50).await.len(), 500);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_tables_with_other_keys_than_row_ids_have_positions() {
    for (table, has) in [
        ("CREATE TABLE c (id INTEGER PRIMARY KEY, data TEXT)", false),
        (
            "CREATE TABLE c (id TEXT PRIMARY KEY, data TEXT) WITHOUT ROWID",
            false,
        ),
        (
            "CREATE TABLE c (rowid TEXT PRIMARY KEY, oid TEXT, _rowid_ TEXT)",
            false,
        ),
        ("CREATE TABLE c (rowid TEXT PRIMARY KEY, data TEXT)", true),
        (
            "CREATE TABLE c (id TEXT UNIQUE NOT NULL, n INTEGER PRIMARY KEY, data TEXT)",
            true,
        ),
        (
            "CREATE TABLE c (a TEXT, b INTEGER, data TEXT, PRIMARY KEY (a, b))",
            true,
        ),
    ] {
        let app = app(table);
        let config = table.contains("UNIQUE").then(|| CollectionConfig {
            key: vec!["id".to_owned()],
            ..CollectionConfig::default()
        });
        let store = open_with(&app.path, config).await;
        let cut = store.position_ranges("c", None, 4).await.unwrap();
        assert_eq!(cut, has.then(Vec::new), "{table}");
    }
    // No row id is left above the greatest: SQLite then looks for free ones below.
    let app = texts(10);
    app.connection
        .execute(
            "INSERT INTO c (rowid, id, data) VALUES (?1, 'last', '{}')",
            [i64::MAX],
        )
        .unwrap();
    let store = app.open().await;
    assert_eq!(store.position_ranges("c", None, 4).await.unwrap(), None);
}

/// Keys of two columns, documents in columns: the same documents as by key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_are_the_same_by_key_and_by_position() {
    let app = app(
        "CREATE TABLE c (a TEXT, b INTEGER, name TEXT, x REAL, PRIMARY KEY (a, b));
         INSERT INTO c VALUES ('z', 2, 'one', 1.5), ('a', 9, NULL, NULL), ('z', 1, 'three', -0.0);",
    );
    let store = app.open().await;
    let by_key = store
        .scan("c", &KeyRange::all(), 10, 1 << 20)
        .await
        .unwrap();
    let cut = ranges(&store, None, 1).await;
    let by_position = store
        .scan_positions("c", &cut[0], 10, 1 << 20)
        .await
        .unwrap();
    let order = |page: &Page| {
        page.documents
            .iter()
            .map(|d| d.key.to_string())
            .collect::<Vec<_>>()
    };
    assert_ne!(order(&by_key), order(&by_position));
    let sorted = |page: Page| -> BTreeMap<Key, String> {
        let told = |d: Document| (d.key, format!("{:?} {:?}", d.body, d.revision));
        page.documents.into_iter().map(told).collect()
    };
    assert_eq!(sorted(by_key), sorted(by_position));
}
