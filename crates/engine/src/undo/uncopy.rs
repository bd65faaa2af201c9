//! Puts target documents back to what they were before a copy wrote them.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use whimbrel_model::ledger::RunId;
use whimbrel_model::{
    Body, Code, DocError, Document, Fingerprint, Guard, Key, Page, Revision, Write, WriteOutcome,
};

use crate::error::EngineError;
use crate::job::{ChunkContext, Failure, Handled, Work};
use crate::ledger::{Ledger, StoredPreimage};
use crate::options::Place;
use crate::pages::batches;
use crate::upgrade::ROUNDS;

use super::entries::place_of;
use super::log::{Recorded, log_subject, print_of};

pub(super) struct UncopyWork {
    ledger: Arc<Ledger>,
    target: Place,
    runs: HashSet<RunId>,
}

/// A target document, and everything that the runs recorded of it, newest first.
struct Touched {
    key: Key,
    records: Vec<(RunId, Recorded)>,
}

/// What is to become of a target document. A body of `None` is no document.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// It still is what the copy wrote.
    Back(Option<Bytes>),
    /// It is what it was before.
    Already,
    /// Somebody else wrote or deleted it since.
    Others,
}

/// A target document that goes back.
struct Move {
    at: usize,
    to: Option<Bytes>,
    guard: Guard,
}

impl UncopyWork {
    pub(super) fn new(ledger: Arc<Ledger>, target: Place, runs: &[RunId]) -> Self {
        Self {
            ledger,
            target,
            runs: runs.iter().cloned().collect(),
        }
    }

    /// The page's documents that are not in a newer block too: each document has its fate once.
    async fn touched(
        &self,
        place: &Place,
        block: u64,
        page: Page,
    ) -> Result<Vec<Touched>, EngineError> {
        let mut known = HashSet::new();
        let keys: Vec<Key> = page
            .documents
            .into_iter()
            .map(|d| d.key)
            .filter(|key| known.insert(key.clone()))
            .collect();
        let found = self.ledger.preimages(&log_subject(place), &keys).await?;
        let touched = keys.into_iter().zip(found).filter_map(|(key, hits)| {
            let theirs: Vec<StoredPreimage> = hits
                .into_iter()
                .filter(|hit| self.runs.contains(&hit.run))
                .collect();
            let newest = theirs.first().is_some_and(|hit| hit.block == block);
            newest.then(|| Touched {
                key,
                records: theirs
                    .into_iter()
                    .map(|hit| (hit.run, hit.entry.into()))
                    .collect(),
            })
        });
        Ok(touched.collect())
    }

    async fn look(
        &self,
        place: &Place,
        keys: &[Key],
    ) -> Result<Vec<Option<Document>>, EngineError> {
        let mut found = Vec::with_capacity(keys.len());
        for slice in keys.chunks(place.store.limits().batch_writes.max(1) as usize) {
            match place.store.get(&place.collection, slice).await {
                Ok(some) => found.extend(some),
                // Whoever dropped the collection deleted its documents.
                Err(error)
                    if error.code == Code::StoreMissing
                        && place.store.describe(&place.collection).await?.is_none() =>
                {
                    found.extend(slice.iter().map(|_| None));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(found)
    }

    /// Makes the moves; returns which lost their guard.
    async fn write(
        &self,
        place: &Place,
        touched: &[Touched],
        moves: Vec<Move>,
        handled: &mut Handled,
    ) -> Result<Vec<usize>, EngineError> {
        let mut lost = Vec::new();
        let size = |m: &Move| {
            let bytes = m.to.as_ref().map_or(0, Bytes::len);
            (1, bytes + touched[m.at].key.size())
        };
        for batch in batches(moves, place.store.as_ref(), size) {
            let writes: Vec<Write> = batch
                .iter()
                .map(|m| Write {
                    collection: place.collection.clone(),
                    key: touched[m.at].key.clone(),
                    to: m.to.clone().map(Body::Json),
                    guard: m.guard.clone(),
                })
                .collect();
            let outcomes = place.store.write(&writes).await?;
            for (one, outcome) in batch.into_iter().zip(outcomes) {
                match outcome {
                    WriteOutcome::Applied => {
                        handled.counts.written += 1;
                        let count = if one.to.is_some() {
                            &mut handled.counts.derived
                        } else {
                            &mut handled.counts.removed
                        };
                        *count += 1;
                    }
                    WriteOutcome::Lost => lost.push(one.at),
                    WriteOutcome::Refused(refusal) => {
                        let error = DocError::new(Code::DocRefused, refusal.message);
                        fail(
                            handled,
                            place,
                            &touched[one.at].key,
                            error.in_stage("write"),
                        );
                    }
                }
            }
        }
        Ok(lost)
    }
}

#[async_trait]
impl Work for UncopyWork {
    async fn handle(&self, page: Page, cx: &ChunkContext) -> Result<Handled, EngineError> {
        let mut handled = Handled::default();
        // A page is of one block, and a block of one collection.
        let Some((collection, block)) = page.documents.first().and_then(place_of) else {
            return Ok(handled);
        };
        let place = Place {
            collection,
            ..self.target.clone()
        };
        let touched = self.touched(&place, block, page).await?;
        handled.counts.enumerated = touched.len() as u64;
        let mut open: Vec<usize> = (0..touched.len()).collect();
        for round in 0..=ROUNDS {
            if open.is_empty() {
                return Ok(handled);
            }
            let keys: Vec<Key> = open.iter().map(|at| touched[*at].key.clone()).collect();
            let mut moves = Vec::new();
            for (at, found) in open.into_iter().zip(self.look(&place, &keys).await?) {
                let now = found.as_ref().map(|doc| print_of(&doc.body));
                match way_back(&touched[at].records, now) {
                    Way::Back(to) => moves.push(Move {
                        at,
                        to,
                        guard: guard_of(found.map(|doc| doc.revision)),
                    }),
                    // An earlier attempt may have brought it there.
                    Way::Already if cx.again && round == 0 => handled.counts.written += 1,
                    Way::Already => handled.counts.unchanged += 1,
                    Way::Others => handled.counts.skipped += 1,
                }
            }
            open = self.write(&place, &touched, moves, &mut handled).await?;
            handled.counts.conflicts += open.len() as u64;
        }
        for at in open {
            let message = format!(
                "the document changed under each of {ROUNDS} attempts; the app's writes were kept"
            );
            let error = DocError::new(Code::DocContended, message);
            fail(&mut handled, &place, &touched[at].key, error);
        }
        Ok(handled)
    }
}

fn guard_of(revision: Option<Revision>) -> Guard {
    revision.map_or(Guard::Absent, Guard::Unchanged)
}

/// A target document has no place among the waiting source documents: no key, so that no retry of the copy
/// takes it for one.
fn fail(handled: &mut Handled, place: &Place, key: &Key, error: DocError) {
    handled.counts.quarantined += 1;
    handled.failures.push(Failure {
        label: format!("target document {key} of {place}"),
        key: None,
        version: None,
        error,
    });
}

/// Follows the runs' writes backwards from what the document is now, while nothing else wrote in between.
fn way_back(records: &[(RunId, Recorded)], now: Option<Fingerprint>) -> Way {
    let mut state = now;
    let mut back: Option<Option<Bytes>> = None;
    let mut already = false;
    let mut struck: Vec<&RunId> = Vec::new();
    for (run, record) in records {
        let Recorded::Written { before, after } = record else {
            struck.push(run);
            continue;
        };
        if let Some(at) = struck.iter().position(|r| *r == run) {
            struck.swap_remove(at);
            continue;
        }
        let former = before.clone().map(Body::Json);
        let former = former.as_ref().map(print_of);
        already |= former == now;
        if *after == state {
            state = former;
            back = Some(before.clone());
        }
    }
    match back {
        Some(_) if state == now => Way::Already,
        Some(before) => Way::Back(before),
        None if already => Way::Already,
        None => Way::Others,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(name: &str) -> Bytes {
        Bytes::from(format!("{{\"is\":\"{name}\"}}"))
    }

    fn print(name: &str) -> Fingerprint {
        print_of(&Body::Json(body(name)))
    }

    /// `a>b`: a write by the run `r`; `-` is no document, `!` a struck record.
    fn check(records: &str, now: &str, expect: &Way) {
        let there = |name: &str| (name != "-").then(|| name.to_owned());
        let parsed: Vec<(RunId, Recorded)> = records
            .split_whitespace()
            .map(|text| {
                let record = match text.split_once('>') {
                    None => Recorded::Struck,
                    Some((before, after)) => Recorded::Written {
                        before: there(before).map(|n| body(&n)),
                        after: there(after).map(|n| print(&n)),
                    },
                };
                ("r".to_owned(), record)
            })
            .collect();
        let now = there(now).map(|n| print(&n));
        assert_eq!(way_back(&parsed, now), *expect, "{records} from {now:?}");
    }

    #[test]
    fn the_way_back_ends_where_somebody_else_wrote() {
        let to = |name: &str| Way::Back(Some(body(name)));
        for (records, now, expect) in [
            // newest first
            ("->a", "a", Way::Back(None)),
            ("->a", "-", Way::Already),
            ("->a", "x", Way::Others),
            ("a>b", "b", to("a")),
            ("a>b", "a", Way::Already),
            ("a>b", "-", Way::Others),
            ("a>-", "-", to("a")),
            ("a>-", "x", Way::Others),
            ("b>c a>b", "c", to("a")),
            ("b>c a>b", "b", to("a")),
            ("b>a a>b", "a", Way::Already),
            ("x>c a>b", "c", to("x")),
            ("x>c ->b", "b", Way::Back(None)),
            ("b>- ->b", "-", Way::Already),
            ("! ->a", "a", Way::Others),
            ("! ->a", "-", Way::Others),
            ("! ->b ->a", "a", Way::Back(None)),
            ("->a ! ->a", "a", Way::Back(None)),
        ] {
            check(records, now, &expect);
        }
    }
}
