//! The steps that are words: a go-ahead, a phase.

use async_trait::async_trait;
use whimbrel_model::ledger::StepReport;
use whimbrel_model::migration::{ApproveStep, Inverse, Phase};
use whimbrel_model::{Code, Entry};

use super::action::{Estimate, Fault, StepAction, StepContext, StepError};
use super::documents::nothing_to_undo;
use super::orchestrate::{facts, no_ledger};
use super::relies::tell_age;
use crate::error::EngineError;

/// Waits for somebody's word.
#[derive(Clone, Debug)]
pub struct ApproveAction {
    pub step: ApproveStep,
    /// What to type to give it: `whimbrel approve 0001_x go`.
    pub command: String,
}

#[async_trait]
impl StepAction for ApproveAction {
    async fn estimate(&self) -> Result<Estimate, EngineError> {
        let who = match self.step.by.as_slice() {
            [] => "anybody".to_owned(),
            by => by.join(" or "),
        };
        Ok(Estimate {
            summary: format!("{who} says go: {}", self.step.question),
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
        match &cx.state.approved_by {
            Some(by) => Ok(StepReport {
                summary: format!("{by} gave the go-ahead"),
                ..StepReport::default()
            }),
            None => {
                let question = &self.step.question;
                let message = format!("waits for a go-ahead: {question} ({})", self.command);
                Err(StepError::new(
                    Fault::Waiting,
                    Code::ApprovalNeeded,
                    message,
                ))
            }
        }
    }

    async fn validate(&self, _cx: &StepContext<'_>) -> Result<(), StepError> {
        Ok(())
    }

    async fn backward(&self, _cx: &StepContext<'_>) -> Result<StepReport, StepError> {
        Ok(nothing_to_undo())
    }
}

/// Moves a collection's phase, in the ledger: where everything that routes looks it up.
#[derive(Clone, Debug)]
pub struct PhaseAction {
    /// `store/collection`
    pub collection: String,
    pub to: Phase,
}

#[async_trait]
impl StepAction for PhaseAction {
    async fn estimate(&self) -> Result<Estimate, EngineError> {
        Ok(Estimate {
            summary: format!("{} to {}", self.collection, self.to),
            ..Estimate::default()
        })
    }

    fn inverse(&self) -> Option<Inverse> {
        (self.to != Phase::Complete).then_some(Inverse::FormerPhase)
    }

    fn writes(&self) -> bool {
        true
    }

    async fn forward(&self, cx: &StepContext<'_>) -> Result<StepReport, StepError> {
        tell_age(cx, &self.collection, self.to);
        let from = self.change(cx, self.to, &sign(cx, "up")).await?;
        Ok(StepReport {
            summary: format!("{}: {from} to {}", self.collection, self.to),
            facts: facts([("from", from.to_string())]),
            ..StepReport::default()
        })
    }

    async fn validate(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        let ledger = cx.engine.ledger.as_ref().ok_or_else(no_ledger)?;
        let state = ledger.state();
        let now = state.phases.get(&self.collection);
        // A later step may have moved it on; what counts is that this one did.
        if now.is_some() || self.to == Phase::Off {
            return Ok(());
        }
        let message = format!("{} is still off", self.collection);
        Err(StepError::terminal(Code::StepInvalid, message))
    }

    async fn backward(&self, cx: &StepContext<'_>) -> Result<StepReport, StepError> {
        let ledger = cx.engine.ledger.as_ref().ok_or_else(no_ledger)?;
        let state = ledger.state();
        let reported = cx.state.report.as_ref().and_then(|r| r.facts.get("from"));
        let former = match (reported, state.phases.get(&self.collection)) {
            (Some(from), _) => from.parse().ok(),
            // Killed between the change and its report.
            (None, Some(now)) if now.by == sign(cx, "up") => Some(now.from),
            // The change never happened.
            (None, _) => None,
        };
        let Some(former) = former else {
            return Ok(nothing_to_undo());
        };
        let from = self.change(cx, former, &sign(cx, "down")).await?;
        Ok(StepReport {
            summary: format!("{}: {from} back to {former}", self.collection),
            ..StepReport::default()
        })
    }
}

impl PhaseAction {
    /// Returns the phase before. Done twice, it changes nothing the second time.
    async fn change(&self, cx: &StepContext<'_>, to: Phase, by: &str) -> Result<Phase, StepError> {
        let ledger = cx.engine.ledger.as_ref().ok_or_else(no_ledger)?;
        let lease = cx.engine.held.as_ref().ok_or_else(no_ledger)?;
        let state = ledger.state();
        let (from, epoch) = match state.phases.get(&self.collection) {
            Some(now) if now.by == by && now.phase == to => return Ok(now.from),
            Some(now) => (now.phase, now.epoch),
            None => (Phase::Off, 0),
        };
        from.may_become(to)
            .map_err(|e| StepError::terminal(Code::StepFailed, e.to_string()))?;
        let entry = Entry::PhaseChanged {
            collection: self.collection.clone(),
            from,
            to,
            epoch: epoch + 1,
            by: by.to_owned(),
        };
        ledger.append(lease.fence(), vec![entry], &[]).await?;
        Ok(from)
    }
}

/// Which step of which application changed a phase, and in which direction.
fn sign(cx: &StepContext<'_>, direction: &str) -> String {
    let at = cx.at;
    format!(
        "{} ({}) step {} {direction}",
        at.migration,
        at.application,
        at.step + 1
    )
}
