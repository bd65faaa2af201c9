//! What a document was before an upgrade wrote it: the way back.

use std::collections::HashMap;

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

    /// Whether `run` itself wrote the document as it is now.
    pub(crate) fn written_by(&self, run: &str, key: &Key, now: Fingerprint) -> bool {
        self.of(key)
            .iter()
            .any(|p| p.run == run && p.entry.after == now)
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
        let (mut at, mut print, mut newest) = (from, current, u64::MAX);
        let mut best: Option<(u32, Body)> = None;
        // The same content may have been there several times: each write is looked for among those
        // before the one that was found last. So the walk ends, too.
        while let Some(hit) = self
            .of(key)
            .iter()
            .find(|p| p.block < newest && p.entry.to == at && p.entry.after == print)
        {
            let before = Body::Json(hit.entry.before.clone());
            (at, newest) = (hit.entry.from, hit.block);
            let Ok(same) = before.fingerprint() else {
                break;
            };
            print = same;
            let reached = best.as_ref().map_or(from, |(version, _)| *version);
            if (reached.min(to)..=reached.max(to)).contains(&at) && at != reached {
                best = Some((at, before));
                if at == to {
                    break;
                }
            }
        }
        best
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
