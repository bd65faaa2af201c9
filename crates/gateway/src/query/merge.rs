//! Running a query: its branches are walked side by side and merged in the result's order, each document once.

use super::Query;
use super::filter::{Conjunction, Field, Op, compare_places, path_of};
use super::index::{Definition, Known, Over, ensure};
use super::key::{Interval, behind};
use super::plan::{Branch, Source, is_numeric};
use super::scope::{Scope, id_of};
use super::walk::{Reader, Smallest, Stats, Walker, pass, walk_of};
use crate::reads::{Read, When};
use crate::{Gateway, status};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tonic::Status;
use whimbrel_firestore::backend::{Along, Stored};
use whimbrel_firestore::{Micros, Place, View};

/// Documents that are handed out at once.
const BATCH: usize = 128;

/// Names that are put in order in memory rather than by an index of their own.
const GATHERED: u32 = 1_000;

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
            when = When::In(transaction.clone());
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

/// The branches of a query as they can be walked in a view.
///
/// # Errors
/// The filter has too many disjunctions, or the store fails.
pub(super) async fn resolve(
    query: &Query,
    known: &Known,
    view: &dyn View,
) -> Result<Vec<Branch>, Status> {
    let mut resolved = Vec::new();
    if query.scope.is_kindless() {
        kindless(query, known, view, &mut resolved).await?;
    } else {
        for branch in query.branches(known)? {
            resolved.extend(walkable(query, branch, view).await?);
        }
    }
    let mut wanted = Vec::with_capacity(resolved.len());
    for branch in resolved {
        if branch.is_empty() || !is_inhabited(&branch, known, view).await? {
            continue;
        }
        wanted.push(branch);
    }
    Ok(wanted)
}

/// Whether there is anything to walk. An index that is ready is not asked for: only making one is dear.
async fn is_inhabited(branch: &Branch, known: &Known, view: &dyn View) -> Result<bool, Status> {
    let Source::Index(definition) = &branch.source else {
        return Ok(true);
    };
    let is_ready = known
        .over(&definition.over)
        .any(|index| index.ready && index.definition == *definition);
    if is_ready {
        return Ok(true);
    }
    match &definition.over {
        Over::Collection(name) => {
            let all = Interval::below(&[]);
            let walk = walk_of(&Along::Collection(name.clone()), &all, false, 1, false);
            let Some(walk) = walk else { return Ok(false) };
            let lines = view.walk(&walk).await.map_err(status::of_store)?;
            Ok(!lines.is_empty())
        }
        Over::Group { .. } => {
            let collections = view.collections().await.map_err(status::of_store)?;
            Ok(collections.iter().any(|name| definition.covers(name)))
        }
    }
}

/// A walk along a collection's own keys is in the order of names only where no id is a number of old; where there are
/// some, the names are put in order in memory, or by an index.
async fn walkable(
    query: &Query,
    branch: Branch,
    view: &dyn View,
) -> Result<Option<Branch>, Status> {
    let (Source::Keys(collection), Scope::Collection { keys, .. }) = (&branch.source, &query.scope)
    else {
        return Ok(Some(branch));
    };
    // Bounds in keys take numbers for smaller than everything: what they leave out may yet be there.
    let by_name = query.branch_by_name(&branch.conjunction);
    if by_name.as_ref().is_none_or(Branch::is_empty) {
        return Ok(None);
    }
    if !may_have_numbers(collection, keys, view).await? {
        return Ok(Some(branch));
    }
    match gather(query, collection, keys, view).await? {
        Some(paths) => Ok(Some(Branch::named(paths, &branch.conjunction))),
        None => Ok(by_name),
    }
}

/// Whether a collection may hold ids like `__id7__` (where many begin like them, they are not all looked at).
async fn may_have_numbers(
    collection: &Arc<str>,
    keys: &str,
    view: &dyn View,
) -> Result<bool, Status> {
    const PROBED: u32 = 33;
    let interval = Interval {
        from: format!("{keys}__id").into_bytes(),
        to: Some(format!("{keys}__ie").into_bytes()),
    };
    let along = Along::Collection(collection.clone());
    let Some(walk) = walk_of(&along, &interval, false, PROBED, false) else {
        return Ok(false);
    };
    let lines = view.walk(&walk).await.map_err(status::of_store)?;
    Ok(lines.len() == PROBED as usize || lines.iter().any(|line| is_numeric(line.place.id())))
}

/// The names below a parent in a collection, in the query's order, if they are few.
async fn gather(
    query: &Query,
    collection: &Arc<str>,
    keys: &str,
    view: &dyn View,
) -> Result<Option<Vec<String>>, Status> {
    let along = Along::Collection(collection.clone());
    let interval = Interval {
        from: keys.as_bytes().to_vec(),
        to: behind(keys.as_bytes()),
    };
    let Some(walk) = walk_of(&along, &interval, false, GATHERED + 1, false) else {
        return Ok(Some(Vec::new()));
    };
    let lines = view.walk(&walk).await.map_err(status::of_store)?;
    if lines.len() > GATHERED as usize {
        return Ok(None);
    }
    let mut places: Vec<Place> = lines
        .into_iter()
        .map(|line| line.place)
        .filter(Place::is_sound)
        .collect();
    places.sort_by(compare_places);
    if query.orders.first().is_some_and(|order| order.descending) {
        places.reverse();
    }
    Ok(Some(places.iter().map(Place::path).collect()))
}

/// The branches of a query over all collections below a parent, which filters and orders names only: one or more for
/// each collection.
async fn kindless(
    query: &Query,
    known: &Known,
    view: &dyn View,
    resolved: &mut Vec<Branch>,
) -> Result<(), Status> {
    let (Scope::Children { parent } | Scope::Descendants { parent }) = &query.scope else {
        return Ok(());
    };
    let conjunctions = query.conjunctions()?;
    let collections = view.collections().await.map_err(status::of_store)?;
    for conjunction in &conjunctions {
        let Some(path) = name_of(conjunction) else {
            continue;
        };
        // What is asked for by name may be where no document can be.
        let is_there =
            Place::of_path(path).is_some_and(|place| collections.contains(&place.collection));
        if is_there {
            resolved.push(Branch::named(vec![path.to_owned()], conjunction));
        }
    }
    if conjunctions.iter().all(|one| name_of(one).is_some()) {
        return Ok(());
    }
    let mut by_id: BTreeMap<&str, Vec<&Arc<str>>> = BTreeMap::new();
    for collection in collections.iter().filter(|name| query.covers(name)) {
        by_id.entry(id_of(collection)).or_default().push(collection);
    }
    for (id, collections) in by_id {
        let group = query.within(Scope::Group {
            id: id.to_owned(),
            parent: parent.clone(),
        });
        let through_group = group.bounded_by_name()?;
        let mut is_large = false;
        for collection in collections {
            if parent.depth(collection) == Some(1) {
                let own = query.within(Scope::Collection {
                    name: collection.clone(),
                    keys: parent.keys.clone(),
                });
                for branch in own.branches(known)? {
                    resolved.extend(walkable(&own, branch, view).await?);
                }
            } else if !is_large && !through_group.iter().all(Branch::is_empty) {
                match gather(query, collection, &parent.keys, view).await? {
                    Some(paths) => resolved.push(Branch::named(paths, &Conjunction::new())),
                    None => is_large = true,
                }
            }
        }
        if is_large {
            resolved.extend(through_group);
        }
    }
    Ok(())
}

/// The one name that a conjunction asks for.
fn name_of(conjunction: &Conjunction) -> Option<&str> {
    let test = conjunction
        .iter()
        .find(|test| test.field == Field::Name && test.op == Op::Equal)?;
    test.values.first().map(path_of)
}

impl Query {
    fn within(&self, scope: Scope) -> Self {
        Self {
            scope,
            ..self.clone()
        }
    }

    /// The branches through the index by name, whatever else there is.
    fn bounded_by_name(&self) -> Result<Vec<Branch>, Status> {
        Ok(self
            .conjunctions()?
            .iter()
            .filter_map(|conjunction| self.branch_by_name(conjunction))
            .collect())
    }
}

impl Execution {
    /// Counts the lines between the branches' bounds, up to `most`: the size of the result where it is countable.
    ///
    /// # Errors
    /// The store fails.
    pub(super) async fn count(&mut self, read: &Read, most: u64) -> Result<u64, Status> {
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
