//! One document that the server refuses leaves the others of its batch, whichever way they were sent.

use super::stage::{Stage, get, one, put, refusal};
use whimbrel_model::{Guard, Key, Write, WriteOutcome};

const N: i64 = 300;

fn is_bad(id: i64) -> bool {
    id % 97 == 5
}

fn body(id: i64) -> String {
    let kind = if is_bad(id) { "secret4711" } else { "fine" };
    format!("{{\"kind\":\"{kind}\",\"id\":{id},\"email\":\"m{id}\"}}")
}

const TABLE: &str = "CREATE TABLE docs (id bigint PRIMARY KEY, data jsonb NOT NULL, \
    CONSTRAINT kind_known CHECK (data->>'kind' <> 'secret4711')); \
    CREATE UNIQUE INDEX email ON docs ((data->>'email'));";

fn check(outcomes: &[WriteOutcome], writes: &[Write]) {
    for (outcome, write) in outcomes.iter().zip(writes) {
        let Key::Int(id) = write.key else {
            panic!("{:?}", write.key)
        };
        if is_bad(id) {
            let message = refusal(outcome);
            assert!(
                message.contains("kind_known") && message.contains("23514"),
                "{message}"
            );
            assert!(!message.contains("4711"), "{message}");
        } else {
            assert_eq!(*outcome, WriteOutcome::Applied, "{id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inserted_upserted_updated() {
    let Some(stage) = Stage::new(TABLE).await else {
        return;
    };
    let store = stage.store().await;
    let good = N - (0..N).filter(|id| is_bad(*id)).count() as i64;
    for guard in [Guard::Absent, Guard::Any] {
        let writes: Vec<Write> = (0..N)
            .map(|id| put("docs", id, &body(id), guard.clone()))
            .collect();
        check(&store.write(&writes).await.unwrap(), &writes);
        assert_eq!(stage.number("SELECT count(*) FROM docs").await, good);
        stage.app.batch_execute("DELETE FROM docs").await.unwrap();
    }
    let fill = format!(
        "INSERT INTO docs SELECT g, jsonb_build_object('kind', 'old', 'email', 'm' || g) \
         FROM generate_series(0, {}) g",
        N - 1
    );
    stage.app.batch_execute(&fill).await.unwrap();
    let keys: Vec<Key> = (0..N).map(Key::Int).collect();
    let revisions = store.get("docs", &keys).await.unwrap();
    let writes: Vec<Write> = revisions
        .into_iter()
        .flatten()
        .map(|d| match d.key {
            Key::Int(id) => put("docs", id, &body(id), Guard::Unchanged(d.revision)),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(writes.len() as i64, N);
    check(&store.write(&writes).await.unwrap(), &writes);
    assert_eq!(
        stage
            .number("SELECT count(*) FROM docs WHERE data->>'kind' = 'fine'")
            .await,
        good
    );
}

/// A second unique constraint is a refusal, the key's own is a lost guard.
#[tokio::test(flavor = "multi_thread")]
async fn two_kinds_of_unique() {
    let Some(stage) = Stage::new(TABLE).await else {
        return;
    };
    let store = stage.store().await;
    let sql = "INSERT INTO docs SELECT g, jsonb_build_object('kind', 'old', 'email', 'm' || g + 1000) \
        FROM generate_series(10, 59) g";
    stage.app.batch_execute(sql).await.unwrap();
    for n in [200, 4] {
        // 10.. are there; one e-mail address is taken by another key.
        let writes: Vec<Write> = (0..n)
            .map(|i| {
                let id = if i == 0 { 9 } else { i + 50 };
                let email = if i == 0 {
                    "m1011".to_owned()
                } else {
                    format!("n{n}-{id}")
                };
                let json = format!("{{\"kind\":\"x\",\"email\":\"{email}\"}}");
                put("docs", id, &json, Guard::Absent)
            })
            .collect();
        let outcomes = store.write(&writes).await.unwrap();
        assert!(refusal(&outcomes[0]).contains("email"), "{:?}", outcomes[0]);
        for (write, outcome) in writes.iter().zip(&outcomes).skip(1) {
            let there = write.key <= Key::Int(59);
            let expect = if there {
                WriteOutcome::Lost
            } else {
                WriteOutcome::Applied
            };
            assert_eq!(*outcome, expect, "{}", write.key);
        }
        stage
            .app
            .batch_execute("DELETE FROM docs WHERE id >= 60")
            .await
            .unwrap();
    }
}

/// References inside a batch hold whatever its order; a missing one is refused, also where the server
/// would notice only at COMMIT.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_keys() {
    for deferred in ["", "DEFERRABLE INITIALLY DEFERRED"] {
        let sql = format!(
            "CREATE TABLE people (id int PRIMARY KEY, boss int REFERENCES people {deferred}, name text); \
             CREATE TABLE dogs (id int PRIMARY KEY, owner int NOT NULL REFERENCES people {deferred})"
        );
        let Some(stage) = Stage::new(&sql).await else {
            return;
        };
        let store = stage.store().await;
        let dog =
            |id: i64, owner: i64| put("dogs", id, &format!("{{\"owner\":{owner}}}"), Guard::Absent);
        let person =
            |id: i64, boss: i64| put("people", id, &format!("{{\"boss\":{boss}}}"), Guard::Absent);
        // Dogs before their owners, everyone's boss is the next one.
        let mut writes: Vec<Write> = (0..40).map(|id| dog(id, id)).collect();
        writes.extend((0..40).map(|id| person(id, (id + 1).min(39))));
        assert_eq!(
            store.write(&writes).await.unwrap(),
            vec![WriteOutcome::Applied; 80],
            "{deferred}"
        );
        let mut writes: Vec<Write> = (40..80)
            .map(|id| person(id, if id == 50 { 4711 } else { 1 }))
            .collect();
        writes.push(dog(100, 50));
        writes.push(dog(101, 51));
        let outcomes = store.write(&writes).await.unwrap();
        for (i, outcome) in outcomes.iter().enumerate() {
            if i == 10 || i == 40 {
                let message = refusal(outcome);
                assert!(
                    message.contains("23503") && !message.contains("4711"),
                    "{message}"
                );
            } else {
                assert_eq!(*outcome, WriteOutcome::Applied, "{i}");
            }
        }
        assert_eq!(stage.number("SELECT count(*) FROM people").await, 79);
    }
}

/// What a trigger swallows was not written, and is not said to be.
#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_keeps_rows_out() {
    let sql = "CREATE TABLE docs (id int PRIMARY KEY, data jsonb NOT NULL); \
        CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        IF NEW.id % 10 = 3 THEN RETURN NULL; END IF; \
        IF NEW.id % 10 = 4 THEN RAISE 'secret4711'; END IF; RETURN NEW; END $$; \
        CREATE TRIGGER t BEFORE INSERT OR UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION f()";
    let Some(stage) = Stage::new(sql).await else {
        return;
    };
    let store = stage.store().await;
    for (guard, n) in [
        (Guard::Absent, 60),
        (Guard::Any, 60),
        (Guard::Absent, 5),
        (Guard::Any, 5),
    ] {
        let writes: Vec<Write> = (0..n)
            .map(|id| put("docs", id, "{}", guard.clone()))
            .collect();
        let outcomes = store.write(&writes).await.unwrap();
        for (id, outcome) in outcomes.iter().enumerate() {
            match id % 10 {
                3 => assert_eq!(*outcome, WriteOutcome::Lost, "{id}"),
                4 => assert!(!refusal(outcome).contains("4711"), "{outcome:?}"),
                _ => assert_eq!(*outcome, WriteOutcome::Applied, "{id} {guard:?}"),
            }
        }
        stage.app.batch_execute("DELETE FROM docs").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_jsonb_cannot_hold() {
    let sql = "CREATE TABLE js (id text PRIMARY KEY, data json); CREATE TABLE tx (id text PRIMARY KEY, data text)";
    let Some(stage) = Stage::new(sql).await else {
        return;
    };
    let store = stage.store().await;
    store
        .ensure("jb", &whimbrel_model::KeyKind::Text)
        .await
        .unwrap();
    let cases = [
        (r#"{"a":"x\u0000y"}"#, "U+0000"),
        (r#"{"x\u0000y":1}"#, "U+0000"),
        (r#"{"a":"\ud800"}"#, "surrogate"),
    ];
    for (i, (json, why)) in cases.into_iter().enumerate() {
        let key = format!("k{i}");
        let refused = one(&*store, put("jb", key.as_str(), json, Guard::Any)).await;
        assert!(refusal(&refused).contains(why), "{json}");
        for collection in ["js", "tx"] {
            let write = put(collection, key.as_str(), json, Guard::Any);
            assert_eq!(one(&*store, write).await, WriteOutcome::Applied, "{json}");
            let found = get(&*store, collection, key.as_str()).await;
            assert_eq!(found.body.json().as_ref(), json.as_bytes());
        }
    }
    let digits = format!("{{\"a\":1{}}}", "0".repeat(140_000));
    let mut writes: Vec<Write> = (0..30)
        .map(|i| put("jb", format!("f{i}").as_str(), "{}", Guard::Absent))
        .collect();
    writes.push(put("jb", "huge number", &digits, Guard::Absent));
    // Too long for an index, and of no pattern that could be compressed.
    let long: String = (0..3000u32)
        .map(|i| format!("{:08x}", i.wrapping_mul(2_654_435_761)))
        .collect();
    writes.push(put("jb", long.as_str(), "{}", Guard::Absent));
    writes.push(put("jb", "nul\0key", "{}", Guard::Absent));
    let outcomes = store.write(&writes).await.unwrap();
    for (i, outcome) in outcomes.iter().enumerate() {
        if i < 30 {
            assert_eq!(*outcome, WriteOutcome::Applied);
        } else {
            refusal(outcome);
        }
    }
}
