//! Documents in memory: for tests, for rehearsals, and for what needs no database.

use crate::body::{self, checked_json};
use crate::{CollectionConfig, OpenOptions};
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use whimbrel_model::store::{Description, Layout};
use whimbrel_model::{
    Body, Code, Document, Guard, Key, KeyKind, KeyRange, Limits, Page, Refusal, Revision, Store,
    StoreError, StoreErrorKind, Write, WriteOutcome,
};

const DOCUMENT_BYTES: usize = 32 << 20;

/// Opens a store of its own (an empty name), or the one that this process has under the name.
#[must_use]
pub fn open(name: &str, options: &OpenOptions) -> Arc<dyn Store> {
    static SHARED: OnceLock<Mutex<HashMap<String, Arc<Mutex<Data>>>>> = OnceLock::new();
    let data = if name.is_empty() {
        Arc::default()
    } else {
        let shared = SHARED.get_or_init(Mutex::default);
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.entry(name.to_owned()).or_default().clone()
    };
    Arc::new(MemoryStore {
        name: format!("memory:{name}"),
        options: options.clone(),
        data,
        snapshot: false,
    })
}

#[derive(Debug)]
struct MemoryStore {
    name: String,
    options: OpenOptions,
    data: Arc<Mutex<Data>>,
    snapshot: bool,
}

#[derive(Clone, Debug, Default)]
struct Data {
    collections: BTreeMap<String, Collection>,
    /// Counts every write, deletions too: a revision never comes back.
    revision: u64,
}

#[derive(Clone, Debug)]
struct Collection {
    kind: KeyKind,
    documents: BTreeMap<Key, (Body, u64)>,
}

impl Collection {
    fn range<'c>(
        &'c self,
        range: &KeyRange,
    ) -> impl DoubleEndedIterator<Item = (&'c Key, &'c (Body, u64))> {
        let after = range
            .after
            .clone()
            .map_or(Bound::Unbounded, Bound::Excluded);
        let through = range
            .through
            .clone()
            .map_or(Bound::Unbounded, Bound::Included);
        let backwards = matches!((&range.after, &range.through), (Some(a), Some(t)) if a >= t);
        let within = (!backwards).then(|| self.documents.range((after, through)));
        within.into_iter().flatten()
    }
}

fn revision(number: u64) -> Revision {
    Revision(number.to_be_bytes().to_vec())
}

fn document(key: &Key, (body, number): &(Body, u64)) -> Document {
    Document {
        key: key.clone(),
        body: body.clone(),
        revision: revision(*number),
    }
}

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn terminal(&self, code: Code, message: String) -> StoreError {
        StoreError::new(StoreErrorKind::Terminal, code, &self.name, message)
    }

    fn writable(&self) -> Result<(), StoreError> {
        let why = match (self.snapshot, self.options.read_only) {
            (true, _) => "a snapshot is for reading only; nothing was written",
            (_, true) => "the store was opened for reading only",
            _ => return Ok(()),
        };
        Err(self.terminal(Code::StoreDenied, why.to_owned()))
    }

    fn config(&self, collection: &str) -> Option<&CollectionConfig> {
        self.options.collections.get(collection)
    }

    fn table<'a>(&'a self, collection: &'a str) -> &'a str {
        let table = self.config(collection).and_then(|c| c.table.as_deref());
        table.unwrap_or(collection)
    }

    fn with<T>(
        &self,
        collection: &str,
        read: impl FnOnce(&Collection) -> T,
    ) -> Result<T, StoreError> {
        match self.lock().collections.get(self.table(collection)) {
            Some(found) => Ok(read(found)),
            None => Err(self.missing(collection)),
        }
    }

    fn missing(&self, collection: &str) -> StoreError {
        self.terminal(
            Code::StoreMissing,
            format!("there is no collection {collection:?}"),
        )
    }

    /// The body as it will be kept, or why it will not.
    fn prepare(&self, write: &Write, kind: &KeyKind) -> Result<Option<Body>, String> {
        let Some(body) = &write.to else {
            return Ok(None);
        };
        if write.key.kind() != *kind {
            return Err("the key is not of the collection's kind".into());
        }
        if body.size() > DOCUMENT_BYTES {
            return Err(format!(
                "the document is larger than {} MiB",
                DOCUMENT_BYTES >> 20
            ));
        }
        let plain = self.config(&write.collection).is_some_and(|c| c.plain);
        if let (Body::Map(_), false) = (body, plain) {
            return Ok(Some(body.clone()));
        }
        let json = checked_json(body, plain)?;
        Ok(Some(match body {
            Body::Json(bytes) if matches!(json, std::borrow::Cow::Borrowed(_)) => {
                Body::Json(bytes.clone())
            }
            _ => Body::from_json(json.into_owned()),
        }))
    }

    fn apply(&self, data: &mut Data, write: &Write) -> Result<WriteOutcome, StoreError> {
        let Data {
            collections,
            revision: counter,
        } = data;
        let collection = collections
            .get_mut(self.table(&write.collection))
            .ok_or_else(|| self.missing(&write.collection))?;
        let to = match self.prepare(write, &collection.kind) {
            Ok(to) => to,
            Err(message) => return Ok(WriteOutcome::Refused(Refusal { message })),
        };
        let current = collection.documents.get(&write.key);
        let holds = match &write.guard {
            Guard::Any => true,
            Guard::Absent => current.is_none(),
            Guard::Unchanged(expected) => current.is_some_and(|(_, n)| revision(*n) == *expected),
        };
        if !holds {
            return Ok(WriteOutcome::Lost);
        }
        *counter += 1;
        match to {
            Some(body) => {
                collection
                    .documents
                    .insert(write.key.clone(), (body, *counter));
            }
            None => {
                collection.documents.remove(&write.key);
            }
        }
        Ok(WriteOutcome::Applied)
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn limits(&self) -> Limits {
        Limits {
            batch_writes: 20_000,
            batch_bytes: DOCUMENT_BYTES,
            document_bytes: DOCUMENT_BYTES,
            key_order: true,
            parallel: 4,
        }
    }

    async fn collections(&self) -> Result<Vec<String>, StoreError> {
        let configured = &self.options.collections;
        let mut names: BTreeSet<String> = configured.keys().cloned().collect();
        let claimed: BTreeSet<&str> = configured
            .values()
            .filter_map(|c| c.table.as_deref())
            .collect();
        let data = self.lock();
        let free = data
            .collections
            .keys()
            .filter(|name| !claimed.contains(name.as_str()));
        names.extend(free.cloned());
        Ok(names.into_iter().collect())
    }

    async fn describe(&self, collection: &str) -> Result<Option<Description>, StoreError> {
        let data = self.lock();
        Ok(data
            .collections
            .get(self.table(collection))
            .map(|found| Description {
                layout: Layout::Native,
                key: found.kind.clone(),
                documents: Some(found.documents.len() as u64),
                bytes: Some(
                    found
                        .documents
                        .values()
                        .map(|(body, _)| body.size() as u64)
                        .sum(),
                ),
            }))
    }

    async fn ensure(&self, collection: &str, key: &KeyKind) -> Result<(), StoreError> {
        self.writable()?;
        let table = self.table(collection).to_owned();
        self.lock()
            .collections
            .entry(table)
            .or_insert_with(|| Collection {
                kind: key.clone(),
                documents: BTreeMap::new(),
            });
        Ok(())
    }

    async fn count(&self, collection: &str, range: &KeyRange) -> Result<u64, StoreError> {
        self.with(collection, |found| found.range(range).count() as u64)
    }

    async fn partitions(
        &self,
        collection: &str,
        range: &KeyRange,
        parts: u32,
    ) -> Result<Vec<KeyRange>, StoreError> {
        self.with(collection, |found| {
            let total = found.range(range).count();
            let parts = usize::try_from(parts).unwrap_or(1).clamp(1, total.max(1));
            let mut ends = (1..=parts).map(|i| i * total / parts - 1).peekable();
            let mut cut = Vec::with_capacity(parts);
            let mut after = range.after.clone();
            if total == 0 {
                return cut;
            }
            for (i, (key, _)) in found.range(range).enumerate() {
                if ends.next_if_eq(&i).is_some() {
                    cut.push(KeyRange {
                        after: after.replace(key.clone()),
                        through: Some(key.clone()),
                    });
                }
            }
            cut
        })
    }

    async fn scan(
        &self,
        collection: &str,
        range: &KeyRange,
        limit: u32,
        bytes: usize,
    ) -> Result<Page, StoreError> {
        self.with(collection, |found| {
            let mut page = Page::default();
            let mut size = 0;
            for (key, entry) in found.range(range) {
                size += entry.0.size();
                page.documents.push(document(key, entry));
                page.last = Some(key.clone());
                if page.documents.len() >= limit as usize || size >= bytes {
                    break;
                }
            }
            page
        })
    }

    async fn get(
        &self,
        collection: &str,
        keys: &[Key],
    ) -> Result<Vec<Option<Document>>, StoreError> {
        self.with(collection, |found| {
            let one = |key: &Key| found.documents.get(key).map(|entry| document(key, entry));
            keys.iter().map(one).collect()
        })
    }

    async fn held(
        &self,
        collection: &str,
        _keys: &[Key],
        bodies: Vec<Body>,
    ) -> Result<Vec<Body>, StoreError> {
        let plain = self.config(collection).is_some_and(|c| c.plain);
        let held = bodies.into_iter().map(|one| body::held(one, plain));
        Ok(held.collect())
    }

    async fn write(&self, writes: &[Write]) -> Result<Vec<WriteOutcome>, StoreError> {
        self.writable()?;
        let mut data = self.lock();
        // Nothing of the batch may be written where a collection is missing.
        if let Some(write) = writes
            .iter()
            .find(|w| !data.collections.contains_key(self.table(&w.collection)))
        {
            return Err(self.missing(&write.collection));
        }
        writes
            .iter()
            .map(|write| self.apply(&mut data, write))
            .collect()
    }

    /// A copy: documents share their bytes with the live ones.
    async fn snapshot(&self) -> Result<Option<Arc<dyn Store>>, StoreError> {
        let data = self.lock().clone();
        Ok(Some(Arc::new(Self {
            name: self.name.clone(),
            options: self.options.clone(),
            data: Arc::new(Mutex::new(data)),
            snapshot: true,
        })))
    }
}
