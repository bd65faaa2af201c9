//! What a query says, computed in the plainest way: look at every document, keep, sort, cut.

use crate::values::ROOT;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use whimbrel_firestore::Fields;
use whimbrel_firestore::core::order::{TypeRank, compare, compare_paths, type_rank};
use whimbrel_firestore::v1::structured_query::filter::FilterType;
use whimbrel_firestore::v1::structured_query::{
    Filter, composite_filter, field_filter, unary_filter,
};
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_firestore::v1::{Cursor, StructuredQuery, Value};

/// Documents by path.
pub type Documents = BTreeMap<String, Fields>;

/// The paths of the result, in order.
pub fn run(documents: &Documents, parent: &str, query: &StructuredQuery) -> Vec<String> {
    let orders = orders(query);
    let mut found: Vec<(&String, Vec<Value>)> = documents
        .iter()
        .filter(|(path, _)| is_in_scope(path, parent, query))
        .filter(|(path, fields)| {
            query
                .r#where
                .as_ref()
                .is_none_or(|filter| holds(filter, path, fields))
        })
        .filter_map(|(path, fields)| {
            let key: Option<Vec<Value>> = orders
                .iter()
                .map(|(field, _)| look_up(field, path, fields))
                .collect();
            Some((path, key?))
        })
        .collect();
    let by_orders = |a: &[Value], b: &[Value]| {
        orders
            .iter()
            .zip(a.iter().zip(b))
            .map(|((_, descending), (a, b))| {
                let ordering = compare(a, b);
                if *descending {
                    ordering.reverse()
                } else {
                    ordering
                }
            })
            .find(|ordering| ordering.is_ne())
            .unwrap_or(Ordering::Equal)
    };
    found.sort_by(|a, b| by_orders(&a.1, &b.1));
    let side = |cursor: &Cursor, key: &[Value]| by_orders(key, &cursor.values);
    found
        .into_iter()
        .filter(|(_, key)| {
            query
                .start_at
                .as_ref()
                .is_none_or(|start| match side(start, key) {
                    Ordering::Less => false,
                    Ordering::Equal => start.before,
                    Ordering::Greater => true,
                })
        })
        .filter(|(_, key)| {
            query
                .end_at
                .as_ref()
                .is_none_or(|end| match side(end, key) {
                    Ordering::Less => true,
                    Ordering::Equal => !end.before,
                    Ordering::Greater => false,
                })
        })
        .skip(query.offset as usize)
        .take(query.limit.map_or(usize::MAX, |limit| limit as usize))
        .map(|(path, _)| path.clone())
        .collect()
}

fn is_in_scope(path: &str, parent: &str, query: &StructuredQuery) -> bool {
    let below = match (parent, path.strip_prefix(parent)) {
        ("", _) => path,
        (_, Some(rest)) if rest.starts_with('/') => &rest[1..],
        _ => return false,
    };
    let ids: Vec<&str> = below.split('/').collect();
    let (id, deep) = query.from.first().map_or(("", false), |from| {
        (from.collection_id.as_str(), from.all_descendants)
    });
    (id.is_empty() || ids[ids.len() - 2] == id) && (deep || ids.len() == 2)
}

/// The orders there are in the end: fields and whether they descend.
fn orders(query: &StructuredQuery) -> Vec<(String, bool)> {
    let mut orders: Vec<(String, bool)> = query
        .order_by
        .iter()
        .map(|order| {
            (
                order.field.clone().unwrap().field_path,
                order.direction == 2,
            )
        })
        .collect();
    let last = orders.last().is_some_and(|order| order.1);
    let mut unequal = Vec::new();
    if let Some(filter) = &query.r#where {
        inequalities(filter, &mut unequal);
    }
    unequal.sort();
    for field in unequal {
        if field != "__name__" && orders.iter().all(|(other, _)| *other != field) {
            orders.push((field, last));
        }
    }
    if orders.iter().all(|(field, _)| field != "__name__") {
        orders.push(("__name__".to_owned(), last));
    }
    orders
}

fn inequalities(filter: &Filter, into: &mut Vec<String>) {
    match filter.filter_type.as_ref().unwrap() {
        FilterType::CompositeFilter(composite) => {
            composite.filters.iter().for_each(|f| inequalities(f, into));
        }
        FilterType::FieldFilter(filter) => {
            use field_filter::Operator as Op;
            let equality = matches!(
                filter.op(),
                Op::Equal | Op::In | Op::ArrayContains | Op::ArrayContainsAny
            );
            let value = filter.value.as_ref().unwrap();
            let nothing = match filter.op() {
                Op::NotEqual => is_null(value),
                Op::NotIn => elements(value).iter().all(is_null),
                _ => is_null(value) || is_nan(value),
            };
            if !equality && !nothing {
                into.push(filter.field.clone().unwrap().field_path);
            }
        }
        FilterType::UnaryFilter(filter) => {
            use unary_filter::Operator as Op;
            if matches!(filter.op(), Op::IsNotNan | Op::IsNotNull)
                && let Some(unary_filter::OperandType::Field(field)) = &filter.operand_type
            {
                into.push(field.field_path.clone());
            }
        }
    }
}

fn look_up(field: &str, path: &str, fields: &Fields) -> Option<Value> {
    if field == "__name__" {
        return Some(Value {
            value_type: Some(ValueType::ReferenceValue(format!("{ROOT}/{path}"))),
        });
    }
    let mut ids = field.split('.');
    let mut value = fields.get(ids.next()?)?;
    for id in ids {
        match &value.value_type {
            Some(ValueType::MapValue(map)) if type_rank(value) == TypeRank::Map => {
                value = map.fields.get(id)?;
            }
            _ => return None,
        }
    }
    Some(value.clone())
}

fn holds(filter: &Filter, path: &str, fields: &Fields) -> bool {
    match filter.filter_type.as_ref().unwrap() {
        FilterType::CompositeFilter(composite) => {
            let mut inner = composite.filters.iter();
            if composite.op() == composite_filter::Operator::And {
                inner.all(|f| holds(f, path, fields))
            } else {
                inner.any(|f| holds(f, path, fields))
            }
        }
        FilterType::UnaryFilter(filter) => {
            use unary_filter::Operator as Op;
            let Some(unary_filter::OperandType::Field(field)) = &filter.operand_type else {
                return false;
            };
            look_up(&field.field_path, path, fields).is_some_and(|value| match filter.op() {
                Op::IsNull => is_null(&value),
                Op::IsNan => is_nan(&value),
                Op::IsNotNull => !is_null(&value),
                Op::IsNotNan => !is_nan(&value) && !is_null(&value),
                Op::Unspecified => false,
            })
        }
        FilterType::FieldFilter(filter) => {
            let operand = filter.value.as_ref().unwrap();
            let field = &filter.field.as_ref().unwrap().field_path;
            look_up(field, path, fields).is_some_and(|value| passes(filter.op(), &value, operand))
        }
    }
}

fn passes(op: field_filter::Operator, value: &Value, operand: &Value) -> bool {
    use field_filter::Operator as Op;
    let ordering = || {
        let comparable = !is_null(operand)
            && !is_nan(operand)
            && !is_nan(value)
            && type_rank(value) == type_rank(operand);
        comparable.then(|| compare_values(value, operand))
    };
    match op {
        Op::Equal => equals(value, operand),
        Op::In => elements(operand).iter().any(|o| equals(value, o)),
        Op::NotEqual => !is_null(value) && !is_null(operand) && !equals(value, operand),
        Op::NotIn => {
            !is_null(value)
                && elements(operand)
                    .iter()
                    .all(|o| !is_null(o) && !equals(value, o))
        }
        Op::LessThan => ordering().is_some_and(Ordering::is_lt),
        Op::LessThanOrEqual => ordering().is_some_and(Ordering::is_le),
        Op::GreaterThan => ordering().is_some_and(Ordering::is_gt),
        Op::GreaterThanOrEqual => ordering().is_some_and(Ordering::is_ge),
        Op::ArrayContains => elements(value).iter().any(|e| equals(e, operand)),
        Op::ArrayContainsAny => elements(value)
            .iter()
            .any(|e| elements(operand).iter().any(|o| equals(e, o))),
        Op::Unspecified => false,
    }
}

fn equals(a: &Value, b: &Value) -> bool {
    let odd = |v: &Value| is_null(v) || is_nan(v);
    !odd(a) && !odd(b) && type_rank(a) == type_rank(b) && compare_values(a, b).is_eq()
}

fn compare_values(a: &Value, b: &Value) -> Ordering {
    match (&a.value_type, &b.value_type) {
        (Some(ValueType::ReferenceValue(a)), Some(ValueType::ReferenceValue(b))) => {
            compare_paths(a.split('/'), b.split('/'))
        }
        _ => compare(a, b),
    }
}

fn is_null(value: &Value) -> bool {
    matches!(value.value_type, Some(ValueType::NullValue(_)))
}

fn is_nan(value: &Value) -> bool {
    matches!(value.value_type, Some(ValueType::DoubleValue(d)) if d.is_nan())
}

fn elements(value: &Value) -> &[Value] {
    match &value.value_type {
        Some(ValueType::ArrayValue(array)) => &array.values,
        _ => &[],
    }
}
