//! The chat app's conversations that every bench works on: seeded, about 1.1 KB of JSON each.

use super::random::Random;
use crate::{Outcome, process};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

const SEED: u64 = 20_261_122;

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
    "\"quoted\"",
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
        writeln!(
            out,
            "{id},\"{}\"",
            document.to_string().replace('"', "\"\"")
        )?;
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

/// The key, random as an app's are, and the document.
fn conversation(number: u64) -> (String, Value) {
    let mut random = Random::new(SEED.wrapping_add(number.wrapping_mul(0xd134_2543_de82_ef95)));
    let id = format!("conv_{:016x}{:08x}", random.next(), number);
    let created = 1_767_225_600 + random.below(25_000_000);
    let messages: Vec<_> = (0..3 + random.below(3))
        .map(|turn| message(&mut random, turn))
        .collect();
    let document = json!({
        "id": id,
        "userId": format!("user_{:06}", random.below(50_000)),
        "title": words(&mut random, 4),
        "createdAt": date(created),
        "updatedAt": date(created + random.below(500_000)),
        "model": random.pick(MODELS),
        "messages": messages,
        "widgetState": {
            "view": "list",
            "selected": random.below(20),
            "filters": { "maxPrice": f64_of(random.below(100_000)) / 100.0, "open": random.below(2) == 0 },
            "scroll": random.below(4000),
        },
        "tags": [random.pick(TAGS), random.pick(TAGS)],
        "tokens": { "input": random.below(20_000), "output": random.below(4000), "cached": random.below(9000) },
        "pinned": random.below(10) == 0,
    });
    (id, document)
}

fn message(random: &mut Random, turn: u64) -> Value {
    let id = format!("msg_{:012x}", random.next() >> 16);
    match turn % 3 {
        0 => json!({ "id": id, "role": "user", "content": words(random, 15) }),
        1 => json!({
            "id": id,
            "role": "assistant",
            "content": Value::Null,
            "toolCalls": [{
                "id": format!("call_{:08x}", random.next() >> 32),
                "name": random.pick(TOOLS),
                "arguments": json!({ "query": words(random, 3), "limit": random.below(50) }).to_string(),
            }],
        }),
        _ => json!({ "id": id, "role": "assistant", "content": words(random, 28) }),
    }
}

fn words(random: &mut Random, count: u64) -> String {
    let chosen: Vec<_> = (0..count).map(|_| random.pick(WORDS)).collect();
    chosen.join(" ")
}

/// Exact: the numbers are small.
fn f64_of(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
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

    #[test]
    fn documents_are_seeded_and_of_the_stated_size() {
        assert_eq!(conversation(7), conversation(7));
        assert_ne!(conversation(7).0, conversation(8).0);
        let sizes: Vec<_> = (0..500)
            .map(|number| conversation(number).1.to_string().len())
            .collect();
        let mean = sizes.iter().sum::<usize>() / sizes.len();
        assert!((1050..1150).contains(&mean), "{mean}");
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
