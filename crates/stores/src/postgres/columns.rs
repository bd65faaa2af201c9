//! Columns as fields: what a column of each type is as a [`Value`], through the texts that PostgreSQL's
//! own output and input functions use.
//!
//! | column | value |
//! |---|---|
//! | `bool` | bool |
//! | `int2`, `int4`, `int8`, `numeric(p,0)` up to 18 digits | int |
//! | other `numeric` | decimal (`NaN` and the infinities: double) |
//! | `float4`, `float8` | double |
//! | `timestamptz` | timestamp (`infinity`: string) |
//! | `timestamp` | string, `2026-01-31T08:00:00` |
//! | `bytea` | bytes |
//! | `json`, `jsonb` | the value in it, tagged or plain |
//! | an array | array of these (with bounds of its own: string) |
//! | everything else | string, as PostgreSQL writes it (`uuid`, `date`, `inet`, enums, …) |
//!
//! NULL is null; a document without the field becomes NULL. The other way, a value that the column would
//! change (a third digit in `numeric(10,2)`, an integer in `float4` that it cannot hold) is refused.

use super::array::{self, Item};
use super::instant;
use std::fmt::Write as _;
use whimbrel_model::{Decimal, Value, json};

#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub name: String,
    pub kind: Kind,
    /// The column's type for a cast, quoted.
    pub cast: String,
    /// The type as a user knows it: `numeric(10,2)`.
    pub declared: String,
    pub nullable: bool,
    /// Which column of the key it is.
    pub key_part: Option<usize>,
}

impl Field {
    /// Whether the payload sets it (a key column is set by the key).
    pub fn is_written(&self) -> bool {
        self.key_part.is_none()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    /// Bytes: 2, 4, 8.
    Int(u8),
    Float4,
    Float8,
    /// `numeric(p,0)` whose every value is an `i64`.
    WholeNumber,
    /// Digits behind the point, where declared.
    Numeric(Option<i32>),
    /// The most characters, where declared.
    Text(Option<usize>),
    /// `char(n)`: padded, so trailing spaces are none of the value.
    Char(Option<usize>),
    Bytes,
    /// Digits of a second's fraction.
    Timestamp(usize),
    LocalTimestamp(usize),
    Time(usize),
    /// `jsonb` or not: it cannot hold all that `json` can.
    Json {
        binary: bool,
    },
    Array(Box<Kind>),
    Other,
}

impl Kind {
    /// By the type's name in `pg_catalog` (empty for a type of other schemas) and its modifier.
    pub fn of(name: &str, modifier: i32) -> Self {
        let fraction = usize::try_from(modifier).unwrap_or(6);
        let length = usize::try_from(modifier.saturating_sub(4)).ok();
        match name {
            "bool" => Kind::Bool,
            "int2" => Kind::Int(2),
            "int4" => Kind::Int(4),
            "int8" => Kind::Int(8),
            "float4" => Kind::Float4,
            "float8" => Kind::Float8,
            "numeric" if modifier >= 4 => {
                // Packed as in the server's numeric.c; the scale has 11 bits and a sign.
                let packed = modifier - 4;
                let (precision, scale) = (packed >> 16, ((packed & 0x7ff) ^ 1024) - 1024);
                if scale == 0 && precision <= 18 {
                    Kind::WholeNumber
                } else {
                    Kind::Numeric(Some(scale))
                }
            }
            "numeric" => Kind::Numeric(None),
            "text" => Kind::Text(None),
            "varchar" => Kind::Text(length),
            "bpchar" => Kind::Char(length),
            "bytea" => Kind::Bytes,
            "timestamptz" => Kind::Timestamp(fraction),
            "timestamp" => Kind::LocalTimestamp(fraction),
            "time" | "timetz" => Kind::Time(fraction),
            "json" => Kind::Json { binary: false },
            "jsonb" => Kind::Json { binary: true },
            _ => Kind::Other,
        }
    }

    /// Reads the text that `column::text` gave.
    ///
    /// # Errors
    /// What is wrong with it, without the value.
    pub fn decode(&self, text: &str) -> Result<Value, String> {
        let number = || "it holds no number".to_owned();
        Ok(match self {
            Kind::Bool => match text {
                "true" | "t" => Value::Bool(true),
                "false" | "f" => Value::Bool(false),
                _ => return Err("it holds no boolean".to_owned()),
            },
            Kind::Int(_) => Value::Int(text.parse().map_err(|_| number())?),
            Kind::Float8 => Value::Double(text.parse().map_err(|_| number())?),
            Kind::Float4 => Value::Double(text.parse::<f32>().map_err(|_| number())?.into()),
            Kind::WholeNumber | Kind::Numeric(_) => match (self, text) {
                (_, "NaN" | "Infinity" | "-Infinity") => {
                    Value::Double(text.parse().map_err(|_| number())?)
                }
                (Kind::WholeNumber, _) => Value::Int(text.parse().map_err(|_| number())?),
                _ => Value::Decimal(Decimal::new(text).ok_or_else(number)?),
            },
            Kind::Bytes => Value::Bytes(from_hex(text).ok_or("it holds no bytes in hex")?),
            Kind::Timestamp(_) => match instant::read(text) {
                Some(at) => Value::Timestamp(at),
                None => Value::String(text.to_owned()),
            },
            Kind::LocalTimestamp(_) => Value::String(text.replacen(' ', "T", 1)),
            Kind::Json { .. } => json::parse(text.as_bytes()).map_err(|e| e.to_string())?,
            Kind::Array(element) => match array::read(text) {
                Some(items) => Value::Array(element.decode_items(&items)?),
                None => Value::String(text.to_owned()),
            },
            // A cast to text drops the padding of the column itself, not that of an array's elements.
            Kind::Char(_) => Value::String(text.trim_end_matches(' ').to_owned()),
            Kind::Text(_) | Kind::Time(_) | Kind::Other => Value::String(text.to_owned()),
        })
    }

    fn decode_items(&self, items: &[Item]) -> Result<Vec<Value>, String> {
        items
            .iter()
            .map(|item| match item {
                Item::Null => Ok(Value::Null),
                Item::Text(text) => self.decode(text),
                Item::Array(items) => self.decode_items(items).map(Value::Array),
            })
            .collect()
    }

    /// The text that the column's input function reads; `None` is NULL.
    ///
    /// # Errors
    /// Why the column cannot hold the value as it is; names no value.
    pub fn encode(&self, value: &Value, plain: bool) -> Result<Option<String>, String> {
        if matches!(value, Value::Null) {
            return Ok(None);
        }
        let text = match (self, value) {
            (Kind::Bool, Value::Bool(b)) => b.to_string(),
            (Kind::Int(_) | Kind::WholeNumber | Kind::Numeric(_), Value::Int(n)) => {
                self.whole(*n)?.to_string()
            }
            (Kind::Float4 | Kind::Float8, value) => self.float(value)?,
            (Kind::WholeNumber, value) => numeric(value, Some(0))?,
            (Kind::Numeric(scale), value) => numeric(value, *scale)?,
            (Kind::Char(_), Value::String(s)) if s.ends_with(' ') => {
                return Err("a char(n) column does not keep trailing spaces".to_owned());
            }
            // Blanks beyond the length are cut without a word, anything else is an error.
            (Kind::Text(Some(most)) | Kind::Char(Some(most)), Value::String(s))
                if s.chars().count() > *most =>
            {
                return Err(format!("the text has more than {most} characters"));
            }
            (Kind::Timestamp(digits), Value::Timestamp(at)) => {
                let text = instant::write(*at).ok_or_else(|| finer(6))?;
                fraction_within(text, *digits)?
            }
            (Kind::Timestamp(_), Value::String(s)) if s.ends_with("infinity") => s.clone(),
            (Kind::LocalTimestamp(digits) | Kind::Time(digits), Value::String(s)) => {
                fraction_within(s.clone(), *digits)?
            }
            (Kind::Bytes, Value::Bytes(bytes)) => to_hex(bytes),
            (Kind::Json { binary }, value) => to_json(value, *binary, plain)?,
            (Kind::Array(element), Value::Array(values)) => {
                let mut out = String::new();
                array::write(&element.encode_items(values, plain)?, &mut out);
                out
            }
            (Kind::Text(_) | Kind::Char(_) | Kind::Array(_) | Kind::Other, Value::String(s)) => {
                s.clone()
            }
            (_, value) => return Err(format!("it cannot hold a {}", value.type_name())),
        };
        if text.contains('\0') {
            return Err("PostgreSQL's text cannot hold U+0000".to_owned());
        }
        Ok(Some(text))
    }

    fn encode_items(&self, values: &[Value], plain: bool) -> Result<Vec<Item>, String> {
        values
            .iter()
            .map(|value| match (self, value) {
                // An array within is a dimension, except where the elements may be arrays themselves.
                (kind, Value::Array(values)) if !matches!(kind, Kind::Json { .. }) => {
                    if values.is_empty() {
                        return Err("an array keeps no empty array in it".to_owned());
                    }
                    self.encode_items(values, plain).map(Item::Array)
                }
                _ => Ok(self.encode(value, plain)?.map_or(Item::Null, Item::Text)),
            })
            .collect()
    }

    /// The value that the column gives back for `value`, whose [`Self::encode`] is `text`. `None` where only
    /// the server knows: it rewrites the texts of many types.
    pub fn read_back(&self, value: &Value, text: &str) -> Option<Value> {
        match (self, value) {
            (Kind::Array(element), Value::Array(values)) => element
                .read_items_back(values, &array::read(text)?)
                .map(Value::Array),
            (Kind::Array(_) | Kind::Time(_) | Kind::Other, _)
            | (Kind::Timestamp(_), Value::String(_)) => None,
            (Kind::LocalTimestamp(_), _) => instant::local(text).map(Value::String),
            // jsonb writes numbers in a form of its own.
            (Kind::Json { binary: true }, _) if json::scan(text.as_bytes()).ok()?.odd_number => {
                None
            }
            (Kind::WholeNumber, Value::Decimal(decimal)) => whole_number(decimal).map(Value::Int),
            // What this does not read (`inf`) the server writes in another form.
            _ => self.decode(text).ok(),
        }
    }

    fn read_items_back(&self, values: &[Value], items: &[Item]) -> Option<Vec<Value>> {
        values
            .iter()
            .zip(items)
            .map(|(value, item)| match (item, value) {
                (Item::Null, _) => Some(Value::Null),
                (Item::Text(text), value) => self.read_back(value, text),
                (Item::Array(items), Value::Array(values)) => {
                    self.read_items_back(values, items).map(Value::Array)
                }
                (Item::Array(_), _) => None,
            })
            .collect()
    }

    fn whole(&self, n: i64) -> Result<i64, String> {
        if let Kind::Numeric(Some(scale @ ..0)) = self {
            let unit = 10i64.checked_pow(scale.unsigned_abs());
            if unit.map_or(n, |unit| n % unit) != 0 {
                return Err("the column would round the integer".to_owned());
            }
        }
        let fits = match self {
            Kind::Int(2) => i16::try_from(n).is_ok(),
            Kind::Int(4) => i32::try_from(n).is_ok(),
            _ => true,
        };
        if fits {
            Ok(n)
        } else {
            Err("the integer is out of the column's range".to_owned())
        }
    }

    fn float(&self, value: &Value) -> Result<String, String> {
        // Beyond these a float skips integers.
        let exact = if *self == Kind::Float4 {
            1 << 24
        } else {
            1i64 << 53
        };
        match value {
            Value::Int(n) if (-exact..=exact).contains(n) => Ok(n.to_string()),
            Value::Int(_) => Err("a float cannot hold the integer exactly".to_owned()),
            #[allow(clippy::cast_possible_truncation)] // the comparison is about just that
            Value::Double(x) if *self == Kind::Float4 => {
                let narrow = *x as f32;
                if f64::from(narrow).to_bits() == x.to_bits() || x.is_nan() {
                    Ok(format!("{narrow:e}"))
                } else {
                    Err("a float4 column cannot hold the double exactly".to_owned())
                }
            }
            Value::Double(x) => Ok(format!("{x:e}")),
            other => Err(format!("it cannot hold a {}", other.type_name())),
        }
    }
}

/// `7.0` and `7e0` are 7.
fn whole_number(decimal: &Decimal) -> Option<i64> {
    let (negative, digits, power) = decimal.normal_form();
    if digits.is_empty() {
        return Some(0);
    }
    let size: i64 = digits.parse().ok()?;
    let size = 10i64
        .checked_pow(power.try_into().ok()?)?
        .checked_mul(size)?;
    Some(if negative { -size } else { size })
}

fn numeric(value: &Value, scale: Option<i32>) -> Result<String, String> {
    let decimal = match value {
        Value::Double(x) if !x.is_finite() => return Ok(x.to_string()),
        Value::Double(x) if *x == 0.0 && x.is_sign_negative() => {
            return Err("a numeric column has no negative zero".to_owned());
        }
        Value::Double(x) => Decimal::new(x.to_string()),
        Value::Decimal(decimal) => Some(decimal.clone()),
        other => return Err(format!("it cannot hold a {}", other.type_name())),
    };
    let decimal = decimal.ok_or("it cannot hold the double")?;
    let (_, _, power) = decimal.normal_form();
    match scale {
        Some(scale) if -power > i64::from(scale) => Err(format!(
            "the number has more than the column's {scale} digits behind the point"
        )),
        _ => Ok(decimal.as_str().to_owned()),
    }
}

fn finer(digits: usize) -> String {
    format!("the time has more than the column's {digits} digits of a second")
}

/// The server would round what is finer.
fn fraction_within(text: String, digits: usize) -> Result<String, String> {
    let fraction = text.split_once('.').map_or("", |(_, rest)| rest);
    let given = fraction
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(fraction.len());
    if fraction[..given].trim_end_matches('0').len() > digits {
        return Err(finer(digits));
    }
    Ok(text)
}

fn to_json(value: &Value, binary: bool, plain: bool) -> Result<String, String> {
    let mut out = Vec::new();
    if plain {
        json::write_plain(value, &mut out);
    } else {
        json::write(value, &mut out);
    }
    if binary && json::scan(&out).map_err(|e| e.to_string())?.nul {
        return Err("jsonb cannot hold U+0000".to_owned());
    }
    String::from_utf8(out).map_err(|_| "it is not UTF-8".to_owned())
}

fn to_hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2 + 2);
    out.push_str("\\x");
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?.as_bytes();
    if digits.len() % 2 != 0 {
        return None;
    }
    digits
        .chunks(2)
        .map(|pair| {
            let pair = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(pair, 16).ok()
        })
        .collect()
}
