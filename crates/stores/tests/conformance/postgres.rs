//! PostgreSQL as a subject.

use super::subject::{
    COLLECTIONS, Subject, TYPED, id_fields, kind_of, no_fields, open, type_columns,
};
use whimbrel_model::{Decimal, KeyKind, Timestamp, Value};
use whimbrel_stores::{CollectionConfig, LayoutChoice, OpenOptions};
use whimbrel_testkit::servers::{Schema, server, unique};

pub async fn json() -> Option<Subject> {
    let schema = Schema::create().await?;
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
    let (schema, mut options) = prepare(&config, "n bigint, rest jsonb", "C").await?;
    let typed = types();
    let sql = format!(
        "CREATE TYPE mood AS ENUM ('happy', 'sad'); CREATE DOMAIN short AS varchar(3); \
         CREATE TYPE pair AS (n int, t text); \
         CREATE TABLE {TYPED} (id text COLLATE \"C\" PRIMARY KEY, {})",
        type_columns(&typed)
    );
    schema.client().await.batch_execute(&sql).await.unwrap();
    let config = CollectionConfig {
        layout: LayoutChoice::Columns,
        ..CollectionConfig::default()
    };
    options.collections.insert(TYPED.to_owned(), config);
    let url = schema.url.clone();
    let mut subject = open(url, options, id_fields, Some(Box::new(schema))).await;
    subject.typed = typed;
    Some(subject)
}

/// Values in other forms than the server's own.
fn types() -> Vec<(&'static str, Vec<Value>)> {
    let text = |s: &str| Value::String(s.into());
    let texts = |all: &[&str]| all.iter().map(|s| text(s)).collect::<Vec<_>>();
    let decimal = |s: &str| Value::Decimal(Decimal::new(s).unwrap());
    let list = |items: Vec<Value>| Value::Array(items);
    let at = |s: &str| Value::Timestamp(Timestamp::parse(s).unwrap());
    let map = |name: &str, value| Value::Map([(name.to_owned(), value)].into_iter().collect());
    vec![
        ("bool", vec![Value::Bool(true)]),
        ("int2", vec![Value::Int(-7)]),
        ("int8", vec![Value::Int(i64::MIN)]),
        (
            "float4",
            vec![Value::Int(3), Value::Double(0.5), Value::Double(f64::NAN)],
        ),
        (
            "float8",
            vec![Value::Int(-3), Value::Double(-0.0), Value::Double(5e-324)],
        ),
        (
            "numeric",
            vec![
                Value::Int(7),
                Value::Double(f64::NEG_INFINITY),
                decimal("1E-3"),
                Value::Double(1e21),
            ],
        ),
        (
            "numeric(10,2)",
            vec![
                Value::Int(5),
                Value::Double(0.9),
                decimal("0.90"),
                decimal("1e1"),
            ],
        ),
        (
            "numeric(10,0)",
            vec![
                Value::Int(5),
                Value::Double(7.0),
                decimal("7.0"),
                decimal("1e2"),
            ],
        ),
        ("numeric(4,-2)", vec![Value::Int(1200), decimal("12e2")]),
        ("text", texts(&["", "{}", " x "])),
        ("varchar(5)", texts(&["ab   ", "äöüäö"])),
        ("char(5)", texts(&["ab", " b"])),
        ("char(5)[]", vec![list(texts(&["ab", ""]))]),
        ("bytea", vec![Value::Bytes(vec![0, 255, 92])]),
        (
            "timestamp",
            texts(&[
                "2002-08-14 00:00:00",
                "2002-08-14T00:00:00.500",
                "2002-08-14",
                "14 Aug 2002 08:00",
                "2002-08-14T08:00:00Z",
                "2002-08-14 24:00:00",
                "0044-03-15 00:00:00 BC",
                "infinity",
            ]),
        ),
        ("timestamp(0)", texts(&["2002-08-14 08:00:00.000"])),
        (
            "timestamp[]",
            vec![list(texts(&["2002-08-14 00:00:00", "2002-08-14"]))],
        ),
        (
            "timestamptz",
            vec![
                at("2026-01-31T08:00:00.5Z"),
                text("infinity"),
                text(" -infinity"),
            ],
        ),
        ("date", texts(&["2002-08-14", "Aug 14, 2002"])),
        ("time", texts(&["8:30", "08:30:00.100"])),
        ("timetz", texts(&["08:30+1"])),
        ("interval", texts(&["36 hours", "1 mon -1 day"])),
        ("interval(0)", texts(&["1.5 seconds"])),
        ("interval(0)[]", vec![list(texts(&["1.5 seconds"]))]),
        (
            "uuid",
            texts(&[
                "6BA7B810-9DAD-11D1-80B4-00C04FD430C8",
                "{6ba7b8109dad11d180b400c04fd430c8}",
            ]),
        ),
        ("inet", texts(&["10.0.0.1/32", "::FFFF"])),
        ("macaddr", texts(&["08002b010203"])),
        ("money", texts(&["12.5", "$1,234.567"])),
        ("bit(3)", texts(&["101"])),
        ("int4range", texts(&["[1,4]"])),
        ("point", texts(&["1, 2.50"])),
        ("tsvector", texts(&["b a"])),
        ("mood", texts(&["happy"])),
        ("mood[]", texts(&["{sad, happy}"])),
        ("short", texts(&["abc"])),
        ("pair", texts(&["( 1,x)"])),
        (
            "json",
            vec![map("a", Value::Double(1e300)), text("x"), Value::Int(1)],
        ),
        (
            "jsonb",
            vec![
                map("a", Value::Double(1e300)),
                Value::Double(-0.0),
                at("2026-01-31T08:00:00Z"),
            ],
        ),
        (
            "jsonb[]",
            vec![list(vec![list(vec![Value::Int(1)]), Value::Null])],
        ),
        (
            "int4[]",
            vec![
                list(vec![]),
                list(vec![Value::Int(1), Value::Null]),
                list(vec![list(vec![Value::Int(1)]), list(vec![Value::Int(2)])]),
                text("[2:3]={1,2}"),
                text("{1, 2}"),
            ],
        ),
        (
            "text[]",
            vec![list(texts(&["a,b", "NULL", ""])), text("{ a , b }")],
        ),
        ("box[]", texts(&["{(0,0),(1,1);(1,1),(0,0)}"])),
    ]
}

/// Tables of an app: a `json` column, and texts sorted by a language.
pub async fn app() -> Option<Subject> {
    let config = CollectionConfig {
        data: Some("the \"doc\"".into()),
        ..CollectionConfig::default()
    };
    let columns = "\"the \"\"doc\"\"\" json, changed_at timestamptz DEFAULT now()";
    let (schema, options) = prepare(&config, columns, "en-x-icu").await?;
    let url = schema.url.clone();
    Some(open(url, options, no_fields, Some(Box::new(schema))).await)
}

async fn prepare(
    config: &CollectionConfig,
    columns: &str,
    collation: &str,
) -> Option<(Schema, OpenOptions)> {
    let schema = Schema::create().await?;
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
    Some((schema, options))
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
