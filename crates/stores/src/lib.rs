//! The databases that Whimbrel reads and writes, one module a driver, opened by URL.
//!
//! A driver's own types never leave its module, and a store knows nothing of migrations.

mod body;
pub mod config;
#[cfg(feature = "firestore")]
pub mod firestore;
pub mod journal;
#[cfg(feature = "sqlite")]
pub mod jsonl;
pub mod memory;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "firestore")]
pub mod serve;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod url;

pub use config::{CollectionConfig, LayoutChoice, OpenOptions};
use std::sync::Arc;
use url::StoreUrl;
use whimbrel_model::{Journal, JournalError, Store, StoreError};

/// Opens a store by its URL: `sqlite:app.db`, `postgres://user@host/db`, `jsonl:dir/`,
/// `firestore://project/database`, `memory:`.
///
/// # Errors
/// The URL is not valid, its driver is not built in, or the database cannot be reached.
pub async fn open(url: &str, options: &OpenOptions) -> Result<Arc<dyn Store>, StoreError> {
    match StoreUrl::parse(url)? {
        #[cfg(feature = "sqlite")]
        StoreUrl::Sqlite(path) => sqlite::open(path.as_deref(), options).await,
        #[cfg(feature = "postgres")]
        StoreUrl::Postgres => postgres::open(url, options).await,
        #[cfg(feature = "sqlite")]
        StoreUrl::Jsonl(path) => jsonl::open(&path, options).await,
        #[cfg(feature = "firestore")]
        StoreUrl::Firestore => firestore::open(url, options).await,
        StoreUrl::Memory(name) => Ok(memory::open(&name, options)),
        #[cfg(not(all(feature = "sqlite", feature = "postgres", feature = "firestore")))]
        _ => Err(url::invalid(
            url,
            "the program was built without this kind of store",
        )),
    }
}

/// Opens (or creates) a ledger by its URL: `sqlite:path` or `postgres://…`.
///
/// # Errors
/// The URL is not valid, or the ledger cannot be used, or a newer program wrote it.
pub async fn open_journal(url: &str) -> Result<Arc<dyn Journal>, JournalError> {
    journal::open(url).await
}
