//! Random histories against a model that keeps everything: each state of the store is a map.

use crate::subject::{Subject, n, number, place};
use crate::views::{all, held};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeMap;
use std::ops::Bound;
use whimbrel_firestore::backend::{Along, IndexId, IndexLine, Walk};
use whimbrel_firestore::{Fields, Micros, View};

const PATHS: [&str; 8] = [
    "a/1", "a/2", "a/3", "b/1", "b/é", "a/1/c/1", "a/1/c/2", "a/2/c/1",
];

#[derive(Clone, Debug)]
enum Act {
    /// Documents to put (a number) or to delete, by their place in `PATHS`.
    Commit(BTreeMap<usize, Option<i64>>),
    View,
    /// Drops one of the open views.
    Drop(usize),
    /// Forgets what was before one of the commits.
    Forget(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let document = (0..PATHS.len(), proptest::option::weighted(0.7, 0..5_i64));
    prop_oneof![
        6 => proptest::collection::btree_map(document.0, document.1, 0..4).prop_map(Act::Commit),
        2 => Just(Act::View),
        2 => (0..8_usize).prop_map(Act::Drop),
        1 => (0..30_usize).prop_map(Act::Forget),
    ]
}

/// Number, created, updated.
type State = BTreeMap<&'static str, (i64, Micros, Micros)>;

#[derive(Default)]
struct Model {
    /// The state since each commit.
    states: Vec<(Micros, State)>,
    horizon: Micros,
}

impl Model {
    fn now(&self) -> State {
        self.states
            .last()
            .map(|(_, state)| state.clone())
            .unwrap_or_default()
    }

    fn as_of(&self, at: Micros) -> State {
        let before = self.states.iter().take_while(|(since, _)| *since <= at);
        before
            .last()
            .map(|(_, state)| state.clone())
            .unwrap_or_default()
    }
}

/// The gateway's part: a document's line in the index, which holds small numbers only.
fn line(index: IndexId, path: &str, number: i64) -> Option<IndexLine> {
    let mut key = vec![u8::try_from(number).unwrap(), 0];
    key.extend_from_slice(path.as_bytes());
    (number < 4).then(|| IndexLine {
        index,
        key,
        place: place(path),
    })
}

async fn run(subject: Subject, acts: Vec<Act>) {
    let index = subject
        .backend()
        .create_index("small numbers")
        .await
        .unwrap()
        .id;
    let mut model = Model::default();
    let mut views: Vec<(Box<dyn View>, Micros)> = Vec::new();
    for act in acts {
        match act {
            Act::Commit(documents) => commit(&subject, &mut model, index, &documents).await,
            Act::View => {
                let at = model.states.last().map_or(0, |(at, _)| *at);
                views.push((subject.backend().view().await.unwrap(), at));
            }
            Act::Drop(i) if i < views.len() => drop(views.remove(i)),
            Act::Drop(_) => {}
            Act::Forget(i) => {
                if let Some((at, _)) = model.states.get(i) {
                    model.horizon = model.horizon.max(*at);
                    subject.backend().forget(*at).await.unwrap();
                }
            }
        }
        for (view, at) in &views {
            shows(&**view, &model.as_of(*at), index, *at).await;
        }
    }
    let view = subject.backend().view().await.unwrap();
    remembers(&*view, &model).await;
}

async fn commit(
    subject: &Subject,
    model: &mut Model,
    index: IndexId,
    documents: &BTreeMap<usize, Option<i64>>,
) {
    let mut state = model.now();
    let (mut puts, mut unindex, mut lines): (Vec<(&str, Option<Fields>)>, _, _) =
        (vec![], vec![], vec![]);
    for (i, to) in documents {
        let path = PATHS[*i];
        unindex.extend(
            state
                .get(path)
                .and_then(|(number, ..)| line(index, path, *number)),
        );
        lines.extend(to.and_then(|number| line(index, path, number)));
        puts.push((path, to.map(n)));
    }
    let at = subject.commit_lines(&puts, &unindex, &lines).await;
    for (i, to) in documents {
        let path = PATHS[*i];
        let created = state.get(path).map_or(at, |(_, created, _)| *created);
        match to {
            Some(number) => state.insert(path, (*number, created, at)),
            None => state.remove(path),
        };
    }
    model.states.push((at, state));
}

/// Whether a view shows a state, in every way that it can be asked.
async fn shows(view: &dyn View, state: &State, index: IndexId, at: Micros) {
    assert_eq!(view.at(), at);
    let places: Vec<_> = PATHS.iter().map(|path| place(path)).collect();
    let found = view.get(&places, None).await.unwrap();
    for (path, stored) in PATHS.iter().zip(&found) {
        let found = stored
            .as_ref()
            .map(|s| (number(stored).unwrap(), s.created, s.updated));
        assert_eq!(found, state.get(path).copied(), "{path}");
    }
    let mut collections: Vec<String> = Vec::new();
    for collection in ["a", "a/c", "b"] {
        let mut expect: Vec<(String, Option<i64>)> = state
            .iter()
            .map(|(path, (number, ..))| (place(path), *number))
            .filter(|(place, _)| &*place.collection == collection)
            .map(|(place, number)| (place.key.to_string(), Some(number)))
            .collect();
        expect.sort();
        assert_eq!(held(view, collection).await, expect);
        collections.extend((!expect.is_empty()).then(|| collection.to_owned()));
    }
    let found = view.collections().await.unwrap();
    assert!(
        found
            .iter()
            .map(|name| &**name)
            .eq(collections.iter().map(String::as_str))
    );
    let mut lines: Vec<Vec<u8>> = state
        .iter()
        .filter_map(|(path, (number, ..))| line(index, path, *number).map(|line| line.key))
        .collect();
    lines.sort();
    for (from, to) in [(0, 9), (1, 2), (2, 9), (3, 3)] {
        for descending in [false, true] {
            let walk = Walk {
                along: Along::Index(index),
                from: Bound::Included(vec![from]),
                to: Bound::Excluded(vec![to]),
                descending,
                ..all("")
            };
            let mut expect: Vec<&Vec<u8>> = lines
                .iter()
                .filter(|key| key[0] >= from && key[0] < to)
                .collect();
            if descending {
                expect.reverse();
            }
            let found = view.walk(&walk).await.unwrap();
            assert!(
                found
                    .iter()
                    .map(|line| &line.key)
                    .eq(expect.iter().copied())
            );
            let numbered = |line: &whimbrel_firestore::backend::Line| {
                number(&line.stored) == Some(i64::from(line.key[0]))
            };
            assert!(found.iter().all(numbered));
            assert_eq!(view.count(&walk).await.unwrap(), expect.len() as u64);
        }
    }
}

/// Whether the store remembers every state that it was not told to forget, and what changed between any two.
async fn remembers(view: &dyn View, model: &Model) {
    let places: Vec<_> = PATHS.iter().map(|path| place(path)).collect();
    let kept: Vec<_> = model
        .states
        .iter()
        .filter(|(at, _)| *at >= model.horizon)
        .collect();
    for (i, (at, state)) in kept.iter().enumerate() {
        let found = view.get(&places, Some(*at)).await.unwrap();
        for (path, stored) in PATHS.iter().zip(&found) {
            let found = stored
                .as_ref()
                .map(|s| (number(stored).unwrap(), s.created, s.updated));
            assert_eq!(found, state.get(path).copied(), "{path} as of {at}");
        }
        for (later, after) in &kept[i..] {
            let changes = view.changed(*at, Some(*later), None, 100).await.unwrap();
            assert!(changes.is_sorted_by(|a, b| a.place < b.place));
            for path in PATHS {
                let number_in = |state: &State| state.get(path).map(|(number, ..)| *number);
                let change = changes.iter().find(|change| change.place == place(path));
                match change {
                    Some(change) => {
                        assert_eq!(number(&change.before), number_in(state));
                        assert_eq!(number(&change.after), number_in(after));
                    }
                    None => assert_eq!(state.get(path), after.get(path), "{path}"),
                }
            }
        }
    }
}

/// Takes a store of the same kind for each history.
pub async fn agrees(subject: Subject) {
    let handle = tokio::runtime::Handle::current();
    let url = subject.url();
    let histories = tokio::task::spawn_blocking(move || {
        let config = Config {
            cases: if url.starts_with("memory") { 200 } else { 40 },
            failure_persistence: None,
            ..Config::default()
        };
        TestRunner::new(config)
            .run(&proptest::collection::vec(act(), 1..40), |acts| {
                handle.block_on(async {
                    let subject = subject.another().await;
                    run(subject, acts).await;
                });
                Ok(())
            })
            .unwrap();
    });
    histories.await.unwrap();
}
