//! Schema folders, from files to migrated documents.

use std::path::Path;
use whimbrel_model::compat::Compatibility;
use whimbrel_model::{Code, DocContext, Draft, Key, Map, Schema, Timestamp};
use whimbrel_transform::{LoadError, ScriptLimits, judge, judge_all, load_schema};

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn load(dir: &Path) -> Result<Schema, Vec<LoadError>> {
    load_schema(
        dir,
        "conversations",
        "_schemaVersion",
        ScriptLimits::default(),
    )
}

const FIRST: &str = "description = \"As it began\"\n[validate]\nrequired = [\"title\"]\n";
const SECOND: &str = r#"
    description = "Give every conversation widget state"
    [[up]]
    op = "add"
    path = "widgetState"
    value = {}
    [[up]]
    op = "rename"
    from = "title"
    to = "name"
    [validate]
    schema = "0002.schema.json"
"#;
const SECOND_SCHEMA: &str =
    r#"{ "required": ["name"], "properties": { "name": { "type": "string" } } }"#;

fn migrate(
    schema: &Schema,
    text: &str,
    to: u32,
    complements: &[(u32, Map)],
) -> (String, Vec<(u32, Map)>) {
    let key = Key::text("k");
    let cx = DocContext::new(&key, Timestamp::from_millis(0));
    let doc = Draft::from_json(bytes::Bytes::copy_from_slice(text.as_bytes())).unwrap();
    let of = |v| {
        complements
            .iter()
            .find(|(n, _)| *n == v)
            .map(|(_, c)| c.clone())
    };
    let migrated = schema.migrate(doc, to, &of, &cx).unwrap();
    let body = migrated.doc.into_body().into_json();
    (
        String::from_utf8(body.to_vec()).unwrap(),
        migrated.complements,
    )
}

#[test]
fn a_folder_becomes_a_schema() {
    let dir = folder(&[
        ("0001_initial.toml", FIRST),
        ("0002_widget_state.toml", SECOND),
        ("0002.schema.json", SECOND_SCHEMA),
        (
            "0003_drop.toml",
            "[[up]]\nop = \"remove\"\npath = \"legacy\"\n",
        ),
        ("README.md", "x"),
        ("notes.txt", "x"),
    ]);
    let schema = load(dir.path()).unwrap();
    let told: Vec<_> = schema
        .versions()
        .iter()
        .map(|v| (v.number, v.name.as_str(), v.description.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (1, "initial", "As it began"),
            (2, "widget_state", "Give every conversation widget state"),
            (3, "drop", "drop"),
        ]
    );
    let before = r#"{"legacy": [ 1.50 ],"title":"t","x":"\u00e9"}"#;
    let (after, complements) = migrate(&schema, before, 3, &[]);
    assert_eq!(
        after,
        r#"{"name":"t","x":"\u00e9","widgetState":{},"_schemaVersion":3}"#
    );
    assert!(complements[0].1.is_empty());
    let (back, _) = migrate(&schema, &after, 1, &complements);
    assert_eq!(back, r#"{"legacy":[1.5],"title":"t","x":"\u00e9"}"#);
    let (poorer, _) = migrate(&schema, &after, 1, &[]);
    assert_eq!(poorer, r#"{"title":"t","x":"\u00e9"}"#);
}

#[test]
fn validation_stands_between_versions() {
    let dir = folder(&[
        ("0001_a.toml", FIRST),
        ("0002_b.toml", SECOND),
        ("0002.schema.json", SECOND_SCHEMA),
        (
            "0003_c.toml",
            "irreversible = true\n[validate]\ntypes = { name = \"string|null\", \"a.b\" = \"number\" }",
        ),
    ]);
    let schema = load(dir.path()).unwrap();
    let key = Key::text("k");
    let cx = DocContext::new(&key, Timestamp::from_millis(0));
    let fails = |text: &str, to: u32, code: Code, stage: &str, path: Option<&str>| {
        let doc = Draft::from_json(bytes::Bytes::copy_from_slice(text.as_bytes())).unwrap();
        let error = schema.migrate(doc, to, &|_| None, &cx).unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert_eq!(error.stage.as_deref(), Some(stage), "{error}");
        assert_eq!(error.path.as_deref(), path, "{error}");
    };
    fails(
        r#"{"title":5}"#,
        3,
        Code::DocInvalid,
        "v2 validate",
        Some("name"),
    );
    fails(
        r#"{"title":"x","a":{"b":"1"}}"#,
        3,
        Code::DocInvalid,
        "v3 validate",
        Some("a.b"),
    );
    fails(
        r#"{"name":"x","_schemaVersion":3}"#,
        1,
        Code::Irreversible,
        "v3 down",
        None,
    );
    fails(
        r#"{"_schemaVersion":2}"#,
        1,
        Code::DocInvalid,
        "v1 validate",
        Some("title"),
    );
    assert!(!schema.version(3).unwrap().code.reversible());
}

#[test]
fn every_mistake_is_told_at_once() {
    let dir = folder(&[
        ("0001_a.toml", "descriptin = 1\n"),
        (
            "0002_b.toml",
            "[[up]]\nop = \"add\"\npath = \"x\"\n[validate]\nschema = \"gone.json\"\n",
        ),
        ("0002_c.toml", ""),
        ("0005_e.tmol", ""),
        ("0006_f.toml", "[[up]\n"),
    ]);
    let errors = load(dir.path()).unwrap_err();
    let shown: Vec<_> = errors.iter().map(ToString::to_string).collect();
    let expect = [
        "0005_e.tmol: a schema version ends with",
        "0001_a.toml:1:1: unknown key \"descriptin\"; known here: description, down, irreversible",
        "0002_b.toml:1:1: give exactly one of value, json, now, copy",
        "0002_b.toml:5:1:",
        "0006_f.toml:1:",
        "schema version 2 exists twice (b, c)",
        "schema version 3 is missing",
        "schema version 4 is missing",
        "schema version 5 is missing",
    ];
    assert_eq!(shown.len(), expect.len(), "{shown:#?}");
    for expect in expect {
        assert!(
            shown.iter().any(|s| s.contains(expect)),
            "{expect}: {shown:#?}"
        );
    }
    assert_eq!(errors.last().unwrap().code, Code::SchemaGap);

    let gone = load(&dir.path().join("nowhere")).unwrap_err();
    assert!(gone[0].message.contains("cannot be read"), "{gone:?}");
    let empty = load(folder(&[]).path()).unwrap_err();
    assert_eq!(empty[0].code, Code::SchemaUnknownVersion);
}

#[test]
fn checksums_are_of_meaning() {
    let sum = |toml: &str, json: &str| {
        let dir = folder(&[
            ("0001_a.toml", ""),
            ("0002_b.toml", toml),
            ("0002.schema.json", json),
        ]);
        let schema = load(dir.path()).unwrap();
        schema.version(2).unwrap().code.checksum()
    };
    let one = sum(SECOND, SECOND_SCHEMA);
    let same = r#"
        # another description, other white space, keys in another order
        description = "x"
        up = [ { value = {}, path = "widgetState", op = "add" }, { op = 'rename', to = "name", from = "title" } ]
        validate.schema = "0002.schema.json""#;
    assert_eq!(one, sum(same, &format!(" {SECOND_SCHEMA} ")));
    assert_ne!(one, sum(SECOND, r#"{ "required": ["name"] }"#));
    assert_ne!(
        one,
        sum(&SECOND.replace("\"name\"", "\"label\""), SECOND_SCHEMA)
    );
    assert_ne!(one, sum(&SECOND.replace("{}", "[]"), SECOND_SCHEMA));
}

#[test]
fn versions_are_judged() {
    let dir = folder(&[
        ("0001_a.toml", "[validate]\nrequired = [\"title\"]"),
        (
            "0002_b.toml",
            "[[up]]\nop = \"add\"\npath = \"n\"\nvalue = 0\n[validate]\nrequired = [\"title\"]",
        ),
        (
            "0003_c.toml",
            "[[up]]\nop = \"add\"\npath = \"m\"\nvalue = 0\n[validate]\nrequired = [\"title\", \"m\"]",
        ),
        (
            "0004_d.toml",
            "[[up]]\nop = \"remove\"\npath = \"title\"\n[validate]\nrequired = [\"m\"]",
        ),
        (
            "0005_e.toml",
            "[[up]]\nop = \"cast\"\npath = \"n\"\nfrom = \"int\"\nto = \"double\"",
        ),
    ]);
    let schema = load(dir.path()).unwrap();
    let step = |n: usize| judge(&schema.versions()[n], Some(&schema.versions()[n - 1]));
    assert_eq!(step(1), (Compatibility::Full, vec![]));
    let (compatibility, reasons) = step(2);
    assert_eq!(compatibility, Compatibility::Forward);
    assert!(
        reasons[0].contains("m: the field is required now"),
        "{reasons:?}"
    );
    let (compatibility, reasons) = step(3);
    assert_eq!(compatibility, Compatibility::Backward);
    assert!(
        reasons[0].contains("remove title: old readers look for title"),
        "{reasons:?}"
    );
    assert_eq!(step(4).0, Compatibility::Backward);

    let verdicts = judge_all(&schema);
    let of = |from, to| {
        let found = verdicts.iter().find(|v| (v.from, v.to) == (from, to));
        found.map(|v| v.compatibility)
    };
    assert_eq!(verdicts.len(), 10);
    assert_eq!(of(1, 3), Some(Compatibility::Forward));
    assert_eq!(of(3, 5), Some(Compatibility::Backward));
    assert_eq!(of(1, 5), Some(Compatibility::Breaking));
}

#[cfg(feature = "typescript")]
#[test]
fn scripts_stand_among_toml_versions() {
    let dir = folder(&[
        ("0001_a.toml", FIRST),
        (
            "0002_b.ts",
            "export const description: string = 'Shout';\nexport const up = (doc: any) => ({ ...doc, title: doc.title.toUpperCase() });",
        ),
        ("whimbrel.d.ts", ""),
    ]);
    let schema = load(dir.path()).unwrap();
    assert_eq!(schema.versions()[1].description, "Shout");
    let (after, _) = migrate(&schema, r#"{"title":"hey"}"#, 2, &[]);
    assert_eq!(after, r#"{"title":"HEY","_schemaVersion":2}"#);
    let (_, reasons) = judge(&schema.versions()[1], Some(&schema.versions()[0]));
    assert!(reasons[0].contains("only a trial"), "{reasons:?}");

    let dir = folder(&[
        ("0001_a.ts", "export const x = 1;"),
        ("0002_b.ts", "export const down = (d) => d;"),
        ("0003_c.js", "export const up = ("),
    ]);
    let errors = load(dir.path()).unwrap_err();
    let shown: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert!(
        shown
            .iter()
            .any(|e| e.contains("0002_b.ts: the version exports no function up")),
        "{shown:?}"
    );
    assert!(
        shown.iter().any(|e| e.contains("0003_c.js:1:")),
        "{shown:?}"
    );
}
