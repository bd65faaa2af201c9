//! Tests of one field. Validators of schemas and copy rules use them too.

use super::Format;
use crate::rule::{Test, same_value};
use crate::{Decimal, Value};
use std::fmt;

/// What a field must be. A missing field passes all but `Required`; null passes all but `Types`.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldTest {
    /// It is there, be it null.
    Required,
    Types(FieldTypes),
    Format(Format),
    Range(Bounds),
    Pattern(Pattern),
    /// An int equals the double of the same number.
    OneOf(Vec<Value>),
}

impl FieldTest {
    /// # Errors
    /// What is wrong with the field, without its value.
    pub fn judge(&self, field: Option<&Value>) -> Result<(), String> {
        let Some(value) = field else {
            return match self {
                Self::Required => Err("a required field is missing".to_owned()),
                _ => Ok(()),
            };
        };
        let null = matches!(value, Value::Null);
        match self {
            Self::Required => Ok(()),
            Self::Types(types) => types.judge(value),
            _ if null => Ok(()),
            Self::Format(format) => format.judge(value),
            Self::Range(bounds) => bounds.judge(value),
            Self::Pattern(pattern) => pattern.judge(value),
            Self::OneOf(values) if values.iter().any(|v| same_value(v, value)) => Ok(()),
            Self::OneOf(_) => Err("the field is none of the values that are allowed".to_owned()),
        }
    }
}

/// Types that a field may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTypes(Vec<&'static str>);

impl FieldTypes {
    /// Type names as in [`Value::type_name`], and `number` for any of the three kinds of number.
    pub const NAMES: [&'static str; 14] = [
        "null",
        "bool",
        "int",
        "double",
        "decimal",
        "number",
        "timestamp",
        "string",
        "bytes",
        "reference",
        "geopoint",
        "vector",
        "array",
        "map",
    ];

    /// Reads `string|null`.
    ///
    /// # Errors
    /// What is no type, and which there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        text.split('|')
            .map(str::trim)
            .map(|name| {
                let known = Self::NAMES.into_iter().find(|known| *known == name);
                known.ok_or_else(|| {
                    format!("{name:?} is no type; there are {}", Self::NAMES.join(", "))
                })
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    #[must_use]
    pub fn names(&self) -> &[&'static str] {
        &self.0
    }

    fn judge(&self, value: &Value) -> Result<(), String> {
        let name = value.type_name();
        let number = matches!(name, "int" | "double" | "decimal");
        if self
            .0
            .iter()
            .any(|t| *t == name || (*t == "number" && number))
        {
            return Ok(());
        }
        Err(format!("the field must be {self}, not {name}"))
    }
}

impl fmt::Display for FieldTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" or "))
    }
}

/// Limits, both inclusive. NaN is within none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bounds {
    pub min: Option<Value>,
    pub max: Option<Value>,
}

impl Bounds {
    /// # Errors
    /// The value is outside, or cannot be compared with the limits.
    pub fn judge(&self, value: &Value) -> Result<(), String> {
        let nan = matches!(value, Value::Double(x) if x.is_nan());
        for limit in self.min.iter().chain(&self.max) {
            let comparable = Test::AtLeast(limit.clone()).holds(Some(value))
                || Test::Below(limit.clone()).holds(Some(value));
            if !comparable || nan {
                let (kind, limit) = (value.type_name(), limit.type_name());
                return Err(if nan {
                    "the field is not a number (NaN), which is within no limits".to_owned()
                } else {
                    format!("the field is {kind}, which has no place among limits of {limit}")
                });
            }
        }
        if let Some(min) = &self.min
            && compare(value, min).is_lt()
        {
            return Err(format!("the field is less than {}", shown(min)));
        }
        if let Some(max) = &self.max
            && compare(value, max).is_gt()
        {
            return Err(format!("the field is greater than {}", shown(max)));
        }
        Ok(())
    }
}

/// The order of values, numbers by what they denote alone. A double counts as its shortest decimal, so that
/// a limit of 0.1 means the same in every store.
fn compare(a: &Value, b: &Value) -> std::cmp::Ordering {
    if same_value(a, b) {
        return std::cmp::Ordering::Equal;
    }
    match (literal(a), literal(b)) {
        (Some(x), Some(y)) if x == y => std::cmp::Ordering::Equal,
        (Some(x), Some(y)) => crate::order::compare(&Value::Decimal(x), &Value::Decimal(y)),
        _ => crate::order::compare(a, b),
    }
}

fn literal(value: &Value) -> Option<Decimal> {
    match value {
        Value::Int(n) => Decimal::new(n.to_string()),
        Value::Double(x) if x.is_finite() => Decimal::new(ryu::Buffer::new().format_finite(*x)),
        Value::Decimal(d) => Some(d.clone()),
        _ => None,
    }
}

/// A limit stands in the check's file: it is no document's value.
fn shown(value: &Value) -> String {
    match value {
        Value::Timestamp(at) => at.to_string(),
        other => {
            let mut out = Vec::new();
            crate::json::write(other, &mut out);
            String::from_utf8_lossy(&out).into_owned()
        }
    }
}

/// A regular expression, which finds its match in linear time.
#[derive(Clone, Debug)]
pub struct Pattern(regex::Regex);

impl Pattern {
    /// # Errors
    /// What is wrong with the expression.
    pub fn parse(text: &str) -> Result<Self, String> {
        regex::RegexBuilder::new(text)
            .size_limit(1 << 20)
            .build()
            .map(Self)
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => "the expression is too large".to_owned(),
                other => other.to_string(),
            })
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    fn judge(&self, value: &Value) -> Result<(), String> {
        match value {
            Value::String(text) | Value::Reference(text) if self.0.is_match(text) => Ok(()),
            Value::String(_) | Value::Reference(_) => {
                Err(format!("the field does not match {}", self.0.as_str()))
            }
            other => Err(format!(
                "the field must be string, not {}",
                other.type_name()
            )),
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    fn text(s: &str) -> Value {
        Value::String(s.to_owned())
    }

    #[test]
    fn fields_are_judged() {
        let check = |test: &FieldTest, value: Option<Value>, expect: Result<(), &str>| match (
            test.judge(value.as_ref()),
            expect,
        ) {
            (Ok(()), Ok(())) => {}
            (Err(found), Err(expect)) => assert!(found.contains(expect), "{found}"),
            (found, _) => panic!("{test:?} {value:?}: {found:?}"),
        };
        check(&FieldTest::Required, None, Err("missing"));
        check(&FieldTest::Required, Some(Value::Null), Ok(()));
        let types = FieldTest::Types(FieldTypes::parse("number | null").unwrap());
        check(&types, None, Ok(()));
        check(&types, Some(Value::Null), Ok(()));
        check(&types, Some(Value::Double(f64::NAN)), Ok(()));
        check(
            &types,
            Some(text("secret")),
            Err("number or null, not string"),
        );
        assert!(FieldTypes::parse("text").unwrap_err().contains("no type"));

        let range = |min: Option<Value>, max: Option<Value>| FieldTest::Range(Bounds { min, max });
        let ten = range(Some(Value::Int(0)), Some(Value::Int(10)));
        for inside in [
            Value::Null,
            Value::Int(0),
            Value::Double(-0.0),
            Value::Double(10.0),
            Value::Decimal(Decimal::new("9.99").unwrap()),
        ] {
            check(&ten, Some(inside), Ok(()));
        }
        check(&ten, Some(Value::Int(-1)), Err("less than 0"));
        check(&ten, Some(Value::Double(10.000001)), Err("greater than 10"));
        check(&ten, Some(Value::Double(f64::NAN)), Err("not a number"));
        check(&ten, Some(Value::Double(f64::INFINITY)), Err("greater"));
        check(&ten, Some(text("5")), Err("string, which has no place"));
        let tenth = range(Some(Value::Double(0.1)), Some(Value::Double(0.1)));
        check(
            &tenth,
            Some(Value::Decimal(Decimal::new("0.10").unwrap())),
            Ok(()),
        );
        check(&tenth, Some(Value::Double(0.1)), Ok(()));
        let at = |t: &str| Value::Timestamp(Timestamp::parse(t).unwrap());
        let since = range(Some(at("2026-01-01T00:00:00Z")), None);
        check(&since, Some(at("2026-01-01T00:00:00Z")), Ok(()));
        check(
            &since,
            Some(at("2025-12-31T23:59:59.999999Z")),
            Err("less than 2026-01-01T00:00:00Z"),
        );

        let pattern = FieldTest::Pattern(Pattern::parse("^conv_[0-9]+$").unwrap());
        check(&pattern, Some(text("conv_12")), Ok(()));
        check(&pattern, Some(text("conv_secret")), Err("^conv_"));
        check(&pattern, Some(Value::Int(1)), Err("must be string"));
        assert!(Pattern::parse("(").is_err());
        assert!(Pattern::parse("(a{1000}){1000}").is_err());

        let one_of = FieldTest::OneOf(vec![text("user"), Value::Int(1)]);
        check(&one_of, Some(text("user")), Ok(()));
        check(&one_of, Some(Value::Double(1.0)), Ok(()));
        check(&one_of, Some(text("User")), Err("none of the values"));
    }
}
