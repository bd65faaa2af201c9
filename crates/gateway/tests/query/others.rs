//! What others do meanwhile: SQL in the same tables, other transactions, other databases in the same store.

use crate::stage::{Stage, open};
use crate::values::*;
use futures::TryStreamExt;
use tonic::Code;
use whimbrel_firestore::v1::run_query_request::{ConsistencySelector, QueryType};
use whimbrel_firestore::v1::write::Operation;
use whimbrel_firestore::v1::{
    Document, RunQueryRequest, StructuredQuery, TransactionOptions, Write, transaction_options,
};
use whimbrel_firestore::{DatabaseName, Fields};
use whimbrel_gateway::commit::request::Request;
use whimbrel_gateway::query;

#[tokio::test]
async fn what_sql_changes_is_in_the_next_result() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.db");
    let stage = Stage::over(open(&format!("sqlite:{}", path.display())).await).await;
    for i in 0..5 {
        stage.put(&format!("c/{i}"), &[("n", int(i))]).await;
    }
    let above = |n: i64| wanting(from("c"), filter("n", Op::GreaterThan, int(n)));
    assert_eq!(stage.paths("", &above(2)).await, ["c/3", "c/4"]);
    let sql = rusqlite::Connection::open(&path).unwrap();
    let run = |text: &str| sql.execute_batch(text).unwrap();
    run(r#"UPDATE c SET data = '{"n": 9}' WHERE id = '0'"#);
    assert_eq!(stage.paths("", &above(2)).await, ["c/3", "c/4", "c/0"]);
    run(r#"INSERT INTO c (id, data) VALUES ('new', '{"n": 5}'); DELETE FROM c WHERE id = '3'"#);
    assert_eq!(stage.paths("", &above(2)).await, ["c/4", "c/new", "c/0"]);
    // Keys that no name reaches are in no result.
    run(r#"INSERT INTO c (id, data) VALUES ('a/b', '{"n": 6}'), ('', '{"n": 7}')"#);
    assert_eq!(stage.paths("", &above(2)).await, ["c/4", "c/new", "c/0"]);
    assert_eq!(
        stage.paths("", &from("c")).await,
        ["c/0", "c/1", "c/2", "c/4", "c/new"]
    );
    assert_eq!(
        stage.paths("", &group("c")).await,
        ["c/0", "c/1", "c/2", "c/4", "c/new"]
    );
}

#[tokio::test]
async fn indexes_outlive_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("app.db").display());
    let query = wanting(from("c"), filter("n", Op::Equal, int(1)));
    {
        let stage = Stage::over(open(&url).await).await;
        stage.put("c/1", &[("n", int(1))]).await;
        assert_eq!(stage.paths("", &query).await, ["c/1"]);
    }
    let stage = Stage::over(open(&url).await).await;
    let indexes = stage.gateway.backend.indexes().await.unwrap();
    assert!(indexes.len() == 1 && indexes[0].ready, "{indexes:?}");
    stage.put("c/2", &[("n", int(1))]).await;
    assert_eq!(stage.paths("", &query).await, ["c/1", "c/2"]);
    assert_eq!(stage.gateway.backend.indexes().await.unwrap(), indexes);
}

fn write(database: &str, path: &str, fields: Fields) -> Request {
    let document = Document {
        name: format!("{database}/documents/{path}"),
        fields,
        ..Document::default()
    };
    let write = Write {
        operation: Some(Operation::Update(document)),
        ..Write::default()
    };
    let (database, _) = DatabaseName::split(database).unwrap();
    Request::new(database, vec![write]).unwrap()
}

#[tokio::test]
async fn databases_do_not_see_each_other() {
    let stage = Stage::new().await;
    let other = "projects/p/databases/other";
    for (database, path) in [
        (DATABASE, "c/default"),
        (DATABASE, "p/1/c/default"),
        (DATABASE, "@other/x"),
        (DATABASE, "@other/x/c/y"),
        (other, "c/other"),
        (other, "c/__id3__"),
        (other, "p/1/c/other"),
    ] {
        let fields = crate::stage::of(&[("n", int(1))]);
        stage
            .gateway
            .write(write(database, path, fields), None)
            .await
            .unwrap();
    }
    let with_n = |query| wanting(query, filter("n", Op::Equal, int(1)));
    let other_reference = value(whimbrel_firestore::v1::value::ValueType::ReferenceValue(
        format!("{other}/documents/c/__id3__"),
    ));
    let behind = wanting(
        from("c"),
        filter("__name__", Op::GreaterThan, other_reference),
    );
    for (database, query, wanted) in [
        (DATABASE, from("c"), vec!["c/default"]),
        (
            DATABASE,
            group("c"),
            vec!["@other/x/c/y", "c/default", "p/1/c/default"],
        ),
        (
            DATABASE,
            with_n(group("c")),
            vec!["@other/x/c/y", "c/default", "p/1/c/default"],
        ),
        (DATABASE, with_n(from("@other")), vec!["@other/x"]),
        (
            DATABASE,
            group(""),
            vec!["@other/x", "@other/x/c/y", "c/default", "p/1/c/default"],
        ),
        (other, from("c"), vec!["c/__id3__", "c/other"]),
        (other, with_n(from("c")), vec!["c/__id3__", "c/other"]),
        (
            other,
            with_n(group("c")),
            vec!["c/__id3__", "c/other", "p/1/c/other"],
        ),
        (
            other,
            group(""),
            vec!["c/__id3__", "c/other", "p/1/c/other"],
        ),
        (other, behind, vec!["c/other"]),
    ] {
        let request = RunQueryRequest {
            parent: format!("{database}/documents"),
            query_type: Some(QueryType::StructuredQuery(query.clone())),
            ..RunQueryRequest::default()
        };
        let responses: Vec<_> = query::run_query(&stage.gateway, request)
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        let prefix = format!("{database}/documents/");
        let found: Vec<String> = responses
            .into_iter()
            .filter_map(|r| r.document)
            .map(|d| d.name.strip_prefix(&prefix).unwrap().to_owned())
            .collect();
        assert_eq!(found, wanted, "{database}: {query:?}");
    }
}

/// Runs a query in a transaction: begins it where there is none yet.
async fn in_transaction(
    stage: &Stage,
    query: &StructuredQuery,
    transaction: Option<Vec<u8>>,
) -> (Vec<u8>, Vec<String>) {
    let selector = match &transaction {
        Some(transaction) => ConsistencySelector::Transaction(transaction.clone()),
        None => ConsistencySelector::NewTransaction(TransactionOptions {
            mode: Some(transaction_options::Mode::ReadWrite(
                transaction_options::ReadWrite::default(),
            )),
        }),
    };
    let request = RunQueryRequest {
        parent: ROOT.to_owned(),
        query_type: Some(QueryType::StructuredQuery(query.clone())),
        consistency_selector: Some(selector),
        ..RunQueryRequest::default()
    };
    let responses: Vec<_> = query::run_query(&stage.gateway, request)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let first = responses.first().unwrap();
    let begun = transaction.unwrap_or_else(|| {
        assert!(!first.transaction.is_empty() && first.document.is_none());
        first.transaction.clone()
    });
    let paths = responses
        .into_iter()
        .filter_map(|r| r.document)
        .map(|d| d.name[ROOT.len() + 1..].to_owned())
        .collect();
    (begun, paths)
}

#[tokio::test]
async fn a_transaction_rests_on_its_queries() {
    let stage = Stage::new().await;
    stage.put("c/1", &[("n", int(1))]).await;
    stage.put("c/2", &[("n", int(2))]).await;
    let ones = wanting(from("c"), filter("n", Op::Equal, int(1)));
    let commit = async |transaction: &[u8]| {
        let request = write(DATABASE, "d/result", Fields::new());
        stage.gateway.write(request, Some(transaction)).await
    };

    // Others write what the query does not speak of.
    let (transaction, found) = in_transaction(&stage, &ones, None).await;
    assert_eq!(found, ["c/1"]);
    stage.put("c/3", &[("n", int(3))]).await;
    assert_eq!(
        in_transaction(&stage, &ones, Some(transaction.clone()))
            .await
            .1,
        ["c/1"]
    );
    commit(&transaction).await.unwrap();

    // A document comes into the result.
    let (transaction, _) = in_transaction(&stage, &ones, None).await;
    stage.put("c/4", &[("n", int(1))]).await;
    assert_eq!(
        commit(&transaction).await.unwrap_err().code(),
        Code::Aborted
    );

    // It was empty, and is no longer.
    let nines = wanting(from("c"), filter("n", Op::Equal, int(9)));
    let (transaction, found) = in_transaction(&stage, &nines, None).await;
    assert!(found.is_empty());
    stage.put("c/9", &[("n", int(9))]).await;
    assert_eq!(
        commit(&transaction).await.unwrap_err().code(),
        Code::Aborted
    );
}
