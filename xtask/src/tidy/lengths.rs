//! Long files and long functions need a reason, for they are usually two things.

use super::functions::{Function, functions};
use super::{File, Finding, Tree};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const REASON: &str = "// tidy: long because ";
/// How far from the top a file's reason may stand.
const HEAD_LINES: usize = 30;

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, source) in tree.sources("") {
        let lines = file.text.lines().count();
        if lines > FILE_LINES_MAX && !reason_in(file, 1, HEAD_LINES) {
            let message = format!(
                "{lines} lines (over {FILE_LINES_MAX}): is it still one thing? Split it, or say why not: `{REASON}…` at the top"
            );
            findings.push(Finding::new(&file.path, 0, message));
        }
        for function in functions(&source.code) {
            // Test functions are mostly tables.
            let long = function.lines() > FUNCTION_LINES_MAX && !source.is_test(function.first);
            if long && !reason_at(file, &function) {
                let message = format!(
                    "fn {} has {} lines (over {FUNCTION_LINES_MAX}): split it, or say why not: `{REASON}…` in it or above it",
                    function.name,
                    function.lines()
                );
                findings.push(Finding::new(&file.path, function.first, message));
            }
        }
    }
    findings
}

/// In the function, or among the comments and attributes above it.
fn reason_at(file: &File, function: &Function) -> bool {
    let lines: Vec<_> = file.text.lines().collect();
    let above = lines[..function.first - 1]
        .iter()
        .rev()
        .take_while(|line| {
            line.trim_start().starts_with("//") || line.trim_start().starts_with("#[")
        })
        .count();
    reason_in(file, function.first - above, function.last)
}

fn reason_in(file: &File, first: usize, last: usize) -> bool {
    file.text
        .lines()
        .skip(first - 1)
        .take(last - first + 1)
        .any(|line| {
            line.split_once(REASON)
                .is_some_and(|(_, why)| !why.trim().is_empty())
        })
}

#[cfg(test)]
mod tests {
    use super::super::check_finds;
    use super::*;

    fn function(lines: usize) -> String {
        format!("fn long() {{\n{}}}\n", "    a();\n".repeat(lines - 2))
    }

    #[test]
    fn long_functions_need_a_reason() {
        let reason = format!("{REASON}one match of all operations\n");
        check_finds(check, &[("a.rs", &function(70))], &[]);
        check_finds(
            check,
            &[("a.rs", &function(71))],
            &["a.rs:1: fn long has 71 lines"],
        );
        check_finds(
            check,
            &[("a.rs", &format!("{reason}#[must_use]\n{}", function(71)))],
            &[],
        );
        check_finds(
            check,
            &[("a.rs", &format!("{REASON}\n{}", function(71)))],
            &["a.rs:2: fn long"],
        );
        check_finds(
            check,
            &[("a.rs", &format!("{reason}\nfn b() {{}}\n{}", function(71)))],
            &["a.rs:4: fn long"],
        );
        check_finds(
            check,
            &[(
                "a.rs",
                &format!("#[cfg(test)]\nmod tests {{\n{}}}", function(90)),
            )],
            &[],
        );
    }

    #[test]
    fn long_files_need_a_reason() {
        let text = "//! About.\n".to_owned() + &"const A: u8 = 1;\n".repeat(600);
        check_finds(check, &[("a.rs", &text)], &["a.rs: 601 lines"]);
        check_finds(check, &[("a.rs", &format!("{REASON}a table\n{text}"))], &[]);
        check_finds(check, &[("a.md", &text)], &[]);
    }
}
