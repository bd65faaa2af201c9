//! Where documents are already: beside them, over them, or not at all.

use super::{Bench, chat, restore_job};
use crate::common::{dump, fill, sqlite};
use whimbrel_archive::Archive;
use whimbrel_engine::{EngineError, RestoreJob};
use whimbrel_model::{Code, Key};

async fn scene() -> (Bench, Archive) {
    let bench = Bench::new().await;
    fill(&bench.store, "chats", (0..50).map(chat)).await;
    fill(&bench.store, "users", (0..5).map(chat)).await;
    let archive = bench.backup(&["chats", "users"]).await.archive;
    (bench, archive)
}

fn into_itself(bench: &Bench, archive: &Archive) -> RestoreJob {
    let mut job = restore_job(archive, &bench.store);
    for part in &mut job.parts {
        part.target.store_name = "app".to_owned();
    }
    job
}

async fn change(bench: &Bench) {
    fill(
        &bench.store,
        "chats",
        [
            (Key::text("c00003"), r#"{"title":"changed"}"#.to_owned()),
            (Key::text("new"), r#"{"title":"new"}"#.to_owned()),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_in_the_way_stop_a_restore_before_it_writes() {
    let (bench, archive) = scene().await;
    change(&bench).await;
    let file = rusqlite::Connection::open(bench.dir.path().join("app.db")).unwrap();
    file.execute("DELETE FROM chats WHERE id = 'c00001'", [])
        .unwrap();
    let before = dump(&bench.store, "chats").await;
    let error = bench
        .engine
        .restore(into_itself(&bench, &archive))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::RestoreConflict);
    assert!(error.to_string().contains("c00003"), "{error}");
    assert!(!error.to_string().contains("changed"), "{error}");
    assert_eq!(dump(&bench.store, "chats").await, before);

    let preview = bench
        .engine
        .preview_restore(&into_itself(&bench, &archive))
        .await
        .unwrap();
    let counts = preview.reports[0].counts;
    assert_eq!(
        (counts.written, counts.unchanged, counts.quarantined),
        (1, 48, 1)
    );

    let mut job = into_itself(&bench, &archive);
    job.overwrite = true;
    let report = bench.engine.restore(job).await.unwrap();
    let counts = report.reports[0].counts;
    assert_eq!((counts.written, counts.unchanged), (2, 48));
    let after = dump(&bench.store, "chats").await;
    assert_eq!(after.len(), 51, "what is not in the archive stays");
    assert_eq!(after[3].1, chat(3).1);
    assert_eq!(after[1].1, chat(1).1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_beside_touches_nothing_live() {
    let (bench, archive) = scene().await;
    let then = dump(&bench.store, "chats").await;
    change(&bench).await;
    let now = dump(&bench.store, "chats").await;
    let mut job = into_itself(&bench, &archive);
    job.beside = Some("_before".to_owned());
    bench.engine.restore(job).await.unwrap();
    assert_eq!(dump(&bench.store, "chats").await, now);
    assert_eq!(dump(&bench.store, "chats_before").await, then);
    assert_eq!(
        dump(&bench.store, "users_before").await,
        dump(&bench.store, "users").await
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_documents_come_back_alone() {
    let (bench, archive) = scene().await;
    let target = sqlite(bench.dir.path(), "back.db").await;
    let keys = |keys: &[&str]| Some(keys.iter().map(|k| Key::text(*k)).collect());
    let mut job = restore_job(&archive, &target);
    job.parts.truncate(1);
    job.parts[0].keys = keys(&["c00049", "c00007", "nobody"]);
    let error = bench.engine.restore(job.clone()).await.unwrap_err();
    assert!(matches!(error, EngineError::NoDocument { .. }), "{error}");
    assert!(error.to_string().contains("nobody"), "{error}");
    assert_eq!(target.collections().await.unwrap(), Vec::<String>::new());

    job.parts[0].keys = keys(&["c00049", "c00007"]);
    let report = bench.engine.restore(job).await.unwrap();
    assert_eq!(report.reports[0].counts.written, 2);
    let expect: Vec<_> = [7, 49]
        .map(chat)
        .map(|(k, json)| (k.to_string(), json))
        .into();
    assert_eq!(dump(&target, "chats").await, expect);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_collections_do_not_go_into_one() {
    let (bench, archive) = scene().await;
    let mut job = restore_job(&archive, &bench.store);
    job.parts[1].target.collection = "chats".to_owned();
    let error = bench.engine.restore(job).await.unwrap_err();
    assert!(error.to_string().contains("two collections"), "{error}");
    let mut job = restore_job(&archive, &bench.store);
    job.parts[0].collection = "nothing".to_owned();
    let error = bench.engine.restore(job).await.unwrap_err();
    assert_eq!(error.code(), Code::UnknownCollection);
}
