//! Taking back what runs wrote: upgrades and copies, on every kind of store, killed anywhere, and against a
//! model.

#[path = "../common/mod.rs"]
mod common;
mod copies;
mod crashes;
mod model;
mod upgrades;

use std::sync::Arc;

use common::{Stage, engine, sqlite, store};
use tempfile::TempDir;
use whimbrel_engine::{Engine, EngineError, Place, Report, UpgradeJob};
use whimbrel_model::ledger::RunId;
use whimbrel_model::{Key, Store};

/// One kind of store, and a ledger.
struct Bench {
    dir: TempDir,
    store: Arc<dyn Store>,
    engine: Engine,
    _stage: Option<Stage>,
}

impl Bench {
    async fn on(store: Arc<dyn Store>, dir: TempDir, stage: Option<Stage>) -> Self {
        let engine = engine(dir.path()).await;
        Self {
            dir,
            store,
            engine,
            _stage: stage,
        }
    }
}

/// The stores that a test is run on: memory, SQLite, PostgreSQL where there is one.
async fn benches(name: &str, collections: &[&str]) -> Vec<Bench> {
    let dir = || tempfile::tempdir().unwrap();
    let mut benches = vec![Bench::on(store("memory:").await, dir(), None).await];
    let folder = dir();
    let file = sqlite(folder.path(), "app.db").await;
    benches.push(Bench::on(file, folder, None).await);
    if let Some(stage) = Stage::new(&format!("undo_{name}")) {
        let server = stage.store(collections).await;
        benches.push(Bench::on(server, dir(), Some(stage)).await);
    }
    benches
}

fn run_of(report: &Report) -> RunId {
    report.run.clone().expect("a run leaves a trace")
}

fn text(key: &str, json: &str) -> (Key, String) {
    (Key::text(key), json.to_owned())
}

fn at<'a>(dump: &'a [(String, String)], key: &str) -> Option<&'a str> {
    let found = dump.iter().find(|(k, _)| k == key);
    found.map(|(_, json)| json.as_str())
}

/// The undo of upgrades: `to` is where documents go that they did not write.
fn down_to(place: &Place, to: u32) -> UpgradeJob {
    common::upgrade(place, to)
}

fn refused(result: Result<Report, EngineError>, word: &str) {
    let error = result.expect_err("it must be refused").to_string();
    assert!(error.contains(word), "{error}");
    assert!(error.contains("nothing was written"), "{error}");
}
