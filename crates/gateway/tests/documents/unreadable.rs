//! Rows that others made something else of than a document.

use crate::stage::*;
use tonic::Code;
use whimbrel_firestore::v1::BatchWriteRequest;
use whimbrel_gateway::documents;
use whimbrel_testkit::servers::Schema;

/// What is done to the table `a` in SQL: to the rows with these ids.
trait Sql {
    async fn run(&self, sql: &str);

    async fn spoil(&self, ids: &[&str]) {
        let ids = ids.join("', '");
        let sql = format!("UPDATE a SET data = '[\"secret\"]' WHERE id IN ('{ids}')");
        self.run(&sql).await;
    }
}

impl Sql for rusqlite::Connection {
    async fn run(&self, sql: &str) {
        self.execute_batch(sql).unwrap();
    }
}

impl Sql for Schema {
    async fn run(&self, sql: &str) {
        Schema::run(self, sql).await;
    }
}

#[tokio::test]
async fn in_sqlite_they_are_kept_until_somebody_wants_them_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("served.db");
    let stage = Stage::over(open(&format!("sqlite:{}", path.display())).await).await;
    let sql = rusqlite::Connection::open(&path).unwrap();
    sql.busy_timeout(std::time::Duration::from_secs(30))
        .unwrap();
    kept(&stage, &sql).await;
}

#[tokio::test]
async fn in_postgresql_they_are_kept_until_somebody_wants_them_written_over() {
    let Some(schema) = Schema::create().await else {
        return;
    };
    let stage = Stage::over(open(&schema.url).await).await;
    kept(&stage, &schema).await;
    drop(stage);
}

// tidy: long because it is a list of what may be asked of such a row.
async fn kept(stage: &Stage, sql: &impl Sql) {
    let ids = ["1", "2", "3", "4", "5"];
    let paths = ids.map(|id| format!("a/{id}"));
    stage
        .write(paths.iter().map(|path| set(path, n(1))).collect())
        .await;
    let before = stage.get("a/1").await.unwrap();
    // One that was read before: the transaction cannot rest on it.
    let rests = stage.begin().await;
    stage.get_in(&rests, "a/5").await.unwrap();
    sql.spoil(&ids).await;
    let outcome = stage.commit_in(&rests, vec![set("b/1", n(1))]).await;
    refused(outcome, Code::Aborted);
    for caught_up in [false, true] {
        if caught_up {
            stage.gateway.catch_up().await.unwrap();
        }
        for write in [
            if_exists(false, set("a/1", n(2))),
            if_exists(true, set("a/1", n(2))),
            if_updated(at(before.update_time.as_ref()), set("a/1", n(2))),
            if_exists(true, delete("a/1")),
            increment("a/1", 1),
        ] {
            let outcome = stage.commit(vec![set("b/1", n(1)), write]).await;
            let words = refused(outcome, Code::FailedPrecondition);
            assert!(
                words.contains("a/1") && words.contains("no document"),
                "{words}"
            );
            assert!(!words.contains("secret"), "{words}");
            refused(stage.read(&["a/1"], None).await, Code::FailedPrecondition);
        }
    }
    assert!(stage.get("b/1").await.is_none());
    // Of independent writes the others are done.
    let request = BatchWriteRequest {
        database: DATABASE.to_owned(),
        writes: vec![increment("a/1", 1), set("b/2", n(2)), set("a/2", n(2))],
        ..BatchWriteRequest::default()
    };
    let response = documents::batch_write(&stage.gateway, request).await;
    let status = response.unwrap().status;
    let codes: Vec<Code> = status.iter().map(|status| status.code.into()).collect();
    assert_eq!(codes, [Code::FailedPrecondition, Code::Ok, Code::Ok]);
    // Who asks for nothing but a document, or none, gets that.
    stage.write(vec![set("a/3", n(3)), delete("a/4")]).await;
    for (path, expected) in [
        ("a/2", Some(2)),
        ("a/3", Some(3)),
        ("a/4", None),
        ("b/2", Some(2)),
    ] {
        assert_eq!(stage.get(path).await.as_ref().map(n_of), expected, "{path}");
    }
    stage.write(vec![if_exists(false, set("a/4", n(4)))]).await;
    stage.write(vec![increment("a/3", 1)]).await;
    assert_eq!(n_of(&stage.get("a/3").await.unwrap()), 4);
    // Mended in SQL, it is a document as any.
    sql.run("UPDATE a SET data = '{\"n\": 7}' WHERE id = '1'")
        .await;
    stage.write(vec![increment("a/1", 1)]).await;
    assert_eq!(n_of(&stage.get("a/1").await.unwrap()), 8);
}
