//! Upgrades a collection in place: every document to one schema version, up or down.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use whimbrel_model::ledger::{Counts, JobKind, JobSpec};
use whimbrel_model::{
    Body, Code, DocError, Document, Fingerprint, Guard, Key, Page, Reject, Schema, Write,
    WriteOutcome,
};

use crate::chunk::UPGRADE_BYTES;
use crate::decide::{Decider, Fate, Goal, Planned};
use crate::dry_run::Look;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::job::{ChunkContext, Failure, Handled, Job, Work};
use crate::ledger::{Ledger, PreimageEntry};
use crate::options::{JobOptions, Place, Report};
use crate::pages::{ByPosition, ChosenKeys, Pages, WholeCollection, batches, width};
use crate::preimage::Preimages;
use crate::tally::Tally;

/// How often a document that changes under the upgrade is read and decided anew.
pub(crate) const ROUNDS: u32 = 8;

/// Bring the documents of a collection to one schema version, in place.
#[derive(Clone, Debug)]
pub struct UpgradeJob {
    pub place: Place,
    pub schema: Schema,
    pub to: u32,
    /// Only this document.
    pub key: Option<Key>,
    pub options: JobOptions,
}

/// What an upgrade would do to one document.
#[derive(Clone, Debug)]
pub struct UpgradePreview {
    pub key: Key,
    pub from: u32,
    pub before: Body,
    pub after: Body,
}

impl Engine {
    /// Upgrades (or downgrades) and returns when every document has its fate.
    ///
    /// A document that the app changes meanwhile is read again, never overwritten. A downgrade restores
    /// the very bytes where nobody wrote since, and otherwise applies `down` to what the app wrote.
    ///
    /// # Errors
    /// The run stopped before its end; [`EngineError::resumable`] says whether calling again goes on.
    pub async fn upgrade(&self, job: UpgradeJob) -> Result<Report, EngineError> {
        job.check()?;
        if let Some(key) = &job.key {
            job.place.must_exist(job.options.patience).await?;
            self.must_not_fail(&job, key).await?;
        }
        let work = UpgradeWork::new(&job, self.ledger.clone());
        let prepared = job.prepare(job.spec(), work).await?;
        self.drive(prepared).await
    }

    /// What [`Engine::upgrade`] would do, without writing anything anywhere. `sample` receives the first
    /// `samples` documents that would change; every document that would fail comes as an
    /// [`whimbrel_model::Event::DocumentError`].
    ///
    /// # Errors
    /// The store or the ledger cannot be read, or the job is not possible.
    pub async fn preview_upgrade(
        &self,
        job: &UpgradeJob,
        samples: usize,
    ) -> Result<(Report, Vec<UpgradePreview>), EngineError> {
        job.check()?;
        let (_, documents) = job.place.must_exist(job.options.patience).await?;
        let (pages, expected) = job.pages(documents);
        let work = UpgradeWork::new(job, self.ledger.clone());
        let mut look = UpgradeLook {
            work: &work,
            previews: Vec::new(),
            samples,
        };
        let title = job.spec().title;
        let report = self
            .dry_run(title, expected, pages.as_ref(), &mut look)
            .await?;
        Ok((report, look.previews))
    }

    /// One document that was asked for by name fails in the open, not in quarantine.
    async fn must_not_fail(&self, job: &UpgradeJob, key: &Key) -> Result<(), EngineError> {
        let doc = job.place.fetch(key).await?;
        let work = UpgradeWork::new(job, self.ledger.clone());
        let cx = ChunkContext {
            run: String::new(),
            fence: 0,
            now: self.clock.now(),
            again: false,
            behind: false,
            waiting: false,
        };
        let page = Page {
            last: Some(key.clone()),
            documents: vec![doc],
            rejects: Vec::new(),
        };
        let (_, mut failures, _) = work.look(page, &cx).await?;
        match failures.pop() {
            None => Ok(()),
            Some(failure) => Err(EngineError::Document {
                key: failure.label,
                error: Box::new(failure.error),
            }),
        }
    }
}

/// Keeps the first documents that would change.
struct UpgradeLook<'w> {
    work: &'w UpgradeWork,
    previews: Vec<UpgradePreview>,
    samples: usize,
}

#[async_trait]
impl Look for UpgradeLook<'_> {
    async fn look(&mut self, page: Page, cx: &ChunkContext) -> Result<Handled, EngineError> {
        let (counts, failures, moves) = self.work.look(page, cx).await?;
        let room = self.samples.saturating_sub(self.previews.len());
        let previews = moves.into_iter().take(room).map(UpgradePreview::from);
        self.previews.extend(previews);
        Ok(Handled {
            counts,
            failures,
            ..Handled::default()
        })
    }
}

impl From<Planned> for UpgradePreview {
    fn from(planned: Planned) -> Self {
        Self {
            key: planned.doc.key,
            from: planned.from,
            before: planned.doc.body,
            after: Body::Json(planned.after),
        }
    }
}

impl UpgradeJob {
    /// The same loop for the upgrade and for its undo.
    pub(crate) async fn prepare(
        &self,
        spec: JobSpec,
        work: UpgradeWork,
    ) -> Result<Job, EngineError> {
        let (_, documents) = self.place.must_exist(self.options.patience).await?;
        let (parallel, most) = width(&self.options, &[self.place.store.as_ref()]);
        let (pages, expected) = self.pages(documents);
        let by_position = self.key.is_none().then(|| ByPosition {
            place: self.place.clone(),
            bytes: UPGRADE_BYTES,
        });
        Ok(Job {
            spec,
            pages,
            by_position,
            work: Arc::new(work),
            watched: self.place.clone(),
            expected,
            parallel,
            most,
            options: self.options.clone(),
        })
    }

    /// The documents that the job looks at, and how many they are, given how many there are in all.
    fn pages(&self, all: Option<u64>) -> (Arc<dyn Pages>, Option<u64>) {
        let place = self.place.clone();
        match &self.key {
            Some(key) => {
                let keys = vec![key.clone()];
                (Arc::new(ChosenKeys { place, keys }), Some(1))
            }
            None => {
                let bytes = UPGRADE_BYTES;
                (Arc::new(WholeCollection { place, bytes }), all)
            }
        }
    }

    pub(crate) fn check(&self) -> Result<(), EngineError> {
        self.schema.version(self.to)?;
        Ok(())
    }

    pub(crate) fn spec(&self) -> JobSpec {
        let versions: Vec<_> = self
            .schema
            .versions()
            .iter()
            .map(|v| json!({ "number": v.number, "checksum": v.code.checksum() }))
            .collect();
        let only = self
            .key
            .as_ref()
            .map(|k| format!(" key {k}"))
            .unwrap_or_default();
        JobSpec {
            kind: JobKind::Upgrade,
            title: format!("upgrade {}{only} to v{}", self.place, self.to),
            subject: upgrade_subject(&self.place),
            parameters: json!({
                "place": self.place.to_string(),
                "store": self.place.store.name(),
                "to": self.to,
                "key": self.key,
                "version_field": self.schema.version_field(),
                "versions": versions,
            }),
        }
    }
}

/// The subject under which upgrades of a collection run and their failing documents wait.
pub(crate) fn upgrade_subject(place: &Place) -> String {
    format!("upgrade {place}")
}

pub(crate) struct UpgradeWork {
    place: Place,
    decider: Arc<Decider>,
    ledger: Option<Arc<Ledger>>,
    /// Whether earlier runs changed this collection: only then can there be pre-images to look for.
    history: bool,
    /// Whether documents that are there already are noted, so that an undo leaves them there. It could not
    /// tell them from those that the app writes later.
    noting: bool,
}

impl UpgradeWork {
    pub(crate) fn new(job: &UpgradeJob, ledger: Option<Arc<Ledger>>) -> Self {
        Self::towards(Goal::Version(job.to), job, ledger)
    }

    pub(crate) fn towards(goal: Goal, job: &UpgradeJob, ledger: Option<Arc<Ledger>>) -> Self {
        let subject = upgrade_subject(&job.place);
        let history = ledger
            .as_ref()
            .is_some_and(|l| l.state().runs.values().any(|r| r.job.subject == subject));
        Self {
            place: job.place.clone(),
            decider: Arc::new(Decider {
                schema: job.schema.clone(),
                goal,
            }),
            ledger,
            history,
            noting: job.options.undoable,
        }
    }

    /// Notes the documents that were there before this run.
    async fn note_present(&self, fates: &[Fate], cx: &ChunkContext) -> Result<(), EngineError> {
        let Goal::Version(to) = self.decider.goal else {
            return Ok(());
        };
        let present = fates.iter().filter_map(|fate| match fate {
            Fate::Unchanged(key) => Some(PreimageEntry {
                key: key.clone(),
                before: bytes::Bytes::new(),
                from: to,
                to,
                // No document has this one, so the note is never taken for a write.
                after: Fingerprint(0),
            }),
            _ => None,
        });
        let entries: Vec<_> = present.collect();
        if entries.is_empty() {
            return Ok(());
        }
        let ledger = self.ledger.as_ref().ok_or_else(no_ledger)?;
        let place = self.place.to_string();
        Ok(ledger
            .put_preimages(cx.fence, &cx.run, &place, entries)
            .await?)
    }

    async fn preimages(&self, docs: &[Document], again: bool) -> Result<Preimages, EngineError> {
        match &self.ledger {
            Some(ledger) if self.history || again => {
                // A document that is there already needs none, unless this very run may have written it.
                let keys = docs
                    .iter()
                    .filter(|d| again || !self.decider.is_there(d))
                    .map(|d| d.key.clone())
                    .collect();
                Preimages::load(ledger, &self.place.to_string(), keys).await
            }
            _ => Ok(Preimages::default()),
        }
    }

    async fn decide(
        &self,
        docs: Vec<Document>,
        cx: &ChunkContext,
    ) -> Result<Vec<Fate>, EngineError> {
        let images = self.preimages(&docs, cx.again).await?;
        let (decider, now) = (Arc::clone(&self.decider), cx.now);
        let run = cx.again.then(|| cx.run.clone());
        tokio::task::spawn_blocking(move || {
            docs.into_iter()
                .map(|doc| decider.decide(doc, now, &images, run.as_deref()))
                .collect()
        })
        .await
        .map_err(|e| EngineError::Counts(format!("a transform ended abnormally ({e})")))
    }

    async fn tally(&self, page: &Page, cx: &ChunkContext) -> Result<Tally, EngineError> {
        let images = match (&self.ledger, &self.decider.goal) {
            (Some(ledger), Goal::Before { .. }) => {
                let keys = page.rejects.iter().filter_map(|r| r.key.clone()).collect();
                Preimages::load(ledger, &self.place.to_string(), keys).await?
            }
            _ => Preimages::default(),
        };
        let stays = |reject: &Reject| self.decider.never_written(reject.key.as_ref(), &images);
        Ok(Tally::from_page(page, cx, stays))
    }

    /// Decides a page without writing: counts, failures, and what would be written (counted as written).
    async fn look(
        &self,
        page: Page,
        cx: &ChunkContext,
    ) -> Result<(Counts, Vec<Failure>, Vec<Planned>), EngineError> {
        let mut tally = self.tally(&page, cx).await?;
        let fates = self.decide(page.documents, cx).await?;
        let moves = tally.sort(fates);
        tally.counts.written += moves.len() as u64;
        let Handled {
            counts, failures, ..
        } = tally.handled();
        Ok((counts, failures, moves))
    }

    async fn write(
        &self,
        moves: Vec<Planned>,
        cx: &ChunkContext,
        tally: &mut Tally,
    ) -> Result<Vec<Key>, EngineError> {
        let ledger = self.ledger.as_ref().ok_or_else(no_ledger)?;
        let entries = moves
            .iter()
            .map(|m| {
                Ok(PreimageEntry {
                    key: m.doc.key.clone(),
                    before: m.doc.body.clone().into_json(),
                    from: m.from,
                    to: m.to,
                    after: m.print,
                })
            })
            .collect::<Result<Vec<_>, EngineError>>()?;
        ledger
            .put_preimages(cx.fence, &cx.run, &self.place.to_string(), entries)
            .await?;
        let mut lost = Vec::new();
        for batch in batches(moves, self.place.store.as_ref(), |m| {
            (1, m.after.len() + m.doc.key.size())
        }) {
            let writes: Vec<Write> = batch.iter().map(|m| self.write_of(m)).collect();
            let outcomes = self.place.store.write(&writes).await?;
            for (planned, outcome) in batch.into_iter().zip(outcomes) {
                let key = planned.doc.key;
                match outcome {
                    WriteOutcome::Applied => tally.written(&key),
                    WriteOutcome::Lost => lost.push(key),
                    WriteOutcome::Refused(refusal) => tally.failed(Failure::of(
                        &key,
                        Some(planned.from),
                        DocError::new(Code::DocRefused, refusal.message).in_stage("write"),
                    )),
                }
            }
        }
        Ok(lost)
    }

    fn write_of(&self, planned: &Planned) -> Write {
        Write {
            collection: self.place.collection.clone(),
            key: planned.doc.key.clone(),
            to: Some(Body::Json(planned.after.clone())),
            guard: Guard::Unchanged(planned.doc.revision.clone()),
        }
    }
}

pub(crate) fn no_ledger() -> EngineError {
    EngineError::Job {
        code: Code::LedgerFailed,
        message: "no ledger is open, so nothing can be written".to_owned(),
    }
}

#[async_trait]
impl Work for UpgradeWork {
    async fn handle(&self, page: Page, cx: &ChunkContext) -> Result<Handled, EngineError> {
        let mut tally = self.tally(&page, cx).await?;
        let mut docs = page.documents;
        for round in 0.. {
            let fates = self.decide(docs, cx).await?;
            if self.noting && round == 0 {
                self.note_present(&fates, cx).await?;
            }
            let moves = tally.sort(fates);
            if moves.is_empty() {
                break;
            }
            let lost = self.write(moves, cx, &mut tally).await?;
            if lost.is_empty() {
                break;
            }
            tally.counts.conflicts += lost.len() as u64;
            if round == ROUNDS {
                for key in &lost {
                    let error = DocError::new(
                        Code::DocContended,
                        format!(
                            "the document changed under each of {ROUNDS} attempts; the app's writes were kept"
                        ),
                    );
                    tally.failed(Failure::of(key, None, error));
                }
                break;
            }
            let found = self.place.store.get(&self.place.collection, &lost).await?;
            tally.counts.deleted += found.iter().filter(|d| d.is_none()).count() as u64;
            docs = found.into_iter().flatten().collect();
        }
        Ok(tally.handled())
    }
}

pub(crate) fn reject_failure(reject: &whimbrel_model::Reject) -> Failure {
    Failure {
        label: reject.label.clone(),
        key: reject.key.clone(),
        version: None,
        error: DocError::new(Code::DocUnreadable, reject.reason.clone()),
    }
}
