//! Calls to the server: what each carries, how long it may take, and when it is made again.

use super::error::{self, read_error};
use super::upstream::Upstream;
use backon::{BackoffBuilder, ExponentialBuilder};
use prost_types::Timestamp;
use std::future::Future;
use std::time::Duration;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use whimbrel_firestore::v1::firestore_client::FirestoreClient;
use whimbrel_model::StoreError;

pub(super) type Client = FirestoreClient<Channel>;

/// Google ends queries after this long, too.
const LIMIT: Duration = Duration::from_secs(60);
/// How often a call is made at most, when the server is busy.
const TRIES: usize = 5;
/// An answer holds one document, and some of what is around it.
const ANSWER_BYTES: usize = 64 << 20;

/// Pauses between tries, growing and jittered.
pub(super) fn pauses() -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(10))
        .with_max_times(TRIES - 1)
        .build()
}

/// A request with what every call carries.
pub(super) fn with<T>(metadata: MetadataMap, message: T) -> Request<T> {
    let mut request = Request::new(message);
    *request.metadata_mut() = metadata;
    request.set_timeout(LIMIT);
    request
}

/// Makes calls, each over the next connection.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    pub upstream: Upstream,
    /// The instant that a snapshot shows: what is read is as of it.
    pub read_time: Option<Timestamp>,
}

impl Calls {
    pub(super) fn name(&self) -> &str {
        self.upstream.name()
    }

    fn client(&self) -> Client {
        Client::new(self.upstream.channel()).max_decoding_message_size(ANSWER_BYTES)
    }

    /// One call, made once; once more where the token was too old. The outer error is of the credentials:
    /// nothing was sent.
    pub(super) async fn once<T, F>(
        &self,
        call: impl Fn(Client, MetadataMap) -> F + Send + Sync,
    ) -> Result<Result<T, Status>, StoreError>
    where
        F: Future<Output = Result<T, Status>> + Send,
    {
        let mut renewed = false;
        loop {
            let metadata = self.upstream.metadata().await?;
            let authorization = metadata.get("authorization").cloned();
            let answer = tokio::time::timeout(LIMIT, call(self.client(), metadata)).await;
            let answer =
                answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
            match answer {
                Err(status) if status.code() == Code::Unauthenticated && !renewed => {
                    renewed = true;
                    if let Some(refused) = &authorization {
                        self.upstream.refused(refused.as_encoded_bytes()).await;
                    }
                }
                answer => return Ok(answer),
            }
        }
    }

    /// A call that changes nothing: made again while the server is busy. `doing` says what is not done where it fails.
    pub(super) async fn read<T, F>(
        &self,
        doing: &str,
        call: impl Fn(Client, MetadataMap) -> F + Send + Sync,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Status>> + Send,
    {
        match self.try_read(call).await? {
            Ok(answer) => Ok(answer),
            Err(status) => Err(self.read_error(doing, &status)),
        }
    }

    /// Of a call that read.
    pub(super) fn read_error(&self, doing: &str, status: &Status) -> StoreError {
        read_error(self.name(), doing, status, self.read_time.is_some())
    }

    /// The same, where the caller has something to make of the server's refusal.
    pub(super) async fn try_read<T, F>(
        &self,
        call: impl Fn(Client, MetadataMap) -> F + Send + Sync,
    ) -> Result<Result<T, Status>, StoreError>
    where
        F: Future<Output = Result<T, Status>> + Send,
    {
        let mut pauses = pauses();
        loop {
            match self.once(&call).await? {
                Err(status) if error::is_passing(&status) => match pauses.next() {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Ok(Err(status)),
                },
                answer => return Ok(answer),
            }
        }
    }
}
