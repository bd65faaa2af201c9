//! A check written in Rust, beside one of the kinds that files have.
//!
//! ```console
//! $ cargo run -p whimbrel-engine --example checks
//! ```

use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use whimbrel_engine::{ChecksJob, ChecksOptions, Engine, Place, PreparedCheck, SystemClock};
use whimbrel_model::check::{Check, CheckKind, CustomCheck, FieldTest, Found};
use whimbrel_model::rule::FieldPath;
use whimbrel_model::{Body, DocError, Draft, Guard, Key, KeyKind, Store, Value, Write};
use whimbrel_stores::{OpenOptions, open};

struct TokenBudget {
    most: i64,
}

#[async_trait]
impl CustomCheck for TokenBudget {
    async fn page(&self, documents: &mut [(Key, Draft)]) -> Result<Vec<Found>, DocError> {
        let mut found = Vec::new();
        for (key, doc) in documents {
            if let Some(Value::Int(tokens)) = doc.get("tokens")?
                && *tokens > self.most
            {
                found.push(Found::at(key, "more tokens than the budget allows").in_field("tokens"));
            }
        }
        Ok(found)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let app = open("memory:", &OpenOptions::default()).await?;
    put_some_chats(&app).await?;
    let place = Place {
        store: app,
        store_name: "app".into(),
        collection: "chats".into(),
    };
    let budget = CheckKind::Custom(Arc::new(TokenBudget { most: 8000 }));
    let title = FieldPath::from_names(vec!["title".into()]).ok_or("a path has a name")?;
    let titled = CheckKind::Fields {
        word: "required",
        tests: vec![(title, FieldTest::Required)],
    };
    let checks = [("token budget", budget), ("chats have a title", titled)]
        .map(|(name, kind)| Check::new(name, "app/chats", kind))
        .map(|check| PreparedCheck::new(check, place.clone()));

    // Takes what does not fit into memory; for large collections `sqlite:` and a temporary file.
    let scratch = open("memory:", &OpenOptions::default()).await?;
    let engine = Engine::without_ledger(Arc::new(SystemClock));
    let job = ChecksJob {
        checks: checks.to_vec(),
        options: ChecksOptions::new(scratch),
    };
    for result in engine.check(job).await.results {
        println!(
            "{}: {} of {} failed",
            result.name, result.failed, result.looked_at
        );
        for example in result.examples {
            println!("  {}: {}", example.key.unwrap_or_default(), example.message);
        }
    }
    Ok(())
}

async fn put_some_chats(app: &Arc<dyn Store>) -> Result<(), Box<dyn Error>> {
    app.ensure("chats", &KeyKind::Text).await?;
    let writes: Vec<Write> = (0..1000)
        .map(|i| Write {
            collection: "chats".into(),
            key: Key::text(format!("chat-{i:04}")),
            to: Some(Body::from_json(format!(
                r#"{{"title":"chat {i}","tokens":{}}}"#,
                i * 9
            ))),
            guard: Guard::Absent,
        })
        .collect();
    app.write(&writes).await?;
    Ok(())
}
