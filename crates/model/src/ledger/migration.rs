//! A migration's life in the ledger: a pure fold in which an illegal transition is an error.

use super::{Counts, RunId};
use crate::Code;
use crate::migration::Phase;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One application of a migration. Applied again after it was undone, it gets the next number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StepRef {
    pub migration: String,
    pub application: u32,
    /// From 0.
    pub step: u32,
}

/// What one step did, as it stands in the ledger. Never a document's value or a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepReport {
    /// The runs it made, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<RunId>,
    pub counts: Counts,
    pub elapsed_ms: u64,
    /// What a person wants to know: `3 collections, 1,204 documents, 312 kB in backups/0001-1-save`.
    pub summary: String,
    /// What the step's undo, or the steps behind it, need to know: an archive's place, a former phase.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
}

/// Why a migration is at rest before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rest {
    /// Stopped on request, or by an error after which nothing is undone (a lost lease, a full disk).
    Stopped,
    /// `whimbrel pause`.
    Paused,
    /// An `approve` step has no answer yet.
    Waiting,
    /// What became of a step is unknown, and only a person can tell.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MigrationStatus {
    /// At work going up, or killed while it was.
    Running,
    /// At rest on its way up.
    Resting(Rest),
    Applied,
    /// Taking itself back, or killed while it did.
    Undoing,
    /// At rest on its way down.
    UndoResting(Rest),
    /// Every step is taken back, but for those that were announced to have no way back.
    Undone,
    /// The undo came to its end, and some steps' undo failed.
    UndoFailed,
    /// Left out by the user's word.
    Skipped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    Pending,
    Running,
    Done,
    /// Tried and given up; nothing more is known to come of it.
    Failed,
    /// It may have happened.
    Unknown,
    Undoing,
    Undone,
    UndoFailed,
    UndoUnknown,
    /// It has no way back and was left as it is.
    Kept,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepState {
    pub name: String,
    pub kind: String,
    pub status: StepStatus,
    /// Tries of the direction that it is in.
    pub attempts: u32,
    pub started_at: Option<String>,
    pub ended_at: Option<String>,
    pub report: Option<StepReport>,
    pub undo_report: Option<StepReport>,
    /// Why it failed going up.
    pub error: Option<(Code, String)>,
    /// Why its undo failed.
    pub undo_error: Option<(Code, String)>,
    /// Who gave the go-ahead.
    pub approved_by: Option<String>,
}

/// A step as a migration announces it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepPlan {
    pub name: String,
    pub kind: String,
    /// Whether it can be taken back.
    pub reversible: bool,
}

/// What is known of one migration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MigrationState {
    pub id: String,
    /// From 1.
    pub application: u32,
    pub description: String,
    pub checksum: String,
    pub meaning: serde_json::Value,
    pub status: MigrationStatus,
    pub steps: Vec<StepState>,
    pub plan: Vec<StepPlan>,
    /// Why it failed, is taken back, or rests.
    pub cause: Option<(Code, String)>,
    /// Who began it, and who takes it back.
    pub by: String,
    pub undone_by: Option<String>,
    pub started_at: String,
    pub updated_at: String,
    pub ended_at: Option<String>,
    /// Times that it was begun or gone on with.
    pub attempts: u32,
    /// Microseconds that a single read took before the start (the 95th percentile), by place.
    pub baseline: BTreeMap<String, u64>,
}

/// One thing that happened to a migration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum MigrationEntry {
    Started {
        application: u32,
        description: String,
        checksum: String,
        meaning: serde_json::Value,
        steps: Vec<StepPlan>,
        by: String,
        tool: String,
    },
    /// Microseconds of a single read, by place.
    Baseline {
        latency: BTreeMap<String, u64>,
    },
    /// A killed or resting one goes on, in the direction that it was going.
    Resumed {
        by: String,
        tool: String,
    },
    Rested {
        rest: Rest,
        code: Code,
        message: String,
    },
    StepStarted {
        step: u32,
    },
    StepDone {
        step: u32,
        report: StepReport,
    },
    /// `unknown`: it may have happened.
    StepFailed {
        step: u32,
        code: Code,
        message: String,
        unknown: bool,
    },
    /// Somebody looked, and says that it did happen (`done`) or did not.
    StepSettled {
        step: u32,
        done: bool,
        by: String,
    },
    Approved {
        step: u32,
        by: String,
    },
    /// An abort rule tripped.
    Tripped {
        rule: String,
        value: String,
        threshold: String,
    },
    Applied,
    UndoStarted {
        by: String,
        /// Why, where it is not simply asked for.
        cause: Option<(Code, String)>,
    },
    StepUndoStarted {
        step: u32,
    },
    StepUndone {
        step: u32,
        report: StepReport,
    },
    StepUndoFailed {
        step: u32,
        code: Code,
        message: String,
        unknown: bool,
    },
    /// It has no way back.
    StepKept {
        step: u32,
    },
    /// The undo came to its end.
    Undone,
    Skipped {
        description: String,
        checksum: String,
        meaning: serde_json::Value,
        by: String,
    },
}

/// Where a collection's cutover stands, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseState {
    pub phase: Phase,
    /// The phase before.
    pub from: Phase,
    /// Grows with every change.
    pub epoch: u64,
    pub at: String,
    pub by: String,
}

impl MigrationState {
    /// Whether it is on its way, up or down: nothing else may begin before it has ended.
    #[must_use]
    pub fn open(&self) -> bool {
        use MigrationStatus as S;
        matches!(
            self.status,
            S::Running | S::Resting(_) | S::Undoing | S::UndoResting(_) | S::UndoFailed
        )
    }

    /// Whether it is at work, if its process lives.
    #[must_use]
    pub fn at_work(&self) -> bool {
        matches!(
            self.status,
            MigrationStatus::Running | MigrationStatus::Undoing
        )
    }

    /// The step that a resumed migration goes on with, going up.
    #[must_use]
    pub fn next_step(&self) -> Option<usize> {
        self.steps.iter().position(|s| s.status != StepStatus::Done)
    }

    /// Takes one more entry in. `None` as `state`: the migration was never begun.
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
            plan: steps,
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
        let plan = self.plan.get(*index as usize).cloned();
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
                if plan.is_some_and(|p| p.reversible) {
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
