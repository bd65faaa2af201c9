//! PostgreSQL: a collection is a table with a JSON column, or any table with a key whose columns are the
//! fields. A document's revision is its row's `xmin`, the transaction that wrote it.

mod array;
pub(crate) mod catalog;
pub(crate) mod columns;
pub(crate) mod connect;
mod copy;
mod digest;
pub(crate) mod document;
pub(crate) mod error;
mod held;
mod instant;
pub(crate) mod keys;
mod read;
mod script;
mod sql;
mod statement;
pub(crate) mod table;
mod tls;
pub(crate) mod url;
pub(crate) mod wire;
mod write;

use crate::{CollectionConfig, LayoutChoice, OpenOptions};
use async_trait::async_trait;
use connect::Connections;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use table::{Table, quoted};
use tokio_postgres::Error;
use whimbrel_model::store::{Description, StatementOutcome};
use whimbrel_model::{
    Body, Cell, Cells, Code, DigestLine, Digests, Document, Key, KeyKind, KeyRange, Limits, Page,
    Store, StoreError, StoreErrorKind, Write, WriteOutcome,
};

/// How many partitions may be worked on at once.
const PARALLEL: u32 = 4;
/// What a batch holds at most: more brings no speed, and memory on both sides.
const BATCH_WRITES: u32 = 20_000;
const BATCH_BYTES: usize = 16 << 20;
/// `jsonb` holds at most 2^28 - 1 bytes of elements.
pub(crate) const DOCUMENT_BYTES: usize = 255 << 20;
/// Names beyond this are cut by the server.
pub(crate) const NAME_BYTES: usize = 63;

/// Opens a database by a libpq URL: `postgres://user:password@host:port/database?sslmode=verify-full`.
///
/// # Errors
/// The URL is not valid, the database cannot be reached or used, or a configured table cannot serve.
pub async fn open(url: &str, options: &OpenOptions) -> Result<Arc<dyn Store>, StoreError> {
    let connections = Connections::open(url, options.read_only).await?;
    let store = PgStore {
        connections,
        options: options.clone(),
        tables: RwLock::new(HashMap::new()),
        key_order: AtomicBool::new(true),
    };
    store.check_database().await?;
    // What the limits say must hold for whatever is read later: the configured tables, or any.
    for collection in options.collections.keys() {
        store.find(collection).await?;
    }
    Ok(Arc::new(store))
}

pub(crate) struct PgStore {
    connections: Connections,
    options: OpenOptions,
    tables: RwLock<HashMap<String, Arc<Table>>>,
    /// Falls to `false` for good with the first table whose key sorts in another order.
    key_order: AtomicBool,
}

impl fmt::Debug for PgStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgStore")
            .field("name", &self.connections.name)
            .finish_non_exhaustive()
    }
}

const DATABASE: &str = "SELECT current_setting('server_encoding') = 'SQL_ASCII'";

/// Tables that a name without a schema finds, without partitions and the store's own side tables.
const TABLES: &str = "SELECT c.relname::text FROM pg_class c \
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname NOT LIKE '\\_whimbrel%' \
      AND c.relnamespace = ANY (current_schemas(false)::regnamespace[]) \
      AND pg_table_is_visible(c.oid) ORDER BY c.relname COLLATE \"C\"";

/// Rows as the planner would guess them now, and bytes, of a table with all its partitions.
const SIZE: &str = "SELECT \
    CASE WHEN bool_and(c.relkind = 'p' OR c.relpages > 0 OR pg_relation_size(c.oid) = 0) THEN \
      round(sum(CASE WHEN c.relkind = 'p' OR c.relpages = 0 THEN 0 ELSE greatest(c.reltuples, 0)::float8 \
        / c.relpages * (pg_relation_size(c.oid) / 8192) END))::int8 END, \
    sum(pg_table_size(c.oid))::int8 \
    FROM pg_class c WHERE c.oid = $1::oid \
      OR c.oid IN (SELECT relid FROM pg_partition_tree($1::oid::regclass))";

impl PgStore {
    fn config(&self, collection: &str) -> CollectionConfig {
        self.options
            .collections
            .get(collection)
            .cloned()
            .unwrap_or_default()
    }

    fn failed(&self, table: &Table, doing: &str, error: Error) -> StoreError {
        self.write_failed([table], doing, error)
    }

    /// Turns the error, and forgets what it shows to be stale.
    fn write_failed<'t>(
        &self,
        tables: impl IntoIterator<Item = &'t Table>,
        doing: &str,
        error: Error,
    ) -> StoreError {
        if error::is_stale(&error) {
            let mut known = self.tables.write().unwrap_or_else(PoisonError::into_inner);
            for table in tables {
                known.remove(&table.collection);
            }
            drop(known);
            self.connections.forget_statements();
        }
        error::store_error(&self.connections.name, doing, error)
    }

    fn plain_failure(&self, doing: &str, error: Error) -> StoreError {
        error::store_error(&self.connections.name, doing, error)
    }

    fn terminal(&self, code: Code, message: String) -> StoreError {
        StoreError::new(
            StoreErrorKind::Terminal,
            code,
            &self.connections.name,
            message,
        )
    }

    fn misfit(&self, collection: &str, why: &str) -> StoreError {
        self.terminal(
            Code::StoreShape,
            format!("the table of collection {collection:?} cannot serve: {why}"),
        )
    }

    async fn check_database(&self) -> Result<(), StoreError> {
        let client = self.connections.get().await?;
        let failed = |error| self.plain_failure("looking at the database", error);
        let row = client.query_one(DATABASE, &[]).await.map_err(failed)?;
        if self.options.collections.is_empty() {
            let row = client
                .query_one(catalog::OTHER_ORDER, &[])
                .await
                .map_err(failed)?;
            let other: bool = row.try_get(0).map_err(failed)?;
            self.key_order.store(!other, Ordering::Relaxed);
        }
        if row.try_get(0).map_err(failed)? {
            return Err(self.terminal(
                Code::StoreShape,
                "the database's encoding is SQL_ASCII, so its texts have no known characters; \
                 use one with UTF8"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// The names that a collection may stand for, most likely first.
    fn candidates(&self, collection: &str) -> Vec<(String, String)> {
        let config = self.config(collection);
        let name = config.table.unwrap_or_else(|| collection.to_owned());
        let mut found = Vec::new();
        if let Some((schema, table)) = name.split_once('.') {
            found.push((
                format!("{}.{}", quoted(schema), quoted(table)),
                table.to_owned(),
            ));
        }
        found.push((quoted(&name), name));
        found
    }

    fn known(&self, collection: &str) -> Option<Arc<Table>> {
        let known = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        known.get(collection).cloned()
    }

    fn remember(&self, table: &Arc<Table>) {
        if !table.key_order {
            self.key_order.store(false, Ordering::Relaxed);
        }
        let mut known = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(table.collection.clone(), table.clone());
    }

    /// The collection's table, from memory or the catalogue; `None` when there is none.
    async fn find(&self, collection: &str) -> Result<Option<Arc<Table>>, StoreError> {
        if let Some(table) = self.known(collection) {
            return Ok(Some(table));
        }
        let doing = format!("looking for the table of collection {collection:?}");
        let failed = |error| self.plain_failure(&doing, error);
        let client = self.connections.get().await?;
        for (qualified, name) in self.candidates(collection) {
            if name.contains('\0') || name.len() > NAME_BYTES {
                continue;
            }
            let found = catalog::inspect(&client, &qualified, &name)
                .await
                .map_err(failed)?;
            let Some(found) = found else {
                continue;
            };
            let table = found
                .table(collection, &self.config(collection))
                .map_err(|why| self.misfit(collection, &why))?;
            let table = Arc::new(table);
            self.remember(&table);
            return Ok(Some(table));
        }
        Ok(None)
    }

    async fn table(&self, collection: &str) -> Result<Arc<Table>, StoreError> {
        self.find(collection).await?.ok_or_else(|| {
            let message = format!(
                "there is no table for collection {collection:?}; name it with `table = \"…\"`"
            );
            self.terminal(Code::StoreMissing, message)
        })
    }

    fn create_sql(&self, collection: &str, key: &KeyKind) -> Result<String, StoreError> {
        let config = self.config(collection);
        let name = config.table.as_deref().unwrap_or(collection);
        if config.layout == LayoutChoice::Columns || config.rest.is_some() {
            let why =
                "it does not exist, and a table with columns as fields is not made up; create it";
            return Err(self.misfit(collection, why));
        }
        let (schema, table) = match name.split_once('.') {
            Some((schema, table)) => (Some(schema), table),
            None => (None, name),
        };
        let kinds = match key {
            KeyKind::Tuple(kinds) => kinds.as_slice(),
            one => std::slice::from_ref(one),
        };
        let names = match config.key.as_slice() {
            [] if kinds.len() == 1 => vec!["id".to_owned()],
            [] => (1..=kinds.len()).map(|i| format!("k{i}")).collect(),
            given if given.len() == kinds.len() => given.to_vec(),
            given => {
                let why = format!(
                    "it has {} key columns, the keys have {} parts",
                    given.len(),
                    kinds.len()
                );
                return Err(self.misfit(collection, &why));
            }
        };
        let data = config.data.as_deref().unwrap_or("data");
        let long = names
            .iter()
            .map(String::as_str)
            .chain([table, data])
            .find(|n| n.len() > NAME_BYTES || n.is_empty() || n.contains('\0'));
        if let Some(long) = long {
            let why = format!("the name {long:?} is not one of 1 to {NAME_BYTES} bytes");
            return Err(self.misfit(collection, &why));
        }
        let mut columns = Vec::new();
        for (name, kind) in names.iter().zip(kinds) {
            let kind = match kind {
                KeyKind::Int => "bigint",
                KeyKind::Uuid => "uuid",
                // So that scans follow the keys' own order.
                KeyKind::Text => "text COLLATE \"C\"",
                KeyKind::Tuple(_) => {
                    return Err(self.misfit(collection, "a key's part is a tuple itself"));
                }
            };
            columns.push(format!("{} {kind}", quoted(name)));
        }
        let quoted_names: Vec<String> = names.iter().map(|n| quoted(n)).collect();
        let schema = schema
            .map(|s| format!("{}.", quoted(s)))
            .unwrap_or_default();
        Ok(format!(
            "CREATE TABLE IF NOT EXISTS {schema}{} ({}, {} jsonb NOT NULL, PRIMARY KEY ({}))",
            quoted(table),
            columns.join(", "),
            quoted(data),
            quoted_names.join(", ")
        ))
    }

    fn refuse_if_read_only(&self) -> Result<(), StoreError> {
        let why = match (self.connections.is_frozen(), self.options.read_only) {
            (true, _) => "a snapshot is for reading only",
            (_, true) => "the store was opened read-only",
            _ => return Ok(()),
        };
        Err(self.terminal(Code::StoreDenied, format!("nothing was written: {why}")))
    }
}

#[async_trait]
impl Store for PgStore {
    fn name(&self) -> &str {
        &self.connections.name
    }

    fn limits(&self) -> Limits {
        Limits {
            batch_writes: BATCH_WRITES,
            batch_bytes: BATCH_BYTES,
            document_bytes: DOCUMENT_BYTES,
            key_order: self.key_order.load(Ordering::Relaxed),
            parallel: PARALLEL,
        }
    }

    async fn collections(&self) -> Result<Vec<String>, StoreError> {
        let client = self.connections.get().await?;
        let failed = |error| self.plain_failure("listing the tables", error);
        let rows = client.query(TABLES, &[]).await.map_err(failed)?;
        // A table goes by its collection's name, where it has one.
        let configured = &self.options.collections;
        let mut names: Vec<String> = configured.keys().cloned().collect();
        let tables: Vec<&str> = configured
            .values()
            .filter_map(|c| c.table.as_deref())
            .collect();
        for row in rows {
            let name: String = row.try_get(0).map_err(failed)?;
            if !names.contains(&name) && !tables.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    async fn describe(&self, collection: &str) -> Result<Option<Description>, StoreError> {
        let Some(table) = self.find(collection).await? else {
            return Ok(None);
        };
        let client = self.connections.get().await?;
        let failed = |error| self.failed(&table, "measuring a table", error);
        let Some(row) = client
            .query_opt(SIZE, &[&table.oid])
            .await
            .map_err(failed)?
        else {
            return Ok(None);
        };
        let documents: Option<i64> = row.try_get(0).map_err(failed)?;
        let bytes: Option<i64> = row.try_get(1).map_err(failed)?;
        Ok(Some(Description {
            layout: table.layout(),
            key: table.kind(),
            documents: documents.and_then(|n| u64::try_from(n).ok()),
            bytes: bytes.and_then(|n| u64::try_from(n).ok()),
        }))
    }

    async fn ensure(&self, collection: &str, key: &KeyKind) -> Result<(), StoreError> {
        self.refuse_if_read_only()?;
        if self.find(collection).await?.is_some() {
            return Ok(());
        }
        let sql = self.create_sql(collection, key)?;
        let client = self.connections.get().await?;
        let made = client.batch_execute(&sql).await;
        // Two that create at once collide in the catalogue; the loser finds the winner's table.
        let found = self.find(collection).await?;
        match made {
            Err(error) if found.is_none() => Err(self.plain_failure(
                &format!("creating the table of collection {collection:?}"),
                error,
            )),
            _ => Ok(()),
        }
    }

    async fn count(&self, collection: &str, range: &KeyRange) -> Result<u64, StoreError> {
        let table = self.table(collection).await?;
        let mut client = self.connections.get().await?;
        read::count(&mut client, self.connections.is_frozen(), &table, range)
            .await
            .map_err(|error| {
                self.failed(
                    &table,
                    &format!("counting collection {collection:?}"),
                    error,
                )
            })
    }

    async fn partitions(
        &self,
        collection: &str,
        range: &KeyRange,
        parts: u32,
    ) -> Result<Vec<KeyRange>, StoreError> {
        let table = self.table(collection).await?;
        let client = self.connections.get().await?;
        read::partitions(self, &client, &table, range, parts).await
    }

    async fn scan(
        &self,
        collection: &str,
        range: &KeyRange,
        limit: u32,
        bytes: usize,
    ) -> Result<Page, StoreError> {
        let table = self.table(collection).await?;
        let client = self.connections.get().await?;
        read::scan(self, &client, &table, range, limit, bytes).await
    }

    async fn get(
        &self,
        collection: &str,
        keys: &[Key],
    ) -> Result<Vec<Option<Document>>, StoreError> {
        let table = self.table(collection).await?;
        let client = self.connections.get().await?;
        read::get(self, &client, &table, keys).await
    }

    async fn held(
        &self,
        collection: &str,
        keys: &[Key],
        bodies: Vec<Body>,
    ) -> Result<Vec<Body>, StoreError> {
        let table = self.table(collection).await?;
        held::held(self, &table, keys, bodies).await
    }

    async fn write(&self, writes: &[Write]) -> Result<Vec<WriteOutcome>, StoreError> {
        self.refuse_if_read_only()?;
        let mut tables: Vec<Arc<Table>> = Vec::with_capacity(writes.len());
        for write in writes {
            let same = tables.last().filter(|t| t.collection == write.collection);
            let table = match same {
                Some(table) => table.clone(),
                None => self.table(&write.collection).await?,
            };
            tables.push(table);
        }
        write::write(self, writes, &tables).await
    }

    async fn digests(
        &self,
        collection: &str,
        cells: &Cells,
    ) -> Result<Option<Digests>, StoreError> {
        let table = self.table(collection).await?;
        let client = self.connections.get().await?;
        digest::digests(self, &client, &table, cells).await
    }

    async fn digest_lines(
        &self,
        collection: &str,
        cells: &Cells,
        wanted: &[Cell],
    ) -> Result<Option<Vec<DigestLine>>, StoreError> {
        let table = self.table(collection).await?;
        let client = self.connections.get().await?;
        digest::lines(self, &client, &table, cells, wanted).await
    }

    async fn statement(&self, text: &str) -> Result<StatementOutcome, StoreError> {
        self.refuse_if_read_only()?;
        statement::run(self, text).await
    }

    async fn snapshot(&self) -> Result<Option<Arc<dyn Store>>, StoreError> {
        let connections = self.connections.frozen().await?;
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        Ok(Some(Arc::new(Self {
            connections,
            options: self.options.clone(),
            tables: RwLock::new(tables.clone()),
            key_order: AtomicBool::new(self.key_order.load(Ordering::Relaxed)),
        })))
    }
}
