//! Firestore's driver: against the emulator that `WHIMBREL_TEST_FIRESTORE` names, and against a server that
//! misbehaves on purpose.
#![cfg(feature = "firestore")]

mod fake;
mod nested;
mod refusals;
mod trouble;

use std::sync::Arc;
use whimbrel_model::{Body, Guard, Key, KeyKind, KeyRange, Store, Write, WriteOutcome};
use whimbrel_stores::{OpenOptions, open};
use whimbrel_testkit::servers::firestore;

/// A database of the test's own; `None` where there is no emulator.
async fn emulator(parameters: &str) -> Option<Arc<dyn Store>> {
    let url = format!("{}{parameters}", firestore()?);
    Some(open(&url, &OpenOptions::default()).await.unwrap())
}

fn put(collection: &str, key: &str, json: &str, guard: Guard) -> Write {
    Write {
        collection: collection.to_owned(),
        key: Key::text(key),
        to: Some(Body::from_json(json.as_bytes().to_vec())),
        guard,
    }
}

/// Writes `{}` under each key.
async fn fill(store: &Arc<dyn Store>, collection: &str, keys: &[&str]) {
    store.ensure(collection, &KeyKind::Text).await.unwrap();
    let writes: Vec<Write> = keys
        .iter()
        .map(|key| put(collection, key, "{}", Guard::Absent))
        .collect();
    for part in writes.chunks(500) {
        let outcomes = store.write(part).await.unwrap();
        assert_eq!(outcomes, vec![WriteOutcome::Applied; part.len()]);
    }
}

async fn keys(
    store: &Arc<dyn Store>,
    collection: &str,
    range: &KeyRange,
    limit: u32,
) -> Vec<String> {
    let mut all = Vec::new();
    let mut range = range.clone();
    loop {
        let page = store
            .scan(collection, &range, limit, 1 << 20)
            .await
            .unwrap();
        assert!(page.documents.len() <= limit as usize);
        let Some(last) = page.last else { return all };
        all.extend(page.documents.iter().map(|d| d.key.to_string()));
        range.after = Some(last);
    }
}
