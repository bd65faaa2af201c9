//! `RunAggregationQuery`: count, sum and average of a query's result.

use super::filter::Field;
use super::merge::{Execution, open};
use super::parse;
use super::run::ATTEMPTS;
use super::{Query, explain};
use crate::reads::{Held, Read, When};
use crate::status::{contention, invalid};
use crate::transaction::Begun;
use crate::{Gateway, names};
use futures::stream::{self, BoxStream, StreamExt};
use std::sync::Arc;
use std::time::Instant;
use tonic::Status;
use whimbrel_firestore::core::field_path::{self, FieldPath};
use whimbrel_firestore::v1::run_aggregation_query_request::{ConsistencySelector, QueryType};
use whimbrel_firestore::v1::structured_aggregation_query::aggregation::Operator;
use whimbrel_firestore::v1::structured_aggregation_query::{
    Aggregation, QueryType as AggregationQueryType,
};
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_firestore::v1::{
    AggregationResult, RunAggregationQueryRequest, RunAggregationQueryResponse, Value,
};
use whimbrel_firestore::{Fields, time};

/// Aggregations of one request.
const MOST: usize = 5;

#[derive(Clone, Debug)]
enum Kind {
    Count { up_to: Option<u64> },
    Sum(FieldPath),
    Average(FieldPath),
}

/// One aggregation's alias, what it is, and what it came to so far.
#[derive(Clone, Debug)]
struct Running {
    alias: String,
    kind: Kind,
    total: Total,
}

/// The sum of numbers: exact as long as all are integers.
#[derive(Clone, Copy, Debug, Default)]
struct Total {
    count: u64,
    integers: i128,
    doubles: f64,
    has_doubles: bool,
}

/// Answers a request.
///
/// # Errors
/// INVALID_ARGUMENT for what the request says; or of the transaction, or of the store.
pub async fn run_aggregation(
    gateway: &Arc<Gateway>,
    request: RunAggregationQueryRequest,
) -> Result<BoxStream<'static, Result<RunAggregationQueryResponse, Status>>, Status> {
    let Some(QueryType::StructuredAggregationQuery(asked)) = request.query_type else {
        return Err(invalid("only structured queries are supported"));
    };
    let (database, _) = names::parent(&request.parent)?;
    let AggregationQueryType::StructuredQuery(structured) = asked
        .query_type
        .unwrap_or_else(|| AggregationQueryType::StructuredQuery(Default::default()));
    if structured.find_nearest.is_some() {
        return Err(invalid(
            "FindNearest is not supported in aggregation queries.",
        ));
    }
    let mut query = Query::parse(&database, &request.parent, &structured)?;
    let running = aggregations(&asked.aggregations)?;
    let fields: Vec<FieldPath> = running
        .iter()
        .filter_map(|one| match &one.kind {
            Kind::Sum(path) | Kind::Average(path) => Some(path.clone()),
            Kind::Count { .. } => None,
        })
        .collect();
    if structured.select.is_some() && !fields.is_empty() {
        return Err(invalid(
            "Cannot apply property masks when aggregation fields are present.",
        ));
    }
    query.require(fields);
    let query = Arc::new(query);
    let when = match request.consistency_selector {
        None => When::Now,
        Some(ConsistencySelector::Transaction(transaction)) => When::In(transaction),
        Some(ConsistencySelector::NewTransaction(options)) => When::New(options),
        Some(ConsistencySelector::ReadTime(at)) => When::at(&at)?,
    };
    let analyze = request.explain_options.map(|options| options.analyze);
    if analyze == Some(false) {
        let plan = explain::planned(&query, &gateway.indexes.known())?;
        let only = RunAggregationQueryResponse {
            explain_metrics: Some(explain::metrics(plan, None)),
            ..RunAggregationQueryResponse::default()
        };
        return Ok(stream::iter([Ok(only)]).boxed());
    }
    let started = Instant::now();
    let mut begun = None;
    let (read, execution, running) = compute(gateway, when, &query, running, &mut begun).await?;
    let mut last = RunAggregationQueryResponse {
        result: Some(AggregationResult {
            aggregate_fields: running.iter().map(Running::result).collect(),
        }),
        read_time: Some(time::to_proto(read.read_time)),
        ..RunAggregationQueryResponse::default()
    };
    if analyze == Some(true) {
        let plan = execution.plan_summary()?;
        let operations = execution.stats.lines.div_ceil(1_000);
        let stats = explain::execution_stats(execution.stats, 1, operations, started);
        last.explain_metrics = Some(explain::metrics(plan, Some(stats)));
    }
    let first = begun.map(|transaction| RunAggregationQueryResponse {
        transaction: transaction.tell(),
        ..RunAggregationQueryResponse::default()
    });
    let responses = first.into_iter().chain([last]);
    Ok(stream::iter(responses.map(Ok)).boxed())
}

/// Goes through the result, or counts the index's lines where that is enough.
async fn compute(
    gateway: &Arc<Gateway>,
    mut when: When,
    query: &Arc<Query>,
    fresh: Vec<Running>,
    begun: &mut Option<Begun>,
) -> Result<(Read, Execution, Vec<Running>), Status> {
    'anew: for _ in 0..ATTEMPTS {
        let mut running = fresh.clone();
        let (mut read, mut execution) = open(gateway, &when, query).await?;
        if let Some(transaction) = read.begun.take() {
            when = When::In(transaction.id());
            *begun = Some(transaction);
        }
        let is_locked = matches!(when, When::In(_) | When::New(_));
        if let Some(most) = counts_only(&running).filter(|_| !is_locked && execution.is_countable())
        {
            let most = most
                .min(query.limit.map_or(u64::MAX, u64::from))
                .saturating_add(u64::from(query.offset));
            let lines = execution.count(&read, most).await?;
            let count = lines.saturating_sub(u64::from(query.offset));
            running.iter_mut().for_each(|one| one.total.count = count);
            return Ok((read, execution, running));
        }
        loop {
            let documents = execution.next(&read).await?;
            if documents.is_empty() {
                return Ok((read, execution, running));
            }
            let found: Vec<_> = documents
                .iter()
                .map(|(place, stored)| (place.clone(), stored.updated))
                .collect();
            if read.hold(&found).await? == Held::Changed {
                continue 'anew;
            }
            for (_, stored) in &documents {
                running.iter_mut().for_each(|one| one.take(&stored.fields));
            }
        }
    }
    Err(contention())
}

/// How far the longest count goes, where nothing but counts is asked for.
fn counts_only(running: &[Running]) -> Option<u64> {
    running
        .iter()
        .map(|one| match one.kind {
            Kind::Count { up_to } => Some(up_to.unwrap_or(u64::MAX)),
            Kind::Sum(_) | Kind::Average(_) => None,
        })
        .collect::<Option<Vec<_>>>()?
        .into_iter()
        .max()
}

/// What is asked for, checked; those without an alias are called `field_1`, `field_2`, ….
fn aggregations(asked: &[Aggregation]) -> Result<Vec<Running>, Status> {
    if asked.is_empty() {
        return Err(invalid("Aggregations can not be empty."));
    }
    if asked.len() > MOST {
        return Err(invalid(format!(
            "The maximum number of aggregations allowed in an aggregation query is {MOST}. Received: {}",
            asked.len()
        )));
    }
    let mut running: Vec<Running> = Vec::with_capacity(asked.len());
    let mut unnamed = 0;
    for aggregation in asked {
        let kind = match &aggregation.operator {
            None => return Err(invalid("Operator field in Aggregation is not set.")),
            Some(Operator::Count(count)) => Kind::Count {
                up_to: match count.up_to.map(u64::try_from) {
                    None => None,
                    Some(Ok(up_to)) if up_to > 0 => Some(up_to),
                    Some(_) => {
                        return Err(invalid(
                            "The `up_to` value in a COUNT aggregation must be greater than zero.",
                        ));
                    }
                },
            },
            Some(Operator::Sum(sum)) => Kind::Sum(number_field(parse::field(sum.field.as_ref())?)?),
            Some(Operator::Avg(avg)) => {
                Kind::Average(number_field(parse::field(avg.field.as_ref())?)?)
            }
        };
        let alias = &aggregation.alias;
        if alias.len() >= 4 && alias.starts_with("__") && alias.ends_with("__") {
            return Err(invalid(format!(
                "The property.name \"{alias}\" is reserved."
            )));
        }
        let alias = if alias.is_empty() {
            unnamed += 1;
            format!("field_{unnamed}")
        } else {
            alias.clone()
        };
        if running.iter().any(|other| other.alias == alias) {
            return Err(invalid(format!(
                "Aggregation aliases contain duplicate alias: {alias}."
            )));
        }
        running.push(Running {
            alias,
            kind,
            total: Total::default(),
        });
    }
    Ok(running)
}

fn number_field(field: Field) -> Result<FieldPath, Status> {
    match field {
        Field::Path(path) => Ok(path),
        Field::Name => Err(invalid(
            "Aggregations are not supported for the property: __key__",
        )),
    }
}

impl Running {
    fn take(&mut self, fields: &Fields) {
        match &self.kind {
            Kind::Count { .. } => self.total.count += 1,
            Kind::Sum(path) | Kind::Average(path) => {
                match field_path::get(fields, path).map(|value| &value.value_type) {
                    Some(Some(ValueType::IntegerValue(integer))) => {
                        self.total.count += 1;
                        self.total.integers += i128::from(*integer);
                    }
                    Some(Some(ValueType::DoubleValue(double))) => {
                        self.total.count += 1;
                        self.total.has_doubles = true;
                        self.total.doubles += double;
                    }
                    _ => {}
                }
            }
        }
    }

    fn result(&self) -> (String, Value) {
        let total = self.total;
        let value = match &self.kind {
            Kind::Count { up_to } => {
                let count = up_to.map_or(total.count, |up_to| total.count.min(up_to));
                ValueType::IntegerValue(i64::try_from(count).unwrap_or(i64::MAX))
            }
            Kind::Sum(_) => match i64::try_from(total.integers) {
                Ok(sum) if !total.has_doubles => ValueType::IntegerValue(sum),
                _ => ValueType::DoubleValue(total.sum()),
            },
            Kind::Average(_) if total.count == 0 => ValueType::NullValue(0),
            Kind::Average(_) => ValueType::DoubleValue(total.average()),
        };
        (
            self.alias.clone(),
            Value {
                value_type: Some(value),
            },
        )
    }
}

impl Total {
    #[allow(clippy::cast_precision_loss)] // What does not fit an integer is given as the nearest double.
    fn sum(self) -> f64 {
        self.integers as f64 + self.doubles
    }

    #[allow(clippy::cast_precision_loss)] // As above; nobody has 2^53 documents.
    fn average(self) -> f64 {
        self.sum() / self.count as f64
    }
}
