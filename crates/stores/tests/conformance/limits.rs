use super::subject::{Subject, many};
use whimbrel_model::{Body, Code, Guard, Key, KeyKind, KeyRange, Value, Write, WriteOutcome};

pub async fn a_full_batch(subject: &Subject) {
    let collection = subject.text().await;
    let limits = subject.store.limits();
    let keys = many(limits.batch_writes as usize);
    subject.fill(collection, &keys).await;
    assert_eq!(
        subject
            .store
            .count(collection, &KeyRange::all())
            .await
            .unwrap(),
        u64::from(limits.batch_writes)
    );
    let documents = subject.store.get(collection, &keys).await.unwrap();
    let writes: Vec<Write> = documents
        .into_iter()
        .flatten()
        .map(|document| {
            let guard = Guard::Unchanged(document.revision);
            subject.put(collection, document.key, -1, guard)
        })
        .collect();
    assert_eq!(writes.len(), keys.len());
    for outcome in subject.write(&writes).await {
        assert_eq!(outcome, WriteOutcome::Applied);
    }
    assert_eq!(
        subject
            .number(collection, keys[keys.len() / 2].clone())
            .await,
        Some(-1)
    );
}

/// A document just below the limit is kept whole; one above it is refused and leaves no trace.
pub async fn documents_at_the_limit(subject: &Subject) {
    let collection = subject.text().await;
    let limit = subject.store.limits().document_bytes;
    let document = |key: &str, size: usize| {
        let key = Key::text(key);
        let empty = subject.fields(collection, &key, &[("text", Value::String(String::new()))]);
        let mut out = Vec::new();
        whimbrel_model::json::write_map(&empty, &mut out);
        let text = "x".repeat(size - out.len());
        let body = subject.fields(collection, &key, &[("text", Value::String(text))]);
        out.clear();
        whimbrel_model::json::write_map(&body, &mut out);
        Write {
            collection: collection.to_owned(),
            key,
            to: Some(Body::from_json(out)),
            guard: Guard::Any,
        }
    };
    let fits = document("fits", limit - 100);
    let expect = fits.to.clone().unwrap().fingerprint().unwrap();
    assert_eq!(subject.one(fits).await, WriteOutcome::Applied);
    let found = subject.get(collection, "fits").await.unwrap();
    assert!(
        found.body.fingerprint().unwrap() == expect,
        "the document was changed"
    );
    drop(found);
    match subject.one(document("large", limit + 1)).await {
        WriteOutcome::Refused(refusal) => assert!(refusal.message.len() < 1000),
        other => panic!("{other:?}"),
    }
    assert!(subject.get(collection, "large").await.is_none());
}

pub async fn read_only_refuses(subject: &Subject) {
    let collection = subject.text().await;
    subject.fill(collection, &many(3)).await;
    let (reader, _copy) = subject.read_only().await;
    let write = subject.put(collection, "key-000000", 9, Guard::Any);
    let written = reader.write(&[write]).await.unwrap_err();
    let ensured = reader.ensure("others", &KeyKind::Text).await.unwrap_err();
    for error in [written, ensured] {
        assert_eq!(error.code, Code::StoreDenied, "{error}");
    }
    let page = reader
        .scan(collection, &KeyRange::all(), 10, 1000)
        .await
        .unwrap();
    assert_eq!(page.documents.len(), 3);
    assert_eq!(subject.number(collection, "key-000000").await, Some(0));
}
