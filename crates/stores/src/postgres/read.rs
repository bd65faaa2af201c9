//! Reading: pages in the key's order, documents by key, counts, and where to cut a range.

use super::PgStore;
use super::document;
use super::keys;
use super::table::Table;
use super::wire::{Many, Params, Single, Wire, raw};
use deadpool_postgres::Client;
use futures::TryStreamExt;
use std::pin::pin;
use tokio_postgres::{Error, RowStream};
use whimbrel_model::{Document, Key, KeyRange, Page, Reject, StoreError};

/// A table of more pages is sampled; below, reading all keys takes a moment.
const SAMPLE_FROM_PAGES: i64 = 4000;
/// Pages that a sample reads.
const SAMPLE_PAGES: i64 = 2500;
/// Every n-th key of a sample, so that about this many come for each part.
const KEYS_A_PART: i64 = 64;

/// A range's bounds as parameters.
pub(super) struct Bounds {
    after: Vec<Single<Key>>,
    through: Vec<Single<Key>>,
}

impl Bounds {
    pub fn new(table: &Table, range: &KeyRange) -> Self {
        let params = |key: &Option<Key>| match key {
            Some(key) => keys::params(&table.keys, key),
            None => Vec::new(),
        };
        Self {
            after: params(&range.after),
            through: params(&range.through),
        }
    }

    pub fn params(&self) -> Params<'_> {
        let all = self.after.iter().chain(&self.through);
        all.map(|p| p as _).collect()
    }
}

/// Reads the next page. Rows that are no documents become rejects.
pub(super) async fn scan(
    store: &PgStore,
    client: &Client,
    table: &Table,
    range: &KeyRange,
    limit: u32,
    bytes: usize,
) -> Result<Page, StoreError> {
    let doing = || format!("reading collection {:?}", table.collection);
    let wanted = usize::try_from(limit)
        .unwrap_or(usize::MAX)
        .clamp(1, table.rows_for(bytes));
    let limit = Single(i64::try_from(wanted).unwrap_or(i64::MAX));
    let bounds = Bounds::new(table, range);
    let mut params = bounds.params();
    params.push(&limit);
    let sql = table
        .sql
        .scan(range.after.is_some(), range.through.is_some());
    let failed = |error| store.failed(table, &doing(), error);
    let rows = stream(client, &sql, params).await.map_err(failed)?;
    let mut rows = pin!(rows);
    let mut page = Page::default();
    let (mut seen, mut size) = (0, 0);
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        let key =
            keys::decode(&table.keys, &row).map_err(|why| store.misfit(&table.collection, &why))?;
        match document::read(table, &key, &row, table.keys.len()) {
            Ok(document) => page.documents.push(document),
            Err(reason) => page.rejects.push(Reject {
                key: Some(key.clone()),
                label: key.to_string(),
                reason,
            }),
        }
        page.last = Some(key);
        seen += 1;
        size += row.raw_size_bytes();
        if size >= bytes {
            break;
        }
    }
    table.saw_rows(seen, size);
    Ok(page)
}

async fn stream(client: &Client, sql: &str, params: Params<'_>) -> Result<RowStream, Error> {
    let statement = client.prepare_cached(sql).await?;
    client.query_raw(&statement, params).await
}

pub(super) async fn get(
    store: &PgStore,
    client: &Client,
    table: &Table,
    wanted: &[Key],
) -> Result<Vec<Option<Document>>, StoreError> {
    let failed = |error| {
        store.failed(
            table,
            &format!("reading collection {:?}", table.collection),
            error,
        )
    };
    let mut found = vec![None; wanted.len()];
    // A key of another kind than the table's is the key of no row.
    let ordinals: Vec<i32> = (0i32..)
        .zip(wanted)
        .filter(|(_, key)| keys::fits(&table.keys, key).is_ok())
        .map(|(at, _)| at)
        .collect();
    if ordinals.is_empty() {
        return Ok(found);
    }
    let at = |ordinal: i32| usize::try_from(ordinal).ok();
    let keys: Vec<&Key> = ordinals
        .iter()
        .filter_map(|o| wanted.get(at(*o)?))
        .collect();
    let columns = key_columns(table, &keys);
    let ordinals = Many {
        wire: Wire::Int4,
        items: ordinals.iter().collect(),
    };
    let mut params: Params<'_> = columns.iter().map(|c| c as _).collect();
    params.push(&ordinals);
    let rows = stream(client, &table.sql.get, params)
        .await
        .map_err(failed)?;
    let mut rows = pin!(rows);
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        let place = raw(&row, 0).map_err(failed)?.and_then(ordinal);
        let Some((key, slot)) = place.and_then(|p| Some((wanted.get(p)?, found.get_mut(p)?)))
        else {
            continue;
        };
        let document = document::read_or_hollow(table, key, &row, 1);
        *slot = document;
    }
    Ok(found)
}

/// One array parameter a key column. The keys fit the table.
pub(super) fn key_columns<'k>(table: &Table, keys: &[&'k Key]) -> Vec<Many<'k, Key>> {
    table
        .keys
        .iter()
        .enumerate()
        .map(|(at, column)| Many {
            wire: column.part.wire(),
            items: keys.iter().map(|key| keys::part(key, at)).collect(),
        })
        .collect()
}

/// Reads an `int4` that counts from 0.
pub(super) fn ordinal(bytes: &[u8]) -> Option<usize> {
    usize::try_from(i32::from_be_bytes(bytes.try_into().ok()?)).ok()
}

/// `frozen`: the client is in a snapshot's transaction.
pub(super) async fn count(
    client: &mut Client,
    frozen: bool,
    table: &Table,
    range: &KeyRange,
) -> Result<u64, Error> {
    let bounds = Bounds::new(table, range);
    let sql = table
        .sql
        .count(range.after.is_some(), range.through.is_some());
    // To count everything, one pass over the table beats its index.
    let one_pass = "SET LOCAL enable_seqscan = on";
    // Unprepared: a plan kept from here would keep its sequential scan.
    let row = if frozen {
        // In the transaction that sees the snapshot's instant, and that must go on.
        client
            .batch_execute(&format!("SAVEPOINT counting; {one_pass}"))
            .await?;
        let row = client.query_one(&sql, &bounds.params()).await?;
        client
            .batch_execute("ROLLBACK TO counting; RELEASE counting")
            .await?;
        row
    } else {
        let transaction = client.build_transaction().read_only(true).start().await?;
        transaction.batch_execute(one_pass).await?;
        let row = transaction.query_one(&sql, &bounds.params()).await?;
        transaction.commit().await?;
        row
    };
    let count: i64 = row.try_get(0)?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Pages on disk of a table with all its partitions.
const PAGES: &str = "SELECT (coalesce(sum(pg_relation_size(relid)), 0) / 8192)::int8 FROM \
    (SELECT $1::oid::regclass AS relid UNION SELECT relid FROM pg_partition_tree($1::oid::regclass)) p";

/// See [`whimbrel_model::Store::partitions`].
pub(super) async fn partitions(
    store: &PgStore,
    client: &Client,
    table: &Table,
    range: &KeyRange,
    parts: u32,
) -> Result<Vec<KeyRange>, StoreError> {
    let doing = format!("dividing collection {:?}", table.collection);
    let failed = |error| store.failed(table, &doing, error);
    let (after, through) = (range.after.is_some(), range.through.is_some());
    let bounds = Bounds::new(table, range);
    let sql = table.sql.greatest(&table.keys, after, through);
    let statement = client.prepare_cached(&sql).await.map_err(failed)?;
    let greatest = client
        .query_opt(&statement, &bounds.params())
        .await
        .map_err(failed)?;
    let Some(greatest) = greatest else {
        return Ok(Vec::new());
    };
    let misread = |why: String| store.misfit(&table.collection, &why);
    let range = KeyRange {
        after: range.after.clone(),
        through: Some(keys::decode(&table.keys, &greatest).map_err(misread)?),
    };
    if parts < 2 {
        return Ok(vec![range]);
    }
    let row = client
        .query_one(PAGES, &[&table.oid])
        .await
        .map_err(failed)?;
    let pages: i64 = row.try_get(0).map_err(failed)?;
    let mut sample = Vec::new();
    let mut estimate = pages;
    if pages >= SAMPLE_FROM_PAGES {
        #[allow(clippy::cast_precision_loss)] // a percentage needs no more
        let percent = 100.0 * SAMPLE_PAGES as f64 / pages as f64;
        sample = sampled(client, table, &range, Some(percent), 1)
            .await
            .map_err(failed)?;
        let hits = i64::try_from(sample.len()).unwrap_or(i64::MAX);
        estimate = hits.saturating_mul(pages / SAMPLE_PAGES);
    }
    // Few hits: a small table, or a small part of a big one. Then the keys themselves are few enough.
    let enough = i64::from(parts) * KEYS_A_PART;
    if i64::try_from(sample.len()).unwrap_or(i64::MAX) < enough {
        let every = (estimate / enough).max(1);
        sample = sampled(client, table, &range, None, every)
            .await
            .map_err(failed)?;
    }
    Ok(cut(&range, &sample, parts))
}

async fn sampled(
    client: &Client,
    table: &Table,
    range: &KeyRange,
    percent: Option<f64>,
    every: i64,
) -> Result<Vec<Key>, Error> {
    let bounds = Bounds::new(table, range);
    let every = Single(every);
    let mut params = bounds.params();
    params.push(&every);
    let sql = table.sql.sample(
        &table.keys,
        range.after.is_some(),
        range.through.is_some(),
        percent,
    );
    let rows = client.query_raw(sql.as_str(), params).await?;
    let mut rows = pin!(rows);
    let mut keys = Vec::new();
    while let Some(row) = rows.try_next().await? {
        // A key that cannot be read only makes the sample smaller.
        keys.extend(keys::decode(&table.keys, &row));
    }
    Ok(keys)
}

/// Cuts `range`, which is bounded, at quantiles of a sorted sample of its keys.
fn cut(range: &KeyRange, sample: &[Key], parts: u32) -> Vec<KeyRange> {
    let parts = usize::try_from(parts)
        .unwrap_or(usize::MAX)
        .min(sample.len() + 1);
    let mut ranges = Vec::with_capacity(parts);
    let mut after = range.after.clone();
    for i in 1..parts {
        let Some(at) = sample.get(i * sample.len() / parts) else {
            break;
        };
        if after.as_ref() == Some(at) || range.through.as_ref() == Some(at) {
            continue;
        }
        ranges.push(KeyRange {
            after: after.clone(),
            through: Some(at.clone()),
        });
        after = Some(at.clone());
    }
    ranges.push(KeyRange {
        after,
        through: range.through.clone(),
    });
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_tile_the_range() {
        let check = |through: i64, sample: &[i64], parts: u32, bounds: &[i64]| {
            let range = KeyRange {
                after: Some(Key::Int(0)),
                through: Some(Key::Int(through)),
            };
            let sample: Vec<Key> = sample.iter().copied().map(Key::Int).collect();
            let ranges = cut(&range, &sample, parts);
            let ends: Vec<Key> = ranges.iter().filter_map(|r| r.through.clone()).collect();
            let expect: Vec<Key> = bounds.iter().copied().map(Key::Int).collect();
            assert_eq!(ends, expect, "{sample:?} in {parts}");
            let mut after = range.after.clone();
            for range in &ranges {
                assert_eq!(range.after, after);
                after = range.through.clone();
            }
        };
        check(9, &[1, 2, 3, 4, 5, 6, 7, 8, 9], 3, &[4, 7, 9]);
        check(9, &[1, 2, 3], 1, &[9]);
        check(9, &[], 4, &[9]);
        check(9, &[9], 4, &[9]);
        check(9, &[5], 4, &[5, 9]);
        check(9, &[2, 9], 8, &[2, 9]);
    }
}
