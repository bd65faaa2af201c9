//! What was committed lately, for transactions that rest on queries: their results must still be what they were.
//! Kept only while there may be such transactions, and bounded.

use crate::clock::Clock;
use crate::feed::size_of_change;
use crate::status::contention;
use crate::transaction::Basis;
use std::collections::VecDeque;
use tonic::Status;
use whimbrel_firestore::Micros;
use whimbrel_firestore::backend::{Change, Found, There};

/// How long changes are kept after a transaction last asked for it: longer than any lives.
const KEPT: Micros = 300 * 1_000_000;

/// How much memory the changes may take.
const BYTES: usize = 32 << 20;

#[derive(Debug, Default)]
pub struct Recent {
    /// Commits are noted until then.
    until: Micros,
    /// Every commit after this time is noted.
    complete: Micros,
    commits: VecDeque<Noted>,
    bytes: usize,
}

#[derive(Debug)]
struct Noted {
    at: Micros,
    changes: Vec<Change>,
    bytes: usize,
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
                    let bytes = changes.iter().map(size_of_change).sum();
                    self.bytes += bytes;
                    self.commits.push_back(Noted {
                        at,
                        changes: changes.clone(),
                        bytes,
                    });
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
        self.bytes = 0;
    }

    fn trim(&mut self, now: Micros) {
        if now > self.until {
            self.until = 0;
            self.miss(now);
            return;
        }
        while let Some(oldest) = self.commits.front() {
            if self.bytes <= BYTES && oldest.at > now - KEPT {
                break;
            }
            self.complete = self.complete.max(oldest.at);
            self.bytes -= oldest.bytes;
            self.commits.pop_front();
        }
    }

    /// Whether what a transaction rests on still holds. `pending` was decided in the same group, before it.
    ///
    /// # Errors
    /// ABORTED.
    pub fn holds(&self, basis: &Basis, found: &Found, pending: &[Change]) -> Result<(), Status> {
        for (place, updated) in &basis.read {
            let as_read = match found.get(place) {
                None => updated.is_none(),
                Some(There::Document(stored)) => *updated == Some(stored.updated),
                Some(There::Unreadable(_)) => false,
            };
            if !as_read {
                return Err(contention());
            }
        }
        for (query, since) in &basis.queries {
            if *since < self.complete {
                return Err(contention());
            }
            let later = self.commits.iter().rev();
            let later = later.take_while(|commit| commit.at > *since);
            let mut changes = later.flat_map(|commit| &commit.changes).chain(pending);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use whimbrel_firestore::backend::Stored;
    use whimbrel_firestore::v1::value::ValueType;
    use whimbrel_firestore::{Fields, Place, v1};

    #[test]
    fn however_large_documents_are_what_is_kept_is_bounded() {
        let value = v1::Value {
            value_type: Some(ValueType::StringValue("x".repeat(1 << 20))),
        };
        let now = Clock::now();
        let change = |at| Change {
            place: Place::of_path("a/1").unwrap(),
            at,
            before: None,
            after: Some(Stored {
                fields: Arc::new(Fields::from([("t".to_owned(), value.clone())])),
                created: at,
                updated: at,
            }),
        };
        let mut recent = Recent::default();
        recent.keep();
        for at in now..now + 100 {
            recent.put(at, Some(&vec![change(at)]));
            assert!(recent.bytes <= BYTES);
        }
        let kept = recent.commits.len();
        assert!((16..32).contains(&kept), "{kept}");
        // What is not kept is known to be missing.
        assert_eq!(recent.complete, now + 99 - kept as Micros);
        assert_eq!(recent.commits.front().unwrap().at, recent.complete + 1);
    }
}
