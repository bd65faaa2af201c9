//! Google's clients, in pinned versions, in a folder of their own.

use super::programs;
use crate::{Outcome, process};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const NODE: &str = "@google-cloud/firestore@8.7.1";
const PYTHON: &str = "google-cloud-firestore==2.34.1";
/// What its system tests need besides. `setuptools` and `wheel` only for asking the source distribution its name.
const TEST_TOOLS: &[&str] = &[
    "pytest==9.2.0",
    "pytest-asyncio==1.5.0",
    "pytest-timeout==2.4.0",
    "mock==5.2.0",
    "google-cloud-testutils==1.10.1",
    "pyyaml==6.0.3",
    "setuptools",
    "wheel",
];
const SOURCES: &str = "google_cloud_firestore-2.34.1";

pub struct Clients {
    dir: PathBuf,
}

impl Clients {
    pub fn install() -> Outcome<Self> {
        let dir = process::cache_dir()?.join("firestore");
        fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let clients = Self { dir };
        clients.install_node()?;
        clients.install_python()?;
        Ok(clients)
    }

    fn install_node(&self) -> Outcome<()> {
        process::need("node", "nodejs")?;
        let dir = self.dir.join("node");
        let package = dir.join("node_modules/@google-cloud/firestore/package.json");
        let (_, version) = NODE.rsplit_once('@').unwrap_or((NODE, ""));
        let installed = fs::read_to_string(&package)
            .is_ok_and(|text| text.contains(&format!("\"version\": \"{version}\"")));
        if installed {
            return Ok(());
        }
        eprintln!("xtask: installing {NODE}");
        let npm = process::need("npm", "npm")?;
        let mut install = Command::new(npm);
        install.args(["install", "--no-audit", "--no-fund", "--prefix"]);
        process::output(install.arg(&dir).arg(NODE)).map(drop)
    }

    fn install_python(&self) -> Outcome<()> {
        let venv = self.dir.join("python");
        let done = self.dir.join(format!("{SOURCES}.installed"));
        if done.is_file() && self.sources().join("tests/system").is_dir() {
            return Ok(());
        }
        eprintln!("xtask: installing {PYTHON} and its system tests");
        if !venv.join("bin/pip").is_file() {
            let python = process::need("python3", "python3")?;
            let make = |clear: &[&str]| {
                process::output(
                    Command::new(&python)
                        .args(["-m", "venv"])
                        .args(clear)
                        .arg(&venv),
                )
            };
            if make(&[]).is_err() {
                process::install_package("python3-venv", "Python's venv module")?;
                make(&["--clear"])?;
            }
        }
        let pip = |arguments: &[&str]| {
            process::output(
                Command::new(venv.join("bin/pip"))
                    .args(arguments)
                    .current_dir(&self.dir),
            )
        };
        pip(&[&["install", "--quiet", PYTHON], TEST_TOOLS].concat())?;
        // Only the source distribution has the tests.
        pip(&[
            "download",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--no-binary",
            "google-cloud-firestore",
            "--dest",
            "python-src",
            PYTHON,
        ])?;
        let archive = format!("{SOURCES}.tar.gz");
        process::output(
            Command::new("tar")
                .args(["xzf", &archive])
                .current_dir(self.dir.join("python-src")),
        )?;
        fs::write(&done, "").map_err(|error| format!("{}: {error}", done.display()))
    }

    /// The unpacked source distribution of the Python client.
    pub fn sources(&self) -> PathBuf {
        self.dir.join("python-src").join(SOURCES)
    }

    /// One of our Node programs.
    pub fn node(&self, program: &str, address: &str) -> Command {
        let mut node = Command::new("node");
        node.arg(programs().join("node").join(program))
            .env("WHIMBREL_FIRESTORE_NODE", self.dir.join("node"))
            // The SDK's own, about a dependency of its.
            .env("NODE_NO_WARNINGS", "1");
        emulator(&mut node, address);
        node
    }

    /// A Python program (or `-m`, to be followed by a module).
    pub fn python(&self, program: &Path, address: &str) -> Command {
        let mut python = Command::new(self.dir.join("python/bin/python"));
        python.arg(program).env("PYTHONDONTWRITEBYTECODE", "1");
        emulator(&mut python, address);
        python
    }
}

/// So that the clients look nowhere else, neither for a server nor for credentials.
fn emulator(program: &mut Command, address: &str) {
    program
        .env("FIRESTORE_EMULATOR_HOST", address)
        .env("GCLOUD_PROJECT", "demo-test")
        .env("NO_GCE_CHECK", "true")
        .env("METADATA_SERVER_DETECTION", "none")
        .env_remove("GOOGLE_APPLICATION_CREDENTIALS");
}

/// Runs to the end, shows what the program says while it says it, and gives it.
pub fn show(program: &mut Command) -> Outcome<String> {
    let mut child = program
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start {}: {error}", process::line(program)))?;
    let mut said = String::new();
    if let Some(pipe) = child.stdout.take() {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            println!("{line}");
            said += &line;
            said.push('\n');
        }
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() {
        return Ok(said);
    }
    let failed: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("failed: "))
        .collect();
    Err(format!(
        "{} of its items failed ({status})\n{}",
        failed.len(),
        failed.join("\n")
    ))
}

/// Whether npm or pip, in what they said, reached no registry: what else may keep them from installing is a fault.
pub fn is_unreachable(said: &str) -> bool {
    const CODES: &[&str] = &[
        "EAI_AGAIN",
        "ECONNREFUSED",
        "ECONNRESET",
        "EHOSTUNREACH",
        "ENETUNREACH",
        "ENOTFOUND",
        "ERR_SOCKET_TIMEOUT",
        "ETIMEDOUT",
    ];
    let npm = said
        .lines()
        .filter_map(|line| line.trim().strip_prefix("npm error code "))
        .any(|code| CODES.contains(&code));
    // A version that is not there is said in the same words, but after an answer.
    let pip = said.contains("connection broken by") && said.contains("(from versions: none)");
    npm || pip
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_registry_that_is_not_reached_is_no_fault() {
        let retried = "WARNING: Retrying (Retry(total=0)) after connection broken by \
                       'NewConnectionError('…: [Errno -2] Name or service not known')': /simple/x/";
        for (said, unreachable) in [
            (
                "npm error code ENOTFOUND\nnpm error syscall getaddrinfo",
                true,
            ),
            (
                "npm install failed (exit status: 1)\nnpm error code ECONNREFUSED",
                true,
            ),
            (
                "npm error code ETARGET\nnpm error notarget No matching version",
                false,
            ),
            ("npm error code EACCES\nnpm error path /root/.npm", false),
            ("npm error code ERESOLVE", false),
            (
                &format!(
                    "{retried}\nERROR: Could not find a version that satisfies x (from versions: none)"
                ),
                true,
            ),
            (
                &format!(
                    "{retried}\nERROR: Could not find a version that satisfies x (from versions: 1.0)"
                ),
                false,
            ),
            (
                "ERROR: Could not find a version that satisfies x (from versions: none)",
                false,
            ),
            ("ERROR: No space left on device", false),
            ("the program `node` is missing", false),
        ] {
            assert_eq!(is_unreachable(said), unreachable, "{said}");
        }
    }
}
