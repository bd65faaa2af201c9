//! Whether two bodies are the same, and where they are not.

use whimbrel_model::rule::FieldPath;
use whimbrel_model::{Body, DocError, Draft, Fingerprint, Map, Timestamp, Value};

/// How many paths a difference names.
const MOST_PATHS: usize = 5;

/// What counts when a document is compared.
#[derive(Clone, Debug, Default)]
pub(super) struct Judge {
    /// Fields that do not count. Where one lies in a map, the map itself still counts.
    pub ignored: Vec<FieldPath>,
    /// Numbers, and instants in seconds, that may be this far from each other.
    pub tolerance: Vec<(FieldPath, f64)>,
}

impl Judge {
    /// # Errors
    /// One of the bodies is no document.
    pub fn same(&self, wanted: &Body, found: &Body) -> Result<bool, DocError> {
        if wanted.is_spelled_like(found) || self.print(wanted)? == self.print(found)? {
            return Ok(true);
        }
        if self.tolerance.is_empty() {
            return Ok(false);
        }
        let (wanted, found) = self.tolerated(wanted, found)?;
        Ok(wanted == found)
    }

    /// The paths of the first few fields that differ.
    pub fn paths(&self, wanted: &Body, found: &Body) -> Vec<String> {
        let mut paths = Vec::new();
        if let Ok((wanted, found)) = self.tolerated(wanted, found) {
            differ_in_map(&wanted, &found, "", &mut paths);
        }
        paths
    }

    /// The fingerprint of what counts.
    ///
    /// # Errors
    /// The body is no document.
    pub fn print(&self, body: &Body) -> Result<Fingerprint, DocError> {
        if self.ignored.is_empty() {
            return Ok(body.fingerprint()?);
        }
        let mut draft = Draft::from_body(body.clone())?;
        for path in &self.ignored {
            match path.names() {
                [name] => {
                    draft.remove(name);
                }
                [first, rest @ ..] => {
                    if let Some(Value::Map(map)) = draft.get_mut(first)? {
                        remove(map, rest);
                    }
                }
                [] => {}
            }
        }
        Ok(draft.fingerprint()?)
    }

    /// Both without what is ignored, and without what is near enough.
    fn tolerated(&self, wanted: &Body, found: &Body) -> Result<(Map, Map), DocError> {
        let mut wanted = wanted.map()?.into_owned();
        let mut found = found.map()?.into_owned();
        for path in &self.ignored {
            remove(&mut wanted, path.names());
            remove(&mut found, path.names());
        }
        for (path, most) in &self.tolerance {
            let near = match (at(&wanted, path.names()), at(&found, path.names())) {
                (Some(a), Some(b)) => distance(a, b).is_some_and(|d| d <= *most),
                _ => false,
            };
            if near {
                remove(&mut wanted, path.names());
                remove(&mut found, path.names());
            }
        }
        Ok((wanted, found))
    }
}

fn at<'m>(map: &'m Map, names: &[String]) -> Option<&'m Value> {
    match names {
        [name] => map.get(name),
        [first, rest @ ..] => match map.get(first)? {
            Value::Map(inner) => at(inner, rest),
            _ => None,
        },
        [] => None,
    }
}

fn remove(map: &mut Map, names: &[String]) {
    match names {
        [name] => {
            // The order of members does not count.
            map.swap_remove(name);
        }
        [first, rest @ ..] => {
            if let Some(Value::Map(inner)) = map.get_mut(first) {
                remove(inner, rest);
            }
        }
        [] => {}
    }
}

/// How far two numbers are from each other, or two instants, in seconds.
fn distance(a: &Value, b: &Value) -> Option<f64> {
    match (a, b) {
        // Exactly, where doubles would skip integers.
        #[expect(
            clippy::cast_precision_loss,
            reason = "a difference of two near numbers"
        )]
        (Value::Int(a), Value::Int(b)) => Some(a.abs_diff(*b) as f64),
        (Value::Timestamp(a), Value::Timestamp(b)) => Some((seconds(*a) - seconds(*b)).abs()),
        _ => Some((number(a)? - number(b)?).abs()),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a tolerance is no exact thing")]
fn seconds(at: Timestamp) -> f64 {
    at.seconds() as f64 + f64::from(at.nanos()) / 1e9
}

fn number(value: &Value) -> Option<f64> {
    match value {
        #[expect(clippy::cast_precision_loss, reason = "a tolerance is no exact thing")]
        Value::Int(n) => Some(*n as f64),
        Value::Double(x) => Some(*x),
        Value::Decimal(decimal) => decimal.as_str().parse().ok(),
        _ => None,
    }
}

fn differ_in_map(wanted: &Map, found: &Map, path: &str, paths: &mut Vec<String>) {
    let only_found = found.keys().filter(|name| !wanted.contains_key(*name));
    for name in wanted.keys().chain(only_found) {
        let path = member(path, name);
        match (wanted.get(name), found.get(name)) {
            (Some(a), Some(b)) => differ(a, b, path, paths),
            _ => put(path, paths),
        }
    }
}

fn differ(wanted: &Value, found: &Value, path: String, paths: &mut Vec<String>) {
    if wanted == found {
        return;
    }
    match (wanted, found) {
        (Value::Map(a), Value::Map(b)) => differ_in_map(a, b, &path, paths),
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                differ(a, b, format!("{path}[{i}]"), paths);
            }
        }
        _ => put(path, paths),
    }
}

fn put(path: String, paths: &mut Vec<String>) {
    if paths.len() < MOST_PATHS {
        paths.push(path);
    }
}

fn member(path: &str, name: &str) -> String {
    let name = name.replace('\\', "\\\\").replace('.', "\\.");
    if path.is_empty() {
        name
    } else {
        format!("{path}.{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(json: &str) -> Body {
        Body::from_json(json.as_bytes().to_vec())
    }

    fn judge(ignored: &[&str], tolerance: &[(&str, f64)]) -> Judge {
        let path = |text: &str| FieldPath::parse(text).unwrap();
        Judge {
            ignored: ignored.iter().map(|p| path(p)).collect(),
            tolerance: tolerance.iter().map(|(p, t)| (path(p), *t)).collect(),
        }
    }

    #[test]
    fn says_where_documents_differ() {
        let check = |a: &str, b: &str, expect: &[&str]| {
            let judge = Judge::default();
            let (a, b) = (body(a), body(b));
            assert_eq!(judge.same(&a, &b).unwrap(), expect.is_empty());
            assert_eq!(judge.paths(&a, &b), expect);
        };
        check(r#"{"a":1,"b":2}"#, r#"{ "b": 2, "a": 1 }"#, &[]);
        check(r#"{"a":1}"#, r#"{"a":1.0}"#, &["a"]);
        check(r#"{"a":null}"#, "{}", &["a"]);
        check("{}", r#"{"a.b":null}"#, &[r"a\.b"]);
        check(
            r#"{"a":{"b":[1,{"c":2}]}}"#,
            r#"{"a":{"b":[1,{"c":3}]}}"#,
            &["a.b[1].c"],
        );
        check(r#"{"a":[1]}"#, r#"{"a":[1,2]}"#, &["a"]);
        check(r#"{"a":0.0}"#, r#"{"a":-0.0}"#, &["a"]);
        check(
            r#"{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1}"#,
            "{}",
            &["a", "b", "c", "d", "e"],
        );
    }

    #[test]
    fn what_is_ignored_or_near_does_not_count() {
        let check = |judge: &Judge, a: &str, b: &str, same: bool| {
            assert_eq!(judge.same(&body(a), &body(b)).unwrap(), same, "{a} {b}");
        };
        let one = judge(&["x", "m.y"], &[]);
        check(
            &one,
            r#"{"x":1,"m":{"y":1,"z":2}}"#,
            r#"{"m":{"z":2}}"#,
            true,
        );
        check(
            &one,
            r#"{"m":{"y":1,"z":2}}"#,
            r#"{"m":{"y":1,"z":3}}"#,
            false,
        );
        let near = judge(&[], &[("n", 0.5), ("m.t", 1.0)]);
        check(&near, r#"{"n":1}"#, r#"{"n":1.4}"#, true);
        check(&near, r#"{"n":1}"#, r#"{"n":1.6}"#, false);
        check(&near, r#"{"n":1}"#, r#"{"n":"1"}"#, false);
        check(&near, r#"{"n":1}"#, "{}", false);
        check(
            &near,
            r#"{"n":9007199254740993}"#,
            r#"{"n":9007199254740992}"#,
            false,
        );
        let at = |t: &str| format!(r#"{{"m":{{"t":{{"$timestamp":"{t}"}}}}}}"#);
        check(
            &near,
            &at("2026-01-01T00:00:00Z"),
            &at("2026-01-01T00:00:00.9Z"),
            true,
        );
        check(
            &near,
            &at("2026-01-01T00:00:00Z"),
            &at("2026-01-01T00:00:02Z"),
            false,
        );
    }

    #[test]
    fn a_row_that_is_no_document_equals_nothing() {
        assert!(Judge::default().same(&body(""), &body("")).is_err());
    }
}
