//! Files that an app is using, and files that are none.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_writes_meanwhile() {
    let app = app("PRAGMA journal_mode = wal;
         CREATE TABLE c (id INTEGER PRIMARY KEY, data TEXT NOT NULL);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
         INSERT INTO c SELECT i, '{\"n\":0}' FROM n;");
    let store = app.open().await;
    let path = app.path.clone();
    let writer = std::thread::spawn(move || {
        let connection = Connection::open(path).unwrap();
        connection.busy_timeout(Duration::from_secs(10)).unwrap();
        let sql = "UPDATE c SET data = json_set(data, '$.app', ?1) WHERE id = ?1";
        for id in 1..=500 {
            connection.execute(sql, [id]).unwrap();
        }
    });
    let (mut lost, mut applied) = (0, 0);
    while applied < 500 {
        let (documents, _) = pages(&*store, &KeyRange::all(), 50).await;
        assert_eq!(documents.len(), 500);
        let stale: Vec<Write> = documents
            .iter()
            .filter(|d| !d.body.map().unwrap().contains_key("v"))
            .map(|d| {
                let mut fields = d.body.map().unwrap().into_owned();
                fields.insert("v".into(), Value::Int(2));
                Write {
                    collection: "c".into(),
                    key: d.key.clone(),
                    to: Some(Body::Map(fields)),
                    guard: Guard::Unchanged(d.revision.clone()),
                }
            })
            .collect();
        for outcome in store.write(&stale).await.unwrap() {
            match outcome {
                WriteOutcome::Applied => applied += 1,
                WriteOutcome::Lost => lost += 1,
                WriteOutcome::Refused(refusal) => panic!("{refusal:?}"),
            }
        }
    }
    writer.join().unwrap();
    println!("{lost} guards were lost to the app");
    let both = "SELECT COUNT(*) FROM c WHERE data ->> '$.app' = id AND data ->> '$.v' = 2";
    assert_eq!(app.number(both), 500);
    assert_eq!(app.text("PRAGMA integrity_check"), "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_is_waited_for() {
    let app = app("CREATE TABLE c (id INTEGER PRIMARY KEY, data TEXT NOT NULL)");
    let store = app.open().await;
    let path = app.path.clone();
    let (locked, wait) = std::sync::mpsc::channel();
    let holder = std::thread::spawn(move || {
        let connection = Connection::open(path).unwrap();
        connection.execute_batch("BEGIN EXCLUSIVE").unwrap();
        locked.send(()).unwrap();
        std::thread::sleep(Duration::from_secs(1));
        connection.execute_batch("COMMIT").unwrap();
    });
    wait.recv().unwrap();
    let begun = Instant::now();
    let outcomes = store.write(&[write(1, "{}", Guard::Absent)]).await.unwrap();
    assert_eq!(outcomes, [WriteOutcome::Applied]);
    assert!(
        begun.elapsed() > Duration::from_millis(500),
        "nothing was locked"
    );
    holder.join().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_stays_is_transient() {
    let app = app("CREATE TABLE c (id INTEGER PRIMARY KEY, data TEXT NOT NULL)");
    let store = app.open().await;
    app.connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store
        .write(&[write(1, "{}", Guard::Absent)])
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.code),
        (StoreErrorKind::Transient, Code::StoreUnavailable)
    );
    app.connection.execute_batch("ROLLBACK").unwrap();
    let outcomes = store.write(&[write(1, "{}", Guard::Absent)]).await.unwrap();
    assert_eq!(outcomes, [WriteOutcome::Applied]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_no_databases() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notes.txt");
    std::fs::write(&path, "no database at all, ".repeat(100)).unwrap();
    let open = |path: PathBuf, read_only| async move {
        let options = OpenOptions {
            read_only,
            ..OpenOptions::default()
        };
        whimbrel_stores::open(&format!("sqlite:{}", path.display()), &options).await
    };
    let error = open(path, false).await.unwrap_err();
    assert_eq!(error.code, Code::StoreFailed, "{error}");
    let missing = directory.path().join("missing.db");
    assert_eq!(
        open(missing.clone(), true).await.unwrap_err().code,
        Code::StoreMissing
    );
    assert_eq!(
        open(missing.join("x/y.db"), false).await.unwrap_err().code,
        Code::StoreMissing
    );
    // A mistyped path makes no file; the first collection does.
    let store = open(missing.clone(), false).await.unwrap();
    assert_eq!(store.describe("c").await.unwrap(), None);
    let error = store.scan("c", &KeyRange::all(), 1, 1).await.unwrap_err();
    assert_eq!(error.code, Code::StoreMissing);
    assert!(store.write(&[write(1, "{}", Guard::Any)]).await.is_err());
    assert!(!missing.exists());
    store.ensure("c", &KeyKind::Uuid).await.unwrap();
    let mode: String = Connection::open(&missing)
        .unwrap()
        .query_row("PRAGMA journal_mode", [], |r| r.get(0))
        .unwrap();
    assert_eq!(mode, "wal");
    assert_eq!(
        store.describe("c").await.unwrap().unwrap().key,
        KeyKind::Uuid
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_apps_journal_mode_stays() {
    let app = app("CREATE TABLE c (id INTEGER PRIMARY KEY, data TEXT)");
    let store = app.open().await;
    store.write(&[write(1, "{}", Guard::Any)]).await.unwrap();
    assert_eq!(app.text("PRAGMA journal_mode"), "delete");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_keeps_no_writer_waiting() {
    let app = app("PRAGMA journal_mode = wal;
         CREATE TABLE c (id INTEGER PRIMARY KEY, data TEXT NOT NULL);
         INSERT INTO c VALUES (1, '{\"n\":0}')");
    let store = app.open().await;
    let snapshot = store.snapshot().await.unwrap().unwrap();
    // Any lock would be an error at once.
    app.connection.busy_timeout(Duration::ZERO).unwrap();
    for n in 0..50 {
        let insert = format!("INSERT INTO c VALUES ({}, '{{}}')", n + 2);
        app.connection.execute_batch(&insert).unwrap();
        assert_eq!(snapshot.count("c", &KeyRange::all()).await.unwrap(), 1);
    }
    app.connection
        .execute_batch("DROP TABLE c; PRAGMA wal_checkpoint(PASSIVE)")
        .unwrap();
    assert_eq!(snapshot.count("c", &KeyRange::all()).await.unwrap(), 1);
    drop(snapshot);
    // Nothing holds the log back any more.
    let held_back: i64 = app
        .connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |r| r.get(0))
        .unwrap();
    assert_eq!(held_back, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_holds_the_lock_is_waited_for() {
    let app = app("PRAGMA journal_mode = wal;
         CREATE TABLE c (id INTEGER PRIMARY KEY, data TEXT NOT NULL)");
    let store = app.open().await;
    app.connection
        .execute_batch("BEGIN IMMEDIATE; INSERT INTO c VALUES (1, '{}')")
        .unwrap();
    let taking = tokio::spawn(async move { store.snapshot().await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!taking.is_finished(), "the snapshot waits for the app");
    app.connection.execute_batch("COMMIT").unwrap();
    let snapshot = taking.await.unwrap().unwrap().unwrap();
    assert_eq!(snapshot.count("c", &KeyRange::all()).await.unwrap(), 1);
}

/// A reader would keep the app from writing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_write_ahead_log_there_is_no_snapshot() {
    let app = app("CREATE TABLE c (id INTEGER PRIMARY KEY, data TEXT NOT NULL)");
    let store = app.open().await;
    assert!(store.snapshot().await.unwrap().is_none());
    app.connection.busy_timeout(Duration::ZERO).unwrap();
    app.connection
        .execute_batch("INSERT INTO c VALUES (1, '{}')")
        .unwrap();
}
