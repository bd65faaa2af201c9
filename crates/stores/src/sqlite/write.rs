//! Writing documents: everything that can be found out before is, so that the database's one write lock is
//! held for as short as can be. The app may be waiting for it.

use super::error::{commit_error, refusal, store_error, terminal};
use super::field::Field;
use super::key::{self, Part};
use super::row;
use super::table::{Payload, Rest, Table};
use crate::body::checked_json;
use rusqlite::types::{ToSqlOutput, Value as Sql, ValueRef};
use rusqlite::{Connection, ToSql, params_from_iter};
use std::borrow::Cow;
use std::sync::Arc;
use whimbrel_model::{
    Body, Code, Guard, Key, Map, Refusal, Revision, StoreError, StoreErrorKind, Value, Write,
    WriteOutcome, json,
};

/// One write, made ready.
pub(super) struct Ready<'w> {
    table: Arc<Table>,
    /// `None` when no row of the table can have the key.
    parts: Option<Vec<Part<'w>>>,
    guard: &'w Guard,
    to: To<'w>,
}

enum To<'w> {
    Nothing,
    Json(Cow<'w, [u8]>),
    Columns(Columns<'w>),
    Refused(String),
}

/// A document as columns, in the order of the payload.
pub(super) struct Columns<'w> {
    fields: Cow<'w, Map>,
    pub(super) encoded: Vec<Sql>,
}

impl<'w> Ready<'w> {
    pub(super) fn new(table: Arc<Table>, write: &'w Write) -> Self {
        let parts = key::parts(&table.keys, &write.key);
        let to = match &write.to {
            None => To::Nothing,
            Some(_) if parts.is_none() => {
                To::Refused("the key is not of the kind that the table's key columns hold".into())
            }
            Some(body) if body.size() > row::DOCUMENT_BYTES => To::Refused(format!(
                "the document is larger than {} MiB",
                row::DOCUMENT_BYTES >> 20
            )),
            Some(body) => match &table.payload {
                Payload::Json { .. } => checked_json(body, table.plain).map(To::Json),
                Payload::Columns { .. } => columns(&table, &write.key, body).map(To::Columns),
            }
            .unwrap_or_else(To::Refused),
        };
        Self {
            table,
            parts,
            guard: &write.guard,
            to,
        }
    }
}

/// With the key's fields, where the body does not name them.
///
/// # Errors
/// Why the table cannot hold it; names fields, never values.
pub(super) fn columns<'w>(table: &Table, key: &Key, body: &'w Body) -> Result<Columns<'w>, String> {
    let Payload::Columns { fields, rest } = &table.payload else {
        return Err("the layout has no columns".into());
    };
    let mut map = body.map().map_err(|e| e.to_string())?;
    for field in fields {
        let Some(part) = field.key_part else { continue };
        let expect = key_value(key, part);
        match map.get(&field.name) {
            Some(value) if *value == expect => {}
            Some(_) => return Err(format!("field {:?} is not what the key says", field.name)),
            None => {
                map.to_mut().insert(field.name.clone(), expect);
            }
        }
    }
    let encoded = encode(fields, rest.as_ref(), &map, table.plain)?;
    Ok(Columns {
        fields: map,
        encoded,
    })
}

/// The fields as columns, in the order of the payload. A field that is missing is NULL.
fn encode(
    fields: &[Field],
    rest: Option<&Rest>,
    map: &Map,
    plain: bool,
) -> Result<Vec<Sql>, String> {
    let mut encoded = Vec::with_capacity(fields.len() + 1);
    for field in fields {
        let value = map.get(&field.name).unwrap_or(&Value::Null);
        encoded.push(field.encode(value, plain)?);
    }
    let is_column = |name: &str| fields.iter().any(|f| f.name == name);
    let mut others = map.keys().filter(|name| !is_column(name)).peekable();
    match (rest, others.peek()) {
        (None, None) => {}
        (None, Some(name)) => {
            return Err(format!(
                "field {name:?} has no column, and the collection no `rest` column"
            ));
        }
        (Some(rest), _) => encoded.push(encode_rest(rest, others, map, plain)?),
    }
    Ok(encoded)
}

fn key_value(key: &Key, part: usize) -> Value {
    match key {
        Key::Int(n) => Value::Int(*n),
        Key::Tuple(parts) => parts.get(part).map_or(Value::Null, |one| key_value(one, 0)),
        text => Value::String(text.to_string()),
    }
}

fn encode_rest<'m>(
    rest: &Rest,
    names: impl Iterator<Item = &'m String>,
    map: &Map,
    plain: bool,
) -> Result<Sql, String> {
    let others: Map = names
        .filter_map(|name| map.get(name).map(|value| (name.clone(), value.clone())))
        .collect();
    if others.is_empty() && rest.nullable {
        return Ok(Sql::Null);
    }
    let mut out = Vec::new();
    if plain {
        let _ = json::write_plain(&Value::Map(others), &mut out);
    } else {
        json::write_map(&others, &mut out);
    }
    let text = String::from_utf8(out).map_err(|_| "the rest is not UTF-8".to_owned())?;
    Ok(Sql::Text(text))
}

/// Applies all of them in one transaction.
pub(super) fn apply(
    connection: &Connection,
    store: &str,
    ready: &[Ready<'_>],
    schema_version: i64,
) -> Result<Vec<WriteOutcome>, StoreError> {
    let failed = |e| store_error(store, "write the batch", e);
    run(connection, "BEGIN IMMEDIATE").map_err(failed)?;
    let result = apply_all(connection, store, ready, schema_version);
    match result {
        Ok(outcomes) => match run(connection, "COMMIT") {
            Ok(()) => Ok(outcomes),
            Err(error) => {
                let error = commit_error(store, error);
                roll_back(connection, store)?;
                Err(error)
            }
        },
        Err(error) => {
            roll_back(connection, store)?;
            Err(error)
        }
    }
}

fn run(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}

fn roll_back(connection: &Connection, store: &str) -> Result<(), StoreError> {
    if connection.is_autocommit() {
        return Ok(());
    }
    run(connection, "ROLLBACK").map_err(|e| store_error(store, "roll back", e))
}

fn apply_all(
    connection: &Connection,
    store: &str,
    ready: &[Ready<'_>],
    schema_version: i64,
) -> Result<Vec<WriteOutcome>, StoreError> {
    let failed = |e| store_error(store, "write the batch", e);
    if super::shared::schema_version(connection).map_err(failed)? != schema_version {
        return Err(StoreError::new(
            StoreErrorKind::Transient,
            Code::StoreUnavailable,
            store,
            "the tables were changed just now",
        ));
    }
    let mut outcomes = Vec::with_capacity(ready.len());
    for write in ready {
        let outcome = match one(connection, write) {
            Ok(outcome) => outcome,
            Err(error) => match refusal(&error) {
                Some(message) if !connection.is_autocommit() => refused(message),
                Some(message) => {
                    return Err(terminal(
                        store,
                        Code::StoreFailed,
                        format!(
                            "table {:?} rolled the whole batch back: {message}",
                            write.table.name
                        ),
                    ));
                }
                None => return Err(failed(error)),
            },
        };
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

fn refused(message: impl Into<String>) -> WriteOutcome {
    WriteOutcome::Refused(Refusal {
        message: message.into(),
    })
}

fn one(connection: &Connection, write: &Ready<'_>) -> rusqlite::Result<WriteOutcome> {
    if let To::Refused(message) = &write.to {
        return Ok(refused(message));
    }
    let Some(parts) = &write.parts else {
        // Nothing has such a key, so there is nothing to delete.
        return Ok(match write.guard {
            Guard::Any | Guard::Absent => WriteOutcome::Applied,
            Guard::Unchanged(_) => WriteOutcome::Lost,
        });
    };
    let table = &*write.table;
    let in_one_statement = table.keys.iter().all(|k| k.binary || k.rowid);
    match (write.guard, &write.to) {
        (Guard::Any, To::Nothing) => {
            delete(connection, table, parts)?;
            Ok(WriteOutcome::Applied)
        }
        (Guard::Any, To::Json(bytes)) if in_one_statement => {
            let data = Data::new(bytes, is_blob(table));
            // A trigger that ignores the change leaves the row as it was.
            Ok(applied_if(
                bind(connection, &table.sql.upsert, parts, &[data])? > 0,
            ))
        }
        (Guard::Absent, to) if in_one_statement && !matches!(to, To::Nothing) => {
            Ok(applied_if(insert(connection, table, parts, to, true)? > 0))
        }
        (guard, to) => match locate(connection, table, parts)? {
            None => match (guard, to) {
                (Guard::Unchanged(_), _) => Ok(WriteOutcome::Lost),
                (_, To::Nothing) => Ok(WriteOutcome::Applied),
                (_, to) => Ok(applied_if(insert(connection, table, parts, to, false)? > 0)),
            },
            Some(row) => match guard {
                Guard::Absent => Ok(WriteOutcome::Lost),
                Guard::Unchanged(revision) if *revision != row.revision => Ok(WriteOutcome::Lost),
                Guard::Any | Guard::Unchanged(_) => replace(connection, table, parts, &row, to),
            },
        },
    }
}

fn applied_if(applied: bool) -> WriteOutcome {
    if applied {
        WriteOutcome::Applied
    } else {
        WriteOutcome::Lost
    }
}

fn is_blob(table: &Table) -> bool {
    matches!(table.payload, Payload::Json { blob: true })
}

fn delete(connection: &Connection, table: &Table, parts: &[Part<'_>]) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(&table.sql.delete)?
        .execute(params_from_iter(parts))
}

/// What stands in the database under a key.
struct Located {
    rowid: Option<i64>,
    revision: Revision,
    blob: bool,
    /// Layout `columns`: the row's fields, where they can be read.
    fields: Option<Map>,
}

fn locate(
    connection: &Connection,
    table: &Table,
    parts: &[Part<'_>],
) -> rusqlite::Result<Option<Located>> {
    let mut statement = connection.prepare_cached(&table.sql.get)?;
    let mut rows = statement.query(params_from_iter(parts))?;
    let Some(found) = rows.next()? else {
        return Ok(None);
    };
    let rowid = match table.rowid {
        Some(_) => Some(found.get(table.keys.len())?),
        None => None,
    };
    let (blob, fields) = match &table.payload {
        Payload::Json { .. } => {
            let data = found.get_ref(table.payload_at())?;
            (matches!(data, ValueRef::Blob(_)), None)
        }
        Payload::Columns { .. } => (false, row::fields(table, found)?.ok()),
    };
    Ok(Some(Located {
        rowid,
        revision: row::revision(table, found)?,
        blob,
        fields,
    }))
}

fn insert(
    connection: &Connection,
    table: &Table,
    parts: &[Part<'_>],
    to: &To<'_>,
    unless_there: bool,
) -> rusqlite::Result<usize> {
    let sql = if unless_there {
        &table.sql.insert_absent
    } else {
        &table.sql.insert
    };
    match (to, &table.payload) {
        (To::Json(bytes), _) => bind(connection, sql, parts, &[Data::new(bytes, is_blob(table))]),
        (To::Columns(columns), Payload::Columns { fields, .. }) => {
            // The key's columns come first and once.
            let others = columns.encoded.iter().enumerate().filter_map(|(i, value)| {
                let is_key = fields.get(i).is_some_and(|f| f.key_part.is_some());
                (!is_key).then_some(value)
            });
            bind(connection, sql, parts, others)
        }
        _ => Ok(0),
    }
}

fn replace(
    connection: &Connection,
    table: &Table,
    parts: &[Part<'_>],
    row: &Located,
    to: &To<'_>,
) -> rusqlite::Result<WriteOutcome> {
    let by_rowid = row.rowid.map(Part::Int);
    let locator: &[Part<'_>] = match &by_rowid {
        Some(rowid) => std::slice::from_ref(rowid),
        None => parts,
    };
    let changed = match to {
        To::Nothing => delete(connection, table, parts)?,
        To::Json(bytes) => bind(
            connection,
            &table.sql.update,
            locator,
            &[Data::new(bytes, row.blob)],
        )?,
        To::Columns(columns) => {
            let changed = differing(table, columns, row);
            if changed.is_empty() {
                return Ok(WriteOutcome::Applied);
            }
            let sql = table.sql.update_columns(&changed);
            bind(
                connection,
                &sql,
                locator,
                changed.iter().map(|&i| &columns.encoded[i]),
            )?
        }
        To::Refused(message) => return Ok(refused(message)),
    };
    // A trigger that ignores the change leaves the row as it was.
    Ok(applied_if(changed > 0))
}

/// The payload columns that have to be set. The others keep their very bytes.
fn differing(table: &Table, columns: &Columns<'_>, row: &Located) -> Vec<usize> {
    let Payload::Columns { fields, .. } = &table.payload else {
        return Vec::new();
    };
    let Some(current) = &row.fields else {
        return (0..columns.encoded.len()).collect();
    };
    let value = |map: &Map, name: &str| map.get(name).cloned().unwrap_or(Value::Null);
    let rest = |map: &Map| -> Map {
        map.iter()
            .filter(|(name, _)| !fields.iter().any(|f| f.name == **name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    (0..columns.encoded.len())
        .filter(|&i| match fields.get(i) {
            Some(field) => value(current, &field.name) != value(&columns.fields, &field.name),
            None => rest(current) != rest(&columns.fields),
        })
        .collect()
}

/// Binds the leading parts, then the values.
fn bind<'v, V: ToSql + 'v>(
    connection: &Connection,
    sql: &str,
    parts: &[Part<'_>],
    values: impl IntoIterator<Item = &'v V>,
) -> rusqlite::Result<usize> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut next = 1;
    for part in parts {
        statement.raw_bind_parameter(next, part)?;
        next += 1;
    }
    for value in values {
        statement.raw_bind_parameter(next, value)?;
        next += 1;
    }
    statement.raw_execute()
}

/// Document bytes, bound as they are.
struct Data<'d> {
    bytes: &'d [u8],
    blob: bool,
}

impl<'d> Data<'d> {
    fn new(bytes: &'d [u8], blob: bool) -> Self {
        Self { bytes, blob }
    }
}

impl ToSql for Data<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(if self.blob {
            ValueRef::Blob(self.bytes)
        } else {
            ValueRef::Text(self.bytes)
        }))
    }
}
