//! What a migration is going to do, shown before it does anything.

use crate::failure::Failure;
use crate::migration_job::{Preview, Ready};
use crate::paint::{bytes, duration, plural};
use crate::screen::Screen;
use whimbrel_engine::EngineError;
use whimbrel_model::ledger::{MigrationState, MigrationStatus, RunStatus, State, StepStatus};
use whimbrel_model::migration::Inverse;

/// One step as it is announced.
#[derive(Debug)]
pub struct PlannedStep {
    pub name: String,
    pub kind: &'static str,
    pub what: String,
    pub documents: Option<u64>,
    pub bytes: Option<u64>,
    pub time_ms: Option<u64>,
    /// Whether it was done by an earlier attempt.
    pub done: bool,
    pub inverse: Option<Inverse>,
}

/// One migration as it is announced.
#[derive(Debug)]
pub struct Plan {
    pub id: String,
    pub description: String,
    pub owner: Option<String>,
    /// Whether it was begun before and goes on.
    pub goes_on: bool,
    pub steps: Vec<PlannedStep>,
}

impl Plan {
    /// # Errors
    /// A store cannot be read.
    pub async fn make(ready: &Ready, state: &State) -> Result<Self, Failure> {
        let migration = &ready.job.migration;
        let known = state.migrations.get(&migration.id);
        let going = known.filter(|m| m.open());
        let mut steps = Vec::new();
        for (i, step) in migration.steps.iter().enumerate() {
            let action = &ready.job.actions[i];
            let estimate = match action.estimate().await {
                Ok(estimate) => estimate,
                // An earlier step makes it.
                Err(EngineError::NoCollection { place }) => whimbrel_engine::migrate::Estimate {
                    summary: format!("{place}, which is not there yet"),
                    ..Default::default()
                },
                Err(error) => return Err(error.into()),
            };
            let told = step.estimate.or(estimate.time);
            let told = told.and_then(|t| u64::try_from(t.as_millis()).ok());
            let time_ms = told
                .or_else(|| measured(&ready.previews[i], estimate.documents, state))
                .or_else(|| former(known, i, &step.name));
            steps.push(PlannedStep {
                name: step.name.clone(),
                kind: step.kind.word(),
                what: estimate.summary,
                documents: estimate.documents,
                bytes: estimate.bytes,
                time_ms,
                done: going
                    .is_some_and(|m| m.steps.get(i).is_some_and(|s| s.status == StepStatus::Done)),
                inverse: action.inverse(),
            });
        }
        Ok(Self {
            id: migration.id.clone(),
            description: migration.description.clone(),
            owner: migration.owner.clone(),
            goes_on: going.is_some(),
            steps,
        })
    }

    /// Steps ahead that cannot be taken back: number, kind and name.
    #[must_use]
    pub fn no_return(&self) -> Vec<String> {
        let steps = self.steps.iter().enumerate();
        steps
            .filter(|(_, s)| s.inverse.is_none() && !s.done)
            .map(|(i, s)| format!("step {} ({} {})", i + 1, s.kind, s.name))
            .collect()
    }

    /// Milliseconds of the steps ahead that are known, and whether all of them are.
    #[must_use]
    pub fn time(&self) -> (u64, bool) {
        let ahead = self.steps.iter().filter(|s| !s.done);
        // A go-ahead takes as long as it takes, and a phase changes in the ledger alone.
        let counted: Vec<_> = ahead
            .filter(|s| !matches!(s.kind, "approve" | "phase"))
            .map(|s| s.time_ms)
            .collect();
        let all = counted.iter().all(Option::is_some);
        (counted.into_iter().flatten().sum(), all)
    }

    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let steps: Vec<_> = self
            .steps
            .iter()
            .map(|s| {
                serde_json::json!({
                    "name": s.name, "kind": s.kind, "what": s.what, "documents": s.documents,
                    "bytes": s.bytes, "estimate_ms": s.time_ms, "done": s.done,
                    "reversible": s.inverse.is_some(), "back": back(s.inverse),
                })
            })
            .collect();
        let (ms, whole) = self.time();
        serde_json::json!({
            "migration": self.id, "description": self.description, "owner": self.owner,
            "goes_on": self.goes_on, "steps": steps, "no_return": self.no_return(),
            "estimate_ms": ms, "estimate_is_whole": whole,
        })
    }

    pub fn print(&self, screen: &Screen) {
        let goes_on = if self.goes_on {
            screen.out.warn("  goes on")
        } else {
            String::new()
        };
        let owner = match &self.owner {
            Some(owner) => screen.out.dim(&format!("  (owner: {owner})")),
            None => String::new(),
        };
        screen.line(format!("{}{goes_on}{owner}", screen.out.bold(&self.id)));
        for line in crate::paint::fold(&self.description, screen.width.saturating_sub(2)) {
            screen.line(format!("  {line}"));
        }
        self.print_steps(screen);
        for step in self.no_return() {
            let loud = screen.out.bad("  NO WAY BACK:");
            screen.line(format!(
                "{loud} {step}. Once it is done, taking the migration back leaves what it did."
            ));
        }
    }
}

impl Plan {
    /// A line a step, and below it what it does.
    fn print_steps(&self, screen: &Screen) {
        let kinds = self.steps.iter().map(|s| s.kind.len()).max().unwrap_or(0);
        let names = self.steps.iter().map(|s| s.name.len()).max().unwrap_or(0);
        let numbers = self.steps.len().to_string().len();
        for (i, step) in self.steps.iter().enumerate() {
            let mut facts = Vec::new();
            facts.extend(step.documents.map(|n| plural(n, "document")));
            facts.extend(step.bytes.map(bytes));
            match (step.done, step.time_ms) {
                (true, _) => facts.push("done already".to_owned()),
                (false, Some(ms)) => facts.push(format!("about {}", duration(ms))),
                (false, None) => {}
            }
            facts.push(match step.inverse {
                None => screen.out.bad("no way back"),
                Some(Inverse::Nothing) => "nothing to take back".to_owned(),
                inverse => format!("back: {}", back(inverse)),
            });
            screen.line(format!(
                "  {:>numbers$} {:<kinds$} {:<names$}  {}",
                i + 1,
                step.kind,
                step.name,
                facts.join(", ")
            ));
            let indent = " ".repeat(3 + numbers);
            let room = screen.width.saturating_sub(indent.len());
            for line in crate::paint::fold(&screen.text(&step.what), room) {
                screen.line(format!("{indent}{}", screen.out.dim(&line)));
            }
        }
    }
}

/// `about 3 min 20 s`, `at least 3 min 20 s`; `None` where nothing is known.
#[must_use]
pub fn total(plans: &[Plan]) -> Option<String> {
    let (ms, whole) = plans
        .iter()
        .map(Plan::time)
        .fold((0, true), |a, b| (a.0 + b.0, a.1 && b.1));
    match (ms, whole) {
        (0, false) => None,
        (ms, true) => Some(format!("about {}", duration(ms))),
        (ms, false) => Some(format!("at least {}", duration(ms))),
    }
}

/// `2 migrations, 7 steps`
#[must_use]
pub fn size(plans: &[Plan]) -> String {
    let steps: usize = plans
        .iter()
        .map(|p| p.steps.iter().filter(|s| !s.done).count())
        .sum();
    let steps = plural(steps as u64, "step");
    match plans {
        [one] => format!("{} ({steps})", one.id),
        many => format!("{} ({steps})", plural(many.len() as u64, "migration")),
    }
}

/// How a step is taken back, in a few words.
#[must_use]
pub fn back(inverse: Option<Inverse>) -> String {
    match inverse {
        None => "NONE".to_owned(),
        Some(Inverse::Nothing) => "not needed".to_owned(),
        Some(Inverse::Downgrade { to }) => format!("to v{to}"),
        Some(Inverse::Uncopy) => "removes what it wrote".to_owned(),
        Some(Inverse::FormerPhase) => "to the former phase".to_owned(),
        Some(Inverse::Backward) => "runs its backward".to_owned(),
    }
}

/// Told from the last run of the same subject: documents a second.
fn measured(preview: &Preview, documents: Option<u64>, state: &State) -> Option<u64> {
    let documents = documents?;
    let subjects: Vec<String> = match preview {
        Preview::Upgrade(job) => vec![format!("upgrade {}", job.place)],
        Preview::Copy(jobs) => jobs.iter().map(whimbrel_engine::CopyJob::subject).collect(),
        Preview::Nothing => return None,
    };
    let mut total = 0;
    for subject in subjects {
        let run = state.order.iter().rev().find_map(|id| {
            let run = state.runs.get(id)?;
            let whole = run.status == RunStatus::Completed && run.attempts == 1;
            (whole && run.job.subject == subject && run.counts.enumerated > 0).then_some(run)
        })?;
        let ms = crate::clock_words::between(&run.started_at, &run.updated_at)?.max(1);
        total += documents.saturating_mul(ms) / run.counts.enumerated;
    }
    Some(total.max(1))
}

/// How long the step took in the application before.
fn former(known: Option<&MigrationState>, index: usize, name: &str) -> Option<u64> {
    let known = known.filter(|m| m.status == MigrationStatus::Undone)?;
    let step = known.steps.get(index).filter(|s| s.name == name)?;
    step.report.as_ref().map(|r| r.elapsed_ms)
}
