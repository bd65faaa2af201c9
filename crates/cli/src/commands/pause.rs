//! `whimbrel pause`, `resume` and `abort`: a migration that is on its way, from another terminal.

use crate::app::{App, person};
use crate::commands::down::{Down, take_back};
use crate::commands::up::{How, apply, not_at_work};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::migration_choice::Choice;
use crate::migrations;
use crate::operator::{Desk, Heeded, nothing};
use clap::Args;
use std::time::Duration;
use whimbrel_model::Code;
use whimbrel_model::ledger::{MigrationState, MigrationStatus};

/// How long a request may take to be heeded before the command stops waiting for it.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
#[command(
    after_help = "The process at work finishes what it has in hand, records it and ends; nothing is taken back.\n\
                  Exit codes: 0 it rests · 1 it ended before it could be paused · 3 asked, and not heeded yet"
)]
pub struct Pause {
    /// Which migration [default: the one on its way]
    pub id: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 applied · 1 failed and taken back · 3 it rests again · 4 applied, but documents wait \
                  in quarantine · 5 lock held · 6 what became of a step is unknown"
)]
pub struct Resume {
    /// Which migration [default: the one on its way]
    pub id: Option<String>,

    #[command(flatten)]
    pub how: How,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 taken back · 1 something could not be taken back · 3 asked, and still on its way"
)]
pub struct Abort {
    /// Which migration [default: the one on its way]
    pub id: Option<String>,

    /// Why, for the history
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub reason: String,

    /// Go on although the file was edited since
    #[arg(long)]
    pub allow_drift: bool,
}

const NONE: &str = "no migration is on its way";

/// # Errors
/// The ledger cannot be used, or no migration has that name.
pub async fn pause(app: &App, args: &Pause) -> Outcome {
    let screen = &app.screen;
    let Some((desk, m)) = meant(app, args.id.as_deref()).await? else {
        return Ok(nothing(
            screen,
            &format!("{NONE}, so there is nothing to pause"),
        ));
    };
    let Some(lease) = desk.at_work(&m.id).await? else {
        screen.progress(format!(
            "no process is at work on {}, so there is nothing to pause",
            m.id
        ));
        return desk.say(screen, &m, Exit::Done).await;
    };
    desk.ask(app, "pause", &m.id, "", &person()).await?;
    let saying = format!("asked {} to pause", lease.holder);
    let rests = |m: &MigrationState| {
        matches!(
            m.status,
            MigrationStatus::Resting(_) | MigrationStatus::UndoResting(_)
        )
    };
    match desk.until(screen, &m.id, &saying, PATIENCE, rests).await? {
        Heeded::Yes(m) => desk.say(screen, &m, Exit::Done).await,
        Heeded::Gone(m) => desk.say(screen, &m, Exit::Failed).await,
        Heeded::NotYet(m) => {
            screen.progress("it was asked, and rests as soon as what it has in hand is finished");
            desk.say(screen, &m, Exit::Pending).await
        }
    }
}

/// # Errors
/// As `up`.
pub async fn resume(app: &App, args: &Resume) -> Outcome {
    let screen = &app.screen;
    let Some((desk, m)) = meant(app, args.id.as_deref()).await? else {
        return Ok(nothing(
            screen,
            &format!("{NONE}, so there is nothing to go on with"),
        ));
    };
    not_at_work(Some(&desk.ledger)).await?;
    let all = migrations::load(&desk.project)?;
    let state = desk.ledger.state();
    let choice = Choice::resume(&all, &state, &m, args.how.allow_drift)?;
    apply(app, &desk.project, &state, &choice, &args.how, false).await
}

/// # Errors
/// As `down`.
pub async fn abort(app: &App, args: &Abort) -> Outcome {
    let screen = &app.screen;
    let Some((desk, m)) = meant(app, args.id.as_deref()).await? else {
        return Ok(nothing(
            screen,
            &format!("{NONE}, so there is nothing to abort"),
        ));
    };
    let by = person();
    let Some(lease) = desk.at_work(&m.id).await? else {
        not_at_work(Some(&desk.ledger)).await?;
        let all = migrations::load(&desk.project)?;
        let state = desk.ledger.state();
        let reason = match args.reason.as_str() {
            "" => String::new(),
            reason => format!(": {reason}"),
        };
        let cause = (Code::MigrationAborted, format!("aborted by {by}{reason}"));
        let down = Down {
            allow_drift: args.allow_drift,
            ..Down::default()
        };
        let ids = [m.id.clone()];
        return take_back(app, &desk.project, &all, &state, &ids, Some(cause), &down).await;
    };
    screen.confirm(&format!(
        "Abort {}: {} stops and takes back what it did.",
        m.id, lease.holder
    ))?;
    desk.ask(app, "abort", &m.id, &args.reason, &by).await?;
    let saying = format!("asked {} to take {} back", lease.holder, m.id);
    let heeded = |m: &MigrationState| !matches!(m.status, MigrationStatus::Running);
    let heeded = desk.until(screen, &m.id, &saying, PATIENCE, heeded).await?;
    let m = match heeded {
        Heeded::Yes(m) | Heeded::Gone(m) => m,
        Heeded::NotYet(m) => {
            screen
                .progress("it was asked, and goes back as soon as what it has in hand is finished");
            return desk.say(screen, &m, Exit::Pending).await;
        }
    };
    let saying = format!("{} takes {} back", lease.holder, m.id);
    let ended = |m: &MigrationState| m.ended_at.is_some();
    let ended = desk.until(screen, &m.id, &saying, PATIENCE, ended).await?;
    let (Heeded::Yes(m) | Heeded::Gone(m) | Heeded::NotYet(m)) = ended;
    let exit = match m.status {
        MigrationStatus::Undone => Exit::Done,
        MigrationStatus::Running | MigrationStatus::Undoing => Exit::Pending,
        MigrationStatus::Resting(_) | MigrationStatus::UndoResting(_) => Exit::Pending,
        _ => Exit::Failed,
    };
    desk.say(screen, &m, exit).await
}

/// The migration that is on its way. `None`: none is. One that is named and is not, is an error.
async fn meant(app: &App, id: Option<&str>) -> Result<Option<(Desk, MigrationState)>, Failure> {
    let Some(desk) = Desk::open(app).await? else {
        return Ok(None);
    };
    let Some(m) = desk.migration(id)? else {
        return Ok(None);
    };
    if m.open() {
        return Ok(Some((desk, m)));
    }
    let (how, next) = match m.status {
        MigrationStatus::Applied => ("applied", format!("whimbrel down   (takes {} back)", m.id)),
        MigrationStatus::Skipped => ("left out", "whimbrel status".to_owned()),
        _ => ("taken back", "whimbrel up   (applies it again)".to_owned()),
    };
    Err(Failure {
        exit: Exit::Failed,
        ..Failure::usage(format!("{} is not on its way: it is {how}", m.id))
    }
    .not_done("nothing was changed")
    .next(next))
}
