//! Keys as SQLite keeps them, good and bad.

use super::*;

/// Rows that are no documents are told once each, wherever a scan begins and however small its pages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_without_a_usable_key_are_told_once() {
    let app = app(
        "CREATE TABLE c (id, data JSON, UNIQUE (id));
         INSERT INTO c VALUES (NULL, '{}'), (NULL, '{}'), (-5, '{\"n\":1}'), (0, '{\"n\":2}'), (1.5, '{}'),
           (2, NULL), (3, 7), ('', '{\"n\":3}'), ('a', '{\"n\":4}'), (CAST(x'c080' AS TEXT), '{}'),
           ('\u{e9}', '{\"n\":5}'), (CAST(x'ff' AS TEXT), '{}'), (x'00', '{}'), (x'01', '{}');",
    );
    let config = CollectionConfig {
        key: vec!["id".into()],
        ..CollectionConfig::default()
    };
    let store = open_with(&app.path, Some(config)).await;
    for limit in [1, 2, 100] {
        let (documents, rejects) = pages(&*store, &KeyRange::all(), limit).await;
        let keys: Vec<Key> = documents.iter().map(|d| d.key.clone()).collect();
        let expect = [
            Key::Int(-5),
            Key::Int(0),
            "".into(),
            "a".into(),
            "\u{e9}".into(),
        ];
        assert_eq!(keys, expect, "limit {limit}");
        let mut labels: Vec<&str> = rejects.iter().map(|r| r.label.as_str()).collect();
        labels.sort_unstable();
        let unusable = [
            "rowid 1", "rowid 10", "rowid 12", "rowid 13", "rowid 14", "rowid 2", "rowid 5",
        ];
        assert_eq!(
            labels,
            [&["2", "3"], &unusable[..]].concat(),
            "limit {limit}"
        );
    }
    assert_eq!(store.count("c", &KeyRange::all()).await.unwrap(), 14);
    // The parts of the whole tell the same, and count the same.
    let (mut told, mut counted) = (0, 0);
    for part in store.partitions("c", &KeyRange::all(), 3).await.unwrap() {
        let (documents, rejects) = pages(&*store, &part, 2).await;
        told += documents.len() + rejects.len();
        counted += store.count("c", &part).await.unwrap();
    }
    assert_eq!((told, counted), (14, 14));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_unusable_rows_end() {
    let app = app(
        "CREATE TABLE c (id TEXT PRIMARY KEY, data TEXT); INSERT INTO c VALUES (NULL, '{}'), (x'00', '{}')",
    );
    let store = app.open().await;
    let (documents, rejects) = pages(&*store, &KeyRange::all(), 1).await;
    assert_eq!((documents.len(), rejects.len()), (0, 2));
    assert_eq!(store.count("c", &KeyRange::all()).await.unwrap(), 2);
    assert_eq!(
        store
            .partitions("c", &KeyRange::all(), 4)
            .await
            .unwrap()
            .len(),
        1
    );
}

/// NULL in the second column of a key sorts before every value and is part of its range.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_key_is_told_once() {
    let app = app(
        "CREATE TABLE c (a TEXT, b INTEGER, data TEXT, PRIMARY KEY (a, b));
         INSERT INTO c VALUES ('x', 1, '{}'), ('x', NULL, '{}'), ('y', NULL, '{}'), ('y', 2, '{}'),
           (NULL, 3, '{}'), ('z', NULL, '{}');",
    );
    let store = app.open().await;
    for limit in [1, 2, 10] {
        let (documents, rejects) = pages(&*store, &KeyRange::all(), limit).await;
        assert_eq!((documents.len(), rejects.len()), (2, 4), "limit {limit}");
    }
    let (mut told, mut counted) = (0, 0);
    for part in store.partitions("c", &KeyRange::all(), 2).await.unwrap() {
        let (documents, rejects) = pages(&*store, &part, 1).await;
        told += documents.len() + rejects.len();
        counted += store.count("c", &part).await.unwrap();
    }
    assert_eq!((told, counted), (6, 6));
}

/// A collation that takes `A` for `a` neither finds the other's row nor hides it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collations_do_not_mix_keys_up() {
    let app = app(
        "CREATE TABLE c (id TEXT PRIMARY KEY COLLATE NOCASE, data TEXT);
         INSERT INTO c VALUES ('b', '{\"n\":1}'), ('A', '{\"n\":2}'), ('C', '{\"n\":3}');",
    );
    let store = app.open().await;
    assert!(!store.limits().key_order);
    let (documents, _) = pages(&*store, &KeyRange::all(), 1).await;
    let keys: Vec<String> = documents.iter().map(|d| d.key.to_string()).collect();
    assert_eq!(keys, ["A", "b", "C"]);
    assert!(store.get("c", &["a".into()]).await.unwrap()[0].is_none());
    let refused = store
        .write(&[write("a", "{}", Guard::Absent)])
        .await
        .unwrap();
    assert!(
        matches!(refused[0], WriteOutcome::Refused(_)),
        "{refused:?}"
    );
    let lost = store
        .write(&[write("A", "{}", Guard::Absent)])
        .await
        .unwrap();
    assert_eq!(lost, [WriteOutcome::Lost]);
    let delete = Write {
        to: None,
        ..write("a", "{}", Guard::Any)
    };
    store.write(&[delete]).await.unwrap();
    assert_eq!(app.number("SELECT COUNT(*) FROM c"), 3);
}
