//! Documents that wait in quarantine, and another try at them.

use std::sync::Arc;

use serde_json::json;
use whimbrel_model::ledger::{Entry, Filed, JobKind, QuarantineItem};
use whimbrel_model::{JournalError, Key};

use crate::copy::{CopyJob, CopyWork};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::job::{Job, Work};
use crate::ledger::Ledger;
use crate::options::{JobOptions, Place, Report};
use crate::pages::{ChosenKeys, width};
use crate::upgrade::{UpgradeJob, UpgradeWork};

/// What became of the documents that were tried again.
#[derive(Clone, Debug)]
pub struct RetryReport {
    pub report: Report,
    /// Waiting documents that no longer exist: they left quarantine.
    pub gone: u64,
    /// Rows whose key is unreadable: they cannot be tried one by one and still wait.
    pub without_key: u64,
}

impl Engine {
    /// Waiting documents, oldest first: `(id, item)`. Ask again with the last id for more.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn quarantined(
        &self,
        subject: Option<&str>,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, QuarantineItem)>, EngineError> {
        match &self.ledger {
            Some(ledger) => Ok(ledger.journal().quarantined(subject, after, limit).await?),
            None => Ok(Vec::new()),
        }
    }

    /// Tries the waiting documents of an upgrade again (all of them, or `only` these).
    ///
    /// # Errors
    /// As [`Engine::upgrade`].
    pub async fn retry_upgrade(
        &self,
        job: UpgradeJob,
        only: Option<&[String]>,
    ) -> Result<RetryReport, EngineError> {
        let spec = job.spec();
        let work = Arc::new(UpgradeWork::new(&job, self.ledger.clone()));
        self.retry(spec, job.place, work, job.options, only).await
    }

    /// Tries the waiting documents of a copy again. A grouping rule is run as a whole instead: groups
    /// cannot be tried by the document.
    ///
    /// # Errors
    /// As [`Engine::copy`].
    pub async fn retry_copy(
        &self,
        job: CopyJob,
        only: Option<&[String]>,
    ) -> Result<RetryReport, EngineError> {
        if job.rule.group.is_some() {
            let report = self.copy(job).await?;
            return Ok(RetryReport {
                report,
                gone: 0,
                without_key: 0,
            });
        }
        let work = Arc::new(CopyWork::new(&job, self.ledger.clone()));
        self.retry(job.spec(), job.source, work, job.options, only)
            .await
    }

    async fn retry(
        &self,
        mut spec: whimbrel_model::ledger::JobSpec,
        place: Place,
        work: Arc<dyn Work>,
        options: JobOptions,
        only: Option<&[String]>,
    ) -> Result<RetryReport, EngineError> {
        let (keys, without_key) = self.waiting_keys(&spec.subject, only).await?;
        let existing = self.existing(&place, &keys).await?;
        let gone: Vec<String> = keys
            .iter()
            .filter(|k| !existing.contains(k))
            .map(ToString::to_string)
            .collect();
        let (parallel, most) = width(&options, &[place.store.as_ref()]);
        spec.kind = JobKind::Retry;
        spec.title = format!("retry {} quarantined: {}", existing.len(), spec.title);
        spec.parameters = json!({ "retry": spec.parameters, "keys": keys.len() });
        let subject = spec.subject.clone();
        let job = Job {
            spec,
            expected: Some(existing.len() as u64),
            pages: Arc::new(ChosenKeys {
                place: place.clone(),
                keys: existing,
            }),
            work,
            by_position: None,
            watched: place,
            parallel,
            most,
            // Those that failed before may all fail again: that is no reason to stop.
            options: JobOptions {
                max_failed: crate::options::Threshold::Share(1.0),
                ..options
            },
        };
        let report = self.drive(job).await?;
        let gone = self
            .release_gone(report.run.as_deref(), &subject, &gone)
            .await?;
        Ok(RetryReport {
            report,
            gone,
            without_key,
        })
    }

    async fn waiting_keys(
        &self,
        subject: &str,
        only: Option<&[String]>,
    ) -> Result<(Vec<Key>, u64), EngineError> {
        let mut keys = Vec::new();
        let mut without_key = 0;
        let mut after = None;
        loop {
            let items = self.quarantined(Some(subject), after, 1000).await?;
            let Some((last, _)) = items.last() else {
                return Ok((keys, without_key));
            };
            after = Some(*last);
            for (_, item) in items {
                if only.is_some_and(|only| !only.contains(&item.label)) {
                    continue;
                }
                match item.key {
                    Some(key) => keys.push(key),
                    None => without_key += 1,
                }
            }
        }
    }

    async fn existing(&self, place: &Place, keys: &[Key]) -> Result<Vec<Key>, EngineError> {
        let mut existing = Vec::with_capacity(keys.len());
        for part in keys.chunks(place.store.limits().batch_writes.clamp(1, 1000) as usize) {
            let found = place.store.get(&place.collection, part).await?;
            existing.extend(
                part.iter()
                    .zip(found)
                    .filter(|(_, d)| d.is_some())
                    .map(|(k, _)| k.clone()),
            );
        }
        Ok(existing)
    }

    /// Documents that no longer exist leave quarantine by the run that found them gone.
    async fn release_gone(
        &self,
        run: Option<&str>,
        subject: &str,
        labels: &[String],
    ) -> Result<u64, EngineError> {
        let ledger = self.ledger.as_ref().filter(|_| !labels.is_empty());
        let (Some(ledger), Some(run)) = (ledger, run) else {
            return Ok(0);
        };
        let lease = ledger
            .lock("releasing documents that no longer exist")
            .await?;
        let released = release(ledger, lease.fence(), run, subject, labels).await;
        lease.release().await?;
        Ok(released?)
    }
}

async fn release(
    ledger: &Ledger,
    fence: u64,
    run: &str,
    subject: &str,
    labels: &[String],
) -> Result<u64, JournalError> {
    let waiting = ledger.journal().waiting(subject, labels).await?;
    if waiting.is_empty() {
        return Ok(0);
    }
    let count = waiting.len() as u64;
    let entry = Entry::QuarantineResolved {
        run: run.to_owned(),
        subject: subject.to_owned(),
        count,
    };
    let filed = Filed {
        quarantine: &[],
        released: Some((subject, &waiting)),
    };
    ledger.append(fence, vec![entry], filed).await?;
    Ok(count)
}
