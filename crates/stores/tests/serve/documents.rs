//! Documents are written whole, and read as they were written.

use crate::subject::{Subject, array, fields, int, map, n, now, number, of, place, put, text};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use whimbrel_firestore::backend::{Batch, Found};
use whimbrel_firestore::proto::google::r#type::LatLng;
use whimbrel_firestore::v1::Value;
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_firestore::{Fields, Place};

pub async fn written_and_read(subject: Subject) {
    let backend = subject.backend();
    assert_eq!(backend.last_commit().await.unwrap(), 0);
    assert!(subject.get("users/a").await.is_none());
    let first = subject.set("users/a", n(1)).await;
    let second = subject.set("users/a", n(2)).await;
    let third = subject.set("users/b", n(3)).await;
    assert!(first < second && second < third);
    let places = [
        place("users/b"),
        place("users/x"),
        place("users/a"),
        place("others/a"),
        place("users/b"),
    ];
    let found = backend.get(&places).await.unwrap();
    assert_eq!(
        found.iter().map(number).collect::<Vec<_>>(),
        [Some(3), None, Some(2), None, Some(3)]
    );
    let a = found[2].as_ref().unwrap();
    assert_eq!((a.created, a.updated), (first, second));
    assert_eq!(backend.last_commit().await.unwrap(), third);
    let gone = subject.delete("users/a").await;
    assert!(subject.get("users/a").await.is_none());
    assert_eq!(backend.last_commit().await.unwrap(), gone);
    let again = subject.set("users/a", n(4)).await;
    let a = subject.get("users/a").await.unwrap();
    assert_eq!((a.created, a.updated), (again, again));
}

fn timestamp(seconds: i64, nanos: i32) -> Value {
    of(ValueType::TimestampValue(prost_types::Timestamp {
        seconds,
        nanos,
    }))
}

fn every_value() -> Fields {
    let double = |d| of(ValueType::DoubleValue(d));
    let bytes = |b: &'static [u8]| of(ValueType::BytesValue(b.to_vec()));
    let geo = |latitude, longitude| {
        of(ValueType::GeoPointValue(LatLng {
            latitude,
            longitude,
        }))
    };
    let reference = |name: &str| of(ValueType::ReferenceValue(name.to_owned()));
    let vector = fields([
        ("__type__", text("__vector__")),
        (
            "value",
            array(vec![double(1.5), double(-0.0), double(f64::MAX)]),
        ),
    ]);
    let mut deep = int(1);
    for _ in 0..10 {
        deep = map(fields([("in", array(vec![deep]))]));
    }
    fields([
        ("null", of(ValueType::NullValue(0))),
        ("true", of(ValueType::BooleanValue(true))),
        ("false", of(ValueType::BooleanValue(false))),
        (
            "ints",
            array(vec![
                int(0),
                int(i64::MIN),
                int(i64::MAX),
                int((1 << 53) + 1),
            ]),
        ),
        (
            "doubles",
            array(vec![
                double(0.0),
                double(1.0),
                double(-1.5e300),
                double(f64::MIN_POSITIVE),
            ]),
        ),
        ("minus zero", double(-0.0)),
        ("nan", double(f64::NAN)),
        (
            "infinite",
            array(vec![double(f64::INFINITY), double(f64::NEG_INFINITY)]),
        ),
        (
            "times",
            array(vec![
                timestamp(0, 0),
                timestamp(1_700_000_000, 123_456_000),
                timestamp(-1, 999_999_000),
                timestamp(-62_135_596_800, 0),
                timestamp(253_402_300_799, 999_999_000),
            ]),
        ),
        (
            "texts",
            array(vec![
                text(""),
                text("\"\\\u{8}\u{1f}\u{7f}"),
                text("é e\u{301} 日本 🦆 \u{10ffff}\u{fffd}"),
                text("{\"$int\":1}"),
            ]),
        ),
        ("bytes", array(vec![bytes(b""), bytes(&[0, 255, 128, 10])])),
        (
            "reference",
            array(vec![
                reference("users/alice"),
                reference("projects/p/databases/d/documents/a/b"),
            ]),
        ),
        ("geo", array(vec![geo(90.0, -180.0), geo(-0.0, 0.1)])),
        ("vector", map(vector)),
        ("empty", array(vec![map(Fields::new()), array(vec![])])),
        (
            "like a tag",
            map(fields([("$timestamp", text("2026-01-31T08:00:00Z"))])),
        ),
        (
            "like an escaped tag",
            map(fields([("$$bytes", text("AAAA"))])),
        ),
        ("bson", map(fields([("__int__", int(7))]))),
        ("", int(1)),
        ("$decimal", text("1")),
        ("a.b`\\\"", int(2)),
        ("deep", deep),
    ])
}

fn same(a: &Value, b: &Value) -> bool {
    match (&a.value_type, &b.value_type) {
        (Some(ValueType::DoubleValue(a)), Some(ValueType::DoubleValue(b))) => {
            a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
        }
        (Some(ValueType::ArrayValue(a)), Some(ValueType::ArrayValue(b))) => {
            a.values.len() == b.values.len()
                && a.values.iter().zip(&b.values).all(|(a, b)| same(a, b))
        }
        (Some(ValueType::MapValue(a)), Some(ValueType::MapValue(b))) => {
            same_fields(&a.fields, &b.fields)
        }
        (a, b) => a == b,
    }
}

fn same_fields(a: &Fields, b: &Fields) -> bool {
    a.len() == b.len()
        && a.iter()
            .all(|(name, value)| b.get(name).is_some_and(|other| same(value, other)))
}

pub async fn every_value_survives(mut subject: Subject) {
    let all = every_value();
    subject.set("values/all", all.clone()).await;
    for (name, value) in &all {
        subject
            .set("values/one", [(name.clone(), value.clone())].into())
            .await;
        let stored = subject.get("values/one").await.unwrap();
        assert!(
            stored
                .fields
                .get(name)
                .is_some_and(|held| same(value, held)),
            "{name:?}: {stored:?}"
        );
    }
    subject.set("values/none", Fields::new()).await;
    assert!(subject.get("values/none").await.unwrap().fields.is_empty());
    if !subject.url().starts_with("memory") {
        subject.reopen().await;
    }
    let stored = subject.get("values/all").await.unwrap();
    assert!(same_fields(&stored.fields, &all));
}

pub async fn names_of_all_kinds(subject: Subject) {
    let ids = [
        "a",
        "A",
        " ",
        "'",
        "\"",
        "%",
        "_",
        "?",
        "a b",
        "é",
        "e\u{301}",
        "日本",
        "🦆",
        "\u{1}",
        "\u{7f}",
        "..x",
        "__id7__",
        "null",
        "0",
        "1e5",
        "~",
        "x~2",
        "sqlite_master",
        "SELECT",
        ";--",
        "@d",
        "$1",
        "a.b",
    ];
    for (i, collection) in ids.iter().enumerate() {
        let number = i64::try_from(i).unwrap();
        let documents: Vec<(String, i64)> = ids
            .iter()
            .zip(number..)
            .map(|(id, number)| (format!("{collection}/{id}"), number))
            .collect();
        let documents: Vec<(&str, Option<Fields>)> = documents
            .iter()
            .map(|(path, number)| (path.as_str(), Some(n(*number))))
            .collect();
        subject.commit(&documents).await;
    }
    subject.set("c/é/d/\"/e/日本", n(1)).await;
    assert_eq!(number(&subject.get("c/é/d/\"/e/日本").await), Some(1));
    for (i, collection) in ids.iter().enumerate() {
        for (j, id) in ids.iter().enumerate() {
            let stored = subject.get(&format!("{collection}/{id}")).await;
            let expect = i64::try_from(i + j).unwrap();
            assert_eq!(number(&stored), Some(expect), "{collection:?}/{id:?}");
        }
    }
    let view = subject.backend().view().await.unwrap();
    let mut expect: Vec<&str> = ids.to_vec();
    expect.push("c/d/e");
    expect.sort_unstable();
    let found = view.collections().await.unwrap();
    assert_eq!(found.iter().map(|name| &**name).collect::<Vec<_>>(), expect);
}

pub async fn collections_whose_names_differ_in_case(mut subject: Subject) {
    for (i, name) in ["users", "Users", "USERS", "Sqlite_users"]
        .into_iter()
        .enumerate()
    {
        subject
            .set(&format!("{name}/a"), n(i64::try_from(i).unwrap()))
            .await;
    }
    if !subject.url().starts_with("memory") {
        subject.reopen().await;
    }
    for (i, name) in ["users", "Users", "USERS", "Sqlite_users"]
        .into_iter()
        .enumerate()
    {
        let stored = subject.get(&format!("{name}/a")).await;
        assert_eq!(number(&stored), Some(i64::try_from(i).unwrap()), "{name}");
    }
    assert!(subject.get("uSERS/a").await.is_none());
}

pub async fn a_large_document(subject: Subject) {
    let large = fields([("text", text(&"é\n\"".repeat(300_000))), ("n", int(1))]);
    subject.set("large/a", large.clone()).await;
    subject.set("large/a", n(2)).await;
    let at = subject.set("large/a", large.clone()).await;
    let stored = subject.get("large/a").await.unwrap();
    assert_eq!(stored.updated, at);
    assert!(same_fields(&stored.fields, &large));
}

pub async fn many_in_one_commit(subject: Subject) {
    let paths: Vec<String> = (0..3000).map(|i| format!("many/{i:04}")).collect();
    let made: Vec<(&str, Option<Fields>)> = paths
        .iter()
        .map(|path| (path.as_str(), Some(n(1))))
        .collect();
    let at = subject.commit(&made).await;
    let places: Vec<Place> = paths.iter().map(|path| place(path)).collect();
    let found = subject.backend().get(&places).await.unwrap();
    assert!(
        found
            .iter()
            .flatten()
            .all(|stored| stored.updated == at && stored.created == at)
    );
    assert_eq!(found.iter().flatten().count(), 3000);
    let gone: Vec<(&str, Option<Fields>)> =
        paths.iter().map(|path| (path.as_str(), None)).collect();
    subject.commit(&gone).await;
    let found = subject.backend().get(&places).await.unwrap();
    assert_eq!(found.iter().flatten().count(), 0);
}

pub async fn what_is_decided_sees_what_is_there(subject: Subject) {
    let made = subject.set("users/a", n(1)).await;
    let touch = [place("users/a"), place("users/b"), place("new/a")];
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = seen.clone();
    let places = touch.clone();
    let decide = move |found: &Found| {
        let mut keys: Vec<String> = found.keys().map(Place::path).collect();
        keys.sort();
        let a = found[&places[0]].document().unwrap();
        noted.lock().unwrap().push((keys, a.created, a.updated));
        let at = now();
        // Of three that were touched, two are written.
        let documents = places[1..]
            .iter()
            .map(|place| put(found, place, at, Some(n(9))))
            .collect();
        Batch {
            at,
            documents,
            ..Batch::default()
        }
    };
    subject
        .backend()
        .commit(&touch, Box::new(decide))
        .await
        .unwrap();
    let seen = seen.lock().unwrap().pop().unwrap();
    assert_eq!(seen, (vec!["users/a".to_owned()], made, made));
    assert_eq!(number(&subject.get("users/a").await), Some(1));
    assert_eq!(number(&subject.get("users/b").await), Some(9));
    assert_eq!(number(&subject.get("new/a").await), Some(9));
}

pub async fn a_commit_out_of_order_writes_nothing(subject: Subject) {
    let last = subject.set("users/a", n(1)).await;
    for at in [0, last - 1, last] {
        let called = Arc::new(AtomicUsize::new(0));
        let (counted, places) = (called.clone(), [place("users/a"), place("new/b")]);
        let touch = places.clone();
        let decide = move |found: &Found| {
            counted.fetch_add(1, Ordering::SeqCst);
            let documents = places
                .iter()
                .map(|place| put(found, place, at, Some(n(2))))
                .collect();
            Batch {
                at,
                documents,
                ..Batch::default()
            }
        };
        let failed = subject.backend().commit(&touch, Box::new(decide)).await;
        assert!(failed.is_err(), "{at}");
        assert!(called.load(Ordering::SeqCst) > 0);
    }
    assert_eq!(number(&subject.get("users/a").await), Some(1));
    assert!(subject.get("new/b").await.is_none());
    assert_eq!(subject.backend().last_commit().await.unwrap(), last);
    // It can be written to as before.
    subject.set("users/a", n(3)).await;
}

pub async fn deletes_of_what_is_not_there(subject: Subject) {
    subject.delete("users/a").await;
    subject.set("users/b", n(1)).await;
    let at = subject.delete("users/a").await;
    assert!(subject.get("users/a").await.is_none());
    assert_eq!(subject.backend().last_commit().await.unwrap(), at);
    let view = subject.backend().view().await.unwrap();
    assert_eq!(view.at(), at);
    assert_eq!(view.collections().await.unwrap().len(), 1);
}

pub async fn outlive_their_process(mut subject: Subject) {
    let made = subject.set("users/a", n(1)).await;
    let changed = subject.set("users/a", n(2)).await;
    subject.set("users/b", n(3)).await;
    let last = subject.delete("users/b").await;
    subject.reopen().await;
    let a = subject.get("users/a").await;
    assert_eq!(number(&a), Some(2));
    let a = a.unwrap();
    assert_eq!((a.created, a.updated), (made, changed));
    assert!(subject.get("users/b").await.is_none());
    assert_eq!(subject.backend().last_commit().await.unwrap(), last);
    let view = subject.backend().view().await.unwrap();
    assert_eq!(view.at(), last);
    let earlier = view.get(&[place("users/a")], Some(made)).await.unwrap();
    assert_eq!(number(&earlier[0]), Some(1));
    drop(view);
    subject.set("users/a", n(4)).await;
    assert_eq!(subject.get("users/a").await.unwrap().created, made);
}

pub async fn rows_from_before(mut subject: Subject) {
    subject.close();
    subject
        .sql(
            "CREATE TABLE users (id TEXT PRIMARY KEY NOT NULL, data TEXT NOT NULL);
             INSERT INTO users (id, data) VALUES ('a', '{\"n\": 1}'), ('b', '{\"n\": 2}')",
        )
        .await;
    subject.open().await.unwrap();
    let a = subject.get("users/a").await;
    assert_eq!(number(&a), Some(1));
    let a = a.unwrap();
    assert!(a.created == a.updated && a.created > 0 && a.created <= now());
    let last = subject.backend().last_commit().await.unwrap();
    assert!(
        a.updated <= last,
        "a view's time is not before what it shows"
    );
    assert!(
        subject
            .backend()
            .foreign(10)
            .await
            .unwrap()
            .changes
            .is_empty()
    );
    subject.reopen().await;
    let again = subject.get("users/a").await.unwrap();
    assert_eq!((again.created, again.updated), (a.created, a.updated));
    subject.set("users/a", n(5)).await;
    assert_eq!(subject.get("users/a").await.unwrap().created, a.created);
}
