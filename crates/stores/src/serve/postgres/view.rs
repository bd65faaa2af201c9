//! The database as of one moment: a connection in a transaction of its own.

use super::past::{BEFORE, Old};
use super::pipe::{Call, Step, call, pipe};
use super::served::{Served, conditions};
use super::{Group, Shared, again, bound, rows};
use async_trait::async_trait;
use deadpool_postgres::{Client, ClientWrapper, Object};
use std::ops::Bound;
use std::sync::Arc;
use tokio::runtime::Handle;
use whimbrel_firestore::backend::{Along, Change, IndexId, Line, Stored, Walk};
use whimbrel_firestore::{Micros, Place, View};
use whimbrel_model::StoreError;

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// The time of the last commit of the gateway's. What others wrote is of a commit's time when one has settled it; the time
/// of their statement says nothing of what else a view shows.
const SHOWN: &str = "SELECT coalesce(max(at), 0) FROM @.committed";

/// Each changed place once, by place. What is not settled came after every time that was given out.
const CHANGED: &str = "SELECT c.name, l.key, max(l.at) FROM ( \
      SELECT collection, key, at FROM @.log WHERE writer < 2 AND NOT open AND at > $1::int8 AND at <= $2::int8 \
      UNION ALL SELECT collection, key, greatest(at, $1::int8 + 1) FROM @.log WHERE writer < 2 AND open AND $6::bool) l \
    JOIN @.collection c ON c.id = l.collection \
    WHERE c.name > $3::text OR (c.name = $3::text AND l.key > $4::text) \
    GROUP BY c.name, l.key ORDER BY c.name, l.key LIMIT $5::int8";

pub(super) struct PgView {
    shared: Arc<Shared>,
    /// `None` only when it is dropped.
    client: Option<Client>,
    at: Micros,
}

impl PgView {
    pub async fn open(shared: &Arc<Shared>) -> Result<Self, StoreError> {
        again(|| Self::begin(shared)).await
    }

    async fn begin(shared: &Arc<Shared>) -> Result<Self, StoreError> {
        let failed = |error| shared.failed("opening a view", error);
        let client = shared.views.get().await?;
        // From here on it is ended with its transaction, whatever happens.
        let mut view = Self {
            shared: shared.clone(),
            client: Some(client),
            at: 0,
        };
        let shown = Call::new(shared.side.sql(SHOWN));
        let steps = vec![Step::Plain(BEGIN), shown.into()];
        let answers = pipe(view.client()?, steps).await.map_err(failed)?;
        if let Some(row) = answers.last().and_then(|answer| answer.rows.first()) {
            view.at = row.try_get(0).map_err(failed)?;
        }
        Ok(view)
    }

    fn client(&self) -> Result<&ClientWrapper, StoreError> {
        let client = self.client.as_deref();
        client.ok_or_else(|| {
            let code = whimbrel_model::Code::StoreFailed;
            self.shared.terminal(code, "the view is over")
        })
    }

    fn failed(&self, error: tokio_postgres::Error) -> StoreError {
        self.shared.failed("reading", error)
    }

    async fn present(
        &self,
        places: &[Place],
        lenient: bool,
    ) -> Result<Vec<Option<Stored>>, StoreError> {
        let groups = self.shared.groups(places).await?;
        let mut found = vec![None; places.len()];
        if groups.is_empty() {
            return Ok(found);
        }
        let steps = groups.iter().map(|group| Step::from(Group::get(group)));
        let answers = pipe(self.client()?, steps.collect())
            .await
            .map_err(|e| self.failed(e))?;
        for (group, answer) in groups.iter().zip(&answers) {
            group.take_all(&self.shared, places, answer, lenient, &mut found)?;
        }
        Ok(found)
    }

    /// The documents as of an earlier time: what the log says, else what they are.
    async fn past(
        &self,
        places: &[Place],
        at: Micros,
        lenient: bool,
    ) -> Result<Vec<Option<Stored>>, StoreError> {
        let groups = self.shared.groups(places).await?;
        let (mut ids, mut keys, mut ordinals) = (Vec::new(), Vec::new(), Vec::new());
        for group in &groups {
            ids.extend(group.keys.iter().map(|_| group.served.id));
            keys.extend(group.keys.iter().copied());
            ordinals.extend(group.ordinals.iter().copied());
        }
        let mut found = vec![None; places.len()];
        if ids.is_empty() {
            return Ok(found);
        }
        let before = Call::new(self.shared.side.sql(BEFORE))
            .with(ids)
            .with(keys)
            .with(ordinals);
        let answer = call(self.client()?, before.with(at))
            .await
            .map_err(|e| self.failed(e))?;
        let mut noted = vec![false; places.len()];
        for row in &answer.rows {
            let ordinal: i32 = row.try_get(0).map_err(|e| self.failed(e))?;
            let at = usize::try_from(ordinal).unwrap_or(usize::MAX);
            let (Some(place), Some(noted)) = (places.get(at), noted.get_mut(at)) else {
                continue;
            };
            *noted = true;
            if let Some(served) = self.shared.find(&place.collection).await?
                && let Some(old) = Old::read(row, 1, served, false).map_err(|e| self.failed(e))?
                && let Some(slot) = found.get_mut(at)
            {
                let stored = old.stored();
                *slot = self
                    .shared
                    .readable_or(&old.served, &place.key, stored, lenient)?;
            }
        }
        let rest: Vec<usize> = (0..places.len())
            .filter(|at| noted.get(*at) == Some(&false))
            .collect();
        let unchanged: Vec<Place> = rest
            .iter()
            .filter_map(|at| places.get(*at).cloned())
            .collect();
        let now = self.present(&unchanged, lenient).await?;
        for (at, stored) in rest.into_iter().zip(now) {
            if let Some(slot) = found.get_mut(at) {
                *slot = stored;
            }
        }
        Ok(found)
    }

    async fn as_of(
        &self,
        places: &[Place],
        at: Option<Micros>,
        lenient: bool,
    ) -> Result<Vec<Option<Stored>>, StoreError> {
        match at {
            Some(at) => self.past(places, at, lenient).await,
            None => self.present(places, lenient).await,
        }
    }

    async fn walk_index(&self, id: IndexId, walk: &Walk) -> Result<Vec<Line>, StoreError> {
        let side = &self.shared.side;
        let (range, next) = conditions("l.key", &walk.from, &walk.to, 2);
        let direction = if walk.descending { " DESC" } else { "" };
        let sql = format!(
            "SELECT l.key, l.collection, l.document FROM {}.line l WHERE l.index = $1::int4{range} \
             ORDER BY l.index{direction}, l.key{direction} LIMIT ${next}::int8",
            side.schema
        );
        let answer = self.along_index(id, walk, &sql).await?;
        let mut lines = Vec::with_capacity(answer.rows.len());
        for row in &answer.rows {
            let id: i32 = row.try_get(1).map_err(|e| self.failed(e))?;
            let Some(collection) = self.shared.named(id) else {
                continue;
            };
            let key: &str = row.try_get(2).map_err(|e| self.failed(e))?;
            let place = Place {
                collection,
                key: key.into(),
            };
            lines.push(Line {
                key: row.try_get(0).map_err(|e| self.failed(e))?,
                place,
                stored: None,
            });
        }
        if walk.documents {
            let places: Vec<Place> = lines.iter().map(|line| line.place.clone()).collect();
            let stored = self.present(&places, true).await?;
            for (line, stored) in lines.iter_mut().zip(stored) {
                line.stored = stored;
            }
        }
        Ok(lines)
    }

    async fn along_index(
        &self,
        id: IndexId,
        walk: &Walk,
        sql: &str,
    ) -> Result<super::pipe::Answer, StoreError> {
        if !self.shared.has_index(id) {
            return Err(self.shared.no_index(id));
        }
        let mut call_ = Call::new(sql).with(i32::try_from(id.0).unwrap_or(i32::MAX));
        for bytes in [&walk.from, &walk.to].into_iter().filter_map(inner) {
            call_ = call_.with(bytes);
        }
        let call_ = call_.with(i64::from(walk.limit));
        call(self.client()?, call_)
            .await
            .map_err(|e| self.failed(e))
    }

    /// The bounds of a walk along a collection, where it has a table and there can be any key in them.
    async fn along(
        &self,
        collection: &str,
        walk: &Walk,
    ) -> Result<Option<(Arc<Served>, Bound<String>, Bound<String>)>, StoreError> {
        let Some(served) = self.shared.find(collection).await? else {
            return Ok(None);
        };
        let Some(from) = bound::from(&walk.from) else {
            return Ok(None);
        };
        Ok(Some((served, from, bound::to(&walk.to))))
    }

    async fn walk_collection(
        &self,
        collection: &Arc<str>,
        walk: &Walk,
    ) -> Result<Vec<Line>, StoreError> {
        let Some((served, from, to)) = self.along(collection, walk).await? else {
            return Ok(Vec::new());
        };
        let sql = served.sql.walk(&from, &to, walk.descending, walk.documents);
        let mut call_ = Call::new(sql);
        for text in [&from, &to].into_iter().filter_map(inner) {
            call_ = call_.with(text);
        }
        let answer = call(self.client()?, call_.with(i64::from(walk.limit)))
            .await
            .map_err(|e| self.failed(e))?;
        let mut lines = Vec::with_capacity(answer.rows.len());
        for row in &answer.rows {
            let key: &str = row.try_get(0).map_err(|e| self.failed(e))?;
            let stored = match walk.documents {
                true => {
                    let read = rows::read(&served, row, 1).map(|read| read.stored);
                    self.shared.readable_or(&served, key, read, true)?
                }
                false => None,
            };
            lines.push(Line {
                key: key.as_bytes().to_vec(),
                place: Place {
                    collection: collection.clone(),
                    key: key.into(),
                },
                stored,
            });
        }
        Ok(lines)
    }
}

fn inner<T>(bound: &Bound<T>) -> Option<&T> {
    match bound {
        Bound::Unbounded => None,
        Bound::Included(inner) | Bound::Excluded(inner) => Some(inner),
    }
}

impl Drop for PgView {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else {
            return;
        };
        match Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(async move {
                    if client.batch_execute("COMMIT").await.is_err() {
                        drop(Object::take(client));
                    }
                });
            }
            // Nobody is left to say so; the connection ends, and the transaction with it.
            Err(_) => drop(Object::take(client)),
        }
    }
}

#[async_trait]
impl View for PgView {
    fn at(&self) -> Micros {
        self.at
    }

    async fn get(
        &self,
        places: &[Place],
        at: Option<Micros>,
    ) -> Result<Vec<Option<Stored>>, StoreError> {
        self.as_of(places, at, false).await
    }

    async fn walk(&self, walk: &Walk) -> Result<Vec<Line>, StoreError> {
        match &walk.along {
            Along::Index(id) => self.walk_index(*id, walk).await,
            Along::Collection(name) => self.walk_collection(name, walk).await,
        }
    }

    async fn count(&self, walk: &Walk) -> Result<u64, StoreError> {
        let answer = match &walk.along {
            Along::Index(id) => {
                let (range, next) = conditions("l.key", &walk.from, &walk.to, 2);
                let sql = format!(
                    "SELECT count(*) FROM (SELECT FROM {}.line l WHERE l.index = $1::int4{range} \
                     LIMIT ${next}::int8) counted",
                    self.shared.side.schema
                );
                self.along_index(*id, walk, &sql).await?
            }
            Along::Collection(name) => {
                let Some((served, from, to)) = self.along(name, walk).await? else {
                    return Ok(0);
                };
                let mut call_ = Call::new(served.sql.count(&from, &to));
                for text in [&from, &to].into_iter().filter_map(inner) {
                    call_ = call_.with(text);
                }
                call(self.client()?, call_.with(i64::from(walk.limit)))
                    .await
                    .map_err(|e| self.failed(e))?
            }
        };
        let count: i64 = match answer.rows.first() {
            Some(row) => row.try_get(0).map_err(|e| self.failed(e))?,
            None => 0,
        };
        Ok(u64::try_from(count).unwrap_or(0))
    }

    async fn collections(&self) -> Result<Vec<Arc<str>>, StoreError> {
        self.shared.follow_tables().await?;
        let mut all: Vec<Arc<Served>> = self
            .shared
            .catalog(|catalog| catalog.served.values().cloned().collect());
        all.sort_by(|one, other| one.collection.cmp(&other.collection));
        let any: Vec<&str> = all.iter().map(|served| served.sql.any.as_str()).collect();
        let sql = format!("SELECT ARRAY[{}]::bool[]", any.join(", "));
        let row = self.client()?.query_one(&sql, &[]).await;
        let any: Vec<bool> = row
            .and_then(|row| row.try_get(0))
            .map_err(|e| self.failed(e))?;
        let held = all.iter().zip(any).filter(|(_, any)| *any);
        Ok(held.map(|(served, _)| served.collection.clone()).collect())
    }

    async fn changed(
        &self,
        since: Micros,
        until: Option<Micros>,
        after_place: Option<&Place>,
        limit: u32,
    ) -> Result<Vec<Change>, StoreError> {
        let failed = |error| self.failed(error);
        let after = after_place.map_or(("", ""), |place| (&*place.collection, &*place.key));
        let changed = Call::new(self.shared.side.sql(CHANGED))
            .with(since)
            .with(until.unwrap_or(Micros::MAX))
            .with(after.0)
            .with(after.1)
            .with(i64::from(limit))
            .with(until.is_none());
        let rows = call(self.client()?, changed).await.map_err(failed)?.rows;
        let (mut places, mut times) = (Vec::new(), Vec::new());
        for row in &rows {
            let (collection, key): (&str, &str) = (
                row.try_get(0).map_err(failed)?,
                row.try_get(1).map_err(failed)?,
            );
            places.push(Place {
                collection: collection.into(),
                key: key.into(),
            });
            times.push(row.try_get::<_, Micros>(2).map_err(failed)?);
        }
        let before = self.as_of(&places, Some(since), true).await?;
        let after = self.as_of(&places, until, true).await?;
        let states = before.into_iter().zip(after).zip(times);
        let changes = places
            .into_iter()
            .zip(states)
            .map(|(place, ((before, after), at))| Change {
                place,
                at,
                before,
                after,
            });
        Ok(changes.collect())
    }
}
