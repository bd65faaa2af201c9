//! What is measured side by side, in turns.

use super::measure::Measured;
use super::note;
use crate::Outcome;

/// Prepares (not timed), measures, and proves that the work was done.
pub type Work<'a> = Box<dyn FnMut() -> Outcome<Measured> + 'a>;

pub struct Lane<'a> {
    pub name: &'static str,
    pub work: Work<'a>,
    /// What it must reach.
    pub bars: Vec<Bar>,
    /// A peer that fails is a line in the report; anything else that fails fails the bench.
    pub peer: bool,
}

impl<'a> Lane<'a> {
    pub fn new(name: &'static str, work: impl FnMut() -> Outcome<Measured> + 'a) -> Self {
        Self {
            name,
            work: Box::new(work),
            bars: Vec::new(),
            peer: false,
        }
    }

    pub fn peer(mut self) -> Self {
        self.peer = true;
        self
    }

    pub fn bar(mut self, against: &'static str, limit: Limit) -> Self {
        self.bars.push(Bar { against, limit });
        self
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Bar {
    /// Another lane's name.
    pub against: &'static str,
    pub limit: Limit,
}

#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// So many times the other's time at most.
    TimeAtMost(f64),
    /// So many times the other's rate at least.
    RateAtLeast(f64),
}

/// The lanes that are compared with one reference: the first one.
pub struct Group {
    pub title: String,
    pub lanes: Vec<Results>,
}

pub struct Results {
    pub name: &'static str,
    pub peer: bool,
    pub bars: Vec<Bar>,
    /// One a run.
    pub measured: Vec<Measured>,
    /// Why it ended early.
    pub failed: Option<String>,
}

/// Lets every lane run once, then every lane again, and so on.
pub fn take_turns(title: impl Into<String>, runs: u32, lanes: Vec<Lane<'_>>) -> Group {
    in_turn(title, runs, lanes, |_| false)
}

/// The same for lanes that need nothing of each other: every other time from the last to the first, so that whoever
/// comes after a heavy neighbour is not the same each time.
pub fn take_turns_to_and_fro(title: impl Into<String>, runs: u32, lanes: Vec<Lane<'_>>) -> Group {
    in_turn(title, runs, lanes, |run| run.is_multiple_of(2))
}

fn in_turn(
    title: impl Into<String>,
    runs: u32,
    lanes: Vec<Lane<'_>>,
    backwards: fn(u32) -> bool,
) -> Group {
    let title = title.into();
    let mut lanes: Vec<_> = lanes
        .into_iter()
        .map(|lane| {
            let results = Results {
                name: lane.name,
                peer: lane.peer,
                bars: lane.bars,
                measured: Vec::new(),
                failed: None,
            };
            (lane.work, results)
        })
        .collect();
    for run in 1..=runs {
        let mut turns: Vec<_> = lanes.iter_mut().collect();
        if backwards(run) {
            turns.reverse();
        }
        for (work, results) in turns {
            if results.failed.is_some() {
                continue;
            }
            match work() {
                Ok(measured) => {
                    note(&format!(
                        "run {run} of {runs}: {}: {:.2} s",
                        results.name, measured.seconds
                    ));
                    results.measured.push(measured);
                }
                Err(why) => {
                    note(&format!(
                        "run {run} of {runs}: {} failed: {why}",
                        results.name
                    ));
                    results.failed = Some(why);
                }
            }
        }
    }
    Group {
        title,
        lanes: lanes.into_iter().map(|(_, results)| results).collect(),
    }
}
