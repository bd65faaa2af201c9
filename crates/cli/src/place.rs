//! What a user writes for a store or a collection: `app`, `app/conversations`, `conversations`,
//! `sqlite:app.db#conversations`.

use crate::failure::Failure;
use crate::project::{Collection, Project, resolve_url};
use std::path::Path;
use std::sync::Arc;
use whimbrel_engine::Place;
use whimbrel_model::{Code, Store};
use whimbrel_stores::OpenOptions;

/// A store that was named, with or without a collection in it.
#[derive(Clone, Debug)]
pub struct Named {
    /// What runs call it: the project's name, or the URL without its secrets.
    pub store: String,
    pub url: String,
    pub options: OpenOptions,
    pub collection: Option<String>,
}

/// Reads `STORE`, `STORE/COLLECTION` or `URL[#COLLECTION]`. Paths in a URL start from the current folder,
/// as they do in a shell.
///
/// # Errors
/// No store has that name.
pub fn parse(text: &str, project: &Project) -> Result<Named, Failure> {
    if is_url(text) {
        let (url, collection) = match text.rsplit_once('#') {
            Some((url, collection)) => (url, Some(collection.to_owned())),
            None => (text, None),
        };
        let here = std::env::current_dir().map_err(|e| Failure::io("the current folder", &e))?;
        let url = resolve_url(url, &here);
        // A URL that the project knows by name is the same store: its runs must be found again.
        if let Some((name, _)) = project.stores.iter().find(|(_, s)| s.url == url) {
            return named(name, collection, project);
        }
        return Ok(Named {
            store: without_secret(&url),
            url,
            options: OpenOptions::default(),
            collection: collection.filter(|c| !c.is_empty()),
        });
    }
    match text.split_once('/') {
        Some((store, collection)) => named(store, Some(collection.to_owned()), project),
        None => named(text, None, project),
    }
}

/// Reads what names one collection: a collection of the project, or anything that [`parse`] takes
/// with a collection in it.
///
/// # Errors
/// There is no such collection or store in the project.
pub fn parse_collection(text: &str, project: &Project) -> Result<(Named, Collection), Failure> {
    let only_a_store = project.stores.contains_key(text) && !project.collections.contains_key(text);
    let named = if is_url(text) || text.contains('/') || only_a_store {
        parse(text, project)?
    } else {
        let collection = project.named_collection(text)?;
        named(&collection.store, Some(text.to_owned()), project)?
    };
    let Some(name) = &named.collection else {
        return Err(
            Failure::usage(format!("{text} names a store, but no collection in it"))
                .next(format!("whimbrel inspect {text}   (lists its collections)")),
        );
    };
    let collection = project.collection(&named.store, name);
    Ok((named, collection))
}

/// Reads what a copy's source may be: a collection of the project, or anything that [`parse`] takes.
///
/// # Errors
/// No store has that name.
pub fn parse_source(text: &str, project: &Project) -> Result<Named, Failure> {
    // `conversations` alone is the project's collection; as a target it would be a guess.
    match project.collections.get(text) {
        Some(_) if !project.stores.contains_key(text) => Ok(parse_collection(text, project)?.0),
        _ => parse(text, project),
    }
}

fn named(store: &str, collection: Option<String>, project: &Project) -> Result<Named, Failure> {
    let entry = project.store(store)?;
    Ok(Named {
        store: store.to_owned(),
        url: entry.url.clone(),
        options: project.open_options(store),
        collection: collection.filter(|c| !c.is_empty()),
    })
}

/// Whether the text begins with a scheme.
#[must_use]
pub fn is_url(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, _)| {
        !scheme.is_empty()
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '+')
    })
}

/// A URL without its password and options.
#[must_use]
pub fn without_secret(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.split('?').next().unwrap_or(url).to_owned();
    };
    let rest = rest.split('?').next().unwrap_or(rest);
    match rest.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split(':').next().unwrap_or(user);
            format!("{scheme}://{user}@{host}")
        }
        None => format!("{scheme}://{rest}"),
    }
}

impl Named {
    /// Opens the store. A file that does not exist is an error unless `create`.
    ///
    /// # Errors
    /// The store cannot be opened.
    pub async fn open(&self, read_only: bool, create: bool) -> Result<Arc<dyn Store>, Failure> {
        if let Some(path) = self.url.strip_prefix("sqlite:") {
            let path = path.split('?').next().unwrap_or(path);
            let file = Path::new(path);
            if !create && !path.starts_with(':') && !file.exists() {
                return Err(Failure::new(
                    Code::StoreMissing,
                    format!("store {}: there is no file {path}", self.store),
                )
                .not_done("nothing was opened and nothing was created")
                .next("check the url in whimbrel.toml; relative paths start from its folder"));
            }
        }
        let mut options = self.options.clone();
        options.read_only |= read_only;
        Ok(whimbrel_stores::open(&self.url, &options).await?)
    }

    /// # Errors
    /// As [`Named::open`].
    pub async fn place(
        &self,
        collection: &str,
        read_only: bool,
        create: bool,
    ) -> Result<Place, Failure> {
        Ok(Place {
            store: self.open(read_only, create).await?,
            store_name: self.store.clone(),
            collection: collection.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::StoreEntry;

    fn project() -> Project {
        let mut project = Project::empty(Path::new("/p"));
        project.file = Some("/p/whimbrel.toml".into());
        let entry = StoreEntry {
            url: "sqlite:/p/app.db".into(),
            read_only: false,
        };
        project.stores.insert("app".into(), entry);
        project.collections.insert(
            "conversations".into(),
            Collection {
                store: "app".into(),
                ..project.collection("app", "conversations")
            },
        );
        project
    }

    #[test]
    fn stores_and_collections_are_named_in_four_ways() {
        let project = project();
        for (text, store, collection) in [
            ("app", "app", None),
            ("app/users", "app", Some("users")),
            ("sqlite:/p/app.db#users", "app", Some("users")),
            ("sqlite:/q/b.db#a", "sqlite:/q/b.db", Some("a")),
            (
                "postgres://me:pw@h/db?x=y#a",
                "postgres://me@h/db",
                Some("a"),
            ),
            ("memory:", "memory:", None),
        ] {
            let named = parse(text, &project).unwrap();
            assert_eq!(named.store, store, "{text}");
            assert_eq!(named.collection.as_deref(), collection, "{text}");
        }
        assert!(parse("ap/users", &project).unwrap_err().next[0].contains("\"app\""));
        let (named, _) = parse_collection("conversations", &project).unwrap();
        assert_eq!(named.store, "app");
        assert_eq!(parse_collection("app", &project).unwrap_err().code, None);
    }

    #[test]
    fn urls_are_told_from_names() {
        for (text, expect) in [
            ("sqlite:a", true),
            ("app/a:b", false),
            ("app", false),
            (":x", false),
        ] {
            assert_eq!(is_url(text), expect, "{text}");
        }
    }
}
