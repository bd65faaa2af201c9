//! A draft does what the same operations do to a map.

mod common;

use bytes::Bytes;
use proptest::prelude::*;
use whimbrel_model::draft::MemberRef;
use whimbrel_model::json::{self, JsonErrorKind};
use whimbrel_model::{Body, Draft, Map, Value};

#[derive(Clone, Debug)]
enum Op {
    Get(String),
    GetMut(String, Value),
    Set(String, Value),
    SetJson(String, Value),
    Insert(usize, String, Value),
    Take(String),
    Remove(String),
    Rename(String, String),
    Copy(String, String),
    ReadAll,
}

fn op() -> impl Strategy<Value = Op> {
    let name = || prop_oneof![4 => "[a-c]{0,1}", 1 => common::name()];
    prop_oneof![
        name().prop_map(Op::Get),
        (name(), common::value()).prop_map(|(n, v)| Op::GetMut(n, v)),
        (name(), common::value()).prop_map(|(n, v)| Op::Set(n, v)),
        (name(), common::value()).prop_map(|(n, v)| Op::SetJson(n, v)),
        (0usize..6, name(), common::value()).prop_map(|(at, n, v)| Op::Insert(at, n, v)),
        name().prop_map(Op::Take),
        name().prop_map(Op::Remove),
        (name(), name()).prop_map(|(a, b)| Op::Rename(a, b)),
        (name(), name()).prop_map(|(a, b)| Op::Copy(a, b)),
        Just(Op::ReadAll),
    ]
}

fn written(value: &Value) -> Bytes {
    let mut out = Vec::new();
    json::write(value, &mut out);
    out.into()
}

/// The same operation on both; they must answer alike.
fn apply(op: &Op, draft: &mut Draft, map: &mut Map) {
    match op {
        Op::Get(name) => assert_eq!(draft.get(name).unwrap(), map.get(name)),
        Op::GetMut(name, value) => {
            if let Some(place) = draft.get_mut(name).unwrap() {
                *place = value.clone();
            }
            if let Some(place) = map.get_mut(name) {
                *place = value.clone();
            }
        }
        Op::Set(name, value) => {
            draft.set(name, value.clone());
            map.insert(name.clone(), value.clone());
        }
        Op::SetJson(name, value) => {
            draft.set_json(name, written(value));
            map.insert(name.clone(), value.clone());
        }
        Op::Insert(at, name, value) => {
            draft.insert(*at, name, value.clone());
            match map.get_mut(name) {
                Some(place) => *place = value.clone(),
                None => {
                    map.shift_insert((*at).min(map.len()), name.clone(), value.clone());
                }
            }
        }
        Op::Take(name) => assert_eq!(draft.take(name).unwrap(), map.shift_remove(name)),
        Op::Remove(name) => assert_eq!(draft.remove(name), map.shift_remove(name).is_some()),
        Op::Rename(from, to) => {
            assert_eq!(draft.rename(from, to), map.contains_key(from));
            if from != to && map.contains_key(from) {
                map.shift_remove(to);
                let at = map.get_index_of(from).unwrap();
                let value = map.shift_remove(from).unwrap();
                map.shift_insert(at, to.clone(), value);
            }
        }
        Op::Copy(from, to) => {
            assert_eq!(draft.copy(from, to), map.contains_key(from));
            if let Some(value) = map.get(from).cloned() {
                map.insert(to.clone(), value);
            }
        }
        Op::ReadAll => draft.read_all().unwrap(),
    }
}

fn check_same(draft: &Draft, map: &Map) {
    assert_eq!(draft.len(), map.len());
    assert_eq!(draft.is_empty(), map.is_empty());
    assert!(draft.names().eq(map.keys()));
    for (i, (name, value)) in map.iter().enumerate() {
        assert!(draft.contains(name));
        assert_eq!(draft.position(name), Some(i));
        let (shown, content) = draft.member_at(i).unwrap();
        assert_eq!(shown, name);
        match content {
            MemberRef::Json(bytes) => {
                assert_eq!(draft.raw(name), Some(bytes));
                assert_eq!(json::parse(bytes).unwrap(), *value);
            }
            MemberRef::Value(held) => assert_eq!(held, value),
        }
        if let Some(bytes) = draft.raw_at(i) {
            assert_eq!(json::parse(bytes).unwrap(), *value);
        }
    }
    assert!(draft.member_at(map.len()).is_none() && draft.raw_at(map.len()).is_none());
    assert_eq!(draft.fingerprint().unwrap(), json::fingerprint_map(map));
    let mut out = Vec::new();
    draft.write(&mut out);
    assert_eq!(json::parse(&out).unwrap(), Value::Map(map.clone()));
}

proptest! {
    #[test]
    fn every_operation_is_the_maps(
        start in common::map(),
        from_text in any::<bool>(),
        ops in prop::collection::vec(op(), 0..12),
    ) {
        let mut map = start.clone();
        let mut draft = if from_text {
            let text = written(&Value::Map(start));
            let draft = Draft::from_json(text.clone()).unwrap();
            prop_assert!(!draft.is_changed());
            let Body::Json(same) = draft.clone().into_body() else { panic!("bytes stay bytes") };
            prop_assert_eq!(same, text);
            draft
        } else {
            Draft::from_map(start)
        };
        check_same(&draft, &map);
        for op in &ops {
            apply(op, &mut draft, &mut map);
            check_same(&draft, &map);
        }
        let Value::Map(written) = json::parse(&draft.clone().into_body().into_json()).unwrap() else {
            panic!("a draft is a map");
        };
        prop_assert!(written.iter().eq(map.iter()));
        prop_assert!(draft.into_map().unwrap().iter().eq(map.iter()));
    }
}

#[test]
fn untouched_members_keep_their_bytes() {
    let text = "{ \"a\" : 1.50 , \"\\u0062\":[ 1 ],\"c\": {\"x\":\"\\ud800\"}, \"d\":1e2 }";
    let draft = Draft::from_json(text.into()).unwrap();
    assert_eq!(draft.clone().into_body().into_json(), text);

    let mut changed = draft.clone();
    assert!(changed.rename("a", "e"));
    assert_eq!(changed.get("d").unwrap(), Some(&Value::Double(100.0)));
    assert!(changed.copy("b", "f"));
    changed.set("g", Value::Null);
    assert_eq!(
        changed.clone().into_body().into_json(),
        r#"{"e":1.50,"b":[ 1 ],"c":{"x":"\ud800"},"d":1e2,"f":[ 1 ],"g":null}"#
    );
    let error = changed.get("c").unwrap_err();
    assert_eq!(error.kind, JsonErrorKind::LoneSurrogate);
    // In the text that the draft was cut from.
    assert_eq!(error.at, text.find("\\ud800").unwrap());
    assert!(changed.contains("c"));
    assert!(changed.take("c").is_err());
    assert!(changed.remove("c"));
    assert!(changed.fingerprint().is_ok());
}

#[test]
fn what_is_no_document_is_refused() {
    let check = |text: &str, kind: JsonErrorKind, at: usize| {
        let error = Draft::from_json(Bytes::copy_from_slice(text.as_bytes())).unwrap_err();
        assert_eq!((error.kind, error.at), (kind, at), "{text}");
    };
    check("[]", JsonErrorKind::NotObject, 0);
    check(
        r#"{"$timestamp":"2026-01-31T08:00:00Z"}"#,
        JsonErrorKind::NotObject,
        0,
    );
    check(r#"{"a":1,"b\udc00":2}"#, JsonErrorKind::LoneSurrogate, 9);
    check(r#"{"a":1"#, JsonErrorKind::Malformed, 6);
    check(r#"{"a":{"b":1,"b":2}}"#, JsonErrorKind::DuplicateKey, 13);
}

#[test]
fn a_lone_member_named_like_a_tag_is_a_member() {
    let check = |text: &str, name: &str, after: &str| {
        let mut draft = Draft::from_json(Bytes::copy_from_slice(text.as_bytes())).unwrap();
        assert_eq!(draft.names().collect::<Vec<_>>(), [name], "{text}");
        draft.set("x", Value::Int(1));
        assert!(draft.remove("x"));
        assert_eq!(draft.into_body().into_json(), after, "{text}");
    };
    check(
        r#"{"$timestamp":"soon"}"#,
        "$timestamp",
        r#"{"$$timestamp":"soon"}"#,
    );
    check(r#"{"$$bytes":"AAAA"}"#, "$bytes", r#"{"$$bytes":"AAAA"}"#);
    check(
        r#"{"\u0024$bytes":"AAAA"}"#,
        "$bytes",
        r#"{"$$bytes":"AAAA"}"#,
    );
    check(r#"{"$$$double":1}"#, "$$double", r#"{"$$$double":1}"#);
    check(r#"{"$other":1}"#, "$other", r#"{"$other":1}"#);
}
