//! A migration's state on the screen, the same wherever it is shown.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::migration_words::{Mood, Story};
use crate::paint::{Paint, fold, plural};
use crate::screen::{LABEL, Screen};
use whimbrel_engine::Ledger;
use whimbrel_model::ledger::{MigrationState, MigrationStatus, Rest, State, StepStatus};

/// Prints a text behind a label, folded to the screen's width.
pub fn folded(screen: &Screen, label: &str, paint: fn(Paint, &str) -> String, text: &str) {
    let lines = fold(text, screen.width.saturating_sub(LABEL));
    for (i, line) in lines.iter().enumerate() {
        screen.labelled(if i == 0 { label } else { "" }, paint, line);
    }
}

/// What happened and in what state the data is.
pub fn headline(screen: &Screen, story: &Story<'_>) {
    let (label, mood) = story.label();
    folded(screen, label, mood.paint(), &screen.text(&story.headline()));
    folded(screen, "", Paint::bold, &story.data());
}

/// Every step with its mark, how long it took, what it did, and its errors. `more` is what else is known of a
/// step.
pub fn steps(screen: &Screen, story: &Story<'_>, more: &dyn Fn(usize) -> Option<String>) {
    let all = &story.state.steps;
    let kinds = all.iter().map(|s| s.kind.len()).max().unwrap_or(0);
    let names = all
        .iter()
        .map(|s| s.name.chars().count())
        .max()
        .unwrap_or(0);
    let numbers = all.len().to_string().len();
    for (i, step) in all.iter().enumerate() {
        let (mark, mood) = story.mark(step);
        let mark = mood.paint()(screen.out, mark);
        let took = story.took(step);
        let gap = " ".repeat(names - step.name.chars().count());
        let name = match step.status {
            StepStatus::Pending => screen.out.dim(&step.name),
            _ => step.name.clone(),
        };
        let head = format!(
            "{mark} {:>numbers$} {:<kinds$} {name}{gap}",
            i + 1,
            step.kind
        );
        let width = 2 + numbers + 1 + kinds + 1 + names;
        let rest = screen.width.saturating_sub(LABEL + width + 12);
        // Too narrow beside the step, its lines stand below.
        let beside = rest >= 44;
        let (indent, rest) = match beside {
            true => (width + 12, rest),
            false => (4, screen.width.saturating_sub(LABEL + 4)),
        };
        let mut lines = Vec::new();
        let mut said = story.step(step);
        said.extend(more(i).map(|text| (Mood::Plain, text)));
        for (mood, text) in said {
            for line in fold(&screen.text(&text), rest) {
                lines.push(match mood {
                    Mood::Plain => line,
                    other => other.paint()(screen.out, &line),
                });
            }
        }
        let first = match beside {
            true if !lines.is_empty() => lines.remove(0),
            _ => String::new(),
        };
        let line = format!("{head}  {took:<8}  {first}");
        screen.labelled("", Paint::bold, line.trim_end());
        for line in lines {
            screen.labelled("", Paint::bold, format!("{}{line}", " ".repeat(indent)));
        }
    }
}

/// The errors that `up` and `down` leave, for their last words: the steps themselves were shown already.
pub fn errors(screen: &Screen, story: &Story<'_>) {
    for (i, step) in story.state.steps.iter().enumerate() {
        if let Some((code, message)) = &step.undo_error {
            let text = format!(
                "step {} ({} {}) could not be taken back: {code} {message}",
                i + 1,
                step.kind,
                step.name
            );
            folded(screen, "undo", Paint::bad, &screen.text(&text));
        }
    }
}

/// What to type next, and why.
pub fn advice(screen: &Screen, advice: &[(String, String)]) {
    let widest = advice.iter().map(|(c, _)| c.chars().count()).max();
    for (i, (command, why)) in advice.iter().enumerate() {
        let gap = widest.unwrap_or(0) - command.chars().count();
        let label = if i == 0 { "next" } else { "" };
        let why = match why.as_str() {
            "" => String::new(),
            why => format!("{}{why}", " ".repeat(gap)),
        };
        screen.next(label, command, &why);
    }
}

/// Documents in quarantine that the migration's runs left there.
///
/// # Errors
/// The ledger cannot be read.
pub async fn waiting(ledger: &Ledger, migration: &MigrationState) -> Result<u64, Failure> {
    let state = ledger.state();
    let ours = |run: &String| {
        let step = state.runs.get(run).and_then(|r| r.step.as_ref());
        step.is_some_and(|s| s.migration == migration.id && s.application == migration.application)
    };
    let (mut count, mut after) = (0, None);
    loop {
        let page = ledger.journal().quarantined(None, after, 1000).await?;
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        count += page.iter().filter(|(_, item)| ours(&item.run)).count() as u64;
    }
    Ok(count)
}

/// Says that documents wait.
pub fn say_waiting(screen: &Screen, waiting: u64) {
    if waiting > 0 {
        let text = format!("{} in quarantine", plural(waiting, "document"));
        screen.labelled("waiting", Paint::warn, text);
    }
}

/// What a command that moved a migration ends with.
#[must_use]
pub fn exit(state: &MigrationState, waiting: u64) -> Exit {
    use MigrationStatus as S;
    match state.status {
        S::Applied if waiting > 0 => Exit::Findings,
        S::Applied | S::Skipped => Exit::Done,
        S::Resting(Rest::Unknown) | S::UndoResting(Rest::Unknown) => Exit::Unknown,
        S::Running | S::Undoing | S::Resting(_) | S::UndoResting(_) => Exit::Pending,
        S::Undone | S::UndoFailed => Exit::Failed,
    }
}

/// The state in words and in full, for machines.
#[must_use]
pub fn to_json(story: &Story<'_>, waiting: u64) -> serde_json::Value {
    let next: Vec<_> = story
        .advice()
        .into_iter()
        .map(|(command, why)| serde_json::json!({ "command": command, "why": why }))
        .collect();
    serde_json::json!({
        "headline": story.headline(),
        "data": story.data(),
        "at_work": story.at_work,
        "waiting": waiting,
        "next": next,
        "state": story.state,
    })
}

/// The migration that an operator asks about first: the open one, else the one that moved last.
#[must_use]
pub fn foremost(state: &State) -> Option<&MigrationState> {
    let all = state.migrations.values();
    all.clone().find(|m| m.open()).or_else(|| {
        all.filter(|m| m.status != MigrationStatus::Skipped)
            .max_by(|a, b| a.updated_at.cmp(&b.updated_at))
    })
}
