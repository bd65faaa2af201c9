//! Values that keep their types from one store to the next.

use indexmap::IndexMap;
use std::fmt;

/// A document's fields. The order of insertion is kept; equality ignores it.
pub type Map = IndexMap<String, Value>;

/// One value of a document.
///
/// Equality is identity of what is stored: `Int(1) != Double(1.0)`, `-0.0 != 0.0`, `NaN == NaN`.
#[derive(Clone, Debug)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    /// A number that neither `i64` nor `f64` holds exactly, kept as its decimal literal.
    Decimal(Decimal),
    Timestamp(Timestamp),
    String(String),
    Bytes(Vec<u8>),
    /// The path of another document, as its store writes it.
    Reference(String),
    GeoPoint(GeoPoint),
    Vector(Vec<f64>),
    Array(Vec<Value>),
    Map(Map),
}

impl Value {
    /// The type's name as it stands in messages, checks and TOML operations.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Double(_) => "double",
            Value::Decimal(_) => "decimal",
            Value::Timestamp(_) => "timestamp",
            Value::String(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::Reference(_) => "reference",
            Value::GeoPoint(_) => "geopoint",
            Value::Vector(_) => "vector",
            Value::Array(_) => "array",
            Value::Map(_) => "map",
        }
    }
}

fn same_double(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Double(a), Value::Double(b)) => same_double(*a, *b),
            (Value::Decimal(a), Value::Decimal(b)) => a == b,
            (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
            (Value::String(a), Value::String(b)) | (Value::Reference(a), Value::Reference(b)) => {
                a == b
            }
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::GeoPoint(a), Value::GeoPoint(b)) => a == b,
            (Value::Vector(a), Value::Vector(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_double(*a, *b))
            }
            (Value::Array(a), Value::Array(b)) => a == b,
            (Value::Map(a), Value::Map(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

/// An instant: seconds since 1970-01-01T00:00:00Z and nanoseconds after that second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    seconds: i64,
    nanos: u32,
}

impl Timestamp {
    /// `None` when `nanos` is not below one second.
    #[must_use]
    pub fn new(seconds: i64, nanos: u32) -> Option<Self> {
        (nanos < 1_000_000_000).then_some(Self { seconds, nanos })
    }

    #[must_use]
    pub fn from_micros(micros: i64) -> Self {
        Self {
            seconds: micros.div_euclid(1_000_000),
            nanos: u32::try_from(micros.rem_euclid(1_000_000)).unwrap_or(0) * 1000,
        }
    }

    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        Self {
            seconds: millis.div_euclid(1000),
            nanos: u32::try_from(millis.rem_euclid(1000)).unwrap_or(0) * 1_000_000,
        }
    }

    /// Microseconds since the epoch; `None` when the instant has finer digits or does not fit.
    #[must_use]
    pub fn as_micros(self) -> Option<i64> {
        if !self.nanos.is_multiple_of(1000) {
            return None;
        }
        self.seconds
            .checked_mul(1_000_000)?
            .checked_add(i64::from(self.nanos / 1000))
    }

    #[must_use]
    pub fn seconds(self) -> i64 {
        self.seconds
    }

    #[must_use]
    pub fn nanos(self) -> u32 {
        self.nanos
    }

    /// Milliseconds since the epoch, finer digits dropped (what a JavaScript `Date` holds).
    #[must_use]
    pub fn millis_floor(self) -> i64 {
        self.seconds
            .saturating_mul(1000)
            .saturating_add(i64::from(self.nanos / 1_000_000))
    }

    /// Reads RFC 3339 with an offset (`2026-01-31T08:00:00.5Z`); anything else is `None`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let at: jiff::Timestamp = text.parse().ok()?;
        let nanos = at.subsec_nanosecond();
        let (seconds, nanos) = if nanos < 0 {
            (at.as_second() - 1, nanos + 1_000_000_000)
        } else {
            (at.as_second(), nanos)
        };
        Self::new(seconds, u32::try_from(nanos).ok()?)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with as many fraction digits as are needed. An instant outside the years
    /// -9999 to 9999 prints as `@SECONDS.NANOS`, which [`Timestamp::parse`] does not read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = i32::try_from(self.nanos).unwrap_or(0);
        match jiff::Timestamp::new(self.seconds, nanos) {
            Ok(at) => write!(f, "{at}"),
            Err(_) => write!(f, "@{}.{:09}", self.seconds, self.nanos),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct GeoPoint {
    pub latitude: f64,
    pub longitude: f64,
}

impl PartialEq for GeoPoint {
    fn eq(&self, other: &Self) -> bool {
        same_double(self.latitude, other.latitude) && same_double(self.longitude, other.longitude)
    }
}

impl Eq for GeoPoint {}

/// A decimal number in its literal form (JSON's number syntax), of any length.
///
/// Built only by [`crate::json`] and by drivers from a checked literal. Two decimals are equal when
/// they denote the same number (`1.50 == 15e-1`).
#[derive(Clone, Debug)]
pub struct Decimal {
    literal: String,
}

impl Decimal {
    /// `None` when `literal` is not a number in JSON's syntax.
    #[must_use]
    pub fn new(literal: impl Into<String>) -> Option<Self> {
        let literal = literal.into();
        is_json_number(&literal).then_some(Self { literal })
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.literal
    }

    /// Sign, significant digits without zeros at either end, and the power of ten of the last digit.
    /// Equal numbers have equal normal forms. Zero is `(false, "", 0)`.
    #[must_use]
    pub fn normal_form(&self) -> (bool, String, i64) {
        normal_form(&self.literal)
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.literal == other.literal || self.normal_form() == other.normal_form()
    }
}

impl Eq for Decimal {}

/// [`Decimal::normal_form`] of any JSON number literal.
pub(crate) fn normal_form(literal: &str) -> (bool, String, i64) {
    let (negative, rest) = match literal.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, literal),
    };
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], exponent_of(&rest[at + 1..])),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits: String = whole.chars().chain(fraction.chars()).collect();
    let mut power = exponent.saturating_sub(i64::try_from(fraction.len()).unwrap_or(i64::MAX / 4));
    let kept = digits.trim_end_matches('0').len();
    power = power.saturating_add(i64::try_from(digits.len() - kept).unwrap_or(0));
    digits.truncate(kept);
    let digits = digits.trim_start_matches('0').to_owned();
    if digits.is_empty() {
        (false, digits, 0)
    } else {
        (negative, digits, power)
    }
}

/// An exponent beyond all reason counts as the greatest or the least that is still reckoned with.
fn exponent_of(text: &str) -> i64 {
    const GREATEST: i64 = i64::MAX / 4;
    match text.parse::<i64>() {
        Ok(exponent) => exponent.clamp(-GREATEST, GREATEST),
        Err(_) if text.starts_with('-') => -GREATEST,
        Err(_) => GREATEST,
    }
}

fn is_json_number(text: &str) -> bool {
    let mut rest = text.strip_prefix('-').unwrap_or(text).as_bytes();
    let digits = |rest: &mut &[u8]| {
        let n = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        *rest = &rest[n..];
        n
    };
    let leading_zero = rest.first() == Some(&b'0');
    let whole = digits(&mut rest);
    if whole == 0 || (leading_zero && whole > 1) {
        return false;
    }
    if rest.first() == Some(&b'.') {
        rest = &rest[1..];
        if digits(&mut rest) == 0 {
            return false;
        }
    }
    if matches!(rest.first(), Some(b'e' | b'E')) {
        rest = &rest[1..];
        if matches!(rest.first(), Some(b'+' | b'-')) {
            rest = &rest[1..];
        }
        if digits(&mut rest) == 0 {
            return false;
        }
    }
    rest.is_empty()
}

/// A 128-bit hash of a document's *meaning*: the same for the same values whatever the order of keys,
/// the white space, or the encoding they were read from. It tells copies apart; it is no signature.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub u128);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_compare_as_numbers() {
        for (a, b, same) in [
            ("1.50", "15e-1", true),
            ("100", "1E2", true),
            ("0.000", "-0", true),
            ("12345678901234567890", "12345678901234567891", false),
            ("-1", "1", false),
            ("1e99999999999999999999", "1e-99999999999999999999", false),
        ] {
            let (a, b) = (Decimal::new(a).unwrap(), Decimal::new(b).unwrap());
            assert_eq!(a == b, same, "{a:?} {b:?}");
        }
        for bad in ["", "-", "01", "1.", ".5", "1e", "1e+", "+1", "NaN", "1 "] {
            assert!(Decimal::new(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn timestamps_round_trip() {
        for (seconds, nanos) in [
            (0, 0),
            (-1, 999_999_999),
            (1_700_000_000, 1000),
            (-62_135_596_800, 5),
        ] {
            let at = Timestamp::new(seconds, nanos).unwrap();
            assert_eq!(Timestamp::parse(&at.to_string()), Some(at));
        }
        assert_eq!(Timestamp::from_micros(-1).as_micros(), Some(-1));
        assert_eq!(Timestamp::new(0, 1_000_000_000), None);
    }
}
