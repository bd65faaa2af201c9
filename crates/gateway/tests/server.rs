//! One port, two ways to speak, an end that loses nothing, and who is let in.

mod support;

use futures::StreamExt;
use http::Method;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use support::{DATABASE, Mock, Notes, Running, channel, http, http2};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::{Code, Request};
use whimbrel_firestore::Fields;
use whimbrel_firestore::v1::firestore_client::FirestoreClient;
use whimbrel_firestore::v1::*;
use whimbrel_gateway::server::access::{Access, Token};
use whimbrel_gateway::server::{self, BindError, Ended, Server};

fn document(id: &str) -> Document {
    Document {
        name: format!("{DATABASE}/documents/a/{id}"),
        fields: Fields::new(),
        ..Default::default()
    }
}

fn commit() -> CommitRequest {
    CommitRequest {
        database: DATABASE.into(),
        writes: vec![Write::default()],
        ..Default::default()
    }
}

fn add_target(id: i32) -> ListenRequest {
    ListenRequest {
        database: DATABASE.into(),
        target_change: Some(listen_request::TargetChange::AddTarget(Target {
            target_id: id,
            ..Default::default()
        })),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_and_json_share_the_port() {
    let (server, notes) = Running::mock().await;
    let address = server.address;
    let mut tasks = Vec::new();
    for n in 0..20 {
        let id = format!("d{n}");
        let mut client = FirestoreClient::new(server.channel().await);
        let grpc = tokio::spawn(async move {
            let request = UpdateDocumentRequest {
                document: Some(document(&id)),
                ..Default::default()
            };
            client.update_document(request).await.unwrap();
        });
        let json = tokio::spawn(async move {
            let path = format!("/v1/{DATABASE}/documents/a/j{n}");
            let heard = match n % 2 {
                0 => http(address, "PATCH", &path, "{}", &[]).await,
                _ => http2(address, Method::PATCH, &path, "{}").await,
            };
            assert_eq!(heard.status, 200, "{heard:?}");
        });
        tasks.extend([grpc, json]);
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(notes.documents.lock().unwrap().len(), 40);
    let heard = server.http("GET", "/", "").await;
    assert_eq!((heard.status, heard.text.as_str()), (200, "Ok\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_requests_pass_and_larger_ones_are_told_so() {
    let (server, notes) = Running::mock().await;
    let client = FirestoreClient::new(server.channel().await);
    // The answer holds the document.
    let mut client = client.max_decoding_message_size(16 << 20);
    let of_size = |bytes: usize| {
        let mut document = document("big");
        let text = value::ValueType::StringValue("x".repeat(bytes));
        let value = Value {
            value_type: Some(text),
        };
        document.fields.insert("f".into(), value);
        UpdateDocumentRequest {
            document: Some(document),
            ..Default::default()
        }
    };
    client.update_document(of_size(11 << 20)).await.unwrap();
    let error = client.update_document(of_size(13 << 20)).await.unwrap_err();
    assert_eq!(error.code(), Code::OutOfRange, "{error}");
    assert_eq!(notes.asked.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_is_finished() {
    let (server, notes) = Running::mock().await;
    *notes.pause.lock().unwrap() = Duration::from_millis(30);
    let mut clients = Vec::new();
    for _ in 0..16 {
        let mut client = FirestoreClient::new(server.channel().await);
        clients.push(tokio::spawn(async move {
            let mut acknowledged = 0_u64;
            loop {
                match client.commit(commit()).await {
                    Ok(_) => acknowledged += 1,
                    Err(_) => return acknowledged,
                }
            }
        }));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let ended = server.stop().await.unwrap();
    assert_eq!(ended, Ended::Whole);
    let mut acknowledged = 0;
    for client in clients {
        acknowledged += client.await.unwrap();
    }
    assert!(acknowledged >= 16, "{acknowledged}");
    // Every commit that was begun was finished, and its client was told.
    assert_eq!(notes.begun.load(Ordering::SeqCst), acknowledged);
    assert_eq!(notes.finished.load(Ordering::SeqCst), acknowledged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_requests_at_work_are_finished_too() {
    let (server, notes) = Running::mock().await;
    *notes.pause.lock().unwrap() = Duration::from_millis(200);
    let address = server.address;
    let asked = tokio::spawn(async move {
        let path = format!("/v1/{DATABASE}/documents:commit");
        http(address, "POST", &path, "{}", &[]).await
    });
    while notes.begun.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(server.stop().await.unwrap(), Ended::Whole);
    assert_eq!(asked.await.unwrap().status, 200);
    assert!(TcpStream::connect(address).await.is_err(), "still listens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_are_told_and_writers_are_finished() {
    let (server, notes) = Running::mock().await;
    let mut client = FirestoreClient::new(server.channel().await);
    let targets = futures::stream::iter([add_target(7)]).chain(futures::stream::pending());
    let mut listening = client.listen(targets).await.unwrap().into_inner();
    assert!(listening.message().await.unwrap().is_some());

    *notes.pause.lock().unwrap() = Duration::from_millis(200);
    let write = WriteRequest {
        stream_id: "s".into(),
        ..Default::default()
    };
    let writes = futures::stream::iter([write]).chain(futures::stream::pending());
    let mut writing = client.write(writes).await.unwrap().into_inner();
    while notes.begun.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }

    let ended = server.stop();
    let error = listening.message().await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    let acknowledged = writing.message().await.unwrap().unwrap();
    assert_eq!(acknowledged.stream_id, "s");
    assert!(writing.message().await.unwrap().is_none());
    assert_eq!(ended.await.unwrap(), Ended::Whole);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_end_is_cut_off() {
    let notes = Arc::<Notes>::default();
    *notes.pause.lock().unwrap() = Duration::from_secs(3600);
    let calls = server::local(Mock(Arc::clone(&notes)));
    let grace = Duration::from_millis(100);
    let server = Running::with_grace(calls, Access::ThisMachine, grace).await;
    let mut client = FirestoreClient::new(server.channel().await);
    let asked = tokio::spawn(async move { client.commit(commit()).await });
    while notes.begun.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(server.stop().await.unwrap(), Ended::Cut);
    assert!(asked.await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_and_connections_are_counted() {
    let notes = Arc::<Notes>::default();
    let server = Server::bind("127.0.0.1:0", Access::ThisMachine)
        .await
        .unwrap();
    let figures = server.figures();
    let address = server.address();
    let calls = server::local(Mock(notes));
    tokio::spawn(server.run(calls, std::future::pending(), Duration::ZERO));
    let mut client = FirestoreClient::new(channel(address).await);
    let (ask, asked) = futures::channel::mpsc::unbounded();
    ask.unbounded_send(add_target(1)).unwrap();
    let mut listening = client.listen(asked).await.unwrap().into_inner();
    listening.message().await.unwrap();
    let counted = || {
        [&figures.requests, &figures.connections, &figures.streams]
            .map(|n| n.load(Ordering::Relaxed))
    };
    assert_eq!(counted(), [1, 1, 1]);
    drop((ask, listening, client));
    for _ in 0..500 {
        if counted() == [1, 0, 0] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", counted());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_wanted_where_there_is_one() {
    let token = Token::new("0123456789abcdef").unwrap();
    let calls = server::local(Mock(Arc::default()));
    let server = Running::start(calls, Access::Token(token)).await;
    let mut client = FirestoreClient::new(server.channel().await);
    let error = client.commit(commit()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
    let mut right = Request::new(commit());
    let bearer = "Bearer 0123456789abcdef".parse().unwrap();
    right.metadata_mut().insert("authorization", bearer);
    client.commit(right).await.unwrap();

    let path = format!("/v1/{DATABASE}/documents:commit");
    let heard = server.http("POST", &path, "{}").await;
    assert_eq!(heard.status, 401);
    assert_eq!(heard.json()["error"]["status"], "UNAUTHENTICATED");
    let bearer = [("authorization", "Bearer 0123456789abcdef")];
    let heard = http(server.address, "POST", &path, "{}", &bearer).await;
    assert_eq!(heard.status, 200);
    // Load balancers ask without one.
    assert_eq!(server.http("GET", "/", "").await.status, 200);
}

#[tokio::test]
async fn an_address_that_others_reach_is_refused_without_a_token() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        match Server::bind(address, Access::ThisMachine).await {
            Err(BindError::Exposed(_)) => {}
            // A machine without IPv6.
            Err(BindError::Io { .. }) if address.starts_with('[') => {}
            Err(error) => panic!("{address}: {error}"),
            Ok(_) => panic!("{address} was opened"),
        }
    }
    let token = Token::new("0123456789abcdef").unwrap();
    for access in [Access::Token(token), Access::Everybody] {
        Server::bind("0.0.0.0:0", access).await.unwrap();
    }
    let taken = Server::bind("127.0.0.1:0", Access::ThisMachine)
        .await
        .unwrap();
    let again = Server::bind(&taken.address().to_string(), Access::ThisMachine).await;
    assert!(matches!(again, Err(BindError::Io { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_this_machine_may_call_and_others_may_not() {
    for access in [Access::ThisMachine, Access::Everybody] {
        // Both mean the same here: no other machine reaches the port.
        let notes = Arc::<Notes>::default();
        let calls = server::local(Mock(Arc::clone(&notes)));
        only_pages_of_this_machine(Running::start(calls, access).await, &notes).await;
    }
}

async fn only_pages_of_this_machine(server: Running, notes: &Notes) {
    let path = format!("/v1/{DATABASE}/documents:commit");
    let ours = ("origin", "http://localhost:3000");
    let asks = [
        ours,
        ("access-control-request-method", "POST"),
        (
            "access-control-request-headers",
            "content-type,authorization",
        ),
    ];
    let heard = http(server.address, "OPTIONS", &path, "", &asks).await;
    assert_eq!(heard.status, 204);
    assert_eq!(heard.header("access-control-allow-origin"), Some(ours.1));
    assert_eq!(
        heard.header("access-control-allow-headers"),
        Some("content-type,authorization")
    );
    let heard = http(server.address, "POST", &path, "{}", &[ours]).await;
    assert_eq!(heard.status, 200);
    assert_eq!(heard.header("access-control-allow-origin"), Some(ours.1));
    assert_eq!(heard.header("vary"), Some("origin"));
    // Errors can be read too.
    let heard = http(server.address, "POST", &path, "nonsense", &[ours]).await;
    assert_eq!(heard.status, 400);
    assert_eq!(heard.header("access-control-allow-origin"), Some(ours.1));

    let before = notes.asked.lock().unwrap().len();
    for strange in [("origin", "https://evil.example"), ("host", "evil.example")] {
        // What a page can send without asking first.
        let simple = [strange, ("content-type", "text/plain")];
        let heard = http(server.address, "POST", &path, "{}", &simple).await;
        assert_eq!(heard.status, 403, "{strange:?}");
        assert_eq!(heard.header("access-control-allow-origin"), None);
    }
    assert_eq!(notes.asked.lock().unwrap().len(), before);
}

/// What is no HTTP, no HTTP/2 or no gRPC harms only its own connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_harms_nobody_else() {
    let (server, notes) = Running::mock().await;
    for bytes in [
        &b"\x00\xff\x00\xff nonsense\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense that is no frame at all",
        b"POST /v1/x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999999999999\r\n\r\n",
        b"POST /v1/projects/p/databases/d/documents:commit HTTP/1.1\r\nhost: localhost\r\ncontent-length: 50\r\n\r\n{",
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest));
        let _ = read.await.expect("the connection hangs");
    }
    let grpc = [("content-type", "application/grpc")];
    let path = "/google.firestore.v1.Firestore/Commit";
    let heard = http(server.address, "POST", path, "", &grpc).await;
    assert_eq!(heard.status, 505, "gRPC over HTTP/1.1 is for nobody");
    assert!(notes.asked.lock().unwrap().is_empty());

    let mut client = FirestoreClient::new(server.channel().await);
    client.commit(commit()).await.unwrap();
    // Another service under the same port.
    let mut other = tonic::client::Grpc::new(server.channel().await);
    other.ready().await.unwrap();
    let path = "/google.firestore.admin.v1.FirestoreAdmin/GetDatabase"
        .parse()
        .unwrap();
    let codec = tonic_prost::ProstCodec::<CommitRequest, CommitResponse>::default();
    let error = other
        .unary(Request::new(commit()), path, codec)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
}
