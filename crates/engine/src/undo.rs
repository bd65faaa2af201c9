//! Taking back what runs wrote.

mod entries;
mod log;
mod uncopy;

pub(crate) use log::UndoLog;

use std::sync::Arc;

use serde_json::json;
use whimbrel_model::ledger::{Counts, JobKind, JobSpec, RunId, RunState};
use whimbrel_model::{Code, Event};

use crate::copy::CopyJob;
use crate::decide::Goal;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::job::Job;
use crate::ledger::Ledger;
use crate::options::{JobOptions, Report, Threshold};
use crate::pages::width;
use crate::upgrade::{UpgradeJob, UpgradeWork, no_ledger};

use entries::LogEntries;
use uncopy::UncopyWork;

impl Engine {
    /// Takes back upgrade runs: every document that they wrote goes back to the version that it had
    /// before them, to the very bytes where nobody wrote since, otherwise by `down` from what the app
    /// wrote. Documents that they did not write and that are above `job.to` are brought down to it.
    ///
    /// A document that cannot be taken back waits in quarantine, at any number of them: that is no
    /// reason to leave the others as they are. A pending run of the same subject is given up first.
    ///
    /// # Errors
    /// `runs` are no upgrade runs of this collection, or the undo stopped before its end;
    /// [`EngineError::resumable`] says whether calling again goes on.
    pub async fn undo_upgrade(
        &self,
        mut job: UpgradeJob,
        runs: &[RunId],
    ) -> Result<Report, EngineError> {
        job.check()?;
        let upgrade = job.spec();
        let what = format!("upgrade {}", job.place);
        let ledger = self.ledger_of(runs, &upgrade.subject)?;
        let spec = undo_spec(
            upgrade.subject,
            &what,
            runs,
            json!({ "upgrade": upgrade.parameters }),
        );
        if runs.is_empty() {
            return Ok(nothing(spec));
        }
        job.options = undo_options(job.options);
        let goal = Goal::Before {
            runs: runs.iter().cloned().collect(),
            otherwise: job.to,
        };
        let work = UpgradeWork::towards(goal, &job, Some(ledger));
        let prepared = job.prepare(spec, work).await?;
        self.drive(prepared).await
    }

    /// Takes back copy runs that were made with [`JobOptions::undoable`]: every target document (and
    /// everything that the target remembers of its source) goes back to what it was before them, if it
    /// still is what they wrote. One that was changed or deleted since is left as it is and counted as
    /// skipped. Target collections stay, even if they were made by the copy.
    ///
    /// The counts are of target documents. A pending run of the same subject is given up first.
    ///
    /// # Errors
    /// `runs` are no undoable runs of this copy, or the undo stopped before its end;
    /// [`EngineError::resumable`] says whether calling again goes on.
    pub async fn uncopy(&self, job: CopyJob, runs: &[RunId]) -> Result<Report, EngineError> {
        let subject = job.subject();
        let ledger = self.ledger_of(runs, &subject)?;
        let state = ledger.state();
        if let Some(run) = runs.iter().find(|run| !undoable(&state.runs[*run])) {
            return Err(EngineError::Job {
                code: Code::UndoFailed,
                message: format!(
                    "run {run} kept no record of what the target was before it, so it cannot be taken \
                     back; nothing was written"
                ),
            });
        }
        let target = json!([job.target.to_string(), job.target.store.name()]);
        let spec = undo_spec(subject.clone(), &subject, runs, json!({ "target": target }));
        if runs.is_empty() {
            return Ok(nothing(spec));
        }
        let options = undo_options(job.options);
        let (_, most) = width(&options, &[job.target.store.as_ref()]);
        let report = self
            .drive(Job {
                spec,
                pages: Arc::new(LogEntries::new(Arc::clone(&ledger), &job.target, runs)),
                work: Arc::new(UncopyWork::new(ledger, job.target.clone(), runs)),
                by_position: None,
                watched: job.target,
                expected: None,
                // The record of a run is one thread.
                parallel: 1,
                most,
                options,
            })
            .await?;
        if let (Some(run), skipped @ 1..) = (&report.run, report.counts.skipped) {
            self.send(&Event::Notice {
                run: run.clone(),
                message: format!(
                    "{skipped} target documents were changed or deleted since the copy; they were left \
                     as they are"
                ),
            });
        }
        Ok(report)
    }

    /// The ledger, if it knows the runs and they are the subject's.
    fn ledger_of(&self, runs: &[RunId], subject: &str) -> Result<Arc<Ledger>, EngineError> {
        let ledger = self.ledger.clone().ok_or_else(no_ledger)?;
        let state = ledger.state();
        for run in runs {
            let known = state
                .runs
                .get(run)
                .is_some_and(|r| r.job.subject == subject);
            if !known {
                return Err(EngineError::Job {
                    code: Code::UndoFailed,
                    message: format!(
                        "the ledger has no run {run} of \"{subject}\", so it cannot be taken back; nothing \
                         was written"
                    ),
                });
            }
        }
        Ok(ledger)
    }
}

/// A copy's parameters, or those of a retry of it.
fn undoable(run: &RunState) -> bool {
    let parameters = &run.job.parameters;
    let of = parameters.get("retry").unwrap_or(parameters);
    of.get("undoable").and_then(serde_json::Value::as_bool) == Some(true)
}

fn undo_spec(
    subject: String,
    what: &str,
    runs: &[RunId],
    mut parameters: serde_json::Value,
) -> JobSpec {
    let word = if runs.len() == 1 { "run" } else { "runs" };
    parameters["undo"] = json!(runs);
    JobSpec {
        kind: JobKind::Undo,
        title: format!("undo {what} ({word} {})", runs.join(", ")),
        // The same as that of the runs, so that they and their undo exclude each other.
        subject,
        parameters,
    }
}

fn undo_options(options: JobOptions) -> JobOptions {
    JobOptions {
        abandon: true,
        max_failed: Threshold::Share(1.0),
        ..options
    }
}

/// No run ever began: there is nothing to take back, and no trace to leave.
fn nothing(spec: JobSpec) -> Report {
    Report {
        run: None,
        title: spec.title,
        resumed: false,
        counts: Counts::default(),
        elapsed: std::time::Duration::ZERO,
    }
}
