//! What a step of a migration does. The orchestrator knows no kind of step; each kind implements
//! [`StepAction`].

use async_trait::async_trait;
use std::time::Duration;
use whimbrel_model::ledger::{StepRef, StepReport, StepState};
use whimbrel_model::migration::Inverse;
use whimbrel_model::{Code, JournalError, Store, StoreErrorKind, Timestamp};

use crate::engine::Engine;
use crate::error::EngineError;

/// What a step works with.
#[derive(Clone, Copy)]
pub struct StepContext<'a> {
    /// Holds the migration's lease, and is stopped when the step must stop.
    pub engine: &'a Engine,
    pub at: &'a StepRef,
    /// The step as the ledger knows it: its report once it is done, who approved it, former tries.
    pub state: &'a StepState,
    /// When this application of the migration began: the same in every attempt.
    pub begun: Timestamp,
    /// Who acts.
    pub by: &'a str,
}

/// What is known of a step before it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    pub documents: Option<u64>,
    pub bytes: Option<u64>,
    /// Given by the file, or told from how long the same took before.
    pub time: Option<Duration>,
    /// What it will do, in a line.
    pub summary: String,
}

/// What a process that was killed in the middle of a step leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Doing it again does no harm.
    Harmless,
    /// Only a look can tell whether it happened.
    Unknown,
}

/// One step's work, made ready.
#[async_trait]
pub trait StepAction: Send + Sync {
    /// # Errors
    /// A store cannot be reached, or what the step names is not there.
    async fn estimate(&self) -> Result<Estimate, EngineError>;

    /// The stores out of which and into which it carries documents, so that what they do not give away
    /// ([`Store::not_carried`]) is told beforehand.
    fn carries(&self) -> Vec<&dyn Store> {
        Vec::new()
    }

    /// How the step is taken back; `None`: it cannot be.
    fn inverse(&self) -> Option<Inverse>;

    /// Whether what it does may be done again when its end is not known.
    fn again(&self) -> Again {
        Again::Harmless
    }

    /// Whether it changes anything that steps before it have to be judged on again.
    fn writes(&self) -> bool;

    /// Whether [`StepAction::validate`] can tell if the step happened; `false` where there is nothing that it
    /// looks at.
    fn judges(&self) -> bool {
        true
    }

    /// # Errors
    /// What came of it is in the error's [`Fault`].
    async fn forward(&self, cx: &StepContext<'_>) -> Result<StepReport, StepError>;

    /// Whether what `forward` was to reach is reached. Called after it, at the end of the migration where a
    /// later step wrote, and where it is unknown whether `forward` happened.
    ///
    /// # Errors
    /// It is not reached.
    async fn validate(&self, cx: &StepContext<'_>) -> Result<(), StepError>;

    /// Takes back what `forward` did, however far it came.
    ///
    /// # Errors
    /// As [`StepAction::forward`].
    async fn backward(&self, cx: &StepContext<'_>) -> Result<StepReport, StepError>;
}

/// What to do about a step that did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Another try may succeed.
    Transient,
    /// It will not succeed: the migration takes itself back.
    Terminal,
    /// It may have happened.
    Unknown,
    /// It stopped where it can go on, and going back would meet the same trouble (a full disk, a store that
    /// stays away, a stop on request): the migration rests.
    Stopped,
    /// Somebody's word is missing.
    Waiting,
}

/// Why a step did not come to its end. Never a document's value or a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StepError {
    pub fault: Fault,
    pub code: Code,
    pub message: String,
    /// Whether the ledger itself failed: then nothing more can be written down.
    pub ledger: bool,
}

impl StepError {
    #[must_use]
    pub fn new(fault: Fault, code: Code, message: impl Into<String>) -> Self {
        Self {
            fault,
            code,
            message: message.into(),
            ledger: false,
        }
    }

    #[must_use]
    pub fn terminal(code: Code, message: impl Into<String>) -> Self {
        Self::new(Fault::Terminal, code, message)
    }
}

impl From<EngineError> for StepError {
    fn from(error: EngineError) -> Self {
        let fault = match &error {
            EngineError::Store(e) => match (e.kind, e.code) {
                (_, Code::StoreFull) => Fault::Stopped,
                (StoreErrorKind::Terminal, _) => Fault::Terminal,
                // A job re-reads what is unknown; trying again is how it does.
                (StoreErrorKind::Transient | StoreErrorKind::Unknown, _) => Fault::Transient,
            },
            // An unfinished run that somebody began by hand: nothing was done, and it can be finished.
            EngineError::Interrupted | EngineError::Journal(_) | EngineError::Pending(_) => {
                Fault::Stopped
            }
            _ => Fault::Terminal,
        };
        Self {
            fault,
            code: error.code(),
            ledger: matches!(&error, EngineError::Journal(_)),
            message: error.to_string(),
        }
    }
}

impl From<JournalError> for StepError {
    fn from(error: JournalError) -> Self {
        EngineError::from(error).into()
    }
}
