//! A digest of a range of rows, computed by the server: a sum of two 64-bit hashes of each row's text, the
//! row's key being the seed. No row leaves the server.

use super::PgStore;
use super::keys::{KeyColumn, Part};
use super::read::Bounds;
use super::table::{Payload, Table, quoted};
use super::wire::{Params, Wire};
use deadpool_postgres::Client;
use std::fmt::Write as _;
use tokio_postgres::Error;
use whimbrel_model::{Digest, KeyRange, StoreError};

/// See [`whimbrel_model::Store::digest`].
pub(super) async fn digest(
    store: &PgStore,
    client: &Client,
    table: &Table,
    range: &KeyRange,
) -> Result<Option<Digest>, StoreError> {
    let failed = |error: Error| {
        let doing = format!("computing a digest of collection {:?}", table.collection);
        store.failed(table, &doing, error)
    };
    let sql = table.sql.digest(
        &key_text(&table.keys),
        &body_text(&table.payload),
        &order(table),
        range.after.is_some(),
        range.through.is_some(),
    );
    let bounds = Bounds::new(table, range);
    let params: Params<'_> = bounds.params();
    let statement = client.prepare_cached(&sql).await.map_err(failed)?;
    let row = client
        .query_one(&statement, &params)
        .await
        .map_err(failed)?;
    let documents: i64 = row.try_get(0).map_err(failed)?;
    let nulls: i64 = row.try_get(1).map_err(failed)?;
    let high: String = row.try_get(2).map_err(failed)?;
    let low: String = row.try_get(3).map_err(failed)?;
    let server: String = row.try_get(4).map_err(failed)?;
    if nulls > 0 {
        return Ok(None);
    }
    Ok(half(&high).zip(half(&low)).map(|(high, low)| Digest {
        kind: format!("postgresql {server} {}", layout(table)),
        documents: u64::try_from(documents).unwrap_or(0),
        hash: (high << 64) | low,
    }))
}

/// The lower 64 bits of a sum: sums wrap around, whatever the order.
fn half(sum: &str) -> Option<u128> {
    let sum: i128 = sum.parse().ok()?;
    Some(sum.cast_unsigned() & u128::from(u64::MAX))
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
        assert_eq!(half("0"), Some(0));
        assert_eq!(half("-1"), Some(u128::from(u64::MAX)));
        assert_eq!(half("18446744073709551617"), Some(1));
        assert_eq!(half("-18446744073709551617"), Some(u128::from(u64::MAX)));
        assert_eq!(half("x"), None);
    }
}
