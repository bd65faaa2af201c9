//! Rows to documents and back.

use super::record;
use super::served::Served;
use crate::postgres::document::{self, Cell};
use crate::postgres::table::Payload;
use crate::postgres::wire::{Wire, raw};
use std::sync::Arc;
use tokio_postgres::Row;
use whimbrel_firestore::backend::Stored;
use whimbrel_firestore::value::{self, Decimals};
use whimbrel_firestore::{Fields, Micros, v1};
use whimbrel_model::{Body, Map, Value, json};

/// A document with what it is in the table, where that says more than its fields do.
pub(super) struct Read {
    pub stored: Stored,
    /// Numbers of more digits than a double has: a write keeps those that it does not change.
    pub exact: Option<Map>,
}

/// Reads the payload, which begins at column `at`, and the times behind it.
///
/// # Errors
/// Why the row is no document; names columns, never values.
pub(super) fn read(served: &Served, row: &Row, at: usize) -> Result<Read, String> {
    let map = payload(served, row, at)?;
    let width = width(served);
    let time = |column: usize| -> Result<Micros, String> {
        row.try_get(column)
            .map_err(|_| "its times cannot be read".to_owned())
    };
    let stored = Stored {
        fields: Arc::new(fields(&map)?),
        created: time(at + width)?,
        updated: time(at + width + 1)?,
    };
    let exact = map.values().any(has_decimal).then_some(map);
    Ok(Read { stored, exact })
}

/// Columns of the payload.
fn width(served: &Served) -> usize {
    match &served.table.payload {
        Payload::Json { .. } => 1,
        Payload::Columns { fields, rest } => fields.len() + usize::from(rest.is_some()),
    }
}

/// # Errors
/// As of [`read`].
pub(super) fn payload(served: &Served, row: &Row, at: usize) -> Result<Map, String> {
    let column = |at: usize| raw(row, at).map_err(|_| "it misses a column".to_owned());
    match &served.table.payload {
        Payload::Json { name, wire } => {
            let bytes = column(at)?.ok_or_else(|| format!("its column {name:?} is null"))?;
            let text = match wire {
                Wire::Jsonb => bytes.get(1..).unwrap_or_default(),
                _ => bytes,
            };
            object(text)
        }
        Payload::Columns { fields, rest } => {
            let mut map = Map::with_capacity(fields.len());
            for (i, field) in fields.iter().enumerate() {
                let value = document::decode(field, column(at + i)?)?;
                map.insert(field.name.clone(), value);
            }
            if let Some(rest) = rest {
                match document::decode(rest, column(at + fields.len())?)? {
                    Value::Null => {}
                    Value::Map(more) => document::merge(&mut map, more)?,
                    _ => return Err(format!("its column {:?} holds no JSON object", rest.name)),
                }
            }
            Ok(map)
        }
    }
}

/// # Errors
/// Why the text is no JSON object.
pub(super) fn object(text: &[u8]) -> Result<Map, String> {
    match json::parse(text) {
        Ok(Value::Map(map)) => Ok(map),
        Ok(_) => Err(json::JsonError::not_object().to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// # Errors
/// A value that the protocol cannot say.
pub(super) fn fields(map: &Map) -> Result<Fields, String> {
    value::from_model(map, Decimals::Nearest).map_err(|error| error.to_string())
}

fn has_decimal(value: &Value) -> bool {
    match value {
        Value::Decimal(_) => true,
        Value::Array(items) => items.iter().any(has_decimal),
        Value::Map(map) => map.values().any(has_decimal),
        _ => false,
    }
}

/// What is written of a document: its fields, but for numbers that are as they were when it was read.
pub(super) fn to_write(fields: &Fields, before: Option<(&Fields, &Map)>) -> Map {
    let mut map = value::to_model(fields);
    if let Some((old_fields, old)) = before {
        keep(&mut map, fields, old_fields, old);
    }
    map
}

fn keep(map: &mut Map, fields: &Fields, old_fields: &Fields, old: &Map) {
    for (name, value) in map {
        let parts = (fields.get(name), old_fields.get(name), old.get(name));
        if let (Some(now), Some(before), Some(held)) = parts {
            keep_value(value, now, before, held);
        }
    }
}

fn keep_value(value: &mut Value, now: &v1::Value, before: &v1::Value, held: &Value) {
    use v1::value::ValueType::{ArrayValue, MapValue};
    match (value, held) {
        (value, Value::Decimal(_)) if now == before => *value = held.clone(),
        (Value::Map(map), Value::Map(held)) => {
            if let (Some(MapValue(now)), Some(MapValue(before))) =
                (&now.value_type, &before.value_type)
            {
                keep(map, &now.fields, &before.fields, held);
            }
        }
        (Value::Array(items), Value::Array(held)) => {
            if let (Some(ArrayValue(now)), Some(ArrayValue(before))) =
                (&now.value_type, &before.value_type)
            {
                let parts = now.values.iter().zip(&before.values).zip(held);
                for (item, ((now, before), held)) in items.iter_mut().zip(parts) {
                    keep_value(item, now, before, held);
                }
            }
        }
        _ => {}
    }
}

/// The payload to write.
///
/// # Errors
/// Why the table cannot hold the document; names fields, never values.
pub(super) fn cells(served: &Served, key: &str, map: Map) -> Result<Vec<Cell>, String> {
    let key = served.key(key)?;
    document::cells(&served.table, &key, &Body::Map(map))
}

/// Why a table cannot hold the fields: the same as [`cells`] says, without making what is sent.
pub(super) fn refusal(served: Option<&Served>, key: &str, fields: &Fields) -> Option<String> {
    let wire = match served.map(|served| &served.table.payload) {
        None => Wire::Jsonb,
        Some(Payload::Json { wire, .. }) => *wire,
        Some(Payload::Columns { .. }) => {
            return cells(served?, key, value::to_model(fields)).err();
        }
    };
    let long = key.len() > super::served::KEY_BYTES;
    if let Some(why) = served.and_then(|served| served.key(key).err()) {
        return Some(why);
    }
    if long {
        let most = super::served::KEY_BYTES;
        return Some(format!("the document's ids are longer than {most} bytes"));
    }
    if key.contains('\0') {
        return Some("the document's id holds U+0000, which PostgreSQL's text cannot".to_owned());
    }
    (wire == Wire::Jsonb).then(|| nul(fields)).flatten()
}

fn nul(fields: &Fields) -> Option<String> {
    fields.iter().find_map(|(name, value)| {
        if name.contains('\0') {
            return Some("a field's name holds U+0000, which PostgreSQL's jsonb cannot".to_owned());
        }
        nul_in(value)
            .then(|| format!("the field {name:?} holds U+0000, which PostgreSQL's jsonb cannot"))
    })
}

fn nul_in(value: &v1::Value) -> bool {
    use v1::value::ValueType;
    match &value.value_type {
        Some(ValueType::StringValue(text) | ValueType::ReferenceValue(text)) => text.contains('\0'),
        Some(ValueType::ArrayValue(array)) => array.values.iter().any(nul_in),
        Some(ValueType::MapValue(map)) => nul(&map.fields).is_some(),
        _ => false,
    }
}

/// The document of the log's text.
///
/// # Errors
/// Why it is none; names columns, never values.
pub(super) fn old(served: &Served, text: &str) -> Result<Fields, String> {
    let Payload::Columns { fields, rest } = &served.table.payload else {
        return old_fields(text);
    };
    let strange = || "the log's row is not one of the table's".to_owned();
    let mut columns = record::read(text).ok_or_else(strange)?;
    let shape = served.shapes.iter().find(|shape| {
        // A table of one column that is NULL looks as one of none; such has no key, so there is none.
        shape.len() == columns.len()
    });
    let mut map = Map::with_capacity(columns.len());
    let mut more = None;
    for (i, name) in shape.ok_or_else(strange)?.iter().enumerate() {
        let text = columns.get_mut(i).and_then(Option::take);
        let bytes = text.as_deref().map(str::as_bytes);
        if let Some(field) = fields.iter().find(|field| field.name == *name) {
            map.insert(name.clone(), document::decode(field, bytes)?);
        } else if let Some(rest) = rest.as_ref().filter(|rest| rest.name == *name) {
            more = Some(document::decode(rest, bytes)?);
        }
    }
    if let Some(Value::Map(more)) = more {
        document::merge(&mut map, more)?;
    }
    self::fields(&map)
}

/// The document of a text that is JSON.
///
/// # Errors
/// Why it is none.
pub(super) fn old_fields(text: &str) -> Result<Fields, String> {
    fields(&object(text.as_bytes())?)
}

/// What the log keeps of fields that the table does not hold as they were put.
pub(super) fn correction(fields: &Fields) -> String {
    let mut out = Vec::new();
    json::write_map(&value::to_model(fields), &mut out);
    // JSON is written as UTF-8.
    String::from_utf8(out).unwrap_or_default()
}

/// Whether both are the same documents, to the last bit.
pub(super) fn same(one: &Fields, other: &Fields) -> bool {
    let fingerprint = |fields| json::fingerprint_map(&value::to_model(fields));
    fingerprint(one) == fingerprint(other)
}
