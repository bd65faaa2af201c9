//! `whimbrel new migration`: the next migration file, with the steps that the project seems to need.

use super::write_new;
use crate::app::App;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::project::{FILE, Project};
use crate::schemas::{self, shown};
use clap::Args;
use std::fmt::Write;
use std::path::Path;
use whimbrel_model::Code;
use whimbrel_model::migration::{Migration, StepKind};

const TEMPLATE: &str = include_str!("../../templates/migration.toml");

#[derive(Debug, Args)]
pub struct NewMigration {
    /// What the migration is about: `split_messages`
    pub name: String,

    /// Show the file that would be written and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// # Errors
/// The name cannot name a file, there is no project, or the file cannot be written.
pub fn run(app: &App, args: &NewMigration) -> Outcome {
    judge_name(&args.name)?;
    let project = app.project()?;
    if project.file.is_none() {
        return Err(Failure::new(
            Code::ProjectInvalid,
            format!("there is no {FILE} here or above, so there is nothing to migrate"),
        )
        .not_done("the file was not written")
        .next("whimbrel init sqlite:app.db   (writes one for an existing database)"));
    }
    let number = next_number(&project.migrations)?;
    let id = format!("{number:04}_{}", args.name);
    let file = project.migrations.join(format!("{id}.toml"));
    let text = TEMPLATE
        .replace("{description}", &args.name.replace('_', " "))
        .replace("{steps}", steps(&project).trim_end());
    let place = shown(&file);
    app.screen.object(&serde_json::json!({
        "file": place, "migration": id, "number": number, "dry_run": args.dry_run,
    }));
    if args.dry_run {
        app.screen.line(format!("would write {place}"));
        app.screen.line(format!("\n{}", text.trim_end()));
        return Ok(Exit::Done);
    }
    write_new(&file, &text)?;
    app.screen.line(format!("wrote {place}"));
    let why = "(after editing the file; shows its steps and writes nothing)";
    app.screen.next("next", "whimbrel up --dry-run", why);
    Ok(Exit::Done)
}

fn judge_name(name: &str) -> Result<(), Failure> {
    let usable = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(usable)
        && name.len() <= 80
    {
        return Ok(());
    }
    let failure = Failure::usage(format!("\"{name}\" cannot name a migration"))
        .not_done("the file was not written");
    let near = snake(name);
    Err(if near.is_empty() {
        failure.next("a letter, then letters, digits and _, all lower case: split_messages")
    } else {
        failure.next(format!("whimbrel new migration {near}"))
    })
}

/// `Split Messages` → `split_messages`; empty where nothing usable is left.
fn snake(name: &str) -> String {
    let mut out = String::new();
    let mut small = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && small || !c.is_ascii_alphanumeric() {
            out.push('_');
        }
        small = c.is_ascii_lowercase() || c.is_ascii_digit();
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        }
    }
    let words: Vec<&str> = out.split('_').filter(|word| !word.is_empty()).collect();
    let whole = words.join("_");
    let start = whole.trim_start_matches(|c: char| c.is_ascii_digit() || c == '_');
    start.chars().take(80).collect()
}

/// One more than the greatest number there is, in files that are valid and in those that are not.
fn next_number(folder: &Path) -> Result<u32, Failure> {
    let newest = super::newest_number(folder)?;
    newest
        .checked_add(1)
        .filter(|number| *number <= 999_999_999)
        .ok_or_else(|| {
            Failure::usage(format!(
                "the numbers of migrations are used up: the last one is {newest}"
            ))
            .not_done("the file was not written")
            .next("numbers have at most nine digits; is one of the files misnamed?")
        })
}

/// A backup, what there is to upgrade or to copy, and what verifies it.
fn steps(project: &Project) -> String {
    // A proposal: migrations that are not valid yet must not keep anybody from writing the next one.
    let before =
        whimbrel_transform::load_migrations(&project.migrations, &project.dir).unwrap_or_default();
    let upgrades = upgrades(project, &before);
    let copy = copy(project, &before);
    let mut out = String::new();
    let saved: Vec<String> = match (&upgrades[..], project.collections.keys().next()) {
        ([], Some(one)) => vec![format!("{one:?}")],
        (some, _) => some.iter().map(|(name, _)| format!("{name:?}")).collect(),
    };
    if saved.is_empty() {
        commented(&mut out, &backup("\"COLLECTION\""));
    } else {
        out.push_str(&backup(&saved.join(", ")));
    }
    for (name, version) in &upgrades {
        out.push_str(&upgrade(name, *version));
    }
    out.push_str(copy.as_deref().unwrap_or_default());
    if upgrades.is_empty() && copy.is_none() {
        let example = project
            .collections
            .keys()
            .next()
            .map_or("COLLECTION", String::as_str);
        commented(&mut out, &upgrade(example, 2));
    }
    out
}

fn commented(out: &mut String, text: &str) {
    for line in text.lines() {
        let _ = match line {
            "" => writeln!(out),
            line => writeln!(out, "# {line}"),
        };
    }
}

fn backup(collections: &str) -> String {
    format!(
        "[[step]]\nbackup = \"before\"                # read back before any later step writes\n\
         collections = [{collections}]\nto = \"backups\"\n\n"
    )
}

fn upgrade(collection: &str, to: u32) -> String {
    let name = step_name(collection);
    format!(
        "[[step]]\nupgrade = \"{name}\"\ncollection = {collection:?}\nto = {to}\n\n\
         [[step]]\nverify = \"{name}_valid\"\ncollection = {collection:?}\nversion = {to}\n\n"
    )
}

/// What may name a step: some collections have names that may not.
fn step_name(collection: &str) -> String {
    let name = snake(collection);
    if name.is_empty() {
        "reshape".to_owned()
    } else {
        // Room for what is added behind it.
        name.chars().take(50).collect()
    }
}

/// The project's collections whose newest version no migration brings them to, with that version.
fn upgrades(project: &Project, before: &[Migration]) -> Vec<(String, u32)> {
    let newer = |(name, collection): (&String, &crate::project::Collection)| {
        let schema = schemas::load_if_any(name, collection).ok().flatten()?;
        let newest = schema.versions().last()?.number;
        let qualified = format!("{}/{name}", collection.store);
        let left = before
            .iter()
            .flat_map(|migration| &migration.steps)
            .filter_map(|step| match &step.kind {
                StepKind::Upgrade(step) if [name, &qualified].contains(&&step.collection) => {
                    Some(step.to)
                }
                _ => None,
            })
            .next_back();
        (newest > left.unwrap_or(1)).then(|| (name.clone(), newest))
    };
    project.collections.iter().filter_map(newer).collect()
}

/// A copy by the first rules file that no migration names yet, from the store that holds the collections to
/// another one.
fn copy(project: &Project, before: &[Migration]) -> Option<String> {
    let source = &project.collections.values().next()?.store;
    let (target, _) = project
        .stores
        .iter()
        .find(|(name, entry)| *name != source && !entry.read_only)?;
    let mut files: Vec<_> = std::fs::read_dir(project.dir.join("copies"))
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".toml") && !name.starts_with('.'))
        .map(|name| format!("copies/{name}"))
        .collect();
    files.sort();
    let named = |file: &String| {
        let mut steps = before.iter().flat_map(|migration| &migration.steps);
        steps.any(
            |step| matches!(&step.kind, StepKind::Copy(copy) if copy.rules.as_ref() == Some(file)),
        )
    };
    let rules = files.into_iter().find(|file| !named(file))?;
    let stem = rules
        .trim_start_matches("copies/")
        .trim_end_matches(".toml");
    let name = step_name(&format!("copy_{stem}"));
    Some(format!(
        "[[step]]\ncopy = \"{name}\"\nsource = {source:?}\ntarget = {target:?}\nrules = {rules:?}\n\n\
         [[step]]\nverify = \"{name}_same\"\nsource = {source:?}\ntarget = {target:?}\nrules = {rules:?}\n\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_snake() {
        for (name, near) in [
            ("split_messages", None),
            ("a1", None),
            ("Split Messages", Some("split_messages")),
            ("splitMessages", Some("split_messages")),
            ("split-messages", Some("split_messages")),
            ("0001_split", Some("split")),
            ("a__b", None),
            ("../x", Some("x")),
            ("", Some("")),
            ("ä", Some("")),
            ("12", Some("")),
        ] {
            assert_eq!(judge_name(name).is_ok(), near.is_none(), "{name}");
            if let Some(near) = near {
                assert_eq!(snake(name), near);
                assert!(near.is_empty() || judge_name(near).is_ok(), "{near}");
            }
        }
    }

    /// A draft says something that can be read and meant, whatever the project has.
    #[test]
    fn drafts_are_valid() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let file = dir.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        let draft = |config: &str, expect: &[&str]| {
            let project = crate::project_file::read(config, FILE, dir.path(), &|_| None).unwrap();
            let text = TEMPLATE.replace("{steps}", steps(&project).trim_end());
            let read = whimbrel_transform::parse_migration("0009_x.toml", &text, dir.path())
                .unwrap_or_else(|errors| panic!("{text}\n{errors:?}"));
            let names: Vec<_> = read.steps.iter().map(|s| s.name.clone()).collect();
            assert_eq!(names, expect, "{text}");
            let errors = whimbrel_model::migration::check(&mut [read]);
            let empty = expect.is_empty();
            assert!(
                errors.is_empty() || empty && errors.len() == 1,
                "{errors:?}"
            );
        };
        let stores = "[stores.app]\nurl = \"sqlite:a.db\"\n[stores.split]\nurl = \"sqlite:b.db\"\n";
        draft(stores, &[]);
        let config = format!("{stores}[collections.\"My Users\"]\nstore = \"app\"\n");
        draft(&config, &["before"]);
        write("schemas/My Users/0001_a.toml", "");
        draft(&config, &["before"]);
        write(
            "schemas/My Users/0002_b.toml",
            "[[up]]\nop = \"remove\"\npath = \"x\"\n",
        );
        draft(&config, &["before", "my_users", "my_users_valid"]);
        write(
            "copies/by-day.toml",
            "[[rule]]\nname = \"a\"\ncollection = \"My Users\"\n",
        );
        let both = [
            "before",
            "my_users",
            "my_users_valid",
            "copy_by_day",
            "copy_by_day_same",
        ];
        draft(&config, &both);
        write(
            "migrations/0001_a.toml",
            "description = \"d\"\n[[step]]\nupgrade = \"u\"\ncollection = \"app/My Users\"\nto = 2\n",
        );
        draft(&config, &["before", "copy_by_day", "copy_by_day_same"]);
    }
}
