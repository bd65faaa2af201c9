//! Which archive a backup writes.

use super::{Bench, chat, reopened};
use crate::common::fill;
use std::fs;
use whimbrel_model::Code;

async fn bench() -> Bench {
    let bench = Bench::new().await;
    fill(&bench.store, "chats", (0..20).map(chat)).await;
    bench
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_backup_has_a_name_of_its_own() {
    let bench = bench().await;
    let one = bench.backup(&["chats"]).await.archive;
    let two = bench.backup(&["chats"]).await.archive;
    assert_ne!(one.name(), two.name());
    let mut job = bench.job(&["chats"]);
    job.name = Some(one.name().to_owned());
    let error = bench.engine.backup(job.clone()).await.unwrap_err();
    assert!(error.to_string().contains("exists already"), "{error}");
    job.fresh = true;
    let error = bench.engine.backup(job.clone()).await.unwrap_err();
    assert!(error.to_string().contains("exists already"), "{error}");
    for name in ["../x", "", "a/b"] {
        job.name = Some(name.to_owned());
        let error = bench.engine.backup(job.clone()).await.unwrap_err();
        assert_eq!(error.code(), Code::ArchiveMissing, "{name}");
    }
    reopened(&one).await.unwrap();
    reopened(&two).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unfinished_archive_is_finished_or_begun_anew() {
    let bench = bench().await;
    let archive = bench.backup(&["chats"]).await.archive;
    let folder = bench.dir.path().join("vault").join(archive.name());
    // As a kill right before the manifest leaves it.
    fs::remove_file(folder.join("manifest.json")).unwrap();
    let report = bench.backup(&["chats"]).await;
    assert!(report.resumed);
    assert_eq!(report.archive.name(), archive.name());
    assert_eq!(
        report.archive.manifest().collections,
        archive.manifest().collections
    );

    fs::remove_file(folder.join("manifest.json")).unwrap();
    let mut job = bench.job(&["chats"]);
    job.fresh = true;
    let fresh = bench.engine.backup(job.clone()).await.unwrap();
    assert_ne!(fresh.archive.name(), archive.name());
    assert!(!fresh.resumed);

    job.fresh = false;
    job.name = Some(archive.name().to_owned());
    let other = Bench::new().await;
    let error = other.engine.backup(job.clone()).await.unwrap_err();
    assert!(error.to_string().contains("another unfinished"), "{error}");
    job.fresh = true;
    let report = other.engine.backup(job).await.unwrap();
    assert_eq!(report.archive.manifest().collections[0].documents, 20);
    other
        .engine
        .prove(&reopened(&report.archive).await.unwrap())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_that_went_missing_meanwhile_are_not_vouched_for() {
    let bench = bench().await;
    let archive = bench.backup(&["chats"]).await.archive;
    let folder = bench.dir.path().join("vault").join(archive.name());
    fs::remove_file(folder.join("manifest.json")).unwrap();
    let chunk = &archive.manifest().collections[0].chunks[0].name;
    fs::remove_file(folder.join("chunks").join(chunk)).unwrap();
    let error = bench
        .engine
        .backup(bench.job(&["chats"]))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::ArchiveInvalid);
    assert!(!folder.join("manifest.json").exists());
    let mut job = bench.job(&["chats"]);
    job.fresh = true;
    bench.engine.backup(job).await.unwrap();
}
