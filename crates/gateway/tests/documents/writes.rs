//! Commits, batches of independent writes, and the calls for single documents.

use crate::stage::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use tonic::Code;
use whimbrel_firestore::Fields;
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_firestore::v1::{
    BatchWriteRequest, CreateDocumentRequest, DeleteDocumentRequest, Document, DocumentMask,
    GetDocumentRequest, UpdateDocumentRequest, Value,
};
use whimbrel_gateway::documents;

#[tokio::test]
async fn a_commit_whose_second_write_fails_leaves_nothing() {
    for stage in stages().await {
        stage.write(vec![set("a/there", n(1))]).await;
        for (second, code) in [
            (if_exists(false, set("a/there", n(2))), Code::AlreadyExists),
            (if_exists(true, set("a/missing", n(2))), Code::NotFound),
            (
                if_updated(1, set("a/there", n(2))),
                Code::FailedPrecondition,
            ),
        ] {
            let writes = vec![set("a/new", n(1)), second, delete("a/there")];
            refused(stage.commit(writes).await, code);
            assert!(stage.get("a/new").await.is_none());
            assert_eq!(n_of(&stage.get("a/there").await.unwrap()), 1);
        }
    }
}

#[tokio::test]
async fn results_say_when_documents_were_updated() {
    for stage in stages().await {
        let first = stage.commit(vec![set("a/1", n(1))]).await.unwrap();
        let then = at(first.commit_time.as_ref());
        assert_eq!(at(first.write_results[0].update_time.as_ref()), then);
        // Nothing changes: the time of the document stays, the commit has its own.
        let again = stage.commit(vec![set("a/1", n(1))]).await.unwrap();
        assert_eq!(at(again.write_results[0].update_time.as_ref()), then);
        assert!(at(again.commit_time.as_ref()) > then);
        assert_eq!(
            at(stage.get("a/1").await.unwrap().update_time.as_ref()),
            then
        );
        let later = stage.write(vec![if_updated(then, set("a/1", n(2)))]).await;
        let document = stage.get("a/1").await.unwrap();
        assert_eq!(at(document.create_time.as_ref()), then);
        assert_eq!(at(document.update_time.as_ref()), later);
        stage.write(vec![delete("a/1")]).await;
        let anew = stage.write(vec![set("a/1", n(2))]).await;
        let document = stage.get("a/1").await.unwrap();
        assert_eq!(at(document.create_time.as_ref()), anew);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_at_once_are_all_there_each_at_a_time_of_its_own() {
    for stage in stages().await {
        let stage = Arc::new(stage);
        let clients: Vec<_> = (0..32)
            .map(|client| {
                let stage = stage.clone();
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    for i in 0..40 {
                        let own = format!("clients/{client}");
                        let writes = vec![
                            increment("a/shared", 1),
                            set(&own, n(i)),
                            set(&format!("{own}/log/{i}"), n(i)),
                        ];
                        let at = stage.write(writes).await;
                        // What was written is read at once.
                        assert_eq!(n_of(&stage.get(&own).await.unwrap()), i);
                        times.push(at);
                    }
                    times
                })
            })
            .collect();
        let mut all = BTreeSet::new();
        for client in clients {
            let times = client.await.unwrap();
            assert!(times.is_sorted(), "a client's commits follow each other");
            for at in times {
                assert!(all.insert(at), "two commits have one time");
            }
        }
        assert_eq!(n_of(&stage.get("a/shared").await.unwrap()), 32 * 40);
        // Each commit was a step of its own.
        for (i, at) in all.iter().enumerate() {
            let document = stage.get_at("a/shared", *at).await.unwrap();
            assert_eq!(n_of(&document), i as i64 + 1);
        }
        assert_eq!(stage.gateway.transactions.load(), (0, 0));
    }
}

#[tokio::test]
async fn independent_writes_have_a_status_each() {
    for stage in stages().await {
        stage.write(vec![set("a/there", n(1))]).await;
        let batch = |writes| BatchWriteRequest {
            database: DATABASE.to_owned(),
            writes,
            ..BatchWriteRequest::default()
        };
        let writes = vec![
            set("a/1", n(1)),
            if_exists(false, set("a/there", n(2))),
            if_exists(true, delete("a/missing")),
            delete("a/other"),
            set("a/2", n(2)),
        ];
        let response = documents::batch_write(&stage.gateway, batch(writes))
            .await
            .unwrap();
        let codes: Vec<i32> = response.status.iter().map(|status| status.code).collect();
        assert_eq!(codes, [0, 6, 5, 0, 0]);
        assert!(response.write_results[0].update_time.is_some());
        assert!(response.write_results[1].update_time.is_none());
        assert_eq!(n_of(&stage.get("a/2").await.unwrap()), 2);
        assert_eq!(n_of(&stage.get("a/there").await.unwrap()), 1);
        let twice = vec![set("a/1", n(5)), set("a/1", n(6))];
        let outcome = documents::batch_write(&stage.gateway, batch(twice)).await;
        refused(outcome, Code::InvalidArgument);
        assert_eq!(n_of(&stage.get("a/1").await.unwrap()), 1);
    }
}

#[tokio::test]
async fn single_documents_are_created_updated_read_and_deleted() {
    for stage in stages().await {
        let gateway = &stage.gateway;
        let create = |id: &str| CreateDocumentRequest {
            parent: name("a/1"),
            collection_id: "b".to_owned(),
            document_id: id.to_owned(),
            document: Some(Document {
                fields: fields(&[("n", 1), ("m", 2)]),
                ..Document::default()
            }),
            mask: Some(DocumentMask {
                field_paths: vec!["m".to_owned()],
            }),
            ..CreateDocumentRequest::default()
        };
        let made = documents::create(gateway, create("x")).await.unwrap();
        assert_eq!(made.name, name("a/1/b/x"));
        assert_eq!(made.fields, fields(&[("m", 2)]));
        assert!(made.create_time.is_some() && made.create_time == made.update_time);
        refused(
            documents::create(gateway, create("x")).await,
            Code::AlreadyExists,
        );
        refused(
            documents::create(gateway, create("__x__")).await,
            Code::InvalidArgument,
        );
        let first = documents::create(gateway, create("")).await.unwrap();
        let second = documents::create(gateway, create("")).await.unwrap();
        assert_ne!(first.name, second.name);

        let update = UpdateDocumentRequest {
            document: Some(Document {
                name: name("a/1/b/x"),
                fields: fields(&[("n", 7)]),
                ..Document::default()
            }),
            update_mask: Some(DocumentMask {
                field_paths: vec!["n".to_owned()],
            }),
            ..UpdateDocumentRequest::default()
        };
        let updated = documents::update(gateway, update.clone()).await.unwrap();
        assert_eq!(updated.fields, fields(&[("n", 7), ("m", 2)]));
        // The same again: nothing changes, and the document is still what is answered.
        assert_eq!(documents::update(gateway, update).await.unwrap(), updated);

        let get = |path: &str| GetDocumentRequest {
            name: name(path),
            ..GetDocumentRequest::default()
        };
        assert_eq!(
            documents::get(gateway, get("a/1/b/x")).await.unwrap(),
            updated
        );
        let delete = DeleteDocumentRequest {
            name: name("a/1/b/x"),
            ..DeleteDocumentRequest::default()
        };
        documents::delete(gateway, delete.clone()).await.unwrap();
        documents::delete(gateway, delete).await.unwrap();
        refused(
            documents::get(gateway, get("a/1/b/x")).await,
            Code::NotFound,
        );
    }
}

#[tokio::test]
async fn databases_share_a_store_and_no_document() {
    for stage in stages().await {
        let in_other = |path: &str| {
            let mut write = set(path, n(2));
            if let Some(whimbrel_firestore::v1::write::Operation::Update(document)) =
                &mut write.operation
            {
                document.name = document.name.replace("(default)", "other");
            }
            write
        };
        stage.write(vec![set("a/1", n(1))]).await;
        let refusal = stage.commit(vec![in_other("a/1")]).await;
        refused(refusal, Code::InvalidArgument);
        let commit = whimbrel_firestore::v1::CommitRequest {
            database: "projects/p/databases/other".to_owned(),
            writes: vec![in_other("a/1"), in_other("@x/1")],
            ..Default::default()
        };
        documents::commit(&stage.gateway, commit).await.unwrap();
        assert_eq!(n_of(&stage.get("a/1").await.unwrap()), 1);
        let get = GetDocumentRequest {
            name: "projects/p/databases/other/documents/a/1".to_owned(),
            ..GetDocumentRequest::default()
        };
        let other = documents::get(&stage.gateway, get.clone()).await.unwrap();
        assert_eq!(
            (other.name, n_of(&stage.get("a/1").await.unwrap())),
            (get.name, 1)
        );
        // A project is called as the request calls it.
        let get = GetDocumentRequest {
            name: "projects/q/databases/(default)/documents/a/1".to_owned(),
            ..GetDocumentRequest::default()
        };
        let same = documents::get(&stage.gateway, get.clone()).await.unwrap();
        assert_eq!((n_of(&same), same.name), (1, get.name));
    }
}

#[tokio::test]
async fn references_follow_the_name_of_the_project() {
    let stage = Stage::new().await;
    let reference = |name: &str| Value {
        value_type: Some(ValueType::ReferenceValue(name.to_owned())),
    };
    let own = name("users/alice");
    let fields: Fields = [("r".to_owned(), reference(&own))].into_iter().collect();
    stage.write(vec![set("a/1", fields.clone())]).await;
    assert_eq!(stage.get("a/1").await.unwrap().fields, fields);
    let get = GetDocumentRequest {
        name: "projects/q/databases/(default)/documents/a/1".to_owned(),
        ..GetDocumentRequest::default()
    };
    let moved = documents::get(&stage.gateway, get).await.unwrap();
    let there = "projects/q/databases/(default)/documents/users/alice";
    assert_eq!(moved.fields.get("r"), Some(&reference(there)));
    let short: Fields = [("r".to_owned(), reference("users/alice"))]
        .into_iter()
        .collect();
    refused(
        stage.commit(vec![set("a/1", short)]).await,
        Code::InvalidArgument,
    );
}

#[tokio::test]
async fn a_request_of_more_than_10_mib_is_refused() {
    let stage = Stage::new().await;
    let text = |len: usize| {
        let value = Value {
            value_type: Some(ValueType::StringValue("x".repeat(len))),
        };
        [("t".to_owned(), value)].into_iter().collect::<Fields>()
    };
    let writes = |count: usize| -> Vec<_> {
        (0..count)
            .map(|i| set(&format!("a/{i}"), text(1_000_000)))
            .collect()
    };
    stage.commit(writes(10)).await.unwrap();
    refused(stage.commit(writes(11)).await, Code::InvalidArgument);
    assert!(stage.get("a/10").await.is_none());
}
