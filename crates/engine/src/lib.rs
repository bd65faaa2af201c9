//! Upgrades, copies and undoes documents through any store, with a ledger. The library behind the
//! `whimbrel` command.
//!
//! The engine names no database and prints nothing: stores and the ledger come as traits, and what happens
//! is told as [`Event`]s.

mod backup;
mod check;
mod checks;
mod chunk;
pub mod clock;
mod copy;
mod decide;
mod deliver;
mod derive;
mod dry_run;
mod engine;
mod error;
mod events;
mod group;
mod holding;
mod job;
pub mod ledger;
pub mod migrate;
mod native;
mod options;
mod pages;
mod patience;
mod preimage;
mod prove;
mod provenance;
mod restore;
mod retry;
mod seen;
mod show;
mod tally;
mod throttle;
mod undo;
mod upgrade;
mod verified;
mod verify;

pub use backup::{BackupJob, BackupPlace, BackupReport};
pub use check::{CheckJob, SchemaCheck};
pub use checks::{Checked, ChecksJob, ChecksOptions, PreparedCheck};
pub use clock::{Clock, SystemClock};
pub use copy::{CopyJob, CopyPreview, TargetPreview};
pub use engine::Engine;
pub use error::EngineError;
pub use events::EventStream;
pub use ledger::Ledger;
pub use native::{NativeTransform, NativeVersion};
pub use options::{JobOptions, Place, Report, Threshold};
pub use prove::Proof;
pub use provenance::PROVENANCE;
pub use restore::{RestoreJob, RestorePart, RestoreReport};
pub use retry::RetryReport;
pub use show::Shown;
pub use upgrade::{UpgradeJob, UpgradePreview};
pub use verify::{CompareJob, RepairReport};
pub use whimbrel_model::Event;
