//! The one loop that drives every job: partitions in parallel, chunk after chunk, a checkpoint behind
//! each.

mod checkpoint;
mod walk;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use whimbrel_model::ledger::{Counts, Entry, JobSpec, PartitionState, RunId, RunState};
use whimbrel_model::{Code, DocError, Event, Key, KeyRange, Page, StoreErrorKind, Timestamp};

use checkpoint::{Done, is_due};
use walk::Leg;

use crate::chunk::ChunkSize;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::ledger::{LeaseGuard, Ledger};
use crate::options::{JobOptions, Place, Report};
use crate::pages::{ByPosition, Pages};
use crate::patience::{patiently, pauses};
use crate::throttle::Throttle;

/// What a job does with the documents of one page. It must be idempotent: after a crash, a lost
/// connection or an unknown outcome the same documents come again.
#[async_trait]
pub(crate) trait Work: Send + Sync + 'static {
    async fn handle(&self, page: Page, cx: &ChunkContext) -> Result<Handled, EngineError>;

    /// How long what became of chunks may wait until it is put down, several chunks at once. Nothing for work that
    /// writes: a crash must find what was written noted. Work that only reads does no more than read again.
    fn may_wait(&self) -> Duration {
        Duration::ZERO
    }

    /// Called once before the first chunk of an attempt, with what is left of each partition.
    async fn prepare(&self, _ranges: &[KeyRange]) -> Result<(), EngineError> {
        Ok(())
    }

    /// Reads the next documents of a range and handles them. Returns what became of them, and the last key
    /// that is done with; without one the range is at its end. A job that reads two ends side by side has its
    /// own way.
    async fn take(
        &self,
        pages: &dyn Pages,
        range: &KeyRange,
        limit: u32,
        cx: &ChunkContext,
    ) -> Result<(Handled, Option<Key>), EngineError> {
        let page = pages.next(range, limit).await?;
        let last = page.last.clone();
        // The last page may still name rows whose keys are unreadable.
        if last.is_none() && page.rejects.is_empty() {
            return Ok((Handled::default(), None));
        }
        let handled = self.handle(page, cx).await?;
        let through = handled.through.clone().or(last);
        Ok((handled, through))
    }
}

/// What is fixed for a run, and what is special about one chunk.
#[derive(Clone, Debug)]
pub(crate) struct ChunkContext {
    pub run: RunId,
    pub fence: u64,
    /// What transforms see as now, in every attempt.
    pub now: Timestamp,
    /// Whether an earlier attempt may have written some of these documents already.
    pub again: bool,
    /// Whether what is looked at came to lie behind the run's end: only what there is to do counts.
    pub behind: bool,
    /// Whether the subject has documents in quarantine, so that those that are settled must be named.
    pub waiting: bool,
}

/// A document that could not be handled.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub label: String,
    pub key: Option<Key>,
    pub version: Option<u32>,
    pub error: DocError,
}

impl Failure {
    pub(crate) fn of(key: &Key, version: Option<u32>, error: DocError) -> Self {
        Self {
            label: key.to_string(),
            key: Some(key.clone()),
            version,
            error,
        }
    }
}

/// What became of a page.
#[derive(Debug, Default)]
pub(crate) struct Handled {
    pub counts: Counts,
    pub failures: Vec<Failure>,
    /// The labels of documents that were handled, where some wait: they leave quarantine if in it.
    pub settled: Vec<String>,
    /// Where the next page begins, if not behind the page's last key.
    pub through: Option<Key>,
    /// What is to be remembered of the chunk beyond its counts, with its checkpoint.
    pub note: Option<Box<serde_json::Value>>,
}

/// A job made ready: what it is, what it does, and to which documents.
pub(crate) struct Job {
    pub spec: JobSpec,
    pub pages: Arc<dyn Pages>,
    /// The same documents as they lie in their store, for work that may take them in any order and more than
    /// once.
    pub by_position: Option<ByPosition>,
    pub work: Arc<dyn Work>,
    /// Whose single reads show how the app fares.
    pub watched: Place,
    pub expected: Option<u64>,
    pub parallel: u32,
    /// The most documents a chunk may have.
    pub most: u32,
    pub options: JobOptions,
}

struct Shared {
    ledger: Arc<Ledger>,
    lease: Arc<LeaseGuard>,
    job: Job,
    run: RunId,
    now: Timestamp,
    resumed: bool,
    /// Whether the subject had waiting documents at the start: only then is it worth looking.
    waiting: bool,
    throttle: Option<Throttle>,
    totals: Mutex<Counts>,
    cancelled: AtomicBool,
    stop: Arc<AtomicBool>,
    events: Arc<crate::events::Events>,
    begun: Instant,
}

impl Engine {
    /// Runs a job to its end, or until it must stop; resumes the unfinished run of the same job.
    pub(crate) async fn drive(&self, job: Job) -> Result<Report, EngineError> {
        let ledger = self.ledger.clone().ok_or_else(|| EngineError::Job {
            code: Code::LedgerFailed,
            message: "no ledger is open, so nothing can be written".to_owned(),
        })?;
        if let Some(lease) = &self.held {
            return self.drive_locked(ledger, Arc::clone(lease), job).await;
        }
        let holder = format!("{}: {}", job.options.holder, job.spec.title);
        let lease = Arc::new(ledger.lock(&holder).await?);
        let result = self.drive_locked(ledger, Arc::clone(&lease), job).await;
        // All workers have ended, so this is the last handle.
        if let Some(lease) = Arc::into_inner(lease) {
            let released = lease.release().await;
            // The original error is what counts; a ledger that cannot be written said so already.
            if result.is_ok() {
                released?;
            }
        }
        result
    }

    async fn drive_locked(
        &self,
        ledger: Arc<Ledger>,
        lease: Arc<LeaseGuard>,
        job: Job,
    ) -> Result<Report, EngineError> {
        let begun = Instant::now();
        let (state, resumed) = self.begin(&ledger, &lease, &job).await?;
        let shared = Arc::new(self.share(ledger, lease, job, &state, resumed).await);
        self.send(&Event::Start {
            run: shared.run.clone(),
            title: shared.job.spec.title.clone(),
            resumed,
            done: state.counts,
            expected: shared.job.expected,
            partitions: u32::try_from(state.partitions.len()).unwrap_or(u32::MAX),
            dry_run: false,
        });
        let finished = match shared.prepare(&state.partitions).await {
            Ok(()) => walk::walk(&shared, state).await,
            Err(error) => Err(error),
        };
        let finished = match finished {
            Ok(()) => shared.complete().await,
            Err(error) => Err(error),
        };
        if let Err(error) = finished {
            shared.record_failure(&error).await;
            return Err(error);
        }
        Ok(Report {
            run: Some(shared.run.clone()),
            title: shared.job.spec.title.clone(),
            resumed,
            counts: shared.totals(),
            elapsed: begun.elapsed(),
        })
    }

    /// What the workers of a run share.
    async fn share(
        &self,
        ledger: Arc<Ledger>,
        lease: Arc<LeaseGuard>,
        job: Job,
        state: &RunState,
        resumed: bool,
    ) -> Shared {
        let waiting = ledger
            .journal()
            .quarantined(Some(&job.spec.subject), None, 1)
            .await
            // Not knowing only means looking more often.
            .map_or(true, |items| !items.is_empty());
        let throttle = walk::probe(&job, state)
            .await
            .map(|key| Throttle::watch(job.watched.clone(), key, job.options.max_latency));
        Shared {
            ledger,
            lease,
            now: Timestamp::parse(&state.now).unwrap_or_else(|| self.clock.now()),
            run: state.run.clone(),
            resumed,
            waiting,
            throttle,
            totals: Mutex::new(state.counts),
            cancelled: AtomicBool::new(false),
            stop: Arc::clone(&self.stop),
            events: Arc::clone(&self.events),
            begun: Instant::now(),
            job,
        }
    }

    /// Finds the unfinished run of this job, or starts a new one.
    async fn begin(
        &self,
        ledger: &Ledger,
        lease: &LeaseGuard,
        job: &Job,
    ) -> Result<(RunState, bool), EngineError> {
        let tool = env!("CARGO_PKG_VERSION").to_owned();
        let state = ledger.state();
        if let Some(pending) = state.pending(&job.spec.subject) {
            if pending.job.parameters == job.spec.parameters && pending.step == job.options.step {
                let run = pending.run.clone();
                let entry = Entry::RunResumed {
                    run: run.clone(),
                    tool,
                };
                ledger.append(lease.fence(), vec![entry], &[]).await?;
                let state = ledger.state().runs[&run].clone();
                return Ok((state, true));
            }
            if !job.options.abandon {
                return Err(EngineError::Pending(Box::new(pending.clone())));
            }
            let entry = Entry::RunAborted {
                run: pending.run.clone(),
                code: Code::RunChanged,
                message: "given up for another job on the same collection".to_owned(),
            };
            ledger.append(lease.fence(), vec![entry], &[]).await?;
        }
        let (scan, partitions) = walk::cut(job).await?;
        let now = self.clock.now();
        let runs = &ledger.state().runs;
        let run = run_id(now, &job.spec, |id| runs.contains_key(id));
        let entry = Entry::RunStarted {
            run: run.clone(),
            job: job.spec.clone(),
            now: now.to_string(),
            partitions,
            scan,
            tool,
            step: job.options.step.clone(),
        };
        ledger.append(lease.fence(), vec![entry], &[]).await?;
        Ok((ledger.state().runs[&run].clone(), false))
    }
}

/// `20261122-190455-7f3a2c`: sorts by time, and is no run's that the ledger knows already.
fn run_id(now: Timestamp, spec: &JobSpec, taken: impl Fn(&RunId) -> bool) -> RunId {
    let text = now.to_string();
    let digits: String = text.chars().take(19).filter(char::is_ascii_digit).collect();
    let (day, time) = digits.split_at(digits.len().min(8));
    let mut salt = blake3::hash(format!("{text}{}{}", spec.title, std::process::id()).as_bytes());
    loop {
        let id = format!("{day}-{time}-{}", &salt.to_hex()[..6]);
        if !taken(&id) {
            return id;
        }
        salt = blake3::hash(salt.as_bytes());
    }
}

impl Shared {
    fn totals(&self) -> Counts {
        self.totals.lock().map(|t| *t).unwrap_or_default()
    }

    async fn prepare(&self, parts: &[PartitionState]) -> Result<(), EngineError> {
        let left = parts.iter().filter(|part| !part.done);
        let left: Vec<KeyRange> = left
            .map(|part| part.range.resumed_after(part.through.as_ref()))
            .collect();
        patiently(self.job.options.patience, || self.job.work.prepare(&left)).await
    }

    async fn work_partition(
        &self,
        index: u32,
        part: PartitionState,
        leg: Leg,
        size: &mut ChunkSize,
    ) -> Result<(), EngineError> {
        let mut waiting = Vec::new();
        let worked = self.work_chunks(index, part, leg, size, &mut waiting).await;
        if worked.is_err() && !waiting.is_empty() {
            // What was done before it stopped need not be done again. Why it stopped is what counts.
            if let Err(unwritten) = self.put_down(index, waiting).await {
                tracing::warn!(%unwritten, "chunks that were done could not be put down");
            }
        }
        worked
    }

    async fn work_chunks(
        &self,
        index: u32,
        part: PartitionState,
        leg: Leg,
        size: &mut ChunkSize,
        waiting: &mut Vec<Done>,
    ) -> Result<(), EngineError> {
        let mut through = part.through;
        // What lies right behind the checkpoint may have been written by the attempt that was killed.
        let mut again = self.resumed || leg.again;
        let mut put_down = Instant::now();
        loop {
            self.may_go_on()?;
            if let Some(throttle) = &self.throttle {
                tokio::time::sleep(throttle.pause()).await;
            }
            let begun = Instant::now();
            let range = part.range.resumed_after(through.as_ref());
            let (handled, next) = self.chunk(leg, &range, size.get(), again).await?;
            again = leg.again;
            let (counts, elapsed) = (handled.counts, begun.elapsed());
            let last = next.is_none();
            through = next.or(through);
            waiting.push(Done {
                through: through.clone(),
                last,
                handled,
            });
            if is_due(waiting, put_down, self.job.work.may_wait()) {
                self.put_down(index, std::mem::take(waiting)).await?;
                put_down = Instant::now();
            }
            self.tell(index, counts, elapsed);
            self.job.options.max_failed.check(&self.totals(), false)?;
            if last {
                return Ok(());
            }
            let seen = usize::try_from(counts.enumerated).unwrap_or(usize::MAX);
            size.learn(seen, begun.elapsed());
        }
    }

    fn tell(&self, partition: u32, counts: Counts, elapsed: Duration) {
        let totals = self.totals.lock().map(|mut totals| {
            totals.add(&counts);
            *totals
        });
        if counts.enumerated > 0 {
            self.events.send(&Event::BatchComplete {
                run: self.run.clone(),
                partition,
                counts,
                totals: totals.unwrap_or_default(),
                elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            });
        }
    }

    fn may_go_on(&self) -> Result<(), EngineError> {
        if self.stop.load(Ordering::SeqCst) || self.cancelled.load(Ordering::SeqCst) {
            return Err(EngineError::Interrupted);
        }
        self.lease.check()?;
        Ok(())
    }

    /// Reads and handles the next page, over and over while the store is away or an outcome is unknown:
    /// the documents are then read anew, so nothing is retried blindly. `None` is the range's end.
    async fn chunk(
        &self,
        leg: Leg,
        range: &KeyRange,
        limit: u32,
        mut again: bool,
    ) -> Result<(Handled, Option<Key>), EngineError> {
        let deadline = Instant::now() + self.job.options.patience;
        let mut pauses = pauses();
        loop {
            match self.try_chunk(leg, range, limit, again).await {
                Err(EngineError::Store(e))
                    if e.kind != StoreErrorKind::Terminal && Instant::now() < deadline =>
                {
                    again = true;
                    self.events.send(&Event::Notice {
                        run: self.run.clone(),
                        message: format!("{e}; trying again"),
                    });
                    tokio::time::sleep(pauses.next().unwrap_or(Duration::from_secs(5))).await;
                    self.may_go_on()?;
                }
                other => return other,
            }
        }
    }

    async fn try_chunk(
        &self,
        leg: Leg,
        range: &KeyRange,
        limit: u32,
        again: bool,
    ) -> Result<(Handled, Option<Key>), EngineError> {
        let cx = ChunkContext {
            run: self.run.clone(),
            fence: self.lease.fence(),
            now: self.now,
            again,
            behind: leg.is_behind(),
            waiting: self.waiting,
        };
        let pages = self.job.pages_of(leg.scan);
        self.job.work.take(pages, range, limit, &cx).await
    }

    async fn complete(&self) -> Result<(), EngineError> {
        let counts = self.totals();
        self.job.options.max_failed.check(&counts, true)?;
        if !counts.balanced() {
            return Err(EngineError::Counts(format!("{counts:?}")));
        }
        let entry = Entry::RunCompleted {
            run: self.run.clone(),
            counts,
        };
        self.ledger
            .append(self.lease.fence(), vec![entry], &[])
            .await?;
        self.events.send(&Event::Complete {
            run: self.run.clone(),
            totals: counts,
            elapsed_ms: u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            dry_run: false,
        });
        Ok(())
    }

    /// Leaves word of why the run stopped. A process that is killed leaves none; the lease tells then.
    async fn record_failure(&self, error: &EngineError) {
        let (run, code, message) = (self.run.clone(), error.code(), error.to_string());
        let entry = if error.resumable() {
            Entry::RunInterrupted {
                run,
                code,
                message: message.clone(),
            }
        } else {
            Entry::RunAborted {
                run,
                code,
                message: message.clone(),
            }
        };
        if let Err(unwritten) = self
            .ledger
            .append(self.lease.fence(), vec![entry], &[])
            .await
        {
            tracing::warn!(%unwritten, "the ledger could not be told why the run stopped");
        }
        self.events.send(&Event::Error {
            run: self.run.clone(),
            code,
            message,
            resumable: error.resumable(),
            totals: self.totals(),
        });
    }
}

impl Failure {
    pub(crate) fn event(&self, run: &str) -> Event {
        Event::DocumentError {
            run: run.to_owned(),
            key: self.label.clone(),
            code: self.error.code,
            message: self.error.message.clone(),
            path: self.error.path.clone(),
            stage: self.error.stage.clone(),
        }
    }
}
