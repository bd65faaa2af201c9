//! A server that ends with this process, however this process ends.

use crate::{Outcome, process};
use std::fs;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub struct Daemon {
    watchdog: Child,
    log: PathBuf,
    pid: PathBuf,
}

/// `$1` takes the program's output, `$2` its process id; the rest is the program. As in `postgres`: the
/// shell waits for the end of its input, which only the starter can write to.
const SCRIPT: &str = r#"
    log=$1 pid=$2
    shift 2
    "$@" >"$log" 2>&1 </dev/null &
    server=$!
    echo "$server" >"$pid"
    while read -r _; do :; done
    kill "$server" 2>/dev/null
    wait "$server"
"#;

impl Daemon {
    /// Starts `program`; what it says goes into `log`, which must lie in a folder that exists.
    pub fn start(program: &Command, log: &Path) -> Outcome<Self> {
        let pid = log.with_extension("pid");
        // A file of an earlier one would be taken for this one's.
        let _ = fs::remove_file(&pid);
        let _ = fs::remove_file(log);
        let mut shell = Command::new("sh");
        shell
            .args(["-c", SCRIPT, "whimbrel-daemon"])
            .args([log, &pid])
            .arg(program.get_program())
            .args(program.get_args());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let watchdog = shell
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start a shell: {error}"))?;
        Ok(Self {
            watchdog,
            log: log.to_owned(),
            pid,
        })
    }

    /// Waits until `find` makes something of what the program has said.
    pub fn wait_for<T>(&self, find: impl Fn(&str) -> Option<T>) -> Outcome<T> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let said = self.said();
            if let Some(found) = find(&said) {
                return Ok(found);
            }
            if !self.lives() || Instant::now() > deadline {
                return Err(format!(
                    "the server does not come up; it said:\n{}",
                    said.trim()
                ));
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// Waits until somebody listens at `address`.
    pub fn wait_until_listening(&self, address: &str) -> Outcome<()> {
        self.wait_for(|_| TcpStream::connect(address).ok().map(drop))
    }

    pub fn said(&self) -> String {
        fs::read(&self.log).map_or_else(
            |_| String::new(),
            |said| String::from_utf8_lossy(&said).into_owned(),
        )
    }

    fn process(&self) -> Option<u32> {
        fs::read_to_string(&self.pid).ok()?.trim().parse().ok()
    }

    /// Also while it has not begun.
    pub fn lives(&self) -> bool {
        self.process().is_none_or(|process| {
            let status = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            // The shell does not look after its child before its own end.
            let state = status.rsplit_once(')').map(|(_, rest)| rest.trim_start());
            state.is_some_and(|state| !state.starts_with('Z'))
        })
    }

    /// The highest memory that it ever held, in MB; 0 where it has ended.
    pub fn peak_mb(&self) -> f64 {
        let peak = || -> Option<f64> {
            let status = fs::read_to_string(format!("/proc/{}/status", self.process()?)).ok()?;
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("VmHWM:"))?;
            line.trim().strip_suffix("kB")?.trim().parse().ok()
        };
        peak().unwrap_or(0.0) / 1024.0
    }

    /// Ends it as a power cut would: no handler runs.
    pub fn kill(&self) -> Outcome<()> {
        let process = self.process().ok_or("the server has no process id yet")?;
        process::output(Command::new("kill").args(["-9", &process.to_string()]))?;
        while self.lives() {
            sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        if let Err(error) = self.watchdog.wait() {
            eprintln!("xtask: cannot wait for a server's end: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn it_ends_with_its_owner_and_by_a_kill() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let start = || Daemon::start(&shell("echo ready; exec sleep 60"), &log).unwrap();
        let ready = |said: &str| said.contains("ready").then_some(());

        let daemon = start();
        daemon.wait_for(ready).unwrap();
        let process = daemon.process().unwrap();
        drop(daemon);
        assert!(!Path::new(&format!("/proc/{process}")).exists());

        let daemon = start();
        daemon.wait_for(ready).unwrap();
        daemon.kill().unwrap();
        assert!(!daemon.lives());
    }

    #[test]
    fn one_that_ends_early_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let daemon = Daemon::start(&shell("echo no port left; exit 1"), &dir.path().join("log"));
        let error = daemon.unwrap().wait_for(|_| None::<()>).unwrap_err();
        assert!(error.contains("no port left"), "{error}");
    }
}
