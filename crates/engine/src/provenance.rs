//! Which target documents came from which source: the target's own record.

use whimbrel_model::{Body, Document, Key, Map, Value};

/// The target collection that remembers which target documents came from which source document.
pub const PROVENANCE: &str = "_whimbrel_provenance";

/// Where a target document lies.
pub(crate) type Spot = (String, Key);

/// One unit's record.
pub(crate) struct Provenance {
    pub document: Document,
    pub spots: Vec<Spot>,
}

pub(crate) fn provenance_body(spots: &[Spot]) -> Body {
    let targets = spots
        .iter()
        .map(|(collection, key)| {
            let key = serde_json::to_string(key).unwrap_or_default();
            Value::Array(vec![Value::String(collection.clone()), Value::String(key)])
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
        .map(|target| match target {
            Value::Array(pair) => match pair.as_slice() {
                [Value::String(collection), Value::String(key)] => {
                    Some((collection.clone(), serde_json::from_str(key).ok()?))
                }
                _ => None,
            },
            _ => None,
        })
        .collect()
}
