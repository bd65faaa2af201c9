//! The stores under test, each with empty collections of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use whimbrel_model::{
    Body, Document, Guard, Key, KeyKind, KeyRange, Map, Revision, Store, Timestamp, Value, Write,
    WriteOutcome,
};
use whimbrel_stores::{CollectionConfig, LayoutChoice, OpenOptions};

/// A store under test.
pub struct Subject {
    pub store: Arc<dyn Store>,
    url: String,
    options: OpenOptions,
    /// Names of the fields that hold the key's parts, where documents hold their key.
    key_fields: fn(&str) -> Vec<String>,
    /// Kinds of key that the store has no collections for.
    pub unsupported: fn(&KeyKind) -> bool,
    /// Can be open only once.
    exclusive: bool,
    /// Columns of the table `typed`, where there is one: their type, and values that they take.
    pub typed: Vec<(&'static str, Vec<Value>)>,
    /// Whether it gives snapshots.
    pub snapshots: bool,
    /// Reads a UUID key back as a text.
    pub uuid_as_text: bool,
    /// Keys that the store cannot have.
    pub unkeyable: fn(&str) -> bool,
    /// Names that no field can have.
    pub unnameable: fn(&str) -> bool,
    /// Documents that the store cannot hold, of those that are told apart by name.
    pub unheld: &'static [&'static str],
    /// What is removed once the test is over: a directory, a schema.
    _kept: Option<Kept>,
}

pub type Kept = Box<dyn std::any::Any + Send + Sync>;

pub const COLLECTIONS: [&str; 5] = ["by_int", "by_text", "by_uuid", "by_pair", "others"];

/// A table with a column for each type, keyed by a text `id`.
pub const TYPED: &str = "typed";

pub fn kind_of(collection: &str) -> KeyKind {
    match collection {
        "by_int" => KeyKind::Int,
        "by_uuid" => KeyKind::Uuid,
        "by_pair" => KeyKind::Tuple(vec![KeyKind::Text, KeyKind::Int]),
        _ => KeyKind::Text,
    }
}

pub fn no_fields(_: &str) -> Vec<String> {
    Vec::new()
}

pub fn id_fields(collection: &str) -> Vec<String> {
    match collection {
        "by_pair" => vec!["id1".into(), "id2".into()],
        _ => vec!["id".into()],
    }
}

pub async fn memory() -> Option<Subject> {
    static OPENED: AtomicU32 = AtomicU32::new(0);
    let url = format!("memory:subject-{}", OPENED.fetch_add(1, Ordering::Relaxed));
    Some(open(url, OpenOptions::default(), no_fields, None).await)
}

#[cfg(feature = "sqlite")]
pub async fn sqlite_json() -> Option<Subject> {
    let (kept, url) = file();
    Some(open(url, OpenOptions::default(), no_fields, Some(Box::new(kept))).await)
}

/// Tables of an app, with columns for some fields and one for the rest.
#[cfg(feature = "sqlite")]
pub async fn sqlite_columns() -> Option<Subject> {
    let (kept, url) = file();
    let app = rusqlite::Connection::open(kept.path().join("app.db")).unwrap();
    app.pragma_update(None, "journal_mode", "wal").unwrap();
    let mut options = OpenOptions::default();
    for collection in COLLECTIONS {
        let key = match collection {
            "by_int" => "id INTEGER PRIMARY KEY",
            "by_uuid" => "id UUID PRIMARY KEY",
            "by_pair" => "id1 TEXT, id2 INTEGER, PRIMARY KEY (id1, id2)",
            _ => "id TEXT PRIMARY KEY",
        };
        let (columns, constraint) = key.split_once(", PRIMARY").unwrap_or((key, ""));
        let mut sql =
            format!("CREATE TABLE \"app \"\"{collection}\" ({columns}, n INTEGER, rest JSON");
        if !constraint.is_empty() {
            write!(sql, ", PRIMARY{constraint}").unwrap();
        }
        app.execute_batch(&format!("{sql})")).unwrap();
        let config = CollectionConfig {
            table: Some(format!("app \"{collection}")),
            layout: LayoutChoice::Columns,
            rest: Some("rest".into()),
            ..CollectionConfig::default()
        };
        options.collections.insert(collection.to_owned(), config);
    }
    let typed = sqlite_types();
    let columns = type_columns(&typed);
    let sql = format!("CREATE TABLE {TYPED} (id TEXT PRIMARY KEY, {columns})");
    app.execute_batch(&sql).unwrap();
    let config = CollectionConfig {
        layout: LayoutChoice::Columns,
        ..CollectionConfig::default()
    };
    options.collections.insert(TYPED.to_owned(), config);
    let mut subject = open(url, options, id_fields, Some(Box::new(kept))).await;
    subject.typed = typed;
    Some(subject)
}

/// `"c 0" INTEGER, "c 1" TEXT, …`
pub fn type_columns(typed: &[(&'static str, Vec<Value>)]) -> String {
    let columns: Vec<String> = typed
        .iter()
        .enumerate()
        .map(|(i, (kind, _))| format!("\"c {i}\" {kind}"))
        .collect();
    columns.join(", ")
}

#[cfg(feature = "sqlite")]
fn sqlite_types() -> Vec<(&'static str, Vec<Value>)> {
    let text = |s: &str| Value::String(s.into());
    let at = |s: &str| Value::Timestamp(Timestamp::parse(s).unwrap());
    vec![
        (
            "INTEGER",
            vec![
                Value::Int(i64::MIN),
                Value::Double(3.0),
                Value::Double(0.5),
                Value::Double(9.2e18),
                Value::Double(1e300),
                text("twelve"),
            ],
        ),
        (
            "REAL",
            vec![
                Value::Int(3),
                Value::Int(i64::MIN),
                Value::Double(3.0),
                Value::Double(f64::INFINITY),
                text("0x10"),
            ],
        ),
        (
            "NUMERIC(10,2)",
            vec![
                Value::Int((1 << 53) + 1),
                Value::Double(-3.0),
                Value::Double(0.9),
                Value::Bytes(vec![0, 255]),
            ],
        ),
        ("TEXT", vec![text(" 12 "), text("")]),
        ("BLOB", vec![Value::Double(-0.0), Value::Int(1), text("1")]),
        ("", vec![Value::Double(3.0), text("1e5")]),
        (
            "BOOLEAN",
            vec![Value::Bool(true), Value::Int(2), Value::Double(2.0)],
        ),
        (
            "JSON",
            vec![
                Value::Int(7),
                Value::Double(3.0),
                Value::Double(0.25),
                Value::Double(1e300),
                Value::Bool(false),
                text("12"),
                text(" plain"),
                Value::Array(vec![Value::Double(3.0), at("2026-01-31T08:00:00Z")]),
            ],
        ),
        (
            "DATETIME",
            vec![
                at("2026-01-31T08:00:00.5Z"),
                text("2026-01-31T08:00:00Z"),
                text("2026-01-31 08:00:00"),
            ],
        ),
    ]
}

#[cfg(feature = "sqlite")]
pub async fn jsonl() -> Option<Subject> {
    files("jsonl").await
}

/// Files that are there already, compressed, and stay so.
#[cfg(feature = "sqlite")]
pub async fn jsonl_zst() -> Option<Subject> {
    files("jsonl.zst").await
}

#[cfg(feature = "sqlite")]
async fn files(ending: &str) -> Option<Subject> {
    let kept = tempfile::tempdir().unwrap();
    for collection in COLLECTIONS {
        std::fs::write(kept.path().join(format!("{collection}.{ending}")), b"").unwrap();
    }
    let url = format!("jsonl:{}", kept.path().display());
    let mut subject = open(url, OpenOptions::default(), id_fields, Some(Box::new(kept))).await;
    subject.unsupported = |kind| matches!(kind, KeyKind::Tuple(_));
    subject.uuid_as_text = true;
    subject.snapshots = false;
    subject.exclusive = true;
    Some(subject)
}

#[cfg(feature = "sqlite")]
fn file() -> (tempfile::TempDir, String) {
    let kept = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", kept.path().join("app.db").display());
    (kept, url)
}

pub async fn open(
    url: String,
    options: OpenOptions,
    key_fields: fn(&str) -> Vec<String>,
    kept: Option<Kept>,
) -> Subject {
    let store = whimbrel_stores::open(&url, &options).await.unwrap();
    Subject {
        store,
        url,
        options,
        key_fields,
        unsupported: |_| false,
        typed: Vec::new(),
        snapshots: true,
        uuid_as_text: false,
        unkeyable: |_| false,
        unnameable: |_| false,
        unheld: &[],
        exclusive: false,
        _kept: kept,
    }
}

impl Subject {
    /// The collection for a kind of key; `None` where the store has no such collections.
    pub async fn collection(&self, kind: &KeyKind) -> Option<&'static str> {
        if (self.unsupported)(kind) {
            return None;
        }
        let name = COLLECTIONS
            .into_iter()
            .find(|c| kind_of(c) == *kind)
            .unwrap();
        self.store.ensure(name, kind).await.unwrap();
        Some(name)
    }

    pub async fn text(&self) -> &'static str {
        self.collection(&KeyKind::Text).await.unwrap()
    }

    pub async fn ints(&self) -> Option<&'static str> {
        self.collection(&KeyKind::Int).await
    }

    /// Those of the keys that the store can have. The others are refused, and leave nothing behind.
    pub async fn keyable(&self, collection: &str, keys: Vec<Key>) -> Vec<Key> {
        let (no, yes): (Vec<Key>, Vec<Key>) = keys
            .into_iter()
            .partition(|key| matches!(key, Key::Text(text) if (self.unkeyable)(text)));
        for key in no {
            let write = self.put(collection, key.clone(), 1, Guard::Any);
            match self.one(write).await {
                WriteOutcome::Refused(why) => assert!(why.message.len() < 1000),
                other => panic!("{key}: {other:?}"),
            }
            assert!(self.get(collection, key).await.is_none());
        }
        yes
    }

    pub async fn read_only(&self) -> (Arc<dyn Store>, Option<tempfile::TempDir>) {
        let options = OpenOptions {
            read_only: true,
            ..self.options.clone()
        };
        self.again(options).await
    }

    /// Writes plain JSON.
    pub async fn plain(&self) -> (Arc<dyn Store>, Option<tempfile::TempDir>) {
        let mut options = self.options.clone();
        for collection in COLLECTIONS.into_iter().chain([TYPED]) {
            let config = options.collections.entry(collection.to_owned());
            config.or_default().plain = true;
        }
        self.again(options).await
    }

    /// The same database, opened again; a copy where it can be open only once.
    async fn again(&self, options: OpenOptions) -> (Arc<dyn Store>, Option<tempfile::TempDir>) {
        let Some(directory) = self.url.strip_prefix("jsonl:").filter(|_| self.exclusive) else {
            return (
                whimbrel_stores::open(&self.url, &options).await.unwrap(),
                None,
            );
        };
        let copy = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(directory).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
        let url = format!("jsonl:{}", copy.path().display());
        (
            whimbrel_stores::open(&url, &options).await.unwrap(),
            Some(copy),
        )
    }

    /// A document as this store would give it back: with its key where the store keeps it there.
    pub fn fields(&self, collection: &str, key: &Key, fields: &[(&str, Value)]) -> Map {
        let mut map = Map::new();
        let parts = match key {
            Key::Tuple(parts) => parts.clone(),
            one => vec![one.clone()],
        };
        for (name, part) in (self.key_fields)(collection).into_iter().zip(parts) {
            let value = match part {
                Key::Int(n) => Value::Int(n),
                other => Value::String(other.to_string()),
            };
            map.insert(name, value);
        }
        // A column that a document has no field for reads as null.
        map.insert("n".into(), Value::Null);
        for (name, value) in fields {
            map.insert((*name).to_owned(), value.clone());
        }
        map
    }

    pub fn put(&self, collection: &str, key: impl Into<Key>, n: i64, guard: Guard) -> Write {
        let key = key.into();
        let body = self.fields(collection, &key, &[("n", Value::Int(n))]);
        Write {
            collection: collection.to_owned(),
            key,
            to: Some(Body::Map(body)),
            guard,
        }
    }

    pub async fn write(&self, writes: &[Write]) -> Vec<WriteOutcome> {
        self.store.write(writes).await.unwrap()
    }

    pub async fn one(&self, write: Write) -> WriteOutcome {
        self.write(&[write]).await.remove(0)
    }

    /// Writes documents numbered from 0 under the keys.
    pub async fn fill(&self, collection: &str, keys: &[Key]) {
        let writes: Vec<Write> = (0_i64..)
            .zip(keys)
            .map(|(n, key)| self.put(collection, key.clone(), n, Guard::Absent))
            .collect();
        for outcome in self.write(&writes).await {
            assert_eq!(outcome, WriteOutcome::Applied);
        }
    }

    pub async fn get(&self, collection: &str, key: impl Into<Key>) -> Option<Document> {
        self.store
            .get(collection, &[key.into()])
            .await
            .unwrap()
            .remove(0)
    }

    pub async fn number(&self, collection: &str, key: impl Into<Key>) -> Option<i64> {
        let document = self.get(collection, key).await?;
        Some(number(&document))
    }

    pub async fn revision(&self, collection: &str, key: impl Into<Key>) -> Revision {
        self.get(collection, key).await.unwrap().revision
    }

    /// Every document of a range, in pages of `limit`.
    pub async fn scan(&self, collection: &str, range: &KeyRange, limit: u32) -> Vec<Document> {
        let mut documents: Vec<Document> = Vec::new();
        let mut last = None;
        loop {
            let rest = range.resumed_after(last.as_ref());
            let page = self
                .store
                .scan(collection, &rest, limit, 1 << 20)
                .await
                .unwrap();
            assert_eq!(page.rejects, [], "{collection}");
            assert!(page.documents.len() <= limit as usize);
            assert_eq!(page.last.as_ref(), page.documents.last().map(|d| &d.key));
            if page.documents.is_empty() {
                return documents;
            }
            last = page.last;
            documents.extend(page.documents);
        }
    }

    pub async fn keys(&self, collection: &str, range: &KeyRange, limit: u32) -> Vec<Key> {
        let documents = self.scan(collection, range, limit).await;
        documents.into_iter().map(|d| d.key).collect()
    }
}

pub fn number(document: &Document) -> i64 {
    match document.body.map().unwrap().get("n") {
        Some(Value::Int(n)) => *n,
        other => panic!("field n is {other:?}"),
    }
}

pub fn texts(keys: &[&str]) -> Vec<Key> {
    keys.iter().map(|k| Key::text(*k)).collect()
}

/// `key-000`, `key-001`, …
pub fn many(n: usize) -> Vec<Key> {
    (0..n).map(|i| Key::text(format!("key-{i:06}"))).collect()
}

/// Whether two lists hold the same keys, each once.
pub fn same_keys(a: &[Key], b: &[Key]) -> bool {
    let count = |keys: &[Key]| {
        let mut counts: BTreeMap<Key, u32> = BTreeMap::new();
        for key in keys {
            *counts.entry(key.clone()).or_default() += 1;
        }
        counts
    };
    count(a) == count(b)
}
