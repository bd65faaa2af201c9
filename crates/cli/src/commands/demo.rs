//! `whimbrel demo`: a believable chat app's database, taken through an upgrade and a copy.

use crate::app::App;
use crate::args::Global;
use crate::commands::copy::{Ends, Scratch};
use crate::commands::upgrade::diff_lines;
use crate::demo_data::{COLLECTIONS, ChatApp};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::paint::{Paint, duration, harmless, plural, thousands};
use crate::progress::{bar, drive};
use crate::schemas::shown;
use crate::summary::Deed;
use crate::{place, schemas, summary};
use clap::Args;
use std::path::{Path, PathBuf};
use std::time::Instant;
use whimbrel_engine::{Engine, JobOptions, Report, UpgradeJob};
use whimbrel_model::{Document, Guard, Key, KeyKind, KeyRange, Store, Write, WriteOutcome};

#[derive(Debug, Args)]
#[command(
    after_help = "Nothing outside of DIR is touched. The demo runs again only over a folder that it made itself."
)]
pub struct Demo {
    /// How many conversations
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub documents: u64,

    /// The same seed gives the same documents
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u64,

    /// Where to
    #[arg(long, value_name = "DIR", default_value = "whimbrel-demo")]
    pub dir: PathBuf,

    /// Write the project and its data, then stop
    #[arg(long)]
    pub only_data: bool,

    /// Say what would be written and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What tells a former demo from a folder of the user's.
const MARKER: &str = ".whimbrel-demo";

macro_rules! project_files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../../examples/chat-app/", $path)))),*]
    };
}

const FILES: &[(&str, &str)] = project_files![
    "whimbrel.toml",
    "schemas/conversations/0001_initial.toml",
    "schemas/conversations/0002_instants.toml",
    "schemas/conversations/0003_metadata.ts",
    "checks/conversations.toml",
    "copies/messages.toml",
    "migrations/0001_messages_apart.toml",
];

/// # Errors
/// The folder is not the demo's, or a step failed.
pub async fn run(app: &App, args: &Demo) -> Outcome {
    let here = std::env::current_dir().map_err(|e| Failure::io("the current folder", &e))?;
    let dir = here.join(&args.dir);
    check_folder(&dir)?;
    let data = ChatApp {
        seed: args.seed,
        conversations: args.documents,
    };
    if args.dry_run {
        return Ok(say_plan(app, &dir, &data));
    }
    write_project(&dir)?;
    // From here on the demo is a user of its own project.
    let global = Global {
        project: Some(dir.clone()),
        ledger: None,
        yes: true,
        ..app.global.clone()
    };
    let inner = App::new(global);
    let screen = &inner.screen;
    screen.line(format!(
        "{}, in {}",
        screen.out.bold("A chat app's database"),
        screen.out.name(&shown(&dir))
    ));
    generate(&inner, &dir, &data).await?;
    if args.only_data {
        screen.object(&serde_json::json!({ "dir": shown(&dir), "seed": data.seed, "documents": counts(&data) }));
        say_commands(
            &inner,
            &dir,
            &[
                ("look at it", "whimbrel inspect"),
                ("go on", "whimbrel upgrade conversations"),
            ],
        );
        return Ok(Exit::Done);
    }
    let (upgraded, example) = upgrade(&inner).await?;
    let copied = copy(&inner).await?;
    screen.object(&serde_json::json!({
        "dir": shown(&dir),
        "seed": data.seed,
        "documents": counts(&data),
        "upgraded": summary::to_json(&upgraded),
        "copied": copied.iter().map(summary::to_json).collect::<Vec<_>>(),
    }));
    finish(&inner, &dir, upgraded.counts.quarantined, example.as_ref());
    Ok(Exit::Done)
}

fn check_folder(dir: &Path) -> Result<(), Failure> {
    if !dir.exists() || dir.join(MARKER).is_file() {
        return Ok(());
    }
    let mut entries = std::fs::read_dir(dir).map_err(|e| {
        Failure::io(format!("reading {}", shown(dir)), &e).not_done("nothing was written")
    })?;
    if entries.next().is_none() {
        return Ok(());
    }
    Err(
        Failure::usage(format!("{} is not empty, and no former demo", shown(dir)))
            .not_done("nothing was written")
            .next("choose another folder: whimbrel demo --dir DIR"),
    )
}

fn counts(data: &ChatApp) -> serde_json::Value {
    COLLECTIONS
        .iter()
        .map(|c| ((*c).to_owned(), serde_json::json!(data.count(c))))
        .collect()
}

fn say_plan(app: &App, dir: &Path, data: &ChatApp) -> Exit {
    app.screen.object(&serde_json::json!({
        "dry_run": true, "dir": shown(dir), "seed": data.seed, "documents": counts(data)
    }));
    app.screen
        .line(format!("would write, into {}:", shown(dir)));
    for (file, _) in FILES {
        app.screen.line(format!("  {file}"));
    }
    for collection in COLLECTIONS {
        app.screen.line(format!(
            "  app.db  {}",
            plural_of(data.count(collection), collection)
        ));
    }
    Exit::Done
}

fn plural_of(n: u64, collection: &str) -> String {
    format!("{} {}", thousands(n), collection.replace('_', " "))
}

/// Clears a former demo and writes the project's files.
fn write_project(dir: &Path) -> Result<(), Failure> {
    let failed =
        |what: &Path, e: &std::io::Error| Failure::io(format!("writing {}", shown(what)), e);
    std::fs::create_dir_all(dir).map_err(|e| failed(dir, &e))?;
    let database = ["app.db", "split.db", ".whimbrel/ledger.db"];
    for file in database
        .iter()
        .flat_map(|d| ["", "-wal", "-shm"].map(|end| format!("{d}{end}")))
    {
        let file = dir.join(file);
        if file.exists() {
            std::fs::remove_file(&file).map_err(|e| failed(&file, &e))?;
        }
    }
    let marker = "Made by `whimbrel demo`, which may overwrite this folder.\n";
    let mut files = FILES.to_vec();
    files.push((MARKER, marker));
    #[cfg(feature = "typescript")]
    files.push((
        crate::commands::new::TYPES_FILE,
        whimbrel_transform::script::TYPES,
    ));
    for (name, text) in files {
        let file = dir.join(name);
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).map_err(|e| failed(folder, &e))?;
        }
        std::fs::write(&file, text).map_err(|e| failed(&file, &e))?;
    }
    Ok(())
}

/// Documents a batch: large enough for speed, small enough that memory does not grow with the data.
const BATCH: u64 = 1000;

async fn generate(app: &App, dir: &Path, data: &ChatApp) -> Result<(), Failure> {
    let screen = &app.screen;
    let begun = Instant::now();
    let project = app.project()?;
    let store = place::parse("app", &project)?.open(false, true).await?;
    let total: u64 = COLLECTIONS.iter().map(|c| data.count(c)).sum();
    let bar = screen.bar.then(|| bar(Some(total), screen.err.0));
    if let Some(bar) = &bar {
        bar.set_prefix("writing documents");
    }
    for collection in COLLECTIONS {
        store.ensure(collection, &KeyKind::Text).await?;
        let mut index = 0;
        while index < data.count(collection) {
            let end = (index + BATCH).min(data.count(collection));
            write_batch(store.as_ref(), data, collection, index..end).await?;
            if let Some(bar) = &bar {
                bar.inc(end - index);
                bar.set_message(collection.replace('_', " "));
            }
            index = end;
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let all: Vec<_> = COLLECTIONS
        .iter()
        .map(|c| plural_of(data.count(c), c))
        .collect();
    screen.line(format!("  {}", all.join(", ")));
    let length = |name: &str| std::fs::metadata(dir.join(name)).map_or(0, |m| m.len());
    let size = length("app.db").max(length("app.db-wal"));
    let elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    screen.line(screen.out.dim(&format!(
        "  seed {}, {}, {}",
        data.seed,
        crate::paint::bytes(size),
        duration(elapsed_ms)
    )));
    if (0..4).any(|q| data.flaw(q * (data.conversations / 4)).is_some()) {
        screen.line("  three conversations are broken on purpose, in ways that real ones are");
    }
    Ok(())
}

async fn write_batch(
    store: &dyn Store,
    data: &ChatApp,
    collection: &str,
    range: std::ops::Range<u64>,
) -> Result<(), Failure> {
    let writes: Vec<Write> = range
        .map(|index| {
            let (key, body) = data.document(collection, index);
            Write {
                collection: collection.to_owned(),
                key,
                to: Some(body),
                guard: Guard::Any,
            }
        })
        .collect();
    let limit = store.limits().batch_writes.max(1) as usize;
    for part in writes.chunks(limit) {
        for (outcome, write) in store.write(part).await?.iter().zip(part) {
            if let WriteOutcome::Refused(refusal) = outcome {
                return Err(Failure::new(
                    whimbrel_model::Code::DocRefused,
                    format!(
                        "document {} of {collection}: {}",
                        write.key, refusal.message
                    ),
                ));
            }
        }
    }
    Ok(())
}

async fn upgrade(app: &App) -> Result<(Report, Option<Key>), Failure> {
    let project = app.project()?;
    let (named, collection) = place::parse_collection("conversations", &project)?;
    let schema = schemas::load("conversations", &collection)?;
    let place = named.place("conversations", false, false).await?;
    let before = example(place.store.as_ref()).await?;
    say_step(
        app,
        "1. Upgrade every conversation from v1 to v3, in place",
        "whimbrel upgrade conversations",
    );
    let options = JobOptions {
        holder: crate::app::holder(),
        ..JobOptions::default()
    };
    let job = UpgradeJob {
        place: place.clone(),
        to: schema.newest(),
        schema,
        key: None,
        options,
    };
    let engine = app.engine(&project).await?;
    let report = drive(&app.screen, &engine, engine.upgrade(job)).await?;
    summary::print(&app.screen, &report, Deed::Upgrade);
    let Some(before) = before else {
        return Ok((report, None));
    };
    let found = place
        .store
        .get("conversations", std::slice::from_ref(&before.key))
        .await?;
    if let Some(after) = found.into_iter().next().flatten() {
        say_change(app, &before, &after);
    }
    Ok((report, Some(before.key)))
}

/// The first conversation with a tool call: the most is to be seen there.
async fn example(store: &dyn Store) -> Result<Option<Document>, Failure> {
    let page = store
        .scan("conversations", &KeyRange::all(), 50, 1 << 20)
        .await?;
    let has_call = |doc: &Document| doc.body.json().windows(11).any(|w| w == b"\"toolCalls\"");
    let at = page.documents.iter().position(has_call).unwrap_or(0);
    Ok(page.documents.into_iter().nth(at))
}

fn say_change(app: &App, before: &Document, after: &Document) {
    const LINES: usize = 18;
    let key = harmless(&before.key.to_string());
    app.screen.labelled(
        "",
        Paint::bold,
        format!("what became of one of them, {key}:"),
    );
    // The generated values are nobody's: here they may be seen.
    let open = App::new(Global {
        show_values: true,
        ..app.global.clone()
    });
    let lines = diff_lines(&open.screen, &before.body, &after.body, 11);
    for line in lines.iter().take(LINES) {
        app.screen.line(format!("           {line}"));
    }
    if lines.len() > LINES {
        let more = format!("           … and {} more lines", lines.len() - LINES);
        app.screen.line(app.screen.out.dim(&more));
    }
}

fn say_step(app: &App, what: &str, command: &str) {
    app.screen.line("");
    app.screen.line(app.screen.out.bold(what));
    app.screen
        .line(app.screen.out.dim(&format!("   $ {command}")));
}

async fn copy(app: &App) -> Result<Vec<Report>, Failure> {
    let project = app.project()?;
    say_step(
        app,
        "2. Copy them into split.db, each message a document of its own",
        "whimbrel copy app split --rules copies/messages.toml",
    );
    let ends = Ends::open(&project, "app", "split", false).await?;
    let rules = schemas::rules(&project.dir.join("copies/messages.toml"))?;
    let scratch = Scratch::for_rules(&rules).await?;
    let engine: Engine = app.engine(&project).await?;
    let mut reports = Vec::new();
    for rule in rules {
        let options = JobOptions {
            holder: crate::app::holder(),
            ..JobOptions::default()
        };
        let job = ends.job(&project, rule, scratch.store(), options)?;
        let report = drive(&app.screen, &engine, engine.copy(job)).await?;
        summary::print(&app.screen, &report, Deed::Copy);
        reports.push(report);
    }
    Ok(reports)
}

fn finish(app: &App, dir: &Path, quarantined: u64, example: Option<&Key>) {
    if quarantined > 0 {
        app.screen.line("");
        app.screen.line(format!(
            "{} could not be upgraded: those broken on purpose. They are as they were, and wait.",
            plural(quarantined, "conversation")
        ));
    }
    let key = example.map(Key::to_string).unwrap_or_default();
    let show = format!("whimbrel show conversations {key} --as 1");
    say_commands(
        app,
        dir,
        &[
            ("what happened", "whimbrel history"),
            ("what waits", "whimbrel quarantine list"),
            ("one document, as it was", &show),
            ("every step back", "whimbrel upgrade conversations --to 1"),
            ("all of it as one migration", "whimbrel up --dry-run"),
        ],
    );
}

fn say_commands(app: &App, dir: &Path, commands: &[(&str, &str)]) {
    let paint = app.screen.out;
    app.screen.line("");
    app.screen
        .line(format!("{}  cd {}", paint.bold("Go on:"), shown(dir)));
    let width = commands
        .iter()
        .map(|(what, _)| what.chars().count())
        .max()
        .unwrap_or(0);
    for (what, command) in commands {
        app.screen
            .line(format!("  {what:width$}  {}", paint.name(command)));
    }
}
