//! Queries: understood, planned over indexes, run page by page.

pub mod index;

use std::cmp::Ordering;
use tonic::Status;
use whimbrel_firestore::backend::Stored;
use whimbrel_firestore::v1::StructuredQuery;
use whimbrel_firestore::{DatabaseName, Place};

/// A query that was checked and made complete (implicit orders, `__name__` last).
#[derive(Clone, Debug)]
pub struct Query {}

impl Query {
    /// # Errors
    /// INVALID_ARGUMENT, in Firestore's words where they are known.
    pub fn parse(
        database: &DatabaseName,
        parent: &str,
        query: &StructuredQuery,
    ) -> Result<Self, Status> {
        let _ = (database, parent, query);
        Err(Status::unimplemented("queries"))
    }

    /// Whether documents of this collection may be in the result at all.
    #[must_use]
    pub fn covers(&self, collection: &str) -> bool {
        let _ = collection;
        false
    }

    /// Whether the document passes scope, filters, orders (it has their fields) and cursors: everything but
    /// offset and limit.
    #[must_use]
    pub fn matches(&self, place: &Place, stored: &Stored) -> bool {
        let _ = (place, stored);
        false
    }

    /// The order of the result.
    #[must_use]
    pub fn compare(&self, a: (&Place, &Stored), b: (&Place, &Stored)) -> Ordering {
        let _ = b.1;
        a.0.cmp(b.0)
    }
}
