//! How large Firestore reckons a document: not its bytes on the wire, but by a rule of its own
//! (<https://firebase.google.com/docs/firestore/storage-size>).

use crate::Fields;
use crate::v1::{self, value::ValueType};

/// The most that a document may have, reckoned by [`document`].
pub const DOCUMENT_BYTES: usize = 1 << 20;

/// Each document costs so much besides its name and fields.
const DOCUMENT: usize = 32;
/// Each name of a document costs so much besides its ids.
const NAME: usize = 16;

/// The size of a document at a path below the root (`a/1/b/2`).
#[must_use]
pub fn document(path: &str, fields: &Fields) -> usize {
    name(path) + self::fields(fields) + DOCUMENT
}

fn name(path: &str) -> usize {
    path.split('/').map(text).sum::<usize>() + NAME
}

fn fields(fields: &Fields) -> usize {
    fields
        .iter()
        .map(|(name, field)| text(name) + value(field))
        .sum()
}

fn text(text: &str) -> usize {
    text.len() + 1
}

/// The size of one value.
#[must_use]
pub fn value(value: &v1::Value) -> usize {
    match &value.value_type {
        None | Some(ValueType::NullValue(_) | ValueType::BooleanValue(_)) => 1,
        Some(
            ValueType::IntegerValue(_) | ValueType::DoubleValue(_) | ValueType::TimestampValue(_),
        ) => 8,
        Some(ValueType::GeoPointValue(_)) => 16,
        Some(ValueType::StringValue(s)) => text(s),
        Some(ValueType::BytesValue(b)) => b.len(),
        Some(ValueType::ReferenceValue(full)) => name(
            full.split_once("/documents/")
                .map_or(full.as_str(), |(_, path)| path),
        ),
        Some(ValueType::ArrayValue(array)) => array.values.iter().map(self::value).sum(),
        Some(ValueType::MapValue(map)) => fields(&map.fields),
        // Expressions of pipelines are no data.
        Some(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Google's page: a document `users/jeff/tasks/my_task_id` of 147 bytes.
    #[test]
    fn the_documented_example_has_the_documented_size() {
        let of = |kind| v1::Value {
            value_type: Some(kind),
        };
        let text = |s: &str| of(ValueType::StringValue(s.to_owned()));
        let fields: Fields = [
            ("type".to_owned(), text("Personal")),
            ("done".to_owned(), of(ValueType::BooleanValue(false))),
            ("priority".to_owned(), of(ValueType::IntegerValue(1))),
            ("description".to_owned(), text("Learn Cloud Firestore")),
        ]
        .into();
        assert_eq!(document("users/jeff/tasks/my_task_id", &fields), 147);
    }
}
