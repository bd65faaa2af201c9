//! `whimbrel verify`: whether a target holds what its source yields, and whether data keeps the project's
//! rules.

use crate::app::{App, holder, person};
use crate::args::RunArgs;
use crate::commands::copy::Plain;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::paint::plural;
use crate::progress::{drive, drive_verify};
use crate::project::Project;
use crate::report::{self, Mended};
use crate::screen::Screen;
use crate::verify_job::{self, Asked, Chosen, Jobs};
use clap::Args;
use std::path::{Path, PathBuf};
use whimbrel_engine::{Checked, Clock, CompareJob, Engine, EngineError, SystemClock};
use whimbrel_model::finding::{CheckResult, Comparison, Severity, Verification};
use whimbrel_model::ledger::{JobKind, RunId, Verified};
use whimbrel_model::{Code, JournalError, check::Baselines};

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 all is as it should be (warnings do not count) · 3 stopped, can go on · 4 not equal, \
                  or a critical check failed"
)]
pub struct Verify {
    /// What is compared: STORE/COLLECTION, URL#COLLECTION, or a whole STORE. Without it only checks are done
    #[arg(requires = "target")]
    pub source: Option<String>,

    /// With what it is compared: STORE, STORE/COLLECTION or a URL
    pub target: Option<String>,

    /// Copy what is missing or different again, and look again
    #[arg(long, requires = "source")]
    pub repair: bool,

    /// With --repair: delete what is only in the target
    #[arg(long, requires = "repair")]
    pub delete_extra: bool,

    /// Write a page for browsers
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,

    /// Write JUnit XML for CI
    #[arg(long, value_name = "FILE.xml")]
    pub junit: Option<PathBuf>,

    /// Leave no trace in the ledger; with --repair: only list the keys
    #[arg(long)]
    pub dry_run: bool,

    /// Ranges of keys to work on at once [default: what the stores can use]
    #[arg(long, value_name = "N", env = "WHIMBREL_PARALLEL", hide_env = true, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub parallel: Option<u32>,

    #[command(flatten)]
    pub how: Comparing,

    #[command(flatten)]
    pub checks: Checking,
}

/// How source and target are compared.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "The comparison")]
pub struct Comparing {
    /// The file of copy rules that the target was made by; without it documents are the same on both ends
    #[arg(long, value_name = "FILE", requires = "source")]
    pub rules: Option<PathBuf>,

    /// Only this rule of the file (may be given again)
    #[arg(long, value_name = "NAME", requires = "rules")]
    pub rule: Vec<String>,

    /// As it was copied: see `whimbrel copy --as`
    #[arg(
        long = "as",
        value_name = "N",
        conflicts_with = "rules",
        requires = "source"
    )]
    pub read_as: Option<u32>,

    /// As it was copied: see `whimbrel copy --migrated-at`
    #[arg(long, value_name = "FIELD", num_args = 0..=1, default_missing_value = "_migratedAt", require_equals = true, conflicts_with = "rules", requires = "source")]
    pub migrated_at: Option<String>,

    /// As it was copied: see `whimbrel copy --source-id`
    #[arg(long, value_name = "FIELD", num_args = 0..=1, default_missing_value = "_sourceId", require_equals = true, conflicts_with = "rules", requires = "source")]
    pub source_id: Option<String>,

    /// A field that does not count: a.b (may be given again)
    #[arg(long, value_name = "FIELD", requires = "source")]
    pub ignore: Vec<String>,

    /// How far two numbers (or two instants, in seconds) may be apart and still be equal (may be given again)
    #[arg(long, value_name = "FIELD=N", requires = "source")]
    pub tolerance: Vec<String>,

    /// Look at this share of the documents only, and say what that proves: 1%
    #[arg(long, value_name = "N%", requires = "source")]
    pub sample: Option<String>,

    /// Choose the sample by this number again [default: another every time]
    #[arg(long, value_name = "N", requires = "sample")]
    pub seed: Option<u64>,

    /// Only documents that changed since then, by this field: updatedAt=2026-01-31T08:00:00Z
    #[arg(long, value_name = "FIELD=INSTANT", requires = "source")]
    pub since: Option<String>,
}

impl Comparing {
    #[must_use]
    pub fn plain(&self) -> Plain {
        Plain {
            read_as: self.read_as,
            migrated_at: self.migrated_at.clone(),
            source_id: self.source_id.clone(),
        }
    }
}

/// Which checks are done.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "The checks")]
pub struct Checking {
    /// A file of checks, instead of the project's checks/*.toml (may be given again)
    #[arg(long, value_name = "FILE")]
    pub checks: Vec<PathBuf>,

    /// Only this check (may be given again)
    #[arg(long, value_name = "NAME")]
    pub check: Vec<String>,

    /// Only checks about this collection (may be given again)
    #[arg(long, value_name = "COLLECTION")]
    pub collection: Vec<String>,

    /// What is measured now is what later verifications compare with, also where a check failed
    #[arg(long)]
    pub new_baseline: bool,
}

impl Checking {
    fn asked(&self) -> bool {
        !self.checks.is_empty()
            || !self.check.is_empty()
            || !self.collection.is_empty()
            || self.new_baseline
    }
}

/// # Errors
/// Something could not be begun or did not come to its end. What is not as it should be is no error: exit
/// code 4.
pub async fn run(app: &App, args: &Verify) -> Outcome {
    let project = app.project()?;
    let asked = Asked::read(&project, args)?;
    for file in args.report.iter().chain(&args.junit) {
        may_be_written(file)?;
    }
    // What is wrong with a file of checks is said before hours of comparing.
    let mut chosen = match &asked.ends {
        Some(_) if !args.checks.asked() => Chosen::none(),
        _ => verify_job::checks(&project, &args.checks).await?,
    };
    let jobs = verify_job::comparisons(app, &project, &asked, args).await?;
    let engine = match args.dry_run {
        true => app.engine_to_read(&project).await?,
        false => app.engine(&project).await?,
    };
    let mut found = Verification {
        title: title(&asked, jobs.jobs.len(), chosen.checks.len()),
        started_at: SystemClock.now().to_string(),
        ..Verification::default()
    };
    let Compared {
        comparisons,
        mended,
        unrepaired,
    } = compare_all(&app.screen, &engine, args, jobs).await?;
    found.comparisons = comparisons;
    if !args.dry_run {
        found.run = last_run(app, &project)
            .await?
            .filter(|_| asked.ends.is_some());
    }
    let mut baselines = Baselines::new();
    if !chosen.checks.is_empty() {
        let job = chosen.job(app, &project, args.parallel).await?;
        let done = async { Ok(engine.check(job).await) };
        let words = format!("doing {}", plural(chosen.checks.len() as u64, "check"));
        let checked: Checked = drive_verify(&app.screen, &engine, Some(words), done).await?;
        let stopped = |c: &CheckResult| matches!(c.error, Some((Code::RunInterrupted, _)));
        if checked.results.iter().any(stopped) {
            return Err(EngineError::Interrupted.into());
        }
        found.checks = checked.results;
        baselines = checked.baselines;
    }
    found.ended_at = SystemClock.now().to_string();
    if !args.dry_run {
        let verified = Verified::of(&found, baselines, args.checks.new_baseline, person());
        remember(app, &engine, verified).await?;
    }
    let told = report::Told {
        found: &found,
        mended: &mended,
        again: asked.again(args),
        args,
    };
    written(app, args, &told)?;
    app.screen.object(&told.to_json());
    report::terminal::print(&app.screen, &told);
    if let Some(failure) = unrepaired {
        return Err(failure);
    }
    Ok(match found.worst() {
        Some(Severity::Critical) => Exit::Findings,
        _ => Exit::Done,
    })
}

/// What was found is told even where another run holds the ledger.
async fn remember(app: &App, engine: &Engine, verified: Verified) -> Result<(), Failure> {
    match engine.remember(verified, &holder()).await {
        Err(EngineError::Journal(JournalError::Held(lease))) => {
            let text = format!(
                "note: this verification is not written into the ledger, which {} holds",
                lease.holder
            );
            app.screen.progress(app.screen.text(&text));
            Ok(())
        }
        other => Ok(other?),
    }
}

/// `app/users and split/people, and 8 checks`
fn title(asked: &Asked, comparisons: usize, checks: usize) -> String {
    let ends = asked.ends.as_ref().map(|(source, target)| {
        let several = match comparisons {
            0 | 1 => String::new(),
            n => format!("{n} comparisons of "),
        };
        format!("{several}{source} and {target}")
    });
    let checks = (checks > 0).then(|| plural(checks as u64, "check"));
    let parts: Vec<String> = ends.into_iter().chain(checks).collect();
    parts.join(", and ")
}

/// What all comparisons came to.
#[derive(Default)]
struct Compared {
    comparisons: Vec<Comparison>,
    mended: Vec<Option<Mended>>,
    /// Why something that differs was left as it is, though a repair was asked for.
    unrepaired: Option<Failure>,
}

async fn compare_all(
    screen: &Screen,
    engine: &Engine,
    args: &Verify,
    jobs: Jobs,
) -> Result<Compared, Failure> {
    let mut all = Compared::default();
    for job in jobs.jobs {
        let comparison = compare(screen, engine, args, &job).await?;
        // After a no, the rest is only looked at: what was found is told all the same.
        let (comparison, mended) = match all.unrepaired {
            Some(_) => (comparison, None),
            None => match repair(screen, engine, args, job, &comparison).await {
                Ok(Some((after, mended))) => (after, Some(mended)),
                Ok(None) => (comparison, None),
                Err(Unrepaired::NotAllowed(failure)) => {
                    all.unrepaired = Some(failure);
                    (comparison, None)
                }
                Err(Unrepaired::Failed(failure)) => return Err(failure),
            },
        };
        all.comparisons.push(comparison);
        all.mended.push(mended);
    }
    for comparison in jobs.only_in_target {
        all.comparisons.push(comparison);
        all.mended.push(None);
    }
    Ok(all)
}

async fn compare(
    screen: &Screen,
    engine: &Engine,
    args: &Verify,
    job: &CompareJob,
) -> Result<Comparison, Failure> {
    let looking = async {
        match args.dry_run {
            true => engine.compare_unrecorded(job.clone()).await,
            false => engine.compare(job.clone()).await,
        }
    };
    Ok(drive_verify(screen, engine, None, looking).await?)
}

/// Why nothing was repaired.
enum Unrepaired {
    /// Nobody said yes.
    NotAllowed(Failure),
    Failed(Failure),
}

/// Repairs where that was asked for. A comparison lists only so many differences: more are repaired in turns, of
/// which each has to leave fewer. Gives the comparison as it is in the end.
async fn repair(
    screen: &Screen,
    engine: &Engine,
    args: &Verify,
    job: CompareJob,
    found: &Comparison,
) -> Result<Option<(Comparison, Mended)>, Unrepaired> {
    let unsynced = found.missing + found.differing;
    let of_use = unsynced > 0 || (args.delete_extra && found.extra > 0);
    if !args.repair || args.dry_run || !of_use {
        return Ok(None);
    }
    let question = question(found, args.delete_extra);
    screen.confirm(&question).map_err(Unrepaired::NotAllowed)?;
    let mut before = found.clone();
    let mut all: Option<Mended> = None;
    loop {
        let repair = engine.repair(job.clone(), &before, args.delete_extra);
        let done = drive(screen, engine, repair).await;
        let done = done.map_err(|error| Unrepaired::Failed(error.into()))?;
        let mended = Mended::of(&before, &done);
        let (bad, unlisted) = (mended.before, mended.unlisted);
        let after = mended.after(before, done);
        let mended = match all.take() {
            Some(earlier) => earlier.and(mended),
            None => mended,
        };
        if unlisted == 0 {
            return Ok(Some((after, mended)));
        }
        let again = compare(screen, engine, args, &job).await;
        before = again.map_err(Unrepaired::Failed)?;
        let left = report::bad(&before);
        if left == 0 || left >= bad {
            return Ok(Some((before.clone(), mended.leaving(&before))));
        }
        all = Some(mended);
    }
}

fn question(found: &Comparison, delete_extra: bool) -> String {
    let extra = match (found.extra, delete_extra) {
        (0, _) => String::new(),
        (n, true) => format!(
            " {} that no source yields {} deleted.",
            plural(n, "document"),
            if n == 1 { "is" } else { "are" }
        ),
        (n, false) => format!(
            " {} that no source yields {} alone (--delete-extra deletes them).",
            plural(n, "document"),
            if n == 1 { "is left" } else { "are left" }
        ),
    };
    format!(
        "Copy {} of {} again into {}; nothing else is touched.{extra}",
        plural(
            found.missing + found.differing,
            "missing or different document"
        ),
        found.source,
        found.target
    )
}

/// The run of the last comparison.
async fn last_run(app: &App, project: &Project) -> Result<Option<RunId>, Failure> {
    let Some(ledger) = app.ledger_to_read(project).await? else {
        return Ok(None);
    };
    let state = ledger.state();
    let runs = state.order.iter().rev().filter_map(|id| state.runs.get(id));
    let mut runs = runs.filter(|run| run.job.kind == JobKind::Verify);
    Ok(runs.next().map(|run| run.run.clone()))
}

/// A report that cannot be written is better known before the work.
fn may_be_written(file: &Path) -> Result<(), Failure> {
    let opened = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(file);
    opened.map(|_| ()).map_err(|error| {
        Failure::io(format!("writing {}", file.display()), &error).not_done("nothing was begun")
    })
}

/// The files are read elsewhere: paths of this machine mean nothing there.
fn written(app: &App, args: &Verify, told: &report::Told<'_>) -> Result<(), Failure> {
    let shown = report::without_home(told.found, app.screen.home.get().map(String::as_str));
    let told = &report::Told {
        found: &shown,
        mended: told.mended,
        again: told.again.clone(),
        args,
    };
    let write = |file: &Path, text: String| {
        std::fs::write(file, text)
            .map_err(|error| Failure::io(format!("writing {}", file.display()), &error))
    };
    if let Some(file) = &args.report {
        write(file, report::html::page(told))?;
    }
    if let Some(file) = &args.junit {
        write(file, report::junit::document(told.found))?;
    }
    Ok(())
}

/// The run's flags that a verification has.
#[must_use]
pub fn run_args(args: &Verify) -> RunArgs {
    RunArgs {
        dry_run: args.dry_run,
        parallel: args.parallel,
        ..RunArgs::default()
    }
}

/// No checks were found where they were looked for.
#[must_use]
pub fn no_checks(project: &Project) -> Failure {
    let folder = crate::schemas::shown(&project.checks);
    Failure::new(
        Code::CheckInvalid,
        format!("there are no checks to do: {folder} has no file of checks"),
    )
    .not_done("nothing was looked at")
    .next(format!(
        "write {folder}/NAME.toml   (docs/checks.md says how)"
    ))
    .next("whimbrel verify SOURCE TARGET   (compares a target with its source)")
}
