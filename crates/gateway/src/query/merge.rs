//! Running a query: its branches are walked side by side and merged in the result's order, each document once.

use super::filter::{Field, Op};
use super::index::{Definition, Known, ensure};
use super::plan::{Branch, Source};
use super::resolve::resolve;
use super::scope::Scope;
use super::walk::{Paging, Reader, Smallest, Stats, Walker, pass, walk_of};
use super::{Query, explain};
use crate::feed::size_of_change;
use crate::reads::{Read, When};
use crate::{Gateway, status};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use tonic::Status;
use whimbrel_firestore::backend::{Along, Stored};
use whimbrel_firestore::v1::PlanSummary;
use whimbrel_firestore::{Micros, Place, View};

/// Documents that are handed out at once.
const BATCH: usize = 128;

/// How often indexes that a plan turns out to need are made before a query is given up.
const ATTEMPTS: usize = 8;

/// Documents that others changed meanwhile that a read of the past keeps in mind; where there are more, they are taken in
/// first.
const LATE: usize = 10_000;

/// A query under way.
pub struct Execution {
    query: Arc<Query>,
    known: Arc<Known>,
    late: Arc<HashSet<Place>>,
    walkers: Vec<Walker>,
    past: Option<Past>,
    /// The last document that was taken, so that none is taken twice.
    last: Option<Place>,
    to_skip: u32,
    left: Option<u32>,
    /// How many documents the offset passed over so far.
    pub skipped: u32,
    pub stats: Stats,
    branches: Vec<Branch>,
}

/// Opens a read and a query in it. Indexes that are missing are made before.
///
/// # Errors
/// The time or the transaction is refused, the store fails, or an index cannot be made.
pub async fn open(
    gateway: &Arc<Gateway>,
    when: &When,
    query: &Arc<Query>,
) -> Result<(Read, Execution), Status> {
    let mut when = when.clone();
    let mut begun = None;
    for _ in 0..ATTEMPTS {
        gateway.catch_up().await?;
        // Taken before a view is opened: what is ready here, the view shows whole.
        let known = gateway.indexes.known();
        let mut read = gateway.read(&when).await?;
        if let Some(transaction) = read.begun.take() {
            when = When::In(transaction.id());
            begun = Some(transaction);
        }
        match Execution::plan(query, known, &*read.view, read.at).await? {
            Ok(execution) => {
                read.begun = begun;
                read.rests_on(query);
                return Ok((read, execution));
            }
            Err(missing) => {
                drop(read);
                make(gateway, missing).await?;
            }
        }
    }
    Err(not_ready())
}

async fn make(gateway: &Arc<Gateway>, missing: Vec<Arc<Definition>>) -> Result<(), Status> {
    for definition in missing {
        ensure(gateway, &definition).await?;
    }
    Ok(())
}

fn not_ready() -> Status {
    Status::unavailable("The query's indexes were not ready in time. Nothing was read; try again.")
}

/// What others wrote that a view shows and nobody has taken in yet, as of when it was opened.
///
/// # Errors
/// The store fails.
async fn late(view: &dyn View) -> Result<Option<HashSet<Place>>, Status> {
    let (mut late, mut after) = (HashSet::new(), None);
    let mut paging = Paging::default();
    loop {
        let limit = paging.limit();
        let changes = view
            .changed(view.at(), None, after.as_ref(), limit)
            .await
            .map_err(status::of_store)?;
        paging.read(changes.iter().map(size_of_change));
        after = changes.last().map(|change| change.place.clone());
        let is_last = changes.len() < limit as usize;
        late.extend(changes.into_iter().map(|change| change.place));
        if late.len() > LATE {
            return Ok(None);
        }
        if is_last {
            return Ok(Some(late));
        }
    }
}

impl Execution {
    /// The query ready to run; or the indexes that it lacks (none where others' changes have to be taken in first).
    async fn plan(
        query: &Arc<Query>,
        known: Arc<Known>,
        view: &dyn View,
        at: Option<Micros>,
    ) -> Result<Result<Self, Vec<Arc<Definition>>>, Status> {
        let late = match at {
            None => HashSet::new(),
            Some(_) => match late(view).await? {
                Some(late) => late,
                None => return Ok(Err(Vec::new())),
            },
        };
        let branches = resolve(query, &known, view).await?;
        let mut missing = Vec::new();
        let mut walkers = Vec::new();
        for branch in &branches {
            match (Walker::new(branch, &known, branches.len()), &branch.source) {
                (Some(walker), _) => walkers.push(walker),
                (None, Source::Index(definition)) => missing.push(definition.clone()),
                (None, _) => {}
            }
        }
        if !missing.is_empty() {
            return Ok(Err(missing));
        }
        Ok(Ok(Self {
            query: query.clone(),
            known,
            late: Arc::new(late),
            walkers,
            past: at.map(|_| Past::default()),
            last: None,
            to_skip: query.offset,
            left: query.limit,
            skipped: 0,
            stats: Stats::default(),
            branches,
        }))
    }

    /// The indexes that are walked; where there is nothing to walk, those that would be.
    ///
    /// # Errors
    /// The filter has too many disjunctions.
    pub(super) fn plan_summary(&self) -> Result<PlanSummary, Status> {
        match self.branches.is_empty() {
            true => explain::planned(&self.query, &self.known),
            false => Ok(explain::summary(&self.query, &self.branches)),
        }
    }

    /// Whether the lines between the branches' bounds are the result, each once: then they need only be counted.
    #[must_use]
    pub fn is_countable(&self) -> bool {
        self.past.is_none()
            && self.query.nearest.is_none()
            && self.branches.iter().all(|branch| branch.exact)
            && are_disjoint(&self.branches)
    }

    /// The next documents of the result, in order; none at its end.
    ///
    /// # Errors
    /// The store fails.
    pub async fn next(&mut self, read: &Read) -> Result<Vec<(Place, Stored)>, Status> {
        let query = self.query.clone();
        let late = self.late.clone();
        let reader = Reader::new(read, &query, &late);
        let mut batch = Vec::new();
        while self.left != Some(0) && batch.len() < BATCH {
            if batch.is_empty() || self.is_filled() {
                self.fill(&reader).await?;
            } else {
                // What was found is handed out before more is read.
                break;
            }
            let Some((place, stored)) = self.pop() else {
                break;
            };
            if self.last.as_ref() == Some(&place) {
                continue;
            }
            self.last = Some(place.clone());
            if self.to_skip > 0 {
                self.to_skip -= 1;
                self.skipped += 1;
                continue;
            }
            if let Some(left) = &mut self.left {
                *left -= 1;
            }
            batch.push((place, stored));
        }
        Ok(batch)
    }

    /// Whether the next document can be told without reading.
    fn is_filled(&self) -> bool {
        self.walkers
            .iter()
            .all(|walker| !walker.buffer.is_empty() || walker.is_ended())
            && self
                .past
                .as_ref()
                .is_none_or(|past| !past.buffer.is_empty() || past.is_ended)
    }

    async fn fill(&mut self, reader: &Reader<'_>) -> Result<(), Status> {
        let wanted = self.left.map(|left| left.saturating_add(self.to_skip));
        for walker in &mut self.walkers {
            walker.fill(reader, wanted, &mut self.stats).await?;
        }
        if let Some(past) = &mut self.past {
            past.fill(reader, &mut self.stats).await?;
        }
        Ok(())
    }

    /// The first of the buffers' first documents.
    fn pop(&mut self) -> Option<(Place, Stored)> {
        let mut buffers: Vec<&mut VecDeque<(Place, Stored)>> = self
            .walkers
            .iter_mut()
            .map(|walker| &mut walker.buffer)
            .chain(self.past.as_mut().map(|past| &mut past.buffer))
            .collect();
        let mut first: Option<usize> = None;
        for (i, buffer) in buffers.iter().enumerate() {
            let Some((place, stored)) = buffer.front() else {
                continue;
            };
            let is_before = first.and_then(|first| buffers[first].front()).is_none_or(
                |(other_place, other)| {
                    self.query
                        .compare((place, stored), (other_place, other))
                        .is_lt()
                },
            );
            if is_before {
                first = Some(i);
            }
        }
        buffers[first?].pop_front()
    }
}

/// What documents were at the time of the read that were changed since, where they matched then.
#[derive(Default)]
struct Past {
    buffer: VecDeque<(Place, Stored)>,
    last: Option<(Place, Stored)>,
    is_ended: bool,
}

impl Past {
    async fn fill(&mut self, reader: &Reader<'_>, stats: &mut Stats) -> Result<(), Status> {
        let Some(at) = reader.at else {
            self.is_ended = true;
            return Ok(());
        };
        if !self.buffer.is_empty() || self.is_ended {
            return Ok(());
        }
        let query = reader.query;
        let mut smallest = Smallest::new(query, self.last.clone());
        // Places are in order of their collections: those of one need not be looked for in others.
        let only = match query.scope() {
            Scope::Collection { name, .. } => Some(name.clone()),
            _ => None,
        };
        let mut after = only.clone().map(|collection| Place {
            collection,
            key: "".into(),
        });
        let mut paging = Paging::default();
        loop {
            let limit = paging.limit();
            let changes = reader
                .view
                .changed(at, None, after.as_ref(), limit)
                .await
                .map_err(status::of_store)?;
            paging.read(changes.iter().map(size_of_change));
            stats.lines += changes.len() as u64;
            let is_last = changes.len() < limit as usize;
            after = changes.last().map(|change| change.place.clone());
            let is_past_it = after
                .as_ref()
                .zip(only.as_ref())
                .is_some_and(|(after, only)| after.collection != *only);
            for change in changes {
                let is_walked = change
                    .after
                    .as_ref()
                    .is_some_and(|after| reader.shows(&change.place, after));
                if let Some(before) = change.before.filter(|_| !is_walked)
                    && query.matches(&change.place, &before)
                {
                    smallest.offer(&change.place, &before);
                }
            }
            if is_last || is_past_it {
                break;
            }
        }
        self.is_ended = !smallest.more;
        self.last = smallest.kept.last().cloned();
        self.buffer.extend(smallest.kept);
        Ok(())
    }
}

/// Whether no document can be in two branches: an equality that all have on one field, each with another value.
fn are_disjoint(branches: &[Branch]) -> bool {
    if branches.len() <= 1 {
        return true;
    }
    let equalities = |branch: &Branch| -> Vec<(Field, Vec<u8>)> {
        branch
            .conjunction
            .iter()
            .filter(|test| test.op == Op::Equal)
            .filter_map(|test| {
                let mut bytes = Vec::new();
                super::key::push_value(&mut bytes, test.values.first()?, false);
                Some((test.field.clone(), bytes))
            })
            .collect()
    };
    let all: Vec<_> = branches.iter().map(equalities).collect();
    all[0].iter().any(|(field, _)| {
        let mut values: Vec<&Vec<u8>> = all
            .iter()
            .filter_map(|tests| tests.iter().find(|(other, _)| other == field))
            .map(|(_, value)| value)
            .collect();
        values.sort();
        values.dedup();
        values.len() == branches.len()
    })
}

impl Execution {
    /// Counts the lines between the branches' bounds, up to `most`: the size of the result where it is countable.
    ///
    /// # Errors
    /// The store fails.
    pub async fn count(&mut self, read: &Read, most: u64) -> Result<u64, Status> {
        let mut count = 0;
        for branch in &self.branches {
            let Some(along) = self.along(branch) else {
                continue;
            };
            for interval in &branch.intervals.0 {
                let limit = u32::try_from(most - count).unwrap_or(u32::MAX);
                if limit == 0 {
                    break;
                }
                if let Some(walk) = walk_of(&along, interval, branch.descending, limit, false) {
                    count += read.view.count(&walk).await.map_err(status::of_store)?;
                    count = count.min(most);
                }
            }
        }
        self.stats.lines += count;
        Ok(count)
    }

    /// Calls `visit` with the place of every line, in the order of each branch.
    ///
    /// # Errors
    /// The store fails.
    pub async fn each_place(
        &self,
        read: &Read,
        mut visit: impl FnMut(Place) + Send,
    ) -> Result<(), Status> {
        const PAGE: u32 = 4_096;
        for branch in &self.branches {
            let Some(along) = self.along(branch) else {
                continue;
            };
            for interval in &branch.intervals.0 {
                let mut interval = interval.clone();
                while let Some(walk) = walk_of(&along, &interval, false, PAGE, false) {
                    let lines = read.view.walk(&walk).await.map_err(status::of_store)?;
                    let Some(last) = lines.last() else { break };
                    pass(&mut interval, &last.key, false);
                    let is_last = lines.len() < PAGE as usize;
                    let places = lines.into_iter().map(|line| line.place);
                    places.filter(Place::is_sound).for_each(&mut visit);
                    if is_last {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn along(&self, branch: &Branch) -> Option<Along> {
        match &branch.source {
            Source::Index(definition) => self
                .known
                .over(&definition.over)
                .find(|index| index.ready && index.definition == *definition)
                .map(|index| Along::Index(index.id)),
            Source::Keys(collection) => Some(Along::Collection(collection.clone())),
            Source::Named(_) => None,
        }
    }
}
