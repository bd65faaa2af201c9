//! Documents as people may see them: types and sizes by default, values where they were asked for.

use crate::paint::{clip, harmless};
use whimbrel_model::{Body, Map, Value, json};

/// One value in a word or two: `string(23)`, `array(4)`, `int`; with `show`, the value itself.
#[must_use]
pub fn describe(value: &Value, show: bool, width: usize) -> String {
    if let (Value::Timestamp(at), true) = (value, show) {
        return format!("timestamp {at}");
    }
    if show {
        let mut out = Vec::new();
        json::write(value, &mut out);
        return clip(&harmless(&String::from_utf8_lossy(&out)), width);
    }
    match value {
        Value::String(text) => format!("string({})", text.chars().count()),
        Value::Bytes(bytes) => format!("bytes({})", bytes.len()),
        Value::Vector(items) => format!("vector({})", items.len()),
        Value::Array(items) => format!("array({})", items.len()),
        Value::Map(map) => format!("map({})", map.len()),
        other => other.type_name().to_owned(),
    }
}

/// A whole document, one field a line.
#[must_use]
pub fn tree(map: &Map, show: bool, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    fields(map, show, width, 1, &mut lines);
    lines
}

fn fields(map: &Map, show: bool, width: usize, depth: usize, lines: &mut Vec<String>) {
    for (name, value) in map {
        entry(&harmless(name), value, show, width, depth, lines);
    }
}

fn entry(
    name: &str,
    value: &Value,
    show: bool,
    width: usize,
    depth: usize,
    lines: &mut Vec<String>,
) {
    let indent = "  ".repeat(depth);
    let room = width.saturating_sub(indent.len() + name.len() + 2).max(20);
    match value {
        Value::Map(map) if !map.is_empty() => {
            lines.push(format!("{indent}{name}:"));
            fields(map, show, width, depth + 1, lines);
        }
        Value::Array(items) if items.iter().any(|i| matches!(i, Value::Map(_))) => {
            lines.push(format!("{indent}{name}: array({})", items.len()));
            for (i, item) in items.iter().enumerate() {
                entry(&format!("[{i}]"), item, show, width, depth + 1, lines);
            }
        }
        leaf => lines.push(format!("{indent}{name}: {}", describe(leaf, show, room))),
    }
}

/// One document for machines: its fields where values were asked for, else their types.
#[must_use]
pub fn to_json(body: &Body, show: bool) -> serde_json::Value {
    if show {
        // Machines get the tagged form: it loses nothing.
        return serde_json::from_slice(&body.json()).unwrap_or(serde_json::Value::Null);
    }
    match body.map() {
        Ok(map) => types(&Value::Map(map.into_owned())),
        Err(_) => serde_json::Value::Null,
    }
}

fn types(value: &Value) -> serde_json::Value {
    match value {
        Value::Map(map) => map.iter().map(|(k, v)| (k.clone(), types(v))).collect(),
        Value::Array(items) => serde_json::Value::Array(items.iter().map(types).collect()),
        leaf => serde_json::Value::String(describe(leaf, false, 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doc() -> Map {
        let inner: Map = [("secret-free".to_owned(), Value::Int(7))]
            .into_iter()
            .collect();
        [
            ("title".to_owned(), Value::String("hush".into())),
            ("inner".to_owned(), Value::Map(inner.clone())),
            (
                "items".to_owned(),
                Value::Array(vec![Value::Map(inner), Value::Null]),
            ),
        ]
        .into_iter()
        .collect()
    }

    #[test]
    fn values_are_hidden_unless_asked_for() {
        let hidden = tree(&doc(), false, 80).join("\n");
        assert_eq!(
            hidden,
            "  title: string(4)\n  inner:\n    secret-free: int\n  items: array(2)\n    [0]:\n      \
             secret-free: int\n    [1]: null"
        );
        assert!(tree(&doc(), true, 80)[0].contains("hush"));
        assert!(
            !to_json(&Body::Map(doc()), false)
                .to_string()
                .contains("hush")
        );
    }
}
