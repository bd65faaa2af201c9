use super::keys::naughty;
use super::subject::Subject;
use whimbrel_model::{
    Body, Decimal, GeoPoint, Guard, Key, KeyRange, Map, Timestamp, Value, Write, WriteOutcome,
};

pub fn kinds() -> Vec<(&'static str, Value)> {
    let map = |fields: &[(&str, Value)]| -> Value {
        Value::Map(
            fields
                .iter()
                .map(|(k, v)| ((*k).to_owned(), v.clone()))
                .collect::<Map>(),
        )
    };
    let text = |s: &str| Value::String(s.into());
    vec![
        ("null", Value::Null),
        ("true", Value::Bool(true)),
        ("zero", Value::Int(0)),
        ("least", Value::Int(i64::MIN)),
        ("greatest", Value::Int(i64::MAX)),
        ("beyond doubles", Value::Int((1 << 53) + 1)),
        ("one point zero", Value::Double(1.0)),
        ("negative zero", Value::Double(-0.0)),
        ("not a number", Value::Double(f64::NAN)),
        ("infinity", Value::Double(f64::INFINITY)),
        ("minus infinity", Value::Double(f64::NEG_INFINITY)),
        ("tiny", Value::Double(5e-324)),
        ("huge", Value::Double(f64::MAX)),
        ("tenth", Value::Double(0.1)),
        (
            "decimal",
            Value::Decimal(Decimal::new("123456789012345678901234567890.5").unwrap()),
        ),
        (
            "long ago",
            Value::Timestamp(Timestamp::new(-62_135_596_800, 1).unwrap()),
        ),
        (
            "nanoseconds",
            Value::Timestamp(Timestamp::new(1_700_000_000, 123_456_789).unwrap()),
        ),
        ("looks like a time", text("2026-01-31T08:00:00Z")),
        ("empty", text("")),
        (
            "looks like a tag",
            map(&[("$timestamp", text("2026-01-31T08:00:00Z"))]),
        ),
        ("escaped tag", map(&[("$$bytes", text("AA=="))])),
        ("bytes", Value::Bytes((0..=255).collect())),
        ("reference", Value::Reference("users/a b/ü".into())),
        (
            "point",
            Value::GeoPoint(GeoPoint {
                latitude: -90.0,
                longitude: 179.5,
            }),
        ),
        ("vector", Value::Vector(vec![0.0, -1.5, 1e300])),
        (
            "array",
            Value::Array(vec![Value::Null, Value::Int(1), Value::Array(vec![])]),
        ),
        (
            "map",
            map(&[
                ("", Value::Int(1)),
                ("a.b", map(&[])),
                ("$", Value::Bool(false)),
            ]),
        ),
    ]
}

pub async fn every_kind_survives(subject: &Subject) {
    let collection = subject.text().await;
    let mut writes = Vec::new();
    let mut expect = Vec::new();
    for (name, value) in kinds() {
        let key = Key::text(name);
        let nested = Value::Map(
            [("deeper".to_owned(), Value::Array(vec![value.clone()]))]
                .into_iter()
                .collect(),
        );
        let fields = subject.fields(collection, &key, &[("v", value), ("nested", nested)]);
        expect.push((key.clone(), fields.clone()));
        writes.push(Write {
            collection: collection.to_owned(),
            key,
            to: Some(Body::Map(fields)),
            guard: Guard::Absent,
        });
    }
    for (write, outcome) in writes.iter().zip(subject.write(&writes).await) {
        let unheld = subject.unheld.contains(&write.key.to_string().as_str());
        match outcome {
            WriteOutcome::Applied => assert!(!unheld, "{}", write.key),
            WriteOutcome::Refused(why) => assert!(unheld, "{}: {why:?}", write.key),
            WriteOutcome::Lost => panic!("{}", write.key),
        }
    }
    expect.retain(|(key, _)| !subject.unheld.contains(&key.to_string().as_str()));
    for (key, fields) in &expect {
        let found = subject.get(collection, key.clone()).await.unwrap();
        assert_eq!(found.body.map().unwrap().as_ref(), fields, "{key}");
        assert_eq!(
            found.body.fingerprint().unwrap(),
            Body::Map(fields.clone()).fingerprint().unwrap()
        );
    }
    let scanned = subject.scan(collection, &KeyRange::all(), 5).await;
    assert_eq!(scanned.len(), expect.len());
    for document in scanned {
        let fields = &expect
            .iter()
            .find(|(key, _)| *key == document.key)
            .unwrap()
            .1;
        assert_eq!(
            document.body.map().unwrap().as_ref(),
            fields,
            "{}",
            document.key
        );
    }
}

/// What is written as bytes means the same when it is read.
pub async fn json_bytes_survive(subject: &Subject) {
    let collection = subject.text().await;
    let fields = |key: &str| subject.fields(collection, &Key::text(key), &[("n", Value::Int(7))]);
    for (key, members) in [
        ("spaces", "\"a\" : [ 1 , 2.50 ,\n\t-0.0 ]"),
        ("escapes", r#""a":"\u00e9\ud83d\ude00\/\b""#),
        (
            "numbers",
            r#""a":1e5,"b":12345678901234567890,"c":0.1,"d":1E-400"#,
        ),
        ("order", r#""z":1,"a":2,"m":{"z":1,"a":2}"#),
        (
            "tags",
            r#""t":{"$timestamp":"2026-01-31T08:00:00.5Z"},"x":{"$bytes":"AAE="}"#,
        ),
    ] {
        let mut json = Vec::new();
        whimbrel_model::json::write_map(&fields(key), &mut json);
        json.pop();
        json.extend_from_slice(format!(", {members}}}").as_bytes());
        let body = Body::from_json(json);
        if subject.unheld.contains(&key) {
            continue;
        }
        let expect = body.fingerprint().unwrap();
        let write = Write {
            collection: collection.to_owned(),
            key: Key::text(key),
            to: Some(body),
            guard: Guard::Absent,
        };
        assert_eq!(subject.one(write).await, WriteOutcome::Applied, "{key}");
        let found = subject.get(collection, key).await.unwrap();
        assert_eq!(found.body.fingerprint().unwrap(), expect, "{key}");
    }
}

pub async fn hostile_strings_survive(subject: &Subject) {
    let collection = subject.text().await;
    let key = Key::text("strings");
    let strings: Vec<Value> = naughty().into_iter().map(Value::String).collect();
    let names: Map = naughty()
        .into_iter()
        .filter(|name| !(subject.unnameable)(name))
        .map(|s| (s, Value::Bool(true)))
        .collect();
    let fields = [
        ("strings", Value::Array(strings)),
        ("names", Value::Map(names)),
    ];
    let fields = subject.fields(collection, &key, &fields);
    let write = Write {
        collection: collection.to_owned(),
        key: key.clone(),
        to: Some(Body::Map(fields.clone())),
        guard: Guard::Absent,
    };
    assert_eq!(subject.one(write).await, WriteOutcome::Applied);
    let found = subject.get(collection, key).await.unwrap();
    assert_eq!(found.body.map().unwrap().as_ref(), &fields);
}
