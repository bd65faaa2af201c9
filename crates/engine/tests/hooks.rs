//! Hooks: a team's chat hears of a migration, and nothing that a hook does or fails to do shows in the
//! migration. No secret is seen on the way.

mod common;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use whimbrel_engine::EventStream;
use whimbrel_engine::migrate::{
    Hook, HookAction, Hooks, Metered, MigrationJob, MigrationOptions, RunAction, Secrets,
    check_secrets, wanted_by, webhook_problem,
};
use whimbrel_model::Moment;
use whimbrel_model::ledger::MigrationStatus;
use whimbrel_model::migration::{Action, Migration, RunStep, Step, StepKind};

/// Long enough for anything that is to happen on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const TOKEN: &str = "chat-token-90210";

/// A request as it came: its head in lower case, and its body.
type Seen = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A web server that answers with these, and with the last of them from then on.
struct Server {
    port: u16,
    seen: Seen,
}

impl Server {
    async fn start(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Seen::default();
        let (shared, answers) = (Arc::clone(&seen), answers.iter().map(ToString::to_string));
        let answers: Vec<String> = answers.collect();
        tokio::spawn(async move {
            for turn in 0_usize.. {
                let Ok((socket, _)) = listener.accept().await else {
                    return;
                };
                let answer = answers.get(turn).or(answers.last()).unwrap();
                serve(socket, answer, &shared).await;
            }
        });
        Self { port, seen }
    }

    fn url(&self) -> String {
        format!(
            "http://127.0.0.1:{}/services/T00/xyzzy-secret-path",
            self.port
        )
    }

    fn bodies(&self) -> Vec<Value> {
        let seen = self.seen.lock().unwrap();
        let bodies = seen.iter().map(|(_, body)| body);
        bodies.map(|b| serde_json::from_slice(b).unwrap()).collect()
    }

    fn moments(&self) -> Vec<String> {
        let text = |body: &Value| body["moment"].as_str().unwrap().to_owned();
        self.bodies().iter().map(text).collect()
    }
}

async fn serve(mut socket: TcpStream, answer: &str, seen: &Seen) {
    let mut bytes = Vec::new();
    let (head, length) = loop {
        if socket.read_buf(&mut bytes).await.unwrap() == 0 {
            return;
        }
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|l| l.strip_prefix("content-length: "));
            break (head.to_owned(), length.unwrap().parse::<usize>().unwrap());
        }
    };
    let whole = head.len() + 4 + length;
    while bytes.len() < whole {
        assert!(
            socket.read_buf(&mut bytes).await.unwrap() > 0,
            "the body is cut"
        );
    }
    let body = bytes[head.len() + 4..].to_vec();
    seen.lock().unwrap().push((head, body));
    let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    socket.write_all(answer.as_bytes()).await.unwrap();
}

/// What came of a migration of one command under these hooks.
struct Ran {
    status: MigrationStatus,
    /// Every event and everything that the ledger holds.
    told: String,
    folder: tempfile::TempDir,
}

fn migration(script: &str) -> Migration {
    let run = RunStep {
        forward: Action::Command {
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            folder: None,
            env: BTreeMap::from([("SEEN".to_owned(), "$TOKEN".to_owned())]),
        },
        backward: Some(Action::Command {
            command: vec!["true".to_owned()],
            folder: None,
            env: BTreeMap::new(),
        }),
        validate: None,
        idempotent: false,
    };
    Migration {
        id: "0001_move".to_owned(),
        number: 1,
        description: "moves".to_owned(),
        owner: None,
        max_failed: None,
        steps: vec![Step {
            name: "notify".to_owned(),
            kind: StepKind::Run(run),
            estimate: None,
            timeout: None,
            retries: 0,
            line: 1,
        }],
        abort: Vec::new(),
        meaning: Value::Null,
        checksum: "c".to_owned(),
    }
}

fn job(migration: Migration, secrets: &Arc<Secrets>, folder: &std::path::Path) -> MigrationJob {
    let StepKind::Run(step) = migration.steps[0].kind.clone() else {
        panic!("the step is a command");
    };
    let action = RunAction {
        step,
        stores: BTreeMap::new(),
        project: folder.to_path_buf(),
        secrets: Arc::clone(secrets),
    };
    MigrationJob {
        migration: Arc::new(migration),
        actions: vec![Arc::new(action)],
        places: Vec::new(),
        meter: Arc::new(Metered::default()),
        project: folder.to_path_buf(),
        options: MigrationOptions::default(),
    }
}

/// Runs a migration whose step is `script`. `url` is what `$CHAT` stands for.
async fn run(script: &str, hooks: Vec<Hook>, url: &str, finish: Duration) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let engine = common::engine(folder.path()).await;
    let mut stream = engine.subscribe();
    let migration = migration(script);
    let mut wanted = wanted_by(&migration);
    for hook in &hooks {
        wanted.extend(hook.wanted("hook"));
    }
    let variables = |name: &str| match name {
        "TOKEN" => Some(TOKEN.to_owned()),
        "CHAT" => Some(url.to_owned()),
        _ => None,
    };
    let secrets = Arc::new(check_secrets(folder.path(), &wanted, &variables).unwrap());
    let hooks = Hooks::start(&engine, hooks, folder.path(), &secrets);
    let state = engine.apply(job(migration, &secrets, folder.path())).await;
    let state = state.unwrap();
    hooks.finish(finish).await;
    let told = told(&mut stream, folder.path()).await;
    Ran {
        status: state.status,
        told: format!("{told}{state:?}"),
        folder,
    }
}

async fn told(stream: &mut EventStream, folder: &std::path::Path) -> String {
    let mut told = String::new();
    while let Ok(event) = stream.try_recv() {
        told += &serde_json::to_string(&event).unwrap();
    }
    let records = common::journal(folder).await.read(0, 1000).await.unwrap();
    assert!(records.len() > 3, "the ledger holds the migration");
    told + &format!("{records:?}")
}

fn webhook(on: &[Moment]) -> Hook {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Hook {
        on: on.to_vec(),
        action: HookAction::Webhook {
            url: "$CHAT".to_owned(),
            headers: BTreeMap::from([header("Authorization", "Bearer ${TOKEN}")]),
        },
    }
}

fn command(on: &[Moment], script: &str) -> Hook {
    Hook {
        on: on.to_vec(),
        action: HookAction::Command {
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            folder: None,
            env: BTreeMap::from([("SECRET".to_owned(), "$TOKEN".to_owned())]),
        },
    }
}

/// Neither events nor the ledger hold a secret.
fn assert_clean(ran: &Ran, url: &str) {
    for secret in [TOKEN, url, "xyzzy-secret-path"] {
        assert!(!ran.told.contains(secret), "{secret} in {}", ran.told);
    }
}

#[tokio::test]
async fn a_webhook_is_told_again_after_a_503_and_in_order() {
    let server = Server::start(&["503 Busy", "200 OK"]).await;
    let on = [Moment::Started, Moment::StepDone, Moment::Completed];
    let ran = run(
        "echo \"$SEEN\"",
        vec![webhook(&on)],
        &server.url(),
        PATIENCE,
    )
    .await;
    assert_eq!(ran.status, MigrationStatus::Applied);
    let expect = ["started", "started", "step_done", "completed"];
    assert_eq!(server.moments(), expect);
    let (head, _) = server.seen.lock().unwrap()[0].clone();
    for line in [
        "post /services/t00/xyzzy-secret-path http/1.1",
        "authorization: bearer chat-token-90210",
        "content-type: application/json",
        "user-agent: whimbrel/",
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
    let done = &server.bodies()[2];
    assert_eq!(done["step"]["number"], 1);
    assert_eq!(done["step"]["name"], "notify");
    assert_eq!(done["migration"], "0001_move");
    let project = ran.folder.path().file_name().unwrap().to_str().unwrap();
    assert_eq!(done["project"], project);
    let text = done["text"].as_str().unwrap();
    let begins = format!("Whimbrel, {project}: migration 0001_move: ");
    assert!(text.starts_with(&begins) && !text.contains('\n'), "{text}");
    assert!(done["at"].as_str().unwrap().ends_with('Z'), "{done}");
    assert!(done["code"].is_null());
    assert!(!ran.told.contains("was not told"), "{}", ran.told);
    // The step's command printed its secret.
    assert!(ran.told.contains("[TOKEN]"), "{}", ran.told);
    assert_clean(&ran, &server.url());
}

#[tokio::test]
async fn a_migration_that_fails_is_told_with_its_code() {
    let server = Server::start(&["204 No Content"]).await;
    let on = [Moment::StepFailed, Moment::Undoing, Moment::RolledBack];
    let ran = run("exit 9", vec![webhook(&on)], &server.url(), PATIENCE).await;
    assert_eq!(ran.status, MigrationStatus::Undone);
    assert_eq!(server.moments(), ["step_failed", "undoing", "rolled_back"]);
    let failed = &server.bodies()[0];
    assert_eq!(failed["code"], "WB-M06");
    assert!(
        failed["text"].as_str().unwrap().contains("exited with 9"),
        "{failed}"
    );
    assert_clean(&ran, &server.url());
}

/// A server that answers like this is called so often, and the notice says why it was not enough.
async fn check_refused(answer: &str, calls: usize, why: &str) {
    let server = Server::start(&[answer]).await;
    let hooks = vec![webhook(&[Moment::Completed])];
    let ran = run("true", hooks, &server.url(), PATIENCE).await;
    assert_eq!(ran.status, MigrationStatus::Applied);
    assert_eq!(server.bodies().len(), calls, "{answer}");
    let notice = format!("hook 1 (webhook) was not told of \\\"completed\\\": {why}");
    assert!(ran.told.contains(&notice), "{notice} in {}", ran.told);
    assert_clean(&ran, &server.url());
}

#[tokio::test]
async fn what_a_server_refuses_is_told_and_stops_nothing() {
    check_refused("404 Not Found", 1, "it answered 404").await;
    check_refused("429 Slow Down", 3, "it answered 429 (tried 3 times)").await;
    check_refused("500 Oh", 3, "it answered 500 (tried 3 times)").await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::start(&["200 OK"]).await;
    let answer = format!("307 Go\r\nlocation: {}", elsewhere.url());
    let why = "it answered 307: redirects are not followed";
    check_refused(&answer, 1, why).await;
    assert_eq!(elsewhere.bodies().len(), 0);
}

#[tokio::test]
async fn a_server_that_is_away_or_no_server_at_all_stops_nothing() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let away = format!("http://{}/xyzzy-secret-path", free.local_addr().unwrap());
    drop(free);
    for (url, why) in [
        (away.as_str(), "(tried 3 times)"),
        (
            "ftp://x/xyzzy-secret-path",
            "its URL begins neither with https:// nor with http://",
        ),
        (
            "http://a b/xyzzy-secret-path",
            "its URL or a header is malformed",
        ),
    ] {
        let ran = run("true", vec![webhook(&[Moment::Completed])], url, PATIENCE).await;
        assert_eq!(ran.status, MigrationStatus::Applied);
        assert!(ran.told.contains(why), "{why} in {}", ran.told);
        assert_clean(&ran, url);
    }
}

#[tokio::test]
async fn nothing_is_said_to_a_server_that_cannot_prove_itself() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://{}/xyzzy-secret-path",
        listener.local_addr().unwrap()
    );
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut hello = vec![0; 4096];
            let read = socket.read(&mut hello).await.unwrap_or(0);
            hears.lock().unwrap().extend_from_slice(&hello[..read]);
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        }
    });
    let ran = run("true", vec![webhook(&[Moment::Completed])], &url, PATIENCE).await;
    assert_eq!(ran.status, MigrationStatus::Applied);
    let notice = "hook 1 (webhook) was not told of \\\"completed\\\": ";
    assert!(ran.told.contains(notice), "{}", ran.told);
    assert!(!ran.told.contains("abnormally"), "{}", ran.told);
    let heard = heard.lock().unwrap();
    // A TLS handshake, and nothing after it.
    assert_eq!(heard.first(), Some(&0x16));
    let text = String::from_utf8_lossy(&heard);
    assert!(!text.contains("xyzzy") && !text.contains(TOKEN));
    assert_clean(&ran, &url);
}

#[tokio::test]
async fn a_command_gets_its_message_on_its_input() {
    let script = "cat > heard.json; echo \"$WHIMBREL_MOMENT $WHIMBREL_STEP $SECRET\" > heard.txt";
    let hooks = vec![
        command(&[Moment::StepDone], script),
        command(
            &[Moment::Completed],
            "echo $SECRET; echo $SECRET >&2; exit 5",
        ),
        command(&[Moment::RolledBack], "touch never"),
    ];
    let ran = run("true", hooks, "unused", PATIENCE).await;
    let read = |name: &str| std::fs::read_to_string(ran.folder.path().join(name)).unwrap();
    assert_eq!(read("heard.txt"), format!("step_done notify {TOKEN}\n"));
    let heard: Value = serde_json::from_str(&read("heard.json")).unwrap();
    assert_eq!(heard["moment"], "step_done");
    assert!(!ran.folder.path().join("never").exists());
    let notice = "hook 2 (command sh) was not told of \\\"completed\\\": it exited with 5";
    assert!(ran.told.contains(notice), "{}", ran.told);
    assert_clean(&ran, "unused");
}

#[tokio::test]
async fn a_hook_that_hangs_is_given_up_with_its_child() {
    let script = "sleep 1000 & echo $! > pid.new; mv pid.new pid; wait";
    let hooks = vec![
        command(&[Moment::Started], script),
        command(&[Moment::Completed], "touch other"),
    ];
    // The step waits for the hook's start, so that there is something to give up.
    let step = "while ! test -e pid; do sleep 0.05; done";
    let ran = run(step, hooks, "unused", Duration::from_secs(3)).await;
    assert_eq!(ran.status, MigrationStatus::Applied);
    assert!(
        ran.told.contains("1 call of a hook was given up"),
        "{}",
        ran.told
    );
    let pid = std::fs::read_to_string(ran.folder.path().join("pid")).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while alive(pid.trim()) {
        assert!(Instant::now() < deadline, "the hook's child lives on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // One hook's trouble is not another's.
    assert!(ran.folder.path().join("other").exists());
}

/// Whether a process runs. One that has ended and was not waited for does not.
fn alive(pid: &str) -> bool {
    let ps = Command::new("ps").args(["-o", "stat=", "-p", pid]).output();
    let ps = ps.expect("ps runs");
    let state = String::from_utf8_lossy(&ps.stdout).trim().to_owned();
    !state.is_empty() && !state.starts_with('Z')
}

#[test]
fn a_url_in_a_file_holds_no_password() {
    for (url, fine) in [
        ("$CHAT", true),
        ("@chat.url", true),
        ("https://chat.example/${PATH_OF_HOOK}", true),
        ("https://chat.example/hooks/1", true),
        ("http://chat.example/hooks/1", false),
        ("https://me:word@chat.example/", false),
        ("https://", false),
        ("chat.example", false),
    ] {
        assert_eq!(webhook_problem(url).is_none(), fine, "{url}");
    }
}
