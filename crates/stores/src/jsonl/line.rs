//! One line of a file: a document that holds its key in a field, or the deletion of one.

use crate::body::checked_json;
use whimbrel_model::{Body, Key, Value, json};

/// What a line says of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Document(Key),
    Deletion(Key),
}

/// The member that makes an object of two members a deletion.
const DELETED: &str = "$deleted";

/// # Errors
/// Why the line is no document; never a value.
pub(super) fn read(line: &[u8], id: &str) -> Result<Line, String> {
    let seen = look(line, id)?;
    let key = match seen.id {
        Some(Value::Int(n)) => Key::Int(n),
        Some(Value::String(text)) => Key::text(text),
        Some(other) => {
            return Err(format!(
                "field {id:?} is {} and not an integer or a text",
                other.type_name()
            ));
        }
        None => return Err(format!("field {id:?} is missing")),
    };
    Ok(if seen.deletion {
        Line::Deletion(key)
    } else {
        Line::Document(key)
    })
}

struct Seen {
    id: Option<Value>,
    deletion: bool,
    members: usize,
}

fn look(line: &[u8], id: &str) -> Result<Seen, String> {
    let members = json::split(line).map_err(|e| e.to_string())?;
    let mut seen = Seen {
        id: None,
        deletion: false,
        members: members.len(),
    };
    for member in &members {
        let name = &line[member.name.start as usize..member.name.end as usize];
        let value = &line[member.value.start as usize..member.value.end as usize];
        let is = |wanted: &str| {
            if member.name_escaped {
                json::unescape(name).is_ok_and(|name| name == wanted)
            } else {
                name == wanted.as_bytes()
            }
        };
        if is(id) {
            seen.id = Some(json::parse(value).map_err(|e| e.to_string())?);
        } else if is(DELETED) {
            seen.deletion = members.len() == 2 && value == b"true";
        }
    }
    Ok(seen)
}

/// Appends the document as one line.
///
/// # Errors
/// Why it cannot be one; nothing is appended then.
pub(super) fn write(
    key: &Key,
    body: &Body,
    id: &str,
    plain: bool,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let written = key_json(key).ok_or("a file's keys are integers or texts")?;
    let json = checked_json(body, plain)?;
    let seen = look(&json, id)?;
    let agrees = match (&seen.id, key) {
        (None, _) => true,
        (Some(Value::Int(found)), Key::Int(n)) => found == n,
        (Some(Value::String(found)), Key::Text(text)) => found == text,
        (Some(Value::String(found)), Key::Uuid(_)) => *found == key.to_string(),
        _ => false,
    };
    if !agrees {
        return Err(format!("field {id:?} is not what the key says"));
    }
    if seen.deletion {
        return Err(format!(
            "a document of {id:?} and {DELETED:?} alone would be read as a deletion"
        ));
    }
    let mut rest: &[u8] = &json;
    if seen.id.is_none() {
        let open = json.iter().position(|b| *b == b'{').unwrap_or(0);
        out.push(b'{');
        json::write_string(id, out);
        out.push(b':');
        out.extend_from_slice(&written);
        if seen.members > 0 {
            out.push(b',');
        }
        rest = &json[open + 1..];
    }
    // A line break in JSON can only stand between its parts, where a blank means the same.
    out.extend(rest.iter().map(|b| match b {
        b'\n' | b'\r' => b' ',
        other => *other,
    }));
    out.push(b'\n');
    Ok(())
}

/// The body as its line would give it back: with its key. One that cannot be a line stays as it is.
pub(super) fn held(key: &Key, body: Body, id: &str, plain: bool) -> Body {
    let mut line = Vec::with_capacity(body.size() + 32);
    if write(key, &body, id, plain, &mut line).is_err() {
        return body;
    }
    line.pop();
    Body::from_json(line)
}

/// Appends the deletion of a key as one line.
pub(super) fn write_deletion(key: &Key, id: &str, out: &mut Vec<u8>) {
    let Some(key) = key_json(key) else { return };
    out.push(b'{');
    json::write_string(id, out);
    out.push(b':');
    out.extend_from_slice(&key);
    out.push(b',');
    json::write_string(DELETED, out);
    out.extend_from_slice(b":true}\n");
}

fn key_json(key: &Key) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match key {
        Key::Int(n) => out.extend_from_slice(n.to_string().as_bytes()),
        Key::Text(text) => json::write_string(text, &mut out),
        Key::Uuid(_) => json::write_string(&key.to_string(), &mut out),
        Key::Tuple(_) => return None,
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let document = |key: Key| Ok(Line::Document(key));
        for (line, expect) in [
            (r#"{"id":1,"a":2}"#, document(Key::Int(1))),
            (r#"{"a":2,"id":"x"}"#, document(Key::text("x"))),
            (r#"{"\u0069d":"x"}"#, document(Key::text("x"))),
            (
                r#"{"id":1,"$deleted":true}"#,
                Ok(Line::Deletion(Key::Int(1))),
            ),
            (r#"{"id":1,"$deleted":true,"a":1}"#, document(Key::Int(1))),
            (r#"{"id":1,"$deleted":false}"#, document(Key::Int(1))),
            (r#"{"a":2}"#, Err("field \"id\" is missing".to_owned())),
            (
                r#"{"id":1.5}"#,
                Err("field \"id\" is double and not an integer or a text".to_owned()),
            ),
        ] {
            assert_eq!(read(line.as_bytes(), "id"), expect, "{line}");
        }
        for bad in ["", "[1]", "{", "{\"id\":1}x"] {
            assert!(read(bad.as_bytes(), "id").is_err(), "{bad}");
        }
    }

    #[test]
    fn documents_become_lines() {
        let check = |key: Key, json: &str, expect: Result<&str, ()>| {
            let mut out = Vec::new();
            let result = write(
                &key,
                &Body::from_json(json.to_owned()),
                "id",
                false,
                &mut out,
            );
            let line = String::from_utf8(out).unwrap();
            match expect {
                Ok(expect) => {
                    assert_eq!(result, Ok(()), "{json}");
                    assert_eq!(line, format!("{expect}\n"));
                    assert_eq!(
                        read(line.trim_end().as_bytes(), "id"),
                        Ok(Line::Document(key))
                    );
                }
                Err(()) => assert!(result.is_err() && line.is_empty(), "{json}"),
            }
        };
        check(Key::Int(1), r#"{"id":1,"a":2}"#, Ok(r#"{"id":1,"a":2}"#));
        check(Key::Int(1), r#"{"a":2}"#, Ok(r#"{"id":1,"a":2}"#));
        check(Key::text("a\"b"), " { }", Ok(r#"{"id":"a\"b" }"#));
        check(Key::Int(1), "{\n\"a\":\r\n2}", Ok(r#"{"id":1, "a":  2}"#));
        check(Key::Int(1), r#"{"id":"1"}"#, Err(()));
        check(Key::text("1"), r#"{"id":1}"#, Err(()));
        check(Key::Int(1), r#"{"$deleted":true,"id":1}"#, Err(()));
        check(Key::Tuple(vec![Key::Int(1)]), "{}", Err(()));
    }
}
