//! Writing: requests are checked and take their locks ([`request`]), wait for the committer ([`group`]), and
//! are decided by the protocol's rules ([`apply`]) inside the store's commit.

pub mod apply;
mod foreign;
mod group;
mod recent;
pub mod request;

use crate::Gateway;
use crate::status::invalid;
use crate::transaction::{Basis, End, Mode};
pub use group::Committed;
use group::{Alone, Aside, DecideAside, Hold, Shared, Task};
use request::Request;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tonic::Status;
use whimbrel_firestore::Place;
use whimbrel_firestore::backend::{Found, IndexLine};

/// Groups the commits of all connections into the store's.
#[derive(Debug, Default)]
pub struct Committer {
    shared: Arc<Shared>,
    catching_up: foreign::CatchingUp,
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Committer {
    /// From now on, what is committed is noted for a while: a transaction rests on a query.
    pub(crate) fn remember(&self) {
        self.shared.recent().keep();
    }
}

/// The index lines to take out and to put in, given documents as they are.
pub type Lines = Box<dyn FnMut(&Found) -> (Vec<IndexLine>, Vec<IndexLine>) + Send>;

pub(crate) fn start(gateway: &Arc<Gateway>) {
    let shared = &gateway.committer.shared;
    let weak = || Arc::downgrade(gateway);
    tokio::spawn(shared.lasting(group::run(shared.clone(), weak())));
    tokio::spawn(shared.lasting(foreign::expire(weak())));
    tokio::spawn(shared.lasting(foreign::forget(weak())));
}

impl Gateway {
    /// Over when something that must go on for as long as the gateway does has ended: a mistake of this program. From
    /// then on nothing can be relied upon, and the process should end. Until then, and of a gateway that was closed in
    /// order, it is never over.
    pub fn failed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut failed = self.committer.shared.failed();
        async move {
            if failed.wait_for(|failed| *failed).await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// Writes, in a transaction or outside.
    ///
    /// # Errors
    /// In Firestore's codes. Nothing was written, except with DATA_LOSS: then it is not known.
    pub async fn write(
        self: &Arc<Self>,
        request: Request,
        transaction: Option<&[u8]>,
    ) -> Result<Committed, Status> {
        let Some(id) = transaction else {
            if request.writes.is_empty() {
                return Ok(self.nothing());
            }
            let hold = Hold::Write {
                _held: self.transactions.take(&request.places).await?,
            };
            let room = self.committer.shared.room(request.bytes).await?;
            return self.submit(request, Basis::default(), hold, room).await;
        };
        let transaction = self.transactions.find(id)?;
        if let Mode::ReadOnly(_) = transaction.mode {
            if !request.writes.is_empty() {
                return Err(invalid(
                    "Cannot modify entities in a read-only transaction.",
                ));
            }
            self.transactions.end(&transaction, End::Committed);
            return Ok(self.nothing());
        }
        if transaction.rests_on_queries() {
            self.catch_up().await?;
        }
        self.transactions
            .lock(&transaction, &request.places)
            .await?;
        let room = self.committer.shared.room(request.bytes).await?;
        // From here to the queue nothing waits: when the client goes away, the transaction is either still open or on
        // its way to the store.
        let (sealed, basis) = self.transactions.seal(&transaction)?;
        if request.writes.is_empty() && basis.read.is_empty() && basis.queries.is_empty() {
            return Ok(self.nothing());
        }
        self.submit(request, basis, Hold::Transaction(sealed), room)
            .await
    }

    /// What a commit of nothing comes to.
    fn nothing(&self) -> Committed {
        Committed {
            at: self.clock.read_time(),
            results: Vec::new(),
            documents: Vec::new(),
        }
    }

    async fn submit(
        &self,
        request: Request,
        basis: Basis,
        hold: Hold,
        room: OwnedSemaphorePermit,
    ) -> Result<Committed, Status> {
        let (answer, answered) = oneshot::channel();
        self.committer.shared.submit(Task {
            request,
            basis,
            hold,
            answer,
            room,
        });
        answered.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Commits index lines only, between two groups of requests: `lines` sees the documents at `touch` as they are
    /// inside the store's transaction. When it returns, every commit that was decided before it is durable, and
    /// views that are opened then show it.
    ///
    /// # Errors
    /// The store fails.
    pub async fn maintain(
        self: &Arc<Self>,
        touch: Vec<Place>,
        mut lines: Lines,
    ) -> Result<(), Status> {
        let decide = Box::new(move |found: &Found| {
            let (unindex, index) = lines(found);
            Aside {
                unindex,
                index,
                ..Aside::default()
            }
        });
        self.commit_alone(touch, decide).await
    }

    async fn commit_alone(&self, touch: Vec<Place>, decide: DecideAside) -> Result<(), Status> {
        let (answer, answered) = oneshot::channel();
        self.committer.shared.submit_alone(Alone {
            touch,
            decide,
            answer,
        });
        answered.await.unwrap_or_else(|_| Err(lost()))
    }
}

/// The committer ended before it answered.
fn lost() -> Status {
    Status::data_loss(
        "The server failed while it wrote. Whether the writes are there is not known: read the documents before \
         you try again.",
    )
}
