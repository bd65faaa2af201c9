//! `whimbrel up`: applies what is pending, or goes on with what rests or was killed.

use crate::app::{App, holder, is_gone, person};
use crate::args::RunArgs;
use crate::commands::copy::say_not_carried;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::migration_choice::{Choice, Late};
use crate::migration_job::{self, Preview, Ready, Workshop};
use crate::migration_plan::{Plan, size, total};
use crate::migration_words::Story;
use crate::paint::Paint;
use crate::progress::{drive, drive_steps};
use crate::project::Project;
use crate::screen::Screen;
use crate::summary::{Deed, equation};
use crate::{migration_screen, migrations, summary};
use clap::Args;
use whimbrel_engine::migrate::MigrationOptions;
use whimbrel_engine::{Clock, Engine, Ledger, SystemClock};
use whimbrel_model::JournalError;
use whimbrel_model::ledger::{MigrationState, MigrationStatus, State};
use whimbrel_model::migration::Migration;

#[derive(Debug, Default, Args)]
#[command(
    after_help = "Exit codes: 0 applied · 1 failed and taken back · 3 it rests, or something is in the way · \
                  4 applied, but documents wait in quarantine · 5 lock held · 6 what became of a step is unknown"
)]
pub struct Up {
    /// The last migration to apply: its number, its name, or a beginning of it that no other has
    #[arg(long, value_name = "ID")]
    pub to: Option<String>,

    /// What becomes of migrations that come after later ones were applied
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = Late::Refuse)]
    pub late: Late,

    #[command(flatten)]
    pub how: How,

    /// Show what would happen and write nothing, not even a lock
    #[arg(long)]
    pub dry_run: bool,
}

/// How a migration goes up.
#[derive(Clone, Debug, Default, Args)]
pub struct How {
    /// Rest where a step fails, instead of taking back what was done
    #[arg(long)]
    pub keep: bool,

    /// Wait for approvals instead of resting
    #[arg(long)]
    pub wait: bool,

    /// Go on although files were edited after they were applied or begun
    #[arg(long)]
    pub allow_drift: bool,
}

impl How {
    fn options(&self) -> MigrationOptions {
        migration_job::options(self.keep, self.wait, self.allow_drift)
    }
}

/// # Errors
/// A file is wrong, something is in the way, or the ledger cannot be used.
pub async fn run(app: &App, args: &Up) -> Outcome {
    let project = app.project()?;
    let all = migrations::load(&project)?;
    let ledger = app.ledger_to_read(&project).await?;
    let state = ledger.as_ref().map(|l| l.state()).unwrap_or_default();
    if !args.dry_run {
        not_at_work(ledger.as_deref()).await?;
    }
    let choice = Choice::up(
        &all,
        &state,
        args.to.as_deref(),
        args.late,
        args.how.allow_drift,
    )?;
    apply(app, &project, &state, &choice, &args.how, args.dry_run).await
}

/// Shows the plan, asks, and applies what was chosen.
///
/// # Errors
/// As [`run`].
pub async fn apply(
    app: &App,
    project: &Project,
    state: &State,
    choice: &Choice<'_>,
    how: &How,
    dry_run: bool,
) -> Outcome {
    let screen = &app.screen;
    for missing in &choice.missing {
        screen.progress(format!(
            "{} the file of {missing}, which is applied, is gone from {}",
            screen.err.warn("note:"),
            crate::schemas::shown(&project.migrations)
        ));
    }
    if choice.apply.is_empty() && choice.skip.is_empty() {
        screen.object(&serde_json::json!({ "migrations": [], "pending": 0 }));
        screen.labelled("ok", Paint::good, "nothing is pending");
        return Ok(Exit::Done);
    }
    let hooks = crate::hooks::check(screen, project)?;
    let job_options = app.job_options(&RunArgs::default(), project)?;
    let options = how.options();
    let mut workshop = Workshop::new(project, true, job_options.clone(), &choice.apply);
    let ready = workshop.ready(&choice.apply, &options).await?;
    let mut plans = Vec::new();
    for one in &ready {
        plans.push(Plan::make(one, state).await?);
    }
    say_plan(screen, choice, &plans, dry_run);
    let actions = ready.iter().flat_map(|one| &one.job.actions);
    say_not_carried(screen, actions.flat_map(|action| action.carries()));
    if dry_run {
        return preview(app, project, &ready).await;
    }
    // What was only looked through is closed before it is opened for writing.
    drop((ready, workshop));
    screen.confirm(&question(choice, &plans))?;
    let engine = app.engine(project).await?;
    skip(screen, &engine, choice).await?;
    let hooks = hooks.start(&engine);
    let mut workshop = Workshop::new(project, false, job_options, &choice.apply);
    let mut outcome = Ok(Exit::Done);
    for migration in &choice.apply {
        let ready = workshop.ready(&[migration], &options).await;
        outcome = match ready {
            Ok(ready) => one(app, project, &engine, ready).await,
            Err(failure) => Err(failure),
        };
        if !matches!(outcome, Ok(Exit::Done | Exit::Findings)) {
            break;
        }
    }
    crate::hooks::finish(hooks).await;
    outcome
}

async fn skip(screen: &Screen, engine: &Engine, choice: &Choice<'_>) -> Result<(), Failure> {
    for late in &choice.skip {
        engine.skip_migration(late, &person(), &holder()).await?;
        screen.object(&serde_json::json!({ "skipped": late.id }));
        screen.labelled("skipped", Paint::bold, &late.id);
    }
    Ok(())
}

/// Applies one migration and says what became of it.
async fn one(app: &App, project: &Project, engine: &Engine, ready: Vec<Ready>) -> Outcome {
    let mut exit = Exit::Done;
    for ready in ready {
        let names = step_names(&ready.job.migration);
        let job = engine.apply(ready.job);
        let state = drive_steps(&app.screen, engine, names, job).await?;
        exit = say_end(app, project, &state).await?;
    }
    Ok(exit)
}

/// `copy split`, by step.
#[must_use]
pub fn step_names(migration: &Migration) -> Vec<String> {
    let steps = migration.steps.iter();
    steps
        .map(|s| format!("{} {}", s.kind.word(), s.name))
        .collect()
}

/// The last words about a migration, and the exit code that they mean.
///
/// # Errors
/// The ledger cannot be read.
pub async fn say_end(app: &App, project: &Project, state: &MigrationState) -> Outcome {
    let screen = &app.screen;
    let story = Story {
        state,
        at_work: false,
        now: SystemClock.now(),
    };
    let waiting = match app.ledger_to_read(project).await? {
        Some(ledger) => migration_screen::waiting(&ledger, state).await?,
        None => 0,
    };
    screen.object(&migration_screen::to_json(&story, waiting));
    migration_screen::headline(screen, &story);
    migration_screen::errors(screen, &story);
    if !screen.quiet {
        screen.labelled("", Paint::bold, screen.out.dim(&story.small()));
    }
    migration_screen::say_waiting(screen, waiting);
    let mut advice = story.advice();
    if waiting > 0 {
        let why = "what waits there, and why".into();
        advice.push(("whimbrel quarantine list".into(), why));
    }
    if state.status == MigrationStatus::Applied {
        advice.push(("whimbrel down".into(), "takes it back".into()));
    }
    migration_screen::advice(screen, &advice);
    Ok(migration_screen::exit(state, waiting))
}

/// Refuses, with who and since when, while another process is at work.
///
/// # Errors
/// One is.
pub async fn not_at_work(ledger: Option<&Ledger>) -> Result<(), Failure> {
    let Some(ledger) = ledger else { return Ok(()) };
    match ledger.journal().lease().await? {
        Some(lease) if !lease.expired && !is_gone(&lease.holder) => {
            Err(JournalError::Held(Box::new(lease)).into())
        }
        _ => Ok(()),
    }
}

fn say_plan(screen: &Screen, choice: &Choice<'_>, plans: &[Plan], dry_run: bool) {
    let skipped: Vec<_> = choice.skip.iter().map(|m| m.id.as_str()).collect();
    let all: Vec<_> = plans.iter().map(Plan::to_json).collect();
    screen.object(&serde_json::json!({ "plan": all, "skip": skipped, "dry_run": dry_run }));
    for plan in plans {
        plan.print(screen);
    }
    for id in skipped {
        let what = if dry_run {
            "would be left out for good"
        } else {
            "is left out for good"
        };
        screen.line(format!("{} {what}", screen.out.bold(id)));
    }
    if let Some(total) = total(plans) {
        screen.labelled("total", Paint::bold, format!("{}, {total}", size(plans)));
    } else if !plans.is_empty() {
        screen.labelled("total", Paint::bold, size(plans));
    }
}

fn question(choice: &Choice<'_>, plans: &[Plan]) -> String {
    let mut parts = Vec::new();
    if !plans.is_empty() {
        let verb = match plans {
            [one] if one.goes_on && choice.going_back => "Go on taking back",
            [one] if one.goes_on => "Go on with",
            _ => "Apply",
        };
        parts.push(format!("{verb} {}.", size(plans)));
    }
    let skipped: Vec<_> = choice.skip.iter().map(|m| m.id.as_str()).collect();
    if !skipped.is_empty() {
        parts.push(format!("Leave out for good: {}.", skipped.join(", ")));
    }
    let no_return: Vec<_> = plans
        .iter()
        .flat_map(|p| {
            let several = plans.len() > 1;
            let id = p.id.clone();
            p.no_return().into_iter().map(move |step| match several {
                true => format!("{step} of {id}"),
                false => step,
            })
        })
        .collect();
    parts.push(match no_return.as_slice() {
        _ if choice.going_back || plans.is_empty() => String::new(),
        [] => "Everything can be taken back (whimbrel down).".to_owned(),
        steps => format!("There is NO WAY BACK from {}.", steps.join(", ")),
    });
    parts.retain(|p| !p.is_empty());
    parts.join(" ")
}

/// What each upgrade and copy would do to the documents as they are now.
async fn preview(app: &App, project: &Project, ready: &[Ready]) -> Outcome {
    let screen = &app.screen;
    let engine = app.engine_to_read(project).await?;
    for one in ready {
        let migration = &one.job.migration;
        for (i, preview) in one.previews.iter().enumerate() {
            let step = &migration.steps[i];
            let title = format!(
                "{} step {} ({} {})",
                migration.id,
                i + 1,
                step.kind.word(),
                step.name
            );
            say_preview(screen, &engine, &title, preview).await?;
        }
    }
    screen.note(
        screen
            .out
            .dim("nothing was written; each step was tried on the documents as they are now"),
    );
    Ok(Exit::Done)
}

async fn say_preview(
    screen: &Screen,
    engine: &Engine,
    title: &str,
    preview: &Preview,
) -> Result<(), Failure> {
    let mut found = Vec::new();
    match preview {
        Preview::Upgrade(job) => {
            let looked = drive(screen, engine, engine.preview_upgrade(job, 0)).await;
            found.push((Deed::Upgrade, looked.map(|(report, _)| report)));
        }
        Preview::Copy(jobs) => {
            for job in jobs {
                let looked = drive(screen, engine, engine.preview_copy(job, 0)).await;
                found.push((Deed::Copy, looked.map(|(report, _)| report)));
            }
        }
        Preview::Nothing => return Ok(()),
    }
    for (deed, looked) in found {
        match looked {
            Ok(report) => {
                let mut object = summary::to_json(&report);
                object["step"] = title.into();
                screen.object(&object);
                screen.labelled("dry run", Paint::name, format!("{title}: {}", report.title));
                screen.labelled("", Paint::bold, equation(&report.counts, deed, true));
            }
            // An earlier step makes it, so there is nothing to try yet.
            Err(whimbrel_engine::EngineError::NoCollection { place }) => {
                screen.object(&serde_json::json!({ "step": title, "not_there_yet": place }));
                let text = format!("{title}: {place} is not there yet");
                screen.labelled("dry run", Paint::name, text);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
