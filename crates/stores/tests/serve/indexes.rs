//! Indexes: made once, kept from then on, and read as of a view.

use crate::subject::{Subject, n, number, place};
use crate::views::all;
use whimbrel_firestore::View;
use whimbrel_firestore::backend::{Along, IndexId, IndexLine, Walk};

fn line(index: IndexId, key: &str, path: &str) -> IndexLine {
    IndexLine {
        index,
        key: key.as_bytes().to_vec(),
        place: place(path),
    }
}

async fn lines(view: &dyn View, index: IndexId) -> Vec<(String, String, Option<i64>)> {
    let walk = Walk {
        along: Along::Index(index),
        ..all("")
    };
    let lines = view.walk(&walk).await.unwrap();
    assert_eq!(view.count(&walk).await.unwrap(), lines.len() as u64);
    let one = |line: &whimbrel_firestore::backend::Line| {
        let key = String::from_utf8(line.key.clone()).unwrap();
        (key, line.place.path(), number(&line.stored))
    };
    lines.iter().map(one).collect()
}

fn expect(lines: &[(&str, &str, Option<i64>)]) -> Vec<(String, String, Option<i64>)> {
    lines
        .iter()
        .map(|(key, path, n)| ((*key).to_owned(), (*path).to_owned(), *n))
        .collect()
}

pub async fn are_made_once(mut subject: Subject) {
    assert!(subject.backend().indexes().await.unwrap().is_empty());
    let one = subject
        .backend()
        .create_index("one: é \0 \"'")
        .await
        .unwrap();
    let two = subject.backend().create_index("two").await.unwrap();
    let again = subject
        .backend()
        .create_index("one: é \0 \"'")
        .await
        .unwrap();
    assert_eq!(one, again);
    assert_ne!(one.id, two.id);
    assert!(!one.ready);
    subject.backend().index_ready(two.id).await.unwrap();
    assert!(subject.backend().index_ready(IndexId(77)).await.is_err());
    if !subject.url().starts_with("memory") {
        subject.reopen().await;
    }
    let mut there = subject.backend().indexes().await.unwrap();
    there.sort_by_key(|index| index.id);
    assert_eq!(there.len(), 2);
    let found = there.iter().find(|index| index.id == two.id).unwrap();
    assert!(found.ready && found.definition == "two");
    let found = there.iter().find(|index| index.id == one.id).unwrap();
    assert!(!found.ready && found.definition == one.definition);
    assert!(subject.backend().create_index("two").await.unwrap().ready);
}

pub async fn lines_come_and_go(subject: Subject) {
    let index = subject.backend().create_index("x").await.unwrap().id;
    let put = [line(index, "k1", "c/a"), line(index, "k2", "c/b")];
    subject
        .commit_lines(&[("c/a", Some(n(1))), ("c/b", Some(n(2)))], &[], &put)
        .await;
    // What is there does no harm, nor what is not.
    let gone = [line(index, "k9", "c/a")];
    subject.commit_lines(&[], &gone, &put).await;
    let view = subject.backend().view().await.unwrap();
    let both = expect(&[("k1", "c/a", Some(1)), ("k2", "c/b", Some(2))]);
    assert_eq!(lines(&*view, index).await, both);
    // Taken out and put in by the same commit: it is in.
    subject
        .commit_lines(&[("c/a", Some(n(3)))], &put, &put)
        .await;
    let view = subject.backend().view().await.unwrap();
    let changed = expect(&[("k1", "c/a", Some(3)), ("k2", "c/b", Some(2))]);
    assert_eq!(lines(&*view, index).await, changed);
    subject
        .commit_lines(&[], &put, &[line(index, "k0", "c/b")])
        .await;
    let view = subject.backend().view().await.unwrap();
    assert_eq!(
        lines(&*view, index).await,
        expect(&[("k0", "c/b", Some(2))])
    );
}

pub async fn lines_without_documents(subject: Subject) {
    let index = subject.backend().create_index("x").await.unwrap().id;
    let put = [line(index, "k1", "c/a"), line(index, "k2", "c/b")];
    subject
        .commit_lines(&[("c/a", Some(n(1))), ("c/b", Some(n(2)))], &[], &put)
        .await;
    subject.delete("c/a").await;
    let view = subject.backend().view().await.unwrap();
    let kept = expect(&[("k1", "c/a", None), ("k2", "c/b", Some(2))]);
    assert_eq!(lines(&*view, index).await, kept);
}

pub async fn views_see_their_lines(subject: Subject) {
    let index = subject.backend().create_index("x").await.unwrap().id;
    let empty = subject.backend().view().await.unwrap();
    let a = [line(index, "k", "c/a")];
    subject.commit_lines(&[("c/a", Some(n(1)))], &[], &a).await;
    let one = subject.backend().view().await.unwrap();
    subject.commit_lines(&[("c/a", None)], &a, &[]).await;
    let none = subject.backend().view().await.unwrap();
    subject.commit_lines(&[("c/a", Some(n(2)))], &[], &a).await;
    let two = subject.backend().view().await.unwrap();
    subject.commit_lines(&[("c/a", Some(n(3)))], &a, &a).await;
    let three = subject.backend().view().await.unwrap();
    subject
        .commit_lines(&[("c/b", Some(n(4)))], &a, &[line(index, "k2", "c/b")])
        .await;
    assert_eq!(lines(&*empty, index).await, []);
    assert_eq!(lines(&*one, index).await, expect(&[("k", "c/a", Some(1))]));
    assert_eq!(lines(&*none, index).await, []);
    assert_eq!(lines(&*two, index).await, expect(&[("k", "c/a", Some(2))]));
    assert_eq!(
        lines(&*three, index).await,
        expect(&[("k", "c/a", Some(3))])
    );
    drop((one, two));
    subject.commit_lines(&[("c/a", Some(n(5)))], &[], &[]).await;
    assert_eq!(lines(&*none, index).await, []);
    assert_eq!(
        lines(&*three, index).await,
        expect(&[("k", "c/a", Some(3))])
    );
    drop((empty, none, three));
    subject.commit_lines(&[("c/a", Some(n(6)))], &[], &[]).await;
    let last = subject.backend().view().await.unwrap();
    assert_eq!(
        lines(&*last, index).await,
        expect(&[("k2", "c/b", Some(4))])
    );
}
