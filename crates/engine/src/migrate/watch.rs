//! The abort rules: what is watched while a migration runs, and when it must take itself back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::FutureExt;
use whimbrel_model::migration::{AbortRule, AbortWhen};
use whimbrel_model::{Event, Key, KeyRange};

use super::metered::Metered;
use super::process::{Ended, Program, Trouble};
use super::verdict::{self, Documents, Look, Reads, megabytes, micros, p95};
use crate::events::{EventStream, Events};
use crate::options::Place;

/// A single read every so often, as the app would feel it.
const SAMPLE_EVERY: Duration = Duration::from_millis(200);
/// A read that takes longer counts as having taken this long.
const LONGEST_READ: Duration = Duration::from_secs(10);
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
            AbortWhen::FailedChecks { above } => {
                verdict::failed_checks(self.meter.checks(), *above)
            }
            AbortWhen::ErrorRate { above } => verdict::error_rate(self.meter.rate(), *above),
            AbortWhen::Latency { times, at_least } => match self.reads.lock() {
                Ok(reads) => verdict::latency(&reads, &self.baseline, *times, *at_least),
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
            Err(Trouble::Start(why)) => (format!("it could not be started ({why})"), false),
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;
    use whimbrel_model::ledger::Counts;
    use whimbrel_model::{Body, Guard, KeyKind, Store, Write};
    use whimbrel_stores::{OpenOptions, open};
    use whimbrel_testkit::faulty::FaultyStore;

    /// Long enough for anything that is to happen on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(60);

    struct Bench {
        events: Arc<Events>,
        meter: Arc<Metered>,
        folder: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                events: Arc::default(),
                meter: Arc::default(),
                folder: tempfile::tempdir().unwrap(),
            }
        }

        fn watch(&self, when: AbortWhen, places: Vec<Place>, baseline: &[(&str, u64)]) -> Watch {
            let rule = AbortRule {
                name: "alarm".to_owned(),
                when,
                every: Duration::from_millis(20),
            };
            let setup = WatchSetup {
                migration: "0001_move".to_owned(),
                events: Arc::clone(&self.events),
                places,
                baseline: baseline
                    .iter()
                    .map(|(p, t)| ((*p).to_owned(), *t))
                    .collect(),
                project: self.folder.path().to_path_buf(),
                meter: Arc::clone(&self.meter),
            };
            Watch::new(vec![rule], setup)
        }

        /// Every look that was told of.
        fn looks(stream: &mut EventStream) -> Vec<bool> {
            let mut looks = Vec::new();
            while let Ok(event) = stream.try_recv() {
                if let Event::Rule { tripped, rule, .. } = event {
                    assert_eq!(rule, "alarm");
                    looks.push(tripped);
                }
            }
            looks
        }
    }

    async fn store(documents: usize) -> Arc<dyn Store> {
        let store = open("memory:", &OpenOptions::default()).await.unwrap();
        store.ensure("chats", &KeyKind::Text).await.unwrap();
        let writes: Vec<Write> = (0..documents)
            .map(|i| Write {
                collection: "chats".to_owned(),
                key: Key::text(format!("c{i:03}")),
                to: Some(Body::from_json(b"{}".to_vec())),
                guard: Guard::Any,
            })
            .collect();
        store.write(&writes).await.unwrap();
        store
    }

    fn place(store: Arc<dyn Store>) -> Place {
        Place {
            store,
            store_name: "app".to_owned(),
            collection: "chats".to_owned(),
        }
    }

    fn batch(enumerated: u64, quarantined: u64) -> Event {
        let totals = Counts {
            enumerated,
            quarantined,
            ..Counts::default()
        };
        Event::BatchComplete {
            run: "r".to_owned(),
            partition: 0,
            counts: totals,
            totals,
            elapsed_ms: 1,
        }
    }

    #[tokio::test]
    async fn failed_documents_trip_while_it_runs_and_each_look_is_told() {
        let bench = Bench::new();
        let mut stream = bench.events.subscribe();
        let watch = bench.watch(AbortWhen::FailedDocuments { above: 0.01 }, vec![], &[]);
        bench.events.send(&batch(1000, 10));
        let quiet = timeout(Duration::from_millis(200), watch.tripped()).await;
        assert!(quiet.is_err(), "{quiet:?}");
        let looks = Bench::looks(&mut stream);
        assert!(looks.len() >= 2 && !looks.contains(&true), "{looks:?}");

        bench.events.send(&batch(2000, 21));
        let tripped = timeout(PATIENCE, watch.tripped()).await.unwrap();
        assert_eq!(tripped.value, "1.1 % (21 of 2000 documents)");
        assert_eq!(tripped.threshold, "more than 1.0 %");
        assert_eq!(Bench::looks(&mut stream).last(), Some(&true));
    }

    #[tokio::test]
    async fn the_last_look_sees_what_came_after_the_last_but_one() {
        let bench = Bench::new();
        let watch = bench.watch(AbortWhen::FailedDocuments { above: 0.0 }, vec![], &[]);
        assert_eq!(watch.last_look().await, None);
        bench.events.send(&batch(300, 1));
        assert_eq!(watch.last_look().await.unwrap().rule, "alarm");
    }

    #[tokio::test]
    async fn no_rule_never_trips() {
        let bench = Bench::new();
        let mut watch = bench.watch(AbortWhen::FailedChecks { above: 0 }, vec![], &[]);
        watch.rules.clear();
        bench.meter.checks_failed(9);
        let quiet = timeout(Duration::from_millis(100), watch.tripped()).await;
        assert!(quiet.is_err());
        assert_eq!(watch.last_look().await, None);
    }

    #[tokio::test]
    async fn failed_checks_trip() {
        let bench = Bench::new();
        let watch = bench.watch(AbortWhen::FailedChecks { above: 1 }, vec![], &[]);
        bench.meter.checks_failed(1);
        assert_eq!(watch.last_look().await, None);
        bench.meter.checks_failed(1);
        assert_eq!(watch.last_look().await.unwrap().value, "2 failed checks");
    }

    #[tokio::test]
    async fn reads_that_became_slow_trip_and_as_fast_ones_do_not() {
        let bench = Bench::new();
        let when = || AbortWhen::Latency {
            times: 3.0,
            at_least: Duration::from_millis(5),
        };
        let slow = FaultyStore::new(store(50).await).with_latency(Duration::from_millis(20));
        let slow = place(Arc::new(slow));
        let watch = bench.watch(when(), vec![slow.clone()], &[("app/chats", 1000)]);
        let tripped = timeout(PATIENCE, watch.tripped()).await.unwrap();
        assert!(
            tripped.value.ends_with("against 1.0 ms before (app/chats)"),
            "{tripped:?}"
        );
        assert_eq!(tripped.threshold, "3 times, and at least 5.0 ms");

        let mut stream = bench.events.subscribe();
        let watch = bench.watch(when(), vec![slow], &[("app/chats", 1_000_000)]);
        let judged = async {
            while let Some(event) = stream.recv().await {
                if let Event::Rule { value, .. } = event
                    && value != "too few reads yet"
                {
                    return value;
                }
            }
            String::new()
        };
        tokio::select! {
            tripped = watch.tripped() => panic!("{tripped:?}"),
            value = timeout(PATIENCE, judged) => {
                let value = value.unwrap();
                assert!(value.contains("against 1000.0 ms"), "{value}");
            }
        }
    }

    #[tokio::test]
    async fn the_baseline_leaves_out_what_holds_nothing() {
        let full = FaultyStore::new(store(5).await).with_latency(Duration::from_millis(3));
        let full = place(Arc::new(full));
        let empty = Place {
            store_name: "empty".to_owned(),
            ..place(store(0).await)
        };
        let baseline = baseline(&[empty, full]).await;
        assert_eq!(baseline.keys().collect::<Vec<_>>(), ["app/chats"]);
        assert!(baseline["app/chats"] >= 3000, "{baseline:?}");
    }

    #[tokio::test]
    async fn a_full_disk_trips_also_where_its_folder_is_yet_to_come() {
        let bench = Bench::new();
        for (below, trips) in [(0, false), (u64::MAX, true)] {
            let when = AbortWhen::FreeDisk {
                path: "backups/of/today".to_owned(),
                below,
            };
            let tripped = bench.watch(when, vec![], &[]).last_look().await;
            assert_eq!(tripped.is_some(), trips, "{tripped:?}");
        }
    }

    async fn check_command(command: &[&str], expect: Option<&str>) {
        let when = AbortWhen::Command {
            command: command.iter().map(ToString::to_string).collect(),
        };
        let tripped = Bench::new().watch(when, vec![], &[]).last_look().await;
        assert_eq!(tripped.map(|t| t.value).as_deref(), expect, "{command:?}");
    }

    #[tokio::test]
    async fn a_command_that_says_no_or_nothing_trips() {
        check_command(&["true"], None).await;
        check_command(&["sh", "-c", "exit 3"], Some("it exited with 3")).await;
        check_command(
            &["sh", "-c", "kill -9 $$"],
            Some("it was killed by signal 9"),
        )
        .await;
        let none = Some("it could not be started (there is no such program)");
        check_command(&["no-such-alarm"], none).await;
        check_command(&[], Some("it could not be started (no command is given)")).await;
        let about = "[ \"$WHIMBREL_MIGRATION $WHIMBREL_RULE\" = '0001_move alarm' ]";
        check_command(&["sh", "-c", about], None).await;
    }

    #[tokio::test]
    async fn a_command_that_does_not_end_trips_at_its_limit() {
        let when = AbortWhen::FailedChecks { above: 0 };
        let bench = Bench::new();
        let watch = bench.watch(when, vec![], &[]);
        let command = ["sleep".to_owned(), "3600".to_owned()];
        let limit = Duration::from_millis(100);
        let look = watch.command(&watch.rules[0], &command, limit).await;
        assert!(look.tripped);
        assert_eq!(look.value, "it had not ended after 100ms");
    }
}
