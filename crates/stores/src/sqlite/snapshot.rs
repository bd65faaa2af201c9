//! One instant of a database in WAL mode, seen by several connections at once.
//!
//! Each connection begins a transaction that only reads. While they begin, one after the other, SQLite's one
//! write lock is held, so that nothing is committed in between; then writers go on. As long as a snapshot is
//! kept the write-ahead log cannot be taken up into the database from there on, so it grows with what the app
//! writes.

use super::error::store_error;
use super::pool::{Place, connect, reader};
use rusqlite::{Connection, ErrorCode};
use std::time::{Duration, Instant};
use whimbrel_model::StoreError;

/// How long an app that writes all the time is waited for. Each try waits as every statement does.
const PATIENCE: Duration = Duration::from_secs(30);

/// `None` where the database is not in WAL mode: there a reader would keep the app from writing.
pub(super) fn frozen(place: &Place, readers: usize) -> Result<Option<Vec<Connection>>, StoreError> {
    let failed = |e| store_error(&place.name, "take a snapshot", e);
    let lock = Place {
        // It writes nothing, but a connection for reading only could not take the lock.
        read_only: false,
        ..place.clone()
    };
    let lock = connect(&lock, false)?;
    if !in_wal_mode(&lock).map_err(failed)? {
        return Ok(None);
    }
    // Opened before, so that the lock is held for no longer than must be.
    let connections: Vec<Connection> = (0..readers)
        .map(|_| reader(place))
        .collect::<Result<_, _>>()?;
    take_lock(&lock).map_err(failed)?;
    let begun = connections.iter().try_for_each(begin);
    // Nothing was written, so nothing is lost where even this fails.
    let released = lock.execute_batch("ROLLBACK");
    begun.and(released).map_err(failed)?;
    Ok(Some(connections))
}

fn in_wal_mode(connection: &Connection) -> rusqlite::Result<bool> {
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    Ok(mode.eq_ignore_ascii_case("wal"))
}

fn take_lock(connection: &Connection) -> rusqlite::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match connection.execute_batch("BEGIN IMMEDIATE") {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && Instant::now() < deadline => {}
            done => return done,
        }
    }
}

/// `BEGIN` alone sees nothing yet: the first read decides what the transaction sees.
fn begin(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN")?;
    connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))
}
