//! `whimbrel quarantine retry`: another try at documents that wait.

use crate::app::App;
use crate::args::RunArgs;
use crate::commands::copy::{Ends, Scratch};
use crate::commands::quarantine::{collection_of, each};
use crate::commands::upgrade::say_quarantined;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::paint::plural;
use crate::progress::drive;
use crate::project::Project;
use crate::summary::Deed;
use crate::{place, schemas, summary};
use clap::Args;
use std::collections::BTreeMap;
use std::path::PathBuf;
use whimbrel_engine::{JobOptions, RetryReport, UpgradeJob};
use whimbrel_model::ledger::{JobKind, JobSpec};

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 nothing of it waits any more · 4 some documents failed again"
)]
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
/// The ledger or a store cannot be used, or a retry did not reach its end.
pub async fn retry(app: &App, args: &Retry) -> Outcome {
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
        let what: String = waiting
            .iter()
            .map(|(s, (_, n))| format!("  {}: {s}\n", plural(*n, "document")))
            .collect();
        app.screen
            .confirm(&format!("Try again:\n{}", what.trim_end()))?;
    }
    let state = ledger.state();
    let mut left = 0;
    for (subject, (run, count)) in &waiting {
        let Some(spec) = state.runs.get(run).map(|r| &r.job) else {
            continue;
        };
        if matches!(spec.kind, JobKind::Backup | JobKind::Restore) {
            // Their documents wait for another archive, or for another target.
            app.screen.line(format!(
                "not tried: {} of {subject}: the same command does that, and takes them out",
                plural(*count, "document")
            ));
            left += count;
            continue;
        }
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
        left += report.report.counts.quarantined + report.without_key;
        say_retry(app, &report);
    }
    if left == 0 {
        return Ok(Exit::Done);
    }
    say_quarantined(&app.screen, left);
    Ok(Exit::Findings)
}

fn say_retry(app: &App, retried: &RetryReport) {
    let mut object = summary::to_json(&retried.report);
    object["gone"] = retried.gone.into();
    object["without_key"] = retried.without_key.into();
    app.screen.object(&object);
    summary::print(&app.screen, &retried.report, Deed::Retry);
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
