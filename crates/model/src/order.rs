//! One total order over all values, and an encoding of it whose bytes sort the same way.
//!
//! The order is Firestore's: null, bool, numbers (NaN first, all kinds interleaved by value), timestamp,
//! string (by UTF-8 bytes), bytes, reference, geo point, array, vector, map.

use crate::Value;
use std::cmp::Ordering;

#[must_use]
pub fn compare(_a: &Value, _b: &Value) -> Ordering {
    todo!()
}

/// Appends bytes that sort as [`compare`] does, and that no other value's encoding is a prefix of.
pub fn encode(_value: &Value, _out: &mut Vec<u8>) {
    todo!()
}
