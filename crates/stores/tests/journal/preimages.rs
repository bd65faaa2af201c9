//! What documents were before.

use crate::fixture::{Place, filled, on_both};
use std::collections::HashMap;
use std::time::Instant;
use uuid::Uuid;
use whimbrel_model::ledger::PreimageBlock;
use whimbrel_model::{Journal, Key};
use whimbrel_stores::journal;

on_both!(
    preimages_come_newest_first_and_all_stay,
    keys_of_every_kind_are_told_apart,
    a_large_block_is_put_at_once,
    a_run_s_blocks_are_paged_newest_first,
    keys_are_found_before_and_after_they_are_indexed,
);

fn block(run: &str, subject: &str, keys: &[Key], data: &[u8]) -> PreimageBlock {
    PreimageBlock {
        run: run.to_owned(),
        subject: subject.to_owned(),
        keys: keys.to_vec(),
        data: data.to_vec(),
    }
}

async fn preimages_come_newest_first_and_all_stay(place: Place) {
    let (journal, fence) = filled(&place, 1).await;
    let keys: Vec<Key> = (0..4).map(Key::Int).collect();
    for (run, subject, keys, data) in [
        ("run1", "app/a", &keys[0..3], "first"),
        ("run1", "app/a", &keys[1..2], "the same run again"),
        ("run2", "app/b", &keys[0..1], "another subject"),
        ("run2", "app/a", &keys[1..4], "second"),
    ] {
        journal
            .put_preimages(fence, &block(run, subject, keys, data.as_bytes()))
            .await
            .unwrap();
    }
    let asked = [
        keys[1].clone(),
        Key::Int(9),
        keys[0].clone(),
        keys[3].clone(),
        keys[1].clone(),
    ];
    // A second time, the blocks come from memory.
    for _ in 0..2 {
        let found = journal.preimages("app/a", &asked).await.unwrap();
        let found: Vec<Vec<_>> = found
            .iter()
            .map(|hits| {
                assert!(hits.windows(2).all(|w| w[0].block > w[1].block));
                let text = |h: &whimbrel_model::ledger::PreimageHit| {
                    (
                        h.run.clone(),
                        h.index,
                        String::from_utf8(h.data.to_vec()).unwrap(),
                    )
                };
                hits.iter().map(text).collect()
            })
            .collect();
        let hit = |run: &str, index, data: &str| (run.to_owned(), index, data.to_owned());
        let one = vec![
            hit("run2", 0, "second"),
            hit("run1", 0, "the same run again"),
            hit("run1", 1, "first"),
        ];
        let zero = vec![hit("run1", 0, "first")];
        let three = vec![hit("run2", 2, "second")];
        assert_eq!(found, [one.clone(), vec![], zero, three, one]);
    }
    assert_eq!(
        journal
            .preimages("app/none", &asked)
            .await
            .unwrap()
            .concat()
            .len(),
        0
    );
    let other = place.open().await;
    assert_eq!(
        other.preimages("app/b", &asked[2..3]).await.unwrap()[0].len(),
        1
    );
}

async fn keys_of_every_kind_are_told_apart(place: Place) {
    let (journal, fence) = filled(&place, 1).await;
    let long = "k".repeat(5000);
    let keys = vec![
        Key::Int(12),
        Key::Int(-12),
        Key::Int(i64::MIN),
        Key::text("12"),
        Key::text(""),
        Key::text("a\0b"),
        Key::text("a"),
        Key::text(format!("{long}1")),
        Key::text(format!("{long}2")),
        Key::uuid(Uuid::from_u128(12)),
        Key::Tuple(vec![Key::Int(1), Key::text("2")]),
        Key::Tuple(vec![Key::text("1"), Key::Int(2)]),
        Key::Tuple(vec![]),
    ];
    journal
        .put_preimages(fence, &block("run", "app/a", &keys, b"data"))
        .await
        .unwrap();
    let found = journal.preimages("app/a", &keys).await.unwrap();
    for (place, hits) in found.iter().enumerate() {
        let indexes: Vec<u32> = hits.iter().map(|h| h.index).collect();
        assert_eq!(indexes, [u32::try_from(place).unwrap()], "{}", keys[place]);
    }
}

async fn a_run_s_blocks_are_paged_newest_first(place: Place) {
    let (journal, fence) = filled(&place, 1).await;
    let long = Key::text("k\0".repeat(3000));
    for n in 0..25 {
        let run = if n % 5 == 0 { "another run" } else { "run" };
        let keys = [Key::Int(n), Key::Tuple(vec![long.clone(), Key::Int(n)])];
        let subject = if n % 2 == 0 { "app/a" } else { "app/b" };
        let block = block(run, subject, &keys, n.to_string().as_bytes());
        journal.put_preimages(fence, &block).await.unwrap();
    }
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let page = journal.blocks_of("run", before, 6).await.unwrap();
        let Some((last, _)) = page.last() else { break };
        assert!(page.len() <= 6 && before.is_none_or(|b| page[0].0 < b));
        assert!(page.windows(2).all(|w| w[0].0 > w[1].0));
        before = Some(*last);
        found.extend(page.into_iter().map(|(_, block)| block));
    }
    let wanted: Vec<PreimageBlock> = (0..25)
        .rev()
        .filter(|n| n % 5 != 0)
        .map(|n| {
            let keys = [Key::Int(n), Key::Tuple(vec![long.clone(), Key::Int(n)])];
            let subject = if n % 2 == 0 { "app/a" } else { "app/b" };
            block("run", subject, &keys, n.to_string().as_bytes())
        })
        .collect();
    assert_eq!(found, wanted);
    assert!(
        journal
            .blocks_of("no run", None, 9)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn a_large_block_is_put_at_once(place: Place) {
    let (journal, fence) = filled(&place, 1).await;
    // Bytes that nothing can compress further, as a compressed block's are.
    let mut n = 1_u64;
    let data: Vec<u8> = std::iter::repeat_with(|| {
        n = n
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (n >> 56) as u8
    })
    .take(3 << 20)
    .collect();
    let (mut times, mut all) = (Vec::new(), Vec::new());
    for part in 0..8 {
        let keys: Vec<Key> = (0..10_000)
            .map(|n| Key::text(format!("conversation-{part}-{n:08}")))
            .collect();
        let begun = Instant::now();
        journal
            .put_preimages(fence, &block("run", "app/a", &keys, &data))
            .await
            .unwrap();
        times.push(begun.elapsed());
        all.extend(keys);
    }
    let begun = Instant::now();
    for keys in all.chunks(64) {
        let found = journal.preimages("app/a", keys).await.unwrap();
        assert!(
            found
                .iter()
                .all(|hits| hits.len() == 1 && hits[0].data.len() == data.len())
        );
    }
    times.sort();
    eprintln!(
        "{}: 10,000 keys and 3 MiB put in {:?} (median of 8); 80,000 keys looked up in {:?}",
        journal.name(),
        times[4],
        begun.elapsed()
    );
}

/// More keys than wait for the index at a time, in no order, some of them in several blocks.
async fn keys_are_found_before_and_after_they_are_indexed(place: Place) {
    const BLOCKS: u64 = 130;
    let (journal, fence) = filled(&place, 1).await;
    let reader = journal::open_existing(&place.url()).await.unwrap().unwrap();
    let subject = |n: u64| {
        if n.is_multiple_of(3) {
            "app/a"
        } else {
            "app/b"
        }
    };
    let mut random = 1_u64;
    let mut places: HashMap<(&str, Key), Vec<(u64, u32)>> = HashMap::new();
    let mut blocks = Vec::new();
    for n in 1..=BLOCKS {
        let mut keys: Vec<Key> = Vec::new();
        while keys.len() < 1000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            // One in sixteen is one of few, so that blocks share it.
            let of = if random >> 60 == 0 { 200 } else { 1 << 40 };
            let key = Key::text(format!("c{}", (random >> 20) % of));
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        blocks.push((subject(n), keys));
    }
    let put = async |numbers: std::ops::RangeInclusive<u64>| {
        for n in numbers {
            let (subject, keys) = &blocks[usize::try_from(n - 1).unwrap()];
            let block = block("run", subject, keys, n.to_string().as_bytes());
            journal.put_preimages(fence, &block).await.unwrap();
        }
    };
    let mut check = async |through: u64, journals: &[&dyn Journal]| {
        places.clear();
        for (n, (subject, keys)) in (1..=through).zip(&blocks) {
            for (index, key) in (0..).zip(keys) {
                let found = places.entry((*subject, key.clone())).or_default();
                found.insert(0, (n, index));
            }
        }
        for subject in ["app/a", "app/b"] {
            let keys = places.keys().filter(|(of, _)| *of == subject);
            let mut asked: Vec<Key> = keys.map(|(_, key)| key.clone()).collect();
            asked.sort();
            asked.push(Key::text("nowhere"));
            for journal in journals {
                for asked in asked.chunks(5000) {
                    let found = journal.preimages(subject, asked).await.unwrap();
                    for (key, hits) in asked.iter().zip(found) {
                        let number = |data: &[u8]| std::str::from_utf8(data).unwrap().parse();
                        let hits: Vec<(u64, u32)> = hits
                            .iter()
                            .map(|hit| (number(&hit.data).unwrap(), hit.index))
                            .collect();
                        let expected = places.get(&(subject, key.clone()));
                        assert_eq!(Some(hits).filter(|h| !h.is_empty()).as_ref(), expected);
                    }
                }
            }
        }
    };
    put(1..=20).await;
    check(20, &[reader.as_ref(), journal.as_ref()]).await;
    put(21..=120).await;
    // The reader looks before anything is in the index, and once more when it is.
    let other = place.open().await;
    check(
        120,
        &[
            reader.as_ref(),
            other.as_ref(),
            reader.as_ref(),
            journal.as_ref(),
        ],
    )
    .await;
    put(121..=BLOCKS).await;
    check(BLOCKS, &[journal.as_ref(), reader.as_ref(), other.as_ref()]).await;
    if let Place::Sqlite(folder) = &place {
        let path = folder.path().join("new/ledger.db");
        let ledger = rusqlite::Connection::open(path).unwrap();
        let count = |sql: &str| ledger.query_row(sql, [], |r| r.get::<_, i64>(0)).unwrap();
        let waiting = count("SELECT waiting FROM preimage_index");
        assert!((1..=50_000).contains(&waiting), "{waiting} keys wait");
        assert_eq!(
            count("SELECT count(*) FROM preimage_key") + waiting,
            130_000
        );
    }
}
