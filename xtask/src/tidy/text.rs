//! White space, in every text file.

use super::{Finding, Tree};

/// Test samples may need what is wrong elsewhere, and legal texts stay as they came.
const LEFT_ALONE: &[&str] = &["/fixtures/", "/snapshots/", "Cargo.lock", "LICENSE-"];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        if LEFT_ALONE.iter().any(|part| file.path.contains(part)) {
            continue;
        }
        for (index, line) in file.text.split('\n').enumerate() {
            if line.ends_with([' ', '\t', '\r']) {
                findings.push(Finding::new(
                    &file.path,
                    index + 1,
                    "white space at the line's end",
                ));
            }
            if line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ") {
                findings.push(Finding::new(&file.path, index + 1, "an unfinished merge"));
            }
        }
        if !file.text.is_empty() && !file.text.ends_with('\n') {
            findings.push(Finding::new(&file.path, 0, "the last line has no end"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::check_finds;
    use super::*;

    #[test]
    fn white_space() {
        check_finds(
            check,
            &[("a.md", "a\n\nb\n"), ("b", ""), ("t/fixtures/x", "a \n")],
            &[],
        );
        check_finds(
            check,
            &[("a.md", "a\nb \n"), ("b.sh", "c\r\n")],
            &["a.md:2: white space", "b.sh:1: white space"],
        );
        check_finds(check, &[("a.md", "a")], &["a.md: the last line has no end"]);
        check_finds(
            check,
            &[("a.rs", "<<<<<<< mine\n")],
            &["a.rs:1: an unfinished merge"],
        );
    }
}
