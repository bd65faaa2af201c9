//! Which value a number literal is, and how a double is written.

use crate::value::normal_form;
use std::borrow::Cow;

/// What the reader saw of a literal while it passed over it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub negative: bool,
    pub fraction: bool,
    pub exponent: bool,
    /// Digits before the exponent, zeros included.
    pub digits: usize,
}

impl Shape {
    fn is_integer(self) -> bool {
        !self.fraction && !self.exponent
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Int(i64),
    Double(f64),
    Decimal,
}

/// Up to so many digits every decimal number survives the way to `f64` and back (`DBL_DIG`).
const SAFE_DIGITS: usize = f64::DIGITS as usize;

/// `literal` must be a number in JSON's syntax, of that shape.
pub(super) fn classify(literal: &str, shape: Shape) -> Number {
    if shape.is_integer()
        && let Ok(int) = literal.parse()
    {
        return if int == 0 && shape.negative {
            Number::Double(-0.0)
        } else {
            Number::Int(int)
        };
    }
    match literal.parse::<f64>() {
        Ok(double) if !shape.exponent && shape.digits <= SAFE_DIGITS => Number::Double(double),
        Ok(double) if denotes(literal, double) => Number::Double(double),
        _ => Number::Decimal,
    }
}

/// Whether [`classify`] would say `Decimal`.
pub(super) fn is_decimal(literal: &str, shape: Shape) -> bool {
    let safe = !shape.exponent && shape.digits <= SAFE_DIGITS;
    !safe && classify(literal, shape) == Number::Decimal
}

/// Whether `literal` is `double`'s own shortest text, or another text of the same number.
fn denotes(literal: &str, double: f64) -> bool {
    if !double.is_finite() {
        return false;
    }
    let mut buffer = ryu::Buffer::new();
    let shortest = buffer.format_finite(double);
    shortest == literal || normal_form(shortest) == normal_form(literal)
}

/// The double that a literal of JSON's syntax denotes exactly.
pub(super) fn exact_double(literal: &str) -> Option<f64> {
    let double = literal.parse().ok()?;
    denotes(literal, double).then_some(double)
}

/// The shape of a literal known to be a number in JSON's syntax.
pub(super) fn shape(literal: &str) -> Shape {
    let exponent = literal.find(['e', 'E']);
    let mantissa = &literal[..exponent.unwrap_or(literal.len())];
    Shape {
        negative: literal.starts_with('-'),
        fraction: mantissa.contains('.'),
        exponent: exponent.is_some(),
        digits: mantissa.bytes().filter(u8::is_ascii_digit).count(),
    }
}

/// The double as digits with a point and without an exponent, where that is not too long and where a
/// reader that drops signs of zeros cannot change it.
pub(super) fn write_bare(double: f64, out: &mut Vec<u8>) -> bool {
    let size = double.abs();
    if !(1e-7..1e21).contains(&size) && double.to_bits() != 0 {
        return false;
    }
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(double);
    match text.split_once('e') {
        None => out.extend_from_slice(text.as_bytes()),
        Some((mantissa, exponent)) => match exponent.parse() {
            Ok(exponent) => write_expanded(mantissa, exponent, out),
            Err(_) => return false,
        },
    }
    true
}

/// `mantissa` is `d` or `d.ddd`, with a sign or without.
fn write_expanded(mantissa: &str, exponent: i32, out: &mut Vec<u8>) {
    let mantissa = match mantissa.strip_prefix('-') {
        Some(rest) => {
            out.push(b'-');
            rest
        }
        None => mantissa,
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let places = exponent.unsigned_abs() as usize;
    if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', places - 1));
        out.extend_from_slice(whole.as_bytes());
        out.extend_from_slice(fraction.as_bytes());
        return;
    }
    let (moved, rest) = fraction.split_at(fraction.len().min(places));
    out.extend_from_slice(whole.as_bytes());
    out.extend_from_slice(moved.as_bytes());
    out.extend(std::iter::repeat_n(b'0', places - moved.len()));
    out.push(b'.');
    out.extend_from_slice(if rest.is_empty() {
        b"0"
    } else {
        rest.as_bytes()
    });
}

/// The content of `$double`.
pub(super) fn double_text(double: f64) -> Cow<'static, str> {
    if double.is_nan() {
        Cow::Borrowed("NaN")
    } else if double == f64::INFINITY {
        Cow::Borrowed("Infinity")
    } else if double == f64::NEG_INFINITY {
        Cow::Borrowed("-Infinity")
    } else if double == 0.0 && double.is_sign_negative() {
        Cow::Borrowed("-0")
    } else {
        Cow::Owned(ryu::Buffer::new().format_finite(double).to_owned())
    }
}

/// JSON's own number syntax, as short as it gets.
pub(super) fn write_short(double: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(ryu::Buffer::new().format_finite(double).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_become_the_narrowest_kind_that_holds_them() {
        let check = |literal: &str, expect: Number| {
            let got = classify(literal, shape(literal));
            assert_eq!(got, expect, "{literal}");
            assert_eq!(
                is_decimal(literal, shape(literal)),
                expect == Number::Decimal,
                "{literal}"
            );
            if let (Number::Double(a), Number::Double(b)) = (got, expect) {
                assert_eq!(a.to_bits(), b.to_bits(), "{literal}");
            }
        };
        for (literal, int) in [
            ("0", 0),
            ("-7", -7),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
            ("9007199254740993", 9_007_199_254_740_993),
        ] {
            check(literal, Number::Int(int));
        }
        for (literal, double) in [
            ("-0", -0.0),
            ("-0.0", -0.0),
            ("0e9", 0.0),
            ("-0E-9", -0.0),
            ("1.0", 1.0),
            ("1e2", 100.0),
            ("0.1", 0.1),
            ("1e22", 1e22),
            ("10000000000000000000000", 1e22),
            ("5e-324", 5e-324),
            ("1.7976931348623157e308", f64::MAX),
            ("0.30000000000000004", 0.300_000_000_000_000_04),
            ("0.30000000000000004000", 0.300_000_000_000_000_04),
            ("1E+2", 100.0),
        ] {
            check(literal, Number::Double(double));
        }
        for literal in [
            "12345678901234567890",
            "9223372036854775808",
            "0.1234567890123456789",
            "1e400",
            "-1e400",
            "1e-400",
            "0.1000000000000000055",
            "9007199254740993.0",
            "1e99999999999999999999",
            "1e-99999999999999999999",
        ] {
            check(literal, Number::Decimal);
        }
    }

    #[test]
    fn doubles_are_written_without_exponents() {
        for (double, expect) in [
            (0.0, Some("0.0")),
            (1.0, Some("1.0")),
            (-1.5, Some("-1.5")),
            (1e-6, Some("0.000001")),
            (-1.5e-7, Some("-0.00000015")),
            (1e16, Some("10000000000000000.0")),
            (1.234_567_890_123_456_7e20, Some("123456789012345670000.0")),
            (1e-7, Some("0.0000001")),
            (1e21, None),
            (9.9e-8, None),
            (-0.0, None),
            (f64::NAN, None),
            (f64::INFINITY, None),
            (5e-324, None),
        ] {
            let mut out = Vec::new();
            let bare = write_bare(double, &mut out);
            assert_eq!(
                bare.then(|| String::from_utf8(out).unwrap()).as_deref(),
                expect,
                "{double:e}"
            );
        }
    }
}
