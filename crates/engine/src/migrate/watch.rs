//! The abort rules: what is watched while a migration runs, and when it must take itself back.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::FutureExt;
use whimbrel_model::ledger::{Counts, RunId};
use whimbrel_model::migration::{AbortRule, AbortWhen};
use whimbrel_model::{Event, Key, KeyRange};

use super::metered::{Metered, Rate};
use super::process::{Ended, Program, Trouble};
use crate::events::{EventStream, Events};
use crate::options::Place;

/// A single read every so often, as the app would feel it.
const SAMPLE_EVERY: Duration = Duration::from_millis(200);
/// The reads that a verdict on latency rests on.
const SAMPLES: usize = 40;
const FEWEST_SAMPLES: usize = 20;
/// A read that takes longer counts as having taken this long.
const LONGEST_READ: Duration = Duration::from_secs(10);
/// One failure of a handful is no rate.
const FEWEST_CALLS: u64 = 20;
/// Documents that a share of failures rests on, unless the run has ended.
const FEWEST_DOCUMENTS: u64 = 200;
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const SHORTEST_LIMIT: Duration = Duration::from_secs(30);
/// How long taking the baseline may last, for each place.
const BASELINE_TIME: Duration = Duration::from_secs(5);
const BASELINE_READS: usize = 48;

/// What the rules look at.
pub(crate) struct WatchSetup {
    pub migration: String,
    /// What the runs tell, and where looks are told of.
    pub events: Arc<Events>,
    /// Whose single reads are timed.
    pub places: Vec<Place>,
    /// Microseconds of a single read before the start, by place: [`baseline`].
    pub baseline: BTreeMap<String, u64>,
    /// The folder that relative paths start from.
    pub project: PathBuf,
    /// Counts the calls to the stores that the steps use, and the checks that failed.
    pub meter: Arc<Metered>,
}

/// A rule that tripped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tripped {
    pub rule: String,
    pub value: String,
    pub threshold: String,
}

/// What a look saw.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Look {
    value: String,
    threshold: String,
    tripped: bool,
}

/// Watches until a rule trips; for ever when none does.
pub(crate) async fn watch(rules: Vec<AbortRule>, setup: WatchSetup) -> Tripped {
    Watch::new(rules, setup).tripped().await
}

/// The rules of a migration that is at work.
pub(crate) struct Watch {
    rules: Vec<AbortRule>,
    migration: String,
    stream: tokio::sync::Mutex<EventStream>,
    events: Arc<Events>,
    places: Vec<Place>,
    baseline: BTreeMap<String, u64>,
    project: PathBuf,
    meter: Arc<Metered>,
    documents: Mutex<Documents>,
    reads: Mutex<BTreeMap<String, Reads>>,
}

impl Watch {
    /// Sees what happens from now on.
    pub(crate) fn new(rules: Vec<AbortRule>, setup: WatchSetup) -> Self {
        Self {
            rules,
            migration: setup.migration,
            stream: tokio::sync::Mutex::new(setup.events.subscribe()),
            events: setup.events,
            places: setup.places,
            baseline: setup.baseline,
            project: setup.project,
            meter: setup.meter,
            documents: Mutex::default(),
            reads: Mutex::default(),
        }
    }

    /// Ends when a rule trips; never when none does.
    pub(crate) async fn tripped(&self) -> Tripped {
        if self.rules.is_empty() {
            // What nobody reads would pile up.
            self.listen().await;
        }
        let looks = self
            .rules
            .iter()
            .map(|rule| self.keep_looking(rule).boxed());
        let (tripped, _, _) = tokio::select! {
            first = futures::future::select_all(looks) => first,
            () = self.listen() => return std::future::pending().await,
            () = self.sample() => return std::future::pending().await,
        };
        tripped
    }

    /// One more look at every rule, for when the work is over: something may have happened since the last.
    pub(crate) async fn last_look(&self) -> Option<Tripped> {
        let mut stream = self.stream.lock().await;
        while let Ok(event) = stream.try_recv() {
            self.note(&event);
        }
        drop(stream);
        for rule in &self.rules {
            if let Some(tripped) = self.look(rule).await {
                return Some(tripped);
            }
        }
        None
    }

    async fn keep_looking(&self, rule: &AbortRule) -> Tripped {
        loop {
            if let Some(tripped) = self.look(rule).await {
                return tripped;
            }
            // A rule that is looked at without a pause would be the outage.
            tokio::time::sleep(rule.every.max(SHORTEST_PAUSE)).await;
        }
    }

    async fn look(&self, rule: &AbortRule) -> Option<Tripped> {
        let look = self.judge(rule).await;
        self.events.send(&Event::Rule {
            migration: self.migration.clone(),
            rule: rule.name.clone(),
            value: look.value.clone(),
            threshold: look.threshold.clone(),
            tripped: look.tripped,
        });
        look.tripped.then(|| Tripped {
            rule: rule.name.clone(),
            value: look.value,
            threshold: look.threshold,
        })
    }

    async fn judge(&self, rule: &AbortRule) -> Look {
        match &rule.when {
            AbortWhen::FailedDocuments { above } => match self.documents.lock() {
                Ok(documents) => documents.judge(*above),
                Err(_) => blind("documents"),
            },
            AbortWhen::FailedChecks { above } => failed_checks(self.meter.checks(), *above),
            AbortWhen::ErrorRate { above } => error_rate(self.meter.rate(), *above),
            AbortWhen::Latency { times, at_least } => match self.reads.lock() {
                Ok(reads) => latency(&reads, &self.baseline, *times, *at_least),
                Err(_) => blind("reads"),
            },
            AbortWhen::FreeDisk { path, below } => free_disk(self.project.join(path), *below).await,
            AbortWhen::Command { command } => {
                let limit = (rule.every * 2).max(SHORTEST_LIMIT);
                self.command(rule, command, limit).await
            }
        }
    }

    /// Never ends.
    async fn listen(&self) {
        let mut stream = self.stream.lock().await;
        while let Some(event) = stream.recv().await {
            self.note(&event);
        }
        std::future::pending().await
    }

    fn note(&self, event: &Event) {
        if let Ok(mut documents) = self.documents.lock() {
            documents.note(event);
        }
    }

    /// Times single reads, where a rule asks for it. Never ends.
    async fn sample(&self) {
        let timed = |rule: &AbortRule| matches!(rule.when, AbortWhen::Latency { .. });
        if self.rules.iter().any(timed) {
            let places = self.places.iter();
            let known = places.filter(|p| self.baseline.contains_key(&p.to_string()));
            futures::future::join_all(known.map(|place| self.sample_place(place))).await;
        }
        std::future::pending().await
    }

    async fn sample_place(&self, place: &Place) {
        let mut keys = Vec::new();
        for turn in 0_usize.. {
            if keys.is_empty() {
                keys = some_keys(place).await;
            }
            if let Some(key) = keys.get(turn % keys.len().max(1))
                && let Some(time) = timed_read(place, key).await
                && let Ok(mut reads) = self.reads.lock()
            {
                reads.entry(place.to_string()).or_default().push(time);
            }
            tokio::time::sleep(SAMPLE_EVERY).await;
        }
    }

    async fn command(&self, rule: &AbortRule, command: &[String], limit: Duration) -> Look {
        let program = Program {
            command: command.to_vec(),
            folder: self.project.clone(),
            env: vec![
                ("WHIMBREL_MIGRATION".to_owned(), self.migration.clone()),
                ("WHIMBREL_RULE".to_owned(), rule.name.clone()),
            ],
            stdin: None,
            keep: 0,
        };
        let finished = program.run(tokio::time::sleep(limit)).await;
        let (value, fine) = match finished.map(|f| f.ended) {
            Ok(Ended::Exit(0)) => ("it exited with 0".to_owned(), true),
            Ok(Ended::Exit(code)) => (format!("it exited with {code}"), false),
            Ok(Ended::Signal(signal)) => (format!("it was killed by signal {signal}"), false),
            Ok(Ended::Stopped) => (format!("it had not ended after {limit:?}"), false),
            // An alarm that cannot ring is an alarm.
            Err(Trouble::Start(e)) => (format!("it could not be started ({})", e.kind()), false),
            Err(Trouble::Wait(e)) => (format!("it was lost sight of ({})", e.kind()), false),
        };
        Look {
            value,
            threshold: "anything but exit 0".to_owned(),
            tripped: !fine,
        }
    }
}

/// Something panicked while it held what the rule looks at: better to stop than not to see.
fn blind(what: &str) -> Look {
    Look {
        value: format!("the {what} can no longer be seen"),
        threshold: "to be seen".to_owned(),
        tripped: true,
    }
}

/// How the runs' documents fare.
#[derive(Debug, Default)]
struct Documents {
    run: RunId,
    counts: Counts,
    /// Of the run at work, whether or not enough were seen.
    share: f64,
    /// The greatest share that a verdict may rest on, with its counts: a run may begin and end between
    /// two looks.
    worst: Option<(f64, Counts)>,
}

impl Documents {
    fn note(&mut self, event: &Event) {
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

    fn judge(&self, above: f64) -> Look {
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

fn failed_checks(failed: u64, above: u64) -> Look {
    Look {
        value: format!(
            "{failed} failed {}",
            if failed == 1 { "check" } else { "checks" }
        ),
        threshold: format!("more than {above}"),
        tripped: failed > above,
    }
}

fn error_rate(rate: Rate, above: f64) -> Look {
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
struct Reads(VecDeque<u64>);

impl Reads {
    fn push(&mut self, time: Duration) {
        if self.0.len() == SAMPLES {
            self.0.pop_front();
        }
        self.0.push_back(micros(time));
    }
}

/// The place that is slowest against its baseline speaks for all.
fn latency(
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

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[allow(clippy::cast_precision_loss)]
fn milliseconds(micros: u64) -> String {
    format!("{:.1} ms", micros as f64 / 1000.0)
}

/// The 95th percentile, by nearest rank.
fn p95(mut times: Vec<u64>) -> Option<u64> {
    times.sort_unstable();
    let rank = (times.len() * 95).div_ceil(100);
    times.get(rank.checked_sub(1)?).copied()
}

async fn free_disk(path: PathBuf, below: u64) -> Look {
    let looked = tokio::task::spawn_blocking(move || free_bytes(&path));
    // A network disk that hangs must not hang the alarm.
    let free = match tokio::time::timeout(SHORTEST_LIMIT, looked).await {
        Ok(Ok(free)) => free,
        Ok(Err(_)) => Err("the look failed".to_owned()),
        Err(_) => Err(format!("no answer within {SHORTEST_LIMIT:?}")),
    };
    let threshold = format!("less than {} free", megabytes(below));
    match free {
        Ok(free) => Look {
            value: format!("{} free", megabytes(free)),
            threshold,
            tripped: free < below,
        },
        Err(why) => Look {
            value: format!("unknown: {why}"),
            threshold,
            tripped: true,
        },
    }
}

/// Free for this user, on the disk where the path lies or will lie.
fn free_bytes(path: &Path) -> Result<u64, String> {
    let there = path
        .ancestors()
        .find(|p| p.exists())
        .ok_or_else(|| format!("{} is nowhere", path.display()))?;
    let disk = rustix::fs::statvfs(there).map_err(|e| format!("{}: {e}", there.display()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[allow(clippy::cast_precision_loss)]
fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// How long single reads of existing keys take (the 95th percentile, in microseconds), by place. Places
/// that hold nothing or cannot be read are left out.
pub(crate) async fn baseline(places: &[Place]) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for place in places {
        let mut times = Vec::new();
        let keys = some_keys(place).await;
        let deadline = Instant::now() + BASELINE_TIME;
        // The first read may open a connection, which the app did long ago.
        for key in keys.first().into_iter().chain(keys.iter().cycle()) {
            times.extend(timed_read(place, key).await.map(micros));
            if times.len() > BASELINE_READS || Instant::now() > deadline {
                break;
            }
        }
        if let Some(p95) = p95(times.split_off(times.len().min(1))) {
            all.insert(place.to_string(), p95);
        }
    }
    all
}

/// Keys of documents that exist, spread over the collection.
async fn some_keys(place: &Place) -> Vec<Key> {
    let all = KeyRange::all();
    let spread = place.store.partitions(&place.collection, &all, 32);
    let look = tokio::time::timeout(LONGEST_READ, spread).await;
    // A store that cannot be read now is the jobs' to report; here there is only nothing to time.
    let ranges = look.ok().and_then(Result::ok).unwrap_or_default();
    ranges.into_iter().filter_map(|r| r.through).collect()
}

/// `None` where the read failed: that says nothing of how long it takes.
async fn timed_read(place: &Place, key: &Key) -> Option<Duration> {
    let begun = Instant::now();
    let read = place
        .store
        .get(&place.collection, std::slice::from_ref(key));
    match tokio::time::timeout(LONGEST_READ, read).await {
        Ok(Ok(_)) => Some(begun.elapsed()),
        Ok(Err(_)) => None,
        Err(_) => Some(LONGEST_READ),
    }
}
