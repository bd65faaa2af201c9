//! What a table gives back of bodies once they are written. A table of the same affinities, in memory, says it:
//! SQLite's own rules of which text is a number are too many to be repeated here.

use super::error::store_error;
use super::field::{Affinity, Field};
use super::row::{self, DOCUMENT_BYTES};
use super::table::{Payload, Rest, Table};
use super::write::encode;
use crate::body;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, params_from_iter};
use std::borrow::Cow;
use whimbrel_model::{Body, Map, StoreError};

/// See [`whimbrel_model::Store::held`].
pub(super) fn held(store: &str, table: &Table, bodies: Vec<Body>) -> Result<Vec<Body>, StoreError> {
    let Payload::Columns { fields, rest } = &table.payload else {
        let held = bodies.into_iter().map(|one| body::held(one, table.plain));
        return Ok(held.collect());
    };
    let twin = Twin {
        fields,
        rest: rest.as_ref(),
        plain: table.plain,
    };
    twin.held(bodies)
        .map_err(|e| store_error(store, &format!("compare with table {:?}", table.name), e))
}

/// A table's columns, to be tried in memory.
struct Twin<'t> {
    fields: &'t [Field],
    rest: Option<&'t Rest>,
    plain: bool,
}

impl Twin<'_> {
    fn held(&self, bodies: Vec<Body>) -> rusqlite::Result<Vec<Body>> {
        let connection = Connection::open_in_memory()?;
        let affinities: Vec<Affinity> = self
            .fields
            .iter()
            .map(|f| f.affinity)
            .chain(self.rest.map(|r| r.affinity))
            .collect();
        let columns: Vec<String> = (0..)
            .zip(&affinities)
            .map(|(i, affinity)| format!("c{i} {}", affinity.name()))
            .collect();
        let marks = vec!["?"; affinities.len()].join(", ");
        connection.execute_batch(&format!("CREATE TABLE twin ({})", columns.join(", ")))?;
        let mut insert = connection.prepare(&format!("INSERT INTO twin VALUES ({marks})"))?;
        let mut select = connection.prepare("SELECT * FROM twin")?;
        let mut delete = connection.prepare("DELETE FROM twin")?;
        bodies
            .into_iter()
            .map(|body| {
                let Some((map, encoded)) = self.encoded(&body) else {
                    return Ok(body);
                };
                insert.execute(params_from_iter(&encoded))?;
                let read =
                    select.query_row([], |row| row::fields_at(self.fields, self.rest, row, 0))?;
                delete.execute([])?;
                let Ok(mut read) = read else {
                    return Ok(body);
                };
                // A key that the body does not name is not known here.
                for field in self.fields.iter().filter(|f| f.key_part.is_some()) {
                    if !map.contains_key(&field.name) {
                        read.shift_remove(&field.name);
                    }
                }
                Ok(Body::Map(read))
            })
            .collect()
    }

    /// `None` where the table would refuse the body.
    fn encoded<'b>(&self, body: &'b Body) -> Option<(Cow<'b, Map>, Vec<Sql>)> {
        if body.size() > DOCUMENT_BYTES {
            return None;
        }
        let map = body.map().ok()?;
        let encoded = encode(self.fields, self.rest, &map, self.plain).ok()?;
        Some((map, encoded))
    }
}
