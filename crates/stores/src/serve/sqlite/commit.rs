//! Writing.

use super::catalog::{Catalog, Served, schema_version};
use super::read::{Raw, Seen, There, gone, last, noted_at};
use super::{Shared, data};
use crate::sqlite::error::{commit_error, refusal, store_error, terminal};
use rusqlite::config::DbConfig;
use rusqlite::types::Value;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use whimbrel_firestore::backend::{self, Batch, Decide, Found, IndexLine, Put, Stored};
use whimbrel_firestore::{Micros, Place};
use whimbrel_model::{Code, StoreError, StoreErrorKind};

/// How often, and how long each time, a decision is waited for whose time is after the last change's. Others'
/// changes have the time of the machine's own clock, so that the very next microsecond is.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(1);

/// See [`whimbrel_firestore::Backend::commit`].
pub(super) fn commit(
    connection: &Connection,
    shared: &Shared,
    touch: &[Place],
    decide: Decide,
) -> Result<(), StoreError> {
    let failed = |e| store_error(&shared.name, "write the batch", e);
    let run =
        |sql| -> rusqlite::Result<()> { connection.prepare_cached(sql)?.execute([]).map(|_| ()) };
    run("BEGIN IMMEDIATE").map_err(failed)?;
    // A transaction that cannot be rolled back now is before the connection's next work.
    let roll_back = || match connection.is_autocommit() {
        true => Ok(()),
        false => run("ROLLBACK"),
    };
    match write(connection, shared, touch, decide) {
        Ok(catalog) => {
            run("COMMIT").map_err(|error| not_committed(&shared.name, error, roll_back()))?;
            if let Some(catalog) = catalog {
                shared.set_catalog(catalog);
            }
            Ok(())
        }
        Err(error) => {
            if let Err(why) = roll_back() {
                tracing::warn!(store = shared.name, %why, "a transaction is still to be rolled back");
            }
            Err(error)
        }
    }
}

/// What a COMMIT came to that failed. Where it could not be taken back either, it may be there after a restart.
fn not_committed(
    store: &str,
    error: rusqlite::Error,
    rolled_back: rusqlite::Result<()>,
) -> StoreError {
    let failed = commit_error(store, error);
    match rolled_back {
        Err(why) if failed.kind != StoreErrorKind::Unknown => StoreError::new(
            StoreErrorKind::Unknown,
            Code::StoreUnknown,
            store,
            format!(
                "the commit failed ({}) and could not be taken back ({why}); the batch was written as a whole or \
                 not at all",
                failed.message
            ),
        )
        .with_source(why),
        _ => failed,
    }
}

/// The tables where they are others than before.
type Changed = Option<Arc<Catalog>>;

fn write(
    connection: &Connection,
    shared: &Shared,
    touch: &[Place],
    mut decide: Decide,
) -> Result<Changed, StoreError> {
    let failed = |e| store_error(&shared.name, "write the batch", e);
    let mut catalog = shared.catalog();
    let known = catalog.version;
    if schema_version(connection).map_err(failed)? != known {
        catalog = Arc::new(shared.surveyor(connection).survey()?);
    }
    // Where nothing but the gateway's own rows can change, its triggers have nothing to note.
    let fires = catalog.chained;
    if shared.fires.load(Ordering::Relaxed) != fires {
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, fires)
            .map_err(failed)?;
        shared.fires.store(fires, Ordering::Relaxed);
    }
    let last = last(connection).map_err(failed)?;
    let any_gone = connection
        .prepare_cached("SELECT 1 FROM _whimbrel_gone LIMIT 1")
        .and_then(|mut statement| statement.exists([]))
        .map_err(failed)?;
    let mut writer = Writer {
        connection,
        shared,
        catalog,
        statements: HashMap::new(),
        log: connection.prepare_cached(LOG).map_err(failed)?,
        before: HashMap::with_capacity(touch.len()),
        any_gone,
        seq: last.seq,
        at: last.at,
        begun: last.seq,
    };
    let found = writer.find(touch)?;
    let batch = writer.decided(&found, &mut decide)?;
    writer.apply(batch)?;
    let catalog = writer.catalog;
    Ok((catalog.version != known).then_some(catalog))
}

const LOG: &str =
    "INSERT INTO _whimbrel_log (at, collection, key, data, created, updated, since, other)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

struct Writer<'c> {
    connection: &'c Connection,
    shared: &'c Shared,
    catalog: Arc<Catalog>,
    /// By the collection's number. Finding them ready on the connection each time takes as long as running them.
    statements: HashMap<i64, Statements<'c>>,
    log: CachedStatement<'c>,
    /// What was found of each place that has a table.
    before: HashMap<Place, Seen>,
    /// Whether any document's deletion is remembered.
    any_gone: bool,
    /// The last change, and its time.
    seq: i64,
    at: Micros,
    /// The last change before this commit.
    begun: i64,
}

/// Of one table.
struct Statements<'c> {
    get: CachedStatement<'c>,
    insert: CachedStatement<'c>,
    update: CachedStatement<'c>,
    delete: CachedStatement<'c>,
    time: CachedStatement<'c>,
    no_time: CachedStatement<'c>,
}

impl<'c> Statements<'c> {
    fn new(connection: &'c Connection, served: &Served) -> rusqlite::Result<Self> {
        Ok(Self {
            get: connection.prepare_cached(&served.get)?,
            insert: connection.prepare_cached(&served.insert)?,
            update: connection.prepare_cached(&served.update)?,
            delete: connection.prepare_cached(&served.delete)?,
            time: connection.prepare_cached(&served.time)?,
            no_time: connection.prepare_cached(&served.no_time)?,
        })
    }
}

impl<'c> Writer<'c> {
    fn failed(&self, error: rusqlite::Error) -> StoreError {
        store_error(&self.shared.name, "write the batch", error)
    }

    fn find(&mut self, touch: &[Place]) -> Result<Found, StoreError> {
        let mut found = Found::with_capacity(touch.len());
        for place in touch {
            let served = match self.catalog.find(&self.shared.name, &place.collection) {
                Ok(Some(served)) => served.clone(),
                Ok(None) => continue,
                // A collection that cannot be served is an error only for who writes to it.
                Err(error) => {
                    found.insert(place.clone(), backend::There::Unreadable(error.message));
                    continue;
                }
            };
            let seen = self.seen(&served, &place.key);
            let seen = seen.map_err(|e| self.failed(e))?;
            if let Some(row) = &seen.there {
                let there = match row.data.decode() {
                    Ok(fields) => backend::There::Document(Stored {
                        fields: Arc::new(fields),
                        created: row.created,
                        updated: row.updated,
                    }),
                    Err(why) => backend::There::Unreadable(why),
                };
                found.insert(place.clone(), there);
            }
            self.before.insert(place.clone(), seen);
        }
        Ok(found)
    }

    fn statements(&mut self, served: &Served) -> rusqlite::Result<&mut Statements<'c>> {
        Ok(match self.statements.entry(served.id) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(new) => new.insert(Statements::new(self.connection, served)?),
        })
    }

    fn seen(&mut self, served: &Served, key: &str) -> rusqlite::Result<Seen> {
        let get = &mut self.statements(served)?.get;
        let seen = get
            .query_row([key], |row| Seen::of(row, served))
            .optional()?;
        Ok(match seen {
            Some(seen) => seen,
            None => Seen {
                there: None,
                seq: match self.any_gone {
                    true => gone(self.connection, served.id, key)?,
                    false => None,
                },
            },
        })
    }

    fn decided(&self, found: &Found, decide: &mut Decide) -> Result<Batch, StoreError> {
        for _ in 0..TRIES {
            let batch = decide(found);
            if batch.at > self.at {
                return Ok(batch);
            }
            std::thread::sleep(PAUSE);
        }
        Err(StoreError::new(
            StoreErrorKind::Transient,
            Code::StoreUnavailable,
            &self.shared.name,
            "the batch's time is not after the last change's; nothing was written",
        ))
    }

    fn apply(&mut self, batch: Batch) -> Result<(), StoreError> {
        let mut documents = batch.documents;
        // The log is in the order of times.
        documents.sort_by_key(|put| put.at);
        for put in &documents {
            self.put(put, put.at.clamp(self.at, batch.at))?;
        }
        if self.at < batch.at {
            self.log(batch.at, 0, "", None, None, false)
                .map_err(|e| self.failed(e))?;
        }
        let failed = |e| store_error(&self.shared.name, "write the batch", e);
        for line in &batch.unindex {
            self.unindex(line).map_err(failed)?;
        }
        for line in &batch.index {
            self.index(line).map_err(failed)?;
        }
        if let Some(mark) = batch.settled {
            let mark = i64::try_from(mark).unwrap_or(i64::MAX);
            self.settle(mark).map_err(failed)?;
            self.connection
                .prepare_cached("UPDATE _whimbrel_serving SET settled = max(settled, ?1)")
                .and_then(|mut statement| statement.execute([mark]))
                .map_err(failed)?;
        }
        if self.catalog.chained {
            self.writing(None).map_err(failed)?;
        }
        Ok(())
    }

    /// What others wrote, up to a change, is of the time of the gateway's next commit behind it: documents say so from now
    /// on.
    fn settle(&mut self, mark: i64) -> rusqlite::Result<()> {
        let connection = self.connection;
        let mut others = connection.prepare_cached(
            "SELECT seq, at, collection, key FROM _whimbrel_log WHERE other = 1 AND seq <= ?1
             AND seq > (SELECT settled FROM _whimbrel_serving) ORDER BY seq",
        )?;
        let mut own = connection
            .prepare_cached("SELECT 1 FROM _whimbrel_log WHERE seq = ?1 AND other IS NULL")?;
        let mut rows = others.query([mark])?;
        while let Some(row) = rows.next()? {
            let (seq, at, id): (i64, Micros, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            // A text that is not UTF-8 is nobody's name.
            let (Some(served), Ok(key)) =
                (self.catalog.by_id(id).cloned(), row.get::<_, String>(3))
            else {
                continue;
            };
            // What others write comes at a time after the gateway's last commit, unless that set it off.
            if own.exists([noted_at(connection, at - 1)? + 1])? {
                continue;
            }
            let Some(next) = self.shared.own_from(connection, seq, self.begun)? else {
                continue;
            };
            let seen = self.seen(&served, &key)?;
            if let Some(now) = seen.there.filter(|_| seen.seq == Some(seq)) {
                let created = match now.created == now.updated {
                    true => next.at,
                    false => now.created,
                };
                let time = &mut self.statements(&served)?.time;
                time.execute(params![now.row, key, created, next.at, seq])?;
            }
        }
        Ok(())
    }

    fn put(&mut self, put: &Put, at: Micros) -> Result<(), StoreError> {
        let place = &put.place;
        let found = self.catalog.find(&self.shared.name, &place.collection)?;
        let served = match (found, &put.stored) {
            (Some(served), _) => served.clone(),
            (None, None) => return Ok(()),
            (None, Some(_)) => {
                let surveyor = self.shared.surveyor(self.connection);
                surveyor.create(Arc::make_mut(&mut self.catalog), &place.collection, at)?
            }
        };
        let seen = match self.before.remove(place) {
            // Triggers of the app's own may have changed it since, when another document was put.
            Some(seen) if !self.catalog.chained => Ok(seen),
            _ => self.seen(&served, &place.key),
        };
        let put = seen.and_then(|seen| self.put_row(&served, put, at, seen));
        put.map_err(|error| match refusal(&error) {
            Some(why) => terminal(
                &self.shared.name,
                Code::StoreFailed,
                format!(
                    "table {:?} does not take document {:?}: {why}; nothing of the batch was written",
                    served.table, &*place.key
                ),
            ),
            None => self.failed(error),
        })
    }

    fn put_row(
        &mut self,
        served: &Served,
        put: &Put,
        at: Micros,
        seen: Seen,
    ) -> rusqlite::Result<()> {
        let key = &*put.place.key;
        if seen.there.is_none() && put.stored.is_none() {
            return Ok(());
        }
        if self.catalog.chained {
            self.writing(Some((served.id, key, at)))?;
        }
        let was_in = seen.there.as_ref().map(|there| there.row.clone());
        let json = put.stored.as_ref().map(|stored| {
            let json = data::encode(&stored.fields);
            match served.blob {
                true => Raw::Blob(json),
                false => Raw::Text(json),
            }
        });
        let row = self.write(served, key, json.as_ref(), was_in.as_ref())?;
        let held = put.stored.as_ref().zip(row).zip(json);
        let mut now = held.map(|((stored, row), data)| There {
            row,
            data,
            created: stored.created,
            updated: stored.updated,
        });
        self.log(at, served.id, key, seen.there, seen.seq, false)?;
        if self.catalog.chained {
            now = self.held(served, key, at, now)?;
        }
        self.time(served, key, was_in, now)
    }

    /// Makes the row what it shall be; where it lies then.
    ///
    /// # Errors
    /// Also where it is left as it was: the app's own triggers can ignore a statement (`RAISE(IGNORE)`).
    fn write(
        &mut self,
        served: &Served,
        key: &str,
        json: Option<&Raw>,
        there: Option<&Value>,
    ) -> rusqlite::Result<Option<Value>> {
        let connection = self.connection;
        let statements = self.statements(served)?;
        let (changed, row) = match (json, there) {
            (Some(json), Some(row)) => {
                let changed = statements.update.execute(params![row, json])?;
                (changed, Some(row.clone()))
            }
            (Some(json), None) => {
                let changed = statements.insert.execute(params![key, json])?;
                let row = match served.rowid {
                    true => Value::Integer(connection.last_insert_rowid()),
                    false => Value::Text(key.to_owned()),
                };
                (changed, Some(row))
            }
            (None, Some(row)) => (statements.delete.execute([row])?, None),
            (None, None) => return Ok(None),
        };
        match changed {
            1 => Ok(row),
            _ => Err(rusqlite::Error::StatementChangedRows(changed)),
        }
    }

    /// What stands there after the app's own triggers. Where that is not what was put, it is noted as another's change,
    /// which follows the gateway's.
    fn held(
        &mut self,
        served: &Served,
        key: &str,
        at: Micros,
        put: Option<There>,
    ) -> rusqlite::Result<Option<There>> {
        let held = self.seen(served, key)?.there;
        let same = match (&put, &held) {
            (Some(put), Some(held)) => put.data == held.data,
            (None, None) => true,
            _ => false,
        };
        let (created, updated) = match &put {
            Some(put) if same => (put.created, put.updated),
            Some(put) => (put.created, at),
            None => (at, at),
        };
        if !same {
            let own = self.seq;
            self.log(at, served.id, key, put, Some(own), true)?;
        }
        Ok(held.map(|held| There {
            created,
            updated,
            ..held
        }))
    }

    /// Notes since when a document is what it is, or that it is no more, and by which change.
    fn time(
        &mut self,
        served: &Served,
        key: &str,
        was_in: Option<Value>,
        now: Option<There>,
    ) -> rusqlite::Result<()> {
        let (connection, seq) = (self.connection, self.seq);
        let statements = self.statements(served)?;
        if let Some(row) = was_in.filter(|row| now.as_ref().is_none_or(|now| now.row != *row)) {
            statements.no_time.execute(params![row, key])?;
        }
        if let Some(now) = now {
            let (created, updated) = (now.created, now.updated);
            let time = &mut statements.time;
            time.execute(params![now.row, key, created, updated, seq])?;
            return Ok(());
        }
        self.any_gone = true;
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO _whimbrel_gone (collection, key, seq) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![served.id, key, seq])?;
        Ok(())
    }

    /// Says which document is being written, so that the triggers do not take it for others' doing, and at what
    /// time: what triggers of the app's own write meanwhile is others' doing, and of that time.
    fn writing(&self, document: Option<(i64, &str, Micros)>) -> rusqlite::Result<()> {
        let (collection, key, at) = match document {
            Some((collection, key, at)) => (Some(collection), Some(key), Some(at)),
            None => (None, None, None),
        };
        self.connection
            .prepare_cached(
                "UPDATE _whimbrel_serving SET collection = ?1, key = ?2, at = ?3 WHERE id = 1",
            )?
            .execute(params![collection, key, at])?;
        Ok(())
    }

    fn log(
        &mut self,
        at: Micros,
        collection: i64,
        key: &str,
        was: Option<There>,
        since: Option<i64>,
        other: bool,
    ) -> rusqlite::Result<()> {
        let times = was.as_ref().map(|was| (was.created, was.updated));
        let (created, updated) = times.unzip();
        let was = was.map(|was| was.data);
        let other = other.then_some(1);
        self.log.execute(params![
            at, collection, key, was, created, updated, since, other
        ])?;
        // Triggers of the app's own may have written others in between.
        self.seq = self.connection.last_insert_rowid();
        self.at = at;
        Ok(())
    }

    fn unindex(&self, line: &IndexLine) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("DELETE FROM _whimbrel_lines WHERE idx = ?1 AND key = ?2")?
            .execute(params![line.index.0, line.key])?;
        Ok(())
    }

    fn index(&self, line: &IndexLine) -> rusqlite::Result<()> {
        let Ok(Some(served)) = self.catalog.find(&self.shared.name, &line.place.collection) else {
            // Of a collection that was dropped since.
            return Ok(());
        };
        self.connection
            .prepare_cached(
                "INSERT INTO _whimbrel_lines (idx, key, collection, document) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (idx, key) DO UPDATE
                 SET collection = excluded.collection, document = excluded.document",
            )?
            .execute(params![
                line.index.0,
                line.key,
                served.id,
                &*line.place.key
            ])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;

    #[test]
    fn a_commit_that_cannot_be_taken_back_may_be_there() {
        let error = |code| rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        let disk = || error(ffi::SQLITE_IOERR_FSYNC);
        let busy = || error(ffi::SQLITE_BUSY);
        let unknown = StoreErrorKind::Unknown;
        for (commit, rolled_back, kind) in [
            (disk(), Ok(()), unknown),
            (disk(), Err(disk()), unknown),
            (disk(), Err(busy()), unknown),
            (busy(), Err(disk()), unknown),
            (error(ffi::SQLITE_FULL), Err(disk()), unknown),
            (busy(), Ok(()), StoreErrorKind::Transient),
            (error(ffi::SQLITE_FULL), Ok(()), StoreErrorKind::Terminal),
        ] {
            let told = format!("{commit} {rolled_back:?}");
            let found = not_committed("s", commit, rolled_back);
            assert_eq!(found.kind, kind, "{told}: {found}");
            assert_eq!(
                found.code == Code::StoreUnknown,
                kind == unknown,
                "{told}: {found}"
            );
        }
    }
}
