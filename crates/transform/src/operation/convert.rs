//! Conversions between types, each exact or refused, except where [`cast`] says otherwise.

use std::fmt;
use whimbrel_model::{Timestamp, Value, json};

/// The types that `cast` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Double,
    Bool,
    String,
    Timestamp,
    /// The value that a string holds as JSON.
    Json,
    /// A string that holds the value as JSON.
    JsonString,
}

/// What a number that stands for an instant counts, since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Seconds,
    Millis,
    Micros,
    Nanos,
}

impl Unit {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "s" => Unit::Seconds,
            "ms" => Unit::Millis,
            "us" => Unit::Micros,
            "ns" => Unit::Nanos,
            _ => return None,
        })
    }

    fn nanos(self) -> i128 {
        match self {
            Unit::Seconds => 1_000_000_000,
            Unit::Millis => 1_000_000,
            Unit::Micros => 1000,
            Unit::Nanos => 1,
        }
    }
}

impl Kind {
    pub(crate) const NAMES: &str = "int, double, bool, string, timestamp, json or json_string";

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "int" => Kind::Int,
            "double" => Kind::Double,
            "bool" => Kind::Bool,
            "string" => Kind::String,
            "timestamp" => Kind::Timestamp,
            "json" => Kind::Json,
            "json_string" => Kind::JsonString,
            _ => return None,
        })
    }

    /// The type that `value` has; `None` where `cast` does not know it.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Int(_) => Kind::Int,
            Value::Double(_) => Kind::Double,
            Value::Bool(_) => Kind::Bool,
            Value::String(_) => Kind::String,
            Value::Timestamp(_) => Kind::Timestamp,
            _ => return None,
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Int => "int",
            Kind::Double => "double",
            Kind::Bool => "bool",
            Kind::String => "string",
            Kind::Timestamp => "timestamp",
            Kind::Json => "json",
            Kind::JsonString => "json_string",
        })
    }
}

/// `value` as `to`; `None` where it cannot be. Null stays null. Not exact are: an integer beyond 2^53 or
/// a decimal to double (nearest), an instant to a coarser unit (floored), a double to an instant
/// (nearest nanosecond).
pub(crate) fn cast(value: &Value, to: Kind, unit: Unit) -> Option<Value> {
    if matches!(value, Value::Null) {
        return Some(Value::Null);
    }
    match to {
        Kind::Int => to_int(value, unit).map(Value::Int),
        Kind::Double => to_double(value, unit).map(Value::Double),
        Kind::Bool => to_bool(value).map(Value::Bool),
        Kind::String => to_text(value).map(Value::String),
        Kind::Timestamp => to_timestamp(value, unit).map(Value::Timestamp),
        Kind::Json => match value {
            Value::String(text) => json::parse(text.as_bytes()).ok(),
            other => Some(other.clone()),
        },
        Kind::JsonString => {
            let mut out = Vec::new();
            json::write(value, &mut out);
            String::from_utf8(out).ok().map(Value::String)
        }
    }
}

fn to_int(value: &Value, unit: Unit) -> Option<i64> {
    match value {
        Value::Int(n) => Some(*n),
        Value::Bool(flag) => Some(i64::from(*flag)),
        Value::Double(x) => whole(*x),
        Value::String(text) => text.parse().ok(),
        Value::Timestamp(at) => {
            let nanos = i128::from(at.seconds()) * 1_000_000_000 + i128::from(at.nanos());
            i64::try_from(nanos.div_euclid(unit.nanos())).ok()
        }
        _ => None,
    }
}

#[allow(clippy::cast_possible_truncation)]
fn whole(x: f64) -> Option<i64> {
    let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&x);
    (fits && x.fract() == 0.0).then_some(x as i64)
}

#[allow(clippy::cast_precision_loss)]
fn to_double(value: &Value, unit: Unit) -> Option<f64> {
    match value {
        Value::Double(x) => Some(*x),
        Value::Int(n) => Some(*n as f64),
        Value::Decimal(decimal) => finite(decimal.as_str()),
        Value::String(text) if text.ends_with(|c: char| c.is_ascii_digit() || c == '.') => {
            finite(text)
        }
        Value::Timestamp(at) => {
            let nanos = i128::from(at.seconds()) * 1_000_000_000 + i128::from(at.nanos());
            Some(nanos as f64 / unit.nanos() as f64)
        }
        _ => None,
    }
}

fn finite(text: &str) -> Option<f64> {
    text.parse().ok().filter(|x: &f64| x.is_finite())
}

fn to_bool(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::Int(0) => Some(false),
        Value::Int(1) => Some(true),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn to_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Int(n) => Some(n.to_string()),
        Value::Double(x) => x.is_finite().then(|| x.to_string()),
        Value::Decimal(decimal) => Some(decimal.as_str().to_owned()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Timestamp(at) => {
            let text = at.to_string();
            (!text.starts_with('@')).then_some(text)
        }
        _ => None,
    }
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
fn to_timestamp(value: &Value, unit: Unit) -> Option<Timestamp> {
    let nanos = match value {
        Value::Timestamp(at) => return Some(*at),
        Value::String(text) => return Timestamp::parse(text),
        Value::Int(n) => i128::from(*n) * unit.nanos(),
        Value::Double(x) => {
            let nanos = (x * unit.nanos() as f64).round();
            (nanos.abs() < 1e28).then_some(nanos as i128)?
        }
        _ => return None,
    };
    let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?;
    Timestamp::new(
        seconds,
        u32::try_from(nanos.rem_euclid(1_000_000_000)).ok()?,
    )
}
