//! Short ways to write values and queries.

use whimbrel_firestore::proto::google::r#type::LatLng;
use whimbrel_firestore::v1::structured_query::composite_filter;
use whimbrel_firestore::v1::structured_query::filter::FilterType;
use whimbrel_firestore::v1::structured_query::{
    CollectionSelector, CompositeFilter, Direction, FieldFilter, FieldReference, Filter, Order,
    UnaryFilter, field_filter, unary_filter,
};
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_firestore::v1::{ArrayValue, Cursor, MapValue, StructuredQuery, Value};

pub const DATABASE: &str = "projects/p/databases/(default)";
pub const ROOT: &str = "projects/p/databases/(default)/documents";

pub use field_filter::Operator as Op;
pub use unary_filter::Operator as Unary;

pub fn value(value_type: ValueType) -> Value {
    Value {
        value_type: Some(value_type),
    }
}

pub fn null() -> Value {
    value(ValueType::NullValue(0))
}

pub fn boolean(b: bool) -> Value {
    value(ValueType::BooleanValue(b))
}

pub fn int(i: i64) -> Value {
    value(ValueType::IntegerValue(i))
}

pub fn double(d: f64) -> Value {
    value(ValueType::DoubleValue(d))
}

pub fn text(s: impl Into<String>) -> Value {
    value(ValueType::StringValue(s.into()))
}

pub fn bytes(b: &[u8]) -> Value {
    value(ValueType::BytesValue(b.to_vec()))
}

pub fn instant(seconds: i64, nanos: i32) -> Value {
    value(ValueType::TimestampValue(prost_types::Timestamp {
        seconds,
        nanos,
    }))
}

pub fn reference(path: &str) -> Value {
    value(ValueType::ReferenceValue(format!("{ROOT}/{path}")))
}

pub fn geo(latitude: f64, longitude: f64) -> Value {
    value(ValueType::GeoPointValue(LatLng {
        latitude,
        longitude,
    }))
}

pub fn array(values: Vec<Value>) -> Value {
    value(ValueType::ArrayValue(ArrayValue { values }))
}

pub fn map(entries: Vec<(&str, Value)>) -> Value {
    value(ValueType::MapValue(MapValue {
        fields: entries
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    }))
}

pub fn vector(elements: &[f64]) -> Value {
    map(vec![
        ("__type__", text("__vector__")),
        (
            "value",
            array(elements.iter().map(|d| double(*d)).collect()),
        ),
    ])
}

pub fn field(path: &str) -> FieldReference {
    FieldReference {
        field_path: path.to_owned(),
    }
}

pub fn filter(path: &str, op: Op, value: Value) -> Filter {
    Filter {
        filter_type: Some(FilterType::FieldFilter(FieldFilter {
            field: Some(field(path)),
            op: op as i32,
            value: Some(value),
        })),
    }
}

pub fn unary(path: &str, op: Unary) -> Filter {
    Filter {
        filter_type: Some(FilterType::UnaryFilter(UnaryFilter {
            op: op as i32,
            operand_type: Some(unary_filter::OperandType::Field(field(path))),
        })),
    }
}

fn composite(op: composite_filter::Operator, filters: Vec<Filter>) -> Filter {
    Filter {
        filter_type: Some(FilterType::CompositeFilter(CompositeFilter {
            op: op as i32,
            filters,
        })),
    }
}

pub fn and(filters: Vec<Filter>) -> Filter {
    composite(composite_filter::Operator::And, filters)
}

pub fn or(filters: Vec<Filter>) -> Filter {
    composite(composite_filter::Operator::Or, filters)
}

pub fn order(path: &str, descending: bool) -> Order {
    Order {
        field: Some(field(path)),
        direction: if descending {
            Direction::Descending
        } else {
            Direction::Ascending
        } as i32,
    }
}

pub fn from(id: &str) -> StructuredQuery {
    StructuredQuery {
        from: vec![CollectionSelector {
            collection_id: id.to_owned(),
            all_descendants: false,
        }],
        ..StructuredQuery::default()
    }
}

pub fn group(id: &str) -> StructuredQuery {
    StructuredQuery {
        from: vec![CollectionSelector {
            collection_id: id.to_owned(),
            all_descendants: true,
        }],
        ..StructuredQuery::default()
    }
}

pub fn cursor(values: Vec<Value>, before: bool) -> Cursor {
    Cursor { values, before }
}

/// The query with a filter.
pub fn wanting(query: StructuredQuery, filter: Filter) -> StructuredQuery {
    StructuredQuery {
        r#where: Some(filter),
        ..query
    }
}
