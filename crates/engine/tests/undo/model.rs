//! Any order of runs, undos and an app's writes, against a model.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::common::{dump, engine, fill, options, place, sqlite, store, upgrade};
use crate::{down_to, run_of};
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{RngExt, SeedableRng};
use whimbrel_engine::{CopyJob, JobOptions};
use whimbrel_model::ledger::RunId;
use whimbrel_model::rule::CopyRule;
use whimbrel_model::{Body, Guard, Key, Map, Store, Value, Write, WriteOutcome};

type Docs = BTreeMap<String, String>;

async fn now(store: &Arc<dyn Store>, collection: &str) -> Docs {
    dump(store, collection).await.into_iter().collect()
}

async fn put(store: &Arc<dyn Store>, collection: &str, key: &str, to: Option<&str>) {
    let write = Write {
        collection: collection.into(),
        key: Key::text(key),
        to: to.map(|json| Body::from_json(json.to_owned().into_bytes())),
        guard: Guard::Any,
    };
    assert_eq!(
        store.write(&[write]).await.unwrap(),
        [WriteOutcome::Applied]
    );
}

fn map_of(json: &str) -> Map {
    let body = Body::from_json(json.to_owned().into_bytes());
    body.map().unwrap().into_owned()
}

/// The version of a document, and what the app called this write of it.
fn identity(json: &str) -> (i64, Option<Value>) {
    let map = map_of(json);
    let version = match map.get("_schemaVersion") {
        Some(Value::Int(n)) => *n,
        _ => 1,
    };
    (version, map.get("write").cloned())
}

struct Play {
    random: StdRng,
    store: Arc<dyn Store>,
    collection: &'static str,
    step: u32,
    story: Vec<String>,
}

impl Play {
    fn new(seed: u64, store: Arc<dyn Store>, collection: &'static str) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            store,
            collection,
            step: 0,
            story: vec![format!("WHIMBREL_TEST_SEED={seed}")],
        }
    }

    fn story(&self) -> String {
        self.story.join("\n  ")
    }

    /// A document of any version, as nobody else writes it.
    fn document(&mut self) -> String {
        self.step += 1;
        let step = self.step;
        match self.random.random_range(1..=3) {
            1 => format!(r#"{{ "title":"t", "n": {step}, "write":{step},  "x": 1.50 }}"#),
            2 => format!(r#"{{"name" : "t", "write":{step}, "_schemaVersion":2}}"#),
            _ => format!(r#"{{"meta":{{ }}, "write":{step}, "name":"t","_schemaVersion": 3}}"#),
        }
    }

    async fn app_writes(&mut self) {
        for _ in 0..self.random.random_range(1..5) {
            let docs = now(&self.store, self.collection).await;
            let any = docs.keys().choose(&mut self.random).cloned();
            let (key, to) = match (self.random.random_range(0..4), any) {
                (0, Some(key)) => (key, None),
                (1, _) | (_, None) => (
                    format!("k{:02}", self.random.random_range(0..30)),
                    Some(self.document()),
                ),
                (_, Some(key)) => (key, Some(self.document())),
            };
            self.story.push(format!("the app: {key} = {to:?}"));
            put(&self.store, self.collection, &key, to.as_deref()).await;
        }
    }
}

/// A run that was not taken back yet.
struct Done {
    run: RunId,
    before: Docs,
    after: Docs,
}

/// Where one document must be once `done` is taken back: its very bytes, or its version.
fn check_upgrade_undone(done: &Done, otherwise: i64, key: &str, was: &str, is: &str, story: &str) {
    let what = format!("{key}: {was} became {is}, {story}");
    let (version, write) = identity(was);
    let before = done.before.get(key);
    let touched = before.is_some() && before != done.after.get(key);
    match before.filter(|_| touched) {
        Some(before) if done.after.get(key).is_some_and(|after| after == was) => {
            assert_eq!(before, is, "{what}");
        }
        Some(before) => {
            let ((from, _), (to, _)) = (identity(before), identity(&done.after[key]));
            let goal = if to < from {
                version.max(from)
            } else {
                version.min(from)
            };
            assert_eq!(identity(is), (goal, write), "{what}");
            assert!(goal != version || was == is, "{what}");
        }
        None => {
            let goal = version.min(otherwise);
            assert_eq!(identity(is), (goal, write), "{what}");
            assert!(goal != version || was == is, "{what}");
        }
    }
}

async fn play_upgrades(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let store = sqlite(dir.path(), "app.db").await;
    let chats = place(&store, "app", "chats");
    let engine = engine(dir.path()).await;
    fill(&store, "chats", []).await;
    let mut play = Play::new(seed, store, "chats");
    for _ in 0..6 {
        play.app_writes().await;
    }
    let mut stack: Vec<Done> = Vec::new();
    for _ in 0..14 {
        match play.random.random_range(0..5) {
            0 | 1 => play.app_writes().await,
            2 | 3 => {
                let to = play.random.random_range(1..=3);
                let before = now(&play.store, "chats").await;
                let report = engine.upgrade(upgrade(&chats, to)).await.unwrap();
                assert_eq!(report.counts.quarantined, 0, "{}", play.story());
                let run = run_of(&report);
                play.story.push(format!("run {run}: to v{to}"));
                let after = now(&play.store, "chats").await;
                stack.push(Done { run, before, after });
            }
            _ => {
                let Some(done) = stack.pop() else { continue };
                let otherwise = play.random.random_range(1..=3);
                play.story
                    .push(format!("undo {}, otherwise v{otherwise}", done.run));
                let was = now(&play.store, "chats").await;
                let runs = std::slice::from_ref(&done.run);
                let undone = engine.undo_upgrade(down_to(&chats, otherwise), runs).await;
                let c = undone.unwrap().counts;
                assert!(c.balanced() && c.quarantined == 0, "{c:?} {}", play.story());
                assert_eq!(c.enumerated, was.len() as u64, "{}", play.story());
                let is = now(&play.store, "chats").await;
                assert_eq!(
                    was.keys().collect::<Vec<_>>(),
                    is.keys().collect::<Vec<_>>(),
                    "{}",
                    play.story()
                );
                for (key, was) in &was {
                    let story = play.story();
                    check_upgrade_undone(&done, otherwise.into(), key, was, &is[key], &story);
                }
            }
        }
    }
}

fn rule() -> CopyRule {
    CopyRule::plain("all")
}

/// What one run did to one target document.
type Change = (Option<String>, String);

async fn play_copies(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let app = store("memory:").await;
    let (source, target) = (place(&app, "app", "chats"), place(&app, "app", "copies"));
    let engine = engine(dir.path()).await;
    fill(&app, "chats", []).await;
    fill(&app, "copies", []).await;
    let mut play = Play::new(seed, Arc::clone(&app), "chats");
    let job = || CopyJob {
        source: source.clone(),
        target: target.clone(),
        rule: rule(),
        schema: None,
        scratch: None,
        options: JobOptions {
            undoable: true,
            ..options()
        },
    };
    let mut stack: Vec<(RunId, BTreeMap<String, Change>)> = Vec::new();
    for _ in 0..16 {
        match play.random.random_range(0..6) {
            0..=2 => {
                play.collection = if play.random.random_bool(0.6) {
                    "chats"
                } else {
                    "copies"
                };
                play.story.push(format!("in {}", play.collection));
                play.app_writes().await;
            }
            3 | 4 => {
                let before = now(&app, "copies").await;
                let run = run_of(&engine.copy(job()).await.unwrap());
                play.story.push(format!("run {run}"));
                let changes = now(&app, "copies")
                    .await
                    .into_iter()
                    .filter(|(key, after)| before.get(key) != Some(after))
                    .map(|(key, after)| (key.clone(), (before.get(&key).cloned(), after)))
                    .collect();
                stack.push((run, changes));
            }
            _ => {
                let count = play.random.random_range(0..=stack.len());
                let some = stack.split_off(stack.len() - count);
                let runs: Vec<RunId> = some.iter().map(|(run, _)| run.clone()).collect();
                play.story.push(format!("undo {runs:?}"));
                let mut expected = now(&app, "copies").await;
                for (_, changes) in some.iter().rev() {
                    for (key, (before, after)) in changes {
                        if expected.get(key) == Some(after) {
                            match before {
                                Some(before) => expected.insert(key.clone(), before.clone()),
                                None => expected.remove(key),
                            };
                        }
                    }
                }
                let c = engine.uncopy(job(), &runs).await.unwrap().counts;
                assert!(c.balanced() && c.quarantined == 0, "{c:?} {}", play.story());
                assert_eq!(now(&app, "copies").await, expected, "{}", play.story());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrades_and_their_undos_in_any_order() {
    if let Ok(seed) = std::env::var("WHIMBREL_TEST_SEED") {
        return play_upgrades(seed.parse().unwrap()).await;
    }
    let seeds: Vec<u64> = (0..64).collect();
    for some in seeds.chunks(8) {
        futures::future::join_all(some.iter().map(|seed| play_upgrades(*seed))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_and_their_undos_in_any_order() {
    if let Ok(seed) = std::env::var("WHIMBREL_TEST_SEED") {
        return play_copies(seed.parse().unwrap()).await;
    }
    let seeds: Vec<u64> = (0..64).collect();
    for some in seeds.chunks(8) {
        futures::future::join_all(some.iter().map(|seed| play_copies(*seed))).await;
    }
}
