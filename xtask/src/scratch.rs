//! A temporary directory that goes when this process ends, however it ends.

use crate::Outcome;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub struct Scratch {
    dir: PathBuf,
    watchdog: Child,
}

impl Scratch {
    pub fn make(prefix: &str) -> Outcome<Self> {
        let dir = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir()
            .map_err(|error| format!("cannot make a temporary directory: {error}"))?;
        // As in `postgres`: the shell waits for the end of its input, which only this process can write
        // to. Gigabytes must not stay behind after a Ctrl-C.
        let watchdog = Command::new("sh")
            .args([
                "-c",
                r#"while read -r _; do :; done; rm -rf "$1""#,
                "whimbrel-scratch",
            ])
            .arg(dir.path())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start a shell: {error}"))?;
        Ok(Self {
            dir: dir.keep(),
            watchdog,
        })
    }

    pub fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        if let Err(error) = self.watchdog.wait() {
            eprintln!(
                "xtask: cannot wait for {} to be removed: {error}",
                self.dir.display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_goes_with_its_owner() {
        let scratch = Scratch::make("xtask-test-").unwrap();
        let dir = scratch.path().to_owned();
        std::fs::write(dir.join("file"), "text").unwrap();
        drop(scratch);
        assert!(!dir.exists());
    }
}
