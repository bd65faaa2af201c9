//! `PartitionQuery`: the names that cut a collection group into parts of about the same size.

use super::filter::Field;
use super::merge::open;
use super::{Query, Scope};
use crate::reads::When;
use crate::status::invalid;
use crate::{Gateway, names};
use std::sync::Arc;
use tonic::Status;
use whimbrel_firestore::Place;
use whimbrel_firestore::v1::partition_query_request::{ConsistencySelector, QueryType};
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_firestore::v1::{Cursor, PartitionQueryRequest, PartitionQueryResponse, Value};

/// Smaller parts are not worth a query of their own.
const SMALLEST: usize = 128;

/// Split points of one request.
const MOST: usize = 10_000;

/// Answers a request. The points are names of documents, in order.
///
/// # Errors
/// INVALID_ARGUMENT for what the request says; or of the store.
pub async fn partition(
    gateway: &Arc<Gateway>,
    request: PartitionQueryRequest,
) -> Result<PartitionQueryResponse, Status> {
    let Some(QueryType::StructuredQuery(structured)) = &request.query_type else {
        return Err(invalid("only structured queries are supported"));
    };
    let (database, path) = names::parent(&request.parent)?;
    if !path.is_empty() {
        return Err(invalid(
            "Document resource names are not supported; only database resource names can be specified.",
        ));
    }
    let query = Query::parse(&database, &request.parent, structured)?;
    check(&query)?;
    let Some(wanted) = usize::try_from(request.partition_count)
        .ok()
        .filter(|count| *count > 0)
    else {
        return Err(invalid("partition_count must be greater than zero."));
    };
    let page = usize::try_from(request.page_size).map_err(|_| invalid("page_size is negative"))?;
    let when = match request.consistency_selector {
        None => When::Now,
        Some(ConsistencySelector::ReadTime(at)) => When::at(&at)?,
    };
    let query = Arc::new(query);
    let (read, execution) = open(gateway, &when, &query).await?;
    let mut sample = Sample::new(wanted.min(MOST));
    execution
        .each_place(&read, |place| sample.take(place))
        .await?;
    drop(read);
    let mut points: Vec<String> = sample
        .points(wanted.min(MOST))
        .iter()
        .map(|place| names::name(&database, place))
        .collect();
    if !request.page_token.is_empty() {
        // Documents may come and go between pages: what counts is where the last page ended.
        match points.iter().position(|name| *name == request.page_token) {
            Some(at) => drop(points.drain(..=at)),
            None => {
                let last = names::document_in(&database, &request.page_token)
                    .map_err(|_| invalid("The page token is not valid."))?;
                points.retain(|name| {
                    names::document_in(&database, name)
                        .is_ok_and(|place| super::filter::compare_places(&place, &last).is_gt())
                });
            }
        }
    }
    let mut next_page_token = String::new();
    if page > 0 && points.len() > page {
        points.truncate(page);
        next_page_token = points.last().cloned().unwrap_or_default();
    }
    Ok(PartitionQueryResponse {
        partitions: points.into_iter().map(cursor).collect(),
        next_page_token,
    })
}

/// Only all of a collection group, by name, can be partitioned.
fn check(query: &Query) -> Result<(), Status> {
    let problem = if !matches!(query.scope, Scope::Group { .. }) {
        "Query must specify collection with all descendants."
    } else if query.filter.is_some() {
        "Filters are not supported in queries that are partitioned."
    } else if query.orders.len() != 1
        || query.orders[0].field != Field::Name
        || query.orders[0].descending
    {
        "Query must be ordered by __name__ ascending."
    } else if query.limit.is_some() || query.offset != 0 {
        "Limits and offsets are not supported in queries that are partitioned."
    } else if query.start.is_some() || query.end.is_some() {
        "Cursors are not supported in queries that are partitioned."
    } else if query.nearest.is_some() {
        "FindNearest is not supported in queries that are partitioned."
    } else {
        return Ok(());
    };
    Err(invalid(problem))
}

fn cursor(name: String) -> Cursor {
    Cursor {
        values: vec![Value {
            value_type: Some(ValueType::ReferenceValue(name)),
        }],
        before: true,
    }
}

/// Every n-th of a list of unknown length, such that a bounded number is kept: when there are too many, every
/// second one goes and n doubles.
struct Sample {
    most: usize,
    stride: usize,
    seen: usize,
    /// The places number 0, `stride`, 2 · `stride`, ….
    kept: Vec<Place>,
}

impl Sample {
    fn new(points: usize) -> Self {
        Self {
            // Enough that the parts differ by an eighth at most.
            most: (points + 1) * 16,
            stride: 1,
            seen: 0,
            kept: Vec::new(),
        }
    }

    fn take(&mut self, place: Place) {
        if self.seen.is_multiple_of(self.stride) {
            if self.kept.len() == self.most {
                let mut index = 0;
                self.kept.retain(|_| {
                    index += 1;
                    index % 2 == 1
                });
                self.stride *= 2;
            }
            if self.seen.is_multiple_of(self.stride) {
                self.kept.push(place);
            }
        }
        self.seen += 1;
    }

    /// At most so many places that cut the list into parts, none much smaller than worth it.
    fn points(&self, wanted: usize) -> Vec<&Place> {
        let parts = (self.seen / SMALLEST).min(wanted + 1);
        (1..parts)
            .map(|part| self.seen * part / parts / self.stride)
            .filter_map(|at| self.kept.get(at))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(i: usize) -> Place {
        Place {
            collection: "c".into(),
            key: format!("{i:08}").into(),
        }
    }

    #[test]
    fn parts_are_of_about_the_same_size() {
        for (documents, wanted) in [
            (0, 3),
            (127, 3),
            (255, 3),
            (256, 3),
            (383, 2),
            (100_000, 7),
            (65_536, 1),
        ] {
            let mut sample = Sample::new(wanted);
            (0..documents).for_each(|i| sample.take(place(i)));
            let points = sample.points(wanted);
            assert!(points.len() <= wanted);
            assert_eq!(
                points.len(),
                (documents / SMALLEST).min(wanted + 1).saturating_sub(1),
                "{documents} {wanted}"
            );
            let mut cuts: Vec<usize> = points.iter().map(|p| p.key.parse().unwrap()).collect();
            cuts.insert(0, 0);
            cuts.push(documents);
            let fair = documents / (points.len() + 1);
            for pair in cuts.windows(2) {
                let size = pair[1] - pair[0];
                assert!(
                    size * 4 >= fair * 3 && size * 4 <= fair * 5 + 4,
                    "{documents} {wanted}: {cuts:?}"
                );
            }
        }
    }
}
