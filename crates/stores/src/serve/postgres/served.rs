//! A table as a served collection: how its keys are named, and the statements that go from keys to rows.

use crate::postgres::keys::{self, KeyColumn, Part};
use crate::postgres::table::{Payload, Table, quoted};
use crate::postgres::wire::Wire;
use std::ops::Bound;
use std::sync::Arc;
use whimbrel_firestore::Micros;
use whimbrel_model::{Key, KeyKind};

/// The longest key that PostgreSQL's indexes are sure to take, with what stands beside it in them.
pub(super) const KEY_BYTES: usize = 2600;

/// A collection and its table.
#[derive(Debug)]
pub(super) struct Served {
    pub id: i32,
    pub collection: Arc<str>,
    pub table: Table,
    /// Quoted, with its schema.
    pub name: String,
    /// Whether what is put is what is held: one JSON column, in tagged JSON, and no triggers of the app's own that
    /// change rows before they are written.
    pub exact: bool,
    /// The catalogue's row of the table: another one after every change of its shape.
    pub version: String,
    /// The columns that the table has and had, by name and in their order, the present ones first.
    pub shapes: Vec<Vec<String>>,
    pub sql: Statements,
}

/// In each, `s.k` are keys as texts and `s.o` their ordinals.
#[derive(Debug)]
pub(super) struct Statements {
    /// Parameters: keys, ordinals. Columns: ordinal, payload, created, updated.
    pub get: String,
    /// Locks the rows. Parameters: keys.
    pub lock: String,
    /// Notes what the documents are before a commit. Parameters: keys, times.
    pub note: String,
    /// Parameters: key parts, payload. Where the table is not exact: key, payload as they are held.
    pub insert: String,
    /// Parameters: keys, payload. The same columns.
    pub update: String,
    /// Parameters: keys.
    pub delete: String,
    /// Whether there is any row.
    pub any: String,
    /// The types of the payload's arrays.
    pub wires: Vec<Wire>,
    key: String,
    walked: String,
    name: String,
    with_times: String,
}

/// The key as a text whose order is that of its bytes. `None`: not every text of it is known.
pub(super) fn key_expression(keys: &[KeyColumn], in_order: bool, alias: &str) -> Option<String> {
    let name = |key: &KeyColumn| format!("{alias}{}", quoted(&key.name));
    match keys {
        [one] if one.part == Part::Text && in_order => Some(name(one)),
        all => {
            let parts: Option<Vec<String>> = all
                .iter()
                .map(|key| match key.part {
                    Part::Cast(_) => None,
                    Part::Text | Part::Int(_) | Part::Uuid => Some(format!("{}::text", name(key))),
                })
                .collect();
            Some(format!("(({}) COLLATE \"C\")", parts?.join(" || '/' || ")))
        }
    }
}

/// What the log keeps of a row: the JSON column, or all columns as a row's text (it names none of them: whoever
/// drops a column must not find the trigger broken).
pub(super) fn old_expression(payload: &Payload, row: Row) -> String {
    match (payload, row) {
        (Payload::Json { name, .. }, Row::Old) => format!("OLD.{}::text", quoted(name)),
        (Payload::Json { name, .. }, Row::Table) => format!("t.{}::text", quoted(name)),
        (Payload::Columns { .. }, Row::Old) => "OLD::text".to_owned(),
        (Payload::Columns { .. }, Row::Table) => "(t.*)::text".to_owned(),
    }
}

/// Which row is meant: a trigger's, or that of the table `t`.
#[derive(Clone, Copy)]
pub(super) enum Row {
    Old,
    Table,
}

/// The payload's columns of the row `t`, as [`super::rows`] reads them.
fn payload_columns(payload: &Payload) -> Vec<String> {
    match payload {
        Payload::Json { name, .. } => vec![format!("t.{}", quoted(name))],
        Payload::Columns { fields, rest } => fields
            .iter()
            .chain(rest)
            .map(|field| format!("t.{}::text", quoted(&field.name)))
            .collect(),
    }
}

/// A payload column that is written: name, type on the wire, and what that is cast to.
fn written(payload: &Payload) -> Vec<(String, Wire, String)> {
    match payload {
        Payload::Json { name, wire } => vec![(quoted(name), *wire, String::new())],
        Payload::Columns { fields, rest } => fields
            .iter()
            .chain(rest)
            .filter(|field| field.is_written())
            .map(|field| (quoted(&field.name), Wire::Text, format!("::{}", field.cast)))
            .collect(),
    }
}

impl Statements {
    // tidy: long because it is a list of the statements, one after the other.
    pub fn new(
        side: &str,
        id: i32,
        name: &str,
        table: &Table,
        exact: bool,
        adopted: Micros,
    ) -> Option<Self> {
        let key = key_expression(&table.keys, table.key_order, "t.")?;
        let payload = payload_columns(&table.payload).join(", ");
        let written = written(&table.payload);
        let times = format!("coalesce(tm.created, {adopted}), coalesce(tm.updated, {adopted})");
        let with_times =
            format!("LEFT JOIN {side}.time tm ON tm.collection = {id} AND tm.key = {key}");
        let keyed = "(SELECT unnest($1::text[]) AS k, unnest($2::int4[]) AS o) s";
        let first = quoted(&table.keys.first()?.name);
        let returning = match exact {
            true => String::new(),
            false => format!(" RETURNING {key}, {payload}"),
        };
        let parts = table.keys.len();
        let unnested = |from: usize| -> Vec<String> {
            let wires = written.iter().enumerate();
            wires
                .map(|(i, (_, wire, _))| format!("unnest(${}::{}[]) AS f{i}", from + i, wire.sql()))
                .collect()
        };
        let values = || {
            let all = written.iter().enumerate();
            all.map(|(i, (_, _, cast))| format!("s.f{i}{cast}"))
        };
        let mut inserted: Vec<String> = (0..parts)
            .map(|i| format!("unnest(${}::text[]) AS k{i}", i + 1))
            .collect();
        inserted.extend(unnested(parts + 1));
        let columns: Vec<String> = table
            .keys
            .iter()
            .map(|key| quoted(&key.name))
            .chain(written.iter().map(|(name, ..)| name.clone()))
            .collect();
        let inserts: Vec<String> = table
            .keys
            .iter()
            .enumerate()
            .map(|(i, key)| match key.part {
                Part::Int(_) => format!("s.k{i}::int8"),
                Part::Uuid => format!("s.k{i}::uuid"),
                _ => format!("s.k{i}"),
            })
            .chain(values())
            .collect();
        let mut updated = vec!["unnest($1::text[]) AS k".to_owned()];
        updated.extend(unnested(2));
        let mut sets: Vec<String> = written
            .iter()
            .zip(values())
            .map(|((name, ..), value)| format!("{name} = {value}"))
            .collect();
        if sets.is_empty() {
            // A table of nothing but its key.
            sets.push(format!("{first} = t.{first}"));
        }
        let there = format!("t.{first} IS NOT NULL");
        let old = old_expression(&table.payload, Row::Table);
        Some(Self {
            get: format!(
                "SELECT s.o, {payload}, {times} FROM {keyed} JOIN {name} t ON {key} = s.k {with_times}"
            ),
            lock: format!(
                "SELECT FROM (SELECT unnest($1::text[]) AS k) s JOIN {name} t ON {key} = s.k FOR UPDATE OF t"
            ),
            note: format!(
                "INSERT INTO {side}.log (collection, key, at, writer, open, old, created, updated) \
                 SELECT {id}, s.k, s.a, 0, false, CASE WHEN {there} THEN {old} END, \
                   CASE WHEN {there} THEN coalesce(tm.created, {adopted}) END, \
                   CASE WHEN {there} THEN coalesce(tm.updated, {adopted}) END \
                 FROM (SELECT unnest($1::text[]) AS k, unnest($2::int8[]) AS a) s \
                 LEFT JOIN {name} t ON {key} = s.k \
                 LEFT JOIN {side}.time tm ON tm.collection = {id} AND tm.key = s.k"
            ),
            insert: format!(
                "INSERT INTO {name} AS t ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM (SELECT {}) s{returning}",
                columns.join(", "),
                inserts.join(", "),
                inserted.join(", ")
            ),
            update: format!(
                "UPDATE {name} t SET {} FROM (SELECT {}) s WHERE {key} = s.k{returning}",
                sets.join(", "),
                updated.join(", ")
            ),
            delete: format!(
                "DELETE FROM {name} t USING (SELECT unnest($1::text[]) AS k) s WHERE {key} = s.k"
            ),
            any: format!("EXISTS (SELECT FROM {name})"),
            wires: written.iter().map(|(_, wire, _)| *wire).collect(),
            walked: format!("{key}, {payload}, {times}"),
            name: name.to_owned(),
            with_times,
            key,
        })
    }

    /// The next rows between two keys. Parameters: the bounds that there are, then the limit. Columns: key, and
    /// (where `documents`) payload, created, updated.
    pub fn walk(
        &self,
        from: &Bound<String>,
        to: &Bound<String>,
        descending: bool,
        documents: bool,
    ) -> String {
        let (range, next) = conditions(&self.key, from, to, 1);
        let columns = if documents { &self.walked } else { &self.key };
        let direction = if descending { " DESC" } else { "" };
        format!(
            "SELECT {columns} FROM {} t {} WHERE true{range} ORDER BY {}{direction} LIMIT ${next}::int8",
            self.name,
            if documents { &self.with_times } else { "" },
            self.key
        )
    }

    /// Parameters as of [`Self::walk`].
    pub fn count(&self, from: &Bound<String>, to: &Bound<String>) -> String {
        let (range, next) = conditions(&self.key, from, to, 1);
        format!(
            "SELECT count(*) FROM (SELECT FROM {} t WHERE true{range} LIMIT ${next}::int8) counted",
            self.name
        )
    }
}

/// Conditions on a column, each with AND before it, and the number of the first placeholder behind them.
pub(super) fn conditions<T>(
    column: &str,
    from: &Bound<T>,
    to: &Bound<T>,
    first: usize,
) -> (String, usize) {
    let mut conditions = String::new();
    let mut next = first;
    for (bound, sign) in [(from, ">"), (to, "<")] {
        let equal = match bound {
            Bound::Unbounded => continue,
            Bound::Included(_) => "=",
            Bound::Excluded(_) => "",
        };
        conditions.push_str(&format!(" AND {column} {sign}{equal} ${next}"));
        next += 1;
    }
    (conditions, next)
}

impl Served {
    /// The table's key of a document's.
    ///
    /// # Errors
    /// Why no row can have it.
    pub fn key(&self, key: &str) -> Result<Key, String> {
        if key.len() > KEY_BYTES {
            return Err(format!(
                "the document's ids are longer than {KEY_BYTES} bytes"
            ));
        }
        let parts: Vec<&str> = match self.table.keys.len() {
            1 => vec![key],
            _ => key.split('/').collect(),
        };
        if parts.len() != self.table.keys.len() {
            return Err(format!(
                "the table's key has {} columns",
                self.table.keys.len()
            ));
        }
        let mut typed = Vec::with_capacity(parts.len());
        for (text, column) in parts.into_iter().zip(&self.table.keys) {
            let kind = column.part.kind();
            let part = match kind {
                KeyKind::Text => Some(Key::text(text)),
                _ => Key::parse(text, &kind).filter(|part| part.to_string() == text),
            };
            typed.push(part.ok_or_else(|| {
                format!(
                    "the table's key column {:?} cannot hold such an id",
                    column.name
                )
            })?);
        }
        let key = match typed.len() {
            1 => typed.swap_remove(0),
            _ => Key::Tuple(typed),
        };
        keys::fits(&self.table.keys, &key)?;
        Ok(key)
    }
}
