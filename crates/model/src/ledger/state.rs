//! The ledger's state: a pure fold over its records, in which an illegal transition is an error.

use super::{
    ALTERED, Counts, Entry, JobSpec, MigrationEntry, MigrationState, MigrationStatus, NO_HASH,
    PhaseState, Record, RunId, StepRef, Verified,
};
use crate::check::Baselines;
use crate::migration::Phase;
use crate::store::ScanOrder;
use crate::{Code, Key, KeyRange};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Started, and neither ended nor known to have stopped: at work, or killed.
    Running,
    Interrupted,
    Completed,
    Aborted,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    pub range: KeyRange,
    pub through: Option<Key>,
    pub done: bool,
}

impl PartitionState {
    fn fresh(ranges: &[KeyRange]) -> Vec<Self> {
        let fresh = |range: &KeyRange| Self {
            range: range.clone(),
            ..Self::default()
        };
        ranges.iter().map(fresh).collect()
    }
}

/// One run as folded from its entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunState {
    pub run: RunId,
    pub job: JobSpec,
    pub now: String,
    pub tool: String,
    pub status: RunStatus,
    pub started_at: String,
    pub updated_at: String,
    pub attempts: u32,
    pub partitions: Vec<PartitionState>,
    /// What the partitions are ranges of.
    #[serde(default)]
    pub scan: ScanOrder,
    /// How often the run was cut anew. Then it may have handled any document before.
    #[serde(default)]
    pub recuts: u32,
    pub counts: Counts,
    /// Why it stopped, where it did.
    pub error: Option<(Code, String)>,
    pub resolved: u64,
    /// The migration's step that it works for.
    pub step: Option<StepRef>,
}

/// A verification, and when it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerificationState {
    pub at: String,
    #[serde(flatten)]
    pub found: Verified,
}

/// The ledger's state: a pure fold over its records.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub seq: u64,
    pub hash: String,
    pub runs: BTreeMap<RunId, RunState>,
    /// Runs in the order they started.
    pub order: Vec<RunId>,
    pub migrations: BTreeMap<String, MigrationState>,
    /// Applied migrations in the order of their application.
    pub applied: Vec<String>,
    /// By `store/collection`; `off` where there is none.
    pub phases: BTreeMap<String, PhaseState>,
    /// In the order they ended, without what they measured.
    pub verifications: Vec<VerificationState>,
    /// What was last measured, by check.
    pub baselines: Baselines,
}

impl Default for State {
    fn default() -> Self {
        Self {
            seq: 0,
            hash: NO_HASH.to_owned(),
            runs: BTreeMap::new(),
            order: Vec::new(),
            migrations: BTreeMap::new(),
            applied: Vec::new(),
            phases: BTreeMap::new(),
            verifications: Vec::new(),
            baselines: Baselines::new(),
        }
    }
}

/// Why a record does not follow from the state before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    #[error(
        "ledger record {seq}: the hash chain is broken ({what}); the ledger was altered or damaged"
    )]
    Chain { seq: u64, what: &'static str },
    #[error("ledger record {seq}: {what}")]
    Illegal { seq: u64, what: String },
    #[error(
        "ledger record {seq} was written by a newer program ({what}); nothing was written; use that program"
    )]
    Newer { seq: u64, what: String },
}

impl State {
    /// Takes one more record in.
    ///
    /// # Errors
    /// The chain does not hold, or the entry is no legal next step.
    pub fn apply(&mut self, record: &Record) -> Result<(), FoldError> {
        let seq = record.seq;
        let broken = |what| Err(FoldError::Chain { seq, what });
        if seq != self.seq + 1 {
            return broken("a record is missing");
        }
        if record.previous != self.hash {
            return broken("it does not follow the record before");
        }
        if record.hash != record.expected_hash() {
            return broken(ALTERED);
        }
        self.step(record)
            .map_err(|what| FoldError::Illegal { seq, what })?;
        self.seq = seq;
        self.hash.clone_from(&record.hash);
        Ok(())
    }

    // tidy: long because it has one short arm for each kind of entry.
    fn step(&mut self, record: &Record) -> Result<(), String> {
        match &record.entry {
            Entry::RunStarted {
                run,
                job,
                now,
                partitions,
                scan,
                tool,
                step,
            } => {
                if self.runs.contains_key(run) {
                    return Err(format!("run {run} starts twice"));
                }
                let state = RunState {
                    run: run.clone(),
                    job: job.clone(),
                    now: now.clone(),
                    tool: tool.clone(),
                    status: RunStatus::Running,
                    started_at: record.at.clone(),
                    updated_at: record.at.clone(),
                    attempts: 1,
                    partitions: PartitionState::fresh(partitions),
                    scan: *scan,
                    recuts: 0,
                    counts: Counts::default(),
                    error: None,
                    resolved: 0,
                    step: step.clone(),
                };
                self.runs.insert(run.clone(), state);
                self.order.push(run.clone());
            }
            Entry::RunResumed { run, .. } => {
                let state = self.unended(run, record)?;
                state.status = RunStatus::Running;
                state.attempts += 1;
                state.error = None;
            }
            Entry::RunRecut {
                run,
                partitions,
                scan,
                anew,
            } => {
                let state = self.running(run, record)?;
                if *anew {
                    state.counts = Counts::default();
                } else if let Some(open) = state.partitions.iter().position(|p| !p.done) {
                    return Err(format!("run {run} leaves partition {open} unfinished"));
                }
                state.partitions = PartitionState::fresh(partitions);
                state.scan = *scan;
                state.recuts += 1;
            }
            Entry::ChunkDone {
                run,
                partition,
                through,
                counts,
                last,
                ..
            } => {
                let state = self.running(run, record)?;
                let part = state
                    .partitions
                    .get_mut(*partition as usize)
                    .ok_or_else(|| format!("run {run} has no partition {partition}"))?;
                if part.done {
                    return Err(format!(
                        "partition {partition} of run {run} was already finished"
                    ));
                }
                if through.is_some() {
                    part.through.clone_from(through);
                }
                part.done = *last;
                state.counts.add(counts);
            }
            Entry::QuarantineResolved { run, count, .. } => {
                // Also behind its end: what is found to be gone then.
                let state = self.runs.get_mut(run);
                let state = state.ok_or_else(|| format!("run {run} was never started"))?;
                state.updated_at.clone_from(&record.at);
                state.resolved += count;
            }
            Entry::RunCompleted { run, counts } => {
                let state = self.running(run, record)?;
                if let Some(open) = state.partitions.iter().position(|p| !p.done) {
                    return Err(format!(
                        "run {run} completes with partition {open} unfinished"
                    ));
                }
                if *counts != state.counts || !counts.balanced() {
                    return Err(format!(
                        "run {run} completes with counts that do not add up"
                    ));
                }
                state.status = RunStatus::Completed;
            }
            Entry::RunInterrupted { run, code, message } => {
                let state = self.running(run, record)?;
                state.status = RunStatus::Interrupted;
                state.error = Some((*code, message.clone()));
            }
            Entry::RunAborted { run, code, message } => {
                let state = self.unended(run, record)?;
                state.status = RunStatus::Aborted;
                state.error = Some((*code, message.clone()));
            }
            Entry::LeaseBroken { .. } => {}
            Entry::Migration { migration, change } => {
                self.migrate(migration, &record.at, change)?
            }
            Entry::PhaseChanged {
                collection,
                from,
                to,
                epoch,
                by,
            } => {
                let known = self.phases.get(collection);
                let (now, last) = known.map_or((Phase::Off, 0), |p| (p.phase, p.epoch));
                if now != *from || *epoch != last + 1 {
                    return Err(format!(
                        "{collection} goes from {from} in epoch {epoch}, but it is {now} in epoch {last}"
                    ));
                }
                from.may_become(*to).map_err(|e| e.to_string())?;
                let state = PhaseState {
                    phase: *to,
                    from: *from,
                    epoch: *epoch,
                    at: record.at.clone(),
                    by: by.clone(),
                };
                self.phases.insert(collection.clone(), state);
            }
            Entry::Verified(found) => {
                let mut found = found.as_ref().clone();
                self.baselines.append(&mut found.baselines);
                let at = record.at.clone();
                self.verifications.push(VerificationState { at, found });
            }
        }
        Ok(())
    }

    fn migrate(&mut self, id: &str, at: &str, entry: &MigrationEntry) -> Result<(), String> {
        if matches!(entry, MigrationEntry::Started { .. })
            && let Some(open) = self.migrations.values().find(|m| m.open())
        {
            return Err(format!(
                "migration {id} begins while {} is {:?}",
                open.id, open.status
            ));
        }
        let next = MigrationState::step(self.migrations.get(id).cloned(), id, at, entry)?;
        self.applied.retain(|applied| applied != id);
        if next.status == MigrationStatus::Applied {
            self.applied.push(id.to_owned());
        }
        self.migrations.insert(id.to_owned(), next);
        Ok(())
    }

    fn unended(&mut self, run: &str, record: &Record) -> Result<&mut RunState, String> {
        let state = self
            .runs
            .get_mut(run)
            .ok_or_else(|| format!("run {run} was never started"))?;
        if matches!(state.status, RunStatus::Completed | RunStatus::Aborted) {
            return Err(format!("run {run} has already ended"));
        }
        state.updated_at.clone_from(&record.at);
        Ok(state)
    }

    fn running(&mut self, run: &str, record: &Record) -> Result<&mut RunState, String> {
        let state = self.unended(run, record)?;
        if state.status == RunStatus::Interrupted {
            return Err(format!("run {run} is not running"));
        }
        Ok(state)
    }

    /// The unended run of a subject, if there is one: it must be resumed or aborted before another.
    #[must_use]
    pub fn pending(&self, subject: &str) -> Option<&RunState> {
        self.runs.values().find(|r| {
            r.job.subject == subject
                && matches!(r.status, RunStatus::Running | RunStatus::Interrupted)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use crate::ledger::JobKind;

    fn record(state: &State, entry: Entry) -> Record {
        Record::following(
            (state.seq, &state.hash),
            Timestamp::from_micros(1),
            1,
            entry,
        )
    }

    fn started() -> Entry {
        Entry::RunStarted {
            run: "r".into(),
            job: JobSpec {
                kind: JobKind::Upgrade,
                title: "t".into(),
                subject: "s".into(),
                parameters: serde_json::json!({}),
            },
            now: Timestamp::from_micros(0).to_string(),
            partitions: vec![KeyRange::all()],
            scan: ScanOrder::Keys,
            tool: "0".into(),
            step: None,
        }
    }

    fn chunk(last: bool) -> Entry {
        let counts = Counts {
            enumerated: 2,
            written: 2,
            ..Counts::default()
        };
        Entry::ChunkDone {
            run: "r".into(),
            partition: 0,
            through: Some(Key::Int(3)),
            counts,
            last,
            note: None,
        }
    }

    #[test]
    fn entries_fold_and_illegal_steps_are_errors() {
        let mut state = State::default();
        let completed = |n| Entry::RunCompleted {
            run: "r".into(),
            counts: Counts {
                enumerated: n,
                written: n,
                ..Counts::default()
            },
        };
        for (entry, legal) in [
            (chunk(false), false),
            (started(), true),
            (started(), false),
            (chunk(false), true),
            (completed(2), false),
            (chunk(true), true),
            (chunk(true), false),
            (completed(3), false),
            (completed(4), true),
            (
                Entry::RunResumed {
                    run: "r".into(),
                    tool: String::new(),
                },
                false,
            ),
        ] {
            let before = state.clone();
            let result = state.apply(&record(&before, entry.clone()));
            assert_eq!(result.is_ok(), legal, "{entry:?}: {result:?}");
            if !legal {
                assert_eq!(state.seq, before.seq);
            }
        }
        assert_eq!(state.runs["r"].status, RunStatus::Completed);
    }

    #[test]
    fn a_run_cut_anew_counts_from_nothing_and_leaves_nothing_unfinished() {
        let mut state = State::default();
        let recut = |anew| Entry::RunRecut {
            run: "r".into(),
            partitions: vec![KeyRange::all(), KeyRange::all()],
            scan: ScanOrder::Positions,
            anew,
        };
        for (entry, legal, enumerated) in [
            (recut(true), false, 0),
            (started(), true, 0),
            (chunk(false), true, 2),
            (recut(false), false, 2),
            (recut(true), true, 0),
            (chunk(true), true, 2),
            (recut(false), false, 2),
        ] {
            let before = state.clone();
            let result = state.apply(&record(&before, entry.clone()));
            assert_eq!(result.is_ok(), legal, "{entry:?}: {result:?}");
            let counts = state.runs.get("r").map(|run| run.counts.enumerated);
            assert_eq!(counts.unwrap_or_default(), enumerated, "{entry:?}");
        }
        let run = &state.runs["r"];
        assert_eq!((run.recuts, run.scan), (1, ScanOrder::Positions));
        assert_eq!(run.partitions.len(), 2);
    }

    #[test]
    fn verifications_are_kept_and_their_baselines_are_the_newest() {
        use crate::check::{Baseline, LatencyBaseline};
        let mut state = State::default();
        for p50_us in [1, 2] {
            let latency = LatencyBaseline {
                p50_us,
                ..LatencyBaseline::default()
            };
            let baseline = Baseline {
                latency: Some(latency),
                ..Baseline::default()
            };
            let entry = Entry::Verified(Box::new(Verified {
                title: "verify".into(),
                baselines: [("fast".to_owned(), baseline)].into(),
                ..Verified::default()
            }));
            let record = record(&state, entry);
            let again: Entry = serde_json::from_str(&record.entry_text()).unwrap();
            assert_eq!(again, record.entry);
            state.apply(&record).unwrap();
        }
        assert_eq!(state.verifications.len(), 2);
        assert_eq!(state.baselines["fast"].latency.unwrap().p50_us, 2);
        assert!(
            state
                .verifications
                .iter()
                .all(|v| v.found.baselines.is_empty())
        );
    }

    #[test]
    fn an_altered_record_breaks_the_chain() {
        let mut state = State::default();
        let mut first = record(&state, started());
        first.at = Timestamp::from_micros(2).to_string();
        assert!(matches!(state.apply(&first), Err(FoldError::Chain { .. })));
    }
}
