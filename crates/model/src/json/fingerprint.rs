//! The hash of a document's meaning.
//!
//! Every value has a 128-bit hash (XXH3) of its kind and content. An array's depends on the order of its
//! elements. An object's is made from the sum of its members' hashes, so that their order does not
//! count. Numbers are hashed by value within their kind, tagged values as what they stand for. The
//! same in memory and from text, on every machine, and (the ledger keeps fingerprints) for ever.

use super::number::{Number, Shape, classify};
use super::reader::{Build, Member, Reader, Result, Text};
use super::tag::{self, dollars};
use super::{JsonError, parse};
use crate::value::normal_form;
use crate::{Fingerprint, Map, Value};
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_128;

/// What keeps equal contents of different kinds apart: odd numbers without a pattern (the fractions of
/// multiples of the golden ratio).
#[derive(Clone, Copy)]
enum Kind {
    Null = 1,
    False,
    True,
    Int,
    Double,
    Decimal,
    Timestamp,
    String,
    Bytes,
    Reference,
    GeoPoint,
    Vector,
    Array,
    Map,
}

const GOLDEN: u128 = 0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835;

fn hash(kind: Kind, content: &[u8]) -> u128 {
    xxh3_128(content) ^ GOLDEN.wrapping_mul(kind as u128)
}

/// The running hash of an array.
#[derive(Clone, Copy, Default)]
struct Sequence {
    state: u128,
    length: u64,
}

impl Sequence {
    fn push(&mut self, element: u128) {
        self.state = self.state.wrapping_mul(GOLDEN).wrapping_add(element);
        self.length += 1;
    }

    fn end(self, kind: Kind) -> u128 {
        hash(kind, &ends(self.state, self.length))
    }
}

/// The running hash of an object.
#[derive(Clone, Copy, Default)]
struct Members {
    sum: u128,
    length: u64,
}

impl Members {
    fn push(&mut self, name: &str, value: u128) {
        self.sum = self.sum.wrapping_add(member(name, value));
        self.length += 1;
    }

    fn end(self) -> u128 {
        hash(Kind::Map, &ends(self.sum, self.length))
    }
}

fn ends(state: u128, length: u64) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(&state.to_le_bytes());
    bytes[16..].copy_from_slice(&length.to_le_bytes());
    bytes
}

fn member(name: &str, value: u128) -> u128 {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&xxh3_128(name.as_bytes()).to_le_bytes());
    bytes[16..].copy_from_slice(&value.to_le_bytes());
    xxh3_128(&bytes)
}

fn of_int(int: i64) -> u128 {
    hash(Kind::Int, &int.to_le_bytes())
}

/// Every NaN is the same value.
fn double_bytes(double: f64) -> [u8; 8] {
    let double = if double.is_nan() { f64::NAN } else { double };
    double.to_bits().to_le_bytes()
}

fn of_double(double: f64) -> u128 {
    hash(Kind::Double, &double_bytes(double))
}

fn of_decimal(literal: &str) -> u128 {
    let (negative, digits, power) = normal_form(literal);
    let mut bytes = Vec::with_capacity(digits.len() + 9);
    bytes.push(u8::from(negative));
    bytes.extend_from_slice(&power.to_le_bytes());
    bytes.extend_from_slice(digits.as_bytes());
    hash(Kind::Decimal, &bytes)
}

fn of_string(text: &str) -> u128 {
    hash(Kind::String, text.as_bytes())
}

fn of_doubles(kind: Kind, doubles: &[f64]) -> u128 {
    let bytes: Vec<u8> = doubles.iter().flat_map(|d| double_bytes(*d)).collect();
    hash(kind, &bytes)
}

fn of_value(value: &Value) -> u128 {
    match value {
        Value::Null => hash(Kind::Null, &[]),
        Value::Bool(false) => hash(Kind::False, &[]),
        Value::Bool(true) => hash(Kind::True, &[]),
        Value::Int(int) => of_int(*int),
        Value::Double(double) => of_double(*double),
        Value::Decimal(decimal) => of_decimal(decimal.as_str()),
        Value::Timestamp(at) => {
            let mut bytes = [0; 12];
            bytes[..8].copy_from_slice(&at.seconds().to_le_bytes());
            bytes[8..].copy_from_slice(&at.nanos().to_le_bytes());
            hash(Kind::Timestamp, &bytes)
        }
        Value::String(text) => of_string(text),
        Value::Bytes(bytes) => hash(Kind::Bytes, bytes),
        Value::Reference(path) => hash(Kind::Reference, path.as_bytes()),
        Value::GeoPoint(point) => of_doubles(Kind::GeoPoint, &[point.latitude, point.longitude]),
        Value::Vector(elements) => of_doubles(Kind::Vector, elements),
        Value::Array(items) => {
            let mut sequence = Sequence::default();
            for item in items {
                sequence.push(of_value(item));
            }
            sequence.end(Kind::Array)
        }
        Value::Map(map) => of_members(map),
    }
}

fn of_members(map: &Map) -> u128 {
    let mut members = Members::default();
    for (name, value) in map {
        members.push(name, of_value(value));
    }
    members.end()
}

pub(super) fn of_map(map: &Map) -> Fingerprint {
    Fingerprint(of_members(map))
}

/// What a value read from text may be to the object or array around it.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Number,
    Text,
    /// An array of nothing but numbers.
    Numbers,
    Map,
    Other,
}

#[derive(Clone, Copy)]
struct Hashed {
    hash: u128,
    form: Form,
}

struct Array {
    sequence: Sequence,
    numbers: bool,
}

#[derive(Default)]
struct Object {
    members: Members,
    /// The only member so far, where it is named like a tag.
    tag: Option<MaybeTag>,
}

struct MaybeTag {
    name: String,
    content: Hashed,
    range: Range<u32>,
}

/// Hashes while reading.
struct Hasher;

fn hashed(hash: u128, form: Form) -> Hashed {
    Hashed { hash, form }
}

impl Build for Hasher {
    const CHECK_NAMES: bool = true;
    type Value = Hashed;
    type Array = Array;
    type Object = Object;

    fn null(&mut self) -> Hashed {
        hashed(of_value(&Value::Null), Form::Other)
    }

    fn bool(&mut self, bool: bool) -> Hashed {
        hashed(of_value(&Value::Bool(bool)), Form::Other)
    }

    fn number(&mut self, literal: &str, shape: Shape) -> Hashed {
        match classify(literal, shape) {
            Number::Int(int) => hashed(of_int(int), Form::Number),
            Number::Double(double) => hashed(of_double(double), Form::Number),
            Number::Decimal => hashed(of_decimal(literal), Form::Other),
        }
    }

    fn string(&mut self, text: Text, source: &str) -> Result<Hashed> {
        Ok(hashed(of_string(&text.resolve(source)?), Form::Text))
    }

    fn array(&mut self) -> Array {
        Array {
            sequence: Sequence::default(),
            numbers: true,
        }
    }

    fn element(&mut self, array: &mut Array, value: Hashed) {
        array.sequence.push(value.hash);
        array.numbers &= value.form == Form::Number;
    }

    fn end_array(&mut self, array: Array) -> Hashed {
        let form = if array.numbers {
            Form::Numbers
        } else {
            Form::Other
        };
        hashed(array.sequence.end(Kind::Array), form)
    }

    fn object(&mut self, _: u32) -> Object {
        Object::default()
    }

    fn member(&mut self, object: &mut Object, member: Member<Hashed>, source: &str) -> Result<()> {
        let name = member.name.resolve(source)?;
        object.members.push(&name, member.value.hash);
        object.tag = if object.members.length == 1 && dollars(&name) > 0 {
            Some(MaybeTag {
                name: name.into_owned(),
                content: member.value,
                range: member.range,
            })
        } else {
            None
        };
        Ok(())
    }

    fn end_object(&mut self, object: Object, source: &str) -> Result<Hashed> {
        match object.tag {
            None => Ok(hashed(object.members.end(), Form::Map)),
            Some(tag) => tagged(&tag, object.members, source),
        }
    }
}

/// What parsing makes of an object whose only member is named like a tag, as its hash.
fn tagged(tag: &MaybeTag, as_it_stands: Members, source: &str) -> Result<Hashed> {
    // Every name that comes here begins with a `$`.
    let less = &tag.name[1..];
    if less.starts_with('$') {
        let mut members = Members::default();
        members.push(less, tag.content.hash);
        return Ok(hashed(members.end(), Form::Map));
    }
    let Range { start, end } = tag.range;
    let content = &source[start as usize..end as usize];
    let value = match tag.content.form {
        Form::Text => {
            let text = Text::new(start as usize + 1, end as usize - 1, content.contains('\\'));
            tag::from_text(less, &text.resolve(source)?)
        }
        Form::Numbers => match parse::value(content.as_bytes())? {
            Value::Array(items) => tag::from_items(less, &items),
            _ => None,
        },
        _ => None,
    };
    Ok(match value {
        Some(value @ Value::Double(_)) => hashed(of_value(&value), Form::Number),
        Some(value) => hashed(of_value(&value), Form::Other),
        None => hashed(as_it_stands.end(), Form::Map),
    })
}

pub(super) fn of_json(bytes: &[u8]) -> Result<Fingerprint> {
    let whole = Reader::new(bytes, Hasher)?.read()?;
    if whole.form == Form::Map {
        Ok(Fingerprint(whole.hash))
    } else {
        Err(JsonError::not_object().into())
    }
}
