//! What was committed lately, for transactions that rest on queries: their results must still be what they were.
//! Kept only while there may be such transactions, and bounded.

use crate::clock::Clock;
use crate::status::contention;
use crate::transaction::Basis;
use std::collections::VecDeque;
use tonic::Status;
use whimbrel_firestore::Micros;
use whimbrel_firestore::backend::{Change, Found};

/// How long changes are kept after a transaction last asked for it: longer than any lives.
const KEPT: Micros = 300 * 1_000_000;

/// How many changes are kept.
const CHANGES: usize = 50_000;

#[derive(Debug, Default)]
pub struct Recent {
    /// Commits are noted until then.
    until: Micros,
    /// Every commit after this time is noted.
    complete: Micros,
    commits: VecDeque<(Micros, Vec<Change>)>,
    changes: usize,
}

impl Recent {
    /// A transaction rests on a query: what is committed from now on is noted.
    pub fn keep(&mut self) {
        self.until = Clock::now() + KEPT;
    }

    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.until > 0
    }

    /// Notes a commit, or that there was one that is not known.
    pub fn put(&mut self, at: Micros, changes: Option<&Vec<Change>>) {
        match changes {
            Some(changes) if self.is_kept() => {
                if !changes.is_empty() {
                    self.changes += changes.len();
                    self.commits.push_back((at, changes.clone()));
                }
                self.trim(at);
            }
            _ => self.miss(at),
        }
    }

    /// Whatever was committed until then is not known.
    pub fn miss(&mut self, at: Micros) {
        self.complete = self.complete.max(at);
        self.commits.clear();
        self.changes = 0;
    }

    fn trim(&mut self, now: Micros) {
        if now > self.until {
            self.until = 0;
            self.miss(now);
            return;
        }
        while let Some((at, changes)) = self.commits.front() {
            if self.changes <= CHANGES && *at > now - KEPT {
                break;
            }
            self.complete = self.complete.max(*at);
            self.changes -= changes.len();
            self.commits.pop_front();
        }
    }

    /// Whether what a transaction rests on still holds. `pending` was decided in the same group, before it.
    ///
    /// # Errors
    /// ABORTED.
    pub fn holds(&self, basis: &Basis, found: &Found, pending: &[Change]) -> Result<(), Status> {
        for (place, updated) in &basis.read {
            if found.get(place).map(|stored| stored.updated) != *updated {
                return Err(contention());
            }
        }
        for (query, since) in &basis.queries {
            if *since < self.complete {
                return Err(contention());
            }
            let later = self.commits.iter().rev();
            let later = later.take_while(|(at, _)| at > since);
            let mut changes = later.flat_map(|(_, changes)| changes).chain(pending);
            if changes.any(|change| {
                query.covers(&change.place.collection)
                    && [&change.before, &change.after]
                        .into_iter()
                        .flatten()
                        .any(|stored| query.matches(&change.place, stored))
            }) {
                return Err(contention());
            }
        }
        Ok(())
    }
}
