//! What every kind of check is while it runs.

use std::collections::BTreeMap;

use async_trait::async_trait;
use whimbrel_model::check::Baseline;
use whimbrel_model::json::JsonError;
use whimbrel_model::rule::FieldPath;
use whimbrel_model::{DocError, Document, Draft, Key, Timestamp, Value};

use super::findings::{Findings, Impossible, Wrong};

/// Which of a check's two collections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Own,
    Other,
}

/// A document that can be read, of the page at work.
pub(super) struct Doc {
    pub key: Key,
    pub draft: Draft,
}

impl Doc {
    pub(super) fn field(&mut self, path: &FieldPath) -> Result<Option<&Value>, Wrong> {
        path.get(&mut self.draft)
            .map_err(|error| unreadable(path, error))
    }
}

fn unreadable(path: &FieldPath, error: JsonError) -> Wrong {
    let error = DocError::from(error);
    Wrong::at(path, format!("the field cannot be read: {}", error.message))
}

/// The documents of a page that a check judges.
pub(super) struct Chosen<'p> {
    docs: &'p mut [Doc],
    /// Places in `docs`, rising.
    at: &'p [usize],
}

impl<'p> Chosen<'p> {
    pub(super) fn new(docs: &'p mut [Doc], at: &'p [usize]) -> Self {
        Self { docs, at }
    }

    pub(super) fn len(&self) -> usize {
        self.at.len()
    }

    pub(super) fn get(&mut self, nth: usize) -> Option<&mut Doc> {
        self.at.get(nth).and_then(|at| self.docs.get_mut(*at))
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        let keys = self.at.iter().filter_map(|at| self.docs.get(*at));
        keys.map(|doc| doc.key.clone()).collect()
    }

    /// Calls `judge` with each document. What it says is wrong is a finding.
    pub(super) fn each(
        &mut self,
        findings: &mut Findings,
        mut judge: impl FnMut(&mut Doc) -> Vec<Wrong>,
    ) {
        for nth in 0..self.len() {
            if let Some(doc) = self.get(nth) {
                let wrongs = judge(doc);
                findings.document(Some(&doc.key), None, wrongs);
            }
        }
    }
}

/// One check at work. Pages of several partitions come at the same time.
///
/// A page goes through `fetch` (reads what the judgement needs), `look` (judges; on a thread where it may take
/// its time) and `take` (whatever needs a store again). `finish` comes once, when all is seen.
#[async_trait]
pub(super) trait Runner: Send + Sync {
    /// The collections that are walked through for it.
    fn sides(&self) -> &[Side];

    /// One answer for each of `keys`, or nothing at all.
    async fn fetch(&self, _keys: &[Key]) -> Result<Vec<Option<Document>>, Impossible> {
        Ok(Vec::new())
    }

    fn fetches(&self) -> bool {
        false
    }

    fn look(
        &self,
        _side: Side,
        _docs: &mut Chosen<'_>,
        _fetched: Vec<Option<Document>>,
        _now: Timestamp,
        _findings: &mut Findings,
    ) {
    }

    async fn take(
        &self,
        _side: Side,
        _docs: &mut Chosen<'_>,
        _findings: &mut Findings,
    ) -> Result<(), Impossible> {
        Ok(())
    }

    async fn finish(&self, findings: &mut Findings) -> Result<Measured, Impossible>;

    /// What later verifications may compare with, once it has finished.
    fn baseline(&self) -> Option<Baseline> {
        None
    }
}

/// Numbers worth seeing. Never a value, unless values were asked for.
pub(super) type Measured = BTreeMap<String, String>;

/// `1.25 %`
pub(super) fn per_cent(share: f64) -> String {
    let text = format!("{:.2}", share * 100.0);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text} %")
}

#[allow(clippy::cast_precision_loss)]
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}
