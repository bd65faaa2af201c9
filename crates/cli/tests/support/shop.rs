//! A project of its own for tests of migrations: users in `app.db`, with a schema of two versions, and an
//! empty `other.db` to copy into.

// Each test file uses its part of this.
#![allow(dead_code)]

use crate::support::{Ran, Sandbox, command};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use whimbrel_model::{Body, Guard, Key, KeyRange, Store, Write};
use whimbrel_stores::OpenOptions;

pub struct Shop {
    sandbox: Sandbox,
}

/// What a step runs that begins, says so by a file, and goes on once a file `go` is there, or the folder is gone.
pub const HOLD: &str = "[[step]]\nrun = \"hold\"\nidempotent = true\nforward = { command = [\"sh\", \"-c\", \
                        \"touch begun; while [ -e begun ] && [ ! -e go ]; do sleep 0.05; done\"] }\nbackward = { command = [\"true\"] }\n";

pub const UPGRADE: &str = "[[step]]\nupgrade = \"reshape\"\ncollection = \"users\"\nto = 2\n";

pub const COPY: &str =
    "[[step]]\ncopy = \"away\"\nsource = \"app/users\"\ntarget = \"other/people\"\n";

pub const FAIL: &str = "[[step]]\nrun = \"break\"\nforward = { command = [\"false\"] }\nbackward = { command = [\"true\"] }\n";

impl Shop {
    pub fn new() -> Self {
        let shop = Self {
            sandbox: Sandbox::new(),
        };
        let project = "[stores.app]\nurl = \"sqlite:app.db\"\n[stores.other]\nurl = \"sqlite:other.db\"\n\
                       [collections.users]\nstore = \"app\"\n";
        shop.write("whimbrel.toml", project);
        shop.write(
            "schemas/users/0001_initial.toml",
            "description = \"As it is\"\n",
        );
        let next =
            "description = \"A plan\"\n[[up]]\nop = \"add\"\npath = \"plan\"\nvalue = \"free\"\n";
        shop.write("schemas/users/0002_plan.toml", next);
        shop.with("app", |store| async move {
            store
                .ensure("users", &whimbrel_model::KeyKind::Text)
                .await
                .unwrap();
            let writes: Vec<_> = (0..50)
                .map(|i| {
                    write(
                        &format!("u{i:03}"),
                        &format!("{{\"name\":\"user {i}\",\"n\":{i}}}"),
                    )
                })
                .collect();
            store.write(&writes).await.unwrap();
        });
        shop
    }

    pub fn path(&self) -> PathBuf {
        self.sandbox.path().canonicalize().unwrap()
    }

    pub fn write(&self, file: &str, text: &str) {
        let path = self.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A file of steps.
    pub fn migration(&self, id: &str, steps: &[&str]) {
        let text = format!("description = \"About {id}\"\n\n{}", steps.join("\n"));
        self.write(&format!("migrations/{id}.toml"), &text);
    }

    pub fn exists(&self, file: &str) -> bool {
        self.path().join(file).exists()
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = command(&self.path());
        command
            .args(arguments)
            .env("USER", "ada")
            .env("COLUMNS", "160");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, &[])
    }

    pub fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
        let mut command = self.command(arguments);
        command.envs(variables.iter().copied());
        let output = command.output().unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs it, and panics with all that it said unless it ends with `code`.
    pub fn ends(&self, arguments: &[&str], code: i32) -> Ran {
        let ran = self.run(arguments);
        assert_eq!(
            ran.code, code,
            "{arguments:?}\n{}{}",
            ran.stdout, ran.stderr
        );
        ran
    }

    /// Begins a command, and returns once its step that holds has begun.
    pub fn begin(&self, arguments: &[&str]) -> Child {
        let _ = std::fs::remove_file(self.path().join("begun"));
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        self.until("the step that holds begins", || self.exists("begun"));
        child
    }

    /// Waits until something holds; panics when it does not within a minute.
    pub fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < Duration::from_secs(60), "in vain: {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// `status --json`.
    pub fn status(&self) -> Value {
        let ran = self.run(&["status", "--json"]);
        serde_json::from_str(ran.stdout.trim()).unwrap_or_else(|e| panic!("{e}: {}", ran.stdout))
    }

    /// How a migration stands in the folder and in the ledger.
    pub fn standing(&self, id: &str) -> (String, String) {
        let status = self.status();
        let all = status["migrations"]["all"].as_array().unwrap();
        let one = all.iter().find(|m| m["id"] == id).unwrap();
        let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        (text(&one["standing"]), text(&one["state"]["status"]))
    }

    /// Every document of a collection: its key and its bytes.
    pub fn documents(&self, store: &str, collection: &str) -> Vec<(String, Vec<u8>)> {
        let collection = collection.to_owned();
        self.with(store, |store| async move {
            if store.describe(&collection).await.unwrap().is_none() {
                return Vec::new();
            }
            let all = KeyRange::default();
            let page = store
                .scan(&collection, &all, 10_000, usize::MAX)
                .await
                .unwrap();
            let bytes = |body: &Body| body.json().into_owned();
            page.documents
                .iter()
                .map(|d| (d.key.to_string(), bytes(&d.body)))
                .collect()
        })
    }

    /// As the app does.
    pub fn put(&self, key: &str, json: &str) {
        let write = write(key, json);
        self.with("app", |store| async move {
            store.write(&[write]).await.unwrap();
        });
    }

    pub fn with<T, F: Future<Output = T>>(
        &self,
        store: &str,
        work: impl FnOnce(Arc<dyn Store>) -> F,
    ) -> T {
        let url = format!(
            "sqlite:{}",
            self.path().join(format!("{store}.db")).display()
        );
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let store = whimbrel_stores::open(&url, &OpenOptions::default())
                .await
                .unwrap();
            work(store).await
        })
    }
}

fn write(key: &str, json: &str) -> Write {
    Write {
        collection: "users".to_owned(),
        key: Key::text(key),
        to: Some(Body::from_json(json.as_bytes().to_vec())),
        guard: Guard::Any,
    }
}

/// Everything that a child said, once it has ended, and its exit code.
pub fn ended(child: Child) -> Ran {
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
