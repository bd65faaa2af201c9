//! What a verification found: comparisons, checks, and the findings that people and machines read.

use crate::ledger::RunId;
use crate::{Code, Key};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How bad it is when a check fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing may rely on this data: exit code 4, a gate stays shut.
    Critical,
    Warning,
    Info,
}

impl Severity {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }

    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Critical, Self::Warning, Self::Info]
            .into_iter()
            .find(|s| s.word() == word)
    }
}

/// How one key differs between two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mismatch {
    /// The target lacks what the source yields.
    Missing,
    /// The target holds what no source yields.
    Extra,
    /// Both have it, and it is not the same.
    Differing,
    /// One end cannot be read, or the source fails in the rule.
    Unreadable,
}

impl Mismatch {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing in the target",
            Self::Extra => "only in the target",
            Self::Differing => "different",
            Self::Unreadable => "unreadable",
        }
    }
}

/// One key that is not the same on both ends. Never a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    pub what: Mismatch,
    /// The target's collection.
    pub collection: String,
    /// The target document's key; the source's where it yields none.
    pub key: Key,
    /// The source documents that it comes from, where known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Key>,
    /// Where the two differ: paths of fields, at most a few.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Why it is unreadable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<(Code, String)>,
}

/// What comparing a source with a target found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// `app/conversations to split/messages by messages`
    pub title: String,
    pub source: String,
    pub target: String,
    /// Source documents looked at.
    pub source_documents: u64,
    /// Target documents looked at.
    pub target_documents: u64,
    /// Of them, equal without being read: their range had the same digest on both ends.
    pub by_digest: u64,
    pub equal: u64,
    pub missing: u64,
    pub extra: u64,
    pub differing: u64,
    pub unreadable: u64,
    /// Source documents that the rule leaves out.
    pub skipped: u64,
    /// Differences that were gone when both ends were read again: somebody was writing.
    pub settled: u64,
    /// Present where not everything was looked at.
    pub sample: Option<Sample>,
    /// The first differences, in key order: at most [`MOST_DIFFERENCES`]; the counts tell of all.
    pub differences: Vec<Difference>,
    pub elapsed_ms: u64,
}

/// How many differences a comparison keeps in full.
pub const MOST_DIFFERENCES: usize = 10_000;

impl Comparison {
    /// Whether the target is what it should be, as far as was looked.
    #[must_use]
    pub fn equal(&self) -> bool {
        self.missing + self.extra + self.differing + self.unreadable == 0
    }
}

/// What a sample says of the whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Of the documents, 0 to 1.
    pub share: f64,
    pub seed: u64,
    /// With this confidence (0 to 1) …
    pub confidence: f64,
    /// … at most this share of all documents is not as it should be.
    pub at_most: f64,
}

/// One place where a check failed. Never a value, unless values were asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// `None`: the finding is about the collection as a whole.
    pub key: Option<String>,
    pub path: Option<String>,
    pub message: String,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckResult {
    pub name: String,
    /// The file's word for it: `required`, `unique`, `reference`, …
    pub kind: String,
    pub severity: Severity,
    /// `store/collection`, where it is about one.
    pub scope: String,
    pub description: String,
    pub passed: bool,
    /// Documents, groups or calls judged.
    pub looked_at: u64,
    /// How many of them failed.
    pub failed: u64,
    /// At most a few examples, the first in key order.
    pub examples: Vec<Example>,
    /// Numbers worth seeing: `p95 → 3.2 ms`, `null share → 1.2 %`.
    pub measured: BTreeMap<String, String>,
    /// The check itself could not be done.
    pub error: Option<(Code, String)>,
    pub elapsed_ms: u64,
}

impl CheckResult {
    /// How bad it is where it failed: a check that could not be done is critical.
    #[must_use]
    pub fn gravity(&self) -> Severity {
        match self.error {
            Some(_) => Severity::Critical,
            None => self.severity,
        }
    }
}

/// A whole verification.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// Where it stands in the ledger.
    pub run: Option<RunId>,
    pub title: String,
    pub started_at: String,
    pub ended_at: String,
    pub comparisons: Vec<Comparison>,
    pub checks: Vec<CheckResult>,
}

impl Verification {
    /// The gravest failed check; a comparison that is not equal is critical, and so is a check that could
    /// not be done.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        let compared = self.comparisons.iter().filter(|c| !c.equal());
        let failed = self.checks.iter().filter(|c| !c.passed);
        let severities = compared
            .map(|_| Severity::Critical)
            .chain(failed.map(CheckResult::gravity));
        severities.min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_counts() {
        let mut all = Verification::default();
        assert_eq!(all.worst(), None);
        let check = |passed, severity| CheckResult {
            name: "c".into(),
            kind: "required".into(),
            severity,
            scope: String::new(),
            description: String::new(),
            passed,
            looked_at: 1,
            failed: u64::from(!passed),
            examples: Vec::new(),
            measured: BTreeMap::new(),
            error: None,
            elapsed_ms: 0,
        };
        all.checks.push(check(true, Severity::Critical));
        assert_eq!(all.worst(), None);
        all.checks.push(check(false, Severity::Info));
        all.checks.push(check(false, Severity::Warning));
        assert_eq!(all.worst(), Some(Severity::Warning));
        all.comparisons.push(Comparison {
            missing: 1,
            ..Comparison::default()
        });
        assert_eq!(all.worst(), Some(Severity::Critical));
    }
}
