//! Verifying as an operator does: what is found, the exit codes, the reports, repair, and how old it all is.

#[path = "support/markup.rs"]
mod markup;
#[path = "support/shop.rs"]
mod shop;
mod support;

use serde_json::Value;
use shop::{COPY, Shop};
use std::sync::Arc;
use support::Ran;
use whimbrel_engine::{Engine, Ledger, SystemClock};
use whimbrel_model::ledger::Verified;

/// Stands in every document that something is wrong with, and in no report.
const MARKER: &str = "MARKER7391";

const SAME: [&str; 3] = ["verify", "app/users", "other/people"];

/// Users that are copied to `other/people`.
fn copied() -> Shop {
    let shop = Shop::new();
    shop.ends(&["copy", "app/users", "other/people", "--yes"], 0);
    shop
}

fn with<'a>(base: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [base, more].concat()
}

fn last(ran: &Ran) -> Value {
    let line = ran.stdout.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))
}

fn read(shop: &Shop, file: &str) -> String {
    std::fs::read_to_string(shop.path().join(file)).unwrap()
}

/// One document that is missing in the target and one that differs, both with hostile keys.
fn spoilt() -> Shop {
    let shop = copied();
    shop.put(
        "<script>alert('k')</script>",
        &format!("{{\"name\":\"{MARKER}\",\"n\":1}}"),
    );
    shop.put("u007", &format!("{{\"name\":\"{MARKER}\",\"n\":7}}"));
    shop
}

#[test]
fn what_is_equal_and_what_is_not() {
    let shop = copied();
    let ran = shop.ends(&SAME, 0);
    assert!(
        ran.stdout.starts_with("equal: 50 documents\n"),
        "{}",
        ran.stdout
    );
    let said = last(&shop.ends(&with(&SAME, &["--json"]), 0));
    assert_eq!(said["comparisons"][0]["equal"], 50);
    assert!(said["run"].is_string(), "{said}");

    let shop = spoilt();
    let ran = shop.ends(&SAME, 4);
    let verdict = "NOT equal: 1 missing, 1 different\n";
    assert!(ran.stdout.starts_with(verdict), "{}", ran.stdout);
    assert!(ran.stdout.contains("u007  name"), "{}", ran.stdout);
    assert!(!ran.stdout.contains(MARKER), "{}", ran.stdout);
    // A field that does not count, and the other way round: what is too much.
    let said = last(&shop.ends(&with(&SAME, &["--ignore", "name", "--json"]), 4));
    let counts = |c: &Value| ["missing", "extra", "differing"].map(|n| c[n].as_u64().unwrap());
    assert_eq!(counts(&said["comparisons"][0]), [1, 0, 0]);
    let said = last(&shop.ends(&["verify", "other/people", "app/users", "--json"], 4));
    assert_eq!(counts(&said["comparisons"][0]), [0, 1, 1]);
}

#[test]
fn a_sample_says_what_it_proves() {
    let shop = copied();
    let sample = with(&SAME, &["--sample", "50%", "--seed", "3"]);
    let ran = shop.ends(&sample, 0);
    assert!(ran.stdout.contains(" of a sample\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("95 % confidence"), "{}", ran.stdout);
    assert!(ran.stdout.contains("--seed 3"), "{}", ran.stdout);
}

#[test]
fn flags_that_make_no_sense_are_refused() {
    let shop = copied();
    for more in [
        &["--sample", "0%"][..],
        &["--tolerance", "n=-1"],
        &["--since", "n=soon"],
        &["--seed", "3"],
        &["--delete-extra"],
        &["--rule", "x"],
        &["--checks", "no-such-file.toml"],
        &["--check", "no-such-check"],
    ] {
        shop.ends(&with(&SAME, more), 2);
    }
    shop.ends(&["verify", "app/users"], 2);
    shop.ends(&["verify"], 2);
    shop.ends(&["verify", "--repair"], 2);
    shop.ends(&with(&SAME, &["--report", "no/such/folder.html"]), 1);
}

#[test]
fn repair_brings_exactly_what_differs() {
    let shop = spoilt();
    let records = shop.status()["records"].clone();
    let ran = shop.ends(&with(&SAME, &["--repair", "--dry-run"]), 4);
    assert!(ran.stdout.contains("u007"), "{}", ran.stdout);
    assert_eq!(shop.documents("other", "people").len(), 50);
    assert_eq!(
        shop.status()["records"],
        records,
        "a dry run leaves no trace"
    );
    shop.ends(&with(&SAME, &["--repair"]), 2);

    let said = last(&shop.ends(&with(&SAME, &["--repair", "--yes", "--json"]), 0));
    assert_eq!(said["repairs"][0]["synced"]["enumerated"], 2);
    assert_eq!(said["comparisons"][0]["equal"], 51);
    assert_eq!(shop.documents("other", "people").len(), 51);
    shop.ends(&SAME, 0);

    // What is only in the target stays, unless it is said that it must go.
    shop.put("too-much", "{}");
    let back = ["verify", "other/people", "app/users", "--repair", "--yes"];
    shop.ends(&back, 4);
    assert_eq!(shop.documents("app", "users").len(), 52);
    shop.ends(&with(&back, &["--delete-extra"]), 0);
    assert_eq!(shop.documents("app", "users").len(), 51);
}

const CHECKS: &str = "\
[[check]]
name = \"named\"
description = \"Everybody has a <name>\"
collection = \"users\"
required = [\"name\"]

[[check]]
name = \"short names\"
severity = \"warning\"
collection = \"users\"
pattern = { name = \"^user [0-9]+$\" }

[[check]]
name = \"few\"
severity = \"info\"
collection = \"users\"
count = { at_most = 50 }

[[check]]
name = \"numbered\"
collection = \"users\"
types = { n = \"int\" }
";

#[test]
fn only_what_is_critical_fails() {
    let shop = Shop::new();
    shop.write("checks/users.toml", CHECKS);
    let ran = shop.ends(&["verify"], 0);
    assert!(
        ran.stdout.starts_with("4 checks passed\n"),
        "{}",
        ran.stdout
    );
    // One that warns and one that only tells.
    shop.put("odd", &format!("{{\"name\":\"{MARKER}\",\"n\":1}}"));
    let ran = shop.ends(&["verify"], 0);
    let verdict = "2 of 4 checks failed: 1 warning, 1 info\n";
    assert!(ran.stdout.starts_with(verdict), "{}", ran.stdout);
    assert!(!ran.stdout.contains(MARKER), "{}", ran.stdout);
    shop.put("bad", &format!("{{\"n\":\"{MARKER}\"}}"));
    for (more, code) in [
        (&[][..], 4),
        (&["--check", "short names"], 0),
        (&["--check", "named"], 4),
        (&["--collection", "users", "--check", "few"], 0),
        (&["--checks", "checks/users.toml"], 4),
    ] {
        shop.ends(&with(&["verify"], more), code);
    }
    let said = last(&shop.ends(&["verify", "--json"], 4));
    let failed = said["checks"].as_array().unwrap();
    let failed: Vec<_> = failed.iter().filter(|c| c["passed"] == false).collect();
    assert_eq!(failed.len(), 4, "{said}");
    // Both together, and a check that cannot be done.
    shop.write(
        "checks/gone.toml",
        "[[check]]\nname = \"gone\"\nseverity = \"info\"\ncollection = \"app/nowhere\"\nrequired = [\"x\"]\n",
    );
    let ran = shop.ends(&["verify", "app/users", "app/users", "--check", "gone"], 2);
    assert!(ran.stderr.contains("the same collection"), "{}", ran.stderr);
    let ran = shop.ends(&["verify", "--check", "gone"], 4);
    assert!(ran.stdout.contains("could not be done"), "{}", ran.stdout);
}

#[test]
fn reports_are_well_formed_and_hold_no_value() {
    let shop = spoilt();
    shop.write("checks/users.toml", CHECKS);
    shop.put("no\u{1}\u{202e}name]]>", &format!("{{\"n\":\"{MARKER}\"}}"));
    let files = ["--report", "r.html", "--junit", "j.xml"];
    let ran = shop.ends(
        &with(&with(&SAME, &["--checks", "checks/users.toml"]), &files),
        4,
    );
    let (page, xml) = (read(&shop, "r.html"), read(&shop, "j.xml"));
    for text in [&page, &xml, &ran.stdout, &ran.stderr] {
        assert!(!text.contains(MARKER));
    }
    assert!(!page.contains("<script"), "a key got out of its place");
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside} in the page");
    }
    let page = markup::parse(&page);
    assert_eq!(page.all("h1").len(), 1);
    assert!(page.all("svg").len() > 4);
    assert!(page.text.contains("<script>alert('k')</script>"));
    assert!(page.text.contains("Everybody has a <name>"));
    for table in page.all("table") {
        assert!(
            table
                .all("th")
                .iter()
                .all(|th| th.attribute("scope") == "col")
        );
        let heads = table.all("th").len();
        let rows = table.all("tr");
        assert!(rows.iter().skip(1).all(|tr| tr.all("td").len() == heads));
    }

    let xml = markup::parse(&xml);
    assert_eq!(xml.name, "testsuites");
    let cases = xml.all("testcase");
    assert_eq!(cases.len(), 5, "one comparison and four checks");
    for (of, element) in [
        ("failures", "failure"),
        ("errors", "error"),
        ("skipped", "skipped"),
    ] {
        let found = xml.all(element).len().to_string();
        assert_eq!(xml.attribute(of), found, "{element}");
    }
    assert_eq!(xml.attribute("failures"), "3");
    assert_eq!(xml.attribute("skipped"), "2");
    let outcome = |name: &str| {
        let case = cases.iter().find(|c| c.attribute("name") == name).unwrap();
        case.children.first().map(|c| c.name.clone())
    };
    assert_eq!(outcome("named").as_deref(), Some("failure"));
    assert_eq!(outcome("short names").as_deref(), Some("skipped"));

    // Values only where they are asked for.
    shop.ends(&["verify", "--show-values", "--report", "r.html"], 4);
    assert!(read(&shop, "r.html").contains(MARKER));
}

#[test]
fn a_verification_has_an_age() {
    let shop = copied();
    shop.write("checks/users.toml", CHECKS);
    shop.ends(&SAME, 0);
    shop.ends(&["verify"], 0);
    let ran = shop.ends(&["status"], 0);
    assert!(ran.stdout.contains("verified "), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("4 checks: 4 checks passed"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("equal: 50 documents"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("WB-V05"), "{}", ran.stdout);
    let history = shop.ends(&["history"], 0).stdout;
    assert!(history.contains("app/users and other/people"), "{history}");

    remember(
        &shop,
        Verified {
            title: "what was long ago".to_owned(),
            started_at: "2020-01-01T00:00:00Z".to_owned(),
            checks_passed: 1,
            ..Verified::default()
        },
    );
    let ran = shop.ends(&["status"], 0);
    assert!(ran.stdout.contains("older than 24 h"), "{}", ran.stdout);
    assert!(ran.stdout.contains("WB-V05"), "{}", ran.stdout);
    let all = shop.status()["verifications"].clone();
    let old: Vec<_> = all.as_array().unwrap().iter().map(|v| &v["old"]).collect();
    assert_eq!(old, [true, false, false], "{all}");
}

#[test]
fn checks_are_told_while_another_run_holds_the_ledger() {
    let shop = copied();
    shop.write("checks/users.toml", CHECKS);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (ledger, _) = open(&shop, &runtime);
    let lease = runtime.block_on(ledger.lock("somebody")).unwrap();
    let ran = shop.ends(&["verify"], 0);
    assert!(
        ran.stdout.starts_with("4 checks passed\n"),
        "{}",
        ran.stdout
    );
    assert!(ran.stderr.contains("somebody holds"), "{}", ran.stderr);
    shop.ends(&SAME, 5);
    runtime.block_on(lease.release()).unwrap();
    assert_eq!(shop.status()["verifications"], serde_json::json!([]));
}

fn open(shop: &Shop, runtime: &tokio::runtime::Runtime) -> (Arc<Ledger>, Arc<SystemClock>) {
    let url = format!(
        "sqlite:{}",
        shop.path().join(".whimbrel/ledger.db").display()
    );
    let clock = Arc::new(SystemClock);
    let ledger = runtime.block_on(async {
        let journal = whimbrel_stores::open_journal(&url).await.unwrap();
        Ledger::open(journal, clock.clone()).await.unwrap()
    });
    (Arc::new(ledger), clock)
}

fn remember(shop: &Shop, verified: Verified) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (ledger, clock) = open(shop, &runtime);
    let engine = Engine::new(ledger, clock);
    runtime
        .block_on(engine.remember(verified, "the test"))
        .unwrap();
}

/// A `verify` step with checks: passes, only warns, fails.
#[test]
fn checks_as_a_step() {
    let step = |warnings: &str| {
        format!(
            "[[step]]\nverify = \"rules\"\nchecks = [\"checks/users.toml\"]\nwarnings = \"{warnings}\"\n"
        )
    };
    let check = |warnings: &str, put: Option<&str>, applied: bool, code: i32| {
        let shop = Shop::new();
        shop.write("checks/users.toml", CHECKS);
        if let Some(json) = put {
            shop.put("odd", json);
        }
        shop.migration("0001_away", &[COPY, &step(warnings)]);
        let ran = shop.ends(&["up", "--yes"], code);
        let copied = shop.documents("other", "people").len();
        assert_eq!(copied > 0, applied, "{}{}", ran.stdout, ran.stderr);
        let found = last(&shop.ends(&["history", "--json"], 0));
        let step = &found["verifications"][0]["step"];
        assert_eq!(step["migration"], "0001_away", "{found}");
        ran
    };
    check("fail", None, true, 0);
    let odd = format!("{{\"name\":\"{MARKER}\",\"n\":1}}");
    check("pass", Some(&odd), true, 0);
    let ran = check("fail", Some(&odd), false, 1);
    let said = ran.stdout + &ran.stderr;
    assert!(said.contains("short names (1 of 51)"), "{said}");
    assert!(!said.contains(MARKER), "{said}");
    check("pass", Some("{\"n\":1}"), false, 1);
}

/// A rule that counts failed checks stops a migration that the step itself would let go on.
#[test]
fn failed_checks_are_counted_for_the_abort_rule() {
    let shop = Shop::new();
    shop.write("checks/users.toml", CHECKS);
    shop.put("odd", "{\"name\":\"odd\",\"n\":1}");
    let step = "[[step]]\nverify = \"rules\"\nchecks = true\n";
    let rule = "[[abort]]\nwhen = \"failed_checks\"\nabove = 1\nevery = \"1s\"\n";
    let wait = "[[step]]\nrun = \"wait\"\nforward = { command = [\"sleep\", \"20\"] }\nbackward = { command = [\"true\"] }\n";
    shop.migration("0001_away", &[COPY, step, wait, rule]);
    let ran = shop.run(&["up", "--yes"]);
    assert_ne!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let said = ran.stdout + &ran.stderr;
    assert!(said.contains("failed_checks"), "{said}");
    assert!(shop.documents("other", "people").is_empty());
}
