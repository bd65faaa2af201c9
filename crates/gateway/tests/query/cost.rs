//! What queries cost: lines and documents read are in proportion to the result, never to the collection.

use crate::backend::{Counting, Counts};
use crate::stage::{Stage, memory, of};
use crate::values::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use whimbrel_firestore::v1::StructuredQuery;
use whimbrel_firestore::v1::structured_query::Filter;

const DOCUMENTS: i64 = 3_000;

/// Documents 0..3000 of `c`: `n` counts them, `rare` is true in ten, `kind` has three values, the last half of them
/// `late`.
async fn stage() -> (Stage, Arc<Counts>) {
    let (backend, counts) = Counting::over(memory().await);
    let stage = Stage::over(backend).await;
    for chunk in (0..DOCUMENTS).collect::<Vec<_>>().chunks(500) {
        let documents: Vec<_> = chunk
            .iter()
            .map(|i| {
                let fields = of(&[
                    ("n", int(*i)),
                    ("back", int(-i)),
                    ("rare", boolean(i % 300 == 7)),
                    (
                        "kind",
                        text(["x", "y", "z"][usize::try_from(i % 3).unwrap()]),
                    ),
                    ("late", boolean(*i >= DOCUMENTS / 2)),
                    (
                        "tags",
                        array(vec![text(format!("t{}", i % 200)), text("all")]),
                    ),
                ]);
                (format!("c/{i:05}"), Some(fields))
            })
            .collect();
        stage.write(&documents).await;
    }
    (stage, counts)
}

fn limited(query: StructuredQuery, limit: i32) -> StructuredQuery {
    StructuredQuery {
        limit: Some(limit),
        ..query
    }
}

fn ordered(query: StructuredQuery, orders: &[(&str, bool)]) -> StructuredQuery {
    StructuredQuery {
        order_by: orders
            .iter()
            .map(|(name, down)| order(name, *down))
            .collect(),
        ..query
    }
}

/// What is asked, and how much it finds.
fn queries() -> Vec<(&'static str, StructuredQuery, usize)> {
    let c = || from("c");
    let with = |filter: Filter| wanting(from("c"), filter);
    vec![
        ("by name", limited(c(), 5), 5),
        (
            "by name, backwards",
            limited(ordered(c(), &[("__name__", true)]), 5),
            5,
        ),
        ("one of many", with(filter("n", Op::Equal, int(1234))), 1),
        (
            "an equality",
            with(filter("rare", Op::Equal, boolean(true))),
            10,
        ),
        (
            "a range",
            with(and(vec![
                filter("n", Op::GreaterThanOrEqual, int(100)),
                filter("n", Op::LessThan, int(120)),
            ])),
            20,
        ),
        ("an order", limited(ordered(c(), &[("n", true)]), 10), 10),
        (
            "an order that goes down behind one that goes up",
            limited(ordered(c(), &[("kind", false), ("n", true)]), 10),
            10,
        ),
        (
            "equality and order",
            limited(
                ordered(
                    with(filter("kind", Op::Equal, text("z"))),
                    &[("back", false)],
                ),
                7,
            ),
            7,
        ),
        (
            "two equalities, of which each alone holds for many",
            limited(
                with(and(vec![
                    filter("late", Op::Equal, boolean(false)),
                    filter("rare", Op::Equal, boolean(true)),
                ])),
                10,
            ),
            5,
        ),
        (
            "equality and a range",
            with(and(vec![
                filter("rare", Op::Equal, boolean(true)),
                filter("n", Op::GreaterThan, int(2_000)),
            ])),
            3,
        ),
        (
            "in",
            with(filter(
                "n",
                Op::In,
                array((0..30).map(|i| int(i * 90)).collect()),
            )),
            30,
        ),
        (
            "not equal, where nearly all are equal",
            with(filter("rare", Op::NotEqual, boolean(false))),
            10,
        ),
        (
            "not in",
            with(filter(
                "kind",
                Op::NotIn,
                array(vec![text("x"), text("y"), text("z")]),
            )),
            0,
        ),
        (
            "an array's element",
            with(filter("tags", Op::ArrayContains, text("t5"))),
            15,
        ),
        (
            "any of an array's elements",
            with(filter(
                "tags",
                Op::ArrayContainsAny,
                array(vec![text("t5"), text("t6"), text("none")]),
            )),
            30,
        ),
        (
            "an array's element, ordered",
            limited(
                ordered(
                    with(filter("tags", Op::ArrayContains, text("all"))),
                    &[("n", true)],
                ),
                9,
            ),
            9,
        ),
        (
            "or",
            with(or(vec![
                filter("rare", Op::Equal, boolean(true)),
                filter("n", Op::LessThan, int(3)),
            ])),
            13,
        ),
        (
            "a cursor",
            limited(
                StructuredQuery {
                    start_at: Some(cursor(vec![int(2_000)], true)),
                    ..ordered(c(), &[("n", false)])
                },
                5,
            ),
            5,
        ),
        (
            "two cursors",
            StructuredQuery {
                start_at: Some(cursor(vec![int(2_000)], false)),
                end_at: Some(cursor(vec![int(2_010)], true)),
                ..ordered(c(), &[("n", false)])
            },
            9,
        ),
        (
            "a name",
            with(filter("__name__", Op::Equal, reference("c/00042"))),
            1,
        ),
        (
            "a range of names",
            with(and(vec![
                filter("__name__", Op::GreaterThan, reference("c/00042")),
                filter("__name__", Op::LessThan, reference("c/00052")),
            ])),
            9,
        ),
        (
            "a group",
            limited(ordered(group("c"), &[("n", false)]), 6),
            6,
        ),
        ("a group by name", limited(group("c"), 6), 6),
        ("everything", limited(group(""), 6), 6),
        ("nothing", with(filter("n", Op::Equal, int(-1))), 0),
        (
            "an empty range",
            with(filter("n", Op::GreaterThan, text("a"))),
            0,
        ),
    ]
}

#[tokio::test]
async fn no_query_reads_more_than_its_result_needs() {
    let (stage, counts) = stage().await;
    for (what, query, size) in queries() {
        let first = stage.documents("", &query, None).await.unwrap();
        assert_eq!(first.len(), size, "{what}");
        counts.take();
        counts.made.store(0, Ordering::Relaxed);
        let again = stage.documents("", &query, None).await.unwrap();
        let (lines, documents) = counts.take();
        assert_eq!(first, again, "{what}");
        // A few are read to see that nothing else is there.
        let most = 2 * size as u64 + 40;
        assert!(
            lines <= most && documents <= most,
            "{what}: {lines} lines, {documents} documents for {size}"
        );
        assert_eq!(
            counts.made.load(Ordering::Relaxed),
            0,
            "{what}: the index is there"
        );
    }
}

#[tokio::test]
async fn a_whole_collection_comes_in_pages() {
    let (stage, counts) = stage().await;
    for query in [from("c"), ordered(from("c"), &[("n", true)]), group("c")] {
        counts.at_once.store(0, Ordering::Relaxed);
        let all = stage.documents("", &query, None).await.unwrap();
        assert_eq!(all.len(), usize::try_from(DOCUMENTS).unwrap());
        let at_once = counts.at_once.load(Ordering::Relaxed);
        assert!(at_once <= 256, "{at_once} documents at once");
    }
}

#[tokio::test]
async fn pages_of_large_documents_are_small() {
    let (backend, counts) = Counting::over(memory().await);
    let stage = Stage::over(backend).await;
    for i in 0..120 {
        stage
            .put(
                &format!("c/{i:03}"),
                &[("n", int(i)), ("body", text("x".repeat(500_000)))],
            )
            .await;
    }
    let query = ordered(from("c"), &[("n", false)]);
    stage.documents("", &query, None).await.unwrap();
    counts.at_once.store(0, Ordering::Relaxed);
    counts.take();
    assert_eq!(stage.documents("", &query, None).await.unwrap().len(), 120);
    // The size of the first page is a guess; the others know.
    assert!(counts.at_once.load(Ordering::Relaxed) <= 64);
    assert!(counts.take().0 <= 130);
}

/// Whoever goes through documents by pages, whatever for, holds a few megabytes of them.
#[tokio::test]
async fn old_versions_and_indexes_of_large_documents_come_in_small_pages() {
    let (backend, counts) = Counting::over(memory().await);
    let stage = Stage::over(backend).await;
    let write = async |n: i64| {
        let mut at = 0;
        for i in 0..120 {
            let fields = [("n", int(i + n)), ("body", text("x".repeat(200_000)))];
            at = stage.put(&format!("c/{i:03}"), &fields).await;
        }
        at
    };
    let before = write(0).await;
    let query = ordered(from("c"), &[("n", false)]);
    assert_eq!(stage.documents("", &query, None).await.unwrap().len(), 120);
    assert_eq!(counts.made.load(Ordering::Relaxed), 1);
    let touched = counts.touched.load(Ordering::Relaxed);
    assert!(touched <= 32, "{touched} documents while an index was made");
    write(1_000).await;
    counts.at_once.store(0, Ordering::Relaxed);
    let then = stage.documents("", &query, Some(before)).await.unwrap();
    let numbers: Vec<_> = then.iter().map(|d| d.fields["n"].clone()).collect();
    assert_eq!(numbers, (0..120).map(int).collect::<Vec<_>>());
    let at_once = counts.at_once.load(Ordering::Relaxed);
    assert!(at_once <= 32, "{at_once} documents of the past");
}

#[tokio::test]
async fn those_who_need_the_same_index_share_its_making() {
    let (stage, counts) = stage().await;
    let query = Arc::new(ordered(
        wanting(from("c"), filter("kind", Op::Equal, text("x"))),
        &[("back", true)],
    ));
    let stage = Arc::new(stage);
    let mut asking = Vec::new();
    for _ in 0..16 {
        let (stage, query) = (stage.clone(), query.clone());
        asking.push(tokio::spawn(async move {
            stage.documents("", &query, None).await.unwrap().len()
        }));
    }
    for asked in asking {
        assert_eq!(asked.await.unwrap(), 1_000);
    }
    assert_eq!(counts.made.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_written_while_an_index_is_made_is_in_it() {
    let (stage, _) = stage().await;
    let stage = Arc::new(stage);
    let writer = {
        let stage = stage.clone();
        tokio::spawn(async move {
            for i in 0..400 {
                // New ones before, between and behind; old ones changed and deleted.
                stage
                    .put(
                        &format!("c/{:05}a", i * 7),
                        &[("n", int(10_000 + i)), ("new", boolean(true))],
                    )
                    .await;
                stage
                    .put(&format!("c/{:05}", i * 5), &[("n", int(-i))])
                    .await;
                stage.write(&[(format!("c/{:05}", i * 5 + 1), None)]).await;
            }
        })
    };
    let by_n = ordered(from("c"), &[("n", false)]);
    let by_new = wanting(from("c"), filter("new", Op::Equal, boolean(true)));
    let (a, b) = tokio::join!(
        stage.documents("", &by_n, None),
        stage.documents("", &by_new, None)
    );
    assert!(a.is_ok() && b.is_ok());
    writer.await.unwrap();
    let all = stage.documents("", &from("c"), None).await.unwrap();
    let found = stage.documents("", &by_n, None).await.unwrap();
    assert_eq!(found.len(), all.len());
    assert_eq!(stage.documents("", &by_new, None).await.unwrap().len(), 400);
}
