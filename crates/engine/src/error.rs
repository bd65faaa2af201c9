//! Why a job stopped.

use whimbrel_model::ledger::RunState;
use whimbrel_model::schema::SchemaError;
use whimbrel_model::{Code, DocError, JournalError, StoreError, StoreErrorKind};

/// Why a job did not reach its end. What was done before is in the ledger.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("{}", list(.0))]
    Schema(Vec<SchemaError>),
    /// A document failed where the rule says `on_error = "abort"`, or where it was asked for by key.
    #[error("document {key}: {error}")]
    Document { key: String, error: Box<DocError> },
    #[error("document {key} does not exist in {place}")]
    NoDocument { key: String, place: String },
    #[error("collection {place} does not exist")]
    NoCollection { place: String },
    #[error(
        "{quarantined} of {enumerated} documents failed, more than the threshold of {threshold} allows"
    )]
    Threshold {
        quarantined: u64,
        enumerated: u64,
        threshold: String,
    },
    #[error("run {} ({}) is unfinished since {}", .0.run, .0.job.title, .0.updated_at)]
    Pending(Box<RunState>),
    #[error("stopped on request")]
    Interrupted,
    /// I7 does not hold: a bug, here or in a driver. Nothing is called done.
    #[error("the counts do not add up: {0}")]
    Counts(String),
    /// The job as given cannot be done.
    #[error("{message}")]
    Job { code: Code, message: String },
}

fn list(errors: &[SchemaError]) -> String {
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

impl EngineError {
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Store(e) => e.code,
            Self::Journal(e) => e.code(),
            Self::Schema(errors) => errors
                .first()
                .map_or(Code::SchemaInvalid, SchemaError::code),
            Self::Document { error, .. } => error.code,
            Self::NoDocument { .. } | Self::NoCollection { .. } => Code::UnknownCollection,
            Self::Threshold { .. } => Code::RunThreshold,
            Self::Pending(_) => Code::RunPending,
            Self::Interrupted => Code::RunInterrupted,
            Self::Counts(_) => Code::RunCounts,
            Self::Job { code, .. } => *code,
        }
    }

    /// Whether the same command goes on from where it stopped.
    #[must_use]
    pub fn resumable(&self) -> bool {
        !matches!(
            self,
            Self::Threshold { .. } | Self::Schema(_) | Self::Pending(_) | Self::Job { .. }
        )
    }

    /// What to do next, where it can be said in general.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Store(e) if e.kind == StoreErrorKind::Transient => {
                "the store did not recover in time; run the same command again to go on from the last \
                 checkpoint"
                    .to_owned()
            }
            Self::Store(e) if e.code == Code::StoreFull => {
                "make room on the store's disk, then run the same command again to go on".to_owned()
            }
            Self::Journal(JournalError::Held(_)) => {
                "wait for the other run, or look at it with `whimbrel status`; if its process is dead, \
                 `whimbrel lock break` frees the ledger"
                    .to_owned()
            }
            Self::Pending(run) => format!(
                "finish it with the command it was started with, or give it up with `--abandon` (what run \
                 {} has written stays)",
                run.run
            ),
            Self::Threshold { .. } => {
                "look at `whimbrel quarantine list`, mend the transform, then run the command again; \
                 `--max-failed` sets the threshold"
                    .to_owned()
            }
            Self::Interrupted => "run the same command again to go on from the last checkpoint".to_owned(),
            _ => return None,
        })
    }
}

impl From<SchemaError> for EngineError {
    fn from(error: SchemaError) -> Self {
        Self::Schema(vec![error])
    }
}
