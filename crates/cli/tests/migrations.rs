//! Migrations from the command line: up, down and up again, what is refused, and what is shown.

#[path = "support/shop.rs"]
mod shop;
mod support;

use shop::{COPY, FAIL, Shop, UPGRADE};
use support::{Ran, Sandbox, command, contents};

#[test]
fn up_down_and_up_again_keep_what_was_written_between() {
    let shop = Shop::new();
    shop.migration("0001_plan", &[UPGRADE, COPY]);
    let before = shop.documents("app", "users");
    shop.ends(&["up", "--yes"], 0);
    assert_eq!(
        shop.standing("0001_plan"),
        ("applied".into(), "applied".into())
    );
    let upgraded = shop.documents("app", "users");
    assert!(
        before
            .iter()
            .zip(&upgraded)
            .all(|(a, b)| a.0 == b.0 && a.1 != b.1)
    );
    assert_eq!(shop.documents("other", "people").len(), 50);
    // Again, there is nothing to do.
    assert!(
        shop.ends(&["up", "--yes"], 0)
            .stdout
            .contains("nothing is pending")
    );
    shop.put(
        "later",
        "{\"name\":\"later\",\"plan\":\"free\",\"_schemaVersion\":2}",
    );
    shop.ends(&["down", "--yes"], 0);
    let mut back = shop.documents("app", "users");
    let later = back.iter().position(|(key, _)| key == "later").unwrap();
    let (_, kept) = back.remove(later);
    assert!(String::from_utf8(kept).unwrap().contains("\"later\""));
    assert_eq!(before, back, "the bytes are not what they were");
    assert!(shop.documents("other", "people").is_empty());
    assert_eq!(
        shop.standing("0001_plan"),
        ("pending".into(), "undone".into())
    );
    shop.ends(&["up", "--yes"], 0);
    assert_eq!(shop.documents("other", "people").len(), 51);
    let history = shop.ends(&["history", "--json"], 0).stdout;
    let history: serde_json::Value = serde_json::from_str(&history).unwrap();
    let outcomes: Vec<_> = history["migrations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["outcome"])
        .collect();
    assert_eq!(outcomes, ["taken back", "applied"]);
}

#[test]
fn down_takes_back_in_the_reverse_order_of_application() {
    let shop = Shop::new();
    let step = |name: &str| {
        format!(
            "[[step]]\nrun = \"{name}\"\nforward = {{ command = [\"true\"] }}\n\
             backward = {{ command = [\"sh\", \"-c\", \"echo {name} >> undone\"] }}\n"
        )
    };
    shop.migration("0002_b", &[&step("b")]);
    shop.ends(&["up", "--yes"], 0);
    shop.migration("0001_a", &[&step("a")]);
    shop.migration("0003_c", &[&step("c1"), &step("c2")]);
    shop.ends(&["up", "--late", "apply", "--yes"], 0);
    let undone = || std::fs::read_to_string(shop.path().join("undone")).unwrap_or_default();
    shop.ends(&["down", "--last", "1", "--yes"], 0);
    assert_eq!(undone(), "c2\nc1\n");
    // What was applied after 2 is 1, which came late.
    shop.ends(&["down", "--to", "2", "--yes"], 0);
    assert_eq!(undone(), "c2\nc1\na\n");
    shop.ends(&["down", "--to", "0", "--yes"], 0);
    assert_eq!(undone(), "c2\nc1\na\nb\n");
    assert!(
        shop.ends(&["down", "--yes"], 0)
            .stdout
            .contains("nothing to take back")
    );
}

#[test]
fn a_dry_run_writes_nothing() {
    let shop = Shop::new();
    shop.migration("0001_plan", &[UPGRADE, COPY]);
    let check = |arguments: &[&str], expect: &str| {
        let before = contents(&shop.path());
        let ran = shop.ends(arguments, 0);
        assert!(
            ran.stdout.contains(expect),
            "{arguments:?} does not say {expect:?}:\n{}",
            ran.stdout
        );
        let after = contents(&shop.path());
        for ((a, _), (b, _)) in before.iter().zip(&after) {
            assert_eq!(a, b, "{arguments:?} made or removed a file");
        }
        assert!(before == after, "{arguments:?} changed a file");
    };
    check(&["up", "--dry-run"], "50 would be upgraded");
    check(&["up", "--dry-run"], "50 would be copied");
    // Nobody says yes: the plan alone must not make a file either.
    let before = contents(&shop.path());
    shop.ends(&["up"], 2);
    assert!(before == contents(&shop.path()), "asking wrote something");
    shop.ends(&["up", "--yes"], 0);
    check(&["down", "--dry-run"], "50 documents written");
    check(&["status"], "0001_plan is applied");
    check(&["history", "1"], "upgrade reshape");
}

#[test]
fn an_edited_file_is_shown_and_refused() {
    let shop = Shop::new();
    shop.migration("0001_plan", &[UPGRADE]);
    shop.ends(&["up", "--yes"], 0);
    // Comments and blank lines mean nothing.
    shop.migration("0001_plan", &["# about the step\n\n", UPGRADE]);
    shop.ends(&["up", "--yes"], 0);
    shop.migration("0001_plan", &[UPGRADE, "timeout = \"5s\"\n"]);
    shop.migration("0002_copy", &[COPY]);
    for arguments in [
        &["up", "--yes"][..],
        &["up", "--dry-run"],
        &["down", "--yes"],
    ] {
        let ran = shop.ends(arguments, 3);
        for part in [
            "WB-M02",
            "0001_plan: step 1 (upgrade \"reshape\")",
            "timeout",
            "--allow-drift",
        ] {
            assert!(
                ran.stderr.contains(part),
                "{arguments:?} lacks {part:?}:\n{}",
                ran.stderr
            );
        }
    }
    let status = shop.ends(&["status"], 3);
    assert!(
        status.stdout.contains("drifted  0001_plan: step 1"),
        "{}",
        status.stdout
    );
    shop.ends(&["up", "--allow-drift", "--yes"], 0);
    assert_eq!(shop.documents("other", "people").len(), 50);
    shop.ends(&["down", "--to", "0", "--allow-drift", "--yes"], 0);
}

#[test]
fn late_arrivals_are_refused_applied_or_skipped() {
    for (late, code, expect) in [
        ("refuse", 3, "late"),
        ("apply", 0, "applied"),
        ("skip", 0, "skipped"),
    ] {
        let shop = Shop::new();
        shop.migration("0002_copy", &[COPY]);
        shop.ends(&["up", "--yes"], 0);
        shop.migration("0001_plan", &[UPGRADE]);
        assert_eq!(shop.standing("0001_plan").0, "late");
        let ran = shop.ends(&["up", "--late", late, "--yes"], code);
        if late == "refuse" {
            for part in ["WB-M03", "--late apply", "--late skip"] {
                assert!(
                    ran.stderr.contains(part),
                    "{part:?} is missing:\n{}",
                    ran.stderr
                );
            }
        }
        assert_eq!(shop.standing("0001_plan").0, expect, "{late}");
    }
}

#[test]
fn up_goes_no_further_than_asked() {
    let shop = Shop::new();
    for id in ["0001_a", "0002_b", "0003_c"] {
        shop.migration(id, &["[[step]]\nrun = \"x\"\nforward = { command = [\"true\"] }\nbackward = { command = [\"true\"] }\n"]);
    }
    shop.ends(&["up", "--to", "2", "--yes"], 0);
    assert_eq!(shop.standing("0002_b").0, "applied");
    assert_eq!(shop.standing("0003_c").0, "pending");
    let ran = shop.ends(&["up", "--to", "0003_", "--yes"], 0);
    assert!(ran.stdout.contains("0003_c is applied"), "{}", ran.stdout);
    let unknown = shop.ends(&["up", "--to", "0003_d", "--yes"], 2);
    assert!(
        unknown.stderr.contains("did you mean \"0003_c\""),
        "{}",
        unknown.stderr
    );
}

/// Both the first error and what came of taking it back are told; the data is what it was.
#[test]
fn what_fails_is_taken_back() {
    let shop = Shop::new();
    shop.migration("0001_plan", &[UPGRADE, COPY, FAIL]);
    let before = shop.documents("app", "users");
    let ran = shop.ends(&["up", "--yes"], 1);
    let told = "0001_plan was taken back at";
    assert!(ran.stdout.contains(told), "{}", ran.stdout);
    assert!(
        ran.stdout
            .contains("because step 3 (run break) failed: WB-M06"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout.contains("The data is as it was before it began"),
        "{}",
        ran.stdout
    );
    assert_eq!(before, shop.documents("app", "users"));
    assert!(shop.documents("other", "people").is_empty());
    // Kept where it failed, it goes on once the cause is mended.
    shop.ends(&["up", "--keep", "--yes"], 3);
    assert_eq!(shop.standing("0001_plan").0, "open");
    shop.ends(&["down", "--yes"], 0);
    assert_eq!(before, shop.documents("app", "users"));
}

#[test]
fn an_undo_that_fails_is_told_and_tried_again() {
    let shop = Shop::new();
    let stubborn = "[[step]]\nrun = \"stubborn\"\nforward = { command = [\"true\"] }\n\
                    backward = { command = [\"test\", \"-e\", \"mended\"] }\n";
    shop.migration("0001_plan", &[UPGRADE, stubborn, FAIL]);
    let before = shop.documents("app", "users");
    let ran = shop.ends(&["up", "--yes"], 1);
    for part in [
        "could not be taken back whole",
        "because step 3 (run break) failed",
        "step 2 (run stubborn) could not be taken back",
        "whimbrel down",
    ] {
        assert!(
            ran.stdout.contains(part),
            "{part:?} is missing:\n{}",
            ran.stdout
        );
    }
    assert_eq!(
        before,
        shop.documents("app", "users"),
        "the other steps are taken back all the same"
    );
    let refused = shop.ends(&["up", "--yes"], 1);
    assert!(refused.stderr.contains("WB-M10"), "{}", refused.stderr);
    shop.write("mended", "");
    shop.ends(&["down", "--yes"], 0);
    assert_eq!(
        shop.standing("0001_plan"),
        ("pending".into(), "undone".into())
    );
}

#[test]
fn a_point_of_no_return_is_announced() {
    let shop = Shop::new();
    let drop = "[[step]]\nrun = \"drop_old\"\nforward = { command = [\"true\"] }\n";
    shop.migration("0001_plan", &[UPGRADE, drop]);
    let asked = shop.ends(&["up"], 2);
    assert!(
        asked.stdout.contains("NO WAY BACK: step 2 (run drop_old)"),
        "{}",
        asked.stdout
    );
    assert!(
        asked
            .stderr
            .contains("NO WAY BACK from step 2 (run drop_old)"),
        "{}",
        asked.stderr
    );
    shop.ends(&["up", "--yes"], 0);
    let asked = shop.ends(&["down"], 2);
    assert!(
        asked.stderr.contains("step 2 (run drop_old) did STAYS"),
        "{}",
        asked.stderr
    );
    let ran = shop.ends(&["down", "--yes"], 0);
    assert!(
        ran.stdout.contains("but for step 2 (run drop_old)"),
        "{}",
        ran.stdout
    );
}

#[test]
fn everything_wrong_is_told_at_once_with_its_place() {
    let shop = Shop::new();
    shop.write(
        "migrations/0001_a.toml",
        "description = \"a\"\n\n[[step]]\nupgrade = \"x\"\ncollection = \"nobody\"\nto = 2\n\n[[step]]\ncopy = \"y\"\nsource = \"users\"\ntarget = \"nowhere/x\"\n",
    );
    shop.write(
        "migrations/0002_b.toml",
        "description = \"b\"\n\n[[step]]\nupgrade = \"x\"\ncollection = \"users\"\nto = 7\n",
    );
    let check = |ran: &Ran, parts: &[&str]| {
        for part in parts {
            assert!(
                ran.stderr.contains(part),
                "{part:?} is missing:\n{}",
                ran.stderr
            );
        }
        assert!(ran.stderr.contains("nothing was begun"), "{}", ran.stderr);
    };
    let ran = shop.ends(&["up", "--yes"], 2);
    check(
        &ran,
        &[
            "migrations/0001_a.toml:3:1",
            "nobody",
            "migrations/0001_a.toml:8:1",
            "nowhere",
        ],
    );
    // What only opening the project's schemas and the environment shows.
    shop.migration("0001_a", &[
        "[[step]]\nupgrade = \"x\"\ncollection = \"users\"\nto = 6\n",
        "[[step]]\nrun = \"z\"\nforward = { command = [\"true\"], env = { TOKEN = \"$NOT_SET_ANYWHERE\" } }\n",
    ]);
    let ran = shop.ends(&["up", "--yes"], 2);
    check(
        &ran,
        &[
            "migrations/0001_a.toml:3:1",
            "migrations/0001_a.toml:8:1",
            "NOT_SET_ANYWHERE",
            "migrations/0002_b.toml:3:1",
        ],
    );
    assert!(!shop.exists(".whimbrel"), "a ledger was made");
}

#[test]
fn secrets_stay_secret() {
    const SECRET: &str = "hush-9f31c7a2";
    let shop = Shop::new();
    let says = |name: &str, then: &str| {
        format!(
            "[[step]]\nrun = \"{name}\"\nforward = {{ command = [\"sh\", \"-c\", \"echo said $TOKEN; echo $TOKEN >&2; {then}\"], \
             env = {{ TOKEN = \"$CHAT_TOKEN\" }} }}\nbackward = {{ command = [\"true\"] }}\n"
        )
    };
    let hook = "\n[[hook]]\non = [\"started\", \"step_failed\", \"rolled_back\"]\n\
                command = [\"sh\", \"-c\", \"echo told $KEY; cat >> heard; exit 3\"]\nenv = { KEY = \"$CHAT_TOKEN\" }\n";
    let project = std::fs::read_to_string(shop.path().join("whimbrel.toml")).unwrap();
    shop.write("whimbrel.toml", &format!("{project}{hook}"));
    shop.migration(
        "0001_talk",
        &[&says("talk", "true"), &says("fail", "exit 1")],
    );
    for arguments in [
        &["up", "--yes", "-vv"][..],
        &["up", "--yes", "--json"],
        &["status"],
        &["history", "1"],
    ] {
        let ran = shop.run_with(arguments, &[("CHAT_TOKEN", SECRET)]);
        let all = format!("{}{}", ran.stdout, ran.stderr);
        assert!(
            !all.contains(SECRET),
            "{arguments:?} shows the secret:\n{all}"
        );
        if arguments[0] == "up" {
            assert_eq!(ran.code, 1, "{all}");
            assert!(
                all.contains("said "),
                "the command's output is not shown:\n{all}"
            );
        }
    }
    let heard = std::fs::read_to_string(shop.path().join("heard")).unwrap();
    for moment in ["started", "step_failed", "rolled_back"] {
        assert!(
            heard.contains(&format!("\"moment\":\"{moment}\"")),
            "{moment} was not heard: {heard}"
        );
    }
    for (path, bytes) in contents(&shop.path()) {
        let found = bytes.windows(SECRET.len()).any(|w| w == SECRET.as_bytes());
        assert!(!found, "{} holds the secret", path.display());
    }
}

/// The last object says everything, and every line is JSON.
#[test]
fn machines_read_it_line_by_line() {
    let shop = Shop::new();
    shop.migration("0001_plan", &[UPGRADE, COPY]);
    let ran = shop.ends(&["up", "--yes", "--json"], 0);
    let lines: Vec<serde_json::Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    assert_eq!(lines[0]["plan"][0]["steps"][0]["documents"], 50);
    let moments: Vec<_> = lines.iter().filter_map(|l| l["moment"].as_str()).collect();
    assert_eq!(
        moments,
        [
            "started",
            "step_started",
            "step_done",
            "step_started",
            "step_done",
            "completed"
        ]
    );
    let last = lines.last().unwrap();
    assert_eq!(last["state"]["status"], "applied");
    assert!(
        last["headline"]
            .as_str()
            .unwrap()
            .contains("all 2 steps are done")
    );
    // A time is told from the first time that it was done.
    shop.ends(&["down", "--yes"], 0);
    let plan = shop.ends(&["up", "--dry-run", "--json"], 0).stdout;
    let plan: serde_json::Value = serde_json::from_str(plan.lines().next().unwrap()).unwrap();
    assert!(
        plan["plan"][0]["estimate_ms"].as_u64().unwrap() > 0,
        "{plan}"
    );
    assert_eq!(plan["plan"][0]["estimate_is_whole"], true);
}

/// The example that people begin with does what its page says.
#[test]
fn the_folder_of_migrations_can_be_named() {
    let shop = Shop::new();
    let project = std::fs::read_to_string(shop.path().join("whimbrel.toml")).unwrap();
    shop.write(
        "whimbrel.toml",
        &format!("migrations = \"db/steps\"\n{project}"),
    );
    shop.write(
        "db/steps/0001_x.toml",
        &format!("description = \"x\"\n{UPGRADE}"),
    );
    shop.ends(&["up", "--yes"], 0);
    assert_eq!(shop.standing("0001_x").0, "applied");
    let sandbox = Sandbox::new();
    let ran = command(sandbox.path())
        .args(["up", "--yes"])
        .output()
        .unwrap();
    assert_eq!(
        ran.status.code(),
        Some(0),
        "no project, no migrations, nothing to do"
    );
}
