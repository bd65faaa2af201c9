use super::subject::{Subject, kind_of, many, texts};
use whimbrel_model::{Guard, Key, KeyKind, KeyRange, Write, WriteOutcome};

pub async fn get_answers_in_order(subject: &Subject) {
    let collection = subject.text().await;
    subject.fill(collection, &many(5)).await;
    let mut asked = many(7);
    asked.reverse();
    asked.push(asked[3].clone());
    let found = subject.store.get(collection, &asked).await.unwrap();
    assert_eq!(found.len(), asked.len());
    for (key, document) in asked.iter().zip(&found) {
        let there = many(5).contains(key);
        assert_eq!(document.as_ref().map(|d| &d.key), there.then_some(key));
    }
    assert!(subject.store.get(collection, &[]).await.unwrap().is_empty());
}

pub async fn deletes(subject: &Subject) {
    let collection = subject.text().await;
    subject.fill(collection, &many(10)).await;
    let writes: Vec<Write> = many(10)
        .into_iter()
        .step_by(2)
        .map(|key| Write {
            collection: collection.to_owned(),
            key,
            to: None,
            guard: Guard::Any,
        })
        .collect();
    for outcome in subject.write(&writes).await {
        assert_eq!(outcome, WriteOutcome::Applied);
    }
    let left = subject.keys(collection, &KeyRange::all(), 3).await;
    let expect: Vec<Key> = many(10).into_iter().skip(1).step_by(2).collect();
    assert_eq!(left, expect);
    assert_eq!(
        subject
            .store
            .count(collection, &KeyRange::all())
            .await
            .unwrap(),
        5
    );
}

pub async fn ensure_twice(subject: &Subject) {
    let collection = subject.text().await;
    subject.fill(collection, &many(2)).await;
    subject
        .store
        .ensure(collection, &KeyKind::Text)
        .await
        .unwrap();
    assert_eq!(
        subject
            .store
            .count(collection, &KeyRange::all())
            .await
            .unwrap(),
        2
    );
}

pub async fn describes(subject: &Subject) {
    for kind in [KeyKind::Int, KeyKind::Text, kind_of("by_pair")] {
        let Some(collection) = subject.collection(&kind).await else {
            continue;
        };
        let description = subject.store.describe(collection).await.unwrap().unwrap();
        assert_eq!(description.key, kind, "{collection}");
        assert!(
            subject
                .store
                .collections()
                .await
                .unwrap()
                .iter()
                .any(|c| c == collection)
        );
    }
    let name = subject.store.name().to_owned();
    assert!(!name.is_empty());
}

pub async fn several_collections(subject: &Subject) {
    let text = subject.text().await;
    let Some(ints) = subject.ints().await else {
        return;
    };
    let writes = [
        subject.put(text, "a", 1, Guard::Absent),
        subject.put(ints, 1, 2, Guard::Absent),
        subject.put(text, "b", 3, Guard::Absent),
    ];
    assert_eq!(subject.write(&writes).await, vec![WriteOutcome::Applied; 3]);
    assert_eq!(subject.number(text, "b").await, Some(3));
    assert_eq!(subject.number(ints, 1).await, Some(2));
    assert_eq!(
        subject.keys(text, &KeyRange::all(), 10).await,
        texts(&["a", "b"])
    );
}
