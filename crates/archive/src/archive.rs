//! One archive: while it is written, and when it is read.

use crate::buffers::Buffers;
use crate::chunk::{Packed, check_stored, unpack};
use crate::error::ArchiveError;
use crate::manifest::{ChunkNote, MAX_MANIFEST, Manifest};
use crate::name::{
    CHUNKS, MANIFEST, MANIFEST_SEALED, SIGNATURE, check_name, chunk_name, is_chunk_name,
};
use crate::seal::{Identities, Recipients};
use crate::sign::{self, PublicKey, SigningKey};
use crate::vault::Vault;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use whimbrel_model::Key;

/// More than any signature file has.
const MAX_SIGNATURE: u64 = 4096;

/// An archive that has no manifest yet.
#[derive(Clone, Debug)]
pub struct Unfinished {
    vault: Vault,
    name: String,
    recipients: Option<Arc<Recipients>>,
    key: Option<Arc<SigningKey>>,
}

impl Unfinished {
    /// Writes nothing yet.
    ///
    /// # Errors
    /// The name is none.
    pub fn new(
        vault: Vault,
        name: &str,
        recipients: Option<Arc<Recipients>>,
        key: Option<Arc<SigningKey>>,
    ) -> Result<Self, ArchiveError> {
        check_name(name)?;
        Ok(Self {
            vault,
            name: name.to_owned(),
            recipients,
            key,
        })
    }

    #[must_use]
    pub fn recipients(&self) -> Option<&Arc<Recipients>> {
        self.recipients.as_ref()
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a manifest is there: then the archive is done, and must not be written.
    ///
    /// # Errors
    /// The vault cannot be read.
    pub async fn is_finished(&self) -> Result<bool, ArchiveError> {
        for file in [MANIFEST, MANIFEST_SEALED] {
            if self.vault.size(&[&self.name, file]).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether chunks are there.
    ///
    /// # Errors
    /// The vault cannot be read.
    pub async fn has_chunks(&self) -> Result<bool, ArchiveError> {
        Ok(!self.vault.list(&[&self.name, CHUNKS]).await?.is_empty())
    }

    /// Stores a chunk of the manifest's `collection`. The same documents again make the same chunk, unless
    /// they are encrypted.
    ///
    /// # Errors
    /// The vault cannot be written; a part of the chunk is never left behind.
    pub async fn put(&self, collection: usize, packed: Packed) -> Result<ChunkNote, ArchiveError> {
        let note = ChunkNote {
            name: chunk_name(collection, &packed.blake3, self.recipients.is_some()),
            documents: packed.documents,
            raw_bytes: packed.raw_bytes,
            stored_bytes: packed.bytes.len() as u64,
            blake3: packed.blake3,
            first: packed.first,
            last: packed.last,
        };
        self.vault
            .put(&[&self.name, CHUNKS, &note.name], packed.bytes.into())
            .await?;
        Ok(note)
    }

    /// Removes the chunks that are there, to begin anew. Only files with a chunk's name are touched.
    ///
    /// # Errors
    /// The vault cannot be written, or the archive is finished.
    pub async fn clear(&self) -> Result<(), ArchiveError> {
        self.must_be_unfinished().await?;
        self.remove_all_but(&HashMap::new()).await
    }

    async fn must_be_unfinished(&self) -> Result<(), ArchiveError> {
        match self.is_finished().await? {
            true => Err(ArchiveError::vault(format!(
                "{} is finished already; nothing in it was touched",
                self.vault.shown(&self.name)
            ))),
            false => Ok(()),
        }
    }

    /// Removes chunks that no manifest will name: those of an attempt that was killed before it could
    /// write them down.
    async fn remove_all_but(&self, named: &HashMap<&str, u64>) -> Result<(), ArchiveError> {
        for (file, _) in self.vault.list(&[&self.name, CHUNKS]).await? {
            if is_chunk_name(&file) && !named.contains_key(file.as_str()) {
                self.vault.delete(&[&self.name, CHUNKS, &file]).await?;
            }
        }
        Ok(())
    }

    /// Writes the signature and, last of all, the manifest, once every chunk that it names is there. The
    /// archive that comes back can be read as far as that needs no identity.
    ///
    /// # Errors
    /// A chunk is missing or of another size, the numbers do not add up, or the vault cannot be written.
    pub async fn finish(&self, mut manifest: Manifest) -> Result<Archive, ArchiveError> {
        self.must_be_unfinished().await?;
        manifest.encrypted = self.recipients.is_some();
        let public = self.key.as_ref().map(|key| key.public());
        manifest.signed_by = public.map(|key| key.to_string());
        manifest.check()?;
        self.check_chunks(&manifest).await?;
        let plain = manifest.write()?;
        if plain.len() as u64 > MAX_MANIFEST {
            return Err(ArchiveError::invalid("the manifest is larger than may be"));
        }
        let (file, stored) = match &self.recipients {
            Some(recipients) => (MANIFEST_SEALED, recipients.seal(&plain)?),
            None => (MANIFEST, plain),
        };
        if let Some(key) = &self.key {
            let signature = key.sign(&stored).into_bytes();
            self.vault
                .put(&[&self.name, SIGNATURE], signature.into())
                .await?;
        }
        let hash = blake3::hash(&stored).to_hex().to_string();
        self.vault
            .put_new(&[&self.name, file], stored.into())
            .await?;
        Ok(Archive {
            vault: self.vault.clone(),
            name: self.name.clone(),
            manifest,
            hash,
            signed_by: public,
            identities: None,
            buffers: Buffers::default(),
        })
    }

    /// The archive, where [`Unfinished::finish`] wrote its manifest and nobody was told.
    ///
    /// # Errors
    /// The manifest cannot be read, or it is not signed as this archive would be.
    pub async fn reopen(&self, mut manifest: Manifest) -> Result<Archive, ArchiveError> {
        let trust: Vec<_> = self.key.iter().map(|key| key.public()).collect();
        if self.recipients.is_none() {
            return Archive::open(self.vault.clone(), &self.name, None, &trust).await;
        }
        // It is encrypted to others: what it says is known from elsewhere.
        let (stored, sealed) = stored_manifest(&self.vault, &self.name).await?;
        let signed_by = signer(&self.vault, &self.name, &stored, &trust).await?;
        manifest.encrypted = sealed;
        manifest.signed_by = signed_by.map(|key| key.to_string());
        manifest.check()?;
        Ok(Archive {
            vault: self.vault.clone(),
            name: self.name.clone(),
            manifest,
            hash: blake3::hash(&stored).to_hex().to_string(),
            signed_by,
            identities: None,
            buffers: Buffers::default(),
        })
    }

    async fn check_chunks(&self, manifest: &Manifest) -> Result<(), ArchiveError> {
        let files: HashMap<String, u64> = self
            .vault
            .list(&[&self.name, CHUNKS])
            .await?
            .into_iter()
            .collect();
        let chunks = manifest.collections.iter().flat_map(|c| &c.chunks);
        let named: HashMap<&str, u64> = chunks.map(|c| (c.name.as_str(), c.stored_bytes)).collect();
        for (name, size) in &named {
            if files.get(*name) != Some(size) {
                return Err(ArchiveError::invalid(format!(
                    "chunk {name} of {} is gone or cut short since it was written; no manifest was \
                     written; begin the backup anew",
                    self.vault.shown(&self.name)
                )));
            }
        }
        self.remove_all_but(&named).await
    }
}

/// An archive whose manifest was read and holds together.
#[derive(Clone, Debug)]
pub struct Archive {
    vault: Vault,
    name: String,
    manifest: Manifest,
    hash: String,
    signed_by: Option<PublicKey>,
    identities: Option<Arc<Identities>>,
    buffers: Buffers,
}

impl Archive {
    /// Reads and checks the manifest. Where `trust` names keys, one of them must have signed it. No chunk
    /// is looked at yet.
    ///
    /// # Errors
    /// There is no such archive, it is unfinished, newer, altered, signed by nobody who is trusted, or
    /// encrypted to others.
    pub async fn open(
        vault: Vault,
        name: &str,
        identities: Option<Arc<Identities>>,
        trust: &[PublicKey],
    ) -> Result<Self, ArchiveError> {
        check_name(name)?;
        let shown = vault.shown(name);
        let about = |why: ArchiveError| ArchiveError {
            message: format!("{shown}: {}", why.message),
            ..why
        };
        let (stored, sealed) = stored_manifest(&vault, name).await.map_err(about)?;
        let signed_by = signer(&vault, name, &stored, trust).await.map_err(about)?;
        let hash = blake3::hash(&stored).to_hex().to_string();
        let manifest = match (sealed, &identities) {
            (false, _) => Manifest::read(&stored),
            (true, Some(identities)) => identities
                .open(&stored, MAX_MANIFEST, "the manifest")
                .and_then(|plain| Manifest::read(&plain)),
            (true, None) => Err(ArchiveError::sealed(
                "the archive is encrypted; opening it needs an identity file (--identity)",
            )),
        };
        let manifest = manifest.map_err(about)?;
        if manifest.encrypted != sealed {
            return Err(about(ArchiveError::invalid(
                "its manifest says otherwise than its files whether it is encrypted",
            )));
        }
        if manifest.signed_by != signed_by.map(|key| key.to_string()) {
            return Err(about(ArchiveError::sealed(
                "its manifest was signed, and that signature is gone or another's",
            )));
        }
        Ok(Self {
            identities: identities.filter(|_| sealed),
            vault,
            name: name.to_owned(),
            manifest,
            hash,
            signed_by,
            buffers: Buffers::default(),
        })
    }

    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The hash of the manifest as stored: two archives with the same hash hold the same.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Whose signature it has. Unless keys were given to trust, that proves only that nothing was altered
    /// since that key signed it.
    #[must_use]
    pub fn signed_by(&self) -> Option<PublicKey> {
        self.signed_by
    }

    /// Whether chunks can be decrypted: of one that was just written to recipients, only the hashes can be
    /// checked.
    #[must_use]
    pub fn opens(&self) -> bool {
        !self.manifest.encrypted || self.identities.is_some()
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// The vault and the name.
    #[must_use]
    pub fn shown(&self) -> String {
        self.vault.shown(&self.name)
    }

    /// The stored bytes of a chunk that the manifest names, unchecked but for their number.
    ///
    /// # Errors
    /// The chunk is missing, a link, of another size, or the vault cannot be read.
    pub async fn fetch(&self, note: &ChunkNote) -> Result<Bytes, ArchiveError> {
        let parts = [self.name.as_str(), CHUNKS, note.name.as_str()];
        let about = |why: ArchiveError| ArchiveError {
            message: format!("{}: {}", self.shown(), why.message),
            ..why
        };
        match self.vault.get(&parts, note.stored_bytes).await {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(about(ArchiveError::invalid(format!(
                "chunk {} is missing",
                note.name
            )))),
            Err(why) => Err(about(why)),
        }
    }

    /// The documents of a fetched chunk, once everything about it was checked. Work for a thread of its
    /// own.
    ///
    /// # Errors
    /// Anything does not match what the manifest says, or the archive cannot be decrypted.
    pub fn documents(
        &self,
        stored: &[u8],
        note: &ChunkNote,
    ) -> Result<Vec<(Key, Bytes)>, ArchiveError> {
        if !self.opens() {
            return Err(ArchiveError::sealed(format!(
                "{} is encrypted; reading its documents needs an identity file (--identity)",
                self.shown()
            )));
        }
        unpack(stored, note, self.identities.as_deref(), &self.buffers).map_err(|why| {
            ArchiveError {
                message: format!("{}: {}", self.shown(), why.message),
                ..why
            }
        })
    }

    /// Whether a fetched chunk is the one that the manifest names, as far as that can be told without
    /// decrypting it.
    ///
    /// # Errors
    /// It is not.
    pub fn check(&self, stored: &[u8], note: &ChunkNote) -> Result<(), ArchiveError> {
        check_stored(stored, note)
    }
}

/// The manifest's file, and whether it is encrypted.
async fn stored_manifest(vault: &Vault, name: &str) -> Result<(Bytes, bool), ArchiveError> {
    let plain = vault.get(&[name, MANIFEST], MAX_MANIFEST).await?;
    let sealed = vault.get(&[name, MANIFEST_SEALED], MAX_MANIFEST).await?;
    match (plain, sealed) {
        (Some(plain), None) => Ok((plain, false)),
        (None, Some(sealed)) => Ok((sealed, true)),
        (Some(_), Some(_)) => Err(ArchiveError::invalid(
            "it has two manifests, one of them encrypted; a backup writes one",
        )),
        (None, None) if !vault.list(&[name, CHUNKS]).await?.is_empty() => {
            Err(ArchiveError::missing(
                "it is unfinished: chunks are there, but no manifest; the same `whimbrel backup` command \
                 goes on with it",
            ))
        }
        (None, None) => {
            let known = vault.archives().await.unwrap_or_default();
            let known = match known.as_slice() {
                [] => String::new(),
                names => format!(" (there are: {})", names.join(", ")),
            };
            Err(ArchiveError::missing(format!(
                "there is no such archive{known}"
            )))
        }
    }
}

/// Who signed the manifest, if somebody did.
async fn signer(
    vault: &Vault,
    name: &str,
    manifest: &[u8],
    trust: &[PublicKey],
) -> Result<Option<PublicKey>, ArchiveError> {
    let signature = vault.get(&[name, SIGNATURE], MAX_SIGNATURE).await?;
    let signed_by = match signature {
        None => None,
        Some(bytes) => {
            let text = std::str::from_utf8(&bytes)
                .map_err(|_| ArchiveError::invalid("its signature is damaged"))?;
            Some(sign::verify(text, manifest)?)
        }
    };
    match signed_by {
        _ if trust.is_empty() => Ok(signed_by),
        Some(key) if trust.contains(&key) => Ok(signed_by),
        Some(key) => Err(ArchiveError::sealed(format!(
            "it is signed by {key}, which is not a key that you trust"
        ))),
        None => Err(ArchiveError::sealed(
            "it is not signed, and you asked for a signature that you trust",
        )),
    }
}
