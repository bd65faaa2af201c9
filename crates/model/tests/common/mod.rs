//! Values of every kind, for property tests.

// Each test program uses some of them.
#![allow(dead_code)]

use proptest::prelude::*;
use whimbrel_model::{Decimal, GeoPoint, Map, Timestamp, Value};

/// Doubles where encodings break: signs of zero, ends of ranges, the bounds of the bare form.
pub fn double() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        any::<u64>().prop_map(f64::from_bits),
        any::<i32>().prop_map(f64::from),
        (-1000i32..1000, -30i32..30).prop_map(|(m, e)| f64::from(m) * 10f64.powi(e)),
        prop::sample::select(vec![
            0.0,
            -0.0,
            f64::NAN,
            -f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MIN_POSITIVE,
            5e-324,
            f64::MAX,
            f64::MIN,
            1e-7,
            1e-7f64.next_down(),
            1e16,
            1e20,
            1e21,
            999_999_999_999_999_900_000.0,
            9_007_199_254_740_992.0,
            9_223_372_036_854_775_808.0,
            0.1,
            0.300_000_000_000_000_04,
        ]),
    ]
}

pub fn int() -> impl Strategy<Value = i64> {
    prop_oneof![
        any::<i64>(),
        -100i64..100,
        prop::sample::select(vec![
            i64::MIN,
            i64::MAX,
            (1 << 53) + 1,
            (1 << 53) - 1,
            -(1 << 53) - 1
        ]),
    ]
}

pub fn decimal() -> impl Strategy<Value = Decimal> {
    prop_oneof![
        "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,4})?",
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?",
        "-?[1-9][0-9]{18,40}",
        "-?1(e|E)[+-]?[0-9]{1,25}",
    ]
    .prop_map(|literal| Decimal::new(literal).unwrap())
}

/// Short texts with what escapes, quotes, ends, or lies outside the basic plane.
pub fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::collection::vec(
            prop::sample::select(vec![
                '\0', '\u{1}', '\u{1f}', '"', '\\', '/', '\n', '$', 'a', 'u', 'é', '\u{2028}',
                '\u{ffff}', '😀'
            ]),
            0..20
        )
        .prop_map(String::from_iter),
        any::<String>(),
        "[a-z ]{0,40}",
    ]
}

/// Names, among them such as look like tags, escaped or not.
pub fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-c]{0,2}",
        2 => text(),
        2 => ("\\${0,3}", prop::sample::select(vec![
            "timestamp", "bytes", "reference", "geopoint", "vector", "double", "decimal", "other", "Timestamp",
        ])).prop_map(|(dollars, tag)| format!("{dollars}{tag}")),
    ]
}

pub fn timestamp() -> impl Strategy<Value = Timestamp> {
    let seconds = prop_oneof![
        any::<i64>(),
        -62_135_596_800i64..253_402_300_800,
        Just(-377_705_023_201),
        Just(-377_705_116_800),
        Just(253_402_207_200),
        Just(253_402_300_799),
    ];
    let nanos = prop_oneof![Just(0), Just(999_999_999), 0u32..1_000_000_000];
    (seconds, nanos).prop_map(|(s, n)| Timestamp::new(s, n).unwrap())
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        int().prop_map(Value::Int),
        double().prop_map(Value::Double),
        decimal().prop_map(Value::Decimal),
        timestamp().prop_map(Value::Timestamp),
        text().prop_map(Value::String),
        // What a plain object must hold to look like a tag.
        prop::sample::select(vec![
            "NaN",
            "-0",
            "1e300",
            "AAAA",
            "1.5",
            "2026-01-31T08:00:00Z",
            "@1.000000000"
        ])
        .prop_map(|s| Value::String(s.to_owned())),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Value::Bytes),
        text().prop_map(Value::Reference),
        (double(), double()).prop_map(|(latitude, longitude)| Value::GeoPoint(GeoPoint {
            latitude,
            longitude
        })),
        prop::collection::vec(double(), 0..6).prop_map(Value::Vector),
        prop::collection::vec(double().prop_map(Value::Double), 0..3).prop_map(Value::Array),
    ]
}

pub fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(4, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            map_of(inner.clone(), 0..6).prop_map(Value::Map),
            map_of(inner, 1..2).prop_map(Value::Map),
        ]
    })
}

fn map_of(
    value: impl Strategy<Value = Value>,
    size: std::ops::Range<usize>,
) -> impl Strategy<Value = Map> {
    prop::collection::vec((name(), value), size).prop_map(Map::from_iter)
}

pub fn map() -> impl Strategy<Value = Map> {
    prop_oneof![map_of(value(), 0..8), map_of(value(), 1..2)]
}
