//! Archives: what a backup writes and a restore reads, and the folders and object stores they lie in.
//!
//! An archive is a folder of chunks and a manifest. Chunks are zstd frames of documents, each named after
//! its hash; the manifest lists them, is written last, and may be signed; both may be encrypted. Whatever
//! is read is taken for hostile until its hash, and every number that the manifest gives, were checked.
//!
//! `docs/archives.md` describes the format. Nothing here knows a database.

mod archive;
mod buffers;
mod chunk;
mod entry;
mod error;
mod manifest;
mod name;
mod seal;
mod sign;
mod vault;

pub use archive::{Archive, Unfinished};
pub use chunk::{MAX_DOCUMENT, Packed, pack};
pub use error::ArchiveError;
pub use manifest::{AsOf, ChunkNote, CollectionPart, FORMAT, LayoutNote, MAX_CHUNKS, Manifest};
pub use name::{check_collection_name, check_name};
pub use seal::{Identities, Recipients};
pub use sign::{PublicKey, SigningKey};
pub use vault::Vault;
