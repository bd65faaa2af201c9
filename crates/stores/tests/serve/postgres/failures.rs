//! Lost connections, lost answers, and a second server.

use super::{over, setting};
use crate::subject::{fields, int, n, now, number, place, postgres};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use whimbrel_firestore::backend::{Batch, Found};
use whimbrel_model::{Code, StoreErrorKind};
use whimbrel_stores::{OpenOptions, serve};
use whimbrel_testkit::servers::server;

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_waits_and_is_refused() {
    let Some(mut subject) = postgres().await else {
        return;
    };
    subject.set("users/a", n(1)).await;
    let begun = Instant::now();
    let error = serve::open(&subject.url(), &OpenOptions::default())
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(
        (error.kind, error.code),
        (StoreErrorKind::Terminal, Code::StoreDenied)
    );
    assert!(
        error.message.contains("another server") && error.message.contains("process"),
        "{error}"
    );
    assert!(begun.elapsed() > Duration::from_secs(2));
    subject.set("users/a", n(2)).await;
    // One that ends meanwhile is followed.
    let url = subject.url();
    let second = tokio::spawn(async move { serve::open(&url, &OpenOptions::default()).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    subject.close();
    let second = second.await.unwrap().unwrap();
    assert_eq!(
        number(&second.get(&[place("users/a")]).await.unwrap()[0]),
        Some(2)
    );
}

/// Ends connections of the store by a condition on `pg_stat_activity`.
async fn kill(app: &tokio_postgres::Client, which: &str) -> i64 {
    let sql = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE application_name = 'whimbrel' AND pid <> pg_backend_pid() AND {which}"
    );
    app.query_one(&sql, &[]).await.unwrap().get(0)
}

/// The process that holds the lock of this schema's server.
fn committer(schema: &str) -> String {
    format!(
        "pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid::bigint = \
         hashtext('whimbrel_serve_{schema}')::bigint & 4294967295)"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_dies_before_the_commit_leaves_nothing_and_the_next_try_all() {
    let Some(subject) = postgres().await else {
        return;
    };
    subject
        .commit(&[("a/1", Some(n(0))), ("b/1", Some(n(0)))])
        .await;
    let app = subject.schema().client().await;
    let which = committer(&subject.schema().name);
    // Idle, between two commits.
    assert_eq!(kill(&app, &which).await, 1);
    subject.set("a/1", n(1)).await;
    // While it is decided: locks are held, nothing is written.
    let (ask, mut asked) = tokio::sync::mpsc::unbounded_channel::<std::sync::mpsc::Sender<i64>>();
    tokio::spawn(async move {
        while let Some(done) = asked.recv().await {
            done.send(kill(&app, &which).await).unwrap();
        }
    });
    let touch = [place("a/1"), place("b/1")];
    let (places, calls) = (touch.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = calls.clone();
    let decide = move |found: &Found| {
        if counted.fetch_add(1, Ordering::SeqCst) < 2 {
            let (done, wait) = std::sync::mpsc::channel();
            ask.send(done).unwrap();
            assert_eq!(wait.recv().unwrap(), 1);
        }
        let at = now();
        let put = |place| crate::subject::put(found, place, at, Some(n(2)));
        Batch {
            at,
            documents: places.iter().map(put).collect(),
            ..Batch::default()
        }
    };
    subject
        .backend()
        .commit(&touch, Box::new(decide))
        .await
        .unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    for path in ["a/1", "b/1"] {
        assert_eq!(number(&subject.get(path).await), Some(2));
    }
    assert!(
        subject
            .backend()
            .foreign(10)
            .await
            .unwrap()
            .changes
            .is_empty()
    );
}

/// Connections die at any time; whatever was answered is there, and nothing is there by halves.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_die_all_the_time_leave_no_halves() {
    let Some(subject) = postgres().await else {
        return;
    };
    subject
        .commit(&[("a/1", Some(n(0))), ("b/1", Some(n(0)))])
        .await;
    let app = subject.schema().client().await;
    let schema = subject.schema().name.clone();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let kills = Arc::new(AtomicUsize::new(0));
    let killed = kills.clone();
    let killing = tokio::spawn(async move {
        for round in 0u64.. {
            if stopped.load(Ordering::SeqCst) {
                break;
            }
            let ended = kill(&app, &committer(&schema)).await;
            killed.fetch_add(usize::try_from(ended).unwrap(), Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20 + round * 17 % 180)).await;
        }
    });
    let touch = [place("a/1"), place("b/1")];
    let mut acknowledged = 0;
    for i in 1..100_000 {
        if i > 30 && kills.load(Ordering::SeqCst) >= 8 {
            break;
        }
        let places = touch.clone();
        let decide = move |found: &Found| {
            let at = now();
            let put = |place| crate::subject::put(found, place, at, Some(n(i)));
            Batch {
                at,
                documents: places.iter().map(put).collect(),
                ..Batch::default()
            }
        };
        match subject.backend().commit(&touch, Box::new(decide)).await {
            Ok(()) => acknowledged = i,
            Err(error) => {
                assert_ne!(error.kind, StoreErrorKind::Terminal, "{error}");
            }
        }
        let got = match subject.backend().get(&touch).await {
            Ok(got) => got,
            Err(error) => panic!("only the committer is killed: {error}"),
        };
        let (a, b) = (number(&got[0]).unwrap(), number(&got[1]).unwrap());
        assert_eq!(a, b, "never one without the other");
        assert!(a >= acknowledged && a <= i);
    }
    stop.store(true, Ordering::SeqCst);
    killing.await.unwrap();
    assert!(kills.load(Ordering::SeqCst) >= 8 && acknowledged > 0);
    let view = subject.backend().view().await.unwrap();
    let changes = view.changed(0, None, None, 10).await.unwrap();
    assert_eq!(changes.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_on_when_idle_connections_died() {
    let Some(subject) = postgres().await else {
        return;
    };
    subject.set("users/a", n(1)).await;
    let app = subject.schema().client().await;
    let lock = committer(&subject.schema().name);
    let mine = format!(
        "state = 'idle' AND NOT {lock} AND query LIKE '%{}%'",
        subject.schema().name
    );
    for _ in 0..5 {
        assert_eq!(number(&subject.get("users/a").await), Some(1));
        drop(subject.backend().view().await.unwrap());
        kill(&app, &mine).await;
        subject.backend().foreign(10).await.unwrap();
        subject.backend().view().await.unwrap();
    }
}

/// What a proxy does to the connection once it sees COMMIT, once.
const PASS: u8 = 0;
const CUT_BEFORE: u8 = 1;
const CUT_AFTER: u8 = 2;

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
            mode.swap(PASS, Ordering::SeqCst)
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
async fn what_became_of_a_commit_without_an_answer_is_asked() {
    let Some(mut subject) = postgres().await else {
        return;
    };
    let address = server("WHIMBREL_TEST_POSTGRES").unwrap();
    let config: tokio_postgres::Config = address.parse().unwrap();
    let Some(tokio_postgres::config::Host::Tcp(host)) = config.get_hosts().first() else {
        println!("SKIPPED: the server is reached by a socket, which the proxy is not made for");
        return;
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let mode = Arc::new(AtomicU8::new(PASS));
    let proxied = proxy(format!("{host}:{port}"), mode.clone()).await;
    let url = subject.url().replacen(
        &format!("{host}:{port}"),
        &format!("127.0.0.1:{proxied}"),
        1,
    );
    subject.close();
    let backend = serve::open(&format!("{url}&sslmode=disable"), &OpenOptions::default())
        .await
        .unwrap();
    let a = place("users/a");
    backend
        .commit(std::slice::from_ref(&a), setting(&a, |_| Some(n(0))))
        .await
        .unwrap();
    for (cut, decided) in [(CUT_BEFORE, 2), (CUT_AFTER, 1)] {
        mode.store(cut, Ordering::SeqCst);
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let add = setting(&a, move |before| {
            counted.fetch_add(1, Ordering::SeqCst);
            let before = before.and_then(|fields| fields.get("n").cloned()).unwrap();
            let Some(whimbrel_firestore::v1::value::ValueType::IntegerValue(before)) =
                before.value_type
            else {
                panic!("it is a number");
            };
            Some(fields([("n", int(before + 1))]))
        });
        backend.commit(std::slice::from_ref(&a), add).await.unwrap();
        // What had not happened was done again; what had, was not.
        assert_eq!(calls.load(Ordering::SeqCst), decided);
    }
    assert_eq!(number(&backend.get(&[a]).await.unwrap()[0]), Some(2));
}

/// A transaction of the app's that holds a row keeps a commit waiting, not failing.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_with_the_app_is_begun_anew() {
    let sql = "CREATE TABLE users (id text PRIMARY KEY, data jsonb NOT NULL); \
        INSERT INTO users VALUES ('a', '{\"n\": 1}'), ('b', '{\"n\": 1}')";
    let Some(subject) = over(sql, &[]).await else {
        return;
    };
    let subject = Arc::new(subject);
    let mut app = subject.schema().client().await;
    app.batch_execute("SET deadlock_timeout = '10s'")
        .await
        .unwrap();
    let transaction = app.transaction().await.unwrap();
    transaction
        .batch_execute("UPDATE users SET data = '{\"n\": 2}' WHERE id = 'b'")
        .await
        .unwrap();
    let committing = {
        let subject = subject.clone();
        tokio::spawn(async move {
            subject
                .commit(&[("users/a", Some(n(3))), ("users/b", Some(n(3)))])
                .await;
        })
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!committing.is_finished(), "it waits for b");
    transaction
        .batch_execute("UPDATE users SET data = '{\"n\": 2}' WHERE id = 'a'")
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    committing.await.unwrap();
    assert_eq!(number(&subject.get("users/a").await), Some(3));
    assert_eq!(number(&subject.get("users/b").await), Some(3));
    assert_eq!(
        subject.backend().foreign(10).await.unwrap().changes.len(),
        2
    );
}
