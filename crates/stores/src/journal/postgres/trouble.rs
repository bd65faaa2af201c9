//! What goes wrong with the server, in words that say what to do.

use crate::journal::failed;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;
use whimbrel_model::JournalError;

/// What can go wrong inside one call, before it has the ledger's name.
pub(super) enum Trouble {
    Journal(JournalError),
    Postgres(Error),
    /// The answer to COMMIT did not come, or was no plain refusal.
    Commit(Error),
}

impl From<JournalError> for Trouble {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Postgres(error)
    }
}

impl Trouble {
    pub(super) fn is_undefined_table(&self) -> bool {
        matches!(self, Self::Postgres(e) if e.code() == Some(&SqlState::UNDEFINED_TABLE))
    }

    pub(super) fn named(self, ledger: &str) -> JournalError {
        match self {
            Self::Journal(error) => error,
            Self::Postgres(error) => failed(ledger, explain(&error)),
            Self::Commit(error) => {
                let why = explain(&error);
                failed(
                    ledger,
                    format!("whether the last write was committed is unknown: {why}"),
                )
            }
        }
    }
}

/// What happened and what to do. Only the server's primary message is used: DETAIL may quote values.
fn explain(error: &Error) -> String {
    let Some(db) = error.as_db_error() else {
        let cause = std::error::Error::source(error).map(ToString::to_string);
        return match cause {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
    };
    let (text, state) = (db.message(), db.code().code());
    match db.code() {
        &SqlState::DISK_FULL => {
            "the server's disk is full; nothing of this call was written; free some space and run it again"
                .to_owned()
        }
        &SqlState::INSUFFICIENT_PRIVILEGE => {
            format!("{text}; the ledger's user needs a schema that it may create and write")
        }
        &SqlState::UNDEFINED_TABLE | &SqlState::UNDEFINED_COLUMN | &SqlState::DUPLICATE_TABLE => {
            format!("{text} (SQLSTATE {state}); the schema holds something else than a ledger")
        }
        _ => format!("{text} (SQLSTATE {state})"),
    }
}
