//! Statements and commands; and all kinds on a PostgreSQL server.

use super::common::Stage;
use super::project::{On, Project, failing, memory};

#[tokio::test(flavor = "multi_thread")]
async fn statements_return_no_row() {
    let project = Project::new(On::Sqlite).await;
    project
        .put("app/docs", &[("a", r#"{"n": 1}"#), ("b", r#"{"n": -1}"#)])
        .await;
    let check = |sql: &str| format!("[[check]]\nname = \"sql\"\nstore = \"app\"\nsql = \"{sql}\"");
    let none = project
        .check(&check("SELECT id FROM docs WHERE data ->> 'n' > 5"))
        .await;
    assert!(none[0].passed, "{none:#?}");
    let some = project
        .check(&check("SELECT id FROM docs WHERE data ->> 'n' < 5"))
        .await;
    assert_eq!(some[0].failed, 2);
    assert_eq!(
        some[0].examples[0].message,
        "the statement gave back 2 rows instead of none"
    );
    let wrong = project.check(&check("SELECT nothing FROM nowhere")).await;
    assert!(wrong[0].error.is_some() && !wrong[0].passed);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_exit_with_zero() {
    let project = Project::new(On::Memory).await;
    std::fs::write(project.path().join("here"), "").unwrap();
    let check = |rest: &str| format!("[[check]]\nname = \"command\"\n{rest}");
    let sh = |script: &str| check(&format!("command = [\"sh\", \"-c\", \"{script}\"]"));
    assert!(project.check(&sh("test -e here")).await[0].passed);
    let failed = project.check(&sh("echo a secret; exit 3")).await;
    assert_eq!(
        failed[0].examples[0].message,
        "sh exited with 3 instead of 0"
    );
    let mut options = project.options();
    options.show_values = true;
    let checks = project.load(&sh("echo a secret; exit 3"));
    let shown = project.run(checks, options).await;
    assert_eq!(
        shown.results[0].examples[0].message,
        "sh exited with 3 instead of 0: a secret"
    );
    let missing = project
        .check(&check("command = [\"./no-such-program\"]"))
        .await;
    let (_, message) = missing[0].error.clone().unwrap();
    assert!(message.contains("there is no such program"), "{message}");
    let slow = project
        .check(&check("command = [\"sleep\", \"60\"]\ntimeout = \"100ms\""))
        .await;
    let (_, message) = slow[0].error.clone().unwrap();
    assert!(message.contains("took longer than 0.1 s"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_server_and_across() {
    let Some(stage) = Stage::new("checks") else {
        return;
    };
    let server = stage.store(&["docs", "convs"]).await;
    let stores = vec![("app", server), ("split", memory().await)];
    let project = Project::of(stores, tempfile::tempdir().unwrap()).await;
    project
        .put(
            "app/docs",
            &[
                ("a", r#"{"conv": "c1", "n": 1, "mail": "x"}"#),
                ("b", r#"{"conv": "c2", "n": 2.5, "mail": "y"}"#),
                (
                    "c",
                    r#"{"conv": "c3", "n": 12345678901234567890, "mail": "x"}"#,
                ),
                ("d", r#"{"n": "five"}"#),
            ],
        )
        .await;
    project.put("app/convs", &[("c1", "{}")]).await;
    project
        .put(
            "split/convs",
            &[("c1", r#"{"n": 1}"#), ("c2", r#"{"n": 2}"#)],
        )
        .await;
    for (kind, expect) in [
        (r#"required = ["conv"]"#, vec!["d conv"]),
        (r#"types = { n = "number" }"#, vec!["d n"]),
        (r#"unique = ["mail"]"#, vec!["a mail", "c mail"]),
        (
            r#"reference = { field = "conv", to = "app/convs" }"#,
            vec!["b conv", "c conv"],
        ),
        (
            r#"reference = { field = "conv", to = "split/convs" }"#,
            vec!["c conv"],
        ),
        (
            r#"reference = { field = "n", to = "split/convs", to_field = "n" }"#,
            vec!["b n", "c n", "d n"],
        ),
        (
            r#"count = { same_as = "split/convs", tolerance = 2 }"#,
            vec![],
        ),
        (
            "where = { field = \"conv\", exists = true }\naggregate = { of = \"sum(n)\", by = \"mail\", at_most = 1000 }",
            vec!["a mail"],
        ),
        (
            r#"distribution = { field = "mail", distinct = { max = 1 } }"#,
            vec!["- mail"],
        ),
        (r#"latency = { reads = 20, p99 = "1h" }"#, vec![]),
    ] {
        let result = project.one(kind).await;
        assert_eq!(failing(&result), expect, "{kind}: {result:#?}");
    }
    let sql = format!(
        "[[check]]\nname = \"sql\"\nstore = \"app\"\nsql = \"SELECT id FROM {}.docs WHERE data ->> 'mail' = 'x'\"",
        stage.schema
    );
    assert_eq!(project.check(&sql).await[0].failed, 2);
}
