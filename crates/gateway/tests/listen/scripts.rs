//! Streams step by step.

use crate::client::{Client, Event};
use crate::harness::{
    Stage, documents, fields, filtered, from, group, limited, name, ordered, query, query_below,
    shown,
};
use std::time::Duration;
use tonic::Code;
use whimbrel_firestore::v1::Target;
use whimbrel_firestore::v1::structured_query::field_filter::Operator;

fn changed(path: &str, into: &[i32], out: &[i32]) -> Event {
    Event::Changed(path.to_owned(), into.to_vec(), out.to_vec())
}

fn deleted(path: &str, out: &[i32]) -> Event {
    Event::Deleted(path.to_owned(), out.to_vec())
}

/// Adds a target and takes everything up to its first snapshot.
async fn added(client: &mut Client, target: Target) -> Vec<Event> {
    client.taken();
    client.add(target).await;
    client.snapshot().await;
    client.taken()
}

async fn follow(client: &mut Client, at: i64) -> Vec<Event> {
    client.until(at).await;
    client.taken()
}

#[tokio::test(start_paused = true)]
async fn documents_come_change_and_go() {
    let mut stage = Stage::new().await;
    stage.set("c/1", &[("a", 1)]).await;
    let mut client = Client::connect(&stage);
    let target = documents(0x5079, &["c/1", "c/2", "c/1"]);
    assert_eq!(
        added(&mut client, target).await,
        [
            Event::Added(vec![0x5079]),
            changed("c/1", &[0x5079], &[]),
            deleted("c/2", &[0x5079]),
            Event::Current(vec![0x5079]),
            Event::Snapshot,
        ]
    );
    let document = &client.views[&0x5079].documents[&name("c/1")];
    assert_eq!(document.fields, fields(&[("a", 1)]));
    assert_eq!(document.create_time, document.update_time);
    // Others are no concern of it.
    stage.set("c/3", &[]).await;
    let at = stage.set("c/2", &[]).await;
    assert_eq!(
        follow(&mut client, at).await,
        [changed("c/2", &[0x5079], &[]), Event::Snapshot]
    );
    stage.delete("c/1").await;
    stage.set("c/1", &[("a", 2)]).await;
    let at = stage.delete("c/2").await;
    client.until(at).await;
    let view = &client.views[&0x5079];
    assert_eq!(view.documents.len(), 1);
    let document = &view.documents[&name("c/1")];
    assert_eq!(document.fields, fields(&[("a", 2)]));
}

#[tokio::test(start_paused = true)]
async fn a_query_hears_of_what_enters_changes_in_and_leaves_it() {
    let mut stage = Stage::new().await;
    stage.set("c/1", &[("a", 1)]).await;
    stage.set("c/2", &[("a", 2)]).await;
    let mut client = Client::connect(&stage);
    let target = query(1, filtered(from("c"), "a", Operator::GreaterThan, 1));
    assert_eq!(
        added(&mut client, target).await,
        [
            Event::Added(vec![1]),
            changed("c/2", &[1], &[]),
            Event::Current(vec![1]),
            Event::Snapshot,
        ]
    );
    for (path, a, event) in [
        ("c/3", Some(3), changed("c/3", &[1], &[])),
        ("c/2", Some(5), changed("c/2", &[1], &[])),
        ("c/1", Some(2), changed("c/1", &[1], &[])),
        ("c/2", Some(0), changed("c/2", &[], &[1])),
        ("c/3", None, deleted("c/3", &[1])),
    ] {
        let to = a.map(|a| fields(&[("a", a)]));
        let at = stage.commit(&[(path, to)]).await;
        assert_eq!(follow(&mut client, at).await, [event, Event::Snapshot]);
    }
    // What was not and is not in it: only the next heartbeat is heard.
    stage.set("c/2", &[("a", 1)]).await;
    stage.set("c/1/c/1", &[("a", 9)]).await;
    let at = stage.delete("c/2").await;
    assert_eq!(follow(&mut client, at).await, [Event::Snapshot]);
    assert_eq!(client.views[&1].documents.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_limited_query_has_exactly_its_results() {
    let mut stage = Stage::new().await;
    for (path, a) in [("c/1", 10), ("c/2", 20), ("c/3", 30), ("c/4", 40)] {
        stage.set(path, &[("a", a)]).await;
    }
    let mut client = Client::connect(&stage);
    let first = limited(ordered(from("c"), "a", false), 0, Some(2));
    let last = limited(ordered(from("c"), "a", true), 0, Some(1));
    let second = limited(ordered(from("c"), "a", false), 1, Some(1));
    added(&mut client, query(1, first)).await;
    added(&mut client, query(2, last)).await;
    added(&mut client, query(3, second)).await;
    let steps: &[(&str, Option<i64>)] = &[
        // Before, between, behind the results; as the last of them.
        ("c/5", Some(5)),
        ("c/6", Some(7)),
        ("c/7", Some(35)),
        ("c/8", Some(50)),
        // Out of the results to the end, and back to the front.
        ("c/5", Some(60)),
        ("c/5", Some(1)),
        // Changed in its place.
        ("c/6", Some(8)),
        // A result goes: another comes, of which nothing was kept.
        ("c/5", None),
        ("c/6", None),
        ("c/8", None),
        ("c/1", None),
        ("c/2", None),
        ("c/3", None),
        ("c/4", None),
        // Nothing is left behind the limit, and then nothing at all.
        ("c/7", None),
        ("c/9", Some(1)),
        ("c/9", Some(2)),
    ];
    for (path, a) in steps {
        let to = a.map(|a| fields(&[("a", a)]));
        let at = stage.commit(&[(path, to)]).await;
        client.until(at).await;
        for (id, view) in &client.views {
            let target = match id {
                1 => query(1, limited(ordered(from("c"), "a", false), 0, Some(2))),
                2 => query(2, limited(ordered(from("c"), "a", true), 0, Some(1))),
                _ => query(3, limited(ordered(from("c"), "a", false), 1, Some(1))),
            };
            let expected: Vec<_> = stage.result(&target, at).into_keys().collect();
            let found: Vec<_> = view.documents.keys().cloned().collect();
            assert_eq!(found, expected, "target {id} after {path} = {a:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_document_that_changes_behind_the_limit_is_not_sent() {
    let mut stage = Stage::new().await;
    for (path, a) in [("c/1", 1), ("c/2", 2), ("c/3", 3)] {
        stage.set(path, &[("a", a)]).await;
    }
    let mut client = Client::connect(&stage);
    let first = limited(ordered(from("c"), "a", false), 0, Some(2));
    added(&mut client, query(1, first)).await;
    stage.set("c/3", &[("a", 4)]).await;
    let at = stage.set("c/4", &[("a", 5)]).await;
    assert_eq!(follow(&mut client, at).await, [Event::Snapshot]);
    // One comes before them: the last is pushed out, and is not read for that.
    let at = stage.set("c/5", &[("a", 0)]).await;
    assert_eq!(
        follow(&mut client, at).await,
        [
            Event::Left("c/2".to_owned(), vec![1]),
            changed("c/5", &[1], &[]),
            Event::Snapshot
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn targets_of_a_stream_are_told_together() {
    let mut stage = Stage::new().await;
    stage.set("c/1", &[("a", 1)]).await;
    let mut client = Client::connect(&stage);
    added(&mut client, query(1, from("c"))).await;
    added(&mut client, documents(2, &["c/1"])).await;
    let one = filtered(from("c"), "a", Operator::Equal, 1);
    added(&mut client, query(3, one)).await;
    added(&mut client, query(4, shown(from("c"), &["b"]))).await;
    let at = stage.set("c/1", &[("a", 2), ("b", 3)]).await;
    assert_eq!(
        follow(&mut client, at).await,
        [
            changed("c/1", &[4], &[]),
            changed("c/1", &[1, 2], &[3]),
            Event::Snapshot
        ]
    );
    let part = &client.views[&4].documents[&name("c/1")];
    assert_eq!(part.fields, fields(&[("b", 3)]));
    let at = stage.delete("c/1").await;
    assert_eq!(
        follow(&mut client, at).await,
        [deleted("c/1", &[1, 2, 4]), Event::Snapshot]
    );
}

#[tokio::test(start_paused = true)]
async fn a_target_that_was_removed_is_silent_and_its_id_is_free() {
    let mut stage = Stage::new().await;
    let mut client = Client::connect(&stage);
    added(&mut client, query(7, from("c"))).await;
    added(&mut client, query(8, from("d"))).await;
    client.remove(7).await;
    client.remove(99).await;
    stage.set("c/1", &[]).await;
    let at = stage.set("d/1", &[]).await;
    assert_eq!(
        follow(&mut client, at).await,
        [
            Event::Removed(vec![7], None),
            changed("d/1", &[8], &[]),
            Event::Snapshot
        ]
    );
    let events = added(&mut client, query(7, from("c"))).await;
    assert!(events.contains(&changed("c/1", &[7], &[])), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_listened_to_is_refused_alone() {
    let mut stage = Stage::new().await;
    let mut client = Client::connect(&stage);
    added(&mut client, query(1, from("c"))).await;
    let invalid = Some(Code::InvalidArgument as i32);
    for bad in [
        Target {
            target_id: 2,
            ..Target::default()
        },
        documents(2, &["c"]),
        query(2, limited(from("c"), -1, None)),
        query_below(2, "c", from("d")),
        documents(-1, &["c/1"]),
    ] {
        let id = bad.target_id;
        client.add(bad).await;
        let event = client.next().await.unwrap().unwrap();
        assert_eq!(event, Event::Removed(vec![id], invalid));
    }
    client.taken();
    let at = stage.set("c/1", &[]).await;
    assert_eq!(
        follow(&mut client, at).await,
        [changed("c/1", &[1], &[]), Event::Snapshot]
    );
}

#[tokio::test(start_paused = true)]
async fn an_id_in_use_ends_the_stream() {
    let stage = Stage::new().await;
    let mut client = Client::connect(&stage);
    added(&mut client, query(1, from("c"))).await;
    client.add(query(1, from("d"))).await;
    let status = client.next().await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(client.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_server_gives_ids_where_it_is_asked_to() {
    let stage = Stage::new().await;
    let mut client = Client::connect(&stage);
    client.views.entry(1).or_default();
    client.views.entry(2).or_default();
    for id in [1, 2] {
        let events = added(&mut client, query(0, from("c"))).await;
        assert_eq!(
            events,
            [
                Event::Added(vec![id]),
                Event::Current(vec![id]),
                Event::Snapshot
            ]
        );
    }
    client.add(query(5, from("c"))).await;
    let invalid = Some(Code::InvalidArgument as i32);
    let event = client.next().await.unwrap().unwrap();
    assert_eq!(event, Event::Removed(vec![5], invalid));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_wanted_once_ends_when_it_is_current() {
    let mut stage = Stage::new().await;
    stage.set("c/1", &[]).await;
    let mut client = Client::connect(&stage);
    let target = Target {
        once: true,
        ..query(1, from("c"))
    };
    client.add(target).await;
    while client.next().await.unwrap().unwrap() != Event::Removed(vec![1], None) {}
    assert_eq!(
        client.taken(),
        [
            Event::Added(vec![1]),
            changed("c/1", &[1], &[]),
            Event::Current(vec![1]),
            Event::Snapshot,
            Event::Removed(vec![1], None)
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn scopes_hear_of_their_own() {
    let mut stage = Stage::new().await;
    let mut client = Client::connect(&stage);
    added(&mut client, query(1, group("s"))).await;
    added(&mut client, query_below(2, "c/1", from("s"))).await;
    added(&mut client, query_below(3, "c/1", group("s"))).await;
    added(&mut client, query(4, group(""))).await;
    for (path, ids) in [
        ("s/1", &[1, 4][..]),
        ("c/1/s/1", &[1, 2, 3, 4]),
        ("c/2/s/1", &[1, 4]),
        ("c/1/t/1/s/1", &[1, 3, 4]),
        ("c/1", &[4]),
        ("c/11/s/1", &[1, 4]),
    ] {
        let at = stage.set(path, &[]).await;
        assert_eq!(
            follow(&mut client, at).await,
            [changed(path, ids, &[]), Event::Snapshot]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_is_told_the_time() {
    let stage = Stage::new().await;
    let mut client = Client::connect(&stage);
    added(&mut client, query(1, from("c"))).await;
    let before = tokio::time::Instant::now();
    let (at, token) = (client.at, client.token.clone());
    std::thread::sleep(Duration::from_millis(2));
    client.snapshot().await;
    assert!(before.elapsed() <= Duration::from_secs(60));
    assert!(client.at > at && client.token != token);
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_client() {
    let stage = Stage::new().await;
    let mut client = Client::connect(&stage);
    added(&mut client, query(1, from("c"))).await;
    // It says no more.
    let (closed, _) = tokio::sync::mpsc::channel(1);
    client.requests = closed;
    assert!(client.next().await.is_none());
    // It is gone, without a word.
    let mut other = Client::connect(&stage);
    added(&mut other, query(1, from("c"))).await;
    assert!(stage.gateway.feed.heard());
    drop((client, other));
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(!stage.gateway.feed.heard());
}
