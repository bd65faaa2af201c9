//! What a change from one JSON Schema to another means for readers and writers.
//!
//! The rules are those of schema registries (Confluent's for JSON Schema), with one deliberate exception:
//! a property that only one side names counts as optional there, although an open schema lets old
//! documents hold anything under that name. A registry refuses the addition of an optional property for
//! that reason, which in practice makes people switch the check off.
//!
//! Only what can be seen in the schemas' structure is judged. Where a keyword changed whose effect cannot
//! be told (`not`, `if`, `pattern`, …), the change counts as breaking.

use serde_json::{Map, Value};
use std::collections::BTreeSet;
use whimbrel_model::compat::{Compatibility, Judgement};

/// One judgement for every change that was found; none where both schemas accept the same documents.
#[must_use]
pub fn compare_json_schemas(old: &Value, new: &Value) -> Vec<Judgement> {
    let mut comparison = Comparison {
        old_root: old,
        new_root: new,
        judgements: Vec::new(),
        visited: BTreeSet::new(),
    };
    comparison.schemas("", old, new);
    comparison.judgements
}

struct Comparison<'a> {
    old_root: &'a Value,
    new_root: &'a Value,
    judgements: Vec<Judgement>,
    /// Pairs of references that were compared, so that recursive schemas come to an end.
    visited: BTreeSet<(String, String)>,
}

/// What the new schema accepts, compared with the old one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// More: new readers accept old documents, old readers may refuse new ones.
    Wider,
    /// Less: the other way round.
    Narrower,
    Different,
}

impl Change {
    fn compatibility(self) -> Compatibility {
        match self {
            Change::Wider => Compatibility::Backward,
            Change::Narrower => Compatibility::Forward,
            Change::Different => Compatibility::Breaking,
        }
    }
}

/// Keywords without an effect on what is accepted, and those that are compared on their own.
const APART: &[&str] = &[
    "$schema",
    "$id",
    "$comment",
    "$anchor",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentMediaType",
    "contentEncoding",
    "contentSchema",
    "$ref",
    "type",
    "required",
    "properties",
    "additionalProperties",
    "enum",
    "const",
    "items",
    "prefixItems",
    "additionalItems",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "anyOf",
    "oneOf",
    "allOf",
];

const LOWER_BOUNDS: &[&str] = &[
    "minimum",
    "exclusiveMinimum",
    "minLength",
    "minItems",
    "minProperties",
];
const UPPER_BOUNDS: &[&str] = &[
    "maximum",
    "exclusiveMaximum",
    "maxLength",
    "maxItems",
    "maxProperties",
];

impl<'a> Comparison<'a> {
    fn judge(&mut self, path: &str, change: Change, what: &str) {
        let place = if path.is_empty() {
            "the document"
        } else {
            path
        };
        let effect = match change {
            Change::Wider => "old readers may refuse new documents",
            Change::Narrower => "new readers may refuse old documents",
            Change::Different => "either side may refuse the other's documents",
        };
        self.judgements.push(Judgement {
            compatibility: change.compatibility(),
            reason: format!("JSON Schema, {place}: {what}; {effect}"),
        });
    }

    fn schemas(&mut self, path: &str, old: &'a Value, new: &'a Value) {
        if old == new && self.old_root == self.new_root {
            return;
        }
        let pair = (reference(old), reference(new));
        if let (Some(a), Some(b)) = pair
            && !self.visited.insert((a.to_owned(), b.to_owned()))
        {
            return;
        }
        let (old, new) = (follow(self.old_root, old), follow(self.new_root, new));
        match (old, new) {
            (Value::Bool(false), Value::Bool(false)) => {}
            (Value::Bool(false), _) => self.judge(path, Change::Wider, "nothing was accepted"),
            (_, Value::Bool(false)) => {
                self.judge(path, Change::Narrower, "nothing is accepted now")
            }
            (old, new) if accepts_all(old) && accepts_all(new) => {}
            (old, _) if accepts_all(old) => {
                self.judge(path, Change::Narrower, "anything was accepted")
            }
            (_, new) if accepts_all(new) => {
                self.judge(path, Change::Wider, "anything is accepted now")
            }
            (Value::Object(old), Value::Object(new)) => self.objects(path, old, new),
            _ => {}
        }
    }

    fn objects(&mut self, path: &str, old: &'a Map<String, Value>, new: &'a Map<String, Value>) {
        self.types(path, old, new);
        self.required(path, old, new);
        self.properties(path, old, new);
        self.additional(
            path,
            "additionalProperties",
            "fields that are not named",
            old,
            new,
        );
        self.enums(path, old, new);
        self.items(path, old, new);
        self.bounds(path, old, new);
        for (name, wider) in [("anyOf", true), ("oneOf", true), ("allOf", false)] {
            self.alternatives(path, name, wider, old, new);
        }
        self.others(path, old, new);
    }

    fn types(&mut self, path: &str, old: &Map<String, Value>, new: &Map<String, Value>) {
        let (before, after) = (types_of(old), types_of(new));
        let change = match (after.is_superset(&before), before.is_superset(&after)) {
            (true, true) => return,
            (true, false) => Change::Wider,
            (false, true) => Change::Narrower,
            (false, false) => Change::Different,
        };
        let (before, after) = (show_types(&before), show_types(&after));
        self.judge(path, change, &format!("the type {before} became {after}"));
    }

    fn required(&mut self, path: &str, old: &Map<String, Value>, new: &Map<String, Value>) {
        let (before, after) = (names(old, "required"), names(new, "required"));
        for name in after.difference(&before) {
            let place = join(path, name);
            self.judge(&place, Change::Narrower, "the field is required now");
        }
        for name in before.difference(&after) {
            let place = join(path, name);
            self.judge(&place, Change::Wider, "the field is required no more");
        }
    }

    fn properties(&mut self, path: &str, old: &'a Map<String, Value>, new: &'a Map<String, Value>) {
        let before = old.get("properties").and_then(Value::as_object);
        let after = new.get("properties").and_then(Value::as_object);
        for (name, schema) in after.into_iter().flatten() {
            let place = join(path, name);
            let had = before.and_then(|before| before.get(name));
            match (had, old.get("additionalProperties")) {
                (Some(old), _) => self.schemas(&place, old, schema),
                (None, Some(Value::Bool(false))) => {
                    self.judge(&place, Change::Wider, "the field was not allowed");
                }
                (None, Some(old @ Value::Object(_))) => self.schemas(&place, old, schema),
                (None, _) => self.harmless(&place, "an optional field was added"),
            }
        }
        for (name, schema) in before.into_iter().flatten() {
            if after.is_some_and(|after| after.contains_key(name)) {
                continue;
            }
            let place = join(path, name);
            match new.get("additionalProperties") {
                Some(Value::Bool(false)) => {
                    self.judge(
                        &place,
                        Change::Narrower,
                        "the field is not allowed any more",
                    );
                }
                Some(new @ Value::Object(_)) => self.schemas(&place, schema, new),
                _ => self.harmless(&place, "the field is named no more"),
            }
        }
    }

    fn harmless(&mut self, place: &str, what: &str) {
        self.judgements.push(Judgement {
            compatibility: Compatibility::Full,
            reason: format!("JSON Schema, {place}: {what}; both sides read each other's documents"),
        });
    }

    /// A keyword that holds for everything that is not named otherwise; `true` where it is missing.
    fn additional(
        &mut self,
        path: &str,
        name: &str,
        what: &str,
        old: &'a Map<String, Value>,
        new: &'a Map<String, Value>,
    ) {
        let place = if path.is_empty() {
            what.to_owned()
        } else {
            format!("{path}, {what}")
        };
        let before = old.get(name).unwrap_or(&Value::Bool(true));
        let after = new.get(name).unwrap_or(&Value::Bool(true));
        self.schemas(&place, before, after);
    }

    fn enums(&mut self, path: &str, old: &Map<String, Value>, new: &Map<String, Value>) {
        match (values(old), values(new)) {
            (None, None) => {}
            (None, Some(_)) => {
                self.judge(path, Change::Narrower, "only listed values are allowed now")
            }
            (Some(_), None) => self.judge(path, Change::Wider, "any value is allowed now"),
            (Some(before), Some(after)) => {
                let gone = before.iter().any(|value| !after.contains(value));
                let come = after.iter().any(|value| !before.contains(value));
                match (come, gone) {
                    (true, true) => {
                        self.judge(path, Change::Different, "the listed values changed")
                    }
                    (true, false) => self.judge(path, Change::Wider, "the listed values grew"),
                    (false, true) => self.judge(path, Change::Narrower, "the listed values shrank"),
                    (false, false) => {}
                }
            }
        }
    }

    fn items(&mut self, path: &str, old: &'a Map<String, Value>, new: &'a Map<String, Value>) {
        let place = format!("{path}[]");
        let ((head, rest), (new_head, new_rest)) = (tuple(old), tuple(new));
        for i in 0..head.len().max(new_head.len()) {
            let before = head.get(i).unwrap_or(rest);
            let after = new_head.get(i).unwrap_or(new_rest);
            self.schemas(&format!("{path}[{i}]"), before, after);
        }
        self.schemas(&place, rest, new_rest);
    }

    fn bounds(&mut self, path: &str, old: &Map<String, Value>, new: &Map<String, Value>) {
        for (name, upper) in LOWER_BOUNDS
            .iter()
            .map(|name| (*name, false))
            .chain(UPPER_BOUNDS.iter().map(|name| (*name, true)))
        {
            let limit = |map: &Map<String, Value>| map.get(name).and_then(Value::as_f64);
            let wider = match (limit(old), limit(new)) {
                (Some(before), Some(after)) if before < after => upper,
                (Some(before), Some(after)) if before > after => !upper,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                _ => continue,
            };
            let change = if wider {
                Change::Wider
            } else {
                Change::Narrower
            };
            self.judge(path, change, &format!("{name} changed"));
        }
    }

    /// Alternatives that were only added or only dropped; anything else counts as breaking.
    fn alternatives(
        &mut self,
        path: &str,
        name: &str,
        more_is_wider: bool,
        old: &Map<String, Value>,
        new: &Map<String, Value>,
    ) {
        let list = |map: &'_ Map<String, Value>| map.get(name).and_then(Value::as_array).cloned();
        let (before, after) = (list(old), list(new));
        if before == after {
            return;
        }
        let change = match (before, after) {
            (None, _) => Change::Narrower,
            (_, None) => Change::Wider,
            (Some(before), Some(after)) => {
                let kept = before.iter().all(|schema| after.contains(schema));
                let none_new = after.iter().all(|schema| before.contains(schema));
                match (kept, none_new) {
                    (true, true) => return,
                    (true, false) if more_is_wider => Change::Wider,
                    (true, false) => Change::Narrower,
                    (false, true) if more_is_wider => Change::Narrower,
                    (false, true) => Change::Wider,
                    (false, false) => Change::Different,
                }
            }
        };
        self.judge(path, change, &format!("{name} changed"));
    }

    fn others(&mut self, path: &str, old: &Map<String, Value>, new: &Map<String, Value>) {
        let all: BTreeSet<_> = old.keys().chain(new.keys()).collect();
        for name in all {
            if APART.contains(&name.as_str()) {
                continue;
            }
            let change = match (old.get(name), new.get(name)) {
                (before, after) if before == after => continue,
                (None, _) => Change::Narrower,
                (_, None) => Change::Wider,
                _ => Change::Different,
            };
            self.judge(path, change, &format!("{name:?} changed"));
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref").and_then(Value::as_str)
}

/// Follows references inside the schema; others stay as they are.
fn follow<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let mut at = schema;
    for _ in 0..32 {
        let Some(target) = reference(at)
            .and_then(|text| text.strip_prefix('#'))
            .and_then(|pointer| root.pointer(pointer))
        else {
            return at;
        };
        at = target;
    }
    at
}

fn accepts_all(schema: &Value) -> bool {
    match schema {
        Value::Bool(accepts) => *accepts,
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

const ALL_TYPES: [&str; 7] = [
    "array", "boolean", "integer", "null", "number", "object", "string",
];

/// The types that are accepted; `number` includes `integer`.
fn types_of(schema: &Map<String, Value>) -> BTreeSet<&str> {
    let mut types: BTreeSet<&str> = match schema.get("type") {
        Some(Value::String(one)) => BTreeSet::from([one.as_str()]),
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => BTreeSet::from(ALL_TYPES),
    };
    if types.contains("number") {
        types.insert("integer");
    }
    types
}

fn show_types(types: &BTreeSet<&str>) -> String {
    if types.len() == ALL_TYPES.len() {
        return "any".to_owned();
    }
    let shown: Vec<_> = types
        .iter()
        .filter(|name| **name != "integer" || !types.contains("number"))
        .copied()
        .collect();
    shown.join(" or ")
}

fn names<'a>(schema: &'a Map<String, Value>, name: &str) -> BTreeSet<&'a str> {
    schema
        .get(name)
        .and_then(Value::as_array)
        .map(|list| list.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}

fn values(schema: &Map<String, Value>) -> Option<Vec<&Value>> {
    match (schema.get("enum"), schema.get("const")) {
        (_, Some(value)) => Some(vec![value]),
        (Some(Value::Array(values)), None) => Some(values.iter().collect()),
        _ => None,
    }
}

/// The schemas of an array's first elements, and of the rest.
fn tuple(schema: &Map<String, Value>) -> (&[Value], &Value) {
    let list = |name| schema.get(name).and_then(Value::as_array);
    let other = |name| schema.get(name).unwrap_or(&Value::Bool(true));
    match (list("prefixItems"), list("items")) {
        (Some(head), _) => (head, other("items")),
        // Draft 7's form.
        (None, Some(head)) => (head, other("additionalItems")),
        (None, None) => (&[], other("items")),
    }
}
