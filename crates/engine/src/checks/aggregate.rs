//! Sums, averages, least and greatest values and counts, by group, against limits or another collection.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use whimbrel_model::check::{AggregateCheck, Function, Measure, Must};
use whimbrel_model::rule::FieldPath;
use whimbrel_model::{Document, Key, Timestamp, Value, json};

use super::exact::Exact;
use super::findings::{Findings, Impossible, Wrong, shown};
use super::measure::{Number, judge};
use super::runner::{Chosen, Doc, Measured, Runner, Side};
use super::spool::{Spool, place_of};
use crate::options::Place;

pub(super) struct Aggregate {
    pub check: AggregateCheck,
    pub other: Option<Place>,
    pub sides: Vec<Side>,
    pub spool: Spool<Partial>,
}

/// What is known of one group from some of its documents.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Partial {
    /// The first of its documents: it stands for the group where values are not shown.
    first: Option<Key>,
    /// Counted documents, or values.
    count: u64,
    sum: Exact,
    extreme: Option<Extreme>,
    /// The group's value, where values are shown.
    group: Option<String>,
}

/// The least or the greatest value.
#[derive(Clone, Serialize, Deserialize)]
struct Extreme {
    place: Vec<u8>,
    json: String,
}

impl Partial {
    fn join(&mut self, other: Self, function: Function) {
        self.count += other.count;
        self.sum.add(&other.sum);
        if self.first.is_none()
            || other
                .first
                .as_ref()
                .is_some_and(|k| self.first.as_ref() > Some(k))
        {
            self.first = other.first;
        }
        if let Some(found) = other.extreme {
            let better = self.extreme.as_ref().is_none_or(|held| match function {
                Function::Max => found.place > held.place,
                _ => found.place < held.place,
            });
            if better {
                self.extreme = Some(found);
            }
        }
        self.group = self.group.take().or(other.group);
    }
}

/// What a group's number is.
enum Found {
    Number(Number),
    /// A least or greatest value that is no number.
    Value(Extreme),
    Nothing,
}

#[async_trait]
impl Runner for Aggregate {
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
        let values = findings.shows_values();
        let (of, by) = self.of(side);
        docs.each(findings, |doc| {
            let (mut place, group) = match group_of(doc, by, values) {
                Ok(found) => found,
                Err(wrong) => return vec![self.placed(wrong, side)],
            };
            match partial(doc, of) {
                Ok(mut row) => {
                    row.group = group;
                    place.push(side as u8);
                    self.spool
                        .add(place, row, |held, row| held.join(row, of.function));
                    Vec::new()
                }
                Err(wrong) => vec![self.placed(wrong, side)],
            }
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
        let mut rows = self.spool.sorted().await?;
        let mut measured = Measured::new();
        findings.looked_at = 0;
        let mut group: Option<Group> = None;
        while let Some((mut place, row)) = rows.next().await? {
            let side = match place.pop() {
                Some(0) => Side::Own,
                _ => Side::Other,
            };
            if group.as_ref().is_some_and(|g| g.place != place)
                && let Some(done) = group.take()
            {
                self.judge(done, findings, &mut measured);
            }
            let function = self.of(side).0.function;
            let group = group.get_or_insert(Group {
                place,
                own: None,
                other: None,
            });
            let held = match side {
                Side::Own => &mut group.own,
                Side::Other => &mut group.other,
            };
            held.get_or_insert_default().join(row, function);
        }
        // Without groups there is one number, even of nothing.
        if group.is_none() && findings.looked_at == 0 && self.check.by.is_none() {
            group = Some(Group {
                place: Vec::new(),
                own: None,
                other: None,
            });
        }
        if let Some(done) = group {
            self.judge(done, findings, &mut measured);
        }
        if self.check.by.is_some() {
            measured.insert("groups".to_owned(), findings.looked_at.to_string());
        }
        Ok(measured)
    }
}

struct Group {
    place: Vec<u8>,
    own: Option<Partial>,
    other: Option<Partial>,
}

impl Aggregate {
    fn of(&self, side: Side) -> (&Measure, Option<&FieldPath>) {
        match side {
            Side::Own => (&self.check.of, self.check.by.as_ref()),
            Side::Other => (&self.check.of_other, self.check.by_other.as_ref()),
        }
    }

    fn placed(&self, mut wrong: Wrong, side: Side) -> Wrong {
        if let (Side::Other, Some(place)) = (side, &self.other) {
            wrong.message = format!("{} ({place})", wrong.message);
        }
        wrong
    }

    fn judge(&self, group: Group, findings: &mut Findings, measured: &mut Measured) {
        findings.looked_at += 1;
        let first = |side: &Option<Partial>| side.as_ref().and_then(|p| p.first.clone());
        let key = first(&group.own).or(first(&group.other));
        let name = group
            .own
            .as_ref()
            .or(group.other.as_ref())
            .and_then(|p| p.group.clone());
        let grouped = self.check.by.is_some();
        let (lacks_own, lacks_other) = (group.own.is_none(), group.other.is_none());
        let own = found(group.own.unwrap_or_default(), self.check.of.function);
        let other = found(
            group.other.unwrap_or_default(),
            self.check.of_other.function,
        );
        let compared = matches!(self.check.must, Must::SameAs(_));
        let detail = match (compared, &name) {
            (true, Some(name)) => format!("{name}: {own} and {other}"),
            (true, None) => format!("{own} and {other}"),
            (false, Some(name)) => format!("{name}: {own}"),
            (false, None) => own.to_string(),
        };
        if findings.shows_values() && !grouped {
            measured.insert(self.check.of.to_string(), own.to_string());
            if compared {
                measured.insert(format!("{} there", self.check.of_other), other.to_string());
            }
        }
        let there = self
            .other
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        let verdict = if grouped && compared && lacks_other {
            Err(format!("its group is not in {there}"))
        } else if grouped && compared && lacks_own {
            Err(format!(
                "its group is in {there} only; this document is there"
            ))
        } else {
            self.verdict(&own, &other)
        };
        let Err(why) = verdict else { return };
        let (of, by) = (&self.check.of, &self.check.by);
        let wrong = Wrong {
            path: by.as_ref().or(of.field.as_ref()).map(ToString::to_string),
            message: match grouped {
                true => format!("{of} of this document's group: {why}"),
                false => format!("{of}: {why}"),
            },
            detail: Some(detail),
        };
        match key.filter(|_| grouped) {
            Some(key) => findings.document(Some(&key), None, vec![wrong]),
            None => findings.whole(wrong),
        }
    }

    fn verdict(&self, own: &Found, other: &Found) -> Result<(), String> {
        let (must, tolerance) = (&self.check.must, self.check.tolerance.as_ref());
        match (own, must, other) {
            (Found::Number(own), Must::Be { .. }, _) => judge(own, must, None, tolerance),
            (Found::Number(own), _, Found::Number(other)) => {
                judge(own, must, Some(other), tolerance)
            }
            (Found::Nothing, Must::SameAs(_), Found::Nothing) => Ok(()),
            (Found::Nothing, ..) => Err("there is no value to measure".to_owned()),
            (_, Must::SameAs(name), Found::Nothing) => Err(format!("there is no value in {name}")),
            (Found::Value(own), Must::SameAs(_), Found::Value(other))
                if own.place == other.place =>
            {
                Ok(())
            }
            (_, Must::SameAs(name), _) => Err(format!("not the same as in {name}")),
            (Found::Value(_), ..) => Err("it is no number".to_owned()),
        }
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Value(value) => f.write_str(&value.json),
            Self::Nothing => f.write_str("nothing"),
        }
    }
}

fn found(partial: Partial, function: Function) -> Found {
    match function {
        Function::Count => Found::Number(Number::from(partial.count)),
        Function::Sum => Found::Number(Number {
            sum: partial.sum,
            by: 1,
        }),
        Function::Avg if partial.count == 0 => Found::Nothing,
        Function::Avg => Found::Number(Number {
            sum: partial.sum,
            by: partial.count,
        }),
        Function::Min | Function::Max => match partial.extreme {
            None => Found::Nothing,
            Some(extreme) => match json::parse(extreme.json.as_bytes())
                .ok()
                .and_then(|v| Number::of(&v))
            {
                Some(number) => Found::Number(number),
                None => Found::Value(extreme),
            },
        },
    }
}

/// The group's place, and its name where values are shown.
fn group_of(
    doc: &mut Doc,
    by: Option<&FieldPath>,
    values: bool,
) -> Result<(Vec<u8>, Option<String>), Wrong> {
    let mut place = Vec::new();
    let Some(by) = by else {
        return Ok((place, None));
    };
    let name = match doc.field(by)? {
        // No value's encoding begins with a zero.
        None => {
            place.push(0);
            "(no value)".to_owned()
        }
        Some(value) => {
            place_of(value, &mut place);
            if values { shown(value) } else { String::new() }
        }
    };
    Ok((place, values.then_some(name)))
}

/// What one document adds. Null and a missing field add nothing.
fn partial(doc: &mut Doc, of: &Measure) -> Result<Partial, Wrong> {
    let mut partial = Partial {
        first: Some(doc.key.clone()),
        ..Partial::default()
    };
    let Some(path) = &of.field else {
        partial.count = 1;
        return Ok(partial);
    };
    let value = match doc.field(path)? {
        None | Some(Value::Null) => return Ok(partial),
        Some(value) => value,
    };
    partial.count = 1;
    match of.function {
        Function::Count => {}
        Function::Sum | Function::Avg => {
            partial.sum = Exact::of(value)
                .map_err(|why| Wrong::at(path, why.to_string()).with(Some(value)))?;
        }
        Function::Min | Function::Max => {
            let mut place = Vec::new();
            place_of(value, &mut place);
            partial.extreme = Some(Extreme {
                place,
                json: shown(value),
            });
        }
    }
    Ok(partial)
}
