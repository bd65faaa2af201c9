//! A small archive in a temporary folder.
#![allow(dead_code)]

use bytes::Bytes;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use whimbrel_archive::{
    Archive, ArchiveError, AsOf, CollectionPart, FORMAT, Identities, LayoutNote, Manifest,
    PublicKey, Recipients, SigningKey, Unfinished, Vault, pack,
};
use whimbrel_model::{Body, Key, KeyKind};

pub const NAME: &str = "one";

pub struct Fixture {
    pub root: tempfile::TempDir,
    pub trust: Vec<PublicKey>,
    pub identities: Option<Arc<Identities>>,
    pub recipients: Option<Arc<Recipients>>,
    pub key: Option<Arc<SigningKey>>,
}

impl Fixture {
    fn empty() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
            trust: Vec::new(),
            identities: None,
            recipients: None,
            key: None,
        }
    }

    pub async fn plain() -> Self {
        let fixture = Self::empty();
        fixture.write().await;
        fixture
    }

    pub async fn signed() -> Self {
        let mut fixture = Self::empty();
        let (key, _) = SigningKey::generate().unwrap();
        fixture.trust = vec![key.public()];
        fixture.key = Some(Arc::new(key));
        fixture.write().await;
        fixture
    }

    pub async fn sealed() -> Self {
        use age::secrecy::ExposeSecret;
        let mut fixture = Self::empty();
        let identity = age::x25519::Identity::generate();
        let text = identity.to_string();
        let identities = Identities::parse(text.expose_secret()).unwrap();
        let recipients = Recipients::parse(&[identity.to_public().to_string()]).unwrap();
        fixture.identities = Some(Arc::new(identities));
        fixture.recipients = recipients.map(Arc::new);
        fixture.write().await;
        fixture
    }

    pub fn vault(&self) -> Vault {
        Vault::open("vault", self.root.path(), true).unwrap()
    }

    pub fn dir(&self) -> PathBuf {
        self.root.path().join("vault").join(NAME)
    }

    pub fn unfinished(&self) -> Unfinished {
        let (recipients, key) = (self.recipients.clone(), self.key.clone());
        Unfinished::new(self.vault(), NAME, recipients, key).unwrap()
    }

    async fn write(&self) {
        let unfinished = self.unfinished();
        let mut chunks = Vec::new();
        for at in 0..3 {
            let packed = pack(documents(at), self.recipients.as_deref()).unwrap();
            chunks.push(unfinished.put(0, packed).await.unwrap());
        }
        unfinished.finish(manifest(chunks)).await.unwrap();
    }

    pub async fn open(&self) -> Result<Archive, ArchiveError> {
        Archive::open(self.vault(), NAME, self.identities.clone(), &self.trust).await
    }
}

pub fn manifest(chunks: Vec<whimbrel_archive::ChunkNote>) -> Manifest {
    let documents = chunks.iter().map(|c| c.documents).sum();
    Manifest {
        format: FORMAT,
        tool: "whimbrel 0".to_owned(),
        name: NAME.to_owned(),
        created: "2026-11-22T22:10:45Z".to_owned(),
        encrypted: false,
        signed_by: None,
        consistent: true,
        collections: vec![CollectionPart {
            store: "app".to_owned(),
            origin: "memory:".to_owned(),
            collection: "chats".to_owned(),
            key: KeyKind::Text,
            key_order: true,
            layout: LayoutNote::Json,
            documents,
            unreadable: 0,
            raw_bytes: chunks.iter().map(|c| c.raw_bytes).sum(),
            stored_bytes: chunks.iter().map(|c| c.stored_bytes).sum(),
            version_field: "_schemaVersion".to_owned(),
            versions: [("1".to_owned(), documents)].into(),
            as_of: vec![AsOf {
                at: "2026-11-22T22:10:45Z".to_owned(),
                live: false,
            }],
            chunks,
        }],
    }
}

/// The documents of a chunk: also some that are no JSON at all.
pub fn documents(chunk: usize) -> Vec<(Key, Body)> {
    (0..4)
        .map(|n| {
            let json = match n {
                0 => b"\xff\x00 not even text".to_vec(),
                1 => Vec::new(),
                _ => format!(r#"{{"n": {n},  "t":"{}"}}"#, "ä".repeat(10)).into_bytes(),
            };
            (Key::text(format!("k{chunk}-{n}")), Body::from_json(json))
        })
        .collect()
}

/// Opens the archive and reads all of its documents.
pub async fn read_all(fixture: &Fixture) -> Result<Vec<(Key, Bytes)>, ArchiveError> {
    let archive = fixture.open().await?;
    let mut all = Vec::new();
    for note in &archive.manifest().collections[0].chunks {
        let stored = archive.fetch(note).await?;
        all.extend(archive.documents(&stored, note)?);
    }
    Ok(all)
}

pub fn json_of(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("manifest.json")).unwrap()).unwrap()
}

pub fn rewrite(dir: &Path, change: &dyn Fn(&mut Value)) {
    let mut manifest = json_of(dir);
    change(&mut manifest);
    fs::write(
        dir.join("manifest.json"),
        serde_json::to_vec(&manifest).unwrap(),
    )
    .unwrap();
}
