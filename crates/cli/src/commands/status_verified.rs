//! What was last verified, and whether that is still worth anything.

use crate::clock_words::when;
use crate::migration_screen::folded;
use crate::paint::{Paint, plural, thousands};
use crate::screen::Screen;
use whimbrel_model::finding::Severity;
use whimbrel_model::ledger::{State, VERIFICATION_OLD_SECONDS, VerificationState, Verified};
use whimbrel_model::{Code, Timestamp};

/// Different verifications that are shown.
const SHOWN: usize = 3;

/// One verification of those that were last.
struct Seen {
    /// When the look at the data began: it is as it was then.
    at: String,
    what: String,
    holds: bool,
    old: bool,
}

/// The last verifications, each of another thing, and the last `verify` step of a migration (when, and what it
/// was).
pub struct LastVerified {
    seen: Vec<Seen>,
    now: Timestamp,
}

impl LastVerified {
    #[must_use]
    pub fn look(state: &State, step: Option<(String, String)>, now: Timestamp) -> Self {
        let mut seen: Vec<Seen> = Vec::new();
        for found in newest(state).iter().map(|newest| &newest.found) {
            seen.push(Seen {
                at: found.started_at.clone(),
                what: format!("{}: {}", found.title, outcome(found)),
                holds: found.holds(),
                old: found.is_old(now),
            });
        }
        seen.extend(step.map(|(at, what)| {
            Seen {
                old: Timestamp::parse(&at)
                    .is_none_or(|at| now.seconds() - at.seconds() > VERIFICATION_OLD_SECONDS),
                at,
                what,
                holds: true,
            }
        }));
        Self { seen, now }
    }

    pub fn say(&self, screen: &Screen) {
        let mut label = "verified";
        for seen in &self.seen {
            let paint: fn(Paint, &str) -> String = match (seen.holds, seen.old) {
                (false, _) => Paint::bad,
                (true, true) => Paint::warn,
                (true, false) => Paint::bold,
            };
            let text = format!("{}: {}", when(&seen.at, self.now), seen.what);
            folded(screen, label, paint, &screen.text(&text));
            if seen.old {
                let code = Code::VerificationOld;
                let text =
                    format!("older than 24 h: verify again before anything relies on it ({code})");
                folded(screen, "", paint, &text);
            }
            label = "";
        }
    }
}

/// The newest of each title, newest first. Those of migrations are told with their steps.
fn newest(state: &State) -> Vec<&VerificationState> {
    let mut newest: Vec<&VerificationState> = Vec::new();
    let all = state.verifications.iter().rev();
    for last in all.filter(|last| last.found.step.is_none()) {
        let title = &last.found.title;
        if newest.len() < SHOWN && newest.iter().all(|other| other.found.title != *title) {
            newest.push(last);
        }
    }
    newest
}

/// `equal: 2,000 documents; 8 checks passed`
#[must_use]
pub fn outcome(found: &Verified) -> String {
    let mut words = Vec::new();
    let all = &found.comparisons;
    let sum = |of: fn(&whimbrel_model::ledger::Compared) -> u64| all.iter().map(of).sum::<u64>();
    if !all.is_empty() {
        let wrong: Vec<String> = [
            (sum(|c| c.missing), "missing"),
            (sum(|c| c.extra), "only in the target"),
            (sum(|c| c.differing), "different"),
            (sum(|c| c.unreadable), "unreadable"),
        ]
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| format!("{} {what}", thousands(n)))
        .collect();
        let sampled = match all.iter().any(|c| c.sample.is_some()) {
            true => " of a sample",
            false => "",
        };
        words.push(match wrong.is_empty() {
            true => format!("equal: {}{sampled}", plural(sum(|c| c.equal), "document")),
            false => format!("NOT equal: {}", wrong.join(", ")),
        });
    }
    if found.checks_passed > 0 {
        words.push(format!("{} passed", plural(found.checks_passed, "check")));
    }
    let failed = &found.checks_failed;
    for severity in [Severity::Critical, Severity::Warning, Severity::Info] {
        let names = failed.iter().filter(|c| c.severity == severity);
        let names: Vec<&str> = names.map(|c| c.name.as_str()).collect();
        if !names.is_empty() {
            words.push(format!("{} failed: {}", severity.word(), names.join(", ")));
        }
    }
    words.join("; ")
}

/// The same for machines.
#[must_use]
pub fn to_json(found: &VerificationState, now: Timestamp) -> serde_json::Value {
    let mut object = serde_json::json!(found);
    let begun = Timestamp::parse(&found.found.started_at);
    let age = begun.map(|at| now.seconds().saturating_sub(at.seconds()).max(0));
    object["age_seconds"] = serde_json::json!(age);
    object["old"] = found.found.is_old(now).into();
    object["holds"] = found.found.holds().into();
    object
}

/// The newest of each title for machines.
#[must_use]
pub fn all_json(state: &State, now: Timestamp) -> Vec<serde_json::Value> {
    newest(state)
        .iter()
        .map(|found| to_json(found, now))
        .collect()
}
