//! `whimbrel restore`: an archive's documents, to where they came from or elsewhere.

use crate::app::App;
use crate::archives::{archive_json, identities, say_archive, say_proof};
use crate::args::RunArgs;
use crate::commands::upgrade::{kind_name, say_quarantined};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::paint::{harmless, plural};
use crate::place::{self, Named};
use crate::progress::drive;
use crate::project::Project;
use crate::summary::{self, Deed};
use clap::Args;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use whimbrel_archive::{Archive, CollectionPart, PublicKey, Vault};
use whimbrel_engine::{EngineError, JobOptions, Place, RestoreJob, RestorePart, RestoreReport};
use whimbrel_model::{Code, Key, Store};

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 done · 1 refused: nothing was written · 3 stopped, can go on · 4 done, but \
                  documents wait in quarantine"
)]
pub struct Restore {
    /// The archive: its folder or URL, as `whimbrel backup` printed it
    pub archive: String,

    /// Another store than the one it came from: STORE, STORE/COLLECTION or a URL; made where it is missing
    #[arg(long, value_name = "STORE")]
    pub into: Option<String>,

    /// Only this collection, or STORE/COLLECTION (may be given again)
    #[arg(long, value_name = "C")]
    pub collection: Vec<String>,

    /// Only the document with this key (may be given again)
    #[arg(long, value_name = "K")]
    pub key: Vec<String>,

    /// Restore into collections with this behind their names, beside the live ones
    #[arg(long, value_name = "SUFFIX")]
    pub beside: Option<String>,

    /// Replace documents that exist and differ; otherwise they stop the restore before it writes
    #[arg(long)]
    pub overwrite: bool,

    /// The age identities that open an encrypted archive
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,

    /// Refuse the archive unless this public key signed it (may be given again)
    #[arg(long, value_name = "PUBKEY")]
    pub trust: Vec<PublicKey>,

    /// Read and check all of the archive, and restore nothing
    #[arg(long, conflicts_with_all = ["into", "collection", "key", "beside", "overwrite"])]
    pub verify_only: bool,

    #[command(flatten)]
    pub run: RunArgs,
}

/// # Errors
/// The archive was refused, documents are in the way, or the restore did not reach its end.
pub async fn run(app: &App, args: &Restore) -> Outcome {
    let project = app.project()?;
    let here = std::env::current_dir().map_err(|e| Failure::io("the current folder", &e))?;
    let (vault, name) = Vault::of_archive(&args.archive, &here)?;
    let keys = identities(args.identity.as_deref())?;
    let archive = Archive::open(vault, &name, keys, &args.trust).await?;
    if args.verify_only {
        return verify(app, &project, &archive).await;
    }
    let options = app.job_options(&args.run, &project)?;
    let job = job(&project, &archive, args, options).await?;
    if args.run.dry_run {
        return preview(app, &project, &job).await;
    }
    say_archive(&app.screen, &archive);
    app.screen.confirm(&question(&job))?;
    let engine = app.engine(&project).await?;
    let report = drive(&app.screen, &engine, engine.restore(job))
        .await
        .map_err(refused)?;
    say(app, &archive, &report, false)
}

async fn verify(app: &App, project: &Project, archive: &Archive) -> Outcome {
    let engine = app.engine_to_read(project).await?;
    let proof = drive(&app.screen, &engine, engine.prove(archive)).await?;
    say_archive(&app.screen, archive);
    say_proof(&app.screen, &proof);
    app.screen.object(&archive_json(archive, Some(&proof)));
    Ok(Exit::Done)
}

async fn preview(app: &App, project: &Project, job: &RestoreJob) -> Outcome {
    let engine = app.engine_to_read(project).await?;
    let report = drive(&app.screen, &engine, engine.preview_restore(job)).await?;
    say_archive(&app.screen, &job.archive);
    say(app, &job.archive, &report, true)
}

fn say(app: &App, archive: &Archive, report: &RestoreReport, dry_run: bool) -> Outcome {
    if let Some(proof) = &report.proof {
        say_proof(&app.screen, proof);
    }
    let mut failed = 0;
    for one in &report.reports {
        summary::print(&app.screen, one, Deed::Restore);
        failed += one.counts.quarantined;
    }
    let runs: Vec<_> = report.reports.iter().map(summary::to_json).collect();
    app.screen.object(&serde_json::json!({
        "archive": archive.shown(),
        "manifest": archive.hash(),
        "proof": report.proof,
        "runs": runs,
    }));
    match (failed, dry_run) {
        (0, _) => Ok(Exit::Done),
        (_, true) => Ok(Exit::Findings),
        (n, false) => {
            say_quarantined(&app.screen, n);
            Ok(Exit::Findings)
        }
    }
}

/// What is said of a restore that did not come to its end.
fn refused(error: EngineError) -> Failure {
    let in_the_way = error.code() == Code::RestoreConflict;
    let meanwhile = matches!(error, EngineError::Document { .. });
    let failure = Failure::from(error);
    if !in_the_way {
        return failure;
    }
    let failure = match meanwhile {
        true => failure.not_done(
            "the app wrote it while the restore was at work; what is written is recorded",
        ),
        false => failure,
    };
    failure
        .next("add --dry-run to see every document that differs")
        .next("add --beside _restored to compare first, or --overwrite to replace them")
}

fn question(job: &RestoreJob) -> String {
    let manifest = job.archive.manifest();
    let suffix = job.beside.as_deref().unwrap_or_default();
    let what: Vec<_> = job
        .parts
        .iter()
        .map(|part| {
            let documents = match &part.keys {
                Some(keys) => keys.len() as u64,
                None => manifest
                    .part(&part.store, &part.collection)
                    .map_or(0, |(_, p)| p.documents),
            };
            let target = harmless(&format!("{}{suffix}", part.target));
            format!("{} into {target}", plural(documents, "document"))
        })
        .collect();
    let rule = match job.overwrite {
        true => "Documents that differ are replaced.",
        false => "Documents that exist and differ stop it before anything is written.",
    };
    format!("Restore {}. {rule}", what.join(", then "))
}

async fn job(
    project: &Project,
    archive: &Archive,
    args: &Restore,
    options: JobOptions,
) -> Result<RestoreJob, Failure> {
    let chosen = chosen(archive, &args.collection)?;
    let into = match &args.into {
        Some(text) => Some(place::parse(text, project)?),
        None => None,
    };
    let named = into.as_ref().and_then(|n| n.collection.clone());
    if chosen.len() != 1 && (named.is_some() || !args.key.is_empty()) {
        let names: Vec<_> = chosen.iter().map(|p| harmless(&p.collection)).collect();
        return Err(Failure::usage(format!(
            "this names one collection's documents, but {} are to be restored",
            chosen.len()
        ))
        .next(format!(
            "add --collection (there are: {})",
            names.join(", ")
        )));
    }
    let mut stores: BTreeMap<String, Arc<dyn Store>> = BTreeMap::new();
    let mut parts = Vec::with_capacity(chosen.len());
    for part in chosen {
        let target = match &into {
            Some(named) => named.clone(),
            None => came_from(project, part)?,
        };
        let store = match stores.get(&target.store) {
            Some(store) => Arc::clone(store),
            None => {
                let store = open(&target, args.run.dry_run).await?;
                stores.insert(target.store.clone(), Arc::clone(&store));
                store
            }
        };
        let collection = named.clone().unwrap_or_else(|| part.collection.clone());
        parts.push(RestorePart {
            store: part.store.clone(),
            collection: part.collection.clone(),
            target: Place {
                store,
                store_name: target.store,
                collection,
            },
            keys: keys(part, &args.key)?,
        });
    }
    Ok(RestoreJob {
        archive: archive.clone(),
        parts,
        beside: args.beside.clone(),
        overwrite: args.overwrite,
        options,
    })
}

async fn open(target: &Named, dry_run: bool) -> Result<Arc<dyn Store>, Failure> {
    match dry_run {
        // A dry run must not make the target's file; where it is missing, nothing is in the way.
        true => match target.open(true, false).await {
            Err(failure) if failure.code == Some(Code::StoreMissing) => {
                Ok(whimbrel_stores::open("memory:", &target.options).await?)
            }
            opened => opened,
        },
        false => target.open(false, true).await,
    }
}

/// The store that a part was saved from, as this project knows it.
fn came_from(project: &Project, part: &CollectionPart) -> Result<Named, Failure> {
    if project.stores.contains_key(&part.store) || place::is_url(&part.store) {
        return place::parse(&part.store, project);
    }
    Err(Failure::new(
        Code::UnknownStore,
        format!(
            "the archive's documents come from a store called {}, which this project does not have",
            harmless(&part.store)
        ),
    )
    .not_done("nothing was written")
    .next("name a store to restore into: --into STORE, or --into sqlite:restored.db"))
}

fn chosen<'a>(archive: &'a Archive, names: &[String]) -> Result<Vec<&'a CollectionPart>, Failure> {
    let all = &archive.manifest().collections;
    if names.is_empty() {
        return Ok(all.iter().collect());
    }
    let mut chosen = Vec::new();
    for name in names {
        let found: Vec<_> = all
            .iter()
            .filter(|p| p.collection == *name || format!("{}/{}", p.store, p.collection) == *name)
            .collect();
        match found.as_slice() {
            [one] => chosen.push(*one),
            [] => {
                let known: Vec<_> = all
                    .iter()
                    .map(|p| harmless(&format!("{}/{}", p.store, p.collection)))
                    .collect();
                return Err(Failure::new(
                    Code::UnknownCollection,
                    format!("the archive has no collection {}", harmless(name)),
                )
                .not_done("nothing was written")
                .next(format!("it has: {}", known.join(", "))));
            }
            _ => {
                return Err(Failure::usage(format!(
                    "{} is in several stores of the archive: name it as STORE/COLLECTION",
                    harmless(name)
                )));
            }
        }
    }
    Ok(chosen)
}

fn keys(part: &CollectionPart, texts: &[String]) -> Result<Option<Vec<Key>>, Failure> {
    if texts.is_empty() {
        return Ok(None);
    }
    let keys: Result<Vec<_>, Failure> = texts
        .iter()
        .map(|text| {
            Key::parse(text, &part.key).ok_or_else(|| {
                Failure::usage(format!(
                    "{} is no key of {}: its keys are {}",
                    harmless(text),
                    harmless(&part.collection),
                    kind_name(&part.key)
                ))
            })
        })
        .collect();
    keys.map(Some)
}
