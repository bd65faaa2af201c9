//! Copy rules, from their file to derived documents.

use std::path::Path;
use whimbrel_model::rule::{CopyRule, OnError};
use whimbrel_model::{
    Code, DocContext, DocError, Draft, Emit, Key, Timestamp, Transform, TransformInput, Value,
};
use whimbrel_transform::{LoadError, OperationTransform, ScriptLimits, parse_rules};

fn parse(text: &str) -> Result<Vec<CopyRule>, Vec<LoadError>> {
    parse_rules("r.toml", text, Path::new("."), ScriptLimits::default()).map(|rules| rules.rules)
}

fn rule(text: &str) -> CopyRule {
    parse(&format!("[[rule]]\nname = \"r\"\n{text}"))
        .unwrap()
        .remove(0)
}

fn draft(text: &str) -> Draft {
    Draft::from_json(bytes::Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn run(rule: &CopyRule, input: TransformInput) -> Result<Vec<(String, String)>, DocError> {
    let key = Key::text("k");
    let cx = DocContext::new(&key, Timestamp::from_millis(0));
    let emits = rule.transform.as_ref().unwrap().apply(input, &cx)?;
    Ok(emits
        .into_iter()
        .map(|Emit { key, body, .. }| {
            let body = String::from_utf8(body.into_json().to_vec()).unwrap();
            (key.map_or("-".to_owned(), |key| format!("{key:?}")), body)
        })
        .collect())
}

fn one(rule: &CopyRule, key: Key, doc: &str) -> Result<Vec<(String, String)>, DocError> {
    run(
        rule,
        TransformInput::One {
            key,
            doc: draft(doc),
        },
    )
}

fn texts(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect()
}

#[test]
fn a_rule_is_read() {
    let rules = parse(
        r#"
        description = "One document a message"
        [[rule]]
        name = "messages"
        collection = "conversations"
        read_as = 3
        into = "messages"
        where = { field = "archived", equals = false }
        on_error = "abort"
        provenance = true
        [[rule.do]]
        op = "rename"
        from = "a"
        to = "b"
        [rule.validate]
        required = ["b"]

        [[rule]]
        name = "rest"
        where = { all = [ { field = "n", at_least = 2, below = 5 }, { not = { field = "x", exists = true } } ] }
        provenance = { source_id = "from" }
        on_error = "skip"
        "#,
    )
    .unwrap();
    let [messages, rest] = &rules[..] else {
        panic!("{rules:?}")
    };
    assert_eq!(messages.collection.as_deref(), Some("conversations"));
    assert_eq!(
        (messages.read_as, messages.on_error),
        (Some(3), OnError::Abort)
    );
    assert_eq!(messages.migrated_at.as_deref(), Some("_migratedAt"));
    assert_eq!(messages.source_id.as_deref(), Some("_sourceId"));
    assert_eq!(
        (rest.migrated_at.as_deref(), rest.source_id.as_deref()),
        (None, Some("from"))
    );
    assert!(rest.transform.is_none() && rest.into.is_none() && rest.on_error == OnError::Skip);
    assert_ne!(messages.checksum, rest.checksum);

    let takes = |rule: &CopyRule, doc: &str| {
        rule.filter
            .as_ref()
            .unwrap()
            .matches(&mut draft(doc))
            .unwrap()
    };
    assert!(takes(messages, r#"{"archived":false}"#));
    assert!(!takes(messages, r#"{}"#));
    assert!(takes(rest, r#"{"n":2}"#) && takes(rest, r#"{"n":4.9}"#));
    assert!(!takes(rest, r#"{"n":5}"#) && !takes(rest, r#"{"n":3,"x":null}"#));

    let done = one(messages, Key::Int(1), r#"{"a":1}"#).unwrap();
    assert_eq!(done, texts(&[("-", r#"{"b":1}"#)]));
    let key = Key::Int(1);
    let cx = DocContext::new(&key, Timestamp::from_millis(0));
    let error = messages
        .validate
        .as_ref()
        .unwrap()
        .validate(&mut draft("{}"), &cx);
    assert_eq!(error.unwrap_err().code, Code::DocInvalid);
}

const SPLIT: &str = r#"
    [rule.split]
    field = "messages"
    key = "{key}:{index:03}"
    parent = "conversationId"
    index = "seq"
    keep = ["userId", "meta.lang"]
"#;

#[test]
fn one_becomes_many() {
    let split = rule(SPLIT);
    let doc = r#"{"userId":"u","meta":{"lang":"de"},"messages":[{"t":1},{"t":2}]}"#;
    assert_eq!(
        one(&split, Key::text("c1"), doc).unwrap(),
        texts(&[
            (
                r#"Text("c1:000")"#,
                r#"{"t":1,"conversationId":"c1","seq":0,"userId":"u","lang":"de"}"#
            ),
            (
                r#"Text("c1:001")"#,
                r#"{"t":2,"conversationId":"c1","seq":1,"userId":"u","lang":"de"}"#
            ),
        ])
    );
    assert_eq!(one(&split, Key::Int(7), r#"{"messages":null}"#), Ok(vec![]));
    assert_eq!(one(&split, Key::Int(7), "{}"), Ok(vec![]));
    let map = rule(
        "[rule.split]\nfield = \"m\"\nkey = \"{key}/{index}\"\nindex = \"name\"\nparent = \"p\"",
    );
    assert_eq!(
        one(&map, Key::Int(7), r#"{"m":{"x":{"a":1}}}"#).unwrap(),
        texts(&[(r#"Text("7/x")"#, r#"{"a":1,"p":7,"name":"x"}"#)])
    );
    // A key of one field alone keeps its type.
    let own = rule("[rule.split]\nfield = \"m\"\nkey = \"{ids.n}\"");
    assert_eq!(
        one(&own, Key::Int(7), r#"{"m":[{"ids":{"n":5}}]}"#).unwrap(),
        texts(&[("Int(5)", r#"{"ids":{"n":5}}"#)])
    );

    let fails = |rule: &CopyRule, doc: &str, code: Code, path: &str| {
        let error = one(rule, Key::Int(7), doc).unwrap_err();
        assert_eq!(
            (error.code, error.path.as_deref()),
            (code, Some(path)),
            "{error}"
        );
    };
    fails(&split, r#"{"messages":"x"}"#, Code::DocType, "messages");
    fails(
        &split,
        r#"{"messages":[{},5]}"#,
        Code::DocType,
        "messages[1]",
    );
    fails(
        &split,
        r#"{"messages":[{"seq":9}]}"#,
        Code::DocTransform,
        "messages[0].seq",
    );
    fails(&own, r#"{"m":[{"ids":{}}]}"#, Code::DocKey, "m[0].ids.n");
}

#[test]
fn many_become_one() {
    let merge = rule(
        "[rule.group]\nby = \"conversationId\"\norder_by = [\"seq\"]\n[rule.merge]\nfield = \"messages\"\nlift = [\"userId\"]\nwithout = [\"conversationId\", \"seq\"]",
    );
    let group = merge.group.as_ref().unwrap();
    assert_eq!(
        (group.by.to_string(), group.order_by.len()),
        ("conversationId".to_owned(), 1)
    );
    let docs = |second_user: &str| TransformInput::Group {
        value: Value::String("c1".to_owned()),
        docs: vec![
            (
                Key::Int(1),
                draft(r#"{"t":1,"conversationId":"c1","seq":0,"userId":"u"}"#),
            ),
            (
                Key::Int(2),
                draft(&format!(
                    r#"{{"t":2,"conversationId":"c1","seq":1,"userId":"{second_user}"}}"#
                )),
            ),
        ],
    };
    assert_eq!(
        run(&merge, docs("u")).unwrap(),
        texts(&[(
            r#"Text("c1")"#,
            r#"{"userId":"u","messages":[{"t":1},{"t":2}]}"#
        )])
    );
    let error = run(&merge, docs("v")).unwrap_err();
    assert!(
        error.message.contains("document 2") && error.path.as_deref() == Some("userId"),
        "{error}"
    );
    let input = TransformInput::Group {
        value: Value::Null,
        docs: vec![],
    };
    assert_eq!(run(&merge, input).unwrap_err().code, Code::DocKey);
}

#[test]
fn mistakes_are_told_with_their_line() {
    let check = |text: &str, expect: &[&str]| {
        let errors = parse(text).unwrap_err();
        let shown: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(shown.len(), expect.len(), "{shown:#?}");
        for expect in expect {
            assert!(
                shown.iter().any(|e| e.contains(expect)),
                "{expect}: {shown:#?}"
            );
        }
    };
    check("", &["has no [[rule]]"]);
    check(
        "[[rule]]\nnam = \"x\"\non_error = \"stop\"\nread_as = 0",
        &[
            "r.toml:1:1: \"name\" is missing",
            "2:1: unknown key \"nam\"",
            "3:1: \"on_error\" must be",
            "4:1: schema versions",
        ],
    );
    let with = |text: &str| format!("[[rule]]\nname = \"x\"\n{text}");
    check(
        &with("[rule.group]\nby = \"a\""),
        &["needs a transform or merge"],
    );
    check(
        &with("[rule.merge]\nfield = \"a\""),
        &["needs [rule.group]"],
    );
    check(
        &with("[rule.split]\nfield = \"a\"\nkey = \"{key}\""),
        &["same key"],
    );
    check(
        &with("[rule.split]\nfield = \"a\"\nkey = \"{key\""),
        &["without its pair"],
    );
    check(
        &with("[rule.split]"),
        &["\"field\" is missing", "\"key\" is missing"],
    );
    check(&with("where = { field = \"a\" }"), &["needs equals"]);
    check(
        &with("where = { }"),
        &["exactly one of field, all, any, not"],
    );
    check(
        &with("where = { field = \"a\", eq = 1 }"),
        &["unknown key \"eq\"", "needs equals"],
    );
    check(
        &with("transform = \"gone.ts\""),
        &["gone.ts cannot be read"],
    );
    check(&with("provenance = 1"), &["must be a table"]);
    check(
        "[[rule]]\nname = \"x\"\n[[rule]]\nname = \"x\"",
        &["two rules are called \"x\""],
    );
}

#[test]
fn a_list_of_operations_is_a_transform() {
    let parse = |text: &str| OperationTransform::parse("do.toml", text);
    let rename = parse("[[do]]\nop = \"rename\"\nfrom = \"a\"\nto = \"b\"").unwrap();
    let key = Key::Int(1);
    let cx = DocContext::new(&key, Timestamp::from_millis(0));
    let input = TransformInput::One {
        key: key.clone(),
        doc: draft(r#"{"a":1}"#),
    };
    let emits = rename.apply(input, &cx).unwrap();
    assert_eq!(&emits[0].body.json()[..], br#"{"b":1}"#);
    assert!(emits[0].key.is_none() && emits.len() == 1);
    let group = TransformInput::Group {
        value: Value::Null,
        docs: vec![],
    };
    assert_eq!(
        rename.apply(group, &cx).unwrap_err().code,
        Code::DocTransform
    );
    let same = parse("do = [{ to = 'b', from = 'a', op = 'rename' }] # note").unwrap();
    assert_eq!(rename.checksum(), same.checksum());
    let errors = parse("[[do]]\nop = \"x\"\n[[done]]").err().unwrap();
    assert_eq!(errors.len(), 2, "{errors:?}");
}

#[test]
fn checksums_are_of_meaning() {
    let sum = |text: &str| rule(text).checksum;
    let one = sum("into = \"a\"\nread_as = 2");
    assert_eq!(one, sum("# why\nread_as  =  2\ninto = 'a'"));
    assert_ne!(one, sum("into = \"b\"\nread_as = 2"));
    let both = parse("[[rule]]\nname = \"a\"\n[[rule]]\nname = \"b\"").unwrap();
    let first = parse("[[rule]]\nname = \"a\"").unwrap();
    assert_eq!(both[0].checksum, first[0].checksum);
    assert_ne!(both[0].checksum, both[1].checksum);
}

#[cfg(feature = "typescript")]
#[test]
fn scripts_and_schemas_are_found_beside_the_file() {
    use whimbrel_transform::load_rules;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rules.toml");
    let write = |script: &str, schema: &str| {
        std::fs::write(dir.path().join("t.ts"), script).unwrap();
        std::fs::write(dir.path().join("s.json"), schema).unwrap();
        let text =
            "[[rule]]\nname = \"x\"\ntransform = \"t.ts\"\n[rule.validate]\nschema = \"s.json\"";
        std::fs::write(&file, text).unwrap();
        load_rules(&file, ScriptLimits::default())
            .unwrap()
            .rules
            .remove(0)
    };
    let script = "export const transform = (doc: any) => ({ ...doc, n: doc.n + 1 });";
    let rule = write(script, "{}");
    assert_eq!(
        one(&rule, Key::Int(1), r#"{"n":1}"#).unwrap(),
        texts(&[("-", r#"{"n":2}"#)])
    );
    assert_ne!(
        rule.checksum,
        write(&script.replace('1', "2"), "{}").checksum
    );
    assert_ne!(
        rule.checksum,
        write(script, r#"{"type":"object"}"#).checksum
    );
    assert_eq!(
        rule.checksum,
        write(&format!("{script} // note"), "{ }").checksum
    );
    let gone = load_rules(&dir.path().join("gone.toml"), ScriptLimits::default());
    assert!(gone.unwrap_err()[0].message.contains("cannot be read"));
}
