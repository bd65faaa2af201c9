//! Values that must be keys, or values of a field, in another collection.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use whimbrel_model::check::ReferenceCheck;
use whimbrel_model::{Document, Draft, Key, KeyKind, Timestamp, Value};

use super::findings::{Findings, Impossible, Wrong, shown};
use super::runner::{Chosen, Doc, Measured, Runner, Side};
use super::spool::{Spool, place_of, whole};
use super::unique::key_place;
use crate::options::Place;
use crate::patience::retry_store;

/// Keys looked up at a time: the store gives back whole documents.
const LOOKED_UP: usize = 200;
/// Keys that are known to exist: documents that refer to the same ones lie together. Forgotten as a whole when
/// there are more.
const KNOWN: usize = 20_000;

/// Where a document refers to.
struct Referring {
    path: String,
    detail: String,
    /// `None`: the value cannot be a key there.
    to: Option<Key>,
}

/// References to keys, looked up page by page.
pub(super) struct ByKey {
    pub check: ReferenceCheck,
    pub own: Place,
    pub to: Place,
    pub patience: Duration,
    pub kind: OnceCell<KeyKind>,
    pub known: Mutex<HashSet<Key>>,
}

#[async_trait]
impl Runner for ByKey {
    fn sides(&self) -> &[Side] {
        &[Side::Own]
    }

    async fn take(
        &self,
        _side: Side,
        docs: &mut Chosen<'_>,
        findings: &mut Findings,
    ) -> Result<(), Impossible> {
        let place = (&self.to, self.patience);
        let kind = self.kind.get_or_try_init(|| async move {
            let (place, patience) = place;
            Ok::<_, Impossible>(place.must_exist(patience).await?.0)
        });
        let kind = kind.await?;
        let mut all = Vec::with_capacity(docs.len());
        for nth in 0..docs.len() {
            let Some(doc) = docs.get(nth) else { break };
            match self.referring(doc, kind) {
                Ok(found) => all.push((doc.key.clone(), found)),
                Err(wrong) => findings.document(Some(&doc.key), None, vec![wrong]),
            }
        }
        let lost = self.lost(all).await?;
        // Both documents may have been written between the two reads. What is lost is looked at once more.
        for (key, wrongs) in self.lost(self.again(lost, kind).await?).await? {
            let message = |to: &Option<Key>| match to {
                Some(_) => format!("refers to no document of {}", self.to),
                None => format!("cannot be a key of {}", self.to),
            };
            let wrongs = wrongs.into_iter().map(|wrong| Wrong {
                message: message(&wrong.to),
                path: Some(wrong.path),
                detail: Some(wrong.detail),
            });
            findings.document(Some(&key), None, wrongs.collect());
        }
        Ok(())
    }

    async fn finish(&self, _findings: &mut Findings) -> Result<Measured, Impossible> {
        self.to.must_exist(self.patience).await?;
        Ok(Measured::new())
    }
}

type Lost = Vec<(Key, Vec<Referring>)>;

impl ByKey {
    fn referring(&self, doc: &mut Doc, kind: &KeyKind) -> Result<Vec<Referring>, Wrong> {
        let field = &self.check.field;
        let tuple = matches!(kind, KeyKind::Tuple(_));
        let value = doc.field(field)?;
        let values = elements(value, &field.to_string(), tuple);
        let values = values.into_iter().map(|(path, value)| Referring {
            path,
            detail: shown(value),
            to: key_of(value, kind),
        });
        Ok(values.collect())
    }

    /// Those that refer to nothing, with where.
    async fn lost(&self, all: Lost) -> Result<Lost, Impossible> {
        let keys: HashSet<&Key> = all
            .iter()
            .flat_map(|(_, to)| to)
            .filter_map(|r| r.to.as_ref())
            .collect();
        let unknown: Vec<Key> = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            keys.into_iter()
                .filter(|key| !known.contains(*key))
                .cloned()
                .collect()
        };
        let mut missing = HashSet::new();
        for part in unknown.chunks(LOOKED_UP) {
            let found = retry_store(self.patience, || {
                self.to.store.get(&self.to.collection, part)
            })
            .await?;
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() > KNOWN {
                known.clear();
            }
            for (key, found) in part.iter().zip(found) {
                if found.is_some() {
                    known.insert(key.clone());
                } else {
                    missing.insert(key.clone());
                }
            }
        }
        let is_lost = |r: &Referring| r.to.as_ref().is_none_or(|key| missing.contains(key));
        let lost = all.into_iter().filter_map(|(key, mut to)| {
            to.retain(is_lost);
            (!to.is_empty()).then_some((key, to))
        });
        Ok(lost.collect())
    }

    /// Reads the documents again; those that are gone are left out.
    async fn again(&self, lost: Lost, kind: &KeyKind) -> Result<Lost, Impossible> {
        let keys: Vec<Key> = lost.into_iter().map(|(key, _)| key).collect();
        let mut all = Vec::new();
        for part in keys.chunks(LOOKED_UP) {
            let docs = retry_store(self.patience, || {
                self.own.store.get(&self.own.collection, part)
            })
            .await?;
            for Document { key, body, .. } in docs.into_iter().flatten() {
                // What cannot be read now could a moment ago: the next verification sees it.
                if let Ok(draft) = Draft::from_body(body) {
                    let mut doc = Doc { key, draft };
                    if let Ok(found) = self.referring(&mut doc, kind) {
                        all.push((doc.key, found));
                    }
                }
            }
        }
        Ok(all)
    }
}

/// References to a field's values: both collections are walked through, and their values meet in order.
pub(super) struct ByField {
    pub check: ReferenceCheck,
    pub to: Place,
    pub spool: Spool<Meeting>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Meeting {
    /// `None`: the value is there to be referred to.
    from: Option<Key>,
    shared: usize,
    path: String,
    detail: String,
}

#[async_trait]
impl Runner for ByField {
    fn sides(&self) -> &[Side] {
        &[Side::Own, Side::Other]
    }

    fn look(
        &self,
        side: Side,
        docs: &mut Chosen<'_>,
        _fetched: Vec<Option<Document>>,
        _now: Timestamp,
        findings: &mut Findings,
    ) {
        let values = findings.shows_values();
        let field = match side {
            Side::Own => &self.check.field,
            Side::Other => self.check.to_field.as_ref().unwrap_or(&self.check.field),
        };
        docs.each(findings, |doc| {
            let key = doc.key.clone();
            let value = match doc.field(field) {
                Ok(value) => value,
                Err(wrong) => return vec![wrong],
            };
            for (path, value) in elements(value, &field.to_string(), false) {
                let mut place = Vec::new();
                place_of(value, &mut place);
                let shared = place.len();
                let mut meeting = Meeting {
                    from: None,
                    shared,
                    path,
                    detail: String::new(),
                };
                // What may be referred to comes before those that refer to it.
                match side {
                    Side::Other => place.push(0),
                    Side::Own => {
                        place.push(1);
                        key_place(&key, &mut place);
                        place.extend_from_slice(meeting.path.as_bytes());
                        meeting.from = Some(key.clone());
                        if values {
                            meeting.detail = shown(value);
                        }
                    }
                }
                self.spool.add(place, meeting, |_, _| {});
            }
            Vec::new()
        });
    }

    async fn take(
        &self,
        _side: Side,
        _docs: &mut Chosen<'_>,
        _findings: &mut Findings,
    ) -> Result<(), Impossible> {
        self.spool.relieve().await
    }

    async fn finish(&self, findings: &mut Findings) -> Result<Measured, Impossible> {
        let mut rows = self.spool.sorted().await?;
        let mut there: Option<Vec<u8>> = None;
        while let Some((mut place, meeting)) = rows.next().await? {
            place.truncate(meeting.shared);
            match meeting.from {
                None => there = Some(place),
                Some(_) if there.as_ref() == Some(&place) => {}
                Some(key) => {
                    let to = self.check.to_field.as_ref().map(ToString::to_string);
                    let message = format!(
                        "no document of {} has it in {}",
                        self.to,
                        to.unwrap_or_default()
                    );
                    let wrong = Wrong::at(&meeting.path, message);
                    let detail = Some(meeting.detail).filter(|d| !d.is_empty());
                    findings.document(Some(&key), None, vec![Wrong { detail, ..wrong }]);
                }
            }
        }
        Ok(Measured::new())
    }
}

/// What a field refers with: itself, or each element of an array. Null and a missing field refer to nothing.
fn elements<'v>(value: Option<&'v Value>, path: &str, whole: bool) -> Vec<(String, &'v Value)> {
    match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) if !whole => {
            let items = items.iter().enumerate();
            let items = items.filter(|(_, item)| !matches!(item, Value::Null));
            items
                .map(|(at, item)| (format!("{path}[{at}]"), item))
                .collect()
        }
        Some(value) => vec![(path.to_owned(), value)],
    }
}

/// The key that a value is, in a collection with keys of this kind.
fn key_of(value: &Value, kind: &KeyKind) -> Option<Key> {
    match (value, kind) {
        (Value::Int(n), KeyKind::Int) => Some(Key::Int(*n)),
        (Value::Double(x), KeyKind::Int) => whole(*x).map(Key::Int),
        (Value::String(text), KeyKind::Text) => Some(Key::text(text)),
        (Value::String(text), KeyKind::Uuid) => Key::parse(text, kind),
        // A reference is a path, whose last part is the document.
        (Value::Reference(path), KeyKind::Text | KeyKind::Uuid) => {
            let last = path.rsplit('/').next().unwrap_or(path);
            Key::parse(last, kind)
        }
        (Value::Array(items), KeyKind::Tuple(kinds)) if items.len() == kinds.len() => {
            let parts = items
                .iter()
                .zip(kinds)
                .map(|(item, kind)| key_of(item, kind));
            parts.collect::<Option<_>>().map(Key::Tuple)
        }
        _ => None,
    }
}
