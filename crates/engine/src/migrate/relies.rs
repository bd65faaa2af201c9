//! What rests on a verification says so when there is none that it could rest on.

use whimbrel_model::finding::{Comparison, Severity, Verification};
use whimbrel_model::ledger::{FailedCheck, Verified};
use whimbrel_model::migration::Phase;
use whimbrel_model::{Code, Event, Timestamp};

use super::action::{StepContext, StepError};
use crate::engine::Engine;

/// Writes down what a `verify` step found by comparing.
pub(super) async fn remember_comparisons(
    cx: &StepContext<'_>,
    started: Timestamp,
    comparisons: Vec<Comparison>,
) -> Result<(), StepError> {
    let titles: Vec<&str> = comparisons.iter().map(|c| c.title.as_str()).collect();
    let found = Verification {
        title: titles.join(", "),
        started_at: started.to_string(),
        comparisons,
        ..Verification::default()
    };
    let verified = Verified::of(&found, Default::default(), false, cx.by);
    remember(cx, verified).await
}

/// Writes down whether all documents of a collection were found to be at a version. `failed` were not.
pub(super) async fn remember_version(
    cx: &StepContext<'_>,
    started: Timestamp,
    title: String,
    failed: u64,
) -> Result<(), StepError> {
    let critical = (failed > 0).then_some(Severity::Critical);
    let failed = critical.map(|severity| FailedCheck {
        name: title.clone(),
        severity,
        failed,
    });
    let verified = Verified {
        started_at: started.to_string(),
        worst: critical,
        checks_passed: u64::from(failed.is_none()),
        checks_failed: failed.into_iter().collect(),
        by: cx.by.to_owned(),
        title,
        ..Verified::default()
    };
    remember(cx, verified).await
}

async fn remember(cx: &StepContext<'_>, mut verified: Verified) -> Result<(), StepError> {
    verified.step = Some(cx.at.clone());
    Ok(cx.engine.remember(verified, cx.by).await?)
}

/// A phase in which the target answers rests on the last verification: says so where there is none, where it
/// is old, and where it found something.
pub(super) fn tell_age(cx: &StepContext<'_>, collection: &str, to: Phase) {
    if matches!(to, Phase::Off | Phase::Dualwrite | Phase::Shadow) {
        return;
    }
    let Some(ledger) = &cx.engine.ledger else {
        return;
    };
    let state = ledger.state();
    let last = state.verifications.last().map(|last| &last.found);
    let Some(why) = doubt(last, cx.engine.clock.now()) else {
        return;
    };
    let message = format!("phase {to} of {collection} rests on the last verification: {why}");
    Engine::send(
        cx.engine,
        &Event::Notice {
            run: format!("{} step {}", cx.at.migration, cx.at.step + 1),
            message,
        },
    );
}

fn doubt(last: Option<&Verified>, now: Timestamp) -> Option<String> {
    let code = Code::VerificationOld;
    match last {
        None => Some(format!("there was none ({code})")),
        Some(last) if !last.holds() => Some(format!("{} was not as it should be", last.title)),
        Some(last) if last.is_old(now) => {
            Some(format!("{} is more than 24 h old ({code})", last.title))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fresh_and_holds_leaves_no_doubt() {
        let now = Timestamp::parse("2026-11-22T12:00:00Z").unwrap();
        let verified = |started_at: &str, worst| Verified {
            title: "it".to_owned(),
            started_at: started_at.to_owned(),
            worst,
            ..Verified::default()
        };
        let fresh = "2026-11-22T11:00:00Z";
        for (last, expect) in [
            (None, Some("there was none (WB-V05)")),
            (Some(verified(fresh, None)), None),
            (Some(verified(fresh, Some(Severity::Warning))), None),
            (
                Some(verified(fresh, Some(Severity::Critical))),
                Some("it was not as it should be"),
            ),
            (
                Some(verified("2026-11-21T11:00:00Z", None)),
                Some("it is more than 24 h old (WB-V05)"),
            ),
        ] {
            assert_eq!(doubt(last.as_ref(), now).as_deref(), expect, "{last:?}");
        }
    }
}
