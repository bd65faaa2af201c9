//! Tells listeners what was committed, in the order of commits, after it is durable.
//!
//! A listener names the topics it follows (a document, the documents right below a parent, a collection group, or
//! everything), so a commit costs it nothing unless it touches one of them. What was committed lies once in a
//! bounded log that all listeners share; a listener has a bounded list of the changes in it that are for it. One
//! that does not keep up loses its place and is told so: it reads its targets anew.

use crate::clock::Clock;
use crate::names;
use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use whimbrel_firestore::backend::{Change, Stored};
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_firestore::{Fields, Micros, Place, v1};

/// What one commit (or one group of them) changed. Changes of others (SQL) come in commits of their own.
#[derive(Debug)]
pub struct Commit {
    pub at: Micros,
    pub changes: Vec<Change>,
    /// Whether others made them. Then `before` may be older than what a listener read already, and a change
    /// may be told that it knows.
    pub foreign: bool,
}

/// Bounds of the log. A listener behind it has to read its targets anew.
const LOG_COMMITS: usize = 8192;
const LOG_BYTES: usize = 32 << 20;

/// How many changes may wait for one listener.
const HITS: usize = 4096;

/// What a listener follows: a hash, so that looking one up copies no names. Where two happen to be the same, a
/// listener hears of a change that is not for it; it checks each anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(u64);

impl Topic {
    fn new(kind: u8, parts: [&str; 2]) -> Self {
        let mut hasher = DefaultHasher::new();
        (kind, parts).hash(&mut hasher);
        Self(hasher.finish())
    }

    #[must_use]
    pub fn document(place: &Place) -> Self {
        Self::new(0, [&place.collection, &place.key])
    }

    /// The documents of a collection whose keys are `keys` (empty, or ending with `/`) and one more id.
    #[must_use]
    pub fn children(collection: &str, keys: &str) -> Self {
        Self::new(1, [collection, keys])
    }

    /// The documents of every collection with this id, in every database.
    #[must_use]
    pub fn group(id: &str) -> Self {
        Self::new(2, [id, ""])
    }

    #[must_use]
    pub fn everything() -> Self {
        Self::new(3, ["", ""])
    }

    /// Every topic that a document belongs to.
    #[must_use]
    pub fn of(place: &Place) -> [Self; 4] {
        let keys = place.key.len() - place.id().len();
        [
            Self::document(place),
            Self::children(&place.collection, place.key.get(..keys).unwrap_or("")),
            Self::group(names::id_of(&place.collection)),
            Self::everything(),
        ]
    }
}

#[derive(Debug)]
pub struct Feed {
    shared: Arc<Shared>,
    /// The time that the store's life began at, where it began empty: no listener knows anything of it from before.
    born: Micros,
    /// Whether somebody looks, for the listeners, for what others wrote in SQL.
    looked: AtomicBool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    ears: AtomicUsize,
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    log: VecDeque<Entry>,
    /// The number of the log's first entry: entries are counted from the beginning.
    first: u64,
    bytes: usize,
    topics: HashMap<Topic, Vec<u64>>,
    ears: HashMap<u64, Seat>,
}

#[derive(Debug)]
struct Entry {
    commit: Arc<Commit>,
    bytes: usize,
}

/// A listener's place.
#[derive(Debug, Default)]
struct Seat {
    topics: HashSet<Topic>,
    /// Numbers of log entries, and of changes in them.
    hits: Vec<(u64, u32)>,
    behind: bool,
    wake: Arc<Notify>,
}

impl Feed {
    /// The feed of a store whose last commit was then (0 where there was none).
    #[must_use]
    pub fn new(last_commit: Micros) -> Self {
        Self {
            born: if last_commit == 0 { Clock::now() } else { 0 },
            shared: Arc::new(Shared {
                state: Mutex::default(),
                ears: AtomicUsize::new(0),
                next: AtomicU64::new(0),
            }),
            looked: AtomicBool::new(false),
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feed {
    /// Whether anybody listens: without listeners, what a commit changed need not be kept.
    #[must_use]
    pub fn heard(&self) -> bool {
        self.shared.ears.load(Ordering::SeqCst) > 0
    }

    /// Tells of a durable commit. To be called in the order of commits; each ends here or in [`Feed::pass`].
    pub fn tell(&self, commit: Commit) {
        if self.heard() {
            self.shared.state().tell(commit);
        }
    }

    /// Tells of a durable commit whose changes were not kept, because nobody listened when it was decided. Who
    /// listens by now has missed it, and is told so.
    pub fn pass(&self) {
        if self.heard() {
            for ear in self.shared.state().ears.values_mut() {
                ear.lose();
            }
        }
    }

    /// A time before this is of another store.
    #[must_use]
    pub fn born(&self) -> Micros {
        self.born
    }

    /// Begins to listen, to nothing yet.
    #[must_use]
    pub fn listen(&self) -> Ear {
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let wake = Arc::new(Notify::new());
        let seat = Seat {
            wake: wake.clone(),
            ..Seat::default()
        };
        self.shared.state().ears.insert(id, seat);
        self.shared.ears.fetch_add(1, Ordering::SeqCst);
        Ear {
            shared: self.shared.clone(),
            id,
            wake,
        }
    }

    /// Whether the caller is the one who shall look for what others wrote, until [`Feed::look_no_more`].
    pub(crate) fn look(&self) -> bool {
        !self.looked.swap(true, Ordering::SeqCst)
    }

    pub(crate) fn look_no_more(&self) {
        self.looked.store(false, Ordering::SeqCst);
    }
}

impl Seat {
    /// It has to read anew: what waits for it is of no use any more.
    fn lose(&mut self) {
        self.behind = true;
        self.hits = Vec::new();
        self.wake.notify_one();
    }
}

impl State {
    fn tell(&mut self, commit: Commit) {
        let Self { topics, ears, .. } = self;
        let number = self.first + self.log.len() as u64;
        let mut wanted = false;
        for (i, change) in (0_u32..).zip(&commit.changes) {
            let hit = (number, i);
            for topic in Topic::of(&change.place) {
                for ear in topics.get(&topic).into_iter().flatten() {
                    let Some(ear) = ears.get_mut(ear).filter(|ear| !ear.behind) else {
                        continue;
                    };
                    if ear.hits.last() == Some(&hit) {
                        continue;
                    }
                    if ear.hits.len() == HITS {
                        ear.lose();
                        continue;
                    }
                    if ear.hits.is_empty() {
                        ear.wake.notify_one();
                    }
                    ear.hits.push(hit);
                    wanted = true;
                }
            }
        }
        if wanted {
            let bytes = commit.changes.iter().map(size_of_change).sum();
            self.bytes += bytes;
            let commit = Arc::new(commit);
            self.log.push_back(Entry { commit, bytes });
        }
        while self.log.len() > LOG_COMMITS || (self.bytes > LOG_BYTES && self.log.len() > 1) {
            self.shift();
        }
    }

    fn shift(&mut self) {
        if let Some(entry) = self.log.pop_front() {
            self.bytes -= entry.bytes;
            self.first += 1;
        }
    }
}

/// One listener's place in the feed.
pub struct Ear {
    shared: Arc<Shared>,
    id: u64,
    wake: Arc<Notify>,
}

/// What a listener is told at once.
#[derive(Debug, Default)]
pub struct Heard {
    /// The changes, in the order of commits: a commit, and the number of a change in it.
    pub hits: Vec<(Arc<Commit>, u32)>,
    /// Whether there were more, which are lost.
    pub behind: bool,
}

impl Heard {
    pub fn changes(&self) -> impl Iterator<Item = (&Commit, &Change)> {
        self.hits
            .iter()
            .filter_map(|(commit, i)| Some((&**commit, commit.changes.get(*i as usize)?)))
    }

    /// Up to when everything was told, now or before: a commit's changes come all together, and after those of all
    /// commits before it. 0 where there is nothing.
    #[must_use]
    pub fn until(&self) -> Micros {
        self.hits.last().map_or(0, |(commit, _)| commit.at)
    }
}

impl Ear {
    /// Follows a topic, too. What was committed before is not told.
    pub fn follow(&self, topic: Topic) {
        let State { topics, ears, .. } = &mut *self.shared.state();
        if let Some(seat) = ears.get_mut(&self.id)
            && seat.topics.insert(topic)
        {
            topics.entry(topic).or_default().push(self.id);
        }
    }

    pub fn leave(&self, topic: Topic) {
        let mut state = self.shared.state();
        if let Some(seat) = state.ears.get_mut(&self.id)
            && seat.topics.remove(&topic)
        {
            state.leave(topic, self.id);
        }
    }

    /// Waits until there is something to take.
    pub async fn wait(&self) {
        self.wake.notified().await;
    }

    /// Takes what there is. After one that is `behind`, what is committed from now on is told again.
    #[must_use]
    pub fn take(&self) -> Heard {
        let mut state = self.shared.state();
        let State {
            ears, log, first, ..
        } = &mut *state;
        let Some(ear) = ears.get_mut(&self.id) else {
            return Heard::default();
        };
        let behind = std::mem::take(&mut ear.behind);
        let numbers = std::mem::take(&mut ear.hits);
        let entry = |(number, i): (u64, u32)| {
            let at = usize::try_from(number.checked_sub(*first)?).ok()?;
            Some((log.get(at)?.commit.clone(), i))
        };
        let count = numbers.len();
        let hits: Vec<_> = numbers.into_iter().filter_map(entry).collect();
        Heard {
            behind: behind || hits.len() < count,
            hits,
        }
    }
}

impl State {
    fn leave(&mut self, topic: Topic, id: u64) {
        if let Some(ears) = self.topics.get_mut(&topic) {
            ears.retain(|ear| *ear != id);
            if ears.is_empty() {
                self.topics.remove(&topic);
            }
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        let seat = state.ears.remove(&self.id).unwrap_or_default();
        self.shared.ears.fetch_sub(1, Ordering::SeqCst);
        for topic in seat.topics {
            state.leave(topic, self.id);
        }
        if state.ears.is_empty() {
            while !state.log.is_empty() {
                state.shift();
            }
        }
    }
}

impl fmt::Debug for Ear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ear").field("id", &self.id).finish()
    }
}

/// About how many bytes a change takes in memory.
pub(crate) fn size_of_change(change: &Change) -> usize {
    let side = |stored: &Option<Stored>| stored.as_ref().map_or(0, |s| size_of_fields(&s.fields));
    CHANGE_BYTES
        + change.place.collection.len()
        + change.place.key.len()
        + side(&change.before)
        + side(&change.after)
}

/// What a change, or a field, takes besides its texts.
const CHANGE_BYTES: usize = 200;
const FIELD_BYTES: usize = 80;

fn size_of_fields(fields: &Fields) -> usize {
    fields
        .iter()
        .map(|(name, value)| FIELD_BYTES + name.len() + size_of_value(value))
        .sum()
}

fn size_of_value(value: &v1::Value) -> usize {
    match &value.value_type {
        Some(ValueType::StringValue(s) | ValueType::ReferenceValue(s)) => s.len(),
        Some(ValueType::BytesValue(b)) => b.len(),
        Some(ValueType::MapValue(map)) => size_of_fields(&map.fields),
        Some(ValueType::ArrayValue(array)) => array
            .values
            .iter()
            .map(|value| size_of::<v1::Value>() + size_of_value(value))
            .sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> Place {
        Place::of_path(path).unwrap()
    }

    fn commit(at: Micros, paths: &[&str]) -> Commit {
        let change = |path: &&str| Change {
            place: place(path),
            at,
            before: None,
            after: None,
        };
        Commit {
            at,
            changes: paths.iter().map(change).collect(),
            foreign: false,
        }
    }

    /// What is told: the times and the keys.
    fn taken(ear: &Ear) -> Vec<(Micros, String)> {
        let heard = ear.take();
        assert!(!heard.behind);
        heard
            .changes()
            .map(|(commit, change)| (commit.at, change.place.key.to_string()))
            .collect()
    }

    fn expect(ear: &Ear, hits: &[(Micros, &str)]) {
        let hits: Vec<_> = hits.iter().map(|(at, k)| (*at, (*k).to_owned())).collect();
        assert_eq!(taken(ear), hits);
    }

    #[test]
    fn a_listener_hears_of_its_topics_only_and_of_each_change_once() {
        let feed = Feed::new(0);
        assert!(!feed.heard());
        feed.tell(commit(1, &["a/1"]));
        let (document, children, group, all) =
            (feed.listen(), feed.listen(), feed.listen(), feed.listen());
        assert!(feed.heard());
        document.follow(Topic::document(&place("a/1")));
        children.follow(Topic::children("a/b", "1/"));
        children.follow(Topic::document(&place("a/1/b/2")));
        group.follow(Topic::group("b"));
        all.follow(Topic::everything());
        feed.tell(commit(2, &["a/1", "a/2", "a/1/b/2"]));
        feed.tell(commit(3, &["b/9", "a/2/b/2"]));
        expect(&document, &[(2, "1")]);
        expect(&children, &[(2, "1/2")]);
        expect(&group, &[(2, "1/2"), (3, "9"), (3, "2/2")]);
        assert_eq!(taken(&all).len(), 5);
        expect(&all, &[]);
        children.leave(Topic::document(&place("a/1/b/2")));
        feed.tell(commit(4, &["a/1/b/2"]));
        expect(&children, &[(4, "1/2")]);
        children.leave(Topic::children("a/b", "1/"));
        feed.tell(commit(5, &["a/1/b/2"]));
        expect(&children, &[]);
        drop((document, children, group, all));
        assert!(!feed.heard());
        let state = feed.shared.state();
        assert!(state.topics.is_empty() && state.log.is_empty() && state.bytes == 0);
    }

    #[test]
    fn who_falls_behind_is_told_so_once_and_hears_again_afterwards() {
        let feed = Feed::new(0);
        let ear = feed.listen();
        ear.follow(Topic::group("a"));
        for at in 0..=4096 {
            feed.tell(commit(at, &["a/1"]));
        }
        let heard = ear.take();
        assert!(heard.behind && heard.hits.is_empty());
        feed.tell(commit(5000, &["a/2"]));
        expect(&ear, &[(5000, "2")]);
        // Nobody kept these changes: somebody may have missed them.
        feed.pass();
        assert!(ear.take().behind);
        expect(&ear, &[]);
    }

    #[test]
    fn the_log_is_bounded_by_bytes_and_who_waited_too_long_has_lost_its_place() {
        let feed = Feed::new(0);
        let (slow, quick) = (feed.listen(), feed.listen());
        slow.follow(Topic::group("a"));
        quick.follow(Topic::group("a"));
        let value = v1::Value {
            value_type: Some(ValueType::BytesValue(vec![0; 1 << 20])),
        };
        for at in 1..=40 {
            let mut commit = commit(at, &["a/1"]);
            commit.changes[0].after = Some(Stored {
                fields: Arc::new(Fields::from([("f".to_owned(), value.clone())])),
                created: at,
                updated: at,
            });
            feed.tell(commit);
            assert_eq!(taken(&quick).len(), 1);
        }
        assert!(feed.shared.state().bytes <= LOG_BYTES);
        assert!(slow.take().behind);
    }

    #[tokio::test]
    async fn waiting_ends_with_what_was_waited_for() {
        let feed = Arc::new(Feed::new(0));
        let ear = feed.listen();
        ear.follow(Topic::group("a"));
        let teller = feed.clone();
        let told = tokio::spawn(async move {
            for at in 1..=10 {
                tokio::task::yield_now().await;
                teller.tell(commit(at, &["b/1"]));
            }
            teller.tell(commit(11, &["a/1"]));
        });
        ear.wait().await;
        told.await.unwrap();
        expect(&ear, &[(11, "1")]);
    }
}
