//! The embedded ledger: one SQLite file, which several processes may open.
//!
//! Every write is one `BEGIN IMMEDIATE` transaction in WAL mode with `synchronous = FULL`, so that it is
//! on disk when the call returns, and no two processes decide on the same head or the same lease.

mod file;
mod preimages;
mod recent;
mod requests;
mod trouble;

use super::cache::BlockCache;
use super::key::key_bytes;
use super::keylist;
use super::{
    LeaseRow, check_follows, failed, item_of, item_text, later, request_text, signed, unsigned,
};
use async_trait::async_trait;
use preimages::{BlockRow, blocks_of, find_hits, insert_block};
use recent::Recent;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use trouble::Trouble;
use whimbrel_model::ledger::{
    Filed, Lease, NO_HASH, PreimageBlock, PreimageHit, QuarantineItem, Record, Request,
};
use whimbrel_model::{Journal, JournalError, Key, Timestamp};

pub(super) struct SqliteJournal {
    name: String,
    connection: Arc<Mutex<Connection>>,
    blocks: Arc<BlockCache>,
    recent: Arc<Mutex<Recent>>,
    /// Whether it was opened to be written.
    writable: bool,
}

impl SqliteJournal {
    /// `None` when there is no ledger and none is to be created.
    pub(super) async fn open(path: &str, create: bool) -> Result<Option<Self>, JournalError> {
        let path = path.to_owned();
        let name = format!("sqlite:{path}");
        let at = name.clone();
        let opened = blocking(&name, move || file::open(Path::new(&path), &at, create)).await?;
        Ok(opened.map(|connection| Self {
            name,
            connection: Arc::new(Mutex::new(connection)),
            blocks: Arc::default(),
            recent: Arc::default(),
            writable: create,
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

fn release(tx: &Transaction<'_>, subject: &str, labels: &[String]) -> Result<(), Trouble> {
    let mut delete =
        tx.prepare_cached("DELETE FROM quarantine WHERE subject = ?1 AND label = ?2")?;
    for label in labels {
        delete.execute(params![subject, label])?;
    }
    Ok(())
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
        filed: Filed<'_>,
    ) -> Result<(), JournalError> {
        let (records, quarantine) = (records.to_vec(), filed.quarantine.to_vec());
        let released = filed.released.map(|(s, l)| (s.to_owned(), l.to_vec()));
        self.change(move |tx, name| {
            read_lease(tx, name)?.check(fence)?;
            let head: Option<(i64, String)> = tx
                .prepare_cached("SELECT seq, hash FROM record ORDER BY seq DESC LIMIT 1")?
                .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let (seq, hash) = head.unwrap_or_else(|| (0, NO_HASH.to_owned()));
            check_follows(name, (unsigned(name, seq)?, &hash), fence, &records)?;
            insert_records(tx, name, &records)?;
            if let Some((subject, labels)) = &released {
                release(tx, subject, labels)?;
            }
            file_quarantine(tx, name, &quarantine)
        })
        .await
    }

    async fn put_preimages(&self, fence: u64, block: &PreimageBlock) -> Result<(), JournalError> {
        let block = BlockRow {
            run: block.run.clone(),
            subject: block.subject.clone(),
            keys: block.keys.len(),
            list: keylist::pack(&self.name, &block.keys)?,
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
        // In several transactions: whoever renews the lease waits for one at most.
        while self.writable
            && self
                .call(|connection, _| recent::are_many(connection))
                .await?
        {
            self.change(recent::index_some).await?;
        }
        let (blocks, recent) = (self.blocks.clone(), self.recent.clone());
        self.call(move |connection, name| {
            let mut recent = recent.lock().unwrap_or_else(PoisonError::into_inner);
            // At one instant: what is indexed meanwhile would be found twice.
            let tx = connection.transaction()?;
            let hits = find_hits(&tx, name, (&blocks, &mut recent), &subject, &keys)?;
            tx.commit()?;
            Ok(hits)
        })
        .await
    }

    async fn blocks_of(
        &self,
        run: &str,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, PreimageBlock)>, JournalError> {
        let run = run.to_owned();
        self.call(move |connection, name| blocks_of(connection, name, &run, before, limit))
            .await
    }

    async fn ask(&self, request: &Request) -> Result<u64, JournalError> {
        let request = request.clone();
        self.change(move |tx, name| {
            let text = request_text(name, &request, now())?;
            Ok(unsigned(name, requests::insert(tx, &text)?)?)
        })
        .await
    }

    async fn requests(&self) -> Result<Vec<Request>, JournalError> {
        self.call(|connection, name| requests::waiting(connection, name))
            .await
    }

    async fn settle_request(&self, fence: u64, id: u64) -> Result<(), JournalError> {
        self.change(move |tx, name| {
            read_lease(tx, name)?.check(fence)?;
            tx.execute("DELETE FROM request WHERE id = ?1", [signed(name, id)?])?;
            Ok(())
        })
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

    async fn waiting(&self, subject: &str, labels: &[String]) -> Result<Vec<String>, JournalError> {
        let (subject, mut labels) = (subject.to_owned(), labels.to_vec());
        self.call(move |connection, _| {
            let mut find = connection
                .prepare_cached("SELECT 1 FROM quarantine WHERE subject = ?1 AND label = ?2")?;
            let mut failed = None;
            labels.retain(|label| {
                let found = find.exists(params![subject, label]);
                found.unwrap_or_else(|error| failed.replace(error).is_some())
            });
            match failed {
                Some(error) => Err(error.into()),
                None => Ok(labels),
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_model::Entry;

    async fn lease_and_record(journal: &SqliteJournal) -> (u64, Record) {
        let fence = journal.acquire("test", 60_000).await.unwrap().fence;
        let entry = Entry::LeaseBroken {
            by: "b".repeat(100_000),
            holder: String::new(),
            fence: 0,
        };
        (fence, Record::following((0, NO_HASH), now(), fence, entry))
    }

    #[tokio::test]
    async fn a_full_disk_is_named_and_leaves_nothing_half_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = format!("{}/ledger.db", folder.path().display());
        let journal = SqliteJournal::open(&path, true).await.unwrap().unwrap();
        let (fence, record) = lease_and_record(&journal).await;
        let limit = |pages: i64| {
            let connection = journal.connection.lock().unwrap();
            connection
                .pragma_update(None, "max_page_count", pages)
                .unwrap();
        };
        limit(1);
        let full = journal
            .append(fence, std::slice::from_ref(&record), Filed::default())
            .await
            .unwrap_err();
        assert!(full.to_string().contains("the disk is full"), "{full}");
        assert!(journal.read(0, 10).await.unwrap().is_empty());
        limit(1_000_000);
        let filed = Filed::default();
        journal.append(fence, &[record], filed).await.unwrap();
        assert_eq!(journal.read(0, 10).await.unwrap().len(), 1);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn only_its_owner_may_read_a_ledger() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/ledger.db");
        let journal = SqliteJournal::open(path.to_str().unwrap(), true)
            .await
            .unwrap()
            .unwrap();
        lease_and_record(&journal).await;
        for end in ["", "-wal"] {
            let file = format!("{}{end}", path.display());
            let mode = std::fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{file}");
        }
    }
}
