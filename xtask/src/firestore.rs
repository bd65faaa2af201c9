//! Google's own clients against `whimbrel serve`: their system tests, and programs of ours that use them.

mod clients;
mod crash;
mod journey;
mod official;
pub mod server;

use crate::deny::Checked;
use crate::hidane::Hidane;
use crate::postgres::{Durability, Options, Postgres};
use crate::scratch::Scratch;
use crate::{Outcome, process};
use clap::{Args, ValueEnum};
use clients::Clients;
use server::Server;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

#[derive(Args)]
#[command(after_help = "\
Google's clients for Python and Node are installed in versions of their own into ~/.cache/whimbrel/firestore.

  official     the system tests of the Python client's source distribution; those that may fail stand in
               xtask/firestore/known-failures.toml with their reasons
  node         every thing an app does, through the Node client (also REST), item by item
  python       the same through the Python client, in both of its styles
  contention   50 clients, each with 200 transactional increments of one document, at the client's own settings
  values       every type and extreme: Node, server, Python, server, copy, copy, Node: unchanged
  crash        kill -9 under load: what was acknowledged is there, and nothing of a batch without the rest

  cargo xtask firestore official --store sqlite
  cargo xtask firestore node --only listen
  cargo xtask firestore official --against hidane")]
pub struct FirestoreArguments {
    /// What to run [default: all]
    #[arg(value_name = "PART")]
    parts: Vec<Part>,
    /// Over which store (may be given several times) [default: all]
    #[arg(long = "store", value_name = "STORE")]
    stores: Vec<Store>,
    /// Run everything against another server instead, for comparison (not: values, crash)
    #[arg(long, value_name = "SERVER", conflicts_with_all = ["stores", "whimbrel"])]
    against: Option<Other>,
    /// Only items (of `node` and `python`) or tests (of `official`) whose name holds this
    #[arg(long, value_name = "WORDS")]
    only: Option<String>,
    /// Increments of each client in `contention`
    #[arg(long, value_name = "N", default_value_t = 200)]
    increments: u32,
    /// How often the crash test kills the server
    #[arg(long, value_name = "N", default_value_t = 6)]
    kills: u32,
    /// Test this binary instead of building one
    #[arg(long, value_name = "PATH")]
    whimbrel: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Official,
    Node,
    Python,
    Contention,
    Values,
    Crash,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Official => "official",
            Self::Node => "node",
            Self::Python => "python",
            Self::Contention => "contention",
            Self::Values => "values",
            Self::Crash => "crash",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Store {
    Sqlite,
    Postgres,
    Memory,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Other {
    Hidane,
}

impl Store {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
            Self::Memory => "memory",
        }
    }
}

/// What every part stands on.
pub struct Ground {
    pub clients: Clients,
    pub scratch: Scratch,
    pub whimbrel: PathBuf,
    postgres: Option<Postgres>,
}

impl Ground {
    fn start(arguments: &FirestoreArguments, stores: &[Store]) -> Outcome<Self> {
        let postgres = stores.contains(&Store::Postgres).then(|| {
            Postgres::start(Options {
                tls: false,
                // A killed server is no lost machine: what PostgreSQL acknowledged it keeps.
                durability: Durability::Off,
            })
        });
        Ok(Self {
            clients: Clients::install()?,
            scratch: Scratch::make("whimbrel-firestore-")?,
            whimbrel: match (&arguments.whimbrel, arguments.against) {
                (Some(path), _) => path
                    .canonicalize()
                    .map_err(|error| format!("{}: {error}", path.display()))?,
                (None, Some(_)) => PathBuf::new(),
                (None, None) => build()?,
            },
            postgres: postgres.transpose()?,
        })
    }

    /// The URL of an empty store.
    pub fn store(&self, store: Store, name: &str) -> Outcome<String> {
        Ok(match store {
            Store::Memory => "memory:".to_owned(),
            Store::Sqlite => format!("sqlite:{}/{name}.db", self.scratch.path().display()),
            Store::Postgres => self
                .postgres
                .as_ref()
                .ok_or("PostgreSQL was not started")?
                .another_database(name)?,
        })
    }

    pub fn serve(&self, url: &str) -> Outcome<Server> {
        Server::start(&self.whimbrel, url, self.scratch.path())
    }
}

fn build() -> Outcome<PathBuf> {
    process::run(process::cargo().args([
        "build",
        "--quiet",
        "--package",
        "whimbrel",
        "--bin",
        "whimbrel",
    ]))?;
    Ok(process::target_dir().join("debug/whimbrel"))
}

const PARTS: [Part; 6] = [
    Part::Official,
    Part::Node,
    Part::Python,
    Part::Contention,
    Part::Values,
    Part::Crash,
];
const STORES: [Store; 3] = [Store::Sqlite, Store::Postgres, Store::Memory];

pub fn run(arguments: &FirestoreArguments) -> Outcome<()> {
    let or_all = |given: &[Part]| {
        if given.is_empty() {
            PARTS.to_vec()
        } else {
            given.to_vec()
        }
    };
    let parts = or_all(&arguments.parts);
    if arguments.against.is_some() {
        return against_hidane(arguments, &parts);
    }
    let stores = if arguments.stores.is_empty() {
        STORES.to_vec()
    } else {
        arguments.stores.clone()
    };
    let needed: &[Store] = if parts.contains(&Part::Values) {
        &STORES
    } else {
        &stores
    };
    let ground = Ground::start(arguments, needed)?;
    let mut report = Report::default();
    for store in stores {
        for part in &parts {
            run_part(&ground, *part, store, arguments, &mut report);
        }
    }
    if parts.contains(&Part::Values) {
        report.part("values", "", || journey::run(&ground));
    }
    report.finish()
}

/// What `cargo xtask test` runs: everything where documents are kept, shortened to a few minutes.
pub fn check() -> Outcome<Checked> {
    if let Err(why) = Clients::install() {
        // Without a network they cannot be fetched the first time; whatever else is the matter is ours to mend.
        if clients::is_unreachable(&why) {
            println!("{why}");
            let why = "Google's clients do not install: their registry cannot be reached";
            return Ok(Checked::Not(why.to_owned()));
        }
        return Err(format!("Google's clients do not install: {why}"));
    }
    run(&FirestoreArguments {
        parts: Vec::new(),
        stores: vec![Store::Sqlite, Store::Postgres],
        against: None,
        only: None,
        increments: 20,
        kills: 3,
        whimbrel: None,
    })?;
    Ok(Checked::Done)
}

fn run_part(
    ground: &Ground,
    part: Part,
    store: Store,
    arguments: &FirestoreArguments,
    report: &mut Report,
) {
    let only = arguments.only.as_deref();
    let name = part.name();
    // Memory forgets with its process; values go through several stores by themselves.
    if part == Part::Values || (part == Part::Crash && store == Store::Memory) {
        return;
    }
    report.part(name, store.name(), || {
        if part == Part::Crash {
            return crash::run(ground, store, arguments.kills);
        }
        let url = ground.store(store, &format!("firestore_{name}"))?;
        let server = ground.serve(&url)?;
        let address = server.address();
        match part {
            Part::Official => official::run(ground, address, only),
            Part::Node => node(ground, address, OURS, only),
            Part::Python => python(ground, address, OURS, only),
            Part::Contention => contention(ground, address, arguments.increments),
            Part::Values | Part::Crash => Ok(String::new()),
        }
        .map_err(|error| format!("{error}{}", server.last_words()))
    });
}

const OURS: &str = "whimbrel";

fn against_hidane(arguments: &FirestoreArguments, parts: &[Part]) -> Outcome<()> {
    let ground = Ground::start(arguments, &[])?;
    let hidane = Hidane::start()?;
    let (address, only) = (hidane.address(), arguments.only.as_deref());
    let mut report = Report::default();
    for part in parts {
        if matches!(part, Part::Values | Part::Crash) {
            continue;
        }
        report.part(part.name(), "hidane", || match part {
            Part::Official => official::run_other(&ground, address, only),
            Part::Node => node(&ground, address, "hidane", only),
            Part::Python => python(&ground, address, "hidane", only),
            Part::Contention => contention(&ground, address, arguments.increments),
            Part::Values | Part::Crash => Ok(String::new()),
        });
    }
    report.finish()
}

fn node(ground: &Ground, address: &str, against: &str, only: Option<&str>) -> Outcome<String> {
    let mut program = ground.clients.node("main.mjs", address);
    program
        .args(only)
        .env("WHIMBREL_FIRESTORE_AGAINST", against);
    items(&mut program)
}

fn python(ground: &Ground, address: &str, against: &str, only: Option<&str>) -> Outcome<String> {
    let mut program = ground
        .clients
        .python(&programs().join("python/main.py"), address);
    program
        .args(only)
        .env("WHIMBREL_FIRESTORE_AGAINST", against);
    items(&mut program)
}

fn contention(ground: &Ground, address: &str, increments: u32) -> Outcome<String> {
    let mut program = ground.clients.node("contention.mjs", address);
    items(program.args(["50", &increments.to_string()]))
}

/// Runs a program that prints a line an item; gives its last line.
fn items(program: &mut Command) -> Outcome<String> {
    let said = clients::show(program)?;
    Ok(said.lines().last().unwrap_or_default().to_owned())
}

/// Where our programs lie.
fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("firestore")
}

/// Everything runs, whatever fails; the summary says how each part went.
#[derive(Default)]
struct Report {
    lines: Vec<String>,
    failed: Vec<String>,
}

impl Report {
    fn part(&mut self, name: &str, over: &str, work: impl FnOnce() -> Outcome<String>) {
        let title = format!("{name} {over}").trim_end().to_owned();
        println!("\n── {title}");
        let start = Instant::now();
        let (word, said) = match work() {
            Ok(said) => ("ok", said),
            Err(why) => {
                println!("{why}");
                self.failed.push(title.clone());
                ("FAILED", why.lines().next().unwrap_or_default().to_owned())
            }
        };
        let seconds = start.elapsed().as_secs_f64();
        self.lines
            .push(format!("{word:>6}  {title:<22} {seconds:>6.1} s  {said}"));
    }

    fn finish(self) -> Outcome<()> {
        println!("\n── Google's clients");
        for line in &self.lines {
            println!("{line}");
        }
        if self.failed.is_empty() {
            return Ok(());
        }
        Err(format!(
            "Google's clients: failed: {}",
            self.failed.join(", ")
        ))
    }
}
