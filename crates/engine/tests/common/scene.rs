//! The jobs that crash and fault tests do on a small chat app, and how their end must look, whatever
//! happened on the way.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use whimbrel_engine::{
    CopyJob, Engine, EngineError, JobOptions, NativeTransform, PROVENANCE, Report,
};
use whimbrel_model::ledger::{Counts, JobKind, RunStatus};
use whimbrel_model::rule::CopyRule;
use whimbrel_model::{Body, Code, DocError, Emit, Key, Map, Store, TransformInput, Value};

use super::{dump, engine, fill, ledger, options, place, sqlite, upgrade};

pub const DOCUMENTS: usize = 40;

/// The one document that fails on the way up and in a copy.
const BAD: usize = 11;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Up,
    Down,
    /// Every chat becomes three messages.
    Copy,
}

impl Task {
    pub const ALL: [Task; 3] = [Task::Up, Task::Down, Task::Copy];

    pub fn named(name: &str) -> Self {
        let found = Self::ALL.into_iter().find(|t| format!("{t:?}") == name);
        found.expect("the task's name")
    }
}

/// What a test puts around each store.
pub type Wrap<'a> = &'a (dyn Fn(Arc<dyn Store>) -> Arc<dyn Store> + Send + Sync);

pub fn bare(store: Arc<dyn Store>) -> Arc<dyn Store> {
    store
}

/// One worker and chunks of six documents: the order of writes is always the same.
pub fn narrow() -> JobOptions {
    JobOptions {
        batch: Some(6),
        parallel: Some(1),
        ..options()
    }
}

pub fn chat(i: usize) -> (Key, String) {
    let json = match i {
        BAD => r#"{"title": null, "n": 11, "messages": 5}"#.to_owned(),
        _ => format!(r#"{{"title": "chat {i}", "n": {i}, "messages": ["a{i}", "b{i}", "c{i}"]}}"#),
    };
    (Key::text(format!("c{i:05}")), json)
}

pub fn split() -> CopyRule {
    let transform = NativeTransform::new("split", |input, _| {
        let TransformInput::One { key, mut doc } = input else {
            unreachable!()
        };
        let Some(Value::Array(messages)) = doc.take("messages").map_err(DocError::from)? else {
            return Err(DocError::new(Code::DocType, "messages is no array"));
        };
        let emit = |(i, text): (usize, Value)| Emit {
            collection: None,
            key: Some(Key::text(format!("{key}:{i}"))),
            body: Body::Map(Map::from_iter([("text".to_owned(), text)])),
        };
        Ok(messages.into_iter().enumerate().map(emit).collect())
    });
    CopyRule {
        transform: Some(Arc::new(transform)),
        ..CopyRule::plain("split")
    }
}

/// A folder in which the task is still to be done.
pub async fn prepare(dir: &Path, task: Task) {
    let app = sqlite(dir, "app.db").await;
    fill(&app, "chats", (0..DOCUMENTS).map(chat)).await;
    if task == Task::Down {
        perform(dir, &engine(dir).await, Task::Up, &bare, narrow())
            .await
            .unwrap();
    }
}

/// The same folder again, to be spoilt.
pub fn copy_folder(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        std::fs::copy(&path, to.path().join(path.file_name().unwrap())).unwrap();
    }
    to
}

pub async fn perform(
    dir: &Path,
    engine: &Engine,
    task: Task,
    wrap: Wrap<'_>,
    options: JobOptions,
) -> Result<Report, EngineError> {
    let app = wrap(sqlite(dir, "app.db").await);
    let source = place(&app, "app", "chats");
    match task {
        Task::Up | Task::Down => {
            let mut job = upgrade(&source, if task == Task::Up { 3 } else { 1 });
            job.options = options;
            engine.upgrade(job).await
        }
        Task::Copy => {
            let other = wrap(sqlite(dir, "other.db").await);
            let job = CopyJob {
                source,
                target: place(&other, "other", "messages"),
                rule: split(),
                schema: None,
                scratch: None,
                options,
            };
            engine.copy(job).await
        }
    }
}

/// Looks at the whole folder after the task is done. `counts` are of the run, over all its attempts.
pub async fn look(dir: &Path, task: Task, counts: Counts, what: &str) {
    check_counts(task, counts, what);
    let ledger = ledger(dir).await;
    ledger
        .verify()
        .await
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    let waiting = ledger.journal().quarantined(None, None, 9).await.unwrap();
    assert_eq!(
        waiting.len(),
        usize::from(task != Task::Down),
        "{what}: {waiting:?}"
    );
    for run in ledger.state().runs.values() {
        assert_eq!(run.status, RunStatus::Completed, "{what}");
        assert!(matches!(run.job.kind, JobKind::Upgrade | JobKind::Copy));
    }
    let app = sqlite(dir, "app.db").await;
    let written = DOCUMENTS as u64 - 1;
    match task {
        Task::Up => {
            check_up(&dump(&app, "chats").await, what);
            // The way back is whole, whichever attempt wrote a document.
            let report = perform(dir, &engine(dir).await, Task::Down, &bare, narrow()).await;
            assert_eq!(report.unwrap().counts.written, written, "{what}");
        }
        Task::Down => {}
        Task::Copy => {
            check_messages(dir, what).await;
            let again = perform(dir, &engine(dir).await, Task::Copy, &bare, narrow()).await;
            let again = again.unwrap().counts;
            assert_eq!((again.written, again.unchanged), (0, written), "{what}");
        }
    }
    let originals: Vec<(String, String)> = (0..DOCUMENTS)
        .map(chat)
        .map(|(k, json)| (k.to_string(), json))
        .collect();
    assert_eq!(dump(&app, "chats").await, originals, "{what}");
}

/// I7, and nothing twice.
fn check_counts(task: Task, c: Counts, what: &str) {
    let n = DOCUMENTS as u64;
    assert!(c.balanced(), "{what}: {c:?}");
    let expected = match task {
        Task::Down => (n, n - 1, 0, 1),
        Task::Up | Task::Copy => (n, n - 1, 1, 0),
    };
    assert_eq!(
        (c.enumerated, c.written, c.quarantined, c.unchanged),
        expected,
        "{what}: {c:?}"
    );
}

fn check_up(chats: &[(String, String)], what: &str) {
    assert_eq!(chats.len(), DOCUMENTS, "{what}");
    for (i, (key, json)) in chats.iter().enumerate().filter(|(i, _)| *i != BAD) {
        let body = Body::from_json(json.clone().into_bytes());
        let map = body.map().unwrap();
        assert_eq!(
            map.get("name"),
            Some(&Value::String(format!("chat {i}"))),
            "{what}: {key}"
        );
        assert_eq!(
            map.get("_schemaVersion"),
            Some(&Value::Int(3)),
            "{what}: {key}"
        );
    }
}

async fn check_messages(dir: &Path, what: &str) {
    let other = sqlite(dir, "other.db").await;
    let expected: Vec<(String, String)> = (0..DOCUMENTS)
        .filter(|i| *i != BAD)
        .flat_map(|i| {
            ["a", "b", "c"].into_iter().enumerate().map(move |(at, m)| {
                let key = format!("{}:{at}", chat(i).0);
                (key, format!(r#"{{"text":"{m}{i}"}}"#))
            })
        })
        .collect();
    assert_eq!(dump(&other, "messages").await, expected, "{what}");
    assert_eq!(
        dump(&other, PROVENANCE).await.len(),
        DOCUMENTS - 1,
        "{what}"
    );
}
