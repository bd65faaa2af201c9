//! Queries: understood, planned over indexes, run page by page.
//!
//! ```text
//! parse ─► Query ─► plan (which indexes, which parts of them) ─► walk ─► merge ─► run / aggregate / nearest
//!                        │ index: made where missing, kept by commits
//! ```
//!
//! Whatever a walk finds is judged by the whole query again ([`Query::matches`]): a plan decides what a query costs,
//! never what it says.

mod aggregate;
mod explain;
pub mod filter;
pub mod index;
pub mod key;
mod merge;
mod nearest;
mod parse;
mod partition;
pub mod plan;
mod position;
mod resolve;
mod run;
mod scope;
mod walk;

pub use aggregate::run_aggregation;
pub use merge::{Execution, open};
pub use partition::partition;
pub use run::run_query;
pub use scope::Scope;
pub(crate) use walk::{Paging, size};

use filter::{Field, Filter, compare_name, compare_places, path_of};
use std::cmp::Ordering;
use whimbrel_firestore::backend::Stored;
use whimbrel_firestore::core::field_path::{self, FieldPath};
use whimbrel_firestore::core::order;
use whimbrel_firestore::v1::Value;
use whimbrel_firestore::{DatabaseName, Fields, Place};

/// A query that was checked and made complete (implicit orders, `__name__` last).
#[derive(Clone, Debug)]
pub struct Query {
    database: DatabaseName,
    scope: Scope,
    filter: Option<Filter>,
    /// Complete: the last one is `__name__`.
    orders: Vec<Order>,
    /// How many of the orders the client named.
    named_orders: usize,
    start: Option<Cursor>,
    end: Option<Cursor>,
    offset: u32,
    limit: Option<u32>,
    projection: Option<Vec<FieldPath>>,
    /// Fields that a document must have although no order names them.
    required: Vec<FieldPath>,
    nearest: Option<nearest::Nearest>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    pub field: Field,
    pub descending: bool,
}

/// A position in the result: values of the first orders (for `__name__`, a reference that holds the place's path
/// in the store).
#[derive(Clone, Debug, PartialEq)]
pub struct Cursor {
    pub values: Vec<Value>,
    pub before: bool,
}

impl Query {
    #[must_use]
    pub fn database(&self) -> &DatabaseName {
        &self.database
    }

    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    #[must_use]
    pub fn limit(&self) -> Option<u32> {
        self.limit
    }

    #[must_use]
    pub fn offset(&self) -> u32 {
        self.offset
    }

    #[must_use]
    pub fn orders(&self) -> &[Order] {
        &self.orders
    }

    /// Whether the result shows only some fields of its documents.
    #[must_use]
    pub fn is_projected(&self) -> bool {
        self.projection.is_some()
    }

    /// Whether documents of this collection may be in the result at all.
    #[must_use]
    pub fn covers(&self, collection: &str) -> bool {
        self.scope.covers(&self.database, collection)
    }

    /// Whether the document passes scope, filters, orders (it has their fields) and cursors: everything but
    /// offset, limit and nearness.
    #[must_use]
    pub fn matches(&self, place: &Place, stored: &Stored) -> bool {
        self.covers(&place.collection)
            && self.scope.holds(place)
            && self.accepts(place, &stored.fields)
    }

    /// [`Query::matches`] for a document that the scope is known to hold.
    fn accepts(&self, place: &Place, fields: &Fields) -> bool {
        self.filter.as_ref().is_none_or(|f| f.holds(place, fields))
            && self.orders.iter().all(|order| match &order.field {
                Field::Path(path) => field_path::get(fields, path).is_some(),
                Field::Name => true,
            })
            && self
                .required
                .iter()
                .all(|path| field_path::get(fields, path).is_some())
            && self.start.as_ref().is_none_or(|start| {
                match self.compare_to_cursor(place, fields, start) {
                    Ordering::Greater => true,
                    Ordering::Equal => start.before,
                    Ordering::Less => false,
                }
            })
            && self.end.as_ref().is_none_or(|end| {
                match self.compare_to_cursor(place, fields, end) {
                    Ordering::Less => true,
                    Ordering::Equal => !end.before,
                    Ordering::Greater => false,
                }
            })
    }

    fn compare_to_cursor(&self, place: &Place, fields: &Fields, cursor: &Cursor) -> Ordering {
        self.orders
            .iter()
            .zip(&cursor.values)
            .map(|(order, value)| {
                let ordering = match &order.field {
                    Field::Path(path) => compare_some(field_path::get(fields, path), Some(value)),
                    Field::Name => compare_name(place, path_of(value)),
                };
                order.turn(ordering)
            })
            .find(|ordering| ordering.is_ne())
            .unwrap_or(Ordering::Equal)
    }

    /// The order of the result.
    #[must_use]
    pub fn compare(&self, a: (&Place, &Stored), b: (&Place, &Stored)) -> Ordering {
        self.orders
            .iter()
            .map(|order| {
                let ordering = match &order.field {
                    Field::Path(path) => compare_some(
                        field_path::get(&a.1.fields, path),
                        field_path::get(&b.1.fields, path),
                    ),
                    Field::Name => compare_places(a.0, b.0),
                };
                order.turn(ordering)
            })
            .find(|ordering| ordering.is_ne())
            .unwrap_or(Ordering::Equal)
    }

    /// The fields of a document that the result shows.
    #[must_use]
    pub fn project(&self, fields: &Fields) -> Fields {
        match &self.projection {
            None => fields.clone(),
            Some(paths) => field_path::project(fields, paths),
        }
    }

    /// Leaves out documents without these fields, and orders by them after the query's own orders (unless it orders by
    /// `__name__` itself): so offset and limit of an aggregation of fields are taken.
    fn require(&mut self, mut fields: Vec<FieldPath>) {
        fields.sort();
        fields.dedup();
        let by_name = self.orders[..self.named_orders]
            .iter()
            .any(|order| order.field == Field::Name);
        if !by_name {
            let descending = self.orders.last().is_some_and(|order| order.descending);
            let before_name = self.orders.len() - 1;
            let missing: Vec<Order> = fields
                .iter()
                .map(|path| Field::Path(path.clone()))
                .filter(|field| self.orders.iter().all(|order| order.field != *field))
                .map(|field| Order { field, descending })
                .collect();
            self.orders.splice(before_name..before_name, missing);
        }
        self.required = fields;
    }
}

impl Order {
    fn turn(&self, ordering: Ordering) -> Ordering {
        if self.descending {
            ordering.reverse()
        } else {
            ordering
        }
    }
}

/// What is missing comes first; it is never in a result.
fn compare_some(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => order::compare(a, b),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}
