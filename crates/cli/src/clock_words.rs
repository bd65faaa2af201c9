//! Instants as people say them.

use whimbrel_model::Timestamp;

/// `02:14:09 UTC (7 h ago)` on the day itself, `2026-01-31 02:14 UTC (3 days ago)` later.
#[must_use]
pub fn when(text: &str, now: Timestamp) -> String {
    let Some(at) = Timestamp::parse(text) else {
        return text.to_owned();
    };
    format!("{} ({})", at_of(text, at, now), ago(at, now))
}

/// `at 02:14:09 UTC`, without how long ago that is.
#[must_use]
pub fn at(text: &str, now: Timestamp) -> String {
    match Timestamp::parse(text) {
        Some(at) => at_of(text, at, now),
        None => text.to_owned(),
    }
}

fn at_of(text: &str, at: Timestamp, now: Timestamp) -> String {
    let (day, time) = text.split_once('T').unwrap_or((text, ""));
    let clock = time.get(..8).unwrap_or(time);
    let near = now.seconds().saturating_sub(at.seconds()).abs() < 86_400 / 2;
    let today = now.to_string().starts_with(day);
    if today || near {
        format!("{clock} UTC")
    } else {
        format!("{day} {} UTC", clock.get(..5).unwrap_or(clock))
    }
}

/// `just now`, `5 min ago`, `7 h ago`, `3 days ago`.
#[must_use]
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.seconds().saturating_sub(at.seconds()).max(0);
    match seconds {
        0..60 => "just now".to_owned(),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// Milliseconds between two instants of the ledger.
#[must_use]
pub fn between(from: &str, to: &str) -> Option<u64> {
    let (from, to) = (Timestamp::parse(from)?, Timestamp::parse(to)?);
    u64::try_from(to.millis_floor().saturating_sub(from.millis_floor())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_said_as_people_do() {
        let now = Timestamp::parse("2026-01-31T09:20:00Z").unwrap();
        for (at, expect) in [
            ("2026-01-31T09:19:50.5Z", "09:19:50 UTC (just now)"),
            ("2026-01-31T02:14:09.123456Z", "02:14:09 UTC (7 h ago)"),
            ("2026-01-30T23:00:00Z", "23:00:00 UTC (10 h ago)"),
            ("2026-01-30T02:14:09Z", "2026-01-30 02:14 UTC (31 h ago)"),
            ("2026-01-27T02:14:09Z", "2026-01-27 02:14 UTC (4 days ago)"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(when(at, now), expect);
        }
    }
}
