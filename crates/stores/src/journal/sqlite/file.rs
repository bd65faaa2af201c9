//! The ledger's file: made, recognised, set up.

use super::trouble::{BUSY_WAIT, Trouble};
use super::{recent, requests};
use crate::journal::failed;
use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};
use std::path::Path;
use std::time::{Duration, Instant};
use whimbrel_model::JournalError;
use whimbrel_model::ledger::FORMAT;

/// Tells a ledger from any other SQLite file (`PRAGMA application_id`): "WBLG".
const APPLICATION_ID: i64 = 0x5742_4C47;

const TABLES: &str = "
CREATE TABLE meta (format INTEGER NOT NULL, lineage TEXT NOT NULL);
CREATE TABLE record (
  seq INTEGER PRIMARY KEY, at TEXT NOT NULL, fence INTEGER NOT NULL,
  previous TEXT NOT NULL, hash TEXT NOT NULL, entry TEXT NOT NULL);
CREATE TABLE lease (
  id INTEGER PRIMARY KEY CHECK (id = 1), fence INTEGER NOT NULL, holder TEXT,
  acquired_at TEXT NOT NULL, expires_at TEXT NOT NULL);
INSERT INTO lease VALUES (1, 0, NULL, '', '');
-- Runs and subjects, named once instead of in every row below.
CREATE TABLE preimage_name (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE preimage_block (
  id INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, subject INTEGER NOT NULL,
  data BLOB NOT NULL);
CREATE TABLE preimage_key (
  subject INTEGER NOT NULL, key BLOB NOT NULL, block INTEGER NOT NULL, idx INTEGER NOT NULL,
  PRIMARY KEY (subject, key, block, idx)) WITHOUT ROWID;
CREATE TABLE quarantine (
  id INTEGER PRIMARY KEY AUTOINCREMENT, subject TEXT NOT NULL, label TEXT NOT NULL,
  item TEXT NOT NULL, attempts INTEGER NOT NULL, UNIQUE (subject, label));
";

/// What came after. A ledger that lacks it gets it when it is next opened for writing.
const ADDED: &str = "
CREATE TABLE request (id INTEGER PRIMARY KEY AUTOINCREMENT, request TEXT NOT NULL);
ALTER TABLE preimage_block ADD COLUMN keys BLOB;
CREATE INDEX preimage_block_run ON preimage_block (run, id);
";

pub(super) fn open(
    path: &Path,
    name: &str,
    create: bool,
) -> Result<Option<Connection>, JournalError> {
    if create {
        make_file(path).map_err(|e| failed(name, format!("the file cannot be made: {e}")))?;
    } else if !path.exists() {
        return Ok(None);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let named = |t: Trouble| t.named(name);
    let mut connection = Connection::open_with_flags(path, flags).map_err(|e| named(e.into()))?;
    let deadline = Instant::now() + BUSY_WAIT;
    loop {
        match prepare(&mut connection, name, create) {
            Ok(true) => return Ok(Some(connection)),
            Ok(false) => return Ok(None),
            // Turning WAL on does not wait for other openers by itself.
            Err(trouble) if trouble.is_busy() && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(trouble) => return Err(named(trouble)),
        }
    }
}

/// The file and its folder. The ledger keeps documents, so only its owner may read it.
fn make_file(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// Looks at what is there before anything is written; `false` when the file is still no ledger.
fn prepare(connection: &mut Connection, name: &str, create: bool) -> Result<bool, Trouble> {
    connection.busy_timeout(BUSY_WAIT)?;
    // In one transaction: another process may be making it between two looks.
    let look = connection.transaction()?;
    let ready = recognise(&look, name)?;
    look.commit()?;
    if !ready && !create {
        return Ok(false);
    }
    if !ready {
        connection.pragma_update(None, "page_size", 8192)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
    }
    connection.pragma_update(None, "synchronous", "full")?;
    // Checkpoints, each with its own wait for the disk, come once in 32 MiB rather than in every block.
    connection.pragma_update(None, "wal_autocheckpoint", 4096)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    connection.set_prepared_statement_cache_capacity(32);
    if create && !(ready && requests::has_table(connection)? && recent::has_table(connection)?) {
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another process may have made it since.
        if !recognise(&tx, name)? {
            tx.execute_batch(TABLES)?;
            tx.execute(
                "INSERT INTO meta VALUES (?1, lower(hex(randomblob(16))))",
                params![FORMAT],
            )?;
            tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        }
        if !requests::has_table(&tx)? {
            tx.execute_batch(ADDED)?;
        }
        if !recent::has_table(&tx)? {
            tx.execute_batch(recent::TABLE)?;
        }
        tx.commit()?;
    }
    if !create {
        connection.pragma_update(None, "query_only", true)?;
    }
    Ok(true)
}

/// Whether the file is a ledger that this program can use; `false` when it is empty.
fn recognise(connection: &Connection, name: &str) -> Result<bool, Trouble> {
    let id: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if id != APPLICATION_ID {
        let objects: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
        if id == 0 && objects == 0 {
            return Ok(false);
        }
        let message =
            "the file is a SQLite database of something else; a ledger needs its own file";
        return Err(failed(name, message.to_owned()).into());
    }
    let found: u32 = connection.query_row("SELECT format FROM meta", [], |row| row.get(0))?;
    if found > FORMAT {
        let ledger = name.to_owned();
        return Err(JournalError::NewerFormat { ledger, found }.into());
    }
    Ok(true)
}
