//! A served SQLite file.
//!
//! One connection writes; each view is a transaction, which only reads, on a connection of its own. A collection is a table
//! of a key and one JSON column, as the store reads and writes it; what is needed besides lies in side
//! tables ([`layout`]), and triggers note what other programs write.

mod catalog;
mod commit;
mod forget;
mod layout;
mod read;
mod view;

use super::data;
use crate::OpenOptions;
use crate::sqlite::error::{store_error, terminal};
use crate::sqlite::pool::{Place as File, Pool, connect};
use async_trait::async_trait;
use catalog::{Catalog, Surveyor, schema_version};
use read::{Last, Reader};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use view::SqliteView;
use whimbrel_firestore::backend::{Decide, Foreign, IndexId, IndexState, Stored};
use whimbrel_firestore::{Backend, Fields, Micros, Place, View};
use whimbrel_model::{Code, StoreError, StoreErrorKind};

/// Statements kept ready on each connection.
const STATEMENTS: usize = 512;

/// Pages in the write-ahead log after which a commit brings them into the database. More than SQLite's own
/// choice: a page that is written again and again is brought over once.
const LOG_PAGES: i64 = 8000;

/// Readers kept for the next view.
const IDLE: usize = 16;

/// Opens the file for serving, and makes it where it is not there.
///
/// # Errors
/// It cannot be written, is no database, is being served already, or a newer program's.
pub(super) async fn open(
    path: Option<&str>,
    options: &OpenOptions,
) -> Result<Arc<dyn Backend>, StoreError> {
    let name = format!("sqlite:{}", path.unwrap_or(":memory:"));
    let Some(path) = path.map(PathBuf::from) else {
        let why = "a database in memory has one connection only; serve memory: instead";
        return Err(terminal(&name, Code::StoreUrl, why));
    };
    if options.read_only {
        let why = "serving keeps times beside the documents, so it cannot be for reading only";
        return Err(terminal(&name, Code::StoreDenied, why));
    }
    let file = File {
        name: name.clone(),
        path: Some(path.clone()),
        read_only: false,
        temporary: false,
    };
    let pool = Pool::new(file.clone(), 1);
    let (opened, options) = (name.clone(), options.clone());
    let shared = pool
        .write(true, move |connection| {
            let lock = claim(&opened, &path)?;
            prepare(connection, &opened)?;
            let shared = Arc::new(Shared {
                name: opened,
                options,
                file,
                catalog: RwLock::default(),
                fires: AtomicBool::new(true),
                idle: Mutex::default(),
                behind: Mutex::default(),
                _lock: lock,
            });
            shared.refresh(connection)?;
            Ok(shared)
        })
        .await?;
    Ok(Arc::new(SqliteBackend { shared, pool }))
}

/// Two gateways would not know of each other's locks and listeners. The lock lies on a file beside: SQLite's
/// own locks would be lost with it.
///
/// The file has one name here, by whatever links it is reached.
fn claim(store: &str, path: &Path) -> Result<std::fs::File, StoreError> {
    let whole = path.canonicalize().map_err(|error| {
        let why = format!("the file {} cannot be found: {error}", path.display());
        terminal(store, Code::StoreMissing, why).with_source(error)
    })?;
    let mut beside = whole.into_os_string();
    beside.push("-serving");
    let failed = |error: std::io::Error| {
        let shown = Path::new(&beside).display();
        let why = format!("the file {shown} cannot be made or locked: {error}");
        terminal(store, Code::StoreDenied, why).with_source(error)
    };
    let mut options = std::fs::OpenOptions::new();
    let options = options.create(true).truncate(false).write(true);
    let file = options.open(&beside).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::new(
            StoreErrorKind::Transient,
            Code::StoreUnavailable,
            store,
            "another process serves this database; stop it first",
        )),
        Err(std::fs::TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Statements are kept ready. Without the second they would be planned anew whenever a key is bound that the plan
/// looked at, which takes longer than running them.
fn plan_once(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Settles the writer, and makes the side tables where they are not there.
fn prepare(connection: &Connection, store: &str) -> Result<(), StoreError> {
    let failed = |e| store_error(store, "make the database ready for serving", e);
    plan_once(connection).map_err(failed)?;
    // In any other mode a view would keep writers out.
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
        .map_err(failed)?;
    if !mode.eq_ignore_ascii_case("wal") {
        let why = "the database cannot be brought into WAL mode, which serving needs";
        return Err(terminal(store, Code::StoreFailed, why));
    }
    connection
        .pragma_update(None, "wal_autocheckpoint", LOG_PAGES)
        .map_err(failed)?;
    connection
        .execute_batch("BEGIN IMMEDIATE")
        .map_err(failed)?;
    let made = ready(connection, store);
    let end = if made.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = connection.execute_batch(end).map_err(failed);
    made.and(ended)
}

fn ready(connection: &Connection, store: &str) -> Result<(), StoreError> {
    let failed = |e| store_error(store, "make the side tables", e);
    let there: i64 = connection
        .query_row(
            "SELECT count(*) FROM sqlite_master WHERE name = '_whimbrel_serving'",
            [],
            |row| row.get(0),
        )
        .map_err(failed)?;
    if there == 0 {
        return connection.execute_batch(layout::TABLES).map_err(failed);
    }
    let layout: i64 = connection
        .query_row("SELECT layout FROM _whimbrel_serving", [], |row| row.get(0))
        .map_err(failed)?;
    if layout > layout::LAYOUT {
        let why = "a newer version of Whimbrel served this database; use that one";
        return Err(terminal(store, Code::StoreShape, why));
    }
    Ok(())
}

#[derive(Debug)]
struct SqliteBackend {
    shared: Arc<Shared>,
    /// For its one connection that writes.
    pool: Pool,
}

/// What the work on every connection shares.
#[derive(Debug)]
struct Shared {
    name: String,
    options: OpenOptions,
    file: File,
    catalog: RwLock<Arc<Catalog>>,
    /// Whether the connection that writes fires triggers.
    fires: AtomicBool,
    /// Connections that only read, outside of any transaction.
    idle: Mutex<Vec<Connection>>,
    /// A change, and the first of the gateway's own behind it: what others write at once may be settled in many parts.
    behind: Mutex<Option<(i64, Last)>>,
    /// Held for as long as the database is served.
    _lock: std::fs::File,
}

impl Shared {
    fn catalog(&self) -> Arc<Catalog> {
        let catalog = self.catalog.read();
        catalog.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_catalog(&self, catalog: Arc<Catalog>) {
        let mut current = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
        *current = catalog;
    }

    /// The first change of the gateway's own behind one. Those up to `durable` stay what they are.
    fn own_from(
        &self,
        connection: &Connection,
        seq: i64,
        durable: i64,
    ) -> rusqlite::Result<Option<Last>> {
        let mut known = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, next)) = known.filter(|(from, next)| (*from..next.seq).contains(&seq)) {
            return Ok(Some(next));
        }
        let next = read::own_from(connection, seq)?;
        *known = next
            .filter(|next| next.seq <= durable)
            .map(|next| (seq, next));
        Ok(next)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn surveyor<'c>(&'c self, connection: &'c Connection) -> Surveyor<'c> {
        Surveyor {
            connection,
            store: &self.name,
            options: &self.options,
        }
    }

    /// Looks at the tables anew where they changed; on the connection that writes.
    fn refresh(&self, connection: &Connection) -> Result<(), StoreError> {
        let failed = |e| store_error(&self.name, "find the served tables", e);
        if schema_version(connection).map_err(failed)? == self.catalog().version {
            return Ok(());
        }
        connection
            .execute_batch("BEGIN IMMEDIATE")
            .map_err(failed)?;
        match self.surveyor(connection).survey() {
            Ok(catalog) => {
                connection.execute_batch("COMMIT").map_err(failed)?;
                self.set_catalog(Arc::new(catalog));
                Ok(())
            }
            Err(error) => {
                connection.execute_batch("ROLLBACK").map_err(failed)?;
                Err(error)
            }
        }
    }

    fn reading_connection(&self) -> Result<Connection, StoreError> {
        if let Some(connection) = self.idle().pop() {
            return Ok(connection);
        }
        let connection = connect(&self.file, false)?;
        let settle = || {
            plan_once(&connection)?;
            connection.pragma_update(None, "cache_size", -4000)?;
            connection.pragma_update(None, "query_only", true)
        };
        settle().map_err(|e| store_error(&self.name, "open the database", e))?;
        Ok(connection)
    }
}

impl SqliteBackend {
    /// A transaction that only reads, with the tables as they are in it.
    async fn reader(&self) -> Result<Reader, StoreError> {
        loop {
            if let Some(reader) = Reader::begin(&self.shared)? {
                return Ok(reader);
            }
            // A table came or went.
            let shared = self.shared.clone();
            self.pool
                .write(false, move |connection| shared.refresh(connection))
                .await?;
        }
    }

    /// Runs statements on the connection that writes, in a transaction of their own.
    async fn write<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let name = self.shared.name.clone();
        self.pool
            .write(false, move |connection| {
                let write = || {
                    // Behind whoever writes just now, instead of failing where what was read is stale.
                    let transaction =
                        connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                    let result = work(&transaction)?;
                    transaction.commit()?;
                    Ok(result)
                };
                write().map_err(|e| store_error(&name, doing, e))
            })
            .await
    }
}

#[async_trait]
impl Backend for SqliteBackend {
    fn name(&self) -> &str {
        &self.shared.name
    }

    async fn get(&self, places: &[Place]) -> Result<Vec<Option<Stored>>, StoreError> {
        let reader = self.reader().await?;
        places.iter().map(|place| reader.now(place)).collect()
    }

    async fn view(&self) -> Result<Box<dyn View>, StoreError> {
        Ok(Box::new(SqliteView::new(self.reader().await?)?))
    }

    async fn commit(&self, touch: &[Place], decide: Decide) -> Result<(), StoreError> {
        let (shared, touch) = (self.shared.clone(), touch.to_vec());
        self.pool
            .write(false, move |connection| {
                commit::commit(connection, &shared, &touch, decide)
            })
            .await
    }

    fn refuse(&self, place: &Place, _fields: &Fields) -> Option<String> {
        let catalog = self.shared.catalog();
        let found = catalog.find(&self.shared.name, &place.collection);
        found.err().map(|error| error.message)
    }

    async fn last_commit(&self) -> Result<Micros, StoreError> {
        Ok(self.reader().await?.last()?.at)
    }

    async fn foreign(&self, limit: u32) -> Result<Foreign, StoreError> {
        self.reader().await?.foreign(limit)
    }

    async fn indexes(&self) -> Result<Vec<IndexState>, StoreError> {
        self.reader().await?.indexes()
    }

    async fn create_index(&self, definition: &str) -> Result<IndexState, StoreError> {
        let definition = definition.to_owned();
        self.write("make an index", move |connection| {
            connection
                .prepare_cached(
                    "INSERT INTO _whimbrel_indexes (definition) VALUES (?1)
                     ON CONFLICT (definition) DO NOTHING",
                )?
                .execute([&definition])?;
            connection
                .prepare_cached(
                    "SELECT id, definition, ready FROM _whimbrel_indexes WHERE definition = ?1",
                )?
                .query_row([&definition], read::index_state)
        })
        .await
    }

    async fn index_ready(&self, index: IndexId) -> Result<(), StoreError> {
        let there = self
            .write("note that an index is ready", move |connection| {
                connection
                    .prepare_cached(
                        "UPDATE _whimbrel_indexes SET ready = 1 WHERE id = ?1 RETURNING id",
                    )?
                    .query_row([index.0], |_| Ok(()))
                    .optional()
            })
            .await?;
        there.ok_or_else(|| {
            let why = format!("there is no index {}", index.0);
            terminal(&self.shared.name, Code::StoreMissing, why)
        })
    }

    async fn forget(&self, horizon: Micros) -> Result<(), StoreError> {
        while self
            .write("forget what documents were", move |connection| {
                forget::some(connection, horizon)
            })
            .await?
        {
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::StatementStatus;

    #[test]
    fn no_statement_is_planned_anew_for_another_key() {
        let directory = tempfile::tempdir().unwrap();
        let connection = Connection::open(directory.path().join("app.db")).unwrap();
        prepare(&connection, "s").unwrap();
        connection
            .execute_batch("CREATE TABLE users (id TEXT PRIMARY KEY, data TEXT)")
            .unwrap();
        let options = OpenOptions::default();
        let surveyor = Surveyor {
            connection: &connection,
            store: "s",
            options: &options,
        };
        let catalog = surveyor.survey().unwrap();
        let served = catalog.find("s", "users").unwrap().unwrap();
        for sql in [&served.get, &served.change, &served.delete] {
            let mut statement = connection.prepare(sql).unwrap();
            for key in ["a", "b", "c"] {
                let mut rows = statement.query([key]).unwrap();
                assert!(rows.next().unwrap().is_none(), "{sql}");
            }
            assert_eq!(statement.get_status(StatementStatus::Run), 3, "{sql}");
            assert_eq!(statement.get_status(StatementStatus::RePrepare), 0, "{sql}");
        }
    }
}
