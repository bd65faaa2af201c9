//! Takes secrets out of texts, in any of the forms in which programs print them.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use std::collections::BTreeMap;

/// Anything shorter would be found everywhere.
const SHORTEST: usize = 4;
/// A part of a secret (a line, a word, a URL's path) is hidden by itself from this length on.
const SHORTEST_PART: usize = 8;

/// Replaces secrets by `[NAME]`: as they are, URL-encoded, escaped as in JSON, or in base64 at any place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redactor {
    /// Longest first.
    patterns: Vec<Pattern>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Pattern {
    text: Vec<u8>,
    name: String,
    /// Whether its bytes may be encoded: not where it is an encoding itself.
    plain: bool,
}

impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}]", self.name)
    }
}

impl Redactor {
    /// For these secrets, by name. Also returns the names of those that are too short to be hidden.
    pub(super) fn new(secrets: BTreeMap<String, String>) -> (Self, Vec<String>) {
        let mut patterns = Vec::new();
        let mut short = Vec::new();
        for (name, value) in secrets {
            if value.len() < SHORTEST {
                short.push(name);
                continue;
            }
            for part in parts(&value) {
                add(&mut patterns, &name, part);
            }
        }
        patterns.sort_by(|a, b| (b.text.len(), a).cmp(&(a.text.len(), b)));
        patterns.dedup_by(|a, b| a.text == b.text && a.plain == b.plain);
        (Self { patterns }, short)
    }

    /// The text without any secret.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        self.redact_from(text.as_bytes(), 0)
    }

    /// The end of a text whose beginning was cut off: `skip` bytes that may be a secret's second half are
    /// only looked at, not returned.
    pub(super) fn redact_from(&self, text: &[u8], skip: usize) -> String {
        let mut out = Vec::with_capacity(text.len());
        let mut at = 0;
        while at < text.len() {
            let (length, name) = self.at(&text[at..]);
            let behind = at + length.max(1);
            match name {
                Some(name) if behind > skip => {
                    out.push(b'[');
                    out.extend_from_slice(name.as_bytes());
                    out.push(b']');
                }
                None if at >= skip => out.push(text[at]),
                _ => {}
            }
            at = behind;
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    /// How long a secret can be in a text, in bytes.
    pub(super) fn longest(&self) -> usize {
        // Each byte may be written as %XX.
        self.patterns
            .iter()
            .map(|p| p.text.len() * 3)
            .max()
            .unwrap_or(0)
    }

    fn at(&self, text: &[u8]) -> (usize, Option<&str>) {
        self.patterns
            .iter()
            .filter_map(|p| Some((p.found(text)?, Some(p.name.as_str()))))
            .max_by_key(|(length, _)| *length)
            .unwrap_or((0, None))
    }
}

impl Pattern {
    /// How many bytes of the text's beginning are the secret.
    fn found(&self, text: &[u8]) -> Option<usize> {
        if !self.plain {
            return text.starts_with(&self.text).then_some(self.text.len());
        }
        // A `%` or a `\` may be the secret's own or begin an encoded byte: both readings are followed.
        let mut ends = vec![0];
        for &byte in &self.text {
            let mut next: Vec<usize> = Vec::new();
            for at in ends {
                let rest = text.get(at..).unwrap_or_default();
                next.extend(ways(byte, rest).into_iter().flatten().map(|n| at + n));
            }
            next.sort_unstable();
            next.dedup();
            ends = next;
            if ends.is_empty() {
                return None;
            }
        }
        ends.last().copied()
    }
}

/// How many bytes `byte` takes at the beginning of `text`: as it is, and encoded.
fn ways(byte: u8, text: &[u8]) -> [Option<usize>; 2] {
    let hex = |digits: &[u8]| {
        let digits = std::str::from_utf8(digits).ok()?;
        u8::from_str_radix(digits, 16).ok()
    };
    let encoded = match text {
        [b'+', ..] if byte == b' ' => Some(1),
        [b'%', a, b, ..] if hex(&[*a, *b]) == Some(byte) => Some(3),
        [b'\\', b'n', ..] if byte == b'\n' => Some(2),
        [b'\\', b'r', ..] if byte == b'\r' => Some(2),
        [b'\\', b't', ..] if byte == b'\t' => Some(2),
        [b'\\', b, ..] if *b == byte && !byte.is_ascii_alphanumeric() => Some(2),
        _ => None,
    };
    [text.first().filter(|b| **b == byte).map(|_| 1), encoded]
}

/// The secret and what of it is as good as the whole.
fn parts(value: &str) -> Vec<&str> {
    let mut parts = vec![value];
    let long = |part: &&str| part.len() >= SHORTEST_PART && *part != value;
    parts.extend(value.split_whitespace().filter(long));
    // A URL: its path is what a webhook's sender must know, and its password is one.
    if let Some((_, rest)) = value.split_once("://") {
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        parts.push(path);
        if let Some((user, _)) = host.rsplit_once('@') {
            parts.push(user.split_once(':').map_or(user, |(_, password)| password));
        }
    }
    parts.retain(|part| part.len() >= SHORTEST_PART || *part == value);
    parts
}

fn add(patterns: &mut Vec<Pattern>, name: &str, value: &str) {
    let mut push = |text: Vec<u8>, plain| {
        patterns.push(Pattern {
            text,
            name: name.to_owned(),
            plain,
        });
    };
    push(value.as_bytes().to_vec(), true);
    // Base64 of a text that holds the secret: what of it does not hang on the bytes around, at each of
    // the three places in a group.
    for (before, cut) in [(0, 0), (1, 2), (2, 3)] {
        let mut bytes = vec![0; before];
        bytes.extend_from_slice(value.as_bytes());
        let whole = bytes.len() % 3 == 0;
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let mut encoded = engine.encode(&bytes).into_bytes();
            if before == 0 {
                push(encoded.clone(), true);
            }
            if !whole {
                encoded.pop();
            }
            let inner = encoded[cut..].to_vec();
            if inner.len() >= SHORTEST {
                push(inner, true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    use proptest::prelude::*;

    fn redactor(secrets: &[(&str, &str)]) -> Redactor {
        let secrets = secrets
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        Redactor::new(secrets.collect()).0
    }

    #[test]
    fn secrets_go_in_each_form() {
        let redactor = redactor(&[
            ("TOKEN", "s3cr3t/+ \"word"),
            ("HOOK", "https://hooks.example/services/T000/B000/xyzzy123"),
            ("DB", "postgres://me:hunter2hunter2@db/app"),
            ("PEM", "-----BEGIN\nMIIEpAIBAAKCAQEA\n-----END"),
        ]);
        for (text, expect) in [
            ("nothing to see", "nothing to see"),
            ("as s3cr3t/+ \"word!", "as [TOKEN]!"),
            ("x=s3cr3t%2F%2B%20%22word&y", "x=[TOKEN]&y"),
            ("x=s3cr3t%2f%2b+%22word&y", "x=[TOKEN]&y"),
            (r#"{"a":"s3cr3t\/+ \"word"}"#, r#"{"a":"[TOKEN]"}"#),
            ("s3cr3t/ \"wor", "s3cr3t/ \"wor"),
            (
                "POST https://hooks.example/services/T000/B000/xyzzy123:",
                "POST [HOOK]:",
            ),
            ("path services/T000/B000/xyzzy123", "path [HOOK]"),
            ("password hunter2hunter2", "password [DB]"),
            ("a line: MIIEpAIBAAKCAQEA.", "a line: [PEM]."),
        ] {
            assert_eq!(redactor.redact(text), expect, "{text}");
        }
    }

    #[test]
    fn what_is_too_short_is_said() {
        let secrets = BTreeMap::from([("A".to_owned(), "abc".to_owned())]);
        let (redactor, short) = Redactor::new(secrets);
        assert_eq!(short, ["A"]);
        assert_eq!(redactor.redact("abc"), "abc");
    }

    #[test]
    fn a_secret_that_was_cut_in_two_does_not_show_its_end() {
        let redactor = redactor(&[("TOKEN", "abcdefgh-ijklmnop")]);
        let whole = b"0123456789 abcdefgh-ijklmnop and more";
        for start in 0..whole.len() {
            let skip = redactor.longest();
            let text = redactor.redact_from(&whole[start..], skip);
            assert!(!text.contains("mnop"), "from {start}: {text}");
        }
    }

    proptest! {
        #[test]
        fn no_form_of_a_secret_is_left(
            secret in "[ -~]{12,40}",
            before in proptest::collection::vec(any::<u8>(), 0..40),
            after in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let redactor = redactor(&[("S", &secret)]);
            let mut bytes = before.clone();
            bytes.extend_from_slice(secret.as_bytes());
            bytes.extend_from_slice(&after);
            for encoded in [STANDARD.encode(&bytes), URL_SAFE.encode(&bytes)] {
                let text = redactor.redact(&encoded);
                prop_assert!(text.contains("[S]"), "{encoded} became {text}");
                // What is left of it on both sides says less than a character.
                let left = text.split("[S]").map(str::len).sum::<usize>();
                let others = (before.len() + after.len()).div_ceil(3) * 4 + 8;
                prop_assert!(left <= others, "{encoded} became {text}");
            }
            let all: String = secret.bytes().map(|b| format!("%{b:02x}")).collect();
            prop_assert_eq!(redactor.redact(&all), "[S]");
            let json = serde_json::to_string(&secret).unwrap();
            prop_assert_eq!(redactor.redact(&json), "\"[S]\"");
            let plain = format!("{}{secret}{}", "é".repeat(before.len()), "日".repeat(after.len()));
            prop_assert!(!redactor.redact(&plain).contains(&secret));
        }
    }
}
