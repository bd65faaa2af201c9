//! Real agent runs, up and down again.

use std::path::Path;
use whimbrel_model::{Body, DocContext, Draft, Key, Map, Timestamp, TransformInput, Value, json};
use whimbrel_transform::{ScriptLimits, load_schema, parse_rules};

/// 200 runs of an agent: null contents, JSON inside strings, tool-call ids that are not unique.
fn runs() -> Option<Vec<Map>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/tau-bench/historical_trajectories/gpt-4o-airline.json");
    let Ok(bytes) = std::fs::read(&path) else {
        println!("SKIPPED: {} is not there", path.display());
        return None;
    };
    let Value::Array(runs) = json::parse(&bytes).unwrap() else {
        panic!("the file is no array");
    };
    let maps = runs.into_iter().map(|run| match run {
        Value::Map(map) => map,
        other => panic!("{}", other.type_name()),
    });
    Some(maps.collect())
}

const SECOND: &str = r#"
    [[up]]
    op = "drop_null"
    path = "traj[].content"
    [[up]]
    op = "cast"
    path = "traj[].tool_calls[].function.arguments"
    to = "json"
    [[up]]
    op = "rename"
    from = "traj"
    to = "messages"
    [validate]
    schema = "0002.schema.json"
"#;
const SECOND_SCHEMA: &str = r##"{
    "required": ["messages"],
    "properties": { "messages": { "items": { "$ref": "#/$defs/message" } } },
    "$defs": { "message": {
        "required": ["role"],
        "properties": {
            "content": { "type": "string" },
            "tool_calls": { "items": { "properties": { "function": { "properties": {
                "arguments": { "type": "object" } } } } } }
        }
    } }
}"##;
const THIRD: &str = r#"
    [[up]]
    op = "move"
    from = "info.task"
    to = "task"
    [[up]]
    op = "cast"
    path = "reward"
    from = "double"
    to = "int"
    [[up]]
    op = "remove"
    path = "info"
    [[up]]
    op = "wrap"
    path = "messages[].content"
    in = "text"
"#;

#[test]
fn a_chain_of_versions_goes_up_and_back_to_the_same_bytes() {
    let Some(runs) = runs() else { return };
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [
        (
            "0001_a.toml",
            "[validate]\nrequired = [\"traj\", \"info.task\"]",
        ),
        ("0002_b.toml", SECOND),
        ("0002.schema.json", SECOND_SCHEMA),
        ("0003_c.toml", THIRD),
    ] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let limits = ScriptLimits::default();
    let schema = load_schema(dir.path(), "runs", "_schemaVersion", limits).unwrap();
    let key = Key::text("k");
    let cx = DocContext::new(&key, Timestamp::from_millis(0));
    assert_eq!(runs.len(), 200);
    for run in runs {
        let before = Body::Map(run).into_json();
        let draft = Draft::from_json(before.clone()).unwrap();
        let up = schema.migrate(draft, 3, &|_| None, &cx).unwrap();
        let after = up.doc.into_body().into_json();
        let Value::Map(map) = json::parse(&after).unwrap() else {
            panic!()
        };
        assert!(matches!(map["reward"], Value::Int(_)) && !map.contains_key("info"));

        let complement = |v| {
            up.complements
                .iter()
                .find(|(n, _)| *n == v)
                .map(|(_, c)| c.clone())
        };
        let draft = Draft::from_json(after).unwrap();
        let down = schema.migrate(draft, 1, &complement, &cx).unwrap();
        assert_eq!(down.doc.into_body().into_json(), before);
    }
}

#[test]
fn runs_split_into_messages_and_merge_again() {
    let Some(runs) = runs() else { return };
    let rules = parse_rules(
        "r.toml",
        r#"
        [[rule]]
        name = "messages"
        [rule.split]
        field = "traj"
        key = "{key}:{index:04}"
        parent = "run"
        index = "seq"
        [[rule]]
        name = "runs"
        group = { by = "run", order_by = ["seq"] }
        merge = { field = "traj", without = ["run", "seq"] }
        "#,
        Path::new("."),
        ScriptLimits::default(),
    )
    .unwrap()
    .rules;
    let mut messages = 0;
    for (i, run) in runs.into_iter().enumerate() {
        let key = Key::text(format!("run-{i}"));
        let cx = DocContext::new(&key, Timestamp::from_millis(0));
        let before = run["traj"].clone();
        let doc = Draft::from_map(run);
        let input = TransformInput::One {
            key: key.clone(),
            doc,
        };
        let parts = rules[0]
            .transform
            .as_ref()
            .unwrap()
            .apply(input, &cx)
            .unwrap();
        messages += parts.len();
        let docs = parts
            .into_iter()
            .map(|emit| (emit.key.unwrap(), Draft::from_body(emit.body).unwrap()))
            .collect();
        let value = Value::String(key.to_string());
        let input = TransformInput::Group { value, docs };
        let merged = rules[1]
            .transform
            .as_ref()
            .unwrap()
            .apply(input, &cx)
            .unwrap();
        assert_eq!(merged[0].key.as_ref(), Some(&key));
        assert_eq!(merged[0].body.map().unwrap()["traj"], before);
    }
    assert_eq!(messages, 5308);
}
