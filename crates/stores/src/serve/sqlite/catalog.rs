//! Which tables are served, as which collections.

use super::layout::{NOW, Watched, times_table, trigger_prefix};
use crate::sqlite::error::{store_error, terminal};
use crate::sqlite::one_key;
use crate::sqlite::sql::quote;
use crate::sqlite::table::{Payload, Table, inspect};
use crate::{CollectionConfig, LayoutChoice, OpenOptions};
use rusqlite::Connection;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use whimbrel_firestore::Micros;
use whimbrel_model::{Code, KeyKind, StoreError};

/// The served tables, as of one version of the database's schema.
#[derive(Clone, Debug, Default)]
pub(super) struct Catalog {
    pub(super) version: i64,
    /// Whether a write of the gateway's can change another document than the one it names: by triggers of the
    /// app's own, or by what references a table.
    pub(super) chained: bool,
    entries: BTreeMap<Arc<str>, Entry>,
    by_id: HashMap<i64, Arc<Served>>,
}

#[derive(Clone, Debug)]
enum Entry {
    Served(Arc<Served>),
    /// There is a table, and it cannot be served: why.
    Refused(String),
}

/// A served table.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) id: i64,
    pub(super) name: Arc<str>,
    pub(super) table: String,
    /// Since when it is served: what stood there before counts as made then.
    pub(super) adopted: Micros,
    pub(super) blob: bool,
    /// Whether a row's id is a number of its own, and not the key.
    pub(super) rowid: bool,
    /// The statements; names in them are quoted. A row with its times, by its key.
    pub(super) get: String,
    /// A row's change, by its key.
    pub(super) change: String,
    /// Key and data.
    pub(super) insert: String,
    /// Row and data.
    pub(super) update: String,
    pub(super) delete: String,
    /// Row, key, created, updated, change.
    pub(super) time: String,
    /// Row and key.
    pub(super) no_time: String,
    pub(super) any: String,
    /// Of tables that just came: what stands there, as changes.
    pub(super) tell: String,
    pub(super) from: String,
    pub(super) key: String,
    pub(super) data: String,
}

impl Served {
    fn new(id: i64, name: &str, adopted: Micros, table: &Table, key: &str) -> Self {
        let plain = quote(&table.name);
        let (bare, data) = (quote(key), table.sql.data());
        let row = table.rowid.unwrap_or(&bare);
        let times = times_table(id);
        let join = format!("LEFT JOIN {times} AS t ON t.id = d.{row} AND t.key = d.{bare}");
        let texts = format!("d.{bare} >= '' AND d.{bare} < x''");
        Self {
            id,
            name: name.into(),
            table: table.name.clone(),
            adopted,
            blob: matches!(table.payload, Payload::Json { blob: true }),
            rowid: table.rowid.is_some(),
            get: format!(
                "SELECT d.{data}, t.created, t.updated, t.seq, d.{row} \
                 FROM {plain} AS d {join} WHERE d.{bare} = ?1"
            ),
            change: format!("SELECT t.seq FROM {plain} AS d {join} WHERE d.{bare} = ?1"),
            insert: format!("INSERT OR ABORT INTO {plain} ({bare}, {data}) VALUES (?1, ?2)"),
            update: format!("UPDATE OR ABORT {plain} SET {data} = ?2 WHERE {row} = ?1"),
            delete: format!("DELETE FROM {plain} WHERE {row} = ?1"),
            time: format!(
                "INSERT OR REPLACE INTO {times} (id, key, created, updated, seq) VALUES (?1, ?2, ?3, ?4, ?5)"
            ),
            no_time: format!("DELETE FROM {times} WHERE id = ?1 AND key = ?2"),
            any: format!("SELECT 1 FROM {plain} AS d WHERE {texts} LIMIT 1"),
            tell: format!(
                "INSERT INTO _whimbrel_log (at, collection, key, other)
                 SELECT {adopted}, {id}, d.{bare}, 1 FROM {plain} AS d WHERE {texts};
                 INSERT INTO {times} (id, key, created, updated, seq)
                 SELECT d.{row}, l.key, l.at, l.at, l.seq FROM _whimbrel_log AS l
                 JOIN {plain} AS d ON d.{bare} = l.key WHERE l.collection = {id};"
            ),
            from: format!("{} {join}", table.sql.indexed("d")),
            key: format!("d.{bare}"),
            data: format!("d.{data}"),
        }
    }
}

/// Collections that are no user's: side tables, of serving and of everything else of Whimbrel's.
const RESERVED: &str = "_whimbrel_";

impl Catalog {
    /// The table of a collection; `None` where there is none.
    ///
    /// # Errors
    /// There is a table, and it cannot be served.
    pub(super) fn find(&self, store: &str, name: &str) -> Result<Option<&Arc<Served>>, StoreError> {
        if name.starts_with(RESERVED) || name.contains('\0') {
            let why = format!("collection {name:?} cannot be served: its name is reserved");
            return Err(terminal(store, Code::StoreShape, why));
        }
        match self.entries.get(name) {
            Some(Entry::Served(served)) => Ok(Some(served)),
            Some(Entry::Refused(why)) => Err(terminal(store, Code::StoreShape, why)),
            None => Ok(None),
        }
    }

    pub(super) fn by_id(&self, id: i64) -> Option<&Arc<Served>> {
        self.by_id.get(&id)
    }

    /// In the order of names.
    pub(super) fn served(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.entries.values().filter_map(|entry| match entry {
            Entry::Served(served) => Some(served),
            Entry::Refused(_) => None,
        })
    }

    fn add(&mut self, served: Served) -> Arc<Served> {
        let served = Arc::new(served);
        self.by_id.insert(served.id, served.clone());
        let entry = Entry::Served(served.clone());
        self.entries.insert(served.name.clone(), entry);
        served
    }
}

pub(super) fn schema_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("PRAGMA schema_version")?
        .query_row([], |row| row.get(0))
}

/// Finds the tables and makes them served, in the transaction that is open.
pub(super) struct Surveyor<'c> {
    pub(super) connection: &'c Connection,
    pub(super) store: &'c str,
    pub(super) options: &'c OpenOptions,
}

/// A row of `_whimbrel_collections`.
struct Known {
    id: i64,
    name: String,
    table: String,
    adopted: Micros,
}

/// A trigger of ours that is there: its table and its text.
type Triggers = HashMap<String, (String, String)>;

impl Surveyor<'_> {
    fn failed(&self, error: rusqlite::Error) -> StoreError {
        store_error(self.store, "find the served tables", error)
    }

    /// All of them, anew.
    pub(super) fn survey(&self) -> Result<Catalog, StoreError> {
        let known = self.known().map_err(|e| self.failed(e))?;
        let mut triggers = self.triggers().map_err(|e| self.failed(e))?;
        let tables = self.tables().map_err(|e| self.failed(e))?;
        let mut catalog = Catalog::default();
        let mut kept = Vec::new();
        for table in tables {
            let mut known = known.iter();
            let there = known.find(|known| known.table == table && self.may_be(known));
            let name = match there {
                Some(known) => known.name.clone(),
                None => self.name_of(&table),
            };
            let claimed = self.config(&name).table.is_some_and(|other| other != table);
            if claimed || (there.is_none() && (hidden(&name) || hidden(&table))) {
                continue;
            }
            let (found, key) = match self.look(&name, &table)? {
                Ok(found) => found,
                Err(why) => {
                    catalog.entries.insert(name.into(), Entry::Refused(why));
                    continue;
                }
            };
            let prefix = there.map(|known| trigger_prefix(known.id));
            let watched = prefix.is_some_and(|prefix| {
                let mut triggers = triggers.iter();
                triggers.any(|(name, (on, _))| name.starts_with(&prefix) && *on == table)
            });
            let (id, adopted) = match there {
                Some(known) if watched => (known.id, known.adopted),
                _ => self
                    .adopt(&name, &table, None)
                    .map_err(|e| self.failed(e))?,
            };
            let served = Served::new(id, &name, adopted, &found, &key);
            self.watch(&served, &found, &key, &mut triggers)
                .map_err(|e| self.failed(e))?;
            if !watched {
                self.tell(&served).map_err(|e| self.failed(e))?;
            }
            kept.push(id);
            catalog.add(served);
        }
        self.let_go(&known, &kept, &triggers)
            .map_err(|e| self.failed(e))?;
        catalog.chained = self.chained().map_err(|e| self.failed(e))?;
        catalog.version = schema_version(self.connection).map_err(|e| self.failed(e))?;
        Ok(catalog)
    }

    fn chained(&self) -> rusqlite::Result<bool> {
        self.connection
            .prepare_cached(
                "SELECT 1 FROM sqlite_master WHERE name NOT LIKE '\\_whimbrel\\_%' ESCAPE '\\'
                 AND (type = 'trigger' OR (type = 'table' AND sql LIKE '%REFERENCES%'))",
            )?
            .exists([])
    }

    /// Makes a table for a collection that has none, at a time after the last change's.
    pub(super) fn create(
        &self,
        catalog: &mut Catalog,
        name: &str,
        at: Micros,
    ) -> Result<Arc<Served>, StoreError> {
        let config = self.config(name);
        let table = match &config.table {
            Some(table) => table.clone(),
            None => self.free_name(name).map_err(|e| self.failed(e))?,
        };
        if config.layout == LayoutChoice::Columns || config.rest.is_some() || config.key.len() > 1 {
            let why =
                format!("there is no table {table:?}, and only tables of one JSON column are made");
            return Err(terminal(self.store, Code::StoreShape, why));
        }
        let key = quote(config.key.first().map_or("id", String::as_str));
        let data = quote(config.data.as_deref().unwrap_or("data"));
        let columns = one_key(&key, &KeyKind::Text, &data);
        self.connection
            .execute_batch(&format!("CREATE TABLE {} ({columns})", quote(&table)))
            .map_err(|e| store_error(self.store, &format!("create table {table:?}"), e))?;
        let (found, key) = self
            .look(name, &table)?
            .map_err(|why| terminal(self.store, Code::StoreShape, why))?;
        let adopted = self.adopt(name, &table, Some(at));
        let (id, adopted) = adopted.map_err(|e| self.failed(e))?;
        let served = Served::new(id, name, adopted, &found, &key);
        self.watch(&served, &found, &key, &mut Triggers::new())
            .map_err(|e| self.failed(e))?;
        catalog.version = schema_version(self.connection).map_err(|e| self.failed(e))?;
        Ok(catalog.add(served))
    }

    /// Whether the project's file still says so.
    fn may_be(&self, known: &Known) -> bool {
        self.config(&known.name)
            .table
            .is_none_or(|table| table == known.table)
            && (self.name_of(&known.table) == known.name || known.table != known.name)
    }

    fn config(&self, collection: &str) -> CollectionConfig {
        let configured = self.options.collections.get(collection);
        configured.cloned().unwrap_or_default()
    }

    /// What a table's collection is called.
    fn name_of(&self, table: &str) -> String {
        let mut configured = self.options.collections.iter();
        let named = configured.find(|(_, config)| config.table.as_deref() == Some(table));
        named.map_or(table, |(name, _)| name).to_owned()
    }

    /// A table and its key's column, or why the table cannot be served.
    fn look(&self, name: &str, table: &str) -> Result<Result<(Table, String), String>, StoreError> {
        let mut config = self.config(name);
        config.table = Some(table.to_owned());
        let found = match inspect(self.connection, self.store, name, &config) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Err(format!("there is no table {table:?}"))),
            Err(error) if error.code == Code::StoreShape => return Ok(Err(error.message)),
            Err(error) => return Err(error),
        };
        let refused = |why: &str| {
            Ok(Err(format!(
                "table {table:?} cannot be served as collection {name:?}: {why}"
            )))
        };
        if config.plain {
            return refused("`plain = true` would lose types; serve it without");
        }
        if !matches!(found.payload, Payload::Json { .. }) {
            return refused(
                "its columns are fields; from SQLite only tables of a key and one JSON column are served \
                 (name the column with `data` if it has one)",
            );
        }
        match found.keys.as_slice() {
            [key] if key.binary && !matches!(key.kind, KeyKind::Int | KeyKind::Tuple(_)) => {
                let key = key.name.clone();
                Ok(Ok((found, key)))
            }
            _ => refused("its key is not one column of texts, compared byte by byte"),
        }
    }

    /// SQLite's names of tables ignore the case of ASCII letters, and some are its own.
    fn free_name(&self, collection: &str) -> rusqlite::Result<String> {
        let taken = |name: &str| -> rusqlite::Result<bool> {
            self.connection
                .prepare_cached(
                    "SELECT count(*) FROM sqlite_master WHERE name = ?1 COLLATE NOCASE",
                )?
                .query_row([name], |row| row.get::<_, i64>(0))
                .map(|count| count > 0)
        };
        let reserved = collection
            .get(..7)
            .is_some_and(|start| start.eq_ignore_ascii_case("sqlite_"));
        let mut name = collection.to_owned();
        let mut number = 1;
        while (number == 1 && reserved) || taken(&name)? {
            number += 1;
            name = format!("~{collection}~{number}");
        }
        Ok(name)
    }

    fn known(&self) -> rusqlite::Result<Vec<Known>> {
        self.connection
            .prepare_cached(
                "SELECT id, name, tbl, adopted FROM _whimbrel_collections WHERE name IS NOT NULL",
            )?
            .query_map([], |row| {
                Ok(Known {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    table: row.get(2)?,
                    adopted: row.get(3)?,
                })
            })?
            .collect()
    }

    fn triggers(&self) -> rusqlite::Result<Triggers> {
        self.connection
            .prepare_cached(
                "SELECT name, tbl_name, sql FROM sqlite_master
                 WHERE type = 'trigger' AND name LIKE '\\_whimbrel\\_%' ESCAPE '\\'",
            )?
            .query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?
            .collect()
    }

    fn tables(&self) -> rusqlite::Result<Vec<String>> {
        self.connection
            .prepare_cached(
                "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'
                 AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
                 AND name NOT LIKE '\\_whimbrel\\_%' ESCAPE '\\' ORDER BY name",
            )?
            .query_map([], |row| row.get(0))?
            .collect()
    }

    /// Notes a table as a collection; its number and since when it is one (now, where no time is given).
    fn adopt(
        &self,
        name: &str,
        table: &str,
        at: Option<Micros>,
    ) -> rusqlite::Result<(i64, Micros)> {
        let one = "UPDATE _whimbrel_collections SET name = NULL, tbl = NULL WHERE name = ?1";
        self.connection.prepare_cached(one)?.execute([name])?;
        let at = match at {
            Some(at) => at,
            // Noted as a change, so that the time is one that views are of.
            None => self
                .connection
                .prepare_cached(&format!(
                    "INSERT INTO _whimbrel_log (at, collection, key) SELECT {NOW}, 0, '' RETURNING at"
                ))?
                .query_row([], |row| row.get(0))?,
        };
        self.connection
            .prepare_cached(
                "INSERT INTO _whimbrel_collections (name, tbl, adopted) VALUES (?1, ?2, ?3)",
            )?
            .execute(rusqlite::params![name, table, at])?;
        Ok((self.connection.last_insert_rowid(), at))
    }

    /// Makes the triggers that are not there or not as they should be.
    fn watch(
        &self,
        served: &Served,
        table: &Table,
        key: &str,
        there: &mut Triggers,
    ) -> rusqlite::Result<()> {
        let data = unquote(table.sql.data());
        let watched = Watched {
            id: served.id,
            table: &served.table,
            key,
            data: &data,
            rowid: table.rowid,
            adopted: served.adopted,
        };
        let times = times_table(served.id);
        let timed = self
            .connection
            .prepare_cached("SELECT 1 FROM sqlite_master WHERE name = ?1")?
            .exists([&times])?;
        if !timed {
            self.connection.execute_batch(&watched.times())?;
        }
        for (name, sql) in watched.triggers() {
            match there.remove(&name) {
                Some((_, text)) if text == sql => continue,
                Some(_) => self.drop_trigger(&name)?,
                None => {}
            }
            self.connection.execute_batch(&sql)?;
        }
        Ok(())
    }

    fn drop_trigger(&self, name: &str) -> rusqlite::Result<()> {
        let sql = format!("DROP TRIGGER IF EXISTS {}", quote(name));
        self.connection.execute_batch(&sql)
    }

    /// What stands in a table that just came is news to the indexes, if there are any.
    fn tell(&self, served: &Served) -> rusqlite::Result<()> {
        let indexed: bool = self
            .connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM _whimbrel_indexes)")?
            .query_row([], |row| row.get(0))?;
        if !indexed {
            return Ok(());
        }
        self.connection.execute_batch(&served.tell)
    }

    /// Forgets the tables that are no more, or no more what they were.
    fn let_go(&self, known: &[Known], kept: &[i64], triggers: &Triggers) -> rusqlite::Result<()> {
        for name in triggers.keys() {
            self.drop_trigger(name)?;
        }
        for gone in known.iter().filter(|known| !kept.contains(&known.id)) {
            let times = times_table(gone.id);
            self.connection
                .execute_batch(&format!("DROP TABLE IF EXISTS {times}"))?;
            for sql in [
                "UPDATE _whimbrel_collections SET name = NULL, tbl = NULL WHERE id = ?1",
                "DELETE FROM _whimbrel_gone WHERE collection = ?1",
                "DELETE FROM _whimbrel_lines WHERE collection = ?1",
                // Nobody will take in what others did to it, and what is not settled is not forgotten.
                "UPDATE _whimbrel_log SET other = 0 WHERE other = 1 AND collection = ?1",
            ] {
                self.connection.prepare_cached(sql)?.execute([gone.id])?;
            }
        }
        Ok(())
    }
}

fn unquote(name: &str) -> String {
    let inside = name
        .strip_prefix('"')
        .and_then(|name| name.strip_suffix('"'));
    inside.unwrap_or(name).replace("\"\"", "\"")
}

/// As the store hides them from its list of collections.
fn hidden(name: &str) -> bool {
    name.to_ascii_lowercase().contains("whimbrel_")
}
