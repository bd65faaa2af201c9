//! Documents per second of TOML operations, bytes to bytes, on one thread; serde_json by hand beside them.
//!
//! `cargo run --release -p whimbrel-transform --example transform_speed`

use bytes::Bytes;
use std::time::Instant;
use whimbrel_model::{DocContext, Draft, Key, Schema, Timestamp};
use whimbrel_transform::{ScriptLimits, load_schema};

const VERSIONS: [(&str, &str); 3] = [
    ("0001_initial.toml", ""),
    (
        "0002_metadata.toml",
        r#"
        [[up]]
        op = "add"
        path = "metadata"
        value = { totalTokens = 0, toolCallCount = 0, tags = [] }
        [[up]]
        op = "rename"
        from = "title"
        to = "name"
        "#,
    ),
    (
        "0003_state.toml",
        r#"
        [[up]]
        op = "remove"
        path = "legacyFlags"
        [[up]]
        op = "set"
        path = "status"
        value = "active"
        "#,
    ),
];

fn documents(count: usize) -> Vec<Bytes> {
    let message = |i: usize, n: usize| {
        format!(
            r#"{{"id":"m{i}-{n}","role":"{}","content":"Could you please move my flight {i} to next {n}? I would rather sit at the window, and it's \"urgent\".","createdAt":"2026-01-{:02}T08:00:00.000Z","tokens":{}}}"#,
            if n.is_multiple_of(2) {
                "user"
            } else {
                "assistant"
            },
            n + 1,
            17 * n
        )
    };
    (0..count)
        .map(|i| {
            let messages: Vec<_> = (0..4).map(|n| message(i, n)).collect();
            format!(
                r#"{{"id":"conversation-{i:08}","userId":"user-{:05}","title":"Flight change {i}","status":"open","legacyFlags":{{"beta":true,"bucket":{}}},"model":"gpt-4o","createdAt":"2026-01-01T00:00:00.000Z","updatedAt":"2026-01-31T00:00:00.000Z","messages":[{}]}}"#,
                i % 1000,
                i % 16,
                messages.join(",")
            )
            .into()
        })
        .collect()
}

fn upgrade(schema: &Schema, doc: &Bytes, now: Timestamp) -> Bytes {
    let key = Key::text("k");
    let cx = DocContext::new(&key, now);
    let draft = Draft::from_json(doc.clone()).expect("the example's own document");
    let migrated = schema
        .migrate(draft, 3, &|_| None, &cx)
        .expect("the example's own schema");
    migrated.doc.into_body().into_json()
}

fn by_hand(doc: &Bytes) -> Bytes {
    let mut value: serde_json::Value =
        serde_json::from_slice(doc).expect("the example's own document");
    let map = value.as_object_mut().expect("an object");
    map.insert(
        "metadata".to_owned(),
        serde_json::json!({ "totalTokens": 0, "toolCallCount": 0, "tags": [] }),
    );
    if let Some(title) = map.shift_remove("title") {
        map.insert("name".to_owned(), title);
    }
    map.shift_remove("legacyFlags");
    map.insert("status".to_owned(), "active".into());
    map.insert("_schemaVersion".to_owned(), 3.into());
    serde_json::to_vec(&value).expect("a value").into()
}

/// Documents per second of one round over all documents.
fn round(docs: &[Bytes], work: impl Fn(&Bytes) -> Bytes) -> f64 {
    let start = Instant::now();
    let mut bytes = 0;
    for doc in docs {
        bytes += std::hint::black_box(work(doc)).len();
    }
    assert!(bytes > 0);
    docs.len() as f64 / start.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn main() {
    let dir = std::env::temp_dir().join(format!("whimbrel-transform-speed-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a temporary folder");
    for (name, text) in VERSIONS {
        std::fs::write(dir.join(name), text).expect("a temporary file");
    }
    let schema = load_schema(
        &dir,
        "conversations",
        "_schemaVersion",
        ScriptLimits::default(),
    )
    .expect("the example's own schema");
    std::fs::remove_dir_all(&dir).expect("the temporary folder");

    let docs = documents(20_000);
    let size: usize = docs.iter().map(Bytes::len).sum();
    let now = Timestamp::from_millis(1_769_846_400_000);
    let same = |bytes: &Bytes| serde_json::from_slice::<serde_json::Value>(bytes).ok();
    for doc in &docs[..100] {
        assert_eq!(same(&upgrade(&schema, doc, now)), same(&by_hand(doc)));
    }
    // Alternately, so that a busy machine slows both down alike.
    let rounds = (0..15).map(|_| {
        let operations = round(&docs, |doc| upgrade(&schema, doc, now));
        (operations, round(&docs, by_hand))
    });
    let (operations, hand): (Vec<_>, Vec<_>) = rounds.unzip();
    let ratios = operations.iter().zip(&hand).map(|(a, b)| a / b).collect();
    let best = operations.iter().copied().fold(0.0, f64::max);
    let (operations, hand, ratio) = (median(operations), median(hand), median(ratios));
    println!("documents of {} bytes", size / docs.len());
    println!("TOML operations   {operations:>9.0} documents/s (best round {best:.0})");
    println!("serde_json        {hand:>9.0} documents/s by hand");
    println!("ratio             {ratio:>9.2}");
}
