//! Files of checks: what each key means, and everything that can be wrong with them.

use std::path::Path;
use std::time::Duration;
use whimbrel_model::Value;
use whimbrel_model::check::{Check, CheckKind, Function, Like, Must, Tolerance};
use whimbrel_model::finding::Severity;
use whimbrel_transform::{ScriptLimits, load_checks, parse_checks};

fn parse(text: &str) -> Result<Vec<Check>, Vec<String>> {
    parse_in(text, Path::new("."))
}

fn parse_in(text: &str, folder: &Path) -> Result<Vec<Check>, Vec<String>> {
    let parsed = parse_checks("c.toml", text, folder, ScriptLimits::default());
    parsed.map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

/// One check of which only the kind's lines are given.
fn one(kind: &str) -> Result<Check, Vec<String>> {
    let text = format!("[[check]]\nname = \"it\"\ncollection = \"a/b\"\n{kind}");
    parse(&text).map(|mut checks| checks.remove(0))
}

#[test]
fn a_check_says_who_it_is() {
    let text = r#"
        [[check]]
        name = "messages have a role"
        description = "or they are not shown"
        severity = "warning"
        collection = "split/messages"
        where = { field = "archived", equals = false }
        required = ["role", "conversationId"]
        examples = 9
        [[check]]
        name = "rows"
        store = "app"
        sql = "SELECT 1 WHERE false"
    "#;
    let checks = parse(text).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let first = &checks[0];
    assert_eq!(first.name, "messages have a role");
    assert_eq!(first.severity, Severity::Warning);
    assert_eq!(first.collection.as_deref(), Some("split/messages"));
    assert_eq!((first.examples, first.kind.word()), (9, "required"));
    assert!(first.filter.is_some() && first.other().is_none());
    let second = &checks[1];
    assert_eq!(second.severity, Severity::Critical);
    assert_eq!((second.examples, second.store()), (5, Some("app")));
    assert_eq!(second.collection, None);
}

#[test]
fn every_kind_is_read() {
    for (kind, word, other) in [
        ("count = { equals = 5 }", "count", None),
        (
            r#"count = { same_as = "c/d", tolerance = "1%" }"#,
            "count",
            Some("c/d"),
        ),
        (r#"required = ["a.b"]"#, "required", None),
        (r#"types = { content = "string|null" }"#, "types", None),
        (r#"format = { a = "email", b = "uuid" }"#, "format", None),
        ("range = { a = { min = 0, max = 10 } }", "range", None),
        (r#"pattern = { id = "^conv_" }"#, "pattern", None),
        (r#"enum = { role = ["user", "assistant"] }"#, "enum", None),
        (r#"unique = ["email", ["user", "day"]]"#, "unique", None),
        (
            r#"reference = { field = "x", to = "c/d" }"#,
            "reference",
            Some("c/d"),
        ),
        (
            r#"aggregate = { of = "sum(x)", same_as = "c/d" }"#,
            "aggregate",
            Some("c/d"),
        ),
        (
            r#"distribution = { field = "x", null_share = "5%" }"#,
            "distribution",
            None,
        ),
        (
            r#"distribution = { field = "x", like = "c/d", drift = "5%" }"#,
            "distribution",
            Some("c/d"),
        ),
        (r#"latency = { p95 = "20ms" }"#, "latency", None),
    ] {
        let check = one(kind).unwrap_or_else(|errors| panic!("{kind}: {errors:#?}"));
        assert_eq!(check.kind.word(), word);
        assert_eq!(check.other(), other, "{kind}");
    }
}

#[test]
fn what_is_measured_is_read() {
    let kind = r#"aggregate = { of = "avg(total)", by = "userId", same_as = "split/orders", of_other = "sum(amount)", tolerance = 0.01 }"#;
    let CheckKind::Aggregate(aggregate) = one(kind).unwrap().kind else {
        panic!("no aggregate")
    };
    assert_eq!(aggregate.of.function, Function::Avg);
    assert_eq!(aggregate.of_other.to_string(), "sum(amount)");
    assert_eq!(aggregate.by, aggregate.by_other);
    assert_eq!(aggregate.must, Must::SameAs("split/orders".to_owned()));
    assert_eq!(
        aggregate.tolerance,
        Some(Tolerance::By(Value::Double(0.01)))
    );

    let kind = r#"distribution = { field = "tokens", null_share = "5%", distinct = { min = 2 }, p50 = { max = 9 }, p99 = { max = 99 }, like = "baseline", drift = "10%" }"#;
    let CheckKind::Distribution(distribution) = one(kind).unwrap().kind else {
        panic!("no distribution")
    };
    assert_eq!(distribution.null_share, Some(0.05));
    let quantiles: Vec<u8> = distribution.quantiles.iter().map(|(q, _)| *q).collect();
    assert_eq!(quantiles, [50, 99]);
    assert_eq!(distribution.like, Some(Like::Baseline));

    let kind = r#"latency = { reads = 50, p50 = "5ms", p95_times_baseline = 2.0 }"#;
    let CheckKind::Latency(latency) = one(kind).unwrap().kind else {
        panic!("no latency")
    };
    assert_eq!(latency.reads, 50);
    assert_eq!(latency.limits, [(50, Duration::from_millis(5))]);
    assert_eq!(latency.times_baseline, [(95, 2.0)]);
}

#[test]
fn what_is_wrong_is_told() {
    for (kind, expect) in [
        ("", "a check says what it asks for"),
        (
            "required = [\"a\"]\nunique = [\"a\"]",
            "one kind; this one is required and unique",
        ),
        ("required = []", "it would judge nothing"),
        ("required = [\"a..b\"]", "is no path"),
        ("requried = [\"a\"]", "unknown key \"requried\""),
        (
            "required = [\"a\"]\nseverity = \"bad\"",
            "\"severity\" must be",
        ),
        ("required = [\"a\"]\nexamples = 5000", "at most 1000"),
        ("required = [\"a\"]\nexamples = -1", "a whole number"),
        (
            "required = [\"a\"]\nother_where = { field = \"a\", equals = 1 }",
            "second collection",
        ),
        (
            "required = [\"a\"]\nwhere = { field = \"a\" }",
            "needs equals",
        ),
        ("types = { a = \"text\" }", "\"text\" is no type"),
        ("types = { a = 5 }", "takes a string for each field"),
        ("types = {}", "it would judge nothing"),
        ("format = { a = \"mail\" }", "is no format"),
        ("range = { a = 5 }", "takes { min, max }"),
        ("range = { a = {} }", "limits need"),
        ("range = { a = { min = 5, max = 4 } }", "no value is within"),
        (
            "range = { a = { min = 5, max = \"x\" } }",
            "no value is within",
        ),
        ("range = { a = { min = true } }", "must be a number"),
        ("range = { a = { least = 5 } }", "unknown key \"least\""),
        ("pattern = { a = \"(\" }", "unclosed group"),
        ("enum = { a = \"x\" }", "takes a list of values"),
        ("enum = { a = [] }", "takes a list of values"),
        ("unique = [5]", "is a list of fields"),
        ("unique = [[]]", "is a list of fields"),
        ("reference = { field = \"a\" }", "\"to\" is missing"),
        ("reference = { to = \"a/b\" }", "\"field\" is missing"),
        ("count = {}", "exactly one is needed"),
        (
            "count = { equals = 5, at_least = 4 }",
            "exactly one is needed",
        ),
        ("count = { equals = \"5\" }", "must be a number"),
        (
            "count = { at_least = 5, at_most = 4 }",
            "no number is within",
        ),
        (
            "count = { equals = 5, tolerance = \"x\" }",
            "\"tolerance\" must be",
        ),
        (
            "count = { equals = 5, tolerance = -1 }",
            "\"tolerance\" must be",
        ),
        (
            "count = { equals = 5, tolerance = \"101%\" }",
            "\"tolerance\" must be",
        ),
        (
            "aggregate = { of = \"total\", equals = 1 }",
            "must be sum(field)",
        ),
        (
            "aggregate = { of = \"sum()\", equals = 1 }",
            "must be sum(field)",
        ),
        (
            "aggregate = { of = \"median(x)\", equals = 1 }",
            "must be sum(field)",
        ),
        (
            "aggregate = { of = \"sum(x)\", equals = 1, of_other = \"sum(y)\" }",
            "goes with \"same_as\"",
        ),
        (
            "aggregate = { of = \"min(x)\", same_as = \"c/d\", of_other = \"sum(y)\" }",
            "such a one only",
        ),
        (
            "aggregate = { of = \"sum(x)\", same_as = \"c/d\", by_other = \"u\" }",
            "goes with \"by\"",
        ),
        ("distribution = { field = \"x\" }", "has no limit"),
        (
            "distribution = { field = \"x\", like = \"c/d\" }",
            "needs \"drift\"",
        ),
        (
            "distribution = { field = \"x\", drift = \"5%\" }",
            "needs \"like\"",
        ),
        (
            "distribution = { field = \"x\", null_share = 5 }",
            "must be a string",
        ),
        (
            "distribution = { field = \"x\", top = {} }",
            "\"top\" needs",
        ),
        (
            "latency = { reads = 0, p50 = \"1ms\" }",
            "\"reads\" is from 1",
        ),
        ("latency = {}", "has no limit"),
        ("latency = { p50 = \"soon\" }", "is no duration"),
        ("latency = { p50_times_baseline = 0 }", "above 0"),
        (
            "latency = { p50 = \"1ms\" }\nwhere = { field = \"a\", equals = 1 }",
            "chooses no documents",
        ),
        ("condition = \"none.ts\"", "cannot be read"),
        ("json_schema = \"none.json\"", "cannot be read"),
        ("command = [\"true\"]", "leave it out"),
    ] {
        let errors = one(kind).map(|_| ()).expect_err(kind);
        assert!(
            errors.iter().any(|e| e.contains(expect)),
            "{kind}: {errors:#?}"
        );
        assert!(
            errors.iter().all(|e| e.starts_with("c.toml:")),
            "{errors:#?}"
        );
    }
    for (text, expect) in [
        ("", "the file has no [[check]]"),
        (
            "[[check]]\nrequired = [\"a\"]\ncollection = \"a/b\"",
            "\"name\" is missing",
        ),
        (
            "[[check]]\nname = \"x\"\nrequired = [\"a\"]",
            "\"collection\" is missing",
        ),
        (
            "[[check]]\nname = \"x\"\nsql = \"SELECT 1\"",
            "\"store\" is missing",
        ),
        (
            "[[check]]\nname = \"x\"\nstore = \"a\"\nsql = \"DELETE FROM t\"",
            "only reads",
        ),
        (
            "[[check]]\nname = \"x\"\ncommand = []",
            "a program and its arguments",
        ),
        ("[[check]\n", "c.toml:1"),
    ] {
        let errors = parse(text).map(|_| ()).expect_err(text);
        assert!(
            errors.iter().any(|e| e.contains(expect)),
            "{text}: {errors:#?}"
        );
    }
}

#[test]
fn all_is_told_at_once_with_its_line() {
    let text = "[[check]]\nname = \"a\"\ncollection = \"a/b\"\ntypes = { x = \"text\" }\n\
                [[check]]\nname = \"a\"\ncollection = \"a/b\"\nrequired = [\"x\"]\nmore = 1\n\
                [[check]]\nname = \"c\"\ncollection = \"a/b\"\nrange = { y = { min = 2, max = 1 } }\n";
    let errors = parse(text).map(|_| ()).unwrap_err();
    let lines: Vec<&str> = errors
        .iter()
        .map(|e| e.split(':').nth(1).unwrap_or_default())
        .collect();
    assert_eq!(lines, ["4", "6", "9", "13"], "{errors:#?}");
    let twice = "[[check]]\nname = \"a\"\ncollection = \"a/b\"\nrequired = [\"x\"]\n".repeat(2);
    let errors = parse(&twice).map(|_| ()).unwrap_err();
    assert!(
        errors[0].contains("two checks are called \"a\""),
        "{errors:#?}"
    );
}

#[test]
fn a_folder_of_files_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let load = || load_checks(dir.path(), ScriptLimits::default());
    let check = |name: &str| {
        format!("[[check]]\nname = \"{name}\"\ncollection = \"a/b\"\nrequired = [\"x\"]\n")
    };
    assert!(
        load_checks(&dir.path().join("none"), ScriptLimits::default())
            .unwrap()
            .is_empty()
    );
    put("b.toml", &check("second"));
    put("a.toml", &check("first"));
    put("README.md", "not one");
    put(".hidden.toml", "not = one");
    put(
        "pair.ts",
        "export const check = (doc, other) => other !== null;",
    );
    put("m.json", r#"{"type": "object"}"#);
    put(
        "c.toml",
        "[[check]]\nname = \"third\"\ncollection = \"a/b\"\ncondition = \"pair.ts\"\npair = \"c/d\"\n\
         [[check]]\nname = \"fourth\"\ncollection = \"a/b\"\njson_schema = \"m.json\"\n",
    );
    let checks = load().unwrap_or_else(|errors| panic!("{errors:#?}"));
    let names: Vec<_> = checks.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["first", "second", "third", "fourth"]);
    assert_eq!(checks[2].other(), Some("c/d"));

    // A check means the same whatever it is called, and another thing where its script is another.
    assert_eq!(checks[0].checksum, checks[1].checksum);
    let before = checks[2].checksum.clone();
    put("pair.ts", "export const check = (doc, other) => true;");
    assert_ne!(load().unwrap()[2].checksum, before);

    put("d.toml", &check("first"));
    put("e.yaml", "check: 1");
    put("pair.ts", "export const wrong = 1;");
    let errors: Vec<_> = load()
        .map(|_| ())
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect();
    for expect in [
        "a check called \"first\" too",
        "ends with .toml",
        "exports none of check",
    ] {
        assert!(
            errors.iter().any(|e| e.contains(expect)),
            "{expect}: {errors:#?}"
        );
    }
}
