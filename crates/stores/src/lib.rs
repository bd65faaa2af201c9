//! The databases that Whimbrel reads and writes, one module a driver, opened by URL.
//!
//! A driver's own types never leave its module, and a store knows nothing of migrations.

pub mod config;
pub mod journal;

pub use config::{CollectionConfig, LayoutChoice, OpenOptions};
use std::sync::Arc;
use whimbrel_model::{Journal, JournalError, Store, StoreError};

/// Opens a store by its URL: `sqlite:app.db`, `postgres://user@host/db`, `jsonl:dir/`, `memory:`.
///
/// # Errors
/// The URL is not valid, its driver is not built in, or the database cannot be reached.
pub async fn open(_url: &str, _options: &OpenOptions) -> Result<Arc<dyn Store>, StoreError> {
    todo!()
}

/// Opens (or creates) a ledger by its URL: `sqlite:path` or `postgres://…`.
///
/// # Errors
/// The URL is not valid, or the ledger cannot be used, or a newer program wrote it.
pub async fn open_journal(_url: &str) -> Result<Arc<dyn Journal>, JournalError> {
    todo!()
}
