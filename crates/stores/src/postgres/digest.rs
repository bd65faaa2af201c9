//! Digests of rows, computed by the server: sums of 64-bit hashes of each row's text, the hash of the row's key
//! being the seed. No row leaves the server.

use super::PgStore;
use super::connect::{BY_KEY, WHOLE_TABLE};
use super::keys::{self, KeyColumn, Part};
use super::read::Bounds;
use super::sql::Hashes;
use super::table::{Payload, Table, quoted};
use super::wire::{Many, Params, Wire};
use deadpool_postgres::Client;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use tokio_postgres::{Error, Row};
use whimbrel_model::{Cell, Cells, Digest, DigestLine, Digests, Key, KeyRange, StoreError};

/// See [`whimbrel_model::Store::digests`].
pub(super) async fn digests(
    store: &PgStore,
    client: &Client,
    table: &Table,
    cells: &Cells,
) -> Result<Option<Digests>, StoreError> {
    let asked = Asked::new(store, client, table, cells);
    let mut found = BTreeMap::new();
    for (first, range, cuts) in asked.passes() {
        let (after, through) = (range.after.is_some(), range.through.is_some());
        let hashes = asked.hashes();
        let sql = table.sql.digests(&hashes, after, through, !cuts.is_empty());
        for row in asked.rows(&sql, &range, cuts, None).await? {
            let (cell, digest) = asked.digest(&row)?;
            found.insert((first + cell.0, cell.1), digest);
        }
    }
    Ok(Some(Digests {
        kind: asked.kind().await?,
        cells: found,
    }))
}

/// See [`whimbrel_model::Store::digest_lines`].
pub(super) async fn lines(
    store: &PgStore,
    client: &Client,
    table: &Table,
    cells: &Cells,
    wanted: &[Cell],
) -> Result<Option<Vec<DigestLine>>, StoreError> {
    let asked = Asked::new(store, client, table, cells);
    let mut lines = Vec::new();
    for (first, range, cuts) in asked.passes() {
        let (after, through) = (range.after.is_some(), range.through.is_some());
        let last = first + u32::try_from(cuts.len()).unwrap_or(u32::MAX);
        let numbers: Vec<i64> = wanted
            .iter()
            .filter(|(part, _)| (first..=last).contains(part))
            .map(|(part, cell)| i64::from(part - first) * i64::from(cells.each) + i64::from(*cell))
            .collect();
        if numbers.is_empty() {
            continue;
        }
        let hashes = asked.hashes();
        let sql = table
            .sql
            .digest_lines(&table.keys, &hashes, after, through, !cuts.is_empty());
        for row in asked.rows(&sql, &range, cuts, Some(&numbers)).await? {
            let key = keys::decode(&table.keys, &row)
                .map_err(|why| store.misfit(&table.collection, &why))?;
            lines.push(asked.line(first, key, &row)?);
        }
    }
    Ok(Some(lines))
}

struct Asked<'a> {
    store: &'a PgStore,
    client: &'a Client,
    table: &'a Table,
    cells: &'a Cells,
    key: String,
    body: String,
    there: String,
}

impl<'a> Asked<'a> {
    fn new(store: &'a PgStore, client: &'a Client, table: &'a Table, cells: &'a Cells) -> Self {
        Self {
            store,
            client,
            table,
            cells,
            key: key_text(&table.keys),
            body: body_text(&table.payload),
            there: match &table.payload {
                Payload::Json { name, .. } => format!("t.{}", quoted(name)),
                Payload::Columns { .. } => "0".to_owned(),
            },
        }
    }

    fn hashes(&self) -> Hashes<'_> {
        Hashes {
            key: &self.key,
            body: &self.body,
            there: &self.there,
            cells: self.cells.each,
        }
    }

    fn failed(&self, error: Error) -> StoreError {
        let doing = format!(
            "computing digests of collection {:?}",
            self.table.collection
        );
        self.store.failed(self.table, &doing, error)
    }

    /// The statements to run: the number of the first part, its range, and its cuts. Keys of several columns
    /// cannot be cut by the server, so there each part is a statement.
    fn passes(&self) -> Vec<(u32, KeyRange, &'a [Key])> {
        let Cells { range, cuts, .. } = self.cells;
        if self.table.keys.len() == 1 || cuts.is_empty() {
            return vec![(0, range.clone(), cuts.as_slice())];
        }
        let ends = cuts.iter().map(|cut| Some(cut.clone()));
        let mut after = range.after.clone();
        let ranges = ends.chain([range.through.clone()]).map(|through| KeyRange {
            after: std::mem::replace(&mut after, through.clone()),
            through,
        });
        (0..)
            .zip(ranges)
            .map(|(part, range)| (part, range, &[][..]))
            .collect()
    }

    async fn rows(
        &self,
        sql: &str,
        range: &KeyRange,
        cuts: &[Key],
        numbers: Option<&[i64]>,
    ) -> Result<Vec<Row>, StoreError> {
        let bounds = Bounds::new(self.table, range);
        let mut params: Params<'_> = bounds.params();
        let ends = self.table.keys.first().map(|key| Many {
            wire: key.part.wire(),
            items: cuts.iter().collect(),
        });
        if let (false, Some(ends)) = (cuts.is_empty(), &ends) {
            params.push(ends);
        }
        let numbers = numbers.map(|numbers| Many {
            wire: Wire::Int8,
            items: numbers.iter().collect(),
        });
        if let Some(numbers) = &numbers {
            params.push(numbers);
        }
        let failed = |error| self.failed(error);
        self.client
            .batch_execute(WHOLE_TABLE)
            .await
            .map_err(failed)?;
        let rows = match self.client.prepare(sql).await {
            Ok(statement) => self.client.query(&statement, &params).await,
            Err(error) => Err(error),
        };
        let reset = self.client.batch_execute(BY_KEY).await;
        let rows = rows.map_err(failed)?;
        reset.map_err(failed)?;
        Ok(rows)
    }

    fn digest(&self, row: &Row) -> Result<(Cell, Digest), StoreError> {
        let failed = |error| self.failed(error);
        let part: i32 = row.try_get(0).map_err(failed)?;
        let cell: i64 = row.try_get(1).map_err(failed)?;
        let documents: i64 = row.try_get(2).map_err(failed)?;
        let readable: i64 = row.try_get(3).map_err(failed)?;
        let sum: Option<String> = row.try_get(4).map_err(failed)?;
        let cell = (
            u32::try_from(part).unwrap_or(0),
            u32::try_from(cell).unwrap_or(0),
        );
        let digest = Digest {
            documents: u64::try_from(documents).unwrap_or(0),
            unreadable: u64::try_from(documents - readable).unwrap_or(0),
            hash: sum.as_deref().and_then(wrapped).unwrap_or(0),
        };
        Ok((cell, digest))
    }

    fn line(&self, first: u32, key: Key, row: &Row) -> Result<DigestLine, StoreError> {
        let failed = |error| self.failed(error);
        let at = self.table.keys.len();
        let hash: Option<i64> = row.try_get(at).map_err(failed)?;
        let number: i64 = row.try_get(at + 1).map_err(failed)?;
        let each = i64::from(self.cells.each.max(1));
        let small = |n: i64| u32::try_from(n).unwrap_or(0);
        Ok(DigestLine {
            cell: (first + small(number / each), small(number % each)),
            key,
            hash: hash.map(i64::cast_unsigned),
        })
    }

    async fn kind(&self) -> Result<String, StoreError> {
        let sql = format!(
            "SELECT concat_ws(' ', current_setting('server_version_num')::int4 / 10000, \
             current_setting('server_encoding'), hashtextextended('whimbrel', 1), {})",
            order(self.table)
        );
        let statement = self.client.prepare_cached(&sql).await;
        let statement = statement.map_err(|error| self.failed(error))?;
        let row = self.client.query_one(&statement, &[]).await;
        let server: Result<String, Error> = row.and_then(|row| row.try_get(0));
        let server = server.map_err(|error| self.failed(error))?;
        Ok(format!("postgresql {server} {}", layout(self.table)))
    }
}

/// The lower 64 bits of a sum: sums wrap around, whatever the order.
fn wrapped(sum: &str) -> Option<u64> {
    let sum: i128 = sum.parse().ok()?;
    u64::try_from(sum.cast_unsigned() & u128::from(u64::MAX)).ok()
}

fn key_text(keys: &[KeyColumn]) -> String {
    match keys {
        [one] if matches!(one.part, Part::Text) => format!("t.{}", quoted(&one.name)),
        [one] => format!("t.{}::text", quoted(&one.name)),
        many => row_text(many.iter().map(|k| k.name.as_str())),
    }
}

/// The same bounds mean the same keys only where both ends order them in the same way.
fn order(table: &Table) -> String {
    if table.key_order {
        return "'bytes'".to_owned();
    }
    format!(
        "(SELECT string_agg(concat_ws('/', l.collname, l.collprovider, l.collversion, \
           CASE WHEN l.collname = 'default' THEN concat_ws('/', d.datcollate, \
             to_jsonb(d) ->> 'datlocprovider', to_jsonb(d) ->> 'daticulocale', \
             to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'datcollversion') END), ',' ORDER BY a.attnum) \
         FROM pg_attribute a LEFT JOIN pg_collation l ON l.oid = a.attcollation \
         CROSS JOIN (SELECT * FROM pg_database WHERE datname = current_database()) d \
         WHERE a.attrelid = {}::oid AND a.attname = ANY (ARRAY[{}]::text[]))",
        table.oid,
        table
            .keys
            .iter()
            .map(|k| format!("'{}'", k.name.replace('\'', "''")))
            .collect::<Vec<_>>()
            .join(", ")
    )
}

fn body_text(payload: &Payload) -> String {
    match payload {
        Payload::Json { name, .. } => format!("t.{}::text", quoted(name)),
        Payload::Columns { .. } => row_text(columns(payload).into_iter().map(|(name, _)| name)),
    }
}

/// A row's text tells NULL from an empty text, and where each column ends.
fn row_text<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let columns: Vec<String> = names.map(|n| format!("t.{}", quoted(n))).collect();
    format!("ROW({})::text", columns.join(", "))
}

/// Every column and its type, by name: tables that differ only in their columns' order agree.
fn columns(payload: &Payload) -> Vec<(&str, &str)> {
    let Payload::Columns { fields, rest } = payload else {
        return Vec::new();
    };
    let mut columns: Vec<(&str, &str)> = fields
        .iter()
        .chain(rest)
        .map(|f| (f.name.as_str(), f.declared.as_str()))
        .collect();
    columns.sort_unstable();
    columns
}

fn layout(table: &Table) -> String {
    let mut layout = match &table.payload {
        Payload::Json { wire, .. } => match wire {
            Wire::Jsonb => "jsonb".to_owned(),
            _ => "json".to_owned(),
        },
        Payload::Columns { rest, .. } => {
            let rest = rest.as_ref().map(|r| r.name.as_str());
            format!("{:?} {rest:?}", columns(&table.payload))
        }
    };
    // The same text may stand for different keys where keys are of different kinds.
    let _ = write!(layout, " {:?}", table.kind());
    layout
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_wrap_around() {
        assert_eq!(wrapped("0"), Some(0));
        assert_eq!(wrapped("-1"), Some(u64::MAX));
        assert_eq!(wrapped("18446744073709551617"), Some(1));
        assert_eq!(wrapped("-18446744073709551617"), Some(u64::MAX));
        assert_eq!(wrapped("x"), None);
    }
}
