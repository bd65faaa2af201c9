//! What a commit writes, table by table.

use super::commit::DOING;
use super::pipe::{Answer, Call};
use super::served::Served;
use super::{Group, Shared, rows};
use crate::postgres::document::Cell;
use crate::postgres::wire::Many;
use std::collections::HashMap;
use std::sync::Arc;
use tokio_postgres::Row;
use whimbrel_firestore::backend::{Batch, Found, Put, There};
use whimbrel_firestore::{Fields, Place};
use whimbrel_model::{Code, Map, StoreError};

/// What the documents are that a commit touches.
#[derive(Default)]
pub(super) struct Before {
    pub found: Found,
    /// Those with numbers that their fields do not say exactly.
    exact: HashMap<Place, Map>,
}

impl Before {
    pub fn take(
        &mut self,
        shared: &Shared,
        group: &Group<'_>,
        row: &Row,
        touch: &[Place],
    ) -> Result<(), StoreError> {
        let (at, read) = group.read(shared, row)?;
        let Some(place) = touch.get(at) else {
            return Ok(());
        };
        let there = match read {
            Ok(read) => {
                if let Some(map) = read.exact {
                    self.exact.insert(place.clone(), map);
                }
                There::Document(read.stored)
            }
            Err(why) => There::Unreadable(why),
        };
        self.found.insert(place.clone(), there);
        Ok(())
    }

    pub fn has_row(&self, place: &Place) -> bool {
        self.found.contains_key(place)
    }

    pub fn of(&self, place: &Place) -> Option<(&Fields, &Map)> {
        let stored = self.found.get(place)?.document()?;
        Some((&stored.fields, self.exact.get(place)?))
    }
}

/// What is written to one table.
pub(super) struct Writes<'b> {
    pub served: Arc<Served>,
    /// Whatever is written or deleted.
    pub keys: Vec<&'b str>,
    pub times: Vec<i64>,
    pub inserts: Rows<'b>,
    pub updates: Rows<'b>,
    pub deletes: Vec<&'b str>,
}

#[derive(Default)]
pub(super) struct Rows<'b> {
    pub puts: Vec<&'b Put>,
    cells: Vec<Vec<Cell>>,
}

impl<'b> Rows<'b> {
    fn payload<'c>(&'c self, served: &Served, mut call: Call<'c>) -> Call<'c> {
        for (column, wire) in served.sql.wires.iter().enumerate() {
            let items = self.cells.iter().filter_map(|cells| cells.get(column));
            call = call.with(Many {
                wire: *wire,
                items: items.collect(),
            });
        }
        call
    }

    pub fn insert<'c>(&'c self, served: &'c Served) -> Call<'c> {
        let mut call = Call::new(&*served.sql.insert);
        let parts = served.table.keys.len();
        for part in 0..parts {
            let keys = self.puts.iter().map(|put| match parts {
                1 => &*put.place.key,
                _ => put.place.key.split('/').nth(part).unwrap_or_default(),
            });
            call = call.with(keys.collect::<Vec<&str>>());
        }
        self.payload(served, call)
    }

    pub fn update<'c>(&'c self, served: &'c Served) -> Call<'c> {
        let keys: Vec<&str> = self.puts.iter().map(|put| &*put.place.key).collect();
        self.payload(served, Call::new(&*served.sql.update).with(keys))
    }

    /// Checks the answer to [`Self::insert`] or [`Self::update`], and finds what is held otherwise than it was put.
    pub fn confirm(
        &self,
        shared: &Shared,
        served: &Served,
        answer: &Answer,
        corrections: &mut Corrections<'b>,
    ) -> Result<(), StoreError> {
        confirm(shared, served, answer, self.puts.len())?;
        let puts: HashMap<&str, &'b Put> = match served.exact {
            true => return Ok(()),
            false => self
                .puts
                .iter()
                .map(|put| (&*put.place.key, *put))
                .collect(),
        };
        for row in &answer.rows {
            let key: &str = row.try_get(0).map_err(|e| shared.failed(DOING, e))?;
            let Some(put) = puts.get(key).copied() else {
                continue;
            };
            let Some(stored) = &put.stored else { continue };
            let held = rows::payload(served, row, 1).and_then(|map| rows::fields(&map));
            if !held.is_ok_and(|held| rows::same(&held, &stored.fields)) {
                corrections.ids.push(served.id);
                corrections.keys.push(&put.place.key);
                corrections.times.push(put.at);
                corrections.olds.push(rows::correction(&stored.fields));
                corrections.created.push(stored.created);
                corrections.updated.push(stored.updated);
            }
        }
        Ok(())
    }
}

/// # Errors
/// Fewer rows were written than should be.
pub(super) fn confirm(
    shared: &Shared,
    served: &Served,
    answer: &Answer,
    expected: usize,
) -> Result<(), StoreError> {
    if answer.count == expected as u64 {
        return Ok(());
    }
    Err(shared.terminal(
        Code::StoreFailed,
        format!(
            "nothing was written: a trigger or rule of the table {} kept a row from being written",
            served.name
        ),
    ))
}

#[derive(Default)]
pub(super) struct Corrections<'b> {
    pub ids: Vec<i32>,
    pub keys: Vec<&'b str>,
    pub times: Vec<i64>,
    pub olds: Vec<String>,
    pub created: Vec<i64>,
    pub updated: Vec<i64>,
}

pub(super) const CORRECT: &str = "INSERT INTO @.log (collection, key, at, writer, open, old, created, updated) \
    SELECT s.c, s.k, s.a, 2, true, s.old, s.created, s.updated FROM (SELECT unnest($1::int4[]) AS c, \
      unnest($2::text[]) AS k, unnest($3::int8[]) AS a, unnest($4::text[]) AS old, \
      unnest($5::int8[]) AS created, unnest($6::int8[]) AS updated) s";

/// Sorts what is put by its table and by what is done there.
///
/// # Errors
/// A table cannot be made, or cannot hold a document.
pub(super) async fn sorted<'b>(
    shared: &Shared,
    batch: &'b Batch,
    before: &Before,
) -> Result<Vec<Writes<'b>>, StoreError> {
    let mut tables: Vec<Writes<'b>> = Vec::new();
    let mut at: HashMap<&str, usize> = HashMap::new();
    for put in &batch.documents {
        let there = before.has_row(&put.place);
        if put.stored.is_none() && !there {
            continue;
        }
        let at = match at.get(&*put.place.collection) {
            Some(at) => *at,
            None => {
                tables.push(Writes {
                    served: shared.ensure(&put.place.collection).await?,
                    keys: Vec::new(),
                    times: Vec::new(),
                    inserts: Rows::default(),
                    updates: Rows::default(),
                    deletes: Vec::new(),
                });
                at.insert(&put.place.collection, tables.len() - 1);
                tables.len() - 1
            }
        };
        let Some(writes) = tables.get_mut(at) else {
            continue;
        };
        let key = &*put.place.key;
        writes.keys.push(key);
        writes.times.push(put.at);
        let Some(stored) = &put.stored else {
            writes.deletes.push(key);
            continue;
        };
        let map = rows::to_write(&stored.fields, before.of(&put.place));
        let cells = rows::cells(&writes.served, key, map).map_err(|why| {
            let place = &put.place;
            shared.terminal(
                Code::StoreShape,
                format!(
                    "nothing was written: {:?} cannot be held: {why}",
                    place.path()
                ),
            )
        })?;
        let rows = match there {
            true => &mut writes.updates,
            false => &mut writes.inserts,
        };
        rows.puts.push(put);
        rows.cells.push(cells);
    }
    Ok(tables)
}
