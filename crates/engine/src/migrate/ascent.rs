//! The way up: every step in order, the final validation, and what becomes of an error.

use std::sync::Arc;
use std::time::Duration;

use whimbrel_model::ledger::{MigrationEntry, Rest, StepReport, StepStatus};
use whimbrel_model::migration::AbortWhen;
use whimbrel_model::{Code, Moment};

use super::action::{Again, Fault, StepError};
use super::control::{Former, Signal};
use super::passage::{Direction, Ended, Passage, broken};
use super::watch::{self, Watch, WatchSetup};
use crate::error::EngineError;

impl Passage<'_> {
    /// All steps that are not done yet, the final validation, and the way back where something fails.
    pub(super) async fn up(&self) -> Result<(), EngineError> {
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
            if let Some(ended) = self.after(index, error, &mut tries, &mut pauses).await? {
                return Ok(ended);
            }
        }
    }

    /// What a step's error leads to: an end, or (`None`) another try.
    async fn after(
        &self,
        index: usize,
        error: StepError,
        tries: &mut u32,
        pauses: &mut (impl Iterator<Item = Duration> + Send),
    ) -> Result<Option<Ended>, EngineError> {
        let step = &self.job.migration.steps[index];
        let code = Some(error.code);
        match error.fault {
            Fault::Waiting if self.job.options.wait => {
                self.tell(Moment::Rested, Some(index), error.message, code);
                self.wait_for_word(index).await?;
                Ok(None)
            }
            Fault::Waiting => {
                self.rest(Rest::Waiting, error.code, error.message).await?;
                Ok(Some(Ended::Rests))
            }
            Fault::Stopped => {
                self.rest(Rest::Stopped, error.code, error.message).await?;
                Ok(Some(Ended::Rests))
            }
            Fault::Unknown | Fault::Transient => {
                self.failed(index, &error).await?;
                // Whoever aborts wants it back, however far it came.
                if self.going_back()
                    && let Some(ended) = self.heed().await?
                {
                    return Ok(Some(ended));
                }
                if let Some(ended) = self.settle_former(index).await? {
                    return Ok(Some(ended));
                }
                // The store stays away: going back would meet the same.
                if *tries == step.retries {
                    self.rest(Rest::Stopped, error.code, error.message).await?;
                    return Ok(Some(Ended::Rests));
                }
                *tries += 1;
                let pause = pauses.next().unwrap_or(self.job.options.pause);
                self.tell_retry(index, &error, *tries, pause);
                let _ = tokio::time::timeout(pause, self.control.raised()).await;
                Ok(None)
            }
            Fault::Terminal => {
                self.failed(index, &error).await?;
                let why = format!("step {}: {error}", step.name);
                self.tell(Moment::StepFailed, Some(index), why.clone(), code);
                Ok(Some(Ended::Back((error.code, why))))
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
}
