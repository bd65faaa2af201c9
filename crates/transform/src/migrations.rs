//! Reads a folder of migration files.

mod abort;
mod meaning;
mod step;
pub(crate) mod units;

use crate::table::{Source, Table};
use crate::{LoadError, ScriptLimits, load_rules};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use whimbrel_model::Code;
use whimbrel_model::migration::{Migration, Step, StepKind, VerifyStep, check_each};

/// Reads every `migrations/<number>_<name>.toml`, in the order of their numbers. `project` is the folder
/// that paths in the files start from. A folder that does not exist holds no migrations.
///
/// Left alone are folders, hidden files, and files that neither end with `.toml` nor look as if they were
/// meant to (a README, an editor's backup, the scripts that steps run).
///
/// What the files mean together is judged by [`whimbrel_model::migration::check`], once they can be read.
///
/// # Errors
/// Everything that is wrong with any of the files: names, numbers, TOML, keys, values, the rules files that
/// they name. What cannot be meant in a file that can be read is said too, so that people mend all in one
/// pass.
pub fn load_migrations(folder: &Path, project: &Path) -> Result<Vec<Migration>, Vec<LoadError>> {
    let mut errors = Vec::new();
    let mut migrations = Vec::new();
    let mut numbers: BTreeMap<u32, String> = BTreeMap::new();
    for path in migration_files(folder)? {
        let shown = path.display().to_string();
        if let Ok((number, id)) = split_name(&file_name(&path)) {
            if let Some(other) = numbers.get(&number) {
                let message = format!(
                    "number {number} is taken by {other}.toml; give this file the next free number"
                );
                errors.push(invalid(&shown, message));
            }
            numbers.entry(number).or_insert_with(|| id.to_owned());
        }
        let parsed = std::fs::read_to_string(&path)
            .map_err(|error| vec![invalid(&shown, format!("the file cannot be read: {error}"))])
            .and_then(|text| parse_migration(&shown, &text, project));
        match parsed {
            Ok(migration) => migrations.push(migration),
            Err(found) => errors.extend(found),
        }
    }
    if errors.is_empty() {
        migrations.sort_by(|a: &Migration, b| (a.number, &a.id).cmp(&(b.number, &b.id)));
        return Ok(migrations);
    }
    for error in check_each(&migrations) {
        let file = folder.join(format!("{}.toml", error.migration));
        errors.push(invalid(&file.display().to_string(), error.message).at(error.line, 1));
    }
    errors.sort_by(|a, b| (&a.file, a.place).cmp(&(&b.file, b.place)));
    Err(errors)
}

/// One migration from its text. `file` is how messages call it; its last part names the migration.
///
/// # Errors
/// Everything that is wrong with the file, its name and the rules files that it names.
pub fn parse_migration(
    file: &str,
    text: &str,
    project: &Path,
) -> Result<Migration, Vec<LoadError>> {
    let name = file_name(Path::new(file));
    let (number, id) = split_name(&name).map_err(|message| vec![invalid(file, message)])?;
    let source = Source::new(file, text, Code::MigrationInvalid);
    let migration = source.parse().and_then(|root| {
        let table = Table::new(&source, root.get_ref(), 0..0);
        meaning::refuse_secrets(&source, root.get_ref());
        let description = table.need_text("description");
        let owner = table.text("owner").map(str::to_owned);
        let max_failed = units::threshold(&table, "max_failed");
        let defaults = step::Defaults {
            retries: step::retries(&table).unwrap_or(3),
            timeout: units::duration(&table, "timeout"),
        };
        let (steps, abort) = (table.tables("step"), table.tables("abort"));
        table.finish();
        let steps: Vec<Step> = (steps.iter().flatten())
            .filter_map(|table| step::read(table, &defaults, line_of(text, table.span.start)))
            .collect();
        let abort = abort::read(&abort.unwrap_or_default());
        let files = checksums(&source, file, &steps, project);
        let meaning = meaning::of(root.get_ref(), files);
        Some(Migration {
            id: id.to_owned(),
            number,
            description: description?.to_owned(),
            owner,
            max_failed,
            steps,
            abort,
            checksum: blake3::hash(meaning.to_string().as_bytes())
                .to_hex()
                .to_string(),
            meaning,
        })
    });
    let mut errors = source.into_errors();
    // From top to bottom; those of rules files come after.
    errors.sort_by(|a, b| {
        let rank = |e: &LoadError| (e.file != file, e.file.clone(), e.place);
        rank(a).cmp(&rank(b))
    });
    match migration {
        Some(migration) if errors.is_empty() => Ok(migration),
        _ => Err(errors),
    }
}

fn invalid(file: &str, message: impl Into<String>) -> LoadError {
    LoadError::new(Code::MigrationInvalid, file, message)
}

fn line_of(text: &str, byte: usize) -> u32 {
    let before = &text.as_bytes()[..byte.min(text.len())];
    let breaks = before.iter().filter(|b| **b == b'\n').count();
    u32::try_from(breaks + 1).unwrap_or(u32::MAX)
}

/// What each rules file means, by the name that the steps call it.
fn checksums(
    source: &Source<'_>,
    shown: &str,
    steps: &[Step],
    project: &Path,
) -> BTreeMap<String, String> {
    let mut sums = BTreeMap::new();
    for step in steps {
        let (StepKind::Copy(whimbrel_model::migration::CopyStep {
            rules: Some(file), ..
        })
        | StepKind::Verify(VerifyStep::Copied {
            rules: Some(file), ..
        })) = &step.kind
        else {
            continue;
        };
        if sums.contains_key(file) {
            continue;
        }
        let sum = rules_checksum(&project.join(file)).unwrap_or_else(|errors| {
            let message = format!("step \"{}\": {file} cannot be used", step.name);
            source.push([invalid(shown, message).at(step.line, 1)]);
            source.push(errors);
            String::new()
        });
        sums.insert(file.clone(), sum);
    }
    sums
}

/// Of the rules' meaning, in their order: they run one after the other.
fn rules_checksum(file: &Path) -> Result<String, Vec<LoadError>> {
    let rules = load_rules(file, ScriptLimits::default())?;
    let mut hasher = blake3::Hasher::new();
    for rule in &rules.rules {
        hasher.update(rule.checksum.as_bytes());
        hasher.update(b"\n");
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The files that are migrations or were meant to be, by name.
fn migration_files(folder: &Path) -> Result<Vec<PathBuf>, Vec<LoadError>> {
    let shown = folder.display().to_string();
    let unreadable = |error: std::io::Error| {
        let message = format!("the folder of migrations cannot be read: {error}");
        vec![invalid(&shown, message)]
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path();
        if meant(&file_name(&path)) && !entry.file_type().map_err(unreadable)?.is_dir() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Whether a file is a migration, or would be one but for a slip in its name.
fn meant(name: &str) -> bool {
    // Passed over in silence, such a file would be a migration that never runs.
    const SLIPS: [&str; 7] = ["toml", "tml", "tmol", "tolm", "yaml", "yml", "json"];
    if name.starts_with('.') {
        return false;
    }
    let (_, ending) = name.rsplit_once('.').unwrap_or((name, ""));
    let ending = ending.to_ascii_lowercase();
    let numbered = name.starts_with(|c: char| c.is_ascii_digit());
    ending == "toml" || (numbered && SLIPS.contains(&ending.as_str()))
}

/// `0001_to_postgres.toml` → `(1, "0001_to_postgres")`
fn split_name(file: &str) -> Result<(u32, &str), String> {
    let Some(id) = file.strip_suffix(".toml") else {
        return Err("a migration's name ends with .toml".to_owned());
    };
    let digits = id.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = id.split_at(digits);
    let name = rest.strip_prefix('_').unwrap_or_default();
    if digits == 0 || name.is_empty() {
        return Err(
            "a migration is called by a number and a name, like 0001_to_postgres.toml".to_owned(),
        );
    }
    // The name becomes part of paths and of what people type.
    let usable = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.chars().all(usable) || id.len() > 100 {
        return Err("a migration's name has letters, digits, _ and -, at most 100".to_owned());
    }
    match number.parse::<u32>() {
        Ok(number @ 1..=999_999_999) if digits <= 9 => Ok((number, id)),
        Ok(0) => Err("migrations are numbered from 1 on".to_owned()),
        _ => Err("a migration's number has at most nine digits".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split() {
        let check = |file, expect: Result<_, &str>| match (split_name(file), expect) {
            (Ok(found), Ok(expect)) => assert_eq!(found, expect),
            (Err(found), Err(expect)) => assert!(found.contains(expect), "{file}: {found}"),
            (found, _) => panic!("{file}: {found:?}"),
        };
        check("0001_to_postgres.toml", Ok((1, "0001_to_postgres")));
        check("7_a-B9.toml", Ok((7, "7_a-B9")));
        check("999999999_x.toml", Ok((999_999_999, "999999999_x")));
        check("1000000000_x.toml", Err("nine digits"));
        check("0000000001_x.toml", Err("nine digits"));
        check("0000_x.toml", Err("from 1"));
        check("0001-x.toml", Err("a number and a name"));
        check("0001_.toml", Err("a number and a name"));
        check("0001.toml", Err("a number and a name"));
        check("x.toml", Err("a number and a name"));
        check("_x.toml", Err("a number and a name"));
        check("0001_ä.toml", Err("letters, digits"));
        check("0001_a b.toml", Err("letters, digits"));
        check("0001_a.b.toml", Err("letters, digits"));
        check("0001_a.TOML", Err("ends with .toml"));
        check("0001_a.yaml", Err("ends with .toml"));
    }

    #[test]
    fn other_files_are_left_alone() {
        for (name, expect) in [
            ("0001_x.toml", true),
            ("x.toml", true),
            ("0001_x.TOML", true),
            ("0001_x.tmol", true),
            ("0001_x.yaml", true),
            ("README.md", false),
            ("0001_x.toml~", false),
            ("0001_x.toml.bak", false),
            (".0001_x.toml.swp", false),
            (".#0001_x.toml", false),
            ("#0001_x.toml#", false),
            ("0001_index.sql", false),
            ("0001_make.sh", false),
            ("package.json", false),
        ] {
            assert_eq!(meant(name), expect, "{name}");
        }
    }
}
