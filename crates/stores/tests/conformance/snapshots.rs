//! One instant of a store that is being written all the time.
//!
//! Every batch of the writer moves all numbers on by one, deletes a document and makes another, so that in
//! any one instant all numbers are the same and there are always as many documents.

use super::subject::{Subject, many, number};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use whimbrel_model::{Document, Guard, Key, KeyRange, Store, StoreErrorKind, Write, WriteOutcome};

const DOCUMENTS: usize = 60;

/// The writer's batch `round`: documents `round..round + DOCUMENTS` get the number `round`. Behind the last
/// key comes the first one again.
fn batch(subject: &Subject, collection: &str, keys: &[Key], round: usize) -> Vec<Write> {
    let n = i64::try_from(round).unwrap();
    let key = |i: usize| keys[i % keys.len()].clone();
    let mut writes: Vec<Write> = (round..round + DOCUMENTS)
        .map(|i| subject.put(collection, key(i), n, Guard::Any))
        .collect();
    if let Some(gone) = round.checked_sub(1) {
        writes.push(Write {
            collection: collection.to_owned(),
            key: key(gone),
            to: None,
            guard: Guard::Any,
        });
    }
    writes
}

async fn all(store: &dyn Store, collection: &str, range: &KeyRange) -> Vec<Document> {
    let mut documents = Vec::new();
    let mut range = range.clone();
    loop {
        // Small pages, so that the writer gets in between.
        let page = store.scan(collection, &range, 7, 1 << 20).await.unwrap();
        assert_eq!(page.rejects, []);
        let Some(last) = page.last else {
            return documents;
        };
        range.after = Some(last);
        documents.extend(page.documents);
    }
}

fn contents(documents: &[Document]) -> BTreeMap<Key, i64> {
    documents
        .iter()
        .map(|d| (d.key.clone(), number(d)))
        .collect()
}

/// Looks at the snapshot from several tasks at once, and gives the number that all documents have.
async fn check(snapshot: &Arc<dyn Store>, collection: &'static str) -> i64 {
    let whole = KeyRange::all();
    let first = all(&**snapshot, collection, &whole).await;
    let seen = contents(&first);
    assert_eq!(seen.len(), DOCUMENTS);
    let numbers: Vec<i64> = seen.values().copied().collect();
    assert_eq!(numbers, vec![numbers[0]; DOCUMENTS]);
    let keys: Vec<Key> = seen.keys().cloned().collect();
    let looking: Vec<_> = (0..5)
        .map(|_| {
            let (snapshot, keys, whole) = (snapshot.clone(), keys.clone(), whole.clone());
            tokio::spawn(async move {
                let again = contents(&all(&*snapshot, collection, &whole).await);
                let got = snapshot.get(collection, &keys).await.unwrap();
                let got: Vec<Document> = got.into_iter().flatten().collect();
                let count = snapshot.count(collection, &whole).await.unwrap();
                let parts = snapshot.partitions(collection, &whole, 4).await.unwrap();
                let mut parted = Vec::new();
                for part in &parts {
                    parted.extend(all(&*snapshot, collection, part).await);
                }
                let described = snapshot.describe(collection).await.unwrap();
                assert!(described.is_some());
                (again, contents(&got), count, contents(&parted))
            })
        })
        .collect();
    for one in looking {
        let (again, got, count, parted) = one.await.unwrap();
        assert_eq!((&again, &got, &parted), (&seen, &seen, &seen));
        assert_eq!(count, DOCUMENTS as u64);
    }
    numbers[0]
}

pub async fn one_instant(subject: &Subject) {
    let collection = subject.text().await;
    let keys = many(300);
    subject.write(&batch(subject, collection, &keys, 0)).await;
    if subject.store.snapshot().await.unwrap().is_none() {
        // This store has none, and says so.
        assert!(!subject.snapshots);
        return;
    }
    assert!(subject.snapshots);
    let (done, ended) = (AtomicI64::new(0), AtomicBool::new(false));
    let writing = async {
        for round in 1.. {
            if ended.load(Ordering::SeqCst) {
                return;
            }
            for outcome in subject
                .write(&batch(subject, collection, &keys, round))
                .await
            {
                assert_eq!(outcome, WriteOutcome::Applied);
            }
            done.fetch_add(1, Ordering::SeqCst);
            // A store in memory never waits for anything.
            tokio::task::yield_now().await;
        }
    };
    let looking = async {
        let mut kept = Vec::new();
        for _ in 0..4 {
            let before = done.load(Ordering::SeqCst);
            let snapshot = subject.store.snapshot().await.unwrap().unwrap();
            let after = done.load(Ordering::SeqCst) + 1;
            let instant = check(&snapshot, collection).await;
            assert!(
                (before..=after).contains(&instant),
                "{before} {instant} {after}"
            );
            // The app goes on while the snapshot is kept.
            while done.load(Ordering::SeqCst) < after + 2 {
                tokio::task::yield_now().await;
            }
            assert_eq!(check(&snapshot, collection).await, instant);
            kept.push((snapshot, instant));
        }
        for (snapshot, instant) in &kept {
            assert_eq!(check(snapshot, collection).await, *instant);
        }
        ended.store(true, Ordering::SeqCst);
    };
    tokio::join!(writing, looking);
    let last = done.load(Ordering::SeqCst);
    let now = contents(&all(&*subject.store, collection, &KeyRange::all()).await);
    assert!(now.len() == DOCUMENTS && now.values().all(|n| *n == last));
}

pub async fn read_only(subject: &Subject) {
    let collection = subject.text().await;
    subject.fill(collection, &many(3)).await;
    let Some(snapshot) = subject.store.snapshot().await.unwrap() else {
        return;
    };
    let write = subject.put(collection, "new", 1, Guard::Any);
    for error in [
        snapshot.write(&[write]).await.unwrap_err(),
        snapshot
            .ensure("others", &whimbrel_model::KeyKind::Text)
            .await
            .unwrap_err(),
        snapshot.statement("SELECT 1").await.unwrap_err(),
    ] {
        assert_eq!(error.kind, StoreErrorKind::Terminal, "{error}");
    }
    assert_eq!(subject.number(collection, "new").await, None);
    assert_eq!(snapshot.name(), subject.store.name());
    assert_eq!(snapshot.limits(), subject.store.limits());
}

pub async fn kept_apart_from_the_live_store(subject: &Subject) {
    let collection = subject.text().await;
    subject.fill(collection, &many(3)).await;
    let (reader, _kept) = subject.read_only().await;
    let Some(snapshot) = reader.snapshot().await.unwrap() else {
        return;
    };
    subject
        .one(subject.put(collection, "key-000001", 100, Guard::Any))
        .await;
    // A snapshot of a snapshot sees the same instant.
    let again = snapshot.snapshot().await.unwrap().unwrap();
    drop(snapshot);
    // Neither a collection that is not there nor texts that cannot be read spoil it.
    for _ in 0..20 {
        assert!(again.count("nowhere", &KeyRange::all()).await.is_err());
    }
    let numbers = contents(&all(&*again, collection, &KeyRange::all()).await);
    assert_eq!(numbers.into_values().collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(subject.number(collection, "key-000001").await, Some(100));
    drop(again);
    subject
        .one(subject.put(collection, "new", 1, Guard::Any))
        .await;
}
