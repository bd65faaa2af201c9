//! Collections below documents, beside others of the same name elsewhere.

use super::{emulator, fill, keys, put};
use std::sync::Arc;
use whimbrel_model::{Guard, Key, KeyRange, Store, WriteOutcome};

const OURS: [&str; 9] = [
    // In the order of names: id by id, numbered ids first.
    "__id7__/m1",
    "__id10__/m1",
    "a/__id2__",
    "a/m1",
    "a/m2",
    // As texts, these two would stand the other way round.
    "a-b/m1",
    "b/m1",
    "b/z",
    "é/m1",
];

/// `conversations/messages`, among other collections called `messages`.
async fn world() -> Option<Arc<dyn Store>> {
    let store = emulator("").await?;
    fill(&store, "conversations/messages", &OURS).await;
    fill(
        &store,
        "conversations/threads/messages",
        &["a/t/m0", "a/t/m9", "b/a/x"],
    )
    .await;
    fill(&store, "conversations", &["a", "z"]).await;
    fill(&store, "conversations-old/messages", &["a/m1", "zz/m"]).await;
    fill(&store, "archive/messages", &["a/m1"]).await;
    fill(&store, "messages", &["m1", "zzz"]).await;
    fill(&store, "zoo/messages", &["a/m1"]).await;
    Some(store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_own_documents_are_walked() {
    let Some(store) = world().await else { return };
    let name = "conversations/messages";
    for limit in [1, 2, 3, 100] {
        assert_eq!(
            keys(&store, name, &KeyRange::all(), limit).await,
            OURS,
            "{limit}"
        );
    }
    for (i, key) in OURS.iter().enumerate() {
        let behind = KeyRange::all().resumed_after(Some(&Key::text(*key)));
        assert_eq!(keys(&store, name, &behind, 2).await, OURS[i + 1..], "{key}");
        let until = KeyRange {
            after: None,
            through: Some(Key::text(*key)),
        };
        assert_eq!(keys(&store, name, &until, 2).await, OURS[..=i], "{key}");
        assert_eq!(store.count(name, &until).await.unwrap(), i as u64 + 1);
    }
    assert_eq!(
        keys(&store, "messages", &KeyRange::all(), 1).await,
        ["m1", "zzz"]
    );
    assert_eq!(store.count("messages", &KeyRange::all()).await.unwrap(), 2);
    let threads = "conversations/threads/messages";
    assert_eq!(
        keys(&store, threads, &KeyRange::all(), 2).await,
        ["a/t/m0", "a/t/m9", "b/a/x"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_cover_each_of_them_once() {
    let Some(store) = world().await else { return };
    for (name, expect) in [
        ("conversations/messages", OURS.as_slice()),
        ("conversations", &["a", "z"]),
    ] {
        for parts in [1, 2, 3, 50] {
            let cut = store
                .partitions(name, &KeyRange::all(), parts)
                .await
                .unwrap();
            assert!(cut.len() <= parts as usize && !cut.is_empty());
            let last = cut.last().and_then(|range| range.through.clone());
            assert_eq!(
                last,
                Some(Key::text(*expect.last().unwrap())),
                "{name} {parts}"
            );
            let mut found = Vec::new();
            for range in &cut {
                found.extend(keys(&store, name, range, 2).await);
            }
            assert_eq!(found, expect, "{name} {parts}");
        }
    }
    let within = KeyRange {
        after: Some(Key::text(OURS[1])),
        through: Some(Key::text(OURS[6])),
    };
    let cut = store
        .partitions("conversations/messages", &within, 2)
        .await
        .unwrap();
    let mut found = Vec::new();
    for range in &cut {
        found.extend(keys(&store, "conversations/messages", range, 2).await);
    }
    assert_eq!(found, OURS[2..=6]);
}

/// Also of documents that have none above them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_collection_is_found() {
    let Some(store) = world().await else { return };
    let all = [
        "archive/messages",
        "conversations",
        "conversations-old/messages",
        "conversations/messages",
        "conversations/threads/messages",
        "messages",
        "zoo/messages",
    ];
    assert_eq!(store.collections().await.unwrap(), all);
    let url = format!(
        "{}?emulator={}&nested=off",
        store.name(),
        whimbrel_testkit::servers::server("WHIMBREL_TEST_FIRESTORE").unwrap()
    );
    let options = whimbrel_stores::OpenOptions::default();
    let again = whimbrel_stores::open(&url, &options).await.unwrap();
    let roots = [
        "archive",
        "conversations",
        "conversations-old",
        "messages",
        "zoo",
    ];
    assert_eq!(again.collections().await.unwrap(), roots);
    // What only holds collections holds no documents.
    assert!(again.describe("zoo").await.unwrap().is_none());
    assert!(again.describe("zoo/messages").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guards_hold_below_documents_too() {
    let Some(store) = world().await else { return };
    let name = "conversations/messages";
    let get = |key: &'static str| {
        let store = store.clone();
        async move { store.get(name, &[Key::text(key)]).await.unwrap().remove(0) }
    };
    let before = get("a/m1").await.unwrap();
    let guard = Guard::Unchanged(before.revision.clone());
    let write = |guard: &Guard| [put(name, "a/m1", r#"{"n":1}"#, guard.clone())];
    assert_eq!(
        store.write(&write(&guard)).await.unwrap(),
        [WriteOutcome::Applied]
    );
    assert_eq!(
        store.write(&write(&guard)).await.unwrap(),
        [WriteOutcome::Lost]
    );
    assert_ne!(get("a/m1").await.unwrap().revision, before.revision);
    assert!(get("a/m3").await.is_none());
    // Neither too many ids nor too few name a document here.
    for key in ["a", "a/b/c", "a/", "/m1"] {
        let outcome = store
            .write(&[put(name, key, "{}", Guard::Any)])
            .await
            .unwrap()
            .remove(0);
        assert!(matches!(outcome, WriteOutcome::Refused(_)), "{key}");
        assert!(store.get(name, &[Key::text(key)]).await.unwrap()[0].is_none());
    }
}
