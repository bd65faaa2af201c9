//! PartitionQuery.

use crate::stage::{Stage, of};
use crate::values::*;
use tonic::Code;
use whimbrel_firestore::v1::partition_query_request::QueryType;
use whimbrel_firestore::v1::{
    Cursor, PartitionQueryRequest, PartitionQueryResponse, StructuredQuery,
};
use whimbrel_gateway::query;

fn by_name(id: &str) -> StructuredQuery {
    StructuredQuery {
        order_by: vec![order("__name__", false)],
        ..group(id)
    }
}

fn request(
    query: StructuredQuery,
    partitions: i64,
    page_size: i32,
    token: &str,
) -> PartitionQueryRequest {
    PartitionQueryRequest {
        parent: ROOT.to_owned(),
        query_type: Some(QueryType::StructuredQuery(query)),
        partition_count: partitions,
        page_size,
        page_token: token.to_owned(),
        ..PartitionQueryRequest::default()
    }
}

async fn ask(stage: &Stage, request: PartitionQueryRequest) -> PartitionQueryResponse {
    query::partition(&stage.gateway, request).await.unwrap()
}

async fn stage(documents: usize) -> Stage {
    let stage = Stage::new().await;
    let all: Vec<_> = (0..documents)
        .map(|i| {
            let parent = ["", "a-/1/", "a/1/", "a/__id9__/", "a/__id10__/"][i % 5];
            (format!("{parent}g/d{i:04}"), Some(of(&[("n", int(1))])))
        })
        .collect();
    for chunk in all.chunks(500) {
        stage.write(chunk).await;
    }
    stage
}

#[tokio::test]
async fn the_parts_together_are_the_whole_in_order() {
    for (documents, wanted, points) in [
        (0, 3, 0),
        (127, 3, 0),
        (383, 2, 1),
        (383, 9, 1),
        (1_300, 4, 4),
        (1_300, 100, 9),
    ] {
        let stage = stage(documents).await;
        let partitions = ask(&stage, request(by_name("g"), wanted, 0, ""))
            .await
            .partitions;
        assert_eq!(
            partitions.len(),
            points,
            "{documents} documents, {wanted} wanted"
        );
        let mut bounds: Vec<Option<Cursor>> = vec![None];
        bounds.extend(partitions.into_iter().map(Some));
        bounds.push(None);
        let mut all = Vec::new();
        for pair in bounds.windows(2) {
            let part = StructuredQuery {
                start_at: pair[0].clone(),
                end_at: pair[1].clone(),
                ..by_name("g")
            };
            let paths = stage.paths("", &part).await;
            assert!(
                documents < 256 || paths.len() >= 100,
                "{} in a part",
                paths.len()
            );
            all.extend(paths);
        }
        assert_eq!(all, stage.paths("", &by_name("g")).await);
        assert_eq!(all.len(), documents);
    }
}

#[tokio::test]
async fn pages_hold_all_points() {
    let stage = stage(1_300).await;
    let whole = ask(&stage, request(by_name("g"), 8, 0, "")).await;
    assert_eq!(
        (whole.partitions.len(), whole.next_page_token.as_str()),
        (8, "")
    );
    let (mut paged, mut token) = (Vec::new(), String::new());
    loop {
        let page = ask(&stage, request(by_name("g"), 8, 3, &token)).await;
        assert!(page.partitions.len() <= 3);
        paged.extend(page.partitions);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, whole.partitions);
}

#[tokio::test]
async fn only_whole_groups_are_partitioned() {
    let stage = Stage::new().await;
    let limited = StructuredQuery {
        limit: Some(3),
        ..by_name("g")
    };
    let filtered = wanting(by_name("g"), filter("n", Op::Equal, int(1)));
    let ordered = StructuredQuery {
        order_by: vec![order("n", false)],
        ..group("g")
    };
    let mut below = request(by_name("g"), 3, 0, "");
    below.parent = format!("{ROOT}/a/1");
    for request in [
        request(from("g"), 3, 0, ""),
        request(limited, 3, 0, ""),
        request(filtered, 3, 0, ""),
        request(ordered, 3, 0, ""),
        request(by_name("g"), 0, 0, ""),
        request(by_name("g"), -1, 0, ""),
        request(by_name("g"), 3, -1, ""),
        request(by_name("g"), 3, 0, "nonsense"),
        below,
    ] {
        let status = query::partition(&stage.gateway, request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
}
