//! Where each migration stands: what the folder holds beside what the ledger knows.

use super::{Change, Migration, difference};
use crate::ledger::{MigrationState, MigrationStatus, State};

/// One migration, of the folder or of the ledger or of both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub id: String,
    pub number: u32,
    pub description: String,
    pub kind: StandingKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StandingKind {
    Applied,
    /// Not applied, or taken back since; `up` applies it.
    Pending,
    /// Pending, with a lower number than one that is applied already.
    Late,
    /// Left out by the user's word.
    Skipped,
    /// On its way up or down, at rest there, or with an undo that failed: it comes first.
    Open,
    /// Applied, and its file was edited since.
    Drifted(Vec<Change>),
    /// Applied or open, and its file is gone.
    Missing,
}

/// All migrations in the order of their numbers. The files need not be sorted.
#[must_use]
pub fn standing(state: &State, migrations: &[Migration]) -> Vec<Standing> {
    let newest_applied = state.applied.iter().map(|id| number(id)).max();
    let mut all: Vec<Standing> = migrations
        .iter()
        .map(|migration| Standing {
            id: migration.id.clone(),
            number: migration.number,
            description: migration.description.clone(),
            kind: kind(
                migration,
                state.migrations.get(&migration.id),
                newest_applied,
            ),
        })
        .collect();
    let gone = state
        .migrations
        .values()
        .filter(|known| !migrations.iter().any(|migration| migration.id == known.id))
        .filter(|known| !settled(known.status));
    all.extend(gone.map(|known| Standing {
        id: known.id.clone(),
        number: number(&known.id),
        description: known.description.clone(),
        kind: StandingKind::Missing,
    }));
    all.sort_by(|a, b| (a.number, &a.id).cmp(&(b.number, &b.id)));
    all
}

fn kind(
    migration: &Migration,
    known: Option<&MigrationState>,
    newest_applied: Option<u32>,
) -> StandingKind {
    use MigrationStatus as S;
    match known.map(|known| (known.status, known)) {
        None | Some((S::Undone, _)) if newest_applied > Some(migration.number) => {
            StandingKind::Late
        }
        None | Some((S::Undone, _)) => StandingKind::Pending,
        Some((S::Skipped, _)) => StandingKind::Skipped,
        Some((S::Applied, known)) if known.checksum == migration.checksum => StandingKind::Applied,
        Some((S::Applied, known)) => {
            StandingKind::Drifted(difference(&known.meaning, &migration.meaning))
        }
        Some((S::Running | S::Resting(_) | S::Undoing | S::UndoResting(_) | S::UndoFailed, _)) => {
            StandingKind::Open
        }
    }
}

/// Nothing of it is left in the data, so that nobody misses its file.
fn settled(status: MigrationStatus) -> bool {
    matches!(status, MigrationStatus::Undone | MigrationStatus::Skipped)
}

/// The number that an id begins with; 0 where there is none.
fn number(id: &str) -> u32 {
    let digits = id.bytes().take_while(u8::is_ascii_digit).count();
    id[..digits].parse().unwrap_or_default()
}
