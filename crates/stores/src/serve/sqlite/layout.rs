//! The side tables of a served database, and the triggers that note what other programs write.
//!
//! | table | holds |
//! |---|---|
//! | `_whimbrel_serving` | one row: the layout's number, which document the gateway is writing just now and at what time, how far others' changes are settled |
//! | `_whimbrel_collections` | the served tables, each with the time since when it is |
//! | `_whimbrel_times_N` | of each document of collection N: when it was made and last written, and by which change |
//! | `_whimbrel_gone` | of documents deleted in the last hour: by which change |
//! | `_whimbrel_log` | every change of the last hour: what the document was before it, and which change had made that; `other` is 1 where others made it, 0 where nobody needs to be told any more |
//! | `_whimbrel_before` | what an `INSERT OR REPLACE` of others is about to replace |
//! | `_whimbrel_indexes`, `_whimbrel_lines` | the indexes |
//!
//! The log is numbered in the order of commits, and times grow with the numbers. So a time is found in it by
//! halving, and what a document was at some time by going back from change to change.
//!
//! Times lie by the row's id, not by its key: keys are random, and a second tree in their order would double the
//! pages that a commit writes. A row whose id changed behind our back (a dump that was read in) is known by
//! its key, and counts as one that stood there before.
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
    collection INTEGER, key TEXT, at INTEGER, settled INTEGER NOT NULL DEFAULT 0);
INSERT INTO _whimbrel_serving (id, layout) VALUES (1, 1);
CREATE TABLE _whimbrel_collections (
    id INTEGER PRIMARY KEY, name TEXT UNIQUE, tbl TEXT, adopted INTEGER NOT NULL);
CREATE TABLE _whimbrel_gone (
    collection INTEGER NOT NULL, key TEXT NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (collection, key)) WITHOUT ROWID;
CREATE TABLE _whimbrel_log (
    seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, collection INTEGER NOT NULL, key TEXT NOT NULL,
    data, created INTEGER, updated INTEGER, since INTEGER, other INTEGER);
CREATE INDEX _whimbrel_others ON _whimbrel_log (seq) WHERE other = 1;
INSERT INTO _whimbrel_log (seq, at, collection, key) VALUES (1, 0, 0, '');
CREATE TABLE _whimbrel_before (
    collection INTEGER NOT NULL, key TEXT NOT NULL, row, data, PRIMARY KEY (collection, key)) WITHOUT ROWID;
CREATE TABLE _whimbrel_indexes (
    id INTEGER PRIMARY KEY, definition TEXT NOT NULL UNIQUE, ready INTEGER NOT NULL DEFAULT 0);
CREATE TABLE _whimbrel_lines (
    idx INTEGER NOT NULL, key BLOB NOT NULL, collection INTEGER NOT NULL, document TEXT NOT NULL,
    PRIMARY KEY (idx, key)) WITHOUT ROWID;
";

/// Now, in microseconds, by SQLite's clock (of milliseconds), but never before the last change, and after it
/// where that was the gateway's. What a write of the gateway's sets off in the app's triggers is of that write's time:
/// what is written next may have one that is long past.
pub(super) const NOW: &str = "coalesce((SELECT at FROM _whimbrel_serving WHERE id = 1), \
     max(CAST((julianday('now') - 2440587.5) * 86400000.0 + 0.5 AS INTEGER) * 1000, \
     (SELECT at + (other IS NULL) FROM _whimbrel_log ORDER BY seq DESC LIMIT 1)))";

/// The names of a collection's triggers begin with this.
pub(super) fn trigger_prefix(id: i64) -> String {
    format!("_whimbrel_{id}_")
}

/// Where the times of a collection's documents lie.
pub(super) fn times_table(id: i64) -> String {
    format!("_whimbrel_times_{id}")
}

/// A served table, as its triggers are made for it.
pub(super) struct Watched<'t> {
    pub(super) id: i64,
    pub(super) table: &'t str,
    pub(super) key: &'t str,
    pub(super) data: &'t str,
    /// The name of the row's id; a table `WITHOUT ROWID` has none.
    pub(super) rowid: Option<&'t str>,
    pub(super) adopted: i64,
}

/// One document's change, as expressions over a trigger's rows.
struct Noted<'n> {
    key: &'n str,
    /// The row it lay in, and what that held.
    old_row: &'n str,
    data: &'n str,
    /// Whether there was one.
    was: &'n str,
    /// The row it lies in now; `None` where it is gone.
    new_row: Option<&'n str>,
    when: &'n str,
}

impl Watched<'_> {
    /// The statement that makes the table of times.
    pub(super) fn times(&self) -> String {
        let (name, rowid) = (times_table(self.id), self.rowid.is_some());
        let id = if rowid { "INTEGER" } else { "TEXT" };
        let end = if rowid { "" } else { " WITHOUT ROWID" };
        format!(
            "CREATE TABLE {name} (id {id} PRIMARY KEY NOT NULL, key TEXT NOT NULL, \
             created INTEGER NOT NULL, updated INTEGER NOT NULL, seq INTEGER NOT NULL){end}"
        )
    }

    /// The triggers' names, and the statements that make them.
    // tidy: long because it is one list of triggers, which have to be seen beside each other.
    pub(super) fn triggers(&self) -> Vec<(String, String)> {
        let (id, table) = (self.id, quote(self.table));
        let (key, data) = (quote(self.key), quote(self.data));
        let row = self.rowid.unwrap_or(&key);
        // `IS NOT` holds, too, where the gateway writes nothing (NULL).
        let foreign = |key: &str| {
            format!(
                "typeof({key}) = 'text' AND (SELECT key FROM _whimbrel_serving \
                 WHERE id = 1 AND collection = {id}) IS NOT {key}"
            )
        };
        let (new, old) = (format!("NEW.{key}"), format!("OLD.{key}"));
        let (new_row, old_row) = (format!("NEW.{row}"), format!("OLD.{row}"));
        let (is_foreign, was_foreign) = (foreign(&new), foreign(&old));
        let (was, is) = (format!("OLD.{data}"), format!("NEW.{data}"));
        let (is_text, was_text) = (
            format!("typeof({new}) = 'text'"),
            format!("typeof({old}) = 'text'"),
        );
        let before = format!("_whimbrel_before WHERE collection = {id} AND key = {new}");
        let done = format!("DELETE FROM {before};");
        let replaced = format!(
            "{done} INSERT INTO _whimbrel_before (collection, key, row, data) \
             SELECT {id}, {key}, {row}, {data} FROM {table} WHERE {key} = {new};"
        );
        let arrival = self.noted(&Noted {
            key: &new,
            old_row: &format!("(SELECT row FROM {before})"),
            data: &format!("(SELECT data FROM {before})"),
            was: &format!("EXISTS (SELECT 1 FROM {before})"),
            new_row: Some(&new_row),
            when: &is_text,
        });
        let change = self.noted(&Noted {
            key: &new,
            old_row: &old_row,
            data: &was,
            was: "1",
            new_row: Some(&new_row),
            when: &is_text,
        });
        let departure = self.noted(&Noted {
            key: &old,
            old_row: &old_row,
            data: &was,
            was: "1",
            new_row: None,
            when: &was_text,
        });
        let gone = format!("DELETE FROM _whimbrel_before WHERE collection = {id} AND key = {old};");
        let moves = format!("UPDATE OF {key} ON {table} WHEN {new} IS NOT {old}");
        let made = [
            (
                "about_to_insert",
                format!("BEFORE INSERT ON {table} WHEN {is_foreign} BEGIN {replaced}"),
            ),
            (
                "insert",
                format!("AFTER INSERT ON {table} WHEN {is_foreign} BEGIN {arrival} {done}"),
            ),
            (
                "update",
                format!(
                    "AFTER UPDATE OF {key}, {data} ON {table} \
                     WHEN {new} IS {old} AND {was} IS NOT {is} AND {is_foreign} BEGIN {change} {done}"
                ),
            ),
            (
                "about_to_move",
                format!("BEFORE {moves} AND {is_text} BEGIN {replaced}"),
            ),
            (
                "move",
                format!("AFTER {moves} BEGIN {departure} {arrival} {done}"),
            ),
            (
                "delete",
                format!("AFTER DELETE ON {table} WHEN {was_foreign} BEGIN {departure} {gone}"),
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

    /// Statements that note a change: what the document was goes into the log, and the change's time becomes its.
    fn noted(&self, noted: &Noted<'_>) -> String {
        let (id, adopted, times) = (self.id, self.adopted, times_table(self.id));
        let Noted {
            key,
            old_row,
            data,
            was,
            new_row,
            when,
        } = noted;
        let logged = format!(
            "INSERT INTO _whimbrel_log (at, collection, key, data, created, updated, since, other)
             SELECT {NOW}, {id}, {key}, {data},
                 CASE WHEN {was} THEN coalesce(t.created, {adopted}) END,
                 CASE WHEN {was} THEN coalesce(t.updated, {adopted}) END,
                 CASE WHEN {was} THEN t.seq ELSE
                     (SELECT seq FROM _whimbrel_gone WHERE collection = {id} AND key = {key}) END, 1
             FROM (SELECT 1) LEFT JOIN {times} AS t ON t.id = {old_row} AND t.key = {key} WHERE {when};
             DELETE FROM {times} WHERE id = {old_row} AND key = {key} AND {when};"
        );
        let last = format!("FROM _whimbrel_log WHERE {when} ORDER BY seq DESC LIMIT 1");
        match new_row {
            Some(row) => format!(
                "{logged} DELETE FROM {times} WHERE id = {row} AND {when};
                 INSERT INTO {times} (id, key, created, updated, seq)
                 SELECT {row}, {key}, coalesce(created, at), at, seq {last};"
            ),
            None => format!(
                "{logged} DELETE FROM _whimbrel_gone WHERE collection = {id} AND key = {key} AND {when};
                 INSERT INTO _whimbrel_gone (collection, key, seq) SELECT {id}, {key}, seq {last};"
            ),
        }
    }
}
