//! `whimbrel quarantine`: documents that could not be migrated, and wait.

use crate::app::App;
use crate::commands::quarantine_retry::{Retry, retry};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::paint::{harmless, instant, plural};
use crate::project::Project;
use crate::screen::Screen;
use crate::table::Table;
use crate::{place, values};
use clap::{Args, Subcommand};
use whimbrel_engine::Engine;
use whimbrel_model::ledger::{JobSpec, QuarantineItem};

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
    items.sort_by(|a, b| a.subject.cmp(&b.subject));
    for group in items.chunk_by(|a, b| a.subject == b.subject) {
        screen.line(screen.out.bold(&group[0].subject));
        table(group).print(screen);
    }
    let first = harmless(&items[0].label);
    screen.next("next", &format!("whimbrel quarantine show {first}"), "");
    let why = "(after mending the document, the schema or the rule)";
    screen.next("", "whimbrel quarantine retry", why);
    if total > items.len() {
        let more = plural((total - items.len()) as u64, "more document");
        screen.next(
            "more",
            "whimbrel quarantine list -n 0",
            &format!("({more})"),
        );
    }
    Ok(Exit::Done)
}

fn table(items: &[QuarantineItem]) -> Table {
    let mut table = Table::new(&["key", "step", "error", "what", "tries"]);
    for item in items {
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
    table.numbers(&[4]);
    table
}

/// Gives every waiting document, oldest first, page by page.
///
/// # Errors
/// The ledger cannot be read.
pub async fn each(
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
    let mut shown = None;
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
        say_item(screen, item);
        let now = lines_now(screen, body.as_ref());
        if shown.as_ref() != Some(&now) {
            now.iter().for_each(|line| screen.line(line));
            shown = Some(now);
        }
    }
    screen.object(&serde_json::json!({ "documents": objects }));
    Ok(Exit::Done)
}

fn say_item(screen: &Screen, item: &QuarantineItem) {
    let version = item.version.map(|v| format!(" (v{v})")).unwrap_or_default();
    let key = screen.out.bold(&harmless(&item.label));
    screen.line(format!("{key}{version}  {}", item.subject));
    let error = &item.error;
    screen.line(format!(
        "  {}  {}",
        screen.out.warn(error.code.id()),
        error.code.title()
    ));
    let line = |name: &str, text: &str| screen.line(format!("  {name:6}  {text}"));
    line("what", &harmless(&error.message));
    for (name, text) in [("where", &error.path), ("step", &error.stage)] {
        if let Some(text) = text {
            line(name, &harmless(text));
        }
    }
    match &error.detail {
        Some(detail) if screen.show_values => line("detail", &harmless(detail)),
        Some(_) => line(
            "detail",
            &screen.out.dim("--show-values shows the script's own words"),
        ),
        None => {}
    }
    let attempts = plural(u64::from(item.attempts), "attempt");
    line("since", &format!("{}, {attempts}", instant(&item.at)));
    line("page", &screen.out.name(&crate::failure::page(error.code)));
}

fn lines_now(screen: &Screen, body: Option<&whimbrel_model::Body>) -> Vec<String> {
    match body.map(whimbrel_model::Body::map) {
        Some(Ok(map)) => {
            let tree = values::tree(&map, screen.show_values, screen.width.saturating_sub(2));
            let head = "  now".to_owned();
            std::iter::once(head)
                .chain(tree.iter().map(|line| format!("  {line}")))
                .collect()
        }
        Some(Err(error)) => vec![format!("  now     it is no document: {error}")],
        None => vec!["  now     it cannot be read from its store".to_owned()],
    }
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
#[must_use]
pub fn collection_of(place: &str) -> String {
    match place.rsplit_once('/') {
        Some((store, collection)) if place::is_url(place) => format!("{store}#{collection}"),
        _ => place.to_owned(),
    }
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
