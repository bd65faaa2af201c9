//! The Bloom filter of an existence filter: every name in the result, so that a client that counts differently finds
//! out which of its documents left it, without reading them all again. The algorithm is the one that
//! `bloom_filter.proto` lays down: MD5 in two halves, and double hashing.

use md5::{Digest, Md5};
use whimbrel_firestore::v1::{BitSequence, BloomFilter};

/// How many names that are not in the filter seem to be: one in about ten thousand. A client that meets one only
/// reads its target anew.
const BITS_PER_NAME: usize = 20;
const HASHES: i32 = 14;

/// A filter beyond this (8 MB, some three million names) costs more than reading the target anew.
const NAMES: usize = 3_000_000;

/// Gathers names.
#[derive(Debug, Default)]
pub struct Names {
    hashes: Vec<(u64, u64)>,
    count: usize,
}

impl Names {
    pub fn add(&mut self, name: &str) {
        self.count += 1;
        if self.count <= NAMES {
            self.hashes.push(halves(name));
        } else {
            self.hashes = Vec::new();
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// The filter; `None` where there were too many names.
    #[must_use]
    pub fn finish(self) -> Option<BloomFilter> {
        if self.count > NAMES {
            return None;
        }
        let bytes = (self.hashes.len() * BITS_PER_NAME).div_ceil(8);
        let mut bitmap = vec![0_u8; bytes];
        for (h1, h2) in self.hashes {
            for i in 0..u64::try_from(HASHES).unwrap_or(0) {
                let bit = h1.wrapping_add(i.wrapping_mul(h2)) % (bytes as u64 * 8);
                let byte = usize::try_from(bit / 8).unwrap_or(0);
                if let Some(byte) = bitmap.get_mut(byte) {
                    *byte |= 1 << (bit % 8);
                }
            }
        }
        Some(BloomFilter {
            bits: Some(BitSequence { bitmap, padding: 0 }),
            hash_count: if bytes == 0 { 0 } else { HASHES },
        })
    }
}

/// The two halves of the MD5, as clients read them: little-endian.
fn halves(name: &str) -> (u64, u64) {
    let hash = u128::from_le_bytes(Md5::digest(name.as_bytes()).into());
    let low = u64::try_from(hash & u128::from(u64::MAX)).unwrap_or(0);
    let high = u64::try_from(hash >> 64).unwrap_or(0);
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a client looks a name up.
    fn may_contain(filter: &BloomFilter, name: &str) -> bool {
        let bits = filter.bits.as_ref().unwrap();
        let size = bits.bitmap.len() as u64 * 8 - bits.padding as u64;
        let (h1, h2) = halves(name);
        size > 0
            && (0..filter.hash_count as u64).all(|i| {
                let bit = h1.wrapping_add(i.wrapping_mul(h2)) % size;
                bits.bitmap[(bit / 8) as usize] >> (bit % 8) & 1 == 1
            })
    }

    #[test]
    fn the_halves_are_those_of_the_published_hash() {
        // MD5 of the empty text is d41d8cd98f00b204 e9800998ecf8427e.
        assert_eq!(halves(""), (0x04b2_008f_d98c_1dd4, 0x7e42_f8ec_9809_80e9));
    }

    #[test]
    fn every_name_is_found_and_hardly_any_other() {
        let name = |i: usize| format!("projects/p/databases/(default)/documents/c/doc{i}");
        let mut names = Names::default();
        (0..1000).for_each(|i| names.add(&name(i)));
        let filter = names.finish().unwrap();
        assert_eq!(filter.bits.as_ref().unwrap().bitmap.len(), 2500);
        assert!((0..1000).all(|i| may_contain(&filter, &name(i))));
        let wrong = (1000..101_000).filter(|i| may_contain(&filter, &name(*i)));
        let wrong = wrong.count();
        assert!(wrong < 30, "{wrong} of 100,000");
    }

    #[test]
    fn an_empty_filter_holds_nothing() {
        let filter = Names::default().finish().unwrap();
        assert_eq!(
            (filter.hash_count, filter.bits.clone().unwrap().padding),
            (0, 0)
        );
        assert!(!may_contain(&filter, "x"));
    }
}
