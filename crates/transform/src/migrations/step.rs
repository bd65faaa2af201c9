//! The steps of a migration file.

use super::abort::command;
use super::units;
use crate::table::Table;
use std::collections::BTreeMap;
use std::time::Duration;
use whimbrel_model::migration::{
    Action, ApproveStep, BackupStep, CopyStep, Phase, PhaseStep, RunStep, Step, StepKind,
    UpgradeStep, VerifyStep,
};

const KINDS: [&str; 7] = [
    "backup", "upgrade", "copy", "verify", "phase", "run", "approve",
];

/// What a step is given where it does not say otherwise.
pub(super) struct Defaults {
    pub retries: u32,
    pub timeout: Option<Duration>,
}

/// One `[[step]]`, which begins at `line`.
pub(super) fn read(table: &Table<'_, '_>, defaults: &Defaults, line: u32) -> Option<Step> {
    let word = kind_word(table)?;
    let name = table.need_text(word);
    if let Some(name) = name {
        judge_name(table, word, name);
    }
    let estimate = units::duration(table, "estimate");
    let timeout = units::duration(table, "timeout").or(defaults.timeout);
    let retries = retries(table).unwrap_or(defaults.retries);
    let kind = match word {
        "backup" => backup(table).map(StepKind::Backup),
        "upgrade" => upgrade(table).map(StepKind::Upgrade),
        "copy" => copy(table).map(StepKind::Copy),
        "verify" => verify(table).map(StepKind::Verify),
        "phase" => phase(table).map(StepKind::Phase),
        "run" => run(table).map(StepKind::Run),
        _ => approve(table).map(StepKind::Approve),
    };
    table.finish();
    Some(Step {
        name: name?.to_owned(),
        kind: kind?,
        estimate,
        timeout,
        retries,
        line,
    })
}

fn kind_word(table: &Table<'_, '_>) -> Option<&'static str> {
    let words: Vec<&'static str> = KINDS.into_iter().filter(|word| table.has(word)).collect();
    match words[..] {
        [word] => return Some(word),
        [] => table.error(
            "",
            format!(
                "a step begins with its kind and its name, like upgrade = \"reshape\"; kinds are {}",
                KINDS.join(", ")
            ),
        ),
        [first, second, ..] => table.error(
            second,
            format!(
                "a step is of one kind; this one is {first} and {second}: make two steps of it"
            ),
        ),
    }
    None
}

fn judge_name(table: &Table<'_, '_>, word: &'static str, name: &str) {
    // It becomes part of an archive's path, and of what people type.
    let usable = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || name.len() > 60 || !name.chars().all(usable) {
        let message =
            format!("{name:?} cannot name a step: use letters, digits, _ and -, at most 60");
        table.error(word, message);
    }
}

/// How often a transient error is met by another try.
pub(super) fn retries(table: &Table<'_, '_>) -> Option<u32> {
    let retries = table.number("retries")?;
    if retries > 100 {
        table.error("retries", "\"retries\" is from 0 to 100");
    }
    Some(retries)
}

fn owned(table: &Table<'_, '_>, key: &'static str) -> Option<String> {
    let text = table.text(key)?;
    if text.trim().is_empty() {
        table.error(key, format!("{key:?} is empty"));
    }
    Some(text.to_owned())
}

fn need(table: &Table<'_, '_>, key: &'static str) -> Option<String> {
    table.need_text(key)?;
    owned(table, key)
}

/// A list of texts, each with something in it.
fn list(table: &Table<'_, '_>, key: &'static str) -> Option<Vec<String>> {
    let texts = table.texts(key)?;
    if texts.is_empty() {
        table.error(key, format!("{key:?} is an empty list"));
    }
    let mut found = Vec::with_capacity(texts.len());
    for (span, text) in texts {
        if text.trim().is_empty() {
            let message = format!("{key:?} holds an empty text");
            table.source.error(span, message);
        }
        found.push(text.to_owned());
    }
    Some(found)
}

fn need_version(table: &Table<'_, '_>, key: &'static str) -> Option<u32> {
    if !table.has(key) {
        // Asked for all the same, so that it is listed among the known keys.
        let _ = table.raw(key);
        table.error("", format!("{key:?} is missing"));
    }
    version(table, key)
}

fn version(table: &Table<'_, '_>, key: &'static str) -> Option<u32> {
    let version = table.number(key)?;
    if version == 0 {
        table.error(key, "schema versions are numbered from 1 on");
        return None;
    }
    Some(version)
}

fn backup(table: &Table<'_, '_>) -> Option<BackupStep> {
    if !table.has("collections") {
        table.error("", "\"collections\" is missing: what the backup is to hold");
    }
    let collections = list(table, "collections");
    let to = need(table, "to");
    let recipients = list(table, "recipients").unwrap_or_default();
    if recipients.iter().any(|key| !key.starts_with("age1")) {
        let message = "\"recipients\" are age's public keys, which begin with age1";
        table.error("recipients", message);
    }
    let sign = owned(table, "sign");
    Some(BackupStep {
        collections: collections?,
        to: to?,
        recipients,
        sign,
    })
}

fn upgrade(table: &Table<'_, '_>) -> Option<UpgradeStep> {
    let collection = need(table, "collection");
    let (to, from) = (need_version(table, "to"), version(table, "from"));
    Some(UpgradeStep {
        collection: collection?,
        to: to?,
        from,
    })
}

fn copy(table: &Table<'_, '_>) -> Option<CopyStep> {
    let (source, target) = (need(table, "source"), need(table, "target"));
    let rules = owned(table, "rules");
    let skip_existing = table.flag("skip_existing").unwrap_or(false);
    Some(CopyStep {
        source: source?,
        target: target?,
        rules,
        skip_existing,
    })
}

fn verify(table: &Table<'_, '_>) -> Option<VerifyStep> {
    let upgraded = table.has("collection") || table.has("version");
    let copied = table.has("source") || table.has("target") || table.has("rules");
    let checked = table.has("checks") || table.has("warnings");
    match (upgraded, copied, checked) {
        (true, false, false) => {
            let collection = need(table, "collection");
            let version = need_version(table, "version");
            Some(VerifyStep::Upgraded {
                collection: collection?,
                version: version?,
            })
        }
        (false, true, false) => {
            let (source, target) = (need(table, "source"), need(table, "target"));
            let rules = owned(table, "rules");
            Some(VerifyStep::Copied {
                source: source?,
                target: target?,
                rules,
            })
        }
        (false, false, true) => checks(table),
        _ => {
            for key in [
                "collection",
                "version",
                "source",
                "target",
                "rules",
                "checks",
                "warnings",
            ] {
                let _ = table.raw(key);
            }
            table.error(
                "",
                "a verify step says either collection and version, or source and target (and rules), or checks: \
                 make a step of each",
            );
            None
        }
    }
}

/// `checks = true` for all of the project's, or a list of files; `warnings = "fail"` or `"pass"`.
fn checks(table: &Table<'_, '_>) -> Option<VerifyStep> {
    let all = table.raw("checks").map(|raw| raw.get_ref().as_bool());
    let files = match all {
        Some(Some(true)) => Some(Vec::new()),
        Some(Some(false)) => {
            table.error(
                "checks",
                "\"checks\" is true (all of them) or a list of files",
            );
            None
        }
        Some(None) => list(table, "checks"),
        None => {
            table.error(
                "",
                "\"checks\" is missing: true (all of them) or a list of files",
            );
            None
        }
    };
    let warnings_fail = match table.text("warnings") {
        None | Some("pass") => false,
        Some("fail") => true,
        Some(_) => {
            let message = "\"warnings\" must be \"fail\" or \"pass\"";
            table.error("warnings", message);
            false
        }
    };
    Some(VerifyStep::Checked {
        files: files?,
        warnings_fail,
    })
}

fn phase(table: &Table<'_, '_>) -> Option<PhaseStep> {
    let collection = need(table, "collection");
    let to = table.need_text("to").and_then(|text| {
        text.parse::<Phase>()
            .map_err(|error| table.error("to", error.to_string()))
            .ok()
    });
    Some(PhaseStep {
        collection: collection?,
        to: to?,
    })
}

fn run(table: &Table<'_, '_>) -> Option<RunStep> {
    if !table.has("forward") {
        table.error("", "\"forward\" is missing: what the step runs");
    }
    let [forward, backward, validate] =
        ["forward", "backward", "validate"].map(|key| table.table(key).map(|t| action(&t)));
    let idempotent = table.flag("idempotent").unwrap_or(false);
    let lifted = |asked: Option<Option<Action>>| match asked {
        Some(None) => None,
        other => Some(other.flatten()),
    };
    Some(RunStep {
        forward: forward??,
        backward: lifted(backward)?,
        validate: lifted(validate)?,
        idempotent,
    })
}

/// `{ sql = …, store = … }` or `{ command = […], folder = …, env = {…} }`.
fn action(table: &Table<'_, '_>) -> Option<Action> {
    let action = match (table.has("sql"), table.has("command")) {
        (true, false) => {
            let (statement, store) = (need(table, "sql"), need(table, "store"));
            statement
                .zip(store)
                .map(|(statement, store)| Action::Sql { store, statement })
        }
        (false, true) => {
            let command = command(table, "command");
            let folder = owned(table, "folder");
            let env = table.table("env").map(|table| variables(&table));
            command.map(|command| Action::Command {
                command,
                folder,
                env: env.unwrap_or_default(),
            })
        }
        _ => {
            table.error(
                "",
                "say either sql and store, or command: { sql = \"…\", store = \"app\" } or \
                 { command = [\"./make-index.sh\"] }",
            );
            return None;
        }
    };
    table.finish();
    action
}

/// Variables by name. Their values never stand in the file.
fn variables(table: &Table<'_, '_>) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for (name, value) in table.all() {
        if !variable_name(name) {
            let message = format!("{name:?} cannot name a variable: use letters, digits and _");
            table.error(name, message);
        }
        let reference = value.get_ref().as_str().unwrap_or_default();
        let usable = reference.strip_prefix('$').is_some_and(variable_name)
            || reference
                .strip_prefix('@')
                .is_some_and(|file| !file.trim().is_empty());
        if !usable {
            // The value itself is not repeated: it may be the secret.
            let message = format!(
                "the value of {name} must be \"$NAME\" (a variable of the environment) or \"@file\"; a value \
                 written here would be kept in the ledger and shown, and most such values are secrets"
            );
            table.source.error(value.span(), message);
        }
        variables.insert(name.to_owned(), reference.to_owned());
    }
    variables
}

fn variable_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn approve(table: &Table<'_, '_>) -> Option<ApproveStep> {
    let by = list(table, "by").unwrap_or_default();
    let question = need(table, "question");
    Some(ApproveStep {
        by,
        question: question?,
    })
}
