//! Cutting a range of keys into parts of about as many documents each.

use super::error::store_error;
use super::row;
use super::scan::{Bounds, Tail};
use super::table::Table;
use rusqlite::{Connection, params_from_iter};
use whimbrel_model::{Key, KeyRange, StoreError};

/// Keys kept of a walk: at least half of it for large tables.
const SAMPLE: usize = 8192;
/// Spans into which integer keys are cut before they are put together to parts.
const SPANS: usize = 512;
/// Keys looked at to see how dense a span is.
const LOOK: usize = 64;
/// More rows do not fit on a page of the usual size.
const ROWS_A_PAGE: u64 = 200;

pub(super) fn partitions(
    connection: &Connection,
    store: &str,
    table: &Table,
    range: &KeyRange,
    parts: u32,
) -> Result<Vec<KeyRange>, StoreError> {
    let Some(last) = Tail::within(connection, store, table, range)?.last else {
        // Rows without a usable key are told at the beginning, even where there is nothing else.
        let tail = Tail::of(connection, store, table)?;
        let lone = range.after.is_none() && !tail.rejects.is_empty();
        return Ok(if lone {
            vec![range.clone()]
        } else {
            Vec::new()
        });
    };
    let bounded = KeyRange {
        after: range.after.clone(),
        through: Some(last),
    };
    let parts = usize::try_from(parts.max(1)).unwrap_or(1);
    if parts == 1 {
        return Ok(vec![bounded]);
    }
    let sampled = if table.key_is_rowid {
        let int = |key: &Option<Key>| match key {
            Some(Key::Int(n)) => Some(*n),
            _ => None,
        };
        let low = int(&bounded.after).map_or(i64::MIN, |after| after.saturating_add(1));
        let high = int(&bounded.through).unwrap_or(i64::MAX);
        by_density(connection, table, (low, high), parts)
            .map(|cuts| cuts.into_iter().map(Key::Int).collect())
    } else {
        by_walk(connection, store, table, &bounded, parts)
    };
    let cuts =
        sampled.map_err(|e| store_error(store, &format!("sample table {:?}", table.name), e))?;
    Ok(cut(&bounded, cuts))
}

fn cut(range: &KeyRange, cuts: Vec<Key>) -> Vec<KeyRange> {
    let mut parts = Vec::with_capacity(cuts.len() + 1);
    let mut after = range.after.clone();
    for key in cuts {
        if Some(&key) == range.through.as_ref() || Some(&key) == after.as_ref() {
            continue;
        }
        parts.push(KeyRange {
            after: after.replace(key.clone()),
            through: Some(key),
        });
    }
    parts.push(KeyRange {
        after,
        through: range.through.clone(),
    });
    parts
}

/// Walks the key's index, which is far smaller than the table, and keeps every n-th key; n doubles when
/// the sample gets too large.
fn by_walk(
    connection: &Connection,
    store: &str,
    table: &Table,
    range: &KeyRange,
    parts: usize,
) -> rusqlite::Result<Vec<Key>> {
    let Ok(bounds) = Bounds::of(store, table, range) else {
        return Ok(Vec::new());
    };
    let (after, through) = bounds.has();
    let mut statement = connection.prepare_cached(&table.sql.walk(after, through, false))?;
    let mut rows = statement.query(params_from_iter(bounds.parts()))?;
    let (mut sample, mut stride, mut seen) = (Vec::new(), 1_usize, 0_usize);
    while let Some(row) = rows.next()? {
        seen += 1;
        if seen % stride != 0 {
            continue;
        }
        if let Ok(key) = row::key_of(table, row)? {
            sample.push(key);
        }
        if sample.len() > SAMPLE {
            let mut odd = false;
            sample.retain(|_| {
                odd = !odd;
                !odd
            });
            stride *= 2;
        }
    }
    let cuts = (1..parts)
        .map(|i| (i * sample.len() / parts).saturating_sub(1))
        .filter_map(|i| sample.get(i).cloned())
        .collect();
    Ok(cuts)
}

/// Keys that stand close together, from the first to the last, both there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    first: i64,
    pub(super) last: i64,
    /// About how many rows.
    rows: f64,
    exact: bool,
}

/// A table ordered by row id has no smaller index to walk, and walking the table itself would read all of
/// it. So the fullest span is halved again and again, each half shrunk to the keys that are there, and
/// judged by the distance of its first keys.
pub(super) fn by_density(
    connection: &Connection,
    table: &Table,
    (low, high): (i64, i64),
    parts: usize,
) -> rusqlite::Result<Vec<i64>> {
    let edges = Edges::new(table);
    let Some(whole) = edges.span(connection, low, high)? else {
        return Ok(Vec::new());
    };
    let mut spans = vec![whole];
    while spans.len() < SPANS {
        let fullest = spans
            .iter()
            .enumerate()
            .filter(|(_, s)| !s.exact)
            .max_by(|(_, a), (_, b)| a.rows.total_cmp(&b.rows));
        let Some((i, span)) = fullest.map(|(i, s)| (i, *s)) else {
            break;
        };
        let middle = span.first + (span.last.abs_diff(span.first) / 2).cast_signed();
        let halves = [
            edges.span(connection, span.first, middle)?,
            edges.span(connection, middle.saturating_add(1), span.last)?,
        ];
        spans.splice(i..=i, halves.into_iter().flatten());
    }
    let total: f64 = spans.iter().map(|s| s.rows).sum();
    let (mut cuts, mut sum) = (Vec::new(), 0.0);
    #[expect(clippy::cast_precision_loss, reason = "a share of an estimate")]
    let share = |i: usize| total * i as f64 / parts as f64;
    for span in &spans {
        sum += span.rows;
        if cuts.len() + 1 < parts && sum >= share(cuts.len() + 1) {
            cuts.push(span.last);
        }
    }
    Ok(cuts)
}

/// Statements that look at the edges of a stretch of row ids.
pub(super) struct Edges {
    forwards: String,
    backwards: String,
}

impl Edges {
    pub(super) fn new(table: &Table) -> Self {
        Self {
            forwards: table.sql.rowids_between(false),
            backwards: table.sql.rowids_between(true),
        }
    }

    /// `None` when no row stands between `low` and `high`.
    pub(super) fn span(
        &self,
        connection: &Connection,
        low: i64,
        high: i64,
    ) -> rusqlite::Result<Option<Span>> {
        let mut statement = connection.prepare_cached(&self.forwards)?;
        let mut rows = statement.query([low, high])?;
        let mut seen = Vec::with_capacity(LOOK);
        while seen.len() < LOOK
            && let Some(row) = rows.next()?
        {
            seen.push(row.get::<_, i64>(0)?);
        }
        let (Some(&first), Some(&near)) = (seen.first(), seen.last()) else {
            return Ok(None);
        };
        let last: i64 = connection
            .prepare_cached(&self.backwards)?
            .query_row([low, high], |r| r.get(0))?;
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let rows = if near == last {
            seen.len() as f64
        } else {
            let density = (seen.len() - 1) as f64 / near.abs_diff(first) as f64;
            (last.abs_diff(first) as f64).mul_add(density, 1.0)
        };
        Ok(Some(Span {
            first,
            last,
            rows,
            exact: near == last,
        }))
    }
}

/// About how many rows the table has, without reading all of it. `None` where nothing tells cheaply.
pub(super) fn estimate(connection: &Connection, table: &Table) -> rusqlite::Result<Option<u64>> {
    if !table.key_is_rowid {
        let rows: i64 = connection.query_row(&table.sql.count(false, false), [], |r| r.get(0))?;
        return Ok(Some(rows.unsigned_abs()));
    }
    let whole = Edges::new(table).span(connection, i64::MIN, i64::MAX)?;
    Ok(match whole {
        None => Some(0),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small count"
        )]
        Some(span) if span.exact => Some(span.rows as u64),
        Some(span) => {
            // Row ids given out one by one, of which few were deleted, tell; others do not.
            let ids = span.last.abs_diff(span.first).saturating_add(1);
            let pages: i64 = connection.query_row("PRAGMA page_count", [], |r| r.get(0))?;
            let plausible = pages.unsigned_abs().saturating_mul(ROWS_A_PAGE);
            (ids <= plausible).then_some(ids)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_never_make_empty_ranges() {
        let range = KeyRange {
            after: Some(Key::Int(0)),
            through: Some(Key::Int(9)),
        };
        let cuts = [0, 3, 3, 9].map(Key::Int).to_vec();
        let parts = cut(&range, cuts);
        let ends: Vec<_> = parts
            .iter()
            .map(|p| (p.after.clone(), p.through.clone()))
            .collect();
        let int = |n| Some(Key::Int(n));
        assert_eq!(ends, [(int(0), int(3)), (int(3), int(9))]);
    }
}
