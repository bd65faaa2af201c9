//! The manifest: what an archive holds, and the numbers that prove it.

use crate::chunk::MAX_RAW;
use crate::error::ArchiveError;
use crate::name::{check_collection_name, chunk_name, is_hex};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use whimbrel_model::store::{Description, Layout};
use whimbrel_model::{Key, KeyKind};

/// The newest format that this code reads and writes.
pub const FORMAT: u32 = 1;
/// At about 4 MiB a chunk: 1 TB.
pub const MAX_CHUNKS: usize = 250_000;
/// The largest manifest that is read.
pub(crate) const MAX_MANIFEST: u64 = 192 << 20;
/// The least that a document takes: two lengths and a key of one byte.
const LEAST_ENTRY: u64 = 9;

/// Everything that an archive says of itself. Readers ignore fields that they do not know; what would
/// change the meaning of others comes with a greater format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// The program and its version.
    pub tool: String,
    pub name: String,
    pub created: String,
    pub encrypted: bool,
    /// The public key that signed it: a signature that was taken away is missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    /// Whether the collections of each store are all as of one instant.
    pub consistent: bool,
    pub collections: Vec<CollectionPart>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionPart {
    /// The store's name in the project.
    pub store: String,
    /// Its URL, without any secret.
    pub origin: String,
    pub collection: String,
    pub key: KeyKind,
    /// Whether the chunks and their documents follow the order of keys that this program knows.
    pub key_order: bool,
    pub layout: LayoutNote,
    pub documents: u64,
    /// Rows that could not be read as documents, and are not in the archive.
    pub unreadable: u64,
    pub raw_bytes: u64,
    pub stored_bytes: u64,
    /// The field that says which schema version a document has.
    pub version_field: String,
    /// Documents by schema version; `?` where the field holds something else.
    pub versions: BTreeMap<String, u64>,
    /// The instants that the documents are as of: one, where all is from one snapshot.
    pub as_of: Vec<AsOf>,
    pub chunks: Vec<ChunkNote>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AsOf {
    pub at: String,
    /// Whether the store gave no snapshot: the documents were read from then on, while others wrote.
    pub live: bool,
}

/// How the documents lay in their store. A restore into a store where the collection is missing makes a
/// collection of one JSON column; the columns are for those who want to make the table beforehand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LayoutNote {
    Json,
    Columns { columns: Vec<ColumnNote> },
    Native,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnNote {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub nullable: bool,
}

impl From<&Description> for LayoutNote {
    fn from(description: &Description) -> Self {
        match &description.layout {
            Layout::Json => Self::Json,
            Layout::Native => Self::Native,
            Layout::Columns(columns) => Self::Columns {
                columns: columns
                    .iter()
                    .map(|c| ColumnNote {
                        name: c.name.clone(),
                        kind: c.kind.clone(),
                        nullable: c.nullable,
                    })
                    .collect(),
            },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkNote {
    pub name: String,
    pub documents: u64,
    /// Decompressed.
    pub raw_bytes: u64,
    pub stored_bytes: u64,
    /// Of the stored bytes.
    pub blake3: String,
    pub first: Key,
    pub last: Key,
}

impl Manifest {
    /// Reads a manifest and checks everything that can be checked without the chunks.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, ArchiveError> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let damaged = |why: serde_json::Error| {
            // serde's own message may quote what stands there.
            ArchiveError::invalid(format!(
                "the manifest is damaged (line {}, column {})",
                why.line(),
                why.column()
            ))
        };
        let head: Head = serde_json::from_slice(bytes).map_err(damaged)?;
        if head.format > FORMAT {
            return Err(ArchiveError::newer(format!(
                "the archive has format {}, newer than this program's {FORMAT}; use the newer program",
                head.format
            )));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(damaged)?;
        manifest.check()?;
        Ok(manifest)
    }

    pub(crate) fn write(&self) -> Result<Vec<u8>, ArchiveError> {
        serde_json::to_vec(self)
            .map_err(|why| ArchiveError::invalid(format!("the manifest cannot be written: {why}")))
    }

    /// Whether the numbers add up and every name is one that this program would have given.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), ArchiveError> {
        let wrong = |what: String| Err(ArchiveError::invalid(format!("the manifest {what}")));
        if self.format == 0 {
            return wrong("has no format".to_owned());
        }
        if self.collections.is_empty() {
            return wrong("has no collections".to_owned());
        }
        let chunks: usize = self.collections.iter().map(|c| c.chunks.len()).sum();
        if chunks > MAX_CHUNKS {
            return wrong(format!(
                "lists {chunks} chunks, more than the {MAX_CHUNKS} that an archive may have"
            ));
        }
        let mut names = HashSet::new();
        for (index, part) in self.collections.iter().enumerate() {
            check_collection_name(&part.collection)?;
            if !names.insert((&part.store, &part.collection)) {
                return wrong(format!("lists {}/{} twice", part.store, part.collection));
            }
            part.check(index, self.encrypted).map_err(|what| {
                ArchiveError::invalid(format!(
                    "the manifest's {}/{} {what}",
                    part.store, part.collection
                ))
            })?;
        }
        Ok(())
    }

    /// The part that holds a collection.
    #[must_use]
    pub fn part(&self, store: &str, collection: &str) -> Option<(usize, &CollectionPart)> {
        self.collections
            .iter()
            .enumerate()
            .find(|(_, part)| part.store == store && part.collection == collection)
    }
}

impl CollectionPart {
    fn check(&self, index: usize, sealed: bool) -> Result<(), String> {
        let (mut names, mut lasts) = (HashSet::new(), HashSet::new());
        for chunk in &self.chunks {
            chunk.check(index, sealed)?;
            if !names.insert(&chunk.name) || !lasts.insert(&chunk.last) {
                return Err(format!("lists chunk {} twice", chunk.name));
            }
        }
        let sum = |of: fn(&ChunkNote) -> u64| {
            self.chunks
                .iter()
                .try_fold(0_u64, |sum, chunk| sum.checked_add(of(chunk)))
        };
        let versions = self
            .versions
            .values()
            .try_fold(0_u64, |sum, count| sum.checked_add(*count));
        for (what, sum, said) in [
            ("documents", sum(|c| c.documents), self.documents),
            ("raw bytes", sum(|c| c.raw_bytes), self.raw_bytes),
            ("stored bytes", sum(|c| c.stored_bytes), self.stored_bytes),
            ("documents by version", versions, self.documents),
        ] {
            if sum != Some(said) {
                return Err(format!("has {what} that do not add up"));
            }
        }
        Ok(())
    }
}

impl ChunkNote {
    fn check(&self, index: usize, sealed: bool) -> Result<(), String> {
        if self.blake3.len() != 64 || !is_hex(&self.blake3) {
            return Err("has a chunk without a hash".to_owned());
        }
        if self.name != chunk_name(index, &self.blake3, sealed) {
            // The name is not repeated: it may be made to deceive a terminal.
            return Err("has a chunk whose name is not the one that a backup gives".to_owned());
        }
        let named = |what: &str| Err(format!("has chunk {} {what}", self.name));
        if self.documents == 0 || self.raw_bytes / LEAST_ENTRY < self.documents {
            return named("with more documents than fit into it");
        }
        if self.raw_bytes > MAX_RAW {
            return named("that is larger than any chunk");
        }
        // What cannot be compressed grows a little, and so does what is encrypted.
        if self.stored_bytes > self.raw_bytes + self.raw_bytes / 64 + (1 << 16) {
            return named("that takes more room than it can need");
        }
        if self.documents == 1 && self.first != self.last {
            return named("with keys that cannot be");
        }
        Ok(())
    }
}
