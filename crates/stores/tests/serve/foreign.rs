//! What other programs write in SQL.

use crate::subject::{Subject, fields, int, map, n, now, number, of, place, text};
use crate::views::all;
use whimbrel_firestore::backend::{Change, Foreign};
use whimbrel_firestore::v1::value::ValueType;

async fn foreign(subject: &Subject) -> Foreign {
    subject.backend().foreign(1000).await.unwrap()
}

/// The places of the changes, each once, with the number before the first and now.
pub fn net(changes: &[Change]) -> Vec<(String, Option<i64>, Option<i64>)> {
    let mut net: Vec<(String, Option<i64>, Option<i64>)> = Vec::new();
    for change in changes {
        let (path, after) = (change.place.path(), number(&change.after));
        match net.iter_mut().find(|(other, ..)| *other == path) {
            Some(found) => found.2 = after,
            None => net.push((path, number(&change.before), after)),
        }
    }
    net.sort();
    net
}

pub fn step(
    path: &str,
    before: Option<i64>,
    after: Option<i64>,
) -> (String, Option<i64>, Option<i64>) {
    (path.to_owned(), before, after)
}

pub async fn own_commits_are_not(mut subject: Subject) {
    subject
        .commit(&[("users/a", Some(n(1))), ("users/b", Some(n(2)))])
        .await;
    subject
        .commit(&[
            ("users/a", Some(n(3))),
            ("users/b", None),
            ("users/c", Some(n(4))),
        ])
        .await;
    assert!(foreign(&subject).await.changes.is_empty());
    subject.reopen().await;
    subject.set("users/a", n(5)).await;
    assert!(foreign(&subject).await.changes.is_empty());
}

pub async fn every_statement_is_noted(subject: Subject) {
    subject
        .commit(&[
            ("users/a", Some(n(1))),
            ("users/b", Some(n(2))),
            ("users/c", Some(n(3))),
            ("users/d", Some(n(4))),
        ])
        .await;
    subject
        .sql(r#"INSERT INTO users (id, data) VALUES ('new', '{"n": 10}'), ('new2', '{"n": 11}')"#)
        .await;
    subject
        .sql(r#"UPDATE users SET data = '{"n": 20}' WHERE id = 'a'"#)
        .await;
    subject.sql("DELETE FROM users WHERE id = 'b'").await;
    let upsert = r#"INSERT INTO users (id, data) VALUES ('c', '{"n": 30}'), ('up', '{"n": 31}')
                    ON CONFLICT (id) DO UPDATE SET data = excluded.data"#;
    subject.sql(upsert).await;
    subject
        .sql(r#"INSERT INTO users (id, data) VALUES ('d', '{"n": 99}') ON CONFLICT DO NOTHING"#)
        .await;
    let noted = foreign(&subject).await;
    assert!(!noted.more);
    assert_eq!(
        net(&noted.changes),
        [
            step("users/a", Some(1), Some(20)),
            step("users/b", Some(2), None),
            step("users/c", Some(3), Some(30)),
            step("users/new", None, Some(10)),
            step("users/new2", None, Some(11)),
            step("users/up", None, Some(31)),
        ]
    );
    assert_eq!(number(&subject.get("users/a").await), Some(20));
    subject.settle(noted.mark).await;
    // Written again, and all at once.
    subject.sql(r#"UPDATE users SET data = '{"n": 40}' WHERE id = 'a'; UPDATE users SET data = '{"n": 41}' WHERE id = 'a'"#).await;
    subject
        .sql("DELETE FROM users WHERE id IN ('d', 'new')")
        .await;
    let noted = foreign(&subject).await;
    let steps = [
        step("users/a", Some(20), Some(41)),
        step("users/d", Some(4), None),
        step("users/new", Some(10), None),
    ];
    assert_eq!(net(&noted.changes), steps);
    let befores: Vec<_> = noted
        .changes
        .iter()
        .filter(|change| &*change.place.key == "a")
        .map(|change| number(&change.before))
        .collect();
    assert!(
        befores == [Some(20), Some(40)] || befores == [Some(20)],
        "{befores:?}"
    );
    subject.settle(noted.mark).await;
    subject.sql("DELETE FROM users").await;
    let noted = foreign(&subject).await;
    let steps = [
        step("users/a", Some(41), None),
        step("users/c", Some(30), None),
        step("users/new2", Some(11), None),
        step("users/up", Some(31), None),
    ];
    assert_eq!(net(&noted.changes), steps);
}

pub async fn times_of_what_others_write(subject: Subject) {
    let made = subject
        .commit(&[("users/a", Some(n(1))), ("users/b", Some(n(1)))])
        .await;
    let before = now() - 2000;
    subject
        .sql(r#"UPDATE users SET data = '{"n": 2}' WHERE id = 'a'"#)
        .await;
    subject
        .sql(r#"INSERT INTO users (id, data) VALUES ('c', '{"n": 3}')"#)
        .await;
    let a = subject.get("users/a").await.unwrap();
    assert_eq!(a.created, made);
    assert!(a.updated > made && a.updated >= before && a.updated <= now() + 5000);
    let c = subject.get("users/c").await.unwrap();
    assert!(c.created == c.updated && c.updated >= a.updated);
    let last = subject.backend().last_commit().await.unwrap();
    assert!(last >= c.updated);
    // What did not change keeps its times.
    subject
        .sql(r#"UPDATE users SET data = data WHERE id = 'b'"#)
        .await;
    assert_eq!(subject.get("users/b").await.unwrap().updated, made);
    let own = subject.set("users/a", n(4)).await;
    assert!(own > last);
    let a = subject.get("users/a").await.unwrap();
    assert_eq!((a.created, a.updated), (made, own));
    // Deleted and made again is another document.
    subject.sql(r#"DELETE FROM users WHERE id = 'a'; INSERT INTO users (id, data) VALUES ('a', '{"n": 5}')"#).await;
    let a = subject.get("users/a").await.unwrap();
    assert!(a.created > own);
}

pub async fn keys_that_change(subject: Subject) {
    subject
        .commit(&[("users/a", Some(n(1))), ("users/b", Some(n(2)))])
        .await;
    subject
        .sql("UPDATE users SET id = 'z' WHERE id = 'a'")
        .await;
    let noted = foreign(&subject).await;
    assert_eq!(
        net(&noted.changes),
        [
            step("users/a", Some(1), None),
            step("users/z", None, Some(1))
        ]
    );
    subject.settle(noted.mark).await;
    if subject.replaces() {
        subject
            .sql(r#"REPLACE INTO users (id, data) VALUES ('b', '{"n": 3}')"#)
            .await;
        let noted = foreign(&subject).await;
        assert_eq!(net(&noted.changes), [step("users/b", Some(2), Some(3))]);
        subject.settle(noted.mark).await;
        subject
            .sql("UPDATE OR REPLACE users SET id = 'b' WHERE id = 'z'")
            .await;
        let noted = foreign(&subject).await;
        assert_eq!(
            net(&noted.changes),
            [
                step("users/b", Some(3), Some(1)),
                step("users/z", Some(1), None)
            ]
        );
        subject.sql(r#"INSERT OR IGNORE INTO users (id, data) VALUES ('b', '{"n": 9}'), ('y', '{"n": 8}')"#).await;
        subject.settle(noted.mark).await;
        let noted = foreign(&subject).await;
        assert_eq!(net(&noted.changes), [step("users/y", None, Some(8))]);
    }
}

pub async fn nothing_changed(subject: Subject) {
    subject.set("users/a", n(1)).await;
    subject.sql("UPDATE users SET data = data").await;
    subject.sql("DELETE FROM users WHERE id = 'none'").await;
    let noted = foreign(&subject).await;
    assert!(noted.changes.is_empty() && !noted.more);
}

pub async fn settled_once(mut subject: Subject) {
    subject.set("users/a", n(1)).await;
    subject.sql(r#"UPDATE users SET data = '{"n": 2}'"#).await;
    let first = foreign(&subject).await;
    assert_eq!(foreign(&subject).await.changes.len(), first.changes.len());
    subject.sql(r#"UPDATE users SET data = '{"n": 3}'"#).await;
    subject.settle(first.mark).await;
    let second = foreign(&subject).await;
    assert_eq!(net(&second.changes), [step("users/a", Some(2), Some(3))]);
    subject.reopen().await;
    assert_eq!(net(&foreign(&subject).await.changes), net(&second.changes));
    subject.settle(second.mark).await;
    assert!(foreign(&subject).await.changes.is_empty());
    // What is not settled is not forgotten either.
    subject.sql(r#"UPDATE users SET data = '{"n": 4}'"#).await;
    subject.set("users/b", n(1)).await;
    subject.backend().forget(now() + 1_000_000).await.unwrap();
    assert_eq!(
        net(&foreign(&subject).await.changes),
        [step("users/a", Some(3), Some(4))]
    );
}

pub async fn by_pages(subject: Subject) {
    subject.set("users/a", n(1)).await;
    for i in 0..25 {
        subject
            .sql(&format!(
                r#"INSERT INTO users (id, data) VALUES ('x{i:02}', '{{"n": {i}}}')"#
            ))
            .await;
    }
    let mut seen = Vec::new();
    loop {
        let page = subject.backend().foreign(10).await.unwrap();
        assert!(page.changes.len() <= 10);
        seen.extend(
            page.changes
                .iter()
                .map(|change| change.place.key.to_string()),
        );
        subject.settle(page.mark).await;
        if !page.more {
            break;
        }
    }
    assert_eq!(
        seen,
        (0..25).map(|i| format!("x{i:02}")).collect::<Vec<_>>()
    );
    assert!(foreign(&subject).await.changes.is_empty());
}

pub async fn plain_json_is_read(subject: Subject) {
    subject.set("users/a", n(1)).await;
    let json = r#"{"n": 1, "x": 1.5, "big": 12345678901234567890, "list": [1, "a", null, true], "map": {"in": {"k": -0.5}},
                   "at": {"$timestamp": "2026-01-31T08:00:00.5Z"}, "text": "é\n"}"#;
    subject
        .sql(&format!(
            "INSERT INTO users (id, data) VALUES ('plain', '{json}')"
        ))
        .await;
    let plain = subject.get("users/plain").await.unwrap();
    let double = |d| of(ValueType::DoubleValue(d));
    let at = prost_types::Timestamp {
        seconds: 1_769_846_400,
        nanos: 500_000_000,
    };
    let list = vec![
        int(1),
        text("a"),
        of(ValueType::NullValue(0)),
        of(ValueType::BooleanValue(true)),
    ];
    let expect = fields([
        ("n", int(1)),
        ("x", double(1.5)),
        ("big", double(12_345_678_901_234_567_890.0)),
        ("list", crate::subject::array(list)),
        (
            "map",
            map(fields([("in", map(fields([("k", double(-0.5))])))])),
        ),
        ("at", of(ValueType::TimestampValue(at))),
        ("text", text("é\n")),
    ]);
    assert_eq!(*plain.fields, expect);
}

pub async fn a_row_that_is_no_document(subject: Subject) {
    subject
        .commit(&[
            ("users/a", Some(n(1))),
            ("users/b", Some(n(2))),
            ("users/c", Some(n(3))),
        ])
        .await;
    // Valid JSON, so that a column of JSON takes it, but no object.
    subject
        .sql(r#"UPDATE users SET data = '["secret"]' WHERE id = 'b'"#)
        .await;
    let error = subject
        .backend()
        .get(&[place("users/b")])
        .await
        .unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("users") && message.contains("\"b\""),
        "{message}"
    );
    assert!(!message.contains("secret"), "{message}");
    assert_eq!(number(&subject.get("users/a").await), Some(1));
    let view = subject.backend().view().await.unwrap();
    let lines = view.walk(&all("users")).await.unwrap();
    let numbers: Vec<_> = lines.iter().map(|line| number(&line.stored)).collect();
    assert_eq!(numbers, [Some(1), None, Some(3)]);
    let noted = foreign(&subject).await;
    assert_eq!(net(&noted.changes), [step("users/b", Some(2), None)]);
    // A client's write mends it.
    subject.set("users/b", n(5)).await;
    assert_eq!(number(&subject.get("users/b").await), Some(5));
}

pub async fn views_and_history_include_them(subject: Subject) {
    let first = subject
        .commit(&[("users/a", Some(n(1))), ("users/b", Some(n(1)))])
        .await;
    let before = subject.backend().view().await.unwrap();
    subject.sql(r#"UPDATE users SET data = '{"n": 2}' WHERE id = 'a'; DELETE FROM users WHERE id = 'b'"#).await;
    subject
        .sql(r#"INSERT INTO users (id, data) VALUES ('c', '{"n": 3}')"#)
        .await;
    let noted = foreign(&subject).await;
    subject.settle(noted.mark).await;
    let after = subject.backend().view().await.unwrap();
    assert!(after.at() > before.at());
    let places = [place("users/a"), place("users/b"), place("users/c")];
    let numbers = |found: Vec<_>| found.iter().map(number).collect::<Vec<_>>();
    assert_eq!(
        numbers(before.get(&places, None).await.unwrap()),
        [Some(1), Some(1), None]
    );
    assert_eq!(
        numbers(after.get(&places, None).await.unwrap()),
        [Some(2), None, Some(3)]
    );
    assert_eq!(
        numbers(after.get(&places, Some(first)).await.unwrap()),
        [Some(1), Some(1), None]
    );
    let changes = after.changed(first, None, None, 10).await.unwrap();
    assert_eq!(
        net(&changes),
        [
            step("users/a", Some(1), Some(2)),
            step("users/b", Some(1), None),
            step("users/c", None, Some(3)),
        ]
    );
    assert!(
        before
            .changed(first, None, None, 10)
            .await
            .unwrap()
            .is_empty()
    );
}

pub async fn a_statement_that_is_rolled_back(subject: Subject) {
    subject.set("users/a", n(1)).await;
    subject
        .sql(r#"BEGIN; UPDATE users SET data = '{"n": 2}'; DELETE FROM users; ROLLBACK"#)
        .await;
    assert!(foreign(&subject).await.changes.is_empty());
    assert_eq!(number(&subject.get("users/a").await), Some(1));
}

pub async fn between_two_lives(mut subject: Subject) {
    let made = subject
        .commit(&[("users/a", Some(n(1))), ("users/b", Some(n(1)))])
        .await;
    subject.close();
    subject.sql(r#"UPDATE users SET data = '{"n": 2}' WHERE id = 'a'; DELETE FROM users WHERE id = 'b'"#).await;
    subject.open().await.unwrap();
    let noted = foreign(&subject).await;
    assert_eq!(
        net(&noted.changes),
        [
            step("users/a", Some(1), Some(2)),
            step("users/b", Some(1), None)
        ]
    );
    assert_eq!(subject.get("users/a").await.unwrap().created, made);
    let own = subject.set("users/b", n(3)).await;
    assert!(own > subject.get("users/a").await.unwrap().updated);
}

pub async fn of_a_new_table(subject: Subject) {
    subject.set("users/a", n(1)).await;
    subject.backend().create_index("x").await.unwrap();
    let view = subject.backend().view().await.unwrap();
    subject
        .sql(
            r#"CREATE TABLE "posts" (id TEXT PRIMARY KEY NOT NULL, data TEXT NOT NULL);
               INSERT INTO posts (id, data) VALUES ('p', '{"n": 7}')"#,
        )
        .await;
    assert_eq!(number(&subject.get("posts/p").await), Some(7));
    // The indexes have no lines of it yet.
    let noted = foreign(&subject).await;
    assert_eq!(net(&noted.changes), [step("posts/p", None, Some(7))]);
    subject.settle(noted.mark).await;
    assert_eq!(view.collections().await.unwrap().len(), 1);
    let later = subject.backend().view().await.unwrap();
    assert_eq!(later.collections().await.unwrap().len(), 2);
    let own = subject.set("posts/p", n(8)).await;
    assert!(foreign(&subject).await.changes.is_empty());
    subject.sql(r#"UPDATE posts SET data = '{"n": 9}'"#).await;
    let noted = foreign(&subject).await;
    assert_eq!(net(&noted.changes), [step("posts/p", Some(8), Some(9))]);
    assert!(noted.changes[0].at > own);
    // PostgreSQL keeps a table for as long as a view that looked at it.
    drop((view, later));
    subject.sql("DROP TABLE posts").await;
    assert!(subject.get("posts/p").await.is_none());
    subject.set("posts/q", n(1)).await;
    assert!(subject.get("posts/p").await.is_none());
    assert_eq!(number(&subject.get("posts/q").await), Some(1));
}

/// Whoever read while the app's transaction was under way reads the same at that time for ever: before it is settled,
/// and after.
pub async fn commits_late(subject: Subject) {
    let own = subject
        .commit(&[("users/a", Some(n(1))), ("users/gone", Some(n(1)))])
        .await;
    let late = [
        "BEGIN",
        r#"UPDATE users SET data = '{"n": 2}' WHERE id = 'a'"#,
        "DELETE FROM users WHERE id = 'gone'",
        r#"INSERT INTO users (id, data) VALUES ('new', '{"n": 2}')"#,
        r#"UPDATE users SET data = '{"n": 3}' WHERE id = 'a'"#,
    ];
    let read_at = subject.sql_with_pause(&late, "COMMIT", now).await;
    let places = [place("users/a"), place("users/gone"), place("users/new")];
    let numbers = |found: Vec<_>| found.iter().map(number).collect::<Vec<_>>();
    let (then, after) = ([Some(1), Some(1), None], [Some(3), None, Some(2)]);
    let steps = [
        step("users/a", Some(1), Some(3)),
        step("users/gone", Some(1), None),
        step("users/new", None, Some(2)),
    ];
    let mut other = 0;
    for settled in [false, true] {
        let view = subject.backend().view().await.unwrap();
        // The time of others' statements is not the time of anything that a view shows.
        assert!(settled || view.at() == own);
        let found = view.get(&places, Some(read_at)).await.unwrap();
        assert_eq!(numbers(found), then, "{settled}");
        assert_eq!(numbers(view.get(&places, None).await.unwrap()), after);
        for since in [read_at, own] {
            let changes = view.changed(since, None, None, 10).await.unwrap();
            let of_users = changes.iter().filter(|c| &*c.place.collection == "users");
            let of_users: Vec<_> = of_users.cloned().collect();
            assert_eq!(net(&of_users), steps, "{settled}");
            assert!(of_users.iter().all(|change| change.at > since));
        }
        let none = view.changed(own, Some(read_at), None, 10).await.unwrap();
        assert!(none.is_empty(), "{settled} {none:?}");
        if !settled {
            // A commit of something else comes between.
            other = subject.set("others/x", n(1)).await;
            let view = subject.backend().view().await.unwrap();
            let found = view.get(&places, Some(read_at)).await.unwrap();
            assert_eq!(numbers(found), then);
            let changes = view.changed(view.at(), None, None, 10).await.unwrap();
            assert_eq!(changes.len(), 3, "what is not settled is told");
        }
        subject.settle(foreign(&subject).await.mark).await;
    }
    // The documents say the times at which they came to be what they are.
    let view = subject.backend().view().await.unwrap();
    for path in ["users/a", "users/new"] {
        let stored = subject.get(path).await.unwrap();
        assert!(stored.updated >= other && stored.updated <= view.at());
        let places = [place(path)];
        let at = async |at| number(&view.get(&places, Some(at)).await.unwrap()[0]);
        let is = number(&Some(stored.clone()));
        assert_eq!(at(stored.updated).await, is);
        assert_ne!(at(stored.updated - 1).await, is);
    }
    let new = subject.get("users/new").await.unwrap();
    assert_eq!(new.created, new.updated);
    assert_eq!(subject.get("users/a").await.unwrap().created, own);
}
