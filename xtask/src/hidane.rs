//! hidane, an independent Firestore emulator: what the driver is tested against and the server beside.

use crate::daemon::Daemon;
use crate::scratch::Scratch;
use crate::{Outcome, postgres, process};
use std::path::PathBuf;
use std::process::Command;

/// Pinned: what it does right and wrong is written down in tests.
const VERSION: &str = "0.6.0";

pub struct Hidane {
    daemon: Daemon,
    address: String,
    _scratch: Scratch,
}

impl Hidane {
    /// Starts one with nothing in it, in memory.
    pub fn start() -> Outcome<Self> {
        let program = program()?;
        let scratch = Scratch::make("whimbrel-hidane-")?;
        let mut error = String::new();
        // Somebody may take the free port between our look and the start.
        for _ in 0..3 {
            let port = postgres::free_port()?;
            let address = format!("127.0.0.1:{port}");
            let mut command = Command::new(&program);
            command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
            let daemon = Daemon::start(&command, &scratch.path().join("hidane.log"))?;
            match daemon.wait_until_listening(&address) {
                Ok(()) => {
                    return Ok(Self {
                        daemon,
                        address,
                        _scratch: scratch,
                    });
                }
                Err(said) => error = said,
            }
        }
        Err(format!("hidane does not start: {error}"))
    }

    /// `host:port`, as `FIRESTORE_EMULATOR_HOST` takes it.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn describe(&self) -> String {
        format!("hidane {VERSION}")
    }

    pub fn peak_mb(&self) -> f64 {
        self.daemon.peak_mb()
    }
}

/// Built once, then kept in the cache.
fn program() -> Outcome<PathBuf> {
    let root = process::cache_dir()?.join(format!("tools/hidane-{VERSION}"));
    let program = root.join("bin/hidane");
    if !program.is_file() {
        eprintln!("xtask: installing hidane {VERSION} (about 3 minutes)");
        process::run(
            process::cargo()
                .args(["install", "--locked", "--quiet", "--root"])
                .arg(&root)
                .arg(format!("hidane@{VERSION}"))
                .env_remove("CARGO_TARGET_DIR"),
        )?;
    }
    Ok(program)
}
