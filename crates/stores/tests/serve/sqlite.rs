//! What is SQLite's own: tables of all kinds, and files that cannot be served.

mod triggers;

use crate::subject::{Subject, n, now, number, place, put, sqlite, sqlite_with};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use whimbrel_firestore::backend::{Batch, Found, There};
use whimbrel_model::{Code, Guard, Key, KeyRange, StoreErrorKind, Write};
use whimbrel_stores::{CollectionConfig, OpenOptions, serve};

#[tokio::test]
async fn the_store_reads_and_writes_what_is_served() {
    let subject = sqlite().await.unwrap();
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
    let write = Write {
        collection: "users".into(),
        key: Key::text("b"),
        to: Some(whimbrel_model::Body::from_json(br#"{"n":7}"#.to_vec())),
        guard: Guard::Absent,
    };
    store.write(&[write]).await.unwrap();
    assert_eq!(number(&subject.get("users/b").await), Some(7));
    assert_eq!(
        subject.backend().foreign(10).await.unwrap().changes.len(),
        1
    );
}

async fn with_table(sql: &str, config: CollectionConfig) -> Subject {
    let options = OpenOptions {
        collections: BTreeMap::from([("users".to_owned(), config)]),
        ..OpenOptions::default()
    };
    let mut subject = sqlite_with(options).await.unwrap();
    subject.close();
    subject.sql(sql).await;
    subject.open().await.unwrap();
    subject
}

#[tokio::test]
async fn tables_of_an_app() {
    let named = |table: Option<&str>, key: &[&str], data: Option<&str>| CollectionConfig {
        table: table.map(str::to_owned),
        key: key.iter().map(ToString::to_string).collect(),
        data: data.map(str::to_owned),
        ..CollectionConfig::default()
    };
    for (sql, config) in [
        (
            "CREATE TABLE users (id TEXT PRIMARY KEY, data TEXT)",
            named(None, &[], None),
        ),
        (
            "CREATE TABLE users (id TEXT PRIMARY KEY, data TEXT) WITHOUT ROWID",
            named(None, &[], None),
        ),
        (
            "CREATE TABLE users (id TEXT PRIMARY KEY, data BLOB) STRICT",
            named(None, &[], None),
        ),
        (
            "CREATE TABLE users (id UUID TEXT PRIMARY KEY, data JSON)",
            named(None, &[], None),
        ),
        (
            "CREATE TABLE \"people \"\"x\" (n INTEGER PRIMARY KEY, \"the \"\"key\" TEXT UNIQUE NOT NULL, \"the \"\"doc\" TEXT, extra TEXT)",
            named(Some("people \"x"), &["the \"key"], Some("the \"doc")),
        ),
    ] {
        let subject = with_table(sql, config).await;
        let made = subject.set("users/a", n(1)).await;
        subject.set("users/a", n(2)).await;
        assert_eq!(subject.get("users/a").await.unwrap().created, made, "{sql}");
        let view = subject.backend().view().await.unwrap();
        assert_eq!(view.collections().await.unwrap().len(), 1, "{sql}");
        let lines = view.walk(&crate::views::all("users")).await.unwrap();
        assert_eq!(number(&lines[0].stored), Some(2), "{sql}");
        drop(view);
        subject.delete("users/a").await;
        assert!(subject.get("users/a").await.is_none());
        assert!(
            subject
                .backend()
                .foreign(10)
                .await
                .unwrap()
                .changes
                .is_empty(),
            "{sql}"
        );
    }
}

#[tokio::test]
async fn tables_that_cannot_be_served() {
    for sql in [
        "CREATE TABLE users (id TEXT PRIMARY KEY, name TEXT, age INTEGER)",
        "CREATE TABLE users (id INTEGER PRIMARY KEY, data TEXT)",
        "CREATE TABLE users (a TEXT, b TEXT, data TEXT, PRIMARY KEY (a, b))",
        "CREATE TABLE users (id TEXT COLLATE NOCASE PRIMARY KEY, data TEXT)",
        "CREATE TABLE users (data TEXT)",
    ] {
        let subject = with_table(sql, CollectionConfig::default()).await;
        let error = subject
            .backend()
            .get(&[place("users/a")])
            .await
            .unwrap_err();
        assert_eq!(error.code, Code::StoreShape, "{sql}: {error}");
        assert!(subject.backend().refuse(&place("users/a"), &n(1)).is_some());
        assert!(
            subject
                .backend()
                .refuse(&place("others/a"), &n(1))
                .is_none()
        );
        let writes = ["users/a", "others/a"].map(|path| (path, Some(n(1))));
        let error = subject.try_commit(&writes, &[], &[]).await.unwrap_err();
        assert_eq!(
            (error.kind, error.code),
            (StoreErrorKind::Terminal, Code::StoreShape)
        );
        assert!(subject.get("others/a").await.is_none());
        // Others are served beside it.
        subject.set("others/a", n(1)).await;
        let view = subject.backend().view().await.unwrap();
        let names = view.collections().await.unwrap();
        assert_eq!(
            names.iter().map(|name| &**name).collect::<Vec<_>>(),
            ["others"]
        );
    }
}

#[tokio::test]
async fn side_tables_are_nobodys_collection() {
    let subject = sqlite().await.unwrap();
    subject.set("users/a", n(1)).await;
    for path in ["_whimbrel_log/a", "_whimbrel_new/a"] {
        assert!(subject.backend().get(&[place(path)]).await.is_err());
        assert!(subject.backend().refuse(&place(path), &n(1)).is_some());
    }
    let view = subject.backend().view().await.unwrap();
    assert_eq!(view.collections().await.unwrap().len(), 1);
}

#[tokio::test]
async fn one_process_serves_a_file() {
    let mut subject = sqlite().await.unwrap();
    let mut urls = vec![subject.url()];
    // By another of its names, too.
    let directory = tempfile::tempdir().unwrap();
    let path = subject.url().strip_prefix("sqlite:").unwrap().to_owned();
    let path = std::path::Path::new(&path);
    let (folder, file) = (path.parent().unwrap(), path.file_name().unwrap());
    let up = folder.join("..").join(folder.file_name().unwrap());
    urls.push(format!("sqlite:{}", up.join(file).display()));
    #[cfg(unix)]
    for (name, target) in [("file.db", path), ("folder", folder)] {
        std::os::unix::fs::symlink(target, directory.path().join(name)).unwrap();
    }
    #[cfg(unix)]
    urls.extend(["file.db", "folder/app.db"].map(|name| {
        let link = directory.path().join(name);
        format!("sqlite:{}", link.display())
    }));
    for url in urls {
        let error = serve::open(&url, &OpenOptions::default())
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind, error.code),
            (StoreErrorKind::Transient, Code::StoreUnavailable),
            "{url}"
        );
    }
    subject.reopen().await;
}

#[tokio::test]
async fn files_that_cannot_be_served() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.db");
    let url = format!("sqlite:{}", path.display());
    std::fs::write(&path, b"this is no database, but a text of more than a hundred bytes, which SQLite looks at to tell the two apart").unwrap();
    let error = serve::open(&url, &OpenOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Terminal, "{error}");
    std::fs::remove_file(&path).unwrap();
    for (url, code) in [
        (
            format!("sqlite:{}", directory.path().join("no/x.db").display()),
            Code::StoreMissing,
        ),
        ("sqlite::memory:".to_owned(), Code::StoreUrl),
        ("jsonl:dir/".to_owned(), Code::StoreUrl),
        ("memory:named".to_owned(), Code::StoreUrl),
    ] {
        let error = serve::open(&url, &OpenOptions::default())
            .await
            .unwrap_err();
        assert_eq!(error.code, code, "{url}: {error}");
    }
    let options = OpenOptions {
        read_only: true,
        ..OpenOptions::default()
    };
    let error = serve::open(&url, &options).await.unwrap_err();
    assert_eq!(error.code, Code::StoreDenied);
    // A layout of a later version.
    let backend = serve::open(&url, &OpenOptions::default()).await.unwrap();
    drop(backend);
    let other = rusqlite::Connection::open(&path).unwrap();
    other
        .execute_batch("UPDATE _whimbrel_serving SET layout = 2")
        .unwrap();
    let error = serve::open(&url, &OpenOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::StoreShape, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_and_a_lock_leave_nothing_behind() {
    let subject = sqlite().await.unwrap();
    subject.set("users/a", n(1)).await;
    let path = subject.url().strip_prefix("sqlite:").unwrap().to_owned();
    let large = crate::subject::fields([("text", crate::subject::text(&"x".repeat(1 << 20)))]);
    subject.sql("CREATE TRIGGER no BEFORE INSERT ON users WHEN NEW.id = 'no' BEGIN SELECT RAISE(ABORT, 'secret'); END").await;
    let touch = [place("users/b"), place("users/no")];
    let places = touch.clone();
    let decide = move |found: &Found| {
        let at = now();
        let documents = places
            .iter()
            .map(|place| put(found, place, at, Some(large.clone())))
            .collect();
        Batch {
            at,
            documents,
            ..Batch::default()
        }
    };
    let error = subject
        .backend()
        .commit(&touch, Box::new(decide))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.code),
        (StoreErrorKind::Terminal, Code::StoreFailed)
    );
    assert!(
        !error.to_string().contains("secret") && error.to_string().contains("no"),
        "{error}"
    );
    assert!(subject.get("users/b").await.is_none());
    // Another program's transaction is waited for.
    let other = rusqlite::Connection::open(&path).unwrap();
    other
        .execute_batch("BEGIN IMMEDIATE; UPDATE users SET data = '{\"n\":5}'")
        .unwrap();
    let holding = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        other.execute_batch("COMMIT").unwrap();
    });
    assert_eq!(number(&subject.get("users/a").await), Some(1));
    let seen = Arc::new(AtomicUsize::new(0));
    let noted = seen.clone();
    let decide = move |found: &Found| {
        noted.store(
            usize::try_from(
                number(&found.values().next().and_then(There::document).cloned()).unwrap(),
            )
            .unwrap(),
            Ordering::SeqCst,
        );
        Batch {
            at: now(),
            ..Batch::default()
        }
    };
    subject
        .backend()
        .commit(&[place("users/a")], Box::new(decide))
        .await
        .unwrap();
    assert_eq!(seen.load(Ordering::SeqCst), 5);
    holding.join().unwrap();
}

#[tokio::test]
async fn a_decision_whose_time_is_over_is_made_again() {
    let subject = sqlite().await.unwrap();
    let last = subject.set("users/a", n(1)).await;
    let called = Arc::new(AtomicUsize::new(0));
    let counted = called.clone();
    let decide = move |found: &Found| {
        let late = counted.fetch_add(1, Ordering::SeqCst) == 0;
        let at = if late { last } else { now() };
        let documents = vec![put(found, &place("users/a"), at, Some(n(2)))];
        Batch {
            at,
            documents,
            ..Batch::default()
        }
    };
    subject
        .backend()
        .commit(&[place("users/a")], Box::new(decide))
        .await
        .unwrap();
    assert_eq!(called.load(Ordering::SeqCst), 2);
    assert_eq!(number(&subject.get("users/a").await), Some(2));
}

#[tokio::test]
async fn tables_that_are_renamed_dropped_and_made_again() {
    let mut subject = sqlite().await.unwrap();
    let first = subject.set("users/a", n(1)).await;
    subject.sql("ALTER TABLE users RENAME TO people").await;
    assert!(subject.get("users/a").await.is_none());
    assert_eq!(number(&subject.get("people/a").await), Some(1));
    subject.sql("UPDATE people SET data = '{\"n\":2}'").await;
    let changes = subject.backend().foreign(10).await.unwrap().changes;
    assert_eq!(
        changes.last().map(|change| change.place.clone()),
        Some(place("people/a"))
    );
    subject.set("users/a", n(3)).await;
    assert!(subject.get("users/a").await.unwrap().created > first);
    subject.close();
    subject
        .sql(
            "DROP TABLE users; CREATE TABLE users (id TEXT PRIMARY KEY, data TEXT);
             INSERT INTO users VALUES ('a', '{\"n\":4}')",
        )
        .await;
    subject.open().await.unwrap();
    let a = subject.get("users/a").await;
    assert_eq!(number(&a), Some(4));
    let adopted = a.unwrap().created;
    subject
        .sql("ALTER TABLE users RENAME COLUMN data TO body; UPDATE users SET body = '{\"n\":5}'")
        .await;
    // The column is found by what it holds, and is watched on.
    let a = subject.get("users/a").await;
    assert_eq!(number(&a), Some(5));
    assert_eq!(a.unwrap().created, adopted);
}
