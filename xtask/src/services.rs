//! The databases that the tests run against: one PostgreSQL without and one with TLS, and an emulator of
//! Firestore.

use crate::hidane::Hidane;
use crate::postgres::{Durability, Options, Postgres};
use crate::{Outcome, process};
use clap::Args;
use std::process::Command;

#[derive(Args)]
#[command(after_help = "\
The command finds the databases' URLs in WHIMBREL_TEST_POSTGRES and WHIMBREL_TEST_POSTGRES_TLS, and the address of a \
Firestore emulator (hidane) in WHIMBREL_TEST_FIRESTORE.

  cargo xtask services -- cargo test -p whimbrel-stores
  cargo xtask services -- sh -c 'psql \"$WHIMBREL_TEST_POSTGRES\"'")]
pub struct ServicesArguments {
    /// The command to run, with the databases' URLs in its environment
    #[arg(last = true)]
    command: Vec<String>,
}

pub struct Services {
    plain: Postgres,
    tls: Postgres,
    firestore: Hidane,
}

impl Services {
    pub fn start() -> Outcome<Self> {
        let start = |tls| {
            Postgres::start(Options {
                tls,
                durability: Durability::Off,
            })
        };
        // One after the other: the first start may install the server.
        Ok(Self {
            plain: start(false)?,
            tls: start(true)?,
            firestore: Hidane::start()?,
        })
    }

    /// What tests read to find the databases.
    pub fn environment(&self) -> [(&'static str, String); 3] {
        [
            ("WHIMBREL_TEST_POSTGRES", self.plain.url()),
            ("WHIMBREL_TEST_POSTGRES_TLS", self.tls.url()),
            (
                "WHIMBREL_TEST_FIRESTORE",
                self.firestore.address().to_owned(),
            ),
        ]
    }

    pub fn describe(&self) -> Outcome<String> {
        Ok(format!(
            "PostgreSQL {}, plain and TLS; {} for Firestore",
            self.plain.version()?,
            self.firestore.describe()
        ))
    }
}

pub fn run(arguments: &ServicesArguments) -> Outcome<()> {
    let services = Services::start()?;
    eprintln!("xtask: {}", services.describe()?);
    if let Some((program, rest)) = arguments.command.split_first() {
        return process::run(
            Command::new(program)
                .args(rest)
                .envs(services.environment()),
        );
    }
    for (name, url) in services.environment() {
        println!("export {name}='{url}'");
    }
    eprintln!("xtask: running until the end of input (Ctrl-D) or Ctrl-C");
    let mut ignored = String::new();
    while std::io::stdin()
        .read_line(&mut ignored)
        .is_ok_and(|read| read > 0)
    {
        ignored.clear();
    }
    Ok(())
}
