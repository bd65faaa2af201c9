//! The pure part of Whimbrel: values, keys, documents, schemas, rules, ledger entries and the
//! decisions made about them.
//!
//! Nothing here knows a database driver, a clock, an async runtime or a file. Traits stand here for
//! what users and drivers add ([`Store`], [`VersionCode`], [`Transform`], [`Journal`]); enums for what
//! the project owns.

pub mod check;
pub mod code;
pub mod compat;
pub mod document;
pub mod draft;
pub mod event;
pub mod figures;
pub mod finding;
pub mod json;
pub mod key;
pub mod ledger;
pub mod migration;
pub mod order;
pub mod rule;
pub mod schema;
pub mod store;
pub mod transform;
pub mod value;

pub use code::Code;
pub use document::{Body, Document, Guard, Refusal, Revision, Write, WriteOutcome};
pub use draft::Draft;
pub use event::{Event, Moment};
pub use key::{Key, KeyKind, KeyRange};
pub use ledger::{Counts, Entry, Journal, JournalError};
pub use schema::{Schema, Version, VersionCode};
pub use store::{
    Cell, Cells, Digest, DigestLine, Digests, Limits, Page, Reject, ScanOrder, StatementOutcome,
    Store, StoreError, StoreErrorKind,
};
pub use transform::{DocContext, DocError, Emit, Transform, TransformInput};
pub use value::{Decimal, Fingerprint, GeoPoint, Map, Timestamp, Value};
