//! Bodies as the JSON that a store keeps.

use std::borrow::Cow;
use whimbrel_model::{Body, Value, json};

/// Whether the bytes are one JSON object that other readers take, too.
pub(crate) fn is_object(bytes: &[u8]) -> bool {
    starts_object(bytes) && json::scan(bytes).is_ok()
}

fn starts_object(bytes: &[u8]) -> bool {
    bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{')
}

/// What a JSON column that keeps bytes as they are gives back of a body.
pub(crate) fn held(body: Body, plain: bool) -> Body {
    let json = match plain.then(|| checked_json(&body, plain)) {
        Some(Ok(Cow::Owned(json))) => json,
        _ => return body,
    };
    Body::from_json(json)
}

/// The body's checked JSON: its own bytes where it has some. `plain` drops the tags.
///
/// # Errors
/// Why the body is no JSON object.
pub(crate) fn checked_json(body: &Body, plain: bool) -> Result<Cow<'_, [u8]>, String> {
    let malformed = |e: json::JsonError| e.to_string();
    if let Body::Json(bytes) = body {
        let facts = json::scan(bytes).map_err(malformed)?;
        if !starts_object(bytes) {
            return Err(json::JsonError::not_object().to_string());
        }
        if !(plain && facts.dollar_key) {
            return Ok(Cow::Borrowed(bytes));
        }
    }
    if !plain {
        return Ok(body.json());
    }
    let map = body.map().map_err(malformed)?;
    let mut out = Vec::with_capacity(body.size());
    let _ = json::write_plain(&Value::Map(map.into_owned()), &mut out);
    Ok(Cow::Owned(out))
}
