//! Licences, sources and advisories of what the project depends on, with `cargo-deny`.

use crate::{Outcome, process};
use std::path::PathBuf;
use std::process::Command;

/// What came of a check that may lack what it needs.
pub enum Checked {
    Done,
    /// Not checked, and why: shown, never passed over.
    Not(String),
}

/// Bans, licences and sources: they need no network beyond the dependencies themselves.
pub fn check() -> Outcome<Checked> {
    let tool = match tool() {
        Ok(tool) => tool,
        Err(why) => return Ok(Checked::Not(why)),
    };
    process::run(deny(&tool).args([
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ]))?;
    Ok(Checked::Done)
}

/// Known vulnerabilities: only where their database can be reached.
pub fn check_advisories() -> Outcome<Checked> {
    let tool = match tool() {
        Ok(tool) => tool,
        Err(why) => return Ok(Checked::Not(why)),
    };
    if let Err(error) = process::output(deny(&tool).args(["fetch", "db"])) {
        let last = error.lines().last().unwrap_or_default().trim();
        return Ok(Checked::Not(format!(
            "the advisory database cannot be fetched: {last}"
        )));
    }
    process::run(deny(&tool).args(["check", "--disable-fetch", "advisories"]))?;
    Ok(Checked::Done)
}

fn deny(tool: &PathBuf) -> Command {
    let mut command = Command::new(tool);
    command.current_dir(crate::root());
    command
}

/// Found in `PATH` or in the cache; else built into the cache, once a machine (some minutes).
fn tool() -> Outcome<PathBuf> {
    if let Some(found) = process::find("cargo-deny") {
        return Ok(found);
    }
    let tools = process::cache_dir()?.join("tools");
    let tool = tools.join("bin/cargo-deny");
    if tool.is_file() {
        return Ok(tool);
    }
    eprintln!(
        "xtask: installing cargo-deny into {} (once)",
        tools.display()
    );
    let mut install = process::cargo();
    install
        .args(["install", "cargo-deny", "--locked", "--quiet", "--root"])
        .arg(&tools)
        // The project's target directory is no place for another program's parts.
        .env_remove("CARGO_TARGET_DIR");
    process::run(&mut install).map_err(|error| {
        format!("cargo-deny is not there and did not install ({error}); `cargo install cargo-deny`")
    })?;
    Ok(tool)
}
