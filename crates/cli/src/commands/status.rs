//! `whimbrel status`: what is unfinished, and what waits.

use crate::app::App;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::paint::{plural, thousands};
use crate::place::without_secret;
use crate::summary::equation;
use clap::Args;
use std::collections::BTreeMap;
use whimbrel_engine::Ledger;
use whimbrel_model::ledger::{RunState, RunStatus};

#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 nothing unfinished · 3 a run is unfinished")]
pub struct Status {}

/// # Errors
/// The ledger cannot be read.
pub async fn run(app: &App, _args: &Status) -> Outcome {
    let project = app.project()?;
    let screen = &app.screen;
    let Some(ledger) = app.ledger_to_read(&project).await? else {
        screen.object(&serde_json::json!({
            "ledger": without_secret(&project.ledger), "records": 0, "unfinished": [], "waiting": {}, "lease": null
        }));
        screen.line("nothing has run here yet: there is no ledger");
        return Ok(Exit::Done);
    };
    let state = ledger.state();
    let lease = ledger.journal().lease().await?;
    let waiting = waiting(&ledger).await?;
    let unfinished: Vec<&RunState> = state
        .order
        .iter()
        .filter_map(|id| state.runs.get(id))
        .filter(|r| matches!(r.status, RunStatus::Running | RunStatus::Interrupted))
        .collect();
    screen.object(&serde_json::json!({
        "ledger": without_secret(&project.ledger),
        "records": state.seq,
        "unfinished": unfinished,
        "waiting": waiting,
        "lease": lease,
        "last": state.order.last().and_then(|id| state.runs.get(id)),
    }));
    let at_work = lease.as_ref().is_some_and(|l| !l.expired);
    for run in &unfinished {
        say_unfinished(app, run, at_work);
    }
    if unfinished.is_empty() {
        screen.line(format!("{} nothing is unfinished", screen.out.good("ok")));
    }
    if let Some(lease) = lease.filter(|l| !l.expired) {
        screen.line(format!(
            "lock  held by {} since {}",
            lease.holder, lease.acquired_at
        ));
    }
    for (subject, count) in &waiting {
        let wait = screen.out.warn(&format!(
            "{} wait in quarantine",
            plural(*count, "document")
        ));
        screen.line(format!(
            "{wait}  {subject}   {}",
            screen.out.name("whimbrel quarantine list")
        ));
    }
    if let Some(last) = state.order.last().and_then(|id| state.runs.get(id)) {
        screen.line(format!(
            "last  {}  run {}  {}",
            last.job.title,
            last.run,
            status_word(last.status)
        ));
        screen.line(format!(
            "      {}",
            equation(&last.counts, last.job.kind, false)
        ));
    }
    screen.note(screen.out.dim(&format!(
        "      ledger {}: {} records, the chain holds",
        without_secret(&project.ledger),
        thousands(state.seq)
    )));
    Ok(if unfinished.is_empty() {
        Exit::Done
    } else {
        Exit::Pending
    })
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

fn say_unfinished(app: &App, run: &RunState, at_work: bool) {
    let screen = &app.screen;
    let how = match (run.status, at_work) {
        (RunStatus::Running, true) => screen.out.name("at work"),
        (RunStatus::Running, false) => screen.out.warn("was killed"),
        _ => screen.out.warn("stopped"),
    };
    screen.line(format!(
        "{how}  {}  run {}",
        screen.out.bold(&run.job.title),
        run.run
    ));
    screen.line(format!(
        "      so far {}",
        equation(&run.counts, run.job.kind, false)
    ));
    if let Some((code, message)) = &run.error {
        screen.line(format!("      {code} {message}"));
    }
    if !at_work {
        screen.line("      the command that began it goes on from here");
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
