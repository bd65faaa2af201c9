//! Locks on documents: exclusive, in the order of asking.
//!
//! A transaction locks what it reads and, when it commits, what it writes, and holds all of it to its end: so it
//! may wait while it holds, and transactions may wait for each other in a circle. The youngest of such a circle is
//! given up at once. Writes outside of transactions take all their documents at once or, while one is another's,
//! none, so they are never part of a circle.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use whimbrel_firestore::Place;

/// Who holds or waits. Each is given once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner(pub u64);

/// Why a lock was not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Others held it for too long.
    TimedOut,
    /// The transaction waits for others that wait for it, or was over meanwhile.
    GivenUp,
}

#[derive(Debug, Default)]
pub struct Locks {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    locks: HashMap<Place, Lock>,
    transactions: HashMap<Owner, Holder>,
    tickets: u64,
}

#[derive(Debug)]
struct Lock {
    owner: Owner,
    queue: VecDeque<Waiter>,
}

/// A transaction as the locks know it.
#[derive(Debug)]
struct Holder {
    /// Greater is younger.
    birth: u64,
    held: Vec<Place>,
    waits: Vec<(u64, Place)>,
    /// It commits, and locks no more.
    sealed: bool,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    owner: Owner,
    /// All that is wanted at once, of writes outside of transactions; empty for transactions.
    wanted: Arc<[Place]>,
    answer: oneshot::Sender<Result<(), Denied>>,
}

/// Documents held by a write outside of transactions, until it is dropped.
#[derive(Debug)]
pub struct Held {
    locks: Arc<Locks>,
    owner: Owner,
    places: Arc<[Place]>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.locks.state().release(self.owner, &self.places);
    }
}

/// Takes a waiter out of its queue when nobody waits for the answer any more.
struct Waiting<'a> {
    locks: &'a Locks,
    owner: Owner,
    place: Place,
    ticket: u64,
    wanted: Arc<[Place]>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.locks
            .state()
            .leave(self.owner, &self.place, self.ticket, &self.wanted);
    }
}

impl Locks {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A transaction begins.
    pub fn enter(&self, owner: Owner, birth: u64) {
        self.state().transactions.insert(
            owner,
            Holder {
                birth,
                held: Vec::new(),
                waits: Vec::new(),
                sealed: false,
            },
        );
    }

    /// A transaction is over: what it held is free, and what it waited for it does not get.
    pub fn leave(&self, owner: Owner) {
        self.state().end(owner);
    }

    /// A transaction commits: from now on it keeps what it has until [`Locks::leave`], and waits for nothing, so it
    /// cannot be given up for another one.
    ///
    /// # Errors
    /// It was given up already.
    pub fn seal(&self, owner: Owner) -> Result<(), Denied> {
        let mut state = self.state();
        let holder = state.transactions.get_mut(&owner).ok_or(Denied::GivenUp)?;
        holder.sealed = true;
        for (ticket, place) in std::mem::take(&mut holder.waits) {
            if let Some(waiter) = state.take_out(&place, ticket) {
                let _ = waiter.answer.send(Err(Denied::GivenUp));
            }
        }
        Ok(())
    }

    /// Locks documents for a transaction, one after the other, in the order of their places. What was locked stays so
    /// if a later one is denied.
    ///
    /// # Errors
    /// The transaction should be given up.
    pub async fn lock(
        &self,
        owner: Owner,
        places: &[Place],
        patience: Duration,
    ) -> Result<(), Denied> {
        let mut sorted: Vec<&Place> = places.iter().collect();
        sorted.sort_unstable();
        for place in sorted {
            let wait = self.state().ask(owner, place)?;
            let Some((ticket, answer)) = wait else {
                continue;
            };
            let waiting = Waiting {
                locks: self,
                owner,
                place: place.clone(),
                ticket,
                wanted: Arc::default(),
            };
            let outcome = tokio::time::timeout(patience, answer).await;
            drop(waiting);
            match outcome {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(denied))) => return Err(denied),
                Ok(Err(_)) => return Err(Denied::GivenUp),
                Err(_) => return Err(Denied::TimedOut),
            }
        }
        Ok(())
    }

    /// Locks documents for a write outside of transactions: all at once.
    ///
    /// # Errors
    /// Others held one of them for too long.
    pub async fn take(
        self: &Arc<Self>,
        owner: Owner,
        places: &[Place],
        patience: Duration,
    ) -> Result<Held, Denied> {
        let places: Arc<[Place]> = places.into();
        let wait = self.state().ask_all(owner, &places);
        let held = Held {
            locks: self.clone(),
            owner,
            places: places.clone(),
        };
        let Some((place, ticket, answer)) = wait else {
            return Ok(held);
        };
        let waiting = Waiting {
            locks: self,
            owner,
            place,
            ticket,
            wanted: places,
        };
        let outcome = tokio::time::timeout(patience, answer).await;
        let given = matches!(outcome, Ok(Ok(Ok(()))));
        drop(waiting);
        if given {
            return Ok(held);
        }
        Err(Denied::TimedOut)
    }

    /// How many documents are locked.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state().locks.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A search among those who wait for each other. It looks at each place of each queue once: who waits behind somebody
/// that was looked at waits, ahead of that one, for nobody else.
#[derive(Debug, Default)]
struct Search<'a> {
    /// Who was reached, and from whom.
    from: HashMap<Owner, Owner>,
    /// By place: how far its queue was looked at (the owner is the first), and who was seen there.
    looked: HashMap<&'a Place, (usize, HashSet<Owner>)>,
}

impl<'a> Search<'a> {
    /// Those whom `waiter` waits for at a place (behind all, if it does not stand there yet), unless they were given
    /// already.
    fn ahead(&mut self, lock: &Lock, place: &'a Place, waiter: Owner) -> Vec<Owner> {
        let (looked, seen) = self.looked.entry(place).or_default();
        if seen.contains(&waiter) {
            return Vec::new();
        }
        let line = std::iter::once(lock.owner).chain(lock.queue.iter().map(|other| other.owner));
        let ahead: Vec<Owner> = line
            .skip(*looked)
            .take_while(|other| *other != waiter)
            .collect();
        *looked += ahead.len();
        seen.extend(&ahead);
        ahead
    }

    /// Notes that `from` waits for `one`; whether that one was not reached before.
    fn reached(&mut self, one: Owner, from: Owner) -> bool {
        match self.from.entry(one) {
            Entry::Occupied(_) => false,
            Entry::Vacant(free) => {
                free.insert(from);
                true
            }
        }
    }

    /// Who stands on the way from the beginning.
    fn way_to(&self, end: Owner) -> impl Iterator<Item = Owner> + '_ {
        std::iter::successors(Some(end), |one| self.from.get(one).copied())
    }
}

type Answer = oneshot::Receiver<Result<(), Denied>>;

impl State {
    /// Locks a document for a transaction, or queues it.
    fn ask(&mut self, owner: Owner, place: &Place) -> Result<Option<(u64, Answer)>, Denied> {
        loop {
            if self
                .transactions
                .get(&owner)
                .is_none_or(|holder| holder.sealed)
            {
                return Err(Denied::GivenUp);
            }
            match self.locks.get(place) {
                None => {
                    self.give(owner, place);
                    return Ok(None);
                }
                Some(lock) if lock.owner == owner => return Ok(None),
                Some(_) => {}
            }
            match self.youngest_in_circle(owner, place) {
                None => break,
                Some(youngest) if youngest == owner => return Err(Denied::GivenUp),
                Some(youngest) => self.end(youngest),
            }
        }
        let (ticket, answer) = self.queue(owner, place, Arc::default());
        if let Some(holder) = self.transactions.get_mut(&owner) {
            holder.waits.push((ticket, place.clone()));
        }
        Ok(Some((ticket, answer)))
    }

    fn ask_all(&mut self, owner: Owner, places: &Arc<[Place]>) -> Option<(Place, u64, Answer)> {
        match self.first_locked(places) {
            None => {
                self.give_all(owner, places);
                None
            }
            Some(place) => {
                let place = place.clone();
                let (ticket, answer) = self.queue(owner, &place, places.clone());
                Some((place, ticket, answer))
            }
        }
    }

    fn first_locked<'a>(&self, places: &'a [Place]) -> Option<&'a Place> {
        places.iter().find(|place| self.locks.contains_key(*place))
    }

    fn give(&mut self, owner: Owner, place: &Place) {
        self.locks.insert(
            place.clone(),
            Lock {
                owner,
                queue: VecDeque::new(),
            },
        );
        if let Some(holder) = self.transactions.get_mut(&owner) {
            holder.held.push(place.clone());
        }
    }

    fn give_all(&mut self, owner: Owner, places: &[Place]) {
        for place in places {
            self.give(owner, place);
        }
    }

    fn queue(&mut self, owner: Owner, place: &Place, wanted: Arc<[Place]>) -> (u64, Answer) {
        self.tickets += 1;
        let ticket = self.tickets;
        let (answer, receiver) = oneshot::channel();
        if let Some(lock) = self.locks.get_mut(place) {
            lock.queue.push_back(Waiter {
                ticket,
                owner,
                wanted,
                answer,
            });
        }
        (ticket, receiver)
    }

    /// The youngest transaction of a circle that would close if `owner` waited for `place`.
    fn youngest_in_circle(&self, owner: Owner, place: &Place) -> Option<Owner> {
        let holder = self.transactions.get(&owner)?;
        if holder.held.is_empty() && holder.waits.is_empty() {
            // Nobody waits for it.
            return None;
        }
        let mut search = Search::default();
        let mut todo = vec![(owner, place)];
        while let Some((waiter, place)) = todo.pop() {
            let Some(lock) = self.locks.get(place) else {
                continue;
            };
            for next in search.ahead(lock, place, waiter) {
                if next == owner {
                    let circle = search.way_to(waiter);
                    return circle
                        .filter_map(|one| Some((self.transactions.get(&one)?.birth, one)))
                        .max_by_key(|(birth, one)| (*birth, one.0))
                        .map(|(_, one)| one);
                }
                if !search.reached(next, waiter) {
                    continue;
                }
                // Writes outside of transactions hold nothing while they wait.
                if let Some(holder) = self.transactions.get(&next) {
                    todo.extend(holder.waits.iter().map(|(_, waits)| (next, waits)));
                }
            }
        }
        None
    }

    /// A transaction is over.
    fn end(&mut self, owner: Owner) {
        let Some(holder) = self.transactions.remove(&owner) else {
            return;
        };
        for (ticket, place) in &holder.waits {
            if let Some(waiter) = self.take_out(place, *ticket) {
                let _ = waiter.answer.send(Err(Denied::GivenUp));
            }
        }
        self.release(owner, &holder.held);
    }

    fn take_out(&mut self, place: &Place, ticket: u64) -> Option<Waiter> {
        let queue = &mut self.locks.get_mut(place)?.queue;
        let at = queue.iter().position(|waiter| waiter.ticket == ticket)?;
        queue.remove(at)
    }

    /// Nobody waits for the answer any more: because it came, or because the request went away.
    fn leave(&mut self, owner: Owner, place: &Place, ticket: u64, wanted: &[Place]) {
        if let Some(holder) = self.transactions.get_mut(&owner) {
            holder.waits.retain(|(waits, _)| *waits != ticket);
        }
        if self.take_out(place, ticket).is_some() {
            return;
        }
        // A write that wants several may have moved on to wait for another of them.
        for other in wanted {
            if self.take_out(other, ticket).is_some() {
                return;
            }
        }
    }

    fn release(&mut self, owner: Owner, places: &[Place]) {
        for place in places {
            if self
                .locks
                .get(place)
                .is_some_and(|lock| lock.owner == owner)
            {
                self.pass_on(place);
            }
        }
    }

    /// Gives a lock that became free to whoever waits first.
    fn pass_on(&mut self, place: &Place) {
        let Some(Lock { mut queue, .. }) = self.locks.remove(place) else {
            return;
        };
        while let Some(first) = queue.pop_front() {
            if first.answer.is_closed() {
                continue;
            }
            if first.wanted.is_empty() {
                self.give(first.owner, place);
                self.given(first);
                self.restore(place, queue);
                return;
            }
            // It takes all or nothing; where another of its documents is locked, it waits for that one.
            if let Some(other) = self.first_locked(&first.wanted).cloned() {
                if let Some(lock) = self.locks.get_mut(&other) {
                    lock.queue.push_back(first);
                }
                continue;
            }
            self.give_all(first.owner, &first.wanted);
            if first.answer.send(Ok(())).is_ok() {
                self.restore(place, queue);
                return;
            }
            // It went away at this very moment. Nobody can have queued for what it was given.
            for given in first.wanted.iter() {
                self.locks.remove(given);
            }
        }
    }

    /// A waiting transaction has the lock now.
    fn given(&mut self, waiter: Waiter) {
        if let Some(holder) = self.transactions.get_mut(&waiter.owner) {
            holder.waits.retain(|(waits, _)| *waits != waiter.ticket);
        }
        // A request that went away leaves the lock with its transaction.
        let _ = waiter.answer.send(Ok(()));
    }

    /// Puts back who waits for a lock that was given anew. Other requests of the one who has it now have it, too.
    fn restore(&mut self, place: &Place, queue: VecDeque<Waiter>) {
        let owner = self.locks.get(place).map(|lock| lock.owner);
        for waiter in queue {
            if Some(waiter.owner) == owner {
                self.given(waiter);
            } else if let Some(lock) = self.locks.get_mut(place) {
                lock.queue.push_back(waiter);
            }
        }
    }
}

#[cfg(test)]
#[path = "locks_tests.rs"]
mod tests;
