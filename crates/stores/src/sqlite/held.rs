//! What a table gives back of bodies once they are written. A table of the same affinities, in memory, says it:
//! SQLite's own rules of which text is a number are too many to be repeated here.

use super::error::store_error;
use super::field::{Affinity, Field};
use super::key;
use super::row::{self, DOCUMENT_BYTES};
use super::table::{Payload, Rest, Table};
use super::write::columns;
use crate::body;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, params_from_iter};
use whimbrel_model::{Body, Key, StoreError};

/// See [`whimbrel_model::Store::held`].
pub(super) fn held(
    store: &str,
    table: &Table,
    keys: &[Key],
    bodies: Vec<Body>,
) -> Result<Vec<Body>, StoreError> {
    let Payload::Columns { fields, rest } = &table.payload else {
        let held = bodies.into_iter().map(|one| body::held(one, table.plain));
        return Ok(held.collect());
    };
    in_columns(table, fields, rest.as_ref(), keys, bodies)
        .map_err(|e| store_error(store, &format!("compare with table {:?}", table.name), e))
}

fn in_columns(
    table: &Table,
    fields: &[Field],
    rest: Option<&Rest>,
    keys: &[Key],
    bodies: Vec<Body>,
) -> rusqlite::Result<Vec<Body>> {
    let connection = Connection::open_in_memory()?;
    let affinities: Vec<Affinity> = fields
        .iter()
        .map(|f| f.affinity)
        .chain(rest.map(|r| r.affinity))
        .collect();
    let names: Vec<String> = (0..)
        .zip(&affinities)
        .map(|(i, affinity)| format!("c{i} {}", affinity.name()))
        .collect();
    let marks = vec!["?"; affinities.len()].join(", ");
    connection.execute_batch(&format!("CREATE TABLE twin ({})", names.join(", ")))?;
    let mut insert = connection.prepare(&format!("INSERT INTO twin VALUES ({marks})"))?;
    let mut select = connection.prepare("SELECT * FROM twin")?;
    let mut delete = connection.prepare("DELETE FROM twin")?;
    keys.iter()
        .zip(bodies)
        .map(|(key, body)| {
            let Some(encoded) = encoded(table, key, &body) else {
                return Ok(body);
            };
            insert.execute(params_from_iter(&encoded))?;
            let read = select.query_row([], |row| row::fields_at(fields, rest, row, 0))?;
            delete.execute([])?;
            Ok(read.map_or(body, Body::Map))
        })
        .collect()
}

/// `None` where the table would refuse the document.
fn encoded(table: &Table, key: &Key, body: &Body) -> Option<Vec<Sql>> {
    if body.size() > DOCUMENT_BYTES {
        return None;
    }
    key::parts(&table.keys, key)?;
    let columns = columns(table, key, body).ok()?;
    Some(columns.encoded)
}
