//! Queries that walk names in order, and what becomes of their answers.

use super::calls::{Calls, with};
use super::names::Collection;
use prost::Message as _;
use std::time::Duration;
use tonic::{Code, Status};
use whimbrel_firestore::DatabaseName;
use whimbrel_firestore::v1::structured_aggregation_query::{Aggregation, aggregation};
use whimbrel_firestore::v1::structured_query::{
    CollectionSelector, Direction, FieldReference, Order, Projection,
};
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_firestore::v1::{
    Cursor, Document, PartitionQueryRequest, RunAggregationQueryRequest,
    RunAggregationQueryResponse, RunQueryRequest, StructuredAggregationQuery, StructuredQuery,
    Value, partition_query_request, run_aggregation_query_request, run_query_request,
    structured_aggregation_query,
};
use whimbrel_model::StoreError;

/// What orders documents by their names.
const NAME: &str = "__name__";
/// What the only aggregation is called.
const COUNT: &str = "n";
/// What is not done where counting fails.
pub(super) const COUNTS: &str = "counting documents";
/// How long one count may take: less than a call.
const COUNTING: Duration = Duration::from_secs(45);

/// A walk along the names of a collection, or of all there are.
#[derive(Clone, Debug)]
pub(super) struct Walk<'a> {
    /// `None` for every document of the database.
    pub collection: Option<&'a Collection>,
    /// Paths below the root.
    pub after: Option<String>,
    pub through: Option<String>,
    /// Without their fields.
    pub names_only: bool,
    pub descending: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn of(collection: &'a Collection) -> Self {
        Self {
            collection: Some(collection),
            after: None,
            through: None,
            names_only: false,
            descending: false,
        }
    }

    fn query(&self, database: &DatabaseName) -> StructuredQuery {
        let reference = |path: &str| Value {
            value_type: Some(ValueType::ReferenceValue(database.document(path))),
        };
        // `before` says on which side of the document with that name the cursor stands.
        let cursor = |path: &str, before: bool| Cursor {
            values: vec![reference(path)],
            before,
        };
        // Only queries over more than the own collection have to be kept to its names.
        let ends = self
            .collection
            .filter(|c| c.is_nested())
            .map(Collection::ends);
        let first = match (&self.after, &ends) {
            (Some(path), _) => Some(cursor(path, false)),
            (None, Some((from, _))) => Some(cursor(from, true)),
            (None, None) => None,
        };
        let last = match (&self.through, &ends) {
            (Some(path), _) => Some(cursor(path, false)),
            (None, Some((_, to))) => Some(cursor(to, true)),
            (None, None) => None,
        };
        let turned = |cursor: Option<Cursor>| {
            cursor.map(|cursor| Cursor {
                before: !cursor.before,
                ..cursor
            })
        };
        let (direction, start_at, end_at) = if self.descending {
            (Direction::Descending, turned(last), turned(first))
        } else {
            (Direction::Ascending, first, last)
        };
        let name = || FieldReference {
            field_path: NAME.to_owned(),
        };
        StructuredQuery {
            select: self.names_only.then(|| Projection {
                fields: vec![name()],
            }),
            from: vec![CollectionSelector {
                collection_id: self.collection.map_or("", Collection::id).to_owned(),
                all_descendants: self.collection.is_none_or(Collection::is_nested),
            }],
            order_by: vec![Order {
                field: Some(name()),
                direction: direction.into(),
            }],
            start_at,
            end_at,
            ..StructuredQuery::default()
        }
    }
}

/// Documents of one answer.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub documents: Vec<Document>,
    /// Whether the walk has no more.
    pub ended: bool,
}

impl Calls {
    /// The next documents of a walk: at most `limit`, and about `bytes` bytes, but at least one if there is one.
    pub(super) async fn rows(
        &self,
        walk: &Walk<'_>,
        limit: usize,
        bytes: usize,
    ) -> Result<Rows, StoreError> {
        self.read("reading documents", self.row_call(walk, limit, bytes))
            .await
    }

    /// The same, where the server may refuse the query.
    pub(super) async fn try_rows(
        &self,
        walk: &Walk<'_>,
        limit: usize,
    ) -> Result<Result<Rows, Status>, StoreError> {
        self.try_read(self.row_call(walk, limit, usize::MAX)).await
    }

    fn row_call(
        &self,
        walk: &Walk<'_>,
        limit: usize,
        bytes: usize,
    ) -> impl Fn(
        super::calls::Client,
        tonic::metadata::MetadataMap,
    ) -> futures::future::BoxFuture<'static, Result<Rows, Status>>
    + Send
    + Sync
    + 'static {
        let database = self.upstream.database();
        let limit = i32::try_from(limit.max(1)).unwrap_or(i32::MAX);
        let request = RunQueryRequest {
            parent: database.documents(),
            query_type: Some(run_query_request::QueryType::StructuredQuery(
                StructuredQuery {
                    limit: Some(limit),
                    ..walk.query(database)
                },
            )),
            consistency_selector: self
                .read_time
                .map(run_query_request::ConsistencySelector::ReadTime),
            ..RunQueryRequest::default()
        };
        move |mut client, metadata| {
            let request = with(metadata, request.clone());
            Box::pin(async move {
                let mut stream = client.run_query(request).await?.into_inner();
                let mut rows = Rows::default();
                let mut size = 0;
                while let Some(answer) = stream.message().await? {
                    let Some(document) = answer.document else {
                        continue;
                    };
                    size += document.encoded_len();
                    rows.documents.push(document);
                    if size >= bytes {
                        // What is still on its way is not wanted: dropping the stream says so.
                        return Ok(rows);
                    }
                }
                rows.ended =
                    i64::try_from(rows.documents.len()).unwrap_or(i64::MAX) < i64::from(limit);
                Ok(rows)
            })
        }
    }

    /// How many documents a walk has; `None` where the server does not count them within [`COUNTING`].
    pub(super) async fn counted(&self, walk: &Walk<'_>) -> Result<Option<u64>, StoreError> {
        let database = self.upstream.database();
        let count = Aggregation {
            alias: COUNT.to_owned(),
            operator: Some(aggregation::Operator::Count(aggregation::Count::default())),
        };
        let query = StructuredAggregationQuery {
            aggregations: vec![count],
            query_type: Some(structured_aggregation_query::QueryType::StructuredQuery(
                walk.query(database),
            )),
        };
        let request = RunAggregationQueryRequest {
            parent: database.documents(),
            query_type: Some(
                run_aggregation_query_request::QueryType::StructuredAggregationQuery(query),
            ),
            consistency_selector: self
                .read_time
                .map(run_aggregation_query_request::ConsistencySelector::ReadTime),
            ..RunAggregationQueryRequest::default()
        };
        self.read(COUNTS, |mut client, metadata| {
            let request = with(metadata, request.clone());
            async move {
                let counting = async {
                    let mut stream = client.run_aggregation_query(request).await?.into_inner();
                    let mut count = 0;
                    while let Some(answer) = stream.message().await? {
                        count = count_of(&answer).unwrap_or(count);
                    }
                    Ok::<_, Status>(count)
                };
                match tokio::time::timeout(COUNTING, counting).await {
                    Ok(Ok(count)) => Ok(Some(count)),
                    // Asking for the same again would take as long again.
                    Err(_) => Ok(None),
                    Ok(Err(status)) if status.code() == Code::DeadlineExceeded => Ok(None),
                    Ok(Err(status)) => Err(status),
                }
            }
        })
        .await
    }

    /// Names between which there are about as many documents of a collection's id, in no order; `None` where
    /// the server cannot tell.
    pub(super) async fn split_points(
        &self,
        collection: &Collection,
        points: u32,
    ) -> Result<Option<Vec<String>>, StoreError> {
        let database = self.upstream.database();
        // Of the collection's own ends nothing may be said: the request takes no cursors.
        let query = StructuredQuery {
            from: vec![CollectionSelector {
                collection_id: collection.id().to_owned(),
                all_descendants: true,
            }],
            start_at: None,
            end_at: None,
            ..Walk::of(collection).query(database)
        };
        let mut request = PartitionQueryRequest {
            parent: database.documents(),
            partition_count: i64::from(points),
            query_type: Some(partition_query_request::QueryType::StructuredQuery(query)),
            consistency_selector: self
                .read_time
                .map(partition_query_request::ConsistencySelector::ReadTime),
            ..PartitionQueryRequest::default()
        };
        let mut names = Vec::new();
        loop {
            let call = |mut client: super::calls::Client, metadata| {
                let request = with(metadata, request.clone());
                async move { Ok(client.partition_query(request).await?.into_inner()) }
            };
            let answer = match self.try_read(call).await? {
                Ok(answer) => answer,
                Err(status) if status.code() == Code::Unimplemented => return Ok(None),
                Err(status) => {
                    let doing = "cutting the collection into parts";
                    return Err(self.read_error(doing, &status));
                }
            };
            let values = answer
                .partitions
                .into_iter()
                .flat_map(|cursor| cursor.values);
            names.extend(values.filter_map(|value| match value.value_type {
                Some(ValueType::ReferenceValue(name)) => Some(name),
                _ => None,
            }));
            if answer.next_page_token.is_empty() {
                return Ok(Some(names));
            }
            request.page_token = answer.next_page_token;
        }
    }
}

fn count_of(answer: &RunAggregationQueryResponse) -> Option<u64> {
    let value = answer.result.as_ref()?.aggregate_fields.get(COUNT)?;
    match value.value_type {
        Some(ValueType::IntegerValue(n)) => u64::try_from(n).ok(),
        _ => None,
    }
}
