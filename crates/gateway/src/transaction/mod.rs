//! Transactions: which are open, what they read, which documents they hold locked.
//!
//! A read-write transaction locks what it reads until it ends, so what it read is so still when it commits. What
//! locks cannot hold is checked at the commit: the versions of what it read (programs that write SQL take
//! no lock of ours), and, for queries, that nothing was committed since that changes their result.

pub mod locks;

use crate::Gateway;
use crate::clock::Clock;
use crate::query::Query;
use crate::status::{contention, invalid};
use locks::{Denied, Locks, Owner};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tonic::Status;
use whimbrel_firestore::v1::TransactionOptions;
use whimbrel_firestore::v1::transaction_options::{self, ReadOnly, ReadWrite};
use whimbrel_firestore::{Micros, Place};

/// How long a transaction may live, and how long nobody may have asked for anything in it.
const LIFE: Duration = Duration::from_secs(270);
const IDLE: Duration = Duration::from_secs(60);

/// How long a request waits for documents that others hold.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many ended transactions are remembered, to say what became of them.
const REMEMBERED: usize = 20_000;

/// Documents that one transaction may read and hold.
const DOCUMENTS: usize = 100_000;

const EXPIRED: &str = "The referenced transaction has expired or is no longer valid.";

/// The open transactions.
#[derive(Debug)]
pub struct Transactions {
    state: Arc<Mutex<State>>,
    locks: Arc<Locks>,
    next: AtomicU64,
    /// Tells this process's transactions from those of one before.
    process: u64,
    limits: Limits,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub life: Duration,
    pub idle: Duration,
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            life: LIFE,
            idle: IDLE,
            patience: PATIENCE,
        }
    }
}

impl Default for Transactions {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

#[derive(Debug, Default)]
struct State {
    open: HashMap<u64, Arc<Transaction>>,
    /// How the last ones ended, and their births.
    ended: HashMap<u64, (End, u64)>,
    order: VecDeque<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its writes are there, or may be: it must not be run again.
    Committed,
    /// Rolled back, given up, expired or refused: nothing was written.
    Nothing,
}

impl State {
    /// Notes how an open transaction ended; whether it was open.
    fn close(&mut self, serial: u64, how: End) -> bool {
        let Some(transaction) = self.open.remove(&serial) else {
            return false;
        };
        self.ended.insert(serial, (how, transaction.birth));
        self.order.push_back(serial);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ended.remove(&oldest);
        }
        true
    }

    /// When a transaction, or the one that it tries again, first began.
    fn birth(&self, serial: u64) -> Option<u64> {
        match self.open.get(&serial) {
            Some(transaction) => Some(transaction.birth),
            None => self.ended.get(&serial).map(|(_, birth)| *birth),
        }
    }
}

/// A transaction that commits: it holds its locks until this is dropped. Unless it is said how it ended, it counts as
/// committed: it may be.
#[derive(Debug)]
pub struct Sealed {
    locks: Arc<Locks>,
    state: Arc<Mutex<State>>,
    serial: u64,
}

impl Sealed {
    /// Says how it ended.
    pub fn ended(&self, how: End) {
        if let Some((end, _)) = lock(&self.state).ended.get_mut(&self.serial) {
            *end = how;
        }
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        self.locks.leave(Owner(self.serial));
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is known of a transaction that a request names.
enum Known {
    Open(InUse),
    Ended(End),
}

/// One open transaction.
#[derive(Debug)]
pub struct Transaction {
    pub id: Id,
    pub mode: Mode,
    /// The serial of the first try: a transaction that is tried again keeps its age, so that it is not the
    /// one given up for ever.
    birth: u64,
    begun: Instant,
    work: Mutex<Work>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    ReadWrite,
    /// Reads as of this time.
    ReadOnly(Micros),
}

/// What a read-write transaction did so far.
#[derive(Debug)]
struct Work {
    used: Instant,
    /// Requests under way.
    requests: u32,
    read: HashMap<Place, Option<Micros>>,
    queries: Vec<(Arc<Query>, Micros)>,
}

/// What must still be so when a transaction commits.
#[derive(Debug, Default)]
pub struct Basis {
    /// The documents that were read, with their update times; `None` where there was none.
    pub read: Vec<(Place, Option<Micros>)>,
    /// The queries whose results it rests on, and when they were run.
    pub queries: Vec<(Arc<Query>, Micros)>,
}

/// What clients know a transaction by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id {
    serial: u64,
    process: u64,
}

impl Id {
    #[must_use]
    pub fn bytes(self) -> Vec<u8> {
        [self.process.to_be_bytes(), self.serial.to_be_bytes()].concat()
    }

    fn parse(bytes: &[u8]) -> Result<Self, Status> {
        let part = |i: usize| -> Option<u64> {
            let bytes = bytes.get(i * 8..i * 8 + 8)?;
            Some(u64::from_be_bytes(bytes.try_into().ok()?))
        };
        match (bytes.len(), part(0), part(1)) {
            (16, Some(process), Some(serial)) => Ok(Self { serial, process }),
            _ => Err(invalid("Invalid transaction.")),
        }
    }

    fn owner(self) -> Owner {
        Owner(self.serial)
    }
}

/// A request that works in a transaction; it is not idle meanwhile.
#[derive(Debug)]
pub struct InUse(Arc<Transaction>);

impl InUse {
    fn new(transaction: Arc<Transaction>) -> Self {
        transaction.work().requests += 1;
        Self(transaction)
    }
}

impl std::ops::Deref for InUse {
    type Target = Transaction;

    fn deref(&self) -> &Transaction {
        &self.0
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut work = self.0.work();
        work.requests = work.requests.saturating_sub(1);
        work.used = Instant::now();
    }
}

impl Transaction {
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes which version of a document was read. The first one counts.
    pub fn note(&self, places: &[Place], updated: impl Iterator<Item = Option<Micros>>) {
        let mut work = self.work();
        for (place, updated) in places.iter().zip(updated) {
            work.read.entry(place.clone()).or_insert(updated);
        }
    }

    /// Notes that it rests on a query's result as of then. A query that is run again has only its last result.
    pub fn rests_on(&self, query: &Arc<Query>, at: Micros) {
        let queries = &mut self.work().queries;
        match queries.iter_mut().find(|(one, _)| Arc::ptr_eq(one, query)) {
            Some((_, then)) => *then = at,
            None => queries.push((query.clone(), at)),
        }
    }

    #[must_use]
    pub fn rests_on_queries(&self) -> bool {
        !self.work().queries.is_empty()
    }

    /// Whether these documents, too, may be read.
    fn has_room(&self, places: &[Place]) -> bool {
        let read = &self.work().read;
        let new = || places.iter().filter(|place| !read.contains_key(*place));
        // Counted one by one only where it matters.
        read.len() + places.len() <= DOCUMENTS || read.len() + new().count() <= DOCUMENTS
    }

    fn is_over(&self, limits: &Limits, now: Instant) -> bool {
        let work = self.work();
        now.duration_since(self.begun) > limits.life
            || (work.requests == 0 && now.duration_since(work.used) > limits.idle)
    }
}

impl Transactions {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            state: Arc::default(),
            locks: Arc::default(),
            next: AtomicU64::new(1),
            process: Clock::now().unsigned_abs(),
            limits,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn serial(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn open(&self, mode: Mode, earlier: Option<Id>) -> Arc<Transaction> {
        let serial = self.serial();
        // The client names the earlier one, but how old that is nobody says but this server.
        let earlier = earlier.filter(|id| id.process == self.process);
        let birth = earlier.and_then(|id| self.state().birth(id.serial));
        let now = Instant::now();
        let transaction = Arc::new(Transaction {
            id: Id {
                serial,
                process: self.process,
            },
            mode,
            birth: birth.unwrap_or(serial),
            begun: now,
            work: Mutex::new(Work {
                used: now,
                requests: 0,
                read: HashMap::new(),
                queries: Vec::new(),
            }),
        });
        if mode == Mode::ReadWrite {
            self.locks.enter(transaction.id.owner(), transaction.birth);
        }
        self.state().open.insert(serial, transaction.clone());
        transaction
    }

    /// The open transaction that a request names.
    ///
    /// # Errors
    /// INVALID_ARGUMENT. Clients run a transaction again on the words of [`EXPIRED`], so they are said only where
    /// nothing of it was written.
    pub fn find(&self, id: &[u8]) -> Result<InUse, Status> {
        match self.look_up(id)? {
            Known::Open(transaction) => Ok(transaction),
            Known::Ended(End::Nothing) => Err(invalid(EXPIRED)),
            Known::Ended(End::Committed) => Err(committed()),
        }
    }

    fn look_up(&self, id: &[u8]) -> Result<Known, Status> {
        let id = Id::parse(id)?;
        if id.process != self.process {
            return Err(invalid(
                "The transaction is not known. (If the server was started anew since, read the documents \
                 again to see whether it was committed.)",
            ));
        }
        let state = self.state();
        if let Some(transaction) = state.open.get(&id.serial) {
            return Ok(Known::Open(InUse::new(transaction.clone())));
        }
        match state.ended.get(&id.serial) {
            Some((end, _)) => Ok(Known::Ended(*end)),
            None => Err(invalid("The transaction is not known.")),
        }
    }

    /// Ends an open transaction and lets go of what it held.
    pub fn end(&self, transaction: &Transaction, how: End) {
        if self.state().close(transaction.id.serial, how) && transaction.mode == Mode::ReadWrite {
            self.locks.leave(transaction.id.owner());
        }
    }

    /// Ends the transactions that nobody used for too long, or that are too old.
    pub fn expire(&self) {
        let now = Instant::now();
        let over: Vec<Arc<Transaction>> = self
            .state()
            .open
            .values()
            .filter(|transaction| transaction.is_over(&self.limits, now))
            .cloned()
            .collect();
        for transaction in over {
            self.end(&transaction, End::Nothing);
        }
    }

    /// Why a request of a transaction cannot go on that is open no more.
    fn over(&self, transaction: &Transaction, lost: Status) -> Status {
        match self.state().ended.get(&transaction.id.serial) {
            // Another request of the same one committed it. Who hears of contention would run it again.
            Some((End::Committed, _)) => committed(),
            _ => lost,
        }
    }

    /// Locks documents for a transaction. If it cannot have them, it is over.
    ///
    /// # Errors
    /// ABORTED; INVALID_ARGUMENT where it was committed meanwhile.
    pub async fn lock(&self, transaction: &Transaction, places: &[Place]) -> Result<(), Status> {
        if !transaction.has_room(places) {
            self.end(transaction, End::Nothing);
            return Err(invalid(format!(
                "The transaction reads more than {DOCUMENTS} documents. Nothing was written; read fewer, or \
                 read them outside of the transaction."
            )));
        }
        let owner = transaction.id.owner();
        let locked = self.locks.lock(owner, places, self.limits.patience);
        match locked.await {
            Ok(()) => Ok(()),
            Err(denied) => {
                self.end(transaction, End::Nothing);
                Err(self.over(transaction, refused(denied)))
            }
        }
    }

    /// Locks documents for a write outside of transactions.
    ///
    /// # Errors
    /// ABORTED.
    pub async fn take(&self, places: &[Place]) -> Result<locks::Held, Status> {
        self.locks
            .take(Owner(self.serial()), places, self.limits.patience)
            .await
            .map_err(refused)
    }

    /// Makes a transaction ready to commit: it keeps the locks that it has, gets no more, and is open no more. Until it
    /// is known how it ends it counts as committed.
    ///
    /// # Errors
    /// As [`Transactions::lock`].
    pub fn seal(&self, transaction: &Transaction) -> Result<(Sealed, Basis), Status> {
        let serial = transaction.id.serial;
        if !self.state().close(serial, End::Committed) {
            return Err(self.over(transaction, contention()));
        }
        let sealed = Sealed {
            locks: self.locks.clone(),
            state: self.state.clone(),
            serial,
        };
        if let Err(denied) = self.locks.seal(transaction.id.owner()) {
            sealed.ended(End::Nothing);
            return Err(refused(denied));
        }
        let mut work = transaction.work();
        let basis = Basis {
            read: std::mem::take(&mut work.read).into_iter().collect(),
            queries: std::mem::take(&mut work.queries),
        };
        Ok((sealed, basis))
    }

    /// How many are open, and how many documents are locked.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        (self.state().open.len(), self.locks.len())
    }
}

fn committed() -> Status {
    invalid("The transaction was already committed.")
}

fn refused(denied: Denied) -> Status {
    match denied {
        Denied::TimedOut => Status::aborted(
            "Transaction lock timeout. (Others hold a document for too long; nothing was written.)",
        ),
        Denied::GivenUp => contention(),
    }
}

impl Gateway {
    /// Begins a transaction; returns what clients know it by.
    ///
    /// # Errors
    /// The time to read at is too long ago or in the future; the transaction to try again was never given out.
    pub async fn begin(&self, options: &TransactionOptions) -> Result<Vec<u8>, Status> {
        Ok(self.open_transaction(options).await?.id.bytes())
    }

    /// Begins a transaction for a read that is the first to tell of it.
    pub(crate) async fn begin_reading(
        self: &Arc<Self>,
        options: &TransactionOptions,
    ) -> Result<(InUse, Begun), Status> {
        let transaction = self.open_transaction(options).await?;
        let begun = Begun {
            gateway: self.clone(),
            transaction: transaction.0.clone(),
            told: false,
        };
        Ok((transaction, begun))
    }

    pub(crate) async fn open_transaction(
        &self,
        options: &TransactionOptions,
    ) -> Result<InUse, Status> {
        let (mode, earlier) = match &options.mode {
            None => (Mode::ReadWrite, None),
            Some(transaction_options::Mode::ReadWrite(ReadWrite {
                retry_transaction, ..
            })) => {
                let earlier = match retry_transaction.as_slice() {
                    [] => None,
                    bytes => Some(Id::parse(bytes)?),
                };
                // It need not have been rolled back; but who tries again has given it up.
                if let Some(id) = earlier {
                    self.transactions.give_up(id);
                }
                (Mode::ReadWrite, earlier)
            }
            Some(transaction_options::Mode::ReadOnly(ReadOnly {
                consistency_selector,
            })) => {
                let at = match consistency_selector {
                    None => self.clock.read_time(),
                    Some(transaction_options::read_only::ConsistencySelector::ReadTime(at)) => {
                        self.past(crate::commit::request::whole_micros(at)?).await?
                    }
                };
                (Mode::ReadOnly(at), None)
            }
        };
        Ok(InUse::new(self.transactions.open(mode, earlier)))
    }

    /// Ends a transaction without writing.
    ///
    /// # Errors
    /// INVALID_ARGUMENT: it was committed, or never was.
    pub fn rollback(&self, id: &[u8]) -> Result<(), Status> {
        match self.transactions.look_up(id)? {
            Known::Open(transaction) => {
                self.transactions.end(&transaction, End::Nothing);
                Ok(())
            }
            // It is over already, and nothing of it was written.
            Known::Ended(End::Nothing) => Ok(()),
            Known::Ended(End::Committed) => Err(committed()),
        }
    }
}

/// A transaction that a read began. Unless the client is told of it, it ends with the read: nobody else could end it,
/// and it may hold documents.
#[derive(Debug)]
pub struct Begun {
    gateway: Arc<Gateway>,
    transaction: Arc<Transaction>,
    told: bool,
}

impl Begun {
    /// What the client shall know it by.
    #[must_use]
    pub fn id(&self) -> Vec<u8> {
        self.transaction.id.bytes()
    }

    /// As [`Begun::id`], for the answer.
    #[must_use]
    pub fn tell(mut self) -> Vec<u8> {
        self.told = true;
        self.id()
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if !self.told {
            let transactions = &self.gateway.transactions;
            transactions.end(&self.transaction, End::Nothing);
        }
    }
}

impl Transactions {
    fn give_up(&self, id: Id) {
        if id.process != self.process {
            return;
        }
        let open = self.state().open.get(&id.serial).cloned();
        if let Some(transaction) = open {
            self.end(&transaction, End::Nothing);
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
