//! `down(up(d), complement) == d`, for random operations on random documents, the order of fields included.

use super::tests::{parse, with_cx};
use proptest::prelude::*;
use whimbrel_model::{Draft, Map, Timestamp, Value, json};

fn scalar() -> impl Strategy<Value = Value> {
    let texts = &[
        "",
        "x",
        "y",
        "1",
        "+1",
        "1.50",
        "true",
        "null",
        "{\"a\": 1}",
        "[1]",
        "\"s\"",
        "2026-01-31T09:00:00+01:00",
        "{\"$timestamp\":\"2026-01-31T08:00:00Z\"}",
    ];
    prop_oneof![
        2 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::Bool),
        2 => (-2_i64..3).prop_map(Value::Int),
        1 => any::<i64>().prop_map(Value::Int),
        1 => any::<f64>().prop_map(Value::Double),
        1 => (-9_i32..9).prop_map(|x| Value::Double(f64::from(x) / 2.0)),
        1 => (any::<i32>(), 0_u32..1_000_000_000).prop_map(|(seconds, nanos)| {
            Timestamp::new(seconds.into(), nanos).map_or(Value::Null, Value::Timestamp)
        }),
        6 => prop::sample::select(&texts[..]).prop_map(|text| Value::String(text.to_owned())),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            3 => scalar(),
            1 => prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            1 => fields(&["a", "b", "c"], inner).prop_map(Value::Map),
        ]
    })
}

/// Some of the names, in random order.
fn fields(
    names: &'static [&'static str],
    value: impl Strategy<Value = Value>,
) -> impl Strategy<Value = Map> {
    let pair = (prop::sample::select(names).prop_map(str::to_owned), value);
    prop::collection::vec(pair, 0..8).prop_map(|pairs| pairs.into_iter().collect())
}

/// Documents of one shape, more or less, so that operations meet the fields that they speak of: `a`, `b`,
/// `c` are mostly scalars, `p` a map of such with `p.q` inside, `m` an array of such maps.
fn document() -> impl Strategy<Value = Map> {
    let flat = || fields(&["a", "b", "c"], value());
    let inner = || {
        (flat(), prop::option::weighted(0.7, flat())).prop_map(|(mut map, q)| {
            if let Some(q) = q {
                map.insert("q".to_owned(), Value::Map(q));
            }
            map
        })
    };
    let array = prop::collection::vec(
        prop_oneof![9 => inner().prop_map(Value::Map), 1 => value()],
        0..4,
    );
    let member = prop_oneof![
        5 => (prop::sample::select(&["a", "b", "c"][..]), value()),
        2 => (Just("p"), prop_oneof![9 => inner().prop_map(Value::Map), 1 => value()]),
        2 => (Just("m"), prop_oneof![9 => array.prop_map(Value::Array), 1 => value()]),
    ];
    prop::collection::vec(member, 2..12).prop_map(|members| {
        let members = members.into_iter();
        members
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    })
}

fn path() -> impl Strategy<Value = String> {
    let paths = &[
        "a", "a", "b", "c", "p.a", "p.b", "p.q.a", "p.q", "p.x.y", "a.b", "p", "m",
    ];
    prop_oneof![
        8 => prop::sample::select(&paths[..]).prop_map(str::to_owned),
        2 => prop::sample::select(&paths[..]).prop_map(|path| format!("m[].{path}")),
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(&["a", "b", "c", "z"][..]).prop_map(str::to_owned)
}

fn supply() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(
            &[
                "value = 1",
                "value = {}",
                "json = 'null'",
                "now = true",
                "now = 'text'"
            ][..]
        )
        .prop_map(str::to_owned),
        path().prop_map(|path| format!("copy = '{}'", path.replace("[]", ""))),
    ]
}

fn flat() -> impl Strategy<Value = String> {
    let kinds = &[
        "int",
        "double",
        "bool",
        "string",
        "timestamp",
        "json",
        "json_string",
    ][..];
    prop_oneof![
        (path(), supply()).prop_map(|(p, s)| format!("op = 'add', path = '{p}', {s}")),
        (path(), supply()).prop_map(|(p, s)| format!("op = 'set', path = '{p}', {s}")),
        (path(), prop::sample::select(&["", ", default = 7"][..]))
            .prop_map(|(p, d)| format!("op = 'remove', path = '{p}'{d}")),
        path().prop_map(|p| format!("op = 'drop_null', path = '{p}'")),
        (path(), name(), any::<bool>()).prop_map(|(from, to, over)| {
            format!("op = 'rename', from = '{from}', to = '{to}', overwrite = {over}")
        }),
        (path(), path(), any::<bool>(), any::<bool>()).prop_map(|(from, to, over, copy)| {
            let op = if copy { "copy" } else { "move" };
            format!("op = '{op}', from = '{from}', to = '{to}', overwrite = {over}")
        }),
        (
            path(),
            prop::sample::select(kinds),
            prop::option::of(prop::sample::select(&kinds[..5]))
        )
            .prop_map(|(p, to, from)| {
                let from = from.map_or(String::new(), |from| format!(", from = '{from}'"));
                format!("op = 'cast', path = '{p}', to = '{to}'{from}, unit = 's'")
            }),
        path().prop_map(|p| {
            format!("op = 'map_values', path = '{p}', map = {{ x = 'y', '1' = 'y', true = 1 }}")
        }),
        (
            path(),
            prop::sample::select(&["wrap", "unwrap"][..]),
            prop::sample::select(&["as = 'array'", "in = 'a'"][..])
        )
            .prop_map(|(p, op, how)| format!("op = '{op}', path = '{p}', {how}")),
    ]
    .prop_map(|inner| format!("{{ {inner} }}"))
}

fn operation() -> impl Strategy<Value = String> {
    let each = |inner: BoxedStrategy<String>| {
        let inside = prop::collection::vec(inner, 1..3);
        (prop::sample::select(&["m", "m", "p"][..]), inside).prop_map(|(path, list)| {
            format!(
                "{{ op = 'each', path = '{path}', do = [{}] }}",
                list.join(", ")
            )
        })
    };
    prop_oneof![
        8 => flat(),
        2 => each(flat().boxed()),
        1 => each(each(flat().boxed()).boxed()),
    ]
}

fn text(doc: &Draft) -> String {
    super::tests::text(doc)
}

fn law(operations: &str, document: Map) -> Result<(), TestCaseError> {
    // A random operation may be one that the reader refuses (a move into itself).
    let Ok(operations) = parse(&format!("up = [{operations}]")) else {
        return Ok(());
    };
    let mut before = Vec::new();
    json::write_map(&document, &mut before);
    let before = String::from_utf8(before).map_err(|e| TestCaseError::fail(e.to_string()))?;
    with_cx(|cx| {
        for mut doc in [super::tests::draft(&before), Draft::from_map(document)] {
            match operations.apply(&mut doc, cx) {
                Err(_) => {
                    prop_assert_eq!(text(&doc), before.clone(), "a failure changed the document")
                }
                Ok(complement) => {
                    let after = text(&doc);
                    // As after a stay in the ledger.
                    let mut stored = Vec::new();
                    json::write_map(&complement, &mut stored);
                    let complement = match json::parse(&stored) {
                        Ok(Value::Map(map)) => map,
                        other => return Err(TestCaseError::fail(format!("{other:?}"))),
                    };
                    let mut down = super::tests::draft(&after);
                    let undone = operations.invert(&mut down, Some(&complement), cx);
                    prop_assert!(undone.is_ok(), "{undone:?}, after {after}");
                    prop_assert_eq!(text(&down), before.clone(), "by way of {}", after);
                }
            }
        }
        Ok(())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, ..ProptestConfig::default() })]

    #[test]
    fn one_operation_goes_back(operation in operation(), document in document()) {
        law(&operation, document)?;
    }

    #[test]
    fn chains_go_back(operations in prop::collection::vec(operation(), 2..6), document in document()) {
        law(&operations.join(", "), document)?;
    }
}
