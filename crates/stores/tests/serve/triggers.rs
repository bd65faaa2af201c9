//! Triggers of the app's own, which a gateway's write sets off.

use crate::foreign::{net, step};
use crate::subject::{Subject, n, number, place};
use whimbrel_firestore::backend::Change;
use whimbrel_model::{Code, StoreErrorKind};

const TABLES: &str = "CREATE TABLE users (id TEXT PRIMARY KEY NOT NULL, data TEXT NOT NULL);
    CREATE TABLE notes (id TEXT PRIMARY KEY NOT NULL, data TEXT NOT NULL);";

/// What others changed, by the backend; settled then.
async fn others(subject: &Subject) -> Vec<Change> {
    let foreign = subject.backend().foreign(100).await.unwrap();
    subject.settle(foreign.mark).await;
    foreign.changes
}

pub async fn what_own_writes_set_off(mut subject: Subject) {
    subject.sql(TABLES).await;
    // A table that nobody named yet is not watched everywhere.
    subject.reopen().await;
    subject
        .dialect(
            "CREATE TRIGGER tell AFTER INSERT ON users BEGIN
               INSERT INTO notes VALUES (NEW.id, '{\"n\":1}'); END;
             CREATE TRIGGER retell AFTER UPDATE ON users BEGIN
               UPDATE notes SET data = json_object('n', json_extract(data, '$.n') + 1) WHERE id = NEW.id; END;
             CREATE TRIGGER forget AFTER DELETE ON users BEGIN DELETE FROM notes WHERE id = OLD.id; END",
            "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF TG_OP = 'DELETE' THEN DELETE FROM notes WHERE id = OLD.id; RETURN NULL; END IF;
               INSERT INTO notes VALUES (NEW.id, '{\"n\":1}') ON CONFLICT (id) DO UPDATE
                 SET data = json_build_object('n', (notes.data::jsonb->>'n')::int + 1)::text;
               RETURN NULL; END $$;
             CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON users
               FOR EACH ROW EXECUTE FUNCTION tell()",
        )
        .await;
    let made = subject
        .commit(&[("users/a", Some(n(7))), ("users/b", Some(n(8)))])
        .await;
    let first = [
        step("notes/a", None, Some(1)),
        step("notes/b", None, Some(1)),
    ];
    assert_eq!(net(&others(&subject).await), first);
    let at = subject.set("users/a", n(9)).await;
    assert_eq!(
        net(&others(&subject).await),
        [step("notes/a", Some(1), Some(2))]
    );
    let a = subject.get("users/a").await.unwrap();
    assert_eq!((a.created, a.updated), (made, at));
    subject.delete("users/b").await;
    assert_eq!(
        net(&others(&subject).await),
        [step("notes/b", Some(1), None)]
    );
    // In what was, too.
    let view = subject.backend().view().await.unwrap();
    let places = [place("notes/a"), place("notes/b"), place("users/b")];
    let then = view.get(&places, Some(at)).await.unwrap();
    assert_eq!(number(&then[1]), Some(1));
    assert_eq!(number(&then[2]), Some(8));
    let now = view.get(&places, None).await.unwrap();
    assert_eq!(
        now.iter().map(number).collect::<Vec<_>>(),
        [Some(2), None, None]
    );
}

pub async fn what_they_make_of_a_document(subject: Subject) {
    subject.sql(TABLES).await;
    subject
        .dialect(
            "CREATE TRIGGER stamp AFTER INSERT ON users BEGIN
               UPDATE users SET data = json_object('n', json_extract(data, '$.n') * 10) WHERE id = NEW.id; END;
             CREATE TRIGGER restamp AFTER UPDATE OF data ON users BEGIN
               UPDATE users SET data = json_object('n', json_extract(data, '$.n') * 10) WHERE id = NEW.id; END",
            "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               NEW.data := json_build_object('n', (NEW.data::jsonb->>'n')::int8 * 10)::text; RETURN NEW; END $$;
             CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION stamp()",
        )
        .await;
    // SQLite's second trigger is set off by the first.
    let by = if subject.replaces() { 100 } else { 10 };
    let own = subject.set("users/a", n(1)).await;
    let a = subject.get("users/a").await.unwrap();
    assert_eq!((a.created, a.updated), (own, own));
    assert_eq!(number(&Some(a)), Some(by));
    // The gateway believes that it holds what it wrote, and so do the indexes.
    assert_eq!(
        net(&others(&subject).await),
        [step("users/a", Some(1), Some(by))]
    );
    subject.set("users/a", n(2)).await;
    assert_eq!(
        net(&others(&subject).await),
        [step("users/a", Some(2), Some(20))]
    );
    // What it was is what the table held.
    let view = subject.backend().view().await.unwrap();
    let then = view.get(&[place("users/a")], Some(own)).await.unwrap();
    assert_eq!(number(&then[0]), Some(by));
    // Where nothing is made of it, nobody else changed anything.
    subject.set("users/b", n(0)).await;
    let changes = others(&subject).await;
    assert!(changes.is_empty() || net(&changes) == [step("users/b", Some(0), Some(0))]);
}

pub async fn a_write_that_they_ignore(subject: Subject) {
    subject.sql(TABLES).await;
    subject
        .commit(&[("users/keep", Some(n(1))), ("users/a", Some(n(1)))])
        .await;
    subject
        .dialect(
            "CREATE TRIGGER i BEFORE INSERT ON users WHEN NEW.id = 'no' BEGIN SELECT RAISE(IGNORE); END;
             CREATE TRIGGER u BEFORE UPDATE ON users WHEN NEW.id = 'keep' BEGIN SELECT RAISE(IGNORE); END;
             CREATE TRIGGER d BEFORE DELETE ON users WHEN OLD.id = 'keep' BEGIN SELECT RAISE(IGNORE); END",
            "CREATE FUNCTION ignore() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
             CREATE TRIGGER i BEFORE INSERT ON users FOR EACH ROW WHEN (NEW.id = 'no') EXECUTE FUNCTION ignore();
             CREATE TRIGGER u BEFORE UPDATE ON users FOR EACH ROW WHEN (NEW.id = 'keep') EXECUTE FUNCTION ignore();
             CREATE TRIGGER d BEFORE DELETE ON users FOR EACH ROW WHEN (OLD.id = 'keep') EXECUTE FUNCTION ignore()",
        )
        .await;
    let before = subject.backend().last_commit().await.unwrap();
    for documents in [
        [("users/no", Some(2)), ("users/a", Some(2))],
        [("users/a", Some(2)), ("users/no", Some(2))],
        [("users/a", Some(2)), ("users/keep", Some(2))],
        [("users/a", None), ("users/keep", None)],
    ] {
        let writes = documents.map(|(path, number)| (path, number.map(n)));
        let error = subject.try_commit(&writes, &[], &[]).await.unwrap_err();
        assert_eq!(
            (error.kind, error.code),
            (StoreErrorKind::Terminal, Code::StoreFailed),
            "{documents:?}: {error}"
        );
        let message = error.to_string();
        assert!(
            message.contains("users") && message.contains("trigger"),
            "{message}"
        );
        // All of it or nothing.
        assert_eq!(number(&subject.get("users/a").await), Some(1));
        assert_eq!(number(&subject.get("users/keep").await), Some(1));
        assert!(subject.get("users/no").await.is_none());
        assert_eq!(subject.backend().last_commit().await.unwrap(), before);
    }
    // What it does not ignore is written as ever.
    subject.set("users/b", n(3)).await;
    subject.set("users/a", n(3)).await;
    assert_eq!(number(&subject.get("users/b").await), Some(3));
    assert_eq!(number(&subject.get("users/a").await), Some(3));
    assert!(others(&subject).await.is_empty());
}
