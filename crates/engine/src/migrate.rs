//! Migrations: steps in order, each change of state in the ledger before and after, and the way back.

mod action;
mod ascent;
mod backup_step;
mod checks_step;
mod control;
mod descent;
mod documents;
mod hooks;
mod metered;
mod operate;
mod orchestrate;
mod passage;
pub(crate) mod process;
mod redact;
mod relies;
mod run_step;
mod secrets;
mod verdict;
mod watch;
mod webhook;
mod words;

pub use action::{Again, Estimate, Fault, StepAction, StepContext, StepError};
pub use backup_step::BackupAction;
pub use checks_step::ChecksAction;
pub use documents::{CopyAction, UpgradeAction, VerifyAction};
pub use hooks::{Hook, HookAction, Hooks, Message, MessageStep, webhook_problem};
pub use metered::{Metered, MeteredStore, Rate};
pub use orchestrate::{MigrationJob, MigrationOptions};
pub use redact::Redactor;
pub use run_step::RunAction;
pub use secrets::{SecretError, Secrets, Wanted, check_secrets, wanted_by};
pub use words::{ApproveAction, PhaseAction};
