//! Copy rules: which documents a copy takes, what they become, and what happens to those that fail.

use crate::json::JsonError;
use crate::transform::Validate;
use crate::{Draft, Transform, Value};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// One named rule of a copy. A document goes through every rule whose `collection` and `filter` fit it.
#[derive(Clone)]
pub struct CopyRule {
    pub name: String,
    /// The source collection; `None`: the one that the copy names.
    pub collection: Option<String>,
    /// The schema version to read the source documents as; `None`: as they are.
    pub read_as: Option<u32>,
    /// The target collection; `None`: the source collection's name.
    pub into: Option<String>,
    /// `None` takes every document.
    pub filter: Option<Filter>,
    /// `None` copies the document as it is, under its own key.
    pub transform: Option<Arc<dyn Transform>>,
    /// Where documents are given to the transform in groups.
    pub group: Option<Grouping>,
    /// Judges every derived document before it is written.
    pub validate: Option<Arc<dyn Validate>>,
    pub on_error: OnError,
    /// The field that gets the run's instant; `None` writes none.
    pub migrated_at: Option<String>,
    /// The field that gets the source key (of a group: the group's value); `None` writes none.
    pub source_id: Option<String>,
    /// Changes when the rule's meaning changes; comments and white space do not count.
    pub checksum: String,
}

impl CopyRule {
    /// The rule that copies every document as it is; to be changed where it shall do more. The checksum is the name.
    #[must_use]
    pub fn plain(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            checksum: name.clone(),
            name,
            collection: None,
            read_as: None,
            into: None,
            filter: None,
            transform: None,
            group: None,
            validate: None,
            on_error: OnError::Quarantine,
            migrated_at: None,
            source_id: None,
        }
    }
}

impl fmt::Debug for CopyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyRule")
            .field("name", &self.name)
            .field("collection", &self.collection)
            .field("into", &self.into)
            .field("group", &self.group)
            .field("on_error", &self.on_error)
            .finish_non_exhaustive()
    }
}

/// What becomes of a document that a rule cannot handle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// It waits in quarantine, counted, until it is retried.
    #[default]
    Quarantine,
    /// It is counted as skipped.
    Skip,
    /// The run stops; what it has written stays, and it can go on later.
    Abort,
}

/// Documents with the same value at `by` are transformed together. A document that has no such field is
/// an error of that document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grouping {
    pub by: FieldPath,
    /// The order within a group: ascending as [`crate::order::compare`] says, a missing field first, the
    /// document's key last.
    pub order_by: Vec<FieldPath>,
}

/// A field's place: names from the top of the document down, written `profile.address.city`. A name that
/// holds a dot or a backslash has a backslash before it (before `[` one is allowed). Arrays are not entered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldPath {
    names: Vec<String>,
}

impl FieldPath {
    /// `None` when `text` is no path: an empty name, or a backslash before anything else than a dot, a
    /// backslash or `[`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut names = vec![String::new()];
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '.' => names.push(String::new()),
                '\\' => match chars.next() {
                    Some(c @ ('.' | '\\' | '[')) => names.last_mut()?.push(c),
                    _ => return None,
                },
                c => names.last_mut()?.push(c),
            }
        }
        (!names.iter().any(String::is_empty)).then_some(Self { names })
    }

    /// `None` when there is no name.
    #[must_use]
    pub fn from_names(names: Vec<String>) -> Option<Self> {
        (!names.is_empty()).then_some(Self { names })
    }

    /// At least one.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The document's own member that the path begins with.
    #[must_use]
    pub fn first(&self) -> &str {
        &self.names[0]
    }

    /// The field's value; `None` where it is missing, or where something on the way is no map.
    ///
    /// # Errors
    /// The member that holds the field is nothing that values can hold.
    pub fn get<'a>(&self, doc: &'a mut Draft) -> Result<Option<&'a Value>, JsonError> {
        let Some(mut value) = doc.get(&self.names[0])? else {
            return Ok(None);
        };
        for name in &self.names[1..] {
            let Value::Map(map) = value else {
                return Ok(None);
            };
            match map.get(name) {
                Some(inner) => value = inner,
                None => return Ok(None),
            }
        }
        Ok(Some(value))
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.names.iter().enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            f.write_str(&name.replace('\\', "\\\\").replace('.', "\\."))?;
        }
        Ok(())
    }
}

/// Which documents a rule takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    Field(FieldPath, Test),
    All(Vec<Filter>),
    Any(Vec<Filter>),
    Not(Box<Filter>),
}

/// What a field must be. Ints and doubles that denote the same number count as equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// The field is there, be it null, or is not.
    Exists(bool),
    /// A missing field equals nothing, not even null.
    Equals(Value),
    /// Holds for a missing field too.
    Differs(Value),
    OneOf(Vec<Value>),
    /// Not less than the value, and of a comparable type. Never holds for a missing field.
    AtLeast(Value),
    /// Less than the value, and of a comparable type. Never holds for a missing field.
    Below(Value),
}

impl Filter {
    /// # Errors
    /// A member that the filter looks at is nothing that values can hold.
    pub fn matches(&self, doc: &mut Draft) -> Result<bool, JsonError> {
        match self {
            Filter::Field(path, test) => Ok(test.holds(path.get(doc)?)),
            Filter::Not(inner) => Ok(!inner.matches(doc)?),
            Filter::All(parts) => {
                for part in parts {
                    if !part.matches(doc)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Filter::Any(parts) => {
                for part in parts {
                    if part.matches(doc)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }
}

impl Test {
    /// Whether the test holds for the field's value; `None` is a missing field.
    #[must_use]
    pub fn holds(&self, field: Option<&Value>) -> bool {
        match self {
            Test::Exists(wanted) => field.is_some() == *wanted,
            Test::Equals(value) => field.is_some_and(|field| same_value(field, value)),
            Test::Differs(value) => !field.is_some_and(|field| same_value(field, value)),
            Test::OneOf(values) => {
                field.is_some_and(|field| values.iter().any(|value| same_value(field, value)))
            }
            Test::AtLeast(value) => {
                field.is_some_and(|field| comparable(field, value) && !is_less(field, value))
            }
            Test::Below(value) => {
                field.is_some_and(|field| comparable(field, value) && is_less(field, value))
            }
        }
    }
}

fn is_less(a: &Value, b: &Value) -> bool {
    // The order of values tells an int from the same number as a double.
    !same_value(a, b) && crate::order::compare(a, b) == Ordering::Less
}

/// Equality of values that lets an int equal the double of the same number.
#[must_use]
pub fn same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Int(n), Value::Double(x)) | (Value::Double(x), Value::Int(n)) => int_is(*n, *x),
        _ => a == b,
    }
}

/// Whether `x` denotes exactly `n`. The cast back saturates at 2^63, which no `i64` is.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
fn int_is(n: i64, x: f64) -> bool {
    n as f64 == x && x < 9_223_372_036_854_775_808.0 && x as i64 == n
}

fn comparable(a: &Value, b: &Value) -> bool {
    let number = |v: &Value| matches!(v, Value::Int(_) | Value::Double(_) | Value::Decimal(_));
    (number(a) && number(b)) || a.type_name() == b.type_name()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_round_trip() {
        for (text, names) in [
            ("a", vec!["a"]),
            ("a.b.c", vec!["a", "b", "c"]),
            (r"a\.b.c\\", vec!["a.b", r"c\"]),
            ("ü.$x", vec!["ü", "$x"]),
        ] {
            let path = FieldPath::parse(text).unwrap();
            assert_eq!(path.names(), names);
            assert_eq!(path.to_string(), text);
        }
        for bad in ["", ".", "a.", ".a", "a..b", r"a\b", r"a\"] {
            assert_eq!(FieldPath::parse(bad), None, "{bad}");
        }
    }

    fn doc() -> Draft {
        let inner = [("n".to_owned(), Value::Int(3))].into_iter().collect();
        Draft::from_map(
            [
                ("archived".to_owned(), Value::Bool(false)),
                ("none".to_owned(), Value::Null),
                ("inner".to_owned(), Value::Map(inner)),
            ]
            .into_iter()
            .collect(),
        )
    }

    #[test]
    fn filters_select() {
        let field = |path: &str, test| Filter::Field(FieldPath::parse(path).unwrap(), test);
        let check = |filter: &Filter, expect: bool| {
            assert_eq!(filter.matches(&mut doc()), Ok(expect), "{filter:?}");
        };
        check(&field("archived", Test::Equals(Value::Bool(false))), true);
        check(&field("archived", Test::Differs(Value::Bool(false))), false);
        check(&field("inner.n", Test::Equals(Value::Double(3.0))), true);
        check(&field("inner.n", Test::Equals(Value::Double(3.5))), false);
        check(&field("inner.n.x", Test::Exists(false)), true);
        check(&field("none", Test::Exists(true)), true);
        check(&field("none", Test::Equals(Value::Null)), true);
        check(&field("gone", Test::Equals(Value::Null)), false);
        check(&field("gone", Test::Differs(Value::Null)), true);
        let three = Test::OneOf(vec![Value::Null, Value::Int(3)]);
        check(&field("inner.n", three.clone()), true);
        check(&field("gone", three), false);
        let yes = field("none", Test::Exists(true));
        let no = Filter::Not(Box::new(yes.clone()));
        check(&Filter::All(vec![yes.clone(), no.clone()]), false);
        check(&Filter::Any(vec![no.clone(), yes]), true);
        check(&no, false);
        check(&field("inner.n", Test::Below(Value::Double(3.0))), false);
        check(&field("inner.n", Test::Below(Value::Double(3.5))), true);
        check(&field("inner.n", Test::AtLeast(Value::Double(3.0))), true);
        check(
            &field("inner.n", Test::Below(Value::String("z".into()))),
            false,
        );
    }
}
