//! Sums without rounding. A double counts as the shortest decimal that names it, so that 0.1 is the same
//! number in every store.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use whimbrel_model::{Decimal, Value};

/// Digits in a part.
const WIDTH: i64 = 9;
const BASE: i128 = 1_000_000_000;
/// Numbers with digits beyond these powers of ten are not summed: doubles end at 308, and a bound here bounds
/// the memory of a sum.
const FARTHEST: i64 = 900;

/// A decimal number of any sign: parts of nine digits, by the power of 10⁹ that they stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(i64, i64)>", into = "Vec<(i64, i64)>")]
pub(super) struct Exact {
    parts: BTreeMap<i64, i128>,
}

/// Why a value cannot be summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoNumber {
    Type(&'static str),
    NotFinite,
    TooFar,
}

impl fmt::Display for NoNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(name) => write!(f, "the field must be a number to be summed, not {name}"),
            Self::NotFinite => f.write_str("the field is NaN or infinite, which cannot be summed"),
            Self::TooFar => {
                f.write_str("the field has more digits than are summed (10^900 to 10^-900)")
            }
        }
    }
}

impl Exact {
    pub(super) fn of(value: &Value) -> Result<Self, NoNumber> {
        let literal = match value {
            Value::Int(n) => return Ok(Self::from(i128::from(*n))),
            Value::Double(x) if !x.is_finite() => return Err(NoNumber::NotFinite),
            Value::Double(x) => format!("{x:e}"),
            Value::Decimal(decimal) => decimal.as_str().to_owned(),
            other => return Err(NoNumber::Type(other.type_name())),
        };
        let decimal = Decimal::new(literal).ok_or(NoNumber::NotFinite)?;
        let (negative, digits, power) = decimal.normal_form();
        let length = i64::try_from(digits.len()).map_err(|_| NoNumber::TooFar)?;
        if power < -FARTHEST || power.saturating_add(length) > FARTHEST {
            return Err(NoNumber::TooFar);
        }
        let mut exact = Self::default();
        let lowest = power.div_euclid(WIDTH);
        // As many zeros as bring the last digit to a part's end.
        let zeros = usize::try_from(power.rem_euclid(WIDTH)).unwrap_or(0);
        let digits: Vec<u8> = digits
            .into_bytes()
            .into_iter()
            .chain(vec![b'0'; zeros])
            .collect();
        for (position, chunk) in (lowest..).zip(digits.rchunks(9)) {
            let part = chunk.iter().fold(0, |n, d| n * 10 + i128::from(d - b'0'));
            exact
                .parts
                .insert(position, if negative { -part } else { part });
        }
        Ok(exact.carried())
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (position, part) in &other.parts {
            *self.parts.entry(*position).or_default() += part;
        }
        // A part has room for 10²⁹ additions; carrying each time would cost more than it saves.
    }

    pub(super) fn minus(mut self, other: &Self) -> Self {
        for (position, part) in &other.parts {
            *self.parts.entry(*position).or_default() -= part;
        }
        self.carried()
    }

    pub(super) fn times(&self, other: &Self) -> Self {
        let (a, b) = (self.clone().carried(), other.clone().carried());
        let mut product = Self::default();
        for (i, x) in &a.parts {
            for (j, y) in &b.parts {
                *product.parts.entry(i + j).or_default() += x * y;
            }
        }
        product.carried()
    }

    pub(super) fn abs(self) -> Self {
        match self.sign() {
            Ordering::Less => Self::default().minus(&self),
            _ => self,
        }
    }

    /// Against zero.
    pub(super) fn sign(&self) -> Ordering {
        let carried = self.clone().carried();
        carried
            .parts
            .last_key_value()
            .map_or(Ordering::Equal, |(_, part)| part.cmp(&0))
    }

    pub(super) fn compare(&self, other: &Self) -> Ordering {
        self.clone().minus(other).sign()
    }

    /// Every part below the base, none of them zero, all of one sign: equal numbers have equal parts.
    fn carried(self) -> Self {
        let negative = {
            let carried = carry(self.parts.clone());
            carried.last_key_value().is_some_and(|(_, part)| *part < 0)
        };
        let parts = if negative {
            let turned = self
                .parts
                .into_iter()
                .map(|(at, part)| (at, -part))
                .collect();
            carry(turned)
                .into_iter()
                .map(|(at, part)| (at, -part))
                .collect()
        } else {
            carry(self.parts)
        };
        Self { parts }
    }
}

/// Parts from 0 to the base, but for the last, which has the number's sign.
fn carry(mut parts: BTreeMap<i64, i128>) -> BTreeMap<i64, i128> {
    let mut at = parts.first_key_value().map_or(0, |(at, _)| *at);
    while let Some((&here, &part)) = parts.range(at..).next() {
        let last = parts.range(here + 1..).next().is_none();
        let (up, rest) = (part.div_euclid(BASE), part.rem_euclid(BASE));
        // A negative last part stays: carrying from it would go on for ever.
        if last && up == -1 {
            break;
        }
        if rest == 0 {
            parts.remove(&here);
        } else {
            parts.insert(here, rest);
        }
        if up != 0 {
            *parts.entry(here + 1).or_default() += up;
        }
        at = here + 1;
    }
    parts.retain(|_, part| *part != 0);
    parts
}

impl From<i128> for Exact {
    fn from(n: i128) -> Self {
        Self {
            parts: BTreeMap::from([(0, n)]),
        }
        .carried()
    }
}

impl From<u64> for Exact {
    fn from(n: u64) -> Self {
        Self::from(i128::from(n))
    }
}

impl From<Vec<(i64, i64)>> for Exact {
    fn from(parts: Vec<(i64, i64)>) -> Self {
        let parts = parts.into_iter().map(|(at, part)| (at, i128::from(part)));
        Self {
            parts: parts.collect(),
        }
    }
}

impl From<Exact> for Vec<(i64, i64)> {
    fn from(exact: Exact) -> Self {
        let carried = exact.carried();
        let small = |part: i128| i64::try_from(part).unwrap_or(0);
        carried
            .parts
            .into_iter()
            .map(|(at, part)| (at, small(part)))
            .collect()
    }
}

impl fmt::Display for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let carried = self.clone().carried();
        let (Some((low, _)), Some((high, top))) = (
            carried.parts.first_key_value(),
            carried.parts.last_key_value(),
        ) else {
            return f.write_str("0");
        };
        let part = |at: i64| carried.parts.get(&at).copied().unwrap_or(0).abs();
        let digits = |from: i64, through: i64| -> String {
            (from..=through)
                .rev()
                .map(|at| format!("{:09}", part(at)))
                .collect()
        };
        let whole = digits(0, *high);
        let whole = whole.trim_start_matches('0');
        let fraction = digits(*low, -1);
        let fraction = fraction.trim_end_matches('0');
        let sign = if *top < 0 { "-" } else { "" };
        let whole = if whole.is_empty() { "0" } else { whole };
        write!(f, "{sign}{whole}")?;
        if fraction.is_empty() {
            Ok(())
        } else {
            write!(f, ".{fraction}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exact(literal: &str) -> Exact {
        Exact::of(&Value::Decimal(Decimal::new(literal).unwrap())).unwrap()
    }

    #[test]
    fn sums_are_exact() {
        let check = |literals: &[&str], expect: &str| {
            let mut sum = Exact::default();
            for literal in literals {
                sum.add(&exact(literal));
            }
            assert_eq!(sum.to_string(), expect, "{literals:?}");
            let text = serde_json::to_string(&sum).unwrap();
            let back: Exact = serde_json::from_str(&text).unwrap();
            assert_eq!(back.compare(&sum), Ordering::Equal);
        };
        check(&[], "0");
        check(&["0.1", "0.2"], "0.3");
        check(&["1", "-1"], "0");
        check(&["-0.000000001", "1"], "0.999999999");
        check(&["1e30", "-1"], "999999999999999999999999999999");
        check(&["-1e18", "1"], "-999999999999999999");
        check(&["-1e18", "-1"], "-1000000000000000001");
        check(
            &["9223372036854775807", "9223372036854775807"],
            "18446744073709551614",
        );
        check(
            &["12345678901234567890.123456789", "0.000000000001"],
            "12345678901234567890.123456789001",
        );
        check(&["1e-900", "1e-900"], &format!("0.{}2", "0".repeat(899)));
    }

    #[test]
    fn doubles_count_as_their_shortest_decimal() {
        let mut sum = Exact::default();
        for _ in 0..10 {
            sum.add(&Exact::of(&Value::Double(0.1)).unwrap());
        }
        assert_eq!(sum.to_string(), "1");
        let far = [
            Value::Double(f64::MAX),
            Value::Double(5e-324),
            Value::Double(-0.0),
        ];
        for value in far {
            assert!(Exact::of(&value).is_ok(), "{value:?}");
        }
        assert_eq!(
            Exact::of(&Value::Double(f64::NAN)),
            Err(NoNumber::NotFinite)
        );
        assert_eq!(
            Exact::of(&Value::String("1".into())),
            Err(NoNumber::Type("string"))
        );
        let far = Value::Decimal(Decimal::new("1e901").unwrap());
        assert_eq!(Exact::of(&far), Err(NoNumber::TooFar));
    }

    proptest! {
        #[test]
        fn it_reckons_like_integers(a in any::<i64>(), b in any::<i64>(), c in any::<i64>()) {
            let (x, y, z) = (Exact::from(i128::from(a)), Exact::from(i128::from(b)), Exact::from(i128::from(c)));
            let (a, b, c) = (i128::from(a), i128::from(b), i128::from(c));
            let mut sum = x.clone();
            sum.add(&y);
            sum.add(&z);
            prop_assert_eq!(sum.to_string(), (a + b + c).to_string());
            prop_assert_eq!(x.times(&y).to_string(), (a * b).to_string());
            prop_assert_eq!(x.clone().minus(&y).abs().to_string(), (a - b).abs().to_string());
            prop_assert_eq!(x.compare(&y), a.cmp(&b));
        }

        #[test]
        fn the_order_of_adding_does_not_count(mut numbers in prop::collection::vec(any::<f64>().prop_filter("finite", |x| x.is_finite()), 0..20)) {
            let total = |numbers: &[f64]| {
                let mut sum = Exact::default();
                for x in numbers {
                    sum.add(&Exact::of(&Value::Double(*x)).unwrap());
                }
                sum.to_string()
            };
            let forward = total(&numbers);
            numbers.reverse();
            prop_assert_eq!(forward, total(&numbers));
        }
    }
}
