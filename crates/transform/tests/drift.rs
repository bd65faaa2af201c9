//! What counts as an edit of an applied migration, how it is told, and where each migration stands.

use proptest::prelude::*;
use std::fmt::Write;
use std::path::Path;
use whimbrel_model::Timestamp;
use whimbrel_model::ledger::{Entry, MigrationEntry, Record, Rest, State, StepPlan, StepReport};
use whimbrel_model::migration::{Migration, StandingKind, difference, standing};
use whimbrel_transform::parse_migration;

fn named(file: &str, text: &str) -> Migration {
    parse_migration(file, text, Path::new("/nowhere"))
        .unwrap_or_else(|errors| panic!("{text}\n{errors:?}"))
}

fn parse(text: &str) -> Migration {
    named("0001_x.toml", text)
}

const APPLIED: &str = r#"
description = "d"
timeout = "2h"

[[step]]
backup = "save"
collections = ["c"]
to = "backups"

[[step]]
upgrade = "reshape"
collection = "c"
to = 3

[[step]]
run = "index"
forward = { command = ["a"], env = { TOKEN = "$A" } }

[[abort]]
when = "failed_checks"

[[abort]]
when = "failed_checks"
above = 5
"#;

#[test]
fn edits_are_told_by_path() {
    let check = |edit: &dyn Fn(&str) -> String, expect: &[&str]| {
        let (applied, now) = (parse(APPLIED), parse(&edit(APPLIED)));
        let changes = difference(&applied.meaning, &now.meaning);
        let told: Vec<_> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(told, expect);
        assert_eq!(expect.is_empty(), applied.checksum == now.checksum);
    };
    let replaced = |from: &'static str, to: &'static str| {
        move |text: &str| {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        }
    };
    check(&|text: &str| format!("# why\n{text}\n\n"), &[]);
    check(
        &replaced("to = 3", "to = 4"),
        &["step 2 (upgrade \"reshape\"): to 3 → 4"],
    );
    check(&replaced("to = 3", "to = 0x3"), &[]);
    check(
        &replaced("to = 3", "to = 3\nfrom = 1"),
        &["step 2 (upgrade \"reshape\"): from 1 was added"],
    );
    check(
        &replaced("timeout = \"2h\"", "owner = \"ada\""),
        &["owner \"ada\" was added", "timeout \"2h\" was removed"],
    );
    check(
        &replaced("\"$A\"", "\"$B\""),
        &["step 3 (run \"index\"): forward.env.TOKEN \"$A\" → \"$B\""],
    );
    check(
        &replaced("[\"c\"]", "[\"c\", \"d\"]"),
        &["step 1 (backup \"save\"): collections [\"c\"] → [\"c\",\"d\"]"],
    );
    check(
        &replaced("above = 5", "above = 6"),
        &["abort rule \"failed_checks-2\": above 5 → 6"],
    );
    check(
        &replaced(
            "[[abort]]",
            "[[step]]\nverify = \"equal\"\ncollection = \"c\"\nversion = 3\n\n[[abort]]",
        ),
        &["step 4 (verify \"equal\") was added"],
    );
    check(
        &replaced("upgrade = \"reshape\"", "upgrade = \"renamed\""),
        &[
            "step 2 (upgrade \"reshape\") was removed",
            "step 2 (upgrade \"renamed\") was added",
        ],
    );
    check(
        &replaced(
            "backup = \"save\"\ncollections = [\"c\"]\nto = \"backups\"",
            "approve = \"save\"\nquestion = \"?\"",
        ),
        &[
            "step 1 (approve \"save\"): collections [\"c\"] was removed",
            "step 1 (approve \"save\"): kind \"backup\" → \"approve\"",
            "step 1 (approve \"save\"): question \"?\" was added",
            "step 1 (approve \"save\"): to \"backups\" was removed",
        ],
    );
    let first = "[[step]]\nbackup = \"save\"\ncollections = [\"c\"]\nto = \"backups\"\n";
    check(
        &|text: &str| format!("{}{first}", text.replacen(first, "", 1)),
        &["step 3 (backup \"save\") was moved; it was number 1"],
    );
}

#[test]
fn long_values_are_cut_where_they_differ() {
    let sql = |end: &str| {
        let columns = "column_of_the_table, ".repeat(20);
        parse(&format!(
            "description = \"d\"\n[[step]]\nrun = \"a\"\nforward = {{ store = \"s\", sql = \"SELECT {columns}{end}\" }}"
        ))
    };
    let changes = difference(&sql("alpha").meaning, &sql("omega and more").meaning);
    assert_eq!(
        changes[0].to_string(),
        "step 1 (run \"a\"): forward.sql …olumn_of_the_table, alpha\" → …olumn_of_the_table, omega and more\""
    );
}

#[test]
fn an_edited_rules_file_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let text = "description = \"d\"\n[[step]]\ncopy = \"k\"\nsource = \"c\"\ntarget = \"s/c\"\nrules = \"r.toml\"\n";
    let read = |rules: &str| {
        std::fs::write(dir.path().join("r.toml"), rules).unwrap();
        parse_migration("0001_x.toml", text, dir.path()).unwrap()
    };
    let (applied, now) = (
        read("[[rule]]\nname = \"a\""),
        read("[[rule]]\nname = \"a\"\ninto = \"b\""),
    );
    let changes = difference(&applied.meaning, &now.meaning);
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].to_string(), "r.toml means something else now");
}

/// A step as text, in one of several spellings of the same meaning.
#[derive(Clone, Debug)]
struct Line {
    key: &'static str,
    /// Spellings that mean the same.
    values: Vec<String>,
}

fn line(key: &'static str, values: &[&str]) -> Line {
    Line {
        key,
        values: values.iter().map(|v| (*v).to_owned()).collect(),
    }
}

fn steps() -> impl Strategy<Value = Vec<Vec<Line>>> {
    let step = (0..5_u8, 1..9_u32, "[a-z]{1,6}").prop_map(|(kind, n, word)| {
        let number = n.to_string();
        let hex = format!("0x{n:x}");
        let text = [
            format!("\"{word}\""),
            format!("'{word}'"),
            format!("\"\"\"{word}\"\"\""),
        ];
        let text: Vec<&str> = text.iter().map(String::as_str).collect();
        let (list, loose) = (format!("[\"{word}\"]"), format!("[ # why\n  '{word}',\n]"));
        let table = [
            format!("{{ command = [\"{word}\"], env = {{ A = \"$A\", B = \"$B\" }} }}"),
            format!("{{ env = {{ B = \"$B\", A = \"$A\" }}, command = ['{word}'] }}"),
        ];
        match kind {
            0 => vec![
                line("upgrade", &[]),
                line("collection", &text),
                line("to", &[&number, &hex]),
            ],
            1 => vec![
                line("backup", &[]),
                line("collections", &[&list, &loose]),
                line("to", &text),
            ],
            2 => vec![
                line("approve", &[]),
                line("question", &text),
                line("retries", &[&number, &hex]),
            ],
            3 => vec![
                line("run", &[]),
                line("forward", &[&table[0], &table[1]]),
                line("idempotent", &["true"]),
            ],
            _ => vec![
                line("copy", &[]),
                line("source", &text),
                line("target", &text),
            ],
        }
    });
    prop::collection::vec(step, 1..6)
}

/// The steps as one file; `dice` chooses spellings, order and decoration.
fn written(steps: &[Vec<Line>], dice: &mut dyn FnMut(usize) -> usize) -> String {
    let comment = |n: usize| ["", "  # why\n", "\n\n", "\t"][n % 4];
    let mut heads = ["description = \"d\"", "owner = 'ada'"];
    if dice(2) == 1 {
        heads.reverse();
    }
    let mut out = heads.join("\n") + "\n";
    for (i, step) in steps.iter().enumerate() {
        let _ = write!(
            out,
            "{}\n[[step]]{}\n",
            comment(dice(4)),
            ["", " # x"][dice(2)]
        );
        let mut lines: Vec<String> = step
            .iter()
            .map(|line| match line.values.len() {
                0 => format!("{} = \"s{i}\"", line.key),
                n => format!(
                    "{}{}= {}",
                    line.key,
                    " ".repeat(1 + dice(3)),
                    line.values[dice(n)]
                ),
            })
            .collect();
        let turn = dice(lines.len());
        lines.rotate_left(turn);
        out.push_str(&lines.join(["\n", "\n\n", " # z\n"][dice(3)]));
        out.push('\n');
    }
    out
}

proptest! {
    /// Comments, white space, the order of keys and how a value is spelled do not count.
    #[test]
    fn layout_does_not_count(steps in steps(), rolls in prop::collection::vec(any::<usize>(), 200)) {
        let mut rolls = rolls.into_iter().cycle();
        let plain = parse(&written(&steps, &mut |_| 0));
        let fancy = parse(&written(&steps, &mut |n| rolls.next().unwrap_or_default() % n.max(1)));
        prop_assert_eq!(&plain.checksum, &fancy.checksum);
        prop_assert_eq!(difference(&plain.meaning, &fancy.meaning), vec![]);
        // The ledger keeps the meaning as JSON.
        let kept: serde_json::Value = serde_json::from_str(&plain.meaning.to_string()).unwrap();
        prop_assert_eq!(difference(&kept, &fancy.meaning), vec![]);
    }

    /// Whatever is said differently, added, left out or put elsewhere counts, and is told.
    #[test]
    fn every_edit_counts(steps in steps(), at in any::<prop::sample::Index>(), how in 0..4_u8) {
        let mut edited = steps.clone();
        let i = at.index(steps.len());
        match how {
            0 => edited[i].push(line("estimate", &["\"5m\""])),
            1 => { edited.remove(i); }
            2 => {
                let other = (i + 1) % steps.len();
                prop_assume!(other != i);
                edited.swap(i, other);
            }
            _ => {
                let last = edited[i].last_mut().unwrap();
                last.values = match last.values[0].as_str() {
                    "true" => vec!["false".to_owned()],
                    n if n.parse::<u32>().is_ok() => vec!["77".to_owned()],
                    _ => vec!["\"other-than-before\"".to_owned()],
                };
            }
        }
        let (before, after) = (written(&steps, &mut |_| 0), written(&edited, &mut |_| 0));
        prop_assume!(before != after);
        let (before, after) = (parse(&before), parse(&after));
        prop_assert_ne!(&before.checksum, &after.checksum);
        prop_assert!(!difference(&before.meaning, &after.meaning).is_empty());
    }

    /// No text makes the reader panic, and errors stand within it.
    #[test]
    fn noise_is_refused_calmly(
        pieces in prop::collection::vec(prop_oneof![
            Just("[[step]]\n"), Just("[[abort]]\n"), Just("[step.env]\n"), Just("description = \"d\"\n"),
            Just("upgrade = \"a\"\n"), Just("run = \"r\"\n"), Just("verify = 1\n"), Just("phase = []\n"),
            Just("forward = { command = [\"x\"], env = { A = 1 } }\n"), Just("to = -1\n"), Just("to = \"shadow\"\n"),
            Just("collections = [[1], {}]\n"), Just("when = \"latency\"\n"), Just("times = -inf\n"),
            Just("every = \"9999999999999d\"\n"), Just("below = \"99999999999999 TiB\"\n"), Just("above = \"1e9%\"\n"),
            Just("retries = 99999999999999999999\n"), Just("a.b.c = 1979-05-27\n"), Just("="), Just("\""), Just("\n"),
            Just("\u{0}"), Just("{"), Just("]"), Just("ä\n"), Just("step = 3\n"), Just("'''"), Just("to = \"a://b:c@d\"\n"),
        ], 0..14),
        noise in "\\PC{0,12}",
        cut in any::<prop::sample::Index>(),
    ) {
        let mut text = pieces.concat();
        let at = cut.index(text.len() + 1);
        if text.is_char_boundary(at) {
            text.insert_str(at, &noise);
        }
        let lines = u32::try_from(text.lines().count() + 1).unwrap();
        if let Err(errors) = parse_migration("0001_x.toml", &text, Path::new("/nowhere")) {
            prop_assert!(!errors.is_empty());
            for error in errors {
                prop_assert!(error.place.is_none_or(|(line, _)| (1..=lines).contains(&line)), "{}", error);
            }
        }
    }
}

/// A ledger in which these things happened to these migrations.
fn ledger(entries: Vec<(&Migration, MigrationEntry)>) -> State {
    let mut state = State::default();
    for (migration, change) in entries {
        let entry = Entry::Migration {
            migration: migration.id.clone(),
            change,
        };
        let record = Record::following(
            (state.seq, &state.hash),
            Timestamp::from_micros(0),
            1,
            entry,
        );
        state.apply(&record).unwrap();
    }
    state
}

fn begun(migration: &Migration) -> Vec<(&Migration, MigrationEntry)> {
    let started = MigrationEntry::Started {
        application: 1,
        description: migration.description.clone(),
        checksum: migration.checksum.clone(),
        meaning: migration.meaning.clone(),
        steps: vec![StepPlan {
            name: "a".to_owned(),
            kind: "run".to_owned(),
            reversible: true,
        }],
        by: "ada".to_owned(),
        tool: "0".to_owned(),
    };
    vec![(migration, started)]
}

fn applied(migration: &Migration) -> Vec<(&Migration, MigrationEntry)> {
    let mut entries = begun(migration);
    let done = MigrationEntry::StepDone {
        step: 0,
        report: StepReport::default(),
    };
    entries.extend([
        (migration, MigrationEntry::StepStarted { step: 0 }),
        (migration, done),
        (migration, MigrationEntry::Applied),
    ]);
    entries
}

fn undone(migration: &Migration) -> Vec<(&Migration, MigrationEntry)> {
    let mut entries = applied(migration);
    let started = MigrationEntry::UndoStarted {
        by: "ada".to_owned(),
        cause: None,
    };
    let done = MigrationEntry::StepUndone {
        step: 0,
        report: StepReport::default(),
    };
    entries.extend([
        (migration, started),
        (migration, MigrationEntry::StepUndoStarted { step: 0 }),
        (migration, done),
        (migration, MigrationEntry::Undone),
    ]);
    entries
}

#[test]
fn each_migration_stands_somewhere() {
    let text = |word: &str| {
        format!(
            "description = \"{word}\"\n[[step]]\nrun = \"a\"\nforward = {{ command = [\"{word}\"] }}\n"
        )
    };
    let file = |id: &str| named(&format!("{id}.toml"), &text("one"));
    let ids = [
        "0001_late",
        "0002_applied",
        "0003_gone",
        "0004_edited",
        "0005_undone",
        "0006_skipped",
        "0007_gone-undone",
        "0008_newest",
        "0009_undone",
        "0010_open",
        "0012_pending",
    ];
    let all: Vec<Migration> = ids.iter().map(|id| file(id)).collect();
    let skipped = MigrationEntry::Skipped {
        description: "one".to_owned(),
        checksum: all[5].checksum.clone(),
        meaning: all[5].meaning.clone(),
        by: "ada".to_owned(),
    };
    let rested = MigrationEntry::Rested {
        rest: Rest::Paused,
        code: whimbrel_model::Code::MigrationPaused,
        message: String::new(),
    };
    let mut entries = Vec::new();
    for i in [1, 2, 3, 7] {
        entries.extend(applied(&all[i]));
    }
    for i in [4, 6, 8] {
        entries.extend(undone(&all[i]));
    }
    entries.push((&all[5], skipped));
    entries.extend(begun(&all[9]));
    entries.push((&all[9], rested));
    let state = ledger(entries);
    let mut now: Vec<Migration> = all
        .iter()
        .filter(|m| !m.id.contains("gone"))
        .cloned()
        .collect();
    now[2] = named("0004_edited.toml", &text("two"));
    now.reverse();
    let found = standing(&state, &now);
    let told: Vec<_> = found
        .iter()
        .map(|s| (s.number, s.id.as_str(), s.description.as_str()))
        .collect();
    let kinds: Vec<_> = found.iter().map(|s| s.kind.clone()).collect();
    assert!(told.is_sorted());
    let StandingKind::Drifted(changes) = &kinds[3] else {
        panic!("{kinds:?}");
    };
    let changes: Vec<_> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        changes,
        [
            "description \"one\" → \"two\"",
            "step 1 (run \"a\"): forward.command [\"one\"] → [\"two\"]"
        ]
    );
    use StandingKind as K;
    let expect = [
        (1, K::Late),
        (2, K::Applied),
        (3, K::Missing),
        (4, kinds[3].clone()),
        (5, K::Late),
        (6, K::Skipped),
        (8, K::Applied),
        (9, K::Pending),
        (10, K::Open),
        (12, K::Pending),
    ];
    let stands: Vec<_> = found.iter().map(|s| (s.number, s.kind.clone())).collect();
    assert_eq!(stands, expect);
    assert_eq!(told[2], (3, "0003_gone", "one"));
}

#[test]
fn an_empty_ledger_has_everything_before_it() {
    let one = parse(APPLIED);
    assert_eq!(
        standing(&State::default(), &[one])[0].kind,
        StandingKind::Pending
    );
    assert!(standing(&State::default(), &[]).is_empty());
}
