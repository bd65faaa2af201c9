//! What a run did, as a tired person reads it at a glance.

use crate::paint::{duration, rate, thousands};
use crate::screen::Screen;
use whimbrel_engine::Report;
use whimbrel_model::Counts;
use whimbrel_model::ledger::JobKind;

/// `1,000 seen = 980 upgraded + 15 already there + 5 quarantined`
#[must_use]
pub fn equation(counts: &Counts, kind: JobKind, dry_run: bool) -> String {
    let (written, unchanged) = match (kind, dry_run) {
        (JobKind::Upgrade, false) => ("upgraded", "already there"),
        (JobKind::Upgrade, true) => ("would be upgraded", "already there"),
        (JobKind::Copy, false) => ("copied", "already equal"),
        (JobKind::Copy, true) => ("would be copied", "already equal"),
        (JobKind::Retry, false) => ("mended", "already right"),
        (JobKind::Retry, true) => ("would be mended", "already right"),
    };
    let failed = if dry_run { "would fail" } else { "quarantined" };
    let parts: Vec<String> = [
        (counts.written, written),
        (counts.unchanged, unchanged),
        (counts.skipped, "skipped"),
        (counts.newer, "newer than known (untouched)"),
        (counts.quarantined, failed),
        (counts.deleted, "deleted meanwhile"),
    ]
    .into_iter()
    .filter(|(n, what)| *n > 0 || *what == written)
    .map(|(n, what)| format!("{} {what}", thousands(n)))
    .collect();
    format!(
        "{} seen = {}",
        thousands(counts.enumerated),
        parts.join(" + ")
    )
}

/// Prints the end of one run. In a dry run, `report.run` is `None`.
pub fn print(screen: &Screen, report: &Report, kind: JobKind) {
    let dry_run = report.run.is_none();
    let counts = &report.counts;
    let paint = screen.out;
    let head = match (dry_run, counts.quarantined) {
        (true, _) => paint.name("dry run"),
        (false, 0) => paint.good("done"),
        (false, _) => paint.warn("done, with documents in quarantine"),
    };
    let run = report
        .run
        .as_ref()
        .map(|r| paint.dim(&format!("   run {r}")))
        .unwrap_or_default();
    screen.line(format!("{head}  {}{run}", paint.bold(&report.title)));
    screen.line(format!("  {}", equation(counts, kind, dry_run)));
    for extra in extras(counts, kind, dry_run) {
        screen.line(format!("  {extra}"));
    }
    let elapsed_ms = u64::try_from(report.elapsed.as_millis()).unwrap_or(u64::MAX);
    let again = if report.resumed {
        ", the last attempt"
    } else {
        ""
    };
    let speed = thousands(rate(counts.enumerated, elapsed_ms));
    let speed = if report.resumed || elapsed_ms < 20 {
        String::new()
    } else {
        format!(", {speed} documents/s")
    };
    screen.line(paint.dim(&format!("  {}{again}{speed}", duration(elapsed_ms))));
}

fn extras(counts: &Counts, kind: JobKind, dry_run: bool) -> Vec<String> {
    let mut out = Vec::new();
    if kind == JobKind::Copy && counts.derived > 0 {
        let verb = if dry_run { "would become" } else { "became" };
        let removed = match counts.removed {
            0 => String::new(),
            n => format!(
                "; {} that no source yields any more were removed",
                thousands(n)
            ),
        };
        out.push(format!(
            "they {verb} {} target documents{removed}",
            thousands(counts.derived)
        ));
    }
    if counts.conflicts > 0 {
        out.push(format!(
            "{} times the app wrote first; those documents were read again and decided anew",
            thousands(counts.conflicts)
        ));
    }
    out
}

/// The same for machines.
#[must_use]
pub fn to_json(report: &Report) -> serde_json::Value {
    serde_json::json!({
        "run": report.run,
        "title": report.title,
        "resumed": report.resumed,
        "dry_run": report.run.is_none(),
        "counts": report.counts,
        "balanced": report.counts.balanced(),
        "elapsed_ms": u64::try_from(report.elapsed.as_millis()).unwrap_or(u64::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_names_every_fate_there_was() {
        let counts = Counts {
            enumerated: 1000,
            written: 980,
            unchanged: 15,
            quarantined: 5,
            ..Counts::default()
        };
        for (kind, dry, expect) in [
            (
                JobKind::Upgrade,
                false,
                "1,000 seen = 980 upgraded + 15 already there + 5 quarantined",
            ),
            (
                JobKind::Copy,
                true,
                "1,000 seen = 980 would be copied + 15 already equal + 5 would fail",
            ),
        ] {
            assert_eq!(equation(&counts, kind, dry), expect);
        }
        let none = Counts::default();
        assert_eq!(
            equation(&none, JobKind::Upgrade, false),
            "0 seen = 0 upgraded"
        );
    }
}
