//! Locks, killed connections, lost answers: what is said of a batch is what became of it.

use super::stage::{Stage, get, one, put};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use whimbrel_model::{Code, Guard, KeyKind, StoreErrorKind, Write, WriteOutcome};
use whimbrel_stores::OpenOptions;

const TABLE: &str = "CREATE TABLE docs (id text PRIMARY KEY, data jsonb NOT NULL); \
    INSERT INTO docs SELECT 'k' || g, '{\"n\":0}' FROM generate_series(1, 100) g";

/// The app holds a row's lock, changes the row and commits while a guarded write waits: the guard is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_waited_for_a_lock_sees_what_was_committed() {
    let Some(stage) = Stage::new(TABLE).await else {
        return;
    };
    let store = stage.store().await;
    let mut app = stage.schema.client().await;
    for (round, many) in [(1, false), (2, true), (3, false), (4, true)] {
        let delete = round > 2;
        let keys: Vec<_> = (1..=if many { 60 } else { 1 })
            .map(|i| format!("k{i}").as_str().into())
            .collect();
        let documents = store.get("docs", &keys).await.unwrap();
        let writes: Vec<Write> = documents
            .into_iter()
            .flatten()
            .map(|d| {
                let mut write = put("docs", d.key, "{\"n\":-1}", Guard::Unchanged(d.revision));
                if delete {
                    write.to = None;
                }
                write
            })
            .collect();
        let transaction = app.transaction().await.unwrap();
        let sql = format!("UPDATE docs SET data = '{{\"n\":{round}}}' WHERE id = 'k1'");
        transaction.batch_execute(&sql).await.unwrap();
        let writer = {
            let store = store.clone();
            tokio::spawn(async move { store.write(&writes).await })
        };
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!writer.is_finished(), "the write waits for the app's lock");
        transaction.commit().await.unwrap();
        let outcomes = writer.await.unwrap().unwrap();
        assert_eq!(outcomes[0], WriteOutcome::Lost, "round {round}");
        assert!(
            outcomes[1..].iter().all(|o| *o == WriteOutcome::Applied),
            "round {round}"
        );
        assert_eq!(
            stage
                .text("SELECT data->>'n' FROM docs WHERE id = 'k1'")
                .await,
            round.to_string()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_and_killed_connections_are_transient() {
    let Some(stage) = Stage::new(TABLE).await else {
        return;
    };
    let url = format!("{}%20-clock_timeout%3D200", stage.schema.url);
    let store = whimbrel_stores::open(&url, &OpenOptions::default())
        .await
        .unwrap();
    let mut app = stage.schema.client().await;
    let transaction = app.transaction().await.unwrap();
    transaction.batch_execute("LOCK TABLE docs").await.unwrap();
    let write = put("docs", "k1", "{\"n\":9}", Guard::Any);
    let error = store.write(std::slice::from_ref(&write)).await.unwrap_err();
    assert_eq!(
        (error.kind, error.code),
        (StoreErrorKind::Transient, Code::StoreUnavailable),
        "{error}"
    );
    assert!(error.to_string().contains("55P03"), "{error}");

    let patient = stage.store().await;
    let writer = tokio::spawn(async move { patient.write(&[write]).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks l \
        WHERE relation = 'docs'::regclass AND NOT granted";
    assert_eq!(stage.number(kill).await, 1);
    let error = writer.await.unwrap().unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Transient, "{error}");
    transaction.rollback().await.unwrap();
    assert_eq!(
        stage
            .number("SELECT count(*) FROM docs WHERE data->>'n' <> '0'")
            .await,
        0
    );
    // A killed connection in the pool is replaced.
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE application_name = 'whimbrel' AND state = 'idle' AND pid <> pg_backend_pid() \
        AND query LIKE '%docs%'";
    stage.app.query(kill, &[]).await.unwrap();
    let mut last = None;
    for _ in 0..10 {
        match store
            .write(&[put("docs", "k2", "{\"n\":1}", Guard::Any)])
            .await
        {
            Ok(outcomes) => {
                assert_eq!(outcomes, [WriteOutcome::Applied]);
                return;
            }
            Err(error) => assert_eq!(error.kind, StoreErrorKind::Transient, "{error}"),
        }
        last = Some(());
    }
    panic!("the pool does not recover: {last:?}");
}

/// What a proxy does to the connection once it sees COMMIT.
const PASS: u8 = 0;
const CUT_BEFORE: u8 = 1;
const CUT_AFTER: u8 = 2;

/// Forwards to the server, and cuts the line around a COMMIT when told to.
async fn proxy(server: String, mode: Arc<AtomicU8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&server).await.unwrap();
            tokio::spawn(forward(client, server, mode.clone()));
        }
    });
    port
}

async fn forward(client: TcpStream, server: TcpStream, mode: Arc<AtomicU8>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut buffer = vec![0; 1 << 16];
    while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
        let commits = buffer[..n].windows(7).any(|w| w == b"COMMIT\0");
        let mode = if commits {
            mode.load(Ordering::SeqCst)
        } else {
            PASS
        };
        if mode == CUT_BEFORE {
            break;
        }
        if mode == CUT_AFTER {
            // The server gets it, its answer is lost.
            back.abort();
        }
        if to_server.write_all(&buffer[..n]).await.is_err() {
            break;
        }
        if mode == CUT_AFTER {
            tokio::time::sleep(Duration::from_millis(300)).await;
            break;
        }
    }
    back.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_commit_is_unknown() {
    let Some(stage) = Stage::new(TABLE).await else {
        return;
    };
    let address = std::env::var("WHIMBREL_TEST_POSTGRES").unwrap();
    let config: tokio_postgres::Config = address.parse().unwrap();
    let Some(tokio_postgres::config::Host::Tcp(host)) = config.get_hosts().first() else {
        println!("SKIPPED: the server is reached by a socket, which the proxy is not made for");
        return;
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let mode = Arc::new(AtomicU8::new(PASS));
    let proxied = proxy(format!("{host}:{port}"), mode.clone()).await;
    let url = stage.schema.url.replacen(
        &format!("{host}:{port}"),
        &format!("127.0.0.1:{proxied}"),
        1,
    );
    let url = format!("{url}&sslmode=disable");
    let store = whimbrel_stores::open(&url, &OpenOptions::default())
        .await
        .unwrap();
    for (cut, landed) in [(CUT_BEFORE, false), (CUT_AFTER, true)] {
        let before = get(&*store, "docs", "k1").await;
        let write = put(
            "docs",
            "k1",
            &format!("{{\"n\":{cut}}}"),
            Guard::Unchanged(before.revision),
        );
        mode.store(cut, Ordering::SeqCst);
        let error = store.write(std::slice::from_ref(&write)).await.unwrap_err();
        mode.store(PASS, Ordering::SeqCst);
        assert_eq!(
            (error.kind, error.code),
            (StoreErrorKind::Unknown, Code::StoreUnknown),
            "{error}"
        );
        // The server may still be at it.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let n = stage
            .text("SELECT data->>'n' FROM docs WHERE id = 'k1'")
            .await;
        assert_eq!(
            n == cut.to_string(),
            landed,
            "what became of it is found by reading"
        );
        // A blind retry does no harm either: its guard is lost if the first one landed.
        let again = one(&*store, write).await;
        assert_eq!(again == WriteOutcome::Lost, landed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_changes_meanwhile() {
    let Some(stage) = Stage::new(TABLE).await else {
        return;
    };
    let store = stage.store().await;
    get(&*store, "docs", "k1").await;
    stage
        .app
        .batch_execute("ALTER TABLE docs ALTER data TYPE json")
        .await
        .unwrap();
    let mut errors = 0;
    while let Err(error) = store.get("docs", &["k1".into()]).await {
        assert_eq!(error.kind, StoreErrorKind::Transient, "{error}");
        errors += 1;
        assert!(errors < 3, "{error}");
    }
    one(&*store, put("docs", "k1", "{\"n\":5}", Guard::Any)).await;
    assert_eq!(
        stage
            .text("SELECT data->>'n' FROM docs WHERE id = 'k1'")
            .await,
        "5"
    );
    stage.app.batch_execute("DROP TABLE docs").await.unwrap();
    let error = store.get("docs", &["k1".into()]).await.unwrap_err();
    assert_eq!(
        (error.kind, error.code),
        (StoreErrorKind::Terminal, Code::StoreMissing),
        "{error}"
    );
    store.ensure("docs", &KeyKind::Int).await.unwrap();
    assert_eq!(
        one(&*store, put("docs", 1, "{}", Guard::Absent)).await,
        WriteOutcome::Applied
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_there_is_a_word() {
    let sql = format!(
        "{TABLE}; DROP ROLE IF EXISTS whimbrel_guest; CREATE ROLE whimbrel_guest LOGIN PASSWORD 'hush4711'"
    );
    let Some(stage) = Stage::new(&sql).await else {
        return;
    };
    let as_guest = |url: &str, login: &str| {
        let (_, place) = url.split_once("://").unwrap();
        let place = place.split_once('@').map_or(place, |(_, place)| place);
        format!("postgres://{login}@{place}")
    };
    let schema = stage.text("SELECT current_schema()::text").await;
    let sql = format!(
        "GRANT USAGE ON SCHEMA {schema} TO whimbrel_guest; GRANT SELECT ON docs TO whimbrel_guest"
    );
    stage.app.batch_execute(&sql).await.unwrap();
    let url = as_guest(&stage.schema.url, "whimbrel_guest:hush4711");
    let store = whimbrel_stores::open(&url, &OpenOptions::default())
        .await
        .unwrap();
    assert!(!store.name().contains("4711") && !format!("{store:?}").contains("4711"));
    get(&*store, "docs", "k1").await;
    let error = store
        .write(&[put("docs", "k1", "{}", Guard::Any)])
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.code),
        (StoreErrorKind::Terminal, Code::StoreDenied),
        "{error}"
    );
    drop(store);
    let missing = url.replacen("/postgres", "/no_such_database", 1);
    if missing != url {
        let error = whimbrel_stores::open(&missing, &OpenOptions::default())
            .await
            .unwrap_err();
        assert_eq!(error.code, Code::StoreMissing, "{error}");
        assert!(!format!("{error:?}{error}").contains("4711"), "{error:?}");
    }
    let sql = "DROP OWNED BY whimbrel_guest; DROP ROLE whimbrel_guest";
    stage.app.batch_execute(sql).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listens() {
    let url = "postgres://u:hush4711@127.0.0.1:1/x?connect_timeout=2";
    let error = whimbrel_stores::open(url, &OpenOptions::default())
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.code),
        (StoreErrorKind::Transient, Code::StoreUnavailable),
        "{error}"
    );
    assert!(!format!("{error:?}{error}").contains("4711"), "{error:?}");
}
