//! What is left of verifying: repairs of much, repairs that nobody allows, whole stores, and a thousand values
//! of which none is shown.

#[path = "support/shop.rs"]
mod shop;
mod support;

use serde_json::Value;
use shop::Shop;
use support::Ran;
use whimbrel_model::{Body, Guard, Key, KeyKind, Write};

const SAME: [&str; 3] = ["verify", "app/users", "other/people"];

fn last(ran: &Ran) -> Value {
    let line = ran.stdout.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))
}

/// Documents of a collection, made by their numbers.
fn fill(shop: &Shop, store: &str, collection: &'static str, bodies: Vec<(String, String)>) {
    shop.with(store, |store| async move {
        store.ensure(collection, &KeyKind::Text).await.unwrap();
        for some in bodies.chunks(500) {
            let writes: Vec<Write> = some
                .iter()
                .map(|(key, body)| Write {
                    collection: collection.to_owned(),
                    key: Key::text(key),
                    to: Some(Body::from_json(body.clone())),
                    guard: Guard::Any,
                })
                .collect();
            store.write(&writes).await.unwrap();
        }
    });
}

/// More than one comparison lists.
#[test]
fn a_repair_goes_on_until_nothing_is_left() {
    let shop = Shop::new();
    let many = 23_000;
    let bodies = |word: &str| -> Vec<(String, String)> {
        (0..many)
            .map(|i| (format!("m{i:05}"), format!("{{\"word\":\"{word}\"}}")))
            .collect()
    };
    fill(&shop, "app", "users", bodies("new"));
    fill(&shop, "other", "people", bodies("old"));
    let said = last(&shop.ends(&[&SAME[..], &["--repair", "--yes", "--json"]].concat(), 0));
    assert_eq!(said["comparisons"][0]["equal"], many + 50);
    let repair = &said["repairs"][0];
    assert_eq!(repair["before"], many + 50, "{repair}");
    assert_eq!(
        (&repair["left"], &repair["unlisted"]),
        (&0.into(), &0.into())
    );
    shop.ends(&SAME, 0);
}

#[test]
fn what_was_found_is_told_though_nobody_allows_the_repair() {
    let shop = Shop::new();
    shop.ends(&["copy", "app/users", "other/people", "--yes"], 0);
    shop.put("u007", "{\"name\":\"other\",\"n\":7}");
    let asked = ["--repair", "--report", "found.html"];
    let ran = shop.ends(&[&SAME[..], &asked].concat(), 2);
    assert!(
        ran.stdout.contains("NOT equal: 1 different"),
        "{}",
        ran.stdout
    );
    assert!(ran.stderr.contains("--yes"), "{}", ran.stderr);
    let page = std::fs::read_to_string(shop.path().join("found.html")).unwrap();
    assert!(page.contains("u007"));
    // Nothing was repaired.
    shop.ends(&SAME, 4);
}

#[test]
fn collections_that_only_the_target_has_are_told() {
    let shop = Shop::new();
    shop.ends(&["copy", "app", "other", "--yes"], 0);
    shop.ends(&["verify", "app", "other"], 0);
    fill(&shop, "other", "empty", Vec::new());
    shop.ends(&["verify", "app", "other"], 0);
    let stray = vec![("x".to_owned(), "{}".to_owned())];
    fill(&shop, "other", "stray", stray);
    let ran = shop.ends(&["verify", "app", "other"], 4);
    assert!(ran.stdout.contains("stray"), "{}", ran.stdout);
    let said = last(&shop.ends(&["verify", "app", "other", "--json"], 4));
    let found = said["comparisons"].as_array().unwrap();
    assert_eq!(found.len(), 2, "{said}");
    assert_eq!(found[1]["extra"], 1);
    assert_eq!(found[1]["target"], "other/stray");
}

const CHECKS: [(&str, &str); 12] = [
    ("required", "required = [\"gone\"]"),
    ("types", "types = { v = \"int\" }"),
    ("format", "format = { v = \"email\" }"),
    ("pattern", "pattern = { v = \"^ok$\" }"),
    ("enum", "enum = { v = [\"a\", \"b\"] }"),
    ("range", "range = { n = { max = 3 } }"),
    ("unique", "unique = [\"twin\"]"),
    (
        "reference",
        "reference = { field = \"v\", to = \"other/people\" }",
    ),
    (
        "aggregate",
        "aggregate = { of = \"sum(n)\", by = \"v\", same_as = \"other/people\" }",
    ),
    (
        "distribution",
        "distribution = { field = \"v\", like = \"other/people\", drift = \"1%\" }",
    ),
    ("condition", "condition = \"judge.ts\""),
    ("schema", "json_schema = \"schema.json\""),
];

const JUDGE: &str = "export const check = (doc) => { if (doc.n > 900) throw new Error(doc.v); return `no ${doc.v}`; };\n";
const SCHEMA: &str =
    "{\"type\":\"object\",\"properties\":{\"v\":{\"const\":\"ok\"},\"n\":{\"type\":\"string\"}}}";

/// A thousand values of their own, each in a document that is wrong in every way: none of them stands in what
/// the command says, at its most talkative, in its reports, in the ledger or in an error.
#[test]
fn of_a_thousand_values_none_is_shown() {
    let shop = Shop::new();
    let marker = |i: usize| format!("mk{:08x}zq", i.wrapping_mul(0x9E37_79B1) & 0xFFFF_FFFF);
    let body = |i: usize| {
        let twin = marker(i / 2 * 2);
        let deep = format!(
            "{{\"list\":[{{\"at\":{{\"$bytes\":\"!{0}\"}}}},\"{0}\"]}}",
            marker(i)
        );
        match i % 10 {
            // No JSON at all.
            9 => format!("{{\"v\":\"{}\",", marker(i)),
            _ => format!(
                "{{\"v\":\"{}\",\"n\":{}.5,\"twin\":\"{twin}\",\"deep\":{deep}}}",
                marker(i),
                i
            ),
        }
    };
    let users = (0..1000).map(|i| (format!("k{i:04}"), body(i))).collect();
    fill(&shop, "app", "users", users);
    // The same keys with the values of others, and some of them not at all.
    let people = (0..900)
        .map(|i| (format!("k{i:04}"), body(i + 10)))
        .collect();
    fill(&shop, "other", "people", people);
    let text: Vec<String> = CHECKS
        .iter()
        .map(|(name, rest)| {
            format!("[[check]]\nname = \"{name}\"\ncollection = \"users\"\n{rest}\nexamples = 50\n")
        })
        .collect();
    shop.write("checks/users.toml", &text.join("\n"));
    shop.write("checks/judge.ts", JUDGE);
    shop.write("checks/schema.json", SCHEMA);
    shop.write(
        "rules.toml",
        "[[rule]]\nname = \"r\"\nsource = \"users\"\ntransform = \"rule.ts\"\n",
    );
    shop.write(
        "rule.ts",
        "export const transform = (doc) => { if (doc.n > 500) throw new Error('bad ' + doc.v); return doc; };\n",
    );
    let mut said = String::new();
    let take = |said: &mut String, ran: &Ran| {
        said.push_str(&ran.stdout);
        said.push_str(&ran.stderr);
    };
    let files = ["--report", "r.html", "--junit", "j.xml"];
    for more in [
        &["-vv"][..],
        &["--json"],
        &["--repair", "--dry-run"],
        &["--sample", "50%"],
        &["--rules", "rules.toml"],
        &["--repair", "--yes"],
        &["--checks", "checks/users.toml"],
    ] {
        let ran = shop.run(&[&SAME[..], more, &files].concat());
        take(&mut said, &ran);
        for file in ["r.html", "j.xml"] {
            said.push_str(&std::fs::read_to_string(shop.path().join(file)).unwrap_or_default());
        }
    }
    for command in [
        &["verify"][..],
        &["verify", "-vv", "--json"],
        &["status"],
        &["history"],
    ] {
        take(&mut said, &shop.run(command));
    }
    // Enough was said for the test to mean something.
    assert!(
        said.contains("k0001") && said.len() > 20_000,
        "{} bytes",
        said.len()
    );
    let ledger = beside_the_data(&shop);
    assert!(!ledger.is_empty());
    for i in 0..1000 {
        let marker = marker(i);
        assert!(!said.contains(&marker), "document {i}'s value is shown");
        let found = ledger.windows(marker.len()).any(|w| w == marker.as_bytes());
        assert!(!found, "document {i}'s value is in the ledger");
    }
}

/// The bytes of every file that the commands left in the project, but for the two databases.
fn beside_the_data(shop: &Shop) -> Vec<u8> {
    let (mut bytes, mut folders) = (Vec::new(), vec![shop.path()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if !name.starts_with("app.db") && !name.starts_with("other.db") {
                bytes.extend(std::fs::read(path).unwrap());
            }
        }
    }
    bytes
}
