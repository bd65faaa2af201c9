//! Migrations while a process is at work on them: another terminal, another operator, a killed process.
#![cfg(target_os = "linux")]

#[path = "support/shop.rs"]
mod shop;
mod support;

use shop::{COPY, HOLD, Shop, UPGRADE, ended};

const ASK: &str =
    "[[step]]\napprove = \"look\"\nquestion = \"Does it look right?\"\nby = [\"grace\"]\n";

#[test]
fn a_second_operator_is_told_who_and_since_when() {
    let shop = Shop::new();
    shop.migration("0001_plan", &[HOLD, UPGRADE]);
    let first = shop.begin(&["up", "--yes"]);
    let since = &shop.status()["lease"]["acquired_at"];
    let since = since
        .as_str()
        .unwrap()
        .split('.')
        .next()
        .unwrap()
        .to_owned();
    for arguments in [
        &["up", "--yes"][..],
        &["down", "--yes"],
        &["resume", "--yes"],
    ] {
        let second = shop.ends(arguments, 5);
        for part in ["WB-L01", "ada@", "migration 0001_plan", &since] {
            assert!(
                second.stderr.contains(part),
                "{arguments:?} lacks {part:?}:\n{}",
                second.stderr
            );
        }
    }
    let status = shop.ends(&["status"], 3);
    assert!(
        status
            .stdout
            .contains("0001_plan is at work: step 1 of 2 (run hold)"),
        "{}",
        status.stdout
    );
    shop.write("go", "");
    let first = ended(first);
    assert_eq!(first.code, 0, "{}{}", first.stdout, first.stderr);
}

#[test]
fn paused_resumed_and_aborted_from_another_terminal() {
    let shop = Shop::new();
    shop.migration("0001_plan", &[UPGRADE, HOLD, COPY]);
    let before = shop.documents("app", "users");
    let first = shop.begin(&["up", "--yes"]);
    let paused = shop.ends(&["pause"], 0);
    assert!(
        paused.stdout.contains("paused by ada@"),
        "{}",
        paused.stdout
    );
    let first = ended(first);
    assert_eq!(first.code, 3, "{}{}", first.stdout, first.stderr);
    assert_eq!(shop.standing("0001_plan").0, "open");
    // Nobody is at work any more.
    let again = shop.ends(&["pause"], 0);
    assert!(
        again.stderr.contains("no process is at work"),
        "{}",
        again.stderr
    );
    let second = shop.begin(&["resume", "--yes"]);
    let aborted = shop.ends(&["abort", "1", "--reason", "the pager rings", "--yes"], 0);
    assert!(
        aborted.stdout.contains("the pager rings"),
        "{}",
        aborted.stdout
    );
    let second = ended(second);
    assert_eq!(second.code, 1, "{}{}", second.stdout, second.stderr);
    assert_eq!(before, shop.documents("app", "users"));
    let history = shop.ends(&["history", "0001_plan"], 0).stdout;
    for part in ["paused by ada@", "went on", "the pager rings"] {
        assert!(history.contains(part), "{part:?} is missing:\n{history}");
    }
    // Taken back, nothing is on its way.
    assert!(shop.ends(&["pause"], 0).stdout.contains("nothing to pause"));
    shop.ends(&["abort", "1", "--yes"], 1);
}

#[test]
fn aborted_where_nobody_is_at_work() {
    let shop = Shop::new();
    shop.migration("0001_plan", &[UPGRADE, ASK, COPY]);
    let before = shop.documents("app", "users");
    shop.ends(&["up", "--yes"], 3);
    let aborted = shop.ends(&["abort", "--yes", "--reason", "no longer wanted"], 0);
    assert!(
        aborted.stdout.contains("no longer wanted"),
        "{}",
        aborted.stdout
    );
    assert_eq!(before, shop.documents("app", "users"));
}

#[test]
fn a_go_ahead_is_given_by_those_who_may() {
    let shop = Shop::new();
    shop.migration("0001_plan", &[UPGRADE, ASK, COPY]);
    let rests = shop.ends(&["up", "--yes"], 3);
    assert!(
        rests.stdout.contains("waiting for grace's go-ahead"),
        "{}",
        rests.stdout
    );
    assert!(
        rests.stdout.contains("whimbrel approve 0001_plan look"),
        "{}",
        rests.stdout
    );
    let refused = shop.ends(&["approve", "1", "look"], 1);
    assert!(refused.stderr.contains("grace"), "{}", refused.stderr);
    let unknown = shop.ends(&["approve", "1", "lock"], 2);
    assert!(unknown.stderr.contains("look"), "{}", unknown.stderr);
    shop.ends(&["approve", "1", "look", "--as", "grace"], 0);
    shop.ends(&["approve", "0002", "look"], 1);
    shop.ends(&["up", "--yes"], 0);
    shop.ends(&["approve", "1", "look", "--as", "grace"], 1);
    assert_eq!(shop.documents("other", "people").len(), 50);
}

#[test]
fn a_process_that_waits_hears_the_go_ahead() {
    let shop = Shop::new();
    let touch = "[[step]]\nrun = \"mark\"\nforward = { command = [\"touch\", \"begun\"] }\nbackward = { command = [\"true\"] }\n";
    shop.migration("0001_plan", &[touch, ASK, COPY]);
    let waits = shop.begin(&["up", "--wait", "--yes"]);
    shop.until("it waits", || {
        shop.status()["migrations"]["foremost"]["state"]["steps"][1]["status"] == "running"
    });
    shop.ends(&["approve", "1", "look", "--as", "grace"], 0);
    let waits = ended(waits);
    assert_eq!(waits.code, 0, "{}{}", waits.stdout, waits.stderr);
}

#[test]
fn a_killed_process_is_told_and_gone_on_with() {
    let shop = Shop::new();
    shop.migration("0001_plan", &[UPGRADE, HOLD, COPY]);
    let mut first = shop.begin(&["up", "--yes"]);
    first.kill().unwrap();
    first.wait().unwrap();
    let status = shop.ends(&["status"], 3);
    for part in [
        "0001_plan was killed in step 2 of 3 (run hold)",
        "Nothing is lost",
        "whimbrel up",
        "whimbrel down",
    ] {
        assert!(
            status.stdout.contains(part),
            "{part:?} is missing:\n{}",
            status.stdout
        );
    }
    shop.write("go", "");
    let second = shop.ends(&["up", "--yes"], 0);
    assert!(
        second.stderr.contains("its lease was taken over"),
        "{}",
        second.stderr
    );
    assert_eq!(shop.documents("other", "people").len(), 50);
    assert_eq!(shop.standing("0001_plan").1, "applied");
}

/// A step that may have happened is a person's to judge.
#[test]
fn what_nobody_knows_is_settled() {
    for (word, runs) in [("--done", 1), ("--not-done", 2)] {
        let shop = Shop::new();
        let hold = HOLD
            .replace("idempotent = true\n", "")
            .replace("touch begun", "echo >> runs; touch begun");
        shop.migration("0001_plan", &[UPGRADE, &hold, COPY]);
        let mut first = shop.begin(&["up", "--yes"]);
        first.kill().unwrap();
        first.wait().unwrap();
        shop.write("go", "");
        shop.ends(&["up", "--yes"], 6);
        let status = shop.ends(&["status"], 3);
        assert!(
            status
                .stdout
                .contains("whimbrel settle 0001_plan hold --not-done"),
            "{}",
            status.stdout
        );
        shop.ends(&["settle", "1", "reshape", "--done", "--yes"], 1);
        shop.ends(&["settle", "1", "hold", word, "--yes"], 0);
        shop.ends(&["up", "--yes"], 0);
        let count = std::fs::read_to_string(shop.path().join("runs"))
            .unwrap()
            .lines()
            .count();
        assert_eq!(count, runs, "{word}");
    }
}

/// Ctrl-C: what is at work stops, and the migration rests.
#[test]
fn interrupted_it_rests() {
    let shop = Shop::new();
    shop.migration("0001_plan", &[UPGRADE, HOLD, COPY]);
    let first = shop.begin(&["up", "--yes"]);
    let pid = first.id().to_string();
    let sent = std::process::Command::new("kill")
        .args(["-INT", &pid])
        .status();
    assert!(sent.unwrap().success());
    let first = ended(first);
    assert_eq!(first.code, 3, "{}{}", first.stdout, first.stderr);
    assert!(
        first.stdout.contains("stopped on request"),
        "{}",
        first.stdout
    );
    shop.write("go", "");
    shop.ends(&["up", "--yes"], 0);
}
