//! What PostgreSQL's errors mean for a store, told without a document's value or a secret.

use super::script::Piece;
use deadpool_postgres::PoolError;
use std::error::Error as _;
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};
use whimbrel_model::{Code, Refusal, StoreError, StoreErrorKind};

/// Classes of SQLSTATE whose primary message names only identifiers and settings. The others may quote
/// a document's value (`invalid input syntax for type integer: "…"`), as DETAIL always may.
const SAFE_CLASSES: [&str; 10] = ["08", "0A", "25", "28", "3D", "40", "53", "55", "57", "58"];

/// `doing` says what was not done: `reading collection users`.
pub(crate) fn store_error(store: &str, doing: &str, error: Error) -> StoreError {
    let (kind, code) = classify(&error);
    match error.as_db_error() {
        Some(db) => {
            let message = format!("{doing}: {}", describe(db, names_things(db)));
            StoreError::new(kind, code, store, message)
        }
        None => {
            let cause = error.source().map(ToString::to_string);
            let message = match cause {
                Some(cause) => format!("{doing}: {error}: {cause}"),
                None => format!("{doing}: {error}"),
            };
            StoreError::new(kind, code, store, message).with_source(error)
        }
    }
}

/// The same for a statement of the user's own. Neither its text is quoted nor what it met.
pub(super) fn statement_error(store: &str, piece: &Piece<'_>, error: Error) -> StoreError {
    let doing = format!(
        "nothing was changed: the statement in line {} failed",
        piece.line
    );
    let Some(db) = error.as_db_error() else {
        return store_error(store, &doing, error);
    };
    let (kind, code) = classify(&error);
    let why = match db.code().code() {
        state @ COLUMN_SYNTAX => format!("a syntax error (SQLSTATE {state})"),
        state @ "P0001" => format!("it raised an exception (SQLSTATE {state})"),
        _ => describe(db, names_things(db) || piece.is_definition()),
    };
    StoreError::new(kind, code, store, format!("{doing}: {why}"))
}

/// The same for an error that answered COMMIT: unless the server itself says that the transaction
/// failed, it may have happened.
pub(crate) fn commit_error(store: &str, doing: &str, error: Error) -> StoreError {
    let known = error.code().is_some_and(|state| {
        !matches!(state.code().get(..2), Some("08" | "57" | "58" | "XX")) // the session died under it
    });
    let mut fault = store_error(store, doing, error);
    if !known {
        fault.kind = StoreErrorKind::Unknown;
        fault.code = Code::StoreUnknown;
    }
    fault
}

pub(crate) fn pool_error(store: &str, error: PoolError) -> StoreError {
    match error {
        PoolError::Backend(error) => store_error(store, "connecting", error),
        PoolError::PostCreateHook(deadpool_postgres::HookError::Backend(error)) => {
            store_error(store, "setting up the connection", error)
        }
        other => StoreError::new(
            StoreErrorKind::Transient,
            Code::StoreUnavailable,
            store,
            format!("connecting: {other}"),
        ),
    }
}

fn classify(error: &Error) -> (StoreErrorKind, Code) {
    use StoreErrorKind::{Terminal, Transient};
    let Some(state) = error.code() else {
        return if is_tls_refusal(error) {
            (Terminal, Code::StoreDenied)
        } else if error.is_closed() || has_io_source(error) || connecting(error) {
            (Transient, Code::StoreUnavailable)
        } else {
            (Terminal, Code::StoreFailed)
        };
    };
    let state = state.code();
    match (state.get(..2).unwrap_or(""), state) {
        (_, "53100") => (Terminal, Code::StoreFull),
        (_, "42501" | "25006") | ("28", _) => (Terminal, Code::StoreDenied),
        (_, "42P01" | "3D000" | "3F000") => (Terminal, Code::StoreMissing),
        (_, "42703" | "42P10" | "428C9" | "42804") => (Terminal, Code::StoreShape),
        // The plan or the prepared statement went stale; the caller forgets them.
        (_, "0A000" | "26000") if is_stale(error) => (Transient, Code::StoreUnavailable),
        (_, "55P03" | "55006" | "57014" | "57P01" | "57P02" | "57P03" | "57P05" | "25P03")
        | ("08" | "40" | "53", _) => (Transient, Code::StoreUnavailable),
        _ => (Terminal, Code::StoreFailed),
    }
}

fn connecting(error: &Error) -> bool {
    // The driver tells "could not connect" and "timed out" apart only in words.
    let text = error.to_string();
    text.starts_with("error connecting") || text.contains("timeout")
}

fn has_io_source(error: &Error) -> bool {
    error
        .source()
        .is_some_and(|source| source.is::<std::io::Error>())
}

fn is_tls_refusal(error: &Error) -> bool {
    let tls = error
        .source()
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .and_then(std::io::Error::get_ref)
        .is_some_and(|inner| inner.is::<rustls::Error>());
    tls || error.to_string().contains("TLS handshake")
}

/// Whether what is remembered of the table (its columns, prepared statements) no longer holds.
pub(crate) fn is_stale(error: &Error) -> bool {
    match error.as_db_error() {
        Some(db) => match db.code().code() {
            "42P01" | "42703" | "26000" => true,
            "0A000" => db.message().contains("cached plan"),
            _ => false,
        },
        None => false,
    }
}

/// The statements themselves are sound, so this is a column's own language (`tsvector`, `tsquery`), and the
/// message quotes the text.
const COLUMN_SYNTAX: &str = "42601";

/// Whether one document of a batch is to blame, so that the others may still be written.
pub(crate) fn is_about_data(error: &Error) -> bool {
    error.code().is_some_and(|state| {
        let state = state.code();
        let class = state.get(..2);
        matches!(class, Some("21" | "22" | "23" | "44" | "54" | "P0")) || state == COLUMN_SYNTAX
    })
}

/// Whether another order of writes could satisfy the constraint.
pub(crate) fn depends_on_others(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(&SqlState::FOREIGN_KEY_VIOLATION | &SqlState::UNIQUE_VIOLATION)
    )
}

/// The statements behind the one that failed all answer "transaction is aborted"; that one says why.
pub(crate) fn is_aftermath(error: &Error) -> bool {
    error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION)
}

/// Why the server refused one document, in names and never in values.
pub(crate) fn refusal(error: &Error) -> Refusal {
    let message = match error.as_db_error() {
        Some(db) => describe(db, names_things(db)),
        None => error.to_string(),
    };
    Refusal { message }
}

/// Whether an unknown name in the message is one of the statement's. Those stand at a place in its text; a
/// value that was to be read as a name (`regclass`, `regtype`, `regrole`) stands nowhere in it.
fn names_things(db: &DbError) -> bool {
    db.position().is_some() || db.code() == &SqlState::INSUFFICIENT_PRIVILEGE
}

fn describe(db: &DbError, names_things: bool) -> String {
    let state = db.code().code();
    let class = state.get(..2).unwrap_or("");
    let safe = match class {
        "42" | "3F" => names_things && state != COLUMN_SYNTAX,
        class => SAFE_CLASSES.contains(&class),
    };
    let mut text = if safe {
        db.message().to_owned()
    } else {
        title(state).to_owned()
    };
    let places = [
        ("constraint", db.constraint()),
        ("table", db.table()),
        ("column", db.column()),
        ("type", db.datatype()),
    ];
    for (what, name) in places {
        if let Some(name) = name {
            text.push_str(&format!(", {what} {name}"));
        }
    }
    format!("{text} (SQLSTATE {state})")
}

fn title(state: &str) -> &'static str {
    match state {
        "21000" => "the key equals another key of the batch in the table's own comparison",
        "22001" => "a text is too long for its column",
        "22003" => "a number is out of its column's range",
        "22007" | "22008" => "a date or time is not one that its column can hold",
        "22021" | "22P05" => "a text has a character that the database's encoding cannot hold",
        "22P02" | "22P03" => "a value is not of its column's type",
        "22030" | "22032" | "22023" => "the JSON is not one that its column can hold",
        "23502" => "a column that must not be null would be null",
        "23503" => "a foreign key's other row is missing, or still refers here",
        "23505" => "a unique constraint is violated",
        "23514" => "a check constraint is violated",
        "23P01" => "an exclusion constraint is violated",
        COLUMN_SYNTAX => "a text is not in the language of its column's type",
        "44000" => "a view's check option is violated",
        "54000" => {
            "the row is beyond a limit of PostgreSQL (an index entry or a JSON part too long)"
        }
        "54001" => "the value is nested too deeply",
        "P0001" => "a trigger refused the row",
        _ => match state.get(..2) {
            Some("42" | "3F") => "a name is not one that the database knows",
            Some("22") => "a value is not one that its column can hold",
            Some("23") => "a constraint is violated",
            Some("54") => "the row is beyond a limit of PostgreSQL",
            Some("P0") => "a trigger failed",
            Some("XX") => "an internal error of the server; see its log",
            _ => "the server refused the statement; see its log",
        },
    }
}
