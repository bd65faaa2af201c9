//! How a migration's entries fold to its state; an illegal transition is an error.

use super::migration::{
    MigrationEntry, MigrationState, MigrationStatus, StepPlan, StepState, StepStatus,
};
use crate::Code;
use std::collections::BTreeMap;

impl MigrationState {
    /// Takes one more entry in. `None` as `state`: the migration was never begun.
    // tidy: long because it has one short arm for each kind of entry and status.
    pub(super) fn step(
        state: Option<MigrationState>,
        id: &str,
        at: &str,
        entry: &MigrationEntry,
    ) -> Result<MigrationState, String> {
        if let Some(fresh) = Self::begin(state.as_ref(), id, at, entry)? {
            return Ok(fresh);
        }
        let mut state = state.ok_or_else(|| format!("migration {id} was never begun"))?;
        at.clone_into(&mut state.updated_at);
        let illegal = |what: &str, status: MigrationStatus| {
            Err(format!("migration {id}: {what} while it is {status:?}"))
        };
        use MigrationEntry as E;
        use MigrationStatus as S;
        match (entry, state.status) {
            (E::Resumed { .. }, S::Running | S::Resting(_)) => {
                state.status = S::Running;
                state.attempts += 1;
                state.cause = None;
            }
            (E::Resumed { .. }, S::Undoing | S::UndoResting(_)) => {
                state.status = S::Undoing;
                state.attempts += 1;
            }
            (E::Resumed { .. }, status) => return illegal("it is resumed", status),
            (
                E::Rested {
                    rest,
                    code,
                    message,
                },
                S::Running | S::Undoing,
            ) => {
                let down = state.status == S::Undoing;
                state.status = if down {
                    S::UndoResting(*rest)
                } else {
                    S::Resting(*rest)
                };
                // While it goes down, the cause is why it does.
                if !down {
                    state.cause = Some((*code, message.clone()));
                }
            }
            (E::Rested { .. }, status) => return illegal("it rests", status),
            (E::Applied, S::Running) => {
                if let Some(open) = state.next_step() {
                    let name = &state.steps[open].name;
                    return Err(format!("migration {id} is applied with step {name} open"));
                }
                state.status = S::Applied;
                state.ended_at = Some(at.to_owned());
            }
            (E::Applied, status) => return illegal("it is applied", status),
            (
                E::Tripped {
                    rule,
                    value,
                    threshold,
                },
                S::Running,
            ) => {
                let message = format!("abort rule {rule}: {value}, threshold {threshold}");
                state.cause = Some((Code::MigrationAborted, message));
            }
            (E::Tripped { .. }, status) => return illegal("an abort rule trips", status),
            (E::Baseline { latency }, _) => state.baseline.clone_from(latency),
            (
                E::UndoStarted { by, cause },
                S::Running | S::Resting(_) | S::Applied | S::UndoFailed,
            ) => {
                state.status = S::Undoing;
                state.undone_by = Some(by.clone());
                state.ended_at = None;
                if cause.is_some() {
                    state.cause.clone_from(cause);
                }
            }
            (E::UndoStarted { .. }, status) => return illegal("its undo begins", status),
            (E::Undone, S::Undoing) => state.end_undo(at)?,
            (E::Undone, status) => return illegal("its undo ends", status),
            (
                E::StepUndoStarted { .. }
                | E::StepUndone { .. }
                | E::StepUndoFailed { .. }
                | E::StepKept { .. },
                S::Undoing,
            )
            | (E::StepStarted { .. } | E::StepDone { .. } | E::StepFailed { .. }, S::Running)
            | (
                E::StepSettled { .. } | E::Approved { .. },
                S::Running | S::Resting(_) | S::Undoing | S::UndoResting(_),
            )
            // Otherwise an undo whose end is unknown could never be settled, and nothing else could begin.
            | (E::StepSettled { .. }, S::UndoFailed) => {
                state.step_entry(at, entry)?;
            }
            (_, status) => return illegal("a step moves", status),
        }
        Ok(state)
    }

    /// The two entries that begin a migration's life, or the next application of it.
    // tidy: long because it names every field of two entries and of the state.
    fn begin(
        state: Option<&MigrationState>,
        id: &str,
        at: &str,
        entry: &MigrationEntry,
    ) -> Result<Option<MigrationState>, String> {
        // Skipped after it was undone, it keeps the number that it would have had: no two applications may
        // share one, because steps find their runs by it.
        let expected = state.map_or(1, |s| match s.status {
            MigrationStatus::Undone => s.application + 1,
            _ => s.application,
        });
        let (application, description, checksum, meaning, steps, by, status) = match entry {
            MigrationEntry::Started {
                application,
                description,
                checksum,
                meaning,
                steps,
                by,
                ..
            } => (
                *application,
                description,
                checksum,
                meaning,
                steps.clone(),
                by,
                MigrationStatus::Running,
            ),
            MigrationEntry::Skipped {
                description,
                checksum,
                meaning,
                by,
            } => (
                expected,
                description,
                checksum,
                meaning,
                Vec::new(),
                by,
                MigrationStatus::Skipped,
            ),
            _ => return Ok(None),
        };
        if let Some(known) = state {
            let over = matches!(
                known.status,
                MigrationStatus::Undone | MigrationStatus::Skipped
            );
            if !over {
                return Err(format!(
                    "migration {id} begins while it is {:?}",
                    known.status
                ));
            }
        }
        if status == MigrationStatus::Running && application != expected {
            return Err(format!(
                "migration {id} begins its application {application} instead of {expected}"
            ));
        }
        Ok(Some(MigrationState {
            id: id.to_owned(),
            application,
            description: description.clone(),
            checksum: checksum.clone(),
            meaning: meaning.clone(),
            status,
            steps: steps.iter().map(StepState::planned).collect(),
            cause: None,
            by: by.clone(),
            undone_by: None,
            started_at: at.to_owned(),
            updated_at: at.to_owned(),
            ended_at: None,
            attempts: 1,
            baseline: BTreeMap::new(),
        }))
    }

    fn end_undo(&mut self, at: &str) -> Result<(), String> {
        use StepStatus as S;
        let open = |s: &&StepState| {
            !matches!(
                s.status,
                S::Pending | S::Undone | S::UndoFailed | S::UndoUnknown | S::Kept
            )
        };
        if let Some(open) = self.steps.iter().find(open) {
            return Err(format!(
                "the undo of migration {} ends with step {} {:?}",
                self.id, open.name, open.status
            ));
        }
        let failed = |s: &StepState| matches!(s.status, S::UndoFailed | S::UndoUnknown);
        self.status = if self.steps.iter().any(failed) {
            MigrationStatus::UndoFailed
        } else {
            MigrationStatus::Undone
        };
        self.ended_at = Some(at.to_owned());
        Ok(())
    }

    // tidy: long because it has one short arm for each kind of entry.
    fn step_entry(&mut self, at: &str, entry: &MigrationEntry) -> Result<(), String> {
        use MigrationEntry as E;
        use StepStatus as S;
        let (E::StepStarted { step: index }
        | E::StepDone { step: index, .. }
        | E::StepFailed { step: index, .. }
        | E::StepSettled { step: index, .. }
        | E::Approved { step: index, .. }
        | E::StepUndoStarted { step: index }
        | E::StepUndone { step: index, .. }
        | E::StepUndoFailed { step: index, .. }
        | E::StepKept { step: index }) = entry
        else {
            return Err("no entry of a step".to_owned());
        };
        let next = self.next_step();
        let later_open = self.steps.iter().skip(*index as usize + 1).any(|s| {
            matches!(
                s.status,
                S::Done | S::Running | S::Failed | S::Unknown | S::Undoing
            )
        });
        let Some(step) = self.steps.get_mut(*index as usize) else {
            return Err(format!("migration {} has no step {index}", self.id));
        };
        let status = step.status;
        let illegal = |what: &str| {
            Err(format!(
                "step {} of migration {}: {what} while it is {status:?}",
                step.name, self.id
            ))
        };
        match (entry, status) {
            // Running: its process was killed while at it. Unknown: it may have happened. Both only where the
            // work is idempotent; otherwise somebody settled it first.
            (E::StepStarted { .. }, S::Pending | S::Failed | S::Running | S::Unknown) => {
                if next != Some(*index as usize) {
                    return Err(format!(
                        "step {} of migration {} begins before those in front of it are done",
                        step.name, self.id
                    ));
                }
                step.attempts += 1;
                step.error = None;
                step.started_at.get_or_insert_with(|| at.to_owned());
                step.status = S::Running;
            }
            (E::StepDone { report, .. }, S::Running) => {
                step.report = Some(report.clone());
                step.ended_at = Some(at.to_owned());
                step.status = S::Done;
            }
            (
                E::StepFailed {
                    code,
                    message,
                    unknown,
                    ..
                },
                S::Running,
            ) => {
                step.error = Some((*code, message.clone()));
                step.status = if *unknown { S::Unknown } else { S::Failed };
            }
            (E::StepSettled { done: true, .. }, S::Unknown) => {
                step.error = None;
                step.ended_at = Some(at.to_owned());
                step.status = S::Done;
            }
            (E::StepSettled { done: false, .. }, S::Unknown) => step.status = S::Pending,
            // A failed undo too: somebody may have mended by hand what no undo ever could.
            (E::StepSettled { done, .. }, S::UndoUnknown | S::UndoFailed) => {
                step.status = if *done { S::Undone } else { S::Done };
            }
            (E::Approved { by, .. }, S::Pending | S::Running | S::Failed) => {
                step.approved_by = Some(by.clone());
            }
            (
                E::StepUndoStarted { .. },
                S::Done | S::Running | S::Failed | S::Unknown | S::Undoing | S::UndoFailed,
            ) => {
                if later_open {
                    return illegal("its undo begins before those behind it are taken back");
                }
                if status != S::Undoing {
                    step.attempts = 0;
                }
                step.attempts += 1;
                step.undo_error = None;
                step.status = S::Undoing;
            }
            (E::StepUndone { report, .. }, S::Undoing) => {
                step.undo_report = Some(report.clone());
                step.ended_at = Some(at.to_owned());
                step.status = S::Undone;
            }
            (
                E::StepUndoFailed {
                    code,
                    message,
                    unknown,
                    ..
                },
                S::Undoing,
            ) => {
                step.undo_error = Some((*code, message.clone()));
                step.status = if *unknown {
                    S::UndoUnknown
                } else {
                    S::UndoFailed
                };
            }
            (E::StepKept { .. }, S::Done | S::Running | S::Failed | S::Unknown) => {
                if step.reversible {
                    return illegal("it is kept although it can be taken back");
                }
                step.status = S::Kept;
            }
            (E::StepStarted { .. }, _) => return illegal("it begins"),
            (E::StepDone { .. }, _) => return illegal("it is done"),
            (E::StepFailed { .. }, _) => return illegal("it fails"),
            (E::StepSettled { .. }, _) => return illegal("it is settled"),
            (E::Approved { .. }, _) => return illegal("it is approved"),
            (E::StepUndoStarted { .. }, _) => return illegal("its undo begins"),
            (E::StepUndone { .. }, _) => return illegal("it is undone"),
            (E::StepUndoFailed { .. }, _) => return illegal("its undo fails"),
            _ => return illegal("it is kept"),
        }
        Ok(())
    }
}

impl StepState {
    fn planned(plan: &StepPlan) -> Self {
        Self {
            name: plan.name.clone(),
            kind: plan.kind.clone(),
            reversible: plan.reversible,
            status: StepStatus::Pending,
            attempts: 0,
            started_at: None,
            ended_at: None,
            report: None,
            undo_report: None,
            error: None,
            undo_error: None,
            approved_by: None,
        }
    }
}
