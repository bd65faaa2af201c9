use super::*;
use whimbrel_model::compat::Compatibility;
use whimbrel_model::{Key, Timestamp};

fn verdict(schema: &str, doc: &str) -> Result<(), DocError> {
    let schema = JsonSchema::load("s.json", schema).unwrap();
    let mut doc = Draft::from_json(bytes::Bytes::copy_from_slice(doc.as_bytes())).unwrap();
    let key = Key::text("k");
    schema.validate(&mut doc, &DocContext::new(&key, Timestamp::from_millis(0)))
}

#[test]
fn verdicts_name_place_and_keyword_but_no_value() {
    let schema = r#"{
        "required": ["title"],
        "properties": {
            "title": { "type": "string", "maxLength": 3 },
            "messages": { "items": { "properties": { "role": { "enum": ["user"] }, "n": { "type": ["integer", "null"] } } } }
        }, "additionalProperties": { "const": 1 } }"#;
    let check = |doc: &str, path: Option<&str>, message: &str| {
        let error = verdict(schema, doc).unwrap_err();
        assert_eq!(error.code, Code::DocInvalid);
        assert_eq!(error.path.as_deref(), path, "{error}");
        assert!(error.message.contains(message), "{error}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    };
    check("{}", None, "\"required\" (\"title\" is missing)");
    check(
        r#"{"title":"secret"}"#,
        Some("title"),
        "\"maxLength\" at \"/properties/title/maxLength\"",
    );
    check(
        r#"{"title":"x","messages":[{},{"role":"secret"}]}"#,
        Some("messages[1].role"),
        "\"enum\"",
    );
    check(
        r#"{"title":"x","messages":[{"n":"secret"}]}"#,
        Some("messages[0].n"),
        "\"type\" (null or integer is needed)",
    );
    check(r#"{"title":"x","y":"secret"}"#, Some("y"), "\"const\"");
    assert_eq!(
        verdict(schema, r#"{"title":"x","messages":[{"n":null}],"z":1.0}"#),
        Ok(())
    );
}

#[test]
fn numbers_are_judged_exactly() {
    let check = |schema: &str, number: &str, expect: bool| {
        let schema = format!(r#"{{ "properties": {{ "n": {schema} }} }}"#);
        let result = verdict(&schema, &format!(r#"{{"n":{number}}}"#));
        assert_eq!(result.is_ok(), expect, "{schema} {number}: {result:?}");
    };
    let one = "1.00000000000000000001";
    check(r#"{ "const": 1 }"#, one, false);
    check(r#"{ "enum": [1] }"#, one, false);
    check(r#"{ "type": "integer" }"#, one, false);
    check(r#"{ "type": "number" }"#, one, true);
    check(r#"{ "maximum": 1 }"#, one, false);
    check(r#"{ "exclusiveMinimum": 1 }"#, one, true);
    check(r#"{ "exclusiveMinimum": 1 }"#, "1", false);
    check(r#"{ "multipleOf": 1 }"#, one, false);
    check(
        r#"{ "type": "integer", "multipleOf": 2 }"#,
        "12345678901234567891",
        false,
    );
    check(
        r#"{ "type": "integer", "multipleOf": 2 }"#,
        "123456789012345678902",
        true,
    );
    check(
        r#"{ "maximum": 9007199254740992 }"#,
        "9007199254740993",
        false,
    );
    check(
        r#"{ "maximum": 18446744073709551615 }"#,
        "18446744073709551615",
        true,
    );
    check(
        r#"{ "maximum": 18446744073709551615 }"#,
        "18446744073709551616",
        false,
    );
    check(
        r#"{ "const": 18446744073709551615 }"#,
        "18446744073709551615",
        true,
    );
    check(r#"{ "multipleOf": 0.01 }"#, "19.99", true);
    check(r#"{ "multipleOf": 0.01 }"#, "19.999", false);
    check(r#"{ "multipleOf": 1e-8 }"#, "12391239123", true);
    check(r#"{ "const": 0 }"#, r#"{"$double":"-0"}"#, true);
    check(r#"{ "uniqueItems": true }"#, "[1, 1.0]", false);
    check(r#"{ "uniqueItems": true }"#, &format!("[1, {one}]"), true);
    check(
        r#"{ "uniqueItems": true }"#,
        r#"[{"a":1,"b":[2]},{"b":[2.0],"a":1}]"#,
        false,
    );
}

#[test]
fn typed_values_are_judged_in_their_plain_form() {
    let check = |schema: &str, value: &str, expect: bool| {
        let schema = format!(
            r#"{{ "$schema": "http://json-schema.org/draft-07/schema#", "properties": {{ "v": {schema} }} }}"#
        );
        let result = verdict(&schema, &format!(r#"{{"v":{value}}}"#));
        assert_eq!(result.is_ok(), expect, "{schema} {value}: {result:?}");
    };
    let at = r#"{"$timestamp":"2026-01-31T08:00:00Z"}"#;
    check(
        r#"{ "type": "string", "format": "date-time", "maxLength": 20 }"#,
        at,
        true,
    );
    check(r#"{ "const": "2026-01-31T08:00:00Z" }"#, at, true);
    check(r#"{ "type": "object" }"#, at, false);
    check(r#"{ "const": "AQI=" }"#, r#"{"$bytes":"AQI="}"#, true);
    check(r#"{ "type": "null" }"#, r#"{"$double":"NaN"}"#, true);
    check(
        r#"{ "type": "number" }"#,
        r#"{"$double":"Infinity"}"#,
        false,
    );
    check(
        r#"{ "items": { "type": "number" }, "minItems": 2 }"#,
        r#"{"$vector":[1,2.5]}"#,
        true,
    );
    check(
        r#"{ "required": ["latitude"], "properties": { "longitude": { "maximum": 3 } } }"#,
        r#"{"$geopoint":[1,4]}"#,
        false,
    );
}

#[test]
fn unusable_schemas_are_refused() {
    let check = |text: &str, message: &str| {
        let error = JsonSchema::load("s.json", text).err().unwrap().to_string();
        assert!(
            error.starts_with("s.json") && error.contains(message),
            "{error}"
        );
    };
    check("{", "s.json:1:2: the JSON Schema is no JSON");
    check(r#"{"type": "objekt"}"#, "no usable JSON Schema");
    check(
        r#"{"$ref": "https://example.com/x.json"}"#,
        "no usable JSON Schema",
    );
    check(r#"{"const": 1.00000000000000000001}"#, "more digits");
}

#[test]
fn checksums_are_of_meaning() {
    let sum = |text: &str| JsonSchema::load("s.json", text).unwrap().checksum();
    let one = sum(r#"{"type":"object","minProperties":1}"#);
    assert_eq!(one, sum(r#"{ "minProperties": 1, "type": "object" }"#));
    assert_ne!(one, sum(r#"{"type":"object","minProperties":2}"#));
}

#[test]
fn changes_of_schema_are_judged() {
    use Compatibility::{Backward, Breaking, Forward, Full};
    let check = |old: &str, new: &str, expect: Compatibility, reason: &str| {
        let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        let (old, new) = (parse(old), parse(new));
        let judge = |old, new| {
            let judgements = compare_json_schemas(old, new);
            let all = judgements
                .iter()
                .fold(Full, |all, j| all.and(j.compatibility));
            (all, judgements)
        };
        let (there, judgements) = judge(&old, &new);
        assert_eq!(there, expect, "{old} -> {new}: {judgements:?}");
        let told = judgements.iter().any(|j| j.reason.contains(reason));
        assert!(told || reason.is_empty(), "{judgements:?} lacks {reason}");
        // What is backward one way is forward the other way.
        let (back, _) = judge(&new, &old);
        assert_eq!(
            back,
            Compatibility::of(expect.forward(), expect.backward()),
            "{new} -> {old}"
        );
    };
    let props = |inner: &str| format!(r#"{{"properties":{{"a":{inner}}}}}"#);
    let change = |old: &str, new: &str, expect, reason: &str| {
        check(&props(old), &props(new), expect, reason);
    };
    check("{}", "{}", Full, "");
    check(
        r#"{"title":"x"}"#,
        r#"{"title":"y","description":"z"}"#,
        Full,
        "",
    );
    check(
        &props("{}"),
        r#"{"properties":{"a":{},"b":{"type":"string"}}}"#,
        Full,
        "optional field",
    );
    check(
        r#"{"properties":{}}"#,
        r#"{"properties":{"a":{"type":"string"}},"required":["a"]}"#,
        Forward,
        "a: the field is required now",
    );
    check(
        r#"{"properties":{"a":{}},"additionalProperties":false}"#,
        r#"{"properties":{"a":{},"b":{}},"additionalProperties":false}"#,
        Backward,
        "b: the field was not allowed",
    );
    check(
        r#"{"properties":{"a":{}}}"#,
        r#"{"properties":{"a":{}},"additionalProperties":false}"#,
        Forward,
        "fields that are not named: nothing is accepted now",
    );
    change(
        r#"{"type":"integer"}"#,
        r#"{"type":"number"}"#,
        Backward,
        "a: the type integer became number",
    );
    change(
        r#"{"type":"string"}"#,
        r#"{"type":["string","null"]}"#,
        Backward,
        "null or string",
    );
    change(
        r#"{"type":"string"}"#,
        r#"{"type":"array"}"#,
        Breaking,
        "string became array",
    );
    change(r#"{"type":"string"}"#, r#"{}"#, Backward, "anything");
    change(
        r#"{"enum":["x"]}"#,
        r#"{"enum":["x","y"]}"#,
        Backward,
        "grew",
    );
    change(
        r#"{"enum":["x","y"]}"#,
        r#"{"enum":["y","z"]}"#,
        Breaking,
        "changed",
    );
    change(r#"{"const":1}"#, r#"{"type":"integer"}"#, Breaking, "");
    change(
        r#"{"minLength":1}"#,
        r#"{"minLength":2}"#,
        Forward,
        "minLength",
    );
    change(r#"{"maximum":1}"#, r#"{"maximum":2}"#, Backward, "maximum");
    change(
        r#"{"pattern":"a"}"#,
        r#"{"pattern":"b"}"#,
        Breaking,
        "pattern",
    );
    change(
        r#"{"items":{"properties":{"b":{"type":"string"}}}}"#,
        r#"{"items":{"properties":{"b":{"type":"null"}}}}"#,
        Breaking,
        "a[].b: the type string became null",
    );
    change(
        r#"{"anyOf":[{"type":"string"}]}"#,
        r#"{"anyOf":[{"type":"string"},{"type":"null"}]}"#,
        Backward,
        "anyOf",
    );
    change(
        r#"{"allOf":[{"minLength":1}]}"#,
        r#"{"allOf":[{"minLength":1},{"maxLength":9}]}"#,
        Forward,
        "allOf",
    );
    // References are followed, recursive ones to their end.
    let tree = |kind: &str| {
        format!(
            r##"{{"$ref":"#/$defs/t","$defs":{{"t":{{"properties":{{"v":{{"type":"{kind}"}},"next":{{"$ref":"#/$defs/t"}}}}}}}}}}"##
        )
    };
    check(&tree("string"), &tree("array"), Breaking, "v: the type");
    check(&tree("string"), &tree("string"), Full, "");
}
