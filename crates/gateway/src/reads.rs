//! Reading: now, as of a time, or in a transaction.

use crate::Gateway;
use crate::query::Query;
use std::sync::Arc;
use tonic::Status;
use whimbrel_firestore::{Micros, Place, View};

/// When a request reads, as its `consistency_selector` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    Now,
    At(Micros),
    /// The bytes that the client knows the transaction by.
    In(Vec<u8>),
}

/// One request's way to documents.
pub struct Read {
    pub view: Box<dyn View>,
    /// `Some` where documents are wanted as of a time before the view.
    pub at: Option<Micros>,
    /// What responses say.
    pub read_time: Micros,
    gateway: Arc<Gateway>,
}

impl Gateway {
    /// Opens a read of several steps (queries, lists). In a transaction, the same time again and again.
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
            gateway: self.clone(),
        })
    }
}

impl Read {
    /// Locks these documents for the read-write transaction that reads them, if any. To be called before
    /// they are read; returns the view to read them from when others were waited for.
    ///
    /// # Errors
    /// ABORTED: another transaction holds one of them.
    pub async fn lock(&mut self, places: &[Place]) -> Result<(), Status> {
        let _ = (places, &self.gateway);
        Ok(())
    }

    /// Notes that the transaction rests on this query's whole result, also on what is not in it.
    pub fn rests_on(&mut self, query: &Arc<Query>) {
        let _ = query;
    }
}
