//! Where ledgers live: an embedded SQLite file, or PostgreSQL where several machines take part.
//!
//! Both keep the same tables: `meta` (format, lineage), `record`, `lease`, `preimage_block`,
//! `preimage_key`, `quarantine` and `request`. A record's entry is stored as the very text that its hash covers.

mod cache;
mod key;
mod keylist;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use crate::url::{StoreUrl, without_secret};
use std::sync::Arc;
use whimbrel_model::ledger::{Lease, QuarantineItem, Record, Request};
use whimbrel_model::{Journal, JournalError, Timestamp};

/// Opens a ledger by its URL (`sqlite:path`, `postgres://…?schema=name`) and creates it where it is
/// missing. Messages name the ledger without its secrets.
///
/// # Errors
/// The URL is not valid, its driver is not built in, the ledger cannot be used, or a newer program
/// wrote it.
pub async fn open(url: &str) -> Result<Arc<dyn Journal>, JournalError> {
    connect(url, true)
        .await?
        .ok_or_else(|| failed(&without_secret(url), "it could not be created".to_owned()))
}

/// Opens a ledger only to read it, and never creates one: `None` where there is none. For commands
/// that must not write (`status`, `history`, a dry run).
///
/// # Errors
/// As [`open`].
pub async fn open_existing(url: &str) -> Result<Option<Arc<dyn Journal>>, JournalError> {
    connect(url, false).await
}

async fn connect(url: &str, create: bool) -> Result<Option<Arc<dyn Journal>>, JournalError> {
    match StoreUrl::parse(url).map_err(|e| failed(&e.store, e.message))? {
        #[cfg(feature = "sqlite")]
        StoreUrl::Sqlite(Some(path)) => Ok(sqlite::SqliteJournal::open(&path, create)
            .await?
            .map(|j| Arc::new(j) as Arc<dyn Journal>)),
        #[cfg(feature = "postgres")]
        StoreUrl::Postgres => Ok(postgres::PostgresJournal::open(url, create)
            .await?
            .map(|j| Arc::new(j) as Arc<dyn Journal>)),
        _ => Err(failed(
            &without_secret(url),
            "a ledger is kept in `sqlite:path` or `postgres://…`, where the program has that driver"
                .to_owned(),
        )),
    }
}

/// Takes one option out of a URL's query: the URL without it, and its value.
#[cfg(feature = "postgres")]
fn query_option(url: &str, name: &str) -> (String, Option<String>) {
    let Some((base, query)) = url.split_once('?') else {
        return (url.to_owned(), None);
    };
    let (mut kept, mut value) = (Vec::new(), None);
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some((n, v)) if n == name => value = Some(v.to_owned()),
            _ => kept.push(pair),
        }
    }
    let url = if kept.is_empty() {
        base.to_owned()
    } else {
        format!("{base}?{}", kept.join("&"))
    };
    (url, value)
}

fn failed(ledger: &str, message: String) -> JournalError {
    JournalError::Failed {
        ledger: ledger.to_owned(),
        message,
    }
}

/// The lease's row. `holder` is `None` before the first lease and after one was given up; the fence
/// stays, so that a number never comes back.
#[derive(Clone, Debug)]
struct LeaseRow {
    fence: u64,
    holder: Option<String>,
    acquired_at: String,
    expires_at: String,
}

impl LeaseRow {
    fn lease(&self, now: Timestamp) -> Option<Lease> {
        Some(Lease {
            fence: self.fence,
            holder: self.holder.clone()?,
            acquired_at: self.acquired_at.clone(),
            expires_at: self.expires_at.clone(),
            // A time nobody can read protects nobody.
            expired: Timestamp::parse(&self.expires_at).is_none_or(|at| at <= now),
        })
    }

    /// Whether the bearer of `fence` may write. An expired lease that nobody took still counts.
    fn check(&self, fence: u64) -> Result<(), JournalError> {
        match &self.holder {
            Some(_) if self.fence == fence => Ok(()),
            holder => Err(JournalError::Fenced {
                holder: holder
                    .clone()
                    .unwrap_or_else(|| "nobody (it was given up)".to_owned()),
            }),
        }
    }

    /// The lease after this one, or the live one that is in the way.
    fn next(
        &self,
        holder: &str,
        now: Timestamp,
        ttl_ms: u64,
        force: bool,
    ) -> Result<Self, JournalError> {
        if let Some(lease) = self.lease(now).filter(|lease| !lease.expired && !force) {
            return Err(JournalError::Held(Box::new(lease)));
        }
        Ok(Self {
            fence: self.fence + 1,
            holder: Some(holder.to_owned()),
            acquired_at: now.to_string(),
            expires_at: later(now, ttl_ms).to_string(),
        })
    }
}

fn later(now: Timestamp, ttl_ms: u64) -> Timestamp {
    let ttl_us = i64::try_from(ttl_ms)
        .unwrap_or(i64::MAX)
        .saturating_mul(1000);
    let now_us = now.as_micros().unwrap_or_default();
    Timestamp::from_micros(now_us.saturating_add(ttl_us))
}

/// Whether `records` may follow the head: they continue its sequence and its hash, and each other's.
fn check_follows(
    ledger: &str,
    head: (u64, &str),
    fence: u64,
    records: &[Record],
) -> Result<(), JournalError> {
    let mut last = head;
    for (i, record) in records.iter().enumerate() {
        let follows = record.seq == last.0 + 1 && record.previous == last.1;
        if !follows && i == 0 {
            return Err(JournalError::Moved { head: head.0 });
        }
        if !follows || record.fence != fence {
            return Err(failed(
                ledger,
                format!("record {} does not belong to its batch", record.seq),
            ));
        }
        last = (record.seq, &record.hash);
    }
    Ok(())
}

fn item_text(ledger: &str, item: &QuarantineItem) -> Result<String, JournalError> {
    serde_json::to_string(item).map_err(|e| {
        failed(
            ledger,
            format!("a quarantined document's note cannot be kept: {e}"),
        )
    })
}

/// A waiting document's note. The column counts the attempts; the text may be of an older one.
fn item_of(
    ledger: &str,
    id: u64,
    text: &str,
    attempts: u32,
) -> Result<QuarantineItem, JournalError> {
    let mut item: QuarantineItem = serde_json::from_str(text).map_err(|e| {
        // The reader's message could quote a part of the note, and with it a key.
        let message = format!(
            "quarantine note {id} cannot be read ({:?} at column {}); a newer program may have written it",
            e.classify(),
            e.column()
        );
        failed(ledger, message)
    })?;
    item.attempts = attempts;
    Ok(item)
}

/// A request as it is kept. Its number is the row's.
fn request_text(ledger: &str, request: &Request, at: Timestamp) -> Result<String, JournalError> {
    let request = Request {
        at: at.to_string(),
        ..request.clone()
    };
    serde_json::to_string(&request)
        .map_err(|e| failed(ledger, format!("the request cannot be kept: {e}")))
}

fn request_of(ledger: &str, id: u64, text: &str) -> Result<Request, JournalError> {
    let request: Request = serde_json::from_str(text).map_err(|e| {
        let message = format!("request {id} cannot be read ({:?})", e.classify());
        failed(ledger, message)
    })?;
    Ok(Request { id, ..request })
}

/// Databases count in `i64`.
fn signed(ledger: &str, n: u64) -> Result<i64, JournalError> {
    i64::try_from(n).map_err(|_| failed(ledger, format!("the number {n} is out of range")))
}

fn unsigned(ledger: &str, n: i64) -> Result<u64, JournalError> {
    u64::try_from(n).map_err(|_| failed(ledger, format!("it holds the impossible number {n}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "postgres")]
    #[test]
    fn an_option_is_taken_out_of_a_url() {
        for (url, rest, value) in [
            ("postgres://h/db", "postgres://h/db", None),
            ("postgres://h/db?schema=a", "postgres://h/db", Some("a")),
            (
                "postgres://h/db?x=1&schema=a&y=2",
                "postgres://h/db?x=1&y=2",
                Some("a"),
            ),
            (
                "postgres://h/db?myschema=a",
                "postgres://h/db?myschema=a",
                None,
            ),
        ] {
            let (got, found) = query_option(url, "schema");
            assert_eq!((got.as_str(), found.as_deref()), (rest, value), "{url}");
        }
    }
}
