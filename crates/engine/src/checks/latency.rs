//! How long single reads take.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use whimbrel_model::check::{Baseline, LatencyBaseline, LatencyCheck};
use whimbrel_model::{Key, KeyRange};

use super::findings::{Findings, Impossible, Wrong};
use super::runner::{Measured, Runner, Side};
use crate::chunk::CHUNK_BYTES;
use crate::options::Place;
use crate::patience::retry_store;

/// Ranges that the read keys are taken from, so that they lie all over the collection.
const PARTS: u32 = 16;

pub(super) struct Latency {
    pub check: LatencyCheck,
    pub place: Place,
    pub patience: Duration,
    pub baseline: Option<LatencyBaseline>,
    pub measured: Mutex<Option<Baseline>>,
}

#[async_trait]
impl Runner for Latency {
    fn sides(&self) -> &[Side] {
        &[]
    }

    /// Reads one after the other, when no other check reads.
    async fn finish(&self, findings: &mut Findings) -> Result<Measured, Impossible> {
        self.place.must_exist(self.patience).await?;
        let keys = self.keys().await?;
        let mut measured = Measured::new();
        if keys.is_empty() {
            measured.insert("reads".to_owned(), "0: the collection is empty".to_owned());
            return Ok(measured);
        }
        // The first one opens the connection.
        self.read(&keys[0]).await?;
        let mut times = Vec::with_capacity(self.check.reads as usize);
        for key in keys.iter().cycle().take(self.check.reads as usize) {
            times.push(self.read(key).await?);
        }
        times.sort_unstable();
        findings.looked_at = times.len() as u64;
        measured.insert("reads".to_owned(), times.len().to_string());
        for per_cent in [50, 95, 99] {
            measured.insert(format!("p{per_cent}"), shown(quantile(&times, per_cent)));
        }
        self.judge(&times, findings);
        if !self.check.times_baseline.is_empty() && self.baseline.is_none() {
            measured.insert("baseline".to_owned(), "none yet".to_owned());
        }
        let micros =
            |per_cent| u64::try_from(quantile(&times, per_cent).as_micros()).unwrap_or(u64::MAX);
        let baseline = LatencyBaseline {
            p50_us: micros(50),
            p95_us: micros(95),
            p99_us: micros(99),
        };
        if let Ok(mut measured) = self.measured.lock() {
            *measured = Some(Baseline {
                latency: Some(baseline),
                distribution: None,
            });
        }
        Ok(measured)
    }

    fn baseline(&self) -> Option<Baseline> {
        self.measured
            .lock()
            .ok()
            .and_then(|measured| measured.clone())
    }
}

impl Latency {
    async fn keys(&self) -> Result<Vec<Key>, Impossible> {
        let (store, name) = (&self.place.store, &self.place.collection);
        let all = KeyRange::all();
        let ranges = retry_store(self.patience, || store.partitions(name, &all, PARTS)).await?;
        let parts = u32::try_from(ranges.len()).unwrap_or(1).max(1);
        let each = self.check.reads.div_ceil(parts).clamp(1, 1000);
        let mut keys = Vec::new();
        for range in ranges {
            let page = retry_store(self.patience, || {
                store.scan(name, &range, each, CHUNK_BYTES)
            })
            .await?;
            keys.extend(page.documents.into_iter().map(|doc| doc.key));
        }
        Ok(keys)
    }

    async fn read(&self, key: &Key) -> Result<Duration, Impossible> {
        let began = Instant::now();
        let keys = std::slice::from_ref(key);
        self.place.store.get(&self.place.collection, keys).await?;
        Ok(began.elapsed())
    }

    fn judge(&self, times: &[Duration], findings: &mut Findings) {
        let mut limits: Vec<(u8, Duration, String)> = Vec::new();
        for (per_cent, limit) in &self.check.limits {
            limits.push((*per_cent, *limit, shown(*limit)));
        }
        for (per_cent, factor) in &self.check.times_baseline {
            let Some(before) = self.baseline.as_ref().map(|b| b.quantile(*per_cent)) else {
                continue;
            };
            // Below this, the clock and the scheduler are measured rather than the store.
            let before = before.max(Duration::from_micros(10));
            let limit =
                Duration::try_from_secs_f64(before.as_secs_f64() * factor).unwrap_or(Duration::MAX);
            limits.push((
                *per_cent,
                limit,
                format!("{factor} times the baseline's {}", shown(before)),
            ));
        }
        for (per_cent, limit, words) in limits {
            let took = quantile(times, per_cent);
            if took > limit {
                findings.whole(Wrong {
                    message: format!(
                        "p{per_cent} of single reads is {}, more than {words}",
                        shown(took)
                    ),
                    ..Wrong::default()
                });
            }
        }
    }
}

trait Quantile {
    fn quantile(&self, per_cent: u8) -> Duration;
}

impl Quantile for LatencyBaseline {
    fn quantile(&self, per_cent: u8) -> Duration {
        Duration::from_micros(match per_cent {
            50 => self.p50_us,
            95 => self.p95_us,
            _ => self.p99_us,
        })
    }
}

/// The nearest rank.
fn quantile(sorted: &[Duration], per_cent: u8) -> Duration {
    let rank = (sorted.len() * usize::from(per_cent)).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

/// `3.25 ms`
fn shown(time: Duration) -> String {
    if time >= Duration::from_secs(10) {
        return format!("{:.1} s", time.as_secs_f64());
    }
    let text = format!("{:.3}", time.as_secs_f64() * 1000.0);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text} ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_ranks() {
        let times: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(quantile(&times, 50), Duration::from_millis(100));
        assert_eq!(quantile(&times, 95), Duration::from_millis(190));
        assert_eq!(quantile(&times, 99), Duration::from_millis(198));
        assert_eq!(quantile(&times[..1], 99), Duration::from_millis(1));
        assert_eq!(shown(Duration::from_micros(3250)), "3.25 ms");
        assert_eq!(shown(Duration::from_secs(12)), "12.0 s");
    }
}
