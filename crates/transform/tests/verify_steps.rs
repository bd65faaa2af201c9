//! The three forms of a `verify` step.

use std::path::Path;
use whimbrel_model::migration::{StepKind, VerifyStep};
use whimbrel_transform::parse_migration;

fn read(step: &str) -> Result<VerifyStep, String> {
    let text = format!("description = \"d\"\n\n[[step]]\nverify = \"v\"\n{step}\n");
    let project = Path::new("/no/such/project");
    match parse_migration("migrations/0001_a.toml", &text, project) {
        Ok(migration) => match &migration.steps[0].kind {
            StepKind::Verify(verify) => Ok(verify.clone()),
            other => panic!("{other:?}"),
        },
        Err(errors) => {
            let messages: Vec<_> = errors.iter().map(ToString::to_string).collect();
            Err(messages.join("\n"))
        }
    }
}

#[test]
fn checks_are_all_of_them_or_files() {
    let checked = |files: &[&str], warnings_fail| VerifyStep::Checked {
        files: files.iter().map(|file| (*file).to_owned()).collect(),
        warnings_fail,
    };
    for (step, expect) in [
        ("checks = true", checked(&[], false)),
        ("checks = true\nwarnings = \"pass\"", checked(&[], false)),
        (
            "checks = [\"checks/a.toml\", \"checks/b.toml\"]\nwarnings = \"fail\"",
            checked(&["checks/a.toml", "checks/b.toml"], true),
        ),
    ] {
        assert_eq!(read(step), Ok(expect), "{step}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (step, expect) in [
        ("", "either collection and version"),
        ("checks = true\ncollection = \"a\"", "make a step of each"),
        ("source = \"a\"\nversion = 2", "make a step of each"),
        ("checks = false", "true (all of them) or a list of files"),
        ("checks = []", "an empty list"),
        ("checks = \"a.toml\"", "\"checks\""),
        ("warnings = \"fail\"", "\"checks\" is missing"),
        (
            "checks = true\nwarnings = \"shout\"",
            "\"fail\" or \"pass\"",
        ),
    ] {
        let error = read(step).unwrap_err();
        assert!(error.contains(expect), "{step}: {error}");
    }
}
