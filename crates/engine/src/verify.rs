//! Whether a target holds what its source yields, document by document, and bringing it there.
//!
//! Where the rule leaves every document under its own key, both ends are read in the order of their keys
//! ([`walk`]), or not read at all where the stores' digests of a range agree ([`digests`]). Else what each end
//! has is noted in a scratch store, and the notes are gone through in the same way ([`notes`]). What differs
//! is looked at again until it has stayed for a while ([`settle`]).

mod digests;
mod ends;
mod found;
mod judge;
mod notes;
mod repair;
mod sample;
mod settle;
mod unrecorded;
mod walk;
mod work;

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::json;
use whimbrel_model::finding::Comparison;
use whimbrel_model::ledger::{JobKind, JobSpec, RunStatus};
use whimbrel_model::rule::FieldPath;
use whimbrel_model::{Code, DocError, KeyKind, KeyRange, StoreError, Timestamp};

pub use repair::RepairReport;

use self::digests::{Digests, are_of_one_kind};
use self::ends::Ends;
use self::judge::Judge;
use self::notes::{Noted, Notes};
use self::sample::Sampling;
use self::walk::SideBySide;
use self::work::{CompareWork, Cuts, Way};
use crate::chunk::CHUNK_BYTES;
use crate::copy::CopyJob;
use crate::derive::Deriver;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::job::{Failure, Job};
use crate::options::{JobOptions, Place, Threshold};
use crate::pages::{Pages, WholeCollection, width};
use crate::patience::retry_store;
use crate::provenance::{PROVENANCE, read_provenance};

/// Documents of a partition: small enough that a digest of it takes a moment.
const PARTITION: u64 = 16_000;
const MOST_PARTITIONS: u64 = 1024;

/// Compare a target with what a copy would make of the source.
///
/// [`CopyJob::scratch`] is needed where the rule may change keys, or where the two stores walk their keys in
/// different orders. Without it such a comparison only looks the source's documents up, so that it finds no
/// document that is only in the target.
#[derive(Clone, Debug)]
pub struct CompareJob {
    pub copy: CopyJob,
    /// Fields that do not count, besides the rule's `migrated_at`.
    pub ignore: Vec<FieldPath>,
    /// Numbers that may be this far from each other, and instants (in seconds).
    pub tolerance: Vec<(FieldPath, f64)>,
    /// Only this share (0 to 1) of the documents, chosen by their keys and the seed.
    pub sample: Option<(f64, u64)>,
    /// Only documents of which one end was changed at or after the instant, by this field.
    pub since: Option<(FieldPath, Timestamp)>,
    pub options: JobOptions,
}

/// A comparison made ready.
struct Prepared {
    work: Arc<CompareWork>,
    pages: Arc<dyn Pages>,
    noted: Noted,
    spec: JobSpec,
    expected: Option<u64>,
    parallel: u32,
    most: u32,
}

impl Engine {
    /// Compares source and target. Writes nothing but the run into the ledger, where there is one; the same
    /// call resumes a run that was interrupted. Every difference that is kept comes as an
    /// [`whimbrel_model::Event::DocumentError`] too.
    ///
    /// # Errors
    /// An end cannot be read, or the job is not possible.
    pub async fn compare(&self, job: CompareJob) -> Result<Comparison, EngineError> {
        self.compare_as(job, self.ledger.is_some()).await
    }

    /// [`Engine::compare`] without a run in the ledger: where nothing may be written, or as part of something
    /// that has its own record.
    ///
    /// # Errors
    /// As [`Engine::compare`].
    pub async fn compare_unrecorded(&self, job: CompareJob) -> Result<Comparison, EngineError> {
        self.compare_as(job, false).await
    }

    async fn compare_as(&self, job: CompareJob, recorded: bool) -> Result<Comparison, EngineError> {
        let begun = Instant::now();
        let prepared = job.prepare(self).await?;
        let work = Arc::clone(&prepared.work);
        let (noted, title) = (prepared.noted, prepared.spec.title.clone());
        let (run, mut found) = match (&self.ledger, recorded) {
            (Some(ledger), true) => {
                // A run that goes on began earlier; any other begins behind what is there now.
                let pending = ledger.state().pending(&prepared.spec.subject).is_some();
                let before = if pending { 0 } else { ledger.state().seq };
                let report = self.drive(prepared.into_job(&job)).await?;
                let run = report.run.unwrap_or_default();
                let found = found::read_back(ledger, &run, before).await?;
                (run, found)
            }
            _ => (
                "dry-run".to_owned(),
                self.walk_unrecorded(&job, prepared).await?,
            ),
        };
        let sights = work.sights.lock().map(|mut s| std::mem::take(&mut *s));
        let mut sights = sights.unwrap_or_default();
        let patience = job.options.patience;
        let mut stay = settle::settle(&work.ends, &mut found, &mut sights, patience).await?;
        if let (Way::Noted(_), Some(scratch)) = (&work.way, &job.copy.scratch) {
            let ends = &work.ends;
            stay = settle::settle_notes(ends, scratch, &mut found, stay, sights, patience).await?;
            found.source_documents = noted.source_documents;
            found.skipped = noted.skipped;
        }
        self.tell_of(&run, &stay);
        let looked_at = found.equal + found.settled + found.bad();
        let sample = work.ends.sampling.map(|s| s.says(looked_at, found.bad()));
        Ok(Comparison {
            title,
            source: job.copy.source.to_string(),
            target: job.copy.target.to_string(),
            sample,
            elapsed_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            ..found.into_comparison(stay)
        })
    }

    fn tell_of(&self, run: &str, differences: &[whimbrel_model::finding::Difference]) {
        for difference in differences {
            let (code, message) = difference
                .error
                .clone()
                .unwrap_or_else(|| (Code::DocDiffers, difference.what.word().to_owned()));
            let mut error = DocError::new(code, message);
            error.path = difference.paths.first().cloned();
            let failure = Failure::of(&difference.key, None, error);
            self.send(&failure.event(run));
        }
    }

    /// What the last finished run of a subject saw as now.
    fn instant_of(&self, subject: &str) -> Timestamp {
        let state = self.ledger.as_ref().map(|l| Arc::clone(&l.state()));
        let found = state.as_ref().and_then(|state| {
            let runs = state.order.iter().rev().filter_map(|id| state.runs.get(id));
            let mut done = runs.filter(|r| {
                r.job.subject == subject && r.status == RunStatus::Completed && r.job.is_forward()
            });
            Timestamp::parse(&done.next()?.now)
        });
        found.unwrap_or_else(|| self.clock.now())
    }
}

impl Prepared {
    fn into_job(self, job: &CompareJob) -> Job {
        Job {
            spec: self.spec,
            pages: self.pages,
            work: self.work,
            by_position: None,
            watched: job.copy.source.clone(),
            expected: self.expected,
            parallel: self.parallel,
            most: self.most,
            options: JobOptions {
                // However much differs, all of it is to be told.
                max_failed: Threshold::Share(1.0),
                // It has written nothing that somebody would miss.
                abandon: true,
                ..job.options.clone()
            },
        }
    }
}

impl CompareJob {
    /// The whole of a copy, compared with nothing left out.
    #[must_use]
    pub fn of(copy: CopyJob) -> Self {
        Self {
            ignore: Vec::new(),
            tolerance: Vec::new(),
            sample: None,
            since: None,
            options: copy.options.clone(),
            copy,
        }
    }

    async fn prepare(&self, engine: &Engine) -> Result<Prepared, EngineError> {
        self.check()?;
        self.copy.check()?;
        let patience = self.options.patience;
        let (kind, expected) = self.copy.source.must_exist(patience).await?;
        let now = engine.instant_of(&self.copy.subject());
        let ends = self.ends(now);
        let target = retry_store(patience, || {
            let place = &self.copy.target;
            place.store.describe(&place.collection)
        })
        .await?;
        let target_kind = target.as_ref().map(|d| &d.key);
        let order = if ends.in_place && !is_shared(&ends).await? {
            self.order(&kind, target_kind).await?
        } else {
            None
        };
        let stores = [
            self.copy.source.store.as_ref(),
            self.copy.target.store.as_ref(),
        ];
        let (mut parallel, most) = width(&self.options, &stores);
        let mut noted = Noted::default();
        let way = if let Some(sorted) = order {
            let both = SideBySide {
                sorted,
                source: self.copy.source.clone(),
                target: target.is_some().then(|| self.copy.target.clone()),
            };
            Way::Ordered(both, self.may_use_digests(&ends).then(Digests::default))
        } else if let Some(scratch) = &self.copy.scratch {
            let gathered = Notes::gather(Arc::clone(&ends), Arc::clone(scratch)).await?;
            noted = gathered.1;
            Way::Noted(gathered.0)
        } else if self.copy.rule.group.is_some() {
            return Err(EngineError::Job {
                code: Code::RulesInvalid,
                message: format!(
                    "rule {} groups documents, which needs a scratch store",
                    self.copy.rule.name
                ),
            });
        } else {
            Way::LookedUp
        };
        let documents = expected.max(target.and_then(|d| d.documents)).unwrap_or(0);
        let parts = u32::try_from((documents / PARTITION).min(MOST_PARTITIONS)).unwrap_or(1);
        if matches!(way, Way::Noted(_)) {
            parallel = parallel.min(2);
        }
        let (pages, name) = self.cut(&way, parts);
        Ok(Prepared {
            spec: self.spec(now, name),
            work: Arc::new(CompareWork {
                ends,
                way,
                sights: Mutex::default(),
                listed: AtomicUsize::new(0),
            }),
            pages,
            noted,
            expected,
            parallel,
            most,
        })
    }

    /// How the documents are gone through, and what runs call that.
    fn cut(&self, way: &Way, parts: u32) -> (Arc<dyn Pages>, &'static str) {
        match way {
            Way::Ordered(both, _) => (Arc::new(Cuts::new(both, parts)), "ordered"),
            Way::Noted(both) => (Arc::new(Cuts::new(both, parts)), "noted"),
            Way::LookedUp => {
                let whole = WholeCollection {
                    place: self.copy.source.clone(),
                    bytes: CHUNK_BYTES,
                };
                (Arc::new(whole), "looked up")
            }
        }
    }

    fn ends(&self, now: Timestamp) -> Arc<Ends> {
        let copy = &self.copy;
        // Only the instant differs between two runs; the source's key is content.
        let stamped = copy.rule.migrated_at.iter();
        let stamped = stamped.filter_map(|name| FieldPath::from_names(vec![name.clone()]));
        Arc::new(Ends {
            source: copy.source.clone(),
            target: copy.target.clone(),
            deriver: Arc::new(Deriver::new(copy)),
            judge: Judge {
                ignored: stamped.chain(self.ignore.iter().cloned()).collect(),
                tolerance: self.tolerance.clone(),
            },
            now,
            in_place: copy.rule.transform.is_none() && copy.rule.group.is_none(),
            sampling: self.sample.map(|(share, seed)| Sampling { share, seed }),
            since: self.since.clone(),
            known: Mutex::new(HashMap::new()),
        })
    }

    /// Whether both ends walk their keys in the same order, and if so whether it is the keys' own.
    async fn order(
        &self,
        source: &KeyKind,
        target: Option<&KeyKind>,
    ) -> Result<Option<bool>, StoreError> {
        let own = |place: &Place| place.store.limits().key_order;
        let (from, to) = (&self.copy.source, &self.copy.target);
        let Some(target) = target else {
            return Ok(own(from).then_some(true));
        };
        if source != target {
            return Ok(None);
        }
        if own(from) && own(to) {
            return Ok(Some(true));
        }
        // What kind of digest a store gives names its order, too.
        let all = KeyRange::all();
        let whole = from.store.partitions(&from.collection, &all, 1).await?;
        let Some(end) = whole.into_iter().find_map(|r| r.through) else {
            return Ok(None);
        };
        let same = are_of_one_kind(from, to, end).await?;
        Ok(same.then_some(false))
    }

    /// A digest is of whole documents, as they are.
    fn may_use_digests(&self, ends: &Ends) -> bool {
        ends.deriver.flows_through()
            && ends.judge.ignored.is_empty()
            && ends.judge.tolerance.is_empty()
            && ends.sampling.is_none()
            && ends.since.is_none()
    }

    fn check(&self) -> Result<(), EngineError> {
        let wrong = |message: String| {
            Err(EngineError::Job {
                code: Code::CheckInvalid,
                message,
            })
        };
        if let Some((share, _)) = self.sample
            && !(share > 0.0 && share <= 1.0)
        {
            return wrong(format!(
                "a sample of {share} is no share (more than 0, at most 1)"
            ));
        }
        match self
            .tolerance
            .iter()
            .find(|(_, most)| most.is_nan() || *most < 0.0)
        {
            Some((path, most)) => wrong(format!("a tolerance of {most} for {path} is no distance")),
            None => Ok(()),
        }
    }

    fn spec(&self, now: Timestamp, way: &str) -> JobSpec {
        let copy = &self.copy;
        let tolerance = self
            .tolerance
            .iter()
            .map(|(p, most)| json!([p.to_string(), most]));
        let parameters = json!({
            "copy": copy.spec().parameters,
            "ignore": self.ignore.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "tolerance": tolerance.collect::<Vec<_>>(),
            "sample": self.sample,
            "since": self.since.as_ref().map(|(p, at)| json!([p.to_string(), at.to_string()])),
            "now": copy.rule.transform.as_ref().map(|_| now.to_string()),
            "way": way,
        });
        JobSpec {
            kind: JobKind::Verify,
            title: format!(
                "verify {} against {} by {}",
                copy.target, copy.source, copy.rule.name
            ),
            subject: format!("verify {}", copy.subject()),
            parameters,
        }
    }
}

impl Cuts {
    fn new(both: &SideBySide, parts: u32) -> Self {
        Self {
            both: both.clone(),
            parts,
        }
    }
}

/// Whether the target's record says that some of the collection's documents are under keys that rules gave
/// them: then its keys are not the source's.
async fn is_shared(ends: &Ends) -> Result<bool, EngineError> {
    if !ends.exists(PROVENANCE).await? {
        return Ok(false);
    }
    let store = &ends.target.store;
    let mut range = KeyRange::all();
    loop {
        let page = store.scan(PROVENANCE, &range, 2000, CHUNK_BYTES).await?;
        for record in &page.documents {
            let spots = read_provenance(&record.body).unwrap_or_default();
            if spots
                .iter()
                .any(|(name, _)| *name == ends.target.collection)
            {
                return Ok(true);
            }
        }
        match page.last {
            Some(last) => range.after = Some(last),
            None => return Ok(false),
        }
    }
}
