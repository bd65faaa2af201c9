//! What scripts may not do, and what it costs when they try.
#![cfg(feature = "typescript")]

use std::time::{Duration, Instant};
use whimbrel_model::{Code, DocContext, DocError, Draft, Key, Timestamp, VersionCode};
use whimbrel_transform::script::{ScriptLimits, ScriptVersion};

const LIMITS: ScriptLimits = ScriptLimits {
    memory_bytes: 32 << 20,
    stack_bytes: 512 << 10,
    time_ms: 400,
};

fn load(script: &str) -> ScriptVersion {
    ScriptVersion::load("p.ts", script, LIMITS).unwrap_or_else(|e| panic!("{script}: {e}"))
}

fn run(version: &ScriptVersion, key: &str, json: &str) -> Result<String, DocError> {
    let key = Key::text(key);
    let now = Timestamp::parse("2026-01-31T08:00:00Z").unwrap();
    let mut doc = Draft::from_json(json.as_bytes().to_vec().into())?;
    version.up(&mut doc, &DocContext::new(&key, now))?;
    Ok(String::from_utf8(doc.into_body().into_json().to_vec()).unwrap())
}

/// The document fails with one of the codes within its time, and the next one works.
#[track_caller]
fn check_poison(body: &str, codes: &[Code]) {
    let script = format!("export const up = (doc) => {{ if (doc.good) return doc; {body} }}");
    let version = load(&script);
    let begun = Instant::now();
    match run(&version, "k", r#"{"poison":1}"#) {
        Ok(text) => panic!("{body} gave {}", &text[..text.len().min(200)]),
        Err(error) => assert!(codes.contains(&error.code), "{body}: {error:?}"),
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "{body} took {took:?}");
    let good = r#"{"good":true,"x":[1,2,3]}"#;
    assert_eq!(run(&version, "k2", good).unwrap(), good, "{body}");
}

#[test]
fn loops_end() {
    for body in [
        "while (true) {}",
        "for (;;) { doc.x = [1, 2, 3].map((y) => y + 1) }",
        "try { while (true) {} } finally { while (true) {} }",
        "try { while (true) {} } catch { return {} }",
        "const f = () => f2(), f2 = () => 1; while (f()) {}",
        "return { get x() { while (true) {} } }",
        "return { get x() { return this.y }, get y() { for (;;) {} } }",
        "return { s: 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'.match(/^(a+)+$b/) , t: /^(a+)+$/.test('a'.repeat(64) + 'b') }",
        "return { s: /(x+x+)+y/.test('x'.repeat(40)) }",
        "new Array(2 ** 32 - 1).fill(0).indexOf(7); return {}",
        "return { n: Array.prototype.indexOf.call({ length: 2 ** 53 - 1 }, 1) }",
        "return { n: Array.prototype.lastIndexOf.call({ length: 2 ** 53 - 1 }, 1) }",
        "return { n: Array.prototype.includes.call({ length: 2 ** 53 - 1 }, 1) }",
        "new Array(2 ** 32 - 1).forEach(() => 1); return {}",
        "new Array(2 ** 32 - 1).reduce((a) => a, 1); return {}",
        "new Array(2 ** 32 - 1).some(() => 1); return {}",
        "new Array(2 ** 32 - 1).reverse(); while (true) {}",
        "[].concat(new Array(2 ** 32 - 1)); while (true) {}",
        "Array.prototype.splice.call({ length: 2 ** 53 - 1 }, 0, 1); while (true) {}",
        "new Array(2 ** 32 - 1).sort(); while (true) {}",
        "JSON.stringify(new Array(2 ** 32 - 1)); while (true) {}",
        "function* g() { while (true) yield 1 } for (const x of g()) {}",
    ] {
        check_poison(
            body,
            &[Code::DocTimeout, Code::DocMemory, Code::DocTransform],
        );
    }
    check_poison("while (true) {}", &[Code::DocTimeout]);
}

#[test]
fn memory_has_an_end() {
    for body in [
        "const all = []; while (true) all.push(new Array(1000).fill(1))",
        "let s = 'x'; while (true) s += s + 'y'",
        "let s = 'ab'.repeat(1e6); const all = []; while (true) all.push(s.split(''))",
        "return { b: new Uint8Array(100e6) }",
        "return { b: new ArrayBuffer(1e9) }",
        "const m = new Map(); for (let i = 0; ; i++) m.set(i, { i })",
        "const o = {}; for (let i = 0; ; i++) o['k' + i] = i",
        "try { const all = []; while (true) all.push(new Array(1000).fill(1)) } catch (e) { throw e }",
        "const f = (n) => [n, f(n + 1)]; return f(0)",
        "let x = {}; for (;;) x = { x }",
        "return { s: 'x'.repeat(40e6) }",
        "return { s: 'x'.padEnd(400e6) }",
        "return { a: Array.from({ length: 1e9 }) }",
        "return { a: [...new Array(1e9)] }",
        "return { s: new Array(1e9).join('x') }",
        "return { n: 7n ** 100000000n }",
        "const s = Symbol('x'.repeat(1e7)); const all = []; for (let i = 0; ; i++) all.push(Symbol('y'.repeat(1e6) + i))",
        "const r = []; for (let i = 0; ; i++) r.push(new RegExp('x'.repeat(1000) + i))",
    ] {
        check_poison(
            body,
            &[Code::DocMemory, Code::DocTransform, Code::DocTimeout],
        );
    }
    check_poison(
        "const all = []; while (true) all.push('x'.repeat(100000) + all.length)",
        &[Code::DocMemory],
    );
}

#[test]
fn depth_has_an_end() {
    check_poison(
        "const f = (n) => 1 + f(n + 1); return { x: f(0) }",
        &[Code::DocTransform],
    );
    check_poison(
        "let s = ''; for (let i = 0; i < 1e5; i++) s += '['; return JSON.parse(s)",
        &[Code::DocTransform],
    );
    check_poison(
        "let x = {}; for (let i = 0; i < 600; i++) x = { x }; return x",
        &[Code::DocResult],
    );
    check_poison(
        "let x = []; for (let i = 0; i < 100000; i++) x = [x]; return { x }",
        &[Code::DocResult],
    );
    check_poison("const x = {}; x.x = x; return x", &[Code::DocResult]);
    check_poison("const x = []; x.push(x); return { x }", &[Code::DocResult]);
    check_poison("return JSON.parse('['.repeat(1e5))", &[Code::DocTransform]);
    check_poison(
        "return { r: new RegExp('('.repeat(1e5)) }",
        &[Code::DocTransform],
    );
    check_poison(
        "return { r: new Function('('.repeat(1e5))() }",
        &[Code::DocTransform],
    );
    // Shared, not cyclic: 2^60 members when written out.
    check_poison(
        "let x = { a: 1 }; for (let i = 0; i < 60; i++) x = { x, y: x }; return x",
        &[Code::DocTimeout, Code::DocMemory],
    );
}

#[test]
fn results_that_are_no_documents() {
    for (result, code) in [
        ("undefined", Code::DocResult),
        ("null", Code::DocResult),
        ("5", Code::DocResult),
        ("'x'", Code::DocResult),
        ("true", Code::DocResult),
        ("10n", Code::DocResult),
        ("Symbol()", Code::DocResult),
        ("[]", Code::DocResult),
        ("() => 1", Code::DocResult),
        ("class {}", Code::DocResult),
        ("new Map()", Code::DocResult),
        ("new Date()", Code::DocResult),
        ("Promise.resolve({})", Code::DocResult),
        ("(async () => ({}))()", Code::DocResult),
        ("(function* () {})()", Code::DocResult),
        ("{ a: () => 1 }", Code::DocResult),
        ("{ a: { b: Symbol() } }", Code::DocResult),
        ("{ a: [1, , 2] }", Code::DocResult),
        ("{ a: [undefined] }", Code::DocResult),
        ("{ a: new Array(1e9) }", Code::DocResult),
        ("{ a: new Array(4e9) }", Code::DocResult),
        ("{ a: new Map([[1, 2]]) }", Code::DocResult),
        ("{ a: new Set() }", Code::DocResult),
        ("{ a: /x/ }", Code::DocResult),
        ("{ a: new Error('x') }", Code::DocResult),
        ("{ a: new Float64Array(2) }", Code::DocResult),
        ("{ a: new Date(NaN) }", Code::DocResult),
        ("{ a: new (class Foo { x = 1 })() }", Code::DocResult),
        ("{ a: Promise.resolve(1) }", Code::DocResult),
        ("{ a: new Proxy({}, {}) }", Code::DocTransform),
        (
            "{ a: Object.create(Whimbrel.Decimal.prototype) }",
            Code::DocTransform,
        ),
        ("{ a: Object.create(Date.prototype) }", Code::DocResult),
        ("{ s: '\\ud800' }", Code::DocLoneSurrogate),
        ("{ '\\udc00': 1 }", Code::DocLoneSurrogate),
        ("{ a: { '\\udc00': 1 } }", Code::DocLoneSurrogate),
        ("{ get a() { throw new Error('x') } }", Code::DocTransform),
    ] {
        let version = load(&format!(
            "export const up = (doc) => doc.good ? doc : ({result})"
        ));
        let error = run(&version, "k", "{}").expect_err(result);
        assert!(
            error.code == code
                || (error.code == Code::DocTransform
                    && code == Code::DocResult
                    && error.message.contains("promise")),
            "{result}: {error:?}"
        );
        assert_eq!(
            run(&version, "k", r#"{"good":1}"#).unwrap(),
            r#"{"good":1}"#
        );
    }
    let version = load("export const up = () => ({ a: { b: [1, () => 1] } })");
    assert_eq!(
        run(&version, "k", "{}").unwrap_err().path.as_deref(),
        Some("a.b[1]")
    );
    let version = load("export const up = () => ({ a: 1, u: undefined, n: { u: undefined } })");
    assert_eq!(run(&version, "k", "{}").unwrap(), r#"{"a":1,"n":{}}"#);
}

#[test]
fn lone_surrogates_in_the_document() {
    let json =
        r#"{"a":["\ud800 0123456789012345678901234567890123456789012345678901234567890"],"b":1}"#;
    // Nobody looks, nobody minds.
    assert_eq!(
        run(&load("export const up = (d) => ({...d, b: 2})"), "k", json).unwrap(),
        json.replace("1}", "2}")
    );
    for script in [
        "({ n: doc.a.length })",
        "(() => { try { doc.a[0] } catch {} return { ok: 1 } })()",
    ] {
        let error = run(
            &load(&format!("export const up = (doc) => {script}")),
            "k",
            json,
        )
        .unwrap_err();
        assert_eq!(error.code, Code::DocLoneSurrogate, "{error:?}");
    }
}

#[test]
fn nothing_leaks_to_the_next_document() {
    for (setup, up) in [
        ("", "Object.prototype.polluted = 1"),
        ("", "Array.prototype.map = () => 1"),
        ("", "Array.prototype.extra = 1"),
        ("", "globalThis.leak = (globalThis.leak ?? 0) + 1"),
        ("", "Object.prototype.toString = () => 'x'"),
        ("", "Math.random = () => 1"),
        ("", "Date.now = () => 1"),
        ("", "Object.setPrototypeOf(Object.prototype, { x: 1 })"),
        ("", "Object.setPrototypeOf(Array.prototype, { x: 1 })"),
        ("", "String.prototype.leak = 1"),
        ("", "(function* () {}).constructor.prototype.leak = 1"),
        (
            "",
            "Object.getPrototypeOf([][Symbol.iterator]()).next = () => 1",
        ),
        ("", "Error.prototype.message = 'x'"),
        ("", "JSON.parse = 1"),
        ("", "Whimbrel.Decimal.prototype.x = 1"),
        ("", "ctx.seen = 1"),
        ("", "Error.prepareStackTrace = () => 1"),
        ("const seen = [];", "seen.push(1)"),
        ("const seen = { n: 0 };", "seen.n++"),
        ("const seen = { a: { n: 0 } };", "seen.a.n++"),
        ("const seen = new Map();", "seen.set(1, 1)"),
        ("const seen = new Map([[1, { n: 1 }]]);", "seen.get(1).n++"),
        ("const seen = new Set();", "seen.add(1)"),
        ("const seen = new Date(0);", "seen.setTime(1)"),
        ("function memo() {}", "memo.cache = 1"),
        ("class Memo { static n = 0 }", "Memo.n++"),
        ("const memo = () => 1;", "memo.n = 1"),
        ("export const list = [];", "list.push(1)"),
    ] {
        let version = load(&format!(
            "{setup}\nexport const up = (doc, ctx) => {{ {up}; return doc }}"
        ));
        let error = run(&version, "k", "{}").expect_err(up);
        assert_eq!(error.code, Code::DocTransform, "{up}: {error:?}");
    }
    let regex = load(
        "const RE = /a/g; export const up = (d) => ({ ...d, hit: RE.test(d.s), at: RE.lastIndex })",
    );
    for _ in 0..3 {
        assert_eq!(
            run(&regex, "k", r#"{"s":"aa"}"#).unwrap(),
            r#"{"s":"aa","hit":true,"at":1}"#
        );
    }
    // What a script may do: shadow, subclass, set names of errors.
    let version = load(
        "class Bad extends Error { constructor(m) { super(m); this.name = 'Bad'; } }
         export const up = (doc) => { const o = {}; o.toString = () => 'own'; try { throw new Bad('m') } catch (e) { return { s: `${o}`, e: String(e), n: e.name } } }",
    );
    assert_eq!(
        run(&version, "k", "{}").unwrap(),
        r#"{"s":"own","e":"Bad: m","n":"Bad"}"#
    );
    // A lazy container kept in a closure's state is told from one of this document.
    let version = load(
        "const box = (() => { let kept; return { put: (x) => { kept ??= x; return kept } } })();
         export const up = (doc) => ({ first: box.put(doc.list) })",
    );
    let json =
        r#"{"list":["0123456789012345678901234567890123456789012345678901234567890123456789"]}"#;
    run(&version, "k", json).unwrap();
    assert_eq!(run(&version, "k", json).unwrap_err().code, Code::DocResult);
}

#[test]
fn a_retry_gives_the_same_bytes() {
    let script = "export const up = (doc, ctx) => ({ ...doc, r: [Math.random(), Math.random()], t: new Date(), n: Date.now(), k: ctx.key, same: +ctx.now === Date.now() })";
    let one = load(script);
    let first = run(&one, "a", "{}").unwrap();
    let other = run(&one, "b", "{}").unwrap();
    assert_ne!(first.replace("\"a\"", "\"b\""), other);
    assert_eq!(run(&one, "a", "{}").unwrap(), first);
    assert_eq!(run(&load(script), "a", "{}").unwrap(), first);
    assert!(
        first.contains(r#""n":1769846400000"#) && first.contains(r#""same":true"#),
        "{first}"
    );
}

#[test]
fn there_is_no_way_out() {
    for name in [
        "require",
        "process",
        "fetch",
        "setTimeout",
        "setInterval",
        "queueMicrotask",
        "std",
        "os",
        "Proxy",
        "eval",
        "WeakRef",
        "FinalizationRegistry",
        "Atomics",
        "SharedArrayBuffer",
        "performance",
        "navigator",
        "print",
        "Intl",
        "DOMException",
        "gc",
        "scriptArgs",
    ] {
        let version = load(&format!("export const up = () => ({{ t: typeof {name} }})"));
        assert_eq!(
            run(&version, "k", "{}").unwrap(),
            r#"{"t":"undefined"}"#,
            "{name}"
        );
    }
}

#[test]
fn promises_are_refused() {
    for body in [
        "Promise.resolve().then(() => 1); return {}",
        "(async () => { await 1 })(); return {}",
    ] {
        if let Ok(version) = ScriptVersion::load(
            "p.ts",
            &format!("export const up = (doc) => {{ if (doc.good) return doc; {body} }}"),
            LIMITS,
        ) {
            assert_eq!(
                run(&version, "k", "{}").unwrap_err().code,
                Code::DocTransform,
                "{body}"
            );
            assert_eq!(
                run(&version, "k", r#"{"good":1}"#).unwrap(),
                r#"{"good":1}"#
            );
        }
    }
}

const DATES: &str = r#"
export const up = () => {
  const texts = ["2024-01-01", "2024-07-01T10:00:00", "2024-07-01T10:00:00Z", "2024-07-01T10:00:00+02:00",
    "2024-07-01 10:00:00", "Jul 1 2024 10:00", "1 July 2024", "Mon, 01 Jul 2024 10:00:00 GMT", "07/01/2024",
    "2024-07-01T10:00", "2024", "2024-07", "Mon Jul 01 2024 10:00:00 GMT+0200 (CEST)", "2024/07/01 10:00:00", "1-1-2024", "rubbish"];
  const d = new Date(2024, 6, 1, 10, 30), e = new Date(0);
  e.setFullYear(2024, 6, 1); e.setHours(5, 6, 7, 8);
  return {
    parsed: texts.map((t) => [t, Date.parse(t), new Date(t).getTime()].map((x) => x !== x ? "NaN" : x)),
    local: d.getTime(), e: e.getTime(), day: new Date(1719792000000).getDay(), hours: new Date(1719792000000).getHours(), date: new Date(1719792000000).getDate(),
    offset: d.getTimezoneOffset(), year: d.getYear(),
    text: [String(d), d.toString(), d.toDateString(), d.toTimeString(), d.toLocaleString(), d.toLocaleDateString(), d.toLocaleTimeString(), d.toISOString(), d.toJSON(), `${d}`, Date()],
    copy: new Date(d).getTime(), number: new Date(5).getTime(), utc: Date.UTC(2024, 1), is: d instanceof Date, ctor: d.constructor === Date, invalid: String(new Date(NaN)),
  };
};
"#;

#[test]
fn the_time_zone_of_the_machine_does_not_matter() {
    let version = load(DATES);
    let text = run(&version, "k", "{}").unwrap();
    if std::env::var_os("WHIMBREL_PRINT_DATES").is_some() {
        println!("DATES {text}");
        return;
    }
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["local"], 1_719_829_800_000_i64);
    assert_eq!(value["hours"], 0);
    assert_eq!(value["offset"], 0);
    assert_eq!(value["parsed"][1][1], 1_719_828_000_000_i64);
    assert_eq!(value["parsed"][4][1], 1_719_828_000_000_i64);
    assert_eq!(value["text"][0], "Mon Jul 01 2024 10:30:00 GMT+0000 (UTC)");
    assert_eq!(value["text"][4], "07/01/2024, 10:30:00 AM");
    for zone in ["America/New_York", "Asia/Kolkata", "UTC", "<-03>3"] {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "the_time_zone_of_the_machine_does_not_matter",
                "--nocapture",
            ])
            .env("TZ", zone)
            .env("WHIMBREL_PRINT_DATES", "1")
            .output()
            .unwrap();
        let output = String::from_utf8(output.stdout).unwrap();
        let there = output
            .split("DATES ")
            .nth(1)
            .and_then(|rest| rest.lines().next());
        assert_eq!(there, Some(text.as_str()), "{zone}");
    }
}
