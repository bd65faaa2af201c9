//! Running other programs, and saying clearly what went wrong when one fails.

use crate::Outcome;
use std::env;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs to the end with the terminal's own input and output.
pub fn run(command: &mut Command) -> Outcome<()> {
    let status = command
        .status()
        .map_err(|error| format!("cannot start {}: {error}", line(command)))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("{} failed ({status})", line(command)))
}

/// Runs to the end and gives what it wrote to its standard output; its error output becomes part of
/// the error.
pub fn output(command: &mut Command) -> Outcome<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start {}: {error}", line(command)))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    Err(format!(
        "{} failed ({})\n{said}",
        line(command),
        output.status
    ))
}

/// The command as one would type it. Environment variables (they may hold a password) are left out.
pub fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

/// Where a program lies in `PATH`.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Installs a Debian package, or says which one is missing and how to get it.
pub fn install_package(package: &str, why: &str) -> Outcome<()> {
    if !is_root() || find("apt-get").is_none() {
        return Err(format!(
            "{why} is missing: install the Debian package `{package}` (apt-get install {package}) \
             and run this again"
        ));
    }
    eprintln!("xtask: installing the Debian package {package} ({why})");
    let apt = |arguments: &[&str]| {
        run(Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null()))
    };
    let install = ["install", "-y", "-qq", "--no-install-recommends", package];
    // A machine whose package lists are fresh needs no update.
    if apt(&install).is_ok() {
        return Ok(());
    }
    apt(&["update", "-qq"])
        .and_then(|()| apt(&install))
        .map_err(|error| format!("{why} is missing and `{package}` did not install: {error}"))
}

/// The program, installing its Debian package where it is missing.
pub fn need(program: &str, package: &str) -> Outcome<PathBuf> {
    if let Some(path) = find(program) {
        return Ok(path);
    }
    install_package(package, &format!("the program `{program}`"))?;
    find(program).ok_or_else(|| format!("`{package}` is installed, but `{program}` is not in PATH"))
}

/// What is expensive to fetch or build and may outlive a clone: tools, peers, benchmark data.
pub fn cache_dir() -> Outcome<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME")
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .unwrap_or_else(env::temp_dir);
    let dir = base.join("whimbrel");
    std::fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    Ok(dir)
}

/// `cargo` as this process was started by it, so that a pinned toolchain stays pinned.
pub fn cargo() -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsStr::new("cargo").to_owned());
    let mut command = Command::new(cargo);
    command.current_dir(crate::root());
    command
}

/// Where cargo puts what it builds. A relative directory is relative to the workspace.
pub fn target_dir() -> PathBuf {
    let given = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| OsStr::new("target").to_owned());
    crate::root().join(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_name_the_command_and_what_it_said() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo because >&2; exit 3"]);
        let error = output(&mut command).unwrap_err();
        assert!(error.contains("sh -c"), "{error}");
        assert!(error.contains("because"), "{error}");
        assert!(error.contains('3'), "{error}");

        let error = run(&mut Command::new("/no/such/program")).unwrap_err();
        assert!(error.contains("/no/such/program"), "{error}");
    }

    #[test]
    fn programs_are_found_in_path() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-at-all").is_none());
    }
}
