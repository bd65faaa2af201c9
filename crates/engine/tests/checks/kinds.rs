//! Each kind that judges documents: planted errors, and documents without any.

use std::sync::Arc;

use super::project::{On, Project, failing};
use whimbrel_engine::{ChecksJob, Engine, SystemClock};
use whimbrel_model::{Key, Store};
use whimbrel_testkit::faulty::{Faults, FaultyStore};

/// What a check must find in `app/docs`: `(documents, the check, failing places)`.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a [&'a str]);

async fn check(cases: &[Case<'_>]) {
    for on in [On::Memory, On::Sqlite] {
        for (docs, kind, expect) in cases {
            let project = Project::new(on).await;
            project.put("app/docs", docs).await;
            let result = project.one(kind).await;
            assert_eq!(failing(&result), *expect, "{on:?} {kind}: {result:#?}");
            assert_eq!(result.passed, expect.is_empty(), "{kind}");
            assert_eq!(result.looked_at, docs.len() as u64, "{kind}");
            assert_eq!(result.failed == 0, expect.is_empty(), "{kind}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_documents() {
    let roles = [
        ("a", r#"{"role": "user", "n": 1, "meta": {"x": null}}"#),
        ("b", r#"{"role": "assistant", "n": 2.5, "meta": {"x": 1}}"#),
    ];
    let clean: &[(&str, &str)] = &roles;
    let planted: &[(&str, &str)] = &[
        roles[0],
        ("c", r#"{"n": -1, "meta": {}}"#),
        ("d", r#"{"role": "User", "n": "1", "meta": 5}"#),
        ("e", r#"{"role": null, "n": 11, "meta": {"x": "t"}}"#),
    ];
    check(&[
        (clean, r#"required = ["role", "meta.x"]"#, &[]),
        (
            planted,
            r#"required = ["role", "meta.x"]"#,
            &["c meta.x", "c role", "d meta.x"],
        ),
        (
            clean,
            r#"types = { role = "string", n = "number", "meta.x" = "int|null" }"#,
            &[],
        ),
        (
            planted,
            r#"types = { role = "string", n = "number", "meta.x" = "int|null" }"#,
            &["d n", "e meta.x", "e role"],
        ),
        (clean, "range = { n = { min = 0, max = 10 } }", &[]),
        (
            planted,
            "range = { n = { min = 0, max = 10 } }",
            &["c n", "d n", "e n"],
        ),
        (clean, r#"enum = { role = ["user", "assistant"] }"#, &[]),
        (
            planted,
            r#"enum = { role = ["user", "assistant"] }"#,
            &["d role"],
        ),
        (clean, r#"pattern = { role = "^[a-z]+$" }"#, &[]),
        (planted, r#"pattern = { role = "^[a-z]+$" }"#, &["d role"]),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn formats_of_texts() {
    let format = r#"format = { email = "email", id = "uuid", at = "timestamp", url = "url" }"#;
    check(&[
        (
            &[
                (
                    "a",
                    r#"{"email": "ada@example.org", "id": "0190f6a2-7c1e-7b8a-9c55-3a1f0b6e2d44",
                        "at": {"$timestamp": "2026-01-31T08:00:00Z"}, "url": "https://example.org/x"}"#,
                ),
                ("b", r#"{"at": "2026-01-31T08:00:00+02:00", "email": null}"#),
            ],
            format,
            &[],
        ),
        (
            &[
                ("a", r#"{"email": "ada@example", "id": "0190f6a2"}"#),
                ("b", r#"{"at": "yesterday", "url": "example.org"}"#),
                ("c", r#"{"email": 5}"#),
            ],
            format,
            &["a email", "a id", "b at", "b url", "c email"],
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_schemas_and_conditions() {
    for on in [On::Memory, On::Sqlite] {
        let project = Project::new(on).await;
        let file =
            |name: &str, text: &str| std::fs::write(project.path().join(name), text).unwrap();
        file(
            "message.json",
            r#"{"type": "object", "required": ["role"], "properties": {"tokens": {"minimum": 0}}}"#,
        );
        file(
            "totals.ts",
            r"interface Doc { tokens: number; parts?: number[] }
              export const check = (doc: Doc, ctx: { key: string }) =>
                doc.parts === undefined || doc.parts.reduce((a, b) => a + b, 0) === doc.tokens
                  || `of ${ctx.key}: ${doc.tokens}`;",
        );
        file(
            "pair.ts",
            r"export const check = (doc, other) =>
                other === null ? 'no partner' : doc.tokens === other.tokens;",
        );
        file(
            "throws.ts",
            "export const check = (doc) => doc.role.length > 0;",
        );
        project
            .put(
                "app/docs",
                &[
                    ("a", r#"{"role": "user", "tokens": 3, "parts": [1, 2]}"#),
                    ("b", r#"{"role": "user", "tokens": 4, "parts": [1, 2]}"#),
                    ("c", r#"{"tokens": -1}"#),
                    ("d", r#"{"role": "user", "tokens": 7}"#),
                ],
            )
            .await;
        project
            .put(
                "split/docs",
                &[
                    ("a", r#"{"tokens": 3}"#),
                    ("b", r#"{"tokens": 5}"#),
                    ("c", r#"{"tokens": -1}"#),
                ],
            )
            .await;
        let schema = project.one(r#"json_schema = "message.json""#).await;
        assert_eq!(failing(&schema), ["c -"], "{schema:#?}");
        let condition = project.one(r#"condition = "totals.ts""#).await;
        assert_eq!(failing(&condition), ["b -"]);
        assert_eq!(condition.examples[0].message, "the condition does not hold");
        let pair = project
            .one("condition = \"pair.ts\"\npair = \"split/docs\"")
            .await;
        assert_eq!(failing(&pair), ["b -", "d -"], "{pair:#?}");
        assert_eq!(pair.looked_at, 4);

        // A script that throws is the check's own fault, not the document's.
        let throws = project.one(r#"condition = "throws.ts""#).await;
        let (code, message) = throws.error.clone().expect("it throws");
        assert_eq!(code.id(), "WB-V03");
        assert!(message.contains("document c: the check threw"), "{message}");
        assert!(!throws.passed);
        assert_eq!((throws.failed, throws.looked_at), (0, 4));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_choose_documents() {
    let docs: &[(&str, &str)] = &[
        ("a", r#"{"archived": true}"#),
        ("b", r#"{"archived": false}"#),
        ("c", r#"{"archived": false, "role": 1}"#),
    ];
    let project = Project::new(On::Memory).await;
    project.put("app/docs", docs).await;
    let kind = "where = { field = \"archived\", equals = false }\nrequired = [\"role\"]";
    let result = project.one(kind).await;
    assert_eq!(failing(&result), ["b role"]);
    assert_eq!((result.looked_at, result.failed), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates() {
    check(&[
        (
            &[
                ("a", r#"{"email": "x@y.z", "user": 1, "day": "m"}"#),
                ("b", r#"{"email": "X@y.z", "user": 1, "day": "t"}"#),
                ("c", r#"{"user": 2, "day": "m"}"#),
                ("d", r#"{"email": null, "user": 2}"#),
                ("e", r#"{"email": null, "user": 2}"#),
            ],
            r#"unique = ["email", ["user", "day"]]"#,
            &[],
        ),
        (
            &[
                ("a", r#"{"email": "x@y.z", "user": 1, "day": "m"}"#),
                ("b", r#"{"email": "other", "user": 1.0, "day": "m"}"#),
                ("c", r#"{"email": "x@y.z", "user": 2, "day": "m"}"#),
                ("d", r#"{"email": "x@y.z", "user": 3, "day": "m"}"#),
            ],
            r#"unique = ["email", ["user", "day"]]"#,
            &[
                "a email",
                "a user, day",
                "b user, day",
                "c email",
                "d email",
            ],
        ),
    ])
    .await;
    let project = Project::new(On::Memory).await;
    project
        .put("app/docs", &[("a", r#"{"e": 1}"#), ("b", r#"{"e": 1}"#)])
        .await;
    let result = project.one(r#"unique = ["e"]"#).await;
    assert_eq!(result.examples[0].message, "document b has the same");
    assert_eq!(result.examples[1].message, "document a has the same");
    assert_eq!(result.measured["values had twice"], "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn references_to_other_collections_and_stores() {
    for on in [On::Memory, On::Sqlite, On::Both] {
        let project = Project::new(on).await;
        project
            .put(
                "app/docs",
                &[
                    (
                        "a",
                        r#"{"conv": "c1", "members": ["u1", "u2"], "mail": "u1@x"}"#,
                    ),
                    ("b", r#"{"conv": "c2", "members": [], "mail": "u9@x"}"#),
                    (
                        "c",
                        r#"{"conv": null, "members": ["u1", null, "u7", "u8"]}"#,
                    ),
                    ("d", r#"{"conv": 5}"#),
                ],
            )
            .await;
        project.put("split/convs", &[("c1", "{}")]).await;
        project
            .put(
                "app/users",
                &[("u1", r#"{"mail": "u1@x"}"#), ("u2", r#"{"mail": "u2@x"}"#)],
            )
            .await;
        let reference = |rest: &str| format!("reference = {{ {rest} }}");
        let result = project
            .one(&reference(r#"field = "conv", to = "split/convs""#))
            .await;
        assert_eq!(failing(&result), ["b conv", "d conv"], "{on:?}");
        assert_eq!(
            result.examples[0].message,
            "refers to no document of split/convs"
        );
        assert_eq!(result.examples[1].message, "cannot be a key of split/convs");
        let result = project
            .one(&reference(r#"field = "members", to = "app/users""#))
            .await;
        assert_eq!(failing(&result), ["c members[2]", "c members[3]"], "{on:?}");
        assert_eq!(result.failed, 1, "documents are counted, not their fields");
        let mail = reference(r#"field = "mail", to = "app/users", to_field = "mail""#);
        let result = project.one(&mail).await;
        assert_eq!(failing(&result), ["b mail"], "{on:?}");
        let mail = reference(r#"field = "members", to = "split/convs""#);
        assert_eq!(project.one(&mail).await.failed, 2, "{on:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_other_kinds_are_referred_to() {
    let project = Project::new(On::Sqlite).await;
    let store = &project.place("app/ints").unwrap().store;
    store
        .ensure("ints", &whimbrel_model::KeyKind::Int)
        .await
        .unwrap();
    let docs = vec![(Key::Int(7), "{}".to_owned())];
    let write = docs.into_iter().map(|(key, json)| whimbrel_model::Write {
        collection: "ints".to_owned(),
        key,
        to: Some(whimbrel_model::Body::from_json(json.into_bytes())),
        guard: whimbrel_model::Guard::Any,
    });
    store.write(&write.collect::<Vec<_>>()).await.unwrap();
    project
        .put(
            "app/docs",
            &[
                ("a", r#"{"to": 7}"#),
                ("b", r#"{"to": 7.0}"#),
                ("c", r#"{"to": 8}"#),
                ("d", r#"{"to": "7"}"#),
            ],
        )
        .await;
    let result = project
        .one(r#"reference = { field = "to", to = "app/ints" }"#)
        .await;
    assert_eq!(failing(&result), ["c to", "d to"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_counted_and_the_first_are_named() {
    let project = Project::new(On::Sqlite).await;
    let docs = (0..5000).map(|i| {
        let json = if i % 10 == 3 {
            "{}".to_owned()
        } else {
            format!(r#"{{"role": {i}, "same": {}}}"#, i / 2)
        };
        (Key::text(format!("k{i:05}")), json)
    });
    project.put_keys("app/docs", docs.collect()).await;
    let text = r#"
        [[check]]
        name = "roles"
        collection = "app/docs"
        required = ["role"]
        examples = 3
        [[check]]
        name = "same"
        collection = "app/docs"
        unique = ["same"]
        examples = 2
        [[check]]
        name = "counted"
        collection = "app/docs"
        count = { equals = 5000 }
        [[check]]
        name = "none named"
        collection = "app/docs"
        required = ["role"]
        examples = 0
    "#;
    let mut runs = Vec::new();
    // Laid aside in the scratch store at every page, at some, and never: the same results.
    for (memory, parallel) in [(Some(0), 4), (Some(100_000), 3), (None, 1)] {
        let mut options = project.options();
        options.memory_bytes = memory;
        options.parallel = Some(parallel);
        let scratch = project.dir.path().join(format!("scratch{parallel}.db"));
        options.scratch = super::common::store(&format!("sqlite:{}", scratch.display())).await;
        let mut results = project.run(project.load(text), options).await.results;
        for result in &mut results {
            result.elapsed_ms = 0;
        }
        assert_eq!((results[0].failed, results[0].looked_at), (500, 5000));
        assert_eq!(
            failing(&results[0]),
            ["k00003 role", "k00013 role", "k00023 role"]
        );
        // Of each two neighbours one may lack the field: then it is no duplicate.
        assert_eq!(results[1].failed, 4000, "{:#?}", results[1]);
        assert_eq!(failing(&results[1]), ["k00000 same", "k00001 same"]);
        assert!(results[2].passed, "{:#?}", results[2]);
        assert_eq!(results[3].failed, 500);
        runs.push(results);
    }
    assert_eq!(runs[0], runs[1]);
    assert_eq!(runs[0], runs[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_stops_nothing_else() {
    let project = Project::new(On::Both).await;
    project.put("app/docs", &[("a", r#"{"n": 1}"#)]).await;
    let text = r#"
        [[check]]
        name = "no such collection"
        collection = "app/none"
        required = ["n"]
        [[check]]
        name = "nowhere to refer to"
        collection = "app/docs"
        reference = { field = "n", to = "split/none" }
        [[check]]
        name = "nothing to sum there"
        collection = "app/docs"
        aggregate = { of = "sum(n)", same_as = "split/none" }
        [[check]]
        name = "not opened"
        collection = "other/docs"
        required = ["n"]
        [[check]]
        name = "statement of a store without any"
        store = "split"
        sql = "SELECT 1"
        [[check]]
        name = "well"
        collection = "app/docs"
        required = ["n"]
    "#;
    let results = project.check(text).await;
    let codes: Vec<_> = results
        .iter()
        .map(|r| r.error.as_ref().map(|(code, _)| code.id()))
        .collect();
    assert_eq!(
        codes,
        [
            Some("WB-C05"),
            Some("WB-C05"),
            Some("WB-C05"),
            Some("WB-V03"),
            Some("WB-S02"),
            None
        ],
        "{results:#?}"
    );
    assert!(results[..5].iter().all(|r| !r.passed));
    assert!(results[5].passed && results[5].looked_at == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_cannot_be_read_fail() {
    let project = Project::new(On::Sqlite).await;
    let surrogate = r#"{"role": "\ud800"}"#;
    project
        .put("app/docs", &[("a", r#"{"role": "x"}"#), ("b", surrogate)])
        .await;
    let db = rusqlite::Connection::open(project.path().join("app.db")).unwrap();
    db.execute(
        "INSERT INTO docs (id, data) VALUES ('c', '{\"role\": ')",
        [],
    )
    .unwrap();
    for kind in ["types = { role = \"string\" }", "unique = [\"role\"]"] {
        let result = project.one(kind).await;
        let keys: Vec<_> = result
            .examples
            .iter()
            .filter_map(|e| e.key.as_deref())
            .collect();
        assert_eq!(keys, ["b", "c"], "{kind}: {result:#?}");
        assert_eq!((result.looked_at, result.failed), (3, 2), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_now_and_then_changes_nothing() {
    let text = r#"
        [[check]]
        name = "required"
        collection = "app/docs"
        required = ["n"]
        [[check]]
        name = "unique"
        collection = "app/docs"
        unique = ["same"]
        [[check]]
        name = "reference"
        collection = "app/docs"
        reference = { field = "same", to = "app/ends" }
        [[check]]
        name = "count"
        collection = "app/docs"
        count = { equals = 3000 }
    "#;
    let mut runs = Vec::new();
    for (seed, transient) in [(0, 0.0), (1, 0.3), (2, 0.3)] {
        let inner = super::project::memory().await;
        let faults = Faults {
            seed,
            transient,
            ..Faults::default()
        };
        let faulty = Arc::new(FaultyStore::new(Arc::clone(&inner)).with_faults(faults));
        let store: Arc<dyn Store> = Arc::clone(&faulty) as _;
        let stores = vec![("app", store), ("behind", inner)];
        let project = Project::of(stores, tempfile::tempdir().unwrap()).await;
        let docs = (0..3000).map(|i| {
            let n = if i == 77 { "" } else { r#""n": 1, "# };
            (
                Key::text(format!("k{i:05}")),
                format!(r#"{{{n}"same": "s{}"}}"#, i % 2500),
            )
        });
        project.put_keys("behind/docs", docs.collect()).await;
        let ends = (0..2400).map(|i| (Key::text(format!("s{i}")), "{}".to_owned()));
        project.put_keys("behind/ends", ends.collect()).await;
        let mut options = project.options();
        options.patience = std::time::Duration::from_secs(30);
        let mut results = project.run(project.load(text), options).await.results;
        assert_eq!(faulty.failed() > 0, transient > 0.0, "seed {seed}");
        for result in &mut results {
            assert_eq!(result.error, None, "seed {seed}: {result:#?}");
            result.elapsed_ms = 0;
        }
        runs.push(results);
    }
    let failed: Vec<u64> = runs[0].iter().map(|r| r.failed).collect();
    assert_eq!(failed, [1, 1000, 100, 0]);
    assert_eq!(runs[0], runs[1]);
    assert_eq!(runs[0], runs[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stopped_has_not_passed() {
    let project = Project::new(On::Memory).await;
    project.put("app/docs", &[("a", r#"{"n": 1}"#)]).await;
    let text = r#"
        [[check]]
        name = "in a pass"
        collection = "app/docs"
        required = ["n"]
        [[check]]
        name = "after the passes"
        collection = "app/docs"
        count = { equals = 1 }
    "#;
    let engine = Engine::without_ledger(Arc::new(SystemClock));
    let checks = project.load(text).into_iter();
    let checks = checks.map(|check| project.prepared(check)).collect();
    engine.stop();
    let options = project.options();
    for result in engine.check(ChecksJob { checks, options }).await.results {
        let (code, _) = result.error.clone().expect("it was stopped");
        assert_eq!(code.id(), "WB-R03");
        assert!(!result.passed);
    }
}
