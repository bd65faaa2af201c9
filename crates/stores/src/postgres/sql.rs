//! The statements for one table. Names are quoted, values are bound.
//!
//! A batch travels as one array a column. `unnest` stands in the select list of a subquery, not in FROM:
//! there PostgreSQL would first copy all of it into a tuple store (and, beyond `work_mem`, to disk).

use super::keys::{self, KeyColumn, Part};
use super::table::{Payload, quoted};
use super::wire::Wire;

#[derive(Debug)]
pub(super) struct Sql {
    table: String,
    keys: Vec<Part>,
    /// Quoted, with the table's alias: `t."id"`.
    columns: Vec<String>,
    select: String,
    /// Reads the rows of many keys. Parameters: keys, ordinals. Columns: ordinal, revision, payload.
    pub get: String,
    /// Which of many keys exist. Parameters: keys, ordinals. Columns: ordinal.
    pub existing: String,
    /// Parameters: keys, payload.
    pub insert_absent: String,
    /// Parameters: keys, payload.
    pub upsert: String,
    /// Parameters: keys, payload, ordinals, revisions. Columns: ordinal.
    pub update: String,
    /// Parameters: keys.
    pub delete: String,
    /// Parameters: keys, ordinals, revisions. Columns: ordinal.
    pub delete_unchanged: String,
    pub copy_binary: String,
    pub copy_text: String,
    /// The types of the payload's arrays.
    pub payload_wires: Vec<Wire>,
}

/// Numbers placeholders and collects the columns of the subquery `s`.
struct Source {
    next: usize,
    items: Vec<String>,
}

impl Source {
    fn new() -> Self {
        Self {
            next: 1,
            items: Vec::new(),
        }
    }

    fn add(&mut self, wire: Wire, name: &str) {
        self.items.push(format!(
            "unnest(${}::{}[]) AS {name}",
            self.next,
            wire.sql()
        ));
        self.next += 1;
    }

    fn keys(mut self, keys: &[KeyColumn]) -> Self {
        for (i, key) in keys.iter().enumerate() {
            self.add(key.part.wire(), &format!("k{i}"));
        }
        self
    }

    fn payload(mut self, wires: &[Wire]) -> Self {
        for (i, wire) in wires.iter().enumerate() {
            self.add(*wire, &format!("f{i}"));
        }
        self
    }

    fn ordinals(mut self) -> Self {
        self.add(Wire::Int4, "o");
        self
    }

    fn revisions(mut self) -> Self {
        self.add(Wire::Xid, "x");
        self
    }

    fn sql(&self) -> String {
        format!("(SELECT {}) s", self.items.join(", "))
    }
}

/// One writable payload column: its name, its parameter's type, and what that is cast to.
struct Written {
    name: String,
    wire: Wire,
    cast: Option<String>,
}

fn written(payload: &Payload) -> Vec<Written> {
    match payload {
        Payload::Json { name, wire } => vec![Written {
            name: quoted(name),
            wire: *wire,
            cast: None,
        }],
        Payload::Columns { fields, rest } => fields
            .iter()
            .chain(rest)
            .filter(|field| field.is_written())
            .map(|field| Written {
                name: quoted(&field.name),
                wire: Wire::Text,
                cast: Some(field.cast.clone()),
            })
            .collect(),
    }
}

fn selected(payload: &Payload) -> String {
    match payload {
        Payload::Json { name, .. } => format!("t.{}", quoted(name)),
        Payload::Columns { fields, rest } => {
            let names: Vec<String> = fields
                .iter()
                .chain(rest)
                .map(|field| format!("t.{}::text", quoted(&field.name)))
                .collect();
            names.join(", ")
        }
    }
}

impl Sql {
    // tidy: long because it is a list of the statements, one after the other.
    pub fn new(table: &str, keys: &[KeyColumn], payload: &Payload) -> Self {
        let columns: Vec<String> = keys
            .iter()
            .map(|k| format!("t.{}", quoted(&k.name)))
            .collect();
        let names: Vec<String> = keys.iter().map(|k| quoted(&k.name)).collect();
        let written = written(payload);
        let wires: Vec<Wire> = written.iter().map(|w| w.wire).collect();
        let same = same_key(keys);
        let select = selected(payload);
        let values: Vec<String> = keys
            .iter()
            .enumerate()
            .map(|(i, key)| key.part.cast(&format!("s.k{i}")))
            .chain(written.iter().enumerate().map(|(i, w)| match &w.cast {
                Some(cast) => format!("s.f{i}::{cast}"),
                None => format!("s.f{i}"),
            }))
            .collect();
        let all_names: Vec<String> = names
            .iter()
            .cloned()
            .chain(written.iter().map(|w| w.name.clone()))
            .collect();
        let sets: Vec<String> = written
            .iter()
            .zip(&values[keys.len()..])
            .map(|(w, value)| format!("{} = {value}", w.name))
            .collect();
        let excluded: Vec<String> = written
            .iter()
            .map(|w| format!("{0} = excluded.{0}", w.name))
            .collect();
        // A table of nothing but its key still has to change its revision.
        let sets = if sets.is_empty() {
            format!("{0} = t.{0}", names[0])
        } else {
            sets.join(", ")
        };
        let excluded = if excluded.is_empty() {
            format!("{0} = excluded.{0}", names[0])
        } else {
            excluded.join(", ")
        };
        let rows = Source::new().keys(keys).payload(&wires);
        let found = Source::new().keys(keys).ordinals().sql();
        let guarded = Source::new().keys(keys).ordinals().revisions().sql();
        let insert = format!(
            "INSERT INTO {table} AS t ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} ON CONFLICT ({})",
            all_names.join(", "),
            values.join(", "),
            rows.sql(),
            names.join(", ")
        );
        let copied = all_names.join(", ");
        Self {
            get: format!("SELECT s.o, t.xmin, {select} FROM {found} JOIN {table} t ON {same}"),
            existing: format!("SELECT s.o FROM {found} JOIN {table} t ON {same}"),
            insert_absent: format!("{insert} DO NOTHING"),
            upsert: format!("{insert} DO UPDATE SET {excluded}"),
            update: format!(
                "UPDATE {table} t SET {sets} FROM {} WHERE {same} AND t.xmin = s.x RETURNING s.o",
                Source::new()
                    .keys(keys)
                    .payload(&wires)
                    .ordinals()
                    .revisions()
                    .sql()
            ),
            delete: format!(
                "DELETE FROM {table} t USING {} WHERE {same}",
                Source::new().keys(keys).sql()
            ),
            delete_unchanged: format!(
                "DELETE FROM {table} t USING {guarded} WHERE {same} AND t.xmin = s.x RETURNING s.o"
            ),
            copy_binary: format!("COPY {table} ({copied}) FROM STDIN (FORMAT binary)"),
            copy_text: format!("COPY {table} ({copied}) FROM STDIN"),
            payload_wires: wires,
            keys: keys.iter().map(|k| k.part.clone()).collect(),
            select: format!("{}, t.xmin, {select}", keys::select_list(keys)),
            columns,
            table: table.to_owned(),
        }
    }

    /// The next rows of a range: keys, revision, payload. Parameters: the range's bounds, then the limit.
    pub fn scan(&self, after: bool, through: bool) -> String {
        let (range, next) = self.range(after, through);
        format!(
            "SELECT {} FROM {} t{range} ORDER BY {} LIMIT ${next}::int8",
            self.select,
            self.table,
            self.columns.join(", ")
        )
    }

    pub fn count(&self, after: bool, through: bool) -> String {
        let (range, _) = self.range(after, through);
        format!("SELECT count(*) FROM {} t{range}", self.table)
    }

    /// Digests of a range, cell by cell. Columns: part, cell, rows, rows with a body, sum of hashes.
    /// Parameters: the range's bounds, then (where there are `cuts`) the cuts as an array.
    ///
    /// A body's text is made only once, and by as many processes as the server likes: the expression stands once,
    /// and nothing keeps the subquery from being pulled up.
    pub fn digests(&self, hashes: &Hashes<'_>, after: bool, through: bool, cuts: bool) -> String {
        let (range, next) = self.range(after, through);
        format!(
            "SELECT s.p, s.c, count(*), count(s.b), sum(s.h)::text \
             FROM (SELECT {} AS p, {} AS c, {} AS b, {} AS h FROM {} t{range}) s GROUP BY s.p, s.c",
            self.part(cuts.then_some(next)),
            hashes.cell(),
            hashes.there,
            hashes.row(),
            self.table
        )
    }

    /// The rows of some cells: keys, the row's hash, the cell's number (part × cells + cell). Parameters: as of
    /// [`Self::digests`], then the cells' numbers as an array.
    pub fn digest_lines(
        &self,
        keys: &[KeyColumn],
        hashes: &Hashes<'_>,
        after: bool,
        through: bool,
        cuts: bool,
    ) -> String {
        let (range, next) = self.range(after, through);
        let part = self.part(cuts.then_some(next));
        let number = format!("({part}) * {}::int8 + {}", hashes.cells, hashes.cell());
        let and = if range.is_empty() { "WHERE" } else { "AND" };
        format!(
            "SELECT {}, {}, {number} FROM {} t{range} {and} {number} = ANY (${}::int8[])",
            keys::select_list(keys),
            hashes.row(),
            self.table,
            next + usize::from(cuts)
        )
    }

    /// How many cuts lie before the row's key: `width_bucket` also counts the one that is the key.
    fn part(&self, cuts: Option<usize>) -> String {
        let (Some(at), [key], [column]) = (cuts, self.keys.as_slice(), self.columns.as_slice())
        else {
            return "0".to_owned();
        };
        let cuts = match key {
            Part::Cast(kind) => format!("(${at}::text[])::{kind}[]"),
            part => format!("${at}::{}[]", part.wire().sql()),
        };
        let column = match key {
            Part::Int(_) => format!("{column}::int8"),
            Part::Text => format!("{column}::text"),
            _ => column.clone(),
        };
        format!("width_bucket({column}, {cuts}) - ({column} = ANY ({cuts}))::int4")
    }

    /// The greatest key of a range.
    pub fn greatest(&self, keys: &[KeyColumn], after: bool, through: bool) -> String {
        let (range, _) = self.range(after, through);
        let order: Vec<String> = self.columns.iter().map(|c| format!("{c} DESC")).collect();
        format!(
            "SELECT {} FROM {} t{range} ORDER BY {} LIMIT 1",
            keys::select_list(keys),
            self.table,
            order.join(", ")
        )
    }

    /// Keys of a sample of the table's pages, in order; all keys of the range where there is no `percent`.
    /// Every n-th of them is given. Parameters: the range's bounds, then n.
    pub fn sample(
        &self,
        keys: &[KeyColumn],
        after: bool,
        through: bool,
        percent: Option<f64>,
    ) -> String {
        let (range, next) = self.range(after, through);
        let sample = percent
            .map(|percent| format!(" TABLESAMPLE SYSTEM ({percent:.4}) REPEATABLE (1)"))
            .unwrap_or_default();
        let columns = self.columns.join(", ");
        let inner: Vec<String> = keys.iter().map(|k| quoted(&k.name)).collect();
        format!(
            "SELECT {} FROM (SELECT {columns}, row_number() OVER (ORDER BY {columns}) AS \" n\" \
             FROM {} t{sample}{range}) t WHERE t.\" n\" % ${next}::int8 = 0 ORDER BY {}",
            keys::select_list(keys),
            self.table,
            inner
                .iter()
                .map(|c| format!("t.{c}"))
                .collect::<Vec<_>>()
                .join(", ")
        )
    }

    fn tuple(&self) -> String {
        match self.columns.as_slice() {
            [one] => one.clone(),
            many => format!("({})", many.join(", ")),
        }
    }

    fn marks(&self, from: usize) -> String {
        let marks: Vec<String> = self
            .keys
            .iter()
            .enumerate()
            .map(|(i, part)| part.cast(&format!("${}::{}", from + i, part.wire().sql())))
            .collect();
        match marks.as_slice() {
            [one] => one.clone(),
            many => format!("({})", many.join(", ")),
        }
    }

    /// The condition, and the number of the first placeholder behind it.
    fn range(&self, after: bool, through: bool) -> (String, usize) {
        let mut conditions = Vec::new();
        let mut next = 1;
        if after {
            conditions.push(format!("{} > {}", self.tuple(), self.marks(next)));
            next += self.keys.len();
        }
        if through {
            conditions.push(format!("{} <= {}", self.tuple(), self.marks(next)));
            next += self.keys.len();
        }
        if conditions.is_empty() {
            (String::new(), next)
        } else {
            (format!(" WHERE {}", conditions.join(" AND ")), next)
        }
    }
}

/// What digests are made of.
pub(crate) struct Hashes<'a> {
    /// The key's and the body's text, as expressions.
    pub key: &'a str,
    pub body: &'a str,
    /// NULL where the row has no body.
    pub there: &'a str,
    /// How many cells a part has.
    pub cells: u32,
}

impl Hashes<'_> {
    // A collation other than "C" could hash equal what is not the same.
    fn key(&self) -> String {
        format!("hashtextextended({} COLLATE \"C\", 0)", self.key)
    }

    fn cell(&self) -> String {
        format!("({} & {})", self.key(), self.cells.saturating_sub(1))
    }

    fn row(&self) -> String {
        format!(
            "hashtextextended({} COLLATE \"C\", {})",
            self.body,
            self.key()
        )
    }
}

/// A type of other equality (`citext`) finds the row; the second condition makes sure.
fn same_key(keys: &[KeyColumn]) -> String {
    let parts: Vec<String> = keys
        .iter()
        .enumerate()
        .map(|(i, key)| {
            let (column, sent) = (format!("t.{}", quoted(&key.name)), format!("s.k{i}"));
            let equal = format!("{column} = {}", key.part.cast(&sent));
            match key.part {
                Part::Cast(_) => format!("{equal} AND {column}::text = {sent}"),
                _ => equal,
            }
        })
        .collect();
    parts.join(" AND ")
}
