//! Values of the protocol and Whimbrel's own, both ways.

use crate::name::is_document_path;
use crate::v1::value::ValueType;
use crate::v1::{self, ArrayValue, MapValue};
use crate::{DatabaseName, Fields};
use hidane_proto::google::r#type::LatLng;
use whimbrel_model::{GeoPoint, Map, Timestamp, Value};

/// A Whimbrel value that Firestore has no type for, or that it refuses. Never holds the value itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}")]
pub struct Unholdable {
    pub path: String,
    pub why: &'static str,
}

/// References into `database` become paths below its root (`users/alice`), so that a document means the same
/// wherever it is carried; references into other databases stay as they are.
pub fn localize(fields: &mut Fields, database: &DatabaseName) {
    each_reference(fields.values_mut(), &mut |name| {
        if let Some(path) = database.relative(name) {
            *name = path.to_owned();
        }
    });
}

/// The inverse of [`localize`]: paths become references into `database`.
pub fn globalize(fields: &mut Fields, database: &DatabaseName) {
    each_reference(fields.values_mut(), &mut |name| {
        if is_document_path(name) {
            *name = database.document(name);
        }
    });
}

/// Calls `change` with every reference's name in the values, however deep. For values that stand
/// alone (of a filter, a cursor), take `std::iter::once`.
pub fn each_reference<'a>(
    values: impl Iterator<Item = &'a mut v1::Value>,
    change: &mut impl FnMut(&mut String),
) {
    for value in values {
        match &mut value.value_type {
            Some(ValueType::ReferenceValue(name)) => change(name),
            Some(ValueType::ArrayValue(array)) => {
                each_nested(array.values.iter_mut(), change);
            }
            Some(ValueType::MapValue(map)) => each_nested(map.fields.values_mut(), change),
            _ => {}
        }
    }
}

/// Type-erased, or the recursion would be a type of its own at each depth.
fn each_nested<'a>(
    mut values: impl Iterator<Item = &'a mut v1::Value>,
    change: &mut impl FnMut(&mut String),
) {
    let values: &mut dyn Iterator<Item = &'a mut v1::Value> = &mut values;
    each_reference(values, change);
}

#[must_use]
pub fn to_model(fields: &Fields) -> Map {
    fields
        .iter()
        .map(|(name, value)| (name.clone(), value_to_model(value)))
        .collect()
}

fn value_to_model(value: &v1::Value) -> Value {
    match &value.value_type {
        Some(ValueType::BooleanValue(b)) => Value::Bool(*b),
        Some(ValueType::IntegerValue(i)) => Value::Int(*i),
        Some(ValueType::DoubleValue(d)) => Value::Double(*d),
        Some(ValueType::TimestampValue(at)) => u32::try_from(at.nanos)
            .ok()
            .and_then(|nanos| Timestamp::new(at.seconds, nanos))
            .map_or(Value::Null, Value::Timestamp),
        Some(ValueType::StringValue(s)) => Value::String(s.clone()),
        Some(ValueType::BytesValue(b)) => Value::Bytes(b.to_vec()),
        Some(ValueType::ReferenceValue(name)) => Value::Reference(name.clone()),
        Some(ValueType::GeoPointValue(p)) => Value::GeoPoint(GeoPoint {
            latitude: p.latitude,
            longitude: p.longitude,
        }),
        Some(ValueType::ArrayValue(array)) => {
            Value::Array(array.values.iter().map(value_to_model).collect())
        }
        Some(ValueType::MapValue(map)) => {
            vector(map).map_or_else(|| Value::Map(to_model(&map.fields)), Value::Vector)
        }
        // Expressions of pipelines are no data; no document holds one.
        None
        | Some(
            ValueType::NullValue(_)
            | ValueType::FieldReferenceValue(_)
            | ValueType::VariableReferenceValue(_)
            | ValueType::FunctionValue(_)
            | ValueType::PipelineValue(_),
        ) => Value::Null,
    }
}

const TYPE: &str = "__type__";
const VECTOR: &str = "__vector__";
const ELEMENTS: &str = "value";

/// The elements of a map that stands for a vector of doubles and nothing else. Its entries come in either order:
/// clients write protobuf maps as they please.
fn vector(map: &MapValue) -> Option<Vec<f64>> {
    if map.fields.len() != 2 {
        return None;
    }
    let Some(ValueType::StringValue(kind)) = &map.fields.get(TYPE)?.value_type else {
        return None;
    };
    let Some(ValueType::ArrayValue(array)) = &map.fields.get(ELEMENTS)?.value_type else {
        return None;
    };
    if kind != VECTOR {
        return None;
    }
    array
        .values
        .iter()
        .map(|value| match value.value_type {
            Some(ValueType::DoubleValue(d)) => Some(d),
            _ => None,
        })
        .collect()
}

/// How a number that is neither a 64-bit integer nor a double is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decimals {
    /// It is an error: the value would change.
    Refuse,
    /// As the nearest double: for reading what others wrote as plain JSON.
    Nearest,
}

/// # Errors
/// A value that Firestore cannot hold, with its path.
pub fn from_model(map: &Map, decimals: Decimals) -> Result<Fields, Unholdable> {
    let mut fields = Fields::with_capacity(map.len());
    for (name, value) in map {
        let value = value_from_model(value, decimals).map_err(|e| e.below(name))?;
        fields.insert(name.clone(), value);
    }
    Ok(fields)
}

impl Unholdable {
    fn new(why: &'static str) -> Self {
        Self {
            path: String::new(),
            why,
        }
    }

    fn below(mut self, part: &str) -> Self {
        self.path = if self.path.is_empty() || self.path.starts_with('[') {
            format!("{part}{}", self.path)
        } else {
            format!("{part}.{}", self.path)
        };
        self
    }
}

fn value_from_model(value: &Value, decimals: Decimals) -> Result<v1::Value, Unholdable> {
    let kind = match value {
        Value::Null => ValueType::NullValue(0),
        Value::Bool(b) => ValueType::BooleanValue(*b),
        Value::Int(i) => ValueType::IntegerValue(*i),
        Value::Double(d) => ValueType::DoubleValue(*d),
        Value::Decimal(decimal) => match (decimals, decimal.as_str().parse()) {
            (Decimals::Nearest, Ok(nearest)) => ValueType::DoubleValue(nearest),
            _ => {
                return Err(Unholdable::new(
                    "a number with more digits than a double has",
                ));
            }
        },
        Value::Timestamp(at) => ValueType::TimestampValue(prost_types::Timestamp {
            seconds: at.seconds(),
            nanos: i32::try_from(at.nanos()).unwrap_or(0),
        }),
        Value::String(s) => ValueType::StringValue(s.clone()),
        Value::Bytes(b) => ValueType::BytesValue(b.clone()),
        Value::Reference(name) => ValueType::ReferenceValue(name.clone()),
        Value::GeoPoint(p) => ValueType::GeoPointValue(LatLng {
            latitude: p.latitude,
            longitude: p.longitude,
        }),
        Value::Vector(elements) => {
            let mut fields = Fields::with_capacity(2);
            fields.insert(
                TYPE.to_owned(),
                of(ValueType::StringValue(VECTOR.to_owned())),
            );
            let values = elements
                .iter()
                .map(|d| of(ValueType::DoubleValue(*d)))
                .collect();
            fields.insert(
                ELEMENTS.to_owned(),
                of(ValueType::ArrayValue(ArrayValue { values })),
            );
            ValueType::MapValue(MapValue { fields })
        }
        Value::Array(items) => {
            let mut values = Vec::with_capacity(items.len());
            for (i, item) in items.iter().enumerate() {
                let value =
                    value_from_model(item, decimals).map_err(|e| e.below(&format!("[{i}]")))?;
                values.push(value);
            }
            ValueType::ArrayValue(ArrayValue { values })
        }
        Value::Map(map) => ValueType::MapValue(MapValue {
            fields: from_model(map, decimals)?,
        }),
    };
    Ok(of(kind))
}

fn of(kind: ValueType) -> v1::Value {
    v1::Value {
        value_type: Some(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(name: &str) -> v1::Value {
        of(ValueType::ReferenceValue(name.to_owned()))
    }

    fn everywhere(name: &str) -> Fields {
        let map = MapValue {
            fields: [("in".to_owned(), reference(name))].into(),
        };
        let values = vec![reference(name), of(ValueType::MapValue(map.clone()))];
        [
            ("top".to_owned(), reference(name)),
            ("map".to_owned(), of(ValueType::MapValue(map))),
            (
                "array".to_owned(),
                of(ValueType::ArrayValue(ArrayValue { values })),
            ),
            (
                "text".to_owned(),
                of(ValueType::StringValue("users/alice".to_owned())),
            ),
        ]
        .into()
    }

    #[test]
    fn a_vector_is_one_in_whatever_order_its_entries_come() {
        let kind = of(ValueType::StringValue(VECTOR.to_owned()));
        let values = of(ValueType::ArrayValue(ArrayValue {
            values: vec![of(ValueType::DoubleValue(1.5))],
        }));
        let mut entries = [
            (ELEMENTS.to_owned(), values),
            (TYPE.to_owned(), kind),
            ("more".to_owned(), of(ValueType::NullValue(0))),
        ];
        let value = |entries: &[(String, v1::Value)]| {
            let fields = entries.iter().cloned().collect();
            value_to_model(&of(ValueType::MapValue(MapValue { fields })))
        };
        assert_eq!(value(&entries[..2]), Value::Vector(vec![1.5]));
        assert!(matches!(value(&entries), Value::Map(_)));
        entries.swap(0, 1);
        assert_eq!(value(&entries[..2]), Value::Vector(vec![1.5]));
    }

    #[test]
    fn references_into_the_own_database_are_paths_outside_of_it() {
        let own = DatabaseName {
            project: "p".to_owned(),
            database: "(default)".to_owned(),
        };
        for (name, local) in [
            (
                "projects/p/databases/(default)/documents/users/alice",
                "users/alice",
            ),
            // Names that look like databases' are paths where they have the length of one.
            (
                "projects/p/databases/(default)/documents/projects/q/databases/d/documents/x",
                "projects/q/databases/d/documents/x",
            ),
            (
                "projects/p/databases/other/documents/users/alice",
                "projects/p/databases/other/documents/users/alice",
            ),
            (
                "projects/q/databases/(default)/documents/users/alice",
                "projects/q/databases/(default)/documents/users/alice",
            ),
        ] {
            let mut fields = everywhere(name);
            localize(&mut fields, &own);
            assert_eq!(fields, everywhere(local));
            globalize(&mut fields, &own);
            assert_eq!(fields, everywhere(name));
        }
        // What is no document's name is nobody's to change.
        for name in [
            "",
            "users",
            "a//b",
            "/a/b/",
            "projects/p/databases/(default)/documents",
        ] {
            let mut fields = everywhere(name);
            localize(&mut fields, &own);
            globalize(&mut fields, &own);
            assert_eq!(fields, everywhere(name), "{name}");
        }
    }
}
