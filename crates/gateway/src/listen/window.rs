//! What is kept of a limited query's result, so that the client has exactly the documents within the limit.
//!
//! A change from outside may push the last result out; a result that goes away makes room for a document that is
//! not known here: then the query is run again. Only what orders the results is kept of them.

use crate::query::Query;
use crate::query::filter::Field;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use whimbrel_firestore::backend::Stored;
use whimbrel_firestore::{Fields, Micros, Place};

#[derive(Debug, Default)]
pub struct Window {
    /// The first documents of the order, with nothing between them: at most as many as the limit. Nothing where
    /// there is an offset.
    kept: Vec<(Place, Stored)>,
    /// Where they are.
    places: HashSet<Place>,
    /// Whether there is nothing behind them.
    whole: bool,
    /// The results that the client has, with their update times.
    sent: HashMap<Place, Micros>,
    /// Whether `kept` is no longer what was sent.
    touched: bool,
    /// Whether the query has to be run again.
    stale: bool,
}

/// What differs from what the client has.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    pub came: Vec<Place>,
    pub left: Vec<Place>,
}

impl Window {
    /// Whether a query's result depends on more than each document by itself.
    #[must_use]
    pub fn is_needed(query: &Query) -> bool {
        query.limit().is_some() || query.offset() > 0
    }

    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// A document changed: `was` says whether it may have matched before, `after` is what it is now, if it matches
    /// (offset and limit aside).
    pub fn apply(&mut self, query: &Query, place: &Place, was: bool, after: Option<&Stored>) {
        if self.stale {
            return;
        }
        if query.offset() > 0 {
            // What comes or goes before the results shifts them, by documents that are not kept.
            self.stale = was || after.is_some();
            return;
        }
        if self.places.remove(place) {
            self.kept.retain(|(kept, _)| kept != place);
            self.touched = true;
        }
        if let Some(after) = after {
            self.insert(query, place, after);
        }
        self.stale = !self.whole && self.kept.len() < capacity(query);
    }

    fn insert(&mut self, query: &Query, place: &Place, after: &Stored) {
        let at = self.kept.partition_point(|(kept, stored)| {
            query.compare((kept, stored), (place, after)) == Ordering::Less
        });
        if at == self.kept.len() && !self.whole {
            // Behind what is known.
            return;
        }
        self.kept.insert(at, (place.clone(), ordered(query, after)));
        self.places.insert(place.clone());
        self.touched = true;
        if self.kept.len() > capacity(query)
            && let Some((last, _)) = self.kept.pop()
        {
            self.places.remove(&last);
            self.whole = false;
        }
    }

    /// What the client has to be told, after which it has it.
    pub fn difference(&mut self) -> Difference {
        if !std::mem::take(&mut self.touched) {
            return Difference::default();
        }
        let now = self.kept.iter();
        let now = now.map(|(place, stored)| (place.clone(), stored.updated));
        self.replace(now.collect())
    }

    fn replace(&mut self, now: HashMap<Place, Micros>) -> Difference {
        let before = std::mem::replace(&mut self.sent, now);
        let came = self.sent.iter();
        let came = came.filter(|(place, updated)| before.get(*place) != Some(updated));
        let came = came.map(|(place, _)| place.clone()).collect();
        let left = before.into_keys();
        let left = left
            .filter(|place| !self.sent.contains_key(place))
            .collect();
        Difference { came, left }
    }

    /// Whether the client has the document as it was at this time.
    #[must_use]
    pub fn has(&self, place: &Place, updated: Micros) -> bool {
        self.sent.get(place) == Some(&updated)
    }

    /// Takes a whole result; says which documents are not in it any more.
    pub fn refilled(&mut self, query: &Query, refill: Refill) -> Vec<Place> {
        self.whole = query
            .limit()
            .is_none_or(|_| refill.kept.len() < capacity(query));
        self.kept = refill.kept;
        self.places = self.kept.iter().map(|(place, _)| place.clone()).collect();
        self.touched = false;
        self.stale = false;
        self.replace(refill.sent).left
    }

    /// Takes it that the client has this result.
    pub fn assume(&mut self, refill: Refill) {
        self.sent = refill.sent;
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.sent.len()
    }
}

/// A result on its way into a window.
#[derive(Debug, Default)]
pub struct Refill {
    kept: Vec<(Place, Stored)>,
    sent: HashMap<Place, Micros>,
}

impl Refill {
    /// The next result in order.
    pub fn push(&mut self, query: &Query, place: &Place, stored: &Stored) {
        self.sent.insert(place.clone(), stored.updated);
        if query.offset() == 0 {
            self.kept.push((place.clone(), ordered(query, stored)));
        }
    }
}

fn capacity(query: &Query) -> usize {
    query.limit().map_or(usize::MAX, |limit| limit as usize)
}

/// The document with only the fields that order it.
fn ordered(query: &Query, stored: &Stored) -> Stored {
    let mut fields = Fields::new();
    for order in query.orders() {
        if let Field::Path(path) = &order.field
            && let Some(name) = path.segments().first()
            && let Some(value) = stored.fields.get(name)
        {
            fields.insert(name.clone(), value.clone());
        }
    }
    Stored {
        fields: Arc::new(fields),
        ..*stored
    }
}
