//! The JSON mapping: what each path asks, every value there and back, errors, streams, and what is no request.

mod answers;
mod asks;
#[path = "../support/mod.rs"]
mod support;
mod values;

use whimbrel_firestore::Fields;
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_firestore::v1::{Document, Value};

pub const DOCUMENTS: &str = "projects/p/databases/(default)/documents";

pub fn of(kind: ValueType) -> Value {
    Value {
        value_type: Some(kind),
    }
}

pub fn time(seconds: i64, nanos: i32) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos }
}

pub fn document(id: &str, fields: Fields) -> Document {
    Document {
        name: format!("{DOCUMENTS}/a/{id}"),
        fields,
        ..Default::default()
    }
}
