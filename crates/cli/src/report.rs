//! What a verification found, told to people, browsers and CI. Never a document's value: what findings may
//! hold of them was decided when they were made.

pub mod charts;
pub mod html;
pub mod junit;
mod markup;
pub mod terminal;

use crate::commands::verify::Verify;
use crate::paint::{duration, plural, thousands};
use std::collections::BTreeMap;
use whimbrel_engine::RepairReport;
use whimbrel_model::Counts;
use whimbrel_model::finding::{
    CheckResult, Comparison, Difference, Mismatch, Sample, Severity, Verification,
};

/// A verification with what was done about it.
pub struct Told<'a> {
    pub found: &'a Verification,
    /// One a comparison: what was repaired. The comparison itself is as it is afterwards.
    pub mended: &'a [Option<Mended>],
    /// The command that looks again.
    pub again: String,
    pub args: &'a Verify,
}

impl Told<'_> {
    /// The verification, and what was repaired where something was.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let mut object = serde_json::json!(self.found);
        if self.mended.iter().any(Option::is_some) {
            object["repairs"] = serde_json::json!(self.mended);
        }
        object
    }
}

/// What a repair did.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Mended {
    /// How many documents were not as they should be before.
    pub before: u64,
    pub synced: Option<Counts>,
    pub deleted: u64,
    /// Those that are still not as they should be.
    pub left: u64,
    /// Of them, those that the comparison had counted and not listed: nothing was done about them.
    pub unlisted: u64,
}

impl Mended {
    #[must_use]
    pub fn of(before: &Comparison, done: &RepairReport) -> Self {
        Self {
            before: bad(before),
            synced: done.synced.as_ref().map(|report| report.counts),
            deleted: done.deleted,
            left: done.left.len() as u64 + done.unlisted,
            unlisted: done.unlisted,
        }
    }

    /// What this turn and the next did together.
    #[must_use]
    pub fn and(self, next: Self) -> Self {
        let synced = match (self.synced, next.synced) {
            (Some(mut counts), Some(more)) => {
                counts.add(&more);
                Some(counts)
            }
            (one, other) => one.or(other),
        };
        Self {
            before: self.before,
            synced,
            deleted: self.deleted + next.deleted,
            left: next.left,
            unlisted: next.unlisted,
        }
    }

    /// The same where a later comparison found what is left.
    #[must_use]
    pub fn leaving(self, after: &Comparison) -> Self {
        let left = bad(after);
        let listed = after.differences.len() as u64;
        Self {
            left,
            unlisted: left.saturating_sub(listed),
            ..self
        }
    }

    /// The comparison as it is after the repair: what was looked at again is counted anew.
    #[must_use]
    pub fn after(&self, mut comparison: Comparison, done: RepairReport) -> Comparison {
        let count = |differences: &[Difference], what| {
            differences.iter().filter(|d| d.what == what).count() as u64
        };
        let was = std::mem::replace(&mut comparison.differences, done.left);
        let left = &comparison.differences;
        let now = |all: u64, what| all.saturating_sub(count(&was, what)) + count(left, what);
        let missing = now(comparison.missing, Mismatch::Missing);
        let extra = now(comparison.extra, Mismatch::Extra);
        let differing = now(comparison.differing, Mismatch::Differing);
        let unreadable = now(comparison.unreadable, Mismatch::Unreadable);
        let made_right = (comparison.missing + comparison.differing + comparison.unreadable)
            .saturating_sub(missing + differing + unreadable);
        comparison.equal += made_right;
        (comparison.missing, comparison.extra) = (missing, extra);
        (comparison.differing, comparison.unreadable) = (differing, unreadable);
        comparison
    }
}

/// The verification with paths that begin at the project's folder.
#[must_use]
pub fn without_home(found: &Verification, home: Option<&str>) -> Verification {
    let mut shown = found.clone();
    if let Some(home) = home {
        let short = |text: &mut String| *text = text.replace(home, "");
        short(&mut shown.title);
        for c in &mut shown.comparisons {
            for text in [&mut c.title, &mut c.source, &mut c.target] {
                short(text);
            }
        }
        shown.checks.iter_mut().for_each(|c| short(&mut c.scope));
    }
    shown
}

/// Documents that are not as they should be.
#[must_use]
pub fn bad(c: &Comparison) -> u64 {
    c.missing + c.extra + c.differing + c.unreadable
}

/// The one line that matters.
pub struct Verdict {
    pub comparisons: Option<(bool, String)>,
    pub checks: Option<(bool, String)>,
}

#[must_use]
pub fn verdict(found: &Verification) -> Verdict {
    let all = &found.comparisons;
    let sum = |of: fn(&Comparison) -> u64| all.iter().map(of).sum::<u64>();
    let comparisons = (!all.is_empty()).then(|| {
        let wrong = wrong_words(&Comparison {
            missing: sum(|c| c.missing),
            extra: sum(|c| c.extra),
            differing: sum(|c| c.differing),
            unreadable: sum(|c| c.unreadable),
            ..Comparison::default()
        });
        if !wrong.is_empty() {
            return (false, format!("NOT equal: {}", wrong.join(", ")));
        }
        let sampled = if all.iter().any(|c| c.sample.is_some()) {
            " of a sample"
        } else {
            ""
        };
        let documents = plural(sum(|c| c.equal), "document");
        (true, format!("equal: {documents}{sampled}"))
    });
    let total = found.checks.len() as u64;
    let failed: Vec<&CheckResult> = found.checks.iter().filter(|c| !c.passed).collect();
    let checks = (total > 0).then(|| {
        if failed.is_empty() {
            return (true, format!("{} passed", plural(total, "check")));
        }
        let by_severity = [Severity::Critical, Severity::Warning, Severity::Info].map(|severity| {
            let n = failed.iter().filter(|c| c.gravity() == severity).count();
            (n > 0).then(|| format!("{n} {}", severity.word()))
        });
        let by_severity: Vec<_> = by_severity.into_iter().flatten().collect();
        let critical = failed.iter().any(|c| c.gravity() == Severity::Critical);
        let word = if critical { "FAILED" } else { "failed" };
        let text = format!(
            "{} of {} {word}: {}",
            failed.len(),
            plural(total, "check"),
            by_severity.join(", ")
        );
        (!critical, text)
    });
    Verdict {
        comparisons,
        checks,
    }
}

/// `3 missing`, `1 different`
#[must_use]
pub fn wrong_words(c: &Comparison) -> Vec<String> {
    [
        (c.missing, "missing"),
        (c.extra, "only in the target"),
        (c.differing, "different"),
        (c.unreadable, "unreadable"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, what)| format!("{} {what}", thousands(n)))
    .collect()
}

/// What else a comparison's numbers say, a sentence each.
#[must_use]
pub fn small_words(c: &Comparison) -> Vec<String> {
    let mut words = vec![format!(
        "{} looked at in the source, {} in the target",
        thousands(c.source_documents),
        thousands(c.target_documents)
    )];
    if c.by_digest > 0 {
        words.push(format!(
            "{} of them equal by their ranges' digests, without being read",
            thousands(c.by_digest)
        ));
    }
    if c.skipped > 0 {
        words.push(format!(
            "{} left out by the rule or by what was asked for",
            thousands(c.skipped)
        ));
    }
    if c.settled > 0 {
        let (they, were) = match c.settled {
            1 => ("it", "was"),
            _ => ("they", "were"),
        };
        words.push(format!(
            "{} {were} just being written: looked at again, {they} {were} as {they} should be",
            plural(c.settled, "document")
        ));
    }
    words
}

/// `with 95 % confidence at most 0.03 % of all documents are not as they should be (1 % looked at, --seed 7)`
#[must_use]
pub fn sample_words(sample: &Sample) -> String {
    format!(
        "with {} confidence at most {} of all documents are not as they should be ({} looked at; --seed {} takes \
         the same again)",
        per_cent(sample.confidence),
        per_cent(sample.at_most),
        per_cent(sample.share),
        sample.seed
    )
}

/// Three digits that count: `1 %`, `0.0298 %`, `100 %`. Rounded up, since it bounds.
#[must_use]
pub fn per_cent(share: f64) -> String {
    let amount = share * 100.0;
    if amount <= 0.0 || !amount.is_finite() {
        return "0 %".to_owned();
    }
    let mut scale = 1.0;
    while amount * scale < 100.0 && scale < 1e9 {
        scale *= 10.0;
    }
    // What is off by a rounding of the binary fraction only is not rounded up.
    let rounded = (amount * scale - 1e-6).ceil() / scale;
    format!("{rounded} %")
}

/// `12 of 400 documents failed`, in words that fit the kind.
#[must_use]
pub fn failed_words(check: &CheckResult) -> String {
    match (&check.error, check.looked_at) {
        (Some((code, message)), _) => format!("could not be done: {code} {message}"),
        (None, 0) => plural(check.failed, "finding"),
        (None, seen) => format!("{} of {} failed", thousands(check.failed), thousands(seen)),
    }
}

/// What a check that passed has looked at.
#[must_use]
pub fn seen_words(check: &CheckResult) -> String {
    let mut words = Vec::new();
    if check.looked_at > 0 {
        words.push(format!("{} looked at", thousands(check.looked_at)));
    }
    words.push(duration(check.elapsed_ms));
    words.join(", ")
}

/// `p50 1.2 ms, p95 3.4 ms`
#[must_use]
pub fn measured_words(measured: &BTreeMap<String, String>) -> String {
    let words = measured
        .iter()
        .map(|(name, value)| format!("{name} {value}"));
    words.collect::<Vec<_>>().join(", ")
}

/// The source documents of a difference, where they are not plain from its key.
#[must_use]
pub fn other_sources(difference: &Difference) -> Vec<String> {
    let keys = difference
        .sources
        .iter()
        .filter(|key| **key != difference.key);
    keys.map(ToString::to_string).collect()
}

/// Failed checks, the gravest first, otherwise as the files have them.
#[must_use]
pub fn failed(found: &Verification) -> Vec<&CheckResult> {
    let mut failed: Vec<_> = found.checks.iter().filter(|c| !c.passed).collect();
    failed.sort_by_key(|c| c.gravity());
    failed
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_model::Key;

    #[test]
    fn shares_are_rounded_up() {
        for (share, expect) in [
            (0.0, "0 %"),
            (0.95, "95 %"),
            (1.0, "100 %"),
            (0.01, "1 %"),
            (0.000_298_1, "0.0299 %"),
            (0.123_41, "12.4 %"),
        ] {
            assert_eq!(per_cent(share), expect, "{share}");
        }
    }

    #[test]
    fn a_repaired_comparison_is_counted_anew() {
        let difference = |what, n| Difference {
            what,
            collection: "c".to_owned(),
            key: Key::Int(n),
            sources: Vec::new(),
            paths: Vec::new(),
            error: None,
        };
        let before = Comparison {
            equal: 10,
            missing: 3,
            extra: 1,
            differing: 1,
            differences: vec![
                difference(Mismatch::Missing, 1),
                difference(Mismatch::Missing, 2),
                difference(Mismatch::Differing, 3),
                difference(Mismatch::Extra, 4),
            ],
            ..Comparison::default()
        };
        // One missing document was never listed; one listed stays different; the extra one was left alone.
        let done = RepairReport {
            synced: None,
            deleted: 0,
            left: vec![
                difference(Mismatch::Differing, 3),
                difference(Mismatch::Extra, 4),
            ],
            unlisted: 1,
        };
        let mended = Mended::of(&before, &done);
        let after = mended.after(before, done);
        assert_eq!(
            (after.equal, after.missing, after.extra, after.differing),
            (12, 1, 1, 1)
        );
        assert_eq!(mended.left, bad(&after));
    }
}
