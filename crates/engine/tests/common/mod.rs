//! What the engine's tests share: a project in a temporary folder.
#![allow(dead_code)]

pub mod scene;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use whimbrel_engine::{
    Clock, Engine, JobOptions, Ledger, NativeVersion, PROVENANCE, Place, SystemClock, UpgradeJob,
};
use whimbrel_model::{
    Body, Code, DocError, Guard, Journal, Key, KeyKind, KeyRange, Map, Schema, Store, Value, Write,
    WriteOutcome,
};
use whimbrel_stores::{CollectionConfig, OpenOptions, open, open_journal};
use whimbrel_testkit::servers::server;

pub async fn store(url: &str) -> Arc<dyn Store> {
    open(url, &OpenOptions::default())
        .await
        .expect("the store opens")
}

pub async fn sqlite(dir: &Path, name: &str) -> Arc<dyn Store> {
    store(&format!("sqlite:{}", dir.join(name).display())).await
}

pub async fn journal(dir: &Path) -> Arc<dyn Journal> {
    open_journal(&format!("sqlite:{}", dir.join("ledger.db").display()))
        .await
        .expect("the journal opens")
}

pub async fn ledger_on(journal: Arc<dyn Journal>) -> Arc<Ledger> {
    Arc::new(
        Ledger::open(journal, Arc::new(SystemClock))
            .await
            .expect("the ledger folds"),
    )
}

pub async fn ledger(dir: &Path) -> Arc<Ledger> {
    ledger_on(journal(dir).await).await
}

pub async fn engine_on(journal: Arc<dyn Journal>) -> Engine {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Engine::new(ledger_on(journal).await, clock)
}

pub async fn engine(dir: &Path) -> Engine {
    engine_on(journal(dir).await).await
}

pub fn place(store: &Arc<dyn Store>, name: &str, collection: &str) -> Place {
    Place {
        store: Arc::clone(store),
        store_name: name.to_owned(),
        collection: collection.to_owned(),
    }
}

pub fn options() -> JobOptions {
    JobOptions {
        batch: Some(7),
        parallel: Some(2),
        ..JobOptions::default()
    }
}

/// Puts documents, keyed by text, whatever was there.
pub async fn fill(
    store: &Arc<dyn Store>,
    collection: &str,
    docs: impl IntoIterator<Item = (Key, String)>,
) {
    store
        .ensure(collection, &KeyKind::Text)
        .await
        .expect("the collection is made");
    let writes: Vec<Write> = docs
        .into_iter()
        .map(|(key, json)| Write {
            collection: collection.to_owned(),
            key,
            to: Some(Body::from_json(json.into_bytes())),
            guard: Guard::Any,
        })
        .collect();
    for part in writes.chunks(1000) {
        let outcomes = store.write(part).await.expect("the write happens");
        assert!(
            outcomes.iter().all(|o| *o == WriteOutcome::Applied),
            "{outcomes:?}"
        );
    }
}

/// Every document of a collection as `key → JSON`, by key.
pub async fn dump(store: &Arc<dyn Store>, collection: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut range = KeyRange::all();
    loop {
        let page = store
            .scan(collection, &range, 500, 1 << 20)
            .await
            .expect("the scan goes on");
        assert!(page.rejects.is_empty(), "{:?}", page.rejects);
        let Some(last) = page.last else { break };
        range.after = Some(last);
        for doc in page.documents {
            let json = String::from_utf8(doc.body.into_json().to_vec()).expect("JSON is UTF-8");
            all.push((doc.key.to_string(), json));
        }
    }
    all.sort();
    all
}

/// v1: `{title, n}`; v2: `title` is `name`; v3: `n` is gone and `meta` is there.
pub fn schema(collection: &str) -> Schema {
    let v1 = NativeVersion::new("1").into_version(1, "initial");
    let v2 = NativeVersion::new("2")
        .up(|doc, _| match doc.get("title").map_err(DocError::from)? {
            Some(Value::String(_)) => {
                doc.rename("title", "name");
                Ok(Map::new())
            }
            _ => Err(DocError::new(Code::DocType, "title is no string").at("title")),
        })
        .down(|doc, _, _| {
            doc.rename("name", "title");
            Ok(())
        })
        .into_version(2, "name");
    let v3 = NativeVersion::new("3")
        .up(|doc, _| {
            let dropped = doc.take("n").map_err(DocError::from)?;
            doc.set("meta", Value::Map(Map::new()));
            Ok(dropped
                .map(|n| Map::from_iter([("n".to_owned(), n)]))
                .unwrap_or_default())
        })
        .down(|doc, complement, _| {
            doc.remove("meta");
            let n = complement.and_then(|c| c.get("n")).cloned();
            doc.set("n", n.unwrap_or(Value::Int(-1)));
            Ok(())
        })
        .into_version(3, "meta");
    Schema::new(collection, "_schemaVersion", vec![v1, v2, v3]).expect("the versions have no gap")
}

pub fn upgrade(place: &Place, to: u32) -> UpgradeJob {
    UpgradeJob {
        place: place.clone(),
        schema: schema(&place.collection),
        to,
        key: None,
        options: options(),
    }
}

pub fn conversation(i: usize) -> (Key, String) {
    let json = format!(
        r#"{{"title": "chat {i}",  "n": {i}, "text": "hello \u00e9 {i}", "big": 12345678901234567890}}"#
    );
    (Key::text(format!("c{i:05}")), json)
}

/// The PostgreSQL that `cargo xtask test` starts. Without it the test fails, unless it was said that no
/// server is there.
pub fn postgres() -> Option<String> {
    server("WHIMBREL_TEST_POSTGRES")
}

/// What `psql` prints for `sql`, without headings.
pub fn psql(url: &str, sql: &str) -> String {
    let output = Command::new("psql")
        .args([url, "-qAtX", "-v", "ON_ERROR_STOP=1", "-c", sql])
        .output()
        .expect("psql runs");
    assert!(
        output.status.success(),
        "{sql}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A PostgreSQL schema of a test's own. It goes when the test ends, however it ends.
pub struct Stage {
    pub url: String,
    pub schema: String,
}

impl Stage {
    /// `None` where there is no server.
    pub fn new(name: &str) -> Option<Self> {
        let url = postgres()?;
        let schema = format!("{name}_{}", std::process::id());
        psql(&url, &format!("CREATE SCHEMA {schema}"));
        Some(Self { url, schema })
    }

    /// The server, with these collections (and the copies' provenance) in the test's schema. Its
    /// connections are called like the schema.
    pub async fn store(&self, collections: &[&str]) -> Arc<dyn Store> {
        let config = |name: &&str| {
            let config = CollectionConfig {
                table: Some(format!("{}.{name}", self.schema)),
                ..CollectionConfig::default()
            };
            ((*name).to_owned(), config)
        };
        let options = OpenOptions {
            collections: collections
                .iter()
                .chain(&[PROVENANCE])
                .map(config)
                .collect(),
            ..OpenOptions::default()
        };
        let mark = if self.url.contains('?') { '&' } else { '?' };
        let url = format!("{}{mark}application_name={}", self.url, self.schema);
        open(&url, &options).await.expect("the server answers")
    }

    pub fn sql(&self, sql: &str) -> String {
        psql(
            &self.url,
            &format!("SET search_path = {}; {sql}", self.schema),
        )
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let sql = format!("DROP SCHEMA IF EXISTS {} CASCADE", self.schema);
        let _ = Command::new("psql")
            .args([&self.url, "-qX", "-c", &sql])
            .output();
    }
}
