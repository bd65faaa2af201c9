//! Where `add` and `set` get their value from.

use super::target::{Fixed, Target};
use crate::table::Table;
use whimbrel_model::rule::FieldPath;
use whimbrel_model::{DocContext, DocError, Timestamp, Value};

#[derive(Clone, Debug)]
pub(crate) enum Supply {
    /// `value = …`, or `json = "…"` for what TOML cannot write (null, typed values).
    Fixed(Fixed),
    /// `now = true` and its forms: the run's fixed instant.
    Now(Clock),
    /// `copy = "other.field"`.
    Field(FieldPath),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    Timestamp,
    Text,
    Millis,
    Seconds,
}

pub(crate) enum Supplied<'a> {
    Fixed(&'a Fixed),
    Value(Value),
}

impl Clock {
    fn read(self, now: Timestamp) -> Value {
        match self {
            Clock::Timestamp => Value::Timestamp(now),
            Clock::Text => Value::String(now.to_string()),
            Clock::Millis => Value::Int(now.millis_floor()),
            Clock::Seconds => Value::Int(now.seconds()),
        }
    }
}

impl Supply {
    /// Reads exactly one of `value`, `json`, `now`, `copy`.
    pub(crate) fn parse(table: &Table<'_, '_>) -> Option<Self> {
        let named: Vec<_> = ["value", "json", "now", "copy"]
            .into_iter()
            .filter(|name| table.has(name))
            .collect();
        let value = table.value("value").map(Fixed::new).map(Self::Fixed);
        let json = table.json("json").map(Fixed::new).map(Self::Fixed);
        let now = Self::parse_clock(table).map(Self::Now);
        let copy = table.path("copy").map(Self::Field);
        match named[..] {
            [_] => value.or(json).or(now).or(copy),
            _ => {
                let message = "give exactly one of value, json, now, copy";
                table.error(named.get(1).copied().unwrap_or(""), message);
                None
            }
        }
    }

    fn parse_clock(table: &Table<'_, '_>) -> Option<Clock> {
        let raw = table.raw("now")?.get_ref();
        let clock = match (raw.as_bool(), raw.as_str()) {
            (Some(true), _) | (_, Some("timestamp")) => Clock::Timestamp,
            (_, Some("text")) => Clock::Text,
            (_, Some("ms")) => Clock::Millis,
            (_, Some("s")) => Clock::Seconds,
            _ => {
                let message = "\"now\" must be true, \"timestamp\", \"text\", \"ms\" or \"s\"";
                table.error("now", message);
                return None;
            }
        };
        Some(clock)
    }

    /// `None` where the field to copy is missing.
    pub(crate) fn get(
        &self,
        on: &mut Target<'_>,
        cx: &DocContext<'_>,
    ) -> Result<Option<Supplied<'_>>, DocError> {
        Ok(match self {
            Self::Fixed(fixed) => Some(Supplied::Fixed(fixed)),
            Self::Now(clock) => Some(Supplied::Value(clock.read(cx.now))),
            Self::Field(path) => on.peek(path)?.cloned().map(Supplied::Value),
        })
    }
}

impl Supplied<'_> {
    pub(crate) fn put(self, on: &mut Target<'_>, name: &str) {
        match self {
            Supplied::Fixed(fixed) => on.put_fixed(name, fixed),
            Supplied::Value(value) => on.put(name, value),
        }
    }
}
