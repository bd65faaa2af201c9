//! Properties of the tagged form over generated values.

mod common;

use proptest::prelude::*;
use whimbrel_model::{Map, Value, json};

fn written(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    json::write(value, &mut out);
    out
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What PostgreSQL's `jsonb` makes of a JSON text: sorted members, spaces, numbers without exponents and
/// without signs of zeros, and everything that need not be escaped unescaped.
fn jsonb_out(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let value = raw(bytes);
    jsonb_value(&value, &mut out);
    out
}

/// A JSON text without any reading of numbers and tags.
enum Raw {
    Word(String),
    String(String),
    Array(Vec<Raw>),
    Object(Vec<(String, Raw)>),
}

fn raw(bytes: &[u8]) -> Raw {
    let bytes = bytes.trim_ascii();
    match bytes[0] {
        b'"' => Raw::String(json::unescape(&bytes[1..bytes.len() - 1]).unwrap()),
        b'{' => Raw::Object(
            json::split(bytes)
                .unwrap()
                .into_iter()
                .map(|m| {
                    let name = &bytes[m.name.start as usize..m.name.end as usize];
                    let value = &bytes[m.value.start as usize..m.value.end as usize];
                    (json::unescape(name).unwrap(), raw(value))
                })
                .collect(),
        ),
        // An array's elements are cut by dressing them up as members.
        b'[' => {
            let mut items = Vec::new();
            let (mut depth, mut quoted, mut start) = (0, false, 1);
            let mut at = 1;
            while at < bytes.len() {
                match bytes[at] {
                    b'\\' => at += 1,
                    b'"' => quoted = !quoted,
                    b'[' | b'{' if !quoted => depth += 1,
                    b']' | b'}' if !quoted && depth > 0 => depth -= 1,
                    b',' | b']' if !quoted && depth == 0 => {
                        if !bytes[start..at].trim_ascii().is_empty() {
                            items.push(raw(&bytes[start..at]));
                        }
                        start = at + 1;
                    }
                    _ => {}
                }
                at += 1;
            }
            Raw::Array(items)
        }
        _ => Raw::Word(text(bytes)),
    }
}

fn jsonb_value(value: &Raw, out: &mut Vec<u8>) {
    match value {
        Raw::Word(word) => out.extend_from_slice(jsonb_number(word).as_bytes()),
        Raw::String(string) => json::write_string(string, out),
        Raw::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.extend_from_slice(b", ");
                }
                jsonb_value(item, out);
            }
            out.push(b']');
        }
        Raw::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| (name.len(), name.clone()));
            out.push(b'{');
            for (i, (name, member)) in members.into_iter().enumerate() {
                if i > 0 {
                    out.extend_from_slice(b", ");
                }
                json::write_string(name, out);
                out.extend_from_slice(b": ");
                jsonb_value(member, out);
            }
            out.push(b'}');
        }
    }
}

fn jsonb_number(word: &str) -> String {
    assert!(
        !word.contains(['e', 'E']) || matches!(word, "true" | "false"),
        "an exponent was written: {word}"
    );
    let unsigned = word.strip_prefix('-').unwrap_or(word);
    if unsigned.bytes().all(|b| matches!(b, b'0' | b'.')) {
        return unsigned.to_owned();
    }
    word.to_owned()
}

fn shuffled(value: &Value, seed: u64) -> Value {
    match value {
        Value::Map(map) => Value::Map(shuffled_map(map, seed)),
        Value::Array(items) => Value::Array(items.iter().map(|v| shuffled(v, seed)).collect()),
        other => other.clone(),
    }
}

fn shuffled_map(map: &Map, seed: u64) -> Map {
    let mut members: Vec<_> = map
        .iter()
        .map(|(k, v)| (k.clone(), shuffled(v, seed)))
        .collect();
    let mut state = seed | 1;
    for i in (1..members.len()).rev() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        members.swap(i, (state >> 33) as usize % (i + 1));
    }
    members.into_iter().collect()
}

proptest! {
    #[test]
    fn parse_undoes_write(value in common::value()) {
        let bytes = written(&value);
        prop_assert_eq!(json::parse(&bytes).unwrap(), value, "{}", text(&bytes));
        let facts = json::scan(&bytes).unwrap();
        prop_assert!(!facts.odd_number && !facts.lone_surrogate);
    }

    #[test]
    fn a_trip_through_jsonb_changes_nothing(map in common::map()) {
        let mut bytes = Vec::new();
        json::write_map(&map, &mut bytes);
        let back = jsonb_out(&bytes);
        prop_assert_eq!(json::parse(&back).unwrap(), Value::Map(map.clone()), "{}", text(&back));
        prop_assert_eq!(json::fingerprint(&back).unwrap(), json::fingerprint_map(&map));
    }

    #[test]
    fn fingerprints_agree(map in common::map(), seed in any::<u64>()) {
        let mut bytes = Vec::new();
        json::write_map(&map, &mut bytes);
        let print = json::fingerprint_map(&map);
        prop_assert_eq!(json::fingerprint(&bytes).unwrap(), print, "{}", text(&bytes));
        prop_assert_eq!(json::fingerprint_map(&shuffled_map(&map, seed)), print);
    }

    #[test]
    fn fingerprints_tell_values_apart(a in common::map(), b in common::map()) {
        prop_assert_eq!(json::fingerprint_map(&a) == json::fingerprint_map(&b), a == b);
    }

    /// Text that is nearly JSON: every reading says the same of it.
    #[test]
    fn readings_agree_on_any_text(map in common::map(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = Vec::new();
        json::write_map(&map, &mut bytes);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let scanned = json::scan(&bytes);
        let parsed = json::parse(&bytes);
        match (&scanned, &parsed) {
            (Ok(facts), Ok(value)) => {
                prop_assert!(!facts.lone_surrogate);
                let is_map = matches!(value, Value::Map(_));
                prop_assert_eq!(json::fingerprint(&bytes).is_ok(), is_map);
                if let Value::Map(map) = value {
                    prop_assert_eq!(json::fingerprint(&bytes).unwrap(), json::fingerprint_map(map));
                }
            }
            (Ok(facts), Err(_)) => prop_assert!(facts.lone_surrogate),
            (Err(_), Ok(_)) => prop_assert!(false, "{}", text(&bytes)),
            (Err(a), Err(b)) => prop_assert_eq!(a.kind, b.kind),
        }
        prop_assert_eq!(json::split(&bytes).is_ok(), scanned.is_ok() && bytes.trim_ascii_start()[0] == b'{');
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        prop_assert_eq!(json::parse(&bytes).is_ok(), json::scan(&bytes).is_ok_and(|f| !f.lone_surrogate));
        let _ = json::unescape(&bytes);
    }

    #[test]
    fn the_plain_form_is_json(value in common::value()) {
        let mut out = Vec::new();
        json::write_plain(&value, &mut out);
        prop_assert!(json::scan(&out).is_ok(), "{}", text(&out));
    }

    #[test]
    fn numbers_keep_their_value(literal in "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?") {
        let value = json::parse(literal.as_bytes()).unwrap();
        let exact = whimbrel_model::Decimal::new(literal.clone()).unwrap();
        let shown = match &value {
            Value::Int(int) => int.to_string(),
            Value::Double(double) => format!("{double:e}"),
            Value::Decimal(decimal) => decimal.as_str().to_owned(),
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(whimbrel_model::Decimal::new(shown).unwrap(), exact);
        let facts = json::scan(literal.as_bytes()).unwrap();
        prop_assert_eq!(facts.decimal, matches!(value, Value::Decimal(_)));
    }
}

#[test]
fn shuffling_shuffles_deep_down() {
    let deep = json::parse(br#"{"a":[{"b":1,"c":2,"d":3}],"e":{"f":1,"g":2}}"#).unwrap();
    for seed in 0..20 {
        assert_eq!(shuffled(&deep, seed), deep);
    }
}

/// The same text in another spelling: members the other way round, and space wherever there may be some.
fn spaced(bytes: &[u8]) -> Vec<u8> {
    fn write(raw: &Raw, out: &mut Vec<u8>) {
        out.extend_from_slice(b" \n");
        match raw {
            Raw::Word(word) => out.extend_from_slice(word.as_bytes()),
            Raw::String(text) => json::write(&Value::String(text.clone()), out),
            Raw::Array(items) => {
                out.push(b'[');
                for (i, item) in items.iter().enumerate() {
                    out.extend_from_slice(if i == 0 { b"\t" } else { b" ," });
                    write(item, out);
                }
                out.push(b']');
            }
            Raw::Object(members) => {
                out.push(b'{');
                for (i, (name, value)) in members.iter().rev().enumerate() {
                    out.extend_from_slice(if i == 0 { b"\r" } else { b" , " });
                    json::write(&Value::String(name.clone()), out);
                    out.push(b' ');
                    out.push(b':');
                    write(value, out);
                }
                out.push(b'}');
            }
        }
        out.push(b' ');
    }
    let mut out = Vec::new();
    write(&raw(bytes), &mut out);
    out
}

proptest! {
    #[test]
    fn other_spellings_are_recognised(map in common::map()) {
        let text = written(&Value::Map(map));
        prop_assert!(json::surely_same(&text, &spaced(&text)));
        prop_assert!(json::surely_same(&spaced(&text), &text));
    }

    #[test]
    fn nothing_else_is_taken_for_the_same(a in common::map(), b in common::map(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let text = written(&Value::Map(a));
        let mut changed = spaced(&text);
        let at = at.index(changed.len());
        changed[at] = byte;
        for other in [written(&Value::Map(b)), changed] {
            if json::surely_same(&text, &other) {
                prop_assert_eq!(json::fingerprint(&text), json::fingerprint(&other), "{}", String::from_utf8_lossy(&other));
            }
        }
    }

    #[test]
    fn hostile_texts_are_compared_without_harm(a in "[\\[\\]{}:,\"\\\\a0tnrue. -]{0,40}") {
        let _ = json::surely_same(a.as_bytes(), a.as_bytes());
    }
}

#[test]
fn spellings() {
    let check = |a: &str, b: &str, same: bool| {
        assert_eq!(
            json::surely_same(a.as_bytes(), b.as_bytes()),
            same,
            "{a} {b}"
        );
        assert_eq!(
            json::surely_same(b.as_bytes(), a.as_bytes()),
            same,
            "{b} {a}"
        );
    };
    check(r#"{"a":1,"b":[1,2]}"#, r#"{ "b": [1, 2], "a": 1 }"#, true);
    check(
        r#"{"a":{"x":1,"y":2},"b":3}"#,
        r#"{"b":3,"a":{"y":2,"x":1}}"#,
        true,
    );
    check(r#"{"a":"\\","b":"\""}"#, r#"{"b":"\"", "a":"\\"}"#, true);
    check("{}", " { } ", true);
    check(r#"{"a":1}"#, r#"{"a":1,"a":1}"#, false);
    check(r#"{"a":1,"a":2}"#, r#"{"a":2,"a":2}"#, false);
    check(r#"{"a":1,"b":2}"#, r#"{"a":1,"a":1}"#, false);
    check(r#"{"a":[1,2]}"#, r#"{"a":[2,1]}"#, false);
    check(r#"{"a":[]}"#, r#"{"a":{}}"#, false);
    check(r#"{"a":["b",1]}"#, r#"{"a":{"b":1}}"#, false);
    check(r#"{"a":"1"}"#, r#"{"a":1}"#, false);
    check(r#"{"a":1}"#, r#"{"a":1.0}"#, false);
    check(r#"{"a":12}"#, r#"{"a":1 2}"#, false);
    check(r#"{"a":1}"#, r#"{"a":1}}"#, false);
    check(r#"{"a":1,}"#, r#"{"a":1, }"#, false);
    check("", "", false);
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    check(&deep(64), &deep(64), true);
    check(&deep(100_000), &deep(100_000), false);
    let long = |n: usize| format!("\"{}\"", "x".repeat(n));
    check(&long(1000), &long(1000), true);
    check(&long(1 << 20), &long(1 << 20), false);
    let many = |n: u32| -> String {
        let members: Vec<String> = (0..n).map(|i| format!("\"m{i}\": {i}")).collect();
        format!("{{{}}}", members.join(","))
    };
    check(&many(64), &many(64), true);
    check(&many(65), &many(65), false);
}
