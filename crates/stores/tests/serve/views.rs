//! A view shows the store as of one moment, for as long as it is kept.

use crate::subject::{Subject, n, number, place};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use whimbrel_firestore::View;
use whimbrel_firestore::backend::{Along, Walk};

pub fn all(collection: &str) -> Walk {
    Walk {
        along: Along::Collection(collection.into()),
        from: Bound::Unbounded,
        to: Bound::Unbounded,
        descending: false,
        limit: 10_000,
        documents: true,
    }
}

/// Keys and numbers of a collection.
pub async fn held(view: &dyn View, collection: &str) -> Vec<(String, Option<i64>)> {
    let lines = view.walk(&all(collection)).await.unwrap();
    let one = |line: &whimbrel_firestore::backend::Line| {
        assert_eq!(line.key, line.place.key.as_bytes());
        (line.place.key.to_string(), number(&line.stored))
    };
    lines.iter().map(one).collect()
}

fn expect(pairs: &[(&str, i64)]) -> Vec<(String, Option<i64>)> {
    pairs
        .iter()
        .map(|(key, n)| ((*key).to_owned(), Some(*n)))
        .collect()
}

pub async fn stay_as_they_are(subject: Subject) {
    subject
        .commit(&[
            ("c/a", Some(n(1))),
            ("c/b", Some(n(2))),
            ("c/c", Some(n(3))),
        ])
        .await;
    let at = subject.backend().last_commit().await.unwrap();
    let view = subject.backend().view().await.unwrap();
    subject
        .commit(&[
            ("c/a", Some(n(10))),
            ("c/b", None),
            ("c/d", Some(n(4))),
            ("new/a", Some(n(5))),
        ])
        .await;
    let between = subject.backend().view().await.unwrap();
    subject.commit(&[("c/b", Some(n(20))), ("c/a", None)]).await;
    subject.commit(&[("c/a", Some(n(30)))]).await;
    subject.backend().forget(at - 1).await.unwrap();
    let now = subject.backend().view().await.unwrap();
    assert_eq!(
        held(&*view, "c").await,
        expect(&[("a", 1), ("b", 2), ("c", 3)])
    );
    assert_eq!(
        held(&*between, "c").await,
        expect(&[("a", 10), ("c", 3), ("d", 4)])
    );
    assert_eq!(
        held(&*now, "c").await,
        expect(&[("a", 30), ("b", 20), ("c", 3), ("d", 4)])
    );
    assert_eq!(view.count(&all("c")).await.unwrap(), 3);
    assert_eq!(view.at(), at);
    let got = view
        .get(&[place("c/a"), place("c/d"), place("c/b")], None)
        .await
        .unwrap();
    assert_eq!(
        got.iter().map(number).collect::<Vec<_>>(),
        [Some(1), None, Some(2)]
    );
    // A view does not see later times.
    let got = view.get(&[place("c/a")], Some(now.at())).await.unwrap();
    assert_eq!(number(&got[0]), Some(1));
    assert!(held(&*view, "new").await.is_empty());
    drop(view);
    drop(between);
    assert_eq!(
        held(&*now, "c").await,
        expect(&[("a", 30), ("b", 20), ("c", 3), ("d", 4)])
    );
}

pub async fn see_one_moment_at_all_times(subject: Subject) {
    subject
        .commit(&[("sum/a", Some(n(500))), ("sum/b", Some(n(500)))])
        .await;
    let (subject, stop) = (Arc::new(subject), Arc::new(AtomicBool::new(false)));
    let (writer, stopped) = (subject.clone(), stop.clone());
    let writing = tokio::spawn(async move {
        let mut moved = 0;
        while !stopped.load(Ordering::SeqCst) {
            moved = (moved + 7) % 500;
            writer
                .commit(&[
                    ("sum/a", Some(n(500 - moved))),
                    ("sum/b", Some(n(500 + moved))),
                ])
                .await;
            let gone = moved % 2 == 0;
            writer
                .commit(&[("x/a", (!gone).then(|| n(1))), ("y/a", gone.then(|| n(1)))])
                .await;
        }
    });
    let mut last = 0;
    for _ in 0..200 {
        let view = subject.backend().view().await.unwrap();
        assert!(view.at() >= last);
        last = view.at();
        for _ in 0..3 {
            let sum: i64 = held(&*view, "sum")
                .await
                .iter()
                .filter_map(|(_, n)| *n)
                .sum();
            assert_eq!(sum, 1000);
            let got = view.get(&[place("x/a"), place("y/a")], None).await.unwrap();
            let collections = view.collections().await.unwrap();
            assert_eq!(collections.len(), 1 + got.iter().flatten().count());
            for stored in view
                .get(&[place("sum/a")], None)
                .await
                .unwrap()
                .iter()
                .flatten()
            {
                assert!(stored.updated <= view.at());
            }
            tokio::task::yield_now().await;
        }
    }
    stop.store(true, Ordering::SeqCst);
    writing.await.unwrap();
}

pub async fn list_collections(subject: Subject) {
    let names = |found: Vec<Arc<str>>| found.iter().map(ToString::to_string).collect::<Vec<_>>();
    let empty = subject.backend().view().await.unwrap();
    subject
        .commit(&[
            ("b/1", Some(n(1))),
            ("a/1", Some(n(1))),
            ("a/1/c/1", Some(n(1))),
        ])
        .await;
    let full = subject.backend().view().await.unwrap();
    subject
        .commit(&[("b/1", None), ("a/1", None), ("d/1", Some(n(1)))])
        .await;
    let later = subject.backend().view().await.unwrap();
    assert_eq!(names(empty.collections().await.unwrap()), [""; 0]);
    assert_eq!(names(full.collections().await.unwrap()), ["a", "a/c", "b"]);
    assert_eq!(names(later.collections().await.unwrap()), ["a/c", "d"]);
}

pub async fn many_at_once(subject: Subject) {
    let mut views = Vec::new();
    for i in 0..60 {
        subject.set("c/a", n(i)).await;
        views.push((i, subject.backend().view().await.unwrap()));
    }
    for (i, view) in views {
        assert_eq!(held(&*view, "c").await, expect(&[("a", i)]));
    }
    assert_eq!(number(&subject.get("c/a").await), Some(59));
}
