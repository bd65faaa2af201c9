//! Programs that write SQL while the store is served.

use super::{columns, noted, over, paths, setting};
use crate::subject::{n, now, number, place, postgres};
use std::sync::Arc;
use std::time::Duration;
use whimbrel_firestore::backend::{Batch, Found, There};
use whimbrel_model::{Guard, Key, KeyRange, Write};
use whimbrel_stores::OpenOptions;

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_commits_late_is_noted_all_the_same() {
    let Some(subject) = postgres().await else {
        return;
    };
    subject
        .commit(&[("users/a", Some(n(1))), ("users/b", Some(n(1)))])
        .await;
    let mut app = subject.schema().client().await;
    let late = app.transaction().await.unwrap();
    late.batch_execute("UPDATE users SET data = '{\"n\": 2}' WHERE id = 'a'")
        .await
        .unwrap();
    // Another one comes and goes, and own commits, too.
    subject
        .sql("UPDATE users SET data = '{\"n\": 3}' WHERE id = 'b'")
        .await;
    let (changes, mark) = noted(subject.backend()).await;
    assert_eq!(paths(&changes), ["users/b"]);
    subject.settle(mark).await;
    let between = subject.set("users/c", n(4)).await;
    assert_eq!(
        number(&subject.get("users/a").await),
        Some(1),
        "nothing of it is seen"
    );
    late.commit().await.unwrap();
    assert_eq!(
        number(&subject.get("users/a").await),
        Some(2),
        "all of it is seen"
    );
    let (changes, mark) = noted(subject.backend()).await;
    assert_eq!(paths(&changes), ["users/a"]);
    assert_eq!(
        (number(&changes[0].before), number(&changes[0].after)),
        (Some(1), Some(2))
    );
    subject.settle(mark).await;
    // It was written before `between`, but whoever read at that time did not see it.
    let view = subject.backend().view().await.unwrap();
    let since = view.changed(between, None, None, 10).await.unwrap();
    assert_eq!(paths(&since), ["users/a"]);
    let then = view.get(&[place("users/a")], Some(between)).await.unwrap();
    assert_eq!(number(&then[0]), Some(1));
    assert!(noted(subject.backend()).await.0.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_wrote_over_stays_in_order() {
    let Some(subject) = postgres().await else {
        return;
    };
    let first = subject.set("users/a", n(1)).await;
    subject.sql("UPDATE users SET data = '{\"n\": 2}'").await;
    let own = subject.set("users/a", n(3)).await;
    let (changes, mark) = noted(subject.backend()).await;
    assert_eq!(number(&changes[0].before), Some(1));
    assert_eq!(number(&changes[0].after), Some(3));
    subject.settle(mark).await;
    let view = subject.backend().view().await.unwrap();
    let at = async |at| number(&view.get(&[place("users/a")], Some(at)).await.unwrap()[0]);
    // It was taken in after it was written over: there was no time at which clients could have seen it.
    assert_eq!(
        (at(first).await, at(own - 1).await, at(own).await),
        (Some(1), Some(1), Some(3))
    );
    let since = view.changed(first, Some(own), None, 10).await.unwrap();
    assert_eq!(
        (number(&since[0].before), number(&since[0].after)),
        (Some(1), Some(3))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn truncate_is_a_delete_of_every_row() {
    let Some(subject) = postgres().await else {
        return;
    };
    let made = subject
        .commit(&[("users/a", Some(n(1))), ("users/b", Some(n(2)))])
        .await;
    subject.sql("TRUNCATE users").await;
    assert!(subject.get("users/a").await.is_none());
    let (changes, mark) = noted(subject.backend()).await;
    let befores: Vec<_> = changes
        .iter()
        .map(|change| number(&change.before))
        .collect();
    assert_eq!(
        (paths(&changes), befores),
        (
            vec!["users/a".into(), "users/b".into()],
            vec![Some(1), Some(2)]
        )
    );
    assert!(changes.iter().all(|change| change.after.is_none()));
    subject.settle(mark).await;
    let view = subject.backend().view().await.unwrap();
    let then = view.get(&[place("users/b")], Some(made)).await.unwrap();
    assert_eq!(number(&then[0]), Some(2));
    let again = subject.set("users/a", n(5)).await;
    assert_eq!(subject.get("users/a").await.unwrap().created, again);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_write_the_table_needs_no_other_right() {
    let Some(subject) = postgres().await else {
        return;
    };
    subject
        .commit(&[("users/a", Some(n(1))), ("users/b", Some(n(2)))])
        .await;
    let schema = &subject.schema().name;
    let role = format!("{schema}_app");
    subject
        .sql(&format!(
            "CREATE ROLE {role}; GRANT USAGE ON SCHEMA {schema} TO {role}; \
             GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON users TO {role}"
        ))
        .await;
    let app = subject.schema().client().await;
    app.batch_execute(&format!("SET ROLE {role}"))
        .await
        .unwrap();
    app.batch_execute(
        "INSERT INTO users VALUES ('c', '{\"n\": 3}'); UPDATE users SET data = '{\"n\": 4}' WHERE id = 'a'; \
         DELETE FROM users WHERE id = 'b'",
    )
    .await
    .unwrap();
    let (changes, _) = noted(subject.backend()).await;
    assert_eq!(paths(&changes), ["users/a", "users/b", "users/c"]);
    let denied = app
        .query(&format!("SELECT * FROM whimbrel_serve_{schema}.log"), &[])
        .await;
    assert_eq!(denied.unwrap_err().code().unwrap().code(), "42501");
    app.batch_execute("TRUNCATE users").await.unwrap();
    assert!(subject.get("users/a").await.is_none());
    app.batch_execute("RESET ROLE").await.unwrap();
    subject
        .sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await;
}

/// Both add one to the same number, many times over.
#[tokio::test(flavor = "multi_thread")]
async fn no_increment_is_lost_between_sql_and_the_gateway() {
    let Some(subject) = postgres().await else {
        return;
    };
    subject.set("sums/a", n(0)).await;
    let mut writers = Vec::new();
    for _ in 0..3 {
        let app = subject.schema().client().await;
        writers.push(tokio::spawn(async move {
            for _ in 0..60 {
                let sql = "UPDATE sums SET data = jsonb_set(data, '{n}', to_jsonb((data->>'n')::int8 + 1))";
                app.batch_execute(sql).await.unwrap();
            }
        }));
    }
    let a = place("sums/a");
    for _ in 0..60 {
        let add = setting(&a, |before| {
            let before = before.and_then(|fields| fields.get("n")?.value_type.clone());
            let Some(whimbrel_firestore::v1::value::ValueType::IntegerValue(before)) = before
            else {
                panic!("the document is there");
            };
            Some(n(before + 1))
        });
        subject
            .backend()
            .commit(std::slice::from_ref(&a), add)
            .await
            .unwrap();
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(number(&subject.get("sums/a").await), Some(240));
    let updates = noted(subject.backend()).await.0.len();
    assert_eq!(updates, 180, "each of the others' writes is noted");
}

/// A row that comes between the look and the insert is not written over unseen.
#[tokio::test(flavor = "multi_thread")]
async fn an_insert_in_between_is_seen_before_it_is_decided() {
    let Some(subject) = postgres().await else {
        return;
    };
    subject.set("users/a", n(1)).await;
    let app = subject.schema().client().await;
    let (ask, mut asked) = tokio::sync::mpsc::unbounded_channel::<std::sync::mpsc::Sender<()>>();
    let inserting = tokio::spawn(async move {
        let done = asked.recv().await.unwrap();
        app.batch_execute("INSERT INTO users VALUES ('new', '{\"n\": 7}')")
            .await
            .unwrap();
        done.send(()).unwrap();
    });
    let new = place("users/new");
    let touched = new.clone();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noting = seen.clone();
    let decide = move |found: &Found| {
        noting.lock().unwrap().push(number(
            &found.get(&touched).and_then(There::document).cloned(),
        ));
        if noting.lock().unwrap().len() == 1 {
            let (done, wait) = std::sync::mpsc::channel();
            ask.send(done).unwrap();
            wait.recv().unwrap();
        }
        let at = now();
        let put = crate::subject::put(found, &touched, at, Some(n(8)));
        Batch {
            at,
            documents: vec![put],
            ..Batch::default()
        }
    };
    subject
        .backend()
        .commit(&[new], Box::new(decide))
        .await
        .unwrap();
    inserting.await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [None, Some(7)]);
    assert_eq!(number(&subject.get("users/new").await), Some(8));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_own_writes_set_off_in_the_app_is_others_doing() {
    let sql = "CREATE TABLE people (id text PRIMARY KEY, data jsonb NOT NULL);
        CREATE TABLE notes (id text PRIMARY KEY, data jsonb NOT NULL);
        CREATE TABLE pets (id text PRIMARY KEY, owner text REFERENCES people ON DELETE CASCADE, name text);
        CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          INSERT INTO notes VALUES (NEW.id, jsonb_build_object('n', 1))
            ON CONFLICT (id) DO UPDATE SET data = jsonb_build_object('n', (notes.data->>'n')::int + 1);
          RETURN NULL; END $$;
        CREATE TRIGGER tell AFTER INSERT OR UPDATE ON people FOR EACH ROW EXECUTE FUNCTION tell();
        INSERT INTO people VALUES ('a', '{\"n\": 1}'); INSERT INTO pets VALUES ('p', 'a', 'Pip')";
    let Some(subject) = over(sql, &[("pets", columns())]).await else {
        return;
    };
    let before = subject.get("notes/a").await.unwrap();
    let own = subject.set("people/a", n(2)).await;
    let (changes, mark) = noted(subject.backend()).await;
    assert_eq!(paths(&changes), ["notes/a"]);
    assert_eq!(
        (number(&changes[0].before), number(&changes[0].after)),
        (Some(1), Some(2))
    );
    assert!(subject.get("notes/a").await.unwrap().updated > before.updated);
    assert_eq!(subject.get("people/a").await.unwrap().updated, own);
    subject.settle(mark).await;
    subject.delete("people/a").await;
    let (changes, _) = noted(subject.backend()).await;
    assert_eq!(paths(&changes), ["pets/p"]);
    assert!(changes[0].before.is_some() && changes[0].after.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_changes_rows_on_their_way_in_is_corrected_in_the_indexes() {
    let sql = "CREATE TABLE users (id text PRIMARY KEY, data jsonb NOT NULL);
        CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          NEW.data := jsonb_set(NEW.data, '{n}', to_jsonb((NEW.data->>'n')::int8 * 10)); RETURN NEW; END $$;
        CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION stamp()";
    let Some(subject) = over(sql, &[]).await else {
        return;
    };
    let own = subject.set("users/a", n(1)).await;
    let a = subject.get("users/a").await;
    assert_eq!((number(&a), a.unwrap().updated), (Some(10), own));
    let (changes, mark) = noted(subject.backend()).await;
    assert_eq!(changes.len(), 1);
    assert_eq!(
        (number(&changes[0].before), number(&changes[0].after)),
        (Some(1), Some(10))
    );
    subject.settle(mark).await;
    subject.set("users/a", n(2)).await;
    let (changes, _) = noted(subject.backend()).await;
    assert_eq!(
        (number(&changes[0].before), number(&changes[0].after)),
        (Some(2), Some(20))
    );
    // What it was is what the table held.
    let view = subject.backend().view().await.unwrap();
    let then = view.get(&[place("users/a")], Some(own)).await.unwrap();
    assert_eq!(number(&then[0]), Some(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_reads_and_writes_what_is_served() {
    let Some(subject) = postgres().await else {
        return;
    };
    subject
        .commit(&[("users/a", Some(n(1))), ("users/a/posts/p", Some(n(2)))])
        .await;
    let store = whimbrel_stores::open(&subject.url(), &OpenOptions::default())
        .await
        .unwrap();
    assert_eq!(store.collections().await.unwrap(), ["users", "users/posts"]);
    let page = store
        .scan("users/posts", &KeyRange::all(), 10, 1 << 20)
        .await
        .unwrap();
    assert_eq!(page.documents[0].key, Key::text("a/p"));
    // By COPY, as a large copy goes.
    let writes: Vec<Write> = (0..50)
        .map(|i| Write {
            collection: "users".into(),
            key: Key::text(format!("copied{i}")),
            to: Some(whimbrel_model::Body::from_json(br#"{"n":7}"#.to_vec())),
            guard: Guard::Absent,
        })
        .collect();
    store.write(&writes).await.unwrap();
    assert_eq!(number(&subject.get("users/copied49").await), Some(7));
    assert_eq!(noted(subject.backend()).await.0.len(), 50);
}

/// Rows that were written while nobody watched have no lines in the indexes that are there.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_triggers_were_dropped_is_taken_up_anew() {
    let Some(mut subject) = postgres().await else {
        return;
    };
    subject.commit(&[("users/a", Some(n(1)))]).await;
    subject.backend().create_index("x").await.unwrap();
    let before = subject.get("users/a").await.unwrap();
    subject.close();
    subject
        .sql("DROP TRIGGER whimbrel_serve_row ON users; INSERT INTO users VALUES ('b', '{\"n\": 2}')")
        .await;
    subject.open().await.unwrap();
    assert_eq!(
        paths(&noted(subject.backend()).await.0),
        ["users/a", "users/b"]
    );
    assert!(subject.get("users/a").await.unwrap().updated > before.updated);
    subject.sql("DELETE FROM users WHERE id = 'b'").await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let (changes, _) = noted(subject.backend()).await;
    assert_eq!(number(&changes.last().unwrap().before), Some(2));
}

/// A table may be dropped and made again, and renamed, while it is served.
#[tokio::test(flavor = "multi_thread")]
async fn tables_that_come_and_go_are_followed() {
    let Some(subject) = postgres().await else {
        return;
    };
    subject
        .commit(&[("users/a", Some(n(1))), ("users/b", Some(n(1)))])
        .await;
    subject.backend().create_index("x").await.unwrap();
    subject
        .sql(
            "DROP TABLE users; CREATE TABLE users (id text PRIMARY KEY, data jsonb NOT NULL); \
             INSERT INTO users VALUES ('b', '{\"n\": 2}')",
        )
        .await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let (changes, mark) = noted(subject.backend()).await;
    assert_eq!(paths(&changes), ["users/b"]);
    assert!(changes[0].before.is_none());
    subject.settle(mark).await;
    assert!(subject.get("users/a").await.is_none());
    subject.sql("UPDATE users SET data = '{\"n\": 3}'").await;
    assert_eq!(number(&noted(subject.backend()).await.0[0].before), Some(2));
    subject.sql("ALTER TABLE users RENAME TO people").await;
    assert!(subject.get("users/b").await.is_none());
    assert_eq!(number(&subject.get("people/b").await), Some(3));
}
