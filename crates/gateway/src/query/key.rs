//! The bytes of index lines: what they are made of, and how they are kept short.
//!
//! A line's key is the scope's prefix, the fields' values in `hidane_core`'s order-preserving encoding (inverted
//! where the index descends) and the document's name. Each part ends by itself, so that no key begins
//! another, and keys compare as their parts do.
//!
//! A key of more than [`KEEP`] bytes is cut there, and a hash of the whole is put behind, so that keys stay the lines'
//! own. Cut keys with the same beginning are in no order; whoever walks them sorts them by the documents.

use whimbrel_firestore::core::key::{write_path, write_value};
use whimbrel_firestore::v1::Value;

/// Bytes of a key that are kept. Small enough for a B-tree's page in every store.
pub const KEEP: usize = 1_800;

const HASH: usize = 16;

/// A key as it is stored.
#[must_use]
pub fn cut(mut key: Vec<u8>) -> Vec<u8> {
    if key.len() > KEEP {
        let hash = blake3::hash(&key);
        key.truncate(KEEP);
        key.extend_from_slice(&hash.as_bytes()[..HASH]);
    }
    key
}

/// Whether a stored key was cut.
#[must_use]
pub fn is_cut(key: &[u8]) -> bool {
    key.len() > KEEP
}

/// The value's encoding, appended.
pub fn push_value(out: &mut Vec<u8>, value: &Value, descending: bool) {
    let start = out.len();
    write_value(value, out);
    if descending {
        invert(&mut out[start..]);
    }
}

/// The encoding of a path in the store, or of its last ids, appended.
pub fn push_name<'a>(out: &mut Vec<u8>, ids: impl IntoIterator<Item = &'a str>, descending: bool) {
    let start = out.len();
    write_path(ids, out);
    if descending {
        invert(&mut out[start..]);
    }
}

pub fn invert(bytes: &mut [u8]) {
    for byte in bytes {
        *byte = !*byte;
    }
}

/// A point between keys: before every key that is not below these bytes; `None` is behind all.
pub type Cut = Option<Vec<u8>>;

/// The point behind every key that begins with these bytes.
#[must_use]
pub fn behind(prefix: &[u8]) -> Cut {
    let last = prefix.iter().rposition(|byte| *byte != 0xFF)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// Keys from one point to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    pub from: Vec<u8>,
    pub to: Cut,
}

impl Interval {
    /// Everything that begins with these bytes.
    #[must_use]
    pub fn below(prefix: &[u8]) -> Self {
        Self {
            from: prefix.to_vec(),
            to: behind(prefix),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.to.as_ref().is_some_and(|to| *to <= self.from)
    }
}

/// Intervals in ascending order, none touching another.
#[derive(Clone, Debug)]
pub struct Intervals(pub Vec<Interval>);

impl Intervals {
    /// Leaves out what is before the point.
    pub fn start_at(&mut self, point: &Cut) {
        let Some(point) = point else {
            self.0.clear();
            return;
        };
        for interval in &mut self.0 {
            if interval.from < *point {
                interval.from.clone_from(point);
            }
        }
        self.0.retain(|interval| !interval.is_empty());
    }

    /// Leaves out what is behind the point.
    pub fn end_at(&mut self, point: &Cut) {
        let Some(point) = point else { return };
        for interval in &mut self.0 {
            if interval.to.as_ref().is_none_or(|to| point < to) {
                interval.to = Some(point.clone());
            }
        }
        self.0.retain(|interval| !interval.is_empty());
    }

    /// Leaves out what is between the points.
    pub fn leave_out(&mut self, from: &Cut, to: &Cut) {
        let (mut left, mut right) = (self.clone(), self.clone());
        left.end_at(from);
        if from.is_none() {
            return;
        }
        right.start_at(to);
        left.0.append(&mut right.0);
        *self = left;
    }

    /// Shortens points to what keys keep, outwards. Says whether anything was shortened: then keys that do not
    /// belong may lie inside.
    pub fn shorten(&mut self) -> bool {
        let mut shortened = false;
        for interval in &mut self.0 {
            if interval.from.len() > KEEP {
                interval.from.truncate(KEEP);
                shortened = true;
            }
            if let Some(to) = interval.to.as_mut().filter(|to| to.len() > KEEP) {
                interval.to = behind(&to[..KEEP]);
                shortened = true;
            }
        }
        if shortened {
            // What was between two intervals may be gone: nothing may be walked twice.
            self.0.dedup_by(|next, previous| {
                let touches = previous.to.as_ref().is_none_or(|to| next.from <= *to);
                if touches {
                    previous.to = next.to.take();
                }
                touches
            });
        }
        shortened
    }
}
