//! The system tests that Google ships with its Python client.

use super::Ground;
use crate::junit::unescape;
use crate::{Outcome, process};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

/// Below this, tests are missing rather than failing.
const PASSED_AT_LEAST: usize = 215;
/// Those that run against Google's production service only. One more would be a test that no longer looks at anything.
const SKIPPED: usize = 192;

const KNOWN: &str = include_str!("../../firestore/known-failures.toml");

#[derive(Deserialize)]
struct Known {
    #[serde(default)]
    failing: Vec<Failing>,
}

/// A test that may fail, and why.
#[derive(Deserialize)]
struct Failing {
    /// As pytest names it: `test_system.py::test_name[parameter]`.
    test: String,
    reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Passed,
    Failed,
    Skipped,
}

/// What became of the tests.
struct Outcomes {
    fates: BTreeMap<String, Fate>,
    counts: Counts,
}

/// As pytest counts: a test's parts count, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

pub fn run(ground: &Ground, address: &str, only: Option<&str>) -> Outcome<String> {
    let known: Known =
        toml::from_str(KNOWN).map_err(|error| format!("known-failures.toml: {error}"))?;
    let outcomes = tests(ground, address, only)?;
    judge(&outcomes, &known, only.is_some())
}

/// Another server: counted, not judged.
pub fn run_other(ground: &Ground, address: &str, only: Option<&str>) -> Outcome<String> {
    let Outcomes { fates, counts } = tests(ground, address, only)?;
    for (test, _) in fates.iter().filter(|(_, fate)| **fate == Fate::Failed) {
        println!("failed: {test}");
    }
    Ok(counts.to_string())
}

fn tests(ground: &Ground, address: &str, only: Option<&str>) -> Outcome<Outcomes> {
    let junit = ground.scratch.path().join("official.xml");
    let ini = ground.scratch.path().join("pytest.ini");
    let _ = fs::remove_file(&junit);
    fs::write(&ini, "[pytest]\n").map_err(|error| format!("{}: {error}", ini.display()))?;
    let mut pytest = ground.clients.python(Path::new("-m"), address);
    pytest
        .current_dir(ground.clients.sources())
        .args([
            "pytest",
            "--quiet",
            "--tb=short",
            "-p",
            "no:cacheprovider",
            "-c",
        ])
        .arg(&ini)
        .args(["--rootdir", "."])
        .args(["-o", "asyncio_default_fixture_loop_scope=module"])
        .args(["-o", "asyncio_default_test_loop_scope=module"])
        .args(["--timeout", "30", "--junitxml"])
        .arg(&junit)
        .args([
            "tests/system/test_system.py",
            "tests/system/test_system_async.py",
        ]);
    if let Some(only) = only {
        pytest.args(["-k", only]);
    }
    // It fails where a test fails; what failed is in the report.
    let said = process::output(&mut pytest);
    let text = fs::read_to_string(&junit).map_err(|error| {
        let said = said.err().unwrap_or_default();
        format!("pytest wrote no report ({error}): {said}")
    })?;
    let outcomes = read(&text).ok_or("pytest's report has no totals")?;
    if outcomes.counts.failed > 0 {
        println!("{}", failures(&text));
    }
    Ok(outcomes)
}

fn judge(outcomes: &Outcomes, known: &Known, partial: bool) -> Outcome<String> {
    let Outcomes { fates, counts } = outcomes;
    let with = |fate: Fate| {
        fates
            .iter()
            .filter(move |(_, other)| **other == fate)
            .map(|(test, _)| test.as_str())
    };
    let listed: BTreeSet<_> = known
        .failing
        .iter()
        .map(|failing| failing.test.as_str())
        .collect();
    let mut wrong = Vec::new();
    for test in with(Fate::Failed).filter(|test| !listed.contains(test)) {
        wrong.push(format!("failed: {test}"));
    }
    for test in with(Fate::Skipped).filter(|test| listed.contains(test)) {
        wrong.push(format!(
            "failed: {test} is listed as failing, and was skipped"
        ));
    }
    for test in with(Fate::Passed).filter(|test| listed.contains(test)) {
        wrong.push(format!(
            "failed: {test} passes: take it out of xtask/firestore/known-failures.toml"
        ));
    }
    if !partial {
        for test in listed.iter().filter(|test| !fates.contains_key(**test)) {
            wrong.push(format!(
                "failed: {test} is listed as failing, and there is no such test"
            ));
        }
        if counts.passed < PASSED_AT_LEAST {
            wrong.push(format!(
                "failed: {} passed, which is fewer than {PASSED_AT_LEAST}",
                counts.passed
            ));
        }
        if counts.skipped != SKIPPED {
            wrong.push(format!(
                "failed: {} were skipped, which are not the {SKIPPED} that run against Google's service only",
                counts.skipped
            ));
        }
    }
    for failing in &known.failing {
        if fates.get(&failing.test) == Some(&Fate::Failed) {
            println!("known to fail: {}: {}", failing.test, failing.reason);
        }
    }
    if wrong.is_empty() {
        return Ok(counts.to_string());
    }
    Err(format!("{counts}\n{}", wrong.join("\n")))
}

/// Of pytest's JUnit report: its elements lie flat, and attributes come escaped.
fn read(report: &str) -> Option<Outcomes> {
    let (_, head) = report.split_once("<testsuite ")?;
    let head = head.split('>').next()?;
    let total = |name| attribute(head, name)?.parse::<usize>().ok();
    let failed = total("failures")? + total("errors")?;
    let skipped = total("skipped")?;
    let fates = cases(report)
        .filter_map(|(head, body)| {
            let module = attribute(head, "classname")?.rsplit('.').next()?.to_owned();
            let test = format!("{module}.py::{}", attribute(head, "name")?);
            let fate = if body.contains("<failure") || body.contains("<error") {
                Fate::Failed
            } else if body.contains("<skipped") {
                Fate::Skipped
            } else {
                Fate::Passed
            };
            Some((test, fate))
        })
        .collect();
    Some(Outcomes {
        fates,
        counts: Counts {
            passed: total("tests")?.saturating_sub(failed + skipped),
            failed,
            skipped,
        },
    })
}

/// Each case's opening tag and what is in it.
fn cases(report: &str) -> impl Iterator<Item = (&str, &str)> {
    report.split("<testcase ").skip(1).map(|rest| {
        let (head, body) = rest.split_once('>').unwrap_or((rest, ""));
        if head.ends_with('/') {
            return (head, "");
        }
        (head, body.split("</testcase>").next().unwrap_or_default())
    })
}

fn attribute(head: &str, name: &str) -> Option<String> {
    // `name` is the end of `classname`, too.
    let spaced = format!(" {head}");
    let (_, rest) = spaced.split_once(&format!(" {name}=\""))?;
    Some(unescape(rest.split('"').next()?))
}

/// The end of what each failing test said.
fn failures(report: &str) -> String {
    let mut out = String::new();
    for (head, body) in cases(report) {
        if !(body.contains("<failure") || body.contains("<error")) {
            continue;
        }
        let text = unescape(body.split_once('>').map_or(body, |(_, text)| text));
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with("E ")).collect();
        let name = attribute(head, "name").unwrap_or_default();
        out += &format!("{name}\n");
        for line in lines.iter().rev().take(6).rev() {
            out += &format!("    {line}\n");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"<testsuites><testsuite name="pytest" errors="1" failures="1" skipped="1" tests="5">
        <testcase classname="tests.system.test_system" name="test_a[None]" time="0.1" />
        <testcase classname="tests.system.test_system" name="test_b[&lt;x&gt;]" time="0.1"><failure message="why">trace
E   AssertionError: 1 &lt; 2</failure></testcase>
        <testcase classname="tests.system.test_system_async" name="test_c" time="0.1"><skipped message="no" /></testcase>
        <testcase classname="tests.system.test_system_async" name="test_d" time="0.1"><error message="gone" /></testcase>
        </testsuite></testsuites>"#;

    fn known(tests: &[&str]) -> Known {
        let failing = tests.iter().map(|test| Failing {
            test: (*test).to_owned(),
            reason: "because".to_owned(),
        });
        Known {
            failing: failing.collect(),
        }
    }

    #[test]
    fn reports_are_read() {
        let Outcomes { fates, counts } = read(REPORT).unwrap();
        let expect = [
            ("test_system.py::test_a[None]", Fate::Passed),
            ("test_system.py::test_b[<x>]", Fate::Failed),
            ("test_system_async.py::test_c", Fate::Skipped),
            ("test_system_async.py::test_d", Fate::Failed),
        ];
        let expect = expect.map(|(test, fate)| (test.to_owned(), fate));
        assert_eq!(fates, expect.into_iter().collect());
        assert!(failures(REPORT).contains("AssertionError: 1 < 2"));
        // One of them had two parts.
        assert_eq!(counts.to_string(), "2 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn what_fails_must_be_listed_and_what_is_listed_must_fail() {
        let outcomes = read(REPORT).unwrap();
        let (b, d) = (
            "test_system.py::test_b[<x>]",
            "test_system_async.py::test_d",
        );
        assert!(judge(&outcomes, &known(&[b, d]), true).is_ok());
        for (listed, said) in [
            (vec![b], "failed: test_system_async.py::test_d"),
            (
                vec![b, d, "test_system.py::test_a[None]"],
                "test_a[None] passes",
            ),
            (
                vec![b, d, "test_system_async.py::test_c"],
                "test_c is listed as failing, and was skipped",
            ),
        ] {
            let error = judge(&outcomes, &known(&listed), true).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        let error = judge(&outcomes, &known(&[b, d, "gone.py::x"]), false).unwrap_err();
        assert!(error.contains("there is no such test"), "{error}");
        assert!(error.contains("fewer than 215"), "{error}");
        assert!(error.contains("1 were skipped"), "{error}");
    }

    #[test]
    fn the_documentation_names_each_known_failure() {
        let known: Known = toml::from_str(KNOWN).unwrap();
        let docs = fs::read_to_string(crate::root().join("docs/firestore.md")).unwrap();
        for Failing { test, reason } in &known.failing {
            assert!(docs.contains(test.as_str()), "{test}");
            assert!(docs.contains(reason.as_str()), "{reason}");
        }
    }
}
