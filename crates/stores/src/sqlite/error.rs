//! What SQLite's result codes mean for a caller.

use rusqlite::{Error, ErrorCode};
use whimbrel_model::{Code, StoreError, StoreErrorKind as Kind};

/// `doing` completes "could not …"; it names tables, never values.
pub(crate) fn store_error(store: &str, doing: &str, error: Error) -> StoreError {
    let (kind, code, why) = judge(&error);
    StoreError::new(kind, code, store, format!("could not {doing}: {why}")).with_source(error)
}

/// As [`store_error`], for a commit: after an I/O error nobody knows whether it landed.
pub(crate) fn commit_error(store: &str, error: Error) -> StoreError {
    if error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) {
        return StoreError::new(
            Kind::Unknown,
            Code::StoreUnknown,
            store,
            "the disk failed during the commit; the batch was written as a whole or not at all",
        )
        .with_source(error);
    }
    store_error(store, "commit the batch", error)
}

pub(crate) fn terminal(store: &str, code: Code, message: impl Into<String>) -> StoreError {
    StoreError::new(Kind::Terminal, code, store, message)
}

fn judge(error: &Error) -> (Kind, Code, String) {
    let own = || match error {
        Error::SqliteFailure(_, Some(message)) => message.clone(),
        other => other.to_string(),
    };
    let Some(code) = error.sqlite_error_code() else {
        return (Kind::Terminal, Code::StoreFailed, own());
    };
    match code {
        ErrorCode::DatabaseBusy
        | ErrorCode::DatabaseLocked
        | ErrorCode::FileLockingProtocolFailed
        | ErrorCode::SchemaChanged
        | ErrorCode::OperationInterrupted => (
            Kind::Transient,
            Code::StoreUnavailable,
            "another connection holds the database's lock".into(),
        ),
        ErrorCode::DiskFull => (
            Kind::Terminal,
            Code::StoreFull,
            "the disk, or the database's page limit, is full; nothing of the batch was written"
                .into(),
        ),
        ErrorCode::NotADatabase => (
            Kind::Terminal,
            Code::StoreFailed,
            "the file is no SQLite database (or an encrypted one)".into(),
        ),
        ErrorCode::DatabaseCorrupt => (
            Kind::Terminal,
            Code::StoreFailed,
            "the database file is damaged; `PRAGMA integrity_check` tells more".into(),
        ),
        ErrorCode::CannotOpen => (
            Kind::Terminal,
            Code::StoreMissing,
            "the file cannot be opened; does it exist, and its directory?".into(),
        ),
        ErrorCode::ReadOnly
        | ErrorCode::PermissionDenied
        | ErrorCode::AuthorizationForStatementDenied => (Kind::Terminal, Code::StoreDenied, own()),
        _ if own().starts_with("no such table") => (Kind::Terminal, Code::StoreMissing, own()),
        _ if own().starts_with("no such collation") => (Kind::Terminal, Code::StoreShape, own()),
        _ => (Kind::Terminal, Code::StoreFailed, own()),
    }
}

/// Why a table refuses this one document while it may take others. `None` for errors that concern more.
pub(crate) fn refusal(error: &Error) -> Option<String> {
    let (failure, message) = match error {
        Error::SqliteFailure(failure, message) => (failure, message),
        Error::StatementChangedRows(_) => {
            return Some("a trigger of the table keeps it from being written".into());
        }
        _ => return None,
    };
    match failure.code {
        // A trigger's message is the app's own and may quote values.
        ErrorCode::ConstraintViolation if failure.extended_code == TRIGGER => {
            Some("a trigger of the table refuses the document".into())
        }
        ErrorCode::ConstraintViolation => Some(
            message
                .clone()
                .unwrap_or_else(|| "a constraint fails".into()),
        ),
        ErrorCode::TypeMismatch => Some("a column does not take the value's type".into()),
        ErrorCode::TooBig => Some("the document is larger than SQLite allows".into()),
        _ => None,
    }
}

const TRIGGER: i32 = rusqlite::ffi::SQLITE_CONSTRAINT_TRIGGER;
