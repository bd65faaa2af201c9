//! A server in front of the emulator that answers some calls otherwise, as it was told.

use futures::StreamExt;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tonic::codegen::BoxStream;
use tonic::metadata::MetadataMap;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, async_trait};
use whimbrel_firestore::v1::firestore_client::FirestoreClient;
use whimbrel_firestore::v1::firestore_server::{Firestore, FirestoreServer};
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_firestore::v1::{
    BatchGetDocumentsRequest, BatchGetDocumentsResponse, CommitRequest, CommitResponse, Cursor,
    PartitionQueryRequest, PartitionQueryResponse, RunAggregationQueryRequest,
    RunAggregationQueryResponse, RunQueryRequest, RunQueryResponse, Value,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Get,
    Commit,
    Query,
    Count,
    Partition,
}

#[derive(Clone, Debug)]
pub enum Fault {
    /// This one goes through; the next fault is for the call after it.
    None,
    /// The call does not reach the emulator.
    Before(Status),
    /// The emulator does what it is asked, but its answer is lost.
    After(Status),
}

#[derive(Default)]
struct Script {
    faults: Mutex<VecDeque<(Call, Fault)>>,
    seen: Mutex<Vec<(Call, MetadataMap)>>,
    /// What PartitionQuery answers, a list a page.
    points: Mutex<Option<Vec<Vec<String>>>>,
}

#[derive(Clone)]
pub struct Fake {
    pub host: String,
    script: Arc<Script>,
    inner: FirestoreClient<Channel>,
}

impl Fake {
    pub async fn start(emulator: &str) -> Self {
        let channel = Endpoint::from_shared(format!("http://{emulator}")).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Self {
            host: listener.local_addr().unwrap().to_string(),
            script: Arc::default(),
            inner: FirestoreClient::new(channel.connect_lazy())
                .max_decoding_message_size(usize::MAX),
        };
        let service = FirestoreServer::new(fake.clone()).max_decoding_message_size(usize::MAX);
        let serving = Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpIncoming::from(listener));
        tokio::spawn(serving);
        fake
    }

    pub fn answer(&self, call: Call, fault: Fault) {
        self.script.faults.lock().unwrap().push_back((call, fault));
    }

    pub fn split_at(&self, pages: Vec<Vec<String>>) {
        *self.script.points.lock().unwrap() = Some(pages);
    }

    /// The headers of every such call so far.
    pub fn seen(&self, call: Call) -> Vec<MetadataMap> {
        let seen = self.script.seen.lock().unwrap();
        let of_it = seen.iter().filter(|(seen, _)| *seen == call);
        of_it.map(|(_, metadata)| metadata.clone()).collect()
    }

    pub fn forget_faults(&self) {
        self.script.faults.lock().unwrap().clear();
    }

    pub fn all_was_answered(&self) -> bool {
        self.script.faults.lock().unwrap().is_empty()
    }

    fn fault<T>(&self, call: Call, request: &Request<T>) -> Option<Fault> {
        let metadata = request.metadata().clone();
        self.script.seen.lock().unwrap().push((call, metadata));
        let mut faults = self.script.faults.lock().unwrap();
        match faults.front() {
            Some((of, _)) if *of == call => faults.pop_front().map(|(_, fault)| fault),
            _ => None,
        }
    }
}

/// With the emulator's own credentials: it knows no others.
fn as_owner<T>(request: Request<T>) -> Request<T> {
    let mut request = Request::new(request.into_inner());
    let owner = "Bearer owner".parse().unwrap();
    request.metadata_mut().insert("authorization", owner);
    request
}

/// Passes a call on, unless the script says otherwise.
macro_rules! pass {
    ($self:ident, $call:expr, $request:ident, $method:ident) => {{
        let fault = $self.fault($call, &$request);
        if let Some(Fault::Before(status)) = fault {
            return Err(status);
        }
        let answer = $self.inner.clone().$method(as_owner($request)).await?;
        if let Some(Fault::After(status)) = fault {
            return Err(status);
        }
        answer.into_inner()
    }};
}

#[async_trait]
impl Firestore for Fake {
    async fn commit(
        &self,
        request: Request<CommitRequest>,
    ) -> Result<Response<CommitResponse>, Status> {
        Ok(Response::new(pass!(self, Call::Commit, request, commit)))
    }

    async fn batch_get_documents(
        &self,
        request: Request<BatchGetDocumentsRequest>,
    ) -> Result<Response<BoxStream<BatchGetDocumentsResponse>>, Status> {
        let stream = pass!(self, Call::Get, request, batch_get_documents);
        Ok(Response::new(stream.boxed()))
    }

    async fn run_query(
        &self,
        request: Request<RunQueryRequest>,
    ) -> Result<Response<BoxStream<RunQueryResponse>>, Status> {
        let stream = pass!(self, Call::Query, request, run_query);
        Ok(Response::new(stream.boxed()))
    }

    async fn run_aggregation_query(
        &self,
        request: Request<RunAggregationQueryRequest>,
    ) -> Result<Response<BoxStream<RunAggregationQueryResponse>>, Status> {
        let stream = pass!(self, Call::Count, request, run_aggregation_query);
        Ok(Response::new(stream.boxed()))
    }

    async fn partition_query(
        &self,
        request: Request<PartitionQueryRequest>,
    ) -> Result<Response<PartitionQueryResponse>, Status> {
        if let Some(Fault::Before(status)) = self.fault(Call::Partition, &request) {
            return Err(status);
        }
        let points = self.script.points.lock().unwrap().clone();
        let pages = points.ok_or_else(|| Status::unimplemented("no"))?;
        let page: usize = request.get_ref().page_token.parse().unwrap_or(0);
        let cursor = |name: &String| Cursor {
            values: vec![Value {
                value_type: Some(ValueType::ReferenceValue(name.clone())),
            }],
            before: true,
        };
        let more = page + 1 < pages.len();
        Ok(Response::new(PartitionQueryResponse {
            partitions: pages[page].iter().map(cursor).collect(),
            next_page_token: if more {
                (page + 1).to_string()
            } else {
                String::new()
            },
        }))
    }
}
