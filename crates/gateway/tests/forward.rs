//! Calls that go on to another Firestore: nothing is parsed, nothing is changed but credentials, and what cannot be
//! reached is said so that nobody writes twice.

mod support;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value as Json, json};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{DATABASE, Running, http};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use whimbrel_firestore::v1::firestore_client::FirestoreClient;
use whimbrel_firestore::v1::*;
use whimbrel_gateway::forward::{Forward, Upstream};
use whimbrel_gateway::server::access::{Access, Token};
use whimbrel_gateway::server::{Answer, Body, Calls, Ended};
use whimbrel_model::{Code as WbCode, StoreError, StoreErrorKind};
use whimbrel_testkit::servers::server;

struct To {
    channel: Channel,
    /// `None`: there are no credentials.
    token: Option<&'static str>,
    refused: Refused,
}

/// The credentials that were refused, in order.
type Refused = Arc<Mutex<Vec<HeaderMap>>>;

#[async_trait]
impl Upstream for To {
    fn channel(&self) -> Channel {
        self.channel.clone()
    }

    async fn credentials(&self) -> Result<HeaderMap, StoreError> {
        let none = || {
            let kind = StoreErrorKind::Terminal;
            StoreError::new(kind, WbCode::StoreDenied, "firestore://p", "there are none")
        };
        let token = self.token.ok_or_else(none)?;
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static(token));
        Ok(headers)
    }

    async fn refused(&self, credentials: &HeaderMap) {
        self.refused.lock().unwrap().push(credentials.clone());
    }
}

async fn forwarding(to: SocketAddr, token: Option<&'static str>) -> Running {
    let endpoint = Endpoint::from_shared(format!("http://{to}")).unwrap();
    let channel = endpoint.connect_lazy();
    let refused = Arc::default();
    let calls = Arc::new(Forward::new(Arc::new(To {
        channel,
        token,
        refused,
    })));
    Running::start(calls, Access::ThisMachine).await
}

/// Sends back the very bytes that came, and notes the headers.
#[derive(Clone, Default)]
struct Echo(Arc<Mutex<Vec<(String, HeaderMap)>>>);

impl Calls for Echo {
    fn call(&self, request: Request<Body>) -> Answer {
        let (head, body) = request.into_parts();
        let seen = (head.uri.path().to_owned(), head.headers);
        self.0.lock().unwrap().push(seen);
        async move {
            let bytes = body.collect().await.unwrap().to_bytes();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("10"));
            trailers.insert("grpc-message", HeaderValue::from_static("100%25"));
            trailers.insert(
                "grpc-status-details-bin",
                HeaderValue::from_static("CAoSAA"),
            );
            trailers.insert("x-later", HeaderValue::from_static("1"));
            let frames = [
                Ok::<_, Status>(http_body::Frame::data(bytes)),
                Ok(http_body::Frame::trailers(trailers)),
            ];
            let body = Body::new(StreamBody::new(futures::stream::iter(frames)));
            let mut response = Response::new(body);
            let headers = response.headers_mut();
            headers.insert("content-type", HeaderValue::from_static("application/grpc"));
            headers.insert("x-sooner", HeaderValue::from_static("2"));
            Ok(response)
        }
        .boxed()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_headers_and_trailers_are_untouched() {
    let echo = Echo::default();
    let upstream = Running::start(Arc::new(echo.clone()), Access::ThisMachine).await;
    let server = forwarding(upstream.address, Some("Bearer theirs")).await;
    // A method and a message of a protocol that is newer than this program, in two frames, one compressed.
    let sent = Bytes::from_static(b"\0\0\0\0\x03\xfa\xff\x7f\x01\0\0\0\x01\x99");
    let request = Request::post(format!(
        "http://{}/google.firestore.v1.Firestore/NotYetThought",
        server.address
    ))
    .header("content-type", "application/grpc+proto")
    .header("te", "trailers")
    .header("authorization", "Bearer owner")
    .header("cookie", "mine")
    .header("google-cloud-resource-prefix", "projects/p/databases/d")
    .header(
        "x-goog-request-params",
        "project_id=p&database_id=%28default%29",
    )
    .header("grpc-timeout", "30S")
    .header("grpc-encoding", "gzip")
    .header("x-custom-bin", "AAEC")
    .body(http_body_util::Full::new(sent.clone()))
    .unwrap();
    let stream = tokio::net::TcpStream::connect(server.address)
        .await
        .unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .unwrap();
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap();
    assert_eq!(body.to_bytes(), sent);
    assert_eq!(head.headers["x-sooner"], "2");
    assert_eq!(trailers["grpc-status"], "10");
    assert_eq!(trailers["grpc-message"], "100%25");
    assert_eq!(trailers["grpc-status-details-bin"], "CAoSAA");
    assert_eq!(trailers["x-later"], "1");

    let (path, headers) = echo.0.lock().unwrap().remove(0);
    assert_eq!(path, "/google.firestore.v1.Firestore/NotYetThought");
    for (name, value) in [
        ("authorization", "Bearer theirs"),
        ("content-type", "application/grpc+proto"),
        ("google-cloud-resource-prefix", "projects/p/databases/d"),
        (
            "x-goog-request-params",
            "project_id=p&database_id=%28default%29",
        ),
        ("grpc-encoding", "gzip"),
        ("x-custom-bin", "AAEC"),
        ("te", "trailers"),
    ] {
        let values: Vec<_> = headers.get_all(name).iter().collect();
        assert_eq!(values, [value], "{name}");
    }
    assert!(headers.contains_key("grpc-timeout"));
    assert!(!headers.contains_key("cookie"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_flow_both_ways_at_once() {
    let (upstream, notes) = Running::mock().await;
    let server = forwarding(upstream.address, Some("Bearer owner")).await;
    let mut client = FirestoreClient::new(server.channel().await);
    let (ask, asked) = mpsc::channel(1);
    let asked = futures::stream::unfold(asked, |mut asked| async {
        Some((asked.recv().await?, asked))
    });
    let mut heard = client.listen(asked.boxed()).await.unwrap().into_inner();
    for id in 1..50 {
        // Each question waits for the answer of the one before.
        let target_change = Some(listen_request::TargetChange::RemoveTarget(id));
        let request = ListenRequest {
            database: DATABASE.into(),
            target_change,
            ..Default::default()
        };
        ask.send(request).await.unwrap();
        let answer = heard.message().await.unwrap().unwrap();
        let Some(listen_response::ResponseType::TargetChange(change)) = answer.response_type else {
            panic!("{answer:?}");
        };
        assert_eq!(change.target_ids, [-id]);
    }
    let commit = client.commit(CommitRequest::default()).await.unwrap();
    assert!(commit.into_inner().commit_time.is_some());
    assert_eq!(notes.finished.load(Ordering::SeqCst), 1);

    // Both stop: the listener is told.
    assert_eq!(server.stop().await.unwrap(), Ended::Whole);
    assert_eq!(heard.message().await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statuses_and_deadlines_are_the_other_ends() {
    let (upstream, notes) = Running::mock().await;
    let server = forwarding(upstream.address, Some("Bearer owner")).await;
    let mut client = FirestoreClient::new(server.channel().await);
    let name = format!("{DATABASE}/documents/a/none");
    let request = GetDocumentRequest {
        name,
        ..Default::default()
    };
    let direct = FirestoreClient::new(upstream.channel().await)
        .get_document(request.clone())
        .await
        .unwrap_err();
    let error = client.get_document(request.clone()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (direct.code(), direct.message())
    );
    let mut hasty = tonic::Request::new(request);
    hasty
        .metadata_mut()
        .insert("grpc-timeout", "9S".parse().unwrap());
    let _ = client.get_document(hasty).await;
    assert!(notes.metadata.lock().unwrap().contains_key("grpc-timeout"));

    *notes.pause.lock().unwrap() = Duration::from_secs(3600);
    let mut hasty = tonic::Request::new(CommitRequest::default());
    hasty.set_timeout(Duration::from_millis(200));
    let error = client.commit(hasty).await.unwrap_err();
    assert!(
        [Code::Cancelled, Code::DeadlineExceeded].contains(&error.code()),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_goes_on_as_well() {
    let (upstream, notes) = Running::mock().await;
    let server = forwarding(upstream.address, Some("Bearer theirs")).await;
    let body = r#"{"fields":{"z":{"integerValue":"1"},"a":{"nullValue":null}}}"#;
    let heard = server.rest("PATCH", "documents/a/1", body).await;
    assert_eq!(heard.status, 200, "{}", heard.text);
    let path = format!("/v1/{DATABASE}/documents/a/1");
    let owner = [("authorization", "Bearer owner")];
    let heard = http(server.address, "GET", &path, "", &owner).await;
    assert!(
        heard
            .text
            .contains(r#""fields":{"z":{"integerValue":"1"},"a":{"nullValue":null}}"#)
    );
    let metadata = notes.metadata.lock().unwrap().clone().into_headers();
    assert_eq!(metadata["authorization"], "Bearer theirs");
    let heard = server.rest("GET", "documents/a/2", "").await;
    assert_eq!(heard.status, 404);
    let heard = server
        .rest("POST", "documents:runQuery", r#"{"structuredQuery":{}}"#)
        .await;
    let found = &heard.json()[0]["document"]["name"];
    assert_eq!(*found, json!(format!("{DATABASE}/documents/a/1")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_firestore_that_is_away_is_told_so_that_nobody_writes_twice() {
    // Nobody listens there.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let server = forwarding(address, Some("Bearer owner")).await;
    let mut client = FirestoreClient::new(server.channel().await);
    let error = client.commit(CommitRequest::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(error.message().contains("nothing was sent"), "{error}");
    let heard = server.rest("POST", "documents:commit", "{}").await;
    assert_eq!(heard.status, 503);
    assert_eq!(heard.json()["error"]["status"], "UNAVAILABLE");

    // It comes back.
    let listener = TcpListener::bind(address).await.unwrap();
    drop(listener);

    // It takes the call and dies: nobody knows what became of it, so nobody may send it again by himself.
    let notes = Arc::<support::Notes>::default();
    *notes.pause.lock().unwrap() = Duration::from_secs(3600);
    let calls = whimbrel_gateway::server::local(support::Mock(Arc::clone(&notes)));
    let upstream = Running::with_grace(calls, Access::ThisMachine, Duration::ZERO).await;
    let server = forwarding(upstream.address, Some("Bearer owner")).await;
    let mut client = FirestoreClient::new(server.channel().await);
    let asked = tokio::spawn(async move { client.commit(CommitRequest::default()).await });
    while notes.begun.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(upstream.stop().await.unwrap(), Ended::Cut);
    let error = asked.await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::DataLoss, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_credentials_nothing_is_called() {
    let (upstream, notes) = Running::mock().await;
    let server = forwarding(upstream.address, None).await;
    let mut client = FirestoreClient::new(server.channel().await);
    let error = client.commit(CommitRequest::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated);
    assert_eq!(
        server.rest("POST", "documents:commit", "{}").await.status,
        401
    );
    assert!(notes.asked.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_credentials_are_renewed() {
    let token = Token::new("0123456789abcdef").unwrap();
    let calls = whimbrel_gateway::server::local(support::Mock(Arc::default()));
    let upstream = Running::start(calls, Access::Token(token)).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", upstream.address)).unwrap();
    let refused = Refused::default();
    let to = To {
        channel: endpoint.connect_lazy(),
        token: Some("Bearer expired"),
        refused: Arc::clone(&refused),
    };
    let server = Running::start(Arc::new(Forward::new(Arc::new(to))), Access::ThisMachine).await;
    let mut client = FirestoreClient::new(server.channel().await);
    let error = client.commit(CommitRequest::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated);
    let refused = refused.lock().unwrap();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0]["authorization"], "Bearer expired");
}

/// An independent emulator, where servers are not left out.
fn emulator() -> Option<SocketAddr> {
    Some(server("WHIMBREL_TEST_FIRESTORE")?.parse().unwrap())
}

/// Takes out what differs from call to call: times, and where it was asked.
fn settled(value: &mut Json, side: &str) {
    match value {
        Json::Object(members) => {
            for (name, member) in members {
                if name.ends_with("Time")
                    || matches!(name.as_str(), "transaction" | "nextPageToken")
                {
                    assert!(member.is_string(), "{name}: {member}");
                    *member = json!("…");
                }
                settled(member, side);
            }
        }
        Json::Array(items) => items.iter_mut().for_each(|item| settled(item, side)),
        Json::String(text) => *text = text.replace(side, "SIDE"),
        _ => {}
    }
}

/// The emulator has a JSON mapping of its own: what it answers there, and what is made of its gRPC here, is the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_is_what_an_independent_server_makes_of_it() {
    let Some(emulator) = emulator() else { return };
    let server = forwarding(emulator, Some("Bearer owner")).await;
    let project = format!("whimbrel-json-{}", std::process::id());
    let root = format!("projects/{project}/databases/(default)");
    let value = r#"{"fields":{"z":{"integerValue":"1"},"a":{"arrayValue":{"values":[{"nullValue":null},
        {"mapValue":{"fields":{"y":{"doubleValue":0.5},"x":{"booleanValue":false}}}}]}},"e":{"mapValue":{}},
        "n":{"doubleValue":"NaN"},"i":{"doubleValue":"-Infinity"},"b":{"bytesValue":"AP8+Pw=="},
        "t":{"timestampValue":"2020-01-02T03:04:05.123456Z"},"s":{"stringValue":"\u00e9\ud83d\ude00"},
        "g":{"geoPointValue":{"latitude":-1.5}},"q":{"arrayValue":{}}}}"#;
    let query = r#"{"from":[{"collectionId":"SIDE"}],"orderBy":[{"field":{"fieldPath":"z"},"direction":"DESCENDING"}]}"#;
    let write = format!(
        r#"{{"update":{{"name":"{root}/documents/SIDE/w","fields":{{"z":{{"integerValue":"5"}}}}}},"updateTransforms":[
            {{"fieldPath":"u","increment":{{"integerValue":"2"}}}}]}}"#
    );
    for (method, path, body) in [
        ("PATCH", "documents/SIDE/1", value.to_owned()),
        ("GET", "documents/SIDE/1", String::new()),
        (
            "GET",
            "documents/SIDE/1?mask.fieldPaths=z&mask.fieldPaths=a",
            String::new(),
        ),
        ("GET", "documents/SIDE/none", String::new()),
        (
            "POST",
            "documents/SIDE?documentId=2",
            r#"{"fields":{"z":{"integerValue":"9"}}}"#.to_owned(),
        ),
        ("POST", "documents/SIDE?documentId=2", "{}".to_owned()),
        (
            "PATCH",
            "documents/SIDE/2?updateMask.fieldPaths=k&currentDocument.exists=true",
            r#"{"fields":{"k":{"stringValue":"v"}}}"#.to_owned(),
        ),
        ("PATCH", "documents/SIDE/2/sub/x", "{}".to_owned()),
        ("GET", "documents/SIDE?pageSize=1", String::new()),
        ("GET", "documents/SIDE?orderBy=z%20desc", String::new()),
        (
            "POST",
            "documents/SIDE/2:listCollectionIds",
            "{}".to_owned(),
        ),
        (
            "POST",
            "documents:runQuery",
            format!(r#"{{"structuredQuery":{query}}}"#),
        ),
        (
            "POST",
            "documents:batchGet",
            format!(r#"{{"documents":["{root}/documents/SIDE/1","{root}/documents/SIDE/none"]}}"#),
        ),
        (
            "POST",
            "documents:beginTransaction",
            r#"{"options":{"readOnly":{}}}"#.to_owned(),
        ),
        (
            "POST",
            "documents:commit",
            format!(r#"{{"writes":[{write}]}}"#),
        ),
        (
            "POST",
            "documents:batchWrite",
            format!(r#"{{"writes":[{write}]}}"#),
        ),
        ("DELETE", "documents/SIDE/1", String::new()),
        (
            "DELETE",
            "documents/SIDE/1?currentDocument.exists=true",
            String::new(),
        ),
        ("GET", "documents/SIDE?showMissing=true", String::new()),
    ] {
        let mut answers = Vec::new();
        for (address, side) in [(emulator, "theirs"), (server.address, "through")] {
            let path = format!("/v1/{root}/{}", path.replace("SIDE", side));
            let owner = [("authorization", "Bearer owner")];
            let heard = http(address, method, &path, &body.replace("SIDE", side), &owner).await;
            let mut json = heard.json();
            settled(&mut json, side);
            answers.push((heard.status, json));
        }
        assert_eq!(answers[1], answers[0], "{method} {path}");
    }
}
