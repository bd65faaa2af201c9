//! What triggers of the app's own can do to the gateway's writes, in SQLite.

use crate::foreign::{net, step};
use crate::subject::{Subject, n, now, number, place, put, sqlite};
use whimbrel_firestore::Micros;
use whimbrel_firestore::backend::{Batch, Found};

/// A number from the database.
fn ask(subject: &Subject, sql: &str) -> i64 {
    let path = subject.url().strip_prefix("sqlite:").unwrap().to_owned();
    let other = rusqlite::Connection::open(path).unwrap();
    other.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Changes in the log that are before the one that they follow. There must be none: times are found by halving.
fn out_of_order(subject: &Subject) -> i64 {
    ask(
        subject,
        "SELECT count(*) FROM (SELECT at, lag(at) OVER (ORDER BY seq) AS before FROM _whimbrel_log) WHERE at < before",
    )
}

/// Puts each document at its own time, in one commit.
async fn commit(subject: &Subject, puts: &[(&str, Option<i64>, Micros)], at: Micros) {
    let touch: Vec<_> = puts.iter().map(|(path, ..)| place(path)).collect();
    let puts: Vec<_> = puts.iter().map(|(_, number, at)| (*number, *at)).collect();
    let places = touch.clone();
    let decide = move |found: &Found| {
        let each = places.iter().zip(&puts);
        let documents = each.map(|(place, (number, at))| put(found, place, *at, number.map(n)));
        Batch {
            at,
            documents: documents.collect(),
            ..Batch::default()
        }
    };
    let backend = subject.backend();
    backend.commit(&touch, Box::new(decide)).await.unwrap();
}

async fn users_and_counts(trigger: &str) -> Subject {
    let subject = sqlite().await.unwrap();
    subject
        .commit(&[("users/a", Some(n(1))), ("counts/users", Some(n(0)))])
        .await;
    subject.sql(trigger).await;
    subject
}

const COUNTING: &str = "CREATE TRIGGER counting AFTER INSERT ON users
    BEGIN UPDATE counts SET data = json_object('n', json_extract(data, '$.n') + 1); END";

#[tokio::test]
async fn what_they_write_is_of_the_time_of_the_write_that_set_them_off() {
    let subject = users_and_counts(COUNTING).await;
    let (first, second, third, end) = (now(), now(), now(), now());
    // The clock is far beyond these times when the triggers run.
    std::thread::sleep(std::time::Duration::from_millis(20));
    let puts = [
        ("users/b", Some(1), first),
        ("users/c", Some(1), second),
        ("users/d", Some(1), third),
    ];
    commit(&subject, &puts, end).await;
    assert_eq!(out_of_order(&subject), 0);
    let foreign = subject.backend().foreign(10).await.unwrap();
    let times: Vec<Micros> = foreign.changes.iter().map(|change| change.at).collect();
    assert_eq!(times, [first, second, third]);
    assert_eq!(subject.backend().last_commit().await.unwrap(), end);
    let view = subject.backend().view().await.unwrap();
    for (at, count) in [(first - 1, 0), (first, 1), (second, 2), (end, 3)] {
        let then = view.get(&[place("counts/users")], Some(at)).await.unwrap();
        assert_eq!(number(&then[0]), Some(count));
    }
    // Others, and the gateway, go on from there.
    subject.sql("UPDATE counts SET data = '{\"n\":9}'").await;
    assert!(subject.get("counts/users").await.unwrap().updated > end);
    subject.set("users/e", n(1)).await;
    assert_eq!(out_of_order(&subject), 0);
    assert_eq!(number(&subject.get("counts/users").await), Some(10));
}

#[tokio::test]
async fn a_document_that_is_put_after_a_trigger_changed_it() {
    let subject = users_and_counts(COUNTING).await;
    let (first, second) = (now(), now());
    let puts = [
        ("users/b", Some(1), first),
        ("counts/users", Some(50), second),
    ];
    commit(&subject, &puts, second).await;
    assert_eq!(number(&subject.get("counts/users").await), Some(50));
    let view = subject.backend().view().await.unwrap();
    for (at, count) in [(first - 1, 0), (first, 1), (second, 50)] {
        let then = view.get(&[place("counts/users")], Some(at)).await.unwrap();
        assert_eq!(number(&then[0]), Some(count), "{at}");
    }
    assert_eq!(out_of_order(&subject), 0);
}

#[tokio::test]
async fn a_document_that_a_trigger_takes_away_moves_or_brings_back() {
    for (trigger, put, held, changes) in [
        (
            "CREATE TRIGGER t AFTER INSERT ON users WHEN NEW.id = 'x' BEGIN DELETE FROM users WHERE id = 'x'; END",
            ("users/x", Some(5)),
            (None, None),
            vec![step("users/x", Some(5), None)],
        ),
        (
            "CREATE TRIGGER t AFTER UPDATE ON users BEGIN DELETE FROM users WHERE id = NEW.id; END",
            ("users/a", Some(5)),
            (None, None),
            vec![step("users/a", Some(5), None)],
        ),
        (
            "CREATE TRIGGER t AFTER DELETE ON users BEGIN INSERT INTO users VALUES (OLD.id, '{\"n\":6}'); END",
            ("users/a", None),
            (Some(6), None),
            vec![step("users/a", None, Some(6))],
        ),
        (
            "CREATE TRIGGER t AFTER UPDATE OF data ON users BEGIN
               DELETE FROM users WHERE id = NEW.id; INSERT INTO users VALUES ('between', '{\"n\":8}');
               INSERT INTO users VALUES (NEW.id, '{\"n\":7}'); END",
            ("users/a", Some(5)),
            (Some(7), None),
            vec![
                step("users/a", Some(5), Some(7)),
                step("users/between", None, Some(8)),
            ],
        ),
        (
            "CREATE TRIGGER t AFTER UPDATE OF data ON users BEGIN UPDATE users SET id = 'z' WHERE id = NEW.id; END",
            ("users/a", Some(5)),
            (None, Some(5)),
            vec![
                step("users/a", Some(5), None),
                step("users/z", None, Some(5)),
            ],
        ),
    ] {
        let mut subject = users_and_counts(trigger).await;
        let before = subject.backend().last_commit().await.unwrap();
        let at = now();
        commit(&subject, &[(put.0, put.1, at)], at).await;
        let foreign = subject.backend().foreign(10).await.unwrap();
        assert_eq!(net(&foreign.changes), changes, "{trigger}");
        assert_eq!(out_of_order(&subject), 0, "{trigger}");
        for _ in 0..2 {
            let document = subject.get(put.0).await;
            assert_eq!(number(&document), held.0, "{trigger}");
            assert!(document.is_none_or(|held| held.updated == at), "{trigger}");
            let z = subject.get("users/z").await;
            assert_eq!(number(&z), held.1, "{trigger}");
            assert!(z.is_none_or(|z| z.updated == at), "{trigger}");
            let view = subject.backend().view().await.unwrap();
            let then = view.get(&[place(put.0)], Some(before)).await.unwrap();
            let expect = (put.0 == "users/a").then_some(1);
            assert_eq!(number(&then[0]), expect, "{trigger}");
            drop(view);
            subject.reopen().await;
        }
        // It is written on.
        subject.sql("DROP TRIGGER t").await;
        subject.set(put.0, n(11)).await;
        assert_eq!(number(&subject.get(put.0).await), Some(11), "{trigger}");
    }
}

/// What is not settled is never forgotten, and of a table that is no more nobody asks.
#[tokio::test]
async fn what_others_did_to_a_table_is_settled_when_it_goes() {
    for goes in ["DROP TABLE users", "ALTER TABLE users RENAME TO people"] {
        let subject = sqlite().await.unwrap();
        subject.set("users/a", n(1)).await;
        subject.sql("UPDATE users SET data = '{\"n\":2}'").await;
        subject.sql(goes).await;
        for i in 0..20 {
            subject.set("others/a", n(i)).await;
        }
        let foreign = subject.backend().foreign(10).await.unwrap();
        assert!(foreign.changes.is_empty());
        subject.backend().forget(now()).await.unwrap();
        assert_eq!(
            ask(&subject, "SELECT count(*) FROM _whimbrel_log"),
            1,
            "{goes}"
        );
    }
}
