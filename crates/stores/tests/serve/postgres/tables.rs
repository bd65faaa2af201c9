//! Tables of an app, and names that no table can have.

use super::{columns, noted, over, paths};
use crate::subject::{Subject, array, fields, int, map, n, number, of, place, postgres, text};
use crate::views::{all, held};
use std::time::Duration;
use whimbrel_firestore::Fields;
use whimbrel_firestore::backend::Found;
use whimbrel_firestore::v1::Value;
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_model::{Code, StoreErrorKind};
use whimbrel_stores::{CollectionConfig, OpenOptions, serve};

fn null() -> Value {
    of(ValueType::NullValue(0))
}

fn double(d: f64) -> Value {
    of(ValueType::DoubleValue(d))
}

fn at(seconds: i64, micros: i32) -> Value {
    of(ValueType::TimestampValue(prost_types::Timestamp {
        seconds,
        nanos: micros * 1000,
    }))
}

const TYPED: &str = "CREATE TABLE things (id text PRIMARY KEY, count int, price numeric, ratio float8, small float4,
    ok boolean, at timestamptz, local timestamp, raw bytea, tags text[], grid int[][], code uuid, day date, js json,
    jb jsonb, email text UNIQUE CHECK (email <> 'bad'))";

fn typed() -> Fields {
    fields([
        ("id", text("a")),
        ("count", int(-7)),
        ("price", double(1.25)),
        ("ratio", double(-0.0)),
        ("small", double(0.5)),
        ("ok", of(ValueType::BooleanValue(true))),
        ("at", at(-62_135_596_800, 1)),
        ("local", text("2026-01-31T08:00:00.5")),
        ("raw", of(ValueType::BytesValue(vec![0, 255]))),
        ("tags", array(vec![text("a,\"b"), null(), text("")])),
        (
            "grid",
            array(vec![
                array(vec![int(1), int(2)]),
                array(vec![int(3), int(4)]),
            ]),
        ),
        ("code", text("6f1c2f5e-0b1a-4d7e-8f51-1d7c3c1b2a3d")),
        ("day", text("2026-11-23")),
        (
            "js",
            map(fields([
                ("nul", text("a\0b")),
                ("nan", double(f64::NEG_INFINITY)),
            ])),
        ),
        (
            "jb",
            array(vec![int(1), map(fields([("$x", double(1e300))]))]),
        ),
        ("email", text("a@example.com")),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_fields_now_and_in_the_past() {
    let Some(subject) = over(TYPED, &[("things", columns())]).await else {
        return;
    };
    let first = subject.set("things/a", typed()).await;
    assert_eq!(*subject.get("things/a").await.unwrap().fields, typed());
    assert!(
        noted(subject.backend()).await.0.is_empty(),
        "it is held as it was put"
    );
    // A program in another country, whose texts look different.
    subject
        .sql(
            "SET timezone = 'Asia/Tokyo'; SET datestyle = 'German'; SET extra_float_digits = -10; \
             SET bytea_output = 'escape'; SET intervalstyle = 'iso_8601'; UPDATE things SET count = 8, ratio = 0.1",
        )
        .await;
    let (changes, mark) = noted(subject.backend()).await;
    assert_eq!(changes.len(), 1);
    assert_eq!(*changes[0].before.as_ref().unwrap().fields, typed());
    assert_eq!(
        changes[0].after.as_ref().unwrap().fields.get("count"),
        Some(&int(8))
    );
    subject.settle(mark).await;
    // Columns that are not given become null, and that is noted.
    let second = subject
        .set("things/a", fields([("id", text("a")), ("count", int(9))]))
        .await;
    let stored = subject.get("things/a").await.unwrap();
    assert_eq!(stored.updated, second);
    assert_eq!(stored.fields.get("price"), Some(&null()));
    let (changes, mark) = noted(subject.backend()).await;
    assert_eq!(changes.len(), 1);
    assert_eq!(
        *changes[0].before.as_ref().unwrap().fields,
        fields([("id", text("a")), ("count", int(9))])
    );
    assert_eq!(changes[0].after.as_ref().unwrap().fields, stored.fields);
    subject.settle(mark).await;
    let view = subject.backend().view().await.unwrap();
    let then = view.get(&[place("things/a")], Some(first)).await.unwrap();
    let then = then[0].as_ref().unwrap();
    assert_eq!((&*then.fields, then.updated), (&typed(), first));
    let then = view
        .get(&[place("things/a")], Some(second - 1))
        .await
        .unwrap();
    let then = &then[0].as_ref().unwrap().fields;
    assert_eq!(
        (then.get("count"), then.get("ratio")),
        (Some(&int(8)), Some(&double(0.1)))
    );
    subject.sql("TRUNCATE things").await;
    let (changes, _) = noted(subject.backend()).await;
    assert_eq!(changes[0].before.as_ref().unwrap().fields, stored.fields);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_columns_cannot_hold_is_refused_before_anything_is_written() {
    let Some(subject) = over(TYPED, &[("things", columns())]).await else {
        return;
    };
    subject.set("things/a", typed()).await;
    let backend = subject.backend();
    for (name, value, why) in [
        ("count", double(1.5), "int"),
        ("count", text("secret"), "string"),
        ("extra", text("secret"), "no column"),
        ("jb", text("secret\0"), "U+0000"),
        ("email", text("secret\0"), "U+0000"),
        ("id", text("secret"), "key"),
        ("at", text("secret"), "string"),
    ] {
        let mut document = typed();
        document.insert(name.to_owned(), value);
        let refused = backend.refuse(&place("things/a"), &document).unwrap();
        assert!(
            refused.contains(why) && refused.contains(name),
            "{name}: {refused}"
        );
        assert!(!refused.contains("secret"), "{refused}");
    }
    assert_eq!(backend.refuse(&place("things/a"), &typed()), None);
    // What only the database knows fails the commit, and nothing of it is written.
    for (email, why) in [
        ("a@example.com", "things_email_key"),
        ("bad", "things_email_check"),
    ] {
        let mut document = typed();
        document.insert("id".into(), text("b"));
        document.insert("email".into(), text(email));
        let (b, good) = (place("things/b"), place("users/good"));
        let puts = [(b.clone(), document), (good.clone(), n(1))];
        let decide = move |found: &Found| {
            let at = crate::subject::now();
            let put = |(place, fields): &(_, Fields)| {
                crate::subject::put(found, place, at, Some(fields.clone()))
            };
            whimbrel_firestore::backend::Batch {
                at,
                documents: puts.iter().map(put).collect(),
                ..Default::default()
            }
        };
        let error = backend
            .commit(&[b, good], Box::new(decide))
            .await
            .unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Terminal);
        assert!(error.message.contains(why), "{error}");
        assert!(!error.message.contains("example.com"), "{error}");
        assert!(subject.get("users/good").await.is_none());
    }
    subject.set("things/a", typed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_with_nul_are_refused() {
    let Some(subject) = postgres().await else {
        return;
    };
    let backend = subject.backend();
    let nul = text("secret\0");
    for (path, document) in [
        ("users/a", fields([("f", nul.clone())])),
        (
            "users/a",
            fields([("f", array(vec![map(fields([("g", nul.clone())]))]))]),
        ),
        ("users/a", fields([("f", map(fields([("a\0b", int(1))])))])),
        ("users/a\0", n(1)),
        ("us\0ers/a", n(1)),
        (&format!("users/{}", "x".repeat(3000)), n(1)),
    ] {
        for _ in 0..2 {
            let refused = backend.refuse(&place(path), &document).unwrap();
            assert!(!refused.contains("secret"), "{refused}");
            assert_eq!(subject.get(path).await.map(|_| ()), None);
            // Once for a table that is to be made, once for one that is there.
            subject.set("users/b", n(1)).await;
        }
    }
    let bytes = of(ValueType::BytesValue(vec![0]));
    assert_eq!(
        backend.refuse(&place("users/a"), &fields([("f", bytes)])),
        None
    );
    let a = place("users/a");
    let error = backend.commit(
        std::slice::from_ref(&a),
        super::setting(&a, move |_| Some(fields([("f", nul.clone())]))),
    );
    let error = error.await.unwrap_err();
    assert_eq!(
        (error.kind, error.code),
        (StoreErrorKind::Terminal, Code::StoreShape)
    );
    assert!(
        error.message.contains("U+0000") && !error.message.contains("secret"),
        "{error}"
    );
    let long = format!("users/{}", "é".repeat(1300));
    subject.set(&long, n(2)).await;
    assert_eq!(number(&subject.get(&long).await), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_keep_digits_that_clients_cannot_see() {
    let sql = format!(
        "{TYPED}; INSERT INTO things (id, price, count) VALUES ('a', 0.1234567890123456789, 1);
         CREATE TABLE users (id text PRIMARY KEY, data jsonb NOT NULL);
         INSERT INTO users VALUES ('a', '{{\"n\": 1, \"d\": 12345678901234567890, \"m\": {{\"d\": [0.10000000000000000001, 2]}}}}')"
    );
    let Some(subject) = over(&sql, &[("things", columns())]).await else {
        return;
    };
    for path in ["things/a", "users/a"] {
        let stored = subject.get(path).await.unwrap();
        let mut fields = (*stored.fields).clone();
        fields.insert(if path == "users/a" { "n" } else { "count" }.into(), int(2));
        subject.set(path, fields).await;
    }
    let app = subject.schema().client().await;
    let one = async |sql: &str| app.query_one(sql, &[]).await.unwrap().get::<_, String>(0);
    assert_eq!(
        one("SELECT price::text || ' ' || count FROM things").await,
        "0.1234567890123456789 2"
    );
    assert_eq!(
        one("SELECT data->>'d' FROM users").await,
        "12345678901234567890"
    );
    assert_eq!(
        one("SELECT data->'m'->'d'->>0 FROM users").await,
        "0.10000000000000000001"
    );
    assert_eq!(one("SELECT data->>'n' FROM users").await, "2");
    // What is changed is changed.
    subject.set("users/a", fields([("d", double(0.5))])).await;
    assert_eq!(one("SELECT data::text FROM users").await, "{\"d\": 0.5}");
}

/// Keys of several kinds, in other orders than their bytes'.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_all_kinds_are_walked_by_their_bytes() {
    let sql = "CREATE TABLE numbers (id int PRIMARY KEY, data jsonb NOT NULL);
        CREATE TABLE uuids (id uuid PRIMARY KEY, data jsonb NOT NULL);
        CREATE TABLE words (id text COLLATE \"en-x-icu\" PRIMARY KEY, data jsonb NOT NULL);
        CREATE TABLE pairs (b int, a text, data jsonb NOT NULL, PRIMARY KEY (a, b));
        INSERT INTO numbers SELECT i, '{\"n\": 1}' FROM generate_series(-2, 12) i;
        INSERT INTO words SELECT w, '{\"n\": 1}' FROM unnest(ARRAY['b', 'B', 'a', 'Z', 'é', 'z']) w;
        INSERT INTO pairs VALUES (10, 'x', '{\"n\": 1}'), (9, 'x', '{\"n\": 2}'), (1, 'y', '{\"n\": 3}')";
    let pairs = CollectionConfig {
        table: Some("pairs".into()),
        layout: whimbrel_stores::LayoutChoice::Json,
        ..CollectionConfig::default()
    };
    let Some(mut subject) = over(sql, &[("top/pairs", pairs)]).await else {
        return;
    };
    let keys = async |subject: &Subject, collection: &str| {
        let view = subject.backend().view().await.unwrap();
        let keys = held(&*view, collection)
            .await
            .into_iter()
            .map(|(key, _)| key);
        keys.collect::<Vec<String>>()
    };
    let mut expect: Vec<String> = (-2..=12).map(|i| i.to_string()).collect();
    expect.sort();
    assert_eq!(keys(&subject, "numbers").await, expect);
    assert_eq!(
        keys(&subject, "words").await,
        ["B", "Z", "a", "b", "z", "é"]
    );
    assert_eq!(keys(&subject, "top/pairs").await, ["x/10", "x/9", "y/1"]);
    subject.reopen().await;
    subject
        .commit(&[
            ("numbers/7", Some(n(70))),
            ("numbers/-2", None),
            ("numbers/100", Some(n(5))),
            ("top/x/pairs/9", Some(n(20))),
            ("top/z/pairs/-1", Some(n(4))),
            ("top/y/pairs/1", None),
            ("words/É", Some(n(6))),
            ("uuids/6f1c2f5e-0b1a-4d7e-8f51-1d7c3c1b2a3d", Some(n(8))),
        ])
        .await;
    for (path, expect) in [
        ("numbers/7", Some(70)),
        ("numbers/-2", None),
        ("numbers/100", Some(5)),
        ("numbers/007", None),
        ("numbers/x", None),
        ("top/x/pairs/9", Some(20)),
        ("top/z/pairs/-1", Some(4)),
        ("top/y/pairs/1", None),
        ("words/É", Some(6)),
        ("words/e", None),
        ("uuids/6f1c2f5e-0b1a-4d7e-8f51-1d7c3c1b2a3d", Some(8)),
        ("uuids/6F1C2F5E-0B1A-4D7E-8F51-1D7C3C1B2A3D", None),
    ] {
        assert_eq!(number(&subject.get(path).await), expect, "{path}");
    }
    for path in [
        "numbers/x",
        "numbers/007",
        "numbers/99999999999",
        "uuids/x",
        "top/x/pairs/y",
    ] {
        assert!(
            subject.backend().refuse(&place(path), &n(1)).is_some(),
            "{path}"
        );
    }
    subject
        .sql("UPDATE pairs SET b = 11 WHERE b = 10; DELETE FROM numbers WHERE id = 3")
        .await;
    assert_eq!(
        paths(&noted(subject.backend()).await.0),
        ["numbers/3", "top/x/pairs/10", "top/x/pairs/11"]
    );
}

/// Collections whose names a table cannot have, and names that mean something else to the database.
#[tokio::test(flavor = "multi_thread")]
async fn every_name_is_only_a_name() {
    let Some(mut subject) = postgres().await else {
        return;
    };
    subject.set("users/a", n(-1)).await;
    subject
        .sql("CREATE VIEW look AS SELECT * FROM users; CREATE SEQUENCE counter")
        .await;
    let schema = subject.schema().name.clone();
    let long = "é".repeat(700);
    let names = [
        "users_pkey".to_owned(),
        "look".into(),
        "counter".into(),
        "pg_class".into(),
        "pg_authid".into(),
        "pg_catalog.pg_class".into(),
        "information_schema.tables".into(),
        format!("{schema}.users"),
        "_whimbrel_provenance".into(),
        "_whimbrel".into(),
        "x".repeat(63),
        "x".repeat(64),
        "x".repeat(65),
        long.clone(),
        format!("{long}a"),
        "\"; DROP TABLE users; --".into(),
        "~".into(),
        "a$b".into(),
        "@".into(),
        "whimbrel_serve".into(),
        format!("whimbrel_serve_{schema}.log"),
    ];
    for (i, name) in names.iter().enumerate() {
        let path = format!("{name}/k");
        assert!(subject.get(&path).await.is_none(), "{name}");
        subject.set(&path, n(i64::try_from(i).unwrap())).await;
    }
    for _ in 0..2 {
        for (i, name) in names.iter().enumerate() {
            let stored = subject.get(&format!("{name}/k")).await;
            assert_eq!(number(&stored), Some(i64::try_from(i).unwrap()), "{name}");
        }
        assert_eq!(number(&subject.get("users/a").await), Some(-1));
        let view = subject.backend().view().await.unwrap();
        assert_eq!(view.collections().await.unwrap().len(), names.len() + 1);
        drop(view);
        subject.reopen().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_tables_that_look_like_collections_are_served_unasked() {
    let sql = "CREATE TABLE secrets (id text PRIMARY KEY, name text, hash text); INSERT INTO secrets VALUES ('a', 'b', 'c');
        CREATE TABLE keyless (id text, data jsonb); CREATE TABLE docs (id text PRIMARY KEY, data json);
        INSERT INTO docs VALUES ('a', '{\"n\": 1}')";
    let Some(subject) = over(sql, &[]).await else {
        return;
    };
    let error = subject
        .backend()
        .get(&[place("secrets/a")])
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::StoreShape);
    assert!(
        error.message.contains("secrets") && error.message.contains("columns"),
        "{error}"
    );
    let view = subject.backend().view().await.unwrap();
    let names = view.collections().await.unwrap();
    assert_eq!(
        names.iter().map(|name| &**name).collect::<Vec<_>>(),
        ["docs"]
    );
    assert_eq!(number(&subject.get("docs/a").await), Some(1));
    let error = subject
        .backend()
        .get(&[place("keyless/a")])
        .await
        .unwrap_err();
    assert!(error.message.contains("key"), "{error}");
}

/// TRUNCATE of one partition fires no trigger of the whole.
#[tokio::test(flavor = "multi_thread")]
async fn tables_of_several_parts_are_refused() {
    let sql = "CREATE TABLE parted (id text PRIMARY KEY, data jsonb NOT NULL) PARTITION BY HASH (id);
        CREATE TABLE parted_0 PARTITION OF parted FOR VALUES WITH (MODULUS 1, REMAINDER 0);
        CREATE TABLE parents (id text PRIMARY KEY, data jsonb NOT NULL);
        CREATE TABLE children () INHERITS (parents);
        INSERT INTO parted VALUES ('a', '{\"n\": 1}'); INSERT INTO children VALUES ('a', '{\"n\": 1}')";
    let Some(mut subject) = over(sql, &[]).await else {
        return;
    };
    for path in ["parted/a", "parents/a"] {
        let error = subject.backend().get(&[place(path)]).await.unwrap_err();
        assert_eq!(error.code, Code::StoreShape);
        assert!(error.message.contains("partitioned"), "{error}");
        let put = super::setting(&place(path), |_| Some(n(2)));
        let error = subject.backend().commit(&[place(path)], put).await;
        assert_eq!(error.unwrap_err().code, Code::StoreShape);
    }
    let view = subject.backend().view().await.unwrap();
    assert!(view.collections().await.unwrap().is_empty());
    drop(view);
    // A partition by itself is a table like others: also when all of them are emptied.
    let part = CollectionConfig {
        table: Some("parted_0".into()),
        ..CollectionConfig::default()
    };
    subject.close();
    let options = OpenOptions {
        collections: [("part".to_owned(), part)].into(),
        ..OpenOptions::default()
    };
    let backend = serve::open(&subject.url(), &options).await.unwrap();
    let a = backend.get(&[place("part/a")]).await.unwrap();
    assert_eq!(number(&a[0]), Some(1));
    subject.sql("TRUNCATE parted").await;
    assert_eq!(paths(&noted(&backend).await.0), ["part/a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_is_added_is_seen() {
    let sql = "CREATE TABLE people (id text PRIMARY KEY, name text); INSERT INTO people VALUES ('a', 'Ann')";
    let Some(subject) = over(sql, &[("people", columns())]).await else {
        return;
    };
    let a = async || (*subject.get("people/a").await.unwrap().fields).clone();
    assert_eq!(
        a().await,
        fields([("id", text("a")), ("name", text("Ann"))])
    );
    let first = subject
        .set(
            "people/a",
            fields([("id", text("a")), ("name", text("Bea"))]),
        )
        .await;
    subject
        .sql("ALTER TABLE people ADD COLUMN age int DEFAULT 7")
        .await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    noted(subject.backend()).await;
    assert_eq!(
        a().await,
        fields([("id", text("a")), ("name", text("Bea")), ("age", int(7))])
    );
    subject
        .sql("UPDATE people SET age = 8; ALTER TABLE people DROP COLUMN name")
        .await;
    // A statement that fails for it is tried again.
    assert_eq!(a().await, fields([("id", text("a")), ("age", int(8))]));
    subject
        .sql("UPDATE people SET age = 9; DELETE FROM people")
        .await;
    let view = subject.backend().view().await.unwrap();
    let then = view.get(&[place("people/a")], Some(first)).await.unwrap();
    assert_eq!(then[0].as_ref().unwrap().fields.get("age"), Some(&int(7)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_table_that_cannot_serve_is_told_at_once() {
    let Some(mut subject) = over(TYPED, &[("things", columns())]).await else {
        return;
    };
    subject.close();
    subject
        .sql("DROP TABLE things; CREATE TABLE things (id date PRIMARY KEY, data jsonb)")
        .await;
    let error = subject.open().await.unwrap_err();
    assert_eq!(error.code, Code::StoreShape);
    assert!(error.message.contains("things"), "{error}");
    let error = serve::open(
        &subject.url(),
        &OpenOptions {
            read_only: true,
            ..OpenOptions::default()
        },
    )
    .await;
    assert_eq!(error.map(drop).unwrap_err().code, Code::StoreDenied);
}

/// Pages of a large table come from its index, however large it is.
#[tokio::test(flavor = "multi_thread")]
async fn walks_do_not_scan() {
    let sql = "CREATE TABLE many (id text COLLATE \"C\" PRIMARY KEY, data jsonb NOT NULL);
        INSERT INTO many SELECT lpad(i::text, 6, '0'), '{\"n\": 1}' FROM generate_series(1, 60000) i; ANALYZE many";
    let Some(subject) = over(sql, &[]).await else {
        return;
    };
    let view = subject.backend().view().await.unwrap();
    let mut walk = all("many");
    walk.limit = 10;
    walk.from = std::ops::Bound::Excluded(b"030000".to_vec());
    let app = subject.schema().client().await;
    let read = async || {
        tokio::time::sleep(Duration::from_millis(1200)).await;
        let sql = "SELECT pg_stat_clear_snapshot(), coalesce(idx_tup_fetch, 0) + seq_tup_read FROM pg_stat_user_tables \
            WHERE relid = 'many'::regclass";
        app.query_one(sql, &[]).await.unwrap().get::<_, i64>(1)
    };
    let before = read().await;
    for descending in [false, true] {
        walk.descending = descending;
        assert_eq!(view.walk(&walk).await.unwrap().len(), 10);
    }
    assert_eq!(view.count(&walk).await.unwrap(), 10);
    let places: Vec<_> = (1..=10)
        .map(|i| place(&format!("many/{:06}", i * 5000)))
        .collect();
    assert_eq!(
        view.get(&places, None)
            .await
            .unwrap()
            .iter()
            .flatten()
            .count(),
        10
    );
    drop(view);
    let rows = read().await - before;
    assert!(rows <= 60, "{rows} rows were read");
}
