//! Pages that must be there, and pages that speak of what is gone.

use super::source::{line_of, matching_brace};
use super::{Finding, Tree};
use std::collections::BTreeMap;

const CODES: &str = "crates/model/src/code.rs";
const COMMANDS: &str = "crates/cli/src/";

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for page in [
        "README.md",
        "ARCHITECTURE.md",
        "STYLE.md",
        "CHANGELOG.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
    ] {
        if tree.get(page).is_none() {
            findings.push(Finding::new(page, 0, "this page is missing"));
        }
    }
    if let Some(page) = tree.get("ARCHITECTURE.md")
        && !page.text.to_lowercase().contains("must never be")
    {
        findings.push(Finding::new(
            &page.path,
            0,
            "says nowhere what must never be",
        ));
    }
    let pages = |folder: &str| -> BTreeMap<String, String> {
        tree.with_extension(".md")
            .filter_map(|file| {
                let name = file.path.strip_prefix(folder)?.strip_suffix(".md")?;
                (name != "README" && !name.contains('/'))
                    .then(|| (name.to_owned(), file.path.clone()))
            })
            .collect()
    };
    compare(
        "docs/errors",
        &codes(tree),
        pages("docs/errors/"),
        &mut findings,
    );
    compare(
        "docs/commands",
        &commands(tree),
        pages("docs/commands/"),
        &mut findings,
    );
    findings
}

/// Something in the code that has a page of its name.
struct Named {
    name: String,
    file: String,
    line: usize,
}

fn compare(
    folder: &str,
    code: &[Named],
    mut pages: BTreeMap<String, String>,
    findings: &mut Vec<Finding>,
) {
    for named in code {
        if pages.remove(&named.name).is_none() {
            let message = format!("`{}` has no page {folder}/{}.md", named.name, named.name);
            findings.push(Finding::new(&named.file, named.line, message));
        }
    }
    // Where nothing is named at all, the reading of the code is what is wrong.
    if code.is_empty() {
        let message = "tidy found nothing in the code that could have a page here: teach xtask/src/tidy/docs.rs";
        findings.push(Finding::new(folder, 0, message));
        return;
    }
    for path in pages.into_values() {
        findings.push(Finding::new(
            &path,
            0,
            "speaks of something that the code does not have",
        ));
    }
}

/// Lines such as `DocMalformed = "WB-D01", "the document is not valid JSON";`.
fn codes(tree: &Tree) -> Vec<Named> {
    let Some(file) = tree.get(CODES) else {
        return Vec::new();
    };
    file.text
        .lines()
        .enumerate()
        .filter_map(|(index, line)| {
            let (_, rest) = line.split_once("= \"WB-")?;
            let (number, _) = rest.split_once('"')?;
            Some(Named {
                name: format!("WB-{number}"),
                file: file.path.clone(),
                line: index + 1,
            })
        })
        .collect()
}

/// The variants of the cli's `enum Command`, as clap spells them.
fn commands(tree: &Tree) -> Vec<Named> {
    let mut found = Vec::new();
    for (file, source) in tree.sources(COMMANDS) {
        let code = &source.code;
        let Some(start) = code.find("enum Command {") else {
            continue;
        };
        let open = start + "enum Command ".len();
        let Some(close) = matching_brace(&code[open..]) else {
            continue;
        };
        let first = line_of(code, open);
        for (index, line) in code[open + 1..open + close].lines().enumerate() {
            let line = line.trim();
            let name: String = line.chars().take_while(|c| c.is_alphanumeric()).collect();
            let hidden = index > 0
                && file
                    .text
                    .lines()
                    .nth(first + index - 2)
                    .is_some_and(|above| above.contains("hide = true"));
            if name.starts_with(|c: char| c.is_uppercase()) && !hidden {
                found.push(Named {
                    name: kebab(&name),
                    file: file.path.clone(),
                    line: first + index,
                });
            }
        }
    }
    found
}

fn kebab(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.extend(c.to_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::check_finds;
    use super::*;

    const WHOLE: &[(&str, &str)] = &[
        ("README.md", ""),
        ("ARCHITECTURE.md", "## What must never be"),
        ("STYLE.md", ""),
        ("CHANGELOG.md", ""),
        ("LICENSE-MIT", ""),
        ("LICENSE-APACHE", ""),
        (
            CODES,
            "codes! {\n    DocMalformed = \"WB-D01\", \"malformed\";\n}",
        ),
        ("docs/errors/WB-D01.md", ""),
        (
            "crates/cli/src/args.rs",
            "pub enum Command {\n    /// Copy, {now}\n    Copy(copy::Copy),\n    #[command(hide = true)]\n    Inner,\n    DryRun,\n}",
        ),
        ("docs/commands/copy.md", ""),
        ("docs/commands/dry-run.md", ""),
        ("docs/commands/README.md", ""),
    ];

    fn check_changed(path: &str, text: Option<&str>, expect: &[&str]) {
        let mut files: Vec<_> = WHOLE
            .iter()
            .copied()
            .filter(|(name, _)| *name != path)
            .collect();
        files.extend(text.map(|text| (path, text)));
        check_finds(check, &files, expect);
    }

    #[test]
    fn a_whole_project_has_no_findings() {
        check_finds(check, WHOLE, &[]);
    }

    #[test]
    fn what_is_missing_is_named() {
        check_changed(
            "CHANGELOG.md",
            None,
            &["CHANGELOG.md: this page is missing"],
        );
        check_changed("ARCHITECTURE.md", Some("It is."), &["what must never be"]);
        check_changed(
            "docs/errors/WB-D01.md",
            None,
            &["code.rs:2: `WB-D01` has no page"],
        );
        check_changed(
            "docs/commands/dry-run.md",
            None,
            &["args.rs:6: `dry-run` has no page"],
        );
        check_changed(
            "docs/commands/paste.md",
            Some(""),
            &["paste.md: speaks of something"],
        );
        check_changed(CODES, None, &["docs/errors: tidy found nothing"]);
    }
}
