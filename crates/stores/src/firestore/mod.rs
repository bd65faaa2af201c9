//! Firestore as a store, over its own protocol (gRPC).
//!
//! A collection is named by the collection ids on the way to it (`users`, `users/posts`), a key by the
//! document ids (`alice`, `alice/p1`). Documents keep their types; references into the own database are
//! paths outside of it, so that they point into whatever database they are carried to.

mod address;
mod calls;
mod credentials;
mod error;
mod fit;
mod names;
mod query;
mod ramp;
mod read;
mod revision;
mod token;
mod upstream;
mod write;

pub use upstream::{Upstream, upstream};

use crate::OpenOptions;
use address::{Address, EMULATOR_VARIABLE};
use async_trait::async_trait;
use calls::{Calls, with};
use names::Collection;
use prost_types::Timestamp;
use ramp::Ramp;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use whimbrel_firestore::name::is_document_path;
use whimbrel_firestore::v1::BatchGetDocumentsRequest;
use whimbrel_firestore::{DatabaseName, size};
use whimbrel_model::store::{Description, Layout};
use whimbrel_model::{
    Body, Code, Document, Key, KeyKind, KeyRange, Limits, Map, Page, Store, StoreError,
    StoreErrorKind, Value, Write, WriteOutcome,
};

/// What Google's own clients took for the most that a commit may hold.
const BATCH_WRITES: u32 = 500;
/// Far below what a commit may hold, because both a request and a transaction end at 10 MiB: on the wire documents take
/// up to three times as many bytes as in the model (numbers, references with the database's name), and a
/// transaction holds their index entries, too.
const BATCH_BYTES: usize = 1 << 20;

/// Whether it exists does not matter; nobody writes it.
const NO_DOCUMENT: &str = "whimbrel/now";

/// Opens a Firestore database.
///
/// # Errors
/// The URL or the credentials are not valid, or the server cannot be reached.
pub async fn open(url: &str, options: &OpenOptions) -> Result<Arc<dyn Store>, StoreError> {
    let address = Address::parse(url, std::env::var(EMULATOR_VARIABLE).ok())?;
    let ramp = address.ramp.then(Ramp::default);
    let store = FirestoreStore {
        calls: Calls {
            upstream: Upstream::to(address)?,
            read_time: None,
        },
        shared: Arc::new(Shared {
            options: options.clone(),
            ramp,
            known: Mutex::default(),
        }),
    };
    store.now().await?;
    Ok(Arc::new(store))
}

#[derive(Clone, Debug)]
pub(crate) struct FirestoreStore {
    calls: Calls,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: OpenOptions,
    ramp: Option<Ramp>,
    /// Collections that were seen, or are to be made: Firestore itself knows of none without documents.
    known: Mutex<BTreeSet<String>>,
}

impl FirestoreStore {
    fn error(&self, code: Code, message: String) -> StoreError {
        StoreError::new(StoreErrorKind::Terminal, code, self.calls.name(), message)
    }

    fn failed(&self, message: String) -> StoreError {
        self.error(Code::StoreFailed, message)
    }

    fn missing(&self, collection: &str) -> StoreError {
        let message = format!("there is no document in the collection {collection:?}");
        self.error(Code::StoreMissing, message)
    }

    fn writable(&self) -> Result<(), StoreError> {
        let why = match (self.calls.read_time, self.shared.options.read_only) {
            (Some(_), _) => "a snapshot is for reading only; nothing was written",
            (_, true) => "the store was opened for reading only; nothing was written",
            _ => return Ok(()),
        };
        Err(self.error(Code::StoreDenied, why.to_owned()))
    }

    /// The collection's name in Firestore.
    fn place<'a>(&'a self, collection: &'a str) -> &'a str {
        let config = self.shared.options.collections.get(collection);
        config
            .and_then(|c| c.table.as_deref())
            .unwrap_or(collection)
    }

    fn note(&self, path: &str) {
        let mut known = self.known();
        if !known.contains(path) {
            known.insert(path.to_owned());
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        let known = self.shared.known.lock();
        known.unwrap_or_else(PoisonError::into_inner)
    }

    /// The collection, if it holds a document or was asked to be made.
    async fn find(&self, collection: &str) -> Result<Option<Collection>, StoreError> {
        let path = self.place(collection);
        let Some(found) = Collection::new(path) else {
            return Ok(None);
        };
        if self.known().contains(path) {
            return Ok(Some(found));
        }
        if !self.exists(&found).await? {
            return Ok(None);
        }
        self.note(path);
        Ok(Some(found))
    }

    async fn need(&self, collection: &str) -> Result<Collection, StoreError> {
        let found = self.find(collection).await?;
        found.ok_or_else(|| self.missing(collection))
    }

    /// The server's time. Shows, too, that it is there and lets us in.
    async fn now(&self) -> Result<Timestamp, StoreError> {
        let database = self.calls.upstream.database();
        let request = BatchGetDocumentsRequest {
            database: database.to_string(),
            documents: vec![database.document(NO_DOCUMENT)],
            ..BatchGetDocumentsRequest::default()
        };
        let now = self
            .calls
            .read("connecting", |mut client, metadata| {
                let request = with(metadata, request.clone());
                async move {
                    let mut stream = client.batch_get_documents(request).await?.into_inner();
                    let mut now = None;
                    while let Some(answer) = stream.message().await? {
                        now = answer.read_time.or(now);
                    }
                    Ok(now)
                }
            })
            .await?;
        now.ok_or_else(|| self.failed("the server does not tell its time".to_owned()))
    }
}

#[async_trait]
impl Store for FirestoreStore {
    fn name(&self) -> &str {
        self.calls.name()
    }

    fn limits(&self) -> Limits {
        Limits {
            batch_writes: BATCH_WRITES,
            batch_bytes: BATCH_BYTES,
            document_bytes: size::DOCUMENT_BYTES,
            // Names are ordered id by id (`a/1` before `a-b/1`), and ids such as `__id7__` by their numbers.
            key_order: false,
            parallel: 8,
        }
    }

    async fn collections(&self) -> Result<Vec<String>, StoreError> {
        let found = if self.calls.upstream.address().nested {
            self.everywhere().await?
        } else {
            self.roots().await?.into_iter().collect()
        };
        let configured = &self.shared.options.collections;
        let claimed: BTreeSet<&str> = configured
            .values()
            .filter_map(|config| config.table.as_deref())
            .collect();
        let mut names: BTreeSet<String> = configured.keys().cloned().collect();
        let known = self.known().clone();
        let free = found.into_iter().chain(known);
        names.extend(free.filter(|path| !claimed.contains(path.as_str())));
        Ok(names.into_iter().collect())
    }

    async fn describe(&self, collection: &str) -> Result<Option<Description>, StoreError> {
        let Some(found) = self.find(collection).await? else {
            return Ok(None);
        };
        Ok(Some(Description {
            layout: Layout::Native,
            key: KeyKind::Text,
            documents: self.estimate(&found).await,
            bytes: None,
        }))
    }

    /// Firestore makes collections with their first documents: here one is only noted.
    async fn ensure(&self, collection: &str, _key: &KeyKind) -> Result<(), StoreError> {
        self.writable()?;
        let path = self.place(collection);
        if Collection::new(path).is_none() {
            let why = format!(
                "{path:?} is no name of a collection: ids joined by slashes, none empty, . or .. or __…__"
            );
            return Err(self.error(Code::StoreShape, why));
        }
        self.note(path);
        Ok(())
    }

    async fn count(&self, collection: &str, range: &KeyRange) -> Result<u64, StoreError> {
        self.counted(&self.need(collection).await?, range).await
    }

    async fn partitions(
        &self,
        collection: &str,
        range: &KeyRange,
        parts: u32,
    ) -> Result<Vec<KeyRange>, StoreError> {
        self.cut(&self.need(collection).await?, range, parts.max(1))
            .await
    }

    async fn scan(
        &self,
        collection: &str,
        range: &KeyRange,
        limit: u32,
        bytes: usize,
    ) -> Result<Page, StoreError> {
        let collection = self.need(collection).await?;
        self.page(&collection, range, limit, bytes).await
    }

    async fn get(
        &self,
        collection: &str,
        keys: &[Key],
    ) -> Result<Vec<Option<Document>>, StoreError> {
        self.documents(&self.need(collection).await?, keys).await
    }

    /// References into the own database come back as paths.
    async fn held(
        &self,
        _collection: &str,
        _keys: &[Key],
        bodies: Vec<Body>,
    ) -> Result<Vec<Body>, StoreError> {
        let database = self.calls.upstream.database();
        Ok(bodies.into_iter().map(|one| held(one, database)).collect())
    }

    fn held_key(&self, collection: &str, key: &Key) -> Option<Key> {
        let collection = Collection::new(self.place(collection))?;
        collection.key_of(&collection.path_of(key).ok()?)
    }

    fn not_carried(&self) -> Option<&'static str> {
        Some("when documents were created and last changed (create_time, update_time)")
    }

    async fn write(&self, writes: &[Write]) -> Result<Vec<WriteOutcome>, StoreError> {
        self.writable()?;
        let mut collections = HashMap::new();
        for write in writes {
            let name = write.collection.as_str();
            if !collections.contains_key(name) {
                collections.insert(name, self.need(name).await?);
            }
        }
        self.write_all(&collections, writes).await
    }

    async fn snapshot(&self) -> Result<Option<Arc<dyn Store>>, StoreError> {
        let mut at = match self.calls.read_time {
            Some(at) => at,
            None => self.now().await?,
        };
        if self.calls.upstream.address().whole_minutes {
            at = Timestamp {
                seconds: at.seconds - at.seconds.rem_euclid(60),
                nanos: 0,
            };
        }
        let mut snapshot = self.clone();
        snapshot.calls.read_time = Some(at);
        Ok(Some(Arc::new(snapshot)))
    }
}

fn held(body: Body, database: &DatabaseName) -> Body {
    // The tag, or a part of somebody's own name; most documents hold neither.
    let suspicious = match &body {
        Body::Json(bytes) => memchr::memmem::find(bytes, b"$reference").is_some(),
        Body::Map(map) => map.values().any(has_reference),
    };
    if !suspicious {
        return body;
    }
    let Ok(map) = body.map() else {
        return body;
    };
    let mut map = map.into_owned();
    map.values_mut().for_each(|value| localize(value, database));
    Body::Map(map)
}

fn has_reference(value: &Value) -> bool {
    match value {
        Value::Reference(_) => true,
        Value::Array(items) => items.iter().any(has_reference),
        Value::Map(map) => map.values().any(has_reference),
        _ => false,
    }
}

fn localize(value: &mut Value, database: &DatabaseName) {
    let each = |map: &mut Map| map.values_mut().for_each(|value| localize(value, database));
    match value {
        Value::Reference(name) if !is_document_path(name) => {
            if let Some(path) = database.relative(name) {
                *name = path.to_owned();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| localize(item, database)),
        Value::Map(map) => each(map),
        _ => {}
    }
}
