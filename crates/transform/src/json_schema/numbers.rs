//! Exact arithmetic for the keywords that compare numbers: the validator's own would round a number of
//! many digits to a double, which can turn the verdict.

use super::node::{Document, Node};
use jsonschema::json::{Array, Json, Node as _, Object};
use jsonschema::paths::Location;
use jsonschema::{JsonType, Keyword, Retrieve, ValidationError, ValidationOptions};
use std::cmp::Ordering;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use whimbrel_model::rule::same_value;
use whimbrel_model::{Decimal, Value, order};

type Options<'i> = ValidationOptions<'i, Arc<dyn Retrieve>, Document>;

/// Puts exact numeric keywords in the place of the validator's own.
pub(super) fn exact<'o>(options: Options<'o>) -> Options<'o> {
    let bound = |options: Options<'o>, name: &'static str, holds: fn(Ordering) -> bool| {
        options.with_keyword(name, move |_, value, _: Location| {
            let limit = limit(name, value)?;
            Ok(Box::new(Numeric {
                name,
                holds: move |value: &Value| holds(compare(value, &limit)),
            }) as Box<dyn for<'i> Keyword<'i, Document>>)
        })
    };
    let options = bound(options, "minimum", Ordering::is_ge);
    let options = bound(options, "maximum", Ordering::is_le);
    let options = bound(options, "exclusiveMinimum", Ordering::is_gt);
    let options = bound(options, "exclusiveMaximum", Ordering::is_lt);
    options.with_keyword("multipleOf", |_, value, _: Location| {
        let divisor = Digits::of_number(&limit("multipleOf", value)?);
        Ok(Box::new(Numeric {
            name: "multipleOf",
            holds: move |value: &Value| Digits::of_value(value).is_multiple(&divisor),
        }) as Box<dyn for<'i> Keyword<'i, Document>>)
    })
}

fn limit(
    name: &str,
    value: &serde_json::Value,
) -> Result<serde_json::Number, ValidationError<'static>> {
    match value {
        serde_json::Value::Number(number) => Ok(number.clone()),
        _ => Err(ValidationError::schema(format!("{name} must be a number"))),
    }
}

struct Numeric<F> {
    name: &'static str,
    holds: F,
}

impl<'i, F: Fn(&Value) -> bool + Send + Sync> Keyword<'i, Document> for Numeric<F> {
    fn validate(&self, instance: Node<'i>) -> Result<(), ValidationError<'i>> {
        if self.is_valid(instance) {
            Ok(())
        } else {
            Err(ValidationError::custom(self.name))
        }
    }

    fn is_valid(&self, instance: Node<'i>) -> bool {
        instance
            .as_numeric()
            .is_none_or(|value| (self.holds)(&value))
    }
}

fn value_of(number: &serde_json::Number) -> Value {
    if let Some(n) = number.as_i64() {
        Value::Int(n)
    } else if let Some(n) = number.as_u64() {
        Decimal::new(n.to_string()).map_or(Value::Null, Value::Decimal)
    } else {
        Value::Double(number.as_f64().unwrap_or(f64::NAN))
    }
}

/// Which number is greater, exactly.
pub(super) fn compare(value: &Value, number: &serde_json::Number) -> Ordering {
    match (value, number.as_i64()) {
        (Value::Int(n), Some(m)) => n.cmp(&m),
        _ => compare_values(value, &value_of(number)),
    }
}

fn compare_values(a: &Value, b: &Value) -> Ordering {
    let zero = |v: &Value| matches!(v, Value::Int(0)) || matches!(v, Value::Double(x) if *x == 0.0);
    // The order of values tells kinds of numbers apart, and zeros by their sign.
    if same_value(a, b) || (zero(a) && zero(b)) {
        return Ordering::Equal;
    }
    order::compare(a, b)
}

pub(super) fn is_whole(literal: &str) -> bool {
    Decimal::new(literal).is_some_and(|decimal| decimal.normal_form().2 >= 0)
}

/// A number's digits without zeros at the end, and the power of ten of the last one. Zero has no digits.
struct Digits {
    digits: String,
    power: i64,
}

impl Digits {
    fn of_literal(literal: String) -> Self {
        // Only finite numbers come here, and those print as decimal literals.
        let (_, digits, power) = Decimal::new(literal).map_or_else(
            || (false, String::new(), 0),
            |decimal| decimal.normal_form(),
        );
        Self { digits, power }
    }

    fn of_value(value: &Value) -> Self {
        Self::of_literal(match value {
            Value::Int(n) => n.to_string(),
            Value::Double(x) => x.to_string(),
            Value::Decimal(decimal) => decimal.as_str().to_owned(),
            _ => String::new(),
        })
    }

    fn of_number(number: &serde_json::Number) -> Self {
        Self::of_value(&value_of(number))
    }

    /// Whether `self / divisor` is whole, in the decimal reading of both.
    fn is_multiple(&self, divisor: &Self) -> bool {
        // The divisor has at most 20 digits: it is an integer of 64 bits or a shortest double.
        let Ok(modulus) = divisor.digits.parse::<u128>() else {
            return false;
        };
        if self.digits.is_empty() {
            return true;
        }
        let shift = self.power.saturating_sub(divisor.power);
        if shift < 0 {
            // The digits end in no zero, so no power of ten divides them.
            return false;
        }
        let mut rest = 0_u128;
        for digit in self.digits.bytes() {
            rest = (rest * 10 + u128::from(digit - b'0')) % modulus;
        }
        times(rest, ten_to(shift.unsigned_abs(), modulus), modulus) == 0
    }
}

fn ten_to(mut exponent: u64, modulus: u128) -> u128 {
    let (mut result, mut base) = (1 % modulus, 10 % modulus);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = times(result, base, modulus);
        }
        base = times(base, base, modulus);
        exponent >>= 1;
    }
    result
}

/// `a * b % modulus` by doubling: the product itself may not fit into 128 bits.
fn times(mut a: u128, mut b: u128, modulus: u128) -> u128 {
    let mut result = 0;
    while b > 0 {
        if b & 1 == 1 {
            result = (result + a) % modulus;
        }
        a = (a + a) % modulus;
        b >>= 1;
    }
    result
}

/// Equality in JSON Schema's sense: numbers by value, maps without order.
pub(super) fn equal(a: &Node<'_>, b: &Node<'_>) -> bool {
    if a.json_type() != b.json_type() {
        return false;
    }
    match a.json_type() {
        JsonType::Null => true,
        JsonType::Boolean => a.as_boolean() == b.as_boolean(),
        JsonType::String => a.as_string() == b.as_string(),
        JsonType::Number | JsonType::Integer => match (a.as_numeric(), b.as_numeric()) {
            (Some(a), Some(b)) => compare_values(&a, &b).is_eq(),
            _ => false,
        },
        JsonType::Array => match (a.as_array(), b.as_array()) {
            (Some(a), Some(b)) => {
                a.len() == b.len() && a.elements().zip(b.elements()).all(|(a, b)| equal(&a, &b))
            }
            _ => false,
        },
        JsonType::Object => match (a.as_object(), b.as_object()) {
            (Some(a), Some(b)) => {
                a.len() == b.len()
                    && a.members().all(|(name, a)| {
                        let key = Document::prepare_key(name);
                        b.get(&key).is_some_and(|b| equal(&a, &b))
                    })
            }
            _ => false,
        },
    }
}

/// The same for equal nodes; containers only by their size.
pub(super) fn rough_hash(node: &Node<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    let kind = node.json_type();
    std::mem::discriminant(&kind).hash(&mut hasher);
    match kind {
        JsonType::Boolean => node.as_boolean().hash(&mut hasher),
        JsonType::String => node.as_string().hash(&mut hasher),
        JsonType::Number | JsonType::Integer => {
            let digits = node.as_numeric().map(|n| Digits::of_value(&n));
            digits.map(|d| (d.digits, d.power)).hash(&mut hasher);
        }
        JsonType::Array => node.as_array().map(|a| a.len()).hash(&mut hasher),
        JsonType::Object => node.as_object().map(|o| o.len()).hash(&mut hasher),
        JsonType::Null => {}
    }
    hasher.finish()
}
