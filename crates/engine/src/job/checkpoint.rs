//! Checkpoints: what became of chunks goes into the ledger.

use std::time::{Duration, Instant};

use whimbrel_model::Key;
use whimbrel_model::ledger::{Entry, Filed, QuarantineItem};

use super::{Failure, Handled, Shared};
use crate::error::EngineError;

/// A chunk that is done with, and not yet put down.
pub(super) struct Done {
    pub through: Option<Key>,
    /// Whether it was its partition's last one.
    pub last: bool,
    pub handled: Handled,
}

/// What waits to be put down.
pub(super) fn is_due(waiting: &[Done], since: Instant, may_wait: Duration) -> bool {
    let eventful =
        |d: &Done| d.last || !d.handled.failures.is_empty() || !d.handled.settled.is_empty();
    since.elapsed() >= may_wait || waiting.iter().any(eventful)
}

impl Shared {
    /// Puts down what became of chunks of a partition, all of it or nothing.
    pub(super) async fn put_down(
        &self,
        partition: u32,
        done: Vec<Done>,
    ) -> Result<(), EngineError> {
        let subject = self.job.spec.subject.as_str();
        let (mut entries, mut released) = (Vec::new(), Vec::new());
        let mut failures = Vec::new();
        for Done {
            through,
            last,
            handled,
        } in done
        {
            let counts = handled.counts;
            if !counts.balanced() {
                return Err(EngineError::Counts(format!("in one chunk: {counts:?}")));
            }
            if !handled.settled.is_empty() {
                let settled = self.ledger.journal().waiting(subject, &handled.settled);
                released.extend(settled.await?);
            }
            failures.extend(handled.failures);
            entries.push(Entry::ChunkDone {
                run: self.run.clone(),
                partition,
                through,
                counts,
                last,
                note: handled.note,
            });
        }
        let items = self.quarantine_items(&failures);
        if !released.is_empty() {
            entries.push(Entry::QuarantineResolved {
                run: self.run.clone(),
                subject: subject.to_owned(),
                count: released.len() as u64,
            });
        }
        let filed = Filed {
            quarantine: &items,
            released: (!released.is_empty()).then_some((subject, released.as_slice())),
        };
        self.ledger
            .append(self.lease.fence(), entries, filed)
            .await?;
        for failure in &failures {
            self.events.send(&failure.event(&self.run));
        }
        Ok(())
    }

    fn quarantine_items(&self, failures: &[Failure]) -> Vec<QuarantineItem> {
        let at = self.ledger.now().to_string();
        let item = |f: &Failure| QuarantineItem {
            subject: self.job.spec.subject.clone(),
            run: self.run.clone(),
            label: f.label.clone(),
            key: f.key.clone(),
            version: f.version,
            error: f.error.clone(),
            at: at.clone(),
            attempts: 1,
        };
        failures.iter().map(item).collect()
    }
}
