use super::*;
use tokio::task::JoinHandle;

const LONG: Duration = Duration::from_secs(60);

fn place(name: &str) -> Place {
    Place {
        collection: "a".into(),
        key: name.into(),
    }
}

/// Locks with the transactions 1, 2, … as old as their numbers.
fn locks(transactions: u64) -> Arc<Locks> {
    let locks = Arc::new(Locks::default());
    for i in 1..=transactions {
        locks.enter(Owner(i), i);
    }
    locks
}

async fn now(locks: &Locks, owner: u64, places: &[&str]) -> Result<(), Denied> {
    let places: Vec<Place> = places.iter().map(|name| place(name)).collect();
    locks
        .lock(Owner(owner), &places, Duration::from_millis(20))
        .await
}

/// Asks, and has waited when this returns.
async fn waits(locks: &Arc<Locks>, owner: u64, name: &str) -> JoinHandle<Result<(), Denied>> {
    let (locks, place) = (locks.clone(), place(name));
    let asked = tokio::spawn(async move { locks.lock(Owner(owner), &[place], LONG).await });
    settle().await;
    assert!(!asked.is_finished());
    asked
}

async fn takes(locks: &Arc<Locks>, owner: u64, names: &[&str]) -> JoinHandle<Result<Held, Denied>> {
    let locks = locks.clone();
    let places: Vec<Place> = names.iter().map(|name| place(name)).collect();
    let asked = tokio::spawn(async move { locks.take(Owner(owner), &places, LONG).await });
    settle().await;
    asked
}

async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_document_is_one_transactions_at_a_time_in_the_order_of_asking() {
    let locks = locks(3);
    now(&locks, 1, &["x", "y"]).await.unwrap();
    now(&locks, 1, &["x"]).await.unwrap();
    let second = waits(&locks, 2, "x").await;
    let third = waits(&locks, 3, "x").await;
    locks.leave(Owner(1));
    second.await.unwrap().unwrap();
    settle().await;
    assert!(!third.is_finished());
    locks.leave(Owner(2));
    third.await.unwrap().unwrap();
    assert_eq!(locks.len(), 1);
    locks.leave(Owner(3));
    assert!(locks.is_empty());
}

#[tokio::test]
async fn who_waits_too_long_is_denied_and_leaves_no_trace() {
    let locks = locks(3);
    now(&locks, 1, &["x"]).await.unwrap();
    assert_eq!(now(&locks, 2, &["x"]).await, Err(Denied::TimedOut));
    let third = waits(&locks, 3, "x").await;
    locks.leave(Owner(1));
    third.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_youngest_of_a_circle_is_given_up() {
    // The youngest closes it.
    let held = locks(2);
    now(&held, 1, &["x"]).await.unwrap();
    now(&held, 2, &["y"]).await.unwrap();
    let old = waits(&held, 1, "y").await;
    assert_eq!(now(&held, 2, &["x"]).await, Err(Denied::GivenUp));
    held.leave(Owner(2));
    old.await.unwrap().unwrap();
    // The oldest closes it: the other one is given up, and it goes on at once.
    let held = locks(3);
    now(&held, 1, &["x"]).await.unwrap();
    now(&held, 2, &["y"]).await.unwrap();
    now(&held, 3, &["z"]).await.unwrap();
    let second = waits(&held, 2, "z").await;
    let third = waits(&held, 3, "x").await;
    let first = waits(&held, 1, "y").await;
    assert_eq!(third.await.unwrap(), Err(Denied::GivenUp));
    second.await.unwrap().unwrap();
    held.leave(Owner(2));
    first.await.unwrap().unwrap();
    assert_eq!(now(&held, 3, &["w"]).await, Err(Denied::GivenUp));
}

#[tokio::test]
async fn a_circle_through_a_queue_is_one_too() {
    let locks = locks(3);
    now(&locks, 1, &["x"]).await.unwrap();
    now(&locks, 2, &["y"]).await.unwrap();
    // 2 waits for 1; 3 waits behind 2; 1 asks for what 2 holds.
    let second = waits(&locks, 2, "x").await;
    let third = waits(&locks, 3, "x").await;
    now(&locks, 1, &["y"]).await.unwrap();
    assert_eq!(second.await.unwrap(), Err(Denied::GivenUp));
    locks.leave(Owner(1));
    third.await.unwrap().unwrap();
}

#[tokio::test]
async fn two_requests_of_one_transaction_both_get_what_it_gets() {
    let locks = locks(2);
    now(&locks, 1, &["x"]).await.unwrap();
    let a = waits(&locks, 2, "x").await;
    let b = waits(&locks, 2, "x").await;
    locks.leave(Owner(1));
    a.await.unwrap().unwrap();
    b.await.unwrap().unwrap();
    locks.leave(Owner(2));
    assert!(locks.is_empty());
}

#[tokio::test]
async fn a_write_takes_all_its_documents_or_none() {
    let locks = locks(2);
    now(&locks, 1, &["x"]).await.unwrap();
    let write = takes(&locks, 10, &["w", "x", "y"]).await;
    // While it waits, others may have what it does not wait for.
    now(&locks, 2, &["y"]).await.unwrap();
    locks.leave(Owner(1));
    settle().await;
    assert!(!write.is_finished(), "y is another's");
    // It moved on to wait for y, and x is free.
    let other = takes(&locks, 11, &["x"]).await;
    drop(other.await.unwrap().unwrap());
    locks.leave(Owner(2));
    let held = write.await.unwrap().unwrap();
    assert_eq!(locks.len(), 3);
    drop(held);
    assert!(locks.is_empty());
}

#[tokio::test]
async fn a_transaction_waits_for_a_write_and_a_write_for_a_transaction() {
    let locks = locks(1);
    let write = takes(&locks, 10, &["x"]).await.await.unwrap().unwrap();
    let first = waits(&locks, 1, "x").await;
    let behind = takes(&locks, 11, &["x"]).await;
    assert!(!behind.is_finished());
    drop(write);
    first.await.unwrap().unwrap();
    settle().await;
    assert!(!behind.is_finished());
    locks.leave(Owner(1));
    drop(behind.await.unwrap().unwrap());
    assert!(locks.is_empty());
}

#[tokio::test]
async fn requests_that_go_away_hold_nobody_up() {
    let locks = locks(3);
    now(&locks, 1, &["x"]).await.unwrap();
    let gone = waits(&locks, 2, "x").await;
    let write = takes(&locks, 10, &["x", "y"]).await;
    let last = waits(&locks, 3, "x").await;
    gone.abort();
    write.abort();
    settle().await;
    locks.leave(Owner(1));
    last.await.unwrap().unwrap();
    locks.leave(Owner(3));
    assert!(locks.is_empty());
}

#[tokio::test]
async fn a_sealed_transaction_keeps_what_it_has_and_waits_for_nothing() {
    let locks = locks(2);
    now(&locks, 1, &["x"]).await.unwrap();
    now(&locks, 2, &["y"]).await.unwrap();
    let reading = waits(&locks, 2, "x").await;
    locks.seal(Owner(2)).unwrap();
    assert_eq!(reading.await.unwrap(), Err(Denied::GivenUp));
    assert_eq!(now(&locks, 2, &["z"]).await, Err(Denied::GivenUp));
    // It cannot be the victim of a circle any more: it is waited for.
    let first = waits(&locks, 1, "y").await;
    locks.leave(Owner(2));
    first.await.unwrap().unwrap();
    assert_eq!(locks.seal(Owner(2)), Err(Denied::GivenUp));
}

#[test]
fn however_many_wait_a_circle_is_looked_for_once_along_each_queue() {
    const MANY: u64 = 30_000;
    let (x, own) = (place("x"), |i: u64| place(&format!("own{i}")));
    let waits = |state: &mut State, owner: u64, place: &Place| {
        let (ticket, _) = state.queue(Owner(owner), place, Arc::default());
        let holder = state.transactions.get_mut(&Owner(owner)).unwrap();
        holder.waits.push((ticket, place.clone()));
    };
    // All but the last stand in one queue; each of them holds a document of its own.
    let queued = locks(MANY + 1);
    {
        let mut state = queued.state();
        state.give(Owner(MANY), &x);
        for i in 1..MANY {
            state.give(Owner(i), &own(i));
            waits(&mut state, i, &x);
        }
        state.give(Owner(MANY + 1), &own(MANY + 1));
        let found = state.youngest_in_circle(Owner(MANY + 1), &own(MANY - 1));
        assert_eq!(found, None, "nobody waits for it");
        let found = state.youngest_in_circle(Owner(MANY), &own(MANY - 1));
        assert_eq!(found, Some(Owner(MANY)), "two wait for each other");
        let found = state.youngest_in_circle(Owner(2), &own(3));
        assert_eq!(found, Some(Owner(3)), "who stands behind waits, too");
    }
    // Each waits for the next one's document.
    let chained = locks(MANY);
    let mut state = chained.state();
    for i in 1..=MANY {
        state.give(Owner(i), &own(i));
    }
    for i in 1..MANY {
        waits(&mut state, i, &own(i + 1));
    }
    let found = state.youngest_in_circle(Owner(MANY), &own(1));
    assert_eq!(found, Some(Owner(MANY)));
    state.end(Owner(MANY / 2));
    assert_eq!(state.youngest_in_circle(Owner(MANY), &own(1)), None);
}

/// Many transactions and writes at random: never two owners of one document, everybody ends, nothing is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
// tidy: long because it is one random walk.
async fn random_locking_ends_and_excludes() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let locks = Arc::new(Locks::default());
    let owners: Arc<Vec<AtomicU64>> = Arc::new((0..6).map(|_| AtomicU64::new(0)).collect());
    let mut tasks = Vec::new();
    for task in 0..16_u64 {
        let (locks, owners) = (locks.clone(), owners.clone());
        tasks.push(tokio::spawn(async move {
            let mut bits = task.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            let mut random = move |below: u64| {
                bits ^= bits << 13;
                bits ^= bits >> 7;
                bits ^= bits << 17;
                bits % below
            };
            let mut given_up = 0;
            for round in 0..300_u64 {
                let serial = task * 1000 + round + 1;
                let wanted: Vec<usize> = (0..=random(3)).map(|_| random(6) as usize).collect();
                let enter = |own: &[usize]| {
                    for at in own {
                        let was = owners[*at].swap(serial, Ordering::SeqCst);
                        assert!(was == 0 || was == serial, "two have one document");
                    }
                };
                let exit = |own: &[usize]| {
                    for at in own {
                        owners[*at].store(0, Ordering::SeqCst);
                    }
                };
                if random(2) == 0 {
                    let mut names: Vec<usize> = wanted.clone();
                    names.sort_unstable();
                    names.dedup();
                    let places: Vec<Place> =
                        names.iter().map(|at| place(&at.to_string())).collect();
                    let held = locks.take(Owner(serial), &places, LONG).await.unwrap();
                    enter(&names);
                    tokio::task::yield_now().await;
                    exit(&names);
                    drop(held);
                    continue;
                }
                locks.enter(Owner(serial), serial);
                let mut own = Vec::new();
                for at in wanted {
                    match locks
                        .lock(Owner(serial), &[place(&at.to_string())], LONG)
                        .await
                    {
                        Ok(()) => own.push(at),
                        Err(denied) => {
                            assert_eq!(denied, Denied::GivenUp);
                            given_up += 1;
                            break;
                        }
                    }
                    tokio::task::yield_now().await;
                }
                // Only who is sealed is sure of what it has.
                if locks.seal(Owner(serial)).is_ok() {
                    enter(&own);
                    tokio::task::yield_now().await;
                    exit(&own);
                }
                locks.leave(Owner(serial));
            }
            given_up
        }));
    }
    let mut given_up = 0;
    for task in tasks {
        given_up += task.await.unwrap();
    }
    assert!(given_up > 0, "no circle was ever met");
    assert!(locks.is_empty());
    assert!(locks.state().transactions.is_empty());
}
