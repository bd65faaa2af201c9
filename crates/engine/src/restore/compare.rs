//! Which documents of a target are in the way of a restore.

use async_trait::async_trait;
use whimbrel_archive::Archive;
use whimbrel_model::{Body, Code, DocError, Document, Page};

use super::{NAMED, named};
use crate::dry_run::Look;
use crate::error::EngineError;
use crate::job::{ChunkContext, Failure, Handled};
use crate::options::Place;

/// What a restore finds in its target.
pub(super) enum Found {
    /// Nothing.
    Absent,
    Equal,
    Different(Document),
}

/// Looks up documents in the target and compares them with what it would give back of the archive's.
///
/// # Errors
/// The target cannot be read. A body that cannot be compared differs.
pub(super) async fn compare(
    target: &Place,
    wanted: &[Document],
) -> Result<Vec<Found>, EngineError> {
    let mut found = Vec::with_capacity(wanted.len());
    let most = target.store.limits().batch_writes.max(1) as usize;
    for slice in wanted.chunks(most) {
        let keys: Vec<_> = slice.iter().map(|d| d.key.clone()).collect();
        let there = target.store.get(&target.collection, &keys).await?;
        let bodies = slice.iter().map(|d| d.body.clone()).collect();
        let held = target.store.held(&target.collection, &keys, bodies).await?;
        // Comparing is computing: it must not hold up the runtime.
        let fates = tokio::task::spawn_blocking(move || {
            there
                .into_iter()
                .zip(held)
                .map(|(there, held)| match there {
                    None => Found::Absent,
                    Some(there) if same(&there.body, &held) => Found::Equal,
                    Some(there) => Found::Different(there),
                })
                .collect::<Vec<_>>()
        })
        .await
        .map_err(|e| EngineError::Counts(format!("a comparison ended abnormally ({e})")))?;
        found.extend(fates);
    }
    Ok(found)
}

fn same(there: &Body, wanted: &Body) -> bool {
    there.is_spelled_like(wanted)
        || matches!((there.fingerprint(), wanted.fingerprint()), (Ok(a), Ok(b)) if a == b)
}

/// What is in the way, over all collections.
#[derive(Default)]
pub(super) struct Conflicts {
    /// Documents that differ are replaced, so that nothing is in the way.
    overwrite: bool,
    count: u64,
    /// The first few.
    keys: Vec<String>,
    places: Vec<String>,
}

impl Conflicts {
    pub(super) fn of(overwrite: bool) -> Self {
        Self {
            overwrite,
            ..Self::default()
        }
    }

    pub(super) fn refuse(&self, archive: &Archive) -> Result<(), EngineError> {
        if self.count == 0 {
            return Ok(());
        }
        Err(EngineError::Job {
            code: Code::RestoreConflict,
            message: format!(
                "{} documents of {} exist and differ from those of {}: {}; nothing was written",
                self.count,
                self.places.join(", "),
                archive.shown(),
                named(&self.keys, self.count)
            ),
        })
    }
}

/// Counts what a restore would do.
pub(super) struct ConflictLook<'a> {
    pub target: &'a Place,
    pub exists: bool,
    pub conflicts: &'a mut Conflicts,
}

#[async_trait]
impl Look for ConflictLook<'_> {
    async fn look(&mut self, page: Page, _cx: &ChunkContext) -> Result<Handled, EngineError> {
        let mut handled = Handled::default();
        let counts = &mut handled.counts;
        counts.enumerated = page.documents.len() as u64;
        if !self.exists {
            counts.written = counts.enumerated;
            return Ok(handled);
        }
        let found = compare(self.target, &page.documents).await?;
        for (document, found) in page.documents.iter().zip(found) {
            match found {
                Found::Absent => counts.written += 1,
                Found::Equal => counts.unchanged += 1,
                Found::Different(_) if self.conflicts.overwrite => counts.written += 1,
                Found::Different(_) => {
                    counts.quarantined += 1;
                    self.note(document);
                    handled
                        .failures
                        .push(Failure::of(&document.key, None, in_the_way()));
                }
            }
        }
        Ok(handled)
    }
}

impl ConflictLook<'_> {
    fn note(&mut self, document: &Document) {
        self.conflicts.count += 1;
        if self.conflicts.keys.len() < NAMED {
            self.conflicts.keys.push(document.key.to_string());
        }
        let place = self.target.to_string();
        if !self.conflicts.places.contains(&place) {
            self.conflicts.places.push(place);
        }
    }
}

pub(super) fn in_the_way() -> DocError {
    DocError::new(
        Code::RestoreConflict,
        "the target has a different document of this key",
    )
}
