//! What reading accepts, refuses and notices, in tables.

use whimbrel_model::json::{self, Facts, JsonErrorKind, MAX_DEPTH};
use whimbrel_model::{Decimal, GeoPoint, Map, Timestamp, Value};

#[test]
fn errors_say_where() {
    let check = |text: &str, kind: JsonErrorKind, at: usize| {
        for error in [
            json::scan(text.as_bytes()).unwrap_err(),
            json::parse(text.as_bytes()).unwrap_err(),
            json::split(text.as_bytes()).unwrap_err(),
            json::fingerprint(text.as_bytes()).unwrap_err(),
        ] {
            assert_eq!((error.kind, error.at), (kind, at), "{text}");
        }
    };
    use JsonErrorKind::{DuplicateKey, Malformed};
    check("", Malformed, 0);
    check("  ", Malformed, 2);
    check("{", Malformed, 1);
    check("{\"a\":1,}", Malformed, 7);
    check("{\"a\" 1}", Malformed, 5);
    check("{\"a\":1} x", Malformed, 8);
    check("[1 2]", Malformed, 3);
    check("{\"a\":nul}", Malformed, 5);
    check("\"\\x\"", Malformed, 1);
    check("\"\\u12G4\"", Malformed, 1);
    check("\"a\tb\"", Malformed, 2);
    check("01", Malformed, 2);
    check("{\"a\":1,\"a\":2}", DuplicateKey, 8);
    check("{\"a\":1,\"\\u0061\":2}", DuplicateKey, 8);
    check("[{\"\\n\":1,\"b\":0,\"\\u000a\":2}]", DuplicateKey, 16);
    check("{\"😀\":1,\"\\ud83d\\ude00\":2}", DuplicateKey, 11);
    assert_eq!(
        json::scan(b"{\"a\":\"\xff\"}").unwrap_err().kind,
        JsonErrorKind::InvalidUtf8
    );
    assert_eq!(
        json::parse(b"\"\xed\xa0\x80\"").unwrap_err().kind,
        JsonErrorKind::InvalidUtf8
    );
}

#[test]
fn only_objects_are_documents() {
    for text in ["[]", "1", "\"{}\"", "null", " true"] {
        assert!(json::scan(text.as_bytes()).is_ok());
        for error in [
            json::split(text.as_bytes()).unwrap_err(),
            json::fingerprint(text.as_bytes()).unwrap_err(),
        ] {
            assert_eq!(error.kind, JsonErrorKind::NotObject, "{text}");
        }
    }
    let tagged = br#"{"$timestamp":"2026-01-31T08:00:00Z"}"#;
    assert_eq!(
        json::fingerprint(tagged).unwrap_err().kind,
        JsonErrorKind::NotObject
    );
    assert!(json::fingerprint(br#"{"$timestamp":"soon"}"#).is_ok());
}

#[test]
fn facts_are_what_is_there() {
    let check = |text: &str, expect: Facts| {
        assert_eq!(json::scan(text.as_bytes()).unwrap(), expect, "{text}");
    };
    let none = Facts::default();
    let deep = |depth| Facts { depth, ..none };
    check("1", deep(0));
    check("{}", deep(1));
    check("{\"a\":[{}],\"b\":[]}", deep(3));
    for text in ["{\"$a\":1}", "{\"b\":1,\"\\u0024\":1}", "{\"$\":1}"] {
        check(
            text,
            Facts {
                dollar_key: true,
                ..deep(1)
            },
        );
    }
    check("{\"a$\":\"$\"}", deep(1));
    for text in ["[\"\\u0000\"]", "{\"\\u0000\":1}"] {
        check(
            text,
            Facts {
                nul: true,
                ..deep(1)
            },
        );
    }
    for text in [
        "[\"\\ud800\"]",
        "{\"\\udc00\\ud800\":1}",
        "[\"\\ud800\\u0041\"]",
        "[\"\\uD800\\uD800\\uDC00\"]",
    ] {
        check(
            text,
            Facts {
                lone_surrogate: true,
                ..deep(1)
            },
        );
    }
    check("[\"\\ud83d\\ude00\"]", deep(1));
    for text in ["[1e2]", "[1.5E-3]", "[-0]", "[-0.00]", "[0e0]"] {
        check(
            text,
            Facts {
                odd_number: true,
                ..deep(1)
            },
        );
    }
    check("[0.0,-0.5,-10]", deep(1));
    for text in ["[9223372036854775808]", "[0.1000000000000000001]"] {
        check(
            text,
            Facts {
                decimal: true,
                ..deep(1)
            },
        );
    }
    check(
        "[1e999]",
        Facts {
            decimal: true,
            odd_number: true,
            ..deep(1)
        },
    );
}

#[test]
fn unpaired_surrogates_stop_those_who_need_the_text() {
    let inside = br#"{"a":{"\ud800":["\udc00"]}}"#;
    assert!(json::scan(inside).unwrap().lone_surrogate);
    assert_eq!(json::split(inside).unwrap().len(), 1);
    let name = br#"{"a\ud800":1}"#;
    for error in [
        json::parse(inside).unwrap_err(),
        json::fingerprint(inside).unwrap_err(),
        json::parse(name).unwrap_err(),
        json::split(name).unwrap_err(),
        json::unescape(br"a\ud800").unwrap_err(),
    ] {
        assert_eq!(error.kind, JsonErrorKind::LoneSurrogate);
    }
    // Two different halves are two different names, the same half twice is not.
    assert!(json::scan(br#"{"\ud800":1,"\ud801":2}"#).is_ok());
    assert!(json::scan(br#"{"\ud800":1,"\uD800":2}"#).is_err());
}

#[test]
fn depth_is_bounded_on_small_stacks() {
    // Threads of the library have 2 MiB.
    std::thread::Builder::new()
        .stack_size(1 << 20)
        .spawn(|| {
            for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
                let nested = |depth: usize| {
                    format!("{}1{}", open.repeat(depth), close.repeat(depth)).into_bytes()
                };
                let deepest = nested(MAX_DEPTH as usize);
                assert_eq!(json::scan(&deepest).unwrap().depth, MAX_DEPTH);
                let value = json::parse(&deepest).unwrap();
                let mut again = Vec::new();
                json::write(&value, &mut again);
                assert_eq!(again, deepest);
                assert_eq!(value, value.clone());
                if open != "[" {
                    assert!(json::fingerprint(&deepest).is_ok());
                    assert!(json::split(&deepest).is_ok());
                }
                for text in [
                    nested(MAX_DEPTH as usize + 1),
                    open.repeat(100_000).into_bytes(),
                ] {
                    for error in [
                        json::scan(&text).unwrap_err(),
                        json::parse(&text).unwrap_err(),
                        json::split(&text).unwrap_err(),
                        json::fingerprint(&text).unwrap_err(),
                    ] {
                        assert_eq!(error.kind, JsonErrorKind::TooDeep);
                    }
                }
            }
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn many_names_are_checked_for_duplicates() {
    for count in [1, 2, 15, 16, 17, 18, 100, 5000] {
        let object = |names: &[String]| {
            let members: Vec<_> = names.iter().map(|n| format!("\"{n}\":0")).collect();
            format!("{{{}}}", members.join(",")).into_bytes()
        };
        let mut names: Vec<_> = (0..count)
            .map(|i| format!("a rather long name, number {i}"))
            .collect();
        assert!(json::scan(&object(&names)).is_ok());
        for (again, escaped) in [(0, false), (count - 1, false), (count / 2, true)] {
            let mut twice = names[again].clone();
            if escaped {
                twice = twice.replace('n', "\\u006e");
            }
            names.push(twice);
            let text = object(&names);
            for error in [
                json::scan(&text).unwrap_err(),
                json::parse(&text).unwrap_err(),
                json::fingerprint(&text).unwrap_err(),
            ] {
                assert_eq!(error.kind, JsonErrorKind::DuplicateKey, "{count} {again}");
                // The last name is the one that is too many.
                assert_eq!(
                    &text[error.at..error.at + 2],
                    &text[text.len() - names[count].len() - 4..][..2]
                );
                assert!(error.at > text.len() - names[count].len() - 8, "{error}");
            }
            names.pop();
        }
    }
}

#[test]
fn tags_are_read_where_their_content_fits() {
    let check = |text: &str, expect: Value| {
        assert_eq!(json::parse(text.as_bytes()).unwrap(), expect, "{text}");
        let around = format!("{{\"around\":{text}}}");
        let map = Map::from_iter([("around".to_owned(), expect)]);
        assert_eq!(
            json::fingerprint(around.as_bytes()).unwrap(),
            json::fingerprint_map(&map),
            "{text}"
        );
    };
    let one = |name: &str, value: Value| Value::Map(Map::from_iter([(name.to_owned(), value)]));
    let text = |text: &str| Value::String(text.to_owned());
    let at = Timestamp::new(1_769_846_400, 500_000_000).unwrap();
    check(
        r#"{"$timestamp":"2026-01-31T08:00:00.5Z"}"#,
        Value::Timestamp(at),
    );
    check(
        r#"{"\u0024timestamp":"2026-01-31T10:00:00.5+02\u003a00"}"#,
        Value::Timestamp(at),
    );
    check(
        r#"{"$timestamp":"yesterday"}"#,
        one("$timestamp", text("yesterday")),
    );
    check(r#"{"$timestamp":1}"#, one("$timestamp", Value::Int(1)));
    check(
        r#"{"$$timestamp":"2026-01-31T08:00:00.5Z"}"#,
        one("$timestamp", text("2026-01-31T08:00:00.5Z")),
    );
    check(r#"{"$$$timestamp":1}"#, one("$$timestamp", Value::Int(1)));
    check(r#"{"$$other":1}"#, one("$$other", Value::Int(1)));
    check(r#"{"$bytes":"AQI="}"#, Value::Bytes(vec![1, 2]));
    check(r#"{"$bytes":"AQI"}"#, one("$bytes", text("AQI")));
    check(r#"{"$reference":"a/b"}"#, Value::Reference("a/b".into()));
    check(
        r#"{"$decimal":"1.50"}"#,
        Value::Decimal(Decimal::new("1.5").unwrap()),
    );
    check(r#"{"$decimal":1.5}"#, one("$decimal", Value::Double(1.5)));
    check(r#"{"$double":"NaN"}"#, Value::Double(f64::NAN));
    check(
        r#"{"$double":"-Infinity"}"#,
        Value::Double(f64::NEG_INFINITY),
    );
    check(r#"{"$double":"-0"}"#, Value::Double(-0.0));
    check(r#"{"$double":"1e300"}"#, Value::Double(1e300));
    check(r#"{"$double":"1e400"}"#, one("$double", text("1e400")));
    check(r#"{"$double":"0x1"}"#, one("$double", text("0x1")));
    let point = |latitude, longitude| {
        Value::GeoPoint(GeoPoint {
            latitude,
            longitude,
        })
    };
    check(r#"{"$geopoint":[1.5,-2]}"#, point(1.5, -2.0));
    check(
        r#"{"$geopoint":[1.5,{"$double":"NaN"}]}"#,
        point(1.5, f64::NAN),
    );
    check(
        r#"{"$geopoint":[1.5]}"#,
        one("$geopoint", Value::Array(vec![Value::Double(1.5)])),
    );
    check(r#"{"$vector":[]}"#, Value::Vector(vec![]));
    check(
        r#"{"$vector":[1,{"$double":"-0"}]}"#,
        Value::Vector(vec![1.0, -0.0]),
    );
    check(
        r#"{"$vector":[9007199254740993]}"#,
        one(
            "$vector",
            Value::Array(vec![Value::Int(9_007_199_254_740_993)]),
        ),
    );
    check(
        r#"{"$vector":[[1]]}"#,
        one(
            "$vector",
            Value::Array(vec![Value::Array(vec![Value::Int(1)])]),
        ),
    );
    check(
        r#"{"$double":{"$double":"1"}}"#,
        one("$double", Value::Double(1.0)),
    );
    let map = json::parse(br#"{"$double":"NaN","a":1}"#).unwrap();
    assert!(matches!(map, Value::Map(map) if map["$double"] == text("NaN")));
}

#[test]
fn fingerprints_are_of_the_meaning() {
    let print = |text: &str| json::fingerprint(text.as_bytes()).unwrap();
    let same = |a: &str, b: &str| assert_eq!(print(a), print(b), "{a} {b}");
    let differ = |a: &str, b: &str| assert_ne!(print(a), print(b), "{a} {b}");
    same(
        r#"{"a":1,"b":[1,{"c":2,"d":3}]}"#,
        " { \"b\" : [ 1 , {\"d\":3,\"c\":2}],\"a\":1}\n",
    );
    same(r#"{"é":"\n"}"#, r#"{"\u00e9":"\u000A"}"#);
    same(r#"{"a":1.10}"#, r#"{"a":1.1}"#);
    same(r#"{"a":1e2}"#, r#"{"a":100.0}"#);
    same(r#"{"a":1e400}"#, r#"{"a":{"$decimal":"10e399"}}"#);
    same(r#"{"a":1.5}"#, r#"{"a":{"$double":"1.5"}}"#);
    same(r#"{"$$double":"x"}"#, r#"{"$double":"x"}"#);
    differ(r#"{"a":1}"#, r#"{"a":1.0}"#);
    differ(r#"{"a":0.0}"#, r#"{"a":-0}"#);
    differ(r#"{"a":[1,2]}"#, r#"{"a":[2,1]}"#);
    differ(r#"{"a":[]}"#, r#"{"a":{}}"#);
    differ(r#"{"a":[[],[]]}"#, r#"{"a":[[[]]]}"#);
    differ(r#"{"a":1,"b":2}"#, r#"{"a":2,"b":1}"#);
    differ(r#"{"a":null}"#, "{}");
    differ(r#"{"a":"1"}"#, r#"{"a":1}"#);
    differ(r#"{"a":"b/c"}"#, r#"{"a":{"$reference":"b/c"}}"#);
    differ(r#"{"$vector":[1.0],"x":1}"#, r#"{"$$vector":[1.0],"x":1}"#);
}

/// Ledgers keep fingerprints: a change of these numbers makes every kept one worthless.
#[test]
fn fingerprints_stay_what_they_are() {
    let text = br#"{"id":"c1","n":3,"x":0.5,"big":12345678901234567890,"ok":[true,false,null],
        "at":{"$timestamp":"2026-01-31T08:00:00.5Z"},"raw":{"$bytes":"AQI="},"ref":{"$reference":"a/b"},
        "place":{"$geopoint":[1.5,-2.0]},"v":{"$vector":[0.25,{"$double":"NaN"}]}}"#;
    let print = json::fingerprint(text).unwrap();
    assert_eq!(format!("{print:?}"), "f41439e9e06efe9a686c2e17c55fb965");
}

#[test]
fn the_plain_form_counts_its_losses() {
    let check = |tagged: &str, plain: &str, expect: json::Losses| {
        let mut out = Vec::new();
        let losses = json::write_plain(&json::parse(tagged.as_bytes()).unwrap(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), plain);
        assert_eq!(losses, expect, "{tagged}");
    };
    let none = json::Losses::default();
    check(
        r#"{"a":[1,1.5,-0.0,1e300,null,true,"x"]}"#,
        r#"{"a":[1,1.5,-0.0,1e300,null,true,"x"]}"#,
        none,
    );
    check(r#"{"$$double":"NaN"}"#, r#"{"$double":"NaN"}"#, none);
    check(
        r#"[{"$timestamp":"2026-01-31T08:00:00Z"}]"#,
        r#"["2026-01-31T08:00:00Z"]"#,
        json::Losses {
            timestamps: 1,
            ..none
        },
    );
    check(
        r#"[{"$bytes":"AQI="}]"#,
        r#"["AQI="]"#,
        json::Losses { bytes: 1, ..none },
    );
    check(
        r#"[{"$double":"NaN"},{"$vector":[1.5,{"$double":"Infinity"}]}]"#,
        "[null,[1.5,null]]",
        json::Losses {
            doubles: 2,
            others: 1,
            ..none
        },
    );
    check(
        r#"[{"$geopoint":[1.5,2.5]},{"$reference":"a/b"}]"#,
        r#"[{"latitude":1.5,"longitude":2.5},"a/b"]"#,
        json::Losses { others: 2, ..none },
    );
}
