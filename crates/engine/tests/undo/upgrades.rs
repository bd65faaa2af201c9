//! Upgrades taken back: each document to the version that it had.

use std::sync::Arc;

use crate::common::{conversation, dump, engine, fill, ledger, place, sqlite, upgrade};
use crate::{at, benches, down_to, refused, run_of, text};
use whimbrel_engine::{EngineError, JobOptions, Threshold, UpgradeJob};
use whimbrel_model::ledger::{JobKind, RunStatus};

use whimbrel_model::{Body, Code, Guard, Key, Store, StoreError, StoreErrorKind, Write};
use whimbrel_testkit::crashing::Moment;
use whimbrel_testkit::faulty::FaultyStore;

/// Documents at v1 and v2 by turns.
fn mixed(i: usize) -> (Key, String) {
    if i.is_multiple_of(2) {
        return conversation(i);
    }
    let json =
        format!(r#"{{ "name":"two {i}", "n": {i}.50,"_schemaVersion" : 2, "tags":["a", "b"] }}"#);
    (Key::text(format!("c{i:05}")), json)
}

async fn remove(store: &Arc<dyn Store>, key: &str) {
    let write = Write {
        collection: "chats".into(),
        key: Key::text(key),
        to: None,
        guard: Guard::Any,
    };
    store.write(&[write]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mixture_of_versions_comes_back_byte_for_byte() {
    for bench in benches("mixed", &["chats"]).await {
        let chats = place(&bench.store, "app", "chats");
        fill(&bench.store, "chats", (0..60).map(mixed)).await;
        let before = dump(&bench.store, "chats").await;
        let up = bench.engine.upgrade(upgrade(&chats, 3)).await.unwrap();
        assert_ne!(dump(&bench.store, "chats").await, before);
        let run = run_of(&up);

        let undone = bench
            .engine
            .undo_upgrade(down_to(&chats, 1), std::slice::from_ref(&run))
            .await
            .unwrap();
        assert_eq!(dump(&bench.store, "chats").await, before);
        assert_eq!((undone.counts.enumerated, undone.counts.written), (60, 60));
        assert_eq!(undone.title, format!("undo upgrade app/chats (run {run})"));
        let state = ledger(bench.dir.path()).await.state();
        let recorded = &state.runs[&run_of(&undone)];
        assert_eq!(recorded.job.kind, JobKind::Undo);
        assert_eq!(recorded.job.subject, state.runs[&run].job.subject);

        // There is nothing left to take back.
        let again = bench
            .engine
            .undo_upgrade(down_to(&chats, 1), &[run])
            .await
            .unwrap();
        assert_eq!((again.counts.written, again.counts.unchanged), (0, 60));
        assert_eq!(dump(&bench.store, "chats").await, before);
    }
}

/// What is at the version before the upgrade stays there, where that was noted; what the app writes later
/// is brought down.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_before_stays_there() {
    let there = |i: usize| {
        let (key, _) = conversation(i);
        (
            key,
            format!(r#"{{"name":"three {i}","meta":{{}},"_schemaVersion":3}}"#),
        )
    };
    for bench in benches("there", &["chats"]).await {
        let chats = place(&bench.store, "app", "chats");
        fill(&bench.store, "chats", (0..20).map(conversation)).await;
        fill(&bench.store, "chats", (20..40).map(there)).await;
        let before = dump(&bench.store, "chats").await;
        let mut job = upgrade(&chats, 3);
        job.options.undoable = true;
        let run = run_of(&bench.engine.upgrade(job).await.unwrap());
        fill(&bench.store, "chats", [there(50)]).await;

        let runs = std::slice::from_ref(&run);
        let undone = bench.engine.undo_upgrade(down_to(&chats, 1), runs).await;
        let counts = undone.unwrap().counts;
        assert_eq!((counts.written, counts.unchanged), (21, 20));
        let (since, _) = there(50);
        remove(&bench.store, &since.to_string()).await;
        assert_eq!(dump(&bench.store, "chats").await, before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_app_wrote_since_is_kept() {
    for bench in benches("kept", &["chats"]).await {
        let chats = place(&bench.store, "app", "chats");
        fill(&bench.store, "chats", (0..8).map(mixed)).await;
        let before = dump(&bench.store, "chats").await;
        let up = bench.engine.upgrade(upgrade(&chats, 3)).await.unwrap();
        let edit = r#"{"name":"edited","meta":{},"extra":true,"_schemaVersion":3}"#;
        fill(
            &bench.store,
            "chats",
            [
                text("c00000", edit),
                text("c00001", edit),
                text("new", edit),
            ],
        )
        .await;
        fill(
            &bench.store,
            "chats",
            [text("old", r#"{"title":"old","n":1}"#)],
        )
        .await;
        remove(&bench.store, "c00002").await;

        let undone = bench
            .engine
            .undo_upgrade(down_to(&chats, 2), &[run_of(&up)])
            .await
            .unwrap();
        let after = dump(&bench.store, "chats").await;
        let expected = [
            // It was at v1.
            ("c00000", Some(r#"{"title":"edited","extra":true,"n":0}"#)),
            // It was at v2.
            (
                "c00001",
                Some(r#"{"name":"edited","extra":true,"_schemaVersion":2,"n":1.5}"#),
            ),
            // It was not there, so it goes to where the undo was told.
            (
                "new",
                Some(r#"{"name":"edited","extra":true,"_schemaVersion":2,"n":-1}"#),
            ),
            ("old", Some(r#"{"title":"old","n":1}"#)),
            ("c00002", None),
        ];
        for (key, json) in expected {
            let map = |json: &str| {
                let body = Body::from_json(json.to_owned().into_bytes());
                body.map().unwrap().into_owned()
            };
            let (is, shall) = (at(&after, key).map(map), json.map(map));
            match key {
                // 1.50 and 1.5 are the same number in different words.
                "c00001" => {
                    let same = |m: Option<whimbrel_model::Map>| {
                        Body::Map(m.unwrap()).fingerprint().unwrap()
                    };
                    assert_eq!(same(is), same(shall), "{key}");
                }
                _ => assert_eq!(is, shall, "{key}"),
            }
        }
        for i in 3..8 {
            let key = format!("c{i:05}");
            assert_eq!(at(&after, &key), at(&before, &key));
        }
        let c = undone.counts;
        assert_eq!((c.enumerated, c.written, c.unchanged), (9, 8, 1), "{c:?}");
    }
}

/// What the upgrade could not read or move is as it was, so that nothing waits any longer; what was broken
/// since waits, and is not touched.
#[tokio::test(flavor = "multi_thread")]
async fn only_what_cannot_go_back_is_quarantined() {
    let dir = tempfile::tempdir().unwrap();
    let store = sqlite(dir.path(), "app.db").await;
    let chats = place(&store, "app", "chats");
    fill(&store, "chats", (0..10).map(mixed)).await;
    let poison = [
        text("bad 1", r#"{"title": 5}"#),
        text("bad 2", r#"{"_schemaVersion": "x"}"#),
        text("bad 3", r#"{"title": "t", "_schemaVersion": 9}"#),
    ];
    fill(&store, "chats", poison).await;
    let before = dump(&store, "chats").await;
    let engine = engine(dir.path()).await;
    let up = engine.upgrade(upgrade(&chats, 3)).await.unwrap();
    assert_eq!((up.counts.quarantined, up.counts.newer), (2, 1));
    let broken = r#"{"_schemaVersion": "broken by the app"}"#;
    fill(&store, "chats", [text("c00004", broken)]).await;

    let undone = engine
        .undo_upgrade(down_to(&chats, 1), &[run_of(&up)])
        .await
        .unwrap();
    let c = undone.counts;
    assert!(c.balanced());
    assert_eq!(
        (c.written, c.unchanged, c.newer, c.quarantined),
        (9, 2, 1, 1),
        "{c:?}"
    );
    let waiting = engine.quarantined(None, None, 9).await.unwrap();
    let labels: Vec<&str> = waiting.iter().map(|(_, i)| i.label.as_str()).collect();
    assert_eq!(labels, ["c00004"]);
    let after = dump(&store, "chats").await;
    for (key, json) in &before {
        let expected = if key == "c00004" { broken } else { json };
        assert_eq!(at(&after, key), Some(expected));
    }
}

/// Many documents that cannot go back are no reason to leave the others.
#[tokio::test(flavor = "multi_thread")]
async fn an_undo_goes_to_its_end_at_any_number_of_failures() {
    let dir = tempfile::tempdir().unwrap();
    let store = sqlite(dir.path(), "app.db").await;
    let chats = place(&store, "app", "chats");
    fill(&store, "chats", (0..20).map(mixed)).await;
    let before = dump(&store, "chats").await;
    let engine = engine(dir.path()).await;
    let up = engine.upgrade(upgrade(&chats, 3)).await.unwrap();
    let broken = |i: usize| text(&format!("c{i:05}"), r#"{"_schemaVersion": -1}"#);
    fill(&store, "chats", (0..15).map(broken)).await;
    let strict = UpgradeJob {
        options: JobOptions {
            max_failed: Threshold::Count(0),
            ..crate::common::options()
        },
        ..down_to(&chats, 1)
    };
    let undone = engine.undo_upgrade(strict, &[run_of(&up)]).await.unwrap();
    assert_eq!((undone.counts.quarantined, undone.counts.written), (15, 5));
    assert_eq!(dump(&store, "chats").await[15..], before[15..]);
}

/// A step's first run gave up, its second was cut off: the undo of both gives the cut-off one up.
#[tokio::test(flavor = "multi_thread")]
async fn all_attempts_of_a_step_are_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = sqlite(dir.path(), "app.db").await;
    let chats = place(&store, "app", "chats");
    fill(&store, "chats", (0..40).map(mixed)).await;
    fill(&store, "chats", [text("c00030", r#"{"title": 5}"#)]).await;
    let before = dump(&store, "chats").await;
    let engine = engine(dir.path()).await;
    let narrow = JobOptions {
        parallel: Some(1),
        max_failed: Threshold::Count(0),
        ..crate::common::options()
    };
    let job = |place| UpgradeJob {
        options: narrow.clone(),
        ..upgrade(place, 3)
    };
    let first = engine.upgrade(job(&chats)).await.unwrap_err();
    assert!(matches!(first, EngineError::Threshold { .. }), "{first}");

    let mended = mixed(30);
    fill(&store, "chats", [mended.clone()]).await;
    let cut = FaultyStore::new(Arc::clone(&store)).on_write(|n, moment| match (n, moment) {
        (2, Moment::Before) => Err(StoreError::new(
            StoreErrorKind::Terminal,
            Code::StoreFull,
            "app",
            "cut off",
        )),
        _ => Ok(()),
    });
    let cut: Arc<dyn Store> = Arc::new(cut);
    // The name of the store under it is the same, so that it is the same job.
    let second = engine.upgrade(job(&place(&cut, "app", "chats"))).await;
    assert!(matches!(second, Err(EngineError::Store(_))), "{second:?}");
    let runs = ledger(dir.path()).await.state().order.clone();
    assert_eq!(runs.len(), 2);

    engine
        .undo_upgrade(down_to(&chats, 1), &runs)
        .await
        .unwrap();
    let mut expected = before;
    for (key, json) in &mut expected {
        if *key == mended.0.to_string() {
            json.clone_from(&mended.1);
        }
    }
    assert_eq!(dump(&store, "chats").await, expected);
    let state = ledger(dir.path()).await.state();
    let statuses: Vec<RunStatus> = state.order.iter().map(|r| state.runs[r].status).collect();
    use RunStatus::{Aborted, Completed};
    assert_eq!(statuses, [Aborted, Aborted, Completed]);
}

#[tokio::test(flavor = "multi_thread")]
async fn up_undo_up_undo() {
    for bench in benches("again", &["chats"]).await {
        let chats = place(&bench.store, "app", "chats");
        fill(&bench.store, "chats", (0..20).map(mixed)).await;
        let mut before = dump(&bench.store, "chats").await;
        for round in 0..3 {
            let up = bench.engine.upgrade(upgrade(&chats, 3)).await.unwrap();
            assert_eq!(up.counts.written, 20, "round {round}");
            let undone = bench
                .engine
                .undo_upgrade(down_to(&chats, 1), &[run_of(&up)])
                .await
                .unwrap();
            assert_eq!(undone.counts.written, 20, "round {round}");
            assert_eq!(dump(&bench.store, "chats").await, before, "round {round}");
            // The app goes on; the next round must bring this very write back.
            let (key, _) = mixed(round);
            let json = format!(r#"{{"title":"round {round}",  "n": {round}}}"#);
            fill(&bench.store, "chats", [(key, json)]).await;
            before = dump(&bench.store, "chats").await;
        }
    }
}

/// A run that went down is taken back upwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_downgrade_is_taken_back_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = sqlite(dir.path(), "app.db").await;
    let chats = place(&store, "app", "chats");
    fill(&store, "chats", (0..10).map(mixed)).await;
    let engine = engine(dir.path()).await;
    let up = engine.upgrade(upgrade(&chats, 3)).await.unwrap();
    let at_3 = dump(&store, "chats").await;
    let down = engine.upgrade(upgrade(&chats, 1)).await.unwrap();
    fill(
        &store,
        "chats",
        [text("c00003", r#"{"title":"app","n":7}"#)],
    )
    .await;
    engine
        .undo_upgrade(down_to(&chats, 3), &[run_of(&down)])
        .await
        .unwrap();
    let after = dump(&store, "chats").await;
    for (key, json) in &at_3 {
        let written = r#"{"name":"app","meta":{},"_schemaVersion":3}"#;
        if key == "c00003" {
            let print = |json: &str| {
                let body = Body::from_json(json.to_owned().into_bytes());
                body.fingerprint().unwrap()
            };
            assert_eq!(print(at(&after, key).unwrap()), print(written));
        } else {
            assert_eq!(at(&after, key), Some(json.as_str()));
        }
    }
    // And then the upgrade below it.
    engine
        .undo_upgrade(down_to(&chats, 1), &[run_of(&up)])
        .await
        .unwrap();
    let back = dump(&store, "chats").await;
    for (key, json) in (0..10)
        .map(mixed)
        .filter(|(k, _)| *k != Key::text("c00003"))
    {
        assert_eq!(at(&back, &key.to_string()), Some(json.as_str()));
    }
    assert!(at(&back, "c00003").unwrap().contains("app"));
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_of_something_else_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = sqlite(dir.path(), "app.db").await;
    fill(&store, "chats", (0..5).map(mixed)).await;
    fill(&store, "others", (0..5).map(mixed)).await;
    let (chats, others) = (
        place(&store, "app", "chats"),
        place(&store, "app", "others"),
    );
    let engine = engine(dir.path()).await;
    let up = engine.upgrade(upgrade(&others, 3)).await.unwrap();
    let job = || down_to(&chats, 1);
    refused(
        engine.undo_upgrade(job(), &["none".into()]).await,
        "no run none",
    );
    let run = run_of(&up);
    refused(engine.undo_upgrade(job(), &[run]).await, "app/chats");
    let nothing = engine.undo_upgrade(job(), &[]).await.unwrap();
    assert_eq!((nothing.run, nothing.counts.enumerated), (None, 0));
    assert_eq!(ledger(dir.path()).await.state().runs.len(), 1);
}
