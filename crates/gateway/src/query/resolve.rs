//! A plan's branches as they can be walked in a view: which collections there are, whether their keys are in the order
//! of names, whether there is anything at all.

use super::Query;
use super::filter::{Conjunction, Field, Op, compare_places, path_of};
use super::index::{Known, Over};
use super::key::{Interval, behind};
use super::plan::{Branch, Source};
use super::scope::Scope;
use super::walk::walk_of;
use crate::names::{id_of, is_numeric};
use crate::status;
use std::collections::BTreeMap;
use std::sync::Arc;
use tonic::Status;
use whimbrel_firestore::backend::Along;
use whimbrel_firestore::{Place, View};

/// Names that are put in order in memory rather than by an index of their own.
const GATHERED: u32 = 1_000;

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
