//! The command line: flags go before the environment, the environment before the project file.

use crate::commands;
use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Parser)]
#[command(
    name = "whimbrel",
    version,
    about = "Moves live document data of an app from one shape to another and from one database to another",
    long_about = "Moves live document data of an app (conversations, tool calls, widget state, tokens) from one \
                  shape to another and from one database to another, while the app keeps running, and can take \
                  every step back.\n\nBegin with `whimbrel demo`.",
    after_help = "Exit codes: 0 done · 1 failed · 2 usage · 3 pending · 4 findings · 5 lock held · 6 outcome unknown\n\
                  Flags go before the environment (WHIMBREL_*), the environment before whimbrel.toml.",
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// The project's folder; without it the first one from here upwards that has a whimbrel.toml
    #[arg(
        short = 'C',
        long,
        global = true,
        value_name = "DIR",
        env = "WHIMBREL_PROJECT",
        hide_env = true
    )]
    pub project: Option<PathBuf>,

    /// The ledger's URL, instead of the project's
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "WHIMBREL_LEDGER",
        hide_env = true,
        hide_env_values = true
    )]
    pub ledger: Option<String>,

    /// Speak JSON on stdout: one object, or one a line while a run is at work
    #[arg(long, global = true, env = "WHIMBREL_JSON", hide_env = true, value_parser = FalseyValueParser::new())]
    pub json: bool,

    /// Do not ask before writing
    #[arg(short, long, global = true, env = "WHIMBREL_YES", hide_env = true, value_parser = FalseyValueParser::new())]
    pub yes: bool,

    /// Show the values of documents, which are redacted otherwise
    #[arg(long, global = true, env = "WHIMBREL_SHOW_VALUES", hide_env = true, value_parser = FalseyValueParser::new())]
    pub show_values: bool,

    /// Only results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Tell on stderr what goes on inside (twice: in detail)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// Colours
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        env = "WHIMBREL_COLOR",
        hide_env = true,
        default_value = "auto",
        hide_default_value = true
    )]
    pub color: Color,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a believable chat app's database and take it through an upgrade and a copy
    Demo(commands::demo::Demo),
    /// Write a whimbrel.toml for an existing database
    Init(commands::init::Init),
    /// Write the next file of a schema
    #[command(subcommand)]
    New(commands::new::New),
    /// Show stores, their collections, and which schema versions are in them
    Inspect(commands::inspect::Inspect),
    /// Bring a collection's documents to a schema version, in place, up or down
    Upgrade(commands::upgrade::Upgrade),
    /// Copy documents into another store, in a new shape where rules say so
    Copy(commands::copy::Copy),
    /// Prove that a target holds what its source yields, and that data keeps its rules
    Verify(Box<commands::verify::Verify>),
    /// Write collections into an archive, and read it back
    Backup(commands::backup::Backup),
    /// Bring documents back from an archive, or beside the live ones
    Restore(commands::restore::Restore),
    /// Serve a store as Firestore, to apps that speak Firestore's protocol
    #[cfg(feature = "firestore")]
    Serve(commands::serve::Serve),
    /// Apply what is pending of the project's migrations, or go on with one that rests
    Up(commands::up::Up),
    /// Take migrations back, last applied first
    Down(commands::down::Down),
    /// Let the migration that is at work rest; nothing is taken back
    Pause(commands::pause::Pause),
    /// Go on with the migration that rests or was killed
    Resume(commands::pause::Resume),
    /// Take the migration back that is on its way
    Abort(commands::pause::Abort),
    /// Give the go-ahead that a step waits for
    Approve(commands::approve::Approve),
    /// Say what became of a step that nobody knows the end of
    Settle(commands::approve::Settle),
    /// Show one document, as any schema version
    Show(commands::show::Show),
    /// Judge a schema's versions before they are deployed
    #[command(subcommand)]
    Schema(commands::schema::SchemaCommand),
    /// Documents that could not be migrated, and wait
    #[command(subcommand)]
    Quarantine(commands::quarantine::Quarantine),
    /// What is unfinished, and what waits
    Status(commands::status::Status),
    /// Every run there was
    History(commands::history::History),
    /// Who may write the ledger now
    #[command(subcommand)]
    Lock(commands::lock::Lock),
}

/// Flags of everything that runs over many documents.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "The run")]
pub struct RunArgs {
    /// Show what would happen and write nothing, not even a lock
    #[arg(long)]
    pub dry_run: bool,

    /// Ranges of keys to work on at once [default: what the stores can use]
    #[arg(long, value_name = "N", env = "WHIMBREL_PARALLEL", hide_env = true, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub parallel: Option<u32>,

    /// Documents a chunk [default: as many as take half a second]
    #[arg(long, value_name = "N", env = "WHIMBREL_BATCH", hide_env = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: Option<u32>,

    /// Give up when more documents fail: a count (25) or a share (5%) [default: 25%]
    #[arg(
        long,
        value_name = "N|N%",
        env = "WHIMBREL_MAX_FAILED",
        hide_env = true
    )]
    pub max_failed: Option<String>,

    /// Pause while one read of the store takes longer than this [default: 250]
    #[arg(long, value_name = "MS", env = "WHIMBREL_MAX_LATENCY", hide_env = true)]
    pub max_latency: Option<u64>,

    /// Give up an unfinished run that is in the way; what it wrote stays
    #[arg(long)]
    pub abandon: bool,
}
