use super::subject::{Subject, many, same_keys, texts};
use whimbrel_model::{Code, Guard, Key, KeyKind, KeyRange, StoreErrorKind};

fn range(after: Option<Key>, through: Option<Key>) -> KeyRange {
    KeyRange { after, through }
}

pub async fn ordered(subject: &Subject) {
    let collection = subject.text().await;
    let mut keys = texts(&[
        "b",
        "a",
        "B",
        "é",
        "",
        "z",
        "aa",
        "10",
        "9",
        "\u{1f600}",
        "\u{ffff}",
    ]);
    keys = subject.keyable(collection, keys).await;
    subject.fill(collection, &keys).await;
    for limit in [1, 2, 3, 100] {
        let found = subject.keys(collection, &KeyRange::all(), limit).await;
        assert!(same_keys(&found, &keys), "limit {limit}: {found:?}");
        if subject.store.limits().key_order {
            keys.sort();
            assert_eq!(found, keys, "limit {limit}");
        }
    }
}

pub async fn ranges(subject: &Subject) {
    let Some(collection) = subject.ints().await else {
        return;
    };
    let keys: Vec<Key> = [-30, -10, 0, 10, 20].map(Key::Int).to_vec();
    subject.fill(collection, &keys).await;
    let expect: [(Option<i64>, Option<i64>, &[i64]); 8] = [
        (None, None, &[-30, -10, 0, 10, 20]),
        (Some(-30), None, &[-10, 0, 10, 20]),
        (None, Some(0), &[-30, -10, 0]),
        (Some(-11), Some(11), &[-10, 0, 10]),
        (Some(0), Some(0), &[]),
        (Some(20), None, &[]),
        (None, Some(-31), &[]),
        (Some(10), Some(-10), &[]),
    ];
    for (after, through, expect) in expect {
        let range = range(after.map(Key::Int), through.map(Key::Int));
        let expect: Vec<Key> = expect.iter().copied().map(Key::Int).collect();
        assert_eq!(
            subject.keys(collection, &range, 2).await,
            expect,
            "{range:?}"
        );
        let count = subject.store.count(collection, &range).await.unwrap();
        assert_eq!(count, expect.len() as u64, "{range:?}");
    }
}

pub async fn resumes_after_each_key(subject: &Subject) {
    let collection = subject.text().await;
    subject.fill(collection, &many(40)).await;
    let keys = subject.keys(collection, &KeyRange::all(), 100).await;
    for (i, key) in keys.iter().enumerate() {
        let rest = KeyRange::all().resumed_after(Some(key));
        assert_eq!(
            subject.keys(collection, &rest, 7).await,
            keys[i + 1..],
            "{key}"
        );
        let until = range(None, Some(key.clone()));
        assert_eq!(
            subject.keys(collection, &until, 7).await,
            keys[..=i],
            "{key}"
        );
    }
}

/// Every key once, in parts of about the same size, and nothing behind the greatest key there is now.
pub async fn partitions_cover_exactly(subject: &Subject) {
    for kind in [
        KeyKind::Text,
        KeyKind::Int,
        KeyKind::Tuple(vec![KeyKind::Text, KeyKind::Int]),
    ] {
        let Some(collection) = subject.collection(&kind).await else {
            continue;
        };
        let keys: Vec<Key> = (0..500)
            .map(|i| match kind {
                KeyKind::Int => Key::Int(i * i - 1000),
                KeyKind::Text => Key::text(format!("{:x}", i * 7919)),
                _ => Key::Tuple(vec![Key::text((i % 3).to_string()), Key::Int(i)]),
            })
            .collect();
        subject.fill(collection, &keys).await;
        for parts in [1, 2, 3, 7, 500, 1000] {
            let cut = subject
                .store
                .partitions(collection, &KeyRange::all(), parts)
                .await
                .unwrap();
            assert!(
                cut.len() <= parts as usize && !cut.is_empty(),
                "{parts}: {}",
                cut.len()
            );
            let mut found = Vec::new();
            for part in &cut {
                assert!(part.through.is_some(), "{part:?}");
                let keys = subject.keys(collection, part, 100).await;
                if parts <= 7 {
                    let share = 500 / parts as usize;
                    assert!(
                        keys.len() <= share * 2 + 2,
                        "{parts}: {} in {part:?}",
                        keys.len()
                    );
                }
                found.extend(keys);
            }
            assert_eq!(found.len(), keys.len(), "{parts}");
            assert!(same_keys(&found, &keys), "{parts}");
        }
        let all = subject.keys(collection, &KeyRange::all(), 100).await;
        let within = range(Some(all[99].clone()), Some(all[299].clone()));
        let cut = subject
            .store
            .partitions(collection, &within, 4)
            .await
            .unwrap();
        let mut found = Vec::new();
        for part in &cut {
            found.extend(subject.keys(collection, part, 100).await);
        }
        assert_eq!(found, all[100..=299]);
    }
}

/// Nine of ten keys in a corner, the others far away.
pub async fn skewed_partitions(subject: &Subject) {
    let Some(collection) = subject.ints().await else {
        return;
    };
    let keys: Vec<Key> = (0..2000)
        .map(|i| {
            if i % 10 == 0 {
                Key::Int(i64::MAX / 2000 * i)
            } else {
                Key::Int(i)
            }
        })
        .collect();
    subject.fill(collection, &keys).await;
    let cut = subject
        .store
        .partitions(collection, &KeyRange::all(), 4)
        .await
        .unwrap();
    assert_eq!(cut.len(), 4);
    for part in &cut {
        let count = subject.store.count(collection, part).await.unwrap();
        assert!((250..=1000).contains(&count), "{count} in {part:?}");
    }
}

pub async fn empty_collection(subject: &Subject) {
    let collection = subject.text().await;
    let page = subject
        .store
        .scan(collection, &KeyRange::all(), 10, 1000)
        .await
        .unwrap();
    assert!(page.documents.is_empty() && page.last.is_none());
    assert_eq!(
        subject
            .store
            .count(collection, &KeyRange::all())
            .await
            .unwrap(),
        0
    );
    assert_eq!(
        subject
            .store
            .partitions(collection, &KeyRange::all(), 4)
            .await
            .unwrap(),
        []
    );
    assert!(subject.get(collection, "a").await.is_none());
}

pub async fn missing_collection(subject: &Subject) {
    let name = "no such \"collection";
    assert_eq!(subject.store.describe(name).await.unwrap(), None);
    let scanned = subject
        .store
        .scan(name, &KeyRange::all(), 10, 1000)
        .await
        .unwrap_err();
    let counted = subject
        .store
        .count(name, &KeyRange::all())
        .await
        .unwrap_err();
    let got = subject
        .store
        .get(name, &[Key::text("a")])
        .await
        .unwrap_err();
    let written = subject
        .store
        .write(&[subject.put(name, "a", 1, Guard::Any)])
        .await
        .unwrap_err();
    for error in [scanned, counted, got, written] {
        assert_eq!(error.code, Code::StoreMissing, "{error}");
        assert_eq!(error.kind, StoreErrorKind::Terminal, "{error}");
    }
}

pub async fn pages_by_bytes(subject: &Subject) {
    let collection = subject.text().await;
    subject.fill(collection, &many(50)).await;
    let all = subject
        .store
        .scan(collection, &KeyRange::all(), 50, 1 << 20)
        .await
        .unwrap();
    let size = all.documents[0].body.size();
    let page = subject
        .store
        .scan(collection, &KeyRange::all(), 50, 1)
        .await
        .unwrap();
    assert_eq!(page.documents.len(), 1);
    let page = subject
        .store
        .scan(collection, &KeyRange::all(), 50, size * 10)
        .await
        .unwrap();
    assert!(
        (2..50).contains(&page.documents.len()),
        "{}",
        page.documents.len()
    );
}

pub async fn counts_ranges(subject: &Subject) {
    let collection = subject.text().await;
    subject.fill(collection, &many(30)).await;
    let keys = subject.keys(collection, &KeyRange::all(), 100).await;
    let all = subject
        .store
        .count(collection, &KeyRange::all())
        .await
        .unwrap();
    assert_eq!(all, 30);
    let part = range(Some(keys[4].clone()), Some(keys[9].clone()));
    assert_eq!(subject.store.count(collection, &part).await.unwrap(), 5);
}
