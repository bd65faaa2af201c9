//! Links between the project's pages, and figures without the command that measured them.

use super::{File, Finding, Tree};

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.with_extension(".md") {
        for (line, target) in links(&file.text) {
            if let Some(message) = broken(tree, file, &target) {
                findings.push(Finding::new(&file.path, line, message));
            }
        }
        figures(file, &mut findings);
    }
    findings
}

/// Lines outside of fenced code, from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((index + 1, line))
    })
}

/// `[text](target)`, outside of code.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        // Every second piece stands between backquotes.
        let plain: String = line.split('`').step_by(2).collect();
        for piece in plain.split("](").skip(1) {
            if let Some((target, _)) = piece.split_once(')') {
                found.push((number, target.trim_matches(['<', '>']).to_owned()));
            }
        }
    }
    found
}

fn broken(tree: &Tree, file: &File, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if path.is_empty() {
        file.path.clone()
    } else {
        resolve(&file.path, path)?
    };
    if !tree.contains(&path) {
        return Some(format!("the link to {target} leads nowhere"));
    }
    let page = tree.get(&path)?;
    if anchor.is_empty()
        || !page.path.ends_with(".md")
        || anchors(&page.text).any(|have| have == anchor)
    {
        return None;
    }
    Some(format!("{path} has no heading #{anchor}"))
}

/// A link's path as seen from the root; `None` where it leads out of the project.
fn resolve(from: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Headings as GitHub makes anchors of them: lower case, blanks to dashes, no punctuation.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    prose(text)
        .filter(|(_, line)| line.starts_with('#'))
        .map(|(_, line)| {
            line.trim_start_matches('#')
                .trim()
                .to_lowercase()
                .chars()
                .filter_map(|c| match c {
                    ' ' => Some('-'),
                    c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
                    _ => None,
                })
                .collect()
        })
}

/// What only a measurement can say.
const MEASURED: &[&str] = &[
    "documents per second",
    "documents a second",
    "documents/s",
    "docs/s",
    "times as fast",
    "times faster",
    "x faster",
    "× faster",
    "times the rate",
    "times the speed",
    "peak memory",
    "peak rss",
];

/// A section with a measured figure must name the command, so that a reader can measure it again.
fn figures(file: &File, findings: &mut Vec<Finding>) {
    let mut claim = None;
    let mut named = false;
    let mut close = |claim: &mut Option<usize>, named: bool| {
        if let Some(line) = claim.take()
            && !named
        {
            let message = "a measured figure, and its section names no `cargo xtask bench` command";
            findings.push(Finding::new(&file.path, line, message));
        }
    };
    for (index, line) in file.text.lines().enumerate() {
        if line.starts_with('#') && !line.starts_with("#!") {
            close(&mut claim, named);
            named = false;
        }
        named |= line.contains("cargo xtask bench");
        let lower = line.to_lowercase();
        let measured = MEASURED.iter().any(|phrase| lower.contains(phrase));
        if claim.is_none() && measured && line.contains(|c: char| c.is_ascii_digit()) {
            claim = Some(index + 1);
        }
    }
    close(&mut claim, named);
}

#[cfg(test)]
mod tests {
    use super::super::check_finds;
    use super::*;

    fn check_page(text: &str, expect: &[&str]) {
        let other = (
            "docs/other.md",
            "# The *other* `page`, no. 2\n```\n# not this\n```\n",
        );
        check_finds(
            check,
            &[("docs/a.md", text), other, ("LICENSE-MIT", "")],
            expect,
        );
    }

    #[test]
    fn links_resolve() {
        check_page(
            "[a](other.md) [b](../LICENSE-MIT) [c](https://example.org/x) [d](#here)\n# Here",
            &[],
        );
        check_page(
            "[a](other.md#the-other-page-no-2) [b](..) [c](../docs/)",
            &[],
        );
        check_page("`[a](none.md)`\n```\n[b](none.md)\n```", &[]);
        check_page(
            "\n[a](none.md)",
            &["docs/a.md:2: the link to none.md leads nowhere"],
        );
        check_page("[a](other.md#not-this)", &["has no heading #not-this"]);
        check_page("[a](#there)", &["docs/a.md has no heading #there"]);
    }

    #[test]
    fn figures_name_their_command() {
        check_page("# Speed\n`cargo xtask bench copy`: 3 times faster", &[]);
        check_page(
            "# Speed\nmuch work a second, many documents per second",
            &[],
        );
        check_page(
            "# Speed\nit is 3 times faster\n# How\n`cargo xtask bench copy`",
            &["docs/a.md:2: a measured figure"],
        );
        check_page(
            "140,000 documents per second",
            &["docs/a.md:1: a measured figure"],
        );
    }
}
