//! Every kind of step under every fault, with a step in front of it and one behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use whimbrel_engine::EngineError;
use whimbrel_engine::migrate::{MigrationJob, StepError};
use whimbrel_model::Code;
use whimbrel_model::ledger::{MigrationState, MigrationStatus, Rest, StepStatus};
use whimbrel_model::migration::Phase;
use whimbrel_testkit::crashing::Moment;

use crate::common::scene::split;
use crate::spoilt::{Work, spoilt};
use crate::trouble::{Blow, Call, Mode, Trouble};
use crate::world::{
    DOCUMENTS, ID, Part, Picture, Session, Tools, World, apply_with_word, job, map_of, rule,
    statuses,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Backup,
    Upgrade,
    Copy,
    Verify,
    Phase,
    Command,
    Sql,
    Approve,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    ForwardFails,
    ValidateFails,
    /// After a forward that fails.
    UndoFails,
    Killed,
    KilledUndoing,
    LeaseLost,
    LeaseLostUndoing,
    StoreGone,
    StoreGoneUndoing,
    DiskFull,
    DiskFullUndoing,
    /// The disk of the ledger.
    LedgerFull,
    LedgerFullUndoing,
}

/// How the call ends in which the fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Undone,
    UndoFailed,
    /// It rests, and nothing is taken back.
    Rests(Code),
    /// The process can do no more.
    Breaks(Code),
    /// The same, and afterwards it is unknown whether the undo happened, so that somebody must say.
    BreaksUnknown(Code),
}

use End::{Breaks, BreaksUnknown, Rests, UndoFailed, Undone};
use Fault as F;
use Kind as K;

const DEAD: End = Breaks(Code::LedgerFailed);
const LOST: End = Breaks(Code::LeaseLost);
const FULL: End = Breaks(Code::LedgerFailed);
const GONE: End = Rests(Code::StoreUnavailable);

// What makes no sense is not here: `phase`, `command` and `approve` need no store, so none can be gone or
// full; `backup` and `verify` write none (the disk of an archive is its vault's own to test), and their undo
// and that of `approve` do nothing, so a store is not missed. `approve` judges nothing that could be invalid,
// and its ledger is that of `phase`.
const TABLE: [(Kind, Fault, End); 78] = [
    (K::Backup, F::ForwardFails, Undone),
    (K::Backup, F::ValidateFails, Undone),
    (K::Backup, F::UndoFails, UndoFailed),
    (K::Backup, F::Killed, DEAD),
    (K::Backup, F::KilledUndoing, DEAD),
    (K::Backup, F::LeaseLost, LOST),
    (K::Backup, F::LeaseLostUndoing, LOST),
    (K::Backup, F::StoreGone, GONE),
    (K::Backup, F::LedgerFull, FULL),
    (K::Backup, F::LedgerFullUndoing, FULL),
    (K::Upgrade, F::ForwardFails, Undone),
    (K::Upgrade, F::ValidateFails, Undone),
    (K::Upgrade, F::UndoFails, UndoFailed),
    (K::Upgrade, F::Killed, DEAD),
    (K::Upgrade, F::KilledUndoing, DEAD),
    (K::Upgrade, F::LeaseLost, LOST),
    (K::Upgrade, F::LeaseLostUndoing, LOST),
    (K::Upgrade, F::StoreGone, GONE),
    (K::Upgrade, F::StoreGoneUndoing, GONE),
    (K::Upgrade, F::DiskFull, Rests(Code::StoreFull)),
    (K::Upgrade, F::DiskFullUndoing, Rests(Code::StoreFull)),
    (K::Upgrade, F::LedgerFull, FULL),
    (K::Upgrade, F::LedgerFullUndoing, FULL),
    (K::Copy, F::ForwardFails, Undone),
    (K::Copy, F::ValidateFails, Undone),
    (K::Copy, F::UndoFails, UndoFailed),
    (K::Copy, F::Killed, DEAD),
    (K::Copy, F::KilledUndoing, DEAD),
    (K::Copy, F::LeaseLost, LOST),
    (K::Copy, F::LeaseLostUndoing, LOST),
    (K::Copy, F::StoreGone, GONE),
    (K::Copy, F::StoreGoneUndoing, GONE),
    (K::Copy, F::DiskFull, Rests(Code::StoreFull)),
    (K::Copy, F::DiskFullUndoing, Rests(Code::StoreFull)),
    (K::Copy, F::LedgerFull, FULL),
    (K::Copy, F::LedgerFullUndoing, FULL),
    (K::Verify, F::ForwardFails, Undone),
    (K::Verify, F::ValidateFails, Undone),
    (K::Verify, F::UndoFails, UndoFailed),
    (K::Verify, F::Killed, DEAD),
    (K::Verify, F::KilledUndoing, DEAD),
    (K::Verify, F::LeaseLost, LOST),
    (K::Verify, F::LeaseLostUndoing, LOST),
    (K::Verify, F::StoreGone, GONE),
    (K::Verify, F::LedgerFull, FULL),
    (K::Verify, F::LedgerFullUndoing, FULL),
    (K::Phase, F::ForwardFails, Undone),
    (K::Phase, F::ValidateFails, Undone),
    (K::Phase, F::UndoFails, UndoFailed),
    (K::Phase, F::Killed, DEAD),
    (K::Phase, F::KilledUndoing, DEAD),
    (K::Phase, F::LeaseLost, LOST),
    (K::Phase, F::LeaseLostUndoing, LOST),
    (K::Phase, F::LedgerFull, FULL),
    (K::Phase, F::LedgerFullUndoing, FULL),
    (K::Command, F::ForwardFails, Undone),
    (K::Command, F::ValidateFails, Undone),
    (K::Command, F::UndoFails, UndoFailed),
    (K::Command, F::Killed, DEAD),
    (
        K::Command,
        F::KilledUndoing,
        BreaksUnknown(Code::LedgerFailed),
    ),
    (K::Command, F::LeaseLost, LOST),
    (
        K::Command,
        F::LeaseLostUndoing,
        BreaksUnknown(Code::LeaseLost),
    ),
    (K::Command, F::LedgerFull, FULL),
    (
        K::Command,
        F::LedgerFullUndoing,
        BreaksUnknown(Code::LedgerFailed),
    ),
    (K::Sql, F::ForwardFails, Undone),
    (K::Sql, F::ValidateFails, Undone),
    (K::Sql, F::UndoFails, UndoFailed),
    (K::Sql, F::Killed, DEAD),
    (K::Sql, F::KilledUndoing, BreaksUnknown(Code::LedgerFailed)),
    (K::Sql, F::LeaseLost, LOST),
    (K::Sql, F::LeaseLostUndoing, BreaksUnknown(Code::LeaseLost)),
    (K::Sql, F::StoreGone, GONE),
    (K::Sql, F::StoreGoneUndoing, GONE),
    (K::Sql, F::DiskFull, Rests(Code::StoreFull)),
    (K::Sql, F::DiskFullUndoing, Rests(Code::StoreFull)),
    (K::Approve, F::ForwardFails, Undone),
    (K::Approve, F::Killed, DEAD),
    (K::Approve, F::KilledUndoing, DEAD),
];

impl Fault {
    fn undoing(self) -> bool {
        matches!(
            self,
            F::KilledUndoing
                | F::LeaseLostUndoing
                | F::StoreGoneUndoing
                | F::DiskFullUndoing
                | F::LedgerFullUndoing
        )
    }

    fn blow(self) -> Option<Blow> {
        Some(match self {
            F::ForwardFails | F::ValidateFails | F::UndoFails => return None,
            F::Killed | F::KilledUndoing => Blow::Mode(Mode::Dead),
            F::LeaseLost | F::LeaseLostUndoing => Blow::LeaseLost,
            F::StoreGone | F::StoreGoneUndoing => Blow::Mode(Mode::Gone),
            F::DiskFull | F::DiskFullUndoing => Blow::Mode(Mode::Full),
            F::LedgerFull | F::LedgerFullUndoing => Blow::Mode(Mode::LedgerFull),
        })
    }
}

impl Kind {
    fn part(self, tools: &Tools) -> Part {
        let name = "spoilt";
        match self {
            K::Backup => tools.backup(name),
            K::Upgrade => tools.upgrade(name, "chats", 1, 3),
            K::Copy => tools.copy(name, "chats", "messages", split()),
            K::Verify => tools.verify_upgraded(name, "first", 2),
            K::Phase => tools.phase(name, Phase::Dualwrite),
            K::Command => tools.run(name, tools.command()),
            K::Sql => tools.run(name, tools.sql()),
            K::Approve => tools.approve(name, &[]),
        }
    }

    /// In the middle of its work: at which of its calls to a store. `None`: when it is done, before that is
    /// known.
    fn middle(self, fault: Fault) -> Option<(Call, Moment, u64)> {
        // What was written before the store went away or was full is half of the work; a kill, or a lost
        // lease, comes when a write has landed and nobody knows it yet.
        let moment = match fault {
            F::Killed | F::KilledUndoing | F::LeaseLost | F::LeaseLostUndoing => Moment::After,
            _ => Moment::Before,
        };
        match self {
            K::Upgrade | K::Copy => Some((Call::Write, moment, 2)),
            K::Backup | K::Verify if !fault.undoing() => Some((Call::Read, moment, 2)),
            K::Sql => Some((Call::Statement, moment, 1)),
            _ => None,
        }
    }
}

/// The migration of a cell, as one process has it.
fn cell_job(world: &World, session: &Session, kind: Kind, spoil: Option<Fault>) -> MigrationJob {
    let tools = &session.tools;
    let mut part = kind.part(tools);
    if let Some(fault) = spoil {
        let (trouble, app) = (Arc::clone(&session.trouble), Arc::clone(&world.app));
        let edited = Arc::new(AtomicBool::new(false));
        part = spoilt(&part, move |work, moment| {
            let (trouble, app) = (Arc::clone(&trouble), Arc::clone(&app));
            let edited = Arc::clone(&edited);
            Box::pin(async move {
                if moment == Moment::Before && !edited.swap(true, Ordering::SeqCst) {
                    // The app goes on, in the shape that the first step made.
                    crate::world::put(&app, "first", EDITED, Some(EDIT)).await;
                }
                spoil_work(&trouble, kind, fault, work, moment).await
            })
        });
    }
    let parts = [
        tools.upgrade("before", "first", 1, 2),
        part,
        tools.copy("behind", "first", "firsts", rule("all")),
    ];
    job(ID, &parts, world.path())
}

const EDITED: &str = "f00003";
const EDIT: &str = r#"{"name":"edited","n":33,"_schemaVersion":2}"#;

async fn spoil_work(
    trouble: &Trouble,
    kind: Kind,
    fault: Fault,
    work: Work,
    moment: Moment,
) -> Result<(), StepError> {
    let failed = |code: Code| Err(StepError::terminal(code, "a fault of the test"));
    match (fault, work, moment) {
        // The work is done, and its word is that it failed.
        (F::ForwardFails | F::UndoFails, Work::Forward, Moment::After) => {
            return failed(Code::StepFailed);
        }
        (F::ValidateFails, Work::Validate, Moment::Before) => return failed(Code::StepInvalid),
        (F::UndoFails, Work::Backward, Moment::Before) => return failed(Code::UndoFailed),
        _ => {}
    }
    let here = work
        == if fault.undoing() {
            Work::Backward
        } else {
            Work::Forward
        };
    let Some(blow) = fault.blow().filter(|_| here && !trouble.struck()) else {
        return Ok(());
    };
    match (kind.middle(fault), moment) {
        (Some((call, at, nth)), Moment::Before) => trouble.arm(blow, call, at, nth),
        (Some(_), Moment::After) => panic!("{kind:?}, {fault:?}: the blow never fell"),
        (None, Moment::Before) => {}
        (None, Moment::After) => trouble.strike(blow).await,
    }
    Ok(())
}

/// What must be there when the migration is applied: I3, per document.
async fn check_applied(world: &World, kind: Kind, before: &Picture, what: &str) {
    let now = world.picture().await;
    let mut expected = before.clone();
    for (key, json) in before.of("first") {
        let to = &now.of("first")[key];
        let mut map = map_of(json);
        if key == EDITED && print(&map_of(to)) == print(&map_of(EDIT)) {
            map = map_of(EDIT);
        } else {
            let title = map.shift_remove("title").unwrap();
            map.insert("name".into(), title);
            map.insert("_schemaVersion".into(), whimbrel_model::Value::Int(2));
        }
        assert_same(&map_of(to), &map, &format!("{what}: {key}"));
    }
    expected
        .collections
        .insert("first".into(), now.of("first").clone());
    // The edit may have come behind the copy.
    let mut firsts = now.of("first").clone();
    firsts.insert(EDITED.into(), now.of("firsts")[EDITED].clone());
    expected.collections.insert("firsts".into(), firsts);
    match kind {
        K::Upgrade => {
            for (key, json) in before.of("chats") {
                let mut map = map_of(json);
                let title = map.shift_remove("title").unwrap();
                map.shift_remove("n");
                map.insert("name".into(), title);
                map.insert(
                    "meta".into(),
                    whimbrel_model::Value::Map(Default::default()),
                );
                map.insert("_schemaVersion".into(), whimbrel_model::Value::Int(3));
                assert_same(
                    &map_of(&now.of("chats")[key]),
                    &map,
                    &format!("{what}: {key}"),
                );
            }
            expected
                .collections
                .insert("chats".into(), now.of("chats").clone());
        }
        K::Copy => {
            let messages = now.of("messages");
            assert_eq!(messages.len(), 3 * DOCUMENTS, "{what}");
            for key in before.of("chats").keys() {
                let i: usize = key[1..].parse().unwrap();
                for (at, m) in ["a", "b", "c"].into_iter().enumerate() {
                    let text = map_of(&format!(r#"{{"text":"{m}{i}"}}"#));
                    let message = map_of(&messages[&format!("{key}:{at}")]);
                    assert_same(&message, &text, &format!("{what}: {key}:{at}"));
                }
            }
            expected
                .collections
                .insert("messages".into(), messages.clone());
            assert_eq!(now.of("units").len(), DOCUMENTS, "{what}");
            expected
                .collections
                .insert("units".into(), now.of("units").clone());
        }
        K::Phase => {
            expected.phases.insert("app/chats".into(), Phase::Dualwrite);
        }
        K::Command => expected.flag = true,
        K::Sql => {
            let row = now.of("notes").iter().map(|(k, v)| (k.clone(), map_of(v)));
            let flag = ("flag".to_owned(), map_of(r#"{"on":true}"#));
            assert_eq!(row.collect::<Vec<_>>(), [flag], "{what}");
            expected
                .collections
                .insert("notes".into(), now.of("notes").clone());
        }
        K::Backup | K::Verify | K::Approve => {}
    }
    assert_eq!(now, expected, "{what}");
}

/// A server may write the same in other words.
fn print(map: &whimbrel_model::Map) -> whimbrel_model::Fingerprint {
    let body = whimbrel_model::Body::Map(map.clone());
    body.fingerprint().unwrap()
}

fn assert_same(now: &whimbrel_model::Map, expected: &whimbrel_model::Map, what: &str) {
    let same = print(now) == print(expected);
    assert!(same, "{what}: {now:?}, not {expected:?}");
}

/// Everything is as it was to the byte, and what the app wrote is kept, in the old shape.
async fn check_undone(world: &World, before: &Picture, what: &str) {
    let mut now = world.picture().await;
    let first = now.collections.get_mut("first").unwrap();
    let edited = first
        .insert(EDITED.into(), before.of("first")[EDITED].clone())
        .unwrap();
    let kept = map_of(r#"{"title":"edited","n":33}"#);
    assert_same(&map_of(&edited), &kept, &format!("{what}: the app's write"));
    assert_eq!(now, *before, "{what}");
}

/// The call in which the fault happens, and what the ledger says of it.
async fn check_end(
    world: &World,
    fault: Fault,
    end: End,
    result: Result<MigrationState, EngineError>,
    what: &str,
) {
    world.check_ledger(what).await;
    let state = world.state().await;
    let spoilt = &state.steps[1];
    let undoing = fault.undoing();
    match end {
        Undone | UndoFailed => {
            let said = result.unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(said, state, "{what}");
            let (status, step) = match end {
                Undone => (MigrationStatus::Undone, StepStatus::Undone),
                _ => (MigrationStatus::UndoFailed, StepStatus::UndoFailed),
            };
            assert_eq!(state.status, status, "{what}");
            let expected = [StepStatus::Undone, step, StepStatus::Pending];
            assert_eq!(statuses(&state), expected, "{what}");
            let code = match fault {
                F::ValidateFails => Code::StepInvalid,
                _ => Code::StepFailed,
            };
            assert_eq!(state.cause.as_ref().map(|c| c.0), Some(code), "{what}");
            assert_eq!(spoilt.error.as_ref().map(|e| e.0), Some(code), "{what}");
            let undo_error = spoilt.undo_error.as_ref().map(|e| e.0);
            let failed = (end == UndoFailed).then_some(Code::UndoFailed);
            assert_eq!(undo_error, failed, "{what}");
        }
        Rests(code) => {
            let said = result.unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(said, state, "{what}");
            let (status, step, error) = if undoing {
                let rests = MigrationStatus::UndoResting(Rest::Stopped);
                (rests, StepStatus::UndoFailed, &spoilt.undo_error)
            } else {
                let rests = MigrationStatus::Resting(Rest::Stopped);
                (rests, StepStatus::Failed, &spoilt.error)
            };
            assert_eq!((state.status, spoilt.status), (status, step), "{what}");
            assert_eq!(error.as_ref().map(|e| e.0), Some(code), "{what}");
        }
        Breaks(code) | BreaksUnknown(code) => {
            let error = result.expect_err(what);
            assert_eq!(error.code(), code, "{what}: {error}");
            let (status, step) = if undoing {
                (MigrationStatus::Undoing, StepStatus::Undoing)
            } else {
                (MigrationStatus::Running, StepStatus::Running)
            };
            assert_eq!((state.status, spoilt.status), (status, step), "{what}");
        }
    }
    let front = if matches!(end, Undone | UndoFailed) {
        StepStatus::Undone
    } else {
        StepStatus::Done
    };
    assert_eq!(state.steps[0].status, front, "{what}");
    let behind = if undoing {
        StepStatus::Undone
    } else {
        StepStatus::Pending
    };
    assert_eq!(state.steps[2].status, behind, "{what}");
}

async fn check(world: World, kind: Kind, fault: Fault, end: End) {
    let what = &format!("{kind:?}, {fault:?}");
    let before = world.picture().await;
    let session = world.session().await;
    let (engine, spoilt) = (
        &session.engine,
        cell_job(&world, &session, kind, Some(fault)),
    );
    let result = if fault.undoing() {
        let state = apply_with_word(engine, &spoilt).await.unwrap();
        assert_eq!(
            state.status,
            MigrationStatus::Applied,
            "{what}: {:?}",
            state.cause
        );
        check_applied(&world, kind, &before, what).await;
        engine.revert(spoilt.clone(), None).await
    } else {
        apply_with_word(engine, &spoilt).await
    };
    assert_eq!(session.trouble.struck(), fault.blow().is_some(), "{what}");
    check_end(&world, fault, end, result, what).await;
    if end == Undone {
        check_undone(&world, &before, what).await;
    }
    if matches!(end, Rests(_)) {
        // As long as it lasts, trying again changes nothing.
        let again = engine.apply(spoilt).await.unwrap();
        assert_eq!(again.status, world.state().await.status, "{what}");
        check_end(&world, fault, end, Ok(again), what).await;
    }

    session.trouble.heal();
    let next = world.session().await;
    let well = cell_job(&world, &next, kind, None);
    let engine = &next.engine;
    if fault.undoing() || end == UndoFailed {
        bring_back(engine, &well, end, what).await;
        check_undone(&world, &before, what).await;
    }
    // To the end, and back.
    let state = apply_with_word(engine, &well)
        .await
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(state.status, MigrationStatus::Applied, "{what}: {state:?}");
    assert_eq!(statuses(&state), [StepStatus::Done; 3], "{what}");
    let fresh = fault.undoing() || matches!(end, Undone | UndoFailed);
    assert_eq!(state.application, if fresh { 2 } else { 1 }, "{what}");
    check_applied(&world, kind, &before, what).await;
    let state = engine.revert(well, None).await.unwrap();
    assert_eq!(state.status, MigrationStatus::Undone, "{what}: {state:?}");
    check_undone(&world, &before, what).await;
    world.check_ledger(what).await;
}

/// From an undo that did not come to its end.
async fn bring_back(engine: &whimbrel_engine::Engine, job: &MigrationJob, end: End, what: &str) {
    if end == UndoFailed {
        let error = engine.apply(job.clone()).await.unwrap_err();
        assert_eq!(error.code(), Code::UndoFailed, "{what}");
    }
    let mut state = engine
        .revert(job.clone(), None)
        .await
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    if matches!(end, BreaksUnknown(_)) {
        assert_eq!(state.status, MigrationStatus::UndoFailed, "{what}");
        assert_eq!(state.steps[1].status, StepStatus::UndoUnknown, "{what}");
        engine
            .settle_step(ID, "spoilt", true, "ada@here", "ada")
            .await
            .unwrap();
        state = engine.revert(job.clone(), None).await.unwrap();
    }
    assert_eq!(state.status, MigrationStatus::Undone, "{what}: {state:?}");
}

async fn check_row(kind: Kind) {
    let cells = TABLE.iter().filter(|(of, ..)| *of == kind);
    let cells: Vec<_> = cells.collect();
    assert!(!cells.is_empty());
    for some in cells.chunks(4) {
        let all = some.iter().map(|(kind, fault, end)| async move {
            check(World::new().await, *kind, *fault, *end).await;
        });
        futures::future::join_all(all).await;
    }
}

macro_rules! rows {
    ($($name:ident: $kind:expr;)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            check_row($kind).await;
        })*
    };
}

rows! {
    backup: K::Backup;
    upgrade: K::Upgrade;
    copy: K::Copy;
    verify: K::Verify;
    phase: K::Phase;
    run_by_command: K::Command;
    run_by_sql: K::Sql;
    approve: K::Approve;
}

#[tokio::test(flavor = "multi_thread")]
async fn some_cells_on_a_server() {
    for (kind, fault, end) in TABLE {
        let some = matches!(kind, K::Upgrade | K::Copy | K::Sql)
            && matches!(fault, F::ValidateFails | F::Killed | F::KilledUndoing);
        if !some {
            continue;
        }
        let name = format!("migrate_{kind:?}_{fault:?}").to_lowercase();
        let Some(world) = World::on_server(&name).await else {
            return;
        };
        check(world, kind, fault, end).await;
    }
}
