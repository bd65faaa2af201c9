//! Counts what the abort rules judge: the stores' calls and failures, and checks that failed.

use async_trait::async_trait;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use whimbrel_model::store::Description;
use whimbrel_model::{
    Body, Cell, Cells, DigestLine, Digests, Document, Key, KeyKind, KeyRange, Limits, Page,
    StatementOutcome, Store, StoreError, Write, WriteOutcome,
};

const SECONDS: usize = 60;

/// Calls and failures of the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    pub calls: u64,
    pub failed: u64,
}

impl Rate {
    /// 0 to 1; 0 where nothing was called.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn share(&self) -> f64 {
        if self.calls == 0 {
            0.0
        } else {
            self.failed as f64 / self.calls as f64
        }
    }
}

/// Counters that any number of stores share.
#[derive(Debug)]
pub struct Metered {
    begun: Instant,
    slots: Mutex<[Slot; SECONDS]>,
    checks: AtomicU64,
}

/// What happened in one second.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    second: u64,
    rate: Rate,
}

impl Default for Metered {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            slots: Mutex::new([Slot::default(); SECONDS]),
            checks: AtomicU64::new(0),
        }
    }
}

impl Metered {
    /// Calls and failures of the last minute.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate_at(self.begun.elapsed().as_secs())
    }

    /// A `verify` step found that so many of its checks fail.
    pub fn checks_failed(&self, checks: u64) {
        self.checks.fetch_add(checks, Ordering::Relaxed);
    }

    /// Checks that failed so far.
    #[must_use]
    pub fn checks(&self) -> u64 {
        self.checks.load(Ordering::Relaxed)
    }

    fn record(&self, failed: bool) {
        self.record_at(self.begun.elapsed().as_secs(), failed);
    }

    fn record_at(&self, second: u64, failed: bool) {
        let Ok(mut slots) = self.slots.lock() else {
            return;
        };
        let slot = &mut slots[(second % SECONDS as u64) as usize];
        if slot.second != second {
            *slot = Slot {
                second,
                rate: Rate::default(),
            };
        }
        slot.rate.calls += 1;
        slot.rate.failed += u64::from(failed);
    }

    fn rate_at(&self, second: u64) -> Rate {
        let Ok(slots) = self.slots.lock() else {
            return Rate::default();
        };
        let recent = slots
            .iter()
            .filter(|slot| slot.second + SECONDS as u64 > second);
        recent.fold(Rate::default(), |sum, slot| Rate {
            calls: sum.calls + slot.rate.calls,
            failed: sum.failed + slot.rate.failed,
        })
    }
}

/// A store whose calls are counted.
#[derive(Debug)]
pub struct MeteredStore {
    inner: Arc<dyn Store>,
    meter: Arc<Metered>,
}

impl MeteredStore {
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, meter: Arc<Metered>) -> Self {
        Self { inner, meter }
    }

    async fn metered<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let answer = call.await;
        self.meter.record(answer.is_err());
        answer
    }
}

#[async_trait]
impl Store for MeteredStore {
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
        self.metered(self.inner.collections()).await
    }

    async fn describe(&self, collection: &str) -> Result<Option<Description>, StoreError> {
        self.metered(self.inner.describe(collection)).await
    }

    async fn ensure(&self, collection: &str, key: &KeyKind) -> Result<(), StoreError> {
        self.metered(self.inner.ensure(collection, key)).await
    }

    async fn count(&self, collection: &str, range: &KeyRange) -> Result<u64, StoreError> {
        self.metered(self.inner.count(collection, range)).await
    }

    async fn partitions(
        &self,
        collection: &str,
        range: &KeyRange,
        parts: u32,
    ) -> Result<Vec<KeyRange>, StoreError> {
        self.metered(self.inner.partitions(collection, range, parts))
            .await
    }

    async fn scan(
        &self,
        collection: &str,
        range: &KeyRange,
        limit: u32,
        bytes: usize,
    ) -> Result<Page, StoreError> {
        self.metered(self.inner.scan(collection, range, limit, bytes))
            .await
    }

    async fn position_ranges(
        &self,
        collection: &str,
        after: Option<&Key>,
        parts: u32,
    ) -> Result<Option<Vec<KeyRange>>, StoreError> {
        self.metered(self.inner.position_ranges(collection, after, parts))
            .await
    }

    async fn scan_positions(
        &self,
        collection: &str,
        range: &KeyRange,
        limit: u32,
        bytes: usize,
    ) -> Result<Page, StoreError> {
        self.metered(self.inner.scan_positions(collection, range, limit, bytes))
            .await
    }

    async fn get(
        &self,
        collection: &str,
        keys: &[Key],
    ) -> Result<Vec<Option<Document>>, StoreError> {
        self.metered(self.inner.get(collection, keys)).await
    }

    async fn held(
        &self,
        collection: &str,
        keys: &[Key],
        bodies: Vec<Body>,
    ) -> Result<Vec<Body>, StoreError> {
        self.metered(self.inner.held(collection, keys, bodies))
            .await
    }

    async fn write(&self, writes: &[Write]) -> Result<Vec<WriteOutcome>, StoreError> {
        self.metered(self.inner.write(writes)).await
    }

    async fn snapshot(&self) -> Result<Option<Arc<dyn Store>>, StoreError> {
        let snapshot = self.metered(self.inner.snapshot()).await?;
        Ok(snapshot
            .map(|inner| Arc::new(Self::new(inner, Arc::clone(&self.meter))) as Arc<dyn Store>))
    }

    async fn digests(
        &self,
        collection: &str,
        cells: &Cells,
    ) -> Result<Option<Digests>, StoreError> {
        self.metered(self.inner.digests(collection, cells)).await
    }

    async fn digest_lines(
        &self,
        collection: &str,
        cells: &Cells,
        wanted: &[Cell],
    ) -> Result<Option<Vec<DigestLine>>, StoreError> {
        self.metered(self.inner.digest_lines(collection, cells, wanted))
            .await
    }

    async fn statement(&self, text: &str) -> Result<StatementOutcome, StoreError> {
        self.metered(self.inner.statement(text)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_model::{Code, StoreErrorKind};

    #[test]
    fn a_minute_slides() {
        let meter = Metered::default();
        let rate = |calls, failed| Rate { calls, failed };
        for (second, failed) in [(0, true), (0, false), (30, true), (59, false)] {
            meter.record_at(second, failed);
        }
        for (second, expect) in [
            (59, rate(4, 2)),
            (60, rate(2, 1)),
            (89, rate(2, 1)),
            (90, rate(1, 0)),
            (119, rate(0, 0)),
            (100_000, rate(0, 0)),
        ] {
            assert_eq!(meter.rate_at(second), expect, "at {second}");
        }
        // A second takes the place of the one a minute before it.
        meter.record_at(60, true);
        assert_eq!(meter.rate_at(60), rate(3, 2));
    }

    /// Answers every call with an error that names it.
    #[derive(Debug)]
    struct Echo;

    fn echo<T>(call: &str) -> Result<T, StoreError> {
        Err(StoreError::new(
            StoreErrorKind::Transient,
            Code::StoreUnavailable,
            "echo",
            call,
        ))
    }

    #[async_trait]
    impl Store for Echo {
        fn name(&self) -> &str {
            "echo"
        }
        fn limits(&self) -> Limits {
            Limits {
                batch_writes: 7,
                batch_bytes: 7,
                document_bytes: 7,
                key_order: true,
                parallel: 7,
            }
        }
        fn held_key(&self, collection: &str, _: &Key) -> Option<Key> {
            Some(Key::text(collection))
        }
        fn not_carried(&self) -> Option<&'static str> {
            Some("echo")
        }
        async fn collections(&self) -> Result<Vec<String>, StoreError> {
            echo("collections")
        }
        async fn describe(&self, _: &str) -> Result<Option<Description>, StoreError> {
            echo("describe")
        }
        async fn ensure(&self, _: &str, _: &KeyKind) -> Result<(), StoreError> {
            echo("ensure")
        }
        async fn count(&self, _: &str, _: &KeyRange) -> Result<u64, StoreError> {
            echo("count")
        }
        async fn partitions(
            &self,
            _: &str,
            _: &KeyRange,
            _: u32,
        ) -> Result<Vec<KeyRange>, StoreError> {
            echo("partitions")
        }
        async fn scan(&self, _: &str, _: &KeyRange, _: u32, _: usize) -> Result<Page, StoreError> {
            echo("scan")
        }
        async fn position_ranges(
            &self,
            _: &str,
            _: Option<&Key>,
            _: u32,
        ) -> Result<Option<Vec<KeyRange>>, StoreError> {
            echo("position_ranges")
        }
        async fn scan_positions(
            &self,
            _: &str,
            _: &KeyRange,
            _: u32,
            _: usize,
        ) -> Result<Page, StoreError> {
            echo("scan_positions")
        }
        async fn get(&self, _: &str, _: &[Key]) -> Result<Vec<Option<Document>>, StoreError> {
            echo("get")
        }
        async fn held(&self, _: &str, _: &[Key], _: Vec<Body>) -> Result<Vec<Body>, StoreError> {
            echo("held")
        }
        async fn write(&self, _: &[Write]) -> Result<Vec<WriteOutcome>, StoreError> {
            echo("write")
        }
        async fn snapshot(&self) -> Result<Option<Arc<dyn Store>>, StoreError> {
            Ok(Some(Arc::new(Echo)))
        }
        async fn digests(&self, _: &str, _: &Cells) -> Result<Option<Digests>, StoreError> {
            echo("digests")
        }
        async fn digest_lines(
            &self,
            _: &str,
            _: &Cells,
            _: &[Cell],
        ) -> Result<Option<Vec<DigestLine>>, StoreError> {
            echo("digest_lines")
        }
        async fn statement(&self, _: &str) -> Result<StatementOutcome, StoreError> {
            echo("statement")
        }
    }

    fn heard<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> String {
        answer.unwrap_err().message
    }

    #[tokio::test]
    async fn every_call_reaches_the_store_and_is_counted() {
        let meter = Arc::new(Metered::default());
        let store = MeteredStore::new(Arc::new(Echo), Arc::clone(&meter));
        let (all, key) = (KeyRange::all(), KeyKind::Text);
        let cells = Cells {
            range: KeyRange::all(),
            cuts: vec![],
            each: 1,
        };
        assert_eq!((store.name(), store.limits()), ("echo", Echo.limits()));
        assert_eq!(store.not_carried(), Some("echo"));
        assert_eq!(store.held_key("c", &Key::Int(1)), Some(Key::text("c")));
        let heard = [
            heard(store.collections().await),
            heard(store.describe("c").await),
            heard(store.ensure("c", &key).await),
            heard(Store::count(&store, "c", &all).await),
            heard(store.partitions("c", &all, 1).await),
            heard(store.scan("c", &all, 1, 1).await),
            heard(store.position_ranges("c", None, 1).await),
            heard(store.scan_positions("c", &all, 1, 1).await),
            heard(store.get("c", &[]).await),
            heard(store.held("c", &[], vec![]).await),
            heard(store.write(&[]).await),
            heard(store.digests("c", &cells).await),
            heard(store.digest_lines("c", &cells, &[]).await),
            heard(store.statement("x").await),
        ];
        let calls = [
            "collections",
            "describe",
            "ensure",
            "count",
            "partitions",
            "scan",
            "position_ranges",
            "scan_positions",
            "get",
            "held",
            "write",
            "digests",
            "digest_lines",
            "statement",
        ];
        assert_eq!(heard, calls);
        let failed = calls.len() as u64;
        assert_eq!(
            meter.rate(),
            Rate {
                calls: failed,
                failed
            }
        );
        // A snapshot's calls count too.
        let snapshot = store.snapshot().await.unwrap().unwrap();
        assert!(snapshot.get("c", &[]).await.is_err());
        let rate = meter.rate();
        assert_eq!((rate.calls, rate.failed), (failed + 2, failed + 1));
    }
}
