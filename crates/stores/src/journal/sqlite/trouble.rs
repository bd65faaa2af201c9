//! What goes wrong with the file, in words that say what to do.

use crate::journal::failed;
use rusqlite::{ErrorCode, ffi};
use std::time::Duration;
use whimbrel_model::JournalError;

/// How long a call waits for another process that is writing.
pub(super) const BUSY_WAIT: Duration = Duration::from_secs(10);

/// What can go wrong inside one call, before it has the ledger's name.
pub(super) enum Trouble {
    Journal(JournalError),
    Sqlite(rusqlite::Error),
}

impl From<JournalError> for Trouble {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Trouble {
    pub(super) fn named(self, ledger: &str) -> JournalError {
        match self {
            Self::Journal(error) => error,
            Self::Sqlite(error) => failed(ledger, explain(&error)),
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Sqlite(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy))
    }
}

/// What happened and what to do. SQLite's own words name tables and files, never a stored value.
fn explain(error: &rusqlite::Error) -> String {
    const NOT_WRITTEN: &str = "nothing of this call was written";
    let full = error
        .sqlite_error()
        .is_some_and(|e| e.extended_code == ffi::SQLITE_IOERR_SHMSIZE);
    match error.sqlite_error_code() {
        _ if full => format!("the disk is full; {NOT_WRITTEN}; free some space and run it again"),
        Some(ErrorCode::DiskFull) => {
            format!("the disk is full; {NOT_WRITTEN}; free some space and run it again")
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => format!(
            "another process kept it locked for {} s; {NOT_WRITTEN}; run it again",
            BUSY_WAIT.as_secs()
        ),
        Some(ErrorCode::ReadOnly) => format!("it is read-only; {NOT_WRITTEN}"),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            format!("the file cannot be opened ({error}); check its path and permissions")
        }
        Some(ErrorCode::NotADatabase) => "the file is no SQLite database".to_owned(),
        Some(ErrorCode::DatabaseCorrupt) => {
            format!("the file is damaged ({error}); restore it from a backup")
        }
        _ => error.to_string(),
    }
}
