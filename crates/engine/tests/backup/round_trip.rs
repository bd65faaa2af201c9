//! What goes into an archive comes out of it, in any kind of store.

use super::{Bench, backup_job, chat, restore_job, stores};
use crate::common::{dump, engine, fill, place};
use std::collections::BTreeMap;
use std::sync::Arc;
use whimbrel_archive::{AsOf, Identities, Recipients, SigningKey, Vault};
use whimbrel_model::{Body, Code, Key, KeyKind, Store};

/// Everything that somebody could put into a document, as its bytes.
fn hostile() -> Vec<(Key, String)> {
    let texts = [
        r"{}",
        r#"{"big": 12345678901234567890, "exact": 0.1234567890123456789, "n": -0.0}"#,
        r#"{"i": 9007199254740993, "e": 1e400, "t": {"$timestamp": "2026-11-22T22:10:45.123456Z"}}"#,
        r#"{"$$x": 1, "b": {"$bytes": "AAEC"}, "nan": {"$double": "NaN"}}"#,
        "{ \"white\" :\n\t[ 1 , 2 ] }",
        r#"{"esc": "\u00e9\ud83d\ude00\n\"\\\/", "ü": "ä€😀"}"#,
        r#"{"a": {"a": {"a": {"a": [[[[{}]]]]}}}}"#,
        r#"{"_schemaVersion": "not a number"}"#,
        r#"{"_schemaVersion": 4}"#,
    ];
    let keys = [
        "a",
        " ",
        "ü/ö\\",
        "\"quoted\"",
        "a b\tc",
        "😀",
        "0",
        "-1",
        "z'; drop",
    ];
    let mut all: Vec<_> = keys
        .iter()
        .zip(texts)
        .map(|(key, text)| (Key::text(*key), text.to_owned()))
        .collect();
    let long = format!(r#"{{"long": "{}"}}"#, "lorem ipsum ".repeat(100_000));
    all.push((Key::text("long"), long));
    all.extend((0..200).map(chat));
    all
}

fn printed(all: &[(String, String)]) -> Vec<(String, String)> {
    let print = |json: &String| {
        let body = Body::from_json(json.clone().into_bytes());
        format!("{:?}", body.fingerprint().unwrap())
    };
    all.iter()
        .map(|(k, json)| (k.clone(), print(json)))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_come_back_byte_for_byte_in_every_store() {
    let dir = tempfile::tempdir().unwrap();
    for (kind, source, _stage) in stores(dir.path(), "bk_source", &["docs", "none"]).await {
        let home = tempfile::tempdir().unwrap();
        let engine = engine(home.path()).await;
        fill(&source, "docs", hostile()).await;
        source.ensure("none", &KeyKind::Text).await.unwrap();
        let before = dump(&source, "docs").await;
        let vault = Vault::open("vault", home.path(), true).unwrap();
        let mut job = backup_job(&source, vault, &["docs", "none"]);
        job.options.batch = Some(50);
        let report = engine.backup(job).await.unwrap();
        let part = &report.archive.manifest().collections[0];
        assert_eq!(part.documents, hostile().len() as u64, "{kind}");
        assert!(part.chunks.len() > 3, "{kind}");
        assert_eq!(part.versions["4"], 1, "{kind}");
        assert_eq!(part.versions["?"], 1, "{kind}");
        let proof = engine.prove(&report.archive).await.unwrap();
        assert_eq!((proof.documents, proof.opened), (part.documents, true));
        for (into, target, _stage) in stores(home.path(), "bk_target", &["docs", "none"]).await {
            let job = restore_job(&report.archive, &target);
            let restored = engine.restore(job).await.unwrap();
            let what = format!("{kind} to {into}");
            assert_eq!(restored.reports[0].counts.written, part.documents, "{what}");
            let after = dump(&target, "docs").await;
            if kind == into {
                assert_eq!(after, before, "{what}");
            }
            assert_eq!(printed(&after), printed(&before), "{what}");
            assert_eq!(dump(&target, "none").await, [], "{what}");
            // Again: nothing to do.
            let job = restore_job(&report.archive, &target);
            let again = engine.restore(job).await.unwrap();
            assert_eq!(again.reports[0].counts.unchanged, part.documents, "{what}");
            assert_eq!(again.reports[0].counts.written, 0, "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_every_kind_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let kinds = [
        (
            "ints",
            KeyKind::Int,
            vec![Key::Int(i64::MIN), Key::Int(-1), Key::Int(i64::MAX)],
        ),
        (
            "uuids",
            KeyKind::Uuid,
            vec![Key::uuid(uuid::Uuid::nil()), Key::uuid(uuid::Uuid::max())],
        ),
    ];
    let names: Vec<_> = kinds.iter().map(|(name, ..)| *name).collect();
    for (kind, source, _stage) in stores(dir.path(), "bk_keys", &names).await {
        let home = tempfile::tempdir().unwrap();
        let engine = engine(home.path()).await;
        for (name, of, keys) in &kinds {
            source.ensure(name, of).await.unwrap();
            let docs = keys
                .iter()
                .map(|key| (key.clone(), r#"{"a":1}"#.to_owned()));
            put(&source, name, docs).await;
        }
        let vault = Vault::open("vault", home.path(), true).unwrap();
        let archive = engine
            .backup(backup_job(&source, vault, &names))
            .await
            .unwrap()
            .archive;
        for (into, target, _stage) in stores(home.path(), "bk_keys_back", &names).await {
            engine
                .restore(restore_job(&archive, &target))
                .await
                .unwrap();
            for name in &names {
                let what = format!("{name}: {kind} to {into}");
                let (back, was) = (dump(&target, name).await, dump(&source, name).await);
                assert_eq!(printed(&back), printed(&was), "{what}");
            }
        }
    }
}

async fn put(store: &Arc<dyn Store>, name: &str, docs: impl Iterator<Item = (Key, String)>) {
    let writes: Vec<_> = docs
        .map(|(key, json)| whimbrel_model::Write {
            collection: name.to_owned(),
            key,
            to: Some(Body::from_json(json.into_bytes())),
            guard: whimbrel_model::Guard::Any,
        })
        .collect();
    store.write(&writes).await.unwrap();
}

/// Made for this test alone.
const IDENTITY: &str = "AGE-SECRET-KEY-1HF5LGKTSNY3JXDLGW5JGQWNV52GZWCFXHDUPE6HJSC2DSXCMWCYQ3VS95Q";
const RECIPIENT: &str = "age1sutlgym22q2f0xvnezvnaadpsx93zz9vgyxkkazy78zukuzjqa3qq8k0r7";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_and_signed_archive_comes_back_to_its_recipient() {
    let bench = Bench::new().await;
    fill(&bench.store, "chats", (0..100).map(chat)).await;
    let (key, _) = SigningKey::generate().unwrap();
    let trust = key.public();
    let mut job = bench.job(&["chats"]);
    job.recipients = Recipients::parse(&[RECIPIENT.to_owned()])
        .unwrap()
        .map(Arc::new);
    job.key = Some(Arc::new(key));
    let written = bench.engine.backup(job).await.unwrap().archive;
    // Whoever writes cannot read: only the hashes are proved then.
    let proof = bench.engine.prove(&written).await.unwrap();
    assert!(!proof.opened && proof.chunks > 1);
    let refused = bench
        .engine
        .restore(restore_job(&written, &bench.store))
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::ArchiveSealed);

    let identities = Identities::parse(IDENTITY).unwrap();
    let (vault, name) = (written.vault().clone(), written.name());
    let archive =
        whimbrel_archive::Archive::open(vault, name, Some(Arc::new(identities)), &[trust])
            .await
            .unwrap();
    let proof = bench.engine.prove(&archive).await.unwrap();
    assert_eq!((proof.opened, proof.documents), (true, 100));
    let mut job = restore_job(&archive, &bench.store);
    job.beside = Some("_then".to_owned());
    bench.engine.restore(job).await.unwrap();
    let (now, then) = (
        dump(&bench.store, "chats").await,
        dump(&bench.store, "chats_then").await,
    );
    assert_eq!(now, then);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_no_documents_are_said_to_be_missing() {
    let bench = Bench::new().await;
    fill(&bench.store, "chats", (0..20).map(chat)).await;
    let file = rusqlite::Connection::open(bench.dir.path().join("app.db")).unwrap();
    file.execute("INSERT INTO chats VALUES (x'00ff', '{}')", [])
        .unwrap();
    let report = bench.backup(&["chats"]).await;
    let part = &report.archive.manifest().collections[0];
    assert_eq!((part.documents, part.unreadable), (20, 1));
    assert_eq!(report.reports[0].counts.quarantined, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manifest_says_what_it_is_of() {
    let bench = Bench::new().await;
    fill(&bench.store, "chats", (0..30).map(chat)).await;
    let archive = bench.backup(&["chats"]).await.archive;
    let manifest = archive.manifest();
    assert!(manifest.consistent);
    let part = &manifest.collections[0];
    assert_eq!(
        part.versions,
        BTreeMap::from_iter(["1", "2", "3"].map(|v| (v.into(), 10)))
    );
    assert!(matches!(part.as_of.as_slice(), [AsOf { live: false, .. }]));
    assert_eq!(
        part.origin,
        place(&bench.store, "app", "chats").store.name()
    );
    let sum: u64 = part.chunks.iter().map(|c| c.documents).sum();
    assert_eq!(sum, 30);
}
