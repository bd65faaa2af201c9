//! `whimbrel upgrade`: a collection's documents to one schema version, in place, up or down.

use crate::app::App;
use crate::args::RunArgs;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::paint::{Paint, harmless, plural};
use crate::progress::drive;
use crate::screen::Screen;
use crate::summary::Deed;
use crate::{diff, place, schemas, summary};
use clap::Args;
use whimbrel_engine::{EngineError, Report, UpgradeJob, UpgradePreview};
use whimbrel_model::{Code, Key};

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 done · 3 stopped, can go on · 4 done, but documents wait in quarantine"
)]
pub struct Upgrade {
    /// A collection of the project, STORE/COLLECTION or URL#COLLECTION
    pub collection: String,

    /// The schema version to come to, also a lower one [default: the newest]
    #[arg(long, value_name = "N")]
    pub to: Option<u32>,

    /// Only the document with this key
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,

    /// With --dry-run: how many documents to show the changes of
    #[arg(long, value_name = "N", default_value_t = 3, requires = "dry_run")]
    pub sample: usize,

    #[command(flatten)]
    pub run: RunArgs,
}

/// # Errors
/// The upgrade could not be begun or did not reach its end.
pub async fn run(app: &App, args: &Upgrade) -> Outcome {
    let project = app.project()?;
    let options = app.job_options(&args.run, &project)?;
    let (named, collection) = place::parse_collection(&args.collection, &project)?;
    let name = named.collection.clone().unwrap_or_default();
    let schema = schemas::load(&name, &collection)?;
    let newest = schema.newest();
    let to = args.to.unwrap_or(newest);
    schema.version(to).map_err(EngineError::from)?;
    let place = named.place(&name, args.run.dry_run, false).await?;
    let key = match &args.key {
        Some(text) => Some(parse_key(&place, text).await?),
        None => None,
    };
    let job = UpgradeJob {
        place,
        schema,
        to,
        key,
        options,
    };
    if args.run.dry_run {
        let engine = app.engine_to_read(&project).await?;
        let (report, samples) = drive(
            &app.screen,
            &engine,
            engine.preview_upgrade(&job, args.sample),
        )
        .await?;
        return Ok(say_preview(&app.screen, &report, &samples, args, newest));
    }
    ask(&app.screen, &job).await?;
    let engine = app.engine(&project).await?;
    let report = drive(&app.screen, &engine, engine.upgrade(job)).await?;
    Ok(say_report(
        &app.screen,
        &report,
        &args.collection,
        to,
        newest,
    ))
}

/// The key that a text means in a collection.
///
/// # Errors
/// The collection does not exist, or has another kind of keys.
pub async fn parse_key(place: &whimbrel_engine::Place, text: &str) -> Result<Key, Failure> {
    let Some(description) = place.store.describe(&place.collection).await? else {
        return Err(Failure::new(
            Code::UnknownCollection,
            format!("there is no collection {place}"),
        )
        .next(format!(
            "whimbrel inspect {}   (lists what is there)",
            place.store_name
        )));
    };
    Key::parse(text, &description.key).ok_or_else(|| {
        let wanted = kind_name(&description.key);
        Failure::usage(format!(
            "{} is no key of {place}: its keys are {wanted}",
            harmless(text)
        ))
    })
}

#[must_use]
pub fn kind_name(kind: &whimbrel_model::KeyKind) -> String {
    use whimbrel_model::KeyKind as K;
    match kind {
        K::Int => "integers".to_owned(),
        K::Uuid => "UUIDs".to_owned(),
        K::Text => "texts".to_owned(),
        K::Tuple(parts) => {
            let parts: Vec<_> = parts.iter().map(kind_name).collect();
            format!("tuples of {}", parts.join(", "))
        }
    }
}

async fn ask(screen: &Screen, job: &UpgradeJob) -> Result<(), Failure> {
    let versions = &job.schema.versions()[..job.to as usize];
    let one_way: Vec<_> = versions
        .iter()
        .filter(|v| !v.code.reversible())
        .map(|v| format!("v{}", v.number))
        .collect();
    let what = match &job.key {
        Some(key) => format!("document {} of {}", harmless(&key.to_string()), job.place),
        None => {
            let found = job.place.store.describe(&job.place.collection).await?;
            let count = found.and_then(|d| d.documents);
            let count = count.map(|n| format!(" (about {})", plural(n, "document")));
            format!("{}{}", job.place, count.unwrap_or_default())
        }
    };
    let back = if one_way.is_empty() {
        "It can be undone.".to_owned()
    } else {
        format!(
            "{} has no `down`: a document that the app changes afterwards cannot come back from it.",
            one_way.join(", ")
        )
    };
    screen.confirm(&format!("Bring {what} to v{} in place. {back}", job.to))
}

fn say_preview(
    screen: &Screen,
    report: &Report,
    samples: &[UpgradePreview],
    args: &Upgrade,
    newest: u32,
) -> Exit {
    if screen.json {
        let samples: Vec<_> = samples
            .iter()
            .map(|s| preview_json(s, screen.show_values))
            .collect();
        let mut object = summary::to_json(report);
        object["samples"] = samples.into();
        screen.object(&object);
        return preview_exit(report);
    }
    for sample in samples {
        let key = harmless(&sample.key.to_string());
        screen.line(format!("{} (v{})", screen.out.bold(&key), sample.from));
        for line in diff_lines(screen, &sample.before, &sample.after, 2) {
            screen.line(format!("  {line}"));
        }
    }
    summary::print(screen, report, deed(args.to, newest));
    if !samples.is_empty() && !screen.show_values {
        screen.labelled(
            "",
            Paint::bold,
            screen
                .out
                .dim("values are hidden; --show-values shows them"),
        );
    }
    let to = args.to.map(|n| format!(" --to {n}")).unwrap_or_default();
    screen.next(
        "next",
        &format!("whimbrel upgrade {}{to}", args.collection),
        "",
    );
    preview_exit(report)
}

fn deed(to: Option<u32>, newest: u32) -> Deed {
    match to {
        Some(to) if to < newest => Deed::Down(to),
        _ => Deed::Upgrade,
    }
}

/// The lines of one document's diff, to be printed behind `indent` blanks.
pub fn diff_lines(
    screen: &Screen,
    before: &whimbrel_model::Body,
    after: &whimbrel_model::Body,
    indent: usize,
) -> Vec<String> {
    let width = screen.width.saturating_sub(indent);
    match diff::changes(before, after) {
        Some(changes) if changes.is_empty() => vec![screen.out.dim("nothing changes")],
        Some(changes) => changes
            .iter()
            .flat_map(|c| c.lines(screen.show_values, width, screen.out))
            .collect(),
        None => vec!["it cannot be shown as a document".to_owned()],
    }
}

fn preview_json(sample: &UpgradePreview, show: bool) -> serde_json::Value {
    let changes = diff::changes(&sample.before, &sample.after).unwrap_or_default();
    let changes: Vec<_> = changes.iter().map(|c| c.to_json(show)).collect();
    serde_json::json!({ "key": sample.key.to_string(), "from": sample.from, "changes": changes })
}

fn preview_exit(report: &Report) -> Exit {
    if report.counts.quarantined > 0 {
        Exit::Findings
    } else {
        Exit::Done
    }
}

/// Prints the end of an upgrade and says what to type next.
fn say_report(screen: &Screen, report: &Report, name: &str, to: u32, newest: u32) -> Exit {
    screen.object(&summary::to_json(report));
    summary::print(screen, report, deed(Some(to), newest));
    if report.counts.quarantined > 0 {
        say_quarantined(screen, report.counts.quarantined);
        return Exit::Findings;
    }
    if to == newest && to > 1 && report.counts.written > 0 {
        screen.next(
            "undo",
            &format!("whimbrel upgrade {name} --to {}", to - 1),
            "",
        );
    }
    Exit::Done
}

/// The last line of a run that is done but for some documents.
pub fn say_quarantined(screen: &Screen, quarantined: u64) {
    let wait = if quarantined == 1 { "waits" } else { "wait" };
    let why = format!(
        "({} {wait} there; exit code 4)",
        plural(quarantined, "document")
    );
    screen.next("next", "whimbrel quarantine list", &why);
}
