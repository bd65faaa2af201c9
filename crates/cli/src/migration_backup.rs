//! Makes a migration's backup step ready.

use crate::failure::Failure;
use crate::migrations;
use crate::place;
use crate::project::Project;
use std::sync::Arc;
use whimbrel_archive::{Recipients, SigningKey, Vault};
use whimbrel_engine::JobOptions;
use whimbrel_engine::migrate::BackupAction;
use whimbrel_model::Code;
use whimbrel_model::migration::{BackupStep, Means};

/// Which collections a step saves: `(store, collection)`; no collection for all of a store.
///
/// # Errors
/// A name means nothing in this project.
pub fn named(
    step: &BackupStep,
    project: &Project,
) -> Result<Vec<(place::Named, Option<String>)>, Failure> {
    let mut named = Vec::new();
    for name in &step.collections {
        let whole = migrations::resolve(project, name, Means::Collections)
            .map_err(|why| Failure::new(Code::MigrationInvalid, why))?;
        match whole.strip_suffix("/*") {
            Some(store) => named.push((place::parse(store, project)?, None)),
            None => {
                let parsed = place::parse(&whole, project)?;
                let collection = parsed.collection.clone();
                named.push((parsed, collection));
            }
        }
    }
    Ok(named)
}

/// The step without its collections, which are opened by whoever opens stores.
///
/// # Errors
/// The place is none, a recipient is none, or the signing key cannot be read.
pub fn action(
    step: &BackupStep,
    project: &Project,
    options: &JobOptions,
) -> Result<BackupAction, Failure> {
    let wrong = |message: String| Failure::new(Code::MigrationInvalid, message);
    if step.to.contains("://") {
        Vault::open(&step.to, &project.dir, false).map_err(|e| wrong(e.message))?;
    }
    let recipients = Recipients::parse(&step.recipients).map_err(|e| wrong(e.message))?;
    let key = match &step.sign {
        None => None,
        Some(file) => {
            let path = project.dir.join(file);
            let text = std::fs::read_to_string(&path)
                .map_err(|e| wrong(format!("the signing key {file} cannot be read: {e}")))?;
            let key = SigningKey::parse(&text).map_err(|e| wrong(format!("{file}: {e}")))?;
            Some(Arc::new(key))
        }
    };
    Ok(BackupAction {
        collections: Vec::new(),
        to: step.to.clone(),
        base: project.dir.clone(),
        recipients: recipients.map(Arc::new),
        key,
        options: options.clone(),
    })
}
