//! `whimbrel serve`, as an operator starts it.

use crate::Outcome;
use crate::daemon::Daemon;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Server {
    daemon: Daemon,
    address: String,
}

impl Server {
    /// Over this store, on any free port.
    pub fn start(whimbrel: &Path, url: &str, dir: &Path) -> Outcome<Self> {
        Self::start_at(whimbrel, url, dir, "127.0.0.1:0")
    }

    pub fn start_at(whimbrel: &Path, url: &str, dir: &Path, listen: &str) -> Outcome<Self> {
        let mut command = Command::new(whimbrel);
        command.args(["serve", "--json", "--listen", listen, "--store", url]);
        // No project, whatever folder this was called in.
        command.env_remove("WHIMBREL_PROJECT");
        let daemon = Daemon::start(&command, &dir.join("serve.log"))?;
        let address = daemon.wait_for(|said| said.lines().find_map(listening))?;
        Ok(Self { daemon, address })
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn kill(self) -> Outcome<()> {
        self.daemon.kill()
    }

    pub fn peak_mb(&self) -> f64 {
        self.daemon.peak_mb()
    }

    /// What it said after the first line: nothing, where all is well.
    pub fn last_words(&self) -> String {
        let said = self.daemon.said();
        let lines: Vec<_> = said
            .lines()
            .filter(|line| listening(line).is_none())
            .collect();
        let last = lines
            .iter()
            .rev()
            .take(20)
            .rev()
            .copied()
            .collect::<Vec<_>>();
        if last.is_empty() {
            return String::new();
        }
        format!("\nthe server said:\n{}", last.join("\n"))
    }
}

fn listening(line: &str) -> Option<String> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    if event.get("event")? != "listening" {
        return None;
    }
    Some(event.get("address")?.as_str()?.to_owned())
}

/// Where a server that is started again and again keeps its place.
pub struct Place {
    pub whimbrel: PathBuf,
    pub url: String,
    pub dir: PathBuf,
    pub listen: String,
}

impl Place {
    pub fn start(&self) -> Outcome<Server> {
        Server::start_at(&self.whimbrel, &self.url, &self.dir, &self.listen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_the_first_event() {
        let line = r#"{"event":"listening","address":"127.0.0.1:41234","store":"memory:"}"#;
        assert_eq!(listening(line).as_deref(), Some("127.0.0.1:41234"));
        for other in ["", "warning: x", r#"{"event":"stopped"}"#] {
            assert_eq!(listening(other), None, "{other}");
        }
    }
}
