//! The connection that commits. It holds a lock for as long as it lives, so that no two servers of one schema
//! commit beside each other: each would be ignorant of the other's indexes, locks and times.

use super::side::Side;
use super::triggers::OWN;
use crate::postgres::connect::Connections;
use crate::postgres::error::store_error;
use deadpool_postgres::{ClientWrapper, Object};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_postgres::Error;
use whimbrel_firestore::Micros;
use whimbrel_model::{Code, StoreError, StoreErrorKind};

/// How long another server is waited for: one that was just stopped may not be gone yet.
const WAIT: Duration = Duration::from_secs(10);
const BETWEEN: Duration = Duration::from_millis(20);

/// "whim" in ASCII: the first half of the lock's number.
const LOCK: &str = "SELECT pg_try_advisory_lock(2003331437, hashtext($1::text)), pg_backend_pid(), \
    (SELECT backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid())";

/// What is answered survives a crash, and the lock is not lost by sitting still, whatever the server's defaults are.
const LASTING: &str = "SELECT set_config(name, CASE name WHEN 'synchronous_commit' THEN 'on' ELSE '0' END, false) \
    FROM pg_settings WHERE name = 'idle_session_timeout' OR (name = 'synchronous_commit' AND setting = 'off')";

const HOLDER: &str = "SELECT l.pid, coalesce(a.client_addr::text, 'a local connection') FROM pg_locks l \
    LEFT JOIN pg_stat_activity a ON a.pid = l.pid \
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = 2003331437::oid \
      AND l.objid::bigint = hashtext($1::text)::bigint & 4294967295 \
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// Only the very session that was ours.
const END: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
    WHERE pid = $1::int4 AND backend_start::text = $2::text";

/// The right to commit, and the connection that it hangs on.
pub(super) struct Committer {
    /// `None` while it is in use (so that one that is dropped half-way is not used again), or lost.
    client: Option<ClientWrapper>,
    /// The last connection's process, and when it began.
    process: (i32, String),
    /// The time of the last commit.
    last: AtomicI64,
}

impl Committer {
    /// # Errors
    /// The database cannot be reached, or another server serves the schema.
    pub async fn begin(connections: &Connections, side: &Side) -> Result<Self, StoreError> {
        let mut committer = Self {
            client: None,
            process: (0, String::new()),
            last: AtomicI64::new(0),
        };
        let client = committer.take(connections, side).await?;
        committer.give_back(client);
        Ok(committer)
    }

    pub fn starts_at(&self, at: Micros) {
        self.last.store(at, Ordering::Relaxed);
    }

    pub fn last(&self) -> Micros {
        self.last.load(Ordering::Relaxed)
    }

    /// The connection, for one transaction. One that was lost is replaced.
    ///
    /// # Errors
    /// As of [`Self::begin`].
    pub async fn take(
        &mut self,
        connections: &Connections,
        side: &Side,
    ) -> Result<ClientWrapper, StoreError> {
        if let Some(client) = self.client.take().filter(|client| !client.is_closed()) {
            return Ok(client);
        }
        let failed = |error| store_error(&connections.name, "taking the lock of the server", error);
        // Out of the pool: nobody else may use it, and with it goes the lock.
        let client = Object::take(connections.get().await?);
        for batch in [OWN, LASTING] {
            client.batch_execute(batch).await.map_err(failed)?;
        }
        let begun = Instant::now();
        loop {
            let row = client
                .query_one(LOCK, &[&side.name])
                .await
                .map_err(failed)?;
            if row.try_get(0).map_err(failed)? {
                self.process = (
                    row.try_get(1).map_err(failed)?,
                    row.try_get::<_, Option<String>>(2)
                        .map_err(failed)?
                        .unwrap_or_default(),
                );
                return Ok(client);
            }
            // A connection of this server's own that the database does not know to be lost.
            self.end_old(&client).await.map_err(failed)?;
            if begun.elapsed() > WAIT {
                let holder = holder(&client, side).await.map_err(failed)?;
                return Err(StoreError::new(
                    StoreErrorKind::Terminal,
                    Code::StoreDenied,
                    &connections.name,
                    format!(
                        "nothing was done: another server serves the tables of schema {:?}{holder}; stop it first",
                        side.served
                    ),
                ));
            }
            sleep(BETWEEN).await;
        }
    }

    pub async fn end_old(&self, client: &ClientWrapper) -> Result<(), Error> {
        if self.process.0 != 0 {
            let (pid, started) = &self.process;
            client.query(END, &[pid, started]).await?;
        }
        Ok(())
    }

    /// After a transaction that is over.
    pub fn give_back(&mut self, client: ClientWrapper) {
        self.client = Some(client);
    }
}

async fn holder(client: &ClientWrapper, side: &Side) -> Result<String, Error> {
    let row = client.query_opt(HOLDER, &[&side.name]).await?;
    let Some(row) = row else {
        return Ok(String::new());
    };
    let (pid, address): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
    Ok(format!(" (process {pid} of the database, from {address})"))
}
