//! The `run` step: a command or statements of the team's own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use whimbrel_model::ledger::StepReport;
use whimbrel_model::migration::{Action, Inverse, RunStep};
use whimbrel_model::{Code, Event, Store, StoreError, StoreErrorKind};

use super::action::{Again, Estimate, Fault, StepAction, StepContext, StepError};
use super::documents::nothing_to_undo;
use super::process::{Ended, Finished, Program, Trouble};
use super::secrets::Secrets;
use crate::error::EngineError;

/// How much of a command's output is shown.
const SHOWN_BYTES: usize = 4 * 1024;
const LOOK_FOR_STOP: Duration = Duration::from_millis(50);

/// A `run` step made ready.
pub struct RunAction {
    pub step: RunStep,
    /// Those that its statements name, by their names in the project.
    pub stores: BTreeMap<String, Arc<dyn Store>>,
    /// The folder that relative paths start from.
    pub project: PathBuf,
    /// Looked up before the migration began.
    pub secrets: Arc<Secrets>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
    Validate,
}

impl Direction {
    fn word(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::Validate => "validate",
        }
    }
}

/// What an action did, where it came to its end.
enum Did {
    Command {
        exit: i32,
        lines: u64,
    },
    Sql {
        store: String,
        rows: u64,
        changed: u64,
    },
}

#[async_trait]
impl StepAction for RunAction {
    async fn estimate(&self) -> Result<Estimate, EngineError> {
        let step = &self.step;
        let actions = [
            Some(&step.forward),
            step.backward.as_ref(),
            step.validate.as_ref(),
        ];
        for action in actions.into_iter().flatten() {
            if let Action::Sql { store, .. } = action {
                self.store(store)?;
            }
        }
        Ok(Estimate {
            summary: self.title(&step.forward),
            ..Estimate::default()
        })
    }

    fn inverse(&self) -> Option<Inverse> {
        self.step.backward.as_ref().map(|_| Inverse::Backward)
    }

    fn again(&self) -> Again {
        if self.step.idempotent {
            Again::Harmless
        } else {
            Again::Unknown
        }
    }

    fn writes(&self) -> bool {
        true
    }

    /// Without a validation of its own nothing tells whether it happened.
    fn judges(&self) -> bool {
        self.step.validate.is_some()
    }

    async fn forward(&self, cx: &StepContext<'_>) -> Result<StepReport, StepError> {
        self.act(&self.step.forward, Direction::Forward, cx).await
    }

    async fn validate(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        let Some(action) = &self.step.validate else {
            return Ok(());
        };
        let why = match self.run(action, Direction::Validate, cx).await? {
            Did::Command { exit: 0, .. } | Did::Sql { rows: 0, .. } => return Ok(()),
            Did::Command { exit, .. } => format!("exited with {exit} instead of 0"),
            Did::Sql { rows, .. } => format!(
                "gave back {rows} {} instead of none",
                if rows == 1 { "row" } else { "rows" }
            ),
        };
        Err(StepError::terminal(
            Code::StepInvalid,
            format!(
                "what step {} was to reach is not reached: {} {why}",
                cx.state.name,
                self.title(action)
            ),
        ))
    }

    async fn backward(&self, cx: &StepContext<'_>) -> Result<StepReport, StepError> {
        if self.did_nothing(cx) {
            return Ok(nothing_to_undo());
        }
        match &self.step.backward {
            Some(action) => self.act(action, Direction::Backward, cx).await,
            None => Err(StepError::terminal(
                Code::UndoFailed,
                format!("step {} has no way back; nothing was done", cx.state.name),
            )),
        }
    }
}

impl RunAction {
    /// Statements run in one transaction: those that failed changed nothing, and their `backward` would meet
    /// what is not there. (Of a command nobody knows how far it came.)
    fn did_nothing(&self, cx: &StepContext<'_>) -> bool {
        // The store's own word for it (`WB-S…`), and not that it does not know.
        let refused =
            cx.state.error.as_ref().is_some_and(|(code, _)| {
                code.id().starts_with("WB-S") && *code != Code::StoreUnknown
            });
        matches!(self.step.forward, Action::Sql { .. }) && cx.state.report.is_none() && refused
    }

    async fn act(
        &self,
        action: &Action,
        direction: Direction,
        cx: &StepContext<'_>,
    ) -> Result<StepReport, StepError> {
        let begun = Instant::now();
        let did = self.run(action, direction, cx).await?;
        let title = self.title(action);
        let mut facts = BTreeMap::new();
        let summary = match did {
            Did::Command { exit: 0, lines } => {
                facts.insert("exit".to_owned(), "0".to_owned());
                facts.insert("lines".to_owned(), lines.to_string());
                let s = if lines == 1 { "" } else { "s" };
                format!("{title} exited with 0 after {lines} line{s} of output")
            }
            Did::Command { exit, .. } => {
                return Err(StepError::terminal(
                    Code::StepFailed,
                    format!("step {}: {title} exited with {exit}", cx.state.name),
                ));
            }
            Did::Sql {
                store,
                rows,
                changed,
            } => {
                facts.insert("rows".to_owned(), rows.to_string());
                facts.insert("changed".to_owned(), changed.to_string());
                format!("statements in {store} changed {changed} rows and gave back {rows}")
            }
        };
        Ok(StepReport {
            elapsed_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            summary,
            facts,
            ..StepReport::default()
        })
    }

    async fn run(
        &self,
        action: &Action,
        direction: Direction,
        cx: &StepContext<'_>,
    ) -> Result<Did, StepError> {
        match action {
            Action::Sql { store, statement } => {
                let outcome = self
                    .store(store)?
                    .statement(statement)
                    .await
                    .map_err(|e| self.store_failed(&e, cx))?;
                Ok(Did::Sql {
                    store: store.clone(),
                    rows: outcome.rows,
                    changed: outcome.changed,
                })
            }
            Action::Command {
                command,
                folder,
                env,
            } => {
                let program = Program {
                    command: command.clone(),
                    folder: match folder {
                        Some(folder) => self.project.join(folder),
                        None => self.project.clone(),
                    },
                    env: self.environment(env, direction, cx)?,
                    stdin: None,
                    // What begins inside a secret must be seen to be hidden.
                    keep: SHOWN_BYTES + self.secrets.redactor().longest(),
                };
                let finished = program.run(stopped(cx)).await;
                self.judge(action, direction, finished, cx)
            }
        }
    }

    fn judge(
        &self,
        action: &Action,
        direction: Direction,
        finished: Result<Finished, Trouble>,
        cx: &StepContext<'_>,
    ) -> Result<Did, StepError> {
        let at = format!("step {}: {}", cx.state.name, self.title(action));
        // A look changes nothing, so it may be taken again.
        let harmless = self.step.idempotent || direction == Direction::Validate;
        let unknown = |how: &str| {
            StepError::new(
                Fault::Unknown,
                Code::StepUnknown,
                format!("{at} {how}; how far it came is unknown"),
            )
        };
        let finished = match finished {
            Ok(finished) => finished,
            Err(Trouble::Start(why)) => {
                return Err(StepError::terminal(
                    Code::StepFailed,
                    format!("{at} could not be started ({why}); nothing was done"),
                ));
            }
            Err(Trouble::Wait(error)) if harmless => {
                let why = format!("{at} was lost sight of ({})", error.kind());
                return Err(StepError::terminal(Code::StepFailed, why));
            }
            Err(Trouble::Wait(error)) => {
                return Err(unknown(&format!("was lost sight of ({})", error.kind())));
            }
        };
        self.show(action, &finished, cx);
        match finished.ended {
            Ended::Exit(exit) => Ok(Did::Command {
                exit,
                lines: finished.output.lines,
            }),
            Ended::Stopped if harmless => Err(StepError::new(
                Fault::Stopped,
                Code::RunInterrupted,
                format!("{at} was stopped on request; it may run again"),
            )),
            Ended::Stopped => Err(unknown("was stopped on request")),
            Ended::Signal(signal) if harmless => Err(StepError::terminal(
                Code::StepFailed,
                format!("{at} was killed by signal {signal}"),
            )),
            Ended::Signal(signal) => Err(unknown(&format!("was killed by signal {signal}"))),
        }
    }

    /// Shows the end of what the command wrote. It is written nowhere.
    fn show(&self, action: &Action, finished: &Finished, cx: &StepContext<'_>) {
        let output = &finished.output;
        let redactor = self.secrets.redactor();
        let skip = if output.cut { redactor.longest() } else { 0 };
        let text = redactor.redact_from(&output.tail, skip);
        let text = text.trim_end();
        if text.is_empty() {
            return;
        }
        let what = if output.cut {
            "wrote, in the end:"
        } else {
            "wrote:"
        };
        cx.engine.send(&Event::Notice {
            run: cx.at.migration.clone(),
            message: format!(
                "step {}: {} {what}\n{text}",
                cx.state.name,
                self.title(action)
            ),
        });
    }

    fn environment(
        &self,
        env: &BTreeMap<String, String>,
        direction: Direction,
        cx: &StepContext<'_>,
    ) -> Result<Vec<(String, String)>, StepError> {
        let mut variables = vec![
            ("WHIMBREL_MIGRATION".to_owned(), cx.at.migration.clone()),
            ("WHIMBREL_STEP".to_owned(), cx.state.name.clone()),
            ("WHIMBREL_DIRECTION".to_owned(), direction.word().to_owned()),
            (
                "WHIMBREL_APPLICATION".to_owned(),
                cx.at.application.to_string(),
            ),
        ];
        for (name, text) in env {
            let value = self.secrets.get(text).ok_or_else(|| {
                StepError::terminal(
                    Code::StepFailed,
                    format!(
                        "step {}: the secret for {name} was not looked up before the start; nothing was done",
                        cx.state.name
                    ),
                )
            })?;
            variables.push((name.clone(), value.to_owned()));
        }
        Ok(variables)
    }

    fn store(&self, name: &str) -> Result<&Arc<dyn Store>, EngineError> {
        self.stores.get(name).ok_or_else(|| EngineError::Job {
            code: Code::UnknownStore,
            message: format!("the project has no store {name}; nothing was done"),
        })
    }

    fn store_failed(&self, error: &StoreError, cx: &StepContext<'_>) -> StepError {
        let message = self.secrets.redactor().redact(&error.to_string());
        StepError::new(
            fault_of(error),
            error.code,
            format!("step {}: {message}", cx.state.name),
        )
    }

    /// What the action is, in a few words: the arguments may say more than a line holds.
    fn title(&self, action: &Action) -> String {
        let text = match action {
            Action::Command { command, .. } => {
                let name = command.first().map_or("", String::as_str);
                format!("command {name}")
            }
            Action::Sql { store, .. } => format!("statements in {store}"),
        };
        self.secrets.redactor().redact(&text)
    }
}

fn fault_of(error: &StoreError) -> Fault {
    match (error.kind, error.code) {
        // Going back would meet the same full disk.
        (StoreErrorKind::Terminal, Code::StoreFull) => Fault::Stopped,
        (StoreErrorKind::Terminal, _) => Fault::Terminal,
        (StoreErrorKind::Transient, _) => Fault::Transient,
        (StoreErrorKind::Unknown, _) => Fault::Unknown,
    }
}

/// Resolves when the step must stop.
async fn stopped(cx: &StepContext<'_>) {
    while !cx.engine.stop.load(Ordering::SeqCst) {
        tokio::time::sleep(LOOK_FOR_STOP).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_says_what_became_of_a_statement() {
        use StoreErrorKind::{Terminal, Transient, Unknown};
        for (kind, code, expect) in [
            (Transient, Code::StoreUnavailable, Fault::Transient),
            (Unknown, Code::StoreUnknown, Fault::Unknown),
            (Terminal, Code::StoreFailed, Fault::Terminal),
            (Terminal, Code::StoreFull, Fault::Stopped),
        ] {
            let error = StoreError::new(kind, code, "app", "no");
            assert_eq!(fault_of(&error), expect, "{error:?}");
        }
    }
}
