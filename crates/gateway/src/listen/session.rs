//! One stream: its targets, the loop that serves it, and what it sends of what is committed.
//!
//! Everything is told in order of commits, and every target of the stream is brought to the same time before that
//! time is said (`NO_CHANGE` for all of them): what the client has then is what was there at that time. Of
//! changes that come while the client is still busy with those before, only the last of each document is told.

use crate::Gateway;
use crate::documents::to_proto;
use crate::feed::{Ear, Heard, Topic};
use crate::listen::out::{End, Flow, Out, is_targets_own};
use crate::listen::target::{Since, Target, Watch};
use crate::names;
use crate::query::Query;
use crate::status::invalid;
use futures::{Stream, StreamExt};
use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};
use tonic::Status;
use whimbrel_firestore::backend::{Change, Stored};
use whimbrel_firestore::v1::listen_request::TargetChange;
use whimbrel_firestore::v1::{self, ListenRequest};
use whimbrel_firestore::{DatabaseName, Micros, Place};

/// How often a quiet stream is told that nothing happened: clients give one up that is silent for two minutes.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// The least time from one snapshot to the next: what is committed meanwhile is told together.
const PAUSE: Duration = Duration::from_millis(10);

/// How often it is looked, while anybody listens, what others wrote in SQL.
const LOOK: Duration = Duration::from_millis(250);

/// Targets of one stream.
const TARGETS: usize = 1000;

pub(super) struct Session {
    pub gateway: Arc<Gateway>,
    pub out: Out,
    ear: Ear,
    /// The database of all targets: the first request's.
    database: Option<Arc<DatabaseName>>,
    pub targets: BTreeMap<i32, Target>,
    routes: HashMap<Topic, Vec<i32>>,
    /// The last time that was said, and when that was.
    pub at: Micros,
    said: Instant,
    /// Whether ids of targets are ours to give.
    assigns: bool,
}

/// What became of a document, for the targets that it concerns.
#[derive(Debug, Default)]
struct Effect {
    /// What it is now; the outer `None` where it did not change itself.
    after: Option<Option<Stored>>,
    /// Of each target: whether the document may have been in it, and whether it is now.
    targets: Vec<(i32, bool, bool)>,
}

type Effects = BTreeMap<Place, Effect>;

impl Session {
    pub fn new(gateway: Arc<Gateway>, out: Out) -> Self {
        let ear = gateway.feed.listen();
        look(&gateway);
        Self {
            gateway,
            out,
            ear,
            database: None,
            targets: BTreeMap::new(),
            routes: HashMap::new(),
            at: 0,
            said: Instant::now(),
            assigns: false,
        }
    }

    /// Serves the stream to its end.
    pub async fn run<R>(mut self, requests: R)
    where
        R: Stream<Item = Result<ListenRequest, Status>> + Send,
    {
        if let Err(End::Failed(status)) = self.serve(requests).await {
            self.out.fail(status).await;
        }
    }

    async fn serve<R>(&mut self, requests: R) -> Flow<()>
    where
        R: Stream<Item = Result<ListenRequest, Status>> + Send,
    {
        let mut requests = pin!(requests);
        let mut next = Instant::now();
        loop {
            let ear = &self.ear;
            let news = async {
                // In this order: a waiter that is dropped after it woke would have lost the news.
                sleep_until(next).await;
                ear.wait().await;
            };
            tokio::select! {
                request = requests.next() => match request {
                    // Who says no more wants no more: what was asked for has been sent.
                    None => return Ok(()),
                    Some(request) => self.handle(request?).await?,
                },
                () = news => self.follow(false).await?,
                () = sleep_until(self.said + HEARTBEAT) => self.follow(true).await?,
                () = self.out.closed() => return Err(End::Gone),
            }
            next = Instant::now() + PAUSE;
        }
    }

    async fn handle(&mut self, request: ListenRequest) -> Flow<()> {
        let database = names::database(&request.database)?;
        match &self.database {
            None => self.database = Some(Arc::new(database)),
            Some(ours) => names::same_database(ours, &database)?,
        }
        match request.target_change {
            Some(TargetChange::AddTarget(target)) => self.add(target).await,
            Some(TargetChange::RemoveTarget(id)) => match self.targets.remove(&id) {
                Some(target) => {
                    self.unroute(&target);
                    self.out.removed(id, None).await
                }
                // It may have ended by itself, while the request was under way.
                None => Ok(()),
            },
            None => Ok(()),
        }
    }

    pub fn database(&self) -> Flow<Arc<DatabaseName>> {
        let none = || Status::internal("a stream without a database has targets");
        Ok(self.database.clone().ok_or_else(none)?)
    }

    async fn add(&mut self, asked: v1::Target) -> Flow<()> {
        let database = self.database()?;
        let id = match self.id_of(&asked)? {
            Ok(id) => id,
            Err(status) => return self.out.removed(asked.target_id, Some(&status)).await,
        };
        let watch = match Watch::parse(&database, &asked) {
            Ok(watch) => watch,
            Err(status) => return self.out.removed(id, Some(&status)).await,
        };
        let mut target = Target {
            id,
            watch,
            at: 0,
            current: false,
            once: asked.once,
        };
        // Followed first and read then, so that nothing falls between.
        self.route(&target);
        self.out.added(id).await?;
        let since = Since::of(&database, asked.resume_type.as_ref());
        let expected = asked.expected_count.and_then(|n| usize::try_from(n).ok());
        match self.fill(&mut target, since, expected).await {
            Ok(()) => {
                let at = target.at;
                self.targets.insert(id, target);
                self.gateway.clock.settle(at.max(self.at)).await;
                self.follow(true).await
            }
            Err(End::Failed(status)) if is_targets_own(&status) => {
                self.unroute(&target);
                self.out.removed(id, Some(&status)).await
            }
            Err(end) => Err(end),
        }
    }

    /// The target's id, or why it cannot be added.
    ///
    /// # Errors
    /// The stream is used wrongly, and ends.
    fn id_of(&mut self, asked: &v1::Target) -> Flow<Result<i32, Status>> {
        let id = asked.target_id;
        if self.targets.contains_key(&id) {
            return Err(End::Failed(invalid(format!(
                "Target id {id} is already in use on this stream. Remove that target first."
            ))));
        }
        if self.targets.len() >= TARGETS {
            return Ok(Err(Status::resource_exhausted(format!(
                "A stream has {TARGETS} targets at most. Remove one, or use another stream."
            ))));
        }
        if id < 0 {
            return Ok(Err(invalid(format!("Target id {id} is not positive."))));
        }
        if id > 0 && self.assigns {
            return Ok(Err(invalid(format!(
                "Target id {id} was given on a stream whose target ids are assigned by the server."
            ))));
        }
        if id > 0 {
            return Ok(Ok(id));
        }
        self.assigns = true;
        let free = (1..).find(|id| !self.targets.contains_key(id));
        Ok(Ok(free.unwrap_or(i32::MAX)))
    }

    fn route(&mut self, target: &Target) {
        for topic in target.watch.topics() {
            self.ear.follow(topic);
            self.routes.entry(topic).or_default().push(target.id);
        }
    }

    fn unroute(&mut self, target: &Target) {
        for topic in target.watch.topics() {
            if let Some(ids) = self.routes.get_mut(&topic) {
                ids.retain(|id| *id != target.id);
                if ids.is_empty() {
                    self.routes.remove(&topic);
                    self.ear.leave(topic);
                }
            }
        }
    }

    /// Sends what was committed, and, if anything was sent or the client is to hear from us anyway (`say`), the time.
    async fn follow(&mut self, say: bool) -> Flow<()> {
        if self.targets.is_empty() {
            self.said = Instant::now();
            return Ok(());
        }
        // Asked first: what was committed until then is in the feed already.
        let settled = self.gateway.clock.read_time();
        let heard = self.ear.take();
        if heard.behind {
            self.recover().await?;
        } else {
            let at = settled.max(heard.until()).max(self.at);
            let effects = self.effects(&heard);
            drop(heard);
            let sent = self.send(effects, at).await?;
            let refilled = self.refill_stale(at).await?;
            for target in self.targets.values_mut() {
                target.at = at;
            }
            if !(sent || refilled || say) {
                return Ok(());
            }
        }
        self.conclude().await
    }

    /// All targets are as of one time: says so.
    async fn conclude(&mut self) -> Flow<()> {
        let database = self.database()?;
        let Some(at) = self.targets.values().map(|target| target.at).max() else {
            return Ok(());
        };
        let fresh: Vec<i32> = self
            .targets
            .values_mut()
            .filter_map(Target::fresh)
            .collect();
        if !fresh.is_empty() {
            self.out.current(fresh, &database, at).await?;
        }
        self.out.consistent(&database, at).await?;
        self.at = at;
        self.said = Instant::now();
        let once = self.targets.values().filter(|target| target.once);
        for id in once.map(|target| target.id).collect::<Vec<_>>() {
            if let Some(target) = self.targets.remove(&id) {
                self.unroute(&target);
            }
            self.out.removed(id, None).await?;
        }
        Ok(())
    }

    /// What the changes mean for the targets.
    fn effects(&mut self, heard: &Heard) -> Effects {
        let mut effects = Effects::new();
        let mut ids = Vec::new();
        for (commit, change) in heard.changes() {
            ids.clear();
            for topic in Topic::of(&change.place) {
                ids.extend(self.routes.get(&topic).into_iter().flatten());
            }
            ids.sort_unstable();
            ids.dedup();
            for id in &ids {
                let Some(target) = self.targets.get_mut(id) else {
                    continue;
                };
                if commit.at > target.at
                    && let Some((was, is)) = target.judge(change, commit.foreign)
                {
                    effects
                        .entry(change.place.clone())
                        .or_default()
                        .note(*id, was, is);
                }
            }
            if let Some(effect) = effects.get_mut(&change.place) {
                effect.after = Some(change.after.clone());
            }
        }
        for target in self.targets.values_mut() {
            target.difference(&mut effects);
        }
        effects
    }

    async fn send(&self, effects: Effects, at: Micros) -> Flow<bool> {
        let mut sent = false;
        for (place, effect) in effects {
            sent |= self.send_one(&place, effect, at).await?;
        }
        Ok(sent)
    }

    async fn send_one(&self, place: &Place, effect: Effect, at: Micros) -> Flow<bool> {
        let ids = |wanted: fn(bool, bool) -> bool| -> Vec<i32> {
            let of = effect.targets.iter();
            of.filter(|(_, was, is)| wanted(*was, *is))
                .map(|(id, ..)| *id)
                .collect()
        };
        let (into, out) = (ids(|_, is| is), ids(|was, is| was && !is));
        if into.is_empty() && out.is_empty() {
            return Ok(false);
        }
        let database = self.database()?;
        let name = || names::name(&database, place);
        match effect.after {
            None => self.out.left(name(), out, at).await?,
            Some(None) => self.out.deleted(name(), out, at).await?,
            Some(Some(stored)) => self.send_document(place, &stored, into, out).await?,
        }
        Ok(true)
    }

    /// Sends a document to the targets that it is in, each with the fields that it shows, and takes it out of others.
    async fn send_document(
        &self,
        place: &Place,
        stored: &Stored,
        into: Vec<i32>,
        out: Vec<i32>,
    ) -> Flow<()> {
        let database = self.database()?;
        let shows_part = |id: &i32| self.targets.get(id).and_then(Target::projection);
        let (part, whole): (Vec<i32>, Vec<i32>) =
            into.into_iter().partition(|id| shows_part(id).is_some());
        for id in part {
            let Some(query) = shows_part(&id) else {
                continue;
            };
            let part = to_proto(&database, place, stored, query.project(&stored.fields));
            self.out.changed(part, vec![id], Vec::new()).await?;
        }
        if whole.is_empty() && out.is_empty() {
            return Ok(());
        }
        let all = to_proto(&database, place, stored, (*stored.fields).clone());
        self.out.changed(all, whole, out).await
    }
}

impl Effect {
    /// Keeps how it was at first, and how it is at last.
    fn note(&mut self, target: i32, was: bool, is: bool) {
        match self.targets.iter_mut().find(|(id, ..)| *id == target) {
            Some((.., last)) => *last = is,
            None => self.targets.push((target, was, is)),
        }
    }
}

impl Target {
    fn fresh(&mut self) -> Option<i32> {
        (!std::mem::replace(&mut self.current, true)).then_some(self.id)
    }

    /// The query, if it shows only a part of documents.
    pub fn projection(&self) -> Option<&Arc<Query>> {
        match &self.watch {
            Watch::Query { query, .. } => Some(query).filter(|query| query.is_projected()),
            Watch::Documents(_) => None,
        }
    }

    /// Whether the changed document may have been in the target, and whether it is now; `None` where that is not said
    /// by the document alone.
    fn judge(&mut self, change: &Change, foreign: bool) -> Option<(bool, bool)> {
        let (before, after) = (change.before.as_ref(), change.after.as_ref());
        match &mut self.watch {
            Watch::Documents(places) => places
                .contains(&change.place)
                .then_some((true, after.is_some())),
            Watch::Query { query, window } => {
                if !query.covers(&change.place.collection) {
                    return None;
                }
                let matches = |stored: &&Stored| query.matches(&change.place, stored);
                let after = after.filter(matches);
                // What others wrote may have been read before it was told.
                let was = foreign || before.filter(matches).is_some();
                match window {
                    None => Some((was, after.is_some())),
                    Some(window) => {
                        window.apply(query, &change.place, was, after);
                        // So that the document is known if the window takes it.
                        Some((false, false))
                    }
                }
            }
        }
    }

    /// Adds what became of a limited query's results.
    fn difference(&mut self, effects: &mut Effects) {
        let Watch::Query {
            window: Some(window),
            ..
        } = &mut self.watch
        else {
            return;
        };
        if window.is_stale() {
            return;
        }
        let difference = window.difference();
        for place in difference.came {
            effects.entry(place).or_default().note(self.id, false, true);
        }
        for place in difference.left {
            let effect = effects.entry(place).or_default();
            effect.targets.retain(|(id, ..)| *id != self.id);
            effect.targets.push((self.id, true, false));
        }
    }
}

/// Looks from time to time what others wrote in SQL, as long as anybody listens.
fn look(gateway: &Arc<Gateway>) {
    if !gateway.feed.look() {
        return;
    }
    let gateway = Arc::downgrade(gateway);
    tokio::spawn(async move {
        loop {
            sleep(LOOK).await;
            let Some(gateway) = gateway.upgrade() else {
                return;
            };
            if !gateway.feed.heard() {
                gateway.feed.look_no_more();
                // Unless somebody came between the two and found that it was looked already.
                if !gateway.feed.heard() || !gateway.feed.look() {
                    return;
                }
            }
            if let Err(error) = gateway.catch_up().await {
                tracing::warn!(%error, "listeners do not hear of what others wrote to the store");
            }
        }
    });
}
