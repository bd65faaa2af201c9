//! A store that outlives its server, and that others write to in SQL.

use crate::client::{Client, Event};
use crate::harness::{Stage, documents, filtered, from, limited, name, ordered, query};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use whimbrel_firestore::v1::structured_query::field_filter::Operator;
use whimbrel_firestore::v1::target::ResumeType;
use whimbrel_firestore::v1::{StructuredQuery, Target};
use whimbrel_stores::OpenOptions;

fn positive() -> StructuredQuery {
    filtered(from("c"), "n", Operator::GreaterThan, 0)
}

fn first() -> StructuredQuery {
    limited(ordered(from("c"), "n", false), 0, Some(2))
}

fn shows(client: &Client, id: i32, paths: &[&str]) -> bool {
    let paths: BTreeSet<String> = paths.iter().map(|path| name(path)).collect();
    client.views[&id]
        .documents
        .keys()
        .cloned()
        .collect::<BTreeSet<_>>()
        == paths
}

/// Waits until the targets 1, 2 and 3 show these documents.
async fn await_all(client: &mut Client, expected: [&[&str]; 3]) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let all = |client: &Client| {
        (1..)
            .zip(expected)
            .all(|(id, paths)| shows(client, id, paths))
    };
    while !all(client) {
        client.snapshot().await;
        assert!(
            Instant::now() < deadline,
            "{expected:?}: {:?}",
            client.taken()
        );
    }
}

#[tokio::test]
async fn what_sql_changes_is_heard() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.db");
    let mut stage = Stage::over(&format!("sqlite:{}", path.display())).await;
    stage.set("c/a", &[("n", 1)]).await;
    let mut client = Client::connect(&stage);
    let both = documents(3, &["c/a", "c/b"]);
    for target in [query(1, positive()), query(2, first()), both] {
        client.add(target).await;
        client.snapshot().await;
    }
    let sql = rusqlite::Connection::open(&path).unwrap();
    sql.busy_timeout(Duration::from_secs(30)).unwrap();
    type Shown = [&'static [&'static str]; 3];
    let steps: [(&str, Shown); 5] = [
        (
            r#"INSERT INTO c (id, data) VALUES ('b', '{"n": 5}')"#,
            [&["c/a", "c/b"], &["c/a", "c/b"], &["c/a", "c/b"]],
        ),
        (
            r#"UPDATE c SET data = '{"n": 0}' WHERE id = 'b'"#,
            [&["c/a"], &["c/a", "c/b"], &["c/a", "c/b"]],
        ),
        (
            r#"INSERT INTO c (id, data) VALUES ('c', '{"n": -5}'), ('d', '{"n": 7}')"#,
            [&["c/a", "c/d"], &["c/b", "c/c"], &["c/a", "c/b"]],
        ),
        (
            "DELETE FROM c WHERE id IN ('b', 'c')",
            [&["c/a", "c/d"], &["c/a", "c/d"], &["c/a"]],
        ),
        (
            r#"BEGIN; UPDATE c SET data = '{"n": 9}'; UPDATE c SET data = '{"n": -1}' WHERE id = 'd'; COMMIT"#,
            [&["c/a"], &["c/a", "c/d"], &["c/a"]],
        ),
    ];
    for (text, expected) in steps {
        sql.execute_batch(text).unwrap();
        await_all(&mut client, expected).await;
    }
}

#[tokio::test]
async fn tokens_outlive_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("app.db").display());
    let mut stage = Stage::over(&url).await;
    for i in 0..4 {
        stage.set(&format!("c/{i}"), &[("n", i)]).await;
    }
    let mut client = Client::connect(&stage);
    for target in [query(1, positive()), query(2, first())] {
        client.add(target).await;
        client.snapshot().await;
    }
    let (token, views) = (client.token.clone(), std::mem::take(&mut client.views));
    drop(client);
    stage.delete("c/1").await;
    drop(stage);
    // The last of the old server's tasks has yet to end.
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Err(error) = whimbrel_stores::serve::open(&url, &OpenOptions::default()).await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut stage = Stage::over(&url).await;
    stage.set("c/3", &[("n", 30)]).await;
    let mut client = Client::connect(&stage);
    client.views = views;
    for target in [query(1, positive()), query(2, first())] {
        let target = Target {
            resume_type: Some(ResumeType::ResumeToken(token.clone())),
            ..target
        };
        client.add(target).await;
        client.snapshot().await;
    }
    let of = |path: &str, id| Event::Changed(path.to_owned(), vec![id], vec![]);
    let gone = |id| Event::Deleted("c/1".to_owned(), vec![id]);
    assert_eq!(
        client.taken(),
        [
            Event::Added(vec![1]),
            gone(1),
            of("c/3", 1),
            Event::Filter(1, 2),
            Event::Current(vec![1]),
            Event::Snapshot,
            Event::Added(vec![2]),
            of("c/2", 2),
            gone(2),
            Event::Filter(2, 2),
            Event::Current(vec![2]),
            Event::Snapshot
        ]
    );
    assert!(shows(&client, 1, &["c/2", "c/3"]) && shows(&client, 2, &["c/0", "c/2"]));
}
