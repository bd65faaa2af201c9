//! A server that is busy, gone, or loses its answers.

use super::fake::{Call, Fake, Fault};
use super::{fill, keys, put};
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;
use whimbrel_model::{Code, Guard, Key, KeyRange, Store, StoreError, StoreErrorKind, WriteOutcome};
use whimbrel_stores::{OpenOptions, open};
use whimbrel_testkit::servers::{server, unique};

/// A server in front of the emulator, and a store that is opened through it.
async fn world(parameters: &str) -> Option<(Fake, Arc<dyn Store>)> {
    let emulator = server("WHIMBREL_TEST_FIRESTORE")?;
    let fake = Fake::start(&emulator).await;
    let project = unique().replace('_', "-");
    let url = format!("firestore://{project}?emulator={}{parameters}", fake.host);
    let store = open(&url, &OpenOptions::default()).await.unwrap();
    fill(&store, "docs", &["a", "b", "c", "d", "e"]).await;
    Some((fake, store))
}

async fn number(store: &Arc<dyn Store>, key: &str) -> Option<String> {
    let found = store
        .get("docs", &[Key::text(key)])
        .await
        .unwrap()
        .remove(0);
    let json = found?.body.into_json();
    Some(String::from_utf8(json.to_vec()).unwrap())
}

fn expect(error: &StoreError, kind: StoreErrorKind, code: Code) {
    assert_eq!((error.kind, error.code), (kind, code), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_server_is_asked_again() {
    let Some((fake, store)) = world("").await else {
        return;
    };
    let busy = [
        Status::resource_exhausted("hunter2"),
        Status::aborted("hunter2"),
    ];
    for status in &busy {
        fake.answer(Call::Commit, Fault::Before(status.clone()));
    }
    let write = [put("docs", "a", r#"{"n":1}"#, Guard::Any)];
    assert_eq!(store.write(&write).await.unwrap(), [WriteOutcome::Applied]);
    for status in busy
        .into_iter()
        .chain([Status::unavailable(""), Status::internal("")])
    {
        fake.answer(Call::Query, Fault::Before(status));
    }
    assert_eq!(keys(&store, "docs", &KeyRange::all(), 9).await.len(), 5);
    assert!(fake.all_was_answered());
    // But not for ever.
    for _ in 0..5 {
        fake.answer(
            Call::Commit,
            Fault::Before(Status::resource_exhausted("quota")),
        );
    }
    let error = store.write(&write).await.unwrap_err();
    expect(&error, StoreErrorKind::Transient, Code::StoreUnavailable);
    assert!(fake.all_was_answered());
}

/// A commit without an answer may have happened. It is never made again by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_an_unknown_outcome() {
    let Some((fake, store)) = world("").await else {
        return;
    };
    let mut n = 0;
    for status in [
        Status::unavailable("hunter2"),
        Status::deadline_exceeded("hunter2"),
        Status::internal("hunter2"),
        Status::unknown("hunter2"),
        Status::cancelled("hunter2"),
    ] {
        for fault in [Fault::Before(status.clone()), Fault::After(status.clone())] {
            n += 1;
            let happened = matches!(fault, Fault::After(_));
            fake.answer(Call::Commit, fault);
            let json = format!(r#"{{"n":{n}}}"#);
            let before = fake.seen(Call::Commit).len();
            let write = [put("docs", "a", &json, Guard::Any)];
            let error = store.write(&write).await.unwrap_err();
            expect(&error, StoreErrorKind::Unknown, Code::StoreUnknown);
            assert_eq!(fake.seen(Call::Commit).len(), before + 1, "{status:?}");
            assert_eq!(
                number(&store, "a").await == Some(json),
                happened,
                "{status:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_has_written_nothing() {
    let Some((_fake, store)) = world("").await else {
        return;
    };
    let url = "firestore://p?emulator=127.0.0.1:1";
    let error = open(url, &OpenOptions::default()).await.unwrap_err();
    expect(&error, StoreErrorKind::Transient, Code::StoreUnavailable);
    assert!(error.message.contains("no connection"), "{error}");
    drop(store);

    // One that goes while it is in use: known, because the connection is refused before anything is sent.
    let emulator = server("WHIMBREL_TEST_FIRESTORE").unwrap();
    let gate = Gate::open(&emulator).await;
    let url = format!(
        "firestore://gone-{}?emulator={}",
        std::process::id(),
        gate.host
    );
    let store = open(&url, &OpenOptions::default()).await.unwrap();
    fill(&store, "docs", &["a"]).await;
    gate.close().await;
    let write = [put("docs", "a", r#"{"n":1}"#, Guard::Any)];
    let mut kinds = Vec::new();
    for _ in 0..6 {
        kinds.push(store.write(&write).await.unwrap_err().kind);
    }
    // What was connected may only find out when it sends.
    assert!(!kinds.contains(&StoreErrorKind::Terminal), "{kinds:?}");
    assert_eq!(kinds.last(), Some(&StoreErrorKind::Transient), "{kinds:?}");
}

/// Lets connections through until it is closed.
struct Gate {
    host: String,
    task: tokio::task::JoinHandle<()>,
}

impl Gate {
    async fn open(to: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (host, to) = (listener.local_addr().unwrap().to_string(), to.to_owned());
        let task = tokio::spawn(async move {
            // They end with this one.
            let mut through = tokio::task::JoinSet::new();
            while let Ok((mut from, _)) = listener.accept().await {
                let to = to.clone();
                through.spawn(async move {
                    let mut to = tokio::net::TcpStream::connect(to).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                });
            }
        });
        Self { host, task }
    }

    async fn close(self) {
        self.task.abort();
        let _ = self.task.await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_told_without_the_servers_words_on_values() {
    let Some((fake, store)) = world("").await else {
        return;
    };
    use StoreErrorKind::Terminal;
    for (status, code) in [
        (Status::permission_denied("no"), Code::StoreDenied),
        (Status::unimplemented("no"), Code::StoreFailed),
    ] {
        fake.answer(Call::Commit, Fault::Before(status));
        let write = [put("docs", "a", r#"{"n":1}"#, Guard::Any)];
        expect(&store.write(&write).await.unwrap_err(), Terminal, code);
    }
    // It minds a document that has no guard, and quotes it.
    fake.answer(
        Call::Commit,
        Fault::Before(Status::invalid_argument("hunter2")),
    );
    let write = [put("docs", "a", r#"{"n":"hunter2"}"#, Guard::Any)];
    match &store.write(&write).await.unwrap()[0] {
        WriteOutcome::Refused(refusal) => assert!(!refusal.message.contains("hunter2")),
        other => panic!("{other:?}"),
    }
    fake.answer(
        Call::Commit,
        Fault::Before(Status::failed_precondition("hunter2")),
    );
    let error = store.write(&write).await.unwrap_err();
    expect(&error, Terminal, Code::StoreFailed);
    assert_eq!(number(&store, "a").await.as_deref(), Some("{}"));
}

/// While the document at fault is looked for nothing is written: whatever happens meanwhile, none of the batch is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_while_a_document_is_singled_out_leaves_nothing_behind() {
    let Some((fake, store)) = world("").await else {
        return;
    };
    // The emulator knows no such types.
    let odd = r#"{"a":{"__int__":5}}"#;
    let writes: Vec<_> = (0..8)
        .map(|i| {
            put(
                "docs",
                &format!("n{i}"),
                if i == 5 { odd } else { "{}" },
                Guard::Absent,
            )
        })
        .collect();
    for (status, kind, code) in [
        (
            Status::permission_denied("no"),
            StoreErrorKind::Terminal,
            Code::StoreDenied,
        ),
        (
            Status::unauthenticated("no"),
            StoreErrorKind::Terminal,
            Code::StoreDenied,
        ),
    ] {
        for before in 1..5 {
            for _ in 0..before {
                fake.answer(Call::Commit, Fault::None);
            }
            // A token that is refused is renewed once.
            for _ in 0..2 {
                fake.answer(Call::Commit, Fault::Before(status.clone()));
            }
            let error = store.write(&writes).await.unwrap_err();
            expect(&error, kind, code);
            assert_eq!(store.count("docs", &KeyRange::all()).await.unwrap(), 5);
            fake.forget_faults();
        }
    }
    // A commit that the server minds as a whole, and no document of it.
    fake.answer(
        Call::Commit,
        Fault::Before(Status::invalid_argument("hunter2")),
    );
    let sound = [writes[0].clone(), writes[1].clone()];
    let error = store.write(&sound).await.unwrap_err();
    expect(&error, StoreErrorKind::Terminal, Code::StoreFailed);
    assert!(error.message.contains("nothing was written"), "{error}");
    assert_eq!(store.count("docs", &KeyRange::all()).await.unwrap(), 5);
    let commits = fake.seen(Call::Commit).len();
    let outcomes = store.write(&writes).await.unwrap();
    for (i, outcome) in outcomes.iter().enumerate() {
        match outcome {
            WriteOutcome::Refused(_) if i == 5 => {}
            WriteOutcome::Applied if i != 5 => {}
            other => panic!("{i}: {other:?}"),
        }
    }
    assert_eq!(store.count("docs", &KeyRange::all()).await.unwrap(), 12);
    // The whole, six looks at halves, and what is left.
    assert_eq!(fake.seen(Call::Commit).len(), commits + 8);
}

/// A server that says a guard is lost which is not is not asked for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guards_that_hold_and_are_refused_end_in_an_error() {
    let Some((fake, store)) = world("").await else {
        return;
    };
    let write = [put("docs", "new", "{}", Guard::Absent)];
    let refused = || Fault::Before(Status::failed_precondition("hunter2"));
    for _ in 0..2 {
        fake.answer(Call::Commit, refused());
    }
    assert_eq!(store.write(&write).await.unwrap(), [WriteOutcome::Applied]);
    let write = [put("docs", "newer", "{}", Guard::Absent)];
    let before = fake.seen(Call::Commit).len();
    for _ in 0..20 {
        fake.answer(Call::Commit, refused());
    }
    let begun = std::time::Instant::now();
    let error = store.write(&write).await.unwrap_err();
    expect(&error, StoreErrorKind::Terminal, Code::StoreFailed);
    assert_eq!(fake.seen(Call::Commit).len(), before + 5);
    assert!(begun.elapsed() > Duration::from_secs(1), "with pauses");
}

/// What takes the server too long to count is counted in parts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_count_that_takes_too_long_is_cut() {
    let Some((fake, store)) = world("").await else {
        return;
    };
    let slow = || Fault::Before(Status::deadline_exceeded("hunter2"));
    let project = store.name().trim_start_matches("firestore://").to_owned();
    let (project, _) = project.split_once('/').unwrap();
    let name = |path: &str| format!("projects/{project}/databases/(default)/documents/{path}");
    let within = KeyRange {
        after: Some(Key::text("a")),
        through: Some(Key::text("d")),
    };
    for (points, range, count) in [
        (vec![name("docs/b"), name("docs/d")], KeyRange::all(), 5),
        (vec![name("docs/b"), name("docs/d")], within.clone(), 3),
        // It cuts nothing: the names are looked at.
        (vec![], KeyRange::all(), 5),
    ] {
        fake.split_at(vec![points]);
        fake.answer(Call::Count, slow());
        assert_eq!(store.count("docs", &range).await.unwrap(), count);
        assert!(fake.all_was_answered());
    }
    // The whole, and each part until no smaller one is left.
    for _ in 0..100 {
        fake.answer(Call::Count, slow());
    }
    let error = store.count("docs", &within).await.unwrap_err();
    expect(&error, StoreErrorKind::Transient, Code::StoreUnavailable);
}

/// What a read is refused for is told to be its instant only where it asked for one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hint_about_snapshots_is_told_of_snapshots() {
    let Some((fake, store)) = world("").await else {
        return;
    };
    let snapshot = store.snapshot().await.unwrap().unwrap();
    for (of, told) in [(&store, false), (&snapshot, true)] {
        fake.answer(
            Call::Query,
            Fault::Before(Status::failed_precondition("no")),
        );
        let error = of.scan("docs", &KeyRange::all(), 1, 1).await.unwrap_err();
        expect(&error, StoreErrorKind::Terminal, Code::StoreFailed);
        assert_eq!(error.message.contains("read_time"), told, "{error}");
    }
}

/// Where the server cuts collections, its points are taken: out of order, some of other collections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_own_points_are_used() {
    let Some((fake, store)) = world("").await else {
        return;
    };
    let project = store.name().trim_start_matches("firestore://").to_owned();
    let (project, _) = project.split_once('/').unwrap();
    let name = |path: &str| format!("projects/{project}/databases/(default)/documents/{path}");
    fake.split_at(vec![
        vec![name("docs/d"), name("other/x/docs/b")],
        vec![name("docs/b"), name("docs/d"), name("docs/zz")],
    ]);
    let ends = |cut: Vec<KeyRange>| -> Vec<String> {
        cut.iter()
            .map(|r| r.through.as_ref().unwrap().to_string())
            .collect()
    };
    let all = KeyRange::all();
    assert_eq!(
        ends(store.partitions("docs", &all, 4).await.unwrap()),
        ["b", "d", "e"]
    );
    let within = KeyRange {
        after: Some(Key::text("b")),
        through: Some(Key::text("d")),
    };
    assert_eq!(
        ends(store.partitions("docs", &within, 4).await.unwrap()),
        ["d"]
    );
    // None: it is small, and looked at.
    fake.split_at(vec![vec![]]);
    let cut = store.partitions("docs", &all, 5).await.unwrap();
    assert_eq!(ends(cut), ["a", "b", "c", "d", "e"]);
    fake.answer(
        Call::Partition,
        Fault::Before(Status::permission_denied("no")),
    );
    let error = store.partitions("docs", &all, 5).await.unwrap_err();
    expect(&error, StoreErrorKind::Terminal, Code::StoreDenied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_says_who_calls_and_what_for() {
    let Some((fake, store)) = world("").await else {
        return;
    };
    let database = store.name().trim_start_matches("firestore://").to_owned();
    let (project, _) = database.split_once('/').unwrap();
    keys(&store, "docs", &KeyRange::all(), 9).await;
    for call in [Call::Get, Call::Commit, Call::Query] {
        let seen = fake.seen(call);
        assert!(!seen.is_empty(), "{call:?}");
        for metadata in seen {
            let get = |name: &str| metadata.get(name).and_then(|v| v.to_str().ok());
            assert_eq!(get("authorization"), Some("Bearer owner"));
            let prefix = format!("projects/{project}/databases/(default)");
            assert_eq!(get("google-cloud-resource-prefix"), Some(prefix.as_str()));
            let routing = format!("project_id={project}&database_id=%28default%29");
            assert_eq!(get("x-goog-request-params"), Some(routing.as_str()));
        }
    }
}

/// With credentials as in production: a token that the server refuses is replaced once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_token_is_renewed_once() {
    let Some((fake, _)) = world("").await else {
        return;
    };
    let tokens = tokens();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let credentials = serde_json::json!({
        "type": "authorized_user", "client_id": "me", "client_secret": "hunter2",
        "refresh_token": "hunter2", "token_uri": format!("http://{tokens}/"),
        "quota_project_id": "payer",
    });
    write!(file, "{credentials}").unwrap();
    let url = format!(
        "firestore://p-{}?endpoint=http://{}&credentials={}&ramp=off",
        std::process::id(),
        fake.host,
        file.path().display()
    );
    let store = open(&url, &OpenOptions::default()).await.unwrap();
    store
        .ensure("docs", &whimbrel_model::KeyKind::Text)
        .await
        .unwrap();
    fake.answer(
        Call::Commit,
        Fault::Before(Status::unauthenticated("hunter2")),
    );
    let write = [put("docs", "a", r#"{"n":1}"#, Guard::Any)];
    assert_eq!(store.write(&write).await.unwrap(), [WriteOutcome::Applied]);
    let seen = fake.seen(Call::Commit);
    let token = |i: usize| seen[i].get("authorization").unwrap().to_str().unwrap();
    let last = seen.len() - 1;
    assert_eq!(
        (token(last - 1), token(last)),
        ("Bearer token-0", "Bearer token-1")
    );
    assert_eq!(seen[last].get("x-goog-user-project").unwrap(), "payer");
    for _ in 0..2 {
        fake.answer(Call::Commit, Fault::Before(Status::unauthenticated("no")));
    }
    let error = store.write(&write).await.unwrap_err();
    expect(&error, StoreErrorKind::Terminal, Code::StoreDenied);
}

/// Gives out `token-0`, `token-1`, …
fn tokens() -> String {
    use std::io::Read;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for n in 0.. {
            let Ok((mut stream, _)) = listener.accept() else {
                return;
            };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let body = format!(r#"{{"access_token":"token-{n}","expires_in":3600}}"#);
            let length = body.len();
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: ";
            let _ = write!(stream, "{head}{length}\r\n\r\n{body}");
        }
    });
    host
}
