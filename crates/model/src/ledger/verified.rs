//! What the ledger remembers of a verification, so that others can rely on it, or see that they cannot.

use super::RunId;
use crate::check::Baselines;
use crate::finding::{Severity, Verification};
use crate::{Timestamp, ledger::StepRef};
use serde::{Deserialize, Serialize};

/// Nothing may rely on a verification that is older than this without saying so.
pub const VERIFICATION_OLD_SECONDS: i64 = 24 * 3600;

/// A verification that came to its end: what it found, without keys and without values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Verified {
    /// As the report names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    pub title: String,
    pub started_at: String,
    /// `None`: all is as it should be.
    pub worst: Option<Severity>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub comparisons: Vec<Compared>,
    pub checks_passed: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checks_failed: Vec<FailedCheck>,
    /// What was measured that later verifications compare with. The state keeps the newest by check, and not
    /// here.
    #[serde(skip_serializing_if = "Baselines::is_empty")]
    pub baselines: Baselines,
    /// The migration's step that it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<StepRef>,
    /// Who had it done.
    pub by: String,
}

/// One comparison's counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Compared {
    pub title: String,
    pub source_documents: u64,
    pub equal: u64,
    pub missing: u64,
    pub extra: u64,
    pub differing: u64,
    pub unreadable: u64,
    /// The share that was looked at, where it was not everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedCheck {
    pub name: String,
    pub severity: Severity,
    /// Documents, groups or calls that failed; 0 where the check could not be done.
    pub failed: u64,
}

impl Verified {
    /// What is to be remembered. Baselines come from checks that passed only, unless `rebase`.
    #[must_use]
    pub fn of(
        found: &Verification,
        mut baselines: Baselines,
        rebase: bool,
        by: impl Into<String>,
    ) -> Self {
        let passed = |name: &String| {
            let check = found.checks.iter().find(|check| check.name == *name);
            check.is_some_and(|check| check.passed)
        };
        baselines.retain(|name, _| rebase || passed(name));
        let compared = found.comparisons.iter().map(|c| Compared {
            title: c.title.clone(),
            source_documents: c.source_documents,
            equal: c.equal,
            missing: c.missing,
            extra: c.extra,
            differing: c.differing,
            unreadable: c.unreadable,
            sample: c.sample.as_ref().map(|sample| sample.share),
        });
        let failed = found.checks.iter().filter(|check| !check.passed);
        let failed = failed.map(|check| FailedCheck {
            name: check.name.clone(),
            severity: check.gravity(),
            failed: check.failed,
        });
        Self {
            run: found.run.clone(),
            title: found.title.clone(),
            started_at: found.started_at.clone(),
            worst: found.worst(),
            comparisons: compared.collect(),
            checks_passed: found.checks.iter().filter(|check| check.passed).count() as u64,
            checks_failed: failed.collect(),
            baselines,
            step: None,
            by: by.into(),
        }
    }

    /// Whether everything that relies on it may go on: warnings do not keep anybody.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.worst != Some(Severity::Critical)
    }

    /// Whether it is too old to rely on. The data is as it was found when the look at it began. A date that
    /// cannot be read is too old.
    #[must_use]
    pub fn is_old(&self, now: Timestamp) -> bool {
        Timestamp::parse(&self.started_at)
            .is_none_or(|at| now.seconds() - at.seconds() > VERIFICATION_OLD_SECONDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Baseline;
    use crate::finding::CheckResult;

    fn check(name: &str, passed: bool) -> CheckResult {
        CheckResult {
            name: name.to_owned(),
            kind: "latency".to_owned(),
            severity: Severity::Warning,
            scope: String::new(),
            description: String::new(),
            passed,
            looked_at: 1,
            failed: u64::from(!passed),
            examples: Vec::new(),
            measured: std::collections::BTreeMap::new(),
            error: None,
            elapsed_ms: 0,
        }
    }

    #[test]
    fn what_failed_is_no_baseline_unless_it_is_said_to_be() {
        let found = Verification {
            checks: vec![check("good", true), check("bad", false)],
            ..Verification::default()
        };
        let measured: Baselines = ["good", "bad"]
            .map(|name| (name.to_owned(), Baseline::default()))
            .into();
        for (rebase, expect) in [(false, vec!["good"]), (true, vec!["bad", "good"])] {
            let verified = Verified::of(&found, measured.clone(), rebase, "ada");
            assert_eq!(verified.baselines.keys().collect::<Vec<_>>(), expect);
            assert_eq!(
                (verified.checks_passed, verified.checks_failed.len()),
                (1, 1)
            );
            assert!(verified.holds());
        }
    }

    #[test]
    fn a_verification_grows_old() {
        let now = Timestamp::parse("2026-11-22T12:00:00Z").unwrap();
        for (started_at, old) in [
            ("2026-11-22T11:00:00Z", false),
            ("2026-11-21T12:00:00Z", false),
            ("2026-11-21T11:59:59Z", true),
            ("nonsense", true),
        ] {
            let verified = Verified {
                started_at: started_at.to_owned(),
                ..Verified::default()
            };
            assert_eq!(verified.is_old(now), old, "{started_at}");
        }
    }
}
