//! A schema with an app's tables, and the store on it.

use std::sync::Arc;
use tokio_postgres::Client;
use whimbrel_model::{
    Body, Document, Guard, Key, KeyRange, Map, Store, StoreError, Value, Write, WriteOutcome,
};
use whimbrel_stores::OpenOptions;
use whimbrel_testkit::servers::Schema;

pub struct Stage {
    pub app: Client,
    pub schema: Schema,
}

impl Stage {
    /// Runs `sql` as the app would.
    pub async fn new(sql: &str) -> Option<Self> {
        let schema = Schema::create().await?;
        let app = schema.client().await;
        app.batch_execute(sql).await.unwrap();
        Some(Self { app, schema })
    }

    pub async fn store(&self) -> Arc<dyn Store> {
        self.open(&OpenOptions::default()).await.unwrap()
    }

    pub async fn open(&self, options: &OpenOptions) -> Result<Arc<dyn Store>, StoreError> {
        whimbrel_stores::open(&self.schema.url, options).await
    }

    pub async fn text(&self, sql: &str) -> String {
        self.app.query_one(sql, &[]).await.unwrap().get(0)
    }

    pub async fn number(&self, sql: &str) -> i64 {
        self.app.query_one(sql, &[]).await.unwrap().get(0)
    }
}

pub fn put(collection: &str, key: impl Into<Key>, json: &str, guard: Guard) -> Write {
    Write {
        collection: collection.to_owned(),
        key: key.into(),
        to: Some(Body::from_json(json.as_bytes().to_vec())),
        guard,
    }
}

pub fn put_map(collection: &str, key: impl Into<Key>, fields: &[(&str, Value)]) -> Write {
    let map: Map = fields
        .iter()
        .map(|(k, v)| ((*k).to_owned(), v.clone()))
        .collect();
    Write {
        collection: collection.to_owned(),
        key: key.into(),
        to: Some(Body::Map(map)),
        guard: Guard::Any,
    }
}

pub async fn get(store: &dyn Store, collection: &str, key: impl Into<Key>) -> Document {
    let found = store.get(collection, &[key.into()]).await.unwrap();
    found
        .into_iter()
        .next()
        .unwrap()
        .expect("the document is there")
}

pub async fn one(store: &dyn Store, write: Write) -> WriteOutcome {
    store.write(&[write]).await.unwrap().remove(0)
}

pub async fn scan_all(store: &dyn Store, collection: &str, limit: u32) -> Vec<Document> {
    let mut all = Vec::new();
    let mut range = KeyRange::all();
    loop {
        let page = store
            .scan(collection, &range, limit, 1 << 20)
            .await
            .unwrap();
        assert_eq!(page.rejects, []);
        if page.documents.is_empty() {
            return all;
        }
        range = range.resumed_after(page.last.as_ref());
        all.extend(page.documents);
    }
}

/// The message of a refusal.
pub fn refusal(outcome: &WriteOutcome) -> &str {
    match outcome {
        WriteOutcome::Refused(refusal) => &refusal.message,
        other => panic!("{other:?} is no refusal"),
    }
}
