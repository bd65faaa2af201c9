//! JSON texts that others collected: Nicolas Seriot's parsing suite and the big list of naughty strings.

use std::path::{Path, PathBuf};
use whimbrel_model::json::{self, JsonErrorKind};
use whimbrel_model::{Map, Value};

fn data(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data")
        .join(path);
    if path.exists() {
        return Some(path);
    }
    println!("NOT TESTED: {} is not there", path.display());
    None
}

/// Valid JSON that no document can be.
const REFUSED: [(&str, JsonErrorKind); 2] = [
    ("y_object_duplicated_key.json", JsonErrorKind::DuplicateKey),
    (
        "y_object_duplicated_key_and_value.json",
        JsonErrorKind::DuplicateKey,
    ),
];

#[test]
fn the_parsing_suite() {
    let Some(dir) = data("json-test-suite/test_parsing") else {
        return;
    };
    let (mut accepted, mut rejected) = (0, 0);
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let bytes = std::fs::read(entry.path()).unwrap();
        let scanned = json::scan(&bytes);
        let parsed = json::parse(&bytes);
        let refused = REFUSED.iter().find(|(file, _)| *file == name);
        match (name.as_bytes()[0], refused) {
            (b'y', Some((_, kind))) => {
                assert_eq!(scanned.unwrap_err().kind, *kind, "{name}");
                assert_eq!(parsed.unwrap_err().kind, *kind, "{name}");
            }
            (b'y', None) => {
                accepted += 1;
                assert!(scanned.is_ok(), "{name}: {scanned:?}");
                let value = parsed.unwrap_or_else(|e| panic!("{name}: {e}"));
                let mut again = Vec::new();
                json::write(&value, &mut again);
                assert_eq!(json::parse(&again).unwrap(), value, "{name}");
            }
            (b'n', _) => {
                rejected += 1;
                assert!(scanned.is_err(), "{name}");
                assert!(parsed.is_err(), "{name}");
                assert!(json::split(&bytes).is_err(), "{name}");
                assert!(json::fingerprint(&bytes).is_err(), "{name}");
            }
            // Implementations may differ; the readings of this one may not.
            _ => {
                let lone = matches!(&scanned, Ok(facts) if facts.lone_surrogate);
                assert_eq!(parsed.is_ok(), scanned.is_ok() && !lone, "{name}");
                let _ = json::split(&bytes);
                let _ = json::fingerprint(&bytes);
            }
        }
    }
    assert!(accepted > 90 && rejected > 180, "{accepted} {rejected}");
}

#[test]
fn naughty_strings_as_names_and_values() {
    let Some(file) = data("blns/blns.json") else {
        return;
    };
    let bytes = std::fs::read(file).unwrap();
    let Value::Array(strings) = json::parse(&bytes).unwrap() else {
        panic!("the list is an array");
    };
    let peer: Vec<String> = serde_json::from_slice(&bytes).unwrap();
    assert!(peer.len() > 400);
    let mut all = Map::new();
    for (ours, theirs) in strings.iter().zip(&peer) {
        assert_eq!(ours, &Value::String(theirs.clone()));
        let one = Map::from_iter([(theirs.clone(), ours.clone())]);
        check(&one);
        all.insert(theirs.clone(), ours.clone());
    }
    check(&all);
}

fn check(map: &Map) {
    let mut out = Vec::new();
    json::write_map(map, &mut out);
    assert_eq!(json::parse(&out).unwrap(), Value::Map(map.clone()));
    assert_eq!(json::fingerprint(&out).unwrap(), json::fingerprint_map(map));
    let peer: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&out).unwrap();
    assert_eq!(peer.len(), map.len());
    for (name, value) in map {
        let Value::String(text) = value else {
            panic!("only texts here");
        };
        assert_eq!(peer[name], *text);
    }
    let members = json::split(&out).unwrap();
    for (member, name) in members.iter().zip(map.keys()) {
        let inside = &out[member.name.start as usize..member.name.end as usize];
        assert_eq!(&json::unescape(inside).unwrap(), name);
    }
}
