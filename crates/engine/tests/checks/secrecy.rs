//! No value of a document stands in a result, unless values were asked for.

use super::project::{On, Project};
use whimbrel_engine::{ChecksJob, Engine, SystemClock};
use whimbrel_model::Key;

const MARKERS: usize = 1000;

/// Every kind, each failing in every document or on the whole.
const CHECKS: &str = r#"
    [[check]]
    name = "types"
    collection = "app/docs"
    types = { text = "int", nested = "string" }
    [[check]]
    name = "format"
    collection = "app/docs"
    format = { text = "email" }
    [[check]]
    name = "range"
    collection = "app/docs"
    range = { number = { max = 5 } }
    [[check]]
    name = "pattern"
    collection = "app/docs"
    pattern = { text = "^never$" }
    [[check]]
    name = "enum"
    collection = "app/docs"
    enum = { text = ["never"], number = [1] }
    [[check]]
    name = "json schema"
    collection = "app/docs"
    json_schema = "schema.json"
    [[check]]
    name = "condition"
    collection = "app/docs"
    condition = "says.ts"
    [[check]]
    name = "condition that throws"
    collection = "app/docs"
    condition = "throws.ts"
    [[check]]
    name = "pair"
    collection = "app/docs"
    pair = "split/docs"
    condition = "pair.ts"
    [[check]]
    name = "unique"
    collection = "app/docs"
    unique = ["twice"]
    [[check]]
    name = "reference"
    collection = "app/docs"
    reference = { field = "text", to = "split/docs" }
    [[check]]
    name = "reference to a field"
    collection = "app/docs"
    reference = { field = "text", to = "split/docs", to_field = "text" }
    [[check]]
    name = "sum of texts"
    collection = "app/docs"
    aggregate = { of = "sum(text)", equals = 0 }
    [[check]]
    name = "sums"
    collection = "app/docs"
    aggregate = { of = "sum(number)", by = "text", same_as = "split/docs" }
    [[check]]
    name = "greatest"
    collection = "app/docs"
    aggregate = { of = "max(number)", at_most = 5 }
    [[check]]
    name = "distribution"
    collection = "app/docs"
    distribution = { field = "number", p50 = { max = 5 }, top = { one_of = [5] }, like = "split/docs", drift = "1%" }
    [[check]]
    name = "distribution of texts"
    collection = "app/docs"
    distribution = { field = "twice", top = { one_of = ["never"] }, like = "split/docs", drift = "1%" }
    [[check]]
    name = "sql"
    store = "app"
    sql = "SELECT data FROM docs"
    [[check]]
    name = "command"
    command = ["sh", "-c", "cat marker; exit 1"]
"#;

async fn planted() -> Project {
    let project = Project::new(On::Sqlite).await;
    let file = |name: &str, text: &str| std::fs::write(project.path().join(name), text).unwrap();
    file(
        "schema.json",
        r#"{"properties": {"text": {"enum": ["never"]}, "number": {"maximum": 5}}}"#,
    );
    file(
        "says.ts",
        "export const check = (doc) => `it says ${doc.text} and ${doc.number}`;",
    );
    file(
        "throws.ts",
        "export const check = (doc) => { throw new Error(doc.text); };",
    );
    file(
        "pair.ts",
        "export const check = (doc, other) => [doc.text, `${other}`];",
    );
    file("marker", &text(0));
    let doc = |i: usize| {
        let json = format!(
            r#"{{"text": "{}", "number": {}, "twice": "{}", "nested": {{"{}": 1}}}}"#,
            text(i),
            number(i),
            text(i / 2),
            text(i),
        );
        (Key::text(format!("k{i:04}")), json)
    };
    project
        .put_keys("app/docs", (0..MARKERS).map(doc).collect())
        .await;
    project
        .put(
            "split/docs",
            &[("x", r#"{"text": "other", "number": 1, "twice": "once"}"#)],
        )
        .await;
    project
}

fn text(i: usize) -> String {
    format!("MARK{i:04}ER")
}

fn number(i: usize) -> usize {
    7_770_000 + i
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_in_no_result() {
    let project = planted().await;
    let engine = Engine::without_ledger(std::sync::Arc::new(SystemClock));
    let mut events = engine.subscribe();
    let checks: Vec<_> = project
        .load(CHECKS)
        .into_iter()
        .map(|mut check| {
            check.examples = 1000;
            project.prepared(check)
        })
        .collect();
    let options = project.options();
    let checked = engine.check(ChecksJob { checks, options }).await;
    drop(engine);
    let mut told = format!(
        "{checked:?}{}",
        serde_json::to_string(&checked.results).unwrap()
    );
    told.push_str(&serde_json::to_string(&checked.baselines).unwrap());
    while let Some(event) = events.recv().await {
        told.push_str(&format!("{event:?}"));
    }
    for result in &checked.results {
        assert!(
            !result.passed,
            "this one was to fail, else it proves nothing: {result:#?}"
        );
    }
    // What every marker begins with: a part of one would be too much as well.
    for marker in ["MARK", "7770"] {
        assert!(
            !told.contains(marker),
            "{marker} is in {}",
            around(&told, marker)
        );
    }
}

fn around(told: &str, marker: &str) -> String {
    let at = told.find(marker).unwrap_or(0);
    told[at.saturating_sub(300)..(at + 50).min(told.len())].to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_shown_where_they_were_asked_for() {
    let project = planted().await;
    let mut options = project.options();
    options.show_values = true;
    let checked = project.run(project.load(CHECKS), options).await;
    for result in &checked.results {
        let shown = serde_json::to_string(result).unwrap();
        let shows = shown.contains("MARK") || shown.contains("777");
        // A JSON Schema names the place only; of a statement's rows only the number is known, and of duplicates
        // the other document's key.
        let never = ["json schema", "sql", "unique"];
        assert_eq!(shows, !never.contains(&result.name.as_str()), "{result:#?}");
    }
}
