//! Timestamps as PostgreSQL writes them in its ISO style at UTC, over its whole range of years
//! (4714 BC to 294276 AD), which is wider than that of calendar libraries.

use std::fmt::Write as _;
use whimbrel_model::Timestamp;

/// `2026-01-31 08:00:00.5+00`; `None` for finer than microseconds.
pub(super) fn write(at: Timestamp) -> Option<String> {
    if !at.nanos().is_multiple_of(1000) {
        return None;
    }
    let days = at.seconds().div_euclid(86_400);
    let seconds = at.seconds().rem_euclid(86_400);
    let (year, month, day) = civil_from_days(days);
    // There is no year 0: the year before 1 AD is 1 BC.
    let (shown, era) = if year > 0 {
        (year, "")
    } else {
        (1 - year, " BC")
    };
    let mut out = format!(
        "{shown:04}-{month:02}-{day:02} {:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    let fraction = at.nanos() / 1000;
    if fraction > 0 {
        let digits = format!("{fraction:06}");
        // Writing to a string cannot fail.
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
    out.push_str("+00");
    out.push_str(era);
    Some(out)
}

/// Reads what PostgreSQL wrote with `timezone = 'UTC'`.
pub(super) fn read(text: &str) -> Option<Timestamp> {
    let (text, before_christ) = match text.strip_suffix(" BC") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let (date, time) = text.split_once(' ')?;
    let time = time.strip_suffix("+00")?;
    let mut parts = date.split('-').map(str::parse::<i64>);
    let (year, month, day) = (
        parts.next()?.ok()?,
        parts.next()?.ok()?,
        parts.next()?.ok()?,
    );
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut parts = clock.split(':').map(str::parse::<i64>);
    let (hour, minute, second) = (
        parts.next()?.ok()?,
        parts.next()?.ok()?,
        parts.next()?.ok()?,
    );
    let nanos: u32 = format!("{fraction:0<9}").parse().ok()?;
    let year = if before_christ { 1 - year } else { year };
    let days = days_from_civil(year, month, day);
    Timestamp::new(days * 86_400 + hour * 3600 + minute * 60 + second, nanos)
}

/// A time without zone as a column gives it back, `2026-01-31T08:00:00.5`, from the same with a blank for the
/// `T` or with zeros at its end. `None` for any other text, of which the server may make one.
pub(super) fn local(text: &str) -> Option<String> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        let all = digits.bytes().all(|b| b.is_ascii_digit());
        all.then(|| digits.parse().ok())?
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let between = |at: usize| text.as_bytes().get(at).copied();
    let marks = [4, 7, 10, 13, 16].map(between);
    let [
        Some(b'-'),
        Some(b'-'),
        Some(b' ' | b'T'),
        Some(b':'),
        Some(b':'),
    ] = marks
    else {
        return None;
    };
    let exists = civil_from_days(days_from_civil(year, month, day)) == (year, month, day);
    if year == 0 || !exists || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (date, time, fraction) = (text.get(..10)?, text.get(11..19)?, text.get(19..)?);
    if fraction.is_empty() {
        return Some(format!("{date}T{time}"));
    }
    let digits = fraction.strip_prefix('.')?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(match digits.trim_end_matches('0') {
        "" => format!("{date}T{time}"),
        digits => format!("{date}T{time}.{digits}"),
    })
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar. Howard Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms", `days_from_civil`.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse: `civil_from_days` of the same source.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn instants_are_written_as_the_server_does() {
        let check = |micros: i64, text: &str| {
            let at = Timestamp::from_micros(micros);
            assert_eq!(write(at).as_deref(), Some(text));
            assert_eq!(read(text), Some(at), "{text}");
        };
        check(0, "1970-01-01 00:00:00+00");
        check(-1, "1969-12-31 23:59:59.999999+00");
        check(1_769_846_400_500_000, "2026-01-31 08:00:00.5+00");
        check(951_782_400_000_000, "2000-02-29 00:00:00+00");
        check(-62_135_596_800_000_000, "0001-01-01 00:00:00+00");
        check(-62_135_596_800_000_001, "0001-12-31 23:59:59.999999+00 BC");
        // Beyond what microseconds since 1970 can say in 64 bits.
        let last = Timestamp::new(9_224_318_015_999, 999_999_000).unwrap();
        let text = "294276-12-31 23:59:59.999999+00";
        assert_eq!(
            (write(last).as_deref(), read(text)),
            (Some(text), Some(last))
        );
        assert_eq!(write(Timestamp::new(0, 1).unwrap()), None);
        for bad in ["", "infinity", "2026-01-31", "2026-01-31 08:00:00+01"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn local_times_have_one_form() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(local(text).as_deref(), expect, "{text}");
        };
        check("2002-08-14 00:00:00", Some("2002-08-14T00:00:00"));
        check("2000-02-29T23:59:59.120", Some("2000-02-29T23:59:59.12"));
        check("0001-01-01 00:00:00.000", Some("0001-01-01T00:00:00"));
        for other in [
            "",
            "2002-08-14",
            "2001-02-29 00:00:00",
            "2001-00-01 00:00:00",
            "0000-01-01 00:00:00",
            "2002-08-14 24:00:00",
            "2002-08-14 23:59:60",
            "2002-08-14 00:00:00.",
            "2002-08-14 00:00:00Z",
            "2002-08-14 00:00:00 BC",
            "+002-08-14 00:00:00",
            "2002/08/14 00:00:00",
            "2002-08-14\u{a0}00:00:00",
            "infinity",
        ] {
            check(other, None);
        }
    }

    proptest! {
        #[test]
        fn writing_and_reading_are_inverse(micros in -210_866_803_200_000_000i64..9_223_371_331_200_000_000) {
            let at = Timestamp::from_micros(micros);
            let text = write(at).unwrap();
            prop_assert_eq!(read(&text), Some(at), "{}", text);
        }
    }
}
