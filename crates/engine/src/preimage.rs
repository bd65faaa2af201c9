//! What a document was before an upgrade wrote it: the way back.

use std::collections::{HashMap, HashSet};

use whimbrel_model::ledger::RunId;
use whimbrel_model::{Body, DocContext, DocError, Draft, Fingerprint, Key, Map, Schema, Timestamp};

use crate::error::EngineError;
use crate::ledger::{Ledger, StoredPreimage};

/// The pre-images of a chunk's documents, newest first for each key.
#[derive(Debug, Default)]
pub(crate) struct Preimages {
    by_key: HashMap<Key, Vec<StoredPreimage>>,
    /// What each run's transforms saw as now.
    instants: HashMap<String, Timestamp>,
}

/// What runs did to a document's version.
pub(crate) struct Before {
    /// The one that they found.
    version: u32,
    /// The one that they made of it.
    brought_to: u32,
}

impl Before {
    /// Where taking them back brings the document from version `now`: it never goes further the way that
    /// the runs went.
    pub(crate) fn goal(&self, now: u32) -> u32 {
        if self.brought_to < self.version {
            now.max(self.version)
        } else {
            now.min(self.version)
        }
    }
}

impl Preimages {
    pub(crate) async fn load(
        ledger: &Ledger,
        subject: &str,
        keys: Vec<Key>,
    ) -> Result<Self, EngineError> {
        if keys.is_empty() {
            return Ok(Self::default());
        }
        let found = ledger.preimages(subject, &keys).await?;
        let by_key: HashMap<_, _> = keys
            .into_iter()
            .zip(found)
            .filter(|(_, hits)| !hits.is_empty())
            .collect();
        let mut instants = HashMap::new();
        for hit in by_key.values().flatten() {
            if !instants.contains_key(&hit.run)
                && let Some(now) = ledger
                    .state()
                    .runs
                    .get(&hit.run)
                    .and_then(|r| Timestamp::parse(&r.now))
            {
                instants.insert(hit.run.clone(), now);
            }
        }
        Ok(Self { by_key, instants })
    }

    pub(crate) fn has(&self, key: &Key) -> bool {
        self.by_key.contains_key(key)
    }

    fn of(&self, key: &Key) -> &[StoredPreimage] {
        self.by_key.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether one of `runs` wrote the document, or was about to.
    pub(crate) fn any_of(&self, runs: &HashSet<RunId>, key: &Key) -> bool {
        self.of(key).iter().any(|p| runs.contains(&p.run))
    }

    /// Whether `run` itself wrote the document as it is now.
    pub(crate) fn written_by(&self, run: &str, key: &Key, now: Fingerprint) -> bool {
        self.of(key)
            .iter()
            .any(|p| p.run == run && p.entry.after == now)
    }

    /// The writes that made the document (with print `print`, at `version`) what it is, newest first, as
    /// far back as nothing else wrote in between; only those before the block `newest`.
    fn writes(
        &self,
        key: &Key,
        print: Fingerprint,
        version: u32,
        newest: u64,
    ) -> impl Iterator<Item = &StoredPreimage> {
        let hits = self.of(key);
        let mut now = Some((print, version, newest));
        std::iter::from_fn(move || {
            let (print, version, newest) = now?;
            // The same content may have been there several times: each write is looked for among those
            // before the one that was found last. So the walk ends, too.
            let hit = hits
                .iter()
                .find(|p| p.block < newest && p.entry.to == version && p.entry.after == print)?;
            let before = Body::Json(hit.entry.before.clone()).fingerprint();
            now = before.ok().map(|print| (print, hit.entry.from, hit.block));
            Some(hit)
        })
    }

    /// The exact document that `current` (at version `from`) once was, at the version nearest to `to` on
    /// the way there: found by following writes backwards in time while nothing else wrote in between.
    /// `None` where no such document is nearer than `current` itself: the app wrote since.
    pub(crate) fn nearest(
        &self,
        key: &Key,
        current: Fingerprint,
        from: u32,
        to: u32,
    ) -> Option<(u32, Body)> {
        let mut best: Option<&StoredPreimage> = None;
        for hit in self.writes(key, current, from, u64::MAX) {
            let (at, reached) = (hit.entry.from, best.map_or(from, |b| b.entry.from));
            if (reached.min(to)..=reached.max(to)).contains(&at) && at != reached {
                best = Some(hit);
                if at == to {
                    break;
                }
            }
        }
        best.map(|hit| (hit.entry.from, Body::Json(hit.entry.before.clone())))
    }

    /// Where the document was before `runs` wrote it. `None`: they never did.
    pub(crate) fn before(
        &self,
        key: &Key,
        current: Fingerprint,
        version: u32,
        runs: &HashSet<RunId>,
    ) -> Option<Before> {
        let theirs = |hit: &&StoredPreimage| runs.contains(&hit.run);
        let mut writes = self.writes(key, current, version, u64::MAX).filter(theirs);
        let newest = match writes.next() {
            Some(newest) => newest,
            // The app wrote since, so that nothing tells whether a write happened but that it was meant
            // to. Of several the last one was: the others had lost their guard. A note that the document was
            // there already counts only alone: where a write was meant, a chunk that was done again found
            // there what the app wrote meanwhile.
            None => {
                let meant = |hit: &&StoredPreimage| hit.entry.from != hit.entry.to;
                let hits = || self.of(key).iter().filter(theirs);
                hits().find(meant).or_else(|| hits().next())?
            }
        };
        let former = Body::Json(newest.entry.before.clone()).fingerprint().ok();
        let oldest = former.and_then(|print| {
            self.writes(key, print, newest.entry.from, newest.block)
                .filter(theirs)
                .last()
        });
        Some(Before {
            version: oldest.unwrap_or(newest).entry.from,
            brought_to: newest.entry.to,
        })
    }

    /// What each version's `up` dropped from this document when it was upgraded, found by running `up`
    /// again on the newest pre-image: transforms are pure, so the result is the same. This restores what
    /// an app's later write to the document did not touch.
    pub(crate) fn complements(
        &self,
        key: &Key,
        schema: &Schema,
        cx: &DocContext<'_>,
    ) -> HashMap<u32, Map> {
        let mut complements = HashMap::new();
        for hit in self.of(key).iter().filter(|p| p.entry.from < p.entry.to) {
            let wanted = hit.entry.from + 1..=hit.entry.to;
            if wanted.clone().all(|v| complements.contains_key(&v))
                || hit.entry.to > schema.newest()
            {
                continue;
            }
            let cx = DocContext::new(key, self.instants.get(&hit.run).copied().unwrap_or(cx.now));
            if let Ok(gathered) = self.upgrade_again(hit, schema, &cx) {
                for (version, complement) in gathered {
                    complements.entry(version).or_insert(complement);
                }
            }
        }
        complements
    }

    fn upgrade_again(
        &self,
        hit: &StoredPreimage,
        schema: &Schema,
        cx: &DocContext<'_>,
    ) -> Result<Vec<(u32, Map)>, DocError> {
        let draft = Draft::from_json(hit.entry.before.clone())?;
        Ok(schema
            .migrate(draft, hit.entry.to, &|_| None, cx)?
            .complements)
    }
}
