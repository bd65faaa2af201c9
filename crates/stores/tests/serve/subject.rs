//! A store under test, and what makes documents short to write.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use whimbrel_firestore::backend::{Batch, Found, IndexLine, Put, Stored, There};
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_firestore::v1::{ArrayValue, MapValue, Value};
use whimbrel_firestore::{Backend, Fields, Micros, Place};
use whimbrel_model::StoreError;
use whimbrel_stores::{OpenOptions, serve};
#[cfg(feature = "postgres")]
use whimbrel_testkit::servers::Schema;

pub struct Subject {
    /// `None` only while it is opened again.
    backend: Option<Arc<dyn Backend>>,
    ground: Ground,
    options: OpenOptions,
}

/// Where the documents lie.
enum Ground {
    Memory,
    Sqlite(TempDir),
    #[cfg(feature = "postgres")]
    Postgres(Schema),
}

pub async fn memory() -> Option<Subject> {
    Some(Subject::new(Ground::Memory, OpenOptions::default()).await)
}

pub async fn sqlite() -> Option<Subject> {
    sqlite_with(OpenOptions::default()).await
}

pub async fn sqlite_with(options: OpenOptions) -> Option<Subject> {
    let directory = tempfile::tempdir().unwrap();
    Some(Subject::new(Ground::Sqlite(directory), options).await)
}

#[cfg(feature = "postgres")]
pub async fn postgres() -> Option<Subject> {
    postgres_with(OpenOptions::default()).await
}

#[cfg(feature = "postgres")]
pub async fn postgres_with(options: OpenOptions) -> Option<Subject> {
    let schema = Schema::create().await?;
    Some(Subject::new(Ground::Postgres(schema), options).await)
}

impl Ground {
    fn url(&self) -> String {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(schema) => schema.url.clone(),
            Self::Memory => "memory:".to_owned(),
            Self::Sqlite(directory) => {
                format!("sqlite:{}", directory.path().join("app.db").display())
            }
        }
    }
}

impl Subject {
    async fn new(ground: Ground, options: OpenOptions) -> Self {
        let mut subject = Self {
            backend: None,
            ground,
            options,
        };
        subject.open().await.unwrap();
        subject
    }

    pub fn url(&self) -> String {
        self.ground.url()
    }

    /// An empty one of the same kind.
    pub async fn another(&self) -> Self {
        let ground = match &self.ground {
            Ground::Memory => Ground::Memory,
            Ground::Sqlite(_) => Ground::Sqlite(tempfile::tempdir().unwrap()),
            #[cfg(feature = "postgres")]
            Ground::Postgres(_) => Ground::Postgres(Schema::create().await.unwrap()),
        };
        Self::new(ground, self.options.clone()).await
    }

    pub fn backend(&self) -> &Arc<dyn Backend> {
        self.backend.as_ref().unwrap()
    }

    /// Leaves the store, as a process does that ends.
    pub fn close(&mut self) {
        self.backend = None;
    }

    pub async fn open(&mut self) -> Result<(), StoreError> {
        let url = self.url();
        self.backend = Some(serve::open(&url, &self.options).await?);
        Ok(())
    }

    pub async fn reopen(&mut self) {
        self.close();
        self.open().await.unwrap();
    }

    /// Runs statements as another program does.
    pub async fn sql(&self, text: &str) {
        match &self.ground {
            Ground::Memory => panic!("memory has no SQL"),
            #[cfg(feature = "postgres")]
            Ground::Postgres(schema) => schema.client().await.batch_execute(text).await.unwrap(),
            Ground::Sqlite(directory) => {
                let other = rusqlite::Connection::open(directory.path().join("app.db")).unwrap();
                other
                    .busy_timeout(std::time::Duration::from_secs(5))
                    .unwrap();
                other.execute_batch(text).unwrap();
            }
        }
    }

    /// Runs statements on one connection as another program does, and the last one after `pause`.
    pub async fn sql_with_pause<T>(
        &self,
        first: &[&str],
        last: &str,
        pause: impl FnOnce() -> T,
    ) -> T {
        match &self.ground {
            Ground::Memory => panic!("memory has no SQL"),
            #[cfg(feature = "postgres")]
            Ground::Postgres(schema) => {
                let app = schema.client().await;
                for text in first {
                    app.batch_execute(text).await.unwrap();
                }
                let paused = pause();
                app.batch_execute(last).await.unwrap();
                paused
            }
            Ground::Sqlite(directory) => {
                let app = rusqlite::Connection::open(directory.path().join("app.db")).unwrap();
                for text in first {
                    app.execute_batch(text).unwrap();
                }
                // SQLite's clock is rounded to milliseconds, and others' times to the next of them.
                std::thread::sleep(std::time::Duration::from_millis(3));
                let paused = pause();
                app.execute_batch(last).unwrap();
                paused
            }
        }
    }

    /// Runs what each database says in its own way.
    pub async fn dialect(&self, sqlite: &str, postgres: &str) {
        match self.ground {
            Ground::Sqlite(_) => self.sql(sqlite).await,
            _ => self.sql(postgres).await,
        }
    }

    #[cfg(feature = "postgres")]
    pub fn schema(&self) -> &Schema {
        match &self.ground {
            Ground::Postgres(schema) => schema,
            _ => panic!("only PostgreSQL has schemas"),
        }
    }

    /// Whether a statement that replaces rows (SQLite's) can be run.
    pub fn replaces(&self) -> bool {
        matches!(self.ground, Ground::Sqlite(_))
    }

    /// Commits the documents (`None` deletes) at one new time, as the gateway does: what is made keeps its time.
    pub async fn commit(&self, documents: &[(&str, Option<Fields>)]) -> Micros {
        self.commit_lines(documents, &[], &[]).await
    }

    pub async fn commit_lines(
        &self,
        documents: &[(&str, Option<Fields>)],
        unindex: &[IndexLine],
        index: &[IndexLine],
    ) -> Micros {
        self.try_commit(documents, unindex, index).await.unwrap()
    }

    pub async fn try_commit(
        &self,
        documents: &[(&str, Option<Fields>)],
        unindex: &[IndexLine],
        index: &[IndexLine],
    ) -> Result<Micros, StoreError> {
        let touch: Vec<Place> = documents.iter().map(|(path, _)| place(path)).collect();
        let wanted: Vec<Option<Fields>> =
            documents.iter().map(|(_, fields)| fields.clone()).collect();
        let (unindex, index) = (unindex.to_vec(), index.to_vec());
        let (places, at) = (touch.clone(), Arc::new(AtomicI64::new(0)));
        let committed = at.clone();
        let decide = move |found: &Found| {
            let at = now();
            committed.store(at, Ordering::SeqCst);
            Batch {
                at,
                documents: places
                    .iter()
                    .zip(&wanted)
                    .map(|(place, fields)| put(found, place, at, fields.clone()))
                    .collect(),
                unindex: unindex.clone(),
                index: index.clone(),
                settled: None,
            }
        };
        let backend = self.backend();
        backend.commit(&touch, Box::new(decide)).await?;
        Ok(at.load(Ordering::SeqCst))
    }

    pub async fn set(&self, path: &str, fields: Fields) -> Micros {
        self.commit(&[(path, Some(fields))]).await
    }

    pub async fn delete(&self, path: &str) -> Micros {
        self.commit(&[(path, None)]).await
    }

    /// Says that the indexes reflect others' changes up to a mark.
    pub async fn settle(&self, mark: Option<u64>) {
        let decide = move |_: &Found| Batch {
            at: now(),
            settled: mark,
            ..Batch::default()
        };
        let backend = self.backend();
        backend.commit(&[], Box::new(decide)).await.unwrap();
    }

    pub async fn get(&self, path: &str) -> Option<Stored> {
        self.backend().get(&[place(path)]).await.unwrap().remove(0)
    }
}

/// A document as a commit puts it.
pub fn put(found: &Found, place: &Place, at: Micros, fields: Option<Fields>) -> Put {
    Put {
        place: place.clone(),
        at,
        stored: fields.map(|fields| Stored {
            fields: Arc::new(fields),
            created: found
                .get(place)
                .and_then(There::document)
                .map_or(at, |before| before.created),
            updated: at,
        }),
    }
}

/// A time of its own for each caller, not before this machine's clock.
pub fn now() -> Micros {
    static LAST: Mutex<Micros> = Mutex::new(0);
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut last = LAST.lock().unwrap();
    *last = i64::try_from(clock.as_micros()).unwrap().max(*last + 1);
    *last
}

pub fn place(path: &str) -> Place {
    Place::of_path(path).unwrap()
}

pub fn of(kind: ValueType) -> Value {
    Value {
        value_type: Some(kind),
    }
}

pub fn int(n: i64) -> Value {
    of(ValueType::IntegerValue(n))
}

pub fn text(s: &str) -> Value {
    of(ValueType::StringValue(s.to_owned()))
}

pub fn array(values: Vec<Value>) -> Value {
    of(ValueType::ArrayValue(ArrayValue { values }))
}

pub fn map(fields: Fields) -> Value {
    of(ValueType::MapValue(MapValue { fields }))
}

pub fn fields<const N: usize>(entries: [(&str, Value); N]) -> Fields {
    let entries = entries.into_iter();
    entries
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// A document of one number.
pub fn n(n: i64) -> Fields {
    fields([("n", int(n))])
}

/// That number.
pub fn number(stored: &Option<Stored>) -> Option<i64> {
    match stored.as_ref()?.fields.get("n")?.value_type {
        Some(ValueType::IntegerValue(n)) => Some(n),
        _ => None,
    }
}
