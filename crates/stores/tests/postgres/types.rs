//! Columns of every type, read as values and written back the same.

use super::stage::{Stage, get, one, put, put_map, refusal, scan_all};
use whimbrel_model::{Decimal, Guard, Key, KeyKind, Timestamp, Value, Write, WriteOutcome};
use whimbrel_stores::{CollectionConfig, LayoutChoice, OpenOptions};

/// Column type, an SQL literal, and the value that it is.
fn cells() -> Vec<(&'static str, &'static str, Value)> {
    let text = |s: &str| Value::String(s.into());
    let decimal = |s: &str| Value::Decimal(Decimal::new(s).unwrap());
    let array = |items: &[Value]| Value::Array(items.to_vec());
    let at = |s: &str| Value::Timestamp(Timestamp::parse(s).unwrap());
    vec![
        ("bool", "true", Value::Bool(true)),
        ("int2", "-32768", Value::Int(-32768)),
        ("int4", "2147483647", Value::Int(2_147_483_647)),
        ("int8", "-9223372036854775808", Value::Int(i64::MIN)),
        ("float4", "0.1", Value::Double(f64::from(0.1f32))),
        ("float8", "0.1", Value::Double(0.1)),
        ("float8", "'-0'", Value::Double(-0.0)),
        ("float8", "'NaN'", Value::Double(f64::NAN)),
        ("float8", "'-Infinity'", Value::Double(f64::NEG_INFINITY)),
        ("float8", "5e-324", Value::Double(5e-324)),
        (
            "numeric",
            "12345678901234567890.50",
            decimal("12345678901234567890.50"),
        ),
        ("numeric", "'NaN'", Value::Double(f64::NAN)),
        ("numeric(10,2)", "0.99", decimal("0.99")),
        ("numeric(10,0)", "7", Value::Int(7)),
        ("numeric(30,0)", "7", decimal("7")),
        ("numeric(4,-2)", "1200", decimal("1200")),
        (
            "text",
            "E'tab\\t\\\\N \"quote\" ü'",
            text("tab\t\\N \"quote\" ü"),
        ),
        ("text", "''", text("")),
        ("varchar(5)", "'abcde'", text("abcde")),
        ("char(5)", "'ab'", text("ab")),
        ("char(5)[]", "'{ab}'", array(&[text("ab")])),
        ("name", "'n'", text("n")),
        ("bytea", "'\\x00ff5c'", Value::Bytes(vec![0, 255, 92])),
        ("bytea", "''", Value::Bytes(vec![])),
        (
            "timestamptz",
            "'2026-01-31 08:00:00.5+02'",
            at("2026-01-31T06:00:00.5Z"),
        ),
        (
            "timestamptz",
            "'0044-03-15 BC'",
            Value::Timestamp(Timestamp::new(-63_517_824_000, 0).unwrap()),
        ),
        ("timestamptz", "'infinity'", text("infinity")),
        (
            "timestamptz(0)",
            "'2026-01-31 08:00:00+00'",
            at("2026-01-31T08:00:00Z"),
        ),
        (
            "timestamp",
            "'2026-01-31 08:00:00.25'",
            text("2026-01-31T08:00:00.25"),
        ),
        ("timestamp", "'-infinity'", text("-infinity")),
        ("date", "'2026-02-28'", text("2026-02-28")),
        ("time", "'08:30'", text("08:30:00")),
        ("timetz", "'08:30+01'", text("08:30:00+01")),
        ("interval", "'1 day 2 hours'", text("1 day 02:00:00")),
        (
            "uuid",
            "'6ba7b810-9dad-11d1-80b4-00c04fd430c8'",
            text("6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
        ),
        ("inet", "'10.0.0.0/8'", text("10.0.0.0/8")),
        ("mood", "'so \"so\"'", text("so \"so\"")),
        ("short", "'abc'", text("abc")),
        ("pair", "'(1,\"a b\")'", text("(1,\"a b\")")),
        ("bit(3)", "B'101'", text("101")),
        ("int4range", "'[1,5)'", text("[1,5)")),
        ("point", "'(1,2)'", text("(1,2)")),
        (
            "jsonb",
            "'{\"b\":[1,2.5,null],\"a\":{\"$timestamp\":\"2026-01-31T08:00:00Z\"}}'",
            Value::Map(
                [
                    (
                        "b".to_owned(),
                        array(&[Value::Int(1), Value::Double(2.5), Value::Null]),
                    ),
                    ("a".to_owned(), at("2026-01-31T08:00:00Z")),
                ]
                .into_iter()
                .collect(),
            ),
        ),
        ("json", "'[\"\\u0000\"]'", array(&[text("\0")])),
        (
            "int4[]",
            "'{1,NULL,3}'",
            array(&[Value::Int(1), Value::Null, Value::Int(3)]),
        ),
        ("int4[]", "'{}'", array(&[])),
        ("int4[]", "'[2:3]={1,2}'", text("[2:3]={1,2}")),
        (
            "text[]",
            "ARRAY['a,b','NULL','{\"x\\y}',NULL,'']",
            array(&[
                text("a,b"),
                text("NULL"),
                text("{\"x\\y}"),
                Value::Null,
                text(""),
            ]),
        ),
        (
            "int8[]",
            "'{{1,2},{3,4}}'",
            array(&[
                array(&[Value::Int(1), Value::Int(2)]),
                array(&[Value::Int(3), Value::Int(4)]),
            ]),
        ),
        (
            "jsonb[]",
            "ARRAY['[1]'::jsonb,'{}']",
            array(&[array(&[Value::Int(1)]), Value::Map(Default::default())]),
        ),
        (
            "bytea[]",
            "ARRAY['\\x01'::bytea]",
            array(&[Value::Bytes(vec![1])]),
        ),
        (
            "timestamptz[]",
            "ARRAY['2026-01-31 08:00+00'::timestamptz]",
            array(&[at("2026-01-31T08:00:00Z")]),
        ),
        ("numeric(6,2)[]", "'{1.50}'", array(&[decimal("1.50")])),
        ("box[]", "'{(1,1),(0,0)}'", text("{(1,1),(0,0)}")),
        ("text", "NULL", Value::Null),
    ]
}

const TYPES: &str = "CREATE TYPE mood AS ENUM ('happy', 'so \"so\"'); \
    CREATE DOMAIN short AS varchar(3) CHECK (value <> 'bad'); CREATE TYPE pair AS (n int, t text);";

/// Through single statements and through COPY, and by the server's own comparison.
#[tokio::test(flavor = "multi_thread")]
async fn every_type_survives() {
    let cells = cells();
    let columns: Vec<String> = cells
        .iter()
        .enumerate()
        .map(|(i, (kind, ..))| format!("\"c {i}\" {kind}"))
        .collect();
    let literals: Vec<&str> = cells.iter().map(|(_, literal, _)| *literal).collect();
    let sql = format!(
        "{TYPES} CREATE TABLE source (id int PRIMARY KEY, {}, twice int GENERATED ALWAYS AS (id * 2) STORED); \
         CREATE TABLE target (LIKE source INCLUDING ALL); \
         INSERT INTO source SELECT g, {} FROM generate_series(1, 30) g",
        columns.join(", "),
        literals.join(", ")
    );
    let Some(stage) = Stage::new(&sql).await else {
        return;
    };
    let store = stage.store().await;
    let document = get(&*store, "source", 1).await;
    let map = document.body.map().unwrap();
    assert_eq!(
        map.get("id"),
        Some(&Value::Int(1)),
        "the key is a field, too"
    );
    for (i, (kind, literal, expect)) in cells.iter().enumerate() {
        assert_eq!(map.get(&format!("c {i}")), Some(expect), "{kind} {literal}");
    }
    assert_eq!(map.len(), cells.len() + 1, "a generated column is no field");

    let write = |document: whimbrel_model::Document, guard| Write {
        collection: "target".to_owned(),
        key: document.key,
        to: Some(document.body),
        guard,
    };
    // How many rows are the same, and the columns that differ in any.
    let differing: Vec<String> = (0..cells.len())
        .map(|i| format!("CASE WHEN bool_or(s.\"c {i}\"::text IS DISTINCT FROM t.\"c {i}\"::text) THEN 'c {i} ' END"))
        .collect();
    let same = format!(
        "SELECT concat(count(*) FILTER (WHERE s::text = t::text), ' ', {}) \
         FROM source s JOIN target t USING (id)",
        differing.join(", ")
    );
    let documents = scan_all(&*store, "source", 7).await;
    let copied: Vec<Write> = documents
        .iter()
        .map(|d| write(d.clone(), Guard::Absent))
        .collect();
    assert_eq!(
        store.write(&copied).await.unwrap(),
        vec![WriteOutcome::Applied; 30]
    );
    assert_eq!(stage.text(&same).await, "30 ", "by COPY");
    stage
        .app
        .batch_execute("UPDATE target SET \"c 0\" = NULL, \"c 16\" = 'x'")
        .await
        .unwrap();
    let mut updated = Vec::new();
    for document in documents {
        let revision = get(&*store, "target", document.key.clone()).await.revision;
        updated.push(write(document, Guard::Unchanged(revision)));
    }
    assert_eq!(
        store.write(&updated).await.unwrap(),
        vec![WriteOutcome::Applied; 30]
    );
    assert_eq!(stage.text(&same).await, "30 ", "by UPDATE");
    stage
        .app
        .batch_execute("DELETE FROM target WHERE id > 15")
        .await
        .unwrap();
    let upserted: Vec<Write> = updated
        .into_iter()
        .map(|w| Write {
            guard: Guard::Any,
            ..w
        })
        .collect();
    assert_eq!(
        store.write(&upserted).await.unwrap(),
        vec![WriteOutcome::Applied; 30]
    );
    assert_eq!(stage.text(&same).await, "30 ", "by upsert");
}

/// A value that the column would change or cannot take is refused by name, without the value.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_column_would_change_is_refused() {
    let Some(stage) = Stage::new(&format!("{TYPES} CREATE TABLE taken (kind text)")).await else {
        return;
    };
    let store = stage.store().await;
    let text = |s: &str| Value::String(s.into());
    let decimal = |s: &str| Value::Decimal(Decimal::new(s).unwrap());
    let cases = [
        ("int2", Value::Int(40_000)),
        ("int4", Value::Int(1 << 40)),
        ("int4", Value::Double(1.0)),
        ("int4", text("4711")),
        ("float4", Value::Double(0.1)),
        ("float4", Value::Int((1 << 24) + 1)),
        ("float8", Value::Int((1 << 53) + 1)),
        ("numeric(10,2)", decimal("4711.001")),
        ("numeric(10,2)", decimal("123456789.00")),
        ("numeric", Value::Double(-0.0)),
        ("text", text("a\0b")),
        ("text", Value::Int(4711)),
        ("text[]", Value::Array(vec![text("a\0b")])),
        ("varchar(3)", text("4711")),
        ("char(6)", text("4711 ")),
        ("short", text("4711")),
        ("short", text("bad")),
        ("mood", text("4711")),
        ("uuid", text("4711")),
        ("date", text("4711")),
        ("timestamptz", text("2026-01-31T08:00:00Z")),
        (
            "timestamptz",
            Value::Timestamp(Timestamp::new(0, 4711).unwrap()),
        ),
        (
            "timestamptz(0)",
            Value::Timestamp(Timestamp::new(0, 500_000_000).unwrap()),
        ),
        (
            "timestamptz",
            Value::Timestamp(Timestamp::new(i64::MAX / 4, 0).unwrap()),
        ),
        ("timestamp(3)", text("2026-01-31T08:00:00.0004711")),
        ("time", text("08:00:00.12345674711")),
        ("bytea", text("4711")),
        ("jsonb", text("\0")),
        (
            "int4[]",
            Value::Array(vec![Value::Int(1), Value::Array(vec![])]),
        ),
        ("int4[]", text("4711")),
        ("bool", Value::Int(1)),
        ("varchar(3)", text("ab  ")),
        ("numeric(4,-2)", Value::Int(4711)),
        ("int4[]", Value::Array(vec![Value::Array(vec![])])),
        ("tsvector", text("a:4711-")),
    ];
    for (i, (kind, value)) in cases.into_iter().enumerate() {
        let table = format!("refusing_{i}");
        let sql = format!("CREATE TABLE {table} (id int PRIMARY KEY, c {kind}, other int)");
        stage.app.batch_execute(&sql).await.unwrap();
        let outcomes = store
            .write(&[
                put_map(&table, 1, &[("c", value.clone())]),
                put_map(&table, 2, &[]),
            ])
            .await
            .unwrap();
        let message = refusal(&outcomes[0]);
        assert!(!message.contains("4711"), "{kind}: {message}");
        assert_eq!(outcomes[1], WriteOutcome::Applied, "{kind}");
        assert_eq!(
            stage.number(&format!("SELECT count(*) FROM {table}")).await,
            1,
            "{kind} {value:?}"
        );
    }
    // Exact conversions are none.
    let sql = "CREATE TABLE exact (id int PRIMARY KEY, f float8, n numeric(10,2))";
    stage.app.batch_execute(sql).await.unwrap();
    let fields = [("f", Value::Int(3)), ("n", Value::Double(0.25))];
    assert_eq!(
        one(&*store, put_map("exact", 1, &fields)).await,
        WriteOutcome::Applied
    );
    assert_eq!(
        stage.text("SELECT f || ' ' || n FROM exact").await,
        "3 0.25"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_without_a_column_go_to_the_rest_or_are_refused() {
    let sql = "CREATE TABLE strict (id int PRIMARY KEY, a text, b text); \
        CREATE TABLE open (id int PRIMARY KEY, a text, rest jsonb NOT NULL)";
    let Some(stage) = Stage::new(sql).await else {
        return;
    };
    let mut options = OpenOptions::default();
    let config = CollectionConfig {
        layout: LayoutChoice::Columns,
        rest: Some("rest".into()),
        ..CollectionConfig::default()
    };
    options.collections.insert("open".into(), config);
    let store = stage.open(&options).await.unwrap();
    let fields = [("a", Value::String("x".into())), ("z", Value::Int(5))];
    let refused = one(&*store, put_map("strict", 1, &fields)).await;
    assert!(refusal(&refused).contains("\"z\""));
    assert_eq!(
        one(&*store, put_map("open", 1, &fields)).await,
        WriteOutcome::Applied
    );
    assert_eq!(
        stage.text("SELECT rest::text FROM open").await,
        "{\"z\": 5}"
    );
    let document = get(&*store, "open", 1).await;
    assert_eq!(document.body.map().unwrap().get("z"), Some(&Value::Int(5)));

    let other_key = one(&*store, put_map("open", 2, &[("id", Value::Int(3))])).await;
    assert!(refusal(&other_key).contains("\"id\""));
    // A field in both places could not be written back: the row is shown as unreadable.
    stage
        .app
        .batch_execute("UPDATE open SET rest = '{\"a\": 1}'")
        .await
        .unwrap();
    let page = store
        .scan("open", &whimbrel_model::KeyRange::all(), 9, 999)
        .await
        .unwrap();
    assert_eq!((page.documents.len(), page.rejects.len()), (0, 1));
    assert!(get(&*store, "open", 1).await.body.map().is_err());
}

/// Keys of types that have no kind of their own go by their texts, in the column's order.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_other_types_are_texts() {
    let sql = "CREATE TABLE days (day date, hour time, data jsonb, PRIMARY KEY (day, hour)); \
        CREATE TABLE codes (code char(4) PRIMARY KEY, data jsonb); \
        CREATE TABLE amounts (n numeric PRIMARY KEY, data jsonb)";
    let Some(stage) = Stage::new(sql).await else {
        return;
    };
    let store = stage.store().await;
    let day = |d: &str, h: &str| Key::Tuple(vec![Key::text(d), Key::text(h)]);
    let cases = [
        (
            "days",
            vec![
                day("2025-12-31", "23:00:00"),
                day("2026-01-01", "00:00:00"),
                day("2026-01-01", "10:00:00"),
            ],
        ),
        ("codes", vec![Key::text("a"), Key::text("b b")]),
        (
            "amounts",
            vec![Key::text("-1.5"), Key::text("9"), Key::text("10")],
        ),
    ];
    for (collection, keys) in cases {
        let create = |key: &Key| put(collection, key.clone(), "{}", Guard::Absent);
        let writes: Vec<Write> = keys.iter().map(create).collect();
        assert_eq!(
            store.write(&writes).await.unwrap(),
            vec![WriteOutcome::Applied; keys.len()]
        );
        let found: Vec<Key> = scan_all(&*store, collection, 1)
            .await
            .into_iter()
            .map(|d| d.key)
            .collect();
        assert_eq!(found, keys);
        let revision = get(&*store, collection, keys[1].clone()).await.revision;
        let update = put(
            collection,
            keys[1].clone(),
            "{\"a\":1}",
            Guard::Unchanged(revision),
        );
        assert_eq!(one(&*store, update).await, WriteOutcome::Applied);
    }
    assert!(!store.limits().key_order);
    let kind = store.describe("days").await.unwrap().unwrap().key;
    assert_eq!(kind, KeyKind::Tuple(vec![KeyKind::Text, KeyKind::Text]));
    // Another spelling of the same number is not the key of any row.
    assert_eq!(
        store
            .get("amounts", &[Key::text("9.0")])
            .await
            .unwrap()
            .len(),
        1
    );
    assert!(store.get("amounts", &[Key::text("9.0")]).await.unwrap()[0].is_none());
}
