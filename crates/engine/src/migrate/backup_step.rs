//! The step that saves what later steps may write to.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use whimbrel_archive::{Recipients, SigningKey, Vault, check_name};
use whimbrel_model::Store;
use whimbrel_model::figures::{bytes, plural};
use whimbrel_model::ledger::{Counts, StepRef, StepReport};
use whimbrel_model::migration::Inverse;

use super::action::{Estimate, StepAction, StepContext, StepError};
use super::documents::{bytes_of, nothing_to_undo, options};
use super::orchestrate::facts;
use crate::backup::{BackupJob, BackupPlace};
use crate::error::EngineError;
use crate::options::JobOptions;

/// Writes collections into an archive of its own and reads it back: the step is not done before that.
#[derive(Clone, Debug)]
pub struct BackupAction {
    pub collections: Vec<BackupPlace>,
    /// The folder or URL of the vault, which is made when the step runs and not before.
    pub to: String,
    /// Where a relative folder begins.
    pub base: PathBuf,
    pub recipients: Option<Arc<Recipients>>,
    pub key: Option<Arc<SigningKey>>,
    pub options: JobOptions,
}

#[async_trait]
impl StepAction for BackupAction {
    async fn estimate(&self) -> Result<Estimate, EngineError> {
        let mut estimate = Estimate::default();
        let mut names = Vec::new();
        for saved in &self.collections {
            let place = &saved.place;
            let (_, documents) = place.must_exist(self.options.patience).await?;
            // One that is not known makes the sum unknown.
            estimate.documents = match (estimate.documents, documents, names.is_empty()) {
                (_, Some(n), true) => Some(n),
                (Some(sum), Some(n), false) => Some(sum + n),
                _ => None,
            };
            estimate.bytes = match (estimate.bytes, bytes_of(place).await, names.is_empty()) {
                (_, Some(n), true) => Some(n),
                (Some(sum), Some(n), false) => Some(sum + n),
                _ => None,
            };
            names.push(place.to_string());
        }
        estimate.summary = format!("{} into {}", names.join(", "), self.to);
        Ok(estimate)
    }

    fn carries(&self) -> Vec<&dyn Store> {
        let saved = self.collections.iter();
        saved.map(|one| one.place.store.as_ref()).collect()
    }

    fn inverse(&self) -> Option<Inverse> {
        Some(Inverse::Nothing)
    }

    fn writes(&self) -> bool {
        false
    }

    async fn forward(&self, cx: &StepContext<'_>) -> Result<StepReport, StepError> {
        let vault = Vault::open(&self.to, &self.base, true).map_err(EngineError::from)?;
        let saved = cx.engine.backup(self.job(cx, vault)).await?;
        let proof = cx.engine.prove(&saved.archive).await?;
        let mut counts = Counts::default();
        for report in &saved.reports {
            counts.add(&report.counts);
        }
        let how = match (proof.opened, saved.archive.manifest().consistent) {
            (true, true) => "read back and proved, as of one instant",
            (true, false) => "read back and proved, not as of one instant",
            (false, true) => "its hashes proved (it is sealed), as of one instant",
            (false, false) => "its hashes proved (it is sealed), not as of one instant",
        };
        Ok(StepReport {
            runs: saved.reports.into_iter().filter_map(|r| r.run).collect(),
            counts,
            summary: format!(
                "{}, {} in {}: {how}",
                plural(proof.documents, "document"),
                bytes(proof.stored_bytes),
                proof.archive
            ),
            facts: facts([
                ("archive", proof.archive.clone()),
                ("hash", saved.archive.hash().to_owned()),
                ("documents", proof.documents.to_string()),
                ("bytes", proof.stored_bytes.to_string()),
            ]),
            ..StepReport::default()
        })
    }

    /// `forward` has read all of it back, and nothing writes to it since.
    async fn validate(&self, _cx: &StepContext<'_>) -> Result<(), StepError> {
        Ok(())
    }

    /// The archive stays: nobody was ever sorry to have one.
    async fn backward(&self, _cx: &StepContext<'_>) -> Result<StepReport, StepError> {
        Ok(nothing_to_undo())
    }
}

impl BackupAction {
    fn job(&self, cx: &StepContext<'_>, vault: Vault) -> BackupJob {
        BackupJob {
            collections: self.collections.clone(),
            vault,
            name: Some(name_of(cx.at)),
            recipients: self.recipients.clone(),
            key: self.key.clone(),
            fresh: false,
            options: options(&self.options, cx),
        }
    }
}

/// `0001_messages_apart-2-step1`: of the migration, its application and the step.
fn name_of(at: &StepRef) -> String {
    let name = format!("{}-{}-step{}", at.migration, at.application, at.step + 1);
    match check_name(&name) {
        Ok(()) => name,
        // A migration's own name may be longer than an archive's.
        Err(_) => {
            let short = blake3::hash(name.as_bytes()).to_hex();
            format!("migration-{}", &short[..16])
        }
    }
}
