//! In which order a run walks its documents, and when it must look again.
//!
//! In the order of keys what a run is to walk never changes. By position it is cheaper, but others may move a
//! document behind the end, which is then looked at, too; and a store that lays everything out anew makes every
//! position void, after which the run begins again in the order of keys. Both times documents may come that the run
//! has written already, as after a crash.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;
use whimbrel_model::ledger::{Counts, Entry, PartitionState, RunState};
use whimbrel_model::{Code, Event, Key, KeyRange, ScanOrder, StoreError};

use super::{Job, Shared};
use crate::chunk::ChunkSize;
use crate::error::EngineError;
use crate::pages::Pages;
use crate::patience::retry_store;

/// Each look behind the end finds what moved while the last one was taken, so that few are enough, unless
/// somebody writes as fast as the run.
const LOOKS: u32 = 8;

/// What is common to the chunks between two cuts.
#[derive(Clone, Copy)]
pub(super) struct Leg {
    pub scan: ScanOrder,
    /// Whether the run may have written any of the documents before.
    pub again: bool,
}

impl Leg {
    pub(super) fn is_behind(self) -> bool {
        self.again && self.scan == ScanOrder::Positions
    }
}

impl Job {
    /// Several partitions a worker even out ranges that turn out slow.
    fn parts(&self) -> u32 {
        self.parallel.saturating_mul(4).max(1)
    }

    pub(super) fn pages_of(&self, scan: ScanOrder) -> &dyn Pages {
        match (scan, &self.by_position) {
            (ScanOrder::Positions, Some(pages)) => pages,
            _ => self.pages.as_ref(),
        }
    }
}

/// The partitions of a new run.
pub(super) async fn cut(job: &Job) -> Result<(ScanOrder, Vec<KeyRange>), StoreError> {
    let patience = job.options.patience;
    if let Some(pages) = &job.by_position
        && let Some(ranges) = retry_store(patience, || pages.ranges(None, job.parts())).await?
    {
        return Ok((ScanOrder::Positions, ranges));
    }
    let ranges = retry_store(patience, || job.pages.partitions(job.parts())).await?;
    Ok((ScanOrder::Keys, ranges))
}

/// A key whose document shows how the app fares.
pub(super) async fn probe(job: &Job, state: &RunState) -> Option<Key> {
    let ends = |ranges: Vec<KeyRange>| ranges.into_iter().find_map(|range| range.through);
    match state.scan {
        ScanOrder::Keys => state
            .partitions
            .iter()
            .find_map(|p| p.range.through.clone()),
        // Without one nothing is watched; that the store cannot be read is told by what reads next.
        ScanOrder::Positions => job.pages.partitions(1).await.ok().and_then(ends),
    }
}

/// Works on all partitions, and on what is cut anew.
pub(super) async fn walk(shared: &Arc<Shared>, mut state: RunState) -> Result<(), EngineError> {
    loop {
        let worked = work_partitions(shared, &state).await;
        if state.scan == ScanOrder::Keys {
            return worked;
        }
        let behind = match worked {
            Ok(()) => look_behind(shared, &state).await,
            Err(error) => Err(error),
        };
        state = match behind {
            Ok(None) => return Ok(()),
            Ok(Some(ranges)) => shared.recut(ScanOrder::Positions, ranges).await?,
            Err(EngineError::Store(error)) if error.code == Code::StoreMoved => {
                let ranges = retry_store(shared.job.options.patience, || {
                    shared.job.pages.partitions(shared.job.parts())
                });
                let ranges = ranges.await?;
                shared.send_notice(format!(
                    "{error}; all documents are looked at once more, in the order of their keys"
                ));
                shared.recut(ScanOrder::Keys, ranges).await?
            }
            Err(error) => return Err(error),
        };
    }
}

/// What came to lie behind the end since the last cut.
async fn look_behind(
    shared: &Shared,
    state: &RunState,
) -> Result<Option<Vec<KeyRange>>, EngineError> {
    let end = state
        .partitions
        .last()
        .and_then(|p| p.range.through.as_ref());
    let (Some(pages), Some(end)) = (&shared.job.by_position, end) else {
        return Ok(None);
    };
    if state.recuts >= LOOKS {
        return Ok(None);
    }
    let ranges = retry_store(shared.job.options.patience, || pages.ranges(Some(end), 1)).await?;
    Ok(ranges.filter(|ranges| !ranges.is_empty()))
}

async fn work_partitions(shared: &Arc<Shared>, state: &RunState) -> Result<(), EngineError> {
    let leg = Leg {
        scan: state.scan,
        again: state.recuts > 0,
    };
    let queue: VecDeque<(u32, PartitionState)> = (0..)
        .zip(state.partitions.iter().cloned())
        .filter(|(_, p)| !p.done)
        .collect();
    let queue = Arc::new(Mutex::new(queue));
    let mut workers = JoinSet::new();
    for _ in 0..shared.job.parallel.max(1) {
        let (shared, queue) = (Arc::clone(shared), Arc::clone(&queue));
        workers.spawn(async move {
            let mut size = ChunkSize::new(shared.job.options.batch, shared.job.most);
            loop {
                let next = queue.lock().ok().and_then(|mut q| q.pop_front());
                let Some((index, part)) = next else {
                    return Ok(());
                };
                shared.work_partition(index, part, leg, &mut size).await?;
            }
        });
    }
    let mut first_error = None;
    while let Some(ended) = workers.join_next().await {
        let result = ended.unwrap_or_else(|panic| {
            Err(EngineError::Counts(format!(
                "a worker ended abnormally ({panic})"
            )))
        });
        if let Err(error) = result {
            shared.cancelled.store(true, Ordering::SeqCst);
            // An interruption that follows from another worker's error is not the cause.
            if first_error.is_none() || matches!(first_error, Some(EngineError::Interrupted)) {
                first_error = Some(error);
            }
        }
    }
    first_error.map_or(Ok(()), Err)
}

impl Shared {
    /// Goes on with other partitions: by position with what came behind, by key from the beginning.
    async fn recut(
        &self,
        scan: ScanOrder,
        partitions: Vec<KeyRange>,
    ) -> Result<RunState, EngineError> {
        let anew = scan == ScanOrder::Keys;
        let entry = Entry::RunRecut {
            run: self.run.clone(),
            partitions,
            scan,
            anew,
        };
        self.ledger
            .append(self.lease.fence(), vec![entry], &[])
            .await?;
        if anew {
            if let Ok(mut totals) = self.totals.lock() {
                *totals = Counts::default();
            }
            // Set by the worker that found out.
            self.cancelled.store(false, Ordering::SeqCst);
        }
        Ok(self.ledger.state().runs[&self.run].clone())
    }

    fn send_notice(&self, message: String) {
        self.events.send(&Event::Notice {
            run: self.run.clone(),
            message,
        });
    }
}
