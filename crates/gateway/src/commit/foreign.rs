//! What others wrote in SQL: indexes and listeners follow. And what is done from time to time.

use super::group::Aside;
use crate::Gateway;
use crate::clock::Clock;
use crate::reads::HISTORY;
use crate::status;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tonic::Status;
use whimbrel_firestore::Place;
use whimbrel_firestore::backend::{Change, Foreign, Found, There};

/// Changes taken in by one commit.
const CHANGES: u32 = 1000;

/// How often transactions are looked at that may be over, and how often what is old enough is forgotten.
const EXPIRE: Duration = Duration::from_secs(1);
const FORGET: Duration = Duration::from_secs(60);

/// Lets who asks while somebody else looks share what the next look finds.
#[derive(Debug, Default)]
pub(super) struct CatchingUp {
    turn: tokio::sync::Mutex<()>,
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Gateway {
    /// Takes in what others wrote in SQL since the last time: indexes and listeners follow. To be called before
    /// an index is walked. Quick where nothing happened.
    ///
    /// # Errors
    /// The store fails.
    pub async fn catch_up(self: &Arc<Self>) -> Result<(), Status> {
        let state = &self.committer.catching_up;
        let asked = state.begun.load(Ordering::SeqCst);
        let _turn = state.turn.lock().await;
        // A look that began after this call has seen all that this one would.
        if state.ended.load(Ordering::SeqCst) > asked {
            return Ok(());
        }
        let look = state.begun.fetch_add(1, Ordering::SeqCst) + 1;
        while self.take_in().await? {}
        state.ended.store(look, Ordering::SeqCst);
        Ok(())
    }

    /// Takes in some changes; whether there are more.
    async fn take_in(self: &Arc<Self>) -> Result<bool, Status> {
        let foreign = self.backend.foreign(CHANGES).await;
        let Foreign {
            changes,
            mark,
            more,
        } = foreign.map_err(status::of_store)?;
        let Some(mark) = mark else {
            return Ok(more);
        };
        if let Some(newest) = changes.iter().map(|change| change.at).max() {
            self.clock.saw(newest);
        }
        let touch: HashSet<&Place> = changes.iter().map(|change| &change.place).collect();
        let touch: Vec<Place> = touch.into_iter().cloned().collect();
        let gateway = Arc::downgrade(self);
        let decide = move |found: &Found| match gateway.upgrade() {
            Some(gateway) => gateway.follow(&changes, found, mark),
            None => Aside::default(),
        };
        self.commit_alone(touch, Box::new(decide)).await?;
        Ok(more)
    }

    /// What follows from changes of others, given the documents as they are now.
    fn follow(&self, changes: &[Change], found: &Found, mark: u64) -> Aside {
        let mut aside = Aside {
            settled: Some(mark),
            ..Aside::default()
        };
        let mut seen = HashSet::new();
        for change in changes {
            // What is no document has no lines, and listeners do not see it.
            let now = found.get(&change.place).and_then(There::document);
            // Between two changes of others, a commit of ours may have written lines.
            let (unindex, _) = self
                .indexes
                .lines(&change.place, change.before.as_ref(), now);
            aside.unindex.extend(unindex);
            if seen.insert(&change.place) {
                aside
                    .index
                    .extend(self.indexes.lines(&change.place, None, now).1);
                aside.changes.push(Change {
                    after: now.cloned(),
                    ..change.clone()
                });
            }
        }
        aside
    }
}

/// Ends transactions that are over, from time to time.
pub(super) async fn expire(gateway: Weak<Gateway>) {
    loop {
        tokio::time::sleep(EXPIRE).await;
        let Some(gateway) = gateway.upgrade() else {
            return;
        };
        gateway.transactions.expire();
    }
}

/// Forgets what documents were before the last hour, from time to time.
pub(super) async fn forget(gateway: Weak<Gateway>) {
    loop {
        tokio::time::sleep(FORGET).await;
        let Some(gateway) = gateway.upgrade() else {
            return;
        };
        // What others wrote is kept until it was taken in, also where nobody asks for it.
        if let Err(error) = gateway.catch_up().await {
            tracing::warn!(
                error = error.message(),
                "what others wrote could not be taken in"
            );
        }
        // Reads that began within the hour are given the time to end.
        let horizon = Clock::now() - HISTORY - 300 * 1_000_000;
        if let Err(error) = gateway.backend.forget(horizon).await {
            tracing::warn!(%error, "what documents were more than an hour ago is still kept");
        }
    }
}
