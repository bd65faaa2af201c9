//! A relational database's tables, copied from SQLite to PostgreSQL with every foreign key intact: the
//! target's own constraints judge.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{dump, engine, place, store};
use whimbrel_engine::{CopyJob, JobOptions};
use whimbrel_model::Body;
use whimbrel_model::store::Layout;
use whimbrel_stores::{CollectionConfig, LayoutChoice, OpenOptions, open};
use whimbrel_transform::{ScriptLimits, parse_rules};

/// A table after those that it refers to.
const TABLES: [&str; 11] = [
    "Artist",
    "Album",
    "Employee",
    "Customer",
    "Genre",
    "Invoice",
    "MediaType",
    "Track",
    "InvoiceLine",
    "Playlist",
    "PlaylistTrack",
];

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/chinook")
        .join(name)
}

/// `BillingPostalCode` → `billing_postal_code`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for (i, c) in name.chars().enumerate() {
        if c.is_ascii_uppercase() && i > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

fn psql(url: &str, sql: &str) -> String {
    let output = Command::new("psql")
        .args([url, "-qAtX", "-v", "ON_ERROR_STOP=1", "-c", sql])
        .output()
        .expect("psql runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_arrives_with_its_foreign_keys() {
    let Some(url) = common::postgres() else {
        return;
    };
    let Ok(script) = std::fs::read_to_string(data("Chinook_PostgreSql.sql")) else {
        println!("SKIPPED Chinook: {} is not there", data("").display());
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(data("Chinook_Sqlite.sqlite"), dir.path().join("chinook.db")).unwrap();
    let schema = format!("chinook_{}", std::process::id());
    // Tables, keys and foreign keys; the rows are what is to be copied.
    let tables: String = script
        .split_inclusive(";\n")
        .filter(|statement| statement.contains("CREATE TABLE") || statement.contains("ALTER TABLE"))
        .collect();
    psql(
        &url,
        &format!("CREATE SCHEMA {schema}; SET search_path = {schema}; {tables}"),
    );

    let source = store(&format!(
        "sqlite:{}",
        dir.path().join("chinook.db").display()
    ))
    .await;
    let mut collections = BTreeMap::new();
    for table in TABLES {
        let config = CollectionConfig {
            table: Some(format!("{schema}.{}", snake(table))),
            layout: LayoutChoice::Columns,
            ..CollectionConfig::default()
        };
        collections.insert(snake(table), config);
    }
    let options = OpenOptions {
        collections,
        ..OpenOptions::default()
    };
    let target = open(&url, &options).await.unwrap();
    let engine = engine(dir.path()).await;
    let mut rows = 0;
    for table in TABLES {
        let layout = source.describe(table).await.unwrap().unwrap().layout;
        let Layout::Columns(columns) = layout else {
            panic!("{table} has columns")
        };
        let renames: Vec<String> = columns
            .iter()
            .map(|c| {
                format!(
                    "{{ op = \"rename\", from = {:?}, to = {:?} }}",
                    c.name,
                    snake(&c.name)
                )
            })
            .collect();
        let text = format!(
            "[[rule]]\nname = \"{table}\"\ndo = [{}]\n",
            renames.join(", ")
        );
        let rules =
            parse_rules("chinook.toml", &text, dir.path(), ScriptLimits::default()).unwrap();
        let job = CopyJob {
            source: place(&source, "app", table),
            target: place(&target, "pg", &snake(table)),
            rule: rules.rules[0].clone(),
            schema: None,
            scratch: None,
            options: JobOptions::default(),
        };
        let first = engine.copy(job.clone()).await.unwrap().counts;
        let waiting = engine.quarantined(None, None, 3).await.unwrap();
        assert_eq!(
            (first.quarantined, first.written),
            (0, first.enumerated),
            "{table}: {waiting:?}"
        );
        let again = engine.copy(job).await.unwrap().counts;
        assert_eq!(
            (again.written, again.unchanged),
            (0, first.enumerated),
            "{table} again"
        );
        rows += first.enumerated;
        let count = psql(
            &url,
            &format!("SELECT count(*) FROM {schema}.{}", snake(table)),
        );
        assert_eq!(count, first.enumerated.to_string(), "{table}");
    }
    assert_eq!(rows, 15_607);
    // Money arrives to the cent, and nothing but null is null.
    let total = psql(&url, &format!("SELECT sum(total) FROM {schema}.invoice"));
    assert_eq!(total, "2328.60");
    let composers = psql(
        &url,
        &format!("SELECT count(*) FROM {schema}.track WHERE composer IS NULL"),
    );
    let nulls = dump(&source, "Track")
        .await
        .into_iter()
        .filter(|(_, json)| {
            let body = Body::from_json(json.clone().into_bytes());
            body.map().unwrap().get("Composer") == Some(&whimbrel_model::Value::Null)
        })
        .count();
    assert_eq!(composers, nulls.to_string());
    psql(&url, &format!("DROP SCHEMA {schema} CASCADE"));
}
