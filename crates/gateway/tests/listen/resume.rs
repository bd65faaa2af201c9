//! Clients that come back, and clients that do not keep up.

use crate::backend::{Counting, Counts};
use crate::client::{Client, Event, View};
use crate::harness::{Stage, documents, fields, filtered, from, limited, name, ordered, query};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use whimbrel_firestore::Micros;
use whimbrel_firestore::time::to_proto;
use whimbrel_firestore::v1::Target;
use whimbrel_firestore::v1::Value;
use whimbrel_firestore::v1::structured_query::field_filter::Operator;
use whimbrel_firestore::v1::target::ResumeType;
use whimbrel_firestore::v1::value::ValueType;
use whimbrel_stores::{OpenOptions, serve};

const HOUR: Micros = 3_600_000_000;

fn with_token(target: Target, token: &[u8]) -> Target {
    Target {
        resume_type: Some(ResumeType::ResumeToken(token.to_vec())),
        ..target
    }
}

fn expecting(target: Target, count: i32) -> Target {
    Target {
        expected_count: Some(count),
        ..target
    }
}

fn keys(view: &View) -> BTreeSet<&str> {
    view.documents.keys().map(String::as_str).collect()
}

/// A stream for a client that has seen others before.
async fn back(stage: &Stage, views: impl IntoIterator<Item = (i32, View)>) -> Client {
    let mut client = Client::connect(stage);
    client.views.extend(views);
    client
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_is_told_only_what_changed() {
    let mut stage = Stage::new().await;
    for i in 0..10 {
        stage.set(&format!("c/{i}"), &[("a", i)]).await;
    }
    let all = || query(1, filtered(from("c"), "a", Operator::LessThan, 100));
    let first = || query(2, limited(ordered(from("c"), "a", false), 0, Some(3)));
    let two = || documents(3, &["c/1", "c/9"]);
    let mut client = Client::connect(&stage);
    for target in [all(), first(), two()] {
        client.add(target).await;
        client.snapshot().await;
    }
    let (token, views) = (client.token.clone(), std::mem::take(&mut client.views));
    drop(client);
    stage.set("c/0", &[("a", 0), ("b", 1)]).await;
    stage.delete("c/1").await;
    stage.set("c/2", &[("a", 100)]).await;
    stage.set("c/10", &[("a", 10)]).await;
    stage.set("d/1", &[("a", 10)]).await;
    // Came and went in between.
    stage.set("c/11", &[("a", 11)]).await;
    let at = stage.delete("c/11").await;
    let mut client = back(&stage, views).await;
    client.add(with_token(all(), &token)).await;
    client.snapshot().await;
    let events = client.taken();
    assert_eq!(events.first(), Some(&Event::Added(vec![1])));
    assert_eq!(
        events[1..],
        [
            Event::Changed("c/0".to_owned(), vec![1], vec![]),
            Event::Deleted("c/1".to_owned(), vec![1]),
            Event::Changed("c/10".to_owned(), vec![1], vec![]),
            Event::Changed("c/2".to_owned(), vec![], vec![1]),
            Event::Filter(1, 9),
            Event::Current(vec![1]),
            Event::Snapshot
        ]
    );
    for target in [first(), two()] {
        let id = target.target_id;
        client.views.get_mut(&id).unwrap().messages = 0;
        client.add(with_token(target, &token)).await;
        client.snapshot().await;
    }
    for target in [all(), first(), two()] {
        let view = &client.views[&target.target_id];
        assert!(view.mismatch.is_none() && view.resets == 0);
        let expected = stage.result(&target, at);
        assert_eq!(keys(view), expected.keys().map(String::as_str).collect());
    }
    // 0 changed, 1 and 2 went for 3 and 4.
    assert_eq!(client.views[&2].messages, 5);
}

#[tokio::test(start_paused = true)]
async fn a_time_is_as_good_as_a_token() {
    let mut stage = Stage::new().await;
    let at = stage.set("c/1", &[]).await;
    stage.set("c/2", &[]).await;
    let mut client = Client::connect(&stage);
    let target = Target {
        resume_type: Some(ResumeType::ReadTime(to_proto(at))),
        ..query(1, from("c"))
    };
    client.add(target).await;
    client.snapshot().await;
    assert_eq!(
        client.taken(),
        [
            Event::Added(vec![1]),
            Event::Changed("c/2".to_owned(), vec![1], vec![]),
            Event::Filter(1, 2),
            Event::Current(vec![1]),
            Event::Snapshot
        ]
    );
    assert_eq!(client.views[&1].mismatch, Some(2));
}

#[tokio::test(start_paused = true)]
async fn tokens_that_say_nothing_begin_anew() {
    let mut stage = Stage::new().await;
    let at = stage.set("c/1", &[]).await;
    let earlier = Stage::new().await;
    let mut client = Client::connect(&earlier);
    client.add(query(1, from("c"))).await;
    client.snapshot().await;
    let mut tokens = vec![
        ResumeType::ResumeToken(b"\x0a\x09\x08".to_vec()),
        ResumeType::ReadTime(to_proto(at + HOUR)),
        ResumeType::ReadTime(to_proto(at - 2 * HOUR)),
        ResumeType::ReadTime(to_proto(0)),
    ];
    // Of a store in memory that is no more.
    let reborn = {
        std::thread::sleep(std::time::Duration::from_millis(2));
        let mut stage = Stage::new().await;
        stage.set("c/1", &[]).await;
        stage
    };
    for (stage, token) in tokens
        .drain(..)
        .map(|token| (&stage, token))
        .chain([(&reborn, ResumeType::ResumeToken(client.token.clone()))])
    {
        let stale = View {
            documents: [(name("c/old"), Default::default())].into(),
            ..View::default()
        };
        let mut client = back(stage, [(1, stale)]).await;
        let target = Target {
            resume_type: Some(token.clone()),
            ..query(1, from("c"))
        };
        client.add(target).await;
        client.snapshot().await;
        assert_eq!(
            client.taken(),
            [
                Event::Added(vec![1]),
                Event::Reset(vec![1]),
                Event::Changed("c/1".to_owned(), vec![1], vec![]),
                Event::Current(vec![1]),
                Event::Snapshot
            ],
            "{token:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_counts_is_told_the_names() {
    let mut stage = Stage::new().await;
    for i in 0..20 {
        stage.set(&format!("c/{i}"), &[]).await;
    }
    let mut client = Client::connect(&stage);
    client.add(query(1, from("c"))).await;
    client.snapshot().await;
    let (token, mut views) = (client.token.clone(), std::mem::take(&mut client.views));
    // One that the store does not know of.
    let view = views.get_mut(&1).unwrap();
    view.documents.insert(name("c/x"), Default::default());
    let mut client = back(&stage, views).await;
    let target = expecting(with_token(query(1, from("c")), &token), 21);
    client.add(target).await;
    client.snapshot().await;
    assert_eq!(client.views[&1].messages, 20, "nothing is sent again");
    assert_eq!(client.views[&1].mismatch, Some(20));
    assert!(client.taken().contains(&Event::Filter(1, 20)));
}

/// A stage over memory that counts what is read.
async fn counting() -> (Stage, Arc<Counts>) {
    let options = OpenOptions::default();
    let inner = serve::open("memory:", &options).await.unwrap();
    let (backend, counts) = Counting::over(inner);
    (Stage::of(backend).await, counts)
}

/// Names and number of what a client has come from the index; documents are read where they changed.
#[tokio::test(start_paused = true)]
async fn who_comes_back_does_not_cost_the_whole_result() {
    let (mut stage, counts) = counting().await;
    for i in 0..300 {
        stage.set(&format!("c/{i}"), &[("a", i)]).await;
    }
    let some = || query(1, filtered(from("c"), "a", Operator::LessThan, 250));
    let mut client = Client::connect(&stage);
    client.add(some()).await;
    client.snapshot().await;
    let (token, views) = (client.token.clone(), std::mem::take(&mut client.views));
    drop(client);
    stage.set("c/7", &[("a", 8)]).await;
    let mut client = back(&stage, views).await;
    counts.take();
    client.add(expecting(with_token(some(), &token), 250)).await;
    client.snapshot().await;
    let (_, documents) = counts.take();
    assert!(documents <= 4, "{documents} documents were read");
    assert_eq!(client.views[&1].messages, 251);
    assert!(client.taken().contains(&Event::Filter(1, 250)));
    assert!(client.views[&1].mismatch.is_none());
}

/// A target of many large documents is read in small parts.
#[tokio::test(start_paused = true)]
async fn large_documents_are_read_a_few_at_a_time() {
    let (mut stage, counts) = counting().await;
    let large = |i: i64| {
        let mut large = fields(&[("a", i)]);
        let body = Value {
            value_type: Some(ValueType::StringValue("x".repeat(200_000))),
        };
        large.insert("body".to_owned(), body);
        large
    };
    let paths: Vec<String> = (0..120).map(|i| format!("c/{i}")).collect();
    for path in &paths {
        stage.commit(&[(path, Some(large(1)))]).await;
    }
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let mut client = Client::connect(&stage);
    for target in [query(1, from("c")), documents(2, &paths)] {
        client.add(target).await;
        client.snapshot().await;
    }
    let (token, views) = (client.token.clone(), std::mem::take(&mut client.views));
    drop(client);
    for path in &paths {
        stage.commit(&[(path, Some(large(2)))]).await;
    }
    let mut client = back(&stage, views).await;
    counts.at_once.store(0, Ordering::Relaxed);
    for target in [query(1, from("c")), documents(2, &paths)] {
        client.add(with_token(target, &token)).await;
        client.snapshot().await;
    }
    let at_once = counts.at_once.load(Ordering::Relaxed);
    assert!(at_once <= 32, "{at_once} documents");
    assert_eq!(
        (client.views[&1].messages, client.views[&2].messages),
        (240, 240)
    );
}

#[tokio::test(start_paused = true)]
async fn who_does_not_keep_up_reads_what_changed() {
    let mut stage = Stage::new().await;
    let mut client = Client::connect(&stage);
    let targets = [
        query(1, from("c")),
        query(2, limited(ordered(from("c"), "a", true), 0, Some(5))),
        documents(3, &["c/7", "c/8"]),
    ];
    for target in &targets {
        client.add(target.clone()).await;
        client.snapshot().await;
    }
    // Nothing is taken while far more is written than is kept for anybody.
    for i in 0..60 {
        let paths: Vec<String> = (0..100)
            .map(|j| format!("c/{}", (i * 37 + j) % 300))
            .collect();
        let writes = paths
            .iter()
            .map(|path| (path.as_str(), (i % 7 != 3).then(|| fields(&[("a", i)]))));
        stage.commit(&writes.collect::<Vec<_>>()).await;
        tokio::task::yield_now().await;
    }
    client.until(stage.last()).await;
    for target in &targets {
        let view = &client.views[&target.target_id];
        let expected = stage.result(target, client.at);
        assert_eq!(keys(view), expected.keys().map(String::as_str).collect());
        for (name, fields) in expected {
            assert_eq!(view.documents[&name].fields, fields);
        }
        assert_eq!(view.resets, 0);
    }
}
