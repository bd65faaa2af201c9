//! Pre-images of one chunk as bytes.
//!
//! ```text
//! block    = version (1 byte: 1), length of the content (u32, little endian), content (one zstd frame
//!            with a checksum)
//! content  = count, count × head, the documents one after the other
//! head     = from, to, length, fingerprint (16 bytes, little endian)
//! ```
//!
//! Numbers without a width are LEB128. Heads stand together because fingerprints do not compress and
//! documents, side by side, do. The keys are the ledger's own business: they are an index, not content.

use super::PreimageEntry;
use std::io::{Read, Write};
use std::ops::Range;
use whimbrel_model::Fingerprint;

const VERSION: u8 = 1;
const HEADER: usize = 5;

/// No block may claim or need more than this when unpacked. A block has about 2 MiB, or one document.
const CONTENT_BYTES_MAX: usize = 512 << 20;

/// The least that a head takes.
const HEAD_BYTES_MIN: usize = 19;

const LEVEL: i32 = 1;

/// A block, unpacked.
#[derive(Debug)]
pub(super) struct Decoded {
    content: Vec<u8>,
    heads: Vec<Head>,
}

#[derive(Debug)]
struct Head {
    from: u32,
    to: u32,
    after: Fingerprint,
    before: Range<usize>,
}

/// One document of a block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Image<'a> {
    pub from: u32,
    pub to: u32,
    pub after: Fingerprint,
    pub before: &'a [u8],
}

impl Decoded {
    pub(super) fn image(&self, index: u32) -> Option<Image<'_>> {
        let head = self.heads.get(index as usize)?;
        Some(Image {
            from: head.from,
            to: head.to,
            after: head.after,
            before: self.content.get(head.before.clone())?,
        })
    }

    /// About how many bytes it takes in memory.
    pub(super) fn size(&self) -> usize {
        self.content.len() + self.heads.len() * size_of::<Head>()
    }
}

/// # Errors
/// The documents are too large for one block.
pub(super) fn encode(entries: &[PreimageEntry]) -> Result<Vec<u8>, String> {
    let documents: usize = entries.iter().map(|e| e.before.len()).sum();
    let mut content = Vec::with_capacity(documents + entries.len() * 24 + 10);
    put_number(entries.len() as u64, &mut content);
    for entry in entries {
        put_number(u64::from(entry.from), &mut content);
        put_number(u64::from(entry.to), &mut content);
        put_number(entry.before.len() as u64, &mut content);
        content.extend_from_slice(&entry.after.0.to_le_bytes());
    }
    for entry in entries {
        content.extend_from_slice(&entry.before);
    }
    let length = u32::try_from(content.len())
        .ok()
        .filter(|_| content.len() <= CONTENT_BYTES_MAX)
        .ok_or_else(|| {
            format!(
                "a document of {documents} bytes is too large to be kept for an undo (the most is \
                 {CONTENT_BYTES_MAX})"
            )
        })?;
    let mut out = Vec::with_capacity(content.len() / 4 + HEADER);
    out.push(VERSION);
    out.extend_from_slice(&length.to_le_bytes());
    pack(&content, out).map_err(|e| format!("pre-images could not be packed: {e}"))
}

fn pack(content: &[u8], out: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let mut packer = zstd::stream::write::Encoder::new(out, LEVEL)?;
    packer.include_checksum(true)?;
    packer.write_all(content)?;
    packer.finish()
}

/// # Errors
/// The bytes are no block: damaged, or written by a newer program. Never takes more memory than the
/// block's real content needs.
pub(super) fn decode(data: &[u8]) -> Result<Decoded, String> {
    let (header, packed) = data.split_at_checked(HEADER).ok_or("it is too short")?;
    if header[0] != VERSION {
        return Err(format!(
            "its format {} is not known to this program",
            header[0]
        ));
    }
    let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]) as usize;
    if length > CONTENT_BYTES_MAX {
        return Err(format!("it claims {length} bytes"));
    }
    let content = unpack(packed, length).map_err(|e| format!("it is damaged: {e}"))?;
    if content.len() != length {
        return Err("its length is not the one it claims".to_owned());
    }
    let heads = heads(&content).ok_or("its documents do not lie as it says")?;
    Ok(Decoded { content, heads })
}

fn unpack(packed: &[u8], length: usize) -> std::io::Result<Vec<u8>> {
    let unpacker = zstd::stream::read::Decoder::with_buffer(packed)?;
    let mut content = Vec::new();
    // One byte more than claimed shows that the claim is false. The buffer grows with what really comes.
    unpacker.take(length as u64 + 1).read_to_end(&mut content)?;
    Ok(content)
}

/// `None` when the content is not of the form above, to the last byte.
fn heads(content: &[u8]) -> Option<Vec<Head>> {
    let mut rest = content;
    let count = usize::try_from(take_number(&mut rest)?).ok()?;
    if count > rest.len() / HEAD_BYTES_MIN {
        return None;
    }
    let mut heads = Vec::with_capacity(count);
    let mut at = 0_usize;
    for _ in 0..count {
        let from = u32::try_from(take_number(&mut rest)?).ok()?;
        let to = u32::try_from(take_number(&mut rest)?).ok()?;
        let length = usize::try_from(take_number(&mut rest)?).ok()?;
        let (print, behind) = rest.split_first_chunk::<16>()?;
        rest = behind;
        let end = at.checked_add(length)?;
        heads.push(Head {
            from,
            to,
            after: Fingerprint(u128::from_le_bytes(*print)),
            before: at..end,
        });
        at = end;
    }
    if rest.len() != at {
        return None;
    }
    let begin = content.len() - rest.len();
    for head in &mut heads {
        head.before = head.before.start + begin..head.before.end + begin;
    }
    Some(heads)
}

fn put_number(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push((n & 0x7F) as u8 | 0x80);
        n >>= 7;
    }
    out.push((n & 0x7F) as u8);
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let mut n = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, behind) = rest.split_first()?;
        *rest = behind;
        let bits = u64::from(byte & 0x7F);
        n |= bits.checked_shl(shift).filter(|v| v >> shift == bits)?;
        if byte < 0x80 {
            return Some(n);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;
    use whimbrel_model::Key;

    fn entry() -> impl Strategy<Value = PreimageEntry> {
        let body = prop::collection::vec(any::<u8>(), 0..200);
        (body, any::<u32>(), any::<u32>(), any::<u128>()).prop_map(|(before, from, to, after)| {
            PreimageEntry {
                key: Key::Int(1),
                before: Bytes::from(before),
                from,
                to,
                after: Fingerprint(after),
            }
        })
    }

    fn entries() -> impl Strategy<Value = Vec<PreimageEntry>> {
        prop::collection::vec(entry(), 0..20)
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(entries in entries()) {
            let decoded = decode(&encode(&entries).unwrap()).unwrap();
            prop_assert_eq!(decoded.heads.len(), entries.len());
            for (i, entry) in entries.iter().enumerate() {
                let image = decoded.image(i as u32).unwrap();
                prop_assert_eq!(image.before, &entry.before[..]);
                prop_assert_eq!((image.from, image.to, image.after), (entry.from, entry.to, entry.after));
            }
        }

        #[test]
        fn damage_is_an_error(entries in entries(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut data = encode(&entries).unwrap();
            let at = at.index(data.len());
            data[at] ^= 1_u8 << bit;
            // A flipped bit may hit a part of zstd's frame that means nothing; then all is still there.
            if let Ok(decoded) = decode(&data) {
                prop_assert_eq!(&decoded.content, &decode(&encode(&entries).unwrap()).unwrap().content);
            }
            prop_assert!(decode(&data[..at]).is_err());
        }

        #[test]
        fn hostile_content_never_panics(content in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&content);
            let mut block = vec![VERSION];
            block.extend_from_slice(&(content.len() as u32).to_le_bytes());
            let block = pack(&content, block).unwrap();
            if let Ok(decoded) = decode(&block) {
                for i in 0..decoded.heads.len() {
                    prop_assert!(decoded.image(i as u32).is_some());
                }
            }
        }
    }

    #[test]
    fn a_bomb_is_cut_off_where_its_claim_ends() {
        let zeros = vec![0; 64 << 20];
        let mut bomb = vec![VERSION];
        bomb.extend_from_slice(&100_u32.to_le_bytes());
        let bomb = pack(&zeros, bomb).unwrap();
        assert!(bomb.len() < 10_000);
        assert!(unpack(&bomb[HEADER..], 100).unwrap().len() <= 101);
        assert_eq!(
            decode(&bomb).unwrap_err(),
            "its length is not the one it claims"
        );
        let mut greedy = bomb;
        greedy[1..HEADER].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(decode(&greedy).unwrap_err().contains("claims"));
    }
}
