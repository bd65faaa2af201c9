//! Poison: documents that break transforms, readers and targets wait in quarantine, each under its code;
//! all the others are done, and nothing of the bad ones is changed.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use common::{Stage, engine, options, place, sqlite};
use rusqlite::types::Value as Sql;
use whimbrel_engine::{CopyJob, Engine, Place, Threshold, UpgradeJob};
use whimbrel_model::ledger::Counts;
use whimbrel_model::rule::CopyRule;
use whimbrel_model::{Body, Code, Key, KeyRange, Map, Schema, Store, Value};
use whimbrel_transform::{ScriptLimits, load_schema};

const STRINGS: &str = "../../../shared/data/blns/blns.json";

const POISON: &str = r#"
interface Doc { title?: string; poison?: string }

export const description = "Fails in every way a document asks for";

export const up = (doc: Doc) => {
  switch (doc.poison) {
    case "throw": throw new Error("the document asked for it");
    case "loop": while (true) {}
    case "memory": {
      const all = [];
      for (let i = 0; i < 100; i++) all.push(new Array(1 << 17).fill(i));
      return { all: all.length };
    }
    case "none": return undefined;
    case "half": return { ...doc, text: "\ud83d" };
  }
  return { ...doc, title: doc.title?.trim() ?? "untitled", seen: true };
};

export const down = ({ seen, ...rest }: Doc & { seen?: boolean }) => rest;

export const validate = (doc: Doc) => doc.title !== "";
"#;

/// What the chain of versions makes of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Done,
    Newer,
    Fails(Code),
}
use Fate::{Done, Fails, Newer};

struct Case {
    key: String,
    row: Sql,
    upgraded: Fate,
    /// Whether PostgreSQL holds the document as it is; where not, what a plain copy says.
    copied: Option<Code>,
}

fn text(json: impl Into<String>) -> Sql {
    Sql::Text(json.into())
}

/// Documents that somebody once wrote, and the ways in which they are no documents.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |key: &str, row: Sql, upgraded: Fate, copied: Option<Code>| {
        cases.push(Case {
            // Apart from the hostile keys.
            key: format!("poison: {key}"),
            row,
            upgraded,
            copied,
        });
    };
    // Transforms that fail.
    for (how, code) in [
        ("throw", Code::DocTransform),
        ("loop", Code::DocTimeout),
        ("memory", Code::DocMemory),
        ("none", Code::DocResult),
        ("half", Code::DocLoneSurrogate),
    ] {
        let json = format!(r#"{{"title": "t", "poison": "{how}"}}"#);
        add(how, text(json), Fails(code), None);
    }
    add(
        "wrong type",
        text(r#"{"title": 5}"#),
        Fails(Code::DocTransform),
        None,
    );
    add(
        "invalid",
        text(r#"{"title": " "}"#),
        Fails(Code::DocInvalid),
        None,
    );
    for (i, version) in [r#""two""#, "0", "-1", "1.5", "null", "[2]", "99999999999"]
        .iter()
        .enumerate()
    {
        let json = format!(r#"{{"_schemaVersion": {version}}}"#);
        add(
            &format!("version {i}"),
            text(json),
            Fails(Code::DocVersionUnreadable),
            None,
        );
    }
    add(
        "newer",
        text(r#"{"_schemaVersion": 9, "x": 1}"#),
        Newer,
        None,
    );

    // Bytes that are no document.
    let refused = Some(Code::DocRefused);
    let deep = format!(r#"{{"a": {}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let objects = format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
    for (key, json, code) in [
        ("deep arrays", deep.as_str(), Code::DocTooDeep),
        ("deep objects", &objects, Code::DocTooDeep),
        ("deep and open", &"[".repeat(100_000), Code::DocTooDeep),
        ("surrogate", r#"{"s": "a\ud800b"}"#, Code::DocLoneSurrogate),
        (
            "surrogate low",
            r#"{"s": ["\udc00\ud800"]}"#,
            Code::DocLoneSurrogate,
        ),
        ("surrogate name", r#"{"\udfff": 1}"#, Code::DocLoneSurrogate),
        ("twice", r#"{"a": 1, "a": 2}"#, Code::DocDuplicateKey),
        (
            "twice inside",
            r#"{"x": [{"a": 1, "b": 0, "a": 2}]}"#,
            Code::DocDuplicateKey,
        ),
        (
            "twice escaped",
            r#"{"a": 1, "\u0061": 2}"#,
            Code::DocDuplicateKey,
        ),
        ("truncated", r#"{"a": [1, 2"#, Code::DocMalformed),
        ("cut in a string", r#"{"a": "x"#, Code::DocMalformed),
        ("trailing", r#"{"a": 1} {"b": 2}"#, Code::DocMalformed),
        ("comment", "{/* */}", Code::DocMalformed),
        ("NaN", r#"{"a": NaN}"#, Code::DocMalformed),
        ("raw newline", "{\"a\": \"x\ny\"}", Code::DocMalformed),
        ("empty", "", Code::DocMalformed),
        ("words", "hello", Code::DocMalformed),
        ("array", r#"[{"a": 1}]"#, Code::DocNotObject),
        ("null", "null", Code::DocNotObject),
        ("number", "5", Code::DocNotObject),
        ("string", r#""{}""#, Code::DocNotObject),
    ] {
        add(key, text(json), Fails(code), refused);
    }
    // A tagged value is no document, yet it is an object to PostgreSQL.
    let tagged = r#"{"$timestamp": "2026-01-31T08:00:00Z"}"#;
    add("tagged", text(tagged), Fails(Code::DocNotObject), None);
    let bytes = |b: &[u8]| Sql::Blob(b.to_vec());
    add(
        "not UTF-8",
        bytes(b"{\"a\": \"\xff\"}"),
        Fails(Code::DocMalformed),
        refused,
    );
    add(
        "overlong",
        bytes(b"{\"a\": \"\xc0\xaf\"}"),
        Fails(Code::DocMalformed),
        refused,
    );
    add(
        "a zip file",
        bytes(b"PK\x03\x04\0\0\0\0"),
        Fails(Code::DocMalformed),
        refused,
    );
    let unreadable = Some(Code::DocUnreadable);
    add(
        "SQL NULL",
        Sql::Null,
        Fails(Code::DocUnreadable),
        unreadable,
    );
    add(
        "SQL integer",
        Sql::Integer(5),
        Fails(Code::DocUnreadable),
        unreadable,
    );
    add(
        "SQL real",
        Sql::Real(0.5),
        Fails(Code::DocUnreadable),
        unreadable,
    );

    // Documents that must arrive as they are.
    for (key, json) in [
        (
            "2^53+1",
            r#"{"n": 9007199254740993, "in": [{"n": -9007199254740993}]}"#,
        ),
        (
            "20 digits",
            r#"{"n": 12345678901234567890, "d": 0.1234567890123456789}"#,
        ),
        (
            "extremes",
            r#"{"n": [9223372036854775807, -9223372036854775808, 1e308, 5e-324]}"#,
        ),
        (
            "tags",
            r#"{"at": {"$timestamp": "2026-01-31T08:00:00.123456Z"}, "b": {"$bytes": "AAEC"}, "$set": 1}"#,
        ),
        (
            "doubles",
            r#"{"n": [1.0, 1.5, {"$double": "NaN"}, {"$double": "-0"}]}"#,
        ),
        (
            "prototype",
            r#"{"__proto__": {"x": 1}, "constructor": 2, "toString": null, "length": 3}"#,
        ),
        (
            "order",
            r#"{"2": "b", "10": "c", "1": "a", "z": 0, "a": 1}"#,
        ),
        ("pair", r#"{"s": "\ud83d\ude00 é"}"#),
        ("spaced", " { \"a\" :\t[ ] ,\n\"b\" : { } } "),
    ] {
        add(key, text(json), Done, None);
    }
    add("NUL", text(r#"{"s": "a\u0000b"}"#), Done, refused);
    add("NUL name", text(r#"{"a\u0000": 1}"#), Done, refused);
    let nested = format!(r#"{{"a": {}1{}}}"#, "[".repeat(400), "]".repeat(400));
    add("deep enough", text(nested), Done, None);
    cases
}

/// Hostile strings as keys, as names of fields and as values.
fn hostile() -> Vec<Case> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(STRINGS);
    let Ok(json) = std::fs::read_to_string(&file) else {
        println!("SKIPPED hostile strings: {} is not there", file.display());
        return Vec::new();
    };
    let mut strings: Vec<String> = serde_json::from_str(&json).unwrap();
    strings.sort();
    strings.dedup();
    assert!(strings.len() > 450, "{}", strings.len());
    let case = |s: String| {
        let map = Map::from_iter([
            (s.clone(), Value::Int(1)),
            ("value".to_owned(), Value::String(s.clone())),
            (
                "list".to_owned(),
                Value::Array(vec![Value::String(s.clone())]),
            ),
        ]);
        let json = Body::Map(map).into_json().to_vec();
        Case {
            key: s,
            row: text(String::from_utf8(json).unwrap()),
            upgraded: Done,
            copied: None,
        }
    };
    strings.into_iter().map(case).collect()
}

/// A database as an app may have left it: nothing ever checked what was put in.
fn prepare(dir: &Path, cases: &[Case]) {
    let db = rusqlite::Connection::open(dir.join("app.db")).unwrap();
    db.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE docs (id TEXT PRIMARY KEY, data)")
        .unwrap();
    db.execute_batch("BEGIN").unwrap();
    let mut insert = db.prepare("INSERT INTO docs VALUES (?1, ?2)").unwrap();
    for case in cases {
        insert.execute((&case.key, &case.row)).unwrap();
    }
    // Rows that nobody can even name.
    insert.execute((Sql::Null, text("{}"))).unwrap();
    insert.execute((Sql::Blob(vec![0xff]), text("{}"))).unwrap();
    db.execute_batch("COMMIT").unwrap();
}

const NAMELESS: u64 = 2;

/// Every row by the bytes of its key.
fn rows(dir: &Path) -> BTreeMap<Option<Vec<u8>>, Sql> {
    let db = rusqlite::Connection::open(dir.join("app.db")).unwrap();
    let mut select = db
        .prepare("SELECT CAST(id AS BLOB), data FROM docs")
        .unwrap();
    let rows = select.query_map([], |r| {
        let data = match r.get_ref(1)? {
            // Not every text is UTF-8.
            rusqlite::types::ValueRef::Text(bytes) => Sql::Blob(bytes.to_vec()),
            other => Sql::try_from(other).unwrap(),
        };
        Ok((r.get(0)?, data))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

fn schema(dir: &Path) -> Schema {
    let folder = dir.join("schema");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(
        folder.join("0001_initial.toml"),
        "description = \"As it was\"\n",
    )
    .unwrap();
    std::fs::write(folder.join("0002_poison.ts"), POISON).unwrap();
    let limits = ScriptLimits {
        memory_bytes: 32 << 20,
        time_ms: 300,
        ..ScriptLimits::default()
    };
    load_schema(&folder, "docs", "_schemaVersion", limits).unwrap()
}

fn value_of(json: &[u8]) -> Value {
    whimbrel_model::json::parse(json).unwrap()
}

fn bytes_of(row: &Sql) -> &[u8] {
    match row {
        Sql::Text(text) => text.as_bytes(),
        Sql::Blob(bytes) => bytes,
        other => panic!("{other:?} has no bytes"),
    }
}

/// The document as version 2 has it.
fn at_2(case: &Case) -> Value {
    let Value::Map(mut map) = value_of(bytes_of(&case.row)) else {
        panic!("{:?} is no document", case.key)
    };
    map.insert("title".into(), Value::String("untitled".into()));
    map.insert("seen".into(), Value::Bool(true));
    map.insert("_schemaVersion".into(), Value::Int(2));
    Value::Map(map)
}

/// The waiting documents of a subject are exactly the expected ones, each under its code, and no message
/// holds a value.
async fn check_waiting(engine: &Engine, subject: &str, expected: BTreeMap<String, Code>) {
    let items = engine
        .quarantined(Some(subject), None, 10_000)
        .await
        .unwrap();
    let (named, nameless): (Vec<_>, Vec<_>) = items.into_iter().partition(|(_, i)| i.key.is_some());
    assert_eq!(nameless.len() as u64, NAMELESS, "{subject}: {nameless:?}");
    assert!(
        nameless
            .iter()
            .all(|(_, i)| i.error.code == Code::DocUnreadable)
    );
    let found: BTreeMap<String, Code> = named
        .iter()
        .map(|(_, i)| (i.label.clone(), i.error.code))
        .collect();
    let wrong: Vec<_> = named
        .iter()
        .filter(|(_, i)| expected.get(&i.label) != Some(&i.error.code))
        .map(|(_, i)| (&i.label, &i.error))
        .collect();
    assert!(wrong.is_empty(), "{subject}: {wrong:#?}");
    assert_eq!(found, expected, "{subject}");
    for (_, item) in &named {
        assert!(
            !item.error.message.contains("asked for it"),
            "{:?}",
            item.error
        );
    }
}

fn check_counts(counts: Counts, cases: &[Case], bad: usize, newer: usize) {
    assert!(counts.balanced(), "{counts:?}");
    let all = cases.len() as u64 + NAMELESS;
    let bad = bad as u64 + NAMELESS;
    assert_eq!(
        (
            counts.enumerated,
            counts.quarantined,
            counts.newer,
            counts.written
        ),
        (all, bad, newer as u64, all - bad - newer as u64),
        "{counts:?}"
    );
}

fn patient() -> whimbrel_engine::JobOptions {
    whimbrel_engine::JobOptions {
        batch: Some(50),
        max_failed: Threshold::Share(1.0),
        ..options()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_does_all_but_the_poison() {
    let dir = tempfile::tempdir().unwrap();
    let cases: Vec<Case> = cases().into_iter().chain(hostile()).collect();
    prepare(dir.path(), &cases);
    let before = rows(dir.path());
    let app = sqlite(dir.path(), "app.db").await;
    let engine = engine(dir.path()).await;
    let to = |to| UpgradeJob {
        place: place(&app, "app", "docs"),
        schema: schema(dir.path()),
        to,
        key: None,
        options: patient(),
    };
    let report = engine.upgrade(to(2)).await.unwrap();
    let failing: BTreeMap<String, Code> = cases
        .iter()
        .filter_map(|c| match c.upgraded {
            Fails(code) => Some((c.key.clone(), code)),
            Done | Newer => None,
        })
        .collect();
    check_counts(report.counts, &cases, failing.len(), 1);
    check_waiting(&engine, "upgrade app/docs", failing.clone()).await;

    let after = rows(dir.path());
    assert_eq!(after.len(), before.len());
    for case in &cases {
        let key = Some(case.key.clone().into_bytes());
        if case.upgraded == Done {
            assert_eq!(
                value_of(bytes_of(&after[&key])),
                at_2(case),
                "{:?}",
                case.key
            );
        } else {
            assert_eq!(after[&key], before[&key], "{:?}", case.key);
        }
    }

    // Another try fails in the same ways; the way down gives back every byte.
    let retried = engine.retry_upgrade(to(2), None).await.unwrap();
    assert_eq!(retried.report.counts.quarantined, failing.len() as u64);
    assert_eq!((retried.gone, retried.without_key), (0, NAMELESS));
    engine.upgrade(to(1)).await.unwrap();
    let back = rows(dir.path());
    for (key, row) in &before {
        assert_eq!(back.get(key), Some(row), "{key:?}");
    }
}

fn rule(name: &str, read_as: Option<u32>) -> CopyRule {
    CopyRule {
        read_as,
        ..CopyRule::plain(name)
    }
}

async fn copied(store: &Arc<dyn Store>, collection: &str) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    let mut range = KeyRange::all();
    loop {
        let page = store.scan(collection, &range, 500, 1 << 20).await.unwrap();
        assert!(page.rejects.is_empty(), "{:?}", page.rejects);
        let Some(last) = page.last else { return all };
        range.after = Some(last);
        for doc in page.documents {
            let Key::Text(key) = &doc.key else {
                panic!("{:?}", doc.key)
            };
            all.insert(key.to_string(), value_of(&doc.body.json()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_to_postgres_does_all_but_the_poison() {
    let Some(stage) = Stage::new("poison") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let cases: Vec<Case> = cases().into_iter().chain(hostile()).collect();
    prepare(dir.path(), &cases);
    let before = rows(dir.path());
    let app = sqlite(dir.path(), "app.db").await;
    let server = stage.store(&["plain", "newest"]).await;
    let engine = engine(dir.path()).await;
    let source: Place = place(&app, "app", "docs");
    let job = |into: &str, rule: CopyRule| CopyJob {
        source: source.clone(),
        target: place(&server, "pg", into),
        schema: rule.read_as.map(|_| schema(dir.path())),
        rule,
        scratch: None,
        options: patient(),
    };

    // As they are: whatever PostgreSQL cannot hold is refused, and nothing else.
    let report = engine
        .copy(job("plain", rule("plain", None)))
        .await
        .unwrap();
    let failing: BTreeMap<String, Code> = cases
        .iter()
        .filter_map(|c| Some((c.key.clone(), c.copied?)))
        .collect();
    check_counts(report.counts, &cases, failing.len(), 0);
    check_waiting(&engine, "copy app/docs to pg/plain by plain", failing).await;
    let plain = copied(&server, "plain").await;
    for case in &cases {
        let wanted = case.copied.is_none().then(|| value_of(bytes_of(&case.row)));
        assert_eq!(plain.get(&case.key), wanted.as_ref(), "{:?}", case.key);
    }

    // Read as the newest version on the way: a document fails in the chain, or in the target.
    let report = engine
        .copy(job("newest", rule("newest", Some(2))))
        .await
        .unwrap();
    let fate = |c: &Case| match c.upgraded {
        Fails(code) => Some(code),
        Newer => Some(Code::DocNewer),
        Done => c.copied,
    };
    let failing: BTreeMap<String, Code> = cases
        .iter()
        .filter_map(|c| Some((c.key.clone(), fate(c)?)))
        .collect();
    check_counts(report.counts, &cases, failing.len(), 0);
    check_waiting(&engine, "copy app/docs to pg/newest by newest", failing).await;
    let newest = copied(&server, "newest").await;
    for case in &cases {
        let wanted = fate(case).is_none().then(|| at_2(case));
        assert_eq!(newest.get(&case.key), wanted.as_ref(), "{:?}", case.key);
    }
    assert_eq!(rows(dir.path()), before);
}
