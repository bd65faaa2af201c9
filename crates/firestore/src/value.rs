//! Values of the protocol and Whimbrel's own, both ways.

use crate::Fields;
use crate::v1::value::ValueType;
use crate::v1::{self, ArrayValue, MapValue};
use hidane_proto::google::r#type::LatLng;
use whimbrel_model::{GeoPoint, Map, Timestamp, Value};

/// A Whimbrel value that Firestore has no type for, or that it refuses. Never holds the value itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}")]
pub struct Unholdable {
    pub path: String,
    pub why: &'static str,
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

/// The elements of a map that stands for a vector of doubles and nothing else: such a map comes back exactly.
fn vector(map: &MapValue) -> Option<Vec<f64>> {
    let mut entries = map.fields.iter();
    let (first, second) = (entries.next()?, entries.next()?);
    if entries.next().is_some() || first.0 != TYPE || second.0 != ELEMENTS {
        return None;
    }
    let Some(ValueType::StringValue(kind)) = &first.1.value_type else {
        return None;
    };
    let Some(ValueType::ArrayValue(array)) = &second.1.value_type else {
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
