use super::subject::{Subject, many, number};
use whimbrel_model::{Body, Guard, Key, Revision, Write, WriteOutcome};

fn delete(collection: &str, key: &str, guard: Guard) -> Write {
    Write {
        collection: collection.to_owned(),
        key: Key::text(key),
        to: None,
        guard,
    }
}

pub async fn every_outcome(subject: &Subject) {
    use WriteOutcome::{Applied, Lost};
    let collection = subject.text().await;
    let never = || Guard::Unchanged(Revision(vec![0; 16]));
    let put = |n, guard| subject.put(collection, "a", n, guard);

    assert_eq!(
        subject.one(put(1, never())).await,
        Lost,
        "nothing to be unchanged"
    );
    assert_eq!(subject.one(delete(collection, "a", never())).await, Lost);
    assert_eq!(
        subject.one(delete(collection, "a", Guard::Absent)).await,
        Applied
    );
    assert_eq!(
        subject.one(delete(collection, "a", Guard::Any)).await,
        Applied
    );
    assert_eq!(subject.number(collection, "a").await, None);

    assert_eq!(subject.one(put(1, Guard::Absent)).await, Applied);
    assert_eq!(subject.one(put(2, Guard::Absent)).await, Lost);
    assert_eq!(subject.number(collection, "a").await, Some(1));
    assert_eq!(subject.one(put(2, never())).await, Lost);
    assert_eq!(subject.number(collection, "a").await, Some(1));

    let first = subject.revision(collection, "a").await;
    assert_eq!(
        subject.one(put(2, Guard::Unchanged(first.clone()))).await,
        Applied
    );
    assert_eq!(subject.number(collection, "a").await, Some(2));
    assert_eq!(
        subject.one(put(3, Guard::Unchanged(first.clone()))).await,
        Lost
    );
    assert_eq!(
        subject
            .one(delete(collection, "a", Guard::Unchanged(first)))
            .await,
        Lost
    );
    assert_eq!(
        subject.one(delete(collection, "a", Guard::Absent)).await,
        Lost
    );
    assert_eq!(subject.number(collection, "a").await, Some(2));

    assert_eq!(subject.one(put(4, Guard::Any)).await, Applied);
    assert_eq!(subject.number(collection, "a").await, Some(4));
    let last = subject.revision(collection, "a").await;
    assert_eq!(
        subject
            .one(delete(collection, "a", Guard::Unchanged(last.clone())))
            .await,
        Applied
    );
    assert_eq!(subject.number(collection, "a").await, None);
    assert_eq!(
        subject.one(put(5, Guard::Unchanged(last))).await,
        Lost,
        "deleted"
    );
    assert_eq!(subject.one(put(5, Guard::Any)).await, Applied);
    assert_eq!(
        subject.one(delete(collection, "a", Guard::Any)).await,
        Applied
    );
    assert_eq!(subject.number(collection, "a").await, None);
}

pub async fn lost_guards_leave_the_others(subject: &Subject) {
    let collection = subject.text().await;
    subject.fill(collection, &many(3)).await;
    let keys = many(5);
    let stale = Guard::Unchanged(Revision(vec![9; 16]));
    let guards = [stale, Guard::Any, Guard::Absent, Guard::Absent, Guard::Any];
    let writes: Vec<Write> = keys
        .iter()
        .zip(guards)
        .map(|(key, guard)| subject.put(collection, key.clone(), 100, guard))
        .collect();
    use WriteOutcome::{Applied, Lost};
    assert_eq!(
        subject.write(&writes).await,
        [Lost, Applied, Lost, Applied, Applied]
    );
    let mut found = Vec::new();
    for key in &keys {
        found.push(subject.number(collection, key.clone()).await);
    }
    assert_eq!(found, [Some(0), Some(100), Some(2), Some(100), Some(100)]);
}

pub async fn refused_documents_leave_the_others(subject: &Subject) {
    let collection = subject.text().await;
    let bad: [&[u8]; 7] = [
        b"",
        b"{",
        b"[1]",
        b"\"text\"",
        b"{\"a\":1,\"a\":2}",
        b"{\"a\":\"\xff\"}",
        b"{\"a\":tru}",
    ];
    let mut writes = vec![subject.put(collection, "first", 1, Guard::Absent)];
    for (i, bytes) in bad.iter().enumerate() {
        writes.push(Write {
            collection: collection.to_owned(),
            key: Key::text(format!("bad-{i}")),
            to: Some(Body::from_json(bytes.to_vec())),
            guard: Guard::Any,
        });
    }
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    writes.push(Write {
        collection: collection.to_owned(),
        key: Key::text("deep"),
        to: Some(Body::from_json(deep.into_bytes())),
        guard: Guard::Any,
    });
    writes.push(subject.put(collection, "last", 2, Guard::Absent));
    let outcomes = subject.write(&writes).await;
    for (write, outcome) in writes.iter().zip(&outcomes) {
        let good = matches!(&write.key, Key::Text(key) if key == "first" || key == "last");
        match outcome {
            WriteOutcome::Applied => assert!(good, "{}", write.key),
            WriteOutcome::Refused(refusal) => assert!(!good, "{}: {refusal:?}", write.key),
            WriteOutcome::Lost => panic!("{} was lost", write.key),
        }
        assert_eq!(
            subject.get(collection, write.key.clone()).await.is_some(),
            good,
            "{}",
            write.key
        );
    }
}

pub async fn revisions_change(subject: &Subject) {
    let collection = subject.text().await;
    let mut seen = Vec::new();
    for n in 0..5 {
        subject
            .one(subject.put(collection, "a", n, Guard::Any))
            .await;
        let revision = subject.revision(collection, "a").await;
        assert!(!seen.contains(&revision));
        assert_eq!(
            subject.revision(collection, "a").await,
            revision,
            "reading changes nothing"
        );
        let scanned = subject
            .scan(collection, &whimbrel_model::KeyRange::all(), 10)
            .await;
        assert_eq!(scanned[0].revision, revision);
        seen.push(revision);
    }
}

/// Guarded increments by several tasks end at exactly their sum.
pub async fn concurrent_writers(subject: &Subject) {
    const EACH: i64 = 40;
    let collection = subject.text().await;
    subject
        .one(subject.put(collection, "sum", 0, Guard::Absent))
        .await;
    let increment = || async {
        let mut done = 0;
        while done < EACH {
            let document = subject.get(collection, "sum").await.unwrap();
            let guard = Guard::Unchanged(document.revision.clone());
            let write = subject.put(collection, "sum", number(&document) + 1, guard);
            match subject.store.write(&[write]).await {
                Ok(outcomes) if outcomes == [WriteOutcome::Applied] => done += 1,
                Ok(outcomes) => assert_eq!(outcomes, [WriteOutcome::Lost]),
                Err(error) => assert_eq!(
                    error.kind,
                    whimbrel_model::StoreErrorKind::Transient,
                    "{error}"
                ),
            }
        }
    };
    tokio::join!(increment(), increment(), increment());
    assert_eq!(subject.number(collection, "sum").await, Some(3 * EACH));
}

pub async fn one_of_two_creators_wins(subject: &Subject) {
    let collection = subject.text().await;
    for round in 0..20 {
        let key = format!("round-{round}");
        let create = |n| subject.one(subject.put(collection, key.as_str(), n, Guard::Absent));
        let (one, two) = tokio::join!(create(1), create(2));
        let winner = match (one, two) {
            (WriteOutcome::Applied, WriteOutcome::Lost) => 1,
            (WriteOutcome::Lost, WriteOutcome::Applied) => 2,
            other => panic!("{other:?}"),
        };
        assert_eq!(subject.number(collection, key.as_str()).await, Some(winner));
    }
}
