//! `whimbrel new`: the next file of a schema, and the next migration.

mod migration;

use crate::app::App;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::place;
use crate::schemas::shown;
use clap::{Args, Subcommand};
use std::path::Path;

#[derive(Debug, Subcommand)]
pub enum New {
    /// The next version of a collection's schema
    Schema(NewSchema),
    /// The next migration: a file of steps that runs to its end or takes itself back
    Migration(migration::NewMigration),
}

#[derive(Debug, Args)]
pub struct NewSchema {
    /// A collection of the project
    pub collection: String,

    /// What the version is about: `widget_state`
    pub name: String,

    /// As TypeScript functions
    #[arg(long, conflicts_with = "toml")]
    pub ts: bool,

    /// As TOML operations [default]
    #[arg(long)]
    pub toml: bool,

    /// Say which file would be written and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[cfg(feature = "typescript")]
pub const TYPES_FILE: &str = "whimbrel.d.ts";

const FIRST_TOML: &str = include_str!("../templates/first.toml");
const FIRST_TS: &str = include_str!("../templates/first.ts");
const NEXT_TOML: &str = include_str!("../templates/next.toml");
const NEXT_TS: &str = include_str!("../templates/next.ts");

/// # Errors
/// The folder cannot be read or the file cannot be written.
pub async fn run(app: &App, args: &New) -> Outcome {
    match args {
        New::Schema(args) => schema(app, args),
        New::Migration(args) => migration::run(app, args),
    }
}

fn schema(app: &App, args: &NewSchema) -> Outcome {
    let project = app.project()?;
    let (_, collection) = place::parse_collection(&args.collection, &project)?;
    let usable = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if args.name.is_empty() || !args.name.chars().all(usable) {
        return Err(
            Failure::usage(format!("\"{}\" cannot name a file", args.name))
                .next("letters, digits, - and _: widget_state"),
        );
    }
    let number = newest_number(&collection.schemas)?.saturating_add(1);
    let (text, ending) = match (number, args.ts) {
        (1, false) => (FIRST_TOML, "toml"),
        (1, true) => (FIRST_TS, "ts"),
        (_, false) => (NEXT_TOML, "toml"),
        (_, true) => (NEXT_TS, "ts"),
    };
    let text = text.replace("{description}", &args.name.replace(['_', '-'], " "));
    let file = collection
        .schemas
        .join(format!("{number:04}_{}.{ending}", args.name));
    let place = shown(&file);
    app.screen
        .object(&serde_json::json!({ "file": place, "version": number, "dry_run": args.dry_run }));
    if args.dry_run {
        app.screen.line(format!("would write {place}"));
        return Ok(Exit::Done);
    }
    write_new(&file, &text)?;
    app.screen.line(format!("wrote {place}"));
    if args.ts {
        write_types(app, &project.dir)?;
    }
    let command = format!("whimbrel upgrade {} --dry-run", args.collection);
    app.screen
        .next("next", &command, "(after editing the file)");
    Ok(Exit::Done)
}

/// The greatest number that a file of the folder begins with; 0 where there is none.
///
/// # Errors
/// The folder cannot be read.
fn newest_number(dir: &Path) -> Result<u32, Failure> {
    if !dir.is_dir() {
        return Ok(0);
    }
    let entries =
        std::fs::read_dir(dir).map_err(|e| Failure::io(format!("reading {}", shown(dir)), &e))?;
    let newest = entries
        .filter_map(Result::ok)
        .filter_map(|e| {
            e.file_name()
                .to_str()?
                .split('_')
                .next()?
                .parse::<u32>()
                .ok()
        })
        .max();
    Ok(newest.unwrap_or(0))
}

/// Writes the declarations that editors want for scripts, where they are missing.
///
/// # Errors
/// The file cannot be written.
pub fn write_types(app: &App, dir: &Path) -> Result<(), Failure> {
    #[cfg(feature = "typescript")]
    {
        let file = dir.join(TYPES_FILE);
        if !file.exists() {
            write_new(&file, whimbrel_transform::script::TYPES)?;
            app.screen.line(format!("wrote {}", shown(&file)));
        }
    }
    #[cfg(not(feature = "typescript"))]
    let _ = (app, dir);
    Ok(())
}

/// Writes a file that must not exist yet, and the folders above it.
///
/// # Errors
/// The file exists, or cannot be written.
pub fn write_new(file: &Path, text: &str) -> Result<(), Failure> {
    use std::io::Write;
    let failed = |e: std::io::Error| {
        Failure::io(format!("writing {}", shown(file)), &e).not_done("the file was not written")
    };
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut out = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file)
        .map_err(failed)?;
    out.write_all(text.as_bytes()).map_err(failed)
}
