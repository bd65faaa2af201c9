//! Documents that wait.

use crate::fixture::{Place, SUBJECT, filled, item, on_both};
use whimbrel_model::ledger::Filed;
use whimbrel_model::ledger::QuarantineItem;
use whimbrel_model::{Code, DocError, Journal};

on_both!(
    an_item_filed_again_is_replaced_and_counted,
    waiting_documents_are_paged_by_subject,
    hostile_labels_are_told_apart,
    released_documents_are_gone,
);

async fn an_item_filed_again_is_replaced_and_counted(place: Place) {
    let (journal, fence) = filled(&place, 1).await;
    journal
        .append(fence, &[], Filed::from(&[item("a"), item("b")]))
        .await
        .unwrap();
    let first = journal.quarantined(None, None, 9).await.unwrap();
    assert_eq!(
        first.iter().map(|(_, i)| i.clone()).collect::<Vec<_>>(),
        [item("a"), item("b")]
    );
    let again = QuarantineItem {
        error: DocError::new(Code::DocInvalid, "it still fails"),
        run: "another run".to_owned(),
        attempts: 7,
        ..item("a")
    };
    journal
        .append(fence, &[], Filed::from(std::slice::from_ref(&again)))
        .await
        .unwrap();
    journal
        .append(fence, &[], Filed::from(&[again.clone(), again.clone()]))
        .await
        .unwrap();
    let second = journal.quarantined(None, None, 9).await.unwrap();
    assert_eq!(second.len(), 2);
    assert_eq!(
        second[0],
        (
            first[0].0,
            QuarantineItem {
                attempts: 4,
                ..again
            }
        )
    );
    assert_eq!(second[1], first[1]);
}

async fn waiting_documents_are_paged_by_subject(place: Place) {
    let (journal, fence) = filled(&place, 1).await;
    let items: Vec<QuarantineItem> = (0..25)
        .map(|n| QuarantineItem {
            subject: if n % 5 == 0 {
                "copy a b".to_owned()
            } else {
                SUBJECT.to_owned()
            },
            ..item(&format!("k{n}"))
        })
        .collect();
    journal
        .append(fence, &[], Filed::from(&items))
        .await
        .unwrap();
    for (subject, expect) in [
        (None, 25),
        (Some(SUBJECT), 20),
        (Some("copy a b"), 5),
        (Some("x"), 0),
    ] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = journal.quarantined(subject, after, 4).await.unwrap();
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            found.extend(page.into_iter().map(|(_, item)| item));
        }
        let wanted: Vec<_> = items
            .iter()
            .filter(|i| subject.is_none_or(|s| s == i.subject))
            .cloned()
            .collect();
        assert_eq!(found.len(), expect);
        assert_eq!(found, wanted);
    }
}

fn hostile() -> Vec<String> {
    let long = "x".repeat(5000);
    vec![
        String::new(),
        "a\u{0}b".to_owned(),
        "a\u{0}c".to_owned(),
        "'; DROP TABLE record; --".to_owned(),
        format!("{long}1"),
        format!("{long}2"),
        "ü\u{202e}💥".to_owned(),
    ]
}

async fn hostile_labels_are_told_apart(place: Place) {
    let (journal, fence) = filled(&place, 1).await;
    let items: Vec<_> = hostile().iter().map(|label| item(label)).collect();
    journal
        .append(fence, &[], Filed::from(&items))
        .await
        .unwrap();
    let found = journal.quarantined(None, None, 99).await.unwrap();
    assert_eq!(found.into_iter().map(|(_, i)| i).collect::<Vec<_>>(), items);
    for label in hostile() {
        let labels = std::slice::from_ref(&label);
        assert_eq!(
            release(&*journal, fence, SUBJECT, labels).await,
            1,
            "{label:?}"
        );
    }
    assert!(
        journal
            .quarantined(None, None, 99)
            .await
            .unwrap()
            .is_empty()
    );
}

/// Takes documents out of quarantine. How many were in it.
async fn release(journal: &dyn Journal, fence: u64, subject: &str, labels: &[String]) -> usize {
    let waiting = journal.waiting(subject, labels).await.unwrap();
    let filed = Filed {
        released: Some((subject, labels)),
        ..Filed::default()
    };
    journal.append(fence, &[], filed).await.unwrap();
    waiting.len()
}

async fn released_documents_are_gone(place: Place) {
    let (journal, fence) = filled(&place, 1).await;
    let items: Vec<_> = ["a", "b", "c"].map(item).to_vec();
    journal
        .append(fence, &[], Filed::from(&items))
        .await
        .unwrap();
    let labels = ["a", "c", "never there"].map(str::to_owned);
    assert_eq!(
        release(&*journal, fence, "another subject", &labels).await,
        0
    );
    assert_eq!(release(&*journal, fence, SUBJECT, &labels).await, 2);
    assert_eq!(release(&*journal, fence, SUBJECT, &labels).await, 0);
    let left = journal.quarantined(None, None, 9).await.unwrap();
    assert_eq!(
        left.into_iter().map(|(_, i)| i.label).collect::<Vec<_>>(),
        ["b"]
    );
    // Filed anew it begins at one attempt again.
    journal
        .append(fence, &[], Filed::from(&[item("a")]))
        .await
        .unwrap();
    assert_eq!(
        journal.quarantined(None, None, 9).await.unwrap()[1]
            .1
            .attempts,
        1
    );
}
