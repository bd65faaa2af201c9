//! `whimbrel schema`: judges a schema's versions before they are deployed.

use crate::app::App;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::paint::{harmless, plural};
use crate::project::Project;
use crate::screen::Screen;
use crate::{place, schemas};
use clap::{Args, Subcommand};
use whimbrel_engine::{CheckJob, SchemaCheck};
use whimbrel_model::Schema;
use whimbrel_model::compat::{Compatibility, Verdict};

#[derive(Debug, Subcommand)]
pub enum SchemaCommand {
    /// Classify each version as backward, forward, full or breaking
    Check(Check),
}

#[derive(Debug, Args)]
#[command(
    long_about = "Classify each version as backward, forward, full or breaking: from its operations and JSON \
                  Schemas, and by a trial on documents of the store (up, down, and validation under the \
                  neighbouring version). Writes nothing.",
    after_help = "Exit codes: 0 no version breaks · 4 a version breaks, or documents of the trial failed"
)]
pub struct Check {
    /// A collection of the project [default: all that have a schema]
    pub collection: Option<String>,

    /// How many documents to try (0: judge without the store)
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub sample: u32,

    /// Judge only versions after N: those up to it are deployed already
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub since: u32,
}

/// # Errors
/// A schema is not valid, or the store cannot be read.
pub async fn run(app: &App, args: &SchemaCommand) -> Outcome {
    let SchemaCommand::Check(args) = args;
    let project = app.project()?;
    let names: Vec<String> = match &args.collection {
        Some(name) => vec![name.clone()],
        None => {
            let with_schema = project
                .collections
                .iter()
                .filter(|(_, c)| c.schemas.is_dir());
            with_schema.map(|(name, _)| name.clone()).collect()
        }
    };
    if names.is_empty() {
        return Err(Failure::usage("no collection of this project has a schema")
            .next("whimbrel new schema COLLECTION initial"));
    }
    let mut exit = Exit::Done;
    let mut objects = Vec::new();
    for name in &names {
        let (schema, mut check) = check(app, &project, name, args).await?;
        check.steps.retain(|v| v.to > args.since);
        check.transitive.retain(|v| v.from >= args.since);
        let bad = |verdicts: &[Verdict]| {
            verdicts
                .iter()
                .any(|v| v.compatibility == Compatibility::Breaking)
        };
        if bad(&check.steps) || bad(&check.transitive) || !check.failed.is_empty() {
            exit = Exit::Findings;
        }
        objects.push(to_json(name, &schema, &check));
        say(&app.screen, name, &schema, &check);
    }
    app.screen
        .object(&serde_json::json!({ "schemas": objects, "exit": exit as u8 }));
    Ok(exit)
}

async fn check(
    app: &App,
    project: &Project,
    name: &str,
    args: &Check,
) -> Result<(Schema, SchemaCheck), Failure> {
    let (named, collection) = place::parse_collection(name, project)?;
    let collection_name = named.collection.clone().unwrap_or_default();
    let schema = schemas::load(&collection_name, &collection)?;
    let mut trial = None;
    if args.sample > 0 {
        let place = named.place(&collection_name, true, false).await?;
        let exists = place.store.describe(&collection_name).await?.is_some();
        trial = exists.then_some(place);
    }
    let job = CheckJob {
        known: schemas::known_compatibility(&schema),
        schema: schema.clone(),
        place: trial,
        sample: args.sample,
    };
    let check = app
        .engine_to_read(project)
        .await?
        .check_schema(&job)
        .await?;
    Ok((schema, check))
}

fn say(screen: &Screen, name: &str, schema: &Schema, check: &SchemaCheck) {
    let paint = screen.out;
    let tried = match check.tried {
        0 => "judged without documents".to_owned(),
        n => format!("tried on {}", plural(u64::from(n), "document")),
    };
    screen.line(format!(
        "{}  {}, {tried}",
        paint.bold(name),
        plural(schema.versions().len() as u64, "version")
    ));
    for verdict in &check.steps {
        let description = schema
            .version(verdict.to)
            .map(|v| v.description.clone())
            .unwrap_or_default();
        screen.line(format!(
            "  v{} → v{}  {}  {}",
            verdict.from,
            verdict.to,
            class(screen, verdict.compatibility),
            paint.dim(&description)
        ));
        say_reasons(screen, verdict);
    }
    // With two versions the way over all of them is the one step.
    for verdict in check.transitive.iter().filter(|v| v.to > v.from + 1) {
        screen.line(format!(
            "  v{} → v{}  {}  (all the way)",
            verdict.from,
            verdict.to,
            class(screen, verdict.compatibility)
        ));
        screen.line(format!("      {}", verdict.compatibility.deploy_order()));
    }
    for (key, error) in check.failed.iter().take(10) {
        let stage = error
            .stage
            .as_deref()
            .map(|s| format!("{s}: "))
            .unwrap_or_default();
        screen.line(format!(
            "  {}  {}  {stage}{}  {}",
            paint.warn("failed"),
            harmless(key),
            harmless(&error.message),
            error.code
        ));
    }
    if check.failed.len() > 10 {
        screen.line(format!("  … and {} more", check.failed.len() - 10));
    }
}

fn say_reasons(screen: &Screen, verdict: &Verdict) {
    for reason in &verdict.reasons {
        screen.line(format!("      {}", harmless(reason)));
    }
    if !verdict.documents.is_empty() {
        let keys: Vec<_> = verdict.documents.iter().map(|k| harmless(k)).collect();
        screen.line(format!("      seen on {}", keys.join(", ")));
    }
    screen.line(format!("      {}", verdict.compatibility.deploy_order()));
}

fn class(screen: &Screen, compatibility: Compatibility) -> String {
    match compatibility {
        Compatibility::Full => screen.out.good("full"),
        Compatibility::Backward => screen.out.name("backward"),
        Compatibility::Forward => screen.out.name("forward"),
        Compatibility::Breaking => screen.out.bad("breaking"),
    }
}

fn to_json(name: &str, schema: &Schema, check: &SchemaCheck) -> serde_json::Value {
    let verdict = |v: &Verdict| {
        let mut object = serde_json::json!(v);
        object["deploy_order"] = v.compatibility.deploy_order().into();
        object
    };
    let failed: Vec<_> = check
        .failed
        .iter()
        .map(|(key, e)| {
            serde_json::json!({ "key": key, "code": e.code.id(), "message": e.message, "stage": e.stage, "path": e.path })
        })
        .collect();
    serde_json::json!({
        "collection": name,
        "versions": schema.versions().len(),
        "tried": check.tried,
        "steps": check.steps.iter().map(verdict).collect::<Vec<_>>(),
        "transitive": check.transitive.iter().map(verdict).collect::<Vec<_>>(),
        "failed": failed,
    })
}
