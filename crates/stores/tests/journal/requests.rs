//! What is asked of the process that holds the lease, and ledgers that are older than such requests.

use crate::fixture::{Place, RUN, filled, on_both};
use whimbrel_model::ledger::{PreimageBlock, Request};
use whimbrel_model::{Journal, Key, Timestamp};
use whimbrel_stores::journal;

on_both!(
    requests_need_no_lease_and_wait_for_its_holder,
    a_request_is_written_while_the_ledger_is_busy,
    an_older_ledger_is_read_as_it_is_and_grows_when_written,
);

fn request(what: &str) -> Request {
    Request {
        id: 0,
        what: what.to_owned(),
        subject: "0001_move".to_owned(),
        by: "ann@host".to_owned(),
        detail: "a \"reason\"\0".to_owned(),
        at: String::new(),
    }
}

async fn requests_need_no_lease_and_wait_for_its_holder(place: Place) {
    let (holder, fence) = filled(&place, 1).await;
    assert_eq!(holder.requests().await.unwrap(), []);
    let other = place.open().await;
    let mut ids = Vec::new();
    for what in ["pause", "resume", "abort"] {
        ids.push(other.ask(&request(what)).await.unwrap());
    }
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    let waiting = holder.requests().await.unwrap();
    for (found, what) in waiting.iter().zip(["pause", "resume", "abort"]) {
        assert!(Timestamp::parse(&found.at).is_some(), "{}", found.at);
        let expect = Request {
            id: found.id,
            at: found.at.clone(),
            ..request(what)
        };
        assert_eq!(*found, expect);
    }
    assert_eq!(waiting.iter().map(|r| r.id).collect::<Vec<_>>(), ids);
    holder.settle_request(fence, ids[1]).await.unwrap();
    holder.settle_request(fence, ids[1]).await.unwrap();
    let left = other.requests().await.unwrap();
    assert_eq!(
        left.iter().map(|r| r.id).collect::<Vec<_>>(),
        [ids[0], ids[2]]
    );
    // A number never comes back, not even that of the last one.
    holder.settle_request(fence, ids[2]).await.unwrap();
    assert!(other.ask(&request("abort")).await.unwrap() > ids[2]);
    let reader = journal::open_existing(&place.url()).await.unwrap().unwrap();
    assert_eq!(reader.requests().await.unwrap().len(), 2);
    assert!(reader.ask(&request("pause")).await.is_err());
}

/// The holder writes blocks all the time.
async fn a_request_is_written_while_the_ledger_is_busy(place: Place) {
    let (holder, fence) = filled(&place, 1).await;
    let other = place.open().await;
    let writing = tokio::spawn(async move {
        for n in 0..40 {
            holder.put_preimages(fence, &block("app/a", n)).await?;
        }
        Ok::<_, whimbrel_model::JournalError>(())
    });
    let mut asked = 0;
    while !writing.is_finished() || asked == 0 {
        other.ask(&request("pause")).await.unwrap();
        asked += 1;
    }
    writing.await.unwrap().unwrap();
    assert_eq!(other.requests().await.unwrap().len(), asked);
}

/// Puts the key 7 of the block that was there before into the index.
async fn index_old_key(place: &Place) {
    let bytes = "018000000000000007";
    let bytes = match place {
        Place::Sqlite(_) => format!("X'{bytes}'"),
        Place::Postgres { .. } => format!("'\\x{bytes}'"),
    };
    let row =
        format!("INSERT INTO @.preimage_key (subject, key, block, idx) VALUES (2, {bytes}, 1, 0)");
    place.sql(&row).await;
    if let Place::Sqlite(_) = place {
        place.sql("UPDATE preimage_block SET data = X'78'").await;
    }
}

fn block(subject: &str, n: i64) -> PreimageBlock {
    PreimageBlock {
        run: RUN.to_owned(),
        subject: subject.to_owned(),
        keys: vec![Key::Int(n)],
        data: vec![7; 100_000],
    }
}

async fn an_older_ledger_is_read_as_it_is_and_grows_when_written(place: Place) {
    let (journal, fence) = filled(&place, 1).await;
    drop(journal);
    place
        .sql(
            "DROP TABLE @.request; DROP INDEX @.preimage_block_run;
             DROP TABLE IF EXISTS @.preimage_index;
             ALTER TABLE @.preimage_block DROP COLUMN keys;
             INSERT INTO @.preimage_name (name) VALUES ('old'), ('app/a');
             INSERT INTO @.preimage_block (run, subject, data) VALUES (1, 2, 'x');",
        )
        .await;
    index_old_key(&place).await;
    let reader = journal::open_existing(&place.url()).await.unwrap().unwrap();
    let asked = [Key::Int(7), Key::Int(4)];
    let found = async |journal: &dyn Journal| {
        let hits = journal.preimages("app/a", &asked).await.unwrap();
        hits.iter().map(Vec::len).collect::<Vec<_>>()
    };
    assert_eq!(found(reader.as_ref()).await, [1, 0]);
    assert_eq!(reader.requests().await.unwrap(), []);
    assert_eq!(reader.read(0, 10).await.unwrap().len(), 2);
    let opening = (0..4).map(|_| {
        let url = place.url();
        tokio::spawn(async move {
            journal::open(&url)
                .await
                .map(|j| j as std::sync::Arc<dyn Journal>)
        })
    });
    let mut opened = Vec::new();
    for one in opening.collect::<Vec<_>>() {
        opened.push(one.await.unwrap().unwrap());
    }
    opened[3].ask(&request("pause")).await.unwrap();
    assert_eq!(reader.requests().await.unwrap().len(), 1);
    opened[0]
        .put_preimages(fence, &block("app/a", 4))
        .await
        .unwrap();
    for journal in [&reader, &opened[0], &opened[1]] {
        assert_eq!(found(journal.as_ref()).await, [1, 1]);
    }
    let blocks = opened[1].blocks_of(RUN, None, 9).await.unwrap();
    assert_eq!(blocks.len(), 1);
    let error = opened[1].blocks_of("old", None, 9).await.unwrap_err();
    assert!(error.to_string().contains("an older program"), "{error}");
}
