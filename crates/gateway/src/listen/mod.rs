//! Listening: targets of documents and of queries, kept current from the feed.
//!
//! ```text
//! session ─┬─ fill: the first result, or what changed since the client knew ─┐
//!          ├─ follow: what the feed tells ───────────────────────────────────┼─► out ─► client
//!          └─ recover: what changed, where the feed was lost ────────────────┘
//! ```
//!
//! A query without a limit keeps nothing but a time: each change says what its document was before and is now, and
//! what changed between two times can be asked of the store. Limited ones keep a [`window::Window`].

mod bloom;
mod fill;
mod out;
mod results;
mod session;
mod target;
mod token;
mod window;

use crate::Gateway;
use futures::StreamExt;
use futures::stream::{BoxStream, Stream};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use whimbrel_firestore::v1::{ListenRequest, ListenResponse};

/// Serves one stream of listeners until the client ends it or goes away. It goes on only as far as responses are
/// taken.
pub fn listen(
    gateway: Arc<Gateway>,
    requests: impl Stream<Item = Result<ListenRequest, Status>> + Send + 'static,
) -> BoxStream<'static, Result<ListenResponse, Status>> {
    let (sender, responses) = mpsc::channel(out::BUFFER);
    let session = session::Session::new(gateway, out::Out::new(sender));
    tokio::spawn(session.run(requests));
    ReceiverStream::new(responses).boxed()
}
