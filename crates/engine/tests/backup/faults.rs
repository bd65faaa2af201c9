//! Stores that fail, vaults that fail, and stores that have no snapshot to give.

use super::{Bench, backup_job, chat, restore_job};
use crate::common::{dump, engine, fill, ledger, store};
use std::sync::Arc;
use std::time::Duration;
use whimbrel_archive::Vault;
use whimbrel_engine::EngineError;
use whimbrel_model::ledger::RunStatus;
use whimbrel_model::{Code, Store};
use whimbrel_testkit::faulty::{Faults, FaultyStore};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failing_stores_lose_and_double_nothing() {
    for seed in 0..3 {
        println!("seed {seed}");
        let bench = Bench::new().await;
        fill(&bench.store, "chats", (0..100).map(chat)).await;
        let reading = Faults {
            seed,
            transient: 0.1,
            unknown: 0.0,
        };
        let source: Arc<dyn Store> =
            Arc::new(FaultyStore::new(Arc::clone(&bench.store)).with_faults(reading));
        let job = backup_job(&source, bench.vault(), &["chats"]);
        let archive = bench.engine.backup(job).await.unwrap().archive;
        assert!(archive.manifest().consistent);
        let back = store("memory:").await;
        let writing = Faults {
            unknown: 0.1,
            ..reading
        };
        let target: Arc<dyn Store> =
            Arc::new(FaultyStore::new(Arc::clone(&back)).with_faults(writing));
        let restored = bench.engine.restore(restore_job(&archive, &target)).await;
        let counts = restored.unwrap().reports[0].counts;
        assert_eq!(
            (counts.enumerated, counts.written),
            (100, 100),
            "{counts:?}"
        );
        assert_eq!(
            dump(&back, "chats").await,
            dump(&bench.store, "chats").await
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_that_fails_leaves_a_backup_that_can_go_on() {
    let bench = Bench::new().await;
    fill(&bench.store, "chats", (0..50).map(chat)).await;
    let vault = bench.vault();
    // A file where the archive's folder should be.
    let in_the_way = bench.dir.path().join("vault/one");
    std::fs::write(&in_the_way, "").unwrap();
    let mut job = backup_job(&bench.store, vault, &["chats"]);
    job.name = Some("one".to_owned());
    job.options.patience = Duration::ZERO;
    let error = bench.engine.backup(job.clone()).await.unwrap_err();
    assert_eq!(error.code(), Code::VaultFailed, "{error}");
    assert!(error.resumable(), "{error}");
    std::fs::remove_file(in_the_way).unwrap();
    let report = bench.engine.backup(job).await.unwrap();
    bench.engine.prove(&report.archive).await.unwrap();
    let state = ledger(bench.dir.path()).await.state();
    let unended = state
        .runs
        .values()
        .filter(|r| r.status != RunStatus::Completed);
    assert_eq!(unended.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_snapshot_the_manifest_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let files = store(&format!("jsonl:{}/", dir.path().join("files").display())).await;
    fill(&files, "chats", (0..30).map(chat)).await;
    assert!(files.snapshot().await.unwrap().is_none());
    let engine = engine(dir.path()).await;
    let vault = Vault::open("vault", dir.path(), true).unwrap();
    let archive = engine
        .backup(backup_job(&files, vault, &["chats"]))
        .await
        .unwrap()
        .archive;
    assert!(!archive.manifest().consistent);
    assert!(
        archive.manifest().collections[0]
            .as_of
            .iter()
            .all(|a| a.live)
    );
    let back = store("memory:").await;
    engine.restore(restore_job(&archive, &back)).await.unwrap();
    assert_eq!(dump(&back, "chats").await.len(), 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_backup_that_is_unfinished_is_not_forgotten() {
    let bench = Bench::new().await;
    fill(&bench.store, "chats", (0..50).map(chat)).await;
    bench.engine.stop();
    let mut job = bench.job(&["chats"]);
    job.name = Some("one".to_owned());
    let error = bench.engine.backup(job.clone()).await.unwrap_err();
    assert!(matches!(error, EngineError::Interrupted), "{error}");
    let engine = engine(bench.dir.path()).await;
    job.name = Some("two".to_owned());
    let error = engine.backup(job.clone()).await.unwrap_err();
    assert!(matches!(error, EngineError::Pending(_)), "{error}");
    job.options.abandon = true;
    engine.backup(job).await.unwrap();
    assert!(!bench.dir.path().join("vault/one/manifest.json").exists());
}
