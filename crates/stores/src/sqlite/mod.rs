//! Documents in an SQLite file, which the app may be using meanwhile.
//!
//! A collection is a table: key columns and one JSON column, or columns that are the fields. Names are
//! quoted and values bound. Generated columns are not fields: they follow from the others. A `NULL` and a
//! missing field are the same in a column.

mod digest;
pub(crate) mod error;
mod field;
mod held;
mod key;
mod partitions;
pub(crate) mod pool;
mod positions;
pub(crate) mod row;
mod scan;
mod shared;
mod snapshot;
pub(crate) mod sql;
mod statement;
pub(crate) mod table;
mod write;

use crate::OpenOptions;
use async_trait::async_trait;
use error::{store_error, terminal};
use pool::{Place, Pool};
use positions::Rows;
use rusqlite::Connection;
use shared::Shared;
pub(crate) use shared::one_key;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use table::Table;
use whimbrel_model::store::{Description, StatementOutcome};
use whimbrel_model::{
    Body, Cell, Cells, Code, DigestLine, Digests, Document, Key, KeyKind, KeyRange, Limits, Page,
    Store, StoreError, Write, WriteOutcome,
};

/// Opens the file, or a database in memory (`None`). A file that does not exist is made by the first
/// [`Store::ensure`], so that a mistyped path stays an error.
///
/// # Errors
/// The file cannot be used as a database.
pub async fn open(path: Option<&str>, options: &OpenOptions) -> Result<Arc<dyn Store>, StoreError> {
    let place = Place {
        name: format!("sqlite:{}", path.unwrap_or(":memory:")),
        path: path.map(PathBuf::from),
        read_only: options.read_only,
        temporary: false,
    };
    Ok(Arc::new(open_place(place, options).await?))
}

/// Opens a file that is thrown away when the process ends: its writes wait for no disk.
pub(crate) async fn open_temporary(
    path: &Path,
    options: &OpenOptions,
) -> Result<Arc<dyn Store>, StoreError> {
    let place = Place {
        name: "index".to_owned(),
        path: Some(path.to_owned()),
        read_only: false,
        temporary: true,
    };
    Ok(Arc::new(open_place(place, options).await?))
}

async fn open_place(place: Place, options: &OpenOptions) -> Result<SqliteStore, StoreError> {
    let name = place.name.clone();
    let parallel = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(1, 8));
    let missing = place.path.as_deref().is_some_and(|p| !p.exists());
    if missing {
        let directory = place.path.as_deref().and_then(Path::parent);
        let no_directory = directory.is_some_and(|d| !d.as_os_str().is_empty() && !d.is_dir());
        if options.read_only || no_directory {
            return Err(terminal(
                &name,
                Code::StoreMissing,
                "there is no such file or directory",
            ));
        }
    }
    let store = SqliteStore {
        pool: Pool::new(place, parallel + 1),
        shared: Arc::new(Shared::new(name, options.clone(), true)),
        parallel: u32::try_from(parallel).unwrap_or(1),
    };
    if !missing {
        let shared = store.shared.clone();
        store
            .pool
            .read(move |connection| shared.look(connection))
            .await?;
    }
    Ok(store)
}

#[derive(Debug)]
struct SqliteStore {
    pool: Pool,
    shared: Arc<Shared>,
    parallel: u32,
}

impl SqliteStore {
    fn writable(&self) -> Result<(), StoreError> {
        let why = match (self.pool.is_frozen(), self.shared.options.read_only) {
            (true, _) => "a snapshot is for reading only; nothing was written",
            (_, true) => "the store was opened for reading only",
            _ => return Ok(()),
        };
        Err(terminal(&self.shared.name, Code::StoreDenied, why))
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared, &mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = self.shared.clone();
        self.pool
            .read(move |connection| work(&shared, connection))
            .await
    }

    /// Reads rows by their ids at one instant: what their ids mean must not change in between.
    async fn rows<T: Send + 'static>(
        &self,
        collection: &str,
        work: impl FnOnce(&Rows<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let collection = collection.to_owned();
        self.read(move |shared, connection| {
            let store = shared.name.as_str();
            let failed = |e| store_error(store, "read the database", e);
            let transaction = connection.savepoint().map_err(failed)?;
            let table = shared.table(&transaction, &collection)?;
            let done = work(&Rows {
                connection: &transaction,
                store,
                table: &table,
            });
            transaction.commit().map_err(failed)?;
            done
        })
        .await
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn limits(&self) -> Limits {
        Limits {
            batch_writes: 20_000,
            batch_bytes: row::DOCUMENT_BYTES,
            document_bytes: row::DOCUMENT_BYTES,
            key_order: self.shared.key_order.load(Ordering::Relaxed),
            parallel: self.parallel,
        }
    }

    async fn collections(&self) -> Result<Vec<String>, StoreError> {
        if self.pool.is_missing() {
            return Ok(self.shared.options.collections.keys().cloned().collect());
        }
        self.read(|shared, connection| shared.collections(connection))
            .await
    }

    async fn describe(&self, collection: &str) -> Result<Option<Description>, StoreError> {
        if self.pool.is_missing() {
            return Ok(None);
        }
        let collection = collection.to_owned();
        self.read(move |shared, connection| shared.describe(connection, &collection))
            .await
    }

    async fn ensure(&self, collection: &str, key: &KeyKind) -> Result<(), StoreError> {
        self.writable()?;
        let (shared, collection, key) = (self.shared.clone(), collection.to_owned(), key.clone());
        self.pool
            .write(true, move |connection| {
                shared.create(connection, &collection, &key)
            })
            .await
    }

    async fn count(&self, collection: &str, range: &KeyRange) -> Result<u64, StoreError> {
        let (collection, range) = (collection.to_owned(), range.clone());
        self.read(move |shared, connection| {
            let table = shared.table(connection, &collection)?;
            scan::count(connection, &shared.name, &table, &range)
        })
        .await
    }

    async fn partitions(
        &self,
        collection: &str,
        range: &KeyRange,
        parts: u32,
    ) -> Result<Vec<KeyRange>, StoreError> {
        let (collection, range) = (collection.to_owned(), range.clone());
        self.read(move |shared, connection| {
            let table = shared.table(connection, &collection)?;
            partitions::partitions(connection, &shared.name, &table, &range, parts)
        })
        .await
    }

    async fn scan(
        &self,
        collection: &str,
        range: &KeyRange,
        limit: u32,
        bytes: usize,
    ) -> Result<Page, StoreError> {
        let (collection, range) = (collection.to_owned(), range.clone());
        self.read(move |shared, connection| {
            let table = shared.table(connection, &collection)?;
            scan::scan(connection, &shared.name, &table, &range, limit, bytes)
        })
        .await
    }

    async fn position_ranges(
        &self,
        collection: &str,
        after: Option<&Key>,
        parts: u32,
    ) -> Result<Option<Vec<KeyRange>>, StoreError> {
        let after = after.cloned();
        self.rows(collection, move |rows| rows.ranges(after.as_ref(), parts))
            .await
    }

    async fn scan_positions(
        &self,
        collection: &str,
        range: &KeyRange,
        limit: u32,
        bytes: usize,
    ) -> Result<Page, StoreError> {
        let range = range.clone();
        self.rows(collection, move |rows| rows.scan(&range, limit, bytes))
            .await
    }

    async fn get(
        &self,
        collection: &str,
        keys: &[Key],
    ) -> Result<Vec<Option<Document>>, StoreError> {
        let (collection, keys) = (collection.to_owned(), keys.to_vec());
        self.read(move |shared, connection| {
            let table = shared.table(connection, &collection)?;
            scan::get(connection, &shared.name, &table, &keys)
        })
        .await
    }

    async fn held(
        &self,
        collection: &str,
        keys: &[Key],
        bodies: Vec<Body>,
    ) -> Result<Vec<Body>, StoreError> {
        let (collection, keys) = (collection.to_owned(), keys.to_vec());
        self.read(move |shared, connection| {
            let table = shared.table(connection, &collection)?;
            held::held(&shared.name, &table, &keys, bodies)
        })
        .await
    }

    async fn write(&self, writes: &[Write]) -> Result<Vec<WriteOutcome>, StoreError> {
        self.writable()?;
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let (shared, writes) = (self.shared.clone(), writes.to_vec());
        self.pool
            .write(false, move |connection| {
                let version = shared.version(connection)?;
                let mut tables: HashMap<&str, Arc<Table>> = HashMap::new();
                let mut ready = Vec::with_capacity(writes.len());
                for write in &writes {
                    let collection = write.collection.as_str();
                    let table = match tables.get(collection) {
                        Some(table) => table.clone(),
                        None => {
                            let table = shared.table(connection, collection)?;
                            tables.insert(collection, table.clone());
                            table
                        }
                    };
                    ready.push(write::Ready::new(table, write));
                }
                write::apply(connection, &shared.name, &ready, version)
            })
            .await
    }

    async fn digests(
        &self,
        collection: &str,
        cells: &Cells,
    ) -> Result<Option<Digests>, StoreError> {
        let (collection, cells) = (collection.to_owned(), cells.clone());
        self.read(move |shared, connection| {
            let table = shared.table(connection, &collection)?;
            digest::digests(connection, &shared.name, &table, &cells)
        })
        .await
    }

    async fn digest_lines(
        &self,
        collection: &str,
        cells: &Cells,
        wanted: &[Cell],
    ) -> Result<Option<Vec<DigestLine>>, StoreError> {
        let (collection, cells) = (collection.to_owned(), cells.clone());
        let wanted = wanted.to_vec();
        self.read(move |shared, connection| {
            let table = shared.table(connection, &collection)?;
            digest::lines(connection, &shared.name, &table, &cells, &wanted)
        })
        .await
    }

    async fn statement(&self, text: &str) -> Result<StatementOutcome, StoreError> {
        self.writable()?;
        let (name, text) = (self.shared.name.clone(), text.to_owned());
        let waiting = statement::Waiting::default();
        let given_up = waiting.given_up();
        self.pool
            .alone(move |connection| statement::run(connection, &name, &text, &given_up))
            .await
    }

    async fn snapshot(&self) -> Result<Option<Arc<dyn Store>>, StoreError> {
        let readers = self.parallel as usize + 1;
        let Some(pool) = self.pool.frozen(readers).await? else {
            return Ok(None);
        };
        let Shared { name, options, .. } = &*self.shared;
        let key_order = self.shared.key_order.load(Ordering::Relaxed);
        Ok(Some(Arc::new(SqliteStore {
            pool,
            shared: Arc::new(Shared::new(name.clone(), options.clone(), key_order)),
            parallel: self.parallel,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_model::{Guard, StoreErrorKind};

    fn put(key: i64, bytes: usize) -> Write {
        Write {
            collection: "c".to_owned(),
            key: Key::Int(key),
            to: Some(Body::from_json(format!(
                "{{\"n\":\"{}\"}}",
                "x".repeat(bytes)
            ))),
            guard: Guard::Absent,
        }
    }

    /// A file that may grow no more fails as a full disk does.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_full_disk_loses_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place {
            name: "sqlite:full.db".to_owned(),
            path: Some(directory.path().join("full.db")),
            read_only: false,
            temporary: false,
        };
        let store = open_place(place, &OpenOptions::default()).await.unwrap();
        store.ensure("c", &KeyKind::Int).await.unwrap();
        assert_eq!(
            store.write(&[put(1, 10)]).await.unwrap(),
            [WriteOutcome::Applied]
        );
        let limit = |pages: i64| {
            store.pool.write(false, move |connection| {
                let set = format!("PRAGMA max_page_count = {pages}");
                connection.query_row(&set, [], |_| Ok(())).unwrap();
                Ok(())
            })
        };
        limit(50).await.unwrap();
        let error = store
            .write(&[put(2, 10), put(3, 1_000_000), put(4, 10)])
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind, error.code),
            (StoreErrorKind::Terminal, Code::StoreFull)
        );
        let all = KeyRange::all();
        assert_eq!(
            store.count("c", &all).await.unwrap(),
            1,
            "nothing of the batch is there"
        );
        limit(1_000_000).await.unwrap();
        let outcomes = store.write(&[put(2, 10), put(3, 1_000_000)]).await.unwrap();
        assert_eq!(outcomes, [WriteOutcome::Applied, WriteOutcome::Applied]);
        assert_eq!(store.count("c", &all).await.unwrap(), 3);
    }
}
