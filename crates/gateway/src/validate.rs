//! What a document may hold.

use crate::names;
use crate::status::invalid;
use tonic::Status;
use whimbrel_firestore::Fields;
use whimbrel_firestore::core::field_path::FieldPath;
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_firestore::v1::{MapValue, Value};

/// Bytes of a text or of bytes.
const VALUE_BYTES: usize = 1_048_487;
/// Bytes of a field's name.
const NAME_BYTES: usize = 1500;
/// Maps and arrays inside each other.
const DEPTH: usize = 20;
/// Elements of a vector.
const DIMENSIONS: usize = 2048;

/// Firestore's years: 0001 to 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

const TYPE: &str = "__type__";
const VECTOR: &str = "__vector__";
const VECTOR_VALUES: &str = "value";

/// Maps with one such key stand for values of types that the protocol has no message for. They are kept as they are.
const CARRIERS: [&str; 8] = [
    "__oid__",
    "__min__",
    "__max__",
    "__int__",
    "__decimal128__",
    "__binary__",
    REGEX,
    "__request_timestamp__",
];

const REGEX: &str = "__regex__";
const REGEX_OPTIONS: &str = "imsux";

/// Checks the fields of a document that a request wants written.
///
/// # Errors
/// INVALID_ARGUMENT, in Firestore's words where they are known.
pub fn fields(fields: &Fields) -> Result<(), Status> {
    for (name, value) in fields {
        if is_reserved(name) {
            return Err(invalid(format!("field name {name} is reserved")));
        }
        field_name(name)?;
        check(value, name, 0, false)?;
    }
    Ok(())
}

/// Checks an element that is put into an array.
///
/// # Errors
/// As [`fields`].
pub fn element(value: &Value) -> Result<(), Status> {
    check(value, "array", 1, true)
}

/// Names of the form `__…__` are Firestore's own.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    name.len() > 4 && name.starts_with("__") && name.ends_with("__")
}

/// A path of a mask or a transform, none of whose names is reserved.
///
/// # Errors
/// INVALID_ARGUMENT.
pub fn writable_path(path: &str) -> Result<FieldPath, Status> {
    let parsed = FieldPath::parse(path).map_err(invalid)?;
    if parsed.segments().iter().any(|name| is_reserved(name)) {
        return Err(invalid(format!(
            "Invalid reserved name in field path {path}"
        )));
    }
    Ok(parsed)
}

/// The paths of a mask that says what is returned.
///
/// # Errors
/// INVALID_ARGUMENT.
pub fn read_mask(paths: &[String]) -> Result<Vec<FieldPath>, Status> {
    paths
        .iter()
        .map(|path| FieldPath::parse(path).map_err(invalid))
        .collect()
}

fn field_name(name: &str) -> Result<(), Status> {
    if name.is_empty() {
        return Err(invalid("The property.name is the empty string."));
    }
    if name.len() > NAME_BYTES {
        return Err(invalid(format!(
            "The property.name is longer than {NAME_BYTES} bytes."
        )));
    }
    Ok(())
}

/// `depth` is how many maps and arrays are around the value; `field` names the outermost.
fn check(value: &Value, field: &str, depth: usize, in_array: bool) -> Result<(), Status> {
    match &value.value_type {
        None
        | Some(
            ValueType::FieldReferenceValue(_)
            | ValueType::VariableReferenceValue(_)
            | ValueType::FunctionValue(_)
            | ValueType::PipelineValue(_),
        ) => Err(invalid(
            "Cannot convert firestore.v1.Value with type unset.",
        )),
        Some(
            ValueType::NullValue(_)
            | ValueType::BooleanValue(_)
            | ValueType::IntegerValue(_)
            | ValueType::DoubleValue(_),
        ) => Ok(()),
        Some(ValueType::TimestampValue(at)) => {
            if SECONDS.contains(&at.seconds) && (0..1_000_000_000).contains(&at.nanos) {
                Ok(())
            } else {
                Err(invalid(format!(
                    "The timestamp of property \"{field}\" is not between the years 0001 and 9999."
                )))
            }
        }
        Some(ValueType::StringValue(text)) => short_enough(text.len(), field),
        Some(ValueType::BytesValue(bytes)) => short_enough(bytes.len(), field),
        // What is wrong with the name would show it, and it is a value.
        Some(ValueType::ReferenceValue(name)) => names::document(name).map(|_| ()).map_err(|_| {
            invalid(format!(
                "Property \"{field}\" holds a reference that is not the name of a document."
            ))
        }),
        Some(ValueType::GeoPointValue(point)) => {
            within("latitude", point.latitude, 90.0)?;
            within("longitude", point.longitude, 180.0)
        }
        Some(ValueType::ArrayValue(array)) => {
            if in_array {
                return Err(invalid("Nested arrays are not allowed"));
            }
            deep_enough(depth + 1, field)?;
            array
                .values
                .iter()
                .try_for_each(|value| check(value, field, depth + 1, true))
        }
        Some(ValueType::MapValue(map)) => {
            deep_enough(depth + 1, field)?;
            check_map(map, field, depth + 1)
        }
    }
}

fn check_map(map: &MapValue, field: &str, depth: usize) -> Result<(), Status> {
    if let Some(kind) = map.fields.get(TYPE) {
        return match &kind.value_type {
            Some(ValueType::StringValue(kind)) if kind == VECTOR => vector(map),
            Some(ValueType::StringValue(_)) => Err(too_deep(field)),
            _ => Err(invalid("Field __type__ must be a string.")),
        };
    }
    let carries = map.fields.len() == 1
        && map
            .fields
            .keys()
            .all(|name| CARRIERS.contains(&name.as_str()));
    for (name, value) in &map.fields {
        if !carries && is_reserved(name) {
            return Err(invalid(format!("field name '{name}' is reserved.")));
        }
        field_name(name)?;
        check(value, field, depth, false)?;
        if name == REGEX {
            regex_options(value)?;
        }
    }
    Ok(())
}

/// Options of a regular expression are letters of a fixed set; what else a carrier holds is not looked into.
fn regex_options(regex: &Value) -> Result<(), Status> {
    let Some(ValueType::MapValue(parts)) = &regex.value_type else {
        return Ok(());
    };
    let options = parts
        .fields
        .get("options")
        .and_then(|options| options.value_type.as_ref());
    match options {
        Some(ValueType::StringValue(options))
            if options
                .chars()
                .any(|option| !REGEX_OPTIONS.contains(option)) =>
        {
            Err(invalid(format!(
                "Invalid regex option. Supported options are: '{REGEX_OPTIONS}'"
            )))
        }
        _ => Ok(()),
    }
}

fn vector(map: &MapValue) -> Result<(), Status> {
    let Some(values) = map.fields.get(VECTOR_VALUES) else {
        return Err(invalid("Vector map is missing key 'value'."));
    };
    let Some(ValueType::ArrayValue(array)) = &values.value_type else {
        return Err(invalid("Vector value type must be an array."));
    };
    if map.fields.len() > 2 {
        return Err(invalid("Vector value map has extraneous entries."));
    }
    if array.values.is_empty() {
        return Err(invalid("Cannot have a zero length vector."));
    }
    if array.values.len() > DIMENSIONS {
        return Err(invalid(format!(
            "Vectors must be at most {DIMENSIONS} dimensions."
        )));
    }
    for value in &array.values {
        match value.value_type {
            Some(ValueType::DoubleValue(d)) if d.is_nan() => {
                return Err(invalid("Vector cannot contain NaN values."));
            }
            Some(ValueType::DoubleValue(_)) => {}
            _ => {
                return Err(invalid("Vector must only contain values of type 'double'"));
            }
        }
    }
    Ok(())
}

fn short_enough(bytes: usize, field: &str) -> Result<(), Status> {
    if bytes <= VALUE_BYTES {
        return Ok(());
    }
    Err(invalid(format!(
        "The value of property \"{field}\" is longer than {VALUE_BYTES} bytes."
    )))
}

fn deep_enough(depth: usize, field: &str) -> Result<(), Status> {
    if depth <= DEPTH {
        return Ok(());
    }
    Err(too_deep(field))
}

fn too_deep(field: &str) -> Status {
    invalid(format!(
        "Property {field} contains an invalid nested entity."
    ))
}

/// Says which coordinate, not its value: errors hold no values.
fn within(what: &str, degrees: f64, limit: f64) -> Result<(), Status> {
    if (-limit..=limit).contains(&degrees) {
        return Ok(());
    }
    Err(invalid(format!(
        "Geo point {what} outside permitted range -{limit:.1} to {limit:.1}."
    )))
}

/// Checks what a document became by a masked update or by transforms: its depth. (Its parts were checked.)
///
/// # Errors
/// INVALID_ARGUMENT.
pub fn depth(fields: &Fields) -> Result<(), Status> {
    fields
        .iter()
        .try_for_each(|(name, value)| value_depth(value, name, 0))
}

fn value_depth(value: &Value, field: &str, depth: usize) -> Result<(), Status> {
    match &value.value_type {
        Some(ValueType::ArrayValue(array)) => {
            deep_enough(depth + 1, field)?;
            array
                .values
                .iter()
                .try_for_each(|value| value_depth(value, field, depth + 1))
        }
        Some(ValueType::MapValue(map)) => {
            deep_enough(depth + 1, field)?;
            map.fields
                .values()
                .try_for_each(|value| value_depth(value, field, depth + 1))
        }
        _ => Ok(()),
    }
}

/// Whether two documents are the same to the bit, whatever the order of their fields: NaN is itself, −0 is not 0,
/// 1 is not 1.0.
#[must_use]
pub fn identical(a: &Fields, b: &Fields) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|((name, value), (other_name, other))| {
            if name == other_name {
                identical_values(value, other)
            } else {
                b.get(name)
                    .is_some_and(|other| identical_values(value, other))
            }
        })
}

fn identical_values(a: &Value, b: &Value) -> bool {
    match (&a.value_type, &b.value_type) {
        (Some(ValueType::DoubleValue(a)), Some(ValueType::DoubleValue(b))) => {
            a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
        }
        (Some(ValueType::GeoPointValue(a)), Some(ValueType::GeoPointValue(b))) => {
            a.latitude.to_bits() == b.latitude.to_bits()
                && a.longitude.to_bits() == b.longitude.to_bits()
        }
        (Some(ValueType::ArrayValue(a)), Some(ValueType::ArrayValue(b))) => {
            a.values.len() == b.values.len()
                && a.values
                    .iter()
                    .zip(&b.values)
                    .all(|(a, b)| identical_values(a, b))
        }
        (Some(ValueType::MapValue(a)), Some(ValueType::MapValue(b))) => {
            identical(&a.fields, &b.fields)
        }
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::Timestamp;
    use whimbrel_firestore::v1::ArrayValue;

    fn of(kind: ValueType) -> Value {
        Value {
            value_type: Some(kind),
        }
    }

    fn map(entries: Vec<(&str, Value)>) -> Value {
        of(ValueType::MapValue(MapValue {
            fields: named(entries),
        }))
    }

    fn array(values: Vec<Value>) -> Value {
        of(ValueType::ArrayValue(ArrayValue { values }))
    }

    fn text(text: &str) -> Value {
        of(ValueType::StringValue(text.to_owned()))
    }

    fn double(d: f64) -> Value {
        of(ValueType::DoubleValue(d))
    }

    fn named(entries: Vec<(&str, Value)>) -> Fields {
        entries
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    fn nested(levels: usize) -> Value {
        (0..levels).fold(text("x"), |inner, i| {
            if i % 2 == 0 {
                map(vec![("m", inner)])
            } else {
                array(vec![inner])
            }
        })
    }

    fn vector(values: Vec<Value>) -> Value {
        map(vec![("__type__", text(VECTOR)), ("value", array(values))])
    }

    fn regex(options: &str) -> Value {
        let parts = vec![("pattern", text("^a")), ("options", text(options))];
        map(vec![("__regex__", map(parts))])
    }

    #[test]
    fn what_may_be_held() {
        let long = "x".repeat(VALUE_BYTES + 1);
        let reference = |name: &str| of(ValueType::ReferenceValue(name.to_owned()));
        let time = |seconds, nanos| of(ValueType::TimestampValue(Timestamp { seconds, nanos }));
        for (value, problem) in [
            (text("x"), None),
            (nested(20), None),
            (nested(21), Some("invalid nested entity")),
            (array(vec![array(vec![])]), Some("Nested arrays")),
            (array(vec![map(vec![("a", array(vec![]))])]), None),
            (Value { value_type: None }, Some("type unset")),
            (text(&long), Some("longer than")),
            (map(vec![("", text("x"))]), Some("empty string")),
            (map(vec![("__a__", text("x"))]), Some("reserved")),
            (map(vec![("____", text("x"))]), None),
            (map(vec![("__oid__", text("x"))]), None),
            (
                map(vec![("__oid__", text("x")), ("a", text("x"))]),
                Some("reserved"),
            ),
            (regex("imsux"), None),
            (regex("il"), Some("Invalid regex option")),
            (map(vec![("__regex__", text("l"))]), None),
            (vector(vec![double(1.0)]), None),
            (vector(vec![]), Some("zero length")),
            (vector(vec![double(f64::NAN)]), Some("NaN")),
            (vector(vec![text("x")]), Some("'double'")),
            (vector(vec![double(0.0); 2049]), Some("2048")),
            (map(vec![("__type__", double(1.0))]), Some("string")),
            (reference("users/alice"), Some("holds a reference")),
            (reference("projects/p/databases/d/documents/a/1"), None),
            (time(0, 1_000_000_000), Some("timestamp")),
            (time(253_402_300_800, 0), Some("timestamp")),
            (time(-62_135_596_800, 0), None),
        ] {
            let outcome = fields(&named(vec![("f", value)]));
            match (outcome, problem) {
                (Ok(()), None) => {}
                (Err(error), Some(problem)) => {
                    assert!(error.message().contains(problem), "{error}");
                }
                (outcome, problem) => panic!("{outcome:?}, wanted {problem:?}"),
            }
        }
        assert!(fields(&named(vec![("__a__", text("x"))])).is_err());
        assert!(fields(&named(vec![(&"n".repeat(1501), text("x"))])).is_err());
        assert!(element(&array(vec![])).is_err());
        assert!(element(&nested(19)).is_ok());
        assert!(element(&nested(20)).is_err());
    }

    #[test]
    fn the_same_to_the_bit() {
        let fields = |value| named(vec![("a", value), ("b", text("x"))]);
        let same = |a: Value, b: Value| identical(&fields(a), &fields(b));
        assert!(same(double(f64::NAN), double(-f64::NAN)));
        assert!(!same(double(0.0), double(-0.0)));
        assert!(!same(double(1.0), of(ValueType::IntegerValue(1))));
        assert!(same(array(vec![double(1.5)]), array(vec![double(1.5)])));
        assert!(!same(array(vec![]), array(vec![double(1.5)])));
        let reordered = named(vec![("b", text("x")), ("a", text("y"))]);
        assert!(identical(&fields(text("y")), &reordered));
        assert!(!identical(&fields(text("z")), &reordered));
        assert!(!identical(&fields(text("y")), &named(vec![])));
    }
}
