//! The times of commits and of reads: microseconds, such that a read's time is never below a commit that it
//! shows, nor at or above one that it does not.
//!
//! One group of commits is under way at a time. While one is, reads are given the time before it began; while
//! none is, they are given the present, and later commits are made to come after.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use whimbrel_firestore::Micros;

/// Gives out times.
#[derive(Debug)]
pub struct Clock {
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Debug)]
struct State {
    /// The greatest time given out or seen.
    last: Micros,
    /// While commits are under way: the time before the first of them.
    before: Option<Micros>,
    /// The time of the last commit that is durable and told.
    applied: Micros,
    /// How many groups of commits began or ended.
    turns: u64,
}

impl Clock {
    #[must_use]
    pub fn new(last_commit: Micros) -> Self {
        Self {
            state: Mutex::new(State {
                last: last_commit,
                before: None,
                applied: last_commit,
                turns: 0,
            }),
            ended: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The latest time at which everything committed until then is durable and told to the feed: what a view
    /// that is opened *afterwards* is sure to show.
    #[must_use]
    pub fn read_time(&self) -> Micros {
        let mut state = self.state();
        match state.before {
            Some(before) => before,
            None => state.present(),
        }
    }

    /// [`Clock::read_time`], and a number that is another one as soon as any commit could have been applied since.
    #[must_use]
    pub fn mark(&self) -> (Micros, u64) {
        let mut state = self.state();
        match state.before {
            // What is under way may be applied at any moment, so no two of these are the same.
            Some(before) => {
                state.turns += 1;
                (before, state.turns)
            }
            None => (state.present(), state.turns),
        }
    }

    /// Takes notice of a time that a view shows: later commits come after it.
    pub fn saw(&self, at: Micros) {
        let mut state = self.state();
        state.last = state.last.max(at);
    }

    /// The time of the last commit of this gateway that is durable.
    #[must_use]
    pub fn applied(&self) -> Micros {
        self.state().applied
    }

    /// The present, for judging times that clients name. It may be below times given out.
    #[must_use]
    pub fn now() -> Micros {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| Micros::try_from(since.as_micros()).ok())
            .unwrap_or(0)
    }

    /// Waits until no commit can come at or before `at` any more.
    pub async fn settle(&self, at: Micros) {
        loop {
            let ended = self.ended.notified();
            {
                let mut state = self.state();
                match state.before {
                    Some(before) if before < at => {}
                    Some(_) => return,
                    None => {
                        state.last = state.last.max(at);
                        return;
                    }
                }
            }
            ended.await;
        }
    }

    /// A group of commits begins.
    pub(crate) fn begin(&self) {
        let mut state = self.state();
        let before = state.present();
        state.before = Some(before);
        state.turns += 1;
    }

    /// The time of the next commit of the group: greater than any time given out or seen, and than `after`.
    pub(crate) fn next(&self, after: Micros) -> Micros {
        let mut state = self.state();
        state.last = Self::now().max(state.last + 1).max(after + 1);
        state.last
    }

    /// The group is over: durable and told, or failed.
    pub(crate) fn end(&self, applied: Option<Micros>) {
        let mut state = self.state();
        state.before = None;
        state.turns += 1;
        if let Some(at) = applied {
            state.applied = state.applied.max(at);
        }
        drop(state);
        self.ended.notify_waiters();
    }
}

impl State {
    fn present(&mut self) -> Micros {
        self.last = self.last.max(Clock::now());
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_commit_comes_at_or_before_a_time_that_was_read_at() {
        let clock = Clock::new(0);
        let read = clock.read_time();
        clock.begin();
        let during = clock.read_time();
        assert!(during >= read);
        let first = clock.next(0);
        let second = clock.next(first + 1_000_000);
        assert!(first > during && second > first + 1_000_000);
        assert_eq!(clock.read_time(), during, "what is under way is not read");
        clock.end(Some(second));
        assert!(clock.read_time() >= second);
        assert_eq!(clock.applied(), second);
    }

    #[test]
    fn times_go_on_from_the_last_commit_even_if_the_machines_clock_went_back() {
        let future = Clock::now() + 3_600_000_000;
        let clock = Clock::new(future);
        assert_eq!(clock.read_time(), future);
        clock.begin();
        assert_eq!(clock.next(0), future + 1);
        clock.end(None);
        clock.saw(future + 10);
        assert_eq!(clock.read_time(), future + 10);
    }

    #[tokio::test]
    async fn a_time_settles_when_the_commits_before_it_are_over() {
        let clock = std::sync::Arc::new(Clock::new(0));
        clock.begin();
        let at = clock.next(0);
        let waiting = {
            let clock = clock.clone();
            tokio::spawn(async move { clock.settle(at).await })
        };
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        clock.settle(at - 1_000_000).await;
        clock.end(Some(at));
        waiting.await.unwrap();
        clock.begin();
        assert!(clock.next(0) > at);
        clock.end(None);
    }
}
