//! Reads a folder of files of checks.

mod kinds;
mod measures;

use crate::rules::filter;
use crate::table::{Source, Table, hash_meaning, hash_text};
use crate::{LoadError, ScriptLimits};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::de::DeTable;
use whimbrel_model::Code;
use whimbrel_model::check::{Check, CheckKind, DEFAULT_EXAMPLES};
use whimbrel_model::finding::Severity;

/// More examples would no longer be examples, and each is held in memory.
const MOST_EXAMPLES: u32 = 1000;

/// Reads every `checks/*.toml`, in the order of their names. A folder that does not exist holds no checks.
/// Left alone are folders, hidden files, and files that neither end with `.toml` nor look as if they were meant
/// to (the scripts and JSON Schemas of checks, a README).
///
/// # Errors
/// Everything that is wrong with any of the files and of those they name, by file and line.
pub fn load_checks(folder: &Path, limits: ScriptLimits) -> Result<Vec<Check>, Vec<LoadError>> {
    let mut errors = Vec::new();
    let mut checks: Vec<Check> = Vec::new();
    let mut taken: BTreeMap<String, String> = BTreeMap::new();
    for path in check_files(folder)? {
        let shown = path.display().to_string();
        if path.extension().is_none_or(|ending| ending != "toml") {
            let message = "a file of checks ends with .toml; this one would be passed over";
            errors.push(LoadError::new(Code::CheckInvalid, shown, message));
            continue;
        }
        let parsed = std::fs::read_to_string(&path)
            .map_err(|error| {
                let message = format!("the file cannot be read: {error}");
                vec![LoadError::new(Code::CheckInvalid, shown.as_str(), message)]
            })
            .and_then(|text| parse_checks(&shown, &text, folder, limits));
        match parsed {
            Ok(found) => {
                for check in found {
                    if let Some(other) = taken.get(&check.name) {
                        let message = format!(
                            "{other} has a check called {:?} too; results are told apart by name",
                            check.name
                        );
                        errors.push(LoadError::new(Code::CheckInvalid, shown.as_str(), message));
                    }
                    taken.insert(check.name.clone(), shown.clone());
                    checks.push(check);
                }
            }
            Err(found) => errors.extend(found),
        }
    }
    if errors.is_empty() {
        Ok(checks)
    } else {
        Err(errors)
    }
}

/// The checks of one file's text. `file` is how messages call it, `folder` where the files lie that it names.
///
/// # Errors
/// Everything that is wrong with the file and those it names.
pub fn parse_checks(
    file: &str,
    text: &str,
    folder: &Path,
    limits: ScriptLimits,
) -> Result<Vec<Check>, Vec<LoadError>> {
    let source = Source::new(file, text, Code::CheckInvalid);
    let reader = Reader { folder, limits };
    let checks = source.parse().map(|root| {
        let table = Table::new(&source, root.get_ref(), 0..0);
        let list = table.tables("check").unwrap_or_default();
        table.finish();
        if list.is_empty() {
            table.error("check", "the file has no [[check]]");
        }
        let checks: Vec<Check> = list
            .iter()
            .filter_map(|check| reader.check(check, meaning(root.get_ref(), &check.span)))
            .collect();
        for (i, check) in list.iter().enumerate() {
            let name = check.text("name");
            if name.is_some() && list[..i].iter().any(|other| other.text("name") == name) {
                let message = format!("two checks are called {:?}", name.unwrap_or_default());
                check.error("name", message);
            }
        }
        checks
    });
    let mut errors = source.into_errors();
    errors.sort_by(|a, b| {
        let rank = |e: &LoadError| (e.file != file, e.file.clone(), e.place);
        rank(a).cmp(&rank(b))
    });
    match checks {
        Some(checks) if errors.is_empty() => Ok(checks),
        _ => Err(errors),
    }
}

/// The hash of the check that stands at `span`, as far as it stands in this file.
fn meaning(root: &DeTable<'_>, span: &std::ops::Range<usize>) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    let list = root.iter().find(|(name, _)| name.get_ref() == "check");
    let list = list.and_then(|(_, list)| list.get_ref().as_array());
    for check in list.into_iter().flat_map(|checks| checks.iter()) {
        if let (true, Some(table)) = (check.span() == *span, check.get_ref().as_table()) {
            // What it is called and how it is told do not change what it judges.
            let without = ["name", "description", "severity", "examples"];
            hash_meaning(table, &without, &mut hasher);
        }
    }
    hasher
}

struct Reader<'a> {
    folder: &'a Path,
    limits: ScriptLimits,
}

impl Reader<'_> {
    fn check(&self, table: &Table<'_, '_>, mut sums: blake3::Hasher) -> Option<Check> {
        let name = table.need_text("name");
        if name.is_some_and(|name| name.trim().is_empty()) {
            table.error("name", "\"name\" is empty");
        }
        let severity = severity(table);
        let description = table.text("description").unwrap_or_default().to_owned();
        let examples = table.number("examples");
        if examples.is_some_and(|n| n > MOST_EXAMPLES) {
            table.error(
                "examples",
                format!("\"examples\" is at most {MOST_EXAMPLES}"),
            );
        }
        let own = table.table("where").map(|table| filter(&table));
        let other = table.table("other_where").map(|table| filter(&table));
        let collection = table.text("collection").map(str::to_owned);
        let kind = self.kind(table, &mut sums);
        table.finish();
        let kind = kind?;
        judge_scope(table, &kind);
        let check = Check {
            name: name?.to_owned(),
            severity,
            description,
            collection,
            filter: lift(own)?,
            other_filter: lift(other)?,
            kind,
            examples: examples.map_or(DEFAULT_EXAMPLES, |n| n as usize),
            checksum: sums.finalize().to_hex().to_string(),
        };
        if check.other_filter.is_some()
            && (check.other().is_none() || matches!(check.kind, CheckKind::Condition { .. }))
        {
            table.error(
                "other_where",
                "\"other_where\" chooses documents of a second collection, and this check has none to choose from",
            );
        }
        Some(check)
    }

    /// Reads the files that a check names.
    fn text_of(&self, table: &Table<'_, '_>, key: &'static str) -> Option<(String, String)> {
        let name = table.text(key)?;
        let path = self.folder.join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Some((path.display().to_string(), text)),
            Err(error) => {
                table.error(key, format!("{} cannot be read: {error}", path.display()));
                None
            }
        }
    }

    fn add_sum(sums: &mut blake3::Hasher, checksum: &str) {
        hash_text(b'f', checksum, sums);
    }
}

fn severity(table: &Table<'_, '_>) -> Severity {
    let Some(word) = table.text("severity") else {
        return Severity::Critical;
    };
    Severity::from_word(word).unwrap_or_else(|| {
        let message = "\"severity\" must be \"critical\", \"warning\" or \"info\"";
        table.error("severity", message);
        Severity::Critical
    })
}

/// Which of `collection` and `where` make sense for the kind.
fn judge_scope(table: &Table<'_, '_>, kind: &CheckKind) {
    let word = kind.word();
    let outside = matches!(kind, CheckKind::Sql { .. } | CheckKind::Command { .. });
    if !outside && !table.has("collection") {
        table.error("", "\"collection\" is missing: what the check judges");
    }
    if outside && table.has("collection") {
        let message = format!("a check by {word} is about no single collection: leave it out");
        table.error("collection", message);
    }
    if (outside || matches!(kind, CheckKind::Latency(_))) && table.has("where") {
        table.error("where", format!("a check of {word} chooses no documents"));
    }
}

/// What is not asked for is `Some(None)`; what was asked for but is wrong is `None`.
fn lift<T>(asked: Option<Option<T>>) -> Option<Option<T>> {
    match asked {
        None => Some(None),
        Some(None) => None,
        Some(found) => Some(found),
    }
}

/// The files that hold checks or were meant to, by name.
fn check_files(folder: &Path) -> Result<Vec<PathBuf>, Vec<LoadError>> {
    let shown = folder.display().to_string();
    let unreadable = |error: std::io::Error| {
        let message = format!("the folder of checks cannot be read: {error}");
        vec![LoadError::new(Code::CheckInvalid, shown.as_str(), message)]
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if meant(&name) && !entry.file_type().map_err(unreadable)?.is_dir() {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// Whether a file holds checks, or would but for a slip in its name: passed over in silence, its checks would
/// never run.
fn meant(name: &str) -> bool {
    const ENDINGS: [&str; 6] = ["toml", "tml", "tmol", "tolm", "yaml", "yml"];
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    !name.starts_with('.') && ENDINGS.contains(&ending.to_ascii_lowercase().as_str())
}
