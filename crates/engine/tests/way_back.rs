//! The way back, against a model: upgrades up and down in any order, with an app that edits, inserts and
//! deletes in between. A document that the app last wrote at a version is byte for byte that again whenever
//! the collection is at that version; at version 1 every other one is what `down` makes of the app's write.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{dump, engine, fill, place, sqlite, upgrade};
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{RngExt, SeedableRng};
use whimbrel_model::{Body, Guard, Key, Map, Store, Value, Write, WriteOutcome};

/// What the model knows of a document: the app's last write, and what `n` was when `up` dropped it.
#[derive(Clone, Debug)]
struct Known {
    version: u32,
    written: String,
    /// `n` as the document had it the last time that it came up to version 3.
    dropped: Option<Value>,
    /// For a write at version 3: what `down` can restore.
    restored: Option<Value>,
}

fn map_of(json: &str) -> Map {
    Body::from_json(json.to_owned().into_bytes())
        .map()
        .unwrap()
        .into_owned()
}

impl Known {
    /// The document's `n` below version 3.
    fn n(&self) -> Option<Value> {
        if self.version == 3 {
            Some(self.restored.clone().unwrap_or(Value::Int(-1)))
        } else {
            map_of(&self.written).get("n").cloned()
        }
    }

    /// What `down` makes of the app's write at version 1, with what was dropped put back.
    fn at_1(&self) -> Map {
        let mut map = map_of(&self.written);
        map.shift_remove("_schemaVersion");
        if self.version >= 2
            && let Some(name) = map.shift_remove("name")
        {
            map.insert("title".into(), name);
        }
        if self.version == 3 {
            map.shift_remove("meta");
            map.extend(self.n().map(|n| ("n".to_owned(), n)));
        }
        map
    }
}

struct Play {
    random: StdRng,
    store: Arc<dyn Store>,
    model: BTreeMap<String, Known>,
    version: u32,
    /// Counts the app's writes, so that no two are the same.
    step: u32,
    story: Vec<String>,
}

impl Play {
    /// A document as an app of the collection's version writes it, spaced as nobody else does.
    fn document(&mut self) -> String {
        self.step += 1;
        let step = self.step;
        let n = if self.random.random_bool(0.8) {
            format!(r#", "n":{step}"#)
        } else {
            String::new()
        };
        match self.version {
            1 => format!(r#"{{ "title": "one {step}"{n},  "x": 1.50 }}"#),
            2 => format!(r#"{{"name" : "two {step}"{n}, "_schemaVersion":2, "y": "\u00e9" }}"#),
            _ => format!(r#"{{"meta":{{"s":{step}}}, "name":"three {step}","_schemaVersion": 3}}"#),
        }
    }

    async fn write(&mut self, key: &str, to: Option<&str>) {
        let write = Write {
            collection: "chats".into(),
            key: Key::text(key),
            to: to.map(|json| Body::from_json(json.to_owned().into_bytes())),
            guard: Guard::Any,
        };
        let outcomes = self.store.write(&[write]).await.unwrap();
        assert_eq!(outcomes, [WriteOutcome::Applied]);
        let known = self.model.remove(key);
        if let Some(json) = to {
            let dropped = known.and_then(|k| k.dropped);
            let known = Known {
                version: self.version,
                written: json.to_owned(),
                restored: dropped.clone(),
                dropped,
            };
            self.model.insert(key.to_owned(), known);
        }
    }

    async fn app_writes(&mut self) {
        for _ in 0..self.random.random_range(1..4) {
            let any = self.model.keys().choose(&mut self.random).cloned();
            match (self.random.random_range(0..4), any) {
                (0, Some(key)) => {
                    self.story
                        .push(format!("delete {key} at v{}", self.version));
                    self.write(&key, None).await;
                }
                (1, _) | (_, None) => {
                    let json = self.document();
                    let key = format!("new {:03}", self.step);
                    self.story.push(format!("insert {key}: {json}"));
                    self.write(&key, Some(&json)).await;
                }
                (_, Some(key)) => {
                    let json = self.document();
                    self.story.push(format!("edit {key}: {json}"));
                    self.write(&key, Some(&json)).await;
                }
            }
        }
    }

    fn upgraded(&mut self, to: u32) {
        self.story.push(format!("v{} to v{to}", self.version));
        if self.version < 3 && to == 3 {
            for known in self.model.values_mut() {
                known.dropped = known.n();
            }
        }
        self.version = to;
    }

    async fn check(&self) {
        let now = dump(&self.store, "chats").await;
        let story = || self.story.join("\n  ");
        let keys: Vec<&String> = now.iter().map(|(key, _)| key).collect();
        assert_eq!(keys, self.model.keys().collect::<Vec<_>>(), "{}", story());
        for (key, json) in &now {
            let known = &self.model[key];
            if known.version == self.version {
                assert_eq!(json, &known.written, "{key}:\n  {}", story());
            } else if self.version == 1 {
                assert_eq!(map_of(json), known.at_1(), "{key}:\n  {}", story());
            }
        }
    }
}

async fn play(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let store = sqlite(dir.path(), "app.db").await;
    let chats = place(&store, "app", "chats");
    let engine = engine(dir.path()).await;
    fill(&store, "chats", []).await;
    let mut play = Play {
        random: StdRng::seed_from_u64(seed),
        store,
        model: BTreeMap::new(),
        version: 1,
        step: 0,
        story: vec![format!("WHIMBREL_TEST_SEED={seed}")],
    };
    for i in 0..10 {
        let json = play.document();
        play.write(&format!("old {i}"), Some(&json)).await;
    }
    for _ in 0..10 {
        if play.random.random_bool(0.5) {
            play.app_writes().await;
        }
        let to = play.random.random_range(1..=3);
        let report = engine.upgrade(upgrade(&chats, to)).await.unwrap();
        play.upgraded(to);
        let c = report.counts;
        assert!(
            c.balanced() && c.quarantined == 0,
            "{c:?}: {:#?}",
            play.story
        );
        assert_eq!(c.enumerated, play.model.len() as u64);
        play.check().await;
    }
    engine.upgrade(upgrade(&chats, 1)).await.unwrap();
    play.upgraded(1);
    play.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_way_there_has_a_way_back() {
    if let Ok(seed) = std::env::var("WHIMBREL_TEST_SEED") {
        return play(seed.parse().unwrap()).await;
    }
    let seeds: Vec<u64> = (0..40).collect();
    for some in seeds.chunks(8) {
        futures::future::join_all(some.iter().map(|seed| play(*seed))).await;
    }
}
