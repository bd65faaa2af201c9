//! `whimbrel status`: what happened, what state the data is in, what is unfinished, and what to type next.

use crate::app::{App, is_gone};
use crate::commands::status_migrations::Migrations;
use crate::commands::status_verified;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::migration_screen;
use crate::paint::{Paint, instant, plural};
use crate::place::without_secret;
use crate::project::Project;
use crate::screen::Screen;
use crate::summary::{Deed, equation};
use clap::Args;
use std::collections::BTreeMap;
use whimbrel_engine::{Clock, Ledger, SystemClock};
use whimbrel_model::ledger::{RunState, RunStatus, State};

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 nothing unfinished · 3 something is unfinished, pending, late or edited"
)]
pub struct Status {}

/// # Errors
/// The ledger cannot be read.
pub async fn run(app: &App, _args: &Status) -> Outcome {
    let project = app.project()?;
    let screen = &app.screen;
    let Some(ledger) = app.ledger_to_read(&project).await? else {
        return Ok(nothing_yet(screen, &project));
    };
    let state = ledger.state();
    let lease = ledger.journal().lease().await?;
    let waiting = waiting(&ledger).await?;
    let migrations = Migrations::look(&project, &state, lease.as_ref(), SystemClock.now());
    let unfinished: Vec<&RunState> = state
        .order
        .iter()
        .filter_map(|id| state.runs.get(id))
        .filter(|r| matches!(r.status, RunStatus::Running | RunStatus::Interrupted))
        .collect();
    let ours = match migrations.foremost() {
        Some(story) => migration_screen::waiting(&ledger, story.state).await?,
        None => 0,
    };
    let advice = migrations.advice(!waiting.is_empty());
    screen.object(&serde_json::json!({
        "ledger": without_secret(&project.ledger),
        "records": state.seq,
        "migrations": migrations.to_json(ours),
        "unfinished": unfinished,
        "waiting": waiting,
        "lease": lease,
        "verifications": status_verified::all_json(&state, SystemClock.now()),
        "last": state.order.last().and_then(|id| state.runs.get(id)),
        "next": advice,
    }));
    migrations.say(screen);
    let at_work = lease
        .as_ref()
        .is_some_and(|l| !l.expired && !is_gone(&l.holder));
    for run in unfinished.iter().filter(|r| !migrations.tells_of(r)) {
        say_unfinished(screen, run, at_work);
    }
    if unfinished.is_empty() && migrations.foremost().is_none() {
        screen.labelled("ok", Paint::good, "nothing is unfinished");
    }
    if let Some(lease) = lease.as_ref().filter(|l| !l.expired) {
        let gone = if at_work {
            ""
        } else {
            ", whose process is gone"
        };
        let text = format!(
            "held by {} since {}{gone}",
            lease.holder,
            instant(&lease.acquired_at)
        );
        migration_screen::folded(screen, "lock", Paint::bold, &text);
    }
    say_waiting(screen, &waiting);
    migrations.say_files(screen, &project);
    migrations.say_rest(screen);
    if !migrations.any() {
        let last = state.order.last().and_then(|id| state.runs.get(id));
        say_last(screen, last.filter(|last| !unfinished.contains(last)));
    }
    if !screen.quiet {
        let (name, records) = (without_secret(&project.ledger), plural(state.seq, "record"));
        let ledger = format!("{name}: {records}, the chain holds");
        screen.labelled("ledger", Paint::bold, screen.out.dim(&screen.text(&ledger)));
    }
    migration_screen::advice(screen, &advice);
    Ok(exit(!unfinished.is_empty() || migrations.unsettled()))
}

/// Without a ledger there may still be files.
fn nothing_yet(screen: &Screen, project: &Project) -> Exit {
    let empty = State::default();
    let migrations = Migrations::look(project, &empty, None, SystemClock.now());
    let advice = migrations.advice(false);
    screen.object(&serde_json::json!({
        "ledger": without_secret(&project.ledger), "records": 0, "unfinished": [], "waiting": {}, "lease": null,
        "migrations": migrations.to_json(0), "next": advice,
    }));
    screen.line("nothing has run here yet: there is no ledger");
    migrations.say_files(screen, project);
    migration_screen::advice(screen, &advice);
    exit(migrations.unsettled())
}

fn exit(unsettled: bool) -> Exit {
    if unsettled { Exit::Pending } else { Exit::Done }
}

/// How many documents wait, by subject.
///
/// # Errors
/// The ledger cannot be read.
pub async fn waiting(ledger: &Ledger) -> Result<BTreeMap<String, u64>, Failure> {
    let mut counts = BTreeMap::new();
    let mut after = None;
    loop {
        let page = ledger.journal().quarantined(None, after, 1000).await?;
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        for (_, item) in page {
            *counts.entry(item.subject).or_insert(0) += 1;
        }
    }
    Ok(counts)
}

fn say_waiting(screen: &Screen, waiting: &BTreeMap<String, u64>) {
    for (i, (subject, count)) in waiting.iter().enumerate() {
        let label = if i == 0 { "waiting" } else { "" };
        let text = format!("{}: {subject}", plural(*count, "document"));
        screen.labelled(label, Paint::warn, text);
    }
}

fn say_last(screen: &Screen, last: Option<&RunState>) {
    let Some(last) = last else { return };
    let how = status_word(last.status);
    let text = format!("{} ({how}, run {})", last.job.title, last.run);
    screen.labelled("last", Paint::bold, text);
    let counts = equation(&last.counts, Deed::of(last), false);
    screen.labelled("", Paint::bold, counts);
}

fn say_unfinished(screen: &Screen, run: &RunState, at_work: bool) {
    let what = format!("{} (run {})", screen.out.bold(&run.job.title), run.run);
    match (run.status, at_work) {
        (RunStatus::Running, true) => screen.labelled("at work", Paint::name, what),
        (RunStatus::Running, false) => screen.labelled("killed", Paint::warn, what),
        _ => screen.labelled("stopped", Paint::warn, what),
    }
    let so_far = equation(&run.counts, Deed::of(run), false);
    screen.labelled("", Paint::bold, format!("so far {so_far}"));
    if let Some((code, message)) = &run.error {
        screen.labelled("", Paint::bold, format!("{code} {message}"));
    }
    if !at_work {
        screen.labelled(
            "",
            Paint::bold,
            "the command that began it goes on from here",
        );
    }
}

#[must_use]
pub fn status_word(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Running => "unfinished",
        RunStatus::Interrupted => "stopped",
        RunStatus::Completed => "done",
        RunStatus::Aborted => "given up",
    }
}
