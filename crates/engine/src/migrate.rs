//! Migrations: steps in order, each change of state in the ledger before and after, and the way back.

mod action;

pub use action::{Again, Estimate, Fault, StepAction, StepContext, StepError};
