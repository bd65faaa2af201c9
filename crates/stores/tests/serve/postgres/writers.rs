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

/// Whoever read while the app's transaction was under way reads the same at that time for ever: before it is settled,
/// and after.
#[tokio::test(flavor = "multi_thread")]
async fn what_commits_late_is_not_in_the_past_of_who_read_before() {
    let Some(subject) = postgres().await else {
        return;
    };
    let made = subject
        .commit(&[("users/a", Some(n(1))), ("users/gone", Some(n(1)))])
        .await;
    let mut app = subject.schema().client().await;
    let late = app.transaction().await.unwrap();
    late.batch_execute(
        "UPDATE users SET data = '{\"n\": 2}' WHERE id = 'a'; DELETE FROM users WHERE id = 'gone'; \
         INSERT INTO users VALUES ('new', '{\"n\": 2}'); UPDATE users SET data = '{\"n\": 3}' WHERE id = 'a'",
    )
    .await
    .unwrap();
    let read_at = now();
    let places = [place("users/a"), place("users/gone"), place("users/new")];
    let numbers = |found: Vec<_>| found.iter().map(number).collect::<Vec<_>>();
    let then = [Some(1), Some(1), None];
    late.commit().await.unwrap();
    let own = subject.backend().view().await.unwrap().at();
    // What others' statements say of their times is not the time of anything that a view shows.
    assert_eq!(own, made);
    for settled in [false, true] {
        let view = subject.backend().view().await.unwrap();
        let found = view.get(&places, Some(read_at)).await.unwrap();
        assert_eq!(numbers(found), then, "{settled}");
        let found = view.get(&places, None).await.unwrap();
        assert_eq!(numbers(found), [Some(3), None, Some(2)]);
        let since = view.changed(read_at, None, None, 10).await.unwrap();
        let steps: Vec<_> = since
            .iter()
            .map(|change| (number(&change.before), number(&change.after)))
            .collect();
        let expect = [(Some(1), Some(3)), (Some(1), None), (None, Some(2))];
        assert_eq!(steps, expect, "{settled}");
        let until = Some(read_at);
        assert!(view.changed(own, until, None, 10).await.unwrap().is_empty());
        let (_, mark) = noted(subject.backend()).await;
        assert_eq!(mark.is_none(), settled);
        subject.settle(mark).await;
    }
    // The documents say the same times as the log.
    let view = subject.backend().view().await.unwrap();
    for path in ["users/a", "users/new"] {
        let stored = subject.get(path).await.unwrap();
        assert!(stored.updated > read_at && stored.updated <= view.at());
        let before = view.get(&[place(path)], Some(stored.updated - 1)).await;
        assert_ne!(number(&before.unwrap()[0]), number(&Some(stored)));
    }
    let new = subject.get("users/new").await.unwrap();
    assert_eq!(new.created, new.updated);
    let again = subject.set("users/a", n(4)).await;
    let view = subject.backend().view().await.unwrap();
    let before = view.get(&places[..1], Some(again - 1)).await.unwrap();
    assert_eq!(number(&before[0]), Some(3));
    assert!(before[0].as_ref().unwrap().updated > read_at);
}

/// Settled in pages, one version of a document after the other.
#[tokio::test(flavor = "multi_thread")]
async fn versions_that_are_settled_one_by_one_have_times_of_their_own() {
    let Some(subject) = postgres().await else {
        return;
    };
    subject.set("users/a", n(0)).await;
    for i in 1..=4 {
        let sql = format!("UPDATE users SET data = '{{\"n\": {i}}}'");
        subject.sql(&sql).await;
    }
    // The gateway writes over the last of them.
    let own = subject.set("users/a", n(9)).await;
    subject.sql("UPDATE users SET data = '{\"n\": 5}'").await;
    let mut settled = Vec::new();
    loop {
        let page = subject.backend().foreign(2).await.unwrap();
        if page.mark.is_none() {
            break;
        }
        subject.settle(page.mark).await;
        settled.push(subject.backend().view().await.unwrap().at());
    }
    assert_eq!(settled.len(), 3);
    let view = subject.backend().view().await.unwrap();
    let a = [place("users/a")];
    for (at, expect, updated) in [
        (own - 1, 0, None),
        (own, 9, Some(own)),
        (settled[1], 9, Some(own)),
        (settled[2] - 1, 9, Some(own)),
        (settled[2], 5, Some(settled[2])),
    ] {
        let then = view.get(&a, Some(at)).await.unwrap().remove(0);
        assert_eq!(number(&then), Some(expect), "{at} {settled:?} {own}");
        let then = then.unwrap().updated;
        assert!(updated.is_none_or(|updated| updated == then), "{at}");
    }
}

/// Keys so long are no document's that is served; the app may do with them what it likes.
#[tokio::test(flavor = "multi_thread")]
async fn keys_too_long_to_be_served_do_not_make_the_app_fail() {
    let sql = "CREATE TABLE users (id text PRIMARY KEY, data jsonb NOT NULL);
        INSERT INTO users SELECT string_agg(md5(i::text), '') || repeat('x', 24), '{\"n\": 0}' FROM generate_series(1, 83) i";
    let Some(subject) = over(sql, &[]).await else {
        return;
    };
    // Of no pattern, so that the index cannot make them small.
    let long = "(SELECT string_agg(md5((i * 7)::text), '') || repeat('x', 24) FROM generate_series(1, 83) i)";
    subject.backend().create_index("x").await.unwrap();
    subject
        .commit(&[("users/a", Some(n(1))), ("users/b", Some(n(2)))])
        .await;
    subject
        .sql(&format!(
            "INSERT INTO users VALUES ({long}, '{{\"n\": 1}}'); UPDATE users SET data = '{{\"n\": 3}}' WHERE id = {long}"
        ))
        .await;
    assert!(noted(subject.backend()).await.0.is_empty());
    // From a key that is served to one that is not, and back.
    subject
        .sql(&format!(
            "UPDATE users SET id = {long} || 'x' WHERE id = 'a'"
        ))
        .await;
    let (changes, _) = noted(subject.backend()).await;
    assert_eq!(paths(&changes), ["users/a"]);
    assert_eq!(number(&changes[0].before), Some(1));
    assert!(changes[0].after.is_none());
    subject
        .sql(&format!("UPDATE users SET id = 'c' WHERE id = {long} || 'x'; DELETE FROM users WHERE id = {long}"))
        .await;
    let (changes, _) = noted(subject.backend()).await;
    assert_eq!(paths(&changes), ["users/a", "users/c"]);
    subject.sql("TRUNCATE users").await;
    let (changes, _) = noted(subject.backend()).await;
    assert_eq!(paths(&changes), ["users/a", "users/b", "users/c"]);
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
