//! How long programs take, and how much memory they come to hold.

use crate::{Outcome, process};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug)]
pub struct Measured {
    pub seconds: f64,
    /// The sum of the peaks of all processes that took part (the server's are not among them).
    pub peak_mb: f64,
}

impl Measured {
    /// What the same work on `factor` times the documents would take, for lanes too slow to run it.
    pub fn times(self, factor: f64) -> Self {
        Self {
            seconds: self.seconds * factor,
            ..self
        }
    }
}

/// Runs the commands side by side until all have ended; all must succeed.
pub fn measure(mut commands: Vec<Command>) -> Outcome<Measured> {
    let mut said = tempfile::tempfile().map_err(|error| format!("no temporary file: {error}"))?;
    let start = Instant::now();
    let mut children = Vec::new();
    for command in &mut commands {
        match spawn(command, &said) {
            Ok(child) => children.push(child),
            Err(error) => {
                stop(&mut children);
                return Err(error);
            }
        }
    }
    let watched: Vec<_> = children.iter().map(Child::id).collect();
    let done = AtomicBool::new(false);
    let (statuses, seconds, peak) = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&watched, &done));
        let statuses: Vec<_> = children.iter_mut().map(Child::wait).collect();
        let seconds = start.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        (statuses, seconds, watcher.join().unwrap_or(0))
    });
    for (command, status) in commands.iter().zip(statuses) {
        if !status.as_ref().is_ok_and(ExitStatus::success) {
            let mut text = String::new();
            let _ = said.rewind().and_then(|()| said.read_to_string(&mut text));
            let last: Vec<_> = text.lines().rev().take(20).collect();
            let last: Vec<_> = last.into_iter().rev().collect();
            let line = shortened(&process::line(command));
            return Err(format!("{line} failed ({status:?})\n{}", last.join("\n")));
        }
    }
    let peak_mb = f64::from(u32::try_from(peak).unwrap_or(u32::MAX)) / 1024.0;
    Ok(Measured { seconds, peak_mb })
}

fn spawn(command: &mut Command, said: &fs::File) -> Outcome<Child> {
    let out = || said.try_clone().map_err(|error| error.to_string());
    command
        .stdin(Stdio::null())
        .stdout(out()?)
        .stderr(out()?)
        .spawn()
        .map_err(|error| {
            format!(
                "cannot start {}: {error}",
                shortened(&process::line(command))
            )
        })
}

fn stop(children: &mut [Child]) {
    for child in children {
        // It may have ended by itself.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Scripts on a command line are long.
fn shortened(line: &str) -> String {
    let mut short: String = line.chars().take(160).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    short
}

/// The sum of the peaks, in KiB. The kernel keeps each process's peak, so that looking now and then
/// misses nothing but what grows in the last moment.
fn watch(roots: &[u32], done: &AtomicBool) -> u64 {
    const GLANCE: Duration = Duration::from_millis(20);
    /// Finding children reads all of `/proc`, which would disturb what is measured.
    const GLANCES_PER_SEARCH: u32 = 20;
    let mut peaks: BTreeMap<u32, u64> = roots.iter().map(|root| (*root, 0)).collect();
    let mut glance = 0;
    while !done.load(Ordering::Relaxed) {
        if glance % GLANCES_PER_SEARCH == 1 {
            for child in descendants(&peaks) {
                peaks.entry(child).or_insert(0);
            }
        }
        for (process, peak) in &mut peaks {
            *peak = peak_of(*process).unwrap_or(0).max(*peak);
        }
        glance += 1;
        thread::sleep(GLANCE);
    }
    peaks.values().sum()
}

fn peak_of(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn descendants(known: &BTreeMap<u32, u64>) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut parents: Vec<(u32, u32)> = entries
        .flatten()
        .filter_map(|entry| {
            let process = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name stands in brackets and may hold anything.
            let (_, rest) = stat.rsplit_once(')')?;
            Some((process, rest.split_ascii_whitespace().nth(1)?.parse().ok()?))
        })
        .collect();
    parents.sort_unstable();
    let mut found: Vec<u32> = Vec::new();
    for (process, parent) in parents {
        if known.contains_key(&parent) || found.contains(&parent) {
            found.push(process);
        }
    }
    found
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
    fn the_memory_of_children_counts() {
        // `head` holds the line of 40 MB; the shell, which waits, holds little.
        let script = "x=$(head -c 40000000 /dev/zero | tr '\\0' x); sleep 0.2";
        let one = measure(vec![shell(script)]).unwrap();
        assert!(one.peak_mb > 38.0, "{one:?}");
        let inside = measure(vec![shell(&format!(
            "sh -c \"{}\"; true",
            script.replace('$', "\\$")
        ))])
        .unwrap();
        assert!(inside.peak_mb > 38.0, "{inside:?}");
    }

    #[test]
    fn failures_say_what_the_program_said() {
        let error = measure(vec![shell("true"), shell("echo why; exit 1")]).unwrap_err();
        assert!(error.contains("why"), "{error}");
    }
}
