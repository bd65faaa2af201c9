//! Revisions: a document's `update_time`, which grows with every change of it and never comes back.

use prost_types::Timestamp;
use whimbrel_firestore::v1::Document;
use whimbrel_model::Revision;

const BYTES: usize = 12;

pub(super) fn of(document: &Document) -> Revision {
    let at = document.update_time.unwrap_or_default();
    let mut bytes = Vec::with_capacity(BYTES);
    bytes.extend_from_slice(&at.seconds.to_be_bytes());
    bytes.extend_from_slice(&at.nanos.to_be_bytes());
    Revision(bytes)
}

/// `None` where it is no revision of a Firestore document.
pub(super) fn time(revision: &Revision) -> Option<Timestamp> {
    let bytes: [u8; BYTES] = revision.0.as_slice().try_into().ok()?;
    let (seconds, nanos) = bytes.split_at(8);
    Some(Timestamp {
        seconds: i64::from_be_bytes(seconds.try_into().ok()?),
        nanos: i32::from_be_bytes(nanos.try_into().ok()?),
    })
}
