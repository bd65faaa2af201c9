//! Going through a job's documents without writing anything anywhere: no lock, no ledger, no store.

use std::sync::atomic::Ordering;
use std::time::Instant;

use async_trait::async_trait;
use whimbrel_model::ledger::Counts;
use whimbrel_model::{Event, Page, Timestamp};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::job::{ChunkContext, Handled};
use crate::options::Report;
use crate::pages::Pages;

/// Documents a page: enough to be quick, few enough to be stopped soon.
const PAGE: u32 = 2000;

/// Says what would become of a page's documents. (No async closure: futures that hold one are not `Send`.)
#[async_trait]
pub(crate) trait Look: Send {
    async fn look(&mut self, page: Page, cx: &ChunkContext) -> Result<Handled, EngineError>;
}

impl Engine {
    /// Gives every page to `look`, which says what would become of it, and tells it as events.
    pub(crate) async fn dry_run(
        &self,
        title: String,
        expected: Option<u64>,
        pages: &dyn Pages,
        look: &mut dyn Look,
    ) -> Result<Report, EngineError> {
        self.dry_run_at(self.clock.now(), title, expected, pages, look)
            .await
    }

    /// [`Engine::dry_run`] with the instant that transforms see as now.
    pub(crate) async fn dry_run_at(
        &self,
        now: Timestamp,
        title: String,
        expected: Option<u64>,
        pages: &dyn Pages,
        look: &mut dyn Look,
    ) -> Result<Report, EngineError> {
        let begun = Instant::now();
        let cx = ChunkContext {
            run: "dry-run".to_owned(),
            fence: 0,
            now,
            again: false,
            behind: false,
            waiting: false,
        };
        self.send(&Event::Start {
            run: cx.run.clone(),
            title: title.clone(),
            resumed: false,
            done: Counts::default(),
            expected,
            partitions: 1,
            dry_run: true,
        });
        let mut totals = Counts::default();
        for range in pages.partitions(1).await? {
            let mut after = None;
            loop {
                let page = pages
                    .next(&range.resumed_after(after.as_ref()), PAGE)
                    .await?;
                let last = page.last.clone();
                let handled = look.look(page, &cx).await?;
                after = handled.through.clone().or_else(|| last.clone());
                totals.add(&handled.counts);
                self.tell(&cx, &handled, totals, begun);
                if self.stop.load(Ordering::SeqCst) {
                    return Err(EngineError::Interrupted);
                }
                if last.is_none() {
                    break;
                }
            }
        }
        let elapsed = begun.elapsed();
        self.send(&Event::Complete {
            run: cx.run,
            totals,
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            dry_run: true,
        });
        Ok(Report {
            run: None,
            title,
            resumed: false,
            counts: totals,
            elapsed,
        })
    }

    fn tell(&self, cx: &ChunkContext, handled: &Handled, totals: Counts, begun: Instant) {
        for failure in &handled.failures {
            self.send(&failure.event(&cx.run));
        }
        if handled.counts.enumerated > 0 {
            self.send(&Event::BatchComplete {
                run: cx.run.clone(),
                partition: 0,
                counts: handled.counts,
                totals,
                elapsed_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            });
        }
    }
}
