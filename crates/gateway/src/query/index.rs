//! Indexes: which there are, and the lines that a document has in them.

use tonic::Status;
use whimbrel_firestore::Backend;
use whimbrel_firestore::Place;
use whimbrel_firestore::backend::{IndexLine, Stored};

/// The indexes that are kept.
#[derive(Debug, Default)]
pub struct Indexes {}

impl Indexes {
    /// # Errors
    /// The store cannot be read.
    pub async fn open(backend: &dyn Backend) -> Result<Self, Status> {
        let _ = backend;
        Ok(Self::default())
    }

    /// The lines to take out and to put in when a document changes. Called inside commits: quick, no I/O.
    #[must_use]
    pub fn lines(
        &self,
        place: &Place,
        before: Option<&Stored>,
        after: Option<&Stored>,
    ) -> (Vec<IndexLine>, Vec<IndexLine>) {
        let _ = (place, before, after);
        (Vec::new(), Vec::new())
    }
}
