//! `whimbrel backup`: collections into an archive, read back before it is called done.

use crate::app::App;
use crate::archives::{archive_json, say_archive, say_proof, signing_key};
use crate::args::RunArgs;
use crate::commands::copy::say_not_carried;
use crate::commands::upgrade::say_quarantined;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::paint::{Paint, harmless, plural};
use crate::place::{self, Named};
use crate::progress::drive;
use crate::project::Project;
use crate::screen::Screen;
use crate::summary::{self, Deed};
use clap::Args;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use whimbrel_archive::{Recipients, SigningKey, Vault, check_name};
use whimbrel_engine::{BackupJob, BackupPlace, Place};
use whimbrel_model::Store;

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 done and proved · 3 stopped, can go on · 4 done, but rows could not be read"
)]
pub struct Backup {
    /// What to save: a collection of the project, a whole STORE, STORE/COLLECTION or URL#COLLECTION
    /// [default: every collection of every store of the project]
    pub collections: Vec<String>,

    /// The folder or object store that the archive comes to lie in: a path, s3://, gs:// or az://
    #[arg(long, value_name = "DIR|URL", required_unless_present = "new_key")]
    pub to: Option<String>,

    /// The archive's name there [default: that of an unfinished backup of the same, or the present time]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// Encrypt to this age recipient (may be given again)
    #[arg(long, value_name = "age1…")]
    pub recipient: Vec<String>,

    /// Sign with the key in this file
    #[arg(long, value_name = "FILE")]
    pub sign: Option<PathBuf>,

    /// Begin anew instead of going on with an unfinished backup
    #[arg(long)]
    pub fresh: bool,

    /// Do not read the archive back: it is written, not proved
    #[arg(long)]
    pub no_proof: bool,

    /// Only make a signing key in a new file, and print its public half
    #[arg(long, value_name = "FILE", conflicts_with_all = ["collections", "to", "name", "recipient", "sign", "fresh", "no_proof"])]
    pub new_key: Option<PathBuf>,

    #[command(flatten)]
    pub run: RunArgs,
}

/// # Errors
/// The backup could not be begun, did not reach its end, or did not prove to be what it should.
pub async fn run(app: &App, args: &Backup) -> Outcome {
    if let Some(file) = &args.new_key {
        return new_key(&app.screen, file);
    }
    let project = app.project()?;
    let options = app.job_options(&args.run, &project)?;
    let recipients = Recipients::parse(&args.recipient)?.map(Arc::new);
    let key = signing_key(args.sign.as_deref())?;
    if let Some(name) = &args.name {
        check_name(name)?;
    }
    let collections = chosen(&project, &args.collections).await?;
    say_not_carried(&app.screen, collections.iter().map(|c| &*c.place.store));
    let to = args.to.as_deref().unwrap_or_default();
    if args.run.dry_run {
        return preview(&app.screen, to, &collections).await;
    }
    let here = std::env::current_dir().map_err(|e| Failure::io("the current folder", &e))?;
    let job = BackupJob {
        collections,
        vault: Vault::open(to, &here, true)?,
        name: args.name.clone(),
        recipients,
        key,
        fresh: args.fresh,
        options,
    };
    let engine = app.engine(&project).await?;
    let report = drive(&app.screen, &engine, engine.backup(job)).await?;
    let mut unreadable = 0;
    for one in &report.reports {
        summary::print(&app.screen, one, Deed::Backup);
        unreadable += one.counts.quarantined;
    }
    say_archive(&app.screen, &report.archive);
    let proof = match args.no_proof {
        true => None,
        false => Some(drive(&app.screen, &engine, engine.prove(&report.archive)).await?),
    };
    if let Some(proof) = &proof {
        say_proof(&app.screen, proof);
    }
    let mut object = archive_json(&report.archive, proof.as_ref());
    object["resumed"] = report.resumed.into();
    object["runs"] = report.reports.iter().map(summary::to_json).collect();
    app.screen.object(&object);
    if unreadable > 0 {
        say_quarantined(&app.screen, unreadable);
        return Ok(Exit::Findings);
    }
    Ok(Exit::Done)
}

/// What would be saved; nothing is made, not even a folder.
async fn preview(screen: &Screen, to: &str, collections: &[BackupPlace]) -> Outcome {
    let mut listed = Vec::new();
    for BackupPlace { place, .. } in collections {
        let found = place.store.describe(&place.collection).await?;
        let documents = found.as_ref().and_then(|d| d.documents);
        let count = documents.map_or_else(
            || "of unknown size".to_owned(),
            |n| format!("about {}", plural(n, "document")),
        );
        let name = harmless(&place.to_string());
        screen.labelled(
            "dry run",
            Paint::name,
            format!("would save {name}, {count}"),
        );
        listed.push(serde_json::json!({
            "store": place.store_name,
            "collection": place.collection,
            "documents": documents,
        }));
    }
    screen.object(&serde_json::json!({ "dry_run": true, "to": to, "collections": listed }));
    Ok(Exit::Done)
}

/// The collections that were named, or all there are. Each store is opened once, and only to be read: all
/// of its collections are to be seen as of one instant.
async fn chosen(project: &Project, names: &[String]) -> Result<Vec<BackupPlace>, Failure> {
    let named: Vec<Named> = match names.is_empty() {
        false => names
            .iter()
            .map(|name| one(project, name))
            .collect::<Result<_, _>>()?,
        true => project
            .stores
            .keys()
            .map(|store| place::parse(store, project))
            .collect::<Result<_, _>>()?,
    };
    if named.is_empty() {
        return Err(
            Failure::usage("the project has no stores, and nothing was named")
                .next("whimbrel backup sqlite:app.db --to backups   (needs no project)"),
        );
    }
    let mut stores: BTreeMap<String, Arc<dyn Store>> = BTreeMap::new();
    let mut places: Vec<BackupPlace> = Vec::new();
    for one in named {
        let store = match stores.get(&one.store) {
            Some(store) => Arc::clone(store),
            None => {
                // A store that is not there is no empty one: its path may be wrong.
                let opened = one.open(true, false).await;
                let store = opened.map_err(|failure| match names.is_empty() {
                    true => failure.next("or name what to save: whimbrel backup STORE --to …"),
                    false => failure,
                })?;
                stores.insert(one.store.clone(), Arc::clone(&store));
                store
            }
        };
        let collections = match one.collection {
            Some(collection) => vec![collection],
            None => store.collections().await?,
        };
        for collection in collections {
            let known = |p: &BackupPlace| {
                p.place.store_name == one.store && p.place.collection == collection
            };
            if !places.iter().any(known) {
                places.push(BackupPlace {
                    version_field: project.collection(&one.store, &collection).version_field,
                    place: Place {
                        store: Arc::clone(&store),
                        store_name: one.store.clone(),
                        collection,
                    },
                });
            }
        }
    }
    if places.is_empty() {
        return Err(Failure::usage("there are no collections to save"));
    }
    Ok(places)
}

/// A collection of the project before a store of the same name.
fn one(project: &Project, name: &str) -> Result<Named, Failure> {
    match project.collections.contains_key(name) && !project.stores.contains_key(name) {
        true => Ok(place::parse_collection(name, project)?.0),
        false => place::parse(name, project),
    }
}

/// Makes a signing key in a file that only its owner can read, and that was not there before.
fn new_key(screen: &Screen, file: &Path) -> Outcome {
    let (key, text) = SigningKey::generate()?;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(file)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .map_err(|e| Failure::io(format!("making {}", file.display()), &e))?;
    let public = key.public().to_string();
    screen.labelled(
        "done",
        Paint::good,
        format!("the signing key is in {}: keep it secret", file.display()),
    );
    screen.labelled("public", Paint::bold, &public);
    screen.object(&serde_json::json!({ "key": file, "public": public }));
    Ok(Exit::Done)
}
