//! What is refused, and in which words; and odd requests that are not.

use crate::stage::{Stage, of};
use crate::values::*;
use tonic::Code;
use whimbrel_firestore::v1::structured_query::{CollectionSelector, FindNearest, Projection};
use whimbrel_firestore::v1::{Cursor, StructuredQuery, Value};

fn nearest(query_vector: Value, limit: i32) -> FindNearest {
    FindNearest {
        vector_field: Some(field("v")),
        query_vector: Some(query_vector),
        distance_measure: 1,
        limit: Some(limit),
        ..FindNearest::default()
    }
}

fn secret() -> Value {
    let secret = "users/secret".to_owned();
    value(whimbrel_firestore::v1::value::ValueType::ReferenceValue(
        secret,
    ))
}

fn refused() -> Vec<(StructuredQuery, &'static str)> {
    let with = |filter| wanting(from("c"), filter);
    let by = |orders: &[(&str, bool)]| StructuredQuery {
        order_by: orders
            .iter()
            .map(|(name, down)| order(name, *down))
            .collect(),
        ..from("c")
    };
    let near = |find| StructuredQuery {
        find_nearest: Some(find),
        ..from("c")
    };
    let many = |n: i64| array((0..n).map(int).collect());
    vec![
        (
            StructuredQuery {
                from: vec![CollectionSelector::default(); 2],
                ..StructuredQuery::default()
            },
            "StructuredQuery.from cannot have more than one collection selector.",
        ),
        (
            from("a/b"),
            "Collection id \"a/b\" is invalid because it contains \"/\".",
        ),
        (
            from("__x__"),
            "Collection id \"__x__\" is invalid because it is reserved.",
        ),
        (
            with(filter("", Op::Equal, int(1))),
            "Invalid empty property path string.",
        ),
        (
            with(filter("__x__", Op::Equal, int(1))),
            "Invalid reserved name in field path __x__",
        ),
        (
            with(filter("a", Op::Unspecified, int(1))),
            "Unknown FieldFilter operator.",
        ),
        (
            with(unary("a", Unary::Unspecified)),
            "Unknown UnaryFilter operator.",
        ),
        (
            with(filter("a", Op::Equal, Value::default())),
            "Cannot convert firestore.v1.Value with type unset.",
        ),
        (
            with(filter("a", Op::In, int(1))),
            "'IN' requires an ArrayValue.",
        ),
        (
            with(filter("a", Op::In, array(vec![]))),
            "'IN' requires an non-empty ArrayValue.",
        ),
        (
            with(filter("a", Op::In, many(31))),
            "'IN' supports up to 30 comparison values.",
        ),
        (
            with(filter("a", Op::NotIn, many(11))),
            "'NOT_IN' supports up to 10 comparison values.",
        ),
        (
            with(and(vec![
                filter("a", Op::NotEqual, int(1)),
                unary("b", Unary::IsNotNull),
            ])),
            "Only a single 'NOT_EQUAL', 'NOT_IN', 'IS_NOT_NAN', or 'IS_NOT_NULL' filter allowed per query.",
        ),
        (
            with(and(vec![
                filter("a", Op::NotIn, many(2)),
                filter("b", Op::In, many(2)),
            ])),
            "'NOT_IN' cannot be used in the same query with 'IN', 'ARRAY_CONTAINS_ANY' or 'OR'.",
        ),
        (
            with(and(vec![
                filter("a", Op::ArrayContains, int(1)),
                filter("b", Op::ArrayContains, int(1)),
            ])),
            "A maximum of 1 'ARRAY_CONTAINS' filter is allowed per disjunction.",
        ),
        (
            with(or(vec![
                filter("a", Op::In, many(20)),
                filter("b", Op::In, many(11)),
            ])),
            "Too many disjunctions after normalization. Result had 31 disjunctions which is more than the maximum of 30",
        ),
        (
            with(and(vec![
                filter("a", Op::In, many(30)),
                filter("b", Op::In, many(30)),
            ])),
            "Too many disjunctions after normalization. Result had 900 disjunctions which is more than the maximum of 30",
        ),
        (
            // 2 to the power of 40: nobody waits for that to be written out.
            with(and((0..40)
                .map(|i| {
                    let name = format!("f{i}");
                    or(vec![
                        filter(&name, Op::Equal, int(1)),
                        filter(&name, Op::Equal, int(2)),
                    ])
                })
                .collect())),
            "Too many disjunctions after normalization. Result had 1099511627776 disjunctions which is more than the \
             maximum of 30",
        ),
        (
            with(or((0..200_000)
                .map(|i| filter("a", Op::Equal, int(i)))
                .collect())),
            "The query may not have more than 100 filters + sort orders + ancestor total. Currently there are 200000 \
             filters, 1 sort orders, and no ancestor filter.",
        ),
        (
            with(filter("__name__", Op::Equal, text("c/a"))),
            "__key__ filter value must be a Key",
        ),
        (
            with(filter("__name__", Op::Equal, secret())),
            "A value in the query is a reference that is not the name of a document.",
        ),
        (
            with(filter("a", Op::In, array(vec![int(1), secret()]))),
            "A value in the query is a reference that is not the name of a document.",
        ),
        (
            StructuredQuery {
                start_at: Some(Cursor {
                    values: vec![secret()],
                    before: true,
                }),
                ..by(&[("a", false)])
            },
            "A value in the query is a reference that is not the name of a document.",
        ),
        (
            with(unary("__name__", Unary::IsNull)),
            "__key__ filter value must be a Key",
        ),
        (
            with(filter("__name__", Op::ArrayContains, reference("c/a"))),
            "the name __key__ is reserved",
        ),
        (
            with(filter("a", Op::Equal, text("x".repeat(1_500)))),
            "value for a is too large to be used in a query",
        ),
        (
            with(and(vec![
                filter("__name__", Op::Equal, reference("c/a")),
                filter("a", Op::GreaterThan, int(1)),
            ])),
            "Equality on key is not allowed if there are other inequality fields and key does not appear in inequalities.",
        ),
        (
            by(&[("a", false), ("a", true)]),
            "order by clause cannot contain duplicate fields a",
        ),
        (
            by(&[("__name__", false), ("a", false)]),
            "order by clause cannot contain more fields after the key",
        ),
        (
            wanting(
                by(&[("__name__", false)]),
                filter("a", Op::GreaterThan, int(1)),
            ),
            "order by clause cannot contain more fields after the key",
        ),
        (
            StructuredQuery {
                offset: -1,
                ..from("c")
            },
            "offset is negative",
        ),
        (
            StructuredQuery {
                limit: Some(-1),
                ..from("c")
            },
            "limit is negative",
        ),
        (
            StructuredQuery {
                start_at: Some(cursor(vec![int(1)], true)),
                ..from("c")
            },
            "Cursor has too many values.",
        ),
        (
            StructuredQuery {
                end_at: Some(cursor(vec![int(1)], true)),
                ..by(&[("__name__", false)])
            },
            "Cursor __key__ value is not a document reference.",
        ),
        (
            StructuredQuery {
                order_by: vec![order("a", false)],
                ..group("")
            },
            "kind is required for all orders except __key__ ascending",
        ),
        (
            wanting(group(""), filter("a", Op::Equal, int(1))),
            "kind is required for filter: a",
        ),
        (
            near(nearest(int(1), 3)),
            "Query Value must be of type vector.",
        ),
        (
            near(nearest(vector(&[]), 3)),
            "Cannot have a zero length vector.",
        ),
        (
            near(nearest(vector(&[1.0; 2_049]), 3)),
            "Vectors must be at most 2048 dimensions.",
        ),
        (
            near(nearest(vector(&[1.0]), 1_001)),
            "FindNearest.limit must be a positive integer of no more than 1000",
        ),
        (
            near(FindNearest {
                distance_measure: 0,
                ..nearest(vector(&[1.0]), 1)
            }),
            "Unknown Distance Measure.",
        ),
        (
            StructuredQuery {
                limit: Some(1),
                ..near(nearest(vector(&[1.0]), 1))
            },
            "A query limit cannot be used with FindNearest",
        ),
        (
            near(FindNearest {
                distance_result_field: "__d__".into(),
                ..nearest(vector(&[1.0]), 1)
            }),
            "The distanceResultField.property.name \"__d__\" is reserved.",
        ),
    ]
}

#[tokio::test]
async fn wrong_queries_are_refused_in_firestores_words() {
    let stage = Stage::new().await;
    stage.put("c/a", &[("a", int(1))]).await;
    for (query, message) in refused() {
        let status = stage.responses("", &query, None).await.unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::InvalidArgument, message)
        );
    }
    assert!(
        stage.gateway.backend.indexes().await.unwrap().is_empty(),
        "nothing was made"
    );
}

#[tokio::test]
async fn names_of_other_databases_are_refused() {
    let stage = Stage::new().await;
    let other = Value {
        value_type: Some(whimbrel_firestore::v1::value::ValueType::ReferenceValue(
            "projects/p/databases/other/documents/c/a".into(),
        )),
    };
    let query = wanting(from("c"), filter("__name__", Op::Equal, other));
    let status = stage.responses("", &query, None).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn projections_show_what_they_name() {
    let stage = Stage::new().await;
    let fields = [
        ("a", int(1)),
        ("m", map(vec![("x", int(2)), ("y", int(3))])),
    ];
    stage.put("c/1", &fields).await;
    let select = |paths: &[&str]| StructuredQuery {
        select: Some(Projection {
            fields: paths.iter().map(|path| field(path)).collect(),
        }),
        ..from("c")
    };
    for (paths, shown) in [
        (vec![], of(&fields)),
        (vec!["__name__"], of(&[])),
        (vec!["a"], of(&fields[..1])),
        (vec!["m.x", "none"], of(&[("m", map(vec![("x", int(2))]))])),
    ] {
        let documents = stage.documents("", &select(&paths), None).await.unwrap();
        assert_eq!(documents.len(), 1);
        assert_eq!(documents[0].fields, shown, "{paths:?}");
        assert!(documents[0].update_time.is_some() && documents[0].create_time.is_some());
    }
}

#[tokio::test]
async fn the_stream_says_what_was_skipped_and_that_it_is_done() {
    use whimbrel_firestore::v1::run_query_response::ContinuationSelector;
    let stage = Stage::new().await;
    for i in 0..5 {
        stage.put(&format!("c/{i}"), &[]).await;
    }
    for (offset, found) in [(0, 5), (3, 2), (5, 0), (9, 0)] {
        let query = StructuredQuery {
            offset,
            ..from("c")
        };
        let responses = stage.responses("", &query, None).await.unwrap();
        assert_eq!(
            responses.iter().filter(|r| r.document.is_some()).count(),
            found
        );
        assert_eq!(
            responses.iter().map(|r| r.skipped_results).sum::<i32>(),
            offset.min(5)
        );
        assert!(responses.iter().all(|r| r.read_time.is_some()));
        let (last, others) = responses.split_last().unwrap();
        assert_eq!(
            last.continuation_selector,
            Some(ContinuationSelector::Done(true))
        );
        assert!(others.iter().all(|r| r.continuation_selector.is_none()));
    }
}

#[tokio::test]
async fn the_nearest_vectors_are_found() {
    let stage = Stage::new().await;
    for (path, fields) in [
        ("c/same", vec![("v", vector(&[1.0, 0.0])), ("n", int(1))]),
        ("c/near", vec![("v", vector(&[2.0, 0.0])), ("n", int(1))]),
        ("c/far", vec![("v", vector(&[-3.0, 4.0])), ("n", int(2))]),
        ("c/zero", vec![("v", vector(&[0.0, 0.0])), ("n", int(1))]),
        ("c/other", vec![("v", vector(&[1.0])), ("n", int(1))]),
        (
            "c/array",
            vec![("v", array(vec![double(1.0), double(0.0)])), ("n", int(1))],
        ),
        ("c/none", vec![("n", int(1))]),
    ] {
        stage.put(path, &fields).await;
    }
    let ask = |measure: i32, limit: i32, threshold: Option<f64>| StructuredQuery {
        find_nearest: Some(FindNearest {
            distance_measure: measure,
            distance_threshold: threshold,
            distance_result_field: "far".into(),
            ..nearest(vector(&[1.0, 0.0]), limit)
        }),
        ..from("c")
    };
    for (query, wanted) in [
        (
            ask(1, 10, None),
            vec![
                ("same", 0.0),
                ("near", 1.0),
                ("zero", 1.0),
                ("far", 32.0f64.sqrt()),
            ],
        ),
        (ask(1, 2, None), vec![("same", 0.0), ("near", 1.0)]),
        (ask(1, 10, Some(0.5)), vec![("same", 0.0)]),
        (ask(3, 2, None), vec![("near", 2.0), ("same", 1.0)]),
        (ask(3, 10, Some(1.0)), vec![("near", 2.0), ("same", 1.0)]),
        (
            ask(2, 3, None),
            vec![("near", 0.0), ("same", 0.0), ("far", 1.6)],
        ),
    ] {
        let found = stage.documents("", &query, None).await.unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|d| (d.name.rsplit('/').next().unwrap(), d.fields["far"].clone()))
            .collect();
        let wanted: Vec<_> = wanted
            .into_iter()
            .map(|(id, far)| (id, double(far)))
            .collect();
        assert_eq!(found, wanted);
    }
    let filtered = wanting(ask(1, 10, None), filter("n", Op::Equal, int(2)));
    assert_eq!(stage.paths("", &filtered).await, ["c/far"]);
}
