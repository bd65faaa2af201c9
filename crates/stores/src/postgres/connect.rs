//! A pool of connections, each set up so that plans and texts do not depend on the server's settings.

use super::error::pool_error;
use super::{tls, url};
use deadpool_postgres::{
    Client, Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime,
};
use std::time::Duration;
use whimbrel_model::{Code, StoreError, StoreErrorKind};

/// Connections a store opens at most: what its [`super::PARALLEL`] workers use, and some for get and count.
const CONNECTIONS: usize = 8;

/// Every text that the column codec reads is in these styles. `force_generic_plan` keeps the server from
/// copying a batch's arrays into a fresh plan; without sequential scans that one plan walks the key's index
/// at any table size (a page of a scan must not sort the table).
const SESSION: &str = "SET datestyle = 'ISO, MDY'; SET timezone = 'UTC'; \
    SET intervalstyle = 'postgres'; SET extra_float_digits = 1; SET bytea_output = 'hex'; \
    SET lc_monetary = 'C'; SET plan_cache_mode = force_generic_plan; SET jit = off; \
    SET enable_seqscan = off; SET enable_bitmapscan = off; \
    SET default_transaction_isolation = 'read committed'";

/// Connections to one database.
#[derive(Clone)]
pub(crate) struct Connections {
    /// The URL without secrets.
    pub name: String,
    pool: Pool,
}

impl Connections {
    /// Opens the pool and one connection of it, so that a wrong URL is noticed at once.
    ///
    /// # Errors
    /// The URL is not valid, or the database cannot be reached.
    pub async fn open(url: &str, read_only: bool) -> Result<Self, StoreError> {
        let target = url::parse(url)?;
        let connector = tls::connector(&target.name, &target.tls)?;
        let recycling = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = Manager::from_config(target.config, connector, recycling);
        let session = if read_only {
            format!("{SESSION}; SET default_transaction_read_only = on")
        } else {
            SESSION.to_owned()
        };
        let pool = Pool::builder(manager)
            .max_size(CONNECTIONS)
            .runtime(Runtime::Tokio1)
            .create_timeout(Some(Duration::from_secs(20)))
            .post_create(Hook::async_fn(move |client, _| {
                let session = session.clone();
                Box::pin(async move {
                    client
                        .batch_execute(&session)
                        .await
                        .map_err(HookError::Backend)
                })
            }))
            .build()
            .map_err(|error| {
                StoreError::new(
                    StoreErrorKind::Terminal,
                    Code::StoreUnavailable,
                    &target.name,
                    error.to_string(),
                )
            })?;
        let connections = Self {
            name: target.name,
            pool,
        };
        drop(connections.get().await?);
        Ok(connections)
    }

    /// # Errors
    /// No connection could be made.
    pub async fn get(&self) -> Result<Client, StoreError> {
        self.pool
            .get()
            .await
            .map_err(|error| pool_error(&self.name, error))
    }

    /// Forgets all prepared statements (after a table changed its shape).
    pub fn forget_statements(&self) {
        self.pool.manager().statement_caches.clear();
    }
}
