//! What paths, queries and bodies ask, compared with what arrives.

use crate::support::{self, Asked, DATABASE, Running, http};
use crate::{DOCUMENTS, document, of, time};
use serde_json::json;
use whimbrel_firestore::Fields;
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_firestore::v1::*;

fn mask(paths: &[&str]) -> Option<DocumentMask> {
    Some(DocumentMask {
        field_paths: paths.iter().map(|p| (*p).to_owned()).collect(),
    })
}

fn exists(exists: bool) -> Option<Precondition> {
    Some(Precondition {
        condition_type: Some(precondition::ConditionType::Exists(exists)),
    })
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
            get(None, Some(Transaction(vec![0, 255, 62, 63]))),
        ),
        (
            "documents/a/1?transaction=AP8-Pw",
            get(None, Some(Transaction(vec![0, 255, 62, 63]))),
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
        transaction: vec![1, 2],
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
        retry_transaction: vec![9],
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
        transaction: vec![9],
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
