//! Names in requests and responses, and where their documents lie in the store: the one place that knows
//! how databases share it.
//!
//! The `(default)` database's collections lie as they are called. Those of another database `d` begin with
//! `@d/` and their keys with `-/` (an id that stands for the database), so that names and places still map
//! both ways. A first collection id of `(default)` that begins with `@` is written with one `@` more.
//! The project is not part of the place: a store serves one project's databases, whatever it is called.

use crate::status::invalid;
use std::fmt::Write as _;
use std::sync::Arc;
use tonic::Status;
use whimbrel_firestore::core::order::numeric_id;
use whimbrel_firestore::name::DEFAULT_DATABASE;
use whimbrel_firestore::{DatabaseName, Place};

/// Bytes of a collection's or a document's id.
const ID_BYTES: usize = 1500;
/// Bytes of a document's path.
const PATH_BYTES: usize = 6 * 1024;
/// Pairs of a collection and a document in a path.
const LEVELS: usize = 101;

/// What keys of other databases' documents begin with.
const OTHER_KEY: &str = "-";

/// `projects/p/databases/d`, and nothing behind it.
///
/// # Errors
/// INVALID_ARGUMENT.
pub fn database(name: &str) -> Result<DatabaseName, Status> {
    let mut reader = Reader::new(name, "Database name");
    let database = reader.database()?;
    if reader.rest().is_empty() {
        Ok(database)
    } else if reader.rest() == "/" {
        Err(reader.trailing_slash())
    } else {
        Err(invalid(format!(
            "Database name \"{name}\" has extra characters at index {}.",
            reader.at
        )))
    }
}

/// A document's name.
///
/// # Errors
/// INVALID_ARGUMENT.
pub fn document(name: &str) -> Result<(DatabaseName, Place), Status> {
    let mut reader = Reader::new(name, "Document name");
    let (database, path) = reader.documents()?;
    if path.is_empty() {
        return Err(invalid(format!(
            "Document name \"{name}\" is invalid: Omit \"/documents\" when referencing a database \
             (except as the parent of a document)."
        )));
    }
    let place = place(&database, path);
    Ok((database, place))
}

/// A document's name, of the database that the request is for.
///
/// # Errors
/// INVALID_ARGUMENT.
pub fn document_in(database: &DatabaseName, name: &str) -> Result<Place, Status> {
    let (found, place) = document(name)?;
    same_database(database, &found)?;
    Ok(place)
}

/// # Errors
/// INVALID_ARGUMENT: a request for one database names another.
pub fn same_database(asked: &DatabaseName, found: &DatabaseName) -> Result<(), Status> {
    if asked == found {
        return Ok(());
    }
    Err(invalid(format!(
        "The request was for database '{asked}' but was attempting to access database '{found}'"
    )))
}

/// What collections lie below: `…/documents` (the path is empty then) or a document's name. The path is the part
/// behind `documents/`.
///
/// # Errors
/// INVALID_ARGUMENT.
pub fn parent(name: &str) -> Result<(DatabaseName, &str), Status> {
    Reader::new(name, "Document parent name").documents()
}

/// A collection's id that was given on its own.
///
/// # Errors
/// INVALID_ARGUMENT.
pub fn collection_id(id: &str) -> Result<(), Status> {
    let problem = if id.contains('/') {
        "contains \"/\""
    } else if is_dots(id) || is_reserved(id) {
        "is reserved"
    } else {
        return short_enough(id);
    };
    Err(invalid(format!(
        "Collection id \"{id}\" is invalid because it {problem}."
    )))
}

/// A document's id that was given on its own.
///
/// # Errors
/// INVALID_ARGUMENT.
pub fn document_id(id: &str) -> Result<(), Status> {
    let problem = if id.contains('/') {
        "contains \"/\""
    } else if is_dots(id) {
        "is reserved"
    } else {
        return sound_document_id(id);
    };
    Err(invalid(format!(
        "Resource id \"{id}\" is invalid because it {problem}."
    )))
}

/// Where the document at a path (`a/1/b/2`, checked) of a database lies.
#[must_use]
pub fn place(database: &DatabaseName, path: &str) -> Place {
    let (mut collection, mut key) = roots(database, path);
    for (i, id) in path.split('/').enumerate() {
        let part = if i % 2 == 0 {
            &mut collection
        } else {
            &mut key
        };
        push(part, id, i < 2 && part == "@");
    }
    Place {
        collection: collection.into(),
        key: key.into(),
    }
}

/// Where a collection's documents lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection {
    pub name: Arc<str>,
    /// What their keys begin with: empty, or ending with `/`. The document's own id follows.
    pub keys: String,
}

/// Where the collection `id` right below `parent` (empty, or a document's path) lies.
#[must_use]
pub fn collection(database: &DatabaseName, parent: &str, id: &str) -> Collection {
    let (mut name, mut keys) = roots(database, if parent.is_empty() { id } else { parent });
    if !parent.is_empty() {
        for (i, part) in parent.split('/').enumerate() {
            let end = if i % 2 == 0 { &mut name } else { &mut keys };
            push(end, part, i < 2 && end == "@");
        }
    }
    let escaped = name == "@";
    push(&mut name, id, escaped);
    if !keys.is_empty() {
        keys.push('/');
    }
    Collection {
        name: name.into(),
        keys,
    }
}

/// Whether a collection of the store belongs to the database.
#[must_use]
pub fn belongs(database: &DatabaseName, collection: &str) -> bool {
    match collection.strip_prefix('@') {
        None => database.database == DEFAULT_DATABASE,
        Some(rest) if rest.starts_with('@') => database.database == DEFAULT_DATABASE,
        Some(rest) => rest
            .split_once('/')
            .is_some_and(|(name, _)| name == database.database),
    }
}

/// The document's path in its database: what follows `documents/` in its name.
#[must_use]
pub fn path(place: &Place) -> String {
    let mut path = String::with_capacity(place.collection.len() + place.key.len() + 1);
    push_path(&mut path, place);
    path
}

/// The collection's own path, by its name in the store: collection ids of its database, joined by `/`.
#[must_use]
pub fn collection_path(collection: &str) -> &str {
    match collection.strip_prefix('@') {
        None => collection,
        Some(rest) if rest.starts_with('@') => rest,
        Some(rest) => rest.split_once('/').map_or("", |(_, ids)| ids),
    }
}

/// The last id of a collection of the store, as the protocol knows it.
#[must_use]
pub fn id_of(collection: &str) -> &str {
    let path = collection_path(collection);
    path.rsplit_once('/').map_or(path, |(_, id)| id)
}

/// Whether a document's id has a place of its own in the order of names (`__id7__`).
#[must_use]
pub fn is_numeric(id: &str) -> bool {
    numeric_id(id).is_some()
}

/// The document's full name.
#[must_use]
pub fn name(database: &DatabaseName, place: &Place) -> String {
    let mut name = String::with_capacity(
        database.project.len()
            + database.database.len()
            + place.collection.len()
            + place.key.len()
            + "projects//databases//documents//".len(),
    );
    let _ = write!(name, "{database}/documents/");
    push_path(&mut name, place);
    name
}

fn push_path(out: &mut String, place: &Place) {
    let keys = if is_other(&place.collection) {
        place.key.split_once('/').map_or("", |(_, keys)| keys)
    } else {
        &place.key
    };
    let ids = collection_path(&place.collection).split('/');
    for (i, (id, key)) in ids.zip(keys.split('/')).enumerate() {
        if i > 0 {
            out.push('/');
        }
        out.push_str(id);
        out.push('/');
        out.push_str(key);
    }
}

/// Whether a collection of the store is one of a database other than `(default)`.
fn is_other(collection: &str) -> bool {
    let mut bytes = collection.bytes();
    bytes.next() == Some(b'@') && bytes.next() != Some(b'@')
}

/// What the collection and the key begin with. `@` alone is an escape: what follows has no `/` before it.
fn roots(database: &DatabaseName, path: &str) -> (String, String) {
    let capacity = path.len() + 8;
    let mut collection = String::with_capacity(capacity);
    let mut key = String::with_capacity(capacity);
    if database.database != DEFAULT_DATABASE {
        collection.push('@');
        collection.push_str(&database.database);
        key.push_str(OTHER_KEY);
    } else if path.starts_with('@') {
        collection.push('@');
    }
    (collection, key)
}

fn push(path: &mut String, id: &str, escaped: bool) {
    if !path.is_empty() && !escaped {
        path.push('/');
    }
    path.push_str(id);
}

fn is_dots(id: &str) -> bool {
    id == "." || id == ".."
}

fn is_reserved(id: &str) -> bool {
    id.len() >= 4 && id.starts_with("__") && id.ends_with("__")
}

/// `__…__` is reserved, but for the numeric ids of old (`__id7__`).
fn sound_document_id(id: &str) -> Result<(), Status> {
    if !is_reserved(id) {
        return short_enough(id);
    }
    if !id.starts_with("__id") {
        return Err(invalid(format!(
            "Resource id \"{id}\" is invalid because it is reserved."
        )));
    }
    match numeric_id(id) {
        None => Err(invalid(format!(
            "A long document ID string must be formatted like '__id{{LONG}}__', where LONG is a 64-bit \
             integer. Found: '{id}'."
        ))),
        Some(0) => Err(invalid("Document ID of type long must be non-zero")),
        Some(_) => Ok(()),
    }
}

fn short_enough(id: &str) -> Result<(), Status> {
    if id.len() <= ID_BYTES {
        return Ok(());
    }
    Err(invalid(format!(
        "The key path element {id} is longer than {ID_BYTES} bytes."
    )))
}

/// Reads a name from left to right and says where it goes wrong.
struct Reader<'a> {
    name: &'a str,
    what: &'static str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(name: &'a str, what: &'static str) -> Self {
        Self { name, what, at: 0 }
    }

    fn rest(&self) -> &'a str {
        self.name.get(self.at..).unwrap_or("")
    }

    fn word(&mut self, word: &str) -> Result<(), Status> {
        if self.rest().starts_with(word) {
            self.at += word.len();
            return Ok(());
        }
        Err(self.lacks(word))
    }

    fn lacks(&self, word: &str) -> Status {
        invalid(format!(
            "{} \"{}\" lacks \"{word}\" at index {}.",
            self.what, self.name, self.at
        ))
    }

    fn trailing_slash(&self) -> Status {
        invalid(format!(
            "{} \"{}\" has invalid trailing \"/\".",
            self.what, self.name
        ))
    }

    /// The next part up to a slash, called a `kind` id in messages.
    fn id(&mut self, kind: &str) -> Result<&'a str, Status> {
        let rest = self.rest();
        let id = rest.split('/').next().unwrap_or("");
        if id.is_empty() {
            return Err(if rest.is_empty() {
                self.trailing_slash()
            } else {
                invalid(format!(
                    "{} \"{}\" lacks a {kind} id at index {}.",
                    self.what, self.name, self.at
                ))
            });
        }
        if is_dots(id) {
            return Err(invalid(format!(
                "{} \"{}\" contains a {kind} id \"{id}\" at index {}.",
                self.what, self.name, self.at
            )));
        }
        self.at += id.len();
        Ok(id)
    }

    fn database(&mut self) -> Result<DatabaseName, Status> {
        self.word("projects")?;
        self.word("/")?;
        let project = self.id("project")?;
        self.word("/")?;
        self.word("databases")?;
        self.word("/")?;
        let database = self.id("database")?;
        if !is_project(project) || database.starts_with('@') {
            return Err(invalid(format!(
                "Invalid project ID({project}) or database ID({})",
                if database == DEFAULT_DATABASE {
                    ""
                } else {
                    database
                }
            )));
        }
        Ok(DatabaseName {
            project: project.to_owned(),
            database: database.to_owned(),
        })
    }

    /// The database, and the path of a document below `documents`; the path may be empty.
    fn documents(&mut self) -> Result<(DatabaseName, &'a str), Status> {
        let database = self.database()?;
        self.word("/")?;
        self.word("documents")?;
        let start = self.at + 1;
        let mut ids = 0;
        while !self.rest().is_empty() {
            self.word("/")?;
            if ids == 0 && self.rest().is_empty() {
                return Err(invalid(format!(
                    "{} \"{}\" is invalid: Omit trailing \"/\".",
                    self.what, self.name
                )));
            }
            if ids % 2 == 0 {
                let id = self.segment("collection")?;
                if is_reserved(id) {
                    return Err(invalid(format!(
                        "Collection id \"{id}\" is invalid because it is reserved."
                    )));
                }
                short_enough(id)?;
            } else {
                sound_document_id(self.segment("resource")?)?;
            }
            ids += 1;
        }
        if ids % 2 == 1 {
            return Err(self.lacks("/"));
        }
        let path = self.name.get(start..).unwrap_or("");
        if path.len() > PATH_BYTES {
            return Err(invalid(format!(
                "{} is longer than {PATH_BYTES} bytes.",
                self.what
            )));
        }
        if ids / 2 > LEVELS {
            return Err(invalid(format!(
                "{} has more than {} levels of subcollections.",
                self.what,
                LEVELS - 1
            )));
        }
        Ok((database, path))
    }

    fn segment(&mut self, kind: &str) -> Result<&'a str, Status> {
        let at = self.at;
        self.id(kind).map_err(|error| {
            let id = self.name.get(at..).unwrap_or("");
            let id = id.split('/').next().unwrap_or("");
            if is_dots(id) {
                invalid(format!(
                    "{} \"{}\" contains a resource id \"{id}\" at index {at}.",
                    self.what, self.name
                ))
            } else {
                error
            }
        })
    }
}

/// Lowercase letters, digits and hyphens, after an optional domain (with dots) and a colon; neither part longer
/// than 100 bytes.
fn is_project(project: &str) -> bool {
    const PART: usize = 100;
    let sound = |part: &str, dots: bool| {
        part.len() <= PART
            && !part.starts_with('-')
            && !part.starts_with('.')
            && part.bytes().all(|b| {
                b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || (dots && b == b'.')
            })
    };
    match project.split_once(':') {
        Some((domain, id)) => sound(domain, true) && sound(id, false),
        None => sound(project, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "projects/p/databases/(default)/documents";

    fn of(database: &str) -> DatabaseName {
        DatabaseName {
            project: "p".to_owned(),
            database: database.to_owned(),
        }
    }

    #[test]
    fn documents_lie_where_their_names_say_in_every_database() {
        for (database, path, collection, key) in [
            (DEFAULT_DATABASE, "users/alice", "users", "alice"),
            (DEFAULT_DATABASE, "users/a/posts/p", "users/posts", "a/p"),
            (DEFAULT_DATABASE, "@users/alice", "@@users", "alice"),
            (DEFAULT_DATABASE, "@@u/a/@b/c", "@@@u/@b", "a/c"),
            (DEFAULT_DATABASE, "@/a", "@@", "a"),
            (DEFAULT_DATABASE, "@/a/b/c", "@@/b", "a/c"),
            (DEFAULT_DATABASE, "u/@a", "u", "@a"),
            ("d", "users/alice", "@d/users", "-/alice"),
            ("d", "@users/@", "@d/@users", "-/@"),
            ("d", "a/1/b/2", "@d/a/b", "-/1/2"),
        ] {
            let name = format!("projects/p/databases/{database}/documents/{path}");
            let (found, place) = document(&name).unwrap();
            assert_eq!(found, of(database));
            assert_eq!((&*place.collection, &*place.key), (collection, key));
            assert!(place.is_sound(), "{name}");
            assert_eq!(super::path(&place), path);
            assert_eq!(super::name(&found, &place), name);
            assert!(belongs(&found, collection));
            assert!(!belongs(&of("other"), collection));
            assert_eq!(
                belongs(&of(DEFAULT_DATABASE), collection),
                database == DEFAULT_DATABASE
            );
            let (rest, id) = path.rsplit_once('/').unwrap();
            let (parent, last) = rest.rsplit_once('/').unwrap_or(("", rest));
            let lies = super::collection(&found, parent, last);
            assert_eq!((&*lies.name, lies.keys + id), (collection, key.to_owned()));
        }
    }

    #[test]
    fn what_is_no_name_is_refused_in_firestores_words() {
        for (path, message) in [
            ("", "Omit \"/documents\" when referencing a database"),
            ("/", "is invalid: Omit trailing \"/\"."),
            ("/a", "lacks \"/\" at index 42."),
            ("/a/b/c", "lacks \"/\" at index 46."),
            ("/a/", "has invalid trailing \"/\"."),
            ("/a//b", "lacks a resource id at index 43."),
            ("//a", "lacks a collection id at index 41."),
            ("/a/.", "contains a resource id \".\" at index 43."),
            ("/../b", "contains a resource id \"..\" at index 41."),
            (
                "/__a__/b",
                "Collection id \"__a__\" is invalid because it is reserved.",
            ),
            (
                "/a/__b__",
                "Resource id \"__b__\" is invalid because it is reserved.",
            ),
            ("/a/____", "is invalid because it is reserved."),
            ("/a/__id07__", "must be formatted like '__id{LONG}__'"),
            ("/a/__id0__", "must be non-zero"),
            ("/__id7__/b", "is invalid because it is reserved."),
        ] {
            let error = document(&format!("{ROOT}{path}")).unwrap_err();
            assert_eq!(error.code(), tonic::Code::InvalidArgument);
            assert!(error.message().contains(message), "{path}: {error}");
        }
        for id in ["__id7__", "__id-7__", "___", "__", "é", "a b", "..."] {
            assert!(document(&format!("{ROOT}/a/{id}")).is_ok(), "{id}");
            assert!(document_id(id).is_ok(), "{id}");
        }
        assert!(document(&format!("{ROOT}/a/{}", "x".repeat(1500))).is_ok());
        assert!(document(&format!("{ROOT}/a/{}", "x".repeat(1501))).is_err());
        assert!(document(&format!("{ROOT}{}", "/a/b".repeat(101))).is_ok());
        assert!(document(&format!("{ROOT}{}", "/a/b".repeat(102))).is_err());
        let long = format!("/a/{}", "x".repeat(1400)).repeat(5);
        assert!(document(&format!("{ROOT}{long}")).is_err());
    }

    #[test]
    fn parents_and_databases() {
        assert_eq!(parent(ROOT).unwrap().1, "");
        let below = format!("{ROOT}/a/1");
        assert_eq!(parent(&below).unwrap().1, "a/1");
        assert!(parent("projects/p/databases/(default)").is_err());
        assert!(parent(&format!("{ROOT}/a")).is_err());
        assert_eq!(
            database("projects/p/databases/(default)").unwrap(),
            of(DEFAULT_DATABASE)
        );
        for bad in [
            "",
            "projects",
            "projects/p",
            "projects/p/databases/",
            "projects//databases/d",
            "projects/p/databases/d/",
            "projects/p/databases/d/documents",
            "projects/P/databases/d",
            "projects/./databases/d",
            "projects/p/databases/@d",
        ] {
            assert!(database(bad).is_err(), "{bad}");
        }
        assert!(database("projects/example.com:p-1/databases/d").is_ok());
    }
}
