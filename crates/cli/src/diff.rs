//! What changed in one document, field by field.

use crate::paint::{Paint, harmless};
use crate::values::describe;
use similar::{ChangeTag, TextDiff};
use whimbrel_model::{Body, Map, Value, json};

#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub path: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

/// Every field that is not the same, in the order of the new document, then what was removed.
/// `None` where one of the bodies is no document.
#[must_use]
pub fn changes(before: &Body, after: &Body) -> Option<Vec<Change>> {
    let mut out = Vec::new();
    maps(
        "",
        before.map().ok()?.as_ref(),
        after.map().ok()?.as_ref(),
        &mut out,
    );
    Some(out)
}

fn maps(path: &str, before: &Map, after: &Map, out: &mut Vec<Change>) {
    let join = |name: &str| {
        if path.is_empty() {
            harmless(name)
        } else {
            format!("{path}.{}", harmless(name))
        }
    };
    for (name, new) in after {
        match before.get(name) {
            Some(old) => values(join(name), old, new, out),
            None => out.push(Change {
                path: join(name),
                before: None,
                after: Some(new.clone()),
            }),
        }
    }
    for (name, old) in before.iter().filter(|(name, _)| !after.contains_key(*name)) {
        out.push(Change {
            path: join(name),
            before: Some(old.clone()),
            after: None,
        });
    }
}

fn values(path: String, old: &Value, new: &Value, out: &mut Vec<Change>) {
    match (old, new) {
        _ if old == new => {}
        (Value::Map(old), Value::Map(new)) => maps(&path, old, new, out),
        (Value::Array(old), Value::Array(new)) => arrays(&path, old, new, out),
        _ => out.push(Change {
            path,
            before: Some(old.clone()),
            after: Some(new.clone()),
        }),
    }
}

/// Elements are matched by their `id`, or else by what they are, so that one that was taken out of the
/// middle does not make all behind it differ.
fn arrays(path: &str, old: &[Value], new: &[Value], out: &mut Vec<Change>) {
    let (old_ids, new_ids): (Vec<_>, Vec<_>) = (
        old.iter().map(identity).collect(),
        new.iter().map(identity).collect(),
    );
    let place = |i: usize| format!("{path}[{i}]");
    for op in similar::capture_diff_slices(similar::Algorithm::Myers, &old_ids, &new_ids) {
        let (_, before, after) = op.as_tag_tuple();
        let both = before.len().min(after.len());
        for (i, j) in before.clone().zip(after.clone()) {
            values(place(j), &old[i], &new[j], out);
        }
        for i in before.skip(both) {
            out.push(Change {
                path: place(i),
                before: Some(old[i].clone()),
                after: None,
            });
        }
        for j in after.skip(both) {
            out.push(Change {
                path: place(j),
                before: None,
                after: Some(new[j].clone()),
            });
        }
    }
}

/// What tells an element from its siblings. Never shown.
fn identity(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    match value {
        Value::Map(map) => match map.get("id") {
            Some(id) => json::write(id, &mut out),
            None => json::write_map(map, &mut out),
        },
        other => json::write(other, &mut out),
    }
    out
}

impl Change {
    /// `title: string(23) → removed`, with `show` the values themselves.
    #[must_use]
    pub fn lines(&self, show: bool, width: usize, paint: Paint) -> Vec<String> {
        let room = width.saturating_sub(self.path.chars().count() + 12).max(24);
        let say = |value: &Value| describe(value, show, room);
        match (&self.before, &self.after) {
            (None, Some(new)) => vec![paint.good(&format!("+ {}: {}", self.path, say(new)))],
            (Some(old), None) => vec![paint.bad_soft(&format!("- {}: {}", self.path, say(old)))],
            (Some(old), Some(new)) if show => self.both(old, new, width, paint),
            (Some(old), Some(new)) => {
                vec![paint.warn(&format!("~ {}: {} → {}", self.path, say(old), say(new)))]
            }
            (None, None) => Vec::new(),
        }
    }

    /// Old and new value on two lines, what differs in texts made bold.
    fn both(&self, old: &Value, new: &Value, width: usize, paint: Paint) -> Vec<String> {
        let room = width.saturating_sub(self.path.chars().count() + 6).max(24);
        let (old, new) = (describe(old, true, room), describe(new, true, room));
        let diff = TextDiff::from_words(old.as_str(), new.as_str());
        let side = |skip: ChangeTag, mark: &str| {
            let text: String = diff
                .iter_all_changes()
                .filter(|c| c.tag() != skip)
                .map(|c| match c.tag() {
                    ChangeTag::Equal => paint.dim(c.value()),
                    ChangeTag::Delete => paint.bad_soft(c.value()),
                    ChangeTag::Insert => paint.good(c.value()),
                })
                .collect();
            format!("{mark} {}: {text}", self.path)
        };
        vec![side(ChangeTag::Insert, "-"), side(ChangeTag::Delete, "+")]
    }

    #[must_use]
    pub fn to_json(&self, show: bool) -> serde_json::Value {
        let say = |value: &Option<Value>| {
            value.as_ref().map(|v| {
                if show {
                    let mut bytes = Vec::new();
                    whimbrel_model::json::write(v, &mut bytes);
                    serde_json::from_slice(&bytes).unwrap_or(serde_json::Value::Null)
                } else {
                    serde_json::Value::String(describe(v, false, 0))
                }
            })
        };
        serde_json::json!({ "path": self.path, "before": say(&self.before), "after": say(&self.after) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, Value)]) -> Map {
        fields
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.clone()))
            .collect()
    }

    #[test]
    fn every_difference_is_named_once() {
        let text = |t: &str| Value::String(t.to_owned());
        let before = map(&[
            ("same", Value::Int(1)),
            ("gone", text("hush hush")),
            ("inner", Value::Map(map(&[("at", text("2026"))]))),
            ("list", Value::Array(vec![Value::Int(1), Value::Int(2)])),
        ]);
        let after = map(&[
            ("same", Value::Int(1)),
            ("inner", Value::Map(map(&[("at", Value::Int(7))]))),
            ("list", Value::Array(vec![Value::Int(1), Value::Null])),
            ("added", Value::Bool(true)),
        ]);
        let changes = changes(&Body::Map(before), &Body::Map(after)).unwrap();
        let check = |show: bool, expect: &[&str]| {
            let lines: Vec<_> = changes
                .iter()
                .flat_map(|c| c.lines(show, 80, Paint(false)))
                .collect();
            assert_eq!(lines, expect);
        };
        check(
            false,
            &[
                "~ inner.at: string(4) → int",
                "~ list[1]: int → null",
                "+ added: bool",
                "- gone: string(9)",
            ],
        );
        check(
            true,
            &[
                "- inner.at: \"2026\"",
                "+ inner.at: 7",
                "- list[1]: 2",
                "+ list[1]: null",
                "+ added: true",
                "- gone: \"hush hush\"",
            ],
        );
        assert!(!format!("{:?}", changes[3].to_json(false)).contains("hush"));
    }

    #[test]
    fn elements_are_matched_by_their_id() {
        let message = |id: &str, n| {
            Value::Map(map(&[
                ("id", Value::String(id.to_owned())),
                ("n", Value::Int(n)),
            ]))
        };
        let body = |items: Vec<Value>| Body::Map(map(&[("m", Value::Array(items))]));
        let before = body(vec![message("a", 1), message("b", 2), message("c", 3)]);
        let after = body(vec![message("a", 1), message("c", 4), message("d", 5)]);
        let changes = changes(&before, &after).unwrap();
        let lines: Vec<_> = changes
            .iter()
            .flat_map(|c| c.lines(false, 80, Paint(false)))
            .collect();
        assert_eq!(
            lines,
            ["- m[1]: map(2)", "~ m[1].n: int → int", "+ m[2]: map(2)"]
        );
    }
}
