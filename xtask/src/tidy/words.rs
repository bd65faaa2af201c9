//! Words that a crate must not use: what it would say with them is not its business.

use super::source::Source;
use super::{File, Finding, Tree};

struct Rule {
    /// The crates' folders.
    crates: &'static [&'static str],
    /// In lower case; found in any case, also as part of a longer word.
    words: &'static [&'static str],
    /// Whether words in string literals count: those too tell what code knows.
    strings: bool,
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        crates: &["model", "firestore"],
        words: &[
            "tokio",
            "std::fs",
            "std::net",
            "std::process",
            "std::env",
            "std::thread",
            "systemtime::now",
            "instant::now",
            "timestamp::now",
            "zoned::now",
            "rusqlite",
            "tokio_postgres",
        ],
        strings: false,
        why: "the model and the protocol know no driver, clock or runtime",
    },
    Rule {
        crates: &["engine"],
        words: &["sqlite", "postgres", "firestore", "mongodb"],
        strings: true,
        why: "the engine names no database",
    },
    Rule {
        crates: &["gateway"],
        words: &["sqlite", "postgres", "mongodb"],
        strings: true,
        why: "the gateway names no database but the one whose protocol it speaks",
    },
    Rule {
        crates: &["stores"],
        words: &[
            "migration",
            "schemaversion",
            "schema version",
            "versioncode",
            "upgrade(",
        ],
        strings: true,
        why: "a store knows nothing of migrations",
    },
    Rule {
        crates: &[
            "model",
            "firestore",
            "stores",
            "transform",
            "engine",
            "gateway",
        ],
        words: &[
            "print!(",
            "println!(",
            "process::exit",
            "stdin()",
            "stdout()",
            "stderr()",
        ],
        strings: false,
        why: "only the cli prints, asks or exits",
    },
];

/// Unfinished work, anywhere, tests too.
const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!"];

/// Module names that say nothing of what is in them.
const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "misc", "common"];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, source) in tree.sources("") {
        for rule in RULES {
            let ours = rule
                .crates
                .iter()
                .any(|name| file.path.starts_with(&format!("crates/{name}/src/")));
            if ours {
                forbidden(file, source, rule, &mut findings);
            }
        }
        everywhere(file, source, &mut findings);
    }
    findings
}

fn forbidden(file: &File, source: &Source, rule: &Rule, findings: &mut Vec<Finding>) {
    let text = if rule.strings {
        &source.code_and_strings
    } else {
        &source.code
    };
    for (index, line) in text.lines().enumerate() {
        if source.is_test(index + 1) {
            continue;
        }
        let line = line.to_lowercase();
        // `println!` contains `print!`: one finding a line is enough.
        let Some(word) = rule.words.iter().find(|word| line.contains(**word)) else {
            continue;
        };
        if !allowed(&file.text, index, word) {
            findings.push(Finding::new(
                &file.path,
                index + 1,
                format!("`{word}`: {}", rule.why),
            ));
        }
    }
}

fn everywhere(file: &File, source: &Source, findings: &mut Vec<Finding>) {
    for (index, line) in source.code.lines().enumerate() {
        let mut say = |message: String| findings.push(Finding::new(&file.path, index + 1, message));
        if let Some(word) = UNFINISHED.iter().find(|word| line.contains(**word)) {
            say(format!("`{word}` is unfinished work"));
        }
        if let Some(name) = declared_module(line)
            && EMPTY_NAMES.contains(&name)
            && !source.is_test(index + 1)
        {
            say(format!(
                "`mod {name}` says nothing of what is in it: one thing a file, by its name"
            ));
        }
        if line.trim_start().starts_with("#[ignore]") {
            say("an ignored test needs its reason: #[ignore = \"…\"]".to_owned());
        }
    }
}

fn declared_module(line: &str) -> Option<&str> {
    let mut words = line
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty());
    words.find(|word| *word == "mod")?;
    words.next()
}

/// `// tidy: allow WORD because …`, on the line or on the one above.
fn allowed(text: &str, index: usize, word: &str) -> bool {
    let mark = format!("tidy: allow {word} because ");
    let above = index.saturating_sub(1);
    text.lines()
        .skip(above)
        .take(index - above + 1)
        .any(|line| line.to_lowercase().contains(&mark))
}

#[cfg(test)]
mod tests {
    use super::super::check_finds;
    use super::*;

    #[test]
    fn words_a_crate_may_use() {
        for (path, text) in [
            (
                "crates/model/src/a.rs",
                "// tokio is not for us\nlet x = \"std::fs\";",
            ),
            (
                "crates/model/src/a.rs",
                "#[cfg(test)]\nmod tests {\n  use std::fs;\n}",
            ),
            (
                "crates/engine/src/a.rs",
                "/// In PostgreSQL this is slow.\nfn a() {}",
            ),
            (
                "crates/engine/tests/a.rs",
                "let url = \"sqlite:a\"; println!();",
            ),
            ("crates/stores/src/sqlite.rs", "use rusqlite::Connection;"),
            (
                "crates/cli/src/main.rs",
                "println!(\"a\"); std::process::exit(1)",
            ),
            (
                "crates/engine/src/a.rs",
                "// tidy: allow sqlite because a table of names\nlet a = \"sqlite\";",
            ),
            ("crates/model/tests/a.rs", "mod common;"),
            (
                "xtask/src/a.rs",
                "mod utilities; let modern = 1; #[ignore = \"slow\"]",
            ),
        ] {
            check_finds(check, &[(path, text)], &[]);
        }
    }

    #[test]
    fn words_a_crate_must_not_use() {
        for (path, text, expect) in [
            (
                "crates/model/src/a.rs",
                "a\nuse tokio::time;",
                "a.rs:2: `tokio`: the model and the protocol know no driver",
            ),
            (
                "crates/model/src/a.rs",
                "let t = std::time::Instant::now();",
                "`instant::now`",
            ),
            (
                "crates/engine/src/a.rs",
                "if url.starts_with(\"postgres:\") {}",
                "names no database",
            ),
            (
                "crates/engine/src/a.rs",
                "struct SqliteLedger;",
                "names no database",
            ),
            (
                "crates/stores/src/a.rs",
                "fn run_migration() {}",
                "nothing of migrations",
            ),
            (
                "crates/transform/src/a.rs",
                "eprintln!(\"x\");",
                "only the cli prints",
            ),
            (
                "crates/stores/src/a.rs",
                "std::process::exit(2)",
                "only the cli prints",
            ),
            (
                "crates/engine/src/a.rs",
                "// tidy: allow sqlite\nlet a = \"sqlite\";",
                "names no database",
            ),
            (
                "crates/cli/src/a.rs",
                "mod tests { fn a() { todo!() } }",
                "unfinished work",
            ),
            ("crates/cli/src/a.rs", "pub(crate) mod util;", "`mod util`"),
            (
                "crates/cli/tests/a.rs",
                "#[ignore]\nfn a() {}",
                "needs its reason",
            ),
        ] {
            check_finds(check, &[(path, text)], &[expect]);
        }
    }
}
