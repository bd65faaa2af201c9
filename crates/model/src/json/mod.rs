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
//!
//! # Numbers
//! A literal without fraction and exponent that fits `i64` is an int, except `-0`, which is a double.
//! Any other is a double if the shortest text of the `f64` nearest to it denotes the same number, and a
//! decimal otherwise.
//!
//! # Layout
//! One grammar (`reader`) drives every reading: it feeds a `Build`, which makes facts, members, values
//! or a fingerprint of what it is told. It does not recurse. (`same`, which only compares spellings, has a tokenizer
//! of its own.) Texts of 2 GiB and more
//! are refused as malformed.

mod base64;
mod fingerprint;
mod names;
mod number;
mod parse;
mod reader;
mod same;
mod scan;
mod string;
mod tag;
mod write;

use crate::{Fingerprint, Map, Value};
use std::ops::Range;

pub(crate) use tag::dollars;

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

    #[cold]
    fn malformed(at: usize, what: &'static str) -> Self {
        Self {
            kind: JsonErrorKind::Malformed,
            at,
            what,
        }
    }

    #[cold]
    fn lone_surrogate(at: usize) -> Self {
        Self {
            kind: JsonErrorKind::LoneSurrogate,
            at,
            what: "half a character (an unpaired surrogate) in the string",
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
pub fn scan(bytes: &[u8]) -> Result<Facts, JsonError> {
    scan::facts(bytes).map_err(|e| *e)
}

/// Reads one tagged JSON text.
///
/// # Errors
/// The bytes are no JSON text that values can hold.
pub fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    parse::value(bytes).map_err(|e| *e)
}

/// Appends the tagged form of `value`. `parse` of it gives the same value back; so does a trip through
/// PostgreSQL's `jsonb` (no exponent, no bare negative zero is ever written).
///
/// Tags count as nesting when they are read: a value nested to the last three levels of [`MAX_DEPTH`]
/// may become text that is refused as too deep.
pub fn write(value: &Value, out: &mut Vec<u8>) {
    write::value(value, out);
}

/// As [`write`], of a map.
pub fn write_map(map: &Map, out: &mut Vec<u8>) {
    write::map(map, out);
}

/// Appends a JSON string literal.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    string::write(text, out);
}

/// [`write_string`] without the quotes.
pub(crate) fn write_string_inside(text: &str, out: &mut Vec<u8>) {
    string::write_inside(text, out);
}

/// What the plain form (no tags) could not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Timestamps that became texts.
    pub timestamps: u64,
    /// Bytes that became texts.
    pub bytes: u64,
    /// NaN and the infinities, which became null.
    pub doubles: u64,
    /// References (now texts), geo points (now maps) and vectors (now arrays).
    pub others: u64,
}

/// Appends `value` as plain JSON: timestamps as RFC 3339 texts, bytes as base64, NaN as null, a geo
/// point as `{"latitude":…,"longitude":…}`, a vector as an array. Keys are written as they are.
pub fn write_plain(value: &Value, out: &mut Vec<u8>) -> Losses {
    write::plain(value, out)
}

/// The fingerprint of one tagged JSON object, in one pass without building it.
///
/// # Errors
/// The bytes are not one JSON object that values can hold.
pub fn fingerprint(bytes: &[u8]) -> Result<Fingerprint, JsonError> {
    fingerprint::of_json(bytes).map_err(|e| *e)
}

/// Whether two texts say the same as far as their spelling shows it, whatever the order of members and the space
/// between: `true` where they do (or are broken alike), `false` where only reading both can tell.
#[must_use]
pub fn surely_same(a: &[u8], b: &[u8]) -> bool {
    same::surely(a, b)
}

/// The same as [`fingerprint`] of the map's tagged form.
#[must_use]
pub fn fingerprint_map(map: &Map) -> Fingerprint {
    fingerprint::of_map(map)
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
pub fn split(bytes: &[u8]) -> Result<Vec<RawMember>, JsonError> {
    let mut members = Vec::with_capacity(16);
    split_each(bytes, |member| {
        if member.name_escaped {
            resolve_name(bytes, &member)?;
        }
        members.push(member);
        Ok(())
    })?;
    Ok(members)
}

/// The name of a member of `bytes`, its escapes resolved.
pub(crate) fn resolve_name(bytes: &[u8], member: &RawMember) -> Result<String, JsonError> {
    let (start, end) = (member.name.start as usize, member.name.end as usize);
    string::unescape(&bytes[start..end]).map_err(|mut error| {
        error.at += start;
        error
    })
}

/// [`split`] for a caller that makes something else of the members, and checks their names. On an error
/// some may have been given.
pub(crate) fn split_each(
    bytes: &[u8],
    each: impl FnMut(RawMember) -> Result<(), JsonError>,
) -> Result<(), JsonError> {
    scan::split(bytes, each).map_err(|e| *e)
}

/// Resolves the escapes of a string's inside (the range of a [`RawMember::name`]).
///
/// # Errors
/// An unpaired surrogate.
pub fn unescape(inside: &[u8]) -> Result<String, JsonError> {
    string::unescape(inside)
}
