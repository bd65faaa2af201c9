//! What a table gives back of bodies once they are written.
//!
//! Most column types keep what they got, or change it in a way that is known here. For the others
//! (`date`, `interval`, `uuid`, enums, an app's own types, …) the server is asked to read and print the texts.
//! What triggers would make of a row is not foreseen.

use super::PgStore;
use super::columns::{Field, Kind};
use super::document::{self, json_content};
use super::error::is_about_data;
use super::keys;
use super::table::{Payload, Table};
use super::wire::{Many, Params, Wire, raw};
use bytes::Bytes;
use deadpool_postgres::Client;
use futures::TryStreamExt;
use std::pin::pin;
use tokio_postgres::Error;
use whimbrel_model::{Body, Key, Map, StoreError, Value, json};

/// See [`whimbrel_model::Store::held`].
pub(super) async fn held(
    store: &PgStore,
    table: &Table,
    keys: &[Key],
    bodies: Vec<Body>,
) -> Result<Vec<Body>, StoreError> {
    match &table.payload {
        Payload::Json { wire, .. } if table.plain => in_json(store, table, *wire, bodies).await,
        Payload::Json { .. } => Ok(bodies),
        Payload::Columns { fields, rest } => {
            let columns: Vec<&Field> = fields.iter().chain(rest).collect();
            in_columns(store, table, &columns, keys, bodies).await
        }
    }
}

/// A text that the server shall read as a column's type, and print.
struct Question {
    body: usize,
    column: usize,
    text: String,
}

async fn in_json(
    store: &PgStore,
    table: &Table,
    wire: Wire,
    mut bodies: Vec<Body>,
) -> Result<Vec<Body>, StoreError> {
    let mut questions = Vec::new();
    for (at, body) in bodies.iter_mut().enumerate() {
        let Ok(content) = json_content(body, wire, table.plain) else {
            continue;
        };
        let odd = wire == Wire::Jsonb && json::scan(&content).is_ok_and(|facts| facts.odd_number);
        match String::from_utf8(content.to_vec()) {
            Ok(text) if odd => questions.push(Question {
                body: at,
                column: 0,
                text,
            }),
            _ => *body = Body::Json(content),
        }
    }
    let casts = [wire.sql().to_owned()];
    let answers = ask(store, table, &casts, &questions).await?;
    for (question, answer) in questions.iter().zip(answers) {
        if let Some(text) = answer {
            bodies[question.body] = Body::Json(Bytes::from(text));
        }
    }
    Ok(bodies)
}

async fn in_columns(
    store: &PgStore,
    table: &Table,
    columns: &[&Field],
    keys: &[Key],
    bodies: Vec<Body>,
) -> Result<Vec<Body>, StoreError> {
    let mut questions = Vec::new();
    let mut rows: Vec<Option<Row>> = Vec::with_capacity(bodies.len());
    for (at, (key, body)) in keys.iter().zip(&bodies).enumerate() {
        rows.push(row(table, columns, key, body, at, &mut questions));
    }
    let casts: Vec<String> = columns.iter().map(|field| printing_cast(field)).collect();
    let answers = ask(store, table, &casts, &questions).await?;
    for (question, answer) in questions.iter().zip(answers) {
        let value = answer.and_then(|text| columns[question.column].kind.decode(&text).ok());
        match (&mut rows[question.body], value) {
            (Some(row), Some(value)) => row[question.column] = Some(value),
            (row, _) => *row = None,
        }
    }
    let found = bodies.into_iter().zip(rows).map(|(body, row)| {
        let map = row.and_then(|row| fields(table, columns, row));
        map.map_or(body, Body::Map)
    });
    Ok(found.collect())
}

/// One value a column; `None` while the server is still to be asked.
type Row = Vec<Option<Value>>;

/// What is known of the row without the server; `None` where the table would refuse the body.
fn row(
    table: &Table,
    columns: &[&Field],
    key: &Key,
    body: &Body,
    at: usize,
    questions: &mut Vec<Question>,
) -> Option<Row> {
    if body.size() > super::DOCUMENT_BYTES || keys::fits(&table.keys, key).is_err() {
        return None;
    }
    let Payload::Columns { fields, rest } = &table.payload else {
        return None;
    };
    let map = body.map().ok()?;
    let mut others = Map::new();
    for (name, value) in map.iter() {
        if !fields.iter().any(|field| field.name == *name) {
            rest.as_ref()?;
            others.insert(name.clone(), value.clone());
        }
    }
    let others = Value::Map(others);
    let mut row = Vec::with_capacity(columns.len());
    let mut asked = Vec::new();
    for (column, field) in columns.iter().enumerate() {
        let value = match map.get(&field.name) {
            _ if column == fields.len() => &others,
            named if !field.is_written() => {
                // Whether the body names it or not, the key decides.
                if let Some(value) = named {
                    document::check_key_field(table, field, key, value).ok()?;
                }
                row.push(Some(document::key_value(field, key)?));
                continue;
            }
            Some(value) => value,
            None => &Value::Null,
        };
        let Some(text) = document::text(field, value, table.plain).ok()? else {
            row.push(Some(Value::Null));
            continue;
        };
        let known = field.kind.read_back(value, &text);
        if known.is_none() {
            asked.push(Question {
                body: at,
                column,
                text,
            });
        }
        row.push(known);
    }
    questions.append(&mut asked);
    Some(row)
}

fn fields(table: &Table, columns: &[&Field], row: Row) -> Option<Map> {
    let Payload::Columns { fields, .. } = &table.payload else {
        return None;
    };
    let mut map = Map::with_capacity(row.len());
    for (at, (field, value)) in columns.iter().zip(row).enumerate() {
        match value {
            None => {}
            Some(value) if at < fields.len() => {
                map.insert(field.name.clone(), value);
            }
            Some(Value::Map(more)) => document::merge(&mut map, more).ok()?,
            Some(Value::Null) => {}
            Some(_) => return None,
        }
    }
    Some(map)
}

/// The type that a column's text is cast to on its way back. Without the column's length, which a cast would
/// enforce by cutting where an insert refuses; only an interval is rounded by both.
fn printing_cast(field: &Field) -> String {
    let interval = matches!(
        field.cast.as_str(),
        "pg_catalog.\"interval\"" | "pg_catalog._interval"
    );
    match &field.kind {
        Kind::Other | Kind::Array(_) if interval => field.declared.clone(),
        _ => field.cast.clone(),
    }
}

/// One answer a question; `None` where the server cannot read the text.
async fn ask(
    store: &PgStore,
    table: &Table,
    casts: &[String],
    questions: &[Question],
) -> Result<Vec<Option<String>>, StoreError> {
    let mut answers = vec![None; questions.len()];
    if questions.is_empty() {
        return Ok(answers);
    }
    // A text that cannot be read would end a snapshot's transaction; and it does not depend on any row.
    let client = store.connections.live().get().await?;
    let mut waiting = vec![(0, questions.len())];
    while let Some((begin, end)) = waiting.pop() {
        match print(&client, casts, &questions[begin..end]).await {
            Ok(texts) => {
                for (at, text) in texts {
                    if let Some(answer) = answers.get_mut(begin + at) {
                        *answer = Some(text);
                    }
                }
            }
            // One bad text fails them all: halves find it.
            Err(error) if is_about_data(&error) => {
                let half = begin + (end - begin) / 2;
                if half > begin {
                    waiting.extend([(begin, half), (half, end)]);
                }
            }
            Err(error) => {
                let doing = format!("comparing with collection {:?}", table.collection);
                return Err(store.failed(table, &doing, error));
            }
        }
    }
    Ok(answers)
}

/// The texts as the server prints them, by their place in `questions`.
async fn print(
    client: &Client,
    casts: &[String],
    questions: &[Question],
) -> Result<Vec<(usize, String)>, Error> {
    let places: Vec<i32> = (0i32..).take(questions.len()).collect();
    let mut arrays = Vec::new();
    let mut selects = Vec::new();
    for (column, cast) in casts.iter().enumerate() {
        let of_column = || {
            questions
                .iter()
                .zip(&places)
                .filter(|(q, _)| q.column == column)
        };
        if of_column().next().is_none() {
            continue;
        }
        let first = 2 * selects.len() + 1;
        selects.push(format!(
            "SELECT s.o, s.t::{cast}::text FROM (SELECT unnest(${first}::int4[]) AS o, \
             unnest(${}::text[]) AS t) s",
            first + 1
        ));
        let ordinals = Many {
            wire: Wire::Int4,
            items: of_column().map(|(_, place)| place).collect(),
        };
        let texts = Many {
            wire: Wire::Text,
            items: of_column().map(|(q, _)| &q.text).collect(),
        };
        arrays.push((ordinals, texts));
    }
    let mut params: Params<'_> = Vec::with_capacity(2 * arrays.len());
    for (ordinals, texts) in &arrays {
        params.push(ordinals);
        params.push(texts);
    }
    // Unprepared: which columns are asked for differs from batch to batch.
    let rows = client
        .query_raw(&selects.join(" UNION ALL "), params)
        .await?;
    let mut rows = pin!(rows);
    let mut printed = Vec::with_capacity(questions.len());
    while let Some(row) = rows.try_next().await? {
        let place = raw(&row, 0)?.and_then(super::read::ordinal);
        let text = raw(&row, 1)?.and_then(|bytes| std::str::from_utf8(bytes).ok());
        printed.extend(place.zip(text.map(str::to_owned)));
    }
    Ok(printed)
}
