//! Serves Firestore's protocol from a store.
//!
//! ```text
//! server ── service (gRPC) ─┬─ documents ─┐
//!        └─ rest (JSON) ────┤  query ─────┼─ reads ── Backend::view
//!                           │  listen ────┘    │
//!                           └─ commit ── Backend::commit ──► feed ──► listen
//! ```
//!
//! All writing goes through one committer, which groups requests, judges each by the protocol's rules against
//! the documents as they are inside the store's transaction, and tells the feed what changed. All reading goes
//! through a [`reads::Read`], which knows the time read at and the transaction, if any.

pub mod clock;
pub mod commit;
pub mod documents;
pub mod feed;
pub mod forward;
pub mod listen;
pub mod names;
pub mod query;
pub mod reads;
mod rest;
pub mod server;
pub mod service;
pub mod status;
pub mod transaction;
pub mod validate;

use std::sync::Arc;
use tonic::Status;
use whimbrel_firestore::Backend;

/// One served store, shared by every connection.
#[derive(Debug)]
pub struct Gateway {
    pub backend: Arc<dyn Backend>,
    pub clock: clock::Clock,
    pub indexes: query::index::Indexes,
    pub feed: feed::Feed,
    pub transactions: transaction::Transactions,
    pub(crate) committer: commit::Committer,
}

impl Gateway {
    /// Takes up a store: reads its indexes and its last commit's time, and starts the committer. Needs a runtime.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn open(backend: Arc<dyn Backend>) -> Result<Arc<Self>, Status> {
        let last = backend.last_commit().await.map_err(status::of_store)?;
        let indexes = query::index::Indexes::open(&*backend).await?;
        let gateway = Arc::new(Self {
            clock: clock::Clock::new(last),
            indexes,
            feed: feed::Feed::new(last),
            transactions: transaction::Transactions::default(),
            committer: commit::Committer::default(),
            backend,
        });
        commit::start(&gateway);
        Ok(gateway)
    }
}
