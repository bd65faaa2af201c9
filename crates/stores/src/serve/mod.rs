//! Stores as what Firestore's protocol is served from: ordered documents with their times and their last
//! hour, indexes beside them, and word of what others wrote in SQL.

#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod data;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use crate::OpenOptions;
use crate::url::{self, StoreUrl};
use std::sync::Arc;
use whimbrel_firestore::Backend;
use whimbrel_model::StoreError;

/// Opens a store for serving: `sqlite:app.db`, `postgres://user@host/db`, `memory:`.
///
/// # Errors
/// The URL is not valid, names a store that cannot be served, or its database cannot be used.
pub async fn open(url: &str, options: &OpenOptions) -> Result<Arc<dyn Backend>, StoreError> {
    match StoreUrl::parse(url)? {
        #[cfg(feature = "sqlite")]
        StoreUrl::Sqlite(path) => sqlite::open(path.as_deref(), options).await,
        #[cfg(feature = "postgres")]
        StoreUrl::Postgres => postgres::open(url, options).await,
        StoreUrl::Memory(name) if name.is_empty() => Ok(memory::open(options)),
        StoreUrl::Memory(_) => Err(url::invalid(
            url,
            "what is served from memory has no name: say memory:",
        )),
        _ => Err(url::invalid(url, "this kind of store cannot be served")),
    }
}
