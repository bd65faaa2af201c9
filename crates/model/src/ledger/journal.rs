//! Where a ledger lives, and who may write it.

use super::{FORMAT, FoldError, Record, RunId};
use crate::{Code, DocError, Key};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// Who may write the ledger now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Grows with every acquisition and never comes back.
    pub fence: u64,
    /// `user@host pid 123: upgrade app/conversations to v3`
    pub holder: String,
    pub acquired_at: String,
    /// Renewed while the holder lives; past it anybody may take the lease.
    pub expires_at: String,
    /// Whether it has passed by the ledger's own clock.
    pub expired: bool,
}

/// Documents as they were before a chunk of an upgrade wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreimageBlock {
    pub run: RunId,
    /// `store/collection`
    pub subject: String,
    /// The documents' keys, in the order they stand in `data`.
    pub keys: Vec<Key>,
    /// The engine's own encoding, compressed.
    pub data: Vec<u8>,
}

/// Where one key's pre-image lies.
#[derive(Clone, Debug)]
pub struct PreimageHit {
    /// Grows with every block written.
    pub block: u64,
    pub run: RunId,
    pub index: u32,
    pub data: std::sync::Arc<Vec<u8>>,
}

/// A document that waits, with its error. The document itself stays in its store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineItem {
    /// `upgrade app/conversations`: the job's subject.
    pub subject: String,
    pub run: RunId,
    /// The key as text, or where the row stands.
    pub label: String,
    /// `None` where the row's key is unreadable.
    pub key: Option<Key>,
    /// The schema version the document had, where it could be read.
    pub version: Option<u32>,
    pub error: DocError,
    pub at: String,
    pub attempts: u32,
}

/// What an append does to quarantine, in its own transaction: first documents leave it, then others enter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filed<'a> {
    /// An item replaces a waiting one of the same subject and label; its `attempts` then goes on.
    pub quarantine: &'a [QuarantineItem],
    /// A subject, and the labels of its documents that no longer wait.
    pub released: Option<(&'a str, &'a [String])>,
}

impl<'a> From<&'a [QuarantineItem]> for Filed<'a> {
    fn from(quarantine: &'a [QuarantineItem]) -> Self {
        Self {
            quarantine,
            released: None,
        }
    }
}

impl<'a, const N: usize> From<&'a [QuarantineItem; N]> for Filed<'a> {
    fn from(quarantine: &'a [QuarantineItem; N]) -> Self {
        quarantine.as_slice().into()
    }
}

impl<'a> From<&'a Vec<QuarantineItem>> for Filed<'a> {
    fn from(quarantine: &'a Vec<QuarantineItem>) -> Self {
        quarantine.as_slice().into()
    }
}

/// What somebody asks of the process that holds the lease: pause, resume, abort, an approval. It is taken
/// in by that process, and only what it does about it enters the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Grows with every request.
    pub id: u64,
    /// `pause`, `abort`, `approve`
    pub what: String,
    /// The migration it speaks of.
    pub subject: String,
    /// Who asks.
    pub by: String,
    /// More of it: a step's name, a reason.
    pub detail: String,
    pub at: String,
}

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another writer appended first: re-read and decide anew.
    #[error("the ledger moved on to record {head} meanwhile")]
    Moved { head: u64 },
    /// The lease is another's now: this process may write nothing more.
    #[error("the ledger's lease was lost; it is held by {holder}")]
    Fenced { holder: String },
    #[error("the lease is held by {} since {} (until {})", .0.holder, .0.acquired_at, .0.expires_at)]
    Held(Box<Lease>),
    #[error(
        "the ledger {ledger} has format {found}, newer than this program's {FORMAT}; use the newer program"
    )]
    NewerFormat { ledger: String, found: u32 },
    #[error(transparent)]
    Fold(#[from] FoldError),
    #[error("the ledger {ledger} cannot be used: {message}")]
    Failed { ledger: String, message: String },
}

impl JournalError {
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Moved { .. } => Code::LedgerMoved,
            Self::Fenced { .. } => Code::LeaseLost,
            Self::Held(_) => Code::LeaseHeld,
            Self::NewerFormat { .. } | Self::Fold(FoldError::Newer { .. }) => Code::LedgerNewer,
            Self::Fold(_) => Code::LedgerBroken,
            Self::Failed { .. } => Code::LedgerFailed,
        }
    }
}

/// Where the ledger lives. Every writing call carries the fencing token of the caller's lease and is
/// refused ([`JournalError::Fenced`]) in the same transaction when the lease is another's now.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Without any secret.
    fn name(&self) -> &str;

    /// Records after `after`, oldest first, at most `limit`.
    async fn read(&self, after: u64, limit: u32) -> Result<Vec<Record>, JournalError>;

    /// Appends records, and files and releases the quarantined documents that they count, durably, all or
    /// nothing.
    async fn append(
        &self,
        fence: u64,
        records: &[Record],
        filed: Filed<'_>,
    ) -> Result<(), JournalError>;

    /// Stores a block durably, before the write that it makes undoable. All blocks are kept, also several
    /// of one key in one run (a lost guard, a chunk done again): the reader tells by the fingerprint of
    /// the document which of them a write was made from.
    async fn put_preimages(&self, fence: u64, block: &PreimageBlock) -> Result<(), JournalError>;

    /// Every pre-image of each key, newest first.
    async fn preimages(
        &self,
        subject: &str,
        keys: &[Key],
    ) -> Result<Vec<Vec<PreimageHit>>, JournalError>;

    /// The pre-image blocks of a run, newest first, older than `before`.
    async fn blocks_of(
        &self,
        run: &str,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, PreimageBlock)>, JournalError>;

    /// Leaves a request for whoever holds the lease. Needs none itself. `id` and `at` are the ledger's.
    async fn ask(&self, request: &Request) -> Result<u64, JournalError>;

    /// Requests that nobody took yet, oldest first. None in a ledger of an older program that was opened
    /// for reading.
    async fn requests(&self) -> Result<Vec<Request>, JournalError>;

    /// Removes a request that was heeded or refused. One that is no longer there is no error.
    async fn settle_request(&self, fence: u64, id: u64) -> Result<(), JournalError>;

    /// Waiting documents of a subject (all subjects where `None`) in filing order, after the label
    /// `after` of that subject.
    async fn quarantined(
        &self,
        subject: Option<&str>,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, QuarantineItem)>, JournalError>;

    /// Those of the labels whose documents wait, in the order of the labels.
    async fn waiting(&self, subject: &str, labels: &[String]) -> Result<Vec<String>, JournalError>;

    /// Takes the lease, if nobody has it or its time is over.
    async fn acquire(&self, holder: &str, ttl_ms: u64) -> Result<Lease, JournalError>;

    async fn renew(&self, fence: u64, ttl_ms: u64) -> Result<(), JournalError>;

    async fn give_up(&self, fence: u64) -> Result<(), JournalError>;

    async fn lease(&self) -> Result<Option<Lease>, JournalError>;

    /// Takes the lease from whoever has it; the old holder can write nothing more.
    async fn break_lease(&self, by: &str, ttl_ms: u64) -> Result<Lease, JournalError>;
}
