//! A store that fails as databases and networks do, at places that a seed or a test chooses.

use crate::crashing::Moment;
use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use whimbrel_model::store::{Description, StatementOutcome};
use whimbrel_model::{
    Body, Code, Document, Key, KeyKind, KeyRange, Limits, Page, Store, StoreError, StoreErrorKind,
    Write, WriteOutcome,
};

/// How often a call fails, as shares from 0 to 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The same seed gives the same fault to the same call (the n-th that the store gets).
    pub seed: u64,
    /// Reads and writes that fail without having done anything.
    pub transient: f64,
    /// Writes whose outcome the caller does not learn; half of them landed, as a whole.
    pub unknown: f64,
}

type Hook = dyn Fn(u64, Moment) -> Result<(), StoreError> + Send + Sync;

/// Wraps a store. Without further calls it adds nothing.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    faults: Faults,
    latency: Duration,
    on_write: Option<Box<Hook>>,
    calls: AtomicU64,
    writes: AtomicU64,
    failed: AtomicU64,
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({:?}, {:?})", self.inner, self.faults)
    }
}

/// What a call will suffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Well,
    Transient,
    Unknown { landed: bool },
}

impl FaultyStore {
    #[must_use]
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            faults: Faults::default(),
            latency: Duration::ZERO,
            on_write: None,
            calls: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    #[must_use]
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// How long every call takes at least.
    #[must_use]
    pub fn with_latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Calls `hook` before and after each batch of writes with the batch's number, from 1. The hook may
    /// end the process ([`crate::crashing::kill_self`]). An error that it returns is the call's answer:
    /// before the write nothing is written; after it the caller sees a failure of something that
    /// happened, so the error's kind must be `Unknown` there.
    #[must_use]
    pub fn on_write(
        mut self,
        hook: impl Fn(u64, Moment) -> Result<(), StoreError> + Send + Sync + 'static,
    ) -> Self {
        self.on_write = Some(Box::new(hook));
        self
    }

    /// How many calls were made to fail, by seed or by hook.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::SeqCst)
    }

    fn error(&self, kind: StoreErrorKind) -> StoreError {
        self.failed.fetch_add(1, Ordering::SeqCst);
        let code = match kind {
            StoreErrorKind::Unknown => Code::StoreUnknown,
            _ => Code::StoreUnavailable,
        };
        StoreError::new(kind, code, self.inner.name(), "a fault of the test")
    }

    /// Waits, and says what becomes of the call.
    async fn fate(&self, writes: bool) -> Fate {
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        let n = self.calls.fetch_add(1, Ordering::SeqCst);
        let mut random = StdRng::seed_from_u64(self.faults.seed.rotate_left(32) ^ n);
        let draw: f64 = random.random();
        if draw < self.faults.transient {
            Fate::Transient
        } else if writes && draw < self.faults.transient + self.faults.unknown {
            Fate::Unknown {
                landed: random.random(),
            }
        } else {
            Fate::Well
        }
    }

    async fn read(&self) -> Result<(), StoreError> {
        match self.fate(false).await {
            Fate::Well => Ok(()),
            _ => Err(self.error(StoreErrorKind::Transient)),
        }
    }

    fn hook(&self, n: u64, moment: Moment) -> Result<(), StoreError> {
        let Some(hook) = &self.on_write else {
            return Ok(());
        };
        hook(n, moment).inspect_err(|_| {
            self.failed.fetch_add(1, Ordering::SeqCst);
        })
    }
}

#[async_trait]
impl Store for FaultyStore {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn held_key(&self, collection: &str, key: &Key) -> Option<Key> {
        self.inner.held_key(collection, key)
    }

    fn not_carried(&self) -> Option<&'static str> {
        self.inner.not_carried()
    }

    async fn collections(&self) -> Result<Vec<String>, StoreError> {
        self.read().await?;
        self.inner.collections().await
    }

    async fn describe(&self, collection: &str) -> Result<Option<Description>, StoreError> {
        self.read().await?;
        self.inner.describe(collection).await
    }

    async fn ensure(&self, collection: &str, key: &KeyKind) -> Result<(), StoreError> {
        self.read().await?;
        self.inner.ensure(collection, key).await
    }

    async fn count(&self, collection: &str, range: &KeyRange) -> Result<u64, StoreError> {
        self.read().await?;
        self.inner.count(collection, range).await
    }

    async fn partitions(
        &self,
        collection: &str,
        range: &KeyRange,
        parts: u32,
    ) -> Result<Vec<KeyRange>, StoreError> {
        self.read().await?;
        self.inner.partitions(collection, range, parts).await
    }

    async fn scan(
        &self,
        collection: &str,
        range: &KeyRange,
        limit: u32,
        bytes: usize,
    ) -> Result<Page, StoreError> {
        self.read().await?;
        self.inner.scan(collection, range, limit, bytes).await
    }

    async fn position_ranges(
        &self,
        collection: &str,
        after: Option<&Key>,
        parts: u32,
    ) -> Result<Option<Vec<KeyRange>>, StoreError> {
        self.read().await?;
        self.inner.position_ranges(collection, after, parts).await
    }

    async fn scan_positions(
        &self,
        collection: &str,
        range: &KeyRange,
        limit: u32,
        bytes: usize,
    ) -> Result<Page, StoreError> {
        self.read().await?;
        self.inner
            .scan_positions(collection, range, limit, bytes)
            .await
    }

    async fn get(
        &self,
        collection: &str,
        keys: &[Key],
    ) -> Result<Vec<Option<Document>>, StoreError> {
        self.read().await?;
        self.inner.get(collection, keys).await
    }

    async fn held(
        &self,
        collection: &str,
        keys: &[Key],
        bodies: Vec<Body>,
    ) -> Result<Vec<Body>, StoreError> {
        self.read().await?;
        self.inner.held(collection, keys, bodies).await
    }

    async fn write(&self, writes: &[Write]) -> Result<Vec<WriteOutcome>, StoreError> {
        let fate = self.fate(true).await;
        let n = self.writes.fetch_add(1, Ordering::SeqCst) + 1;
        match fate {
            Fate::Transient => return Err(self.error(StoreErrorKind::Transient)),
            Fate::Unknown { landed: false } => return Err(self.error(StoreErrorKind::Unknown)),
            Fate::Well | Fate::Unknown { landed: true } => {}
        }
        self.hook(n, Moment::Before)?;
        let outcomes = self.inner.write(writes).await?;
        self.hook(n, Moment::After)?;
        match fate {
            Fate::Well => Ok(outcomes),
            _ => Err(self.error(StoreErrorKind::Unknown)),
        }
    }

    /// Reading it fails as reading the store itself does, with faults of the same kind.
    async fn snapshot(&self) -> Result<Option<Arc<dyn Store>>, StoreError> {
        self.read().await?;
        let snapshot = self.inner.snapshot().await?;
        Ok(snapshot.map(|inner| {
            let faulty = Self::new(inner)
                .with_faults(self.faults)
                .with_latency(self.latency);
            Arc::new(faulty) as Arc<dyn Store>
        }))
    }

    async fn statement(&self, text: &str) -> Result<StatementOutcome, StoreError> {
        match self.fate(true).await {
            Fate::Transient => Err(self.error(StoreErrorKind::Transient)),
            Fate::Unknown { landed: false } => Err(self.error(StoreErrorKind::Unknown)),
            Fate::Well => self.inner.statement(text).await,
            Fate::Unknown { landed: true } => {
                self.inner.statement(text).await?;
                Err(self.error(StoreErrorKind::Unknown))
            }
        }
    }
}
