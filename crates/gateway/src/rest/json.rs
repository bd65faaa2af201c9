//! Messages as JSON and back, as protobuf's JSON mapping says, from the protocol's own description.
//!
//! Documents keep the order of their fields, so their maps are described as lists of entries here
//! (`ORDERED_FILE_DESCRIPTOR_SET`); in JSON they are the objects that the mapping wants.

use prost_reflect::prost::Message;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor,
    ReflectMessage, SerializeOptions, Value,
};
use serde_json::{Map, Value as Json};
use std::sync::LazyLock;
use tonic::Status;
use whimbrel_firestore::proto::ORDERED_FILE_DESCRIPTOR_SET;

static POOL: LazyLock<Result<DescriptorPool, prost_reflect::DescriptorError>> =
    LazyLock::new(|| DescriptorPool::decode(ORDERED_FILE_DESCRIPTOR_SET));

/// How enums are written. They are read both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Enums {
    Names,
    Numbers,
}

/// What a method takes and gives.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub input: MessageDescriptor,
    pub output: MessageDescriptor,
    /// It answers with any number of messages.
    pub streams: bool,
    /// It also takes any number.
    pub both_ways: bool,
}

/// # Errors
/// INTERNAL: the protocol has no such method.
pub(super) fn shape(method: &str) -> Result<Shape, Status> {
    let pool = POOL
        .as_ref()
        .map_err(|_| Status::internal("the protocol's description cannot be read"))?;
    let service = pool.get_service_by_name("google.firestore.v1.Firestore");
    let method = service.and_then(|s| s.methods().find(|m| m.name() == method));
    let method = method.ok_or_else(|| Status::internal("the protocol has no such method"))?;
    Ok(Shape {
        input: method.input(),
        output: method.output(),
        streams: method.is_server_streaming(),
        both_ways: method.is_client_streaming(),
    })
}

/// # Errors
/// INVALID_ARGUMENT: the JSON is no such message.
pub(super) fn encode(shape: &MessageDescriptor, mut json: Json) -> Result<Vec<u8>, Status> {
    let refused =
        |why: String| Status::invalid_argument(format!("Invalid JSON payload received. {why}"));
    to_entries(shape, &mut json).map_err(refused)?;
    let options = DeserializeOptions::new();
    DynamicMessage::deserialize_with_options(shape.clone(), json, &options)
        .map(|message| message.encode_to_vec())
        .map_err(|error| refused(error.to_string()))
}

/// # Errors
/// INTERNAL: the bytes are no such message.
pub(super) fn decode(
    shape: &MessageDescriptor,
    bytes: &[u8],
    enums: Enums,
) -> Result<String, Status> {
    let unreadable = |_| Status::internal("the answer cannot be read");
    let mut message = DynamicMessage::decode(shape.clone(), bytes).map_err(unreadable)?;
    let options = SerializeOptions::new().use_enum_numbers(enums == Enums::Numbers);
    let written = match message.serialize_with_options(serde_json::value::Serializer, &options) {
        Ok(json) => Ok(json),
        Err(_) => {
            drop_unknown(&mut message);
            message.serialize_with_options(serde_json::value::Serializer, &options)
        }
    };
    let mut json = written.map_err(|_| Status::internal("the answer cannot be written as JSON"))?;
    to_objects(shape, &mut json);
    Ok(json.to_string())
}

/// Whether the field is a document's map, described as a list of entries.
fn is_entries(field: &FieldDescriptor) -> bool {
    field.is_list()
        && matches!(field.kind(), Kind::Message(entry) if matches!(
            entry.full_name(),
            "google.firestore.v1.Document.FieldsEntry"
                | "google.firestore.v1.MapValue.FieldsEntry"
                | "google.firestore.v1.AggregationResult.AggregateFieldsEntry"
        ))
}

const KEY: &str = "key";
const VALUE: &str = "value";

/// Objects become lists of entries. The depth is bounded: JSON was parsed into this.
fn to_entries(shape: &MessageDescriptor, json: &mut Json) -> Result<(), String> {
    let Json::Object(object) = json else {
        return Ok(());
    };
    for (name, json) in object {
        let field = shape
            .get_field_by_json_name(name)
            .or_else(|| shape.get_field_by_name(name));
        let Some(field) = field else { continue };
        let Kind::Message(inner) = field.kind() else {
            continue;
        };
        if is_entries(&field) {
            let value = value_of(&inner);
            match json {
                Json::Null => {}
                Json::Object(members) => {
                    let mut entries = Vec::with_capacity(members.len());
                    for (key, mut member) in std::mem::take(members) {
                        if let Some(value) = &value {
                            to_entries(value, &mut member)?;
                        }
                        entries.push(entry(key, member));
                    }
                    *json = Json::Array(entries);
                }
                _ => return Err(format!("\"{name}\" must be an object.")),
            }
        } else {
            match json {
                Json::Array(items) => {
                    for item in items {
                        to_entries(&inner, item)?;
                    }
                }
                json => to_entries(&inner, json)?,
            }
        }
    }
    Ok(())
}

fn value_of(entry: &MessageDescriptor) -> Option<MessageDescriptor> {
    match entry.get_field_by_name(VALUE)?.kind() {
        Kind::Message(value) => Some(value),
        _ => None,
    }
}

fn entry(key: String, value: Json) -> Json {
    let mut entry = Map::with_capacity(2);
    entry.insert(KEY.to_owned(), Json::String(key));
    entry.insert(VALUE.to_owned(), value);
    Json::Object(entry)
}

/// The way back.
fn to_objects(shape: &MessageDescriptor, json: &mut Json) {
    let Json::Object(object) = json else {
        return;
    };
    for (name, json) in object {
        let Some(field) = shape.get_field_by_json_name(name) else {
            continue;
        };
        let Kind::Message(inner) = field.kind() else {
            continue;
        };
        match json {
            Json::Array(items) if is_entries(&field) => {
                let value = value_of(&inner);
                let mut members = Map::with_capacity(items.len());
                for item in std::mem::take(items) {
                    let Json::Object(mut entry) = item else {
                        continue;
                    };
                    // What is empty is not written.
                    let key = match entry.remove(KEY) {
                        Some(Json::String(key)) => key,
                        _ => String::new(),
                    };
                    let mut member = entry.remove(VALUE).unwrap_or_else(|| Map::new().into());
                    if let Some(value) = &value {
                        to_objects(value, &mut member);
                    }
                    members.insert(key, member);
                }
                *json = Json::Object(members);
            }
            Json::Array(items) => {
                for item in items {
                    to_objects(&inner, item);
                }
            }
            Json::Object(members) if field.is_map() => {
                if let Some(value) = value_of(&inner) {
                    for member in members.values_mut() {
                        to_objects(&value, member);
                    }
                }
            }
            json => to_objects(&inner, json),
        }
    }
}

/// Takes out messages of kinds that the description does not hold (details of another server's errors): they
/// cannot be written as JSON, and the rest can.
fn drop_unknown(message: &mut DynamicMessage) {
    let descriptor = message.descriptor();
    for field in descriptor.fields() {
        let Kind::Message(inner) = field.kind() else {
            continue;
        };
        if !message.has_field(&field) {
            continue;
        }
        if inner.full_name() == "google.protobuf.Any" {
            message.clear_field(&field);
            continue;
        }
        match message.get_field_mut(&field) {
            Value::Message(inner) => drop_unknown(inner),
            Value::List(items) => {
                for item in items {
                    if let Value::Message(inner) = item {
                        drop_unknown(inner);
                    }
                }
            }
            Value::Map(members) => {
                for member in members.values_mut() {
                    if let Value::Message(inner) = member {
                        drop_unknown(inner);
                    }
                }
            }
            _ => {}
        }
    }
}
