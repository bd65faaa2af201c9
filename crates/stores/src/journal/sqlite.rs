//! The embedded ledger: one SQLite file, which several processes may open.
//!
//! Every write is one `BEGIN IMMEDIATE` transaction in WAL mode with `synchronous = FULL`, so that it is
//! on disk when the call returns, and no two processes decide on the same head or the same lease.

use super::cache::{Block, BlockCache};
use super::key::key_bytes;
use super::{LeaseRow, check_follows, failed, item_of, item_text, later, signed, unsigned};
use async_trait::async_trait;
use rusqlite::{
    CachedStatement, Connection, ErrorCode, OpenFlags, OptionalExtension, Row, Transaction,
    TransactionBehavior, ffi, params,
};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use whimbrel_model::ledger::{
    FORMAT, Lease, PreimageBlock, PreimageHit, QuarantineItem, Record, RunId,
};
use whimbrel_model::{Journal, JournalError, Key, Timestamp};

/// How long a call waits for another process that is writing.
const BUSY_WAIT: Duration = Duration::from_secs(10);

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

pub(super) struct SqliteJournal {
    name: String,
    connection: Arc<Mutex<Connection>>,
    blocks: Arc<BlockCache>,
}

/// What can go wrong inside one call, before it has the ledger's name.
enum Trouble {
    Journal(JournalError),
    Sqlite(rusqlite::Error),
}

impl From<JournalError> for Trouble {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Trouble {
    fn named(self, ledger: &str) -> JournalError {
        match self {
            Self::Journal(error) => error,
            Self::Sqlite(error) => failed(ledger, explain(&error)),
        }
    }

    fn is_busy(&self) -> bool {
        matches!(self, Self::Sqlite(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy))
    }
}

/// What happened and what to do. SQLite's own words name tables and files, never a stored value.
fn explain(error: &rusqlite::Error) -> String {
    const NOT_WRITTEN: &str = "nothing of this call was written";
    let full = error
        .sqlite_error()
        .is_some_and(|e| e.extended_code == ffi::SQLITE_IOERR_SHMSIZE);
    match error.sqlite_error_code() {
        _ if full => format!("the disk is full; {NOT_WRITTEN}; free some space and run it again"),
        Some(ErrorCode::DiskFull) => {
            format!("the disk is full; {NOT_WRITTEN}; free some space and run it again")
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => format!(
            "another process kept it locked for {} s; {NOT_WRITTEN}; run it again",
            BUSY_WAIT.as_secs()
        ),
        Some(ErrorCode::ReadOnly) => format!("it is read-only; {NOT_WRITTEN}"),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            format!("the file cannot be opened ({error}); check its path and permissions")
        }
        Some(ErrorCode::NotADatabase) => "the file is no SQLite database".to_owned(),
        Some(ErrorCode::DatabaseCorrupt) => {
            format!("the file is damaged ({error}); restore it from a backup")
        }
        _ => error.to_string(),
    }
}

impl SqliteJournal {
    /// `None` when there is no ledger and none is to be created.
    pub(super) async fn open(url: &str, create: bool) -> Result<Option<Self>, JournalError> {
        let path = url.strip_prefix("sqlite:").unwrap_or(url);
        let path = path.strip_prefix("//").unwrap_or(path).to_owned();
        let name = format!("sqlite:{path}");
        let at = name.clone();
        let opened = blocking(&name, move || open_file(Path::new(&path), &at, create)).await?;
        Ok(opened.map(|connection| Self {
            name,
            connection: Arc::new(Mutex::new(connection)),
            blocks: Arc::default(),
        }))
    }

    /// Runs `work` on the connection, off the async threads. Once begun it ends, even if the caller goes
    /// away.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection, &str) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, JournalError> {
        let connection = self.connection.clone();
        let name = self.name.clone();
        blocking(&self.name, move || {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut connection, &name).map_err(|t| t.named(&name))
        })
        .await
    }

    /// Runs `work` in a transaction that holds SQLite's write lock from its beginning.
    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>, &str) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, JournalError> {
        self.call(move |connection, name| {
            let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let answer = work(&tx, name)?;
            tx.commit()?;
            Ok(answer)
        })
        .await
    }

    async fn take(&self, holder: &str, ttl_ms: u64, force: bool) -> Result<Lease, JournalError> {
        let holder = holder.to_owned();
        self.change(move |tx, name| {
            let now = now();
            let next = read_lease(tx, name)?.next(&holder, now, ttl_ms, force)?;
            tx.execute(
                "UPDATE lease SET fence = ?1, holder = ?2, acquired_at = ?3, expires_at = ?4",
                params![
                    signed(name, next.fence)?,
                    next.holder,
                    next.acquired_at,
                    next.expires_at
                ],
            )?;
            let lease = next.lease(now);
            Ok(lease.ok_or_else(|| failed(name, "the lease was not taken".to_owned()))?)
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    ledger: &str,
    work: impl FnOnce() -> Result<T, JournalError> + Send + 'static,
) -> Result<T, JournalError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(failed(
            ledger,
            "the program is ending; whether the call took effect is unknown".to_owned(),
        )),
    }
}

fn now() -> Timestamp {
    Timestamp::from_micros(jiff::Timestamp::now().as_microsecond())
}

fn open_file(path: &Path, name: &str, create: bool) -> Result<Option<Connection>, JournalError> {
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
    let ready = recognise(connection, name)?;
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
    if !ready {
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

fn read_lease(connection: &Connection, name: &str) -> Result<LeaseRow, Trouble> {
    let (fence, holder, acquired_at, expires_at) = connection
        .prepare_cached("SELECT fence, holder, acquired_at, expires_at FROM lease")?
        .query_row([], |row| {
            Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?;
    Ok(LeaseRow {
        fence: unsigned(name, fence)?,
        holder,
        acquired_at,
        expires_at,
    })
}

fn insert_records(tx: &Transaction<'_>, name: &str, records: &[Record]) -> Result<(), Trouble> {
    let mut insert = tx.prepare_cached(
        "INSERT INTO record (seq, at, fence, previous, hash, entry) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for record in records {
        insert.execute(params![
            signed(name, record.seq)?,
            record.at,
            signed(name, record.fence)?,
            record.previous,
            record.hash,
            record.entry_text()
        ])?;
    }
    Ok(())
}

fn file_quarantine(
    tx: &Transaction<'_>,
    name: &str,
    items: &[QuarantineItem],
) -> Result<(), Trouble> {
    // A row that is replaced keeps its id, so that whoever pages through the waiting documents while
    // retrying them comes to an end.
    let mut insert = tx.prepare_cached(
        "INSERT INTO quarantine (subject, label, item, attempts) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (subject, label) DO UPDATE
         SET item = excluded.item, attempts = quarantine.attempts + 1",
    )?;
    for item in items {
        insert.execute(params![
            item.subject,
            item.label,
            item_text(name, item)?,
            item.attempts
        ])?;
    }
    Ok(())
}

/// The number that stands for a run or a subject.
fn name_id(tx: &Transaction<'_>, name: &str) -> Result<i64, Trouble> {
    if let Some(id) = known_name(tx, name)? {
        return Ok(id);
    }
    tx.execute("INSERT INTO preimage_name (name) VALUES (?1)", [name])?;
    Ok(tx.last_insert_rowid())
}

fn known_name(connection: &Connection, name: &str) -> Result<Option<i64>, Trouble> {
    Ok(connection
        .prepare_cached("SELECT id FROM preimage_name WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?)
}

struct BlockRow {
    run: RunId,
    subject: String,
    keys: Vec<Vec<u8>>,
    data: Vec<u8>,
}

fn insert_block(tx: &Transaction<'_>, block: &BlockRow) -> Result<(), Trouble> {
    let run = name_id(tx, &block.run)?;
    let subject = name_id(tx, &block.subject)?;
    tx.prepare_cached("INSERT INTO preimage_block (run, subject, data) VALUES (?1, ?2, ?3)")?
        .execute(params![run, subject, block.data])?;
    let id = tx.last_insert_rowid();
    let mut insert = tx.prepare_cached(
        "INSERT INTO preimage_key (subject, key, block, idx) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for (idx, key) in (0_i64..).zip(&block.keys) {
        insert.execute(params![subject, key, id, idx])?;
    }
    Ok(())
}

fn find_hits(
    connection: &Connection,
    name: &str,
    blocks: &BlockCache,
    subject: &str,
    keys: &[Vec<u8>],
) -> Result<Vec<Vec<PreimageHit>>, Trouble> {
    let Some(subject) = known_name(connection, subject)? else {
        return Ok(keys.iter().map(|_| Vec::new()).collect());
    };
    let mut find = connection.prepare_cached(
        "SELECT block, idx FROM preimage_key
         WHERE subject = ?1 AND key = ?2 ORDER BY block DESC, idx DESC",
    )?;
    let mut load = connection.prepare_cached(
        "SELECT n.name, b.data FROM preimage_block b JOIN preimage_name n ON n.id = b.run
         WHERE b.id = ?1",
    )?;
    // One answer shares a block among all its hits, whatever the cache has room for.
    let mut seen: HashMap<u64, Arc<Block>> = HashMap::new();
    let mut answers = Vec::with_capacity(keys.len());
    for key in keys {
        let mut rows = find.query(params![subject, key])?;
        let mut hits = Vec::new();
        while let Some(row) = rows.next()? {
            let id = unsigned(name, row.get(0)?)?;
            let block = match seen.get(&id) {
                Some(block) => block.clone(),
                None => load_block(&mut load, blocks, name, id)?,
            };
            hits.push(block.hit(id, row.get(1)?));
            seen.insert(id, block);
        }
        answers.push(hits);
    }
    Ok(answers)
}

fn load_block(
    load: &mut CachedStatement<'_>,
    blocks: &BlockCache,
    name: &str,
    id: u64,
) -> Result<Arc<Block>, Trouble> {
    if let Some(block) = blocks.get(id) {
        return Ok(block);
    }
    let (run, data) = load.query_row([signed(name, id)?], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(blocks.put(id, Block::new(run, data)))
}

/// A stored row, before its numbers and its hash are judged.
type RecordRow = (i64, String, i64, String, String, String);

fn record_row(row: &Row<'_>) -> rusqlite::Result<RecordRow> {
    Ok((
        row.get(0)?,
        row.get(1)?,
        row.get(2)?,
        row.get(3)?,
        row.get(4)?,
        row.get(5)?,
    ))
}

#[async_trait]
impl Journal for SqliteJournal {
    fn name(&self) -> &str {
        &self.name
    }

    async fn read(&self, after: u64, limit: u32) -> Result<Vec<Record>, JournalError> {
        self.call(move |connection, name| {
            let mut select = connection.prepare_cached(
                "SELECT seq, at, fence, previous, hash, entry FROM record
                 WHERE seq > ?1 ORDER BY seq LIMIT ?2",
            )?;
            let mut records = Vec::new();
            for row in select.query_map(params![signed(name, after)?, limit], record_row)? {
                let (seq, at, fence, previous, hash, entry) = row?;
                let (seq, fence) = (unsigned(name, seq)?, unsigned(name, fence)?);
                let record = Record::stored(seq, at, fence, previous, hash, entry);
                records.push(record.map_err(JournalError::from)?);
            }
            Ok(records)
        })
        .await
    }

    async fn append(
        &self,
        fence: u64,
        records: &[Record],
        quarantine: &[QuarantineItem],
    ) -> Result<(), JournalError> {
        let (records, quarantine) = (records.to_vec(), quarantine.to_vec());
        self.change(move |tx, name| {
            read_lease(tx, name)?.check(fence)?;
            let head: Option<(i64, String)> = tx
                .prepare_cached("SELECT seq, hash FROM record ORDER BY seq DESC LIMIT 1")?
                .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let (seq, hash) =
                head.unwrap_or_else(|| (0, whimbrel_model::ledger::NO_HASH.to_owned()));
            check_follows(name, (unsigned(name, seq)?, &hash), fence, &records)?;
            insert_records(tx, name, &records)?;
            file_quarantine(tx, name, &quarantine)
        })
        .await
    }

    async fn put_preimages(&self, fence: u64, block: &PreimageBlock) -> Result<(), JournalError> {
        let block = BlockRow {
            run: block.run.clone(),
            subject: block.subject.clone(),
            keys: block.keys.iter().map(key_bytes).collect(),
            data: block.data.clone(),
        };
        self.change(move |tx, name| {
            read_lease(tx, name)?.check(fence)?;
            insert_block(tx, &block)
        })
        .await
    }

    async fn preimages(
        &self,
        subject: &str,
        keys: &[Key],
    ) -> Result<Vec<Vec<PreimageHit>>, JournalError> {
        let subject = subject.to_owned();
        let keys: Vec<Vec<u8>> = keys.iter().map(key_bytes).collect();
        let blocks = self.blocks.clone();
        self.call(move |connection, name| find_hits(connection, name, &blocks, &subject, &keys))
            .await
    }

    async fn quarantined(
        &self,
        subject: Option<&str>,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, QuarantineItem)>, JournalError> {
        let subject = subject.map(str::to_owned);
        self.call(move |connection, name| {
            let mut select = connection.prepare_cached(
                "SELECT id, item, attempts FROM quarantine
                 WHERE id > ?1 AND (?2 IS NULL OR subject = ?2) ORDER BY id LIMIT ?3",
            )?;
            let after = signed(name, after.unwrap_or(0))?;
            let rows = select.query_map(params![after, subject, limit], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get(2)?))
            })?;
            let mut items = Vec::new();
            for row in rows {
                let (id, text, attempts) = row?;
                let id = unsigned(name, id)?;
                items.push((id, item_of(name, id, &text, attempts)?));
            }
            Ok(items)
        })
        .await
    }

    async fn release(
        &self,
        fence: u64,
        subject: &str,
        labels: &[String],
    ) -> Result<u64, JournalError> {
        let (subject, labels) = (subject.to_owned(), labels.to_vec());
        self.change(move |tx, name| {
            read_lease(tx, name)?.check(fence)?;
            let mut delete =
                tx.prepare_cached("DELETE FROM quarantine WHERE subject = ?1 AND label = ?2")?;
            let mut released = 0;
            for label in &labels {
                released += delete.execute(params![subject, label])? as u64;
            }
            Ok(released)
        })
        .await
    }

    async fn acquire(&self, holder: &str, ttl_ms: u64) -> Result<Lease, JournalError> {
        self.take(holder, ttl_ms, false).await
    }

    async fn renew(&self, fence: u64, ttl_ms: u64) -> Result<(), JournalError> {
        self.change(move |tx, name| {
            read_lease(tx, name)?.check(fence)?;
            let expires_at = later(now(), ttl_ms).to_string();
            tx.execute("UPDATE lease SET expires_at = ?1", [expires_at])?;
            Ok(())
        })
        .await
    }

    async fn give_up(&self, fence: u64) -> Result<(), JournalError> {
        self.change(move |tx, name| {
            read_lease(tx, name)?.check(fence)?;
            tx.execute("UPDATE lease SET holder = NULL", [])?;
            Ok(())
        })
        .await
    }

    async fn lease(&self) -> Result<Option<Lease>, JournalError> {
        self.call(|connection, name| Ok(read_lease(connection, name)?.lease(now())))
            .await
    }

    async fn break_lease(&self, by: &str, ttl_ms: u64) -> Result<Lease, JournalError> {
        self.take(by, ttl_ms, true).await
    }
}
