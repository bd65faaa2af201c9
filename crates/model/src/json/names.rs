//! Finds duplicate names in the objects that are open, without an allocation an object.

use super::reader::{Result, Text};
use super::string::unescape_any;
use super::{JsonError, JsonErrorKind};
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64;

/// Up to this many names each new one is compared with those before it; beyond, they are sorted at the
/// object's end.
const FEW: usize = 16;

/// The names of all open objects, one above the other.
pub(super) struct Names {
    entries: Vec<Entry>,
    /// Names that hold escapes, resolved.
    resolved: Vec<Vec<u8>>,
}

#[derive(Clone, Copy)]
struct Entry {
    /// Equal for equal names.
    mark: u64,
    start: u32,
    end: u32,
    /// Place in `resolved` plus one; 0 for a name without escapes.
    resolved: u32,
}

/// Where an object's names begin.
#[derive(Clone, Copy)]
pub(super) struct Base {
    entries: u32,
    resolved: u32,
}

/// Tells names apart quickly. Names of up to 8 bytes without a collision; those of up to 16 by both
/// ends; longer ones by a hash.
#[inline]
fn mark(name: &[u8]) -> u64 {
    const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
    let ends = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        (Some(a), Some(b)) if name.len() <= 16 => {
            u64::from_le_bytes(*a).wrapping_mul(SPREAD) ^ u64::from_le_bytes(*b)
        }
        (Some(_), Some(_)) => return xxh3_64(name),
        _ => short(name),
    };
    ends.wrapping_mul(SPREAD).wrapping_add(name.len() as u64)
}

/// Up to seven bytes as a number, in two overlapping halves.
#[inline]
fn short(name: &[u8]) -> u64 {
    if let (Some(a), Some(b)) = (name.first_chunk::<4>(), name.last_chunk::<4>()) {
        return u64::from(u32::from_le_bytes(*a)) | u64::from(u32::from_le_bytes(*b)) << 32;
    }
    match *name {
        [a, b, c] => u64::from_le_bytes([a, b, c, 0, 0, 0, 0, 0]),
        [a, b] => u64::from_le_bytes([a, b, 0, 0, 0, 0, 0, 0]),
        [a] => u64::from(a),
        _ => 0,
    }
}

impl Names {
    /// With room for an ordinary document's names where there will be some.
    pub(super) fn new(used: bool) -> Self {
        Self {
            entries: Vec::with_capacity(if used { 32 } else { 0 }),
            resolved: Vec::new(),
        }
    }

    pub(super) fn open(&self) -> Base {
        Base {
            entries: self.entries.len() as u32,
            resolved: self.resolved.len() as u32,
        }
    }

    /// Notes a name.
    #[inline]
    pub(super) fn add(&mut self, base: Base, source: &[u8], name: Text) -> Result<()> {
        let Range { start, end } = name.range();
        let inside = &source[start as usize..end as usize];
        let (mark, resolved) = if name.escaped() {
            let name = unescape_any(inside);
            let mark = mark(&name);
            self.resolved.push(name);
            (mark, self.resolved.len() as u32)
        } else {
            (mark(inside), 0)
        };
        let entry = Entry {
            mark,
            start,
            end,
            resolved,
        };
        let before = &self.entries[base.entries as usize..];
        if before.len() < FEW {
            for other in before {
                if other.mark == mark && self.text(source, *other) == self.text(source, entry) {
                    return Err(duplicate(start));
                }
            }
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Forgets an object's names, after the check that many names need.
    #[inline]
    pub(super) fn close(&mut self, base: Base, source: &[u8]) -> Result<()> {
        if self.entries.len() - base.entries as usize > FEW {
            self.check_many(base, source)?;
        }
        self.entries.truncate(base.entries as usize);
        self.resolved.truncate(base.resolved as usize);
        Ok(())
    }

    #[cold]
    fn check_many(&mut self, base: Base, source: &[u8]) -> Result<()> {
        let mut entries = self.entries.split_off(base.entries as usize);
        // The text breaks ties, so that names made to collide cost no more than others.
        entries.sort_unstable_by(|a, b| {
            a.mark
                .cmp(&b.mark)
                .then_with(|| self.text(source, *a).cmp(self.text(source, *b)))
        });
        for pair in entries.windows(2) {
            let [a, b] = [pair[0], pair[1]];
            if a.mark == b.mark && self.text(source, a) == self.text(source, b) {
                return Err(duplicate(a.start.max(b.start)));
            }
        }
        Ok(())
    }

    fn text<'a>(&'a self, source: &'a [u8], entry: Entry) -> &'a [u8] {
        match entry.resolved {
            0 => &source[entry.start as usize..entry.end as usize],
            place => &self.resolved[place as usize - 1],
        }
    }
}

#[cold]
fn duplicate(at: u32) -> Box<JsonError> {
    Box::new(JsonError {
        kind: JsonErrorKind::DuplicateKey,
        at: at as usize,
        what: "a field that the object already has",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn marks_differ_for_short_names_that_differ() {
        let mut seen: HashMap<u64, Vec<u8>> = HashMap::new();
        let letters = [0u8, b'a', b'b', 0xFF];
        let mut names: Vec<Vec<u8>> = vec![Vec::new()];
        for length in 1..=7 {
            for n in 0..4usize.pow(length) {
                names.push((0..length).map(|i| letters[n >> (2 * i) & 3]).collect());
            }
        }
        for name in names {
            if let Some(other) = seen.insert(mark(&name), name.clone()) {
                panic!("{name:?} and {other:?}");
            }
        }
    }
}
