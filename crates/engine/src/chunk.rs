//! How large the next chunk is: what takes half a second, bounded by bytes.

use std::time::Duration;

const GOAL: Duration = Duration::from_millis(500);
const FIRST: u32 = 512;
const LEAST: u32 = 16;
/// Caps a chunk's memory: bytes read, in each partition. Larger chunks mean fewer commits, but a peak that
/// grows with the collection (`cargo xtask bench memory`, `bench copy`).
pub(crate) const CHUNK_BYTES: usize = 1536 * 1024;
/// The same for an upgrade, which also holds what each document becomes and what it was.
pub(crate) const UPGRADE_BYTES: usize = 1024 * 1024;

/// Bytes that a comparison reads at a time from each end: it holds both.
pub(crate) const COMPARE_BYTES: usize = 512 * 1024;

/// Steers the chunk size by measured time (spirit's and ghostferry's idea: rate × goal, moved by at most
/// a factor a step so that one slow commit does not halve the speed for long).
#[derive(Clone, Debug)]
pub(crate) struct ChunkSize {
    next: u32,
    most: u32,
    fixed: bool,
}

impl ChunkSize {
    pub(crate) fn new(fixed: Option<u32>, most: u32) -> Self {
        let most = most.max(1);
        match fixed {
            Some(n) => Self {
                next: n.clamp(1, most),
                most,
                fixed: true,
            },
            None => Self {
                next: FIRST.min(most),
                most,
                fixed: false,
            },
        }
    }

    pub(crate) fn get(&self) -> u32 {
        self.next
    }

    /// Learns from a chunk of `documents` that took `elapsed`.
    pub(crate) fn learn(&mut self, documents: usize, elapsed: Duration) {
        if self.fixed || documents == 0 {
            return;
        }
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss
        )]
        let wanted =
            (documents as f64 * GOAL.as_secs_f64() / elapsed.as_secs_f64().max(1e-6)) as u32;
        let floor = self.next / 2;
        let ceiling = self.next.saturating_mul(4);
        self.next = wanted
            .clamp(floor, ceiling)
            .clamp(LEAST.min(self.most), self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_measured_rate_within_its_bounds() {
        let mut size = ChunkSize::new(None, 20_000);
        assert_eq!(size.get(), 512);
        for _ in 0..10 {
            size.learn(size.get() as usize, Duration::from_millis(1));
        }
        assert_eq!(size.get(), 20_000);
        for _ in 0..20 {
            size.learn(size.get() as usize, Duration::from_secs(60));
        }
        assert!(size.get() >= 16 && size.get() < 200, "{}", size.get());
        let mut fixed = ChunkSize::new(Some(7), 20_000);
        fixed.learn(7, Duration::from_nanos(1));
        assert_eq!(fixed.get(), 7);
    }
}
