//! Documents in files, one a line: `jsonl:dir/` keeps each collection in `dir/NAME.jsonl`, or in
//! `NAME.jsonl.zst`.
//!
//! A document holds its key in a field (`id`, or the one that `key` names), an integer or a text. Of the
//! lines with one key the last one counts; a deletion is a line `{"id":…,"$deleted":true}`. Writes append
//! whole lines and wait for the disk; a line that a crash cut off is left out. When the store is closed
//! after writes, a file with void lines is rewritten with one line a document, in key order. A batch is
//! written as a whole or not at all, except that a crash in its middle may leave its first lines.
//!
//! A lock file keeps two processes from writing to one directory.

mod batch;
mod index;
mod line;
mod log;
mod source;

use crate::{CollectionConfig, LayoutChoice, OpenOptions, sqlite};
use async_trait::async_trait;
use index::{BadLine, LoadError, Place};
use log::{Lines, Log};
use std::collections::{BTreeSet, HashMap};
use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use whimbrel_model::store::{Description, Layout};
use whimbrel_model::{
    Body, Code, Document, Key, KeyKind, KeyRange, Limits, Page, Reject, Store, StoreError,
    StoreErrorKind as Kind, Write, WriteOutcome,
};

const LOCK: &str = ".whimbrel.lock";
const DOCUMENT_BYTES: usize = 32 << 20;

/// Opens a directory of files. One that does not exist is made by the first [`Store::ensure`].
///
/// # Errors
/// The directory cannot be used, or another process has it open.
pub async fn open(path: &str, options: &OpenOptions) -> Result<Arc<dyn Store>, StoreError> {
    let files = Files {
        name: format!("jsonl:{path}"),
        directory: PathBuf::from(path),
        options: options.clone(),
        lock: Mutex::default(),
        open: tokio::sync::Mutex::default(),
    };
    if files.directory.is_dir() {
        files.lock_directory()?;
    } else if options.read_only || files.directory.exists() {
        return Err(files.terminal(Code::StoreMissing, "there is no such directory"));
    }
    Ok(Arc::new(JsonlStore(Arc::new(files))))
}

#[derive(Debug)]
struct JsonlStore(Arc<Files>);

#[derive(Debug)]
struct Files {
    name: String,
    directory: PathBuf,
    options: OpenOptions,
    lock: Mutex<Option<File>>,
    /// By the collection's file name without its ending.
    open: tokio::sync::Mutex<HashMap<String, Arc<Collection>>>,
}

/// A file that was read into an index.
#[derive(Debug)]
struct Collection {
    id: String,
    plain: bool,
    index: Arc<dyn Store>,
    index_path: PathBuf,
    lines: Lines,
    bad: Vec<BadLine>,
    /// What `ensure` asked for, where no key tells.
    kind: Mutex<Option<KeyKind>>,
    log: Arc<tokio::sync::Mutex<Log>>,
    _index_directory: tempfile::TempDir,
}

impl Drop for Collection {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // A write that is still at work holds the collection, so this is its last holder.
        let Ok(mut log) = self.log.try_lock() else {
            return;
        };
        if let Err(error) = log.compact(&self.lines, &self.index_path) {
            // The file as it is holds everything.
            tracing::warn!(file = %log.path().display(), %error, "the file was not rewritten");
        }
    }
}

fn index_options() -> OpenOptions {
    let config = CollectionConfig {
        layout: LayoutChoice::Json,
        ..CollectionConfig::default()
    };
    OpenOptions {
        collections: [(index::TABLE.to_owned(), config)].into(),
        read_only: false,
    }
}

impl Files {
    fn terminal(&self, code: Code, message: impl Into<String>) -> StoreError {
        StoreError::new(Kind::Terminal, code, &self.name, message)
    }

    fn io(&self, doing: &str, error: std::io::Error) -> StoreError {
        use std::io::ErrorKind;
        let code = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Code::StoreFull,
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Code::StoreDenied,
            ErrorKind::NotFound => Code::StoreMissing,
            _ => Code::StoreFailed,
        };
        self.terminal(code, format!("could not {doing}: {error}"))
            .with_source(error)
    }

    /// The index's errors, as this store's own.
    fn own(&self, mut error: StoreError) -> StoreError {
        error.store.clone_from(&self.name);
        error
    }

    fn lock_directory(&self) -> Result<(), StoreError> {
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_some() {
            return Ok(());
        }
        let path = self.directory.join(LOCK);
        let locked = if self.options.read_only {
            // Reading writes nothing, not even a lock file.
            let Ok(file) = File::open(&path) else {
                return Ok(());
            };
            file.try_lock_shared().map(|()| file)
        } else {
            let file = File::options().create(true).append(true).open(&path);
            let file = file.map_err(|e| self.io("make the lock file", e))?;
            file.try_lock().map(|()| file)
        };
        match locked {
            Ok(file) => *held = Some(file),
            Err(TryLockError::Error(error)) => return Err(self.io("lock the directory", error)),
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::new(
                    Kind::Transient,
                    Code::StoreUnavailable,
                    &self.name,
                    format!(
                        "another process has the directory open ({LOCK} is locked); wait for its end"
                    ),
                ));
            }
        }
        Ok(())
    }

    fn writable(&self) -> Result<(), StoreError> {
        if self.options.read_only {
            return Err(self.terminal(Code::StoreDenied, "the store was opened for reading only"));
        }
        Ok(())
    }

    fn config(&self, collection: &str) -> CollectionConfig {
        let configured = self.options.collections.get(collection);
        configured.cloned().unwrap_or_default()
    }

    fn file_name(&self, collection: &str) -> Result<String, StoreError> {
        let name = self
            .config(collection)
            .table
            .unwrap_or_else(|| collection.to_owned());
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0', ':']) {
            return Err(self.terminal(
                Code::StoreShape,
                format!("{name:?} cannot be a file's name"),
            ));
        }
        Ok(name)
    }

    /// The collection's file, and whether it is compressed.
    fn path(&self, name: &str) -> Result<Option<(PathBuf, bool)>, StoreError> {
        let plain = self.directory.join(format!("{name}.jsonl"));
        let packed = self.directory.join(format!("{name}.jsonl.zst"));
        match (plain.is_file(), packed.is_file()) {
            (true, true) => Err(self.terminal(
                Code::StoreShape,
                format!("there are both {name}.jsonl and {name}.jsonl.zst; move one of them away"),
            )),
            (true, false) => Ok(Some((plain, false))),
            (false, true) => Ok(Some((packed, true))),
            (false, false) => Ok(None),
        }
    }

    async fn find(&self, collection: &str) -> Result<Option<Arc<Collection>>, StoreError> {
        let Ok(name) = self.file_name(collection) else {
            return Ok(None);
        };
        let mut open = self.open.lock().await;
        if let Some(found) = open.get(&name) {
            return Ok(Some(found.clone()));
        }
        let Some((path, compressed)) = self.path(&name)? else {
            return Ok(None);
        };
        let config = self.config(collection);
        let loaded = Arc::new(self.load(path, compressed, config).await?);
        open.insert(name, loaded.clone());
        Ok(Some(loaded))
    }

    async fn load(
        &self,
        path: PathBuf,
        compressed: bool,
        config: CollectionConfig,
    ) -> Result<Collection, StoreError> {
        let id = match config.key.as_slice() {
            [] => "id".to_owned(),
            [one] => one.clone(),
            _ => return Err(self.terminal(Code::StoreShape, "a file's key is one field")),
        };
        let shown = path.display().to_string();
        let field = id.clone();
        let work = move || -> Result<_, LoadError> {
            let directory = tempfile::tempdir()?;
            let index_path = directory.path().join("index.db");
            let (log, lines) = log::open(&path, compressed, &index_path, &field, DOCUMENT_BYTES)?;
            Ok((directory, index_path, log, lines))
        };
        let doing = format!("read {shown}");
        let loaded = blocking(self, work).await?;
        let (directory, index_path, log, lines) = loaded.map_err(|error| match error {
            LoadError::Io(error) => self.io(&doing, error),
            other => self.terminal(Code::StoreShape, format!("could not {doing}: {other}")),
        })?;
        let index = sqlite::open_temporary(&index_path, &index_options())
            .await
            .map_err(|e| self.own(e))?;
        Ok(Collection {
            id,
            plain: config.plain,
            index,
            index_path,
            lines,
            bad: log.loaded.bad.clone(),
            kind: Mutex::default(),
            log: Arc::new(tokio::sync::Mutex::new(log)),
            _index_directory: directory,
        })
    }

    async fn collection(&self, collection: &str) -> Result<Arc<Collection>, StoreError> {
        self.find(collection).await?.ok_or_else(|| {
            let message = format!("there is no file for collection {collection:?}");
            self.terminal(Code::StoreMissing, message)
        })
    }

    /// The documents whose places the index gave.
    async fn resolve(
        &self,
        collection: &Arc<Collection>,
        found: Vec<Document>,
    ) -> Result<Vec<Document>, StoreError> {
        let places = found.iter().map(place).collect::<Option<Vec<_>>>();
        let places =
            places.ok_or_else(|| self.terminal(Code::StoreFailed, "the index is damaged"))?;
        let shared = collection.clone();
        let lines = blocking(self, move || shared.lines.read(&places))
            .await?
            .map_err(|e| self.io("read documents", e))?;
        let documents = found.into_iter().zip(lines);
        Ok(documents
            .map(|(document, line)| Document {
                body: Body::Json(line),
                ..document
            })
            .collect())
    }
}

fn place(document: &Document) -> Option<Place> {
    Place::from_json(&document.body.json())
}

async fn blocking<T: Send + 'static>(
    store: &Files,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        StoreError::new(
            Kind::Unknown,
            Code::StoreUnknown,
            &store.name,
            "the work on the file was cut off",
        )
        .with_source(error)
    })
}

impl Collection {
    fn rejects(&self) -> Vec<Reject> {
        let reject = |line: &BadLine| Reject {
            key: None,
            label: format!("line {}", line.number),
            reason: line.reason.clone(),
        };
        self.bad.iter().map(reject).collect()
    }

    async fn kind(&self) -> KeyKind {
        let log = self.log.lock().await;
        let asked = self.kind.lock().unwrap_or_else(PoisonError::into_inner);
        match (log.loaded.ints, log.loaded.texts) {
            (true, false) => KeyKind::Int,
            (false, false) => asked.clone().unwrap_or(KeyKind::Text),
            _ => KeyKind::Text,
        }
    }
}

impl Files {
    fn list(&self) -> Result<Vec<String>, StoreError> {
        let configured = &self.options.collections;
        let mut names: BTreeSet<String> = configured.keys().cloned().collect();
        let claimed: BTreeSet<&str> = configured
            .values()
            .filter_map(|c| c.table.as_deref())
            .collect();
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(names.into_iter().collect());
            }
            Err(error) => return Err(self.io("list the directory", error)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| self.io("list the directory", e))?;
            let Ok(file) = entry.file_name().into_string() else {
                continue;
            };
            let name = file
                .strip_suffix(".jsonl")
                .or_else(|| file.strip_suffix(".jsonl.zst"));
            if let Some(name) = name
                && !name.is_empty()
                && !name.starts_with('.')
                && !claimed.contains(name)
            {
                names.insert(name.to_owned());
            }
        }
        Ok(names.into_iter().collect())
    }

    fn create(&self, collection: &str, kind: &KeyKind) -> Result<(), StoreError> {
        if matches!(kind, KeyKind::Tuple(_)) {
            return Err(self.terminal(
                Code::StoreShape,
                format!(
                    "a file's keys are integers or texts; {collection:?} would need several parts"
                ),
            ));
        }
        let name = self.file_name(collection)?;
        std::fs::create_dir_all(&self.directory).map_err(|e| self.io("make the directory", e))?;
        self.lock_directory()?;
        if self.path(&name)?.is_some() {
            return Ok(());
        }
        let path = self.directory.join(format!("{name}.jsonl"));
        let made = File::create_new(&path).and_then(|file| {
            file.sync_all()?;
            log::sync_directory(&self.directory)
        });
        made.map_err(|e| self.io(&format!("make {}", path.display()), e))
    }
}

#[async_trait]
impl Store for JsonlStore {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn limits(&self) -> Limits {
        Limits {
            batch_writes: 20_000,
            batch_bytes: DOCUMENT_BYTES,
            document_bytes: DOCUMENT_BYTES,
            key_order: true,
            parallel: 4,
        }
    }

    async fn collections(&self) -> Result<Vec<String>, StoreError> {
        self.0.list()
    }

    async fn describe(&self, collection: &str) -> Result<Option<Description>, StoreError> {
        let Some(found) = self.0.find(collection).await? else {
            return Ok(None);
        };
        let count = self.count(collection, &KeyRange::all()).await?;
        Ok(Some(Description {
            layout: Layout::Native,
            key: found.kind().await,
            documents: Some(count),
            bytes: Some(found.log.lock().await.loaded.lines_end),
        }))
    }

    async fn ensure(&self, collection: &str, key: &KeyKind) -> Result<(), StoreError> {
        self.0.writable()?;
        self.0.create(collection, key)?;
        let found = self.0.collection(collection).await?;
        *found.kind.lock().unwrap_or_else(PoisonError::into_inner) = Some(key.clone());
        Ok(())
    }

    async fn count(&self, collection: &str, range: &KeyRange) -> Result<u64, StoreError> {
        let found = self.0.collection(collection).await?;
        let count = found.index.count(index::TABLE, range).await;
        let bad = if range.after.is_none() {
            found.bad.len() as u64
        } else {
            0
        };
        Ok(count.map_err(|e| self.0.own(e))? + bad)
    }

    async fn partitions(
        &self,
        collection: &str,
        range: &KeyRange,
        parts: u32,
    ) -> Result<Vec<KeyRange>, StoreError> {
        let found = self.0.collection(collection).await?;
        let cut = found.index.partitions(index::TABLE, range, parts).await;
        let mut cut = cut.map_err(|e| self.0.own(e))?;
        if cut.is_empty() && range.after.is_none() && !found.bad.is_empty() {
            cut.push(range.clone());
        }
        Ok(cut)
    }

    async fn scan(
        &self,
        collection: &str,
        range: &KeyRange,
        limit: u32,
        bytes: usize,
    ) -> Result<Page, StoreError> {
        let found = self.0.collection(collection).await?;
        let page = found
            .index
            .scan(index::TABLE, range, limit, usize::MAX)
            .await;
        let mut places = page.map_err(|e| self.0.own(e))?.documents;
        let mut size = 0;
        let enough = places.iter().position(|document| {
            let length = place(document).map_or(0, |p| p.length);
            size += usize::try_from(length).unwrap_or(usize::MAX);
            size >= bytes
        });
        if let Some(last) = enough {
            places.truncate(last + 1);
        }
        let documents = self.0.resolve(&found, places).await?;
        Ok(Page {
            last: documents.last().map(|d| d.key.clone()),
            documents,
            // A line that is no document has no key, so no range but the beginning can tell of it.
            rejects: if range.after.is_none() {
                found.rejects()
            } else {
                Vec::new()
            },
        })
    }

    async fn get(
        &self,
        collection: &str,
        keys: &[Key],
    ) -> Result<Vec<Option<Document>>, StoreError> {
        let found = self.0.collection(collection).await?;
        let places = found
            .index
            .get(index::TABLE, keys)
            .await
            .map_err(|e| self.0.own(e))?;
        let there: Vec<bool> = places.iter().map(Option::is_some).collect();
        let documents = self
            .0
            .resolve(&found, places.into_iter().flatten().collect())
            .await?;
        let mut documents = documents.into_iter();
        Ok(there
            .into_iter()
            .map(|there| if there { documents.next() } else { None })
            .collect())
    }

    async fn held(
        &self,
        collection: &str,
        keys: &[Key],
        bodies: Vec<Body>,
    ) -> Result<Vec<Body>, StoreError> {
        let found = self.0.collection(collection).await?;
        let held = |(key, body)| line::held(key, body, &found.id, found.plain);
        Ok(keys.iter().zip(bodies).map(held).collect())
    }

    async fn write(&self, writes: &[Write]) -> Result<Vec<WriteOutcome>, StoreError> {
        self.0.writable()?;
        let (files, writes) = (self.0.clone(), writes.to_vec());
        // A task of its own: a caller that goes away must not leave the index behind the file.
        let name = self.0.name.clone();
        match tokio::spawn(async move { batch::write(&files, &writes).await }).await {
            Ok(result) => result,
            Err(error) => Err(StoreError::new(
                Kind::Unknown,
                Code::StoreUnknown,
                &name,
                "the write was cut off",
            )
            .with_source(error)),
        }
    }
}
