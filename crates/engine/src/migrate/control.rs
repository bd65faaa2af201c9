//! What reaches a running migration from outside: pause, abort, approvals, a stop, a lost lease, a tripped
//! abort rule.
//!
//! A request is heeded by the process at work. What was left while none was:
//!
//! - an *abort* is heeded by the next process: whoever asked wants the data back, whatever happened since;
//! - an *approval* counts;
//! - a *pause* does not: the next process was started to go on;
//! - a migration that begins anew heeds nothing that was left before: it was meant for a former application.
//!
//! Requests of other migrations are left alone.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use whimbrel_model::JournalError;
use whimbrel_model::ledger::{MigrationEntry, Request, StepStatus};
use whimbrel_model::migration::{Migration, StepKind};
use whimbrel_model::{Code, Entry};

use super::watch::Tripped;
use crate::engine::Engine;
use crate::ledger::{LeaseGuard, Ledger};

/// How often requests are looked for.
const EVERY: Duration = Duration::from_millis(300);

/// Why the running step must stop.
#[derive(Clone, Debug)]
pub(crate) enum Signal {
    /// The process is asked to end.
    Stop,
    Pause {
        by: String,
    },
    Abort {
        by: String,
        reason: String,
    },
    Tripped(Tripped),
    /// The lease is another's.
    Lost {
        holder: String,
    },
}

impl Signal {
    /// Of two signals the graver counts.
    fn weight(&self) -> u8 {
        match self {
            Self::Stop => 0,
            Self::Pause { .. } => 1,
            Self::Tripped(_) => 2,
            Self::Abort { .. } => 3,
            Self::Lost { .. } => 4,
        }
    }
}

/// What to do with requests that were left before anybody listened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Former {
    /// The migration goes on: an abort and approvals count.
    Heed,
    /// They were meant for something that is over.
    Drop,
}

/// Listens while a migration is at work.
pub(crate) struct Control {
    raised: watch::Sender<Option<Signal>>,
    listener: Listener,
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl Control {
    /// Hears nothing until [`Control::listen`].
    pub(crate) fn new(
        engine: &Engine,
        ledger: Arc<Ledger>,
        lease: Arc<LeaseGuard>,
        migration: Arc<Migration>,
    ) -> Self {
        let raised = watch::Sender::new(None);
        let listener = Listener {
            raised: raised.clone(),
            stop: Arc::clone(&engine.stop),
            ledger,
            lease,
            migration,
        };
        Self {
            raised,
            listener,
            listening: Mutex::default(),
        }
    }

    /// Takes in what was left before (all of it, before this returns), and listens from then on.
    pub(crate) async fn listen(&self, former: Former) {
        self.listener.take_former(former).await;
        let listening = tokio::spawn(self.listener.clone().run());
        let mut slot = self
            .listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = slot.replace(listening) {
            before.abort();
        }
    }

    /// Listens no more, and has let go of the lease when it returns. What was asked until now is taken in.
    pub(crate) async fn close(&self) {
        let listening = self
            .listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(listening) = listening {
            listening.abort();
            let _ = listening.await;
            self.listener.take_in().await;
        }
    }

    /// For a task that may raise a signal.
    pub(crate) fn raiser(&self) -> Raiser {
        Raiser(self.raised.clone())
    }

    pub(crate) fn signal(&self) -> Option<Signal> {
        self.raised.borrow().clone()
    }

    /// Returns once there is a signal.
    pub(crate) async fn raised(&self) {
        let mut raised = self.raised.subscribe();
        // The sender lives as long as `self`.
        let _ = raised.wait_for(Option::is_some).await;
    }

    /// Forgets the signal that was heeded.
    pub(crate) fn clear(&self) {
        self.raised.send_replace(None);
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let listening = self.listening.get_mut();
        if let Some(listening) = listening.unwrap_or_else(PoisonError::into_inner) {
            listening.abort();
        }
    }
}

/// Raises signals from another task.
pub(crate) struct Raiser(watch::Sender<Option<Signal>>);

impl Raiser {
    pub(crate) fn raise(&self, signal: Signal) {
        raise(&self.0, signal);
    }
}

fn raise(raised: &watch::Sender<Option<Signal>>, signal: Signal) {
    raised.send_if_modified(|now| {
        let graver = now.as_ref().is_none_or(|n| n.weight() < signal.weight());
        if graver {
            *now = Some(signal);
        }
        graver
    });
}

#[derive(Clone)]
struct Listener {
    raised: watch::Sender<Option<Signal>>,
    stop: Arc<std::sync::atomic::AtomicBool>,
    ledger: Arc<Ledger>,
    lease: Arc<LeaseGuard>,
    migration: Arc<Migration>,
}

impl Listener {
    async fn run(self) {
        loop {
            if self.stop.load(Ordering::SeqCst) {
                raise(&self.raised, Signal::Stop);
            }
            if let Err(JournalError::Fenced { holder }) = self.lease.check() {
                raise(&self.raised, Signal::Lost { holder });
                return;
            }
            self.take_in().await;
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn take_in(&self) {
        for request in self.requests().await {
            self.heed(request).await;
        }
    }

    async fn take_former(&self, former: Former) {
        for request in self.requests().await {
            if former == Former::Drop || request.what == "pause" {
                self.settle(&request).await;
            } else {
                self.heed(request).await;
            }
        }
    }

    /// Those that speak of this migration.
    async fn requests(&self) -> Vec<Request> {
        match self.ledger.journal().requests().await {
            Ok(mut requests) => {
                requests.retain(|r| r.subject == self.migration.id);
                requests
            }
            // The step's own writes will say so where it matters.
            Err(error) => {
                tracing::warn!(%error, "requests cannot be read");
                Vec::new()
            }
        }
    }

    async fn heed(&self, request: Request) {
        let by = request.by.clone();
        match request.what.as_str() {
            "pause" => raise(&self.raised, Signal::Pause { by }),
            "abort" => {
                let reason = request.detail.clone();
                raise(&self.raised, Signal::Abort { by, reason });
            }
            "approve" => {
                if let Err(error) = self.approve(&request).await {
                    tracing::warn!(%error, "an approval could not be written down");
                    return;
                }
            }
            other => tracing::warn!(other, "a request that this program does not know"),
        }
        self.settle(&request).await;
    }

    async fn settle(&self, request: &Request) {
        let settled = self
            .ledger
            .journal()
            .settle_request(self.lease.fence(), request.id)
            .await;
        if let Err(error) = settled {
            tracing::warn!(%error, "a request could not be settled");
        }
    }

    async fn approve(&self, request: &Request) -> Result<(), JournalError> {
        let entry = approval(&self.ledger, &self.migration, &request.detail, &request.by);
        match entry {
            Ok(entry) => {
                let fence = self.lease.fence();
                match self.ledger.append(fence, vec![entry], &[]).await {
                    // The step is past it. Asked again, it would be so again.
                    Err(JournalError::Fold(error)) => {
                        tracing::warn!(%error, "an approval comes too late");
                    }
                    written => return written.map(|_| ()),
                }
            }
            Err((code, message)) => tracing::warn!(%code, message, "an approval was refused"),
        }
        Ok(())
    }
}

/// The entry of a go-ahead for a step, by its name.
pub(crate) fn approval(
    ledger: &Ledger,
    migration: &Migration,
    step: &str,
    by: &str,
) -> Result<Entry, (Code, String)> {
    let id = &migration.id;
    let state = ledger.state();
    let Some(known) = state.migrations.get(id) else {
        let message = format!("migration {id} was not begun, so nothing waits for a go-ahead");
        return Err((Code::MigrationOpen, message));
    };
    let found = migration.steps.iter().position(|s| s.name == step);
    let (Some(index), Some(StepKind::Approve(rule))) =
        (found, found.map(|i| &migration.steps[i].kind))
    else {
        let message = format!("migration {id} has no approve step called {step:?}");
        return Err((Code::MigrationInvalid, message));
    };
    if !rule.counts(by) {
        let who = rule.by.join(", ");
        let message = format!("{by} is not among those who may give the go-ahead ({who})");
        return Err((Code::ApprovalNeeded, message));
    }
    if known.steps.get(index).map(|s| s.status) == Some(StepStatus::Done) {
        let message = format!("step {step} of migration {id} has its go-ahead already");
        return Err((Code::MigrationOpen, message));
    }
    Ok(Entry::Migration {
        migration: id.clone(),
        change: MigrationEntry::Approved {
            step: u32::try_from(index).unwrap_or(u32::MAX),
            by: by.to_owned(),
        },
    })
}
