//! What differs is brought over again, and nothing else is touched.

use std::collections::BTreeMap;
use std::sync::Arc;

use whimbrel_engine::CompareJob;
use whimbrel_model::rule::CopyRule;
use whimbrel_model::{Key, KeyRange, Revision, Store};

use super::common::{engine, fill, store};
use super::{copy_job, json, plain, put, split, told};

async fn revisions(store: &Arc<dyn Store>) -> BTreeMap<Key, Revision> {
    let page = store
        .scan("copies", &KeyRange::all(), 10_000, 1 << 30)
        .await
        .unwrap();
    page.documents
        .into_iter()
        .map(|d| (d.key, d.revision))
        .collect()
}

async fn check(rule: CopyRule, spoil: &[(&str, Option<&str>)], extra: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path()).await;
    let (source, target) = (store("memory:").await, store("memory:").await);
    let chat = |i: usize| {
        (
            Key::text(format!("c{i:03}")),
            format!(r#"{{"n":{i},"messages":["a","b{i}"]}}"#),
        )
    };
    fill(&source, "docs", (0..40).map(chat)).await;
    let scratch = store("memory:").await;
    let copy = copy_job(&source, &target, rule, Some(scratch));
    engine.copy(copy.clone()).await.unwrap();
    let good = revisions(&target).await;
    for (key, body) in spoil {
        put(&target, key, body.and_then(json)).await;
    }
    for key in extra {
        put(&target, key, json(r#"{"text":"a"}"#)).await;
    }
    let spoilt = revisions(&target).await;
    let job = CompareJob::of(copy);
    let found = engine.compare(job.clone()).await.unwrap();
    assert_eq!(found.differences.len(), spoil.len() + extra.len());

    let report = engine.repair(job.clone(), &found, false).await.unwrap();
    let expect: Vec<String> = extra.iter().map(|key| format!("extra {key}")).collect();
    assert_eq!(told(&report.left), expect);
    assert_eq!((report.deleted, report.unlisted), (0, 0));
    assert!(report.synced.is_some());
    let repaired = revisions(&target).await;
    for (key, revision) in &good {
        let touched = repaired.get(key) != spoilt.get(key);
        let wrong = spoil.iter().any(|(k, _)| Key::text(*k) == *key);
        assert_eq!(touched, wrong, "{key}");
        assert_eq!(repaired.get(key) == Some(revision), !wrong, "{key}");
    }

    let found = engine.compare(job.clone()).await.unwrap();
    assert_eq!(told(&found.differences), expect);
    let report = engine.repair(job.clone(), &found, true).await.unwrap();
    assert_eq!(report.deleted, extra.len() as u64);
    assert!(report.left.is_empty() && report.synced.is_none());
    assert!(engine.compare(job).await.unwrap().equal());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_under_their_own_keys() {
    let spoil = [("c003", None), ("c007", Some("{}")), ("c039", None)];
    check(plain(), &spoil, &["a", "c100"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_that_became_several() {
    let spoil = [("c003:0", None), ("c007:1", Some(r#"{"text":"x"}"#))];
    check(split(), &spoil, &["c100:0"]).await;
}

/// What is written between the comparison and the repair is neither lost nor deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_mended_meanwhile_stays() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path()).await;
    let (source, target) = (store("memory:").await, store("memory:").await);
    let documents =
        |n: usize| (0..n).map(|i| (Key::text(format!("c{i}")), format!(r#"{{"n":{i}}}"#)));
    fill(&source, "docs", documents(5)).await;
    fill(&target, "copies", documents(4)).await;
    put(&target, "extra", json(r#"{"n":9}"#)).await;
    let job = CompareJob::of(copy_job(&source, &target, plain(), None));
    let found = engine.compare(job.clone()).await.unwrap();
    assert_eq!(told(&found.differences), ["extra extra", "missing c4"]);
    put(&source, "extra", json(r#"{"n":10}"#)).await;
    put(&source, "c4", None).await;
    let report = engine.repair(job, &found, true).await.unwrap();
    assert_eq!(report.deleted, 0);
    // It is no longer extra; it differs now.
    assert_eq!(told(&report.left), ["differing extra"]);
    assert!(revisions(&target).await.contains_key(&Key::text("extra")));
}
