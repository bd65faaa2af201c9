//! How a field's values lie: null share, distinct values, quantiles, the most frequent ones.
//!
//! All of it is exact: values are counted by value, in order, in a spool; so quantiles are ranks, and nothing is
//! estimated by a sketch.

use std::cmp::Reverse;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use whimbrel_model::check::{Baseline, Bounds, DistributionBaseline, DistributionCheck, Like};
use whimbrel_model::rule::same_value;
use whimbrel_model::{Document, Timestamp, Value, json};

use super::findings::{Findings, Impossible, Wrong};
use super::runner::{Chosen, Measured, Runner, Side, per_cent, share};
use super::spool::{Spool, place_of};
use crate::options::Place;

/// The most frequent values that are compared.
const TOP: usize = 10;
/// Longer values are counted, but neither ranked nor named.
const VALUE_BYTES: usize = 512;
/// Quantiles that are compared with another collection besides those that the check limits.
const COMPARED: [u8; 3] = [50, 90, 99];

pub(super) struct Distribution {
    pub check: DistributionCheck,
    pub other: Option<Place>,
    pub sides: Vec<Side>,
    pub spool: Spool<Tally>,
    pub documents: [AtomicU64; 2],
    pub empty: [AtomicU64; 2],
    pub baseline: Option<DistributionBaseline>,
    pub measured: Mutex<Option<Baseline>>,
}

/// How often a value is there.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Tally {
    count: u64,
    /// Whether it is a number or an instant.
    ranked: bool,
    /// Tagged JSON; `None`: too long.
    value: Option<String>,
}

/// What one collection's values look like.
#[derive(Default)]
struct Shape {
    documents: u64,
    null_share: f64,
    distinct: u64,
    /// Of the values that are there.
    values: u64,
    ranked: u64,
    quantiles: Vec<(u8, Option<Value>)>,
    /// The most frequent first; equally frequent ones in the order of values.
    top: Vec<(u64, Vec<u8>, Option<Value>)>,
}

#[async_trait]
impl Runner for Distribution {
    fn sides(&self) -> &[Side] {
        &self.sides
    }

    fn look(
        &self,
        side: Side,
        docs: &mut Chosen<'_>,
        _fetched: Vec<Option<Document>>,
        _now: Timestamp,
        findings: &mut Findings,
    ) {
        self.documents[side as usize].fetch_add(docs.len() as u64, Ordering::SeqCst);
        docs.each(findings, |doc| {
            match doc.field(&self.check.field) {
                Err(wrong) => return vec![wrong],
                Ok(None | Some(Value::Null)) => {
                    self.empty[side as usize].fetch_add(1, Ordering::SeqCst);
                }
                Ok(Some(value)) => {
                    let mut place = vec![side as u8];
                    place_of(value, &mut place);
                    let nan = matches!(value, Value::Double(x) if x.is_nan());
                    let kind = value.type_name();
                    let ranked = matches!(kind, "int" | "double" | "decimal" | "timestamp") && !nan;
                    let mut text = Vec::new();
                    json::write(value, &mut text);
                    let text = String::from_utf8(text)
                        .ok()
                        .filter(|t| t.len() <= VALUE_BYTES);
                    let tally = Tally {
                        count: 1,
                        ranked: ranked && text.is_some(),
                        value: text,
                    };
                    self.spool
                        .add(place, tally, |held, more| held.count += more.count);
                }
            }
            Vec::new()
        });
    }

    async fn take(
        &self,
        _side: Side,
        _docs: &mut Chosen<'_>,
        _findings: &mut Findings,
    ) -> Result<(), Impossible> {
        self.spool.relieve().await
    }

    async fn finish(&self, findings: &mut Findings) -> Result<Measured, Impossible> {
        // Ranks need the number of values, so the rows are gone through twice.
        let mut shapes = [self.counted(Side::Own), self.counted(Side::Other)];
        self.each_value(|side, _, tally| {
            let shape = &mut shapes[side as usize];
            shape.values += tally.count;
            shape.ranked += if tally.ranked { tally.count } else { 0 };
        })
        .await?;
        let mut passed = [0_u64; 2];
        self.each_value(|side, place, tally| {
            shapes[side as usize].meet(place, tally, &mut passed[side as usize]);
        })
        .await?;
        let [own, other] = &shapes;
        self.judge(own, findings);
        match &self.check.like {
            Some(Like::Collection(name)) => self.compare(own, other, name, findings),
            Some(Like::Baseline) => self.compare_baseline(own, findings),
            None => {}
        }
        let kept = Baseline {
            latency: None,
            distribution: Some(own.baseline()),
        };
        if let Ok(mut measured) = self.measured.lock() {
            *measured = Some(kept);
        }
        Ok(self.measured(own, findings.shows_values()))
    }

    fn baseline(&self) -> Option<Baseline> {
        self.measured
            .lock()
            .ok()
            .and_then(|measured| measured.clone())
    }
}

impl Distribution {
    fn counted(&self, side: Side) -> Shape {
        let documents = self.documents[side as usize].load(Ordering::SeqCst);
        let empty = self.empty[side as usize].load(Ordering::SeqCst);
        let mut per_cents: Vec<u8> = self.check.quantiles.iter().map(|(q, _)| *q).collect();
        per_cents.extend(COMPARED);
        per_cents.sort_unstable();
        per_cents.dedup();
        Shape {
            documents,
            null_share: share(empty, documents),
            quantiles: per_cents.into_iter().map(|q| (q, None)).collect(),
            ..Shape::default()
        }
    }

    /// Each value once, in order, with its whole count.
    async fn each_value(
        &self,
        mut meet: impl FnMut(Side, Vec<u8>, Tally) + Send,
    ) -> Result<(), Impossible> {
        let mut rows = self.spool.sorted().await?;
        let mut held: Option<(Vec<u8>, Tally)> = None;
        loop {
            let next = rows.next().await?;
            if let (Some((place, tally)), Some((next_place, more))) = (&mut held, &next)
                && place == next_place
            {
                tally.count += more.count;
                continue;
            }
            if let Some((mut place, tally)) = held.take() {
                let side = if place.remove(0) == 0 {
                    Side::Own
                } else {
                    Side::Other
                };
                meet(side, place, tally);
            }
            match next {
                Some(row) => held = Some(row),
                None => return Ok(()),
            }
        }
    }

    fn wrong(&self, findings: &mut Findings, message: String) {
        findings.whole(Wrong::at(&self.check.field, message));
    }

    fn judge(&self, own: &Shape, findings: &mut Findings) {
        let check = &self.check;
        if let Some(most) = check.null_share
            && own.null_share > most
        {
            let (has, most) = (per_cent(own.null_share), per_cent(most));
            self.wrong(
                findings,
                format!("{has} of the documents have no value, more than {most}"),
            );
        }
        let distinct = i64::try_from(own.distinct).unwrap_or(i64::MAX);
        if let Some(bounds) = &check.distinct
            && bounds.judge(&Value::Int(distinct)).is_err()
        {
            let limits = limits(bounds);
            self.wrong(
                findings,
                format!("there are {distinct} different values, not {limits}"),
            );
        }
        for (per_cent, bounds) in &check.quantiles {
            let value = own.quantile(*per_cent);
            match value.map(|value| bounds.judge(value)) {
                Some(Ok(())) => {}
                Some(Err(_)) => {
                    let message = format!("p{per_cent} is not {}", limits(bounds));
                    findings.whole(Wrong::at(&check.field, message).with(value));
                }
                None => self.wrong(
                    findings,
                    format!("there is no number to take p{per_cent} of"),
                ),
            }
        }
        self.judge_top(own, findings);
    }

    fn judge_top(&self, own: &Shape, findings: &mut Findings) {
        let Some(check) = &self.check.top else { return };
        let Some((count, _, value)) = own.top.first() else {
            return self.wrong(
                findings,
                "there is no value that could be the most frequent".to_owned(),
            );
        };
        let known = |value: &Value| check.one_of.iter().any(|one| same_value(one, value));
        if !check.one_of.is_empty() && !value.as_ref().is_some_and(known) {
            let message = "the most frequent value is none of those that it may be";
            findings.whole(Wrong::at(&self.check.field, message).with(value.as_ref()));
        }
        let has = share(*count, own.values);
        let shown = per_cent(has);
        if let Some(least) = check.at_least.filter(|least| has < *least) {
            let least = per_cent(least);
            self.wrong(
                findings,
                format!("the most frequent value has a share of {shown}, less than {least}"),
            );
        }
        if let Some(most) = check.at_most.filter(|most| has > *most) {
            let most = per_cent(most);
            self.wrong(
                findings,
                format!("the most frequent value has a share of {shown}, more than {most}"),
            );
        }
    }

    fn compare(&self, own: &Shape, other: &Shape, name: &str, findings: &mut Findings) {
        self.compare_shares(&own.baseline(), &other.baseline(), name, findings);
        let drift = self.check.drift.unwrap_or(0.0);
        for (per_cent, value) in &own.quantiles {
            let (Some(a), Some(b)) = (number(value.as_ref()), number(other.quantile(*per_cent)))
            else {
                continue;
            };
            if apart(a, b) > drift {
                let message =
                    format!("p{per_cent} has moved away from {name} by more than the drift allows");
                findings.whole(Wrong::at(&self.check.field, message).with(value.as_ref()));
            }
        }
        for (count, place, value) in &own.top {
            let there = other.top.iter().find(|(_, other, _)| other == place);
            let there = there.map_or(0.0, |(count, ..)| share(*count, other.values));
            let here = share(*count, own.values);
            // One that is just below the top ten there is not far from what the tenth has.
            let bar = other
                .top
                .get(TOP - 1)
                .map_or(0.0, |(count, ..)| share(*count, other.values));
            let away = if there > 0.0 {
                (here - there).abs()
            } else {
                here - bar
            };
            if away > drift {
                let message = format!(
                    "one of the most frequent values has a share of {}, in {name} of {}",
                    per_cent(here),
                    if there > 0.0 {
                        per_cent(there)
                    } else {
                        format!("{} or less", per_cent(bar))
                    },
                );
                findings.whole(Wrong::at(&self.check.field, message).with(value.as_ref()));
            }
        }
    }

    fn compare_baseline(&self, own: &Shape, findings: &mut Findings) {
        let Some(before) = &self.baseline else { return };
        let now = own.baseline();
        self.compare_shares(&now, before, "the baseline", findings);
        let drift = self.check.drift.unwrap_or(0.0);
        for (nth, before) in before.top_shares.iter().enumerate() {
            let now = now.top_shares.get(nth).copied().unwrap_or(0.0);
            if (now - before).abs() > drift {
                let (now, before) = (per_cent(now), per_cent(*before));
                self.wrong(
                    findings,
                    format!("the value that is number {} by frequency has a share of {now}, before {before}", nth + 1),
                );
            }
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn compare_shares(
        &self,
        own: &DistributionBaseline,
        other: &DistributionBaseline,
        name: &str,
        findings: &mut Findings,
    ) {
        let drift = self.check.drift.unwrap_or(0.0);
        if (own.null_share - other.null_share).abs() > drift {
            let (here, there) = (per_cent(own.null_share), per_cent(other.null_share));
            self.wrong(
                findings,
                format!("{here} of the documents have no value, in {name} {there}"),
            );
        }
        if apart(own.distinct as f64, other.distinct as f64) > drift {
            let (here, there) = (own.distinct, other.distinct);
            self.wrong(
                findings,
                format!("there are {here} different values, in {name} {there}"),
            );
        }
    }

    fn measured(&self, own: &Shape, values: bool) -> Measured {
        let mut measured = Measured::from([
            ("documents".to_owned(), own.documents.to_string()),
            ("null share".to_owned(), per_cent(own.null_share)),
            ("distinct".to_owned(), own.distinct.to_string()),
        ]);
        if let Some((count, ..)) = own.top.first() {
            measured.insert("top share".to_owned(), per_cent(share(*count, own.values)));
        }
        if let (Some(Like::Baseline), None) = (&self.check.like, &self.baseline) {
            measured.insert("baseline".to_owned(), "none yet".to_owned());
        }
        if let Some(other) = &self.other {
            let documents = self.documents[Side::Other as usize].load(Ordering::SeqCst);
            measured.insert(format!("documents of {other}"), documents.to_string());
        }
        if values {
            for (per_cent, value) in &own.quantiles {
                if let Some(value) = value {
                    measured.insert(format!("p{per_cent}"), super::findings::shown(value));
                }
            }
        }
        measured
    }
}

impl Shape {
    /// The next value in order; `passed` ranked ones came before it.
    fn meet(&mut self, place: Vec<u8>, tally: Tally, passed: &mut u64) {
        self.distinct += 1;
        let value = tally
            .value
            .and_then(|text| json::parse(text.as_bytes()).ok());
        if tally.ranked {
            let through = *passed + tally.count;
            for (per_cent, quantile) in &mut self.quantiles {
                // The nearest rank: the first value with at least this share at or below it.
                let rank = (self.ranked * u64::from(*per_cent)).div_ceil(100).max(1);
                if (*passed + 1..=through).contains(&rank) {
                    quantile.clone_from(&value);
                }
            }
            *passed = through;
        }
        let least = self.top.last().map_or(0, |(count, ..)| *count);
        if self.top.len() < TOP || tally.count > least {
            self.top.push((tally.count, place, value));
            self.top.sort_by_key(|(count, ..)| Reverse(*count));
            self.top.truncate(TOP);
        }
    }

    fn quantile(&self, per_cent: u8) -> Option<&Value> {
        let found = self.quantiles.iter().find(|(q, _)| *q == per_cent);
        found.and_then(|(_, value)| value.as_ref())
    }

    fn baseline(&self) -> DistributionBaseline {
        let shares = self
            .top
            .iter()
            .map(|(count, ..)| share(*count, self.values));
        DistributionBaseline {
            documents: self.documents,
            null_share: self.null_share,
            distinct: self.distinct,
            top_shares: shares.collect(),
        }
    }
}

#[allow(clippy::cast_precision_loss)]
fn number(value: Option<&Value>) -> Option<f64> {
    match value? {
        Value::Int(n) => Some(*n as f64),
        Value::Double(x) => Some(*x),
        Value::Decimal(d) => d.as_str().parse().ok(),
        // By which share an instant has moved is no question.
        _ => None,
    }
}

/// How far apart two numbers are, as a share of the greater.
fn apart(a: f64, b: f64) -> f64 {
    if a == b {
        0.0
    } else {
        (a - b).abs() / a.abs().max(b.abs())
    }
}

/// A file's limits, in words.
fn limits(bounds: &Bounds) -> String {
    let shown = |v: &Option<Value>| v.as_ref().map(super::findings::shown);
    match (shown(&bounds.min), shown(&bounds.max)) {
        (Some(min), Some(max)) => format!("from {min} to {max}"),
        (Some(min), None) => format!("{min} or more"),
        (None, Some(max)) => format!("{max} or less"),
        (None, None) => String::new(),
    }
}
