//! Reads the tables of a TOML file: every error with its line, all of them at once, unknown keys too.

use crate::LoadError;
use std::cell::{Cell, RefCell};
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use whimbrel_model::rule::FieldPath;
use whimbrel_model::{Code, Map, Timestamp, Value, json};

/// One TOML file while it is read, and what is wrong with it so far.
pub(crate) struct Source<'t> {
    file: &'t str,
    text: &'t str,
    code: Code,
    errors: RefCell<Vec<LoadError>>,
}

impl<'t> Source<'t> {
    pub(crate) fn new(file: &'t str, text: &'t str, code: Code) -> Self {
        Self {
            file,
            text,
            code,
            errors: RefCell::default(),
        }
    }

    /// Parses the file; what is no TOML is recorded.
    pub(crate) fn parse(&self) -> Option<Spanned<DeTable<'t>>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        if errors.is_empty() {
            return Some(table);
        }
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            self.error(span, error.message());
        }
        None
    }

    pub(crate) fn error(&self, span: Range<usize>, message: impl Into<String>) {
        let error = LoadError::new(self.code, self.file, message).at_byte(self.text, span.start);
        self.errors.borrow_mut().push(error);
    }

    pub(crate) fn push(&self, errors: impl IntoIterator<Item = LoadError>) {
        self.errors.borrow_mut().extend(errors);
    }

    pub(crate) fn into_errors(self) -> Vec<LoadError> {
        self.errors.into_inner()
    }
}

/// One table of the file. Whoever reads it asks for each key that it knows, then calls
/// [`Table::finish`], which complains of the keys nobody asked for.
pub(crate) struct Table<'s, 't> {
    pub(crate) source: &'s Source<'t>,
    pub(crate) span: Range<usize>,
    entries: Vec<Entry<'s, 't>>,
    known: RefCell<Vec<&'static str>>,
}

struct Entry<'s, 't> {
    name: &'s str,
    span: Range<usize>,
    value: &'s Spanned<DeValue<'t>>,
    used: Cell<bool>,
}

impl<'s, 't> Table<'s, 't> {
    pub(crate) fn new(source: &'s Source<'t>, table: &'s DeTable<'t>, span: Range<usize>) -> Self {
        let mut entries: Vec<_> = table
            .iter()
            .map(|(name, value)| Entry {
                name: name.get_ref(),
                span: name.span(),
                value,
                used: Cell::new(false),
            })
            .collect();
        entries.sort_by_key(|entry| entry.span.start);
        Self {
            source,
            span,
            entries,
            known: RefCell::default(),
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.name == name)
    }

    /// The keys in the file's order, for tables whose keys are the user's own.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'s str, &'s Spanned<DeValue<'t>>)> + '_ {
        self.entries.iter().map(|entry| {
            entry.used.set(true);
            (entry.name, entry.value)
        })
    }

    pub(crate) fn raw(&self, name: &'static str) -> Option<&'s Spanned<DeValue<'t>>> {
        self.known.borrow_mut().push(name);
        let entry = self.entries.iter().find(|entry| entry.name == name)?;
        entry.used.set(true);
        Some(entry.value)
    }

    /// Where the key stands, else the table.
    pub(crate) fn span_of(&self, name: &str) -> Range<usize> {
        self.entries
            .iter()
            .find(|entry| entry.name == name)
            .map_or(self.span.clone(), |entry| entry.span.clone())
    }

    pub(crate) fn error(&self, name: &str, message: impl Into<String>) {
        self.source.error(self.span_of(name), message);
    }

    fn wrong(&self, name: &str, value: &DeValue<'_>, wanted: &str) {
        let found = value.type_str();
        self.error(name, format!("{name:?} must be {wanted}, not {found}"));
    }

    pub(crate) fn text(&self, name: &'static str) -> Option<&'s str> {
        let value = self.raw(name)?.get_ref();
        if value.as_str().is_none() {
            self.wrong(name, value, "a string");
        }
        value.as_str()
    }

    pub(crate) fn need_text(&self, name: &'static str) -> Option<&'s str> {
        if !self.has(name) {
            self.known.borrow_mut().push(name);
            self.error("", format!("{name:?} is missing"));
            return None;
        }
        self.text(name)
    }

    pub(crate) fn flag(&self, name: &'static str) -> Option<bool> {
        let value = self.raw(name)?.get_ref();
        if value.as_bool().is_none() {
            self.wrong(name, value, "true or false");
        }
        value.as_bool()
    }

    pub(crate) fn number(&self, name: &'static str) -> Option<u32> {
        let value = self.raw(name)?.get_ref();
        let number = match to_value(value) {
            Ok(Value::Int(n)) => u32::try_from(n).ok(),
            _ => None,
        };
        if number.is_none() {
            self.wrong(name, value, "a whole number from 0 on");
        }
        number
    }

    pub(crate) fn value(&self, name: &'static str) -> Option<Value> {
        let raw = self.raw(name)?;
        self.source.value(raw)
    }

    /// The key's value, given as a JSON text in the tagged form.
    pub(crate) fn json(&self, name: &'static str) -> Option<Value> {
        match json::parse(self.text(name)?.as_bytes()) {
            Ok(value) => Some(value),
            Err(error) => {
                self.error(name, format!("{name:?} is no JSON text: {error}"));
                None
            }
        }
    }

    pub(crate) fn table(&self, name: &'static str) -> Option<Table<'s, 't>> {
        let raw = self.raw(name)?;
        match raw.get_ref() {
            DeValue::Table(table) => Some(Table::new(self.source, table, raw.span())),
            other => {
                self.wrong(name, other, "a table");
                None
            }
        }
    }

    pub(crate) fn tables(&self, name: &'static str) -> Option<Vec<Table<'s, 't>>> {
        let raw = self.raw(name)?;
        let DeValue::Array(items) = raw.get_ref() else {
            self.wrong(name, raw.get_ref(), "an array of tables");
            return None;
        };
        let mut tables = Vec::with_capacity(items.len());
        for item in items.iter() {
            match item.get_ref() {
                DeValue::Table(table) => {
                    tables.push(Table::new(self.source, table, item.span()));
                }
                other => self.source.error(
                    item.span(),
                    format!(
                        "{name:?} holds {}, where a table is needed",
                        other.type_str()
                    ),
                ),
            }
        }
        Some(tables)
    }

    pub(crate) fn texts(&self, name: &'static str) -> Option<Vec<(Range<usize>, &'s str)>> {
        let raw = self.raw(name)?;
        let DeValue::Array(items) = raw.get_ref() else {
            self.wrong(name, raw.get_ref(), "an array of strings");
            return None;
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items.iter() {
            match item.get_ref().as_str() {
                Some(text) => texts.push((item.span(), text)),
                None => self.source.error(
                    item.span(),
                    format!("{name:?} holds something else than strings"),
                ),
            }
        }
        Some(texts)
    }

    pub(crate) fn path(&self, name: &'static str) -> Option<FieldPath> {
        let text = self.text(name)?;
        self.source.path(self.span_of(name), text)
    }

    pub(crate) fn paths(&self, name: &'static str) -> Option<Vec<FieldPath>> {
        let texts = self.texts(name)?;
        Some(
            texts
                .into_iter()
                .filter_map(|(span, text)| self.source.path(span, text))
                .collect(),
        )
    }

    /// Complains of every key that nobody asked for.
    pub(crate) fn finish(&self) {
        for entry in self.entries.iter().filter(|entry| !entry.used.get()) {
            let mut known = self.known.borrow().clone();
            known.sort_unstable();
            known.dedup();
            let message = format!(
                "unknown key {:?}; known here: {}",
                entry.name,
                known.join(", ")
            );
            self.source.error(entry.span.clone(), message);
        }
    }
}

impl Source<'_> {
    pub(crate) fn path(&self, span: Range<usize>, text: &str) -> Option<FieldPath> {
        let path = FieldPath::parse(text);
        if path.is_none() {
            self.error(
                span,
                format!(
                    "{text:?} is no path: write names with dots between them, like profile.city"
                ),
            );
        }
        path
    }

    pub(crate) fn value(&self, raw: &Spanned<DeValue<'_>>) -> Option<Value> {
        to_value(raw.get_ref())
            .map_err(|message| self.error(raw.span(), message))
            .ok()
    }
}

/// A TOML value as a document's value; tables keep the file's order.
fn to_value(value: &DeValue<'_>) -> Result<Value, String> {
    Ok(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix())
            .map(Value::Int)
            .map_err(|_| "the number does not fit into 64 bits".to_owned())?,
        DeValue::Float(x) => x
            .as_str()
            .parse()
            .map(Value::Double)
            .map_err(|_| "the number cannot be read".to_owned())?,
        DeValue::Datetime(at) => {
            let text = at.to_string();
            Timestamp::parse(&text)
                .map(Value::Timestamp)
                .ok_or_else(|| {
                    format!(
                        "{text} is no instant: add a time and an offset, like 2026-01-31T08:00:00Z"
                    )
                })?
        }
        DeValue::Array(items) => Value::Array(
            items
                .iter()
                .map(|item| to_value(item.get_ref()))
                .collect::<Result<_, _>>()?,
        ),
        DeValue::Table(table) => {
            let mut entries: Vec<_> = table.iter().collect();
            entries.sort_by_key(|(name, _)| name.span().start);
            let mut map = Map::with_capacity(entries.len());
            for (name, value) in entries {
                map.insert(name.get_ref().to_string(), to_value(value.get_ref())?);
            }
            Value::Map(map)
        }
    })
}

/// Feeds a hash with what the table means: neither comments, white space nor the order of keys count,
/// and `without` names top keys that do not count either.
pub(crate) fn hash_meaning(table: &DeTable<'_>, without: &[&str], hasher: &mut blake3::Hasher) {
    let mut entries: Vec<_> = table
        .iter()
        .filter(|(name, _)| !without.contains(&name.get_ref().as_ref()))
        .collect();
    entries.sort_by(|(a, _), (b, _)| a.get_ref().cmp(b.get_ref()));
    hash_head(b't', entries.len(), hasher);
    for (name, value) in entries {
        hash_text(b'k', name.get_ref(), hasher);
        hash_value(value.get_ref(), hasher);
    }
}

fn hash_value(value: &DeValue<'_>, hasher: &mut blake3::Hasher) {
    match value {
        DeValue::Table(table) => hash_meaning(table, &[], hasher),
        DeValue::Array(items) => {
            hash_head(b'a', items.len(), hasher);
            for item in items.iter() {
                hash_value(item.get_ref(), hasher);
            }
        }
        DeValue::String(text) => hash_text(b's', text, hasher),
        DeValue::Boolean(flag) => hash_text(b'b', if *flag { "1" } else { "0" }, hasher),
        DeValue::Integer(n) => match i64::from_str_radix(n.as_str(), n.radix()) {
            Ok(n) => hash_text(b'i', &n.to_string(), hasher),
            Err(_) => hash_text(b'i', n.as_str(), hasher),
        },
        DeValue::Float(x) => match x.as_str().parse::<f64>() {
            Ok(x) => hash_text(b'f', &format!("{:016x}", x.to_bits()), hasher),
            Err(_) => hash_text(b'f', x.as_str(), hasher),
        },
        DeValue::Datetime(at) => hash_text(b'd', &at.to_string(), hasher),
    }
}

fn hash_head(tag: u8, len: usize, hasher: &mut blake3::Hasher) {
    hasher.update(&[tag]);
    hasher.update(&(len as u64).to_le_bytes());
}

pub(crate) fn hash_text(tag: u8, text: &str, hasher: &mut blake3::Hasher) {
    hash_head(tag, text.len(), hasher);
    hasher.update(text.as_bytes());
}
