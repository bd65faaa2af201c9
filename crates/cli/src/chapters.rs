//! The migrations' history as the ledger's records tell it: one chapter an application.

use crate::failure::Failure;
use whimbrel_engine::Ledger;
use whimbrel_model::ledger::{MigrationEntry, Record, Rest, RunState, State, StepPlan};
use whimbrel_model::{Code, Entry};

/// Records a read.
const PAGE: u32 = 1000;

/// From the beginning of an application to its end.
#[derive(Debug, serde::Serialize)]
pub struct Chapter {
    pub migration: String,
    pub application: u32,
    pub started_at: String,
    pub ended_at: Option<String>,
    pub by: String,
    pub undone_by: Option<String>,
    /// `applied`, `taken back`, `rests`, …
    pub outcome: &'static str,
    /// Why it rests, failed or was taken back.
    pub cause: Option<(Code, String)>,
}

/// One thing that happened, as people read it.
#[derive(Debug, serde::Serialize)]
pub struct Line {
    pub seq: u64,
    pub at: String,
    pub who: String,
    pub what: String,
}

/// All records of the ledger, a page at a time.
async fn each(ledger: &Ledger, mut take: impl FnMut(&Record)) -> Result<(), Failure> {
    let mut after = 0;
    loop {
        let page = ledger.journal().read(after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = last.seq;
        page.iter().for_each(&mut take);
    }
}

/// Every application there was, oldest first.
///
/// # Errors
/// The ledger cannot be read.
pub async fn chapters(ledger: &Ledger) -> Result<Vec<Chapter>, Failure> {
    let mut all: Vec<Chapter> = Vec::new();
    each(ledger, |record| {
        let Entry::Migration { migration, change } = &record.entry else {
            return;
        };
        if let Some(new) = begun(migration, &record.at, change) {
            all.push(new);
            return;
        }
        let known = all.iter_mut().rev().find(|c| c.migration == *migration);
        if let Some(chapter) = known {
            chapter.goes_on(&record.at, change);
        }
    })
    .await?;
    Ok(all)
}

fn begun(migration: &str, at: &str, change: &MigrationEntry) -> Option<Chapter> {
    let (application, by, outcome, ended_at) = match change {
        MigrationEntry::Started {
            application, by, ..
        } => (*application, by, "on its way", None),
        MigrationEntry::Skipped { by, .. } => (0, by, "left out", Some(at.to_owned())),
        _ => return None,
    };
    Some(Chapter {
        migration: migration.to_owned(),
        application,
        started_at: at.to_owned(),
        ended_at,
        by: by.clone(),
        undone_by: None,
        outcome,
        cause: None,
    })
}

impl Chapter {
    fn goes_on(&mut self, at: &str, change: &MigrationEntry) {
        use MigrationEntry as E;
        match change {
            E::Resumed { .. } if self.undone_by.is_some() => self.outcome = "going back",
            E::Resumed { .. } => {
                self.outcome = "on its way";
                self.cause = None;
            }
            E::Rested {
                rest,
                code,
                message,
            } => {
                self.outcome = rest_word(*rest);
                if self.undone_by.is_none() {
                    self.cause = Some((*code, message.clone()));
                }
            }
            E::Applied => self.ends(at, "applied"),
            E::UndoStarted { by, cause } => {
                self.outcome = "going back";
                self.undone_by = Some(by.clone());
                self.ended_at = None;
                if cause.is_some() {
                    self.cause.clone_from(cause);
                }
            }
            E::StepUndoFailed { .. } => self.outcome = "not whole",
            E::Undone if self.outcome == "not whole" => self.ends(at, "not taken back whole"),
            E::Undone => self.ends(at, "taken back"),
            _ => {}
        }
    }

    fn ends(&mut self, at: &str, outcome: &'static str) {
        self.outcome = outcome;
        self.ended_at = Some(at.to_owned());
    }
}

fn rest_word(rest: Rest) -> &'static str {
    match rest {
        Rest::Stopped => "stopped",
        Rest::Paused => "paused",
        Rest::Waiting => "waiting",
        Rest::Unknown => "unknown",
    }
}

/// Everything that happened to one migration, in full.
///
/// # Errors
/// The ledger cannot be read.
pub async fn story(ledger: &Ledger, id: &str) -> Result<Vec<Line>, Failure> {
    let state = ledger.state();
    let mut plan: Vec<StepPlan> = Vec::new();
    let mut who = String::new();
    let mut lines = Vec::new();
    each(ledger, |record| {
        let what = match &record.entry {
            Entry::Migration { migration, change } if migration == id => {
                if let MigrationEntry::Started { steps, .. } = change {
                    plan.clone_from(steps);
                }
                let (by, what) = tell(change, &plan);
                if let Some(by) = by {
                    who = by;
                }
                what
            }
            other => match of_run(other, &state, id) {
                Some(what) => what,
                None => return,
            },
        };
        lines.push(Line {
            seq: record.seq,
            at: record.at.clone(),
            who: who.clone(),
            what,
        });
    })
    .await?;
    Ok(lines)
}

/// What a run that works for the migration says of its beginning and end.
fn of_run(entry: &Entry, state: &State, id: &str) -> Option<String> {
    let ours = |run: &String| -> Option<&RunState> {
        let run = state.runs.get(run)?;
        (run.step.as_ref()?.migration == id).then_some(run)
    };
    Some(match entry {
        Entry::RunStarted { run, .. } => {
            format!("  run {run} begins: {}", ours(run)?.job.title)
        }
        Entry::RunResumed { run, .. } => format!("  run {} goes on", ours(run)?.run),
        Entry::RunRecut { run, anew, .. } => {
            let run = &ours(run)?.run;
            if *anew {
                format!(
                    "  run {run} walks the collection once more: its documents were laid out anew"
                )
            } else {
                format!("  run {run} looks at what came to lie behind its end")
            }
        }
        Entry::RunCompleted { run, counts } => {
            let run = ours(run)?;
            let deed = crate::summary::Deed::of(run);
            let counts = crate::summary::equation(counts, deed, false);
            format!("  run {} is done: {counts}", run.run)
        }
        Entry::RunInterrupted { run, code, message } => {
            format!("  run {} stopped: {code} {message}", ours(run)?.run)
        }
        Entry::RunAborted { run, code, message } => {
            format!("  run {} was given up: {code} {message}", ours(run)?.run)
        }
        _ => return None,
    })
}

/// Who acted, where the entry says so, and what happened.
// tidy: long because it has one short arm for each kind of entry.
fn tell(change: &MigrationEntry, plan: &[StepPlan]) -> (Option<String>, String) {
    use MigrationEntry as E;
    let step = |i: &u32| {
        let name = plan.get(*i as usize);
        let name = name.map_or(String::new(), |s| format!(" ({} {})", s.kind, s.name));
        format!("step {}{name}", i + 1)
    };
    let by = |by: &String| Some(by.clone());
    match change {
        E::Started {
            application,
            description,
            by: who,
            tool,
            ..
        } => {
            let nth = match application {
                1 => String::new(),
                n => format!(" (application {n})"),
            };
            (
                by(who),
                format!("began{nth}: {description} (whimbrel {tool})"),
            )
        }
        E::Baseline { latency } => {
            let all: Vec<_> = latency
                .iter()
                .map(|(place, micros)| format!("{place} {:.1} ms", millis(*micros)))
                .collect();
            (
                None,
                format!("single reads before the start: {}", all.join(", ")),
            )
        }
        E::Resumed { by: who, .. } => (by(who), "went on".to_owned()),
        E::Rested {
            rest,
            code,
            message,
        } => (
            None,
            format!("rests, {}: {code} {message}", rest_word(*rest)),
        ),
        E::StepStarted { step: i } => (None, format!("{} begins", step(i))),
        E::StepDone { step: i, report } => {
            (None, format!("{} is done: {}", step(i), report.summary))
        }
        E::StepFailed {
            step: i,
            code,
            message,
            unknown,
        } => {
            let how = if *unknown {
                "may have happened"
            } else {
                "failed"
            };
            (None, format!("{} {how}: {code} {message}", step(i)))
        }
        E::StepSettled {
            step: i,
            done,
            by: who,
        } => {
            let did = if *done {
                "did happen"
            } else {
                "did not happen"
            };
            (by(who), format!("{} {did}, says {who}", step(i)))
        }
        E::Approved { step: i, by: who } => {
            (by(who), format!("{} has the go-ahead of {who}", step(i)))
        }
        E::Tripped {
            rule,
            value,
            threshold,
        } => (
            None,
            format!("abort rule {rule} tripped: {value} (threshold {threshold})"),
        ),
        E::Applied => (None, "is applied: every step done and validated".to_owned()),
        E::UndoStarted { by: who, cause } => {
            let why = cause
                .as_ref()
                .map(|(code, message)| format!(": {code} {message}"))
                .unwrap_or_default();
            (by(who), format!("is taken back{why}"))
        }
        E::StepUndoStarted { step: i } => (None, format!("{} goes back", step(i))),
        E::StepUndone { step: i, report } => (
            None,
            format!("{} is taken back: {}", step(i), report.summary),
        ),
        E::StepUndoFailed {
            step: i,
            code,
            message,
            unknown,
        } => {
            let how = if *unknown {
                "may or may not be taken back"
            } else {
                "could not be taken back"
            };
            (None, format!("{} {how}: {code} {message}", step(i)))
        }
        E::StepKept { step: i } => (None, format!("{} has no way back and stays", step(i))),
        E::Undone => (None, "the way back is at its end".to_owned()),
        E::Skipped { by: who, .. } => (by(who), "was left out for good".to_owned()),
    }
}

#[allow(clippy::cast_precision_loss)]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}
