//! What a file means, whatever it looks like: JSON with its keys in order, and no secret.

use crate::table::Source;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The table as canonical JSON, with the checksums of the files that it names under `files`.
pub(super) fn of(root: &DeTable<'_>, files: BTreeMap<String, String>) -> Value {
    let mut map = object(root);
    if !files.is_empty() {
        let files = files.into_iter().map(|(file, sum)| (file, sum.into()));
        map.push(("files".to_owned(), Value::Object(files.collect())));
    }
    sorted(map)
}

fn object(table: &DeTable<'_>) -> Vec<(String, Value)> {
    table
        .iter()
        .map(|(name, value)| (name.get_ref().to_string(), json(value.get_ref())))
        .collect()
}

/// In the order of the keys, however `serde_json` was built.
fn sorted(mut entries: Vec<(String, Value)>) -> Value {
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Value::Object(entries.into_iter().collect::<Map<_, _>>())
}

fn json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Integer(n) => match i64::from_str_radix(n.as_str(), n.radix()) {
            Ok(n) => n.into(),
            Err(_) => n.as_str().into(),
        },
        DeValue::Float(x) => match x.as_str().parse::<f64>() {
            // 3.0 and 3 mean the same wherever a file may hold both.
            #[allow(clippy::cast_possible_truncation)]
            Ok(x) if x.fract() == 0.0 && x.abs() < 1e15 => (x as i64).into(),
            Ok(x) => x.into(),
            Err(_) => x.as_str().into(),
        },
        DeValue::Datetime(at) => at.to_string().into(),
        DeValue::Array(items) => items.iter().map(|item| json(item.get_ref())).collect(),
        DeValue::Table(table) => sorted(object(table)),
    }
}

/// Complains of passwords and keys anywhere in the file: its meaning goes into the ledger and is shown.
pub(super) fn refuse_secrets(source: &Source<'_>, root: &DeTable<'_>) {
    for (_, value) in root.iter() {
        refuse(source, value);
    }
}

fn refuse(source: &Source<'_>, value: &Spanned<DeValue<'_>>) {
    match value.get_ref() {
        DeValue::String(text) => complain(source, value.span(), text),
        DeValue::Array(items) => items.iter().for_each(|item| refuse(source, item)),
        DeValue::Table(table) => refuse_secrets(source, table),
        _ => {}
    }
}

fn complain(source: &Source<'_>, span: Range<usize>, text: &str) {
    const WHY: &str = "what a migration says is kept in the ledger and shown";
    if has_password(text) {
        let message = format!(
            "this URL holds a password, and {WHY}: name a store of whimbrel.toml instead, or give a command \
             the secret by env = {{ NAME = \"$NAME\" }}"
        );
        source.error(span, message);
    } else if text.to_ascii_uppercase().contains("AGE-SECRET-KEY-") {
        let message = format!(
            "this is a secret key, and {WHY}: recipients are public keys, which begin with age1"
        );
        source.error(span, message);
    }
}

/// `scheme://user:password@host`, anywhere in the text. A password that only names a variable is none.
fn has_password(text: &str) -> bool {
    text.match_indices("://").any(|(at, mark)| {
        let rest = &text[at + mark.len()..];
        let end = rest
            .find(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'' | '?' | '#'))
            .unwrap_or(rest.len());
        let Some((user, _host)) = rest[..end].rsplit_once('@') else {
            return false;
        };
        user.split_once(':')
            .is_some_and(|(_, password)| !password.is_empty() && !password.starts_with('$'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_urls_are_seen() {
        for (text, expect) in [
            ("postgres://me:pw@host/db", true),
            ("run --to s3://key:se@cret@bucket", true),
            ("a://b and x://u:p@h", true),
            ("postgres://me@host/db", false),
            ("postgres://me:$PGPASSWORD@host/db", false),
            ("postgres://me:${PG}@host/db", false),
            ("postgres://host:5432/db", false),
            ("http://host:80/mail?to=a:b@c", false),
            ("://", false),
            ("", false),
        ] {
            assert_eq!(has_password(text), expect, "{text:?}");
        }
    }
}
