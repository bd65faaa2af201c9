//! Indexes: which there are, and the lines that a document has in them.
//!
//! An index is made by the first query that needs it, filled from the documents there are, and kept by every commit
//! from the moment it is known ([`Indexes::lines`] runs inside the store's transaction).

use super::filter::elements;
use super::key::{KEEP, cut, push_name, push_value};
use super::walk::{Paging, size};
use crate::names::{self, id_of};
use crate::{Gateway, status};
use serde_json::{Value as Json, json};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tonic::Status;
use whimbrel_firestore::backend::{
    Along, Found, IndexId, IndexLine, IndexState, Stored, There, Walk,
};
use whimbrel_firestore::core::field_path::{self, FieldPath};
use whimbrel_firestore::core::key::encode_path_prefix;
use whimbrel_firestore::name::DEFAULT_DATABASE;
use whimbrel_firestore::{Backend, DatabaseName, Fields, Place};

/// Documents whose lines are made in one commit while an index is filled, at most.
const FILL: u32 = 500;

/// Indexes that one collection may have: each makes every write dearer.
const MOST: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Over {
    /// One collection of the store, whatever documents it lies below: lines of one parent are together.
    Collection(Arc<str>),
    /// All collections of a database with this id.
    Group { database: String, id: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum How {
    Ascending,
    Descending,
    /// A line for each element of an array.
    Contains,
}

/// What an index holds. Its text form is what stores know it by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Definition {
    pub over: Over,
    /// At most one is [`How::Contains`].
    pub fields: Vec<(FieldPath, How)>,
    pub name_descending: bool,
}

impl fmt::Display for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields: Vec<Json> = self
            .fields
            .iter()
            .map(|(path, how)| {
                let how = match how {
                    How::Ascending => "asc",
                    How::Descending => "desc",
                    How::Contains => "contains",
                };
                json!([path.to_string(), how])
            })
            .collect();
        let name = if self.name_descending { "desc" } else { "asc" };
        let text = match &self.over {
            Over::Collection(collection) => {
                json!({ "collection": &**collection, "fields": fields, "name": name })
            }
            Over::Group { database, id } => {
                json!({ "group": id, "database": database, "fields": fields, "name": name })
            }
        };
        write!(f, "{text}")
    }
}

impl Definition {
    /// The inverse of its text form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let json: Json = serde_json::from_str(text).ok()?;
        let over = match (&json["collection"], &json["group"], &json["database"]) {
            (Json::String(collection), Json::Null, Json::Null) => {
                Over::Collection(collection.as_str().into())
            }
            (Json::Null, Json::String(id), Json::String(database)) => Over::Group {
                database: database.clone(),
                id: id.clone(),
            },
            _ => return None,
        };
        let fields = json["fields"]
            .as_array()?
            .iter()
            .map(|field| {
                let how = match field[1].as_str()? {
                    "asc" => How::Ascending,
                    "desc" => How::Descending,
                    "contains" => How::Contains,
                    _ => return None,
                };
                Some((FieldPath::parse(field[0].as_str()?).ok()?, how))
            })
            .collect::<Option<Vec<_>>>()?;
        let name_descending = match json["name"].as_str()? {
            "asc" => false,
            "desc" => true,
            _ => return None,
        };
        Some(Self {
            over,
            fields,
            name_descending,
        })
    }

    #[must_use]
    pub fn covers(&self, collection: &str) -> bool {
        match &self.over {
            Over::Collection(name) => **name == *collection,
            Over::Group { database, id } => {
                let database = DatabaseName {
                    project: String::new(),
                    database: database.clone(),
                };
                id_of(collection) == id && names::belongs(&database, collection)
            }
        }
    }

    /// The keys of a document's lines: none where it lacks a field, several where it has an array.
    #[must_use]
    pub fn keys(&self, place: &Place, fields: &Fields) -> Vec<Vec<u8>> {
        self.keys_like(place, fields, None)
    }

    /// Whether a document has this line.
    #[must_use]
    pub fn has_line(&self, place: &Place, fields: &Fields, key: &[u8]) -> bool {
        self.keys_like(place, fields, Some(key))
            .iter()
            .any(|other| other == key)
    }

    /// The keys, or those of them that may be `like` one.
    fn keys_like(&self, place: &Place, fields: &Fields, like: Option<&[u8]>) -> Vec<Vec<u8>> {
        if !place.is_sound() {
            return Vec::new();
        }
        let mut keys = vec![match &self.over {
            Over::Collection(_) => {
                let parent = place.key.rsplit_once('/').map_or("", |(parent, _)| parent);
                encode_path_prefix(parent.split_terminator('/'))
            }
            Over::Group { .. } => Vec::new(),
        }];
        for (path, how) in &self.fields {
            let Some(value) = field_path::get(fields, path) else {
                return Vec::new();
            };
            if *how == How::Contains {
                let start = keys;
                keys = Vec::new();
                let mut seen = HashSet::new();
                for element in elements(value) {
                    let mut encoded = Vec::new();
                    push_value(&mut encoded, element, false);
                    let begun = start.iter().map(|key| [key.as_slice(), &encoded].concat());
                    let mut begun =
                        begun.filter(|key| like.is_none_or(|like| may_begin(like, key)));
                    if let Some(key) = begun.next()
                        && seen.insert(encoded.clone())
                    {
                        keys.push(key);
                    }
                }
            } else {
                for key in &mut keys {
                    push_value(key, value, *how == How::Descending);
                }
            }
        }
        for key in &mut keys {
            match &self.over {
                Over::Collection(_) => push_name(key, [place.id()], self.name_descending),
                Over::Group { .. } => {
                    push_name(key, super::filter::segments(place), self.name_descending);
                }
            }
            *key = cut(std::mem::take(key));
        }
        keys
    }
}

/// Whether a stored key, which may be cut, may go on from these bytes.
fn may_begin(key: &[u8], begun: &[u8]) -> bool {
    let kept = begun.len().min(KEEP);
    key.starts_with(&begun[..kept])
}

/// An index that is kept.
#[derive(Clone, Debug)]
pub struct Index {
    pub id: IndexId,
    pub definition: Arc<Definition>,
    /// Whether every document has its lines: until then it is kept, but cannot be walked.
    pub ready: bool,
}

/// All indexes as of one moment.
#[derive(Debug, Default)]
pub struct Known {
    collections: HashMap<Arc<str>, Vec<Index>>,
    /// By collection id.
    groups: HashMap<String, Vec<Index>>,
}

impl Known {
    fn new(indexes: impl IntoIterator<Item = Index>) -> Self {
        let mut known = Self::default();
        for index in indexes {
            match &index.definition.over {
                Over::Collection(collection) => {
                    known.collections.entry(collection.clone()).or_default()
                }
                Over::Group { id, .. } => known.groups.entry(id.clone()).or_default(),
            }
            .push(index);
        }
        known
    }

    fn all(&self) -> impl Iterator<Item = &Index> {
        self.collections
            .values()
            .chain(self.groups.values())
            .flatten()
    }

    /// The indexes over the same documents as the definition's.
    pub fn over<'a>(&'a self, over: &'a Over) -> impl Iterator<Item = &'a Index> {
        match over {
            Over::Collection(collection) => self.collections.get(collection),
            Over::Group { id, .. } => self.groups.get(id),
        }
        .into_iter()
        .flatten()
        .filter(move |index| index.definition.over == *over)
    }

    fn of_collection<'a>(&'a self, collection: &'a str) -> impl Iterator<Item = &'a Index> {
        let own = self.collections.get(collection).into_iter().flatten();
        let group = if self.groups.is_empty() {
            None
        } else {
            self.groups.get(id_of(collection))
        };
        own.chain(
            group
                .into_iter()
                .flatten()
                .filter(move |index| index.definition.covers(collection)),
        )
    }
}

/// The indexes that are kept.
#[derive(Debug, Default)]
pub struct Indexes {
    known: RwLock<Arc<Known>>,
    /// One build of a definition at a time; others wait for it.
    builds: Mutex<HashMap<Arc<Definition>, Arc<tokio::sync::Mutex<()>>>>,
}

impl Indexes {
    /// # Errors
    /// The store cannot be read, or it has indexes of a newer version, which this one could not keep.
    pub async fn open(backend: &dyn Backend) -> Result<Self, Status> {
        let states = backend.indexes().await.map_err(status::of_store)?;
        let indexes = states
            .into_iter()
            .map(known)
            .collect::<Result<Vec<_>, Status>>()?;
        Ok(Self {
            known: RwLock::new(Arc::new(Known::new(indexes))),
            builds: Mutex::default(),
        })
    }

    /// The indexes as of now. One that is ready here is whole in every view that is opened afterwards.
    #[must_use]
    pub fn known(&self) -> Arc<Known> {
        self.known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn learn(&self, index: Index) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let others = known.all().filter(|other| other.id != index.id).cloned();
        *known = Arc::new(Known::new(others.chain([index.clone()])));
    }

    /// The lines to take out and to put in when a document changes. Called inside commits: quick, no I/O.
    #[must_use]
    pub fn lines(
        &self,
        place: &Place,
        before: Option<&Stored>,
        after: Option<&Stored>,
    ) -> (Vec<IndexLine>, Vec<IndexLine>) {
        let known = self.known();
        let (mut out, mut into) = (Vec::new(), Vec::new());
        for index in known.of_collection(&place.collection) {
            let keys = |stored: Option<&Stored>| {
                stored.map_or_else(Vec::new, |stored| {
                    index.definition.keys(place, &stored.fields)
                })
            };
            let (old, new) = (keys(before), keys(after));
            let line = |key: &Vec<u8>| IndexLine {
                index: index.id,
                key: key.clone(),
                place: place.clone(),
            };
            out.extend(without(&old, &new).map(line));
            into.extend(without(&new, &old).map(line));
        }
        (out, into)
    }
}

/// Those of the keys that are not among the others. Most documents have one or none; those of arrays may have many,
/// which are looked up rather than searched for.
fn without<'k>(keys: &'k [Vec<u8>], others: &'k [Vec<u8>]) -> impl Iterator<Item = &'k Vec<u8>> {
    const FEW: usize = 8;
    let set: HashSet<&Vec<u8>> = match keys.len().min(others.len()) <= FEW {
        true => HashSet::new(),
        false => others.iter().collect(),
    };
    keys.iter().filter(move |key| match set.is_empty() {
        true => !others.contains(key),
        false => !set.contains(key),
    })
}

fn known(state: IndexState) -> Result<Index, Status> {
    let definition = Definition::parse(&state.definition).ok_or_else(|| {
        Status::failed_precondition(format!(
            "The store has an index that this version does not know ({}). Nothing was opened, because the index would \
             no longer be kept. Use the version that made it, or a newer one.",
            state.definition
        ))
    })?;
    Ok(Index {
        id: state.id,
        definition: Arc::new(definition),
        ready: state.ready,
    })
}

/// Makes an index where it is missing, and waits until it can be walked. Whoever needs it meanwhile waits for the same
/// build; it goes on although they stop waiting.
///
/// # Errors
/// The store fails, or the collection has too many indexes.
pub async fn ensure(gateway: &Arc<Gateway>, definition: &Arc<Definition>) -> Result<(), Status> {
    let gateway = gateway.clone();
    let definition = definition.clone();
    let build = tokio::spawn(async move {
        let turn = {
            let mut builds = gateway
                .indexes
                .builds
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            builds.entry(definition.clone()).or_default().clone()
        };
        let guard = turn.lock().await;
        let built = build(&gateway, &definition).await;
        drop(guard);
        gateway
            .indexes
            .builds
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&definition);
        built
    });
    build
        .await
        .unwrap_or_else(|_| Err(Status::cancelled("The index's build was stopped.")))
}

async fn build(gateway: &Arc<Gateway>, definition: &Arc<Definition>) -> Result<(), Status> {
    let known_now = gateway.indexes.known();
    let mut there = known_now.over(&definition.over);
    if there.any(|index| index.definition == *definition && index.ready) {
        return Ok(());
    }
    if known_now.over(&definition.over).count() >= MOST {
        return Err(Status::failed_precondition(format!(
            "The query needs an index of its own, and there are {MOST} over these documents already. Nothing was read. \
             Ask for fewer kinds of filters and orders."
        )));
    }
    let state = gateway
        .backend
        .create_index(&definition.to_string())
        .await
        .map_err(status::of_store)?;
    let mut index = known(state)?;
    gateway.indexes.learn(index.clone());
    if !index.ready {
        fill(gateway, &index).await?;
        gateway
            .backend
            .index_ready(index.id)
            .await
            .map_err(status::of_store)?;
        index.ready = true;
        gateway.indexes.learn(index);
    }
    Ok(())
}

/// Puts in the lines of the documents there are. Commits keep the index already: those that began before it was known
/// are over when the first `maintain` returns, so the views after it show what they wrote.
async fn fill(gateway: &Arc<Gateway>, index: &Index) -> Result<(), Status> {
    gateway
        .maintain(Vec::new(), Box::new(|_: &Found| (Vec::new(), Vec::new())))
        .await?;
    let view = gateway.backend.view().await.map_err(status::of_store)?;
    let collections = view.collections().await.map_err(status::of_store)?;
    drop(view);
    for collection in collections {
        if !index.definition.covers(&collection) {
            continue;
        }
        let mut walk = Walk {
            along: Along::Collection(collection),
            from: std::ops::Bound::Unbounded,
            to: std::ops::Bound::Unbounded,
            descending: false,
            limit: 0,
            documents: false,
        };
        let mut paging = Paging::new(FILL, 1);
        loop {
            walk.limit = paging.limit();
            // A view a page: one that is kept open for long keeps the store from tidying up.
            let view = gateway.backend.view().await.map_err(status::of_store)?;
            let lines = view.walk(&walk).await.map_err(status::of_store)?;
            drop(view);
            let Some(last) = lines.last() else { break };
            walk.from = std::ops::Bound::Excluded(last.key.clone());
            let whole = lines.len() < walk.limit as usize;
            let places: Vec<Place> = lines.into_iter().map(|line| line.place).collect();
            let (of, largest) = (index.clone(), Arc::new(AtomicUsize::new(0)));
            let seen = largest.clone();
            let lines = move |found: &Found| {
                let documents = found.values().filter_map(There::document);
                seen.store(documents.map(size).max().unwrap_or(0), Relaxed);
                (Vec::new(), lines_of(&of, found))
            };
            gateway.maintain(places, Box::new(lines)).await?;
            paging.read([largest.load(Relaxed)]);
            if whole {
                break;
            }
        }
    }
    Ok(())
}

fn lines_of(index: &Index, found: &Found) -> Vec<IndexLine> {
    found
        .iter()
        .filter_map(|(place, there)| Some((place, there.document()?)))
        .flat_map(|(place, stored)| {
            index
                .definition
                .keys(place, &stored.fields)
                .into_iter()
                .map(|key| IndexLine {
                    index: index.id,
                    key,
                    place: place.clone(),
                })
        })
        .collect()
}

/// The name of a database as definitions hold it.
#[must_use]
pub fn database_of(database: &DatabaseName) -> String {
    if database.database.is_empty() {
        DEFAULT_DATABASE.to_owned()
    } else {
        database.database.clone()
    }
}
