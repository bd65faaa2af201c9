//! What documents were, and what changed between two times.

use crate::subject::{Subject, n, now, number, place, put};
use whimbrel_firestore::backend::{Batch, Change, Found};
use whimbrel_firestore::{Micros, Place, View};

async fn as_of(view: &dyn View, path: &str, at: Micros) -> Option<i64> {
    number(&view.get(&[place(path)], Some(at)).await.unwrap()[0])
}

/// Path, number before and number after.
fn steps(changes: &[Change]) -> Vec<(String, Option<i64>, Option<i64>)> {
    let step = |change: &Change| {
        (
            change.place.path(),
            number(&change.before),
            number(&change.after),
        )
    };
    changes.iter().map(step).collect()
}

fn step(path: &str, before: Option<i64>, after: Option<i64>) -> (String, Option<i64>, Option<i64>) {
    (path.to_owned(), before, after)
}

pub async fn as_of_every_commit(subject: Subject) {
    let mut times = Vec::new();
    for i in 0..20 {
        let fields = (i % 5 != 4).then(|| n(i));
        times.push((
            subject
                .commit(&[("c/a", fields), ("c/b", Some(n(i)))])
                .await,
            i,
        ));
    }
    let view = subject.backend().view().await.unwrap();
    assert_eq!(as_of(&*view, "c/a", times[0].0 - 1).await, None);
    for (at, i) in &times {
        let expect = (i % 5 != 4).then_some(*i);
        assert_eq!(as_of(&*view, "c/a", *at).await, expect, "{i}");
        assert_eq!(as_of(&*view, "c/b", *at).await, Some(*i));
        assert_eq!(as_of(&*view, "c/b", at - 1).await, (*i > 0).then(|| i - 1));
        assert_eq!(as_of(&*view, "c/none", *at).await, None);
        assert_eq!(as_of(&*view, "none/a", *at).await, None);
    }
    // The times are the document's own then.
    let then = view
        .get(&[place("c/b")], Some(times[7].0))
        .await
        .unwrap()
        .remove(0)
        .unwrap();
    assert_eq!((then.created, then.updated), (times[0].0, times[7].0));
    let then = view
        .get(&[place("c/a")], Some(times[7].0))
        .await
        .unwrap()
        .remove(0)
        .unwrap();
    assert_eq!((then.created, then.updated), (times[5].0, times[7].0));
}

pub async fn several_times_in_one_commit(subject: Subject) {
    let before = subject
        .commit(&[
            ("c/a", Some(n(1))),
            ("c/b", Some(n(1))),
            ("c/c", Some(n(1))),
        ])
        .await;
    let touch: Vec<Place> = ["c/b", "c/a", "c/c"].into_iter().map(place).collect();
    let (first, second, third, end) = (now(), now(), now(), now());
    let places = touch.clone();
    let decide = move |found: &Found| Batch {
        at: end,
        // In no order.
        documents: vec![
            put(found, &places[0], second, Some(n(2))),
            put(found, &places[1], first, Some(n(2))),
            put(found, &places[2], third, None),
        ],
        ..Batch::default()
    };
    subject
        .backend()
        .commit(&touch, Box::new(decide))
        .await
        .unwrap();
    let view = subject.backend().view().await.unwrap();
    assert_eq!(view.at(), end);
    assert_eq!(subject.backend().last_commit().await.unwrap(), end);
    for (at, expect) in [
        (before, [Some(1), Some(1), Some(1)]),
        (first, [Some(2), Some(1), Some(1)]),
        (second, [Some(2), Some(2), Some(1)]),
        (third, [Some(2), Some(2), None]),
        (end, [Some(2), Some(2), None]),
    ] {
        let found = [
            as_of(&*view, "c/a", at).await,
            as_of(&*view, "c/b", at).await,
            as_of(&*view, "c/c", at).await,
        ];
        assert_eq!(found, expect);
    }
    let changes = view.changed(first, Some(third), None, 10).await.unwrap();
    assert_eq!(
        steps(&changes),
        [step("c/b", Some(1), Some(2)), step("c/c", Some(1), None)]
    );
    assert_eq!(
        changes.iter().map(|change| change.at).collect::<Vec<_>>(),
        [second, third]
    );
}

pub async fn changes_between_two_times(subject: Subject) {
    let one = subject
        .commit(&[("c/a", Some(n(1))), ("b/z", Some(n(1)))])
        .await;
    let two = subject
        .commit(&[("c/a", Some(n(2))), ("c/b", Some(n(2)))])
        .await;
    let three = subject.commit(&[("c/a", None), ("c/c", Some(n(3)))]).await;
    let four = subject.commit(&[("c/c", None), ("c/b", Some(n(2)))]).await;
    let view = subject.backend().view().await.unwrap();
    subject.commit(&[("c/late", Some(n(5)))]).await;
    let changed = async |since, until| {
        let changes = view.changed(since, until, None, 100).await.unwrap();
        assert!(
            changes
                .iter()
                .all(|change| change.at > since && change.at <= until.unwrap_or(four))
        );
        steps(&changes)
    };
    let all = [
        step("b/z", None, Some(1)),
        step("c/a", None, None),
        step("c/b", None, Some(2)),
        step("c/c", None, None),
    ];
    assert_eq!(changed(0, None).await, all);
    assert_eq!(changed(one - 1, Some(four)).await, all);
    assert_eq!(changed(one - 1, Some(Micros::MAX)).await, all);
    assert_eq!(
        changed(one, Some(two)).await,
        [step("c/a", Some(1), Some(2)), step("c/b", None, Some(2))]
    );
    assert_eq!(
        changed(one, Some(three)).await,
        [
            step("c/a", Some(1), None),
            step("c/b", None, Some(2)),
            step("c/c", None, Some(3)),
        ]
    );
    assert_eq!(
        changed(three, None).await,
        [step("c/b", Some(2), Some(2)), step("c/c", Some(3), None)]
    );
    assert_eq!(changed(two, Some(two)).await, []);
    assert_eq!(changed(four, None).await, []);
    assert_eq!(changed(four + 1_000_000_000, None).await, []);
}

pub async fn changes_by_pages(subject: Subject) {
    let begin = subject.set("c/0", n(0)).await;
    for i in 0..40 {
        subject
            .commit(&[
                (&format!("c/{}", i % 13), Some(n(i))),
                (&format!("d/{i}"), Some(n(i))),
            ])
            .await;
    }
    let view = subject.backend().view().await.unwrap();
    let whole = view.changed(begin, None, None, 1000).await.unwrap();
    assert_eq!(whole.len(), 13 + 40);
    assert!(whole.is_sorted_by(|a, b| a.place < b.place));
    for limit in [1, 2, 13, 52, 53] {
        let mut paged: Vec<Change> = Vec::new();
        loop {
            let after = paged.last().map(|change| change.place.clone());
            let page = view
                .changed(begin, None, after.as_ref(), limit)
                .await
                .unwrap();
            assert!(page.len() <= limit as usize);
            if page.is_empty() {
                break;
            }
            paged.extend(page);
        }
        assert_eq!(steps(&paged), steps(&whole), "{limit}");
    }
}

pub async fn deleted_and_made_again(subject: Subject) {
    let one = subject.set("c/a", n(1)).await;
    let two = subject.delete("c/a").await;
    let three = subject.set("c/a", n(3)).await;
    let four = subject.delete("c/a").await;
    let view = subject.backend().view().await.unwrap();
    for (at, expect) in [
        (one - 1, None),
        (one, Some(1)),
        (two, None),
        (three, Some(3)),
        (four, None),
    ] {
        assert_eq!(as_of(&*view, "c/a", at).await, expect);
    }
    let then = view
        .get(&[place("c/a")], Some(three))
        .await
        .unwrap()
        .remove(0)
        .unwrap();
    assert_eq!((then.created, then.updated), (three, three));
}

pub async fn forgotten(subject: Subject) {
    let mut times = Vec::new();
    for i in 0..30 {
        let documents = [("c/a", Some(n(i))), ("c/b", (i % 2 == 0).then(|| n(i)))];
        times.push(subject.commit(&documents).await);
    }
    let gone = subject.delete("c/gone").await;
    subject.backend().forget(times[20]).await.unwrap();
    subject.backend().forget(times[10]).await.unwrap();
    let view = subject.backend().view().await.unwrap();
    for i in 20..30_i64 {
        let at = times[usize::try_from(i).unwrap()];
        assert_eq!(as_of(&*view, "c/a", at).await, Some(i));
        assert_eq!(as_of(&*view, "c/b", at).await, (i % 2 == 0).then_some(i));
    }
    let changes = view.changed(times[20], None, None, 10).await.unwrap();
    assert_eq!(steps(&changes)[0], step("c/a", Some(20), Some(29)));
    drop(view);
    // Everything; times go on.
    subject.backend().forget(gone + 1).await.unwrap();
    assert_eq!(subject.backend().last_commit().await.unwrap(), gone);
    assert_eq!(number(&subject.get("c/a").await), Some(29));
    let a = subject.get("c/a").await.unwrap();
    assert_eq!((a.created, a.updated), (times[0], times[29]));
    let next = subject.set("c/b", n(100)).await;
    let view = subject.backend().view().await.unwrap();
    assert_eq!(as_of(&*view, "c/b", gone + 1).await, None);
    assert_eq!(as_of(&*view, "c/b", next).await, Some(100));
    assert_eq!(
        steps(&view.changed(gone, None, None, 10).await.unwrap()),
        [step("c/b", None, Some(100))]
    );
}
