//! The commands as scripts use them: exit codes, JSON, dry runs that leave no trace, and no values of
//! documents anywhere.

mod support;

use serde_json::Value;
use support::{Ran, Sandbox, contents, run_in};

fn json_lines(ran: &Ran) -> Vec<Value> {
    ran.stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

#[test]
fn exit_codes_are_as_documented() {
    let sandbox = Sandbox::with_demo(40, &["--only-data"]);
    let check = |arguments: &[&str], code: i32| {
        let ran = sandbox.demo_run(arguments);
        assert_eq!(
            ran.code, code,
            "{arguments:?}\n{}{}",
            ran.stdout, ran.stderr
        );
        ran
    };
    // The demo's migration is pending.
    check(&["status"], 3);
    check(&["no-such-command"], 2);
    check(&["upgrade"], 2);
    // Nobody can be asked here.
    let asked = check(&["upgrade", "conversations"], 2);
    assert!(
        asked.stderr.contains("--yes") && asked.stderr.contains("--dry-run"),
        "{}",
        asked.stderr
    );
    check(&["upgrade", "nothing", "--yes"], 2);
    check(&["upgrade", "conversations", "--to", "9", "--yes"], 2);
    check(&["inspect", "nowhere"], 2);
    check(&["inspect", "sqlite:missing.db"], 1);
    assert!(!sandbox.demo().join("missing.db").exists());
    check(&["schema", "check"], 4);
    check(
        &["upgrade", "conversations", "--yes", "--max-failed", "2"],
        1,
    );
    check(&["upgrade", "conversations", "--yes"], 4);
    check(&["upgrade", "conversations", "--yes"], 4);
    check(&["copy", "app/users", "split", "--yes"], 0);
    check(&["copy", "app/users", "app/users", "--yes"], 2);
    check(&["quarantine", "retry", "--yes"], 4);
    check(&["lock", "break", "--yes"], 0);
    check(&["demo", "--dir", "."], 0);
    std::fs::remove_file(sandbox.demo().join(".whimbrel-demo")).unwrap();
    check(&["demo", "--dir", "."], 2);
}

/// Another run's lease is respected, shown, and can be broken.
#[test]
fn a_held_lock_is_exit_code_5() {
    let sandbox = Sandbox::with_demo(40, &["--only-data"]);
    let ledger = format!(
        "sqlite:{}",
        sandbox.demo().join(".whimbrel/ledger.db").display()
    );
    assert_eq!(
        sandbox
            .demo_run(&["copy", "app/users", "split", "--yes"])
            .code,
        0
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let journal = runtime
        .block_on(whimbrel_stores::open_journal(&ledger))
        .unwrap();
    runtime
        .block_on(journal.acquire("ada@elsewhere pid 1: upgrade", 60_000))
        .unwrap();
    let held = sandbox.demo_run(&["upgrade", "conversations", "--yes"]);
    assert_eq!(held.code, 5, "{}", held.stderr);
    assert!(
        held.stderr.contains("ada@elsewhere") && held.stderr.contains("WB-L01"),
        "{}",
        held.stderr
    );
    assert!(
        sandbox
            .demo_run(&["lock", "show"])
            .stdout
            .contains("ada@elsewhere")
    );
    assert_eq!(sandbox.demo_run(&["lock", "break", "--dry-run"]).code, 0);
    assert_eq!(
        sandbox
            .demo_run(&["upgrade", "conversations", "--yes"])
            .code,
        5
    );
    assert_eq!(sandbox.demo_run(&["lock", "break", "--yes"]).code, 0);
    assert_eq!(
        sandbox
            .demo_run(&["upgrade", "conversations", "--yes"])
            .code,
        4
    );
}

#[test]
fn json_is_json_and_adds_up() {
    let sandbox = Sandbox::with_demo(40, &["--only-data"]);
    let upgrade = json_lines(&sandbox.demo_run(&["upgrade", "conversations", "--yes", "--json"]));
    let events: Vec<&str> = upgrade.iter().filter_map(|l| l["event"].as_str()).collect();
    assert_eq!(
        (events.first(), events.last()),
        (Some(&"start"), Some(&"complete"))
    );
    assert_eq!(events.iter().filter(|e| **e == "document_error").count(), 3);
    let last = upgrade.last().unwrap();
    assert_eq!(
        (
            last["counts"]["enumerated"].as_u64(),
            last["counts"]["written"].as_u64()
        ),
        (Some(40), Some(37))
    );
    assert_eq!(last["balanced"], true);
    for arguments in [
        &["demo", "--dry-run"][..],
        &["inspect"],
        &["schema", "check"],
        &["status"],
        &["history"],
        &["lock", "show"],
        &["quarantine", "list"],
        &["upgrade", "conversations", "--to", "1", "--dry-run"],
        &[
            "copy",
            "app",
            "split",
            "--rules",
            "copies/messages.toml",
            "--dry-run",
        ],
        &[
            "copy",
            "app",
            "split",
            "--rules",
            "copies/messages.toml",
            "--yes",
        ],
        &["new", "schema", "users", "first", "--dry-run"],
        &["quarantine", "retry", "--yes"],
        &["upgrade", "nothing"],
        &["upgrade", "--no-such-flag"],
    ] {
        let ran = sandbox.demo_run(&[arguments, &["--json"]].concat());
        let lines = json_lines(&ran);
        let last = lines
            .last()
            .unwrap_or_else(|| panic!("{arguments:?} prints nothing: {}", ran.stderr));
        assert_eq!(
            last["error"].is_object(),
            ran.code == 2,
            "{arguments:?} {last}"
        );
    }
}

/// What stands in a document appears in nothing that is printed, nor in the ledger's readable parts.
#[test]
fn no_value_is_shown_unless_asked_for() {
    const MARK: &str = "hush-5e3c7e";
    let sandbox = Sandbox::with_demo(40, &["--only-data"]);
    plant(&sandbox, MARK);
    for arguments in [
        &["upgrade", "conversations", "--dry-run", "--sample", "50"][..],
        &[
            "copy",
            "app/conversations",
            "split",
            "--dry-run",
            "--sample",
            "50",
        ],
        &["upgrade", "conversations", "--yes", "-vv"],
        &[
            "copy",
            "app",
            "split",
            "--rules",
            "copies/messages.toml",
            "--yes",
        ],
        &["quarantine", "list"],
        &["quarantine", "show", "conv_marked_throws"],
        &["quarantine", "retry", "--yes"],
        &["show", "conversations", "conv_marked"],
        &["show", "conversations", "conv_marked", "--as", "1"],
        &["show", "conversations", "conv_marked_throws", "--as", "3"],
        &["schema", "check"],
        &["inspect"],
        &["status"],
        &["history"],
    ] {
        for json in [&[][..], &["--json"]] {
            let ran = sandbox.demo_run(&[arguments, json].concat());
            let all = format!("{}{}", ran.stdout, ran.stderr);
            assert!(
                !all.contains(MARK),
                "{arguments:?} {json:?} shows a value:\n{all}"
            );
            assert!(
                !all.trim().is_empty(),
                "{arguments:?} {json:?} says nothing at all"
            );
        }
    }
    let open = sandbox.demo_run(&["show", "conversations", "conv_marked", "--show-values"]);
    assert!(open.stdout.contains(MARK), "{}", open.stdout);
}

/// Two documents full of the mark: one that can be upgraded, and one over which the script throws.
fn plant(sandbox: &Sandbox, mark: &str) {
    use whimbrel_model::{Body, Guard, Key, Write};
    let url = format!("sqlite:{}", sandbox.demo().join("app.db").display());
    let at = "2026-01-31T08:00:00Z";
    let doc = |arguments: String| {
        let calls = serde_json::json!([{ "id": mark, "name": mark, "arguments": arguments }]);
        let messages = serde_json::json!([{ "id": mark, "role": "assistant", "content": mark, "createdAt": at, "toolCalls": calls }]);
        let doc = serde_json::json!({ "title": mark, "userId": mark, "createdAt": at, "updatedAt": at, "messages": messages });
        Some(Body::from_json(doc.to_string().into_bytes()))
    };
    let write = |key: &str, to| Write {
        collection: "conversations".to_owned(),
        key: Key::text(key),
        to,
        guard: Guard::Absent,
    };
    let writes = [
        write("conv_marked", doc("{}".to_owned())),
        write("conv_marked_throws", doc(format!("{{\"{mark}"))),
    ];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = whimbrel_stores::open(&url, &whimbrel_stores::OpenOptions::default())
            .await
            .unwrap();
        store.write(&writes).await.unwrap();
    });
}

#[test]
fn a_dry_run_leaves_no_trace() {
    let sandbox = Sandbox::with_demo(40, &["--only-data"]);
    let check = |arguments: &[&str], codes: &[i32]| {
        let before = contents(sandbox.path());
        let ran = sandbox.demo_run(arguments);
        assert!(
            codes.contains(&ran.code),
            "{arguments:?} {}\n{}{}",
            ran.code,
            ran.stdout,
            ran.stderr
        );
        let after = contents(sandbox.path());
        let names = |all: &[(std::path::PathBuf, Vec<u8>)]| -> Vec<_> {
            all.iter().map(|(path, _)| path.clone()).collect()
        };
        assert_eq!(
            names(&before),
            names(&after),
            "{arguments:?} made or removed a file"
        );
        for ((path, old), (_, new)) in before.iter().zip(&after) {
            assert!(old == new, "{arguments:?} changed {}", path.display());
        }
    };
    let jobs: [(&[&str], &[i32]); 6] = [
        (&["upgrade", "conversations", "--dry-run"], &[4]),
        (
            &[
                "copy",
                "app",
                "split",
                "--rules",
                "copies/messages.toml",
                "--dry-run",
            ],
            &[0],
        ),
        (&["copy", "app/users", "sqlite:other.db", "--dry-run"], &[0]),
        (&["new", "schema", "users", "first", "--dry-run"], &[0]),
        (&["quarantine", "retry", "--dry-run"], &[0]),
        (&["demo", "--dir", "../another", "--dry-run"], &[0]),
    ];
    let looks: [&[&str]; 6] = [
        &["status"],
        &["history"],
        &["inspect"],
        &["lock", "show"],
        &["schema", "check"],
        &["quarantine", "list"],
    ];
    // Without a ledger, and with one.
    for _ in 0..2 {
        for (arguments, codes) in jobs {
            check(arguments, codes);
        }
        for arguments in looks {
            check(arguments, &[0, 3, 4]);
        }
        sandbox.demo_run(&["upgrade", "conversations", "--yes"]);
    }
}

/// Up, down, up again; what comes back is what was there, byte for byte.
#[test]
fn the_way_back_is_exact() {
    let sandbox = Sandbox::with_demo(40, &["--only-data"]);
    let key = first_key(&sandbox);
    let show = || {
        let ran = sandbox.demo_run(&["show", "conversations", &key, "--json", "--show-values"]);
        json_lines(&ran).remove(0)
    };
    let before = show();
    assert_eq!(before["stored"], 1);
    assert_eq!(
        sandbox
            .demo_run(&["upgrade", "conversations", "--yes"])
            .code,
        4
    );
    let upgraded = show();
    assert_eq!(upgraded["stored"], 3);
    assert!(upgraded["document"]["metadata"]["totalTokens"].is_u64());
    assert!(upgraded["document"].get("clientVersion").is_none());
    let as_first = sandbox.demo_run(&[
        "show",
        "conversations",
        &key,
        "--as",
        "1",
        "--json",
        "--show-values",
    ]);
    assert_eq!(json_lines(&as_first)[0]["document"], before["document"]);
    sandbox.demo_run(&["upgrade", "conversations", "--to", "1", "--yes"]);
    assert_eq!(show(), before);
}

fn first_key(sandbox: &Sandbox) -> String {
    let ran = sandbox.demo_run(&[
        "upgrade",
        "conversations",
        "--dry-run",
        "--json",
        "--sample",
        "1",
    ]);
    let lines = json_lines(&ran);
    lines.last().unwrap()["samples"][0]["key"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// A mended document leaves quarantine.
#[test]
fn what_is_mended_leaves_quarantine() {
    let sandbox = Sandbox::with_demo(40, &["--only-data"]);
    assert_eq!(
        sandbox
            .demo_run(&["upgrade", "conversations", "--yes"])
            .code,
        4
    );
    let waiting = || {
        let ran = sandbox.demo_run(&["quarantine", "list", "--json"]);
        json_lines(&ran)[0]["documents"].as_array().unwrap().clone()
    };
    let first = waiting();
    assert_eq!(first.len(), 3);
    // The schema learns to live with what it stumbled over.
    let file = sandbox
        .demo()
        .join("schemas/conversations/0003_metadata.ts");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace(
        "JSON.parse(call.arguments as string)",
        "{ raw: call.arguments }",
    );
    std::fs::write(&file, text).unwrap();
    let retried = sandbox.demo_run(&["quarantine", "retry", "--yes"]);
    assert_eq!(retried.code, 4, "{}{}", retried.stdout, retried.stderr);
    let second = waiting();
    assert_eq!(second.len(), 2, "{second:?}");
    assert!(
        second
            .iter()
            .all(|item| item["attempts"] == 2 && item["code"] != "WB-D08")
    );
}

/// A project for a database of one's own, from nothing.
#[test]
fn a_project_begins_with_init() {
    let sandbox = Sandbox::with_demo(40, &["--only-data"]);
    let url = format!("sqlite:{}", sandbox.demo().join("app.db").display());
    std::fs::create_dir(sandbox.path().join("mine")).unwrap();
    let mine = sandbox.path().join("mine");
    let run = |arguments: &[&str]| {
        let ran = run_in(&mine, arguments);
        assert_eq!(ran.code, 0, "{arguments:?}\n{}{}", ran.stdout, ran.stderr);
        ran.stdout
    };
    assert!(run(&["init", &url, "--dry-run"]).contains("[collections.users]"));
    assert!(contents(&mine).is_empty());
    run(&["init", &url]);
    assert_eq!(run_in(&mine, &["init", &url]).code, 2);
    run(&["new", "schema", "users", "toml_step"]);
    run(&["new", "schema", "users", "ts_step", "--ts"]);
    let upgraded = run(&["upgrade", "users", "--yes"]);
    assert!(upgraded.contains("8 seen = 8 upgraded"), "{upgraded}");
    assert!(run(&["inspect", "users"]).contains("v3"));
    assert!(run(&["upgrade", "users", "--to", "1", "--yes"]).contains("8 brought to v1"));
}

/// Precedence: flag, environment, file.
#[test]
fn flags_go_before_the_environment_before_the_file() {
    let sandbox = Sandbox::with_demo(40, &["--only-data"]);
    let file = sandbox.demo().join("whimbrel.toml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str("\n[run]\nmax_failed = 2\n");
    std::fs::write(&file, text).unwrap();
    let run = |env: Option<&str>, flag: Option<&str>| {
        let mut command = support::command(&sandbox.demo());
        command.args(["upgrade", "conversations", "--yes"]);
        if let Some(value) = env {
            command.env("WHIMBREL_MAX_FAILED", value);
        }
        if let Some(value) = flag {
            command.args(["--max-failed", value]);
        }
        command.output().unwrap().status.code()
    };
    assert_eq!(run(None, None), Some(1));
    assert_eq!(run(Some("0"), Some("1")), Some(1));
    assert_eq!(run(Some("3"), Some("1")), Some(1));
    assert_eq!(run(Some("3"), None), Some(4));
}

/// Ctrl-C: what is at work is finished and recorded, and the same command goes on from there.
#[cfg(unix)]
#[test]
fn a_stopped_run_goes_on() {
    stop_and_go_on("-INT", Some(3));
}

/// A killed process holds its lease for ever: the next one sees that it is gone and takes it over.
#[cfg(target_os = "linux")]
#[test]
fn a_killed_run_goes_on_at_once() {
    stop_and_go_on("-KILL", None);
}

#[cfg(unix)]
fn stop_and_go_on(signal: &str, code: Option<i32>) {
    use std::io::{BufRead, BufReader, Read};
    let sandbox = Sandbox::with_demo(3000, &["--only-data"]);
    let arguments = [
        "upgrade",
        "conversations",
        "--yes",
        "--json",
        "--batch",
        "32",
    ];
    let mut child = support::command(&sandbox.demo())
        .args(arguments)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("batch_complete") {
        line.clear();
        assert!(
            output.read_line(&mut line).unwrap() > 0,
            "it ended before its first batch"
        );
    }
    let pid = child.id().to_string();
    assert!(
        std::process::Command::new("kill")
            .args([signal, &pid])
            .status()
            .unwrap()
            .success()
    );
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), code, "{rest}");
    assert_eq!(sandbox.demo_run(&["status"]).code, 3);
    let other = sandbox.demo_run(&["upgrade", "conversations", "--to", "2", "--yes"]);
    assert_eq!(
        other.code, 3,
        "another goal must not begin: {}",
        other.stderr
    );
    let resumed = sandbox.demo_run(&arguments);
    assert_eq!(resumed.code, 4, "{}", resumed.stderr);
    let lines = json_lines(&resumed);
    assert_eq!(lines[0]["resumed"], true);
    let counts = &lines.last().unwrap()["counts"];
    assert_eq!(
        (counts["enumerated"].as_u64(), counts["written"].as_u64()),
        (Some(3000), Some(2997))
    );
    let status = json_lines(&sandbox.demo_run(&["status", "--json"])).remove(0);
    assert_eq!(
        status["unfinished"].as_array().map(Vec::len),
        Some(0),
        "{status}"
    );
}
