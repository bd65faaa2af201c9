//! A gateway with documents, asked as the service asks it.

use crate::values::{DATABASE, ROOT};
use futures::TryStreamExt;
use std::sync::Arc;
use tonic::Status;
use whimbrel_firestore::v1::run_query_request::{ConsistencySelector, QueryType};
use whimbrel_firestore::v1::write::Operation;
use whimbrel_firestore::v1::{
    Document, RunQueryRequest, RunQueryResponse, StructuredQuery, Value, Write,
};
use whimbrel_firestore::{Backend, DatabaseName, Fields, Micros, time};
use whimbrel_gateway::Gateway;
use whimbrel_gateway::commit::request::Request;
use whimbrel_gateway::query;
use whimbrel_stores::OpenOptions;

pub struct Stage {
    pub gateway: Arc<Gateway>,
}

pub async fn memory() -> Arc<dyn Backend> {
    open("memory:").await
}

pub async fn open(url: &str) -> Arc<dyn Backend> {
    whimbrel_stores::serve::open(url, &OpenOptions::default())
        .await
        .unwrap()
}

impl Stage {
    pub async fn new() -> Self {
        Self::over(memory().await).await
    }

    pub async fn over(backend: Arc<dyn Backend>) -> Self {
        Self {
            gateway: Gateway::open(backend).await.unwrap(),
        }
    }

    /// Writes documents (or, without fields, deletes them) by their paths.
    pub async fn write(&self, documents: &[(String, Option<Fields>)]) -> Micros {
        let writes = documents
            .iter()
            .map(|(path, fields)| {
                let name = format!("{ROOT}/{path}");
                let operation = match fields {
                    Some(fields) => Operation::Update(Document {
                        name,
                        fields: fields.clone(),
                        ..Document::default()
                    }),
                    None => Operation::Delete(name),
                };
                Write {
                    operation: Some(operation),
                    ..Write::default()
                }
            })
            .collect();
        let (database, _) = DatabaseName::split(DATABASE).unwrap();
        let request = Request::new(database, writes).unwrap();
        self.gateway.write(request, None).await.unwrap().at
    }

    pub async fn put(&self, path: &str, fields: &[(&str, Value)]) -> Micros {
        self.write(&[(path.to_owned(), Some(of(fields)))]).await
    }

    /// All responses of a query below a parent (a path; empty for the root).
    pub async fn responses(
        &self,
        parent: &str,
        query: &StructuredQuery,
        at: Option<Micros>,
    ) -> Result<Vec<RunQueryResponse>, Status> {
        let request = RunQueryRequest {
            parent: name_of(parent),
            query_type: Some(QueryType::StructuredQuery(query.clone())),
            consistency_selector: at.map(|at| ConsistencySelector::ReadTime(time::to_proto(at))),
            ..RunQueryRequest::default()
        };
        query::run_query(&self.gateway, request)
            .await?
            .try_collect()
            .await
    }

    pub async fn documents(
        &self,
        parent: &str,
        query: &StructuredQuery,
        at: Option<Micros>,
    ) -> Result<Vec<Document>, Status> {
        let responses = self.responses(parent, query, at).await?;
        Ok(responses.into_iter().filter_map(|r| r.document).collect())
    }

    /// The paths of a query's documents, in order.
    pub async fn paths(&self, parent: &str, query: &StructuredQuery) -> Vec<String> {
        self.documents(parent, query, None)
            .await
            .unwrap()
            .into_iter()
            .map(|document| document.name[ROOT.len() + 1..].to_owned())
            .collect()
    }
}

pub fn name_of(path: &str) -> String {
    if path.is_empty() {
        ROOT.to_owned()
    } else {
        format!("{ROOT}/{path}")
    }
}

pub fn of(fields: &[(&str, Value)]) -> Fields {
    fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect()
}
