//! What scripts do to documents that mean well.

// tidy: long because every feature of scripts has its case here, each a few lines.
#![cfg(feature = "typescript")]

use whimbrel_model::transform::Validate;
use whimbrel_model::{
    Code, DocContext, DocError, Draft, Key, Timestamp, Transform, TransformInput, Value,
    VersionCode,
};
use whimbrel_transform::script::{ScriptLimits, ScriptTransform, ScriptValidate, ScriptVersion};

fn now() -> Timestamp {
    Timestamp::parse("2026-01-31T08:00:00Z").unwrap()
}

fn version(text: &str) -> ScriptVersion {
    ScriptVersion::load("schemas/x/0002_y.ts", text, ScriptLimits::default()).unwrap()
}

fn draft(json: &str) -> Draft {
    Draft::from_json(json.as_bytes().to_vec().into()).unwrap()
}

fn text(doc: Draft) -> String {
    String::from_utf8(doc.into_body().into_json().to_vec()).unwrap()
}

fn up(script: &str, json: &str) -> Result<String, DocError> {
    let key = Key::text("k1");
    let mut doc = draft(json);
    version(script).up(&mut doc, &DocContext::new(&key, now()))?;
    Ok(text(doc))
}

#[track_caller]
fn check(script: &str, json: &str, expect: &str) {
    assert_eq!(up(script, json).unwrap(), expect, "{script}");
}

#[track_caller]
fn check_fails(script: &str, json: &str, code: Code) -> DocError {
    match up(script, json) {
        Ok(text) => panic!("{script} gave {text}"),
        Err(error) => {
            assert_eq!(error.code, code, "{error:?}");
            error
        }
    }
}

#[test]
fn a_version_goes_up_and_down() {
    let script = version(
        r#"
        interface Conversation { title: string; updatedAt?: Date }
        export const description = "Add conversation metadata";
        export const up = (doc: Conversation) => ({ ...doc, metadata: { totalTokens: 0, toolCallCount: 0,
          lastActivityAt: doc.updatedAt ?? new Date() } });
        export const down = ({ metadata, ...rest }: any) => rest;
        export const validate = (doc: any): boolean => typeof doc.metadata?.totalTokens === "number";
        "#,
    );
    assert_eq!(script.description(), "Add conversation metadata");
    let key = Key::text("k1");
    let cx = DocContext::new(&key, now());
    let before = r#"{"title":"a","messages":[{"role":"user","content":"hello, what is the weather like?"}],"n":1.50}"#;
    let mut doc = draft(before);
    assert_eq!(
        script.validate(&mut doc, &cx).unwrap_err().code,
        Code::DocInvalid
    );
    script.up(&mut doc, &cx).unwrap();
    assert_eq!(
        text(doc.clone()),
        before.replace(
            "1.50}",
            r#"1.50,"metadata":{"totalTokens":0,"toolCallCount":0,"lastActivityAt":{"$timestamp":"2026-01-31T08:00:00Z"}}}"#
        )
    );
    script.validate(&mut doc, &cx).unwrap();
    script.down(&mut doc, None, &cx).unwrap();
    assert_eq!(text(doc), before);
}

#[test]
fn untouched_members_keep_their_bytes() {
    let json = r#"{ "a" : [ 1.0, 2e3 , "\u0041" , {"deep": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19]} ], "b":1.0, "s":"\u00e9", "c":  {"$timestamp":"2026-01-31T08:00:00.123456789Z"},"d":12345678901234567890}"#;
    check("export const up = (doc) => doc", json, json);
    check("export const up = (doc) => ({...doc})", json, json);
    check(
        "export const up = ({a, b, ...rest}) => ({...rest, moved: {a, b}, b2: b})",
        r#"{"a":[1.0,2e3,"\u0041","xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"],"b":1.0,"c":"\u00e9"}"#,
        r#"{"c":"\u00e9","moved":{"a":[1.0,2e3,"\u0041","xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"],"b":1.0},"b2":1.0}"#,
    );
}

#[test]
fn numbers_keep_their_types() {
    for (script, json, expect) in [
        // Moved.
        ("({x}) => ({y: x})", r#"{"x":1.0}"#, r#"{"y":1.0}"#),
        (
            "({x}) => ({y: [x, {x}]})",
            r#"{"x":3.0}"#,
            r#"{"y":[3.0,{"x":3.0}]}"#,
        ),
        // Copied through text.
        (
            "(d) => JSON.parse(JSON.stringify(d))",
            r#"{"x":1.0,"y":1,"z":{"a":[7.0,7]}}"#,
            r#"{"x":1.0,"y":1,"z":{"a":[7.0,7]}}"#,
        ),
        // Computed.
        ("({n}) => ({n: n + 1})", r#"{"n":1}"#, r#"{"n":2}"#),
        ("({n}) => ({n: n / 2})", r#"{"n":6}"#, r#"{"n":3}"#),
        ("({n}) => ({n: n / 4})", r#"{"n":6}"#, r#"{"n":1.5}"#),
        (
            "({n}) => ({n: n * 100000})",
            r#"{"n":100000}"#,
            r#"{"n":10000000000}"#,
        ),
        ("({n}) => ({n: 0.5 + 0.5})", r#"{"n":6}"#, r#"{"n":1}"#),
        // Large.
        (
            "({n}) => ({m: n})",
            r#"{"n":9007199254740991}"#,
            r#"{"m":9007199254740991}"#,
        ),
        (
            "({n}) => ({m: n, t: typeof n})",
            r#"{"n":9007199254740993}"#,
            r#"{"m":9007199254740993,"t":"bigint"}"#,
        ),
        (
            "({n}) => ({m: n + 1n})",
            r#"{"n":9223372036854775807}"#,
            r#"{"m":{"$decimal":"9223372036854775808"}}"#,
        ),
        ("() => ({m: 5n})", r#"{"n":1}"#, r#"{"m":5}"#),
        (
            "() => ({m: NaN, i: -Infinity})",
            "{}",
            r#"{"m":{"$double":"NaN"},"i":{"$double":"-Infinity"}}"#,
        ),
        (
            "({z}) => ({y: z})",
            r#"{"z":{"$double":"-0"}}"#,
            r#"{"y":{"$double":"-0"}}"#,
        ),
        ("() => ({y: -0})", "{}", r#"{"y":0}"#),
    ] {
        let script = format!("export const up = {script}");
        let got = up(&script, json).unwrap();
        let (a, b) = (
            whimbrel_model::json::parse(got.as_bytes()),
            whimbrel_model::json::parse(expect.as_bytes()),
        );
        assert_eq!(a.unwrap(), b.unwrap(), "{script}: {got}");
    }
}

#[test]
fn values_that_json_lacks_cross_the_border() {
    let json = r#"{"t":{"$timestamp":"2026-01-31T08:00:00.123456Z"},"b":{"$bytes":"AAH/"},"r":{"$reference":"a/b"},"g":{"$geopoint":[1.5,2.5]},"v":{"$vector":[1.5,2.0]},"d":{"$decimal":"0.12345678901234567890123"},"u":{"$$timestamp":"x"}}"#;
    check("export const up = (d) => ({...d})", json, json);
    // Each of them moved into another object, so that it is written anew.
    check(
        "export const up = (d) => ({ all: {...d} })",
        json,
        &format!(r#"{{"all":{json}}}"#).replace(
            r#"{"$decimal":"0.12345678901234567890123"}"#,
            "0.12345678901234567890123",
        ),
    );
    check(
        r#"export const up = ({t, b, r, g, v, d, u}) => {
            const kinds = [t instanceof Date, b instanceof Uint8Array, r instanceof Whimbrel.Reference,
              g instanceof Whimbrel.GeoPoint, v instanceof Whimbrel.Vector, d instanceof Whimbrel.Decimal,
              Object.keys(u)[0]];
            t.setTime(t.getTime() + 1);
            return { kinds, t, size: b.length, path: r.path, lat: g.latitude, first: v.values[0], d: String(d) };
        }"#,
        json,
        r#"{"kinds":[true,true,true,true,true,true,"$timestamp"],"t":{"$timestamp":"2026-01-31T08:00:00.124Z"},"size":3,"path":"a/b","lat":1.5,"first":1.5,"d":"0.12345678901234567890123"}"#,
    );
    // Looks like a tag, but is the script's own object.
    check(
        r#"export const up = () => ({ x: { $bytes: "AA==" }, y: new Whimbrel.Decimal("1e400") })"#,
        "{}",
        r#"{"x":{"$$bytes":"AA=="},"y":{"$decimal":"1e400"}}"#,
    );
}

#[test]
fn lazy_containers_are_like_any_other() {
    let long = r#"{"list":[{"role":"user","content":"0123456789012345678901234567890123456789"},{"role":"tool","content":"0123456789012345678901234567890123456789"}],"map":{"b":"0123456789012345678901234567890123456789","a":"0123456789012345678901234567890123456789"}}"#;
    for (script, expect) in [
        ("Array.isArray(doc.list)", "true"),
        ("doc.list.length", "2"),
        ("doc.list instanceof Array", "true"),
        (
            "Object.prototype.toString.call(doc.list)",
            r#""[object Array]""#,
        ),
        ("doc.list.map((m) => m.role).join()", r#""user,tool""#),
        ("doc.list.find((m) => m.role === 'tool').role", r#""tool""#),
        ("[...doc.list].length", "2"),
        ("doc.list.slice(1)[0].role", r#""tool""#),
        ("doc.list.concat([1]).length", "3"),
        ("[doc.list, 1].flat().length", "3"),
        ("Object.keys(doc.map)", r#"["b","a"]"#),
        ("Object.entries(doc.map).length", "2"),
        ("'a' in doc.map", "true"),
        ("JSON.stringify(doc.list).length", "139"),
        ("doc.map.b.length", "40"),
        ("(({b, ...rest}) => Object.keys(rest))(doc.map)", r#"["a"]"#),
        ("doc.list === doc.list", "true"),
        ("delete doc.map.a && Object.keys(doc.map)", r#"["b"]"#),
        (
            "(() => { doc.list.push(1); return doc.list.length })()",
            "3",
        ),
        ("(() => { doc.list.length = 0; return doc.list })()", "[]"),
        (
            "Object.getPrototypeOf(doc.map) === Object.prototype",
            "true",
        ),
        (
            "(() => { const out = []; for (const k in doc.map) out.push(k); return out })()",
            r#"["b","a"]"#,
        ),
        ("doc.list.reverse()[0].role", r#""tool""#),
        (
            "doc.list.sort((a, b) => a.role < b.role ? -1 : 1)[0].role",
            r#""tool""#,
        ),
        ("doc.list.splice(0, 1).length", "1"),
        ("doc.list.some((m) => m.role === 'user')", "true"),
        ("doc.list.at(-1).role", r#""tool""#),
        ("Object.isFrozen(Object.freeze(doc.map))", "true"),
    ] {
        check(
            &format!("export const up = (doc) => ({{ r: {script} }})"),
            long,
            &format!(r#"{{"r":{expect}}}"#),
        );
    }
}

#[test]
fn mutation_in_place_is_seen() {
    check(
        "export const up = (doc) => { doc.list[1].role = 'x'; doc.n++; delete doc.gone; return doc }",
        r#"{"list":[{"role":"user","content":"0123456789012345678901234567890123456789"},{"role":"tool"}],"n":1,"gone":[],"keep":1.0}"#,
        r#"{"list":[{"role":"user","content":"0123456789012345678901234567890123456789"},{"role":"x"}],"n":2,"keep":1.0}"#,
    );
    // Order is the result's.
    check(
        "export const up = ({a, ...rest}) => ({...rest, a, z: 1})",
        r#"{"a":1,"b":2}"#,
        r#"{"b":2,"a":1,"z":1}"#,
    );
}

#[test]
fn awkward_keys_are_plain_fields() {
    let json = r#"{"__proto__":{"x":1},"constructor":1,"toString":"t","hasOwnProperty":null,"":0,"a\"b":1,"\u0000":2,"$x":3}"#;
    check("export const up = (d) => ({...d})", json, json);
    check("export const up = (d) => d", json, json);
    check(
        "export const up = (d) => ({all: {...d}})",
        r#"{"__proto__":{"x":1},"constructor":1,"\u0000":2}"#,
        r#"{"all":{"__proto__":{"x":1},"constructor":1,"\u0000":2}}"#,
    );
    check(
        "export const up = (d) => { d.constructor = 2; d.toString = 3; return {...d, x: ({}).x ?? null} }",
        r#"{"__proto__":{"x":1}}"#,
        r#"{"__proto__":{"x":1},"constructor":2,"toString":3,"x":null}"#,
    );
}

#[test]
fn typescript_is_stripped() {
    check(
        r#"
        import type { Doc } from "../../whimbrel";
        import { type Other } from "./other";
        enum Role { User = "user", Tool = "tool" }
        enum Level { Low, High }
        type Pair<A, B = A> = readonly [A, B];
        interface Message { role: Role; content: string | null }
        abstract class Base<T> { constructor(public readonly value: T, private n = 1) {} get sum() { return this.n } }
        class Own extends Base<string> { label!: string; override get sum() { return super.sum + 1 } }
        const TABLE = { a: 1, b: 2 } as const satisfies Record<string, number>;
        function pick<T, K extends keyof T>(it: T, ...keys: K[]): Pick<T, K> {
          return Object.fromEntries(keys.map((k) => [k, it[k]])) as Pick<T, K>;
        }
        export const up = (doc: Doc): Doc => {
          const own = new Own("v");
          const pair: Pair<number> = [TABLE.a, TABLE["b"]!];
          return { ...pick(doc as any, "x"), role: Role.Tool, level: Level[Level.High], pair: [...pair], value: own.value, sum: own.sum };
        };
        "#,
        r#"{"x":1,"y":2}"#,
        r#"{"x":1,"role":"tool","level":"High","pair":[1,2],"value":"v","sum":2}"#,
    );
}

#[test]
fn scripts_that_cannot_be_loaded_say_where() {
    for (script, place, what) in [
        (
            "export const up = (doc) => {\n  return {...doc,,};\n}",
            Some((2, 18)),
            "nexpected",
        ),
        (
            "import fs from 'fs';\nexport const up = (doc) => fs",
            Some((1, 1)),
            "import",
        ),
        (
            "export * from './x'; export const up = (doc) => doc",
            Some((1, 1)),
            "import",
        ),
        (
            "export const up = (doc) => import('x')",
            Some((1, 28)),
            "import",
        ),
        (
            "export const up = async (doc) => {\n  await doc; return doc }",
            Some((2, 3)),
            "wait",
        ),
        (
            "let n = 0;\nexport const up = (doc) => { n++; return doc }",
            Some((2, 30)),
            "\"n\" would carry over",
        ),
        (
            "export const upp = (doc) => doc",
            Some((1, 1)),
            "exports none of up, down, validate",
        ),
        ("export const up = 5", None, "no function"),
        (
            "const x = null;\nconst y = x.z;\nexport const up = (d) => d",
            Some((2, 11)),
            "TypeError",
        ),
        (
            "export const up = (d) => d; const t = Date.now()",
            Some((1, 44)),
            "no document at work",
        ),
        (
            "export const up = (d) => d; Math.random()",
            Some((1, 34)),
            "no document at work",
        ),
        (
            "export const up = (d) => d; while (true) {}",
            None,
            "cannot be loaded",
        ),
        (
            "export const up = (d) => d; let s = 'x'; while (true) { s += s + s }",
            None,
            "cannot be loaded",
        ),
    ] {
        let error = ScriptVersion::load("schemas/x/0002_y.ts", script, ScriptLimits::default())
            .unwrap_err();
        assert!(error.to_string().contains(what), "{script}\n{error}");
        assert_eq!(error.code, Code::ScriptInvalid);
        if place.is_some() {
            assert_eq!(error.place, place, "{script}\n{error}");
            assert!(error.to_string().contains('^'), "{error}");
        }
    }
    // All errors, not only the first.
    let error = ScriptVersion::load(
        "x.ts",
        "import a from 'a';\nimport b from 'b';\nexport const up = (d) => [a, b]",
        ScriptLimits::default(),
    )
    .unwrap_err();
    assert!(error.to_string().contains("x.ts:2:1"), "{error}");
}

#[test]
fn checksums_are_of_the_meaning() {
    let sum = |text: &str| version(text).checksum();
    let a = sum("export const up = (doc) => ({ ...doc, x: 1 });");
    for same in [
        "// a comment\nexport const up = (doc: { a: string }) =>\n  ({ ...doc, /* b */ x: 1 })",
        "interface X { a: 1 }\nexport const description = 'other';\nexport const up = (doc) => ({ ...doc, x: 1 });",
        "import type { Doc } from './x';\nexport const up = (doc: Doc): Doc => ({ ...doc, x: 1 });",
    ] {
        assert_eq!(sum(same), a, "{same}");
    }
    assert_ne!(sum("export const up = (doc) => ({ ...doc, x: 2 });"), a);
}

#[test]
fn errors_point_into_the_file() {
    let error = check_fails(
        "interface A { x: 1 }\n// here\nexport const up = (doc: A) => {\n  const broken: any = doc.nothing;\n  return broken.field;\n};",
        r#"{"secret":"value"}"#,
        Code::DocTransform,
    );
    assert_eq!(
        error.message,
        "the transform threw an exception at schemas/x/0002_y.ts:5:10"
    );
    assert!(error.detail.unwrap().contains("TypeError"));
    let error = check_fails(
        "export const up = (doc) => { throw new Error('bad ' + doc.secret) }",
        r#"{"secret":"value"}"#,
        Code::DocTransform,
    );
    assert!(!error.message.contains("value"));
    assert_eq!(error.detail.unwrap(), "Error: bad value");
}

#[test]
fn versions_without_up_or_down() {
    let first = version("export const validate = (doc) => 'x' in doc");
    let key = Key::Int(7);
    let cx = DocContext::new(&key, now());
    let mut doc = draft(r#"{"x":1}"#);
    first.up(&mut doc, &cx).unwrap();
    assert!(!doc.is_changed());
    assert!(!first.reversible());
    assert_eq!(
        first.down(&mut doc, None, &cx).unwrap_err().code,
        Code::Irreversible
    );
    assert!(first.shape().script);
}

#[test]
fn validators_answer_in_many_ways() {
    for (answer, valid, detail) in [
        ("true", true, None),
        ("undefined", true, None),
        ("null", true, None),
        ("[]", true, None),
        ("false", false, None),
        ("'no title'", false, Some("no title")),
        ("['a', 'b']", false, Some("a; b")),
        (
            "(() => { throw new Error('boom') })()",
            false,
            Some("Error: boom"),
        ),
    ] {
        let script = ScriptValidate::load(
            "v.js",
            &format!("export function validate(doc) {{ return {answer} }}"),
            ScriptLimits::default(),
        )
        .unwrap();
        let key = Key::text("k");
        let got = script.validate(&mut draft("{}"), &DocContext::new(&key, now()));
        assert_eq!(got.is_ok(), valid, "{answer}");
        if let Err(error) = got {
            assert_eq!(error.code, Code::DocInvalid);
            assert_eq!(error.detail.as_deref(), detail, "{answer}");
        }
    }
    let script = ScriptValidate::load(
        "v.js",
        "export const validate = () => 5",
        ScriptLimits::default(),
    )
    .unwrap();
    let key = Key::text("k");
    let error = script
        .validate(&mut draft("{}"), &DocContext::new(&key, now()))
        .unwrap_err();
    assert_eq!(error.code, Code::DocResult);
}

/// Collection, key and JSON.
type Emitted = (Option<String>, Option<Key>, String);

fn emits(script: &str, input: TransformInput) -> Result<Vec<Emitted>, DocError> {
    let script = ScriptTransform::load("t.ts", script, ScriptLimits::default()).unwrap();
    let key = Key::text("conv-1");
    let emits = script.apply(input, &DocContext::new(&key, now()))?;
    Ok(emits
        .into_iter()
        .map(|e| {
            (
                e.collection,
                e.key,
                String::from_utf8(e.body.into_json().to_vec()).unwrap(),
            )
        })
        .collect())
}

#[test]
fn one_document_becomes_many() {
    let doc = r#"{"title":"T","n":1.0,"messages":[{"id":"m1","text":"0123456789012345678901234567890123456789","at":{"$timestamp":"2026-01-31T08:00:00.000001Z"}},{"id":"m2","text":"x","score":2.0}]}"#;
    let one = || TransformInput::One {
        key: Key::text("conv-1"),
        doc: draft(doc),
    };
    let got = emits(
        r#"export const transform = ({ messages, ...rest }, ctx) => [
            { data: { ...rest, count: messages.length } },
            ...messages.map((m, i) => ({ collection: "messages", key: `${ctx.key}/${i}`, data: { ...m, conversation: ctx.key } })),
            { key: 7, data: {} }, { key: ["a", 1], data: { at: ctx.now } },
        ]"#,
        one(),
    )
    .unwrap();
    assert_eq!(
        got,
        [
            (None, None, r#"{"title":"T","n":1.0,"count":2}"#.to_owned()),
            (Some("messages".to_owned()), Some(Key::text("conv-1/0")), r#"{"id":"m1","text":"0123456789012345678901234567890123456789","at":{"$timestamp":"2026-01-31T08:00:00.000001Z"},"conversation":"conv-1"}"#.to_owned()),
            (Some("messages".to_owned()), Some(Key::text("conv-1/1")), r#"{"id":"m2","text":"x","score":2.0,"conversation":"conv-1"}"#.to_owned()),
            (None, Some(Key::Int(7)), "{}".to_owned()),
            (None, Some(Key::Tuple(vec![Key::text("a"), Key::Int(1)])), r#"{"at":{"$timestamp":"2026-01-31T08:00:00Z"}}"#.to_owned()),
        ]
    );
    assert_eq!(
        emits("export const transform = () => null", one()).unwrap(),
        []
    );
    assert_eq!(
        emits("export const transform = (d) => d", one()).unwrap(),
        [(None, None, doc.to_owned())]
    );
    for (script, code, path) in [
        ("() => undefined", Code::DocResult, None),
        ("() => [1]", Code::DocResult, Some("[0]")),
        (
            "() => [{ data: {} }, { dat: 1 }]",
            Code::DocResult,
            Some("[1]"),
        ),
        (
            "() => [{ key: {}, data: {} }]",
            Code::DocKey,
            Some("[0].key"),
        ),
        (
            "() => [{ key: 1.5, data: {} }]",
            Code::DocKey,
            Some("[0].key"),
        ),
        (
            "() => [{ data: { a: [() => 1] } }]",
            Code::DocResult,
            Some("[0].data.a[0]"),
        ),
        (
            "() => [{ collection: 5, data: {} }]",
            Code::DocResult,
            Some("[0].collection"),
        ),
    ] {
        let error = emits(&format!("export const transform = {script}"), one()).unwrap_err();
        assert_eq!(
            (error.code, error.path.as_deref()),
            (code, path),
            "{script}: {error:?}"
        );
    }
}

#[test]
fn many_documents_become_one() {
    let input = TransformInput::Group {
        value: Value::String("conv-1".into()),
        docs: vec![
            (
                Key::text("m1"),
                draft(
                    r#"{"text":"a","n":1.0,"meta":{"long":"0123456789012345678901234567890123456789","x":2.0}}"#,
                ),
            ),
            (Key::text("m2"), draft(r#"{"text":"b","n":2}"#)),
        ],
    };
    let got = emits(
        r#"export const transform = (docs, ctx) => [{ collection: "conversations", key: ctx.group,
            data: { messages: docs.map(({ key, data }) => ({ key, ...data })), first: docs[0].data.meta } }]"#,
        input,
    )
    .unwrap();
    assert_eq!(
        got,
        [(
            Some("conversations".to_owned()),
            Some(Key::text("conv-1")),
            r#"{"messages":[{"key":"m1","text":"a","n":1.0,"meta":{"long":"0123456789012345678901234567890123456789","x":2.0}},{"key":"m2","text":"b","n":2}],"first":{"long":"0123456789012345678901234567890123456789","x":2.0}}"#.to_owned()
        )]
    );
}

#[test]
fn threads_share_a_script() {
    let script = version(
        "export const up = (doc) => ({ ...doc, square: doc.n * doc.n, list: doc.list.map((x) => x + doc.n) })",
    );
    std::thread::scope(|scope| {
        for t in 0..4 {
            let script = &script;
            scope.spawn(move || {
                for n in 0..500 {
                    let n = n * 4 + t;
                    let key = Key::Int(n);
                    let mut doc = draft(&format!(r#"{{"n":{n},"list":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25]}}"#));
                    script.up(&mut doc, &DocContext::new(&key, now())).unwrap();
                    assert_eq!(doc.get("square").unwrap(), Some(&Value::Int(n * n)));
                }
            });
        }
    });
}
