//! `whimbrel approve` and `settle`: a person's word about a step.

use crate::app::{App, holder, person};
use crate::commands::up::not_at_work;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::migration_choice::gone;
use crate::migrations;
use crate::operator::{Desk, Heeded};
use clap::Args;
use std::time::Duration;
use whimbrel_model::Code;
use whimbrel_model::ledger::{MigrationState, StepState, StepStatus};
use whimbrel_model::migration::{ApproveStep, StepKind};

/// How long a process at work may take to write a go-ahead down.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 written down · 1 nothing waits for it, or this person may not give it · 3 asked, and \
                  not heeded yet"
)]
pub struct Approve {
    /// Which migration
    pub migration: String,

    /// Its approve step
    pub step: String,

    /// Who gives the go-ahead [default: who you are on this machine]
    #[arg(long = "as", value_name = "NAME")]
    pub name: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 written down · 1 what became of the step is known already · 5 lock held"
)]
pub struct Settle {
    /// Which migration
    pub migration: String,

    /// The step of which nobody knows whether it happened
    pub step: String,

    /// It did happen (on the way back: it is taken back)
    #[arg(
        long,
        required_unless_present = "not_done",
        conflicts_with = "not_done"
    )]
    pub done: bool,

    /// It did not happen (on the way back: it is not taken back)
    #[arg(long)]
    pub not_done: bool,
}

/// # Errors
/// Nothing waits for the go-ahead, this person may not give it, or the ledger cannot be used.
pub async fn approve(app: &App, args: &Approve) -> Outcome {
    let screen = &app.screen;
    let (desk, m) = begun(app, &args.migration).await?;
    let all = migrations::load(&desk.project)?;
    let file = all.iter().find(|f| f.id == m.id);
    let file = file.ok_or_else(|| gone(&m.id))?;
    let by = args.name.clone().unwrap_or_else(person);
    let asked = file.steps.iter().find_map(|step| match &step.kind {
        StepKind::Approve(rule) if step.name == args.step => Some(rule),
        _ => None,
    });
    let Some(rule) = asked else {
        let words = file.steps.iter().filter(|s| s.kind.word() == "approve");
        let names: Vec<_> = words.map(|s| s.name.as_str()).collect();
        return Err(Failure::usage(format!(
            "{} has no approve step called \"{}\"",
            m.id, args.step
        ))
        .next(match names.as_slice() {
            [] => format!("no step of {} waits for a go-ahead", m.id),
            names => format!("its approve steps: {}", names.join(", ")),
        }));
    };
    may(rule, &m, &args.step, &by)?;
    let given = |m: &MigrationState| {
        let step = m.steps.iter().find(|s| s.name == args.step);
        step.is_some_and(|s| s.approved_by.is_some())
    };
    let Some(lease) = desk.at_work(&m.id).await? else {
        not_at_work(Some(&desk.ledger)).await?;
        let engine = app.engine(&desk.project).await?;
        engine.approve(file, &args.step, &by, &holder()).await?;
        desk.ledger.refresh().await?;
        return said(app, &desk, &m.id, &args.step, &by, false);
    };
    desk.ask(app, "approve", &m.id, &args.step, &by).await?;
    let saying = format!("asked {} to write the go-ahead down", lease.holder);
    match desk.until(screen, &m.id, &saying, PATIENCE, given).await? {
        Heeded::Yes(_) => said(app, &desk, &m.id, &args.step, &by, true),
        Heeded::Gone(m) => desk.say(screen, &m, Exit::Pending).await,
        Heeded::NotYet(m) => {
            screen.progress("it was asked, and has not written it down yet");
            desk.say(screen, &m, Exit::Pending).await
        }
    }
}

fn said(app: &App, desk: &Desk, id: &str, step: &str, by: &str, at_work: bool) -> Outcome {
    let screen = &app.screen;
    let state = desk.ledger.state();
    screen.object(&serde_json::json!({
        "approved": { "migration": id, "step": step, "by": by }, "state": state.migrations.get(id),
    }));
    let text = format!("{by} gave the go-ahead for step {step} of {id}");
    screen.labelled("done", crate::paint::Paint::good, text);
    if !at_work {
        screen.next("next", "whimbrel up", "goes on from there");
    }
    Ok(Exit::Done)
}

fn may(rule: &ApproveStep, m: &MigrationState, step: &str, by: &str) -> Result<(), Failure> {
    let refused = |code, message: String| {
        Err(Failure {
            exit: Exit::Failed,
            ..Failure::new(code, message)
        }
        .not_done("nothing was written"))
    };
    if !rule.counts(by) {
        return refused(
            Code::ApprovalNeeded,
            format!(
                "{by} is not among those who may give the go-ahead for step {step} of {}: {}",
                m.id,
                rule.by.join(", ")
            ),
        )
        .map_err(|f| f.next("--as NAME says who gives it"));
    }
    let known = m.steps.iter().find(|s| s.name == step);
    match known.map(|s| s.status) {
        Some(StepStatus::Done) => refused(
            Code::MigrationOpen,
            format!("step {step} of {} has its go-ahead already", m.id),
        ),
        _ if !m.open() => refused(
            Code::MigrationOpen,
            format!(
                "{} is not on its way, so nothing waits for a go-ahead",
                m.id
            ),
        ),
        _ => Ok(()),
    }
}

/// # Errors
/// What became of the step is known, or the ledger cannot be used.
pub async fn settle(app: &App, args: &Settle) -> Outcome {
    let screen = &app.screen;
    let (desk, m) = begun(app, &args.migration).await?;
    let unknown = |s: &&StepState| {
        matches!(
            s.status,
            StepStatus::Unknown | StepStatus::UndoUnknown | StepStatus::UndoFailed
        )
    };
    let Some(step) = m.steps.iter().find(|s| s.name == args.step).filter(unknown) else {
        let names: Vec<_> = (m.steps.iter().filter(unknown))
            .map(|s| s.name.as_str())
            .collect();
        return Err(Failure {
            exit: Exit::Failed,
            ..Failure::usage(format!(
                "there is nothing to settle about a step \"{}\" of {}",
                args.step, m.id
            ))
        }
        .not_done("nothing was written")
        .next(match names.as_slice() {
            [] => "what became of each of its steps is known: whimbrel status".to_owned(),
            names => format!("steps that can be settled: {}", names.join(", ")),
        }));
    };
    not_at_work(Some(&desk.ledger)).await?;
    let back = !matches!(step.status, StepStatus::Unknown);
    let what = match (back, args.done) {
        (false, true) => "did happen",
        (false, false) => "did not happen",
        (true, true) => "is taken back",
        (true, false) => "is not taken back",
    };
    let by = person();
    screen.confirm(&format!(
        "Write down that step {} of {} {what}, as {by} saw.",
        step.name, m.id
    ))?;
    let engine = app.engine(&desk.project).await?;
    engine
        .settle_step(&m.id, &step.name, args.done, &by, &holder())
        .await?;
    let state = desk.ledger.refresh().await?;
    match state.migrations.get(&m.id) {
        Some(m) => desk.say(screen, m, Exit::Done).await,
        None => Ok(Exit::Done),
    }
}

async fn begun(app: &App, id: &str) -> Result<(Desk, MigrationState), Failure> {
    let never = || {
        Failure {
            exit: Exit::Failed,
            ..Failure::usage(format!("no migration \"{id}\" was ever begun"))
        }
        .next("whimbrel status")
    };
    let desk = Desk::open(app).await?.ok_or_else(never)?;
    let m = desk.migration(Some(id)).map_err(|_| never())?;
    Ok((desk, m.ok_or_else(never)?))
}
