//! Folders of migration files, from their texts to what they mean.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use whimbrel_model::migration::{
    AbortRule, AbortWhen, Action, ApproveStep, BackupStep, CopyStep, Migration, Phase, PhaseStep,
    RunStep, StepKind, UpgradeStep, VerifyStep, check, points_of_no_return,
};
use whimbrel_transform::{LoadError, load_migrations, parse_migration};

const FULL: &str = r#"
description = "Conversations move to PostgreSQL, one document a message"
owner = "ada@example.org"
retries = 5
timeout = "2h"
max_failed = "1%"

[[step]]
backup = "before"
collections = ["conversations", "app/*"]
to = "backups"
recipients = ["age1qqqq"]
sign = "keys/backup.key"

[[step]]
upgrade = "reshape"
collection = "conversations"
to = 3
from = 1
estimate = "5m"
timeout = "90s"
retries = 0

[[step]]
copy = "split"
source = "conversations"
target = "split/messages"
rules = "copies/messages.toml"
skip_existing = true

[[step]]
verify = "equal"
collection = "conversations"
version = 3

[[step]]
verify = "same"
source = "conversations"
target = "split/messages"
rules = "copies/messages.toml"

[[step]]
run = "index"
idempotent = true
forward = { sql = "CREATE INDEX x ON y (z)", store = "app" }
backward = { command = ["./drop.sh", "--fast"], folder = "ops", env = { TOKEN = "$DEPLOY_TOKEN", KEY = "@keys/x" } }
[step.validate]
command = ["true"]

[[step]]
phase = "double"
collection = "conversations"
to = "dualwrite"

[[step]]
approve = "go"
by = ["ada", "grace"]
question = "Did the dashboards stay calm?"

[[step]]
phase = "shadow"
collection = "conversations"
to = "shadow"

[[abort]]
when = "failed_documents"
above = "1%"
every = "10s"

[[abort]]
when = "failed_checks"

[[abort]]
name = "errors"
when = "error_rate"
above = "0.5%"

[[abort]]
when = "latency"
times = 3.0
at_least = "30ms"

[[abort]]
when = "free_disk"
path = "data"
below = "2 GB"

[[abort]]
when = "command"
command = ["./alarm.sh"]

[[abort]]
when = "command"
command = ["./other.sh"]
every = "1m"
"#;

const RULES: &str =
    "[[rule]]\nname = \"messages\"\nsplit = { field = \"messages\", key = \"{key}:{index}\" }\n";

fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

fn load(dir: &tempfile::TempDir) -> Result<Vec<Migration>, Vec<LoadError>> {
    load_migrations(&dir.path().join("migrations"), dir.path())
}

/// The errors without the project's own folder.
fn told(dir: &Path, errors: &[LoadError]) -> Vec<String> {
    let prefix = format!("{}/", dir.display());
    errors
        .iter()
        .map(|e| e.to_string().replace(&prefix, ""))
        .collect()
}

#[test]
fn a_file_is_read_to_its_end() {
    let dir = project(&[
        ("migrations/0007_all-of-it.toml", FULL),
        ("copies/messages.toml", RULES),
    ]);
    let mut all = load(&dir).unwrap();
    let read = all.remove(0);
    assert_eq!((read.id.as_str(), read.number), ("0007_all-of-it", 7));
    assert_eq!(
        read.description,
        "Conversations move to PostgreSQL, one document a message"
    );
    assert_eq!(read.owner.as_deref(), Some("ada@example.org"));
    assert_eq!(read.max_failed.as_deref(), Some("1%"));
    let heads: Vec<_> = read
        .steps
        .iter()
        .map(|s| (s.line, s.name.as_str(), s.retries, s.timeout, s.estimate))
        .collect();
    let (m, h) = (Duration::from_secs(60), Duration::from_secs(3600));
    let usual = |line, name| (line, name, 5, Some(2 * h), None);
    assert_eq!(
        heads,
        [
            usual(8, "before"),
            (15, "reshape", 0, Some(m * 3 / 2), Some(5 * m)),
            usual(24, "split"),
            usual(31, "equal"),
            usual(36, "same"),
            usual(42, "index"),
            usual(50, "double"),
            usual(55, "go"),
            usual(60, "shadow"),
        ]
    );
    let kinds: Vec<_> = read.steps.into_iter().map(|s| s.kind).collect();
    assert_eq!(kinds, kinds_of_full());
    assert_eq!(read.abort, abort_of_full());
    assert_eq!(read.meaning["step"][1]["to"], 3);
    assert_eq!(read.checksum.len(), 64);
    assert_eq!(
        read.meaning["files"]["copies/messages.toml"]
            .as_str()
            .map(str::len),
        Some(64)
    );
}

fn kinds_of_full() -> Vec<StepKind> {
    let s = |text: &str| text.to_owned();
    let rules = Some(s("copies/messages.toml"));
    let command = |words: &[&str]| words.iter().map(|w| s(w)).collect::<Vec<_>>();
    let phase = |to| {
        StepKind::Phase(PhaseStep {
            collection: s("conversations"),
            to,
        })
    };
    vec![
        StepKind::Backup(BackupStep {
            collections: command(&["conversations", "app/*"]),
            to: s("backups"),
            recipients: command(&["age1qqqq"]),
            sign: Some(s("keys/backup.key")),
        }),
        StepKind::Upgrade(UpgradeStep {
            collection: s("conversations"),
            to: 3,
            from: Some(1),
        }),
        StepKind::Copy(CopyStep {
            source: s("conversations"),
            target: s("split/messages"),
            rules: rules.clone(),
            skip_existing: true,
        }),
        StepKind::Verify(VerifyStep::Upgraded {
            collection: s("conversations"),
            version: 3,
        }),
        StepKind::Verify(VerifyStep::Copied {
            source: s("conversations"),
            target: s("split/messages"),
            rules,
        }),
        StepKind::Run(RunStep {
            forward: Action::Sql {
                store: s("app"),
                statement: s("CREATE INDEX x ON y (z)"),
            },
            backward: Some(Action::Command {
                command: command(&["./drop.sh", "--fast"]),
                folder: Some(s("ops")),
                env: BTreeMap::from([(s("TOKEN"), s("$DEPLOY_TOKEN")), (s("KEY"), s("@keys/x"))]),
            }),
            validate: Some(Action::Command {
                command: command(&["true"]),
                folder: None,
                env: BTreeMap::new(),
            }),
            idempotent: true,
        }),
        phase(Phase::Dualwrite),
        StepKind::Approve(ApproveStep {
            by: command(&["ada", "grace"]),
            question: s("Did the dashboards stay calm?"),
        }),
        phase(Phase::Shadow),
    ]
}

fn abort_of_full() -> Vec<AbortRule> {
    let rule = |name: &str, seconds, when| AbortRule {
        name: name.to_owned(),
        when,
        every: Duration::from_secs(seconds),
    };
    let command = |word: &str| AbortWhen::Command {
        command: vec![word.to_owned()],
    };
    vec![
        rule(
            "failed_documents",
            10,
            AbortWhen::FailedDocuments { above: 0.01 },
        ),
        rule("failed_checks", 5, AbortWhen::FailedChecks { above: 0 }),
        rule("errors", 5, AbortWhen::ErrorRate { above: 0.005 }),
        rule(
            "latency",
            5,
            AbortWhen::Latency {
                times: 3.0,
                at_least: Duration::from_millis(30),
            },
        ),
        rule(
            "free_disk",
            5,
            AbortWhen::FreeDisk {
                path: "data".to_owned(),
                below: 2_000_000_000,
            },
        ),
        rule("command", 5, command("./alarm.sh")),
        rule("command-2", 60, command("./other.sh")),
    ]
}

const SMALL: &str =
    "description = \"d\"\n[[step]]\nrun = \"a\"\nforward = { command = [\"true\"] }\n";

#[test]
fn a_folder_is_read_in_the_order_of_numbers() {
    let dir = project(&[
        ("migrations/10_b.toml", SMALL),
        ("migrations/9_a.toml", SMALL),
        ("migrations/0011_c.toml", SMALL),
        ("migrations/README.md", "x"),
        ("migrations/9_a.toml~", "x"),
        ("migrations/.9_a.toml.swp", "x"),
        ("migrations/0011_index.sql", "x"),
        ("migrations/12_folder.toml/x", "x"),
    ]);
    let ids: Vec<_> = load(&dir).unwrap().into_iter().map(|m| m.id).collect();
    assert_eq!(ids, ["9_a", "10_b", "0011_c"]);
    assert!(load(&project(&[])).unwrap().is_empty());
    let file = project(&[("migrations", "x")]);
    assert!(
        told(file.path(), &load(&file).unwrap_err())[0]
            .starts_with("migrations: the folder of migrations cannot be read: ")
    );
}

#[test]
fn a_folder_tells_all_errors_of_all_files() {
    let dir = project(&[
        ("migrations/1_a.toml", SMALL),
        ("migrations/0001_b.toml", SMALL),
        ("migrations/0002-c.toml", SMALL),
        ("migrations/0003_d.yaml", SMALL),
        ("migrations/0004_e.toml", "[["),
        ("migrations/0005_f.toml", "description = \"d\""),
        ("migrations/0006_g.toml", "steps = 1"),
        (
            "migrations/0007_h.toml",
            "description = \"d\"\n[[step]]\ncopy = \"a\"\nsource = \"x\"\ntarget = \"y\"\nrules = \"r.toml\"\n\
             [[step]]\nverify = \"b\"\nsource = \"x\"\ntarget = \"y\"\nrules = \"none.toml\"\n",
        ),
        ("r.toml", "[[rule]]\nnme = \"x\"\n"),
    ]);
    std::fs::write(dir.path().join("migrations/0008_i.toml"), b"\xff").unwrap();
    let found = told(dir.path(), &load(&dir).unwrap_err());
    let expect = [
        "migrations/0002-c.toml: a migration is called by a number and a name, like 0001_to_postgres.toml",
        "migrations/0003_d.yaml: a migration's name ends with .toml",
        "migrations/0004_e.toml:1:3: ",
        "migrations/0005_f.toml:1:1: there are no steps; add a [[step]]",
        "migrations/0006_g.toml:1:1: \"description\" is missing",
        "migrations/0006_g.toml:1:1: unknown key \"steps\"; known here: abort, description,",
        "migrations/0007_h.toml:2:1: step \"a\": r.toml cannot be used",
        "migrations/0007_h.toml:7:1: step \"b\": none.toml cannot be used",
        "migrations/0008_i.toml: the file cannot be read: ",
        "migrations/1_a.toml: number 1 is taken by 0001_b.toml; give this file the next free number",
        "none.toml: the copy rules cannot be read: ",
        "r.toml:1:1: \"name\" is missing",
        "r.toml:2:1: unknown key \"nme\"; ",
    ];
    for (found, expect) in found.iter().zip(expect) {
        assert!(found.starts_with(expect), "{found}\n{expect}");
    }
    assert_eq!(found.len(), expect.len(), "{found:#?}");
}

#[test]
fn the_rules_meaning_is_part_of_the_migrations() {
    let sum = |rules: &str, text: &str| {
        let dir = project(&[
            ("migrations/0001_x.toml", text),
            ("copies/messages.toml", rules),
        ]);
        load(&dir).unwrap().remove(0).checksum
    };
    let base = sum(RULES, FULL);
    assert_eq!(base, sum(&format!("# why\n\n{RULES}"), FULL));
    assert_ne!(base, sum(&RULES.replace("{index}", "{index:04}"), FULL));
    let second = "[[rule]]\nname = \"other\"\n";
    assert_ne!(
        sum(&format!("{RULES}{second}"), FULL),
        sum(&format!("{second}{RULES}"), FULL),
        "rules run one after the other"
    );
}

/// What the documentation shows as a whole file is one, and makes sense.
#[test]
fn the_page_shows_a_file_that_is_valid() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/migrations.md")).unwrap();
    let (_, rest) = page.split_once("```toml\n").unwrap();
    let (text, _) = rest.split_once("\n```\n").unwrap();
    let project = root.join("examples/chat-app");
    let mut all = [parse_migration("0001_page.toml", text, &project).unwrap()];
    assert_eq!(check(&mut all), []);
    let kinds: BTreeSet<_> = all[0].steps.iter().map(|s| s.kind.word()).collect();
    assert_eq!(kinds.len(), 7, "every kind of step is shown: {kinds:?}");
    assert!(points_of_no_return(&all[0]).is_empty());
}
