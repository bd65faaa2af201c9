//! The database as of one moment.

use super::catalog::Served;
use super::read::{Reader, decode, time, warn_unreadable};
use async_trait::async_trait;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Row, params};
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};
use whimbrel_firestore::backend::{Along, Change, Line, Stored, Walk};
use whimbrel_firestore::{Micros, Place, View};
use whimbrel_model::{Code, StoreError, StoreErrorKind};

/// Reads of no more than so many documents are not handed to another thread: that would take longer.
const FEW: u32 = 20;

pub(super) struct SqliteView {
    reader: Arc<Mutex<Reader>>,
    name: String,
    at: Micros,
}

impl SqliteView {
    pub(super) fn new(reader: Reader) -> Result<Self, StoreError> {
        Ok(Self {
            name: reader.shared.name.clone(),
            at: reader.last_own()?.map_or(0, |own| own.at),
            reader: Arc::new(Mutex::new(reader)),
        })
    }

    async fn read<T: Send + 'static>(
        &self,
        few: bool,
        work: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let reader = self.reader.clone();
        let run = move || work(&reader.lock().unwrap_or_else(PoisonError::into_inner));
        if few {
            return run();
        }
        match tokio::task::spawn_blocking(run).await {
            Ok(result) => result,
            Err(error) => Err(StoreError::new(
                StoreErrorKind::Transient,
                Code::StoreUnavailable,
                &self.name,
                "reading was cut off",
            )
            .with_source(error)),
        }
    }
}

#[async_trait]
impl View for SqliteView {
    fn at(&self) -> Micros {
        self.at
    }

    async fn get(
        &self,
        places: &[Place],
        at: Option<Micros>,
    ) -> Result<Vec<Option<Stored>>, StoreError> {
        let few = places.len() <= FEW as usize;
        let places = places.to_vec();
        self.read(few, move |reader| match at {
            Some(at) => {
                let change = reader.change_at(at)?;
                let one = |place| reader.as_of(place, change);
                places.iter().map(one).collect()
            }
            None => places.iter().map(|place| reader.now(place)).collect(),
        })
        .await
    }

    async fn walk(&self, walk: &Walk) -> Result<Vec<Line>, StoreError> {
        let walk = walk.clone();
        self.read(walk.limit <= FEW, move |reader| match &walk.along {
            Along::Index(_) => reader.walk_index(&walk),
            Along::Collection(name) => match reader.table(name)? {
                Some(served) => reader.walk_table(served, &walk),
                None => Ok(Vec::new()),
            },
        })
        .await
    }

    async fn count(&self, walk: &Walk) -> Result<u64, StoreError> {
        let walk = walk.clone();
        self.read(walk.limit <= FEW, move |reader| reader.count(&walk))
            .await
    }

    async fn collections(&self) -> Result<Vec<Arc<str>>, StoreError> {
        self.read(false, Reader::collections).await
    }

    async fn changed(
        &self,
        since: Micros,
        until: Option<Micros>,
        after_place: Option<&Place>,
        limit: u32,
    ) -> Result<Vec<Change>, StoreError> {
        let after_place = after_place.cloned();
        self.read(false, move |reader| {
            reader.changed(since, until, after_place.as_ref(), limit)
        })
        .await
    }
}

/// A condition on `column` that holds between the bounds, the second of them bound as `?2`. Without a
/// bound, texts only: SQLite's order is numbers, texts, blobs.
fn between(column: &str, walk: &Walk, lowest: &str, highest: &str) -> String {
    let from = match &walk.from {
        Bound::Included(_) => format!("{column} >= ?1"),
        Bound::Excluded(_) => format!("{column} > ?1"),
        Bound::Unbounded => format!("{column} >= {lowest}"),
    };
    let to = match &walk.to {
        Bound::Included(_) => format!("{column} <= ?2"),
        Bound::Excluded(_) => format!("{column} < ?2"),
        Bound::Unbounded => highest.to_owned(),
    };
    match to.is_empty() {
        true => from,
        false => format!("{from} AND {to}"),
    }
}

/// Binds the ends: as texts of a collection's keys, as blobs of an index's.
fn bind(statement: &mut CachedStatement<'_>, walk: &Walk) -> rusqlite::Result<()> {
    for (i, bound) in [(1, &walk.from), (2, &walk.to)] {
        if let Bound::Included(key) | Bound::Excluded(key) = bound {
            let value = match walk.along {
                Along::Collection(_) => ValueRef::Text(key),
                Along::Index(_) => ValueRef::Blob(key),
            };
            statement.raw_bind_parameter(i, ToSqlOutput::Borrowed(value))?;
        }
    }
    Ok(())
}

impl Reader {
    fn table_between(served: &Served, walk: &Walk) -> String {
        let highest = format!("{} < x''", served.key);
        between(&served.key, walk, "''", &highest)
    }

    fn walk_table(&self, served: &Served, walk: &Walk) -> Result<Vec<Line>, StoreError> {
        let failed = |e| self.failed(e);
        let wanted = match walk.documents {
            true => format!("{}, t.created, t.updated", served.data),
            false => "NULL".to_owned(),
        };
        let sql = format!(
            "SELECT {}, {wanted} FROM {} WHERE {} ORDER BY {}{}",
            served.key,
            served.from,
            Self::table_between(served, walk),
            served.key,
            if walk.descending { " DESC" } else { "" },
        );
        let mut statement = self.connection()?.prepare_cached(&sql).map_err(failed)?;
        bind(&mut statement, walk).map_err(failed)?;
        let mut rows = statement.raw_query();
        let mut lines = Vec::new();
        while lines.len() < walk.limit as usize {
            let Some(row) = rows.next().map_err(failed)? else {
                break;
            };
            // A text that is not UTF-8 is nobody's name.
            if let Some(line) = table_line(served, walk, row).map_err(failed)? {
                lines.push(line);
            }
        }
        Ok(lines)
    }

    fn walk_index(&self, walk: &Walk) -> Result<Vec<Line>, StoreError> {
        let Along::Index(index) = walk.along else {
            return Ok(Vec::new());
        };
        let failed = |e| self.failed(e);
        let sql = format!(
            "SELECT key, collection, document FROM _whimbrel_lines WHERE idx = {} AND {} ORDER BY key{}",
            index.0,
            between("key", walk, "x''", ""),
            if walk.descending { " DESC" } else { "" },
        );
        let mut statement = self.connection()?.prepare_cached(&sql).map_err(failed)?;
        bind(&mut statement, walk).map_err(failed)?;
        let mut rows = statement.raw_query();
        let mut lines = Vec::new();
        while lines.len() < walk.limit as usize {
            let Some(row) = rows.next().map_err(failed)? else {
                break;
            };
            let id: i64 = row.get(1).map_err(failed)?;
            let Some(served) = self.catalog.by_id(id) else {
                continue;
            };
            let key: String = row.get(2).map_err(failed)?;
            let stored = match walk.documents {
                true => self.readable(served, &key)?,
                false => None,
            };
            lines.push(Line {
                key: row.get(0).map_err(failed)?,
                place: Place {
                    collection: served.name.clone(),
                    key: key.into(),
                },
                stored,
            });
        }
        Ok(lines)
    }

    fn readable(&self, served: &Served, key: &str) -> Result<Option<Stored>, StoreError> {
        match self.row(served, key) {
            Err(error) if error.code == Code::DocUnreadable => {
                warn_unreadable(served, key, "see what a get of it says");
                Ok(None)
            }
            read => read,
        }
    }

    fn count(&self, walk: &Walk) -> Result<u64, StoreError> {
        let failed = |e| self.failed(e);
        let connection = self.connection()?;
        let from = match &walk.along {
            Along::Index(index) => {
                let condition = between("key", walk, "x''", "");
                format!("_whimbrel_lines WHERE idx = {} AND {condition}", index.0)
            }
            Along::Collection(name) => {
                let Some(served) = self.table(name)? else {
                    return Ok(0);
                };
                format!(
                    "{} WHERE {}",
                    served.from,
                    Self::table_between(served, walk)
                )
            }
        };
        let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {from} LIMIT ?3)");
        let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
        bind(&mut statement, walk).map_err(failed)?;
        statement
            .raw_bind_parameter(3, i64::from(walk.limit))
            .map_err(failed)?;
        let mut rows = statement.raw_query();
        let row = rows.next().map_err(failed)?;
        let count: i64 = row.map_or(Ok(0), |row| row.get(0)).map_err(failed)?;
        Ok(count.unsigned_abs())
    }

    fn collections(&self) -> Result<Vec<Arc<str>>, StoreError> {
        let connection = self.connection()?;
        let mut names = Vec::new();
        for served in self.catalog.served() {
            let any = connection
                .prepare_cached(&served.any)
                .and_then(|mut statement| statement.exists([]))
                .map_err(|e| self.failed(e))?;
            if any {
                names.push(served.name.clone());
            }
        }
        Ok(names)
    }

    fn changed(
        &self,
        since: Micros,
        until: Option<Micros>,
        after_place: Option<&Place>,
        limit: u32,
    ) -> Result<Vec<Change>, StoreError> {
        let failed = |e| self.failed(e);
        let first = self.change_at(since)?;
        let last = match until {
            Some(until) => self.change_at(until)?,
            None => self.last()?.seq,
        };
        let (collection, key) = after_place.map_or(("", ""), |p| (&*p.collection, &*p.key));
        let mut statement = self
            .connection()?
            .prepare_cached(
                "SELECT c.name, l.key, max(max(l.at), ?7) FROM (
                     SELECT collection, key, at FROM _whimbrel_log WHERE seq > ?1 AND seq <= ?2
                     UNION ALL SELECT collection, key, at FROM _whimbrel_log
                     WHERE other = 1 AND seq > (SELECT settled FROM _whimbrel_serving) AND ?6) AS l
                 JOIN _whimbrel_collections AS c ON c.id = l.collection
                 WHERE (c.name, l.key) > (?3, ?4)
                 GROUP BY c.name, l.key ORDER BY c.name, l.key LIMIT ?5",
            )
            .map_err(failed)?;
        // Others' statements may be older.
        let after = since.saturating_add(1);
        let asked = params![first, last, collection, key, limit, until.is_none(), after];
        let places = statement
            .query_map(asked, |row| {
                let (name, key): (String, String) = (row.get(0)?, row.get(1)?);
                let place = Place {
                    collection: name.into(),
                    key: key.into(),
                };
                Ok((place, row.get(2)?))
            })
            .map_err(failed)?;
        let mut changes = Vec::new();
        for found in places {
            let (place, at) = found.map_err(failed)?;
            let state = |change| match self.as_of(&place, change) {
                Err(error) if error.code == Code::DocUnreadable => Ok(None),
                state => state,
            };
            let (before, after) = (state(first)?, state(last)?);
            changes.push(Change {
                place,
                at,
                before,
                after,
            });
        }
        Ok(changes)
    }
}

/// `None` where the key is no name.
fn table_line(served: &Served, walk: &Walk, row: &Row<'_>) -> rusqlite::Result<Option<Line>> {
    let Ok(key) = row.get_ref(0)?.as_str() else {
        return Ok(None);
    };
    let stored = match walk.documents {
        false => None,
        true => match decode(row.get_ref(1)?) {
            Ok(fields) => Some(Stored {
                fields: Arc::new(fields),
                created: time(row, 2, served)?,
                updated: time(row, 3, served)?,
            }),
            Err(why) => {
                warn_unreadable(served, key, &why);
                None
            }
        },
    };
    Ok(Some(Line {
        key: key.as_bytes().to_vec(),
        place: Place {
            collection: served.name.clone(),
            key: key.into(),
        },
        stored,
    }))
}
