//! The total order over values, and its encoding.

mod common;

use proptest::prelude::*;
use std::cmp::Ordering;
use whimbrel_model::order::{compare, encode};
use whimbrel_model::{Value, json};

fn encoded(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    encode(value, &mut out);
    out
}

/// Each is less than the next.
#[test]
fn one_of_each_in_order() {
    let far_up = format!("1{}", "0".repeat(400));
    let texts = [
        "null",
        "false",
        "true",
        r#"{"$double":"NaN"}"#,
        r#"{"$double":"-Infinity"}"#,
        "-1e400",
        "-1e300",
        "-9223372036854775809",
        "-9223372036854775808",
        "-9223372036854776000.0",
        "-12",
        "-11.5",
        "-2",
        "-1",
        "-1.0",
        "-0.5",
        "-5e-324",
        "-1e-400",
        "-0.0",
        "0",
        "0.0",
        r#"{"$decimal":"0"}"#,
        "1e-400",
        "5e-324",
        "0.1000000000000000055",
        "0.1",
        "0.1000000000000000056",
        "0.5",
        "1",
        "1.0",
        r#"{"$decimal":"1"}"#,
        "1.5",
        "2",
        "10",
        "9007199254740991.0",
        "9007199254740992",
        "9007199254740992.0",
        "9007199254740993",
        "1152921504606846975",
        // 2^60, whose shortest text says more than it is.
        "1152921504606847000.0",
        "1152921504606846977",
        "1152921504606847000",
        "9223372036854775807",
        "9223372036854776000.0",
        "9223372036854775809",
        "1e300",
        &far_up,
        "1.5e400",
        r#"{"$double":"Infinity"}"#,
        r#"{"$timestamp":"1969-12-31T23:59:59.999Z"}"#,
        r#"{"$timestamp":"1970-01-01T00:00:00Z"}"#,
        r#"{"$timestamp":"1970-01-01T00:00:00.000000001Z"}"#,
        r#""""#,
        r#""\u0000""#,
        r#""\u0000\u0000""#,
        r#""\u0000a""#,
        r#""\u0001""#,
        r#""a""#,
        r#""a\u0000""#,
        r#""a\u0000b""#,
        r#""ab""#,
        r#""b""#,
        r#""é""#,
        r#""\uffff""#,
        r#""😀""#,
        r#"{"$bytes":""}"#,
        r#"{"$bytes":"AA=="}"#,
        r#"{"$bytes":"AP8="}"#,
        r#"{"$bytes":"/w=="}"#,
        r#"{"$reference":"a"}"#,
        r#"{"$reference":"a/b"}"#,
        r#"{"$geopoint":[-1.5,2.0]}"#,
        r#"{"$geopoint":[1.5,-2.0]}"#,
        r#"{"$geopoint":[1.5,2.0]}"#,
        "[]",
        "[null]",
        "[null,null]",
        "[1]",
        "[1,2]",
        "[2]",
        r#"["a"]"#,
        "[[]]",
        r#"{"$vector":[]}"#,
        r#"{"$vector":[9.0]}"#,
        r#"{"$vector":[1.0,{"$double":"NaN"}]}"#,
        r#"{"$vector":[1.0,2.0]}"#,
        "{}",
        r#"{"a":1}"#,
        r#"{"b":0,"a":1}"#,
        r#"{"a":1,"c":0}"#,
        r#"{"a":2}"#,
        r#"{"a\u0000":0}"#,
        r#"{"b":0}"#,
    ];
    let values: Vec<Value> = texts
        .iter()
        .map(|t| json::parse(t.as_bytes()).unwrap())
        .collect();
    for (i, a) in values.iter().enumerate() {
        for (j, b) in values.iter().enumerate() {
            assert_eq!(compare(a, b), i.cmp(&j), "{} {}", texts[i], texts[j]);
            let (a, b) = (encoded(a), encoded(b));
            assert_eq!(a.cmp(&b), i.cmp(&j), "{} {}", texts[i], texts[j]);
            assert_eq!(b.starts_with(&a), i == j, "{} {}", texts[i], texts[j]);
        }
    }
}

fn number() -> impl Strategy<Value = Value> {
    let near = |i: i64| prop_oneof![Just(Value::Int(i)), Just(Value::Double(i as f64))];
    prop_oneof![
        common::int().prop_map(Value::Int),
        common::double().prop_map(Value::Double),
        common::decimal().prop_map(Value::Decimal),
        common::int().prop_flat_map(near),
        (-20i64..20).prop_flat_map(near),
    ]
}

fn check_pair(a: &Value, b: &Value) -> Result<(), TestCaseError> {
    let order = compare(a, b);
    prop_assert_eq!(encoded(a).cmp(&encoded(b)), order, "{:?} {:?}", a, b);
    prop_assert_eq!(compare(b, a), order.reverse());
    prop_assert_eq!(order == Ordering::Equal, a == b);
    if a != b {
        prop_assert!(!encoded(a).starts_with(&encoded(b)));
    }
    Ok(())
}

proptest! {
    #[test]
    fn encoding_sorts_as_comparing_does(a in common::value(), b in common::value()) {
        check_pair(&a, &b)?;
        check_pair(&a, &a.clone())?;
    }

    #[test]
    fn numbers_of_all_kinds_interleave(a in number(), b in number()) {
        check_pair(&a, &b)?;
        // The peer: doubles where they hold both numbers exactly.
        if let (Value::Int(i), Value::Double(d)) = (&a, &b)
            && i.unsigned_abs() <= 1 << 53
            && let Some(order) = (*i as f64).partial_cmp(d)
            && order != Ordering::Equal
        {
            prop_assert_eq!(compare(&a, &b), order);
        }
    }

    #[test]
    fn arrays_of_numbers_compare_as_their_first_difference(
        head in prop::collection::vec(number(), 0..3),
        a in number(),
        b in number(),
        tails in (prop::collection::vec(number(), 0..3), prop::collection::vec(number(), 0..3)),
    ) {
        let whole = |x: &Value, tail: &[Value]| {
            Value::Array(head.iter().chain([x]).chain(tail).cloned().collect())
        };
        let (x, y) = (whole(&a, &tails.0), whole(&b, &tails.1));
        check_pair(&x, &y)?;
        if a != b {
            prop_assert_eq!(compare(&x, &y), compare(&a, &b));
        }
    }
}
