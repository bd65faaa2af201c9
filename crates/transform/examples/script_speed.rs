//! How many documents a second one thread brings up with a TypeScript version, bytes in, bytes out, beside
//! the same work by hand with `serde_json` (parse, edit, print).

use std::time::{Duration, Instant};
use whimbrel_model::{Body, DocContext, Draft, Key, Timestamp, Value, VersionCode};
use whimbrel_transform::script::{ScriptLimits, ScriptVersion};

const SCRIPTS: &[(&str, &str)] = &[
    (
        "add metadata",
        "export const up = (doc) => ({ ...doc, metadata: { totalTokens: 0, lastActivityAt: doc.updatedAt ?? new Date() } });",
    ),
    (
        "map messages",
        "export const up = (doc) => ({ ...doc, messages: doc.messages.map((m) => ({ ...m, tokens: m.content.length >> 2 })) });",
    ),
    ("pass through", "export const up = (doc) => doc;"),
];

fn main() {
    let documents = documents(2000);
    let bytes: usize = documents.iter().map(Vec::len).sum();
    println!(
        "{} documents of {} bytes on average",
        documents.len(),
        bytes / documents.len()
    );
    let now = Timestamp::from_millis(1_769_846_400_000);
    let by_hand = rate(&documents, |document| {
        let mut value: serde_json::Value = serde_json::from_slice(document).unwrap_or_default();
        value["metadata"] =
            serde_json::json!({ "totalTokens": 0, "lastActivityAt": value["updatedAt"] });
        value["_schemaVersion"] = 2.into();
        serde_json::to_vec(&value).map_or(0, |out| out.len())
    });
    println!("{:>14}  {by_hand:>9.0} documents/s", "serde_json");
    for (name, text) in SCRIPTS {
        let version = match ScriptVersion::load("speed.ts", text, ScriptLimits::default()) {
            Ok(version) => version,
            Err(error) => return eprintln!("{error}"),
        };
        let key = Key::text("conversation");
        let cx = DocContext::new(&key, now);
        let scripted = rate(&documents, |document| {
            let Ok(mut doc) = Draft::from_json(document.clone().into()) else {
                return 0;
            };
            if let Err(error) = version.up(&mut doc, &cx) {
                eprintln!("{error}");
                return 0;
            }
            doc.set("_schemaVersion", Value::Int(2));
            match doc.into_body() {
                Body::Json(out) => out.len(),
                Body::Map(_) => 0,
            }
        });
        println!(
            "{name:>14}  {scripted:>9.0} documents/s  {:.2} of serde_json",
            scripted / by_hand
        );
    }
}

/// Documents a second, best of five rounds of half a second.
fn rate(documents: &[Vec<u8>], mut work: impl FnMut(&Vec<u8>) -> usize) -> f64 {
    let mut best = 0.0_f64;
    for _ in 0..5 {
        let begun = Instant::now();
        let mut done = 0_u32;
        let mut written = 0;
        while begun.elapsed() < Duration::from_millis(500) {
            for document in documents {
                written += work(document);
            }
            done += u32::try_from(documents.len()).unwrap_or(0);
        }
        assert!(written > 0);
        best = best.max(f64::from(done) / begun.elapsed().as_secs_f64());
    }
    best
}

/// Chat conversations: 12 fields, 4 messages, about 1.1 KB.
fn documents(count: u32) -> Vec<Vec<u8>> {
    (0..count)
        .map(|i| {
            let message = |role: &str, n: u32| {
                format!(
                    r#"{{"id":"msg_{i}_{n}","role":"{role}","content":"Could you look up the weather in Lisbon for the {n}. day and tell me what to wear?","createdAt":"2026-01-{:02}T08:{:02}:00.000Z","tokens":{}}}"#,
                    1 + i % 28,
                    n * 7 % 60,
                    20 + n
                )
            };
            format!(
                r#"{{"id":"conv_{i}","userId":"user_{}","title":"Weather in Lisbon, part {i}","model":"gpt-5","status":"active","createdAt":"2026-01-01T08:00:00.000Z","updatedAt":"2026-01-02T08:00:00.000Z","archived":false,"temperature":0.7,"tags":["travel","weather"],"settings":{{"locale":"en","theme":"dark"}},"messages":[{},{},{},{}]}}"#,
                i % 97,
                message("user", 1),
                message("assistant", 2),
                message("user", 3),
                message("assistant", 4)
            )
            .into_bytes()
        })
        .collect()
}
