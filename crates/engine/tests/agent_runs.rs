//! Two hundred real agent runs with tool calls, through a schema history in TypeScript, split into message
//! documents, and back to their very bytes.

mod common;

use std::path::{Path, PathBuf};

use common::{dump, engine, fill, options, place, sqlite};
use whimbrel_engine::{CopyJob, UpgradeJob};
use whimbrel_model::{Body, Key, Value};
use whimbrel_transform::{ScriptLimits, load_rules, load_schema};

const RUNS: &str = "../../../shared/data/tau-bench/historical_trajectories/gpt-4o-airline.json";

/// The runs as they stand in the file, byte for byte, keyed by task and trial.
fn recorded() -> Option<Vec<(Key, String)>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(RUNS);
    let Ok(text) = std::fs::read_to_string(&file) else {
        println!("SKIPPED agent runs: {} is not there", file.display());
        return None;
    };
    // The file is printed with two spaces an indent, so a run begins and ends at that depth.
    let mut runs = Vec::new();
    let mut run = String::new();
    for line in text.lines() {
        if line.starts_with("  ") {
            run.push_str(line);
            run.push('\n');
        }
        if line.starts_with("  }") {
            let json = run.trim_start().trim_end().trim_end_matches(',').to_owned();
            let map = Body::from_json(json.clone().into_bytes())
                .map()
                .unwrap()
                .into_owned();
            let (Some(Value::Int(task)), Some(Value::Int(trial))) =
                (map.get("task_id"), map.get("trial"))
            else {
                panic!("a run without task or trial")
            };
            runs.push((Key::text(format!("{task}-{trial}")), json));
            run.clear();
        }
    }
    Some(runs)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agent_runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn real_runs_go_up_three_versions_and_down_to_their_very_bytes() {
    let Some(runs) = recorded() else { return };
    assert_eq!(runs.len(), 200);
    let dir = tempfile::tempdir().unwrap();
    let (app, other) = (
        sqlite(dir.path(), "app.db").await,
        sqlite(dir.path(), "other.db").await,
    );
    fill(&app, "runs", runs).await;
    let before = dump(&app, "runs").await;
    let schema = load_schema(
        &folder().join("schema"),
        "runs",
        "_schemaVersion",
        ScriptLimits::default(),
    )
    .unwrap();
    let source = place(&app, "app", "runs");
    let engine = engine(dir.path()).await;
    let to = |to| UpgradeJob {
        place: source.clone(),
        schema: schema.clone(),
        to,
        key: None,
        options: options(),
    };

    let up = engine.upgrade(to(4)).await.unwrap();
    assert_eq!((up.counts.enumerated, up.counts.written), (200, 200));
    let mut calls = 0;
    for (key, json) in dump(&app, "runs").await {
        let map = Body::from_json(json.into_bytes())
            .map()
            .unwrap()
            .into_owned();
        let Some(Value::Array(messages)) = map.get("traj") else {
            panic!("{key} has no messages")
        };
        for message in messages {
            let Value::Map(message) = message else {
                panic!("{key} has a message that is no map")
            };
            assert_ne!(message.get("content"), Some(&Value::Null), "{key}");
            assert_ne!(
                message.get("role"),
                Some(&Value::String("tool".into())),
                "{key}"
            );
            if let Some(Value::Array(found)) = message.get("tool_calls") {
                calls += found.len();
                for call in found {
                    let Value::Map(call) = call else {
                        panic!("{key} has a call that is no map")
                    };
                    let Some(Value::Map(function)) = call.get("function") else {
                        panic!("{key}")
                    };
                    assert!(
                        matches!(function.get("arguments"), Some(Value::Map(_))),
                        "{key}"
                    );
                    assert!(
                        call.contains_key("result"),
                        "{key}: a call without its result"
                    );
                }
            }
        }
        // A double stays a double although a script took the document apart.
        assert!(
            matches!(map.get("reward"), Some(Value::Double(_))),
            "{key}: {:?}",
            map.get("reward")
        );
    }
    assert_eq!(calls, 1164);

    let rules = load_rules(&folder().join("messages.toml"), ScriptLimits::default()).unwrap();
    let copied = engine
        .copy(CopyJob {
            source: source.clone(),
            target: place(&other, "other", "messages"),
            rule: rules.rules[0].clone(),
            schema: Some(schema.clone()),
            scratch: None,
            options: options(),
        })
        .await
        .unwrap();
    assert_eq!(
        (copied.counts.enumerated, copied.counts.written),
        (200, 200)
    );
    // 5,308 messages, of which 1,164 were tools' results and are part of their calls now.
    assert_eq!(copied.counts.derived, 5308 - 1164);
    assert_eq!(dump(&other, "messages").await.len(), 5308 - 1164);

    let down = engine.upgrade(to(1)).await.unwrap();
    assert_eq!(down.counts.written, 200);
    assert_eq!(dump(&app, "runs").await, before);
}

/// Without pre-images `down` alone must give back every message; only the text of JSON that was inside
/// strings may be spaced otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn down_alone_gives_back_every_message() {
    let Some(runs) = recorded() else { return };
    let schema = load_schema(
        &folder().join("schema"),
        "runs",
        "_schemaVersion",
        ScriptLimits::default(),
    )
    .unwrap();
    for (key, json) in runs {
        let cx = whimbrel_model::DocContext::new(&key, whimbrel_model::Timestamp::from_millis(0));
        let read = |json: &str| {
            whimbrel_model::Draft::from_json(json.to_owned().into_bytes().into()).unwrap()
        };
        let up = schema.migrate(read(&json), 3, &|_| None, &cx).unwrap().doc;
        let back = schema.migrate(up, 1, &|_| None, &cx).unwrap().doc;
        assert_eq!(
            back.fingerprint().unwrap(),
            read(&json).fingerprint().unwrap(),
            "{key}"
        );
    }
}
