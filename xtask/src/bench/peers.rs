//! Other programs that do the same work, as far as they install here.

use super::note;
use crate::{Outcome, process};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Python packages: DuckDB with its two extensions as wheels (its own download server may be out of
/// reach), and sling, whose program is a package of its own.
const PYTHON: &[&str] = &[
    "duckdb==1.5.5",
    "duckdb-extension-postgres-scanner==1.5.5",
    "duckdb-extension-sqlite-scanner==1.5.5",
];
const SLING: &str = "sling-linux-amd64==1.4.11";
const RELADIFF: &str = "reladiff[postgresql]==0.6.0";
const NODE: &str = "pg@8";

pub const DUCKDB_COPY: &str = include_str!("duckdb_copy.py");
pub const NODE_COPY: &str = include_str!("node_copy.mjs");
pub const NODE_UPGRADE: &str = include_str!("node_upgrade.mjs");

/// Python with DuckDB.
pub fn duckdb() -> Outcome<PathBuf> {
    let venv = venv()?;
    if !venv.join("duckdb.installed").is_file() {
        pip(&venv, PYTHON)?;
        mark(&venv.join("duckdb.installed"))?;
    }
    Ok(venv.join("bin/python"))
}

/// sling's own program, without the Python around it.
pub fn sling() -> Outcome<PathBuf> {
    let venv = venv()?;
    let find = || -> Option<PathBuf> {
        let versions = fs::read_dir(venv.join("lib")).ok()?;
        versions
            .flatten()
            .map(|version| {
                version
                    .path()
                    .join("site-packages/sling_linux_amd64/bin/sling-linux-amd64")
            })
            .find(|program| program.is_file())
    };
    if find().is_none() {
        pip(&venv, &[SLING])?;
    }
    let program = find().ok_or_else(|| format!("{SLING} has no program for this machine"))?;
    process::output(Command::new("chmod").arg("+x").arg(&program))?;
    Ok(program)
}

/// reladiff's own program.
pub fn reladiff() -> Outcome<PathBuf> {
    let venv = venv()?;
    let program = venv.join("bin/reladiff");
    if !program.is_file() {
        pip(&venv, &[RELADIFF])?;
    }
    Ok(program)
}

/// A folder in which Node finds `pg`, with the scripts beside it.
pub fn node() -> Outcome<PathBuf> {
    process::need("node", "nodejs")?;
    let dir = process::cache_dir()?.join("peers/node");
    fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    if !dir.join("node_modules/pg/package.json").is_file() {
        note(&format!("installing {NODE} into {}", dir.display()));
        let npm = process::need("npm", "npm")?;
        process::output(
            Command::new(npm)
                .args(["install", "--no-audit", "--no-fund", "--prefix"])
                .arg(&dir)
                .arg(NODE),
        )?;
    }
    for (name, text) in [("copy.mjs", NODE_COPY), ("upgrade.mjs", NODE_UPGRADE)] {
        fs::write(dir.join(name), text).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(dir)
}

fn venv() -> Outcome<PathBuf> {
    let dir = process::cache_dir()?.join("peers/python");
    if !dir.join("bin/pip").is_file() {
        note(&format!("making a Python environment in {}", dir.display()));
        let python = process::need("python3", "python3")?;
        let made = process::output(Command::new(python).args(["-m", "venv"]).arg(&dir));
        if made.is_err() {
            process::install_package("python3-venv", "Python's venv module")?;
            process::output(
                Command::new("python3")
                    .args(["-m", "venv", "--clear"])
                    .arg(&dir),
            )?;
        }
    }
    Ok(dir)
}

fn pip(venv: &Path, packages: &[&str]) -> Outcome<()> {
    note(&format!("installing {}", packages.join(", ")));
    process::output(
        Command::new(venv.join("bin/pip"))
            .args(["install", "--quiet"])
            .args(packages),
    )
    .map(drop)
}

fn mark(file: &Path) -> Outcome<()> {
    fs::write(file, "").map_err(|error| format!("{}: {error}", file.display()))
}
