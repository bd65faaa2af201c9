//! What a query would use, and what it cost.

use crate::aggregates::count;
use crate::stage::{Stage, name_of};
use crate::values::*;
use futures::TryStreamExt;
use prost_types::value::Kind;
use whimbrel_firestore::v1::run_aggregation_query_request::QueryType as AggregationRequest;
use whimbrel_firestore::v1::run_query_request::QueryType;
use whimbrel_firestore::v1::structured_query::FindNearest;
use whimbrel_firestore::v1::{
    ExplainMetrics, ExplainOptions, RunAggregationQueryRequest, RunQueryRequest, RunQueryResponse,
    StructuredAggregationQuery, StructuredQuery, structured_aggregation_query,
};
use whimbrel_gateway::query;

async fn explain(stage: &Stage, query: StructuredQuery, analyze: bool) -> Vec<RunQueryResponse> {
    let request = RunQueryRequest {
        parent: name_of(""),
        query_type: Some(QueryType::StructuredQuery(query)),
        explain_options: Some(ExplainOptions { analyze }),
        ..RunQueryRequest::default()
    };
    let responses = query::run_query(&stage.gateway, request).await.unwrap();
    responses.try_collect().await.unwrap()
}

/// Scope and properties of the indexes used.
fn used(metrics: &ExplainMetrics) -> Vec<(String, String)> {
    let text = |value: &prost_types::Value| match &value.kind {
        Some(Kind::StringValue(text)) => text.clone(),
        other => panic!("{other:?}"),
    };
    let plan = metrics.plan_summary.as_ref().unwrap();
    plan.indexes_used
        .iter()
        .map(|index| {
            (
                text(&index.fields["query_scope"]),
                text(&index.fields["properties"]),
            )
        })
        .collect()
}

#[tokio::test]
async fn plans_name_their_indexes() {
    let stage = Stage::new().await;
    let nearest = StructuredQuery {
        find_nearest: Some(FindNearest {
            vector_field: Some(field("embedding")),
            query_vector: Some(vector(&[1.0, 2.0, 3.0])),
            distance_measure: 1,
            limit: Some(1),
            ..FindNearest::default()
        }),
        ..wanting(group("v"), filter("color", Op::Equal, text("red")))
    };
    let descending = StructuredQuery {
        order_by: vec![order("b", true), order("a", false)],
        ..wanting(from("c"), filter("x", Op::Equal, int(1)))
    };
    for (query, scope, indexes) in [
        (from("c"), "Collection", vec!["(__name__ ASC)"]),
        (
            wanting(from("c"), filter("foo", Op::Equal, int(1))),
            "Collection",
            vec!["(foo ASC, __name__ ASC)"],
        ),
        (
            wanting(from("c"), filter("t", Op::ArrayContains, int(1))),
            "Collection",
            vec!["(t CONTAINS, __name__ ASC)"],
        ),
        (
            descending,
            "Collection",
            vec!["(x ASC, b DESC, a ASC, __name__ ASC)"],
        ),
        (
            wanting(
                from("c"),
                or(vec![
                    filter("a", Op::Equal, int(1)),
                    filter("b", Op::Equal, int(1)),
                ]),
            ),
            "Collection",
            vec!["(a ASC, __name__ ASC)", "(b ASC, __name__ ASC)"],
        ),
        (
            nearest,
            "Collection group",
            vec!["(color ASC, __name__ ASC, embedding VECTOR<3>)"],
        ),
    ] {
        let responses = explain(&stage, query, false).await;
        let [only] = &responses[..] else {
            panic!("{responses:?}")
        };
        let metrics = only.explain_metrics.as_ref().unwrap();
        let wanted: Vec<_> = indexes
            .iter()
            .map(|index| (scope.to_owned(), (*index).to_owned()))
            .collect();
        assert_eq!(used(metrics), wanted);
        assert!(metrics.execution_stats.is_none() && only.document.is_none());
    }
    assert!(
        stage.gateway.backend.indexes().await.unwrap().is_empty(),
        "nothing was made"
    );
}

#[tokio::test]
async fn an_analysis_says_what_was_read() {
    let stage = Stage::new().await;
    for i in 0..5 {
        stage.put(&format!("c/{i}"), &[("n", int(i))]).await;
    }
    let query = wanting(from("c"), filter("n", Op::LessThan, int(3)));
    let responses = explain(&stage, query.clone(), true).await;
    assert_eq!(responses.iter().filter(|r| r.document.is_some()).count(), 3);
    let (last, others) = responses.split_last().unwrap();
    assert!(others.iter().all(|r| r.explain_metrics.is_none()));
    let metrics = last.explain_metrics.as_ref().unwrap();
    let stats = metrics.execution_stats.as_ref().unwrap();
    assert_eq!((stats.results_returned, stats.read_operations), (3, 3));
    let duration = stats.execution_duration.as_ref().unwrap();
    assert!(duration.seconds > 0 || duration.nanos > 0);
    let debug = &stats.debug_stats.as_ref().unwrap().fields;
    for name in [
        "billing_details",
        "documents_scanned",
        "index_entries_scanned",
    ] {
        assert!(debug.contains_key(name), "{name}");
    }

    // Nothing that was not measured.
    let Some(Kind::StructValue(bill)) = &debug["billing_details"].kind else {
        panic!("{debug:?}")
    };
    assert_eq!(
        bill.fields.keys().collect::<Vec<_>>(),
        ["documents_billable"]
    );

    let request = RunAggregationQueryRequest {
        parent: name_of(""),
        query_type: Some(AggregationRequest::StructuredAggregationQuery(
            StructuredAggregationQuery {
                aggregations: vec![count("n", None)],
                query_type: Some(structured_aggregation_query::QueryType::StructuredQuery(
                    query,
                )),
            },
        )),
        explain_options: Some(ExplainOptions { analyze: true }),
        ..RunAggregationQueryRequest::default()
    };
    let responses: Vec<_> = query::run_aggregation(&stage.gateway, request)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let metrics = responses[0].explain_metrics.as_ref().unwrap();
    assert_eq!(used(metrics)[0].1, "(n ASC, __name__ ASC)");
    let stats = metrics.execution_stats.as_ref().unwrap();
    assert_eq!((stats.results_returned, stats.read_operations), (1, 1));
}
