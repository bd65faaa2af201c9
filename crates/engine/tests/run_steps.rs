//! The `run` step: what a command or a statement may do, and what is said of it however it ends.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use whimbrel_engine::migrate::{
    Again, Fault, RunAction, StepAction, StepContext, StepError, Wanted, check_secrets,
};
use whimbrel_engine::{Engine, EventStream};
use whimbrel_model::ledger::{StepRef, StepReport, StepState, StepStatus};
use whimbrel_model::migration::{Action, Inverse, RunStep};
use whimbrel_model::{Code, KeyKind, Store, Timestamp};

/// Long enough for anything that is to happen on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const TOKEN: &str = "tok/en+17 %\"x";
const FILED: &str = "filed-secret-4711";

struct Bench {
    folder: tempfile::TempDir,
    engine: Engine,
    stream: EventStream,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = common::engine(folder.path()).await;
        let stream = engine.subscribe();
        Self {
            folder,
            engine,
            stream,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn action(&self, step: RunStep) -> RunAction {
        std::fs::write(self.path("secret"), format!("{FILED}\n")).unwrap();
        let wanted = ["$TOKEN", "@secret", "plain"].map(|text| Wanted {
            at: "step notify".to_owned(),
            text: text.to_owned(),
        });
        let variables = |name: &str| (name == "TOKEN").then(|| TOKEN.to_owned());
        let secrets = check_secrets(self.folder.path(), &wanted, &variables).unwrap();
        RunAction {
            step,
            stores: BTreeMap::new(),
            project: self.folder.path().to_path_buf(),
            secrets: Arc::new(secrets),
        }
    }

    fn notices(&mut self) -> String {
        let mut all = String::new();
        while let Ok(event) = self.stream.try_recv() {
            all += &format!("{event:?}\n");
        }
        all
    }
}

fn shell(script: &str) -> Action {
    Action::Command {
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        folder: None,
        env: BTreeMap::new(),
    }
}

fn step(forward: Action) -> RunStep {
    RunStep {
        forward,
        backward: None,
        validate: None,
        idempotent: false,
    }
}

#[derive(Clone, Copy, Debug)]
enum Do {
    Forward,
    Backward,
    Validate,
}

async fn run(engine: &Engine, action: &RunAction, what: Do) -> Result<StepReport, StepError> {
    let at = StepRef {
        migration: "0001_move".to_owned(),
        application: 2,
        step: 0,
    };
    let state = StepState {
        reversible: true,
        name: "notify".to_owned(),
        kind: "run".to_owned(),
        status: StepStatus::Running,
        attempts: 1,
        started_at: None,
        ended_at: None,
        report: None,
        undo_report: None,
        error: None,
        undo_error: None,
        approved_by: None,
    };
    let cx = StepContext {
        engine,
        at: &at,
        state: &state,
        begun: Timestamp::from_micros(0),
        by: "ada",
    };
    match what {
        Do::Forward => action.forward(&cx).await,
        Do::Backward => action.backward(&cx).await,
        Do::Validate => action.validate(&cx).await.map(|()| StepReport::default()),
    }
}

async fn check(script: &str, idempotent: bool, expect: Result<&str, (Fault, Code, &str)>) {
    let bench = Bench::new().await;
    let action = bench.action(RunStep {
        idempotent,
        ..step(shell(script))
    });
    let got = run(&bench.engine, &action, Do::Forward).await;
    let got = got
        .map(|r| r.summary)
        .map_err(|e| (e.fault, e.code, e.message));
    let expect = expect
        .map(str::to_owned)
        .map_err(|(fault, code, message)| (fault, code, message.to_owned()));
    assert_eq!(got, expect, "{script}");
}

#[tokio::test]
async fn however_a_command_ends_it_is_said() {
    use Fault::{Terminal, Unknown};
    let at = "step notify: command sh";
    let lost = format!("{at} was killed by signal 9; how far it came is unknown");
    for (script, idempotent, expect) in [
        (
            "true",
            false,
            Ok("command sh exited with 0 after 0 lines of output"),
        ),
        (
            "echo one; echo two >&2",
            false,
            Ok("command sh exited with 0 after 2 lines of output"),
        ),
        (
            "exit 3",
            false,
            Err((Terminal, Code::StepFailed, format!("{at} exited with 3"))),
        ),
        ("kill -9 $$", false, Err((Unknown, Code::StepUnknown, lost))),
        (
            "kill -9 $$",
            true,
            Err((
                Terminal,
                Code::StepFailed,
                format!("{at} was killed by signal 9"),
            )),
        ),
    ] {
        let expect = expect
            .as_ref()
            .map(|s| *s)
            .map_err(|(fault, code, message)| (*fault, *code, message.as_str()));
        check(script, idempotent, expect).await;
    }
}

#[tokio::test]
async fn a_command_that_is_not_there_did_nothing() {
    let bench = Bench::new().await;
    let missing = Action::Command {
        command: vec!["no-such-program".to_owned()],
        folder: None,
        env: BTreeMap::new(),
    };
    let nowhere = Action::Command {
        command: vec!["true".to_owned()],
        folder: Some("no/such/folder".to_owned()),
        env: BTreeMap::new(),
    };
    let none = format!(
        "there is no folder {}",
        bench.path("no/such/folder").display()
    );
    for (forward, why) in [
        (missing, "there is no such program"),
        (nowhere, none.as_str()),
    ] {
        let action = bench.action(step(forward));
        let error = run(&bench.engine, &action, Do::Forward).await.unwrap_err();
        assert_eq!(
            (error.fault, error.code),
            (Fault::Terminal, Code::StepFailed)
        );
        let expect = format!("could not be started ({why}); nothing was done");
        assert!(error.message.ends_with(&expect), "{error}");
    }
}

#[tokio::test]
async fn a_command_sees_where_it_is_and_its_secrets_and_no_input() {
    let bench = Bench::new().await;
    std::fs::create_dir(bench.path("scripts")).unwrap();
    let script = "cat; printf '%s|' \"$WHIMBREL_MIGRATION\" \"$WHIMBREL_STEP\" \"$WHIMBREL_DIRECTION\" \
                  \"$WHIMBREL_APPLICATION\" \"$A\" \"$B\" \"$C\" \"${PWD##*/}\" > ../seen";
    let env = [("A", "$TOKEN"), ("B", "@secret"), ("C", "plain")];
    let env = env.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let command = Action::Command {
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        folder: Some("scripts".to_owned()),
        env: BTreeMap::from(env),
    };
    let action = bench.action(RunStep {
        forward: command.clone(),
        backward: Some(command.clone()),
        validate: Some(command),
        idempotent: false,
    });
    for (what, direction) in [
        (Do::Forward, "forward"),
        (Do::Backward, "backward"),
        (Do::Validate, "validate"),
    ] {
        run(&bench.engine, &action, what).await.unwrap();
        let expect = format!("0001_move|notify|{direction}|2|{TOKEN}|{FILED}|plain|scripts|");
        assert_eq!(bench.read("seen"), expect);
    }
}

#[tokio::test]
async fn no_secret_is_shown_however_the_command_prints_it() {
    let mut bench = Bench::new().await;
    let env = [("A", "$TOKEN"), ("B", "@secret")].map(|(n, t)| (n.to_owned(), t.to_owned()));
    let script = "echo \"plain $A and $B\"; printf 'user:%s' \"$B\" | base64; \
                  echo 'tok%2Fen%2B17%20%25%22x'; echo 'Bearer '\"$B\" >&2; echo kept; exit 7";
    let command = Action::Command {
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        folder: None,
        env: BTreeMap::from(env),
    };
    let action = bench.action(step(command));
    let error = run(&bench.engine, &action, Do::Forward).await.unwrap_err();
    let shown = format!("{error:?}{}", bench.notices());
    assert!(shown.contains("kept"), "{shown}");
    assert_eq!(shown.matches("[TOKEN]").count(), 2, "{shown}");
    assert_eq!(shown.matches("[secret]").count(), 3, "{shown}");
    for secret in [TOKEN, FILED, "tok%2F", "ZmlsZWQtc2Vj"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[tokio::test]
async fn long_output_is_counted_and_only_its_end_is_shown() {
    let mut bench = Bench::new().await;
    let action = bench.action(step(shell(
        "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo \"line $i\"; done",
    )));
    let report = run(&bench.engine, &action, Do::Forward).await.unwrap();
    assert_eq!(report.facts["lines"], "20000");
    let shown = bench.notices();
    assert!(
        shown.contains("line 20000") && !shown.contains("line 19000"),
        "{shown}"
    );
    assert!(shown.len() < 8 * 1024, "{}", shown.len());
    assert!(!format!("{report:?}").contains("line 20000"));
}

/// Whether a process runs. One that has ended and was not waited for does not.
fn alive(pid: &str) -> bool {
    let ps = Command::new("ps").args(["-o", "stat=", "-p", pid]).output();
    let ps = ps.expect("ps runs");
    let state = String::from_utf8_lossy(&ps.stdout).trim().to_owned();
    !state.is_empty() && !state.starts_with('Z')
}

async fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Names itself and its child once both are there.
const PARENT: &str = "sleep 1000 & echo \"$$ $!\" > pids.new; mv pids.new pids; wait";

async fn started(folder: &Path) -> Vec<String> {
    let file = folder.join("pids");
    until("the command's start", || file.exists()).await;
    let pids = std::fs::read_to_string(file).unwrap();
    let pids: Vec<String> = pids.split_whitespace().map(str::to_owned).collect();
    assert!(
        pids.len() == 2 && pids.iter().all(|pid| alive(pid)),
        "{pids:?}"
    );
    pids
}

async fn check_stop(script: &str, idempotent: bool, expect: (Fault, Code)) {
    let bench = Bench::new().await;
    let action = bench.action(RunStep {
        idempotent,
        ..step(shell(script))
    });
    let stop = async {
        let pids = started(bench.folder.path()).await;
        bench.engine.stop();
        pids
    };
    let (ended, pids) = tokio::join!(run(&bench.engine, &action, Do::Forward), stop);
    let error = ended.unwrap_err();
    assert_eq!((error.fault, error.code), expect, "{error}");
    until("the end of both", || !pids.iter().any(|pid| alive(pid))).await;
}

#[tokio::test]
async fn a_stopped_command_goes_with_its_child() {
    let unknown = (Fault::Unknown, Code::StepUnknown);
    check_stop(PARENT, false, unknown).await;
    check_stop(PARENT, true, (Fault::Stopped, Code::RunInterrupted)).await;
    // Neither asks to be killed twice, nor does an exit that looks fine prove anything.
    let deaf = format!("trap '' TERM; {PARENT}");
    check_stop(&deaf, false, unknown).await;
    let polite = format!("trap 'exit 0' TERM; {PARENT}");
    check_stop(&polite, false, unknown).await;
}

#[tokio::test]
async fn a_command_nobody_waits_for_goes_with_its_child() {
    let bench = Bench::new().await;
    let action = bench.action(step(shell(PARENT)));
    let pids = {
        let running = run(&bench.engine, &action, Do::Forward);
        tokio::select! {
            ended = running => panic!("{ended:?}"),
            pids = started(bench.folder.path()) => pids,
        }
    };
    until("the end of both", || !pids.iter().any(|pid| alive(pid))).await;
}

#[tokio::test]
async fn what_a_command_leaves_running_does_not_hold_the_step_up() {
    let bench = Bench::new().await;
    let action = bench.action(step(shell("sleep 1000 & echo $! > left; echo done")));
    let ended = tokio::time::timeout(PATIENCE, run(&bench.engine, &action, Do::Forward)).await;
    let left = bench.read("left");
    let running = alive(left.trim());
    let _ = Command::new("kill").arg(left.trim()).status();
    assert_eq!(ended.unwrap().unwrap().facts["exit"], "0");
    assert!(
        running,
        "a step's end must not kill a service that it started"
    );
}

#[tokio::test]
async fn statements_answer_as_the_store_does() {
    let bench = Bench::new().await;
    let sqlite = common::sqlite(bench.folder.path(), "app.db").await;
    // A database that nothing was ever written to is a mistake in its name.
    sqlite.ensure("chats", &KeyKind::Text).await.unwrap();
    let stores: BTreeMap<String, Arc<dyn Store>> = BTreeMap::from([("app".to_owned(), sqlite)]);
    let sql = |statement: &str| Action::Sql {
        store: "app".to_owned(),
        statement: statement.to_owned(),
    };
    let mut action = bench.action(RunStep {
        forward: sql("CREATE TABLE t (n); INSERT INTO t VALUES (1), (2)"),
        backward: Some(sql("DROP TABLE t")),
        validate: Some(sql("SELECT n FROM t WHERE n > 1")),
        idempotent: true,
    });
    action.stores = stores;
    assert_eq!(action.inverse(), Some(Inverse::Backward));
    assert_eq!(action.again(), Again::Harmless);
    assert!(action.writes());

    let report = run(&bench.engine, &action, Do::Forward).await.unwrap();
    assert_eq!(report.facts["changed"], "2");
    let error = run(&bench.engine, &action, Do::Validate).await.unwrap_err();
    assert_eq!(
        (error.fault, error.code),
        (Fault::Terminal, Code::StepInvalid)
    );
    assert!(error.message.contains("1 row instead of none"), "{error}");
    action.step.validate = Some(sql("SELECT n FROM t WHERE n > 2"));
    run(&bench.engine, &action, Do::Validate).await.unwrap();
    run(&bench.engine, &action, Do::Backward).await.unwrap();
    let error = run(&bench.engine, &action, Do::Backward).await.unwrap_err();
    assert_eq!(error.fault, Fault::Terminal, "{error}");
}

#[tokio::test]
async fn what_cannot_be_done_is_said_beforehand() {
    let bench = Bench::new().await;
    let sql = Action::Sql {
        store: "nope".to_owned(),
        statement: "SELECT 1".to_owned(),
    };
    let action = bench.action(step(sql));
    assert_eq!(action.inverse(), None);
    assert_eq!(action.again(), Again::Unknown);
    let error = action.estimate().await.unwrap_err();
    assert_eq!(error.code(), Code::UnknownStore);
    let error = run(&bench.engine, &action, Do::Backward).await.unwrap_err();
    assert_eq!(error.code, Code::UndoFailed);
    // Without a `validate`, the end of `forward` is what counts.
    run(&bench.engine, &action, Do::Validate).await.unwrap();
}

#[tokio::test]
async fn a_check_that_says_no_names_its_step() {
    let bench = Bench::new().await;
    let mut with = step(shell("true"));
    with.validate = Some(shell("exit 4"));
    let action = bench.action(with);
    let error = run(&bench.engine, &action, Do::Validate).await.unwrap_err();
    assert_eq!(
        (error.fault, error.code),
        (Fault::Terminal, Code::StepInvalid)
    );
    assert_eq!(
        error.message,
        "what step notify was to reach is not reached: command sh exited with 4 instead of 0"
    );
}
