//! Everything that must pass before a change lands, in one command.

use crate::deny::{self, Checked};
use crate::services::Services;
use crate::{Outcome, firestore, junit, process, tidy};
use clap::Args;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

#[derive(Args)]
#[command(after_help = "\
Stages: format, clippy, tidy, licences, advisories, databases, tests, doc tests, clients \
(Google's, of Firestore). All run, whatever fails, \
and a summary at the end says how each went, what could not be checked, and which tests lacked their data.

Tests find a private PostgreSQL under WHIMBREL_TEST_POSTGRES, and one that only speaks TLS under \
WHIMBREL_TEST_POSTGRES_TLS, and a Firestore emulator under WHIMBREL_TEST_FIRESTORE. They end with this command, \
however it ends.")]
pub struct TestArguments {
    /// Only tests whose name contains PATTERN
    #[arg(long, value_name = "PATTERN")]
    only: Option<String>,
    /// Skip format, clippy, tidy and licences
    #[arg(long)]
    no_lint: bool,
    /// Only this package's tests (may be given several times)
    #[arg(short, long = "package", value_name = "NAME")]
    packages: Vec<String>,
    /// Passed on to the test runner (cargo nextest where it is installed, else cargo test)
    #[arg(last = true, value_name = "ARGS")]
    rest: Vec<String>,
}

impl TestArguments {
    /// Whether not all tests were asked for.
    fn is_part(&self) -> bool {
        self.only.is_some() || !self.packages.is_empty()
    }
}

pub fn run(arguments: &TestArguments) -> Outcome<()> {
    let mut report = Report::default();
    if !arguments.no_lint {
        report.stage("format", || format().map(|()| Checked::Done));
        report.stage("clippy", || clippy().map(|()| Checked::Done));
        report.stage("tidy", || tidy::run().map(|()| Checked::Done));
        report.stage("licences", deny::check);
        report.stage("advisories", deny::check_advisories);
    }
    let mut services = None;
    report.stage("databases", || {
        services = Some(Services::start()?);
        Ok(Checked::Done)
    });
    if let Some(services) = &services {
        println!("{}", services.describe()?);
        let mut said = Said::default();
        report.stage("tests", || tests(arguments, services, &mut said));
        report.stage("doc tests", || doc_tests(arguments, services, &mut said));
        report.said = said;
    }
    drop(services);
    report.stage("clients", || match arguments.is_part() {
        true => Ok(Checked::Not(CHOSEN.to_owned())),
        false => firestore::check(),
    });
    report.finish()
}

/// They test the program as a whole.
const CHOSEN: &str = "only a part of the tests was asked for";

/// Names the files: what is wrong in them `cargo fmt` mends by itself.
fn format() -> Outcome<()> {
    process::run(process::cargo().args(["fmt", "--all", "--check", "--", "-l"]))
        .map_err(|error| format!("{error}: run `cargo fmt --all`"))
}

fn clippy() -> Outcome<()> {
    process::run(process::cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))
}

/// What the tests themselves said that must not get lost among their lines.
#[derive(Default)]
struct Said {
    /// The runner's summaries, as it wrote them.
    summaries: Vec<String>,
    /// `SKIPPED …`: what a test could not look at, for want of data.
    skipped: BTreeSet<String>,
}

fn tests(arguments: &TestArguments, services: &Services, said: &mut Said) -> Outcome<Checked> {
    let nextest = process::find("cargo-nextest").is_some();
    let mut command = process::cargo();
    if nextest {
        command.args(["nextest", "run", "--no-fail-fast"]);
    } else {
        command.args(["test", "--no-fail-fast"]);
    }
    select(&mut command, arguments)
        .arg("--all-targets")
        .envs(services.environment());
    command.args(&arguments.only);
    if nextest {
        if arguments.only.is_none() && arguments.rest.is_empty() {
            // Says at the end which tests are `#[ignore]`d, besides those that failed or were slow.
            command.args(["--final-status-level", "skip"]);
        }
        command.args(&arguments.rest);
    } else {
        // Without this a passing test's `SKIPPED` would be swallowed.
        command.args(["--", "--show-output"]).args(&arguments.rest);
    }
    // Beside the workspace, wherever the target directory is.
    let report = crate::root().join("target/nextest/default/junit.xml");
    if nextest {
        // A report that is left over from another run would speak of that run.
        let _ = fs::remove_file(&report);
    }
    let summary = if nextest {
        NEXTEST_SUMMARY
    } else {
        CARGO_SUMMARY
    };
    let outcome = run_and_listen(&mut command, summary, said);
    if nextest {
        match fs::read_to_string(&report) {
            Ok(text) => said.skipped.extend(skipped_in(&captured(&text))),
            Err(error) if outcome.is_ok() => {
                let report = report.display();
                return Err(format!(
                    "which tests lacked their data is unknown: {report}: {error}"
                ));
            }
            // Without a build there is no report.
            Err(_) => {}
        }
    }
    outcome.map(|()| Checked::Done)
}

fn doc_tests(arguments: &TestArguments, services: &Services, said: &mut Said) -> Outcome<Checked> {
    // A binary has no doc tests, and cargo calls it an error to ask for one alone.
    if !arguments.packages.is_empty() && arguments.packages.iter().all(|name| !has_library(name)) {
        return Ok(Checked::Not(
            "the chosen packages are no libraries".to_owned(),
        ));
    }
    let mut command = process::cargo();
    select(command.args(["test", "--doc", "--quiet"]), arguments)
        .args(&arguments.only)
        .envs(services.environment());
    run_and_listen(&mut command, CARGO_SUMMARY, said).map(|()| Checked::Done)
}

fn has_library(package: &str) -> bool {
    let folder = package.strip_prefix("whimbrel-").unwrap_or(package);
    crate::root()
        .join("crates")
        .join(folder)
        .join("src/lib.rs")
        .is_file()
}

fn select<'a>(command: &'a mut Command, arguments: &TestArguments) -> &'a mut Command {
    if arguments.packages.is_empty() {
        return command.arg("--workspace");
    }
    for package in &arguments.packages {
        command.args(["--package", package]);
    }
    command
}

/// Shows what the command writes while it writes it, and keeps the lines that count.
fn run_and_listen(command: &mut Command, summary: &str, said: &mut Said) -> Outcome<()> {
    if std::io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start {}: {error}", process::line(command)))?;
    let heard = Mutex::new(said);
    std::thread::scope(|scope| {
        if let Some(pipe) = child.stdout.take() {
            scope.spawn(|| listen(pipe, &mut std::io::stdout(), summary, &heard));
        }
        if let Some(pipe) = child.stderr.take() {
            scope.spawn(|| listen(pipe, &mut std::io::stderr(), summary, &heard));
        }
    });
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() {
        return Ok(());
    }
    Err(format!("{} failed ({status})", process::line(command)))
}

fn listen(pipe: impl Read, out: &mut impl Write, summary: &str, heard: &Mutex<&mut Said>) {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    while reader
        .read_until(b'\n', &mut line)
        .is_ok_and(|read| read > 0)
    {
        // A closed terminal is no reason to stop the tests.
        let _ = out.write_all(&line);
        let text = without_colours(&String::from_utf8_lossy(&line));
        let text = text.trim();
        if let Ok(mut said) = heard.lock() {
            if is_summary(text, summary) {
                said.summaries.push(text.to_owned());
            }
            said.skipped.extend(skipped_in(text));
        }
        line.clear();
    }
}

/// nextest's one line. A failing test's own output holds lines like cargo test's.
const NEXTEST_SUMMARY: &str = "Summary [";
/// One a test binary.
const CARGO_SUMMARY: &str = "test result:";

fn is_summary(line: &str, summary: &str) -> bool {
    // A binary without tests has nothing to sum up.
    line.starts_with(summary) && !line.contains(" 0 passed; 0 failed; 0 ignored")
}

fn skipped_in(text: &str) -> impl Iterator<Item = String> {
    text.lines()
        .map(str::trim)
        .filter(|line| line.starts_with("SKIPPED"))
        .map(str::to_owned)
}

fn without_colours(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        out.push_str(before);
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    out + rest
}

/// A JUnit report with the lines that tests wrote as lines of their own.
fn captured(report: &str) -> String {
    // A captured output begins right behind its tag.
    let lines = report
        .replace("<system-out>", "\n")
        .replace("<system-err>", "\n")
        .replace("</system", "\n</system");
    junit::unescape(&lines)
}

#[derive(Default)]
struct Report {
    stages: Vec<Stage>,
    said: Said,
}

struct Stage {
    name: &'static str,
    outcome: Outcome<Checked>,
    took: Duration,
}

impl Report {
    /// Runs a stage, whatever came of the ones before it: all that is wrong is said in one pass.
    fn stage(&mut self, name: &'static str, work: impl FnOnce() -> Outcome<Checked>) {
        println!("\n──── {name}");
        let start = Instant::now();
        let outcome = work();
        match &outcome {
            Ok(Checked::Done) => {}
            Ok(Checked::Not(why)) => println!("NOT CHECKED: {why}"),
            Err(why) => println!("FAILED: {why}"),
        }
        self.stages.push(Stage {
            name,
            outcome,
            took: start.elapsed(),
        });
    }

    fn finish(self) -> Outcome<()> {
        println!("\n──── summary");
        for stage in &self.stages {
            let (word, note) = match &stage.outcome {
                Ok(Checked::Done) => ("ok", String::new()),
                Ok(Checked::Not(why)) => ("NOT CHECKED", format!("  {why}")),
                Err(_) => ("FAILED", String::new()),
            };
            println!(
                "{word:>12}  {:<11}{:>8.1} s{note}",
                stage.name,
                stage.took.as_secs_f64()
            );
        }
        if !self.said.skipped.is_empty() {
            println!(
                "\nTests that could not look at their data ({}):",
                self.said.skipped.len()
            );
            for line in &self.said.skipped {
                println!("  {line}");
            }
        }
        println!();
        for line in &self.said.summaries {
            println!("{line}");
        }
        let failed: Vec<_> = self
            .stages
            .iter()
            .filter(|s| s.outcome.is_err())
            .map(|s| s.name)
            .collect();
        let took: Duration = self.stages.iter().map(|stage| stage.took).sum();
        if failed.is_empty() {
            let unchecked: Vec<&str> = self
                .stages
                .iter()
                .filter(|stage| matches!(stage.outcome, Ok(Checked::Not(_))))
                .map(|stage| stage.name)
                .collect();
            match unchecked.is_empty() {
                true => println!("all passed in {:.0} s", took.as_secs_f64()),
                false => println!(
                    "passed in {:.0} s, NOT CHECKED: {}",
                    took.as_secs_f64(),
                    unchecked.join(", ")
                ),
            }
            return Ok(());
        }
        Err(format!("failed: {}", failed.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_recognised() {
        for (line, summary, expect) in [
            (
                "Summary [   0.011s] 5 tests run: 5 passed, 0 skipped",
                NEXTEST_SUMMARY,
                true,
            ),
            (
                "test result: FAILED. 0 passed; 1 failed; 0 ignored",
                NEXTEST_SUMMARY,
                false,
            ),
            ("PASS [   0.003s] xtask", NEXTEST_SUMMARY, false),
            (
                "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured",
                CARGO_SUMMARY,
                true,
            ),
            (
                "test result: FAILED. 0 passed; 3 failed; 0 ignored",
                CARGO_SUMMARY,
                true,
            ),
            (
                "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured",
                CARGO_SUMMARY,
                false,
            ),
        ] {
            assert_eq!(is_summary(line, summary), expect, "{line}");
        }
    }

    #[test]
    fn skips_are_heard_in_a_report_and_in_plain_lines() {
        let report = "<system-out>SKIPPED chinook: no &quot;data&quot;</system-out>\n\
                      <system-err>\nSKIPPED blns: a &lt;b&gt;\nnot SKIPPED\n</system-err>";
        let heard: Vec<_> = skipped_in(&captured(report)).collect();
        assert_eq!(
            heard,
            ["SKIPPED chinook: no \"data\"", "SKIPPED blns: a <b>"]
        );

        let mut said = Said::default();
        let mut shown = Vec::new();
        let lines: &[u8] = b"one\n\x1b[32mSKIPPED\x1b[0m tau\nSummary [ 1s] 1 test run";
        listen(lines, &mut shown, NEXTEST_SUMMARY, &Mutex::new(&mut said));
        assert_eq!(shown, lines);
        assert_eq!(
            said.skipped.into_iter().collect::<Vec<_>>(),
            ["SKIPPED tau"]
        );
        assert_eq!(said.summaries, ["Summary [ 1s] 1 test run"]);
    }
}
