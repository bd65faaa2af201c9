//! Makes the project's migrations ready: stores opened once each, schemas and rules read, secrets looked up.

use crate::app::{holder, person};
use crate::commands::copy::{Ends, Plain, Scratch};
use crate::commands::verify::no_checks;
use crate::failure::{Failure, Snippet};
use crate::place::{self, Named};
use crate::project::Project;
use crate::schemas::{self, FileCache};
use crate::{migration_backup, migrations, verify_job};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use whimbrel_engine::migrate::{
    ApproveAction, ChecksAction, CopyAction, Metered, MeteredStore, MigrationJob, MigrationOptions,
    PhaseAction, RunAction, Secrets, StepAction, UpgradeAction, VerifyAction, check_secrets,
    wanted_by,
};
use whimbrel_engine::{
    BackupPlace, ChecksJob, ChecksOptions, CopyJob, JobOptions, Place, Threshold, UpgradeJob,
};
use whimbrel_model::check::Check;
use whimbrel_model::migration::{
    Action, BackupStep, Means, Migration, RunStep, Step, StepKind, VerifyStep,
};
use whimbrel_model::{Code, Store};

/// Opens what migrations work with. One for all that a command is about, so that no store is opened twice.
pub struct Workshop<'p> {
    project: &'p Project,
    /// Nothing may be written: a store that only a step would make is stood in for by an empty one.
    look: bool,
    options: JobOptions,
    meter: Arc<Metered>,
    opened: BTreeMap<String, Arc<dyn Store>>,
    /// Stores that steps write to; all others are opened so that they could not be.
    written: BTreeSet<String>,
    /// Stores that copies make where they are missing.
    made: BTreeSet<String>,
    /// Kept until the migrations have ended.
    scratch: Vec<Scratch>,
}

/// What a step does to documents, for showing it beforehand.
pub enum Preview {
    Upgrade(Box<UpgradeJob>),
    Copy(Vec<CopyJob>),
    Nothing,
}

/// A migration that can begin.
pub struct Ready {
    pub job: MigrationJob,
    /// One a step.
    pub previews: Vec<Preview>,
}

/// What is wrong with one step.
struct Problem {
    line: u32,
    step: String,
    failure: Failure,
}

impl<'p> Workshop<'p> {
    /// For these migrations: a store that any of them writes to is opened for writing at once.
    #[must_use]
    pub fn new(
        project: &'p Project,
        look: bool,
        options: JobOptions,
        migrations: &[&Migration],
    ) -> Self {
        let mut workshop = Self {
            project,
            look,
            options,
            meter: Arc::default(),
            opened: BTreeMap::new(),
            written: BTreeSet::new(),
            made: BTreeSet::new(),
            scratch: Vec::new(),
        };
        for step in migrations.iter().flat_map(|m| &m.steps) {
            workshop.note_stores(step);
        }
        workshop
    }

    /// Makes migrations ready, of those that this was made for.
    ///
    /// # Errors
    /// Everything that is wrong with any of them.
    pub async fn ready(
        &mut self,
        migrations: &[&Migration],
        options: &MigrationOptions,
    ) -> Result<Vec<Ready>, Failure> {
        let mut ready = Vec::new();
        let mut wrong = Vec::new();
        for migration in migrations {
            match self.one(migration, options).await {
                Ok(one) => ready.push(one),
                Err(problems) => wrong.push((*migration, problems)),
            }
        }
        if wrong.is_empty() {
            Ok(ready)
        } else {
            Err(merged(self.project, wrong))
        }
    }

    fn note_stores(&mut self, step: &Step) {
        let project = self.project;
        let mut note = |name: &str, means: Means, made: bool| {
            let Ok(resolved) = migrations::resolve(project, name, means) else {
                return;
            };
            let store = resolved.split('/').next().unwrap_or_default().to_owned();
            if made {
                self.made.insert(store.clone());
            }
            self.written.insert(store);
        };
        match &step.kind {
            StepKind::Upgrade(upgrade) => note(&upgrade.collection, Means::Collection, false),
            StepKind::Copy(copy) => note(&copy.target, Means::Target, true),
            StepKind::Run(run) => {
                for store in stores_of(run) {
                    note(store, Means::Store, false);
                }
            }
            _ => {}
        }
    }

    async fn one(
        &mut self,
        migration: &Migration,
        options: &MigrationOptions,
    ) -> Result<Ready, Vec<Problem>> {
        let mut problems = Vec::new();
        let variables = |name: &str| std::env::var(name).ok();
        let secrets = check_secrets(&self.project.dir, &wanted_by(migration), &variables);
        let secrets = Arc::new(secrets.unwrap_or_else(|errors| {
            for error in errors {
                problems.push(secret_problem(migration, &error.at, &error.to_string()));
            }
            Secrets::default()
        }));
        let job_options = match self.job_options(migration) {
            Ok(options) => options,
            Err(failure) => {
                problems.push(Problem {
                    line: 1,
                    step: String::new(),
                    failure,
                });
                self.options.clone()
            }
        };
        let mut actions: Vec<Arc<dyn StepAction>> = Vec::new();
        let mut previews = Vec::new();
        let mut places = Vec::new();
        for step in &migration.steps {
            let made = self.step(migration, step, &job_options, &secrets, &mut places);
            match made.await {
                Ok((action, preview)) => {
                    actions.push(action);
                    previews.push(preview);
                }
                Err(failure) => problems.push(Problem {
                    line: step.line,
                    step: step.name.clone(),
                    failure,
                }),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let job = MigrationJob {
            migration: Arc::new(migration.clone()),
            actions,
            places,
            meter: Arc::clone(&self.meter),
            project: self.project.dir.clone(),
            options: options.clone(),
        };
        Ok(Ready { job, previews })
    }

    fn job_options(&self, migration: &Migration) -> Result<JobOptions, Failure> {
        let mut options = self.options.clone();
        if let Some(text) = &migration.max_failed {
            options.max_failed = text.parse::<Threshold>()?;
        }
        Ok(options)
    }

    async fn step(
        &mut self,
        migration: &Migration,
        step: &Step,
        options: &JobOptions,
        secrets: &Arc<Secrets>,
        places: &mut Vec<Place>,
    ) -> Result<(Arc<dyn StepAction>, Preview), Failure> {
        Ok(match &step.kind {
            StepKind::Upgrade(upgrade) => {
                let job = self
                    .upgrade(&upgrade.collection, upgrade.to, options)
                    .await?;
                note_place(places, &job.place);
                let from = upgrade.from.unwrap_or(1);
                let preview = Preview::Upgrade(Box::new(job.clone()));
                (Arc::new(UpgradeAction { job, from }), preview)
            }
            StepKind::Copy(copy) => {
                let mut options = options.clone();
                options.skip_existing = copy.skip_existing;
                let rules = copy.rules.as_deref();
                let jobs = self
                    .copies(&copy.source, &copy.target, rules, &options)
                    .await?;
                for job in &jobs {
                    note_place(places, &job.source);
                    note_place(places, &job.target);
                }
                let preview = Preview::Copy(jobs.clone());
                (Arc::new(CopyAction { jobs }), preview)
            }
            StepKind::Verify(verify) => (self.verify(verify, options).await?, Preview::Nothing),
            StepKind::Phase(phase) => {
                let collection = self.resolved(&phase.collection, Means::Collection)?;
                let to = phase.to;
                let action = PhaseAction { collection, to };
                (Arc::new(action), Preview::Nothing)
            }
            StepKind::Run(run) => {
                let mut stores = BTreeMap::new();
                for name in stores_of(run) {
                    let named = place::parse(name, self.project)?;
                    stores.insert(name.to_owned(), self.store(&named).await?);
                }
                let action = RunAction {
                    step: run.clone(),
                    stores,
                    project: self.project.dir.clone(),
                    secrets: Arc::clone(secrets),
                };
                (Arc::new(action), Preview::Nothing)
            }
            StepKind::Approve(approve) => {
                let command = format!("whimbrel approve {} {}", migration.id, step.name);
                let step = approve.clone();
                let action = ApproveAction { step, command };
                (Arc::new(action), Preview::Nothing)
            }
            StepKind::Backup(backup) => {
                let mut action = migration_backup::action(backup, self.project, options)?;
                action.collections = self.saved(backup).await?;
                (Arc::new(action), Preview::Nothing)
            }
        })
    }

    /// The collections of a backup step. Whole stores are what is in them now.
    async fn saved(&mut self, step: &BackupStep) -> Result<Vec<BackupPlace>, Failure> {
        let mut saved: Vec<BackupPlace> = Vec::new();
        for (named, collection) in migration_backup::named(step, self.project)? {
            let store = self.store(&named).await?;
            let collections = match collection {
                Some(one) => vec![one],
                None => store.collections().await?,
            };
            for collection in collections {
                let version_field = self
                    .project
                    .collection(&named.store, &collection)
                    .version_field;
                let place = Place {
                    store: Arc::clone(&store),
                    store_name: named.store.clone(),
                    collection,
                };
                if saved
                    .iter()
                    .all(|s| s.place.to_string() != place.to_string())
                {
                    saved.push(BackupPlace {
                        place,
                        version_field,
                    });
                }
            }
        }
        Ok(saved)
    }

    fn resolved(&self, name: &str, means: Means) -> Result<String, Failure> {
        migrations::resolve(self.project, name, means)
            .map_err(|why| Failure::new(Code::MigrationInvalid, why))
    }

    async fn upgrade(
        &mut self,
        name: &str,
        to: u32,
        options: &JobOptions,
    ) -> Result<UpgradeJob, Failure> {
        let (named, collection) = place::parse_collection(name, self.project)?;
        let name = named.collection.clone().unwrap_or_default();
        let schema = schemas::load(&name, &collection)?;
        schema
            .version(to)
            .map_err(whimbrel_engine::EngineError::from)?;
        let place = Place {
            store: self.store(&named).await?,
            store_name: named.store,
            collection: name,
        };
        Ok(UpgradeJob {
            place,
            schema,
            to,
            key: None,
            options: options.clone(),
        })
    }

    async fn copies(
        &mut self,
        source: &str,
        target: &str,
        rules: Option<&str>,
        options: &JobOptions,
    ) -> Result<Vec<CopyJob>, Failure> {
        let source = place::parse_source(source, self.project)?;
        let target = place::parse(target, self.project)?;
        let source_store = self.store(&source).await?;
        let target_store = self.store(&target).await?;
        let ends = Ends {
            source,
            target,
            source_store,
            target_store,
        };
        let rules = match rules {
            Some(file) => schemas::rules(&self.project.dir.join(file))?,
            None => ends.plain_rules(&Plain::default()).await?,
        };
        let ordered = |store: &Arc<dyn Store>| store.limits().key_order;
        // Where keys stand in different orders, a comparison notes both ends.
        let scratch = if ordered(&ends.source_store) && ordered(&ends.target_store) {
            Scratch::for_rules(&rules).await?
        } else {
            Scratch::made().await?.0
        };
        let jobs = rules
            .into_iter()
            .map(|rule| ends.job(self.project, rule, scratch.store(), options.clone()))
            .collect();
        self.scratch.push(scratch);
        jobs
    }

    async fn verify(
        &mut self,
        verify: &VerifyStep,
        options: &JobOptions,
    ) -> Result<Arc<dyn StepAction>, Failure> {
        let action = match verify {
            VerifyStep::Upgraded {
                collection,
                version,
            } => {
                VerifyAction::Upgraded(Box::new(self.upgrade(collection, *version, options).await?))
            }
            VerifyStep::Copied {
                source,
                target,
                rules,
            } => {
                let rules = rules.as_deref();
                VerifyAction::Copied(self.copies(source, target, rules, options).await?)
            }
            VerifyStep::Checked {
                files,
                warnings_fail,
            } => {
                let files: Vec<_> = files.iter().map(|f| self.project.dir.join(f)).collect();
                let checks = verify_job::read(self.project, &files)?;
                let (job, scratch) = self.checks(&checks, options).await?;
                self.scratch.push(scratch);
                return Ok(Arc::new(ChecksAction {
                    job,
                    warnings_fail: *warnings_fail,
                    meter: Arc::clone(&self.meter),
                }));
            }
        };
        Ok(Arc::new(action))
    }

    /// Checks over the stores that the migration has open, so that what they read is measured too.
    async fn checks(
        &mut self,
        checks: &[Check],
        options: &JobOptions,
    ) -> Result<(ChecksJob, Scratch), Failure> {
        if checks.is_empty() {
            return Err(no_checks(self.project));
        }
        let (scratch, store) = Scratch::made().await?;
        let mut job = ChecksJob {
            checks: Vec::new(),
            options: ChecksOptions::new(store),
        };
        job.options.parallel = options.parallel;
        job.options.project.clone_from(&self.project.dir);
        for check in checks {
            let prepared = verify_job::prepared(check, self.project, self).await;
            job.checks.push(prepared);
        }
        Ok((job, scratch))
    }

    async fn store(&mut self, named: &Named) -> Result<Arc<dyn Store>, Failure> {
        if let Some(store) = self.opened.get(&named.store) {
            return Ok(Arc::clone(store));
        }
        let written = self.written.contains(&named.store);
        if written && named.options.read_only {
            return Err(Failure::new(
                Code::MigrationInvalid,
                format!(
                    "the step writes to store {}, which whimbrel.toml opens for reading only",
                    named.store
                ),
            ));
        }
        let made = self.made.contains(&named.store);
        let read_only = self.look || !written;
        let store = match named.open(read_only, made && !self.look).await {
            // A look must not make the file; what is derived does not depend on it.
            Err(failure) if self.look && made && failure.code == Some(Code::StoreMissing) => {
                whimbrel_stores::open("memory:", &named.options).await?
            }
            opened => opened?,
        };
        let store: Arc<dyn Store> = Arc::new(MeteredStore::new(store, Arc::clone(&self.meter)));
        self.opened.insert(named.store.clone(), Arc::clone(&store));
        Ok(store)
    }
}

impl verify_job::Opens for Workshop<'_> {
    async fn opened(&mut self, named: &Named) -> Result<Arc<dyn Store>, Failure> {
        self.store(named).await
    }
}

/// Who acts, and how.
#[must_use]
pub fn options(keep: bool, wait: bool, drifted: bool) -> MigrationOptions {
    MigrationOptions {
        by: person(),
        holder: holder(),
        keep,
        wait,
        drifted,
        ..MigrationOptions::default()
    }
}

fn stores_of(run: &RunStep) -> impl Iterator<Item = &str> {
    let actions = [
        Some(&run.forward),
        run.backward.as_ref(),
        run.validate.as_ref(),
    ];
    actions
        .into_iter()
        .flatten()
        .filter_map(|action| match action {
            Action::Sql { store, .. } => Some(store.as_str()),
            Action::Command { .. } => None,
        })
}

fn note_place(places: &mut Vec<Place>, place: &Place) {
    if places.iter().all(|p| p.to_string() != place.to_string()) {
        places.push(place.clone());
    }
}

/// The step stands in the place that the secret's error tells: `step notify of 0001_move`.
fn secret_problem(migration: &Migration, at: &str, message: &str) -> Problem {
    let step = migration
        .steps
        .iter()
        .find(|step| at == format!("step {} of {}", step.name, migration.id));
    Problem {
        line: step.map_or(1, |s| s.line),
        step: step.map(|s| s.name.clone()).unwrap_or_default(),
        failure: Failure::new(Code::MigrationInvalid, message),
    }
}

/// All that is wrong, each at the step that meets it, then what the step's own files say.
fn merged(project: &Project, wrong: Vec<(&Migration, Vec<Problem>)>) -> Failure {
    let all: Vec<_> = wrong
        .into_iter()
        .flat_map(|(migration, problems)| problems.into_iter().map(move |p| (migration, p)))
        .collect();
    let first = all.first().and_then(|(_, p)| p.failure.code);
    let message = match all.len() {
        1 => "a migration cannot begin".to_owned(),
        n => format!("{n} things are wrong"),
    };
    let mut failure = Failure::new(first.unwrap_or(Code::MigrationInvalid), message)
        .not_done("nothing was begun and nothing was written");
    let mut files = FileCache::default();
    for (migration, problem) in all {
        let file = migrations::file(project, &migration.id);
        let label = match problem.step.as_str() {
            "" => problem.failure.message.clone(),
            step => format!("step \"{step}\": {}", problem.failure.message),
        };
        match files.span(&file, (problem.line, 1)) {
            Some((source, span)) => failure.snippets.push(Snippet {
                file,
                source,
                span,
                label,
                help: None,
            }),
            None => failure.message.push_str(&format!("\n{file}: {label}")),
        }
        for snippet in problem.failure.snippets {
            let known = |s: &Snippet| s.file == snippet.file && s.span == snippet.span;
            if !failure.snippets.iter().any(known) {
                failure.snippets.push(snippet);
            }
        }
        for step in problem.failure.next {
            if !failure.next.contains(&step) {
                failure.next.push(step);
            }
        }
    }
    failure
}
