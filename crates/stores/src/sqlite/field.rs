//! Columns as fields: which value a column's content is, and what a value becomes in a column.
//!
//! A value is refused where reading it back would give another one. Two readings are the column's own
//! choice and taken: a whole number in a column of another numeric type (`3` in `REAL`, `3.0` in
//! `NUMERIC`) and a timestamp's text in a timestamp column.

use rusqlite::types::{Value as Sql, ValueRef};
use whimbrel_model::{Timestamp, Value, json};

/// SQLite's rules of column affinity (<https://sqlite.org/datatype3.html>, section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Affinity {
    Integer,
    Text,
    Blob,
    Real,
    Numeric,
}

impl Affinity {
    pub(super) fn of(declared: &str, strict: bool) -> Self {
        let upper = declared.to_ascii_uppercase();
        let has = |names: &[&str]| names.iter().any(|n| upper.contains(n));
        if has(&["INT"]) {
            Self::Integer
        } else if has(&["CHAR", "CLOB", "TEXT"]) {
            Self::Text
        } else if has(&["BLOB"]) || upper.is_empty() || (strict && upper == "ANY") {
            Self::Blob
        } else if has(&["REAL", "FLOA", "DOUB"]) {
            Self::Real
        } else {
            Self::Numeric
        }
    }

    /// A type that has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Integer => "INTEGER",
            Self::Text => "TEXT",
            Self::Blob => "BLOB",
            Self::Real => "REAL",
            Self::Numeric => "NUMERIC",
        }
    }

    fn turns_text_into_numbers(self) -> bool {
        matches!(self, Self::Integer | Self::Real | Self::Numeric)
    }
}

/// Whether SQLite may take the text for a number. Errs towards yes.
pub(super) fn looks_numeric(text: &str) -> bool {
    let text = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\u{b}');
    text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'))
        && text.parse::<f64>().is_ok()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Plain,
    Bool,
    Json,
    Timestamp,
}

#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(super) name: String,
    pub(super) declared: String,
    pub(super) nullable: bool,
    /// Which part of the key the column is.
    pub(super) key_part: Option<usize>,
    pub(super) affinity: Affinity,
    meaning: Meaning,
}

impl Field {
    pub(super) fn new(
        name: &str,
        declared: &str,
        strict: bool,
        nullable: bool,
        key_part: Option<usize>,
    ) -> Self {
        let upper = declared.to_ascii_uppercase();
        let meaning = if upper.starts_with("BOOL") {
            Meaning::Bool
        } else if upper.starts_with("JSON") {
            Meaning::Json
        } else if upper.starts_with("DATETIME") || upper.starts_with("TIMESTAMP") {
            Meaning::Timestamp
        } else {
            Meaning::Plain
        };
        Self {
            name: name.to_owned(),
            declared: declared.to_owned(),
            nullable,
            key_part,
            affinity: Affinity::of(declared, strict),
            meaning,
        }
    }

    /// # Errors
    /// Why the content is no value.
    pub(super) fn decode(&self, content: ValueRef<'_>) -> Result<Value, String> {
        Ok(match content {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(n @ (0 | 1)) if self.meaning == Meaning::Bool => Value::Bool(n == 1),
            ValueRef::Integer(n) => Value::Int(n),
            ValueRef::Real(x) => Value::Double(x),
            ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
            ValueRef::Text(bytes) => {
                let text = std::str::from_utf8(bytes)
                    .map_err(|_| format!("column {:?} holds text that is not UTF-8", self.name))?;
                self.decode_text(text)
            }
        })
    }

    fn decode_text(&self, text: &str) -> Value {
        let meant = match self.meaning {
            Meaning::Json => json::parse(text.as_bytes()).ok(),
            Meaning::Timestamp => Timestamp::parse(text)
                .filter(|at| at.to_string() == text)
                .map(Value::Timestamp),
            Meaning::Plain | Meaning::Bool => None,
        };
        meant.unwrap_or_else(|| Value::String(text.to_owned()))
    }

    /// `plain` takes what loses only the type: a bool as 0 or 1, an array as JSON text.
    ///
    /// # Errors
    /// Why the column cannot hold the value; names the field, never the value.
    pub(super) fn encode(&self, value: &Value, plain: bool) -> Result<Sql, String> {
        let encoded = match self.meaning {
            Meaning::Json => self.encode_json(value, plain),
            _ => self
                .encode_scalar(value)
                .or_else(|| plain.then(|| forced(value))),
        };
        encoded.ok_or_else(|| {
            let declared = if self.declared.is_empty() {
                "untyped"
            } else {
                &self.declared
            };
            format!(
                "field {:?}: its {declared} column would not give the {} back (declare the column \
                 for it, or set `plain = true`)",
                self.name,
                value.type_name()
            )
        })
    }

    fn encode_json(&self, value: &Value, plain: bool) -> Option<Sql> {
        let numeric = self.affinity.turns_text_into_numbers();
        let exact = match value {
            Value::Null => return Some(Sql::Null),
            Value::Decimal(_) => !numeric,
            Value::Double(x) => !(numeric && is_negative_zero(*x)),
            _ => true,
        };
        let mut out = Vec::new();
        if plain {
            let _ = json::write_plain(value, &mut out);
        } else if exact {
            json::write(value, &mut out);
        } else {
            return None;
        }
        String::from_utf8(out).ok().map(Sql::Text)
    }

    fn encode_scalar(&self, value: &Value) -> Option<Sql> {
        let numeric = self.affinity.turns_text_into_numbers();
        let text = self.affinity == Affinity::Text;
        match value {
            Value::Null => Some(Sql::Null),
            Value::Bool(b) => (self.meaning == Meaning::Bool).then(|| Sql::Integer(i64::from(*b))),
            Value::Int(n) => {
                let same = match self.affinity {
                    Affinity::Text => false,
                    Affinity::Real => is_exact(*n),
                    _ => !(self.meaning == Meaning::Bool && matches!(n, 0 | 1)),
                };
                same.then_some(Sql::Integer(*n))
            }
            Value::Double(x) => {
                let lost = x.is_nan() || text || (numeric && is_negative_zero(*x));
                (!lost).then_some(Sql::Real(*x))
            }
            Value::String(s) => (!(numeric && looks_numeric(s))).then(|| Sql::Text(s.clone())),
            Value::Bytes(bytes) => Some(Sql::Blob(bytes.clone())),
            Value::Timestamp(at) => {
                let written = at.to_string();
                let back = Timestamp::parse(&written) == Some(*at);
                (self.meaning == Meaning::Timestamp && back).then_some(Sql::Text(written))
            }
            Value::Decimal(_)
            | Value::Reference(_)
            | Value::GeoPoint(_)
            | Value::Vector(_)
            | Value::Array(_)
            | Value::Map(_) => None,
        }
    }
}

/// What a value becomes where its type may be lost.
fn forced(value: &Value) -> Sql {
    match value {
        Value::Bool(b) => Sql::Integer(i64::from(*b)),
        Value::Int(n) => Sql::Integer(*n),
        Value::Double(x) if x.is_nan() => Sql::Null,
        Value::Double(x) => Sql::Real(*x),
        Value::String(s) | Value::Reference(s) => Sql::Text(s.clone()),
        Value::Timestamp(at) => Sql::Text(at.to_string()),
        Value::Decimal(d) => Sql::Text(d.as_str().to_owned()),
        other => {
            let mut out = Vec::new();
            let _ = json::write_plain(other, &mut out);
            Sql::Text(String::from_utf8_lossy(&out).into_owned())
        }
    }
}

fn is_negative_zero(x: f64) -> bool {
    x == 0.0 && x.is_sign_negative()
}

/// Whether a double holds the integer exactly.
fn is_exact(n: i64) -> bool {
    let bits = n.unsigned_abs();
    bits == 0 || 64 - bits.leading_zeros() - bits.trailing_zeros() <= 53
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinities_follow_the_manual() {
        for (declared, expect) in [
            ("INT", Affinity::Integer),
            ("UNSIGNED BIG INT", Affinity::Integer),
            ("VARCHAR(255)", Affinity::Text),
            ("UUID TEXT", Affinity::Text),
            ("", Affinity::Blob),
            ("DOUBLE PRECISION", Affinity::Real),
            ("FLOATING POINT", Affinity::Integer),
            ("DECIMAL(10,5)", Affinity::Numeric),
            ("DATETIME", Affinity::Numeric),
            ("JSON", Affinity::Numeric),
            ("STRING", Affinity::Numeric),
        ] {
            assert_eq!(Affinity::of(declared, false), expect, "{declared}");
        }
        assert_eq!(Affinity::of("ANY", true), Affinity::Blob);
        for affinity in [
            Affinity::Integer,
            Affinity::Text,
            Affinity::Blob,
            Affinity::Real,
            Affinity::Numeric,
        ] {
            assert_eq!(Affinity::of(affinity.name(), false), affinity);
        }
    }

    #[test]
    fn numbers_in_disguise_are_noticed() {
        for (text, expect) in [
            ("1", true),
            (" 1e5\n", true),
            ("-.5", true),
            ("1a", false),
            ("", false),
            ("NaN", false),
            ("2024-01-01", false),
            ("0x10", false),
        ] {
            assert_eq!(looks_numeric(text), expect, "{text:?}");
        }
    }

    #[test]
    fn only_exact_integers_go_into_doubles() {
        for (n, expect) in [
            (0, true),
            (1 << 53, true),
            ((1 << 53) + 1, false),
            (i64::MIN, true),
            (i64::MAX, false),
            (-3, true),
        ] {
            assert_eq!(is_exact(n), expect, "{n}");
        }
    }
}
