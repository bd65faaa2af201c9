//! Who may write, and who may not any more.

use crate::fixture::{Place, RUN, chunk, filled, fold, following, item, on_both};
use std::time::Duration;
use whimbrel_model::ledger::Filed;
use whimbrel_model::ledger::PreimageBlock;
use whimbrel_model::{Code, Journal, JournalError, Timestamp};

on_both!(
    a_live_lease_is_respected,
    an_expired_lease_may_be_taken,
    a_broken_lease_fences_its_holder,
    a_released_lease_is_free_and_its_fence_gone,
    many_want_the_lease_and_one_gets_it,
);

async fn a_live_lease_is_respected(place: Place) {
    let (journal, other) = (place.open().await, place.open().await);
    assert_eq!(journal.lease().await.unwrap(), None);
    let lease = journal
        .acquire("ann@host pid 1: upgrade", 60_000)
        .await
        .unwrap();
    assert!(lease.fence > 0 && !lease.expired);
    let times = [&lease.acquired_at, &lease.expires_at].map(|t| Timestamp::parse(t).unwrap());
    assert_eq!(
        times[1].as_micros().unwrap() - times[0].as_micros().unwrap(),
        60_000_000
    );
    match other.acquire("bob", 60_000).await.unwrap_err() {
        JournalError::Held(held) => assert_eq!(*held, lease),
        error => panic!("{error}"),
    }
    assert_eq!(other.lease().await.unwrap(), Some(lease.clone()));
    tokio::time::sleep(Duration::from_millis(5)).await;
    journal.renew(lease.fence, 120_000).await.unwrap();
    let renewed = other.lease().await.unwrap().unwrap();
    assert!(renewed.expires_at > lease.expires_at);
    assert_eq!(renewed.fence, lease.fence);
}

async fn an_expired_lease_may_be_taken(place: Place) {
    let (journal, other) = (place.open().await, place.open().await);
    let first = journal.acquire("ann", 60).await.unwrap();
    assert!(matches!(
        other.acquire("bob", 60_000).await,
        Err(JournalError::Held(_))
    ));
    tokio::time::sleep(Duration::from_millis(120)).await;
    assert!(other.lease().await.unwrap().unwrap().expired);
    // Nobody took it: the holder may still write, and even renew it.
    journal
        .append(first.fence, &[], Filed::from(&[item("a")]))
        .await
        .unwrap();
    journal.renew(first.fence, 60).await.unwrap();
    tokio::time::sleep(Duration::from_millis(120)).await;
    let second = other.acquire("bob", 60_000).await.unwrap();
    assert!(second.fence > first.fence);
    assert_fenced(journal.as_ref(), first.fence, "bob").await;
}

async fn a_broken_lease_fences_its_holder(place: Place) {
    let (journal, fence) = filled(&place, 1).await;
    let other = place.open().await;
    let broken = other.break_lease("operator", 60_000).await.unwrap();
    assert!(broken.fence > fence);
    assert_eq!(broken.holder, "operator");
    assert_fenced(journal.as_ref(), fence, "operator").await;
    assert_eq!(fold(other.as_ref()).await.unwrap().seq, 2);
    let next = following(other.as_ref(), broken.fence, vec![chunk(RUN, 2)]).await;
    other
        .append(broken.fence, &next, Filed::default())
        .await
        .unwrap();
}

async fn a_released_lease_is_free_and_its_fence_gone(place: Place) {
    let mut last = 0;
    for n in 0..3 {
        let journal = place.open().await;
        let lease = journal.acquire("ann", 60_000).await.unwrap();
        assert!(lease.fence > last, "fence {} again", lease.fence);
        last = lease.fence;
        if n == 1 {
            last = journal.break_lease("bob", 60_000).await.unwrap().fence;
            assert!(last > lease.fence);
        }
        journal.give_up(last).await.unwrap();
        assert_eq!(journal.lease().await.unwrap(), None);
        assert_fenced(journal.as_ref(), last, "nobody").await;
    }
    let journal = place.open().await;
    assert_fenced(journal.as_ref(), 0, "nobody").await;
    assert_fenced(journal.as_ref(), last + 1, "nobody").await;
}

async fn many_want_the_lease_and_one_gets_it(place: Place) {
    let mut wanting = Vec::new();
    for n in 0..8 {
        let journal = place.open().await;
        wanting.push(tokio::spawn(async move {
            journal.acquire(&format!("worker {n}"), 60_000).await
        }));
    }
    let mut got = 0;
    for one in wanting {
        match one.await.unwrap() {
            Ok(_) => got += 1,
            Err(JournalError::Held(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(got, 1);
}

/// Every writing call is refused, and nothing of it is written.
async fn assert_fenced(journal: &dyn Journal, fence: u64, holder: &str) {
    let before = fold(journal).await.unwrap().seq;
    let waiting = journal.quarantined(None, None, 100).await.unwrap();
    let records = following(journal, fence, vec![chunk(RUN, 99)]).await;
    let block = PreimageBlock {
        run: RUN.to_owned(),
        subject: "app/fenced".to_owned(),
        keys: vec![1.into()],
        data: vec![1],
    };
    let label = "a".to_owned();
    for (call, result) in [
        (
            "append",
            journal
                .append(fence, &records, Filed::from(&[item("fenced")]))
                .await,
        ),
        ("put_preimages", journal.put_preimages(fence, &block).await),
        (
            "release",
            journal
                .append(
                    fence,
                    &[],
                    Filed {
                        released: Some((&item("a").subject, &[label])),
                        ..Filed::default()
                    },
                )
                .await,
        ),
        ("renew", journal.renew(fence, 60_000).await),
        ("give_up", journal.give_up(fence).await),
        ("settle_request", journal.settle_request(fence, 1).await),
    ] {
        let error = result.expect_err(call);
        assert_eq!(error.code(), Code::LeaseLost, "{call}: {error}");
        match error {
            JournalError::Fenced { holder: found } => assert!(found.starts_with(holder), "{found}"),
            other => panic!("{call}: {other}"),
        }
    }
    assert_eq!(fold(journal).await.unwrap().seq, before);
    assert_eq!(journal.quarantined(None, None, 100).await.unwrap(), waiting);
    let found = journal.preimages("app/fenced", &[1.into()]).await.unwrap();
    assert!(found[0].is_empty());
}
