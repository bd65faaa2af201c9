//! Collections and keys of Whimbrel as names of Firestore, and back.

use std::cmp::Ordering;
use whimbrel_firestore::core::order::{compare_paths, numeric_id};
use whimbrel_firestore::{DatabaseName, Place};
use whimbrel_model::{Key, KeyRange};

/// Bytes of an id.
const ID_BYTES: usize = 1500;
/// Bytes of a document's full name.
const NAME_BYTES: usize = 6 << 10;
/// Collections in a document's path.
const LEVELS: usize = 100;

/// The id that stands before every other.
pub(super) const LEAST_ID: &str = "__id-9223372036854775808__";

/// A collection: `users`, or `users/posts` for all the posts of all users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Collection {
    path: String,
    levels: usize,
}

impl Collection {
    /// `None` where Firestore can have no such collection.
    pub(super) fn new(path: &str) -> Option<Self> {
        let levels = path.split('/').count();
        let sound = path.split('/').all(|id| wrong_id(id, false).is_none());
        (sound && levels <= LEVELS).then(|| Self {
            path: path.to_owned(),
            levels,
        })
    }

    /// Whether it lies below documents: then only a query of all collections of its last id finds it whole.
    pub(super) fn is_nested(&self) -> bool {
        self.levels > 1
    }

    pub(super) fn id(&self) -> &str {
        self.path
            .rsplit_once('/')
            .map_or(&self.path, |(_, last)| last)
    }

    /// The ends of the names that can be of this collection: from the first (inclusive) to the second (exclusive).
    /// Names of other collections with the same first and last id lie between them, too.
    pub(super) fn ends(&self) -> (String, String) {
        let first = self.path.split('/').next().unwrap_or_default();
        (
            format!("{first}/{LEAST_ID}"),
            format!("{first}\0/{LEAST_ID}"),
        )
    }

    /// The document's path below the root (`users/u1/posts/p1`).
    ///
    /// # Errors
    /// Why Firestore can have no document of that key here.
    pub(super) fn path_of(&self, key: &Key) -> Result<String, String> {
        let key = text_of(key)?;
        let given = key.split('/').count();
        if given != self.levels {
            return Err(format!(
                "keys of {:?} have {} ids, joined by a slash; this one has {given}",
                self.path, self.levels
            ));
        }
        if let Some(why) = key.split('/').find_map(|id| wrong_id(id, true)) {
            return Err(why);
        }
        let place = Place {
            collection: self.path.as_str().into(),
            key: key.into(),
        };
        Ok(place.path())
    }

    /// The key of the document at a path; `None` where it is of another collection.
    pub(super) fn key_of(&self, path: &str) -> Option<Key> {
        let place = Place::of_path(path)?;
        (*place.collection == *self.path).then(|| Key::text(&*place.key))
    }

    /// The paths between which a range's documents lie: after the first, through the second.
    ///
    /// # Errors
    /// An end is no key of this collection.
    pub(super) fn paths_of(
        &self,
        range: &KeyRange,
    ) -> Result<(Option<String>, Option<String>), String> {
        let path = |key: &Option<Key>| key.as_ref().map(|key| self.path_of(key)).transpose();
        Ok((path(&range.after)?, path(&range.through)?))
    }
}

/// Ids are texts: other keys are written as texts, and come back as such.
fn text_of(key: &Key) -> Result<String, String> {
    match key {
        Key::Text(text) => Ok(text.clone()),
        Key::Int(_) | Key::Uuid(_) => Ok(key.to_string()),
        Key::Tuple(_) => Err("a document's id is one text, not several columns".to_owned()),
    }
}

/// In Firestore's order of names: id by id, those of the form `__id7__` first.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    compare_paths(a.split('/'), b.split('/'))
}

fn wrong_id(id: &str, document: bool) -> Option<String> {
    let reserved = id.len() >= 4 && id.starts_with("__") && id.ends_with("__");
    let why = if id.is_empty() {
        "is empty"
    } else if id == "." || id == ".." {
        "is . or .., which no id may be"
    } else if id.len() > ID_BYTES {
        "has more than 1,500 bytes"
    } else if reserved && !(document && numeric_id(id).is_some_and(|n| n != 0)) {
        "begins and ends with __, which is reserved"
    } else {
        return None;
    };
    Some(format!("an id {why}"))
}

/// Why the name is too long, if it is.
pub(super) fn too_long(database: &DatabaseName, path: &str) -> Option<String> {
    let bytes = database.document(path).len();
    (bytes > NAME_BYTES)
        .then(|| format!("the document's name has {bytes} bytes; the most is 6 KiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_paths_are_the_same_thing() {
        let numbered = format!("{}9__", "__id");
        for (collection, key, path) in [
            ("users", "alice", "users/alice"),
            ("users/posts", "alice/p1", "users/alice/posts/p1"),
            ("a/b/c", "1/2/3", "a/1/b/2/c/3"),
            ("users", "ü \u{1f600}\n%2F", "users/ü \u{1f600}\n%2F"),
            ("users", &numbered, "users/__id9__"),
        ] {
            let collection = Collection::new(collection).unwrap();
            assert_eq!(collection.path_of(&Key::text(key)).unwrap(), path);
            assert_eq!(collection.key_of(path), Some(Key::text(key)));
        }
        let users = Collection::new("users").unwrap();
        assert_eq!(users.path_of(&Key::Int(-7)).unwrap(), "users/-7");
        let posts = Collection::new("users/posts").unwrap();
        for other in [
            "posts/p1",
            "rooms/r/posts/p",
            "users/u/a/b/posts/p",
            "users/u",
        ] {
            assert_eq!(posts.key_of(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_no_id_is_told() {
        let users = Collection::new("users").unwrap();
        let long = "x".repeat(1501);
        for key in [
            "", ".", "..", "a/b", "__x__", "____", "__idx__", "__id0__", &long,
        ] {
            assert!(users.path_of(&Key::text(key)).is_err(), "{key}");
        }
        assert!(users.path_of(&Key::text("x".repeat(1500))).is_ok());
        assert!(users.path_of(&Key::Tuple(vec![Key::Int(1)])).is_err());
        for collection in ["", "a//b", "__x__", "a/__id7__", "..", &long] {
            assert_eq!(Collection::new(collection), None, "{collection}");
        }
    }

    #[test]
    fn a_collection_lies_between_its_ends() {
        let posts = Collection::new("users/posts").unwrap();
        let (from, to) = posts.ends();
        for id in [
            "\0",
            "a",
            "\u{10ffff}",
            "__id-9223372036854775808__",
            "__id5__",
        ] {
            let path = format!("users/{id}/posts/{id}");
            assert!(compare(&from, &path).is_le(), "{id}");
            assert!(compare(&path, &to).is_lt(), "{id}");
        }
        assert!(compare("users\0\0/a/posts/b", &to).is_gt());
        assert!(compare("user/a/posts/b", &from).is_lt());
    }
}
