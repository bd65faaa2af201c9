//! Random documents and random queries, from a seed.

use crate::model::Documents;
use crate::stage::name_of;
use crate::values::*;
use whimbrel_firestore::Fields;
use whimbrel_firestore::v1::structured_query::{CollectionSelector, Filter};
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_firestore::v1::{Cursor, StructuredQuery, Value};

/// SplitMix64 (Steele, Lea, Flood 2014).
pub struct Random {
    state: u64,
    /// Whether texts may hold NUL.
    pub nul: bool,
}

impl Random {
    pub fn new(seed: u64) -> Self {
        Self {
            state: seed,
            nul: true,
        }
    }

    fn text(&self, text: &str) -> String {
        if self.nul {
            text.to_owned()
        } else {
            text.replace('\0', "\u{1}")
        }
    }

    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Ids, such that prefixes, escapes and numbers of old are among them.
const IDS: &[&str] = &[
    "a",
    "b",
    "ab",
    "a-b",
    "a!",
    "a b",
    "B",
    "é",
    "z\u{10FFFF}",
    "__id7__",
    "__id-3__",
    "__id12__",
    "__idx",
    "0",
    "10",
    "9",
    "a\u{1}",
    "~",
];

const PARENTS: &[&str] = &[
    "c",
    "c",
    "c",
    "c",
    "d",
    "p/1/c",
    "p/1-/c",
    "p/__id5__/c",
    "p/1/c/a/c",
    "q/1/c",
    "@at",
];

const BYTES: &[&[u8]] = &[b"", b"\0", b"\0\xFF", b"a", b"\xFF\xFF"];
const REFERENCES: &[&str] = &["c/a", "c/b", "c/__id7__", "c/a/c/b", "d/a"];
const VECTORS: &[&[f64]] = &[&[1.0], &[1.0, 2.0], &[0.0, 3.0]];

pub fn simple(random: &mut Random) -> Value {
    match random.below(16) {
        0 => null(),
        1 => boolean(random.one_in(2)),
        2 => double(f64::NAN),
        3 => double(*random.pick(&[
            -0.0,
            0.0,
            0.5,
            1.0,
            -1.5,
            f64::INFINITY,
            f64::NEG_INFINITY,
            9_007_199_254_740_992.0,
        ])),
        4..=7 => int(*random.pick(&[0, 1, 2, 3, -1, 9_007_199_254_740_993, i64::MIN, i64::MAX])),
        8 => instant(
            i64::try_from(random.below(3)).unwrap(),
            1_000 * i32::try_from(random.below(2)).unwrap(),
        ),
        9 | 10 => {
            let chosen = *random.pick(&[
                "",
                "a",
                "b",
                "a\u{0}",
                "a\u{0}b",
                "ab",
                "é",
                "\u{FFFF}",
                "\u{10000}",
            ]);
            text(random.text(chosen))
        }
        11 => text(long(random)),
        12 => {
            let chosen = random.pick(BYTES);
            bytes(chosen)
        }
        13 => {
            let chosen = random.pick(REFERENCES);
            reference(chosen)
        }
        14 => geo(f64::from(u8::try_from(random.below(3)).unwrap()), -1.5),
        _ => int(i64::try_from(random.below(5)).unwrap()),
    }
}

/// Texts that are longer than index keys keep, many of which begin alike.
fn long(random: &mut Random) -> String {
    let length = *random.pick(&[1_400, 1_795, 1_800, 1_900, 3_000]);
    let tail = *random.pick(&["", "a", "b", "ab", "z"]);
    format!("{}{tail}", "x".repeat(length))
}

pub fn any(random: &mut Random) -> Value {
    match random.below(8) {
        0 => array((0..random.below(4)).map(|_| simple(random)).collect()),
        1 => map((0..random.below(3))
            .map(|i| (["x", "y", "a b"][i], simple(random)))
            .collect()),
        2 => {
            let chosen = random.pick(VECTORS);
            vector(chosen)
        }
        _ => simple(random),
    }
}

pub fn fields(random: &mut Random) -> Fields {
    let mut fields = Fields::new();
    for name in ["f", "g", "h", "t", "m"] {
        if random.one_in(4) {
            continue;
        }
        let value = match name {
            "f" => int(i64::try_from(random.below(3)).unwrap()),
            "t" => array((0..random.below(5)).map(|_| simple(random)).collect()),
            "m" => map(vec![("x", simple(random))]),
            _ => any(random),
        };
        fields.insert(name.to_owned(), value);
    }
    fields
}

pub fn path(random: &mut Random) -> String {
    format!("{}/{}", random.pick(PARENTS), random.pick(IDS))
}

pub fn documents(random: &mut Random, count: usize) -> Documents {
    (0..count).map(|_| (path(random), fields(random))).collect()
}

/// A query that the protocol allows most of the time, and what it is asked below.
pub fn query(random: &mut Random, documents: &Documents) -> (String, StructuredQuery) {
    let (parent, id, deep) = *random.pick(&[
        ("", "c", false),
        ("", "c", false),
        ("", "c", false),
        ("", "c", false),
        ("p/1", "c", false),
        ("p/__id5__", "c", false),
        ("", "c", true),
        ("", "c", true),
        ("p/1", "c", true),
        ("", "@at", false),
        ("", "@at", true),
        ("", "", true),
        ("p/1", "", true),
        ("", "", false),
        ("", "nothing", false),
    ]);
    let mut query = StructuredQuery {
        from: vec![CollectionSelector {
            collection_id: id.to_owned(),
            all_descendants: deep,
        }],
        ..StructuredQuery::default()
    };
    let names_only = id.is_empty();
    if !random.one_in(4) {
        query.r#where = Some(where_(random, names_only, 0));
    }
    if !names_only {
        for _ in 0..[0, 0, 1, 1, 2][random.below(5)] {
            let name = *random.pick(&["f", "g", "h", "m.x"]);
            query.order_by.push(order(name, random.one_in(2)));
        }
    }
    if random.one_in(4) {
        query
            .order_by
            .push(order("__name__", !names_only && random.one_in(2)));
    }
    if random.one_in(3) {
        query.start_at = position(random, &query, documents);
    }
    if random.one_in(4) {
        query.end_at = position(random, &query, documents);
    }
    if random.one_in(3) {
        query.limit = Some(i32::try_from(random.below(6)).unwrap());
    }
    if random.one_in(5) {
        query.offset = i32::try_from(random.below(5)).unwrap();
    }
    (parent.to_owned(), query)
}

fn position(random: &mut Random, query: &StructuredQuery, documents: &Documents) -> Option<Cursor> {
    let most = query.order_by.len();
    // Often the values of a document, as clients send them.
    let near = documents.values().nth(random.below(documents.len().max(1)));
    let values = query.order_by[..random.below(most + 1)]
        .iter()
        .map(
            |order| match order.field.as_ref().unwrap().field_path.as_str() {
                "__name__" => name(random),
                field => near
                    .filter(|_| !random.one_in(3))
                    .and_then(|fields| fields.get(field).cloned())
                    .unwrap_or_else(|| any(random)),
            },
        )
        .collect();
    Some(cursor(values, random.one_in(2)))
}

fn name(random: &mut Random) -> Value {
    let mut path = path(random);
    if random.one_in(6) {
        path.push_str("/c/deeper");
    }
    if random.one_in(6) {
        // As recursive deletes bound a collection.
        path = format!(
            "c{}/__id-9223372036854775808__",
            if random.one_in(2) { "" } else { "\u{0}" }
        );
    }
    value(ValueType::ReferenceValue(name_of(&path)))
}

fn where_(random: &mut Random, names_only: bool, depth: usize) -> Filter {
    if depth < 2 && random.one_in(2) {
        let inner = (0..1 + random.below(3))
            .map(|_| where_(random, names_only, depth + 1))
            .collect();
        return if random.one_in(3) {
            or(inner)
        } else {
            and(inner)
        };
    }
    if names_only || random.one_in(8) {
        let op = *random.pick(&[
            Op::Equal,
            Op::LessThan,
            Op::LessThanOrEqual,
            Op::GreaterThan,
            Op::GreaterThanOrEqual,
            Op::NotEqual,
            Op::In,
            Op::NotIn,
        ]);
        let operand = if matches!(op, Op::In | Op::NotIn) {
            array((0..1 + random.below(3)).map(|_| name(random)).collect())
        } else {
            name(random)
        };
        return filter("__name__", op, operand);
    }
    let field = *random.pick(&["f", "f", "g", "h", "m.x", "m"]);
    let operand = |random: &mut Random| loop {
        // Filters take values of 1,500 bytes at most.
        let value = if field == "f" && !random.one_in(4) {
            int(i64::try_from(random.below(3)).unwrap())
        } else {
            any(random)
        };
        if !matches!(&value.value_type, Some(ValueType::StringValue(s)) if s.len() >= 1_500)
            && size(&value) < 1_400
        {
            return value;
        }
    };
    match random.below(14) {
        0..=3 => filter(field, Op::Equal, operand(random)),
        4 => filter(field, Op::LessThan, operand(random)),
        5 => filter(field, Op::LessThanOrEqual, operand(random)),
        6 => filter(field, Op::GreaterThan, operand(random)),
        7 => filter(field, Op::GreaterThanOrEqual, operand(random)),
        8 => filter(field, Op::NotEqual, operand(random)),
        9 => {
            let values = (0..1 + random.below(4)).map(|_| operand(random)).collect();
            filter(field, Op::In, array(values))
        }
        10 => {
            let values = (0..1 + random.below(3)).map(|_| operand(random)).collect();
            filter(field, Op::NotIn, array(values))
        }
        11 => {
            let operand = operand(random);
            filter("t", Op::ArrayContains, operand)
        }
        12 => {
            let values = (0..1 + random.below(3)).map(|_| operand(random)).collect();
            filter("t", Op::ArrayContainsAny, array(values))
        }
        _ => unary(
            field,
            *random.pick(&[
                Unary::IsNan,
                Unary::IsNull,
                Unary::IsNotNan,
                Unary::IsNotNull,
            ]),
        ),
    }
}

fn size(value: &Value) -> usize {
    use prost::Message;
    value.encoded_len()
}
