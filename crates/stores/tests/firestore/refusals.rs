//! What one batch may hold, and what one document.

use super::{emulator, fill, keys, put};
use WriteOutcome::{Applied, Lost, Refused};
use whimbrel_model::{
    Body, Code, Guard, Key, KeyKind, KeyRange, Map, StoreErrorKind, Value, Write, WriteOutcome,
};

/// A batch is one transaction, so what no commit can hold is not written in parts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_larger_than_a_request_is_not_begun() {
    let Some(store) = emulator("").await else {
        return;
    };
    fill(&store, "docs", &["there"]).await;
    let body = format!(r#"{{"text":"{}"}}"#, "x".repeat(1_000_000));
    let writes: Vec<Write> = (0..12)
        .map(|i| put("docs", &format!("d{i:02}"), &body, Guard::Absent))
        .collect();
    let error = store.write(&writes).await.unwrap_err();
    assert_eq!(
        (error.kind, error.code),
        (StoreErrorKind::Terminal, Code::StoreFailed)
    );
    assert!(error.message.contains("nothing was written"), "{error}");
    assert_eq!(keys(&store, "docs", &KeyRange::all(), 4).await, ["there"]);
    let outcomes = store.write(&writes[..9]).await.unwrap();
    assert_eq!(outcomes, vec![Applied; 9]);
}

/// Whatever is in it, a batch of the size that the driver announces fits into one commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_the_announced_size_is_written() {
    let Some(store) = emulator("").await else {
        return;
    };
    store.ensure("docs", &KeyKind::Text).await.unwrap();
    let most = store.limits().batch_bytes;
    // The first two take more bytes in a request than anything else, as JSON and as values.
    let reference = || Value::Reference("users/0123456789".to_owned());
    for (key, item) in [
        ("reference", reference()),
        ("double", Value::Double(1.5)),
        ("text", Value::String("x".to_owned())),
    ] {
        let array = Value::Array(vec![item; 500]);
        let body = Body::Map(Map::from_iter([("a".to_owned(), array)]));
        for body in [body.clone(), Body::Json(body.into_json())] {
            let count = (most / body.size()).min(500);
            let writes: Vec<Write> = (0..count)
                .map(|i| Write {
                    collection: "docs".to_owned(),
                    key: Key::text(format!("{key}{i}")),
                    to: Some(body.clone()),
                    guard: Guard::Any,
                })
                .collect();
            let outcomes = store.write(&writes).await.unwrap();
            assert_eq!(outcomes, vec![Applied; count], "{key}");
        }
    }
}

/// Refused by the server although the driver saw nothing wrong: the others are written, all at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_the_server_minds_is_singled_out() {
    let Some(store) = emulator("").await else {
        return;
    };
    fill(&store, "docs", &["there"]).await;
    // The emulator knows no such types; Google's newer servers do.
    let odd = r#"{"a":{"__int__":5}}"#;
    let writes: Vec<Write> = (0..20)
        .map(|i| match i {
            4 | 5 | 17 => put("docs", &format!("d{i}"), odd, Guard::Any),
            9 => put("docs", "there", "{}", Guard::Absent),
            _ => put("docs", &format!("d{i}"), "{}", Guard::Absent),
        })
        .collect();
    let outcomes = store.write(&writes).await.unwrap();
    for (i, outcome) in outcomes.iter().enumerate() {
        match (i, outcome) {
            (4 | 5 | 17, Refused(_)) | (9, Lost) => {}
            (_, Applied) if !matches!(i, 4 | 5 | 9 | 17) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(keys(&store, "docs", &KeyRange::all(), 100).await.len(), 17);
}

/// The deepest document there may be, and one with a field of the longest name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_driver_lets_through_the_server_takes() {
    let Some(store) = emulator("").await else {
        return;
    };
    store.ensure("docs", &KeyKind::Text).await.unwrap();
    let holding = |value: Value| Map::from_iter([("d".to_owned(), value)]);
    let maps = (0..20).fold(Map::new(), |inner, _| holding(Value::Map(inner)));
    // Each array and each map in it is a level.
    let arrays = (0..10).fold(Map::new(), |inner, _| {
        holding(Value::Array(vec![Value::Map(inner)]))
    });
    let name = "n".repeat(1500);
    let long = Map::from_iter([(name, Value::Int(1))]);
    let key = "k".repeat(1500);
    let writes: Vec<Write> = [
        ("maps", maps),
        ("arrays", arrays),
        ("names", long),
        (&key, Map::new()),
    ]
    .into_iter()
    .map(|(key, map)| Write {
        collection: "docs".to_owned(),
        key: Key::text(key),
        to: Some(Body::Map(map)),
        guard: Guard::Absent,
    })
    .collect();
    let outcomes = store.write(&writes).await.unwrap();
    for (write, outcome) in writes.iter().zip(outcomes) {
        assert_eq!(outcome, Applied);
        let found = store
            .get("docs", std::slice::from_ref(&write.key))
            .await
            .unwrap()
            .remove(0);
        let (found, expect) = (found.unwrap(), write.to.as_ref().unwrap());
        assert_eq!(found.body.map().unwrap(), expect.map().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collections_that_cannot_be_are_told() {
    let Some(store) = emulator("").await else {
        return;
    };
    for name in ["", "a//b", "__x__", ".", "a/../b"] {
        let error = store.ensure(name, &KeyKind::Text).await.unwrap_err();
        assert_eq!(
            (error.kind, error.code),
            (StoreErrorKind::Terminal, Code::StoreShape),
            "{name}"
        );
        let error = store.scan(name, &KeyRange::all(), 1, 1).await.unwrap_err();
        assert_eq!(error.code, Code::StoreMissing, "{name}");
    }
    // A range's end that is no key here is no reason to read everything.
    fill(&store, "docs", &["a"]).await;
    for key in [
        Key::text("a/b"),
        Key::text(""),
        Key::Tuple(vec![Key::Int(1)]),
    ] {
        let range = KeyRange::all().resumed_after(Some(&key));
        let error = store.scan("docs", &range, 1, 1).await.unwrap_err();
        assert_eq!(error.code, Code::StoreFailed, "{key}");
    }
    let number = KeyRange::all().resumed_after(Some(&Key::Int(5)));
    assert_eq!(keys(&store, "docs", &number, 1).await, ["a"]);
}

/// Whole minutes, for databases with point-in-time recovery.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_of_a_whole_minute_are_of_the_past() {
    let Some(store) = emulator("&read_time=minute").await else {
        return;
    };
    fill(&store, "docs", &["a"]).await;
    let snapshot = store.snapshot().await.unwrap().unwrap();
    // The emulator may just have begun a minute.
    let found = snapshot
        .scan("docs", &KeyRange::all(), 9, 100)
        .await
        .unwrap();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    assert!(found.documents.is_empty() || now.as_secs() % 60 < 5);
}
