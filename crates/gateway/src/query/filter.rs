//! Filters: what a document must be like to be in a query's result.

use crate::status::invalid;
use std::cmp::Ordering;
use tonic::Status;
use whimbrel_firestore::core::field_path::{self, FieldPath};
use whimbrel_firestore::core::order::{compare, compare_paths, type_rank};
use whimbrel_firestore::v1::Value;
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_firestore::{Fields, Place};

/// What filters and orders speak of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    Path(FieldPath),
    /// `__name__`.
    Name,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
    In,
    NotIn,
    Contains,
    ContainsAny,
    IsNull,
    IsNan,
    IsNotNull,
    IsNotNan,
}

/// One condition on one field.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    pub field: Field,
    pub op: Op,
    /// What is compared with: several for `in`, `not-in` and `array-contains-any`, none for the unary ones, else one.
    /// For `__name__`, references that hold a place's path in the store ([`Place::path`]).
    pub values: Vec<Value>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Test(Test),
}

/// Tests that must all hold.
pub type Conjunction = Vec<Test>;

/// How many conjunctions a filter may become.
const DISJUNCTIONS: usize = 30;

impl Filter {
    #[must_use]
    pub fn holds(&self, place: &Place, fields: &Fields) -> bool {
        match self {
            Self::And(filters) => filters.iter().all(|f| f.holds(place, fields)),
            Self::Or(filters) => filters.iter().any(|f| f.holds(place, fields)),
            Self::Test(test) => test.holds(place, fields),
        }
    }

    /// Calls `visit` with every test.
    pub fn each<'a>(&'a self, visit: &mut impl FnMut(&'a Test)) {
        match self {
            Self::And(filters) | Self::Or(filters) => {
                for filter in filters {
                    filter.each(visit);
                }
            }
            Self::Test(test) => visit(test),
        }
    }

    /// The most array membership tests that one conjunction holds.
    #[must_use]
    pub fn memberships(&self) -> usize {
        match self {
            Self::Or(filters) => filters.iter().map(Self::memberships).max().unwrap_or(0),
            Self::And(filters) => filters.iter().map(Self::memberships).sum(),
            Self::Test(test) => usize::from(matches!(test.op, Op::Contains | Op::ContainsAny)),
        }
    }

    /// The disjunctive normal form: the filter holds where all tests of one of these do. `in` and
    /// `array-contains-any` become one conjunction a value.
    ///
    /// # Errors
    /// INVALID_ARGUMENT: more than thirty.
    pub fn disjunctions(&self) -> Result<Vec<Conjunction>, Status> {
        self.expand().ok_or_else(|| {
            invalid(format!(
                "Too many disjunctions after normalization. Result had {} disjunctions which is more than the \
                 maximum of {DISJUNCTIONS}",
                self.alternatives()
            ))
        })
    }

    /// How many conjunctions there are, those that are the same counted each.
    fn alternatives(&self) -> usize {
        match self {
            Self::Or(filters) => filters
                .iter()
                .map(Self::alternatives)
                .fold(0, usize::saturating_add),
            Self::And(filters) => filters
                .iter()
                .map(Self::alternatives)
                .fold(1, usize::saturating_mul),
            Self::Test(test) => match test.op {
                Op::In | Op::ContainsAny => test.values.len(),
                _ => 1,
            },
        }
    }

    /// `None` as soon as there are more than thirty.
    fn expand(&self) -> Option<Vec<Conjunction>> {
        let mut all: Vec<Conjunction> = Vec::new();
        match self {
            Self::Or(filters) => {
                for filter in filters {
                    for conjunction in filter.expand()? {
                        add(&mut all, conjunction)?;
                    }
                }
            }
            Self::And(filters) => {
                all.push(Vec::new());
                for filter in filters {
                    let terms = filter.expand()?;
                    for left in std::mem::take(&mut all) {
                        for right in &terms {
                            let mut both = left.clone();
                            for test in right {
                                if !both.contains(test) {
                                    both.push(test.clone());
                                }
                            }
                            add(&mut all, both)?;
                        }
                    }
                }
            }
            Self::Test(test) => {
                let op = match test.op {
                    Op::In => Op::Equal,
                    Op::ContainsAny => Op::Contains,
                    _ => return Some(vec![vec![test.clone()]]),
                };
                for value in &test.values {
                    let one = Test {
                        field: test.field.clone(),
                        op,
                        values: vec![value.clone()],
                    };
                    add(&mut all, vec![one])?;
                }
            }
        }
        Some(all)
    }
}

/// Adds a conjunction unless the same set of tests is there already. `None`: there is no room for it.
fn add(all: &mut Vec<Conjunction>, conjunction: Conjunction) -> Option<()> {
    let same = |other: &Conjunction| {
        other.len() == conjunction.len() && other.iter().all(|t| conjunction.contains(t))
    };
    if !all.iter().any(same) {
        if all.len() == DISJUNCTIONS {
            return None;
        }
        all.push(conjunction);
    }
    Some(())
}

impl Test {
    #[must_use]
    pub fn holds(&self, place: &Place, fields: &Fields) -> bool {
        match &self.field {
            Field::Path(path) => {
                field_path::get(fields, path).is_some_and(|value| self.holds_for(value))
            }
            Field::Name => self.holds_for_name(place),
        }
    }

    fn holds_for(&self, value: &Value) -> bool {
        let among = || self.values.iter().any(|operand| equal(value, operand));
        match self.op {
            Op::Equal | Op::In => among(),
            Op::NotEqual | Op::NotIn => {
                !is_null(value) && !self.values.iter().any(is_null) && !among()
            }
            Op::Less => self.in_range(value, Ordering::is_lt),
            Op::LessOrEqual => self.in_range(value, Ordering::is_le),
            Op::Greater => self.in_range(value, Ordering::is_gt),
            Op::GreaterOrEqual => self.in_range(value, Ordering::is_ge),
            Op::Contains | Op::ContainsAny => elements(value)
                .iter()
                .any(|element| self.values.iter().any(|operand| equal(element, operand))),
            Op::IsNull => is_null(value),
            Op::IsNan => is_nan(value),
            Op::IsNotNull => !is_null(value),
            Op::IsNotNan => !is_null(value) && !is_nan(value),
        }
    }

    /// Ranges hold within one type, and never for null and NaN.
    fn in_range(&self, value: &Value, accept: fn(Ordering) -> bool) -> bool {
        self.values.iter().all(|operand| {
            !is_null(operand)
                && !is_nan(operand)
                && !is_nan(value)
                && type_rank(value) == type_rank(operand)
                && accept(compare(value, operand))
        })
    }

    fn holds_for_name(&self, place: &Place) -> bool {
        let against = |operand: &Value| compare_name(place, path_of(operand));
        let all = |accept: fn(Ordering) -> bool| self.values.iter().all(|v| accept(against(v)));
        match self.op {
            Op::Equal | Op::In => self.values.iter().any(|v| against(v).is_eq()),
            Op::NotEqual | Op::NotIn => all(Ordering::is_ne),
            Op::Less => all(Ordering::is_lt),
            Op::LessOrEqual => all(Ordering::is_le),
            Op::Greater => all(Ordering::is_gt),
            Op::GreaterOrEqual => all(Ordering::is_ge),
            Op::IsNotNull | Op::IsNotNan => true,
            Op::IsNull | Op::IsNan | Op::Contains | Op::ContainsAny => false,
        }
    }

    /// Whether the test asks for more than equality, so that the result is ordered by its field.
    #[must_use]
    pub fn is_inequality(&self) -> bool {
        match self.op {
            Op::Less | Op::LessOrEqual | Op::Greater | Op::GreaterOrEqual => {
                !self.values.iter().any(|v| is_null(v) || is_nan(v))
            }
            Op::NotEqual => !self.values.iter().any(is_null),
            Op::NotIn => !self.values.iter().all(is_null),
            Op::IsNotNull | Op::IsNotNan => true,
            Op::Equal | Op::In | Op::Contains | Op::ContainsAny | Op::IsNull | Op::IsNan => false,
        }
    }

    /// Whether no document can pass: nothing equals, or is ordered against, null and NaN.
    #[must_use]
    pub fn is_never(&self) -> bool {
        let null = self.values.iter().any(is_null);
        match self.op {
            Op::NotEqual | Op::NotIn => null,
            Op::In | Op::ContainsAny => self.values.iter().all(|v| is_null(v) || is_nan(v)),
            Op::IsNull | Op::IsNan | Op::IsNotNull | Op::IsNotNan => false,
            _ => null || self.values.iter().any(is_nan),
        }
    }
}

/// The path in the store of a `__name__` operand.
#[must_use]
pub fn path_of(operand: &Value) -> &str {
    match &operand.value_type {
        Some(ValueType::ReferenceValue(path)) => path,
        _ => "",
    }
}

/// The ids on the way to a place, as Firestore orders names by them.
pub fn segments(place: &Place) -> impl Iterator<Item = &str> {
    place
        .collection
        .split('/')
        .zip(place.key.split('/'))
        .flat_map(|(id, document)| [id, document])
}

/// Firestore's order of names, between a place and a path in the store.
#[must_use]
pub fn compare_name(place: &Place, path: &str) -> Ordering {
    compare_paths(segments(place), path.split('/'))
}

/// Firestore's order of names.
#[must_use]
pub fn compare_places(a: &Place, b: &Place) -> Ordering {
    if a.collection == b.collection {
        return compare_paths(a.key.split('/'), b.key.split('/'));
    }
    compare_paths(segments(a), segments(b))
}

#[must_use]
pub fn is_null(value: &Value) -> bool {
    matches!(value.value_type, None | Some(ValueType::NullValue(_)))
}

#[must_use]
pub fn is_nan(value: &Value) -> bool {
    matches!(value.value_type, Some(ValueType::DoubleValue(d)) if d.is_nan())
}

/// Equality of filters: null and NaN equal nothing (but inside of arrays and maps they do).
fn equal(value: &Value, operand: &Value) -> bool {
    !is_null(value) && !is_nan(value) && compare(value, operand).is_eq()
}

/// The elements of an array; of anything else, none.
#[must_use]
pub fn elements(value: &Value) -> &[Value] {
    match &value.value_type {
        Some(ValueType::ArrayValue(array)) => &array.values,
        _ => &[],
    }
}
