//! Whether a target holds what a copy would write into it.

use std::sync::Arc;

use async_trait::async_trait;
use whimbrel_model::Page;
use whimbrel_model::ledger::RunStatus;
use whimbrel_model::{DocError, Timestamp};

use crate::copy::{CopyJob, CopyWork};
use crate::dry_run::Look;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::job::{ChunkContext, Failure, Handled, Job};
use crate::options::Report;

impl Engine {
    /// Derives every target document and compares it with the one that is there; writes nothing. In the
    /// counts, `written` are source documents whose targets are missing or different; each of these comes as
    /// an [`whimbrel_model::Event::DocumentError`] too. Transforms see the instant of the last finished run
    /// of this copy as now, so that what they stamp is the same.
    ///
    /// # Errors
    /// A store cannot be read, or the job is not possible.
    pub async fn compare_copy(&self, job: &CopyJob) -> Result<Report, EngineError> {
        let Job {
            spec,
            pages,
            expected,
            ..
        } = job.prepare(None).await?;
        let work = CopyWork::new(job, None);
        let now = self.instant_of(&spec.subject);
        let mut look = CompareLook {
            engine: self,
            work: &work,
        };
        let title = format!("compare: {}", spec.title);
        self.dry_run_at(now, title, expected, pages.as_ref(), &mut look)
            .await
    }

    /// What the last finished run of a subject saw as now.
    fn instant_of(&self, subject: &str) -> Timestamp {
        let state = self.ledger.as_ref().map(|l| Arc::clone(&l.state()));
        let found = state.as_ref().and_then(|state| {
            let runs = state.order.iter().rev().filter_map(|id| state.runs.get(id));
            let mut done = runs.filter(|r| {
                r.job.subject == subject && r.status == RunStatus::Completed && r.job.is_forward()
            });
            Timestamp::parse(&done.next()?.now)
        });
        found.unwrap_or_else(|| self.clock.now())
    }

    fn tell_of(&self, cx: &ChunkContext, sources: &[whimbrel_model::Key], error: &DocError) {
        for key in sources {
            let failure = Failure::of(key, None, error.clone());
            self.send(&failure.event(&cx.run));
        }
    }
}

struct CompareLook<'w> {
    engine: &'w Engine,
    work: &'w CopyWork,
}

#[async_trait]
impl Look for CompareLook<'_> {
    async fn look(&mut self, page: Page, cx: &ChunkContext) -> Result<Handled, EngineError> {
        let mut handled = Handled::default();
        let units = self.work.derive(page, cx, &mut handled).await?;
        for (unit, differs) in self.work.deliverer.differing(units).await? {
            let sources = unit.sources.len() as u64;
            match differs {
                Ok(false) => handled.counts.unchanged += sources,
                Ok(true) => {
                    handled.counts.written += sources;
                    self.engine.tell_of(cx, &unit.sources, &differs_error());
                }
                Err(error) => {
                    handled.counts.quarantined += sources;
                    self.engine.tell_of(cx, &unit.sources, &error);
                }
            }
        }
        Ok(handled)
    }
}

fn differs_error() -> DocError {
    DocError::new(
        whimbrel_model::Code::DocDiffers,
        "the target lacks it, or holds something else",
    )
}
