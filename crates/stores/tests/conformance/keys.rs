use super::subject::{Subject, same_keys};
use std::collections::BTreeSet;
use uuid::Uuid;
use whimbrel_model::{Guard, Key, KeyKind, KeyRange, WriteOutcome};

/// The big list of naughty strings, where it is there, and some of our own.
pub fn naughty() -> BTreeSet<String> {
    let mut strings: BTreeSet<String> = [
        "'; DROP TABLE documents; --",
        "\"quoted\" \\ 'twice'",
        "%_\\%",
        "a/b/../c",
        "line\nline\r\n\tend",
        "\u{feff}bom",
        "e\u{301}",
        "\u{e9}",
        "\u{10ffff}",
        " leading and trailing ",
        "NULL",
        "-0",
        "1e309",
    ]
    .map(str::to_owned)
    .into();
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/data/blns/blns.json"
    );
    match std::fs::read(path) {
        Ok(bytes) => strings.extend(serde_json::from_slice::<Vec<String>>(&bytes).unwrap()),
        Err(error) => println!("SKIPPED: the list of naughty strings is not there ({error})"),
    }
    // PostgreSQL keeps no NUL in texts; that is a case of its own.
    strings.retain(|s| !s.contains('\0'));
    strings
}

async fn check(subject: &Subject, kind: &KeyKind, keys: &[Key]) {
    let Some(collection) = subject.collection(kind).await else {
        return;
    };
    let keys = &subject.keyable(collection, keys.to_vec()).await;
    subject.fill(collection, keys).await;
    let found = subject.keys(collection, &KeyRange::all(), 50).await;
    assert_eq!(found.len(), keys.len());
    let texts: Vec<Key> = keys.iter().map(|k| Key::text(k.to_string())).collect();
    let as_text = subject.uuid_as_text && *kind == KeyKind::Uuid;
    assert!(same_keys(&found, if as_text { &texts } else { keys }));
    if subject.store.limits().key_order {
        assert!(found.is_sorted(), "{found:?}");
    }
    for (n, key) in (0_i64..).zip(keys) {
        assert_eq!(
            subject.number(collection, key.clone()).await,
            Some(n),
            "{key}"
        );
        let guard = Guard::Unchanged(subject.revision(collection, key.clone()).await);
        let write = subject.put(collection, key.clone(), n + 1, guard);
        assert_eq!(subject.one(write).await, WriteOutcome::Applied, "{key}");
        assert_eq!(
            subject.number(collection, key.clone()).await,
            Some(n + 1),
            "{key}"
        );
    }
    assert_eq!(
        subject
            .store
            .count(collection, &KeyRange::all())
            .await
            .unwrap(),
        keys.len() as u64
    );
}

pub async fn hostile_texts(subject: &Subject) {
    let keys: Vec<Key> = naughty().into_iter().map(Key::text).collect();
    check(subject, &KeyKind::Text, &keys).await;
}

pub async fn integers(subject: &Subject) {
    let keys: Vec<Key> = [
        0,
        1,
        -1,
        i64::MIN,
        i64::MIN + 1,
        i64::MAX - 1,
        i64::MAX,
        1 << 53,
        (1 << 53) + 1,
    ]
    .map(Key::Int)
    .to_vec();
    check(subject, &KeyKind::Int, &keys).await;
}

pub async fn uuids(subject: &Subject) {
    let keys: Vec<Key> = [0, 1, u128::MAX, 0xdead_beef, 1 << 127]
        .map(|n| Key::uuid(Uuid::from_u128(n)))
        .to_vec();
    check(subject, &KeyKind::Uuid, &keys).await;
}

pub async fn tuples(subject: &Subject) {
    let kind = KeyKind::Tuple(vec![KeyKind::Text, KeyKind::Int]);
    let keys: Vec<Key> = [
        ("", 0),
        ("a", -1),
        ("a", 1),
        ("a", i64::MAX),
        ("a\"b", 0),
        ("b", i64::MIN),
        ("ü", 5),
    ]
    .map(|(text, n)| Key::Tuple(vec![Key::text(text), Key::Int(n)]))
    .to_vec();
    check(subject, &kind, &keys).await;
}

/// Never written under another key: refused, or (a text that is a UUID) kept as it is.
pub async fn keys_of_another_kind(subject: &Subject) {
    let Some(collection) = subject.ints().await else {
        return;
    };
    subject.fill(collection, &[Key::Int(12)]).await;
    for key in [
        Key::text("12"),
        Key::text("x"),
        Key::Tuple(vec![Key::Int(12)]),
    ] {
        let outcome = subject
            .one(subject.put(collection, key.clone(), 9, Guard::Any))
            .await;
        match outcome {
            WriteOutcome::Refused(_) => {
                assert!(
                    subject.get(collection, key.clone()).await.is_none(),
                    "{key:?}"
                );
            }
            WriteOutcome::Applied => {
                assert_eq!(
                    subject.number(collection, key.clone()).await,
                    Some(9),
                    "{key:?}"
                );
            }
            WriteOutcome::Lost => panic!("{key:?} was lost"),
        }
        assert_eq!(subject.number(collection, 12).await, Some(0), "{key:?}");
    }
}
