//! Reads a folder of schema versions.

use crate::version::TomlVersion;
use crate::{LoadError, ScriptLimits};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use whimbrel_model::{Code, Schema, Version, VersionCode};

/// Reads `NNNN_name.toml`, `.ts`, `.js` and `.mjs` from `dir`, one file a version, numbered from 1 without a
/// gap. JSON, Markdown and `.d.ts` files, files whose names begin with no digit, and folders are left
/// alone; anything else that begins with a digit is an error, because it may be a version with a slip in
/// its name.
///
/// # Errors
/// Everything that is wrong with any of the files, and every gap.
pub fn load_schema(
    dir: &Path,
    collection: &str,
    version_field: &str,
    limits: ScriptLimits,
) -> Result<Schema, Vec<LoadError>> {
    let (files, mut errors) = version_files(dir)?;
    let mut versions = Vec::new();
    let mut readable = true;
    for file in &files {
        match load_version(file, limits) {
            Ok(version) => versions.push(version),
            Err(found) => {
                readable = false;
                errors.extend(found);
                // Keeps the number taken, so that a faulty version is no gap besides.
                versions.push(placeholder(file));
            }
        }
    }
    match Schema::new(collection, version_field, versions) {
        Ok(schema) if readable && errors.is_empty() => return Ok(schema),
        Ok(_) => {}
        Err(found) => errors.extend(
            found
                .into_iter()
                .map(|e| LoadError::new(e.code(), dir.display().to_string(), e.to_string())),
        ),
    }
    Err(errors)
}

struct VersionFile {
    path: PathBuf,
    number: u32,
    name: String,
    ending: String,
}

type Found = (Vec<VersionFile>, Vec<LoadError>);

fn version_files(dir: &Path) -> Result<Found, Vec<LoadError>> {
    let unreadable = |error: std::io::Error| {
        let message = format!("the folder of schema versions cannot be read: {error}");
        vec![LoadError::new(
            Code::SchemaInvalid,
            dir.display().to_string(),
            message,
        )]
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if !entry.file_type().map_err(unreadable)?.is_dir() {
            paths.push(entry.path());
        }
    }
    paths.sort();
    let (mut files, mut errors) = (Vec::new(), Vec::new());
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let left_alone = [".json", ".md", ".d.ts", "~"];
        if !name.starts_with(|c: char| c.is_ascii_digit())
            || left_alone.iter().any(|ending| name.ends_with(ending))
        {
            continue;
        }
        match split_name(&name) {
            Ok((number, name, ending)) => files.push(VersionFile {
                number,
                name: name.to_owned(),
                ending: ending.to_owned(),
                path: path.clone(),
            }),
            Err(message) => errors.push(LoadError::new(
                Code::SchemaInvalid,
                path.display().to_string(),
                message,
            )),
        }
    }
    Ok((files, errors))
}

/// `0002_widget_state.toml` → `(2, "widget_state", "toml")`
fn split_name(file: &str) -> Result<(u32, &str, &str), &'static str> {
    const FORM: &str = "the name begins with a number, but is not like 0002_widget_state.toml";
    let digits = file.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = file.split_at(digits);
    let number = number
        .parse::<u32>()
        .ok()
        .filter(|number| *number > 0)
        .ok_or("versions are numbered from 1 on")?;
    let (name, ending) = rest
        .strip_prefix('_')
        .and_then(|rest| rest.rsplit_once('.'))
        .filter(|(name, _)| !name.is_empty())
        .ok_or(FORM)?;
    if !["toml", "ts", "js", "mjs"].contains(&ending) {
        return Err("a schema version ends with .toml, .ts, .js or .mjs");
    }
    Ok((number, name, ending))
}

fn load_version(file: &VersionFile, limits: ScriptLimits) -> Result<Version, Vec<LoadError>> {
    let shown = file.path.display().to_string();
    let text = std::fs::read_to_string(&file.path).map_err(|error| {
        let message = format!("the file cannot be read: {error}");
        vec![LoadError::new(Code::SchemaInvalid, shown.as_str(), message)]
    })?;
    let (code, description): (Arc<dyn VersionCode>, String) = if file.ending == "toml" {
        let folder = file.path.parent().unwrap_or(Path::new("."));
        let version = TomlVersion::load(&shown, &text, folder)?;
        let description = version.description().to_owned();
        (Arc::new(version), description)
    } else {
        script(&shown, &text, file.number, limits).map_err(|error| vec![error])?
    };
    Ok(Version {
        number: file.number,
        name: file.name.clone(),
        description: if description.is_empty() {
            file.name.replace('_', " ")
        } else {
            description
        },
        code,
    })
}

#[cfg(feature = "typescript")]
fn script(
    shown: &str,
    text: &str,
    number: u32,
    limits: ScriptLimits,
) -> Result<(Arc<dyn VersionCode>, String), LoadError> {
    let version = crate::script::ScriptVersion::load(shown, text, limits)?;
    if number > 1 && !version.has_up() {
        return Err(LoadError::new(
            Code::ScriptInvalid,
            shown,
            "the version exports no function up: export const up = (doc) => …",
        ));
    }
    let description = version.description().to_owned();
    Ok((Arc::new(version), description))
}

#[cfg(not(feature = "typescript"))]
fn script(
    shown: &str,
    _text: &str,
    _number: u32,
    _limits: ScriptLimits,
) -> Result<(Arc<dyn VersionCode>, String), LoadError> {
    Err(crate::script_unavailable(shown))
}

/// Stands for a version that could not be loaded, only to look for gaps.
fn placeholder(file: &VersionFile) -> Version {
    Version {
        number: file.number,
        name: file.name.clone(),
        description: String::new(),
        code: Arc::new(TomlVersion::default()),
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
        check("0002_widget_state.toml", Ok((2, "widget_state", "toml")));
        check("12_a.b.ts", Ok((12, "a.b", "ts")));
        check("0000_x.ts", Err("from 1"));
        check("99999999999_x.ts", Err("from 1"));
        check("0002-x.ts", Err("is not like"));
        check("0002_.ts", Err("is not like"));
        check("0002_x", Err("is not like"));
        check("0002_x.tmol", Err("ends with"));
    }
}
