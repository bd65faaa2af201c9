use super::*;
use crate::table::Source;
use whimbrel_model::{Code, Key, Timestamp, Value};

pub(super) fn parse(text: &str) -> Result<Operations, Vec<String>> {
    let source = Source::new("x.toml", text, Code::SchemaInvalid);
    let operations = source.parse().map(|root| {
        let table = crate::table::Table::new(&source, root.get_ref(), 0..0);
        let up = table.tables("up").unwrap_or_default();
        table.finish();
        operations(&up)
    });
    let errors = source.into_errors();
    match operations {
        Some(operations) if errors.is_empty() => Ok(operations),
        _ => Err(errors.iter().map(ToString::to_string).collect()),
    }
}

pub(super) fn draft(text: &str) -> Draft {
    Draft::from_json(bytes::Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

pub(super) fn text(doc: &Draft) -> String {
    let mut out = Vec::new();
    doc.write(&mut out);
    String::from_utf8(out).unwrap()
}

pub(super) fn with_cx<T>(work: impl FnOnce(&DocContext<'_>) -> T) -> T {
    let key = Key::text("k");
    work(&DocContext::new(
        &key,
        Timestamp::from_millis(1_769_846_400_500),
    ))
}

/// Applies the operation (one inline table), and takes the step back with the complement and without.
fn check(operation: &str, before: &str, after: &str, back_without: &str) {
    let operations = parse(&format!("up = [{operation}]")).unwrap();
    with_cx(|cx| {
        let mut doc = draft(before);
        let complement = operations.apply(&mut doc, cx).unwrap();
        assert_eq!(text(&doc), after, "{operation}");
        let mut forgetful = doc.clone();
        operations.invert(&mut doc, Some(&complement), cx).unwrap();
        assert_eq!(text(&doc), before, "{operation} undone with {complement:?}");
        operations.invert(&mut forgetful, None, cx).unwrap();
        assert_eq!(text(&forgetful), back_without, "{operation} undone without");
    });
}

fn fails(operation: &str, before: &str, path: &str, message: &str) {
    let operations = parse(&format!("up = [{operation}]")).unwrap();
    with_cx(|cx| {
        let mut doc = draft(before);
        let error = operations.apply(&mut doc, cx).unwrap_err();
        assert_eq!(error.code, Code::DocType, "{operation}");
        assert_eq!(error.path.as_deref(), Some(path), "{operation}");
        assert!(error.message.contains(message), "{operation}: {error}");
        assert_eq!(text(&doc), before, "{operation} left the document changed");
    });
}

#[test]
fn adding() {
    let add = r#"{ op = "add", path = "w", value = { b = 1, a = [] } }"#;
    check(
        add,
        r#"{"x":1}"#,
        r#"{"x":1,"w":{"b":1,"a":[]}}"#,
        r#"{"x":1}"#,
    );
    check(
        add,
        r#"{"w":null,"x":1}"#,
        r#"{"w":null,"x":1}"#,
        r#"{"x":1}"#,
    );
    let deep = r#"{ op = "add", path = "a.b.c", json = "null" }"#;
    check(
        deep,
        r#"{}"#,
        r#"{"a":{"b":{"c":null}}}"#,
        r#"{"a":{"b":{}}}"#,
    );
    check(
        deep,
        r#"{"a":{}}"#,
        r#"{"a":{"b":{"c":null}}}"#,
        r#"{"a":{"b":{}}}"#,
    );
    check(
        deep,
        r#"{"a":{"b":{}}}"#,
        r#"{"a":{"b":{"c":null}}}"#,
        r#"{"a":{"b":{}}}"#,
    );
    let copy = r#"{ op = "add", path = "b", copy = "a.x" }"#;
    check(
        copy,
        r#"{"a":{"x":[1]}}"#,
        r#"{"a":{"x":[1]},"b":[1]}"#,
        r#"{"a":{"x":[1]}}"#,
    );
    check(copy, r#"{"a":null}"#, r#"{"a":null}"#, r#"{"a":null}"#);
    let now = |form: &str, value: &str| {
        check(
            &format!(r#"{{ op = "add", path = "t", now = {form} }}"#),
            "{}",
            &format!(r#"{{"t":{value}}}"#),
            "{}",
        );
    };
    now("true", r#"{"$timestamp":"2026-01-31T08:00:00.5Z"}"#);
    now(r#""text""#, r#""2026-01-31T08:00:00.5Z""#);
    now(r#""ms""#, "1769846400500");
    now(r#""s""#, "1769846400");
    fails(
        add.replace("\"w\"", "\"x.y\"").as_str(),
        r#"{"x":5}"#,
        "x",
        "an int, not a map",
    );
    fails(deep, r#"{"a":{"b":null}}"#, "a.b", "null");
}

#[test]
fn setting() {
    let set = r#"{ op = "set", path = "s", value = "new" }"#;
    check(
        set,
        r#"{"s":"old","x":1}"#,
        r#"{"s":"new","x":1}"#,
        r#"{"s":"new","x":1}"#,
    );
    check(
        set,
        r#"{"x":1}"#,
        r#"{"x":1,"s":"new"}"#,
        r#"{"x":1,"s":"new"}"#,
    );
    let deep = r#"{ op = "set", path = "a.b", copy = "x" }"#;
    check(
        deep,
        r#"{"x":1}"#,
        r#"{"x":1,"a":{"b":1}}"#,
        r#"{"x":1,"a":{"b":1}}"#,
    );
    check(
        deep,
        r#"{"a":{"b":null}}"#,
        r#"{"a":{"b":null}}"#,
        r#"{"a":{"b":null}}"#,
    );
}

#[test]
fn removing() {
    let remove = r#"{ op = "remove", path = "a" }"#;
    check(remove, r#"{"a":null,"x":1}"#, r#"{"x":1}"#, r#"{"x":1}"#);
    check(remove, r#"{"x":1,"a":[1.5]}"#, r#"{"x":1}"#, r#"{"x":1}"#);
    check(remove, r#"{"x":1}"#, r#"{"x":1}"#, r#"{"x":1}"#);
    let deep = r#"{ op = "remove", path = "p.a", default = 7 }"#;
    check(
        deep,
        r#"{"p":{"a":1,"b":2}}"#,
        r#"{"p":{"b":2}}"#,
        r#"{"p":{"b":2,"a":7}}"#,
    );
    check(
        deep,
        r#"{"p":{"b":2}}"#,
        r#"{"p":{"b":2}}"#,
        r#"{"p":{"b":2,"a":7}}"#,
    );
    fails(
        r#"{ op = "remove", path = "a.b", required = true }"#,
        r#"{"a":{}}"#,
        "a.b",
        "missing",
    );
    fails(deep, r#"{"p":"text"}"#, "p", "a string, not a map");
    let null = r#"{ op = "drop_null", path = "c" }"#;
    check(null, r#"{"c":null,"x":1}"#, r#"{"x":1}"#, r#"{"x":1}"#);
    check(
        null,
        r#"{"c":0,"x":1}"#,
        r#"{"c":0,"x":1}"#,
        r#"{"c":0,"x":1}"#,
    );
}

#[test]
fn placing() {
    let rename = r#"{ op = "rename", from = "a", to = "b" }"#;
    check(
        rename,
        r#"{"a":1,"x":2}"#,
        r#"{"b":1,"x":2}"#,
        r#"{"a":1,"x":2}"#,
    );
    check(rename, r#"{"b":1}"#, r#"{"b":1}"#, r#"{"a":1}"#);
    fails(rename, r#"{"a":1,"b":2}"#, "b", "already");
    fails(
        &rename.replace("\"b\"", "\"b\", required = true"),
        "{}",
        "a",
        "missing",
    );
    let over = rename.replace("\"b\"", "\"b\", overwrite = true");
    check(
        &over,
        r#"{"b":1,"a":2,"c":3}"#,
        r#"{"b":2,"c":3}"#,
        r#"{"a":2,"c":3}"#,
    );
    let deep = r#"{ op = "rename", from = "p.a", to = "p.b" }"#;
    check(
        deep,
        r#"{"p":{"a":1,"x":2}}"#,
        r#"{"p":{"b":1,"x":2}}"#,
        r#"{"p":{"a":1,"x":2}}"#,
    );

    let go = r#"{ op = "move", from = "a", to = "m.n.a" }"#;
    check(
        go,
        r#"{"a":1,"x":2}"#,
        r#"{"x":2,"m":{"n":{"a":1}}}"#,
        r#"{"x":2,"m":{"n":{}},"a":1}"#,
    );
    check(
        go,
        r#"{"m":{"n":{"a":3}}}"#,
        r#"{"m":{"n":{"a":3}}}"#,
        r#"{"m":{"n":{}},"a":3}"#,
    );
    fails(go, r#"{"a":1,"m":{"n":null}}"#, "m.n", "null");
    let over = r#"{ op = "move", from = "p.a", to = "b", overwrite = true }"#;
    check(
        over,
        r#"{"b":9,"p":{"a":1,"c":2}}"#,
        r#"{"b":1,"p":{"c":2}}"#,
        r#"{"p":{"c":2,"a":1}}"#,
    );

    let copy = r#"{ op = "copy", from = "a", to = "b" }"#;
    check(
        copy,
        r#"{"a":[1],"x":2}"#,
        r#"{"a":[1],"x":2,"b":[1]}"#,
        r#"{"a":[1],"x":2}"#,
    );
    check(copy, r#"{"b":1}"#, r#"{"b":1}"#, r#"{}"#);
    let over = r#"{ op = "copy", from = "a", to = "m.b", overwrite = true }"#;
    check(
        over,
        r#"{"m":{"b":5},"a":1}"#,
        r#"{"m":{"b":1},"a":1}"#,
        r#"{"m":{},"a":1}"#,
    );
}

#[test]
fn casting() {
    let cast = |how: &str, before: &str, after: &str, without: &str| {
        let doc = |value: &str| format!(r#"{{"v":{value},"z":0}}"#);
        let operation = format!(r#"{{ op = "cast", path = "v", {how} }}"#);
        check(&operation, &doc(before), &doc(after), &doc(without));
    };
    cast(r#"to = "int""#, r#""12""#, "12", "12");
    cast(r#"to = "int", from = "string""#, r#""12""#, "12", r#""12""#);
    cast(
        r#"to = "int", from = "string""#,
        r#""+012""#,
        "12",
        r#""12""#,
    );
    cast(r#"to = "int", from = "string""#, "12", "12", r#""12""#);
    cast(r#"to = "int""#, "null", "null", "null");
    cast(r#"to = "double", from = "int""#, "3", "3.0", "3");
    cast(
        r#"to = "double", from = "int""#,
        "9007199254740993",
        "9007199254740992.0",
        "9007199254740992",
    );
    cast(r#"to = "string""#, "true", r#""true""#, r#""true""#);
    cast(r#"to = "bool", from = "int""#, "1", "true", "1");
    cast(
        r#"to = "timestamp", from = "string""#,
        r#""2026-01-31T09:00:00+01:00""#,
        r#"{"$timestamp":"2026-01-31T08:00:00Z"}"#,
        r#""2026-01-31T08:00:00Z""#,
    );
    cast(
        r#"to = "timestamp", from = "int", unit = "s""#,
        "-1",
        r#"{"$timestamp":"1969-12-31T23:59:59Z"}"#,
        "-1",
    );
    cast(
        r#"to = "int", from = "timestamp""#,
        r#"{"$timestamp":"2026-01-31T08:00:00.5009Z"}"#,
        "1769846400500",
        r#"{"$timestamp":"2026-01-31T08:00:00.5Z"}"#,
    );
    cast(
        r#"to = "json""#,
        r#""{\"a\": [1, null]}""#,
        r#"{"a":[1,null]}"#,
        r#""{\"a\":[1,null]}""#,
    );
    cast(r#"to = "json""#, r#""null""#, "null", "null");
    cast(
        r#"to = "json""#,
        r#"{"a":1}"#,
        r#"{"a":1}"#,
        r#""{\"a\":1}""#,
    );
    cast(
        r#"to = "json_string""#,
        r#"{"a":1}"#,
        r#""{\"a\":1}""#,
        r#"{"a":1}"#,
    );

    let no = |how: &str, value: &str, message: &str| {
        let operation = format!(r#"{{ op = "cast", path = "v", {how} }}"#);
        fails(&operation, &format!(r#"{{"v":{value}}}"#), "v", message);
    };
    no(r#"to = "int""#, r#""1.5""#, "cannot be cast to int");
    no(r#"to = "int""#, "1.5", "cannot be cast to int");
    no(
        r#"to = "double""#,
        r#""infinity""#,
        "cannot be cast to double",
    );
    no(r#"to = "json""#, r#""{""#, "cannot be cast to json");
    no(
        r#"to = "bool", from = "int""#,
        r#""true""#,
        "not of type int",
    );
    no(
        r#"to = "timestamp""#,
        r#""yesterday""#,
        "cannot be cast to timestamp",
    );
    no(r#"to = "string""#, "[1]", "cannot be cast to string");
}

#[test]
fn mapping_values() {
    let map = r#"{ op = "map_values", path = "s", map = { a = "x", b = "x", 1 = "one" } }"#;
    check(map, r#"{"s":"a"}"#, r#"{"s":"x"}"#, r#"{"s":"a"}"#);
    check(map, r#"{"s":"b"}"#, r#"{"s":"x"}"#, r#"{"s":"a"}"#);
    check(map, r#"{"s":"x"}"#, r#"{"s":"x"}"#, r#"{"s":"a"}"#);
    check(map, r#"{"s":1}"#, r#"{"s":"one"}"#, r#"{"s":"1"}"#);
    check(map, r#"{"s":null}"#, r#"{"s":null}"#, r#"{"s":null}"#);
    let strict = map.replace("map =", "otherwise = \"error\", map =");
    fails(&strict, r#"{"s":"c"}"#, "s", "not among");
}

#[test]
fn wrapping() {
    let array = r#"{ op = "wrap", path = "v", as = "array" }"#;
    check(
        array,
        r#"{"v":null,"x":1}"#,
        r#"{"v":[null],"x":1}"#,
        r#"{"v":null,"x":1}"#,
    );
    check(array, r#"{"x":1}"#, r#"{"x":1}"#, r#"{"x":1}"#);
    let map = r#"{ op = "wrap", path = "v", in = "text" }"#;
    check(map, r#"{"v":"a"}"#, r#"{"v":{"text":"a"}}"#, r#"{"v":"a"}"#);
    let out = map.replace("wrap", "unwrap");
    check(
        &out,
        r#"{"v":{"n":1,"text":"a","m":2}}"#,
        r#"{"v":"a"}"#,
        r#"{"v":{"text":"a"}}"#,
    );
    check(
        &out,
        r#"{"v":null}"#,
        r#"{"v":null}"#,
        r#"{"v":{"text":null}}"#,
    );
    fails(&out, r#"{"v":{"n":1}}"#, "v", "no field");
    let first = array.replace("wrap", "unwrap");
    fails(&first, r#"{"v":[1,2]}"#, "v", "exactly one");
    fails(&first, r#"{"v":5}"#, "v", "not an array");
}

#[test]
fn reaching_into_elements() {
    let each = r#"{ op = "each", path = "m", do = [
        { op = "rename", from = "text", to = "content" }, { op = "add", path = "id", value = "" } ] }"#;
    check(
        each,
        r#"{"m":[{"text":1},{"content":2,"id":3}]}"#,
        r#"{"m":[{"content":1,"id":""},{"content":2,"id":3}]}"#,
        r#"{"m":[{"text":1},{"text":2}]}"#,
    );
    check(each, r#"{"m":null}"#, r#"{"m":null}"#, r#"{"m":null}"#);
    check(
        each,
        r#"{"m":{"k":{"text":1}}}"#,
        r#"{"m":{"k":{"content":1,"id":""}}}"#,
        r#"{"m":{"k":{"text":1}}}"#,
    );
    fails(
        each,
        r#"{"m":"text"}"#,
        "m",
        "a string, not an array or a map",
    );
    fails(each, r#"{"m":[{"text":0},7]}"#, "m[1]", "an int, not a map");
    fails(
        each,
        r#"{"m":[{"text":0,"content":1}]}"#,
        "m[0].content",
        "already",
    );
    let short = r#"{ op = "cast", path = "m[].calls[].f.args", to = "json" }"#;
    check(
        short,
        r#"{"m":[{"calls":[{"f":{"args":"{\"a\": 1}"}}]},{"calls":null},{}]}"#,
        r#"{"m":[{"calls":[{"f":{"args":{"a":1}}}]},{"calls":null},{}]}"#,
        r#"{"m":[{"calls":[{"f":{"args":"{\"a\":1}"}}]},{"calls":null},{}]}"#,
    );
    fails(
        short,
        r#"{"m":[{"calls":[{"f":{"args":"{"}}]}]}"#,
        "m[0].calls[0].f.args",
        "cannot be cast",
    );
}

/// What the app wrote between up and down stays.
#[test]
fn later_changes_are_kept() {
    let check = |operation: &str, before: &str, change: (&str, Value), after: &str| {
        let operations = parse(&format!("up = [{operation}]")).unwrap();
        with_cx(|cx| {
            let mut doc = draft(before);
            let complement = operations.apply(&mut doc, cx).unwrap();
            doc.set(change.0, change.1.clone());
            operations.invert(&mut doc, Some(&complement), cx).unwrap();
            assert_eq!(text(&doc), after, "{operation}");
        });
    };
    let text = |s: &str| Value::String(s.to_owned());
    let remove = r#"{ op = "remove", path = "a" }"#;
    check(remove, r#"{"a":1}"#, ("a", Value::Int(2)), r#"{"a":2}"#);
    let set = r#"{ op = "set", path = "a", value = 5 }"#;
    check(set, r#"{"a":1}"#, ("a", Value::Int(6)), r#"{"a":6}"#);
    let map = r#"{ op = "map_values", path = "a", map = { p = "x", q = "x", r = "y" } }"#;
    check(map, r#"{"a":"q"}"#, ("a", text("y")), r#"{"a":"r"}"#);
    let cast = r#"{ op = "cast", path = "a", to = "int" }"#;
    check(cast, r#"{"a":"1"}"#, ("a", Value::Int(7)), r#"{"a":"7"}"#);
}

#[test]
fn mistakes_are_told_with_their_line() {
    let check = |text: &str, expect: &[&str]| {
        let errors = parse(text).err().unwrap();
        assert_eq!(errors.len(), expect.len(), "{errors:#?}");
        for (error, expect) in errors.iter().zip(expect) {
            assert!(error.starts_with("x.toml:"), "{error}");
            assert!(error.contains(expect), "{error} lacks {expect}");
        }
    };
    check(
        "[[up]]\nop = \"ad\"",
        &["2:1: there is no operation \"ad\""],
    );
    check("[[up]]\npath = \"a\"", &["\"op\" is missing"]);
    check(
        "[[up]]\nop = \"rename\"\nfrm = \"a\"\nto = \"b\"",
        &[
            "\"from\" is missing",
            "3:1: unknown key \"frm\"; known here: from, op, overwrite",
        ],
    );
    check(
        "up = [{ op = 'add', path = 'a..b', value = 1 }, { op = 'add', path = 'a' }]",
        &["is no path", "exactly one of value, json, now, copy"],
    );
    check(
        "up = [{ op = 'add', path = 'a', value = 1979-05-27 }]",
        &["is no instant"],
    );
    check(
        "up = [{ op = 'add', path = 'a', json = '{' }]",
        &["is no JSON text"],
    );
    check(
        "up = [{ op = 'add', path = 1, value = 1 }]",
        &["must be a string, not integer"],
    );
    check(
        "up = [{ op = 'remove', path = 'tags[]' }]",
        &["ends with an element"],
    );
    check(
        "up = [{ op = 'rename', from = 'a.b', to = 'c.d' }]",
        &["same siblings"],
    );
    check(
        "up = [{ op = 'move', from = 'a', to = 'a.b' }]",
        &["into itself"],
    );
    check(
        "up = [{ op = 'move', from = 'm[].a', to = 'b' }]",
        &["same elements"],
    );
    check(
        "up = [{ op = 'cast', path = 'a', to = 'uuid' }]",
        &["is no type of cast"],
    );
    check(
        "up = [{ op = 'each', path = 'a', do = [{ op = 'x' }] }]",
        &["no operation \"x\""],
    );
    check("up = [1]", &["holds integer, where a table is needed"]);
    check("up = 1", &["must be an array of tables"]);
    check("[[up]\nop = 1", &["x.toml:1:"]);
}
