//! The JSON mapping: what each path asks, every value there and back, errors, streams, and what is no request.

mod support;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value as Json, json};
use support::{Asked, DATABASE, Running, http};
use whimbrel_firestore::Fields;
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_firestore::v1::*;

const DOCUMENTS: &str = "projects/p/databases/(default)/documents";

fn of(kind: ValueType) -> Value {
    Value {
        value_type: Some(kind),
    }
}

fn mask(paths: &[&str]) -> Option<DocumentMask> {
    Some(DocumentMask {
        field_paths: paths.iter().map(|p| (*p).to_owned()).collect(),
    })
}

fn time(seconds: i64, nanos: i32) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos }
}

fn exists(exists: bool) -> Option<Precondition> {
    Some(Precondition {
        condition_type: Some(precondition::ConditionType::Exists(exists)),
    })
}

fn document(id: &str, fields: Fields) -> Document {
    Document {
        name: format!("{DOCUMENTS}/a/{id}"),
        fields,
        ..Default::default()
    }
}

/// Asks, and compares what arrived with what the path, the query and the body mean.
async fn check_asks(server: &Running, notes: &support::Notes, request: [&str; 3], expect: Asked) {
    let [method, path, body] = request;
    let heard = server.rest(method, path, body).await;
    assert_eq!(heard.status, 200, "{method} {path}: {}", heard.text);
    assert_eq!(notes.last(), expect, "{method} {path}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_are_asked_for() {
    let (server, notes) = Running::mock().await;
    let stored = document("1", Fields::new());
    notes
        .documents
        .lock()
        .unwrap()
        .insert(stored.name.clone(), stored.clone());
    let name = stored.name.clone();
    let get = |mask, consistency_selector| {
        Asked::Get(GetDocumentRequest {
            name: name.clone(),
            mask,
            consistency_selector,
            ..Default::default()
        })
    };
    use get_document_request::ConsistencySelector::{ReadTime, Transaction};
    for (path, expect) in [
        ("documents/a/1", get(None, None)),
        ("documents/a/1?", get(None, None)),
        // What every Google service takes.
        (
            "documents/a/1?key=k&%24alt=json&prettyPrint=true",
            get(None, None),
        ),
        (
            "documents/a/1?mask.fieldPaths=x&mask.fieldPaths=%60a%20b%60.c",
            get(mask(&["x", "`a b`.c"]), None),
        ),
        (
            "documents/a/1?mask.field_paths=x&readTime=2023-05-06T07%3A08%3A09.123456Z",
            get(
                mask(&["x"]),
                Some(ReadTime(time(1_683_356_889, 123_456_000))),
            ),
        ),
        (
            // A plus that nobody escaped, and the alphabet for URLs.
            "documents/a/1?transaction=AP8+Pw==",
            get(None, Some(Transaction(vec![0, 255, 62, 63].into()))),
        ),
        (
            "documents/a/1?transaction=AP8-Pw",
            get(None, Some(Transaction(vec![0, 255, 62, 63].into()))),
        ),
    ] {
        check_asks(&server, &notes, ["GET", path, ""], expect).await;
    }
    let list = |parent: &str, page_size, token: &str, order: &str, show_missing| {
        Asked::List(ListDocumentsRequest {
            parent: format!("{DATABASE}/{parent}"),
            collection_id: "a b".into(),
            page_size,
            page_token: token.into(),
            order_by: order.into(),
            show_missing,
            ..Default::default()
        })
    };
    for (path, expect) in [
        ("documents/a%20b", list("documents", 0, "", "", false)),
        (
            "documents/x/1/a%20b?pageSize=10&pageToken=t%26u&orderBy=n+desc&showMissing=true",
            list("documents/x/1", 10, "t&u", "n desc", true),
        ),
    ] {
        check_asks(&server, &notes, ["GET", path, ""], expect).await;
    }
    let heard = server.rest("GET", "documents/a", "").await.json();
    assert_eq!(
        heard,
        json!({ "documents": [{ "name": name }], "nextPageToken": "more" })
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_are_written() {
    let (server, notes) = Running::mock().await;
    let fields: Fields = [("n".to_owned(), of(ValueType::IntegerValue(7)))].into();
    let body = r#"{"name":"of no account","fields":{"n":{"integerValue":"7"}}}"#;
    let update = |id, update_mask, mask, current_document| {
        Asked::Update(UpdateDocumentRequest {
            document: Some(document(id, fields.clone())),
            update_mask,
            mask,
            current_document,
            ..Default::default()
        })
    };
    for (path, expect) in [
        ("documents/a/1", update("1", None, None, None)),
        (
            "documents/a/1?updateMask.fieldPaths=n&updateMask.fieldPaths=m.o&mask.fieldPaths=n&currentDocument.exists=true",
            update("1", mask(&["n", "m.o"]), mask(&["n"]), exists(true)),
        ),
        (
            "documents/a/1/b/2?currentDocument.exists=false",
            update("1/b/2", None, None, exists(false)),
        ),
    ] {
        check_asks(&server, &notes, ["PATCH", path, body], expect).await;
    }
    let delete = |current_document| {
        Asked::Delete(DeleteDocumentRequest {
            name: format!("{DOCUMENTS}/a/1"),
            current_document,
            ..Default::default()
        })
    };
    let updated = Precondition {
        condition_type: Some(precondition::ConditionType::UpdateTime(time(0, 1000))),
    };
    for (path, expect) in [
        ("documents/a/1", delete(None)),
        (
            "documents/a/1?currentDocument.updateTime=1970-01-01T00:00:00.000001Z",
            delete(Some(updated)),
        ),
    ] {
        check_asks(&server, &notes, ["DELETE", path, ""], expect).await;
    }
    assert_eq!(server.rest("DELETE", "documents/a/1", "").await.text, "{}");
    let create = |id: &str, mask| {
        Asked::Create(CreateDocumentRequest {
            parent: format!("{DOCUMENTS}/a/1"),
            collection_id: "b".into(),
            document_id: id.into(),
            document: Some(Document {
                name: "of no account".into(),
                fields: fields.clone(),
                ..Default::default()
            }),
            mask,
            ..Default::default()
        })
    };
    for (path, expect) in [
        ("documents/a/1/b", create("", None)),
        (
            "documents/a/1/b?documentId=%C3%A9&mask.fieldPaths=n",
            create("é", mask(&["n"])),
        ),
    ] {
        check_asks(&server, &notes, ["POST", path, body], expect).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_messages_are_asked() {
    let (server, notes) = Running::mock().await;
    let database = DATABASE.to_owned();
    let write = Write {
        operation: Some(write::Operation::Update(document("1", Fields::new()))),
        update_mask: mask(&["x"]),
        update_transforms: vec![document_transform::FieldTransform {
            field_path: "t".into(),
            transform_type: Some(
                document_transform::field_transform::TransformType::SetToServerValue(1),
            ),
        }],
        current_document: exists(true),
    };
    let json_write = format!(
        r#"{{"update":{{"name":"{DOCUMENTS}/a/1"}},"updateMask":{{"fieldPaths":["x"]}},
            "updateTransforms":[{{"fieldPath":"t","setToServerValue":"REQUEST_TIME"}}],
            "currentDocument":{{"exists":true}}}}"#
    );
    let commit = Asked::Commit(CommitRequest {
        database: database.clone(),
        writes: vec![write.clone()],
        transaction: vec![1, 2].into(),
        ..Default::default()
    });
    // The path says which database, whatever the body says.
    let body = format!(r#"{{"database":"another","transaction":"AQI=","writes":[{json_write}]}}"#);
    check_asks(&server, &notes, ["POST", "documents:commit", &body], commit).await;
    let body = format!(r#"{{"labels":{{"k":"v"}},"writes":[{json_write}]}}"#);
    let batch = Asked::BatchWrite(BatchWriteRequest {
        database: database.clone(),
        writes: vec![write],
        labels: [("k".to_owned(), "v".to_owned())].into(),
        ..Default::default()
    });
    check_asks(
        &server,
        &notes,
        ["POST", "documents:batchWrite", &body],
        batch,
    )
    .await;
    let read_write = transaction_options::ReadWrite {
        retry_transaction: vec![9].into(),
        ..Default::default()
    };
    let begin = Asked::Begin(BeginTransactionRequest {
        database: database.clone(),
        options: Some(TransactionOptions {
            mode: Some(transaction_options::Mode::ReadWrite(read_write)),
        }),
        ..Default::default()
    });
    let body = r#"{"options":{"readWrite":{"retryTransaction":"CQ=="}}}"#;
    check_asks(
        &server,
        &notes,
        ["POST", "documents:beginTransaction", body],
        begin,
    )
    .await;
    let rollback = Asked::Rollback(RollbackRequest {
        database: database.clone(),
        transaction: vec![9].into(),
        ..Default::default()
    });
    let body = r#"{"transaction":"CQ=="}"#;
    check_asks(
        &server,
        &notes,
        ["POST", "documents:rollback", body],
        rollback,
    )
    .await;
    let get = Asked::BatchGet(BatchGetDocumentsRequest {
        database,
        documents: vec!["a".into(), "b".into()],
        consistency_selector: Some(
            batch_get_documents_request::ConsistencySelector::NewTransaction(TransactionOptions {
                mode: Some(transaction_options::Mode::ReadOnly(Default::default())),
            }),
        ),
        ..Default::default()
    });
    let body = r#"{"documents":["a","b"],"newTransaction":{"readOnly":{}}}"#;
    check_asks(&server, &notes, ["POST", "documents:batchGet", body], get).await;
    for (parent, id) in [("documents", ""), ("documents/a/x:y", "/a/x:y")] {
        let collections = Asked::Collections(ListCollectionIdsRequest {
            parent: format!("{DOCUMENTS}{id}"),
            page_size: 5,
            ..Default::default()
        });
        let path = format!("{parent}:listCollectionIds");
        let request = ["POST", &path, r#"{"pageSize":5}"#];
        check_asks(&server, &notes, request, collections).await;
    }
    // Nothing at all is an empty message.
    let heard = server.rest("POST", "documents:beginTransaction", "").await;
    assert_eq!(heard.json(), json!({ "transaction": "AP8+Pw==" }));
}

fn query() -> StructuredQuery {
    use structured_query as q;
    let field = || {
        Some(q::FieldReference {
            field_path: "n".into(),
        })
    };
    let filter = q::FieldFilter {
        field: field(),
        op: q::field_filter::Operator::GreaterThan as i32,
        value: Some(of(ValueType::DoubleValue(f64::NEG_INFINITY))),
    };
    StructuredQuery {
        from: vec![q::CollectionSelector {
            collection_id: "a".into(),
            all_descendants: true,
        }],
        r#where: Some(q::Filter {
            filter_type: Some(q::filter::FilterType::FieldFilter(filter)),
        }),
        order_by: vec![q::Order {
            field: field(),
            direction: q::Direction::Descending as i32,
        }],
        start_at: Some(Cursor {
            values: vec![of(ValueType::NullValue(0))],
            before: true,
        }),
        limit: Some(0),
        ..Default::default()
    }
}

const QUERY: &str = r#"{"from":[{"collectionId":"a","allDescendants":true}],
    "where":{"fieldFilter":{"field":{"fieldPath":"n"},"op":"GREATER_THAN","value":{"doubleValue":"-Infinity"}}},
    "orderBy":[{"field":{"fieldPath":"n"},"direction":2}],
    "startAt":{"values":[{"nullValue":null}],"before":true},"limit":0}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_are_asked() {
    let (server, notes) = Running::mock().await;
    for (parent, id) in [("documents", ""), ("documents/x/1", "/x/1")] {
        let run = Asked::RunQuery(RunQueryRequest {
            parent: format!("{DOCUMENTS}{id}"),
            query_type: Some(run_query_request::QueryType::StructuredQuery(query())),
            explain_options: Some(ExplainOptions { analyze: true }),
            ..Default::default()
        });
        let path = format!("{parent}:runQuery");
        let body = format!(r#"{{"structuredQuery":{QUERY},"explainOptions":{{"analyze":true}}}}"#);
        check_asks(&server, &notes, ["POST", &path, &body], run).await;
        let partition = Asked::Partition(PartitionQueryRequest {
            parent: format!("{DOCUMENTS}{id}"),
            partition_count: 1 << 40,
            query_type: Some(partition_query_request::QueryType::StructuredQuery(query())),
            ..Default::default()
        });
        let path = format!("{parent}:partitionQuery");
        let body = format!(r#"{{"structuredQuery":{QUERY},"partitionCount":"1099511627776"}}"#);
        check_asks(&server, &notes, ["POST", &path, &body], partition).await;
        let up_to = structured_aggregation_query::aggregation::Count { up_to: Some(9) };
        let count = structured_aggregation_query::Aggregation {
            alias: "c".into(),
            operator: Some(structured_aggregation_query::aggregation::Operator::Count(
                up_to,
            )),
        };
        let aggregate = StructuredAggregationQuery {
            aggregations: vec![count],
            query_type: Some(structured_aggregation_query::QueryType::StructuredQuery(
                query(),
            )),
        };
        let asked = Asked::Aggregate(RunAggregationQueryRequest {
            parent: format!("{DOCUMENTS}{id}"),
            query_type: Some(
                run_aggregation_query_request::QueryType::StructuredAggregationQuery(aggregate),
            ),
            ..Default::default()
        });
        let path = format!("{parent}:runAggregationQuery");
        let body = format!(
            r#"{{"structuredAggregationQuery":{{"structuredQuery":{QUERY},
                "aggregations":[{{"alias":"c","count":{{"upTo":"9"}}}}]}}}}"#
        );
        check_asks(&server, &notes, ["POST", &path, &body], asked).await;
    }
}

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
        (
            ValueType::BytesValue(vec![].into()),
            json!({ "bytesValue": "" }),
        ),
        (
            ValueType::BytesValue(vec![0, 255, 62, 63].into()),
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
            ValueType::BytesValue(vec![0, 255, 62, 63].into()),
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
        any::<Vec<u8>>().prop_map(|b| ValueType::BytesValue(b.into())),
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_arrays() {
    let (server, notes) = Running::mock().await;
    for id in ["1", "2"] {
        let document = document(id, Fields::new());
        notes
            .documents
            .lock()
            .unwrap()
            .insert(document.name.clone(), document);
    }
    let name = |id: &str| format!("{DOCUMENTS}/a/{id}");
    let found = |id| json!({ "found": { "name": name(id) }, "readTime": "1970-01-01T00:00:01Z" });
    let missing = json!({ "missing": name("3"), "readTime": "1970-01-01T00:00:01Z" });
    let error = json!({ "error": { "code": 409, "message": "enough", "status": "ABORTED" } });
    for (ids, status, expect) in [
        (vec![], 200, json!([])),
        (vec!["1"], 200, json!([found("1")])),
        (
            vec!["1", "3", "2"],
            200,
            json!([found("1"), missing, found("2")]),
        ),
        // A failure later is the last element.
        (vec!["1", "fails", "2"], 200, json!([found("1"), error])),
        // Before the first message it is the response's.
        (vec!["fails", "1"], 409, json!([error])),
    ] {
        let names: Vec<String> = ids.iter().map(|id| name(id)).collect();
        let body = json!({ "documents": names }).to_string();
        let heard = server.rest("POST", "documents:batchGet", &body).await;
        assert_eq!((heard.status, heard.json()), (status, expect), "{ids:?}");
    }
    let body = r#"{"structuredQuery":{"offset":1}}"#;
    let heard = server.rest("POST", "documents:runQuery", body).await;
    let error =
        json!({ "code": 400, "message": "no offsets here", "status": "FAILED_PRECONDITION" });
    assert_eq!(
        (heard.status, heard.json()),
        (400, json!([{ "error": error }]))
    );
    // Aggregates keep their order, too.
    let heard = server
        .rest("POST", "documents:runAggregationQuery", "{}")
        .await;
    let three = r#"{"integerValue":"3"}"#;
    assert_eq!(
        heard.text,
        format!(
            r#"[{{"result":{{"aggregateFields":{{"z":{three},"a":{three}}}}},"readTime":"1970-01-01T00:00:01Z"}}]"#
        )
    );
    let body = r#"{"structuredQuery":{}}"#;
    let heard = server.rest("POST", "documents:partitionQuery", body).await;
    assert_eq!(
        heard.json(),
        json!({ "partitions": [{ "values": [{ "referenceValue": "x" }], "before": true }] })
    );
    let heard = server.rest("POST", "documents:listCollectionIds", "").await;
    assert_eq!(heard.json(), json!({ "collectionIds": ["a", "b c"] }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_describe_errors_can_be_written() {
    let (server, _notes) = Running::mock().await;
    let heard = server.rest("POST", "documents:batchWrite", "{}").await;
    // Details of unknown kinds are left out, the rest stays.
    assert_eq!(
        heard.json(),
        json!({ "writeResults": [{}], "status": [{ "code": 6, "message": "there already" }, {}] })
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_goes_along() {
    let (server, notes) = Running::mock().await;
    let path = format!("/v1/{DOCUMENTS}/a/1");
    let headers = [
        ("authorization", "Bearer owner"),
        ("x-goog-request-params", "name=x"),
        ("x-server-timeout", "2.5"),
        ("cookie", "secret"),
    ];
    http(server.address, "GET", &path, "", &headers).await;
    let metadata = notes.metadata.lock().unwrap().clone().into_headers();
    assert_eq!(metadata["authorization"], "Bearer owner");
    assert_eq!(metadata["x-goog-request-params"], "name=x");
    assert_eq!(metadata["grpc-timeout"], "2500m");
    assert!(!metadata.contains_key("cookie"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_said_as_google_says_it() {
    let (server, notes) = Running::mock().await;
    let heard = server.rest("GET", "documents/a/none", "").await;
    let message = format!("\"{DOCUMENTS}/a/none\" not found: 100 % of it");
    let error = json!({ "error": { "code": 404, "message": message, "status": "NOT_FOUND" } });
    assert_eq!((heard.status, heard.json()), (404, error));
    assert_eq!(
        heard.header("content-type"),
        Some("application/json; charset=UTF-8")
    );

    let before = notes.asked.lock().unwrap().len();
    let deep = |depth: usize| {
        let open = r#"{"mapValue":{"fields":{"a":"#.repeat(depth);
        format!(r#"{{"fields":{{"a":{open}{{}}{}}}}}"#, "}}}".repeat(depth))
    };
    let too_deep = deep(50);
    for (method, path, body, status) in [
        ("PUT", "documents/a/1", "{}", 404),
        ("GET", "documents", "", 404),
        ("GET", "indexes/a", "", 404),
        ("POST", "documents:unknown", "{}", 404),
        ("GET", "documents/a/b%2Fc", "", 404),
        ("GET", "documents/a/%FF", "", 404),
        ("GET", "documents/a/1?pageSize=1", "", 400),
        ("GET", "documents/a?pageSize=many", "", 400),
        ("GET", "documents/a?showMissing=1", "", 400),
        ("GET", "documents/a/1?readTime=yesterday", "", 400),
        ("GET", "documents/a/1?transaction=%21", "", 400),
        ("GET", "documents/a/1?mask=x", "", 400),
        ("GET", "documents/a/1?mask.fieldPaths.x=x", "", 400),
        ("GET", "documents/a/1?alt=media", "", 400),
        ("GET", "documents/a/1?pageToken=%FF", "", 400),
        ("PATCH", "documents/a/1?document.name=x", "{}", 400),
        ("POST", "documents:commit?database=x", "{}", 400),
        ("POST", "documents:commit", "{", 400),
        ("POST", "documents:commit", "[]", 400),
        ("POST", "documents:commit", "null", 400),
        ("POST", "documents:commit", r#"{"writes":{}}"#, 400),
        ("POST", "documents:commit", r#"{"writing":[]}"#, 400),
        (
            "POST",
            "documents:commit",
            r#"{"writes":[{"update":{},"delete":"x"}]}"#,
            400,
        ),
        ("PATCH", "documents/a/1", r#"{"fields":[]}"#, 400),
        (
            "PATCH",
            "documents/a/1",
            r#"{"fields":[{"key":"a","value":{}}]}"#,
            400,
        ),
        ("PATCH", "documents/a/1", r#"{"fields":{"a":1}}"#, 400),
        (
            "PATCH",
            "documents/a/1",
            r#"{"fields":{"a":{"integerValue":"1.5"}}}"#,
            400,
        ),
        (
            "PATCH",
            "documents/a/1",
            r#"{"fields":{"a":{"integerValue":"9223372036854775808"}}}"#,
            400,
        ),
        (
            "PATCH",
            "documents/a/1",
            r#"{"fields":{"a":{"stringValue":"\ud800"}}}"#,
            400,
        ),
        (
            "PATCH",
            "documents/a/1",
            r#"{"fields":{"a":{"bytesValue":"!"}}}"#,
            400,
        ),
        (
            "PATCH",
            "documents/a/1",
            r#"{"fields":{"a":{"timestampValue":"2023-02-30T00:00:00Z"}}}"#,
            400,
        ),
        (
            "PATCH",
            "documents/a/1",
            r#"{"fields":{"a":{"integerValue":1,"stringValue":""}}}"#,
            400,
        ),
        ("PATCH", "documents/a/1", &too_deep, 400),
        ("POST", "documents:listen", "{}", 501),
        ("POST", "documents:write", "{}", 501),
    ] {
        let heard = server.rest(method, path, body).await;
        assert_eq!(
            heard.status, status,
            "{method} {path} {body}: {}",
            heard.text
        );
        let error = &heard.json()["error"];
        assert_eq!(error["code"], status, "{error}");
        assert!(
            error["message"].as_str().is_some_and(|m| m.len() > 5),
            "{error}"
        );
    }
    assert_eq!(
        notes.asked.lock().unwrap().len(),
        before,
        "nothing was asked"
    );
    // As deep as documents go.
    let heard = server.rest("PATCH", "documents/a/1", &deep(20)).await;
    assert_eq!(heard.status, 200, "{}", heard.text);
    let path = format!("/v1/{DOCUMENTS}/a/1");
    let huge = format!(
        "{{\"fields\":{{\"a\":{{\"stringValue\":\"{}\"}}}}}}",
        "x".repeat(32 << 20)
    );
    let heard = http(server.address, "PATCH", &path, &huge, &[]).await;
    assert_eq!(heard.status, 400);
    assert!(heard.text.contains("exceeds the limit"), "{}", heard.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enums_are_numbers_where_asked() {
    let (server, notes) = Running::mock().await;
    let expected = Document {
        name: format!("{DOCUMENTS}/a/1"),
        fields: [("n".to_owned(), of(ValueType::NullValue(0)))].into(),
        ..Default::default()
    };
    notes
        .documents
        .lock()
        .unwrap()
        .insert(expected.name.clone(), expected);
    let path = "documents/a/1?%24alt=json%3Benum-encoding%3Dint";
    let heard = server.rest("GET", path, "").await;
    assert_eq!(heard.status, 200, "{}", heard.text);
    let null = &heard.json()["fields"]["n"]["nullValue"];
    assert!(null.is_null() || null == 0, "{null}");
}
