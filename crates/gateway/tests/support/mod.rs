//! A service that keeps documents in a map and notes what it was asked, a server around it, and a plain HTTP client.

// Each test file is a crate of its own and uses its part of this.
#![allow(dead_code)]

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::codegen::BoxStream;
use tonic::{Response, Status};
use whimbrel_firestore::v1::firestore_server::Firestore;
use whimbrel_firestore::v1::*;
use whimbrel_gateway::server::access::Access;
use whimbrel_gateway::server::{self, Calls, Ended, Server};

pub const DATABASE: &str = "projects/p/databases/(default)";

/// What was asked, in the order of arrival.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    Get(GetDocumentRequest),
    List(ListDocumentsRequest),
    Update(UpdateDocumentRequest),
    Delete(DeleteDocumentRequest),
    BatchGet(BatchGetDocumentsRequest),
    Begin(BeginTransactionRequest),
    Commit(CommitRequest),
    Rollback(RollbackRequest),
    RunQuery(RunQueryRequest),
    Aggregate(RunAggregationQueryRequest),
    Partition(PartitionQueryRequest),
    Collections(ListCollectionIdsRequest),
    BatchWrite(BatchWriteRequest),
    Create(CreateDocumentRequest),
}

/// Shared by the service and the test.
#[derive(Debug, Default)]
pub struct Notes {
    pub asked: Mutex<Vec<Asked>>,
    pub documents: Mutex<BTreeMap<String, Document>>,
    /// The metadata of the last unary request.
    pub metadata: Mutex<tonic::metadata::MetadataMap>,
    /// How long a commit takes.
    pub pause: Mutex<Duration>,
    pub begun: AtomicU64,
    pub finished: AtomicU64,
}

impl Notes {
    pub fn last(&self) -> Asked {
        self.asked.lock().unwrap().last().cloned().unwrap()
    }

    fn ask(&self, asked: Asked) {
        self.asked.lock().unwrap().push(asked);
    }
}

pub struct Mock(pub Arc<Notes>);

type Answer<T> = Result<Response<T>, Status>;

fn stream<T: Send + 'static>(items: Vec<Result<T, Status>>) -> Answer<BoxStream<T>> {
    Ok(Response::new(futures::stream::iter(items).boxed()))
}

fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos: 0 })
}

#[tonic::async_trait]
impl Firestore for Mock {
    async fn get_document(&self, request: tonic::Request<GetDocumentRequest>) -> Answer<Document> {
        *self.0.metadata.lock().unwrap() = request.metadata().clone();
        let request = request.into_inner();
        let found = self.0.documents.lock().unwrap().get(&request.name).cloned();
        let missing = || Status::not_found(format!("\"{}\" not found: 100 % of it", request.name));
        let answer = found.map(Response::new).ok_or_else(missing);
        self.0.ask(Asked::Get(request));
        answer
    }

    async fn list_documents(
        &self,
        request: tonic::Request<ListDocumentsRequest>,
    ) -> Answer<ListDocumentsResponse> {
        self.0.ask(Asked::List(request.into_inner()));
        let documents = self.0.documents.lock().unwrap().values().cloned().collect();
        Ok(Response::new(ListDocumentsResponse {
            documents,
            next_page_token: "more".into(),
        }))
    }

    async fn update_document(
        &self,
        request: tonic::Request<UpdateDocumentRequest>,
    ) -> Answer<Document> {
        let request = request.into_inner();
        let document = request.document.clone().unwrap_or_default();
        self.0.ask(Asked::Update(request));
        let name = document.name.clone();
        self.0
            .documents
            .lock()
            .unwrap()
            .insert(name, document.clone());
        Ok(Response::new(document))
    }

    async fn delete_document(&self, request: tonic::Request<DeleteDocumentRequest>) -> Answer<()> {
        self.0.ask(Asked::Delete(request.into_inner()));
        Ok(Response::new(()))
    }

    /// Documents whose names end in `fails` end the stream.
    async fn batch_get_documents(
        &self,
        request: tonic::Request<BatchGetDocumentsRequest>,
    ) -> Answer<BoxStream<BatchGetDocumentsResponse>> {
        let request = request.into_inner();
        let answers = request.documents.iter().map(|name| {
            if name.ends_with("fails") {
                return Err(Status::aborted("enough"));
            }
            let found = self.0.documents.lock().unwrap().get(name).cloned();
            Ok(BatchGetDocumentsResponse {
                result: Some(match found {
                    Some(found) => batch_get_documents_response::Result::Found(found),
                    None => batch_get_documents_response::Result::Missing(name.clone()),
                }),
                read_time: at(1),
                ..Default::default()
            })
        });
        let answers = answers.collect();
        self.0.ask(Asked::BatchGet(request));
        stream(answers)
    }

    async fn begin_transaction(
        &self,
        request: tonic::Request<BeginTransactionRequest>,
    ) -> Answer<BeginTransactionResponse> {
        self.0.ask(Asked::Begin(request.into_inner()));
        Ok(Response::new(BeginTransactionResponse {
            transaction: vec![0, 255, 62, 63],
        }))
    }

    async fn commit(&self, request: tonic::Request<CommitRequest>) -> Answer<CommitResponse> {
        self.0.begun.fetch_add(1, Ordering::SeqCst);
        let pause = *self.0.pause.lock().unwrap();
        tokio::time::sleep(pause).await;
        let request = request.into_inner();
        let write_results = request
            .writes
            .iter()
            .map(|_| WriteResult {
                update_time: at(2),
                transform_results: vec![],
            })
            .collect();
        self.0.ask(Asked::Commit(request));
        self.0.finished.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(CommitResponse {
            write_results,
            commit_time: at(2),
        }))
    }

    async fn rollback(&self, request: tonic::Request<RollbackRequest>) -> Answer<()> {
        self.0.ask(Asked::Rollback(request.into_inner()));
        Ok(Response::new(()))
    }

    /// With `offset` the stream fails at once with FAILED_PRECONDITION.
    async fn run_query(
        &self,
        request: tonic::Request<RunQueryRequest>,
    ) -> Answer<BoxStream<RunQueryResponse>> {
        let request = request.into_inner();
        let fails = matches!(
            &request.query_type,
            Some(run_query_request::QueryType::StructuredQuery(q)) if q.offset > 0
        );
        self.0.ask(Asked::RunQuery(request));
        if fails {
            return Err(Status::failed_precondition("no offsets here"));
        }
        let documents = self.0.documents.lock().unwrap();
        let answers = documents.values().map(|document| {
            Ok(RunQueryResponse {
                document: Some(document.clone()),
                read_time: at(1),
                ..Default::default()
            })
        });
        stream(answers.collect())
    }

    async fn run_aggregation_query(
        &self,
        request: tonic::Request<RunAggregationQueryRequest>,
    ) -> Answer<BoxStream<RunAggregationQueryResponse>> {
        self.0.ask(Asked::Aggregate(request.into_inner()));
        let count = Value {
            value_type: Some(value::ValueType::IntegerValue(3)),
        };
        stream(vec![Ok(RunAggregationQueryResponse {
            result: Some(AggregationResult {
                aggregate_fields: [("z".to_owned(), count.clone()), ("a".to_owned(), count)].into(),
            }),
            read_time: at(1),
            ..Default::default()
        })])
    }

    async fn partition_query(
        &self,
        request: tonic::Request<PartitionQueryRequest>,
    ) -> Answer<PartitionQueryResponse> {
        self.0.ask(Asked::Partition(request.into_inner()));
        Ok(Response::new(PartitionQueryResponse {
            partitions: vec![Cursor {
                values: vec![Value {
                    value_type: Some(value::ValueType::ReferenceValue("x".into())),
                }],
                before: true,
            }],
            next_page_token: String::new(),
        }))
    }

    async fn write(
        &self,
        request: tonic::Request<tonic::Streaming<WriteRequest>>,
    ) -> Answer<BoxStream<WriteResponse>> {
        let notes = Arc::clone(&self.0);
        let answers = request.into_inner().then(move |request| {
            let notes = Arc::clone(&notes);
            async move {
                notes.begun.fetch_add(1, Ordering::SeqCst);
                let pause = *notes.pause.lock().unwrap();
                tokio::time::sleep(pause).await;
                notes.finished.fetch_add(1, Ordering::SeqCst);
                Ok(WriteResponse {
                    stream_id: request?.stream_id,
                    ..Default::default()
                })
            }
        });
        Ok(Response::new(answers.boxed()))
    }

    /// Answers each request with its target's id, and never ends by itself.
    async fn listen(
        &self,
        request: tonic::Request<tonic::Streaming<ListenRequest>>,
    ) -> Answer<BoxStream<ListenResponse>> {
        let answers = request.into_inner().map(|request| {
            let id = match request?.target_change {
                Some(listen_request::TargetChange::AddTarget(target)) => target.target_id,
                Some(listen_request::TargetChange::RemoveTarget(id)) => -id,
                None => 0,
            };
            Ok(ListenResponse {
                response_type: Some(listen_response::ResponseType::TargetChange(TargetChange {
                    target_ids: vec![id],
                    ..Default::default()
                })),
            })
        });
        Ok(Response::new(
            answers.chain(futures::stream::pending()).boxed(),
        ))
    }

    async fn list_collection_ids(
        &self,
        request: tonic::Request<ListCollectionIdsRequest>,
    ) -> Answer<ListCollectionIdsResponse> {
        self.0.ask(Asked::Collections(request.into_inner()));
        Ok(Response::new(ListCollectionIdsResponse {
            collection_ids: vec!["a".into(), "b c".into()],
            next_page_token: String::new(),
        }))
    }

    async fn batch_write(
        &self,
        request: tonic::Request<BatchWriteRequest>,
    ) -> Answer<BatchWriteResponse> {
        self.0.ask(Asked::BatchWrite(request.into_inner()));
        // Details of a kind that the protocol's description does not hold.
        let details = prost_types::Any {
            type_url: "type.googleapis.com/google.rpc.ErrorInfo".into(),
            value: vec![10, 1, 120],
        };
        let failed = whimbrel_firestore::proto::google::rpc::Status {
            code: 6,
            message: "there already".into(),
            details: vec![details],
        };
        Ok(Response::new(BatchWriteResponse {
            write_results: vec![WriteResult::default()],
            status: vec![failed, Default::default()],
        }))
    }

    async fn create_document(
        &self,
        request: tonic::Request<CreateDocumentRequest>,
    ) -> Answer<Document> {
        let request = request.into_inner();
        let mut document = request.document.clone().unwrap_or_default();
        document.name = format!(
            "{}/{}/{}",
            request.parent, request.collection_id, request.document_id
        );
        self.0.ask(Asked::Create(request));
        Ok(Response::new(document))
    }
}

/// A server at work.
pub struct Running {
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    pub ended: JoinHandle<Ended>,
}

impl Running {
    pub async fn start(calls: Arc<dyn Calls>, access: Access) -> Self {
        Self::with_grace(calls, access, Duration::from_secs(20)).await
    }

    pub async fn with_grace(calls: Arc<dyn Calls>, access: Access, grace: Duration) -> Self {
        let server = Server::bind("127.0.0.1:0", access).await.unwrap();
        let address = server.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        Self {
            address,
            stop,
            ended: tokio::spawn(server.run(calls, stopped, grace)),
        }
    }

    /// A mock's server, and what it notes.
    pub async fn mock() -> (Self, Arc<Notes>) {
        let notes = Arc::<Notes>::default();
        let calls = server::local(Mock(Arc::clone(&notes)));
        (Self::start(calls, Access::ThisMachine).await, notes)
    }

    /// Asks it to stop.
    pub fn stop(self) -> JoinHandle<Ended> {
        let _ = self.stop.send(());
        self.ended
    }

    pub async fn http(&self, method: &str, path: &str, body: &str) -> Heard {
        http(self.address, method, path, body, &[]).await
    }

    /// `path` stands below the database.
    pub async fn rest(&self, method: &str, path: &str, body: &str) -> Heard {
        self.http(method, &format!("/v1/{DATABASE}/{path}"), body)
            .await
    }

    pub async fn channel(&self) -> tonic::transport::Channel {
        channel(self.address).await
    }
}

pub async fn channel(address: SocketAddr) -> tonic::transport::Channel {
    tonic::transport::Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

#[derive(Debug)]
pub struct Heard {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub text: String,
}

impl Heard {
    pub fn json(&self) -> Json {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().unwrap())
    }
}

/// One request over HTTP/1.1, on a connection of its own.
pub async fn http(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
    headers: &[(&str, &str)],
) -> Heard {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let host = address.to_string();
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", host);
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap();
    heard(sender.send_request(request).await.unwrap()).await
}

/// One request over HTTP/2.
pub async fn http2(address: SocketAddr, method: Method, path: &str, body: &str) -> Heard {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(format!("http://{address}{path}"))
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap();
    heard(sender.send_request(request).await.unwrap()).await
}

async fn heard(response: http::Response<hyper::body::Incoming>) -> Heard {
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Heard {
        status: head.status.as_u16(),
        headers: head.headers,
        text: String::from_utf8(bytes.to_vec()).unwrap(),
    }
}
