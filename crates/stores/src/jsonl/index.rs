//! Where each key's newest line stands: a temporary SQLite table, so that memory stays constant.

use super::line::{self, Line};
use super::source::{self, Opened, RawLine};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql};
use std::io;
use std::path::Path;
use whimbrel_model::Key;
use xxhash_rust::xxh3::xxh3_128;

pub(super) const TABLE: &str = "line";
/// Lines that are no documents. More of them mean that the file is no such file.
const REJECTS: usize = 10_000;

/// Where a line stands. As the index's content it is the document's revision, too: a line is never
/// written to the same place twice, and the hash tells contents apart once the file was rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: u64,
    pub(super) length: u64,
    hash: u128,
}

impl Place {
    pub(super) fn new(at: u64, line: &[u8]) -> Self {
        Self {
            at,
            length: line.len() as u64,
            hash: xxh3_128(line),
        }
    }

    /// `{"p":"…"}`, because the index is a collection of documents.
    pub(super) fn to_json(self) -> String {
        format!(
            "{{\"p\":\"{:016x}{:016x}{:032x}\"}}",
            self.at, self.length, self.hash
        )
    }

    pub(super) fn from_json(json: &[u8]) -> Option<Self> {
        let hex = json.strip_prefix(b"{\"p\":\"")?.strip_suffix(b"\"}")?;
        let hex = std::str::from_utf8(hex).ok()?;
        Some(Self {
            at: u64::from_str_radix(hex.get(..16)?, 16).ok()?,
            length: u64::from_str_radix(hex.get(16..32)?, 16).ok()?,
            hash: u128::from_str_radix(hex.get(32..)?, 16).ok()?,
        })
    }
}

/// A line that is no document. It stays in the file as it is.
#[derive(Clone, Debug)]
pub(super) struct BadLine {
    pub(super) number: u64,
    pub(super) at: u64,
    pub(super) length: u64,
    pub(super) reason: String,
}

/// What the first reading of a file found.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) bad: Vec<BadLine>,
    /// Where the last whole line ends, in the plain lines.
    pub(super) lines_end: u64,
    /// The last line has no line break, but is a document.
    pub(super) unterminated: bool,
    /// The last line was cut off.
    pub(super) torn: bool,
    /// Lines that a later one made void, deletions too.
    pub(super) void: u64,
    /// Keys stand in their order, each once.
    pub(super) ordered: bool,
    pub(super) ints: bool,
    pub(super) texts: bool,
    /// The greatest key, where lines stand in order.
    pub(super) last: Option<Key>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the index: {0}")]
    Index(#[from] rusqlite::Error),
    #[error("more than {REJECTS} of its lines are no documents (line {0}: {1})")]
    NoSuchFile(u64, String),
}

/// Reads the lines into a new index at `path`.
// tidy: long because one pass over a file, from top to bottom.
pub(super) fn load(
    opened: &Opened,
    path: &Path,
    id: &str,
    limit: usize,
) -> Result<Loaded, LoadError> {
    let index = Connection::open(path)?;
    index.execute_batch(&format!(
        "PRAGMA journal_mode = wal; PRAGMA synchronous = off;
         CREATE TABLE {TABLE} (id PRIMARY KEY NOT NULL, data TEXT NOT NULL); BEGIN;"
    ))?;
    let mut loaded = Loaded {
        bad: Vec::new(),
        lines_end: 0,
        unterminated: false,
        torn: opened.torn,
        void: 0,
        ordered: true,
        ints: false,
        texts: false,
        last: None,
    };
    // A whole frame's end was not cut off by a crash, whatever its last line is.
    let plain = opened.frames_end.is_none();
    let (mut lines, mut cut_off) = (0_u64, false);
    {
        let mut put = index.prepare(&format!(
            "INSERT INTO {TABLE} VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET data = excluded.data"
        ))?;
        let mut delete = index.prepare(&format!("DELETE FROM {TABLE} WHERE id = ?1"))?;
        let end = source::each_line(
            &opened.lines,
            limit,
            |raw: RawLine<'_>| -> Result<(), LoadError> {
                if raw.bytes.is_empty() {
                    return loaded
                        .reject(&raw, format!("the line is longer than {} MiB", limit >> 20));
                }
                match line::read(raw.bytes, id) {
                    Err(_) if !raw.whole && plain && is_cut_off(raw.bytes) => {
                        cut_off = true;
                        return Ok(());
                    }
                    Ok(Line::Document(key)) => {
                        lines += 1;
                        put.execute((IndexKey(&key), Place::new(raw.at, raw.bytes).to_json()))?;
                        loaded.saw(key);
                    }
                    Ok(Line::Deletion(key)) => {
                        lines += 1;
                        loaded.ordered = false;
                        delete.execute([IndexKey(&key)])?;
                    }
                    Err(reason) => loaded.reject(&raw, reason)?,
                }
                loaded.unterminated = !raw.whole;
                loaded.lines_end = raw.end;
                Ok(())
            },
        )?;
        loaded.torn |= cut_off;
        if !cut_off {
            loaded.lines_end = end;
        }
    }
    let documents: i64 =
        index.query_row(&format!("SELECT COUNT(*) FROM {TABLE}"), [], |r| r.get(0))?;
    loaded.void = lines.saturating_sub(documents.unsigned_abs());
    index.execute_batch("COMMIT")?;
    Ok(loaded)
}

/// A last line without line break is taken for whole only where it is JSON.
fn is_cut_off(line: &[u8]) -> bool {
    whimbrel_model::json::scan(line).is_err()
}

impl Loaded {
    fn reject(&mut self, raw: &RawLine<'_>, reason: String) -> Result<(), LoadError> {
        if self.bad.len() >= REJECTS {
            return Err(LoadError::NoSuchFile(raw.number, reason));
        }
        self.bad.push(BadLine {
            number: raw.number,
            at: raw.at,
            length: raw.length,
            reason,
        });
        Ok(())
    }

    /// Takes note of a document's key at the end of the file.
    pub(super) fn saw(&mut self, key: Key) {
        match key {
            Key::Int(_) => self.ints = true,
            _ => self.texts = true,
        }
        self.ordered = self.ordered && self.last.as_ref().is_none_or(|last| *last < key);
        self.last = Some(key);
    }
}

struct IndexKey<'k>(&'k Key);

impl ToSql for IndexKey<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self.0 {
            Key::Int(n) => ToSqlOutput::Borrowed(ValueRef::Integer(*n)),
            Key::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            other => ToSqlOutput::Owned(other.to_string().into()),
        })
    }
}

/// Every place in key order.
pub(super) fn places(
    path: &Path,
    mut each: impl FnMut(Place) -> Result<(), LoadError>,
) -> Result<(), LoadError> {
    let index = Connection::open(path)?;
    let mut statement = index.prepare(&format!("SELECT data FROM {TABLE} ORDER BY id"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let place = Place::from_json(row.get_ref(0)?.as_bytes().unwrap_or_default());
        each(place.ok_or_else(|| io::Error::other("a place in the index cannot be read"))?)?;
    }
    Ok(())
}
