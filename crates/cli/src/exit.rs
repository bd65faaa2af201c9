//! The exit codes: an API that scripts depend on.

use std::process::ExitCode;
use whimbrel_model::Code;

/// What the process ends with. The numbers never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything that was asked for is done.
    Done = 0,
    /// It failed. Nothing was lost; the message says what was not done.
    Failed = 1,
    /// The command, the project file, a schema or a rule is not valid. Nothing was begun.
    Usage = 2,
    /// An unfinished run is in the way, or the run was stopped and can go on; a migration rests, is pending,
    /// late or edited.
    Pending = 3,
    /// It ran to its end and found something: documents in quarantine, a breaking version.
    Findings = 4,
    /// Another run holds the ledger's lease.
    LockHeld = 5,
    /// Whether the last write happened is unknown. The same command finds out and goes on.
    Unknown = 6,
}

impl Exit {
    /// What an error of this kind ends the process with.
    #[must_use]
    pub fn of(code: Code) -> Self {
        match code {
            Code::ProjectInvalid
            | Code::SchemaGap
            | Code::SchemaInvalid
            | Code::SchemaUnknownVersion
            | Code::UnknownCollection
            | Code::UnknownStore
            | Code::StoreUrl
            | Code::RulesInvalid
            | Code::ScriptInvalid
            | Code::CheckInvalid
            | Code::MigrationInvalid => Exit::Usage,
            Code::SchemaBreaking | Code::CheckFailed | Code::NotEqual => Exit::Findings,
            Code::LeaseHeld => Exit::LockHeld,
            Code::StoreUnknown | Code::StepUnknown => Exit::Unknown,
            Code::RunPending
            | Code::RunChanged
            | Code::RunInterrupted
            | Code::MigrationDrift
            | Code::MigrationLate
            | Code::MigrationOpen
            | Code::MigrationPaused
            | Code::ApprovalNeeded => Exit::Pending,
            _ => Exit::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}
