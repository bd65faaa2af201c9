//! Who may depend on whom, read from each crate's manifest.

use super::{File, Finding, Tree};
use toml::{Table, Value};

struct Crate {
    folder: &'static str,
    /// The project's own crates that it may use.
    ours: &'static [&'static str],
    /// The project's own crates that its tests may use besides.
    in_tests: &'static [&'static str],
    /// Crates of others that it must never use, not even in part.
    never: &'static [&'static str],
}

const RUNTIMES: &[&str] = &["tokio", "async-std", "smol"];
const DRIVERS: &[&str] = &[
    "rusqlite",
    "tokio-postgres",
    "deadpool-postgres",
    "postgres",
    "sqlx",
];
const TERMINAL: &[&str] = &["clap", "indicatif", "miette", "comfy-table", "crossterm"];

const CRATES: &[Crate] = &[
    Crate {
        folder: "model",
        ours: &[],
        in_tests: &[],
        never: &[],
    },
    Crate {
        folder: "firestore",
        ours: &["model"],
        in_tests: &[],
        never: TERMINAL,
    },
    Crate {
        folder: "stores",
        ours: &["model", "firestore"],
        in_tests: &["testkit"],
        never: TERMINAL,
    },
    Crate {
        folder: "transform",
        ours: &["model"],
        in_tests: &["testkit"],
        never: TERMINAL,
    },
    Crate {
        folder: "archive",
        ours: &["model"],
        in_tests: &[],
        never: TERMINAL,
    },
    Crate {
        folder: "engine",
        ours: &["model", "archive"],
        in_tests: &["stores", "transform", "testkit"],
        never: TERMINAL,
    },
    Crate {
        folder: "gateway",
        ours: &["engine", "firestore", "model"],
        in_tests: &["stores", "transform", "testkit"],
        never: TERMINAL,
    },
    Crate {
        folder: "testkit",
        ours: &["model"],
        in_tests: &[],
        never: TERMINAL,
    },
    Crate {
        folder: "cli",
        ours: &[
            "model",
            "firestore",
            "stores",
            "transform",
            "archive",
            "engine",
            "gateway",
        ],
        in_tests: &["testkit"],
        never: &[],
    },
];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.with_extension("/Cargo.toml") {
        let Some(folder) = folder_of(file) else {
            continue;
        };
        let Some(rules) = CRATES.iter().find(|rules| rules.folder == folder) else {
            let message = "xtask/src/tidy/arrows.rs does not say what this crate may depend on";
            findings.push(Finding::new(&file.path, 0, message));
            continue;
        };
        match file.text.parse::<Table>() {
            Ok(manifest) => judge(file, rules, &manifest, &mut findings),
            Err(error) => findings.push(Finding::new(&file.path, 0, error.message())),
        }
    }
    findings
}

fn folder_of(file: &File) -> Option<&str> {
    file.path
        .strip_prefix("crates/")?
        .strip_suffix("/Cargo.toml")
}

fn judge(file: &File, rules: &Crate, manifest: &Table, findings: &mut Vec<Finding>) {
    for (name, dev) in dependencies(manifest) {
        let why = match name.strip_prefix("whimbrel-") {
            Some(ours) if rules.ours.contains(&ours) || (dev && rules.in_tests.contains(&ours)) => {
                continue;
            }
            Some(ours) if rules.in_tests.contains(&ours) => "is for its tests only",
            Some(_) => "is against the arrows between crates",
            None if dev => continue,
            None if forbidden(rules, &name) => "is what this crate must never know",
            None => continue,
        };
        let message = format!(
            "{} must not depend on {name}: that {why} (ARCHITECTURE.md)",
            rules.folder
        );
        findings.push(Finding::new(
            &file.path,
            line_of_dependency(&file.text, &name, dev),
            message,
        ));
    }
}

fn forbidden(rules: &Crate, name: &str) -> bool {
    let pure = ["model", "firestore"].contains(&rules.folder)
        && (RUNTIMES.contains(&name) || DRIVERS.contains(&name) || TERMINAL.contains(&name));
    // Tests look at a server past the store that they test.
    let driver = !["stores", "testkit"].contains(&rules.folder) && DRIVERS.contains(&name);
    pure || driver || rules.never.contains(&name)
}

/// The name of every dependency, and whether it is only for tests.
fn dependencies(manifest: &Table) -> Vec<(String, bool)> {
    let mut all = Vec::new();
    let mut take = |table: &Table| {
        for (section, dev) in [
            ("dependencies", false),
            ("build-dependencies", false),
            ("dev-dependencies", true),
        ] {
            if let Some(Value::Table(listed)) = table.get(section) {
                // Under another name it is still the same crate.
                all.extend(listed.iter().map(|(name, value)| {
                    let real = value.get("package").and_then(Value::as_str).unwrap_or(name);
                    (real.to_owned(), dev)
                }));
            }
        }
    };
    take(manifest);
    if let Some(Value::Table(targets)) = manifest.get("target") {
        targets
            .values()
            .filter_map(Value::as_table)
            .for_each(&mut take);
    }
    all
}

/// Where it stands, for a human: 0 where the manifest writes it in an unusual way.
fn line_of_dependency(manifest: &str, name: &str, dev: bool) -> usize {
    let mut in_dev = false;
    for (index, line) in manifest.lines().enumerate() {
        if line.starts_with('[') {
            in_dev = line.contains("dev-dependencies");
        }
        let rest = line.trim_start().strip_prefix(name);
        if in_dev == dev && rest.is_some_and(|rest| rest.starts_with(['.', ' ', '='])) {
            return index + 1;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::super::check_finds;
    use super::*;

    fn check_manifest(folder: &str, manifest: &str, expect: &[&str]) {
        check_finds(
            check,
            &[(&format!("crates/{folder}/Cargo.toml"), manifest)],
            expect,
        );
    }

    #[test]
    fn arrows_that_are_allowed() {
        for (folder, manifest) in [
            (
                "model",
                "[dependencies]\nserde = \"1\"\n[dev-dependencies]\nproptest.workspace = true",
            ),
            (
                "stores",
                "[dependencies]\nwhimbrel-model.workspace = true\nrusqlite = \"1\"\ntokio = \"1\"",
            ),
            (
                "engine",
                "[dependencies]\nwhimbrel-model.workspace = true\n[dev-dependencies]\nwhimbrel-stores.workspace = true\nrusqlite = \"1\"",
            ),
            (
                "cli",
                "[dependencies]\nwhimbrel-engine.workspace = true\nclap = \"4\"",
            ),
        ] {
            check_manifest(folder, manifest, &[]);
        }
    }

    #[test]
    fn arrows_that_are_not() {
        check_manifest(
            "model",
            "[dependencies]\ntokio.workspace = true",
            &["Cargo.toml:2: model must not depend on tokio"],
        );
        check_manifest(
            "engine",
            "[dependencies]\na = \"1\"\nwhimbrel-stores.workspace = true",
            &[
                "Cargo.toml:3: engine must not depend on whimbrel-stores: that is for its tests only",
            ],
        );
        check_manifest(
            "firestore",
            "[dependencies]\nhidane-proto = \"1\"\ntokio = \"1\"",
            &["Cargo.toml:3: firestore must not depend on tokio"],
        );
        check_manifest(
            "gateway",
            "[dependencies]\nwhimbrel-firestore = \"1\"\nwhimbrel-stores = \"1\"",
            &[
                "Cargo.toml:3: gateway must not depend on whimbrel-stores: that is for its tests only",
            ],
        );
        check_manifest(
            "stores",
            "[dependencies.whimbrel-engine]\npath = \"../engine\"",
            &["against the arrows"],
        );
        check_manifest(
            "engine",
            "[dependencies]\ndb = { package = \"rusqlite\", version = \"1\" }",
            &["depend on rusqlite"],
        );
        check_manifest(
            "cli",
            "[dependencies]\nwhimbrel-testkit.workspace = true",
            &["for its tests only"],
        );
        check_manifest(
            "model",
            "[target.'cfg(unix)'.dependencies]\nrusqlite = \"1\"",
            &["depend on rusqlite"],
        );
        check_manifest(
            "transform",
            "[build-dependencies]\nclap = \"1\"",
            &["depend on clap"],
        );
        check_manifest(
            "engine",
            "[dependencies]\nwhimbrel-gateway.workspace = true",
            &["against the arrows"],
        );
    }

    #[test]
    fn a_crate_nobody_thought_of_is_a_finding() {
        check_manifest(
            "plugins",
            "[dependencies]",
            &["does not say what this crate may depend on"],
        );
        check_manifest("model", "[dependencies", &["crates/model/Cargo.toml: "]);
    }
}
