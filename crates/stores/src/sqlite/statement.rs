//! Statements of the user's own, in one transaction.

use super::error::{commit_error, refusal, store_error, terminal};
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{Batch, Connection, Error, ErrorCode, Statement};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use whimbrel_model::store::StatementOutcome;
use whimbrel_model::{Code, StoreError};

/// Steps of SQLite's machine between two looks at whether the caller still waits.
const STEPS: i32 = 10_000;

/// Tells the work that its caller went away: what is not committed then is rolled back.
#[derive(Default)]
pub(super) struct Waiting(Arc<AtomicBool>);

impl Waiting {
    pub(super) fn given_up(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// See [`whimbrel_model::Store::statement`].
pub(super) fn run(
    connection: &mut Connection,
    store: &str,
    text: &str,
    given_up: &Arc<AtomicBool>,
) -> Result<StatementOutcome, StoreError> {
    let failed = |e| store_error(store, "run the statements", e);
    connection
        .execute_batch("BEGIN IMMEDIATE")
        .map_err(failed)?;
    let result = guarded(connection, store, text, given_up);
    if result.is_ok() && !given_up.load(Ordering::SeqCst) {
        if let Err(error) = connection.execute_batch("COMMIT") {
            let error = commit_error(store, error);
            roll_back(connection, store)?;
            return Err(error);
        }
        return result;
    }
    roll_back(connection, store)?;
    result
}

fn roll_back(connection: &Connection, store: &str) -> Result<(), StoreError> {
    if connection.is_autocommit() {
        return Ok(());
    }
    let done = connection.execute_batch("ROLLBACK");
    done.map_err(|e| store_error(store, "roll back", e))
}

/// Runs them all with the doors watched.
fn guarded(
    connection: &mut Connection,
    store: &str,
    text: &str,
    given_up: &Arc<AtomicBool>,
) -> Result<StatementOutcome, StoreError> {
    let failed = |e| store_error(store, "run the statements", e);
    let ends = Arc::new(AtomicBool::new(false));
    let (seen, waits) = (ends.clone(), given_up.clone());
    let watch = move |context: AuthContext<'_>| match context.action {
        AuthAction::Transaction { .. } => {
            seen.store(true, Ordering::SeqCst);
            Authorization::Deny
        }
        _ => Authorization::Allow,
    };
    connection.authorizer(Some(watch)).map_err(failed)?;
    let interrupt = move || waits.load(Ordering::SeqCst);
    connection
        .progress_handler(STEPS, Some(interrupt))
        .map_err(failed)?;
    let result = run_all(connection, text);
    connection
        .progress_handler(0, None::<fn() -> bool>)
        .map_err(failed)?;
    connection
        .authorizer(None::<fn(AuthContext<'_>) -> Authorization>)
        .map_err(failed)?;
    result.map_err(|(n, error)| {
        if ends.load(Ordering::SeqCst) {
            let message = format!(
                "statement {n} begins or ends a transaction; nothing was changed: all statements run in one \
                 transaction already, so leave BEGIN, COMMIT and ROLLBACK out"
            );
            return terminal(store, Code::StoreFailed, message);
        }
        explain(store, n, error)
    })
}

fn run_all(connection: &Connection, text: &str) -> Result<StatementOutcome, (usize, Error)> {
    let mut outcome = StatementOutcome::default();
    let mut batch = Batch::new(connection, text);
    let mut n = 1;
    while let Some(mut statement) = batch.next().map_err(|e| (n, e))? {
        let before = connection.total_changes();
        outcome.rows = rows(&mut statement).map_err(|e| (n, e))?;
        // What triggers did beside is not counted, and a statement that changes no rows leaves the number
        // of the one before.
        if connection.total_changes() != before {
            outcome.changed += connection.changes();
        }
        n += 1;
    }
    Ok(outcome)
}

fn rows(statement: &mut Statement<'_>) -> rusqlite::Result<u64> {
    let mut rows = statement.query([])?;
    let mut count = 0;
    while rows.next()?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// The statements are not quoted, and neither is what they met: both may hold values.
fn explain(store: &str, n: usize, error: Error) -> StoreError {
    let failed = |why: &str| {
        let message = format!("statement {n} failed, and nothing was changed: {why}");
        terminal(store, Code::StoreFailed, message)
    };
    match &error {
        Error::SqlInputError { msg, .. } => {
            let quotes = msg.starts_with("near ") || msg.contains("token:");
            failed(if quotes {
                "a syntax error"
            } else {
                msg.as_str()
            })
        }
        Error::InvalidParameterCount(..) => {
            failed("it has parameters, and there is nothing to bind")
        }
        Error::SqliteFailure(failure, message) => match failure.code {
            ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig => {
                failed(&refusal(&error).unwrap_or_else(|| "a constraint fails".to_owned()))
            }
            ErrorCode::Unknown => match message {
                // "cannot VACUUM from within a transaction"
                Some(own) if own.starts_with("cannot ") => failed(own),
                _ => failed(&format!("SQLite's error {}", failure.extended_code)),
            },
            _ => store_error(store, &format!("run statement {n}"), error),
        },
        _ => failed("it is none that can be run here"),
    }
}
