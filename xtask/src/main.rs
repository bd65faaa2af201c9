//! The project's own chores, as `cargo xtask COMMAND`: they need nothing but Rust and a Debian-like
//! machine, and what else they need they install or name.

mod bench;
mod certificate;
mod daemon;
mod deny;
mod firestore;
mod hidane;
mod junit;
mod postgres;
mod process;
mod scratch;
mod services;
mod test;
mod tidy;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", about, version, long_about = LONG)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const LONG: &str = "Chores of the Whimbrel project.

Before a commit:   cargo xtask test
While working:     cargo xtask test --no-lint --only NAME
                   cargo xtask services -- cargo test -p whimbrel-stores
Taste, as code:    cargo xtask tidy
Figures:           cargo xtask bench copy

What a chore needs besides Rust is installed where this is Debian and root, and named otherwise. Tools, \
and peers of the benchmarks, are kept in ~/.cache/whimbrel.";

#[derive(Subcommand)]
enum Command {
    /// Run everything that must pass: format, clippy, tidy, licences, all tests, doc tests
    Test(test::TestArguments),
    /// Check what the compiler cannot: arrows between crates, forbidden words, lengths, docs, links
    Tidy,
    /// Run a command beside the test databases (without a command: until end of input or Ctrl-C)
    Services(services::ServicesArguments),
    /// Run Google's own Firestore clients, and their tests, against `whimbrel serve`
    Firestore(firestore::FirestoreArguments),
    /// Measure, beside a named reference in the same session, and print ratios
    Bench(bench::BenchArguments),
}

/// Chores fail with a text for a human: what happened, and what to do next.
type Outcome<T> = Result<T, String>;

/// The workspace's root, whatever directory the command was called in.
fn root() -> PathBuf {
    let xtask = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().map(PathBuf::from).unwrap_or(xtask)
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Test(arguments) => test::run(&arguments),
        Command::Tidy => tidy::run(),
        Command::Services(arguments) => services::run(&arguments),
        Command::Firestore(arguments) => firestore::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("\nxtask: {message}");
            ExitCode::FAILURE
        }
    }
}
