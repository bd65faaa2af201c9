//! The chat app's conversations that every bench works on: seeded, about 1.1 KB of JSON each.

use super::random::Random;
use crate::{Outcome, process};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

const SEED: u64 = 20_261_122;

/// As they stand in JSON.
const WORDS: &[&str] = &[
    "the",
    "order",
    "shipped",
    "refund",
    "please",
    "check",
    "status",
    "of",
    "my",
    "flight",
    "hotel",
    "weather",
    "table",
    "for",
    "two",
    "tomorrow",
    "evening",
    "summary",
    "report",
    "please",
    r#"\"quoted\""#,
    "naïve",
    "日本語",
    "compare",
    "these",
    "prices",
    "and",
    "then",
    "book",
    "cheapest",
    "one",
    "with",
    "a",
    "window",
    "seat",
    "thanks",
    "budget",
    "under",
    "per",
    "night",
    "café",
    "— maybe —",
    "total",
    "is",
    "42",
    "items",
    "in",
    "cart",
    "🙂",
];
const MODELS: &[&str] = &["gpt-5", "gpt-5-mini", "claude-opus-4", "o4-mini"];
const TOOLS: &[&str] = &[
    "search_flights",
    "get_weather",
    "create_order",
    "list_items",
];
const TAGS: &[&str] = &[
    "travel", "shopping", "support", "draft", "shared", "archived",
];

/// The same documents in the forms that the lanes read.
pub struct Data {
    pub documents: u64,
    /// `conversations(id TEXT PRIMARY KEY, data TEXT)`, rows in no order of their keys.
    pub sqlite: PathBuf,
    /// `id,data` in the table's order, no heading.
    pub csv: PathBuf,
}

impl Data {
    pub fn make(dir: &Path, documents: u64) -> Outcome<Self> {
        super::note(&format!("generating {documents} documents"));
        let csv = dir.join(format!("conversations-{documents}.csv"));
        let sqlite = dir.join(format!("conversations-{documents}.db"));
        write_csv(&csv, documents).map_err(|error| format!("{}: {error}", csv.display()))?;
        load_sqlite(&sqlite, &csv)?;
        let rows = sqlite_query(&sqlite, "SELECT count(*) FROM conversations")?;
        if rows != documents.to_string() {
            return Err(format!("SQLite loaded {rows} of {documents} documents"));
        }
        Ok(Self {
            documents,
            sqlite,
            csv,
        })
    }
}

fn write_csv(path: &Path, documents: u64) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    for number in 0..documents {
        let (id, document) = conversation(number);
        writeln!(out, "{id},\"{}\"", document.replace('"', "\"\""))?;
    }
    out.flush()
}

fn load_sqlite(database: &Path, csv: &Path) -> Outcome<()> {
    sqlite_run(
        database,
        "CREATE TABLE conversations(id TEXT PRIMARY KEY, data TEXT)",
    )?;
    let import = format!(".import --csv '{}' conversations", csv.display());
    sqlite_run(database, &import)
}

/// SQL, or one of the shell's own commands.
pub fn sqlite_run(database: &Path, command: &str) -> Outcome<()> {
    sqlite_query(database, command).map(drop)
}

pub fn sqlite_query(database: &Path, command: &str) -> Outcome<String> {
    let rows = process::output(&mut sqlite_command(database, command)?)?;
    Ok(rows.trim().to_owned())
}

pub fn sqlite_command(database: &Path, command: &str) -> Outcome<Command> {
    let mut shell = Command::new(process::need("sqlite3", "sqlite3")?);
    shell.arg("-bail").arg(database).arg(command);
    Ok(shell)
}

/// The key, random as an app's are, and the document as JSON. Written by hand, for two million documents
/// are to be made by a debug build.
fn conversation(number: u64) -> (String, String) {
    let mut random = Random::new(SEED.wrapping_add(number.wrapping_mul(0xd134_2543_de82_ef95)));
    let id = format!("conv_{:016x}{number:08x}", random.next());
    let created = 1_767_225_600 + random.below(25_000_000);
    let mut out = String::with_capacity(1400);
    let _ = write!(
        out,
        r#"{{"id":"{id}","userId":"user_{:06}","title":""#,
        random.below(50_000)
    );
    words(&mut out, &mut random, 4);
    let updated = date(created + random.below(500_000));
    let (created, model) = (date(created), random.pick(MODELS));
    let _ = write!(
        out,
        r#"","createdAt":"{created}","updatedAt":"{updated}","model":"{model}","messages":["#
    );
    for turn in 0..3 + random.below(3) {
        if turn > 0 {
            out.push(',');
        }
        message(&mut out, &mut random, turn);
    }
    let _ = write!(
        out,
        r#"],"widgetState":{{"view":"list","selected":{},"filters":{{"maxPrice":{}.{}{},"open":{}}},"scroll":{}}}"#,
        random.below(20),
        random.below(1000),
        random.below(10),
        // JSON's shortest form of a number has no zero at its end.
        1 + random.below(9),
        random.below(2) == 0,
        random.below(4000),
    );
    let _ = write!(
        out,
        r#","tags":["{}","{}"],"tokens":{{"input":{},"output":{},"cached":{}}},"pinned":{}}}"#,
        random.pick(TAGS),
        random.pick(TAGS),
        random.below(20_000),
        random.below(4000),
        random.below(9000),
        random.below(10) == 0,
    );
    (id, out)
}

fn message(out: &mut String, random: &mut Random, turn: u64) {
    let _ = write!(out, r#"{{"id":"msg_{:012x}","role":"#, random.next() >> 16);
    if turn % 3 == 1 {
        let (call, tool) = (random.next() >> 32, random.pick(TOOLS));
        let (query, limit) = (random.pick(TAGS), random.below(50));
        // The arguments are JSON within a string, as models give them.
        let _ = write!(
            out,
            r#""assistant","content":null,"toolCalls":[{{"id":"call_{call:08x}","name":"{tool}","arguments":"{{\"query\":\"{query} now\",\"limit\":{limit}}}"}}]}}"#
        );
        return;
    }
    let (role, length) = if turn.is_multiple_of(3) {
        ("user", 15)
    } else {
        ("assistant", 28)
    };
    let _ = write!(out, r#""{role}","content":""#);
    words(out, random, length);
    out.push_str("\"}");
}

fn words(out: &mut String, random: &mut Random, count: u64) {
    for number in 0..count {
        if number > 0 {
            out.push(' ');
        }
        out.push_str(random.pick(WORDS));
    }
}

/// Seconds since 1970 as RFC 3339 (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn date(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.000Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn documents_are_seeded_and_of_the_stated_size() {
        assert_eq!(conversation(7), conversation(7));
        assert_ne!(conversation(7).0, conversation(8).0);
        let sizes: Vec<_> = (0..500)
            .map(|number| conversation(number).1.len())
            .collect();
        let mean = sizes.iter().sum::<usize>() / sizes.len();
        assert!((1050..1150).contains(&mean), "{mean}");
    }

    #[test]
    fn documents_are_json() {
        for number in 0..500 {
            let (id, document) = conversation(number);
            let parsed: Value = serde_json::from_str(&document).unwrap();
            assert_eq!(parsed["id"], id);
            assert_eq!(parsed.to_string(), document);
            let call = parsed["messages"][1]["toolCalls"][0]["arguments"]
                .as_str()
                .unwrap();
            let arguments: Value = serde_json::from_str(call).unwrap();
            assert!(arguments["limit"].is_u64(), "{call}");
        }
    }

    #[test]
    fn dates_are_dates() {
        for (seconds, expect) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_767_225_599, "2025-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(date(seconds), expect);
        }
    }
}
