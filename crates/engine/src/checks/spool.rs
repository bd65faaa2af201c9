//! Rows in order, at any number of them: in memory while they are few, else in the scratch store.

use std::collections::{BTreeMap, VecDeque};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use whimbrel_model::{
    Body, Guard, Key, KeyKind, KeyRange, Map, Store, Value, Write, WriteOutcome, order,
};

use super::findings::Impossible;
use crate::chunk::CHUNK_BYTES;
use crate::pages::batches;

/// Longer encodings are cut and told apart by their hash.
const PLACE_BYTES: usize = 512;
const KEPT_BYTES: usize = 64;
/// Rows by place; those of one place are joined while they are in memory, and come one after the other from
/// the scratch store.
pub(super) struct Spool<T> {
    scratch: Arc<dyn Store>,
    collection: String,
    /// What is held in memory before it is laid aside.
    most: Room,
    held: Mutex<Held<T>>,
    flushed: AtomicU32,
    flushing: tokio::sync::Mutex<()>,
}

/// How much memory a spool may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub bytes: usize,
    /// What one row takes besides its place, about.
    pub row_bytes: usize,
}

struct Held<T> {
    rows: BTreeMap<Vec<u8>, T>,
    bytes: usize,
}

impl<T> Held<T> {
    fn take(&mut self) -> BTreeMap<Vec<u8>, T> {
        self.bytes = 0;
        std::mem::take(&mut self.rows)
    }
}

impl<T: Clone + Serialize + DeserializeOwned + Send> Spool<T> {
    /// `collection` is the spool's own in the scratch store.
    pub(super) fn new(scratch: Arc<dyn Store>, collection: String, most: Room) -> Self {
        Self {
            scratch,
            collection,
            most,
            held: Mutex::new(Held {
                rows: BTreeMap::new(),
                bytes: 0,
            }),
            flushed: AtomicU32::new(0),
            flushing: tokio::sync::Mutex::new(()),
        }
    }

    /// Adds a row, joining it with the one that memory has at this place.
    pub(super) fn add(&self, place: Vec<u8>, row: T, join: impl FnOnce(&mut T, T)) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = place.len() + self.most.row_bytes;
        match held.rows.get_mut(&place) {
            Some(there) => join(there, row),
            None => {
                held.rows.insert(place, row);
                held.bytes += bytes;
            }
        }
    }

    /// Makes room in memory where it is used up. To be called after each page.
    pub(super) async fn relieve(&self) -> Result<(), Impossible> {
        // One at a time: those who find memory full meanwhile wait, so that it cannot grow past them.
        let _turn = self.flushing.lock().await;
        let rows = {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            if held.bytes <= self.most.bytes {
                return Ok(());
            }
            held.take()
        };
        self.flush(rows).await
    }

    async fn flush(&self, rows: BTreeMap<Vec<u8>, T>) -> Result<(), Impossible> {
        let number = self.flushed.fetch_add(1, Ordering::SeqCst);
        if number == 0 {
            self.scratch
                .ensure(&self.collection, &KeyKind::Text)
                .await?;
        }
        let mut writes = Vec::with_capacity(rows.len());
        for (place, row) in rows {
            let row = serde_json::to_string(&row)
                .map_err(|error| Impossible::new(format!("a row cannot be laid aside: {error}")))?;
            let body = Map::from_iter([("r".to_owned(), Value::String(row))]);
            writes.push(Write {
                collection: self.collection.clone(),
                // A point sorts before every hex digit, so the order of places is kept.
                key: Key::text(format!("{}.{number:08x}", hex(&place))),
                to: Some(Body::Map(body)),
                guard: Guard::Any,
            });
        }
        let size = |write: &Write| {
            let body = write.to.as_ref().map_or(0, Body::size);
            (1, body + write.key.size())
        };
        for batch in batches(writes, self.scratch.as_ref(), size) {
            let outcomes = self.scratch.write(&batch).await?;
            if outcomes.iter().any(|o| *o != WriteOutcome::Applied) {
                return Err(Impossible::new("the scratch store did not take a row"));
            }
        }
        Ok(())
    }

    /// All rows by place, as often as it is asked for. What was never laid aside comes from memory.
    pub(super) async fn sorted(&self) -> Result<Sorted<T>, Impossible> {
        if self.flushed.load(Ordering::SeqCst) == 0 {
            let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            let rows = held
                .rows
                .iter()
                .map(|(place, row)| (place.clone(), row.clone()));
            return Ok(self.reader(rows.collect(), false));
        }
        let rows = {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.take()
        };
        if !rows.is_empty() {
            self.flush(rows).await?;
        }
        Ok(self.reader(VecDeque::new(), true))
    }

    fn reader(&self, ready: VecDeque<(Vec<u8>, T)>, aside: bool) -> Sorted<T> {
        Sorted {
            scratch: aside.then(|| Arc::clone(&self.scratch)),
            collection: self.collection.clone(),
            after: None,
            ready,
            row: PhantomData,
        }
    }
}

/// Rows in the order of their places.
pub(super) struct Sorted<T> {
    /// `None`: what is ready is all.
    scratch: Option<Arc<dyn Store>>,
    collection: String,
    after: Option<Key>,
    ready: VecDeque<(Vec<u8>, T)>,
    row: PhantomData<T>,
}

impl<T: DeserializeOwned> Sorted<T> {
    pub(super) async fn next(&mut self) -> Result<Option<(Vec<u8>, T)>, Impossible> {
        if self.ready.is_empty()
            && let Some(scratch) = &self.scratch
        {
            let range = KeyRange {
                after: self.after.clone(),
                through: None,
            };
            let page = scratch
                .scan(&self.collection, &range, 2000, CHUNK_BYTES)
                .await?;
            match page.last {
                Some(last) => self.after = Some(last),
                None => self.scratch = None,
            }
            for doc in page.documents {
                let damaged = || Impossible::new("the scratch store gave back a damaged row");
                let Key::Text(key) = &doc.key else {
                    return Err(damaged());
                };
                let place = key.split_once('.').and_then(|(place, _)| unhex(place));
                let map = doc.body.map().map_err(|_| damaged())?;
                let row = match map.get("r") {
                    Some(Value::String(text)) => serde_json::from_str(text).ok(),
                    _ => None,
                };
                let (Some(place), Some(row)) = (place, row) else {
                    return Err(damaged());
                };
                self.ready.push_back((place, row));
            }
        }
        Ok(self.ready.pop_front())
    }
}

/// Bytes that tell values apart and sort as they do. A whole double is the integer, a reference its path:
/// stores differ in what they make of these.
pub(super) fn place_of(value: &Value, out: &mut Vec<u8>) {
    let mut bytes = Vec::new();
    match value {
        Value::Double(x) => match whole(*x) {
            Some(n) => order::encode(&Value::Int(n), &mut bytes),
            None => order::encode(value, &mut bytes),
        },
        Value::Reference(path) => order::encode(&Value::String(path.clone()), &mut bytes),
        other => order::encode(other, &mut bytes),
    }
    if bytes.len() > PLACE_BYTES {
        let hash = blake3::hash(&bytes);
        bytes.truncate(KEPT_BYTES);
        bytes.extend_from_slice(hash.as_bytes());
    }
    out.extend_from_slice(&bytes);
}

/// The integer that the double is.
#[allow(clippy::cast_possible_truncation)]
pub(super) fn whole(x: f64) -> Option<i64> {
    (x.fract() == 0.0 && x.abs() < 9_007_199_254_740_992.0).then_some(x as i64)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| (b as char).to_digit(16).and_then(|d| u8::try_from(d).ok());
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [a, b] => Some(digit(*a)? << 4 | digit(*b)?),
            _ => None,
        })
        .collect()
}
