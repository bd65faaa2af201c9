//! The library's front door.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use whimbrel_model::Event;

use crate::clock::Clock;
use crate::events::{EventStream, Events};
use crate::ledger::{LeaseGuard, Ledger};

/// Runs jobs against one ledger. One job at a time holds the ledger's lease.
///
/// Every job is a method: [`Engine::upgrade`], [`Engine::copy`], [`Engine::retry`]; those that only read
/// are [`Engine::preview_upgrade`], [`Engine::preview_copy`], [`Engine::show`], [`Engine::check_schema`].
pub struct Engine {
    pub(crate) ledger: Option<Arc<Ledger>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) events: Arc<Events>,
    pub(crate) stop: Arc<AtomicBool>,
    /// The lease that a migration holds around all of its jobs; otherwise each job takes its own.
    pub(crate) held: Option<Arc<LeaseGuard>>,
}

impl Engine {
    #[must_use]
    pub fn new(ledger: Arc<Ledger>, clock: Arc<dyn Clock>) -> Self {
        Self::build(Some(ledger), clock)
    }

    /// An engine for dry runs and reading where no ledger exists yet. Jobs that write are refused.
    #[must_use]
    pub fn without_ledger(clock: Arc<dyn Clock>) -> Self {
        Self::build(None, clock)
    }

    fn build(ledger: Option<Arc<Ledger>>, clock: Arc<dyn Clock>) -> Self {
        Self {
            ledger,
            clock,
            events: Arc::new(Events::default()),
            stop: Arc::new(AtomicBool::new(false)),
            held: None,
        }
    }

    /// The same engine for jobs that are parts of something that holds the lease already. It is stopped by
    /// a flag of its own.
    pub(crate) fn under(&self, lease: Arc<LeaseGuard>) -> Self {
        Self {
            ledger: self.ledger.clone(),
            clock: Arc::clone(&self.clock),
            events: Arc::clone(&self.events),
            stop: Arc::new(AtomicBool::new(false)),
            held: Some(lease),
        }
    }

    /// Everything that happens from now on.
    #[must_use]
    pub fn subscribe(&self) -> EventStream {
        self.events.subscribe()
    }

    /// Asks the running job to finish its chunks, write its checkpoints and stop, so that the same command
    /// goes on later.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub(crate) fn send(&self, event: &Event) {
        self.events.send(event);
    }
}
