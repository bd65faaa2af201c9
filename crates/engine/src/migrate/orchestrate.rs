//! Takes a migration to its end, or back to its beginning.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::BackoffBuilder;
use whimbrel_model::ledger::{
    MigrationEntry, MigrationState, MigrationStatus, Rest, StepPlan, StepRef, StepReport,
    StepStatus,
};
use whimbrel_model::migration::{AbortWhen, Migration};
use whimbrel_model::{Code, Entry, Event, JournalError, Moment, Timestamp};

use super::action::{Again, Fault, StepAction, StepContext, StepError};
use super::control::{Control, Former, Signal};
use super::watch::{self, Tripped, Watch, WatchSetup};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::ledger::{LeaseGuard, Ledger};
use crate::options::Place;

/// A migration made ready: what it means, and what each of its steps does.
#[derive(Clone)]
pub struct MigrationJob {
    pub migration: Arc<Migration>,
    /// One a step, in the same order.
    pub actions: Vec<Arc<dyn StepAction>>,
    /// Whose single reads the abort rules' latency is about.
    pub places: Vec<Place>,
    /// Counts the calls to the stores, for the abort rules.
    pub meter: Arc<super::metered::Metered>,
    /// Where relative paths begin.
    pub project: PathBuf,
    pub options: MigrationOptions,
}

#[derive(Clone, Debug)]
pub struct MigrationOptions {
    /// Who acts, as the history will tell: `ada@host`.
    pub by: String,
    /// Who holds the lease, as others will see it: `ada@host pid 4711`.
    pub holder: String,
    /// Rest where a step fails, instead of taking back what was done.
    pub keep: bool,
    /// Wait for approvals instead of resting.
    pub wait: bool,
    /// Go on although the file was edited since the migration was begun.
    pub drifted: bool,
    /// The first pause before another try; each following one is longer.
    pub pause: Duration,
}

impl Default for MigrationOptions {
    fn default() -> Self {
        Self {
            by: "somebody".to_owned(),
            holder: format!("pid {}", std::process::id()),
            keep: false,
            wait: false,
            drifted: false,
            pause: Duration::from_secs(1),
        }
    }
}

impl Engine {
    /// Applies a migration, or goes on with one that rests or was killed, in the direction that it was
    /// going. What became of it is in the state that comes back: applied, at rest, or taken back.
    ///
    /// # Errors
    /// It could not be begun (another one is on its way, another process holds the lease, its file was
    /// edited), or the ledger can no longer be written. Nothing is undone then, and calling again goes on.
    pub async fn apply(&self, job: MigrationJob) -> Result<MigrationState, EngineError> {
        let (ledger, lease) = self.lease_for(&job).await?;
        let result = self.apply_locked(&job, &ledger, &lease).await;
        give_back(lease, result).await
    }

    /// Takes a migration back: an applied one, or one that is on its way.
    ///
    /// # Errors
    /// As [`Engine::apply`].
    pub async fn revert(
        &self,
        job: MigrationJob,
        cause: Option<(Code, String)>,
    ) -> Result<MigrationState, EngineError> {
        let (ledger, lease) = self.lease_for(&job).await?;
        let result = self.revert_locked(&job, &ledger, &lease, cause).await;
        give_back(lease, result).await
    }

    async fn lease_for(
        &self,
        job: &MigrationJob,
    ) -> Result<(Arc<Ledger>, Arc<LeaseGuard>), EngineError> {
        let ledger = self.ledger.clone().ok_or_else(no_ledger)?;
        let holder = format!("{}: migration {}", job.options.holder, job.migration.id);
        let lease = Arc::new(ledger.lock(&holder).await?);
        Ok((ledger, lease))
    }

    async fn apply_locked(
        &self,
        job: &MigrationJob,
        ledger: &Arc<Ledger>,
        lease: &Arc<LeaseGuard>,
    ) -> Result<MigrationState, EngineError> {
        let passage = Passage::new(self, job, ledger, lease);
        let passed = passage.pass().await;
        passage.control.close().await;
        passed?;
        passage.state()
    }

    async fn revert_locked(
        &self,
        job: &MigrationJob,
        ledger: &Arc<Ledger>,
        lease: &Arc<LeaseGuard>,
        cause: Option<(Code, String)>,
    ) -> Result<MigrationState, EngineError> {
        let passage = Passage::new(self, job, ledger, lease);
        let passed = passage.pass_back(cause).await;
        passage.control.close().await;
        passed?;
        passage.state()
    }
}

async fn give_back(
    lease: Arc<LeaseGuard>,
    result: Result<MigrationState, EngineError>,
) -> Result<MigrationState, EngineError> {
    if let Some(lease) = Arc::into_inner(lease) {
        let released = lease.release().await;
        // The original error is what counts.
        if result.is_ok() {
            released?;
        }
    }
    result
}

pub(crate) fn no_ledger() -> EngineError {
    EngineError::Job {
        code: Code::LedgerFailed,
        message: "no ledger is open, so nothing can be written".to_owned(),
    }
}

enum Way {
    Nowhere,
    Up,
    Down,
}

/// How one step ended, going up.
enum Ended {
    Done,
    /// Something failed: the migration is to be taken back, unless it shall rest then.
    Back((Code, String)),
    /// Somebody wants it taken back.
    Aborted((Code, String)),
    /// It rests, and that is written down.
    Rests,
}

/// One process's work on a migration.
struct Passage<'a> {
    engine: &'a Engine,
    job: &'a MigrationJob,
    ledger: &'a Arc<Ledger>,
    lease: &'a Arc<LeaseGuard>,
    control: Control,
}

impl<'a> Passage<'a> {
    fn new(
        engine: &'a Engine,
        job: &'a MigrationJob,
        ledger: &'a Arc<Ledger>,
        lease: &'a Arc<LeaseGuard>,
    ) -> Self {
        let control = Control::new(
            engine,
            Arc::clone(ledger),
            Arc::clone(lease),
            Arc::clone(&job.migration),
        );
        Self {
            engine,
            job,
            ledger,
            lease,
            control,
        }
    }

    fn id(&self) -> &str {
        &self.job.migration.id
    }

    fn known(&self) -> Option<MigrationState> {
        self.ledger.state().migrations.get(self.id()).cloned()
    }

    fn state(&self) -> Result<MigrationState, EngineError> {
        self.known().ok_or_else(|| EngineError::Job {
            code: Code::MigrationOpen,
            message: format!("migration {} was never begun", self.id()),
        })
    }

    async fn note(&self, entry: MigrationEntry) -> Result<(), EngineError> {
        let entry = Entry::Migration {
            migration: self.id().to_owned(),
            change: entry,
        };
        self.ledger
            .append(self.lease.fence(), vec![entry], &[])
            .await?;
        Ok(())
    }

    fn tell(&self, moment: Moment, step: Option<usize>, message: String, code: Option<Code>) {
        let step = step.map(|i| {
            let number = u32::try_from(i + 1).unwrap_or(u32::MAX);
            (number, self.job.migration.steps[i].name.clone())
        });
        self.engine.send(&Event::Migration {
            migration: self.id().to_owned(),
            moment,
            step,
            message,
            code,
        });
    }

    async fn pass(&self) -> Result<(), EngineError> {
        let (way, former) = self.begin().await?;
        if !matches!(way, Way::Nowhere) {
            self.control.listen(former).await;
        }
        match way {
            Way::Nowhere => Ok(()),
            Way::Up => self.up().await,
            Way::Down => self.down().await,
        }
    }

    async fn pass_back(&self, cause: Option<(Code, String)>) -> Result<(), EngineError> {
        let state = self.state()?;
        self.refuse_another()?;
        match state.status {
            MigrationStatus::Undone | MigrationStatus::Skipped => return Ok(()),
            MigrationStatus::Undoing | MigrationStatus::UndoResting(_) => {
                self.refuse_drift(&state)?;
                self.resumed().await?;
            }
            _ => {
                self.refuse_drift(&state)?;
                self.begin_undo(cause).await?;
            }
        }
        self.control.listen(Former::Drop).await;
        self.down().await
    }

    /// Only one migration may be on its way.
    fn refuse_another(&self) -> Result<(), EngineError> {
        let (state, id) = (self.ledger.state(), self.id());
        match state.migrations.values().find(|m| m.open() && m.id != id) {
            None => Ok(()),
            Some(open) => Err(EngineError::Job {
                code: Code::MigrationOpen,
                message: format!("migration {} is on its way ({:?})", open.id, open.status),
            }),
        }
    }

    /// Decides which way to go, and writes the beginning down.
    async fn begin(&self) -> Result<(Way, Former), EngineError> {
        self.refuse_another()?;
        let state = self.ledger.state();
        let id = self.id();
        let known = state.migrations.get(id).cloned();
        match known.as_ref().map(|m| m.status) {
            None | Some(MigrationStatus::Undone | MigrationStatus::Skipped) => {
                self.start(known.as_ref()).await?;
                Ok((Way::Up, Former::Drop))
            }
            Some(MigrationStatus::Applied) => Ok((Way::Nowhere, Former::Drop)),
            Some(MigrationStatus::UndoFailed) => Err(EngineError::Job {
                code: Code::UndoFailed,
                message: format!("migration {id} could not be taken back whole"),
            }),
            Some(MigrationStatus::Running | MigrationStatus::Resting(_)) => {
                if let Some(state) = &known {
                    self.refuse_drift(state)?;
                }
                self.resumed().await?;
                Ok((Way::Up, Former::Heed))
            }
            Some(MigrationStatus::Undoing | MigrationStatus::UndoResting(_)) => {
                if let Some(state) = &known {
                    self.refuse_drift(state)?;
                }
                self.resumed().await?;
                Ok((Way::Down, Former::Drop))
            }
        }
    }

    fn refuse_drift(&self, state: &MigrationState) -> Result<(), EngineError> {
        let same_steps = state.plan.len() == self.job.actions.len();
        if same_steps && (state.checksum == self.job.migration.checksum || self.job.options.drifted)
        {
            return Ok(());
        }
        Err(EngineError::Job {
            code: Code::MigrationDrift,
            message: format!(
                "the file of migration {} is not the one that it was begun with",
                self.id()
            ),
        })
    }

    async fn start(&self, before: Option<&MigrationState>) -> Result<(), EngineError> {
        let migration = &self.job.migration;
        let steps = migration
            .steps
            .iter()
            .zip(&self.job.actions)
            .map(|(step, action)| StepPlan {
                name: step.name.clone(),
                kind: step.kind.word().to_owned(),
                reversible: action.inverse().is_some(),
            })
            .collect();
        let application = match before {
            Some(m) if m.status == MigrationStatus::Undone => m.application + 1,
            Some(m) => m.application,
            None => 1,
        };
        self.note(MigrationEntry::Started {
            application,
            description: migration.description.clone(),
            checksum: migration.checksum.clone(),
            meaning: migration.meaning.clone(),
            steps,
            by: self.job.options.by.clone(),
            tool: env!("CARGO_PKG_VERSION").to_owned(),
        })
        .await?;
        self.tell(Moment::Started, None, migration.description.clone(), None);
        Ok(())
    }

    async fn resumed(&self) -> Result<(), EngineError> {
        self.note(MigrationEntry::Resumed {
            by: self.job.options.by.clone(),
            tool: env!("CARGO_PKG_VERSION").to_owned(),
        })
        .await?;
        let message = format!("{} goes on", self.id());
        self.tell(Moment::Resumed, None, message, None);
        Ok(())
    }

    async fn begin_undo(&self, cause: Option<(Code, String)>) -> Result<(), EngineError> {
        let message = match &cause {
            Some((_, why)) => format!("taking {} back: {why}", self.id()),
            None => format!("taking {} back", self.id()),
        };
        let code = cause.as_ref().map(|(code, _)| *code);
        self.note(MigrationEntry::UndoStarted {
            by: self.job.options.by.clone(),
            cause,
        })
        .await?;
        self.tell(Moment::Undoing, None, message, code);
        Ok(())
    }

    /// All steps that are not done yet, the final validation, and the way back where something fails.
    async fn up(&self) -> Result<(), EngineError> {
        let rules = self.rules().await?;
        let watching = self.watch(Arc::clone(&rules));
        let ended = self.climb().await;
        watching.abort();
        let _ = watching.await;
        let mut ended = ended?;
        // What the last step did may be more than a rule allows, and no look has seen it yet.
        if matches!(ended, Ended::Done)
            && let Some(tripped) = rules.last_look().await
        {
            ended = self.tripped(tripped).await?;
        }
        if matches!(ended, Ended::Done) {
            // From here on nobody can ask for anything that would then be forgotten.
            self.control.close().await;
            if matches!(
                self.control.signal(),
                Some(Signal::Abort { .. } | Signal::Lost { .. })
            ) && let Some(asked) = self.heed().await?
            {
                ended = asked;
            }
        }
        match ended {
            Ended::Done => {
                self.note(MigrationEntry::Applied).await?;
                let message = format!("{} is applied", self.id());
                self.tell(Moment::Completed, None, message, None);
                Ok(())
            }
            Ended::Rests => Ok(()),
            Ended::Back((code, message)) if self.job.options.keep => {
                self.rest(Rest::Stopped, code, message).await
            }
            Ended::Back(cause) | Ended::Aborted(cause) => {
                self.control.clear();
                self.begin_undo(Some(cause)).await?;
                self.control.listen(Former::Drop).await;
                self.down().await
            }
        }
    }

    /// The abort rules, with the baseline that they compare with.
    async fn rules(&self) -> Result<Arc<Watch>, EngineError> {
        let job = self.job;
        let mut state = self.state()?;
        let timed = job
            .migration
            .abort
            .iter()
            .any(|rule| matches!(rule.when, AbortWhen::Latency { .. }));
        if timed && state.baseline.is_empty() {
            let latency = watch::baseline(&job.places).await;
            self.note(MigrationEntry::Baseline { latency }).await?;
            state = self.state()?;
        }
        let setup = WatchSetup {
            migration: self.id().to_owned(),
            events: Arc::clone(&self.engine.events),
            places: job.places.clone(),
            baseline: state.baseline,
            project: job.project.clone(),
            meter: Arc::clone(&job.meter),
        };
        Ok(Arc::new(Watch::new(job.migration.abort.clone(), setup)))
    }

    /// Looks at the rules while the steps run.
    fn watch(&self, rules: Arc<Watch>) -> tokio::task::JoinHandle<()> {
        let raise = self.control.raiser();
        tokio::spawn(async move { raise.raise(Signal::Tripped(rules.tripped().await)) })
    }

    async fn climb(&self) -> Result<Ended, EngineError> {
        loop {
            let state = self.state()?;
            let Some(index) = state.next_step() else {
                break;
            };
            match self.step(index).await? {
                Ended::Done => {}
                other => return Ok(other),
            }
        }
        self.confirm().await
    }

    /// Judges on again what later steps may have spoilt.
    async fn confirm(&self) -> Result<Ended, EngineError> {
        let actions = &self.job.actions;
        for (index, action) in actions.iter().enumerate() {
            if !actions[index + 1..].iter().any(|later| later.writes()) {
                continue;
            }
            if let Some(ended) = self.heed().await? {
                return Ok(ended);
            }
            let engine = self.engine.under(Arc::clone(self.lease));
            let state = self.state()?;
            let at = self.at(&state, index);
            let cx = self.context(&engine, &at, &state, index);
            if let Err(error) = action.validate(&cx).await {
                if error.ledger {
                    return Err(broken(error));
                }
                let name = &self.job.migration.steps[index].name;
                let message =
                    format!("at the end, what step {name} was to reach does not hold: {error}");
                return Ok(Ended::Back((error.code, message)));
            }
        }
        Ok(Ended::Done)
    }

    fn at(&self, state: &MigrationState, index: usize) -> StepRef {
        StepRef {
            migration: self.id().to_owned(),
            application: state.application,
            step: u32::try_from(index).unwrap_or(u32::MAX),
        }
    }

    fn context<'c>(
        &'c self,
        engine: &'c Engine,
        at: &'c StepRef,
        state: &'c MigrationState,
        index: usize,
    ) -> StepContext<'c> {
        StepContext {
            engine,
            at,
            state: &state.steps[index],
            begun: Timestamp::parse(&state.started_at).unwrap_or_else(|| self.engine.clock.now()),
            by: &self.job.options.by,
        }
    }

    /// One step, tried until it is done, fails for good, or must wait.
    async fn step(&self, index: usize) -> Result<Ended, EngineError> {
        let step = &self.job.migration.steps[index];
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        if let Some(ended) = self.settle_former(index).await? {
            return Ok(ended);
        }
        let mut pauses = self.pauses();
        let mut tries = 0;
        loop {
            if let Some(ended) = self.heed().await? {
                return Ok(ended);
            }
            self.note(MigrationEntry::StepStarted { step: number })
                .await?;
            self.tell(Moment::StepStarted, Some(index), step.name.clone(), None);
            let error = match self.attempt(index, Direction::Up).await {
                Ok(report) => return self.done(index, report).await,
                Err(error) => error,
            };
            if error.ledger {
                return Err(broken(error));
            }
            // A full disk, say: it is not left in the middle, for whoever goes on.
            if error.fault == Fault::Stopped && error.code != Code::RunInterrupted {
                self.failed(index, &error).await?;
            }
            // What stopped because of a signal ends as the signal says.
            if error.fault == Fault::Stopped
                && let Some(ended) = self.heed().await?
            {
                return Ok(ended);
            }
            match error.fault {
                Fault::Waiting if self.job.options.wait => {
                    self.tell(
                        Moment::Rested,
                        Some(index),
                        error.message.clone(),
                        Some(error.code),
                    );
                    self.wait_for_word(index).await?;
                }
                Fault::Waiting => {
                    self.rest(Rest::Waiting, error.code, error.message).await?;
                    return Ok(Ended::Rests);
                }
                Fault::Stopped => {
                    self.rest(Rest::Stopped, error.code, error.message).await?;
                    return Ok(Ended::Rests);
                }
                Fault::Unknown | Fault::Transient => {
                    self.failed(index, &error).await?;
                    // Whoever aborts wants it back, however far it came.
                    if self.going_back()
                        && let Some(ended) = self.heed().await?
                    {
                        return Ok(ended);
                    }
                    if let Some(ended) = self.settle_former(index).await? {
                        return Ok(ended);
                    }
                    // The store stays away: going back would meet the same.
                    if tries == step.retries {
                        self.rest(Rest::Stopped, error.code, error.message).await?;
                        return Ok(Ended::Rests);
                    }
                    tries += 1;
                    let pause = pauses.next().unwrap_or(self.job.options.pause);
                    self.tell_retry(index, &error, tries, pause);
                    let _ = tokio::time::timeout(pause, self.control.raised()).await;
                }
                Fault::Terminal => {
                    self.failed(index, &error).await?;
                    let why = format!("step {}: {error}", step.name);
                    self.tell(
                        Moment::StepFailed,
                        Some(index),
                        why.clone(),
                        Some(error.code),
                    );
                    return Ok(Ended::Back((error.code, why)));
                }
            }
        }
    }

    fn tell_retry(&self, index: usize, error: &StepError, tries: u32, pause: Duration) {
        let message = format!(
            "{error}; try {tries} of {} follows in {:.1} s",
            self.job.migration.steps[index].retries,
            pause.as_secs_f32()
        );
        self.tell(Moment::StepRetried, Some(index), message, Some(error.code));
    }

    /// Whether a signal wants the migration taken back.
    fn going_back(&self) -> bool {
        let signal = self.control.signal();
        matches!(signal, Some(Signal::Abort { .. } | Signal::Tripped(_)))
    }

    async fn done(&self, index: usize, report: StepReport) -> Result<Ended, EngineError> {
        let step = u32::try_from(index).unwrap_or(u32::MAX);
        let message = report.summary.clone();
        self.note(MigrationEntry::StepDone { step, report }).await?;
        self.tell(Moment::StepDone, Some(index), message, None);
        Ok(Ended::Done)
    }

    async fn failed(&self, index: usize, error: &StepError) -> Result<(), EngineError> {
        if error.code == Code::StepInvalid {
            self.job.meter.checks_failed(1);
        }
        self.note(MigrationEntry::StepFailed {
            step: u32::try_from(index).unwrap_or(u32::MAX),
            code: error.code,
            message: error.message.clone(),
            unknown: error.fault == Fault::Unknown,
        })
        .await
    }

    /// A step that a killed process left in the middle, or whose end is unknown: done after all, to be
    /// done again, or a person's to decide. `None`: it may begin.
    async fn settle_former(&self, index: usize) -> Result<Option<Ended>, EngineError> {
        let state = self.state()?;
        let status = state.steps[index].status;
        let action = &self.job.actions[index];
        let open = matches!(status, StepStatus::Running | StepStatus::Unknown);
        if !open || (status == StepStatus::Running && action.again() == Again::Harmless) {
            return Ok(None);
        }
        let name = &self.job.migration.steps[index].name;
        let step = u32::try_from(index).unwrap_or(u32::MAX);
        let (engine, at) = (
            self.engine.under(Arc::clone(self.lease)),
            self.at(&state, index),
        );
        let cx = self.context(&engine, &at, &state, index);
        let happened = action.judges() && action.validate(&cx).await.is_ok();
        if status == StepStatus::Running {
            let error = StepError::new(
                Fault::Unknown,
                Code::StepUnknown,
                "the process ended in the middle of it",
            );
            self.failed(index, &error).await?;
        }
        if happened {
            let (done, by) = (true, "its own validation".to_owned());
            self.note(MigrationEntry::StepSettled { step, done, by })
                .await?;
            let message = format!("step {name} did happen, says its own validation");
            self.tell(Moment::StepDone, Some(index), message, None);
            return Ok(Some(Ended::Done));
        }
        if action.again() == Again::Harmless {
            return Ok(None);
        }
        let message = format!("whether step {name} happened is unknown; somebody must look");
        self.rest(Rest::Unknown, Code::StepUnknown, message).await?;
        Ok(Some(Ended::Rests))
    }

    /// Runs a step in one direction, within its time, until it ends or a signal stops it.
    async fn attempt(&self, index: usize, direction: Direction) -> Result<StepReport, StepError> {
        let step = &self.job.migration.steps[index];
        let action = &self.job.actions[index];
        let engine = self.engine.under(Arc::clone(self.lease));
        let state = self.state()?;
        let at = self.at(&state, index);
        let cx = self.context(&engine, &at, &state, index);
        let begun = Instant::now();
        let work = async {
            let mut report = match direction {
                Direction::Up => {
                    let report = action.forward(&cx).await?;
                    self.judge(action.as_ref(), &cx, step.retries).await?;
                    report
                }
                Direction::Down => action.backward(&cx).await?,
            };
            report.elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            Ok(report)
        };
        tokio::pin!(work);
        let limit = step.timeout.unwrap_or(Duration::from_secs(u32::MAX.into()));
        tokio::select! {
            result = &mut work => return result,
            () = self.control.raised() => {}
            () = tokio::time::sleep(limit) => {
                engine.stop();
                // What it does now is finish its chunks.
                let result = work.await;
                return match result {
                    Err(e) if e.fault == Fault::Stopped => Err(StepError::terminal(
                        Code::StepTimeout,
                        format!("it took longer than {} s", limit.as_secs()),
                    )),
                    other => other,
                };
            }
        }
        engine.stop();
        work.await
    }

    /// Looks whether a step reached what it was to reach. A look that fails for the moment is taken again,
    /// and never makes the step itself run twice.
    async fn judge(
        &self,
        action: &dyn StepAction,
        cx: &StepContext<'_>,
        retries: u32,
    ) -> Result<(), StepError> {
        let mut pauses = self.pauses().take(retries as usize);
        loop {
            match action.validate(cx).await {
                Err(error) if error.fault == Fault::Transient => match pauses.next() {
                    Some(pause) if self.control.signal().is_none() => {
                        let _ = tokio::time::timeout(pause, self.control.raised()).await;
                    }
                    _ if action.again() == Again::Harmless => return Err(error),
                    _ => {
                        let fault = Fault::Unknown;
                        return Err(StepError { fault, ..error });
                    }
                },
                judged => return judged,
            }
        }
    }

    /// What the signal asks for, if there is one: a rest, or the way back.
    async fn heed(&self) -> Result<Option<Ended>, EngineError> {
        let Some(signal) = self.control.signal() else {
            return Ok(None);
        };
        Ok(Some(match signal {
            Signal::Stop => {
                let message = "stopped on request".to_owned();
                self.rest(Rest::Stopped, Code::RunInterrupted, message)
                    .await?;
                Ended::Rests
            }
            Signal::Pause { by } => {
                let message = format!("paused by {by}");
                self.rest(Rest::Paused, Code::MigrationPaused, message)
                    .await?;
                Ended::Rests
            }
            Signal::Abort { by, reason } => {
                let reason = if reason.is_empty() {
                    String::new()
                } else {
                    format!(": {reason}")
                };
                Ended::Aborted((Code::MigrationAborted, format!("aborted by {by}{reason}")))
            }
            Signal::Tripped(rule) => self.tripped(rule).await?,
            Signal::Lost { holder } => return Err(JournalError::Fenced { holder }.into()),
        }))
    }

    async fn tripped(&self, rule: Tripped) -> Result<Ended, EngineError> {
        let message = format!(
            "abort rule {}: {} (threshold {})",
            rule.rule, rule.value, rule.threshold
        );
        self.note(MigrationEntry::Tripped {
            rule: rule.rule,
            value: rule.value,
            threshold: rule.threshold,
        })
        .await?;
        Ok(Ended::Back((Code::MigrationAborted, message)))
    }

    async fn rest(&self, rest: Rest, code: Code, message: String) -> Result<(), EngineError> {
        self.note(MigrationEntry::Rested {
            rest,
            code,
            message: message.clone(),
        })
        .await?;
        self.tell(Moment::Rested, None, message, Some(code));
        Ok(())
    }

    /// Returns when the step has its go-ahead, or a signal wants something else.
    async fn wait_for_word(&self, index: usize) -> Result<(), EngineError> {
        loop {
            let state = self.ledger.refresh().await?;
            let state = state.migrations.get(self.id());
            let word = state.is_some_and(|m| m.steps[index].approved_by.is_some());
            if word || self.control.signal().is_some() {
                return Ok(());
            }
            let _ = tokio::time::timeout(Duration::from_millis(300), self.control.raised()).await;
        }
    }

    fn pauses(&self) -> impl Iterator<Item = Duration> + use<> {
        backon::ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(self.job.options.pause)
            .with_max_delay(Duration::from_secs(60))
            .without_max_times()
            .build()
    }

    /// Takes every step back that was begun, last first. One that fails does not keep the others.
    async fn down(&self) -> Result<(), EngineError> {
        for index in (0..self.job.actions.len()).rev() {
            let state = self.state()?;
            let open = matches!(
                state.steps[index].status,
                StepStatus::Done
                    | StepStatus::Running
                    | StepStatus::Failed
                    | StepStatus::Unknown
                    | StepStatus::Undoing
                    | StepStatus::UndoFailed
            );
            if open && !self.back(index, &state).await? {
                return Ok(());
            }
        }
        self.note(MigrationEntry::Undone).await?;
        let state = self.state()?;
        let (moment, message) = if state.status == MigrationStatus::Undone {
            (Moment::RolledBack, format!("{} is taken back", self.id()))
        } else {
            let message = format!("{} is taken back, but for what failed", self.id());
            (Moment::RollBackFailed, message)
        };
        self.tell(moment, None, message, state.cause.map(|(code, _)| code));
        Ok(())
    }

    /// Takes one step back. `false`: the migration rests on its way down.
    async fn back(&self, index: usize, state: &MigrationState) -> Result<bool, EngineError> {
        let step = u32::try_from(index).unwrap_or(u32::MAX);
        let name = self.job.migration.steps[index].name.clone();
        if !state.plan.get(index).is_some_and(|p| p.reversible) {
            self.note(MigrationEntry::StepKept { step }).await?;
            let message = format!("{name} has no way back and stays");
            self.tell(Moment::StepKept, Some(index), message, None);
            return Ok(true);
        }
        let cut_short = state.steps[index].status == StepStatus::Undoing
            && self.job.actions[index].again() == Again::Unknown;
        let mut pauses = self.pauses();
        let mut tries = 0;
        loop {
            if self.stops_going_back().await? {
                return Ok(false);
            }
            self.note(MigrationEntry::StepUndoStarted { step }).await?;
            let result = if cut_short && tries == 0 {
                let message = "the process ended in the middle of taking it back";
                Err(StepError::new(Fault::Unknown, Code::StepUnknown, message))
            } else {
                self.attempt(index, Direction::Down).await
            };
            let error = match result {
                Ok(report) => {
                    let message = report.summary.clone();
                    self.note(MigrationEntry::StepUndone { step, report })
                        .await?;
                    self.tell(Moment::StepUndone, Some(index), message, None);
                    return Ok(true);
                }
                Err(error) if error.ledger => return Err(broken(error)),
                Err(error) => error,
            };
            let on_request = error.fault == Fault::Stopped && error.code == Code::RunInterrupted;
            if on_request && self.stops_going_back().await? {
                return Ok(false);
            }
            let again = match error.fault {
                Fault::Transient => true,
                Fault::Unknown => self.job.actions[index].again() == Again::Harmless,
                _ => false,
            };
            if again && tries < self.job.migration.steps[index].retries {
                tries += 1;
                let pause = pauses.next().unwrap_or(self.job.options.pause);
                let message = format!("{error}; another try to take {name} back follows");
                self.tell(Moment::StepRetried, Some(index), message, Some(error.code));
                let _ = tokio::time::timeout(pause, self.control.raised()).await;
                continue;
            }
            let message = format!("{name} could not be taken back: {error}");
            self.note(MigrationEntry::StepUndoFailed {
                step,
                code: error.code,
                message: error.message,
                unknown: error.fault == Fault::Unknown && !again,
            })
            .await?;
            self.tell(
                Moment::StepUndoFailed,
                Some(index),
                message.clone(),
                Some(error.code),
            );
            // The store stays away, or is full: the undos in front of this one would meet the same, and must
            // not come before it.
            if again || error.fault == Fault::Stopped {
                self.rest(Rest::Stopped, error.code, message).await?;
                return Ok(false);
            }
            return Ok(true);
        }
    }

    /// Going back stops only for the process's own end, a pause, or a lost lease: an abort is under way
    /// already.
    async fn stops_going_back(&self) -> Result<bool, EngineError> {
        match self.control.signal() {
            None => Ok(false),
            Some(Signal::Abort { .. } | Signal::Tripped(_)) => {
                self.control.clear();
                Ok(false)
            }
            Some(_) => Ok(matches!(self.heed().await?, Some(Ended::Rests))),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Up,
    Down,
}

/// An error of the ledger that came through a step.
fn broken(error: StepError) -> EngineError {
    EngineError::Job {
        code: error.code,
        message: error.message,
    }
}

/// The runs that were made for a step, oldest first.
pub(crate) fn runs_of(ledger: &Ledger, at: &StepRef) -> Vec<whimbrel_model::ledger::RunId> {
    let state = ledger.state();
    let made = |id: &&String| {
        state
            .runs
            .get(*id)
            .is_some_and(|r| r.step.as_ref() == Some(at))
    };
    state.order.iter().filter(made).cloned().collect()
}

/// Facts by name, for a step's report.
pub(crate) fn facts<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.map(|(name, value)| (name.to_owned(), value)).into()
}
