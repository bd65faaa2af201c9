//! What documents are called: in the protocol (`projects/p/databases/d/documents/a/1/b/2`) and in a store
//! (collection `a/b`, key `1/2`).
//!
//! A Whimbrel collection of Firestore documents is named by the collection ids on the way to it, and a key
//! by the document ids: every `messages` collection below any document of `conversations` is the one
//! collection `conversations/messages`, with keys such as `c1/m1`. Ids hold no `/`, so both ways are exact.

use std::fmt;
use std::sync::Arc;

/// `projects/{project}/databases/{database}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DatabaseName {
    pub project: String,
    pub database: String,
}

pub const DEFAULT_DATABASE: &str = "(default)";

impl DatabaseName {
    /// Reads `projects/p/databases/d`, and says what follows it (without the slash).
    #[must_use]
    pub fn split(name: &str) -> Option<(Self, &str)> {
        let rest = name.strip_prefix("projects/")?;
        let (project, rest) = rest.split_once("/databases/")?;
        let (database, rest) = rest.split_once('/').unwrap_or((rest, ""));
        (!project.is_empty() && !project.contains('/') && !database.is_empty()).then(|| {
            (
                Self {
                    project: project.to_owned(),
                    database: database.to_owned(),
                },
                rest,
            )
        })
    }

    /// The name of everything below: `projects/p/databases/d/documents`.
    #[must_use]
    pub fn documents(&self) -> String {
        format!("{self}/documents")
    }

    /// The full name of the document at a relative path (`a/1/b/2`).
    #[must_use]
    pub fn document(&self, path: &str) -> String {
        format!("{self}/documents/{path}")
    }

    /// The path of a document of this database, given its full name; `None` for all other names.
    #[must_use]
    pub fn relative<'a>(&self, name: &'a str) -> Option<&'a str> {
        let rest = name.strip_prefix("projects/")?;
        let rest = rest.strip_prefix(self.project.as_str())?;
        let rest = rest.strip_prefix("/databases/")?;
        let rest = rest.strip_prefix(self.database.as_str())?;
        let path = rest.strip_prefix("/documents/")?;
        is_document_path(path).then_some(path)
    }
}

/// Whether it is the path of a document below the root: pairs of ids, none empty. A full name of a document
/// has an odd number of ids and is never one.
#[must_use]
pub fn is_document_path(path: &str) -> bool {
    let mut ids = 0_usize;
    path.split('/').all(|id| {
        ids += 1;
        !id.is_empty()
    }) && ids.is_multiple_of(2)
}

impl fmt::Display for DatabaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "projects/{}/databases/{}", self.project, self.database)
    }
}

/// Where a document lies in a store: a collection and a key in it. Ordered by collection, then by the key's
/// bytes, which is *not* Firestore's order of names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    pub collection: Arc<str>,
    pub key: Arc<str>,
}

impl Place {
    /// The place of a document by its path below `documents` (`a/1/b/2`); `None` where the path is no document's.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        let mut collection = String::with_capacity(path.len());
        let mut key = String::with_capacity(path.len());
        let mut segments = path.split('/');
        while let Some(id) = segments.next() {
            let document = segments.next()?;
            if id.is_empty() || document.is_empty() {
                return None;
            }
            if !collection.is_empty() {
                collection.push('/');
                key.push('/');
            }
            collection.push_str(id);
            key.push_str(document);
        }
        Some(Self {
            collection: collection.into(),
            key: key.into(),
        })
    }

    /// The document's path below `documents`. The inverse of [`Place::of_path`].
    #[must_use]
    pub fn path(&self) -> String {
        let mut path = String::with_capacity(self.collection.len() + self.key.len() + 1);
        for (id, document) in self.collection.split('/').zip(self.key.split('/')) {
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(id);
            path.push('/');
            path.push_str(document);
        }
        path
    }

    /// Whether the key has as many ids as the collection: others are rows that no name reaches.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.collection.split('/').count() == self.key.split('/').count()
            && self.key.split('/').all(|id| !id.is_empty())
    }

    /// The last collection id: what a collection group is named by.
    #[must_use]
    pub fn collection_id(&self) -> &str {
        last(&self.collection)
    }

    /// The document's own id.
    #[must_use]
    pub fn id(&self) -> &str {
        last(&self.key)
    }
}

fn last(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, last)| last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_paths_are_the_same_thing() {
        for (path, collection, key) in [
            ("users/alice", "users", "alice"),
            ("users/alice/posts/p1", "users/posts", "alice/p1"),
            ("a/b c/d/é/f/__id7__", "a/d/f", "b c/é/__id7__"),
        ] {
            let place = Place::of_path(path).unwrap();
            assert_eq!((&*place.collection, &*place.key), (collection, key));
            assert_eq!(place.path(), path);
            assert!(place.is_sound());
        }
        for path in ["", "users", "users/alice/posts", "users//posts/p", "/a"] {
            assert_eq!(Place::of_path(path), None, "{path}");
        }
    }

    #[test]
    fn database_names_are_split() {
        let (name, rest) =
            DatabaseName::split("projects/p/databases/(default)/documents/a/1").unwrap();
        assert_eq!(name.to_string(), "projects/p/databases/(default)");
        assert_eq!(rest, "documents/a/1");
        assert_eq!(
            name.document("a/1"),
            "projects/p/databases/(default)/documents/a/1"
        );
        for bad in [
            "",
            "projects/p",
            "projects//databases/d",
            "databases/d",
            "projects/p/databases/",
        ] {
            assert_eq!(DatabaseName::split(bad), None, "{bad}");
        }
    }
}
