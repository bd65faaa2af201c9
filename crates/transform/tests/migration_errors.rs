//! What a migration file may not say: each error, at its place.

use std::path::Path;
use whimbrel_model::migration::Migration;
use whimbrel_transform::{LoadError, parse_migration};

fn parse(text: &str) -> Result<Migration, Vec<LoadError>> {
    parse_migration("migrations/0001_x.toml", text, Path::new("/nowhere"))
}

/// The text behind `head` gives exactly these errors, in this order.
#[track_caller]
fn fails(head: &str, text: &str, expect: &[&str]) {
    let errors = parse(&format!("{head}{text}")).expect_err(text);
    let found: Vec<_> = errors
        .iter()
        .map(|e| e.to_string().replace("migrations/0001_x.toml:", ""))
        .collect();
    assert_eq!(found, expect, "{text}");
}

#[test]
fn everything_wrong_is_said_at_its_place() {
    let head = "description = \"d\"\n";
    let check = |text: &str, expect: &[&str]| fails(head, text, expect);
    check("x", &["2:2: key with no value, expected `=`"]);
    check(
        "ower = \"ada\"\nretries = 101\ntimeout = \"soon\"\nmax_failed = \"1.5\"",
        &[
            "2:1: unknown key \"ower\"; known here: abort, description, max_failed, owner, retries, step, timeout",
            "3:1: \"retries\" is from 0 to 100",
            "4:1: \"timeout\" is no duration: write 250ms, 90s, 5m, 2h or 1h30m, at most 1000d",
            "5:1: \"max_failed\" must be a share (\"1%\") or a number of documents (25)",
        ],
    );
    check(
        "[[step]]\nname = \"x\"",
        &[
            "2:1: a step begins with its kind and its name, like upgrade = \"reshape\"; kinds are \
           backup, upgrade, copy, verify, phase, run, approve",
        ],
    );
    check(
        "[[step]]\nupgrade = \"a\"\ncopy = \"b\"",
        &["4:1: a step is of one kind; this one is upgrade and copy: make two steps of it"],
    );
    check(
        "[[step]]\nupgrade = \"a b\"\ncolection = \"c\"\nto = 0\ntimeout = \"0s\"",
        &[
            "2:1: \"collection\" is missing",
            "3:1: \"a b\" cannot name a step: use letters, digits, _ and -, at most 60",
            "4:1: unknown key \"colection\"; known here: collection, estimate, from, retries, timeout, to, upgrade",
            "5:1: schema versions are numbered from 1 on",
            "6:1: \"timeout\" is no time at all",
        ],
    );
    check(
        "[[step]]\nupgrade = \"a\"\ncollection = \"\"",
        &["2:1: \"to\" is missing", "4:1: \"collection\" is empty"],
    );
}

#[test]
fn each_kind_of_step_is_judged() {
    let head = "description = \"d\"\n";
    let check = |text: &str, expect: &[&str]| fails(head, text, expect);
    check(
        "[[step]]\nbackup = \"a\"\ncollections = []\nto = \"b\"\nrecipients = [\"ssh-rsa x\"]\nsign = 3",
        &[
            "4:1: \"collections\" is an empty list",
            "6:1: \"recipients\" are age's public keys, which begin with age1",
            "7:1: \"sign\" must be a string, not integer",
        ],
    );
    check(
        "[[step]]\nbackup = \"a\"",
        &[
            "2:1: \"collections\" is missing: what the backup is to hold",
            "2:1: \"to\" is missing",
        ],
    );
    check(
        "[[step]]\nverify = \"v\"\ncollection = \"c\"\nsource = \"s\"",
        &[
            "2:1: a verify step says either collection and version, or source and target (and rules), or \
             checks: make a step of each",
        ],
    );
    check(
        "[[step]]\nverify = \"v\"",
        &[
            "2:1: a verify step says either collection and version, or source and target (and rules), or \
             checks: make a step of each",
        ],
    );
    check(
        "[[step]]\nphase = \"p\"\ncollection = \"c\"\nto = \"ramp(100%)\"",
        &[
            "5:1: \"ramp(100%)\" is no phase; phases are off, dualwrite, shadow, ramp(1%) to ramp(99%), \
           live, rampdown, complete",
        ],
    );
    check(
        "[[step]]\napprove = \"a\"\nby = [\"\"]",
        &[
            "2:1: \"question\" is missing",
            "4:7: \"by\" holds an empty text",
        ],
    );
    check(
        "[[step]]\ncopy = \"c\"\nsource = \"a\"\nskip_existing = 1",
        &[
            "2:1: \"target\" is missing",
            "5:1: \"skip_existing\" must be true or false, not integer",
        ],
    );
}

#[test]
fn actions_are_judged() {
    let head = "description = \"d\"
[[step]]
run = \"r\"
";
    let check = |text: &str, expect: &[&str]| fails(head, text, expect);
    check("", &["2:1: \"forward\" is missing: what the step runs"]);
    let either = "say either sql and store, or command: { sql = \"…\", store = \"app\" } or \
                  { command = [\"./make-index.sh\"] }";
    check(
        "forward = {}\nbackward = { sql = \"x\", command = [\"y\"] }",
        &[&format!("4:11: {either}"), &format!("5:12: {either}")],
    );
    check(
        "forward = { sql = \"x\", folder = \".\" }",
        &[
            "4:11: \"store\" is missing",
            "4:24: unknown key \"folder\"; known here: sql, store",
        ],
    );
    check(
        "forward = { command = \"rm -rf\" }",
        &[
            "4:13: \"command\" is a list, the program and its arguments; no shell reads it. For a shell: \
           [\"sh\", \"-c\", \"…\"]",
        ],
    );
    check(
        "forward = { command = [] }\nbackward = { command = [\"a\\u0000\"] }",
        &[
            "4:13: \"command\" names no program",
            "5:14: \"command\" holds a NUL, which no program can be given",
        ],
    );
    let reason = "must be \"$NAME\" (a variable of the environment) or \"@file\"; a value written here would be \
                  kept in the ledger and shown, and most such values are secrets";
    check(
        "forward = { command = [\"a\"], env = { TOKEN = \"hunter2\", B = 5, C = \"$1\", D = \"@\", E = \"$OK\" } }",
        &[
            &format!("4:46: the value of TOKEN {reason}"),
            &format!("4:61: the value of B {reason}"),
            &format!("4:68: the value of C {reason}"),
            &format!("4:78: the value of D {reason}"),
        ],
    );
    check(
        "forward = { command = [\"a\"], env = { \"A B\" = \"$X\" } }",
        &["4:38: \"A B\" cannot name a variable: use letters, digits and _"],
    );
}

#[test]
fn abort_rules_are_judged() {
    let head = "description = \"d\"
[[step]]
approve = \"a\"
question = \"?\"
";
    let check = |text: &str, expect: &[&str]| fails(head, text, expect);
    check("[[abort]]", &["5:1: \"when\" is missing"]);
    check(
        "[[abort]]\nwhen = \"error_rates\"\nabove = \"1%\"",
        &[
            "6:1: \"error_rates\" is nothing that an abort rule watches; there are failed_documents, \
           failed_checks, error_rate, latency, free_disk, command",
        ],
    );
    check(
        "[[abort]]\nwhen = \"error_rate\"\nabove = \"100%\"\n[[abort]]\nwhen = \"error_rate\"\nabove = 0.1",
        &[
            "7:1: \"above\" must be below 100%: nothing is ever above it",
            "10:1: \"above\" must be a string, not float",
        ],
    );
    check(
        "[[abort]]\nwhen = \"failed_documents\"\nabove = \"-1%\"\nbelow = \"1 GB\"",
        &[
            "7:1: \"above\" is no share: write 1% or 0.5%, from 0% on and below 100%",
            "8:1: unknown key \"below\"; known here: above, every, name, when",
        ],
    );
    let times = "\"times\" must be a number above 1, like 3.0: how many times slower than before";
    check(
        "[[abort]]\nwhen = \"latency\"\n[[abort]]\nwhen = \"latency\"\ntimes = 1.0\n[[abort]]\nwhen = \"latency\"\ntimes = nan",
        &[
            &format!("5:1: {times}"),
            &format!("9:1: {times}"),
            &format!("12:1: {times}"),
        ],
    );
    check(
        "[[abort]]\nwhen = \"free_disk\"\nbelow = \"2\"\nevery = \"10ms\"",
        &[
            "7:1: \"below\" is no size: write 500 MB, 2 GB (10^9 bytes) or 2 GiB (2^30)",
            "8:1: \"every\" must be at least 100ms",
        ],
    );
    check(
        "[[abort]]\nname = \"x\"\nwhen = \"failed_checks\"\n[[abort]]\nname = \"x\"\nwhen = \"command\"\ncommand = [\"y\"]",
        &["9:1: two abort rules are called \"x\""],
    );
    check(
        "[[abort]]\nwhen = \"command\"",
        &["5:1: \"command\" is missing"],
    );
}

#[test]
fn secrets_are_refused_and_not_repeated() {
    let check = |line: &str, secret: &str| {
        let text = format!("description = \"d\"\n{line}\n");
        let errors = parse(&text).expect_err(line);
        for error in &errors {
            assert!(!error.to_string().contains(secret), "{error}");
        }
        assert!(
            errors
                .iter()
                .any(|e| e.message.contains("kept in the ledger and shown")),
            "{line}: {errors:?}"
        );
    };
    check("owner = \"postgres://ada:hunter2@h/db\"", "hunter2");
    check(
        "[[step]]\nbackup = \"b\"\ncollections = [\"a\"]\nto = \"s3://k:hunter2@b\"",
        "hunter2",
    );
    check(
        "[[step]]\ncopy = \"b\"\nsource = \"a\"\ntarget = \"postgres://me:hunter2@h/d#a\"",
        "hunter2",
    );
    check(
        "[[step]]\nrun = \"b\"\nforward = { command = [\"psql\", \"postgres://me:hunter2@h/d\"] }",
        "hunter2",
    );
    check(
        "[[step]]\nrun = \"b\"\nforward = { command = [\"x\"], env = { A = \"hunter2\" } }",
        "hunter2",
    );
    check(
        "[[step]]\nbackup = \"b\"\ncollections = [\"a\"]\nto = \"b\"\nrecipients = [\"AGE-SECRET-KEY-1QQ\"]",
        "1QQ",
    );
}

/// A stack is not what such files should be refused by.
#[test]
fn deep_files_are_refused_calmly() {
    for text in [
        format!("a = {}", "[".repeat(10_000)),
        format!("a = {}1{}", "[".repeat(10_000), "]".repeat(10_000)),
        format!("a = {}", "{ a = ".repeat(10_000)),
        format!("{} = 1", vec!["a"; 10_000].join(".")),
        format!("[{}]", vec!["a"; 10_000].join(".")),
        format!("[[step]]\n{} = 1", vec!["a"; 10_000].join(".")),
    ] {
        assert!(!parse(&text).unwrap_err().is_empty());
    }
}
