//! What an operator's commands have in common: the migration that is meant, the process at work on it, and
//! the wait until it has heeded.

use crate::app::{App, is_gone};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::migration_words::Story;
use crate::project::Project;
use crate::screen::Screen;
use crate::{migration_screen, migrations, progress};
use std::sync::Arc;
use std::time::{Duration, Instant};
use whimbrel_engine::{Clock, Engine, Ledger, SystemClock};
use whimbrel_model::ledger::{Lease, MigrationState, State};

/// How often the ledger is looked at.
const EVERY: Duration = Duration::from_millis(200);

/// The ledger as an operator finds it.
pub struct Desk {
    pub project: Project,
    pub ledger: Arc<Ledger>,
}

/// What came of waiting.
pub enum Heeded {
    Yes(MigrationState),
    /// The process that was asked is no longer at work, and did not heed.
    Gone(MigrationState),
    NotYet(MigrationState),
}

impl Desk {
    /// `None` where there is no ledger yet.
    ///
    /// # Errors
    /// The project or its ledger cannot be read.
    pub async fn open(app: &App) -> Result<Option<Self>, Failure> {
        let project = app.project()?;
        let ledger = app.ledger_to_read(&project).await?;
        Ok(ledger.map(|ledger| Self { project, ledger }))
    }

    /// The migration that is meant: the one on its way where none is named. `None`: none is.
    ///
    /// # Errors
    /// None has that name.
    pub fn migration(&self, id: Option<&str>) -> Result<Option<MigrationState>, Failure> {
        let state = self.ledger.state();
        let found = match id {
            Some(text) => {
                let ids: Vec<&str> = state.migrations.keys().map(String::as_str).collect();
                let id = migrations::pick(&ids, text)?;
                state.migrations.get(id)
            }
            None => state.migrations.values().find(|m| m.open()),
        };
        Ok(found.cloned())
    }

    /// The lease of the process that is at work on the migration.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn at_work(&self, id: &str) -> Result<Option<Lease>, Failure> {
        let lease = self.ledger.journal().lease().await?;
        let ours = format!(": migration {id}");
        Ok(lease.filter(|l| !l.expired && !is_gone(&l.holder) && l.holder.ends_with(&ours)))
    }

    /// Leaves a request for the process at work.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub async fn ask(
        &self,
        app: &App,
        what: &str,
        id: &str,
        detail: &str,
        by: &str,
    ) -> Result<u64, Failure> {
        let ledger = app.ledger(&self.project).await?;
        let engine = Engine::new(ledger, Arc::new(SystemClock));
        Ok(engine.ask(what, id, detail, by).await?)
    }

    /// Waits until the ledger shows that the request was heeded.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn until(
        &self,
        screen: &Screen,
        id: &str,
        saying: &str,
        limit: Duration,
        heeded: impl Fn(&MigrationState) -> bool,
    ) -> Result<Heeded, Failure> {
        let spinner = screen.bar.then(|| {
            let spinner = progress::bar(None, screen.err.0);
            spinner.set_prefix(saying.to_owned());
            spinner
        });
        if spinner.is_none() {
            screen.progress(saying);
        }
        let begun = Instant::now();
        let outcome = loop {
            let at_work = self.at_work(id).await?.is_some();
            let state = self.ledger.refresh().await?;
            let known = known(&state, id)?;
            if heeded(&known) {
                break Heeded::Yes(known);
            }
            if !at_work {
                break Heeded::Gone(known);
            }
            if begun.elapsed() >= limit {
                break Heeded::NotYet(known);
            }
            tokio::time::sleep(EVERY).await;
        };
        if let Some(spinner) = spinner {
            spinner.finish_and_clear();
        }
        Ok(outcome)
    }

    /// Says how the migration stands, and ends with `exit`.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn say(&self, screen: &Screen, state: &MigrationState, exit: Exit) -> Outcome {
        let story = Story {
            state,
            at_work: self.at_work(&state.id).await?.is_some(),
            now: SystemClock.now(),
        };
        let waiting = migration_screen::waiting(&self.ledger, state).await?;
        screen.object(&migration_screen::to_json(&story, waiting));
        migration_screen::headline(screen, &story);
        migration_screen::errors(screen, &story);
        migration_screen::advice(screen, &story.advice());
        Ok(exit)
    }
}

fn known(state: &State, id: &str) -> Result<MigrationState, Failure> {
    state
        .migrations
        .get(id)
        .cloned()
        .ok_or_else(|| Failure::usage(format!("the ledger knows no migration {id}")))
}

/// There is nothing to do, and that is said.
pub fn nothing(screen: &Screen, why: &str) -> Exit {
    screen.object(&serde_json::json!({ "done": false, "why": why }));
    screen.labelled("ok", crate::paint::Paint::good, why);
    Exit::Done
}
