//! A gateway, asked as the service asks it.

use futures::TryStreamExt;
use std::sync::Arc;
use tonic::{Code, Status};
use whimbrel_firestore::v1::batch_get_documents_request::ConsistencySelector;
use whimbrel_firestore::v1::batch_get_documents_response::Result as Outcome;
use whimbrel_firestore::v1::document_transform::FieldTransform;
use whimbrel_firestore::v1::document_transform::field_transform::TransformType;
use whimbrel_firestore::v1::precondition::ConditionType;
use whimbrel_firestore::v1::transaction_options::{self, ReadOnly, ReadWrite};
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_firestore::v1::write::Operation;
use whimbrel_firestore::v1::{
    BatchGetDocumentsRequest, BatchGetDocumentsResponse, CommitRequest, CommitResponse, Document,
    Precondition, TransactionOptions, Value, Write,
};
use whimbrel_firestore::{Backend, Fields, Micros, time};
use whimbrel_gateway::{Gateway, documents};
use whimbrel_stores::OpenOptions;

pub const DATABASE: &str = "projects/p/databases/(default)";
pub const ROOT: &str = "projects/p/databases/(default)/documents";

pub struct Stage {
    pub gateway: Arc<Gateway>,
    /// Where a SQLite file lies.
    _folder: Option<tempfile::TempDir>,
}

/// A gateway over each store that needs no server.
pub async fn stages() -> Vec<Stage> {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = format!("sqlite:{}/served.db", folder.path().display());
    let mut stages = vec![Stage::new().await];
    stages.push(Stage {
        gateway: Gateway::open(open(&sqlite).await).await.unwrap(),
        _folder: Some(folder),
    });
    stages
}

pub async fn open(url: &str) -> Arc<dyn Backend> {
    whimbrel_stores::serve::open(url, &OpenOptions::default())
        .await
        .unwrap()
}

pub fn name(path: &str) -> String {
    format!("{ROOT}/{path}")
}

pub fn int(i: i64) -> Value {
    Value {
        value_type: Some(ValueType::IntegerValue(i)),
    }
}

pub fn n(i: i64) -> Fields {
    fields(&[("n", i)])
}

pub fn fields(entries: &[(&str, i64)]) -> Fields {
    entries
        .iter()
        .map(|(name, i)| ((*name).to_owned(), int(*i)))
        .collect()
}

pub fn set(path: &str, fields: Fields) -> Write {
    Write {
        operation: Some(Operation::Update(Document {
            name: name(path),
            fields,
            ..Document::default()
        })),
        ..Write::default()
    }
}

pub fn delete(path: &str) -> Write {
    Write {
        operation: Some(Operation::Delete(name(path))),
        ..Write::default()
    }
}

pub fn if_exists(exists: bool, write: Write) -> Write {
    Write {
        current_document: Some(Precondition {
            condition_type: Some(ConditionType::Exists(exists)),
        }),
        ..write
    }
}

pub fn if_updated(at: Micros, write: Write) -> Write {
    Write {
        current_document: Some(Precondition {
            condition_type: Some(ConditionType::UpdateTime(time::to_proto(at))),
        }),
        ..write
    }
}

pub fn increment(path: &str, by: i64) -> Write {
    Write {
        update_mask: Some(Default::default()),
        update_transforms: vec![FieldTransform {
            field_path: "n".to_owned(),
            transform_type: Some(TransformType::Increment(int(by))),
        }],
        ..set(path, Fields::new())
    }
}

pub fn n_of(document: &Document) -> i64 {
    match document.fields.get("n").and_then(|n| n.value_type.as_ref()) {
        Some(ValueType::IntegerValue(n)) => *n,
        other => panic!("{other:?}"),
    }
}

pub fn at(time: Option<&prost_types::Timestamp>) -> Micros {
    time::from_proto(time.unwrap())
}

#[track_caller]
pub fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>, code: Code) -> String {
    let error = outcome.unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    error.message().to_owned()
}

impl Stage {
    pub async fn new() -> Self {
        Self::over(open("memory:").await).await
    }

    pub async fn over(backend: Arc<dyn Backend>) -> Self {
        Self {
            gateway: Gateway::open(backend).await.unwrap(),
            _folder: None,
        }
    }

    pub async fn commit(&self, writes: Vec<Write>) -> Result<CommitResponse, Status> {
        self.commit_in(&[], writes).await
    }

    pub async fn commit_in(
        &self,
        transaction: &[u8],
        writes: Vec<Write>,
    ) -> Result<CommitResponse, Status> {
        let request = CommitRequest {
            database: DATABASE.to_owned(),
            writes,
            transaction: transaction.to_vec(),
            ..CommitRequest::default()
        };
        documents::commit(&self.gateway, request).await
    }

    /// Writes, and says when.
    pub async fn write(&self, writes: Vec<Write>) -> Micros {
        at(self.commit(writes).await.unwrap().commit_time.as_ref())
    }

    pub async fn batch_get(
        &self,
        paths: &[&str],
        selector: Option<ConsistencySelector>,
    ) -> Result<Vec<BatchGetDocumentsResponse>, Status> {
        let request = BatchGetDocumentsRequest {
            database: DATABASE.to_owned(),
            documents: paths.iter().map(|path| name(path)).collect(),
            consistency_selector: selector,
            ..BatchGetDocumentsRequest::default()
        };
        documents::batch_get(&self.gateway, request)
            .await?
            .try_collect()
            .await
    }

    pub async fn read(
        &self,
        paths: &[&str],
        selector: Option<ConsistencySelector>,
    ) -> Result<Vec<Option<Document>>, Status> {
        let answers = self.batch_get(paths, selector).await?;
        Ok(answers
            .into_iter()
            .map(|answer| match answer.result {
                Some(Outcome::Found(document)) => Some(document),
                _ => None,
            })
            .collect())
    }

    pub async fn get(&self, path: &str) -> Option<Document> {
        self.read(&[path], None).await.unwrap().remove(0)
    }

    pub async fn get_at(&self, path: &str, at: Micros) -> Option<Document> {
        let when = ConsistencySelector::ReadTime(time::to_proto(at));
        self.read(&[path], Some(when)).await.unwrap().remove(0)
    }

    pub async fn get_in(&self, id: &[u8], path: &str) -> Result<Option<Document>, Status> {
        let when = ConsistencySelector::Transaction(id.to_vec());
        Ok(self.read(&[path], Some(when)).await?.remove(0))
    }

    pub async fn begin(&self) -> Vec<u8> {
        self.begin_again(&[]).await
    }

    pub async fn begin_again(&self, earlier: &[u8]) -> Vec<u8> {
        let options = TransactionOptions {
            mode: Some(transaction_options::Mode::ReadWrite(ReadWrite {
                retry_transaction: earlier.to_vec(),
                ..ReadWrite::default()
            })),
        };
        self.gateway.begin(&options).await.unwrap()
    }

    pub async fn begin_reading(&self, at: Option<Micros>) -> Result<Vec<u8>, Status> {
        let selector = at.map(|at| {
            transaction_options::read_only::ConsistencySelector::ReadTime(time::to_proto(at))
        });
        let options = TransactionOptions {
            mode: Some(transaction_options::Mode::ReadOnly(ReadOnly {
                consistency_selector: selector,
            })),
        };
        self.gateway.begin(&options).await
    }
}
