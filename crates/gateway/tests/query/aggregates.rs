//! Counts, sums and averages.

use crate::backend::Counting;
use crate::model::{self, Documents};
use crate::random::{Random, documents, query};
use crate::stage::{Stage, memory, name_of};
use crate::values::*;
use futures::TryStreamExt;
use tonic::{Code, Status};
use whimbrel_firestore::Fields;
use whimbrel_firestore::v1::run_aggregation_query_request::QueryType;
use whimbrel_firestore::v1::structured_aggregation_query::aggregation::{
    Avg, Count, Operator, Sum,
};
use whimbrel_firestore::v1::structured_aggregation_query::{
    Aggregation, QueryType as AggregationQueryType,
};
use whimbrel_firestore::v1::structured_query::FindNearest;
use whimbrel_firestore::v1::{
    RunAggregationQueryRequest, StructuredAggregationQuery, StructuredQuery,
};
use whimbrel_gateway::query;

pub fn count(alias: &str, up_to: Option<i64>) -> Aggregation {
    Aggregation {
        alias: alias.to_owned(),
        operator: Some(Operator::Count(Count { up_to })),
    }
}

fn sum(path: &str) -> Aggregation {
    Aggregation {
        alias: String::new(),
        operator: Some(Operator::Sum(Sum {
            field: Some(field(path)),
        })),
    }
}

fn average(path: &str) -> Aggregation {
    Aggregation {
        alias: String::new(),
        operator: Some(Operator::Avg(Avg {
            field: Some(field(path)),
        })),
    }
}

pub async fn aggregate(
    stage: &Stage,
    parent: &str,
    query: &StructuredQuery,
    aggregations: Vec<Aggregation>,
) -> Result<Fields, Status> {
    let request = RunAggregationQueryRequest {
        parent: name_of(parent),
        query_type: Some(QueryType::StructuredAggregationQuery(
            StructuredAggregationQuery {
                aggregations,
                query_type: Some(AggregationQueryType::StructuredQuery(query.clone())),
            },
        )),
        ..RunAggregationQueryRequest::default()
    };
    let responses: Vec<_> = query::run_aggregation(&stage.gateway, request)
        .await?
        .try_collect()
        .await?;
    assert_eq!(responses.len(), 1);
    assert!(responses[0].read_time.is_some());
    Ok(responses[0].result.clone().unwrap().aggregate_fields)
}

#[tokio::test]
async fn counts_are_the_models() {
    for seed in 0..20 {
        let mut random = Random::new(2_000 + seed);
        let stage = Stage::new().await;
        let there: Documents = documents(&mut random, 60);
        let all: Vec<_> = there
            .iter()
            .map(|(path, fields)| (path.clone(), Some(fields.clone())))
            .collect();
        stage.write(&all).await;
        for round in 0..80 {
            let (parent, asked) = query(&mut random, &there);
            let up_to = random.one_in(3).then_some(2);
            match aggregate(&stage, &parent, &asked, vec![count("n", up_to)]).await {
                Ok(got) => {
                    let wanted = model::run(&there, &parent, &asked).len();
                    let wanted = i64::try_from(wanted)
                        .unwrap()
                        .min(up_to.unwrap_or(i64::MAX));
                    assert_eq!(
                        got["n"],
                        int(wanted),
                        "seed {seed}, round {round}: {asked:#?}"
                    );
                }
                Err(status) => assert_eq!(status.code(), Code::InvalidArgument, "{status}"),
            }
        }
    }
}

#[tokio::test]
async fn sums_and_averages_are_of_numbers() {
    let stage = Stage::new().await;
    stage.put("c/1", &[("a", int(1)), ("b", int(10))]).await;
    stage.put("c/2", &[("a", int(2)), ("b", double(0.5))]).await;
    stage.put("c/3", &[("a", text("3")), ("b", int(4))]).await;
    stage.put("c/4", &[("a", int(4))]).await;
    stage.put("c/5", &[("a", null())]).await;
    let c = from("c");
    let of = async |query: &StructuredQuery, list: Vec<Aggregation>| {
        let fields = aggregate(&stage, "", query, list).await.unwrap();
        fields
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect::<Vec<_>>()
    };
    let named = |name: &str, value| (name.to_owned(), value);
    assert_eq!(
        of(&c, vec![sum("a"), average("a"), count("", None)]).await,
        [
            named("field_1", int(7)),
            named("field_2", double(7.0 / 3.0)),
            named("field_3", int(5))
        ]
    );
    // Documents without all of the fields do not take part, in the count neither.
    assert_eq!(
        of(&c, vec![sum("a"), sum("b"), count("all", None)]).await,
        [
            named("field_1", int(3)),
            named("field_2", double(14.5)),
            named("all", int(3))
        ]
    );
    assert_eq!(
        of(&from("none"), vec![sum("a"), average("a"), count("", None)]).await,
        [
            named("field_1", int(0)),
            named("field_2", null()),
            named("field_3", int(0))
        ]
    );
    // Offset and limit are taken in the order of the fields.
    let cut = StructuredQuery {
        limit: Some(1),
        offset: 2,
        ..c.clone()
    };
    assert_eq!(
        of(&cut, vec![sum("a"), count("", None)]).await,
        [named("field_1", int(2)), named("field_2", int(1))]
    );
}

#[tokio::test]
async fn sums_that_no_integer_holds_are_doubles() {
    let stage = Stage::new().await;
    for (path, value) in [
        ("c/1", int(i64::MAX)),
        ("c/2", int(i64::MAX)),
        ("d/1", double(f64::NAN)),
        ("d/2", int(1)),
    ] {
        stage.put(path, &[("a", value)]).await;
    }
    stage.put("e/1", &[("a", double(f64::INFINITY))]).await;
    stage.put("f/1", &[("a", int(i64::MAX))]).await;
    stage.put("f/2", &[("a", int(i64::MIN))]).await;
    for (id, wanted, mean) in [
        ("c", double(2.0f64.powi(64)), double(2.0f64.powi(63))),
        ("e", double(f64::INFINITY), double(f64::INFINITY)),
        ("f", int(-1), double(-0.5)),
    ] {
        let got = aggregate(&stage, "", &from(id), vec![sum("a"), average("a")])
            .await
            .unwrap();
        assert_eq!(got["field_1"], wanted, "{id}");
        assert_eq!(got["field_2"], mean, "{id}");
    }
    let got = aggregate(&stage, "", &from("d"), vec![sum("a"), average("a")])
        .await
        .unwrap();
    for name in ["field_1", "field_2"] {
        assert!(format!("{:?}", got[name]).contains("NaN"), "{got:?}");
    }
}

#[tokio::test]
async fn counting_reads_no_documents() {
    let (backend, counts) = Counting::over(memory().await);
    let stage = Stage::over(backend).await;
    let documents: Vec<_> = (0..400)
        .map(|i| {
            (
                format!("c/{i}"),
                Some(crate::stage::of(&[("n", int(i % 4)), ("m", int(i))])),
            )
        })
        .collect();
    stage.write(&documents).await;
    let c = from("c");
    let in_two = wanting(c.clone(), filter("n", Op::In, array(vec![int(1), int(2)])));
    let range = wanting(
        c.clone(),
        and(vec![
            filter("n", Op::Equal, int(1)),
            filter("m", Op::GreaterThan, int(200)),
        ]),
    );
    let limited = StructuredQuery {
        limit: Some(30),
        offset: 390,
        ..c.clone()
    };
    for (query, wanted) in [
        (c, 400),
        (in_two, 200),
        (range, 50),
        (limited, 10),
        (group("c"), 400),
    ] {
        aggregate(&stage, "", &query, vec![count("n", None)])
            .await
            .unwrap();
        counts.take();
        let got = aggregate(&stage, "", &query, vec![count("n", None)])
            .await
            .unwrap();
        assert_eq!(got["n"], int(wanted));
        let (lines, documents) = counts.take();
        assert!(
            lines <= 2 && documents == 0,
            "{lines} lines, {documents} documents for {wanted}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_aggregated_is_refused() {
    let stage = Stage::new().await;
    let selecting = StructuredQuery {
        select: Some(whimbrel_firestore::v1::structured_query::Projection {
            fields: vec![field("a")],
        }),
        ..from("c")
    };
    for (query, list, message) in [
        (from("c"), vec![], "Aggregations can not be empty."),
        (
            from("c"),
            vec![count("", None); 6],
            "The maximum number of aggregations allowed in an aggregation query is 5. Received: 6",
        ),
        (
            from("c"),
            vec![count("x", None), count("x", None)],
            "Aggregation aliases contain duplicate alias: x.",
        ),
        (
            from("c"),
            vec![count("__x__", None)],
            "The property.name \"__x__\" is reserved.",
        ),
        (
            from("c"),
            vec![Aggregation {
                alias: String::new(),
                operator: None,
            }],
            "Operator field in Aggregation is not set.",
        ),
        (
            from("c"),
            vec![count("", Some(0))],
            "The `up_to` value in a COUNT aggregation must be greater than zero.",
        ),
        (
            from("c"),
            vec![sum("__name__")],
            "Aggregations are not supported for the property: __key__",
        ),
        (
            selecting,
            vec![sum("a")],
            "Cannot apply property masks when aggregation fields are present.",
        ),
        (
            StructuredQuery {
                find_nearest: Some(FindNearest {
                    vector_field: Some(field("v")),
                    query_vector: Some(vector(&[1.0])),
                    distance_measure: 1,
                    limit: Some(1),
                    ..FindNearest::default()
                }),
                ..from("c")
            },
            vec![count("n", None)],
            "FindNearest is not supported in aggregation queries.",
        ),
    ] {
        let status = aggregate(&stage, "", &query, list).await.unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::InvalidArgument, message)
        );
    }
}
