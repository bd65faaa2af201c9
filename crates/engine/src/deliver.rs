//! Brings the target to what a copy's units want: compares, writes under guards, remembers what came
//! from where.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use whimbrel_model::ledger::Counts;
use whimbrel_model::{
    Body, Code, DocError, Document, Draft, Fingerprint, Guard, Key, KeyKind, KeyRange, Write,
    WriteOutcome,
};

use crate::derive::{Output, Unit};
use crate::error::EngineError;
use crate::job::{ChunkContext, Failure, Handled};
use crate::options::Place;
use crate::pages::{batches, size_of};
use crate::provenance::{PROVENANCE, Provenance, Spot, provenance_body};
use crate::seen::Seen;
use crate::undo::UndoLog;

/// How often a unit whose target changes meanwhile is decided anew.
const ROUNDS: u32 = 8;

pub(crate) struct Deliverer {
    pub target: Place,
    pub skip_existing: bool,
    /// Fields that do not count when a target document is compared.
    pub ignored: Vec<String>,
    /// By target collection: whether it was empty when the run first looked. Only then may writes be tried
    /// without looking first.
    fresh: Mutex<HashMap<String, bool>>,
    /// Where what is replaced is kept for the way back, if it is.
    log: Option<UndoLog>,
}

/// What became of one unit.
enum Fate {
    Settled {
        wrote: u64,
        removed: u64,
        skipped: bool,
    },
    Failed(DocError),
    /// Somebody else wrote; look again.
    Again,
}

impl Deliverer {
    pub(crate) fn new(
        target: Place,
        skip_existing: bool,
        ignored: Vec<String>,
        log: Option<UndoLog>,
    ) -> Self {
        Self {
            target,
            skip_existing,
            ignored,
            fresh: Mutex::new(HashMap::new()),
            log,
        }
    }

    /// Delivers units until each has its fate.
    pub(crate) async fn deliver(
        self: &Arc<Self>,
        units: Vec<Unit>,
        cx: &ChunkContext,
        handled: &mut Handled,
    ) -> Result<(), EngineError> {
        let again = cx.again;
        let mut open = refuse_collisions(units, &self.target.collection, handled);
        self.ensure(&open).await?;
        for round in 0..=ROUNDS {
            if open.is_empty() {
                return Ok(());
            }
            let look = again || round > 0 || !self.all_fresh(&open);
            let units = Arc::new(open);
            let fates = self.round(&units, look, cx).await?;
            let mut lost = Vec::new();
            for (unit, fate) in Arc::unwrap_or_clone(units).into_iter().zip(fates) {
                match fate {
                    Fate::Again => lost.push(unit),
                    Fate::Failed(error) => fail(handled, &unit, &error),
                    Fate::Settled {
                        wrote,
                        removed,
                        skipped,
                    } => {
                        settle(&mut handled.counts, &unit, wrote, removed, skipped, again);
                        if cx.waiting {
                            let labels = unit.sources.iter().map(ToString::to_string);
                            handled.settled.extend(labels);
                        }
                    }
                }
            }
            handled.counts.conflicts += lost.len() as u64;
            open = lost;
        }
        for unit in open {
            let message = format!("the target document changed under each of {ROUNDS} attempts");
            fail(handled, &unit, &DocError::new(Code::DocContended, message));
        }
        Ok(())
    }

    /// Creates the target collections that are missing, and notes which are empty.
    async fn ensure(&self, units: &[Unit]) -> Result<(), EngineError> {
        let mut wanted: BTreeMap<&str, KeyKind> = BTreeMap::new();
        for unit in units {
            for output in &unit.outputs {
                let collection = self.collection_of(output);
                if !wanted.contains_key(collection) {
                    wanted.insert(collection, output.key.kind());
                }
            }
            if unit.provenance.is_some() {
                wanted.insert(PROVENANCE, KeyKind::Text);
            }
        }
        for (collection, kind) in wanted {
            let known = self.fresh.lock().is_ok_and(|f| f.contains_key(collection));
            if known {
                continue;
            }
            self.target.store.ensure(collection, &kind).await?;
            let page = self
                .target
                .store
                .scan(collection, &KeyRange::all(), 1, 1)
                .await?;
            if let Ok(mut fresh) = self.fresh.lock() {
                fresh
                    .entry(collection.to_owned())
                    .or_insert(page.last.is_none());
            }
        }
        Ok(())
    }

    fn all_fresh(&self, units: &[Unit]) -> bool {
        let Ok(fresh) = self.fresh.lock() else {
            return false;
        };
        let is = |collection: &str| fresh.get(collection).copied().unwrap_or(false);
        units.iter().all(|u| {
            (u.provenance.is_none() || is(PROVENANCE))
                && u.outputs.iter().all(|o| is(self.collection_of(o)))
        })
    }

    pub(crate) fn collection_of<'a>(&'a self, output: &'a Output) -> &'a str {
        output
            .collection
            .as_deref()
            .unwrap_or(&self.target.collection)
    }

    pub(crate) fn spot_of(&self, output: &Output) -> Spot {
        (self.collection_of(output).to_owned(), output.key.clone())
    }

    async fn round(
        self: &Arc<Self>,
        units: &Arc<Vec<Unit>>,
        look: bool,
        cx: &ChunkContext,
    ) -> Result<Vec<Fate>, EngineError> {
        let seen = Arc::new(if look {
            self.look(units).await?
        } else {
            Seen::default()
        });
        let (me, units, there) = (Arc::clone(self), Arc::clone(units), Arc::clone(&seen));
        // Comparing is computing: it must not hold up the runtime.
        let plans: Vec<Result<Plan, DocError>> =
            tokio::task::spawn_blocking(move || units.iter().map(|u| me.plan(u, &there)).collect())
                .await
                .map_err(|e| EngineError::Counts(format!("a comparison ended abnormally ({e})")))?;
        self.write(plans, &seen, cx).await
    }

    fn plan(&self, unit: &Unit, seen: &Seen) -> Result<Plan, DocError> {
        let former = unit
            .provenance
            .as_ref()
            .and_then(|name| seen.provenance.get(name));
        let mut plan = Plan::default();
        let mut exist = 0;
        for output in &unit.outputs {
            let spot = self.spot_of(output);
            let guard = match seen.documents.get(&spot) {
                None => Guard::Absent,
                Some(found) => {
                    exist += 1;
                    if self.skip_existing
                        || self.same(found, seen.held.get(&spot).unwrap_or(&output.body))?
                    {
                        continue;
                    }
                    let ours = unit.provenance.is_none()
                        || former.is_some_and(|f| f.spots.contains(&spot));
                    if !ours {
                        return Err(DocError::new(
                            Code::DocKey,
                            format!(
                                "target document {} of {} exists, is different and does not come from this source",
                                spot.1, spot.0
                            ),
                        ));
                    }
                    Guard::Unchanged(found.revision.clone())
                }
            };
            plan.writes.push(Write {
                collection: spot.0,
                key: spot.1,
                to: Some(output.body.clone()),
                guard,
            });
        }
        plan.outputs = plan.writes.len();
        plan.skipped = self.skip_existing && exist > 0 && plan.writes.is_empty();
        if let Some(name) = &unit.provenance {
            self.plan_provenance(unit, name, former, seen, &mut plan);
        }
        Ok(plan)
    }

    /// Removes what the unit no longer yields, and remembers what it yields now.
    fn plan_provenance(
        &self,
        unit: &Unit,
        name: &str,
        former: Option<&Provenance>,
        seen: &Seen,
        plan: &mut Plan,
    ) {
        let now: Vec<Spot> = unit.outputs.iter().map(|o| self.spot_of(o)).collect();
        let (then, guard) = match former {
            Some(f) => (
                f.spots.as_slice(),
                Guard::Unchanged(f.document.revision.clone()),
            ),
            None => (&[][..], Guard::Absent),
        };
        for spot in then.iter().filter(|s| !now.contains(s)) {
            if let Some(found) = seen.documents.get(spot) {
                plan.writes.push(Write {
                    collection: spot.0.clone(),
                    key: spot.1.clone(),
                    to: None,
                    guard: Guard::Unchanged(found.revision.clone()),
                });
            }
        }
        if then == now.as_slice() {
            return;
        }
        let to = (!now.is_empty()).then(|| provenance_body(&now));
        plan.writes.push(Write {
            collection: PROVENANCE.to_owned(),
            key: Key::text(name),
            to,
            guard,
        });
    }

    fn same(&self, found: &Document, wanted: &Body) -> Result<bool, DocError> {
        Ok(found.body.is_spelled_like(wanted) || self.print(&found.body)? == self.print(wanted)?)
    }

    /// The fingerprint of what counts.
    fn print(&self, body: &Body) -> Result<Fingerprint, DocError> {
        if self.ignored.is_empty() {
            return Ok(body.fingerprint()?);
        }
        let mut draft = Draft::from_body(body.clone())?;
        for field in &self.ignored {
            draft.remove(field);
        }
        Ok(draft.fingerprint()?)
    }

    async fn write(
        &self,
        plans: Vec<Result<Plan, DocError>>,
        seen: &Seen,
        cx: &ChunkContext,
    ) -> Result<Vec<Fate>, EngineError> {
        let mut fates: Vec<Option<Fate>> = Vec::new();
        fates.resize_with(plans.len(), || None);
        let mut work = Vec::new();
        for (i, plan) in plans.into_iter().enumerate() {
            match plan {
                Err(error) => fates[i] = Some(Fate::Failed(error)),
                Ok(plan) if plan.writes.is_empty() => {
                    fates[i] = Some(Fate::Settled {
                        wrote: 0,
                        removed: 0,
                        skipped: plan.skipped,
                    });
                }
                Ok(plan) => work.push((i, plan)),
            }
        }
        let size = |(_, plan): &(usize, Plan)| {
            let bytes = plan.writes.iter().map(|w| size_of(w).1).sum();
            (u32::try_from(plan.writes.len()).unwrap_or(u32::MAX), bytes)
        };
        for mut batch in batches(work, self.target.store.as_ref(), size) {
            let mut writes = Vec::new();
            for (_, plan) in &mut batch {
                plan.count = plan.writes.len();
                writes.append(&mut plan.writes);
            }
            if let Some(log) = &self.log {
                let before = writes.iter().map(|w| seen.replaced_by(w)).collect();
                log.record(cx, &writes, before).await?;
            }
            let outcomes = self.write_in_parts(&writes).await?;
            if let Some(log) = &self.log {
                log.strike(cx, &writes, &outcomes).await?;
            }
            let mut at = 0;
            for (i, plan) in batch {
                let end = at + plan.count;
                let fate = self
                    .judge(&plan, &writes[at..end], &outcomes[at..end])
                    .await?;
                fates[i] = Some(fate);
                at = end;
            }
        }
        Ok(fates
            .into_iter()
            .map(|f| f.unwrap_or(Fate::Again))
            .collect())
    }

    /// A single unit may be larger than what the store takes at once.
    async fn write_in_parts(&self, writes: &[Write]) -> Result<Vec<WriteOutcome>, EngineError> {
        let store = self.target.store.as_ref();
        let mut outcomes = Vec::with_capacity(writes.len());
        for part in batches(writes.iter().collect(), store, |write| size_of(write)) {
            let from = outcomes.len();
            let part = &writes[from..from + part.len()];
            outcomes.extend(store.write(part).await?);
        }
        Ok(outcomes)
    }

    async fn judge(
        &self,
        plan: &Plan,
        writes: &[Write],
        outcomes: &[WriteOutcome],
    ) -> Result<Fate, EngineError> {
        let refused = writes.iter().zip(outcomes).find_map(|(w, o)| match o {
            WriteOutcome::Refused(refusal) => Some((w, refusal)),
            _ => None,
        });
        if let Some((write, refusal)) = refused {
            self.take_back(writes, outcomes).await?;
            let message = format!("{} (target document {})", refusal.message, write.key);
            return Ok(Fate::Failed(
                DocError::new(Code::DocRefused, message).in_stage("write"),
            ));
        }
        if outcomes.contains(&WriteOutcome::Lost) {
            return Ok(Fate::Again);
        }
        let removed = writes
            .iter()
            .filter(|w| w.to.is_none() && w.collection != PROVENANCE)
            .count();
        Ok(Fate::Settled {
            wrote: plan.outputs as u64,
            removed: removed as u64,
            skipped: plan.skipped,
        })
    }

    /// A unit of which one document was refused leaves none of its new documents behind.
    async fn take_back(
        &self,
        writes: &[Write],
        outcomes: &[WriteOutcome],
    ) -> Result<(), EngineError> {
        let back: Vec<Write> = writes
            .iter()
            .zip(outcomes)
            .filter(|(w, o)| **o == WriteOutcome::Applied && w.guard == Guard::Absent)
            .map(|(w, _)| Write {
                to: None,
                guard: Guard::Any,
                ..w.clone()
            })
            .collect();
        if !back.is_empty() {
            self.write_in_parts(&back).await?;
        }
        Ok(())
    }
}

/// The writes of one unit.
#[derive(Default)]
struct Plan {
    writes: Vec<Write>,
    /// How many writes there are, once they have been handed on.
    count: usize,
    /// How many of them are target documents.
    outputs: usize,
    skipped: bool,
}

/// Two sources of one chunk that want the same target document: the second one fails.
fn refuse_collisions(units: Vec<Unit>, target: &str, handled: &mut Handled) -> Vec<Unit> {
    if units.iter().all(|u| u.provenance.is_none()) {
        return units;
    }
    let mut taken: HashSet<Spot> = HashSet::new();
    let mut kept = Vec::with_capacity(units.len());
    for unit in units {
        let spots: Vec<Spot> = unit
            .outputs
            .iter()
            .map(|o| {
                (
                    o.collection.clone().unwrap_or_else(|| target.to_owned()),
                    o.key.clone(),
                )
            })
            .collect();
        if let Some((collection, key)) = spots.iter().find(|s| taken.contains(s)) {
            let message = format!(
                "another source document already yields target document {key} of {collection}"
            );
            fail(handled, &unit, &DocError::new(Code::DocKey, message));
        } else {
            taken.extend(spots);
            kept.push(unit);
        }
    }
    kept
}

fn fail(handled: &mut Handled, unit: &Unit, error: &DocError) {
    for key in &unit.sources {
        handled.counts.quarantined += 1;
        handled.failures.push(Failure::of(key, None, error.clone()));
    }
}

fn settle(counts: &mut Counts, unit: &Unit, wrote: u64, removed: u64, skipped: bool, again: bool) {
    let sources = unit.sources.len() as u64;
    if skipped || (unit.outputs.is_empty() && removed == 0) {
        counts.skipped += sources;
    } else if wrote == 0 && removed == 0 && !again {
        counts.unchanged += sources;
    } else {
        counts.written += sources;
    }
    counts.derived += wrote;
    counts.removed += removed;
}
