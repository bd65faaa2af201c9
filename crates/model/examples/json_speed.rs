//! How fast the JSON core is on chat conversations of about 1.1 KB, beside `serde_json` on the same
//! bytes. One thread; the best of several rounds.
//!
//! `cargo run --release -p whimbrel-model --example json_speed [-- ONLY]`

use bytes::Bytes;
use std::hint::black_box;
use std::time::{Duration, Instant};
use whimbrel_model::{Body, Draft, Map, Value, json, order};

/// So few that they stay in the cache, as a batch does that has just been read.
const DOCUMENTS: usize = 200;
const ROUNDS: usize = 300;

fn main() {
    let documents: Vec<Bytes> = (0..DOCUMENTS).map(conversation).collect();
    let bytes: usize = documents.iter().map(Bytes::len).sum();
    println!(
        "{DOCUMENTS} documents of {} bytes on average",
        bytes / DOCUMENTS
    );
    let only = std::env::args().nth(1).unwrap_or_default();
    let report = |name: &str, work: &dyn Fn(&Bytes)| {
        if !name.contains(&only) {
            return;
        }
        let best = (0..ROUNDS).map(|_| time(&documents, work)).min();
        let seconds = best.unwrap_or_default().as_secs_f64();
        println!(
            "{name:<34} {:>7.0} MB/s {:>9.0} documents/s",
            bytes as f64 / seconds / 1e6,
            DOCUMENTS as f64 / seconds
        );
    };
    report("scan", &|d| {
        black_box(json::scan(d).unwrap());
    });
    report("split", &|d| {
        black_box(json::split(d).unwrap());
    });
    report("fingerprint", &|d| {
        black_box(json::fingerprint(d).unwrap());
    });
    report("parse", &|d| {
        black_box(json::parse(d).unwrap());
    });
    let maps: Vec<Map> = documents.iter().map(map).collect();
    let values = |name: &str, work: &dyn Fn(&Map)| {
        if !name.contains(&only) {
            return;
        }
        let round = || {
            let start = Instant::now();
            maps.iter().for_each(work);
            start.elapsed()
        };
        let best = (0..ROUNDS).map(|_| round()).min().unwrap_or_default();
        println!(
            "{name:<34} {:>7.0} MB/s",
            bytes as f64 / best.as_secs_f64() / 1e6
        );
    };
    values("write", &|m| {
        let mut out = Vec::with_capacity(1200);
        json::write_map(m, &mut out);
        black_box(out);
    });
    values("fingerprint_map", &|m| {
        black_box(json::fingerprint_map(m));
    });
    values("order::encode", &|m| {
        let mut out = Vec::with_capacity(1200);
        m.values().for_each(|v| order::encode(v, &mut out));
        black_box(out);
    });
    report("draft: rename and set", &|d| {
        let mut draft = Draft::from_json(d.clone()).unwrap();
        draft.rename("title", "name");
        draft.set("archived", Value::Bool(false));
        black_box(draft.into_body());
    });
    report("serde_json, skipping", &|d| {
        black_box(serde_json::from_slice::<serde::de::IgnoredAny>(d).unwrap());
    });
    report("serde_json, Value", &|d| {
        black_box(serde_json::from_slice::<serde_json::Value>(d).unwrap());
    });
    report("serde_json, rename and set", &|d| {
        let mut value: serde_json::Map<_, _> = serde_json::from_slice(d).unwrap();
        if let Some(title) = value.remove("title") {
            value.insert("name".to_owned(), title);
        }
        value.insert("archived".to_owned(), serde_json::Value::Bool(false));
        black_box(serde_json::to_vec(&value).unwrap());
    });
}

fn time(documents: &[Bytes], work: &dyn Fn(&Bytes)) -> Duration {
    let start = Instant::now();
    documents.iter().for_each(work);
    start.elapsed()
}

fn map(document: &Bytes) -> Map {
    match Body::Json(document.clone()).map() {
        Ok(map) => map.into_owned(),
        Err(error) => panic!("{error}"),
    }
}

/// A conversation as a chat app keeps it: twelve members, messages with a role, a text and a time.
fn conversation(n: usize) -> Bytes {
    const TEXTS: [&str; 4] = [
        "Could you find me a flight to Lisbon that leaves after ten?",
        "I found three flights; the cheapest one leaves at 11:40.\\nShall I book it?",
        "Yes please, with one checked bag and an aisle seat.",
        "Done: the booking is confirmed, and the receipt is on its way to you – safe travels!",
    ];
    let messages: Vec<String> = (0..6)
        .map(|i| {
            let text = TEXTS[(n + i) % TEXTS.len()];
            let role = ["user", "assistant"][i % 2];
            format!(
                r#"{{"id":"m{n}-{i}","role":"{role}","content":"{text}","createdAt":{}}}"#,
                1_769_846_400_000u64 + (n * 1000 + i) as u64
            )
        })
        .collect();
    format!(
        r#"{{"id":"c{n}","userId":"u{}","title":"Flight to Lisbon, number {n}","model":"large-2","temperature":0.7,"pinned":{},"createdAt":"2026-01-31T08:00:00.000Z","updatedAt":"2026-01-31T08:05:12.250Z","tokenCount":{},"tags":["travel","booking"],"messages":[{}],"_schemaVersion":1}}"#,
        n % 97,
        n.is_multiple_of(7),
        n * 13 % 4000,
        messages.join(",")
    )
    .into()
}
