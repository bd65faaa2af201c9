//! Documents as stores give and take them.

use crate::json::{self, JsonError};
use crate::{Fingerprint, Key, Map, Value};
use bytes::Bytes;
use std::borrow::Cow;

/// A document's fields, either as the bytes that its store keeps (tagged JSON, see [`crate::json`]) or
/// as values. Bytes that nobody looks into are never parsed: they may even be malformed.
#[derive(Clone, Debug)]
pub enum Body {
    /// Tagged JSON, unchecked.
    Json(Bytes),
    Map(Map),
}

impl Body {
    #[must_use]
    pub fn from_json(bytes: impl Into<Bytes>) -> Self {
        Body::Json(bytes.into())
    }

    /// The body as tagged JSON. Bytes that came from a store are returned as they are, unchecked.
    #[must_use]
    pub fn json(&self) -> Cow<'_, [u8]> {
        match self {
            Body::Json(bytes) => Cow::Borrowed(bytes),
            Body::Map(map) => {
                let mut out = Vec::new();
                json::write_map(map, &mut out);
                Cow::Owned(out)
            }
        }
    }

    #[must_use]
    pub fn into_json(self) -> Bytes {
        match self {
            Body::Json(bytes) => bytes,
            Body::Map(map) => {
                let mut out = Vec::new();
                json::write_map(&map, &mut out);
                out.into()
            }
        }
    }

    /// # Errors
    /// The bytes are not one JSON object that values can hold.
    pub fn map(&self) -> Result<Cow<'_, Map>, JsonError> {
        match self {
            Body::Map(map) => Ok(Cow::Borrowed(map)),
            Body::Json(bytes) => match json::parse(bytes)? {
                Value::Map(map) => Ok(Cow::Owned(map)),
                _ => Err(JsonError::not_object()),
            },
        }
    }

    /// The hash of the body's meaning, whichever form it is in.
    ///
    /// # Errors
    /// The bytes are not one JSON object that values can hold.
    pub fn fingerprint(&self) -> Result<Fingerprint, JsonError> {
        match self {
            Body::Json(bytes) => json::fingerprint(bytes),
            Body::Map(map) => Ok(json::fingerprint_map(map)),
        }
    }

    /// Whether both are spelled alike but for space and the order of members, which is quickly told. They mean the
    /// same then (or are broken alike); where they are not, their fingerprints tell.
    #[must_use]
    pub fn is_spelled_like(&self, other: &Self) -> bool {
        match (self, other) {
            // An empty body is how stores give back a row that is none.
            (Body::Json(a), Body::Json(b)) => !a.is_empty() && (a == b || json::surely_same(a, b)),
            _ => false,
        }
    }

    /// About how many bytes the body takes.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Body::Json(bytes) => bytes.len(),
            Body::Map(map) => {
                map.iter()
                    .map(|(k, v)| k.len() + 4 + rough_size(v))
                    .sum::<usize>()
                    + 2
            }
        }
    }
}

fn rough_size(value: &Value) -> usize {
    match value {
        Value::String(s) | Value::Reference(s) => s.len() + 2,
        Value::Bytes(b) => b.len() * 4 / 3 + 14,
        Value::Decimal(d) => d.as_str().len(),
        Value::Vector(v) => v.len() * 12,
        Value::Array(items) => items.iter().map(rough_size).sum::<usize>() + items.len() + 2,
        Value::Map(map) => {
            map.iter()
                .map(|(k, v)| k.len() + 4 + rough_size(v))
                .sum::<usize>()
                + 2
        }
        _ => 10,
    }
}

/// What a store says of one document's state: opaque bytes, equal only while nothing wrote the
/// document. Compare them; never read them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revision(pub Vec<u8>);

#[derive(Clone, Debug)]
pub struct Document {
    pub key: Key,
    pub body: Body,
    pub revision: Revision,
}

/// One intended write. Writes of one batch may go to several collections.
#[derive(Clone, Debug)]
pub struct Write {
    pub collection: String,
    pub key: Key,
    /// The whole document as it shall be; `None` deletes it.
    pub to: Option<Body>,
    pub guard: Guard,
}

/// The condition under which a write may happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    Any,
    /// Only if no document has the key.
    Absent,
    /// Only if the document still is as it was when this revision was read.
    Unchanged(Revision),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    Applied,
    /// The guard did not hold: somebody else wrote. Nothing was written.
    Lost,
    /// The store cannot hold this document. Nothing was written.
    Refused(Refusal),
}

/// Why a store cannot hold a document. `message` names fields and limits, never a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub message: String,
}
