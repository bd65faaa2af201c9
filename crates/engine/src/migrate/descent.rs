//! The way back: every step that was begun, last first.

use whimbrel_model::ledger::{MigrationEntry, MigrationState, MigrationStatus, Rest, StepStatus};
use whimbrel_model::{Code, Moment};

use super::action::{Again, Fault, StepError};
use super::control::Signal;
use super::passage::{Direction, Ended, Passage, broken};
use crate::error::EngineError;

impl Passage<'_> {
    pub(super) async fn begin_undo(
        &self,
        cause: Option<(Code, String)>,
    ) -> Result<(), EngineError> {
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

    /// Takes every step back that was begun, last first. One that fails does not keep the others.
    pub(super) async fn down(&self) -> Result<(), EngineError> {
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
        if !state.steps[index].reversible {
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
            return self.not_back(index, error, again).await;
        }
    }

    /// A step that could not be taken back. `false`: the migration rests.
    async fn not_back(
        &self,
        index: usize,
        error: StepError,
        again: bool,
    ) -> Result<bool, EngineError> {
        let name = &self.job.migration.steps[index].name;
        let message = format!("{name} could not be taken back: {error}");
        let code = error.code;
        self.note(MigrationEntry::StepUndoFailed {
            step: u32::try_from(index).unwrap_or(u32::MAX),
            code,
            message: error.message,
            unknown: error.fault == Fault::Unknown && !again,
        })
        .await?;
        let moment = Moment::StepUndoFailed;
        self.tell(moment, Some(index), message.clone(), Some(code));
        // The store stays away, or is full: the undos in front of this one would meet the same, and must not
        // come before it.
        if again || error.fault == Fault::Stopped {
            self.rest(Rest::Stopped, code, message).await?;
            return Ok(false);
        }
        Ok(true)
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
