//! A snapshot whose connections are lost.

use super::stage::{Stage, get, scan_all};
use whimbrel_model::{Key, KeyRange, StoreErrorKind};

const TABLE: &str = "CREATE TABLE docs (id text PRIMARY KEY, data jsonb NOT NULL); \
    INSERT INTO docs SELECT 'k' || g, '{\"n\":0}' FROM generate_series(1, 100) g";

/// Ends connections in the middle of a transaction that see an instant: those that keep it, or all others.
async fn end(stage: &Stage, exporters: bool) -> i64 {
    // The exporting transaction is the one whose last statement was the export.
    let not = if exporters { "" } else { "NOT" };
    stage
        .number(&format!(
            "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND state LIKE 'idle in transaction%' \
               AND application_name = 'snapshot_{}' AND {not} query LIKE '%pg_export_snapshot%'",
            stage.schema.name
        ))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_readers_come_back_and_a_lost_keeper_is_told() {
    let Some(stage) = Stage::new(TABLE).await else {
        return;
    };
    let url = format!(
        "{}&application_name=snapshot_{}",
        stage.schema.url, stage.schema.name
    );
    let store = whimbrel_stores::open(&url, &Default::default())
        .await
        .unwrap();
    let snapshot = store.snapshot().await.unwrap().unwrap();
    assert_eq!(scan_all(&*snapshot, "docs", 30).await.len(), 100);
    stage
        .app
        .batch_execute("UPDATE docs SET data = '{\"n\":1}'; DELETE FROM docs WHERE id <> 'k1'")
        .await
        .unwrap();
    assert!(end(&stage, false).await > 0);
    // The call that meets the end may fail; another try sees the same instant.
    let all = KeyRange::all();
    let mut found = snapshot.count("docs", &all).await;
    for _ in 0..10 {
        match found {
            Ok(_) => break,
            Err(error) => assert_eq!(error.kind, StoreErrorKind::Transient, "{error}"),
        }
        found = snapshot.count("docs", &all).await;
    }
    assert_eq!(found.unwrap(), 100);
    let document = get(&*snapshot, "docs", "k1").await;
    assert_eq!(document.body.json().as_ref(), b"{\"n\": 0}");

    assert_eq!(end(&stage, true).await, 1);
    end(&stage, false).await;
    let mut last = None;
    for _ in 0..20 {
        match snapshot.get("docs", &[Key::text("k1")]).await {
            Ok(found) => {
                let found = found[0].as_ref().unwrap();
                assert_eq!(found.revision, document.revision);
            }
            Err(error) => {
                let terminal = error.kind == StoreErrorKind::Terminal;
                last = Some(error.to_string());
                if terminal {
                    break;
                }
            }
        }
    }
    let last = last.expect("the snapshot cannot last");
    assert!(last.contains("the snapshot is gone"), "{last}");
    assert_eq!(store.count("docs", &all).await.unwrap(), 1);
    let anew = store.snapshot().await.unwrap().unwrap();
    assert_eq!(anew.count("docs", &all).await.unwrap(), 1);
}
