//! A project's stores with documents, and its checks from their text.

use std::path::Path;
use std::sync::Arc;

use whimbrel_engine::{
    Checked, ChecksJob, ChecksOptions, Engine, Place, PreparedCheck, SystemClock,
};
use whimbrel_model::check::Check;
use whimbrel_model::finding::CheckResult;
use whimbrel_model::{Key, Store};
use whimbrel_transform::{ScriptLimits, parse_checks};

use super::common;

/// Stores by their names in the project.
pub struct Project {
    pub stores: Vec<(&'static str, Arc<dyn Store>)>,
    pub dir: tempfile::TempDir,
    scratch: Arc<dyn Store>,
}

/// Where the documents of a test lie.
#[derive(Clone, Copy, Debug)]
pub enum On {
    Memory,
    Sqlite,
    /// `app` is SQLite, `split` is in memory.
    Both,
}

impl Project {
    pub async fn new(on: On) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (app, split) = match on {
            On::Memory => (memory().await, memory().await),
            On::Sqlite => {
                let app = common::sqlite(dir.path(), "app.db").await;
                (app, common::sqlite(dir.path(), "split.db").await)
            }
            On::Both => (common::sqlite(dir.path(), "app.db").await, memory().await),
        };
        Self::of(vec![("app", app), ("split", split)], dir).await
    }

    pub async fn of(stores: Vec<(&'static str, Arc<dyn Store>)>, dir: tempfile::TempDir) -> Self {
        let scratch = common::sqlite(dir.path(), "scratch.db").await;
        Self {
            stores,
            dir,
            scratch,
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Puts documents `key → JSON` into `store/collection`.
    pub async fn put(&self, name: &str, docs: &[(&str, &str)]) {
        let docs = docs
            .iter()
            .map(|(key, json)| (Key::text(*key), (*json).to_owned()));
        let docs: Vec<_> = docs.collect();
        self.put_keys(name, docs).await;
    }

    pub async fn put_keys(&self, name: &str, docs: Vec<(Key, String)>) {
        let place = self.place(name).unwrap();
        common::fill(&place.store, &place.collection, docs).await;
    }

    pub fn place(&self, name: &str) -> Option<Place> {
        let (store, collection) = name.split_once('/')?;
        let (name, found) = self.stores.iter().find(|(name, _)| *name == store)?;
        Some(common::place(found, name, collection))
    }

    pub fn load(&self, text: &str) -> Vec<Check> {
        let limits = ScriptLimits::default();
        parse_checks("checks/test.toml", text, self.path(), limits)
            .unwrap_or_else(|errors| panic!("{errors:#?}\n{text}"))
    }

    pub fn options(&self) -> ChecksOptions {
        ChecksOptions {
            patience: std::time::Duration::from_millis(200),
            project: self.path().to_owned(),
            ..ChecksOptions::new(Arc::clone(&self.scratch))
        }
    }

    pub fn prepared(&self, check: Check) -> PreparedCheck {
        PreparedCheck {
            place: check
                .collection
                .as_deref()
                .and_then(|name| self.place(name)),
            other: check.other().and_then(|name| self.place(name)),
            store: check
                .store()
                .and_then(|name| self.stores.iter().find(|(n, _)| *n == name))
                .map(|(_, store)| Arc::clone(store)),
            unready: None,
            check,
        }
    }

    pub async fn run(&self, checks: Vec<Check>, options: ChecksOptions) -> Checked {
        let engine = Engine::without_ledger(Arc::new(SystemClock));
        let checks = checks
            .into_iter()
            .map(|check| self.prepared(check))
            .collect();
        engine.check(ChecksJob { checks, options }).await
    }

    pub async fn check(&self, text: &str) -> Vec<CheckResult> {
        self.run(self.load(text), self.options()).await.results
    }

    /// One check on `app/docs`, of which only the kind's lines are given.
    pub async fn one(&self, kind: &str) -> CheckResult {
        let text = format!("[[check]]\nname = \"it\"\ncollection = \"app/docs\"\n{kind}");
        let mut results = self.check(&text).await;
        assert_eq!(results.len(), 1);
        results.remove(0)
    }
}

pub async fn memory() -> Arc<dyn Store> {
    common::store("memory:").await
}

/// Failing places as `key path`, in the order told.
pub fn failing(result: &CheckResult) -> Vec<String> {
    assert_eq!(result.error, None, "{result:#?}");
    let places = result.examples.iter().map(|example| {
        let part = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        format!("{} {}", part(&example.key), part(&example.path))
    });
    places.collect()
}
