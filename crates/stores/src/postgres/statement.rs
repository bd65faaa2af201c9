//! Statements of the user's own, in one transaction, on a connection that nobody uses after them.

use super::PgStore;
use super::error;
use super::script::{Piece, pieces};
use deadpool_postgres::Object;
use futures::TryStreamExt;
use std::pin::pin;
use tokio_postgres::{Client, Error, SimpleQueryMessage};
use whimbrel_model::store::StatementOutcome;
use whimbrel_model::{Code, Store, StoreError, StoreErrorKind};

/// The server's own settings, as any client has them; and the strings that the text was cut by.
const SESSION: &str = "RESET ALL; SET standard_conforming_strings = on";

/// Lasts as long as the transaction: should it have ended in spite of all, that shows.
const MARK: &str = "SELECT set_config('whimbrel.statement', 'open', true)";
const MARKED: &str = "SELECT coalesce(current_setting('whimbrel.statement', true), '') = 'open'";

/// See [`whimbrel_model::Store::statement`].
pub(super) async fn run(store: &PgStore, text: &str) -> Result<StatementOutcome, StoreError> {
    let pieces = pieces(text);
    for piece in &pieces {
        refuse(store, piece)?;
    }
    let failed = |error| store.plain_failure("preparing for the statements", error);
    // Closed when it goes out of sight, and with it whatever was not committed.
    let client = Object::take(store.connections.get().await?);
    for batch in [SESSION, "BEGIN", MARK] {
        client.batch_execute(batch).await.map_err(failed)?;
    }
    let mut outcome = StatementOutcome::default();
    for piece in &pieces {
        let (rows, count) = counted(&client, piece.text)
            .await
            .map_err(|e| error::statement_error(store.name(), piece, e))?;
        outcome.rows = rows;
        if piece.changes() {
            outcome.changed += count;
        }
    }
    let open = client.query_one(MARKED, &[]).await;
    let open: bool = open.and_then(|row| row.try_get(0)).map_err(failed)?;
    if !open {
        return Err(StoreError::new(
            StoreErrorKind::Unknown,
            Code::StoreUnknown,
            store.name(),
            "a statement ended the transaction that it ran in: what came before it may have been kept",
        ));
    }
    let committed = client.batch_execute("COMMIT").await;
    committed.map_err(|e| error::commit_error(store.name(), "committing the statements", e))?;
    Ok(outcome)
}

fn refuse(store: &PgStore, piece: &Piece<'_>) -> Result<(), StoreError> {
    let why = if piece.is_transaction() {
        "begins or ends a transaction, and all statements run in one already; leave BEGIN, COMMIT and \
         ROLLBACK out"
    } else if piece.is_copy() {
        "is a COPY, whose data cannot be sent from here"
    } else {
        return Ok(());
    };
    let line = piece.line;
    let message = format!("nothing was done: the statement in line {line} {why}");
    Err(store.terminal(Code::StoreFailed, message))
}

/// Rows given back, and the number that the server says of the statement. No row is kept.
async fn counted(client: &Client, text: &str) -> Result<(u64, u64), Error> {
    let (mut rows, mut count) = (0, 0);
    let mut answer = pin!(client.simple_query_raw(text).await?);
    while let Some(message) = answer.try_next().await? {
        match message {
            SimpleQueryMessage::Row(_) => rows += 1,
            SimpleQueryMessage::CommandComplete(n) => count = n,
            _ => {}
        }
    }
    Ok((rows, count))
}
