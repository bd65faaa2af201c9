//! What a run did, as a tired person reads it at a glance.

use crate::paint::{Paint, duration, rate, thousands};
use crate::screen::Screen;
use whimbrel_engine::Report;
use whimbrel_model::Counts;
use whimbrel_model::ledger::{JobKind, RunState};

/// What a run does to the documents that it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Upgrade,
    /// To a version below the newest.
    Down(u32),
    Copy,
    Retry,
    Undo,
    Backup,
    Restore,
    Verify,
}

impl From<JobKind> for Deed {
    fn from(kind: JobKind) -> Self {
        match kind {
            JobKind::Upgrade => Deed::Upgrade,
            JobKind::Copy => Deed::Copy,
            JobKind::Retry => Deed::Retry,
            JobKind::Undo => Deed::Undo,
            JobKind::Backup => Deed::Backup,
            JobKind::Restore => Deed::Restore,
            JobKind::Verify => Deed::Verify,
        }
    }
}

impl Deed {
    /// What a run of the ledger did.
    #[must_use]
    pub fn of(run: &RunState) -> Self {
        let parameters = &run.job.parameters;
        let to = parameters.get("to").and_then(serde_json::Value::as_u64);
        let newest = parameters
            .get("versions")
            .and_then(serde_json::Value::as_array);
        match (run.job.kind, to, newest) {
            (JobKind::Upgrade, Some(to), Some(versions)) if to < versions.len() as u64 => {
                Deed::Down(u32::try_from(to).unwrap_or(u32::MAX))
            }
            (kind, ..) => kind.into(),
        }
    }
}

/// `1,000 seen = 980 upgraded + 15 already there + 5 quarantined`
#[must_use]
pub fn equation(counts: &Counts, deed: Deed, dry_run: bool) -> String {
    let (done, unchanged) = match deed {
        Deed::Upgrade => ("upgraded".to_owned(), "already there"),
        Deed::Down(to) => (format!("brought to v{to}"), "already there"),
        Deed::Copy => ("copied".to_owned(), "already equal"),
        Deed::Retry => ("mended".to_owned(), "already right"),
        Deed::Undo => ("taken back".to_owned(), "already as before"),
        Deed::Backup => ("saved".to_owned(), "already saved"),
        Deed::Restore => ("restored".to_owned(), "already equal"),
        Deed::Verify => ("different".to_owned(), "as they should be"),
    };
    let (done, failed) = match dry_run {
        true => (format!("would be {done}"), "would fail"),
        false => (done, "quarantined"),
    };
    let mut parts: Vec<String> = [
        (counts.written, done.as_str()),
        (counts.unchanged, unchanged),
        (counts.skipped, "skipped"),
        (counts.newer, "newer than known (untouched)"),
        (counts.quarantined, failed),
        (counts.deleted, "deleted meanwhile"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, what)| format!("{} {what}", thousands(n)))
    .collect();
    if parts.is_empty() {
        parts.push(format!("0 {done}"));
    }
    format!(
        "{} seen = {}",
        thousands(counts.enumerated),
        parts.join(" + ")
    )
}

/// Prints the end of one run. In a dry run, `report.run` is `None`.
pub fn print(screen: &Screen, report: &Report, deed: Deed) {
    let dry_run = report.run.is_none();
    let counts = &report.counts;
    let paint = screen.out;
    let title = paint.bold(&report.title);
    match (dry_run, counts.quarantined) {
        (true, _) => screen.labelled("dry run", Paint::name, title),
        (false, 0) => screen.labelled("done", Paint::good, title),
        (false, _) => screen.labelled("done", Paint::warn, title),
    }
    screen.labelled("", Paint::bold, equation(counts, deed, dry_run));
    for extra in extras(counts, deed, dry_run) {
        screen.labelled("", Paint::bold, extra);
    }
    let elapsed_ms = u64::try_from(report.elapsed.as_millis()).unwrap_or(u64::MAX);
    let mut small = vec![duration(elapsed_ms)];
    if report.resumed {
        small.push("in the last attempt".to_owned());
    } else if elapsed_ms >= 20 {
        small.push(format!(
            "{} documents/s",
            thousands(rate(counts.enumerated, elapsed_ms))
        ));
    }
    small.extend(report.run.as_ref().map(|run| format!("run {run}")));
    screen.labelled("", Paint::bold, paint.dim(&small.join(", ")));
}

fn extras(counts: &Counts, deed: Deed, dry_run: bool) -> Vec<String> {
    let mut out = Vec::new();
    if deed == Deed::Copy && counts.derived > 0 {
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
        for (deed, dry, expect) in [
            (
                Deed::Upgrade,
                false,
                "1,000 seen = 980 upgraded + 15 already there + 5 quarantined",
            ),
            (
                Deed::Down(1),
                false,
                "1,000 seen = 980 brought to v1 + 15 already there + 5 quarantined",
            ),
            (
                Deed::Copy,
                true,
                "1,000 seen = 980 would be copied + 15 already equal + 5 would fail",
            ),
        ] {
            assert_eq!(equation(&counts, deed, dry), expect);
        }
        let none = Counts::default();
        assert_eq!(equation(&none, Deed::Upgrade, false), "0 seen = 0 upgraded");
    }
}
