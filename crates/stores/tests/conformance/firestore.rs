//! Firestore as a subject: a database of its own in the emulator that `WHIMBREL_TEST_FIRESTORE` names (`host:port`).

use super::subject::{Subject, no_fields, open};
use whimbrel_model::KeyKind;
use whimbrel_stores::OpenOptions;
use whimbrel_testkit::servers::firestore;

pub async fn emulator() -> Option<Subject> {
    let mut subject = open(firestore()?, OpenOptions::default(), no_fields, None).await;
    subject.unsupported = |kind| *kind != KeyKind::Text;
    subject.unkeyable = |key| {
        let reserved = key.starts_with("__") && key.ends_with("__");
        key.contains('/') || key.len() > 1500 || matches!(key, "" | "." | "..") || reserved
    };
    subject.unnameable = |name| {
        let reserved = name.starts_with("__") && name.ends_with("__");
        name.is_empty() || name.len() > 1400 || reserved
    };
    subject.unheld = &[
        // More digits than a double has; finer than a microsecond.
        "decimal",
        "numbers",
        "long ago",
        "nanoseconds",
        // No document's path; an array in an array; a field without a name.
        "reference",
        "array",
        "map",
    ];
    Some(subject)
}
