//! What users plug in to turn documents into other documents.

use crate::{Body, Code, Draft, Key, Timestamp, Value};
use serde::{Deserialize, Serialize};

/// What a pure transform may know besides the document. A retry of the same document in the same run
/// gets the same context, so it yields the same bytes.
#[derive(Clone, Debug)]
pub struct DocContext<'a> {
    pub key: &'a Key,
    /// The run's fixed instant: what `new Date()` and `now` give.
    pub now: Timestamp,
    /// Seeds `Math.random()`; derived from the run and the key.
    pub seed: u64,
}

impl<'a> DocContext<'a> {
    #[must_use]
    pub fn new(key: &'a Key, now: Timestamp) -> Self {
        let seed = xxhash_rust::xxh3::xxh3_64_with_seed(
            key.to_string().as_bytes(),
            now.seconds().cast_unsigned() ^ u64::from(now.nanos()),
        );
        Self { key, now, seed }
    }
}

/// Why one document could not be migrated.
///
/// `message` says what happened without any value of the document; `detail` may hold values (a script's
/// own message) and is shown only where values were asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct DocError {
    pub code: Code,
    pub message: String,
    /// Where in the document: `messages[3].content`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The schema version or the rule that was at work: `v2 up`, `rule messages`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl DocError {
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            path: None,
            stage: None,
            detail: None,
        }
    }

    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    #[must_use]
    pub fn in_stage(mut self, stage: impl Into<String>) -> Self {
        self.stage = Some(stage.into());
        self
    }

    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

impl From<crate::json::JsonError> for DocError {
    fn from(error: crate::json::JsonError) -> Self {
        use crate::json::JsonErrorKind as K;
        let code = match error.kind {
            K::Malformed | K::InvalidUtf8 => Code::DocMalformed,
            K::DuplicateKey => Code::DocDuplicateKey,
            K::TooDeep => Code::DocTooDeep,
            K::LoneSurrogate => Code::DocLoneSurrogate,
            K::NotObject => Code::DocNotObject,
        };
        Self::new(code, error.to_string())
    }
}

/// What a copy rule's transform is given.
#[derive(Debug)]
pub enum TransformInput {
    One {
        key: Key,
        doc: Draft,
    },
    /// All documents that share `value` in the rule's `group_by` field, in the rule's order.
    Group {
        value: Value,
        docs: Vec<(Key, Draft)>,
    },
}

/// One target document that a transform derives.
#[derive(Clone, Debug)]
pub struct Emit {
    /// `None`: the rule's own target collection.
    pub collection: Option<String>,
    /// `None`: the source document's key (only for one document in, one out).
    pub key: Option<Key>,
    pub body: Body,
}

/// Turns one source document, or one group of them, into target documents. Pure: no I/O, no clock.
pub trait Transform: Send + Sync {
    /// # Errors
    /// The document cannot be transformed; it goes where the rule's `on_error` says.
    fn apply(&self, input: TransformInput, cx: &DocContext<'_>) -> Result<Vec<Emit>, DocError>;

    /// Changes when the transform's meaning changes (white space and comments do not count).
    fn checksum(&self) -> String;
}

/// Judges one document. Pure.
pub trait Validate: Send + Sync {
    /// # Errors
    /// The document is not valid; the error says where and why, without values.
    fn validate(&self, doc: &mut Draft, cx: &DocContext<'_>) -> Result<(), DocError>;

    fn checksum(&self) -> String;
}
