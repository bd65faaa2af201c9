//! What `status` says of migrations.

use crate::app::is_gone;
use crate::clock_words::when;
use crate::commands::status_verified::LastVerified;
use crate::failure::Failure;
use crate::migration_choice::drifted;
use crate::migration_screen::{self, folded};
use crate::migration_words::{Advice, Story};
use crate::paint::{Paint, clip, plural, thousands};
use crate::project::Project;
use crate::screen::{LABEL, Screen};
use crate::{migrations, schemas};
use whimbrel_model::Timestamp;
use whimbrel_model::ledger::{
    JobKind, Lease, MigrationState, RunState, RunStatus, State, StepStatus,
};
use whimbrel_model::migration::{Change, Migration, Standing, StandingKind, standing};

/// Others that moved this long ago are told in a line each.
const LATELY_SECONDS: i64 = 24 * 3600;

/// Everything that is to be said of the project's migrations.
pub struct Migrations<'a> {
    state: &'a State,
    now: Timestamp,
    lease: Option<&'a Lease>,
    standings: Vec<Standing>,
    drifted: Vec<(String, Vec<Change>)>,
    /// Why the files cannot be read.
    invalid: Option<Failure>,
}

impl<'a> Migrations<'a> {
    #[must_use]
    pub fn look(
        project: &Project,
        state: &'a State,
        lease: Option<&'a Lease>,
        now: Timestamp,
    ) -> Self {
        let (all, invalid): (Vec<Migration>, _) = match migrations::load(project) {
            Ok(all) => (all, None),
            Err(failure) => (Vec::new(), Some(failure)),
        };
        let standings = match invalid {
            // Without the files everything would seem to be missing.
            Some(_) => Vec::new(),
            None => standing(state, &all),
        };
        Self {
            state,
            now,
            lease,
            drifted: drifted(&standings, state, &all),
            standings,
            invalid,
        }
    }

    fn story<'s>(&self, state: &'s MigrationState) -> Story<'s> {
        let live = self.lease.filter(|l| !l.expired && !is_gone(&l.holder));
        let ours = format!(": migration {}", state.id);
        Story {
            state,
            at_work: live.is_some_and(|l| l.holder.ends_with(&ours)),
            now: self.now,
        }
    }

    /// The one that comes first, told in full.
    #[must_use]
    pub fn foremost(&self) -> Option<Story<'a>> {
        migration_screen::foremost(self.state).map(|m| self.story(m))
    }

    fn of(&self, kind: &StandingKind) -> Vec<&Standing> {
        self.standings.iter().filter(|s| s.kind == *kind).collect()
    }

    fn missing(&self) -> Vec<&Standing> {
        self.of(&StandingKind::Missing)
    }

    /// Whether anything is open, pending, edited, gone or wrong.
    #[must_use]
    pub fn unsettled(&self) -> bool {
        let waits = |s: &Standing| !matches!(s.kind, StandingKind::Applied | StandingKind::Skipped);
        self.invalid.is_some()
            || !self.drifted.is_empty()
            || self.standings.iter().any(waits)
            || self.state.migrations.values().any(MigrationState::open)
    }

    /// Whether there is any migration to speak of.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.standings.is_empty() || !self.state.migrations.is_empty() || self.invalid.is_some()
    }

    /// Whether the run works for a migration that is on its way, and is told with its step.
    #[must_use]
    pub fn tells_of(&self, run: &RunState) -> bool {
        let migration = run.step.as_ref().map(|s| &s.migration);
        migration.is_some_and(|id| self.state.migrations.get(id).is_some_and(|m| m.open()))
    }

    /// The one that comes first, then those that moved lately.
    pub fn say(&self, screen: &Screen) {
        let Some(story) = self.foremost() else { return };
        migration_screen::headline(screen, &story);
        migration_screen::steps(screen, &story, &|index| self.so_far(&story, index));
        screen.labelled("", Paint::bold, screen.out.dim(&story.small()));
        let mut others: Vec<_> = self
            .state
            .migrations
            .values()
            .filter(|m| m.id != story.state.id && self.lately(m))
            .collect();
        others.sort_by(|a, b| b.updated_at.cmp(&a.updated_at));
        for other in others {
            let other = self.story(other);
            let (label, mood) = other.label();
            folded(screen, label, mood.paint(), &screen.text(&other.headline()));
        }
    }

    fn lately(&self, m: &MigrationState) -> bool {
        Timestamp::parse(&m.updated_at)
            .is_some_and(|at| self.now.seconds() - at.seconds() < LATELY_SECONDS)
    }

    /// How far the runs of a step came that is not at its end.
    fn so_far(&self, story: &Story<'_>, index: usize) -> Option<String> {
        let m = story.state;
        let step = m.steps.get(index)?;
        if !matches!(step.status, StepStatus::Running | StepStatus::Undoing) {
            return None;
        }
        let ours = |run: &&RunState| {
            run.step.as_ref().is_some_and(|s| {
                s.migration == m.id && s.application == m.application && s.step as usize == index
            })
        };
        let runs = self.state.order.iter().rev();
        let run = runs.filter_map(|id| self.state.runs.get(id)).find(ours)?;
        Some(format!(
            "{}: {} so far",
            run.job.title,
            plural(run.counts.enumerated, "document")
        ))
    }

    /// What waits in the folder: pending, late, edited and missing files.
    pub fn say_files(&self, screen: &Screen, project: &Project) {
        if let Some(failure) = &self.invalid {
            let text = format!(
                "{} cannot be read: {}",
                schemas::shown(&project.migrations),
                failure.message
            );
            folded(screen, "files", Paint::bad, &text);
            for snippet in &failure.snippets {
                let text = format!("{}: {}", Failure::place(snippet), snippet.label);
                folded(screen, "", Paint::bold, &text);
            }
        }
        let late: Vec<_> = self.of(&StandingKind::Late);
        for (label, paint, which) in [
            (
                "pending",
                Paint::warn as fn(Paint, &str) -> String,
                self.of(&StandingKind::Pending),
            ),
            ("late", Paint::warn, late),
        ] {
            for (i, s) in which.iter().enumerate() {
                let room = screen.width.saturating_sub(LABEL + 2 + s.id.len());
                let description = clip(&screen.text(&s.description), room);
                let text = format!("{}  {}", s.id, screen.out.dim(&description));
                screen.labelled(if i == 0 { label } else { "" }, paint, text);
            }
        }
        for (id, changes) in &self.drifted {
            let mut label = "drifted";
            for change in changes {
                folded(
                    screen,
                    label,
                    Paint::bad,
                    &screen.text(&format!("{id}: {change}")),
                );
                label = "";
            }
        }
        for s in self.missing() {
            let text = format!("{}: its file is gone", s.id);
            folded(screen, "missing", Paint::bad, &text);
        }
    }

    /// Phases, and when data was last saved and judged.
    pub fn say_rest(&self, screen: &Screen) {
        for (i, (collection, phase)) in self.state.phases.iter().enumerate() {
            let label = if i == 0 { "phases" } else { "" };
            let since = when(&phase.at, self.now);
            let text = format!(
                "{collection}: {} since {since} by {}",
                phase.phase, phase.by
            );
            folded(screen, label, Paint::bold, &text);
        }
        if let Some((at, what)) = self.last_backup() {
            let text = format!("{}: {what}", when(&at, self.now));
            folded(screen, "backup", Paint::bold, &screen.text(&text));
        }
        LastVerified::look(self.state, self.last_step("verify"), self.now).say(screen);
    }

    fn last_step(&self, kind: &str) -> Option<(String, String)> {
        let all = self.state.migrations.values();
        let steps = all.flat_map(|m| m.steps.iter().map(move |s| (m, s)));
        steps
            .filter(|(_, s)| s.kind == kind)
            .filter_map(|(m, s)| {
                let report = s.report.as_ref()?;
                // Taking a step back ends it once more.
                let at = match s.status {
                    StepStatus::Done => s.ended_at.clone()?,
                    _ => s.started_at.clone()?,
                };
                Some((at, format!("{} step {}: {}", m.id, s.name, report.summary)))
            })
            .max()
    }

    fn last_backup(&self) -> Option<(String, String)> {
        let runs = self.state.runs.values().filter(|r| {
            r.job.kind == JobKind::Backup && r.status == RunStatus::Completed && r.step.is_none()
        });
        let run = runs.max_by(|a, b| a.updated_at.cmp(&b.updated_at));
        let run = run.map(|r| {
            let documents = thousands(r.counts.enumerated);
            (
                r.updated_at.clone(),
                format!("{} ({documents} documents)", r.job.title),
            )
        });
        run.max(self.last_step("backup"))
    }

    /// What to type, most urgent first.
    #[must_use]
    pub fn advice(&self, waiting: bool) -> Vec<Advice> {
        let story = self.foremost();
        let open = story.as_ref().is_some_and(|s| s.state.open());
        let mut all = story.map(|s| s.advice()).unwrap_or_default();
        if waiting {
            let command = "whimbrel quarantine list".to_owned();
            all.push((command, "what waits there, and why".to_owned()));
        }
        if self.invalid.is_none() && !open {
            if !self.of(&StandingKind::Late).is_empty() {
                let why = "or --late skip: leave what came late out for good";
                all.push(("whimbrel up --late apply".to_owned(), why.to_owned()));
            } else if !self.of(&StandingKind::Pending).is_empty() {
                let up = |(command, _): &Advice| command == "whimbrel up";
                let command = "whimbrel up --dry-run".to_owned();
                if !all.iter().any(up) {
                    all.push((command, "what is pending, and what it would do".to_owned()));
                    all.push(("whimbrel up".to_owned(), "applies it".to_owned()));
                }
            }
        }
        all
    }

    #[must_use]
    pub fn to_json(&self, waiting: u64) -> serde_json::Value {
        let standings: Vec<_> = self
            .standings
            .iter()
            .map(|s| {
                let changes: Vec<_> = (self.drifted.iter())
                    .filter(|(id, _)| *id == s.id)
                    .flat_map(|(_, changes)| changes.iter().map(ToString::to_string))
                    .collect();
                serde_json::json!({
                    "id": s.id, "number": s.number, "description": s.description,
                    "standing": word(&s.kind), "changes": changes,
                    "state": self.state.migrations.get(&s.id),
                })
            })
            .collect();
        let last = |found: Option<(String, String)>| {
            found.map(|(at, what)| serde_json::json!({ "at": at, "what": what }))
        };
        serde_json::json!({
            "foremost": self.foremost().map(|s| migration_screen::to_json(&s, waiting)),
            "all": standings,
            "applied": self.state.applied,
            "invalid": self.invalid.as_ref().map(Failure::to_json),
            "phases": self.state.phases,
            "last_backup": last(self.last_backup()),
            "last_verify": last(self.last_step("verify")),
        })
    }
}

fn word(kind: &StandingKind) -> &'static str {
    match kind {
        StandingKind::Applied => "applied",
        StandingKind::Pending => "pending",
        StandingKind::Late => "late",
        StandingKind::Skipped => "skipped",
        StandingKind::Open => "open",
        StandingKind::Drifted(_) => "drifted",
        StandingKind::Missing => "missing",
    }
}
