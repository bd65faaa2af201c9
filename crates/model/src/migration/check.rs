//! What is wrong with a row of migrations before anything runs.

use super::{Migration, Phase, Step, StepKind, VerifyStep};
use std::collections::{BTreeMap, BTreeSet};

/// Something that cannot be meant, with the place in its file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{migration}, line {line}: {message}")]
pub struct PlanError {
    pub migration: String,
    pub line: u32,
    pub message: String,
}

/// What a step takes a name for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// A collection of the project, or `store/collection`.
    Collection,
    /// The same, or `store/*`.
    Collections,
    /// What a copy reads: a collection, or a whole store.
    Source,
    /// What a copy writes: `store/collection`, or a store.
    Target,
    Store,
}

/// Says what a name means in the project, always in the same words (`store/collection`, `store/*`,
/// `store`), so that two names of one thing are seen to be the same; or why it means nothing.
pub type Resolve<'r> = &'r dyn Fn(&str, Means) -> Result<String, String>;

/// [`check_named`] where nothing is known of the project: each name stands for itself.
#[must_use]
pub fn check(migrations: &mut [Migration]) -> Vec<PlanError> {
    check_named(migrations, &as_written)
}

/// Looks at all migrations of a project in the order of their numbers, fills in what a step's inverse
/// needs to know of those before it, and returns everything that is wrong.
#[must_use]
pub fn check_named(migrations: &mut [Migration], resolve: Resolve<'_>) -> Vec<PlanError> {
    migrations.sort_by(|a, b| (a.number, &a.id).cmp(&(b.number, &b.id)));
    let mut row = Row {
        resolve,
        versions: BTreeMap::new(),
        loose: BTreeSet::new(),
        phases: BTreeMap::new(),
    };
    let mut errors = Vec::new();
    for migration in migrations {
        let mut found = alone(migration, resolve);
        for step in &mut migration.steps {
            if let Err(message) = row.step(step) {
                found.push(error(&migration.id, step.line, said(step, &message)));
            }
        }
        found.sort_by_key(|error| error.line);
        errors.extend(found);
    }
    errors
}

/// What is wrong with each migration, whatever the others say.
#[must_use]
pub fn check_each(migrations: &[Migration]) -> Vec<PlanError> {
    let each = migrations.iter();
    each.flat_map(|migration| alone(migration, &as_written))
        .collect()
}

/// The steps that cannot be taken back, to be shown before anything runs.
#[must_use]
pub fn points_of_no_return(migration: &Migration) -> Vec<&Step> {
    let steps = migration.steps.iter();
    steps.filter(|step| step.kind.inverse().is_none()).collect()
}

#[allow(clippy::unnecessary_wraps)]
fn as_written(name: &str, _: Means) -> Result<String, String> {
    Ok(name.to_owned())
}

fn error(migration: &str, line: u32, message: String) -> PlanError {
    PlanError {
        migration: migration.to_owned(),
        line,
        message,
    }
}

fn said(step: &Step, message: &str) -> String {
    format!("step \"{}\": {message}", step.name)
}

/// How messages call a step that is not the one they are about.
fn other(step: &Step) -> String {
    format!("step \"{}\" (line {})", step.name, step.line)
}

fn alone(migration: &Migration, resolve: Resolve<'_>) -> Vec<PlanError> {
    let mut errors = Vec::new();
    let steps = &migration.steps;
    if steps.is_empty() {
        let message = "there are no steps; add a [[step]]".to_owned();
        errors.push(error(&migration.id, 1, message));
    }
    for (i, step) in steps.iter().enumerate() {
        let before = &steps[..i];
        let mut found = names(step, resolve);
        found.extend(twin(step, before));
        // Names that mean nothing cannot be compared.
        if found.is_empty() {
            found.extend(late_backup(step, before, resolve));
            found.extend(same_ends(step, resolve));
            found.extend(let_go(step, before, resolve));
        }
        if i + 1 == steps.len() && matches!(step.kind, StepKind::Approve(_)) {
            found.push(
                "nothing waits for the go-ahead, because it is the last step; put it in front of the step \
                 that needs it"
                    .to_owned(),
            );
        }
        let found = found.iter().map(|message| said(step, message));
        errors.extend(found.map(|message| error(&migration.id, step.line, message)));
    }
    errors
}

fn twin(step: &Step, before: &[Step]) -> Option<String> {
    let twin = before.iter().find(|other| other.name == step.name)?;
    Some(format!(
        "a step of this name stands in line {} already; give each its own",
        twin.line
    ))
}

/// Every name that the step uses, with what it takes it for.
fn uses(step: &Step) -> Vec<(&str, Means)> {
    match &step.kind {
        StepKind::Backup(backup) => {
            let names = backup.collections.iter();
            names
                .map(|name| (name.as_str(), Means::Collections))
                .collect()
        }
        StepKind::Upgrade(upgrade) => vec![(&upgrade.collection, Means::Collection)],
        StepKind::Copy(copy) => vec![(&copy.source, Means::Source), (&copy.target, Means::Target)],
        StepKind::Verify(VerifyStep::Upgraded { collection, .. }) => {
            vec![(collection, Means::Collection)]
        }
        StepKind::Verify(VerifyStep::Copied { source, target, .. }) => {
            vec![(source, Means::Source), (target, Means::Target)]
        }
        // What checks are about is theirs to name.
        StepKind::Verify(VerifyStep::Checked { .. }) => Vec::new(),
        StepKind::Phase(phase) => vec![(&phase.collection, Means::Collection)],
        StepKind::Run(run) => [
            Some(&run.forward),
            run.backward.as_ref(),
            run.validate.as_ref(),
        ]
        .into_iter()
        .flatten()
        .filter_map(|action| match action {
            super::Action::Sql { store, .. } => Some((store.as_str(), Means::Store)),
            super::Action::Command { .. } => None,
        })
        .collect(),
        StepKind::Approve(_) => Vec::new(),
    }
}

fn names(step: &Step, resolve: Resolve<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, means) in uses(step) {
        let message = shape(name, means).and_then(|()| resolve(name, means).map(|_| ()));
        if let Err(message) = message
            && !found.contains(&message)
        {
            found.push(message);
        }
    }
    found
}

/// Whether the text could be such a name at all.
fn shape(name: &str, means: Means) -> Result<(), String> {
    let wanted = match means {
        Means::Collection => "a collection of the project, or store/collection",
        Means::Collections => "a collection of the project, store/collection or store/*",
        Means::Source => "a collection of the project, store/collection, or a whole store",
        Means::Target => "store/collection, or a whole store",
        Means::Store => "a store of the project",
    };
    let scheme = name.split(['/', '*']).next().unwrap_or_default();
    if scheme.contains(':') {
        // The URL may hold a secret, and is not repeated.
        return Err(format!(
            "a URL stands where a name is needed; give its store a name in whimbrel.toml, then write {wanted}"
        ));
    }
    let parts = name.split_once('/');
    let whole = means == Means::Collections && parts.is_some_and(|(_, rest)| rest == "*");
    let blank = name.trim() != name || name.chars().any(char::is_control);
    let hollow = name.is_empty() || parts.is_some_and(|(a, b)| a.is_empty() || b.is_empty());
    let starred = name.contains('*') && !whole;
    let deep = means == Means::Store && parts.is_some();
    if blank || hollow || starred || deep {
        return Err(format!("{name:?} is no such name: write {wanted}"));
    }
    Ok(())
}

/// What the step changes in collections, by resolved name. What a `run` step changes is not known.
fn written(step: &Step, resolve: Resolve<'_>) -> Option<String> {
    match &step.kind {
        StepKind::Upgrade(upgrade) => resolve(&upgrade.collection, Means::Collection).ok(),
        StepKind::Copy(copy) => resolve(&copy.target, Means::Target).ok(),
        _ => None,
    }
}

/// Whether the second resolved name lies within the first. A store alone, or `store/*`, is all of it.
fn within(all: &str, one: &str) -> bool {
    let whole = |name: &str| name.strip_suffix("/*").unwrap_or(name).to_owned();
    let (all, one) = (whole(all), whole(one));
    let rest = one.strip_prefix(&all);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A backup behind the first step that writes what it saves does not save the state before. It may stand
/// there where an earlier backup did.
fn late_backup(step: &Step, before: &[Step], resolve: Resolve<'_>) -> Option<String> {
    let StepKind::Backup(backup) = &step.kind else {
        return None;
    };
    for name in &backup.collections {
        let saved = resolve(name, Means::Collections).ok()?;
        let lost = before.iter().enumerate().find(|(i, earlier)| {
            written(earlier, resolve).is_some_and(|written| {
                (within(&written, &saved) || within(&saved, &written))
                    && !before[..*i].iter().any(|b| saves(b, &written, resolve))
            })
        });
        if let Some((_, earlier)) = lost {
            return Some(format!(
                "{name} is no longer what it was when this backup is made, because {} has written to it, and \
                 no backup was made before; put the backup in front of that step",
                other(earlier)
            ));
        }
    }
    None
}

/// Whether the step is a backup of all that the resolved name means.
fn saves(step: &Step, name: &str, resolve: Resolve<'_>) -> bool {
    let StepKind::Backup(backup) = &step.kind else {
        return false;
    };
    backup
        .collections
        .iter()
        .any(|saved| resolve(saved, Means::Collections).is_ok_and(|saved| within(&saved, name)))
}

fn same_ends(step: &Step, resolve: Resolve<'_>) -> Option<String> {
    let (source, target, rules) = match &step.kind {
        StepKind::Copy(copy) => (&copy.source, &copy.target, &copy.rules),
        StepKind::Verify(VerifyStep::Copied {
            source,
            target,
            rules,
        }) => (source, target, rules),
        _ => return None,
    };
    let same = resolve(source, Means::Source).ok()? == resolve(target, Means::Target).ok()?;
    // Rules may take each document to another collection of the same store.
    (same && rules.is_none()).then(|| {
        format!(
            "source and target are the same, {source}; an upgrade changes a collection in place"
        )
    })
}

/// Once a collection is `complete`, its source is nobody's truth and no way leads back.
fn let_go(step: &Step, before: &[Step], resolve: Resolve<'_>) -> Option<String> {
    let (name, means) = match &step.kind {
        StepKind::Upgrade(upgrade) => (&upgrade.collection, Means::Collection),
        StepKind::Copy(copy) => (&copy.source, Means::Source),
        StepKind::Verify(VerifyStep::Copied { source, .. }) => (source, Means::Source),
        _ => return None,
    };
    let used = resolve(name, means).ok()?;
    let end = before.iter().find(|earlier| match &earlier.kind {
        StepKind::Phase(phase) if phase.to == Phase::Complete => {
            resolve(&phase.collection, Means::Collection).is_ok_and(|gone| gone == used)
        }
        _ => false,
    })?;
    Some(format!(
        "{name} is let go by {}: with phase complete it is no longer kept up to date, and there is no way \
         back; put this step in front of that one",
        other(end)
    ))
}

/// What the migrations leave, one after the other.
struct Row<'r> {
    resolve: Resolve<'r>,
    /// By resolved name. `None`: a copy brought documents whose version is not known here.
    versions: BTreeMap<String, Option<u32>>,
    /// Stores into which a copy may have brought any collection.
    loose: BTreeSet<String>,
    phases: BTreeMap<String, Phase>,
}

impl Row<'_> {
    fn step(&mut self, step: &mut Step) -> Result<(), String> {
        match &mut step.kind {
            StepKind::Upgrade(upgrade) => {
                let collection = self.resolved(&upgrade.collection, Means::Collection);
                let before = self.version(&collection);
                self.versions.insert(collection, Some(upgrade.to));
                let said = upgrade.from;
                let from = *upgrade.from.get_or_insert(before.flatten().unwrap_or(1));
                judge_upgrade(
                    &upgrade.collection,
                    said,
                    from,
                    upgrade.to,
                    before.flatten(),
                )
            }
            StepKind::Copy(copy) => {
                let source = self.resolved(&copy.source, Means::Source);
                let target = self.resolved(&copy.target, Means::Target);
                self.copied(&source, target, copy.rules.is_some());
                Ok(())
            }
            StepKind::Verify(VerifyStep::Upgraded {
                collection,
                version,
            }) => {
                let resolved = self.resolved(collection, Means::Collection);
                judge_verify(collection, *version, self.version(&resolved))
            }
            StepKind::Phase(phase) => {
                let collection = self.resolved(&phase.collection, Means::Collection);
                let from = self.phases.insert(collection, phase.to).unwrap_or_default();
                if from == phase.to {
                    return Err(format!("{} is {from} already", phase.collection));
                }
                let possible = from.may_become(phase.to);
                possible.map_err(|error| format!("{}: {error}", phase.collection))?;
                // Its undo goes from here to where it came from, which must be possible too.
                if phase.to != Phase::Complete && phase.to.may_become(from).is_err() {
                    return Err(format!(
                        "{}: from {from} to {} there would be no way back; go one phase back at a time",
                        phase.collection, phase.to
                    ));
                }
                Ok(())
            }
            StepKind::Backup(_)
            | StepKind::Verify(VerifyStep::Copied { .. } | VerifyStep::Checked { .. })
            | StepKind::Run(_)
            | StepKind::Approve(_) => Ok(()),
        }
    }

    fn resolved(&self, name: &str, means: Means) -> String {
        (self.resolve)(name, means).unwrap_or_else(|_| name.to_owned())
    }

    /// `None` where no step has touched the collection.
    fn version(&self, collection: &str) -> Option<Option<u32>> {
        let store = collection.split('/').next().unwrap_or_default();
        let known = self.versions.get(collection).copied();
        known.or_else(|| self.loose.contains(store).then_some(None))
    }

    fn copied(&mut self, source: &str, target: String, rules: bool) {
        let store = target.split('/').next().unwrap_or_default().to_owned();
        if rules || store == target {
            self.loose.insert(store);
        }
        // Documents that are copied as they are keep their version.
        let version = self.version(source).flatten().filter(|_| !rules);
        let before = self.versions.get(&target).copied();
        let mixed = before.is_some_and(|before| before != version);
        self.versions.insert(target, version.filter(|_| !mixed));
    }
}

fn judge_upgrade(
    collection: &str,
    said: Option<u32>,
    from: u32,
    to: u32,
    before: Option<u32>,
) -> Result<(), String> {
    match (said, before) {
        (Some(said), _) if said > to => Ok(()),
        (Some(said), _) if said == to => Err(format!("it goes from version {to} to version {to}")),
        (_, Some(before)) if to <= before => Err(format!(
            "the steps before leave {collection} at version {before}, so there is nothing to upgrade to \
             version {to}; to go down on purpose, add from = {}",
            before.max(to + 1)
        )),
        (_, None) if to <= from => Err(format!(
            "a collection begins at version 1, so there is nothing to upgrade to version {to}; to go down on \
             purpose, say from which version: from = 2"
        )),
        _ => Ok(()),
    }
}

fn judge_verify(collection: &str, version: u32, before: Option<Option<u32>>) -> Result<(), String> {
    match before {
        Some(Some(left)) if left != version => Err(format!(
            "the steps before leave {collection} at version {left}, not {version}; verify version {left}, or \
             upgrade it first"
        )),
        None if version > 1 => Err(format!(
            "no step before it brings {collection} to version {version}; put the upgrade in front of it"
        )),
        _ => Ok(()),
    }
}
