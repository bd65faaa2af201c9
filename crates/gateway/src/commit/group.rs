//! The group committer: takes the requests that wait, decides each in turn inside one commit of the store, tells the
//! feed what changed, and answers.
//!
//! Each request is atomic and has a time of its own; one that fails writes nothing and leaves the others as they
//! are. No two requests of a group touch the same document, because each holds the locks of its own: so each
//! version of a document is a step of its own in the store's history.

use super::apply::{self, Applied};
use super::recent::Recent;
use super::request::Request;
use crate::Gateway;
use crate::feed::Commit;
use crate::status;
use crate::transaction::locks::Held;
use crate::transaction::{Basis, End, Sealed};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tonic::Status;
use whimbrel_firestore::backend::{Batch, Change, Found, IndexLine, Put, Stored, There};
use whimbrel_firestore::v1::WriteResult;
use whimbrel_firestore::{Fields, Micros, Place};
use whimbrel_model::{StoreError, StoreErrorKind};

/// Requests and bytes of one group.
const GROUP_REQUESTS: usize = 1024;
const GROUP_BYTES: usize = 16 << 20;

/// Memory that waiting requests may hold, in units.
const ROOM: usize = (128 << 20) / ROOM_UNIT;
const ROOM_UNIT: usize = 1024;

/// A request that is committed.
#[derive(Debug)]
pub struct Committed {
    pub at: Micros,
    /// One a write.
    pub results: Vec<WriteResult>,
    /// Where the request asked for them: the documents as they are now, by its places.
    pub documents: Vec<Option<Stored>>,
}

pub(super) type Answer = Result<Committed, Status>;

/// A request on its way.
#[derive(Debug)]
pub(super) struct Task {
    pub request: Request,
    pub basis: Basis,
    pub hold: Hold,
    pub answer: oneshot::Sender<Answer>,
    pub room: OwnedSemaphorePermit,
}

/// What keeps others from the request's documents.
#[derive(Debug)]
pub(super) enum Hold {
    /// Released by being dropped.
    Write {
        _held: Held,
    },
    Transaction(Sealed),
}

/// What a commit between the groups does.
#[derive(Debug, Default)]
pub(super) struct Aside {
    pub unindex: Vec<IndexLine>,
    pub index: Vec<IndexLine>,
    pub settled: Option<u64>,
    /// What listeners are told.
    pub changes: Vec<Change>,
}

pub(super) type DecideAside = Box<dyn FnMut(&Found) -> Aside + Send>;

/// A commit that no request made.
pub(super) struct Alone {
    pub touch: Vec<Place>,
    pub decide: DecideAside,
    pub answer: oneshot::Sender<Result<(), Status>>,
}

impl fmt::Debug for Alone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alone").finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    queue: Mutex<Queue>,
    wake: Notify,
    room: Arc<Semaphore>,
    recent: Mutex<Recent>,
    failed: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Queue {
    tasks: VecDeque<Box<Task>>,
    alone: VecDeque<Alone>,
    /// The gateway is gone, or its committer is.
    closed: bool,
}

/// Boxed: they are handed on several times, and a list of large ones is of a size that is slow to allocate.
#[allow(clippy::vec_box)]
type Tasks = Vec<Box<Task>>;

enum Work {
    Group(Tasks),
    Alone(Alone),
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            queue: Mutex::default(),
            wake: Notify::new(),
            room: Arc::new(Semaphore::new(ROOM)),
            recent: Mutex::default(),
            failed: watch::Sender::new(false),
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room for a request.
    pub async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Status> {
        let units = (bytes / ROOM_UNIT).clamp(1, ROOM / 2);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let room = self.room.clone().acquire_many_owned(units).await;
        room.map_err(|_| closing())
    }

    /// Hands a request to the committer, which answers it.
    pub fn submit(&self, task: Task) {
        if let Err(task) = self.put(Box::new(task), |queue| &mut queue.tasks) {
            task.finish(Err(closing()), End::Nothing);
        }
    }

    /// As [`Shared::submit`].
    pub fn submit_alone(&self, alone: Alone) {
        if let Err(alone) = self.put(alone, |queue| &mut queue.alone) {
            let _ = alone.answer.send(Err(closing()));
        }
    }

    /// # Errors
    /// What was to be put in: nobody would take it out.
    fn put<T>(&self, one: T, into: fn(&mut Queue) -> &mut VecDeque<T>) -> Result<(), T> {
        let mut queue = self.queue();
        if queue.closed {
            return Err(one);
        }
        let first = queue.tasks.is_empty() && queue.alone.is_empty();
        into(&mut queue).push_back(one);
        drop(queue);
        if first {
            self.wake.notify_one();
        }
        Ok(())
    }

    fn take(&self) -> Option<Work> {
        let mut queue = self.queue();
        if let Some(alone) = queue.alone.pop_front() {
            return Some(Work::Alone(alone));
        }
        let mut tasks = Vec::with_capacity(queue.tasks.len().min(GROUP_REQUESTS));
        let mut bytes = 0;
        while let Some(task) = queue.tasks.pop_front() {
            bytes += task.request.bytes;
            tasks.push(task);
            if tasks.len() >= GROUP_REQUESTS || bytes >= GROUP_BYTES {
                break;
            }
        }
        (!tasks.is_empty()).then_some(Work::Group(tasks))
    }

    pub fn close(&self) {
        let dropped = {
            let mut queue = self.queue();
            queue.closed = true;
            (
                std::mem::take(&mut queue.tasks),
                std::mem::take(&mut queue.alone),
            )
        };
        for task in dropped.0 {
            task.finish(Err(closing()), End::Nothing);
        }
        for alone in dropped.1 {
            let _ = alone.answer.send(Err(closing()));
        }
        self.room.close();
        self.wake.notify_one();
    }

    fn is_closed(&self) -> bool {
        self.queue().closed
    }

    pub fn failed(&self) -> watch::Receiver<bool> {
        self.failed.subscribe()
    }

    /// Work that must last for as long as the gateway does: where it ends before, all has failed.
    pub fn lasting(
        self: &Arc<Self>,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let lasts = Lasts {
            shared: self.clone(),
            in_order: false,
        };
        async move {
            let mut lasts = lasts;
            work.await;
            lasts.in_order = true;
        }
    }
}

/// Closes the queue when work ends that must last, whatever ended it: who asks then is answered.
struct Lasts {
    shared: Arc<Shared>,
    in_order: bool,
}

impl Drop for Lasts {
    fn drop(&mut self) {
        self.shared.close();
        if !self.in_order {
            self.shared.failed.send_replace(true);
        }
    }
}

fn closing() -> Status {
    Status::unavailable("The server is going down. Nothing was written; try again.")
}

/// Commits what is asked for until the gateway is gone.
pub(super) async fn run(shared: Arc<Shared>, gateway: Weak<Gateway>) {
    loop {
        shared.wake.notified().await;
        loop {
            // Requests that are ready to ask do so first: they share the commit.
            tokio::task::yield_now().await;
            let Some(work) = shared.take() else { break };
            let Some(gateway) = gateway.upgrade() else {
                return;
            };
            match work {
                Work::Alone(alone) => commit_alone(&gateway, &shared, alone).await,
                Work::Group(tasks) => commit_group(&gateway, &shared, tasks).await,
            }
        }
        if shared.is_closed() {
            return;
        }
    }
}

/// The requests of one commit, and what was decided of each.
struct Group {
    tasks: Tasks,
    verdicts: Vec<Result<(Micros, Applied), Status>>,
    /// What changed; only where somebody wants to know.
    changes: Vec<Change>,
    kept: bool,
    at: Micros,
}

impl Group {
    fn new(tasks: Tasks) -> Self {
        Self {
            tasks,
            verdicts: Vec::new(),
            changes: Vec::new(),
            kept: false,
            at: 0,
        }
    }

    fn touch(&self) -> Vec<Place> {
        let mut touch = Vec::with_capacity(self.tasks.len());
        for task in &self.tasks {
            touch.extend_from_slice(&task.request.places);
            let read = task.basis.read.iter().map(|(place, _)| place);
            if task.request.places.len() < 8 {
                touch.extend(
                    read.filter(|place| !task.request.places.contains(place))
                        .cloned(),
                );
            } else {
                let written: std::collections::HashSet<&Place> =
                    task.request.places.iter().collect();
                touch.extend(read.filter(|place| !written.contains(place)).cloned());
            }
        }
        touch
    }

    /// Decides each request in turn. May be called again, with other documents.
    fn decide(&mut self, found: &Found, gateway: &Gateway) -> Batch {
        let Self {
            tasks,
            verdicts,
            changes,
            ..
        } = self;
        let refuse = |place: &Place, fields: &Fields| gateway.backend.refuse(place, fields);
        let recent = gateway.committer.shared.recent();
        self.kept = recent.is_kept() || gateway.feed.heard();
        verdicts.clear();
        changes.clear();
        let mut batch = Batch::default();
        batch.documents.reserve(tasks.len());
        for task in tasks.iter() {
            let places = &task.request.places;
            let before: Vec<Option<There>> = places
                .iter()
                .map(|place| found.get(place).cloned())
                .collect();
            let newest = before.iter().flatten().filter_map(There::document);
            let newest = newest.map(|stored| stored.updated).max();
            let at = gateway.clock.next(newest.unwrap_or(0));
            batch.at = at;
            let verdict = recent
                .holds(&task.basis, found, changes)
                .and_then(|()| apply::apply(&task.request, before, at, &refuse));
            if let Ok(applied) = &verdict {
                for step in &applied.steps {
                    let Some(place) = places.get(step.slot) else {
                        continue;
                    };
                    let (unindex, index) =
                        gateway
                            .indexes
                            .lines(place, step.before.as_ref(), step.after.as_ref());
                    batch.unindex.extend(unindex);
                    batch.index.extend(index);
                    batch.documents.push(Put {
                        place: place.clone(),
                        at,
                        stored: step.after.clone(),
                    });
                    if self.kept {
                        changes.push(Change {
                            place: place.clone(),
                            at,
                            before: step.before.clone(),
                            after: step.after.clone(),
                        });
                    }
                }
            }
            verdicts.push(verdict.map(|applied| (at, applied)));
        }
        self.at = batch.at;
        batch
    }

    /// Answers each request with what was decided.
    fn answer(self) {
        for (task, verdict) in self.tasks.into_iter().zip(self.verdicts) {
            let answer = verdict.map(|(at, applied)| Committed {
                at,
                results: applied.results,
                documents: applied.documents,
            });
            task.finish(answer, End::Nothing);
        }
    }

    /// Answers each request that would have written with an error, and the others with theirs.
    fn fail(self, error: StoreError) {
        let end = match error.kind {
            StoreErrorKind::Unknown => End::Committed,
            StoreErrorKind::Transient | StoreErrorKind::Terminal => End::Nothing,
        };
        let status = status::of_store(error);
        let verdicts = self.verdicts.into_iter().map(Result::err);
        let verdicts = verdicts.chain(std::iter::repeat(None));
        for (task, refused) in self.tasks.into_iter().zip(verdicts) {
            let (status, end) = match refused {
                Some(refused) => (refused, End::Nothing),
                None => (status.clone(), end),
            };
            task.finish(Err(status), end);
        }
    }
}

impl Task {
    /// Lets go of the locks, then answers. `failed` is how a transaction ends whose commit is an error.
    fn finish(self, answer: Answer, failed: End) {
        if let Hold::Transaction(sealed) = &self.hold {
            let end = if answer.is_ok() {
                End::Committed
            } else {
                failed
            };
            sealed.ended(end);
        }
        drop(self.hold);
        drop(self.room);
        // Who went away needs no answer.
        let _ = self.answer.send(answer);
    }
}

async fn commit_group(gateway: &Arc<Gateway>, shared: &Arc<Shared>, tasks: Tasks) {
    let mut groups = vec![tasks];
    while let Some(tasks) = groups.pop() {
        let touch = Group::new(tasks);
        let places = touch.touch();
        let group = Arc::new(Mutex::new(touch));
        let decide = {
            let (group, gateway) = (group.clone(), gateway.clone());
            Box::new(move |found: &Found| {
                let mut group = group.lock().unwrap_or_else(PoisonError::into_inner);
                group.decide(found, &gateway)
            })
        };
        gateway.clock.begin();
        let outcome = gateway.backend.commit(&places, decide).await;
        let mut group = {
            let mut shared = group.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *shared, Group::new(Vec::new()))
        };
        match outcome {
            Ok(()) => {
                tell(gateway, shared, &mut group);
                gateway.clock.end(Some(group.at));
                group.answer();
            }
            // One of them cannot be written: the others are.
            Err(error) if error.kind == StoreErrorKind::Terminal && group.tasks.len() > 1 => {
                gateway.clock.end(None);
                let rest = group.tasks.split_off(group.tasks.len() / 2);
                groups.push(rest);
                groups.push(group.tasks);
            }
            Err(error) => {
                failed(gateway, shared, &error, group.at);
                group.fail(error);
            }
        }
    }
}

/// A commit failed, which would have been of the time `at`.
fn failed(gateway: &Gateway, shared: &Shared, error: &StoreError, at: Micros) {
    tracing::warn!(store = gateway.backend.name(), %error, "a commit failed");
    if error.kind == StoreErrorKind::Unknown {
        // It may be there: listeners look, and what rests on queries is not sure of them.
        shared.recent().miss(at);
        gateway.feed.pass();
    }
    gateway.clock.end(None);
}

fn tell(gateway: &Gateway, shared: &Shared, group: &mut Group) {
    let changes = std::mem::take(&mut group.changes);
    shared
        .recent()
        .put(group.at, group.kept.then_some(&changes));
    if group.kept {
        gateway.feed.tell(Commit {
            at: group.at,
            changes,
            foreign: false,
        });
    } else {
        gateway.feed.pass();
    }
}

/// What an aside came to: when, and what is to be told.
#[derive(Debug, Default)]
struct Decided {
    at: Micros,
    changes: Vec<Change>,
}

async fn commit_alone(gateway: &Arc<Gateway>, shared: &Arc<Shared>, alone: Alone) {
    let Alone {
        touch,
        mut decide,
        answer,
    } = alone;
    let decided = Arc::new(Mutex::new(Decided::default()));
    let decide = {
        let (decided, gateway) = (decided.clone(), gateway.clone());
        Box::new(move |found: &Found| {
            let aside = decide(found);
            let newest = found.values().filter_map(There::document);
            let newest = newest.map(|stored| stored.updated);
            let newest = newest.chain(aside.changes.iter().map(|change| change.at));
            let at = gateway.clock.next(newest.max().unwrap_or(0));
            *decided.lock().unwrap_or_else(PoisonError::into_inner) = Decided {
                at,
                changes: aside.changes,
            };
            Batch {
                at,
                documents: Vec::new(),
                unindex: aside.unindex,
                index: aside.index,
                settled: aside.settled,
            }
        })
    };
    gateway.clock.begin();
    let outcome = gateway.backend.commit(&touch, decide).await;
    let decided = std::mem::take(&mut *decided.lock().unwrap_or_else(PoisonError::into_inner));
    match &outcome {
        Ok(()) => {
            shared.recent().put(decided.at, Some(&decided.changes));
            gateway.feed.tell(Commit {
                at: decided.at,
                changes: decided.changes,
                foreign: true,
            });
            gateway.clock.end(Some(decided.at));
        }
        Err(error) => failed(gateway, shared, error, decided.at),
    }
    let _ = answer.send(outcome.map_err(status::of_store));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names;
    use crate::transaction::Transactions;

    #[tokio::test]
    async fn what_was_never_handed_to_the_store_was_not_written() {
        let (shared, transactions) = (Shared::default(), Transactions::default());
        let database = names::database("projects/p/databases/d").unwrap();
        let task = async |answer| {
            let (id, sealed) = transactions.sealed();
            let task = Task {
                request: Request::new(database.clone(), Vec::new()).unwrap(),
                basis: Basis::default(),
                hold: Hold::Transaction(sealed),
                answer,
                room: shared.room(1).await.unwrap(),
            };
            (id, task)
        };
        let (answer, waiting) = oneshot::channel();
        let (first, one) = task(answer).await;
        let (answer, late) = oneshot::channel();
        let (second, other) = task(answer).await;
        shared.submit(one);
        shared.close();
        shared.submit(other);
        for (id, answer) in [(first, waiting), (second, late)] {
            let error = answer.await.unwrap().unwrap_err();
            assert_eq!(error.code(), tonic::Code::Unavailable);
            // These words say that it may be run again.
            let error = transactions.find(&id).unwrap_err();
            assert!(error.message().contains("expired"), "{error}");
        }
        assert_eq!(transactions.load(), (0, 0));
        assert!(shared.room(1).await.is_err());
    }
}
