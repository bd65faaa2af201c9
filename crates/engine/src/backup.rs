//! Writes collections into an archive.

mod chunks;
mod gather;
mod identity;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use whimbrel_archive::{
    Archive, ArchiveError, AsOf, Manifest, Recipients, SigningKey, Unfinished, Vault,
    check_collection_name,
};
use whimbrel_model::ledger::{JobKind, JobSpec, RunState, RunStatus};
use whimbrel_model::schema::DEFAULT_VERSION_FIELD;
use whimbrel_model::store::Description;
use whimbrel_model::{Code, Event, Store, StoreError, StoreErrorKind};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::job::Job;
use crate::ledger::Ledger;
use crate::options::{JobOptions, Place, Report};
use crate::patience::retry_store;

use chunks::{CHUNK_DOCUMENTS, Chunks};
use identity::Identity;
use work::BackupWork;

/// Write collections into one archive.
#[derive(Clone, Debug)]
pub struct BackupJob {
    pub collections: Vec<BackupPlace>,
    pub vault: Vault,
    /// The archive's name in the vault. `None`: that of the unfinished backup of the same collections, or
    /// else the present instant.
    pub name: Option<String>,
    /// Whom it is encrypted to.
    pub recipients: Option<Arc<Recipients>>,
    /// What signs its manifest.
    pub key: Option<Arc<SigningKey>>,
    /// Begin anew, and give up an unfinished backup of these collections.
    pub fresh: bool,
    pub options: JobOptions,
}

/// A collection to save.
#[derive(Clone, Debug)]
pub struct BackupPlace {
    pub place: Place,
    /// The field that says which schema version a document has; the manifest counts them.
    pub version_field: String,
}

impl From<Place> for BackupPlace {
    fn from(place: Place) -> Self {
        Self {
            place,
            version_field: DEFAULT_VERSION_FIELD.to_owned(),
        }
    }
}

/// An archive that was written, and the runs that wrote it.
#[derive(Clone, Debug)]
pub struct BackupReport {
    pub archive: Archive,
    pub reports: Vec<Report>,
    /// Whether an earlier attempt wrote some of it.
    pub resumed: bool,
}

impl From<ArchiveError> for EngineError {
    /// A vault that cannot be used leaves the run resumable; a bad archive does not.
    fn from(error: ArchiveError) -> Self {
        match error.code {
            Code::VaultFailed => Self::Store(store_error(error)),
            code => Self::Job {
                code,
                message: error.message,
            },
        }
    }
}

/// An archive's trouble where a store's is expected: the loop tries again what may pass.
pub(crate) fn store_error(error: ArchiveError) -> StoreError {
    let kind = match error.transient {
        true => StoreErrorKind::Transient,
        false => StoreErrorKind::Terminal,
    };
    StoreError::new(kind, error.code, "vault", error.message)
}

impl Engine {
    /// Writes an archive of the collections, and returns when its manifest is written. All collections of
    /// a store that can give a snapshot are as of one instant. An unfinished backup of the same
    /// collections into the same vault is finished, from a new snapshot; the manifest then says that it
    /// is from more than one.
    ///
    /// Reading it back is [`Engine::prove`].
    ///
    /// # Errors
    /// The backup stopped before its end; [`EngineError::resumable`] says whether calling again goes on.
    pub async fn backup(&self, job: BackupJob) -> Result<BackupReport, EngineError> {
        job.check()?;
        let holder = format!("{}: backup to {}", job.options.holder, job.vault);
        let holding = self.hold(&holder).await?;
        let result = holding.engine.backup_held(&holding.ledger, job).await;
        holding.release(result).await
    }

    async fn backup_held(
        &self,
        ledger: &Arc<Ledger>,
        mut job: BackupJob,
    ) -> Result<BackupReport, EngineError> {
        let identity = job.identify(&ledger.state(), self.clock.now()).await?;
        if job.fresh {
            job.options.abandon = true;
        }
        let unfinished = job.unfinished(&identity.name)?;
        let mut saved = Saving {
            job: &job,
            identity: &identity,
            unfinished: &unfinished,
            snapshots: BTreeMap::new(),
            reports: Vec::new(),
            parts: Vec::new(),
            resumed: false,
        };
        for index in 0..job.collections.len() {
            saved.collection(self, ledger, index).await?;
        }
        let Saving {
            reports,
            parts,
            resumed,
            ..
        } = saved;
        let collections = gather::parts(ledger, parts).await?;
        let manifest = Manifest {
            format: whimbrel_archive::FORMAT,
            tool: format!("whimbrel {}", env!("CARGO_PKG_VERSION")),
            name: identity.name.clone(),
            created: self.clock.now().to_string(),
            // The archive knows better.
            encrypted: false,
            signed_by: None,
            consistent: gather::consistent(&collections),
            collections,
        };
        let archive = match identity.finished {
            false => unfinished.finish(manifest).await?,
            true => unfinished.reopen(manifest).await?,
        };
        Ok(BackupReport {
            archive,
            reports,
            resumed,
        })
    }
}

/// A store as of one instant, where it can give that.
#[derive(Clone)]
struct Seen {
    store: Arc<dyn Store>,
    as_of: AsOf,
}

/// A backup on its way.
struct Saving<'a> {
    job: &'a BackupJob,
    identity: &'a Identity,
    unfinished: &'a Unfinished,
    /// By the store's name.
    snapshots: BTreeMap<String, Seen>,
    reports: Vec<Report>,
    parts: Vec<gather::Part>,
    resumed: bool,
}

impl Saving<'_> {
    async fn collection(
        &mut self,
        engine: &Engine,
        ledger: &Ledger,
        index: usize,
    ) -> Result<(), EngineError> {
        let wanted = &self.job.collections[index];
        let place = &wanted.place;
        let description = describe(place, &self.job.options).await?;
        let spec = self.job.spec(self.identity, index);
        let known = finished_run(ledger, &spec, &self.job.options).map(|run| Report {
            run: Some(run.run.clone()),
            title: run.job.title.clone(),
            resumed: true,
            counts: run.counts,
            elapsed: std::time::Duration::ZERO,
        });
        let (report, as_of) = match known {
            Some(report) => (report, None),
            None => {
                let seen = self.see(engine, place).await?;
                let pending = ledger.state().pending(&spec.subject).is_some();
                let report = self
                    .run(engine, index, spec, &seen, &description)
                    .await
                    .inspect_err(|_| self.tell(engine, pending))?;
                (report, Some(seen.as_of))
            }
        };
        self.resumed |= report.resumed;
        self.parts.push(gather::Part {
            place: place.clone(),
            version_field: wanted.version_field.clone(),
            description,
            run: report.run.clone().unwrap_or_default(),
            as_of,
        });
        self.reports.push(report);
        Ok(())
    }

    fn tell(&self, engine: &Engine, resumed: bool) {
        if !resumed {
            let message = format!(
                "{} has no manifest yet, so it cannot be restored; the same command goes on with it",
                self.job.vault.shown(&self.identity.name)
            );
            let run = self.identity.name.clone();
            engine.send(&Event::Notice { run, message });
        }
    }

    /// The store as of one instant, the same for all of its collections.
    async fn see(&mut self, engine: &Engine, place: &Place) -> Result<Seen, EngineError> {
        if let Some(seen) = self.snapshots.get(&place.store_name) {
            return Ok(seen.clone());
        }
        // Before the snapshot is asked for: everything that was committed by then is in it.
        let at = engine.clock.now().to_string();
        let snapshot = retry_store(self.job.options.patience, || place.store.snapshot()).await?;
        let live = snapshot.is_none();
        let seen = Seen {
            store: snapshot.unwrap_or_else(|| Arc::clone(&place.store)),
            as_of: AsOf { at, live },
        };
        self.snapshots
            .insert(place.store_name.clone(), seen.clone());
        Ok(seen)
    }

    async fn run(
        &self,
        engine: &Engine,
        index: usize,
        spec: JobSpec,
        seen: &Seen,
        description: &Description,
    ) -> Result<Report, EngineError> {
        let wanted = &self.job.collections[index];
        let frozen = Place {
            store: Arc::clone(&seen.store),
            ..wanted.place.clone()
        };
        let options = JobOptions {
            // Chunks end by bytes: an archive of many small ones would be slow to read.
            batch: Some(self.job.options.batch.unwrap_or(CHUNK_DOCUMENTS)),
            ..self.job.options.clone()
        };
        let limits = wanted.place.store.limits();
        engine
            .drive(Job {
                spec,
                pages: Arc::new(Chunks::new(frozen, description)),
                work: Arc::new(BackupWork::new(
                    self.unfinished.clone(),
                    index,
                    &wanted.version_field,
                    seen.as_of.clone(),
                )),
                by_position: None,
                watched: wanted.place.clone(),
                expected: description.documents,
                parallel: options.parallel.unwrap_or(limits.parallel).max(1),
                most: CHUNK_DOCUMENTS,
                options,
            })
            .await
    }
}

async fn describe(place: &Place, options: &JobOptions) -> Result<Description, EngineError> {
    retry_store(options.patience, || place.store.describe(&place.collection))
        .await?
        .ok_or_else(|| EngineError::NoCollection {
            place: place.to_string(),
        })
}

fn finished_run(ledger: &Ledger, spec: &JobSpec, options: &JobOptions) -> Option<RunState> {
    let state = ledger.state();
    let mut runs = state.order.iter().rev().filter_map(|id| state.runs.get(id));
    runs.find(|run| {
        run.status == RunStatus::Completed && run.job == *spec && run.step == options.step
    })
    .cloned()
}

impl BackupJob {
    fn check(&self) -> Result<(), EngineError> {
        let wrong = |message: String| {
            Err(EngineError::Job {
                code: Code::UnknownCollection,
                message,
            })
        };
        if self.collections.is_empty() {
            return wrong("there is no collection to save".to_owned());
        }
        let mut seen = std::collections::BTreeSet::new();
        for one in &self.collections {
            check_collection_name(&one.place.collection)?;
            if !seen.insert(one.place.to_string()) {
                return wrong(format!("{} is named twice", one.place));
            }
        }
        Ok(())
    }

    fn unfinished(&self, name: &str) -> Result<Unfinished, EngineError> {
        Ok(Unfinished::new(
            self.vault.clone(),
            name,
            self.recipients.clone(),
            self.key.clone(),
        )?)
    }

    /// What decides what the archive holds, but for which archive it is.
    fn parameters(&self) -> serde_json::Value {
        let collections: Vec<_> = self
            .collections
            .iter()
            .map(|c| json!([c.place.to_string(), c.place.store.name(), c.version_field]))
            .collect();
        let recipients = self.recipients.as_ref().map(|r| r.texts());
        let signed_by = self.key.as_ref().map(|key| key.public().to_string());
        json!({
            "vault": self.vault.name(),
            "collections": collections,
            "recipients": recipients,
            "signed_by": signed_by,
        })
    }

    fn spec(&self, identity: &Identity, index: usize) -> JobSpec {
        let place = &self.collections[index].place;
        let mut parameters = self.parameters();
        parameters["archive"] = json!(identity.name);
        parameters["begun"] = json!(identity.begun);
        parameters["part"] = json!(index);
        JobSpec {
            kind: JobKind::Backup,
            title: format!("backup {place} to {}", self.vault.shown(&identity.name)),
            subject: format!("backup {place} to {}", self.vault),
            parameters,
        }
    }
}
