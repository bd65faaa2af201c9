//! PostgreSQL as a subject.

use super::servers::{Schema, server, unique};
use super::subject::{COLLECTIONS, Subject, id_fields, kind_of, no_fields, open};
use whimbrel_model::KeyKind;
use whimbrel_stores::{CollectionConfig, LayoutChoice, OpenOptions};

pub async fn json() -> Option<Subject> {
    let schema = Schema::create(server("WHIMBREL_TEST_POSTGRES")?).await;
    let url = schema.url.clone();
    Some(
        open(
            url,
            OpenOptions::default(),
            no_fields,
            Some(Box::new(schema)),
        )
        .await,
    )
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
    Some(
        open(
            schema.url.clone(),
            options,
            key_fields,
            Some(Box::new(schema)),
        )
        .await,
    )
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
