//! Appending, reading, and noticing every change behind the ledger's back.

use crate::fixture::{Place, RUN, at, chunk, filled, fold, following, item, on_both, started};
use std::sync::Arc;
use whimbrel_model::ledger::Filed;
use whimbrel_model::ledger::{FoldError, NO_HASH, Record};
use whimbrel_model::{Code, Journal, JournalError};

on_both!(
    what_is_appended_is_read_in_pages,
    two_writers_race_and_one_wins,
    a_batch_is_all_or_nothing,
    every_column_is_covered_by_the_chain,
    unknown_fields_are_ignored_and_unknown_entries_refused,
    a_hundred_thousand_records_fold,
);

async fn what_is_appended_is_read_in_pages(place: Place) {
    let (journal, fence) = filled(&place, 9).await;
    let all = journal.read(0, 100).await.unwrap();
    assert_eq!(all.len(), 10);
    let mut paged = Vec::new();
    loop {
        let page = journal.read(paged.len() as u64, 3).await.unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 3);
        paged.extend(page);
    }
    assert_eq!(paged, all);
    drop(journal);

    let again = place.open().await;
    assert_eq!(again.read(0, 100).await.unwrap(), all);
    let state = fold(again.as_ref()).await.unwrap();
    assert_eq!(state.runs[RUN].counts.written, 9);
    let next = following(again.as_ref(), fence, vec![chunk(RUN, 10)]).await;
    again.append(fence, &next, Filed::default()).await.unwrap();
    assert_eq!(again.read(10, 5).await.unwrap(), next);
}

async fn two_writers_race_and_one_wins(place: Place) {
    let (journal, fence) = filled(&place, 1).await;
    let mut attempts = Vec::new();
    for n in 0..8 {
        let journal = place.open().await;
        let records = following(journal.as_ref(), fence, vec![chunk(RUN, 100 + n)]).await;
        attempts.push((journal, records));
    }
    let race = |(journal, records): (Arc<dyn Journal>, Vec<Record>)| {
        tokio::spawn(async move { journal.append(fence, &records, Filed::default()).await })
    };
    let writers: Vec<_> = attempts.into_iter().map(race).collect();
    let mut won = 0;
    for writer in writers {
        match writer.await.unwrap() {
            Ok(()) => won += 1,
            Err(JournalError::Moved { head: 3 }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(won, 1);
    assert_eq!(fold(journal.as_ref()).await.unwrap().seq, 3);
}

async fn a_batch_is_all_or_nothing(place: Place) {
    let (journal, fence) = filled(&place, 1).await;
    let good = following(journal.as_ref(), fence, vec![chunk(RUN, 2), chunk(RUN, 3)]).await;
    let mut gap = good.clone();
    gap.remove(0);
    let mut torn = good.clone();
    torn[1] = Record::following((3, NO_HASH), at(9), fence, chunk(RUN, 3));
    let other_fence = vec![Record::following(
        (2, &good[0].previous),
        at(9),
        fence + 1,
        chunk(RUN, 2),
    )];
    for (batch, moved) in [(gap, true), (torn, false), (other_fence, false)] {
        let error = journal
            .append(fence, &batch, Filed::from(&[item("k")]))
            .await
            .unwrap_err();
        assert_eq!(
            matches!(error, JournalError::Moved { head: 2 }),
            moved,
            "{error}"
        );
    }
    assert_eq!(fold(journal.as_ref()).await.unwrap().seq, 2);
    assert!(journal.quarantined(None, None, 9).await.unwrap().is_empty());
    journal
        .append(fence, &good, Filed::from(&[item("k")]))
        .await
        .unwrap();
    assert_eq!(fold(journal.as_ref()).await.unwrap().seq, 4);
    // Documents alone may be filed without a record.
    journal
        .append(fence, &[], Filed::from(&[item("l")]))
        .await
        .unwrap();
    assert_eq!(journal.quarantined(None, None, 9).await.unwrap().len(), 2);
}

async fn every_column_is_covered_by_the_chain(place: Place) {
    let (journal, _) = filled(&place, 4).await;
    let whole = fold(journal.as_ref()).await.unwrap();
    let zeros = format!("'{NO_HASH}'");
    let flips = [
        ("seq", "seq + 100"),
        ("at", "replace(at, 'Z', '1Z')"),
        ("fence", "fence + 1"),
        ("previous", "'1' || substr(previous, 2)"),
        ("previous", "upper(previous) || ' '"),
        ("hash", zeros.as_str()),
        (
            "entry",
            "replace(entry, '\"partition\":0', '\"partition\":1')",
        ),
        ("entry", "replace(entry, '\"to\":3', '\"to\":4')"),
        ("entry", "entry || ' '"),
    ];
    for (column, flipped) in flips {
        for seq in [1, 3, 5] {
            let changes = match (column, flipped) {
                ("entry", f) if f.contains("partition") => seq > 1,
                ("entry", f) if f.contains("to") => seq == 1,
                _ => true,
            };
            if !changes {
                continue;
            }
            place
                .sql("DROP TABLE IF EXISTS @.kept; CREATE TABLE @.kept AS SELECT * FROM @.record")
                .await;
            place
                .sql(&format!(
                    "UPDATE @.record SET {column} = {flipped} WHERE seq = {seq}"
                ))
                .await;
            let error = fold(place.open().await.as_ref()).await.expect_err(column);
            assert!(
                matches!(error, JournalError::Fold(FoldError::Chain { .. })),
                "{column} = {flipped} of {seq}: {error}"
            );
            assert_eq!(error.code(), Code::LedgerBroken);
            place
                .sql("DELETE FROM @.record; INSERT INTO @.record SELECT * FROM @.kept")
                .await;
            assert_eq!(fold(journal.as_ref()).await.unwrap(), whole);
        }
    }
    place.sql("DELETE FROM @.record WHERE seq = 3").await;
    assert!(fold(journal.as_ref()).await.is_err(), "a missing record");
    place
        .sql("INSERT INTO @.record SELECT * FROM @.kept WHERE seq = 3")
        .await;
    place
        .sql("UPDATE @.record SET entry = (SELECT entry FROM @.kept WHERE seq = 3) WHERE seq = 4")
        .await;
    assert!(
        fold(journal.as_ref()).await.is_err(),
        "an entry of another record"
    );
}

/// The chain's hash, computed here a second time: other versions of the program rely on it.
fn hash(previous: &str, seq: u64, at: &str, fence: u64, entry: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [previous, &seq.to_string(), at, &fence.to_string(), entry] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

async fn put_raw(place: &Place, last: &Record, entry: &str) -> (u64, String) {
    let (seq, at) = (last.seq + 1, "2030-01-01T00:00:00Z");
    let hash = hash(&last.hash, seq, at, 1, entry);
    let (previous, entry) = (&last.hash, entry.replace('\'', "''"));
    place
        .sql(&format!(
            "INSERT INTO @.record (seq, at, fence, previous, hash, entry)
             VALUES ({seq}, '{at}', 1, '{previous}', '{hash}', '{entry}')"
        ))
        .await;
    (seq, hash)
}

async fn unknown_fields_are_ignored_and_unknown_entries_refused(place: Place) {
    let (journal, fence) = filled(&place, 1).await;
    let last = journal.read(1, 1).await.unwrap().remove(0);
    let newer = r#"{"entry":"chunk_done","run":"20261122-190455-7f3a", "partition":0,"through":7,
        "counts":{"enumerated":1,"written":1,"teleported":4},"last":false,"speed":1.0e2}"#;
    let (seq, hash) = put_raw(&place, &last, newer).await;
    let state = fold(journal.as_ref()).await.unwrap();
    assert_eq!((state.seq, &state.hash), (seq, &hash));
    assert_eq!(state.runs[RUN].counts.written, 2);
    // This program goes on behind what it does not fully know.
    let next = following(journal.as_ref(), fence, vec![chunk(RUN, 8)]).await;
    journal
        .append(fence, &next, Filed::default())
        .await
        .unwrap();
    fold(journal.as_ref()).await.unwrap();

    let unknown = r#"{"entry":"run_teleported","run":"20261122-190455-7f3a"}"#;
    put_raw(&place, &next[0], unknown).await;
    let error = fold(journal.as_ref()).await.unwrap_err();
    assert!(
        matches!(&error, JournalError::Fold(FoldError::Newer { seq: 5, .. })),
        "{error}"
    );
    assert_eq!(error.code(), Code::LedgerNewer);
    let text = error.to_string();
    assert!(
        text.contains("run_teleported") && text.contains("newer program"),
        "{text}"
    );
}

async fn a_hundred_thousand_records_fold(place: Place) {
    let (journal, fence) = filled(&place, 0).await;
    let mut last = journal.read(0, 1).await.unwrap().remove(0);
    let begun = std::time::Instant::now();
    for batch in 0..20 {
        let records: Vec<Record> = (0..5000)
            .map(|n| {
                let entry = if n == 0 {
                    started(&format!("run {batch}"))
                } else {
                    chunk(RUN, n)
                };
                last = Record::following((last.seq, &last.hash), at(n), fence, entry);
                last.clone()
            })
            .collect();
        journal
            .append(fence, &records, Filed::default())
            .await
            .unwrap();
    }
    let written = begun.elapsed();
    let begun = std::time::Instant::now();
    let state = fold(journal.as_ref()).await.unwrap();
    eprintln!(
        "{}: 100,000 records written in {written:?}, folded in {:?}",
        journal.name(),
        begun.elapsed()
    );
    assert_eq!((state.seq, state.order.len()), (100_001, 21));
}
