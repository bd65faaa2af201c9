//! The example project's own migration, of six steps: up, down, up again.

mod support;

use std::sync::Arc;
use support::Sandbox;
use whimbrel_model::{Body, Guard, Key, KeyRange, Store, Write};
use whimbrel_stores::OpenOptions;

async fn opened(sandbox: &Sandbox) -> Arc<dyn Store> {
    let url = format!("sqlite:{}", sandbox.demo().join("app.db").display());
    whimbrel_stores::open(&url, &OpenOptions::default())
        .await
        .unwrap()
}

async fn conversations(sandbox: &Sandbox) -> Vec<(Key, Vec<u8>)> {
    let store = opened(sandbox).await;
    let all = KeyRange::all();
    let page = store
        .scan("conversations", &all, 10_000, usize::MAX)
        .await
        .unwrap();
    let bytes = |body: &Body| body.json().into_owned();
    page.documents
        .iter()
        .map(|d| (d.key.clone(), bytes(&d.body)))
        .collect()
}

fn ends(sandbox: &Sandbox, arguments: &[&str], code: i32) {
    let ran = sandbox.demo_run(arguments);
    assert_eq!(
        ran.code, code,
        "{arguments:?}: {}{}",
        ran.stdout, ran.stderr
    );
}

#[tokio::test]
async fn it_goes_up_and_down_and_up_again() {
    let sandbox = Sandbox::with_demo(200, &["--only-data"]);
    let before = conversations(&sandbox).await;
    // Three conversations are broken on purpose, and wait in quarantine.
    ends(&sandbox, &["up", "--yes"], 4);
    let upgraded = conversations(&sandbox).await;
    let changed = before.iter().zip(&upgraded).filter(|(a, b)| a != b).count();
    assert_eq!(changed, before.len() - 3);

    // What the app writes in the new shape, while it is applied.
    let shape = String::from_utf8(upgraded[0].1.clone()).unwrap();
    assert!(shape.contains("\"_schemaVersion\":3"), "{shape}");
    let (since, write) = (Key::text("zz_since"), |body: String| Write {
        collection: "conversations".to_owned(),
        key: Key::text("zz_since"),
        to: Some(Body::from_json(body.into_bytes())),
        guard: Guard::Any,
    });
    let store = opened(&sandbox).await;
    store.write(&[write(shape)]).await.unwrap();
    drop(store);

    ends(&sandbox, &["down", "--yes"], 0);
    let mut back = conversations(&sandbox).await;
    let at = back.iter().position(|(key, _)| *key == since).unwrap();
    let (_, kept) = back.remove(at);
    let kept = String::from_utf8(kept).unwrap();
    assert!(
        !kept.contains("\"metadata\""),
        "it is in the old shape: {kept}"
    );
    assert_eq!(before, back, "the bytes are not what they were");

    ends(&sandbox, &["up", "--yes"], 4);
    let again = conversations(&sandbox).await;
    assert_eq!(again.len(), before.len() + 1);
    let (_, new) = again.iter().find(|(key, _)| *key == since).unwrap();
    assert!(String::from_utf8_lossy(new).contains("\"metadata\""));
}
