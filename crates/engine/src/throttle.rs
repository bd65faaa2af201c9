//! A migration must never be the outage: while single reads are slow, chunks wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use whimbrel_model::Key;

use crate::options::Place;

const EVERY: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Watches how long one read of one document takes, as the app would feel it, and says how long to pause
/// before the next chunk. The pause doubles while reads stay above the limit and halves below it.
#[derive(Debug)]
pub(crate) struct Throttle {
    pause_ms: Arc<AtomicU64>,
    probe: JoinHandle<()>,
}

impl Throttle {
    pub(crate) fn watch(place: Place, key: Key, limit: Duration) -> Self {
        let pause_ms = Arc::new(AtomicU64::new(0));
        let pause = Arc::clone(&pause_ms);
        let probe = tokio::spawn(async move {
            loop {
                tokio::time::sleep(EVERY).await;
                let begun = Instant::now();
                // A failing read is the job's to report; for the pause it only counts as slow or not.
                let _ = place
                    .store
                    .get(&place.collection, std::slice::from_ref(&key))
                    .await;
                let slow = begun.elapsed() > limit;
                let now = pause.load(Ordering::Relaxed);
                let next = if slow { (now * 2).max(50) } else { now / 2 };
                pause.store(
                    next.min(LONGEST_PAUSE.as_millis() as u64),
                    Ordering::Relaxed,
                );
            }
        });
        Self { pause_ms, probe }
    }

    pub(crate) fn pause(&self) -> Duration {
        Duration::from_millis(self.pause_ms.load(Ordering::Relaxed))
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.probe.abort();
    }
}
