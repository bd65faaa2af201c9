//! Faults at chosen moments: a store that goes away or is full, a process that dies, a lease that is lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::sync::Notify;
use whimbrel_model::store::{Description, StatementOutcome};
use whimbrel_model::{
    Body, Code, Document, Journal, JournalError, Key, KeyKind, KeyRange, Limits, Page, Store,
    StoreError, StoreErrorKind, Write, WriteOutcome,
};
use whimbrel_testkit::crashing::{CrashingJournal, JournalCall, Moment, Point};

use crate::common;

/// What is wrong now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Well,
    /// No store answers.
    Gone,
    /// No store can be written.
    Full,
    /// The ledger cannot be written.
    LedgerFull,
    /// The process is dead: nothing of it reaches a store or the ledger.
    Dead,
}

/// What a strike does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    Mode(Mode),
    /// Another process takes the lease.
    LeaseLost,
    /// The call waits for [`Trouble::release`].
    Stall,
}

/// When a blow falls, counted from when it was armed.
#[derive(Clone, Copy, Debug)]
struct Armed {
    blow: Blow,
    call: Call,
    moment: Moment,
    left: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Read,
    Write,
    Statement,
    Append,
}

/// Shared by everything that one process uses.
pub struct Trouble {
    dir: std::path::PathBuf,
    mode: Mutex<Mode>,
    armed: Mutex<Option<Armed>>,
    struck: AtomicBool,
    arrived: Notify,
    go_on: Notify,
}

impl Trouble {
    pub fn new(dir: &std::path::Path) -> Arc<Self> {
        Arc::new(Self {
            dir: dir.to_owned(),
            mode: Mutex::new(Mode::Well),
            armed: Mutex::default(),
            struck: AtomicBool::new(false),
            arrived: Notify::new(),
            go_on: Notify::new(),
        })
    }

    pub fn mode(&self) -> Mode {
        *self.mode.lock().unwrap()
    }

    /// The blow falls at the `nth` call from now on.
    pub fn arm(&self, blow: Blow, call: Call, moment: Moment, nth: u64) {
        *self.armed.lock().unwrap() = Some(Armed {
            blow,
            call,
            moment,
            left: nth,
        });
    }

    pub fn disarm(&self) {
        *self.armed.lock().unwrap() = None;
    }

    pub fn heal(&self) {
        self.disarm();
        *self.mode.lock().unwrap() = Mode::Well;
    }

    /// Whether a blow fell.
    pub fn struck(&self) -> bool {
        self.struck.load(Ordering::SeqCst)
    }

    /// Returns when a call is stalled.
    pub async fn arrived(&self) {
        let long = std::time::Duration::from_secs(30);
        let arrived = tokio::time::timeout(long, self.arrived.notified()).await;
        arrived.expect("nothing was stalled");
    }

    pub fn release(&self) {
        self.go_on.notify_one();
    }

    pub async fn strike(&self, blow: Blow) {
        self.struck.store(true, Ordering::SeqCst);
        match blow {
            Blow::Mode(mode) => *self.mode.lock().unwrap() = mode,
            Blow::LeaseLost => {
                let operator = common::ledger(&self.dir).await;
                operator.break_lease("operator").await.unwrap();
            }
            Blow::Stall => {
                self.arrived.notify_one();
                self.go_on.notified().await;
            }
        }
    }

    fn due(&self, call: Call, moment: Moment) -> Option<Blow> {
        let mut armed = self.armed.lock().unwrap();
        let at = armed.as_mut()?;
        if (at.call, at.moment) != (call, moment) {
            return None;
        }
        at.left -= 1;
        if at.left > 0 {
            return None;
        }
        armed.take().map(|at| at.blow)
    }

    async fn store_call(&self, call: Call, moment: Moment) -> Result<(), StoreError> {
        if let Some(blow) = self.due(call, moment) {
            self.strike(blow).await;
        }
        let (kind, code) = match (self.mode(), call, moment) {
            (Mode::Dead, _, Moment::Before) => (StoreErrorKind::Terminal, Code::StoreUnavailable),
            // It landed, and nobody will know.
            (Mode::Dead, _, Moment::After) => (StoreErrorKind::Unknown, Code::StoreUnknown),
            (Mode::Gone, _, Moment::Before) => (StoreErrorKind::Transient, Code::StoreUnavailable),
            (Mode::Gone, Call::Write | Call::Statement, Moment::After) => {
                (StoreErrorKind::Unknown, Code::StoreUnknown)
            }
            (Mode::Full, Call::Write | Call::Statement, Moment::Before) => {
                (StoreErrorKind::Terminal, Code::StoreFull)
            }
            _ => return Ok(()),
        };
        Err(StoreError::new(kind, code, "test", "a fault of the test"))
    }

    fn journal_call(&self, point: Point) -> Result<(), JournalError> {
        if point.call == JournalCall::Append
            && let Some(Blow::Mode(mode)) = self.due(Call::Append, point.moment)
        {
            self.struck.store(true, Ordering::SeqCst);
            *self.mode.lock().unwrap() = mode;
        }
        let message = match (self.mode(), point.moment) {
            (Mode::Dead, _) => "the process is dead",
            (Mode::LedgerFull, Moment::Before) if point.call != JournalCall::Renew => {
                "the disk is full"
            }
            _ => return Ok(()),
        };
        Err(JournalError::Failed {
            ledger: "test".to_owned(),
            message: message.to_owned(),
        })
    }

    pub fn journal(self: &Arc<Self>, inner: Arc<dyn Journal>) -> Arc<dyn Journal> {
        let me = Arc::clone(self);
        Arc::new(CrashingJournal::new(inner, move |point| {
            me.journal_call(point)
        }))
    }

    pub fn store(self: &Arc<Self>, inner: &Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(Troubled {
            inner: Arc::clone(inner),
            trouble: Arc::clone(self),
        })
    }
}

struct Troubled {
    inner: Arc<dyn Store>,
    trouble: Arc<Trouble>,
}

impl std::fmt::Debug for Troubled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Troubled({:?})", self.inner)
    }
}

impl Troubled {
    async fn around<T>(
        &self,
        call: Call,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.trouble.store_call(call, Moment::Before).await?;
        let answer = work.await?;
        self.trouble.store_call(call, Moment::After).await?;
        Ok(answer)
    }
}

#[async_trait]
impl Store for Troubled {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    async fn collections(&self) -> Result<Vec<String>, StoreError> {
        self.around(Call::Read, self.inner.collections()).await
    }

    async fn describe(&self, collection: &str) -> Result<Option<Description>, StoreError> {
        self.around(Call::Read, self.inner.describe(collection))
            .await
    }

    async fn ensure(&self, collection: &str, key: &KeyKind) -> Result<(), StoreError> {
        self.around(Call::Read, self.inner.ensure(collection, key))
            .await
    }

    async fn count(&self, collection: &str, range: &KeyRange) -> Result<u64, StoreError> {
        self.around(Call::Read, self.inner.count(collection, range))
            .await
    }

    async fn partitions(
        &self,
        collection: &str,
        range: &KeyRange,
        parts: u32,
    ) -> Result<Vec<KeyRange>, StoreError> {
        self.around(Call::Read, self.inner.partitions(collection, range, parts))
            .await
    }

    async fn scan(
        &self,
        collection: &str,
        range: &KeyRange,
        limit: u32,
        bytes: usize,
    ) -> Result<Page, StoreError> {
        let scan = self.inner.scan(collection, range, limit, bytes);
        self.around(Call::Read, scan).await
    }

    async fn get(
        &self,
        collection: &str,
        keys: &[Key],
    ) -> Result<Vec<Option<Document>>, StoreError> {
        self.around(Call::Read, self.inner.get(collection, keys))
            .await
    }

    async fn held(
        &self,
        collection: &str,
        keys: &[Key],
        bodies: Vec<Body>,
    ) -> Result<Vec<Body>, StoreError> {
        self.around(Call::Read, self.inner.held(collection, keys, bodies))
            .await
    }

    async fn write(&self, writes: &[Write]) -> Result<Vec<WriteOutcome>, StoreError> {
        self.around(Call::Write, self.inner.write(writes)).await
    }

    async fn statement(&self, text: &str) -> Result<StatementOutcome, StoreError> {
        self.around(Call::Statement, self.inner.statement(text))
            .await
    }
}
