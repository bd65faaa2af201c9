//! Comparing two collections: everything that is wrong is found and nothing else, whoever writes meanwhile;
//! and what is found can be repaired.

#[path = "../common/mod.rs"]
mod common;
mod exact;
mod live;
mod looking;
mod many;
mod repair;
mod silence;

use std::sync::Arc;

use common::{options, place};
use whimbrel_engine::{CompareJob, CopyJob, NativeTransform};
use whimbrel_model::finding::{Comparison, Difference, Mismatch};
use whimbrel_model::rule::CopyRule;
use whimbrel_model::{
    Body, Code, DocError, Emit, Guard, Key, Map, Store, TransformInput, Value, Write, WriteOutcome,
};

pub fn plain() -> CopyRule {
    CopyRule::plain("copy")
}

/// Every element of `messages` becomes a document of its own.
pub fn split() -> CopyRule {
    let transform = NativeTransform::new("split", |input, _| {
        let TransformInput::One { key, mut doc } = input else {
            unreachable!()
        };
        let Some(Value::Array(messages)) = doc.take("messages").map_err(DocError::from)? else {
            return Err(DocError::new(Code::DocType, "messages is no array").at("messages"));
        };
        let emit = |(i, text): (usize, Value)| Emit {
            collection: None,
            key: Some(Key::text(format!("{key}:{i}"))),
            body: Body::Map(Map::from_iter([("text".to_owned(), text)])),
        };
        Ok(messages.into_iter().enumerate().map(emit).collect())
    });
    CopyRule {
        name: "split".into(),
        transform: Some(Arc::new(transform)),
        checksum: "split".into(),
        ..plain()
    }
}

pub fn copy_job(
    source: &Arc<dyn Store>,
    target: &Arc<dyn Store>,
    rule: CopyRule,
    scratch: Option<Arc<dyn Store>>,
) -> CopyJob {
    CopyJob {
        source: place(source, "one", "docs"),
        target: place(target, "other", "copies"),
        rule,
        schema: None,
        scratch,
        options: options(),
    }
}

pub fn job(source: &Arc<dyn Store>, target: &Arc<dyn Store>) -> CompareJob {
    CompareJob::of(copy_job(source, target, plain(), None))
}

/// The target's collection has another name: two stores in memory are called the same.
pub async fn collection(store: &Arc<dyn Store>) -> &'static str {
    match store.describe("copies").await.unwrap() {
        Some(_) => "copies",
        None => "docs",
    }
}

/// Puts a document, or takes it away. Says whether the store took it.
pub async fn put(store: &Arc<dyn Store>, key: &str, to: Option<Body>) -> bool {
    let write = Write {
        collection: collection(store).await.to_owned(),
        key: Key::text(key),
        to,
        guard: Guard::Any,
    };
    let outcomes = store.write(&[write]).await.unwrap();
    matches!(outcomes[0], WriteOutcome::Applied)
}

pub fn json(text: &str) -> Option<Body> {
    Some(Body::from_json(text.as_bytes().to_vec()))
}

/// `missing k1`, in order.
pub fn told(differences: &[Difference]) -> Vec<String> {
    let word = |what| match what {
        Mismatch::Missing => "missing",
        Mismatch::Extra => "extra",
        Mismatch::Differing => "differing",
        Mismatch::Unreadable => "unreadable",
    };
    let mut told: Vec<String> = differences
        .iter()
        .map(|d| format!("{} {}", word(d.what), d.key))
        .collect();
    told.sort();
    told
}

/// The counts say what the list says.
pub fn agrees(found: &Comparison) {
    let count = |what| found.differences.iter().filter(|d| d.what == what).count() as u64;
    assert_eq!(found.missing, count(Mismatch::Missing), "{found:?}");
    assert_eq!(found.extra, count(Mismatch::Extra), "{found:?}");
    assert_eq!(found.differing, count(Mismatch::Differing), "{found:?}");
    assert_eq!(found.unreadable, count(Mismatch::Unreadable), "{found:?}");
}
