//! Beginning slowly: a Firestore that meets a sudden crowd of writes answers with errors until it has split
//! the range they go to. Google's rule is 500 writes a second at first, and half as many more every five
//! minutes (<https://firebase.google.com/docs/firestore/best-practices#ramping_up_traffic>).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

const FIRST_RATE: f64 = 500.0;
const GROWTH: f64 = 1.5;
const PERIOD: Duration = Duration::from_secs(300);
/// Far above what one program writes; without an end, the sum would be infinite one day.
const LAST_RATE: f64 = 1e6;

/// Says when writes may go out. Shared by all who write to one store.
#[derive(Debug, Default)]
pub(super) struct Ramp {
    state: Mutex<Option<State>>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    began: Instant,
    /// When the writes that were let out so far will have taken their time.
    free: Instant,
}

impl Ramp {
    /// Waits until so many writes may go out.
    pub(super) async fn pass(&self, writes: usize) {
        let at = self.reserve(writes, Instant::now());
        tokio::time::sleep_until(at).await;
    }

    fn reserve(&self, writes: usize, now: Instant) -> Instant {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut one = match *state {
            // Whoever rested for a while begins anew.
            Some(one) if now < one.free + PERIOD => one,
            _ => State {
                began: now,
                free: now,
            },
        };
        let at = one.free.max(now);
        let periods = (at - one.began).as_secs() / PERIOD.as_secs();
        let rate = FIRST_RATE * GROWTH.powf(periods.min(100) as f64);
        one.free = at + Duration::from_secs_f64(writes as f64 / rate.min(LAST_RATE));
        *state = Some(one);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many writes go out from one second to another, by somebody who always has more.
    fn between(from: u64, to: u64) -> usize {
        let (ramp, begin) = (Ramp::default(), Instant::now());
        let mut now = begin;
        let mut writes = 0;
        loop {
            now = ramp.reserve(50, now);
            let second = (now - begin).as_secs();
            if second >= to {
                return writes;
            }
            if second >= from {
                writes += 50;
            }
        }
    }

    #[test]
    fn the_rate_grows_by_half_every_five_minutes() {
        for (from, to, a_second) in [(0, 300, 500), (300, 600, 750), (1200, 1500, 2531)] {
            let found = between(from, to) / 300;
            assert!(found.abs_diff(a_second) <= 2, "{found} for {a_second}");
        }
    }

    #[test]
    fn whoever_rested_begins_anew() {
        let (ramp, begin) = (Ramp::default(), Instant::now());
        let later = begin + PERIOD * 4;
        assert_eq!(ramp.reserve(500, begin), begin);
        assert_eq!(
            ramp.reserve(500, begin),
            begin + Duration::from_secs(1),
            "the next waits"
        );
        assert_eq!(ramp.reserve(500, later), later);
        let next = ramp.reserve(500, later);
        assert_eq!(next, later + Duration::from_secs(1), "500 a second again");
    }
}
