//! Upgrades walk an SQLite table as its rows lie. Rows that the app moves meanwhile are met all the same, and a file
//! that is rebuilt meanwhile only means to begin again.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{conversation, dump, engine, fill, journal, place, sqlite, upgrade};
use rusqlite::Connection;
use whimbrel_engine::{JobOptions, Place, Report, UpgradeJob};
use whimbrel_model::ledger::{Entry, State};
use whimbrel_model::{Code, ScanOrder, Store, StoreError, StoreErrorKind};
use whimbrel_testkit::crashing::Moment;
use whimbrel_testkit::faulty::FaultyStore;

const DOCUMENTS: usize = 400;

struct Scene {
    dir: tempfile::TempDir,
    store: Arc<dyn Store>,
}

impl Scene {
    /// Keys come in no order.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = sqlite(dir.path(), "app.db").await;
        let shuffled = (0..DOCUMENTS).map(|i| conversation(i * 211 % DOCUMENTS));
        fill(&store, "chats", shuffled).await;
        Self { dir, store }
    }

    fn app(&self) -> PathBuf {
        self.dir.path().join("app.db")
    }

    /// Upgrades to v3 in one worker's chunks of 20, while `meddle` is called with the number of each write, before it and
    /// behind it.
    async fn upgrade(
        &self,
        meddle: impl Fn(u64, bool, &Connection) -> Result<(), StoreError> + Send + Sync + 'static,
    ) -> Result<Report, whimbrel_engine::EngineError> {
        let path = self.app();
        let store = FaultyStore::new(Arc::clone(&self.store)).on_write(move |n, moment| {
            let behind = matches!(moment, Moment::After);
            meddle(n, behind, &Connection::open(&path).unwrap())
        });
        let store: Arc<dyn Store> = Arc::new(store);
        engine(self.dir.path())
            .await
            .upgrade(job(&place(&store, "app", "chats")))
            .await
    }

    async fn check(&self, what: &str) {
        let found = dump(&self.store, "chats").await;
        for (key, json) in &found {
            assert!(
                json.contains(r#""_schemaVersion":3"#),
                "{what}: {key} is {json}"
            );
        }
    }

    async fn entries(&self) -> Vec<Entry> {
        let records = journal(self.dir.path())
            .await
            .read(0, 10_000)
            .await
            .unwrap();
        let mut state = State::default();
        for record in &records {
            state.apply(record).unwrap();
        }
        records.into_iter().map(|record| record.entry).collect()
    }

    /// How the run was cut: at its start and anew.
    async fn cuts(&self) -> Vec<(ScanOrder, bool)> {
        let entries = self.entries().await;
        let cut = |entry: &Entry| match entry {
            Entry::RunStarted { scan, .. } => Some((*scan, false)),
            Entry::RunRecut { scan, anew, .. } => Some((*scan, *anew)),
            _ => None,
        };
        entries.iter().filter_map(cut).collect()
    }
}

fn job(place: &Place) -> UpgradeJob {
    let options = JobOptions {
        batch: Some(20),
        parallel: Some(1),
        ..JobOptions::default()
    };
    UpgradeJob {
        options,
        ..upgrade(place, 3)
    }
}

fn replace(app: &Connection, i: usize, json: &str) {
    let sql = "INSERT OR REPLACE INTO chats VALUES (?1, ?2)";
    let (key, _) = conversation(i);
    app.execute(sql, [key.to_string().as_str(), json]).unwrap();
}

const POSITIONS: (ScanOrder, bool) = (ScanOrder::Positions, false);

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_cut_anew_where_nobody_meddles() {
    let scene = Scene::new().await;
    let report = scene.upgrade(|_, _, _| Ok(())).await.unwrap();
    assert_eq!(report.counts.written, DOCUMENTS as u64);
    scene.check("alone").await;
    assert_eq!(scene.cuts().await, [POSITIONS]);
}

/// Each write of the run is followed by two of the app: one document that waits, one that is done, both as the
/// app's oldest version writes them.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_app_replaces_are_met_behind_the_end() {
    let scene = Scene::new().await;
    let old = r#"{"title": "again", "n": 1}"#;
    let report = scene
        .upgrade(move |n, behind, app| {
            if behind && n <= 15 {
                let at = |row: u64| usize::try_from(row).unwrap() * 211 % DOCUMENTS;
                replace(app, at(399 - n), old);
                replace(app, at(n), old);
            }
            Ok(())
        })
        .await
        .unwrap();
    assert!(report.counts.balanced());
    // Fifteen were written twice, since the app wrote in between.
    assert_eq!(report.counts.written, DOCUMENTS as u64 + 15);
    scene.check("replaced").await;
    assert_eq!(scene.cuts().await, [POSITIONS, POSITIONS]);
    let found = dump(&scene.store, "chats").await;
    let again = found
        .iter()
        .filter(|(_, json)| json.contains(r#""name":"again""#));
    assert_eq!((found.len(), again.count()), (DOCUMENTS, 30));
}

/// An app that writes behind the end for ever is not followed for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_although_the_app_goes_on() {
    let scene = Scene::new().await;
    let report = scene
        .upgrade(|n, behind, app| {
            if behind {
                let at = usize::try_from(n).unwrap() * 211 % DOCUMENTS;
                replace(app, at, r#"{"title": "t", "n": 1}"#);
            }
            Ok(())
        })
        .await
        .unwrap();
    assert!(report.counts.balanced());
    assert_eq!(scene.cuts().await, [POSITIONS; 9]);
}

/// Row ids are others after it: rows that were behind may lie before. What is done is told from what is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_rebuilt_meanwhile_is_walked_by_key() {
    let scene = Scene::new().await;
    let report = scene
        .upgrade(|n, behind, app| {
            if behind && n == 8 {
                app.execute_batch(
                    "CREATE TABLE fresh AS SELECT * FROM chats ORDER BY id DESC;
                     DELETE FROM chats; INSERT INTO chats SELECT * FROM fresh; DROP TABLE fresh; VACUUM;",
                )
                .unwrap();
            }
            Ok(())
        })
        .await
        .unwrap();
    // Each document counts once.
    assert!(report.counts.balanced());
    assert_eq!(
        (report.counts.enumerated, report.counts.written),
        (400, 400)
    );
    scene.check("rebuilt").await;
    assert_eq!(scene.cuts().await, [POSITIONS, (ScanOrder::Keys, true)]);
}

/// The run stops after each of its writes in turn, the file is rebuilt or rows are moved, and the run goes on.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_goes_on_whatever_became_of_the_rows() {
    for (stop, meddle) in [
        (3, "VACUUM"),
        (12, "CREATE INDEX chats_n ON chats (data ->> 'n')"),
        (20, "VACUUM"),
        (
            7,
            "INSERT OR REPLACE INTO chats SELECT * FROM chats WHERE rowid > 380",
        ),
    ] {
        let scene = Scene::new().await;
        let stopped = scene
            .upgrade(move |n, behind, _| {
                let fail = || {
                    let kind = StoreErrorKind::Terminal;
                    StoreError::new(kind, Code::StoreFull, "app", "no room")
                };
                if !behind && n == stop {
                    Err(fail())
                } else {
                    Ok(())
                }
            })
            .await;
        assert_eq!(stopped.unwrap_err().code(), Code::StoreFull);
        Connection::open(scene.app())
            .unwrap()
            .execute_batch(meddle)
            .unwrap();
        let report = scene.upgrade(|_, _, _| Ok(())).await.unwrap();
        let what = format!("{meddle} after write {stop}");
        assert!(report.resumed && report.counts.balanced(), "{what}");
        assert_eq!(
            (report.counts.enumerated, report.counts.written),
            (400, 400),
            "{what}"
        );
        scene.check(&what).await;
        check_undo(scene.dir.path(), &scene.store, &what).await;
    }
}

/// All the way back, to the very bytes.
async fn check_undo(dir: &Path, store: &Arc<dyn Store>, what: &str) {
    let back = UpgradeJob {
        to: 1,
        ..job(&place(store, "app", "chats"))
    };
    engine(dir).await.upgrade(back).await.unwrap();
    let mut expected: Vec<_> = (0..DOCUMENTS).map(conversation).collect();
    expected.sort();
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(k, json)| (k.to_string(), json))
        .collect();
    assert_eq!(dump(store, "chats").await, expected, "{what}");
}
