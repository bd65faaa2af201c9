//! `RunQuery`: the result as a stream of responses.

use super::merge::{Execution, open};
use super::nearest::Best;
use super::{Query, explain};
use crate::documents::to_proto;
use crate::reads::{Held, Read, When};
use crate::status::{contention, invalid};
use crate::transaction::Begun;
use crate::{Gateway, names};
use futures::stream::{self, BoxStream, StreamExt};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use tonic::Status;
use whimbrel_firestore::backend::Stored;
use whimbrel_firestore::v1::run_query_request::{ConsistencySelector, QueryType};
use whimbrel_firestore::v1::run_query_response::ContinuationSelector;
use whimbrel_firestore::v1::{ExplainMetrics, RunQueryRequest, RunQueryResponse};
use whimbrel_firestore::{Place, time};

/// How often a query in a transaction begins anew because others changed what it found, before it could be locked.
pub(super) const ATTEMPTS: usize = 16;

/// Answers a request. What is wrong with it, or goes wrong before the first document, is the call's own error.
///
/// # Errors
/// INVALID_ARGUMENT for what the request says; or of the transaction, or of the store.
pub async fn run_query(
    gateway: &Arc<Gateway>,
    request: RunQueryRequest,
) -> Result<BoxStream<'static, Result<RunQueryResponse, Status>>, Status> {
    let Some(QueryType::StructuredQuery(structured)) = &request.query_type else {
        return Err(invalid("only structured queries are supported"));
    };
    let (database, _) = names::parent(&request.parent)?;
    let query = Arc::new(Query::parse(&database, &request.parent, structured)?);
    let when = match request.consistency_selector {
        None => When::Now,
        Some(ConsistencySelector::Transaction(transaction)) => When::In(transaction),
        Some(ConsistencySelector::NewTransaction(options)) => When::New(options),
        Some(ConsistencySelector::ReadTime(at)) => When::at(&at)?,
    };
    let analyze = request.explain_options.map(|options| options.analyze);
    if analyze == Some(false) {
        let plan = explain::planned(&query, &gateway.indexes.known())?;
        return Ok(once(RunQueryResponse {
            explain_metrics: Some(explain::metrics(plan, None)),
            ..RunQueryResponse::default()
        }));
    }
    let started = Instant::now();
    let (mut read, execution) = open(gateway, &when, &query).await?;
    let begun = read.begun.take();
    let when = match &begun {
        Some(transaction) => When::In(transaction.id()),
        None => when,
    };
    let mut running = Running {
        out: VecDeque::new(),
        begun,
        gateway: gateway.clone(),
        query,
        when,
        read,
        execution,
        last: None,
        skipped_told: 0,
        results: 0,
        is_over: false,
        analyze: analyze.is_some(),
        started,
    };
    while running.out.is_empty() && !running.is_over {
        running.step().await?;
    }
    let responses = stream::try_unfold(running, |mut running| async move {
        loop {
            if let Some(response) = running.out.pop_front() {
                return Ok(Some((response, running)));
            }
            if running.is_over {
                return Ok(None);
            }
            running.step().await?;
        }
    });
    Ok(responses.boxed())
}

fn once(response: RunQueryResponse) -> BoxStream<'static, Result<RunQueryResponse, Status>> {
    stream::iter([Ok(response)]).boxed()
}

/// A query being answered.
struct Running {
    gateway: Arc<Gateway>,
    query: Arc<Query>,
    when: When,
    read: Read,
    execution: Execution,
    /// Responses that are ready.
    out: VecDeque<RunQueryResponse>,
    /// The transaction that the first response has to say.
    begun: Option<Begun>,
    /// Kept back, because the last response of all says that it is.
    last: Option<RunQueryResponse>,
    skipped_told: u32,
    results: u64,
    is_over: bool,
    analyze: bool,
    started: Instant,
}

impl Running {
    /// Makes the next responses, or the end.
    async fn step(&mut self) -> Result<(), Status> {
        let documents = self.hold().await?;
        if let Some(transaction) = self.begun.take() {
            self.out.push_back(RunQueryResponse {
                transaction: transaction.tell(),
                ..RunQueryResponse::default()
            });
        }
        if documents.is_empty() {
            return self.finish();
        }
        self.results += documents.len() as u64;
        for (place, stored) in documents {
            let fields = self.query.project(&stored.fields);
            let next = RunQueryResponse {
                document: Some(to_proto(&self.query.database, &place, &stored, fields)),
                ..self.response()
            };
            self.out.extend(self.last.replace(next));
        }
        if self.query.nearest.is_some() {
            return self.finish();
        }
        Ok(())
    }

    fn response(&mut self) -> RunQueryResponse {
        let skipped = self.execution.skipped - self.skipped_told;
        self.skipped_told = self.execution.skipped;
        RunQueryResponse {
            read_time: Some(time::to_proto(self.read.read_time)),
            skipped_results: i32::try_from(skipped).unwrap_or(i32::MAX),
            ..RunQueryResponse::default()
        }
    }

    fn finish(&mut self) -> Result<(), Status> {
        let mut last = match self.last.take() {
            Some(last) => last,
            None => self.response(),
        };
        last.continuation_selector = Some(ContinuationSelector::Done(true));
        last.explain_metrics = self.metrics()?;
        self.out.push_back(last);
        self.is_over = true;
        Ok(())
    }

    fn metrics(&self) -> Result<Option<ExplainMetrics>, Status> {
        if !self.analyze {
            return Ok(None);
        }
        let plan = self.execution.plan_summary()?;
        let reads = self.results + u64::from(self.execution.skipped);
        let stats =
            explain::execution_stats(self.execution.stats, self.results, reads, self.started);
        Ok(Some(explain::metrics(plan, Some(stats))))
    }

    /// The next documents, locked for the transaction that reads them, if any.
    async fn hold(&mut self) -> Result<Vec<(Place, Stored)>, Status> {
        for _ in 0..ATTEMPTS {
            let documents = self.documents().await?;
            let found: Vec<_> = documents
                .iter()
                .map(|(place, stored)| (place.clone(), stored.updated))
                .collect();
            if found.is_empty() || self.read.hold(&found).await? == Held::AsRead {
                return Ok(documents);
            }
            if self.results > 0 {
                return Err(contention());
            }
            let (read, execution) = open(&self.gateway, &self.when, &self.query).await?;
            self.read = read;
            self.execution = execution;
        }
        Err(contention())
    }

    async fn documents(&mut self) -> Result<Vec<(Place, Stored)>, Status> {
        let Some(nearest) = self.query.nearest.clone() else {
            return self.execution.next(&self.read).await;
        };
        let mut best = Best::new(nearest);
        loop {
            let documents = self.execution.next(&self.read).await?;
            if documents.is_empty() {
                return Ok(best.into_documents());
            }
            for (place, stored) in documents {
                best.offer(place, stored);
            }
        }
    }
}
