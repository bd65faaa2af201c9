//! Somebody writes while a backup reads: all of it is as of one instant all the same.

use super::{backup_job, restore_job, stores};
use crate::common::{engine, fill, store};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use whimbrel_archive::Vault;
use whimbrel_model::{Body, Guard, Key, KeyRange, Store, Value, Write, WriteOutcome};

const ACCOUNTS: usize = 300;

fn account(i: usize, n: i64) -> (Key, String) {
    (Key::text(format!("a{i:04}")), format!(r#"{{"n": {n}}}"#))
}

/// Moves one from an account of `left` to one of `right`, in one transaction, over and over.
async fn transfers(store: Arc<dyn Store>, stop: Arc<AtomicBool>) -> u64 {
    let mut done = 0_u64;
    while !stop.load(Ordering::SeqCst) {
        // Far apart, so that a scan that sees both sees them at different moments.
        let i = usize::try_from(done).unwrap() % ACCOUNTS;
        let from = Key::text(format!("a{i:04}"));
        let to = Key::text(format!("a{:04}", ACCOUNTS - 1 - i));
        let mut writes = Vec::new();
        for (collection, key, by) in [("left", from, -1), ("right", to, 1)] {
            let found = store
                .get(collection, std::slice::from_ref(&key))
                .await
                .unwrap();
            let document = found.into_iter().flatten().next().unwrap();
            let n = amount(&document.body) + by;
            writes.push(Write {
                collection: collection.to_owned(),
                key,
                to: Some(Body::from_json(format!(r#"{{"n": {n}}}"#).into_bytes())),
                guard: Guard::Unchanged(document.revision),
            });
        }
        let outcomes = store.write(&writes).await.unwrap();
        assert!(outcomes.iter().all(|o| *o == WriteOutcome::Applied));
        done += 1;
        tokio::task::yield_now().await;
    }
    done
}

fn amount(body: &Body) -> i64 {
    match body.map().unwrap().get("n") {
        Some(Value::Int(n)) => *n,
        other => panic!("{other:?}"),
    }
}

async fn sum(store: &Arc<dyn Store>) -> i64 {
    let mut sum = 0;
    for collection in ["left", "right"] {
        let page = store
            .scan(collection, &KeyRange::all(), 10_000, 1 << 24)
            .await
            .unwrap();
        assert_eq!(page.documents.len(), ACCOUNTS);
        sum += page.documents.iter().map(|d| amount(&d.body)).sum::<i64>();
    }
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_beside_a_writer_is_of_one_instant() {
    let dir = tempfile::tempdir().unwrap();
    for (kind, source, _stage) in stores(dir.path(), "bk_live", &["left", "right"]).await {
        let home = tempfile::tempdir().unwrap();
        let engine = engine(home.path()).await;
        for collection in ["left", "right"] {
            fill(&source, collection, (0..ACCOUNTS).map(|i| account(i, 100))).await;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let writer = tokio::spawn(transfers(Arc::clone(&source), Arc::clone(&stop)));
        let mut moved = false;
        for _ in 0..3 {
            let vault = Vault::open("vault", home.path(), true).unwrap();
            let job = backup_job(&source, vault, &["left", "right"]);
            let archive = engine.backup(job).await.unwrap().archive;
            assert!(archive.manifest().consistent, "{kind}");
            let back = store("memory:").await;
            engine.restore(restore_job(&archive, &back)).await.unwrap();
            assert_eq!(sum(&back).await, 2 * 100 * ACCOUNTS as i64, "{kind}");
            let page = back
                .scan("left", &KeyRange::all(), 1000, 1 << 20)
                .await
                .unwrap();
            moved |= page.documents.iter().any(|d| amount(&d.body) != 100);
        }
        stop.store(true, Ordering::SeqCst);
        let done = writer.await.unwrap();
        println!("{kind}: {done} transfers beside the backups");
        assert!(
            moved,
            "{kind}: nobody wrote meanwhile, so nothing was shown"
        );
    }
}
