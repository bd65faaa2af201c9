//! One pass over a collection for all checks that look at it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::task::JoinSet;
use whimbrel_model::rule::Filter;
use whimbrel_model::{DocError, Document, Draft, Key, KeyRange, Page, Timestamp};

use super::findings::{Findings, Impossible, Wrong};
use super::runner::{Chosen, Doc, Runner, Side};
use crate::chunk::CHUNK_BYTES;
use crate::error::EngineError;
use crate::options::Place;
use crate::patience::retry_store;

/// Documents a page.
const PAGE: u32 = 2000;
/// After so many documents that it could not judge, a check sees no more of them: each may cost the whole
/// time that a script has.
const MOST_TROUBLES: u64 = 100;
/// Partitions for each worker, so that none is left with a large one at the end.
const PARTS_EACH: u32 = 4;

/// A check and what is known of it so far.
pub(super) struct Running {
    pub runner: Box<dyn Runner>,
    pub findings: Mutex<Findings>,
    /// It cannot be done: it is shown nothing any more.
    dead: AtomicBool,
}

impl Running {
    pub(super) fn new(runner: Box<dyn Runner>, findings: Findings) -> Self {
        Self {
            runner,
            findings: Mutex::new(findings),
            dead: AtomicBool::new(false),
        }
    }

    pub(super) fn give_up(&self, why: Impossible) {
        self.findings().trouble(None, why);
        self.dead.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    pub(super) fn findings(&self) -> std::sync::MutexGuard<'_, Findings> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn merge(&self, part: Findings) {
        let mut findings = self.findings();
        findings.merge(part);
        if findings.troubles >= MOST_TROUBLES {
            self.dead.store(true, Ordering::SeqCst);
        }
    }
}

/// A check's interest in the collection.
#[derive(Clone)]
pub(super) struct Watcher {
    pub running: Arc<Running>,
    pub side: Side,
    pub filter: Option<Filter>,
}

/// All that a pass needs.
pub(super) struct Pass {
    pub place: Place,
    pub watchers: Vec<Watcher>,
    pub parallel: u32,
    pub patience: Duration,
    pub now: Timestamp,
    pub stop: Arc<AtomicBool>,
}

impl Pass {
    /// Shows every document of the collection once to every check that still watches. What keeps it from being
    /// walked through is told to all of them.
    pub(super) async fn run(self) {
        let pass = Arc::new(self);
        if let Err(why) = pass.walk().await {
            for watcher in &pass.watchers {
                watcher.running.give_up(why.clone());
            }
        }
    }

    async fn walk(self: &Arc<Self>) -> Result<(), Impossible> {
        self.place.must_exist(self.patience).await?;
        let (store, name) = (&self.place.store, &self.place.collection);
        let all = KeyRange::all();
        let parts = self.parallel.saturating_mul(PARTS_EACH);
        let ranges = retry_store(self.patience, || store.partitions(name, &all, parts));
        let queue = Arc::new(Mutex::new(VecDeque::from(ranges.await?)));
        let mut workers: JoinSet<Result<(), Impossible>> = JoinSet::new();
        for _ in 0..self.parallel {
            let (pass, queue) = (Arc::clone(self), Arc::clone(&queue));
            workers.spawn(async move {
                loop {
                    let range = queue
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pop_front();
                    let Some(range) = range else { return Ok(()) };
                    pass.partition(range).await?;
                }
            });
        }
        // The first error ends the pass; the other workers go with the set.
        while let Some(ended) = workers.join_next().await {
            ended.map_err(|e| Impossible::new(format!("a check ended abnormally ({e})")))??;
        }
        Ok(())
    }

    async fn partition(self: &Arc<Self>, mut range: KeyRange) -> Result<(), Impossible> {
        let (store, name) = (&self.place.store, &self.place.collection);
        loop {
            if self.stop.load(Ordering::SeqCst) {
                return Err(EngineError::Interrupted.into());
            }
            if self.watchers.iter().all(|w| w.running.is_dead()) {
                return Ok(());
            }
            let page = retry_store(self.patience, || {
                store.scan(name, &range, PAGE, CHUNK_BYTES)
            })
            .await?;
            let Some(last) = page.last.clone() else {
                return Ok(());
            };
            range = range.resumed_after(Some(&last));
            self.page(page).await?;
        }
    }

    async fn page(self: &Arc<Self>, page: Page) -> Result<(), Impossible> {
        let pass = Arc::clone(self);
        let mut open = blocking(move || pass.open(page)).await?;
        let mut fetched = Vec::with_capacity(self.watchers.len());
        for (watcher, chosen) in self.watchers.iter().zip(&open.chosen) {
            let runner = &watcher.running.runner;
            let mut found = Vec::new();
            if runner.fetches() && !watcher.running.is_dead() {
                let keys = Chosen::new(&mut open.docs, chosen).keys();
                match runner.fetch(&keys).await {
                    Ok(documents) => found = documents,
                    Err(why) => watcher.running.give_up(why),
                }
            }
            fetched.push(found);
        }
        let pass = Arc::clone(self);
        let mut open = blocking(move || {
            pass.look(&mut open, fetched);
            open
        })
        .await?;
        for (watcher, chosen) in self.watchers.iter().zip(&open.chosen) {
            if watcher.running.is_dead() {
                continue;
            }
            let mut part = watcher.running.findings().fresh();
            let mut docs = Chosen::new(&mut open.docs, chosen);
            let take = watcher
                .running
                .runner
                .take(watcher.side, &mut docs, &mut part);
            match AssertUnwindSafe(take).catch_unwind().await {
                Ok(Ok(())) => watcher.running.merge(part),
                Ok(Err(why)) => watcher.running.give_up(why),
                Err(_) => watcher.running.give_up(panicked()),
            }
        }
        Ok(())
    }

    /// Reads the documents, and says which of them each check judges.
    fn open(&self, page: Page) -> Open {
        let mut docs = Vec::with_capacity(page.documents.len());
        // A row that cannot be read fails in every check: nothing is known of it.
        let mut lost: Vec<(Option<Key>, String, Wrong)> = Vec::new();
        for reject in page.rejects {
            let message = format!("the document cannot be read: {}", reject.reason);
            lost.push((reject.key, reject.label, self.wrong(message)));
        }
        for Document { key, body, .. } in page.documents {
            match Draft::from_body(body) {
                Ok(draft) => docs.push(Doc { key, draft }),
                Err(error) => {
                    let error = DocError::from(error);
                    let message = format!("the document cannot be read: {}", error.message);
                    lost.push((Some(key.clone()), key.to_string(), self.wrong(message)));
                }
            }
        }
        let mut all = Vec::with_capacity(self.watchers.len());
        for watcher in &self.watchers {
            let mut part = watcher.running.findings().fresh();
            for (key, label, wrong) in &lost {
                part.document(key.as_ref(), Some(label), vec![wrong.clone()]);
            }
            let chosen = self.choose(watcher, &mut docs, &mut part);
            if watcher.side == Side::Own {
                part.looked_at += (chosen.len() + lost.len()) as u64;
            }
            watcher.running.merge(part);
            all.push(chosen);
        }
        Open { docs, chosen: all }
    }

    /// Findings in the other collection say where they are.
    fn wrong(&self, message: String) -> Wrong {
        Wrong {
            message: format!("{message} ({})", self.place),
            ..Wrong::default()
        }
    }

    fn choose(&self, watcher: &Watcher, docs: &mut [Doc], part: &mut Findings) -> Vec<usize> {
        let Some(filter) = &watcher.filter else {
            return (0..docs.len()).collect();
        };
        let mut chosen = Vec::new();
        for (at, doc) in docs.iter_mut().enumerate() {
            match filter.matches(&mut doc.draft) {
                Ok(true) => chosen.push(at),
                Ok(false) => {}
                Err(error) => {
                    let error = DocError::from(error);
                    let message = format!(
                        "the condition of \"where\" cannot be judged: {}",
                        error.message
                    );
                    part.looked_at += u64::from(watcher.side == Side::Own);
                    part.document(Some(&doc.key), None, vec![self.wrong(message)]);
                }
            }
        }
        chosen
    }

    fn look(&self, open: &mut Open, fetched: Vec<Vec<Option<Document>>>) {
        for ((watcher, chosen), fetched) in self.watchers.iter().zip(&open.chosen).zip(fetched) {
            if watcher.running.is_dead() {
                continue;
            }
            let mut part = watcher.running.findings().fresh();
            let mut docs = Chosen::new(&mut open.docs, chosen);
            let runner = &watcher.running.runner;
            let look = || runner.look(watcher.side, &mut docs, fetched, self.now, &mut part);
            match catch_unwind(AssertUnwindSafe(look)) {
                Ok(()) => watcher.running.merge(part),
                Err(_) => watcher.running.give_up(panicked()),
            }
        }
    }
}

/// A page while it is judged.
struct Open {
    docs: Vec<Doc>,
    /// For each watcher.
    chosen: Vec<Vec<usize>>,
}

fn panicked() -> Impossible {
    Impossible::new("the check's code panicked; what it would have found is unknown")
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Impossible> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Impossible::new(format!("a check ended abnormally ({e})")))
}
