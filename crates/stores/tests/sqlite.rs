//! What only SQLite does: files that an app is using, tables as apps make them.
#![cfg(feature = "sqlite")]

#[path = "sqlite/columns.rs"]
mod columns;
#[path = "sqlite/keys.rs"]
mod keys;
#[path = "sqlite/live.rs"]
mod live;
#[path = "sqlite/positions.rs"]
mod positions;
#[path = "sqlite/tables.rs"]
mod tables;

use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use whimbrel_model::store::{Column, Layout};
use whimbrel_model::{
    Body, Code, Decimal, Document, Guard, Key, KeyKind, KeyRange, Map, Page, Reject, Store,
    StoreErrorKind, Timestamp, Value, Write, WriteOutcome,
};
use whimbrel_stores::{CollectionConfig, LayoutChoice, OpenOptions};

struct App {
    connection: Connection,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

/// An app's database, made by the app itself.
fn app(sql: &str) -> App {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(sql).unwrap();
    App {
        connection,
        path,
        _directory: directory,
    }
}

async fn open_with(path: &Path, config: Option<CollectionConfig>) -> Arc<dyn Store> {
    let mut options = OpenOptions::default();
    if let Some(config) = config {
        options.collections.insert("c".into(), config);
    }
    let url = format!("sqlite:{}", path.display());
    whimbrel_stores::open(&url, &options).await.unwrap()
}

impl App {
    async fn open(&self) -> Arc<dyn Store> {
        open_with(&self.path, None).await
    }

    fn text(&self, sql: &str) -> String {
        self.connection.query_row(sql, [], |r| r.get(0)).unwrap()
    }

    fn number(&self, sql: &str) -> i64 {
        self.connection.query_row(sql, [], |r| r.get(0)).unwrap()
    }
}

fn write(key: impl Into<Key>, json: &str, guard: Guard) -> Write {
    Write {
        collection: "c".into(),
        key: key.into(),
        to: Some(Body::from_json(json.to_owned())),
        guard,
    }
}

fn map(fields: &[(&str, Value)]) -> Map {
    fields
        .iter()
        .map(|(k, v)| ((*k).to_owned(), v.clone()))
        .collect()
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

async fn one(store: &dyn Store, key: impl Into<Key>) -> Document {
    store
        .get("c", &[key.into()])
        .await
        .unwrap()
        .remove(0)
        .unwrap()
}

/// Every page of a collection, as an engine would read them.
async fn pages(store: &dyn Store, range: &KeyRange, limit: u32) -> (Vec<Document>, Vec<Reject>) {
    let (mut documents, mut rejects, mut last) = (Vec::new(), Vec::new(), None);
    loop {
        let rest = range.resumed_after(last.as_ref());
        let page: Page = store.scan("c", &rest, limit, 1 << 20).await.unwrap();
        documents.extend(page.documents);
        let found = !page.rejects.is_empty();
        rejects.extend(page.rejects);
        if page.last.is_none() {
            return (documents, rejects);
        }
        assert!(page.last != last || found, "the scan does not get on");
        last = page.last;
    }
}
