//! Reading: now, as of a time, or in a transaction.

use crate::Gateway;
use crate::clock::Clock;
use crate::commit::request::whole_micros;
use crate::query::Query;
use crate::status::{self, invalid};
use crate::transaction::{Begun, InUse, Mode};
use prost_types::Timestamp;
use std::sync::Arc;
use tonic::Status;
use whimbrel_firestore::backend::Stored;
use whimbrel_firestore::v1::TransactionOptions;
use whimbrel_firestore::{Micros, Place, View};

/// How far back reads may go.
pub const HISTORY: Micros = 3600 * 1_000_000;

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

impl When {
    /// # Errors
    /// INVALID_ARGUMENT: the time is finer than microseconds, or before the epoch.
    pub fn at(time: &Timestamp) -> Result<Self, Status> {
        whole_micros(time).map(Self::At)
    }
}

/// One request's way to documents.
pub struct Read {
    pub view: Box<dyn View>,
    /// `Some` where documents are wanted as of a time before the view.
    pub at: Option<Micros>,
    /// What responses say.
    pub read_time: Micros,
    /// The transaction that was begun ([`When::New`]): the first response tells it.
    pub begun: Option<Begun>,
    gateway: Arc<Gateway>,
    /// The read-write transaction that reads.
    transaction: Option<InUse>,
}

/// Whether documents are still as they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    AsRead,
    /// Others changed some before they could be held. The read has a new view now: begin the query anew, or, if part
    /// of its result was sent already, end with [`crate::status::contention`].
    Changed,
}

/// A document that was read on its own.
#[derive(Debug)]
pub struct Fetched {
    pub stored: Option<Stored>,
    pub read_time: Micros,
    /// As [`Read::begun`].
    pub begun: Option<Begun>,
}

/// What a request's selector came to.
struct Resolved {
    at: Option<Micros>,
    begun: Option<Begun>,
    transaction: Option<InUse>,
}

impl Gateway {
    /// Opens a read. In a read-only transaction, the same time again and again; in a read-write one, the present:
    /// what was read before is locked.
    ///
    /// # Errors
    /// The time is too long ago or in the future, the transaction is not known or over, or the store fails.
    pub async fn read(self: &Arc<Self>, when: &When) -> Result<Read, Status> {
        let resolved = self.resolve(when).await?;
        let (view, shown) = self.look().await?;
        let (at, read_time) = match resolved.at {
            None => (None, shown),
            Some(at) if is_as_of(&*view, at).await? => (None, at),
            Some(at) => (Some(at), at),
        };
        Ok(Read {
            view,
            at,
            read_time,
            begun: resolved.begun,
            gateway: self.clone(),
            transaction: resolved.transaction,
        })
    }

    /// The earliest time that can be read at.
    #[must_use]
    pub fn horizon(&self) -> Micros {
        Clock::now() - HISTORY
    }

    /// A time that a client wants to read at: nothing is committed at or before it any more.
    ///
    /// # Errors
    /// It is in the future or too long ago.
    pub(crate) async fn past(&self, at: Micros) -> Result<Micros, Status> {
        if at > self.clock.read_time().max(Clock::now()) {
            return Err(invalid(
                "The requested 'read_time' cannot be in the future.",
            ));
        }
        if at < self.horizon() {
            return Err(Status::failed_precondition(
                "The requested 'read_time' is too old.",
            ));
        }
        self.clock.settle(at).await;
        Ok(at)
    }

    async fn resolve(self: &Arc<Self>, when: &When) -> Result<Resolved, Status> {
        let (transaction, begun) = match when {
            When::Now => {
                return Ok(Resolved {
                    at: None,
                    begun: None,
                    transaction: None,
                });
            }
            When::At(at) => {
                return Ok(Resolved {
                    at: Some(self.past(*at).await?),
                    begun: None,
                    transaction: None,
                });
            }
            When::In(id) => (self.transactions.find(id)?, None),
            When::New(options) => {
                let (transaction, begun) = self.begin_reading(options).await?;
                (transaction, Some(begun))
            }
        };
        Ok(match transaction.mode {
            Mode::ReadOnly(at) => Resolved {
                at: Some(at),
                begun,
                transaction: None,
            },
            Mode::ReadWrite => Resolved {
                at: None,
                begun,
                transaction: Some(transaction),
            },
        })
    }

    /// Opens a view of the present, and says as of when it is.
    async fn look(&self) -> Result<(Box<dyn View>, Micros), Status> {
        let before = self.clock.read_time();
        let view = self.backend.view().await.map_err(status::of_store)?;
        // Commits are applied in the order of their times. Either the view shows later ones, then it is exactly as
        // of the last of them; or it shows none later, then it is as of the time taken before it was opened.
        let at = before.max(view.at());
        self.clock.saw(at);
        Ok((view, at))
    }

    /// Reads one document: the quick way.
    ///
    /// # Errors
    /// As [`Gateway::read`].
    pub async fn fetch(self: &Arc<Self>, when: &When, place: &Place) -> Result<Fetched, Status> {
        let resolved = self.resolve(when).await?;
        let places = std::slice::from_ref(place);
        if let Some(transaction) = &resolved.transaction {
            self.transactions.lock(transaction, places).await?;
        }
        let (stored, read_time) = match resolved.at {
            None => self.newest(place).await?,
            Some(at) => {
                let (view, _) = self.look().await?;
                let shown = (!is_as_of(&*view, at).await?).then_some(at);
                let found = view.get(places, shown).await.map_err(status::of_store)?;
                (found.into_iter().next().flatten(), at)
            }
        };
        if let Some(transaction) = &resolved.transaction {
            let updated = stored.as_ref().map(|stored| stored.updated);
            transaction.note(places, std::iter::once(updated));
        }
        Ok(Fetched {
            stored,
            read_time,
            begun: resolved.begun,
        })
    }

    /// A document as it is now, and a time as of which it is so.
    async fn newest(&self, place: &Place) -> Result<(Option<Stored>, Micros), Status> {
        let places = std::slice::from_ref(place);
        let (before, commits) = self.clock.mark();
        let found = self.backend.get(places).await.map_err(status::of_store)?;
        if let Some(stored) = found.into_iter().next().flatten() {
            // A later version than the time taken is as of its own time.
            let at = before.max(stored.updated);
            self.clock.saw(at);
            return Ok((Some(stored), at));
        }
        // Where there is no document, only a view can say since when, unless nothing was committed meanwhile.
        if self.clock.mark().1 == commits {
            return Ok((None, before));
        }
        let (view, at) = self.look().await?;
        let found = view.get(places, None).await.map_err(status::of_store)?;
        Ok((found.into_iter().next().flatten(), at))
    }
}

/// Whether a view of the present shows the store as of a time: nothing was committed since, and others wrote nothing
/// that was not taken in yet, which is later than any time.
async fn is_as_of(view: &dyn View, at: Micros) -> Result<bool, Status> {
    if view.at() > at {
        return Ok(false);
    }
    let since = view.changed(at, None, None, 1).await;
    Ok(since.map_err(status::of_store)?.is_empty())
}

impl Read {
    /// The documents at these places, locked for the read-write transaction that reads them, if any. May renew the
    /// view.
    ///
    /// # Errors
    /// ABORTED: another transaction holds one of them, or the transaction is over; or the store fails.
    pub async fn get(&mut self, places: &[Place]) -> Result<Vec<Option<Stored>>, Status> {
        if let Some(transaction) = &self.transaction {
            self.gateway.transactions.lock(transaction, places).await?;
            self.renew().await?;
        }
        let found = self
            .view
            .get(places, self.at)
            .await
            .map_err(status::of_store)?;
        if let Some(transaction) = &self.transaction {
            transaction.note(
                places,
                found
                    .iter()
                    .map(|one| one.as_ref().map(|stored| stored.updated)),
            );
        }
        Ok(found)
    }

    /// Notes that the transaction rests on this query's whole result, also on what is not in it. To be
    /// called before the query is run. Does nothing outside of read-write transactions.
    pub fn rests_on(&mut self, query: &Arc<Query>) {
        if let Some(transaction) = &self.transaction {
            self.gateway.committer.remember();
            transaction.rests_on(query, self.read_time);
        }
    }

    /// Locks documents that a query found, with their update times, before they are sent. Does nothing outside of
    /// read-write transactions.
    ///
    /// # Errors
    /// ABORTED: another transaction holds one of them, or the transaction is over; or the store fails.
    pub async fn hold(&mut self, found: &[(Place, Micros)]) -> Result<Held, Status> {
        let Some(transaction) = &self.transaction else {
            return Ok(Held::AsRead);
        };
        let places: Vec<Place> = found.iter().map(|(place, _)| place.clone()).collect();
        self.gateway.transactions.lock(transaction, &places).await?;
        let read_time = self.read_time;
        self.renew().await?;
        if self.read_time != read_time {
            let now = self.view.get(&places, None).await;
            let now = now.map_err(status::of_store)?;
            let same = now.len() == found.len()
                && now.iter().zip(found).all(|(now, (_, updated))| {
                    now.as_ref().is_some_and(|now| now.updated == *updated)
                });
            if !same {
                return Ok(Held::Changed);
            }
        }
        if let Some(transaction) = &self.transaction {
            transaction.note(&places, found.iter().map(|(_, updated)| Some(*updated)));
        }
        Ok(Held::AsRead)
    }

    /// Looks again if anything was committed since the view was opened: while documents were waited for.
    async fn renew(&mut self) -> Result<(), Status> {
        if self.view.at() < self.gateway.clock.applied() {
            let (view, at) = self.gateway.look().await?;
            self.view = view;
            self.read_time = at;
        }
        Ok(())
    }
}
