//! Reads a file of copy rules.

use crate::checks::Checks;
use crate::operation::operations;
use crate::table::{Source, Table, hash_meaning, hash_text};
use crate::transform::{KeyTemplate, Merge, Pipeline, Split};
use crate::{LoadError, ScriptLimits};
use std::path::Path;
use std::sync::Arc;
use toml::de::DeTable;
use whimbrel_model::rule::{CopyRule, FieldPath, Filter, Grouping, OnError, Test};
use whimbrel_model::transform::Validate;
use whimbrel_model::{Code, Transform};

/// The rules of one file, in its order.
#[derive(Debug)]
pub struct Rules {
    pub description: String,
    pub rules: Vec<CopyRule>,
}

/// Reads a rules file; its scripts and JSON Schemas are looked for beside it.
///
/// # Errors
/// Everything that is wrong with the file and those it names.
pub fn load_rules(file: &Path, limits: ScriptLimits) -> Result<Rules, Vec<LoadError>> {
    let shown = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| {
        let message = format!("the copy rules cannot be read: {error}");
        vec![LoadError::new(Code::RulesInvalid, shown.as_str(), message)]
    })?;
    let folder = file.parent().unwrap_or(Path::new("."));
    parse_rules(&shown, &text, folder, limits)
}

/// [`load_rules`] of a text. `folder` is where the files that it names lie.
///
/// # Errors
/// As [`load_rules`].
pub fn parse_rules(
    file: &str,
    text: &str,
    folder: &Path,
    limits: ScriptLimits,
) -> Result<Rules, Vec<LoadError>> {
    let source = Source::new(file, text, Code::RulesInvalid);
    let reader = Reader { folder, limits };
    let rules = source.parse().map(|root| {
        let table = Table::new(&source, root.get_ref(), 0..0);
        let description = table.text("description").unwrap_or_default().to_owned();
        let list = table.tables("rule");
        table.finish();
        let list = list.unwrap_or_default();
        if list.is_empty() {
            table.error("rule", "the file has no [[rule]]");
        }
        let rules: Vec<_> = list
            .iter()
            .filter_map(|rule| reader.rule(rule, sums(root.get_ref(), &rule.span)))
            .collect();
        for (i, rule) in rules.iter().enumerate() {
            if rules[..i].iter().any(|other| other.name == rule.name) {
                table.error("rule", format!("two rules are called {:?}", rule.name));
            }
        }
        Rules { description, rules }
    });
    let errors = source.into_errors();
    match rules {
        Some(rules) if errors.is_empty() => Ok(rules),
        _ => Err(errors),
    }
}

/// The hash of the rule that stands at `span`, as far as it stands in this file.
fn sums(root: &DeTable<'_>, span: &std::ops::Range<usize>) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    let rules = root.iter().find(|(name, _)| name.get_ref() == "rule");
    let rules = rules.and_then(|(_, list)| list.get_ref().as_array());
    for rule in rules.into_iter().flat_map(|rules| rules.iter()) {
        if let (true, Some(table)) = (rule.span() == *span, rule.get_ref().as_table()) {
            hash_meaning(table, &[], &mut hasher);
        }
    }
    hasher
}

struct Reader<'a> {
    folder: &'a Path,
    limits: ScriptLimits,
}

impl Reader<'_> {
    fn rule(&self, table: &Table<'_, '_>, mut sums: blake3::Hasher) -> Option<CopyRule> {
        let name = table.need_text("name");
        let text = |name| table.text(name).map(str::to_owned);
        let (collection, into) = (text("collection"), text("into"));
        let read_as = table.number("read_as");
        if read_as == Some(0) {
            table.error("read_as", "schema versions are numbered from 1 on");
        }
        let filter = table.table("where").map(|table| filter(&table));
        let group = table.table("group").map(|table| grouping(&table));
        let transform = self.transform(table, group.is_some(), &mut sums);
        let validate = table.table("validate").map(|table| self.validate(&table));
        let on_error = on_error(table);
        let (migrated_at, source_id) = provenance(table);
        table.finish();
        if let Some(Some(validate)) = &validate {
            hash_text(b'v', &validate.checksum(), &mut sums);
        }
        Some(CopyRule {
            name: name?.to_owned(),
            collection,
            read_as,
            into,
            filter: lift(filter)?,
            transform,
            group: lift(group)?,
            validate: lift(validate)?,
            on_error,
            migrated_at,
            source_id,
            checksum: sums.finalize().to_hex().to_string(),
        })
    }

    fn transform(
        &self,
        table: &Table<'_, '_>,
        grouped: bool,
        sums: &mut blake3::Hasher,
    ) -> Option<Arc<dyn Transform>> {
        let script = table.text("transform");
        let list = table.tables("do").map(|list| operations(&list));
        let split = table.table("split").map(|table| split(&table));
        let merge = table.table("merge").map(|table| merge(&table));
        if let Some(name) = script {
            if list.is_some() || split.is_some() || merge.is_some() {
                let message = "a rule has either a transform, or do, split and merge";
                table.error("transform", message);
            }
            let script = self.script(table, "transform", name, load_transform)?;
            hash_text(b's', &script.checksum(), sums);
            return Some(script);
        }
        match (grouped, merge.is_some()) {
            (true, false) => table.error("group", "a rule that groups needs a transform or merge"),
            (false, true) => table.error("merge", "a rule that merges needs [rule.group]"),
            _ => {}
        }
        if list.is_none() && split.is_none() && merge.is_none() {
            return None;
        }
        let (merge, split) = (lift(merge)?, lift(split)?);
        if merge.is_some() && split.is_some() {
            table.error("split", "a rule merges or splits, not both");
        }
        Some(Arc::new(Pipeline {
            merge,
            operations: list.unwrap_or_default(),
            split,
            checksum: sums.finalize().to_hex().to_string(),
        }))
    }

    fn validate(&self, table: &Table<'_, '_>) -> Option<Arc<dyn Validate>> {
        let Some(name) = table.text("script") else {
            return Some(Arc::new(Checks::parse(table, self.folder)));
        };
        table.finish();
        self.script(table, "script", name, load_validate)
    }

    fn script<T>(
        &self,
        table: &Table<'_, '_>,
        key: &'static str,
        name: &str,
        load: fn(&str, &str, ScriptLimits) -> Result<T, LoadError>,
    ) -> Option<T> {
        let path = self.folder.join(name);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                table.error(key, format!("{} cannot be read: {error}", path.display()));
                return None;
            }
        };
        match load(&path.display().to_string(), &text, self.limits) {
            Ok(script) => Some(script),
            Err(error) => {
                table.source.push([error]);
                None
            }
        }
    }
}

/// What is not asked for is `Some(None)`; what was asked for but is wrong is `None`.
fn lift<T>(asked: Option<Option<T>>) -> Option<Option<T>> {
    match asked {
        None => Some(None),
        Some(None) => None,
        Some(found) => Some(found),
    }
}

#[cfg(feature = "typescript")]
fn load_transform(
    file: &str,
    text: &str,
    limits: ScriptLimits,
) -> Result<Arc<dyn Transform>, LoadError> {
    Ok(Arc::new(crate::script::ScriptTransform::load(
        file, text, limits,
    )?))
}

#[cfg(feature = "typescript")]
fn load_validate(
    file: &str,
    text: &str,
    limits: ScriptLimits,
) -> Result<Arc<dyn Validate>, LoadError> {
    Ok(Arc::new(crate::script::ScriptValidate::load(
        file, text, limits,
    )?))
}

#[cfg(not(feature = "typescript"))]
fn load_transform(
    file: &str,
    _text: &str,
    _limits: ScriptLimits,
) -> Result<Arc<dyn Transform>, LoadError> {
    Err(crate::script_unavailable(file))
}

#[cfg(not(feature = "typescript"))]
fn load_validate(
    file: &str,
    _text: &str,
    _limits: ScriptLimits,
) -> Result<Arc<dyn Validate>, LoadError> {
    Err(crate::script_unavailable(file))
}

fn on_error(table: &Table<'_, '_>) -> OnError {
    match table.text("on_error") {
        None | Some("quarantine") => OnError::Quarantine,
        Some("skip") => OnError::Skip,
        Some("abort") => OnError::Abort,
        Some(_) => {
            let message = "\"on_error\" must be \"quarantine\", \"skip\" or \"abort\"";
            table.error("on_error", message);
            OnError::Quarantine
        }
    }
}

/// `provenance = true`, or a table with the fields' names.
fn provenance(table: &Table<'_, '_>) -> (Option<String>, Option<String>) {
    let Some(raw) = table.raw("provenance") else {
        return (None, None);
    };
    match raw.get_ref().as_bool() {
        Some(true) => (Some("_migratedAt".to_owned()), Some("_sourceId".to_owned())),
        Some(false) => (None, None),
        None => {
            let Some(names) = table.table("provenance") else {
                return (None, None);
            };
            let name = |key| names.text(key).map(str::to_owned);
            let found = (name("migrated_at"), name("source_id"));
            names.finish();
            found
        }
    }
}

fn grouping(table: &Table<'_, '_>) -> Option<Grouping> {
    if !table.has("by") {
        table.error("", "\"by\" is missing: the field that the documents share");
    }
    let by = table.path("by");
    let order_by = table.paths("order_by").unwrap_or_default();
    table.finish();
    Some(Grouping { by: by?, order_by })
}

fn split(table: &Table<'_, '_>) -> Option<Split> {
    if !table.has("field") {
        table.error(
            "",
            "\"field\" is missing: the array whose elements become documents",
        );
    }
    let field = table.path("field");
    let key = table.need_text("key").and_then(|text| {
        KeyTemplate::parse(text)
            .map_err(|message| table.error("key", message))
            .ok()
    });
    let text = |name| table.text(name).map(str::to_owned);
    let (parent, index) = (text("parent"), text("index"));
    let keep = table.paths("keep").unwrap_or_default();
    table.finish();
    Some(Split {
        field: field?,
        key: key?,
        parent,
        index,
        keep,
    })
}

fn merge(table: &Table<'_, '_>) -> Option<Merge> {
    let field = table.need_text("field").map(str::to_owned);
    let texts = |name| -> Vec<String> {
        let texts = table.texts(name).unwrap_or_default();
        texts.into_iter().map(|(_, text)| text.to_owned()).collect()
    };
    let (lift, without) = (texts("lift"), texts("without"));
    table.finish();
    Some(Merge {
        field: field?,
        lift,
        without,
    })
}

/// `{ field = "a.b", equals = 1 }`, or `{ all = [...] }`, `{ any = [...] }`, `{ not = {...} }`.
pub(crate) fn filter(table: &Table<'_, '_>) -> Option<Filter> {
    let several = |name| {
        table.tables(name).map(|list| {
            let parts: Vec<_> = list.iter().map(filter).collect();
            parts.into_iter().collect::<Option<Vec<_>>>()
        })
    };
    let found = [
        several("all").map(|parts| parts.map(Filter::All)),
        several("any").map(|parts| parts.map(Filter::Any)),
        table
            .table("not")
            .map(|inner| filter(&inner).map(|inner| Filter::Not(Box::new(inner)))),
        table.path("field").map(|path| test(table, path)),
    ];
    table.finish();
    let mut found = found.into_iter().flatten();
    match (found.next(), found.next()) {
        (Some(one), None) => one,
        _ => {
            table.error("", "a condition has exactly one of field, all, any, not");
            None
        }
    }
}

fn test(table: &Table<'_, '_>, path: FieldPath) -> Option<Filter> {
    let one_of = table.value("one_of").and_then(|value| match value {
        whimbrel_model::Value::Array(values) => Some(Test::OneOf(values)),
        _ => {
            table.error("one_of", "\"one_of\" must be an array");
            None
        }
    });
    let tests: Vec<_> = [
        table.value("equals").map(Test::Equals),
        table.value("differs").map(Test::Differs),
        one_of,
        table.flag("exists").map(Test::Exists),
        table.value("at_least").map(Test::AtLeast),
        table.value("below").map(Test::Below),
    ]
    .into_iter()
    .flatten()
    .map(|test| Filter::Field(path.clone(), test))
    .collect();
    match tests.len() {
        0 => {
            let message =
                "a condition on a field needs equals, differs, one_of, exists, at_least or below";
            table.error("field", message);
            None
        }
        1 => tests.into_iter().next(),
        // `at_least` and `below` together are a range.
        _ => Some(Filter::All(tests)),
    }
}
