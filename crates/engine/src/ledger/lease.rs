//! Holding the ledger's lease: renewed in the background, and known to be lost before the next write.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use whimbrel_model::ledger::Lease;
use whimbrel_model::{Journal, JournalError};

/// How long a lease lasts beyond its last renewal, if nothing else is said.
pub const LEASE_TTL: Duration = Duration::from_secs(30);

/// One holding of the lease, shared by the guard, the renewing task and the writers.
#[derive(Debug)]
pub(super) struct Tenure {
    fence: u64,
    ttl: Duration,
    /// When the last renewal that succeeded was *asked for*: the ledger's own clock began counting no
    /// earlier. Monotonic, so a changed wall clock does not fool it. (It may stand still while the whole
    /// machine sleeps; then the fence in each write decides.)
    renewed: Mutex<Instant>,
    /// Who holds the lease instead, once it is lost.
    lost: watch::Sender<Option<String>>,
}

impl Tenure {
    pub(super) fn fence(&self) -> u64 {
        self.fence
    }

    fn deadline(&self) -> Instant {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) + self.ttl
    }

    /// # Errors
    /// The lease is lost, or may be: it was not renewed within its time.
    pub(super) fn check(&self) -> Result<(), JournalError> {
        if self.lost.borrow().is_none() && Instant::now() >= self.deadline() {
            let seconds = self.ttl.as_secs_f32();
            self.lose(&format!(
                "another process, perhaps: this one did not renew it for {seconds} s"
            ));
        }
        match &*self.lost.borrow() {
            None => Ok(()),
            Some(holder) => Err(JournalError::Fenced {
                holder: holder.clone(),
            }),
        }
    }

    pub(super) fn lose(&self, holder: &str) {
        self.lost.send_if_modified(|lost| {
            let first = lost.is_none();
            if first {
                *lost = Some(holder.to_owned());
            }
            first
        });
    }

    fn renewed_at(&self, asked: Instant) {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = asked;
    }
}

/// Holds the lease. It is renewed every third of its time until the guard is released or dropped.
#[derive(Debug)]
pub struct LeaseGuard {
    journal: Held,
    lease: Lease,
    tenure: Arc<Tenure>,
    renewing: JoinHandle<()>,
}

/// A journal without a `Debug` of its own; `None` once the lease was given up.
struct Held(Option<Arc<dyn Journal>>);

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.as_ref().map_or("released", |journal| journal.name()))
    }
}

impl LeaseGuard {
    pub(super) async fn acquire(
        journal: Arc<dyn Journal>,
        holder: &str,
        ttl: Duration,
    ) -> Result<Self, JournalError> {
        let asked = Instant::now();
        let lease = journal.acquire(holder, millis(ttl)).await?;
        let tenure = Arc::new(Tenure {
            fence: lease.fence,
            ttl,
            renewed: Mutex::new(asked),
            lost: watch::Sender::new(None),
        });
        let renewing = tokio::spawn(renew(journal.clone(), tenure.clone()));
        Ok(Self {
            journal: Held(Some(journal)),
            lease,
            tenure,
            renewing,
        })
    }

    pub(super) fn tenure(&self) -> &Arc<Tenure> {
        &self.tenure
    }

    /// What every writing call must carry.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.lease.fence
    }

    /// The lease as it was taken; `expires_at` does not follow the renewals.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// # Errors
    /// [`JournalError::Fenced`] once the lease is lost, or may be: this process must write nothing more.
    pub fn check(&self) -> Result<(), JournalError> {
        self.tenure.check()
    }

    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.check().is_err()
    }

    /// Returns when the lease is lost, and the error that says to whom.
    pub async fn lost(&self) -> JournalError {
        let mut lost = self.tenure.lost.subscribe();
        loop {
            if let Err(error) = self.tenure.check() {
                return error;
            }
            let deadline = self.tenure.deadline();
            // The sender lives as long as the tenure, so only a change or the deadline ends the wait.
            let _ = timeout_at(deadline, lost.changed()).await;
        }
    }

    /// Gives the lease up, so that the next run need not wait for its end.
    ///
    /// # Errors
    /// The ledger cannot be written. A lease that is another's already is no error.
    pub async fn release(mut self) -> Result<(), JournalError> {
        self.renewing.abort();
        let Some(journal) = self.journal.0.take() else {
            return Ok(());
        };
        match journal.give_up(self.lease.fence).await {
            Err(JournalError::Fenced { .. }) => Ok(()),
            result => result,
        }
    }
}

impl Drop for LeaseGuard {
    /// Gives the lease up as well as can be done without waiting; if that fails, its time runs out.
    fn drop(&mut self) {
        self.renewing.abort();
        let (journal, runtime) = (self.journal.0.take(), tokio::runtime::Handle::try_current());
        if let (Some(journal), Ok(runtime)) = (journal, runtime) {
            let fence = self.lease.fence;
            runtime.spawn(async move { journal.give_up(fence).await });
        }
    }
}

async fn renew(journal: Arc<dyn Journal>, tenure: Arc<Tenure>) {
    let mut pause = tenure.ttl / 3;
    loop {
        sleep(pause).await;
        if tenure.check().is_err() {
            return;
        }
        let asked = Instant::now();
        let renewal = journal.renew(tenure.fence, millis(tenure.ttl));
        match timeout_at(tenure.deadline(), renewal).await {
            Ok(Ok(())) => {
                tenure.renewed_at(asked);
                pause = tenure.ttl / 3;
            }
            Ok(Err(JournalError::Fenced { holder })) => {
                tenure.lose(&holder);
                return;
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the ledger's lease could not be renewed; trying again");
                // Several more tries before the time is over.
                pause = tenure.ttl / 12;
            }
            // `check` marks it lost.
            Err(_) => pause = Duration::ZERO,
        }
    }
}

fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}
