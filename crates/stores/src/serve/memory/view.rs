//! The store as of one moment.

use super::state::{Entry, State};
use super::{SLICE, Shared};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use whimbrel_firestore::backend::{Along, Change, Line, Stored, Walk};
use whimbrel_firestore::{Micros, Place, View};
use whimbrel_model::StoreError;

pub(super) struct MemoryView {
    shared: Arc<Shared>,
    at: Micros,
}

impl MemoryView {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        // Noted before the state can move on, so that nothing it sees is swept away.
        let state = shared.read();
        *shared.views().entry(state.last).or_insert(0) += 1;
        Self {
            at: state.last,
            shared: shared.clone(),
        }
    }

    /// Goes along the entries that the view sees until `each` has enough, letting others in now and then.
    async fn along(
        &self,
        walk: &Walk,
        mut each: impl FnMut(&State, &[u8], Entry<'_>) -> bool + Send,
    ) -> Result<(), StoreError> {
        let (mut from, mut to) = (walk.from.clone(), walk.to.clone());
        loop {
            let resume = {
                let state = self.shared.read();
                let bounds = (as_slice(&from), as_slice(&to));
                let mut entries = state.entries(&walk.along, bounds, walk.descending, self.at)?;
                let mut looked = 0;
                loop {
                    let Some((key, entry)) = entries.next() else {
                        return Ok(());
                    };
                    if let Some(entry) = entry
                        && !each(&state, key, entry)
                    {
                        return Ok(());
                    }
                    looked += 1;
                    if looked == SLICE {
                        break Bound::Excluded(key.to_vec());
                    }
                }
            };
            match walk.descending {
                true => to = resume,
                false => from = resume,
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for MemoryView {
    fn drop(&mut self) {
        let mut views = self.shared.views();
        if let Some(open) = views.get_mut(&self.at) {
            *open -= 1;
            if *open == 0 {
                views.remove(&self.at);
            }
        }
    }
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

#[async_trait]
impl View for MemoryView {
    fn at(&self) -> Micros {
        self.at
    }

    async fn get(
        &self,
        places: &[Place],
        at: Option<Micros>,
    ) -> Result<Vec<Option<Stored>>, StoreError> {
        let at = at.map_or(self.at, |at| at.min(self.at));
        let state = self.shared.read();
        let one = |place| state.as_of(place, at).cloned();
        Ok(places.iter().map(one).collect())
    }

    async fn walk(&self, walk: &Walk) -> Result<Vec<Line>, StoreError> {
        let limit = walk.limit as usize;
        let mut lines = Vec::new();
        if limit == 0 {
            return Ok(lines);
        }
        self.along(walk, |state, key, entry| {
            let (place, stored) = match (entry, &walk.along) {
                (Entry::Line(place), _) => {
                    let stored = walk.documents.then(|| state.as_of(place, self.at));
                    (place.clone(), stored.flatten().cloned())
                }
                (Entry::Document(id, stored), Along::Collection(name)) => {
                    let place = Place {
                        collection: name.clone(),
                        key: id.clone(),
                    };
                    (place, walk.documents.then(|| stored.clone()))
                }
                (Entry::Document(..), Along::Index(_)) => return true,
            };
            lines.push(Line {
                key: key.to_vec(),
                place,
                stored,
            });
            lines.len() < limit
        })
        .await?;
        Ok(lines)
    }

    async fn count(&self, walk: &Walk) -> Result<u64, StoreError> {
        let limit = u64::from(walk.limit);
        let mut count = 0;
        if limit == 0 {
            return Ok(0);
        }
        self.along(walk, |_, _, _| {
            count += 1;
            count < limit
        })
        .await?;
        Ok(count)
    }

    async fn collections(&self) -> Result<Vec<Arc<str>>, StoreError> {
        Ok(self.shared.read().collections_as_of(self.at))
    }

    async fn changed(
        &self,
        since: Micros,
        until: Option<Micros>,
        after_place: Option<&Place>,
        limit: u32,
    ) -> Result<Vec<Change>, StoreError> {
        let until = until.map_or(self.at, |until| until.min(self.at));
        let (mut next, end) = {
            let state = self.shared.read();
            (state.changes_after(since), state.changes_after(until))
        };
        // The first ones by place, each with its last change; no more of them are kept than are asked for.
        let mut places: BTreeMap<Place, Micros> = BTreeMap::new();
        while next < end {
            let part = next..end.min(next + SLICE);
            next = part.end;
            for (at, place) in self.shared.read().changes(part) {
                if after_place.is_some_and(|after| place <= after) {
                    continue;
                }
                match places.get_mut(place) {
                    Some(last) => *last = *at,
                    None => {
                        places.insert(place.clone(), *at);
                        if places.len() > limit as usize {
                            places.pop_last();
                        }
                    }
                }
            }
            tokio::task::yield_now().await;
        }
        let state = self.shared.read();
        let change = |(place, at): (Place, Micros)| Change {
            at,
            before: state.as_of(&place, since).cloned(),
            after: state.as_of(&place, until).cloned(),
            place,
        };
        Ok(places.into_iter().map(change).collect())
    }
}
