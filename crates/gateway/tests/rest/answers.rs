//! How answers look: streams, errors, enums.

use crate::support::{Running, http};
use crate::{DOCUMENTS, document, of};
use serde_json::json;
use whimbrel_firestore::Fields;
use whimbrel_firestore::v1::Document;
use whimbrel_firestore::v1::value::ValueType;

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
