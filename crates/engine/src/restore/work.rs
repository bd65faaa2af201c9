//! Writes a chunk's documents into the target.

use async_trait::async_trait;
use whimbrel_model::{Code, Counts, DocError, Document, Guard, Page, Write, WriteOutcome};

use super::compare::{Found, compare, in_the_way};
use crate::error::EngineError;
use crate::job::{ChunkContext, Failure, Handled, Work};
use crate::options::Place;
use crate::pages::{batches, size_of};

/// How often a document that changes meanwhile is decided anew.
const ROUNDS: u32 = 8;

pub(super) struct RestoreWork {
    target: Place,
    /// Whether the target was empty at the start: then writes are tried without looking.
    fresh: bool,
    overwrite: bool,
}

impl RestoreWork {
    pub(super) fn new(target: Place, fresh: bool, overwrite: bool) -> Self {
        Self {
            target,
            fresh,
            overwrite,
        }
    }

    /// What is to be written, and under which guard. What is there already is counted.
    async fn decide(
        &self,
        open: Vec<Document>,
        look: bool,
        cx: &ChunkContext,
        handled: &mut Handled,
    ) -> Result<Vec<Write>, EngineError> {
        if !look {
            let absent = |document| self.write_of(document, Guard::Absent);
            return Ok(open.into_iter().map(absent).collect());
        }
        let found = compare(&self.target, &open).await?;
        let mut writes = Vec::new();
        for (document, found) in open.into_iter().zip(found) {
            match found {
                Found::Absent => writes.push(self.write_of(document, Guard::Absent)),
                Found::Equal => {
                    // An attempt that was killed may have written it.
                    match cx.again {
                        true => handled.counts.written += 1,
                        false => handled.counts.unchanged += 1,
                    }
                    settle(handled, cx, &document.key);
                }
                Found::Different(there) if self.overwrite => {
                    writes.push(self.write_of(document, Guard::Unchanged(there.revision)));
                }
                Found::Different(_) => {
                    return Err(EngineError::Document {
                        key: document.key.to_string(),
                        error: Box::new(in_the_way()),
                    });
                }
            }
        }
        Ok(writes)
    }

    fn write_of(&self, document: Document, guard: Guard) -> Write {
        Write {
            collection: self.target.collection.clone(),
            key: document.key,
            to: Some(document.body),
            guard,
        }
    }

    /// Writes, and returns the documents that somebody else wrote first.
    async fn write(
        &self,
        writes: Vec<Write>,
        cx: &ChunkContext,
        handled: &mut Handled,
    ) -> Result<Vec<Document>, EngineError> {
        let mut lost = Vec::new();
        for batch in batches(writes, self.target.store.as_ref(), size_of) {
            let outcomes = self.target.store.write(&batch).await?;
            for (write, outcome) in batch.into_iter().zip(outcomes) {
                match outcome {
                    WriteOutcome::Applied => {
                        handled.counts.written += 1;
                        settle(handled, cx, &write.key);
                    }
                    WriteOutcome::Lost => {
                        handled.counts.conflicts += 1;
                        lost.extend(document_of(write));
                    }
                    WriteOutcome::Refused(refusal) => {
                        let error = DocError::new(Code::DocRefused, refusal.message);
                        fail(handled, &write.key, error.in_stage("write"));
                    }
                }
            }
        }
        Ok(lost)
    }
}

#[async_trait]
impl Work for RestoreWork {
    async fn handle(&self, page: Page, cx: &ChunkContext) -> Result<Handled, EngineError> {
        let mut handled = Handled {
            counts: Counts {
                enumerated: page.documents.len() as u64,
                ..Counts::default()
            },
            ..Handled::default()
        };
        let mut open = page.documents;
        for round in 0..=ROUNDS {
            if open.is_empty() {
                return Ok(handled);
            }
            let look = !self.fresh || cx.again || round > 0;
            let writes = self.decide(open, look, cx, &mut handled).await?;
            open = self.write(writes, cx, &mut handled).await?;
        }
        for document in open {
            let message = format!("the target document changed under each of {ROUNDS} attempts");
            fail(
                &mut handled,
                &document.key,
                DocError::new(Code::DocContended, message),
            );
        }
        Ok(handled)
    }
}

fn document_of(write: Write) -> Option<Document> {
    Some(Document {
        key: write.key,
        body: write.to?,
        revision: whimbrel_model::Revision(Vec::new()),
    })
}

fn settle(handled: &mut Handled, cx: &ChunkContext, key: &whimbrel_model::Key) {
    if cx.waiting {
        handled.settled.push(key.to_string());
    }
}

fn fail(handled: &mut Handled, key: &whimbrel_model::Key, error: DocError) {
    handled.counts.quarantined += 1;
    handled.failures.push(Failure::of(key, None, error));
}
