//! Transactions are as if one had run after the other.

use crate::stage::*;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Status};
use whimbrel_firestore::v1::batch_get_documents_request::ConsistencySelector;
use whimbrel_firestore::v1::structured_query::field_filter::Operator;
use whimbrel_firestore::v1::structured_query::filter::FilterType;
use whimbrel_firestore::v1::structured_query::{
    CollectionSelector, FieldFilter, FieldReference, Filter,
};
use whimbrel_firestore::v1::{
    RunQueryRequest, StructuredQuery, TransactionOptions, run_query_request,
};

/// Tries a transaction as clients do: again, under the same age, where it lost to another one.
async fn run<F, T>(stage: &Arc<Stage>, attempts: usize, work: F) -> Result<(), Status>
where
    F: Fn(Arc<Stage>, Vec<u8>) -> T,
    T: Future<Output = Result<(), Status>>,
{
    let mut earlier = Vec::new();
    let mut last = Status::unknown("never tried");
    for _ in 0..attempts {
        let transaction = stage.begin_again(&earlier).await;
        match work(stage.clone(), transaction.clone()).await {
            Ok(()) => return Ok(()),
            Err(error) if error.code() == Code::Aborted => last = error,
            Err(error) => return Err(error),
        }
        let _ = stage.gateway.rollback(&transaction);
        earlier = transaction;
    }
    Err(last)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_update_is_lost_and_nobody_gives_up() {
    for stage in stages().await {
        let stage = Arc::new(stage);
        stage.write(vec![set("a/counter", n(0))]).await;
        let clients: Vec<_> = (0..50)
            .map(|_| {
                let stage = stage.clone();
                tokio::spawn(async move {
                    for _ in 0..20 {
                        run(&stage, 5, |stage, id| async move {
                            let read = n_of(&stage.get_in(&id, "a/counter").await?.unwrap());
                            tokio::task::yield_now().await;
                            stage
                                .commit_in(&id, vec![set("a/counter", n(read + 1))])
                                .await?;
                            Ok(())
                        })
                        .await
                        .unwrap();
                    }
                })
            })
            .collect();
        // Writes outside of transactions wait their turn among them.
        for _ in 0..20 {
            stage.write(vec![increment("a/counter", 1000)]).await;
        }
        for client in clients {
            client.await.unwrap();
        }
        assert_eq!(n_of(&stage.get("a/counter").await.unwrap()), 21_000);
        assert_eq!(stage.gateway.transactions.load(), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_between_accounts_in_any_order_lose_nothing() {
    let stage = Arc::new(Stage::new().await);
    let account = |i: usize| format!("accounts/{i}");
    let opening = (0..4).map(|i| set(&account(i), n(100))).collect();
    stage.write(opening).await;
    let clients: Vec<_> = (0..16_usize)
        .map(|client| {
            let stage = stage.clone();
            tokio::spawn(async move {
                for i in 0..40_usize {
                    // Locked in an order that makes circles.
                    let from = account((client + i) % 4);
                    let to = account((client * 7 + i * 3 + 1) % 4);
                    if from == to {
                        continue;
                    }
                    let (from, to) = (&from, &to);
                    run(&stage, 100, |stage, id| async move {
                        let left = n_of(&stage.get_in(&id, from).await?.unwrap());
                        tokio::task::yield_now().await;
                        let right = n_of(&stage.get_in(&id, to).await?.unwrap());
                        let writes = vec![set(from, n(left - 1)), set(to, n(right + 1))];
                        stage.commit_in(&id, writes).await?;
                        Ok(())
                    })
                    .await
                    .unwrap();
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let mut sum = 0;
    for i in 0..4 {
        sum += n_of(&stage.get(&account(i)).await.unwrap());
    }
    assert_eq!(sum, 400);
    assert_eq!(stage.gateway.transactions.load(), (0, 0));
}

#[tokio::test]
async fn of_two_that_rest_on_each_others_documents_one_is_given_up() {
    let stage = Stage::new().await;
    stage
        .write(vec![set("on/a", n(1)), set("on/b", n(1))])
        .await;
    let (first, second) = (stage.begin().await, stage.begin().await);
    stage.get_in(&first, "on/a").await.unwrap();
    stage.get_in(&second, "on/b").await.unwrap();
    // Each wants to read what the other has read: the younger one is given up.
    let (one, other) = tokio::join!(stage.get_in(&first, "on/b"), stage.get_in(&second, "on/a"));
    assert!(one.is_ok());
    refused(other, Code::Aborted);
    stage
        .commit_in(&first, vec![set("on/a", n(0))])
        .await
        .unwrap();
    let over = stage.commit_in(&second, vec![set("on/b", n(0))]).await;
    let words = refused(over, Code::InvalidArgument);
    assert!(words.contains("transaction has expired"), "{words}");
    assert_eq!(n_of(&stage.get("on/b").await.unwrap()), 1);
}

/// Those on duty: `n` is 1.
pub async fn on_duty(stage: &Stage, id: &[u8]) -> Result<usize, Status> {
    let in_it = run_query_request::ConsistencySelector::Transaction(id.to_vec());
    find_on_duty(stage, in_it).await
}

async fn find_on_duty(
    stage: &Stage,
    selector: run_query_request::ConsistencySelector,
) -> Result<usize, Status> {
    use futures::TryStreamExt;
    let query = StructuredQuery {
        from: vec![CollectionSelector {
            collection_id: "duty".to_owned(),
            all_descendants: false,
        }],
        r#where: Some(Filter {
            filter_type: Some(FilterType::FieldFilter(FieldFilter {
                field: Some(FieldReference {
                    field_path: "n".to_owned(),
                }),
                op: Operator::Equal.into(),
                value: Some(int(1)),
            })),
        }),
        ..StructuredQuery::default()
    };
    let request = RunQueryRequest {
        parent: ROOT.to_owned(),
        query_type: Some(run_query_request::QueryType::StructuredQuery(query)),
        consistency_selector: Some(selector),
        ..RunQueryRequest::default()
    };
    let found = whimbrel_gateway::query::run_query(&stage.gateway, request).await?;
    let found: Vec<_> = found.try_collect().await?;
    Ok(found.iter().filter(|one| one.document.is_some()).count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_over_a_querys_result_cannot_be_broken_together() {
    for stage in stages().await {
        let stage = Arc::new(stage);
        // At least one stays on duty: each leaves only if another one is there, and comes back only if at most
        // one is.
        stage
            .write((0..4).map(|i| set(&format!("duty/{i}"), n(1))).collect())
            .await;
        let people: Vec<_> = (0..8)
            .map(|person| {
                let stage = stage.clone();
                tokio::spawn(async move {
                    let mut left = 0;
                    for _ in 0..10 {
                        let own = format!("duty/{}", person % 4);
                        let own = &own;
                        let outcome = run(&stage, 200, |stage, id| async move {
                            let there = on_duty(&stage, &id).await?;
                            tokio::task::yield_now().await;
                            let write = if there > 1 { 0 } else { 1 };
                            stage.commit_in(&id, vec![set(own, n(write))]).await?;
                            Ok(())
                        })
                        .await;
                        outcome.unwrap();
                        left += 1;
                    }
                    left
                })
            })
            .collect();
        let watched = stage.clone();
        let watch = tokio::spawn(async move {
            for _ in 0..200 {
                let id = watched.begin_reading(None).await.unwrap();
                assert!(
                    on_duty(&watched, &id).await.unwrap() >= 1,
                    "nobody is there"
                );
                tokio::task::yield_now().await;
            }
        });
        for person in people {
            assert_eq!(person.await.unwrap(), 10);
        }
        watch.await.unwrap();
    }
}

#[tokio::test]
async fn a_document_that_comes_into_a_querys_result_aborts_who_rests_on_it() {
    for stage in stages().await {
        stage
            .write(vec![set("duty/1", n(1)), set("duty/2", n(0))])
            .await;
        // The first transaction that rests on a query makes commits be noted; this is not what is tested here.
        let warm = stage.begin().await;
        on_duty(&stage, &warm).await.unwrap();
        let _ = stage.gateway.rollback(&warm);
        for (write, aborted) in [
            (set("duty/3", n(1)), true),
            (set("duty/2", n(1)), true),
            (set("duty/4", n(0)), false),
            (set("elsewhere/1", n(1)), false),
        ] {
            let id = stage.begin().await;
            on_duty(&stage, &id).await.unwrap();
            stage.write(vec![write.clone()]).await;
            let outcome = stage.commit_in(&id, vec![set("result/1", n(1))]).await;
            if aborted {
                refused(outcome, Code::Aborted);
            } else {
                outcome.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_transaction_is_used_once_and_says_so_in_codes_that_are_safe() {
    let stage = Stage::new().await;
    let id = stage.begin().await;
    stage.commit_in(&id, vec![set("a/1", n(1))]).await.unwrap();
    // Not the words on which clients run it again.
    let words = refused(
        stage.commit_in(&id, vec![increment("a/1", 1)]).await,
        Code::InvalidArgument,
    );
    assert!(!words.contains("expired"), "{words}");
    refused(stage.get_in(&id, "a/1").await, Code::InvalidArgument);
    refused(stage.gateway.rollback(&id), Code::InvalidArgument);
    assert_eq!(n_of(&stage.get("a/1").await.unwrap()), 1);
    // Rolled back: it may be run again.
    let id = stage.begin().await;
    stage.gateway.rollback(&id).unwrap();
    stage.gateway.rollback(&id).unwrap();
    let words = refused(stage.commit_in(&id, vec![]).await, Code::InvalidArgument);
    assert!(words.contains("transaction has expired"), "{words}");
    // Refused by a document: it is over, and nothing was written.
    let id = stage.begin().await;
    let outcome = stage
        .commit_in(&id, vec![set("a/2", n(1)), if_exists(true, delete("a/3"))])
        .await;
    refused(outcome, Code::NotFound);
    refused(stage.commit_in(&id, vec![]).await, Code::InvalidArgument);
    assert!(stage.get("a/2").await.is_none());
    // Refused at once: it is still open.
    let id = stage.begin().await;
    let wrong = stage.commit_in(&id, vec![set("a/__x__", n(1))]).await;
    refused(wrong, Code::InvalidArgument);
    stage.commit_in(&id, vec![set("a/2", n(1))]).await.unwrap();
    for bytes in [&b"x"[..], &[0; 16], &[0xFF; 16], &[0; 1000]] {
        refused(stage.commit_in(bytes, vec![]).await, Code::InvalidArgument);
        refused(stage.get_in(bytes, "a/1").await, Code::InvalidArgument);
        refused(stage.gateway.rollback(bytes), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn one_that_is_tried_again_need_not_have_been_rolled_back() {
    let stage = Stage::new().await;
    stage.write(vec![set("a/1", n(1))]).await;
    let first = stage.begin().await;
    stage.get_in(&first, "a/1").await.unwrap();
    let second = stage.begin_again(&first).await;
    stage.get_in(&second, "a/1").await.unwrap();
    stage
        .commit_in(&second, vec![set("a/1", n(2))])
        .await
        .unwrap();
    refused(
        stage.commit_in(&first, vec![set("a/1", n(3))]).await,
        Code::InvalidArgument,
    );
    assert_eq!(n_of(&stage.get("a/1").await.unwrap()), 2);
    // Even one that was committed, whose answer was lost on its way.
    let third = stage.begin_again(&second).await;
    stage
        .commit_in(&third, vec![increment("a/1", 1)])
        .await
        .unwrap();
}

#[tokio::test]
async fn one_can_begin_with_its_first_read() {
    let stage = Stage::new().await;
    stage.write(vec![set("a/1", n(1))]).await;
    for paths in [&["a/1"][..], &["a/1", "a/2"], &[]] {
        let new = ConsistencySelector::NewTransaction(TransactionOptions::default());
        let answers = stage.batch_get(paths, Some(new)).await.unwrap();
        let id = answers[0].transaction.clone();
        assert!(!id.is_empty());
        assert!(
            answers[1..]
                .iter()
                .all(|answer| answer.transaction.is_empty())
        );
        assert_eq!(answers.len(), paths.len().max(1));
        stage
            .commit_in(&id, vec![increment("a/1", 1)])
            .await
            .unwrap();
    }
    assert_eq!(n_of(&stage.get("a/1").await.unwrap()), 4);
    assert_eq!(stage.gateway.transactions.load(), (0, 0));
}

#[tokio::test]
async fn one_that_began_with_a_read_ends_with_it_if_nobody_was_told() {
    let stage = Arc::new(Stage::new().await);
    stage
        .write(vec![set("duty/1", n(1)), set("duty/2", n(1))])
        .await;
    let holder = stage.begin().await;
    stage.get_in(&holder, "duty/2").await.unwrap();
    // Each gets its first document, waits for the second, and its client goes away.
    let new = || TransactionOptions::default();
    let getting = {
        let stage = stage.clone();
        tokio::spawn(async move {
            let new = ConsistencySelector::NewTransaction(new());
            stage
                .batch_get(&["duty/1", "duty/2"], Some(new))
                .await
                .map(drop)
        })
    };
    let querying = {
        let stage = stage.clone();
        tokio::spawn(async move {
            use run_query_request::ConsistencySelector as Selector;
            find_on_duty(&stage, Selector::NewTransaction(new()))
                .await
                .map(drop)
        })
    };
    // Whoever holds one document has begun, and waits for the other.
    while stage.gateway.transactions.load().0 < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for request in [getting, querying] {
        assert!(!request.is_finished());
        request.abort();
        assert!(request.await.unwrap_err().is_cancelled());
    }
    assert_eq!(stage.gateway.transactions.load(), (1, 1));
    stage.write(vec![set("duty/1", n(0))]).await;
    // One whose read fails, too.
    let new = ConsistencySelector::NewTransaction(new());
    let wrong = stage.batch_get(&["duty/1", "duty"], Some(new)).await;
    refused(wrong, Code::InvalidArgument);
    assert_eq!(stage.gateway.transactions.load(), (1, 1));
}

#[tokio::test]
async fn a_query_that_had_to_begin_anew_rests_on_its_last_result_only() {
    for stage in stages().await {
        let stage = Arc::new(stage);
        stage
            .write(vec![set("duty/1", n(1)), set("duty/2", n(1))])
            .await;
        let (first, second) = (stage.begin().await, stage.begin().await);
        stage.get_in(&first, "duty/1").await.unwrap();
        let query = {
            let (stage, second) = (stage.clone(), second.clone());
            tokio::spawn(async move { on_duty(&stage, &second).await })
        };
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(
            !query.is_finished(),
            "it waits for what the first one holds"
        );
        let write = set("duty/1", fields(&[("n", 1), ("m", 1)]));
        stage.commit_in(&first, vec![write]).await.unwrap();
        assert_eq!(query.await.unwrap().unwrap(), 2);
        stage
            .commit_in(&second, vec![set("result/1", n(2))])
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn writes_outside_wait_for_transactions_and_reads_do_not() {
    let stage = Arc::new(Stage::new().await);
    stage.write(vec![set("a/1", n(1)), set("a/2", n(1))]).await;
    let id = stage.begin().await;
    stage.get_in(&id, "a/1").await.unwrap();
    let write = {
        let stage = stage.clone();
        tokio::spawn(async move {
            stage
                .write(vec![increment("a/2", 1), increment("a/1", 1)])
                .await
        })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!write.is_finished());
    assert_eq!(n_of(&stage.get("a/2").await.unwrap()), 1);
    let committed = stage
        .commit_in(&id, vec![increment("a/1", 10)])
        .await
        .unwrap();
    assert!(write.await.unwrap() > at(committed.commit_time.as_ref()));
    assert_eq!(n_of(&stage.get("a/1").await.unwrap()), 12);
}

#[tokio::test]
async fn reading_ones_see_one_time_and_write_nothing() {
    for stage in stages().await {
        let first = stage.write(vec![set("a/1", n(1))]).await;
        stage.write(vec![set("a/1", n(2))]).await;
        let now = stage.begin_reading(None).await.unwrap();
        let past = stage.begin_reading(Some(first)).await.unwrap();
        stage.write(vec![set("a/1", n(3)), set("a/2", n(3))]).await;
        for _ in 0..2 {
            assert_eq!(n_of(&stage.get_in(&now, "a/1").await.unwrap().unwrap()), 2);
            assert_eq!(n_of(&stage.get_in(&past, "a/1").await.unwrap().unwrap()), 1);
            assert!(stage.get_in(&now, "a/2").await.unwrap().is_none());
        }
        let write = stage.commit_in(&now, vec![set("a/1", n(4))]).await;
        refused(write, Code::InvalidArgument);
        stage.commit_in(&now, vec![]).await.unwrap();
        refused(stage.get_in(&now, "a/1").await, Code::InvalidArgument);
        stage.gateway.rollback(&past).unwrap();
    }
}
