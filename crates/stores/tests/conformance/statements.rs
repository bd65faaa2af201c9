//! Statements in the store's own language, where it has one.

use super::subject::Subject;
use whimbrel_model::store::StatementOutcome;
use whimbrel_model::{StoreError, StoreErrorKind};

/// Of a database that is there; a statement makes none.
async fn has_statements(subject: &Subject) -> bool {
    subject.text().await;
    let name = subject.store.name();
    name.starts_with("sqlite:") || name.starts_with("postgres")
}

async fn run(subject: &Subject, text: &str) -> StatementOutcome {
    subject
        .store
        .statement(text)
        .await
        .unwrap_or_else(|e| panic!("{text}: {e}"))
}

async fn fails(subject: &Subject, text: &str) -> StoreError {
    match subject.store.statement(text).await {
        Ok(outcome) => panic!("{text}: {outcome:?}"),
        Err(error) => {
            assert_eq!(error.kind, StoreErrorKind::Terminal, "{text}: {error}");
            error
        }
    }
}

async fn rows(subject: &Subject) -> u64 {
    run(subject, "SELECT * FROM notes").await.rows
}

const MADE: &str = "CREATE TABLE notes (id INTEGER PRIMARY KEY, t TEXT NOT NULL UNIQUE);
    INSERT INTO notes VALUES (1, 'a;'), (2, 'b''--'), (3, 'c') -- a comment;
    ;";

pub async fn told_where_there_are_none(subject: &Subject) {
    if !has_statements(subject).await {
        fails(subject, "SELECT 1").await;
    }
}

pub async fn all_or_nothing(subject: &Subject) {
    if !has_statements(subject).await {
        return;
    }
    run(subject, MADE).await;
    assert_eq!(rows(subject).await, 3);
    for text in [
        "INSERT INTO notes VALUES (4, 'd'); INSERT INTO notes VALUES (5, 'd')",
        "INSERT INTO notes VALUES (4, 'd'); SELECT * FROM nothing_here",
        "DELETE FROM notes; SELEC",
        "DROP TABLE notes; CREATE TABLE notes (",
    ] {
        fails(subject, text).await;
        assert_eq!(rows(subject).await, 3, "{text}");
    }
    // It is the app's own database that was changed.
    run(subject, "DELETE FROM notes WHERE id = 1").await;
    let (again, _kept) = subject.read_only().await;
    assert!(again.statement("DELETE FROM notes").await.is_err());
    assert_eq!(rows(subject).await, 2);
}

pub async fn counted(subject: &Subject) {
    if !has_statements(subject).await {
        return;
    }
    let check = async |text: &str, rows: u64, changed: u64| {
        let outcome = run(subject, text).await;
        assert_eq!(outcome, StatementOutcome { rows, changed }, "{text}");
    };
    check("", 0, 0).await;
    check(" -- nothing\n;", 0, 0).await;
    check(MADE, 0, 3).await;
    check("SELECT * FROM notes", 3, 0).await;
    check("UPDATE notes SET t = t || '!' WHERE id > 1; SELECT 1", 1, 2).await;
    check(
        "SELECT * FROM notes; UPDATE notes SET t = t || '!' WHERE id > 7",
        0,
        0,
    )
    .await;
    check(
        "INSERT INTO notes VALUES (8, 'x'), (9, 'y') RETURNING id",
        2,
        2,
    )
    .await;
    check(
        "WITH big AS (SELECT id FROM notes WHERE id > 7) DELETE FROM notes WHERE id IN (SELECT id FROM big)",
        0,
        2,
    )
    .await;
    check(
        "CREATE INDEX by_t ON notes (t); DELETE FROM notes; DROP TABLE notes",
        0,
        3,
    )
    .await;
}

pub async fn transactions_are_refused(subject: &Subject) {
    if !has_statements(subject).await {
        return;
    }
    run(subject, MADE).await;
    for end in [
        "COMMIT",
        "BEGIN",
        "ROLLBACK",
        "END",
        "/* x */ commit ; SELECT 1",
    ] {
        let text = format!("DELETE FROM notes; {end}; DELETE FROM notes");
        let error = fails(subject, &text).await.to_string();
        assert!(error.contains("transaction"), "{error}");
        assert_eq!(rows(subject).await, 3, "{text}");
    }
    let error = fails(subject, "VACUUM").await.to_string();
    assert!(error.contains("VACUUM"), "{error}");
    // A savepoint is no end.
    let text = "SAVEPOINT a; DELETE FROM notes WHERE id = 1; RELEASE SAVEPOINT a";
    assert_eq!(run(subject, text).await.changed, 1);
}

pub async fn errors_quote_nothing(subject: &Subject) {
    if !has_statements(subject).await {
        return;
    }
    run(subject, MADE).await;
    run(subject, "INSERT INTO notes VALUES (7, 's3cret')").await;
    let mut texts = vec![
        "SELECT 's3cret' FROM",
        "SELECT 's3cret",
        "INSERT INTO notes VALUES (8, 's3cret')",
        "SELECT s3cret s3cret s3cret FROM notes",
        "INSERT INTO notes VALUES (7, 's3cret'), (9, NULL)",
    ];
    if subject.store.name().starts_with("postgres") {
        texts.extend([
            "SELECT t::int FROM notes",
            "SELECT t::regclass FROM notes",
            "SELECT t::regtype FROM notes",
            "SELECT t::regrole FROM notes",
            "SELECT t::regnamespace FROM notes",
            "SELECT t::regprocedure FROM notes",
            "SELECT t::date FROM notes WHERE id = 7",
            "CREATE TABLE other AS SELECT t::regclass FROM notes",
            "DO $$ BEGIN RAISE EXCEPTION 's3cret'; END $$",
            "SELECT to_tsquery(t || ' (') FROM notes",
        ]);
    } else {
        texts.extend([
            "SELECT json_extract('{}', t) FROM notes",
            "SELECT json(t) FROM notes",
            "SELECT 1 WHERE 'a' MATCH 's3cret'",
            "CREATE TRIGGER no BEFORE DELETE ON notes BEGIN SELECT RAISE(ABORT, 's3cret'); END;
             DELETE FROM notes",
            "SELECT ?1, 's3cret'",
        ]);
    }
    for text in texts {
        let error = fails(subject, text).await;
        let whole = format!("{error} {error:?}");
        assert!(!whole.contains("s3cret"), "{text}: {whole}");
        println!("{text}\n  {error}");
    }
}
