//! `whimbrel history`: every run there was.

use crate::app::App;
use crate::commands::status::status_word;
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::paint::thousands;
use crate::table::Table;
use clap::Args;
use whimbrel_model::ledger::RunState;

#[derive(Debug, Args)]
pub struct History {
    /// Only the last N runs
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
    pub limit: usize,
}

/// # Errors
/// The ledger cannot be read.
pub async fn run(app: &App, args: &History) -> Outcome {
    let project = app.project()?;
    let screen = &app.screen;
    let Some(ledger) = app.ledger_to_read(&project).await? else {
        screen.object(&serde_json::json!({ "runs": [] }));
        screen.line("nothing has run here yet: there is no ledger");
        return Ok(Exit::Done);
    };
    let state = ledger.state();
    let skipped = state.order.len().saturating_sub(args.limit);
    let runs: Vec<&RunState> = state
        .order
        .iter()
        .skip(skipped)
        .filter_map(|id| state.runs.get(id))
        .collect();
    screen.object(&serde_json::json!({ "runs": runs, "earlier": skipped }));
    let mut table = Table::new(&["run", "what", "how", "seen", "written", "failed", "tries"]);
    for run in &runs {
        table.row([
            run.run.clone(),
            run.job.title.clone(),
            status_word(run.status).to_owned(),
            thousands(run.counts.enumerated),
            thousands(run.counts.written),
            thousands(run.counts.quarantined),
            run.attempts.to_string(),
        ]);
    }
    table.numbers(&[3, 4, 5, 6]);
    table.print(screen);
    if skipped > 0 {
        screen.note(
            screen
                .out
                .dim(&format!("{skipped} earlier runs: whimbrel history -n 1000")),
        );
    }
    Ok(Exit::Done)
}
