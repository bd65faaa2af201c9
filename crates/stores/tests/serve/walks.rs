//! Walks along a collection's keys and along indexes.

use crate::subject::{Subject, n, number, place};
use crate::views::all;
use std::ops::Bound;
use whimbrel_firestore::Fields;
use whimbrel_firestore::backend::{Along, IndexId, IndexLine, Line, Walk};

const KEYS: [&str; 9] = ["", "a", "a/b", "ab", "b", "b\u{0}", "é", "\u{fffd}", "🦆"];

/// Document keys are parts of names; these are those that can be.
async fn fill(subject: &Subject) -> Vec<String> {
    let keys: Vec<&str> = KEYS
        .into_iter()
        .filter(|k| !k.is_empty() && !k.contains(['/', '\0']))
        .collect();
    let paths: Vec<String> = keys.iter().map(|key| format!("c/{key}")).collect();
    let documents: Vec<(&str, Option<Fields>)> = paths
        .iter()
        .zip(0..)
        .map(|(path, i)| (path.as_str(), Some(n(i))))
        .collect();
    subject.commit(&documents).await;
    keys.iter().map(ToString::to_string).collect()
}

fn bounds() -> Vec<Bound<Vec<u8>>> {
    let mut bounds = vec![Bound::Unbounded];
    let odd: [&[u8]; 4] = [&[0xff], &[0xc3], &[0xc3, 0xa9, 0xff], &[0xf0, 0x9f]];
    for key in KEYS.iter().map(|key| key.as_bytes()).chain(odd) {
        bounds.push(Bound::Included(key.to_vec()));
        bounds.push(Bound::Excluded(key.to_vec()));
    }
    bounds
}

fn within(key: &[u8], from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>) -> bool {
    let above = match from {
        Bound::Included(from) => key >= from.as_slice(),
        Bound::Excluded(from) => key > from.as_slice(),
        Bound::Unbounded => true,
    };
    above
        && match to {
            Bound::Included(to) => key <= to.as_slice(),
            Bound::Excluded(to) => key < to.as_slice(),
            Bound::Unbounded => true,
        }
}

fn keys(lines: &[Line]) -> Vec<&[u8]> {
    lines.iter().map(|line| line.key.as_slice()).collect()
}

pub async fn bounds_of_every_kind(subject: Subject) {
    let there = fill(&subject).await;
    let view = subject.backend().view().await.unwrap();
    for from in bounds() {
        for to in bounds() {
            for descending in [false, true] {
                let walk = Walk {
                    from: from.clone(),
                    to: to.clone(),
                    descending,
                    ..all("c")
                };
                let mut expect: Vec<&[u8]> = there
                    .iter()
                    .map(String::as_bytes)
                    .filter(|key| within(key, &from, &to))
                    .collect();
                if descending {
                    expect.reverse();
                }
                let lines = view.walk(&walk).await.unwrap();
                assert_eq!(keys(&lines), expect, "{walk:?}");
                assert!(lines.iter().all(|line| line.stored.is_some()));
                assert_eq!(
                    view.count(&walk).await.unwrap(),
                    expect.len() as u64,
                    "{walk:?}"
                );
            }
        }
    }
}

pub async fn pages(subject: Subject) {
    let paths: Vec<String> = (0..500).map(|i| format!("c/{i:03}")).collect();
    let documents: Vec<(&str, Option<Fields>)> = paths
        .iter()
        .zip(0..)
        .map(|(path, i)| (path.as_str(), Some(n(i))))
        .collect();
    subject.commit(&documents).await;
    let view = subject.backend().view().await.unwrap();
    for (descending, limit) in [
        (false, 1),
        (false, 7),
        (true, 100),
        (true, 499),
        (false, 500),
        (false, 501),
    ] {
        let mut walk = Walk {
            descending,
            limit,
            ..all("c")
        };
        let mut numbers = Vec::new();
        loop {
            let page = view.walk(&walk).await.unwrap();
            assert!(page.len() <= limit as usize);
            numbers.extend(page.iter().filter_map(|line| number(&line.stored)));
            let Some(last) = page.last().filter(|_| page.len() == limit as usize) else {
                break;
            };
            let behind = Bound::Excluded(last.key.clone());
            match descending {
                true => walk.to = behind,
                false => walk.from = behind,
            }
        }
        let mut expect: Vec<i64> = (0..500).collect();
        if descending {
            expect.reverse();
        }
        assert_eq!(numbers, expect);
    }
    for limit in [0, 1, 499, 500, 501] {
        let walk = Walk { limit, ..all("c") };
        assert_eq!(view.count(&walk).await.unwrap(), u64::from(limit.min(500)));
        assert_eq!(
            view.walk(&walk).await.unwrap().len() as u64,
            u64::from(limit.min(500))
        );
    }
}

pub async fn along_an_index(subject: Subject) {
    let index = subject
        .backend()
        .create_index("by number")
        .await
        .unwrap()
        .id;
    let other = subject.backend().create_index("another").await.unwrap().id;
    let lines: Vec<(&str, Vec<u8>)> = vec![
        ("a/1", vec![]),
        ("b/1", vec![0]),
        ("a/2", vec![0, 0]),
        ("b/2", vec![0, 1]),
        ("a/3/b/3", vec![1]),
        ("a/4", vec![0xff]),
        ("b/4", vec![0xff, 0xff]),
    ];
    let documents: Vec<(&str, Option<Fields>)> = lines
        .iter()
        .zip(0..)
        .map(|((path, _), i)| (*path, Some(n(i))))
        .collect();
    let line = |index, (path, key): &(&str, Vec<u8>)| IndexLine {
        index,
        key: key.clone(),
        place: place(path),
    };
    let mut put: Vec<IndexLine> = lines.iter().map(|one| line(index, one)).collect();
    put.push(line(other, &("a/1", vec![0, 0, 0])));
    subject.commit_lines(&documents, &[], &put).await;
    let view = subject.backend().view().await.unwrap();
    let mut bounds = vec![Bound::Unbounded];
    for key in [
        &[][..],
        &[0],
        &[0, 0],
        &[0, 2],
        &[1],
        &[0x80],
        &[0xff],
        &[0xff, 0xff],
        &[0xff, 0xff, 0],
    ] {
        bounds.push(Bound::Included(key.to_vec()));
        bounds.push(Bound::Excluded(key.to_vec()));
    }
    for from in &bounds {
        for to in &bounds {
            for descending in [false, true] {
                let walk = Walk {
                    along: Along::Index(index),
                    from: from.clone(),
                    to: to.clone(),
                    descending,
                    ..all("")
                };
                let mut expect: Vec<(&str, &[u8])> = lines
                    .iter()
                    .filter(|(_, key)| within(key, from, to))
                    .map(|(path, key)| (*path, key.as_slice()))
                    .collect();
                if descending {
                    expect.reverse();
                }
                let found = view.walk(&walk).await.unwrap();
                let paths: Vec<(String, &[u8])> = found
                    .iter()
                    .map(|line| (line.place.path(), line.key.as_slice()))
                    .collect();
                let same = paths
                    .iter()
                    .map(|(path, key)| (path.as_str(), *key))
                    .eq(expect.iter().copied());
                assert!(same, "{walk:?}: {paths:?}");
                for line in &found {
                    let i = lines
                        .iter()
                        .position(|(path, _)| *path == line.place.path())
                        .unwrap();
                    assert_eq!(number(&line.stored), i64::try_from(i).ok());
                }
                assert_eq!(view.count(&walk).await.unwrap(), expect.len() as u64);
                let two = Walk {
                    limit: 2,
                    documents: false,
                    ..walk
                };
                let found = view.walk(&two).await.unwrap();
                assert_eq!(found.len(), expect.len().min(2));
                assert!(found.iter().all(|line| line.stored.is_none()));
            }
        }
    }
}

pub async fn without_documents(subject: Subject) {
    fill(&subject).await;
    let view = subject.backend().view().await.unwrap();
    let walk = Walk {
        documents: false,
        ..all("c")
    };
    let lines = view.walk(&walk).await.unwrap();
    assert!(!lines.is_empty());
    for line in lines {
        assert!(line.stored.is_none());
        assert_eq!(line.place.path(), format!("c/{}", line.place.key));
    }
}

pub async fn of_what_is_not_there(subject: Subject) {
    let before = subject.backend().view().await.unwrap();
    fill(&subject).await;
    let view = subject.backend().view().await.unwrap();
    for walk in [all("nothing"), all("c/d"), all("C")] {
        assert!(view.walk(&walk).await.unwrap().is_empty());
        assert_eq!(view.count(&walk).await.unwrap(), 0);
    }
    assert!(before.walk(&all("c")).await.unwrap().is_empty());
    let index = subject.backend().create_index("empty").await.unwrap().id;
    assert_ne!(index, IndexId(u32::MAX));
    let view = subject.backend().view().await.unwrap();
    let walk = Walk {
        along: Along::Index(index),
        ..all("")
    };
    assert!(view.walk(&walk).await.unwrap().is_empty());
    assert_eq!(view.count(&walk).await.unwrap(), 0);
}

pub async fn a_collection_is_walked_by_the_bytes_of_its_keys(subject: Subject) {
    // Ids in an order that is neither of languages nor of UTF-16: U+FFFD stands before U+1F986.
    let ids = ["Z", "_", "a", "a b", "aa", "b", "é", "日", "\u{fffd}", "🦆"];
    for id in ids.iter().rev() {
        subject.set(&format!("c/{id}"), n(1)).await;
    }
    subject.set("c/a/d/1", n(1)).await;
    subject.set("c/a b/d/2", n(1)).await;
    let view = subject.backend().view().await.unwrap();
    let lines = view.walk(&all("c")).await.unwrap();
    assert_eq!(
        lines
            .iter()
            .map(|line| &*line.place.key)
            .collect::<Vec<_>>(),
        ids
    );
    let lines = view.walk(&all("c/d")).await.unwrap();
    assert_eq!(
        lines
            .iter()
            .map(|line| &*line.place.key)
            .collect::<Vec<_>>(),
        ["a b/2", "a/1"]
    );
}
