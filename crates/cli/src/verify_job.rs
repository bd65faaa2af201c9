//! Makes a verification ready: what the command line asks for, comparisons with their stores, checks with
//! their collections.

use crate::app::App;
use crate::commands::copy::{Ends, Scratch, chosen};
use crate::commands::verify::{Checking, Comparing, Verify, no_checks, run_args};
use crate::failure::Failure;
use crate::place::{self, Named, is_url, without_secret};
use crate::project::Project;
use crate::schemas::{self, shown};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use whimbrel_engine::{
    ChecksJob, ChecksOptions, Clock, CompareJob, PROVENANCE, Place, PreparedCheck, SystemClock,
};
use whimbrel_model::check::Check;
use whimbrel_model::finding::Comparison;
use whimbrel_model::rule::FieldPath;
use whimbrel_model::{Code, KeyRange, Store, Timestamp};
use whimbrel_transform::{LoadError, ScriptLimits};

/// What the command line asks for, read.
pub struct Asked {
    /// As messages call them: without a URL's secrets.
    pub ends: Option<(String, String)>,
    ignore: Vec<FieldPath>,
    tolerance: Vec<(FieldPath, f64)>,
    sample: Option<(f64, u64)>,
    since: Option<(FieldPath, Timestamp)>,
}

impl Asked {
    /// # Errors
    /// A flag's value cannot be read.
    pub fn read(_project: &Project, args: &Verify) -> Result<Self, Failure> {
        let how = &args.how;
        let ends = args.source.as_ref().zip(args.target.as_ref());
        Ok(Self {
            ends: ends.map(|(source, target)| (open_name(source), open_name(target))),
            ignore: each(&how.ignore, |text| path("--ignore", text))?,
            tolerance: each(&how.tolerance, tolerance)?,
            sample: how
                .sample
                .as_deref()
                .map(|text| share(text).map(|share| (share, seed(how))))
                .transpose()?,
            since: how.since.as_deref().map(since).transpose()?,
        })
    }

    /// The command that would look at the same again, without what it writes.
    #[must_use]
    pub fn again(&self, args: &Verify) -> String {
        let mut words = vec!["whimbrel verify".to_owned()];
        if let Some((source, target)) = &self.ends {
            words.extend([quoted(source), quoted(target)]);
        }
        let how = &args.how;
        let mut flag = |name: &str, value: &str| words.push(format!("{name} {}", quoted(value)));
        if let Some(rules) = &how.rules {
            flag("--rules", &rules.display().to_string());
        }
        how.rule.iter().for_each(|rule| flag("--rule", rule));
        how.ignore.iter().for_each(|field| flag("--ignore", field));
        how.tolerance
            .iter()
            .for_each(|given| flag("--tolerance", given));
        if let Some(n) = how.read_as {
            flag("--as", &n.to_string());
        }
        for (name, field) in [
            ("--migrated-at", &how.migrated_at),
            ("--source-id", &how.source_id),
        ] {
            words.extend(field.iter().map(|f| format!("{name}={}", quoted(f))));
        }
        words.join(" ")
    }
}

fn open_name(text: &str) -> String {
    if is_url(text) {
        let (url, collection) = text.rsplit_once('#').unwrap_or((text, ""));
        let gap = if collection.is_empty() { "" } else { "#" };
        format!("{}{gap}{collection}", without_secret(url))
    } else {
        text.to_owned()
    }
}

/// As a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./:@#=+,%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn each<T>(texts: &[String], read: impl Fn(&str) -> Result<T, Failure>) -> Result<Vec<T>, Failure> {
    texts.iter().map(|text| read(text)).collect()
}

fn path(flag: &str, text: &str) -> Result<FieldPath, Failure> {
    FieldPath::parse(text)
        .ok_or_else(|| Failure::usage(format!("{flag}: {text:?} names no field (like plan.total)")))
}

fn tolerance(text: &str) -> Result<(FieldPath, f64), Failure> {
    let wrong = || {
        Failure::usage(format!(
            "--tolerance: {text:?} is not FIELD=N (like total=0.01)"
        ))
    };
    let (field, most) = text.rsplit_once('=').ok_or_else(wrong)?;
    let most: f64 = most.parse().map_err(|_| wrong())?;
    if !(most >= 0.0 && most.is_finite()) {
        return Err(wrong());
    }
    Ok((path("--tolerance", field)?, most))
}

/// `1%` or `0.01`.
fn share(text: &str) -> Result<f64, Failure> {
    let wrong = || {
        Failure::usage(format!(
            "--sample: {text:?} is no share of the documents: more than 0%, at most 100%"
        ))
    };
    let (number, scale) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    let share = number.trim().parse::<f64>().map_err(|_| wrong())? / scale;
    if share > 0.0 && share <= 1.0 {
        Ok(share)
    } else {
        Err(wrong())
    }
}

/// The one given, or one of the moment: nightly samples see other documents every night.
fn seed(how: &Comparing) -> u64 {
    let now = SystemClock.now().millis_floor();
    how.seed
        .unwrap_or(u64::try_from(now).unwrap_or_default() % 1_000_000)
}

fn since(text: &str) -> Result<(FieldPath, Timestamp), Failure> {
    let wrong = || {
        Failure::usage(format!(
            "--since: {text:?} is not FIELD=INSTANT (like updatedAt=2026-01-31T08:00:00Z)"
        ))
    };
    let (field, instant) = text.rsplit_once('=').ok_or_else(wrong)?;
    let at = Timestamp::parse(instant)
        .or_else(|| Timestamp::parse(&format!("{instant}T00:00:00Z")))
        .ok_or_else(wrong)?;
    Ok((path("--since", field)?, at))
}

/// Comparisons made ready.
pub struct Jobs {
    pub jobs: Vec<CompareJob>,
    /// Where whole stores are compared: collections that hold documents, and that the source does not have.
    pub only_in_target: Vec<Comparison>,
    /// Kept until they have ended.
    _scratch: Option<Scratch>,
}

/// # Errors
/// A store cannot be opened, or a rule is not valid.
pub async fn comparisons(
    app: &App,
    project: &Project,
    asked: &Asked,
    args: &Verify,
) -> Result<Jobs, Failure> {
    let (Some(source), Some(target)) = (&args.source, &args.target) else {
        return Ok(Jobs {
            jobs: Vec::new(),
            only_in_target: Vec::new(),
            _scratch: None,
        });
    };
    let options = app.job_options(&run_args(args), project)?;
    let writes = args.repair && !args.dry_run;
    let ends = Ends::look(project, source, target, writes).await?;
    let rules = match &args.how.rules {
        Some(file) => chosen(schemas::rules(file)?, &args.how.rule)?,
        None => ends.plain_rules(&args.how.plain()).await?,
    };
    let (scratch, store) = Scratch::made().await?;
    let mut jobs = Vec::new();
    for rule in rules {
        let mut copy = ends.job(project, rule, None, options.clone())?;
        // Also where no documents are grouped: keys may change, and stores may walk them in other orders.
        copy.scratch = Some(Arc::clone(&store));
        jobs.push(CompareJob {
            ignore: asked.ignore.clone(),
            tolerance: asked.tolerance.clone(),
            sample: asked.sample,
            since: asked.since.clone(),
            ..CompareJob::of(copy)
        });
    }
    let only_in_target = match (&args.how.rules, jobs.as_slice()) {
        (None, [_, ..]) => only_in_target(&ends, &jobs).await?,
        _ => Vec::new(),
    };
    Ok(Jobs {
        jobs,
        only_in_target,
        _scratch: Some(scratch),
    })
}

/// What nobody compares, because the source has no such collection. Its documents are counted, not listed.
async fn only_in_target(ends: &Ends, jobs: &[CompareJob]) -> Result<Vec<Comparison>, Failure> {
    let mut found = Vec::new();
    let (None, Some(job)) = (&ends.source.collection, jobs.first()) else {
        return Ok(found);
    };
    for collection in ends.target_store.collections().await? {
        let compared = jobs.iter().any(|j| j.copy.target.collection == collection);
        if compared || collection == PROVENANCE {
            continue;
        }
        let all = KeyRange::all();
        let documents = ends.target_store.count(&collection, &all).await?;
        if documents == 0 {
            continue;
        }
        let there = |place: &Place| Place {
            collection: collection.clone(),
            ..place.clone()
        };
        found.push(Comparison {
            title: format!("{collection} is only in the target"),
            source: there(&job.copy.source).to_string(),
            target: there(&job.copy.target).to_string(),
            target_documents: documents,
            extra: documents,
            ..Comparison::default()
        });
    }
    Ok(found)
}

/// The checks to do.
pub struct Chosen {
    pub checks: Vec<Check>,
    scratch: Option<Scratch>,
}

impl Chosen {
    #[must_use]
    pub fn none() -> Self {
        Self {
            checks: Vec::new(),
            scratch: None,
        }
    }

    /// # Errors
    /// The scratch store or the ledger cannot be used. What is wrong with a single check's collection is that
    /// check's result.
    pub async fn job(
        &mut self,
        app: &App,
        project: &Project,
        parallel: Option<u32>,
    ) -> Result<ChecksJob, Failure> {
        let (scratch, store) = Scratch::made().await?;
        let mut options = ChecksOptions::new(store);
        self.scratch = Some(scratch);
        options.parallel = parallel.or(project.run.parallel);
        options.patience = Duration::from_secs(60);
        options.show_values = app.screen.show_values;
        options.project = project.dir.clone();
        if let Some(ledger) = app.ledger_to_read(project).await? {
            options.baselines = ledger.state().baselines.clone();
        }
        let mut opened = Opened::default();
        let mut checks = Vec::new();
        for check in &self.checks {
            checks.push(prepared(check, project, &mut opened).await);
        }
        Ok(ChecksJob { checks, options })
    }
}

/// The project's checks, or those of the files that are asked for, as far as they are asked for.
///
/// # Errors
/// A file is not valid, a name is unknown, or there is nothing to do.
pub async fn checks(project: &Project, asked: &Checking) -> Result<Chosen, Failure> {
    let mut checks = read(project, &asked.checks)?;
    if checks.is_empty() {
        return Err(no_checks(project));
    }
    let known: Vec<String> = checks.iter().map(|check| check.name.clone()).collect();
    if let Some(unknown) = asked.check.iter().find(|name| !known.contains(name)) {
        let names: Vec<&str> = known.iter().map(String::as_str).collect();
        let failure = Failure::usage(format!(
            "no check is called \"{unknown}\" (there are: {})",
            known.join(", ")
        ));
        return Err(match crate::project::nearest(unknown, &names) {
            Some(near) => failure.next(format!("did you mean \"{near}\"?")),
            None => failure,
        });
    }
    checks.retain(|check| asked.check.is_empty() || asked.check.contains(&check.name));
    if !asked.collection.is_empty() {
        let mut wanted = Vec::new();
        for text in &asked.collection {
            wanted.push(whole_name(project, text)?);
        }
        let about = |name: Option<&str>| {
            let name = name.and_then(|name| whole_name(project, name).ok());
            name.is_some_and(|name| wanted.contains(&name))
        };
        checks.retain(|check| about(check.collection.as_deref()) || about(check.other()));
        if checks.is_empty() {
            return Err(Failure::usage(format!(
                "no check is about {}",
                asked.collection.join(" or ")
            )));
        }
    }
    Ok(Chosen {
        checks,
        scratch: None,
    })
}

/// Checks of these files; of the project's folder where there are none.
///
/// # Errors
/// Everything that is wrong with any of them.
pub fn read(project: &Project, files: &[PathBuf]) -> Result<Vec<Check>, Failure> {
    let limits = ScriptLimits::default();
    if files.is_empty() {
        let folder = shown(&project.checks);
        return whimbrel_transform::load_checks(Path::new(&folder), limits)
            .map_err(|errors| schemas::failure(&errors));
    }
    let mut all: Vec<Check> = Vec::new();
    let mut errors = Vec::new();
    for file in files {
        let name = shown(file);
        let found = std::fs::read_to_string(file)
            .map_err(|error| {
                let message = format!("the file cannot be read: {error}");
                vec![LoadError::new(Code::CheckInvalid, name.as_str(), message)]
            })
            .and_then(|text| {
                let folder = file.parent().unwrap_or(Path::new(""));
                whimbrel_transform::parse_checks(&name, &text, folder, limits)
            });
        match found {
            Ok(found) => {
                for check in found {
                    if all.iter().any(|other| other.name == check.name) {
                        let message = format!(
                            "another file has a check called {:?} too; results are told apart by name",
                            check.name
                        );
                        errors.push(LoadError::new(Code::CheckInvalid, name.as_str(), message));
                    }
                    all.push(check);
                }
            }
            Err(found) => errors.extend(found),
        }
    }
    match errors.is_empty() {
        true => Ok(all),
        false => Err(schemas::failure(&errors)),
    }
}

/// `store/collection`
fn whole_name(project: &Project, text: &str) -> Result<String, Failure> {
    let (named, _) = place::parse_collection(text, project)?;
    let collection = named.collection.unwrap_or_default();
    Ok(format!("{}/{collection}", named.store))
}

/// What a check's names mean.
struct NamedPlaces {
    pub own: Option<Named>,
    pub other: Option<Named>,
    pub store: Option<Named>,
}

/// # Errors
/// The project has no such store or collection.
fn named(check: &Check, project: &Project) -> Result<NamedPlaces, Failure> {
    let collection = |name: &str| place::parse_collection(name, project).map(|(named, _)| named);
    Ok(NamedPlaces {
        own: check.collection.as_deref().map(collection).transpose()?,
        other: check.other().map(collection).transpose()?,
        store: check
            .store()
            .map(|name| place::parse(name, project))
            .transpose()?,
    })
}

fn unopened(check: &Check) -> PreparedCheck {
    PreparedCheck {
        check: check.clone(),
        place: None,
        other: None,
        store: None,
        unready: None,
    }
}

/// Why a check cannot be done.
fn unready(failure: Failure) -> (Code, String) {
    let code = failure.code.unwrap_or(Code::CheckImpossible);
    (code, failure.message)
}

/// Stores opened once each, for reading only.
#[derive(Default)]
struct Opened {
    stores: BTreeMap<String, Arc<dyn Store>>,
}

/// Opens what checks name. Each opener keeps what it opened, by its own rules.
pub trait Opens {
    /// # Errors
    /// The store cannot be opened.
    async fn opened(&mut self, named: &Named) -> Result<Arc<dyn Store>, Failure>;
}

impl Opens for Opened {
    async fn opened(&mut self, named: &Named) -> Result<Arc<dyn Store>, Failure> {
        if let Some(store) = self.stores.get(&named.store) {
            return Ok(Arc::clone(store));
        }
        let store = named.open(true, false).await?;
        self.stores.insert(named.store.clone(), Arc::clone(&store));
        Ok(store)
    }
}

/// A check with what it names opened; what cannot be opened is said by the check's result.
pub async fn prepared(check: &Check, project: &Project, by: &mut impl Opens) -> PreparedCheck {
    let mut prepared = unopened(check);
    if let Err(failure) = open(&mut prepared, project, by).await {
        prepared.unready = Some(unready(failure));
    }
    prepared
}

async fn open(
    prepared: &mut PreparedCheck,
    project: &Project,
    by: &mut impl Opens,
) -> Result<(), Failure> {
    let named = named(&prepared.check, project)?;
    if let Some(own) = named.own {
        prepared.place = Some(place(own, by).await?);
    }
    if let Some(other) = named.other {
        prepared.other = Some(place(other, by).await?);
    }
    if let Some(store) = named.store {
        prepared.store = Some(by.opened(&store).await?);
    }
    Ok(())
}

async fn place(named: Named, by: &mut impl Opens) -> Result<Place, Failure> {
    Ok(Place {
        store: by.opened(&named).await?,
        store_name: named.store,
        collection: named.collection.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read() {
        for (text, expect) in [
            ("1%", Some(0.01)),
            ("0.5", Some(0.5)),
            ("100 %", Some(1.0)),
            ("0%", None),
            ("101%", None),
            ("NaN", None),
            ("some", None),
        ] {
            assert_eq!(share(text).ok(), expect, "{text}");
        }
        for (text, fits) in [
            ("total=0.01", true),
            ("a.b=0", true),
            ("total", false),
            ("total=-1", false),
            ("total=NaN", false),
            ("=1", false),
        ] {
            assert_eq!(tolerance(text).is_ok(), fits, "{text}");
        }
        for (text, fits) in [
            ("updatedAt=2026-01-31T08:00:00Z", true),
            ("updatedAt=2026-01-31", true),
            ("updatedAt=yesterday", false),
            ("2026-01-31", false),
        ] {
            assert_eq!(since(text).is_ok(), fits, "{text}");
        }
    }

    #[test]
    fn commands_hold_no_secret_and_can_be_typed() {
        for (text, expect) in [
            ("postgres://me:pw@h/db?password=x#a", "postgres://me@h/db#a"),
            ("app/users", "app/users"),
        ] {
            assert_eq!(open_name(text), expect);
        }
        for (word, expect) in [
            ("a b", "'a b'"),
            ("it's", "'it'\\''s'"),
            ("app/users", "app/users"),
        ] {
            assert_eq!(quoted(word), expect);
        }
    }
}
