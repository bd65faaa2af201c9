//! The faulty store keeps to what a store may do when it fails.

use std::sync::Arc;
use whimbrel_model::{Body, Guard, Key, KeyKind, Store, StoreErrorKind, Write, WriteOutcome};
use whimbrel_stores::OpenOptions;
use whimbrel_testkit::crashing::Moment;
use whimbrel_testkit::faulty::{Faults, FaultyStore};

fn put(key: i64) -> Write {
    Write {
        collection: "c".into(),
        key: Key::Int(key),
        to: Some(Body::from_json(format!("{{\"n\":{key}}}"))),
        guard: Guard::Absent,
    }
}

async fn memory() -> Arc<dyn Store> {
    let store = whimbrel_stores::open("memory:", &OpenOptions::default())
        .await
        .unwrap();
    store.ensure("c", &KeyKind::Int).await.unwrap();
    store
}

/// What became of 200 writes: `T`ransient, unknown but `L`anded, unknown and `N`ot, or `A`pplied.
async fn story(seed: u64) -> String {
    let inner = memory().await;
    let faults = Faults {
        seed,
        transient: 0.2,
        unknown: 0.3,
    };
    let store = FaultyStore::new(inner.clone()).with_faults(faults);
    let mut story = String::new();
    for key in 0..200 {
        let answer = store.write(&[put(key)]).await;
        let there = inner.get("c", &[Key::Int(key)]).await.unwrap()[0].is_some();
        story.push(match answer.map_err(|e| e.kind) {
            Ok(outcomes) => {
                assert!(there && outcomes == [WriteOutcome::Applied]);
                'A'
            }
            Err(StoreErrorKind::Transient) => {
                assert!(!there, "seed {seed}: a transient failure wrote");
                'T'
            }
            Err(_) => {
                if there {
                    'L'
                } else {
                    'N'
                }
            }
        });
    }
    let failed = story.chars().filter(|c| *c != 'A').count();
    assert_eq!(store.failed(), failed as u64);
    story
}

#[tokio::test]
async fn a_seed_tells_one_story() {
    let told = story(7).await;
    assert_eq!(told, story(7).await);
    assert_ne!(told, story(8).await);
    for (what, least) in [('A', 60), ('T', 20), ('L', 15), ('N', 15)] {
        let seen = told.chars().filter(|c| *c == what).count();
        assert!(seen >= least, "{what}: {seen} in {told}");
    }
}

#[tokio::test]
async fn hooks_stand_on_both_sides_of_a_write() {
    let inner = memory().await;
    let fails = |at: Moment| {
        let store = FaultyStore::new(inner.clone()).on_write(move |n, moment| {
            if n == 2 && moment == at {
                let kind = StoreErrorKind::Unknown;
                let code = whimbrel_model::Code::StoreUnknown;
                return Err(whimbrel_model::StoreError::new(
                    kind, code, "test", "cut off",
                ));
            }
            Ok(())
        });
        assert_eq!(store.failed(), 0);
        store
    };
    for (at, first) in [(Moment::Before, 0), (Moment::After, 10)] {
        let store = fails(at);
        assert!(store.write(&[put(first)]).await.is_ok());
        assert!(store.write(&[put(first + 1)]).await.is_err());
        assert!(store.write(&[put(first + 2)]).await.is_ok());
        let there = inner.get("c", &[Key::Int(first + 1)]).await.unwrap()[0].is_some();
        assert_eq!(there, at == Moment::After);
    }
}
