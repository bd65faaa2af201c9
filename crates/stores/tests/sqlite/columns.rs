//! Columns as fields.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn untouched_bytes_and_columns_stay() {
    let app = app(
        "CREATE TABLE c (id TEXT PRIMARY KEY, data JSON, at TEXT DEFAULT 'now');
         INSERT INTO c VALUES ('blob', CAST('{\"a\": 1}' AS BLOB), 'then'), ('text', '{ \"a\" : 1e0 }', 'then');",
    );
    let config = CollectionConfig {
        layout: LayoutChoice::Json,
        ..CollectionConfig::default()
    };
    let store = open_with(&app.path, Some(config)).await;
    for key in ["blob", "text"] {
        let document = one(&*store, key).await;
        let guard = Guard::Unchanged(document.revision.clone());
        let same = Write {
            collection: "c".into(),
            key: document.key,
            to: Some(document.body),
            guard,
        };
        assert_eq!(store.write(&[same]).await.unwrap(), [WriteOutcome::Applied]);
    }
    store
        .write(&[write("new", "{}", Guard::Absent)])
        .await
        .unwrap();
    let dump = "SELECT group_concat(id || typeof(data) || data || at, '|') FROM (SELECT * FROM c ORDER BY id)";
    assert_eq!(
        app.text(dump),
        r#"blobblob{"a": 1}then|newtext{}now|texttext{ "a" : 1e0 }then"#
    );
}

/// What a column gives back differs from what it got: refused, unless plain values are asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_refuse_what_they_would_change() {
    const TABLE: &str =
        "CREATE TABLE c (id INTEGER PRIMARY KEY, t TEXT, i INTEGER, r REAL, n NUMERIC, b BOOLEAN,
         j JSON, at DATETIME, x BLOB, rest TEXT)";
    let now = Timestamp::new(1_700_000_000, 5).unwrap();
    let huge = Value::Decimal(Decimal::new("123456789012345678901.5").unwrap());
    let list = Value::Array(vec![Value::Int(1), Value::Timestamp(now)]);
    // Field, value, whether it is taken, whether it then is the very same.
    let cases: Vec<(&str, Value, bool, bool)> = vec![
        ("t", text("12"), true, true),
        ("t", text("nul \0 in it"), true, true),
        ("t", Value::Int(12), false, false),
        ("t", Value::Double(0.5), false, false),
        ("t", Value::Bool(true), false, false),
        ("t", list.clone(), false, false),
        ("t", Value::Timestamp(now), false, false),
        ("t", Value::Bytes(vec![0, 255]), true, true),
        ("i", Value::Int(i64::MIN), true, true),
        ("i", text("12"), false, false),
        ("i", text("twelve"), true, true),
        ("i", Value::Double(0.5), true, true),
        ("i", Value::Double(3.0), true, false),
        ("i", Value::Double(-0.0), false, false),
        ("i", Value::Bool(true), false, false),
        ("r", Value::Int(3), true, false),
        ("r", Value::Int((1 << 53) + 1), false, false),
        ("r", Value::Double(f64::NAN), false, false),
        ("r", Value::Double(f64::INFINITY), true, true),
        ("r", Value::Double(1e300), true, true),
        ("n", huge.clone(), false, false),
        ("n", text(" 1e5"), false, false),
        ("b", Value::Bool(false), true, true),
        ("b", Value::Int(1), false, false),
        ("b", Value::Int(2), true, true),
        ("j", list, true, true),
        ("j", text("12"), true, true),
        ("j", text("plain"), true, true),
        ("j", Value::Bool(true), true, true),
        ("j", Value::Int(7), true, true),
        ("j", Value::Double(0.25), true, true),
        ("j", huge.clone(), false, false),
        ("at", Value::Timestamp(now), true, true),
        ("at", text("2024-01-31 08:00:00"), true, true),
        ("at", text("2024-01-31"), true, true),
        ("x", huge, false, false),
        ("x", Value::Int(1), true, true),
        ("x", Value::Double(-0.0), true, true),
        ("x", text("1"), true, true),
        ("nested.name", Value::Timestamp(now), true, true),
    ];
    let config = CollectionConfig {
        rest: Some("rest".into()),
        ..CollectionConfig::default()
    };
    let app = app(TABLE);
    let store = open_with(&app.path, Some(config.clone())).await;
    let plain = open_with(
        &app.path,
        Some(CollectionConfig {
            plain: true,
            ..config
        }),
    )
    .await;
    for (i, (field, value, taken, same)) in (1_i64..).zip(cases) {
        let what = format!("{field} = {value:?}");
        let write = Write {
            collection: "c".into(),
            key: Key::Int(i),
            to: Some(Body::Map(map(&[(field, value.clone())]))),
            guard: Guard::Any,
        };
        let outcome = store
            .write(std::slice::from_ref(&write))
            .await
            .unwrap()
            .remove(0);
        match outcome {
            WriteOutcome::Applied => {
                assert!(taken, "{what} was taken");
                let found = one(&*store, i).await.body.map().unwrap().into_owned();
                assert_eq!(found.get(field) == Some(&value), same, "{what}: {found:?}");
            }
            WriteOutcome::Refused(refusal) => {
                assert!(!taken, "{what}: {}", refusal.message);
                assert!(refusal.message.contains(field), "{}", refusal.message);
            }
            WriteOutcome::Lost => panic!("{what}"),
        }
        assert_eq!(
            plain.write(&[write]).await.unwrap(),
            [WriteOutcome::Applied],
            "plain {what}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn constraints_refuse_one_document() {
    let app = app("CREATE TABLE parent (id INTEGER PRIMARY KEY);
         INSERT INTO parent VALUES (1);
         CREATE TABLE c (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE CHECK (length(name) < 9),
           parent INTEGER REFERENCES parent);
         CREATE TRIGGER t BEFORE INSERT ON c WHEN NEW.name = 'secret'
         BEGIN SELECT RAISE(ABORT, 'do not tell: secret'); END;");
    let store = app.open().await;
    let row = |id: i64, name: &str, parent: i64| {
        write(
            id,
            &format!("{{\"name\":\"{name}\",\"parent\":{parent}}}"),
            Guard::Absent,
        )
    };
    let mut writes = vec![
        row(1, "one", 1),
        row(2, "one", 1),
        row(3, "much too long", 1),
        row(4, "four", 99),
        row(5, "secret", 1),
        row(6, "six", 1),
    ];
    writes.push(write(7, r#"{"parent":1}"#, Guard::Absent));
    writes.push(write(8, r#"{"id":9,"name":"eight"}"#, Guard::Absent));
    writes.push(write(9, r#"{"name":"nine","other":1}"#, Guard::Absent));
    let outcomes = store.write(&writes).await.unwrap();
    let told: Vec<&str> = outcomes
        .iter()
        .map(|o| match o {
            WriteOutcome::Refused(refusal) => refusal.message.as_str(),
            _ => "",
        })
        .collect();
    let expect = [
        "",
        "UNIQUE",
        "CHECK",
        "FOREIGN KEY",
        "a trigger",
        "",
        "NOT NULL",
        "\"id\"",
        "\"other\"",
    ];
    for (told, expect) in told.iter().zip(expect) {
        assert_eq!(told.is_empty(), expect.is_empty(), "{told} {expect}");
        assert!(
            told.contains(expect) && !told.contains("secret"),
            "{told} {expect}"
        );
    }
    assert_eq!(app.number("SELECT COUNT(*) FROM c"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_trigger_ignores_is_not_applied() {
    let app = app(
        "CREATE TABLE c (id INTEGER PRIMARY KEY, data TEXT NOT NULL);
         INSERT INTO c VALUES (1, '{\"n\":1}');
         CREATE TRIGGER i BEFORE INSERT ON c WHEN NEW.id > 10 BEGIN SELECT RAISE(IGNORE); END;
         CREATE TRIGGER u BEFORE UPDATE ON c BEGIN SELECT RAISE(IGNORE); END;",
    );
    let store = app.open().await;
    let writes = [
        write(2, r#"{"n":2}"#, Guard::Any),
        write(11, r#"{"n":3}"#, Guard::Any),
        write(12, r#"{"n":4}"#, Guard::Absent),
        write(1, r#"{"n":5}"#, Guard::Any),
    ];
    let outcomes = store.write(&writes).await.unwrap();
    let lost = WriteOutcome::Lost;
    assert_eq!(
        outcomes,
        [WriteOutcome::Applied, lost.clone(), lost.clone(), lost]
    );
}
