//! Pre-images go in as documents and come out as the same documents.

use crate::{RUN, folder, ledger_in};
use bytes::Bytes;
use whimbrel_engine::Ledger;
use whimbrel_engine::ledger::{PreimageEntry, StoredPreimage};
use whimbrel_model::ledger::PreimageBlock;
use whimbrel_model::{Code, Fingerprint, Key};

const SUBJECT: &str = "app/conversations";

fn entry(n: i64, before: &str) -> PreimageEntry {
    PreimageEntry {
        key: Key::text(format!("c{n:06}")),
        before: Bytes::copy_from_slice(before.as_bytes()),
        from: 1,
        to: 3,
        after: Fingerprint(u128::from(n.unsigned_abs()) << 70 | 1),
    }
}

fn document(n: i64) -> String {
    format!(
        r#"{{"id":{n},"title":"conversation {n}","text":"{}"}}"#,
        "lorem ipsum ".repeat(90)
    )
}

async fn found(ledger: &Ledger, key: &str) -> Vec<StoredPreimage> {
    ledger
        .preimages(SUBJECT, &[Key::text(key)])
        .await
        .unwrap()
        .remove(0)
}

#[tokio::test]
async fn every_document_comes_back_from_many_blocks() {
    let folder = folder();
    let ledger = ledger_in(&folder).await;
    let lease = ledger.lock("test").await.unwrap();
    let entries: Vec<_> = (0..6000).map(|n| entry(n, &document(n))).collect();
    ledger
        .put_preimages(lease.fence(), RUN, SUBJECT, entries.clone())
        .await
        .unwrap();
    for reader in [ledger, ledger_in(&folder).await] {
        let keys: Vec<Key> = entries.iter().rev().map(|e| e.key.clone()).collect();
        let found = reader.preimages(SUBJECT, &keys).await.unwrap();
        let mut blocks = std::collections::BTreeSet::new();
        for (entry, mut hits) in entries.iter().rev().zip(found) {
            assert_eq!(hits.len(), 1);
            let hit = hits.remove(0);
            assert_eq!((hit.run.as_str(), &hit.entry), (RUN, entry));
            blocks.insert(hit.block);
        }
        assert!(blocks.len() > 2, "{blocks:?}");
    }
}

#[tokio::test]
async fn the_newest_comes_first_and_the_older_stay() {
    let folder = folder();
    let ledger = ledger_in(&folder).await;
    let lease = ledger.lock("test").await.unwrap();
    for (run, before) in [("run1", "a"), ("run1", "b"), ("run2", "c")] {
        let entries = vec![entry(1, before), entry(2, "{}")];
        ledger
            .put_preimages(lease.fence(), run, SUBJECT, entries)
            .await
            .unwrap();
    }
    let hits = found(&ledger, "c000001").await;
    let seen: Vec<_> = hits
        .iter()
        .map(|h| (h.run.as_str(), &h.entry.before[..]))
        .collect();
    assert_eq!(seen, [("run2", &b"c"[..]), ("run1", b"b"), ("run1", b"a")]);
    assert!(found(&ledger, "c000003").await.is_empty());
    assert!(
        ledger
            .preimages("app/other", &[Key::text("c000001")])
            .await
            .unwrap()[0]
            .is_empty()
    );
}

#[tokio::test]
async fn a_document_larger_than_a_block_is_kept_whole() {
    let folder = folder();
    let ledger = ledger_in(&folder).await;
    let lease = ledger.lock("test").await.unwrap();
    let large = "x".repeat(9 << 20);
    let entries = vec![entry(1, "{}"), entry(2, &large), entry(3, "{}")];
    ledger
        .put_preimages(lease.fence(), RUN, SUBJECT, entries)
        .await
        .unwrap();
    assert_eq!(
        found(&ledger, "c000002").await[0].entry.before.len(),
        large.len()
    );
    assert_eq!(&found(&ledger, "c000003").await[0].entry.before[..], b"{}");
}

#[tokio::test]
async fn a_damaged_block_is_an_error_that_names_it() {
    let folder = folder();
    let ledger = ledger_in(&folder).await;
    let lease = ledger.lock("test").await.unwrap();
    ledger
        .put_preimages(lease.fence(), RUN, SUBJECT, vec![entry(1, "{}")])
        .await
        .unwrap();
    let good = ledger
        .journal()
        .preimages(SUBJECT, &[Key::text("c000001")])
        .await
        .unwrap();
    let good = good[0][0].data.to_vec();
    let mut newer = good.clone();
    newer[0] = 9;
    for (n, data, keys, expect) in [
        (10, good[..good.len() - 1].to_vec(), 1, "damaged"),
        (11, Vec::new(), 1, "too short"),
        (12, newer, 1, "format 9"),
        (13, good, 2, "no document 1"),
    ] {
        let key = Key::text(format!("c{n:06}"));
        let keys: Vec<Key> = std::iter::repeat_n(Key::text("other"), keys - 1)
            .chain([key.clone()])
            .collect();
        let block = PreimageBlock {
            run: RUN.to_owned(),
            subject: SUBJECT.to_owned(),
            keys,
            data,
        };
        ledger
            .journal()
            .put_preimages(lease.fence(), &block)
            .await
            .unwrap();
        let error = ledger.preimages(SUBJECT, &[key]).await.unwrap_err();
        assert_eq!(error.code(), Code::LedgerFailed);
        assert!(error.to_string().contains(expect), "{error}");
        assert!(error.to_string().contains("pre-image block"), "{error}");
    }
}
