//! Whether a measured number is what it must be, reckoned without rounding.

use std::cmp::Ordering;

use whimbrel_model::Value;
use whimbrel_model::check::{Must, Tolerance};

use super::exact::Exact;

/// A sum, or an average: a sum and what it is divided by.
#[derive(Clone, Debug)]
pub(super) struct Number {
    pub sum: Exact,
    pub by: u64,
}

impl From<u64> for Number {
    fn from(n: u64) -> Self {
        Self {
            sum: Exact::from(n),
            by: 1,
        }
    }
}

impl Number {
    pub(super) fn of(value: &Value) -> Option<Self> {
        let sum = Exact::of(value).ok()?;
        Some(Self { sum, by: 1 })
    }

    /// What is left when `other` is taken away, times both divisors.
    fn minus(&self, other: &Self) -> Exact {
        let (a, b) = (Exact::from(self.by), Exact::from(other.by));
        self.sum.times(&b).minus(&other.sum.times(&a))
    }

    /// Against `expected`; equal where they are no further apart than the tolerance allows.
    fn compare(&self, expected: &Self, tolerance: Option<&Tolerance>) -> Ordering {
        let apart = self.minus(expected);
        let sign = apart.sign();
        let hundred = Exact::from(100_u64);
        let (apart, allowed) = match tolerance {
            None => return sign,
            Some(Tolerance::By(by)) => {
                let both = Exact::from(self.by).times(&Exact::from(expected.by));
                let by = Exact::of(by).unwrap_or_default();
                (apart.abs(), by.times(&both))
            }
            Some(Tolerance::Percent(share)) => {
                let share = Exact::of(share).unwrap_or_default();
                let whole = expected.sum.clone().abs().times(&Exact::from(self.by));
                (apart.abs().times(&hundred), share.times(&whole))
            }
        };
        match apart.compare(&allowed) {
            Ordering::Greater => sign,
            _ => Ordering::Equal,
        }
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.by {
            1 => write!(f, "{}", self.sum),
            by => write!(f, "{}/{by}", self.sum),
        }
    }
}

/// `other` is the other collection's number, where the check compares with it.
///
/// # Errors
/// What is wrong, without the numbers that were measured.
pub(super) fn judge(
    number: &Number,
    must: &Must,
    other: Option<&Number>,
    tolerance: Option<&Tolerance>,
) -> Result<(), String> {
    let within = match tolerance {
        Some(_) => ", beyond the tolerance",
        None => "",
    };
    match must {
        Must::SameAs(name) => match other.map(|other| number.compare(other, tolerance)) {
            Some(Ordering::Equal) => Ok(()),
            Some(Ordering::Less) => Err(format!("less than in {name}{within}")),
            Some(Ordering::Greater) => Err(format!("more than in {name}{within}")),
            None => Err(format!("there is none in {name}")),
        },
        Must::Be { limits, equals } => {
            let side = |limit: &Option<Value>| {
                let limit = limit.as_ref()?;
                Some((number.compare(&Number::of(limit)?, tolerance), shown(limit)))
            };
            if let Some((Ordering::Less, limit)) = side(&limits.min) {
                return Err(format!("less than {limit}{within}"));
            }
            match side(&limits.max) {
                Some((Ordering::Greater, limit)) if *equals => {
                    Err(format!("more than {limit}{within}"))
                }
                Some((Ordering::Greater, limit)) => {
                    Err(format!("more than the {limit} that are allowed{within}"))
                }
                _ => Ok(()),
            }
        }
    }
}

/// A limit of the check's file.
fn shown(limit: &Value) -> String {
    Exact::of(limit).map(|n| n.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_model::Decimal;
    use whimbrel_model::check::Bounds;

    #[test]
    fn numbers_are_judged_exactly() {
        let same = Must::SameAs("b/x".to_owned());
        let percent = |p: &str| Tolerance::Percent(Value::Decimal(Decimal::new(p).unwrap()));
        let number = |sum: i64, by| Number {
            sum: Exact::from(i128::from(sum)),
            by,
        };
        let check =
            |a: Number, b: Number, tolerance: Option<Tolerance>, expect: Result<(), &str>| {
                let found = judge(&a, &same, Some(&b), tolerance.as_ref());
                match (&found, expect) {
                    (Ok(()), Ok(())) => {}
                    (Err(found), Err(expect)) => assert!(found.contains(expect), "{found}"),
                    _ => panic!("{a} {b} {tolerance:?}: {found:?}"),
                }
            };
        check(number(1, 3), number(2, 6), None, Ok(()));
        check(
            number(i64::MAX, 1),
            number(i64::MAX - 1, 1),
            None,
            Err("more than in b/x"),
        );
        check(number(1, 3), number(333, 1000), None, Err("more"));
        check(
            number(1, 3),
            number(333, 1000),
            Some(Tolerance::By(Value::Double(0.0004))),
            Ok(()),
        );
        check(
            number(1, 3),
            number(333, 1000),
            Some(Tolerance::By(Value::Double(0.0003))),
            Err("more"),
        );
        check(number(99, 1), number(100, 1), Some(percent("1")), Ok(()));
        check(
            number(98, 1),
            number(100, 1),
            Some(percent("1")),
            Err("less than in b/x, beyond"),
        );
        check(number(-99, 1), number(-100, 1), Some(percent("1")), Ok(()));
        check(number(0, 1), number(0, 1), Some(percent("0")), Ok(()));

        let be = |min: Option<i64>, max: Option<i64>, equals| Must::Be {
            limits: Bounds {
                min: min.map(Value::Int),
                max: max.map(Value::Int),
            },
            equals,
        };
        assert!(judge(&number(5, 1), &be(Some(5), Some(5), true), None, None).is_ok());
        assert!(judge(&number(4, 1), &be(Some(5), Some(5), true), None, None).is_err());
        assert!(judge(&number(6, 1), &be(Some(5), Some(5), true), None, None).is_err());
        assert!(judge(&number(6, 1), &be(Some(5), None, false), None, None).is_ok());
        assert!(
            judge(
                &number(7, 1),
                &be(None, Some(5), false),
                None,
                Some(&Tolerance::By(Value::Int(1)))
            )
            .is_err()
        );
        assert!(
            judge(
                &number(6, 1),
                &be(None, Some(5), false),
                None,
                Some(&Tolerance::By(Value::Int(1)))
            )
            .is_ok()
        );
    }
}
