//! The step that does the project's checks.

use std::sync::Arc;

use async_trait::async_trait;
use whimbrel_model::Code;
use whimbrel_model::finding::{CheckResult, Severity, Verification};
use whimbrel_model::ledger::{Counts, StepReport, StepStatus, Verified};
use whimbrel_model::migration::Inverse;

use super::action::{Estimate, Fault, StepAction, StepContext, StepError};
use super::documents::nothing_to_undo;
use super::metered::Metered;
use crate::checks::{Checked, ChecksJob};
use crate::error::EngineError;

/// Failed checks that an error names.
const NAMED: usize = 5;

/// Passes when no critical check fails. Changes nothing but the ledger, which remembers what was found.
#[derive(Clone)]
pub struct ChecksAction {
    pub job: ChecksJob,
    /// Whether checks that warn count as critical ones.
    pub warnings_fail: bool,
    /// Hears of every check that failed, also of those that do not fail the step.
    pub meter: Arc<Metered>,
}

#[async_trait]
impl StepAction for ChecksAction {
    async fn estimate(&self) -> Result<Estimate, EngineError> {
        let patience = self.job.options.patience;
        let mut documents = None;
        let mut seen: Vec<String> = Vec::new();
        for check in &self.job.checks {
            let Some(place) = &check.place else { continue };
            if seen.contains(&place.to_string()) {
                continue;
            }
            seen.push(place.to_string());
            // What is missing is the check's own to say.
            if let Ok((_, Some(n))) = place.must_exist(patience).await {
                documents = Some(documents.unwrap_or(0) + n);
            }
        }
        Ok(Estimate {
            documents,
            summary: format!("{} checks of {}", self.job.checks.len(), seen.join(", ")),
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
        let results = self.look(cx).await?;
        let failed = results.iter().filter(|c| !c.passed).count();
        let summary = match failed {
            0 => format!("{} checks passed", results.len()),
            n => format!("{} checks passed, {n} only warn", results.len() - n),
        };
        Ok(StepReport {
            counts: Counts::default(),
            summary,
            ..StepReport::default()
        })
    }

    /// The same look again, at the end of a migration whose later steps wrote.
    async fn validate(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        if cx.state.status == StepStatus::Done {
            self.look(cx).await?;
        }
        Ok(())
    }

    async fn backward(&self, _cx: &StepContext<'_>) -> Result<StepReport, StepError> {
        Ok(nothing_to_undo())
    }
}

impl ChecksAction {
    async fn look(&self, cx: &StepContext<'_>) -> Result<Vec<CheckResult>, StepError> {
        let started_at = cx.engine.clock.now().to_string();
        let mut job = self.job.clone();
        if let Some(ledger) = &cx.engine.ledger {
            job.options.baselines = ledger.state().baselines.clone();
        }
        let Checked { results, baselines } = cx.engine.check(job).await;
        let stopped = Some(Code::RunInterrupted);
        if results
            .iter()
            .any(|c| c.error.as_ref().map(|e| e.0) == stopped)
        {
            return Err(EngineError::Interrupted.into());
        }
        let found = Verification {
            run: None,
            title: format!("{} checks", results.len()),
            started_at,
            ended_at: cx.engine.clock.now().to_string(),
            comparisons: Vec::new(),
            checks: results,
        };
        let mut verified = Verified::of(&found, baselines, false, cx.by);
        verified.step = Some(cx.at.clone());
        cx.engine.remember(verified, cx.by).await?;
        let failed: Vec<&CheckResult> = found.checks.iter().filter(|c| !c.passed).collect();
        self.meter.checks_failed(failed.len() as u64);
        let fatal: Vec<&CheckResult> = failed
            .into_iter()
            .filter(|check| match check.gravity() {
                Severity::Critical => true,
                Severity::Warning => self.warnings_fail,
                Severity::Info => false,
            })
            .collect();
        if fatal.is_empty() {
            Ok(found.checks)
        } else {
            Err(judged(&fatal, found.checks.len()))
        }
    }
}

/// A store that stayed away is met by another try; anything else is how the data is.
fn judged(fatal: &[&CheckResult], all: usize) -> StepError {
    let away = |check: &&CheckResult| {
        check
            .error
            .as_ref()
            .is_some_and(|(code, _)| *code == Code::StoreUnavailable)
    };
    let fault = match fatal.iter().all(away) {
        true => Fault::Transient,
        false => Fault::Terminal,
    };
    let code = match fatal.iter().all(|check| check.error.is_some()) {
        true => Code::CheckImpossible,
        false => Code::CheckFailed,
    };
    let named: Vec<String> = fatal
        .iter()
        .take(NAMED)
        .map(|check| match &check.error {
            Some((code, message)) => format!("{} ({code} {message})", check.name),
            None => format!("{} ({} of {})", check.name, check.failed, check.looked_at),
        })
        .collect();
    let more = match fatal.len().saturating_sub(NAMED) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let message = format!(
        "{} of {all} checks failed: {}{more}",
        fatal.len(),
        named.join(", ")
    );
    StepError::new(fault, code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_store_that_is_away_is_worth_another_try() {
        let check = |error: Option<Code>| CheckResult {
            name: "c".to_owned(),
            kind: "required".to_owned(),
            severity: Severity::Critical,
            scope: String::new(),
            description: String::new(),
            passed: false,
            looked_at: 4,
            failed: 2,
            examples: Vec::new(),
            measured: std::collections::BTreeMap::new(),
            error: error.map(|code| (code, "why".to_owned())),
            elapsed_ms: 0,
        };
        let (failed, gone) = (check(None), check(Some(Code::UnknownCollection)));
        let away = check(Some(Code::StoreUnavailable));
        for (fatal, fault, code) in [
            (vec![&failed], Fault::Terminal, Code::CheckFailed),
            (vec![&away], Fault::Transient, Code::CheckImpossible),
            (vec![&away, &gone], Fault::Terminal, Code::CheckImpossible),
            (vec![&away, &failed], Fault::Terminal, Code::CheckFailed),
        ] {
            let error = judged(&fatal, 9);
            assert_eq!((error.fault, error.code), (fault, code));
        }
        let error = judged(&[&failed; 7], 9).to_string();
        assert!(
            error.starts_with("7 of 9 checks failed: c (2 of 4), "),
            "{error}"
        );
        assert!(error.ends_with(" and 2 more"), "{error}");
    }
}
