//! The steps that work on documents: upgrade, copy, verify.

use async_trait::async_trait;
use std::collections::BTreeMap;
use std::time::Duration;
use whimbrel_model::figures::{plural, thousands};
use whimbrel_model::ledger::{Counts, RunStatus, StepRef, StepReport};
use whimbrel_model::migration::Inverse;
use whimbrel_model::{Code, Event, Store};

use super::action::{Estimate, StepAction, StepContext, StepError};
use super::orchestrate::{no_ledger, runs_of};
use super::relies::{remember_comparisons, remember_version};
use crate::copy::CopyJob;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::options::{JobOptions, Place, Threshold};
use crate::upgrade::{UpgradeJob, upgrade_subject};
use crate::verify::CompareJob;

/// How often an upgrade goes through its collection again for what the app wrote in an older shape
/// meanwhile.
const SWEEPS: u32 = 3;

/// Brings a collection to a schema version; back, each document to what it was.
#[derive(Clone, Debug)]
pub struct UpgradeAction {
    pub job: UpgradeJob,
    /// Where an undo brings what was written since.
    pub from: u32,
}

#[async_trait]
impl StepAction for UpgradeAction {
    async fn estimate(&self) -> Result<Estimate, EngineError> {
        let place = &self.job.place;
        let described = place.must_exist(self.job.options.patience).await?;
        Ok(Estimate {
            documents: described.1,
            bytes: bytes_of(place).await,
            time: None,
            summary: format!("{place} to v{}", self.job.to),
        })
    }

    fn inverse(&self) -> Option<Inverse> {
        Some(Inverse::Downgrade { to: self.from })
    }

    fn writes(&self) -> bool {
        true
    }

    async fn forward(&self, cx: &StepContext<'_>) -> Result<StepReport, StepError> {
        let mut job = self.job.clone();
        job.options = options(&self.job.options, cx);
        for sweep in 0..=SWEEPS {
            // What a later pass finds at the version was written since the step began.
            job.options.undoable = !passed_once(cx, &job.place)?;
            let report = cx.engine.upgrade(job.clone()).await?;
            // The first run was cut at the keys of its start; the app may have inserted since.
            if sweep > 0 && report.counts.written == 0 {
                break;
            }
            if sweep == SWEEPS {
                let message = format!(
                    "after {SWEEPS} more passes the app still writes documents of {} in an older shape",
                    job.place
                );
                notice(cx, message);
            }
        }
        let counts = counts_of(cx)?;
        report(
            cx,
            counts,
            &format!("{} at v{}", job.place, job.to),
            "upgraded",
        )
    }

    async fn validate(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        // At the end: a later step may have brought the collection further.
        if overtaken(cx, &[&self.job.place])? {
            return Ok(());
        }
        let (report, _) = cx.engine.preview_upgrade(&self.job, 0).await?;
        let counts = report.counts;
        if counts.written > 0 {
            let message = format!(
                "{} of {} documents of {} are not at v{}: does an older version of the app still write them?",
                counts.written, counts.enumerated, self.job.place, self.job.to
            );
            return Err(StepError::terminal(Code::StepInvalid, message));
        }
        within(&counts, self.job.options.max_failed, &self.job.place)
    }

    async fn backward(&self, cx: &StepContext<'_>) -> Result<StepReport, StepError> {
        let mut job = self.job.clone();
        job.to = self.from;
        job.options = undo_options(&self.job.options, cx);
        let runs = runs(cx, &self.job.place, JobScope::Upgrade)?;
        let mut total: Option<Counts> = None;
        let mut last = None;
        for _ in 0..=SWEEPS {
            let done = cx.engine.undo_upgrade(job.clone(), &runs).await?;
            last = done.run.or(last);
            total = Some(match total {
                Some(before) => gone_through_again(&before, done.counts),
                None => done.counts,
            });
            // An undo is cut at the keys of its start, too; the app may have inserted in the newer shape since.
            if done.counts.written == 0 {
                break;
            }
        }
        undone(last, &total.unwrap_or_default(), &self.job.place)
    }
}

/// Copies by each rule in turn; back, what it wrote goes or becomes what it was.
#[derive(Clone, Debug)]
pub struct CopyAction {
    /// One a rule.
    pub jobs: Vec<CopyJob>,
}

#[async_trait]
impl StepAction for CopyAction {
    async fn estimate(&self) -> Result<Estimate, EngineError> {
        let mut estimate = Estimate::default();
        let mut titles = Vec::new();
        for job in &self.jobs {
            let described = job.source.must_exist(job.options.patience).await?;
            estimate.documents = estimate.documents.or(described.1);
            estimate.bytes = estimate.bytes.or(bytes_of(&job.source).await);
            titles.push(job.rule.name.clone());
        }
        if let Some(job) = self.jobs.first() {
            let by = titles.join(", ");
            estimate.summary = format!("{} to {} by {by}", job.source, job.target.store_name);
        }
        Ok(estimate)
    }

    fn carries(&self) -> Vec<&dyn Store> {
        let ends = self.jobs.iter().flat_map(|job| [&job.source, &job.target]);
        ends.map(|place| place.store.as_ref()).collect()
    }

    fn inverse(&self) -> Option<Inverse> {
        Some(Inverse::Uncopy)
    }

    fn writes(&self) -> bool {
        true
    }

    async fn forward(&self, cx: &StepContext<'_>) -> Result<StepReport, StepError> {
        for job in &self.jobs {
            let mut job = job.clone();
            job.options = options(&job.options, cx);
            job.options.undoable = true;
            cx.engine.copy(job).await?;
        }
        let counts = counts_of(cx)?;
        let into: Vec<_> = self.jobs.iter().map(|j| j.target.to_string()).collect();
        report(cx, counts, &format!("into {}", into.join(", ")), "copied")
    }

    /// Every document of the source has its fate, as the runs' own ends prove; whether the target is what it
    /// should be is a `verify` step's to say.
    async fn validate(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        let ledger = cx.engine.ledger.as_ref().ok_or_else(no_ledger)?;
        let state = ledger.state();
        for job in &self.jobs {
            let subject = job.subject();
            let done = runs_of(ledger, cx.at).iter().any(|id| {
                state
                    .runs
                    .get(id)
                    .is_some_and(|r| r.job.subject == subject && r.status == RunStatus::Completed)
            });
            if !done {
                let message = format!("{subject} did not come to its end");
                return Err(StepError::terminal(Code::StepInvalid, message));
            }
        }
        Ok(())
    }

    async fn backward(&self, cx: &StepContext<'_>) -> Result<StepReport, StepError> {
        let mut total = StepReport::default();
        let mut failure = None;
        for job in self.jobs.iter().rev() {
            let runs = runs(cx, &job.source, JobScope::Copy(job.subject()))?;
            if runs.is_empty() {
                continue;
            }
            let mut undo = job.clone();
            undo.options = undo_options(&job.options, cx);
            let done = cx.engine.uncopy(undo, &runs).await?;
            match undone(done.run, &done.counts, &job.target) {
                Ok(report) => {
                    total.runs.extend(report.runs);
                    total.counts.add(&report.counts);
                }
                Err(error) => failure = Some(error),
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        total.summary = format!(
            "{} taken back, {} kept because the app wrote them since",
            plural(total.counts.written, "document"),
            thousands(total.counts.skipped)
        );
        Ok(total)
    }
}

/// Looks whether data is as it should be. Changes nothing.
#[derive(Clone, Debug)]
pub enum VerifyAction {
    Upgraded(Box<UpgradeJob>),
    Copied(Vec<CopyJob>),
}

#[async_trait]
impl StepAction for VerifyAction {
    async fn estimate(&self) -> Result<Estimate, EngineError> {
        let (place, summary) = match self {
            Self::Upgraded(job) => (
                Some(&job.place),
                format!("every document of {} is valid at v{}", job.place, job.to),
            ),
            Self::Copied(jobs) => (
                jobs.first().map(|j| &j.source),
                match jobs.first() {
                    Some(job) => {
                        format!("{} holds what {} yields", job.target.store_name, job.source)
                    }
                    None => String::new(),
                },
            ),
        };
        let documents = match place {
            Some(place) => place.must_exist(Duration::from_secs(60)).await?.1,
            None => None,
        };
        Ok(Estimate {
            documents,
            summary,
            ..Estimate::default()
        })
    }

    fn inverse(&self) -> Option<Inverse> {
        Some(Inverse::Nothing)
    }

    fn writes(&self) -> bool {
        false
    }

    async fn forward(&self, cx: &StepContext<'_>) -> Result<StepReport, StepError> {
        let counts = self.look(cx).await?;
        Ok(StepReport {
            counts,
            summary: format!(
                "{} looked at, all as they should be",
                plural(counts.enumerated, "document")
            ),
            ..StepReport::default()
        })
    }

    /// The same look again, at the end of a migration whose later steps wrote.
    async fn validate(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        // Right after `forward` there is nothing new to see.
        if cx.state.status == whimbrel_model::ledger::StepStatus::Done
            && !overtaken(cx, &self.places())?
        {
            self.look(cx).await?;
        }
        Ok(())
    }

    async fn backward(&self, _cx: &StepContext<'_>) -> Result<StepReport, StepError> {
        Ok(nothing_to_undo())
    }
}

impl VerifyAction {
    /// What it looks at.
    fn places(&self) -> Vec<&Place> {
        match self {
            Self::Upgraded(job) => vec![&job.place],
            Self::Copied(jobs) => jobs.iter().flat_map(|j| [&j.source, &j.target]).collect(),
        }
    }

    async fn look(&self, cx: &StepContext<'_>) -> Result<Counts, StepError> {
        let mut total = Counts::default();
        let started = cx.engine.clock.now();
        match self {
            Self::Upgraded(job) => {
                let (report, _) = cx.engine.preview_upgrade(job, 0).await?;
                let counts = report.counts;
                let failed = counts.written + counts.newer + counts.quarantined;
                let title = format!("{} at v{}", job.place, job.to);
                remember_version(cx, started, title, failed).await?;
                if counts.written + counts.newer > 0 {
                    let message = format!(
                        "{} of {} documents of {} are not at v{}",
                        counts.written + counts.newer,
                        counts.enumerated,
                        job.place,
                        job.to
                    );
                    return Err(StepError::terminal(Code::StepInvalid, message));
                }
                within(&counts, job.options.max_failed, &job.place)?;
                total.add(&counts);
            }
            Self::Copied(jobs) => {
                let mut all = Vec::new();
                for job in jobs {
                    let job = CompareJob::of(job.clone());
                    all.push(cx.engine.compare_unrecorded(job).await?);
                }
                remember_comparisons(cx, started, all.clone()).await?;
                for (job, found) in jobs.iter().zip(all) {
                    let differ = found.missing + found.extra + found.differing;
                    if differ > 0 {
                        let message = format!(
                            "{differ} of {} documents of {} differ from what {} holds, or are missing or left over there",
                            found.source_documents, job.source, job.target
                        );
                        return Err(StepError::terminal(Code::StepInvalid, message));
                    }
                    let counts = Counts {
                        enumerated: found.source_documents,
                        unchanged: found
                            .source_documents
                            .saturating_sub(found.skipped + found.unreadable),
                        skipped: found.skipped,
                        quarantined: found.unreadable,
                        ..Counts::default()
                    };
                    within(&counts, job.options.max_failed, &job.source)?;
                    total.add(&counts);
                }
            }
        }
        Ok(total)
    }
}

/// For kinds of steps that changed nothing.
pub(super) fn nothing_to_undo() -> StepReport {
    StepReport {
        summary: "it changed nothing".to_owned(),
        ..StepReport::default()
    }
}

pub(super) fn options(given: &JobOptions, cx: &StepContext<'_>) -> JobOptions {
    JobOptions {
        step: Some(cx.at.clone()),
        ..given.clone()
    }
}

/// An undo is not given up because documents fail: each one that can go back goes.
fn undo_options(given: &JobOptions, cx: &StepContext<'_>) -> JobOptions {
    JobOptions {
        step: Some(cx.at.clone()),
        max_failed: Threshold::Share(1.0),
        abandon: true,
        ..given.clone()
    }
}

enum JobScope {
    Upgrade,
    Copy(String),
}

/// The step's own runs that an undo has to take back.
fn runs(
    cx: &StepContext<'_>,
    place: &Place,
    scope: JobScope,
) -> Result<Vec<whimbrel_model::ledger::RunId>, StepError> {
    let ledger = cx.engine.ledger.as_ref().ok_or_else(no_ledger)?;
    let subject = match scope {
        JobScope::Upgrade => upgrade_subject(place),
        JobScope::Copy(subject) => subject,
    };
    let state = ledger.state();
    let mut runs = runs_of(ledger, cx.at);
    runs.retain(|id| {
        state.runs.get(id).is_some_and(|r| {
            r.job.subject == subject && r.job.kind != whimbrel_model::ledger::JobKind::Undo
        })
    });
    Ok(runs)
}

/// Whether a later step of the same application upgraded one of the places: what this step left is then no
/// longer what the data should be.
fn overtaken(cx: &StepContext<'_>, places: &[&Place]) -> Result<bool, StepError> {
    let ledger = cx.engine.ledger.as_ref().ok_or_else(no_ledger)?;
    let subjects: Vec<String> = places.iter().map(|place| upgrade_subject(place)).collect();
    let later = |step: &StepRef| {
        (&step.migration, step.application) == (&cx.at.migration, cx.at.application)
            && step.step > cx.at.step
    };
    Ok(ledger
        .state()
        .runs
        .values()
        .any(|run| run.step.as_ref().is_some_and(later) && subjects.contains(&run.job.subject)))
}

/// Whether a run of this step has gone through the whole collection.
fn passed_once(cx: &StepContext<'_>, place: &Place) -> Result<bool, StepError> {
    let ledger = cx.engine.ledger.as_ref().ok_or_else(no_ledger)?;
    let state = ledger.state();
    let done = |id: &whimbrel_model::ledger::RunId| {
        let run = state.runs.get(id);
        run.is_some_and(|r| r.status == RunStatus::Completed)
    };
    Ok(runs(cx, place, JobScope::Upgrade)?.iter().any(done))
}

/// What became of a collection's documents over two runs: as the later one found them, with what the former
/// had written as written.
fn gone_through_again(before: &Counts, mut counts: Counts) -> Counts {
    let theirs = before.written.min(counts.unchanged);
    counts.unchanged -= theirs;
    counts.written += theirs;
    counts.derived += before.derived;
    counts.removed += before.removed;
    counts.conflicts += before.conflicts;
    counts
}

/// What became of the documents that the step's runs looked at, each counted once.
fn counts_of(cx: &StepContext<'_>) -> Result<Counts, StepError> {
    let ledger = cx.engine.ledger.as_ref().ok_or_else(no_ledger)?;
    let state = ledger.state();
    let mut by_subject: BTreeMap<&str, Counts> = BTreeMap::new();
    for run in &runs_of(ledger, cx.at) {
        let Some(run) = state.runs.get(run) else {
            continue;
        };
        let counts = match by_subject.get(run.job.subject.as_str()) {
            Some(before) => gone_through_again(before, run.counts),
            None => run.counts,
        };
        by_subject.insert(&run.job.subject, counts);
    }
    let mut total = Counts::default();
    by_subject.values().for_each(|counts| total.add(counts));
    Ok(total)
}

fn report(
    cx: &StepContext<'_>,
    counts: Counts,
    what: &str,
    done: &str,
) -> Result<StepReport, StepError> {
    let ledger = cx.engine.ledger.as_ref().ok_or_else(no_ledger)?;
    let waits = match counts.quarantined {
        0 => String::new(),
        n => format!(", {n} wait in quarantine"),
    };
    Ok(StepReport {
        runs: runs_of(ledger, cx.at),
        counts,
        summary: format!(
            "{what}: {} {done}{waits}",
            plural(counts.written, "document")
        ),
        ..StepReport::default()
    })
}

fn undone(
    run: Option<whimbrel_model::ledger::RunId>,
    counts: &Counts,
    place: &Place,
) -> Result<StepReport, StepError> {
    if counts.quarantined > 0 {
        let message = format!(
            "{} documents of {place} could not be taken back; they wait in quarantine",
            counts.quarantined
        );
        return Err(StepError::terminal(Code::UndoFailed, message));
    }
    Ok(StepReport {
        runs: run.into_iter().collect(),
        counts: *counts,
        summary: format!(
            "{} of {place} taken back",
            plural(counts.written, "document")
        ),
        ..StepReport::default()
    })
}

fn within(counts: &Counts, threshold: Threshold, place: &Place) -> Result<(), StepError> {
    threshold
        .check(counts, true)
        .map_err(|error| StepError::terminal(Code::StepInvalid, format!("{place}: {error}")))
}

pub(super) async fn bytes_of(place: &Place) -> Option<u64> {
    let described = place.store.describe(&place.collection).await;
    described.ok().flatten().and_then(|d| d.bytes)
}

fn notice(cx: &StepContext<'_>, message: String) {
    Engine::send(
        cx.engine,
        &Event::Notice {
            run: step_name(cx.at),
            message,
        },
    );
}

fn step_name(at: &StepRef) -> String {
    format!("{} step {}", at.migration, at.step + 1)
}
