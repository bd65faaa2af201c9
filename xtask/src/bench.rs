//! Measurements: always beside a named reference in the same session, never a bare time.
//!
//! The lanes of a bench take turns, run after run, so that a slow minute of the machine falls on all of
//! them; what is printed is the median over the runs of each run's ratio to the reference.

mod backup;
mod copy;
mod data;
mod firestore;
mod lanes;
mod measure;
mod memory;
mod peers;
mod project;
mod random;
mod report;
mod transform;
mod upgrade;
mod verify;

use crate::postgres::{Durability, Options, Postgres};
use crate::scratch::Scratch;
use crate::{Outcome, process};
use clap::{Args, Subcommand};
use report::Report;
use std::fs;
use std::path::PathBuf;
use std::thread;

#[derive(Args)]
#[command(after_help = "\
Every bench (but `firestore` and `transform`) starts a private PostgreSQL with its default durability, makes its seeded data, builds the \
release binary, lets all lanes take turns, proves after each turn that the work was done, and prints each \
lane's median ratio to the reference with the smallest and the largest. A missed bar is an error.

Give it the machine alone: another build beside it makes the ratios worthless. `memory` needs about 15 GB \
in the temporary directory.")]
pub struct BenchArguments {
    #[command(subcommand)]
    which: Which,
}

#[derive(Subcommand)]
enum Which {
    /// SQLite to PostgreSQL, beside `psql \copy` of the same rows
    Copy(Measuring),
    /// Documents in place, v1 to v3, beside one hand-written UPDATE
    Upgrade(Measuring),
    /// PostgreSQL into an archive and back, beside `pg_dump -Fc` and `pg_restore`
    Backup(Saving),
    /// Two collections compared, beside hashing in SQL, reading, and `reladiff`
    Verify(Measuring),
    /// Firestore's protocol under many clients, beside hidane (in memory) and plain SQLite (durable)
    Firestore(Serving),
    /// Peak memory of upgrade and copy, with few documents and with a hundred times as many
    Memory(Memory),
    /// Documents per second through operations and scripts, one thread
    Transform,
}

#[derive(Args)]
pub struct Measuring {
    /// How many documents of about 1.1 KB
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    pub documents: u64,
    /// How often every lane runs
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Run other programs beside, as far as they install (PyPI, npm)
    #[arg(long)]
    pub peers: bool,
    /// Leave Whimbrel out: reference, floor and peers only
    #[arg(long, conflicts_with = "whimbrel")]
    pub without_whimbrel: bool,
    /// Measure this binary instead of building one
    #[arg(long, value_name = "PATH")]
    pub whimbrel: Option<PathBuf>,
    /// Print the measurements as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

impl Measuring {
    fn binary(&self) -> Outcome<Option<PathBuf>> {
        if self.without_whimbrel {
            Ok(None)
        } else {
            whimbrel(self.whimbrel.as_ref()).map(Some)
        }
    }
}

#[derive(Args)]
pub struct Saving {
    /// How many documents of about 1.1 KB
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub documents: u64,
    /// How often every lane runs
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Measure this binary instead of building one
    #[arg(long, value_name = "PATH")]
    pub whimbrel: Option<PathBuf>,
    /// Print the measurements as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct Serving {
    /// How many clients, each with a connection of its own
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub clients: u32,
    /// How many commits, or gets, a turn
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub operations: u32,
    /// How often every lane runs
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Measure this binary instead of building one
    #[arg(long, value_name = "PATH")]
    pub whimbrel: Option<PathBuf>,
    /// Print the measurements as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct Memory {
    /// The smaller number of documents
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub few: u64,
    /// The larger number of documents
    #[arg(long, value_name = "N", default_value_t = 2_000_000)]
    pub many: u64,
    /// Measure this binary instead of building one
    #[arg(long, value_name = "PATH")]
    pub whimbrel: Option<PathBuf>,
    /// Print the measurements as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

pub fn run(arguments: &BenchArguments) -> Outcome<()> {
    let (report, json) = match &arguments.which {
        Which::Copy(measuring) => (copy::run(measuring)?, measuring.json),
        Which::Upgrade(measuring) => (upgrade::run(measuring)?, measuring.json),
        Which::Backup(saving) => (backup::run(saving)?, saving.json),
        Which::Verify(measuring) => (verify::run(measuring)?, measuring.json),
        Which::Firestore(serving) => (firestore::run(serving)?, serving.json),
        Which::Memory(memory) => (memory::run(memory)?, memory.json),
        Which::Transform => return transform::run(),
    };
    if json {
        println!("{}", report.json());
    } else {
        print!("{report}");
    }
    report.verdict()
}

/// Server, scratch space and the release binary: what every bench stands on.
pub struct Bench {
    pub postgres: Postgres,
    scratch: Scratch,
    /// `None` where it is left out.
    pub whimbrel: Option<PathBuf>,
}

impl Bench {
    pub fn start(whimbrel: Option<PathBuf>) -> Outcome<Self> {
        note("starting PostgreSQL");
        let postgres = Postgres::start(Options {
            tls: false,
            durability: Durability::Default,
        })?;
        let scratch = Scratch::make("whimbrel-bench-")?;
        Ok(Self {
            postgres,
            scratch,
            whimbrel,
        })
    }

    /// A path in the scratch space, which goes when the bench ends.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A new, empty folder in the scratch space.
    pub fn folder(&self, name: &str) -> Outcome<PathBuf> {
        let folder = self.path(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(folder)
    }

    pub fn report(&self, bench: &'static str) -> Outcome<Report> {
        let cores = thread::available_parallelism().map_or(0, usize::from);
        Ok(Report::new(bench, cores, Some(self.postgres.version()?)))
    }
}

/// The binary to measure: the given one, or a newly built one.
fn whimbrel(given: Option<&PathBuf>) -> Outcome<PathBuf> {
    if let Some(path) = given {
        return path
            .canonicalize()
            .map_err(|error| format!("{}: {error}", path.display()));
    }
    note("building whimbrel (release)");
    process::run(process::cargo().args([
        "build",
        "--release",
        "--package",
        "whimbrel",
        "--bin",
        "whimbrel",
    ]))?;
    Ok(process::target_dir().join("release/whimbrel"))
}

/// What goes on, on the error output: standard output is for results.
fn note(text: &str) {
    eprintln!("bench: {text}");
}
