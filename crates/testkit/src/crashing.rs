//! A journal that stops at each of its writes, so that a test can make it fail, or kill its process there.

use async_trait::async_trait;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use whimbrel_model::ledger::{
    Filed, Lease, PreimageBlock, PreimageHit, QuarantineItem, Record, Request,
};
use whimbrel_model::{Journal, JournalError, Key};

/// The writing calls of a [`Journal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalCall {
    Append,
    PutPreimages,
    Renew,
    SettleRequest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing has reached the journal yet.
    Before,
    /// The write is durable; its caller does not know so yet.
    After,
}

/// Where a journal stands in its writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    pub call: JournalCall,
    /// Counts the calls of this kind, from 1.
    pub n: u64,
    pub moment: Moment,
}

type Hook = dyn Fn(Point) -> Result<(), JournalError> + Send + Sync;

/// Calls a hook before and after each write of the journal inside. The hook may end the process
/// ([`kill_self`]); an error that it returns is the call's answer: before the write, nothing is written;
/// after it, the caller sees a failure of something that happened.
pub struct CrashingJournal {
    inner: Arc<dyn Journal>,
    hook: Box<Hook>,
    calls: [AtomicU64; 4],
}

impl fmt::Debug for CrashingJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CrashingJournal({})", self.inner.name())
    }
}

impl CrashingJournal {
    pub fn new(
        inner: Arc<dyn Journal>,
        hook: impl Fn(Point) -> Result<(), JournalError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner,
            hook: Box::new(hook),
            calls: Default::default(),
        }
    }

    async fn around<T>(
        &self,
        call: JournalCall,
        write: impl Future<Output = Result<T, JournalError>> + Send,
    ) -> Result<T, JournalError> {
        let n = self.calls[call as usize].fetch_add(1, Ordering::SeqCst) + 1;
        let point = |moment| Point { call, n, moment };
        (self.hook)(point(Moment::Before))?;
        let answer = write.await?;
        (self.hook)(point(Moment::After))?;
        Ok(answer)
    }
}

/// Ends this process as `kill -9` does: no destructor runs, nothing is flushed.
pub fn kill_self() -> ! {
    let pid = std::process::id().to_string();
    // Where there is no `kill`, an abort is as sudden.
    let _ = std::process::Command::new("kill")
        .args(["-9", &pid])
        .status();
    std::process::abort()
}

#[async_trait]
impl Journal for CrashingJournal {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn read(&self, after: u64, limit: u32) -> Result<Vec<Record>, JournalError> {
        self.inner.read(after, limit).await
    }

    async fn append(
        &self,
        fence: u64,
        records: &[Record],
        filed: Filed<'_>,
    ) -> Result<(), JournalError> {
        self.around(
            JournalCall::Append,
            self.inner.append(fence, records, filed),
        )
        .await
    }

    async fn put_preimages(&self, fence: u64, block: &PreimageBlock) -> Result<(), JournalError> {
        self.around(
            JournalCall::PutPreimages,
            self.inner.put_preimages(fence, block),
        )
        .await
    }

    async fn preimages(
        &self,
        subject: &str,
        keys: &[Key],
    ) -> Result<Vec<Vec<PreimageHit>>, JournalError> {
        self.inner.preimages(subject, keys).await
    }

    async fn blocks_of(
        &self,
        run: &str,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, PreimageBlock)>, JournalError> {
        self.inner.blocks_of(run, before, limit).await
    }

    async fn ask(&self, request: &Request) -> Result<u64, JournalError> {
        self.inner.ask(request).await
    }

    async fn requests(&self) -> Result<Vec<Request>, JournalError> {
        self.inner.requests().await
    }

    async fn settle_request(&self, fence: u64, id: u64) -> Result<(), JournalError> {
        self.around(
            JournalCall::SettleRequest,
            self.inner.settle_request(fence, id),
        )
        .await
    }

    async fn quarantined(
        &self,
        subject: Option<&str>,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, QuarantineItem)>, JournalError> {
        self.inner.quarantined(subject, after, limit).await
    }

    async fn waiting(&self, subject: &str, labels: &[String]) -> Result<Vec<String>, JournalError> {
        self.inner.waiting(subject, labels).await
    }

    async fn acquire(&self, holder: &str, ttl_ms: u64) -> Result<Lease, JournalError> {
        self.inner.acquire(holder, ttl_ms).await
    }

    async fn renew(&self, fence: u64, ttl_ms: u64) -> Result<(), JournalError> {
        self.around(JournalCall::Renew, self.inner.renew(fence, ttl_ms))
            .await
    }

    async fn give_up(&self, fence: u64) -> Result<(), JournalError> {
        self.inner.give_up(fence).await
    }

    async fn lease(&self) -> Result<Option<Lease>, JournalError> {
        self.inner.lease().await
    }

    async fn break_lease(&self, by: &str, ttl_ms: u64) -> Result<Lease, JournalError> {
        self.inner.break_lease(by, ttl_ms).await
    }
}
