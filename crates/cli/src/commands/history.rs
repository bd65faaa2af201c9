//! `whimbrel history`: every migration and every run there was, and one migration in full.

use crate::app::App;
use crate::chapters::{Chapter, Line, chapters, story};
use crate::clock_words::between;
use crate::commands::status::status_word;
use crate::commands::status_verified::{outcome, to_json};
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::migrations;
use crate::paint::{duration, fold, instant, thousands};
use crate::screen::Screen;
use crate::table::Table;
use clap::Args;
use whimbrel_engine::{Clock, Ledger, SystemClock};
use whimbrel_model::ledger::{RunState, VerificationState};

#[derive(Debug, Args)]
pub struct History {
    /// This migration in full: its number, its name, or a beginning of it that no other has
    pub migration: Option<String>,

    /// Only the last N migrations and the last N runs
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
    pub limit: usize,
}

/// # Errors
/// The ledger cannot be read, or no migration has that name.
pub async fn run(app: &App, args: &History) -> Outcome {
    let project = app.project()?;
    let screen = &app.screen;
    let Some(ledger) = app.ledger_to_read(&project).await? else {
        screen.object(&serde_json::json!({ "migrations": [], "runs": [], "verifications": [] }));
        screen.line("nothing has run here yet: there is no ledger");
        return Ok(Exit::Done);
    };
    if let Some(text) = &args.migration {
        return one(screen, &ledger, text).await;
    }
    let state = ledger.state();
    let skipped = state.order.len().saturating_sub(args.limit);
    let runs: Vec<&RunState> = state
        .order
        .iter()
        .skip(skipped)
        .filter_map(|id| state.runs.get(id))
        .collect();
    let mut applications = chapters(&ledger).await?;
    let earlier = applications.len().saturating_sub(args.limit);
    applications.drain(..earlier);
    let passed_over = state.verifications.len().saturating_sub(args.limit);
    let verified: Vec<&VerificationState> = state.verifications.iter().skip(passed_over).collect();
    let now = SystemClock.now();
    screen.object(&serde_json::json!({
        "migrations": applications, "earlier_migrations": earlier, "runs": runs, "earlier": skipped,
        "verifications": verified.iter().map(|v| to_json(v, now)).collect::<Vec<_>>(),
    }));
    say_migrations(screen, &applications);
    say_verified(screen, &verified);
    say_runs(screen, &runs);
    if skipped > 0 || earlier > 0 {
        screen.note(screen.out.dim(&format!(
            "{} earlier: whimbrel history -n 1000",
            thousands((skipped + earlier) as u64)
        )));
    }
    Ok(Exit::Done)
}

fn say_migrations(screen: &Screen, applications: &[Chapter]) {
    let mut table = Table::new(&["migration", "how", "begun", "by", "took", "why"]);
    for chapter in applications {
        let took = chapter.ended_at.as_ref();
        let took = took.and_then(|end| between(&chapter.started_at, end));
        let why = match (&chapter.cause, chapter.outcome) {
            (Some((code, _)), "applied") | (Some((code, _)), "on its way") => code.to_string(),
            (Some((code, message)), _) => format!("{code} {}", screen.text(message)),
            (None, _) => String::new(),
        };
        let by = match (
            &chapter.undone_by,
            chapter.undone_by.as_ref() == Some(&chapter.by),
        ) {
            (Some(other), false) => format!("{}, back by {other}", chapter.by),
            _ => chapter.by.clone(),
        };
        let name = match chapter.application {
            0 | 1 => chapter.migration.clone(),
            n => format!("{} ({n})", chapter.migration),
        };
        table.row([
            name,
            chapter.outcome.to_owned(),
            instant(&chapter.started_at),
            by,
            took.map(duration).unwrap_or_default(),
            why,
        ]);
    }
    let any = !applications.is_empty();
    table.print(screen);
    if any {
        screen.line("");
    }
}

fn say_verified(screen: &Screen, verified: &[&VerificationState]) {
    let mut table = Table::new(&["verified", "what", "outcome", "by"]);
    for last in verified {
        table.row([
            instant(&last.at),
            screen.text(&last.found.title),
            screen.text(&outcome(&last.found)),
            last.found.by.clone(),
        ]);
    }
    table.print(screen);
    if !verified.is_empty() {
        screen.line("");
    }
}

fn say_runs(screen: &Screen, runs: &[&RunState]) {
    let mut table = Table::new(&["run", "what", "how", "seen", "written", "failed", "tries"]);
    for run in runs {
        table.row([
            run.run.clone(),
            screen.text(&run.job.title),
            status_word(run.status).to_owned(),
            thousands(run.counts.enumerated),
            thousands(run.counts.written),
            thousands(run.counts.quarantined),
            run.attempts.to_string(),
        ]);
    }
    table.numbers(&[3, 4, 5, 6]);
    table.print(screen);
}

/// Every record of one migration: when, who, what.
async fn one(screen: &Screen, ledger: &Ledger, text: &str) -> Outcome {
    let state = ledger.state();
    let ids: Vec<&str> = state.migrations.keys().map(String::as_str).collect();
    let id = migrations::pick(&ids, text)?;
    let lines = story(ledger, id).await?;
    screen.object(&serde_json::json!({
        "migration": id, "state": state.migrations.get(id), "entries": lines,
    }));
    screen.line(screen.out.bold(id));
    let (mut day, mut who) = (String::new(), String::new());
    for line in &lines {
        say_line(screen, line, &mut day, &mut who);
    }
    Ok(Exit::Done)
}

/// The day and the person stand where they change.
fn say_line(screen: &Screen, line: &Line, day: &mut String, who: &mut String) {
    let (date, time) = line.at.split_once('T').unwrap_or((&line.at, ""));
    if date != day || line.who != *who {
        date.clone_into(day);
        who.clone_from(&line.who);
        screen.line(format!(
            "{} {}",
            screen.out.dim(date),
            screen.out.dim(&line.who)
        ));
    }
    let time = time.get(..8).unwrap_or(time);
    let indent = line.what.chars().take_while(|c| *c == ' ').count();
    let width = screen.width.saturating_sub(12 + indent);
    for (i, text) in fold(&screen.text(&line.what), width).iter().enumerate() {
        let head = if i == 0 { time } else { "        " };
        screen.line(format!("  {head}  {}{text}", " ".repeat(indent)));
    }
}
