//! One chunk of a comparison: what both ends have in a stretch of keys, and which of it differs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use whimbrel_model::finding::{Difference, MOST_DIFFERENCES, Mismatch};
use whimbrel_model::rule::OnError;
use whimbrel_model::{Code, Key, KeyRange, Page, Reject, StoreError};

use super::digests::{Digests, Known};
use super::ends::{Case, Ends, Look, Verdict, Wanted};
use super::found::{Found, Revisions, Sight, Sights};
use super::notes;
use super::walk::{Pair, SideBySide, Stretch};
use crate::derive::{Derived, Unit};
use crate::error::EngineError;
use crate::job::{ChunkContext, Failure, Handled, Work};
use crate::pages::Pages;
use crate::provenance::{PROVENANCE, Spot, read_provenance};

/// Of more differences in one chunk, none is likely to come from somebody who is writing just now.
const LOOK_AT_ONCE: usize = 200;

/// A disk is waited for this seldom: after a crash as much is read again.
const PUT_DOWN_EVERY: Duration = Duration::from_millis(500);

/// Documents that are read by their keys at once.
const AT_ONCE: usize = 32;

/// How the two ends are gone through.
pub(super) enum Way {
    /// Both in the order of their keys, side by side.
    Ordered(SideBySide, Option<Digests>),
    /// The same with notes of what each end should have and has, which lie in a scratch store.
    Noted(SideBySide),
    /// From the source alone, by looking its documents up in the target.
    LookedUp,
}

pub(super) struct CompareWork {
    pub ends: Arc<Ends>,
    pub way: Way,
    /// Open differences of this attempt.
    pub sights: Mutex<Sights>,
    /// How many differences were put down so far.
    pub listed: AtomicUsize,
}

/// A difference that may have been a moment's.
pub(super) struct Candidate {
    pub difference: Difference,
    pub revisions: Revisions,
}

/// What a first pass over pairs came to.
#[derive(Default)]
struct Sorted {
    found: Found,
    /// Pairs whose bytes are not the same.
    cases: Vec<Case>,
    /// Source documents that were not to be looked at.
    passed_over: u64,
}

#[async_trait]
impl Work for CompareWork {
    /// Looks source documents up in the target.
    async fn handle(&self, page: Page, _cx: &ChunkContext) -> Result<Handled, EngineError> {
        let derived = notes::derive(&self.ends, page).await?;
        self.look_up(derived.into_iter().map(|(_, derived)| derived).collect())
            .await
    }

    async fn take(
        &self,
        pages: &dyn Pages,
        range: &KeyRange,
        limit: u32,
        cx: &ChunkContext,
    ) -> Result<(Handled, Option<Key>), EngineError> {
        match &self.way {
            Way::LookedUp => {
                let page = pages.next(range, limit).await?;
                let last = page.last.clone();
                if last.is_none() && page.rejects.is_empty() {
                    return Ok((Handled::default(), None));
                }
                let handled = self.handle(page, cx).await?;
                let through = handled.through.clone().or(last);
                Ok((handled, through))
            }
            Way::Noted(both) => {
                let stretch = both.next(range, limit).await?;
                let through = stretch.through.clone();
                Ok((self.compare_notes(stretch).await?, through))
            }
            Way::Ordered(both, digests) => {
                let known = digests.as_ref().map_or(Known::Nothing, |d| d.of(range));
                match known {
                    Known::Same(documents) => Ok((proved(documents).handled(0)?, None)),
                    Known::But(same, keys) => {
                        let handled = self.compare_keys(both, same, &keys).await?;
                        Ok((handled, None))
                    }
                    Known::Nothing => {
                        let stretch = both.next(range, limit).await?;
                        let through = stretch.through.clone();
                        Ok((self.compare_pairs(stretch).await?, through))
                    }
                }
            }
        }
    }

    fn may_wait(&self) -> Duration {
        PUT_DOWN_EVERY
    }

    async fn prepare(&self, ranges: &[KeyRange]) -> Result<(), EngineError> {
        if let Way::Ordered(both, Some(digests)) = &self.way {
            digests.learn(both, ranges).await?;
        }
        Ok(())
    }
}

fn proved(documents: u64) -> Found {
    Found {
        source_documents: documents,
        target_documents: documents,
        by_digest: documents,
        equal: documents,
        ..Found::default()
    }
}

impl CompareWork {
    async fn compare_pairs(&self, stretch: Stretch) -> Result<Handled, EngineError> {
        let Sorted {
            mut found,
            cases,
            passed_over,
        } = self.sorted(stretch.pairs).await?;
        let mut candidates = self.judged(cases, &mut found).await?;
        found.source_documents += stretch.source_rejects.len() as u64;
        found.target_documents += stretch.target_rejects.len() as u64;
        let collection = &self.ends.target.collection;
        for reject in stretch.source_rejects.iter().chain(&stretch.target_rejects) {
            let difference = unreadable(collection, reject);
            if reject.key.is_none() {
                // It cannot be asked for again.
                found.count(difference.what);
                found.certain.push(difference);
                continue;
            }
            // The other end's document, or its own unreadable row, is no second difference.
            candidates.retain(|c| c.difference.key != difference.key);
            candidates.push(Candidate {
                difference,
                revisions: Revisions::default(),
            });
        }
        self.put_down(candidates, found, passed_over).await
    }

    async fn sorted(&self, pairs: Vec<Pair>) -> Result<Sorted, EngineError> {
        let ends = Arc::clone(&self.ends);
        tokio::task::spawn_blocking(move || sort(&ends, pairs))
            .await
            .map_err(|e| EngineError::Counts(format!("a transform ended abnormally ({e})")))
    }

    /// Reads only these keys; as many other documents are proved the same.
    async fn compare_keys(
        &self,
        both: &SideBySide,
        same: u64,
        keys: &[Key],
    ) -> Result<Handled, EngineError> {
        let mut found = proved(same);
        let mut candidates = Vec::new();
        for some in keys.chunks(AT_ONCE) {
            let sorted = self.sorted(both.pairs(some).await?).await?;
            found.add(sorted.found);
            candidates.extend(self.judged(sorted.cases, &mut found).await?);
        }
        self.put_down(candidates, found, 0).await
    }

    async fn judged(
        &self,
        cases: Vec<Case>,
        found: &mut Found,
    ) -> Result<Vec<Candidate>, EngineError> {
        let mut candidates = Vec::new();
        for (verdict, revisions) in self.ends.judge(cases).await? {
            match verdict {
                Verdict::Same => found.equal += 1,
                Verdict::Differs(difference) => candidates.push(Candidate {
                    difference,
                    revisions,
                }),
            }
        }
        Ok(candidates)
    }

    /// Takes a second look at what differs, and keeps the rest for a third one at the end.
    pub(super) async fn put_down(
        &self,
        mut candidates: Vec<Candidate>,
        mut found: Found,
        passed_over: u64,
    ) -> Result<Handled, EngineError> {
        let unsure = matches!(self.way, Way::Noted(_)) || candidates.len() <= LOOK_AT_ONCE;
        if unsure && !candidates.is_empty() {
            candidates = self.second_look(candidates, &mut found).await?;
        }
        let seen = Instant::now();
        let before = self.listed.fetch_add(candidates.len(), Ordering::Relaxed);
        let room = MOST_DIFFERENCES.saturating_sub(before);
        let mut sights = Sights::new();
        for (
            i,
            Candidate {
                difference,
                revisions,
            },
        ) in candidates.into_iter().enumerate()
        {
            if i >= room {
                // So many are no coincidence; they are counted and not listed.
                found.count(difference.what);
                continue;
            }
            let spot = (difference.collection.clone(), difference.key.clone());
            sights.insert(
                spot,
                Sight {
                    revisions,
                    since: seen,
                },
            );
            found.open.push(difference);
        }
        if let Ok(mut all) = self.sights.lock() {
            all.extend(sights);
        }
        found.handled(passed_over)
    }

    async fn second_look(
        &self,
        candidates: Vec<Candidate>,
        found: &mut Found,
    ) -> Result<Vec<Candidate>, EngineError> {
        let differences: Vec<Difference> =
            candidates.iter().map(|c| c.difference.clone()).collect();
        let looks = self.ends.look(&differences).await?;
        let mut open = Vec::with_capacity(candidates.len());
        for (mut candidate, look) in candidates.into_iter().zip(looks) {
            match look {
                Look::Same => found.settled += 1,
                Look::Moving => open.push(candidate),
                Look::Differs(difference, revisions) => {
                    candidate.difference = keeping_what_is_known(difference, candidate.difference);
                    candidate.revisions = revisions;
                    open.push(candidate);
                }
            }
        }
        Ok(open)
    }

    async fn compare_notes(&self, stretch: Stretch) -> Result<Handled, EngineError> {
        let mut found = Found::default();
        let mut candidates = Vec::new();
        for pair in stretch.pairs {
            let target = pair.target.map(|d| notes::read(&d)).transpose()?;
            let source = pair.source.map(|d| notes::read(&d)).transpose()?;
            found.target_documents += u64::from(target.is_some());
            let recent = |note: &Option<notes::Note>| note.as_ref().is_some_and(|n| n.recent);
            if self.ends.since.is_some() && !recent(&source) && !recent(&target) {
                continue;
            }
            match notes::judge(source, target) {
                notes::Judged::Same => found.equal += 1,
                notes::Judged::OfOthers => {}
                notes::Judged::Certain(difference) => {
                    found.count(difference.what);
                    found.certain.push(difference);
                }
                notes::Judged::Differs(difference) => candidates.push(Candidate {
                    difference,
                    revisions: Revisions::default(),
                }),
            }
        }
        self.put_down(candidates, found, 0).await
    }

    async fn look_up(&self, derived: Vec<Derived>) -> Result<Handled, EngineError> {
        let mut found = Found::default();
        let mut candidates = Vec::new();
        let mut units = Vec::new();
        for one in derived {
            match one {
                Derived::Filtered(keys) => {
                    found.source_documents += keys.len() as u64;
                    found.skipped += keys.len() as u64;
                }
                Derived::Failed(failures) => {
                    for failure in failures {
                        found.source_documents += 1;
                        if self.ends.deriver.rule.on_error == OnError::Skip {
                            found.skipped += 1;
                        } else {
                            candidates.push(Candidate {
                                difference: failed(&self.ends.target.collection, &failure),
                                revisions: Revisions::default(),
                            });
                        }
                    }
                }
                Derived::Unit(unit) => {
                    found.source_documents += unit.sources.len() as u64;
                    units.push(unit);
                }
            }
        }
        let cases = self.cases_of(units).await?;
        found.target_documents += cases.iter().filter(|c| c.found.is_some()).count() as u64;
        candidates.extend(self.judged(cases, &mut found).await?);
        self.put_down(candidates, found, 0).await
    }

    /// What each unit wants, and what the record of its former outputs says beyond.
    async fn cases_of(&self, units: Vec<Unit>) -> Result<Vec<Case>, EngineError> {
        let ends = &self.ends;
        let mut cases: Vec<Case> = Vec::new();
        let former = self.former(&units).await?;
        for (unit, former) in units.into_iter().zip(former) {
            let begin = cases.len();
            for output in unit.outputs {
                let collection = output
                    .collection
                    .unwrap_or_else(|| ends.target.collection.clone());
                if ends.takes(&output.key) {
                    cases.push(case(
                        (collection, output.key),
                        &unit.sources,
                        Wanted::Body(output.body),
                    ));
                }
            }
            for spot in former {
                let known = cases[begin..].iter().any(|c| c.spot == spot);
                if !known && ends.takes(&spot.1) {
                    cases.push(case(spot, &unit.sources, Wanted::Nothing));
                }
            }
        }
        let spots: Vec<(&str, &Key)> = cases
            .iter()
            .map(|c| (c.spot.0.as_str(), &c.spot.1))
            .collect();
        let found = ends.find(&spots).await?;
        for (case, found) in cases.iter_mut().zip(found) {
            case.revisions.target = found.as_ref().map(|d| d.revision.clone());
            case.found = found;
        }
        cases.retain(|c| c.found.is_some() || !matches!(c.wanted, Wanted::Nothing));
        Ok(cases)
    }

    async fn former(&self, units: &[Unit]) -> Result<Vec<Vec<Spot>>, EngineError> {
        let mut former = vec![Vec::new(); units.len()];
        let named = units.iter().enumerate();
        let named = named.filter_map(|(i, u)| Some((i, Key::text(u.provenance.clone()?))));
        let (places, names): (Vec<usize>, Vec<Key>) = named.unzip();
        if names.is_empty() {
            return Ok(former);
        }
        let spots: Vec<(&str, &Key)> = names.iter().map(|name| (PROVENANCE, name)).collect();
        for (place, record) in places.into_iter().zip(self.ends.find(&spots).await?) {
            if let Some(record) = record {
                former[place] = read_provenance(&record.body).unwrap_or_default();
            }
        }
        Ok(former)
    }
}

fn case(spot: Spot, sources: &[Key], wanted: Wanted) -> Case {
    Case {
        spot,
        sources: sources.to_vec(),
        wanted,
        found: None,
        revisions: Revisions::default(),
    }
}

/// A scan says why a row is unreadable; a look at its key alone does not.
pub(super) fn keeping_what_is_known(new: Difference, old: Difference) -> Difference {
    if new.what == Mismatch::Unreadable && old.what == Mismatch::Unreadable {
        old
    } else {
        new
    }
}

pub(super) fn unreadable(collection: &str, reject: &Reject) -> Difference {
    let key = reject.key.clone();
    Difference {
        what: Mismatch::Unreadable,
        collection: collection.to_owned(),
        sources: key.iter().cloned().collect(),
        key: key.unwrap_or_else(|| Key::text(reject.label.clone())),
        paths: Vec::new(),
        error: Some((Code::DocUnreadable, reject.reason.clone())),
    }
}

pub(super) fn failed(collection: &str, failure: &Failure) -> Difference {
    let key = failure.key.clone();
    Difference {
        what: Mismatch::Unreadable,
        collection: collection.to_owned(),
        sources: key.iter().cloned().collect(),
        key: key.unwrap_or_else(|| Key::text(failure.label.clone())),
        paths: failure.error.path.iter().cloned().collect(),
        error: Some((failure.error.code, failure.error.message.clone())),
    }
}

/// Derives what each pair's source yields, and sets aside what is not the same by its bytes.
fn sort(ends: &Ends, pairs: Vec<Pair>) -> Sorted {
    let mut sorted = Sorted::default();
    for Pair { source, target } in pairs {
        let Some(key) = source.as_ref().or(target.as_ref()).map(|d| d.key.clone()) else {
            continue;
        };
        let recent = || source.iter().chain(&target).any(|d| ends.is_recent(d));
        if !ends.takes(&key) || !recent() {
            sorted.passed_over += u64::from(source.is_some());
            continue;
        }
        sorted.found.source_documents += u64::from(source.is_some());
        sorted.found.target_documents += u64::from(target.is_some());
        let revisions = Revisions {
            sources: vec![source.as_ref().map(|d| d.revision.clone())],
            target: target.as_ref().map(|d| d.revision.clone()),
        };
        let sources: Vec<Key> = source.iter().map(|d| d.key.clone()).collect();
        let wanted = match source {
            None => Wanted::Nothing,
            Some(document) => ends.wanted(ends.deriver.one(document, ends.now), None),
        };
        match (&wanted, &target) {
            (Wanted::Nothing, None) => {
                sorted.found.skipped += 1;
                continue;
            }
            (Wanted::Nothing, Some(_)) if !sources.is_empty() => sorted.found.skipped += 1,
            // What is the same in other bytes need not be kept, nor asked how the target would hold it.
            (Wanted::Body(wanted), Some(target))
                if ends.judge.same(wanted, &target.body).unwrap_or(false) =>
            {
                sorted.found.equal += 1;
                continue;
            }
            _ => {}
        }
        sorted.cases.push(Case {
            spot: (ends.target.collection.clone(), key),
            sources,
            wanted,
            found: target,
            revisions,
        });
    }
    sorted
}

/// The pages of a comparison that reads both ends at once: only where to cut.
pub(super) struct Cuts {
    pub both: SideBySide,
    pub parts: u32,
}

#[async_trait]
impl Pages for Cuts {
    async fn partitions(&self, parts: u32) -> Result<Vec<KeyRange>, StoreError> {
        self.both.cut(&KeyRange::all(), parts.max(self.parts)).await
    }

    async fn next(&self, range: &KeyRange, limit: u32) -> Result<Page, StoreError> {
        self.both
            .source
            .store
            .scan(
                &self.both.source.collection,
                range,
                limit,
                crate::chunk::CHUNK_BYTES,
            )
            .await
    }
}
