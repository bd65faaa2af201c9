//! What an operator says about a migration from another terminal, or when none is at work.

use std::sync::Arc;

use whimbrel_model::ledger::{MigrationEntry, Request};
use whimbrel_model::migration::Migration;
use whimbrel_model::{Code, Entry};

use super::control::approval;
use super::orchestrate::no_ledger;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::ledger::Ledger;

impl Engine {
    /// Leaves word for the process that is at work: `pause`, `abort` (with a reason), `approve` (with a step's
    /// name). It heeds it within a second.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub async fn ask(
        &self,
        what: &str,
        migration: &str,
        detail: &str,
        by: &str,
    ) -> Result<u64, EngineError> {
        let request = Request {
            id: 0,
            what: what.to_owned(),
            subject: migration.to_owned(),
            by: by.to_owned(),
            detail: detail.to_owned(),
            at: String::new(),
        };
        let ledger = self.ledger.as_ref().ok_or_else(no_ledger)?;
        Ok(ledger.journal().ask(&request).await?)
    }

    /// Gives a step's go-ahead while no process is at work.
    ///
    /// # Errors
    /// Nothing waits for it, the person may not give it, or a process holds the lease: then
    /// [`Engine::ask`].
    pub async fn approve(
        &self,
        migration: &Migration,
        step: &str,
        by: &str,
        holder: &str,
    ) -> Result<(), EngineError> {
        self.write_down(holder, |ledger| {
            approval(ledger, migration, step, by)
                .map_err(|(code, message)| EngineError::Job { code, message })
        })
        .await
    }

    /// Says what became of a step whose end is unknown, after somebody looked.
    ///
    /// # Errors
    /// The step's end is not unknown.
    pub async fn settle_step(
        &self,
        migration: &str,
        step: &str,
        done: bool,
        by: &str,
        holder: &str,
    ) -> Result<(), EngineError> {
        self.write_down(holder, |ledger| {
            let state = ledger.state();
            let known = state.migrations.get(migration);
            let index = known.and_then(|m| m.steps.iter().position(|s| s.name == step));
            let Some(index) = index else {
                return Err(EngineError::Job {
                    code: Code::MigrationInvalid,
                    message: format!("migration {migration} has no step called {step:?}"),
                });
            };
            Ok(Entry::Migration {
                migration: migration.to_owned(),
                change: MigrationEntry::StepSettled {
                    step: u32::try_from(index).unwrap_or(u32::MAX),
                    done,
                    by: by.to_owned(),
                },
            })
        })
        .await
    }

    /// Leaves a late migration out for good: it counts as neither applied nor pending.
    ///
    /// # Errors
    /// It is applied or on its way.
    pub async fn skip_migration(
        &self,
        migration: &Migration,
        by: &str,
        holder: &str,
    ) -> Result<(), EngineError> {
        self.write_down(holder, |_| {
            Ok(Entry::Migration {
                migration: migration.id.clone(),
                change: MigrationEntry::Skipped {
                    description: migration.description.clone(),
                    checksum: migration.checksum.clone(),
                    meaning: migration.meaning.clone(),
                    by: by.to_owned(),
                },
            })
        })
        .await
    }

    async fn write_down(
        &self,
        holder: &str,
        entry: impl FnOnce(&Arc<Ledger>) -> Result<Entry, EngineError>,
    ) -> Result<(), EngineError> {
        let ledger = self.ledger.clone().ok_or_else(no_ledger)?;
        let lease = ledger.lock(holder).await?;
        let written = match entry(&ledger) {
            Ok(entry) => ledger
                .append(lease.fence(), vec![entry], &[])
                .await
                .map(|_| ())
                .map_err(EngineError::from),
            Err(error) => Err(error),
        };
        lease.release().await?;
        written
    }
}
