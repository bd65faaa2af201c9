//! Checks written in Rust.

use crate::{DocError, Draft, Key};
use async_trait::async_trait;

/// One place where a custom check failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// `None`: the finding is about the collection as a whole.
    pub key: Option<Key>,
    pub path: Option<String>,
    /// Never a value.
    pub message: String,
    /// May hold values: shown only where they were asked for.
    pub detail: Option<String>,
}

impl Found {
    #[must_use]
    pub fn at(key: &Key, message: impl Into<String>) -> Self {
        Self {
            key: Some(key.clone()),
            path: None,
            message: message.into(),
            detail: None,
        }
    }

    #[must_use]
    pub fn in_all(message: impl Into<String>) -> Self {
        Self {
            key: None,
            path: None,
            message: message.into(),
            detail: None,
        }
    }

    #[must_use]
    pub fn in_field(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

/// A check written in Rust: it is shown every document of its collection once, page by page, together with
/// the other checks of that collection.
#[async_trait]
pub trait CustomCheck: Send + Sync {
    /// What results call it.
    fn kind(&self) -> &str {
        "custom"
    }

    /// Judges one page. Pages of several partitions come at the same time and in no order, so what is
    /// gathered must not hang on it. Findings beyond the check's number of examples are counted only.
    ///
    /// # Errors
    /// The check cannot be done; it sees no further page.
    async fn page(&self, documents: &mut [(Key, Draft)]) -> Result<Vec<Found>, DocError>;

    /// Called once when every page was judged.
    ///
    /// # Errors
    /// The check cannot be done.
    async fn finish(&self) -> Result<Vec<Found>, DocError> {
        Ok(Vec::new())
    }
}
