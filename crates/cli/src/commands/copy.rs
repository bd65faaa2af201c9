//! `whimbrel copy`: documents into another store, in a new shape where rules say so.

use crate::app::App;
use crate::args::RunArgs;
use crate::commands::upgrade::say_quarantined;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::paint::{Paint, harmless};
use crate::place::{self, Named};
use crate::progress::drive;
use crate::project::Project;
use crate::screen::Screen;
use crate::summary::Deed;
use crate::{schemas, summary, values};
use clap::Args;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use whimbrel_engine::{CopyJob, CopyPreview, JobOptions, Place, Report};
use whimbrel_model::Store;
use whimbrel_model::ledger::Counts;
use whimbrel_model::rule::CopyRule;

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 done · 3 stopped, can go on · 4 done, but documents wait in quarantine"
)]
pub struct Copy {
    /// Where from: STORE/COLLECTION, URL#COLLECTION, or a whole STORE
    pub source: String,

    /// Where to: STORE, STORE/COLLECTION or a URL; made where it is missing
    pub target: String,

    /// A file of copy rules; without it documents are copied as they are
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,

    /// Only this rule of the file (may be given again)
    #[arg(long, value_name = "NAME", requires = "rules")]
    pub rule: Vec<String>,

    /// Leave documents that the target has already alone
    #[arg(long)]
    pub skip_existing: bool,

    /// Read the source documents as this schema version (a rules file says so itself)
    #[arg(long = "as", value_name = "N", conflicts_with = "rules")]
    pub read_as: Option<u32>,

    /// Add a field with the run's instant
    #[arg(long, value_name = "FIELD", num_args = 0..=1, default_missing_value = "_migratedAt", require_equals = true, conflicts_with = "rules")]
    pub migrated_at: Option<String>,

    /// Add a field with the source's key
    #[arg(long, value_name = "FIELD", num_args = 0..=1, default_missing_value = "_sourceId", require_equals = true, conflicts_with = "rules")]
    pub source_id: Option<String>,

    /// With --dry-run: how many documents to show the results of
    #[arg(long, value_name = "N", default_value_t = 2, requires = "dry_run")]
    pub sample: usize,

    #[command(flatten)]
    pub run: RunArgs,
}

/// What a copy without a file of rules does to documents.
#[derive(Debug, Default)]
pub struct Plain {
    pub read_as: Option<u32>,
    pub migrated_at: Option<String>,
    pub source_id: Option<String>,
}

impl Copy {
    fn plain(&self) -> Plain {
        Plain {
            read_as: self.read_as,
            migrated_at: self.migrated_at.clone(),
            source_id: self.source_id.clone(),
        }
    }
}

/// # Errors
/// The copy could not be begun, or a run did not reach its end.
pub async fn run(app: &App, args: &Copy) -> Outcome {
    let project = app.project()?;
    let mut options = app.job_options(&args.run, &project)?;
    options.skip_existing = args.skip_existing;
    let ends = Ends::open(&project, &args.source, &args.target, args.run.dry_run).await?;
    let rules = match &args.rules {
        Some(file) => chosen(schemas::rules(file)?, &args.rule)?,
        None => ends.plain_rules(&args.plain()).await?,
    };
    let scratch = Scratch::for_rules(&rules).await?;
    let mut jobs = Vec::new();
    for rule in rules {
        jobs.push(ends.job(&project, rule, scratch.store(), options.clone())?);
    }
    say_not_carried(&app.screen, [&*ends.source_store, &*ends.target_store]);
    if args.run.dry_run {
        return preview(app, &project, &jobs, args.sample).await;
    }
    let what: Vec<_> = jobs
        .iter()
        .map(|j| format!("{} to {}", j.source, j.target))
        .collect();
    app.screen.confirm(&format!(
        "Copy {}. The source is only read; in the target nothing is touched that other sources wrote.",
        what.join(", then ")
    ))?;
    run_all(app, &project, jobs).await
}

/// Says, before anything is done, what stays behind: each thing once.
pub fn say_not_carried<'a>(screen: &Screen, stores: impl IntoIterator<Item = &'a dyn Store>) {
    let mut said = BTreeSet::new();
    for store in stores {
        let Some(what) = store.not_carried().filter(|what| said.insert(*what)) else {
            continue;
        };
        let store = store.name();
        screen.object(&serde_json::json!({ "store": store, "not_carried": what }));
        let store = harmless(store);
        let line = format!("{store} itself sets {what}: that is not carried over");
        screen.labelled("note", Paint::warn, line);
    }
}

/// Runs the jobs one after the other and prints what each did.
///
/// # Errors
/// A run did not reach its end; those before it did.
async fn run_all(app: &App, project: &Project, jobs: Vec<CopyJob>) -> Outcome {
    let engine = app.engine(project).await?;
    let mut quarantined = 0;
    for job in jobs {
        let report = drive(&app.screen, &engine, engine.copy(job)).await?;
        app.screen.object(&summary::to_json(&report));
        summary::print(&app.screen, &report, Deed::Copy);
        quarantined += report.counts.quarantined;
    }
    if quarantined == 0 {
        return Ok(Exit::Done);
    }
    say_quarantined(&app.screen, quarantined);
    Ok(Exit::Findings)
}

async fn preview(app: &App, project: &Project, jobs: &[CopyJob], sample: usize) -> Outcome {
    let engine = app.engine_to_read(project).await?;
    let mut totals = Counts::default();
    for job in jobs {
        let (report, samples) =
            drive(&app.screen, &engine, engine.preview_copy(job, sample)).await?;
        totals.add(&report.counts);
        say_preview(&app.screen, &report, &samples);
    }
    if !app.screen.show_values {
        app.screen.note(
            app.screen
                .out
                .dim("  values are hidden; --show-values shows them"),
        );
    }
    Ok(if totals.quarantined > 0 {
        Exit::Findings
    } else {
        Exit::Done
    })
}

fn say_preview(screen: &Screen, report: &Report, samples: &[CopyPreview]) {
    let show = screen.show_values;
    if screen.json {
        let samples: Vec<_> = samples.iter().map(|s| sample_json(s, show)).collect();
        let mut object = summary::to_json(report);
        object["samples"] = samples.into();
        screen.object(&object);
        return;
    }
    for sample in samples {
        let sources: Vec<_> = sample
            .sources
            .iter()
            .map(|k| harmless(&k.to_string()))
            .collect();
        screen.line(screen.out.bold(&sources.join(", ")));
        for target in &sample.targets {
            let key = harmless(&target.key.to_string());
            screen.line(format!(
                "  → {}/{}",
                target.collection,
                screen.out.bold(&key)
            ));
            let Ok(map) = target.body.map() else { continue };
            for line in values::tree(&map, show, screen.width.saturating_sub(6)) {
                screen.line(format!("    {line}"));
            }
        }
    }
    summary::print(screen, report, Deed::Copy);
}

fn sample_json(sample: &CopyPreview, show: bool) -> serde_json::Value {
    let targets: Vec<_> = sample
        .targets
        .iter()
        .map(|t| {
            serde_json::json!({
                "collection": t.collection,
                "key": t.key.to_string(),
                "document": values::to_json(&t.body, show),
            })
        })
        .collect();
    let sources: Vec<_> = sample.sources.iter().map(ToString::to_string).collect();
    serde_json::json!({ "sources": sources, "targets": targets })
}

/// The rules that are asked for by name; all where none is.
///
/// # Errors
/// The file has no rule of a name.
pub fn chosen(rules: Vec<CopyRule>, names: &[String]) -> Result<Vec<CopyRule>, Failure> {
    let known: Vec<_> = rules.iter().map(|r| r.name.clone()).collect();
    if let Some(unknown) = names.iter().find(|n| !known.contains(n)) {
        return Err(Failure::usage(format!(
            "the file has no rule \"{unknown}\" (it has: {})",
            known.join(", ")
        )));
    }
    Ok(rules
        .into_iter()
        .filter(|r| names.is_empty() || names.contains(&r.name))
        .collect())
}

/// The two ends of a copy, opened.
pub struct Ends {
    pub source: Named,
    pub target: Named,
    pub source_store: Arc<dyn Store>,
    pub target_store: Arc<dyn Store>,
}

impl Ends {
    /// # Errors
    /// A store is unknown or cannot be opened.
    pub async fn open(
        project: &Project,
        source: &str,
        target: &str,
        dry_run: bool,
    ) -> Result<Self, Failure> {
        let source = place::parse_source(source, project)?;
        let target = place::parse(target, project)?;
        // The source is opened so that it could not be written, unless the target lies in it.
        let apart = source.url != target.url;
        let source_store = source.open(apart || dry_run, false).await?;
        let target_store = match dry_run {
            // A dry run must not make the target's file; what is derived does not depend on it.
            true if target.open(true, false).await.is_err() => {
                whimbrel_stores::open("memory:", &target.options).await?
            }
            dry => target.open(dry, !dry).await?,
        };
        Ok(Self {
            source,
            target,
            source_store,
            target_store,
        })
    }

    /// Opened to be compared. The target has to be there; it is opened for writing only if it `may_change`.
    ///
    /// # Errors
    /// A store is unknown or cannot be opened.
    pub async fn look(
        project: &Project,
        source: &str,
        target: &str,
        may_change: bool,
    ) -> Result<Self, Failure> {
        let source = place::parse_source(source, project)?;
        let target = place::parse(target, project)?;
        let apart = source.url != target.url;
        Ok(Self {
            source_store: source.open(apart || !may_change, false).await?,
            target_store: target.open(!may_change, false).await?,
            source,
            target,
        })
    }

    /// One rule a collection that copies it as it is.
    ///
    /// # Errors
    /// There is no collection to copy, or only the target names one.
    pub async fn plain_rules(&self, plain: &Plain) -> Result<Vec<CopyRule>, Failure> {
        let collections = match (&self.source.collection, &self.target.collection) {
            (Some(one), _) => vec![one.clone()],
            (None, None) => self.source_store.collections().await?,
            (None, Some(_)) => {
                return Err(Failure::usage(
                    "the target names one collection, but the source names a whole store",
                )
                .next(format!(
                    "whimbrel inspect {}   (lists its collections)",
                    self.source.store
                )));
            }
        };
        if collections.is_empty() {
            return Err(Failure::usage(format!(
                "{} has no collections",
                self.source.store
            )));
        }
        let rule = |c| {
            plain_rule(
                Some(c),
                plain.read_as,
                plain.migrated_at.clone(),
                plain.source_id.clone(),
            )
        };
        Ok(collections.into_iter().map(rule).collect())
    }

    /// The job of one rule.
    ///
    /// # Errors
    /// Neither the rule nor the command names a collection, or both ends are the same.
    pub fn job(
        &self,
        project: &Project,
        rule: CopyRule,
        scratch: Option<Arc<dyn Store>>,
        options: JobOptions,
    ) -> Result<CopyJob, Failure> {
        let from = rule
            .collection
            .as_ref()
            .or(self.source.collection.as_ref())
            .ok_or_else(|| {
                Failure::usage(format!(
                    "rule {} does not say which collection it copies",
                    rule.name
                ))
                .next(format!(
                    "name it in the command: {}/COLLECTION",
                    self.source.store
                ))
            })?;
        let into = rule
            .into
            .as_ref()
            .or(self.target.collection.as_ref())
            .unwrap_or(from);
        if self.source.url == self.target.url && from == into {
            return Err(Failure::usage(format!(
                "rule {}: source and target are the same collection, {}/{from}",
                rule.name, self.source.store
            ))
            .not_done("nothing was begun and nothing was written")
            .next("whimbrel upgrade changes a collection in place"));
        }
        let schema = match rule.read_as {
            Some(_) => Some(schemas::load(
                from,
                &project.collection(&self.source.store, from),
            )?),
            None => None,
        };
        let place = |store: &Arc<dyn Store>, named: &Named, collection: &String| Place {
            store: Arc::clone(store),
            store_name: named.store.clone(),
            collection: collection.clone(),
        };
        Ok(CopyJob {
            source: place(&self.source_store, &self.source, from),
            target: place(&self.target_store, &self.target, into),
            schema,
            scratch,
            options,
            rule,
        })
    }
}

fn plain_rule(
    collection: Option<String>,
    read_as: Option<u32>,
    migrated_at: Option<String>,
    source_id: Option<String>,
) -> CopyRule {
    let spelt = |field: &Option<String>| serde_json::json!(field).to_string();
    let checksum = format!(
        "plain migrated_at={} source_id={}",
        spelt(&migrated_at),
        spelt(&source_id)
    );
    CopyRule {
        collection,
        read_as,
        migrated_at,
        source_id,
        checksum,
        ..CopyRule::plain("plain")
    }
}

/// A store for the order of groups, and for what a comparison notes of documents whose keys a transform may
/// change. Gone with this value.
pub struct Scratch {
    opened: Option<(Arc<dyn Store>, tempfile::TempDir)>,
}

impl Scratch {
    /// # Errors
    /// The temporary folder cannot be made or used.
    pub async fn for_rules(rules: &[CopyRule]) -> Result<Self, Failure> {
        let plain = |rule: &CopyRule| rule.group.is_none() && rule.transform.is_none();
        if rules.iter().all(plain) {
            return Ok(Self { opened: None });
        }
        Ok(Self::made().await?.0)
    }

    /// # Errors
    /// The temporary folder cannot be made or used.
    pub async fn made() -> Result<(Self, Arc<dyn Store>), Failure> {
        let dir = tempfile::tempdir().map_err(|e| Failure::io("making a temporary folder", &e))?;
        let url = format!("sqlite:{}", dir.path().join("scratch.db").display());
        let store = whimbrel_stores::open(&url, &whimbrel_stores::OpenOptions::default()).await?;
        let opened = Some((Arc::clone(&store), dir));
        Ok((Self { opened }, store))
    }

    #[must_use]
    pub fn store(&self) -> Option<Arc<dyn Store>> {
        self.opened.as_ref().map(|(store, _)| Arc::clone(store))
    }
}

/// The plain rule of a run that the ledger remembers.
#[must_use]
pub fn plain_again(parameters: &serde_json::Value) -> CopyRule {
    let read_as = parameters
        .get("read_as")
        .and_then(serde_json::Value::as_u64);
    let read_as = read_as.and_then(|n| u32::try_from(n).ok());
    let checksum = parameters
        .get("checksum")
        .and_then(|v| v.as_str())
        .unwrap_or_default();
    let field = |name: &str| {
        // The checksum of a plain rule spells its fields.
        let (_, rest) = checksum.split_once(&format!("{name}="))?;
        serde_json::Deserializer::from_str(rest)
            .into_iter::<Option<String>>()
            .next()?
            .ok()?
    };
    plain_rule(None, read_as, field("migrated_at"), field("source_id"))
}
