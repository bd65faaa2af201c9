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
