//! Taste as code: what the compiler cannot check and a reviewer should not have to.
//!
//! Every check looks at the whole [`Tree`] and returns all its findings, so that people fix in one pass.
//! Where a rule makes the code worse, a comment breaks it and says why:
//! `// tidy: allow WORD because …` on the line or the one above, `// tidy: long because …` at the top of
//! a long file, or above or in a long function.

mod arrows;
mod docs;
mod functions;
mod lengths;
mod links;
mod source;
mod text;
mod words;

use crate::Outcome;
use source::Source;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// One broken rule, at one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Relative to the workspace's root.
    file: String,
    /// From 1; 0 where the finding is about the whole file.
    line: usize,
    message: String,
}

impl Finding {
    fn new(file: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{line}: {}", self.file, self.message),
        }
    }
}

/// The project's text files.
#[derive(Default)]
pub struct Tree {
    files: Vec<File>,
}

pub struct File {
    /// Relative to the workspace's root, with `/`.
    path: String,
    text: String,
    /// Only of Rust files.
    source: Option<Source>,
}

impl Tree {
    fn read(root: &Path) -> Outcome<Self> {
        let mut paths = Vec::new();
        walk(root, &mut paths)?;
        let mut tree = Self::default();
        for path in paths {
            // Binary files have no lines to judge.
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let relative = path.strip_prefix(root).unwrap_or(&path);
            tree.add(&relative.to_string_lossy(), text);
        }
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        source::mark_test_modules(&mut tree);
        Ok(tree)
    }

    fn add(&mut self, path: &str, text: String) {
        let source = path.ends_with(".rs").then(|| Source::new(path, &text));
        self.files.push(File {
            path: path.to_owned(),
            text,
            source,
        });
    }

    fn get(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Rust files whose path begins so.
    fn sources<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a File, &'a Source)> {
        self.files
            .iter()
            .filter(move |file| file.path.starts_with(prefix))
            .filter_map(|file| Some((file, file.source.as_ref()?)))
    }

    fn with_extension<'a>(&'a self, extension: &'a str) -> impl Iterator<Item = &'a File> {
        self.files
            .iter()
            .filter(move |file| file.path.ends_with(extension))
    }

    /// Whether something, a file or a folder, lies at this path.
    fn contains(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        path.is_empty()
            || self
                .files
                .iter()
                .any(|file| file.path == path || file.path.starts_with(&folder))
    }

    #[cfg(test)]
    fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self::default();
        for (path, text) in files {
            tree.add(path, (*text).to_owned());
        }
        source::mark_test_modules(&mut tree);
        tree
    }
}

fn walk(dir: &Path, into: &mut Vec<PathBuf>) -> Outcome<()> {
    let failed = |error| format!("{}: {error}", dir.display());
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.to_string_lossy();
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_file() {
            into.push(path);
            continue;
        }
        let ours =
            !name.starts_with('.') || [".ci", ".cargo", ".config", ".github"].contains(&&*name);
        let built = ["target", "node_modules", "whimbrel-demo"].contains(&&*name);
        if kind.is_dir() && ours && !built {
            walk(&path, into)?;
        }
    }
    Ok(())
}

type Check = fn(&Tree) -> Vec<Finding>;

const CHECKS: &[Check] = &[
    arrows::check,
    words::check,
    lengths::check,
    docs::check,
    links::check,
    text::check,
];

fn findings(tree: &Tree) -> Vec<Finding> {
    let mut all: Vec<_> = CHECKS.iter().flat_map(|check| check(tree)).collect();
    all.sort();
    all.dedup();
    all
}

pub fn run() -> Outcome<()> {
    let tree = Tree::read(&crate::root())?;
    let findings = findings(&tree);
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => {
            println!(
                "tidy: {} files, nothing to complain about",
                tree.files.len()
            );
            Ok(())
        }
        1 => Err("tidy: 1 finding".to_owned()),
        many => Err(format!("tidy: {many} findings")),
    }
}

#[cfg(test)]
fn check_finds(check: Check, files: &[(&str, &str)], expect: &[&str]) {
    let found: Vec<_> = check(&Tree::of(files))
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(found.len(), expect.len(), "{found:#?}");
    for (found, expect) in found.iter().zip(expect) {
        assert!(found.contains(expect), "{found:?} is not {expect:?}");
    }
}
