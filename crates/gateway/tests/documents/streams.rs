//! The Write stream.

use crate::stage::*;
use futures::{StreamExt, stream};
use tonic::{Code, Status};
use whimbrel_firestore::v1::{Write, WriteRequest, WriteResponse};
use whimbrel_gateway::documents::write_stream;

fn open() -> WriteRequest {
    WriteRequest {
        database: DATABASE.to_owned(),
        ..WriteRequest::default()
    }
}

fn batch(writes: Vec<Write>) -> WriteRequest {
    WriteRequest {
        writes,
        ..WriteRequest::default()
    }
}

async fn answers(stage: &Stage, requests: Vec<WriteRequest>) -> Vec<Result<WriteResponse, Status>> {
    let requests = stream::iter(requests.into_iter().map(Ok));
    write_stream(stage.gateway.clone(), requests)
        .collect()
        .await
}

#[tokio::test]
async fn batches_are_applied_in_order_and_acknowledged_with_tokens() {
    for stage in stages().await {
        let requests = vec![
            open(),
            batch(vec![set("a/1", n(1))]),
            batch(vec![increment("a/1", 1), set("a/2", n(1))]),
            batch(vec![]),
            batch(vec![set("a/3", n(1))]),
        ];
        let answers = answers(&stage, requests).await;
        // What comes behind the end is not read.
        let answers: Vec<WriteResponse> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers.len(), 4);
        assert!(!answers[0].stream_id.is_empty());
        let tokens: Vec<&[u8]> = answers.iter().map(|a| a.stream_token.as_slice()).collect();
        assert_eq!(tokens, [b"0", b"1", b"2", b"3"]);
        assert_eq!(answers[2].write_results.len(), 2);
        assert!(at(answers[2].commit_time.as_ref()) > at(answers[1].commit_time.as_ref()));
        assert!(answers[3].commit_time.is_none());
        assert_eq!(n_of(&stage.get("a/1").await.unwrap()), 2);
        assert!(stage.get("a/3").await.is_none());
    }
}

#[tokio::test]
async fn a_batch_that_fails_ends_the_stream_and_leaves_nothing() {
    let stage = Stage::new().await;
    let requests = vec![
        open(),
        batch(vec![set("a/1", n(1))]),
        batch(vec![set("a/2", n(1)), if_exists(false, set("a/1", n(2)))]),
        batch(vec![set("a/3", n(1))]),
    ];
    let mut answers = answers(&stage, requests).await;
    assert_eq!(answers.len(), 3);
    refused(answers.pop().unwrap(), Code::AlreadyExists);
    assert!(stage.get("a/1").await.is_some());
    assert!(stage.get("a/2").await.is_none());
    assert!(stage.get("a/3").await.is_none());
}

#[tokio::test]
async fn what_is_no_beginning_is_refused() {
    let stage = Stage::new().await;
    for wrong in [
        WriteRequest::default(),
        batch(vec![set("a/1", n(1))]),
        WriteRequest {
            stream_id: "1".to_owned(),
            ..open()
        },
        WriteRequest {
            stream_token: b"1".to_vec(),
            ..open()
        },
        WriteRequest {
            writes: vec![set("a/1", n(1))],
            ..open()
        },
    ] {
        let mut answers = answers(&stage, vec![wrong, batch(vec![set("a/1", n(1))])]).await;
        assert_eq!(answers.len(), 1);
        refused(answers.remove(0), Code::InvalidArgument);
    }
    let other = WriteRequest {
        database: "projects/p/databases/other".to_owned(),
        ..batch(vec![set("a/1", n(1))])
    };
    let mut answers = answers(&stage, vec![open(), other]).await;
    refused(answers.remove(1), Code::InvalidArgument);
    assert!(stage.get("a/1").await.is_none());
}
