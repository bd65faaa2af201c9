//! The schemas and rules of a project's folder.

use crate::failure::{Failure, Snippet};
use crate::project::Collection;
use std::path::Path;
use std::sync::Arc;
use whimbrel_model::compat::Compatibility;
use whimbrel_model::rule::CopyRule;
use whimbrel_model::{Code, Schema};
use whimbrel_transform::{LoadError, ScriptLimits};

/// The schema of one collection.
///
/// # Errors
/// The folder has no versions, or they have gaps, or a file is not valid (all of them at once).
pub fn load(name: &str, collection: &Collection) -> Result<Schema, Failure> {
    let dir = &collection.schemas;
    if !dir.is_dir() {
        return Err(Failure::new(
            Code::SchemaUnknownVersion,
            format!(
                "collection {name} has no schema: there is no folder {}",
                shown(dir)
            ),
        )
        .not_done("nothing was begun and nothing was written")
        .next(format!(
            "whimbrel new schema {name} initial   (writes version 1)"
        )));
    }
    // As short as it can be said: messages and quarantine name these files.
    whimbrel_transform::load_schema(
        Path::new(&shown(dir)),
        name,
        &collection.version_field,
        ScriptLimits::default(),
    )
    .map_err(|e| failure(&e))
}

/// The schema, or `None` where the collection has none.
///
/// # Errors
/// As [`load`], but for a folder that is not there.
pub fn load_if_any(name: &str, collection: &Collection) -> Result<Option<Schema>, Failure> {
    if collection.schemas.is_dir() {
        load(name, collection).map(Some)
    } else {
        Ok(None)
    }
}

/// The rules of one file, in their order.
///
/// # Errors
/// The file cannot be read or is not valid.
pub fn rules(file: &Path) -> Result<Vec<CopyRule>, Failure> {
    let rules = whimbrel_transform::load_rules(Path::new(&shown(file)), ScriptLimits::default());
    rules.map(|r| r.rules).map_err(|e| failure(&e))
}

/// A path as short as it can be said from here.
#[must_use]
pub fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here)
        .unwrap_or(path)
        .display()
        .to_string()
}

/// Everything that is wrong with files, each at its place.
#[must_use]
pub fn failure(errors: &[LoadError]) -> Failure {
    let code = errors.first().map_or(Code::SchemaInvalid, |e| e.code);
    let message = match errors {
        [one] if one.place.is_none() => one.to_string(),
        [one] => format!("{} is not valid", shown(Path::new(&one.file))),
        many => format!("{} things are wrong", many.len()),
    };
    let mut failure =
        Failure::new(code, message).not_done("nothing was begun and nothing was written");
    let mut files = FileCache::default();
    for error in errors {
        match error.place.and_then(|place| files.span(&error.file, place)) {
            Some((source, span)) => failure.snippets.push(Snippet {
                file: shown(Path::new(&error.file)),
                source,
                span,
                label: error.message.clone(),
                help: None,
            }),
            None if errors.len() > 1 || error.place.is_some() => {
                failure.message.push_str(&format!("\n{error}"));
            }
            None => {}
        }
    }
    failure
}

/// Texts of files, read once.
#[derive(Default)]
pub struct FileCache(std::collections::BTreeMap<String, Option<Arc<str>>>);

impl FileCache {
    /// The file's text, and the word that begins at a line and column (both from 1).
    #[must_use]
    pub fn span(
        &mut self,
        file: &str,
        (line, column): (u32, u32),
    ) -> Option<(Arc<str>, std::ops::Range<usize>)> {
        let source = self
            .0
            .entry(file.to_owned())
            .or_insert_with(|| std::fs::read_to_string(file).ok().map(Arc::from))
            .clone()?;
        let start_of_line: usize = source
            .split_inclusive('\n')
            .take(line.saturating_sub(1) as usize)
            .map(str::len)
            .sum();
        let rest = source.get(start_of_line..)?.lines().next().unwrap_or("");
        let in_line: usize = rest
            .chars()
            .take(column.saturating_sub(1) as usize)
            .map(char::len_utf8)
            .sum();
        let word = rest[in_line..]
            .find(|c: char| c.is_whitespace() || matches!(c, ',' | ']' | '}' | '='))
            .filter(|n| *n > 0)
            .unwrap_or_else(|| rest[in_line..].chars().next().map_or(0, char::len_utf8));
        let start = start_of_line + in_line;
        Some((source, start..start + word))
    }
}

/// What is known of each version's change without running it, from version 2 on.
#[must_use]
pub fn known_compatibility(schema: &Schema) -> Vec<(u32, Compatibility, Vec<String>)> {
    let pairs = schema.versions().windows(2);
    pairs
        .map(|pair| {
            let (compatibility, reasons) = whimbrel_transform::judge(&pair[1], Some(&pair[0]));
            (pair[1].number, compatibility, reasons)
        })
        .collect()
}
