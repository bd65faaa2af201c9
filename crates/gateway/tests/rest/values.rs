//! Every value as JSON, and back.

use crate::support::{Asked, Running};
use crate::{DOCUMENTS, document, of, time};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value as Json, json};
use whimbrel_firestore::Fields;
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_firestore::v1::{ArrayValue, MapValue, Value};

/// Each kind of value as the mapping writes it.
fn values() -> Vec<(ValueType, Json)> {
    let map = |fields: Fields| ValueType::MapValue(MapValue { fields });
    let array = |values| ValueType::ArrayValue(ArrayValue { values });
    let point = |latitude, longitude| {
        ValueType::GeoPointValue(whimbrel_firestore::proto::google::r#type::LatLng {
            latitude,
            longitude,
        })
    };
    vec![
        (ValueType::NullValue(0), json!({ "nullValue": null })),
        (
            ValueType::BooleanValue(false),
            json!({ "booleanValue": false }),
        ),
        (
            ValueType::BooleanValue(true),
            json!({ "booleanValue": true }),
        ),
        (ValueType::IntegerValue(0), json!({ "integerValue": "0" })),
        (
            ValueType::IntegerValue(i64::MAX),
            json!({ "integerValue": "9223372036854775807" }),
        ),
        (
            ValueType::IntegerValue(i64::MIN),
            json!({ "integerValue": "-9223372036854775808" }),
        ),
        (ValueType::DoubleValue(0.1), json!({ "doubleValue": 0.1 })),
        (ValueType::DoubleValue(-0.0), json!({ "doubleValue": -0.0 })),
        (
            ValueType::DoubleValue(5e-324),
            json!({ "doubleValue": 5e-324 }),
        ),
        (
            ValueType::DoubleValue(f64::MAX),
            json!({ "doubleValue": f64::MAX }),
        ),
        (
            ValueType::DoubleValue(f64::NAN),
            json!({ "doubleValue": "NaN" }),
        ),
        (
            ValueType::DoubleValue(f64::INFINITY),
            json!({ "doubleValue": "Infinity" }),
        ),
        (
            ValueType::DoubleValue(f64::NEG_INFINITY),
            json!({ "doubleValue": "-Infinity" }),
        ),
        (
            ValueType::TimestampValue(time(0, 0)),
            json!({ "timestampValue": "1970-01-01T00:00:00Z" }),
        ),
        (
            ValueType::TimestampValue(time(-62_135_596_800, 0)),
            json!({ "timestampValue": "0001-01-01T00:00:00Z" }),
        ),
        (
            ValueType::TimestampValue(time(253_402_300_799, 999_999_000)),
            json!({ "timestampValue": "9999-12-31T23:59:59.999999Z" }),
        ),
        (
            ValueType::StringValue(String::new()),
            json!({ "stringValue": "" }),
        ),
        (
            ValueType::StringValue("\0\u{1f600} é \"\\\u{2028}\u{ffff}".into()),
            json!({ "stringValue": "\0\u{1f600} é \"\\\u{2028}\u{ffff}" }),
        ),
        (ValueType::BytesValue(vec![]), json!({ "bytesValue": "" })),
        (
            ValueType::BytesValue(vec![0, 255, 62, 63]),
            json!({ "bytesValue": "AP8+Pw==" }),
        ),
        (
            ValueType::ReferenceValue(format!("{DOCUMENTS}/a/1")),
            json!({ "referenceValue": format!("{DOCUMENTS}/a/1") }),
        ),
        (point(0.0, 0.0), json!({ "geoPointValue": {} })),
        (
            point(-90.0, 180.0),
            json!({ "geoPointValue": { "latitude": -90.0, "longitude": 180.0 } }),
        ),
        (array(vec![]), json!({ "arrayValue": {} })),
        (
            array(vec![of(ValueType::IntegerValue(1)), of(map(Fields::new()))]),
            json!({ "arrayValue": { "values": [{ "integerValue": "1" }, { "mapValue": {} }] } }),
        ),
        (map(Fields::new()), json!({ "mapValue": {} })),
        (
            map([
                ("z".to_owned(), of(ValueType::BooleanValue(true))),
                (
                    "a".to_owned(),
                    of(map([(String::new(), of(ValueType::NullValue(0)))].into())),
                ),
            ]
            .into()),
            json!({ "mapValue": { "fields": {
                "z": { "booleanValue": true },
                "a": { "mapValue": { "fields": { "": { "nullValue": null } } } },
            } } }),
        ),
    ]
}

/// The same to the last bit, and in the same order.
fn check_same(left: &Fields, right: &Fields) {
    assert!(left.keys().eq(right.keys()), "{left:?}\n{right:?}");
    for (name, value) in left {
        same_value(value, &right[name]);
    }
}

fn same_value(left: &Value, right: &Value) {
    match (&left.value_type, &right.value_type) {
        (Some(ValueType::DoubleValue(l)), Some(ValueType::DoubleValue(r))) => {
            assert!(
                l.to_bits() == r.to_bits() || (l.is_nan() && r.is_nan()),
                "{l} {r}"
            );
        }
        (Some(ValueType::MapValue(l)), Some(ValueType::MapValue(r))) => {
            check_same(&l.fields, &r.fields)
        }
        (Some(ValueType::ArrayValue(l)), Some(ValueType::ArrayValue(r))) => {
            assert_eq!(l.values.len(), r.values.len());
            for (l, r) in l.values.iter().zip(&r.values) {
                same_value(l, r);
            }
        }
        (l, r) => assert_eq!(l, r),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_value_is_written_as_the_mapping_says_and_read_back() {
    let (server, notes) = Running::mock().await;
    let mut fields = Fields::new();
    let mut expect = serde_json::Map::new();
    for (n, (kind, json)) in values().into_iter().enumerate() {
        // In an order that is nobody's alphabet.
        let name = format!("{}é {n}", 99 - n);
        fields.insert(name.clone(), of(kind));
        expect.insert(name, json);
    }
    let mut stored = document("1", fields.clone());
    stored.create_time = Some(time(1, 0));
    stored.update_time = Some(time(1, 999_000));
    notes
        .documents
        .lock()
        .unwrap()
        .insert(stored.name.clone(), stored.clone());
    let heard = server.rest("GET", "documents/a/1", "").await;
    let expect = json!({
        "name": stored.name,
        "fields": expect,
        "createTime": "1970-01-01T00:00:01Z",
        "updateTime": "1970-01-01T00:00:01.000999Z",
    });
    // As texts: order counts, and -0 is not 0.
    assert_eq!(heard.text, expect.to_string());
    let heard = server.rest("PATCH", "documents/a/2", &heard.text).await;
    assert_eq!(heard.status, 200, "{}", heard.text);
    let Asked::Update(asked) = notes.last() else {
        panic!("{:?}", notes.last());
    };
    check_same(&fields, &asked.document.unwrap().fields);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_read_in_every_way_that_the_mapping_allows() {
    let (server, notes) = Running::mock().await;
    for (json, expect) in [
        (r#"{"integerValue":7}"#, ValueType::IntegerValue(7)),
        (r#"{"integerValue":"-7"}"#, ValueType::IntegerValue(-7)),
        (r#"{"doubleValue":7}"#, ValueType::DoubleValue(7.0)),
        (r#"{"doubleValue":"7.5"}"#, ValueType::DoubleValue(7.5)),
        (
            r#"{"doubleValue":2.2250738585072011e-308}"#,
            ValueType::DoubleValue(2.225_073_858_507_201e-308),
        ),
        (r#"{"double_value":1e2}"#, ValueType::DoubleValue(100.0)),
        (r#"{"nullValue":"NULL_VALUE"}"#, ValueType::NullValue(0)),
        (
            r#"{"bytesValue":"AP8-Pw"}"#,
            ValueType::BytesValue(vec![0, 255, 62, 63]),
        ),
        (
            r#"{"timestampValue":"2023-05-06T09:08:09.1+02:00"}"#,
            ValueType::TimestampValue(time(1_683_356_889, 100_000_000)),
        ),
        (
            r#"{"stringValue":"\ud83d\ude00"}"#,
            ValueType::StringValue("\u{1f600}".into()),
        ),
    ] {
        let body = format!(r#"{{"fields":{{"f":{json}}}}}"#);
        let heard = server.rest("PATCH", "documents/a/1", &body).await;
        assert_eq!(heard.status, 200, "{json}: {}", heard.text);
        let Asked::Update(asked) = notes.last() else {
            panic!("{:?}", notes.last());
        };
        check_same(
            &[("f".to_owned(), of(expect))].into(),
            &asked.document.unwrap().fields,
        );
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(ValueType::NullValue(0)),
        any::<bool>().prop_map(ValueType::BooleanValue),
        any::<i64>().prop_map(ValueType::IntegerValue),
        any::<u64>().prop_map(|bits| ValueType::DoubleValue(f64::from_bits(bits))),
        (-62_135_596_800_i64..=253_402_300_799, 0..1_000_000_000)
            .prop_map(|(s, n)| ValueType::TimestampValue(time(s, n))),
        any::<String>().prop_map(ValueType::StringValue),
        any::<Vec<u8>>().prop_map(ValueType::BytesValue),
    ];
    leaf.prop_map(of).prop_recursive(6, 40, 6, |inner| {
        let array = proptest::collection::vec(inner.clone(), 0..6)
            .prop_map(|values| of(ValueType::ArrayValue(ArrayValue { values })));
        let map = any_fields(inner).prop_map(|fields| of(ValueType::MapValue(MapValue { fields })));
        prop_oneof![array, map]
    })
}

fn any_fields(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Fields> {
    proptest::collection::vec((any::<String>(), value), 0..6)
        .prop_map(|fields| fields.into_iter().collect())
}

/// What JSON brings in and gives out is what gRPC would have.
#[test]
fn whatever_a_document_holds_comes_back() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (server, notes) = runtime.block_on(Running::mock());
    let mut runner = TestRunner::new(Config::with_cases(200));
    let round = |fields: Fields| {
        let stored = document("1", fields.clone());
        notes
            .documents
            .lock()
            .unwrap()
            .insert(stored.name.clone(), stored);
        runtime.block_on(async {
            let heard = server.rest("GET", "documents/a/1", "").await;
            let back = server.rest("PATCH", "documents/a/2", &heard.text).await;
            assert_eq!(back.status, 200, "{}", back.text);
        });
        let documents = notes.documents.lock().unwrap();
        check_same(&fields, &documents[&format!("{DOCUMENTS}/a/2")].fields);
        Ok(())
    };
    runner.run(&any_fields(any_value()), round).unwrap();
}
