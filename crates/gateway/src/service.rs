//! The gRPC service: takes requests apart and hands them on.

use crate::{Gateway, documents, listen, names, query};
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};
use whimbrel_firestore::v1::firestore_server::Firestore;
use whimbrel_firestore::v1::{
    BatchGetDocumentsRequest, BatchGetDocumentsResponse, BatchWriteRequest, BatchWriteResponse,
    BeginTransactionRequest, BeginTransactionResponse, CommitRequest, CommitResponse,
    CreateDocumentRequest, DeleteDocumentRequest, Document, ExecutePipelineRequest,
    ExecutePipelineResponse, GetDocumentRequest, ListCollectionIdsRequest,
    ListCollectionIdsResponse, ListDocumentsRequest, ListDocumentsResponse, ListenRequest,
    ListenResponse, PartitionQueryRequest, PartitionQueryResponse, RollbackRequest,
    RunAggregationQueryRequest, RunAggregationQueryResponse, RunQueryRequest, RunQueryResponse,
    UpdateDocumentRequest, WriteRequest, WriteResponse,
};

/// Firestore's protocol over one store.
#[derive(Clone, Debug)]
pub struct Service {
    gateway: Arc<Gateway>,
}

impl Service {
    #[must_use]
    pub fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway }
    }

    #[must_use]
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }
}

type Answer<T> = Result<Response<T>, Status>;
type Stream<T> = tonic::codegen::BoxStream<T>;

#[tonic::async_trait]
impl Firestore for Service {
    async fn get_document(&self, request: Request<GetDocumentRequest>) -> Answer<Document> {
        let document = documents::get(&self.gateway, request.into_inner()).await?;
        Ok(Response::new(document))
    }

    async fn list_documents(
        &self,
        request: Request<ListDocumentsRequest>,
    ) -> Answer<ListDocumentsResponse> {
        let page = documents::list(&self.gateway, request.into_inner()).await?;
        Ok(Response::new(page))
    }

    async fn create_document(&self, request: Request<CreateDocumentRequest>) -> Answer<Document> {
        let document = documents::create(&self.gateway, request.into_inner()).await?;
        Ok(Response::new(document))
    }

    async fn update_document(&self, request: Request<UpdateDocumentRequest>) -> Answer<Document> {
        let document = documents::update(&self.gateway, request.into_inner()).await?;
        Ok(Response::new(document))
    }

    async fn delete_document(&self, request: Request<DeleteDocumentRequest>) -> Answer<()> {
        documents::delete(&self.gateway, request.into_inner()).await?;
        Ok(Response::new(()))
    }

    async fn batch_get_documents(
        &self,
        request: Request<BatchGetDocumentsRequest>,
    ) -> Answer<Stream<BatchGetDocumentsResponse>> {
        let found = documents::batch_get(&self.gateway, request.into_inner()).await?;
        Ok(Response::new(found))
    }

    async fn list_collection_ids(
        &self,
        request: Request<ListCollectionIdsRequest>,
    ) -> Answer<ListCollectionIdsResponse> {
        let ids = documents::list_collection_ids(&self.gateway, request.into_inner()).await?;
        Ok(Response::new(ids))
    }

    async fn commit(&self, request: Request<CommitRequest>) -> Answer<CommitResponse> {
        let committed = documents::commit(&self.gateway, request.into_inner()).await?;
        Ok(Response::new(committed))
    }

    async fn batch_write(&self, request: Request<BatchWriteRequest>) -> Answer<BatchWriteResponse> {
        let written = documents::batch_write(&self.gateway, request.into_inner()).await?;
        Ok(Response::new(written))
    }

    async fn write(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Answer<Stream<WriteResponse>> {
        let requests = request.into_inner();
        let answers = documents::write_stream(self.gateway.clone(), requests);
        Ok(Response::new(answers))
    }

    async fn begin_transaction(
        &self,
        request: Request<BeginTransactionRequest>,
    ) -> Answer<BeginTransactionResponse> {
        let request = request.into_inner();
        names::database(&request.database)?;
        let options = request.options.unwrap_or_default();
        let transaction = self.gateway.begin(&options).await?;
        Ok(Response::new(BeginTransactionResponse { transaction }))
    }

    async fn rollback(&self, request: Request<RollbackRequest>) -> Answer<()> {
        let request = request.into_inner();
        names::database(&request.database)?;
        self.gateway.rollback(&request.transaction)?;
        Ok(Response::new(()))
    }

    async fn run_query(
        &self,
        request: Request<RunQueryRequest>,
    ) -> Answer<Stream<RunQueryResponse>> {
        let found = query::run_query(&self.gateway, request.into_inner()).await?;
        Ok(Response::new(found))
    }

    async fn run_aggregation_query(
        &self,
        request: Request<RunAggregationQueryRequest>,
    ) -> Answer<Stream<RunAggregationQueryResponse>> {
        let found = query::run_aggregation(&self.gateway, request.into_inner()).await?;
        Ok(Response::new(found))
    }

    async fn partition_query(
        &self,
        request: Request<PartitionQueryRequest>,
    ) -> Answer<PartitionQueryResponse> {
        let cursors = query::partition(&self.gateway, request.into_inner()).await?;
        Ok(Response::new(cursors))
    }

    async fn execute_pipeline(
        &self,
        _request: Request<ExecutePipelineRequest>,
    ) -> Answer<Stream<ExecutePipelineResponse>> {
        Err(Status::unimplemented(
            "Pipelines are not served. Structured queries are (RunQuery).",
        ))
    }

    async fn listen(
        &self,
        request: Request<Streaming<ListenRequest>>,
    ) -> Answer<Stream<ListenResponse>> {
        let requests = request.into_inner();
        Ok(Response::new(listen::listen(
            self.gateway.clone(),
            requests,
        )))
    }
}
