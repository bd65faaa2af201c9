//! Writes of single documents and of several.

use super::Mask;
use crate::commit::Committed;
use crate::commit::request::{REQUEST_BYTES, Request, twice};
use crate::status::invalid;
use crate::{Gateway, names};
use futures::future::join_all;
use prost::Message;
use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use tonic::{Code, Status};
use whimbrel_firestore::proto::google::rpc;
use whimbrel_firestore::v1::precondition::ConditionType;
use whimbrel_firestore::v1::write::Operation;
use whimbrel_firestore::v1::{
    self, BatchWriteRequest, BatchWriteResponse, CommitRequest, CommitResponse,
    CreateDocumentRequest, DeleteDocumentRequest, DocumentMask, Precondition,
    UpdateDocumentRequest, WriteResult,
};
use whimbrel_firestore::{DatabaseName, time};

/// # Errors
/// ALREADY_EXISTS, or as [`Gateway::write`].
pub async fn create(
    gateway: &Arc<Gateway>,
    request: CreateDocumentRequest,
) -> Result<v1::Document, Status> {
    let (database, parent) = names::parent(&request.parent)?;
    names::collection_id(&request.collection_id)?;
    if request.collection_id.is_empty() {
        return Err(invalid("collection id must be set"));
    }
    let mut document = request.document.unwrap_or_default();
    if !document.name.is_empty() {
        return Err(invalid("document.name must not be set"));
    }
    let id = if request.document_id.is_empty() {
        new_id()
    } else {
        request.document_id
    };
    names::document_id(&id)?;
    document.name = if parent.is_empty() {
        database.document(&format!("{}/{id}", request.collection_id))
    } else {
        database.document(&format!("{parent}/{}/{id}", request.collection_id))
    };
    let write = v1::Write {
        operation: Some(Operation::Update(document)),
        current_document: Some(Precondition {
            condition_type: Some(ConditionType::Exists(false)),
        }),
        ..v1::Write::default()
    };
    write_one(gateway, database, write, request.mask.as_ref()).await
}

/// # Errors
/// As [`Gateway::write`].
pub async fn update(
    gateway: &Arc<Gateway>,
    request: UpdateDocumentRequest,
) -> Result<v1::Document, Status> {
    let document = request.document.unwrap_or_default();
    let (database, _) = names::document(&document.name)?;
    let write = v1::Write {
        operation: Some(Operation::Update(document)),
        update_mask: request.update_mask,
        current_document: request.current_document,
        ..v1::Write::default()
    };
    write_one(gateway, database, write, request.mask.as_ref()).await
}

/// # Errors
/// As [`Gateway::write`].
pub async fn delete(gateway: &Arc<Gateway>, request: DeleteDocumentRequest) -> Result<(), Status> {
    let (database, _) = names::document(&request.name)?;
    let write = v1::Write {
        operation: Some(Operation::Delete(request.name)),
        current_document: request.current_document,
        ..v1::Write::default()
    };
    let request = Request::new(database, vec![write])?;
    gateway.write(request, None).await.map(|_| ())
}

/// Writes one document and says what it is then.
async fn write_one(
    gateway: &Arc<Gateway>,
    database: DatabaseName,
    write: v1::Write,
    mask: Option<&DocumentMask>,
) -> Result<v1::Document, Status> {
    let mask = Mask::new(mask)?;
    let mut request = Request::new(database.clone(), vec![write])?;
    request.returning = true;
    let place = request.places.first().cloned();
    let committed = gateway.write(request, None).await?;
    let stored = committed.documents.into_iter().next().flatten();
    match (place, stored) {
        (Some(place), Some(stored)) => Ok(mask.show(&database, &place, &stored)),
        _ => Err(Status::data_loss(
            "The document was written, but is not there any more.",
        )),
    }
}

/// # Errors
/// As [`Gateway::write`].
pub async fn commit(
    gateway: &Arc<Gateway>,
    request: CommitRequest,
) -> Result<CommitResponse, Status> {
    small_enough(request.encoded_len())?;
    let database = names::database(&request.database)?;
    let writes = Request::new(database, request.writes)?;
    let transaction = Some(request.transaction).filter(|id| !id.is_empty());
    let committed = gateway.write(writes, transaction.as_deref()).await?;
    Ok(CommitResponse {
        write_results: committed.results,
        commit_time: Some(time::to_proto(committed.at)),
    })
}

/// # Errors
/// INVALID_ARGUMENT: the request is too large; nothing was written.
pub(super) fn small_enough(bytes: usize) -> Result<(), Status> {
    if bytes <= REQUEST_BYTES {
        return Ok(());
    }
    Err(invalid(format!(
        "Request payload size exceeds the limit: {REQUEST_BYTES} bytes."
    )))
}

/// Each write succeeds or fails on its own: it is a request of its own. (They share the store's commit, as requests do.)
///
/// # Errors
/// INVALID_ARGUMENT: the request is too large, or a document comes twice in it: then it matters which write is first, and
/// they have no order. Nothing was written.
pub async fn batch_write(
    gateway: &Arc<Gateway>,
    request: BatchWriteRequest,
) -> Result<BatchWriteResponse, Status> {
    small_enough(request.encoded_len())?;
    let database = names::database(&request.database)?;
    let writes = request.writes.into_iter();
    let writes = writes.map(|write| Request::new(database.clone(), vec![write]));
    let writes: Vec<Result<Request, Status>> = writes.collect();
    let mut places = HashSet::with_capacity(writes.len());
    for place in writes.iter().flatten().flat_map(|write| &write.places) {
        if !places.insert(place) {
            return Err(twice("written more than once"));
        }
    }
    let written = writes
        .into_iter()
        .map(|write| async { gateway.write(write?, None).await });
    let mut response = BatchWriteResponse::default();
    for written in join_all(written).await {
        let (result, status) = match written.map(only) {
            Ok(result) => (result, rpc::Status::default()),
            Err(error) => (
                WriteResult::default(),
                rpc::Status {
                    code: code(error.code()),
                    message: error.message().to_owned(),
                    details: Vec::new(),
                },
            ),
        };
        response.write_results.push(result);
        response.status.push(status);
    }
    Ok(response)
}

/// The result of a request of one write.
fn only(committed: Committed) -> WriteResult {
    committed.results.into_iter().next().unwrap_or_default()
}

fn code(code: Code) -> i32 {
    code.into()
}

/// An id for a document that the client gave none: 20 letters and digits.
fn new_id() -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut id = String::with_capacity(20);
    while id.len() < 20 {
        // Each `RandomState` has keys of its own, from the system's random numbers.
        let mut bits = RandomState::new().build_hasher().finish();
        for _ in 0..10 {
            let letter = ALPHABET[(bits % 62) as usize];
            id.push(char::from(letter));
            bits /= 62;
        }
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_ids_are_ids_and_differ() {
        let ids: std::collections::HashSet<String> = (0..1000).map(|_| new_id()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            assert_eq!(id.len(), 20);
            assert!(names::document_id(&id).is_ok());
        }
    }
}
