//! A small project whose migrations are run, spoilt and looked at.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use whimbrel_engine::migrate::{
    ApproveAction, BackupAction, CopyAction, Metered, MigrationJob, MigrationOptions, PhaseAction,
    RunAction, Secrets, StepAction, UpgradeAction, VerifyAction,
};
use whimbrel_engine::{
    BackupPlace, CopyJob, Engine, EngineError, JobOptions, PROVENANCE, Place, UpgradeJob,
};
use whimbrel_model::ledger::{
    MigrationState, MigrationStatus, Rest, RunStatus, StepState, StepStatus,
};
use whimbrel_model::migration::{
    AbortRule, Action, ApproveStep, BackupStep, CopyStep, Migration, Phase, PhaseStep, RunStep,
    Step, StepKind, UpgradeStep, VerifyStep,
};
use whimbrel_model::rule::CopyRule;
use whimbrel_model::{Body, Guard, Key, KeyKind, Map, Store, Write, WriteOutcome};

use crate::common::{self, Stage, dump, engine_on, fill, journal, ledger, place, schema, sqlite};
use crate::trouble::Trouble;

pub const ID: &str = "0001_test";
pub const DOCUMENTS: usize = 20;

pub struct World {
    pub dir: TempDir,
    pub app: Arc<dyn Store>,
    pub other: Arc<dyn Store>,
    /// What statements call the table of notes.
    pub notes: String,
    _stage: Option<Stage>,
}

/// Everything that a migration may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    pub collections: BTreeMap<String, BTreeMap<String, String>>,
    pub phases: BTreeMap<String, Phase>,
    pub flag: bool,
}

impl Picture {
    pub fn of(&self, collection: &str) -> &BTreeMap<String, String> {
        &self.collections[collection]
    }
}

pub fn map_of(json: &str) -> Map {
    let body = Body::from_json(json.to_owned().into_bytes());
    body.map().unwrap().into_owned()
}

pub fn first(i: usize) -> (Key, String) {
    let json = format!(r#"{{ "title":"first {i}",  "n": {i}, "x": 1.50 }}"#);
    (Key::text(format!("f{i:05}")), json)
}

/// Of the chats that the scene makes, those that are fine.
pub fn chats() -> impl Iterator<Item = (Key, String)> {
    (0..=DOCUMENTS)
        .filter(|i| *i != 11)
        .map(common::scene::chat)
}

impl World {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (app, other) = (
            sqlite(dir.path(), "app.db").await,
            sqlite(dir.path(), "other.db").await,
        );
        Self::on(dir, app, other, "notes".to_owned(), DOCUMENTS).await
    }

    /// With few documents; on disk, or in memory but for the ledger.
    pub async fn small(on_disk: bool, documents: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (app, other) = if on_disk {
            let app = sqlite(dir.path(), "app.db").await;
            (app, sqlite(dir.path(), "other.db").await)
        } else {
            (
                common::store("memory:").await,
                common::store("memory:").await,
            )
        };
        Self::on(dir, app, other, "notes".to_owned(), documents).await
    }

    /// A copy of a folder, to be spoilt.
    pub async fn copied(from: &Path) -> Self {
        Self::again(common::scene::copy_folder(from)).await
    }

    /// A folder that is prepared already.
    pub async fn again(dir: TempDir) -> Self {
        Self {
            app: sqlite(dir.path(), "app.db").await,
            other: sqlite(dir.path(), "other.db").await,
            notes: "notes".to_owned(),
            dir,
            _stage: None,
        }
    }

    /// On PostgreSQL, where there is one. The ledger is a file still.
    pub async fn on_server(name: &str) -> Option<Self> {
        let stage = Stage::new(name)?;
        let all = ["chats", "first", "notes", "messages", "firsts"];
        let store = stage.store(&all).await;
        let notes = format!("{}.notes", stage.schema);
        let dir = tempfile::tempdir().unwrap();
        let world = Self::on(dir, Arc::clone(&store), store, notes, DOCUMENTS).await;
        Some(Self {
            _stage: Some(stage),
            ..world
        })
    }

    async fn on(
        dir: TempDir,
        app: Arc<dyn Store>,
        other: Arc<dyn Store>,
        notes: String,
        documents: usize,
    ) -> Self {
        fill(&app, "first", (0..documents).map(first)).await;
        fill(&app, "chats", chats().take(documents)).await;
        fill(&app, "notes", []).await;
        for target in ["messages", "firsts"] {
            other.ensure(target, &KeyKind::Text).await.unwrap();
        }
        Self {
            dir,
            app,
            other,
            notes,
            _stage: None,
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub async fn picture(&self) -> Picture {
        let mut collections = BTreeMap::new();
        for (store, name) in [
            (&self.app, "first"),
            (&self.app, "chats"),
            (&self.app, "notes"),
            (&self.other, "messages"),
            (&self.other, "firsts"),
        ] {
            collections.insert(
                name.to_owned(),
                dump(store, name).await.into_iter().collect(),
            );
        }
        // It stays behind, empty.
        let units = match self.other.describe(PROVENANCE).await.unwrap() {
            Some(_) => dump(&self.other, PROVENANCE).await.into_iter().collect(),
            None => BTreeMap::new(),
        };
        collections.insert("units".to_owned(), units);
        let state = ledger(self.path()).await.state();
        let phases = state.phases.iter();
        let moved = phases.filter(|(_, p)| p.phase != Phase::Off);
        Picture {
            collections,
            phases: moved.map(|(name, p)| (name.clone(), p.phase)).collect(),
            flag: self.path().join("flag").exists(),
        }
    }

    /// The app writes, or deletes.
    pub async fn put(&self, collection: &str, key: &str, to: Option<&str>) {
        put(&self.app, collection, key, to).await;
    }

    pub async fn state(&self) -> MigrationState {
        self.state_of(ID).await
    }

    pub async fn state_of(&self, id: &str) -> MigrationState {
        ledger(self.path()).await.state().migrations[id].clone()
    }

    /// I8 and I7: the chain holds, and every run that ended counted every document once.
    pub async fn check_ledger(&self, what: &str) {
        let ledger = ledger(self.path()).await;
        ledger
            .verify()
            .await
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        let state = ledger.state();
        for run in state.runs.values() {
            assert!(run.counts.balanced(), "{what}: {run:?}");
            assert!(run.step.is_some(), "{what}: {run:?}");
        }
        for migration in state.migrations.values() {
            for step in &migration.steps {
                let report = step.report.as_ref();
                assert!(report.is_none_or(|r| r.counts.balanced()), "{what}");
            }
            if !migration.open() {
                let over = |s: RunStatus| matches!(s, RunStatus::Completed | RunStatus::Aborted);
                let all = state.runs.values().all(|r| over(r.status));
                assert!(all, "{what}: a run is open, and no migration is");
            }
        }
    }

    /// One process, with nothing wrong.
    pub async fn session(&self) -> Session {
        self.session_with(Trouble::new(self.path())).await
    }

    pub async fn session_with(&self, trouble: Arc<Trouble>) -> Session {
        let journal = trouble.journal(journal(self.path()).await);
        Session {
            tools: Tools {
                app: trouble.store(&self.app),
                other: trouble.store(&self.other),
                notes: self.notes.clone(),
                project: self.path().to_owned(),
                pace: pace(),
            },
            engine: Arc::new(engine_on(journal).await),
            trouble,
        }
    }
}

pub async fn put(store: &Arc<dyn Store>, collection: &str, key: &str, to: Option<&str>) {
    let write = Write {
        collection: collection.into(),
        key: Key::text(key),
        to: to.map(|json| Body::from_json(json.to_owned().into_bytes())),
        guard: Guard::Any,
    };
    let outcomes = store.write(&[write]).await.unwrap();
    assert_eq!(outcomes, [WriteOutcome::Applied]);
}

/// One worker and small chunks: the order of writes is always the same, and there are several.
pub fn pace() -> JobOptions {
    JobOptions {
        batch: Some(6),
        parallel: Some(1),
        patience: Duration::from_millis(1),
        max_latency: Duration::from_secs(60),
        ..JobOptions::default()
    }
}

/// What one process works with.
pub struct Session {
    pub tools: Tools,
    pub engine: Arc<Engine>,
    pub trouble: Arc<Trouble>,
}

/// A step: its name, what the file says, and what it does.
#[derive(Clone)]
pub struct Part {
    pub name: String,
    pub kind: StepKind,
    pub action: Arc<dyn StepAction>,
}

/// Makes steps of a process's stores.
#[derive(Clone)]
pub struct Tools {
    pub app: Arc<dyn Store>,
    pub other: Arc<dyn Store>,
    pub notes: String,
    pub project: std::path::PathBuf,
    pub pace: JobOptions,
}

pub fn rule(name: &str) -> CopyRule {
    CopyRule::plain(name)
}

impl Tools {
    pub fn app_place(&self, collection: &str) -> Place {
        place(&self.app, "app", collection)
    }

    fn part(&self, name: &str, kind: StepKind, action: impl StepAction + 'static) -> Part {
        Part {
            name: name.to_owned(),
            kind,
            action: Arc::new(action),
        }
    }

    fn upgrade_job(&self, collection: &str, to: u32) -> UpgradeJob {
        UpgradeJob {
            place: self.app_place(collection),
            schema: schema(collection),
            to,
            key: None,
            options: self.pace.clone(),
        }
    }

    pub fn upgrade(&self, name: &str, collection: &str, from: u32, to: u32) -> Part {
        let kind = StepKind::Upgrade(UpgradeStep {
            collection: format!("app/{collection}"),
            to,
            from: Some(from),
        });
        let job = self.upgrade_job(collection, to);
        self.part(name, kind, UpgradeAction { job, from })
    }

    pub fn copy_job(&self, from: &str, to: &str, rule: CopyRule) -> CopyJob {
        CopyJob {
            source: self.app_place(from),
            target: place(&self.other, "other", to),
            rule,
            schema: None,
            scratch: None,
            options: self.pace.clone(),
        }
    }

    pub fn copy(&self, name: &str, from: &str, to: &str, rule: CopyRule) -> Part {
        let kind = StepKind::Copy(CopyStep {
            source: format!("app/{from}"),
            target: format!("other/{to}"),
            rules: None,
            skip_existing: false,
        });
        let jobs = vec![self.copy_job(from, to, rule)];
        self.part(name, kind, CopyAction { jobs })
    }

    pub fn verify_upgraded(&self, name: &str, collection: &str, version: u32) -> Part {
        let kind = StepKind::Verify(VerifyStep::Upgraded {
            collection: format!("app/{collection}"),
            version,
        });
        let job = Box::new(self.upgrade_job(collection, version));
        self.part(name, kind, VerifyAction::Upgraded(job))
    }

    pub fn verify_copied(&self, name: &str, from: &str, to: &str, rule: CopyRule) -> Part {
        let kind = StepKind::Verify(VerifyStep::Copied {
            source: format!("app/{from}"),
            target: format!("other/{to}"),
            rules: None,
        });
        let jobs = vec![self.copy_job(from, to, rule)];
        self.part(name, kind, VerifyAction::Copied(jobs))
    }

    /// Of the first collection, into a folder of the project.
    pub fn backup(&self, name: &str) -> Part {
        let kind = StepKind::Backup(BackupStep {
            collections: vec!["app/first".to_owned()],
            to: "backups".to_owned(),
            recipients: Vec::new(),
            sign: None,
        });
        let saved = BackupPlace {
            place: self.app_place("first"),
            version_field: "_schemaVersion".to_owned(),
        };
        let action = BackupAction {
            collections: vec![saved],
            to: "backups".to_owned(),
            base: self.project.clone(),
            recipients: None,
            key: None,
            options: self.pace.clone(),
        };
        self.part(name, kind, action)
    }

    pub fn phase(&self, name: &str, to: Phase) -> Part {
        let collection = "app/chats".to_owned();
        let kind = StepKind::Phase(PhaseStep {
            collection: collection.clone(),
            to,
        });
        self.part(name, kind, PhaseAction { collection, to })
    }

    pub fn run(&self, name: &str, step: RunStep) -> Part {
        let stores = BTreeMap::from([("app".to_owned(), Arc::clone(&self.app))]);
        let action = RunAction {
            step: step.clone(),
            stores,
            project: self.project.clone(),
            secrets: Arc::new(Secrets::default()),
        };
        self.part(name, StepKind::Run(step), action)
    }

    /// Fails where it is done twice.
    pub fn command(&self) -> RunStep {
        let shell = |script: &str| Action::Command {
            command: vec!["sh".into(), "-c".into(), script.into()],
            folder: None,
            env: BTreeMap::new(),
        };
        RunStep {
            forward: shell("test ! -e flag && echo on > flag"),
            backward: Some(shell("rm flag")),
            validate: Some(shell("test -e flag")),
            idempotent: false,
        }
    }

    /// Fails where it is done twice.
    pub fn sql(&self) -> RunStep {
        let notes = &self.notes;
        let sql = |statement: String| Action::Sql {
            store: "app".to_owned(),
            statement,
        };
        let insert = format!(r#"INSERT INTO {notes} (id, data) VALUES ('flag', '{{"on": true}}')"#);
        RunStep {
            forward: sql(insert),
            backward: Some(sql(format!("DELETE FROM {notes} WHERE id = 'flag'"))),
            validate: Some(sql(format!(
                "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM {notes} WHERE id = 'flag')"
            ))),
            idempotent: false,
        }
    }

    pub fn approve(&self, name: &str, by: &[&str]) -> Part {
        let step = ApproveStep {
            by: by.iter().map(|b| (*b).to_owned()).collect(),
            question: "shall it go on?".to_owned(),
        };
        let action = ApproveAction {
            step: step.clone(),
            command: format!("whimbrel approve {ID} {name}"),
        };
        self.part(name, StepKind::Approve(step), action)
    }
}

pub fn options() -> MigrationOptions {
    MigrationOptions {
        by: "ada@here".to_owned(),
        holder: "ada@here pid 1".to_owned(),
        pause: Duration::from_millis(2),
        ..MigrationOptions::default()
    }
}

pub fn job(id: &str, parts: &[Part], project: &Path) -> MigrationJob {
    let step = |part: &Part| Step {
        name: part.name.clone(),
        kind: part.kind.clone(),
        estimate: None,
        timeout: None,
        retries: 1,
        line: 1,
    };
    let meaning = serde_json::json!(parts.iter().map(|p| &p.name).collect::<Vec<_>>());
    let migration = Migration {
        id: id.to_owned(),
        number: id[..4].parse().unwrap(),
        description: "a test".to_owned(),
        owner: None,
        max_failed: None,
        steps: parts.iter().map(step).collect(),
        abort: Vec::new(),
        checksum: meaning.to_string(),
        meaning,
    };
    MigrationJob {
        migration: Arc::new(migration),
        actions: parts.iter().map(|p| Arc::clone(&p.action)).collect(),
        places: Vec::new(),
        meter: Arc::new(Metered::default()),
        project: project.to_owned(),
        options: options(),
    }
}

pub fn with_rules(mut job: MigrationJob, rules: Vec<AbortRule>) -> MigrationJob {
    Arc::make_mut(&mut job.migration).abort = rules;
    job
}

pub fn statuses(state: &MigrationState) -> Vec<StepStatus> {
    state.steps.iter().map(|s: &StepState| s.status).collect()
}

/// Applies, and gives every go-ahead that is waited for.
pub async fn apply_with_word(
    engine: &Engine,
    job: &MigrationJob,
) -> Result<MigrationState, EngineError> {
    loop {
        let state = engine.apply(job.clone()).await?;
        if state.status != MigrationStatus::Resting(Rest::Waiting) {
            return Ok(state);
        }
        let waits = state.next_step().unwrap();
        let name = &state.steps[waits].name;
        engine
            .approve(&job.migration, name, "ada@here", "ada")
            .await?;
    }
}
