//! What is in the store, and since when.

use super::{no_index, terminal};
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::{Bound, Range};
use std::sync::Arc;
use whimbrel_firestore::backend::{Along, Batch, IndexId, IndexLine, IndexState, Put, Stored};
use whimbrel_firestore::{Micros, Place};
use whimbrel_model::{Code, StoreError};

/// A document's key, found by its bytes: bounds of walks need not be texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Id(Arc<str>);

impl Borrow<[u8]> for Id {
    fn borrow(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// The time of the last commit.
    pub(super) last: Micros,
    collections: BTreeMap<Arc<str>, Collection>,
    /// An index's id is its place in here.
    indexes: Vec<Index>,
    /// Every change that is not forgotten, oldest first.
    log: VecDeque<(Micros, Place)>,
    /// How many changes stood before these.
    forgotten: usize,
    /// What is only there for views that were open when it was taken out, and when that was.
    leftovers: VecDeque<(Micros, Leftover)>,
}

#[derive(Debug)]
enum Leftover {
    Document(Place),
    Line(IndexId, Vec<u8>),
}

#[derive(Debug, Default)]
struct Collection {
    /// Most are asked for by their keys: an order of many keys is slow to look one up in.
    documents: HashMap<Arc<str>, Held>,
    order: BTreeSet<Id>,
    /// What documents were, oldest first.
    past: HashMap<Arc<str>, VecDeque<Past>>,
    live: usize,
    changed: Micros,
}

#[derive(Debug)]
struct Held {
    since: Micros,
    /// `None` only for views that still see what was there.
    now: Option<Stored>,
}

#[derive(Debug)]
struct Past {
    from: Micros,
    until: Micros,
    stored: Stored,
}

#[derive(Debug)]
struct Index {
    definition: String,
    ready: bool,
    lines: BTreeMap<Vec<u8>, LineHeld>,
}

#[derive(Debug)]
struct LineHeld {
    place: Place,
    from: Micros,
    /// The greatest time there is, while it holds.
    until: Micros,
    earlier: Vec<(Micros, Micros)>,
}

impl LineHeld {
    fn holds(&self, at: Micros) -> bool {
        let within = |(from, until): (Micros, Micros)| from <= at && at < until;
        within((self.from, self.until)) || self.earlier.iter().copied().any(within)
    }
}

/// An entry of what is walked, as a view sees it.
pub(super) enum Entry<'s> {
    Line(&'s Place),
    Document(&'s Arc<str>, &'s Stored),
}

/// Each key there is in a part of an order, with the entry where the view sees one.
pub(super) type Entries<'s> = Box<dyn Iterator<Item = (&'s [u8], Option<Entry<'s>>)> + 's>;

impl Collection {
    /// The document as of a time that is not forgotten.
    fn as_of(&self, key: &str, at: Micros) -> Option<&Stored> {
        match self.documents.get(key) {
            Some(held) if held.since <= at => held.now.as_ref(),
            _ => self.earlier(key, at),
        }
    }

    fn earlier(&self, key: &str, at: Micros) -> Option<&Stored> {
        let past = self.past.get(key)?;
        let found = past.iter().rev().find(|one| one.from <= at)?;
        (at < found.until).then_some(&found.stored)
    }

    fn put(&mut self, key: &Arc<str>, at: Micros, stored: Option<Stored>, seen: bool) {
        self.changed = self.changed.max(at);
        self.live += usize::from(stored.is_some());
        let keep = stored.is_some() || seen;
        let held = Held {
            since: at,
            now: stored,
        };
        let before = if keep {
            let before = self.documents.insert(key.clone(), held);
            if before.is_none() {
                self.order.insert(Id(key.clone()));
            }
            before
        } else {
            self.remove(key)
        };
        if let Some(Held {
            since,
            now: Some(stored),
        }) = before
        {
            self.live -= 1;
            self.past.entry(key.clone()).or_default().push_back(Past {
                from: since,
                until: at,
                stored,
            });
        }
    }

    fn remove(&mut self, key: &str) -> Option<Held> {
        self.order.remove(key.as_bytes());
        self.documents.remove(key)
    }

    fn forget(&mut self, key: &str, horizon: Micros) {
        let Some(past) = self.past.get_mut(key) else {
            return;
        };
        while past.front().is_some_and(|one| one.until <= horizon) {
            past.pop_front();
        }
        if past.is_empty() {
            self.past.remove(key);
        }
    }

    fn holds_any(&self, at: Micros) -> bool {
        if self.changed <= at {
            return self.live > 0;
        }
        let mut keys = self.documents.keys();
        keys.any(|key| self.as_of(key, at).is_some())
    }
}

impl State {
    pub(super) fn now(&self, place: &Place) -> Option<&Stored> {
        let collection = self.collections.get(&place.collection)?;
        collection.documents.get(&place.key)?.now.as_ref()
    }

    pub(super) fn as_of(&self, place: &Place, at: Micros) -> Option<&Stored> {
        self.collections
            .get(&place.collection)?
            .as_of(&place.key, at)
    }

    pub(super) fn collections_as_of(&self, at: Micros) -> Vec<Arc<str>> {
        let held = self.collections.iter().filter(|(_, c)| c.holds_any(at));
        held.map(|(name, _)| name.clone()).collect()
    }

    /// Whether the batch can be applied, so that all of it is or nothing.
    pub(super) fn check(&self, batch: &Batch) -> Result<(), StoreError> {
        if batch.at <= self.last {
            return Err(terminal(
                Code::StoreFailed,
                "a commit's time is not after the last one's; nothing was written".to_owned(),
            ));
        }
        let mut lines = batch.unindex.iter().chain(&batch.index);
        match lines.find(|line| line.index.0 as usize >= self.indexes.len()) {
            Some(line) => Err(no_index(line.index)),
            None => Ok(()),
        }
    }

    /// `oldest_view`: views of times before this one are not open.
    pub(super) fn apply(&mut self, batch: Batch, oldest_view: Micros) {
        // New views begin at the last commit, so an open one sees everything that is taken out now.
        let seen = oldest_view < Micros::MAX;
        self.put(batch.documents, batch.at, seen);
        for line in batch.unindex {
            self.unindex(line, batch.at, seen);
        }
        for line in batch.index {
            self.index(line, batch.at);
        }
        self.last = batch.at;
        self.sweep(oldest_view);
    }

    fn put(&mut self, mut documents: Vec<Put>, at: Micros, seen: bool) {
        // The log is in the order of times.
        documents.sort_by_key(|put| put.at);
        for put in documents {
            let at = put.at.clamp(self.last, at);
            let place = put.place;
            if seen && put.stored.is_none() {
                let leftover = Leftover::Document(place.clone());
                self.leftovers.push_back((at, leftover));
            }
            if !self.collections.contains_key(&place.collection) {
                let name = place.collection.clone();
                self.collections.insert(name, Collection::default());
            }
            if let Some(collection) = self.collections.get_mut(&place.collection) {
                collection.put(&place.key, at, put.stored, seen);
            }
            self.log.push_back((at, place));
        }
    }

    fn unindex(&mut self, line: IndexLine, at: Micros, seen: bool) {
        let Some(index) = self.indexes.get_mut(line.index.0 as usize) else {
            return;
        };
        if !seen {
            index.lines.remove(&line.key);
            return;
        }
        if let Some(held) = index.lines.get_mut(&line.key)
            && held.until == Micros::MAX
        {
            held.until = at;
            let leftover = Leftover::Line(line.index, line.key);
            self.leftovers.push_back((at, leftover));
        }
    }

    fn index(&mut self, line: IndexLine, at: Micros) {
        let Some(index) = self.indexes.get_mut(line.index.0 as usize) else {
            return;
        };
        let new = |earlier| LineHeld {
            place: line.place,
            from: at,
            until: Micros::MAX,
            earlier,
        };
        match index.lines.get_mut(&line.key) {
            None => {
                index.lines.insert(line.key, new(Vec::new()));
            }
            Some(held) if held.until < Micros::MAX => {
                let mut earlier = std::mem::take(&mut held.earlier);
                earlier.push((held.from, held.until));
                *held = new(earlier);
            }
            Some(_) => {}
        }
    }

    /// Takes away what no open view sees any more, a little more of it than a commit leaves.
    fn sweep(&mut self, oldest_view: Micros) {
        for _ in 0..super::SLICE {
            match self.leftovers.front() {
                Some((at, _)) if *at <= oldest_view => {}
                _ => return,
            }
            match self.leftovers.pop_front() {
                Some((_, Leftover::Document(place))) => {
                    let Some(collection) = self.collections.get_mut(&place.collection) else {
                        continue;
                    };
                    if let Some(held) = collection.documents.get(&place.key)
                        && held.now.is_none()
                        && held.since <= oldest_view
                    {
                        collection.remove(&place.key);
                    }
                }
                Some((_, Leftover::Line(index, key))) => self.sweep_line(index, &key, oldest_view),
                None => return,
            }
        }
    }

    fn sweep_line(&mut self, index: IndexId, key: &[u8], oldest_view: Micros) {
        let Some(index) = self.indexes.get_mut(index.0 as usize) else {
            return;
        };
        if let Some(held) = index.lines.get_mut(key) {
            // A line that came back meanwhile holds until the greatest time there is, and so long looks an absent view.
            if held.until <= oldest_view && held.until < Micros::MAX {
                index.lines.remove(key);
            } else {
                held.earlier.retain(|(_, until)| *until > oldest_view);
            }
        }
    }

    pub(super) fn indexes(&self) -> Vec<IndexState> {
        let numbered = (0..).zip(&self.indexes);
        let state = |(id, index): (u32, &Index)| IndexState {
            id: IndexId(id),
            definition: index.definition.clone(),
            ready: index.ready,
        };
        numbered.map(state).collect()
    }

    pub(super) fn create_index(&mut self, definition: &str) -> Result<IndexState, StoreError> {
        let mut there = self.indexes().into_iter();
        if let Some(found) = there.find(|index| index.definition == definition) {
            return Ok(found);
        }
        let id = u32::try_from(self.indexes.len())
            .map_err(|_| terminal(Code::StoreFailed, "there are too many indexes".to_owned()))?;
        self.indexes.push(Index {
            definition: definition.to_owned(),
            ready: false,
            lines: BTreeMap::new(),
        });
        Ok(IndexState {
            id: IndexId(id),
            definition: definition.to_owned(),
            ready: false,
        })
    }

    pub(super) fn index_ready(&mut self, id: IndexId) -> Result<(), StoreError> {
        let index = self.indexes.get_mut(id.0 as usize);
        index.ok_or_else(|| no_index(id))?.ready = true;
        Ok(())
    }

    /// Forgets at most `limit` changes, and what was before them. Whether there may be more.
    pub(super) fn forget(&mut self, horizon: Micros, limit: usize) -> bool {
        for _ in 0..limit {
            match self.log.front() {
                Some((at, _)) if *at <= horizon => {}
                _ => return false,
            }
            let forgotten = self.log.pop_front();
            self.forgotten += 1;
            if let Some((_, place)) = forgotten
                && let Some(collection) = self.collections.get_mut(&place.collection)
            {
                collection.forget(&place.key, horizon);
            }
        }
        true
    }

    /// Where in the log the changes after a time begin. Places in it stay what they are as it is forgotten.
    pub(super) fn changes_after(&self, at: Micros) -> usize {
        self.forgotten + self.log.partition_point(|(changed, _)| *changed <= at)
    }

    /// A part of the log.
    pub(super) fn changes(&self, part: Range<usize>) -> impl Iterator<Item = &(Micros, Place)> {
        let within = |at: usize| at.saturating_sub(self.forgotten).min(self.log.len());
        let (start, end) = (within(part.start), within(part.end));
        self.log.range(start..end.max(start))
    }

    /// The entries between two keys, in either direction, as of a view's time.
    pub(super) fn entries(
        &self,
        along: &Along,
        (from, to): (Bound<&[u8]>, Bound<&[u8]>),
        descending: bool,
        at: Micros,
    ) -> Result<Entries<'_>, StoreError> {
        if is_empty(from, to) {
            return Ok(Box::new(std::iter::empty()));
        }
        match along {
            Along::Index(id) => {
                let index = self.indexes.get(id.0 as usize);
                let lines = &index.ok_or_else(|| no_index(*id))?.lines;
                let entries = lines.range::<[u8], _>((from, to)).map(move |(key, held)| {
                    let entry = held.holds(at).then_some(Entry::Line(&held.place));
                    (key.as_slice(), entry)
                });
                Ok(directed(entries, descending))
            }
            Along::Collection(name) => {
                let Some(collection) = self.collections.get(name) else {
                    return Ok(Box::new(std::iter::empty()));
                };
                let keys = collection.order.range::<[u8], _>((from, to));
                let entries = keys.map(move |Id(key)| {
                    let stored = collection.as_of(key, at);
                    let entry = stored.map(|stored| Entry::Document(key, stored));
                    (key.as_bytes(), entry)
                });
                Ok(directed(entries, descending))
            }
        }
    }
}

fn directed<'s>(
    entries: impl DoubleEndedIterator<Item = (&'s [u8], Option<Entry<'s>>)> + 's,
    descending: bool,
) -> Entries<'s> {
    if descending {
        Box::new(entries.rev())
    } else {
        Box::new(entries)
    }
}

/// Whether no key can lie between the bounds: a map's `range` takes no such ones.
fn is_empty(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (
            Bound::Included(from) | Bound::Excluded(from),
            Bound::Included(to) | Bound::Excluded(to),
        ) => from >= to,
    }
}
