//! Brings an archive's documents back, to where they came from or elsewhere.

mod compare;
mod pages;
mod work;

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::json;
use whimbrel_archive::{Archive, CollectionPart};
use whimbrel_model::ledger::{JobKind, JobSpec};
use whimbrel_model::{Code, Key, KeyRange};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::job::Job;
use crate::options::{JobOptions, Place, Report};
use crate::pages::Pages;
use crate::patience::retry_store;
use crate::prove::Proof;

use compare::{ConflictLook, Conflicts};
use pages::{ArchivePages, GivenDocuments};
use work::RestoreWork;

/// Keys that a message names.
const NAMED: usize = 3;

/// Bring documents of an archive back.
#[derive(Clone, Debug)]
pub struct RestoreJob {
    pub archive: Archive,
    pub parts: Vec<RestorePart>,
    /// Added to the name of each target collection: the documents come to lie beside the live ones.
    pub beside: Option<String>,
    /// Replace documents that exist and differ. Otherwise they stop the restore before it writes.
    pub overwrite: bool,
    pub options: JobOptions,
}

/// One collection of an archive, and where it goes.
#[derive(Clone, Debug)]
pub struct RestorePart {
    /// The store's name and the collection's, as the manifest has them.
    pub store: String,
    pub collection: String,
    /// Made where it is missing. `beside` is added to its collection.
    pub target: Place,
    /// Only these documents; each must be in the archive. `None`: all of them.
    pub keys: Option<Vec<Key>>,
}

/// What a restore has done.
#[derive(Clone, Debug)]
pub struct RestoreReport {
    /// What was verified before the first write; `None` where only keys were asked for, whose chunks were
    /// verified alone.
    pub proof: Option<Proof>,
    pub reports: Vec<Report>,
}

impl Engine {
    /// Verifies everything that it is going to read, looks for documents that are in the way, and only
    /// then writes. Documents that are not in the archive are left alone. Run again, it writes only what
    /// differs.
    ///
    /// # Errors
    /// The archive is not what it says, or documents are in the way: then nothing was written. Otherwise
    /// the restore stopped before its end; [`EngineError::resumable`] says whether calling again goes on.
    pub async fn restore(&self, job: RestoreJob) -> Result<RestoreReport, EngineError> {
        let holder = format!("{}: restore {}", job.options.holder, job.archive.shown());
        let holding = self.hold(&holder).await?;
        let result = holding.engine.restore_held(&job).await;
        holding.release(result).await
    }

    async fn restore_held(&self, job: &RestoreJob) -> Result<RestoreReport, EngineError> {
        let (proof, ready) = self.ready(job).await?;
        if !job.overwrite {
            let mut conflicts = Conflicts::of(job.overwrite);
            for one in ready.iter().filter(|one| !one.fresh) {
                self.look(one, &mut conflicts).await?;
            }
            conflicts.refuse(&job.archive)?;
        }
        let mut reports = Vec::with_capacity(ready.len());
        for one in ready {
            reports.push(self.write(job, one).await?);
        }
        Ok(RestoreReport { proof, reports })
    }

    /// What [`Engine::restore`] would do, without writing anything anywhere: in the counts, documents that
    /// exist and differ are `written` where the job overwrites, and fail otherwise.
    ///
    /// # Errors
    /// The archive is not what it says, or a store cannot be read.
    pub async fn preview_restore(&self, job: &RestoreJob) -> Result<RestoreReport, EngineError> {
        let (proof, ready) = self.ready(job).await?;
        let mut reports = Vec::with_capacity(ready.len());
        for one in &ready {
            let mut conflicts = Conflicts::of(job.overwrite);
            reports.push(self.look(one, &mut conflicts).await?);
        }
        Ok(RestoreReport { proof, reports })
    }

    /// Verifies what is to be read, and finds out what the targets are.
    async fn ready(&self, job: &RestoreJob) -> Result<(Option<Proof>, Vec<Ready>), EngineError> {
        let found = job.find()?;
        let whole: Vec<usize> = found
            .iter()
            .filter(|(_, part)| part.keys.is_none())
            .map(|(index, _)| *index)
            .collect();
        let proof = match whole.is_empty() {
            true => None,
            false => Some(self.prove_parts(&job.archive, &whole).await?),
        };
        let mut ready = Vec::with_capacity(found.len());
        for (index, part) in found {
            ready.push(self.prepare_part(job, index, part).await?);
        }
        Ok((proof, ready))
    }

    async fn prepare_part(
        &self,
        job: &RestoreJob,
        index: usize,
        part: &RestorePart,
    ) -> Result<Ready, EngineError> {
        let saved = &job.archive.manifest().collections[index];
        let (pages, documents): (Arc<dyn Pages>, u64) = match &part.keys {
            None => (
                Arc::new(ArchivePages::new(job.archive.clone(), index)),
                saved.documents,
            ),
            Some(keys) => {
                let found = GivenDocuments::find(&job.archive, saved, keys).await?;
                (Arc::new(found), keys.len() as u64)
            }
        };
        let target = job.target(part);
        let patience = job.options.patience;
        let exists = retry_store(patience, || target.store.describe(&target.collection))
            .await?
            .is_some();
        let (first, all) = (&target.collection, KeyRange::all());
        let fresh = !exists || {
            let page = retry_store(patience, || target.store.scan(first, &all, 1, 1)).await?;
            page.last.is_none() && page.rejects.is_empty()
        };
        Ok(Ready {
            spec: job.spec(part, &target),
            pages,
            documents,
            target,
            exists,
            fresh,
            key: saved.key.clone(),
        })
    }

    /// Goes through what is to be restored and compares it with what is there.
    async fn look(&self, one: &Ready, conflicts: &mut Conflicts) -> Result<Report, EngineError> {
        let mut look = ConflictLook {
            target: &one.target,
            exists: one.exists,
            conflicts,
        };
        let title = format!("look: {}", one.spec.title);
        self.dry_run(title, Some(one.documents), one.pages.as_ref(), &mut look)
            .await
    }

    async fn write(&self, job: &RestoreJob, one: Ready) -> Result<Report, EngineError> {
        let Ready { target, .. } = one;
        retry_store(job.options.patience, || {
            target.store.ensure(&target.collection, &one.key)
        })
        .await?;
        let limits = target.store.limits();
        self.drive(Job {
            spec: one.spec,
            pages: one.pages,
            work: Arc::new(RestoreWork::new(target.clone(), one.fresh, job.overwrite)),
            by_position: None,
            watched: target,
            expected: Some(one.documents),
            parallel: job.options.parallel.unwrap_or(limits.parallel).max(1),
            // A page is a whole chunk; it is written in batches that the store takes.
            most: u32::MAX,
            options: job.options.clone(),
        })
        .await
    }
}

/// One collection whose chunks were verified.
struct Ready {
    spec: JobSpec,
    pages: Arc<dyn Pages>,
    documents: u64,
    target: Place,
    /// Whether the target collection exists.
    exists: bool,
    /// Whether it is empty.
    fresh: bool,
    key: whimbrel_model::KeyKind,
}

impl RestoreJob {
    /// The places of the parts in the manifest.
    fn find(&self) -> Result<Vec<(usize, &RestorePart)>, EngineError> {
        let wrong = |message: String| EngineError::Job {
            code: Code::UnknownCollection,
            message,
        };
        let mut targets = HashSet::new();
        let mut found = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let known = self.archive.manifest().part(&part.store, &part.collection);
            let Some((index, _)) = known else {
                return Err(wrong(format!(
                    "{} holds no {}/{}; nothing was written",
                    self.archive.shown(),
                    part.store,
                    part.collection
                )));
            };
            let target = self.target(part);
            if !targets.insert((target.store.name().to_owned(), target.collection.clone())) {
                return Err(wrong(format!(
                    "two collections of the archive would go to {target}; nothing was written"
                )));
            }
            found.push((index, part));
        }
        if found.is_empty() {
            return Err(wrong("there is no collection to restore".to_owned()));
        }
        Ok(found)
    }

    fn target(&self, part: &RestorePart) -> Place {
        let suffix = self.beside.as_deref().unwrap_or_default();
        Place {
            collection: format!("{}{suffix}", part.target.collection),
            ..part.target.clone()
        }
    }

    fn spec(&self, part: &RestorePart, target: &Place) -> JobSpec {
        let from = format!(
            "{}/{} of {}",
            part.store,
            part.collection,
            self.archive.shown()
        );
        let keys = part.keys.as_ref().map(|keys| {
            let mut hasher = blake3::Hasher::new();
            for key in keys {
                hasher.update(key.to_string().as_bytes());
                hasher.update(b"\0");
            }
            json!({ "count": keys.len(), "blake3": hasher.finalize().to_hex().to_string() })
        });
        JobSpec {
            kind: JobKind::Restore,
            title: format!("restore {target} from {from}"),
            subject: format!("restore {target}"),
            parameters: json!({
                "archive": self.archive.shown(),
                "manifest": self.archive.hash(),
                "part": [part.store, part.collection],
                "target": [target.to_string(), target.store.name()],
                "keys": keys,
                "overwrite": self.overwrite,
            }),
        }
    }
}

/// The keys of a part as a message names them.
fn named(keys: &[String], all: u64) -> String {
    let more = all.saturating_sub(keys.len() as u64);
    match more {
        0 => keys.join(", "),
        _ => format!("{} and {more} more", keys.join(", ")),
    }
}

/// Whether chunks can be passed over by their first and last keys.
fn may_hold(part: &CollectionPart, chunk: usize, key: &Key) -> bool {
    let note = &part.chunks[chunk];
    !part.key_order || (note.first <= *key && *key <= note.last)
}
