//! Going through both ends where nothing is written down: without a ledger, or as part of what has its own.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::task::JoinSet;
use whimbrel_model::ledger::Counts;
use whimbrel_model::{Event, KeyRange, Timestamp};

use super::found::Found;
use super::work::CompareWork;
use super::{CompareJob, Prepared};
use crate::chunk::ChunkSize;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::events::Events;
use crate::job::{ChunkContext, Handled, Work};
use crate::pages::Pages;
use crate::patience::patiently;

const RUN: &str = "dry-run";

/// What the workers share.
struct Walk {
    work: Arc<CompareWork>,
    pages: Arc<dyn Pages>,
    job: CompareJob,
    now: Timestamp,
    most: u32,
    queue: Mutex<VecDeque<KeyRange>>,
    progress: Mutex<(Counts, Found)>,
    stop: Arc<AtomicBool>,
    failed: AtomicBool,
    events: Arc<Events>,
    begun: Instant,
}

impl Engine {
    pub(super) async fn walk_unrecorded(
        &self,
        job: &CompareJob,
        prepared: Prepared,
    ) -> Result<Found, EngineError> {
        let Prepared {
            work,
            pages,
            spec,
            expected,
            parallel,
            most,
            ..
        } = prepared;
        let parts = patiently(job.options.patience, || async {
            Ok(pages.partitions(parallel.saturating_mul(4)).await?)
        })
        .await?;
        self.send(&Event::Start {
            run: RUN.to_owned(),
            title: spec.title,
            resumed: false,
            done: Counts::default(),
            expected,
            partitions: u32::try_from(parts.len()).unwrap_or(u32::MAX),
            dry_run: true,
        });
        patiently(job.options.patience, || work.prepare(&parts)).await?;
        let walk = Arc::new(Walk {
            work,
            pages,
            job: job.clone(),
            now: self.clock.now(),
            most,
            queue: Mutex::new(parts.into()),
            progress: Mutex::default(),
            stop: Arc::clone(&self.stop),
            failed: AtomicBool::new(false),
            events: Arc::clone(&self.events),
            begun: Instant::now(),
        });
        walk.with_workers(parallel).await?;
        let (totals, found) = walk
            .progress
            .lock()
            .map(|mut p| std::mem::take(&mut *p))
            .unwrap_or_default();
        self.send(&Event::Complete {
            run: RUN.to_owned(),
            totals,
            elapsed_ms: milliseconds(walk.begun),
            dry_run: true,
        });
        Ok(found)
    }
}

impl Walk {
    /// Runs the workers; of their errors the first counts that is not merely the stop that another caused.
    async fn with_workers(self: &Arc<Self>, parallel: u32) -> Result<(), EngineError> {
        let mut workers = JoinSet::new();
        for _ in 0..parallel {
            let walk = Arc::clone(self);
            workers.spawn(async move { walk.work_off().await });
        }
        let mut first_error = None;
        while let Some(ended) = workers.join_next().await {
            let result = ended.unwrap_or_else(|e| {
                Err(EngineError::Counts(format!(
                    "a worker ended abnormally ({e})"
                )))
            });
            if let Err(error) = result {
                self.failed.store(true, Ordering::SeqCst);
                if first_error.is_none() || matches!(first_error, Some(EngineError::Interrupted)) {
                    first_error = Some(error);
                }
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    async fn work_off(&self) -> Result<(), EngineError> {
        let mut size = ChunkSize::new(self.job.options.batch, self.most);
        loop {
            let next = self.queue.lock().ok().and_then(|mut q| q.pop_front());
            let Some(part) = next else {
                return Ok(());
            };
            self.work_part(part, &mut size).await?;
        }
    }

    async fn work_part(&self, part: KeyRange, size: &mut ChunkSize) -> Result<(), EngineError> {
        let cx = ChunkContext {
            run: RUN.to_owned(),
            fence: 0,
            now: self.now,
            again: false,
            behind: false,
            waiting: false,
        };
        let mut through = None;
        loop {
            if self.stop.load(Ordering::SeqCst) || self.failed.load(Ordering::SeqCst) {
                return Err(EngineError::Interrupted);
            }
            let begun = Instant::now();
            let range = part.resumed_after(through.as_ref());
            let (handled, last) = patiently(self.job.options.patience, || {
                self.work.take(self.pages.as_ref(), &range, size.get(), &cx)
            })
            .await?;
            let seen = usize::try_from(handled.counts.enumerated).unwrap_or(usize::MAX);
            self.note(handled)?;
            size.learn(seen, begun.elapsed());
            match last {
                Some(last) => through = Some(last),
                None => return Ok(()),
            }
        }
    }

    fn note(&self, handled: Handled) -> Result<(), EngineError> {
        let Ok(mut progress) = self.progress.lock() else {
            return Ok(());
        };
        let (totals, all) = &mut *progress;
        totals.add(&handled.counts);
        if let Some(note) = handled.note {
            let found: Found = serde_json::from_value(*note)
                .map_err(|e| EngineError::Counts(format!("a finding cannot be read ({e})")))?;
            all.add(found);
        }
        if handled.counts.enumerated > 0 {
            self.events.send(&Event::BatchComplete {
                run: RUN.to_owned(),
                partition: 0,
                counts: handled.counts,
                totals: *totals,
                elapsed_ms: milliseconds(self.begun),
            });
        }
        Ok(())
    }
}

fn milliseconds(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}
