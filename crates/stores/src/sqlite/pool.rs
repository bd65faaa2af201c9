//! Connections to one database file: one that writes, and several that read beside it.

use super::error::{store_error, terminal};
use super::snapshot;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedMutexGuard, Semaphore};
use whimbrel_model::{Code, StoreError, StoreErrorKind};

/// How long a statement waits for another process's lock before it is transient.
const BUSY: Duration = Duration::from_secs(5);
const STATEMENTS: usize = 64;
/// Pages that the connection which writes keeps in memory, in KiB.
const CACHE_KIB: i64 = 16_000;
/// The same for each of those that read: they are several, and documents in the order of their keys lie on other pages
/// each.
const READER_CACHE_KIB: i64 = 8_000;

#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) name: String,
    /// `None`: in memory.
    pub(crate) path: Option<PathBuf>,
    pub(crate) read_only: bool,
    /// Nobody needs the file after a crash.
    pub(crate) temporary: bool,
}

/// A cancelled caller leaves its work running to its end, so a connection never comes back in the middle
/// of a transaction.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    place: Place,
    writer: Arc<tokio::sync::Mutex<Option<Connection>>>,
    readers: Arc<Readers>,
    /// The connections are all there are, each in a transaction that sees the same instant.
    frozen: bool,
}

#[derive(Debug)]
struct Readers {
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    pub(crate) fn new(place: Place, readers: usize) -> Self {
        Self {
            place,
            writer: Arc::default(),
            readers: Arc::new(Readers {
                permits: Arc::new(Semaphore::new(readers)),
                idle: Mutex::default(),
            }),
            frozen: false,
        }
    }

    /// The same database as of one instant; `None` where it cannot be had.
    pub(super) async fn frozen(&self, readers: usize) -> Result<Option<Self>, StoreError> {
        if self.frozen {
            return Ok(Some(self.clone()));
        }
        if self.place.path.is_none() || self.is_missing() {
            return Ok(None);
        }
        let place = self.place.clone();
        let connections = run(&self.place.name, StoreErrorKind::Transient, move || {
            snapshot::frozen(&place, readers)
        });
        let Some(connections) = connections.await? else {
            return Ok(None);
        };
        let pool = Self::new(self.place.clone(), connections.len());
        *pool.readers.lock() = connections;
        Ok(Some(Self {
            frozen: true,
            ..pool
        }))
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Whether there is no database file yet.
    pub(super) fn is_missing(&self) -> bool {
        self.place.path.as_deref().is_some_and(|p| !p.exists())
    }

    /// Runs `work` on the connection that writes, alone. `create` makes a missing database file.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        create: bool,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        if self.frozen {
            return Err(terminal(
                &self.place.name,
                Code::StoreDenied,
                "a snapshot is for reading only",
            ));
        }
        let mut guard: OwnedMutexGuard<_> = self.writer.clone().lock_owned().await;
        let place = self.place.clone();
        let lost = StoreErrorKind::Unknown;
        run(&self.place.name, lost, move || {
            let connection = match &mut *guard {
                Some(connection) => connection,
                none => none.insert(connect(&place, create)?),
            };
            if !connection.is_autocommit() {
                // Only a panic in the middle of a transaction leaves one open.
                connection
                    .execute_batch("ROLLBACK")
                    .map_err(|e| store_error(&place.name, "roll back", e))?;
            }
            work(connection)
        })
        .await
    }

    /// Runs `work` on a connection of its own, which is closed behind it, while this store writes nothing
    /// else. A database in memory has but one connection.
    pub(super) async fn alone<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let place = self.place.clone();
        self.write(false, move |connection| {
            if place.path.is_none() {
                return work(connection);
            }
            work(&mut connect(&place, false)?)
        })
        .await
    }

    /// Runs `work` on a connection that only reads.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        if self.place.path.is_none() {
            // A database in memory is one connection's own.
            return self.write(true, work).await;
        }
        let gone = || {
            terminal(
                &self.place.name,
                Code::StoreFailed,
                "the snapshot is gone: a connection that held it failed; take a new one and begin again",
            )
        };
        let Ok(permit) = self.readers.permits.clone().acquire_owned().await else {
            return Err(gone());
        };
        let frozen = self.frozen;
        let gone = frozen.then(gone);
        let readers = self.readers.clone();
        let place = self.place.clone();
        run(&self.place.name, StoreErrorKind::Transient, move || {
            let idle = readers.lock().pop();
            let mut connection = match (idle, gone) {
                (Some(connection), _) => connection,
                (None, None) => reader(&place)?,
                (None, Some(gone)) => return Err(gone),
            };
            let result = work(&mut connection);
            // Out of the middle of a transaction, or out of the one that sees the snapshot's instant, it is
            // of no more use.
            if connection.is_autocommit() != frozen {
                readers.lock().push(connection);
            } else if frozen {
                readers.permits.close();
            }
            drop(permit);
            result
        })
        .await
    }
}

impl Readers {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run<T: Send + 'static>(
    store: &str,
    lost: StoreErrorKind,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::new(
            lost,
            Code::StoreUnknown,
            store,
            "the work on the database was cut off",
        )
        .with_source(error)),
    }
}

pub(crate) fn connect(place: &Place, create: bool) -> Result<Connection, StoreError> {
    let failed = |e| store_error(&place.name, "open the database", e);
    let Some(path) = &place.path else {
        let connection = Connection::open_in_memory().map_err(failed)?;
        settle(&connection, place).map_err(failed)?;
        return Ok(connection);
    };
    let made = !path.exists();
    if made && !create {
        return Err(missing(place, path));
    }
    let mut flags = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_READ_WRITE;
    let log_there = log_is_there(path);
    if made {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    settle(&connection, place).map_err(failed)?;
    if place.read_only {
        only_read(&connection, log_there).map_err(failed)?;
    }
    if made {
        // An app's file keeps the journal mode that the app chose.
        connection
            .pragma_update(None, "journal_mode", "wal")
            .map_err(failed)?;
    }
    Ok(connection)
}

/// A connection of a pool that reads.
pub(super) fn reader(place: &Place) -> Result<Connection, StoreError> {
    let connection = connect(place, false)?;
    connection
        .pragma_update(None, "cache_size", -READER_CACHE_KIB)
        .map_err(|e| store_error(&place.name, "open the database", e))?;
    Ok(connection)
}

/// Whether the database has a write-ahead log that holds something.
fn log_is_there(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).is_ok_and(|log| log.len() > 0)
}

/// Keeps a connection from writing. Opened with SQLite's own read-only flag it could not take away the log
/// and the index that reading a WAL database makes, and would leave them behind. A log that an app left is
/// not brought into the database either: that is the app's to do.
fn only_read(connection: &Connection, log_there: bool) -> rusqlite::Result<()> {
    connection.pragma_update(None, "query_only", true)?;
    if log_there {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    }
    Ok(())
}

fn settle(connection: &Connection, place: &Place) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "foreign_keys", true)?;
    // A commit is reported to the ledger, so it has to survive a power cut.
    let synchronous = if place.temporary { "off" } else { "full" };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)
}

fn missing(place: &Place, path: &Path) -> StoreError {
    terminal(
        &place.name,
        Code::StoreMissing,
        format!("there is no database file {}", path.display()),
    )
}
