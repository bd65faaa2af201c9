use super::subject::{Subject, TYPED};
use super::values::kinds;
use whimbrel_model::{Body, Guard, Key, KeyKind, Map, Store, Value, Write, WriteOutcome};

/// Writes documents, and compares what they became with what was foretold. Which were refused, and why.
async fn check(store: &dyn Store, collection: &str, documents: &[(Key, Body)]) -> Vec<String> {
    let bodies: Vec<Body> = documents.iter().map(|(_, body)| body.clone()).collect();
    let keys: Vec<Key> = documents.iter().map(|(key, _)| key.clone()).collect();
    let held = store.held(collection, &keys, bodies).await.unwrap();
    assert_eq!(held.len(), documents.len());
    let writes: Vec<Write> = documents
        .iter()
        .map(|(key, body)| Write {
            collection: collection.to_owned(),
            key: key.clone(),
            to: Some(body.clone()),
            guard: Guard::Any,
        })
        .collect();
    let outcomes = store.write(&writes).await.unwrap();
    let mut refused = Vec::new();
    for (((key, body), held), outcome) in documents.iter().zip(held).zip(outcomes) {
        match outcome {
            WriteOutcome::Applied => {
                let keys = std::slice::from_ref(key);
                let found = store
                    .get(collection, keys)
                    .await
                    .unwrap()
                    .remove(0)
                    .unwrap();
                assert_eq!(
                    held.map().unwrap(),
                    found.body.map().unwrap(),
                    "{collection} {key}: {body:?}"
                );
                let prints = [&held, &found.body].map(|body| body.fingerprint().unwrap());
                assert_eq!(prints[0], prints[1], "{collection} {key}: {body:?}");
            }
            WriteOutcome::Refused(why) => refused.push(format!("{key}: {}", why.message)),
            WriteOutcome::Lost => panic!("{key}"),
        }
    }
    // A row that is there would keep what it has of the same value, however it is written.
    let deletions: Vec<Write> = writes
        .into_iter()
        .map(|w| Write { to: None, ..w })
        .collect();
    store.write(&deletions).await.unwrap();
    refused
}

fn json(map: &Map) -> Body {
    let mut json = Vec::new();
    whimbrel_model::json::write_map(map, &mut json);
    Body::from_json(json)
}

pub async fn fields_of_every_kind(subject: &Subject) {
    let collection = subject.text().await;
    let mut documents = Vec::new();
    for (name, value) in kinds() {
        let key = Key::text(name);
        let nested = Value::Array(vec![value.clone()]);
        let map = subject.fields(collection, &key, &[("v", value), ("nested", nested)]);
        let key_as_json = Key::text(format!("{name} as JSON"));
        let mut other = map.clone();
        if let Some(id) = other.get_mut("id") {
            *id = Value::String(key_as_json.to_string());
        }
        documents.push((key_as_json, json(&other)));
        documents.push((key, Body::Map(map)));
    }
    let mut without = subject.fields(collection, &Key::text("without"), &[]);
    without.shift_remove("n");
    documents.push((Key::text("without"), Body::Map(without)));
    let key = Key::text("numbers");
    let mut bytes = json(&subject.fields(collection, &key, &[]))
        .into_json()
        .to_vec();
    bytes.pop();
    bytes.extend(br#", "a": [1e2, 1e18, 2.50, -0, -0.0, 1E-7, 12345678901234567890123e1]}"#);
    documents.push((key, Body::from_json(bytes)));
    let unheld: Vec<String> = documents
        .iter()
        .map(|(key, _)| key.to_string())
        .filter(|key| subject.unheld.contains(&key.trim_end_matches(" as JSON")))
        .collect();
    let refused = |found: Vec<String>| -> Vec<String> {
        let keys = found.iter().filter_map(|why| why.split_once(':'));
        keys.map(|(key, _)| key.to_owned()).collect()
    };
    let found = check(&*subject.store, collection, &documents).await;
    assert_eq!(refused(found.clone()), unheld, "{found:?}");
    let (plain, _kept) = subject.plain().await;
    // Where collections are nothing without documents, this one is gone again.
    plain.ensure(collection, &KeyKind::Text).await.unwrap();
    let found = check(&*plain, collection, &documents).await;
    assert_eq!(refused(found), unheld, "plain");
}

pub async fn typed_columns(subject: &Subject) {
    if subject.typed.is_empty() {
        // This store has no columns.
        return;
    }
    let document = |key: &str, column: usize, value: &Value| {
        let key = Key::text(key);
        let mut map = Map::new();
        map.insert("id".to_owned(), Value::String(key.to_string()));
        map.insert(format!("c {column}"), value.clone());
        (key, Body::Map(map))
    };
    let mut documents = Vec::new();
    let mut any = Vec::new();
    for (column, (kind, values)) in subject.typed.iter().enumerate() {
        for (i, value) in values.iter().enumerate() {
            documents.push(document(&format!("{kind} {i}"), column, value));
        }
        for (name, value) in kinds() {
            any.push(document(&format!("{kind} {name}"), column, &value));
        }
    }
    let none: [String; 0] = [];
    assert_eq!(check(&*subject.store, TYPED, &documents).await, none);
    let refused = check(&*subject.store, TYPED, &any).await.len();
    assert!(0 < refused && refused < any.len());
    let (plain, _kept) = subject.plain().await;
    assert_eq!(check(&*plain, TYPED, &documents).await, none, "plain");
    assert!(check(&*plain, TYPED, &any).await.len() <= refused, "plain");
    what_is_refused_stays(subject).await;
}

/// Where documents hold their key, it comes back also in those that were written without it.
pub async fn keys_come_back(subject: &Subject) {
    let uuid = uuid::Uuid::from_u128(0xAB_CDEF);
    for key in [
        Key::text("a \"key\""),
        Key::Int(-7),
        Key::uuid(uuid),
        Key::Tuple(vec![Key::text("p"), Key::Int(3)]),
    ] {
        let Some(collection) = subject.collection(&key.kind()).await else {
            continue;
        };
        let with = subject.fields(collection, &key, &[("v", Value::Bool(true))]);
        let mut without = with.clone();
        without.retain(|name, _| !name.starts_with("id"));
        let none: [String; 0] = [];
        for map in [with, without] {
            let documents = [(key.clone(), json(&map)), (key.clone(), Body::Map(map))];
            for document in documents {
                assert_eq!(check(&*subject.store, collection, &[document]).await, none);
            }
        }
    }
}

/// What cannot be held comes back as it is, and spoils nothing beside it.
async fn what_is_refused_stays(subject: &Subject) {
    let bodies = [Body::from_json("[1]"), Body::from_json("{")];
    let keys = [Key::text("a"), Key::text("b")];
    let held = subject
        .store
        .held(TYPED, &keys, bodies.to_vec())
        .await
        .unwrap();
    for (body, held) in bodies.iter().zip(held) {
        assert_eq!(body.json(), held.json());
    }
    let key = Key::text("strange");
    let mut documents = Vec::new();
    for column in 0..=subject.typed.len() {
        let fields = [
            ("id", key.to_string()),
            (&format!("c {column}"), "no such value".into()),
        ];
        let fields = fields.map(|(name, text)| (name.to_owned(), Value::String(text)));
        documents.push((key.clone(), Body::Map(fields.into_iter().collect())));
    }
    let (keys, bodies): (Vec<Key>, Vec<Body>) = documents.iter().cloned().unzip();
    let held = subject.store.held(TYPED, &keys, bodies).await.unwrap();
    let mut refused = 0;
    for (document, held) in documents.iter().zip(held) {
        let why = check(&*subject.store, TYPED, std::slice::from_ref(document)).await;
        if !why.is_empty() {
            refused += 1;
            assert_eq!(held.map().unwrap(), document.1.map().unwrap());
        }
    }
    assert!(refused > 0, "one field has no column");
}
