//! Checks written in Rust.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use whimbrel_model::check::{Check, CheckKind, CustomCheck, Found};
use whimbrel_model::finding::Severity;
use whimbrel_model::{Code, DocError, Draft, Key, Value};

use super::project::{On, Project, failing};

/// Every conversation has a title, and there are not more than `most` tokens in all.
struct Tokens {
    most: u64,
    seen: AtomicU64,
}

#[async_trait]
impl CustomCheck for Tokens {
    fn kind(&self) -> &str {
        "tokens"
    }

    async fn page(&self, documents: &mut [(Key, Draft)]) -> Result<Vec<Found>, DocError> {
        let mut found = Vec::new();
        for (key, doc) in documents {
            match doc.get("tokens")? {
                Some(Value::Int(n)) => {
                    self.seen.fetch_add(n.unsigned_abs(), Ordering::SeqCst);
                }
                Some(_) => {
                    return Err(DocError::new(Code::CheckImpossible, "tokens are no number"));
                }
                None => {}
            }
            if !doc.contains("title") {
                found.push(
                    Found::at(key, "no title")
                        .in_field("title")
                        .with_detail("d"),
                );
            }
            doc.remove("title");
        }
        Ok(found)
    }

    async fn finish(&self) -> Result<Vec<Found>, DocError> {
        let over = self.seen.load(Ordering::SeqCst) > self.most;
        Ok(over
            .then(|| Found::in_all("too many tokens"))
            .into_iter()
            .collect())
    }
}

/// One that panics.
struct Broken;

#[async_trait]
impl CustomCheck for Broken {
    async fn page(&self, _documents: &mut [(Key, Draft)]) -> Result<Vec<Found>, DocError> {
        panic!("planted")
    }
}

fn tokens(most: u64) -> Check {
    let seen = AtomicU64::new(0);
    let kind = CheckKind::Custom(Arc::new(Tokens { most, seen }));
    Check::new("tokens", "app/docs", kind)
}

#[tokio::test(flavor = "multi_thread")]
async fn they_see_every_document_once() {
    let project = Project::new(On::Sqlite).await;
    let docs = (0..5000).map(|i| {
        let title = if i == 4321 { "" } else { r#", "title": "t""# };
        (
            Key::text(format!("k{i:05}")),
            format!(r#"{{"tokens": 2{title}}}"#),
        )
    });
    project.put_keys("app/docs", docs.collect()).await;
    let mut warning = tokens(9_999);
    warning.severity = Severity::Warning;
    let broken = Check::new("broken", "app/docs", CheckKind::Custom(Arc::new(Broken)));
    let mut titles =
        project.load("[[check]]\nname = \"t\"\ncollection = \"app/docs\"\nrequired = [\"title\"]");
    let checks = vec![tokens(10_000), warning, broken, titles.remove(0)];
    let results = project.run(checks, project.options()).await.results;
    assert_eq!(failing(&results[0]), ["k04321 title"]);
    assert_eq!(
        (results[0].kind.as_str(), results[0].looked_at),
        ("tokens", 5000)
    );
    assert_eq!(failing(&results[1]), ["- -", "k04321 title"]);
    assert_eq!(results[1].severity, Severity::Warning);
    let (code, message) = results[2].error.clone().unwrap();
    assert_eq!(code, Code::CheckImpossible);
    assert!(message.contains("panicked"), "{message}");
    // What a custom check does to a document reaches no other check.
    assert_eq!(failing(&results[3]), ["k04321 title"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_be_done_says_so() {
    let project = Project::new(On::Memory).await;
    project
        .put("app/docs", &[("a", r#"{"tokens": "many"}"#)])
        .await;
    let results = project
        .run(vec![tokens(5)], project.options())
        .await
        .results;
    assert_eq!(
        results[0].error,
        Some((Code::CheckImpossible, "tokens are no number".to_owned()))
    );
    assert!(!results[0].passed);
}
