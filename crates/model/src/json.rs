//! JSON that keeps what other readers drop: exact numbers, typed values, duplicates noticed.
//!
//! # The tagged form
//! A value that JSON has no type for is an object with exactly one member whose name is a tag:
//! `{"$timestamp":"2026-01-31T08:00:00.5Z"}`, `{"$bytes":"<base64>"}`, `{"$reference":"a/b"}`,
//! `{"$geopoint":[lat,lng]}`, `{"$vector":[…]}`, `{"$double":"NaN"|"Infinity"|"-Infinity"|"-0"|"1e300"}`,
//! `{"$decimal":"…"}`. An object of the user's own that has exactly one member, named like a tag behind
//! one or more `$`, is written with one `$` more and read with one less, so that writing and reading
//! are inverse. An object that looks like a tag but whose content is not of the tag's form is a plain
//! object.

use crate::{Fingerprint, Map, Value};
use std::ops::Range;

/// Nesting beyond this is refused: [`JsonError`] of kind [`JsonErrorKind::TooDeep`].
pub const MAX_DEPTH: u32 = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonErrorKind {
    Malformed,
    InvalidUtf8,
    DuplicateKey,
    TooDeep,
    LoneSurrogate,
    NotObject,
}

/// Why bytes are no document. Holds a place, never a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct JsonError {
    pub kind: JsonErrorKind,
    pub at: usize,
    what: &'static str,
}

impl JsonError {
    #[must_use]
    pub fn not_object() -> Self {
        Self {
            kind: JsonErrorKind::NotObject,
            at: 0,
            what: "expected a JSON object",
        }
    }
}

/// What one validating pass over the bytes saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// An object key begins with `$`.
    pub dollar_key: bool,
    /// A string or key holds U+0000.
    pub nul: bool,
    /// A string or key holds an unpaired surrogate escape.
    pub lone_surrogate: bool,
    /// A number is written with an exponent, or is a negative zero.
    pub odd_number: bool,
    /// A number that neither `i64` nor `f64` holds exactly.
    pub decimal: bool,
    /// Deepest nesting; a flat object has 1.
    pub depth: u32,
}

/// Validates one JSON text (RFC 8259, no duplicate keys, at most [`MAX_DEPTH`] deep) without building it.
///
/// # Errors
/// The bytes are no such text. An unpaired surrogate is a fact, not an error.
pub fn scan(_bytes: &[u8]) -> Result<Facts, JsonError> {
    todo!()
}

/// Reads one tagged JSON text.
///
/// # Errors
/// The bytes are no JSON text that values can hold.
pub fn parse(_bytes: &[u8]) -> Result<Value, JsonError> {
    todo!()
}

/// Appends the tagged form of `value`. `parse` of it gives the same value back; so does a trip through
/// PostgreSQL's `jsonb` (no exponent, no bare negative zero is ever written).
pub fn write(_value: &Value, _out: &mut Vec<u8>) {
    todo!()
}

pub fn write_map(_map: &Map, _out: &mut Vec<u8>) {
    todo!()
}

/// Appends a JSON string literal.
pub fn write_string(_text: &str, _out: &mut Vec<u8>) {
    todo!()
}

/// What the plain form (no tags) could not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    pub timestamps: u64,
    pub bytes: u64,
    pub doubles: u64,
    pub others: u64,
}

/// Appends `value` as plain JSON: timestamps as RFC 3339 texts, bytes as base64, NaN as null…
pub fn write_plain(_value: &Value, _out: &mut Vec<u8>) -> Losses {
    todo!()
}

/// The fingerprint of one tagged JSON object, in one pass without building it.
///
/// # Errors
/// The bytes are not one JSON object that values can hold.
pub fn fingerprint(_bytes: &[u8]) -> Result<Fingerprint, JsonError> {
    todo!()
}

/// The same as [`fingerprint`] of the map's tagged form.
#[must_use]
pub fn fingerprint_map(_map: &Map) -> Fingerprint {
    todo!()
}

/// One member of an object, as ranges of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawMember {
    /// The name between its quotes, still escaped.
    pub name: Range<u32>,
    pub name_escaped: bool,
    pub value: Range<u32>,
}

/// Cuts one JSON object into its members, validating all of it as [`scan`] does (an unpaired surrogate is
/// let through where it lies inside a value).
///
/// # Errors
/// The bytes are not one JSON object.
pub fn split(_bytes: &[u8]) -> Result<Vec<RawMember>, JsonError> {
    todo!()
}

/// Resolves the escapes of a string's inside (the range of a [`RawMember::name`]).
///
/// # Errors
/// An unpaired surrogate.
pub fn unescape(_inside: &[u8]) -> Result<String, JsonError> {
    todo!()
}
