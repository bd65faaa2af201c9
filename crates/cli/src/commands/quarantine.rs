//! `whimbrel quarantine`: documents that could not be migrated, and wait.

use crate::app::App;
use crate::args::RunArgs;
use crate::commands::copy::{Ends, Scratch};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::paint::{harmless, plural};
use crate::progress::drive;
use crate::project::Project;
use crate::table::Table;
use crate::{place, schemas, summary, values};
use clap::{Args, Subcommand};
use std::collections::BTreeMap;
use std::path::PathBuf;
use whimbrel_engine::{Engine, JobOptions, RetryReport, UpgradeJob};
use whimbrel_model::ledger::{JobKind, JobSpec, QuarantineItem};

#[derive(Debug, Subcommand)]
pub enum Quarantine {
    /// Every waiting document with its error
    List(List),
    /// One waiting document: its error, and what it looks like now
    Show(ShowOne),
    /// Try waiting documents again; those that succeed leave quarantine
    Retry(Retry),
}

#[derive(Debug, Args)]
pub struct List {
    /// Only what waits for this collection
    pub collection: Option<String>,

    /// At most N documents (0: all)
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
    pub limit: usize,
}

#[derive(Debug, Args)]
pub struct ShowOne {
    /// The document's key, as `quarantine list` prints it
    pub key: String,
}

#[derive(Debug, Args)]
pub struct Retry {
    /// Only what waits for this collection
    pub collection: Option<String>,

    /// Only the document with this key (may be given again)
    #[arg(long, value_name = "KEY")]
    pub key: Vec<String>,

    /// The rules file of a copy, where it does not lie in the project's copies/ folder
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,

    #[command(flatten)]
    pub run: RunArgs,
}

/// # Errors
/// The ledger or a store cannot be read, or a retry did not reach its end.
pub async fn run(app: &App, args: &Quarantine) -> Outcome {
    match args {
        Quarantine::List(args) => list(app, args).await,
        Quarantine::Show(args) => show(app, args).await,
        Quarantine::Retry(args) => retry(app, args).await,
    }
}

async fn list(app: &App, args: &List) -> Outcome {
    let project = app.project()?;
    let engine = app.engine_to_read(&project).await?;
    let screen = &app.screen;
    let limit = if args.limit == 0 {
        usize::MAX
    } else {
        args.limit
    };
    let mut items = Vec::new();
    let mut total = 0;
    each(&engine, args.collection.as_deref(), |item| {
        total += 1;
        if items.len() < limit {
            items.push(item);
        }
    })
    .await?;
    let objects: Vec<_> = items
        .iter()
        .map(|i| item_json(i, screen.show_values))
        .collect();
    screen.object(&serde_json::json!({ "waiting": total, "documents": objects }));
    if items.is_empty() {
        screen.line("nothing waits in quarantine");
        return Ok(Exit::Done);
    }
    let mut subject = String::new();
    let mut table = Table::new(&["key", "at", "error", "what", "tries"]);
    for item in &items {
        if item.subject != subject {
            std::mem::replace(
                &mut table,
                Table::new(&["key", "at", "error", "what", "tries"]),
            )
            .print(screen);
            subject.clone_from(&item.subject);
            screen.line(screen.out.bold(&subject));
        }
        let path = item
            .error
            .path
            .as_deref()
            .map(|p| format!(" (at {p})"))
            .unwrap_or_default();
        table.row([
            harmless(&item.label),
            item.error.stage.clone().unwrap_or_default(),
            item.error.code.id().to_owned(),
            harmless(&format!("{}{path}", item.error.message)),
            item.attempts.to_string(),
        ]);
    }
    table.print(screen);
    let first = harmless(&items[0].label);
    let next = screen.out.bold("next");
    screen.note(format!(
        "{next}  {}",
        screen
            .out
            .name(&format!("whimbrel quarantine show {first}"))
    ));
    screen.note(format!(
        "      {}   (after mending the document, or the schema)",
        screen.out.name("whimbrel quarantine retry")
    ));
    if total > items.len() {
        let more = plural((total - items.len()) as u64, "more document");
        screen.note(
            screen
                .out
                .dim(&format!("{more}: whimbrel quarantine list -n 0")),
        );
    }
    Ok(Exit::Done)
}

/// Gives every waiting document, oldest first, page by page.
async fn each(
    engine: &Engine,
    collection: Option<&str>,
    mut take: impl FnMut(QuarantineItem),
) -> Result<(), Failure> {
    let mut after = None;
    loop {
        let page = engine.quarantined(None, after, 1000).await?;
        let Some((last, _)) = page.last() else {
            return Ok(());
        };
        after = Some(*last);
        for (_, item) in page {
            if collection.is_none_or(|c| concerns(&item.subject, c)) {
                take(item);
            }
        }
    }
}

/// Whether a subject (`upgrade app/conversations`) speaks of a collection, named alone or with its store.
fn concerns(subject: &str, collection: &str) -> bool {
    subject
        .split(' ')
        .any(|word| word == collection || word.rsplit('/').next().is_some_and(|c| c == collection))
}

fn item_json(item: &QuarantineItem, show: bool) -> serde_json::Value {
    let mut object = serde_json::json!({
        "subject": item.subject,
        "run": item.run,
        "key": item.label,
        "version": item.version,
        "code": item.error.code.id(),
        "message": item.error.message,
        "path": item.error.path,
        "stage": item.error.stage,
        "at": item.at,
        "attempts": item.attempts,
    });
    if show {
        object["detail"] = item.error.detail.clone().into();
    }
    object
}

async fn show(app: &App, args: &ShowOne) -> Outcome {
    let project = app.project()?;
    let engine = app.engine_to_read(&project).await?;
    let ledger = app.ledger_to_read(&project).await?;
    let screen = &app.screen;
    let mut found = Vec::new();
    each(&engine, None, |item| {
        if item.label == args.key {
            found.push(item);
        }
    })
    .await?;
    if found.is_empty() {
        return Err(Failure::usage(format!(
            "no document {} waits in quarantine",
            harmless(&args.key)
        ))
        .next("whimbrel quarantine list"));
    }
    let mut objects = Vec::new();
    for item in &found {
        let spec = ledger
            .as_ref()
            .and_then(|l| l.state().runs.get(&item.run).map(|r| r.job.clone()));
        let body = match (&item.key, spec) {
            (Some(key), Some(spec)) => current(&project, &spec, key).await,
            _ => None,
        };
        let mut object = item_json(item, screen.show_values);
        if let Some(body) = &body {
            object["document"] = values::to_json(body, screen.show_values);
        }
        objects.push(object);
        say_item(app, item, body.as_ref());
    }
    screen.object(&serde_json::json!({ "documents": objects }));
    Ok(Exit::Done)
}

fn say_item(app: &App, item: &QuarantineItem, body: Option<&whimbrel_model::Body>) {
    let screen = &app.screen;
    let version = item.version.map(|v| format!(" (v{v})")).unwrap_or_default();
    screen.line(format!(
        "{}{version}  {}",
        screen.out.bold(&harmless(&item.label)),
        item.subject
    ));
    let error = &item.error;
    screen.line(format!(
        "  {}  {}",
        screen.out.warn(error.code.id()),
        error.code.title()
    ));
    screen.line(format!("  what   {}", harmless(&error.message)));
    for (name, text) in [("where", &error.path), ("step", &error.stage)] {
        if let Some(text) = text {
            screen.line(format!("  {name:5}  {}", harmless(text)));
        }
    }
    match &error.detail {
        Some(detail) if screen.show_values => screen.line(format!("  more   {}", harmless(detail))),
        Some(_) => screen.line(
            screen
                .out
                .dim("  more   --show-values shows the script's own words"),
        ),
        None => {}
    }
    screen.line(format!(
        "  since  {}, {}",
        item.at,
        plural(u64::from(item.attempts), "attempt")
    ));
    match body.map(whimbrel_model::Body::map) {
        Some(Ok(map)) => {
            screen.line("  now");
            for line in values::tree(&map, screen.show_values, screen.width.saturating_sub(2)) {
                screen.line(format!("  {line}"));
            }
        }
        Some(Err(error)) => screen.line(format!("  now    it is no document: {error}")),
        None => screen.line("  now    it cannot be read from its store"),
    }
    let page = crate::failure::page(error.code);
    screen.note(format!(
        "  {}   {}",
        screen.out.bold("page"),
        screen.out.name(&page)
    ));
}

/// The document as its store has it now; `None` where that cannot be read.
async fn current(
    project: &Project,
    spec: &JobSpec,
    key: &whimbrel_model::Key,
) -> Option<whimbrel_model::Body> {
    let parameters = spec.parameters.get("retry").unwrap_or(&spec.parameters);
    let text = parameters
        .get("place")
        .or_else(|| parameters.get("source")?.get(0))?
        .as_str()?;
    let named = place::parse(&collection_of(text), project).ok()?;
    let collection = named.collection.clone()?;
    let store = named.open(true, false).await.ok()?;
    let found = store
        .get(&collection, std::slice::from_ref(key))
        .await
        .ok()?;
    found.into_iter().next().flatten().map(|d| d.body)
}

/// A place as runs print it (`app/users`, `sqlite:/a.db/users`) in the form that commands take.
fn collection_of(place: &str) -> String {
    match place.rsplit_once('/') {
        Some((store, collection)) if place::is_url(place) => format!("{store}#{collection}"),
        _ => place.to_owned(),
    }
}

async fn retry(app: &App, args: &Retry) -> Outcome {
    let project = app.project()?;
    let options = app.job_options(&args.run, &project)?;
    let reader = app.engine_to_read(&project).await?;
    let Some(ledger) = app.ledger_to_read(&project).await? else {
        app.screen.line("nothing waits in quarantine");
        app.screen.object(&serde_json::json!({ "retried": [] }));
        return Ok(Exit::Done);
    };
    // The latest run of a subject says what was wanted; `RunId`s sort by time.
    let mut waiting: BTreeMap<String, (String, u64)> = BTreeMap::new();
    each(&reader, args.collection.as_deref(), |item| {
        if args.key.is_empty() || args.key.contains(&item.label) {
            let entry = waiting.entry(item.subject).or_default();
            entry.0 = item.run.max(std::mem::take(&mut entry.0));
            entry.1 += 1;
        }
    })
    .await?;
    if waiting.is_empty() {
        app.screen.line("nothing of that waits in quarantine");
        app.screen.object(&serde_json::json!({ "retried": [] }));
        return Ok(Exit::Done);
    }
    if !args.run.dry_run {
        let what: Vec<_> = waiting
            .iter()
            .map(|(s, (_, n))| format!("{} of: {s}", plural(*n, "document")))
            .collect();
        app.screen
            .confirm(&format!("Try again {}.", what.join("; ")))?;
    }
    let state = ledger.state();
    let mut exit = Exit::Done;
    for (subject, (run, count)) in &waiting {
        let Some(spec) = state.runs.get(run).map(|r| &r.job) else {
            continue;
        };
        if args.run.dry_run {
            app.screen
                .object(&serde_json::json!({ "would_retry": subject, "documents": count }));
            app.screen.line(format!(
                "would try again: {} of {subject}",
                plural(*count, "document")
            ));
            continue;
        }
        let report = retry_subject(app, &project, args, spec, options.clone()).await?;
        if report.report.counts.quarantined > 0 || report.without_key > 0 {
            exit = Exit::Findings;
        }
        say_retry(app, &report);
    }
    Ok(exit)
}

fn say_retry(app: &App, retried: &RetryReport) {
    let mut object = summary::to_json(&retried.report);
    object["gone"] = retried.gone.into();
    object["without_key"] = retried.without_key.into();
    app.screen.object(&object);
    summary::print(&app.screen, &retried.report, JobKind::Retry);
    if retried.gone > 0 {
        let gone = plural(retried.gone, "document");
        app.screen.line(format!(
            "  {gone} no longer exist in the store and left quarantine"
        ));
    }
    if retried.without_key > 0 {
        let rows = plural(retried.without_key, "row");
        app.screen.line(format!(
            "  {rows} have no readable key: mend them in the store, then run the command again"
        ));
    }
}

async fn retry_subject(
    app: &App,
    project: &Project,
    args: &Retry,
    spec: &JobSpec,
    options: JobOptions,
) -> Result<RetryReport, Failure> {
    let parameters = spec.parameters.get("retry").unwrap_or(&spec.parameters);
    let text =
        |value: Option<&serde_json::Value>| value.and_then(|v| v.as_str()).map(str::to_owned);
    let only = (!args.key.is_empty()).then_some(args.key.as_slice());
    let engine = app.engine(project).await?;
    if let (Some(place), Some(to)) = (text(parameters.get("place")), parameters.get("to")) {
        let (named, collection) = place::parse_collection(&collection_of(&place), project)?;
        let name = named.collection.clone().unwrap_or_default();
        let schema = schemas::load(&name, &collection)?;
        let to = to
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(schema.newest());
        let place = named.place(&name, false, false).await?;
        let job = UpgradeJob {
            place,
            schema,
            to,
            key: None,
            options,
        };
        return Ok(drive(&app.screen, &engine, engine.retry_upgrade(job, only)).await?);
    }
    let ends = |name| text(parameters.get(name).and_then(|v| v.get(0)));
    let (Some(source), Some(target), Some(rule)) =
        (ends("source"), ends("target"), text(parameters.get("rule")))
    else {
        return Err(Failure::usage(format!(
            "what \"{}\" wanted is unknown to this program",
            spec.subject
        )));
    };
    let rule = find_rule(project, args.rules.as_deref(), &rule, parameters)?;
    let scratch = Scratch::for_rules(std::slice::from_ref(&rule)).await?;
    let (source, target) = (collection_of(&source), collection_of(&target));
    let ends = Ends::open(project, &source, &target, false).await?;
    let mut options = options;
    options.skip_existing = parameters
        .get("skip_existing")
        .and_then(serde_json::Value::as_bool)
        .unwrap_or(false);
    let job = ends.job(project, rule, scratch.store(), options)?;
    Ok(drive(&app.screen, &engine, engine.retry_copy(job, only)).await?)
}

/// The rule called `name`: in the file given, else in the files of the project's `copies` folder.
fn find_rule(
    project: &Project,
    file: Option<&std::path::Path>,
    name: &str,
    parameters: &serde_json::Value,
) -> Result<whimbrel_model::rule::CopyRule, Failure> {
    let files = match file {
        Some(file) => vec![file.to_path_buf()],
        None => {
            let mut files: Vec<PathBuf> = std::fs::read_dir(project.dir.join("copies"))
                .map(|dir| dir.filter_map(|e| e.ok().map(|e| e.path())).collect())
                .unwrap_or_default();
            files.retain(|f| f.extension().is_some_and(|e| e == "toml"));
            files.sort();
            files
        }
    };
    for file in &files {
        if let Some(rule) = schemas::rules(file)?.into_iter().find(|r| r.name == name) {
            return Ok(rule);
        }
    }
    if name == "plain" && file.is_none() {
        return Ok(crate::commands::copy::plain_again(parameters));
    }
    Err(Failure::usage(format!(
        "no rules file has the rule \"{name}\" that these documents wait for"
    ))
    .not_done("nothing was tried again")
    .next("name the file: whimbrel quarantine retry --rules FILE"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collection_is_found_in_its_subject() {
        for (subject, name, expect) in [
            ("upgrade app/conversations", "conversations", true),
            ("upgrade app/conversations", "app/conversations", true),
            ("upgrade app/conversations", "conv", false),
            ("copy app/a to b/messages by messages", "messages", true),
        ] {
            assert_eq!(concerns(subject, name), expect, "{subject} {name}");
        }
        assert_eq!(
            collection_of("sqlite:/x/a.db/users"),
            "sqlite:/x/a.db#users"
        );
        assert_eq!(collection_of("app/users"), "app/users");
    }
}
