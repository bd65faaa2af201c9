//! One chunk: documents, compressed and perhaps encrypted, with the numbers that let it be checked.

use crate::buffers::Buffers;
use crate::entry::{Entries, write_key};
use crate::error::ArchiveError;
use crate::manifest::ChunkNote;
use crate::seal::{Identities, Recipients};
use bytes::Bytes;
use std::collections::HashSet;
use std::io::Write;
use whimbrel_model::{Body, Key};

/// The largest body that an archive holds. A reader needs memory for one.
pub const MAX_DOCUMENT: usize = 256 << 20;
/// The most that a chunk may become when it is decompressed: one page of documents, and one large one.
pub(crate) const MAX_RAW: u64 = (MAX_DOCUMENT as u64) + (64 << 20);

/// Fast enough not to be what a backup waits for; the next levels gain a few per cent of size.
const LEVEL: i32 = 3;

/// A chunk made ready to be stored.
#[derive(Debug)]
pub struct Packed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) documents: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) blake3: String,
    pub(crate) first: Key,
    pub(crate) last: Key,
}

/// Where compressed bytes go: straight into the chunk, or through age.
enum Sink {
    Plain(Vec<u8>),
    Sealed(Box<age::stream::StreamWriter<Vec<u8>>>),
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Sealed(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Sealed(out) => out.flush(),
        }
    }
}

/// Compresses documents (at least one, with bodies of at most [`MAX_DOCUMENT`] bytes), encrypted where
/// recipients are given. This is work for a thread of its own. Documents are taken one by one, so that each
/// may go as soon as it is in.
///
/// # Errors
/// There is no document, or one is too large, or the encryption failed.
pub fn pack(
    documents: impl IntoIterator<Item = (Key, Body)>,
    recipients: Option<&Recipients>,
) -> Result<Packed, ArchiveError> {
    let failed = |why: std::io::Error| ArchiveError::vault(format!("compressing documents: {why}"));
    let sink = match recipients {
        Some(recipients) => Sink::Sealed(Box::new(recipients.wrap(Vec::new())?)),
        None => Sink::Plain(Vec::new()),
    };
    let mut encoder = zstd::stream::write::Encoder::new(sink, LEVEL).map_err(failed)?;
    let (mut count, mut raw_bytes, mut ends) = (0_u64, 0_u64, None);
    let mut head = Vec::with_capacity(128);
    for (key, body) in documents {
        let json = body.json();
        let length = u32::try_from(json.len()).unwrap_or(u32::MAX);
        if json.len() > MAX_DOCUMENT {
            return Err(ArchiveError::vault(format!(
                "document {key} is larger than an archive takes ({MAX_DOCUMENT} bytes)"
            )));
        }
        head.clear();
        write_key(&key, &mut head);
        head.extend_from_slice(&length.to_le_bytes());
        encoder.write_all(&head).map_err(failed)?;
        encoder.write_all(&json).map_err(failed)?;
        count += 1;
        raw_bytes += (head.len() + json.len()) as u64;
        ends = Some((ends.map_or_else(|| key.clone(), |(first, _)| first), key));
    }
    let (first, last) =
        ends.ok_or_else(|| ArchiveError::vault("a chunk without documents was to be written"))?;
    let bytes = match encoder.finish().map_err(failed)? {
        Sink::Plain(bytes) => bytes,
        Sink::Sealed(writer) => writer.finish().map_err(failed)?,
    };
    Ok(Packed {
        documents: count,
        raw_bytes,
        blake3: blake3::hash(&bytes).to_hex().to_string(),
        bytes,
        first,
        last,
    })
}

/// Whether the stored bytes are those that the manifest speaks of.
///
/// # Errors
/// They are not.
pub(crate) fn check_stored(stored: &[u8], note: &ChunkNote) -> Result<(), ArchiveError> {
    let wrong = |what: &str| ArchiveError::invalid(format!("chunk {} {what}", note.name));
    if stored.len() as u64 != note.stored_bytes {
        return Err(wrong("is cut short, or longer than the manifest says"));
    }
    if blake3::hash(stored).to_hex().as_str() != note.blake3 {
        return Err(wrong("was altered: it does not match its hash"));
    }
    Ok(())
}

/// Checks a chunk against everything that the manifest says of it, and gives its documents in their order.
/// Bodies share one buffer. This is work for a thread of its own.
///
/// # Errors
/// Anything does not match: then none of it is to be used.
pub(crate) fn unpack(
    stored: &[u8],
    note: &ChunkNote,
    identities: Option<&Identities>,
    buffers: &Buffers,
) -> Result<Vec<(Key, Bytes)>, ArchiveError> {
    check_stored(stored, note)?;
    let wrong = |what: &str| ArchiveError::invalid(format!("chunk {} {what}", note.name));
    let opened;
    let compressed = match identities {
        None => stored,
        Some(identities) => {
            let name = format!("chunk {}", note.name);
            opened = identities.open(stored, note.stored_bytes, &name)?;
            opened.as_slice()
        }
    };
    if note.raw_bytes > MAX_RAW {
        return Err(wrong("says that it is larger than any chunk"));
    }
    let capacity = usize::try_from(note.raw_bytes).map_err(|_| wrong("is too large"))?;
    // Never gives more than fits, whatever the frame itself says.
    let mut raw = buffers.take(capacity);
    zstd::bulk::Decompressor::new()
        .and_then(|mut zstd| zstd.decompress_to_buffer(compressed, &mut raw))
        .map_err(|_| wrong("cannot be decompressed to the size that the manifest says"))?;
    if raw.len() != capacity {
        return Err(wrong("is of another size than the manifest says"));
    }
    let documents = read_entries(buffers.share(raw), note)
        .map_err(|why| wrong(&format!("is not readable: {why}")))?;
    let ends = documents.first().zip(documents.last());
    if documents.len() as u64 != note.documents {
        return Err(wrong(
            "has another number of documents than the manifest says",
        ));
    }
    if ends.is_none_or(|((first, _), (last, _))| *first != note.first || *last != note.last) {
        return Err(wrong(
            "begins or ends with another key than the manifest says",
        ));
    }
    Ok(documents)
}

fn read_entries(raw: Bytes, note: &ChunkNote) -> Result<Vec<(Key, Bytes)>, ArchiveError> {
    let expected = usize::try_from(note.documents).unwrap_or(usize::MAX);
    let mut documents: Vec<(Key, Bytes)> = Vec::with_capacity(expected.min(65_536));
    let mut sorted = true;
    let mut entries = Entries::new(raw);
    while let Some((key, body)) = entries.next()? {
        sorted = sorted && documents.last().is_none_or(|(last, _)| *last < key);
        documents.push((key, body));
    }
    if !sorted {
        // Stores have orders of their own, but none gives a key twice.
        let mut seen = HashSet::with_capacity(documents.len());
        if let Some((key, _)) = documents.iter().find(|(key, _)| !seen.insert(key)) {
            return Err(ArchiveError::invalid(format!("document {key} comes twice")));
        }
    }
    Ok(documents)
}
