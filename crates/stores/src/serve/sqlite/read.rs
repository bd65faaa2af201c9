//! Reading, in one transaction.

use super::catalog::{Catalog, Served, schema_version};
use super::{Shared, data};
use crate::sqlite::error::{store_error, terminal};
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};
use std::sync::Arc;
use whimbrel_firestore::backend::{Change, Foreign, IndexId, IndexState, Stored};
use whimbrel_firestore::{Fields, Micros, Place};
use whimbrel_model::{Code, StoreError};

/// What a data column holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Raw {
    Text(Vec<u8>),
    Blob(Vec<u8>),
    /// Not what holds a document.
    Other(Value),
}

impl Raw {
    fn of(held: ValueRef<'_>) -> Self {
        match held {
            ValueRef::Text(bytes) => Self::Text(bytes.to_vec()),
            ValueRef::Blob(bytes) => Self::Blob(bytes.to_vec()),
            ValueRef::Null => Self::Other(Value::Null),
            ValueRef::Integer(n) => Self::Other(Value::Integer(n)),
            ValueRef::Real(x) => Self::Other(Value::Real(x)),
        }
    }

    /// # Errors
    /// Why it is no document.
    pub(super) fn decode(&self) -> Result<Fields, String> {
        match self {
            Self::Text(bytes) | Self::Blob(bytes) => data::decode(bytes),
            Self::Other(_) => Err(NO_TEXT.to_owned()),
        }
    }
}

const NO_TEXT: &str = "its JSON column holds no text";

/// [`Raw::decode`] of what was not taken out of the database.
pub(super) fn decode(held: ValueRef<'_>) -> Result<Fields, String> {
    match held {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => data::decode(bytes),
        _ => Err(NO_TEXT.to_owned()),
    }
}

impl ToSql for Raw {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Text(bytes) => ToSqlOutput::Borrowed(ValueRef::Text(bytes)),
            Self::Blob(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
            Self::Other(value) => value.to_sql()?,
        })
    }
}

/// What stands at a place.
pub(super) struct Seen {
    pub(super) there: Option<There>,
    /// The change that made it so, of a deleted document, too; `None` where no change is known.
    pub(super) seq: Option<i64>,
}

pub(super) struct There {
    /// The row's id.
    pub(super) row: Value,
    pub(super) data: Raw,
    pub(super) created: Micros,
    pub(super) updated: Micros,
}

impl Seen {
    /// Of the statement [`Served::get`].
    pub(super) fn of(row: &Row<'_>, served: &Served) -> rusqlite::Result<Self> {
        Ok(Self {
            there: Some(There {
                row: row.get(4)?,
                data: Raw::of(row.get_ref(0)?),
                created: time(row, 1, served)?,
                updated: time(row, 2, served)?,
            }),
            seq: row.get(3)?,
        })
    }
}

/// The change that deleted a document, where that is not long ago.
pub(super) fn gone(
    connection: &Connection,
    collection: i64,
    key: &str,
) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT seq FROM _whimbrel_gone WHERE collection = ?1 AND key = ?2")?
        .query_row(params![collection, key], |row| row.get(0))
        .optional()
}

/// The change that made a document what it is, also not there.
fn change_of(connection: &Connection, served: &Served, key: &str) -> rusqlite::Result<Option<i64>> {
    let there: Option<Option<i64>> = connection
        .prepare_cached(&served.change)?
        .query_row([key], |row| row.get(0))
        .optional()?;
    match there {
        Some(change) => Ok(change),
        None => gone(connection, served.id, key),
    }
}

/// A document's time; what stood in the table when it was taken up is of then.
pub(super) fn time(row: &Row<'_>, column: usize, served: &Served) -> rusqlite::Result<Micros> {
    let at: Option<Micros> = row.get(column)?;
    Ok(at.unwrap_or(served.adopted))
}

/// The last change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Last {
    pub(super) seq: i64,
    pub(super) at: Micros,
}

pub(super) fn last(connection: &Connection) -> rusqlite::Result<Last> {
    connection
        .prepare_cached("SELECT seq, at FROM _whimbrel_log ORDER BY seq DESC LIMIT 1")?
        .query_row([], |row| {
            Ok(Last {
                seq: row.get(0)?,
                at: row.get(1)?,
            })
        })
}

/// The last change that is noted with a time not after this one; 0 where there is none.
pub(super) fn noted_at(connection: &Connection, at: Micros) -> rusqlite::Result<i64> {
    let last = last(connection)?;
    if last.at <= at {
        return Ok(last.seq);
    }
    let mut first = connection
        .prepare_cached("SELECT min(seq) FROM _whimbrel_log")?
        .query_row([], |row| row.get::<_, i64>(0))?;
    // The first change after the time lies from `first` to `end`.
    let mut end = last.seq;
    let mut probe = connection
        .prepare_cached("SELECT seq, at FROM _whimbrel_log WHERE seq >= ?1 ORDER BY seq LIMIT 1")?;
    while first < end {
        let middle = first + (end - first) / 2;
        let (seq, then): (i64, Micros) =
            probe.query_row([middle], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if then <= at {
            first = seq + 1;
        } else {
            end = middle;
        }
    }
    Ok(first - 1)
}

/// The last change of the gateway's own up to one.
pub(super) fn own_until(connection: &Connection, seq: i64) -> rusqlite::Result<Option<Last>> {
    let others = "SELECT seq FROM _whimbrel_log WHERE other = 1 AND seq <= ?1 ORDER BY seq DESC";
    own(connection, seq, others, -1)
}

/// The first change of the gateway's own from one on.
pub(super) fn own_from(connection: &Connection, seq: i64) -> rusqlite::Result<Option<Last>> {
    let others = "SELECT seq FROM _whimbrel_log WHERE other = 1 AND seq >= ?1 ORDER BY seq";
    own(connection, seq, others, 1)
}

/// Others' changes may be many and large. They are counted off along their index until one is missing there.
fn own(
    connection: &Connection,
    mut seq: i64,
    others: &str,
    step: i64,
) -> rusqlite::Result<Option<Last>> {
    let mut others = connection.prepare_cached(others)?;
    let mut change =
        connection.prepare_cached("SELECT at, other FROM _whimbrel_log WHERE seq = ?1")?;
    loop {
        let mut rows = others.query([seq])?;
        while let Some(row) = rows.next()? {
            if row.get::<_, i64>(0)? != seq {
                break;
            }
            seq += step;
        }
        drop(rows);
        let found = change.query_row([seq], |row| Ok((row.get(0)?, row.get(1)?)));
        match found.optional()? {
            None => return Ok(None),
            Some((at, None)) => return Ok(Some(Last { seq, at })),
            Some((_, Some::<i64>(_))) => seq += step,
        }
    }
}

pub(super) fn index_state(row: &Row<'_>) -> rusqlite::Result<IndexState> {
    Ok(IndexState {
        id: IndexId(row.get(0)?),
        definition: row.get(1)?,
        ready: row.get(2)?,
    })
}

/// Names the table and the key, never what the row holds.
pub(super) fn warn_unreadable(served: &Served, key: &str, why: &str) {
    tracing::warn!(table = %served.table, key, why, "a row that is no document is left out");
}

/// A transaction that only reads, on a connection of its own.
pub(super) struct Reader {
    pub(super) shared: Arc<Shared>,
    pub(super) catalog: Arc<Catalog>,
    /// Taken out when the reader is dropped.
    connection: Option<Connection>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        // One that cannot leave its transaction is closed.
        let ended = connection
            .prepare_cached("COMMIT")
            .and_then(|mut statement| statement.execute([]));
        if ended.is_ok() {
            let mut idle = self.shared.idle();
            if idle.len() < super::IDLE {
                idle.push(connection);
            }
        }
    }
}

impl Reader {
    /// `None` where the tables changed since the catalog was made.
    pub(super) fn begin(shared: &Arc<Shared>) -> Result<Option<Self>, StoreError> {
        let connection = shared.reading_connection()?;
        let catalog = shared.catalog();
        let begin = || -> rusqlite::Result<_> {
            connection.prepare_cached("BEGIN")?.execute([])?;
            schema_version(&connection)
        };
        let version = begin().map_err(|e| store_error(&shared.name, "begin to read", e))?;
        let reader = Self {
            shared: shared.clone(),
            catalog,
            connection: Some(connection),
        };
        Ok((reader.catalog.version == version).then_some(reader))
    }

    pub(super) fn connection(&self) -> Result<&Connection, StoreError> {
        self.connection.as_ref().ok_or_else(|| {
            let why = "the connection that read is gone";
            terminal(&self.shared.name, Code::StoreFailed, why)
        })
    }

    pub(super) fn last(&self) -> Result<Last, StoreError> {
        last(self.connection()?).map_err(|e| self.failed(e))
    }

    pub(super) fn failed(&self, error: rusqlite::Error) -> StoreError {
        store_error(&self.shared.name, "read", error)
    }

    pub(super) fn table(&self, collection: &str) -> Result<Option<&Arc<Served>>, StoreError> {
        self.catalog.find(&self.shared.name, collection)
    }

    fn unreadable(&self, served: &Served, key: &str, why: &str) -> StoreError {
        terminal(
            &self.shared.name,
            Code::DocUnreadable,
            format!(
                "row {key:?} of table {:?} is no document: {why}; mend it with SQL, or write the document anew",
                served.table
            ),
        )
    }

    /// The document as the transaction sees it.
    pub(super) fn now(&self, place: &Place) -> Result<Option<Stored>, StoreError> {
        match self.table(&place.collection)? {
            Some(served) => self.row(served, &place.key),
            None => Ok(None),
        }
    }

    pub(super) fn row(&self, served: &Served, key: &str) -> Result<Option<Stored>, StoreError> {
        let read = |row: &Row<'_>| {
            Ok(decode(row.get_ref(0)?)
                .map(|fields| (fields, time(row, 1, served), time(row, 2, served))))
        };
        let found = self
            .connection()?
            .prepare_cached(&served.get)
            .and_then(|mut statement| statement.query_row([key], read).optional())
            .map_err(|e| self.failed(e))?;
        match found {
            None => Ok(None),
            Some(Err(why)) => Err(self.unreadable(served, key, &why)),
            Some(Ok((fields, created, updated))) => Ok(Some(Stored {
                fields: Arc::new(fields),
                created: created.map_err(|e| self.failed(e))?,
                updated: updated.map_err(|e| self.failed(e))?,
            })),
        }
    }

    /// The last change of the gateway's own. What others wrote since happened after every time that was given out.
    pub(super) fn last_own(&self) -> Result<Option<Last>, StoreError> {
        let last = self.last()?;
        own_until(self.connection()?, last.seq).map_err(|e| self.failed(e))
    }

    /// The last change not after a time; 0 where they all are. What others wrote is of the time of the gateway's next commit
    /// behind it: a transaction's statements are older than what was read before it committed.
    pub(super) fn change_at(&self, at: Micros) -> Result<i64, StoreError> {
        let connection = self.connection()?;
        let find = || -> rusqlite::Result<i64> {
            let change = noted_at(connection, at)?;
            match own_until(connection, change)? {
                Some(own) if own.seq == change => Ok(change),
                // What its own write set off in the app's triggers is of its time.
                Some(own) => noted_at(connection, own.at),
                None => Ok(0),
            }
        };
        find().map_err(|e| self.failed(e))
    }

    /// The document as it was after a change, and nothing after that one.
    pub(super) fn as_of(&self, place: &Place, change: i64) -> Result<Option<Stored>, StoreError> {
        let Some(served) = self.table(&place.collection)? else {
            return Ok(None);
        };
        let connection = self.connection()?;
        let failed = |e| self.failed(e);
        let mut at = change_of(connection, served, &place.key).map_err(failed)?;
        let mut was = None;
        let mut log = connection
            .prepare_cached(
                "SELECT data, created, updated, since FROM _whimbrel_log WHERE seq = ?1",
            )
            .map_err(failed)?;
        while let Some(seq) = at.filter(|seq| *seq > change) {
            let before = |row: &Row<'_>| -> rusqlite::Result<_> {
                let times: (Option<Micros>, Option<Micros>) = (row.get(1)?, row.get(2)?);
                Ok((Raw::of(row.get_ref(0)?), times, row.get(3)?))
            };
            let Some((data, times, since)) =
                log.query_row([seq], before).optional().map_err(failed)?
            else {
                break;
            };
            was = Some((data, times));
            at = since;
        }
        match was {
            None => self.row(served, &place.key),
            Some((data, (Some(created), Some(updated)))) => {
                let fields = data.decode();
                let fields = fields.map_err(|why| self.unreadable(served, &place.key, &why))?;
                Ok(Some(Stored {
                    fields: Arc::new(fields),
                    created,
                    updated,
                }))
            }
            Some(_) => Ok(None),
        }
    }

    pub(super) fn indexes(&self) -> Result<Vec<IndexState>, StoreError> {
        let sql = "SELECT id, definition, ready FROM _whimbrel_indexes ORDER BY id";
        let read = |mut statement: rusqlite::CachedStatement<'_>| -> rusqlite::Result<_> {
            statement.query_map([], index_state)?.collect()
        };
        let statement = self.connection()?.prepare_cached(sql);
        statement.and_then(read).map_err(|e| self.failed(e))
    }

    /// See [`whimbrel_firestore::Backend::foreign`].
    pub(super) fn foreign(&self, limit: u32) -> Result<Foreign, StoreError> {
        let failed = |e| self.failed(e);
        let connection = self.connection()?;
        let mark: i64 = connection
            .prepare_cached("SELECT settled FROM _whimbrel_serving")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(failed)?;
        let mut foreign = Foreign::default();
        let mut statement = connection
            .prepare_cached(
                "SELECT seq, at, collection, key, data, created, updated FROM _whimbrel_log
                 WHERE other = 1 AND seq > ?1 ORDER BY seq",
            )
            .map_err(failed)?;
        let mut rows = statement.query([mark]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            if foreign.changes.len() >= limit as usize {
                foreign.more = true;
                break;
            }
            foreign.mark = Some(row.get::<_, i64>(0).map_err(failed)?.unsigned_abs());
            if let Some(change) = self.foreign_change(row)? {
                foreign.changes.push(change);
            }
        }
        Ok(foreign)
    }

    /// `None` for what was in a table that is no more.
    fn foreign_change(&self, row: &Row<'_>) -> Result<Option<Change>, StoreError> {
        let failed = |e| self.failed(e);
        let id: i64 = row.get(2).map_err(failed)?;
        let Some(served) = self.catalog.by_id(id) else {
            return Ok(None);
        };
        let Ok(key) = row.get::<_, String>(3) else {
            // A text that is not UTF-8: nobody's name.
            return Ok(None);
        };
        let place = Place {
            collection: served.name.clone(),
            key: key.into(),
        };
        let times: (Option<Micros>, Option<Micros>) =
            (row.get(5).map_err(failed)?, row.get(6).map_err(failed)?);
        let before = match (decode(row.get_ref(4).map_err(failed)?), times) {
            (Ok(fields), (Some(created), Some(updated))) => Some(Stored {
                fields: Arc::new(fields),
                created,
                updated,
            }),
            // What was no document had no lines.
            _ => None,
        };
        let after = match self.row(served, &place.key) {
            Err(error) if error.code == Code::DocUnreadable => {
                warn_unreadable(served, &place.key, "it was written by SQL");
                None
            }
            after => after?,
        };
        let at = row.get(1).map_err(failed)?;
        Ok(Some(Change {
            place,
            at,
            before,
            after,
        }))
    }
}
