//! One process's work on a migration: what the way up and the way down share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::BackoffBuilder;
use whimbrel_model::ledger::{MigrationEntry, MigrationState, Rest, StepRef, StepReport};
use whimbrel_model::{Code, Entry, Event, JournalError, Moment, Timestamp};

use super::action::{Again, Fault, StepAction, StepContext, StepError};
use super::control::{Control, Signal};
use super::orchestrate::MigrationJob;
use super::watch::Tripped;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::ledger::{LeaseGuard, Ledger};

/// How one step ended, going up.
pub(super) enum Ended {
    Done,
    /// Something failed: the migration is to be taken back, unless it shall rest then.
    Back((Code, String)),
    /// Somebody wants it taken back.
    Aborted((Code, String)),
    /// It rests, and that is written down.
    Rests,
}

/// One process's work on a migration.
pub(super) struct Passage<'a> {
    pub(super) engine: &'a Engine,
    pub(super) job: &'a MigrationJob,
    pub(super) ledger: &'a Arc<Ledger>,
    pub(super) lease: &'a Arc<LeaseGuard>,
    pub(super) control: Control,
}

impl<'a> Passage<'a> {
    pub(super) fn new(
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

    pub(super) fn id(&self) -> &str {
        &self.job.migration.id
    }

    pub(super) fn known(&self) -> Option<MigrationState> {
        self.ledger.state().migrations.get(self.id()).cloned()
    }

    pub(super) fn state(&self) -> Result<MigrationState, EngineError> {
        self.known().ok_or_else(|| EngineError::Job {
            code: Code::MigrationOpen,
            message: format!("migration {} was never begun", self.id()),
        })
    }

    pub(super) async fn note(&self, entry: MigrationEntry) -> Result<(), EngineError> {
        let entry = Entry::Migration {
            migration: self.id().to_owned(),
            change: entry,
        };
        self.ledger
            .append(self.lease.fence(), vec![entry], &[])
            .await?;
        Ok(())
    }

    pub(super) fn tell(
        &self,
        moment: Moment,
        step: Option<usize>,
        message: String,
        code: Option<Code>,
    ) {
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

    /// Only one migration may be on its way.
    pub(super) fn refuse_another(&self) -> Result<(), EngineError> {
        let (state, id) = (self.ledger.state(), self.id());
        match state.migrations.values().find(|m| m.open() && m.id != id) {
            None => Ok(()),
            Some(open) => Err(EngineError::Job {
                code: Code::MigrationOpen,
                message: format!("migration {} is on its way ({:?})", open.id, open.status),
            }),
        }
    }

    pub(super) fn refuse_drift(&self, state: &MigrationState) -> Result<(), EngineError> {
        let same_steps = state.steps.len() == self.job.actions.len();
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

    pub(super) fn at(&self, state: &MigrationState, index: usize) -> StepRef {
        StepRef {
            migration: self.id().to_owned(),
            application: state.application,
            step: u32::try_from(index).unwrap_or(u32::MAX),
        }
    }

    pub(super) fn context<'c>(
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

    /// Runs a step in one direction, within its time, until it ends or a signal stops it.
    pub(super) async fn attempt(
        &self,
        index: usize,
        direction: Direction,
    ) -> Result<StepReport, StepError> {
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
        // The way back takes the time that it takes.
        let given = step.timeout.filter(|_| direction == Direction::Up);
        let limit = given.unwrap_or(Duration::from_secs(u32::MAX.into()));
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
    pub(super) async fn judge(
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
    pub(super) async fn heed(&self) -> Result<Option<Ended>, EngineError> {
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

    pub(super) async fn tripped(&self, rule: Tripped) -> Result<Ended, EngineError> {
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

    pub(super) async fn rest(
        &self,
        rest: Rest,
        code: Code,
        message: String,
    ) -> Result<(), EngineError> {
        self.note(MigrationEntry::Rested {
            rest,
            code,
            message: message.clone(),
        })
        .await?;
        self.tell(Moment::Rested, None, message, Some(code));
        Ok(())
    }

    pub(super) fn pauses(&self) -> impl Iterator<Item = Duration> + use<> {
        backon::ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(self.job.options.pause)
            .with_max_delay(Duration::from_secs(60))
            .without_max_times()
            .build()
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Direction {
    Up,
    Down,
}

/// An error of the ledger that came through a step.
pub(super) fn broken(error: StepError) -> EngineError {
    EngineError::Job {
        code: error.code,
        message: error.message,
    }
}
