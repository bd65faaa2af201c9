//! One total order over all values, and an encoding of it whose bytes sort the same way.
//!
//! The order is Firestore's: null, bool, numbers (NaN first, all kinds interleaved by value), timestamp,
//! string (by UTF-8 bytes), bytes, reference, geo point, array, vector, map.
//!
//! Where kinds of numbers hold the same number, the negative zero comes first, then int, double,
//! decimal: two values are equal here exactly when they are equal as values. A double counts as the
//! number it holds, not as its shortest text: the decimal 0.1 is less than the double 0.1. Arrays
//! compare element by element, then by length; vectors by length first; maps by their members in the
//! order of names, first name then value, and then by their number.

use crate::value::normal_form;
use crate::{GeoPoint, Map, Value};
use std::cmp::Ordering;

#[must_use]
pub fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
        (Value::String(a), Value::String(b)) | (Value::Reference(a), Value::Reference(b)) => {
            a.cmp(b)
        }
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::GeoPoint(a), Value::GeoPoint(b)) => sort_point(a).cmp(&sort_point(b)),
        (Value::Array(a), Value::Array(b)) => compare_all(a.iter(), b.iter(), compare),
        (Value::Vector(a), Value::Vector(b)) => {
            let doubles = |v: &[f64]| v.iter().map(|d| sort_bits(*d)).collect::<Vec<_>>();
            (a.len().cmp(&b.len())).then_with(|| doubles(a).cmp(&doubles(b)))
        }
        (Value::Map(a), Value::Map(b)) => compare_all(
            sorted(a).into_iter(),
            sorted(b).into_iter(),
            |(an, av), (bn, bv)| an.cmp(bn).then_with(|| compare(av, bv)),
        ),
        _ => rank(a).cmp(&rank(b)).then_with(|| compare_numbers(a, b)),
    }
}

/// Appends bytes that sort as [`compare`] does, and that no other value's encoding is a prefix of.
pub fn encode(value: &Value, out: &mut Vec<u8>) {
    out.push(rank(value));
    match value {
        Value::Null => {}
        Value::Bool(bool) => out.push(u8::from(*bool)),
        Value::Int(_) | Value::Double(_) | Value::Decimal(_) => encode_number(value, out),
        Value::Timestamp(at) => {
            out.extend_from_slice(&sort_int(at.seconds()));
            out.extend_from_slice(&at.nanos().to_be_bytes());
        }
        Value::String(text) | Value::Reference(text) => encode_bytes(text.as_bytes(), out),
        Value::Bytes(bytes) => encode_bytes(bytes, out),
        Value::GeoPoint(point) => {
            for bits in sort_point(point) {
                out.extend_from_slice(&bits.to_be_bytes());
            }
        }
        Value::Array(items) => {
            for item in items {
                encode(item, out);
            }
            out.push(END);
        }
        Value::Vector(elements) => {
            out.extend_from_slice(&(elements.len() as u64).to_be_bytes());
            for double in elements {
                out.extend_from_slice(&sort_bits(*double).to_be_bytes());
            }
        }
        Value::Map(map) => {
            for (name, member) in sorted(map) {
                out.push(MORE);
                encode_bytes(name.as_bytes(), out);
                encode(member, out);
            }
            out.push(END);
        }
    }
}

/// Ends an array or a map: less than whatever could go on.
const END: u8 = 0;
const MORE: u8 = 1;

/// The place of a value's type in the order; never [`END`].
fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 1,
        Value::Bool(_) => 2,
        Value::Int(_) | Value::Double(_) | Value::Decimal(_) => 3,
        Value::Timestamp(_) => 4,
        Value::String(_) => 5,
        Value::Bytes(_) => 6,
        Value::Reference(_) => 7,
        Value::GeoPoint(_) => 8,
        Value::Array(_) => 9,
        Value::Vector(_) => 10,
        Value::Map(_) => 11,
    }
}

fn sorted(map: &Map) -> Vec<(&String, &Value)> {
    let mut members: Vec<_> = map.iter().collect();
    members.sort_unstable_by_key(|(name, _)| *name);
    members
}

fn compare_all<T>(
    mut a: impl Iterator<Item = T>,
    mut b: impl Iterator<Item = T>,
    compare: impl Fn(T, T) -> Ordering,
) -> Ordering {
    loop {
        match (a.next(), b.next()) {
            (Some(a), Some(b)) => match compare(a, b) {
                Ordering::Equal => {}
                unequal => return unequal,
            },
            (a, b) => return a.is_some().cmp(&b.is_some()),
        }
    }
}

/// A zero byte is followed by 0xFF inside and by 1 at the end, so that a text sorts before its
/// continuations.
fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    for part in bytes.split_inclusive(|b| *b == 0) {
        out.extend_from_slice(part);
        if part.last() == Some(&0) {
            out.push(0xFF);
        }
    }
    out.extend_from_slice(&[0, 1]);
}

fn sort_int(int: i64) -> [u8; 8] {
    (int.cast_unsigned() ^ 1 << 63).to_be_bytes()
}

/// Sorts as the doubles do, NaN first.
fn sort_bits(double: f64) -> u64 {
    const SIGN: u64 = 1 << 63;
    let bits = double.to_bits();
    if double.is_nan() {
        0
    } else if bits & SIGN == 0 {
        bits | SIGN
    } else {
        !bits
    }
}

fn sort_point(point: &GeoPoint) -> [u64; 2] {
    [sort_bits(point.latitude), sort_bits(point.longitude)]
}

/// Of two numbers (any other two of one rank are equal).
fn compare_numbers(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Double(a), Value::Double(b)) => sort_bits(*a).cmp(&sort_bits(*b)),
        (Value::Int(_) | Value::Double(_) | Value::Decimal(_), _) => {
            let encoded = |value| {
                let mut out = Vec::new();
                encode_number(value, &mut out);
                out
            };
            encoded(a).cmp(&encoded(b))
        }
        _ => Ordering::Equal,
    }
}

/// Class, then exponent and digits (both complemented where negative), then the kind.
fn encode_number(value: &Value, out: &mut Vec<u8>) {
    const NAN: u8 = 1;
    const LEAST: u8 = 2;
    const NEGATIVE: u8 = 3;
    const ZERO: u8 = 4;
    const POSITIVE: u8 = 5;
    const GREATEST: u8 = 6;
    const NEGATIVE_ZERO: u8 = 0;
    let (literal, kind) = match value {
        Value::Int(int) => (int.to_string(), 1),
        Value::Double(double) if double.is_nan() => return out.push(NAN),
        Value::Double(double) if double.is_infinite() => {
            return out.push(if *double < 0.0 { LEAST } else { GREATEST });
        }
        Value::Double(double) if *double == 0.0 && double.is_sign_negative() => {
            return out.extend_from_slice(&[ZERO, NEGATIVE_ZERO]);
        }
        Value::Double(double) => (exact(*double), 2),
        Value::Decimal(decimal) => (decimal.as_str().to_owned(), 3),
        _ => return,
    };
    let (negative, digits, power) = normal_form(&literal);
    if digits.is_empty() {
        return out.extend_from_slice(&[ZERO, kind]);
    }
    out.push(if negative { NEGATIVE } else { POSITIVE });
    let start = out.len();
    // As 0.ddd × 10^exponent, equal exponents leave the digits to decide from the left.
    let exponent = power.saturating_add(i64::try_from(digits.len()).unwrap_or(i64::MAX));
    out.extend_from_slice(&sort_int(exponent));
    for pair in digits.as_bytes().chunks(2) {
        // Two digits a byte, from 1 on; the last digit is never a zero, so that filling up is unambiguous.
        let tens = (pair[0] - b'0') * 10;
        out.push(tens + pair.get(1).map_or(0, |d| d - b'0') + 1);
    }
    out.push(END);
    if negative {
        for byte in &mut out[start..] {
            *byte = !*byte;
        }
    }
    out.push(kind);
}

/// A finite double's exact decimal digits: an integer where it is one, at most 767 digits otherwise.
fn exact(double: f64) -> String {
    if double.fract() == 0.0 {
        // Without a precision the shortest digits would be filled up with zeros.
        return format!("{double:.0}");
    }
    // A double has at most 1074 binary places, hence as many decimal ones.
    format!("{double:.766e}")
}
