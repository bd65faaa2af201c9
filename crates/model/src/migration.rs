//! Migrations: ordered steps, with thresholds and abort rules. What a file means, and which orders make
//! sense; nothing here runs anything.

mod check;
mod diff;
mod phase;
mod standing;

pub use check::{Means, PlanError, Resolve, check, check_each, check_named, points_of_no_return};
pub use diff::{Change, difference};
pub use phase::{Phase, PhaseError};
pub use standing::{Standing, StandingKind, standing};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// One migration file, read and understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Migration {
    /// The file's name without its ending: `0001_conversations_to_postgres`.
    pub id: String,
    /// The number at the beginning of its name.
    pub number: u32,
    pub description: String,
    pub owner: Option<String>,
    /// `1%` or a count: how many documents of one step may fail before the step does.
    pub max_failed: Option<String>,
    pub steps: Vec<Step>,
    pub abort: Vec<AbortRule>,
    /// What the file means, without comments and layout, and with the checksums of the files that it
    /// names: what an applied migration is compared with. Never a secret.
    pub meaning: serde_json::Value,
    /// Of `meaning`.
    pub checksum: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Unique in its migration.
    pub name: String,
    pub kind: StepKind,
    /// As the file says; otherwise it is measured.
    pub estimate: Option<Duration>,
    /// The step fails when it takes longer.
    pub timeout: Option<Duration>,
    /// How often a transient error is met by another try, with growing jittered pauses.
    pub retries: u32,
    /// The line of the file at which the step begins.
    pub line: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub enum StepKind {
    Backup(BackupStep),
    Upgrade(UpgradeStep),
    Copy(CopyStep),
    Verify(VerifyStep),
    Phase(PhaseStep),
    Run(RunStep),
    Approve(ApproveStep),
}

/// Writes collections into an archive and reads it back.
#[derive(Clone, Debug, PartialEq)]
pub struct BackupStep {
    /// `store/collection`, or `store/*` for all of a store.
    pub collections: Vec<String>,
    /// A folder (relative to the project) or an object store's URL; the archive gets a folder of its own
    /// in it, named after the migration, its application and the step.
    pub to: String,
    /// age recipients (`age1…`): the archive is encrypted to them.
    pub recipients: Vec<String>,
    /// The file of a signing key: the archive's manifest is signed with it.
    pub sign: Option<String>,
}

/// Brings a collection to a schema version, in place.
#[derive(Clone, Debug, PartialEq)]
pub struct UpgradeStep {
    /// As on the command line: a collection of the project, or `store/collection`.
    pub collection: String,
    pub to: u32,
    /// Where an undo brings documents to which this step did not upgrade itself: those that were written
    /// since. Filled in by [`check`] where the file does not say: what the migrations before leave.
    pub from: Option<u32>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CopyStep {
    pub source: String,
    pub target: String,
    /// A file of copy rules, relative to the project.
    pub rules: Option<String>,
    pub skip_existing: bool,
}

/// Judges data. More checks may come to it; each of these reads and writes nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum VerifyStep {
    /// Every document of the collection is at the version and valid there.
    Upgraded { collection: String, version: u32 },
    /// The target holds what a copy would write, document by document.
    Copied {
        source: String,
        target: String,
        rules: Option<String>,
    },
    /// No critical check of these files fails; empty: of all the project's.
    Checked {
        files: Vec<String>,
        /// Whether checks that warn count as critical ones.
        warnings_fail: bool,
    },
}

/// Moves a collection's cutover on.
#[derive(Clone, Debug, PartialEq)]
pub struct PhaseStep {
    pub collection: String,
    pub to: Phase,
}

/// Something of the team's own.
#[derive(Clone, Debug, PartialEq)]
pub struct RunStep {
    pub forward: Action,
    /// Without it the step is a point of no return.
    pub backward: Option<Action>,
    /// Passes where a command exits with 0, and a statement returns no row.
    pub validate: Option<Action>,
    /// Whether `forward` (and `backward`) may run again where it is unknown what became of it.
    pub idempotent: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Command {
        /// The program and its arguments; no shell.
        command: Vec<String>,
        /// Relative to the project.
        folder: Option<String>,
        /// Variables whose values come from the environment (`"$NAME"`) or from files (`"@file"`), by the
        /// name that the command sees.
        env: BTreeMap<String, String>,
    },
    /// Statements in one store, in one transaction.
    Sql { store: String, statement: String },
}

/// Waits for somebody's word.
#[derive(Clone, Debug, PartialEq)]
pub struct ApproveStep {
    /// Who may give it; anybody who can write the ledger where empty.
    pub by: Vec<String>,
    /// What is asked.
    pub question: String,
}

impl ApproveStep {
    /// Whether this person's word counts: `ada`, or `ada@host` as processes sign.
    #[must_use]
    pub fn counts(&self, who: &str) -> bool {
        let name = who.split('@').next().unwrap_or(who);
        self.by.is_empty() || self.by.iter().any(|by| by == who || by == name)
    }
}

impl StepKind {
    /// The word that files use.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Backup(_) => "backup",
            Self::Upgrade(_) => "upgrade",
            Self::Copy(_) => "copy",
            Self::Verify(_) => "verify",
            Self::Phase(_) => "phase",
            Self::Run(_) => "run",
            Self::Approve(_) => "approve",
        }
    }

    /// What undoing the step does. `None`: a point of no return, to be shown beforehand.
    #[must_use]
    pub fn inverse(&self) -> Option<Inverse> {
        match self {
            Self::Backup(_) | Self::Verify(_) | Self::Approve(_) => Some(Inverse::Nothing),
            Self::Upgrade(step) => Some(Inverse::Downgrade {
                to: step.from.unwrap_or(1),
            }),
            Self::Copy(_) => Some(Inverse::Uncopy),
            // `complete` drops what the way back needs.
            Self::Phase(step) if step.to == Phase::Complete => None,
            Self::Phase(_) => Some(Inverse::FormerPhase),
            Self::Run(step) => step.backward.as_ref().map(|_| Inverse::Backward),
        }
    }

    /// Whether the step changes documents or the outside world, so that what comes after a failed backup
    /// must not begin.
    #[must_use]
    pub fn writes(&self) -> bool {
        matches!(
            self,
            Self::Upgrade(_) | Self::Copy(_) | Self::Phase(_) | Self::Run(_)
        )
    }
}

/// How a step is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inverse {
    /// The step changed nothing.
    Nothing,
    /// Each document goes back to what it was; what was written since is brought to the version.
    Downgrade {
        to: u32,
    },
    /// What the copy wrote and nobody changed since goes, or becomes what it was before.
    Uncopy,
    FormerPhase,
    /// The file's own `backward`.
    Backward,
}

/// Watched while a migration runs; when it trips, the migration takes itself back.
#[derive(Clone, Debug, PartialEq)]
pub struct AbortRule {
    pub name: String,
    pub when: AbortWhen,
    /// How often it is looked at.
    pub every: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub enum AbortWhen {
    /// The share (0 to 1) of the documents seen by the step that failed.
    FailedDocuments { above: f64 },
    /// Failed checks of the migration's `verify` steps.
    FailedChecks { above: u64 },
    /// The share of the calls to stores that failed, over the last minute.
    ErrorRate { above: f64 },
    /// How much slower single reads are than before the start.
    Latency { times: f64, at_least: Duration },
    /// Free bytes on the disk that `path` (relative to the project) lies on.
    FreeDisk { path: String, below: u64 },
    /// A command that exits with anything but 0.
    Command { command: Vec<String> },
}
