//! The ledger on PostgreSQL, for runs that several machines take part in or watch.
//!
//! The tables lie in a schema of their own (`?schema=name`, by default `whimbrel`). Every writing call first
//! locks the lease's row, shared, so that the fence it was checked against stays true until the commit;
//! an append also locks the one row of `meta`, so that no two decide on the same head. Leases are timed by
//! the server's clock.

mod preimages;
mod requests;
mod trouble;

use super::cache::BlockCache;
use super::key::label_bytes;
use super::{
    LeaseRow, check_follows, failed, item_of, item_text, later, query_option, signed, unsigned,
};
use crate::postgres::connect::Connections;
use crate::postgres::url::percent_decode;
use async_trait::async_trait;
use deadpool_postgres::{Client, Transaction};
use futures::future::try_join_all;
use std::collections::HashSet;
use tokio_postgres::types::ToSql;
use tokio_postgres::{GenericClient, Row};
use trouble::Trouble;
use whimbrel_model::ledger::{
    FORMAT, Filed, Lease, NO_HASH, PreimageBlock, PreimageHit, QuarantineItem, Record, Request,
};
use whimbrel_model::{Journal, JournalError, Key, Timestamp};

const DEFAULT_SCHEMA: &str = "whimbrel";
const SCHEMA_BYTES_MAX: usize = 63;

/// In every statement `@` stands for the quoted schema.
const TABLES: &str = "
CREATE TABLE @.meta (format integer NOT NULL, lineage text NOT NULL);
CREATE TABLE @.record (
  seq bigint PRIMARY KEY, at text NOT NULL, fence bigint NOT NULL,
  previous text NOT NULL, hash text NOT NULL, entry text NOT NULL);
CREATE TABLE @.lease (
  id integer PRIMARY KEY CHECK (id = 1), fence bigint NOT NULL, holder text,
  acquired_at text NOT NULL, expires_at text NOT NULL);
INSERT INTO @.lease VALUES (1, 0, NULL, '', '');
CREATE TABLE @.preimage_name (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE @.preimage_block (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, run bigint NOT NULL, subject bigint NOT NULL,
  data bytea NOT NULL);
-- It comes compressed.
ALTER TABLE @.preimage_block ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE TABLE @.preimage_key (
  subject bigint NOT NULL, key bytea NOT NULL, block bigint NOT NULL, idx integer NOT NULL,
  PRIMARY KEY (subject, key, block, idx));
CREATE TABLE @.quarantine (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, subject text NOT NULL, label bytea NOT NULL,
  item text NOT NULL, attempts integer NOT NULL, UNIQUE (subject, label));
";

/// What came after. A ledger that lacks it gets it when it is next opened for writing.
const ADDED: &str = "
CREATE TABLE @.request (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, request text NOT NULL);
ALTER TABLE @.preimage_block ADD COLUMN keys bytea;
ALTER TABLE @.preimage_block ALTER COLUMN keys SET STORAGE EXTERNAL;
CREATE INDEX preimage_block_run ON @.preimage_block (run, id);
";

pub(super) struct PostgresJournal {
    /// The URL without secrets, and the schema.
    name: String,
    connections: Connections,
    sql: Sql,
    blocks: BlockCache,
}

/// Puts the schema into statements.
struct Sql {
    schema: String,
}

impl Sql {
    fn text(&self, template: &str) -> String {
        template.replace('@', &format!("\"{}\"", self.schema.replace('"', "\"\"")))
    }
}

impl PostgresJournal {
    /// `None` when there is no ledger and none is to be created.
    pub(super) async fn open(url: &str, create: bool) -> Result<Option<Self>, JournalError> {
        let (url, schema) = query_option(url, "schema");
        let schema = schema_name(schema.as_deref())?;
        let connections = Connections::open(&url, !create)
            .await
            .map_err(|e| failed(&e.store, e.message))?;
        let journal = Self {
            name: format!("{}?schema={schema}", connections.name),
            connections,
            sql: Sql { schema },
            blocks: BlockCache::default(),
        };
        let ready = journal.prepare(create).await;
        Ok(ready
            .map_err(|t| t.named(&journal.name))?
            .then_some(journal))
    }

    async fn client(&self) -> Result<Client, Trouble> {
        let client = self.connections.get().await;
        Ok(client.map_err(|e| failed(&self.name, e.message))?)
    }

    /// Looks at what is there before anything is written; `false` when there is still no ledger.
    async fn prepare(&self, create: bool) -> Result<bool, Trouble> {
        let mut client = self.client().await?;
        let ready = self.recognise(&**client).await?;
        if !create || (ready && self.has_table(&**client, "request").await?) {
            return Ok(ready);
        }
        let tx = begin(&mut client).await?;
        // Two programs may find nothing at the same time; "WBLG" keeps them apart.
        tx.execute("SELECT pg_advisory_xact_lock(1463962695)", &[])
            .await?;
        if !self.recognise(&*tx).await? {
            let exists = "SELECT FROM pg_namespace WHERE nspname = $1";
            if tx.query_opt(exists, &[&self.sql.schema]).await?.is_none() {
                tx.batch_execute(&self.sql.text("CREATE SCHEMA @")).await?;
            }
            tx.batch_execute(&self.sql.text(TABLES)).await?;
            let meta = self
                .sql
                .text("INSERT INTO @.meta SELECT $1, replace(gen_random_uuid()::text, '-', '')");
            tx.execute(&meta, &[&FORMAT.cast_signed()]).await?;
        }
        if !self.has_table(&*tx, "request").await? {
            tx.batch_execute(&self.sql.text(ADDED)).await?;
        }
        commit(tx).await?;
        Ok(true)
    }

    /// Whether the schema holds a ledger that this program can use.
    async fn recognise(&self, client: &impl GenericClient) -> Result<bool, Trouble> {
        if !self.has_table(client, "meta").await? {
            return Ok(false);
        }
        let row = client
            .query_one(&self.sql.text("SELECT format FROM @.meta"), &[])
            .await?;
        let found = row.try_get::<_, i32>(0)?.cast_unsigned();
        if found > FORMAT {
            let ledger = self.name.clone();
            return Err(JournalError::NewerFormat { ledger, found }.into());
        }
        Ok(true)
    }

    async fn has_table(&self, client: &impl GenericClient, table: &str) -> Result<bool, Trouble> {
        // Asked of the catalog's rows: a name looked up in vain stays unfound for the rest of a transaction.
        let exists = "SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                      WHERE n.nspname = $1 AND c.relname = $2";
        let found = client
            .query_opt(exists, &[&self.sql.schema, &table])
            .await?;
        Ok(found.is_some())
    }

    async fn rows(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Trouble> {
        let client = self.client().await?;
        let statement = client.prepare_cached(&self.sql.text(sql)).await?;
        Ok(client.query(&statement, params).await?)
    }

    /// One statement of a transaction.
    async fn run(
        &self,
        tx: &Transaction<'_>,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Trouble> {
        let statement = tx.prepare_cached(&self.sql.text(sql)).await?;
        Ok(tx.query(&statement, params).await?)
    }

    /// The lease as it stays until the transaction's end.
    async fn lease_row(&self, tx: &Transaction<'_>, alone: bool) -> Result<LeaseRow, Trouble> {
        let sql = if alone {
            "SELECT fence, holder, acquired_at, expires_at FROM @.lease FOR UPDATE"
        } else {
            "SELECT fence, holder, acquired_at, expires_at FROM @.lease FOR SHARE"
        };
        let rows = self.run(tx, sql, &[]).await?;
        self.lease_of(&rows)
    }

    fn lease_of(&self, rows: &[Row]) -> Result<LeaseRow, Trouble> {
        let row = rows
            .first()
            .ok_or_else(|| failed(&self.name, "its lease's row is missing".to_owned()))?;
        Ok(LeaseRow {
            fence: unsigned(&self.name, row.try_get(0)?)?,
            holder: row.try_get(1)?,
            acquired_at: row.try_get(2)?,
            expires_at: row.try_get(3)?,
        })
    }

    async fn take(&self, holder: &str, ttl_ms: u64, force: bool) -> Result<Lease, Trouble> {
        let mut client = self.client().await?;
        let tx = begin(&mut client).await?;
        let current = self.lease_row(&tx, true).await?;
        // Asked only now: the lock may have been long in coming.
        let now = server_now(&*tx).await?;
        let next = current.next(holder, now, ttl_ms, force)?;
        self.run(
            &tx,
            "UPDATE @.lease SET fence = $1, holder = $2, acquired_at = $3, expires_at = $4",
            &[
                &signed(&self.name, next.fence)?,
                &next.holder,
                &next.acquired_at,
                &next.expires_at,
            ],
        )
        .await?;
        commit(tx).await?;
        let lease = next.lease(now);
        Ok(lease.ok_or_else(|| failed(&self.name, "the lease was not taken".to_owned()))?)
    }

    async fn append_all(
        &self,
        fence: u64,
        records: &[Record],
        filed: Filed<'_>,
    ) -> Result<(), Trouble> {
        let mut client = self.client().await?;
        let tx = begin(&mut client).await?;
        self.lease_row(&tx, false).await?.check(fence)?;
        self.run(&tx, "SELECT FROM @.meta FOR UPDATE", &[]).await?;
        let head = "SELECT seq, hash FROM @.record ORDER BY seq DESC LIMIT 1";
        let (seq, hash) = match self.run(&tx, head, &[]).await?.first() {
            Some(row) => (unsigned(&self.name, row.try_get(0)?)?, row.try_get(1)?),
            None => (0, NO_HASH.to_owned()),
        };
        check_follows(&self.name, (seq, &hash), fence, records)?;
        self.insert_records(&tx, records).await?;
        if let Some((subject, labels)) = filed.released {
            let labels: Vec<Vec<u8>> = labels.iter().map(|l| label_bytes(l)).collect();
            let sql = "DELETE FROM @.quarantine WHERE subject = $1 AND label = ANY($2)";
            self.run(&tx, sql, &[&subject, &labels]).await?;
        }
        self.file_quarantine(&tx, filed.quarantine).await?;
        commit(tx).await
    }

    async fn insert_records(
        &self,
        tx: &Transaction<'_>,
        records: &[Record],
    ) -> Result<(), Trouble> {
        let numbers = |of: fn(&Record) -> u64| -> Result<Vec<i64>, JournalError> {
            records.iter().map(|r| signed(&self.name, of(r))).collect()
        };
        let (seqs, fences) = (numbers(|r| r.seq)?, numbers(|r| r.fence)?);
        let ats: Vec<&str> = records.iter().map(|r| r.at.as_str()).collect();
        let previous: Vec<&str> = records.iter().map(|r| r.previous.as_str()).collect();
        let hashes: Vec<&str> = records.iter().map(|r| r.hash.as_str()).collect();
        let entries: Vec<_> = records.iter().map(Record::entry_text).collect();
        self.run(
            tx,
            "INSERT INTO @.record (seq, at, fence, previous, hash, entry)
             SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::text[],
                                  $6::text[])",
            &[&seqs, &ats, &fences, &previous, &hashes, &entries],
        )
        .await
        .map(drop)
    }

    /// A row that is replaced keeps its id, so that whoever pages through the waiting documents while
    /// retrying them comes to an end.
    async fn file_quarantine(
        &self,
        tx: &Transaction<'_>,
        items: &[QuarantineItem],
    ) -> Result<(), Trouble> {
        if items.is_empty() {
            return Ok(());
        }
        let insert = self.sql.text(
            "INSERT INTO @.quarantine AS q (subject, label, item, attempts) VALUES ($1, $2, $3, $4)
             ON CONFLICT (subject, label) DO UPDATE
             SET item = excluded.item, attempts = q.attempts + 1",
        );
        let insert = &tx.prepare_cached(&insert).await?;
        let file = |item: &QuarantineItem| {
            let (subject, label) = (item.subject.clone(), label_bytes(&item.label));
            let attempts = item.attempts.cast_signed();
            let text = item_text(&self.name, item);
            async move {
                let text = text?;
                tx.execute(insert, &[&subject, &label, &text, &attempts])
                    .await?;
                Ok::<_, Trouble>(())
            }
        };
        // One statement each, so that a label may come twice; sent without waiting for the answers.
        try_join_all(items.iter().map(file)).await.map(drop)
    }

    fn record_of(&self, row: &Row) -> Result<Record, Trouble> {
        let seq = unsigned(&self.name, row.try_get(0)?)?;
        let fence = unsigned(&self.name, row.try_get(2)?)?;
        let (at, previous) = (row.try_get(1)?, row.try_get(3)?);
        let record = Record::stored(seq, at, fence, previous, row.try_get(4)?, row.try_get(5)?);
        Ok(record.map_err(JournalError::from)?)
    }

    async fn with_lease(
        &self,
        fence: u64,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Trouble> {
        let mut client = self.client().await?;
        let tx = begin(&mut client).await?;
        self.lease_row(&tx, true).await?.check(fence)?;
        let rows = self.run(&tx, sql, params).await?;
        commit(tx).await?;
        Ok(rows)
    }
}

/// The schema that the URL names, percent escapes resolved.
fn schema_name(option: Option<&str>) -> Result<String, JournalError> {
    let Some(option) = option else {
        return Ok(DEFAULT_SCHEMA.to_owned());
    };
    let name = percent_decode(option).map_err(|e| failed(&e.store, e.message))?;
    // The server would cut a longer name, and it would never be found again.
    if name.is_empty() || name.len() > SCHEMA_BYTES_MAX || name.contains('\0') {
        let message = format!("the URL's schema must have 1 to {SCHEMA_BYTES_MAX} bytes");
        return Err(failed("postgres", message));
    }
    Ok(name)
}

/// A transaction whose commit waits for the server's disk even where the database is set not to.
async fn begin(client: &mut Client) -> Result<Transaction<'_>, Trouble> {
    let tx = client.transaction().await?;
    let durable = "SELECT set_config('synchronous_commit', 'on', true)
                   WHERE current_setting('synchronous_commit') = 'off'";
    let statement = tx.prepare_cached(durable).await?;
    tx.query(&statement, &[]).await?;
    Ok(tx)
}

async fn commit(tx: Transaction<'_>) -> Result<(), Trouble> {
    tx.commit().await.map_err(|error| {
        // A plain refusal (a failed constraint, a full disk) is known to have written nothing.
        let class = error
            .code()
            .map(|state| state.code().chars().take(2).collect::<String>());
        match class.as_deref() {
            Some("23" | "25" | "40" | "53") => Trouble::Postgres(error),
            _ => Trouble::Commit(error),
        }
    })
}

async fn server_now(client: &impl GenericClient) -> Result<Timestamp, Trouble> {
    let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    Ok(Timestamp::from_micros(
        client.query_one(sql, &[]).await?.try_get(0)?,
    ))
}

#[async_trait]
impl Journal for PostgresJournal {
    fn name(&self) -> &str {
        &self.name
    }

    async fn read(&self, after: u64, limit: u32) -> Result<Vec<Record>, JournalError> {
        let named = |t: Trouble| t.named(&self.name);
        let sql = "SELECT seq, at, fence, previous, hash, entry FROM @.record
                   WHERE seq > $1 ORDER BY seq LIMIT $2";
        let (after, limit) = (signed(&self.name, after)?, i64::from(limit));
        let rows = self.rows(sql, &[&after, &limit]).await.map_err(named)?;
        rows.iter()
            .map(|row| self.record_of(row).map_err(named))
            .collect()
    }

    async fn append(
        &self,
        fence: u64,
        records: &[Record],
        filed: Filed<'_>,
    ) -> Result<(), JournalError> {
        let done = self.append_all(fence, records, filed).await;
        done.map_err(|t| t.named(&self.name))
    }

    async fn put_preimages(&self, fence: u64, block: &PreimageBlock) -> Result<(), JournalError> {
        let done = self.put_block(fence, block).await;
        done.map_err(|t| t.named(&self.name))
    }

    async fn preimages(
        &self,
        subject: &str,
        keys: &[Key],
    ) -> Result<Vec<Vec<PreimageHit>>, JournalError> {
        let found = self.find_hits(subject, keys).await;
        found.map_err(|t| t.named(&self.name))
    }

    async fn blocks_of(
        &self,
        run: &str,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, PreimageBlock)>, JournalError> {
        let found = self.find_blocks(run, before, limit).await;
        found.map_err(|t| t.named(&self.name))
    }

    async fn ask(&self, request: &Request) -> Result<u64, JournalError> {
        let asked = self.put_request(request).await;
        asked.map_err(|t| t.named(&self.name))
    }

    async fn requests(&self) -> Result<Vec<Request>, JournalError> {
        let found = self.waiting_requests().await;
        found.map_err(|t| t.named(&self.name))
    }

    async fn settle_request(&self, fence: u64, id: u64) -> Result<(), JournalError> {
        let id = signed(&self.name, id)?;
        let sql = "DELETE FROM @.request WHERE id = $1";
        let done = self.with_lease(fence, sql, &[&id]).await;
        done.map(drop).map_err(|t| t.named(&self.name))
    }

    async fn quarantined(
        &self,
        subject: Option<&str>,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, QuarantineItem)>, JournalError> {
        let named = |t: Trouble| t.named(&self.name);
        let sql = "SELECT id, item, attempts FROM @.quarantine
                   WHERE id > $1 AND ($2::text IS NULL OR subject = $2) ORDER BY id LIMIT $3";
        let (after, limit) = (signed(&self.name, after.unwrap_or(0))?, i64::from(limit));
        let rows = self
            .rows(sql, &[&after, &subject, &limit])
            .await
            .map_err(named)?;
        let item = |row: &Row| -> Result<(u64, QuarantineItem), Trouble> {
            let id = unsigned(&self.name, row.try_get(0)?)?;
            let attempts: i32 = row.try_get(2)?;
            let item = item_of(&self.name, id, row.try_get(1)?, attempts.cast_unsigned())?;
            Ok((id, item))
        };
        rows.iter().map(|row| item(row).map_err(named)).collect()
    }

    async fn waiting(&self, subject: &str, labels: &[String]) -> Result<Vec<String>, JournalError> {
        let bytes: Vec<Vec<u8>> = labels.iter().map(|l| label_bytes(l)).collect();
        let sql = "SELECT label FROM @.quarantine WHERE subject = $1 AND label = ANY($2)";
        let found = async {
            let rows = self.rows(sql, &[&subject, &bytes]).await?;
            let found = rows.iter().map(|row| row.try_get::<_, Vec<u8>>(0));
            Ok::<HashSet<Vec<u8>>, Trouble>(found.collect::<Result<_, _>>()?)
        };
        let found = found.await.map_err(|t| t.named(&self.name))?;
        let waiting = labels.iter().zip(&bytes);
        Ok(waiting
            .filter(|(_, bytes)| found.contains(*bytes))
            .map(|(label, _)| label.clone())
            .collect())
    }

    async fn acquire(&self, holder: &str, ttl_ms: u64) -> Result<Lease, JournalError> {
        let lease = self.take(holder, ttl_ms, false).await;
        lease.map_err(|t| t.named(&self.name))
    }

    async fn renew(&self, fence: u64, ttl_ms: u64) -> Result<(), JournalError> {
        let renewed = async {
            let mut client = self.client().await?;
            let tx = begin(&mut client).await?;
            self.lease_row(&tx, true).await?.check(fence)?;
            let expires_at = later(server_now(&*tx).await?, ttl_ms).to_string();
            self.run(&tx, "UPDATE @.lease SET expires_at = $1", &[&expires_at])
                .await?;
            commit(tx).await
        };
        renewed.await.map_err(|t| t.named(&self.name))
    }

    async fn give_up(&self, fence: u64) -> Result<(), JournalError> {
        let sql = "UPDATE @.lease SET holder = NULL";
        let done = self.with_lease(fence, sql, &[]).await;
        done.map(drop).map_err(|t| t.named(&self.name))
    }

    async fn lease(&self) -> Result<Option<Lease>, JournalError> {
        let found = async {
            let sql = "SELECT fence, holder, acquired_at, expires_at FROM @.lease";
            let row = self.lease_of(&self.rows(sql, &[]).await?)?;
            let now = server_now(&**self.client().await?).await?;
            Ok::<_, Trouble>(row.lease(now))
        };
        found.await.map_err(|t| t.named(&self.name))
    }

    async fn break_lease(&self, by: &str, ttl_ms: u64) -> Result<Lease, JournalError> {
        let lease = self.take(by, ttl_ms, true).await;
        lease.map_err(|t| t.named(&self.name))
    }
}
