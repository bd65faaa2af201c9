//! What a collection's table looks like, found out from the database.

use super::error::{store_error, terminal};
use super::field::{Affinity, Field};
use super::key::KeyColumn;
use super::sql::{Sql, quote};
use crate::body::is_object;
use crate::{CollectionConfig, LayoutChoice};
use rusqlite::{Connection, OptionalExtension};
use whimbrel_model::store::{Column, Layout};
use whimbrel_model::{Code, KeyKind, StoreError};

/// A table as one collection. The select list is: key columns, row id, payload columns.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) keys: Vec<KeyColumn>,
    pub(crate) payload: Payload,
    /// The name under which a row's id can be asked for; `None` where the table has none.
    pub(crate) rowid: Option<&'static str>,
    /// The key is the row id itself.
    pub(super) key_is_rowid: bool,
    pub(super) plain: bool,
    pub(crate) sql: Sql,
}

#[derive(Debug)]
pub(crate) enum Payload {
    Json {
        blob: bool,
    },
    Columns {
        fields: Vec<Field>,
        rest: Option<Rest>,
    },
}

#[derive(Debug)]
pub(crate) struct Rest {
    pub(super) name: String,
    pub(super) affinity: Affinity,
    pub(super) nullable: bool,
}

impl Table {
    /// Where the payload begins in the select list.
    pub(super) fn payload_at(&self) -> usize {
        self.keys.len() + 1
    }

    pub(super) fn payload_columns(&self) -> usize {
        match &self.payload {
            Payload::Json { .. } => 1,
            Payload::Columns { fields, rest } => fields.len() + usize::from(rest.is_some()),
        }
    }

    pub(super) fn kind(&self) -> KeyKind {
        match self.keys.as_slice() {
            [one] => one.kind.clone(),
            many => KeyKind::Tuple(many.iter().map(|k| k.kind.clone()).collect()),
        }
    }

    /// Whether the store walks the keys as [`whimbrel_model::Key`] orders them. A UUID column may hold
    /// texts that are no canonical UUIDs, which sort among the others here and behind them there.
    pub(super) fn key_order(&self) -> bool {
        self.keys
            .iter()
            .all(|k| k.kind == KeyKind::Int || (k.binary && k.kind == KeyKind::Text))
    }

    pub(super) fn layout(&self) -> Layout {
        match &self.payload {
            Payload::Json { .. } => Layout::Json,
            Payload::Columns { fields, .. } => Layout::Columns(
                fields
                    .iter()
                    .map(|f| Column {
                        name: f.name.clone(),
                        kind: f.declared.clone(),
                        nullable: f.nullable,
                    })
                    .collect(),
            ),
        }
    }
}

/// One row of `PRAGMA table_xinfo`, generated columns left out: they follow from the others.
#[derive(Debug)]
struct Info {
    name: String,
    declared: String,
    not_null: bool,
    /// Place in the primary key, from 1.
    primary: u32,
}

struct Found<'a> {
    store: &'a str,
    collection: &'a str,
    table: &'a str,
    columns: Vec<Info>,
    strict: bool,
    without_rowid: bool,
}

/// `None` when there is no such table.
pub(crate) fn inspect(
    connection: &Connection,
    store: &str,
    collection: &str,
    config: &CollectionConfig,
) -> Result<Option<Table>, StoreError> {
    let failed = |e| store_error(store, &format!("inspect the table of {collection:?}"), e);
    let table = config.table.as_deref().unwrap_or(collection);
    let Some(found) = find(connection, store, collection, table).map_err(failed)? else {
        return Ok(None);
    };
    let (keys, index) = found.keys(connection, config)?;
    let others: Vec<&Info> = found
        .columns
        .iter()
        .filter(|c| !keys.iter().any(|k| k.name == c.name))
        .collect();
    let data = found.data_column(connection, config, &keys, &others)?;
    let payload = match data {
        Some(data) => Payload::Json {
            blob: Affinity::of(&data.declared, found.strict) == Affinity::Blob
                && !data.declared.is_empty(),
        },
        None => found.fields(config, &keys)?,
    };
    let rowid = (!found.without_rowid)
        .then(|| {
            ["rowid", "_rowid_", "oid"]
                .into_iter()
                .find(|n| !found.columns.iter().any(|c| c.name.eq_ignore_ascii_case(n)))
        })
        .flatten();
    let payload_columns: Vec<&str> = match &payload {
        Payload::Json { .. } => data.iter().map(|c| c.name.as_str()).collect(),
        Payload::Columns { fields, rest } => fields
            .iter()
            .map(|f| f.name.as_str())
            .chain(rest.as_ref().map(|r| r.name.as_str()))
            .collect(),
    };
    let sql = Sql::new(table, &keys, rowid, &index, &payload_columns);
    check_order(connection, &sql, &found, &keys)?;
    let key_is_rowid = index == "NOT INDEXED" && !found.without_rowid;
    Ok(Some(Table {
        name: table.to_owned(),
        keys,
        payload,
        rowid,
        key_is_rowid,
        plain: config.plain,
        sql,
    }))
}

fn find<'a>(
    connection: &Connection,
    store: &'a str,
    collection: &'a str,
    table: &'a str,
) -> rusqlite::Result<Option<Found<'a>>> {
    let flags = connection
        .prepare_cached(
            "SELECT wr, strict FROM pragma_table_list WHERE schema = 'main' AND name = ?1 COLLATE NOCASE",
        )?
        .query_row([table], |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()?;
    let Some((without_rowid, strict)) = flags else {
        return Ok(None);
    };
    let columns = connection
        .prepare_cached(
            "SELECT name, type, \"notnull\", pk FROM pragma_table_xinfo(?1) WHERE hidden = 0",
        )?
        .query_map([table], |r| {
            Ok(Info {
                name: r.get(0)?,
                declared: r.get(1)?,
                not_null: r.get(2)?,
                primary: r.get(3)?,
            })
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(Some(Found {
        store,
        collection,
        table,
        columns,
        strict,
        without_rowid,
    }))
}

struct Index {
    name: String,
    primary: bool,
    columns: Vec<(Option<String>, String)>,
}

impl Found<'_> {
    fn shape(&self, why: impl std::fmt::Display) -> StoreError {
        let (table, collection) = (self.table, self.collection);
        terminal(
            self.store,
            Code::StoreShape,
            format!("table {table:?} cannot serve as collection {collection:?}: {why}"),
        )
    }

    fn column(&self, name: &str) -> Result<&Info, StoreError> {
        self.columns
            .iter()
            .find(|c| c.name.eq_ignore_ascii_case(name))
            .ok_or_else(|| self.shape(format_args!("it has no column {name:?}")))
    }

    /// The key's columns and the index that keeps them in order, as a clause.
    // tidy: long because it weighs the ways in which SQLite can say what a key is, one after the other.
    fn keys(
        &self,
        connection: &Connection,
        config: &CollectionConfig,
    ) -> Result<(Vec<KeyColumn>, String), StoreError> {
        let mut columns: Vec<&Info> = Vec::new();
        for name in &config.key {
            columns.push(self.column(name)?);
        }
        if columns.is_empty() {
            columns = self.columns.iter().filter(|c| c.primary > 0).collect();
            columns.sort_by_key(|c| c.primary);
        }
        if columns.is_empty() {
            return Err(self.shape(
                "it has no primary key; name columns that have a unique index with `key = [\"…\"]`",
            ));
        }
        let indexes = self
            .indexes(connection)
            .map_err(|e| store_error(self.store, "read the table's indexes", e))?;
        let primary: Vec<&Info> = self.columns.iter().filter(|c| c.primary > 0).collect();
        let alias = match primary.as_slice() {
            [one]
                if !self.without_rowid
                    && one.declared.eq_ignore_ascii_case("integer")
                    && !indexes.iter().any(|i| i.primary) =>
            {
                Some(one.name.as_str())
            }
            _ => None,
        };
        let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
        if names.len() == 1 && alias == names.first().copied() {
            let key = KeyColumn {
                name: names[0].to_owned(),
                kind: KeyKind::Int,
                affinity: Affinity::Integer,
                rowid: true,
                binary: true,
                nullable: false,
            };
            return Ok((vec![key], "NOT INDEXED".to_owned()));
        }
        let index = indexes
            .iter()
            .find(|i| {
                i.columns
                    .iter()
                    .map(|(c, _)| c.as_deref())
                    .eq(names.iter().map(|n| Some(*n)))
            })
            .ok_or_else(|| {
                self.shape(format_args!(
                    "no unique index has exactly the columns {}, in this order; create one",
                    names.join(", ")
                ))
            })?;
        let utf8 = encoding_is_utf8(connection)
            .map_err(|e| store_error(self.store, "read the text encoding", e))?;
        let keys = columns
            .iter()
            .zip(&index.columns)
            .map(|(column, (_, collation))| {
                let affinity = Affinity::of(&column.declared, self.strict);
                let rowid = alias == Some(column.name.as_str());
                let kind = KeyColumn::kind_of(&column.declared, affinity).ok_or_else(|| {
                    self.shape(format_args!(
                        "its key column {:?} holds floating-point numbers",
                        column.name
                    ))
                })?;
                let fixed = column.not_null || rowid || (self.without_rowid && column.primary > 0);
                Ok(KeyColumn {
                    name: column.name.clone(),
                    kind,
                    affinity,
                    rowid,
                    binary: utf8 && collation.eq_ignore_ascii_case("binary"),
                    nullable: !fixed,
                })
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        let clause = if self.without_rowid && index.primary {
            "NOT INDEXED".to_owned()
        } else {
            format!("INDEXED BY {}", quote(&index.name))
        };
        Ok((keys, clause))
    }

    /// Unique indexes over all rows, the primary key's first.
    fn indexes(&self, connection: &Connection) -> rusqlite::Result<Vec<Index>> {
        let names = connection
            .prepare_cached(
                "SELECT name, origin = 'pk' FROM pragma_index_list(?1)
                 WHERE \"unique\" AND NOT partial ORDER BY origin = 'pk' DESC, name",
            )?
            .query_map([self.table], |r| Ok((r.get(0)?, r.get(1)?)))?
            .collect::<rusqlite::Result<Vec<(String, bool)>>>()?;
        names
            .into_iter()
            .map(|(name, primary)| {
                let columns = connection
                    .prepare_cached(
                        "SELECT name, coll FROM pragma_index_xinfo(?1) WHERE key ORDER BY seqno",
                    )?
                    .query_map([&name], |r| Ok((r.get(0)?, r.get(1)?)))?
                    .collect::<rusqlite::Result<_>>()?;
                Ok(Index {
                    name,
                    primary,
                    columns,
                })
            })
            .collect()
    }

    /// The JSON column where the layout is `json`, `None` where columns are fields.
    fn data_column<'c>(
        &self,
        connection: &Connection,
        config: &CollectionConfig,
        keys: &[KeyColumn],
        others: &[&'c Info],
    ) -> Result<Option<&'c Info>, StoreError> {
        let named = config.data.as_deref().unwrap_or("data");
        let by_name = others
            .iter()
            .copied()
            .find(|c| c.name.eq_ignore_ascii_case(named));
        match config.layout {
            LayoutChoice::Columns => Ok(None),
            LayoutChoice::Json => match (by_name, others) {
                (Some(column), _) => Ok(Some(column)),
                (None, [only]) if config.data.is_none() => Ok(Some(only)),
                (None, _) => {
                    Err(self.shape(format_args!("it has no column {named:?} for the JSON")))
                }
            },
            LayoutChoice::Auto if config.rest.is_some() => Ok(None),
            LayoutChoice::Auto => match (by_name, others) {
                (Some(column), _) if config.data.is_some() => Ok(Some(column)),
                (None, _) if config.data.is_some() => {
                    Err(self.shape(format_args!("it has no column {named:?} for the JSON")))
                }
                (_, [only]) if self.holds_json(connection, only, keys)? => Ok(Some(only)),
                _ => Ok(None),
            },
        }
    }

    /// By its name, its declared type, or, where neither tells, its first rows.
    fn holds_json(
        &self,
        connection: &Connection,
        column: &Info,
        keys: &[KeyColumn],
    ) -> Result<bool, StoreError> {
        let declared = column.declared.to_ascii_uppercase();
        if column.name.eq_ignore_ascii_case("data") || declared.starts_with("JSON") {
            return Ok(true);
        }
        let affinity = Affinity::of(&column.declared, self.strict);
        if keys.is_empty() || !matches!(affinity, Affinity::Text | Affinity::Blob) {
            return Ok(false);
        }
        let name = quote(&column.name);
        let sql = format!(
            "SELECT {name} FROM {} WHERE {name} IS NOT NULL LIMIT 8",
            quote(self.table)
        );
        let look = || -> rusqlite::Result<bool> {
            let mut statement = connection.prepare(&sql)?;
            let mut rows = statement.query([])?;
            let mut seen = false;
            while let Some(row) = rows.next()? {
                let Ok(bytes) = row.get_ref(0)?.as_bytes() else {
                    return Ok(false);
                };
                if !is_object(bytes) {
                    return Ok(false);
                }
                seen = true;
            }
            Ok(seen)
        };
        look().map_err(|e| store_error(self.store, "look for JSON", e))
    }

    fn fields(&self, config: &CollectionConfig, keys: &[KeyColumn]) -> Result<Payload, StoreError> {
        let rest = match &config.rest {
            Some(name) => Some(self.column(name)?),
            None => None,
        };
        if let Some(rest) = rest
            && keys.iter().any(|k| k.name == rest.name)
        {
            return Err(self.shape("the rest column is part of the key"));
        }
        let fields = self
            .columns
            .iter()
            .filter(|c| rest.is_none_or(|r| r.name != c.name))
            .map(|c| {
                let key_part = keys.iter().position(|k| k.name == c.name);
                Field::new(&c.name, &c.declared, self.strict, !c.not_null, key_part)
            })
            .collect();
        Ok(Payload::Columns {
            fields,
            rest: rest.map(|r| Rest {
                name: r.name.clone(),
                affinity: Affinity::of(&r.declared, self.strict),
                nullable: !r.not_null,
            }),
        })
    }
}

fn encoding_is_utf8(connection: &Connection) -> rusqlite::Result<bool> {
    let encoding: String = connection.query_row("PRAGMA encoding", [], |r| r.get(0))?;
    Ok(encoding == "UTF-8")
}

/// Pages must come off the index: a sort of the whole rest for every page would never end.
fn check_order(
    connection: &Connection,
    sql: &Sql,
    found: &Found<'_>,
    keys: &[KeyColumn],
) -> Result<(), StoreError> {
    let explain = format!("EXPLAIN QUERY PLAN {}", sql.scan(true, false));
    let plan = connection.prepare(&explain).and_then(|mut statement| {
        let nulls = vec![rusqlite::types::Null; keys.len()];
        statement
            .query_map(rusqlite::params_from_iter(nulls), |r| r.get::<_, String>(3))?
            .collect::<rusqlite::Result<Vec<_>>>()
    });
    let plan = plan.map_err(|e| store_error(found.store, "plan a scan", e))?;
    let in_order = plan.iter().any(|l| l.starts_with("SEARCH"))
        && !plan.iter().any(|l| l.contains("TEMP B-TREE"));
    if in_order {
        return Ok(());
    }
    Err(found
        .shape("its unique index is not in the columns' own order (collation, ASC and DESC mixed)"))
}
