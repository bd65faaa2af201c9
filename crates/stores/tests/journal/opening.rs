//! Making, recognising and refusing ledgers.

use crate::fixture::{Place, filled, fold, item, on_both};
use whimbrel_model::ledger::FORMAT;
use whimbrel_model::ledger::Filed;
use whimbrel_model::{Code, JournalError};
use whimbrel_stores::journal;

on_both!(
    a_newer_format_is_refused_and_nothing_written,
    many_open_a_new_ledger_at_once,
    reading_makes_no_ledger_and_writes_none,
);

async fn a_newer_format_is_refused_and_nothing_written(place: Place) {
    let (journal, _) = filled(&place, 1).await;
    let name = journal.name().to_owned();
    drop(journal);
    place
        .sql(&format!("UPDATE @.meta SET format = {}", FORMAT + 1))
        .await;
    let before = bytes(&place);
    for _ in 0..2 {
        let Err(error) = journal::open(&place.url()).await else {
            panic!("it was opened")
        };
        assert_eq!(error.code(), Code::LedgerNewer);
        match error {
            JournalError::NewerFormat { ledger, found } => {
                assert_eq!((ledger, found), (name.clone(), FORMAT + 1));
            }
            other => panic!("{other}"),
        }
    }
    assert!(journal::open_existing(&place.url()).await.is_err());
    assert_eq!(bytes(&place), before);
    place
        .sql(&format!("UPDATE @.meta SET format = {FORMAT}"))
        .await;
    assert_eq!(fold(place.open().await.as_ref()).await.unwrap().seq, 2);
}

/// The ledger's file, where it is one.
fn bytes(place: &Place) -> Option<Vec<u8>> {
    match place {
        Place::Sqlite(folder) => Some(std::fs::read(folder.path().join("new/ledger.db")).unwrap()),
        Place::Postgres { .. } => None,
    }
}

async fn many_open_a_new_ledger_at_once(place: Place) {
    let url = place.url();
    let opening: Vec<_> = (0..8)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { journal::open(&url).await })
        })
        .collect();
    let mut journals = Vec::new();
    for one in opening {
        journals.push(one.await.unwrap().unwrap());
    }
    let fence = journals[0].acquire("test", 60_000).await.unwrap().fence;
    for journal in &journals {
        journal
            .append(fence, &[], Filed::from(&[item("a")]))
            .await
            .unwrap();
    }
    assert_eq!(
        journals[7].quarantined(None, None, 9).await.unwrap()[0]
            .1
            .attempts,
        8
    );
}

async fn reading_makes_no_ledger_and_writes_none(place: Place) {
    assert!(
        journal::open_existing(&place.url())
            .await
            .unwrap()
            .is_none()
    );
    if let Place::Sqlite(folder) = &place {
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
    let (journal, fence) = filled(&place, 3).await;
    let reader = journal::open_existing(&place.url()).await.unwrap().unwrap();
    assert_eq!(fold(reader.as_ref()).await.unwrap().seq, 4);
    assert_eq!(reader.lease().await.unwrap().unwrap().fence, fence);
    assert!(
        reader
            .append(fence, &[], Filed::from(&[item("a")]))
            .await
            .is_err()
    );
    assert!(reader.break_lease("reader", 1000).await.is_err());
    assert_eq!(journal.lease().await.unwrap().unwrap().fence, fence);
    assert!(journal.quarantined(None, None, 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_file_of_something_else_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch("CREATE TABLE meta (format INTEGER); INSERT INTO meta VALUES (1)")
        .unwrap();
    drop(connection);
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "dear diary\n".repeat(100)).unwrap();
    for (path, expect) in [(&path, "something else"), (&text, "no SQLite database")] {
        let before = std::fs::read(path).unwrap();
        let Err(error) = journal::open(&format!("sqlite:{}", path.display())).await else {
            panic!("it was opened")
        };
        assert_eq!(error.code(), Code::LedgerFailed);
        assert!(error.to_string().contains(expect), "{error}");
        assert_eq!(std::fs::read(path).unwrap(), before);
    }
}

#[tokio::test]
async fn messages_never_hold_a_password() {
    for url in [
        "postgres://ann:s3cret@127.0.0.1:1/db?schema=x",
        "postgres://ann:s3cret@127.0.0.1:port/db",
        "postgres://ann@127.0.0.1:1/db?password=s3cret&bogus=1",
        "mysql://ann:s3cret@h/db",
        "mysql://ann:x/s3cret?s3cret@h/db",
        "postgres://ann:s3cret@127.0.0.1:1/db?schema=",
        "postgres://ann:s3cret@127.0.0.1:1/db?schema=%zz",
        "sqlite::memory:",
        "memory:",
    ] {
        for result in [
            journal::open(url).await.map(drop),
            journal::open_existing(url).await.map(drop),
        ] {
            let error = result.unwrap_err();
            assert_eq!(error.code(), Code::LedgerFailed);
            let text = format!("{error} {error:?}");
            assert!(!text.contains("s3cret"), "{text}");
        }
    }
}
