//! `whimbrel serve` as apps and scripts meet it: over JSON, which needs no client.

mod support;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use support::{Sandbox, command};

struct Serving {
    child: Child,
    stdout: BufReader<ChildStdout>,
    listening: Value,
}

impl Serving {
    fn start(dir: &Path, arguments: &[&str]) -> Self {
        Self::with(dir, arguments, &[])
    }

    fn with(dir: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = command(dir)
            .arg("serve")
            .args(arguments)
            .arg("--json")
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let listening: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(listening["event"], "listening", "{line}");
        Self {
            child,
            stdout,
            listening,
        }
    }

    fn address(&self) -> &str {
        self.listening["address"].as_str().unwrap()
    }

    /// `path` stands below the database's documents.
    fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let path = format!("/v1/projects/p/databases/(default)/documents{path}");
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let (status, text) = http(self.address(), method, &path, "", &body);
        (status, serde_json::from_str(&text).unwrap())
    }

    fn put(&self, path: &str, n: i64) {
        let body = json!({ "fields": { "n": { "integerValue": n.to_string() } } });
        let (status, answer) = self.ask("PATCH", path, &body);
        assert_eq!(status, 200, "{answer}");
    }

    fn n(&self, path: &str) -> Option<String> {
        let (status, answer) = self.ask("GET", path, &Value::Null);
        let n = &answer["fields"]["n"]["integerValue"];
        (status == 200).then(|| n.as_str().unwrap().to_owned())
    }

    /// Asks it to stop; its last line.
    fn stop(self) -> Value {
        self.terminate();
        let (code, last) = self.ended();
        assert_eq!(code, Some(0), "{last}");
        last
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Its exit code and its last line.
    fn ended(mut self) -> (Option<i32>, Value) {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        let last = serde_json::from_str(rest.lines().last().unwrap()).unwrap();
        (self.child.wait().unwrap().code(), last)
    }
}

/// A test that fails leaves nothing running.
impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn http(address: &str, method: &str, path: &str, header: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{header}content-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    let mut chunked = false;
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        chunked |= line.to_ascii_lowercase().contains("chunked");
        if line == "\r\n" {
            break;
        }
    }
    let mut text = String::new();
    if !chunked {
        reader.read_to_string(&mut text).unwrap();
        return (status, text);
    }
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).unwrap();
        if size == 0 {
            return (status, text);
        }
        text.push_str(std::str::from_utf8(&chunk[..size]).unwrap());
    }
}

const ANY: [&str; 2] = ["--listen", "127.0.0.1:0"];

fn ids(answers: &Value) -> Vec<&str> {
    let answers = answers.as_array().unwrap();
    answers
        .iter()
        .filter_map(|answer| answer["document"]["name"].as_str()?.rsplit('/').next())
        .collect()
}

#[test]
fn a_store_in_memory_is_served() {
    let sandbox = Sandbox::new();
    let served = Serving::start(
        sandbox.path(),
        &[&ANY[..], &["--store", "memory:"]].concat(),
    );
    assert_eq!(served.listening["store"], "memory:");
    assert_eq!(served.listening["forwards"], false);
    assert_eq!(served.listening["host"], "127.0.0.1");
    let port = served.listening["port"].as_u64().unwrap();
    assert_eq!(served.address(), format!("127.0.0.1:{port}"));
    assert_eq!(
        http(served.address(), "GET", "/", "", ""),
        (200, "Ok\n".to_owned())
    );
    for (path, n) in [("/a/1", 3), ("/a/2", 1), ("/a/3", 2), ("/a/1/b/x", 9)] {
        served.put(path, n);
    }
    assert_eq!(served.n("/a/1").as_deref(), Some("3"));
    assert_eq!(served.n("/a/none"), None);
    let query = json!({ "structuredQuery": {
        "from": [{ "collectionId": "a" }],
        "where": { "fieldFilter": {
            "field": { "fieldPath": "n" }, "op": "GREATER_THAN", "value": { "integerValue": "1" },
        } },
        "orderBy": [{ "field": { "fieldPath": "n" } }],
    } });
    let (status, answers) = served.ask("POST", ":runQuery", &query);
    assert_eq!(status, 200, "{answers}");
    assert_eq!(ids(&answers), ["3", "1"]);
    let (_, listed) = served.ask("GET", "/a?pageSize=2", &Value::Null);
    assert_eq!(listed["documents"].as_array().unwrap().len(), 2);
    assert!(listed["nextPageToken"].is_string());
    let (_, collections) = served.ask("POST", "/a/1:listCollectionIds", &Value::Null);
    assert_eq!(collections["collectionIds"], json!(["b"]));
    let stopped = served.stop();
    assert_eq!(stopped["event"], "stopped");
    assert_eq!(stopped["whole"], true);
    assert!(stopped["requests"].as_u64().unwrap() > 8, "{stopped}");
    assert_eq!(std::fs::read_dir(sandbox.path()).unwrap().count(), 0);
}

#[test]
fn without_a_project_a_database_is_made_here_and_keeps_what_it_was_told() {
    let sandbox = Sandbox::new();
    let served = Serving::start(sandbox.path(), &ANY);
    served.put("/users/é", 7);
    served.stop();
    assert!(sandbox.path().join("firestore.db").is_file());

    let served = Serving::start(sandbox.path(), &ANY);
    assert_eq!(served.n("/users/%C3%A9").as_deref(), Some("7"));
    served.put("/users/é", 8);
    drop(served); // kill -9
    let served = Serving::start(sandbox.path(), &ANY);
    assert_eq!(served.n("/users/%C3%A9").as_deref(), Some("8"));
    served.stop();
    let ran = sandbox.run(&["inspect", "sqlite:firestore.db"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("users"), "{}", ran.stdout);
}

#[test]
fn the_project_says_what_is_served_and_how() {
    let sandbox = Sandbox::new();
    let project = |more: &str| {
        let text = format!(
            "[stores.app]\nurl = \"sqlite:app.db\"\n[stores.old]\nurl = \"sqlite:old.db\"\nread_only = true\n{more}"
        );
        std::fs::write(sandbox.path().join("whimbrel.toml"), text).unwrap();
    };
    project("");
    let ran = sandbox.run(&["serve"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("several stores"), "{}", ran.stderr);
    for (store, why) in [
        ("old", "read_only"),
        ("app/users", "not one collection"),
        ("ap", "did you mean \"app\""),
    ] {
        let ran = sandbox.run(&["serve", "--store", store]);
        assert_eq!(ran.code, 2, "{store}: {}", ran.stderr);
        assert!(ran.stderr.contains(why), "{store}: {}", ran.stderr);
    }
    project("[gateway]\nstor = \"app\"\nstore = \"apq\"\n");
    let ran = sandbox.run(&["serve"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    for why in ["no setting \"stor\"", "no [stores.apq]"] {
        assert!(ran.stderr.contains(why), "{}", ran.stderr);
    }
    project(
        "[gateway]\nstore = \"app\"\nlisten = \"127.0.0.1:0\"\ntoken_file = \"gateway.token\"\n",
    );
    std::fs::write(sandbox.path().join("gateway.token"), "too short\n").unwrap();
    let ran = sandbox.run(&["serve"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("at least 16"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("too short"), "{}", ran.stderr);
    std::fs::write(sandbox.path().join("gateway.token"), "0123456789abcdef\n").unwrap();
    let served = Serving::start(sandbox.path(), &[]);
    assert_eq!(served.listening["store"], "app");
    let path = "/v1/projects/p/databases/(default)/documents/a";
    let right = "authorization: Bearer 0123456789abcdef\r\n";
    assert_eq!(http(served.address(), "GET", path, "", "").0, 401);
    assert_eq!(http(served.address(), "GET", path, right, "").0, 200);
    served.stop();
    // The environment goes before the file.
    let other = [("WHIMBREL_TOKEN", "fedcba9876543210")];
    let served = Serving::with(sandbox.path(), &[], &other);
    assert_eq!(http(served.address(), "GET", path, right, "").0, 401);
}

/// Asked once it waits for what is at work; asked twice it does not, and says that something was cut off.
#[test]
fn whoever_asks_twice_does_not_wait() {
    let sandbox = Sandbox::new();
    let served = Serving::start(
        sandbox.path(),
        &[&ANY[..], &["--store", "memory:"]].concat(),
    );
    let address = served.address().to_owned();
    // A call whose end never comes.
    let mut stream = TcpStream::connect(&address).unwrap();
    let path = "/v1/projects/p/databases/(default)/documents:commit";
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nexpect: 100-continue\r\ncontent-length: 50\r\n\r\n"
    )
    .unwrap();
    // It asks for the body as soon as the call has begun.
    let mut line = String::new();
    BufReader::new(stream.try_clone().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.contains(" 100 "), "{line}");
    served.terminate();
    while TcpStream::connect(&address).is_ok() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    served.terminate();
    let (code, last) = served.ended();
    assert_eq!(code, Some(6));
    assert_eq!(
        last,
        json!({ "event": "stopped", "requests": 1, "whole": false })
    );
}

#[test]
fn a_port_for_everybody_is_not_opened_by_accident() {
    let sandbox = Sandbox::new();
    let open = ["--listen", "0.0.0.0:0"];
    let ran = sandbox.run(&[&["serve"], &open[..]].concat());
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    for word in ["other machines", "--token-file", "--insecure"] {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
    assert!(!sandbox.path().join("firestore.db").exists());
    let served = Serving::start(
        sandbox.path(),
        &[&open[..], &["--insecure", "--store", "memory:"]].concat(),
    );
    let port = served.listening["port"].as_u64().unwrap();
    assert_eq!(
        http(&format!("127.0.0.1:{port}"), "GET", "/", "", "").0,
        200
    );
    let taken = format!("127.0.0.1:{port}");
    let ran = sandbox.run(&["serve", "--store", "memory:", "--listen", &taken]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains(&taken), "{}", ran.stderr);
}

/// What Firestore keeps of documents and gives nobody is told before a migration begins, once.
#[test]
fn a_migration_says_beforehand_what_stays_behind() {
    let sandbox = Sandbox::new();
    let served = Serving::start(
        sandbox.path(),
        &[&ANY[..], &["--store", "memory:"]].concat(),
    );
    served.put("/users/a", 1);
    let write = |file: &str, text: &str| {
        let path = sandbox.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let cloud = format!("firestore://p?emulator={}", served.address());
    let stores =
        format!("[stores.cloud]\nurl = \"{cloud}\"\n[stores.other]\nurl = \"sqlite:other.db\"\n");
    write("whimbrel.toml", &stores);
    let copy = "[[step]]\ncopy = \"away\"\nsource = \"cloud/users\"\ntarget = \"other/people\"\n";
    let backup = "[[step]]\nbackup = \"keep\"\ncollections = [\"cloud/users\"]\nto = \"backups\"\n";
    for steps in [
        copy.to_owned(),
        backup.to_owned(),
        format!("{copy}{backup}"),
    ] {
        write(
            "migrations/0001_move.toml",
            &format!("description = \"Away\"\n{steps}"),
        );
        let ran = sandbox.run(&["up", "--dry-run", "--json"]);
        assert_eq!(ran.code, 0, "{steps}: {}{}", ran.stdout, ran.stderr);
        let lines = ran.stdout.lines();
        let notes: Vec<Value> = lines
            .map(|line| serde_json::from_str(line).unwrap())
            .filter(|line: &Value| line.get("not_carried").is_some())
            .collect();
        assert_eq!(notes.len(), 1, "{steps}");
        for note in notes {
            assert!(
                note["not_carried"]
                    .as_str()
                    .unwrap()
                    .contains("create_time")
            );
        }
    }
}

#[test]
fn calls_are_forwarded_to_another_firestore_and_never_around_in_circles() {
    let sandbox = Sandbox::new();
    let first = Serving::start(
        sandbox.path(),
        &[&ANY[..], &["--store", "memory:"]].concat(),
    );
    let url = format!("firestore://p?emulator={}", first.address());
    let second = Serving::start(sandbox.path(), &[&ANY[..], &["--store", &url]].concat());
    assert_eq!(second.listening["forwards"], true);
    second.put("/a/1", 5);
    assert_eq!(first.n("/a/1").as_deref(), Some("5"));
    let (status, answers) = second.ask(
        "POST",
        ":runQuery",
        &json!({ "structuredQuery": { "from": [{ "collectionId": "a" }] } }),
    );
    assert_eq!((status, ids(&answers)), (200, vec!["1"]));
    first.stop();
    let (status, answer) = second.ask("GET", "/a/1", &Value::Null);
    assert_eq!(status, 503, "{answer}");
    second.stop();

    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = free.local_addr().unwrap().to_string();
    drop(free);
    let ran = command(sandbox.path())
        .args(["serve", "--store", "firestore://p", "--listen", &own])
        .env("FIRESTORE_EMULATOR_HOST", &own)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(2), "{said}");
    assert!(said.contains("FIRESTORE_EMULATOR_HOST"), "{said}");
}
