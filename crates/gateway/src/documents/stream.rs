//! The Write stream: batches of writes, one after the other, each atomic.
//!
//! The first request says which database and nothing else; it is answered with the stream's id and the first
//! token. Each later request is a batch, answered in order with the next token. Clients send several batches
//! before they are answered, so the tokens that they send are not compared. A request without writes is
//! answered with a token and ends the stream, as an error does. As in Google's emulator, streams are not resumed.

use super::write::small_enough;
use crate::commit::request::Request;
use crate::status::invalid;
use crate::{Gateway, names};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use prost::Message;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tonic::Status;
use whimbrel_firestore::v1::{WriteRequest, WriteResponse};
use whimbrel_firestore::{DatabaseName, time};

static STREAMS: AtomicU64 = AtomicU64::new(0);

/// Answers the requests of one stream.
pub fn write_stream<S>(
    gateway: Arc<Gateway>,
    requests: S,
) -> BoxStream<'static, Result<WriteResponse, Status>>
where
    S: Stream<Item = Result<WriteRequest, Status>> + Send + Unpin + 'static,
{
    let session = Session {
        gateway,
        requests,
        database: None,
        token: 0,
    };
    stream::unfold(Some(session), |session| async {
        let mut session = session?;
        match session.next().await {
            Ok(Some((answer, true))) => Some((Ok(answer), Some(session))),
            Ok(Some((answer, false))) => Some((Ok(answer), None)),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

struct Session<S> {
    gateway: Arc<Gateway>,
    requests: S,
    database: Option<DatabaseName>,
    token: u64,
}

impl<S> Session<S>
where
    S: Stream<Item = Result<WriteRequest, Status>> + Send + Unpin,
{
    /// The next answer, and whether there may be another.
    async fn next(&mut self) -> Result<Option<(WriteResponse, bool)>, Status> {
        let Some(request) = self.requests.next().await.transpose()? else {
            return Ok(None);
        };
        let Some(database) = self.database.clone() else {
            return self.open(&request).map(|answer| Some((answer, true)));
        };
        if !request.database.is_empty() {
            let named = names::database(&request.database)?;
            if named != database {
                return Err(invalid(format!(
                    "Request specified a database ({named}) that did not match the expected database \
                     ({database})"
                )));
            }
        }
        self.token += 1;
        let mut answer = WriteResponse {
            stream_token: self.token(),
            ..WriteResponse::default()
        };
        if request.writes.is_empty() {
            return Ok(Some((answer, false)));
        }
        small_enough(request.encoded_len())?;
        let writes = Request::new(database, request.writes)?;
        let committed = self.gateway.write(writes, None).await?;
        answer.write_results = committed.results;
        answer.commit_time = Some(time::to_proto(committed.at));
        Ok(Some((answer, true)))
    }

    fn open(&mut self, request: &WriteRequest) -> Result<WriteResponse, Status> {
        if !request.stream_id.is_empty() {
            return Err(invalid(
                "Resuming streams is not supported, do not set stream ID.",
            ));
        }
        if request.database.is_empty() {
            return Err(invalid(
                "'database' must be set on an initial write request.",
            ));
        }
        if !request.stream_token.is_empty() {
            return Err(invalid(
                "Resuming streams is not supported, 'stream_token' must not be set on an initial write request.",
            ));
        }
        if !request.writes.is_empty() {
            return Err(invalid(
                "'writes' must not be set on an initial write request.",
            ));
        }
        self.database = Some(names::database(&request.database)?);
        Ok(WriteResponse {
            stream_id: STREAMS.fetch_add(1, Ordering::Relaxed).to_string(),
            stream_token: self.token(),
            ..WriteResponse::default()
        })
    }

    fn token(&self) -> Vec<u8> {
        self.token.to_string().into_bytes()
    }
}
