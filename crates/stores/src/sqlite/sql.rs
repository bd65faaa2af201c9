//! The statements for one table. Names are quoted, values are bound.

use super::key::KeyColumn;

/// `"` doubled, so that any name is only a name.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[derive(Debug)]
pub(crate) struct Sql {
    table: String,
    index: String,
    keys: Vec<String>,
    select: String,
    payload: Vec<String>,
    by_key: String,
    rowid: Option<&'static str>,
    nullable: bool,
    /// Reads one row by its key.
    pub(super) get: String,
    /// Deletes one row by its key.
    pub(crate) delete: String,
    /// Inserts key and payload. In layout `columns` the payload holds the key.
    pub(super) insert: String,
    /// Inserts key and payload, or does nothing where the key is.
    pub(super) insert_absent: String,
    /// Layout `json`: inserts key and data, or replaces the data.
    pub(crate) upsert: String,
    /// Layout `json`: sets the data of the row that `locate` binds.
    pub(super) update: String,
}

impl Sql {
    pub(super) fn new(
        table: &str,
        keys: &[KeyColumn],
        rowid: Option<&'static str>,
        index: &str,
        payload: &[&str],
    ) -> Self {
        let table = quote(table);
        let names: Vec<String> = keys.iter().map(|k| quote(&k.name)).collect();
        let payload: Vec<String> = payload.iter().map(|n| quote(n)).collect();
        let select = format!(
            "{}, {}, {}",
            names.join(", "),
            rowid.unwrap_or("NULL"),
            if payload.is_empty() {
                "NULL".to_owned()
            } else {
                payload.join(", ")
            },
        );
        let by_key = by_key(keys);
        let row = match rowid {
            Some(rowid) => format!("{rowid} = ?1"),
            None => by_key.clone(),
        };
        let mut columns = names.clone();
        columns.extend(payload.iter().filter(|p| !names.contains(p)).cloned());
        let marks: Vec<String> = (1..=columns.len()).map(|i| format!("?{i}")).collect();
        let insert = format!(
            "INSERT OR ABORT INTO {table} ({}) VALUES ({})",
            columns.join(", "),
            marks.join(", ")
        );
        let conflict = names.join(", ");
        let data = payload.first().cloned().unwrap_or_default();
        let after_row = if rowid.is_some() { 2 } else { keys.len() + 1 };
        Self {
            get: format!("SELECT {select} FROM {table} WHERE {by_key}"),
            delete: format!("DELETE FROM {table} WHERE {by_key}"),
            insert_absent: if keys.iter().all(|k| k.binary || k.rowid) {
                format!("{insert} ON CONFLICT ({conflict}) DO NOTHING")
            } else {
                insert.clone()
            },
            upsert: format!(
                "{insert} ON CONFLICT ({conflict}) DO UPDATE SET {data} = excluded.{data}"
            ),
            update: format!("UPDATE OR ABORT {table} SET {data} = ?{after_row} WHERE {row}"),
            insert,
            nullable: keys.iter().any(|k| k.nullable),
            table,
            index: index.to_owned(),
            keys: names,
            select,
            payload,
            by_key,
            rowid,
        }
    }

    /// The table, read along the key's own index.
    pub(crate) fn indexed(&self, alias: &str) -> String {
        format!("{} AS {alias} {}", self.table, self.index)
    }

    /// The payload's first column.
    pub(crate) fn data(&self) -> &str {
        self.payload.first().map_or("NULL", String::as_str)
    }

    fn tuple(&self) -> String {
        match self.keys.as_slice() {
            [one] => one.clone(),
            many => format!("({})", many.join(", ")),
        }
    }

    fn marks(&self, from: usize) -> String {
        let marks: Vec<String> = (from..from + self.keys.len())
            .map(|i| format!("?{i}"))
            .collect();
        match marks.as_slice() {
            [one] => one.clone(),
            many => format!("({})", many.join(", ")),
        }
    }

    /// All rows behind the bound key in order; the last column says whether a row lies beyond the second
    /// bound key. A reader stops there: as a condition it would lose rows whose key holds NULL.
    pub(super) fn scan(&self, after: bool, through: bool) -> String {
        let tuple = self.tuple();
        let mut next = 1;
        let mut condition = String::new();
        if after {
            condition = format!(" WHERE {tuple} > {}", self.marks(next));
            next += self.keys.len();
        }
        let beyond = if through {
            format!("{tuple} > {}", self.marks(next))
        } else {
            "0".to_owned()
        };
        format!(
            "SELECT {}, {beyond} FROM {} {}{condition} ORDER BY {}",
            self.select,
            self.table,
            self.index,
            self.keys.join(", ")
        )
    }

    /// Keys and row ids of a range in order, or backwards.
    pub(super) fn walk(&self, after: bool, through: bool, backwards: bool) -> String {
        let direction = if backwards { " DESC" } else { "" };
        let order: Vec<String> = self
            .keys
            .iter()
            .map(|k| format!("{k}{direction}"))
            .collect();
        format!(
            "SELECT {}, {} FROM {} {}{} ORDER BY {}",
            self.keys.join(", "),
            self.rowid.unwrap_or("NULL"),
            self.table,
            self.index,
            self.range(after, through),
            order.join(", ")
        )
    }

    /// Row ids from the first bound number to the second, or backwards.
    pub(super) fn rowids_between(&self, backwards: bool) -> String {
        let (rowid, table) = (self.row(), &self.table);
        let direction = if backwards { "DESC" } else { "ASC" };
        format!(
            "SELECT {rowid} FROM {table} NOT INDEXED WHERE {rowid} BETWEEN ?1 AND ?2 ORDER BY {rowid} {direction}"
        )
    }

    /// Rows from the first bound row id to the second.
    pub(super) fn scan_rowids(&self) -> String {
        let (rowid, table, select) = (self.row(), &self.table, &self.select);
        format!(
            "SELECT {select} FROM {table} NOT INDEXED WHERE {rowid} BETWEEN ?1 AND ?2 ORDER BY {rowid}"
        )
    }

    /// What a row's id is called: where all its names are columns', the key is the row id.
    fn row(&self) -> String {
        self.rowid.map_or_else(|| self.tuple(), str::to_owned)
    }

    pub(super) fn count(&self, after: bool, through: bool) -> String {
        format!(
            "SELECT COUNT(*) FROM {}{}",
            self.table,
            self.range(after, through)
        )
    }

    fn range(&self, after: bool, through: bool) -> String {
        let tuple = self.tuple();
        let mut conditions = Vec::new();
        let mut next = 1;
        if after {
            conditions.push(format!("{tuple} > {}", self.marks(next)));
            next += self.keys.len();
        }
        if through {
            let marks = self.marks(next);
            conditions.push(if self.nullable && !(after && self.keys.len() == 1) {
                // NULL sorts before everything, so a row that cannot be compared is not beyond.
                format!("({tuple} > {marks}) IS NOT TRUE")
            } else {
                format!("{tuple} <= {marks}")
            });
        }
        if conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", conditions.join(" AND "))
        }
    }

    /// Sets the payload columns at `changed`; the row is bound first.
    pub(super) fn update_columns(&self, changed: &[usize]) -> String {
        let (row, mut next) = match self.rowid {
            Some(rowid) => (format!("{rowid} = ?1"), 2),
            None => (self.by_key.clone(), self.keys.len() + 1),
        };
        let mut sets = Vec::with_capacity(changed.len());
        for &i in changed {
            sets.push(format!("{} = ?{next}", self.payload[i]));
            next += 1;
        }
        format!(
            "UPDATE OR ABORT {} SET {} WHERE {row}",
            self.table,
            sets.join(", ")
        )
    }
}

/// A collation that takes different texts for the same finds the row; the second condition makes sure.
fn by_key(keys: &[KeyColumn]) -> String {
    let parts: Vec<String> = keys
        .iter()
        .enumerate()
        .map(|(i, key)| {
            let (name, mark) = (quote(&key.name), i + 1);
            if key.rowid || key.binary {
                format!("{name} = ?{mark}")
            } else {
                format!("{name} = ?{mark} AND {name} COLLATE BINARY = ?{mark}")
            }
        })
        .collect();
    parts.join(" AND ")
}
