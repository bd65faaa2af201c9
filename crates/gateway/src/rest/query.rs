//! What a URL's query says of a request: `mask.fieldPaths=a&mask.fieldPaths=b&pageSize=10`.

use super::json::Enums;
use super::route::{Call, Content};
use percent_encoding::percent_decode_str;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value as Json};
use tonic::Status;

/// What every Google service takes; only `$alt` changes anything here.
const OF_ALL: &[&str] = &[
    "$.xgafv",
    "$alt",
    "$callback",
    "$key",
    "$prettyPrint",
    "access_token",
    "alt",
    "fields",
    "key",
    "oauth_token",
    "prettyPrint",
    "quotaUser",
    "uploadType",
    "upload_protocol",
];

/// Adds to the message what the query says, and tells how enums are wanted.
pub(super) fn merge(
    message: &mut Json,
    input: &MessageDescriptor,
    call: &Call,
    query: Option<&str>,
) -> Result<Enums, Status> {
    let mut enums = Enums::Names;
    for pair in query
        .unwrap_or_default()
        .split('&')
        .filter(|p| !p.is_empty())
    {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decoded(name)?, decoded(value)?);
        if OF_ALL.contains(&name.as_str()) {
            if name.ends_with("alt") {
                enums = alt(&value)?;
            }
            continue;
        }
        if call.content == Content::Message {
            return Err(unknown(&name));
        }
        let field = field_of(input, &name).ok_or_else(|| unknown(&name))?;
        // What the body holds, the query does not say.
        let first = name.split('.').next();
        if let Content::Field(held) = call.content
            && first == Some(held)
        {
            return Err(unknown(&name));
        }
        set_or_push(message, &name, scalar(&field, value), field.is_list())?;
    }
    Ok(enums)
}

/// `json`, or `json;enum-encoding=int` as Google's clients say.
fn alt(value: &str) -> Result<Enums, Status> {
    match value {
        "json" | "json;enum-encoding=string" => Ok(Enums::Names),
        "json;enum-encoding=int" => Ok(Enums::Numbers),
        _ => Err(Status::invalid_argument(
            "this server answers in JSON only (alt=json)",
        )),
    }
}

fn unknown(name: &str) -> Status {
    Status::invalid_argument(format!(
        "Invalid JSON payload received. Unknown name \"{name}\": Cannot bind query parameter."
    ))
}

/// Sets a field, also one of a message inside (`document.name`).
///
/// # Errors
/// What is there is no message.
pub(super) fn set(message: &mut Json, path: &str, value: Json) -> Result<(), Status> {
    set_or_push(message, path, value, false)
}

fn set_or_push(message: &mut Json, path: &str, value: Json, list: bool) -> Result<(), Status> {
    let wrong = || Status::invalid_argument(format!("{path}: what is given is no message"));
    let (inside, last) = match path.rsplit_once('.') {
        Some((inside, last)) => (inside.split('.').collect(), last),
        None => (Vec::new(), path),
    };
    let mut at = message;
    for part in inside {
        let object = at.as_object_mut().ok_or_else(wrong)?;
        at = object
            .entry(part)
            .or_insert_with(|| Json::Object(Map::new()));
        if at.is_null() {
            *at = Json::Object(Map::new());
        }
    }
    let object = at.as_object_mut().ok_or_else(wrong)?;
    if list {
        let items = object
            .entry(last)
            .or_insert_with(|| Json::Array(Vec::new()));
        items.as_array_mut().ok_or_else(wrong)?.push(value);
    } else {
        // The same under its other name would be there twice.
        let twin = camel(last);
        if twin != last {
            object.remove(&twin);
        }
        object.insert(last.to_owned(), value);
    }
    Ok(())
}

fn camel(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut up = false;
    for c in name.chars() {
        match c {
            '_' => up = true,
            c if up => {
                out.extend(c.to_uppercase());
                up = false;
            }
            c => out.push(c),
        }
    }
    out
}

/// A field that a query can say: no list of messages on the way to it.
fn field_of(input: &MessageDescriptor, path: &str) -> Option<FieldDescriptor> {
    let mut message = input.clone();
    let mut parts = path.split('.').peekable();
    loop {
        let name = parts.next()?;
        let field = message
            .get_field_by_json_name(name)
            .or_else(|| message.get_field_by_name(name))?;
        if parts.peek().is_none() {
            return says_itself(&field).then_some(field);
        }
        match field.kind() {
            Kind::Message(inner) if !field.is_list() && !field.is_map() => message = inner,
            _ => return None,
        }
    }
}

/// Whether one text says the field's value.
fn says_itself(field: &FieldDescriptor) -> bool {
    match field.kind() {
        Kind::Message(message) => matches!(
            message.full_name(),
            "google.protobuf.Timestamp" | "google.protobuf.Int32Value"
        ),
        _ => !field.is_map(),
    }
}

/// As the JSON mapping wants it; what cannot be read stays a text, and is refused with the message.
fn scalar(field: &FieldDescriptor, text: String) -> Json {
    match field.kind() {
        Kind::Bool => match text.as_str() {
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            _ => Json::String(text),
        },
        Kind::Enum(_) => match text.parse::<i32>() {
            Ok(number) => Json::from(number),
            Err(_) => Json::String(text),
        },
        // A plus that nobody escaped.
        Kind::Bytes => Json::String(text.replace(' ', "+")),
        _ => Json::String(text),
    }
}

fn decoded(text: &str) -> Result<String, Status> {
    let text = text.replace('+', " ");
    match percent_decode_str(&text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(Status::invalid_argument("the URL's query is no UTF-8")),
    }
}
