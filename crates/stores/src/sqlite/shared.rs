//! What is known of a database, whichever connection works on it.

use super::error::{store_error, terminal};
use super::partitions;
use super::sql::quote;
use super::table::{self, Table};
use crate::{CollectionConfig, LayoutChoice, OpenOptions};
use rusqlite::Connection;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use whimbrel_model::store::Description;
use whimbrel_model::{Code, KeyKind, StoreError};

/// What the work on every connection shares.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) options: OpenOptions,
    /// By the collection; good while the database's schema has the same version.
    tables: Mutex<HashMap<String, (i64, Arc<Table>)>>,
    pub(super) key_order: AtomicBool,
}

/// It grows with every change of the schema, and with every `VACUUM`.
pub(super) fn schema_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("PRAGMA schema_version")?
        .query_row([], |r| r.get(0))
}

impl Shared {
    pub(super) fn new(name: String, options: OpenOptions, key_order: bool) -> Self {
        Self {
            name,
            options,
            tables: Mutex::default(),
            key_order: AtomicBool::new(key_order),
        }
    }

    fn config(&self, collection: &str) -> CollectionConfig {
        let configured = self.options.collections.get(collection);
        configured.cloned().unwrap_or_default()
    }

    pub(super) fn version(&self, connection: &Connection) -> Result<i64, StoreError> {
        schema_version(connection).map_err(|e| store_error(&self.name, "read the database", e))
    }

    /// Finds out at once whether the file is a database, and in which order its keys stand.
    pub(super) fn look(&self, connection: &Connection) -> Result<(), StoreError> {
        self.version(connection)?;
        for collection in self.collections(connection)? {
            match self.find(connection, &collection) {
                // A table that can be no collection is an error only for who asks for it.
                Ok(_) => {}
                Err(error) if error.code == Code::StoreShape => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn find(
        &self,
        connection: &Connection,
        collection: &str,
    ) -> Result<Option<Arc<Table>>, StoreError> {
        let version = self.version(connection)?;
        let cached = {
            let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
            tables.get(collection).cloned()
        };
        if let Some((seen, table)) = cached
            && seen == version
        {
            return Ok(Some(table));
        }
        let config = self.config(collection);
        let Some(table) = table::inspect(connection, &self.name, collection, &config)? else {
            return Ok(None);
        };
        if !table.key_order() {
            self.key_order.store(false, Ordering::Relaxed);
        }
        let table = Arc::new(table);
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.insert(collection.to_owned(), (version, table.clone()));
        Ok(Some(table))
    }

    pub(super) fn table(
        &self,
        connection: &Connection,
        collection: &str,
    ) -> Result<Arc<Table>, StoreError> {
        self.find(connection, collection)?.ok_or_else(|| {
            let table = self.config(collection).table;
            let table = table.as_deref().unwrap_or(collection);
            terminal(
                &self.name,
                Code::StoreMissing,
                format!("there is no table {table:?} for collection {collection:?}"),
            )
        })
    }

    pub(super) fn collections(&self, connection: &Connection) -> Result<Vec<String>, StoreError> {
        let read = || -> rusqlite::Result<Vec<String>> {
            connection
                .prepare(
                    "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'
                     AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
                     AND name NOT LIKE '%whimbrel\\_%' ESCAPE '\\'",
                )?
                .query_map([], |r| r.get(0))?
                .collect()
        };
        let tables = read().map_err(|e| store_error(&self.name, "list the tables", e))?;
        let configured = &self.options.collections;
        let claimed: BTreeSet<&str> = configured
            .values()
            .filter_map(|c| c.table.as_deref())
            .collect();
        let mut names: BTreeSet<String> = configured.keys().cloned().collect();
        names.extend(tables.into_iter().filter(|t| !claimed.contains(t.as_str())));
        Ok(names.into_iter().collect())
    }

    pub(super) fn describe(
        &self,
        connection: &Connection,
        collection: &str,
    ) -> Result<Option<Description>, StoreError> {
        let Some(table) = self.find(connection, collection)? else {
            return Ok(None);
        };
        let documents = partitions::estimate(connection, &table)
            .map_err(|e| store_error(&self.name, "estimate the documents", e))?;
        Ok(Some(Description {
            layout: table.layout(),
            key: table.kind(),
            documents,
            bytes: None,
        }))
    }

    pub(super) fn create(
        &self,
        connection: &Connection,
        collection: &str,
        key: &KeyKind,
    ) -> Result<(), StoreError> {
        if self.find(connection, collection)?.is_some() {
            return Ok(());
        }
        let config = self.config(collection);
        let name = config.table.as_deref().unwrap_or(collection);
        let shape = |why: String| terminal(&self.name, Code::StoreShape, why);
        if config.layout == LayoutChoice::Columns || config.rest.is_some() {
            return Err(shape(format!(
                "there is no table {name:?}; create it first, with the columns it shall have"
            )));
        }
        let kinds = match key {
            KeyKind::Tuple(kinds) => kinds.clone(),
            one => vec![one.clone()],
        };
        let columns: Vec<String> = match (config.key.len(), kinds.len()) {
            (0, 1) => vec!["id".to_owned()],
            (0, n) => (1..=n).map(|i| format!("id{i}")).collect(),
            (n, m) if n == m => config.key.clone(),
            (n, m) => {
                return Err(shape(format!(
                    "`key` names {n} columns for keys of {m} parts"
                )));
            }
        };
        let data = quote(config.data.as_deref().unwrap_or("data"));
        let names: Vec<String> = columns.iter().map(|c| quote(c)).collect();
        let sql = match kinds.as_slice() {
            [one] => one_key(&names[0], one, &data),
            many => {
                let parts: Vec<String> = names
                    .iter()
                    .zip(many)
                    .map(|(name, kind)| format!("{name} {} NOT NULL", declared(kind)))
                    .collect();
                let (parts, key) = (parts.join(", "), names.join(", "));
                format!("{parts}, {data} TEXT NOT NULL, PRIMARY KEY ({key})")
            }
        };
        connection
            .execute_batch(&format!(
                "CREATE TABLE IF NOT EXISTS {} ({sql})",
                quote(name)
            ))
            .map_err(|e| store_error(&self.name, &format!("create table {name:?}"), e))?;
        self.table(connection, collection).map(|_| ())
    }
}

/// The columns of a collection whose keys have one part; names are quoted.
pub(crate) fn one_key(key: &str, kind: &KeyKind, data: &str) -> String {
    format!(
        "{key} {} PRIMARY KEY NOT NULL, {data} TEXT NOT NULL",
        declared(kind)
    )
}

/// `UUID TEXT` has the affinity of texts, and tells a reader that the texts are UUIDs.
fn declared(kind: &KeyKind) -> &'static str {
    match kind {
        KeyKind::Int => "INTEGER",
        KeyKind::Uuid => "UUID TEXT",
        KeyKind::Text | KeyKind::Tuple(_) => "TEXT",
    }
}
