//! Bringing the target to what the source yields, where it differs and nowhere else.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use whimbrel_model::finding::{Comparison, Difference, Mismatch};
use whimbrel_model::ledger::JobKind;
use whimbrel_model::{
    Body, Code, Document, Guard, Key, KeyRange, Page, Revision, StoreError, Timestamp, Write,
    WriteOutcome,
};

use super::ends::{Ends, Look};
use super::found::{Found, Sights};
use super::{CompareJob, settle};
use crate::copy::CopyWork;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::job::{ChunkContext, Handled, Job, Work};
use crate::options::{JobOptions, Report, Threshold};
use crate::pages::{ChosenKeys, Pages, width};

/// What a repair did, and what is left.
#[derive(Clone, Debug)]
pub struct RepairReport {
    /// The run that brought missing and differing documents over; `None` where there were none.
    pub synced: Option<Report>,
    /// Documents that were only in the target, and are gone.
    pub deleted: u64,
    /// What of the comparison's differences is still so.
    pub left: Vec<Difference>,
    /// Differences that the comparison counted and did not list: compare again, then repair again.
    pub unlisted: u64,
}

impl Engine {
    /// Copies the sources of missing and differing documents again, through the copy's own path, and looks
    /// at all differences again. `delete_extra` removes documents that no source yields, unless somebody
    /// writes them meanwhile.
    ///
    /// # Errors
    /// As [`Engine::copy`]. What was repaired stays so.
    pub async fn repair(
        &self,
        job: CompareJob,
        comparison: &Comparison,
        delete_extra: bool,
    ) -> Result<RepairReport, EngineError> {
        let now = self.instant_of(&job.copy.subject());
        let ends = job.ends(now);
        let of = |what: &[Mismatch]| -> Vec<Difference> {
            let some = comparison.differences.iter();
            some.filter(|d| what.contains(&d.what)).cloned().collect()
        };
        let differing = of(&[Mismatch::Missing, Mismatch::Differing]);
        let synced = if differing.is_empty() {
            None
        } else {
            Some(self.sync(&job, &ends, &differing, now).await?)
        };
        let extra = of(&[Mismatch::Extra]);
        let deleted = if delete_extra && !extra.is_empty() {
            let report = self.delete(&job, &ends, extra).await?;
            report.counts.removed
        } else {
            0
        };
        let mut found = Found {
            open: comparison.differences.clone(),
            ..Found::default()
        };
        let patience = job.options.patience;
        let left = settle::settle(&ends, &mut found, &mut Sights::new(), patience).await?;
        let bad =
            comparison.missing + comparison.extra + comparison.differing + comparison.unreadable;
        Ok(RepairReport {
            synced,
            deleted,
            left,
            unlisted: bad.saturating_sub(comparison.differences.len() as u64),
        })
    }

    async fn sync(
        &self,
        job: &CompareJob,
        ends: &Ends,
        differing: &[Difference],
        now: Timestamp,
    ) -> Result<Report, EngineError> {
        let mut copy = job.copy.clone();
        copy.options.skip_existing = false;
        if copy.rule.group.is_some() {
            // A group cannot be copied by one of its documents.
            return self.copy(copy).await;
        }
        let mut keys: Vec<Key> = differing.iter().flat_map(|d| ends.sources_of(d)).collect();
        keys.sort();
        keys.dedup();
        let stores = [copy.source.store.as_ref(), copy.target.store.as_ref()];
        let (_, most) = width(&job.options, &stores);
        let mut spec = copy.spec();
        spec.kind = JobKind::Retry;
        spec.title = format!("repair {} documents: {}", keys.len(), spec.title);
        spec.parameters = json!({ "repair": spec.parameters, "keys": keys });
        let work = SyncWork {
            copy: CopyWork::new(&copy, self.ledger.clone()),
            now,
        };
        self.drive(Job {
            spec,
            expected: Some(keys.len() as u64),
            pages: Arc::new(ChosenKeys {
                place: copy.source.clone(),
                keys,
            }),
            work: Arc::new(work),
            by_position: None,
            watched: copy.source,
            parallel: 1,
            most,
            options: unhindered(&job.options),
        })
        .await
    }

    async fn delete(
        &self,
        job: &CompareJob,
        ends: &Arc<Ends>,
        extra: Vec<Difference>,
    ) -> Result<Report, EngineError> {
        let (_, most) = width(&job.options, &[job.copy.target.store.as_ref()]);
        let mut spec = job.copy.spec();
        spec.kind = JobKind::Retry;
        spec.title = format!("delete {} extra documents: {}", extra.len(), spec.title);
        let keys: Vec<_> = extra.iter().map(|d| (&d.collection, &d.key)).collect();
        spec.parameters = json!({ "delete": spec.parameters, "keys": keys });
        let extra = Arc::new(extra);
        self.drive(Job {
            spec,
            expected: Some(extra.len() as u64),
            pages: Arc::new(Numbered(extra.len())),
            work: Arc::new(DeleteWork {
                ends: Arc::clone(ends),
                extra,
            }),
            by_position: None,
            watched: job.copy.target.clone(),
            parallel: 1,
            most: most.min(500),
            options: unhindered(&job.options),
        })
        .await
    }
}

/// Those that failed before may all fail again: that is no reason to stop.
fn unhindered(options: &JobOptions) -> JobOptions {
    JobOptions {
        max_failed: Threshold::Share(1.0),
        ..options.clone()
    }
}

/// The copy's own work, as of the instant that the documents are compared with.
struct SyncWork {
    copy: CopyWork,
    now: Timestamp,
}

#[async_trait]
impl Work for SyncWork {
    async fn handle(&self, page: Page, cx: &ChunkContext) -> Result<Handled, EngineError> {
        let cx = ChunkContext {
            now: self.now,
            ..cx.clone()
        };
        self.copy.handle(page, &cx).await
    }
}

/// Pages that stand for places in a list.
struct Numbered(usize);

#[async_trait]
impl Pages for Numbered {
    async fn partitions(&self, _parts: u32) -> Result<Vec<KeyRange>, StoreError> {
        Ok(vec![KeyRange::all()])
    }

    async fn next(&self, range: &KeyRange, limit: u32) -> Result<Page, StoreError> {
        let begin = match range.after {
            Some(Key::Int(last)) => usize::try_from(last).unwrap_or(0) + 1,
            _ => 0,
        };
        let end = self.0.min(begin.saturating_add(limit as usize));
        let numbered = |i: usize| Document {
            key: Key::Int(i64::try_from(i).unwrap_or(i64::MAX)),
            body: Body::from_json("{}"),
            revision: Revision(Vec::new()),
        };
        let documents: Vec<Document> = (begin..end).map(numbered).collect();
        Ok(Page {
            last: documents.last().map(|d| d.key.clone()),
            documents,
            rejects: Vec::new(),
        })
    }
}

struct DeleteWork {
    ends: Arc<Ends>,
    extra: Arc<Vec<Difference>>,
}

#[async_trait]
impl Work for DeleteWork {
    async fn handle(&self, page: Page, _cx: &ChunkContext) -> Result<Handled, EngineError> {
        let number = |d: &Document| match d.key {
            Key::Int(n) => usize::try_from(n).ok(),
            _ => None,
        };
        let chosen = page.documents.iter().filter_map(number);
        let chosen: Vec<Difference> = chosen.filter_map(|n| self.extra.get(n)).cloned().collect();
        let mut handled = Handled::default();
        handled.counts.enumerated = page.documents.len() as u64;
        let mut writes = Vec::new();
        for look in self.ends.look(&chosen).await? {
            // What a source yields by now, or what moves, is nobody's to delete.
            if let Look::Differs(difference, revisions) = look
                && difference.what == Mismatch::Extra
                && let Some(revision) = revisions.target
            {
                writes.push(Write {
                    collection: difference.collection,
                    key: difference.key,
                    to: None,
                    guard: Guard::Unchanged(revision),
                });
            }
        }
        for outcome in self.ends.target.store.write(&writes).await? {
            match outcome {
                WriteOutcome::Applied => handled.counts.removed += 1,
                WriteOutcome::Lost => handled.counts.conflicts += 1,
                WriteOutcome::Refused(refusal) => {
                    return Err(EngineError::Job {
                        code: Code::StoreDenied,
                        message: format!("an extra document was not deleted: {}", refusal.message),
                    });
                }
            }
        }
        handled.counts.written = handled.counts.removed;
        handled.counts.unchanged = handled.counts.enumerated - handled.counts.written;
        Ok(handled)
    }
}
