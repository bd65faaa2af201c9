//! Copies a collection into another collection, through a rule.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use whimbrel_model::ledger::{JobKind, JobSpec};
use whimbrel_model::rule::{CopyRule, OnError};
use whimbrel_model::{Body, Code, Key, Page, Schema, Store};

use crate::chunk::CHUNK_BYTES;
use crate::deliver::Deliverer;
use crate::derive::{Derived, Deriver, Unit};
use crate::dry_run::Look;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::group::GroupPages;
use crate::job::{ChunkContext, Failure, Handled, Job, Work};
use crate::ledger::Ledger;
use crate::options::{JobOptions, Place, Report};
use crate::pages::{Pages, WholeCollection, width};
use crate::undo::UndoLog;
use crate::upgrade::reject_failure;

/// Copy the documents of one collection through one rule.
#[derive(Clone, Debug)]
pub struct CopyJob {
    pub source: Place,
    /// Where derived documents go that do not name their collection.
    pub target: Place,
    pub rule: CopyRule,
    /// Needed where the rule reads documents as a version.
    pub schema: Option<Schema>,
    /// An empty store for the order of groups; needed where the rule groups. It may be thrown away after
    /// the run.
    pub scratch: Option<Arc<dyn Store>>,
    pub options: JobOptions,
}

/// What a copy would write for one source document or group.
#[derive(Clone, Debug)]
pub struct CopyPreview {
    pub sources: Vec<Key>,
    pub targets: Vec<TargetPreview>,
}

#[derive(Clone, Debug)]
pub struct TargetPreview {
    pub collection: String,
    pub key: Key,
    pub body: Body,
}

impl Engine {
    /// Copies, and returns when every source document has its fate. A second run writes only what
    /// differs, and replaces or removes only target documents that the same source yielded before.
    ///
    /// # Errors
    /// The run stopped before its end; [`EngineError::resumable`] says whether calling again goes on.
    pub async fn copy(&self, job: CopyJob) -> Result<Report, EngineError> {
        let prepared = job.prepare(self.ledger.clone()).await?;
        self.drive(prepared).await
    }

    /// What [`Engine::copy`] would derive, without writing anything anywhere. Returns the first `samples`
    /// units; every document that would fail in the rule comes as an [`whimbrel_model::Event::DocumentError`].
    ///
    /// # Errors
    /// The source cannot be read, or the job is not possible.
    pub async fn preview_copy(
        &self,
        job: &CopyJob,
        samples: usize,
    ) -> Result<(Report, Vec<CopyPreview>), EngineError> {
        let Job {
            spec,
            pages,
            expected,
            ..
        } = job.prepare(None).await?;
        let work = CopyWork::new(job, None);
        let mut look = CopyLook {
            work: &work,
            previews: Vec::new(),
            samples,
        };
        let report = self
            .dry_run(spec.title, expected, pages.as_ref(), &mut look)
            .await?;
        Ok((report, look.previews))
    }
}

/// Keeps the first units that would be written.
struct CopyLook<'w> {
    work: &'w CopyWork,
    previews: Vec<CopyPreview>,
    samples: usize,
}

#[async_trait]
impl Look for CopyLook<'_> {
    async fn look(&mut self, page: Page, cx: &ChunkContext) -> Result<Handled, EngineError> {
        let mut handled = Handled::default();
        for unit in self.work.derive(page, cx, &mut handled).await? {
            handled.counts.written += unit.sources.len() as u64;
            handled.counts.derived += unit.outputs.len() as u64;
            if self.previews.len() < self.samples {
                self.previews.push(self.work.preview(unit));
            }
        }
        Ok(handled)
    }
}

impl CopyJob {
    /// The subject under which this copy runs and its failing documents wait.
    #[must_use]
    pub fn subject(&self) -> String {
        let into = &self.target;
        format!("copy {} to {into} by {}", self.source, self.rule.name)
    }

    pub(crate) fn spec(&self) -> JobSpec {
        let versions: Vec<_> = self
            .schema
            .iter()
            .filter(|_| self.rule.read_as.is_some())
            .flat_map(Schema::versions)
            .map(|v| json!({ "number": v.number, "checksum": v.code.checksum() }))
            .collect();
        let mut parameters = json!({
            "source": [self.source.to_string(), self.source.store.name()],
            "target": [self.target.to_string(), self.target.store.name()],
            "rule": self.rule.name,
            "checksum": self.rule.checksum,
            "read_as": self.rule.read_as,
            "versions": versions,
            "skip_existing": self.options.skip_existing,
        });
        // Only where it is so: the runs of older programs mean the same as before.
        if self.options.undoable {
            parameters["undoable"] = json!(true);
        }
        JobSpec {
            kind: JobKind::Copy,
            title: self.subject(),
            subject: self.subject(),
            parameters,
        }
    }

    pub(crate) async fn prepare(&self, ledger: Option<Arc<Ledger>>) -> Result<Job, EngineError> {
        let (_, expected) = self.source.must_exist(self.options.patience).await?;
        self.check()?;
        let stores = [self.source.store.as_ref(), self.target.store.as_ref()];
        let (mut parallel, most) = width(&self.options, &stores);
        let work = CopyWork::new(self, ledger);
        let pages: Arc<dyn Pages> = match (&self.rule.group, &self.scratch) {
            (Some(grouping), Some(scratch)) => {
                parallel = 1;
                Arc::new(GroupPages::gather(&self.source, grouping, Arc::clone(scratch)).await?)
            }
            (Some(_), None) => {
                return Err(EngineError::Job {
                    code: Code::RulesInvalid,
                    message: format!(
                        "rule {} groups documents, which needs a scratch store",
                        self.rule.name
                    ),
                });
            }
            (None, _) => Arc::new(WholeCollection {
                place: self.source.clone(),
                bytes: CHUNK_BYTES,
            }),
        };
        Ok(Job {
            spec: self.spec(),
            pages,
            work: Arc::new(work),
            by_position: None,
            watched: self.source.clone(),
            expected,
            parallel,
            most,
            options: self.options.clone(),
        })
    }

    pub(crate) fn check(&self) -> Result<(), EngineError> {
        let wrong = |message: String| {
            Err(EngineError::Job {
                code: Code::RulesInvalid,
                message,
            })
        };
        if let Some(version) = self.rule.read_as {
            match &self.schema {
                Some(schema) => {
                    schema.version(version)?;
                }
                None => {
                    return wrong(format!(
                        "rule {} reads documents as v{version}, but {} has no schema",
                        self.rule.name, self.source
                    ));
                }
            }
        }
        let same_store = self.source.store.name() == self.target.store.name();
        if same_store && self.source.collection == self.target.collection {
            return wrong(format!(
                "source and target are the same collection, {}",
                self.source
            ));
        }
        Ok(())
    }
}

pub(crate) struct CopyWork {
    source: Place,
    deriver: Arc<Deriver>,
    pub(crate) deliverer: Arc<Deliverer>,
    scratch: Option<Arc<dyn Store>>,
}

impl CopyWork {
    /// `ledger` is where an undoable copy records what it does.
    pub(crate) fn new(job: &CopyJob, ledger: Option<Arc<Ledger>>) -> Self {
        let log = ledger
            .filter(|_| job.options.undoable)
            .map(|ledger| UndoLog {
                ledger,
                target: job.target.clone(),
            });
        let deriver = Deriver::new(job);
        // Only the instant differs between two runs; the source id is content.
        let ignored = job.rule.migrated_at.iter().cloned().collect();
        Self {
            source: job.source.clone(),
            deriver: Arc::new(deriver),
            deliverer: Arc::new(Deliverer::new(
                job.target.clone(),
                job.options.skip_existing,
                ignored,
                log,
            )),
            scratch: job.scratch.clone(),
        }
    }

    fn preview(&self, unit: Unit) -> CopyPreview {
        let targets = unit.outputs.into_iter().map(|o| TargetPreview {
            collection: o
                .collection
                .unwrap_or_else(|| self.deliverer.target.collection.clone()),
            key: o.key,
            body: o.body,
        });
        CopyPreview {
            targets: targets.collect(),
            sources: unit.sources,
        }
    }

    /// Everything of a page up to the target: what is left out and what fails goes into `handled`.
    pub(crate) async fn derive(
        &self,
        page: Page,
        cx: &ChunkContext,
        handled: &mut Handled,
    ) -> Result<Vec<Unit>, EngineError> {
        let derived = match (&self.deriver.rule.group, &self.scratch) {
            (Some(_), Some(scratch)) => {
                crate::group::derive_page(
                    &self.source,
                    scratch.as_ref(),
                    &self.deriver,
                    page,
                    cx,
                    handled,
                )
                .await?
            }
            _ => {
                handled.counts.enumerated += (page.documents.len() + page.rejects.len()) as u64;
                let rejects = page.rejects.iter().map(reject_failure).collect();
                let (deriver, now) = (Arc::clone(&self.deriver), cx.now);
                let mut derived: Vec<Derived> = tokio::task::spawn_blocking(move || {
                    page.documents
                        .into_iter()
                        .map(|doc| deriver.one(doc, now))
                        .collect()
                })
                .await
                .map_err(|e| EngineError::Counts(format!("a transform ended abnormally ({e})")))?;
                derived.push(Derived::Failed(rejects));
                derived
            }
        };
        let mut units = Vec::with_capacity(derived.len());
        for one in derived {
            match one {
                Derived::Unit(unit) => units.push(unit),
                Derived::Filtered(keys) => handled.counts.skipped += keys.len() as u64,
                Derived::Failed(failures) => {
                    for failure in failures {
                        self.fail(failure, handled)?;
                    }
                }
            }
        }
        Ok(units)
    }

    fn fail(&self, failure: Failure, handled: &mut Handled) -> Result<(), EngineError> {
        match self.deriver.rule.on_error {
            OnError::Quarantine => {
                handled.counts.quarantined += 1;
                handled.failures.push(failure);
            }
            OnError::Skip => handled.counts.skipped += 1,
            OnError::Abort => {
                return Err(EngineError::Document {
                    key: failure.label,
                    error: Box::new(failure.error),
                });
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Work for CopyWork {
    async fn handle(&self, page: Page, cx: &ChunkContext) -> Result<Handled, EngineError> {
        let mut handled = Handled::default();
        let units = self.derive(page, cx, &mut handled).await?;
        let mut delivered = Handled::default();
        self.deliverer.deliver(units, cx, &mut delivered).await?;
        handled.counts.add(&delivered.counts);
        handled.settled = delivered.settled;
        if self.deriver.rule.on_error == OnError::Quarantine {
            handled.failures.append(&mut delivered.failures);
        } else {
            // What the target refused follows the rule's word too.
            handled.counts.quarantined -= delivered.counts.quarantined;
            for failure in delivered.failures {
                self.fail(failure, &mut handled)?;
            }
        }
        Ok(handled)
    }
}
