//! The library: upgrade a collection in place and copy it, with native Rust closures.
//!
//! Run it: `cargo run -p whimbrel-engine --example library`

use std::error::Error;
use std::sync::Arc;

use whimbrel_engine::{
    Clock, CopyJob, Engine, JobOptions, Ledger, NativeTransform, NativeVersion, Place, SystemClock,
    UpgradeJob,
};
use whimbrel_model::rule::CopyRule;
use whimbrel_model::{
    Body, DocError, Emit, Guard, Key, KeyKind, Map, Schema, Store, TransformInput, Value, Write,
};
use whimbrel_stores::{OpenOptions, open, open_journal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let url = |name: &str| format!("sqlite:{}", dir.path().join(name).display());
    let app = open(&url("app.db"), &OpenOptions::default()).await?;
    let archive = open(&url("archive.db"), &OpenOptions::default()).await?;
    put_some_chats(&app).await?;

    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let journal = open_journal(&url("ledger.db")).await?;
    let engine = Engine::new(
        Arc::new(Ledger::open(journal, Arc::clone(&clock)).await?),
        clock,
    );
    let mut events = engine.subscribe();

    let chats = Place {
        store: Arc::clone(&app),
        store_name: "app".into(),
        collection: "chats".into(),
    };
    let schema = Schema::new(
        "chats",
        "_schemaVersion",
        vec![
            NativeVersion::new("initial").into_version(1, "initial"),
            NativeVersion::new("count the messages")
                .up(|doc, _| {
                    let count = match doc.get("messages").map_err(DocError::from)? {
                        Some(Value::Array(messages)) => messages.len(),
                        _ => 0,
                    };
                    doc.set(
                        "messageCount",
                        Value::Int(i64::try_from(count).unwrap_or(i64::MAX)),
                    );
                    Ok(Map::new())
                })
                .down(|doc, _, _| {
                    doc.remove("messageCount");
                    Ok(())
                })
                .into_version(2, "message_count"),
        ],
    )
    .map_err(|errors| format!("{errors:?}"))?;
    let job = UpgradeJob {
        place: chats.clone(),
        schema,
        to: 2,
        key: None,
        options: JobOptions::default(),
    };
    let upgraded = engine.upgrade(job).await?;
    println!("{}: {:?}", upgraded.title, upgraded.counts);

    let messages = Place {
        store: archive,
        store_name: "archive".into(),
        collection: "messages".into(),
    };
    let copied = engine
        .copy(CopyJob {
            source: chats,
            target: messages,
            rule: one_document_a_message(),
            schema: None,
            scratch: None,
            options: JobOptions::default(),
        })
        .await?;
    println!("{}: {:?}", copied.title, copied.counts);

    while let Ok(event) = events.try_recv() {
        println!("{event:?}");
    }
    Ok(())
}

fn one_document_a_message() -> CopyRule {
    let transform = NativeTransform::new("one document a message", |input, _| {
        let TransformInput::One { key, mut doc } = input else {
            return Ok(Vec::new());
        };
        let Some(Value::Array(messages)) = doc.take("messages").map_err(DocError::from)? else {
            return Ok(Vec::new());
        };
        let emit = |(i, text): (usize, Value)| Emit {
            collection: None,
            key: Some(Key::text(format!("{key}:{i}"))),
            body: Body::Map(Map::from_iter([
                ("chat".to_owned(), Value::String(key.to_string())),
                ("text".to_owned(), text),
            ])),
        };
        Ok(messages.into_iter().enumerate().map(emit).collect())
    });
    CopyRule {
        transform: Some(Arc::new(transform)),
        checksum: "one document a message".into(),
        ..CopyRule::plain("messages")
    }
}

async fn put_some_chats(app: &Arc<dyn Store>) -> Result<(), Box<dyn Error>> {
    app.ensure("chats", &KeyKind::Text).await?;
    let writes: Vec<Write> = (0..1000)
        .map(|i| Write {
            collection: "chats".into(),
            key: Key::text(format!("chat-{i:04}")),
            to: Some(Body::from_json(format!(
                r#"{{"title":"chat {i}","messages":["hi","there"]}}"#
            ))),
            guard: Guard::Absent,
        })
        .collect();
    app.write(&writes).await?;
    Ok(())
}
