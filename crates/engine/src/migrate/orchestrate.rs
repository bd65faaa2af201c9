//! Takes a migration to its end, or back to its beginning.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use whimbrel_model::ledger::{MigrationEntry, MigrationState, MigrationStatus, StepPlan, StepRef};
use whimbrel_model::migration::Migration;
use whimbrel_model::{Code, Moment};

use super::action::StepAction;
use super::control::Former;
use super::passage::Passage;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::ledger::{LeaseGuard, Ledger};
use crate::options::Place;

/// A migration made ready: what it means, and what each of its steps does.
#[derive(Clone)]
pub struct MigrationJob {
    pub migration: Arc<Migration>,
    /// One a step, in the same order.
    pub actions: Vec<Arc<dyn StepAction>>,
    /// Whose single reads the abort rules' latency is about.
    pub places: Vec<Place>,
    /// Counts the calls to the stores, for the abort rules.
    pub meter: Arc<super::metered::Metered>,
    /// Where relative paths begin.
    pub project: PathBuf,
    pub options: MigrationOptions,
}

#[derive(Clone, Debug)]
pub struct MigrationOptions {
    /// Who acts, as the history will tell: `ada@host`.
    pub by: String,
    /// Who holds the lease, as others will see it: `ada@host pid 4711`.
    pub holder: String,
    /// Rest where a step fails, instead of taking back what was done.
    pub keep: bool,
    /// Wait for approvals instead of resting.
    pub wait: bool,
    /// Go on although the file was edited since the migration was begun.
    pub drifted: bool,
    /// The first pause before another try; each following one is longer.
    pub pause: Duration,
}

impl Default for MigrationOptions {
    fn default() -> Self {
        Self {
            by: "somebody".to_owned(),
            holder: format!("pid {}", std::process::id()),
            keep: false,
            wait: false,
            drifted: false,
            pause: Duration::from_secs(1),
        }
    }
}

impl Engine {
    /// Applies a migration, or goes on with one that rests or was killed, in the direction that it was
    /// going. What became of it is in the state that comes back: applied, at rest, or taken back.
    ///
    /// # Errors
    /// It could not be begun (another one is on its way, another process holds the lease, its file was
    /// edited), or the ledger can no longer be written. Nothing is undone then, and calling again goes on.
    pub async fn apply(&self, job: MigrationJob) -> Result<MigrationState, EngineError> {
        let (ledger, lease) = self.lease_for(&job).await?;
        let result = self.apply_locked(&job, &ledger, &lease).await;
        give_back(lease, result).await
    }

    /// Takes a migration back: an applied one, or one that is on its way.
    ///
    /// # Errors
    /// As [`Engine::apply`].
    pub async fn revert(
        &self,
        job: MigrationJob,
        cause: Option<(Code, String)>,
    ) -> Result<MigrationState, EngineError> {
        let (ledger, lease) = self.lease_for(&job).await?;
        let result = self.revert_locked(&job, &ledger, &lease, cause).await;
        give_back(lease, result).await
    }

    async fn lease_for(
        &self,
        job: &MigrationJob,
    ) -> Result<(Arc<Ledger>, Arc<LeaseGuard>), EngineError> {
        let ledger = self.ledger.clone().ok_or_else(no_ledger)?;
        let holder = format!("{}: migration {}", job.options.holder, job.migration.id);
        let lease = Arc::new(ledger.lock(&holder).await?);
        Ok((ledger, lease))
    }

    async fn apply_locked(
        &self,
        job: &MigrationJob,
        ledger: &Arc<Ledger>,
        lease: &Arc<LeaseGuard>,
    ) -> Result<MigrationState, EngineError> {
        let passage = Passage::new(self, job, ledger, lease);
        let passed = passage.pass().await;
        passage.control.close().await;
        passed?;
        passage.state()
    }

    async fn revert_locked(
        &self,
        job: &MigrationJob,
        ledger: &Arc<Ledger>,
        lease: &Arc<LeaseGuard>,
        cause: Option<(Code, String)>,
    ) -> Result<MigrationState, EngineError> {
        let passage = Passage::new(self, job, ledger, lease);
        let passed = passage.pass_back(cause).await;
        passage.control.close().await;
        passed?;
        passage.state()
    }
}

async fn give_back(
    lease: Arc<LeaseGuard>,
    result: Result<MigrationState, EngineError>,
) -> Result<MigrationState, EngineError> {
    if let Some(lease) = Arc::into_inner(lease) {
        let released = lease.release().await;
        // The original error is what counts.
        if result.is_ok() {
            released?;
        }
    }
    result
}

pub(crate) fn no_ledger() -> EngineError {
    EngineError::Job {
        code: Code::LedgerFailed,
        message: "no ledger is open, so nothing can be written".to_owned(),
    }
}

enum Way {
    Nowhere,
    Up,
    Down,
}

impl Passage<'_> {
    async fn pass(&self) -> Result<(), EngineError> {
        let (way, former) = self.begin().await?;
        if !matches!(way, Way::Nowhere) {
            self.control.listen(former).await;
        }
        match way {
            Way::Nowhere => Ok(()),
            Way::Up => self.up().await,
            Way::Down => self.down().await,
        }
    }

    async fn pass_back(&self, cause: Option<(Code, String)>) -> Result<(), EngineError> {
        let state = self.state()?;
        self.refuse_another()?;
        match state.status {
            MigrationStatus::Undone | MigrationStatus::Skipped => return Ok(()),
            MigrationStatus::Undoing | MigrationStatus::UndoResting(_) => {
                self.refuse_drift(&state)?;
                self.resumed().await?;
            }
            _ => {
                self.refuse_drift(&state)?;
                self.begin_undo(cause).await?;
            }
        }
        self.control.listen(Former::Drop).await;
        self.down().await
    }

    /// Decides which way to go, and writes the beginning down.
    async fn begin(&self) -> Result<(Way, Former), EngineError> {
        self.refuse_another()?;
        let state = self.ledger.state();
        let id = self.id();
        let known = state.migrations.get(id).cloned();
        match known.as_ref().map(|m| m.status) {
            None | Some(MigrationStatus::Undone | MigrationStatus::Skipped) => {
                self.start(known.as_ref()).await?;
                Ok((Way::Up, Former::Drop))
            }
            Some(MigrationStatus::Applied) => Ok((Way::Nowhere, Former::Drop)),
            Some(MigrationStatus::UndoFailed) => Err(EngineError::Job {
                code: Code::UndoFailed,
                message: format!("migration {id} could not be taken back whole"),
            }),
            Some(MigrationStatus::Running | MigrationStatus::Resting(_)) => {
                if let Some(state) = &known {
                    self.refuse_drift(state)?;
                }
                self.resumed().await?;
                Ok((Way::Up, Former::Heed))
            }
            Some(MigrationStatus::Undoing | MigrationStatus::UndoResting(_)) => {
                if let Some(state) = &known {
                    self.refuse_drift(state)?;
                }
                self.resumed().await?;
                Ok((Way::Down, Former::Drop))
            }
        }
    }

    async fn start(&self, before: Option<&MigrationState>) -> Result<(), EngineError> {
        let migration = &self.job.migration;
        let steps = migration
            .steps
            .iter()
            .zip(&self.job.actions)
            .map(|(step, action)| StepPlan {
                name: step.name.clone(),
                kind: step.kind.word().to_owned(),
                reversible: action.inverse().is_some(),
            })
            .collect();
        let application = match before {
            Some(m) if m.status == MigrationStatus::Undone => m.application + 1,
            Some(m) => m.application,
            None => 1,
        };
        self.note(MigrationEntry::Started {
            application,
            description: migration.description.clone(),
            checksum: migration.checksum.clone(),
            meaning: migration.meaning.clone(),
            steps,
            by: self.job.options.by.clone(),
            tool: env!("CARGO_PKG_VERSION").to_owned(),
        })
        .await?;
        self.tell(Moment::Started, None, migration.description.clone(), None);
        Ok(())
    }

    async fn resumed(&self) -> Result<(), EngineError> {
        self.note(MigrationEntry::Resumed {
            by: self.job.options.by.clone(),
            tool: env!("CARGO_PKG_VERSION").to_owned(),
        })
        .await?;
        let message = format!("{} goes on", self.id());
        self.tell(Moment::Resumed, None, message, None);
        Ok(())
    }
}

/// The runs that were made for a step, oldest first.
pub(crate) fn runs_of(ledger: &Ledger, at: &StepRef) -> Vec<whimbrel_model::ledger::RunId> {
    let state = ledger.state();
    let made = |id: &&String| {
        state
            .runs
            .get(*id)
            .is_some_and(|r| r.step.as_ref() == Some(at))
    };
    state.order.iter().filter(made).cloned().collect()
}

/// Facts by name, for a step's report.
pub(crate) fn facts<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.map(|(name, value)| (name.to_owned(), value)).into()
}
