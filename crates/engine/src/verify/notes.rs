//! Where a target document's key does not tell which source it comes from: what each end has is noted in a
//! scratch store, and the notes are gone through side by side.
//!
//! The target is noted first. A document that an app makes on both ends meanwhile is then missing for a
//! moment, which a second look mends; noted the other way round it would seem to be left over.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use whimbrel_model::finding::{Difference, Mismatch};
use whimbrel_model::rule::OnError;
use whimbrel_model::{
    Body, Code, DocError, Document, Guard, Key, KeyKind, KeyRange, Page, Store, Timestamp, Value,
    Write, WriteOutcome, order,
};

use super::ends::Ends;
use super::walk::SideBySide;
use super::work::failed;
use crate::chunk::CHUNK_BYTES;
use crate::derive::{Derived, Unit};
use crate::error::EngineError;
use crate::group::{GroupPages, derive_page};
use crate::job::{ChunkContext, Failure, Handled};
use crate::options::Place;
use crate::pages::Pages;
use crate::provenance::{PROVENANCE, Spot, read_provenance};
use crate::upgrade::reject_failure;

/// Documents a page.
const PAGE: u32 = 2000;

/// What one end has, or should have, in one place of the target.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Note {
    collection: String,
    key: Key,
    /// The fingerprint of what counts, in hex.
    #[serde(default)]
    print: Option<String>,
    #[serde(default)]
    sources: Vec<Key>,
    /// Whether it was changed since the instant that was asked for.
    pub recent: bool,
    /// It belongs to another rule.
    #[serde(default)]
    of_others: bool,
    /// Two sources want it.
    #[serde(default)]
    contested: bool,
    #[serde(default)]
    error: Option<(Code, String)>,
}

/// What the notes of one place say.
pub(super) enum Judged {
    Same,
    OfOthers,
    Differs(Difference),
    Certain(Difference),
}

/// What a collection is asked how it would hold it, and which notes that is for.
#[derive(Default)]
struct Asked {
    places: Vec<usize>,
    keys: Vec<Key>,
    bodies: Vec<Body>,
}

/// What noting saw of the source.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Noted {
    pub source_documents: u64,
    pub skipped: u64,
}

pub(super) fn read(row: &Document) -> Result<Note, EngineError> {
    serde_json::from_slice(&row.body.json()).map_err(|e| {
        EngineError::Counts(format!(
            "the scratch store gave a row that was not put there ({e})"
        ))
    })
}

pub(super) fn judge(wanted: Option<Note>, there: Option<Note>) -> Judged {
    let (what, note) = match (wanted, there) {
        (None, None) => return Judged::Same,
        (Some(wanted), _) if wanted.of_others => return Judged::OfOthers,
        (Some(wanted), _) if wanted.contested => {
            return Judged::Certain(wanted.difference(Mismatch::Unreadable));
        }
        (Some(wanted), _) if wanted.error.is_some() => (Mismatch::Unreadable, wanted),
        (Some(wanted), None) => (Mismatch::Missing, wanted),
        (None, Some(there)) => (Mismatch::Extra, there),
        (Some(wanted), Some(there)) if there.print.is_none() => {
            let error = there.error;
            (Mismatch::Unreadable, Note { error, ..wanted })
        }
        (Some(wanted), Some(there)) if wanted.print == there.print => return Judged::Same,
        (Some(wanted), Some(_)) => (Mismatch::Differing, wanted),
    };
    Judged::Differs(note.difference(what))
}

impl Note {
    fn difference(self, what: Mismatch) -> Difference {
        Difference {
            what,
            collection: self.collection,
            key: self.key,
            sources: self.sources,
            paths: Vec::new(),
            error: self.error,
        }
    }

    fn place(&self) -> Key {
        let mut place = Vec::new();
        order::encode(&Value::String(self.collection.clone()), &mut place);
        order::encode(&value_of(&self.key), &mut place);
        Key::text(place.iter().map(|b| format!("{b:02x}")).collect::<String>())
    }
}

/// Keys of different kinds stay apart.
fn value_of(key: &Key) -> Value {
    match key {
        Key::Int(n) => Value::Int(*n),
        Key::Text(text) => Value::String(text.clone()),
        Key::Uuid(uuid) => Value::Bytes(uuid.get().as_bytes().to_vec()),
        Key::Tuple(parts) => Value::Array(parts.iter().map(value_of).collect()),
    }
}

/// Applies the rule to each document of a page that is no group. Says too whether each is recent.
pub(super) async fn derive(
    ends: &Arc<Ends>,
    page: Page,
) -> Result<Vec<(bool, Derived)>, EngineError> {
    let rejects: Vec<Failure> = page.rejects.iter().map(reject_failure).collect();
    let me = Arc::clone(ends);
    let mut derived: Vec<(bool, Derived)> = tokio::task::spawn_blocking(move || {
        let one = |document: Document| {
            let recent = me.is_recent(&document);
            (recent, me.deriver.one(document, me.now))
        };
        page.documents.into_iter().map(one).collect()
    })
    .await
    .map_err(|e| EngineError::Counts(format!("a transform ended abnormally ({e})")))?;
    if !rejects.is_empty() {
        derived.push((true, Derived::Failed(rejects)));
    }
    Ok(derived)
}

/// The whole source once, through the rule.
pub(super) struct SourceWalk {
    ends: Arc<Ends>,
    scratch: Arc<dyn Store>,
    /// Where the rule groups.
    groups: Option<GroupPages>,
    range: KeyRange,
    ended: bool,
    pub documents: u64,
}

impl SourceWalk {
    pub async fn begin(ends: Arc<Ends>, scratch: Arc<dyn Store>) -> Result<Self, EngineError> {
        let groups = match &ends.deriver.rule.group {
            Some(by) => Some(GroupPages::gather(&ends.source, by, Arc::clone(&scratch)).await?),
            None => None,
        };
        Ok(Self {
            ends,
            scratch,
            groups,
            range: KeyRange::all(),
            ended: false,
            documents: 0,
        })
    }

    /// What a page of it yields, and whether each is recent; nothing at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<(bool, Derived)>>, EngineError> {
        if self.ended {
            return Ok(None);
        }
        if let Some(groups) = &self.groups {
            let page = groups.next(&self.range, PAGE).await?;
            let Some(last) = page.last.clone() else {
                return Ok(None);
            };
            let ends = &self.ends;
            let (cx, mut handled) = (looking(ends.now), Handled::default());
            let (scratch, deriver) = (self.scratch.as_ref(), &ends.deriver);
            let derived =
                derive_page(&ends.source, scratch, deriver, page, &cx, &mut handled).await?;
            self.documents += handled.counts.enumerated;
            self.range.after = handled.through.or(Some(last));
            // A group counts as a whole, so that each of its documents does.
            return Ok(Some(derived.into_iter().map(|d| (true, d)).collect()));
        }
        let page = scan(&self.ends.source, &self.range).await?;
        match page.last.clone() {
            Some(last) => self.range.after = Some(last),
            None => self.ended = true,
        }
        self.documents += (page.documents.len() + page.rejects.len()) as u64;
        derive(&self.ends, page).await.map(Some)
    }
}

/// Notes both ends in a scratch store.
pub(super) struct Notes {
    ends: Arc<Ends>,
    scratch: Arc<dyn Store>,
    wanted: String,
    there: String,
    /// Collections of the target that were noted.
    seen: BTreeSet<String>,
    noted: Noted,
}

impl Notes {
    pub async fn gather(
        ends: Arc<Ends>,
        scratch: Arc<dyn Store>,
    ) -> Result<(SideBySide, Noted), EngineError> {
        // The same scratch store may serve several comparisons.
        static COMPARISON: AtomicU64 = AtomicU64::new(0);
        let number = COMPARISON.fetch_add(1, Ordering::Relaxed);
        let mut notes = Self {
            ends,
            wanted: format!("wanted{number}"),
            there: format!("there{number}"),
            scratch,
            seen: BTreeSet::new(),
            noted: Noted::default(),
        };
        notes.scratch.ensure(&notes.wanted, &KeyKind::Text).await?;
        notes.scratch.ensure(&notes.there, &KeyKind::Text).await?;
        let mut collections = notes.note_provenance().await?;
        collections.insert(notes.ends.target.collection.clone());
        for collection in collections {
            notes.note_target(&collection).await?;
        }
        let named = notes.note_source().await?;
        for collection in named {
            notes.note_target(&collection).await?;
        }
        let place = |collection: &str| Place {
            store: Arc::clone(&notes.scratch),
            store_name: "scratch".to_owned(),
            collection: collection.to_owned(),
        };
        let both = SideBySide {
            sorted: true,
            source: place(&notes.wanted),
            target: Some(place(&notes.there)),
        };
        Ok((both, notes.noted))
    }

    /// What the target's record says: which collections this rule wrote to, and which documents other rules
    /// did.
    async fn note_provenance(&mut self) -> Result<BTreeSet<String>, EngineError> {
        let mut own = BTreeSet::new();
        if !self.ends.exists(PROVENANCE).await? {
            return Ok(own);
        }
        let origin = self.ends.deriver.origin.prefix();
        let place = Place {
            collection: PROVENANCE.to_owned(),
            ..self.ends.target.clone()
        };
        let mut range = KeyRange::all();
        loop {
            let page = scan(&place, &range).await?;
            let mut others = Vec::new();
            for record in &page.documents {
                let spots = read_provenance(&record.body).unwrap_or_default();
                if record.key.to_string().starts_with(&origin) {
                    own.extend(spots.into_iter().map(|(collection, _)| collection));
                } else {
                    others.extend(spots.into_iter().map(of_others));
                }
            }
            self.put(&self.wanted, others, Guard::Any).await?;
            match page.last {
                Some(last) => range.after = Some(last),
                None => return Ok(own),
            }
        }
    }

    async fn note_target(&mut self, collection: &str) -> Result<(), EngineError> {
        if !self.seen.insert(collection.to_owned()) || !self.ends.exists(collection).await? {
            return Ok(());
        }
        let place = Place {
            collection: collection.to_owned(),
            ..self.ends.target.clone()
        };
        let mut range = KeyRange::all();
        loop {
            let page = scan(&place, &range).await?;
            let last = page.last.clone();
            let (ends, name) = (Arc::clone(&self.ends), collection.to_owned());
            let notes = tokio::task::spawn_blocking(move || found_notes(&ends, &name, page))
                .await
                .map_err(|e| EngineError::Counts(format!("a comparison ended abnormally ({e})")))?;
            self.put(&self.there, notes, Guard::Any).await?;
            match last {
                Some(last) => range.after = Some(last),
                None => return Ok(()),
            }
        }
    }

    /// Returns the target collections that the source's documents name.
    async fn note_source(&mut self) -> Result<BTreeSet<String>, EngineError> {
        let mut named = BTreeSet::new();
        let mut walk = SourceWalk::begin(Arc::clone(&self.ends), Arc::clone(&self.scratch)).await?;
        while let Some(derived) = walk.next().await? {
            named.extend(self.note_derived(derived).await?);
        }
        self.noted.source_documents = walk.documents;
        Ok(named)
    }

    async fn note_derived(
        &mut self,
        derived: Vec<(bool, Derived)>,
    ) -> Result<BTreeSet<String>, EngineError> {
        let mut failures = Vec::new();
        let mut units = Vec::new();
        for (recent, one) in derived {
            match one {
                Derived::Filtered(keys) => self.noted.skipped += keys.len() as u64,
                Derived::Failed(failed) if self.ends.deriver.rule.on_error == OnError::Skip => {
                    self.noted.skipped += failed.len() as u64;
                }
                Derived::Failed(failed) => {
                    failures.extend(failed.iter().map(|f| failure_note(&self.ends, f)));
                }
                Derived::Unit(unit) => units.push((recent, unit)),
            }
        }
        self.leave_alone(&failures).await?;
        let mut notes = failures;
        notes.extend(self.wanted_notes(units).await?);
        let named = notes.iter().map(|n| n.collection.clone()).collect();
        self.put_wanted(notes).await?;
        Ok(named)
    }

    /// What sources that fail now yielded before is not left over: nobody can say what it should be.
    async fn leave_alone(&self, failures: &[Note]) -> Result<(), EngineError> {
        let name = |key: &Key| Key::text(self.ends.deriver.origin.of(&key.to_string()));
        let names: Vec<Key> = failures.iter().flat_map(|f| &f.sources).map(name).collect();
        let spots: Vec<(&str, &Key)> = names.iter().map(|name| (PROVENANCE, name)).collect();
        let mut former = Vec::new();
        for record in self.ends.find(&spots).await?.into_iter().flatten() {
            let spots = read_provenance(&record.body).unwrap_or_default();
            former.extend(spots.into_iter().map(of_others));
        }
        self.put(&self.wanted, former, Guard::Absent).await?;
        Ok(())
    }

    async fn wanted_notes(&self, units: Vec<(bool, Unit)>) -> Result<Vec<Note>, EngineError> {
        let ends = &self.ends;
        let mut asked: HashMap<String, Asked> = HashMap::new();
        let mut notes = Vec::new();
        for (recent, unit) in units {
            for output in unit.outputs {
                let collection = output
                    .collection
                    .unwrap_or_else(|| ends.target.collection.clone());
                if !ends.takes(&output.key) {
                    continue;
                }
                let of = asked.entry(collection.clone()).or_default();
                of.places.push(notes.len());
                of.keys.push(output.key.clone());
                of.bodies.push(output.body);
                notes.push(Note {
                    sources: unit.sources.clone(),
                    recent,
                    ..blank((collection, output.key))
                });
            }
        }
        for (collection, asked) in asked {
            let Asked {
                places,
                keys,
                bodies,
            } = asked;
            let held = if ends.exists(&collection).await? {
                ends.target.store.held(&collection, &keys, bodies).await?
            } else {
                bodies
            };
            for (place, body) in places.into_iter().zip(held) {
                match ends.judge.print(&body) {
                    Ok(print) => notes[place].print = Some(format!("{print:?}")),
                    Err(error) => notes[place].error = Some((error.code, error.message)),
                }
            }
        }
        Ok(notes)
    }

    /// A place that two sources want is an error of both.
    async fn put_wanted(&self, notes: Vec<Note>) -> Result<(), EngineError> {
        let mut first: HashMap<Key, Note> = HashMap::with_capacity(notes.len());
        let mut contested = Vec::new();
        for note in notes {
            match first.entry(note.place()) {
                std::collections::hash_map::Entry::Vacant(free) => drop(free.insert(note)),
                std::collections::hash_map::Entry::Occupied(taken) => {
                    contested.push(contest(taken.get(), &note));
                }
            }
        }
        let lost = self
            .put(&self.wanted, first.into_values().collect(), Guard::Absent)
            .await?;
        let taken = self.scratch.get(&self.wanted, &places_of(&lost)).await?;
        let mut again = Vec::new();
        for (note, row) in lost.into_iter().zip(taken) {
            match row.map(|row| read(&row)).transpose()? {
                Some(other) if !other.of_others => again.push(contest(&other, &note)),
                _ => again.push(note),
            }
        }
        again.extend(contested);
        for note in again {
            self.put(&self.wanted, vec![note], Guard::Any).await?;
        }
        Ok(())
    }

    /// Returns those whose place was taken.
    async fn put(
        &self,
        collection: &str,
        notes: Vec<Note>,
        guard: Guard,
    ) -> Result<Vec<Note>, EngineError> {
        let mut lost = Vec::new();
        // Under `Any` the last one counts.
        let mut by_place: HashMap<Key, Note> = HashMap::with_capacity(notes.len());
        by_place.extend(notes.into_iter().map(|note| (note.place(), note)));
        let notes: Vec<(Key, Note)> = by_place.into_iter().collect();
        for part in notes.chunks(self.scratch.limits().batch_writes.max(1) as usize) {
            let writes = part
                .iter()
                .map(|(place, note)| {
                    Ok(Write {
                        collection: collection.to_owned(),
                        key: place.clone(),
                        to: Some(Body::from_json(serde_json::to_vec(note)?)),
                        guard: guard.clone(),
                    })
                })
                .collect::<Result<Vec<_>, serde_json::Error>>()
                .map_err(|e| EngineError::Counts(format!("a note cannot be written ({e})")))?;
            for ((_, note), outcome) in part.iter().zip(self.scratch.write(&writes).await?) {
                match outcome {
                    WriteOutcome::Applied => {}
                    WriteOutcome::Lost => lost.push(note.clone()),
                    WriteOutcome::Refused(_) => {
                        return Err(EngineError::Counts(
                            "the scratch store did not take a note".to_owned(),
                        ));
                    }
                }
            }
        }
        Ok(lost)
    }
}

async fn scan(place: &Place, range: &KeyRange) -> Result<Page, EngineError> {
    Ok(place
        .store
        .scan(&place.collection, range, PAGE, CHUNK_BYTES)
        .await?)
}

fn looking(now: Timestamp) -> ChunkContext {
    ChunkContext {
        run: "verify".to_owned(),
        fence: 0,
        now,
        again: false,
        behind: false,
        waiting: false,
    }
}

fn blank((collection, key): Spot) -> Note {
    Note {
        collection,
        key,
        print: None,
        sources: Vec::new(),
        recent: true,
        of_others: false,
        contested: false,
        error: None,
    }
}

fn of_others(spot: Spot) -> Note {
    Note {
        of_others: true,
        ..blank(spot)
    }
}

fn places_of(notes: &[Note]) -> Vec<Key> {
    notes.iter().map(Note::place).collect()
}

fn contest(one: &Note, other: &Note) -> Note {
    let mut sources = one.sources.clone();
    sources.extend(other.sources.iter().cloned());
    let error = DocError::new(
        Code::DocKey,
        "more than one source document yields this target document",
    );
    Note {
        sources,
        contested: true,
        error: Some((error.code, error.message)),
        ..blank((one.collection.clone(), one.key.clone()))
    }
}

fn failure_note(ends: &Ends, failure: &Failure) -> Note {
    let difference = failed(&ends.target.collection, failure);
    Note {
        sources: difference.sources,
        error: difference.error,
        ..blank((difference.collection, difference.key))
    }
}

fn found_notes(ends: &Ends, collection: &str, page: Page) -> Vec<Note> {
    let spot = |key: Key| (collection.to_owned(), key);
    let mut notes = Vec::with_capacity(page.documents.len());
    for document in page.documents {
        if !ends.takes(&document.key) {
            continue;
        }
        let recent = ends.is_recent(&document);
        let (print, error) = match ends.judge.print(&document.body) {
            Ok(print) => (Some(format!("{print:?}")), None),
            Err(error) => (None, Some((error.code, error.message))),
        };
        notes.push(Note {
            print,
            error,
            recent,
            ..blank(spot(document.key))
        });
    }
    for reject in page.rejects {
        let key = reject.key.unwrap_or_else(|| Key::text(reject.label));
        notes.push(Note {
            error: Some((Code::DocUnreadable, reject.reason)),
            ..blank(spot(key))
        });
    }
    notes
}
