//! The tagged form of values that JSON has no type for.

use super::{base64, number};
use crate::{Decimal, GeoPoint, Timestamp, Value};

pub(super) const TIMESTAMP: &str = "timestamp";
pub(super) const BYTES: &str = "bytes";
pub(super) const REFERENCE: &str = "reference";
pub(super) const GEOPOINT: &str = "geopoint";
pub(super) const VECTOR: &str = "vector";
pub(super) const DOUBLE: &str = "double";
pub(super) const DECIMAL: &str = "decimal";

const ALL: [&str; 7] = [
    TIMESTAMP, BYTES, REFERENCE, GEOPOINT, VECTOR, DOUBLE, DECIMAL,
];

/// How many `$` a name of the form `$…$tag` begins with; 0 for any other name.
#[must_use]
pub(crate) fn dollars(name: &str) -> usize {
    if !name.starts_with('$') {
        return 0;
    }
    let rest = name.trim_start_matches('$');
    if ALL.contains(&rest) {
        name.len() - rest.len()
    } else {
        0
    }
}

/// What the only member of an object means.
pub(super) enum Single {
    /// The object is a tagged value.
    Tagged(Value),
    /// The object is a map of one member.
    Member(String, Value),
}

/// Undoes what the writer does to objects of one member.
pub(super) fn single(mut name: String, value: Value) -> Single {
    match dollars(&name) {
        0 => Single::Member(name, value),
        1 => match from_value(&name[1..], value) {
            Ok(tagged) => Single::Tagged(tagged),
            Err(value) => Single::Member(name, value),
        },
        _ => {
            name.remove(0);
            Single::Member(name, value)
        }
    }
}

/// The value that `tag` and its content stand for; the content again where it is not of the tag's form.
fn from_value(tag: &str, content: Value) -> Result<Value, Value> {
    let read = match &content {
        Value::String(text) => from_text(tag, text),
        Value::Array(items) => from_items(tag, items),
        _ => None,
    };
    read.ok_or(content)
}

pub(super) fn from_text(tag: &str, text: &str) -> Option<Value> {
    match tag {
        TIMESTAMP => read_timestamp(text).map(Value::Timestamp),
        BYTES => base64::decode(text.as_bytes()).map(Value::Bytes),
        REFERENCE => Some(Value::Reference(text.to_owned())),
        DOUBLE => read_double(text).map(Value::Double),
        DECIMAL => Decimal::new(text).map(Value::Decimal),
        _ => None,
    }
}

pub(super) fn from_items(tag: &str, items: &[Value]) -> Option<Value> {
    match (tag, items) {
        (GEOPOINT, [latitude, longitude]) => Some(Value::GeoPoint(GeoPoint {
            latitude: element(latitude)?,
            longitude: element(longitude)?,
        })),
        (VECTOR, _) => items
            .iter()
            .map(element)
            .collect::<Option<_>>()
            .map(Value::Vector),
        _ => None,
    }
}

/// Ints are taken where `f64` holds them exactly: other writers drop a fraction of zero.
fn element(value: &Value) -> Option<f64> {
    const EXACT: u64 = 1 << f64::MANTISSA_DIGITS;
    match value {
        Value::Double(double) => Some(*double),
        Value::Int(int) if int.unsigned_abs() <= EXACT => Some(*int as f64),
        _ => None,
    }
}

fn read_double(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => Decimal::new(text).and_then(|d| number::exact_double(d.as_str())),
    }
}

/// What `Timestamp`'s `Display` writes: RFC 3339, or `@SECONDS.NANOS` for far-off years.
fn read_timestamp(text: &str) -> Option<Timestamp> {
    let Some(far) = text.strip_prefix('@') else {
        return Timestamp::parse(text);
    };
    let (seconds, nanos) = far.split_once('.')?;
    if nanos.len() != 9 {
        return None;
    }
    let at = Timestamp::new(seconds.parse().ok()?, nanos.parse().ok()?)?;
    // One text an instant: no plus signs, no zeros in front.
    (at.to_string() == text).then_some(at)
}
