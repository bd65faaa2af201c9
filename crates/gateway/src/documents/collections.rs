//! The ids of the collections below a document, or below the root.

use super::{page_size, page_token, read_page_token};
use crate::reads::{Read, When};
use crate::status::{self, invalid};
use crate::{Gateway, names};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use tonic::Status;
use whimbrel_firestore::DatabaseName;
use whimbrel_firestore::backend::{Along, Walk};
use whimbrel_firestore::v1::{
    ListCollectionIdsRequest, ListCollectionIdsResponse, list_collection_ids_request,
};

/// Documents or changes looked at at once.
const AT_ONCE: u32 = 500;

/// # Errors
/// INVALID_ARGUMENT, or as [`Gateway::read`].
pub async fn list_collection_ids(
    gateway: &Arc<Gateway>,
    request: ListCollectionIdsRequest,
) -> Result<ListCollectionIdsResponse, Status> {
    use list_collection_ids_request::ConsistencySelector as Selector;
    let (database, parent) = names::parent(&request.parent)?;
    if request.page_size < 0 {
        return Err(invalid("page_size must be greater than or equal to zero."));
    }
    let size = page_size(request.page_size)?;
    let when = match &request.consistency_selector {
        None => When::Now,
        Some(Selector::ReadTime(at)) => When::at(at)?,
    };
    let after = read_page_token(&request.page_token)?
        .map(|token| String::from_utf8(token).map_err(|_| super::bad_page_token()))
        .transpose()?;
    let read = gateway.read(&when).await?;
    let below = Below::new(&database, parent);
    let mut ids = below.candidates(&read).await?;
    if let Some(after) = &after {
        ids = ids.split_off(after);
        ids.remove(after);
    }
    let mut response = ListCollectionIdsResponse::default();
    for (id, collections) in ids {
        if !below.holds_any(&read, &collections).await? {
            continue;
        }
        if response.collection_ids.len() == size {
            if let Some(last) = response.collection_ids.last() {
                response.next_page_token = page_token(last.as_bytes());
            }
            break;
        }
        response.collection_ids.push(id);
    }
    Ok(response)
}

/// What lies below a document, or below the root.
struct Below<'a> {
    database: &'a DatabaseName,
    /// Collection ids on the way: empty, or ending with `/`.
    ids: String,
    /// What the keys begin with: empty, or ending with `/`.
    keys: String,
}

/// Collections of the store that stand for a collection id; whether it is known already that they hold documents.
#[derive(Default)]
struct Candidate {
    names: BTreeSet<Arc<str>>,
    sure: bool,
}

impl<'a> Below<'a> {
    fn new(database: &'a DatabaseName, parent: &str) -> Self {
        let mut ids = String::new();
        for id in parent.split('/').step_by(2).filter(|id| !id.is_empty()) {
            ids.push_str(id);
            ids.push('/');
        }
        Self {
            database,
            ids,
            keys: names::collection(database, parent, "x").keys,
        }
    }

    /// The id right below that a collection of the store stands for.
    fn id<'n>(&self, collection: &'n str) -> Option<&'n str> {
        if !names::belongs(self.database, collection) {
            return None;
        }
        let rest = names::collection_path(collection).strip_prefix(self.ids.as_str())?;
        rest.split('/').next().filter(|id| !id.is_empty())
    }

    async fn candidates(&self, read: &Read) -> Result<BTreeMap<String, Candidate>, Status> {
        let mut ids: BTreeMap<String, Candidate> = BTreeMap::new();
        let names = read.view.collections().await.map_err(status::of_store)?;
        for name in names {
            if let Some(id) = self.id(&name) {
                let candidate = ids.entry(id.to_owned()).or_default();
                candidate.names.insert(name);
            }
        }
        let Some(at) = read.at else {
            return Ok(ids);
        };
        // What was deleted since.
        let mut after = None;
        loop {
            let changed = read.view.changed(at, None, after.as_ref(), AT_ONCE).await;
            let changed = changed.map_err(status::of_store)?;
            for change in &changed {
                if change.before.is_some()
                    && change.place.key.starts_with(self.keys.as_str())
                    && let Some(id) = self.id(&change.place.collection)
                {
                    ids.entry(id.to_owned()).or_default().sure = true;
                }
            }
            match changed.into_iter().last() {
                Some(last) => after = Some(last.place),
                None => return Ok(ids),
            }
        }
    }

    async fn holds_any(&self, read: &Read, candidate: &Candidate) -> Result<bool, Status> {
        if candidate.sure {
            return Ok(true);
        }
        for name in &candidate.names {
            let mut walk = Walk {
                along: Along::Collection(name.clone()),
                from: Bound::Included(self.keys.clone().into_bytes()),
                to: behind(&self.keys),
                descending: false,
                limit: if read.at.is_some() { AT_ONCE } else { 1 },
                documents: false,
            };
            loop {
                let lines = read.view.walk(&walk).await.map_err(status::of_store)?;
                let Some(last) = lines.last() else { break };
                let Some(at) = read.at else { return Ok(true) };
                walk.from = Bound::Excluded(last.key.clone());
                let places: Vec<_> = lines.into_iter().map(|line| line.place).collect();
                let found = read.view.get(&places, Some(at)).await;
                if found.map_err(status::of_store)?.iter().any(Option::is_some) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// The end of all keys that begin so (with something that ends with `/`, or anything).
pub(super) fn behind(keys: &str) -> Bound<Vec<u8>> {
    let mut end = keys.as_bytes().to_vec();
    match end.last_mut() {
        Some(last) => {
            *last += 1;
            Bound::Excluded(end)
        }
        None => Bound::Unbounded,
    }
}
