//! Which documents a query is about: a collection, a collection group, or everything below a document.

use crate::names::{self, id_of};
use std::sync::Arc;
use whimbrel_firestore::name::DEFAULT_DATABASE;
use whimbrel_firestore::{DatabaseName, Place};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One collection: its name in the store, and what its documents' keys begin with (empty, or ending with `/`).
    Collection { name: Arc<str>, keys: String },
    /// All collections of this id below the parent.
    Group { id: String, parent: Parent },
    /// All collections right below the parent.
    Children { parent: Parent },
    /// All collections below the parent, at any depth.
    Descendants { parent: Parent },
}

/// A document below which collections are looked for, as the store names it; both are empty, or end with `/`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Parent {
    pub collections: String,
    pub keys: String,
    /// Whether it is the database's root.
    pub is_root: bool,
}

impl Parent {
    /// The document at a path, or the root where it is empty.
    #[must_use]
    pub fn new(database: &DatabaseName, path: &str) -> Self {
        if path.is_empty() {
            // What every name of the database begins with: nothing in `(default)`.
            if database.database == DEFAULT_DATABASE {
                return Self {
                    is_root: true,
                    ..Self::default()
                };
            }
            return Self {
                collections: format!("@{}/", database.database),
                keys: names::collection(database, "", "x").keys,
                is_root: true,
            };
        }
        let place = names::place(database, path);
        Self {
            collections: format!("{}/", place.collection),
            keys: format!("{}/", place.key),
            is_root: false,
        }
    }

    /// The ids on the way to the parent, as names in the store have them.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.collections
            .split_terminator('/')
            .zip(self.keys.split_terminator('/'))
            .flat_map(|(id, document)| [id, document])
    }

    /// How many collections deep below the parent a collection lies: 1 for a direct child.
    #[must_use]
    pub fn depth(&self, collection: &str) -> Option<usize> {
        let below = collection.strip_prefix(self.collections.as_str())?;
        Some(below.split('/').count())
    }
}

impl Scope {
    #[must_use]
    pub fn covers(&self, database: &DatabaseName, collection: &str) -> bool {
        match self {
            Self::Collection { name, .. } => **name == *collection,
            Self::Group { id, parent } => {
                parent.depth(collection).is_some()
                    && id_of(collection) == id
                    && names::belongs(database, collection)
            }
            Self::Children { parent } => {
                parent.depth(collection) == Some(1) && names::belongs(database, collection)
            }
            Self::Descendants { parent } => {
                parent.depth(collection).is_some() && names::belongs(database, collection)
            }
        }
    }

    /// Whether a document of a collection that is covered lies below the parent, and has a name at all.
    #[must_use]
    pub fn holds(&self, place: &Place) -> bool {
        let keys = match self {
            Self::Collection { keys, .. } => keys,
            Self::Group { parent, .. }
            | Self::Children { parent }
            | Self::Descendants { parent } => &parent.keys,
        };
        place.key.starts_with(keys.as_str()) && place.is_sound()
    }

    /// Whether it speaks of one collection only.
    #[must_use]
    pub fn is_collection(&self) -> bool {
        matches!(self, Self::Collection { .. })
    }

    /// Whether it names no collection id: only names can be filtered and ordered by.
    #[must_use]
    pub fn is_kindless(&self) -> bool {
        matches!(self, Self::Children { .. } | Self::Descendants { .. })
    }
}
