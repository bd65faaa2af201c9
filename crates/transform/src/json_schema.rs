//! JSON Schema over documents (draft 7, 2020-12 and what lies between), and what a change of schema means.
//!
//! A document is judged in its plain JSON form: an instant is its RFC 3339 text, bytes are base64 text, a
//! reference is its path, a geo point a map of latitude and longitude, a vector an array, NaN and the
//! infinities are null. Numbers are judged as what they are, however many digits they have: nothing is
//! rounded to a double first. `format` is checked in draft 7 and only an annotation in 2020-12, as the
//! drafts say. A schema cannot refer to other files or to the network.

mod compare;
mod node;
mod numbers;
#[cfg(test)]
mod suite;
#[cfg(test)]
mod tests;

pub use compare::compare_json_schemas;

use crate::LoadError;
use crate::table::hash_text;
use jsonschema::paths::LocationSegment;
use jsonschema::{ValidationError, Validator};
use node::{Document, Node};
use whimbrel_model::transform::Validate;
use whimbrel_model::{Code, DocContext, DocError, Draft, Value, json};

/// A compiled JSON Schema.
pub struct JsonSchema {
    parsed: serde_json::Value,
    validator: Validator<Document>,
    checksum: String,
}

impl JsonSchema {
    /// # Errors
    /// The text is no JSON, or no JSON Schema, or refers to something outside of itself.
    pub fn load(file: &str, text: &str) -> Result<Self, LoadError> {
        let error = |message: String| LoadError::new(Code::SchemaInvalid, file, message);
        let exact = json::parse(text.as_bytes())
            .map_err(|e| error(format!("the JSON Schema is no JSON: {e}")).at_byte(text, e.at))?;
        if holds_inexact(&exact) {
            let message =
                "the JSON Schema holds a number with more digits than it can be compared by";
            return Err(error(message.to_owned()));
        }
        let parsed = serde_json::from_str(text)
            .map_err(|e| error(format!("the JSON Schema cannot be read: {e}")))?;
        Self::compile(parsed, numbers::exact(jsonschema::options_for()))
            .map_err(|e| error(format!("this is no usable JSON Schema: {e}")))
    }

    fn compile(
        parsed: serde_json::Value,
        options: jsonschema::ValidationOptions<
            '_,
            std::sync::Arc<dyn jsonschema::Retrieve>,
            Document,
        >,
    ) -> Result<Self, Box<ValidationError<'static>>> {
        let validator = options.build(&parsed)?;
        let mut hasher = blake3::Hasher::new();
        hash_json(&parsed, &mut hasher);
        Ok(Self {
            parsed,
            validator,
            checksum: hasher.finalize().to_hex().to_string(),
        })
    }

    #[must_use]
    pub fn parsed(&self) -> &serde_json::Value {
        &self.parsed
    }
}

impl Validate for JsonSchema {
    fn validate(&self, doc: &mut Draft, _cx: &DocContext<'_>) -> Result<(), DocError> {
        doc.read_all()?;
        self.validator
            .validate(Node::Draft(doc))
            .map_err(|error| doc_error(&error))
    }

    fn checksum(&self) -> String {
        self.checksum.clone()
    }
}

/// Names the place and the keyword; the values stay out.
fn doc_error(error: &ValidationError<'_>) -> DocError {
    use jsonschema::error::ValidationErrorKind as Kind;
    use std::fmt::Write;
    let mut message = format!(
        "the document violates the JSON Schema's {:?}",
        error.kind().keyword()
    );
    if let Kind::Required { property } = error.kind() {
        // The name comes from the schema.
        let _ = write!(message, " ({property} is missing)");
    }
    if let Kind::Type { kind } = error.kind() {
        let names: Vec<_> = match kind {
            jsonschema::error::TypeKind::Single(one) => vec![one.to_string()],
            jsonschema::error::TypeKind::Multiple(many) => {
                many.iter().map(|one| one.to_string()).collect()
            }
        };
        let _ = write!(message, " ({} is needed)", names.join(" or "));
    }
    let _ = write!(message, " at {:?}", error.schema_path().as_str());
    let mut path = String::new();
    for segment in error.instance_path().segments() {
        match segment {
            LocationSegment::Index(index) => {
                let _ = write!(path, "[{index}]");
            }
            LocationSegment::Property(name) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&name);
            }
        }
    }
    let failed = DocError::new(Code::DocInvalid, message);
    if path.is_empty() {
        failed
    } else {
        failed.at(path)
    }
}

fn holds_inexact(value: &Value) -> bool {
    match value {
        Value::Decimal(decimal) => decimal.as_str().parse::<u64>().is_err(),
        Value::Array(items) => items.iter().any(holds_inexact),
        Value::Map(map) => map.values().any(holds_inexact),
        _ => false,
    }
}

/// Feeds a hash with a JSON value; the order of keys does not count.
fn hash_json(value: &serde_json::Value, hasher: &mut blake3::Hasher) {
    match value {
        serde_json::Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(name, _)| name.as_str());
            hash_text(b'{', &entries.len().to_string(), hasher);
            for (name, value) in entries {
                hash_text(b'k', name, hasher);
                hash_json(value, hasher);
            }
        }
        serde_json::Value::Array(items) => {
            hash_text(b'[', &items.len().to_string(), hasher);
            for item in items {
                hash_json(item, hasher);
            }
        }
        serde_json::Value::String(text) => hash_text(b's', text, hasher),
        other => hash_text(b'o', &other.to_string(), hasher),
    }
}
