//! Somebody writes to both ends all the time: what is planted is found, and nothing else is.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use whimbrel_engine::{CompareJob, Engine, SystemClock};
use whimbrel_model::{KeyKind, Store};

use super::common::{sqlite, store};
use super::{agrees, copy_job, json, plain, put, split, told};

const DOCUMENTS: usize = 240;
/// Runs at the same time.
const AT_ONCE: u64 = 8;

/// How many runs: `WHIMBREL_TEST_LIVE_COMPARISONS`, or 50.
fn runs() -> u64 {
    let asked = std::env::var("WHIMBREL_TEST_LIVE_COMPARISONS").ok();
    asked.and_then(|n| n.parse().ok()).unwrap_or(50)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    /// A document is one document.
    Plain,
    /// A document is three documents.
    Split,
}

fn source_body(version: u64) -> String {
    format!(r#"{{"v": {version}, "messages": ["a{version}", "b{version}", "c"]}}"#)
}

/// As the app writes it to the target, itself.
async fn put_target(target: &Arc<dyn Store>, shape: Shape, key: &str, version: Option<u64>) {
    match shape {
        Shape::Plain => {
            // The same in other bytes: comparing must parse it.
            let body = version.map(|v| format!(r#"{{"messages":["a{v}","b{v}","c"],"v":{v}}}"#));
            put(target, key, body.as_deref().and_then(json)).await;
        }
        Shape::Split => {
            for (i, letter) in ["a", "b", "c"].into_iter().enumerate() {
                let text = match (letter, version) {
                    (_, None) => None,
                    ("c", _) => Some(r#"{"text":"c"}"#.to_owned()),
                    (letter, Some(v)) => Some(format!(r#"{{"text":"{letter}{v}"}}"#)),
                };
                put(
                    target,
                    &format!("{key}:{i}"),
                    text.as_deref().and_then(json),
                )
                .await;
            }
        }
    }
}

fn key(i: usize) -> String {
    format!("c{i:04}")
}

/// Documents that the app does not touch, and what is wrong with them.
async fn plant(target: &Arc<dyn Store>, shape: Shape, rng: &mut StdRng) -> BTreeSet<String> {
    let mut planted = BTreeSet::new();
    let of = |key: String| match shape {
        Shape::Plain => key,
        Shape::Split => format!("{key}:1"),
    };
    for i in (0..DOCUMENTS).filter(|i| i % 10 == 0) {
        let place = of(key(i));
        match rng.random_range(0..4) {
            0 => {
                put(target, &place, None).await;
                planted.insert(format!("missing {place}"));
            }
            1 => {
                put(target, &place, json(r#"{"text":"other","v":0}"#)).await;
                planted.insert(format!("differing {place}"));
            }
            2 => {
                let place = of(format!("{}x", key(i)));
                put(target, &place, json(r#"{"text":"a"}"#)).await;
                planted.insert(format!("extra {place}"));
            }
            _ => {}
        }
    }
    planted
}

/// Writes until it is stopped: the source, a moment, the target.
async fn write_on(
    source: Arc<dyn Store>,
    target: Arc<dyn Store>,
    shape: Shape,
    seed: u64,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut version = 1_000_000 * (1 + seed % 7);
    while !stop.load(Ordering::Relaxed) {
        version += 1;
        // Also documents that were not there at first. Those that end in 0 are nobody's to touch.
        let mut i = rng.random_range(0..DOCUMENTS + 60);
        if i % 10 == 0 {
            i += 1;
        }
        let key = key(i);
        let to = (rng.random_range(0..5) > 0).then_some(version);
        let body = to.map(source_body);
        put(&source, &key, body.as_deref().and_then(json)).await;
        tokio::time::sleep(Duration::from_micros(rng.random_range(0..3000))).await;
        put_target(&target, shape, &key, to).await;
        written.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_micros(rng.random_range(0..1500))).await;
    }
}

async fn ends(seed: u64, dir: &Path) -> (Arc<dyn Store>, Arc<dyn Store>) {
    match seed % 4 {
        3 => (sqlite(dir, "a.db").await, sqlite(dir, "b.db").await),
        2 => (sqlite(dir, "a.db").await, store("memory:").await),
        _ => (store("memory:").await, store("memory:").await),
    }
}

async fn run(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let shape = if seed % 3 == 2 {
        Shape::Split
    } else {
        Shape::Plain
    };
    let (source, target) = ends(seed, dir.path()).await;
    source.ensure("docs", &KeyKind::Text).await.unwrap();
    target.ensure("copies", &KeyKind::Text).await.unwrap();
    for i in 0..DOCUMENTS {
        put(&source, &key(i), json(&source_body(1))).await;
        put_target(&target, shape, &key(i), Some(1)).await;
    }
    let mut rng = StdRng::seed_from_u64(seed);
    let planted = plant(&target, shape, &mut rng).await;
    let stop = Arc::new(AtomicBool::new(false));
    let written: Arc<AtomicU64> = Arc::default();
    let writer = tokio::spawn(write_on(
        Arc::clone(&source),
        Arc::clone(&target),
        shape,
        seed,
        Arc::clone(&stop),
        Arc::clone(&written),
    ));
    let rule = if shape == Shape::Split {
        split()
    } else {
        plain()
    };
    let scratch = store("memory:").await;
    let mut job = CompareJob::of(copy_job(&source, &target, rule, Some(scratch)));
    job.options.batch = Some(rng.random_range(5..40));
    let engine = Engine::without_ledger(Arc::new(SystemClock));
    let expect: Vec<String> = planted.into_iter().collect();
    // A slow disk may keep the writer from writing much.
    loop {
        let before = written.load(Ordering::Relaxed);
        let found = engine.compare(job.clone()).await.unwrap();
        agrees(&found);
        assert_eq!(told(&found.differences), expect, "seed {seed}, {shape:?}");
        if written.load(Ordering::Relaxed) > before {
            break;
        }
    }
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_what_is_planted() {
    let mut going = tokio::task::JoinSet::new();
    for seed in 0..runs() {
        if seed >= AT_ONCE {
            going.join_next().await.unwrap().unwrap();
        }
        going.spawn(run(seed));
    }
    while let Some(ended) = going.join_next().await {
        ended.unwrap();
    }
}
