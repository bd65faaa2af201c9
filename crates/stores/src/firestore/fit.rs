//! What Firestore can hold: found out before anything is sent, so that one document that it would refuse
//! spoils no batch, and that nothing is changed on the way.

use super::names;
use whimbrel_firestore::name::is_document_path;
use whimbrel_firestore::value::{self, Decimals};
use whimbrel_firestore::{DatabaseName, Fields, size};
use whimbrel_model::{GeoPoint, Map, Timestamp, Value};

/// Maps and arrays within each other.
const DEPTH: usize = 20;
/// Bytes of a field's name, and of the names on the way to it.
const FIELD_BYTES: usize = 1500;
/// Bytes of one text, or of one value of bytes.
const VALUE_BYTES: usize = 1_048_487;
const DIMENSIONS: usize = 2048;

/// The first and the last second that a timestamp can be of: the years 1 to 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// Names that newer SDKs give to the only field of a map that stands for a value of another type.
const TYPES: [&str; 8] = [
    "__oid__",
    "__min__",
    "__max__",
    "__int__",
    "__decimal128__",
    "__binary__",
    "__regex__",
    "__request_timestamp__",
];

/// The document as it is sent, with references into its own database.
///
/// # Errors
/// Why Firestore cannot hold it, with the field's name and never a value.
pub(super) fn document(path: &str, map: &Map, database: &DatabaseName) -> Result<Fields, String> {
    if let Some(why) = names::too_long(database, path) {
        return Err(why);
    }
    let mut place = Place::default();
    fields(map, &mut place, 0)?;
    let mut fields = value::from_model(map, Decimals::Refuse)
        .map_err(|unholdable| format!("field {:?}: {}", unholdable.path, unholdable.why))?;
    value::globalize(&mut fields, database);
    let bytes = size::document(path, &fields);
    if bytes > size::DOCUMENT_BYTES {
        return Err(format!(
            "the document has {bytes} bytes as Firestore reckons; the most is 1 MiB"
        ));
    }
    Ok(fields)
}

/// The names on the way to a value.
#[derive(Default)]
struct Place {
    path: String,
}

impl Place {
    fn within<T>(&mut self, name: &str, look: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.path.len();
        if before > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        let found = look(self);
        self.path.truncate(before);
        found
    }

    fn refuse(&self, why: &str) -> Result<(), String> {
        let shown: String = self.path.chars().take(200).collect();
        Err(format!("field {shown:?}: {why}"))
    }
}

fn fields(map: &Map, place: &mut Place, depth: usize) -> Result<(), String> {
    let stands_for_a_type = |name: &str| depth > 0 && map.len() == 1 && TYPES.contains(&name);
    for (name, value) in map {
        place.within(name, |place| {
            if name.is_empty() {
                return place.refuse("a field's name must not be empty");
            }
            if name.len() > FIELD_BYTES || place.path.len() > FIELD_BYTES {
                return place.refuse("its name has more than 1,500 bytes");
            }
            let reserved = name.len() > 4 && name.starts_with("__") && name.ends_with("__");
            if reserved && !stands_for_a_type(name) {
                return place.refuse("names that begin and end with __ are reserved");
            }
            one(value, place, depth, false)
        })?;
    }
    Ok(())
}

fn one(value: &Value, place: &mut Place, depth: usize, in_array: bool) -> Result<(), String> {
    match value {
        Value::Array(_) if in_array => place.refuse("an array directly in an array"),
        Value::Array(_) | Value::Map(_) if depth >= DEPTH => {
            place.refuse("maps and arrays are nested more than 20 deep")
        }
        Value::Array(items) => items
            .iter()
            .try_for_each(|item| one(item, place, depth + 1, true)),
        Value::Map(map) => fields(map, place, depth + 1),
        Value::Timestamp(at) => timestamp(*at, place),
        Value::String(text) if text.len() > VALUE_BYTES => {
            place.refuse("a text of more than 1,048,487 bytes")
        }
        Value::Bytes(bytes) if bytes.len() > VALUE_BYTES => {
            place.refuse("a value of more than 1,048,487 bytes")
        }
        Value::GeoPoint(GeoPoint {
            latitude,
            longitude,
        }) if !((-90.0..=90.0).contains(latitude) && (-180.0..=180.0).contains(longitude)) => {
            place.refuse("a geo point that is not on the globe")
        }
        Value::Vector(elements) => vector(elements, place),
        Value::Reference(name) if !is_reference(name) => {
            place.refuse("a reference that is no document's path")
        }
        _ => Ok(()),
    }
}

fn timestamp(at: Timestamp, place: &Place) -> Result<(), String> {
    if !SECONDS.contains(&at.seconds()) {
        return place.refuse("an instant outside the years 1 to 9999");
    }
    if !at.nanos().is_multiple_of(1000) {
        return place.refuse("an instant finer than a microsecond would be cut off");
    }
    Ok(())
}

fn vector(elements: &[f64], place: &Place) -> Result<(), String> {
    if elements.is_empty() || elements.len() > DIMENSIONS {
        return place.refuse("a vector has 1 to 2,048 dimensions");
    }
    if elements.iter().any(|element| element.is_nan()) {
        return place.refuse("a vector with an element that is not a number");
    }
    Ok(())
}

/// A path in the own database, or a full name in another.
fn is_reference(name: &str) -> bool {
    let path = match DatabaseName::split(name) {
        Some((_, rest)) if !is_document_path(name) => match rest.strip_prefix("documents/") {
            Some(path) => path,
            None => return false,
        },
        _ => name,
    };
    let mut ids = path.split('/');
    let mut sound = is_document_path(path);
    while let (Some(collection), Some(document)) = (ids.next(), ids.next()) {
        sound &= names::Collection::new(collection)
            .is_some_and(|c| c.path_of(&whimbrel_model::Key::text(document)).is_ok());
    }
    sound
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_firestore::value::to_model;
    use whimbrel_model::{Decimal, json};

    fn database() -> DatabaseName {
        DatabaseName {
            project: "p".to_owned(),
            database: "d".to_owned(),
        }
    }

    fn map(text: &str) -> Map {
        match json::parse(text.as_bytes()).unwrap() {
            Value::Map(map) => map,
            other => panic!("{other:?}"),
        }
    }

    fn holding(value: Value) -> Map {
        [("v".to_owned(), value)].into_iter().collect()
    }

    fn nested(levels: usize) -> Map {
        (1..levels).fold(Map::new(), |inner, _| holding(Value::Map(inner)))
    }

    #[test]
    fn what_firestore_cannot_hold_is_refused_with_its_field() {
        let vector = |n| holding(Value::Vector(vec![1.0; n]));
        let time =
            |seconds, nanos| holding(Value::Timestamp(Timestamp::new(seconds, nanos).unwrap()));
        for (map, field, word) in [
            (map(r#"{"":1}"#), "", "empty"),
            (map(r#"{"a":{"":1}}"#), "a.", "empty"),
            (map(r#"{"__x__":1}"#), "__x__", "reserved"),
            (map(r#"{"__oid__":"x"}"#), "__oid__", "reserved"),
            (
                map(r#"{"a":{"__oid__":"x","b":1}}"#),
                "a.__oid__",
                "reserved",
            ),
            (
                map(r#"{"a":[{"__type__":"__vector__","value":[1.5]}]}"#),
                "a.__type__",
                "reserved",
            ),
            (map(r#"{"a":[[1]]}"#), "a", "array"),
            (map(r#"{"a":{"$reference":"users"}}"#), "a", "reference"),
            (map(r#"{"a":{"$reference":"users/.."}}"#), "a", "reference"),
            (
                map(r#"{"a":{"$reference":"projects/p/databases/d/documents"}}"#),
                "a",
                "reference",
            ),
            (
                holding(Value::Decimal(
                    Decimal::new("0.1234567890123456789").unwrap(),
                )),
                "v",
                "digits",
            ),
            (time(0, 1), "v", "microsecond"),
            (time(253_402_300_800, 0), "v", "years"),
            (time(-62_135_596_801, 0), "v", "years"),
            (vector(0), "v", "dimensions"),
            (vector(2049), "v", "dimensions"),
            (holding(Value::Vector(vec![f64::NAN])), "v", "number"),
            (
                holding(Value::GeoPoint(GeoPoint {
                    latitude: f64::NAN,
                    longitude: 0.0,
                })),
                "v",
                "globe",
            ),
            (holding(Value::String("x".repeat(1_048_488))), "v", "bytes"),
            (
                holding(Value::Map(holding(Value::Array(vec![Value::Map(nested(
                    19,
                ))])))),
                "v.v",
                "deep",
            ),
        ] {
            let why = document("a/1", &map, &database()).unwrap_err();
            assert!(why.contains(word), "{why}");
            assert!(why.starts_with(&format!("field \"{field}")), "{why}");
        }
        let large = [
            ("a".to_owned(), Value::Bytes(vec![0; 600_000])),
            ("b".to_owned(), Value::Bytes(vec![0; 600_000])),
        ];
        let why = document("a/1", &large.into_iter().collect(), &database()).unwrap_err();
        assert!(why.contains("1 MiB"), "{why}");
        let deep = "x".repeat(1400);
        let path = format!("a/{deep}/b/{deep}/c/{deep}/d/{deep}/e/{deep}");
        let why = document(&path, &Map::new(), &database()).unwrap_err();
        assert!(why.contains("6 KiB"), "{why}");
    }

    #[test]
    fn what_is_held_comes_back_as_it_was() {
        for one in [
            map(r#"{"____":1,"a.b":2,"`":3,"x":{"y":[{"z":[1]}]}}"#),
            map(r#"{"a":{"__int__":5},"b":[{"__min__":null}]}"#),
            map(
                r#"{"a":{"$reference":"users/alice"},"b":{"$reference":"projects/q/databases/d/documents/a/1"}}"#,
            ),
            holding(Value::Timestamp(
                Timestamp::new(-62_135_596_800, 1000).unwrap(),
            )),
            holding(Value::Vector(vec![-0.0, f64::MAX, f64::INFINITY])),
            holding(Value::Double(f64::NAN)),
            nested(21),
        ] {
            let mut fields = document("a/1", &one, &database()).unwrap();
            value::localize(&mut fields, &database());
            assert_eq!(to_model(&fields), one);
        }
    }
}
