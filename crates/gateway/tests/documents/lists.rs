//! Lists of documents, of those that are missing, of collections; several documents at once.

use crate::stage::*;
use std::collections::BTreeSet;
use tonic::Code;
use whimbrel_firestore::core::order::compare_segments;
use whimbrel_firestore::v1::list_collection_ids_request::ConsistencySelector as IdsSelector;
use whimbrel_firestore::v1::list_documents_request::ConsistencySelector;
use whimbrel_firestore::v1::{DocumentMask, ListCollectionIdsRequest, ListDocumentsRequest};
use whimbrel_firestore::{Micros, time};
use whimbrel_gateway::documents;

fn list(parent: &str, collection: &str) -> ListDocumentsRequest {
    ListDocumentsRequest {
        parent: if parent.is_empty() {
            ROOT.to_owned()
        } else {
            name(parent)
        },
        collection_id: collection.to_owned(),
        ..ListDocumentsRequest::default()
    }
}

/// All pages, of a size: the ids, with a `?` behind those that are missing.
async fn all(stage: &Stage, request: &ListDocumentsRequest, page_size: i32) -> Vec<String> {
    let mut ids = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListDocumentsRequest {
            page_size,
            page_token,
            ..request.clone()
        };
        let page = documents::list(&stage.gateway, request).await.unwrap();
        assert!(page_size == 0 || page.documents.len() <= page_size as usize);
        ids.extend(page.documents.iter().map(|document| {
            let id = document.name.rsplit('/').next().unwrap();
            let missing = document.create_time.is_none();
            format!("{id}{}", if missing { "?" } else { "" })
        }));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return ids;
        }
    }
}

#[tokio::test]
async fn lists_are_in_order_whatever_the_pages() {
    for stage in stages().await {
        let ids = [
            "b", "__id10__", "a", "__id9__", "a b", "é", "__id-3__", "B", "a/sub/x", "_", "__ie",
        ];
        stage
            .write(ids.iter().map(|id| set(&format!("c/{id}"), n(1))).collect())
            .await;
        stage
            .write(vec![set("cc/1", n(1)), set("d/1/c/x", n(1))])
            .await;
        let expected = [
            "__id-3__", "__id9__", "__id10__", "B", "_", "__ie", "a", "a b", "b", "é",
        ];
        for size in [0, 1, 3, 10, 100] {
            assert_eq!(
                all(&stage, &list("", "c"), size).await,
                expected,
                "pages of {size}"
            );
        }
        let descending = ListDocumentsRequest {
            order_by: "__name__ desc".to_owned(),
            ..list("", "c")
        };
        let mut reversed = expected;
        reversed.reverse();
        assert_eq!(all(&stage, &descending, 4).await, reversed);
        assert_eq!(all(&stage, &list("d/1", "c"), 0).await, ["x"]);
        assert!(all(&stage, &list("d/2", "c"), 0).await.is_empty());
    }
}

#[tokio::test]
async fn lists_can_be_ordered_masked_and_of_the_past() {
    for stage in stages().await {
        let then = stage
            .write(
                (0..7)
                    .map(|i| set(&format!("c/{i}"), fields(&[("n", i % 3), ("m", i)])))
                    .collect(),
            )
            .await;
        stage
            .write(vec![delete("c/0"), set("c/9", n(0)), set("c/1", n(0))])
            .await;
        let ordered = ListDocumentsRequest {
            order_by: "n desc, m".to_owned(),
            consistency_selector: Some(ConsistencySelector::ReadTime(time::to_proto(then))),
            ..list("", "c")
        };
        for size in [0, 1, 2] {
            assert_eq!(
                all(&stage, &ordered, size).await,
                ["2", "5", "1", "4", "0", "3", "6"]
            );
        }
        let masked = ListDocumentsRequest {
            mask: Some(DocumentMask {
                field_paths: vec!["m".to_owned()],
            }),
            ..ordered
        };
        let page = documents::list(&stage.gateway, masked).await.unwrap();
        assert_eq!(page.documents[0].fields, fields(&[("m", 2)]));
        assert_eq!(
            all(&stage, &list("", "c"), 2).await,
            ["1", "2", "3", "4", "5", "6", "9"]
        );
        for wrong in [
            ListDocumentsRequest {
                page_size: -1,
                ..list("", "c")
            },
            ListDocumentsRequest {
                page_token: "?".to_owned(),
                ..list("", "c")
            },
            ListDocumentsRequest {
                page_token: "AAAA".to_owned(),
                ..list("", "c")
            },
            ListDocumentsRequest {
                order_by: "a b c".to_owned(),
                ..list("", "c")
            },
            ListDocumentsRequest {
                show_missing: true,
                order_by: "n".to_owned(),
                ..list("", "c")
            },
            ListDocumentsRequest {
                show_missing: true,
                ..list("", "")
            },
        ] {
            refused(
                documents::list(&stage.gateway, wrong).await,
                Code::InvalidArgument,
            );
        }
    }
}

#[tokio::test]
async fn documents_that_only_have_others_below_them_are_listed_where_wanted() {
    // Ids that keys order otherwise than names: `a!` lies before `a/`.
    let there = ["a", "a!", "m", "__id7__", "z"];
    let below = [
        "a/s/1",
        "a!b/s/1",
        "a!!/t/1/u/1",
        "a-b/s/1",
        "b/s/1",
        "b/t/1",
        "__id10__/s/1",
        "__id9__/s/1/x/2",
        "m/s/1",
        "y.z/s/1",
        "y/s/1",
        "y!/s/1",
    ];
    for stage in stages().await {
        let writes = there.iter().chain(&below);
        let then = stage
            .write(writes.map(|path| set(&format!("c/{path}"), n(1))).collect())
            .await;
        stage
            .write(vec![set("cc/x/s/1", n(1)), set("other/1/c/w/s/1", n(1))])
            .await;
        let ids: BTreeSet<&str> = there
            .iter()
            .chain(&below)
            .map(|path| path.split('/').next().unwrap())
            .collect();
        let mut expected: Vec<&str> = ids.into_iter().collect();
        expected.sort_by(|a, b| compare_segments(a, b));
        let expected: Vec<String> = expected
            .into_iter()
            .map(|id| format!("{id}{}", if there.contains(&id) { "" } else { "?" }))
            .collect();
        let with_missing = ListDocumentsRequest {
            show_missing: true,
            ..list("", "c")
        };
        for size in [0, 1, 2, 5] {
            assert_eq!(
                all(&stage, &with_missing, size).await,
                expected,
                "pages of {size}"
            );
        }
        let nested = ListDocumentsRequest {
            show_missing: true,
            ..list("other/1", "c")
        };
        assert_eq!(all(&stage, &nested, 0).await, ["w?"]);
        // As of a time.
        stage
            .write(vec![
                delete("c/b/s/1"),
                delete("c/b/t/1"),
                delete("c/z"),
                delete("c/__id7__"),
                delete("c/__id9__/s/1/x/2"),
                delete("c/a!!/t/1/u/1"),
                delete("c/y!/s/1"),
                set("c/new/s/1", n(1)),
            ])
            .await;
        let past = ListDocumentsRequest {
            consistency_selector: Some(ConsistencySelector::ReadTime(time::to_proto(then))),
            ..with_missing.clone()
        };
        for size in [0, 1, 2, 4] {
            let then = all(&stage, &past, size).await;
            assert_eq!(then, expected, "pages of {size} of the past");
        }
        let now = all(&stage, &with_missing, 4).await;
        assert!(now.contains(&"new?".to_owned()));
        assert!(!now.iter().any(|id| id == "b?" || id == "z"));
    }
}

async fn ids(stage: &Stage, parent: &str, page_size: i32, at: Option<Micros>) -> Vec<String> {
    let mut ids = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListCollectionIdsRequest {
            parent: if parent.is_empty() {
                ROOT.to_owned()
            } else {
                name(parent)
            },
            page_size,
            page_token,
            consistency_selector: at.map(|at| IdsSelector::ReadTime(time::to_proto(at))),
            ..ListCollectionIdsRequest::default()
        };
        let page = documents::list_collection_ids(&stage.gateway, request)
            .await
            .unwrap();
        ids.extend(page.collection_ids);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return ids;
        }
    }
}

#[tokio::test]
async fn collections_are_those_that_hold_documents_at_any_depth() {
    for stage in stages().await {
        let paths = [
            "a/1",
            "b/1/c/1",
            "@x/1",
            "a/1/d/1",
            "a/1/e/1/f/1",
            "a/2/g/1",
            "ab/1/h/1",
        ];
        let then = stage
            .write(paths.iter().map(|path| set(path, n(1))).collect())
            .await;
        for size in [0, 1, 2] {
            assert_eq!(ids(&stage, "", size, None).await, ["@x", "a", "ab", "b"]);
            assert_eq!(ids(&stage, "a/1", size, None).await, ["d", "e"]);
            assert_eq!(ids(&stage, "a/2", size, None).await, ["g"]);
            assert_eq!(ids(&stage, "b/1", size, None).await, ["c"]);
            assert!(ids(&stage, "a/3", size, None).await.is_empty());
            assert!(ids(&stage, "b/1/c/1", size, None).await.is_empty());
        }
        stage
            .write(vec![
                delete("a/1/d/1"),
                delete("a/2/g/1"),
                set("a/1/z/1", n(1)),
            ])
            .await;
        assert_eq!(ids(&stage, "a/1", 0, None).await, ["e", "z"]);
        assert!(ids(&stage, "a/2", 0, None).await.is_empty());
        assert_eq!(ids(&stage, "a/1", 0, Some(then)).await, ["d", "e"]);
        assert_eq!(ids(&stage, "a/2", 0, Some(then)).await, ["g"]);
        assert!(ids(&stage, "a/1", 0, Some(then - 1)).await.is_empty());
    }
}

#[tokio::test]
async fn many_documents_are_answered_in_the_order_asked_each_once() {
    for stage in stages().await {
        stage
            .write(
                (0..250)
                    .step_by(2)
                    .map(|i| set(&format!("a/{i}"), n(i)))
                    .collect(),
            )
            .await;
        let mut paths: Vec<String> = (0..250).rev().map(|i| format!("a/{i}")).collect();
        paths.push("a/0".to_owned());
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let found = stage.read(&paths, None).await.unwrap();
        let found: Vec<Option<i64>> = found.iter().map(|one| one.as_ref().map(n_of)).collect();
        let expected: Vec<Option<i64>> =
            (0..250).rev().map(|i| (i % 2 == 0).then_some(i)).collect();
        assert_eq!(found, expected);
        let elsewhere = stage.read(&["a"], None).await;
        refused(elsewhere, Code::InvalidArgument);
    }
}
