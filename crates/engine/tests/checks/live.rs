//! Writers at work while documents are compared with one another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use whimbrel_model::store::Description;
use whimbrel_model::{
    Body, Document, Guard, Key, KeyKind, KeyRange, Limits, Page, Store, StoreError, Write,
    WriteOutcome,
};

use super::project::{On, Project, failing};

/// Writes just after the first lookup in a collection.
#[derive(Debug)]
struct Meanwhile {
    inner: Arc<dyn Store>,
    writes: Vec<Write>,
    after_get_of: &'static str,
    done: AtomicBool,
}

#[async_trait]
impl Store for Meanwhile {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    async fn collections(&self) -> Result<Vec<String>, StoreError> {
        self.inner.collections().await
    }

    async fn describe(&self, collection: &str) -> Result<Option<Description>, StoreError> {
        self.inner.describe(collection).await
    }

    async fn ensure(&self, collection: &str, key: &KeyKind) -> Result<(), StoreError> {
        self.inner.ensure(collection, key).await
    }

    async fn count(&self, collection: &str, range: &KeyRange) -> Result<u64, StoreError> {
        self.inner.count(collection, range).await
    }

    async fn partitions(
        &self,
        collection: &str,
        range: &KeyRange,
        _parts: u32,
    ) -> Result<Vec<KeyRange>, StoreError> {
        // One page sees all documents before it looks anything up.
        self.inner.partitions(collection, range, 1).await
    }

    async fn scan(
        &self,
        collection: &str,
        range: &KeyRange,
        limit: u32,
        bytes: usize,
    ) -> Result<Page, StoreError> {
        self.inner.scan(collection, range, limit, bytes).await
    }

    async fn get(
        &self,
        collection: &str,
        keys: &[Key],
    ) -> Result<Vec<Option<Document>>, StoreError> {
        let found = self.inner.get(collection, keys).await;
        if collection == self.after_get_of && !self.done.swap(true, Ordering::SeqCst) {
            self.inner.write(&self.writes).await?;
        }
        found
    }

    async fn write(&self, writes: &[Write]) -> Result<Vec<WriteOutcome>, StoreError> {
        self.inner.write(writes).await
    }
}

fn write(collection: &str, key: &str, json: Option<&str>) -> Write {
    Write {
        collection: collection.to_owned(),
        key: Key::text(key),
        to: json.map(|json| Body::from_json(json.to_owned())),
        guard: Guard::Any,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_that_is_met_meanwhile_is_no_finding() {
    for on in [On::Memory, On::Sqlite] {
        let mut project = Project::new(on).await;
        project
            .put(
                "app/docs",
                &[
                    ("late parent", r#"{"conv": "c1"}"#),
                    ("deleted", r#"{"conv": "c2"}"#),
                    ("moved", r#"{"conv": "c3"}"#),
                    ("lost", r#"{"conv": "c4"}"#),
                    ("well", r#"{"conv": "c5"}"#),
                ],
            )
            .await;
        project.put("app/convs", &[("c5", "{}")]).await;
        let inner = Arc::clone(&project.stores[0].1);
        project.stores[0].1 = Arc::new(Meanwhile {
            inner,
            writes: vec![
                write("convs", "c1", Some("{}")),
                write("docs", "deleted", None),
                write("docs", "moved", Some(r#"{"conv": "c5"}"#)),
            ],
            after_get_of: "convs",
            done: AtomicBool::new(false),
        });
        let result = project
            .one(r#"reference = { field = "conv", to = "app/convs" }"#)
            .await;
        assert_eq!(failing(&result), ["lost conv"], "{on:?} {result:#?}");
        assert_eq!(result.failed, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_that_is_mended_meanwhile_is_no_finding() {
    for on in [On::Memory, On::Sqlite] {
        let mut project = Project::new(on).await;
        project
            .put(
                "app/docs",
                &[
                    ("a", r#"{"mail": "x", "conv": "c1"}"#),
                    ("b", r#"{"mail": "x", "conv": "c1"}"#),
                    ("c", r#"{"mail": "y", "conv": "c1"}"#),
                    ("d", r#"{"mail": "y", "conv": "c1"}"#),
                    ("e", r#"{"mail": "y", "conv": "c1"}"#),
                ],
            )
            .await;
        project.put("app/convs", &[("c1", "{}")]).await;
        let inner = Arc::clone(&project.stores[0].1);
        // The reference is looked up while the pass goes on: what it wrote is there when the pass is over.
        project.stores[0].1 = Arc::new(Meanwhile {
            inner,
            writes: vec![
                write("docs", "a", Some(r#"{"mail": "z"}"#)),
                write("docs", "d", None),
            ],
            after_get_of: "convs",
            done: AtomicBool::new(false),
        });
        let text = r#"
            [[check]]
            name = "mails"
            collection = "app/docs"
            unique = ["mail"]
            [[check]]
            name = "convs"
            collection = "app/docs"
            reference = { field = "conv", to = "app/convs" }
        "#;
        let results = project.check(text).await;
        let found = failing(&results[0]);
        assert_eq!(found, ["c mail", "e mail"], "{on:?} {:#?}", results[0]);
        assert_eq!(results[0].measured["values had twice"], "1");
    }
}
