//! Firestore's protocol under many clients: in memory beside hidane, durable beside plain SQLite.

use super::lanes::{Lane, Limit, take_turns_to_and_fro};
use super::measure::Measured;
use super::report::{Report, median};
use super::{Serving, note, whimbrel};
use crate::firestore::server::Server;
use crate::hidane::Hidane;
use crate::scratch::Scratch;
use crate::{Outcome, process};
use serde::Deserialize;
use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

const HIDANE: &str = "hidane 0.6";
const MEMORY: &str = "whimbrel serve, memory";
const SQLITE: &str = "whimbrel serve, SQLite";
const FLOOR: &str = "SQLite alone, one writer that groups commits";

const COMMITS: &str = "single-document commits in memory";
const GETS: &str = "GetDocument";
const BATCH_GETS: &str = "BatchGetDocuments of one document";
const DURABLE: &str = "durable single-document commits";

pub fn run(serving: &Serving) -> Outcome<Report> {
    let bench = Firestore {
        whimbrel: whimbrel(serving.whimbrel.as_ref())?,
        load: load()?,
        scratch: Scratch::make("whimbrel-bench-")?,
        clients: serving.clients,
        operations: serving.operations,
        taken: RefCell::default(),
    };
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let mut report = Report::new("firestore", cores, None);
    let title = |what: &str| {
        let (operations, clients) = (serving.operations, serving.clients);
        format!(
            "{operations} times, {clients} clients with a connection each: {what}; the first lane = 1"
        )
    };
    for (what, load) in [
        (COMMITS, "commit"),
        (GETS, "get"),
        (BATCH_GETS, "batch-get"),
    ] {
        let ours = Lane::new(MEMORY, || bench.served(what, MEMORY, load));
        let mut lanes = vec![
            Lane::new(HIDANE, || bench.hidane(what, load)),
            ours.bar(HIDANE, Limit::RateAtLeast(1.0)),
        ];
        if what != COMMITS {
            lanes.push(Lane::new(SQLITE, || bench.served(what, SQLITE, load)));
        }
        report.group(take_turns_to_and_fro(title(what), serving.runs, lanes));
    }
    let ours = Lane::new(SQLITE, || bench.served(DURABLE, SQLITE, "commit"));
    let lanes = vec![
        Lane::new(FLOOR, || bench.floor()),
        ours.bar(FLOOR, Limit::RateAtLeast(0.5)),
    ];
    report.group(take_turns_to_and_fro(title(DURABLE), serving.runs, lanes));
    bench.describe(&mut report);
    Ok(report)
}

/// What the load program says of one turn.
#[derive(Clone, Copy, Deserialize)]
struct Taken {
    operations: u32,
    seconds: f64,
    p50_ms: f64,
    p99_ms: f64,
}

struct Firestore {
    whimbrel: PathBuf,
    load: PathBuf,
    scratch: Scratch,
    clients: u32,
    operations: u32,
    /// Of every turn: what was measured, in which lane.
    taken: RefCell<Vec<(&'static str, &'static str, Taken)>>,
}

impl Firestore {
    fn hidane(&self, what: &'static str, load: &str) -> Outcome<Measured> {
        let server = Hidane::start()?;
        let taken = self.under_load(server.address(), load)?;
        Ok(self.keep(what, HIDANE, taken, server.peak_mb()))
    }

    fn served(&self, what: &'static str, lane: &'static str, load: &str) -> Outcome<Measured> {
        let url = match lane {
            MEMORY => "memory:".to_owned(),
            _ => format!("sqlite:{}", self.empty("served.db")?.display()),
        };
        let server = Server::start(&self.whimbrel, &url, self.scratch.path())?;
        let taken = self
            .under_load(server.address(), load)
            .map_err(|error| format!("{error}{}", server.last_words()))?;
        Ok(self.keep(what, lane, taken, server.peak_mb()))
    }

    fn floor(&self) -> Outcome<Measured> {
        let file = self.empty("floor.db")?;
        let taken = self.ask("floor", &file.to_string_lossy())?;
        Ok(self.keep(DURABLE, FLOOR, taken, 0.0))
    }

    /// What is read is written first, and that is not timed.
    fn under_load(&self, address: &str, load: &str) -> Outcome<Taken> {
        if load != "commit" {
            self.ask("commit", address)?;
        }
        self.ask(load, address)
    }

    fn ask(&self, load: &str, to: &str) -> Outcome<Taken> {
        let (clients, operations) = (self.clients.to_string(), self.operations.to_string());
        let mut program = Command::new(&self.load);
        let said = process::output(program.args([load, to, &clients, &operations]))?;
        serde_json::from_str(&said)
            .map_err(|error| format!("the load program said {said:?}: {error}"))
    }

    fn keep(&self, what: &'static str, lane: &'static str, taken: Taken, peak_mb: f64) -> Measured {
        self.taken.borrow_mut().push((what, lane, taken));
        Measured {
            seconds: taken.seconds,
            peak_mb,
        }
    }

    /// A database that is not there yet, with its logs.
    fn empty(&self, name: &str) -> Outcome<PathBuf> {
        let path = self.scratch.path().join(name);
        for end in ["", "-wal", "-shm"] {
            let file = self.scratch.path().join(format!("{name}{end}"));
            if file.exists() {
                fs::remove_file(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            }
        }
        Ok(path)
    }

    /// Rates and latencies: the ratios above say how they compare, these what an app would feel.
    fn describe(&self, report: &mut Report) {
        let taken = self.taken.borrow();
        for (what, lane) in [
            (COMMITS, HIDANE),
            (COMMITS, MEMORY),
            (GETS, HIDANE),
            (GETS, MEMORY),
            (GETS, SQLITE),
            (BATCH_GETS, HIDANE),
            (BATCH_GETS, MEMORY),
            (BATCH_GETS, SQLITE),
            (DURABLE, FLOOR),
            (DURABLE, SQLITE),
        ] {
            let of = |value: fn(&Taken) -> f64| {
                let turns = taken.iter().filter(|turn| (turn.0, turn.1) == (what, lane));
                median(turns.map(|turn| value(&turn.2)).collect())
            };
            let rate = of(|taken| f64::from(taken.operations) / taken.seconds);
            if let (Some(rate), Some(p50), Some(p99)) =
                (rate, of(|taken| taken.p50_ms), of(|taken| taken.p99_ms))
            {
                report.fact(format!(
                    "{what}, {lane}: {rate:.0}/s, p50 {p50:.2} ms, p99 {p99:.2} ms"
                ));
            }
        }
    }
}

/// The clients: an example of the crate whose protocol types they use.
fn load() -> Outcome<PathBuf> {
    note("building the load program (release)");
    process::run(process::cargo().args([
        "build",
        "--release",
        "--package",
        "whimbrel-stores",
        "--example",
        "firestore_load",
    ]))?;
    Ok(process::target_dir().join("release/examples/firestore_load"))
}
