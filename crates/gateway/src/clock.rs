//! The times of commits and of reads: microseconds, such that a read's time is never below a commit that it
//! shows, nor at or above one that it does not.

use std::sync::Mutex;
use whimbrel_firestore::Micros;

/// Gives out times.
#[derive(Debug)]
pub struct Clock {
    last: Mutex<Micros>,
}

impl Clock {
    #[must_use]
    pub fn new(last_commit: Micros) -> Self {
        Self {
            last: Mutex::new(last_commit),
        }
    }
}
