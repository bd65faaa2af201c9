//! The abort rules of a migration file.

use super::units;
use crate::table::Table;
use std::time::Duration;
use toml::de::DeValue;
use whimbrel_model::migration::{AbortRule, AbortWhen};

const WORDS: [&str; 6] = [
    "failed_documents",
    "failed_checks",
    "error_rate",
    "latency",
    "free_disk",
    "command",
];
const EVERY: Duration = Duration::from_secs(5);
/// More often than this the watching would be a load of its own.
const OFTEN: Duration = Duration::from_millis(100);
/// Reads that take less are never called slow: a baseline of microseconds is doubled by any noise.
const SLOW: Duration = Duration::from_millis(20);

/// The rules in the file's order. Where the file does not name one, its name is its condition.
pub(super) fn read(tables: &[Table<'_, '_>]) -> Vec<AbortRule> {
    let mut rules: Vec<AbortRule> = Vec::with_capacity(tables.len());
    for table in tables {
        let Some(rule) = rule(table, &rules) else {
            continue;
        };
        if rules.iter().any(|other| other.name == rule.name) {
            let message = format!("two abort rules are called {:?}", rule.name);
            table.error("name", message);
        }
        rules.push(rule);
    }
    rules
}

fn rule(table: &Table<'_, '_>, before: &[AbortRule]) -> Option<AbortRule> {
    let word = table.need_text("when");
    let name = table.text("name").map(str::to_owned);
    let every = units::duration(table, "every").unwrap_or(EVERY);
    if every < OFTEN && !every.is_zero() {
        table.error("every", "\"every\" must be at least 100ms");
    }
    let word = word?;
    let when = when(table, word)?;
    table.finish();
    Some(AbortRule {
        name: name.unwrap_or_else(|| unused(word, before)),
        when: when?,
        every,
    })
}

/// `None`: the word is unknown, so no key can be judged. `Some(None)`: a value is wrong.
#[allow(clippy::option_option)]
fn when(table: &Table<'_, '_>, word: &str) -> Option<Option<AbortWhen>> {
    Some(match word {
        "failed_documents" => {
            units::share(table, "above").map(|above| AbortWhen::FailedDocuments { above })
        }
        "error_rate" => units::share(table, "above").map(|above| AbortWhen::ErrorRate { above }),
        "failed_checks" => Some(AbortWhen::FailedChecks {
            above: table.number("above").unwrap_or(0).into(),
        }),
        "latency" => {
            let at_least = units::duration(table, "at_least").unwrap_or(SLOW);
            times(table).map(|times| AbortWhen::Latency { times, at_least })
        }
        "free_disk" => {
            let path = table.text("path").unwrap_or(".").to_owned();
            units::size(table, "below").map(|below| AbortWhen::FreeDisk { path, below })
        }
        "command" => command(table, "command").map(|command| AbortWhen::Command { command }),
        other => {
            let message = format!(
                "{other:?} is nothing that an abort rule watches; there are {}",
                WORDS.join(", ")
            );
            table.error("when", message);
            return None;
        }
    })
}

fn unused(word: &str, before: &[AbortRule]) -> String {
    let taken = |name: &str| before.iter().any(|rule| rule.name == name);
    if !taken(word) {
        return word.to_owned();
    }
    (2..)
        .map(|n: u32| format!("{word}-{n}"))
        .find(|name| !taken(name))
        .unwrap_or_default()
}

fn times(table: &Table<'_, '_>) -> Option<f64> {
    let raw = table.raw("times");
    let times = match raw.map(toml::Spanned::get_ref) {
        Some(DeValue::Float(x)) => x.as_str().parse::<f64>().ok(),
        Some(DeValue::Integer(_)) => table.number("times").map(f64::from),
        _ => None,
    };
    let usable = times.filter(|times| *times > 1.0 && *times <= 1e6);
    if usable.is_none() {
        let message =
            "\"times\" must be a number above 1, like 3.0: how many times slower than before";
        table.error("times", message);
    }
    usable
}

/// A program and its arguments.
pub(super) fn command(table: &Table<'_, '_>, key: &'static str) -> Option<Vec<String>> {
    if table
        .raw(key)
        .is_some_and(|raw| raw.get_ref().as_str().is_some())
    {
        let message = format!(
            "{key:?} is a list, the program and its arguments; no shell reads it. For a shell: \
             [\"sh\", \"-c\", \"…\"]"
        );
        table.error(key, message);
        return None;
    }
    if !table.has(key) {
        table.error("", format!("{key:?} is missing"));
        return None;
    }
    let words: Vec<String> = table
        .texts(key)?
        .into_iter()
        .map(|(_, word)| word.to_owned())
        .collect();
    if words
        .first()
        .is_none_or(|program| program.trim().is_empty())
    {
        table.error(key, format!("{key:?} names no program"));
    }
    if words.iter().any(|word| word.contains('\0')) {
        table.error(
            key,
            format!("{key:?} holds a NUL, which no program can be given"),
        );
    }
    Some(words)
}
