//! A block's keys in full, beside its documents: the index keeps long keys cut, and by subject.

use super::failed;
use std::io::Read;
use whimbrel_model::{JournalError, Key};

const LEVEL: i32 = 1;

/// No list needs more when unpacked: a block has some megabytes of documents.
const BYTES_MAX: u64 = 512 << 20;

/// JSON, compressed: keys in order have much in common.
pub(super) fn pack(ledger: &str, keys: &[Key]) -> Result<Vec<u8>, JournalError> {
    let text = serde_json::to_vec(keys)
        .map_err(|e| failed(ledger, format!("a block's keys cannot be kept: {e}")))?;
    zstd::encode_all(text.as_slice(), LEVEL)
        .map_err(|e| failed(ledger, format!("a block's keys cannot be packed: {e}")))
}

/// `packed` is `None` in a block that an older program wrote.
pub(super) fn unpack(
    ledger: &str,
    block: u64,
    packed: Option<&[u8]>,
) -> Result<Vec<Key>, JournalError> {
    let damaged = |why: &str| {
        failed(
            ledger,
            format!("the keys of pre-image block {block} cannot be read: {why}"),
        )
    };
    let packed = packed.ok_or_else(|| damaged("an older program wrote it without them"))?;
    let read = || -> std::io::Result<Vec<u8>> {
        let unpacker = zstd::stream::read::Decoder::with_buffer(packed)?;
        let mut text = Vec::new();
        unpacker.take(BYTES_MAX).read_to_end(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|e| damaged(&e.to_string()))?;
    // The reader's own words could quote a key.
    serde_json::from_slice(&text).map_err(|_| damaged("they are no list of keys"))
}
