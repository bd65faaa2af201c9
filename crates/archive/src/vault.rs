//! The folder or object store that archives lie in.

#[cfg(feature = "cloud")]
mod cloud;

use crate::error::ArchiveError;
use crate::name::check_name;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Place;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder or object store, by path or URL. Whoever opens one for an object store has its credentials in
/// the environment; they are never part of a URL or a message.
#[derive(Clone)]
pub struct Vault {
    store: Arc<dyn ObjectStore>,
    /// Where the archives lie in the store.
    root: Place,
    name: String,
    /// The folder, where it is one.
    folder: Option<PathBuf>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Display for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Vault {
    /// Opens what `place` names: a folder (made where it is missing and `create` says so; a relative one
    /// starts from `base`), `file:///…`, or with the feature `cloud` `s3://bucket/…`, `gs://bucket/…`,
    /// `az://container/…`.
    ///
    /// # Errors
    /// There is no such folder, or the URL is none that is known here.
    pub fn open(place: &str, base: &Path, create: bool) -> Result<Self, ArchiveError> {
        match place.split_once("://") {
            None => Self::folder(&base.join(place), create),
            Some(("file", path)) if path.starts_with('/') => Self::folder(Path::new(path), create),
            Some(("s3" | "s3a" | "gs" | "az" | "azure" | "abfs" | "abfss", rest)) => {
                refuse_secrets(place, rest)?;
                Self::object_store(place)
            }
            Some((scheme, _)) => Err(ArchiveError::vault(format!(
                "{scheme}:// is no place for archives; a folder, s3://, gs:// and az:// are"
            ))),
        }
    }

    /// Opens the vault that an archive lies in, and says what the archive is called there: the last part
    /// of `place`.
    ///
    /// # Errors
    /// As [`Vault::open`], or `place` names no archive.
    pub fn of_archive(place: &str, base: &Path) -> Result<(Self, String), ArchiveError> {
        let trimmed = place.trim_end_matches('/');
        let (parent, name) = match trimmed.rsplit_once('/') {
            Some((parent, name)) if !parent.ends_with('/') => (parent, name),
            // `/name`, `s3://bucket`, `file:///name`
            Some((parent, name)) if !trimmed.contains("://") => {
                (if parent.is_empty() { "/" } else { parent }, name)
            }
            Some(_) => {
                return Err(ArchiveError::missing(format!(
                    "{place} names no archive in a bucket or folder"
                )));
            }
            None => (".", trimmed),
        };
        if name == ".." || name == "." {
            let here = base.join(trimmed).canonicalize().ok();
            let named = here.as_deref().and_then(|p| p.parent().zip(p.file_name()));
            let Some((parent, name)) = named.and_then(|(p, n)| Some((p, n.to_str()?))) else {
                return Err(ArchiveError::missing(format!("{place} names no archive")));
            };
            check_name(name)?;
            return Ok((Self::folder(parent, false)?, name.to_owned()));
        }
        check_name(name)?;
        Ok((Self::open(parent, base, false)?, name.to_owned()))
    }

    fn folder(folder: &Path, create: bool) -> Result<Self, ArchiveError> {
        let shown = folder.display();
        if create {
            std::fs::create_dir_all(folder)
                .map_err(|why| ArchiveError::vault(format!("{shown} cannot be made: {why}")))?;
        }
        // The user's own path may lead over links; what lies in the folder may not.
        let folder = folder
            .canonicalize()
            .map_err(|why| ArchiveError::missing(format!("there is no folder {shown} ({why})")))?;
        let store = LocalFileSystem::new_with_prefix(&folder)
            .map_err(|why| ArchiveError::vault(format!("{shown} cannot be used: {why}")))?
            .with_fsync(true);
        Ok(Self {
            store: Arc::new(store),
            root: Place::default(),
            name: folder.display().to_string(),
            folder: Some(folder),
        })
    }

    #[cfg(feature = "cloud")]
    fn object_store(url: &str) -> Result<Self, ArchiveError> {
        let (store, root) = cloud::open(url)?;
        Ok(Self {
            store,
            root,
            name: url.trim_end_matches('/').to_owned(),
            folder: None,
        })
    }

    #[cfg(not(feature = "cloud"))]
    fn object_store(url: &str) -> Result<Self, ArchiveError> {
        Err(ArchiveError::vault(format!(
            "{url}: this program was built without object stores; build it with the feature `cloud` \
             (`--features cloud`), or use a folder"
        )))
    }

    /// The folder or URL, without any secret.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What messages call an archive of this vault.
    #[must_use]
    pub fn shown(&self, archive: &str) -> String {
        format!("{}/{archive}", self.name)
    }

    fn place(&self, parts: &[&str]) -> Place {
        let mut place = self.root.clone();
        for part in parts {
            place = place.join(*part);
        }
        place
    }

    /// The archives and unfinished archives that lie here, by name.
    ///
    /// # Errors
    /// The vault cannot be read.
    pub async fn archives(&self) -> Result<Vec<String>, ArchiveError> {
        let root = Some(&self.root).filter(|r| r.as_ref() != "");
        let listed = self
            .store
            .list_with_delimiter(root)
            .await
            .map_err(|why| self.failed("listing it", &why))?;
        let mut names: Vec<String> = listed
            .common_prefixes
            .iter()
            .filter_map(|p| p.filename().map(str::to_owned))
            .filter(|name| check_name(name).is_ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// The size of a file; `None` where there is none.
    pub(crate) async fn size(&self, parts: &[&str]) -> Result<Option<u64>, ArchiveError> {
        self.refuse_links(parts)?;
        match self.store.head(&self.place(parts)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(why) => Err(self.failed(&format!("reading {}", parts.join("/")), &why)),
        }
    }

    /// A file of at most `most` bytes; `None` where there is none.
    pub(crate) async fn get(
        &self,
        parts: &[&str],
        most: u64,
    ) -> Result<Option<Bytes>, ArchiveError> {
        self.refuse_links(parts)?;
        let what = || format!("reading {}", parts.join("/"));
        let found = match self.store.get(&self.place(parts)).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(why) => return Err(self.failed(&what(), &why)),
        };
        if found.meta.size > most {
            return Err(ArchiveError::invalid(format!(
                "{} is larger ({} bytes) than it may be ({most})",
                parts.join("/"),
                found.meta.size
            )));
        }
        let bytes = found
            .bytes()
            .await
            .map_err(|why| self.failed(&what(), &why))?;
        Ok(Some(bytes))
    }

    /// Writes a file whole or not at all; durable when it returns.
    pub(crate) async fn put(&self, parts: &[&str], bytes: Bytes) -> Result<(), ArchiveError> {
        self.put_as(parts, bytes, PutMode::Overwrite).await
    }

    /// The same, where nothing is there yet.
    pub(crate) async fn put_new(&self, parts: &[&str], bytes: Bytes) -> Result<(), ArchiveError> {
        self.put_as(parts, bytes, PutMode::Create).await
    }

    async fn put_as(
        &self,
        parts: &[&str],
        bytes: Bytes,
        mode: PutMode,
    ) -> Result<(), ArchiveError> {
        self.refuse_links(parts)?;
        self.store
            .put_opts(&self.place(parts), bytes.into(), PutOptions::from(mode))
            .await
            .map(|_| ())
            .map_err(|why| self.failed(&format!("writing {}", parts.join("/")), &why))
    }

    pub(crate) async fn delete(&self, parts: &[&str]) -> Result<(), ArchiveError> {
        match self.store.delete(&self.place(parts)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(why) => Err(self.failed(&format!("removing {}", parts.join("/")), &why)),
        }
    }

    /// The files right below, with their sizes.
    pub(crate) async fn list(&self, parts: &[&str]) -> Result<Vec<(String, u64)>, ArchiveError> {
        self.refuse_links(parts)?;
        let place = self.place(parts);
        let files: Vec<_> = self
            .store
            .list(Some(&place))
            .try_collect()
            .await
            .map_err(|why| self.failed(&format!("listing {}", parts.join("/")), &why))?;
        let below = |location: &Place| {
            let mut rest = location.prefix_match(&place)?;
            let name = rest.next()?.as_ref().to_owned();
            rest.next().is_none().then_some(name)
        };
        Ok(files
            .iter()
            .filter_map(|meta| Some((below(&meta.location)?, meta.size)))
            .collect())
    }

    /// Nothing in a folder vault is read or written through a symbolic link: an archive that came from
    /// elsewhere could lead anywhere.
    fn refuse_links(&self, parts: &[&str]) -> Result<(), ArchiveError> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let mut path = folder.clone();
        for part in parts {
            path.push(part);
            match path.symlink_metadata() {
                Ok(meta) if meta.file_type().is_symlink() => {
                    return Err(ArchiveError::invalid(format!(
                        "{} is a symbolic link, which no backup makes; it was not followed",
                        path.display()
                    )));
                }
                Ok(_) => {}
                // What is missing, or cannot be looked at, is told by the call itself.
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    fn failed(&self, what: &str, why: &Error) -> ArchiveError {
        let text = format!("{}: {what}: {}", self.name, scrub(&cause(why)));
        match why {
            // A disk that is full or a folder without rights does not mend itself.
            Error::Generic { .. } if self.folder.is_none() => ArchiveError::away(text),
            _ => ArchiveError::vault(text),
        }
    }
}

/// What lies at the bottom of an error, with the error's own words where there is nothing below.
fn cause(error: &Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let (own, below) = (error.to_string(), deepest.to_string());
    match own.contains(&below) || !matches!(error, Error::Generic { .. }) {
        true => own,
        false => format!("{own}: {below}"),
    }
}

/// URLs in a driver's message, without what may be signed tokens.
fn scrub(text: &str) -> String {
    let words: Vec<_> = text
        .split(' ')
        .map(|word| match word.split_once("://") {
            Some((scheme, rest)) => {
                let rest = rest.split(['?', '#']).next().unwrap_or(rest);
                let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
                format!("{scheme}://{rest}")
            }
            None => word.to_owned(),
        })
        .collect();
    words.join(" ")
}

fn refuse_secrets(place: &str, rest: &str) -> Result<(), ArchiveError> {
    let scheme = place.split("://").next().unwrap_or_default();
    // Azure writes the container before an @.
    let user = !scheme.starts_with("abfs") && rest.contains('@');
    if user || rest.contains(['?', '#']) {
        return Err(ArchiveError::vault(format!(
            "the {scheme}:// URL of a vault is a bucket and a path, no more; credentials come from the \
             environment (AWS_…, GOOGLE_…, AZURE_…)"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_never_reach_a_message() {
        for (text, expect) in [
            ("plain words", "plain words"),
            (
                "GET https://me:pw@host/a?sig=secret failed",
                "GET https://host/a failed",
            ),
        ] {
            assert_eq!(scrub(text), expect);
        }
        for url in ["s3://key:secret@bucket/x", "s3://bucket/x?token=secret"] {
            let error = Vault::open(url, Path::new("."), false).unwrap_err();
            assert!(!error.message.contains("secret"), "{error}");
        }
    }

    #[cfg(not(feature = "cloud"))]
    #[test]
    fn object_stores_name_the_feature_that_they_need() {
        let error = Vault::open("s3://bucket/backups", Path::new("."), false).unwrap_err();
        assert!(error.message.contains("`cloud`"), "{error}");
    }

    #[test]
    fn an_archive_is_the_last_part_of_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(base.join("b/one")).unwrap();
        for (place, vault, name) in [
            ("b/one", "b", "one"),
            ("b/one/", "b", "one"),
            ("./b/one", "b", "one"),
            ("b", "", "b"),
            ("b/one/.", "b", "one"),
        ] {
            let (found, called) = Vault::of_archive(place, &base).unwrap();
            assert_eq!(found.folder, Some(base.join(vault)), "{place}");
            assert_eq!(called, name, "{place}");
        }
        for place in ["", "s3://bucket", "nowhere/one", "b/a b", "/"] {
            assert!(Vault::of_archive(place, &base).is_err(), "{place}");
        }
    }
}
