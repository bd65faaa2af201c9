//! Documents to and from a table's payload columns.

use super::columns::{Field, Kind};
use super::keys;
use super::table::{Payload, Table};
use super::wire::{Encode, Wire, raw};
use bytes::{BufMut, Bytes, BytesMut};
use indexmap::IndexMap;
use tokio_postgres::Row;
use whimbrel_model::{Body, Document, Key, Map, Revision, Value, json};

/// One payload column's content as it is sent: JSON for layout `json`, else the column's text.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub content: Option<Bytes>,
    pub jsonb: bool,
}

/// The version byte in front of every `jsonb` in binary.
pub(crate) const JSONB_VERSION: u8 = 1;

impl Encode for Cell {
    fn encode(&self, out: &mut BytesMut) -> bool {
        let Some(content) = &self.content else {
            return false;
        };
        out.reserve(content.len() + 1);
        if self.jsonb {
            out.put_u8(JSONB_VERSION);
        }
        out.put_slice(content);
        true
    }
}

/// Reads revision and payload, which begin at column `at`. The error says why the row is no document,
/// without a value.
pub(crate) fn read(table: &Table, key: &Key, row: &Row, at: usize) -> Result<Document, String> {
    let column = |at: usize| raw(row, at).map_err(|_| "it misses a column".to_owned());
    let revision = column(at)?.ok_or("it has no revision")?;
    let body = match &table.payload {
        Payload::Json { name, wire } => {
            let bytes = column(at + 1)?.ok_or_else(|| format!("its column {name:?} is null"))?;
            let text = match wire {
                Wire::Jsonb => match bytes.split_first() {
                    Some((&JSONB_VERSION, text)) => text,
                    _ => {
                        return Err(format!(
                            "its column {name:?} is in an unknown form of jsonb"
                        ));
                    }
                },
                _ => bytes,
            };
            Body::Json(Bytes::copy_from_slice(text))
        }
        Payload::Columns { fields, rest } => {
            let mut map = Map::with_capacity(fields.len());
            for (i, field) in fields.iter().enumerate() {
                let value = decode(field, column(at + 1 + i)?)?;
                map.insert(field.name.clone(), value);
            }
            if let Some(rest) = rest {
                match decode(rest, column(at + 1 + fields.len())?)? {
                    Value::Null => {}
                    Value::Map(more) => merge(&mut map, more)?,
                    _ => return Err(format!("its column {:?} holds no JSON object", rest.name)),
                }
            }
            Body::Map(map)
        }
    };
    Ok(Document {
        key: key.clone(),
        body,
        revision: Revision(revision.to_vec()),
    })
}

/// The same for a row that was asked for by its key: what is no document gets a body that no reader takes
/// for one, so that it fails as that document and not as the whole batch.
pub(crate) fn read_or_hollow(table: &Table, key: &Key, row: &Row, at: usize) -> Option<Document> {
    let revision = raw(row, at).ok().flatten()?.to_vec();
    Some(read(table, key, row, at).unwrap_or_else(|_| Document {
        key: key.clone(),
        body: Body::Json(Bytes::new()),
        revision: Revision(revision),
    }))
}

pub(crate) fn decode(field: &Field, bytes: Option<&[u8]>) -> Result<Value, String> {
    let Some(bytes) = bytes else {
        return Ok(Value::Null);
    };
    let text = std::str::from_utf8(bytes)
        .map_err(|_| format!("its column {:?} is not UTF-8", field.name))?;
    field
        .kind
        .decode(text)
        .map_err(|why| format!("its column {:?} cannot be read: {why}", field.name))
}

pub(crate) fn merge(map: &mut Map, more: Map) -> Result<(), String> {
    for (name, value) in more {
        // Whichever were taken, the other would be lost with the next write.
        if map.insert(name, value).is_some() {
            return Err("its column for the rest holds a field that has its own column".to_owned());
        }
    }
    Ok(())
}

/// The payload of one document to write.
///
/// # Errors
/// Why the table cannot hold it; names fields, never values.
pub(crate) fn cells(table: &Table, key: &Key, body: &Body) -> Result<Vec<Cell>, String> {
    if body.size() > super::DOCUMENT_BYTES {
        let limit = super::DOCUMENT_BYTES >> 20;
        return Err(format!("the document is larger than {limit} MiB"));
    }
    match &table.payload {
        Payload::Json { wire, .. } => {
            let content = json_content(body, *wire, table.plain)?;
            Ok(vec![Cell {
                content: Some(content),
                jsonb: *wire == Wire::Jsonb,
            }])
        }
        Payload::Columns { fields, rest } => {
            let map = body.map().map_err(|error| error.to_string())?;
            let mut extra: IndexMap<String, Value> = IndexMap::new();
            for (name, value) in map.iter() {
                match fields.iter().find(|field| field.name == *name) {
                    Some(field) => check_key_field(table, field, key, value)?,
                    None if rest.is_some() => {
                        extra.insert(name.clone(), value.clone());
                    }
                    None => return Err(format!("the table has no column for the field {name:?}")),
                }
            }
            let mut cells = Vec::with_capacity(fields.len() + 1);
            for field in fields.iter().filter(|field| field.is_written()) {
                let value = map.get(&field.name).unwrap_or(&Value::Null);
                cells.push(cell(field, value, table.plain)?);
            }
            if let Some(rest) = rest {
                cells.push(cell(rest, &Value::Map(extra), table.plain)?);
            }
            Ok(cells)
        }
    }
}

fn cell(field: &Field, value: &Value, plain: bool) -> Result<Cell, String> {
    Ok(Cell {
        content: text(field, value, plain)?.map(Bytes::from),
        jsonb: false,
    })
}

/// The text that is sent for a field; `None` is NULL.
pub(crate) fn text(field: &Field, value: &Value, plain: bool) -> Result<Option<String>, String> {
    match (&field.kind, value) {
        // JSON has a null of its own for a column that must have one.
        (Kind::Json { .. }, Value::Null) if !field.nullable => Ok(Some("null".to_owned())),
        (kind, value) => kind
            .encode(value, plain)
            .map_err(|why| format!("column {:?} of type {}: {why}", field.name, field.declared)),
    }
}

/// A key column that also stands among the fields must say what the key says.
pub(crate) fn check_key_field(
    table: &Table,
    field: &Field,
    key: &Key,
    value: &Value,
) -> Result<(), String> {
    let Some(at) = field.key_part else {
        return Ok(());
    };
    debug_assert!(at < table.keys.len());
    let same = match keys::part(key, at) {
        Key::Int(n) => *value == Value::Int(*n),
        Key::Uuid(uuid) => match value {
            Value::String(text) => uuid::Uuid::try_parse(text).is_ok_and(|u| u == uuid.get()),
            _ => false,
        },
        Key::Text(text) => field.kind.encode(value, false).ok().flatten().as_ref() == Some(text),
        Key::Tuple(_) => false,
    };
    if same {
        Ok(())
    } else {
        Err(format!(
            "the field {:?} differs from the document's key",
            field.name
        ))
    }
}

/// What a key column gives back as a field; `None` where it is no part of the key.
pub(crate) fn key_value(field: &Field, key: &Key) -> Option<Value> {
    let part = keys::part(key, field.key_part?);
    field.kind.decode(&part.to_string()).ok()
}

pub(crate) fn json_content(body: &Body, wire: Wire, plain: bool) -> Result<Bytes, String> {
    let says = |error: json::JsonError| error.to_string();
    let content = match body {
        Body::Json(bytes) => bytes.clone(),
        Body::Map(map) if !plain => {
            let mut out = Vec::with_capacity(body.size() + body.size() / 8);
            json::write_map(map, &mut out);
            out.into()
        }
        Body::Map(map) => plain_content(map.clone()),
    };
    let facts = json::scan(&content).map_err(says)?;
    if content.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
        return Err(json::JsonError::not_object().to_string());
    }
    if wire == Wire::Jsonb && facts.nul {
        return Err("jsonb cannot hold U+0000".to_owned());
    }
    if wire == Wire::Jsonb && facts.lone_surrogate {
        return Err("jsonb cannot hold half a character (an unpaired surrogate)".to_owned());
    }
    if plain && facts.dollar_key && matches!(body, Body::Json(_)) {
        return Ok(plain_content(body.map().map_err(says)?.into_owned()));
    }
    // jsonb would turn these numbers into others (`1e2` into `100`, `-0` into `0`); tags keep them.
    if wire == Wire::Jsonb && facts.odd_number && !plain {
        let value = json::parse(&content).map_err(says)?;
        let mut out = Vec::with_capacity(content.len() + 64);
        json::write(&value, &mut out);
        return Ok(out.into());
    }
    Ok(content)
}

fn plain_content(map: Map) -> Bytes {
    let mut out = Vec::new();
    // What is lost was said when the user asked for plain JSON.
    let _ = json::write_plain(&Value::Map(map), &mut out);
    out.into()
}
