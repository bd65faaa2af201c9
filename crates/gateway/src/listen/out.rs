//! The stream's way out: responses, and a bounded buffer that a slow client fills but cannot grow.

use crate::listen::token;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::{Code, Status};
use whimbrel_firestore::proto::google::rpc;
use whimbrel_firestore::time::to_proto;
use whimbrel_firestore::v1::listen_response::ResponseType;
use whimbrel_firestore::v1::target_change::TargetChangeType;
use whimbrel_firestore::v1::{
    BloomFilter, Document, DocumentChange, DocumentDelete, DocumentRemove, ExistenceFilter,
    ListenResponse, TargetChange,
};
use whimbrel_firestore::{DatabaseName, Micros};

/// Responses that wait for the client.
pub const BUFFER: usize = 32;

/// How long a client may leave the buffer full while a read of the store is open for it.
const STALL: Duration = Duration::from_secs(30);

/// Why a stream ends.
#[derive(Debug)]
pub enum End {
    /// The client has gone.
    Gone,
    Failed(Status),
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

pub type Flow<T> = Result<T, End>;

#[derive(Debug)]
pub struct Out {
    sender: mpsc::Sender<Result<ListenResponse, Status>>,
    /// Whether a read of the store is open: others wait for its resources, so a client may not hold it up forever.
    pub reading: bool,
}

impl Out {
    #[must_use]
    pub fn new(sender: mpsc::Sender<Result<ListenResponse, Status>>) -> Self {
        Self {
            sender,
            reading: false,
        }
    }

    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    pub async fn fail(&self, status: Status) {
        // A client that has gone does not want to know.
        let _ = self.sender.send(Err(status)).await;
    }

    pub async fn send(&self, response: ResponseType) -> Flow<()> {
        let response = Ok(ListenResponse {
            response_type: Some(response),
        });
        if !self.reading {
            return self.sender.send(response).await.map_err(|_| End::Gone);
        }
        match self.sender.send_timeout(response, STALL).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(End::Gone),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                Err(End::Failed(Status::unavailable(format!(
                    "The client took nothing of the listener's first result for {} seconds, so the \
                     stream was ended. Listen again.",
                    STALL.as_secs()
                ))))
            }
        }
    }

    pub async fn added(&self, id: i32) -> Flow<()> {
        self.target(TargetChangeType::Add, vec![id]).await
    }

    pub async fn reset(&self, id: i32) -> Flow<()> {
        self.target(TargetChangeType::Reset, vec![id]).await
    }

    async fn target(&self, change: TargetChangeType, target_ids: Vec<i32>) -> Flow<()> {
        self.send(ResponseType::TargetChange(TargetChange {
            target_change_type: change as i32,
            target_ids,
            ..TargetChange::default()
        }))
        .await
    }

    /// The target is no longer listened to; `cause` where the client did not ask for that.
    pub async fn removed(&self, id: i32, cause: Option<&Status>) -> Flow<()> {
        let cause = cause.map(|status| rpc::Status {
            code: status.code() as i32,
            message: status.message().to_owned(),
            details: Vec::new(),
        });
        self.send(ResponseType::TargetChange(TargetChange {
            target_change_type: TargetChangeType::Remove as i32,
            target_ids: vec![id],
            cause,
            ..TargetChange::default()
        }))
        .await
    }

    /// The targets have what was committed before they were added.
    pub async fn current(&self, ids: Vec<i32>, database: &DatabaseName, at: Micros) -> Flow<()> {
        self.timed(TargetChangeType::Current, ids, database, at)
            .await
    }

    /// All targets of the stream are as of `at`.
    pub async fn consistent(&self, database: &DatabaseName, at: Micros) -> Flow<()> {
        self.timed(TargetChangeType::NoChange, Vec::new(), database, at)
            .await
    }

    async fn timed(
        &self,
        change: TargetChangeType,
        target_ids: Vec<i32>,
        database: &DatabaseName,
        at: Micros,
    ) -> Flow<()> {
        self.send(ResponseType::TargetChange(TargetChange {
            target_change_type: change as i32,
            target_ids,
            cause: None,
            resume_token: token::write(database, at),
            read_time: Some(to_proto(at)),
        }))
        .await
    }

    /// The document is in some targets, and in others no longer.
    pub async fn changed(
        &self,
        document: Document,
        target_ids: Vec<i32>,
        removed_target_ids: Vec<i32>,
    ) -> Flow<()> {
        self.send(ResponseType::DocumentChange(DocumentChange {
            document: Some(document),
            target_ids,
            removed_target_ids,
        }))
        .await
    }

    /// The document does not exist (any more).
    pub async fn deleted(
        &self,
        document: String,
        removed_target_ids: Vec<i32>,
        at: Micros,
    ) -> Flow<()> {
        self.send(ResponseType::DocumentDelete(DocumentDelete {
            document,
            removed_target_ids,
            read_time: Some(to_proto(at)),
        }))
        .await
    }

    /// The document is in the targets no longer; what it is like now is not said.
    pub async fn left(
        &self,
        document: String,
        removed_target_ids: Vec<i32>,
        at: Micros,
    ) -> Flow<()> {
        self.send(ResponseType::DocumentRemove(DocumentRemove {
            document,
            removed_target_ids,
            read_time: Some(to_proto(at)),
        }))
        .await
    }

    pub async fn filter(
        &self,
        target_id: i32,
        count: usize,
        unchanged_names: Option<BloomFilter>,
    ) -> Flow<()> {
        self.send(ResponseType::Filter(ExistenceFilter {
            target_id,
            count: i32::try_from(count).unwrap_or(i32::MAX),
            unchanged_names,
        }))
        .await
    }
}

/// Whether an error is the target's own, so that the stream goes on without it.
#[must_use]
pub fn is_targets_own(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::NotFound
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::Unimplemented
    )
}
