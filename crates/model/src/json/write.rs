//! Writing values, tagged or plain.

use super::number::{Number, classify, double_text, shape, write_bare, write_short};
use super::tag::{self, dollars};
use super::{Losses, base64, string};
use crate::{Decimal, Map, Timestamp, Value};

/// PostgreSQL's `numeric` holds 16383 digits after the point and more before; a longer literal goes
/// into a tag, as text.
const BARE_DECIMAL_MAX: usize = 16_000;

pub(super) fn value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(bool) => write_bool(*bool, out),
        Value::Int(int) => write_int(*int, out),
        Value::Double(double) => write_double(*double, out),
        Value::Decimal(decimal) => write_decimal(decimal, out),
        Value::Timestamp(at) => tagged_text(tag::TIMESTAMP, &at.to_string(), out),
        Value::String(text) => string::write(text, out),
        Value::Bytes(bytes) => {
            open(tag::BYTES, out);
            write_bytes(bytes, out);
            out.push(b'}');
        }
        Value::Reference(path) => tagged_text(tag::REFERENCE, path, out),
        Value::GeoPoint(point) => {
            open(tag::GEOPOINT, out);
            list(&[point.latitude, point.longitude], out, |d, out| {
                write_double(*d, out);
            });
            out.push(b'}');
        }
        Value::Vector(elements) => {
            open(tag::VECTOR, out);
            list(elements, out, |d, out| write_double(*d, out));
            out.push(b'}');
        }
        Value::Array(items) => list(items, out, self::value),
        Value::Map(members) => map(members, out),
    }
}

pub(super) fn map(map: &Map, out: &mut Vec<u8>) {
    // A lone member named like a tag must not be read as one.
    let escape = map.len() == 1 && map.keys().all(|name| dollars(name) > 0);
    out.push(b'{');
    for (i, (name, member)) in map.iter().enumerate() {
        out.extend_from_slice(if i > 0 { b",\"" } else { b"\"" });
        if escape {
            out.push(b'$');
        }
        string::write_inside(name, out);
        out.extend_from_slice(b"\":");
        value(member, out);
    }
    out.push(b'}');
}

fn list<T>(items: &[T], out: &mut Vec<u8>, mut write: impl FnMut(&T, &mut Vec<u8>)) {
    out.push(b'[');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

fn open(tag: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"$");
    out.extend_from_slice(tag.as_bytes());
    out.extend_from_slice(b"\":");
}

fn tagged_text(tag: &str, text: &str, out: &mut Vec<u8>) {
    open(tag, out);
    string::write(text, out);
    out.push(b'}');
}

fn write_bool(bool: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if bool { b"true" } else { b"false" });
}

fn write_int(int: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(int).as_bytes());
}

fn write_double(double: f64, out: &mut Vec<u8>) {
    if !write_bare(double, out) {
        tagged_text(tag::DOUBLE, &double_text(double), out);
    }
}

fn write_decimal(decimal: &Decimal, out: &mut Vec<u8>) {
    let literal = decimal.as_str();
    let shape = shape(literal);
    let bare = literal.len() <= BARE_DECIMAL_MAX
        && !shape.exponent
        && classify(literal, shape) == Number::Decimal;
    if bare {
        out.extend_from_slice(literal.as_bytes());
    } else {
        tagged_text(tag::DECIMAL, literal, out);
    }
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    base64::encode(bytes, out);
    out.push(b'"');
}

pub(super) fn plain(value: &Value, out: &mut Vec<u8>) -> Losses {
    let mut losses = Losses::default();
    plain_value(value, out, &mut losses);
    losses
}

fn plain_value(value: &Value, out: &mut Vec<u8>, losses: &mut Losses) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(bool) => write_bool(*bool, out),
        Value::Int(int) => write_int(*int, out),
        Value::Double(double) => plain_double(*double, out, losses),
        Value::Decimal(decimal) => out.extend_from_slice(decimal.as_str().as_bytes()),
        Value::Timestamp(at) => plain_timestamp(*at, out, losses),
        Value::String(text) => string::write(text, out),
        Value::Bytes(bytes) => {
            losses.bytes += 1;
            write_bytes(bytes, out);
        }
        Value::Reference(path) => {
            losses.others += 1;
            string::write(path, out);
        }
        Value::GeoPoint(point) => {
            losses.others += 1;
            out.extend_from_slice(b"{\"latitude\":");
            plain_double(point.latitude, out, losses);
            out.extend_from_slice(b",\"longitude\":");
            plain_double(point.longitude, out, losses);
            out.push(b'}');
        }
        Value::Vector(elements) => {
            losses.others += 1;
            list(elements, out, |d, out| plain_double(*d, out, losses));
        }
        Value::Array(items) => list(items, out, |item, out| plain_value(item, out, losses)),
        Value::Map(members) => {
            out.push(b'{');
            for (i, (name, member)) in members.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                string::write(name, out);
                out.push(b':');
                plain_value(member, out, losses);
            }
            out.push(b'}');
        }
    }
}

fn plain_double(double: f64, out: &mut Vec<u8>, losses: &mut Losses) {
    if double.is_finite() {
        write_short(double, out);
    } else {
        losses.doubles += 1;
        out.extend_from_slice(b"null");
    }
}

fn plain_timestamp(at: Timestamp, out: &mut Vec<u8>, losses: &mut Losses) {
    losses.timestamps += 1;
    string::write(&at.to_string(), out);
}
