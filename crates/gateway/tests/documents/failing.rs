//! Stores that fail, and stores that others write to.

use crate::stage::*;
use crate::transactions::on_duty;
use async_trait::async_trait;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tonic::Code;
use whimbrel_firestore::backend::{
    Batch, Change, Decide, Foreign, Found, IndexId, IndexState, Stored,
};
use whimbrel_firestore::v1::BatchWriteRequest;
use whimbrel_firestore::{Backend, Micros, Place, View};
use whimbrel_gateway::{Gateway, documents};
use whimbrel_model::{Code as Why, StoreError, StoreErrorKind};

/// A store in memory that fails when it is told to, and that others seem to write to.
#[derive(Debug)]
struct Troubled {
    inner: Arc<dyn Backend>,
    /// A commit that writes this key fails, once decided.
    poison: &'static str,
    kind: StoreErrorKind,
    /// Whether the commit is there although it failed.
    lands: bool,
    /// Whether commits that settle changes of others land and fail with an unknown outcome.
    settling_is_unknown: AtomicBool,
    /// Whether a commit is the end of the committer.
    panics: AtomicBool,
    commits: AtomicU64,
    foreign: Mutex<Vec<Change>>,
    /// A mark of changes that concern no document.
    of_nothing: Mutex<Option<u64>>,
    settled: Mutex<Vec<u64>>,
}

impl Troubled {
    async fn new(poison: &'static str, kind: StoreErrorKind, lands: bool) -> Arc<Self> {
        Arc::new(Self {
            inner: open("memory:").await,
            poison,
            kind,
            lands,
            settling_is_unknown: AtomicBool::new(false),
            panics: AtomicBool::new(false),
            commits: AtomicU64::new(0),
            foreign: Mutex::default(),
            of_nothing: Mutex::default(),
            settled: Mutex::default(),
        })
    }
}

#[async_trait]
impl Backend for Troubled {
    fn name(&self) -> &str {
        "troubled"
    }

    async fn get(&self, places: &[Place]) -> Result<Vec<Option<Stored>>, StoreError> {
        self.inner.get(places).await
    }

    async fn view(&self) -> Result<Box<dyn View>, StoreError> {
        self.inner.view().await
    }

    async fn commit(&self, touch: &[Place], mut decide: Decide) -> Result<(), StoreError> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        assert!(!self.panics.load(Ordering::SeqCst), "on purpose");
        // Begun anew, as a store does whose transaction was refused: what is decided last counts.
        let mut again: Batch = decide(&Found::new());
        let failed = Arc::new(Mutex::new(false));
        let settled = Arc::new(Mutex::new(None));
        let (poison, lands) = (self.poison, self.lands);
        let (has_failed, has_settled) = (failed.clone(), settled.clone());
        again.documents.clear();
        let outcome = self
            .inner
            .commit(
                touch,
                Box::new(move |found| {
                    let mut batch = decide(found);
                    let bad = batch.documents.iter().any(|put| &*put.place.key == poison);
                    *has_failed.lock().unwrap() = bad;
                    *has_settled.lock().unwrap() = batch.settled;
                    if bad && !lands {
                        batch.documents.clear();
                    }
                    batch
                }),
            )
            .await;
        let failure = |kind| {
            let message = "the commit failed on purpose";
            Err(StoreError::new(kind, Why::StoreFailed, "troubled", message))
        };
        if *failed.lock().unwrap() {
            return failure(self.kind);
        }
        let settles = settled.lock().unwrap().is_some();
        if settles && self.settling_is_unknown.load(Ordering::SeqCst) {
            return failure(StoreErrorKind::Unknown);
        }
        if let Some(mark) = *settled.lock().unwrap() {
            self.settled.lock().unwrap().push(mark);
        }
        outcome
    }

    async fn last_commit(&self) -> Result<Micros, StoreError> {
        self.inner.last_commit().await
    }

    async fn foreign(&self, _: u32) -> Result<Foreign, StoreError> {
        let mut changes = self.foreign.lock().unwrap();
        let more = changes.len() > 2;
        let rest = if more {
            changes.split_off(2)
        } else {
            Vec::new()
        };
        let some = std::mem::replace(&mut *changes, rest);
        Ok(Foreign {
            mark: match some.len() as u64 {
                0 => self.of_nothing.lock().unwrap().take(),
                some => Some(some),
            },
            changes: some,
            more,
        })
    }

    async fn indexes(&self) -> Result<Vec<IndexState>, StoreError> {
        self.inner.indexes().await
    }

    async fn create_index(&self, definition: &str) -> Result<IndexState, StoreError> {
        self.inner.create_index(definition).await
    }

    async fn index_ready(&self, index: IndexId) -> Result<(), StoreError> {
        self.inner.index_ready(index).await
    }

    async fn forget(&self, horizon: Micros) -> Result<(), StoreError> {
        self.inner.forget(horizon).await
    }
}

#[tokio::test]
async fn one_document_that_cannot_be_written_fails_its_own_request_only() {
    let store = Troubled::new("bad", StoreErrorKind::Terminal, false).await;
    let stage = Arc::new(Stage::over(store.clone()).await);
    let requests: Vec<_> = (0..40)
        .map(|i| {
            let stage = stage.clone();
            let path = if i == 17 {
                "a/bad".to_owned()
            } else {
                format!("a/{i}")
            };
            tokio::spawn(async move { stage.commit(vec![set(&path, n(i))]).await })
        })
        .collect();
    for (i, request) in requests.into_iter().enumerate() {
        let outcome = request.await.unwrap();
        if i == 17 {
            refused(outcome, Code::FailedPrecondition);
        } else {
            outcome.unwrap();
            assert_eq!(n_of(&stage.get(&format!("a/{i}")).await.unwrap()), i as i64);
        }
    }
    // They were grouped, all the same.
    assert!(store.commits.load(Ordering::SeqCst) < 30);
    assert!(stage.get("a/bad").await.is_none());
    stage.write(vec![set("a/after", n(1))]).await;
}

#[tokio::test]
async fn a_commit_that_may_be_there_is_answered_with_a_code_that_no_client_retries() {
    for lands in [false, true] {
        let store = Troubled::new("bad", StoreErrorKind::Unknown, lands).await;
        let stage = Stage::over(store).await;
        let id = stage.begin().await;
        stage.get_in(&id, "a/bad").await.unwrap();
        let outcome = stage.commit_in(&id, vec![set("a/bad", n(1))]).await;
        refused(outcome, Code::DataLoss);
        assert_eq!(stage.get("a/bad").await.is_some(), lands);
        // Nor is the transaction said to be one that can be run again.
        let words = refused(stage.commit_in(&id, vec![]).await, Code::InvalidArgument);
        assert!(!words.contains("expired"), "{words}");
        assert_eq!(stage.gateway.transactions.load(), (0, 0));
        // A request that was refused by its documents was refused.
        let refusal = stage
            .commit(vec![if_exists(true, set("a/missing", n(1)))])
            .await;
        refused(refusal, Code::NotFound);
    }
    let store = Troubled::new("bad", StoreErrorKind::Transient, false).await;
    let stage = Stage::over(store).await;
    let id = stage.begin().await;
    let outcome = stage.commit_in(&id, vec![set("a/bad", n(1))]).await;
    refused(outcome, Code::Unavailable);
    let words = refused(stage.commit_in(&id, vec![]).await, Code::InvalidArgument);
    assert!(words.contains("transaction has expired"), "{words}");
}

fn changed(key: &str, at: Micros) -> Change {
    Change {
        place: Place {
            collection: "a".into(),
            key: key.into(),
        },
        at,
        before: None,
        after: None,
    }
}

#[tokio::test]
async fn where_it_is_unknown_whether_changes_of_others_were_taken_in_nobody_relies_on_what_was() {
    let store = Troubled::new("", StoreErrorKind::Terminal, false).await;
    let stage = Stage::over(store.clone()).await;
    let written = stage.write(vec![set("duty/1", n(1))]).await;
    let listener = stage.gateway.feed.listen();
    let id = stage.begin().await;
    assert_eq!(on_duty(&stage, &id).await.unwrap(), 1);
    assert!(!listener.take().behind);
    *store.foreign.lock().unwrap() = vec![changed("1", written + 1)];
    store.settling_is_unknown.store(true, Ordering::SeqCst);
    refused(stage.gateway.catch_up().await, Code::DataLoss);
    // The store may not tell of these changes again.
    store.settling_is_unknown.store(false, Ordering::SeqCst);
    assert!(listener.take().behind, "listeners read anew");
    let rests = stage.commit_in(&id, vec![set("result/1", n(1))]).await;
    refused(rests, Code::Aborted);
}

#[tokio::test]
async fn when_the_committer_ends_everybody_hears_of_it() {
    let store = Troubled::new("", StoreErrorKind::Terminal, false).await;
    let stage = Stage::over(store.clone()).await;
    let failed = stage.gateway.failed();
    tokio::pin!(failed);
    stage.write(vec![set("a/1", n(1))]).await;
    let soon = std::time::Duration::from_millis(20);
    assert!(tokio::time::timeout(soon, &mut failed).await.is_err());
    let id = stage.begin().await;
    stage.get_in(&id, "a/1").await.unwrap();
    store.panics.store(true, Ordering::SeqCst);
    let outcome = stage.commit_in(&id, vec![set("a/1", n(2))]).await;
    refused(outcome, Code::DataLoss);
    failed.await;
    stage.gateway.failed().await;
    // What was under way may be there; what comes now is not.
    let words = refused(stage.commit_in(&id, vec![]).await, Code::InvalidArgument);
    assert!(!words.contains("expired"), "{words}");
    let id = stage.begin().await;
    for _ in 0..2 {
        let outcome = stage.commit_in(&id, vec![set("a/2", n(1))]).await;
        refused(outcome, Code::Unavailable);
    }
    stage.gateway.rollback(&id).unwrap();
    refused(
        stage.commit(vec![set("a/2", n(1))]).await,
        Code::Unavailable,
    );
    assert_eq!(stage.gateway.transactions.load(), (0, 0));
}

#[tokio::test]
async fn a_gateway_that_is_closed_has_not_failed() {
    let stage = Stage::new().await;
    let failed = stage.gateway.failed();
    drop(stage);
    let soon = std::time::Duration::from_millis(50);
    assert!(tokio::time::timeout(soon, failed).await.is_err());
}

#[tokio::test]
async fn an_independent_write_that_the_store_refuses_leaves_the_others_alone() {
    let store = Troubled::new("bad", StoreErrorKind::Terminal, false).await;
    let stage = Stage::over(store.clone()).await;
    let paths = ["a/1", "a/bad", "a/__2__", "a/3"];
    let request = BatchWriteRequest {
        database: DATABASE.to_owned(),
        writes: paths.iter().map(|path| set(path, n(1))).collect(),
        ..BatchWriteRequest::default()
    };
    let before = store.commits.load(Ordering::SeqCst);
    let response = documents::batch_write(&stage.gateway, request)
        .await
        .unwrap();
    let codes: Vec<Code> = response.status.iter().map(|one| one.code.into()).collect();
    let (precondition, invalid) = (Code::FailedPrecondition, Code::InvalidArgument);
    assert_eq!(codes, [Code::Ok, precondition, invalid, Code::Ok]);
    let times = response.write_results.iter();
    let times: Vec<bool> = times.map(|one| one.update_time.is_some()).collect();
    assert_eq!(times, [true, false, false, true]);
    for (path, there) in [("a/1", true), ("a/bad", false), ("a/3", true)] {
        assert_eq!(stage.get(path).await.is_some(), there, "{path}");
    }
    // They shared a commit until one of them could not be in it.
    assert!(store.commits.load(Ordering::SeqCst) - before <= 5);
}

#[tokio::test]
async fn changes_of_others_are_settled_at_times_after_theirs() {
    let store = Troubled::new("", StoreErrorKind::Terminal, false).await;
    let stage = Stage::over(store.clone()).await;
    let written = stage.write(vec![set("a/1", n(1))]).await;
    let later = written + 10_000_000;
    *store.foreign.lock().unwrap() = vec![
        changed("1", written + 1),
        changed("2", later),
        changed("2", later),
        changed("3", later),
        changed("4", later),
    ];
    let gateway: &Arc<Gateway> = &stage.gateway;
    let (one, other) = tokio::join!(gateway.catch_up(), gateway.catch_up());
    one.unwrap();
    other.unwrap();
    assert!(store.foreign.lock().unwrap().is_empty());
    assert_eq!(*store.settled.lock().unwrap(), [2, 2, 1]);
    // Clocks differ between machines; times go on all the same.
    let after = stage.write(vec![set("a/1", n(2))]).await;
    assert!(after > later);
    assert!(gateway.clock.read_time() >= after);
    // Changes of what is no more are settled, too, or they would be looked at for ever.
    *store.of_nothing.lock().unwrap() = Some(7);
    gateway.catch_up().await.unwrap();
    assert_eq!(*store.settled.lock().unwrap(), [2, 2, 1, 7]);
    let commits = store.commits.load(Ordering::SeqCst);
    gateway.catch_up().await.unwrap();
    assert_eq!(
        store.commits.load(Ordering::SeqCst),
        commits,
        "nothing happened"
    );
}
