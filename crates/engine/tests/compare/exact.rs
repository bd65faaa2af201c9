//! Each kind of error, planted into each kind of target of each kind of source.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use whimbrel_engine::Engine;
use whimbrel_model::{Body, Fingerprint, Key, KeyKind, Map, Store, Timestamp, Value};
use whimbrel_stores::{CollectionConfig, LayoutChoice, OpenOptions, open};

use super::common::{Stage, engine, store};
use super::{agrees, collection, copy_job, job, plain, put, told};

const KINDS: [&str; 6] = [
    "memory",
    "jsonl",
    "sqlite-json",
    "sqlite-columns",
    "postgres-json",
    "postgres-columns",
];
const FILLING: usize = 60;

struct End {
    store: Arc<dyn Store>,
    _stage: Option<Stage>,
}

async fn end(kind: &str, dir: &Path, name: &str) -> Option<End> {
    static STAGES: AtomicU32 = AtomicU32::new(0);
    let number = STAGES.fetch_add(1, Ordering::Relaxed);
    let file = dir.join(name);
    let mut stage = None;
    let store = match kind {
        "memory" => store("memory:").await,
        "jsonl" => store(&format!("jsonl:{}", file.display())).await,
        "sqlite-json" => store(&format!("sqlite:{}.db", file.display())).await,
        "sqlite-columns" => {
            let path = format!("{}.db", file.display());
            let sql =
                "(id TEXT PRIMARY KEY NOT NULL, s TEXT, n INTEGER, x REAL, t TIMESTAMP, rest JSON)";
            rusqlite::Connection::open(&path)
                .unwrap()
                .execute_batch(&format!("CREATE TABLE {name} {sql}"))
                .unwrap();
            let options = in_columns(name, name);
            open(&format!("sqlite:{path}"), &options).await.unwrap()
        }
        "postgres-json" => {
            let one = Stage::new(&format!("exact_{number}"))?;
            let store = one.store(&[name]).await;
            stage = Some(one);
            store
        }
        _ => {
            let one = Stage::new(&format!("exact_{number}"))?;
            one.sql(&format!(
                "CREATE TABLE {name} (id text COLLATE \"C\" PRIMARY KEY, s text, n int8, x float8, \
                 t timestamptz, rest jsonb)"
            ));
            let options = in_columns(name, &format!("{}.{name}", one.schema));
            let store = open(&one.url, &options).await.unwrap();
            stage = Some(one);
            store
        }
    };
    store.ensure(name, &KeyKind::Text).await.unwrap();
    Some(End {
        store,
        _stage: stage,
    })
}

fn in_columns(collection: &str, table: &str) -> OpenOptions {
    let config = CollectionConfig {
        table: Some(table.to_owned()),
        layout: LayoutChoice::Columns,
        rest: Some("rest".to_owned()),
        ..CollectionConfig::default()
    };
    OpenOptions {
        collections: [(collection.to_owned(), config)].into(),
        ..OpenOptions::default()
    }
}

fn base(i: usize) -> Map {
    let text = |s: &str| Value::String(s.to_owned());
    let deep = Map::from_iter([
        (
            "list".to_owned(),
            Value::Array(vec![Value::Int(1), text("é")]),
        ),
        ("flag".to_owned(), Value::Bool(true)),
    ]);
    Map::from_iter([
        ("s".to_owned(), text("a text")),
        ("n".to_owned(), Value::Int(i64::try_from(i).unwrap())),
        ("x".to_owned(), Value::Double(1.5)),
        (
            "t".to_owned(),
            Value::Timestamp(Timestamp::parse("2026-01-31T08:00:00.5Z").unwrap()),
        ),
        ("any".to_owned(), Value::Int(1)),
        ("zero".to_owned(), Value::Double(0.0)),
        ("nan".to_owned(), Value::Double(f64::NAN)),
        ("none".to_owned(), Value::Null),
        ("deep".to_owned(), Value::Map(deep)),
    ])
}

type Change = fn(&mut Map);

/// Each changes one document of the target.
const CHANGES: &[(&str, Change)] = &[
    ("one-bit", |m| set(m, "s", Value::String("a texu".into()))),
    ("one-bit-deep", |m| {
        if let Some(Value::Map(deep)) = m.get_mut("deep") {
            set(
                deep,
                "list",
                Value::Array(vec![Value::Int(0), Value::String("é".into())]),
            );
        }
    }),
    ("int-to-double", |m| set(m, "any", Value::Double(1.0))),
    ("int-to-text", |m| set(m, "any", Value::String("1".into()))),
    ("column-int-to-double", |m| set(m, "n", Value::Double(77.0))),
    ("one-more", |m| set(m, "n", Value::Int(-1))),
    ("last-bit-of-a-double", |m| {
        set(m, "x", Value::Double(f64::from_bits(1.5_f64.to_bits() ^ 1)));
    }),
    ("a-microsecond", |m| {
        let at = Timestamp::parse("2026-01-31T08:00:00.500001Z").unwrap();
        set(m, "t", Value::Timestamp(at));
    }),
    ("timestamp-to-text", |m| {
        set(m, "t", Value::String("2026-01-31T08:00:00.5Z".into()));
    }),
    ("negative-zero", |m| set(m, "zero", Value::Double(-0.0))),
    ("to-nan", |m| set(m, "x", Value::Double(f64::NAN))),
    ("from-nan", |m| set(m, "nan", Value::Null)),
    ("null-to-absent", |m| drop(m.shift_remove("none"))),
    ("absent-to-null", |m| set(m, "more", Value::Null)),
    ("column-to-null", |m| set(m, "s", Value::Null)),
    ("empty", |m| set(m, "s", Value::String(String::new()))),
    ("mojibake", |m| {
        if let Some(Value::Map(deep)) = m.get_mut("deep") {
            set(
                deep,
                "list",
                Value::Array(vec![Value::Int(1), Value::String("Ã©".into())]),
            );
        }
    }),
    ("a-blank", |m| set(m, "s", Value::String("a text ".into()))),
    ("letter-case-of-a-name", |m| {
        if let Some(value) = m.shift_remove("any") {
            m.insert("Any".into(), value);
        }
    }),
];

fn set(map: &mut Map, name: &str, value: Value) {
    map.insert(name.to_owned(), value);
}

/// What the store gives back under a key.
async fn held(store: &Arc<dyn Store>, key: &str) -> Option<Body> {
    let found = store
        .get(collection(store).await, &[Key::text(key)])
        .await
        .unwrap();
    found.into_iter().next().flatten().map(|d| d.body)
}

fn print(body: &Option<Body>) -> Option<Fingerprint> {
    body.as_ref().map(|b| b.fingerprint().unwrap())
}

/// Without the key, which a table with columns puts among the fields.
fn without_key(body: &Body) -> Map {
    let mut map = body.map().unwrap().into_owned();
    map.shift_remove("id");
    map
}

/// Plants everything that the target can hold; returns what must be found.
async fn plant(source: &Arc<dyn Store>, target: &Arc<dyn Store>) -> BTreeSet<String> {
    let mut planted = BTreeSet::new();
    for (name, change) in CHANGES {
        let before = held(target, name).await;
        let Some(body) = &before else { continue };
        let mut map = without_key(body);
        change(&mut map);
        if put(target, name, Some(Body::Map(map))).await
            && print(&held(target, name).await) != print(&before)
        {
            planted.insert(format!("differing {name}"));
        }
    }
    assert!(put(target, "missing", None).await);
    planted.insert("missing missing".to_owned());
    let body = Body::Map(without_key(&held(target, "twice").await.unwrap()));
    assert!(put(target, "twice-again", Some(body.clone())).await);
    planted.insert("extra twice-again".to_owned());
    // Behind the last key of the source, and before its first.
    for key in ["~~~", "!"] {
        assert!(put(target, key, Some(body.clone())).await);
        planted.insert(format!("extra {key}"));
    }
    // The same document under a key in other letters.
    let body = Body::Map(without_key(&held(target, "lower").await.unwrap()));
    assert!(put(target, "lower", None).await && put(target, "LOWER", Some(body)).await);
    planted.extend(["missing lower".to_owned(), "extra LOWER".to_owned()]);
    // Two rows that have each other's content.
    let one = without_key(&held(source, "swap-1").await.unwrap());
    let two = without_key(&held(source, "swap-2").await.unwrap());
    assert!(put(target, "swap-1", Some(Body::Map(two))).await);
    assert!(put(target, "swap-2", Some(Body::Map(one))).await);
    planted.extend(["differing swap-1".to_owned(), "differing swap-2".to_owned()]);
    planted
}

async fn fill(store: &Arc<dyn Store>) {
    let names = CHANGES.iter().map(|(name, _)| (*name).to_owned());
    let more = ["missing", "twice", "lower", "swap-1", "swap-2"].map(str::to_owned);
    let filling = (0..FILLING).map(|i| format!("doc-{i:03}"));
    for (i, key) in names.chain(more).chain(filling).enumerate() {
        let mut map = base(i);
        if !put(store, &key, Some(Body::Map(map.clone()))).await {
            // Some stores hold no NaN.
            map.shift_remove("nan");
            assert!(put(store, &key, Some(Body::Map(map))).await, "{key}");
        }
    }
}

async fn pair(engine: &Engine, one: &str, other: &str, dir: &Path) -> Option<usize> {
    let source = end(one, dir, "docs").await?;
    let target = end(other, dir, "copies").await?;
    let (source, target) = (&source.store, &target.store);
    fill(source).await;
    let mut copy = copy_job(source, target, plain(), None);
    // Runs of different pairs are different ones.
    copy.source.store_name = format!("{one}-{other}");
    let report = engine.copy(copy.clone()).await.unwrap();
    assert_eq!(report.counts.quarantined, 0, "{one} to {other}");
    let mut job = job(source, target);
    job.copy = copy;
    let equal = engine.compare(job.clone()).await.unwrap();
    assert!(equal.equal(), "{one} to {other}: {:?}", equal.differences);
    assert_eq!(equal.equal, report.counts.enumerated);
    assert_eq!(equal.target_documents, report.counts.enumerated);

    let planted = plant(source, target).await;
    let found = engine.compare(job).await.unwrap();
    agrees(&found);
    let told = told(&found.differences);
    assert_eq!(
        told,
        planted.iter().cloned().collect::<Vec<_>>(),
        "{one} to {other}"
    );
    Some(planted.len())
}

async fn all_with(source: &str) {
    for target in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let engine = engine(dir.path()).await;
        if let Some(planted) = pair(&engine, source, target, dir.path()).await {
            println!("{source} to {target}: {planted} planted and found");
            // Everything, where types are kept; columns hold no other types than their own.
            let least = if target.ends_with("columns") { 20 } else { 24 };
            assert!(planted >= least, "{source} to {target}: only {planted}");
        }
    }
}

macro_rules! each {
    ($($name:ident: $kind:literal;)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            all_with($kind).await;
        })+
    };
}

each! {
    from_memory: "memory";
    from_jsonl: "jsonl";
    from_sqlite: "sqlite-json";
    from_sqlite_columns: "sqlite-columns";
    from_postgres: "postgres-json";
    from_postgres_columns: "postgres-columns";
}

/// The keys of a collection with another order than theirs are compared all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_in_an_order_of_their_own() {
    let Some(stage) = Stage::new("exact_order") else {
        return;
    };
    stage
        .sql("CREATE TABLE copies (id text COLLATE \"en-x-icu\" PRIMARY KEY, data jsonb NOT NULL)");
    let target = stage.store(&["copies"]).await;
    assert!(!target.limits().key_order);
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path()).await;
    let source = store("memory:").await;
    source.ensure("docs", &KeyKind::Text).await.unwrap();
    fill(&source).await;
    let scratch = store("memory:").await;
    let copy = copy_job(&source, &target, plain(), Some(scratch));
    engine.copy(copy.clone()).await.unwrap();
    let job = whimbrel_engine::CompareJob::of(copy);
    let equal = engine.compare(job.clone()).await.unwrap();
    assert!(equal.equal(), "{:?}", equal.differences);
    let planted = plant(&source, &target).await;
    let found = engine.compare(job).await.unwrap();
    agrees(&found);
    assert_eq!(
        told(&found.differences),
        planted.into_iter().collect::<Vec<_>>()
    );
}

/// Two servers' tables in an order that only they know are compared side by side, by their digests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_order_on_both_ends() {
    let (Some(one), Some(other)) = (Stage::new("exact_order_a"), Stage::new("exact_order_b"))
    else {
        return;
    };
    let table = |name: &str| {
        format!(
            "CREATE TABLE {name} (id text COLLATE \"en-x-icu\" PRIMARY KEY, data jsonb NOT NULL)"
        )
    };
    one.sql(&table("docs"));
    other.sql(&table("copies"));
    let (source, target) = (one.store(&["docs"]).await, other.store(&["copies"]).await);
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path()).await;
    fill(&source).await;
    engine
        .copy(copy_job(&source, &target, plain(), None))
        .await
        .unwrap();
    let mut job = job(&source, &target);
    let equal = engine.compare(job.clone()).await.unwrap();
    assert!(equal.equal(), "{:?}", equal.differences);
    assert_eq!(equal.by_digest, equal.equal);
    let planted: Vec<String> = plant(&source, &target).await.into_iter().collect();
    for batch in [3, 500] {
        job.options.batch = Some(batch);
        let found = engine.compare(job.clone()).await.unwrap();
        agrees(&found);
        assert_eq!(told(&found.differences), planted);
    }
}
