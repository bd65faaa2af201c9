//! What somebody asks of the process that holds the lease. It lies beside the chain.

use super::trouble::Trouble;
use crate::journal::{request_of, unsigned};
use rusqlite::Connection;
use whimbrel_model::ledger::Request;

/// Whether the ledger has what came after its first tables.
pub(super) fn has_table(connection: &Connection) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'request')",
        )?
        .query_row([], |row| row.get(0))
}

pub(super) fn insert(connection: &Connection, text: &str) -> Result<i64, Trouble> {
    connection.execute("INSERT INTO request (request) VALUES (?1)", [text])?;
    Ok(connection.last_insert_rowid())
}

pub(super) fn waiting(connection: &Connection, name: &str) -> Result<Vec<Request>, Trouble> {
    if !has_table(connection)? {
        return Ok(Vec::new());
    }
    let mut select = connection.prepare_cached("SELECT id, request FROM request ORDER BY id")?;
    let rows = select.query_map([], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
    })?;
    let mut requests = Vec::new();
    for row in rows {
        let (id, text) = row?;
        requests.push(request_of(name, unsigned(name, id)?, &text)?);
    }
    Ok(requests)
}
