//! The official JSON Schema test suite: all required tests of draft 7 and 2020-12.

use super::*;
use jsonschema::{Draft as JsonDraft, Retrieve, Uri};
use std::path::{Path, PathBuf};

/// Tests whose verdict differs from the suite's, with the reason. `(draft, file, group, test)`
const EXCEPTIONS: &[(&str, &str, &str, &str)] = &[
    // The exact `minimum` holds whatever vocabularies a meta-schema names. Outside of this test no
    // schema can name a meta-schema of its own: it would have to be fetched.
    (
        "draft2020-12",
        "vocabulary",
        "schema that uses custom metaschema with with no validation vocabulary",
        "no validation: invalid number, but it still validates",
    ),
];

/// Gives schemas of the suite's `remotes` folder, which the suite serves as `http://localhost:1234/`.
struct Remotes(PathBuf);

impl Retrieve for Remotes {
    fn retrieve(
        &self,
        uri: &Uri<String>,
    ) -> Result<serde_json::Value, Box<dyn std::error::Error + Send + Sync>> {
        let path = uri
            .as_str()
            .strip_prefix("http://localhost:1234/")
            .ok_or("no remote of the suite")?;
        Ok(serde_json::from_slice(&std::fs::read(self.0.join(path))?)?)
    }
}

fn suite() -> Option<PathBuf> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/json-schema-test-suite");
    if path.is_dir() {
        return Some(path);
    }
    println!("SKIPPED: {} is not there", path.display());
    None
}

fn run(draft: &str, kind: JsonDraft) -> Option<(usize, Vec<String>)> {
    let suite = suite()?;
    let (mut passed, mut wrong) = (0, Vec::new());
    let mut files: Vec<_> = std::fs::read_dir(suite.join("tests").join(draft))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .collect();
    files.sort();
    for file in files {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let groups: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        for group in groups.as_array().unwrap() {
            let options = jsonschema::options_for()
                .with_draft(kind)
                .with_retriever(Remotes(suite.join("remotes")));
            let title = group["description"].as_str().unwrap();
            let schema = JsonSchema::compile(group["schema"].clone(), numbers::exact(options));
            for test in group["tests"].as_array().unwrap() {
                let case = test["description"].as_str().unwrap();
                let data = serde_json::to_vec(&test["data"]).unwrap();
                let value = json::parse(&data).unwrap();
                let verdict = schema
                    .as_ref()
                    .map(|s| s.validator.is_valid(Node::Value(&value)));
                let detail = schema
                    .as_ref()
                    .map(|s| s.validator.validate(Node::Value(&value)).is_ok());
                let expect = test["valid"].as_bool().unwrap();
                let right =
                    matches!((&verdict, &detail), (Ok(a), Ok(b)) if *a == expect && *b == expect);
                let excepted = EXCEPTIONS.contains(&(draft, name.as_str(), title, case));
                if right != excepted {
                    passed += usize::from(right);
                    continue;
                }
                let verdict = verdict.map_err(ToString::to_string);
                wrong.push(format!(
                    "{name}: {title}: {case}: {verdict:?}, not {expect}"
                ));
            }
        }
    }
    Some((passed, wrong))
}

#[test]
fn draft_7() {
    if let Some((passed, wrong)) = run("draft7", JsonDraft::Draft7) {
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(passed > 800, "{passed}");
    }
}

#[test]
fn draft_2020_12() {
    if let Some((passed, wrong)) = run("draft2020-12", JsonDraft::Draft202012) {
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(passed > 1200, "{passed}");
    }
}
