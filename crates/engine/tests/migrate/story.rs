//! Any migration, any faults, any writes of the app in between, any order of going up, coming down and
//! dying. Once the faults stop it comes to an end, applied or taken back, and nothing is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use whimbrel_engine::migrate::{MigrationJob, StepError};
use whimbrel_engine::{Engine, EngineError};
use whimbrel_model::ledger::{MigrationState, MigrationStatus, StepStatus};
use whimbrel_model::migration::Phase;
use whimbrel_model::{Code, Value};
use whimbrel_testkit::crashing::Moment;

use crate::common::scene::split;
use crate::spoilt::{Work, spoilt};
use crate::trouble::{Blow, Call, Mode, Trouble};
use crate::world::{ID, Part, Picture, Session, Tools, World, job, map_of, put, rule};

const FIRST: usize = 7;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    First2,
    First3,
    Chats3,
    Firsts,
    Messages,
    Phase,
    Sql,
}

impl Kind {
    fn part(self, tools: &Tools) -> Part {
        let name = &format!("{self:?}");
        match self {
            Self::First2 => tools.upgrade(name, "first", 1, 2),
            Self::First3 => tools.upgrade(name, "first", 2, 3),
            Self::Chats3 => tools.upgrade(name, "chats", 1, 3),
            Self::Firsts => tools.copy(name, "first", "firsts", rule("all")),
            Self::Messages => tools.copy(name, "chats", "messages", split()),
            Self::Phase => tools.phase(name, Phase::Dualwrite),
            Self::Sql => tools.run(name, tools.sql()),
        }
    }
}

struct Story {
    random: StdRng,
    world: World,
    before: Picture,
    steps: Vec<Kind>,
    /// What the app wrote last, by collection and key: its number, or that it is gone.
    written: BTreeMap<(&'static str, String), Option<i64>>,
    writes: i64,
    /// Whether the app wrote since it was applied: nobody brings that on.
    stale: bool,
    told: Vec<String>,
}

/// The version of a document, and which write of the app it is.
fn identity(json: &str) -> (i64, Option<i64>) {
    let map = map_of(json);
    let number = |name: &str| match map.get(name) {
        Some(Value::Int(n)) => Some(*n),
        _ => None,
    };
    (number("_schemaVersion").unwrap_or(1), number("write"))
}

fn document(version: i64, write: i64) -> String {
    let rest = format!(r#""write":{write}, "messages":["a"]"#);
    match version {
        1 => format!(r#"{{ "title":"t", "n": {write},{rest} }}"#),
        2 => format!(r#"{{"name":"t","n":{write},{rest},"_schemaVersion":2}}"#),
        _ => format!(r#"{{"name":"t","meta":{{}},{rest},"_schemaVersion":3}}"#),
    }
}

impl Story {
    async fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let on_disk = random.random_bool(0.4);
        let world = World::small(on_disk, FIRST).await;
        let before = world.picture().await;
        let mut steps = Vec::new();
        let mut choice = vec![
            Kind::First2,
            Kind::Chats3,
            Kind::Firsts,
            Kind::Messages,
            Kind::Phase,
        ];
        if on_disk {
            choice.push(Kind::Sql);
        }
        for _ in 0..random.random_range(2..=5) {
            let kind = choice.swap_remove(random.random_range(0..choice.len()));
            if kind == Kind::First2 {
                choice.push(Kind::First3);
            }
            steps.push(kind);
        }
        let told = vec![format!(
            "WHIMBREL_TEST_SEED={seed}: {steps:?}, on disk: {on_disk}"
        )];
        Self {
            random,
            world,
            before,
            steps,
            written: BTreeMap::new(),
            writes: 0,
            stale: false,
            told,
        }
    }

    fn told(&self) -> String {
        self.told.join("\n  ")
    }

    /// In the shape that documents have now, or an older one; as an app whose new version is on its way.
    async fn app_writes(&mut self) {
        let known = self.known().await;
        self.stale = known.is_some_and(|m| m.status == MigrationStatus::Applied);
        for _ in 0..self.random.random_range(1..4) {
            let collection = if self.random.random_bool(0.5) {
                "first"
            } else {
                "chats"
            };
            let now = self.world.picture().await;
            let docs: Vec<_> = now.of(collection).iter().collect();
            let Some((any, json)) = docs.choose(&mut self.random).copied() else {
                continue;
            };
            let version = identity(json).0;
            self.writes += 1;
            let (key, to) = match self.random.random_range(0..6) {
                0 => (any.clone(), None),
                1 => {
                    let key = format!("{}{:05}", &any[..1], self.random.random_range(0..60));
                    (key, Some(document(version, self.writes)))
                }
                2 => (any.clone(), Some(document(1, self.writes))),
                _ => (any.clone(), Some(document(version, self.writes))),
            };
            self.told
                .push(format!("the app: {collection}/{key} = {to:?}"));
            put(&self.world.app, collection, &key, to.as_deref()).await;
            let number = to.map(|_| self.writes);
            self.written.insert((collection, key), number);
        }
    }

    fn job(&mut self, session: &Session, faults: bool) -> MigrationJob {
        let mut parts: Vec<Part> = self.steps.iter().map(|k| k.part(&session.tools)).collect();
        if faults && self.random.random_bool(0.3) {
            let at = self.random.random_range(0..parts.len());
            let works = [Work::Forward, Work::Validate, Work::Backward];
            let moments = [Moment::Before, Moment::After];
            let when = (
                *works.choose(&mut self.random).unwrap(),
                *moments.choose(&mut self.random).unwrap(),
            );
            self.told.push(format!("step {at} fails {when:?}"));
            let once = Arc::new(AtomicBool::new(false));
            parts[at] = spoilt(&parts[at], move |work, moment| {
                let now = (work, moment) == when && !once.swap(true, Ordering::SeqCst);
                Box::pin(async move {
                    if now {
                        return Err(StepError::terminal(Code::StepFailed, "a fault of the test"));
                    }
                    Ok(())
                })
            });
        }
        job(ID, &parts, self.world.path())
    }

    fn arm(&mut self, trouble: &Trouble) {
        let blows = [
            Blow::Mode(Mode::Dead),
            Blow::Mode(Mode::Dead),
            Blow::Mode(Mode::Gone),
            Blow::Mode(Mode::Full),
            Blow::Mode(Mode::LedgerFull),
            Blow::LeaseLost,
        ];
        let blow = *blows.choose(&mut self.random).unwrap();
        let call = match blow {
            Blow::Mode(Mode::Dead | Mode::LedgerFull) if self.random.random_bool(0.6) => {
                Call::Append
            }
            _ if self.random.random_bool(0.3) => Call::Read,
            _ => Call::Write,
        };
        let moment = if self.random.random_bool(0.5) {
            Moment::Before
        } else {
            Moment::After
        };
        let most = if call == Call::Write { 9 } else { 40 };
        let nth = self.random.random_range(1..most);
        self.told
            .push(format!("{blow:?} {moment:?} {call:?} {nth}"));
        trouble.arm(blow, call, moment, nth);
    }

    /// One process, and one command.
    async fn command(&mut self, up: bool, faults: bool) -> Result<MigrationState, EngineError> {
        let session = self.world.session().await;
        if faults && self.random.random_bool(0.7) {
            self.arm(&session.trouble);
        }
        let job = self.job(&session, faults);
        let result = go(&session.engine, up, job).await;
        let said = match &result {
            Ok(state) => format!("{:?}, {:?}", state.status, crate::world::statuses(state)),
            Err(error) => error.to_string(),
        };
        self.told
            .push(format!("{}: {said}", if up { "up" } else { "down" }));
        session.trouble.disarm();
        self.world.check_ledger(&self.told()).await;
        result
    }

    /// A person looks at what no program can tell.
    async fn settle(&mut self) {
        let Some(state) = self.known().await else {
            return;
        };
        let unknown = |s: StepStatus| matches!(s, StepStatus::Unknown | StepStatus::UndoUnknown);
        let Some(step) = state.steps.iter().find(|s| unknown(s.status)) else {
            return;
        };
        let there = !self.world.picture().await.of("notes").is_empty();
        let done = there == (step.status == StepStatus::Unknown);
        self.told.push(format!("{} is settled: {done}", step.name));
        let session = self.world.session().await;
        let settled = session
            .engine
            .settle_step(ID, &step.name, done, "ada", "ada");
        settled
            .await
            .unwrap_or_else(|e| panic!("{e}, {}", self.told()));
    }

    async fn known(&self) -> Option<MigrationState> {
        let ledger = crate::common::ledger(self.world.path()).await;
        ledger.state().migrations.get(ID).cloned()
    }

    /// I10: without faults, a few commands are enough.
    async fn converge(&mut self, mut up: bool) -> MigrationStatus {
        for _ in 0..5 {
            self.settle().await;
            let known = self.known().await;
            // There is only one way from there.
            up &= known.is_none_or(|m| m.status != MigrationStatus::UndoFailed);
            let state = self.command(up, false).await;
            let state = state.unwrap_or_else(|e| panic!("{e}, {}", self.told()));
            match state.status {
                MigrationStatus::Applied if up => return state.status,
                MigrationStatus::Undone => return state.status,
                _ => {}
            }
        }
        panic!("it comes to no end: {}", self.told());
    }

    /// I1, I2 and I6: each document is there, or not, as the app last said.
    fn check_kept(&self, now: &Picture) {
        for collection in ["first", "chats"] {
            let mut expected: BTreeMap<String, Option<i64>> = self
                .before
                .of(collection)
                .keys()
                .map(|key| (key.clone(), None))
                .collect();
            for ((of, key), write) in &self.written {
                match write {
                    Some(number) if *of == collection => {
                        expected.insert(key.clone(), Some(*number));
                    }
                    None if *of == collection => {
                        expected.remove(key);
                    }
                    _ => {}
                }
            }
            let is = now.of(collection).iter();
            let is: BTreeMap<String, Option<i64>> = is
                .map(|(key, json)| (key.clone(), identity(json).1))
                .collect();
            assert_eq!(is, expected, "{collection}: {}", self.told());
        }
    }

    fn untouched(&self, collection: &'static str) -> impl Iterator<Item = (&String, &String)> {
        let docs = self.before.of(collection).iter();
        docs.filter(move |(key, _)| !self.written.contains_key(&(collection, (*key).clone())))
    }

    async fn check_undone(&self) {
        let now = self.world.picture().await;
        self.check_kept(&now);
        for collection in ["first", "chats"] {
            for (key, json) in self.untouched(collection) {
                assert_eq!(&now.of(collection)[key], json, "{key}: {}", self.told());
            }
            for (key, json) in now.of(collection) {
                assert_eq!(identity(json).0, 1, "{key}: {json}, {}", self.told());
            }
        }
        for empty in ["firsts", "messages", "units", "notes"] {
            assert_eq!(now.of(empty).len(), 0, "{empty}: {}", self.told());
        }
        assert_eq!(now.phases, BTreeMap::new(), "{}", self.told());
    }

    /// I3, of the documents that the app left alone.
    async fn check_applied(&self) {
        let now = self.world.picture().await;
        self.check_kept(&now);
        let (mut first, mut chats) = (1, 1);
        for step in &self.steps {
            match step {
                Kind::First2 => first = 2,
                Kind::First3 => first = 3,
                Kind::Chats3 => chats = 3,
                Kind::Firsts => {
                    for (key, json) in self.untouched("first") {
                        let copy = now.of("firsts").get(key);
                        let copy = copy.unwrap_or_else(|| panic!("{key}: {}", self.told()));
                        self.check_at(key, json, copy, first);
                    }
                }
                Kind::Messages => {
                    for (key, _) in self.untouched("chats") {
                        let all = (0..3).map(|i| format!("{key}:{i}"));
                        let there = |at| now.of("messages").contains_key(&at);
                        assert!(all.into_iter().all(there), "{key}: {}", self.told());
                    }
                }
                Kind::Phase => assert_eq!(now.phases["app/chats"], Phase::Dualwrite),
                Kind::Sql => assert_eq!(now.of("notes").len(), 1, "{}", self.told()),
            }
        }
        for (collection, version) in [("first", first), ("chats", chats)] {
            for (key, json) in self.untouched(collection) {
                self.check_at(key, json, &now.of(collection)[key], version);
            }
            for (key, json) in now.of(collection) {
                let fine = identity(json).0 == version || self.stale;
                assert!(fine, "{key}: {json}, {}", self.told());
            }
        }
    }

    fn check_at(&self, key: &str, was: &str, is: &str, version: i64) {
        let mut map = map_of(was);
        if version >= 2 {
            let title = map.shift_remove("title").unwrap();
            map.insert("name".into(), title);
            map.insert("_schemaVersion".into(), Value::Int(version));
        }
        if version >= 3 {
            map.shift_remove("n");
            map.insert("meta".into(), Value::Map(Default::default()));
        }
        let print = |map| whimbrel_model::Body::Map(map).fingerprint().unwrap();
        assert_eq!(
            print(map_of(is)),
            print(map),
            "{key}: {is}, {}",
            self.told()
        );
    }

    async fn check_end(&self, end: MigrationStatus) {
        match end {
            MigrationStatus::Applied => self.check_applied().await,
            _ => self.check_undone().await,
        }
    }
}

async fn go(engine: &Engine, up: bool, job: MigrationJob) -> Result<MigrationState, EngineError> {
    if up {
        engine.apply(job).await
    } else {
        engine.revert(job, None).await
    }
}

async fn tell(seed: u64) {
    let mut story = Story::new(seed).await;
    for _ in 0..story.random.random_range(2..7) {
        match story.random.random_range(0..8) {
            0 | 1 => story.app_writes().await,
            2..=5 => {
                let _ = story.command(true, true).await;
            }
            6 if story.known().await.is_some() => {
                let _ = story.command(false, true).await;
            }
            _ => story.settle().await,
        }
    }
    let up = story.random.random_bool(0.6) || story.known().await.is_none();
    let end = story.converge(up).await;
    story.check_end(end).await;
    if end == MigrationStatus::Applied {
        story.app_writes().await;
        let end = story.converge(false).await;
        story.check_end(end).await;
    }
    story.world.check_ledger(&story.told()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_it_comes_to_an_end_and_nothing_is_lost() {
    if let Ok(seed) = std::env::var("WHIMBREL_TEST_SEED") {
        return tell(seed.parse().unwrap()).await;
    }
    let stories = std::env::var("WHIMBREL_TEST_STORIES").map_or(100, |n| n.parse().unwrap());
    let seeds: Vec<u64> = (0..stories).collect();
    for some in seeds.chunks(8) {
        futures::future::join_all(some.iter().map(|seed| tell(*seed))).await;
    }
}
