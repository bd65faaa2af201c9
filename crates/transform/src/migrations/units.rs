//! Durations, sizes and shares, as people write them.

use crate::table::Table;
use std::time::Duration;
use toml::de::DeValue;

/// `90s`, `5m`, `1h30m`, `250ms`: the units from the greatest on, each once.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 5] = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    // Longer ones are a slip, and timers do not take them all.
    const LONGEST: u64 = 1000 * 86_400_000;
    let mut rest = text.trim();
    let (mut units, mut total) = (&UNITS[..], 0_u64);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let at = units.iter().position(|(name, _)| *name == unit)?;
        let part = number.parse::<u64>().ok()?.checked_mul(units[at].1)?;
        total = total.checked_add(part)?;
        units = &units[at + 1..];
        rest = after.trim_start();
    }
    (!text.trim().is_empty() && total <= LONGEST).then(|| Duration::from_millis(total))
}

/// `2 GB` is 2 · 10⁹ bytes, `2 GiB` is 2 · 2³⁰.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .bytes()
        .take_while(|b| b.is_ascii_digit() || *b == b'.')
        .count();
    let (number, unit) = text.split_at(digits);
    let scale: u64 = match unit.trim() {
        "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1000 * 1000,
        "GB" => 1000 * 1000 * 1000,
        "TB" => 1000 * 1000 * 1000 * 1000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(scale);
    }
    let (whole, part) = number.split_once('.')?;
    if part.is_empty() || part.len() > 6 {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    let divisor = 10_u64.pow(u32::try_from(part.len()).ok()?);
    // At most 10^6 · 2^40: fits.
    whole.checked_add(part.parse::<u64>().ok()? * scale / divisor)
}

/// `1%` is 0.01.
pub(crate) fn parse_share(text: &str) -> Option<f64> {
    let number = text.trim().strip_suffix('%')?.trim();
    let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let percent: f64 = number.parse().ok().filter(|_| plain)?;
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}

pub(crate) fn duration(table: &Table<'_, '_>, key: &'static str) -> Option<Duration> {
    let found = parse_duration(table.text(key)?);
    if found.is_none() {
        table.error(
            key,
            format!("{key:?} is no duration: write 250ms, 90s, 5m, 2h or 1h30m, at most 1000d"),
        );
    }
    if found == Some(Duration::ZERO) {
        table.error(key, format!("{key:?} is no time at all"));
    }
    found
}

pub(super) fn size(table: &Table<'_, '_>, key: &'static str) -> Option<u64> {
    let found = parse_size(table.need_text(key)?);
    if found.is_none() {
        table.error(
            key,
            format!("{key:?} is no size: write 500 MB, 2 GB (10^9 bytes) or 2 GiB (2^30)"),
        );
    }
    found
}

/// A share that a measured one can exceed.
pub(super) fn share(table: &Table<'_, '_>, key: &'static str) -> Option<f64> {
    let share = parse_share(table.need_text(key)?);
    match share {
        None => table.error(
            key,
            format!("{key:?} is no share: write 1% or 0.5%, from 0% on and below 100%"),
        ),
        Some(share) if share >= 1.0 => table.error(
            key,
            format!("{key:?} must be below 100%: nothing is ever above it"),
        ),
        Some(_) => {}
    }
    share
}

/// A share (`1%`) or a count (`25`), as the text that a run takes.
pub(super) fn threshold(table: &Table<'_, '_>, key: &'static str) -> Option<String> {
    let raw = table.raw(key)?.get_ref();
    let found = match raw {
        DeValue::Integer(_) => table.number(key).map(|n| n.to_string())?,
        DeValue::String(text) => text.trim().to_owned(),
        _ => String::new(),
    };
    if parse_share(&found).is_none() && found.parse::<u64>().is_err() {
        table.error(
            key,
            format!("{key:?} must be a share (\"1%\") or a number of documents (25)"),
        );
        return None;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, expect) in [
            ("250ms", Some(250)),
            ("90s", Some(90_000)),
            ("5m", Some(300_000)),
            ("2h", Some(7_200_000)),
            ("1h30m", Some(5_400_000)),
            ("1d 2h 3m 4s 5ms", Some(93_784_005)),
            ("0s", Some(0)),
            ("1000d", Some(86_400_000_000)),
            ("1001d", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
            ("", None),
            (" ", None),
            ("5", None),
            ("m", None),
            ("5 m", None),
            ("1.5h", None),
            ("-5m", None),
            ("5M", None),
            ("30m1h", None),
            ("5m5m", None),
            ("5min", None),
            ("5µs", None),
        ] {
            let expect = expect.map(Duration::from_millis);
            assert_eq!(parse_duration(text), expect, "{text:?}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, expect) in [
            ("2 GB", Some(2_000_000_000)),
            ("2GiB", Some(2_147_483_648)),
            ("1.5 MB", Some(1_500_000)),
            ("0.5 KiB", Some(512)),
            ("10 B", Some(10)),
            ("500 kB", Some(500_000)),
            ("1 TB", Some(1_000_000_000_000)),
            ("16777215 TiB", Some(16_777_215 << 40)),
            ("16777216 TiB", None),
            ("2", None),
            ("GB", None),
            ("2 gb", None),
            ("1.2.3 MB", None),
            (".5 MB", None),
            ("5. MB", None),
            ("-1 MB", None),
            ("0.1234567 MB", None),
            ("", None),
        ] {
            assert_eq!(parse_size(text), expect, "{text:?}");
        }
    }

    #[test]
    fn shares_are_read() {
        for (text, expect) in [
            ("1%", Some(0.01)),
            ("0.5 %", Some(0.005)),
            ("0%", Some(0.0)),
            ("100%", Some(1.0)),
            ("100.1%", None),
            ("-1%", None),
            ("+1%", None),
            ("1e1%", None),
            ("inf%", None),
            ("NaN%", None),
            ("%", None),
            ("1", None),
            ("0.01", None),
        ] {
            assert_eq!(parse_share(text), expect, "{text:?}");
        }
    }
}
