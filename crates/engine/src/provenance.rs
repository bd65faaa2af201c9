//! Which target documents came from which source: the target's own record.

use whimbrel_model::rule::CopyRule;
use whimbrel_model::{Body, Document, Key, Map, Store, Value};

/// The target collection that remembers which target documents came from which source document.
pub const PROVENANCE: &str = "_whimbrel_provenance";

/// Where a target document lies.
pub(crate) type Spot = (String, Key);

/// What the records of one copy rule are called: its own name, then the source's key.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    name: String,
    /// Whether names must do without slashes (where keys are ids on a path).
    escaped: bool,
}

/// Names of records without slashes are at most so long; the keys in longer ones are hashed.
const NAME_BYTES: usize = 1000;

impl Origin {
    pub(crate) fn new(target: &dyn Store, source: &str, rule: &CopyRule) -> Self {
        let name = format!("{source}/{}", rule.name);
        let escaped = target.held_key(PROVENANCE, &Key::text("a/b")).is_none();
        Self {
            name: if escaped { escape(&name) } else { name },
            escaped,
        }
    }

    /// What every name of the rule's records begins with.
    pub(crate) fn prefix(&self) -> String {
        format!("{}:", self.name)
    }

    /// The name of the record of one unit.
    pub(crate) fn of(&self, unit: &str) -> String {
        if !self.escaped {
            return format!("{}:{unit}", self.name);
        }
        let name = format!("{}:{}", self.name, escape(unit));
        if name.len() <= NAME_BYTES {
            return name;
        }
        let hash = blake3::hash(unit.as_bytes());
        // No escaped text holds a slash's escape without its digits.
        format!("{}:%#{}", self.name, hash.to_hex())
    }
}

/// Without slashes, and so that no two texts become the same.
fn escape(text: &str) -> String {
    text.replace('%', "%25").replace('/', "%2F")
}

/// One unit's record.
pub(crate) struct Provenance {
    pub document: Document,
    pub spots: Vec<Spot>,
}

const COLLECTION: &str = "collection";
const KEY: &str = "key";

pub(crate) fn provenance_body(spots: &[Spot]) -> Body {
    let targets = spots
        .iter()
        .map(|(collection, key)| {
            let key = serde_json::to_string(key).unwrap_or_default();
            // Not every store holds lists directly in lists.
            Value::Map(Map::from_iter([
                (COLLECTION.to_owned(), Value::String(collection.clone())),
                (KEY.to_owned(), Value::String(key)),
            ]))
        })
        .collect();
    Body::Map(Map::from_iter([(
        "targets".to_owned(),
        Value::Array(targets),
    )]))
}

pub(crate) fn read_provenance(body: &Body) -> Option<Vec<Spot>> {
    let map = body.map().ok()?;
    let Some(Value::Array(targets)) = map.get("targets") else {
        return None;
    };
    targets
        .iter()
        .map(|target| {
            let (collection, key) = match target {
                Value::Map(map) => (map.get(COLLECTION)?, map.get(KEY)?),
                // As earlier versions wrote it.
                Value::Array(pair) => (pair.first()?, pair.get(1)?),
                _ => return None,
            };
            match (collection, key) {
                (Value::String(collection), Value::String(key)) => {
                    Some((collection.clone(), serde_json::from_str(key).ok()?))
                }
                _ => None,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn records_are_read_in_both_forms() {
        let spots = vec![
            ("messages".to_owned(), Key::text("a/b")),
            (
                "others".to_owned(),
                Key::Tuple(vec![Key::Int(1), Key::text("x")]),
            ),
        ];
        assert_eq!(
            read_provenance(&provenance_body(&spots)),
            Some(spots.clone())
        );
        let earlier = r#"{"targets":[["messages","\"a/b\""],["others","[1,\"x\"]"]]}"#;
        let earlier = Body::from_json(earlier.as_bytes().to_vec());
        assert_eq!(read_provenance(&earlier), Some(spots));
        for damaged in [
            r#"{"targets":[["messages"]]}"#,
            r#"{"targets":[{"collection":"c"}]}"#,
            r#"{"targets":[["c","no JSON"]]}"#,
            r#"{"targets":[1]}"#,
            r#"{"targets":{}}"#,
            "[]",
        ] {
            let body = Body::from_json(damaged.as_bytes().to_vec());
            assert_eq!(read_provenance(&body), None, "{damaged}");
        }
    }

    #[test]
    fn names_without_slashes_stay_apart() {
        let origin = |escaped| Origin {
            name: if escaped {
                escape("users/posts/%")
            } else {
                "users/posts/%".to_owned()
            },
            escaped,
        };
        assert_eq!(origin(false).of("a/b%"), "users/posts/%:a/b%");
        let long = "x".repeat(5000);
        let units = [
            "a/b",
            "a%2Fb",
            "a%b",
            "a%25b",
            "",
            "group:a",
            long.as_str(),
            &long[1..],
        ];
        let names: BTreeSet<String> = units.iter().map(|unit| origin(true).of(unit)).collect();
        assert_eq!(names.len(), units.len());
        for name in names {
            assert!(!name.contains('/') && name.len() <= NAME_BYTES, "{name}");
            assert!(name.starts_with(&origin(true).prefix()), "{name}");
        }
    }
}
