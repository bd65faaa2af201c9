//! Upgrades in place: up, down, and what the app wrote meanwhile.

mod common;

use common::{conversation, dump, engine, fill, ledger, options, place, sqlite, upgrade};
use whimbrel_engine::{EngineError, Event, JobOptions, Threshold};
use whimbrel_model::{Body, Code, Guard, Key, Write};

#[tokio::test(flavor = "multi_thread")]
async fn up_and_down_again_gives_the_very_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let store = sqlite(dir.path(), "app.db").await;
    fill(&store, "chats", (0..100).map(conversation)).await;
    let before = dump(&store, "chats").await;
    let chats = place(&store, "app", "chats");
    let engine = engine(dir.path()).await;

    let up = engine.upgrade(upgrade(&chats, 3)).await.unwrap();
    assert_eq!((up.counts.enumerated, up.counts.written), (100, 100));
    let at_3 = dump(&store, "chats").await;
    assert!(
        at_3.iter()
            .all(|(_, d)| d.contains("\"_schemaVersion\":3") && !d.contains("\"n\""))
    );
    assert!(at_3.iter().all(|(_, d)| d.contains("12345678901234567890")));

    let again = engine.upgrade(upgrade(&chats, 3)).await.unwrap();
    assert_eq!((again.counts.written, again.counts.unchanged), (0, 100));

    let down = engine.upgrade(upgrade(&chats, 1)).await.unwrap();
    assert_eq!(down.counts.written, 100);
    assert_eq!(dump(&store, "chats").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_downgrade_keeps_what_the_app_wrote_since() {
    let dir = tempfile::tempdir().unwrap();
    let store = sqlite(dir.path(), "app.db").await;
    fill(&store, "chats", (0..3).map(conversation)).await;
    let chats = place(&store, "app", "chats");
    let engine = engine(dir.path()).await;
    engine.upgrade(upgrade(&chats, 3)).await.unwrap();

    let written = r#"{"name":"renamed by the app","meta":{},"extra":true,"_schemaVersion":3}"#;
    fill(&store, "chats", [(Key::text("c00001"), written.to_owned())]).await;
    fill(&store, "chats", [(Key::text("new"), written.to_owned())]).await;
    engine.upgrade(upgrade(&chats, 1)).await.unwrap();

    let after = dump(&store, "chats").await;
    let doc = |key: &str| &after.iter().find(|(k, _)| k == key).unwrap().1;
    // The complement of the document's own upgrade restores the dropped value.
    assert_eq!(
        doc("c00001"),
        r#"{"title":"renamed by the app","extra":true,"n":1}"#
    );
    assert_eq!(
        doc("new"),
        r#"{"title":"renamed by the app","extra":true,"n":-1}"#
    );
    assert_eq!(doc("c00002"), &conversation(2).1);
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_documents_wait_and_are_retried() {
    let dir = tempfile::tempdir().unwrap();
    let store = sqlite(dir.path(), "app.db").await;
    fill(&store, "chats", (0..20).map(conversation)).await;
    fill(
        &store,
        "chats",
        [(Key::text("bad"), r#"{"title": 5}"#.to_owned())],
    )
    .await;
    fill(
        &store,
        "chats",
        [(Key::text("newer"), r#"{"_schemaVersion": 9}"#.to_owned())],
    )
    .await;
    let chats = place(&store, "app", "chats");
    let engine = engine(dir.path()).await;

    let report = engine.upgrade(upgrade(&chats, 3)).await.unwrap();
    assert!(report.counts.balanced());
    assert_eq!(
        (
            report.counts.written,
            report.counts.quarantined,
            report.counts.newer
        ),
        (20, 1, 1)
    );
    let waiting = engine.quarantined(None, None, 10).await.unwrap();
    assert_eq!(waiting.len(), 1);
    assert_eq!(
        (waiting[0].1.label.as_str(), waiting[0].1.error.code),
        ("bad", Code::DocType)
    );

    let still = engine
        .retry_upgrade(upgrade(&chats, 3), None)
        .await
        .unwrap();
    assert_eq!(still.report.counts.quarantined, 1);
    fill(
        &store,
        "chats",
        [(Key::text("bad"), r#"{"title": "mended"}"#.to_owned())],
    )
    .await;
    let retried = engine
        .retry_upgrade(upgrade(&chats, 3), None)
        .await
        .unwrap();
    assert_eq!(retried.report.counts.written, 1);
    assert!(engine.quarantined(None, None, 10).await.unwrap().is_empty());
    let ledger = ledger(dir.path()).await;
    let resolved = |run: Option<String>| ledger.state().runs[&run.unwrap()].resolved;
    assert_eq!(resolved(still.report.run), 0);
    assert_eq!(resolved(retried.report.run), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_leaves_quarantine_and_the_chain_tells_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = sqlite(dir.path(), "app.db").await;
    let bad = ["bad", "gone"].map(|key| (Key::text(key), r#"{"title": 5}"#.to_owned()));
    fill(&store, "chats", bad).await;
    let chats = place(&store, "app", "chats");
    let engine = engine(dir.path()).await;
    let mut job = upgrade(&chats, 3);
    job.options.max_failed = Threshold::Share(1.0);
    let report = engine.upgrade(job).await.unwrap();
    assert_eq!(report.counts.quarantined, 2);
    let delete = Write {
        collection: "chats".to_owned(),
        key: Key::text("gone"),
        to: None,
        guard: Guard::Any,
    };
    store.write(&[delete]).await.unwrap();
    let retried = engine
        .retry_upgrade(upgrade(&chats, 3), None)
        .await
        .unwrap();
    assert_eq!((retried.gone, retried.report.counts.quarantined), (1, 1));
    let waiting = engine.quarantined(None, None, 10).await.unwrap();
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].1.label, "bad");
    let ledger = ledger(dir.path()).await;
    ledger.verify().await.unwrap();
    assert_eq!(
        ledger.state().runs[&retried.report.run.unwrap()].resolved,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_failures_abort() {
    let dir = tempfile::tempdir().unwrap();
    let store = sqlite(dir.path(), "app.db").await;
    let bad = (0..50).map(|i| (Key::text(format!("b{i:03}")), "{\"title\":null}".to_owned()));
    fill(&store, "chats", bad).await;
    let chats = place(&store, "app", "chats");
    let engine = engine(dir.path()).await;
    let mut job = upgrade(&chats, 2);
    job.options = JobOptions {
        max_failed: Threshold::Count(10),
        ..options()
    };
    let error = engine.upgrade(job).await.unwrap_err();
    assert!(matches!(error, EngineError::Threshold { .. }), "{error}");
    assert!(!error.resumable());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_writes_nothing_and_names_every_failure() {
    let dir = tempfile::tempdir().unwrap();
    let store = sqlite(dir.path(), "app.db").await;
    fill(&store, "chats", (0..30).map(conversation)).await;
    let bad = (0..5).map(|i| (Key::text(format!("bad{i}")), "{\"title\":null}".to_owned()));
    fill(&store, "chats", bad).await;
    let before = dump(&store, "chats").await;
    let chats = place(&store, "app", "chats");
    let engine = engine(dir.path()).await;
    let mut events = engine.subscribe();
    let (report, previews) = engine
        .preview_upgrade(&upgrade(&chats, 3), 4)
        .await
        .unwrap();
    assert_eq!((report.counts.written, report.counts.quarantined), (30, 5));
    assert_eq!(previews.len(), 4);
    let mut failures = 0;
    while let Ok(event) = events.try_recv() {
        failures += u32::from(matches!(event, Event::DocumentError { .. }));
    }
    assert_eq!(failures, 5);
    assert_eq!(dump(&store, "chats").await, before);
    assert!(engine.quarantined(None, None, 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_writer_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = sqlite(dir.path(), "app.db").await;
    fill(&store, "chats", (0..400).map(conversation)).await;
    let chats = place(&store, "app", "chats");
    let engine = engine(dir.path()).await;

    // The app increments counters under guards, in whatever version the document is, all the while.
    let app = sqlite(dir.path(), "app.db").await;
    let writer = tokio::spawn(async move {
        let mut acknowledged = vec![0_u32; 400];
        for step in 0..3000_usize {
            let i = (step * 7919) % 400;
            let key = conversation(i).0;
            let doc = app
                .get("chats", std::slice::from_ref(&key))
                .await
                .unwrap()
                .remove(0)
                .unwrap();
            let mut map = doc.body.map().unwrap().into_owned();
            let n = match map.get("hits") {
                Some(whimbrel_model::Value::Int(n)) => *n,
                _ => 0,
            };
            map.insert("hits".to_owned(), whimbrel_model::Value::Int(n + 1));
            let write = Write {
                collection: "chats".to_owned(),
                key,
                to: Some(Body::Map(map)),
                guard: Guard::Unchanged(doc.revision),
            };
            match app.write(&[write]).await {
                Ok(outcomes) if outcomes[0] == whimbrel_model::WriteOutcome::Applied => {
                    acknowledged[i] += 1
                }
                _ => {}
            }
        }
        acknowledged
    });
    for to in [3, 1, 2, 3] {
        let report = engine.upgrade(upgrade(&chats, to)).await.unwrap();
        assert!(report.counts.balanced());
    }
    let acknowledged = writer.await.unwrap();
    let report = engine.upgrade(upgrade(&chats, 3)).await.unwrap();
    assert_eq!(report.counts.quarantined, 0);
    for (i, (_, json)) in dump(&store, "chats").await.iter().enumerate() {
        let body = Body::from_json(json.clone().into_bytes());
        let hits = match body.map().unwrap().get("hits") {
            Some(whimbrel_model::Value::Int(n)) => *n,
            _ => 0,
        };
        assert_eq!(hits, i64::from(acknowledged[i]), "document {i}: {json}");
        assert!(json.contains("\"_schemaVersion\":3"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_at_once_exactly_one_proceeds() {
    let dir = tempfile::tempdir().unwrap();
    let store = sqlite(dir.path(), "app.db").await;
    fill(&store, "chats", (0..2000).map(conversation)).await;
    let chats = place(&store, "app", "chats");
    let (one, two) = (engine(dir.path()).await, engine(dir.path()).await);
    let (a, b) = tokio::join!(
        one.upgrade(upgrade(&chats, 3)),
        two.upgrade(upgrade(&chats, 3))
    );
    let held = |r: &Result<_, EngineError>| matches!(r, Err(e) if e.code() == Code::LeaseHeld);
    assert!(a.is_ok() ^ b.is_ok(), "{a:?} {b:?}");
    assert!(held(&a) ^ held(&b), "{a:?} {b:?}");
}
