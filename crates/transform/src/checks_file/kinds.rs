//! The kinds of checks, one reader each.

use super::{Reader, measures};
use crate::JsonSchema;
use crate::migrations::units;
use crate::table::Table;
use crate::{LoadError, ScriptLimits};
use std::sync::Arc;
use std::time::Duration;
use whimbrel_model::Value;
use whimbrel_model::check::{
    Bounds, CheckKind, Condition, FieldTest, FieldTypes, Format, Pattern, ReferenceCheck,
};
use whimbrel_model::rule::FieldPath;
use whimbrel_model::transform::Validate;

const KINDS: [&str; 16] = [
    "count",
    "required",
    "types",
    "format",
    "range",
    "pattern",
    "enum",
    "json_schema",
    "unique",
    "reference",
    "aggregate",
    "distribution",
    "latency",
    "condition",
    "sql",
    "command",
];

/// How long a command may take where the check does not say.
const COMMAND_TIME: Duration = Duration::from_secs(600);

impl Reader<'_> {
    pub(super) fn kind(
        &self,
        table: &Table<'_, '_>,
        sums: &mut blake3::Hasher,
    ) -> Option<CheckKind> {
        Some(match kind_word(table)? {
            "count" => CheckKind::Count(measures::count(&table.table("count")?)?),
            "required" => required(table)?,
            word @ ("types" | "format" | "range" | "pattern" | "enum") => fields(table, word)?,
            "json_schema" => self.json_schema(table, sums)?,
            "unique" => CheckKind::Unique(unique(table)?),
            "reference" => CheckKind::Reference(reference(&table.table("reference")?)?),
            "aggregate" => CheckKind::Aggregate(measures::aggregate(&table.table("aggregate")?)?),
            "distribution" => {
                CheckKind::Distribution(measures::distribution(&table.table("distribution")?)?)
            }
            "latency" => CheckKind::Latency(measures::latency(&table.table("latency")?)?),
            "condition" => self.condition(table, sums)?,
            "sql" => sql(table)?,
            _ => command(table)?,
        })
    }

    fn json_schema(&self, table: &Table<'_, '_>, sums: &mut blake3::Hasher) -> Option<CheckKind> {
        let (file, text) = self.text_of(table, "json_schema")?;
        let schema = JsonSchema::load(&file, &text)
            .map_err(|error| table.source.push([error]))
            .ok()?;
        Self::add_sum(sums, &schema.checksum());
        Some(CheckKind::Document {
            word: "json_schema",
            judge: Arc::new(schema),
        })
    }

    fn condition(&self, table: &Table<'_, '_>, sums: &mut blake3::Hasher) -> Option<CheckKind> {
        let pair = table.text("pair").map(str::to_owned);
        let (file, text) = self.text_of(table, "condition")?;
        let judge = load_condition(&file, &text, self.limits)
            .map_err(|error| table.source.push([error]))
            .ok()?;
        Self::add_sum(sums, &judge.checksum());
        Some(CheckKind::Condition { judge, pair })
    }
}

#[cfg(feature = "typescript")]
fn load_condition(
    file: &str,
    text: &str,
    limits: ScriptLimits,
) -> Result<Arc<dyn Condition>, LoadError> {
    Ok(Arc::new(crate::script::ScriptCondition::load(
        file, text, limits,
    )?))
}

#[cfg(not(feature = "typescript"))]
fn load_condition(
    file: &str,
    _text: &str,
    _limits: ScriptLimits,
) -> Result<Arc<dyn Condition>, LoadError> {
    Err(crate::script_unavailable(file))
}

fn kind_word(table: &Table<'_, '_>) -> Option<&'static str> {
    let words: Vec<&'static str> = KINDS.into_iter().filter(|word| table.has(word)).collect();
    match words[..] {
        [word] => return Some(word),
        [] => table.error(
            "",
            format!(
                "a check says what it asks for by one of {}",
                KINDS.join(", ")
            ),
        ),
        [first, second, ..] => {
            for word in words {
                // Known, so that the reader does not complain of them a second time.
                let _ = table.raw(word);
            }
            table.error(
                second,
                format!("a check is of one kind; this one is {first} and {second}: make two checks of it"),
            );
        }
    }
    None
}

fn required(table: &Table<'_, '_>) -> Option<CheckKind> {
    let paths = table.paths("required")?;
    not_empty(table, "required", paths.is_empty());
    Some(CheckKind::Fields {
        word: "required",
        tests: paths
            .into_iter()
            .map(|path| (path, FieldTest::Required))
            .collect(),
    })
}

fn not_empty(table: &Table<'_, '_>, key: &'static str, empty: bool) {
    if empty {
        table.error(key, format!("{key:?} is empty: it would judge nothing"));
    }
}

/// `{ path = what it must be, … }`
fn fields(table: &Table<'_, '_>, word: &'static str) -> Option<CheckKind> {
    let inner = table.table(word)?;
    let mut tests = Vec::new();
    for (path, raw) in inner.all() {
        let path = table.source.path(raw.span(), path);
        let wrong = |message: String| {
            table.source.error(raw.span(), message);
            None
        };
        let text = || match raw.get_ref().as_str() {
            Some(text) => Ok(text),
            None => Err(format!("{word:?} takes a string for each field")),
        };
        let test = match word {
            "types" => text().and_then(FieldTypes::parse).map(FieldTest::Types),
            "format" => text().and_then(Format::parse).map(FieldTest::Format),
            "pattern" => text().and_then(Pattern::parse).map(FieldTest::Pattern),
            "range" => match raw.get_ref().as_table() {
                Some(limits) => {
                    let limits = Table::new(table.source, limits, raw.span());
                    let found = bounds(&limits);
                    limits.finish();
                    match found {
                        Some(found) => Ok(FieldTest::Range(found)),
                        None => continue,
                    }
                }
                None => Err("\"range\" takes { min, max } for each field".to_owned()),
            },
            _ => match table.source.value(raw) {
                Some(Value::Array(values)) if !values.is_empty() => Ok(FieldTest::OneOf(values)),
                Some(_) => Err("\"enum\" takes a list of values for each field".to_owned()),
                None => continue,
            },
        };
        if let (Some(path), Some(test)) = (path, test.map_or_else(wrong, Some)) {
            tests.push((path, test));
        }
    }
    not_empty(table, word, inner.all().next().is_none());
    Some(CheckKind::Fields { word, tests })
}

/// `{ min, max }`, one of them at least, of one type and in order.
pub(super) fn bounds(table: &Table<'_, '_>) -> Option<Bounds> {
    let (min, max) = (table.value("min"), table.value("max"));
    if !table.has("min") && !table.has("max") {
        table.error("", "limits need \"min\", \"max\" or both");
    }
    for (key, value) in [("min", &min), ("max", &max)] {
        let ordered = match value {
            Some(Value::Double(x)) => !x.is_nan(),
            Some(v) => matches!(v, Value::Int(_) | Value::Timestamp(_) | Value::String(_)),
            None => true,
        };
        if !ordered {
            table.error(
                key,
                format!("{key:?} must be a number, an instant or a text"),
            );
        }
    }
    let bounds = Bounds { min, max };
    if let (Some(min), Some(max)) = (&bounds.min, &bounds.max) {
        let above = Bounds {
            min: Some(min.clone()),
            max: None,
        };
        if above.judge(max).is_err() {
            table.error("max", "no value is within these limits");
        }
    }
    (bounds != Bounds::default()).then_some(bounds)
}

/// `["email", ["user", "day"]]`: each alone, or several together.
fn unique(table: &Table<'_, '_>) -> Option<Vec<Vec<FieldPath>>> {
    let raw = table.raw("unique")?;
    let wrong = || {
        let message = "\"unique\" is a list of fields; fields that are unique together stand in a list in it, \
                       like [[\"user\", \"day\"]]";
        table.error("unique", message);
        None
    };
    let Some(Value::Array(items)) = table.source.value(raw) else {
        return wrong();
    };
    not_empty(table, "unique", items.is_empty());
    let mut all = Vec::new();
    for item in items {
        let names = match item {
            Value::String(name) => vec![Value::String(name)],
            Value::Array(names) if !names.is_empty() => names,
            _ => return wrong(),
        };
        let mut paths = Vec::new();
        for name in names {
            let Value::String(name) = name else {
                return wrong();
            };
            paths.push(table.source.path(table.span_of("unique"), &name)?);
        }
        all.push(paths);
    }
    Some(all)
}

fn reference(table: &Table<'_, '_>) -> Option<ReferenceCheck> {
    let field = measures::need_path(table, "field");
    let to = table.need_text("to").map(str::to_owned);
    let to_field = table.path("to_field");
    table.finish();
    Some(ReferenceCheck {
        field: field?,
        to: to?,
        to_field,
    })
}

fn sql(table: &Table<'_, '_>) -> Option<CheckKind> {
    let store = table.need_text("store");
    let statement = table.text("sql")?;
    if let Some(message) = writes(statement) {
        table.error("sql", message);
    }
    Some(CheckKind::Sql {
        store: store?.to_owned(),
        statement: statement.to_owned(),
    })
}

/// A check must not change what it judges. This keeps slips out; rights keep out the rest.
fn writes(statement: &str) -> Option<String> {
    const READ: [&str; 4] = ["SELECT", "WITH", "VALUES", "TABLE"];
    const WRITE: [&str; 4] = ["INSERT", "UPDATE", "DELETE", "MERGE"];
    let words = words(statement);
    let first = words.first().map_or("", String::as_str);
    if !READ.contains(&first) {
        return Some(format!(
            "a check's statement only reads: it begins with {}",
            READ.join(", ")
        ));
    }
    let writing = words.iter().find(|word| WRITE.contains(&word.as_str()));
    // `SELECT … FOR UPDATE` locks rows, and `WITH x AS (DELETE …)` deletes them.
    writing.map(|word| format!("a check's statement only reads, and this one has {word}"))
}

/// The statement's words in capitals, without what stands in quotes or comments.
fn words(statement: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut rest = statement;
    while let Some(c) = rest.chars().next() {
        let skip = match c {
            '\'' | '"' | '`' => rest[1..].find(c).map_or(rest.len(), |end| end + 2),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            c if c.is_alphanumeric() || c == '_' || c == '$' => {
                if let Some(word) = words.last_mut() {
                    word.extend(c.to_uppercase());
                }
                rest = &rest[c.len_utf8()..];
                continue;
            }
            c => c.len_utf8(),
        };
        words.push(String::new());
        rest = &rest[skip..];
    }
    words.retain(|word| !word.is_empty());
    words
}

fn command(table: &Table<'_, '_>) -> Option<CheckKind> {
    let parts = table.texts("command")?;
    let command: Vec<String> = parts.into_iter().map(|(_, part)| part.to_owned()).collect();
    if command.first().is_none_or(|name| name.trim().is_empty()) {
        table.error("command", "\"command\" is a program and its arguments");
    }
    let timeout = units::duration(table, "timeout").unwrap_or(COMMAND_TIME);
    Some(CheckKind::Command { command, timeout })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_that_write_are_told() {
        for (statement, expect) in [
            ("SELECT 1", true),
            ("  -- why\n select id from t where note = 'delete me'", true),
            ("/* insert */ WITH a AS (SELECT 1) SELECT * FROM a", true),
            ("SELECT deleted, \"update\", updates FROM t", true),
            ("VALUES (1)", true),
            ("DELETE FROM t", false),
            (
                "WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a",
                false,
            ),
            ("SELECT 1; insert into t values (1)", false),
            ("SELECT * FROM t FOR UPDATE", false),
            ("DROP TABLE t", false),
            ("", false),
        ] {
            assert_eq!(writes(statement).is_none(), expect, "{statement}");
        }
    }
}
