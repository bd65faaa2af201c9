//! What people read: the help, and what is said when something is wrong.

mod support;

use support::{Ran, Sandbox};

/// With what changes from run to run taken out.
fn said(sandbox: &Sandbox, ran: &Ran) -> String {
    let dir = sandbox.path().canonicalize().unwrap();
    let text = format!("exit {}\n{}{}", ran.code, ran.stdout, ran.stderr);
    text.replace(&dir.display().to_string(), "[DIR]")
        .replace(&sandbox.path().display().to_string(), "[DIR]")
}

#[test]
fn help() {
    let sandbox = Sandbox::new();
    insta::assert_snapshot!("help", said(&sandbox, &sandbox.run(&["--help"])));
    insta::assert_snapshot!("help_short", said(&sandbox, &sandbox.run(&["-h"])));
}

#[test]
fn a_project_file_is_wrong_in_all_its_places() {
    let sandbox = Sandbox::new();
    let text = "[stores.app]\nurl = \"sqlite:app.db\"\nread-only = true\n\n[collections.users]\n\
                store = \"ap\"\nlayout = \"rows\"\nkey = 7\n\n[stores.main]\nurl = \"${NOT_SET_ANYWHERE}\"\n";
    std::fs::write(sandbox.path().join("whimbrel.toml"), text).unwrap();
    insta::assert_snapshot!("project_invalid", said(&sandbox, &sandbox.run(&["status"])));
}

#[test]
fn schemas_and_rules_are_wrong_at_a_place() {
    let sandbox = Sandbox::with_demo(40, &["--only-data"]);
    let folder = sandbox.demo().join("schemas/conversations");
    std::fs::write(folder.join("0005_late.toml"), "[[up]]\nop = \"renam\"\n").unwrap();
    std::fs::write(
        folder.join("0002_instants.toml"),
        "[[up]]\nop = \"add\"\npaht = \"x\"\n",
    )
    .unwrap();
    insta::assert_snapshot!(
        "schema_invalid",
        said(
            &sandbox,
            &sandbox.demo_run(&["upgrade", "conversations", "--yes"])
        )
    );
    let rules = sandbox.demo().join("copies/messages.toml");
    std::fs::write(
        &rules,
        "[[rule]]\nname = \"a\"\non_error = \"ignore\"\n[rule.split]\nfield = \"m\"\n",
    )
    .unwrap();
    let ran = sandbox.demo_run(&[
        "copy",
        "app/users",
        "split",
        "--rules",
        "copies/messages.toml",
        "--yes",
    ]);
    insta::assert_snapshot!("rules_invalid", said(&sandbox, &ran));
}

#[test]
fn mistakes_get_an_answer() {
    let sandbox = Sandbox::with_demo(40, &["--only-data"]);
    for (name, arguments) in [
        (
            "unknown_collection",
            &["upgrade", "conversation", "--yes"][..],
        ),
        ("unknown_store", &["inspect", "ap"]),
        (
            "unknown_version",
            &["upgrade", "conversations", "--to", "7", "--yes"],
        ),
        ("unknown_key", &["show", "conversations", "conv_none"]),
        ("no_schema", &["upgrade", "users", "--yes"]),
        ("nobody_to_ask", &["upgrade", "conversations"]),
        ("bad_url", &["inspect", "mysql:app"]),
        ("missing_file", &["inspect", "sqlite:nowhere.db"]),
        (
            "bad_threshold",
            &["upgrade", "conversations", "--yes", "--max-failed", "many"],
        ),
        ("same_place", &["copy", "app/users", "app", "--yes"]),
        ("unknown_command", &["upgrad", "conversations"]),
    ] {
        insta::assert_snapshot!(name, said(&sandbox, &sandbox.demo_run(arguments)));
    }
}
