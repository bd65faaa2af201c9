//! JUnit XML, as CI systems read it: one test case a comparison and a check. What only warns is skipped with
//! its message, so that it is seen and fails nothing.

use super::markup::escaped;
use super::{failed_words, measured_words, other_sources, sample_words, small_words, wrong_words};
use std::fmt::Write;
use whimbrel_model::finding::{CheckResult, Comparison, Severity, Verification};

/// Differences named in a failure; all of them are in the other reports.
const NAMED: usize = 100;

enum Outcome {
    Passed,
    Failed(String),
    Warned(String),
    /// It could not be judged.
    Error(String),
}

struct Case {
    class: String,
    name: String,
    elapsed_ms: u64,
    outcome: Outcome,
    /// What stands inside the outcome.
    details: Vec<String>,
    out: String,
}

/// The whole file.
#[must_use]
pub fn document(found: &Verification) -> String {
    let comparisons: Vec<Case> = found.comparisons.iter().map(comparison).collect();
    let checks: Vec<Case> = found.checks.iter().map(check).collect();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let all: Vec<&Case> = comparisons.iter().chain(&checks).collect();
    let _ = writeln!(
        out,
        "<testsuites name=\"{}\" {}>",
        escaped(&format!("whimbrel verify {}", found.title)),
        sums(&all)
    );
    for (name, cases) in [("comparisons", &comparisons), ("checks", &checks)] {
        if cases.is_empty() {
            continue;
        }
        let cases: Vec<&Case> = cases.iter().collect();
        let _ = writeln!(
            out,
            "  <testsuite name=\"{name}\" {} timestamp=\"{}\">",
            sums(&cases),
            escaped(&whole_seconds(&found.started_at))
        );
        for case in cases {
            case.write(&mut out);
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

/// JUnit's instants have neither fraction nor zone.
fn whole_seconds(instant: &str) -> String {
    instant.get(..19).unwrap_or(instant).to_owned()
}

fn sums(cases: &[&Case]) -> String {
    let count = |of: fn(&Outcome) -> bool| cases.iter().filter(|c| of(&c.outcome)).count();
    format!(
        "tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{}\"",
        cases.len(),
        count(|o| matches!(o, Outcome::Failed(_))),
        count(|o| matches!(o, Outcome::Error(_))),
        count(|o| matches!(o, Outcome::Warned(_))),
        seconds(cases.iter().map(|c| c.elapsed_ms).sum())
    )
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

impl Case {
    fn write(&self, out: &mut String) {
        let _ = writeln!(
            out,
            "    <testcase classname=\"{}\" name=\"{}\" time=\"{}\">",
            escaped(&self.class),
            escaped(&self.name),
            seconds(self.elapsed_ms)
        );
        let details = || {
            let lines: Vec<_> = self.details.iter().map(|line| escaped(line)).collect();
            lines.join("\n")
        };
        let _ = match &self.outcome {
            Outcome::Passed => Ok(()),
            Outcome::Failed(why) => writeln!(
                out,
                "      <failure type=\"critical\" message=\"{}\">{}</failure>",
                escaped(why),
                details()
            ),
            Outcome::Error(why) => writeln!(
                out,
                "      <error type=\"impossible\" message=\"{}\">{}</error>",
                escaped(why),
                details()
            ),
            Outcome::Warned(why) => {
                writeln!(out, "      <skipped message=\"{}\"/>", escaped(why))
            }
        };
        let said = match self.outcome {
            Outcome::Warned(_) => [details(), escaped(&self.out)].join("\n"),
            _ => escaped(&self.out),
        };
        if !said.trim().is_empty() {
            let _ = writeln!(out, "      <system-out>{}</system-out>", said.trim());
        }
        out.push_str("    </testcase>\n");
    }
}

fn comparison(c: &Comparison) -> Case {
    let mut details: Vec<String> = c
        .differences
        .iter()
        .take(NAMED)
        .map(|d| {
            let mut line = format!("{}: {}/{}", d.what.word(), d.collection, d.key);
            let sources = other_sources(d);
            if !sources.is_empty() {
                line.push_str(&format!(" (from {})", sources.join(", ")));
            }
            if !d.paths.is_empty() {
                line.push_str(&format!(" in {}", d.paths.join(", ")));
            }
            if let Some((code, message)) = &d.error {
                line.push_str(&format!(": {code} {message}"));
            }
            line
        })
        .collect();
    if super::bad(c) > NAMED as u64 {
        details.push(format!("and {} more", super::bad(c) - NAMED as u64));
    }
    let mut said = small_words(c);
    said.extend(c.sample.as_ref().map(sample_words));
    Case {
        class: c.target.clone(),
        name: c.title.clone(),
        elapsed_ms: c.elapsed_ms,
        outcome: match c.equal() {
            true => Outcome::Passed,
            false => Outcome::Failed(format!("not equal: {}", wrong_words(c).join(", "))),
        },
        details,
        out: said.join("; "),
    }
}

fn check(c: &CheckResult) -> Case {
    let why = match c.description.as_str() {
        "" => failed_words(c),
        description => format!("{}: {description}", failed_words(c)),
    };
    let details = c.examples.iter().map(|example| {
        let parts = [
            example.key.as_deref(),
            example.path.as_deref(),
            Some(example.message.as_str()),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join("  ")
    });
    Case {
        class: match c.scope.as_str() {
            "" => c.kind.clone(),
            scope => scope.to_owned(),
        },
        name: c.name.clone(),
        elapsed_ms: c.elapsed_ms,
        outcome: match (c.passed, &c.error, c.severity) {
            (true, ..) => Outcome::Passed,
            (false, Some(_), _) => Outcome::Error(why),
            (false, None, Severity::Critical) => Outcome::Failed(why),
            (false, None, severity) => Outcome::Warned(format!("{}: {why}", severity.word())),
        },
        details: details.collect(),
        out: measured_words(&c.measured),
    }
}
