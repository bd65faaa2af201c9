//! Several statements in one round trip.

use deadpool_postgres::ClientWrapper;
use futures::future::maybe_done;
use futures::{TryStreamExt, poll};
use std::borrow::Cow;
use std::pin::pin;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row, Statement};

/// One statement with its parameters.
pub(super) struct Call<'a> {
    sql: Cow<'a, str>,
    params: Vec<Box<dyn ToSql + Sync + Send + 'a>>,
}

impl<'a> Call<'a> {
    pub fn new(sql: impl Into<Cow<'a, str>>) -> Self {
        Self {
            sql: sql.into(),
            params: Vec::new(),
        }
    }

    /// The next parameter.
    pub fn with(mut self, param: impl ToSql + Sync + Send + 'a) -> Self {
        self.params.push(Box::new(param));
        self
    }
}

pub(super) enum Step<'a> {
    /// Statements without parameters or answers (`BEGIN`).
    Plain(&'a str),
    Call(Call<'a>),
}

impl<'a> From<Call<'a>> for Step<'a> {
    fn from(call: Call<'a>) -> Self {
        Self::Call(call)
    }
}

#[derive(Debug, Default)]
pub(super) struct Answer {
    pub rows: Vec<Row>,
    /// Rows that the statement wrote or gave.
    pub count: u64,
}

/// Sends all steps at once and gathers their answers. Statements are prepared beforehand, where they are not yet.
///
/// # Errors
/// That of the first step that failed; in a transaction, those behind it did nothing.
pub(super) async fn pipe(
    client: &ClientWrapper,
    steps: Vec<Step<'_>>,
) -> Result<Vec<Answer>, Error> {
    let mut prepared = Vec::with_capacity(steps.len());
    for step in &steps {
        prepared.push(match step {
            Step::Plain(_) => None,
            Step::Call(call) => Some(client.prepare_cached(&call.sql).await?),
        });
    }
    let running = steps.iter().zip(&prepared);
    let mut running: Vec<_> = running
        .map(|(step, statement)| Box::pin(maybe_done(run(client, step, statement.as_ref()))))
        .collect();
    // The first poll of each puts it on the wire, so they arrive in this order.
    for one in &mut running {
        let _ = poll!(one.as_mut());
    }
    let mut answers = Vec::with_capacity(running.len());
    for mut one in running {
        one.as_mut().await;
        answers.push(
            one.as_mut()
                .take_output()
                .unwrap_or(Ok(Answer::default()))?,
        );
    }
    Ok(answers)
}

/// One statement.
///
/// # Errors
/// The server refuses it, or is gone.
pub(super) async fn call(client: &ClientWrapper, call: Call<'_>) -> Result<Answer, Error> {
    let statement = client.prepare_cached(&call.sql).await?;
    run(client, &Step::Call(call), Some(&statement)).await
}

async fn run(
    client: &ClientWrapper,
    step: &Step<'_>,
    statement: Option<&Statement>,
) -> Result<Answer, Error> {
    let (call, statement) = match (step, statement) {
        (Step::Call(call), Some(statement)) => (call, statement),
        (Step::Call(call), None) => {
            let rows = client.query(&*call.sql, &[]).await?;
            let count = rows.len() as u64;
            return Ok(Answer { rows, count });
        }
        (Step::Plain(text), _) => {
            client.batch_execute(text).await?;
            return Ok(Answer::default());
        }
    };
    let params: Vec<&(dyn ToSql + Sync)> = call
        .params
        .iter()
        .map(|param| &**param as &(dyn ToSql + Sync))
        .collect();
    let mut stream = pin!(client.query_raw(statement, params).await?);
    let mut rows = Vec::new();
    while let Some(row) = stream.try_next().await? {
        rows.push(row);
    }
    let count = stream.rows_affected().unwrap_or(0);
    Ok(Answer { rows, count })
}
