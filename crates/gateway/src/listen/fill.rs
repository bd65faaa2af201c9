//! What a target's client is sent besides the feed: the first result, what changed since the client knew the target,
//! what changed while the feed was lost, and what a limited query has instead of a result that went away.

use crate::documents::to_proto;
use crate::feed::size_of_change;
use crate::listen::bloom::Names;
use crate::listen::out::Flow;
use crate::listen::results::Moment;
use crate::listen::session::Session;
use crate::listen::target::{Since, Target, Watch};
use crate::listen::window::{Refill, Window};
use crate::names;
use crate::query::{Paging, Query, Scope};
use crate::status;
use std::collections::BTreeSet;
use std::sync::Arc;
use whimbrel_firestore::backend::Stored;
use whimbrel_firestore::{Micros, Place};

/// Changes looked at to bring a client up to date; where there are more, it is sent the whole result.
const CHANGES: usize = 100_000;

/// What was done with what changed.
enum Caught {
    Up,
    /// There was too much, or the store does not know any more.
    TooMuch,
}

impl Session {
    /// Sends a new target's documents, or what changed of them since the client knew it.
    pub async fn fill(
        &mut self,
        target: &mut Target,
        since: Since,
        expected: Option<usize>,
    ) -> Flow<()> {
        let mut moment = Moment::present(&self.gateway);
        self.out.reading = true;
        let filled = match since {
            Since::Nothing => self.whole(target, &mut moment).await,
            Since::Time(since) => self.resume(target, &mut moment, since, expected).await,
            Since::Unknown => self.anew(target, &mut moment).await,
        };
        self.out.reading = false;
        target.at = moment.time();
        filled
    }

    /// The whole result, after the client was told to forget what it has.
    async fn anew(&self, target: &mut Target, moment: &mut Moment) -> Flow<()> {
        self.out.reset(target.id).await?;
        target.current = false;
        if let Watch::Query {
            window: Some(window),
            ..
        } = &mut target.watch
        {
            *window = Window::default();
        }
        self.whole(target, moment).await
    }

    async fn whole(&self, target: &mut Target, moment: &mut Moment) -> Flow<()> {
        match &mut target.watch {
            Watch::Documents(places) => self.documents(target.id, places, moment).await,
            Watch::Query {
                query,
                window: Some(window),
            } => self.refill(target.id, query, window, moment).await,
            Watch::Query {
                query,
                window: None,
            } => {
                let mut results = moment.results(query).await?;
                while let Some((place, stored)) = results.next().await? {
                    self.show(target.id, query, &place, &stored).await?;
                }
                Ok(())
            }
        }
    }

    async fn documents(&self, id: i32, places: &BTreeSet<Place>, moment: &mut Moment) -> Flow<()> {
        let database = self.database()?;
        let places: Vec<Place> = places.iter().cloned().collect();
        let (mut left, mut paging) = (&places[..], Paging::default());
        while !left.is_empty() {
            for (place, stored) in moment.next_of(&mut left, &mut paging).await? {
                match stored {
                    Some(stored) => {
                        let all = to_proto(&database, place, &stored, (*stored.fields).clone());
                        self.out.changed(all, vec![id], Vec::new()).await?;
                    }
                    None => {
                        let name = names::name(&database, place);
                        self.out.deleted(name, vec![id], moment.time()).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn show(&self, id: i32, query: &Query, place: &Place, stored: &Stored) -> Flow<()> {
        let database = self.database()?;
        let shown = to_proto(&database, place, stored, query.project(&stored.fields));
        self.out.changed(shown, vec![id], Vec::new()).await
    }

    /// A document that is in the target no longer.
    async fn hide(&self, id: i32, place: &Place, now: Option<&Stored>, at: Micros) -> Flow<()> {
        let database = self.database()?;
        match now {
            Some(stored) => {
                let all = to_proto(&database, place, stored, (*stored.fields).clone());
                self.out.changed(all, Vec::new(), vec![id]).await
            }
            None => {
                let name = names::name(&database, place);
                self.out.deleted(name, vec![id], at).await
            }
        }
    }

    /// What changed since a time that a client (or this stream) knew the target at.
    async fn resume(
        &self,
        target: &mut Target,
        moment: &mut Moment,
        since: Micros,
        expected: Option<usize>,
    ) -> Flow<()> {
        // A time before this store's life is another store's, and one in the future is of a life that it lost.
        let known = since <= moment.fix().await? && since >= self.gateway.feed.born();
        let kept = since >= self.gateway.horizon();
        if !known {
            return self.anew(target, moment).await;
        }
        if !kept {
            return match (&target.watch, expected) {
                (
                    Watch::Query {
                        query,
                        window: None,
                    },
                    Some(1..),
                ) => {
                    let query = query.clone();
                    self.newer(target.id, &query, moment, since).await
                }
                _ => self.anew(target, moment).await,
            };
        }
        if let Watch::Query {
            query,
            window: Some(window),
        } = &mut target.watch
        {
            // What the client has is what the query's result was.
            let mut then = Refill::default();
            let mut results = Moment::at(&self.gateway, since).results(query).await?;
            while let Some((place, stored)) = results.next().await? {
                then.push(query, &place, &stored);
            }
            window.assume(then);
        }
        if let Caught::TooMuch = self.bring_up(target, moment, since).await? {
            return self.anew(target, moment).await;
        }
        self.verify(target, moment, expected).await
    }

    /// Sends the whole result's documents that were written after `since`, and how many there are in all: the client
    /// has the others, and finds out which of its own are in the result no longer.
    async fn newer(
        &self,
        id: i32,
        query: &Arc<Query>,
        moment: &mut Moment,
        since: Micros,
    ) -> Flow<()> {
        let database = self.database()?;
        let mut names = Names::default();
        let mut results = moment.results(query).await?;
        while let Some((place, stored)) = results.next().await? {
            names.add(&names::name(&database, &place));
            if stored.updated > since {
                self.show(id, query, &place, &stored).await?;
            }
        }
        self.out.filter(id, names.len(), names.finish()).await
    }

    /// Lets the client compare how many documents it has, with their names if it wants them.
    async fn verify(
        &self,
        target: &Target,
        moment: &mut Moment,
        expected: Option<usize>,
    ) -> Flow<()> {
        match &target.watch {
            Watch::Documents(places) => {
                let places: Vec<Place> = places.iter().cloned().collect();
                let (mut left, mut paging, mut count) = (&places[..], Paging::default(), 0);
                while !left.is_empty() {
                    let found = moment.next_of(&mut left, &mut paging).await?;
                    count += found.iter().filter(|(_, stored)| stored.is_some()).count();
                }
                self.out.filter(target.id, count, None).await
            }
            Watch::Query {
                window: Some(window),
                ..
            } => self.out.filter(target.id, window.len(), None).await,
            Watch::Query {
                query,
                window: None,
            } => {
                let names = if expected.is_some_and(|expected| expected > 0) {
                    Some(self.names(query, moment).await?)
                } else {
                    None
                };
                let count = match &names {
                    Some(names) => names.len(),
                    None => moment.count(query).await?,
                };
                let names = names.and_then(Names::finish);
                self.out.filter(target.id, count, names).await
            }
        }
    }

    async fn names(&self, query: &Arc<Query>, moment: &mut Moment) -> Flow<Names> {
        let database = self.database()?;
        let mut names = Names::default();
        let add = |place: Place| names.add(&names::name(&database, &place));
        moment.each_place(query, add).await?;
        Ok(names)
    }

    /// Sends what became of the target since `since`.
    async fn bring_up(
        &self,
        target: &mut Target,
        moment: &mut Moment,
        since: Micros,
    ) -> Flow<Caught> {
        match &mut target.watch {
            // So few that they are simply sent again.
            Watch::Documents(places) => self.documents(target.id, places, moment).await?,
            Watch::Query {
                query,
                window: Some(window),
            } => self.refill(target.id, query, window, moment).await?,
            Watch::Query {
                query,
                window: None,
            } => return self.changes(target.id, query, moment, since).await,
        }
        Ok(Caught::Up)
    }

    async fn changes(
        &self,
        id: i32,
        query: &Query,
        moment: &mut Moment,
        since: Micros,
    ) -> Flow<Caught> {
        // Before the first document that can be in the result.
        let mut after = match query.scope() {
            Scope::Collection { name, keys } => Some(Place {
                collection: name.clone(),
                key: keys.as_str().into(),
            }),
            _ => None,
        };
        let mut looked = 0;
        let mut paging = Paging::default();
        let read = moment.read().await?;
        loop {
            let limit = paging.limit();
            let changed = read.view.changed(since, read.at, after.as_ref(), limit);
            let changed = changed.await.map_err(status::of_store)?;
            paging.read(changed.iter().map(size_of_change));
            let last = changed.len() < limit as usize;
            after = changed.last().map(|change| change.place.clone());
            looked += changed.len();
            for change in changed {
                if !query.covers(&change.place.collection) {
                    if query.scope().is_collection() {
                        return Ok(Caught::Up);
                    }
                    continue;
                }
                let matches = |stored: &&Stored| query.matches(&change.place, stored);
                if let Some(now) = change.after.as_ref().filter(matches) {
                    self.show(id, query, &change.place, now).await?;
                } else if change.before.as_ref().filter(matches).is_some() {
                    let now = change.after.as_ref();
                    self.hide(id, &change.place, now, read.read_time).await?;
                }
            }
            if last {
                return Ok(Caught::Up);
            }
            if looked >= CHANGES {
                return Ok(Caught::TooMuch);
            }
        }
    }

    /// The feed was lost: reads what became of the targets, all of them as of one time.
    pub async fn recover(&mut self) -> Flow<()> {
        self.gateway.clock.settle(self.at).await;
        let mut moment = Moment::at(&self.gateway, self.gateway.clock.read_time());
        let mut targets = std::mem::take(&mut self.targets);
        self.out.reading = true;
        let mut result = Ok(());
        for target in targets.values_mut() {
            result = self.recover_one(target, &mut moment).await;
            if result.is_err() {
                break;
            }
        }
        self.out.reading = false;
        self.targets = targets;
        result
    }

    async fn recover_one(&self, target: &mut Target, moment: &mut Moment) -> Flow<()> {
        let since = target.at;
        if since >= moment.time() {
            return Ok(());
        }
        let caught = if since >= self.gateway.horizon() {
            self.bring_up(target, moment, since).await?
        } else {
            Caught::TooMuch
        };
        if let Caught::TooMuch = caught {
            self.anew(target, moment).await?;
        }
        target.at = moment.time();
        Ok(())
    }

    /// Runs limited queries again that lost results, as of `at`. Says whether anything was.
    pub async fn refill_stale(&mut self, at: Micros) -> Flow<bool> {
        let stale = |target: &Target| match &target.watch {
            Watch::Query {
                window: Some(window),
                ..
            } => window.is_stale(),
            _ => false,
        };
        if !self.targets.values().any(stale) {
            return Ok(false);
        }
        // The time may be that of a commit which is told, but not yet over.
        self.gateway.clock.settle(at).await;
        let mut moment = Moment::at(&self.gateway, at);
        let mut targets = std::mem::take(&mut self.targets);
        self.out.reading = true;
        let mut result = Ok(());
        for target in targets.values_mut().filter(|target| stale(target)) {
            if let Watch::Query {
                query,
                window: Some(window),
            } = &mut target.watch
            {
                result = self.refill(target.id, query, window, &mut moment).await;
            }
            if result.is_err() {
                break;
            }
        }
        self.out.reading = false;
        self.targets = targets;
        result.map(|()| true)
    }

    /// Runs a limited query and sends how its result differs from what the client has.
    async fn refill(
        &self,
        id: i32,
        query: &Arc<Query>,
        window: &mut Window,
        moment: &mut Moment,
    ) -> Flow<()> {
        let mut refill = Refill::default();
        let mut results = moment.results(query).await?;
        while let Some((place, stored)) = results.next().await? {
            if !window.has(&place, stored.updated) {
                self.show(id, query, &place, &stored).await?;
            }
            refill.push(query, &place, &stored);
        }
        let left = window.refilled(query, refill);
        let (mut left, mut paging) = (&left[..], Paging::default());
        while !left.is_empty() {
            for (place, now) in &moment.next_of(&mut left, &mut paging).await? {
                self.hide(id, place, now.as_ref(), moment.time()).await?;
            }
        }
        Ok(())
    }
}
