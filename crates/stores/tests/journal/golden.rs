//! Format 1 as it was first written. These texts stand in ledgers out there: a newer program must read
//! them, and an older one what a newer one of the same format writes.

use crate::fixture::at;
use whimbrel_model::ledger::{Counts, FORMAT, JobKind, JobSpec, NO_HASH, QuarantineItem, Record};
use whimbrel_model::{Code, DocError, Entry, Key, KeyRange, ScanOrder};

/// Every kind of entry, and its text.
fn entries() -> Vec<(Entry, &'static str)> {
    let run = || "20261122-190455-7f3a".to_owned();
    let counts = Counts {
        enumerated: 10,
        written: 4,
        unchanged: 1,
        skipped: 2,
        newer: 1,
        quarantined: 1,
        deleted: 1,
        derived: 9,
        removed: 3,
        conflicts: 5,
    };
    let started = Entry::RunStarted {
        run: run(),
        job: JobSpec {
            kind: JobKind::Copy,
            title: "copy app to new".to_owned(),
            subject: "copy app new".to_owned(),
            parameters: serde_json::json!({"z": 1, "a": [0.1, null]}),
        },
        now: "2026-11-22T19:04:55Z".to_owned(),
        partitions: vec![
            KeyRange {
                after: None,
                through: Some(Key::text("m")),
            },
            KeyRange {
                after: Some(Key::Tuple(vec![
                    Key::Int(1),
                    Key::uuid(uuid::Uuid::from_u128(2)),
                ])),
                through: None,
            },
        ],
        scan: ScanOrder::Keys,
        tool: "0.1.0".to_owned(),
        step: None,
    };
    let chunk = |through, last| Entry::ChunkDone {
        run: run(),
        partition: 1,
        through,
        counts,
        last,
        note: None,
    };
    let (code, message) = (Code::StoreUnavailable, "it went away".to_owned());
    vec![
        (started, STARTED),
        (
            Entry::RunResumed {
                run: run(),
                tool: "0.2.0".to_owned(),
            },
            RESUMED,
        ),
        (chunk(Some(Key::Int(-7)), false), CHUNK),
        (chunk(None, true), LAST_CHUNK),
        (
            Entry::QuarantineResolved {
                run: run(),
                subject: "upgrade a/b".to_owned(),
                count: 3,
            },
            RESOLVED,
        ),
        (Entry::RunCompleted { run: run(), counts }, COMPLETED),
        (
            Entry::RunInterrupted {
                run: run(),
                code,
                message: message.clone(),
            },
            INTERRUPTED,
        ),
        (
            Entry::RunAborted {
                run: run(),
                code,
                message,
            },
            ABORTED,
        ),
        (
            Entry::LeaseBroken {
                by: "ann".to_owned(),
                holder: "bob".to_owned(),
                fence: 7,
            },
            BROKEN,
        ),
    ]
}

const STARTED: &str = r#"{"entry":"run_started","run":"20261122-190455-7f3a","job":{"kind":"copy","title":"copy app to new","subject":"copy app new","parameters":{"z":1,"a":[0.1,null]}},"now":"2026-11-22T19:04:55Z","partitions":[{"through":"m"},{"after":[1,{"uuid":"00000000-0000-0000-0000-000000000002"}]}],"tool":"0.1.0"}"#;
const RESUMED: &str = r#"{"entry":"run_resumed","run":"20261122-190455-7f3a","tool":"0.2.0"}"#;
const CHUNK: &str = r#"{"entry":"chunk_done","run":"20261122-190455-7f3a","partition":1,"through":-7,"counts":{"enumerated":10,"written":4,"unchanged":1,"skipped":2,"newer":1,"quarantined":1,"deleted":1,"derived":9,"removed":3,"conflicts":5},"last":false}"#;
const LAST_CHUNK: &str = r#"{"entry":"chunk_done","run":"20261122-190455-7f3a","partition":1,"through":null,"counts":{"enumerated":10,"written":4,"unchanged":1,"skipped":2,"newer":1,"quarantined":1,"deleted":1,"derived":9,"removed":3,"conflicts":5},"last":true}"#;
const RESOLVED: &str = r#"{"entry":"quarantine_resolved","run":"20261122-190455-7f3a","subject":"upgrade a/b","count":3}"#;
const COMPLETED: &str = r#"{"entry":"run_completed","run":"20261122-190455-7f3a","counts":{"enumerated":10,"written":4,"unchanged":1,"skipped":2,"newer":1,"quarantined":1,"deleted":1,"derived":9,"removed":3,"conflicts":5}}"#;
const INTERRUPTED: &str = r#"{"entry":"run_interrupted","run":"20261122-190455-7f3a","code":"WB-S01","message":"it went away"}"#;
const ABORTED: &str = r#"{"entry":"run_aborted","run":"20261122-190455-7f3a","code":"WB-S01","message":"it went away"}"#;
const BROKEN: &str = r#"{"entry":"lease_broken","by":"ann","holder":"bob","fence":7}"#;

/// Of the last of the records that [`entries`] become.
const LAST_HASH: &str = "1b47dcf17014f7947168d32db437d758d899bdc032f19490777398c4aa283ef5";

#[test]
fn the_format_is_the_one_these_texts_are_of() {
    assert_eq!(
        FORMAT, 1,
        "keep the old texts, and add those of the new format"
    );
}

#[test]
fn entries_are_written_and_read_as_ever() {
    let (mut seq, mut hash) = (0, NO_HASH.to_owned());
    for (entry, text) in entries() {
        assert_eq!(serde_json::to_string(&entry).unwrap(), text);
        assert_eq!(serde_json::from_str::<Entry>(text).unwrap(), entry);
        let record = Record::following((seq, &hash), at(1), 3, entry);
        assert_eq!(record.entry_text(), text);
        (seq, hash) = (record.seq, record.hash.clone());
        let (at, previous) = (record.at.clone(), record.previous.clone());
        let stored = Record::stored(seq, at, 3, previous, hash.clone(), text.to_owned());
        assert_eq!(stored.unwrap(), record);
    }
    assert_eq!(hash, LAST_HASH);
}

#[test]
fn a_record_survives_json_of_its_own() {
    let (entry, _) = entries().remove(0);
    let record = Record::following((0, NO_HASH), at(1), 3, entry);
    let text = serde_json::to_string(&record).unwrap();
    let read: Record = serde_json::from_str(&text).unwrap();
    assert_eq!(read.expected_hash(), record.hash);
}

const ITEM: &str = r#"{"subject":"upgrade app/conversations","run":"20261122-190455-7f3a","label":"c\u00001","key":"c\u00001","version":2,"error":{"code":"WB-D08","message":"the script threw","path":"messages[3]","stage":"v2 up","detail":"TypeError"},"at":"2026-11-22T19:04:55Z","attempts":2}"#;
const BARE_ITEM: &str = r#"{"subject":"upgrade app/conversations","run":"20261122-190455-7f3a","label":"c\u00001","key":null,"version":null,"error":{"code":"WB-D14","message":"no key"},"at":"2026-11-22T19:04:55Z","attempts":2}"#;

fn items() -> [(QuarantineItem, &'static str); 2] {
    let item = QuarantineItem {
        subject: "upgrade app/conversations".to_owned(),
        run: "20261122-190455-7f3a".to_owned(),
        label: "c\u{0}1".to_owned(),
        key: Some(Key::text("c\u{0}1")),
        version: Some(2),
        error: DocError::new(Code::DocTransform, "the script threw")
            .at("messages[3]")
            .in_stage("v2 up")
            .with_detail("TypeError"),
        at: "2026-11-22T19:04:55Z".to_owned(),
        attempts: 2,
    };
    let bare = QuarantineItem {
        key: None,
        version: None,
        error: DocError::new(Code::DocUnreadable, "no key"),
        ..item.clone()
    };
    [(item, ITEM), (bare, BARE_ITEM)]
}

#[test]
fn quarantined_items_are_written_and_read_as_ever() {
    for (item, text) in items() {
        assert_eq!(serde_json::to_string(&item).unwrap(), text);
        assert_eq!(serde_json::from_str::<QuarantineItem>(text).unwrap(), item);
        // What a newer program adds, this one leaves aside.
        let newer = text.replacen('{', r#"{"color":"red","nested":{"a":[1]},"#, 1);
        assert_eq!(
            serde_json::from_str::<QuarantineItem>(&newer).unwrap(),
            item
        );
    }
}

#[test]
fn what_is_not_known_is_an_error_that_names_it() {
    for (text, expect) in [
        (r#"{"entry":"run_teleported","run":"r"}"#, "run_teleported"),
        (r#"{"entry":"run_resumed","run":"r"}"#, "tool"),
        (r#"{"run":"r"}"#, "entry"),
        (INTERRUPTED.replace("WB-S01", "WB-Z99").as_str(), "WB-Z99"),
    ] {
        let error = serde_json::from_str::<Entry>(text).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }
}
