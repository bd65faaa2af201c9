//! What somebody changed in a migration that was applied already.

use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fmt;

/// One difference between what was applied and what the file says now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// `step 2 (upgrade "reshape")`, `abort rule "latency"`; empty for what is said of the whole migration.
    pub place: String,
    /// `to 3 → 4`, `was added`, `was removed`, `timeout "2h" was added`.
    pub what: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.place.is_empty(), self.what.starts_with("was ")) {
            (true, _) => f.write_str(&self.what),
            // `step 3 (verify "equal") was added`
            (false, true) => write!(f, "{} {}", self.place, self.what),
            (false, false) => write!(f, "{}: {}", self.place, self.what),
        }
    }
}

/// Compares two meanings ([`super::Migration::meaning`]), for people. Steps are matched by name, abort rules
/// by name or condition. Empty when they mean the same.
#[must_use]
pub fn difference(applied: &Value, now: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    let plain = |value: &Value| -> Map<String, Value> {
        let mut map = value.as_object().cloned().unwrap_or_default();
        for apart in ["step", "abort", "files"] {
            map.remove(apart);
        }
        map
    };
    members("", "", &plain(applied), &plain(now), &mut changes);
    list(&steps(applied), &steps(now), &mut changes);
    list(&abort_rules(applied), &abort_rules(now), &mut changes);
    let files = |value: &Value| value.get("files").and_then(Value::as_object).cloned();
    let (before, after) = (
        files(applied).unwrap_or_default(),
        files(now).unwrap_or_default(),
    );
    // Which files are named is told by the steps that name them.
    for (file, sum) in &before {
        if after.get(file).is_some_and(|now| now != sum) {
            changes.push(Change {
                place: String::new(),
                what: format!("{file} means something else now"),
            });
        }
    }
    // A meaning that this program does not read as it does any other is still told.
    if changes.is_empty() && applied != now {
        let what = "the file means something else now".to_owned();
        changes.push(Change {
            place: String::new(),
            what,
        });
    }
    changes
}

struct Item {
    name: String,
    /// As messages call it.
    place: String,
    map: Map<String, Value>,
}

fn items(value: &Value, key: &str) -> Vec<Map<String, Value>> {
    let list = value.get(key).and_then(Value::as_array);
    let maps = list.into_iter().flatten().filter_map(Value::as_object);
    maps.cloned().collect()
}

fn steps(value: &Value) -> Vec<Item> {
    const KINDS: [&str; 7] = [
        "backup", "upgrade", "copy", "verify", "phase", "run", "approve",
    ];
    let numbered = items(value, "step").into_iter().enumerate();
    numbered
        .map(|(i, mut map)| {
            let kind = KINDS.into_iter().find(|kind| map.contains_key(*kind));
            let named = kind.and_then(|kind| map.remove(kind));
            let name = named.as_ref().and_then(Value::as_str).unwrap_or_default();
            let kind = kind.unwrap_or("step");
            // As a member of its own, so that another kind under the same name is told.
            map.insert("kind".to_owned(), kind.into());
            Item {
                name: name.to_owned(),
                place: format!("step {} ({kind} \"{name}\")", i + 1),
                map,
            }
        })
        .collect()
}

fn abort_rules(value: &Value) -> Vec<Item> {
    let mut rules: Vec<Item> = Vec::new();
    for map in items(value, "abort") {
        let text = |key| map.get(key).and_then(Value::as_str);
        let base = text("name").or_else(|| text("when")).unwrap_or_default();
        let twins = rules.iter().filter(|rule| rule.name == base).count();
        let name = match twins {
            0 => base.to_owned(),
            n => format!("{base}-{}", n + 1),
        };
        rules.push(Item {
            place: format!("abort rule \"{name}\""),
            name,
            map,
        });
    }
    rules
}

fn list(before: &[Item], after: &[Item], changes: &mut Vec<Change>) {
    let find = |items: &[Item], name: &str| items.iter().position(|item| item.name == name);
    let told = |item: &Item, what: &str| Change {
        place: item.place.clone(),
        what: what.to_owned(),
    };
    for item in before.iter().filter(|i| find(after, &i.name).is_none()) {
        changes.push(told(item, "was removed"));
    }
    let places: Vec<Option<usize>> = after.iter().map(|i| find(before, &i.name)).collect();
    let resting = longest_rising(&places);
    for (i, item) in after.iter().enumerate() {
        let Some(was) = places[i] else {
            changes.push(told(item, "was added"));
            continue;
        };
        if !resting.contains(&i) {
            let what = format!("was moved; it was number {}", was + 1);
            changes.push(told(item, &what));
        }
        members(&item.place, "", &before[was].map, &item.map, changes);
    }
}

/// The indexes of a longest rising row among the places: what was not moved against the rest.
fn longest_rising(places: &[Option<usize>]) -> BTreeSet<usize> {
    let mut best: Vec<Vec<usize>> = Vec::with_capacity(places.len());
    for (i, place) in places.iter().enumerate() {
        let Some(place) = place else {
            best.push(Vec::new());
            continue;
        };
        let before = (0..i).filter(|j| places[*j].is_some_and(|other| other < *place));
        let mut row = before
            .map(|j| &best[j])
            .max_by_key(|row| row.len())
            .cloned()
            .unwrap_or_default();
        row.push(i);
        best.push(row);
    }
    let longest = best.into_iter().max_by_key(Vec::len).unwrap_or_default();
    longest.into_iter().collect()
}

/// Path by path: `forward.env.TOKEN "$A" → "$B"`.
fn members(
    place: &str,
    path: &str,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    changes: &mut Vec<Change>,
) {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names {
        let path = match path {
            "" => name.clone(),
            path => format!("{path}.{name}"),
        };
        let what = match (before.get(name), after.get(name)) {
            (Some(Value::Object(before)), Some(Value::Object(after))) => {
                members(place, &path, before, after, changes);
                continue;
            }
            (Some(before), Some(after)) if before == after => continue,
            (Some(before), Some(after)) => {
                let (before, after) = shown(before, after);
                format!("{path} {before} → {after}")
            }
            (None, Some(after)) => format!("{path} {} was added", short(after)),
            (Some(before), None) => format!("{path} {} was removed", short(before)),
            (None, None) => continue,
        };
        changes.push(Change {
            place: place.to_owned(),
            what,
        });
    }
}

/// Characters of a value that are shown.
const WIDE: usize = 60;

fn short(value: &Value) -> String {
    cut(&value.to_string(), 0)
}

/// Both values, long ones from shortly before where they begin to differ.
fn shown(before: &Value, after: &Value) -> (String, String) {
    let (before, after) = (before.to_string(), after.to_string());
    let same = before
        .chars()
        .zip(after.chars())
        .take_while(|(a, b)| a == b)
        .count();
    let long = before.chars().count().max(after.chars().count()) > WIDE;
    let from = if long { same.saturating_sub(20) } else { 0 };
    (cut(&before, from), cut(&after, from))
}

fn cut(text: &str, from: usize) -> String {
    let mut out: String = text.chars().skip(from).take(WIDE).collect();
    if from > 0 {
        out.insert(0, '…');
    }
    if text.chars().count() > from + WIDE {
        out.push('…');
    }
    out
}
