//! PostgreSQL as a subject: a schema of its own for each test, found by the search path.

use super::subject::{COLLECTIONS, Subject, id_fields, kind_of, no_fields, open, server};
use std::sync::atomic::{AtomicU32, Ordering};
use tokio_postgres::{Client, NoTls};
use whimbrel_model::KeyKind;
use whimbrel_stores::{CollectionConfig, LayoutChoice, OpenOptions};

/// A schema that is dropped with the test.
pub struct Schema {
    name: String,
    /// Opens stores whose unqualified names are this schema's tables.
    pub url: String,
    server: String,
}

fn unique() -> String {
    static USED: AtomicU32 = AtomicU32::new(0);
    let number = USED.fetch_add(1, Ordering::Relaxed);
    format!("whimbrel_test_{}_{number}", std::process::id())
}

impl Schema {
    pub async fn create(server: String) -> Self {
        let name = unique();
        let mark = if server.contains('?') { '&' } else { '?' };
        let schema = Self {
            url: format!("{server}{mark}options=-csearch_path%3D{name}"),
            server,
            name,
        };
        let name = &schema.name;
        let sql = format!("DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}");
        schema.client().await.batch_execute(&sql).await.unwrap();
        schema
    }

    /// A connection of the test's own, as an app would have one.
    pub async fn client(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.server, NoTls).await.unwrap();
        tokio::spawn(connection);
        let sql = format!("SET search_path = {}", self.name);
        client.batch_execute(&sql).await.unwrap();
        client
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // The test's own runtime may be on its way down.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let (client, connection) = tokio_postgres::connect(&server, NoTls).await.unwrap();
                tokio::spawn(connection);
                let sql = format!("SET lock_timeout = '5s'; DROP SCHEMA {name} CASCADE");
                if let Err(error) = client.batch_execute(&sql).await {
                    println!("schema {name} is left behind: {error}");
                }
            });
        });
        let _ = dropping.join();
    }
}

pub async fn json() -> Option<Subject> {
    let schema = Schema::create(server("WHIMBREL_TEST_POSTGRES")?).await;
    let url = schema.url.clone();
    Some(open(url, OpenOptions::default(), no_fields, Some(Box::new(schema))).await)
}

/// Tables of an app: columns for some fields and one for the rest.
pub async fn columns() -> Option<Subject> {
    let config = CollectionConfig {
        layout: LayoutChoice::Columns,
        rest: Some("rest".into()),
        ..CollectionConfig::default()
    };
    prepared(&config, "n bigint, rest jsonb", id_fields, "C").await
}

/// Tables of an app: a `json` column, and texts sorted by a language.
pub async fn app() -> Option<Subject> {
    let config = CollectionConfig {
        data: Some("the \"doc\"".into()),
        ..CollectionConfig::default()
    };
    let columns = "\"the \"\"doc\"\"\" json, changed_at timestamptz DEFAULT now()";
    prepared(&config, columns, no_fields, "en-x-icu").await
}

async fn prepared(
    config: &CollectionConfig,
    columns: &str,
    key_fields: fn(&str) -> Vec<String>,
    collation: &str,
) -> Option<Subject> {
    let schema = Schema::create(server("WHIMBREL_TEST_POSTGRES")?).await;
    let client = schema.client().await;
    let mut options = OpenOptions::default();
    for collection in COLLECTIONS {
        let text = format!("text COLLATE \"{collation}\"");
        let (key, primary) = match kind_of(collection) {
            KeyKind::Int => ("id bigint".to_owned(), "id"),
            KeyKind::Uuid => ("id uuid".to_owned(), "id"),
            KeyKind::Text => (format!("id {text}"), "id"),
            KeyKind::Tuple(_) => (format!("id2 bigint, id1 {text}"), "id1, id2"),
        };
        let table = format!("\"app \"\"{collection}\"");
        let sql = format!("CREATE TABLE {table} ({key}, {columns}, PRIMARY KEY ({primary}))");
        client.batch_execute(&sql).await.unwrap();
        let config = CollectionConfig {
            table: Some(format!("app \"{collection}")),
            ..config.clone()
        };
        options.collections.insert(collection.to_owned(), config);
    }
    Some(open(schema.url.clone(), options, key_fields, Some(Box::new(schema))).await)
}

/// Over TLS, with tables of names of their own.
pub async fn tls() -> Option<Subject> {
    let url = server("WHIMBREL_TEST_POSTGRES_TLS")?;
    let mut options = OpenOptions::default();
    for collection in COLLECTIONS {
        let config = CollectionConfig {
            table: Some(format!("{}_{collection}", unique())),
            ..CollectionConfig::default()
        };
        options.collections.insert(collection.to_owned(), config);
    }
    Some(open(url, options, no_fields, None).await)
}
