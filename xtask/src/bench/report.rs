//! Ratios, not times: what a bench prints.

use super::lanes::{Bar, Group, Limit, Results};
use super::measure::Measured;
use crate::Outcome;
use serde_json::{Value, json};
use std::fmt;

pub struct Report {
    bench: &'static str,
    cores: usize,
    /// Its version, where it takes part.
    postgres: Option<String>,
    groups: Vec<Group>,
    /// What could not be run, and why.
    absent: Vec<String>,
    /// Bars that are no ratio of times.
    claims: Vec<Claim>,
    /// Figures of this machine, without a bar.
    facts: Vec<String>,
}

/// A figure with its limit.
pub struct Claim {
    pub what: String,
    pub figure: f64,
    pub unit: &'static str,
    pub at_most: f64,
}

impl Claim {
    fn holds(&self) -> bool {
        self.figure <= self.at_most
    }
}

/// Over the runs.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, min, max })
    }
}

pub fn median(values: Vec<f64>) -> Option<f64> {
    Spread::of(values).map(|spread| spread.median)
}

/// How one lane did against another, run by run, so that what slows down a whole run cancels out.
fn ratio(
    of: &Results,
    to: &Results,
    value: impl Fn(&Measured, &Measured) -> f64,
) -> Option<Spread> {
    Spread::of(
        of.measured
            .iter()
            .zip(&to.measured)
            .map(|(of, to)| value(of, to))
            .collect(),
    )
}

struct Verdict {
    text: String,
    holds: bool,
}

fn judge(group: &Group, lane: &Results, bar: &Bar) -> Verdict {
    let other = group.lanes.iter().find(|other| other.name == bar.against);
    let (limit, spread) = match bar.limit {
        Limit::TimeAtMost(most) => {
            let spread =
                other.and_then(|other| ratio(lane, other, |of, to| of.seconds / to.seconds));
            (
                format!("time ≤ {most}"),
                spread.map(|spread| (spread.median, spread.median <= most)),
            )
        }
        Limit::RateAtLeast(least) => {
            let spread =
                other.and_then(|other| ratio(lane, other, |of, to| to.seconds / of.seconds));
            (
                format!("rate ≥ {least}"),
                spread.map(|spread| (spread.median, spread.median >= least)),
            )
        }
    };
    match spread {
        Some((median, holds)) => {
            let word = if holds { "met" } else { "MISSED" };
            Verdict {
                text: format!("{limit} × {}: {median:.3} {word}", bar.against),
                holds,
            }
        }
        None => Verdict {
            text: format!("{limit} × {}: NOT MEASURED", bar.against),
            holds: false,
        },
    }
}

impl Report {
    pub fn new(bench: &'static str, cores: usize, postgres: Option<String>) -> Self {
        Self {
            bench,
            cores,
            postgres,
            groups: Vec::new(),
            absent: Vec::new(),
            claims: Vec::new(),
            facts: Vec::new(),
        }
    }

    pub fn group(&mut self, group: Group) {
        self.groups.push(group);
    }

    pub fn absent(&mut self, what: impl Into<String>) {
        self.absent.push(what.into());
    }

    pub fn fact(&mut self, fact: String) {
        self.facts.push(fact);
    }

    pub fn claim(&mut self, claim: Claim) {
        self.claims.push(claim);
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let mut all = Vec::new();
        for group in &self.groups {
            for lane in &group.lanes {
                all.extend(lane.bars.iter().map(|bar| judge(group, lane, bar)));
            }
        }
        all
    }

    /// An error where something of ours failed or a bar was missed.
    pub fn verdict(&self) -> Outcome<()> {
        let lanes = self.groups.iter().flat_map(|group| &group.lanes);
        let failed = lanes
            .filter(|lane| !lane.peer && lane.failed.is_some())
            .map(|lane| format!("{} failed", lane.name));
        let missed = self
            .verdicts()
            .into_iter()
            .filter(|verdict| !verdict.holds)
            .map(|verdict| verdict.text);
        let broken = self
            .claims
            .iter()
            .filter(|claim| !claim.holds())
            .map(|claim| claim.what.clone());
        let all: Vec<_> = failed.chain(missed).chain(broken).collect();
        if all.is_empty() {
            return Ok(());
        }
        Err(format!("bench {}: {}", self.bench, all.join("; ")))
    }

    pub fn json(&self) -> Value {
        let lane = |group: &Group, lane: &Results| {
            let seconds: Vec<_> = lane
                .measured
                .iter()
                .map(|measured| measured.seconds)
                .collect();
            let peak_mb: Vec<_> = lane
                .measured
                .iter()
                .map(|measured| measured.peak_mb)
                .collect();
            let ratio = ratio(lane, &group.lanes[0], |of, to| of.seconds / to.seconds);
            let bars: Vec<_> = lane
                .bars
                .iter()
                .map(|bar| judge(group, lane, bar))
                .map(|verdict| json!({ "bar": verdict.text, "holds": verdict.holds }))
                .collect();
            json!({
                "name": lane.name,
                "seconds": seconds,
                "peak_mb": peak_mb,
                "time_ratio": ratio.map(|spread| json!({ "median": spread.median, "min": spread.min, "max": spread.max })),
                "failed": lane.failed,
                "bars": bars,
            })
        };
        let groups: Vec<_> = self
            .groups
            .iter()
            .map(|group| {
                let lanes: Vec<_> = group
                    .lanes
                    .iter()
                    .map(|results| lane(group, results))
                    .collect();
                json!({ "title": group.title, "lanes": lanes })
            })
            .collect();
        let claims: Vec<_> = self
            .claims
            .iter()
            .map(|claim| json!({ "what": claim.what, "figure": claim.figure, "unit": claim.unit, "at_most": claim.at_most, "holds": claim.holds() }))
            .collect();
        json!({
            "bench": self.bench,
            "machine": { "cores": self.cores, "postgresql": self.postgres },
            "groups": groups,
            "claims": claims,
            "facts": self.facts,
            "absent": self.absent,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\nbench {} · {} cores", self.bench, self.cores)?;
        if let Some(version) = &self.postgres {
            write!(f, " · PostgreSQL {version}")?;
        }
        writeln!(f)?;
        for group in &self.groups {
            write_group(f, group)?;
        }
        for claim in &self.claims {
            let word = if claim.holds() { "met" } else { "MISSED" };
            writeln!(
                f,
                "{}: {:.2}{} (≤ {}{}) {word}",
                claim.what, claim.figure, claim.unit, claim.at_most, claim.unit
            )?;
        }
        for fact in &self.facts {
            writeln!(f, "{fact}")?;
        }
        for absent in &self.absent {
            writeln!(f, "not run: {absent}")?;
        }
        Ok(())
    }
}

fn write_group(f: &mut fmt::Formatter<'_>, group: &Group) -> fmt::Result {
    writeln!(f, "\n{}", group.title)?;
    let Some(reference) = group.lanes.first() else {
        return Ok(());
    };
    let width = group
        .lanes
        .iter()
        .map(|lane| lane.name.chars().count())
        .max()
        .unwrap_or(0);
    writeln!(
        f,
        "  {:<width$}  {:>6}  {:>13}  {:>6}  {:>8}",
        "", "time", "min–max", "rate", "peak MB"
    )?;
    for lane in &group.lanes {
        let name = lane.name;
        let Some(time) = ratio(lane, reference, |of, to| of.seconds / to.seconds) else {
            writeln!(f, "  {name:<width$}  failed")?;
            continue;
        };
        let peak = Spread::of(
            lane.measured
                .iter()
                .map(|measured| measured.peak_mb)
                .collect(),
        );
        let spread = format!("{:.2}–{:.2}", time.min, time.max);
        let peak = peak.map_or(0.0, |peak| peak.max);
        write!(
            f,
            "  {name:<width$}  {:>6.2}  {spread:>13}  {:>6.2}  {peak:>8.0}",
            time.median,
            1.0 / time.median
        )?;
        for bar in &lane.bars {
            write!(f, "  {}", judge(group, lane, bar).text)?;
        }
        writeln!(f)?;
    }
    for lane in &group.lanes {
        if let Some(why) = &lane.failed {
            writeln!(f, "  {} failed: {}", lane.name, why.replace('\n', "\n    "))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(name: &'static str, seconds: &[f64], bars: Vec<Bar>) -> Results {
        let measured = seconds.iter().map(|seconds| Measured {
            seconds: *seconds,
            peak_mb: 10.0,
        });
        Results {
            name,
            peer: false,
            bars,
            measured: measured.collect(),
            failed: None,
        }
    }

    fn report(limit: Limit, seconds: &[f64]) -> Report {
        let bar = Bar {
            against: "reference",
            limit,
        };
        let mut report = Report::new("copy", 2, Some("15".to_owned()));
        report.group(Group {
            title: "Copy".to_owned(),
            lanes: vec![
                results("reference", &[2.0, 4.0, 8.0], Vec::new()),
                results("ours", seconds, vec![bar]),
            ],
        });
        report
    }

    #[test]
    fn medians() {
        for (values, expect) in [
            (vec![3.0, 1.0, 2.0], 2.0),
            (vec![4.0, 1.0], 2.5),
            (vec![7.0], 7.0),
        ] {
            assert_eq!(median(values), Some(expect));
        }
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn bars_are_judged_by_the_median_of_ratios_within_a_run() {
        // 0.5, 0.5 and 2 times the reference of the same run.
        let seconds = [1.0, 2.0, 16.0];
        for (limit, holds) in [
            (Limit::TimeAtMost(0.5), true),
            (Limit::TimeAtMost(0.4), false),
            (Limit::RateAtLeast(2.0), true),
            (Limit::RateAtLeast(2.1), false),
        ] {
            let report = report(limit, &seconds);
            assert_eq!(report.verdict().is_ok(), holds, "{limit:?}");
            assert_eq!(report.to_string().contains("MISSED"), !holds, "{limit:?}");
        }
    }

    #[test]
    fn what_was_not_measured_does_not_hold() {
        assert!(report(Limit::TimeAtMost(1.0), &[]).verdict().is_err());
        let mut report = report(Limit::TimeAtMost(1.0), &[1.0]);
        assert!(report.verdict().is_ok());
        report.claim(Claim {
            what: "memory".to_owned(),
            figure: 201.0,
            unit: " MB",
            at_most: 200.0,
        });
        assert!(report.verdict().unwrap_err().contains("memory"));
    }
}
