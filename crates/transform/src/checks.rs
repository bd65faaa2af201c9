//! `validate` of a version or a rule: a JSON Schema, or a few fields and their types.

use crate::JsonSchema;
use crate::table::{Table, hash_text};
use std::path::Path;
use whimbrel_model::check::{FieldTest, FieldTypes};
use whimbrel_model::rule::FieldPath;
use whimbrel_model::transform::Validate;
use whimbrel_model::{Code, DocContext, DocError, Draft};

/// What a `[validate]` table asks for. Reading it:
///
/// ```toml
/// [validate]
/// schema = "0002.schema.json"          # a file beside this one
/// required = ["a", "b.c"]              # fields that must be there (null counts as there)
/// types = { a = "string", b = "map|null" }   # types of fields, where they are there
/// ```
#[derive(Default)]
pub(crate) struct Checks {
    schema: Option<JsonSchema>,
    required: Vec<FieldPath>,
    types: Vec<(FieldPath, FieldTest)>,
}

impl Checks {
    /// `folder` is where the table's file lies.
    pub(crate) fn parse(table: &Table<'_, '_>, folder: &Path) -> Self {
        let schema = table
            .text("schema")
            .and_then(|name| schema(table, folder, name));
        let required = table.paths("required").unwrap_or_default();
        let types = table.table("types").map_or_else(Vec::new, |types| {
            types
                .all()
                .filter_map(|(path, names)| {
                    let span = names.span();
                    let Some(names) = names.get_ref().as_str() else {
                        table
                            .source
                            .error(span, "a type is a string, like \"string|null\"");
                        return None;
                    };
                    let path = table.source.path(span.clone(), path)?;
                    Some((path, FieldTest::Types(types_named(table, span, names)?)))
                })
                .collect()
        });
        table.finish();
        Self {
            schema,
            required,
            types,
        }
    }

    fn typed(&self) -> impl Iterator<Item = (&FieldPath, &FieldTypes)> {
        self.types.iter().filter_map(|(path, test)| match test {
            FieldTest::Types(types) => Some((path, types)),
            _ => None,
        })
    }

    /// The same as a JSON Schema, for the compatibility check. Where a JSON Schema was given it is that
    /// one; fields that are required besides are added to it.
    pub(crate) fn json_schema(&self) -> Option<serde_json::Value> {
        let mut schema = match &self.schema {
            Some(schema) => schema.parsed().clone(),
            None if self.required.is_empty() && self.types.is_empty() => return None,
            None => serde_json::json!({ "type": "object" }),
        };
        for path in &self.required {
            require(&mut schema, path.names());
        }
        for (path, types) in self.typed() {
            let types: Vec<_> = types
                .names()
                .iter()
                .filter_map(|name| json_type(name))
                .collect();
            give_type(&mut schema, path.names(), &types);
        }
        Some(schema)
    }
}

fn schema(table: &Table<'_, '_>, folder: &Path, name: &str) -> Option<JsonSchema> {
    let path = folder.join(name);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            table.error(
                "schema",
                format!("{} cannot be read: {error}", path.display()),
            );
            return None;
        }
    };
    match JsonSchema::load(&path.display().to_string(), &text) {
        Ok(schema) => Some(schema),
        Err(error) => {
            table.source.push([error]);
            None
        }
    }
}

fn types_named(
    table: &Table<'_, '_>,
    span: std::ops::Range<usize>,
    names: &str,
) -> Option<FieldTypes> {
    FieldTypes::parse(names)
        .map_err(|message| table.source.error(span, message))
        .ok()
}

/// A JSON Schema type that a type of ours is shown as.
fn json_type(name: &str) -> Option<&'static str> {
    Some(match name {
        "null" => "null",
        "bool" => "boolean",
        "int" => "integer",
        "double" | "decimal" | "number" => "number",
        "timestamp" | "string" | "bytes" | "reference" => "string",
        "vector" | "array" => "array",
        "geopoint" | "map" => "object",
        _ => return None,
    })
}

fn properties<'s>(
    schema: &'s mut serde_json::Value,
    name: &str,
) -> Option<&'s mut serde_json::Value> {
    let map = schema.as_object_mut()?;
    let properties = map
        .entry("properties")
        .or_insert_with(|| serde_json::json!({}))
        .as_object_mut()?;
    Some(
        properties
            .entry(name)
            .or_insert_with(|| serde_json::json!({})),
    )
}

fn require(schema: &mut serde_json::Value, names: &[String]) -> Option<()> {
    let (first, rest) = names.split_first()?;
    let required = schema
        .as_object_mut()?
        .entry("required")
        .or_insert_with(|| serde_json::json!([]))
        .as_array_mut()?;
    if !required.iter().any(|name| name == first.as_str()) {
        required.push(first.as_str().into());
    }
    if rest.is_empty() {
        return Some(());
    }
    require(properties(schema, first)?, rest)
}

fn give_type(schema: &mut serde_json::Value, names: &[String], types: &[&str]) -> Option<()> {
    let (first, rest) = names.split_first()?;
    let property = properties(schema, first)?;
    if rest.is_empty() {
        property
            .as_object_mut()?
            .entry("type")
            .or_insert_with(|| serde_json::json!(types));
        return Some(());
    }
    give_type(property, rest, types)
}

fn judge(doc: &mut Draft, path: &FieldPath, test: &FieldTest) -> Result<(), DocError> {
    test.judge(path.get(doc)?)
        .map_err(|message| DocError::new(Code::DocInvalid, message).at(path.to_string()))
}

impl Validate for Checks {
    fn validate(&self, doc: &mut Draft, cx: &DocContext<'_>) -> Result<(), DocError> {
        for path in &self.required {
            // A member of the document itself is found without being parsed.
            let there = matches!(path.names(), [name] if doc.contains(name));
            if !there {
                judge(doc, path, &FieldTest::Required)?;
            }
        }
        for (path, types) in &self.types {
            judge(doc, path, types)?;
        }
        match &self.schema {
            Some(schema) => schema.validate(doc, cx),
            None => Ok(()),
        }
    }

    fn checksum(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for path in &self.required {
            hash_text(b'r', &path.to_string(), &mut hasher);
        }
        for (path, types) in self.typed() {
            hash_text(b't', &path.to_string(), &mut hasher);
            hash_text(b'n', &types.names().join("|"), &mut hasher);
        }
        if let Some(schema) = &self.schema {
            hash_text(b's', &schema.checksum(), &mut hasher);
        }
        hasher.finalize().to_hex().to_string()
    }
}
