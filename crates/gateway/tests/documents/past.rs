//! Reads at a time see that time.

use crate::stage::*;
use std::sync::Arc;
use tonic::Code;
use whimbrel_firestore::time;
use whimbrel_firestore::v1::batch_get_documents_request::ConsistencySelector;

#[tokio::test]
async fn every_version_can_be_read_and_the_future_cannot() {
    for stage in stages().await {
        let before = stage.write(vec![set("a/other", n(0))]).await;
        let mut times = Vec::new();
        for i in 0..5 {
            times.push(stage.write(vec![set("a/1", n(i)), set("a/2", n(-i))]).await);
        }
        let gone = stage.write(vec![delete("a/1")]).await;
        let again = stage.write(vec![set("a/1", n(9))]).await;
        assert!(stage.get_at("a/1", before).await.is_none());
        for (i, at) in times.iter().enumerate() {
            assert_eq!(n_of(&stage.get_at("a/1", *at).await.unwrap()), i as i64);
            let when = ConsistencySelector::ReadTime(time::to_proto(*at));
            let both = stage.read(&["a/2", "a/1"], Some(when)).await.unwrap();
            let both: Vec<i64> = both.iter().map(|one| n_of(one.as_ref().unwrap())).collect();
            assert_eq!(both, [-(i as i64), i as i64]);
            if i > 0 {
                let document = stage.get_at("a/1", at - 1).await.unwrap();
                assert_eq!(n_of(&document), i as i64 - 1, "just before");
            }
        }
        assert!(stage.get_at("a/1", gone).await.is_none());
        assert_eq!(n_of(&stage.get_at("a/1", again).await.unwrap()), 9);
        let hour = 3600 * 1_000_000;
        for (at, code) in [
            (again + hour, Code::InvalidArgument),
            (again - hour - 60_000_000, Code::FailedPrecondition),
            (-1, Code::InvalidArgument),
        ] {
            let when = ConsistencySelector::ReadTime(time::to_proto(at));
            refused(stage.read(&["a/1"], Some(when)).await, code);
        }
        let finer = prost_types::Timestamp {
            nanos: 1,
            ..time::to_proto(again - 1_000_000)
        };
        let when = ConsistencySelector::ReadTime(finer);
        refused(
            stage.read(&["a/1"], Some(when)).await,
            Code::InvalidArgument,
        );
    }
}

/// Two documents always hold the same number. Readers see it so, and see the same again at the time that they were
/// told, whatever was committed meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_read_shows_is_what_was_at_its_time() {
    for stage in stages().await {
        let stage = Arc::new(stage);
        stage.write(vec![set("a/1", n(0)), set("a/2", n(0))]).await;
        let writer = {
            let stage = stage.clone();
            tokio::spawn(async move {
                for i in 1..400 {
                    let flicker = if i % 2 == 0 {
                        set("a/flicker", n(i))
                    } else {
                        delete("a/flicker")
                    };
                    stage
                        .write(vec![set("a/1", n(i)), set("a/2", n(i)), flicker])
                        .await;
                }
            })
        };
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let (stage, done) = (stage.clone(), writer.abort_handle());
                tokio::spawn(async move {
                    let mut last = 0;
                    let mut rounds = 0;
                    while !done.is_finished() {
                        for paths in [&["a/1", "a/2"][..], &["a/1"], &["a/flicker"]] {
                            let answers = stage.batch_get(paths, None).await.unwrap();
                            let read_time = answers[0].read_time.unwrap();
                            assert!(time::from_proto(&read_time) >= last, "time goes on");
                            last = time::from_proto(&read_time);
                            let when = ConsistencySelector::ReadTime(read_time);
                            let again = stage.batch_get(paths, Some(when)).await.unwrap();
                            assert_eq!(answers, again);
                            if paths.len() == 2 {
                                let values: Vec<_> = answers
                                    .iter()
                                    .map(|one| match &one.result {
                                        Some(whimbrel_firestore::v1::batch_get_documents_response::Result::Found(document)) => n_of(document),
                                        other => panic!("{other:?}"),
                                    })
                                    .collect();
                                assert_eq!(values[0], values[1]);
                            }
                            rounds += 1;
                            // Reads in memory never wait.
                            tokio::task::yield_now().await;
                        }
                    }
                    rounds
                })
            })
            .collect();
        writer.await.unwrap();
        for reader in readers {
            assert!(reader.await.unwrap() > 0);
        }
    }
}
