//! What every job is told, and what it reports.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use whimbrel_model::ledger::{Counts, RunId, StepRef};
use whimbrel_model::{Code, Document, Key, KeyKind, Store};

use crate::EngineError;
use crate::patience::retry_store;

/// One collection in one opened store.
#[derive(Clone, Debug)]
pub struct Place {
    pub store: Arc<dyn Store>,
    /// The store's name in the project: it identifies runs, so it must stay the same between them.
    pub store_name: String,
    pub collection: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.store_name, self.collection)
    }
}

impl Place {
    /// One document, which must exist.
    pub(crate) async fn fetch(&self, key: &Key) -> Result<Document, EngineError> {
        let found = self
            .store
            .get(&self.collection, std::slice::from_ref(key))
            .await?;
        found
            .into_iter()
            .flatten()
            .next()
            .ok_or_else(|| EngineError::NoDocument {
                key: key.to_string(),
                place: self.to_string(),
            })
    }

    /// The kind of the collection's keys, and how many documents there are where the store knows.
    /// Waits as long as `patience` says for a store that is away.
    pub(crate) async fn must_exist(
        &self,
        patience: Duration,
    ) -> Result<(KeyKind, Option<u64>), EngineError> {
        match retry_store(patience, || self.store.describe(&self.collection)).await? {
            Some(description) => Ok((description.key, description.documents)),
            None => Err(EngineError::NoCollection {
                place: self.to_string(),
            }),
        }
    }
}

/// When a run gives up because too many documents fail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// More failed documents than this.
    Count(u64),
    /// A greater share (0 to 1) of the documents seen, judged once 200 were seen and at the end.
    Share(f64),
}

impl Threshold {
    pub(crate) fn check(self, counts: &Counts, at_end: bool) -> Result<(), EngineError> {
        #[allow(clippy::cast_precision_loss)]
        let exceeded = match self {
            Threshold::Count(most) => counts.quarantined > most,
            Threshold::Share(most) => {
                let seen = counts.enumerated;
                (at_end || seen >= 200)
                    && seen > 0
                    && counts.quarantined as f64 / seen as f64 > most
            }
        };
        if exceeded {
            Err(EngineError::Threshold {
                quarantined: counts.quarantined,
                enumerated: counts.enumerated,
                threshold: self.to_string(),
            })
        } else {
            Ok(())
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Threshold::Count(most) => write!(f, "{most} documents"),
            Threshold::Share(most) => write!(f, "{} %", most * 100.0),
        }
    }
}

impl std::str::FromStr for Threshold {
    type Err = EngineError;

    /// `25` is a count, `5%` a share.
    fn from_str(text: &str) -> Result<Self, EngineError> {
        let wrong = || EngineError::Job {
            code: Code::ProjectInvalid,
            message: format!("{text:?} is neither a number of documents (25) nor a share (5%)"),
        };
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent: f64 = percent.trim().parse().map_err(|_| wrong())?;
                if (0.0..=100.0).contains(&percent) {
                    Ok(Threshold::Share(percent / 100.0))
                } else {
                    Err(wrong())
                }
            }
            None => text.parse().map(Threshold::Count).map_err(|_| wrong()),
        }
    }
}

#[derive(Clone, Debug)]
pub struct JobOptions {
    /// Partitions worked on at once; `None`: what the stores can use.
    pub parallel: Option<u32>,
    /// Documents a chunk; `None`: as many as take half a second.
    pub batch: Option<u32>,
    pub max_failed: Threshold,
    /// Pause between chunks while a single read takes longer than this.
    pub max_latency: Duration,
    /// How long a store may stay unavailable before the run stops (resumable).
    pub patience: Duration,
    /// Give up an unfinished run of the same subject instead of refusing.
    pub abandon: bool,
    /// Copy: leave target documents that exist alone.
    pub skip_existing: bool,
    /// Who holds the lease, as others will see it: `ada@host pid 4711`.
    pub holder: String,
    /// The migration's step that the job works for. Only such a job resumes a run of that step.
    pub step: Option<StepRef>,
    /// Copy: remember what the target was before each write, so that [`crate::Engine::uncopy`] can take it
    /// back. Upgrade: remember which documents were at the version before, so that
    /// [`crate::Engine::undo_upgrade`] leaves them there (what it writes is always remembered).
    pub undoable: bool,
}

impl Default for JobOptions {
    fn default() -> Self {
        Self {
            parallel: None,
            batch: None,
            max_failed: Threshold::Share(0.25),
            max_latency: Duration::from_millis(250),
            patience: Duration::from_secs(60),
            abandon: false,
            skip_existing: false,
            holder: format!("pid {}", std::process::id()),
            step: None,
            undoable: false,
        }
    }
}

/// What a job did, over all of its attempts.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// `None` in a dry run, which leaves no trace.
    pub run: Option<RunId>,
    pub title: String,
    pub resumed: bool,
    pub counts: Counts,
    /// Of this attempt.
    pub elapsed: Duration,
}
