//! The two ends of a comparison, and the rule between them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use whimbrel_model::finding::{Difference, Mismatch};
use whimbrel_model::rule::{FieldPath, OnError};
use whimbrel_model::{
    Body, Code, DocError, Document, Draft, Key, Store, StoreError, Timestamp, Value,
};

use super::found::Revisions;
use super::judge::Judge;
use super::sample::Sampling;
use crate::derive::{Derived, Deriver};
use crate::error::EngineError;
use crate::options::Place;
use crate::provenance::Spot;

/// Keys a read.
const KEYS: usize = 500;

pub(super) struct Ends {
    pub source: Place,
    pub target: Place,
    pub deriver: Arc<Deriver>,
    pub judge: Judge,
    /// What transforms see as now.
    pub now: Timestamp,
    /// Whether each source document yields at most the target document of the same key.
    pub in_place: bool,
    pub sampling: Option<Sampling>,
    pub since: Option<(FieldPath, Timestamp)>,
    /// Target collections, and whether they exist.
    pub known: Mutex<HashMap<String, bool>>,
}

/// What the target should hold in one place.
#[derive(Debug)]
pub(super) enum Wanted {
    Nothing,
    Body(Body),
    /// The source cannot be read, or fails in the rule.
    Failed(DocError),
}

/// One place in the target, what it should hold and what it holds.
#[derive(Debug)]
pub(super) struct Case {
    pub spot: Spot,
    pub sources: Vec<Key>,
    pub wanted: Wanted,
    pub found: Option<Document>,
    pub revisions: Revisions,
}

#[derive(Debug)]
pub(super) enum Verdict {
    Same,
    Differs(Difference),
}

/// What a second look at a difference showed.
#[derive(Debug)]
pub(super) enum Look {
    /// It is gone.
    Same,
    Differs(Difference, Revisions),
    /// The source was written meanwhile, so that the two reads do not belong together.
    Moving,
}

impl Ends {
    /// What the rule makes of a source document, for one place in the target.
    pub fn wanted(&self, derived: Derived, spot: Option<&Spot>) -> Wanted {
        match derived {
            Derived::Filtered(_) => Wanted::Nothing,
            Derived::Failed(_) if self.deriver.rule.on_error == OnError::Skip => Wanted::Nothing,
            Derived::Failed(failures) => {
                let error = failures.into_iter().next().map(|f| f.error);
                Wanted::Failed(
                    error.unwrap_or_else(|| {
                        DocError::new(Code::DocUnreadable, "it fails in the rule")
                    }),
                )
            }
            Derived::Unit(unit) => {
                let mut outputs = unit.outputs.into_iter();
                let output = match spot {
                    None => outputs.next(),
                    Some((collection, key)) => outputs.find(|o| {
                        o.key == *key
                            && o.collection.as_ref().unwrap_or(&self.target.collection)
                                == collection
                    }),
                };
                output.map_or(Wanted::Nothing, |o| Wanted::Body(o.body))
            }
        }
    }

    /// Whether the document was changed at or after the instant that was asked for.
    pub fn is_recent(&self, document: &Document) -> bool {
        let Some((path, since)) = &self.since else {
            return true;
        };
        let Ok(mut draft) = Draft::from_body(document.body.clone()) else {
            // What cannot be read is told rather than passed over.
            return true;
        };
        match path.get(&mut draft) {
            Ok(value) => value.and_then(instant).is_some_and(|at| at >= *since),
            Err(_) => true,
        }
    }

    pub fn takes(&self, key: &Key) -> bool {
        self.sampling.is_none_or(|s| s.takes(key))
    }

    /// Judges every case, in order.
    pub async fn judge(
        self: &Arc<Self>,
        cases: Vec<Case>,
    ) -> Result<Vec<(Verdict, Revisions)>, EngineError> {
        let held = self.held(&cases).await?;
        let me = Arc::clone(self);
        // Comparing is computing: it must not hold up the runtime.
        tokio::task::spawn_blocking(move || {
            let judged = cases.into_iter().zip(held).map(|(case, held)| {
                let verdict = me.verdict(&case, held.as_ref());
                (verdict, case.revisions)
            });
            judged.collect()
        })
        .await
        .map_err(|e| EngineError::Counts(format!("a comparison ended abnormally ({e})")))
    }

    /// The forms in which the target's collections would give back what is wanted.
    async fn held(&self, cases: &[Case]) -> Result<Vec<Option<Body>>, StoreError> {
        let mut held: Vec<Option<Body>> = Vec::new();
        held.resize_with(cases.len(), || None);
        let mut asked: BTreeMap<&str, Vec<(usize, &Key, &Body)>> = BTreeMap::new();
        for (i, case) in cases.iter().enumerate() {
            if let (Wanted::Body(body), Some(_)) = (&case.wanted, &case.found) {
                let of = asked.entry(&case.spot.0).or_default();
                of.push((i, &case.spot.1, body));
            }
        }
        for (collection, asked) in asked {
            let keys: Vec<Key> = asked.iter().map(|(_, key, _)| (*key).clone()).collect();
            let bodies = asked.iter().map(|(_, _, body)| (*body).clone()).collect();
            let answers = self.target.store.held(collection, &keys, bodies).await?;
            for ((i, _, _), body) in asked.into_iter().zip(answers) {
                held[i] = Some(body);
            }
        }
        Ok(held)
    }

    fn verdict(&self, case: &Case, held: Option<&Body>) -> Verdict {
        let differs = |what, paths, error: Option<DocError>| {
            Verdict::Differs(Difference {
                what,
                collection: case.spot.0.clone(),
                key: case.spot.1.clone(),
                sources: case.sources.clone(),
                paths,
                error: error.map(|e| (e.code, e.message)),
            })
        };
        let plain = |what| differs(what, Vec::new(), None);
        match (&case.wanted, &case.found) {
            (Wanted::Failed(error), _) => {
                let path = error.path.iter().cloned().collect();
                differs(Mismatch::Unreadable, path, Some(error.clone()))
            }
            (Wanted::Nothing, None) => Verdict::Same,
            (Wanted::Nothing, Some(_)) => plain(Mismatch::Extra),
            (Wanted::Body(_), None) => plain(Mismatch::Missing),
            (Wanted::Body(wanted), Some(found)) => {
                let wanted = held.unwrap_or(wanted);
                match self.judge.same(wanted, &found.body) {
                    Ok(true) => Verdict::Same,
                    Ok(false) => {
                        let paths = self.judge.paths(wanted, &found.body);
                        differs(Mismatch::Differing, paths, None)
                    }
                    Err(error) => differs(Mismatch::Unreadable, Vec::new(), Some(error)),
                }
            }
        }
    }

    /// Reads both ends of some differences again: source, target, source.
    pub async fn look(self: &Arc<Self>, open: &[Difference]) -> Result<Vec<Look>, EngineError> {
        let mut looks = Vec::with_capacity(open.len());
        for part in open.chunks(KEYS) {
            looks.extend(self.look_at(part).await?);
        }
        Ok(looks)
    }

    async fn look_at(self: &Arc<Self>, open: &[Difference]) -> Result<Vec<Look>, EngineError> {
        let sources: Vec<Vec<Key>> = open.iter().map(|d| self.sources_of(d)).collect();
        let keys: Vec<Key> = sources.iter().flatten().cloned().collect();
        let before = get(self.source.store.as_ref(), &self.source.collection, &keys).await?;
        let mut targets = self.targets(open).await?;
        let after = get(self.source.store.as_ref(), &self.source.collection, &keys).await?;
        let (mut before, mut after) = (before.into_iter(), after.into_iter());
        let mut cases = Vec::with_capacity(open.len());
        let mut still = Vec::with_capacity(open.len());
        for (i, (difference, keys)) in open.iter().zip(sources).enumerate() {
            let docs: Vec<Option<Document>> = before.by_ref().take(keys.len()).collect();
            let revisions: Vec<_> = docs.iter().map(revision).collect();
            let now: Vec<_> = after.by_ref().take(keys.len()).collect();
            still.push(revisions == now.iter().map(revision).collect::<Vec<_>>());
            let found = targets[i].take();
            let spot = (difference.collection.clone(), difference.key.clone());
            let docs: Vec<Document> = docs.into_iter().flatten().collect();
            cases.push(Case {
                revisions: Revisions {
                    sources: revisions,
                    target: found.as_ref().map(|d| d.revision.clone()),
                },
                sources: docs.iter().map(|d| d.key.clone()).collect(),
                wanted: self.derive_again(docs, &spot),
                spot,
                found,
            });
        }
        let judged = self.judge(cases).await?;
        let looks = judged.into_iter().zip(still);
        Ok(looks
            .map(|((verdict, revisions), still)| match verdict {
                _ if !still => Look::Moving,
                Verdict::Same => Look::Same,
                Verdict::Differs(difference) => Look::Differs(difference, revisions),
            })
            .collect())
    }

    /// The keys under which the source may have what the difference is about.
    pub fn sources_of(&self, difference: &Difference) -> Vec<Key> {
        if self.in_place {
            vec![difference.key.clone()]
        } else {
            difference.sources.clone()
        }
    }

    fn derive_again(&self, docs: Vec<Document>, spot: &Spot) -> Wanted {
        let Some(first) = docs.first() else {
            return Wanted::Nothing;
        };
        let derived = match &self.deriver.rule.group {
            None => self.deriver.one(first.clone(), self.now),
            Some(grouping) => {
                let value = Draft::from_body(first.body.clone())
                    .and_then(|mut draft| Ok(grouping.by.get(&mut draft)?.cloned()));
                match value {
                    Ok(Some(value)) => self.deriver.group(&value, docs, self.now),
                    Ok(None) => return Wanted::Nothing,
                    Err(error) => return Wanted::Failed(error.into()),
                }
            }
        };
        self.wanted(derived, Some(spot))
    }

    async fn targets(&self, open: &[Difference]) -> Result<Vec<Option<Document>>, EngineError> {
        let spots = open.iter().map(|d| (d.collection.as_str(), &d.key));
        self.find(&spots.collect::<Vec<_>>()).await
    }

    /// What the target has in some places, in order.
    pub async fn find(&self, spots: &[(&str, &Key)]) -> Result<Vec<Option<Document>>, EngineError> {
        let mut wanted: BTreeMap<&str, (Vec<usize>, Vec<Key>)> = BTreeMap::new();
        for (i, (collection, key)) in spots.iter().enumerate() {
            let (places, keys) = wanted.entry(collection).or_default();
            places.push(i);
            keys.push((*key).clone());
        }
        let mut found: Vec<Option<Document>> = Vec::new();
        found.resize_with(spots.len(), || None);
        for (collection, (places, keys)) in wanted {
            if !self.exists(collection).await? {
                continue;
            }
            let documents = get(self.target.store.as_ref(), collection, &keys).await?;
            for (place, document) in places.into_iter().zip(documents) {
                found[place] = document;
            }
        }
        Ok(found)
    }

    /// Whether the target has such a collection. One that is made later is seen later.
    pub async fn exists(&self, collection: &str) -> Result<bool, EngineError> {
        let known = self.known.lock().ok();
        if known.is_some_and(|k| k.get(collection).copied().unwrap_or(false)) {
            return Ok(true);
        }
        let there = self.target.store.describe(collection).await?.is_some();
        if let Ok(mut known) = self.known.lock() {
            known.insert(collection.to_owned(), there);
        }
        Ok(there)
    }
}

async fn get(
    store: &dyn Store,
    collection: &str,
    keys: &[Key],
) -> Result<Vec<Option<Document>>, StoreError> {
    let mut found = Vec::with_capacity(keys.len());
    for part in keys.chunks(KEYS) {
        found.extend(store.get(collection, part).await?);
    }
    Ok(found)
}

fn revision(document: &Option<Document>) -> Option<whimbrel_model::Revision> {
    document.as_ref().map(|d| d.revision.clone())
}

/// A field's value as an instant: a timestamp, its text, or seconds or milliseconds since 1970.
fn instant(value: &Value) -> Option<Timestamp> {
    /// Seconds beyond this are far in the future, milliseconds below it soon after 1970.
    const MILLISECONDS: i64 = 100_000_000_000;
    match value {
        Value::Timestamp(at) => Some(*at),
        Value::String(text) => {
            Timestamp::parse(text).or_else(|| Timestamp::parse(&format!("{text}Z")))
        }
        Value::Int(n) if *n < MILLISECONDS => Timestamp::new(*n, 0),
        Value::Int(n) => Some(Timestamp::from_millis(*n)),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "fractions of a millisecond"
        )]
        Value::Double(x) if x.is_finite() => {
            #[expect(clippy::cast_precision_loss, reason = "a round number")]
            let seconds = *x < MILLISECONDS as f64;
            Some(Timestamp::from_millis(
                if seconds { x * 1000.0 } else { *x } as i64,
            ))
        }
        _ => None,
    }
}
