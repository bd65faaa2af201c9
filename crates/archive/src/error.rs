//! Why an archive cannot be written or read.

use whimbrel_model::Code;

/// What went wrong with an archive or the place it lies in. Never holds a document's value, nor a secret
/// of a URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ArchiveError {
    pub code: Code,
    pub message: String,
    /// Whether the same call may succeed later: the place did not answer.
    pub transient: bool,
}

impl ArchiveError {
    fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            transient: false,
        }
    }

    /// Damaged, altered or hostile.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::ArchiveInvalid, message)
    }

    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self::new(Code::ArchiveMissing, message)
    }

    pub(crate) fn newer(message: impl Into<String>) -> Self {
        Self::new(Code::ArchiveNewer, message)
    }

    /// It cannot be opened with the keys at hand, or need not be trusted.
    pub(crate) fn sealed(message: impl Into<String>) -> Self {
        Self::new(Code::ArchiveSealed, message)
    }

    pub(crate) fn vault(message: impl Into<String>) -> Self {
        Self::new(Code::VaultFailed, message)
    }

    pub(crate) fn away(message: impl Into<String>) -> Self {
        Self {
            transient: true,
            ..Self::vault(message)
        }
    }
}
