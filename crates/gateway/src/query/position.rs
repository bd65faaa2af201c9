//! Where values, names and cursors lie among the lines of an index, or among a collection's keys.

use super::filter::{Field, Op, Test, is_nan, is_null, path_of};
use super::key::{Cut, Intervals, behind, invert, push_name, push_value};
use crate::names::is_numeric;
use std::sync::Arc;
use whimbrel_firestore::core::key::encode_path_prefix;
use whimbrel_firestore::core::order::compare_paths;
use whimbrel_firestore::v1::Value;
use whimbrel_firestore::v1::value::ValueType;

/// How values and names lie in what is walked.
pub enum Space {
    Lines {
        /// The ids that every name begins with and that lines leave out.
        skip: Vec<String>,
        /// Which of the ordered fields, and the name behind them, descend.
        directions: Vec<bool>,
    },
    Keys {
        collection: Arc<str>,
        keys: String,
    },
}

/// What a value is among the lines with the same values before it.
pub enum Element {
    /// The lines that go on with these bytes.
    At(Vec<u8>),
    /// The one key that goes on with exactly these bytes.
    Key(Vec<u8>),
    /// None: the point right behind the one key that goes on with exactly these bytes.
    BehindKey(Vec<u8>),
    BeforeAll,
    BehindAll,
}

impl Space {
    /// What a value of an order is. `at` counts the ordered fields before it.
    pub fn element(&self, field: &Field, value: &Value, at: usize) -> Element {
        match (self, field) {
            (Self::Lines { directions, .. }, Field::Path(_)) => {
                let mut bytes = Vec::new();
                let descending = directions.get(at).copied().unwrap_or(false);
                push_value(&mut bytes, value, descending);
                Element::At(bytes)
            }
            (Self::Lines { skip, directions }, Field::Name) => {
                let descending = directions.last().copied().unwrap_or(false);
                name_in_lines(skip, path_of(value), descending)
            }
            (Self::Keys { .. }, Field::Path(_)) => Element::BeforeAll,
            (Self::Keys { collection, keys }, Field::Name) => {
                name_in_keys(collection, keys, path_of(value))
            }
        }
    }
}

/// Where a name lies among lines whose names all begin with the ids `skip`.
fn name_in_lines(skip: &[String], path: &str, descending: bool) -> Element {
    let all = encode_path_prefix(skip.iter().map(String::as_str));
    let mut whole = Vec::new();
    push_name(&mut whole, path.split('/'), false);
    match whole.strip_prefix(all.as_slice()) {
        Some(rest) if !rest.is_empty() => {
            let mut rest = rest.to_vec();
            if descending {
                invert(&mut rest);
            }
            Element::At(rest)
        }
        _ if (whole < all) != descending => Element::BeforeAll,
        _ => Element::BehindAll,
    }
}

/// Where a name lies among the keys of a collection without numeric ids: those come before all others.
fn name_in_keys(collection: &str, keys: &str, path: &str) -> Element {
    let ids: Vec<&str> = path.split('/').collect();
    let mut above = Vec::new();
    let mut parents = keys.split_terminator('/');
    for id in collection.split('/') {
        above.push(id);
        above.extend(parents.next());
    }
    match ids.strip_prefix(above.as_slice()) {
        Some([id, ..]) if is_numeric(id) => Element::BeforeAll,
        Some([id]) => Element::Key(id.as_bytes().to_vec()),
        Some([id, ..]) => Element::BehindKey(id.as_bytes().to_vec()),
        _ if compare_paths(ids.iter().copied(), above).is_lt() => Element::BeforeAll,
        _ => Element::BehindAll,
    }
}

/// A point, or the stretch of lines that a value has.
pub struct Position {
    pub before: Cut,
    pub after: Cut,
}

impl Position {
    pub fn new(prefix: &[u8], element: &Element) -> Self {
        match element {
            Element::At(bytes) => Self::at(&[prefix, bytes].concat()),
            Element::Key(key) => {
                let key = [prefix, key].concat();
                Self {
                    after: Some([key.as_slice(), &[0]].concat()),
                    before: Some(key),
                }
            }
            Element::BehindKey(key) => {
                let point = Some([prefix, key, &[0]].concat());
                Self {
                    before: point.clone(),
                    after: point,
                }
            }
            Element::BeforeAll => Self::before_all(prefix),
            Element::BehindAll => Self::behind_all(prefix),
        }
    }

    pub fn at(bytes: &[u8]) -> Self {
        Self {
            before: Some(bytes.to_vec()),
            after: behind(bytes),
        }
    }

    pub fn before_all(prefix: &[u8]) -> Self {
        Self {
            before: Some(prefix.to_vec()),
            after: Some(prefix.to_vec()),
        }
    }

    pub fn behind_all(prefix: &[u8]) -> Self {
        Self {
            before: behind(prefix),
            after: behind(prefix),
        }
    }
}

/// Leaves out what the first order's inequality excludes.
pub fn narrow(intervals: &mut Intervals, test: &Test, space: &Space, prefix: &[u8]) {
    let position = |value: &Value| Position::new(prefix, &space.element(&test.field, value, 0));
    if test.field != Field::Name {
        match test.values.first() {
            // Ranges stay within the type of their value.
            Some(value) if !matches!(test.op, Op::NotEqual | Op::NotIn) => {
                let mut encoded = Vec::new();
                push_value(&mut encoded, value, false);
                let kind = [prefix, &encoded[..1]].concat();
                intervals.start_at(&Some(kind.clone()));
                intervals.end_at(&behind(&kind));
            }
            _ => {
                let mut null = Vec::new();
                push_value(&mut null, &Value { value_type: None }, false);
                intervals.start_at(&behind(&[prefix, &null].concat()));
            }
        }
    }
    let mut without = |value: &Value| {
        let position = position(value);
        intervals.leave_out(&position.before, &position.after);
    };
    match test.op {
        Op::NotEqual | Op::NotIn => test
            .values
            .iter()
            .filter(|value| !is_null(value) && !is_nan(value))
            .for_each(&mut without),
        Op::IsNotNan => without(&Value {
            value_type: Some(ValueType::DoubleValue(f64::NAN)),
        }),
        _ => {
            let Some(position) = test.values.first().map(position) else {
                return;
            };
            match test.op {
                Op::Less => intervals.end_at(&position.before),
                Op::LessOrEqual => intervals.end_at(&position.after),
                Op::Greater => intervals.start_at(&position.after),
                Op::GreaterOrEqual => intervals.start_at(&position.before),
                _ => {}
            }
        }
    }
}
