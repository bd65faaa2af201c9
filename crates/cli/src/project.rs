//! The project: `whimbrel.toml` and what its names mean.

use crate::failure::Failure;
use crate::project_file;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use whimbrel_engine::migrate::Hook;
use whimbrel_model::Code;
use whimbrel_model::schema::DEFAULT_VERSION_FIELD;
use whimbrel_stores::{CollectionConfig, OpenOptions};

pub const FILE: &str = "whimbrel.toml";
pub const DEFAULT_LEDGER: &str = "sqlite:.whimbrel/ledger.db";
pub const DEFAULT_MIGRATIONS: &str = "migrations";
pub const DEFAULT_CHECKS: &str = "checks";

/// Everything that the project file says, with paths made absolute.
#[derive(Clone, Debug)]
pub struct Project {
    /// The folder that relative paths start from.
    pub dir: PathBuf,
    /// `None` where there is no project file: only URLs can be named then.
    pub file: Option<PathBuf>,
    pub ledger: String,
    pub stores: BTreeMap<String, StoreEntry>,
    pub collections: BTreeMap<String, Collection>,
    pub run: RunDefaults,
    pub gateway: GatewayDefaults,
    /// The folder of the migration files.
    pub migrations: PathBuf,
    /// The folder of the files of checks.
    pub checks: PathBuf,
    /// What hears of migrations.
    pub hooks: Vec<Hook>,
}

#[derive(Clone, Debug)]
pub struct StoreEntry {
    pub url: String,
    /// Opened so that nothing can be written to it.
    pub read_only: bool,
}

#[derive(Clone, Debug)]
pub struct Collection {
    pub store: String,
    pub config: CollectionConfig,
    pub version_field: String,
    /// The folder of the schema's files.
    pub schemas: PathBuf,
}

/// `[run]`: what a flag or the environment did not say.
#[derive(Clone, Debug, Default)]
pub struct RunDefaults {
    pub parallel: Option<u32>,
    pub batch: Option<u32>,
    pub max_failed: Option<String>,
    pub max_latency_ms: Option<u64>,
}

/// `[gateway]`: what `serve` does where no flag and no variable said it.
#[derive(Clone, Debug, Default)]
pub struct GatewayDefaults {
    /// The name of one of the project's stores.
    pub store: Option<String>,
    pub listen: Option<String>,
    /// A file with the token that callers need.
    pub token_file: Option<PathBuf>,
}

impl Project {
    /// Finds and reads the project: in `dir`, or from the current folder upwards.
    ///
    /// # Errors
    /// The file cannot be read, or is not valid (all that is wrong with it at once).
    pub fn load(dir: Option<&Path>) -> Result<Self, Failure> {
        let here = std::env::current_dir().map_err(|e| Failure::io("the current folder", &e))?;
        let found = match dir {
            Some(dir) => {
                let dir = here.join(dir);
                if !dir.join(FILE).is_file() {
                    return Err(Failure::new(
                        Code::ProjectInvalid,
                        format!("there is no {FILE} in {}", dir.display()),
                    )
                    .next("whimbrel init sqlite:app.db   (writes one for an existing database)"));
                }
                Some(dir)
            }
            None => here
                .ancestors()
                .find(|d| d.join(FILE).is_file())
                .map(Path::to_path_buf),
        };
        match found {
            Some(dir) => {
                let file = dir.join(FILE);
                let text = std::fs::read_to_string(&file)
                    .map_err(|e| Failure::io(format!("reading {}", file.display()), &e))?;
                let shown = file
                    .strip_prefix(&here)
                    .unwrap_or(&file)
                    .display()
                    .to_string();
                let variables = |name: &str| std::env::var(name).ok();
                let mut project = project_file::read(&text, &shown, &dir, &variables)?;
                project.file = Some(file);
                Ok(project)
            }
            None => Ok(Self::empty(&here)),
        }
    }

    #[must_use]
    pub fn empty(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            file: None,
            ledger: resolve_url(DEFAULT_LEDGER, dir),
            stores: BTreeMap::new(),
            collections: BTreeMap::new(),
            run: RunDefaults::default(),
            gateway: GatewayDefaults::default(),
            migrations: dir.join(DEFAULT_MIGRATIONS),
            checks: dir.join(DEFAULT_CHECKS),
            hooks: Vec::new(),
        }
    }

    /// How the store called `name` is to be opened.
    #[must_use]
    pub fn open_options(&self, name: &str) -> OpenOptions {
        OpenOptions {
            collections: self
                .collections
                .iter()
                .filter(|(_, c)| c.store == name)
                .map(|(n, c)| (n.clone(), c.config.clone()))
                .collect(),
            read_only: self.stores.get(name).is_some_and(|s| s.read_only),
        }
    }

    /// What the project says of a collection; its defaults where it says nothing.
    #[must_use]
    pub fn collection(&self, store: &str, name: &str) -> Collection {
        match self.collections.get(name) {
            Some(collection) if collection.store == store => collection.clone(),
            _ => Collection {
                store: store.to_owned(),
                config: CollectionConfig::default(),
                version_field: DEFAULT_VERSION_FIELD.to_owned(),
                schemas: self.dir.join("schemas").join(name),
            },
        }
    }

    /// # Errors
    /// No store has this name.
    pub fn store(&self, name: &str) -> Result<&StoreEntry, Failure> {
        self.stores.get(name).ok_or_else(|| {
            let known: Vec<_> = self.stores.keys().map(String::as_str).collect();
            let failure = Failure::new(
                Code::UnknownStore,
                format!("no store is called \"{name}\"{}", listed(&known)),
            );
            self.hint(failure, name, &known)
        })
    }

    /// # Errors
    /// The project names no such collection.
    pub fn named_collection(&self, name: &str) -> Result<&Collection, Failure> {
        self.collections.get(name).ok_or_else(|| {
            let known: Vec<_> = self.collections.keys().map(String::as_str).collect();
            let failure = Failure::new(
                Code::UnknownCollection,
                format!("the project has no collection \"{name}\"{}", listed(&known)),
            );
            self.hint(failure, name, &known)
                .next("or name the store too: STORE/COLLECTION, or sqlite:app.db#COLLECTION")
        })
    }

    fn hint(&self, failure: Failure, name: &str, known: &[&str]) -> Failure {
        if self.file.is_none() {
            return failure.next(format!(
                "there is no {FILE} here or above: whimbrel init sqlite:app.db writes one"
            ));
        }
        match nearest(name, known) {
            Some(near) => failure.next(format!("did you mean \"{near}\"?")),
            None => failure,
        }
    }
}

fn listed(known: &[&str]) -> String {
    if known.is_empty() {
        String::new()
    } else {
        format!(" (there are: {})", known.join(", "))
    }
}

/// The known name that `name` was probably meant to be.
#[must_use]
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|k| (distance(name, k), *k))
        .min()
        .filter(|(d, k)| *d <= 1 + k.len() / 4)
        .map(|(_, k)| k)
}

/// Levenshtein's distance, by rows.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Makes the path of a file-based URL absolute, starting from `dir`.
#[must_use]
pub fn resolve_url(url: &str, dir: &Path) -> String {
    for scheme in ["sqlite:", "jsonl:"] {
        let Some(rest) = url.strip_prefix(scheme) else {
            continue;
        };
        let (path, query) = match rest.find('?') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let path = path
            .strip_prefix("//")
            .filter(|p| p.starts_with('/'))
            .unwrap_or(path);
        if path.is_empty() || path.starts_with(':') {
            return url.to_owned();
        }
        return format!(
            "{scheme}{}{query}",
            tidy(&dir.join(path), path.ends_with('/'))
        );
    }
    url.to_owned()
}

/// The path without `.` and without `..` where that is plain.
fn tidy(path: &Path, slash: bool) -> String {
    use std::path::Component;
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if out.file_name().is_some() => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    let text = out.display().to_string();
    if slash && !text.ends_with('/') {
        format!("{text}/")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_start_from_the_project() {
        let dir = Path::new("/home/me/app");
        for (url, expect) in [
            ("sqlite:app.db", "sqlite:/home/me/app/app.db"),
            (
                "sqlite:./data/../app.db?mode=rw",
                "sqlite:/home/me/app/app.db?mode=rw",
            ),
            ("sqlite:/var/app.db", "sqlite:/var/app.db"),
            ("sqlite:///var/app.db", "sqlite:/var/app.db"),
            ("jsonl:export/", "jsonl:/home/me/app/export/"),
            ("postgres://me@host/db", "postgres://me@host/db"),
            ("memory:", "memory:"),
        ] {
            assert_eq!(resolve_url(url, dir), expect, "{url}");
        }
    }

    #[test]
    fn names_are_guessed_only_when_near() {
        let known = ["conversations", "users"];
        for (name, expect) in [
            ("conversation", Some("conversations")),
            ("user", Some("users")),
            ("messages", None),
        ] {
            assert_eq!(nearest(name, &known), expect, "{name}");
        }
    }
}
