//! What a row of migrations may not say, from files to the plan's errors.

use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use whimbrel_model::migration::{
    Inverse, Means, Migration, Phase, StepKind, VerifyStep, check, check_named, points_of_no_return,
};
use whimbrel_transform::parse_migration;

/// Files numbered from 1 on, each with a description in front of its steps in line 1.
fn read(files: &[&str]) -> Vec<Migration> {
    let read = |(i, text): (usize, &&str)| {
        let file = format!("{:04}_m.toml", i + 1);
        let text = format!("description = \"d\"\n{text}");
        parse_migration(&file, &text, Path::new("/nowhere"))
            .unwrap_or_else(|errors| panic!("{text}: {errors:?}"))
    };
    files.iter().enumerate().map(read).collect()
}

fn upgrade(name: &str, collection: &str, to: u32) -> String {
    format!("[[step]]\nupgrade = \"{name}\"\ncollection = \"{collection}\"\nto = {to}\n")
}

fn copy(name: &str, source: &str, target: &str) -> String {
    format!("[[step]]\ncopy = \"{name}\"\nsource = \"{source}\"\ntarget = \"{target}\"\n")
}

fn backup(name: &str, collection: &str) -> String {
    format!("[[step]]\nbackup = \"{name}\"\ncollections = [\"{collection}\"]\nto = \"b\"\n")
}

fn verify(name: &str, collection: &str, version: u32) -> String {
    format!("[[step]]\nverify = \"{name}\"\ncollection = \"{collection}\"\nversion = {version}\n")
}

fn phase(name: &str, collection: &str, to: &str) -> String {
    format!("[[step]]\nphase = \"{name}\"\ncollection = \"{collection}\"\nto = \"{to}\"\n")
}

fn approve(name: &str) -> String {
    format!("[[step]]\napprove = \"{name}\"\nquestion = \"?\"\n")
}

fn run(name: &str, backward: bool) -> String {
    let way_back = if backward {
        "backward = { command = [\"b\"] }\n"
    } else {
        ""
    };
    format!("[[step]]\nrun = \"{name}\"\nforward = {{ command = [\"a\"] }}\n{way_back}")
}

/// The files' steps give exactly these errors.
#[track_caller]
fn fails(files: &[&[String]], expect: &[&str]) {
    let texts: Vec<String> = files.iter().map(|steps| steps.concat()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let errors = check(&mut read(&texts));
    let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(found, expect);
}

#[track_caller]
fn passes(files: &[&[String]]) {
    fails(files, &[]);
}

#[test]
fn steps_have_names_of_their_own() {
    fails(
        &[&[]],
        &["0001_m, line 1: there are no steps; add a [[step]]"],
    );
    fails(
        &[&[run("a", true), run("b", true), run("a", true)]],
        &[
            "0001_m, line 10: step \"a\": a step of this name stands in line 2 already; give each its own",
        ],
    );
    passes(&[&[run("a", true)], &[run("a", true)]]);
}

#[test]
fn upgrades_go_up() {
    passes(&[
        &[
            upgrade("a", "c", 2),
            upgrade("b", "c", 3),
            upgrade("x", "d", 2),
        ],
        &[upgrade("a", "c", 5)],
    ]);
    fails(
        &[
            &[upgrade("a", "c", 3)],
            &[upgrade("b", "c", 3), upgrade("d", "c", 2)],
        ],
        &[
            "0002_m, line 2: step \"b\": the steps before leave c at version 3, so there is nothing to upgrade \
             to version 3; to go down on purpose, add from = 4",
            "0002_m, line 6: step \"d\": the steps before leave c at version 3, so there is nothing to upgrade \
             to version 2; to go down on purpose, add from = 3",
        ],
    );
    fails(
        &[&[upgrade("a", "c", 1)]],
        &[
            "0001_m, line 2: step \"a\": a collection begins at version 1, so there is nothing to upgrade to \
           version 1; to go down on purpose, say from which version: from = 2",
        ],
    );
    let from = |step: String, from: u32| format!("{step}from = {from}\n");
    passes(&[&[
        upgrade("a", "c", 3),
        from(upgrade("b", "c", 1), 3),
        upgrade("d", "c", 2),
    ]]);
    passes(&[&[from(upgrade("a", "c", 4), 3)]]);
    fails(
        &[&[
            upgrade("a", "c", 3),
            from(upgrade("b", "c", 4), 4),
            from(upgrade("d", "c", 3), 2),
        ]],
        &[
            "0001_m, line 6: step \"b\": it goes from version 4 to version 4",
            "0001_m, line 11: step \"d\": the steps before leave c at version 4, so there is nothing to upgrade \
             to version 3; to go down on purpose, add from = 4",
        ],
    );
}

#[test]
fn where_an_undo_leads_is_filled_in() {
    let first = [upgrade("a", "c", 2), upgrade("b", "c", 4)].concat();
    let copied = [
        copy("k", "c", "s/c"),
        upgrade("u", "s/c", 6),
        upgrade("v", "c", 7),
    ]
    .concat();
    let mut all = read(&[&first, &copied]);
    all.reverse();
    assert!(check(&mut all).is_empty());
    let inverses: Vec<_> = all
        .iter()
        .flat_map(|m| &m.steps)
        .map(|s| s.kind.inverse())
        .collect();
    let down = |to| Some(Inverse::Downgrade { to });
    assert_eq!(
        inverses,
        [down(1), down(2), Some(Inverse::Uncopy), down(4), down(4)]
    );
}

#[test]
fn backups_come_first() {
    passes(&[&[backup("save", "c"), upgrade("a", "c", 2)]]);
    passes(&[&[
        upgrade("a", "other", 2),
        run("r", true),
        backup("save", "c"),
        upgrade("b", "c", 2),
    ]]);
    // The next migration saves what the one before left.
    passes(&[&[upgrade("a", "c", 2)], &[backup("save", "c")]]);
    let late = |name: &str, by: &str, line: u32| {
        format!(
            "{name} is no longer what it was when this backup is made, because step \"{by}\" (line {line}) has \
             written to it, and no backup was made before; put the backup in front of that step"
        )
    };
    fails(
        &[&[upgrade("a", "c", 2), backup("save", "c")]],
        &[&format!(
            "0001_m, line 6: step \"save\": {}",
            late("c", "a", 2)
        )],
    );
    fails(
        &[&[copy("a", "c", "app/d"), backup("save", "app/*")]],
        &[&format!(
            "0001_m, line 6: step \"save\": {}",
            late("app/*", "a", 2)
        )],
    );
    fails(
        &[&[
            copy("a", "c", "app"),
            backup("save", "app/d"),
            backup("rest", "c"),
        ]],
        &[&format!(
            "0001_m, line 6: step \"save\": {}",
            late("app/d", "a", 2)
        )],
    );
    passes(&[&[copy("a", "c", "app/de"), backup("save", "app/d")]]);
    passes(&[&[
        backup("before", "app/c"),
        upgrade("a", "app/c", 2),
        backup("after", "app/*"),
    ]]);
    fails(
        &[&[
            backup("before", "app/c"),
            copy("a", "x", "app"),
            backup("after", "app/d"),
        ]],
        &[&format!(
            "0001_m, line 10: step \"after\": {}",
            late("app/d", "a", 6)
        )],
    );
    passes(&[&[
        backup("before", "c"),
        upgrade("a", "c", 2),
        backup("after", "c"),
    ]]);
}

#[test]
fn phases_follow_each_other() {
    let on = [
        "dualwrite",
        "shadow",
        "ramp(5%)",
        "ramp(50%)",
        "live",
        "rampdown",
        "complete",
    ];
    let steps: Vec<String> = on
        .iter()
        .enumerate()
        .map(|(i, to)| phase(&format!("p{i}"), "c", to))
        .collect();
    passes(&[&steps[..3], &steps[3..]]);
    passes(&[&[phase("a", "c", "dualwrite"), phase("b", "c", "off")]]);
    // Nothing leads from off to shadow, so a jump from shadow to off could not be taken back.
    fails(
        &[&[&steps[..2], &[phase("jump", "c", "off")]].concat()],
        &[
            "0001_m, line 10: step \"jump\": c: from shadow to off there would be no way back; go one phase \
             back at a time",
        ],
    );
    fails(
        &[
            &[phase("a", "c", "shadow"), phase("b", "d", "off")],
            &[phase("a", "c", "shadow")],
        ],
        &[
            "0001_m, line 2: step \"a\": c: a collection cannot go from off to shadow; from off it goes to \
             dualwrite",
            "0001_m, line 6: step \"b\": d is off already",
            "0002_m, line 2: step \"a\": c is shadow already",
        ],
    );
    let gone = "c is let go by step \"p6\" (line 26): with phase complete it is no longer kept up to date, and \
                there is no way back; put this step in front of that one";
    let after = [
        upgrade("u", "c", 2),
        copy("k", "c", "s/c"),
        phase("again", "c", "live"),
    ];
    fails(
        &[&[&steps[..], &after[..]].concat()],
        &[
            &format!("0001_m, line 30: step \"u\": {gone}"),
            &format!("0001_m, line 34: step \"k\": {gone}"),
            "0001_m, line 38: step \"again\": c: a collection cannot go from complete to live; from complete it \
             goes to nowhere",
        ],
    );
    // A project may call what holds the truth now by the same name.
    passes(&[&steps, &[upgrade("u", "c", 2)]]);
}

#[test]
fn other_orders_are_judged() {
    fails(
        &[&[run("a", true), approve("go")]],
        &[
            "0001_m, line 6: step \"go\": nothing waits for the go-ahead, because it is the last step; put it in \
           front of the step that needs it",
        ],
    );
    fails(
        &[&[
            verify("v", "c", 3),
            upgrade("a", "c", 3),
            verify("w", "c", 2),
            verify("x", "c", 3),
        ]],
        &[
            "0001_m, line 2: step \"v\": no step before it brings c to version 3; put the upgrade in front of it",
            "0001_m, line 10: step \"w\": the steps before leave c at version 3, not 2; verify version 3, or \
             upgrade it first",
        ],
    );
    passes(&[&[verify("v", "c", 1)]]);
    passes(&[
        &[upgrade("a", "c", 3)],
        &[copy("k", "c", "s/c"), verify("v", "s/c", 3)],
    ]);
    passes(&[&[
        copy("k", "app", "s"),
        verify("v", "s/c", 3),
        verify("w", "s/c", 4),
    ]]);
    fails(
        &[&[copy("k", "s/c", "s/c"), copy("l", "s/c", "t/c")]],
        &[
            "0001_m, line 2: step \"k\": source and target are the same, s/c; an upgrade changes a collection in \
           place",
        ],
    );
}

#[test]
fn names_have_shapes() {
    let check = |step: String, wanted: &str, name: &str| {
        let expect =
            format!("0001_m, line 2: step \"n\": {name:?} is no such name: write {wanted}");
        fails(&[&[step]], &[&expect]);
    };
    let collection = "a collection of the project, or store/collection";
    for name in ["/c", "c/", "app/*", "*", " c", "c*"] {
        check(upgrade("n", name, 2), collection, name);
        check(phase("n", name, "dualwrite"), collection, name);
    }
    let all = "a collection of the project, store/collection or store/*";
    for name in ["*", "/*", "app/c*", "app/*/x"] {
        check(backup("n", name), all, name);
    }
    check(
        copy("n", "c", "s/"),
        "store/collection, or a whole store",
        "s/",
    );
    let sql = "[[step]]\nrun = \"n\"\nforward = { sql = \"x\", store = \"a/b\" }\n".to_owned();
    check(sql, "a store of the project", "a/b");
    passes(&[&[upgrade("n", "app/users/u1/messages", 2)]]);
    for url in ["sqlite:app.db#c", "postgres://me@h/db#c"] {
        fails(
            &[&[upgrade("n", url, 2)]],
            &[&format!(
                "0001_m, line 2: step \"n\": a URL stands where a name is needed; give its store a name in \
                 whimbrel.toml, then write {collection}"
            )],
        );
    }
}

/// Two names of one collection are one collection, for who knows the project.
#[test]
fn names_are_resolved() {
    let resolve = |name: &str, means: Means| match (name, means) {
        ("c", Means::Collection | Means::Collections | Means::Source) => Ok("app/c".to_owned()),
        ("app/c" | "app/*" | "s/c", _) => Ok(name.to_owned()),
        _ => Err(format!("there is no {name}")),
    };
    let steps = [
        upgrade("a", "c", 2),
        backup("save", "app/*"),
        upgrade("b", "app/c", 2),
        copy("k", "c", "app/c"),
        upgrade("x", "nothing", 2),
        copy("y", "s/c", "c"),
    ]
    .concat();
    let errors = check_named(&mut read(&[&steps]), &resolve);
    let found: Vec<_> = errors
        .iter()
        .map(|e| (e.line, e.message.split(':').next().unwrap()))
        .collect();
    let names = ["save", "b", "k", "x", "y"].map(|name| format!("step \"{name}\""));
    let expect: Vec<_> = [6, 10, 14, 18, 22]
        .into_iter()
        .zip(names.iter().map(String::as_str))
        .collect();
    assert_eq!(found, expect, "{errors:#?}");
    assert!(errors[3].message.ends_with("there is no nothing"));
    assert!(errors[4].message.ends_with("there is no c"));
}

#[test]
fn points_of_no_return_are_told() {
    let steps = [
        backup("save", "c"),
        upgrade("u", "c", 2),
        copy("k", "c", "s/c"),
        verify("v", "c", 2),
        run("back", true),
        run("forth", false),
        phase("p", "c", "dualwrite"),
        phase("end", "c", "complete"),
    ];
    let all = read(&[&steps.concat()]);
    let names: Vec<_> = points_of_no_return(&all[0])
        .iter()
        .map(|s| s.name.as_str())
        .collect();
    assert_eq!(names, ["forth", "end"]);
    assert!(matches!(all[0].steps[1].kind, StepKind::Upgrade(_)));
}

fn any_step() -> impl Strategy<Value = (u8, bool, u32, Option<u32>, usize)> {
    (
        0..5_u8,
        any::<bool>(),
        1..5_u32,
        prop::option::of(1..5_u32),
        0..8_usize,
    )
}

/// The step with the `n`th name, as text.
fn step_text(n: usize, step: &(u8, bool, u32, Option<u32>, usize)) -> String {
    const PHASES: [&str; 8] = [
        "off",
        "dualwrite",
        "shadow",
        "ramp(5%)",
        "ramp(6%)",
        "live",
        "rampdown",
        "complete",
    ];
    let (kind, which, version, from, phase_at) = step;
    let (name, collection) = (format!("s{n}"), if *which { "a/c" } else { "a/d" });
    match kind {
        0 | 1 => {
            let from = from.map_or(String::new(), |from| format!("from = {from}\n"));
            upgrade(&name, collection, *version) + &from
        }
        2 => verify(&name, collection, *version),
        3 => phase(&name, collection, PHASES[*phase_at]),
        _ => backup(&name, if *which { "a/*" } else { "a/d" }),
    }
}

proptest! {
    /// What passes can be carried out: versions and phases follow from each other, every undo knows where
    /// it leads, and every backup saves what nothing has written to. What does not pass names its place.
    #[test]
    fn what_passes_can_be_carried_out(
        first in prop::collection::vec(any_step(), 1..4),
        second in prop::collection::vec(any_step(), 1..4),
    ) {
        let texts = [&first, &second].map(|steps| {
            steps.iter().enumerate().map(|(n, step)| step_text(n, step)).collect::<String>()
        });
        let mut all = read(&[&texts[0], &texts[1]]);
        let before = all.clone();
        let errors = check(&mut all);
        prop_assert!(errors.is_sorted_by_key(|e| (e.migration.clone(), e.line)));
        for error in &errors {
            let migration = all.iter().find(|m| m.id == error.migration).unwrap();
            prop_assert!(migration.steps.iter().any(|s| s.line == error.line));
        }
        let mut row = Carried::default();
        for (migration, read) in all.iter().zip(&before) {
            (row.changed, row.saved) = (Vec::new(), Vec::new());
            for (step, read) in migration.steps.iter().zip(&read.steps) {
                let possible = row.carry(&step.kind, &read.kind);
                prop_assert!(possible || !errors.is_empty(), "{:?} {}", step, texts.concat());
            }
        }
    }
}

/// Carries migrations out as far as the plan speaks of it, in the plainest way.
#[derive(Default)]
struct Carried {
    versions: BTreeMap<String, u32>,
    phases: BTreeMap<String, Phase>,
    /// Collections that the migration at work has written to without a backup.
    changed: Vec<String>,
    saved: Vec<String>,
}

fn saves(backup: &str, collection: &str) -> bool {
    backup == "a/*" || backup == collection
}

impl Carried {
    fn carry(&mut self, step: &StepKind, read: &StepKind) -> bool {
        match (step, read) {
            (StepKind::Upgrade(step), StepKind::Upgrade(read)) => {
                let at = self.versions.insert(step.collection.clone(), step.to);
                // What was saved before is not lost.
                if !self.saved.iter().any(|name| saves(name, &step.collection)) {
                    self.changed.push(step.collection.clone());
                }
                let from = step.from.unwrap_or_default();
                from != step.to
                    && (read.from.is_some() || (from == at.unwrap_or(1) && from < step.to))
                    && (from > step.to || at.is_none_or(|at| at < step.to))
            }
            (
                StepKind::Verify(VerifyStep::Upgraded {
                    collection,
                    version,
                }),
                _,
            ) => self.versions.get(collection).copied().unwrap_or(1) == *version,
            (StepKind::Phase(step), _) => {
                let at = self.phases.insert(step.collection.clone(), step.to);
                let at = at.unwrap_or_default();
                at != step.to && at.may_become(step.to).is_ok()
            }
            (StepKind::Backup(step), _) => {
                let name = &step.collections[0];
                let fine = !self.changed.iter().any(|c| saves(name, c));
                self.saved.push(name.clone());
                fine
            }
            _ => true,
        }
    }
}
