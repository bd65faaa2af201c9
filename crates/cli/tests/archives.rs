//! Archives as an operator uses them: backup, verify, restore, and what is refused.

mod support;

use serde_json::Value;
use std::path::{Path, PathBuf};
use support::{Ran, Sandbox, contents};

fn demo() -> Sandbox {
    Sandbox::with_demo(40, &["--only-data"])
}

fn check(sandbox: &Sandbox, arguments: &[&str], code: i32) -> Ran {
    let ran = sandbox.demo_run(arguments);
    assert_eq!(
        ran.code, code,
        "{arguments:?}\n{}{}",
        ran.stdout, ran.stderr
    );
    ran
}

fn last(ran: &Ran) -> Value {
    let line = ran.stdout.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))
}

fn chunks(archive: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(archive.join("chunks")).unwrap();
    let mut files: Vec<_> = files.map(|f| f.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_backup_is_proved_and_comes_back() {
    let sandbox = demo();
    let before = contents(&sandbox.demo());
    let ran = check(
        &sandbox,
        &["backup", "app", "--to", "kept", "--dry-run", "--json"],
        0,
    );
    assert!(last(&ran)["collections"].as_array().unwrap().len() > 2);
    assert_eq!(
        contents(&sandbox.demo()),
        before,
        "a dry run leaves no trace"
    );

    let ran = check(
        &sandbox,
        &["backup", "app", "--to", "kept", "--name", "one", "--json"],
        0,
    );
    let said = last(&ran);
    assert_eq!(said["consistent"], true);
    let saved = said["proof"]["documents"].as_u64().unwrap();
    assert!(saved > 40 && said["proof"]["opened"] == true);
    check(
        &sandbox,
        &["backup", "app", "--to", "kept", "--name", "one"],
        1,
    );

    check(&sandbox, &["restore", "kept/one", "--verify-only"], 0);
    let ran = check(&sandbox, &["restore", "kept/one"], 2);
    assert!(ran.stderr.contains("--yes"), "{}", ran.stderr);
    check(
        &sandbox,
        &["restore", "kept/one", "--beside", "_then", "--yes"],
        0,
    );
    let into = ["restore", "kept/one", "--into", "sqlite:back.db"];
    check(&sandbox, &[&into[..], &["--dry-run"]].concat(), 0);
    assert!(!sandbox.demo().join("back.db").exists());
    let ran = check(&sandbox, &[&into[..], &["--yes", "--json"]].concat(), 0);
    let runs = last(&ran)["runs"].clone();
    let written: u64 = runs
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["counts"]["written"].as_u64().unwrap())
        .sum();
    assert_eq!(written, saved);
    let ran = check(&sandbox, &["history"], 0);
    assert!(ran.stdout.contains("restore"), "{}", ran.stdout);
}

#[test]
fn what_is_in_the_way_is_told_and_never_shown() {
    let sandbox = demo();
    check(
        &sandbox,
        &["backup", "app/users", "--to", "kept", "--name", "one"],
        0,
    );
    check(&sandbox, &["backup", "split", "--to", "kept"], 1);
    // Another archive's documents of the same keys.
    check(
        &sandbox,
        &[
            "restore",
            "kept/one",
            "--collection",
            "users",
            "--into",
            "sqlite:b.db",
            "--yes",
        ],
        0,
    );
    check(
        &sandbox,
        &["copy", "app/conversations", "sqlite:b.db#other", "--yes"],
        0,
    );
    let restore = [
        "restore",
        "kept/one",
        "--into",
        "sqlite:b.db#other",
        "--yes",
    ];
    check(&sandbox, &restore, 0);
    check(
        &sandbox,
        &[
            "backup",
            "app/conversations",
            "--to",
            "kept",
            "--name",
            "two",
        ],
        0,
    );
    // Copied with a field more: the same keys, other documents.
    let copy = [
        "copy",
        "app/conversations",
        "sqlite:c.db",
        "--source-id",
        "--yes",
    ];
    check(&sandbox, &copy, 0);
    let restore = ["restore", "kept/two", "--into", "sqlite:c.db"];
    let ran = check(&sandbox, &[&restore[..], &["--yes"]].concat(), 1);
    assert!(ran.stderr.contains("WB-B06"), "{}", ran.stderr);
    assert!(ran.stderr.contains("--overwrite"), "{}", ran.stderr);
    check(&sandbox, &[&restore[..], &["--dry-run"]].concat(), 4);
    check(
        &sandbox,
        &[&restore[..], &["--overwrite", "--yes"]].concat(),
        0,
    );
    let again = check(&sandbox, &[&restore[..], &["--yes", "--json"]].concat(), 0);
    assert_eq!(last(&again)["runs"][0]["counts"]["unchanged"], 40);
}

#[test]
fn one_document_comes_back_by_its_key() {
    let sandbox = demo();
    check(
        &sandbox,
        &["backup", "app/users", "--to", "kept", "--name", "one"],
        0,
    );
    let manifest = std::fs::read(sandbox.demo().join("kept/one/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let key = manifest["collections"][0]["chunks"][0]["first"]
        .as_str()
        .unwrap();
    let restore = [
        "restore",
        "kept/one",
        "--into",
        "sqlite:b.db",
        "--yes",
        "--json",
        "--key",
    ];
    let ran = check(&sandbox, &[&restore[..], &[key]].concat(), 0);
    assert_eq!(last(&ran)["runs"][0]["counts"]["written"], 1);
    let ran = check(&sandbox, &[&restore[..], &["nobody"]].concat(), 1);
    assert!(ran.stdout.contains("nobody"), "{}", ran.stdout);
}

#[test]
fn altered_and_strange_archives_are_refused() {
    let sandbox = demo();
    check(
        &sandbox,
        &["backup", "app/users", "--to", "kept", "--name", "one"],
        0,
    );
    let archive = sandbox.demo().join("kept/one");
    let chunk = chunks(&archive).remove(0);
    let mut bytes = std::fs::read(&chunk).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&chunk, bytes).unwrap();
    for more in [
        &["--verify-only"][..],
        &["--into", "sqlite:b.db", "--yes"],
        &["--dry-run"],
    ] {
        let ran = check(&sandbox, &[&["restore", "kept/one"][..], more].concat(), 1);
        assert!(ran.stderr.contains("WB-B01"), "{}", ran.stderr);
    }
    assert!(!sandbox.demo().join("b.db").exists() || contents_of_users(&sandbox).is_empty());
    for (place, id) in [
        ("kept/none", "WB-B02"),
        ("nowhere/one", "WB-B02"),
        ("kept/a b", "WB-B02"),
    ] {
        let ran = check(&sandbox, &["restore", place, "--verify-only"], 1);
        assert!(ran.stderr.contains(id), "{place}: {}", ran.stderr);
    }
    let ran = check(&sandbox, &["backup", "app", "--to", "ftp://host/x"], 1);
    assert!(ran.stderr.contains("WB-B05"), "{}", ran.stderr);
    let ran = check(
        &sandbox,
        &["backup", "app", "--to", "s3://key:secret@bucket/x"],
        1,
    );
    assert!(!ran.stderr.contains("secret"), "{}", ran.stderr);
}

/// The store that a refused restore opened holds nothing.
fn contents_of_users(sandbox: &Sandbox) -> String {
    let ran = sandbox.demo_run(&["inspect", "sqlite:b.db", "--json"]);
    match ran.stdout.contains("users") {
        true => ran.stdout,
        false => String::new(),
    }
}

#[test]
fn a_signature_is_asked_for_and_its_key_never_shown() {
    let sandbox = demo();
    let ran = check(&sandbox, &["backup", "--new-key", "sign.key", "--json"], 0);
    let public = last(&ran)["public"].as_str().unwrap().to_owned();
    let secret = std::fs::read_to_string(sandbox.demo().join("sign.key")).unwrap();
    let secret = secret.lines().last().unwrap();
    assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret));
    check(&sandbox, &["backup", "--new-key", "sign.key"], 1);
    check(
        &sandbox,
        &["backup", "app/users", "--to", "kept", "--name", "plain"],
        0,
    );
    let sign = [
        "backup",
        "app/users",
        "--to",
        "kept",
        "--name",
        "one",
        "--sign",
        "sign.key",
    ];
    check(&sandbox, &sign, 0);
    check(
        &sandbox,
        &["restore", "kept/one", "--verify-only", "--trust", &public],
        0,
    );
    let ran = check(
        &sandbox,
        &["restore", "kept/plain", "--verify-only", "--trust", &public],
        1,
    );
    assert!(ran.stderr.contains("WB-B04"), "{}", ran.stderr);
    check(
        &sandbox,
        &[
            "restore",
            "kept/one",
            "--verify-only",
            "--trust",
            "nonsense",
        ],
        2,
    );
    let ran = check(
        &sandbox,
        &[
            "backup",
            "app/users",
            "--to",
            "kept",
            "--recipient",
            "age1nonsense",
        ],
        1,
    );
    assert!(ran.stderr.contains("WB-B04"), "{}", ran.stderr);
}
