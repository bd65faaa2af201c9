//! Checks: rules judged over whole collections, all those of one collection in one pass.
//!
//! # Memory
//! It does not grow with the number of documents: a worker holds one page, cut by bytes; a check holds its
//! examples, a few counters, and a [spool](spool) that lays its rows aside in the scratch store when its share of
//! memory is used up.

mod aggregate;
mod count;
mod custom;
mod distribution;
mod documents;
mod exact;
mod findings;
mod latency;
mod measure;
mod outside;
mod pass;
mod reference;
mod runner;
mod spool;
mod unique;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;
use whimbrel_model::check::{Baselines, Check, CheckKind};
use whimbrel_model::finding::CheckResult;
use whimbrel_model::{Code, Store};

use self::findings::Findings;
use self::pass::{Pass, Running, Watcher};
use self::runner::{Measured, Runner, Side};
use self::spool::{Room, Spool};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::options::{JobOptions, Place};
use crate::pages::width;

/// What all spools may hold in memory together.
const SPOOLS_BYTES: usize = 32 << 20;
/// What each may hold, however many there are.
const SPOOL_BYTES_MIN: usize = 512 << 10;

/// A check and the opened places that it names.
#[derive(Clone)]
pub struct PreparedCheck {
    pub check: Check,
    /// Of [`Check::collection`].
    pub place: Option<Place>,
    /// Of [`Check::other`].
    pub other: Option<Place>,
    /// Of [`Check::store`].
    pub store: Option<Arc<dyn Store>>,
    /// Why a place could not be opened: the check's result says so.
    pub unready: Option<(Code, String)>,
}

impl PreparedCheck {
    /// A check of one collection.
    #[must_use]
    pub fn new(check: Check, place: Place) -> Self {
        Self {
            check,
            place: Some(place),
            other: None,
            store: None,
            unready: None,
        }
    }
}

/// Checks to do.
#[derive(Clone)]
pub struct ChecksJob {
    pub checks: Vec<PreparedCheck>,
    pub options: ChecksOptions,
}

#[derive(Clone)]
pub struct ChecksOptions {
    /// Takes what does not fit into memory; nothing else uses it, and it may be thrown away afterwards.
    pub scratch: Arc<dyn Store>,
    /// Partitions worked on at once; `None`: what the store can use.
    pub parallel: Option<u32>,
    /// How long a store may stay unavailable before its checks cannot be done.
    pub patience: Duration,
    /// Whether messages may hold values of documents.
    pub show_values: bool,
    /// What earlier verifications have measured.
    pub baselines: Baselines,
    /// The folder that commands run in.
    pub project: PathBuf,
    /// What the checks' rows may take in memory; `None`: 32 MiB for all together.
    pub memory_bytes: Option<usize>,
}

impl ChecksOptions {
    #[must_use]
    pub fn new(scratch: Arc<dyn Store>) -> Self {
        Self {
            scratch,
            parallel: None,
            patience: Duration::from_secs(60),
            show_values: false,
            baselines: Baselines::new(),
            project: PathBuf::from("."),
            memory_bytes: None,
        }
    }
}

/// What checks found.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// One for each check, in their order.
    pub results: Vec<CheckResult>,
    /// What was measured that later verifications may compare with.
    pub baselines: Baselines,
}

/// A check on its way to its result.
struct Course {
    check: Check,
    scope: String,
    /// `None`: it never began, and the reason is known.
    running: Option<Arc<Running>>,
    error: Option<(Code, String)>,
    elapsed: Duration,
    /// What it watches, with whose filter.
    places: Vec<(Side, Place)>,
}

impl Engine {
    /// Does all checks, those of one collection in one pass over it, and says everything that they found.
    /// Writes nothing but to the scratch store, and needs no ledger. What keeps one check from being done is
    /// that check's own result.
    pub async fn check(&self, job: ChecksJob) -> Checked {
        let ChecksJob { checks, options } = job;
        let room = room(&checks, &options);
        let mut courses: Vec<Course> = checks
            .into_iter()
            .enumerate()
            .map(|(nth, check)| self.course(nth, check, &options, room))
            .collect();
        for place in places(&courses) {
            let began = Instant::now();
            self.pass(&place, &courses, &options).run().await;
            for course in courses.iter_mut().filter(|c| c.watches(&place)) {
                course.elapsed += began.elapsed();
            }
        }
        let mut checked = Checked::default();
        for course in courses {
            let name = course.check.name.clone();
            let running = course.running.clone();
            if let Some(running) = running.as_ref().filter(|r| !r.is_dead() && self.stopped()) {
                running.give_up(EngineError::Interrupted.into());
            }
            checked.results.push(course.finish().await);
            if let Some(baseline) = running.and_then(|r| r.runner.baseline()) {
                checked.baselines.insert(name, baseline);
            }
        }
        checked
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn pass(&self, place: &Place, courses: &[Course], options: &ChecksOptions) -> Pass {
        let watchers = courses.iter().flat_map(|course| {
            let sides = course.places.iter().filter(|(_, at)| same(at, place));
            sides.filter_map(|(side, _)| {
                let filter = match side {
                    Side::Own => course.check.filter.clone(),
                    Side::Other => course.check.other_filter.clone(),
                };
                let running = Arc::clone(course.running.as_ref()?);
                Some(Watcher {
                    running,
                    side: *side,
                    filter,
                })
            })
        });
        let job = JobOptions {
            parallel: options.parallel,
            ..JobOptions::default()
        };
        let (parallel, _) = width(&job, &[place.store.as_ref()]);
        Pass {
            place: place.clone(),
            watchers: watchers.collect(),
            parallel,
            patience: options.patience,
            now: self.clock.now(),
            stop: Arc::clone(&self.stop),
        }
    }

    fn course(
        &self,
        nth: usize,
        prepared: PreparedCheck,
        options: &ChecksOptions,
        room: usize,
    ) -> Course {
        let check = prepared.check.clone();
        let store = prepared.store.as_ref().map(|store| store.name().to_owned());
        let scope = prepared.place.as_ref().map(ToString::to_string);
        let scope = scope
            .or_else(|| check.collection.clone())
            .or(store)
            .unwrap_or_default();
        let findings = Findings::new(check.examples, options.show_values);
        let made = match prepared.unready.clone() {
            Some(why) => Err(why),
            None => self.runner(nth, &prepared, options, room),
        };
        let mut course = Course {
            check,
            scope,
            running: None,
            error: None,
            elapsed: Duration::ZERO,
            places: Vec::new(),
        };
        match made {
            Ok(runner) => {
                for side in runner.sides() {
                    let place = match side {
                        Side::Own => &prepared.place,
                        Side::Other => &prepared.other,
                    };
                    match place {
                        Some(place) => course.places.push((*side, place.clone())),
                        // It would pass without having seen a document.
                        None => course.error = Some(unopened("a collection that the check reads")),
                    }
                }
                if course.error.is_none() {
                    course.running = Some(Arc::new(Running::new(runner, findings)));
                }
            }
            Err(why) => course.error = Some(why),
        }
        course
    }

    // tidy: long because it is one table: what each kind of check is made of.
    fn runner(
        &self,
        nth: usize,
        prepared: &PreparedCheck,
        options: &ChecksOptions,
        room: usize,
    ) -> Result<Box<dyn Runner>, (Code, String)> {
        let PreparedCheck {
            check,
            place,
            other,
            store,
            ..
        } = prepared;
        let own = || {
            place
                .clone()
                .ok_or_else(|| unopened("the check's collection"))
        };
        let there = || {
            other
                .clone()
                .ok_or_else(|| unopened("the check's second collection"))
        };
        let baseline = options.baselines.get(&check.name);
        let patience = options.patience;
        let make = Maker { nth, options, room };
        Ok(match &check.kind {
            CheckKind::Count(count) => {
                let mut sides = Vec::new();
                sides.extend(check.filter.as_ref().map(|_| Side::Own));
                sides.extend(check.other_filter.as_ref().map(|_| Side::Other));
                Box::new(count::Count {
                    check: count.clone(),
                    own: own()?,
                    other: check.other().map(|_| there()).transpose()?,
                    sides,
                    counted: [AtomicU64::new(0), AtomicU64::new(0)],
                    patience,
                })
            }
            CheckKind::Fields { tests, .. } => Box::new(documents::Fields {
                tests: tests.clone(),
            }),
            CheckKind::Document { judge, .. } => Box::new(documents::Judged {
                judge: Arc::clone(judge),
            }),
            CheckKind::Condition { judge, pair } => Box::new(documents::Conditioned {
                judge: Arc::clone(judge),
                pair: pair.as_ref().map(|_| there()).transpose()?,
                patience,
            }),
            CheckKind::Unique(fields) => Box::new(unique::Unique {
                own: own()?,
                patience,
                fields: fields.clone(),
                spool: make.spool(200),
            }),
            CheckKind::Reference(reference) if reference.to_field.is_some() => {
                Box::new(reference::ByField {
                    check: reference.clone(),
                    to: there()?,
                    spool: make.spool(300),
                })
            }
            CheckKind::Reference(reference) => Box::new(reference::ByKey {
                check: reference.clone(),
                own: own()?,
                to: there()?,
                patience,
                kind: OnceCell::new(),
                known: Mutex::new(HashSet::new()),
            }),
            CheckKind::Aggregate(aggregate) => Box::new(aggregate::Aggregate {
                check: aggregate.clone(),
                other: check.other().map(|_| there()).transpose()?,
                sides: both(check),
                spool: make.spool(800),
            }),
            CheckKind::Distribution(distribution) => Box::new(distribution::Distribution {
                check: distribution.clone(),
                other: check.other().map(|_| there()).transpose()?,
                sides: both(check),
                spool: make.spool(400),
                documents: [AtomicU64::new(0), AtomicU64::new(0)],
                empty: [AtomicU64::new(0), AtomicU64::new(0)],
                baseline: baseline.and_then(|b| b.distribution.clone()),
                measured: Mutex::new(None),
            }),
            CheckKind::Latency(latency) => Box::new(latency::Latency {
                check: latency.clone(),
                place: own()?,
                patience,
                baseline: baseline.and_then(|b| b.latency),
                measured: Mutex::new(None),
            }),
            CheckKind::Sql { statement, .. } => Box::new(outside::Sql {
                store: store
                    .clone()
                    .ok_or_else(|| unopened("the statement's store"))?,
                statement: statement.clone(),
                patience,
            }),
            CheckKind::Command { command, timeout } => Box::new(outside::Command {
                command: command.clone(),
                timeout: *timeout,
                folder: options.project.clone(),
                stop: Arc::clone(&self.stop),
            }),
            CheckKind::Custom(custom) => Box::new(custom::Custom {
                check: Arc::clone(custom),
            }),
        })
    }
}

fn unopened(what: &str) -> (Code, String) {
    (Code::CheckImpossible, format!("{what} was not opened"))
}

struct Maker<'a> {
    nth: usize,
    options: &'a ChecksOptions,
    room: usize,
}

impl Maker<'_> {
    fn spool<T>(&self, row_bytes: usize) -> Spool<T>
    where
        T: Clone + serde::Serialize + serde::de::DeserializeOwned + Send,
    {
        let room = Room {
            bytes: self.room,
            row_bytes,
        };
        Spool::new(
            Arc::clone(&self.options.scratch),
            format!("check_{}", self.nth),
            room,
        )
    }
}

fn both(check: &Check) -> Vec<Side> {
    let mut sides = vec![Side::Own];
    sides.extend(check.other().map(|_| Side::Other));
    sides
}

/// What each spool may hold.
fn room(checks: &[PreparedCheck], options: &ChecksOptions) -> usize {
    let spools = checks.iter().filter(|check| {
        matches!(
            check.check.kind,
            CheckKind::Unique(_)
                | CheckKind::Reference(_)
                | CheckKind::Aggregate(_)
                | CheckKind::Distribution(_)
        )
    });
    match options.memory_bytes {
        Some(bytes) => bytes / spools.count().max(1),
        None => (SPOOLS_BYTES / spools.count().max(1)).max(SPOOL_BYTES_MIN),
    }
}

fn same(a: &Place, b: &Place) -> bool {
    a.store_name == b.store_name && a.collection == b.collection
}

/// Every collection that is to be walked through, once.
fn places(courses: &[Course]) -> Vec<Place> {
    let mut all: Vec<Place> = Vec::new();
    for (_, place) in courses.iter().flat_map(|course| &course.places) {
        if !all.iter().any(|other| same(other, place)) {
            all.push(place.clone());
        }
    }
    all
}

impl Course {
    fn watches(&self, place: &Place) -> bool {
        self.places.iter().any(|(_, at)| same(at, place))
    }

    async fn finish(self) -> CheckResult {
        let began = Instant::now();
        let mut measured = Measured::new();
        let mut found = Findings::new(0, false);
        if let Some(running) = &self.running {
            found = running.findings().clone();
            if !running.is_dead() {
                match running.runner.finish(&mut found).await {
                    Ok(numbers) => measured = numbers,
                    Err(why) => found.trouble(None, why),
                }
            }
        }
        let (looked_at, failed) = (found.looked_at, found.failed);
        let (examples, trouble) = found.into_parts();
        let error = self.error.or(trouble);
        let elapsed = self.elapsed + began.elapsed();
        CheckResult {
            name: self.check.name,
            kind: self.check.kind.word().to_owned(),
            severity: self.check.severity,
            scope: self.scope,
            description: self.check.description,
            passed: error.is_none() && failed == 0,
            looked_at,
            failed,
            examples,
            measured,
            error,
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        }
    }
}
