//! A pool of connections, each set up so that plans and texts do not depend on the server's settings.

use super::error::{pool_error, store_error};
use super::{tls, url};
use deadpool_postgres::{
    Client, ClientWrapper, Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError,
    RecyclingMethod, Runtime,
};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::error::SqlState;
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

/// For a statement that goes over most of a table and counts it up by few cells: the planner, which cannot know
/// that they are few, would rather sort the table. The cells of `verify` (16,000 at most) take about 6 MB in each of the
/// server's processes; with less memory than that, they would write all rows to temporary files.
pub(super) const WHOLE_TABLE: &str = "SET enable_seqscan = on; SET enable_sort = off; \
    SET plan_cache_mode = force_custom_plan; SET work_mem = '32MB'";

/// Takes [`WHOLE_TABLE`] back.
pub(super) const BY_KEY: &str = "SET enable_seqscan = off; SET enable_sort = on; \
    SET plan_cache_mode = force_generic_plan; RESET work_mem";

/// A snapshot may be looked at seldom, but must last: a server's limits on idle transactions are put aside.
const PATIENT: &str = "SELECT set_config(name, '0', false) FROM pg_settings \
    WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')";

/// Every statement of serving goes from keys to rows, or along an index; none needs another kind of plan.
#[cfg(feature = "firestore")]
const SERVING: &str = "SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_sort = off; SET enable_material = off";

/// How long a free connection is waited for.
#[cfg(feature = "firestore")]
const WAIT: Duration = Duration::from_secs(30);

const INSTANT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Connections to one database.
#[derive(Clone)]
pub(crate) struct Connections {
    /// The URL without secrets.
    pub name: String,
    /// With its secrets, to open more connections.
    url: Arc<str>,
    pool: Pool,
    /// Where every connection sees one instant: what keeps it.
    kept: Option<Arc<Kept>>,
}

/// The transaction that a snapshot was exported from. Others can take part for as long as it is open.
struct Kept {
    live: Connections,
    _exporter: ClientWrapper,
}

impl Connections {
    /// Opens the pool and one connection of it, so that a wrong URL is noticed at once.
    ///
    /// # Errors
    /// The URL is not valid, or the database cannot be reached.
    pub async fn open(url: &str, read_only: bool) -> Result<Self, StoreError> {
        let session = if read_only {
            format!("{SESSION}; SET default_transaction_read_only = on")
        } else {
            SESSION.to_owned()
        };
        let fast = RecyclingMethod::Fast;
        let connections =
            Self::pooled(url.into(), [session].into(), CONNECTIONS, None, fast, None)?;
        drop(connections.get().await?);
        Ok(connections)
    }

    /// At most `size` connections for serving, none of them opened yet. Whoever waits for one longer than half a
    /// minute gets an error: those that hold one may be waiting for another.
    ///
    /// # Errors
    /// The URL is not valid.
    #[cfg(feature = "firestore")]
    pub fn serving(url: &str, size: usize) -> Result<Self, StoreError> {
        let session = format!("{SESSION}; {SERVING}; {PATIENT}");
        Self::pooled(
            url.into(),
            [session].into(),
            size,
            Some(WAIT),
            RecyclingMethod::Fast,
            None,
        )
    }

    /// Connections to the same database that all see it as it is now. They hold back the server's cleaning
    /// up (VACUUM) while they are kept.
    ///
    /// # Errors
    /// The database cannot be reached, or gives no snapshot.
    pub async fn frozen(&self) -> Result<Self, StoreError> {
        if self.kept.is_some() {
            return Ok(self.clone());
        }
        let failed = |error| store_error(&self.name, "taking a snapshot", error);
        // Taken out of the pool, so that nobody else gets it, and closed when the snapshot is let go.
        let exporter = Object::take(self.get().await?);
        for batch in [PATIENT, INSTANT] {
            exporter.batch_execute(batch).await.map_err(failed)?;
        }
        let row = exporter.query_one("SELECT pg_export_snapshot()", &[]).await;
        let snapshot: String = row.and_then(|row| row.try_get(0)).map_err(failed)?;
        let snapshot = snapshot.replace('\'', "''");
        // What comes before BEGIN in one batch would already be part of the transaction.
        let session = [
            format!("{SESSION}; {PATIENT}"),
            format!("{INSTANT}; SET TRANSACTION SNAPSHOT '{snapshot}'"),
        ];
        // A statement that failed ends what its connection could still see, and it is not used again.
        let recycling = RecyclingMethod::Custom("SELECT 1".to_owned());
        let kept = Kept {
            live: self.clone(),
            _exporter: exporter,
        };
        Self::pooled(
            self.url.clone(),
            session.into(),
            CONNECTIONS,
            None,
            recycling,
            Some(Arc::new(kept)),
        )
    }

    /// `session`: what every new connection runs first, batch by batch.
    fn pooled(
        url: Arc<str>,
        session: Arc<[String]>,
        size: usize,
        wait: Option<Duration>,
        recycling_method: RecyclingMethod,
        kept: Option<Arc<Kept>>,
    ) -> Result<Self, StoreError> {
        let target = url::parse(&url)?;
        let connector = tls::connector(&target.name, &target.tls)?;
        let recycling = ManagerConfig { recycling_method };
        let manager = Manager::from_config(target.config, connector, recycling);
        let pool = Pool::builder(manager)
            .max_size(size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(wait)
            .create_timeout(Some(Duration::from_secs(20)))
            .post_create(Hook::async_fn(move |client, _| {
                let session = session.clone();
                Box::pin(async move {
                    for batch in session.iter() {
                        let done = client.batch_execute(batch).await;
                        done.map_err(HookError::Backend)?;
                    }
                    Ok(())
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
        Ok(Self {
            name: target.name,
            url,
            pool,
            kept,
        })
    }

    /// # Errors
    /// No connection could be made; or the snapshot is gone, with the connection that kept it.
    pub async fn get(&self) -> Result<Client, StoreError> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::PostCreateHook(HookError::Backend(refused))
                if self.kept.is_some() && refused.as_db_error().is_some() =>
            {
                self.snapshot_gone(&refused)
            }
            error => pool_error(&self.name, error),
        })
    }

    fn snapshot_gone(&self, refused: &tokio_postgres::Error) -> StoreError {
        let state = refused.code().map_or("", SqlState::code);
        StoreError::new(
            StoreErrorKind::Terminal,
            Code::StoreUnavailable,
            &self.name,
            format!(
                "the snapshot is gone: the connection that kept it was lost (SQLSTATE {state}); take a new \
                 one and begin again"
            ),
        )
    }

    pub fn is_frozen(&self) -> bool {
        self.kept.is_some()
    }

    /// The same database as it is now.
    pub fn live(&self) -> &Self {
        self.kept.as_ref().map_or(self, |kept| &kept.live)
    }

    /// Forgets all prepared statements (after a table changed its shape).
    pub fn forget_statements(&self) {
        self.pool.manager().statement_caches.clear();
    }
}
