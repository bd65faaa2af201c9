//! What is written comes back, to whom it is meant for.

mod common;

use common::{Fixture, NAME, documents, manifest, read_all};
use std::sync::Arc;
use whimbrel_archive::{Archive, Identities, SigningKey, pack};
use whimbrel_model::{Body, Code, Key};

fn expected() -> Vec<(Key, Vec<u8>)> {
    (0..3)
        .flat_map(documents)
        .map(|(key, body)| (key, body.json().into_owned()))
        .collect()
}

async fn check(fixture: &Fixture) {
    let all = read_all(fixture).await.unwrap();
    let all: Vec<_> = all.into_iter().map(|(k, b)| (k, b.to_vec())).collect();
    assert_eq!(all, expected());
}

#[tokio::test]
async fn documents_come_back_byte_for_byte() {
    for fixture in [
        Fixture::plain().await,
        Fixture::signed().await,
        Fixture::sealed().await,
    ] {
        check(&fixture).await;
    }
}

#[tokio::test]
async fn an_encrypted_archive_opens_for_its_recipients_alone() {
    let mut fixture = Fixture::sealed().await;
    let text = std::fs::read(fixture.dir().join("manifest.json.age")).unwrap();
    assert!(!String::from_utf8_lossy(&text).contains("chats"));
    fixture.identities = None;
    assert_eq!(fixture.open().await.unwrap_err().code, Code::ArchiveSealed);
    let other = Fixture::sealed().await;
    fixture.identities = other.identities.clone();
    assert_eq!(fixture.open().await.unwrap_err().code, Code::ArchiveSealed);
    for text in ["", "# a comment", "AGE-SECRET-KEY-1NONSENSE"] {
        let error = Identities::parse(text).unwrap_err();
        assert_eq!(error.code, Code::ArchiveSealed);
        assert!(!error.message.contains("NONSENSE"), "{error}");
    }
}

#[tokio::test]
async fn only_a_trusted_signature_counts() {
    let mut fixture = Fixture::signed().await;
    let (stranger, _) = SigningKey::generate().unwrap();
    let right = std::mem::replace(&mut fixture.trust, vec![stranger.public()]);
    assert_eq!(fixture.open().await.unwrap_err().code, Code::ArchiveSealed);
    fixture.trust = vec![stranger.public(), right[0]];
    fixture.open().await.unwrap();
    fixture.trust.clear();
    assert_eq!(fixture.open().await.unwrap().signed_by(), Some(right[0]));
    // A signature that was taken away is missed, even by those who trust nobody in particular.
    std::fs::remove_file(fixture.dir().join("manifest.sig")).unwrap();
    assert_eq!(fixture.open().await.unwrap_err().code, Code::ArchiveSealed);
    fixture.trust = right;
    assert_eq!(fixture.open().await.unwrap_err().code, Code::ArchiveSealed);
}

#[tokio::test]
async fn a_finished_archive_is_not_written_again() {
    let fixture = Fixture::plain().await;
    let unfinished = fixture.unfinished();
    assert!(unfinished.is_finished().await.unwrap());
    let archive = fixture.open().await.unwrap();
    let again = manifest(archive.manifest().collections[0].chunks.clone());
    assert!(unfinished.finish(again).await.is_err());
    assert!(unfinished.clear().await.is_err());
    check(&fixture).await;
}

#[tokio::test]
async fn without_a_manifest_it_is_unfinished() {
    let fixture = Fixture::plain().await;
    let archive = fixture.open().await.unwrap();
    std::fs::remove_file(fixture.dir().join("manifest.json")).unwrap();
    let error = fixture.open().await.unwrap_err();
    assert_eq!(error.code, Code::ArchiveMissing);
    assert!(error.message.contains("unfinished"), "{error}");
    // A chunk that an attempt left behind goes when the archive is finished.
    let unfinished = fixture.unfinished();
    let orphan = [(Key::from("x"), Body::from_json(&b"{}"[..]))];
    let orphan = unfinished
        .put(0, pack(orphan, None).unwrap())
        .await
        .unwrap();
    let stranger = fixture.dir().join("chunks/README");
    std::fs::write(&stranger, "not ours").unwrap();
    let chunks = archive.manifest().collections[0].chunks.clone();
    unfinished.finish(manifest(chunks)).await.unwrap();
    assert!(!fixture.dir().join("chunks").join(&orphan.name).exists());
    assert!(stranger.exists());
    check(&fixture).await;
}

#[tokio::test]
async fn a_manifest_names_only_chunks_that_are_there() {
    let fixture = Fixture::plain().await;
    let archive = fixture.open().await.unwrap();
    std::fs::remove_file(fixture.dir().join("manifest.json")).unwrap();
    let chunks = archive.manifest().collections[0].chunks.clone();
    std::fs::remove_file(fixture.dir().join("chunks").join(&chunks[1].name)).unwrap();
    let error = fixture.unfinished().finish(manifest(chunks)).await;
    assert_eq!(error.unwrap_err().code, Code::ArchiveInvalid);
    assert!(!fixture.dir().join("manifest.json").exists());
}

#[tokio::test]
async fn a_missing_archive_names_those_that_are_there() {
    let fixture = Fixture::plain().await;
    let error = Archive::open(fixture.vault(), "two", None, &[]).await;
    let error = error.unwrap_err();
    assert_eq!(error.code, Code::ArchiveMissing);
    assert!(error.message.contains(NAME), "{error}");
}

#[tokio::test]
async fn an_encrypted_archive_can_be_checked_without_opening_it() {
    let fixture = Fixture::sealed().await;
    let chunks = {
        let archive = fixture.open().await.unwrap();
        archive.manifest().collections[0].chunks.clone()
    };
    let archive = fixture.unfinished().reopen(manifest(chunks)).await.unwrap();
    assert!(!archive.opens());
    for note in &archive.manifest().collections[0].chunks {
        let stored = archive.fetch(note).await.unwrap();
        archive.check(&stored, note).unwrap();
        let refused = archive.documents(&stored, note).unwrap_err();
        assert_eq!(refused.code, Code::ArchiveSealed);
    }
    let archive = Arc::new(archive);
    assert_eq!(archive.name(), NAME);
}
