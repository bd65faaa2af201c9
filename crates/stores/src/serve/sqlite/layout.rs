//! The side tables of a served database, and the triggers that note what other programs write.
//!
//! | table | holds |
//! |---|---|
//! | `_whimbrel_serving` | one row: the layout's number, which document the gateway is writing just now, how far others' changes are settled |
//! | `_whimbrel_collections` | the served tables, each with the time since when it is |
//! | `_whimbrel_times` | of each document: when it was made and last written, and by which change; of a deleted one, the change |
//! | `_whimbrel_log` | every change of the last hour: what the document was before it, and which change had made that |
//! | `_whimbrel_before` | what an `INSERT OR REPLACE` of others is about to replace |
//! | `_whimbrel_indexes`, `_whimbrel_lines` | the indexes |
//!
//! The log is numbered in the order of commits, and times grow with the numbers. So a time is found in it by
//! halving, and what a document was at some time by going back from change to change.
//!
//! Triggers run in programs that know nothing of Whimbrel, and must never make a write of theirs fail: they use
//! SQLite's own functions only, insert nothing that could be there already (an outer `INSERT OR IGNORE`
//! would decide what becomes of it), and look only at rows whose key is a text.

use crate::sqlite::sql::quote;

/// The layout's number: programs that know only lesser ones keep their hands off.
pub(super) const LAYOUT: i64 = 1;

pub(super) const TABLES: &str = "
CREATE TABLE _whimbrel_serving (
    id INTEGER PRIMARY KEY, layout INTEGER NOT NULL,
    collection INTEGER, key TEXT, settled INTEGER NOT NULL DEFAULT 0);
INSERT INTO _whimbrel_serving (id, layout) VALUES (1, 1);
CREATE TABLE _whimbrel_collections (
    id INTEGER PRIMARY KEY, name TEXT UNIQUE, tbl TEXT, adopted INTEGER NOT NULL);
CREATE TABLE _whimbrel_times (
    collection INTEGER NOT NULL, key TEXT NOT NULL, created INTEGER, updated INTEGER, seq INTEGER NOT NULL,
    PRIMARY KEY (collection, key)) WITHOUT ROWID;
CREATE TABLE _whimbrel_log (
    seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, collection INTEGER NOT NULL, key TEXT NOT NULL,
    data, created INTEGER, updated INTEGER, since INTEGER, other INTEGER);
CREATE INDEX _whimbrel_others ON _whimbrel_log (seq) WHERE other = 1;
INSERT INTO _whimbrel_log (seq, at, collection, key) VALUES (1, 0, 0, '');
CREATE TABLE _whimbrel_before (
    collection INTEGER NOT NULL, key TEXT NOT NULL, data, PRIMARY KEY (collection, key)) WITHOUT ROWID;
CREATE TABLE _whimbrel_indexes (
    id INTEGER PRIMARY KEY, definition TEXT NOT NULL UNIQUE, ready INTEGER NOT NULL DEFAULT 0);
CREATE TABLE _whimbrel_lines (
    idx INTEGER NOT NULL, key BLOB NOT NULL, collection INTEGER NOT NULL, document TEXT NOT NULL,
    PRIMARY KEY (idx, key)) WITHOUT ROWID;
";

/// Now, in microseconds, by SQLite's clock (of milliseconds), but never before the last change, and after it
/// where that was the gateway's: a time of its own commits is nobody else's.
pub(super) const NOW: &str = "max(CAST((julianday('now') - 2440587.5) * 86400000.0 + 0.5 AS INTEGER) * 1000, \
     (SELECT at + (other IS NULL) FROM _whimbrel_log ORDER BY seq DESC LIMIT 1))";

/// The names of a collection's triggers begin with this.
pub(super) fn trigger_prefix(id: i64) -> String {
    format!("_whimbrel_{id}_")
}

/// A served table, as its triggers are made for it.
pub(super) struct Watched<'t> {
    pub(super) id: i64,
    pub(super) table: &'t str,
    pub(super) key: &'t str,
    pub(super) data: &'t str,
    pub(super) adopted: i64,
}

impl Watched<'_> {
    /// The triggers' names, and the statements that make them.
    pub(super) fn triggers(&self) -> Vec<(String, String)> {
        let (id, table) = (self.id, quote(self.table));
        let (key, data) = (quote(self.key), quote(self.data));
        // `IS NOT` holds, too, where the gateway writes nothing (NULL).
        let foreign = |key: &str| {
            format!(
                "typeof({key}) = 'text' AND (SELECT key FROM _whimbrel_serving \
                 WHERE id = 1 AND collection = {id}) IS NOT {key}"
            )
        };
        let (new, old) = (format!("NEW.{key}"), format!("OLD.{key}"));
        let (is_foreign, was_foreign) = (foreign(&new), foreign(&old));
        let (was, is) = (format!("OLD.{data}"), format!("NEW.{data}"));
        let before = format!("_whimbrel_before WHERE collection = {id} AND key = {new}");
        let done = format!("DELETE FROM {before};");
        let replaced = format!(
            "{done} INSERT INTO _whimbrel_before (collection, key, data) \
             SELECT {id}, {key}, {data} FROM {table} WHERE {key} = {new};"
        );
        let arrival = format!(
            "{} {done}",
            self.noted(
                &new,
                &format!("(SELECT data FROM {before})"),
                &format!("EXISTS (SELECT 1 FROM {before})"),
                true
            )
        );
        let change = format!("{} {done}", self.noted(&new, &was, "1", true));
        let departure = format!(
            "{} DELETE FROM _whimbrel_before WHERE collection = {id} AND key = {old};",
            self.noted(&old, &was, "1", false)
        );
        let moves = format!("UPDATE OF {key} ON {table} WHEN {new} IS NOT {old} AND");
        let made = [
            (
                "about_to_insert",
                format!("BEFORE INSERT ON {table} WHEN {is_foreign} BEGIN {replaced}"),
            ),
            (
                "insert",
                format!("AFTER INSERT ON {table} WHEN {is_foreign} BEGIN {arrival}"),
            ),
            (
                "update",
                format!(
                    "AFTER UPDATE OF {key}, {data} ON {table} \
                     WHEN {new} IS {old} AND {was} IS NOT {is} AND {is_foreign} BEGIN {change}"
                ),
            ),
            (
                "about_to_move",
                format!("BEFORE {moves} {is_foreign} BEGIN {replaced}"),
            ),
            (
                "move_to",
                format!("AFTER {moves} {is_foreign} BEGIN {arrival}"),
            ),
            (
                "move_from",
                format!("AFTER {moves} {was_foreign} BEGIN {departure}"),
            ),
            (
                "delete",
                format!("AFTER DELETE ON {table} WHEN {was_foreign} BEGIN {departure}"),
            ),
        ];
        made.into_iter()
            .map(|(what, rest)| {
                let name = format!("{}{what}", trigger_prefix(id));
                let sql = format!("CREATE TRIGGER {} {rest} END", quote(&name));
                (name, sql)
            })
            .collect()
    }

    /// Statements that note a change of the document at `key`: what it was (`data`, where `was` says that there was
    /// one) goes into the log, and the change's time becomes the document's.
    fn noted(&self, key: &str, data: &str, was: &str, there: bool) -> String {
        let (id, adopted) = (self.id, self.adopted);
        let times = if there {
            "coalesce(created, at), at"
        } else {
            "NULL, NULL"
        };
        format!(
            "INSERT INTO _whimbrel_log (at, collection, key, data, created, updated, since, other)
             SELECT {NOW}, {id}, {key}, {data},
                 CASE WHEN {was} THEN coalesce(t.created, {adopted}) END,
                 CASE WHEN {was} THEN coalesce(t.updated, {adopted}) END, t.seq, 1
             FROM (SELECT 1) LEFT JOIN _whimbrel_times AS t ON t.collection = {id} AND t.key = {key};
             DELETE FROM _whimbrel_times WHERE collection = {id} AND key = {key};
             INSERT INTO _whimbrel_times (collection, key, created, updated, seq)
             SELECT {id}, {key}, {times}, seq FROM _whimbrel_log ORDER BY seq DESC LIMIT 1;"
        )
    }
}
