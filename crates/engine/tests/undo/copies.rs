//! Copies taken back: the target as it was, and what others wrote there since.

use std::sync::Arc;

use crate::common::scene::split;
use crate::common::{conversation, dump, engine, fill, ledger, options, place, sqlite, store};
use crate::{at, benches, refused, run_of, text};
use whimbrel_engine::{CopyJob, JobOptions, NativeTransform, PROVENANCE, Place};
use whimbrel_model::ledger::{JobKind, RunStatus};
use whimbrel_model::rule::CopyRule;
use whimbrel_model::{
    Code, Emit, Guard, Key, Store, StoreError, StoreErrorKind, TransformInput, Write,
};
use whimbrel_stores::{CollectionConfig, OpenOptions, open};
use whimbrel_testkit::crashing::Moment;
use whimbrel_testkit::faulty::FaultyStore;

fn plain() -> CopyRule {
    CopyRule::plain("all")
}

fn job(source: &Place, target: &Place, rule: CopyRule) -> CopyJob {
    CopyJob {
        source: source.clone(),
        target: target.clone(),
        rule,
        schema: None,
        scratch: None,
        options: JobOptions {
            undoable: true,
            ..options()
        },
    }
}

/// A chat of so many messages.
fn chat(id: usize, messages: usize, word: &str) -> (Key, String) {
    let texts: Vec<String> = (0..messages).map(|m| format!("{word} {id}.{m}")).collect();
    let json = serde_json::json!({ "title": format!("chat {id}"), "messages": texts });
    (Key::text(format!("c{id:05}")), json.to_string())
}

async fn delete(store: &Arc<dyn Store>, collection: &str, key: &str) {
    let write = Write {
        collection: collection.into(),
        key: Key::text(key),
        to: None,
        guard: Guard::Any,
    };
    store.write(&[write]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_into_nothing_leaves_nothing() {
    for bench in benches("empty", &["chats", "copies"]).await {
        let (app, engine) = (&bench.store, &bench.engine);
        let source = place(app, "app", "chats");
        let target = place(app, "app", "copies");
        fill(app, "chats", (0..50).map(conversation)).await;
        let before = dump(app, "chats").await;
        for round in 0..2 {
            let copied = engine.copy(job(&source, &target, plain())).await.unwrap();
            assert_eq!(copied.counts.written, 50);
            let run = run_of(&copied);
            let undone = engine
                .uncopy(job(&source, &target, plain()), std::slice::from_ref(&run))
                .await
                .unwrap();
            assert_eq!(dump(app, "copies").await, [], "round {round}");
            let c = undone.counts;
            assert_eq!((c.enumerated, c.written, c.removed), (50, 50, 50));
            let subject = "copy app/chats to app/copies by all";
            assert_eq!(undone.title, format!("undo {subject} (run {run})"));
            let recorded = ledger(bench.dir.path()).await.state().runs[&run_of(&undone)].clone();
            assert_eq!(recorded.job.kind, JobKind::Undo);
            assert_eq!(recorded.job.subject, subject);
        }
        assert_eq!(dump(app, "chats").await, before);
    }
}

/// A collection of plain JSON gives a document back in another form than it was written in: that is still
/// the copy's.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_collection_makes_of_a_document_is_the_copys() {
    let dir = tempfile::tempdir().unwrap();
    let config = CollectionConfig {
        plain: true,
        ..CollectionConfig::default()
    };
    let open_options = OpenOptions {
        collections: [("copies".to_owned(), config)].into(),
        ..OpenOptions::default()
    };
    let url = format!("sqlite:{}", dir.path().join("other.db").display());
    let other = open(&url, &open_options).await.unwrap();
    let app = store("memory:").await;
    let one = |i: usize| {
        let json = format!(r#"{{"n": {i}, "at": {{"$timestamp": "2026-01-02T03:04:05Z"}}}}"#);
        text(&format!("c{i:05}"), &json)
    };
    fill(&app, "chats", (0..20).map(one)).await;
    let source = place(&app, "app", "chats");
    let target = place(&other, "other", "copies");
    let engine = engine(dir.path()).await;
    let copied = engine.copy(job(&source, &target, plain())).await.unwrap();
    let held = dump(&other, "copies").await;
    assert!(!held[3].1.contains("$timestamp"), "{}", held[3].1);
    let edit = r#"{"n":7}"#;
    fill(&other, "copies", [text("c00007", edit)]).await;
    let undone = engine
        .uncopy(job(&source, &target, plain()), &[run_of(&copied)])
        .await
        .unwrap();
    let left = [("c00007".to_owned(), edit.to_owned())];
    assert_eq!(dump(&other, "copies").await, left);
    assert_eq!((undone.counts.written, undone.counts.skipped), (19, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_filled_target_comes_back_byte_for_byte() {
    for bench in benches("half", &["chats", "copies"]).await {
        let (app, engine) = (&bench.store, &bench.engine);
        let (source, target) = (place(app, "app", "chats"), place(app, "app", "copies"));
        fill(app, "chats", (0..50).map(conversation)).await;
        let there = |i: usize| match i % 5 {
            // The same, another, and one of nobody's.
            0 => conversation(i),
            1 => text(&format!("c{i:05}"), r#"{ "was":  "here", "n": 1.50 }"#),
            _ => text(&format!("own {i}"), "{\"own\":\"\\u00e9\"}"),
        };
        fill(app, "copies", (0..50).map(there)).await;
        let before = dump(app, "copies").await;
        let copied = engine.copy(job(&source, &target, plain())).await.unwrap();
        assert_eq!((copied.counts.written, copied.counts.unchanged), (40, 10));
        let undone = engine
            .uncopy(job(&source, &target, plain()), &[run_of(&copied)])
            .await
            .unwrap();
        assert_eq!(dump(app, "copies").await, before);
        let c = undone.counts;
        assert_eq!((c.written, c.derived, c.removed), (40, 10, 30), "{c:?}");
    }
}

/// Each run, or all of them, with what the target remembers of its source.
#[tokio::test(flavor = "multi_thread")]
async fn splits_are_taken_back_with_their_provenance() {
    for bench in benches("split", &["chats", "messages"]).await {
        let (app, engine) = (&bench.store, &bench.engine);
        let (source, target) = (place(app, "app", "chats"), place(app, "app", "messages"));
        let copy = || job(&source, &target, split());
        let all = async || {
            let provenance = match app.describe(PROVENANCE).await.unwrap() {
                Some(_) => dump(app, PROVENANCE).await,
                None => Vec::new(),
            };
            (dump(app, "messages").await, provenance)
        };
        fill(app, "chats", (0..20).map(|i| chat(i, 3, "first"))).await;
        fill(app, "messages", [text("own", "{}")]).await;
        let empty = all().await;
        let first = engine.copy(copy()).await.unwrap();
        let once = all().await;
        assert_eq!((once.0.len(), once.1.len()), (61, 20));

        // Fewer, more, other messages, and other chats.
        fill(app, "chats", (0..5).map(|i| chat(i, 1, "first"))).await;
        fill(app, "chats", (5..10).map(|i| chat(i, 4, "second"))).await;
        fill(app, "chats", (20..25).map(|i| chat(i, 2, "second"))).await;
        let second = engine.copy(copy()).await.unwrap();
        assert_eq!(second.counts.removed, 10);
        let twice = all().await;

        engine.uncopy(copy(), &[run_of(&second)]).await.unwrap();
        assert_eq!(all().await, once);
        let third = engine.copy(copy()).await.unwrap();
        assert_eq!(all().await, twice);
        let runs = [run_of(&first), run_of(&third)];
        let undone = engine.uncopy(copy(), &runs).await.unwrap();
        assert_eq!(all().await, empty);
        assert_eq!((undone.counts.skipped, undone.counts.quarantined), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_wrote_since_is_left() {
    for bench in benches("others", &["chats", "copies"]).await {
        let (app, engine) = (&bench.store, &bench.engine);
        let (source, target) = (place(app, "app", "chats"), place(app, "app", "copies"));
        fill(app, "chats", (0..20).map(conversation)).await;
        let there = |i: usize| text(&format!("c{i:05}"), r#"{"was":"here"}"#);
        fill(app, "copies", (10..14).map(there)).await;
        let copied = engine.copy(job(&source, &target, plain())).await.unwrap();

        let edit = r#"{"edited":true}"#;
        let edits = ["c00001", "c00011", "new"];
        fill(app, "copies", edits.map(|key| text(key, edit))).await;
        delete(app, "copies", "c00002").await;
        delete(app, "copies", "c00012").await;
        // By hand, as it was.
        fill(app, "copies", [there(13)]).await;
        let mut events = engine.subscribe();
        let undone = engine
            .uncopy(job(&source, &target, plain()), &[run_of(&copied)])
            .await
            .unwrap();
        let expected = [
            ("c00001", edit),
            ("c00010", r#"{"was":"here"}"#),
            ("c00011", edit),
            ("c00013", r#"{"was":"here"}"#),
            ("new", edit),
        ];
        let expected = expected.map(|(k, json)| (k.to_owned(), json.to_owned()));
        let bare = |dump: Vec<(String, String)>| -> Vec<(String, String)> {
            let no_spaces = |(k, json): (String, String)| (k, json.replace(' ', ""));
            dump.into_iter().map(no_spaces).collect()
        };
        assert_eq!(bare(dump(app, "copies").await), expected);
        let c = undone.counts;
        assert!(c.balanced());
        assert_eq!(
            (c.enumerated, c.written, c.skipped, c.unchanged),
            (20, 15, 3, 2),
            "{c:?}"
        );
        let mut told = false;
        while let Ok(event) = events.try_recv() {
            told |= format!("{event:?}").contains("3 target documents were changed or deleted");
        }
        assert!(told, "the report says what was left");
    }
}

/// The app puts a document at the moment when the copy is about to write the same one: it is the app's.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_lost_its_guard_is_not_the_copys() {
    let dir = tempfile::tempdir().unwrap();
    let (app, other) = (store("memory:").await, sqlite(dir.path(), "other.db").await);
    fill(&app, "chats", (0..3).map(conversation)).await;
    let file = dir.path().join("other.db");
    let watched = FaultyStore::new(Arc::clone(&other)).on_write(move |n, moment| {
        if (n, moment) == (1, Moment::Before) {
            let (key, json) = conversation(1);
            let app = rusqlite::Connection::open(&file).unwrap();
            app.execute(
                "INSERT INTO copies VALUES (?1, ?2)",
                [key.to_string(), json],
            )
            .unwrap();
        }
        Ok(())
    });
    let watched: Arc<dyn Store> = Arc::new(watched);
    let source = place(&app, "app", "chats");
    let engine = engine(dir.path()).await;
    let copied = engine
        .copy(job(&source, &place(&watched, "other", "copies"), plain()))
        .await
        .unwrap();
    assert_eq!(copied.counts.conflicts, 1);
    let target = place(&other, "other", "copies");
    let undone = engine
        .uncopy(job(&source, &target, plain()), &[run_of(&copied)])
        .await
        .unwrap();
    let (key, json) = conversation(1);
    assert_eq!(dump(&other, "copies").await, [(key.to_string(), json)]);
    assert_eq!((undone.counts.written, undone.counts.skipped), (2, 1));
}

/// A unit of which the target refuses one document leaves nothing; so there is nothing to take back.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_unit_needs_no_way_back() {
    let dir = tempfile::tempdir().unwrap();
    let app = store("memory:").await;
    fill(&app, "chats", (0..10).map(|i| chat(i, 1, "m"))).await;
    fill(&app, "copies", []).await;
    let pairs = NativeTransform::new("pairs", |input, _| {
        let TransformInput::One { key, doc } = input else {
            unreachable!()
        };
        let body = doc.into_body();
        let emit = |key| Emit {
            collection: None,
            key: Some(key),
            body: body.clone(),
        };
        let second = match key.to_string().as_str() {
            // The collection's keys are texts.
            "c00004" => Key::Int(4),
            other => Key::text(format!("{other}:b")),
        };
        Ok(vec![emit(Key::text(format!("{key}:a"))), emit(second)])
    });
    let rule = || CopyRule {
        transform: Some(Arc::new(pairs)),
        ..plain()
    };
    let rule = rule();
    let (source, target) = (place(&app, "app", "chats"), place(&app, "app", "copies"));
    let engine = engine(dir.path()).await;
    let copied = engine.copy(job(&source, &target, rule.clone())).await;
    let copied = copied.unwrap();
    assert_eq!((copied.counts.written, copied.counts.quarantined), (9, 1));
    let undone = engine
        .uncopy(job(&source, &target, rule), &[run_of(&copied)])
        .await
        .unwrap();
    assert_eq!(dump(&app, "copies").await, []);
    assert_eq!(dump(&app, PROVENANCE).await, []);
    assert_eq!(undone.counts.quarantined, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_copy_is_given_up_and_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let (app, other) = (store("memory:").await, sqlite(dir.path(), "other.db").await);
    fill(&app, "chats", (0..40).map(|i| chat(i, 2, "m"))).await;
    let cut: Arc<dyn Store> = Arc::new(FaultyStore::new(Arc::clone(&other)).on_write(
        |n, moment| match (n, moment) {
            (3, Moment::After) => Err(StoreError::new(
                StoreErrorKind::Terminal,
                Code::StoreFull,
                "other",
                "cut off",
            )),
            _ => Ok(()),
        },
    ));
    let source = place(&app, "app", "chats");
    let engine = engine(dir.path()).await;
    let mut half = job(&source, &place(&cut, "other", "messages"), split());
    half.options.parallel = Some(1);
    engine.copy(half).await.unwrap_err();
    // Four partitions of ten chats, in chunks of at most seven: 7 + 3 + 7.
    assert_eq!(dump(&other, "messages").await.len(), 17 * 2);
    let runs = ledger(dir.path()).await.state().order.clone();

    let target = place(&other, "other", "messages");
    engine
        .uncopy(job(&source, &target, split()), &runs)
        .await
        .unwrap();
    assert_eq!(dump(&other, "messages").await, []);
    assert_eq!(dump(&other, PROVENANCE).await, []);
    let state = ledger(dir.path()).await.state();
    assert_eq!(state.runs[&runs[0]].status, RunStatus::Aborted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_was_dropped_stays_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let (app, other) = (store("memory:").await, sqlite(dir.path(), "other.db").await);
    fill(&app, "chats", (0..5).map(conversation)).await;
    let (source, target) = (
        place(&app, "app", "chats"),
        place(&other, "other", "copies"),
    );
    let engine = engine(dir.path()).await;
    let copied = engine.copy(job(&source, &target, plain())).await.unwrap();
    let file = rusqlite::Connection::open(dir.path().join("other.db")).unwrap();
    file.execute_batch("DROP TABLE copies").unwrap();
    let other = sqlite(dir.path(), "other.db").await;
    let target = place(&other, "other", "copies");
    let undone = engine
        .uncopy(job(&source, &target, plain()), &[run_of(&copied)])
        .await
        .unwrap();
    assert_eq!((undone.counts.enumerated, undone.counts.unchanged), (5, 5));
    assert!(other.describe("copies").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_without_a_record_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let app = store("memory:").await;
    fill(&app, "chats", (0..5).map(conversation)).await;
    let source = place(&app, "app", "chats");
    let (copies, others) = (place(&app, "app", "copies"), place(&app, "app", "others"));
    let engine = engine(dir.path()).await;
    let mut silent = job(&source, &copies, plain());
    silent.options.undoable = false;
    let silent = run_of(&engine.copy(silent).await.unwrap());
    let other = run_of(&engine.copy(job(&source, &others, plain())).await.unwrap());
    let undo = async |run| engine.uncopy(job(&source, &copies, plain()), &[run]).await;
    refused(undo(silent).await, "kept no record");
    refused(undo(other).await, "app/copies");
    refused(undo("none".to_owned()).await, "no run none");
    let runs = ledger(dir.path()).await.state().runs.len();
    let nothing = engine
        .uncopy(job(&source, &copies, plain()), &[])
        .await
        .unwrap();
    assert_eq!((nothing.run, nothing.counts.enumerated), (None, 0));
    assert_eq!(ledger(dir.path()).await.state().runs.len(), runs);
    let all = dump(&app, "copies").await;
    assert_eq!(all, dump(&app, "chats").await);
    assert!(at(&all, "c00004").is_some());
}
