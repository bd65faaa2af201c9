//! Counts, aggregates, distributions and latencies.

use std::sync::Arc;
use std::time::Duration;

use super::project::{On, Project, failing, memory};
use whimbrel_model::Key;
use whimbrel_model::check::{Baseline, LatencyBaseline};
use whimbrel_testkit::faulty::FaultyStore;

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_counted() {
    for on in [On::Memory, On::Sqlite, On::Both] {
        let project = Project::new(on).await;
        let docs = |n: usize| {
            (0..n).map(|i| {
                (
                    Key::text(format!("{i:03}")),
                    format!(r#"{{"n": {}}}"#, i % 2),
                )
            })
        };
        project.put_keys("app/docs", docs(100).collect()).await;
        project.put_keys("split/docs", docs(98).collect()).await;
        for (kind, expect) in [
            ("count = { equals = 100 }", true),
            ("count = { equals = 99 }", false),
            ("count = { equals = 99, tolerance = 1 }", true),
            ("count = { at_least = 100, at_most = 100 }", true),
            ("count = { at_least = 101 }", false),
            ("count = { at_most = 99 }", false),
            ("count = { at_most = 99, tolerance = \"2%\" }", true),
            ("count = { same_as = \"split/docs\" }", false),
            (
                "count = { same_as = \"split/docs\", tolerance = \"2%\" }",
                false,
            ),
            (
                "count = { same_as = \"split/docs\", tolerance = \"2.05%\" }",
                true,
            ),
            ("count = { same_as = \"split/docs\", tolerance = 2 }", true),
            (
                "where = { field = \"n\", equals = 1 }\ncount = { equals = 50 }",
                true,
            ),
            (
                "where = { field = \"n\", equals = 1 }\ncount = { same_as = \"split/docs\" }",
                false,
            ),
            (
                "where = { field = \"n\", equals = 1 }\nother_where = { field = \"n\", equals = 1 }\n\
                 count = { same_as = \"split/docs\", tolerance = 1 }",
                true,
            ),
        ] {
            let result = project.one(kind).await;
            assert_eq!(result.error, None, "{kind}");
            assert_eq!(result.passed, expect, "{on:?} {kind}: {result:#?}");
        }
        let result = project.one("count = { same_as = \"split/docs\" }").await;
        let message = "there are 100 documents, where split/docs has 98: more than in split/docs";
        assert_eq!(result.examples[0].message, message);
        assert_eq!(result.measured["documents"], "100");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn aggregates_are_exact() {
    for on in [On::Memory, On::Sqlite, On::Both] {
        let project = Project::new(on).await;
        project
            .put(
                "app/docs",
                &[
                    (
                        "a",
                        r#"{"user": "u1", "total": 9007199254740993, "at": "2026-01"}"#,
                    ),
                    ("b", r#"{"user": "u1", "total": 0.1, "at": "2026-03"}"#),
                    ("c", r#"{"user": "u1", "total": 0.2, "at": "2026-02"}"#),
                    ("d", r#"{"user": "u2", "total": 12345678901234567890}"#),
                    ("e", r#"{"user": "u3", "total": null}"#),
                    ("f", r#"{"total": 4}"#),
                ],
            )
            .await;
        let there: &[(&str, &str)] = &[
            ("1", r#"{"owner": "u1", "amount": 9007199254740993.3}"#),
            ("2", r#"{"owner": "u2", "amount": 12345678901234567889}"#),
            ("3", r#"{"owner": "u2", "amount": 1}"#),
            ("4", r#"{"owner": "u3", "amount": 0}"#),
            ("5", r#"{"amount": 1.5}"#),
            ("6", r#"{"amount": 2.5}"#),
        ];
        project.put("split/orders", there).await;
        let same = r#"aggregate = { of = "sum(total)", by = "user", same_as = "split/orders", of_other = "sum(amount)", by_other = "owner" }"#;
        let result = project.one(same).await;
        assert_eq!(failing(&result), Vec::<String>::new(), "{on:?} {result:#?}");
        assert_eq!(result.looked_at, 4, "groups");

        // One more at u1, u4 only there, u3 only here.
        let changed: &[(&str, &str)] = &[
            ("1", r#"{"owner": "u1", "amount": 9007199254740994.3}"#),
            ("4", r#"{"owner": "u4", "amount": 0}"#),
        ];
        project.put("split/orders", changed).await;
        let result = project.one(same).await;
        assert_eq!(
            failing(&result),
            ["4 user", "a user", "e user"],
            "{on:?} {result:#?}"
        );
        let messages: Vec<_> = result.examples.iter().map(|e| e.message.as_str()).collect();
        assert!(messages[0].contains("in split/orders only"), "{messages:?}");
        assert!(
            messages[1].contains("less than in split/orders"),
            "{messages:?}"
        );
        assert!(messages[2].contains("not in split/orders"), "{messages:?}");

        for (kind, expect) in [
            (r#"aggregate = { of = "count()", equals = 6 }"#, true),
            (r#"aggregate = { of = "count(total)", equals = 5 }"#, true),
            (
                r#"aggregate = { of = "count()", by = "user", at_least = 1, at_most = 2 }"#,
                false,
            ),
            (r#"aggregate = { of = "min(total)", equals = 0.1 }"#, true),
            (
                r#"aggregate = { of = "max(total)", equals = 12345678901234567890.0 }"#,
                false,
            ),
            (
                r#"aggregate = { of = "max(total)", at_least = 9223372036854775807 }"#,
                true,
            ),
            (
                r#"aggregate = { of = "avg(total)", at_most = 2.5e18 }"#,
                true,
            ),
            (
                r#"aggregate = { of = "avg(total)", at_most = 2.4e18 }"#,
                false,
            ),
            (
                r#"aggregate = { of = "max(at)", same_as = "split/orders", of_other = "max(owner)" }"#,
                false,
            ),
            (r#"aggregate = { of = "sum(nothing)", equals = 0 }"#, true),
            (r#"aggregate = { of = "avg(nothing)", equals = 0 }"#, false),
            (r#"aggregate = { of = "sum(user)", at_least = 0 }"#, false),
        ] {
            let result = project.one(kind).await;
            assert_eq!(result.error, None, "{kind}");
            assert_eq!(result.passed, expect, "{on:?} {kind}: {result:#?}");
        }
        let result = project
            .one(r#"aggregate = { of = "sum(user)", equals = 0 }"#)
            .await;
        let texts = ["a user", "b user", "c user", "d user", "e user"];
        assert_eq!(failing(&result), texts, "texts are no numbers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_groups_go_through_the_scratch_store() {
    let project = Project::new(On::Both).await;
    let docs = |salt: i64| {
        (0..3000_i64).map(move |i| {
            let wrong = i64::from(salt == 1 && i % 1000 == 999);
            let json = format!(r#"{{"user": "u{}", "n": {}}}"#, i % 1500, i + wrong);
            (Key::text(format!("{salt}-{i:05}")), json)
        })
    };
    project.put_keys("app/docs", docs(0).collect()).await;
    project.put_keys("split/docs", docs(1).collect()).await;
    let text = "[[check]]\nname = \"sums\"\ncollection = \"app/docs\"\n\
                aggregate = { of = \"sum(n)\", by = \"user\", same_as = \"split/docs\" }";
    let mut results = Vec::new();
    for memory in [Some(0), None] {
        let mut options = project.options();
        options.memory_bytes = memory;
        let mut result = project
            .run(project.load(text), options)
            .await
            .results
            .remove(0);
        result.elapsed_ms = 0;
        // 999, 1999 and 2999 are of u999, u499 and u1499.
        assert_eq!((result.failed, result.looked_at), (3, 1500), "{result:#?}");
        assert_eq!(
            failing(&result),
            ["0-00499 user", "0-00999 user", "0-01499 user"]
        );
        results.push(result);
    }
    assert_eq!(results[0], results[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn distributions_are_measured() {
    for on in [On::Memory, On::Sqlite] {
        let project = Project::new(on).await;
        // tokens 1 to 100, one of ten without; role: 60 user, 40 assistant.
        let docs = |shift: i64| {
            (1..=100_i64).map(move |i| {
                let tokens = if i % 10 == 0 {
                    "null".to_owned()
                } else {
                    (i + shift).to_string()
                };
                let role = if i <= 60 { "user" } else { "assistant" };
                (
                    Key::text(format!("{i:03}")),
                    format!(r#"{{"tokens": {tokens}, "role": "{role}"}}"#),
                )
            })
        };
        project.put_keys("app/docs", docs(0).collect()).await;
        project.put_keys("split/same", docs(1).collect()).await;
        project.put_keys("split/moved", docs(50).collect()).await;
        for (kind, expect) in [
            (r#"field = "tokens", null_share = "10%""#, true),
            (r#"field = "tokens", null_share = "9.9%""#, false),
            (
                r#"field = "tokens", distinct = { min = 90, max = 90 }"#,
                true,
            ),
            (r#"field = "tokens", distinct = { max = 89 }"#, false),
            // The 45th of 90 values is 49, the 90th is 99.
            (
                r#"field = "tokens", p50 = { min = 49, max = 49 }, p99 = { max = 99 }"#,
                true,
            ),
            (r#"field = "tokens", p50 = { max = 48 }"#, false),
            (r#"field = "tokens", p99 = { max = 98 }"#, false),
            (r#"field = "role", p50 = { max = 1 }"#, false),
            (
                r#"field = "role", top = { one_of = ["user"], at_least = "60%", at_most = "60%" }"#,
                true,
            ),
            (r#"field = "role", top = { one_of = ["assistant"] }"#, false),
            (r#"field = "role", top = { at_most = "59%" }"#, false),
            (r#"field = "role", top = { at_least = "61%" }"#, false),
            (
                r#"field = "none", null_share = "100%", top = { at_most = "50%" }"#,
                false,
            ),
            (
                r#"field = "tokens", like = "split/same", drift = "5%""#,
                true,
            ),
            (
                r#"field = "tokens", like = "split/moved", drift = "5%""#,
                false,
            ),
            (
                r#"field = "role", like = "split/moved", drift = "0%""#,
                true,
            ),
            (r#"field = "role", like = "baseline", drift = "0%""#, true),
        ] {
            let result = project.one(&format!("distribution = {{ {kind} }}")).await;
            assert_eq!(result.error, None, "{kind}");
            assert_eq!(result.passed, expect, "{on:?} {kind}: {result:#?}");
        }
        let result = project
            .one(r#"distribution = { field = "tokens", null_share = "5%" }"#)
            .await;
        assert_eq!(
            result.examples[0].message,
            "10 % of the documents have no value, more than 5 %"
        );
        assert_eq!(result.measured["distinct"], "90");

        // What was recorded is what the next one is compared with.
        let text = "[[check]]\nname = \"roles\"\ncollection = \"app/docs\"\n\
                    distribution = { field = \"role\", like = \"baseline\", drift = \"5%\" }";
        let checked = project.run(project.load(text), project.options()).await;
        assert_eq!(checked.results[0].measured["baseline"], "none yet");
        project
            .put(
                "app/docs",
                &[
                    ("001", "{}"),
                    ("002", "{}"),
                    ("003", "{}"),
                    ("004", "{}"),
                    ("005", "{}"),
                ],
            )
            .await;
        let mut options = project.options();
        options.baselines = checked.baselines;
        let again = project.run(project.load(text), options.clone()).await;
        assert!(again.results[0].passed, "{:#?}", again.results[0]);
        project
            .put("app/docs", &[("006", r#"{"role": "tool"}"#)])
            .await;
        let moved = project.run(project.load(text), options).await;
        let message = &moved.results[0].examples[0].message;
        assert!(
            message.contains("3 different values, in the baseline 2"),
            "{message}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_are_timed() {
    let slow = FaultyStore::new(memory().await).with_latency(Duration::from_millis(4));
    let stores: Vec<(_, Arc<dyn whimbrel_model::Store>)> = vec![("app", Arc::new(slow))];
    let project = Project::of(stores, tempfile::tempdir().unwrap()).await;
    project.put("app/docs", &[("a", "{}"), ("b", "{}")]).await;
    let result = project
        .one(r#"latency = { reads = 10, p50 = "1ms", p99 = "1h" }"#)
        .await;
    assert_eq!((result.failed, result.looked_at), (1, 10), "{result:#?}");
    let message = &result.examples[0].message;
    assert!(
        message.starts_with("p50 of single reads is ") && message.ends_with("more than 1 ms"),
        "{message}"
    );

    let text = "[[check]]\nname = \"reads\"\ncollection = \"app/docs\"\n\
                latency = { reads = 5, p95_times_baseline = 2.0 }";
    let first = project.run(project.load(text), project.options()).await;
    assert!(first.results[0].passed);
    assert_eq!(first.results[0].measured["baseline"], "none yet");
    let recorded = first.baselines["reads"].latency.unwrap();
    assert!(
        recorded.p50_us >= 4000 && recorded.p50_us <= recorded.p95_us,
        "{recorded:?}"
    );
    for (p95_us, expect) in [(1000, false), (3_600_000_000, true)] {
        let before = LatencyBaseline {
            p95_us,
            ..LatencyBaseline::default()
        };
        let mut options = project.options();
        let baseline = Baseline {
            latency: Some(before),
            distribution: None,
        };
        options.baselines.insert("reads".to_owned(), baseline);
        let result = project
            .run(project.load(text), options)
            .await
            .results
            .remove(0);
        assert_eq!(result.passed, expect, "{result:#?}");
    }
}
