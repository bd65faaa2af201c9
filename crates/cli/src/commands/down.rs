//! `whimbrel down`: takes migrations back, last applied first.

use crate::app::App;
use crate::args::RunArgs;
use crate::commands::up::{not_at_work, say_end, step_names};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::migration_choice::{gone, refuse_drift};
use crate::migration_job::{self, Workshop};
use crate::paint::{Paint, plural};
use crate::progress::drive_steps;
use crate::project::Project;
use crate::screen::Screen;
use crate::{migration_plan, migrations};
use clap::Args;
use whimbrel_model::Code;
use whimbrel_model::ledger::{MigrationState, MigrationStatus, State, StepState, StepStatus};
use whimbrel_model::migration::{Inverse, Migration, difference};

#[derive(Debug, Default, Args)]
#[command(
    after_help = "Without --to and --last it takes back the one that is on its way, else the one applied last.\n\
                  Exit codes: 0 taken back · 1 something could not be taken back · 3 it rests, or something is \
                  in the way · 5 lock held · 6 what became of a step is unknown"
)]
pub struct Down {
    /// Take back everything that was applied after this migration, which stays (0: everything)
    #[arg(long, value_name = "ID", conflicts_with = "last")]
    pub to: Option<String>,

    /// Take back this many, last applied first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub last: Option<u32>,

    /// Go on although files were edited after they were applied
    #[arg(long)]
    pub allow_drift: bool,

    /// Show what would be taken back and write nothing, not even a lock
    #[arg(long)]
    pub dry_run: bool,
}

/// # Errors
/// A file is wrong or gone, something is in the way, or the ledger cannot be used.
pub async fn run(app: &App, args: &Down) -> Outcome {
    let project = app.project()?;
    let all = migrations::load(&project)?;
    let Some(ledger) = app.ledger_to_read(&project).await? else {
        return Ok(nothing(&app.screen));
    };
    if !args.dry_run {
        not_at_work(Some(&ledger)).await?;
    }
    let state = ledger.state();
    let ids = chosen(&state, args)?;
    if ids.is_empty() {
        return Ok(nothing(&app.screen));
    }
    take_back(app, &project, &all, &state, &ids, None, args).await
}

fn nothing(screen: &Screen) -> Exit {
    screen.object(&serde_json::json!({ "migrations": [] }));
    screen.labelled(
        "ok",
        Paint::good,
        "no migration is applied; there is nothing to take back",
    );
    Exit::Done
}

/// The migrations to take back, in that order.
fn chosen(state: &State, args: &Down) -> Result<Vec<String>, Failure> {
    let open = state.migrations.values().find(|m| m.open());
    let mut ids: Vec<String> = open.map(|m| m.id.clone()).into_iter().collect();
    let applied = state.applied.iter().rev().filter(|id| !ids.contains(id));
    let applied: Vec<String> = applied.cloned().collect();
    match (&args.to, args.last) {
        (Some(to), _) if to.chars().all(|c| c == '0') => ids.extend(applied),
        (Some(to), _) => {
            let known: Vec<&str> = state.applied.iter().map(String::as_str).collect();
            let stays = migrations::pick(&known, to).map_err(|f| Failure {
                message: format!("{}; only an applied one can stay", f.message),
                ..f
            })?;
            ids.extend(applied.into_iter().take_while(|id| id != stays));
        }
        (None, Some(n)) => {
            ids.extend(applied);
            ids.truncate(n as usize);
        }
        (None, None) if ids.is_empty() => ids.extend(applied.into_iter().take(1)),
        (None, None) => {}
    }
    Ok(ids)
}

/// Shows what goes, asks, and takes the migrations back one after the other.
///
/// # Errors
/// As [`run`].
pub async fn take_back(
    app: &App,
    project: &Project,
    all: &[Migration],
    state: &State,
    ids: &[String],
    cause: Option<(Code, String)>,
    args: &Down,
) -> Outcome {
    let screen = &app.screen;
    let mut known = Vec::new();
    let mut drifted = Vec::new();
    for id in ids {
        let file = all.iter().find(|m| m.id == *id).ok_or_else(|| gone(id))?;
        let Some(m) = state.migrations.get(id) else {
            continue;
        };
        if m.checksum != file.checksum {
            drifted.push((id.clone(), difference(&m.meaning, &file.meaning)));
        }
        known.push((m, file));
    }
    if !args.allow_drift {
        refuse_drift(&drifted)?;
    }
    let hooks = crate::hooks::check(screen, project)?;
    let files: Vec<&Migration> = known.iter().map(|(_, file)| *file).collect();
    let job_options = app.job_options(&RunArgs::default(), project)?;
    let options = migration_job::options(false, false, args.allow_drift);
    // Everything that is wrong comes before the question.
    let mut workshop = Workshop::new(project, true, job_options.clone(), &files);
    workshop.ready(&files, &options).await?;
    drop(workshop);
    say_plan(screen, &known, args.dry_run);
    if args.dry_run {
        return Ok(Exit::Done);
    }
    screen.confirm(&question(&known))?;
    let engine = app.engine(project).await?;
    let hooks = hooks.start(&engine);
    let mut workshop = Workshop::new(project, false, job_options, &files);
    let mut outcome = Ok(Exit::Done);
    for file in files {
        outcome = match workshop.ready(&[file], &options).await {
            Ok(mut ready) => match ready.pop() {
                Some(ready) => {
                    let job = engine.revert(ready.job, cause.clone());
                    match drive_steps(screen, &engine, step_names(file), job).await {
                        Ok(state) => end(app, project, &state).await,
                        Err(error) => Err(error.into()),
                    }
                }
                None => continue,
            },
            Err(failure) => Err(failure),
        };
        if !matches!(outcome, Ok(Exit::Done)) {
            break;
        }
    }
    crate::hooks::finish(hooks).await;
    outcome
}

/// Here it is no failure that a migration is taken back.
async fn end(app: &App, project: &Project, state: &MigrationState) -> Outcome {
    let exit = say_end(app, project, state).await?;
    Ok(match state.status {
        MigrationStatus::Undone => Exit::Done,
        _ => exit,
    })
}

fn stays(m: &MigrationState) -> Vec<String> {
    let steps = m.steps.iter().enumerate();
    steps
        .filter(|(_, s)| !s.reversible && s.status != StepStatus::Pending)
        .map(|(i, s)| format!("step {} ({} {})", i + 1, s.kind, s.name))
        .collect()
}

fn goes(step: &StepState) -> bool {
    !matches!(
        step.status,
        StepStatus::Pending | StepStatus::Undone | StepStatus::Kept
    )
}

fn say_plan(screen: &Screen, known: &[(&MigrationState, &Migration)], dry_run: bool) {
    let all: Vec<_> = known
        .iter()
        .map(|(m, _)| {
            let steps: Vec<_> = (m.steps.iter().rev())
                .filter(|s| goes(s))
                .map(|s| &s.name)
                .collect();
            serde_json::json!({ "migration": m.id, "steps": steps, "stays": stays(m) })
        })
        .collect();
    screen.object(&serde_json::json!({ "take_back": all, "dry_run": dry_run }));
    for (m, file) in known {
        screen.line(screen.out.bold(&m.id));
        for (i, step) in m.steps.iter().enumerate().rev().filter(|(_, s)| goes(s)) {
            let inverse = file.steps.get(i).and_then(|s| s.kind.inverse());
            let how = match inverse {
                None => screen.out.bad("NO WAY BACK: it stays"),
                Some(Inverse::Nothing) => screen.out.dim("nothing to take back"),
                Some(_) => migration_plan::back(inverse),
            };
            let wrote = step.report.as_ref().map_or(0, |r| r.counts.written);
            let wrote = match wrote {
                0 => String::new(),
                _ if inverse == Some(Inverse::Nothing) => String::new(),
                n => format!("  ({} written)", plural(n, "document")),
            };
            screen.line(format!(
                "  ↩ {} {} {}  {how}{wrote}",
                i + 1,
                step.kind,
                step.name
            ));
        }
    }
}

fn question(known: &[(&MigrationState, &Migration)]) -> String {
    let ids: Vec<_> = known.iter().map(|(m, _)| m.id.as_str()).collect();
    let stays: Vec<_> = known.iter().flat_map(|(m, _)| stays(m)).collect();
    let but = match stays.as_slice() {
        [] => String::new(),
        stays => format!(" What {} did STAYS.", stays.join(", ")),
    };
    format!(
        "Take back {}. What was written since is kept.{but}",
        ids.join(", then ")
    )
}
