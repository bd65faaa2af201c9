//! The ledger as the engine uses it: its records folded to state, one writer at a time, under a lease.

mod block;
mod lease;
mod preimages;

pub use lease::{LEASE_TTL, LeaseGuard};
pub use preimages::{PreimageEntry, StoredPreimage};

use crate::clock::Clock;
use lease::Tenure;
use preimages::DecodedBlocks;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use whimbrel_model::ledger::{Filed, FoldError, Lease, Record, State};
use whimbrel_model::{Entry, Journal, JournalError, Timestamp};

/// Records a read.
const PAGE: u32 = 2_000;

/// One open ledger. Reading it (`status`, `history`) needs no more than this; writing it needs the lease,
/// see [`Ledger::lock`], whose fence every writing call carries.
pub struct Ledger {
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    state: RwLock<Arc<State>>,
    /// Held while records are written or read in, so that the state grows in the order of the records.
    writing: tokio::sync::Mutex<()>,
    /// Whether the journal may hold records that the state lacks: a write that began and never ended here.
    behind: AtomicBool,
    tenure: Mutex<Option<Arc<Tenure>>>,
    blocks: DecodedBlocks,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("name", &self.journal.name())
            .field("seq", &self.state().seq)
            .finish_non_exhaustive()
    }
}

/// What [`Ledger::verify`] found to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub records: u64,
    /// The last record's hash. Kept elsewhere, it shows later whether the ledger's end was cut off.
    pub hash: String,
}

impl Ledger {
    /// Reads the whole ledger, checks its chain and folds it to state.
    ///
    /// # Errors
    /// The ledger cannot be read, its chain does not hold, or a newer program wrote it.
    pub async fn open(
        journal: Arc<dyn Journal>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, JournalError> {
        let mut state = State::default();
        read_on(journal.as_ref(), &mut state).await?;
        Ok(Self {
            journal,
            clock,
            state: RwLock::new(Arc::new(state)),
            writing: tokio::sync::Mutex::default(),
            behind: AtomicBool::new(false),
            tenure: Mutex::default(),
            blocks: DecodedBlocks::default(),
        })
    }

    /// The state as of the last record written or read here. Cheap: a shared snapshot.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        self.state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    #[must_use]
    pub fn journal(&self) -> &Arc<dyn Journal> {
        &self.journal
    }

    /// The clock that dates the records.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Takes in what others have written since.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub async fn refresh(&self) -> Result<Arc<State>, JournalError> {
        let _writing = self.writing.lock().await;
        self.catch_up().await?;
        Ok(self.state())
    }

    /// Reads everything again, from the first record on.
    ///
    /// # Errors
    /// As [`Ledger::open`]; also where the ledger no longer holds what this process read or wrote before.
    pub async fn verify(&self) -> Result<Verified, JournalError> {
        let known = self.state();
        let mut state = State::default();
        loop {
            let records = self.journal.read(state.seq, PAGE).await?;
            if records.is_empty() {
                break;
            }
            for record in &records {
                state.apply(record)?;
                if record.seq == known.seq && record.hash != known.hash {
                    let what = "it was replaced by another record";
                    return Err(FoldError::Chain {
                        seq: record.seq,
                        what,
                    }
                    .into());
                }
            }
        }
        if state.seq < known.seq {
            let (seq, what) = (state.seq + 1, "it was there before and is missing now");
            return Err(FoldError::Chain { seq, what }.into());
        }
        Ok(Verified {
            records: state.seq,
            hash: state.hash,
        })
    }

    /// Takes the lease and keeps it renewed until the guard goes; then takes in what others wrote before.
    ///
    /// # Errors
    /// [`JournalError::Held`] where another process holds it, or the ledger cannot be used.
    pub async fn lock(&self, holder: &str) -> Result<LeaseGuard, JournalError> {
        self.lock_for(holder, LEASE_TTL).await
    }

    /// [`Ledger::lock`] with a lease that lasts `ttl` beyond its last renewal.
    ///
    /// # Errors
    /// As [`Ledger::lock`].
    pub async fn lock_for(&self, holder: &str, ttl: Duration) -> Result<LeaseGuard, JournalError> {
        let guard = LeaseGuard::acquire(self.journal.clone(), holder, ttl).await?;
        *self.tenure.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard.tenure().clone());
        self.refresh().await?;
        Ok(guard)
    }

    /// Takes the lease from whoever has it, writes down that this was done, and leaves it free. The old
    /// holder can write nothing more. `None` when nobody had it.
    ///
    /// # Errors
    /// The ledger cannot be used, or another process took the lease meanwhile.
    pub async fn break_lease(&self, by: &str) -> Result<Option<Lease>, JournalError> {
        let Some(broken) = self.journal.lease().await? else {
            return Ok(None);
        };
        let ttl_ms = u64::try_from(LEASE_TTL.as_millis()).unwrap_or(u64::MAX);
        let lease = self.journal.break_lease(by, ttl_ms).await?;
        let entry = Entry::LeaseBroken {
            by: by.to_owned(),
            holder: broken.holder.clone(),
            fence: broken.fence,
        };
        let written = match self.refresh().await {
            Ok(_) => self.append(lease.fence, vec![entry], &[]).await,
            Err(error) => Err(error),
        };
        self.journal.give_up(lease.fence).await?;
        written.map(|_| Some(broken))
    }

    /// Appends entries, and files and releases the quarantined documents that they count, durably, all or
    /// nothing.
    /// Returns the records they became.
    ///
    /// # Errors
    /// An entry is no legal next step ([`JournalError::Fold`]): nothing was written. Another process
    /// wrote first ([`JournalError::Moved`]): nothing was written, the state now has its records, decide
    /// anew. The lease is lost ([`JournalError::Fenced`]): this process must write nothing more.
    pub async fn append(
        &self,
        fence: u64,
        entries: Vec<Entry>,
        filed: impl Into<Filed<'_>>,
    ) -> Result<Vec<Record>, JournalError> {
        let filed = filed.into();
        let _writing = self.writing.lock().await;
        self.check_lease(fence)?;
        if self.behind.load(Ordering::Acquire) {
            self.catch_up().await?;
        }
        let records = self.follow(fence, entries)?;
        // Stays set if this future is dropped, or fails, before the outcome is known.
        self.behind.store(true, Ordering::Release);
        let written = self.journal.append(fence, &records, filed).await;
        match written {
            Ok(()) => {
                self.take_in(&records)?;
                self.behind.store(false, Ordering::Release);
                Ok(records)
            }
            Err(error) => self.after_failure(fence, error, records).await,
        }
    }

    /// A failed append may have landed all the same (a connection lost while it committed), so the ledger
    /// is read again and asked.
    async fn after_failure(
        &self,
        fence: u64,
        error: JournalError,
        records: Vec<Record>,
    ) -> Result<Vec<Record>, JournalError> {
        if let JournalError::Fenced { holder } = &error {
            self.lose(fence, holder);
            return Err(error);
        }
        if let Err(unread) = self.catch_up().await {
            tracing::warn!(%unread, "the ledger cannot be read after a failed write");
            return Err(error);
        }
        let landed = records
            .last()
            .is_some_and(|last| self.state().hash == last.hash);
        if landed { Ok(records) } else { Err(error) }
    }

    /// The records that `entries` become, if each is a legal next step.
    fn follow(&self, fence: u64, entries: Vec<Entry>) -> Result<Vec<Record>, JournalError> {
        let state = self.state();
        let mut trial = trial(&state, &entries);
        let mut records = Vec::with_capacity(entries.len());
        let mut at = self.clock.now();
        for entry in entries {
            let record = Record::following((trial.seq, &trial.hash), at, fence, entry);
            trial.apply(&record)?;
            records.push(record);
            at = self.clock.now();
        }
        Ok(records)
    }

    fn take_in(&self, records: &[Record]) -> Result<(), JournalError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // Copies the state only while somebody still looks at a snapshot of it.
        let state = Arc::make_mut(&mut state);
        for record in records {
            state.apply(record)?;
        }
        Ok(())
    }

    /// Only with `writing` held.
    async fn catch_up(&self) -> Result<(), JournalError> {
        loop {
            let records = self.journal.read(self.state().seq, PAGE).await?;
            if records.is_empty() {
                self.behind.store(false, Ordering::Release);
                return Ok(());
            }
            self.take_in(&records)?;
        }
    }

    /// Refuses early where this process already knows that its lease is lost. The journal itself checks the
    /// fence in every write.
    fn check_lease(&self, fence: u64) -> Result<(), JournalError> {
        match self.tenure_of(fence) {
            Some(tenure) => tenure.check(),
            None => Ok(()),
        }
    }

    fn lose(&self, fence: u64, holder: &str) {
        if let Some(tenure) = self.tenure_of(fence) {
            tenure.lose(holder);
        }
    }

    fn tenure_of(&self, fence: u64) -> Option<Arc<Tenure>> {
        let tenure = self.tenure.lock().unwrap_or_else(PoisonError::into_inner);
        tenure.clone().filter(|t| t.fence() == fence)
    }
}

/// As much of the state as the entries' legality depends on: a run's entry looks at that run only. Copying
/// all of it for every checkpoint would cost more the longer the ledger's history is.
fn trial(state: &State, entries: &[Entry]) -> State {
    let mut part = State {
        seq: state.seq,
        hash: state.hash.clone(),
        ..State::default()
    };
    for run in entries.iter().filter_map(run_of) {
        if let Some(known) = state.runs.get(run) {
            part.runs.insert(run.clone(), known.clone());
        }
    }
    // Migrations are few, and one that begins looks at the others.
    if entries.iter().any(|e| run_of(e).is_none()) {
        part.migrations.clone_from(&state.migrations);
        part.phases.clone_from(&state.phases);
    }
    part
}

fn run_of(entry: &Entry) -> Option<&whimbrel_model::ledger::RunId> {
    match entry {
        Entry::RunStarted { run, .. }
        | Entry::RunResumed { run, .. }
        | Entry::RunRecut { run, .. }
        | Entry::ChunkDone { run, .. }
        | Entry::QuarantineResolved { run, .. }
        | Entry::RunCompleted { run, .. }
        | Entry::RunInterrupted { run, .. }
        | Entry::RunAborted { run, .. } => Some(run),
        Entry::LeaseBroken { .. }
        | Entry::Migration { .. }
        | Entry::PhaseChanged { .. }
        | Entry::Verified(_) => None,
    }
}

async fn read_on(journal: &dyn Journal, state: &mut State) -> Result<(), JournalError> {
    loop {
        let records = journal.read(state.seq, PAGE).await?;
        if records.is_empty() {
            return Ok(());
        }
        for record in &records {
            state.apply(record)?;
        }
    }
}
