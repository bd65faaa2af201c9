//! Takes away what documents were too long ago.

use rusqlite::{Connection, OptionalExtension};
use whimbrel_firestore::Micros;

/// Changes forgotten in one transaction: others want to write, too.
const SLICE: i64 = 2000;

/// Forgets some changes up to the horizon. Whether there may be more.
///
/// The last change stays, so that numbers and times go on from it; so do changes of others that the indexes do
/// not reflect yet.
pub(super) fn some(connection: &Connection, horizon: Micros) -> rusqlite::Result<bool> {
    let (first, last): (i64, i64) = connection
        // Each for itself: only then SQLite goes to the ends instead of through all of it.
        .prepare_cached(
            "SELECT (SELECT min(seq) FROM _whimbrel_log), (SELECT max(seq) FROM _whimbrel_log)",
        )?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let unsettled: Option<i64> = connection
        .prepare_cached(
            "SELECT min(seq) FROM _whimbrel_log
             WHERE other = 1 AND seq > (SELECT settled FROM _whimbrel_serving)",
        )?
        .query_row([], |row| row.get(0))?;
    let end = last.min(unsettled.unwrap_or(last)).min(first + SLICE);
    // The first change that stays.
    let kept: Option<i64> = connection
        .prepare_cached(
            "SELECT seq FROM _whimbrel_log WHERE seq < ?1 AND at > ?2 ORDER BY seq LIMIT 1",
        )?
        .query_row([end, horizon], |row| row.get(0))
        .optional()?;
    let end = kept.unwrap_or(end);
    connection
        .prepare_cached(
            "DELETE FROM _whimbrel_gone WHERE seq < ?1
             AND (collection, key) IN (SELECT collection, key FROM _whimbrel_log WHERE seq < ?1)",
        )?
        .execute([end])?;
    let gone = connection
        .prepare_cached("DELETE FROM _whimbrel_log WHERE seq < ?1")?
        .execute([end])?;
    // What inserts that were ignored left behind.
    connection
        .prepare_cached("DELETE FROM _whimbrel_before")?
        .execute([])?;
    Ok(gone > 0 && kept.is_none())
}
