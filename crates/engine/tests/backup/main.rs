//! Archives of live stores: written, proved, brought back, killed anywhere, altered, and written beside
//! somebody who goes on writing.

mod altered;
mod columns;
#[path = "../common/mod.rs"]
mod common;
mod crashes;
mod faults;
mod live;
mod naming;
mod restoring;
mod round_trip;

use std::path::Path;
use std::sync::Arc;

use common::{Stage, engine, place, sqlite, store};
use tempfile::TempDir;
use whimbrel_archive::{Archive, Vault};
use whimbrel_engine::{
    BackupJob, BackupReport, Engine, EngineError, JobOptions, RestoreJob, RestorePart,
};
use whimbrel_model::{Key, Store};

/// A store, a vault and a ledger.
struct Bench {
    dir: TempDir,
    store: Arc<dyn Store>,
    engine: Engine,
    _stage: Option<Stage>,
}

/// A new store of each kind there is. PostgreSQL's collections lie in a schema of the test's own.
async fn stores(
    dir: &Path,
    name: &str,
    collections: &[&str],
) -> Vec<(&'static str, Arc<dyn Store>, Option<Stage>)> {
    let mut all = vec![
        ("sqlite", sqlite(dir, &format!("{name}.db")).await, None),
        ("memory", store("memory:").await, None),
    ];
    if let Some(stage) = Stage::new(name) {
        all.push(("postgres", stage.store(collections).await, Some(stage)));
    }
    all
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            store: sqlite(dir.path(), "app.db").await,
            engine: engine(dir.path()).await,
            dir,
            _stage: None,
        }
    }

    fn vault(&self) -> Vault {
        Vault::open("vault", self.dir.path(), true).unwrap()
    }

    fn job(&self, collections: &[&str]) -> BackupJob {
        backup_job(&self.store, self.vault(), collections)
    }

    async fn backup(&self, collections: &[&str]) -> BackupReport {
        self.engine.backup(self.job(collections)).await.unwrap()
    }
}

fn backup_job(store: &Arc<dyn Store>, vault: Vault, collections: &[&str]) -> BackupJob {
    BackupJob {
        collections: collections
            .iter()
            .map(|name| place(store, "app", name).into())
            .collect(),
        vault,
        name: None,
        recipients: None,
        key: None,
        fresh: false,
        options: common::options(),
    }
}

/// Everything of the archive into a store.
fn restore_job(archive: &Archive, target: &Arc<dyn Store>) -> RestoreJob {
    let parts = archive.manifest().collections.iter();
    RestoreJob {
        archive: archive.clone(),
        parts: parts
            .map(|part| RestorePart {
                store: part.store.clone(),
                collection: part.collection.clone(),
                target: place(target, "back", &part.collection),
                keys: None,
            })
            .collect(),
        beside: None,
        overwrite: false,
        options: JobOptions {
            batch: None,
            ..common::options()
        },
    }
}

async fn reopened(archive: &Archive) -> Result<Archive, EngineError> {
    Ok(Archive::open(archive.vault().clone(), archive.name(), None, &[]).await?)
}

fn chat(i: usize) -> (Key, String) {
    let json = format!(
        r#"{{"title": "chat {i}",  "n": {i}, "text": "h\u00e9 {}", "_schemaVersion": {}}}"#,
        "x".repeat(i % 50),
        i % 3 + 1
    );
    (Key::text(format!("c{i:05}")), json)
}
