//! No value of any document is ever told.

use std::sync::Arc;

use whimbrel_engine::CompareJob;
use whimbrel_model::rule::CopyRule;
use whimbrel_model::{Key, KeyKind};

use super::common::{engine, fill, sqlite, store};
use super::{copy_job, json, plain, put, split};

const MARKERS: usize = 1_000;

fn marker(i: usize) -> String {
    format!("MARK{:08x}", (i as u32).wrapping_mul(2_654_435_761))
}

async fn told_by(rule: CopyRule) -> String {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path()).await;
    let mut events = engine.subscribe();
    let (source, target) = (sqlite(dir.path(), "a.db").await, store("memory:").await);
    // Some fail in the rule, some are no JSON, some cannot be read at all.
    let document = |i: usize| {
        let mark = marker(i);
        let json = match i % 3 {
            0 => format!(r#"{{"messages":["{mark}"],"x":"{mark}"}}"#),
            1 => format!(r#"{{"messages":"{mark}"}}"#),
            _ => format!(r#"{{"messages":["{mark}",{{"$timestamp":"{mark}"}}]}}"#),
        };
        (Key::text(format!("c{i:04}")), json)
    };
    fill(&source, "docs", (0..MARKERS).map(document)).await;
    let broken = format!(
        "UPDATE docs SET data = '{{\"{0}' WHERE id LIKE 'c%3';
         UPDATE docs SET data = '{{\"{0}\":1,\"{0}\":2}}' WHERE id LIKE 'c%5'",
        marker(5)
    );
    rusqlite::Connection::open(dir.path().join("a.db"))
        .unwrap()
        .execute_batch(&broken)
        .unwrap();
    target.ensure("copies", &KeyKind::Text).await.unwrap();
    for i in 0..MARKERS {
        let body = format!(
            r#"{{"text":"{0}","x":"{0}","messages":["{0}x"]}}"#,
            marker(i + 1)
        );
        put(&target, &format!("c{i:04}"), json(&body)).await;
        put(&target, &format!("c{i:04}:0"), json(&body)).await;
    }
    let job = CompareJob::of(copy_job(
        &source,
        &target,
        rule,
        Some(store("memory:").await),
    ));
    let found = engine.compare(job.clone()).await.unwrap();
    assert!(
        found.differences.len() > MARKERS / 2,
        "{}",
        found.differences.len()
    );
    let mut told = serde_json::to_string(&found).unwrap();
    match engine.repair(job, &found, true).await {
        Ok(report) => told.push_str(&format!("{report:?}")),
        Err(error) => told.push_str(&format!("{error} {error:?}")),
    }
    let records = super::common::journal(dir.path())
        .await
        .read(0, 100_000)
        .await
        .unwrap();
    for record in records {
        told.push_str(&record.entry_text());
    }
    drop(engine);
    while let Some(event) = events.recv().await {
        told.push_str(&serde_json::to_string(&event).unwrap());
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_marker_is_told() {
    for rule in [plain(), split()] {
        let name = rule.name.clone();
        let told = Arc::new(told_by(rule).await);
        assert!(told.len() > 10_000, "{name}");
        let found = told
            .find("MARK")
            .map(|at| &told[at.saturating_sub(200)..at + 20]);
        assert_eq!(found, None, "{name}");
    }
}
