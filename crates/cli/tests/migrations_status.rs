//! What an operator finds the morning after, from `status` alone, in six situations.
#![cfg(target_os = "linux")]

#[path = "support/shop.rs"]
mod shop;
mod support;

use shop::{COPY, FAIL, HOLD, Shop, UPGRADE};

/// With what changes from run to run taken out.
fn told(shop: &Shop) -> String {
    let ran = shop.ends(&["status"], 3);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let text = ran
        .stdout
        .replace(&shop.path().display().to_string(), "[DIR]")
        .replace(&format!("ada@{}", host.trim()), "ada@[HOST]");
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
}

/// Instants, durations, process ids and counts of records become words.
fn plain(line: &str) -> String {
    let (start, rest) = line.split_at(line.len() - line.trim_start().len());
    let mut words: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
    for i in 0..words.len() {
        let digits = words[i].trim_matches(|c: char| !c.is_ascii_digit());
        let shape: String = digits
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        let unit = words.get(i + 1).map_or("", |w| w.trim_end_matches(','));
        if shape == "00:00:00" {
            words[i] = "[TIME]".to_owned();
        } else if !digits.is_empty() && matches!(unit, "ms" | "s") {
            words[i] = "[N]".to_owned();
            words[i + 1] = words[i + 1].replace("ms", "s");
        } else if !digits.is_empty() && matches!(unit, "records") {
            words[i] = "[N]".to_owned();
        }
    }
    format!("{start}{}", words.join(" "))
}

#[test]
fn nothing_was_begun() {
    let shop = Shop::new();
    shop.migration("0001_plan", &[UPGRADE]);
    shop.migration("0002_copy", &[COPY]);
    insta::assert_snapshot!("status_nothing_begun", told(&shop));
}

#[test]
fn it_waits_for_a_word() {
    let shop = Shop::new();
    let ask = "[[step]]\napprove = \"look\"\nquestion = \"Does it look right?\"\nby = [\"grace\", \"ada\"]\n";
    shop.migration("0001_plan", &[UPGRADE, ask, COPY]);
    shop.ends(&["up", "--yes"], 3);
    insta::assert_snapshot!("status_waits", told(&shop));
}

#[test]
fn it_failed_and_was_taken_back() {
    let shop = Shop::new();
    shop.migration("0001_plan", &[UPGRADE]);
    shop.ends(&["up", "--yes"], 0);
    shop.migration("0002_copy", &[COPY, FAIL, HOLD]);
    shop.ends(&["up", "--yes"], 1);
    insta::assert_snapshot!("status_taken_back", told(&shop));
}

#[test]
fn it_was_killed() {
    let shop = Shop::new();
    shop.migration("0001_plan", &[UPGRADE, HOLD, COPY]);
    let mut first = shop.begin(&["up", "--yes"]);
    first.kill().unwrap();
    first.wait().unwrap();
    let told = told(&shop);
    // Its process id is in the lock's line.
    let told: Vec<_> = told.lines().filter(|l| !l.starts_with("lock")).collect();
    insta::assert_snapshot!("status_killed", told.join("\n"));
}

#[test]
fn it_could_not_be_taken_back_whole() {
    let shop = Shop::new();
    let stubborn = FAIL
        .replace("\"break\"", "\"stubborn\"")
        .replace("[\"false\"]", "[\"true\"]")
        .replace(
            "backward = { command = [\"true\"] }",
            "backward = { command = [\"false\"] }",
        );
    let lasting = "[[step]]\nrun = \"lasting\"\nforward = { command = [\"true\"] }\n";
    shop.migration("0001_plan", &[lasting, &stubborn, UPGRADE, FAIL]);
    shop.ends(&["up", "--yes"], 1);
    insta::assert_snapshot!("status_not_whole", told(&shop));
}

#[test]
fn it_is_applied_and_another_came_late_and_documents_wait() {
    let shop = Shop::new();
    shop.put("broken", "{\"_schemaVersion\":\"two\"}");
    let verify = "[[step]]\nverify = \"all\"\ncollection = \"users\"\nversion = 2\n";
    let phase = "[[step]]\nphase = \"begin\"\ncollection = \"users\"\nto = \"dualwrite\"\n";
    shop.migration("0002_plan", &[UPGRADE, verify, phase]);
    shop.ends(&["up", "--yes"], 4);
    shop.migration("0001_copy", &[COPY]);
    shop.migration("0003_more", &[HOLD]);
    insta::assert_snapshot!("status_applied_and_late", told(&shop));
}
