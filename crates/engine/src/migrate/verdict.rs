//! What the abort rules make of what they see: a value, a threshold, a verdict.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use whimbrel_model::Event;
use whimbrel_model::ledger::{Counts, RunId};

use super::metered::Rate;

/// The reads that a verdict on latency rests on.
const SAMPLES: usize = 40;
const FEWEST_SAMPLES: usize = 20;
/// One failure of a handful is no rate.
const FEWEST_CALLS: u64 = 20;
/// Documents that a share of failures rests on, unless the run has ended.
const FEWEST_DOCUMENTS: u64 = 200;

/// What a look saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub value: String,
    pub threshold: String,
    pub tripped: bool,
}

/// How the runs' documents fare.
#[derive(Debug, Default)]
pub(super) struct Documents {
    run: RunId,
    counts: Counts,
    /// Of the run at work, whether or not enough were seen.
    share: f64,
    /// The greatest share that a verdict may rest on, with its counts: a run may begin and end between
    /// two looks.
    worst: Option<(f64, Counts)>,
}

impl Documents {
    pub(super) fn note(&mut self, event: &Event) {
        match event {
            Event::Start { run, done, .. } => self.count(run, *done, false),
            Event::BatchComplete { run, totals, .. } => self.count(run, *totals, false),
            Event::Complete { run, totals, .. } | Event::Error { run, totals, .. } => {
                self.count(run, *totals, true);
            }
            _ => {}
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn count(&mut self, run: &RunId, totals: Counts, at_end: bool) {
        // Workers tell of their chunks in any order.
        if self.run == *run && totals.enumerated < self.counts.enumerated {
            return;
        }
        self.run.clone_from(run);
        self.counts = totals;
        let seen = totals.enumerated;
        self.share = if seen == 0 {
            0.0
        } else {
            totals.quarantined as f64 / seen as f64
        };
        let enough = at_end || seen >= FEWEST_DOCUMENTS;
        if enough && self.worst.is_none_or(|(worst, _)| self.share > worst) {
            self.worst = Some((self.share, totals));
        }
    }

    pub(super) fn judge(&self, above: f64) -> Look {
        let tripped = self.worst.filter(|(share, _)| *share > above);
        let (share, counts) = tripped.unwrap_or((self.share, self.counts));
        Look {
            value: format!(
                "{} ({} of {} documents)",
                percent(share),
                counts.quarantined,
                counts.enumerated
            ),
            threshold: format!("more than {}", percent(above)),
            tripped: tripped.is_some(),
        }
    }
}

pub(super) fn failed_checks(failed: u64, above: u64) -> Look {
    Look {
        value: format!(
            "{failed} failed {}",
            if failed == 1 { "check" } else { "checks" }
        ),
        threshold: format!("more than {above}"),
        tripped: failed > above,
    }
}

pub(super) fn error_rate(rate: Rate, above: f64) -> Look {
    Look {
        value: format!(
            "{} ({} of {} calls in the last minute)",
            percent(rate.share()),
            rate.failed,
            rate.calls
        ),
        threshold: format!("more than {}", percent(above)),
        tripped: rate.calls >= FEWEST_CALLS && rate.share() > above,
    }
}

/// `1.2 %`, and never `0 %` for something that is not nothing.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 0.1 {
        format!("{percent:.3} %")
    } else {
        format!("{percent:.1} %")
    }
}

/// The last reads of one place, in microseconds.
#[derive(Debug, Default)]
pub(super) struct Reads(VecDeque<u64>);

impl Reads {
    pub(super) fn push(&mut self, time: Duration) {
        if self.0.len() == SAMPLES {
            self.0.pop_front();
        }
        self.0.push_back(micros(time));
    }
}

/// The place that is slowest against its baseline speaks for all.
pub(super) fn latency(
    reads: &BTreeMap<String, Reads>,
    baseline: &BTreeMap<String, u64>,
    times: f64,
    at_least: Duration,
) -> Look {
    let threshold = format!(
        "{times} times, and at least {}",
        milliseconds(micros(at_least))
    );
    #[allow(clippy::cast_precision_loss)]
    let judged = reads.iter().filter_map(|(place, reads)| {
        let before = *baseline.get(place)?;
        let enough = reads.0.len() >= FEWEST_SAMPLES;
        let now = p95(reads.0.iter().copied().collect()).filter(|_| enough)?;
        let slower = now as f64 / before.max(1) as f64;
        let tripped = slower > times && now >= micros(at_least);
        Some((tripped, slower, place, before, now))
    });
    let worst = judged.max_by(|a, b| (a.0.cmp(&b.0)).then(a.1.total_cmp(&b.1)));
    match worst {
        Some((tripped, slower, place, before, now)) => Look {
            value: format!(
                "{slower:.1} times: {} against {} before ({place})",
                milliseconds(now),
                milliseconds(before)
            ),
            threshold,
            tripped,
        },
        None => Look {
            value: "too few reads yet".to_owned(),
            threshold,
            tripped: false,
        },
    }
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[allow(clippy::cast_precision_loss)]
fn milliseconds(micros: u64) -> String {
    format!("{:.1} ms", micros as f64 / 1000.0)
}

/// The 95th percentile, by nearest rank.
pub(super) fn p95(mut times: Vec<u64>) -> Option<u64> {
    times.sort_unstable();
    let rank = (times.len() * 95).div_ceil(100);
    times.get(rank.checked_sub(1)?).copied()
}

#[allow(clippy::cast_precision_loss)]
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(enumerated: u64, quarantined: u64) -> Counts {
        Counts {
            enumerated,
            quarantined,
            ..Counts::default()
        }
    }

    fn batch(run: &str, enumerated: u64, quarantined: u64) -> Event {
        Event::BatchComplete {
            run: run.to_owned(),
            partition: 0,
            counts: Counts::default(),
            totals: totals(enumerated, quarantined),
            elapsed_ms: 1,
        }
    }

    fn complete(run: &str, enumerated: u64, quarantined: u64) -> Event {
        Event::Complete {
            run: run.to_owned(),
            totals: totals(enumerated, quarantined),
            elapsed_ms: 1,
            dry_run: false,
        }
    }

    #[test]
    fn failed_documents_are_judged_by_the_run_at_work() {
        let error = Event::Error {
            run: "a".to_owned(),
            code: whimbrel_model::Code::RunInterrupted,
            message: String::new(),
            resumable: true,
            totals: totals(10, 1),
        };
        for (events, above, expect) in [
            (vec![], 0.0, false),
            // Too few to judge by, unless it is all there is.
            (vec![batch("a", 199, 199)], 0.5, false),
            (vec![batch("a", 200, 101)], 0.5, true),
            (vec![batch("a", 200, 100)], 0.5, false),
            (vec![complete("a", 4, 1)], 0.2, true),
            (vec![complete("a", 4, 1)], 0.25, false),
            (vec![error], 0.05, true),
            // A bad run is not made good by a great one after it.
            (vec![complete("a", 10, 5), batch("b", 9000, 0)], 0.1, true),
            // A late word of an early chunk is no news.
            (vec![batch("a", 1000, 1), batch("a", 200, 1)], 0.004, false),
            (vec![complete("a", 0, 0)], 0.0, false),
        ] {
            let mut documents = Documents::default();
            events.iter().for_each(|event| documents.note(event));
            let look = documents.judge(above);
            assert_eq!(look.tripped, expect, "{events:?} above {above}: {look:?}");
        }
    }

    #[test]
    fn an_error_rate_needs_some_calls() {
        for (calls, failed, expect) in [
            (0, 0, false),
            (19, 19, false),
            (20, 3, true),
            (20, 2, false),
            (1000, 100, false),
            (1000, 101, true),
        ] {
            let look = error_rate(Rate { calls, failed }, 0.1);
            assert_eq!(look.tripped, expect, "{look:?}");
        }
    }

    fn reads(times: impl IntoIterator<Item = u64>) -> Reads {
        let mut reads = Reads::default();
        let times = times.into_iter().map(Duration::from_micros);
        times.for_each(|time| reads.push(time));
        reads
    }

    #[test]
    fn latency_trips_only_when_both_of_its_limits_are_passed() {
        let same = |time: u64| reads(vec![time; SAMPLES]);
        let few = |time: u64, n: usize| reads(vec![time; n]);
        // One slow read in forty is not the 95th percentile; three are.
        let slow = |n: usize| reads((0..40).map(|i| if i < n { 90_000 } else { 1000 }));
        for (name, reads, expect) in [
            ("as before", same(1000), false),
            ("exactly three times", same(3000), false),
            ("more, but still fast", same(4900), false),
            ("more, and slow", same(5000), true),
            ("too few", few(90_000, FEWEST_SAMPLES - 1), false),
            ("just enough", few(90_000, FEWEST_SAMPLES), true),
            ("a straggler", slow(2), false),
            ("several", slow(3), true),
        ] {
            let reads = BTreeMap::from([("app/chats".to_owned(), reads)]);
            let baseline = BTreeMap::from([("app/chats".to_owned(), 1000)]);
            let look = latency(&reads, &baseline, 3.0, Duration::from_millis(5));
            assert_eq!(look.tripped, expect, "{name}: {look:?}");
        }
    }

    #[test]
    fn the_slowest_place_speaks_and_only_the_last_reads_count() {
        let mut recovered = reads(vec![90_000; SAMPLES]);
        (0..SAMPLES).for_each(|_| recovered.push(Duration::from_micros(2000)));
        let reads = BTreeMap::from([
            ("a/x".to_owned(), recovered),
            ("b/y".to_owned(), reads(vec![4000; SAMPLES])),
            ("c/new".to_owned(), reads(vec![99_000; SAMPLES])),
        ]);
        let baseline = ["a/x", "b/y"].map(|place| (place.to_owned(), 1000));
        let look = latency(&reads, &BTreeMap::from(baseline), 9.0, Duration::ZERO);
        assert_eq!(look.value, "4.0 times: 4.0 ms against 1.0 ms before (b/y)");
        assert!(!look.tripped);
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        for (times, expect) in [
            (vec![], None),
            (vec![7], Some(7)),
            ((1..=20).collect(), Some(19)),
            ((1..=100).rev().collect(), Some(95)),
        ] {
            assert_eq!(p95(times.clone()), expect, "{times:?}");
        }
    }

    #[test]
    fn shares_are_readable() {
        for (share, expect) in [
            (0.0, "0.0 %"),
            (0.0004, "0.040 %"),
            (0.0123, "1.2 %"),
            (1.0, "100.0 %"),
        ] {
            assert_eq!(percent(share), expect);
        }
    }
}
