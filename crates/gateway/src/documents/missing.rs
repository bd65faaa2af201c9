//! A collection's documents together with those that are not there but have documents below them.
//!
//! The second are nowhere written down: they are the distinct ids in the keys of the deeper collections, found by
//! leaping from one to the next.

use super::collections::behind;
use super::{Mask, bad_page_token, page_token};
use crate::Gateway;
use crate::names::{self, Collection, is_numeric};
use crate::reads::{Held, Read, When};
use crate::status::{self, contention};
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use tonic::Status;
use whimbrel_firestore::backend::{Along, Walk};
use whimbrel_firestore::core::order::compare_segments;
use whimbrel_firestore::v1::{Document, ListDocumentsResponse};
use whimbrel_firestore::{DatabaseName, Place};

/// Changes looked at at once.
const AT_ONCE: u32 = 500;

/// Where the numeric ids of old (`__id7__`) lie among the keys.
const NUMERIC: &str = "__id";
const NUMERIC_END: &str = "__ie";

pub(super) struct Page<'a> {
    pub database: &'a DatabaseName,
    pub collection: &'a Collection,
    pub size: usize,
    pub mask: &'a Mask,
}

/// An id in Firestore's order: the numeric ones first.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Id(String);

impl Ord for Id {
    fn cmp(&self, other: &Self) -> Ordering {
        compare_segments(&self.0, &other.0)
    }
}

impl PartialOrd for Id {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Page<'_> {
    pub async fn read(
        &self,
        gateway: &Arc<Gateway>,
        when: &When,
        token: Option<Vec<u8>>,
    ) -> Result<ListDocumentsResponse, Status> {
        let after = token
            .map(|token| String::from_utf8(token).map_err(|_| bad_page_token()))
            .transpose()?
            .map(Id);
        let mut read = gateway.read(when).await?;
        let ids = self.ids(&read, after).await?;
        let mut response = ListDocumentsResponse::default();
        let mut last = None;
        let mut held = Vec::new();
        for id in &ids {
            if response.documents.len() == self.size {
                break;
            }
            last = Some(id);
            let place = self.place(id);
            let found = read.view.get(std::slice::from_ref(&place), read.at).await;
            match found
                .map_err(status::of_store)?
                .into_iter()
                .next()
                .flatten()
            {
                Some(stored) => {
                    let document = self.mask.show(self.database, &place, &stored);
                    response.documents.push(document);
                    held.push((place, stored.updated));
                }
                None => response.documents.push(Document {
                    name: names::name(self.database, &place),
                    ..Document::default()
                }),
            }
        }
        if let Some(last) = last
            && ids.len() > self.size
        {
            response.next_page_token = page_token(last.0.as_bytes());
        }
        if read.hold(&held).await? == Held::Changed {
            return Err(contention());
        }
        Ok(response)
    }

    fn place(&self, id: &Id) -> Place {
        Place {
            collection: self.collection.name.clone(),
            key: format!("{}{}", self.collection.keys, id.0).into(),
        }
    }

    /// The next ids, in order: one more than a page has, if there are so many.
    async fn ids(&self, read: &Read, after: Option<Id>) -> Result<Vec<Id>, Status> {
        let mut sources = vec![self.collection.name.clone()];
        let below = format!("{}/", self.collection.name);
        let names = read.view.collections().await.map_err(status::of_store)?;
        sources.extend(names.into_iter().filter(|name| name.starts_with(&below)));
        let wanted = self.size + 1;
        let mut ids = BTreeSet::new();
        let is_next = |id: &Id| after.as_ref().is_none_or(|after| id > after);
        if let Some(at) = read.at {
            ids = self.there_at(read, at, &is_next).await?;
        }
        let numeric = after.as_ref().is_none_or(|after| is_numeric(&after.0));
        let behind_numeric = after.as_ref().filter(|after| !is_numeric(&after.0));
        for collection in sources {
            let source = Source {
                read,
                direct: collection == self.collection.name,
                collection,
                keys: &self.collection.keys,
            };
            if numeric {
                // They do not lie in their order: all of them are looked at.
                let mut found = BTreeSet::new();
                let mut at = source.first(Some(NUMERIC)).await?;
                while let Some(id) = at.filter(|id| id.as_str() < NUMERIC_END) {
                    at = source.next(&id).await?;
                    let id = Id(id);
                    if is_numeric(&id.0) && is_next(&id) && source.holds(&id.0).await? {
                        found.insert(id);
                        if found.len() > wanted {
                            found.pop_last();
                        }
                    }
                }
                ids.extend(found);
            }
            let mut at = match behind_numeric {
                None => source.first(None).await?,
                Some(after) => source.next(&after.0).await?,
            };
            let mut found = 0;
            while let Some(id) = at {
                if found == wanted {
                    break;
                }
                at = source.next(&id).await?;
                if !is_numeric(&id) && source.holds(&id).await? {
                    ids.insert(Id(id));
                    found += 1;
                }
            }
        }
        Ok(ids.into_iter().take(wanted).collect())
    }

    /// The next ids below which there was something that changed since.
    async fn there_at(
        &self,
        read: &Read,
        at: whimbrel_firestore::Micros,
        is_next: &(dyn Fn(&Id) -> bool + Sync),
    ) -> Result<BTreeSet<Id>, Status> {
        let mut ids = BTreeSet::new();
        let below = format!("{}/", self.collection.name);
        let mut after = None;
        loop {
            let changed = read.view.changed(at, None, after.as_ref(), AT_ONCE).await;
            let changed = changed.map_err(status::of_store)?;
            for change in &changed {
                let Place { collection, key } = &change.place;
                if change.before.is_some()
                    && (*collection == self.collection.name || collection.starts_with(&below))
                    && let Some(rest) = key.strip_prefix(self.collection.keys.as_str())
                    && let Some(id) = rest.split('/').next()
                {
                    let id = Id(id.to_owned());
                    if is_next(&id) {
                        ids.insert(id);
                    }
                    // However much changed, no more is kept than can be of use.
                    if ids.len() > self.size + 1 {
                        ids.pop_last();
                    }
                }
            }
            match changed.into_iter().last() {
                Some(last) => after = Some(last.place),
                None => return Ok(ids),
            }
        }
    }
}

/// The ids right below the parent in the keys of one collection: the list's own, or a deeper one.
struct Source<'a> {
    read: &'a Read,
    collection: Arc<str>,
    /// Whether the keys end with the id.
    direct: bool,
    keys: &'a str,
}

impl Source<'_> {
    /// The first id, in the order of bytes, not before `from`.
    async fn first(&self, from: Option<&str>) -> Result<Option<String>, Status> {
        let start = format!("{}{}", self.keys, from.unwrap_or(""));
        let found = self
            .seek(Bound::Included(start.into_bytes()), behind(self.keys))
            .await?;
        match found {
            Some(id) => self.shortest(id, from).await.map(Some),
            None => Ok(None),
        }
    }

    /// The next id, in the order of bytes.
    ///
    /// Keys are not ordered as the ids in them: `a!/x` lies before `a/x`. So what begins with the id and goes on
    /// with a byte before the slash comes first.
    async fn next(&self, id: &str) -> Result<Option<String>, Status> {
        let key = format!("{}{id}", self.keys);
        if self.direct {
            return self
                .seek(Bound::Excluded(key.into_bytes()), behind(self.keys))
                .await;
        }
        let from = Bound::Excluded(key.clone().into_bytes());
        let slash = Bound::Excluded(format!("{key}/").into_bytes());
        if let Some(longer) = self.seek(from, slash).await? {
            return self.shortest(longer, Some(id)).await.map(Some);
        }
        let mut passed = id.to_owned();
        loop {
            let from = match behind(&format!("{}{passed}/", self.keys)) {
                Bound::Excluded(end) => Bound::Included(end),
                other => other,
            };
            match self.seek(from, behind(self.keys)).await? {
                // What the id begins with came before it, but its keys lie behind.
                Some(shorter) if shorter.as_str() <= id => passed = shorter,
                Some(next) => return self.shortest(next, Some(id)).await.map(Some),
                None => return Ok(None),
            }
        }
    }

    /// Of an id that was found and those that it begins with: the first that is there and after `after`. Only those that
    /// go on with a byte before the slash can have been passed over.
    async fn shortest(&self, id: String, after: Option<&str>) -> Result<String, Status> {
        if self.direct {
            return Ok(id);
        }
        for (end, _) in id.char_indices().skip(1) {
            let Some((shorter, rest)) = id.split_at_checked(end) else {
                continue;
            };
            if rest.as_bytes().first().is_none_or(|byte| *byte >= b'/')
                || after.is_some_and(|after| shorter <= after)
            {
                continue;
            }
            let below = format!("{}{shorter}/", self.keys);
            let from = Bound::Included(below.clone().into_bytes());
            if self.seek(from, behind(&below)).await?.is_some() {
                return Ok(shorter.to_owned());
            }
        }
        Ok(id)
    }

    /// The id in the first key between two bounds.
    async fn seek(
        &self,
        from: Bound<Vec<u8>>,
        to: Bound<Vec<u8>>,
    ) -> Result<Option<String>, Status> {
        let walk = self.walk(from, to, 1);
        let lines = self.read.view.walk(&walk).await.map_err(status::of_store)?;
        let Some(line) = lines.first() else {
            return Ok(None);
        };
        let rest = line.place.key.strip_prefix(self.keys).unwrap_or("");
        Ok(rest.split('/').next().map(str::to_owned))
    }

    fn walk(&self, from: Bound<Vec<u8>>, to: Bound<Vec<u8>>, limit: u32) -> Walk {
        Walk {
            along: Along::Collection(self.collection.clone()),
            from,
            to,
            descending: false,
            limit,
            documents: false,
        }
    }

    /// Whether there was something with this id as of the time that is read at.
    async fn holds(&self, id: &str) -> Result<bool, Status> {
        let Some(at) = self.read.at else {
            return Ok(true);
        };
        let key = format!("{}{id}", self.keys);
        let mut walk = if self.direct {
            let key = key.into_bytes();
            self.walk(Bound::Included(key.clone()), Bound::Included(key), 1)
        } else {
            let below = format!("{key}/");
            let from = Bound::Included(below.clone().into_bytes());
            self.walk(from, behind(&below), AT_ONCE)
        };
        loop {
            let lines = self.read.view.walk(&walk).await.map_err(status::of_store)?;
            let Some(last) = lines.last() else {
                return Ok(false);
            };
            walk.from = Bound::Excluded(last.key.clone());
            let places: Vec<Place> = lines.into_iter().map(|line| line.place).collect();
            let found = self.read.view.get(&places, Some(at)).await;
            if found.map_err(status::of_store)?.iter().any(Option::is_some) {
                return Ok(true);
            }
            if self.direct {
                return Ok(false);
            }
        }
    }
}
