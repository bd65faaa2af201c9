//! Tells listeners what was committed, in the order of commits, after it is durable.

use std::sync::Arc;
use tokio::sync::broadcast;
use whimbrel_firestore::Micros;
use whimbrel_firestore::backend::Change;

/// What one commit changed. Changes of others (SQL) come in commits of their own.
#[derive(Debug)]
pub struct Commit {
    pub at: Micros,
    pub changes: Vec<Change>,
}

/// How many commits a slow listener may be behind before it has to read its targets anew.
const BEHIND: usize = 4096;

#[derive(Debug)]
pub struct Feed {
    sender: broadcast::Sender<Arc<Commit>>,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            sender: broadcast::channel(BEHIND).0,
        }
    }
}

impl Feed {
    /// Whether anybody listens: without listeners, what a commit changed need not be kept.
    #[must_use]
    pub fn heard(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    pub fn tell(&self, commit: Commit) {
        // Nobody listening is no error.
        let _ = self.sender.send(Arc::new(commit));
    }

    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Arc<Commit>> {
        self.sender.subscribe()
    }
}
