//! Serving from PostgreSQL: documents stay rows of tables that anybody may read and write in SQL.
//!
//! What SQL has no place for lies in a schema beside them ([`side`]): times, what documents were, indexes. Triggers
//! note what others write ([`triggers`]); the gateway's commits note it themselves ([`commit`]). One server at a
//! time serves a schema ([`session`]).

mod adopt;
mod bound;
mod commit;
mod foreign;
mod past;
mod pipe;
mod record;
mod rows;
mod served;
mod session;
mod side;
mod triggers;
mod view;
mod watch;
mod writes;

use crate::OpenOptions;
use crate::postgres::connect::Connections;
use crate::postgres::error;
use async_trait::async_trait;
use foreign::Handed;
use pipe::{Answer, Call, Step, call, pipe};
use served::Served;
use session::Committer;
use side::Side;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tokio_postgres::{Error, Row};
use view::PgView;
use whimbrel_firestore::backend::{Decide, Foreign, IndexId, IndexState, Stored};
use whimbrel_firestore::{Backend, Fields, Micros, Place, View};
use whimbrel_model::{Code, StoreError, StoreErrorKind};

/// Connections for what is over in a moment.
const QUICK: usize = 8;
/// Connections for views, each of which keeps one.
const VIEWS: usize = 64;

/// Opens a database for serving by a libpq URL. Waits a while for another server of the same schema to end.
///
/// # Errors
/// The URL is not valid, the database cannot be used, a configured table cannot be served, or another server
/// serves the schema.
pub(super) async fn open(url: &str, options: &OpenOptions) -> Result<Arc<dyn Backend>, StoreError> {
    let quick = Connections::serving(url, QUICK)?;
    let views = Connections::serving(url, VIEWS)?;
    if options.read_only {
        return Err(StoreError::new(
            StoreErrorKind::Terminal,
            Code::StoreDenied,
            &quick.name,
            "a database that is opened for reading only cannot be served: what others write has to be noted in it",
        ));
    }
    let mut client = quick.get().await?;
    let side = Side::of(&quick, &client).await?;
    let committer = Committer::begin(&quick, &side).await?;
    side.prepare(&quick.name, &mut client).await?;
    drop(client);
    let shared = Arc::new(Shared {
        quick,
        views,
        side,
        options: options.clone(),
        catalog: RwLock::default(),
        adopting: tokio::sync::Mutex::default(),
        handed: Mutex::default(),
    });
    shared.load().await?;
    for collection in options.collections.keys() {
        shared.find(collection).await?;
    }
    shared.follow_tables().await?;
    committer.starts_at(shared.last_commit().await?);
    Ok(Arc::new(PgBackend {
        shared,
        committer: tokio::sync::Mutex::new(committer),
    }))
}

struct PgBackend {
    shared: Arc<Shared>,
    committer: tokio::sync::Mutex<Committer>,
}

impl std::fmt::Debug for PgBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PgBackend")
            .field("name", &self.shared.quick.name)
            .finish_non_exhaustive()
    }
}

/// What reading and writing share.
struct Shared {
    quick: Connections,
    views: Connections,
    side: Side,
    options: OpenOptions,
    catalog: RwLock<Catalog>,
    /// Held while a table is looked for: one at a time.
    adopting: tokio::sync::Mutex<()>,
    handed: Mutex<Handed>,
}

/// What is known without asking.
#[derive(Default)]
struct Catalog {
    served: HashMap<Arc<str>, Arc<Served>>,
    names: HashMap<i32, Arc<str>>,
    ids: HashMap<Arc<str>, i32>,
    indexes: BTreeMap<IndexId, IndexState>,
    /// Tables that were looked at and are no collections, with the version that they had.
    passed_over: HashMap<String, Option<String>>,
}

/// How often reading is tried anew: connections that died in the pool are found out only when they are used, and
/// tables that changed only when they are read.
const TRIES: u32 = 4;

/// Reads until it succeeds, or fails for another reason than one that passes, or too often.
async fn again<T, F>(mut read: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut tries = 1;
    loop {
        match read().await {
            Err(error) if error.kind == StoreErrorKind::Transient && tries < TRIES => tries += 1,
            other => return other,
        }
    }
}

const LAST_COMMIT: &str = "SELECT greatest((SELECT max(at) FROM @.committed), (SELECT max(at) FROM @.log), \
    (SELECT max(adopted) FROM @.collection), 0)";

impl Shared {
    fn failed(&self, doing: &str, error: Error) -> StoreError {
        let stale = error::is_stale(&error);
        let mut failed = error::store_error(&self.quick.name, doing, error);
        if stale {
            // A table changed or went away. The next try looks at it anew.
            self.forget_tables();
            failed.kind = StoreErrorKind::Transient;
        }
        failed
    }

    fn terminal(&self, code: Code, message: impl Into<String>) -> StoreError {
        StoreError::new(StoreErrorKind::Terminal, code, &self.quick.name, message)
    }

    /// A row that is no document.
    fn no_document(&self, served: &Served, key: &str, why: &str) -> StoreError {
        self.terminal(
            Code::DocUnreadable,
            format!(
                "the row {key:?} of the table {} is no document: {why}; mend or delete it in SQL",
                served.name
            ),
        )
    }

    fn catalog<T>(&self, read: impl FnOnce(&Catalog) -> T) -> T {
        read(&self.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn note<T>(&self, write: impl FnOnce(&mut Catalog) -> T) -> T {
        write(&mut self.catalog.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn known(&self, collection: &str) -> Option<Arc<Served>> {
        self.catalog(|catalog| catalog.served.get(collection).cloned())
    }

    fn id(&self, collection: &str) -> Option<i32> {
        self.catalog(|catalog| catalog.ids.get(collection).copied())
    }

    /// The collection of a number.
    fn named(&self, id: i32) -> Option<Arc<str>> {
        self.catalog(|catalog| catalog.names.get(&id).cloned())
    }

    fn note_id(&self, id: i32, collection: &str) {
        self.note(|catalog| {
            let name: Arc<str> = collection.into();
            catalog.ids.insert(name.clone(), id);
            catalog.names.insert(id, name);
        });
    }

    fn remember(&self, served: Served) -> Arc<Served> {
        let served = Arc::new(served);
        self.note(|catalog| {
            let collection = served.collection.clone();
            catalog.served.insert(collection, served.clone());
        });
        served
    }

    fn forget_table(&self, collection: &str) {
        self.note(|catalog| catalog.served.remove(collection));
        self.forget_statements();
    }

    fn forget_tables(&self) {
        self.note(|catalog| catalog.served.clear());
        self.forget_statements();
    }

    fn forget_statements(&self) {
        self.quick.forget_statements();
        self.views.forget_statements();
    }

    /// Whether the table was not looked at yet as it is now.
    fn is_news(&self, table: &str, version: Option<String>) -> bool {
        self.note(|catalog| {
            let seen = catalog
                .passed_over
                .insert(table.to_owned(), version.clone());
            seen != Some(version)
        })
    }

    fn handed(&self) -> MutexGuard<'_, Handed> {
        self.handed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_index(&self, index: IndexId) -> bool {
        self.catalog(|catalog| catalog.indexes.contains_key(&index))
    }

    fn no_index(&self, index: IndexId) -> StoreError {
        self.terminal(Code::StoreMissing, format!("there is no index {}", index.0))
    }

    /// Reads what does not change behind this server's back.
    async fn load(&self) -> Result<(), StoreError> {
        let failed = |error| self.failed("reading the catalogue of collections", error);
        let client = self.quick.get().await?;
        let sql = self.side.sql("SELECT id, name FROM @.collection");
        for row in call(&client, Call::new(sql)).await.map_err(failed)?.rows {
            let name: String = row.try_get(1).map_err(failed)?;
            self.note_id(row.try_get(0).map_err(failed)?, &name);
        }
        let sql = self.side.sql("SELECT id, definition, ready FROM @.index");
        for row in call(&client, Call::new(sql)).await.map_err(failed)?.rows {
            let id: i32 = row.try_get(0).map_err(failed)?;
            self.note_index(IndexState {
                id: IndexId(id.unsigned_abs()),
                definition: definition(row.try_get(1).map_err(failed)?),
                ready: row.try_get(2).map_err(failed)?,
            });
        }
        Ok(())
    }

    fn note_index(&self, index: IndexState) {
        self.note(|catalog| catalog.indexes.insert(index.id, index));
    }

    async fn last_commit(&self) -> Result<Micros, StoreError> {
        let failed = |error| self.failed("reading the time of the last commit", error);
        let client = self.quick.get().await?;
        let answer = call(&client, Call::new(self.side.sql(LAST_COMMIT)))
            .await
            .map_err(failed)?;
        let row = answer.rows.first();
        row.map_or(Ok(0), |row| row.try_get(0).map_err(failed))
    }

    /// What was read of a row, or why it is no document: an error, or (`lenient`) said in the log.
    fn readable_or(
        &self,
        served: &Served,
        key: &str,
        read: Result<Stored, String>,
        lenient: bool,
    ) -> Result<Option<Stored>, StoreError> {
        match read {
            Ok(stored) => Ok(Some(stored)),
            Err(why) => {
                let error = self.no_document(served, key, &why);
                if !lenient {
                    return Err(error);
                }
                tracing::warn!("{error}");
                Ok(None)
            }
        }
    }

    /// Documents as they are now.
    async fn get(
        &self,
        places: &[Place],
        lenient: bool,
    ) -> Result<Vec<Option<Stored>>, StoreError> {
        let groups = self.groups(places).await?;
        let mut found = vec![None; places.len()];
        if groups.is_empty() {
            return Ok(found);
        }
        let client = self.quick.get().await?;
        let mut steps: Vec<Step<'_>> = groups.iter().map(|group| group.get().into()).collect();
        let several = groups.len() > 1;
        if several {
            // All as of one moment.
            let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
            steps.insert(0, Step::Plain(begin));
            steps.push(Step::Plain("COMMIT"));
        }
        let answers = match pipe(&client, steps).await {
            Ok(answers) => answers,
            Err(error) => {
                if several {
                    // The pool takes back only what is out of its transaction.
                    drop(deadpool_postgres::Object::take(client));
                }
                return Err(self.failed("reading documents", error));
            }
        };
        for (group, answer) in groups.iter().zip(answers.iter().skip(usize::from(several))) {
            group.take_all(self, places, answer, lenient, &mut found)?;
        }
        Ok(found)
    }

    /// The places of each collection that has a table.
    async fn groups<'p>(&self, places: &'p [Place]) -> Result<Vec<Group<'p>>, StoreError> {
        let mut groups: Vec<Group<'p>> = Vec::new();
        let mut at: HashMap<&str, Option<usize>> = HashMap::new();
        for (ordinal, place) in (0i32..).zip(places) {
            let group = match at.get(&*place.collection) {
                Some(group) => *group,
                None => {
                    let group = self.find(&place.collection).await?.map(|served| {
                        groups.push(Group {
                            served,
                            keys: Vec::new(),
                            ordinals: Vec::new(),
                        });
                        groups.len() - 1
                    });
                    at.insert(&place.collection, group);
                    group
                }
            };
            let Some(group) = group.and_then(|at| groups.get_mut(at)) else {
                continue;
            };
            // No row has a key with U+0000, and none may be asked for.
            if !place.key.contains('\0') {
                group.keys.push(&place.key);
                group.ordinals.push(ordinal);
            }
        }
        groups.retain(|group| !group.keys.is_empty());
        Ok(groups)
    }
}

/// The keys of one collection that are asked for, and where their answers go.
struct Group<'p> {
    served: Arc<Served>,
    keys: Vec<&'p str>,
    ordinals: Vec<i32>,
}

impl Group<'_> {
    fn get(&self) -> Call<'_> {
        Call::new(&*self.served.sql.get)
            .with(&self.keys)
            .with(&self.ordinals)
    }

    /// Reads a row of what [`Self::get`] answers: which place it is of, and its document or why it is none.
    fn read(
        &self,
        shared: &Shared,
        row: &Row,
    ) -> Result<(usize, Result<rows::Read, String>), StoreError> {
        let ordinal: i32 = row
            .try_get(0)
            .map_err(|error| shared.failed("reading documents", error))?;
        let at = usize::try_from(ordinal).unwrap_or(usize::MAX);
        Ok((at, rows::read(&self.served, row, 1)))
    }

    /// `lenient`: rows that are no documents are passed over.
    fn take_all(
        &self,
        shared: &Shared,
        places: &[Place],
        answer: &Answer,
        lenient: bool,
        found: &mut [Option<Stored>],
    ) -> Result<(), StoreError> {
        for row in &answer.rows {
            let (at, read) = self.read(shared, row)?;
            if let (Some(slot), Some(place)) = (found.get_mut(at), places.get(at)) {
                let stored = read.map(|read| read.stored);
                *slot = shared.readable_or(&self.served, &place.key, stored, lenient)?;
            }
        }
        Ok(())
    }
}

/// Definitions are texts, of which the gateway may have any.
fn definition(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[async_trait]
impl Backend for PgBackend {
    fn name(&self) -> &str {
        &self.shared.quick.name
    }

    async fn get(&self, places: &[Place]) -> Result<Vec<Option<Stored>>, StoreError> {
        again(|| self.shared.get(places, false)).await
    }

    async fn view(&self) -> Result<Box<dyn View>, StoreError> {
        Ok(Box::new(PgView::open(&self.shared).await?))
    }

    async fn commit(&self, touch: &[Place], decide: Decide) -> Result<(), StoreError> {
        let mut committer = self.committer.lock().await;
        commit::commit(&self.shared, &mut committer, touch, decide).await
    }

    fn refuse(&self, place: &Place, fields: &Fields) -> Option<String> {
        if place.collection.contains('\0') {
            return Some(
                "a collection's id holds U+0000, which PostgreSQL's text cannot".to_owned(),
            );
        }
        let served = self.shared.known(&place.collection);
        rows::refusal(served.as_deref(), &place.key, fields)
    }

    async fn last_commit(&self) -> Result<Micros, StoreError> {
        self.shared.last_commit().await
    }

    async fn foreign(&self, limit: u32) -> Result<Foreign, StoreError> {
        self.shared.foreign(limit).await
    }

    async fn indexes(&self) -> Result<Vec<IndexState>, StoreError> {
        Ok(self
            .shared
            .catalog(|catalog| catalog.indexes.values().cloned().collect()))
    }

    async fn create_index(&self, definition: &str) -> Result<IndexState, StoreError> {
        let failed = |error| self.shared.failed("making an index", error);
        let client = self.shared.quick.get().await?;
        let insert = self.shared.side.sql(
            "INSERT INTO @.index (definition, ready) VALUES ($1::bytea, false) ON CONFLICT DO NOTHING",
        );
        let read = self.shared.side.sql(
            "SELECT id, ready FROM @.index WHERE md5(definition) = md5($1::bytea) AND definition = $1::bytea",
        );
        let bytes = definition.as_bytes();
        call(&client, Call::new(insert).with(bytes))
            .await
            .map_err(failed)?;
        let row = client.query_one(&read, &[&bytes]).await.map_err(failed)?;
        let id: i32 = row.try_get(0).map_err(failed)?;
        let index = IndexState {
            id: IndexId(id.unsigned_abs()),
            definition: definition.to_owned(),
            ready: row.try_get(1).map_err(failed)?,
        };
        self.shared.note_index(index.clone());
        Ok(index)
    }

    async fn index_ready(&self, index: IndexId) -> Result<(), StoreError> {
        let failed = |error| self.shared.failed("noting that an index is ready", error);
        let client = self.shared.quick.get().await?;
        let sql = self
            .shared
            .side
            .sql("UPDATE @.index SET ready = true WHERE id = $1::int4");
        let id = i32::try_from(index.0).unwrap_or(i32::MAX);
        let done = call(&client, Call::new(sql).with(id))
            .await
            .map_err(failed)?;
        if done.count == 0 {
            return Err(self.shared.no_index(index));
        }
        self.shared.note(|catalog| {
            if let Some(index) = catalog.indexes.get_mut(&index) {
                index.ready = true;
            }
        });
        Ok(())
    }

    async fn forget(&self, horizon: Micros) -> Result<(), StoreError> {
        self.shared.forget(horizon).await
    }
}
