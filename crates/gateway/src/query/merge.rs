//! Running a query: its branches are walked side by side and merged in the result's order, each document once.

use super::Query;
use super::filter::{Field, Op};
use super::index::{Definition, Known, ensure};
use super::plan::{Branch, Source};
use super::resolve::resolve;
use super::scope::Scope;
use super::walk::{Reader, Smallest, Stats, Walker, pass, walk_of};
use crate::reads::{Read, When};
use crate::{Gateway, status};
use std::collections::VecDeque;
use std::sync::Arc;
use tonic::Status;
use whimbrel_firestore::backend::{Along, Stored};
use whimbrel_firestore::{Micros, Place, View};

/// Documents that are handed out at once.
const BATCH: usize = 128;

/// How often indexes that a plan turns out to need are made before a query is given up.
const ATTEMPTS: usize = 8;

/// Changes that are looked through at once.
const CHANGES: u32 = 512;

/// A query under way.
pub struct Execution {
    query: Arc<Query>,
    known: Arc<Known>,
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

/// A query whose indexes were ready at one time: every read that is opened later can run it.
#[derive(Clone)]
pub struct Prepared {
    query: Arc<Query>,
    known: Arc<Known>,
}

/// Makes the indexes that a query needs, for reads that are opened afterwards.
///
/// # Errors
/// The store fails, or an index cannot be made.
pub async fn prepare(gateway: &Arc<Gateway>, query: &Arc<Query>) -> Result<Prepared, Status> {
    for _ in 0..ATTEMPTS {
        gateway.catch_up().await?;
        let prepared = Prepared {
            query: query.clone(),
            // Taken before a view is opened: what is ready here, the view shows whole.
            known: gateway.indexes.known(),
        };
        let view = gateway.backend.view().await.map_err(status::of_store)?;
        match prepared.plan(&*view, None).await? {
            Ok(_) => return Ok(prepared),
            Err(missing) => {
                drop(view);
                make(gateway, missing).await?;
            }
        }
    }
    Err(not_ready())
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
        let prepared = Prepared {
            query: query.clone(),
            known: gateway.indexes.known(),
        };
        let mut read = gateway.read(&when).await?;
        if let Some(transaction) = read.begun.take() {
            when = When::In(transaction.id());
            begun = Some(transaction);
        }
        match prepared.plan(&*read.view, read.at).await? {
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

impl Prepared {
    /// Runs the query in a read that was opened after it was prepared.
    ///
    /// # Errors
    /// The store fails; or (UNAVAILABLE) the documents have changed such that another index is needed.
    pub async fn run(&self, read: &Read) -> Result<Execution, Status> {
        self.plan(&*read.view, read.at)
            .await?
            .map_err(|_| not_ready())
    }

    /// The query ready to run; or the indexes that it lacks.
    async fn plan(
        &self,
        view: &dyn View,
        at: Option<Micros>,
    ) -> Result<Result<Execution, Vec<Arc<Definition>>>, Status> {
        let query = &self.query;
        let branches = resolve(query, &self.known, view).await?;
        let mut missing = Vec::new();
        let mut walkers = Vec::new();
        for branch in &branches {
            match (
                Walker::new(branch, &self.known, branches.len()),
                &branch.source,
            ) {
                (Some(walker), _) => walkers.push(walker),
                (None, Source::Index(definition)) => missing.push(definition.clone()),
                (None, _) => {}
            }
        }
        if !missing.is_empty() {
            return Ok(Err(missing));
        }
        Ok(Ok(Execution {
            query: query.clone(),
            known: self.known.clone(),
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
}

impl Execution {
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
        let reader = Reader::new(read, &query);
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
        loop {
            let changes = reader
                .view
                .changed(at, None, after.as_ref(), CHANGES)
                .await
                .map_err(status::of_store)?;
            stats.lines += changes.len() as u64;
            let is_last = changes.len() < CHANGES as usize;
            after = changes.last().map(|change| change.place.clone());
            let is_past_it = after
                .as_ref()
                .zip(only.as_ref())
                .is_some_and(|(after, only)| after.collection != *only);
            for change in changes {
                let is_walked = change
                    .after
                    .as_ref()
                    .is_some_and(|after| reader.shows(after));
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
    pub(super) async fn each_place(
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
                    lines.into_iter().for_each(|line| visit(line.place));
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
